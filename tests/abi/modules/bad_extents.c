/* SPDX-License-Identifier: Apache-2.0 */
/* Breaks the order of extents in the way its first byte says; its bytes are
 * good all the same. */
#include "module.h"

static enum plt_status bad_extents(void *image, struct plt_io *io, uint64_t off,
                                   uint64_t len, plt_extent_fn *emit,
                                   void *cookie, struct plt_error *err)
{
    struct plt_child *const child = (struct plt_child *)image;
    uint8_t how = 0;
    const struct plt_seg seg = {0, 1, &how};
    struct plt_extent e = {.off = off, .len = len};
    const enum plt_status st = child->read(child, io, &seg, 1, err);

    if (st != PLT_OK)
        return st;
    switch (how) {
    case 'g': /* a gap before the first */
        e.off = off + 1;
        break;
    case 'e': /* an empty one */
        e.len = 0;
        break;
    case 'n': /* none at all, and OK */
        return PLT_OK;
    case 'w': /* wraps round */
        e.len = UINT64_MAX;
        break;
    case 'b': /* steps back */
        e.len = len / 2;
        if (!emit(cookie, &e))
            return PLT_OK;
        e.off = off;
        e.len = 1;
        break;
    default: /* good */
        break;
    }
    (void)emit(cookie, &e);
    return PLT_OK;
}

PLT_DRIVER(MODULE_PARTS("badextents"), .extents = bad_extents)
