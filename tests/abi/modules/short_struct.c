/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin compiled when the struct ended after read: what lies behind it in
 * memory is not the core's to look at. */
#include <stdlib.h>

#include "module.h"

static enum plt_status never(void *image, struct plt_io *io, uint64_t off,
                             uint64_t len, plt_extent_fn *emit, void *cookie,
                             struct plt_error *err)
{
    (void)image;
    (void)io;
    (void)off;
    (void)len;
    (void)emit;
    (void)cookie;
    (void)err;
    abort();
}

static void never_info(void *image, struct plt_info *info)
{
    (void)image;
    (void)info;
    abort();
}

PLT_EXPORT const struct plt_driver platter_driver = {
    .struct_size = (uint32_t)offsetof(struct plt_driver, extents),
    .abi_major = PLT_ABI_MAJOR,
    .abi_minor = PLT_ABI_MINOR,
    MODULE_PARTS("shortstruct"),
    .extents = never,
    .info = never_info};
