/* SPDX-License-Identifier: Apache-2.0 */
/* Who reads an image in order by many small requests, and what comes next.
 *
 * A reader is a client's address, whatever connection its requests come on; of
 * each the last few requests are remembered.  Three that follow one another,
 * in any order of arrival, begin a *stream*; so do four at the same distance
 * (a strided reader).  Ahead of a stream is read as far as its window reaches,
 * which doubles each time that the stream has come half through it, from
 * READAHEAD_LEAST to the limit.  A reader that goes elsewhere begins anew with
 * the least; one that never asks in order is never read ahead of.
 *
 * Pure: nothing is read here.  Memory is fixed: READAHEAD_READERS readers of an
 * image, READAHEAD_STREAMS streams of each; one more takes the place of
 * another.
 * Threads: any.  Nobody waits: where two requests of one reader come at the
 * same instant, one of them is not looked at. */
#ifndef STACK_READAHEAD_H
#define STACK_READAHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    READAHEAD_READERS = 16,
    READAHEAD_STREAMS = 4,
    READAHEAD_LEAST = 128 * 1024,        /* bytes, of the first window */
    READAHEAD_MOST = 64 * 1024 * 1024,   /* of the limit */
    READAHEAD_STRIDE = 16 * 1024 * 1024, /* longest distance of a stride */
    READAHEAD_SEGS = 64                  /* stretches of one plan */
};

struct readahead;

/* What to read now: n stretches of len bytes, stride apart, all inside the
 * disk.  A sequential plan is one stretch; a strided one has up to
 * READAHEAD_SEGS.  n 0: nothing. */
struct readahead_plan {
    uint64_t off, len, stride; /* bytes */
    unsigned n;
    unsigned place; /* for readahead_done */
    uint64_t used;  /* bytes read ahead before that this request came to */
};

/* limit: of a window, bytes, READAHEAD_LEAST to READAHEAD_MOST.  new; NULL
 * without memory. */
struct readahead *readahead_new(uint64_t limit);
void readahead_free(struct readahead *ra);

/* A request for [off, off+len) of a disk of `size` bytes, by the client of this
 * number.  is_hit: it was answered from memory at once.  A stream of nothing
 * but hits is followed and not read ahead of. */
void readahead_see(struct readahead *ra, uint64_t client, uint64_t off,
                   uint64_t len, uint64_t size, bool is_hit,
                   struct readahead_plan *plan);
/* A plan (n not 0) has been read, or will not be: its stream has the next one
 * with its next request.  One at a time, in order: a source takes two for two
 * readers. */
void readahead_done(struct readahead *ra, const struct readahead_plan *plan);
/* A plan of this client's was in memory already: no more of them, until one of
 * its requests is no hit. */
void readahead_needless(struct readahead *ra, uint64_t client);

#endif
