/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that were dear to get, kept on a disk between runs and beyond what
 * memory holds: a second level under the block cache (cache.h).
 *
 *     block_claim: memory -> index (memory) -> record (disk) -> the driver
 *                                 |  hit, on the thread that may wait
 *     block_commit, a later hit --+-> queue -> writer -> segments, index
 *                            drops when full
 *
 * A block's name is the id of its layer (equal ids, equal bytes) and its key.
 * Two files in the state folder: `disk-cache.data`, segments of records
 * (disk_segments.h), and `disk-cache.index`: a head, the layers that are
 * barred, and slots (disk_index.h).  Both together are never longer than the
 * limit.
 *
 * What is believed.  A record alone: it holds its whole name, its place, a
 * secret of this file and a checksum over these and its bytes.  Slots are
 * hints.  So nothing has to be written in order, and nothing has to be repaired
 * or looked through after kill -9, a power cut or a scribble: a record that was
 * torn, written over, or whose slot is lost or leads astray is a miss.  At the
 * start the heads of the segments are read, and the heads of the records in the
 * newest one, to go on behind them.  The head of the index is never written
 * again; one that is damaged, or of another shape, means to begin anew.
 *
 * What is kept.  While there is room, whatever is offered.  Then only what is
 * asked for again: a block that memory has kept beyond its first burst, or one
 * that is offered a second time within as many offers as the ghost table has
 * places.  A scan comes once and is not written.  The oldest segment makes
 * room: blocks of it that were hit meanwhile are moved to its beginning (second
 * chance, at most half of it), the others are forgotten; one of which most was
 * hit stays as it is, once.
 *
 * Whatever fails (no room, no disk, files deleted, another process has them)
 * turns the cache off with one line in the log; everything goes on without.
 *
 * Lock: one, of the queue; a shard of the block cache is taken under it.
 * Threads: any; a NULL cache is one that is off. */
#ifndef CACHE_DISK_CACHE_H
#define CACHE_DISK_CACHE_H

#include "cache/cache.h"
#include "cache/disk_segments.h"

struct disk_cache;

/* The least and the most that a limit may be. */
#define DISK_CACHE_LEAST (UINT64_C(64) << 20)
#define DISK_CACHE_MOST (UINT64_C(1) << 42)

struct disk_cache_config {
    struct cache *cache; /* borrowed; whose blocks, and whose budget */
    int dir;             /* the state folder; borrowed; -1: none */
    uint64_t limit;      /* bytes of both files, LEAST to MOST */
    uint64_t epoch;      /* files of another one are begun anew */
};

struct disk_cache_stats {
    uint64_t hits, misses; /* of look-ups that went as far as this */
    uint64_t writes;       /* blocks written */
    uint64_t dropped;      /* ... not, since the writer was behind */
    uint64_t refused;      /* ... not, since they were asked for but once */
    uint64_t evicted;      /* blocks forgotten */
    uint64_t bytes, limit; /* of the files */
    bool is_on;
};

/* new; NULL when it cannot be used, which the log then says. */
MAY_WAIT struct disk_cache *
disk_cache_open(const struct disk_cache_config *config);
/* Writes what is queued, for two seconds at most.  Before cache_free. */
MAY_WAIT void disk_cache_close(struct disk_cache *dc);

/* May blocks of the layer be kept?  Once for each opening of it: a layer that
 * was reported by disk_cache_changed and is opened under the same id again has
 * a source that changes under its validator; its id is barred for good. */
MAY_WAIT bool disk_cache_admits(struct disk_cache *dc, const uint8_t id[32]);
/* The layer's source is not what it was. */
void disk_cache_changed(struct disk_cache *dc, const uint8_t id[32]);

/* Could get() find it?  From memory; a no is not sure at first. */
bool disk_cache_may_have(struct disk_cache *dc, const struct disk_name *name);
/* Fill buf with the block's len bytes; false: it is not there, or damaged, and
 * buf is unspecified. */
MAY_WAIT bool disk_cache_get(struct disk_cache *dc,
                             const struct disk_name *name, void *buf,
                             size_t len);
/* A block that was just filled: to be written, if it is worth it.  A reference
 * of its own is taken.  Never waits for the disk. */
void disk_cache_offer(struct disk_cache *dc, const struct disk_name *name,
                      struct plt_block *block);
/* The same for one that was found in memory once more after a while. */
void disk_cache_again(struct disk_cache *dc, const struct disk_name *name,
                      struct plt_block *block);

/* dc may be NULL: all zero. */
void disk_cache_stats(struct disk_cache *dc, struct disk_cache_stats *out);
/* Wait until the queue has been written, for tests. */
MAY_WAIT void disk_cache_settle(struct disk_cache *dc);

#endif
