/* SPDX-License-Identifier: Apache-2.0 */
/* A stretch of a disk, read by several threads, handed on in order.
 *
 *     readers:  claim the next piece -> wanted? -> zeros? -> read -> prepare
 *               -> READY
 *     caller:   wait for the piece whose turn it is -> take -> FREE
 *
 * Slots are a ring: piece i lies in slot i % n, so that nobody reads further
 * ahead than the ring is long.  Which pieces are zeros is asked in strides of
 * up to 1 GiB and remembered, so that a large hole costs one question.
 *
 * Lock: `lock` guards everything that changes; no call out is made with it. */
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "stack/image_inside.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    MAX_THREADS = 16,
    MAX_HELD = 64 << 20, /* bytes of a ring */
    MAX_SEGS = 64        /* stretches of data in one piece */
};

static const uint64_t stride = UINT64_C(1) << 30;

enum slot_state { SLOT_FREE, SLOT_BUSY, SLOT_READY };

struct slot {
    enum slot_state state;
    uint8_t *buf;
    struct image_piece piece;
};

struct run {
    struct image *image;
    struct plt_io *asker;
    const struct image_pump *pump;
    struct lock lock;
    struct cond moved;
    struct slot slots[2 * MAX_THREADS];
    unsigned n_slots;
    uint64_t n_pieces, next, turn; /* to be claimed, to be taken */
    uint64_t zero_from, zero_to;   /* known zeros of the disk */
    bool is_over;
    struct plt_error err; /* status OK: none */
};

/* The asker's circumstances with a deadline for each read. */
struct pump_io {
    struct plt_io io; /* first */
    struct run *run;
};

static bool is_cancelled(const struct plt_io *io)
{
    struct run *const run = ((const struct pump_io *)io)->run;

    lock_take(&run->lock);
    const bool is_over = run->is_over;
    lock_give(&run->lock);
    return is_over || run->asker->cancelled(run->asker);
}

static void charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    struct run *const run = ((struct pump_io *)io)->run;
    run->asker->charge(run->asker, bytes, requests);
}

static struct pump_io make_io(struct run *run)
{
    return (struct pump_io){
        .io = {.struct_size = (uint32_t)sizeof(struct plt_io),
               .flags = run->asker->flags,
               .deadline_ns = run->pump->wait_ms
                                  ? clock_after_ms(run->pump->wait_ms)
                                  : run->asker->deadline_ns,
               .cancelled = is_cancelled,
               .charge = charge},
        .run = run};
}

/* What of a piece is data. */
struct layout {
    uint64_t end; /* of the piece */
    struct plt_seg segs[MAX_SEGS];
    size_t n;
    uint8_t *buf;
    uint64_t off;
    uint64_t zeros_to; /* all is zeros up to here */
    bool is_mixed;     /* data was seen */
};

static bool take_extent(void *cookie, const struct plt_extent *x)
{
    struct layout *const l = (struct layout *)cookie;
    const bool is_zero = x->flags & PLT_EXTENT_ZERO;

    if (is_zero && !l->is_mixed)
        l->zeros_to = x->off + x->len;
    if (x->off >= l->end)
        return is_zero && !l->is_mixed;
    if (is_zero)
        return true;
    l->is_mixed = true;
    const uint64_t end = x->off + x->len < l->end ? x->off + x->len : l->end;
    struct plt_seg *const last = l->n ? &l->segs[l->n - 1] : NULL;
    /* Neighbours are one stretch, and so is what no longer has a place. */
    if (last && (last->off + last->len == x->off || l->n == MAX_SEGS)) {
        last->len = (size_t)(end - last->off);
        return true;
    }
    l->segs[l->n++] = (struct plt_seg){x->off, (size_t)(end - x->off),
                                       l->buf + (x->off - l->off)};
    return true;
}

/* Fill one piece.  Zeros of its own: piece->data is NULL. */
static enum plt_status read_piece(struct run *run, struct slot *slot,
                                  struct plt_error *err)
{
    struct pump_io io = make_io(run);
    struct image_piece *const p = &slot->piece;
    const uint64_t end = run->pump->off + run->pump->len;
    const uint64_t ahead = end - p->off < stride ? end - p->off : stride;
    struct layout l = {.end = p->off + p->len, .buf = slot->buf, .off = p->off};

    enum plt_status st =
        image_extents(run->image, &io.io, p->off, ahead, take_extent, &l, err);
    if (st != PLT_OK)
        return st;
    if (!l.is_mixed && l.zeros_to >= l.end) {
        p->data = NULL;
        lock_take(&run->lock);
        if (l.zeros_to > run->zero_to) {
            run->zero_from = p->off;
            run->zero_to = l.zeros_to;
        }
        lock_give(&run->lock);
        return PLT_OK;
    }
    /* Zeros between the stretches of data are ours to write. */
    uint64_t at = p->off;
    for (size_t i = 0; i < l.n; i++) {
        memset(slot->buf + (at - p->off), 0, (size_t)(l.segs[i].off - at));
        at = l.segs[i].off + l.segs[i].len;
    }
    memset(slot->buf + (at - p->off), 0, (size_t)(l.end - at));
    p->data = slot->buf;
    return image_read(run->image, &io.io, l.segs, l.n, err);
}

/* The next piece, in a slot of its own; NULL: no more for anybody. */
static struct slot *claim_locked(struct run *run) LOCK_HELD(&run->lock);
static struct slot *claim_locked(struct run *run)
{
    const struct image_pump *const pump = run->pump;
    struct slot *slot;

    for (;;) {
        if (run->is_over || run->next == run->n_pieces)
            return NULL;
        slot = &run->slots[run->next % run->n_slots];
        if (slot->state == SLOT_FREE)
            break;
        (void)cond_wait(&run->moved, &run->lock, CLOCK_NEVER);
    }
    /* Pieces end at multiples of their length. */
    const uint64_t first = pump->off / pump->piece;
    const uint64_t from = (first + run->next) * pump->piece;
    const uint64_t end = pump->off + pump->len, to = from + pump->piece;
    run->next++;
    slot->state = SLOT_BUSY;
    slot->piece.off = from > pump->off ? from : pump->off;
    slot->piece.len = (size_t)((to < end ? to : end) - slot->piece.off);
    return slot;
}

static void *reader(void *arg)
{
    struct run *const run = (struct run *)arg;
    struct slot *slot;

    lock_take(&run->lock);
    while ((slot = claim_locked(run))) {
        struct image_piece *const p = &slot->piece;
        struct plt_error err = {.status = PLT_OK, .at = PLT_AT_NONE};
        enum plt_status st = PLT_OK;
        const bool is_zero =
            p->off >= run->zero_from && p->off + p->len <= run->zero_to;
        lock_give(&run->lock);
        p->data = NULL;
        p->is_skipped = run->pump->wants &&
                        !run->pump->wants(run->pump->cookie, p->off, p->len);
        if (!is_zero && !p->is_skipped)
            st = read_piece(run, slot, &err);
        if (st == PLT_OK && run->pump->prepare && !p->is_skipped)
            run->pump->prepare(run->pump->cookie, p);
        lock_take(&run->lock);
        if (st != PLT_OK && !run->is_over) {
            run->is_over = true;
            run->err = err;
        }
        slot->state = SLOT_READY;
        cond_wake_all(&run->moved);
    }
    lock_give(&run->lock);
    return NULL;
}

/* Hand on, until the end or the first failure. */
static enum plt_status deliver(struct run *run, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    lock_take(&run->lock);
    while (st == PLT_OK && run->turn < run->n_pieces) {
        struct slot *const slot = &run->slots[run->turn % run->n_slots];
        if (run->is_over) {
            *err = run->err;
            st = run->err.status;
            break;
        }
        if (slot->state != SLOT_READY) {
            const bool is_late =
                !cond_wait(&run->moved, &run->lock, clock_after_ms(250));
            lock_give(&run->lock);
            if (is_late && run->asker->cancelled(run->asker))
                st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
            lock_take(&run->lock);
            continue;
        }
        lock_give(&run->lock);
        st = run->pump->take(run->pump->cookie, &slot->piece, err);
        if (st == PLT_OK && run->asker->cancelled(run->asker))
            st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
        lock_take(&run->lock);
        slot->state = SLOT_FREE;
        run->turn++;
        cond_wake_all(&run->moved);
    }
    run->is_over = true;
    cond_wake_all(&run->moved);
    lock_give(&run->lock);
    return st;
}

static enum plt_status run_threads(struct run *run, unsigned n_threads,
                                   struct plt_error *err)
{
    pthread_t threads[MAX_THREADS];
    pthread_attr_t attr;
    unsigned n = 0;
    enum plt_status st;

    ASSERT(pthread_attr_init(&attr) == 0);
    (void)pthread_attr_setstacksize(&attr, 2 << 20);
    while (n < n_threads &&
           pthread_create(&threads[n], &attr, reader, run) == 0)
        n++;
    (void)pthread_attr_destroy(&attr);
    st = n ? deliver(run, err) : plt_fail(err, PLT_BUSY, "no thread to read");
    while (n)
        ASSERT(pthread_join(threads[--n], NULL) == 0);
    return st;
}

enum plt_status image_pump(struct image *image, struct plt_io *io,
                           const struct image_pump *pump, struct plt_error *err)
{
    enum { DEFAULT_THREADS = 4 };
    const uint64_t size = image_size(image);
    unsigned threads = pump->threads ? pump->threads : DEFAULT_THREADS;
    enum plt_status st = PLT_OK;

    ASSERT(pump->piece && pump->piece <= IMAGE_BLOCK_MAX);
    ASSERT(pump->off <= size && pump->len <= size - pump->off);
    if (!pump->len)
        return PLT_OK;
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    while (threads > 1 && 2 * threads * (uint64_t)pump->piece > MAX_HELD)
        threads--;
    AUTO_FREE struct run *run = calloc(1, sizeof(*run));
    uint64_t held = 2 * threads * (uint64_t)pump->piece;
    bool has_memory = run && cache_mem_take(image_cache(image), held);
    /* With little memory: slower, rather than not at all. */
    while (run && !has_memory && threads > 1) {
        threads /= 2;
        held = 2 * threads * (uint64_t)pump->piece;
        has_memory = cache_mem_take(image_cache(image), held);
    }
    if (!has_memory)
        return plt_fail(err, PLT_NOMEM, "memory to read ahead");
    run->image = image;
    run->asker = io;
    run->pump = pump;
    run->n_slots = 2 * threads;
    run->n_pieces =
        (pump->off + pump->len - 1) / pump->piece - pump->off / pump->piece + 1;
    run->err.status = PLT_OK;
    lock_init(&run->lock);
    cond_init(&run->moved);
    for (unsigned i = 0; i < run->n_slots; i++) {
        run->slots[i].buf = malloc(pump->piece);
        if (!run->slots[i].buf)
            st = plt_fail(err, PLT_NOMEM, "memory to read ahead");
    }
    if (st == PLT_OK)
        st = run_threads(run, threads, err);
    for (unsigned i = 0; i < run->n_slots; i++)
        free(run->slots[i].buf);
    cond_release(&run->moved);
    lock_release(&run->lock);
    cache_mem_give(image_cache(image), held);
    return st;
}
