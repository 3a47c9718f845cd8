/* SPDX-License-Identifier: Apache-2.0 */
/* Lock: `lock` guards the rows; it is held across nothing that waits, and not
 * while JSON is made. */
#include "errors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "request.h"
#include "util/auto.h"
#include "util/lock.h"

enum { PATH = 320 };

/* Kinds of errors, each with places of its own. */
enum kind { REFUSED, MISTAKEN, BUSY, FAILED, KINDS };

static const size_t places[KINDS] = {
    [REFUSED] = 64,  /* 401, 403, 404: whoever guesses makes many of them */
    [MISTAKEN] = 64, /* other 4xx */
    [BUSY] = 32,     /* 429, 503 */
    [FAILED] = 96    /* other 5xx, and what broke off */
};

struct row {
    uint64_t number; /* larger: newer; 0: no row */
    uint64_t count;
    time_t when;
    unsigned status;
    char id[REQUEST_ID], method[16], path[PATH];
    struct error_told told;
};

struct errors {
    struct lock lock;
    uint64_t last;                /* number; guarded by lock, as the next */
    struct row rows[ERRORS_MOST]; /* of the kinds, one after another */
};

struct errors *errors_new(void)
{
    struct errors *const e = calloc(1, sizeof(*e));

    if (e)
        lock_init(&e->lock);
    return e;
}

void errors_free(struct errors *e)
{
    if (e)
        lock_release(&e->lock);
    free(e);
}

/* ---- What was told ---- */

/* Cut where a character of UTF-8 begins. */
static void take(char *out, size_t cap, const json_t *document, const char *key)
{
    const char *const text = json_string_value(json_object_get(document, key));
    size_t n = text ? strlen(text) : 0;

    if (n >= cap)
        for (n = cap - 1; n && ((unsigned char)text[n] & 0xc0) == 0x80;)
            n--;
    if (n)
        memcpy(out, text, n);
    out[n] = '\0';
}

static void read_document(struct error_told *t, const json_t *document)
{
    take(t->type, sizeof(t->type), document, "type");
    take(t->title, sizeof(t->title), document, "title");
    take(t->layer, sizeof(t->layer), document, "layer");
    take(t->detail, sizeof(t->detail), document, "detail");
}

void errors_told(struct request *r, const json_t *document)
{
    if (!r->told)
        r->told = calloc(1, sizeof(*r->told));
    if (r->told)
        read_document(r->told, document);
}

/* As in the log, percent-encoded; what no URL has, is encoded here.  A method
 * may have such bytes as well, and a row that is no text would not be told. */
static void take_asked(char *out, size_t cap, const char *text)
{
    size_t n = 0;

    for (; *text && n + 4 <= cap; text++) {
        const unsigned char c = (unsigned char)*text;
        const bool is_odd = c <= 0x20 || c >= 0x7f || c == '"' || c == '\\';
        n += (size_t)snprintf(out + n, cap - n, is_odd ? "%%%02X" : "%c", c);
    }
    out[n] = '\0';
}

/* ---- Rows ---- */

static enum kind kind_of(unsigned status)
{
    if (status == 401 || status == 403 || status == 404)
        return REFUSED;
    if (status == 429 || status == 503)
        return BUSY;
    return status >= 400 && status < 500 ? MISTAKEN : FAILED;
}

static bool is_same(const struct row *a, const struct row *b)
{
    return a->number && a->status == b->status &&
           strcmp(a->method, b->method) == 0 && strcmp(a->path, b->path) == 0 &&
           strcmp(a->told.type, b->told.type) == 0 &&
           strcmp(a->told.title, b->told.title) == 0 &&
           strcmp(a->told.layer, b->told.layer) == 0 &&
           strcmp(a->told.detail, b->told.detail) == 0;
}

/* In the place of the same, of none, or of the oldest of its kind. */
static void keep(struct errors *e, struct row *row)
{
    const enum kind kind = kind_of(row->status);
    size_t first = 0;

    for (unsigned i = 0; i < kind; i++)
        first += places[i];
    lock_take(&e->lock);
    struct row *to = &e->rows[first];
    for (size_t i = first; i < first + places[kind]; i++) {
        struct row *const at = &e->rows[i];
        if (is_same(at, row)) {
            to = at;
            row->count += at->count;
            break;
        }
        if (at->number < to->number)
            to = at;
    }
    row->number = ++e->last;
    *to = *row;
    lock_give(&e->lock);
}

/* In the words that a status line would have had. */
static void read_error(struct error_told *t, const struct request *r)
{
    json_t *const document = answer_document(r, &r->err);

    read_document(t, document);
    json_decref(document);
}

void errors_ended(struct errors *e, const struct request *r, bool has_left)
{
    struct row row = {.count = 1, .when = time(NULL), .status = r->status};

    if (r->status >= 400 && r->told)
        row.told = *r->told;
    else if (r->status && r->status < 400 && r->err.status != PLT_OK &&
             !has_left)
        read_error(&row.told, r);
    else if (r->status < 400)
        return;
    if (!row.told.title[0]) /* for want of memory nothing else was told */
        (void)snprintf(row.told.title, sizeof(row.told.title), "%s",
                       plt_status_text(PLT_NOMEM));
    (void)snprintf(row.id, sizeof(row.id), "%s", r->id);
    take_asked(row.method, sizeof(row.method), r->method);
    take_asked(row.path, sizeof(row.path), r->path ? r->path : "");
    keep(e, &row);
}

/* ---- Telling ---- */

static int by_age(const void *a, const void *b)
{
    const struct row *const x = (const struct row *)a;
    const struct row *const y = (const struct row *)b;
    return x->number > y->number ? -1 : x->number < y->number;
}

static json_t *tell(const struct row *row)
{
    char when[32] = "";
    struct tm tm;

    if (gmtime_r(&row->when, &tm))
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_t *const out =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:I}", "time", when,
                  "request_id", row->id, "method", row->method, "path",
                  row->path, "status", (int)row->status, "type",
                  row->told.type[0] ? row->told.type : "about:blank", "title",
                  row->told.title, "count", (json_int_t)row->count);
    if (out && row->told.layer[0])
        (void)json_object_set_new(out, "layer", json_string(row->told.layer));
    if (out && row->told.detail[0])
        (void)json_object_set_new(out, "detail", json_string(row->told.detail));
    return out;
}

json_t *errors_json(struct errors *e, size_t first, size_t most, size_t *total)
{
    AUTO_FREE struct row *rows = malloc(sizeof(e->rows));
    json_t *const list = rows ? json_array() : NULL;

    *total = 0;
    if (!list)
        return NULL;
    lock_take(&e->lock);
    memcpy(rows, e->rows, sizeof(e->rows));
    lock_give(&e->lock);
    qsort(rows, ERRORS_MOST, sizeof(*rows), by_age);
    while (*total < ERRORS_MOST && rows[*total].number)
        (*total)++;
    for (size_t i = first; i < *total && i - first < most; i++)
        (void)json_array_append_new(list, tell(&rows[i]));
    return list;
}
