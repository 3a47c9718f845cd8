/* SPDX-License-Identifier: Apache-2.0 */
/* One open qcow2 image: what the files of this driver share.
 *
 * Everything is fixed after open, save sizes that a stream may tell late.
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

#include "qcow2_bitmap.h"
#include "qcow2_cluster.h"
#include "qcow2_crypt.h"
#include "qcow2_header.h"
#include "qcow2_map.h"
#include "qcow2_snapshot.h"

enum {
    QCOW2_SLICE = 64 * 1024 /* maps 512 MiB with clusters of 64 KiB; a whole
                               table of 2 MiB would cost a cold read 2 MiB */
};

enum qcow2_answer { QCOW2_NOT_ASKED, QCOW2_NO, QCOW2_YES };

/* A layer under this one, and its size as far as it is known: PLT_SIZE_MAX
 * before that, 0 when there is none. */
struct qcow2_below {
    struct plt_child *child;
    _Atomic uint64_t size;
};

struct qcow2 {
    struct plt_host *host;
    struct plt_child *child; /* the qcow2 file, tables and all */
    _Atomic uint64_t child_size;
    struct qcow2_below data;    /* where data clusters lie: the child, or the
                                   external data file */
    struct qcow2_below backing; /* child NULL: none */
    struct qcow2_header header;
    struct qcow2_snapshots snapshots;
    struct qcow2_bitmaps bitmaps;
    struct qcow2_luks *luks;            /* parsed header, or NULL */
    struct qcow2_crypt *crypt;          /* NULL: not encrypted */
    const struct qcow2_snapshot *shown; /* NULL: the active disk */
    bool is_vm_state;                   /* ... or the VM state in it */
    bool has_data_file;
    atomic_int is_preallocated; /* enum qcow2_answer */
    uint64_t size;              /* bytes of what is shown */
    uint64_t base;              /* where it begins in the L1's address space */
    uint64_t l1_off;            /* of what is shown */
    uint32_t l1_count;          /* entries */
    uint64_t cluster;           /* bytes */
    unsigned entry;      /* bytes of an L2 entry: 8, or 16 with subclusters */
    uint64_t slice;      /* bytes of a slice of an L2 table */
    uint64_t slice_span; /* bytes of the disk that it maps */
    uint8_t *l1;         /* big-endian, as read; NULL: large, in slices */
    uint64_t mem;        /* taken for it, and for snapshots and bitmaps */
};

/* qcow2_open.c */
PLT_MUST_USE enum plt_status qcow2_load(struct qcow2 *q,
                                        const struct plt_open_args *args,
                                        struct plt_error *err);
void qcow2_free(struct qcow2 *q);

/* qcow2_extents.c: as struct plt_driver's extents. */
PLT_MUST_USE enum plt_status qcow2_extents(void *image, struct plt_io *io,
                                           uint64_t off, uint64_t len,
                                           plt_extent_fn *emit, void *cookie,
                                           struct plt_error *err);
/* qcow2_lend.c: as struct plt_driver's lend. */
enum plt_status qcow2_lend(void *image, struct plt_io *io, uint64_t off,
                           uint64_t len, plt_lend_fn *emit, void *cookie);
/* qcow2_check.c: more clusters have a refcount than the file has space for: its
 * data clusters were allocated in advance and not written.  Asked once. */
PLT_MUST_USE enum plt_status qcow2_ask_preallocated(struct qcow2 *q,
                                                    struct plt_io *io,
                                                    struct plt_error *err);
/* qcow2_check.c: as struct plt_driver's check. */
PLT_MUST_USE enum plt_status qcow2_check(void *image, struct plt_io *io,
                                         struct plt_check *check,
                                         struct plt_error *err);
/* qcow2_info.c: as struct plt_driver's info and snapshots. */
void qcow2_info(void *image, struct plt_info *info);
PLT_MUST_USE enum plt_status
qcow2_list_snapshots(void *image, struct plt_io *io, plt_snapshot_fn *emit,
                     void *cookie, struct plt_error *err);

#endif
