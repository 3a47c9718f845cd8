/* SPDX-License-Identifier: Apache-2.0 */
/* What the other files of an image share with image.c, and nobody else. */
#ifndef STACK_IMAGE_INSIDE_H
#define STACK_IMAGE_INSIDE_H

#include <stdatomic.h>

#include "stack/catalogue.h"
#include "stack/image.h"
#include "stack/prefetch.h"
#include "stack/readahead.h"
#include "stack/recent.h"
#include "stack/stack.h"
#include "stack/traces.h"

struct stack *image_stack(const struct image *image); /* borrowed */
/* What the guest's disk is kept as, in qemu-img's word; "raw" where no format
 * is over the source, the wrappers and the archive. */
const char *image_format(struct image *image);
/* Addresses of sources are not told. */
bool image_hides_places(const struct image *image);
/* Clip [start, start+*length) to the disk, whose size is waited for.
 * PLT_INVALID: it begins behind the end. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_window(struct image *image, struct plt_io *io, uint64_t start,
             uint64_t *length, uint64_t *size, struct plt_error *err);
/* Ask the sources whether they are what was opened; for a few seconds at most.
 * What comes out is seen in stack_has_changed(). */
MAY_WAIT void image_revalidate(struct image *image, struct plt_io *io);

/* The process's known checksums; borrowed. */
struct checksums *images_checksums(struct image *image);
struct checksums *checksums_new(void); /* new, or NULL */
void checksums_free(struct checksums *checksums);

struct catalogue *images_catalogue(struct images *images); /* borrowed */

/* Requests that hold the image, the asker not counted. */
unsigned image_readers(struct image *image);
/* It is images_open_url's: no client's, and in no list. */
bool image_is_of_url(const struct image *image);
/* It was asked for with selectors besides its name. */
bool image_is_selected(const struct image *image);
/* {"name", selectors...} as it was asked for; new. */
json_t *image_reference_json(const struct image *image);
struct cache *image_cache(struct image *image); /* borrowed */

/* What is known of those who read an image (image_follow.c). */
struct image_follow {
    _Atomic(struct readahead *) readahead; /* NULL: not yet, or not wanted */
    _Atomic(struct recorder *) recorder;   /* NULL: nothing was ever recorded */
    _Atomic(struct recent *) recent;       /* NULL: nobody has asked yet */
    atomic_bool has_begun; /* a read has waited: the trace was looked for */
};
struct image_follow *image_follow(struct image *image); /* borrowed */
/* It closes; of one that was never open too. */
void image_follow_release(struct image *image);
/* image_trace.c */
void image_trace_seen(struct image *image, uint64_t off, uint64_t len,
                      bool is_hit);
void image_trace_close(struct image *image);         /* that is open */
struct traces *images_traces(struct images *images); /* borrowed */
struct images *image_images(struct image *image);    /* borrowed */
/* The most that is read ahead of a stream, bytes; 0: nothing. */
uint64_t images_readahead(const struct images *images);
/* The next who asks for it finds it: it has not changed and was not deleted. */
bool image_is_listed(struct image *image);
/* Requests that wait for it now. */
unsigned image_waiting(struct image *image);

#endif
