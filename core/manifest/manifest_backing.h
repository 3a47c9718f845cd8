/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest out of that of a backing file: groups that the overlay has nothing
 * of are those of the backing file, and need not be read. */
#ifndef MANIFEST_MANIFEST_BACKING_H
#define MANIFEST_MANIFEST_BACKING_H

#include "manifest/manifest_file.h"
#include "stack/image.h"

/* Put into `file`, of the image's size, what it shares with `backing`, the
 * manifest of the depth-th image below it (image_backing_etag): *n groups more
 * are known.  What is damaged in `backing` is left out.  PLT_NOMEM: a bit for
 * each group. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_take_backing(struct image *image, struct plt_io *io, unsigned depth,
                      struct manifest_file *backing, struct manifest_file *file,
                      uint64_t *n, struct plt_error *err);

#endif
