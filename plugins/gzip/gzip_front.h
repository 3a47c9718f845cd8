/* SPDX-License-Identifier: Apache-2.0 */
/* The front in two halves, a thread each, so that nothing but decoding stands
 * in the decoder's way:
 *
 *     decoder (gzip_front.c)                 finisher (gzip_finish.c)
 *     source -> ISA-L -> a slot of 256 KiB   CRC-32, zero runs, cache blocks,
 *                |-- parts, with marks -->   restart points tried and kept
 *
 * A part is a stretch of a slot; marks in it say where members begin and end
 * and where a restart point may be.  Parts are finished in order; a slot is
 * free again when the part that fills it has been finished.
 *
 * Lock: `lock` guards the queue, the slots' states and the results; slots,
 * parts and points are their holder's alone. */
#ifndef GZIP_FRONT_H
#define GZIP_FRONT_H

#include <isa-l/igzip_lib.h>

#include "gzip_image.h"

enum {
    FRONT_SLOT = 256 * 1024, /* whole blocks; larger, and it leaves the ... */
    FRONT_SLOTS = 4,         /* ... core's cache, smaller wakes more often */
    FRONT_PARTS = 8,
    FRONT_MARKS = 32,    /* of a part */
    FRONT_TRIALS = 4,    /* points found and not yet tried */
    TRIAL_IN = 48 * 1024 /* 32 KiB of output need no more */
};

/* A point found, and what is needed to try it. */
struct trial {
    bool is_taken;
    struct gzip_point point;
    uint8_t window[GZIP_WINDOW];
    uint8_t in[TRIAL_IN], out[GZIP_WINDOW];
    size_t in_len, out_len;
};

enum mark_kind {
    MARK_MEMBER,  /* its header begins at src */
    MARK_TRAILER, /* crc and len are what it says */
    MARK_POINT,   /* trial: the point is here */
    MARK_TRIAL    /* trial: in and out are complete */
};

struct mark {
    enum mark_kind kind;
    size_t at;    /* in the slot */
    uint64_t src; /* offset in the source */
    bool is_point;
    uint32_t crc, len;
    struct trial *trial;
};

struct part {
    unsigned slot;
    uint64_t slot_off; /* of the slot's first byte */
    size_t from, to;
    size_t head;  /* decoding began here in the slot: what is before it
                     in its block is not there */
    bool is_full; /* the slot is the finisher's now */
    bool is_end;  /* of the stream */
    bool has_garbage;
    size_t n_marks;
    struct mark marks[FRONT_MARKS];
};

/* What the finisher knows of the stream up to where it is. */
struct finish {
    uint32_t member_crc, member_len;
    uint32_t block_crc;
    uint64_t runs_written; /* zero runs are in the file up to here */
    size_t sums_written;
    struct inflate_state state;
    uint8_t trial_out[3][GZIP_WINDOW];
    uint8_t dict[GZIP_WINDOW];
};

struct front {
    struct gzip_image *gz;

    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct part parts[FRONT_PARTS]; /* a ring */
    size_t n_put, n_done;           /* ever */
    bool is_slot_taken[FRONT_SLOTS];
    bool is_over;    /* the finisher is to end */
    bool has_failed; /* the finisher has found a fault: finish_err */
    struct plt_error finish_err;

    uint8_t slots[FRONT_SLOTS][FRONT_SLOT];
    struct trial trials[FRONT_TRIALS];
    struct finish finish;
};

/* The task of the finisher; cookie is the front. */
void gzip_finish_run(void *front, struct plt_io *io);
/* Begin at a point; nobody finishes parts meanwhile. */
void gzip_finish_start(struct front *front, const struct gzip_point *point);
/* Take a point into the index and the file; steals its window. */
void gzip_finish_keep(struct front *front, struct gzip_point *point);
/* A trial that is complete: does decoding from its point, with its window, give
 * its output?  Then it is kept as a point. */
bool gzip_finish_settle(struct front *front, struct trial *trial);

/* Let readers that are at work catch up with what is decoded at `out`: what is
 * far ahead of them would be thrown out of the cache before they come. */
void gzip_pace(struct gzip_image *gz, uint64_t out);

#endif
