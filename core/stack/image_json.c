/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of an open image, as JSON in the names that qemu-img uses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stack/extent_sum.h"
#include "stack/image_inside.h"

const char *image_format(struct image *image)
{
    const struct plt_driver *const d = stack_top(image_stack(image))->driver;
    return d->kind == PLT_KIND_FORMAT ? d->name : "raw";
}

json_t *image_info(struct image *image)
{
    static const char *const pins[] = {"none", "weak", "strong"};
    /* What qemu-img says of the image itself comes from its format's driver. */
    static const char *const lifted[] = {
        "cluster-size", "dirty-flag",       "encrypted",
        "compressed",   "backing-filename", "backing-filename-format",
        "snapshots",    "format-specific"};
    struct stack *const stack = image_stack(image);
    struct node *const top = stack_top(stack);
    const struct plt_identity *const id = stack_identity(stack);
    const bool is_format = top->driver->kind == PLT_KIND_FORMAT;
    const uint64_t size = node_size(top);
    json_t *const layers = stack_layers_json(stack, image_hides_places(image));
    json_t *const root =
        json_pack("{s:o, s:s}", "filename", node_json_text(image_name(image)),
                  "format", image_format(image));
    char when[32];
    struct tm tm;

    if (!root || !layers) {
        json_decref(root);
        json_decref(layers);
        return NULL;
    }
    if (size != PLT_SIZE_UNKNOWN)
        (void)json_object_set_new(root, "virtual-size",
                                  json_integer((json_int_t)size));
    json_t *const first = json_array_get(layers, 0);
    for (size_t i = 0; is_format && i < sizeof(lifted) / sizeof(lifted[0]);
         i++) {
        json_t *const value = json_object_get(first, lifted[i]);
        if (value) {
            (void)json_object_set(root, lifted[i], value);
            (void)json_object_del(first, lifted[i]);
        }
    }
    (void)json_object_set_new(root, "etag", json_string(image_etag(image)));
    (void)json_object_set_new(root, "pin",
                              json_string(pins[(unsigned)id->pin % 3]));
    const time_t t = (time_t)id->mtime;
    if (id->mtime != INT64_MIN && gmtime_r(&t, &tm) &&
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm))
        (void)json_object_set_new(root, "last-modified", json_string(when));
    (void)json_object_set_new(root, "layers", layers);
    return root;
}

/* ---- Members ---- */

static bool add_member(void *cookie, const struct plt_member *member)
{
    return json_array_append_new((json_t *)cookie, stack_member_json(member)) ==
           0;
}

enum plt_status image_members(struct image *image, struct plt_io *io,
                              json_t **out, struct plt_error *err)
{
    struct node *node = stack_top(image_stack(image));

    while (node && node->driver->kind != PLT_KIND_ARCHIVE)
        node = node->below;
    if (!node)
        return plt_fail(err, PLT_NOT_FOUND, "no archive: it has no members");
    json_t *const rows = json_array();
    if (!rows)
        return plt_fail(err, PLT_NOMEM, "a list");
    const enum plt_status st = node_members(node, io, add_member, rows, err);
    if (st == PLT_OK)
        *out = rows;
    else
        json_decref(rows);
    return st;
}

enum plt_status image_partitions_json(struct image *image, struct plt_io *io,
                                      json_t **out, struct plt_error *err)
{
    uint64_t size;
    const enum plt_status st = image_resolve_size(image, io, &size, err);

    return st == PLT_OK
               ? stack_partitions_json(image_stack(image), io, out, err)
               : st;
}

/* ---- Extents ---- */

enum plt_status image_dirty_extents(struct image *image, struct plt_io *io,
                                    const char *bitmap, uint64_t off,
                                    uint64_t len, plt_extent_fn *emit,
                                    void *cookie, struct plt_error *err)
{
    return node_dirty_extents(stack_top(image_stack(image)), io, bitmap, off,
                              len, emit, cookie, err);
}

/* Rows, one extent behind: neighbours that look the same are one row. */
struct rows {
    json_t *list;
    size_t most;
    bool is_dirty;
    struct plt_extent last; /* len 0: none */
    uint64_t next;          /* where it would go on */
    bool is_full;
};

static void put_row(struct rows *r)
{
    const struct plt_extent *const x = &r->last;
    const bool is_zero = x->flags & PLT_EXTENT_ZERO;
    json_t *row;

    if (!x->len)
        return;
    if (r->is_dirty)
        row = json_pack("{s:I, s:I, s:b}", "start", (json_int_t)x->off,
                        "length", (json_int_t)x->len, "dirty",
                        (int)(x->flags & PLT_EXTENT_DIRTY));
    else
        row = json_pack("{s:I, s:I, s:i, s:b, s:b, s:b, s:b}", "start",
                        (json_int_t)x->off, "length", (json_int_t)x->len,
                        "depth", (int)x->depth, "present",
                        !(x->flags & PLT_EXTENT_ABSENT), "zero", (int)is_zero,
                        "data", !is_zero || x->flags & PLT_EXTENT_MAPPED,
                        "compressed", (int)(x->flags & PLT_EXTENT_COMPRESSED));
    if (row && extent_has_offset(x))
        (void)json_object_set_new(row, "offset",
                                  json_integer((json_int_t)x->child_off));
    (void)json_array_append_new(r->list, row);
}

static bool take_row(void *cookie, const struct plt_extent *x)
{
    struct rows *const r = (struct rows *)cookie;

    if (r->last.len && extent_same(&r->last, x)) {
        r->last.len += x->len;
        return true;
    }
    put_row(r);
    r->last = *x;
    r->is_full = json_array_size(r->list) >= r->most;
    r->next = x->off;
    return !r->is_full;
}

enum plt_status image_window(struct image *image, struct plt_io *io,
                             uint64_t start, uint64_t *length, uint64_t *size,
                             struct plt_error *err)
{
    const enum plt_status st = image_resolve_size(image, io, size, err);

    if (st != PLT_OK)
        return st;
    if (start > *size)
        return plt_fail(err, PLT_INVALID, "start is behind the disk's end");
    if (*length > *size - start)
        *length = *size - start;
    return PLT_OK;
}

enum plt_status image_extents_json(struct image *image, struct plt_io *io,
                                   uint64_t start, uint64_t length,
                                   const char *context, size_t most,
                                   json_t **out, struct plt_error *err)
{
    const bool is_dirty = context && strncmp(context, "dirty:", 6) == 0;
    struct rows r = {.most = most, .is_dirty = is_dirty};
    uint64_t size;

    if (context && !is_dirty && strcmp(context, "zero") != 0)
        return plt_fail(err, PLT_INVALID,
                        "context is \"zero\" or \"dirty:NAME\"");
    enum plt_status st = image_window(image, io, start, &length, &size, err);
    if (st != PLT_OK)
        return st;
    r.list = json_array();
    if (!r.list)
        return plt_fail(err, PLT_NOMEM, "a list");
    if (length && is_dirty)
        st = image_dirty_extents(image, io, context + 6, start, length,
                                 take_row, &r, err);
    else if (length)
        st = image_extents(image, io, start, length, take_row, &r, err);
    if (st != PLT_OK) {
        json_decref(r.list);
        return st;
    }
    if (!r.is_full)
        put_row(&r);
    *out = json_pack("{s:I, s:I, s:I, s:s, s:o}", "start", (json_int_t)start,
                     "length", (json_int_t)length, "virtual-size",
                     (json_int_t)size, "context", context ? context : "zero",
                     "extents", r.list);
    if (*out && r.is_full)
        (void)json_object_set_new(*out, "next",
                                  json_integer((json_int_t)r.next));
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a list");
}

/* ---- Snapshots ---- */

static bool take_snapshot(void *cookie, const struct plt_snapshot *s)
{
    enum { NS_PER_S = 1000000000 };
    json_t *const row = json_pack(
        "{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "id", node_json_text(s->id),
        "name", node_json_text(s->name), "date-sec", (json_int_t)s->date_s,
        "date-nsec", (json_int_t)s->date_ns, "vm-clock-sec",
        (json_int_t)(s->vm_clock_ns / NS_PER_S), "vm-clock-nsec",
        (json_int_t)(s->vm_clock_ns % NS_PER_S), "vm-state-size",
        (json_int_t)(s->vm_state_size & INT64_MAX), "disk-size",
        (json_int_t)(s->disk_size & INT64_MAX));

    if (row && s->icount <= INT64_MAX)
        (void)json_object_set_new(row, "icount",
                                  json_integer((json_int_t)s->icount));
    return json_array_append_new((json_t *)cookie, row) == 0;
}

enum plt_status image_snapshots_json(struct image *image, struct plt_io *io,
                                     json_t **out, struct plt_error *err)
{
    struct node *node = stack_top(image_stack(image));
    json_t *const rows = json_array();

    if (!rows)
        return plt_fail(err, PLT_NOMEM, "a list");
    /* Below a partition; and a format that has none has an empty list, as
     * qemu-img snapshot -l has. */
    while (node && !node->driver->snapshots)
        node = node->below;
    const enum plt_status st =
        node ? node_snapshots(node, io, take_snapshot, rows, err) : PLT_OK;
    if (st == PLT_OK)
        *out = rows;
    else
        json_decref(rows);
    return st;
}

/* ---- Check ---- */

struct findings {
    json_t *list;
    size_t most;
    image_progress_fn *progress; /* or NULL */
    void *cookie;
    uint64_t before;    /* bytes of the layers that are done */
    uint64_t done, all; /* of this layer, as it was told last */
};

/* A driver's figures are clipped, and its steps back left out. */
static void take_progress(void *cookie, uint64_t done, uint64_t all)
{
    struct findings *const f = (struct findings *)cookie;

    f->all = all < PLT_SIZE_MAX ? all : PLT_SIZE_MAX;
    if (done > f->all)
        done = f->all;
    if (done < f->done)
        return;
    f->done = done;
    f->progress(f->cookie, f->before + done, f->before + f->all);
}

static void take_finding(void *cookie, enum plt_finding kind, uint64_t at,
                         const char *text)
{
    static const char *const kinds[] = {"leak", "corruption", "error"};
    struct findings *const f = (struct findings *)cookie;

    if (json_array_size(f->list) >= f->most)
        return;
    json_t *const row =
        json_pack("{s:s, s:o}", "kind", kinds[(unsigned)kind % 3], "text",
                  node_json_text(text));
    if (row && at <= INT64_MAX)
        (void)json_object_set_new(row, "offset", json_integer((json_int_t)at));
    (void)json_array_append_new(f->list, row);
}

bool image_has_check(struct image *image)
{
    for (struct node *n = stack_top(image_stack(image)); n; n = n->below) {
        if (n->driver->check)
            return true;
    }
    return false;
}

enum plt_status image_check_json(struct image *image, struct plt_io *io,
                                 size_t most, image_progress_fn *progress,
                                 void *cookie, json_t **out,
                                 struct plt_error *err)
{
    struct node *const top = stack_top(image_stack(image));
    bool is_checked = false;
    enum plt_status st = PLT_OK;
    struct findings f = {.list = json_array(),
                         .most = most,
                         .progress = progress,
                         .cookie = cookie};
    struct plt_check c = {.struct_size = (uint32_t)sizeof(c),
                          .finding = take_finding,
                          .progress = progress ? take_progress : NULL,
                          .cookie = &f};

    if (!f.list)
        return plt_fail(err, PLT_NOMEM, "a list");
    /* The format's tables, and what the layers below keep to compare with. */
    for (struct node *n = top; n && st == PLT_OK; n = n->below) {
        if (!n->driver->check)
            continue;
        st = node_check(n, io, &c, err);
        f.before += f.all;
        f.done = f.all = 0;
        /* An archive may have nothing to compare its files with. */
        if (st == PLT_UNSUPPORTED && n->driver->kind != PLT_KIND_FORMAT)
            st = PLT_OK;
        else
            is_checked = true;
    }
    if (!is_checked)
        st = node_check(top, io, &c, err); /* says that there is none */
    if (st != PLT_OK) {
        json_decref(f.list);
        return st;
    }
    *out = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:s}",
                     "image-end-offset", (json_int_t)c.image_end_offset,
                     "total-clusters", (json_int_t)c.total_clusters,
                     "check-errors", (json_int_t)c.check_errors,
                     "allocated-clusters", (json_int_t)c.allocated_clusters,
                     "fragmented-clusters", (json_int_t)c.fragmented_clusters,
                     "compressed-clusters", (json_int_t)c.compressed_clusters,
                     "filename", node_json_text(image_name(image)), "format",
                     image_format(image));
    /* As qemu-img: only when there are any. */
    if (*out && c.corruptions)
        (void)json_object_set_new(*out, "corruptions",
                                  json_integer((json_int_t)c.corruptions));
    if (*out && c.leaks)
        (void)json_object_set_new(*out, "leaks",
                                  json_integer((json_int_t)c.leaks));
    if (*out && json_array_size(f.list))
        (void)json_object_set(*out, "findings", f.list);
    json_decref(f.list);
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a result");
}
