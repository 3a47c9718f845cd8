/* SPDX-License-Identifier: Apache-2.0 */
/* Making the digests of an image: its extents tell what is zero and not read,
 * the rest is read by several threads and hashed there. */
#ifndef MANIFEST_MANIFEST_BUILD_H
#define MANIFEST_MANIFEST_BUILD_H

#include "manifest/manifest_file.h"
#include "stack/image.h"

struct manifest_build {
    struct manifest_file *file; /* of the image's size; groups that it has are
                                   not read again unless `sink` wants them */
    unsigned threads;           /* 0: 4 */
    uint64_t wait_ms;           /* each read's own deadline */
    /* On a reading thread, in any order, before the group is put into `file`:
     * data of the group's bytes (NULL: all zeros) and its leaves.  May wait;
     * its failure ends it all.  May be NULL. */
    enum plt_status (*sink)(void *cookie, uint64_t g, const uint8_t *data,
                            size_t len, const manifest_digest *leaves, size_t n,
                            struct plt_error *err);
    /* Does the sink want group g?  With a sink alone; NULL: all. */
    bool (*wants)(void *cookie, uint64_t g);
    /* Bytes of disk that are done, of all; on the caller's thread; or NULL. */
    void (*progress)(void *cookie, uint64_t done, uint64_t all);
    void *cookie;
};

/* OK: `file` is complete and finished.  PLT_CHANGED: the image is another one
 * now.  What was made is kept in `file` in any case. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_build(struct image *image, struct plt_io *io,
               const struct manifest_build *build, struct plt_error *err);

#endif
