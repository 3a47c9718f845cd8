/* SPDX-License-Identifier: Apache-2.0 */
/* Locks: `lock` guards what is in memory; `files` is held while a file is
 * written, read or deleted, and is taken first. */
#include "stack/traces.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stack/json_memory.h"
#include "stack/json_text.h"
#include "util/auto.h"
#include "util/lock.h"
#include "util/log.h"

enum { MAX_FILE = 1 << 20, NAME = 64 };

static const char new_name[] = "trace-new";

struct kept {
    char etag[TRACE_ETAG];
    struct trace trace;
};

struct traces {
    int dir;
    struct cache *cache;
    struct lock files, lock;
    struct kept held[TRACES_HELD]; /* the last used at the end */
    size_t n;
};

struct traces *traces_new(int state_dir, struct cache *cache)
{
    struct traces *const ts = calloc(1, sizeof(*ts));

    if (!ts)
        return NULL;
    ts->dir = state_dir;
    ts->cache = cache;
    lock_init(&ts->files);
    lock_init(&ts->lock);
    return ts;
}

/* What a trace takes of the budget. */
static uint64_t weight(const struct trace *t)
{
    return (t->n + 1) * sizeof(*t->reads);
}

static void release_locked(struct traces *ts, size_t i) LOCK_HELD(&ts->lock);
static void release_locked(struct traces *ts, size_t i)
{
    cache_mem_give(ts->cache, weight(&ts->held[i].trace));
    trace_release(&ts->held[i].trace);
    memmove(&ts->held[i], &ts->held[i + 1],
            (--ts->n - i) * sizeof(ts->held[0]));
}

void traces_free(struct traces *ts)
{
    if (!ts)
        return;
    lock_take(&ts->lock);
    while (ts->n)
        release_locked(ts, 0);
    lock_give(&ts->lock);
    lock_release(&ts->lock);
    lock_release(&ts->files);
    free(ts);
}

/* Where it is held; ts->n: nowhere. */
static size_t find_locked(const struct traces *ts, const char *etag)
    LOCK_HELD(&ts->lock);
static size_t find_locked(const struct traces *ts, const char *etag)
{
    size_t i = 0;

    while (i < ts->n && strcmp(ts->held[i].etag, etag) != 0)
        i++;
    return i;
}

/* Steals *trace; false: the budget has no room, and *trace is as it was. */
static bool hold_locked(struct traces *ts, const char *etag,
                        struct trace *trace) LOCK_HELD(&ts->lock);
static bool hold_locked(struct traces *ts, const char *etag,
                        struct trace *trace)
{
    const size_t i = find_locked(ts, etag);

    if (i < ts->n)
        release_locked(ts, i);
    if (!cache_mem_take(ts->cache, weight(trace)))
        return false;
    if (ts->n == TRACES_HELD)
        release_locked(ts, 0);
    struct kept *const k = &ts->held[ts->n++];
    (void)snprintf(k->etag, sizeof(k->etag), "%s", etag);
    k->trace = *trace;
    *trace = (struct trace){.n = 0};
    return true;
}

/* ---- Files ---- */

/* "trace-HEX.json" of an ETag, which is hexadecimal in quotes.  False: it is
 * another one, and nothing is kept of it. */
static bool name_of(const char *etag, char name[NAME])
{
    const size_t len = strlen(etag);

    if (len < 4 || len >= TRACE_ETAG || etag[0] != '"' ||
        etag[len - 1] != '"' || strspn(etag + 1, "0123456789abcdef") != len - 2)
        return false;
    (void)snprintf(name, NAME, "trace-%.*s.json", (int)len - 2, etag + 1);
    return true;
}

static bool is_name(const char *name)
{
    const size_t len = strlen(name);
    return strncmp(name, "trace-", 6) == 0 && len > 5 &&
           strcmp(name + len - 5, ".json") == 0;
}

static bool read_trace(struct traces *ts, const char *etag, uint64_t size,
                       struct trace *out)
{
    char name[NAME];
    struct stat sb;
    struct plt_error err = {.at = PLT_AT_NONE};
    size_t n = 0;

    if (ts->dir < 0 || !name_of(etag, name))
        return false;
    AUTO_FD int fd =
        openat(ts->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) ||
        sb.st_size > MAX_FILE)
        return false;
    AUTO_FREE char *text = malloc((size_t)sb.st_size + 1);
    while (text && n < (size_t)sb.st_size) {
        const ssize_t did = read(fd, text + n, (size_t)sb.st_size - n);
        if (did <= 0)
            break;
        n += (size_t)did;
    }
    if (!text)
        return false;
    if (trace_parse(out, text, n, size, &err) == PLT_OK)
        return true;
    struct log_line l;
    log_begin(&l, LOG_WARN, "trace_damaged");
    log_text(&l, "file", name);
    log_text(&l, "text", err.text);
    log_end(&l);
    return false;
}

/* The oldest files go until there are few enough. */
static void prune(struct traces *ts)
{
    const int fd = openat(ts->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *const dir = fd >= 0 ? fdopendir(fd) : NULL;
    char oldest[NAME] = "";
    struct timespec age = {0, 0};
    size_t n = 0;
    const struct dirent *e;
    struct stat sb;

    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    while ((e = readdir(dir))) {
        if (!is_name(e->d_name) || strlen(e->d_name) >= NAME ||
            fstatat(ts->dir, e->d_name, &sb, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        n++;
        if (oldest[0] && (sb.st_mtim.tv_sec > age.tv_sec ||
                          (sb.st_mtim.tv_sec == age.tv_sec &&
                           sb.st_mtim.tv_nsec >= age.tv_nsec)))
            continue;
        age = sb.st_mtim;
        memcpy(oldest, e->d_name, strlen(e->d_name) + 1);
    }
    (void)closedir(dir);
    if (n > TRACES_KEPT)
        (void)unlinkat(ts->dir, oldest, 0);
}

static bool write_all(int fd, const char *text, size_t len)
{
    while (len) {
        const ssize_t did = write(fd, text, len);
        if (did <= 0)
            return false;
        text += did;
        len -= (size_t)did;
    }
    return true;
}

/* Beside, and renamed: one that is cut short never has the name.  It is not
 * synced: a trace that a power cut takes can be recorded again, and what is
 * left of it is no JSON. */
static enum plt_status write_trace(struct traces *ts, const char *etag,
                                   const struct trace *trace,
                                   struct plt_error *err)
{
    char name[NAME];

    if (ts->dir < 0 || !name_of(etag, name))
        return PLT_OK;
    const uint64_t lost = json_memory_lost();
    json_t *const value = trace_json(trace, "complete");
    AUTO_JSON_TEXT char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (!text || json_memory_lost() != lost)
        return plt_fail(err, PLT_NOMEM, "a trace");
    AUTO_FD int fd = openat(ts->dir, new_name,
                            O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !write_all(fd, text, strlen(text)) ||
        renameat(ts->dir, new_name, ts->dir, name) != 0)
        return plt_fail(err, PLT_IO, "a trace in the state folder");
    prune(ts);
    return PLT_OK;
}

/* ---- */

bool traces_get(struct traces *ts, const char *etag, uint64_t size,
                struct trace *out)
{
    lock_take(&ts->lock);
    const size_t i = find_locked(ts, etag);
    const bool is_held = i < ts->n;
    bool is_good = is_held && trace_copy(out, &ts->held[i].trace);
    lock_give(&ts->lock);
    if (is_held)
        return is_good;
    lock_take(&ts->files);
    is_good = read_trace(ts, etag, size, out);
    lock_give(&ts->files);
    struct trace held;
    if (!is_good || !trace_copy(&held, out))
        return is_good;
    lock_take(&ts->lock);
    if (find_locked(ts, etag) < ts->n || !hold_locked(ts, etag, &held))
        trace_release(&held);
    lock_give(&ts->lock);
    return true;
}

enum plt_status traces_put(struct traces *ts, const char *etag,
                           struct trace *trace, bool is_kept,
                           struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    lock_take(&ts->files);
    if (is_kept)
        st = write_trace(ts, etag, trace, err);
    if (st == PLT_OK) {
        lock_take(&ts->lock);
        if (!hold_locked(ts, etag, trace) && (!is_kept || ts->dir < 0))
            st = plt_fail(err, PLT_NOMEM, "a trace");
        lock_give(&ts->lock);
    }
    lock_give(&ts->files);
    trace_release(trace);
    return st;
}

bool traces_drop(struct traces *ts, const char *etag)
{
    char name[NAME];
    bool is_gone = false;

    lock_take(&ts->files);
    lock_take(&ts->lock);
    const size_t i = find_locked(ts, etag);
    if (i < ts->n) {
        release_locked(ts, i);
        is_gone = true;
    }
    lock_give(&ts->lock);
    if (ts->dir >= 0 && name_of(etag, name) && unlinkat(ts->dir, name, 0) == 0)
        is_gone = true;
    lock_give(&ts->files);
    return is_gone;
}
