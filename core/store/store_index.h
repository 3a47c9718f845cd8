/* SPDX-License-Identifier: Apache-2.0 */
/* Hints of where leaves may lie: 8 bytes each, 40 bits of place and 24 of a
 * keyed hash of the digest's first 8 bytes.
 *
 * Whoever makes images chooses digests' first bytes as he likes, so that the
 * hash has a key of each process's own.  There are several tables, each as
 * large as all before it: one that is full stays as it is, since its hints do
 * not say where they would go in a larger one.  A bit beside each hint is the
 * sweep's mark.
 * Threads: the caller locks. */
#ifndef STORE_STORE_INDEX_H
#define STORE_STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    INDEX_TABLES = 32,
    INDEX_FOUND = 16 /* hints of one digest that are looked at: 16 digests that
                        share their first 64 bits nobody can make */
};

struct store_table {
    uint64_t *slots; /* hash << 40 | place; 0: empty; 1: was there */
    uint64_t *marks; /* a bit each */
    uint64_t cap, used;
    uint64_t filled; /* that are not empty */
};

struct store_index {
    struct store_table tables[INDEX_TABLES];
    size_t n;
    uint64_t used;
    uint64_t key[4];
};

/* A place: not 0 and not 1, of 40 bits at most. */

/* With room for so many.  False: no memory, or no random numbers. */
bool store_index_init(struct store_index *index, uint64_t leaves);
void store_index_release(struct store_index *index);
uint64_t store_index_memory(const struct store_index *index);
/* Room for n more.  False: no memory. */
bool store_index_reserve(struct store_index *index, size_t n);
/* Marked.  There must be room. */
void store_index_put(struct store_index *index, const uint8_t *prefix,
                     uint64_t place);
/* Places that a leaf of this digest, or prefix, may have, INDEX_FOUND at most.
 */
size_t store_index_find(const struct store_index *index, const uint8_t *prefix,
                        uint64_t *places);
/* Of the hint at this very place.  False: there is none (any more). */
bool store_index_has(const struct store_index *index, const uint8_t *prefix,
                     uint64_t place);
bool store_index_keep(struct store_index *index, const uint8_t *prefix,
                      uint64_t place);
bool store_index_move(struct store_index *index, const uint8_t *prefix,
                      uint64_t from, uint64_t to);
bool store_index_forget(struct store_index *index, const uint8_t *prefix,
                        uint64_t place);

/* Mark whatever may be this digest's. */
void store_index_mark(struct store_index *index, const uint8_t *prefix);
void store_index_unmark_all(struct store_index *index);
/* Forget what is not marked among the next n slots from *at on (0: the first),
 * each told to gone() beforehand.  False: there are no more. */
bool store_index_sweep(struct store_index *index, uint64_t *at, uint64_t n,
                       void (*gone)(void *cookie, uint64_t place),
                       void *cookie);

#endif
