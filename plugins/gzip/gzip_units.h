/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of units that decode alone, found without decoding: dictzip's chunks
 * (gzip_dict.c) and BGZF's blocks (gzip_bgzf.c).
 *
 * A read gathers the units of all its segments, claims a cache block for each,
 * fetches those that are not there by one read below, and decodes them on
 * several cores, straight into the blocks.  A block that the cache has no room
 * for is decoded into memory of one's own; no unit is decoded twice in one
 * read.  Threads: any. */
#ifndef GZIP_UNITS_H
#define GZIP_UNITS_H

#include "gzip_image.h"

enum {
    UNITS_BATCH = 128,    /* claimed and fetched at a time */
    UNITS_BYTES = 8 << 20 /* decoded, at most, but for the first one */
};

struct gzip_unit {
    uint64_t out, in; /* where it begins, decoded and in the source */
    uint32_t out_len, in_len;
};

/* Of its block in the cache: by where it begins, apart from the blocks of a
 * plain stream, since one that turns out to be none goes on as such. */
uint64_t gzip_unit_key(const struct gzip_unit *unit);

/* Read segments by units; all lies in what is known. */
enum plt_status gzip_units_read(struct gzip_image *gz, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct plt_error *err);

/* Decode units whose bytes are at in[]; those that are not in the cache go
 * there, if it has room.  Those that do not decode are left to who reads them.
 */
void gzip_units_cache(struct gzip_image *gz, const struct gzip_unit *units,
                      const uint8_t *const *in, size_t n);

/* Does the block at `in` decode to just what its header and trailer say, and
 * (unless is_zero is NULL) to zeros? */
bool gzip_bgzf_check(const uint8_t *in, size_t in_len, size_t out_len,
                     bool *is_zero);

/* gzip_dict.c, gzip_bgzf.c: the unit that `out` lies in. */
struct gzip_unit gzip_dict_unit(const struct gzip_image *gz, uint64_t out);
/* Lock held. */
struct gzip_unit gzip_bgzf_unit(const struct gzip_image *gz, uint64_t out);

#endif
