/* SPDX-License-Identifier: Apache-2.0 */
/* Extents in sums, for a picture: a stretch of a disk in n buckets, and of each
 * how many bytes are what.  Runs are added as they come and none is kept, so
 * that a million of them take the memory of the buckets.
 *
 * Bucket i is [start + floor(i*length/n), start + floor((i+1)*length/n)): every
 * byte lies in one, and where there are fewer bytes than buckets some are
 * empty.  Pure; threads: one at a time. */
#ifndef STACK_EXTENT_SUM_H
#define STACK_EXTENT_SUM_H

#include <platter/extent.h>

enum extent_kind {
    EXTENT_DATA,       /* none of the others */
    EXTENT_COMPRESSED, /* stored coded, and not known to be zeros */
    EXTENT_ZERO,       /* there, and reads as zeros by its table */
    EXTENT_HOLE,       /* in no image of the chain */
    EXTENT_KINDS
};

enum { EXTENT_SUM_MAX = 8192 }; /* buckets */

struct extent_sum {
    uint64_t start, length; /* bytes; start + length is at most PLT_SIZE_MAX */
    unsigned n, at;         /* buckets; the one that the last run ended in */
    uint64_t runs;          /* as rows of a list would be: see extent_same() */
    struct plt_extent last; /* len 0: none yet */
    uint64_t *bytes[EXTENT_KINDS]; /* n each */
};

/* n: 1 to EXTENT_SUM_MAX.  False without memory, and *sum is released. */
bool extent_sum_init(struct extent_sum *sum, uint64_t start, uint64_t length,
                     unsigned n);
void extent_sum_release(struct extent_sum *sum);

/* Where bucket i begins, or with i == n the last one ends. */
uint64_t extent_sum_edge(const struct extent_sum *sum, unsigned i);
/* A plt_extent_fn with the sum as cookie: runs inside the stretch, ascending.
 */
bool extent_sum_take(void *sum, const struct plt_extent *extent);

enum extent_kind extent_kind(const struct plt_extent *extent);
/* b, right behind a, is told as one row with it: the same is said of both, and
 * where that is a place in the file it goes on. */
bool extent_same(const struct plt_extent *a, const struct plt_extent *b);
/* A row of it has an offset. */
bool extent_has_offset(const struct plt_extent *extent);

#endif
