/* SPDX-License-Identifier: Apache-2.0 */
/* What a stretch of a layer is: how a driver tells where data and holes lie.
 *
 * A driver emits extents ascending, contiguous, each at least one byte long,
 * the first one covering the first byte that was asked for.  The last may reach
 * past what was asked; the core clips it.  A driver may stop early after at
 * least one extent: the core asks again from there.  What a driver does not
 * know is data (flags 0): "unknown" is never "zero". */
#ifndef PLATTER_EXTENT_H
#define PLATTER_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum plt_extent_flag {
    PLT_EXTENT_ZERO = 1,       /* reads as zeros, certainly */
    PLT_EXTENT_HOLE = 2,       /* takes no space in this layer */
    PLT_EXTENT_COMPRESSED = 4, /* stored coded: no offset has the plain bytes */
    PLT_EXTENT_MAPPED = 8,     /* the bytes lie unchanged at child_off */
    PLT_EXTENT_RESERVED = 16,  /* space is kept at child_off, and not read */
    PLT_EXTENT_ABSENT = 32,    /* no image of the chain says anything of it */
    PLT_EXTENT_DIRTY = 64      /* of a bitmap: changed since it was made */
};

struct plt_extent {
    uint64_t off, len;  /* bytes, in this layer */
    uint32_t flags;     /* PLT_EXTENT_*; 0: plain data */
    uint32_t depth;     /* 0: this layer; n: the n-th backing image below */
    uint64_t child_off; /* with MAPPED or RESERVED: byte offset in the child; at
                           depth n, in the child of that image's layer */
};

/* Takes one extent (borrowed for the call).  False: stop, enough. */
typedef bool plt_extent_fn(void *cookie, const struct plt_extent *extent);

#ifdef __cplusplus
}
#endif
#endif
