/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a driver that hands its child through: modules change one. */
#ifndef TESTS_ABI_MODULE_H
#define TESTS_ABI_MODULE_H

#include <platter/driver.h>

static inline enum plt_status module_open(const struct plt_open_args *args,
                                          void **image, struct plt_opened *out,
                                          struct plt_error *err)
{
    *image = args->child;
    return args->child->resolve_size(args->child, args->io, &out->size, err);
}

static inline void module_close(void *image)
{
    (void)image;
}

static inline enum plt_status module_read(void *image, struct plt_io *io,
                                          const struct plt_seg *segs, size_t n,
                                          struct plt_error *err)
{
    struct plt_child *const child = (struct plt_child *)image;
    return child->read(child, io, segs, n, err);
}

#define MODULE_PARTS(is_called)                                                \
    .name = (is_called), .kind = PLT_KIND_FORMAT,                              \
    .threads = PLT_CONCURRENT_READS, .open = module_open,                      \
    .close = module_close, .read = module_read

#ifndef MODULE_HAS_OWN_DRIVER
PLT_EXPORT extern const struct plt_driver platter_driver;
#endif

#endif
