/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2 spec, "Bitmaps": the directory as read at open, and the bits as
 * extents.  Immutable after open.  Threads: any. */
#ifndef QCOW2_BITMAP_H
#define QCOW2_BITMAP_H

#include <platter/driver.h>

enum {
    QCOW2_BITMAP_MIN_BITS = 9, /* granularity, as the spec */
    QCOW2_BITMAP_MAX_BITS = 31,
    QCOW2_MAX_BITMAP_TABLE = 16 << 20 /* entries; QEMU's limit is the same */
};

enum qcow2_bitmap_flag {
    QCOW2_BITMAP_IN_USE = 1, /* was not closed: its bits mean nothing */
    QCOW2_BITMAP_AUTO = 2,
    QCOW2_BITMAP_EXTRA_COMPATIBLE = 4
};

struct qcow2_bitmap {
    uint64_t table_off;
    uint32_t table_len; /* entries */
    uint32_t flags;
    uint8_t type, granularity_bits;
    uint32_t extra_len;
    char *name; /* new */
};

struct qcow2_bitmaps {
    struct qcow2_bitmap *v;
    uint32_t n;
};

struct qcow2;

/* Parse the directory: n entries in exactly len bytes.  After a failure *out
 * is empty. */
PLT_MUST_USE enum plt_status
qcow2_bitmaps_parse(struct qcow2_bitmaps *out, const uint8_t *buf, size_t len,
                    uint32_t n, unsigned cluster_bits, struct plt_error *err);
void qcow2_bitmaps_release(struct qcow2_bitmaps *b);

/* "bitmaps" of qemu-img info: name, granularity, flags. */
void qcow2_bitmaps_info(const struct qcow2_bitmaps *b, struct plt_info *info);

/* As struct plt_driver's dirty_extents. */
PLT_MUST_USE enum plt_status
qcow2_dirty_extents(void *image, struct plt_io *io, const char *name,
                    uint64_t off, uint64_t len, plt_extent_fn *emit,
                    void *cookie, struct plt_error *err);

#endif
