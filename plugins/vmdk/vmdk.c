/* SPDX-License-Identifier: Apache-2.0 */
/* The vmdk driver: VMware's virtual disks, read side.
 *
 *     descriptor -> extents, each a stretch of the disk in one file
 *     segments -> extents -> grain tables (one read for those not in memory)
 *                         -> pieces: plain ones and compressed ones: one read
 *     what no extent has: the parent, one read for all; or zeros
 *
 * Which files extents and parent are, policy decides. */
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "vmdk_image.h"

static int vmdk_probe(const struct plt_probe *probe)
{
    if (vmdk_is_sparse(probe->head, probe->head_len))
        return 95;
    return vmdk_is_descriptor(probe->head, probe->head_len) ? 90 : 0;
}

static void vmdk_close(void *image)
{
    vmdk_free((struct vmdk *)image);
}

static enum plt_status vmdk_open(const struct plt_open_args *args, void **image,
                                 struct plt_opened *out, struct plt_error *err)
{
    struct vmdk *const v = calloc(1, sizeof(*v));

    if (!v)
        return plt_fail(err, PLT_NOMEM, "an image");
    v->host = args->host;
    v->child = args->child;
    const enum plt_status st = vmdk_load(v, args, err);
    if (st != PLT_OK) {
        vmdk_free(v);
        return st;
    }
    out->size = v->size;
    *image = v;
    return PLT_OK;
}

struct vmdk_extent *vmdk_find(const struct vmdk *v, uint64_t off)
{
    size_t low = 0, high = v->n_extents;

    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (v->extents[middle].start <= off)
            low = middle;
        else
            high = middle;
    }
    return &v->extents[low];
}

/* ---- Reading ---- */

/* Segments that grow. */
struct list {
    struct plt_seg *v;
    size_t n, cap;
};

static bool add(struct list *l, uint64_t off, uint8_t *buf, size_t len)
{
    struct plt_seg *const last = l->n ? &l->v[l->n - 1] : NULL;

    if (last && last->off + last->len == off &&
        (uint8_t *)last->buf + last->len == buf) {
        last->len += len;
        return true;
    }
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 16;
        struct plt_seg *const grown = realloc(l->v, cap * sizeof(*grown));
        if (!grown)
            return false;
        l->v = grown;
        l->cap = cap;
    }
    l->v[l->n++] = (struct plt_seg){off, len, buf};
    return true;
}

/* A compressed grain that a segment wants a part of. */
struct part {
    struct part *next;
    uint64_t key;
    size_t in, len;
    uint8_t *buf;
};

/* What a read of one extent is made of. */
struct plan {
    struct list data;
    struct list *absent; /* offsets of the disk */
    struct plt_set packed;
    struct part *parts;
};

static bool add_packed(const struct vmdk_extent *e, struct plan *p,
                       const struct vmdk_piece *piece, uint64_t off,
                       uint8_t *buf)
{
    const uint64_t left = atomic_load(&e->size) - piece->host;
    const uint64_t most = vmdk_packed_max(&e->header);
    const struct plt_want want = {.key =
                                      vmdk_key(VMDK_OF_GRAIN, e, piece->grain),
                                  .len = (size_t)e->header.grain,
                                  .off = piece->host,
                                  .stored = (size_t)(left < most ? left : most),
                                  .is_packed = true};
    struct part *const part = malloc(sizeof(*part));

    if (!part)
        return false;
    *part = (struct part){p->parts, want.key, (size_t)(off % e->header.grain),
                          (size_t)piece->len, buf};
    p->parts = part;
    return plt_set_add(&p->packed, &want);
}

static bool add_piece(const struct vmdk_extent *e, struct plan *p,
                      const struct vmdk_piece *piece, uint64_t off,
                      uint8_t *buf)
{
    const size_t n = (size_t)piece->len;
    const uint64_t limit = atomic_load(&e->size);

    switch (piece->kind) {
    case VMDK_ABSENT:
        return add(p->absent, e->start + off, buf, n);
    case VMDK_PACKED:
        return add_packed(e, p, piece, off, buf);
    case VMDK_DATA: {
        /* The file may end inside its last grain. */
        const uint64_t there = piece->host < limit ? limit - piece->host : 0;
        const size_t now = there < n ? (size_t)there : n;
        memset(buf + now, 0, n - now);
        return !now || add(&p->data, piece->host, buf, now);
    }
    case VMDK_ZEROS:
    default:
        memset(buf, 0, n);
        return true;
    }
}

static enum plt_status plan_sparse(struct vmdk *v, struct vmdk_extent *e,
                                   struct plt_io *io,
                                   const struct plt_seg *segs, size_t n,
                                   struct plan *p, struct plt_error *err)
{
    struct plt_set tables;
    enum plt_status st = vmdk_tables_fetch(v, e, io, segs, n, &tables, err);

    if (st != PLT_OK)
        return st;
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        uint8_t *const buf = (uint8_t *)segs[i].buf;
        for (size_t at = 0; at < segs[i].len && st == PLT_OK;) {
            struct vmdk_piece piece;
            const uint64_t off = segs[i].off + at;
            st = vmdk_map(e, &tables, off, segs[i].len - at, &piece, err);
            if (st != PLT_OK)
                break;
            if (!add_piece(e, p, &piece, off, buf + at))
                st = plt_fail(err, PLT_NOMEM, "a list of pieces");
            at += (size_t)piece.len;
        }
    }
    plt_set_release(&tables, v->host);
    return st;
}

static void plan_release(struct plan *p, struct plt_host *host)
{
    plt_set_release(&p->packed, host);
    free(p->data.v);
    while (p->parts) {
        struct part *const next = p->parts->next;
        free(p->parts);
        p->parts = next;
    }
}

static enum plt_status read_sparse(struct vmdk *v, struct vmdk_extent *e,
                                   struct plt_io *io,
                                   const struct plt_seg *segs, size_t n,
                                   struct list *absent, struct plt_error *err)
{
    struct plt_decoding decoding =
        e->header.has_markers ? vmdk_marked_decoding : vmdk_bare_decoding;
    struct plan p = {.absent = absent};
    enum plt_status st = plan_sparse(v, e, io, segs, n, &p, err);

    decoding.cookie = e;
    if (st == PLT_OK && (p.data.n || p.packed.n))
        st = plt_set_fetch(&p.packed, v->host, e->child, io, &decoding,
                           p.data.v, p.data.n, err);
    for (const struct part *part = p.parts; part && st == PLT_OK;
         part = part->next)
        memcpy(part->buf, plt_set_find(&p.packed, part->key) + part->in,
               part->len);
    plan_release(&p, v->host);
    return st;
}

/* The stretches of the segments that lie in one extent, by its own offsets. */
static enum plt_status read_extent(struct vmdk *v, struct vmdk_extent *e,
                                   struct plt_io *io, const struct list *mine,
                                   struct list *absent, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (e->is_closed)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "extent %u may not be read (NOACCESS)", e->no);
    if (e->type == VMDK_ZERO) {
        for (size_t i = 0; i < mine->n; i++)
            memset(mine->v[i].buf, 0, mine->v[i].len);
        return PLT_OK;
    }
    if (e->type != VMDK_FLAT)
        return read_sparse(v, e, io, mine->v, mine->n, absent, err);
    for (size_t i = 0; i < mine->n; i++)
        mine->v[i].off += e->off;
    st = e->child->read(e->child, io, mine->v, mine->n, err);
    return st == PLT_OK || st == PLT_AGAIN
               ? st
               : plt_prefix(err, "extent %u: ", e->no);
}

static enum plt_status read_parent(struct vmdk *v, struct plt_io *io,
                                   const struct list *absent,
                                   struct plt_error *err)
{
    const uint64_t limit = v->parent ? atomic_load(&v->parent_size) : 0;
    struct list there = {.v = NULL};
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < absent->n && st == PLT_OK; i++) {
        const struct plt_seg *const s = &absent->v[i];
        const uint64_t rest = s->off < limit ? limit - s->off : 0;
        const size_t now = rest < s->len ? (size_t)rest : s->len;
        memset((uint8_t *)s->buf + now, 0, s->len - now);
        if (now && !add(&there, s->off, (uint8_t *)s->buf, now))
            st = plt_fail(err, PLT_NOMEM, "a list of pieces");
    }
    if (st == PLT_OK && there.n)
        st = v->parent->read(v->parent, io, there.v, there.n, err);
    free(there.v);
    return st == PLT_OK || st == PLT_AGAIN ? st : plt_prefix(err, "parent: ");
}

static enum plt_status read_all(struct vmdk *v, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct list *mine, struct list *absent,
                                struct plt_error *err)
{
    size_t first = v->n_extents, last = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t a = vmdk_find(v, segs[i].off)->no;
        const size_t b = vmdk_find(v, segs[i].off + segs[i].len - 1)->no;
        first = a < first ? a : first;
        last = b > last ? b : last;
    }
    for (size_t k = first; k <= last && k < v->n_extents; k++) {
        struct vmdk_extent *const e = &v->extents[k];
        const uint64_t end = e->start + e->len;
        mine->n = 0;
        for (size_t i = 0; i < n; i++) {
            const struct plt_seg *const s = &segs[i];
            const uint64_t lo = s->off > e->start ? s->off : e->start;
            const uint64_t hi = s->off + s->len < end ? s->off + s->len : end;
            if (lo < hi &&
                !add(mine, lo - e->start, (uint8_t *)s->buf + (lo - s->off),
                     (size_t)(hi - lo)))
                return plt_fail(err, PLT_NOMEM, "a list of pieces");
        }
        const enum plt_status st =
            mine->n ? read_extent(v, e, io, mine, absent, err) : PLT_OK;
        if (st != PLT_OK)
            return st;
    }
    return absent->n ? read_parent(v, io, absent, err) : PLT_OK;
}

static enum plt_status read_once(struct vmdk *v, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct list mine = {.v = NULL}, absent = {.v = NULL};
    const enum plt_status st = read_all(v, io, segs, n, &mine, &absent, err);

    free(mine.v);
    free(absent.v);
    return st;
}

/* A size that was unknown, found: true. */
static bool learn(struct plt_child *child, struct plt_io *io,
                  _Atomic uint64_t *size)
{
    struct plt_error unused;
    uint64_t found;

    if (!child || atomic_load(size) != PLT_SIZE_MAX ||
        child->resolve_size(child, io, &found, &unused) != PLT_OK ||
        found > PLT_SIZE_MAX)
        return false;
    atomic_store(size, found);
    return true;
}

static enum plt_status vmdk_read(void *image, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct vmdk *const v = (struct vmdk *)image;
    const enum plt_status st = read_once(v, io, segs, n, err);

    if (st != PLT_CORRUPT || io->flags & PLT_IO_NOWAIT)
        return st;
    /* Perhaps it only ran over an end that was not known. */
    bool is_news = learn(v->parent, io, &v->parent_size);
    for (size_t i = 0; i < v->n_extents; i++)
        is_news |= learn(v->extents[i].child, io, &v->extents[i].size);
    return is_news ? read_once(v, io, segs, n, err) : st;
}

PLT_DRIVER(.name = "vmdk", .summary = "VMware's virtual disks",
           .kind = PLT_KIND_FORMAT, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .probe = vmdk_probe, .open = vmdk_open,
           .close = vmdk_close, .read = vmdk_read, .extents = vmdk_extents,
           .info = vmdk_info, .check = vmdk_check, .lend = vmdk_lend)
