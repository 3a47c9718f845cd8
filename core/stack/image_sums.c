/* SPDX-License-Identifier: Apache-2.0 */
/* A picture of an image: what the disk consists of, in sums. */
#include "stack/extent_sum.h"
#include "stack/image_inside.h"

_Static_assert((int)IMAGE_BUCKETS == (int)EXTENT_SUM_MAX, "one bound");

/* new; what could not be made is left out, and seen in json_memory_lost(). */
static json_t *numbers(const uint64_t *v, unsigned n)
{
    json_t *const list = json_array();

    for (unsigned i = 0; i < n; i++)
        (void)json_array_append_new(list, json_integer((json_int_t)v[i]));
    return list;
}

/* The picture's head: which stretch, and in how many parts.  new, or NULL. */
static json_t *head(const struct extent_sum *s, uint64_t size)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "start", (json_int_t)s->start,
                     "length", (json_int_t)s->length, "virtual-size",
                     (json_int_t)size, "buckets", (json_int_t)s->n);
}

enum plt_status image_sums_json(struct image *image, struct plt_io *io,
                                uint64_t start, uint64_t length,
                                unsigned buckets, json_t **out,
                                struct plt_error *err)
{
    static const char *const names[EXTENT_KINDS] = {"data", "compressed",
                                                    "zero", "hole"};
    struct extent_sum s;
    uint64_t size;
    enum plt_status st = image_window(image, io, start, &length, &size, err);

    if (st != PLT_OK)
        return st;
    if (!extent_sum_init(&s, start, length, buckets))
        return plt_fail(err, PLT_NOMEM, "sums");
    if (length)
        st = image_extents(image, io, start, length, extent_sum_take, &s, err);
    if (st == PLT_OK) {
        *out = head(&s, size);
        (void)json_object_set_new(*out, "extents",
                                  json_integer((json_int_t)s.runs));
        for (size_t i = 0; i < EXTENT_KINDS; i++)
            (void)json_object_set_new(*out, names[i],
                                      numbers(s.bytes[i], buckets));
        if (!*out)
            st = plt_fail(err, PLT_NOMEM, "sums");
    }
    extent_sum_release(&s);
    return st;
}
