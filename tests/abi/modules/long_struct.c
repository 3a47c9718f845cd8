/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin of a later minor version: more fields than this core knows. */
#define MODULE_HAS_OWN_DRIVER
#include "module.h"

struct later_driver {
    struct plt_driver known;
    void *unknown[32];
};

PLT_EXPORT extern const struct later_driver
    later_driver __asm__("platter_driver");
PLT_EXPORT const struct later_driver later_driver = {

    .known = {.struct_size = (uint32_t)sizeof(struct later_driver),
              .abi_major = PLT_ABI_MAJOR,
              .abi_minor = 42,
              .caps = 0xfffffff0U, /* bits that nobody knows yet */
              MODULE_PARTS("longstruct")},
    .unknown = {(void *)8}};
