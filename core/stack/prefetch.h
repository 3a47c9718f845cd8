/* SPDX-License-Identifier: Apache-2.0 */
/* Reading in the background what will be asked for: what a read needs (blocks
 * of the source, decoded blocks) is then in the cache.
 *
 *     plans of readahead.h --pieces-->  readers (PREFETCH_READERS threads)
 *     tasks --> leaders (PREFETCH_TASKS threads) --batches-->  the same
 *
 * A *task* is a list of stretches of one disk: a boot trace, ranges, or all of
 * it.  What is zeros is passed over, the rest is read in the order of the list,
 * a few vectored reads at a time.  A piece or a batch is read into memory of
 * its own that is thrown away: what counts is what the layers keep of it.
 *
 * It gives up rather than get in the way: when there is no memory for a piece
 * or no place in the queue, when open images keep more of the budget than they
 * should, when the image is no longer the one that clients open, when half of
 * what can be kept (memory, and the disk cache) has been read; and a task over
 * ranges or a whole disk reads one batch at a time while clients wait for the
 * image.
 * Threads: any. */
#ifndef STACK_PREFETCH_H
#define STACK_PREFETCH_H

#include <jansson.h>

#include "stack/image.h"
#include "stack/readahead.h"

enum {
    PREFETCH_READERS = 8,
    PREFETCH_TASKS = 4, /* that run; others wait for their turn */
    PREFETCH_KNOWN = 64 /* tasks that are told of, those that are over too */
};

struct prefetch;

struct prefetch_span {
    uint64_t off, len; /* bytes of the disk; len at least 1 */
};

enum prefetch_kind { PREFETCH_TRACE, PREFETCH_RANGES, PREFETCH_DISK };

struct prefetch_stats {
    uint64_t ahead_bytes; /* read ahead of streams */
    uint64_t used_bytes;  /* of it, what clients came to */
    uint64_t task_bytes;  /* read by tasks, zeros not counted */
    uint64_t given_up;    /* pieces and batches that were not read, or failed */
    uint64_t origin_bytes, origin_requests; /* what all of it cost */
    uint64_t running;                       /* tasks now, waiting ones too */
};

/* limit: bytes that one task reads at most.  most: tasks that run or wait, each
 * of which keeps its image open; PREFETCH_KNOWN at most.  new; NULL without
 * memory. */
struct prefetch *prefetch_new(struct cache *cache, uint64_t limit,
                              unsigned most);
/* End everything that runs; no image is held afterwards. */
void prefetch_stop(struct prefetch *p);
void prefetch_free(struct prefetch *p);

/* Read a plan (n may be 0), as far as there is room, and say so to
 * readahead_done.  ra is the image's, and told when
 * nothing of it was needed. */
void prefetch_ahead(struct prefetch *p, struct image *image,
                    struct readahead *ra, uint64_t client,
                    const struct readahead_plan *plan);

/* Begin a task.  Steals spans (n of them, inside the disk).  A task of the same
 * image that runs is ended.  PLT_BUSY: as many as there may be run or wait
 * already. */
PLT_MUST_USE enum plt_status
prefetch_start(struct prefetch *p, struct image *image, enum prefetch_kind kind,
               struct prefetch_span *spans, size_t n, struct plt_error *err);
/* The last task of an image with this ETag: {"kind", "state", "bytes_total",
 * "bytes_done", "origin_bytes", "origin_requests", "seconds", "error"}.  new;
 * NULL: none. */
json_t *prefetch_json(struct prefetch *p, const char *etag);
/* End it; false: none runs. */
bool prefetch_cancel(struct prefetch *p, const char *etag);

/* fn(cookie) on a reader's thread.  False: it will not run. */
bool prefetch_later(struct prefetch *p, void (*fn)(void *cookie), void *cookie);

void prefetch_stats(struct prefetch *p, struct prefetch_stats *out);

#endif
