/* SPDX-License-Identifier: Apache-2.0 */
/* Making points of hints: what another tool's index claims is decoded, span by
 * span and several at a time, and linked to the beginning of the stream.
 *
 *     0 ---- hint ---- hint ---- hint ---- ...
 *     |<-1-->|<---2--->|<---3--->|        spans, decoded in any order
 *     proven ------->|                    in order: each begins where the one
 *                                          before it ended
 *
 * A span is decoded from its hint with the window that the index claims.  What
 * came out is believed when
 *   - the span before it is believed, and decoding that one used up its input
 *     at the very bit of the hint, at the beginning of a deflate block or of a
 *     member, with just as many bytes out as the index claims;
 *   - decoding the hint's first 32 KiB with the *true* window, the end of what
 *     the span before it gave, gives the same bytes (gzip_finish_settle): all
 *     that follows them can refer to nothing before the hint;
 *   - each member that ended had its CRC-32 and length.
 * By induction from the first member's header these are the bytes of a decoder
 * that began there, whatever the index said: a wrong one costs time.  Only then
 * readers get them, and the hint becomes a point, with a window of our own. At
 * the first claim that does not hold the rest of the index is forgotten, and
 * the front goes on from the last point.
 *
 * Threads: the front's task, and a second one that it starts. */
#ifndef GZIP_PROVE_H
#define GZIP_PROVE_H

#include "gzip_foreign.h"
#include "gzip_image.h"

/* Hints with the file that they are in; file and hint[] are its own. */
struct gzip_claims {
    struct gzip_hints hints;
    uint8_t *file;
    uint64_t mem;
};

/* Read an index file of another tool.  data is copied. */
PLT_MUST_USE enum plt_status gzip_claims_new(struct gzip_image *gz,
                                             const void *data, size_t len,
                                             struct gzip_claims **out,
                                             struct plt_error *err);
void gzip_claims_free(struct gzip_image *gz, struct gzip_claims *claims);

/* Prove what gz->claims says behind the last point, and forget it.  The front
 * has not begun, or has been stopped. */
void gzip_prove(struct gzip_image *gz, struct plt_io *io);

#endif
