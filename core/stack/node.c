/* SPDX-License-Identifier: Apache-2.0 */
/* The boundary to a driver.  Bounds once, here: a span that comes from below a
 * driver is data and answers PLT_CORRUPT, blamed on the layer that asked. */
#include "stack/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "stack/extent_list.h"
#include "stack/node_disk.h"
#include "util/check.h"
#include "util/log.h"

/* Largest read of a stream made of reads: big enough to be one good request,
 * small enough to stay in a core's cache. */
enum { STREAM_STEP = 256 * 1024 };

static void name_layer(const struct node *node, struct plt_error *err)
{
    if (!err->layer[0])
        (void)snprintf(err->layer, sizeof(err->layer), "%s",
                       node->driver->name);
}

/* What the driver answered, it may not: counted, in the log by name, and this
 * request's failure alone. */
static enum plt_status broke(struct node *node, struct plt_error *err,
                             const char *what)
{
    struct log_line l;

    (void)atomic_fetch_add_explicit(&node->metrics->broken, 1,
                                    memory_order_relaxed);
    log_begin(&l, LOG_ERROR, "plugin_broke_contract");
    log_text(&l, "layer", node->driver->name);
    log_text(&l, "text", what);
    log_end(&l);
    const enum plt_status st = plt_fail(err, PLT_BUG, "%s", what);
    name_layer(node, err);
    return st;
}

/* Every answer of a driver passes here. */
static enum plt_status heard(struct node *node, struct plt_io *io,
                             enum plt_status st, struct plt_error *err)
{
    if (st == PLT_OK)
        return st;
    if ((unsigned)st >= (unsigned)PLT_STATUS_COUNT)
        return broke(node, err, "a status that there is not");
    if (st == PLT_AGAIN) {
        if (io && (io->flags & PLT_IO_NOWAIT))
            return st;
        return broke(node, err, "would not wait, and was asked to");
    }
    err->status = st; /* the two are set by one call: it may not have */
    err->text[sizeof(err->text) - 1] = '\0';
    err->layer[sizeof(err->layer) - 1] = '\0';
    name_layer(node, err);
    if (st == PLT_CHANGED) {
        if (!node->is_apart)
            stack_mark_changed(node->stack);
        node_disk_changed(node);
    }
    return st;
}

/* Take the driver's own lock where it wants to be called one at a time. */
static bool enter(struct node *node, struct plt_io *io)
{
    if (node->driver->threads != PLT_CONCURRENT_READS) {
        if (!io || !(io->flags & PLT_IO_NOWAIT))
            lock_take(&node->serial);
        else if (pthread_mutex_trylock(&node->serial.mutex) != 0)
            return false;
    }
    node_disk_enter(io);
    return true;
}

static void leave(struct node *node)
{
    node_disk_leave();
    if (node->driver->threads != PLT_CONCURRENT_READS)
        lock_give(&node->serial);
}

uint64_t node_size(const struct node *node)
{
    return atomic_load_explicit(&node->known_size, memory_order_relaxed);
}

enum plt_status node_read(struct node *node, struct plt_io *io,
                          const struct plt_seg *segs, size_t n,
                          struct plt_error *err)
{
    const uint64_t size = node_size(node);

    for (size_t i = 0; i < n; i++) {
        if (segs[i].len == 0)
            return plt_fail(err, PLT_BUG, "empty segment");
        if (size != PLT_SIZE_UNKNOWN
                ? !plt_span_ok(segs[i].off, segs[i].len, size)
                : !plt_span_ok(segs[i].off, segs[i].len, PLT_SIZE_MAX))
            return plt_fail_at(err, PLT_CORRUPT, segs[i].off,
                               "%zu bytes outside %s of %llu", segs[i].len,
                               node->driver->name, (unsigned long long)size);
    }
    if ((io->flags & PLT_IO_NOWAIT) && !(node->driver->caps & PLT_CAP_NOWAIT))
        return PLT_AGAIN;
    if (n == 0)
        return PLT_OK;
    if (!(io->flags & PLT_IO_NOWAIT) && io->cancelled(io))
        return plt_fail(err, PLT_CANCELLED, "request withdrawn");
    if (!enter(node, io))
        return PLT_AGAIN;
    const struct metrics_span span = metrics_begin();
    const enum plt_status st =
        node->driver->read(node->image, io, segs, n, err);
    uint64_t bytes = 0;
    for (size_t i = 0; st == PLT_OK && i < n; i++)
        bytes += segs[i].len;
    metrics_end(node->metrics, span, bytes);
    leave(node);
    return heard(node, io, st, err);
}

/* One call of the driver's: its extents, or those of a bitmap. */
static enum plt_status call_extents(struct node *node, struct plt_io *io,
                                    const char *bitmap,
                                    struct extent_list *list,
                                    struct plt_error *err)
{
    const struct plt_driver *const d = node->driver;
    const uint64_t off = list->next, len = list->end - list->next;

    return bitmap ? d->dirty_extents(node->image, io, bitmap, off, len,
                                     extent_list_take, list, err)
                  : d->extents(node->image, io, off, len, extent_list_take,
                               list, err);
}

static enum plt_status gather(struct node *node, struct plt_io *io,
                              const char *bitmap, uint64_t off, uint64_t len,
                              plt_extent_fn *emit, void *cookie,
                              struct plt_error *err)
{
    struct extent_list list;
    const uint64_t size = node_size(node);

    if (!plt_span_ok(off, len, size != PLT_SIZE_UNKNOWN ? size : PLT_SIZE_MAX))
        return plt_fail_at(err, PLT_CORRUPT, off, "extents outside %s",
                           node->driver->name);
    extent_list_init(&list, off, len, emit, cookie);
    if (!bitmap && !node->driver->extents && len)
        (void)extent_list_take(
            &list,
            &(struct plt_extent){.off = off,
                                 .len = len,
                                 .flags = node->below ? 0 : PLT_EXTENT_MAPPED,
                                 .child_off = off});
    while (list.next < list.end && !list.has_stopped && !list.is_broken) {
        const uint64_t before = list.next;
        if (!enter(node, io))
            return PLT_AGAIN;
        enum plt_status st = call_extents(node, io, bitmap, &list, err);
        leave(node);
        st = heard(node, io, st, err);
        if (st != PLT_OK)
            return st;
        if (list.next == before)
            list.is_broken = true;
    }
    if (list.is_broken && !list.has_stopped)
        return broke(node, err, "extents out of order");
    extent_list_flush(&list);
    return PLT_OK;
}

enum plt_status node_extents(struct node *node, struct plt_io *io, uint64_t off,
                             uint64_t len, plt_extent_fn *emit, void *cookie,
                             struct plt_error *err)
{
    return gather(node, io, NULL, off, len, emit, cookie, err);
}

enum plt_status node_dirty_extents(struct node *node, struct plt_io *io,
                                   const char *bitmap, uint64_t off,
                                   uint64_t len, plt_extent_fn *emit,
                                   void *cookie, struct plt_error *err)
{
    if (!node->driver->dirty_extents)
        return plt_fail(err, PLT_UNSUPPORTED, "%s has no bitmaps",
                        node->driver->name);
    return gather(node, io, bitmap, off, len, emit, cookie, err);
}

enum plt_status node_resolve_size(struct node *node, struct plt_io *io,
                                  uint64_t *size, struct plt_error *err)
{
    *size = node_size(node);
    if (*size != PLT_SIZE_UNKNOWN)
        return PLT_OK;
    if (!node->driver->resolve_size)
        return broke(node, err, "has no size and no way to find it");
    if (!enter(node, io))
        return PLT_AGAIN;
    enum plt_status st = node->driver->resolve_size(node->image, io, size, err);
    leave(node);
    if (st == PLT_OK && *size > PLT_SIZE_MAX)
        st = plt_fail(err, PLT_CORRUPT, "size %llu", (unsigned long long)*size);
    st = heard(node, io, st, err);
    if (st == PLT_OK)
        atomic_store_explicit(&node->known_size, *size, memory_order_relaxed);
    return st;
}

enum plt_status node_members(struct node *node, struct plt_io *io,
                             plt_member_fn *emit, void *cookie,
                             struct plt_error *err)
{
    if (!node->driver->members)
        return plt_fail(err, PLT_UNSUPPORTED, "%s has no members",
                        node->driver->name);
    if (!enter(node, io))
        return PLT_AGAIN;
    const enum plt_status st =
        node->driver->members(node->image, io, emit, cookie, err);
    leave(node);
    return heard(node, io, st, err);
}

enum plt_status node_snapshots(struct node *node, struct plt_io *io,
                               plt_snapshot_fn *emit, void *cookie,
                               struct plt_error *err)
{
    if (!node->driver->snapshots)
        return plt_fail(err, PLT_UNSUPPORTED, "%s has no snapshots",
                        node->driver->name);
    if (!enter(node, io))
        return PLT_AGAIN;
    const enum plt_status st =
        node->driver->snapshots(node->image, io, emit, cookie, err);
    leave(node);
    return heard(node, io, st, err);
}

enum plt_status node_check(struct node *node, struct plt_io *io,
                           struct plt_check *check, struct plt_error *err)
{
    if (!node->driver->check)
        return plt_fail(err, PLT_UNSUPPORTED, "%s has no check",
                        node->driver->name);
    if (!enter(node, io))
        return PLT_AGAIN;
    const enum plt_status st = node->driver->check(node->image, io, check, err);
    leave(node);
    return heard(node, io, st, err);
}

enum plt_status node_index_get(struct node *node, struct plt_io *io,
                               const char *form, plt_put_fn *put, void *cookie,
                               struct plt_error *err)
{
    if (!node->driver->index_get)
        return plt_fail(err, PLT_NOT_FOUND, "no index");
    if (form && !node->driver->index_get_as)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "%s has its index in no other tool's form",
                        node->driver->name);
    if (!enter(node, io))
        return PLT_AGAIN;
    const enum plt_status st =
        form ? node->driver->index_get_as(node->image, io, form, put, cookie,
                                          err)
             : node->driver->index_get(node->image, io, put, cookie, err);
    leave(node);
    return heard(node, io, st, err);
}

enum plt_status node_index_put(struct node *node, struct plt_io *io,
                               const void *data, size_t len,
                               struct plt_error *err)
{
    if (!node->driver->index_put)
        return plt_fail(err, PLT_NOT_FOUND, "no index");
    const enum plt_status st =
        node->driver->index_put(node->image, io, data, len, err);
    return heard(node, io, st, err);
}

enum plt_status node_revalidate(struct node *node, struct plt_io *io,
                                struct plt_error *err)
{
    if (!node->driver->revalidate)
        return PLT_OK;
    if (!enter(node, io))
        return PLT_AGAIN;
    const enum plt_status st = node->driver->revalidate(node->image, io, err);
    leave(node);
    return heard(node, io, st, err);
}

enum plt_status node_fetch(struct node *node, struct plt_io *io,
                           const char *url, uint8_t *buf, size_t cap,
                           size_t *got, struct plt_error *err)
{
    *got = 0;
    if (!node->driver->fetch)
        return plt_fail(err, PLT_UNSUPPORTED, "%s has no documents beside it",
                        node->driver->name);
    if (io->cancelled(io))
        return plt_fail(err, PLT_CANCELLED, "request withdrawn");
    if (!enter(node, io))
        return PLT_AGAIN;
    const struct metrics_span span = metrics_begin();
    const enum plt_status st =
        node->driver->fetch(node->image, io, url, buf, cap, got, err);
    metrics_end(node->metrics, span, st == PLT_OK ? *got : 0);
    leave(node);
    if (st == PLT_OK && *got > cap)
        return broke(node, err, "a document of more bytes than there is room");
    if (st == PLT_CHANGED)
        return broke(node, err, "a document that says the source has changed");
    return heard(node, io, st, err);
}

/* ---- The node as a child ---- */

static enum plt_status child_read(struct plt_child *child, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n,
                                  struct plt_error *err)
{
    return node_read((struct node *)child, io, segs, n, err);
}

static enum plt_status child_extents(struct plt_child *child, struct plt_io *io,
                                     uint64_t off, uint64_t len,
                                     plt_extent_fn *emit, void *cookie,
                                     struct plt_error *err)
{
    return node_extents((struct node *)child, io, off, len, emit, cookie, err);
}

static enum plt_status child_size(struct plt_child *child, struct plt_io *io,
                                  uint64_t *size, struct plt_error *err)
{
    return node_resolve_size((struct node *)child, io, size, err);
}

static void child_info(struct plt_child *child, struct plt_info *info)
{
    const struct node *const node = (const struct node *)child;
    if (node->driver->info)
        node->driver->info(node->image, info);
}

static enum plt_status child_lend(struct plt_child *child, struct plt_io *io,
                                  uint64_t off, uint64_t len, plt_lend_fn *emit,
                                  void *cookie)
{
    return node_lend((struct node *)child, io, off, len, emit, cookie);
}

struct node_stream {
    struct plt_stream stream; /* first */
    struct node *node;
    struct plt_stream *inner; /* the driver's own; NULL: made of reads */
    uint64_t off;
};

static enum plt_status stream_read(struct plt_stream *stream, struct plt_io *io,
                                   void *buf, size_t cap, size_t *got,
                                   struct plt_error *err)
{
    struct node_stream *const s = (struct node_stream *)stream;
    enum plt_status st;

    if (s->inner) {
        st = s->inner->read(s->inner, io, buf, cap, got, err);
        if (st == PLT_OK && *got > cap)
            return broke(s->node, err, "a stream gave more than was asked");
        return heard(s->node, io, st, err);
    }
    uint64_t size;
    st = node_resolve_size(s->node, io, &size, err);
    if (st != PLT_OK)
        return st;
    if (cap > STREAM_STEP)
        cap = STREAM_STEP;
    if (cap > size - s->off)
        cap = (size_t)(size - s->off);
    if (cap) {
        const struct plt_seg seg = {s->off, cap, buf};
        st = node_read(s->node, io, &seg, 1, err);
    }
    if (st == PLT_OK) {
        s->off += cap;
        *got = cap;
    }
    return st;
}

static void stream_close(struct plt_stream *stream)
{
    struct node_stream *const s = (struct node_stream *)stream;

    if (s->inner)
        s->inner->close(s->inner);
    free(s);
}

static enum plt_status child_stream(struct plt_child *child, struct plt_io *io,
                                    uint64_t off, struct plt_stream **stream,
                                    struct plt_error *err)
{
    struct node *const node = (struct node *)child;
    const uint64_t size = node_size(node);
    enum plt_status st = PLT_OK;

    if (off > (size != PLT_SIZE_UNKNOWN ? size : PLT_SIZE_MAX))
        return plt_fail_at(err, PLT_CORRUPT, off, "stream outside %s",
                           node->driver->name);
    struct node_stream *const s = calloc(1, sizeof(*s));
    if (!s)
        return plt_fail(err, PLT_NOMEM, "a stream");
    s->stream = (struct plt_stream){.struct_size = (uint32_t)sizeof(s->stream),
                                    .read = stream_read,
                                    .close = stream_close};
    s->node = node;
    s->off = off;
    if (node->driver->stream_open &&
        node->driver->threads == PLT_CONCURRENT_READS)
        st = heard(
            node, io,
            node->driver->stream_open(node->image, io, off, &s->inner, err),
            err);
    if (st != PLT_OK) {
        free(s);
        return st;
    }
    *stream = &s->stream;
    return PLT_OK;
}

/* ---- Life ---- */

void node_init(struct node *node, struct stack *stack,
               const struct plt_driver *driver, struct node *below,
               struct location *place)
{
    static _Atomic uint64_t owners = 1;

    *node = (struct node){
        .driver = driver,
        .stack = stack,
        .below = below,
        .place = place,
        .owner = atomic_fetch_add(&owners, 1),
        .metrics = metrics_of(stack_environment(stack)->metrics, driver)};
    node->child =
        (struct plt_child){.struct_size = (uint32_t)sizeof(node->child),
                           .read = child_read,
                           .extents = child_extents,
                           .resolve_size = child_size,
                           .stream_open = child_stream,
                           .info = child_info,
                           .lend = child_lend};
    atomic_init(&node->known_size, PLT_SIZE_UNKNOWN);
    lock_init(&node->serial);
    node_host_init(node);
}

enum plt_status node_open(struct node *node, struct plt_open_args *args,
                          struct plt_error *err)
{
    struct plt_opened opened = {.struct_size = (uint32_t)sizeof(opened),
                                .size = PLT_SIZE_UNKNOWN};

    args->struct_size = (uint32_t)sizeof(*args);
    args->host = &node->host;
    args->child = node->below ? &node->below->child : NULL;
    if (node->below && node->below->is_pinned)
        memcpy(args->child_id, node->below->id, sizeof(args->child_id));
    enum plt_status st = node->driver->open(args, &node->image, &opened, err);
    if (st != PLT_OK)
        return heard(node, args->io, st, err);
    node->is_open = true;
    if (opened.size != PLT_SIZE_UNKNOWN && opened.size > PLT_SIZE_MAX)
        return heard(node, args->io,
                     plt_fail(err, PLT_CORRUPT, "size %llu",
                              (unsigned long long)opened.size),
                     err);
    node->child.size = opened.size;
    /* What is true of the layer below stays true, unless a driver is itself
     * the one that makes it so. */
    node->child.flags = opened.flags & (PLT_OPENED_FORWARD | PLT_OPENED_REMOTE);
    if (node->below)
        node->child.flags |= node->below->child.flags & PLT_CHILD_REMOTE;
    atomic_store(&node->known_size, opened.size);
    if (node->driver->identity)
        node->driver->identity(node->image, &node->identity);
    node->identity.validator[sizeof(node->identity.validator) - 1] = '\0';
    return PLT_OK;
}

void node_release(struct node *node)
{
    if (node->is_open)
        node->driver->close(node->image);
    node->is_open = false;
    if (node->has_share)
        shares_put(stack_environment(node->stack)->shares, node->driver);
    node->has_share = false;
    cache_drop_owner(stack_environment(node->stack)->cache, node->owner);
    lock_release(&node->serial);
}
