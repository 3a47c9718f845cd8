/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that this process itself provides under bare names: mirrors.
 *
 * What provides them stands above the stack, so it is handed in.  A provided
 * disk is the source of a stack like any other: it has extents, an ETag,
 * partitions, and readers.  One that is opened is one version for ever; of a
 * name that has moved on, images_forget() makes the next asker open the new
 * one. Threads: any, for all of these. */
#ifndef STACK_PROVIDED_H
#define STACK_PROVIDED_H

#include <platter/driver.h>

struct images;
struct image;

struct provider {
    void *cookie;
    /* Does it provide this name?  Does not wait. */
    bool (*has)(void *cookie, const char *name);
    /* new in *disk; *size in bytes; identity as of a source. */
    enum plt_status (*open)(void *cookie, const char *name, struct plt_io *io,
                            void **disk, uint64_t *size,
                            struct plt_identity *identity,
                            struct plt_error *err);
    void (*close)(void *disk);
    /* Fill all segments, which lie inside the size and ascend, or fail.  Never
     * with PLT_IO_NOWAIT. */
    enum plt_status (*read)(void *disk, struct plt_io *io,
                            const struct plt_seg *segs, size_t n,
                            struct plt_error *err);
    /* As struct plt_driver's. */
    enum plt_status (*extents)(void *disk, struct plt_io *io, uint64_t off,
                               uint64_t len, plt_extent_fn *emit, void *cookie,
                               struct plt_error *err);
    void (*info)(void *disk, struct plt_info *info);
};

/* Borrowed, outlives images; before anybody asks for an image. */
void images_set_provider(struct images *images,
                         const struct provider *provider);
/* Whoever asks for this name next opens anew; who reads goes on. */
void images_forget(struct images *images, const char *name);
/* The provider's disk at the bottom of this image, borrowed, when the image is
 * nothing but it (no partition or other layer above); else NULL. */
void *image_provided(struct image *image);
/* An origin or a registered image has this name. */
bool images_has_name(struct images *images, const char *name);
/* Does policy let an absolute http(s) URL be opened?  PLT_DENIED, as
 * images_open_url() would say it. */
PLT_MUST_USE enum plt_status
images_allow_url(struct images *images, const char *url, struct plt_error *err);
/* Is the origin of "ORIGIN/PATH" configured? */
bool images_has_origin_of(struct images *images, const char *target);

#endif
