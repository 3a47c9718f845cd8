/* SPDX-License-Identifier: Apache-2.0 */
/* What image_json.c needs of an image, and nobody else. */
#ifndef STACK_IMAGE_INSIDE_H
#define STACK_IMAGE_INSIDE_H

#include "stack/image.h"
#include "stack/stack.h"

struct stack *image_stack(const struct image *image); /* borrowed */
/* Addresses of sources are not told. */
bool image_hides_places(const struct image *image);

#endif
