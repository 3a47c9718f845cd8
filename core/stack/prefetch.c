/* SPDX-License-Identifier: Apache-2.0 */
/* The threads, and what is read ahead of streams. */
#include <stdlib.h>

#include "stack/prefetch_inside.h"
#include "util/clock.h"

enum {
    PIECE = 192 * 1024, /* of a plan: three blocks of a remote source, and below
                           what malloc asks the kernel for each time */
    QUEUE = 64,
    DEADLINE_MS = 30000
};

struct prefetch *prefetch_new(struct cache *cache, uint64_t limit,
                              unsigned most)
{
    struct prefetch *const p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->cache = cache;
    p->limit = limit;
    p->most = most < PREFETCH_KNOWN ? most : PREFETCH_KNOWN;
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

struct prefetch_io prefetch_io_make(struct prefetch *p, struct task *task,
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

enum plt_status prefetch_read(struct batch *b, bool *is_there,
                              struct plt_error *err)
{
    struct prefetch_io now = prefetch_io_make(b->p, b->task, PLT_IO_NOWAIT);
    struct prefetch_io io = prefetch_io_make(b->p, b->task, 0);
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
 * would look like several readers, each of which is read ahead of again. */
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
    while (b->len < PIECE && b->n < PREFETCH_SEGS && at < plan->n * plan->len) {
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
                 : prefetch_read(&b, &is_there, &err);
        if (is_there) {
            readahead_needless(a->ra, a->client);
            break;
        }
        if (st == PLT_OK)
            (void)atomic_fetch_add(&p->ahead_bytes, b.len);
    }
    if (st != PLT_OK)
        (void)atomic_fetch_add(&p->given_up, 1);
    readahead_done(a->ra, &a->plan);
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
    readahead_done(ra, plan);
    (void)atomic_fetch_add(&p->given_up, 1);
}

/* ---- Others ---- */

bool prefetch_later(struct prefetch *p, void (*fn)(void *cookie), void *cookie)
{
    return workers_submit(p->readers, fn, cookie);
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
        out->running += !prefetch_is_over(p->tasks[i]);
    lock_give(&p->lock);
}
