/* SPDX-License-Identifier: Apache-2.0 */
/* A source that cannot say what pins its bytes. */
#include "module.h"

PLT_EXPORT const struct plt_driver platter_driver = {
    .struct_size = (uint32_t)sizeof(struct plt_driver),
    .abi_major = PLT_ABI_MAJOR,
    .abi_minor = PLT_ABI_MINOR,
    .name = "noidentity",
    .kind = PLT_KIND_SOURCE,
    .open = module_open,
    .close = module_close,
    .read = module_read};
