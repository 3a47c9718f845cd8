/* SPDX-License-Identifier: Apache-2.0 */
/* One open qcow2 image: what the files of this driver share.
 *
 * Everything is fixed after open, save two sizes that a stream may tell late.
 * Tables and decoded clusters live in the core's cache and are held only while
 * one call needs them.
 *
 * Words: a *slice* is a stretch of an L2 table (or of a large L1) of at most
 * QCOW2_SLICE bytes: what is read and cached of it at a time.  A *piece* is a
 * stretch of the disk of one nature.  A *set* is what one call wants out of the
 * cache: asked for together, missed together, read together. */
#ifndef QCOW2_IMAGE_H
#define QCOW2_IMAGE_H

#include <stdatomic.h>

#include "qcow2_cluster.h"
#include "qcow2_header.h"
#include "qcow2_map.h"

enum {
    QCOW2_SLICE = 64 * 1024 /* maps 512 MiB with clusters of 64 KiB; a whole
                               table of 2 MiB would cost a cold read 2 MiB */
};

struct qcow2 {
    struct plt_host *host;
    struct plt_child *child, *backing; /* backing: NULL, none */
    /* The child's sizes, as far as they are known. */
    _Atomic uint64_t child_size, backing_size;
    struct qcow2_header header;
    uint64_t cluster;    /* bytes */
    unsigned entry;      /* bytes of an L2 entry: 8, or 16 with subclusters */
    uint64_t slice;      /* bytes of a slice of an L2 table */
    uint64_t slice_span; /* bytes of the disk that it maps */
    uint8_t *l1;         /* big-endian, as read; NULL: large, in slices */
    uint64_t l1_mem;     /* taken for it */
};

#endif
