/* SPDX-License-Identifier: Apache-2.0 */
/* Index files of other tools, read and written: pure.
 *
 *   gztool        big-endian: be64 0, "gzipindx" (or "gzipindX", be32 kind of
 *                 lines), be64 points held, be64 points in all; a point: be64
 *                 out, be64 in, be32 bits, be32 length and a zlib stream of the
 *                 window (X: be64 line); then be64 decoded length (X: be64
 *                 lines)
 *   indexed_gzip  little-endian: "GZIDX", version 0 or 1, 0, le64 length,
 *                 le64 decoded length, le32 spacing, le32 window size (32768),
 *                 le32 points; a point: le64 in, le64 out, u8 bits (version 1:
 *                 u8 has a window); then windows as they are, in version 0 of
 *                 all points but the first
 *
 * In both, `in` is the first whole byte of the deflate block and `bits` of the
 * byte before it are its too; one at a member's first block may have no window.
 * Neither has checksums, so that what is read here are *hints*: gzip_prove.c
 * makes points of them.  Threads: any. */
#ifndef GZIP_FOREIGN_H
#define GZIP_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gzip_foreign {
    GZIP_FOREIGN_NONE,
    GZIP_FOREIGN_GZTOOL,
    GZIP_FOREIGN_INDEXED,
    GZIP_FOREIGN_UNFIT /* bgzip's: it says what the headers say, too */
};

struct gzip_hint {
    uint64_t out, in_bits;
    size_t window_at; /* in the file */
    uint32_t window_len;
};

/* What a file says.  `file` is borrowed from whoever parsed. */
struct gzip_hints {
    const uint8_t *file;
    bool is_packed; /* windows are zlib streams */
    struct gzip_hint *hint;
    size_t n;
    uint64_t out; /* decoded length, 0: not said */
};

enum gzip_foreign gzip_foreign_is(const uint8_t *p, size_t n);

/* Points that a file of n bytes can hold at most: bounds hint[]. */
size_t gzip_foreign_most(size_t n);

/* Read a file into hints->hint, which the caller has made of
 * gzip_foreign_most(n) entries.  Points at the beginning and at the end, and
 * those nearer than `apart` decoded bytes to the one before, are left out.
 * source: length of the compressed stream.  NULL, or what is wrong: nothing of
 * the file is to be used then. */
const char *gzip_foreign_parse(const uint8_t *p, size_t n, uint64_t source,
                               uint64_t apart, struct gzip_hints *hints);

/* The 32 KiB before hint i, zeros in front where the file has fewer. */
bool gzip_foreign_window(const struct gzip_hints *hints, size_t i,
                         uint8_t window[32768]);

/* ---- Writing ---- */

/* A point to be written; window: 32 KiB, or NULL. */
struct gzip_foreign_point {
    uint64_t out, in_bits;
    const uint8_t *window;
};

/* The parts of a file into `to`, which has room for it: how many bytes.
 * source, out: lengths of the compressed and the decoded stream. */
enum { GZIP_FOREIGN_HEAD = 64, GZIP_FOREIGN_POINT = 64 + 40000 };
size_t gzip_foreign_put_head(enum gzip_foreign kind, uint8_t *to, size_t n,
                             uint64_t source, uint64_t out);
/* What comes in the list of points (gztool: with its window). 0: no memory. */
size_t gzip_foreign_put_point(enum gzip_foreign kind, uint8_t *to,
                              const struct gzip_foreign_point *point);
/* What comes behind it. */
size_t gzip_foreign_put_tail(enum gzip_foreign kind, uint8_t *to, uint64_t out);

#endif
