/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache's only writer: takes blocks from the queue, writes records,
 * makes room, and brings the index to its file each second. */
#include <stdlib.h>

#include "cache/disk_cache_inside.h"
#include "util/clock.h"

enum {
    FLUSH_MS = 1000,     /* what a kill loses of the index, at most */
    DRAIN_MS = 2000,     /* at the end, for the queue */
    MAX_SURVIVORS = 4096 /* of one segment; 64 MiB in blocks of 16 KiB */
};

void disk_cache_count(struct disk_cache *dc)
{
    const uint32_t used = disk_segments_used(&dc->segments);

    atomic_store(&dc->bytes,
                 dc->index_bytes + used * dc->segments.segment_bytes);
}

/* Segments of which most was hit stay as they are, as the newest, and have to
 * be hit again.  All were once at most: then the oldest is not. */
static int spare(struct disk_cache *dc)
{
    struct disk_segments *const s = &dc->segments;
    uint64_t n, n_hit;

    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t segment = disk_segments_next(s);
        const uint64_t from = segment * s->segment_bytes;
        if (!disk_segments_at(s, from))
            return 0;
        disk_index_count(&dc->index, from, from + s->segment_bytes, &n, &n_hit);
        if (n_hit <= n / 2)
            return 0;
        const int sys = disk_segments_renew(s, segment);
        if (sys)
            return sys;
        disk_index_renew(&dc->index, from, from + s->segment_bytes,
                         disk_segments_at(s, from));
    }
    return 0;
}

/* Fill the oldest segment again.  Its blocks that were hit are written to its
 * beginning, in the order they have in it: nothing that is still to be moved is
 * written over. */
static int refill(struct disk_cache *dc, struct disk_place *kept, size_t cap)
{
    struct disk_segments *const s = &dc->segments;
    const uint32_t segment = disk_segments_next(s);
    const uint64_t from = segment * s->segment_bytes;
    uint64_t evicted = 0, pos;

    if (disk_segments_at(s, from))
        atomic_store(&dc->is_full, true);
    const size_t n = disk_index_sweep(&dc->index, from, from + s->segment_bytes,
                                      kept, cap, &evicted);
    int sys = disk_segments_begin(s, segment);
    for (size_t i = 0; i < n; i++) {
        pos = 0;
        if (!sys)
            sys = disk_segments_move(s, kept[i].pos,
                                     from + s->segment_bytes / 2, &pos);
        if (pos) {
            disk_index_move(&dc->index, &kept[i], pos,
                            disk_segments_at(s, pos));
        } else {
            disk_index_clear(&dc->index, &kept[i]);
            evicted++;
        }
    }
    (void)atomic_fetch_add(&dc->evicted, evicted);
    disk_cache_count(dc);
    return sys;
}

/* Without memory for it, nothing is kept of the segment. */
static int next_segment(struct disk_cache *dc)
{
    const uint64_t memory =
        DISK_BLOCK_MOST + MAX_SURVIVORS * sizeof(struct disk_place);
    const bool has_memory = cache_mem_take(dc->cache, memory);
    struct disk_place *const kept =
        has_memory ? malloc(MAX_SURVIVORS * sizeof(*kept)) : NULL;
    int sys = spare(dc);

    if (!sys)
        sys = refill(dc, kept, kept ? MAX_SURVIVORS : 0);
    free(kept);
    if (has_memory)
        cache_mem_give(dc->cache, memory);
    return sys;
}

/* Slots that lead nowhere, of an older index or a damaged one, go first. */
static void tidy(struct disk_cache *dc, uint64_t hash)
{
    struct disk_place all[DISK_BUCKET];
    const size_t n = disk_index_bucket(&dc->index, hash, all);

    for (size_t i = 0; i < n; i++) {
        if (!disk_cache_is_current(dc, &all[i]))
            disk_index_clear(&dc->index, &all[i]);
    }
}

/* 0 or an errno. */
static int write_item(struct disk_cache *dc, const struct disk_item *item)
{
    struct disk_segments *const s = &dc->segments;
    struct disk_place found[DISK_BUCKET];
    const size_t len = item->block->len;
    uint64_t pos = 0;
    int sys = 0;

    if (disk_cache_find(dc, item->hash, true, found))
        return 0; /* written meanwhile, or by an earlier run */
    if (!disk_segments_fits(s, len))
        sys = next_segment(dc);
    if (!sys && disk_segments_fits(s, len))
        sys =
            disk_segments_append(s, &item->name, item->block->data, len, &pos);
    if (!pos)
        return sys;
    tidy(dc, item->hash);
    if (disk_index_put(&dc->index, item->hash, pos, disk_segments_at(s, pos)))
        (void)atomic_fetch_add(&dc->evicted, 1);
    (void)atomic_fetch_add(&dc->writes, 1);
    return 0;
}

static void flush(struct disk_cache *dc)
{
    if (!atomic_load(&dc->is_on))
        return;
    const int sys = disk_index_flush(&dc->index);
    if (sys)
        disk_cache_off(dc, "cannot write the index", sys);
    else if (!disk_cache_files_stand(dc))
        disk_cache_off(dc, "the files were deleted", 0);
}

/* The next block, or NULL when there is nothing to do before `until`. */
static bool take_locked(struct disk_cache *dc, struct disk_item *item,
                        uint64_t until)
{
    dc->is_busy = false;
    cond_wake_all(&dc->changed);
    while (!dc->n_queued && !dc->is_stopping) {
        if (!cond_wait(&dc->changed, &dc->lock, until))
            return false;
    }
    if (!dc->n_queued)
        return false;
    *item = dc->queue[dc->first];
    dc->first = (dc->first + 1) % DISK_QUEUE;
    dc->n_queued--;
    dc->queued_bytes -= item->block->len;
    dc->is_busy = true;
    return true;
}

void *disk_cache_write(void *arg)
{
    struct disk_cache *const dc = (struct disk_cache *)arg;
    uint64_t due = clock_after_ms(FLUSH_MS), end = CLOCK_NEVER;
    struct disk_item item;

    for (;;) {
        lock_take(&dc->lock);
        const bool has_item = take_locked(dc, &item, due);
        const bool is_stopping = dc->is_stopping;
        lock_give(&dc->lock);
        if (is_stopping && end == CLOCK_NEVER)
            end = clock_after_ms(DRAIN_MS);
        if (has_item) {
            const bool is_wanted = atomic_load(&dc->is_on) && clock_now() < end;
            const int sys = is_wanted ? write_item(dc, &item) : 0;
            cache_unref(dc->cache, item.block);
            if (sys)
                disk_cache_off(dc, "cannot write", sys);
        }
        if (clock_now() >= due || (is_stopping && !has_item)) {
            flush(dc);
            due = clock_after_ms(FLUSH_MS);
        }
        if (is_stopping && !has_item)
            return NULL;
    }
}
