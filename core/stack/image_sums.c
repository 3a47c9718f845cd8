/* SPDX-License-Identifier: Apache-2.0 */
/* A picture of an image: what the disk consists of, in sums, and what of it is
 * in memory and being read.
 *
 * What is cached is asked of the stack as a loan is (node_peek), one byte at a
 * time, since a loan is the one question that every layer answers from memory
 * alone and hands on to the layer below: which cluster a byte lies in, whether
 * it is decoded, whether the block of the source is there.  The blocks' own
 * list would be exact, but what a key means only its driver knows, and what
 * lies above it would have to be found by the extents of the whole chain, each
 * time. A read would do as well, and copy, and be followed by what reads ahead.
 * It is sampled because a disk may have as many clusters as it likes. */
#include "stack/extent_sum.h"
#include "stack/image_inside.h"
#include "util/clock.h"

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

/* ---- In memory now ---- */

/* A place in a stretch of len bytes, the same each time that it is asked for,
 * so that a picture does not flicker; not its middle: what is written at even
 * distances would be hit always or never. */
static uint64_t place_in(uint64_t off, uint64_t len)
{
    uint64_t h = off * UINT64_C(0x9e3779b97f4a7c15);

    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return off + (h ^ h >> 27) % len;
}

/* Sampled bytes of [from, to) that are in memory. */
static uint64_t cached_in(struct node *node, struct plt_io *io, uint64_t from,
                          uint64_t to, uint64_t samples)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < samples && from < to; i++) {
        const uint64_t len = (to - from) / (samples - i);
        if (len && node_peek(node, io, place_in(from, len)))
            sum += len;
        from += len;
    }
    return sum;
}

static bool never(const struct plt_io *io)
{
    (void)io;
    return false;
}

static void costs_nothing(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

static json_t *cached_json(struct image *image, const struct extent_sum *s)
{
    struct plt_io now = {.struct_size = (uint32_t)sizeof(now),
                         .flags = PLT_IO_NOWAIT,
                         .deadline_ns = CLOCK_NEVER,
                         .cancelled = never,
                         .charge = costs_nothing};
    const uint64_t samples = s->n < IMAGE_SAMPLES ? IMAGE_SAMPLES / s->n : 1;
    struct node *const top = stack_top(image_stack(image));
    const bool is_read = !stack_has_changed(image_stack(image));
    json_t *const list = json_array();

    for (unsigned i = 0; i < s->n; i++) {
        const uint64_t cached =
            is_read ? cached_in(top, &now, extent_sum_edge(s, i),
                                extent_sum_edge(s, i + 1), samples)
                    : 0; /* every read of it fails */
        (void)json_array_append_new(list, json_integer((json_int_t)cached));
    }
    return list;
}

static json_t *reads_json(struct image *image)
{
    struct recent *const recent = atomic_load(&image_follow(image)->recent);
    const uint64_t now = clock_now();
    struct recent_span v[RECENT_SPANS];
    const size_t n = recent ? recent_list(recent, now, v) : 0;
    json_t *const list = json_array();

    for (size_t i = 0; i < n; i++) {
        const uint64_t age_ns = now > v[i].ns ? now - v[i].ns : 0;
        (void)json_array_append_new(
            list, json_pack("{s:I, s:I, s:I}", "start", (json_int_t)v[i].off,
                            "length", (json_int_t)v[i].len, "age-ms",
                            (json_int_t)(age_ns / NS_PER_MS)));
    }
    return list;
}

enum plt_status image_live_json(struct image *image, struct plt_io *io,
                                uint64_t start, uint64_t length,
                                unsigned buckets, json_t **out,
                                struct plt_error *err)
{
    struct extent_sum s = {.start = start, .n = buckets};
    uint64_t size;
    const enum plt_status st =
        image_window(image, io, start, &length, &size, err);

    if (st != PLT_OK)
        return st;
    s.length = length;
    *out = head(&s, size);
    (void)json_object_set_new(*out, "cached", cached_json(image, &s));
    (void)json_object_set_new(*out, "reads", reads_json(image));
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a picture");
}
