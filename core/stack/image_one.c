/* SPDX-License-Identifier: Apache-2.0 */
/* One image: what is asked of it once it is there. */
#include "stack/image_set.h"

#include <stdio.h>
#include <string.h>

#include "stack/stack.h"

uint64_t image_size(const struct image *image)
{
    return node_size(stack_top(image->stack));
}

enum plt_status image_resolve_size(struct image *image, struct plt_io *io,
                                   uint64_t *size, struct plt_error *err)
{
    return node_resolve_size(stack_top(image->stack), io, size, err);
}

const char *image_etag(const struct image *image)
{
    return stack_etag(image->stack);
}

bool image_backing_etag(const struct image *image, unsigned depth,
                        char out[IMAGE_ETAG])
{
    _Static_assert((int)IMAGE_ETAG == (int)STACK_ETAG, "one text");
    return stack_backing_etag(image->stack, depth, out);
}

int64_t image_mtime(const struct image *image)
{
    return stack_mtime(image->stack);
}

const char *image_name(const struct image *image)
{
    return image->name;
}

const char *image_source_url(const struct image *image)
{
    return stack_place(image->stack)->url;
}

enum plt_status image_fetch(struct image *image, struct plt_io *io,
                            const char *url, uint8_t *buf, size_t cap,
                            size_t *got, struct plt_error *err)
{
    return node_fetch(stack_source(image->stack), io, url, buf, cap, got, err);
}

enum plt_status image_read(struct image *image, struct plt_io *io,
                           const struct plt_seg *segs, size_t n,
                           struct plt_error *err)
{
    /* One image is one version for ever: once any read has seen another one,
     * no read may succeed, not even from memory of the old. */
    if (stack_has_changed(image->stack)) {
        const enum plt_status st =
            plt_fail(err, PLT_CHANGED, "the source has changed");
        (void)snprintf(err->layer, sizeof(err->layer), "%s", "source");
        return st;
    }
    return node_read(stack_top(image->stack), io, segs, n, err);
}

enum plt_status image_extents(struct image *image, struct plt_io *io,
                              uint64_t off, uint64_t len, plt_extent_fn *emit,
                              void *cookie, struct plt_error *err)
{
    return node_extents(stack_top(image->stack), io, off, len, emit, cookie,
                        err);
}

struct stack *image_stack(const struct image *image)
{
    return image->stack;
}

bool image_hides_places(const struct image *image)
{
    return !image->images->config.is_local;
}

struct checksums *images_checksums(struct image *image)
{
    return image->images->checksums;
}

struct image_follow *image_follow(struct image *image)
{
    return &image->follow;
}

struct images *image_images(struct image *image)
{
    return image->images;
}

bool image_is_listed(struct image *image)
{
    lock_take(&image->images->lock);
    const bool is_listed = image->is_listed;
    lock_give(&image->images->lock);
    return is_listed;
}

unsigned image_waiting(struct image *image)
{
    return atomic_load(&image->n_waiting);
}

unsigned image_readers(struct image *image)
{
    lock_take(&image->images->lock);
    const unsigned refs = image->refs;
    lock_give(&image->images->lock);
    return refs > 2 ? refs - 2 : 0; /* the table's, and the asker's */
}

struct cache *image_cache(struct image *image)
{
    return image->images->cache;
}

/* The parts of a key (reference_key), which is all that is kept of what was
 * asked. */
static const char *const key_parts[] = {"name",      "member", "snapshot",
                                        "partition", "secret", "layers"};
enum { KEY_PARTS = sizeof(key_parts) / sizeof(key_parts[0]) };

bool image_is_of_url(const struct image *image)
{
    return image->key[0] == IMAGE_KEY_URL;
}

bool image_is_selected(const struct image *image)
{
    const char *const first = image->key + strcspn(image->key, "\1\2");
    return strchr(*first ? first + 1 : first, '\1') != NULL;
}

json_t *image_reference_json(const struct image *image)
{
    json_t *const row = json_object();
    const char *p = image->key;

    for (size_t i = 0; i < KEY_PARTS && *p; i++) {
        const size_t len = strcspn(p, "\1\2");
        if (p[len] == '\1')
            (void)json_object_set_new(row, key_parts[i], json_stringn(p, len));
        p += len + 1;
    }
    return row;
}

bool image_is_open(struct image *image)
{
    lock_take(&image->images->lock);
    const bool is_open = image->state == OPEN;
    lock_give(&image->images->lock);
    return is_open;
}

void image_enter(struct image *image)
{
    (void)atomic_fetch_add(&image->n_waiting, 1);
}

uint64_t images_refused(struct images *images)
{
    return atomic_load(&images->n_refused);
}

void image_leave(struct image *image)
{
    (void)atomic_fetch_sub(&image->n_waiting, 1);
}
