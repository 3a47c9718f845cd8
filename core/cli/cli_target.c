/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/auto.h"

/* -f says what must be found, as qemu-img's does. */
static int check_format(struct image *image, const char *spec,
                        const struct options *o)
{
    json_t *const info = o->format ? image_info(image) : NULL;
    const char *const found = cli_text(info, "format");
    const bool is_other = info && strcmp(found, o->format) != 0;

    if (is_other)
        (void)cli_complain("%s: it is %s, not %s", spec, found, o->format);
    json_decref(info);
    return is_other ? EXIT_FAILED : 0;
}

int cli_open(struct images *images, const char *spec, const struct options *o,
             unsigned how, struct image **image)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    json_t *choices = NULL, *row;
    size_t i;

    const enum plt_status st = images_open_spec(
        images, spec, &o->selectors, how, &io, image, &choices, &err);
    if (st == PLT_OK) {
        const int code = how & IMAGE_LIST ? 0 : check_format(*image, spec, o);
        if (code)
            image_unref(*image);
        return code;
    }
    const int code = cli_failed(spec, &err);
    json_array_foreach(choices, i, row)
    {
        (void)fprintf(stderr, "  --member '%s'\n", cli_text(row, "name"));
    }
    json_decref(choices);
    return st == PLT_CHOICE ? EXIT_CHOICE : code;
}

/* The disk behind a gateway, as a raw disk over HTTP; the gateway has applied
 * the selectors. */
static int open_behind(struct target *t, struct images *images)
{
    struct options plain = *t->o;
    json_t *info = NULL;
    AUTO_FREE char *spec = gateway_disk_spec(t->o, t->spec);
    int code = gateway_json(t->o, "info", t->spec, NULL, &info);

    if (code)
        return code;
    (void)snprintf(t->etag, sizeof(t->etag), "%s", cli_text(info, "etag"));
    if (t->o->format && strcmp(t->o->format, cli_text(info, "format")) != 0)
        code = cli_complain("%s: it is %s, not %s", t->spec,
                            cli_text(info, "format"), t->o->format);
    json_decref(info);
    plain.selectors = (struct reference){.target = NULL};
    plain.format = NULL;
    if (!code && !spec)
        code = cli_complain("out of memory");
    return code ? code : cli_open(images, spec, &plain, 0, &t->image);
}

int target_open(struct target *t, struct images *images, const char *spec,
                const struct options *o)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    uint64_t size;

    *t = (struct target){.spec = spec, .o = o};
    int code = o->gateway
                   ? open_behind(t, images)
                   : cli_open(images, spec, o,
                              o->is_vm_state ? IMAGE_VM_STATE : 0, &t->image);
    if (code)
        return code;
    if (!o->gateway)
        (void)snprintf(t->etag, sizeof(t->etag), "%s", image_etag(t->image));
    if (image_resolve_size(t->image, &io, &size, &err) != PLT_OK) {
        code = cli_failed(spec, &err);
        target_close(t);
    }
    return code;
}

void target_close(struct target *t)
{
    image_unref(t->image);
    t->image = NULL;
}

uint64_t target_size(const struct target *t)
{
    return image_size(t->image);
}

int target_span(const struct target *t, uint64_t *off, uint64_t *len)
{
    const struct options *const o = t->o;
    const uint64_t size = target_size(t);

    *off = o->offset;
    if (o->offset > size || (o->has_length && o->length > size - o->offset))
        return cli_complain("%s: the range ends past the disk of %" PRIu64
                            " bytes",
                            t->spec, size);
    *len = o->has_length ? o->length : size - o->offset;
    return 0;
}

/* ---- In order ---- */

/* A stretch that the gateway says is zeros: in pieces, without fetching. */
static enum plt_status hand_zeros(const struct image_pump *pump, uint64_t off,
                                  uint64_t len, struct plt_error *err)
{
    const uint64_t end = off + len;
    enum plt_status st = PLT_OK;

    while (off < end && st == PLT_OK) {
        /* Cut at multiples of the piece, as the pump does. */
        const uint64_t next = (off / pump->piece + 1) * pump->piece;
        struct image_piece p = {
            .off = off, .len = (size_t)((next < end ? next : end) - off)};
        if (cli_is_stopped())
            return plt_fail(err, PLT_CANCELLED, "stopped");
        if (pump->prepare)
            pump->prepare(pump->cookie, &p);
        st = pump->take(pump->cookie, &p, err);
        off += p.len;
    }
    return st;
}

static enum plt_status pump_rows(struct target *t,
                                 const struct image_pump *pump, json_t *rows,
                                 uint64_t at, struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    struct plt_io io = cli_io();
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        struct image_pump part = *pump;
        part.off = (uint64_t)cli_number(row, "start");
        part.len = (uint64_t)cli_number(row, "length");
        const uint64_t size = target_size(t);
        if (part.off != at || at > size || part.len > size - at)
            return plt_fail(err, PLT_ORIGIN,
                            "the gateway's extents are not in order");
        st = cli_is_set(row, "zero") ? hand_zeros(pump, part.off, part.len, err)
                                     : image_pump(t->image, &io, &part, err);
        if (st != PLT_OK)
            break;
        at += part.len;
    }
    return st;
}

/* What the gateway knows of zeros, in answers of bounded length. */
static enum plt_status pump_behind(struct target *t,
                                   const struct image_pump *pump,
                                   struct plt_error *err)
{
    uint64_t off = pump->off;
    const uint64_t end = pump->off + pump->len;
    enum plt_status st = PLT_OK;

    while (off < end && st == PLT_OK) {
        char query[96];
        json_t *found = NULL;
        (void)snprintf(query, sizeof(query),
                       "start=%" PRIu64 "&length=%" PRIu64, off, end - off);
        if (gateway_json(t->o, "extents", t->spec, query, &found) != 0)
            return plt_fail(err, PLT_ORIGIN, "the extents are not to be had");
        st = pump_rows(t, pump, json_object_get(found, "extents"), off, err);
        json_t *const next = json_object_get(found, "next");
        const uint64_t at = next ? (uint64_t)json_integer_value(next) : end;
        json_decref(found);
        if (st == PLT_OK && at <= off)
            st = plt_fail(err, PLT_ORIGIN, "the gateway's extents do not end");
        off = at;
    }
    return st;
}

enum plt_status target_pump(struct target *t, const struct image_pump *pump,
                            struct plt_error *err)
{
    struct plt_io io = cli_io();

    return t->o->gateway ? pump_behind(t, pump, err)
                         : image_pump(t->image, &io, pump, err);
}
