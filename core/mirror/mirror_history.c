/* SPDX-License-Identifier: Apache-2.0 */
#include "mirror/mirror_history.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mirror/mirror_inside.h"

static const char *const names[HISTORY_EVENTS] = {
    [HISTORY_MADE] = "made",         [HISTORY_VERSION] = "version",
    [HISTORY_COMPLETE] = "complete", [HISTORY_PAUSED] = "paused",
    [HISTORY_RESUMED] = "resumed",   [HISTORY_WAITING] = "waiting",
    [HISTORY_FAILED] = "failed",     [HISTORY_REPAIRED] = "repaired"};

void history_release(struct history *h)
{
    for (unsigned i = 0; i < h->n; i++)
        free(h->rows[i].error);
    free(h->rows);
    *h = (struct history){.rows = NULL};
}

/* A place for one more, after the newest; NULL without memory. */
static struct history_row *add_row(struct history *h)
{
    if (!h->rows)
        h->rows = calloc(HISTORY_MAX, sizeof(*h->rows));
    if (!h->rows)
        return NULL;
    if (h->n == HISTORY_MAX) {
        free(h->rows[0].error);
        memmove(h->rows, h->rows + 1, (HISTORY_MAX - 1) * sizeof(*h->rows));
        h->n--;
    }
    return &h->rows[h->n++];
}

/* Since the version came that is complete now; one that is so again (something
 * of it was lost) did not take that long. */
static int64_t seconds_since_version(const struct history *h, int64_t now)
{
    for (unsigned i = h->n; i-- > 0;) {
        const struct history_row *const row = &h->rows[i];
        if (row->event == HISTORY_COMPLETE)
            return -1;
        if (row->event == HISTORY_VERSION)
            return now > row->time_s ? now - row->time_s : 0;
    }
    return -1;
}

/* Of errors the last one is told. */
static bool is_again(const struct history_row *row, enum history_event event)
{
    return row->event == event &&
           (event == HISTORY_WAITING || event == HISTORY_FAILED ||
            event == HISTORY_REPAIRED);
}

void history_note(struct mirror *m, enum history_event event, struct version *v,
                  uint64_t n, const char *error)
{
    struct history *const h = &m->history;
    const int64_t now = (int64_t)time(NULL);
    char *const text =
        error && error[0] ? strndup(error, HISTORY_TEXT - 1) : NULL;
    struct history_row *row = h->n ? &h->rows[h->n - 1] : NULL;

    if (row && is_again(row, event)) {
        row->time_s = now;
        row->count += n;
        free(row->error);
        row->error = text;
    } else {
        const int64_t seconds =
            event == HISTORY_COMPLETE ? seconds_since_version(h, now) : -1;
        row = add_row(h);
        if (!row) {
            free(text);
            return;
        }
        *row = (struct history_row){.time_s = now,
                                    .event = event,
                                    .count = n,
                                    .seconds = seconds,
                                    .fetched = -1,
                                    .reused = -1,
                                    .error = text};
    }
    if (v && atomic_load(&v->has_root)) {
        row->has_root = true;
        memcpy(row->root, v->root, MANIFEST_DIGEST);
    }
    if (v && event == HISTORY_COMPLETE) {
        row->fetched = (int64_t)(atomic_load(&v->counts.fetched) & INT64_MAX);
        row->reused = (int64_t)(atomic_load(&v->counts.reused) & INT64_MAX);
    }
    atomic_store(&m->mirrors->has_news, true);
}

/* ---- As JSON ---- */

static json_t *number_or_null(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

static json_t *row_json(const struct history_row *row)
{
    const time_t t = (time_t)row->time_s;
    char hex[MANIFEST_HEX], when[24] = "";
    struct tm tm;

    manifest_to_hex(row->root, hex);
    if (gmtime_r(&t, &tm))
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_pack(
        "{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o}", "time", when, "event",
        names[row->event], "count", (json_int_t)(row->count & INT64_MAX),
        "root", row->has_root ? json_string(hex) : json_null(), "bytes_fetched",
        number_or_null(row->fetched), "bytes_reused",
        number_or_null(row->reused), "seconds", number_or_null(row->seconds),
        "error", mirror_error_json(row->error ? row->error : ""));
}

json_t *history_json(const struct history *h)
{
    json_t *const list = json_array();

    for (unsigned i = h->n; i-- > 0;)
        (void)json_array_append_new(list, row_json(&h->rows[i]));
    return list;
}

json_t *history_state(const struct history *h)
{
    json_t *const list = json_array();

    for (unsigned i = 0; i < h->n; i++) {
        json_t *const row = row_json(&h->rows[i]);
        (void)json_object_set_new(row, "time", json_integer(h->rows[i].time_s));
        (void)json_array_append_new(list, row);
    }
    return list;
}

static bool take_event(const char *name, enum history_event *out)
{
    for (int i = 0; name && i < HISTORY_EVENTS; i++) {
        if (strcmp(names[i], name) == 0) {
            *out = (enum history_event)i;
            return true;
        }
    }
    return false;
}

static int64_t take_count(json_t *row, const char *key)
{
    json_t *const value = json_object_get(row, key);
    return json_is_integer(value) && json_integer_value(value) >= 0
               ? json_integer_value(value)
               : -1;
}

void history_load(struct history *h, json_t *rows)
{
    json_t *value;
    size_t i;

    json_array_foreach(rows, i, value)
    {
        const char *const error =
            json_string_value(json_object_get(value, "error"));
        const char *const root =
            json_string_value(json_object_get(value, "root"));
        struct history_row row = {.time_s = take_count(value, "time"),
                                  .seconds = take_count(value, "seconds"),
                                  .fetched = take_count(value, "bytes_fetched"),
                                  .reused = take_count(value, "bytes_reused")};
        const int64_t count = take_count(value, "count");
        if (row.time_s < 0 || count < 1 ||
            !take_event(json_string_value(json_object_get(value, "event")),
                        &row.event))
            continue;
        struct history_row *const at = add_row(h);
        if (!at)
            return;
        row.count = (uint64_t)count;
        row.has_root = root && manifest_from_hex(root, row.root);
        row.error = error ? strndup(error, HISTORY_TEXT - 1) : NULL;
        *at = row;
    }
}
