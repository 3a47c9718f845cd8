/* SPDX-License-Identifier: Apache-2.0 */
/* What the other files of an image share with image.c, and nobody else. */
#ifndef STACK_IMAGE_INSIDE_H
#define STACK_IMAGE_INSIDE_H

#include "stack/image.h"
#include "stack/stack.h"

struct stack *image_stack(const struct image *image); /* borrowed */
/* Addresses of sources are not told. */
bool image_hides_places(const struct image *image);
/* Ask the sources whether they are what was opened; for a few seconds at most.
 * What comes out is seen in stack_has_changed(). */
MAY_WAIT void image_revalidate(struct image *image, struct plt_io *io);

#endif
