/* SPDX-License-Identifier: Apache-2.0 */
/* What lies inside of a disk or an archive; and what is made of all of its
 * bytes: a digest, the index of a compressed source.  For fuzz_stack.c. */
#ifndef TESTS_FUZZ_STACK_INSIDE_H
#define TESTS_FUZZ_STACK_INSIDE_H

#include <openssl/evp.h>

#include "fuzz_stack_checks.h"

/* ---- All bytes ---- */

/* By several threads, and holes not read: the digest of what was read. */
static void check_digest(struct image *image, const struct checked *c)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = check_io();
    char text[IMAGE_CHECKSUM_TEXT], expected[65];
    uint8_t digest[32];

    if (!c->is_whole || c->n != c->size)
        return;
    const enum plt_status st = check_status(
        image_checksum(image, &io, "sha256", 0, 0, NULL, NULL, text, &err));
    MUST(st == PLT_OK || is_scarce(st) || !c->is_sound);
    if (st != PLT_OK)
        return;
    MUST(EVP_Digest(c->whole, c->n, digest, NULL, EVP_sha256(), NULL) == 1);
    for (size_t i = 0; i < sizeof(digest); i++)
        (void)snprintf(expected + 2 * i, 3, "%02x", digest[i]);
    MUST(strcmp(text, expected) == 0);
}

static struct image *check_open(struct images *images,
                                const struct reference *r)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = check_io();
    struct image *image = NULL;

    return images_open(images, r, &io, &image, NULL, &err) == PLT_OK ? image
                                                                     : NULL;
}

/* An index that is exported and taken by one who has none changes no byte. */
static void check_index(struct images *images, struct images *others,
                        const struct reference *r, const struct checked *c)
{
    static const char *const forms[] = {NULL, "gztool", "indexed_gzip"};
    struct plt_error err = {.at = PLT_AT_NONE};
    struct image *const image = check_open(images, r), *const other =
                                                           check_open(others,
                                                                      r);
    uint8_t *const again = malloc(c->n + 1);

    MUST(again);
    for (size_t i = 0; image && other && i < 3; i++) {
        uint8_t *data = NULL;
        size_t len = 0;
        struct plt_io io = check_io();
        if (check_status(image_index_get(image, &io, forms[i], &data, &len,
                                         &err)) != PLT_OK)
            continue;
        MUST(data && len);
        const enum plt_status st =
            check_status(image_index_put(other, &io, data, len, &err));
        MUST(st == PLT_OK || err.text[0]);
        free(data);
        if (c->n && check_read(other, again, 0, c->n) == PLT_OK && c->is_whole)
            MUST(memcmp(again, c->whole, c->n) == 0);
    }
    free(again);
    image_unref(image);
    image_unref(other);
}

/* ---- What lies inside ---- */

/* A partition that is listed opens, and is that part of the disk. */
static void check_partitions(struct images *images, const struct reference *r,
                             const struct checked *c, const char *outside)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = check_io();
    struct image *image = NULL;
    json_t *table = NULL;

    if (images_open(images, r, &io, &image, NULL, &err) != PLT_OK)
        return;
    const enum plt_status st =
        check_status(image_partitions_json(image, &io, &table, &err));
    image_unref(image);
    if (st != PLT_OK)
        return;
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(table, "partitions"), i, row)
    {
        const uint64_t start = (uint64_t)json_integer_value(
                           json_object_get(row, "start")),
                       len = (uint64_t)json_integer_value(
                           json_object_get(row, "length"));
        char number[24];
        struct reference p = *r;
        struct checked part;
        if (i >= 2)
            break;
        (void)snprintf(
            number, sizeof(number), "%lld",
            (long long)json_integer_value(json_object_get(row, "number")));
        p.partition = number;
        check_image(images, &p, (uint32_t)i, outside, &part);
        if (part.status == PLT_OK) {
            MUST(part.size == len && start <= c->size &&
                 len <= c->size - start);
            for (uint64_t k = 0;
                 c->is_whole && part.is_whole && k < part.n && start + k < c->n;
                 k++)
                MUST(part.whole[k] == c->whole[start + k]);
        }
        checked_release(&part);
    }
    check_json(table);
}

/* Two of the files in an archive. */
static void check_members(struct images *images, const struct reference *r,
                          const char *outside)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = check_io();
    json_t *list = NULL, *row;
    unsigned n = 0;
    size_t i;

    if (check_status(images_members(images, r, &io, &list, &err)) != PLT_OK)
        return;
    json_array_foreach(list, i, row)
    {
        const char *const name =
            json_string_value(json_object_get(row, "name"));
        const char *const type =
            json_string_value(json_object_get(row, "type"));
        struct reference m = *r;
        struct checked inner;
        MUST(name);
        if (!type || strcmp(type, "file") != 0 || ++n > 2)
            continue;
        m.member = (char *)(uintptr_t)name;
        check_image(images, &m, (uint32_t)i, outside, &inner);
        checked_release(&inner);
    }
    check_json(list);
}

#endif
