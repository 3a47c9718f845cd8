/* SPDX-License-Identifier: Apache-2.0 */
/* What images there are: registered, open, or both. */
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "stack/image_inside.h"
#include "util/auto.h"

/* Layers of all open images, each with the row that it belongs to. */
struct owned {
    uint64_t owner;
    uint64_t bytes;
    json_t *row; /* borrowed from the list */
};

struct listing {
    json_t *list;
    struct owned *v;
    size_t n, cap;
};

/* The row of a registered image, when it is opened as registered. */
static json_t *row_of(json_t *list, struct image *image)
{
    json_t *row;
    size_t i;

    if (image_is_selected(image))
        return NULL;
    json_array_foreach(list, i, row)
    {
        const char *const name =
            json_string_value(json_object_get(row, "name"));
        if (name && json_object_get(row, "registered") &&
            strcmp(name, image_name(image)) == 0)
            return row;
    }
    return NULL;
}

static void add_layers(struct listing *l, struct image *image, json_t *row)
{
    for (struct node *n = stack_top(image_stack(image)); n; n = n->below) {
        if (l->n == l->cap) {
            const size_t cap = l->cap ? 2 * l->cap : 64;
            struct owned *const grown = realloc(l->v, cap * sizeof(*grown));
            if (!grown)
                return; /* the count is then too low */
            l->v = grown;
            l->cap = cap;
        }
        l->v[l->n++] = (struct owned){.owner = n->owner, .row = row};
    }
}

static void add_open(void *cookie, struct image *image)
{
    struct listing *const l = (struct listing *)cookie;

    if (image_is_of_url(image))
        return;
    json_t *row = row_of(l->list, image);
    const bool is_open = image_is_open(image);

    if (!row) {
        row = image_reference_json(image);
        if (!row || json_array_append_new(l->list, row) != 0)
            return;
    }
    (void)json_object_set_new(row, "state",
                              json_string(is_open ? "open" : "opening"));
    (void)json_object_set_new(row, "readers",
                              json_integer(image_readers(image)));
    if (!is_open)
        return;
    if (image_size(image) != PLT_SIZE_UNKNOWN)
        (void)json_object_set_new(row, "virtual-size",
                                  json_integer((json_int_t)image_size(image)));
    (void)json_object_set_new(row, "format", json_string(image_format(image)));
    (void)json_object_set_new(row, "etag", json_string(image_etag(image)));
    add_layers(l, image, row);
}

static int by_owner(const void *a, const void *b)
{
    const struct owned *const x = (const struct owned *)a;
    const struct owned *const y = (const struct owned *)b;
    return x->owner < y->owner ? -1 : x->owner > y->owner;
}

static void count_block(void *cookie, uint64_t owner, size_t len)
{
    struct listing *const l = (struct listing *)cookie;
    const struct owned key = {.owner = owner};
    struct owned *const found =
        l->n ? bsearch(&key, l->v, l->n, sizeof(*l->v), by_owner) : NULL;

    if (found)
        found->bytes += len;
}

/* Bytes of the cache to the rows whose layers own them. */
static void add_cached(struct images *images, struct listing *l)
{
    if (l->n)
        qsort(l->v, l->n, sizeof(*l->v), by_owner);
    cache_visit(images_cache(images), count_block, l);
    for (size_t i = 0; i < l->n; i++) {
        json_t *const row = l->v[i].row;
        const json_int_t before =
            json_integer_value(json_object_get(row, "cached-bytes"));
        (void)json_object_set_new(
            row, "cached-bytes",
            json_integer(before + (json_int_t)l->v[i].bytes));
    }
}

static int by_name(const void *a, const void *b)
{
    json_t *const *const x = (json_t *const *)a;
    json_t *const *const y = (json_t *const *)b;
    const char *const p = json_string_value(json_object_get(*x, "name"));
    const char *const q = json_string_value(json_object_get(*y, "name"));
    return strcmp(p ? p : "", q ? q : "");
}

static json_t *sorted(json_t *list)
{
    const size_t n = json_array_size(list);
    AUTO_FREE json_t **rows = calloc(n + 1, sizeof(json_t *));
    json_t *const out = json_array();

    if (!rows || !out) {
        json_decref(out);
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        rows[i] = json_array_get(list, i);
    qsort(rows, n, sizeof(json_t *), by_name);
    for (size_t i = 0; i < n; i++)
        (void)json_array_append(out, rows[i]);
    json_decref(list);
    return out;
}

json_t *images_json(struct images *images)
{
    struct listing l = {.list = images_registered_json(images)};
    json_t *row;
    size_t i;

    if (!l.list)
        return NULL;
    json_array_foreach(l.list, i, row)
    {
        (void)json_object_set_new(row, "state", json_string("idle"));
    }
    images_visit(images, add_open, &l);
    add_cached(images, &l);
    free(l.v);
    return sorted(l.list);
}
