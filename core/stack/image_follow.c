/* SPDX-License-Identifier: Apache-2.0 */
/* What clients read of an image, seen from outside of it: to read ahead of
 * them, and to show it.  Called for every request on event threads: no lock
 * that all of them share, no memory but once for an image. */
#include "stack/image_inside.h"
#include "util/clock.h"

/* The image's readers, made when the first request has to wait; NULL: nothing
 * is read ahead. */
static struct readahead *readers(struct image *image, bool is_hit)
{
    struct image_follow *const f = image_follow(image);
    struct readahead *ra = atomic_load(&f->readahead), *none = NULL;
    const uint64_t limit = images_readahead(image_images(image));

    if (ra || is_hit || !limit)
        return ra;
    ra = readahead_new(limit);
    if (ra && !atomic_compare_exchange_strong(&f->readahead, &none, ra)) {
        readahead_free(ra); /* another was first */
        ra = none;
    }
    return ra;
}

void image_follow_release(struct image *image)
{
    if (image_stack(image))
        image_trace_close(image);
    recorder_free(atomic_load(&image_follow(image)->recorder));
    readahead_free(atomic_load(&image_follow(image)->readahead));
    recent_free(atomic_load(&image_follow(image)->recent));
}

void image_asked(struct image *image, uint64_t off, uint64_t len)
{
    struct image_follow *const f = image_follow(image);
    struct recent *recent = atomic_load(&f->recent), *none = NULL;

    if (!recent) {
        recent = recent_new();
        if (recent &&
            !atomic_compare_exchange_strong(&f->recent, &none, recent)) {
            recent_free(recent); /* another was first */
            recent = none;
        }
    }
    if (recent && len)
        recent_see(recent, off, len, clock_now());
}

void image_seen(struct image *image, uint64_t client, uint64_t off,
                uint64_t len, bool is_hit)
{
    const uint64_t size = image_size(image);
    struct readahead *const ra = readers(image, is_hit);
    struct readahead_plan plan;

    if (size == PLT_SIZE_UNKNOWN)
        return;
    image_trace_seen(image, off, len, is_hit);
    if (!ra)
        return;
    readahead_see(ra, client, off, len, size, is_hit, &plan);
    if (plan.n || plan.used)
        prefetch_ahead(images_prefetch(image_images(image)), image, ra, client,
                       &plan);
}
