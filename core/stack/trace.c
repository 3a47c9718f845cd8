/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/trace.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <platter/bytes.h>
#include <platter/driver.h>

#include "stack/json_memory.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    VERSION = 1,
    LAST = 16,     /* stretches that may be lengthened */
    SOON_MS = 1000 /* after which they are not any more */
};

void trace_release(struct trace *trace)
{
    free(trace->reads);
    *trace = (struct trace){.n = 0};
}

bool trace_copy(struct trace *to, const struct trace *from)
{
    *to = *from;
    to->reads = malloc((from->n + 1) * sizeof(*to->reads));
    if (!to->reads)
        return false;
    if (from->n)
        memcpy(to->reads, from->reads, from->n * sizeof(*to->reads));
    return true;
}

/* ---- JSON ---- */

json_t *trace_json(const struct trace *trace, const char *state)
{
    json_t *const rows = json_array();
    uint64_t bytes = 0;
    char text[32] = "";
    struct tm tm;
    const time_t created = (time_t)trace->created;

    for (size_t i = 0; i < trace->n; i++) {
        const struct trace_read *const r = &trace->reads[i];
        bytes += r->len;
        (void)json_array_append_new(
            rows, json_pack("[I, I, I]", (json_int_t)r->off, (json_int_t)r->len,
                            (json_int_t)r->ms));
    }
    json_t *const out = json_pack(
        "{s:i, s:s, s:I, s:I, s:b, s:o}", "version", VERSION, "state", state,
        "virtual-size", (json_int_t)trace->size, "bytes", (json_int_t)bytes,
        "truncated", trace->is_truncated, "reads", rows);
    if (out && trace->etag[0])
        (void)json_object_set_new(out, "etag", json_string(trace->etag));
    if (out && created && gmtime_r(&created, &tm) &&
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
        (void)json_object_set_new(out, "created", json_string(text));
    return out;
}

/* A whole number that is not negative. */
static bool take_number(json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* As ours are: 32 hexadecimal digits in quotes. */
static bool is_etag(const char *text)
{
    return text && text[0] == '"' &&
           strspn(text + 1, "0123456789abcdef") == 32 &&
           strcmp(text + 33, "\"") == 0;
}

/* "YYYY-MM-DDThh:mm:ssZ" */
static bool take_time(json_t *value, int64_t *out)
{
    const char *const text = json_string_value(value);
    int y, mo, d, h, mi, s, n = 0;

    if (!text ||
        sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &y, &mo, &d, &h, &mi, &s,
               &n) != 6 ||
        n != 20 || text[n] || y < 1970 || mo < 1 || mo > 12 || d < 1 ||
        d > 31 || h < 0 || mi < 0 || s < 0 || h > 23 || mi > 59 || s > 60)
        return false;
    /* Days since 1970 of the proleptic Gregorian calendar. */
    const int64_t a = mo <= 2 ? y - 1 : y, m = (mo + 9) % 12;
    const int64_t day =
        365 * a + a / 4 - a / 100 + a / 400 + (m * 306 + 5) / 10 + d - 719469;
    *out = day * 86400 + h * 3600 + mi * 60 + s;
    return true;
}

static enum plt_status take_reads(struct trace *t, json_t *rows,
                                  struct plt_error *err)
{
    const size_t n = json_array_size(rows);
    uint64_t sum = 0, ms;
    json_t *row;
    size_t i;

    if (!json_is_array(rows) || n > TRACE_READS)
        return plt_fail(err, PLT_INVALID,
                        "reads is not an array of at most %d rows",
                        TRACE_READS);
    t->reads = malloc((n + 1) * sizeof(*t->reads));
    if (!t->reads)
        return plt_fail(err, PLT_NOMEM, "a trace");
    json_array_foreach(rows, i, row)
    {
        struct trace_read *const r = &t->reads[i];
        if (!json_is_array(row) || json_array_size(row) != 3 ||
            !take_number(json_array_get(row, 0), &r->off) ||
            !take_number(json_array_get(row, 1), &r->len) ||
            !take_number(json_array_get(row, 2), &ms) || ms > UINT32_MAX)
            return plt_fail(err, PLT_INVALID,
                            "reads[%zu] is not [offset, length, ms]", i);
        r->ms = (uint32_t)ms;
        if (!r->len || !plt_span_ok(r->off, r->len, t->size))
            return plt_fail(err, PLT_INVALID,
                            "reads[%zu] lies outside the disk", i);
        /* First reads do not overlap: who says so asks for the same again and
         * again. */
        if (r->len > t->size - sum)
            return plt_fail(err, PLT_INVALID,
                            "more is read than the disk has bytes");
        sum += r->len;
    }
    t->n = n;
    return PLT_OK;
}

static enum plt_status take_fields(struct trace *t, json_t *value,
                                   uint64_t size, struct plt_error *err)
{
    static const char *const known[] = {"version",   "state", "virtual-size",
                                        "bytes",     "etag",  "created",
                                        "truncated", "reads"};
    json_t *const etag = json_object_get(value, "etag");
    json_t *const created = json_object_get(value, "created");
    json_t *const truncated = json_object_get(value, "truncated");
    const char *key;
    json_t *x;

    if (!json_is_object(value) ||
        json_integer_value(json_object_get(value, "version")) != VERSION)
        return plt_fail(err, PLT_INVALID, "not a trace of version %d", VERSION);
    json_object_foreach(value, key, x)
    {
        bool is_known = false;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            is_known = is_known || strcmp(key, known[i]) == 0;
        if (!is_known)
            return plt_fail(err, PLT_INVALID, "unknown key %.40s", key);
    }
    if (!take_number(json_object_get(value, "virtual-size"), &t->size))
        return plt_fail(err, PLT_INVALID, "virtual-size is missing");
    if (size != PLT_SIZE_UNKNOWN && t->size != size)
        return plt_fail(
            err, PLT_INVALID,
            "a trace of a disk of %llu bytes, and this one has %llu",
            (unsigned long long)t->size, (unsigned long long)size);
    if (etag && !is_etag(json_string_value(etag)))
        return plt_fail(err, PLT_INVALID, "etag is not that of a disk");
    if (etag)
        (void)snprintf(t->etag, sizeof(t->etag), "%s", json_string_value(etag));
    if (created && !take_time(created, &t->created))
        return plt_fail(err, PLT_INVALID, "created is no time in UTC");
    if (truncated && !json_is_boolean(truncated))
        return plt_fail(err, PLT_INVALID, "truncated is not true or false");
    t->is_truncated = json_is_true(truncated);
    return take_reads(t, json_object_get(value, "reads"), err);
}

enum plt_status trace_take(struct trace *trace, json_t *value, uint64_t size,
                           struct plt_error *err)
{
    *trace = (struct trace){.n = 0};
    const enum plt_status st = take_fields(trace, value, size, err);
    if (st != PLT_OK)
        trace_release(trace);
    return st;
}

enum plt_status trace_parse(struct trace *trace, const char *text, size_t len,
                            uint64_t size, struct plt_error *err)
{
    const uint64_t lost = json_memory_lost();
    json_t *const value =
        json_memory_parse(text, len, JSON_REJECT_DUPLICATES, NULL);

    *trace = (struct trace){.n = 0};
    const enum plt_status st =
        json_memory_lost() != lost ? plt_fail(err, PLT_NOMEM, "a trace")
        : value                    ? trace_take(trace, value, size, err)
                : plt_fail(err, PLT_INVALID, "a trace is not JSON");
    json_decref(value);
    return st;
}

/* ---- Recording ---- */

struct recorder {
    atomic_bool is_on; /* a look without the lock */
    struct lock lock;  /* guards the rest */
    struct trace trace;
    uint32_t *sorted; /* numbers of reads, by offset */
    size_t cap;
    uint64_t first_ns, end_ns; /* first_ns 0: nothing was read yet */
    bool has_begun;
};

struct recorder *recorder_new(void)
{
    struct recorder *const rec = calloc(1, sizeof(*rec));

    if (rec)
        lock_init(&rec->lock);
    return rec;
}

void recorder_free(struct recorder *rec)
{
    if (!rec)
        return;
    trace_release(&rec->trace);
    free(rec->sorted);
    lock_release(&rec->lock);
    free(rec);
}

void recorder_begin(struct recorder *rec, uint64_t size, const char *etag,
                    unsigned seconds)
{
    lock_take(&rec->lock);
    rec->trace.n = 0;
    rec->trace.size = size;
    rec->trace.created = (int64_t)time(NULL);
    rec->trace.is_truncated = false;
    (void)snprintf(rec->trace.etag, sizeof(rec->trace.etag), "%s", etag);
    rec->first_ns = 0;
    rec->end_ns = clock_after_ms((uint64_t)seconds * 1000);
    rec->has_begun = true;
    atomic_store(&rec->is_on, true);
    lock_give(&rec->lock);
}

/* Room for one more. */
static bool grow_locked(struct recorder *rec) LOCK_HELD(&rec->lock);
static bool grow_locked(struct recorder *rec)
{
    const size_t cap = rec->cap ? 2 * rec->cap : 256;

    if (rec->trace.n < rec->cap)
        return true;
    if (rec->trace.n >= TRACE_READS)
        return false;
    struct trace_read *const reads =
        realloc(rec->trace.reads, cap * sizeof(*reads));
    if (reads)
        rec->trace.reads = reads;
    uint32_t *const sorted =
        reads ? realloc(rec->sorted, cap * sizeof(*sorted)) : NULL;
    if (!sorted)
        return false;
    rec->sorted = sorted;
    rec->cap = cap;
    return true;
}

/* The first of `sorted` that ends behind off. */
static size_t place_locked(const struct recorder *rec, uint64_t off)
    LOCK_HELD(&rec->lock);
static size_t place_locked(const struct recorder *rec, uint64_t off)
{
    size_t lo = 0, hi = rec->trace.n;

    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        const struct trace_read *const r = &rec->trace.reads[rec->sorted[mid]];
        if (r->off + r->len <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* [off, off+len) has not been read before, and belongs at `at`.  False: no
 * room. */
static bool insert_locked(struct recorder *rec, size_t at, uint64_t off,
                          uint64_t len, uint32_t ms) LOCK_HELD(&rec->lock);
static bool insert_locked(struct recorder *rec, size_t at, uint64_t off,
                          uint64_t len, uint32_t ms)
{
    struct trace *const t = &rec->trace;

    for (size_t i = 0; i < LAST && i < t->n; i++) {
        struct trace_read *const r = &t->reads[t->n - 1 - i];
        if (r->off + r->len == off && ms - r->ms <= SOON_MS &&
            len <= TRACE_LONGEST && r->len <= TRACE_LONGEST - len) {
            r->len += len;
            return true;
        }
    }
    if (!grow_locked(rec))
        return false;
    memmove(&rec->sorted[at + 1], &rec->sorted[at],
            (t->n - at) * sizeof(*rec->sorted));
    rec->sorted[at] = (uint32_t)t->n;
    t->reads[t->n++] = (struct trace_read){off, len, ms};
    return true;
}

/* What of [off, end) is new.  False: no room for it. */
static bool add_locked(struct recorder *rec, uint64_t off, uint64_t end,
                       uint32_t ms) LOCK_HELD(&rec->lock);
static bool add_locked(struct recorder *rec, uint64_t off, uint64_t end,
                       uint32_t ms)
{
    while (off < end) {
        const size_t at = place_locked(rec, off);
        const struct trace_read *const next =
            at < rec->trace.n ? &rec->trace.reads[rec->sorted[at]] : NULL;
        if (next && next->off <= off) {
            off = next->off + next->len;
            continue;
        }
        const uint64_t to = next && next->off < end ? next->off : end;
        if (!insert_locked(rec, at, off, to - off, ms))
            return false;
        off = to;
    }
    return true;
}

bool recorder_add(struct recorder *rec, uint64_t off, uint64_t len)
{
    bool has_ended = false;

    if (!atomic_load_explicit(&rec->is_on, memory_order_relaxed))
        return false;
    lock_take(&rec->lock);
    if (atomic_load(&rec->is_on)) {
        const uint64_t now = clock_now(), size = rec->trace.size;
        uint64_t end = off + len;
        if (!rec->first_ns)
            rec->first_ns = now;
        off -= off % TRACE_ALIGN;
        end += (TRACE_ALIGN - end % TRACE_ALIGN) % TRACE_ALIGN;
        const bool is_good =
            now < rec->end_ns &&
            add_locked(rec, off, end < size ? end : size,
                       (uint32_t)((now - rec->first_ns) / NS_PER_MS));
        has_ended = !is_good;
        rec->trace.is_truncated = has_ended && now < rec->end_ns;
        if (has_ended)
            atomic_store(&rec->is_on, false);
    }
    lock_give(&rec->lock);
    return has_ended;
}

bool recorder_end(struct recorder *rec)
{
    return atomic_exchange(&rec->is_on, false);
}

bool recorder_is_on(struct recorder *rec, bool *has_ended)
{
    lock_take(&rec->lock);
    const bool is_late = clock_now() >= rec->end_ns;
    *has_ended = is_late && atomic_exchange(&rec->is_on, false);
    const bool is_on = atomic_load(&rec->is_on);
    lock_give(&rec->lock);
    return is_on;
}

bool recorder_get(struct recorder *rec, struct trace *trace)
{
    lock_take(&rec->lock);
    const bool is_good = rec->has_begun && trace_copy(trace, &rec->trace);
    lock_give(&rec->lock);
    return is_good;
}
