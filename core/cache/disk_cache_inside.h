/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the disk cache share. */
#ifndef CACHE_DISK_CACHE_INSIDE_H
#define CACHE_DISK_CACHE_INSIDE_H

#include <pthread.h>

#include "cache/disk_cache.h"
#include "cache/disk_index.h"
#include "util/lock.h"

enum {
    DISK_QUEUE = 256, /* blocks that wait to be written */
    DISK_CHANGED = 64 /* ids of layers whose source has lately changed */
};

/* A block on its way to the disk. */
struct disk_item {
    struct disk_name name;
    uint64_t hash;
    struct plt_block *block; /* referenced */
};

/* Layers that are not kept.  A page of the index file; its lock is held while
 * that is written, so that no event thread takes it. */
enum { DISK_BARRED = 254, DISK_BARRED_ID = 16 };
struct disk_bars {
    struct lock lock;
    uint8_t barred[DISK_BARRED][DISK_BARRED_ID]; /* the id's beginning */
    unsigned n_barred;
    uint8_t changed[DISK_CHANGED][DISK_BARRED_ID]; /* of this run, a ring */
    unsigned n_changed;
};

struct disk_cache {
    struct cache *cache; /* borrowed */
    uint64_t limit, memory;
    int index_fd, data_fd;
    uint64_t index_bytes; /* length of the index file */
    uint64_t seed;        /* of the hash */
    struct disk_index index;
    struct disk_segments segments;
    atomic_bool is_on;
    atomic_bool is_full; /* no segment is left: be choosy */
    _Atomic uint64_t hits, misses, writes, evicted, bytes;

    struct lock lock; /* guards what follows */
    struct cond changed;
    struct disk_item queue[DISK_QUEUE]; /* a ring */
    unsigned first, n_queued;
    uint64_t queued_bytes, queued_most;
    bool is_busy, is_stopping, has_thread;
    uint32_t *ghosts; /* tags of blocks that were refused */
    uint64_t n_ghosts;
    uint64_t dropped, refused;

    struct disk_bars bars;
    pthread_t writer;
};

/* disk_cache_file.c */

/* Open both files, lock them, and make or take up what is in them.  NULL, or
 * what went wrong; errno says why, or 0. */
MAY_WAIT const char *disk_cache_files(struct disk_cache *dc, int dir,
                                      uint64_t epoch);
void disk_cache_close_files(struct disk_cache *dc);
/* Expects the lock of the bars.  0 or an errno. */
MAY_WAIT int disk_cache_write_bars_locked(struct disk_cache *dc);
/* The next run begins anew. */
MAY_WAIT void disk_cache_spoil_files(struct disk_cache *dc);
/* The files still have a name. */
bool disk_cache_files_stand(const struct disk_cache *dc);

/* disk_cache.c */

/* As disk_index_find, of slots whose segment has not been filled again since.
 */
size_t disk_cache_find(struct disk_cache *dc, uint64_t hash, bool may_wait,
                       struct disk_place *out);
uint64_t disk_cache_hash(const struct disk_cache *dc,
                         const struct disk_name *name);
/* The segment that it leads to has not been filled again since. */
bool disk_cache_is_current(const struct disk_cache *dc,
                           const struct disk_place *place);
/* Off, for good; said once.  sys: errno or 0. */
void disk_cache_off(struct disk_cache *dc, const char *why, int sys);
/* disk_cache_writer.c */

/* The bytes in use. */
void disk_cache_count(struct disk_cache *dc);
void *disk_cache_write(void *arg);

#endif
