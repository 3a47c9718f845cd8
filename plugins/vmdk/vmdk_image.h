/* SPDX-License-Identifier: Apache-2.0 */
/* One open VMDK: what the files of this driver share.  Fixed after open, save
 * sizes that a stream may tell late. */
#ifndef VMDK_IMAGE_H
#define VMDK_IMAGE_H

#include "vmdk_extent.h"

struct vmdk {
    struct plt_host *host;
    struct plt_child *child;  /* the file that was opened */
    struct plt_child *parent; /* or NULL */
    _Atomic uint64_t parent_size;
    struct vmdk_descriptor descriptor;
    struct vmdk_extent *extents; /* ascending, without gaps */
    size_t n_extents;
    uint64_t size; /* bytes of the disk */
    uint64_t mem;  /* taken */
};

/* Account memory that an image chose the size of; given back at close. */
PLT_MUST_USE enum plt_status vmdk_take(struct vmdk *v, uint64_t bytes,
                                       const char *what, struct plt_error *err);

/* vmdk_open.c */
PLT_MUST_USE enum plt_status vmdk_load(struct vmdk *v,
                                       const struct plt_open_args *args,
                                       struct plt_error *err);
void vmdk_free(struct vmdk *v);

/* vmdk_describe.c: as the slots of struct plt_driver. */
void vmdk_info(void *image, struct plt_info *info);
PLT_MUST_USE enum plt_status vmdk_extents(void *image, struct plt_io *io,
                                          uint64_t off, uint64_t len,
                                          plt_extent_fn *emit, void *cookie,
                                          struct plt_error *err);
PLT_MUST_USE enum plt_status vmdk_check(void *image, struct plt_io *io,
                                        struct plt_check *check,
                                        struct plt_error *err);

/* vmdk_lend.c: as struct plt_driver's lend. */
PLT_MUST_USE enum plt_status vmdk_lend(void *image, struct plt_io *io,
                                       uint64_t off, uint64_t len,
                                       plt_lend_fn *emit, void *cookie);

/* The extent that holds off. */
struct vmdk_extent *vmdk_find(const struct vmdk *v, uint64_t off);

#endif
