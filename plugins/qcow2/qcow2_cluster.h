/* SPDX-License-Identifier: Apache-2.0 */
/* What a qcow2 image keeps in the cache, and how compressed clusters are
 * decoded (blockset.h does the rest).  Threads: any. */
#ifndef QCOW2_CLUSTER_H
#define QCOW2_CLUSTER_H

#include <platter/blockset.h>

/* Spaces of keys: offsets / 512 are below 2^54, and so are cluster numbers. */
enum qcow2_space { QCOW2_OF_L1 = 1, QCOW2_OF_L2 = 2, QCOW2_OF_PACKED = 3 };

static inline uint64_t qcow2_key(enum qcow2_space space, uint64_t n)
{
    return (uint64_t)space << 60 | n;
}

/* Of compressed clusters: zlib's or zstd's. */
extern const struct plt_decoding qcow2_zlib_decoding, qcow2_zstd_decoding;

#endif
