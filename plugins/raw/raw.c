/* SPDX-License-Identifier: Apache-2.0 */
/* A window over the layer below: offset and size.  The smallest whole driver;
 * copy it to begin another. */
#include <stdlib.h>

#include <platter/bytes.h>
#include <platter/driver.h>

/* More segments than this in one read are handed down in portions. */
enum { PORTION = 64 };

struct raw {
    struct plt_child *child;
    uint64_t off, size;
};

static enum plt_status raw_open(const struct plt_open_args *args, void **image,
                                struct plt_opened *out, struct plt_error *err)
{
    uint64_t below;
    enum plt_status st =
        args->child->resolve_size(args->child, args->io, &below, err);
    if (st != PLT_OK)
        return st;
    const uint64_t off =
        plt_setting_bytes(args->settings, args->n_settings, "offset", 0);
    const uint64_t rest = off <= below ? below - off : 0;
    const uint64_t size =
        plt_setting_bytes(args->settings, args->n_settings, "size", rest);
    if (!plt_span_ok(off, size, below))
        return plt_fail(err, PLT_INVALID,
                        "offset and size lie outside the layer below");
    struct raw *const r = malloc(sizeof(*r));
    if (!r)
        return plt_fail(err, PLT_NOMEM, "an image");
    *r = (struct raw){.child = args->child, .off = off, .size = size};
    out->size = size;
    out->flags =
        args->child->flags & PLT_CHILD_FORWARD ? PLT_OPENED_FORWARD : 0;
    *image = r;
    return PLT_OK;
}

static void raw_close(void *image)
{
    free(image);
}

static enum plt_status raw_read(void *image, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct plt_error *err)
{
    struct raw *const r = (struct raw *)image;
    struct plt_seg below[PORTION];

    while (n) {
        const size_t now = n < PORTION ? n : PORTION;
        for (size_t i = 0; i < now; i++) {
            below[i] = segs[i];
            below[i].off += r->off;
        }
        const enum plt_status st =
            r->child->read(r->child, io, below, now, err);
        if (st != PLT_OK)
            return st;
        segs += now;
        n -= now;
    }
    return PLT_OK;
}

static enum plt_status raw_lend(void *image, struct plt_io *io, uint64_t off,
                                uint64_t len, plt_lend_fn *emit, void *cookie)
{
    struct raw *const r = (struct raw *)image;

    if (!PLT_HAS(r->child, lend))
        return PLT_AGAIN;
    return r->child->lend(r->child, io, off + r->off, len, emit, cookie);
}

/* What is asked, moved back by the window's offset. */
struct shift {
    uint64_t off;
    plt_extent_fn *emit;
    void *cookie;
};

static bool emit_shifted(void *cookie, const struct plt_extent *extent)
{
    const struct shift *const s = (const struct shift *)cookie;
    struct plt_extent e = *extent;

    e.off -= s->off;
    /* Here the plain bytes lie in the child where they are read. */
    e.child_off = extent->off;
    if (!(e.flags & (PLT_EXTENT_ZERO | PLT_EXTENT_COMPRESSED)))
        e.flags |= PLT_EXTENT_MAPPED;
    else if (!(e.flags & PLT_EXTENT_MAPPED))
        e.flags |= PLT_EXTENT_RESERVED;
    return s->emit(s->cookie, &e);
}

static enum plt_status raw_extents(void *image, struct plt_io *io, uint64_t off,
                                   uint64_t len, plt_extent_fn *emit,
                                   void *cookie, struct plt_error *err)
{
    struct raw *const r = (struct raw *)image;
    struct shift s = {.off = r->off, .emit = emit, .cookie = cookie};

    return r->child->extents(r->child, io, off + r->off, len, emit_shifted, &s,
                             err);
}

static void raw_info(void *image, struct plt_info *info)
{
    const struct raw *const r = (const struct raw *)image;
    info->number(info, "offset", r->off);
}

static const struct plt_option raw_options[] = {
    {"offset", PLT_OPTION_BYTES, "where the disk begins in the layer below"},
    {"size", PLT_OPTION_BYTES, "how long it is; default: the rest"},
    {NULL, PLT_OPTION_TEXT, NULL}};

PLT_DRIVER(.name = "raw", .summary = "a window over the layer below",
           .kind = PLT_KIND_FORMAT, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .options = raw_options, .open = raw_open,
           .close = raw_close, .read = raw_read, .extents = raw_extents,
           .info = raw_info, .lend = raw_lend)
