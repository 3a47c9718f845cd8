/* SPDX-License-Identifier: Apache-2.0 */
/* L1 and L2: which pieces of the file make up a stretch of the disk.
 *
 * First the tables of everything that a call asks for are fetched, all of a
 * level together; then the pieces are looked up without waiting. */
#ifndef QCOW2_MAP_H
#define QCOW2_MAP_H

#include "qcow2_cluster.h"

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* the backing file's, or zeros */
    QCOW2_ZERO,
    QCOW2_DATA,
    QCOW2_PACKED
};

struct qcow2_piece {
    enum qcow2_kind kind;
    uint64_t len;    /* bytes of the disk, at least 1 */
    uint64_t host;   /* data: offset in the data file; packed: of the stream in
                        the qcow2 file; else a place that is kept for it */
    bool has_host;   /* host is set (not packed) */
    uint64_t guest;  /* packed: number of the cluster */
    uint32_t stored; /* packed: bytes in the file, at most */
};

/* The tables of one call. */
struct qcow2_tables {
    struct plt_set l1, l2;
};

/* Hold the tables that map the n segments of what is shown (q->base is added;
 * buf is not used).  Nothing is held
 * after a failure; otherwise until qcow2_tables_release. */
PLT_MUST_USE enum plt_status
qcow2_tables_fetch(struct qcow2 *q, struct plt_io *io,
                   const struct plt_seg *segs, size_t n,
                   struct qcow2_tables *tables, struct plt_error *err);
void qcow2_tables_release(struct qcow2 *q, struct qcow2_tables *tables);

/* What lies at off (q->base is in it), at most len bytes of it, all of it
 * inside what the tables were fetched for.  limit: the data file's size or
 * PLT_SIZE_MAX. */
PLT_MUST_USE enum plt_status qcow2_map(const struct qcow2 *q,
                                       const struct qcow2_tables *tables,
                                       uint64_t limit, uint64_t off,
                                       uint64_t len, struct qcow2_piece *piece,
                                       struct plt_error *err);

#endif
