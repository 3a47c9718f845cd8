/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "stack/image_inside.h"

/* An index is a hundredth of its stream: this is one of many terabytes. */
enum { MAX_INDEX = 1 << 30 };

static struct node *find_indexed(struct image *image)
{
    struct node *node = stack_top(image_stack(image));

    while (node && !node->driver->index_get)
        node = node->below;
    return node;
}

static enum plt_status fail_none(struct plt_error *err)
{
    return plt_fail(err, PLT_NOT_FOUND, "no layer of this image has an index");
}

enum plt_status image_index_json(struct image *image, json_t **out,
                                 struct plt_error *err)
{
    struct node *const node = find_indexed(image);

    if (!node)
        return fail_none(err);
    *out = node_info(node, image_hides_places(image));
    if (!*out)
        return plt_fail(err, PLT_NOMEM, "a description");
    if (node->below && node_size(node->below) != PLT_SIZE_UNKNOWN)
        (void)json_object_set_new(
            *out, "source-size",
            json_integer((json_int_t)node_size(node->below)));
    return PLT_OK;
}

struct sink {
    uint8_t *data;
    size_t len, cap;
};

static bool take(void *cookie, const void *data, size_t len)
{
    struct sink *const s = (struct sink *)cookie;

    if (len > MAX_INDEX - s->len)
        return false;
    if (s->len + len > s->cap) {
        const size_t cap = 2 * (s->len + len);
        uint8_t *const grown = realloc(s->data, cap);
        if (!grown)
            return false;
        s->data = grown;
        s->cap = cap;
    }
    memcpy(s->data + s->len, data, len);
    s->len += len;
    return true;
}

enum plt_status image_index_get(struct image *image, struct plt_io *io,
                                const char *form, uint8_t **data, size_t *len,
                                struct plt_error *err)
{
    struct node *const node = find_indexed(image);
    struct sink s = {.len = 0};
    const enum plt_status st =
        node ? node_index_get(node, io, form, take, &s, err) : fail_none(err);

    if (st != PLT_OK) {
        free(s.data);
        return st;
    }
    *data = s.data;
    *len = s.len;
    return PLT_OK;
}

enum plt_status image_index_put(struct image *image, struct plt_io *io,
                                const uint8_t *data, size_t len,
                                struct plt_error *err)
{
    struct node *const node = find_indexed(image);

    return node ? node_index_put(node, io, data, len, err) : fail_none(err);
}

enum plt_status image_index_build(struct image *image, struct plt_io *io,
                                  uint64_t *out, struct plt_error *err)
{
    struct node *const node = find_indexed(image);

    return node ? node_resolve_size(node, io, out, err) : fail_none(err);
}
