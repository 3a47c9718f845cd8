/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache's data file: segments of one length, each a log of records.
 *
 *   file     | segment 0 | segment 1 | ...
 *   segment  | head, 4 KiB | record | record | ... | what was there before
 *   record   | checksum, secret, generation, place, id, key, length | bytes |
 *
 * A segment is filled from its beginning to its end, under a generation of its
 * own; the generations give the order in which segments were begun.  A record
 * names itself wholly: its place in the file, its block, and a secret number of
 * this very file, and its checksum is over all of that and the bytes.  So
 * whatever a slot of the index leads to is either the block that was asked for,
 * as it was written, or is seen not to be; bytes of an image that look like a
 * record lack the secret.
 *
 * Threads: one writes (begin, recover, append, read_record); any read. */
#ifndef CACHE_DISK_SEGMENTS_H
#define CACHE_DISK_SEGMENTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/check.h"

enum {
    DISK_SEGMENT_HEAD = 4096,
    DISK_RECORD_HEAD = 96,
    DISK_BLOCK_MOST = 2 << 20, /* bytes of a block: what block_claim promises */
    DISK_SECRET = 16
};

/* Which block. */
struct disk_name {
    uint8_t id[32]; /* of its layer */
    uint64_t key;
};

struct disk_segments {
    int fd; /* borrowed */
    uint64_t segment_bytes;
    uint32_t n;
    uint8_t secret[DISK_SECRET];
    _Atomic uint64_t *generation; /* of each; 0: not in use */
    uint32_t open;                /* the segment being filled; n: none */
    uint64_t pos;                 /* where the next record goes */
    uint64_t settled; /* what lies before it has left the page cache ... */
    uint64_t started; /* ... and is on its way to the disk */
};

enum disk_found {
    DISK_FOUND,
    DISK_NOT_IT, /* another block's, damaged, or not a record at all */
    DISK_FAILED  /* errno says why */
};

/* Bytes of memory besides the list of generations. */
uint64_t disk_segments_memory(uint32_t n);
/* False: no memory. */
bool disk_segments_init(struct disk_segments *s, int fd, uint64_t segment_bytes,
                        uint32_t n, const uint8_t secret[DISK_SECRET]);
void disk_segments_release(struct disk_segments *s);

/* Bytes that a record of so many takes. */
uint64_t disk_record_bytes(size_t len);
bool disk_segments_hold(const struct disk_segments *s, uint64_t pos);
/* The generation of the segment that pos lies in. */
uint64_t disk_segments_at(const struct disk_segments *s, uint64_t pos);
/* Segments in use. */
uint32_t disk_segments_used(const struct disk_segments *s);

/* Read the block's len bytes at pos into buf; unless FOUND they are
 * unspecified. */
MAY_WAIT enum disk_found disk_segments_read(const struct disk_segments *s,
                                            uint64_t pos,
                                            const struct disk_name *name,
                                            void *buf, size_t len);

/* Read the heads of all segments, and call fn for every record of the newest,
 * behind which append() goes on.  0 or an errno. */
MAY_WAIT int
disk_segments_recover(struct disk_segments *s,
                      void (*fn)(void *cookie, const struct disk_name *name,
                                 uint64_t pos, uint64_t generation),
                      void *cookie);

/* The segment to be filled next: one that is not in use, or the oldest. */
uint32_t disk_segments_next(const struct disk_segments *s);
/* Fill it from its beginning; what it holds is lost as it is written over.
 * 0 or an errno. */
MAY_WAIT int disk_segments_begin(struct disk_segments *s, uint32_t segment);
/* Is there room for a record of len in the one being filled? */
bool disk_segments_fits(const struct disk_segments *s, size_t len);
/* *pos: where it is.  0 or an errno. */
MAY_WAIT int disk_segments_append(struct disk_segments *s,
                                  const struct disk_name *name,
                                  const uint8_t *data, size_t len,
                                  uint64_t *pos);
/* Let it be the newest, with all that is in it.  0 or an errno. */
MAY_WAIT int disk_segments_renew(struct disk_segments *s, uint32_t segment);
/* Move a record of an earlier generation in the segment that is being filled
 * again, or another one, to where the next goes.  Nothing is moved (*pos 0)
 * when it is damaged, does not fit before `end`, or there is no memory for it:
 * DISK_BLOCK_MOST at most, until it returns. */
MAY_WAIT int disk_segments_move(struct disk_segments *s, uint64_t from,
                                uint64_t end, uint64_t *pos);

#endif
