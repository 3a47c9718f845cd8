/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/disk_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "cache/disk_cache_inside.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    QUEUE_PART = 16,      /* of the budget, held by blocks that wait */
    QUEUE_MOST = 32 << 20 /* bytes of them */
};

uint64_t disk_cache_hash(const struct disk_cache *dc,
                         const struct disk_name *name)
{
    uint64_t h = plt_le64(name->id) ^ name->key * UINT64_C(0x9e3779b97f4a7c15) ^
                 dc->seed;
    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 31;
}

static bool is_on(const struct disk_cache *dc)
{
    return dc && atomic_load_explicit(&dc->is_on, memory_order_relaxed);
}

static void say_off(const char *why, int sys)
{
    struct log_line l;

    log_begin(&l, LOG_WARN, "disk_cache_off");
    log_text(&l, "text", why);
    if (sys)
        log_text(&l, "error", strerror(sys));
    log_end(&l);
}

void disk_cache_off(struct disk_cache *dc, const char *why, int sys)
{
    if (atomic_exchange(&dc->is_on, false))
        say_off(why, sys);
}

/* ---- Layers ---- */

static bool is_among(uint8_t list[][DISK_BARRED_ID], unsigned n,
                     const uint8_t *id)
{
    for (unsigned i = 0; i < n; i++) {
        if (memcmp(list[i], id, DISK_BARRED_ID) == 0)
            return true;
    }
    return false;
}

static unsigned n_changed(const struct disk_bars *b)
{
    return b->n_changed < DISK_CHANGED ? b->n_changed : DISK_CHANGED;
}

/* Of which version its blocks are that are there, nobody knows. */
static bool bar_locked(struct disk_cache *dc, const uint8_t *id)
{
    struct disk_bars *const b = &dc->bars;

    if (b->n_barred == DISK_BARRED)
        return false;
    memcpy(b->barred[b->n_barred++], id, DISK_BARRED_ID);
    return disk_cache_write_bars_locked(dc) == 0;
}

bool disk_cache_admits(struct disk_cache *dc, const uint8_t id[32])
{
    bool is_told = true;

    if (!is_on(dc))
        return false;
    struct disk_bars *const b = &dc->bars;
    lock_take(&b->lock);
    bool is_barred = is_among(b->barred, b->n_barred, id);
    if (!is_barred && is_among(b->changed, n_changed(b), id)) {
        is_barred = true;
        is_told = bar_locked(dc, id);
    }
    lock_give(&b->lock);
    if (!is_told) {
        disk_cache_spoil_files(dc);
        disk_cache_off(dc, "no room for sources that are not to be trusted", 0);
    }
    return !is_barred;
}

void disk_cache_changed(struct disk_cache *dc, const uint8_t id[32])
{
    if (!is_on(dc))
        return;
    struct disk_bars *const b = &dc->bars;
    lock_take(&b->lock);
    if (!is_among(b->changed, n_changed(b), id))
        memcpy(b->changed[b->n_changed++ % DISK_CHANGED], id, DISK_BARRED_ID);
    lock_give(&b->lock);
}

/* ---- Looking up ---- */

bool disk_cache_is_current(const struct disk_cache *dc,
                           const struct disk_place *p)
{
    const uint64_t mask = (1U << DISK_GENERATION_BITS) - 1;

    return disk_segments_hold(&dc->segments, p->pos) &&
           (disk_segments_at(&dc->segments, p->pos) & mask) == p->generation;
}

size_t disk_cache_find(struct disk_cache *dc, uint64_t hash, bool may_wait,
                       struct disk_place *out)
{
    const size_t n = disk_index_find(&dc->index, hash, may_wait, out);
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (disk_cache_is_current(dc, &out[i]))
            out[m++] = out[i];
    }
    return m;
}

bool disk_cache_may_have(struct disk_cache *dc, const struct disk_name *name)
{
    struct disk_place found[DISK_BUCKET];

    /* It is asked by threads that may wait: the page is read if need be. */
    return is_on(dc) &&
           disk_cache_find(dc, disk_cache_hash(dc, name), true, found) != 0;
}

bool disk_cache_get(struct disk_cache *dc, const struct disk_name *name,
                    void *buf, size_t len)
{
    struct disk_place found[DISK_BUCKET];

    if (!is_on(dc))
        return false;
    const size_t n =
        disk_cache_find(dc, disk_cache_hash(dc, name), true, found);
    for (size_t i = 0; i < n; i++) {
        const enum disk_found how =
            disk_segments_read(&dc->segments, found[i].pos, name, buf, len);
        if (how == DISK_FOUND) {
            disk_index_hit(&dc->index, &found[i]);
            (void)atomic_fetch_add_explicit(&dc->hits, 1, memory_order_relaxed);
            return true;
        }
        if (how == DISK_FAILED) {
            disk_cache_off(dc, "cannot read", errno);
            break;
        }
        /* Damaged, or another block with the same tag, which is rare and pays
         * for it: what is not cleared would never be written again. */
        disk_index_clear(&dc->index, &found[i]);
    }
    (void)atomic_fetch_add_explicit(&dc->misses, 1, memory_order_relaxed);
    return false;
}

/* ---- Offers ---- */

/* It was refused before, not long ago; it is remembered otherwise. */
static bool was_refused_locked(struct disk_cache *dc, uint64_t hash)
{
    uint32_t *const ghost = &dc->ghosts[hash % dc->n_ghosts];
    const uint32_t tag = (uint32_t)(hash >> 32) | 1;
    const bool is_same = *ghost == tag;

    *ghost = is_same ? 0 : tag;
    return is_same;
}

static bool is_queued_locked(const struct disk_cache *dc, uint64_t hash)
{
    for (unsigned i = 0; i < dc->n_queued; i++) {
        if (dc->queue[(dc->first + i) % DISK_QUEUE].hash == hash)
            return true;
    }
    return false;
}

static void enqueue_locked(struct disk_cache *dc, const struct disk_name *name,
                           uint64_t hash, struct plt_block *block)
{
    if (is_queued_locked(dc, hash))
        return;
    if (dc->n_queued == DISK_QUEUE ||
        (dc->n_queued && dc->queued_bytes + block->len > dc->queued_most) ||
        dc->is_stopping) {
        dc->dropped++;
        return;
    }
    cache_ref(dc->cache, block);
    dc->queue[(dc->first + dc->n_queued++) % DISK_QUEUE] =
        (struct disk_item){*name, hash, block};
    dc->queued_bytes += block->len;
    cond_wake_all(&dc->changed);
}

static void offer(struct disk_cache *dc, const struct disk_name *name,
                  struct plt_block *block, bool is_again)
{
    struct disk_place found[DISK_BUCKET];

    if (!is_on(dc) || block->len > DISK_BLOCK_MOST)
        return;
    const uint64_t hash = disk_cache_hash(dc, name);
    const size_t n = disk_cache_find(dc, hash, false, found);
    if (n) {
        for (size_t i = 0; is_again && i < n; i++)
            disk_index_hit(&dc->index, &found[i]);
        return;
    }
    lock_take(&dc->lock);
    if (!is_again && atomic_load(&dc->is_full) && !was_refused_locked(dc, hash))
        dc->refused++;
    else
        enqueue_locked(dc, name, hash, block);
    lock_give(&dc->lock);
}

void disk_cache_offer(struct disk_cache *dc, const struct disk_name *name,
                      struct plt_block *block)
{
    offer(dc, name, block, false);
}

void disk_cache_again(struct disk_cache *dc, const struct disk_name *name,
                      struct plt_block *block)
{
    offer(dc, name, block, true);
}

/* ---- Life ---- */

struct disk_cache *disk_cache_open(const struct disk_cache_config *config)
{
    struct disk_cache *const dc = calloc(1, sizeof(*dc));
    struct cache_stats budget;
    const char *why;

    ASSERT(config->limit >= DISK_CACHE_LEAST &&
           config->limit <= DISK_CACHE_MOST);
    if (!dc) {
        say_off("out of memory", 0);
        return NULL;
    }
    dc->cache = config->cache;
    dc->limit = config->limit;
    dc->index_fd = dc->data_fd = -1;
    lock_init(&dc->lock);
    cond_init(&dc->changed);
    lock_init(&dc->bars.lock);
    cache_stats(dc->cache, &budget);
    dc->queued_most = budget.budget / QUEUE_PART;
    if (dc->queued_most > QUEUE_MOST)
        dc->queued_most = QUEUE_MOST;
    atomic_store(&dc->is_on, true);
    why = disk_cache_files(dc, config->dir, config->epoch);
    int sys = errno;
    if (!why) {
        disk_cache_count(dc);
        atomic_store(&dc->is_full,
                     disk_segments_used(&dc->segments) == dc->segments.n);
        sys = pthread_create(&dc->writer, NULL, disk_cache_write, dc);
        dc->has_thread = sys == 0;
        why = sys ? "no thread" : NULL;
    }
    if (why) {
        disk_cache_off(dc, why, sys);
        disk_cache_close(dc);
        return NULL;
    }
    return dc;
}

void disk_cache_close(struct disk_cache *dc)
{
    if (!dc)
        return;
    lock_take(&dc->lock);
    dc->is_stopping = true;
    cond_wake_all(&dc->changed);
    lock_give(&dc->lock);
    if (dc->has_thread)
        ASSERT(pthread_join(dc->writer, NULL) == 0);
    ASSERT(dc->n_queued == 0);
    disk_cache_close_files(dc);
    cond_release(&dc->changed);
    lock_release(&dc->lock);
    lock_release(&dc->bars.lock);
    free(dc);
}

void disk_cache_settle(struct disk_cache *dc)
{
    lock_take(&dc->lock);
    while (dc->n_queued || dc->is_busy)
        (void)cond_wait(&dc->changed, &dc->lock, clock_after_ms(100));
    lock_give(&dc->lock);
}

void disk_cache_stats(struct disk_cache *dc, struct disk_cache_stats *out)
{
    *out = (struct disk_cache_stats){.is_on = is_on(dc)};
    if (!dc)
        return;
    out->hits = atomic_load(&dc->hits);
    out->misses = atomic_load(&dc->misses);
    out->writes = atomic_load(&dc->writes);
    out->evicted = atomic_load(&dc->evicted);
    out->limit = dc->limit;
    out->bytes = atomic_load(&dc->bytes);
    lock_take(&dc->lock);
    out->dropped = dc->dropped;
    out->refused = dc->refused;
    lock_give(&dc->lock);
}
