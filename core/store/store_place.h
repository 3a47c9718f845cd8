/* SPDX-License-Identifier: Apache-2.0 */
/* Where a leaf lies, in 40 bits: the segment's slot in the table (16), the
 * record's offset in units of 64 bytes (20), the leaf in the record (4).  The
 * offset is never 0, where a segment's head is. */
#ifndef STORE_STORE_PLACE_H
#define STORE_STORE_PLACE_H

#include <stddef.h>
#include <stdint.h>

enum { PLACE_UNIT = 64, PLACE_SEGMENTS = 1 << 16 };

static inline uint64_t place_make(uint32_t slot, uint64_t off, size_t leaf)
{
    return (uint64_t)slot << 24 | off / PLACE_UNIT << 4 | leaf;
}

static inline uint32_t place_slot(uint64_t place)
{
    return (uint32_t)(place >> 24);
}

static inline uint64_t place_off(uint64_t place)
{
    return (place >> 4 & 0xfffff) * PLACE_UNIT;
}

static inline size_t place_leaf(uint64_t place)
{
    return (size_t)(place & 15);
}

#endif
