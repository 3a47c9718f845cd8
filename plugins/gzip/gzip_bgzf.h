/* SPDX-License-Identifier: Apache-2.0 */
/* BGZF (SAM specification, 4.1): members of at most 64 KiB, each with its own
 * compressed length in a BC subfield, the last one empty.  Where they are is
 * found by hopping from header to header, as fast as the source comes; they are
 * decoded by whoever reads them (gzip_units.c).
 *
 * The table costs 4 bytes a block, and 24 for each row of up to 64 that follow
 * one another.  gz->lock guards it. */
#ifndef GZIP_BGZF_H
#define GZIP_BGZF_H

#include "gzip_header.h"
#include "gzip_image.h"
#include "gzip_units.h"

enum {
    BGZF_ROW = 64,        /* blocks of a row */
    BGZF_MAX = 64 * 1024, /* bytes of a block, packed and not */
    BGZF_MIN = 18 + 2 + 8 /* bytes of a packed one */
};

struct gzip_row {
    uint64_t out, in; /* of its first block */
    uint64_t first;   /* block: index of lens[] */
};

/* Less one each. */
struct gzip_lens {
    uint16_t in, out;
};

/* Is this the header of a block?  *len: its bytes, header and trailer. */
bool gzip_bgzf_is(const struct gzip_header *header, size_t *len);

/* One more block behind the last one known, or behind a gap of empty ones.
 * False: no memory.  Lock held. */
bool gzip_bgzf_add(struct gzip_image *gz, uint64_t in, uint32_t in_len,
                   uint32_t out_len);
/* Decoded and packed bytes up to the last block's end.  Lock held. */
uint64_t gzip_bgzf_out(const struct gzip_image *gz);
uint64_t gzip_bgzf_in(const struct gzip_image *gz);
/* Block n of row i. */
struct gzip_unit gzip_bgzf_nth(const struct gzip_image *gz, size_t i, size_t n);
/* Blocks of row i. */
size_t gzip_bgzf_in_row(const struct gzip_image *gz, size_t i);
/* Row i and the zero runs in it, as records. */
bool gzip_bgzf_write(const struct gzip_image *gz, int fd, size_t i);
void gzip_bgzf_release(struct gzip_image *gz);

/* The front of such a stream.  True: it turned out to be none, gz->is_bgzf is
 * false and nothing of it is known any more. */
bool gzip_bgzf_run(struct gzip_image *gz, struct plt_io *io);

#endif
