/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing, linear probing.  What is forgotten leaves a mark of "was
 * there" that keeps the chain together; before an empty slot it is not needed.
 * Places are mapped to slots by multiplication, so that a table has any size:
 * what is read at the start gets one that fits. */
#include "store/store_index.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <platter/bytes.h>

#include "util/check.h"

enum {
    TABLE_LEAST = 64 << 10, /* slots */
    PLACE_BITS = 40
};
#define EMPTY UINT64_C(0)
#define WAS_THERE UINT64_C(1)
#define PLACE_MASK ((UINT64_C(1) << PLACE_BITS) - 1)

__extension__ typedef unsigned __int128 u128;

/* Multiply-shift with a random factor and summand of 128 bits. */
static uint64_t hash_of(const struct store_index *index, const uint8_t *prefix)
{
    const u128 a = (u128)index->key[0] << 64 | index->key[1];
    const u128 b = (u128)index->key[2] << 64 | index->key[3];

    return (uint64_t)((a * plt_le64(prefix) + b) >> 64);
}

static uint64_t home_of(const struct store_table *t, uint64_t hash)
{
    return (uint64_t)(((u128)hash * t->cap) >> 64);
}

static uint64_t tag_of(uint64_t hash)
{
    return hash << PLACE_BITS;
}

static uint64_t next_of(const struct store_table *t, uint64_t i)
{
    return i + 1 == t->cap ? 0 : i + 1;
}

static uint64_t most_of(const struct store_table *t)
{
    return t->cap / 4 * 3;
}

static bool add_table(struct store_index *index, uint64_t cap)
{
    struct store_table *const t = &index->tables[index->n];

    if (index->n == INDEX_TABLES || cap > SIZE_MAX / 8)
        return false;
    *t = (struct store_table){.cap = cap};
    t->slots = calloc((size_t)cap, sizeof(*t->slots));
    t->marks = calloc((size_t)(cap + 63) / 64, sizeof(*t->marks));
    if (!t->slots || !t->marks) {
        free(t->slots);
        free(t->marks);
        return false;
    }
    index->n++;
    return true;
}

bool store_index_init(struct store_index *index, uint64_t leaves)
{
    *index = (struct store_index){.n = 0};
    if (getrandom(index->key, sizeof(index->key), 0) !=
        (ssize_t)sizeof(index->key))
        return false;
    return add_table(index, leaves / 3 * 4 + TABLE_LEAST);
}

void store_index_release(struct store_index *index)
{
    for (size_t i = 0; i < index->n; i++) {
        free(index->tables[i].slots);
        free(index->tables[i].marks);
    }
    index->n = 0;
}

uint64_t store_index_memory(const struct store_index *index)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < index->n; i++)
        bytes += index->tables[i].cap * 8 + (index->tables[i].cap + 63) / 8;
    return bytes;
}

bool store_index_reserve(struct store_index *index, size_t n)
{
    const struct store_table *const last = &index->tables[index->n - 1];
    uint64_t cap = 0;

    if (last->filled + n <= most_of(last))
        return true;
    for (size_t i = 0; i < index->n; i++)
        cap += index->tables[i].cap;
    return add_table(index, cap);
}

static void mark(struct store_table *t, uint64_t i)
{
    t->marks[i / 64] |= UINT64_C(1) << i % 64;
}

static bool is_marked(const struct store_table *t, uint64_t i)
{
    return t->marks[i / 64] >> i % 64 & 1;
}

static bool put_in(struct store_table *t, uint64_t hash, uint64_t place)
{
    uint64_t i = home_of(t, hash);

    while (t->slots[i] > WAS_THERE)
        i = next_of(t, i);
    if (t->slots[i] == EMPTY) {
        if (t->filled >= most_of(t))
            return false;
        t->filled++;
    }
    t->slots[i] = tag_of(hash) | place;
    t->used++;
    mark(t, i);
    return true;
}

void store_index_put(struct store_index *index, const uint8_t *prefix,
                     uint64_t place)
{
    const uint64_t hash = hash_of(index, prefix);
    bool is_put = false;

    ASSERT(place > WAS_THERE && place <= PLACE_MASK);
    for (size_t i = 0; i < index->n && !is_put; i++)
        is_put = put_in(&index->tables[i], hash, place);
    ASSERT(is_put);
    index->used++;
}

size_t store_index_find(const struct store_index *index, const uint8_t *prefix,
                        uint64_t *places)
{
    const uint64_t hash = hash_of(index, prefix);
    size_t n = 0;

    for (size_t k = 0; k < index->n; k++) {
        const struct store_table *const t = &index->tables[k];
        for (uint64_t i = home_of(t, hash); t->slots[i] != EMPTY;
             i = next_of(t, i)) {
            if (t->slots[i] != WAS_THERE && n < INDEX_FOUND &&
                (t->slots[i] & ~PLACE_MASK) == tag_of(hash))
                places[n++] = t->slots[i] & PLACE_MASK;
        }
    }
    return n;
}

/* The table and the slot of a hint; NULL: none. */
static struct store_table *find_one(const struct store_index *index,
                                    const uint8_t *prefix, uint64_t place,
                                    uint64_t *slot)
{
    const uint64_t hash = hash_of(index, prefix);

    for (size_t k = 0; k < index->n; k++) {
        const struct store_table *const t = &index->tables[k];
        for (uint64_t i = home_of(t, hash); t->slots[i] != EMPTY;
             i = next_of(t, i)) {
            if (t->slots[i] == (tag_of(hash) | place)) {
                *slot = i;
                return (struct store_table *)(uintptr_t)t;
            }
        }
    }
    return NULL;
}

bool store_index_has(const struct store_index *index, const uint8_t *prefix,
                     uint64_t place)
{
    uint64_t i;
    return find_one(index, prefix, place, &i);
}

bool store_index_keep(struct store_index *index, const uint8_t *prefix,
                      uint64_t place)
{
    uint64_t i;
    struct store_table *const t = find_one(index, prefix, place, &i);

    if (t)
        mark(t, i);
    return t;
}

bool store_index_move(struct store_index *index, const uint8_t *prefix,
                      uint64_t from, uint64_t to)
{
    uint64_t i;
    struct store_table *const t = find_one(index, prefix, from, &i);

    ASSERT(to > WAS_THERE && to <= PLACE_MASK);
    if (t)
        t->slots[i] = (t->slots[i] & ~PLACE_MASK) | to;
    return t;
}

static void drop(struct store_index *index, struct store_table *t, uint64_t i)
{
    t->slots[i] = WAS_THERE;
    t->used--;
    index->used--;
    if (t->slots[next_of(t, i)] != EMPTY)
        return;
    while (t->slots[i] == WAS_THERE) {
        t->slots[i] = EMPTY;
        t->filled--;
        i = i ? i - 1 : t->cap - 1;
    }
}

bool store_index_forget(struct store_index *index, const uint8_t *prefix,
                        uint64_t place)
{
    uint64_t i;
    struct store_table *const t = find_one(index, prefix, place, &i);

    if (t)
        drop(index, t, i);
    return t;
}

void store_index_mark(struct store_index *index, const uint8_t *prefix)
{
    const uint64_t hash = hash_of(index, prefix);

    for (size_t k = 0; k < index->n; k++) {
        struct store_table *const t = &index->tables[k];
        for (uint64_t i = home_of(t, hash); t->slots[i] != EMPTY;
             i = next_of(t, i)) {
            if (t->slots[i] != WAS_THERE &&
                (t->slots[i] & ~PLACE_MASK) == tag_of(hash))
                mark(t, i);
        }
    }
}

void store_index_unmark_all(struct store_index *index)
{
    for (size_t k = 0; k < index->n; k++)
        memset(index->tables[k].marks, 0,
               (size_t)(index->tables[k].cap + 63) / 64 * 8);
}

bool store_index_sweep(struct store_index *index, uint64_t *at, uint64_t n,
                       void (*gone)(void *cookie, uint64_t place), void *cookie)
{
    uint64_t base = 0;

    for (size_t k = 0; k < index->n; k++) {
        struct store_table *const t = &index->tables[k];
        for (; n && *at - base < t->cap; n--, ++*at) {
            const uint64_t i = *at - base;
            if (t->slots[i] <= WAS_THERE || is_marked(t, i))
                continue;
            gone(cookie, t->slots[i] & PLACE_MASK);
            drop(index, t, i);
        }
        if (!n)
            return true;
        base += t->cap;
    }
    return false;
}
