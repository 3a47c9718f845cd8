/* SPDX-License-Identifier: Apache-2.0 */
/* The front's first half: ISA-L over one stream, and the search for places at
 * which decoding can begin again.  gzip_front.h has the other half,
 * gzip_front.c walks the members.
 *
 * Threads: one decoder is one task's; what it shares with the finisher is in
 * its front, under that one's lock. */
#ifndef GZIP_DECODE_H
#define GZIP_DECODE_H

#include "gzip_front.h"

enum { GZIP_IN_CAP = 256 * 1024 };

struct decoder {
    struct front front;
    struct plt_io *io;
    struct plt_stream *stream;
    struct plt_error err;

    uint8_t in[GZIP_IN_CAP];
    size_t pos, end;
    uint64_t base; /* source offset of in[0] */
    bool is_eof;

    uint8_t before[GZIP_WINDOW]; /* the bytes before the slot */
    uint8_t *out;                /* the slot */
    size_t fill;
    struct part part; /* what of it is not handed on yet, up to fill */

    struct inflate_state state, snapshot;
    uint64_t last_out, last_in; /* of the last point found */
    uint64_t blind_at; /* searched for the next one in vain up to here */
    uint64_t members;
    struct trial *trial; /* being collected, or NULL */
    struct trial *spare; /* for the next one, or NULL */
    bool has_place;      /* in the crowd */
    bool is_paused;      /* gave up for want of one */
};

/* Decoded bytes so far. */
static inline uint64_t gzip_out_now(const struct decoder *f)
{
    return f->part.slot_off + f->fill;
}
/* A point ought to come. */
bool gzip_is_due(const struct decoder *f);

/* ---- Of these, false means failed: err says how ---- */

/* At least n bytes of input behind pos, or the end. */
bool gzip_need(struct decoder *f, size_t n);
/* Hand on what there is. */
bool gzip_push(struct decoder *f);
/* Wait until everything is finished. */
bool gzip_drain(struct decoder *f);
/* The slot is full: the next one. */
bool gzip_next_slot(struct decoder *f);
/* At fill. */
bool gzip_mark(struct decoder *f, const struct mark *m);
/* Enough has followed the point, or its member has ended. */
bool gzip_close_trial(struct decoder *f);
/* Decode some: at most to the slot's end, and no further than the input. */
bool gzip_decode_some(struct decoder *f);

/* A free slot, from `fill` on; waits for one. */
void gzip_take_slot(struct decoder *f, uint64_t slot_off, size_t fill);

#endif
