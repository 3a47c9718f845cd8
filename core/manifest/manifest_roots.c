/* SPDX-License-Identifier: Apache-2.0 */
/* {"version": 1, "roots": [{"root": HEX, "path": ..., "query": ...}, ...]}:
 * path and query as a client writes them.
 *
 * Locks: `files` is held while the file is written, and is taken first; `lock`
 * guards the rows. */
#include "manifest/manifest_roots.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "stack/json_memory.h"
#include "stack/json_text.h"
#include "util/auto.h"
#include "util/lock.h"
#include "util/log.h"

enum { MAX_FILE = 32 << 20 };

static const char file_name[] = "roots.json", new_name[] = "roots-new.json";

struct row {
    manifest_digest root;
    char *path, *query; /* new */
};

struct manifest_roots {
    int dir;
    struct lock files, lock;
    struct row v[MANIFEST_ROOTS]; /* the last used first */
    size_t n;
};

static void row_release(struct row *row)
{
    free(row->path);
    free(row->query);
    *row = (struct row){.path = NULL};
}

/* ---- A reference as text ---- */

static char *encode(char *p, const char *text, bool is_path)
{
    static const char digits[] = "0123456789ABCDEF";

    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
            (c >= 'A' && c <= 'Z') || strchr("-._~", c) ||
            (is_path && c == '/')) {
            *p++ = (char)c;
            continue;
        }
        *p++ = '%';
        *p++ = digits[c >> 4];
        *p++ = digits[c & 15];
    }
    *p = '\0';
    return p;
}

/* False without memory. */
static bool to_text(const struct reference *r, struct row *out)
{
    const struct {
        const char *name, *value;
    } parts[] = {{"member=", r->member},
                 {"snapshot=", r->snapshot},
                 {"partition=", r->partition},
                 {"secret=", r->secret},
                 {"layers=", r->layers}};
    size_t len = 1;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        len += parts[i].value ? 16 + 3 * strlen(parts[i].value) : 0;
    out->path = malloc(3 * strlen(r->target) + 1);
    out->query = malloc(len);
    if (!out->path || !out->query)
        return false;
    (void)encode(out->path, r->target, true);
    char *p = out->query;
    *p = '\0';
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!parts[i].value)
            continue;
        if (p != out->query)
            *p++ = '&';
        memcpy(p, parts[i].name, strlen(parts[i].name));
        p = encode(p + strlen(parts[i].name), parts[i].value, false);
    }
    return true;
}

/* ---- The file ---- */

static bool load_row(json_t *value, struct row *row)
{
    const char *const root = json_string_value(json_object_get(value, "root"));
    const char *const path = json_string_value(json_object_get(value, "path"));
    const char *const query =
        json_string_value(json_object_get(value, "query"));
    struct reference reference;
    struct plt_error err = {.at = PLT_AT_NONE};

    if (!root || !path || !query || strlen(root) != MANIFEST_HEX - 1 ||
        !manifest_from_hex(root, row->root) ||
        reference_parse(&reference, path, query, NULL, &err) != PLT_OK)
        return false;
    reference_release(&reference);
    row->path = strdup(path);
    row->query = strdup(query);
    return row->path && row->query;
}

static bool load(struct manifest_roots *m, int fd)
{
    struct stat sb;
    size_t n = 0;

    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) || sb.st_size > MAX_FILE)
        return false;
    AUTO_FREE char *text = malloc((size_t)sb.st_size + 1);
    while (text && n < (size_t)sb.st_size) {
        const ssize_t did = read(fd, text + n, (size_t)sb.st_size - n);
        if (did <= 0)
            break;
        n += (size_t)did;
    }
    json_t *const all = text ? json_memory_parse(text, n, 0, NULL) : NULL;
    json_t *const rows = json_object_get(all, "roots"), *value;
    const bool is_good =
        json_is_array(rows) &&
        json_integer_value(json_object_get(all, "version")) == 1;
    size_t i;

    json_array_foreach(rows, i, value)
    {
        if (!is_good || m->n == MANIFEST_ROOTS)
            break;
        if (load_row(value, &m->v[m->n]))
            m->n++;
        else
            row_release(&m->v[m->n]);
    }
    json_decref(all);
    return is_good;
}

static void say(const char *event)
{
    struct log_line l;

    log_begin(&l, LOG_WARN, event);
    log_text(&l, "file", file_name);
    log_end(&l);
}

static char *rows_text(struct manifest_roots *m)
{
    const uint64_t lost = json_memory_lost();
    json_t *const rows = json_array();
    char hex[MANIFEST_HEX];

    lock_take(&m->lock);
    for (size_t i = 0; i < m->n; i++) {
        const struct row *const r = &m->v[i];
        manifest_to_hex(r->root, hex);
        (void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s}", "root",
                                                    hex, "path", r->path,
                                                    "query", r->query));
    }
    lock_give(&m->lock);
    json_t *const all = json_pack("{s:i, s:o}", "version", 1, "roots", rows);
    char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    if (json_memory_lost() != lost) {
        json_text_free(text);
        text = NULL;
    }
    return text;
}

/* Beside, and renamed: it is whole, or the one before. */
static bool save(struct manifest_roots *m)
{
    AUTO_JSON_TEXT char *text = rows_text(m);
    const size_t len = text ? strlen(text) : 0;
    size_t at = 0;

    AUTO_FD int fd =
        text ? openat(m->dir, new_name,
                      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                      0600)
             : -1;
    while (fd >= 0 && at < len) {
        const ssize_t did = write(fd, text + at, len - at);
        if (did <= 0)
            return false;
        at += (size_t)did;
    }
    return fd >= 0 && fdatasync(fd) == 0 &&
           renameat(m->dir, new_name, m->dir, file_name) == 0 &&
           fsync(m->dir) == 0;
}

/* ---- */

struct manifest_roots *manifest_roots_new(int dir)
{
    struct manifest_roots *const m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->dir = dir;
    lock_init(&m->files);
    lock_init(&m->lock);
    AUTO_FD int fd =
        dir < 0 ? -1
                : openat(dir, file_name,
                         O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && !load(m, fd))
        say("roots_damaged");
    return m;
}

void manifest_roots_free(struct manifest_roots *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++)
        row_release(&m->v[i]);
    lock_release(&m->lock);
    lock_release(&m->files);
    free(m);
}

/* Where it is; n: nowhere. */
static size_t find_locked(const struct manifest_roots *m, const struct row *row)
    LOCK_HELD(&m->lock);
static size_t find_locked(const struct manifest_roots *m, const struct row *row)
{
    size_t i = 0;

    while (i < m->n && (memcmp(m->v[i].root, row->root, MANIFEST_DIGEST) != 0 ||
                        strcmp(m->v[i].path, row->path) != 0 ||
                        strcmp(m->v[i].query, row->query) != 0))
        i++;
    return i;
}

/* Into the place of the first, and those before the i-th one further. */
static void set_first_locked(struct manifest_roots *m, size_t i, struct row row)
    LOCK_HELD(&m->lock);
static void set_first_locked(struct manifest_roots *m, size_t i, struct row row)
{
    memmove(&m->v[1], &m->v[0], i * sizeof(m->v[0]));
    m->v[0] = row;
}

/* Steals the row; false: it was there. */
static bool add_locked(struct manifest_roots *m, struct row *row)
    LOCK_HELD(&m->lock);
static bool add_locked(struct manifest_roots *m, struct row *row)
{
    size_t i = find_locked(m, row);
    const bool is_new = i == m->n;
    struct row keep = *row;

    if (!is_new) {
        row_release(row);
        keep = m->v[i];
    } else if (m->n == MANIFEST_ROOTS) {
        row_release(&m->v[--i]);
    } else {
        m->n++;
    }
    set_first_locked(m, i, keep);
    return is_new;
}

bool manifest_roots_use(struct manifest_roots *m, const manifest_digest root,
                        const struct reference *reference)
{
    struct row row = {.path = NULL};
    bool is_there = false;

    memcpy(row.root, root, MANIFEST_DIGEST);
    if (to_text(reference, &row)) {
        lock_take(&m->lock);
        const size_t i = find_locked(m, &row);
        is_there = i < m->n;
        if (is_there)
            set_first_locked(m, i, m->v[i]);
        lock_give(&m->lock);
    }
    row_release(&row);
    return is_there;
}

void manifest_roots_add(struct manifest_roots *m, const manifest_digest root,
                        const struct reference *reference)
{
    struct row row = {.path = NULL};

    memcpy(row.root, root, MANIFEST_DIGEST);
    if (!to_text(reference, &row)) {
        row_release(&row);
        return;
    }
    lock_take(&m->lock);
    const bool is_new = add_locked(m, &row);
    lock_give(&m->lock);
    if (!is_new || m->dir < 0)
        return;
    lock_take(&m->files);
    if (!save(m))
        say("roots_not_kept");
    lock_give(&m->files);
}

size_t manifest_roots_find(struct manifest_roots *m, const manifest_digest root,
                           struct reference *out, size_t most)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    size_t n = 0;

    lock_take(&m->lock);
    for (size_t i = 0; i < m->n && n < most; i++) {
        if (memcmp(m->v[i].root, root, MANIFEST_DIGEST) == 0 &&
            reference_parse(&out[n], m->v[i].path, m->v[i].query, NULL, &err) ==
                PLT_OK)
            n++;
    }
    lock_give(&m->lock);
    return n;
}
