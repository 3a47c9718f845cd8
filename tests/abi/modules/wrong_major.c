/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin of a later ABI: refused by its number before anything is believed.
 */
#include "module.h"

PLT_EXPORT const struct plt_driver platter_driver = {
    .struct_size = (uint32_t)sizeof(struct plt_driver),
    .abi_major = 99,
    .abi_minor = 7,
    MODULE_PARTS("wrongmajor")};
