/* SPDX-License-Identifier: Apache-2.0 */
/* What the other files of an image share with image.c, and nobody else. */
#ifndef STACK_IMAGE_INSIDE_H
#define STACK_IMAGE_INSIDE_H

#include "stack/image.h"
#include "stack/stack.h"

struct stack *image_stack(const struct image *image); /* borrowed */
/* What the guest's disk is kept as, in qemu-img's word; "raw" where no format
 * is over the source, the wrappers and the archive. */
const char *image_format(struct image *image);
/* Addresses of sources are not told. */
bool image_hides_places(const struct image *image);
/* Ask the sources whether they are what was opened; for a few seconds at most.
 * What comes out is seen in stack_has_changed(). */
MAY_WAIT void image_revalidate(struct image *image, struct plt_io *io);

/* The process's known checksums; borrowed. */
struct checksums *images_checksums(struct image *image);
struct checksums *checksums_new(void); /* new, or NULL */
void checksums_free(struct checksums *checksums);

/* Requests that hold the image, the asker not counted. */
unsigned image_readers(struct image *image);
/* It was asked for with selectors besides its name. */
bool image_is_selected(const struct image *image);
/* {"name", selectors...} as it was asked for; new. */
json_t *image_reference_json(const struct image *image);
struct cache *image_cache(struct image *image); /* borrowed */

#endif
