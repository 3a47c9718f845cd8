/* SPDX-License-Identifier: Apache-2.0 */
/* Breaks the contract in the way its first byte says. */
#include <string.h>

#include "module.h"

static char how_of(struct plt_child *child, struct plt_io *io)
{
    char how = 0;
    struct plt_error ignored;
    const struct plt_seg seg = {0, 1, &how};
    return child->read(child, io, &seg, 1, &ignored) == PLT_OK ? how : 0;
}

static enum plt_status breaks_read(void *image, struct plt_io *io,
                                   const struct plt_seg *segs, size_t n,
                                   struct plt_error *err)
{
    struct plt_child *const child = (struct plt_child *)image;
    const char how = how_of(child, io);

    if (how == 's') /* no such status */
        return (enum plt_status)12345;
    if (how == 'a') /* will not wait */
        return PLT_AGAIN;
    if (how == 't') { /* another status than the error's, and no end of text */
        memset(err, 'x', sizeof(*err));
        return PLT_CORRUPT;
    }
    return child->read(child, io, segs, n, err);
}

/* A stream that says it gave more than there was room for. */
static enum plt_status much_read(struct plt_stream *stream, struct plt_io *io,
                                 void *buf, size_t cap, size_t *got,
                                 struct plt_error *err)
{
    (void)stream;
    (void)io;
    (void)err;
    memset(buf, 'x', cap);
    *got = cap + 1;
    return PLT_OK;
}

static void much_close(struct plt_stream *stream)
{
    (void)stream;
}

static enum plt_status breaks_stream(void *image, struct plt_io *io,
                                     uint64_t off, struct plt_stream **stream,
                                     struct plt_error *err)
{
    static struct plt_stream much = {
        .struct_size = sizeof(much), .read = much_read, .close = much_close};

    (void)image;
    (void)io;
    (void)off;
    (void)err;
    *stream = &much;
    return PLT_OK;
}

/* Ends more than it began, names nothing, goes too deep, and text that is none.
 */
static void breaks_info(void *image, struct plt_info *info)
{
    (void)image;
    info->end(info);
    info->end(info);
    info->text(info, NULL, "no key");
    info->text(info, "no-value", NULL);
    info->text(info, "bytes", "\xff\xfe");
    for (int i = 0; i < 40; i++)
        info->array_begin(info, "deep");
    info->number(info, "n", 1);
}

static enum plt_status breaks_snapshots(void *image, struct plt_io *io,
                                        plt_snapshot_fn *emit, void *cookie,
                                        struct plt_error *err)
{
    (void)image;
    (void)io;
    (void)err;
    (void)emit(cookie, &(struct plt_snapshot){.id = NULL, .name = NULL});
    return PLT_OK;
}

PLT_DRIVER(.name = "breaks", .kind = PLT_KIND_FORMAT,
           .threads = PLT_CONCURRENT_READS, .open = module_open,
           .close = module_close, .read = breaks_read,
           .stream_open = breaks_stream, .info = breaks_info,
           .snapshots = breaks_snapshots)
