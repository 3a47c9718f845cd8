/* SPDX-License-Identifier: Apache-2.0 */
/* One open qcow2 image: everything is fixed after open.  L2 tables and decoded
 * clusters live in the core's cache, as blocks of one cluster. */
#ifndef QCOW2_IMAGE_H
#define QCOW2_IMAGE_H

#include "qcow2_header.h"

struct qcow2 {
    struct plt_host *host;
    struct plt_child *child, *backing; /* backing: NULL, none */
    struct qcow2_header header;
    uint64_t cluster; /* bytes */
    uint8_t *l1;      /* big-endian, as read */
    uint64_t l1_mem;
};

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* the backing file's, or zeros */
    QCOW2_ZERO,        /* zeros; has a host cluster when host is not 0 */
    QCOW2_DATA,
    QCOW2_PACKED
};

/* A stretch of the disk of one nature, contiguous in the file if data. */
struct qcow2_piece {
    enum qcow2_kind kind;
    uint64_t host;   /* data: offset in the file; packed: of its bytes */
    uint64_t len;    /* of the disk */
    uint64_t guest;  /* packed: number of the cluster */
    uint32_t packed; /* packed: bytes in the file, at most */
};

/* What lies at off, at most len bytes of it.  With PLT_IO_NOWAIT: PLT_AGAIN
 * when the L2 table is not in memory. */
enum plt_status qcow2_map(struct qcow2 *q, struct plt_io *io, uint64_t off,
                          uint64_t len, struct qcow2_piece *piece,
                          struct plt_error *err);

/* A packed cluster that segments want, dest: where its bytes go. */
struct qcow2_packed {
    struct qcow2_piece piece;
    size_t in, len; /* which part of the cluster */
    uint8_t *buf;
};
/* Give each its bytes: one read for all that is not in the cache. */
enum plt_status qcow2_unpack(struct qcow2 *q, struct plt_io *io,
                             struct qcow2_packed *list, size_t n,
                             struct plt_error *err);

#endif
