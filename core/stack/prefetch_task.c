/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of stretches, read by batches. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/prefetch_inside.h"
#include "util/auto.h"
#include "util/clock.h"

enum {
    BATCH = 512 * 1024, /* of a task: who waits for a block waits for all of its
                           read */
    IN_FLIGHT = 4,      /* batches of one task */
    SHORT = 1024 * 1024 /* stretches up to this are not asked for zeros */
};

static const uint64_t stride = UINT64_C(1) << 30; /* asked for zeros at once */

static const char *const state_names[] = {"waiting", "running", "complete",
                                          "stopped", "failed"};
static const char *const kind_names[] = {"trace", "ranges", "disk"};

bool prefetch_is_over(const struct task *t)
{
    return t->state > TASK_RUNNING;
}

static void end_locked(struct prefetch *p, struct task *t,
                       enum task_state state, const char *why)
    LOCK_HELD(&p->lock);
static void end_locked(struct prefetch *p, struct task *t,
                       enum task_state state, const char *why)
{
    (void)p;
    if (prefetch_is_over(t))
        return;
    t->state = state;
    t->ended_ns = clock_now();
    (void)snprintf(t->why, sizeof(t->why), "%s", why);
}

static void end(struct task *t, enum task_state state, const char *why)
{
    struct prefetch *const p = t->p;

    lock_take(&p->lock);
    end_locked(p, t, state, why);
    lock_give(&p->lock);
}

static void batch_job(void *cookie)
{
    struct batch *const b = (struct batch *)cookie;
    struct prefetch *const p = b->p;
    struct plt_error err;
    bool is_there;
    const enum plt_status st = prefetch_read(b, &is_there, &err);

    if (st == PLT_OK && !is_there)
        (void)atomic_fetch_add(&p->task_bytes, b->len);
    else if (st != PLT_OK)
        (void)atomic_fetch_add(&p->given_up, 1);
    lock_take(&p->lock);
    if (st == PLT_OK)
        b->task->done += b->len;
    else if (st == PLT_NOMEM || st == PLT_BUSY || st == PLT_CHANGED)
        end_locked(p, b->task, TASK_STOPPED, plt_status_text(st));
    else if (st != PLT_CANCELLED)
        end_locked(p, b->task, TASK_FAILED, plt_status_text(st));
    b->task->n_running--;
    cond_wake_all(&p->moved);
    lock_give(&p->lock);
    free(b);
}

/* Why it should not go on; NULL: it should. */
static const char *reason(const struct task *t)
{
    if (atomic_load(&t->is_cancelled) || atomic_load(&t->p->is_stopping))
        return "cancelled";
    if (t->taken >= t->p->limit)
        return "half of what the cache can keep has been read";
    if (cache_is_tight(t->p->cache))
        return "memory is short";
    if (!image_is_listed(t->image))
        return "the image is no longer served";
    return NULL;
}

/* Wait for a place, and hand the batch to a reader.  False: the task is over.
 */
static bool flush(struct task *t, struct batch *made)
{
    struct prefetch *const p = t->p;
    const char *const why = reason(t);
    struct batch *b;

    if (why)
        end(t, TASK_STOPPED, why);
    if (!made->n)
        return !why;
    lock_take(&p->lock);
    while (!prefetch_is_over(t) &&
           t->n_running >= (t->kind != PREFETCH_TRACE && image_waiting(t->image)
                                ? 1U
                                : (unsigned)IN_FLIGHT))
        (void)cond_wait(&p->moved, &p->lock, clock_after_ms(250));
    const bool goes_on = !prefetch_is_over(t);
    const size_t len = made->len;
    t->n_running += goes_on;
    lock_give(&p->lock);
    if (!goes_on)
        return false;
    b = malloc(sizeof(*b));
    if (b)
        *b = *made;
    made->n = made->len = 0;
    while (b && !workers_submit(p->readers, batch_job, b)) {
        if (reason(t)) {
            free(b);
            b = NULL;
            break;
        }
        lock_take(&p->lock); /* the readers are busy ahead of streams */
        (void)cond_wait(&p->moved, &p->lock, clock_after_ms(20));
        lock_give(&p->lock);
    }
    if (b) { /* its reader's, by now */
        t->taken += len;
        return true;
    }
    lock_take(&p->lock);
    t->n_running--;
    end_locked(p, t, TASK_STOPPED, "memory is short");
    lock_give(&p->lock);
    return false;
}

static bool add(struct task *t, struct batch *b, uint64_t off, uint64_t len)
{
    while (len) {
        const size_t room = BATCH - b->len;
        const size_t n = len < room ? (size_t)len : room;
        b->segs[b->n++] = (struct plt_seg){off, n, NULL};
        b->len += n;
        off += n;
        len -= n;
        if ((b->len == BATCH || b->n == PREFETCH_SEGS) && !flush(t, b))
            return false;
    }
    return true;
}

/* The data of a long stretch. */
struct run {
    uint64_t off, len;
};

/* Extents are gathered first: nothing is waited for while a driver emits. */
struct runs {
    struct run v[256];
    size_t n;
    uint64_t zeros, to;
};

static bool take_extent(void *cookie, const struct plt_extent *x)
{
    struct runs *const r = (struct runs *)cookie;

    r->to = x->off + x->len;
    if (x->flags & PLT_EXTENT_ZERO)
        r->zeros += x->len;
    else
        r->v[r->n++] = (struct run){x->off, x->len};
    return r->n < sizeof(r->v) / sizeof(r->v[0]);
}

static bool add_long(struct task *t, struct batch *b, uint64_t off,
                     uint64_t len)
{
    AUTO_FREE struct runs *r = malloc(sizeof(*r));
    const uint64_t to = off + len;
    struct plt_error err;

    while (r && off < to) {
        struct prefetch_io io = prefetch_io_make(t->p, t, 0);
        r->n = 0;
        r->zeros = 0;
        r->to = off;
        const enum plt_status st = image_extents(
            t->image, &io.io, off, to - off < stride ? to - off : stride,
            take_extent, r, &err);
        if (st != PLT_OK || r->to == off) {
            end(t, TASK_FAILED, plt_status_text(st));
            return false;
        }
        lock_take(&t->p->lock);
        t->done += r->zeros;
        lock_give(&t->p->lock);
        for (size_t i = 0; i < r->n; i++) {
            if (!add(t, b, r->v[i].off, r->v[i].len))
                return false;
        }
        off = r->to;
        if (!r->n && !flush(t, b)) /* zeros without end */
            return false;
    }
    return r != NULL;
}

static void task_job(void *cookie)
{
    struct task *const t = (struct task *)cookie;
    struct prefetch *const p = t->p;
    struct batch b = {.p = p, .image = t->image, .task = t};
    bool goes_on = true;

    lock_take(&p->lock);
    if (!prefetch_is_over(t))
        t->state = TASK_RUNNING;
    t->begun_ns = clock_now();
    lock_give(&p->lock);
    for (size_t i = 0; i < t->n && goes_on; i++)
        goes_on = t->spans[i].len > SHORT
                      ? add_long(t, &b, t->spans[i].off, t->spans[i].len)
                      : add(t, &b, t->spans[i].off, t->spans[i].len);
    if (goes_on)
        goes_on = flush(t, &b);
    lock_take(&p->lock);
    while (t->n_running)
        (void)cond_wait(&p->moved, &p->lock, CLOCK_NEVER);
    end_locked(p, t, goes_on ? TASK_COMPLETE : TASK_STOPPED,
               goes_on ? "" : "memory is short");
    struct image *const image = t->image;
    t->image = NULL; /* who looks at the table may free it from here on */
    free(t->spans);
    t->spans = NULL;
    lock_give(&p->lock);
    image_unref(image);
}

/* A place in the table, and among those that hold an image: the oldest task
 * that is over goes. */
static bool make_room_locked(struct prefetch *p) LOCK_HELD(&p->lock);
static bool make_room_locked(struct prefetch *p)
{
    for (size_t i = 0; i < p->n && p->n == PREFETCH_KNOWN; i++) {
        if (p->tasks[i]->image)
            continue;
        free(p->tasks[i]);
        memmove(&p->tasks[i], &p->tasks[i + 1],
                (--p->n - i) * sizeof(struct task *));
    }
    size_t n_held = 0;
    for (size_t i = 0; i < p->n; i++)
        n_held += p->tasks[i]->image != NULL;
    return p->n < PREFETCH_KNOWN && n_held < p->most;
}

/* The last one of this ETag. */
static struct task *find_locked(struct prefetch *p, const char *etag)
    LOCK_HELD(&p->lock);
static struct task *find_locked(struct prefetch *p, const char *etag)
{
    for (size_t i = p->n; i-- > 0;) {
        if (strcmp(p->tasks[i]->etag, etag) == 0)
            return p->tasks[i];
    }
    return NULL;
}

enum plt_status prefetch_start(struct prefetch *p, struct image *image,
                               enum prefetch_kind kind,
                               struct prefetch_span *spans, size_t n,
                               struct plt_error *err)
{
    struct task *const t = calloc(1, sizeof(*t));

    if (!t) {
        free(spans);
        return plt_fail(err, PLT_NOMEM, "a prefetch");
    }
    t->p = p;
    t->image = image;
    t->kind = kind;
    t->spans = spans;
    t->n = n;
    (void)snprintf(t->etag, sizeof(t->etag), "%s", image_etag(image));
    for (size_t i = 0; i < n; i++)
        t->total += spans[i].len;
    image_ref(image);
    lock_take(&p->lock);
    struct task *const before = find_locked(p, t->etag);
    if (before)
        atomic_store(&before->is_cancelled, true);
    bool is_good = make_room_locked(p);
    if (is_good) {
        p->tasks[p->n++] = t;
        is_good = workers_submit(p->leaders, task_job, t);
        if (!is_good)
            p->n--;
    }
    lock_give(&p->lock);
    if (is_good)
        return PLT_OK;
    image_unref(image);
    free(spans);
    free(t);
    return plt_fail(err, PLT_BUSY, "%zu prefetches run or wait already",
                    p->most);
}

json_t *prefetch_json(struct prefetch *p, const char *etag)
{
    json_t *out = NULL;

    lock_take(&p->lock);
    const struct task *const t = find_locked(p, etag);
    if (t) {
        const uint64_t until = prefetch_is_over(t) ? t->ended_ns : clock_now();
        out = json_pack(
            "{s:s, s:s, s:I, s:I, s:I, s:I, s:f}", "kind", kind_names[t->kind],
            "state", state_names[t->state], "bytes_total", (json_int_t)t->total,
            "bytes_done", (json_int_t)t->done, "origin_bytes",
            (json_int_t)atomic_load(&t->origin_bytes), "origin_requests",
            (json_int_t)atomic_load(&t->origin_requests), "seconds",
            t->begun_ns ? (double)(until - t->begun_ns) / 1e9 : 0.0);
        if (out && t->why[0])
            (void)json_object_set_new(out, "error", json_string(t->why));
    }
    lock_give(&p->lock);
    return out;
}

bool prefetch_cancel(struct prefetch *p, const char *etag)
{
    lock_take(&p->lock);
    struct task *const t = find_locked(p, etag);
    const bool is_found = t && !prefetch_is_over(t);
    if (is_found)
        atomic_store(&t->is_cancelled, true);
    lock_give(&p->lock);
    return is_found;
}
