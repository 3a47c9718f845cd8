/* SPDX-License-Identifier: Apache-2.0 */
/* Lock: `lock` guards the table of tasks and what changes in a task; nothing is
 * read or waited for with it but the condition. */
#include "stack/prefetch.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "sched/workers.h"
#include "stack/image_inside.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    PIECE = 192 * 1024, /* of a plan: three blocks of a remote source, and below
                           what malloc asks the kernel for each time */
    BATCH = 512 * 1024, /* of a task: who waits for a block waits for all of its
                           read */
    BATCH_SEGS = 64,
    IN_FLIGHT = 4,       /* batches of one task */
    SHORT = 1024 * 1024, /* stretches up to this are not asked for zeros */
    QUEUE = 64,
    DEADLINE_MS = 30000
};

static const uint64_t stride = UINT64_C(1) << 30; /* asked for zeros at once */

enum task_state {
    TASK_WAITING,
    TASK_RUNNING,
    TASK_COMPLETE,
    TASK_STOPPED,
    TASK_FAILED
};
static const char *const state_names[] = {"waiting", "running", "complete",
                                          "stopped", "failed"};
static const char *const kind_names[] = {"trace", "ranges", "disk"};

struct task {
    struct prefetch *p;
    struct image *image; /* NULL once it is over */
    char etag[96];
    enum prefetch_kind kind;
    struct prefetch_span *spans;
    size_t n;
    enum task_state state;
    uint64_t total, done, taken; /* taken: without zeros */
    unsigned n_running;          /* batches */
    uint64_t begun_ns, ended_ns;
    char why[128]; /* it did not complete; "" */
    atomic_bool is_cancelled;
    _Atomic uint64_t origin_bytes, origin_requests;
};

struct prefetch {
    struct cache *cache;
    uint64_t limit;
    struct workers *readers, *leaders;
    atomic_bool is_stopping;
    struct lock lock;
    struct cond moved;                  /* a batch is over */
    struct task *tasks[PREFETCH_KNOWN]; /* the oldest first */
    size_t n;
    _Atomic uint64_t ahead_bytes, used_bytes, task_bytes, given_up,
        origin_bytes, origin_requests;
};

struct prefetch *prefetch_new(struct cache *cache, uint64_t limit)
{
    struct prefetch *const p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->cache = cache;
    p->limit = limit;
    lock_init(&p->lock);
    cond_init(&p->moved);
    p->readers = workers_new(PREFETCH_READERS, QUEUE);
    p->leaders = workers_new(PREFETCH_TASKS, QUEUE + PREFETCH_KNOWN);
    if (!p->readers || !p->leaders) {
        prefetch_free(p);
        return NULL;
    }
    return p;
}

void prefetch_stop(struct prefetch *p)
{
    if (!p)
        return;
    atomic_store(&p->is_stopping, true);
    if (p->leaders)
        workers_stop(p->leaders);
    if (p->readers)
        workers_stop(p->readers);
}

void prefetch_free(struct prefetch *p)
{
    if (!p)
        return;
    prefetch_stop(p);
    workers_free(p->leaders);
    workers_free(p->readers);
    for (size_t i = 0; i < p->n; i++)
        free(p->tasks[i]);
    cond_release(&p->moved);
    lock_release(&p->lock);
    free(p);
}

/* ---- Circumstances ---- */

struct prefetch_io {
    struct plt_io io; /* first */
    struct prefetch *p;
    struct task *task; /* or NULL */
};

static bool is_cancelled(const struct plt_io *io)
{
    const struct prefetch_io *const x = (const struct prefetch_io *)io;
    return atomic_load_explicit(&x->p->is_stopping, memory_order_relaxed) ||
           (x->task &&
            atomic_load_explicit(&x->task->is_cancelled, memory_order_relaxed));
}

static void charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    struct prefetch_io *const x = (struct prefetch_io *)io;

    (void)atomic_fetch_add(&x->p->origin_bytes, bytes);
    (void)atomic_fetch_add(&x->p->origin_requests, requests);
    if (x->task) {
        (void)atomic_fetch_add(&x->task->origin_bytes, bytes);
        (void)atomic_fetch_add(&x->task->origin_requests, requests);
    }
}

static struct prefetch_io make_io(struct prefetch *p, struct task *task,
                                  uint32_t flags)
{
    return (struct prefetch_io){
        .io = {.struct_size = (uint32_t)sizeof(struct plt_io),
               .flags = PLT_IO_BACKGROUND | flags,
               .deadline_ns = clock_after_ms(DEADLINE_MS),
               .cancelled = is_cancelled,
               .charge = charge},
        .p = p,
        .task = task};
}

/* Some stretches, read at once and thrown away. */
struct batch {
    struct prefetch *p;
    struct image *image;
    struct task *task; /* or NULL */
    size_t n, len;
    struct plt_seg segs[BATCH_SEGS];
};

static enum plt_status read_batch(struct batch *b, bool *is_there,
                                  struct plt_error *err)
{
    struct prefetch_io now = make_io(b->p, b->task, PLT_IO_NOWAIT);
    struct prefetch_io io = make_io(b->p, b->task, 0);
    enum plt_status st = PLT_NOMEM;

    uint8_t *const buf =
        cache_mem_take(b->p->cache, b->len) ? malloc(b->len) : NULL;
    *is_there = false;
    if (!buf)
        return plt_fail(err, PLT_NOMEM, "memory to read ahead");
    for (size_t i = 0, at = 0; i < b->n; at += b->segs[i++].len)
        b->segs[i].buf = buf + at;
    st = image_read(b->image, &now.io, b->segs, b->n, err);
    *is_there = st == PLT_OK;
    if (st == PLT_AGAIN)
        st = image_read(b->image, &io.io, b->segs, b->n, err);
    free(buf);
    cache_mem_give(b->p->cache, b->len);
    return st;
}

/* ---- Ahead of streams ---- */

/* A plan, read piece by piece on one thread: below, several pieces at a time
 * would look like several readers, each of which is read ahead of again.  The
 * next plan comes when the stream is half through this one, so that two cores
 * decode. */
struct ahead {
    struct prefetch *p;
    struct image *image;
    struct readahead *ra; /* the image's */
    uint64_t client;
    struct readahead_plan plan;
};

/* The piece that begins `at` bytes into the plan.  How long it is. */
static uint64_t cut_piece(const struct readahead_plan *plan, uint64_t at,
                          struct batch *b)
{
    b->n = b->len = 0;
    while (b->len < PIECE && b->n < BATCH_SEGS && at < plan->n * plan->len) {
        const uint64_t in = at % plan->len, left = plan->len - in;
        const size_t room = PIECE - b->len;
        const size_t len = left < room ? (size_t)left : room;
        b->segs[b->n++] = (struct plt_seg){
            plan->off + at / plan->len * plan->stride + in, len, NULL};
        b->len += len;
        at += len;
    }
    return b->len;
}

static void ahead_job(void *cookie)
{
    struct ahead *const a = (struct ahead *)cookie;
    struct prefetch *const p = a->p;
    struct batch b = {.p = p, .image = a->image};
    const uint64_t all = a->plan.n * a->plan.len;
    struct plt_error err;
    enum plt_status st = PLT_OK;

    for (uint64_t at = 0; at < all && st == PLT_OK;) {
        bool is_there = false;
        at += cut_piece(&a->plan, at, &b);
        st = atomic_load(&p->is_stopping) || cache_is_tight(p->cache)
                 ? PLT_CANCELLED
                 : read_batch(&b, &is_there, &err);
        if (is_there) {
            readahead_needless(a->ra, a->client);
            break;
        }
        if (st == PLT_OK)
            (void)atomic_fetch_add(&p->ahead_bytes, b.len);
    }
    if (st != PLT_OK)
        (void)atomic_fetch_add(&p->given_up, 1);
    image_unref(a->image);
    free(a);
}

void prefetch_ahead(struct prefetch *p, struct image *image,
                    struct readahead *ra, uint64_t client,
                    const struct readahead_plan *plan)
{
    struct ahead *a;

    (void)atomic_fetch_add(&p->used_bytes, plan->used);
    if (!plan->n)
        return;
    a = malloc(sizeof(*a));
    if (a) {
        *a = (struct ahead){p, image, ra, client, *plan};
        image_ref(image);
        if (workers_submit(p->readers, ahead_job, a))
            return;
        image_unref(image);
        free(a);
    }
    (void)atomic_fetch_add(&p->given_up, 1);
}

/* ---- Tasks ---- */

static bool is_over(const struct task *t)
{
    return t->state > TASK_RUNNING;
}

static void end_locked(struct task *t, enum task_state state, const char *why)
    LOCK_HELD(&t->p->lock);
static void end_locked(struct task *t, enum task_state state, const char *why)
{
    if (is_over(t))
        return;
    t->state = state;
    t->ended_ns = clock_now();
    (void)snprintf(t->why, sizeof(t->why), "%s", why);
}

static void end(struct task *t, enum task_state state, const char *why)
{
    lock_take(&t->p->lock);
    end_locked(t, state, why);
    lock_give(&t->p->lock);
}

static void batch_job(void *cookie)
{
    struct batch *const b = (struct batch *)cookie;
    struct prefetch *const p = b->p;
    struct plt_error err;
    bool is_there;
    const enum plt_status st = read_batch(b, &is_there, &err);

    if (st == PLT_OK && !is_there)
        (void)atomic_fetch_add(&p->task_bytes, b->len);
    else if (st != PLT_OK)
        (void)atomic_fetch_add(&p->given_up, 1);
    lock_take(&p->lock);
    if (st == PLT_OK)
        b->task->done += b->len;
    else if (st == PLT_NOMEM || st == PLT_BUSY || st == PLT_CHANGED)
        end_locked(b->task, TASK_STOPPED, plt_status_text(st));
    else if (st != PLT_CANCELLED)
        end_locked(b->task, TASK_FAILED, plt_status_text(st));
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
    while (!is_over(t) &&
           t->n_running >= (t->kind != PREFETCH_TRACE && image_waiting(t->image)
                                ? 1U
                                : (unsigned)IN_FLIGHT))
        (void)cond_wait(&p->moved, &p->lock, clock_after_ms(250));
    const bool goes_on = !is_over(t);
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
    if (b) {
        t->taken += b->len;
        return true;
    }
    lock_take(&p->lock);
    t->n_running--;
    end_locked(t, TASK_STOPPED, "memory is short");
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
        if ((b->len == BATCH || b->n == BATCH_SEGS) && !flush(t, b))
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
        struct prefetch_io io = make_io(t->p, t, 0);
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
    if (!is_over(t))
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
    end_locked(t, goes_on ? TASK_COMPLETE : TASK_STOPPED,
               goes_on ? "" : "memory is short");
    struct image *const image = t->image;
    t->image = NULL; /* who looks at the table may free it from here on */
    free(t->spans);
    t->spans = NULL;
    lock_give(&p->lock);
    image_unref(image);
}

/* A place in the table: the oldest task that is over goes. */
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
    return p->n < PREFETCH_KNOWN;
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
    return plt_fail(err, PLT_BUSY, "%d prefetches wait already",
                    PREFETCH_KNOWN);
}

json_t *prefetch_json(struct prefetch *p, const char *etag)
{
    json_t *out = NULL;

    lock_take(&p->lock);
    const struct task *const t = find_locked(p, etag);
    if (t) {
        const uint64_t until = is_over(t) ? t->ended_ns : clock_now();
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
    const bool is_found = t && !is_over(t);
    if (is_found)
        atomic_store(&t->is_cancelled, true);
    lock_give(&p->lock);
    return is_found;
}

bool prefetch_later(struct prefetch *p, void (*fn)(void *cookie), void *cookie)
{
    return workers_submit(p->leaders, fn, cookie);
}

void prefetch_stats(struct prefetch *p, struct prefetch_stats *out)
{
    *out = (struct prefetch_stats){
        .ahead_bytes = atomic_load(&p->ahead_bytes),
        .used_bytes = atomic_load(&p->used_bytes),
        .task_bytes = atomic_load(&p->task_bytes),
        .given_up = atomic_load(&p->given_up),
        .origin_bytes = atomic_load(&p->origin_bytes),
        .origin_requests = atomic_load(&p->origin_requests)};
    lock_take(&p->lock);
    for (size_t i = 0; i < p->n; i++)
        out->running += !is_over(p->tasks[i]);
    lock_give(&p->lock);
}
