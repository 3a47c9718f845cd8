/* SPDX-License-Identifier: Apache-2.0 */
/* What the image is and where its data lie, in the words of qemu-img. */
#include <stdlib.h>

#include "vmdk_image.h"

/* ---- info ---- */

static void put_extent(struct plt_info *info, const struct vmdk_extent *e)
{
    const bool is_sparse = e->type != VMDK_FLAT && e->type != VMDK_ZERO;

    info->object_begin(info, NULL);
    if (is_sparse && e->header.is_compressed)
        info->boolean(info, "compressed", true);
    info->number(info, "virtual-size", e->len);
    if (e->name)
        info->text(info, "filename", e->name);
    if (is_sparse)
        info->number(info, "cluster-size", e->header.grain);
    /* As qemu-img: what a descriptor calls it; the file itself is not called
     * anything. */
    info->text(info, "format", e->word ? e->word : "");
    if (e->uses_second_directory)
        info->boolean(info, "uses-redundant-directory", true);
    if (e->walked)
        info->boolean(info, "directory-rebuilt", true);
    if (is_sparse && e->header.is_unclean)
        info->boolean(info, "unclean-shutdown", true);
    info->end(info);
}

void vmdk_info(void *image, struct plt_info *info)
{
    const struct vmdk *const v = (const struct vmdk *)image;
    const struct vmdk_descriptor *const d = &v->descriptor;
    uint64_t grain = 0;

    for (size_t i = 0; i < v->n_extents; i++)
        if (v->extents[i].header.grain > grain)
            grain = v->extents[i].header.grain;
    if (grain)
        info->number(info, "cluster-size", grain);
    if (d->parent && d->parent_cid != VMDK_NO_PARENT)
        info->text(info, "backing-filename", d->parent);
    info->object_begin(info, "format-specific");
    info->text(info, "type", "vmdk");
    info->object_begin(info, "data");
    info->number(info, "cid", d->cid);
    info->number(info, "parent-cid", d->parent_cid);
    info->text(info, "create-type", d->create_type);
    info->array_begin(info, "extents");
    for (size_t i = 0; i < v->n_extents; i++)
        put_extent(info, &v->extents[i]);
    info->end(info);
    info->end(info);
    info->end(info);
}

/* ---- extents ---- */

/* Asked of a child: moved to where they lie on the disk. */
struct mover {
    plt_extent_fn *emit;
    void *cookie;
    uint64_t from, to; /* of the child, of the disk */
    bool is_parent, has_stopped;
};

static bool move(void *cookie, const struct plt_extent *extent)
{
    struct mover *const m = (struct mover *)cookie;
    struct plt_extent x = *extent;

    x.off = m->to + (extent->off - m->from);
    if (m->is_parent) {
        x.depth++;
    } else {
        /* A flat extent: all of it is data of this image, holes or not. */
        x.flags = PLT_EXTENT_MAPPED | (extent->flags & PLT_EXTENT_ZERO);
        x.child_off = extent->off;
    }
    m->has_stopped = !m->emit(m->cookie, &x);
    return !m->has_stopped;
}

static enum plt_status put_absent(struct vmdk *v, struct plt_io *io,
                                  struct mover *m, uint64_t off, uint64_t *len,
                                  struct plt_error *err)
{
    const uint64_t limit = v->parent ? atomic_load(&v->parent_size) : 0;
    const struct plt_extent x = {.off = off,
                                 .len = *len,
                                 .flags = PLT_EXTENT_ZERO | PLT_EXTENT_HOLE |
                                          PLT_EXTENT_ABSENT};

    if (off >= limit) {
        m->has_stopped = !m->emit(m->cookie, &x);
        return PLT_OK;
    }
    if (*len > limit - off)
        *len = limit - off;
    m->from = m->to = off;
    m->is_parent = true;
    return v->parent->extents(v->parent, io, off, *len, move, m, err);
}

static enum plt_status put_sparse(struct vmdk *v, struct vmdk_extent *e,
                                  struct plt_io *io, struct mover *m,
                                  uint64_t off, uint64_t len,
                                  struct plt_error *err)
{
    const struct plt_seg seg = {off, (size_t)len, NULL};
    const uint64_t end = off + len;
    struct plt_set tables;
    enum plt_status st = vmdk_tables_fetch(v, e, io, &seg, 1, &tables, err);

    if (st != PLT_OK)
        return st;
    while (off < end && st == PLT_OK && !m->has_stopped) {
        struct vmdk_piece piece;
        st = vmdk_map(e, &tables, off, end - off, &piece, err);
        if (st != PLT_OK)
            break;
        struct plt_extent x = {.off = e->start + off, .len = piece.len};
        if (piece.kind == VMDK_ABSENT) {
            st = put_absent(v, io, m, x.off, &piece.len, err);
        } else {
            x.flags = piece.kind == VMDK_PACKED  ? PLT_EXTENT_COMPRESSED
                      : piece.kind == VMDK_ZEROS ? PLT_EXTENT_ZERO
                                                 : PLT_EXTENT_MAPPED;
            x.child_off = piece.kind == VMDK_DATA ? piece.host : 0;
            m->has_stopped = !m->emit(m->cookie, &x);
        }
        off += piece.len;
    }
    plt_set_release(&tables, v->host);
    return st;
}

/* One extent, a window of it at a time. */
static enum plt_status put_window(struct vmdk *v, struct vmdk_extent *e,
                                  struct plt_io *io, struct mover *m,
                                  uint64_t off, uint64_t *len,
                                  struct plt_error *err)
{
    enum { TABLES = 64 };
    const uint64_t in = off - e->start;
    const struct plt_extent zero = {
        .off = off, .len = *len, .flags = PLT_EXTENT_ZERO};

    if (e->is_closed || e->type == VMDK_ZERO) {
        const struct plt_extent closed = {.off = off, .len = *len};
        m->has_stopped = !m->emit(m->cookie, e->is_closed ? &closed : &zero);
        return PLT_OK;
    }
    if (e->type == VMDK_FLAT) {
        m->from = e->off + in;
        m->to = off;
        m->is_parent = false;
        return e->child->extents(e->child, io, m->from, *len, move, m, err);
    }
    const uint64_t span = e->header.grain * e->header.gtes;
    const uint64_t most = span * TABLES - in % span;
    if (*len > most)
        *len = most;
    return put_sparse(v, e, io, m, in, *len, err);
}

enum plt_status vmdk_extents(void *image, struct plt_io *io, uint64_t off,
                             uint64_t len, plt_extent_fn *emit, void *cookie,
                             struct plt_error *err)
{
    struct vmdk *const v = (struct vmdk *)image;
    struct mover m = {.emit = emit, .cookie = cookie};
    const uint64_t end = off + len;
    enum plt_status st = PLT_OK;

    while (off < end && st == PLT_OK && !m.has_stopped) {
        struct vmdk_extent *const e = vmdk_find(v, off);
        const uint64_t rest = e->start + e->len - off;
        uint64_t n = rest < end - off ? rest : end - off;
        st = plt_io_ask(io, err);
        if (st == PLT_OK)
            st = put_window(v, e, io, &m, off, &n, err);
        off += n;
    }
    return st;
}

/* ---- check ---- */

/* Every table and every grain lies in its file, and no two grains in the same
 * place. */
struct checker {
    struct vmdk *v;
    struct plt_io *io;
    struct plt_check *out;
    uint64_t done, all; /* bytes of the disk, of sparse extents */
};

static void corrupt(struct checker *c, uint64_t at, const char *text)
{
    c->out->corruptions++;
    if (c->out->finding)
        c->out->finding(c->out->cookie, PLT_FINDING_CORRUPTION, at, text);
}

static void step(struct checker *c, uint64_t bytes)
{
    c->done += bytes;
    plt_check_tell(c->out, c->done, c->all);
}

static enum plt_status check_sparse(struct checker *c, struct vmdk_extent *e,
                                    struct plt_error *err)
{
    uint64_t off = 0, next = 0;

    while (off < e->len) {
        const uint64_t span = e->header.grain * e->header.gtes;
        const uint64_t n = e->len - off < span ? e->len - off : span;
        const struct plt_seg seg = {off, (size_t)n, NULL};
        struct plt_set tables;
        enum plt_status st = plt_io_ask(c->io, err);
        if (st != PLT_OK)
            return st;
        if (!e->gd[off / span]) { /* nothing there to be wrong */
            c->out->total_clusters +=
                n / e->header.grain + (n % e->header.grain != 0);
            off += n;
            step(c, n);
            continue;
        }
        st = vmdk_tables_fetch(c->v, e, c->io, &seg, 1, &tables, err);
        if (st != PLT_OK)
            return st;
        for (const uint64_t end = off + n; off < end;) {
            struct vmdk_piece p;
            struct plt_error bad;
            const uint64_t grain = e->header.grain - off % e->header.grain;
            st = vmdk_map(e, &tables, off, grain, &p, &bad);
            c->out->total_clusters++;
            if (st != PLT_OK) {
                corrupt(c, bad.at, bad.text);
            } else if (p.kind == VMDK_DATA || p.kind == VMDK_PACKED) {
                c->out->allocated_clusters++;
                c->out->compressed_clusters += p.kind == VMDK_PACKED;
                c->out->fragmented_clusters +=
                    p.kind == VMDK_PACKED || (next && p.host != next);
                next = p.host + e->header.grain;
                if (next > c->out->image_end_offset)
                    c->out->image_end_offset = next;
            }
            off += grain < end - off ? grain : end - off;
        }
        plt_set_release(&tables, c->v->host);
        step(c, n);
    }
    return PLT_OK;
}

static bool has_tables(const struct vmdk_extent *e)
{
    return e->child && e->type != VMDK_FLAT;
}

enum plt_status vmdk_check(void *image, struct plt_io *io,
                           struct plt_check *check, struct plt_error *err)
{
    struct checker c = {.v = (struct vmdk *)image, .io = io, .out = check};
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < c.v->n_extents; i++)
        c.all += has_tables(&c.v->extents[i]) ? c.v->extents[i].len : 0;

    for (size_t i = 0; i < c.v->n_extents && st == PLT_OK; i++) {
        struct vmdk_extent *const e = &c.v->extents[i];
        if (has_tables(e))
            st = check_sparse(&c, e, err);
    }
    return st;
}
