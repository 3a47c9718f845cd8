/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache's index: from the hash of a block's name to the place of its
 * record, 8 bytes for each, in memory and in a file.
 *
 *   slot   63      43 | 42  | 41      36 | 35              0
 *          tag        | hit | generation | place / 64, never 0
 *
 * Eight slots are a bucket, one cache line; a bucket that is full forgets a
 * block.  A slot is a hint and nothing more: the record that it leads to says
 * itself which block it is.  So slots need no checksum, any bytes in the file
 * are good, and a file that is older or newer than the records costs misses.
 *
 * The file's pages (4 KiB) are read when they are first looked at and written
 * by flush().  Slots are single atomic words.
 * Threads: one (the disk cache's writer) calls what changes slots but for hit
 * and clear; any, the rest. */
#ifndef CACHE_DISK_INDEX_H
#define CACHE_DISK_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/check.h"
#include "util/lock.h"

enum {
    DISK_UNIT = 64,          /* records begin at multiples of it */
    DISK_BUCKET = 8,         /* slots */
    DISK_INDEX_PAGE = 4096,  /* bytes that are read and written at a time */
    DISK_GENERATION_BITS = 6 /* as much of a generation as a slot has */
};
#define DISK_MOST (UINT64_C(1) << 42) /* bytes that places can name */

struct disk_index {
    int fd;           /* borrowed */
    uint64_t off;     /* of the slots in it, whole pages */
    uint64_t n_slots; /* a power of two, whole pages */
    _Atomic uint64_t *slots;
    atomic_bool *loaded, *dirty; /* of each page */
    struct lock lock;            /* held while a page is loaded */
    unsigned turn;               /* who is forgotten next in a full bucket */
};

/* What a slot says. */
struct disk_place {
    uint64_t slot; /* its value when it was looked at */
    size_t at;     /* its number */
    uint64_t pos;  /* of the record in the data file */
    unsigned generation;
    bool is_hit;
};

/* Bytes of memory that an index of n_slots takes. */
uint64_t disk_index_memory(uint64_t n_slots);
/* False: no memory. */
bool disk_index_init(struct disk_index *ix, int fd, uint64_t off,
                     uint64_t n_slots);
void disk_index_release(struct disk_index *ix);

/* Slots that may be meant, at most DISK_BUCKET.  may_wait: the page may be
 * read from the file; otherwise nothing is found in one that was not. */
size_t disk_index_find(struct disk_index *ix, uint64_t hash, bool may_wait,
                       struct disk_place *out);
/* Every slot of the bucket that is in use; by the writer. */
size_t disk_index_bucket(struct disk_index *ix, uint64_t hash,
                         struct disk_place *out);
/* Nothing where the slot is another by now. */
void disk_index_hit(struct disk_index *ix, const struct disk_place *place);
void disk_index_clear(struct disk_index *ix, const struct disk_place *place);

/* True: another block was forgotten for it. */
bool disk_index_put(struct disk_index *ix, uint64_t hash, uint64_t pos,
                    uint64_t generation);
/* The same for a slot that is known; no longer hit. */
void disk_index_move(struct disk_index *ix, const struct disk_place *place,
                     uint64_t pos, uint64_t generation);
/* How many slots lead into [from, to), and how many of them were hit.  Reads
 * all pages, as the next two. */
MAY_WAIT void disk_index_count(struct disk_index *ix, uint64_t from,
                               uint64_t to, uint64_t *n, uint64_t *n_hit);
/* Of all of them: another generation, and not hit. */
MAY_WAIT void disk_index_renew(struct disk_index *ix, uint64_t from,
                               uint64_t to, uint64_t generation);
/* Clear every slot that leads into [from, to), but for the first `cap` found
 * that were hit: those go to out, in order of their places.  *n_cleared is
 * added to. */
MAY_WAIT size_t disk_index_sweep(struct disk_index *ix, uint64_t from,
                                 uint64_t to, struct disk_place *out,
                                 size_t cap, uint64_t *n_cleared);
/* Write what has changed; 0 or an errno. */
MAY_WAIT int disk_index_flush(struct disk_index *ix);

#endif
