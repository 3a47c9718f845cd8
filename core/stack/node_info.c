/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON writer that a driver's info() is handed.  Text from images is any
 * bytes; JSON is UTF-8: what is not, is written as \xNN. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/node.h"
#include "util/auto.h"

/* Deeper objects than any driver has are a driver's mistake, and are cut off.
 */
enum { MAX_DEPTH = 16 };

struct writer {
    struct plt_info info;    /* first */
    json_t *open[MAX_DEPTH]; /* borrowed: each holds the next */
    unsigned depth;          /* 1: the root; beyond MAX_DEPTH: dropped */
    bool hide_place;
};

json_t *node_json_text(const char *text)
{
    if (!text) /* a driver's mistake */
        text = "";
    json_t *const plain = json_string(text);
    if (plain)
        return plain;
    AUTO_FREE char *escaped = malloc(strlen(text) * 4 + 1);
    if (!escaped)
        return NULL;
    char *p = escaped;
    for (; *text; text++) {
        const unsigned c = (unsigned char)*text;
        if (c < 0x80)
            *p++ = (char)c;
        else
            p += snprintf(p, 5, "\\x%02x", c);
    }
    *p = '\0';
    return json_string(escaped);
}

static void put(struct writer *w, const char *key, json_t *value)
{
    if (w->depth > MAX_DEPTH || !value) {
        json_decref(value);
        return;
    }
    json_t *const into = w->open[w->depth - 1];
    if (json_is_array(into))
        (void)json_array_append_new(into, value);
    else
        (void)json_object_set_new(into, key ? key : "", value);
}

static void info_text(struct plt_info *info, const char *key, const char *value)
{
    static const char *const places[] = {"filename", "url", "effective-url",
                                         "path"};
    struct writer *const w = (struct writer *)info;

    for (size_t i = 0; w->hide_place && key && i < 4; i++) {
        if (strcmp(key, places[i]) == 0)
            return;
    }
    put(w, key, value ? node_json_text(value) : json_null());
}

static void info_number(struct plt_info *info, const char *key, uint64_t value)
{
    put((struct writer *)info, key,
        value <= INT64_MAX ? json_integer((json_int_t)value)
                           : json_real((double)value));
}

static void info_boolean(struct plt_info *info, const char *key, bool value)
{
    put((struct writer *)info, key, json_boolean(value));
}

static void nest(struct writer *w, const char *key, json_t *value)
{
    if (w->depth < MAX_DEPTH && value) {
        put(w, key, value);
        w->open[w->depth] = value; /* borrowed from the one it was put in */
    } else {
        json_decref(value);
    }
    w->depth++;
}

static void info_object(struct plt_info *info, const char *key)
{
    nest((struct writer *)info, key, json_object());
}

static void info_array(struct plt_info *info, const char *key)
{
    nest((struct writer *)info, key, json_array());
}

static void info_end(struct plt_info *info)
{
    struct writer *const w = (struct writer *)info;
    if (w->depth > 1)
        w->depth--;
}

json_t *node_info(struct node *node, bool hide_place)
{
    static const char *const kinds[] = {"source", "wrapper", "archive",
                                        "format"};
    json_t *const root =
        json_pack("{s:s, s:s}", "driver", node->driver->name, "kind",
                  kinds[(unsigned)node->driver->kind & 3]);
    const uint64_t size = node_size(node);

    if (root && size != PLT_SIZE_UNKNOWN)
        (void)json_object_set_new(root, "size", json_integer((json_int_t)size));
    if (root && node->driver->info) {
        struct writer w = {.info = {.struct_size = (uint32_t)sizeof(w.info),
                                    .text = info_text,
                                    .number = info_number,
                                    .boolean = info_boolean,
                                    .object_begin = info_object,
                                    .array_begin = info_array,
                                    .end = info_end},
                           .open = {root},
                           .depth = 1,
                           .hide_place = hide_place &&
                                         node->driver->kind == PLT_KIND_SOURCE};
        node->driver->info(node->image, &w.info);
    }
    return root;
}
