/* SPDX-License-Identifier: Apache-2.0 */
/* The qcow2 driver: versions 2 and 3, read side.
 *
 * A read is mapped whole first, then fetched: everything plain goes to the
 * child in one call, straight into the caller's buffers; compressed clusters
 * come decoded from the cache; what is not allocated comes from the backing
 * file, or is zeros. */
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "qcow2_image.h"

static int qcow2_probe(const struct plt_probe *probe)
{
    if (probe->head_len < 8 || plt_be32(probe->head) != 0x514649fb)
        return 0;
    const uint32_t version = plt_be32(probe->head + 4);
    return version == 2 || version == 3 ? 100 : 60; /* refused by name */
}

static void qcow2_close(void *image)
{
    struct qcow2 *const q = (struct qcow2 *)image;

    if (q->l1_mem)
        q->host->mem_give(q->host, q->l1_mem);
    free(q->l1);
    free(q);
}

/* The first bytes, whose number is known only where the length is. */
static enum plt_status read_head(struct qcow2 *q, struct plt_io *io,
                                 uint8_t *buf, size_t *n, struct plt_error *err)
{
    struct plt_seg seg = {0, QCOW2_HEADER_BYTES, buf};
    uint64_t size = q->child->size;

    *n = QCOW2_HEADER_BYTES;
    if (size == PLT_SIZE_UNKNOWN) {
        const enum plt_status st = q->child->read(q->child, io, &seg, 1, err);
        if (st != PLT_CORRUPT)
            return st;
        const enum plt_status size_st =
            q->child->resolve_size(q->child, io, &size, err);
        if (size_st != PLT_OK)
            return size_st;
    }
    if (size < *n)
        *n = (size_t)size;
    if (!*n)
        return plt_fail(err, PLT_CORRUPT, "no qcow2 header");
    seg.len = *n;
    return q->child->read(q->child, io, &seg, 1, err);
}

static enum plt_status load(struct qcow2 *q, struct plt_io *io,
                            struct plt_error *err)
{
    uint8_t *const head = malloc(QCOW2_HEADER_BYTES);
    size_t n = 0;

    if (!head)
        return plt_fail(err, PLT_NOMEM, "a header");
    enum plt_status st = read_head(q, io, head, &n, err);
    if (st == PLT_OK)
        st = qcow2_header_parse(&q->header, head, n, q->child->size, err);
    free(head);
    if (st != PLT_OK)
        return st;
    q->cluster = UINT64_C(1) << q->header.cluster_bits;
    const uint64_t bytes = (uint64_t)q->header.l1_count * 8;
    if (!bytes)
        return PLT_OK;
    st = q->host->mem_take(q->host, bytes, err);
    if (st != PLT_OK)
        return plt_prefix(err, "L1 table: ");
    q->l1_mem = bytes;
    q->l1 = malloc((size_t)bytes);
    if (!q->l1)
        return plt_fail(err, PLT_NOMEM, "L1 table");
    const struct plt_seg seg = {q->header.l1_off, (size_t)bytes, q->l1};
    st = q->child->read(q->child, io, &seg, 1, err);
    return st == PLT_OK ? st : plt_prefix(err, "L1 table: ");
}

static enum plt_status qcow2_open(const struct plt_open_args *args,
                                  void **image, struct plt_opened *out,
                                  struct plt_error *err)
{
    struct qcow2 *const q = calloc(1, sizeof(*q));

    if (!q)
        return plt_fail(err, PLT_NOMEM, "an image");
    q->host = args->host;
    q->child = args->child;
    enum plt_status st = load(q, args->io, err);
    if (st == PLT_OK && q->header.backing[0]) {
        st = q->host->open_named(
            q->host, args->io, PLT_ROLE_BACKING, q->header.backing,
            q->header.backing_format[0] ? q->header.backing_format : NULL,
            &q->backing, err);
        if (st != PLT_OK)
            st = plt_prefix(err, "backing file: ");
    }
    if (st != PLT_OK) {
        qcow2_close(q);
        return st;
    }
    out->size = q->header.size;
    *image = q;
    return PLT_OK;
}

/* ---- Reading ---- */

/* What a read is made of, gathered before anything is fetched. */
struct plan {
    struct plt_seg *data, *backing;
    struct qcow2_packed *packed;
    size_t n_data, n_backing, n_packed;
    size_t cap_data, cap_backing, cap_packed;
};

/* Room for one more item. */
static bool room(void **array, size_t *cap, size_t n, size_t item)
{
    if (n < *cap)
        return true;
    const size_t more = *cap ? *cap * 2 : 16;
    void *const grown = realloc(*array, more * item);
    if (!grown)
        return false;
    *array = grown;
    *cap = more;
    return true;
}

static bool add_seg(struct plt_seg **list, size_t *cap, size_t *n,
                    struct plt_seg seg)
{
    struct plt_seg *const last = *n ? &(*list)[*n - 1] : NULL;
    void *array = *list;

    /* Adjacent in the file and in memory: one. */
    if (last && last->off + last->len == seg.off &&
        (uint8_t *)last->buf + last->len == (uint8_t *)seg.buf) {
        last->len += seg.len;
        return true;
    }
    const bool is_good = room(&array, cap, *n, sizeof(seg));
    *list = (struct plt_seg *)array;
    if (is_good)
        (*list)[(*n)++] = seg;
    return is_good;
}

/* What the backing file does not reach reads as zeros. */
static bool add_backing(const struct qcow2 *q, struct plan *p, uint64_t off,
                        uint8_t *buf, size_t len)
{
    const uint64_t size = q->backing ? q->backing->size : 0;
    size_t now = len;

    if (off >= size)
        now = 0;
    else if (size - off < now)
        now = (size_t)(size - off);
    memset(buf + now, 0, len - now);
    return !now || add_seg(&p->backing, &p->cap_backing, &p->n_backing,
                           (struct plt_seg){off, now, buf});
}

/* A data cluster that the file cuts off reads as zeros behind its end, as it
 * does for QEMU. */
static bool add_data(const struct qcow2 *q, struct plan *p, uint64_t host,
                     uint8_t *buf, size_t len)
{
    size_t now = len;

    if (q->child->size != PLT_SIZE_UNKNOWN && host >= q->child->size)
        now = 0;
    else if (q->child->size != PLT_SIZE_UNKNOWN && q->child->size - host < now)
        now = (size_t)(q->child->size - host);
    memset(buf + now, 0, len - now);
    return !now || add_seg(&p->data, &p->cap_data, &p->n_data,
                           (struct plt_seg){host, now, buf});
}

static bool add_packed(const struct qcow2 *q, struct plan *p,
                       const struct qcow2_piece *piece, uint64_t off,
                       uint8_t *buf)
{
    void *array = p->packed;
    const bool is_good =
        room(&array, &p->cap_packed, p->n_packed, sizeof(*p->packed));

    p->packed = (struct qcow2_packed *)array;
    if (is_good)
        p->packed[p->n_packed++] =
            (struct qcow2_packed){.piece = *piece,
                                  .in = (size_t)(off & (q->cluster - 1)),
                                  .len = (size_t)piece->len,
                                  .buf = buf};
    return is_good;
}

static enum plt_status map_segment(struct qcow2 *q, struct plt_io *io,
                                   struct plan *p, struct plt_seg seg,
                                   struct plt_error *err)
{
    uint8_t *buf = (uint8_t *)seg.buf;

    while (seg.len) {
        struct qcow2_piece piece;
        bool is_good = true;
        const enum plt_status st =
            qcow2_map(q, io, seg.off, seg.len, &piece, err);
        if (st != PLT_OK)
            return st;
        const size_t n = (size_t)piece.len;
        switch (piece.kind) {
        case QCOW2_DATA:
            is_good = add_data(q, p, piece.host, buf, n);
            break;
        case QCOW2_PACKED:
            is_good = add_packed(q, p, &piece, seg.off, buf);
            break;
        case QCOW2_UNALLOCATED:
            is_good = add_backing(q, p, seg.off, buf, n);
            break;
        case QCOW2_ZERO:
        default:
            memset(buf, 0, n);
            break;
        }
        if (!is_good)
            return plt_fail(err, PLT_NOMEM, "a list of pieces");
        seg.off += n;
        seg.len -= n;
        buf += n;
    }
    return PLT_OK;
}

static enum plt_status qcow2_read(void *image, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n,
                                  struct plt_error *err)
{
    struct qcow2 *const q = (struct qcow2 *)image;
    struct plan p = {.data = NULL};
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < n && st == PLT_OK; i++)
        st = map_segment(q, io, &p, segs[i], err);
    if (st == PLT_OK && p.n_data)
        st = q->child->read(q->child, io, p.data, p.n_data, err);
    if (st == PLT_OK && p.n_packed)
        st = qcow2_unpack(q, io, p.packed, p.n_packed, err);
    if (st == PLT_OK && p.n_backing)
        st = q->backing->read(q->backing, io, p.backing, p.n_backing, err);
    free(p.data);
    free(p.backing);
    free(p.packed);
    return st;
}

/* ---- Extents ---- */

struct deeper {
    plt_extent_fn *emit;
    void *cookie;
    bool has_stopped;
};

static bool emit_deeper(void *cookie, const struct plt_extent *extent)
{
    struct deeper *const d = (struct deeper *)cookie;
    struct plt_extent e = *extent;

    e.depth++;
    d->has_stopped = !d->emit(d->cookie, &e);
    return !d->has_stopped;
}

static enum plt_status qcow2_extents(void *image, struct plt_io *io,
                                     uint64_t off, uint64_t len,
                                     plt_extent_fn *emit, void *cookie,
                                     struct plt_error *err)
{
    struct qcow2 *const q = (struct qcow2 *)image;
    const uint64_t end = off + len;
    bool is_more = true;

    while (off < end && is_more) {
        struct qcow2_piece piece;
        enum plt_status st = qcow2_map(q, io, off, end - off, &piece, err);
        if (st != PLT_OK)
            return st;
        struct plt_extent e = {.off = off, .len = piece.len};
        const uint64_t below = q->backing ? q->backing->size : 0;
        if (piece.kind == QCOW2_UNALLOCATED && off < below) {
            struct deeper d = {.emit = emit, .cookie = cookie};
            if (e.len > below - off)
                e.len = below - off;
            st = q->backing->extents(q->backing, io, off, e.len, emit_deeper,
                                     &d, err);
            if (st != PLT_OK || d.has_stopped)
                return st;
            off += e.len;
            continue;
        }
        if (piece.kind == QCOW2_UNALLOCATED)
            e.flags = PLT_EXTENT_ZERO | PLT_EXTENT_HOLE;
        else if (piece.kind == QCOW2_ZERO)
            e.flags = PLT_EXTENT_ZERO;
        else if (piece.kind == QCOW2_PACKED)
            e.flags = PLT_EXTENT_COMPRESSED;
        else {
            e.flags = PLT_EXTENT_MAPPED;
            e.child_off = piece.host;
        }
        is_more = emit(cookie, &e);
        off += e.len;
    }
    return PLT_OK;
}

static void qcow2_info(void *image, struct plt_info *info)
{
    const struct qcow2 *const q = (const struct qcow2 *)image;
    const struct qcow2_header *const h = &q->header;

    info->number(info, "cluster-size", q->cluster);
    info->boolean(info, "dirty-flag", h->incompatible & QCOW2_DIRTY);
    if (h->backing[0])
        info->text(info, "backing-filename", h->backing);
    if (h->backing_format[0])
        info->text(info, "backing-filename-format", h->backing_format);
    if (h->n_snapshots)
        info->number(info, "snapshot-count", h->n_snapshots);
    info->object_begin(info, "format-specific");
    info->text(info, "type", "qcow2");
    info->object_begin(info, "data");
    info->text(info, "compat", h->version == 2 ? "0.10" : "1.1");
    info->text(info, "compression-type", h->compression ? "zstd" : "zlib");
    if (h->version == 3)
        info->boolean(info, "lazy-refcounts", h->compatible & 1);
    info->number(info, "refcount-bits", h->refcount_bits);
    if (h->version == 3) {
        info->boolean(info, "corrupt", h->incompatible & QCOW2_CORRUPT);
        info->boolean(info, "extended-l2", h->incompatible & QCOW2_EXTENDED_L2);
    }
    info->end(info);
    info->end(info);
}

PLT_DRIVER(.name = "qcow2", .summary = "qcow2 images, versions 2 and 3",
           .kind = PLT_KIND_FORMAT, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .probe = qcow2_probe, .open = qcow2_open,
           .close = qcow2_close, .read = qcow2_read, .extents = qcow2_extents,
           .info = qcow2_info)
