/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/disk_index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <platter/bytes.h>

enum {
    PAGE_SLOTS = DISK_INDEX_PAGE / 8,
    PLACE_BITS = 36,
    HIT_BIT = PLACE_BITS + DISK_GENERATION_BITS,
    TAG_BIT = HIT_BIT + 1
};

#define HIT (UINT64_C(1) << HIT_BIT)
#define PLACE_MASK ((UINT64_C(1) << PLACE_BITS) - 1)
#define GENERATION_MASK ((1U << DISK_GENERATION_BITS) - 1)

static_assert(DISK_MOST / DISK_UNIT == UINT64_C(1) << PLACE_BITS,
              "a slot names every place");

static uint64_t n_pages(uint64_t n_slots)
{
    return n_slots / PAGE_SLOTS;
}

uint64_t disk_index_memory(uint64_t n_slots)
{
    return n_slots * 8 + n_pages(n_slots) * 2 * sizeof(atomic_bool);
}

bool disk_index_init(struct disk_index *ix, int fd, uint64_t off,
                     uint64_t n_slots)
{
    ASSERT(n_slots && n_slots % PAGE_SLOTS == 0);
    *ix = (struct disk_index){.fd = fd, .off = off, .n_slots = n_slots};
    lock_init(&ix->lock);
    ix->slots = calloc(n_slots, sizeof(*ix->slots));
    ix->loaded = calloc(n_pages(n_slots), sizeof(*ix->loaded));
    ix->dirty = calloc(n_pages(n_slots), sizeof(*ix->dirty));
    return ix->slots && ix->loaded && ix->dirty;
}

void disk_index_release(struct disk_index *ix)
{
    free(ix->slots);
    free(ix->loaded);
    free(ix->dirty);
    ix->slots = NULL;
    lock_release(&ix->lock);
}

/* A page that cannot be read is an empty one. */
static void load_locked(struct disk_index *ix, size_t page)
{
    uint8_t bytes[DISK_INDEX_PAGE] = {0};
    const ssize_t got =
        pread(ix->fd, bytes, sizeof(bytes),
              (off_t)(ix->off + (uint64_t)page * DISK_INDEX_PAGE));

    for (size_t i = 0; got > 0 && i < (size_t)got / 8; i++)
        atomic_store_explicit(&ix->slots[page * PAGE_SLOTS + i],
                              plt_le64(bytes + i * 8), memory_order_relaxed);
    /* release: pairs with is_loaded() */
    atomic_store_explicit(&ix->loaded[page], true, memory_order_release);
}

static bool is_loaded(struct disk_index *ix, size_t page, bool may_wait)
{
    if (atomic_load_explicit(&ix->loaded[page], memory_order_acquire))
        return true;
    if (!may_wait)
        return false;
    lock_take(&ix->lock);
    if (!atomic_load_explicit(&ix->loaded[page], memory_order_relaxed))
        load_locked(ix, page);
    lock_give(&ix->lock);
    return true;
}

/* ---- Slots ---- */

static uint64_t make_slot(uint64_t tag, uint64_t pos, uint64_t generation)
{
    return tag << TAG_BIT | (generation & GENERATION_MASK) << PLACE_BITS |
           pos / DISK_UNIT;
}

static uint64_t tag_of(uint64_t hash)
{
    return hash >> TAG_BIT;
}

static size_t bucket_of(const struct disk_index *ix, uint64_t hash)
{
    return (size_t)(hash % (ix->n_slots / DISK_BUCKET)) * DISK_BUCKET;
}

static struct disk_place place_of(size_t at, uint64_t slot)
{
    return (struct disk_place){.slot = slot,
                               .at = at,
                               .pos = (slot & PLACE_MASK) * DISK_UNIT,
                               .generation = (unsigned)(slot >> PLACE_BITS) &
                                             GENERATION_MASK,
                               .is_hit = (slot & HIT) != 0};
}

static uint64_t get(struct disk_index *ix, size_t at)
{
    return atomic_load_explicit(&ix->slots[at], memory_order_relaxed);
}

static void soil(struct disk_index *ix, size_t at)
{
    atomic_store_explicit(&ix->dirty[at / PAGE_SLOTS], true,
                          memory_order_relaxed);
}

size_t disk_index_find(struct disk_index *ix, uint64_t hash, bool may_wait,
                       struct disk_place *out)
{
    const size_t from = bucket_of(ix, hash);
    size_t n = 0;

    if (!is_loaded(ix, from / PAGE_SLOTS, may_wait))
        return 0;
    for (size_t i = from; i < from + DISK_BUCKET; i++) {
        const uint64_t slot = get(ix, i);
        if ((slot & PLACE_MASK) && slot >> TAG_BIT == tag_of(hash))
            out[n++] = place_of(i, slot);
    }
    return n;
}

size_t disk_index_bucket(struct disk_index *ix, uint64_t hash,
                         struct disk_place *out)
{
    const size_t from = bucket_of(ix, hash);
    size_t n = 0;

    (void)is_loaded(ix, from / PAGE_SLOTS, true);
    for (size_t i = from; i < from + DISK_BUCKET; i++) {
        const uint64_t slot = get(ix, i);
        if (slot)
            out[n++] = place_of(i, slot);
    }
    return n;
}

/* Not written to the file for this alone: it is a matter of taste, and reads
 * would keep the disk busy with it. */
void disk_index_hit(struct disk_index *ix, const struct disk_place *place)
{
    uint64_t was = place->slot;

    if (!place->is_hit)
        (void)atomic_compare_exchange_strong(&ix->slots[place->at], &was,
                                             was | HIT);
}

void disk_index_clear(struct disk_index *ix, const struct disk_place *place)
{
    uint64_t was = place->slot;

    if (!atomic_compare_exchange_strong(&ix->slots[place->at], &was, 0) &&
        (was & ~HIT) == (place->slot & ~HIT))
        (void)atomic_compare_exchange_strong(&ix->slots[place->at], &was, 0);
    soil(ix, place->at);
}

bool disk_index_put(struct disk_index *ix, uint64_t hash, uint64_t pos,
                    uint64_t generation)
{
    const size_t from = bucket_of(ix, hash);
    size_t at = from + ix->turn++ % DISK_BUCKET;
    int best = 0; /* of the place at: 3 the same block, 2 free, 1 not hit */

    (void)is_loaded(ix, from / PAGE_SLOTS, true);
    for (size_t i = from; i < from + DISK_BUCKET; i++) {
        const uint64_t slot = get(ix, i);
        const int good = !slot                             ? 2
                         : slot >> TAG_BIT == tag_of(hash) ? 3
                         : slot & HIT                      ? 0
                                                           : 1;
        if (good > best) {
            best = good;
            at = i;
        }
    }
    atomic_store(&ix->slots[at], make_slot(tag_of(hash), pos, generation));
    soil(ix, at);
    return best < 2;
}

void disk_index_move(struct disk_index *ix, const struct disk_place *place,
                     uint64_t pos, uint64_t generation)
{
    atomic_store(&ix->slots[place->at],
                 make_slot(place->slot >> TAG_BIT, pos, generation));
    soil(ix, place->at);
}

/* ---- All of it ---- */

static int by_pos(const void *a, const void *b)
{
    const uint64_t x = ((const struct disk_place *)a)->pos;
    const uint64_t y = ((const struct disk_place *)b)->pos;

    return (x > y) - (x < y);
}

/* The next slot from *i on that leads into [from, to). */
static bool next_in(struct disk_index *ix, uint64_t from, uint64_t to,
                    size_t *i, struct disk_place *place)
{
    for (; *i < ix->n_slots; ++*i) {
        if (*i % PAGE_SLOTS == 0)
            (void)is_loaded(ix, *i / PAGE_SLOTS, true);
        *place = place_of(*i, get(ix, *i));
        if (place->slot && place->pos >= from && place->pos < to) {
            ++*i;
            return true;
        }
    }
    return false;
}

void disk_index_count(struct disk_index *ix, uint64_t from, uint64_t to,
                      uint64_t *n, uint64_t *n_hit)
{
    struct disk_place place;

    *n = *n_hit = 0;
    for (size_t i = 0; next_in(ix, from, to, &i, &place);) {
        ++*n;
        *n_hit += place.is_hit;
    }
}

void disk_index_renew(struct disk_index *ix, uint64_t from, uint64_t to,
                      uint64_t generation)
{
    struct disk_place place;

    for (size_t i = 0; next_in(ix, from, to, &i, &place);)
        disk_index_move(ix, &place, place.pos, generation);
}

size_t disk_index_sweep(struct disk_index *ix, uint64_t from, uint64_t to,
                        struct disk_place *out, size_t cap, uint64_t *n_cleared)
{
    struct disk_place place;
    size_t n = 0;

    for (size_t i = 0; next_in(ix, from, to, &i, &place);) {
        if (place.is_hit && n < cap) {
            out[n++] = place;
            continue;
        }
        disk_index_clear(ix, &place);
        ++*n_cleared;
    }
    if (n)
        qsort(out, n, sizeof(*out), by_pos);
    return n;
}

int disk_index_flush(struct disk_index *ix)
{
    uint8_t bytes[DISK_INDEX_PAGE];

    for (size_t page = 0; page < n_pages(ix->n_slots); page++) {
        if (!atomic_exchange_explicit(&ix->dirty[page], false,
                                      memory_order_relaxed))
            continue;
        for (size_t i = 0; i < PAGE_SLOTS; i++)
            plt_put_le64(bytes + i * 8, get(ix, page * PAGE_SLOTS + i));
        const ssize_t done =
            pwrite(ix->fd, bytes, sizeof(bytes),
                   (off_t)(ix->off + (uint64_t)page * DISK_INDEX_PAGE));
        if (done != (ssize_t)sizeof(bytes))
            return done < 0 ? errno : ENOSPC;
    }
    return 0;
}
