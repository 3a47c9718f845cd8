/* SPDX-License-Identifier: Apache-2.0 */
/* The qcow2 driver: versions 2 and 3, read side, after docs/interop/qcow2 of
 * QEMU.
 *
 *     segments -> tables (one read for those not in memory)
 *              -> pieces -> plain ones and compressed ones: one read
 *                        -> not allocated: backing file, one read; or zeros
 *
 * So a read costs at most two dependent reads of the child (three when the L1
 * table is too large to be kept), however many clusters it touches.  Plain
 * bytes go straight into the caller's buffers; compressed clusters are decoded
 * into the cache and copied out of it.
 *
 * A file whose length nobody knows yet (a qcow2 inside a plain gzip stream) is
 * read without bounds first; only when that runs over its end is the length
 * asked for, once. */
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
    q->entry = q->header.incompatible & QCOW2_EXTENDED_L2 ? 16 : 8;
    q->slice = q->cluster < QCOW2_SLICE ? q->cluster : QCOW2_SLICE;
    q->slice_span = q->slice / q->entry * q->cluster;
    const uint64_t bytes = (uint64_t)q->header.l1_count * 8;
    if (!bytes || bytes > QCOW2_SLICE)
        return PLT_OK; /* nothing to map; or by slices, when needed */
    st = q->host->mem_take(q->host, bytes, err);
    if (st != PLT_OK)
        return plt_prefix(err, "L1 table: ");
    q->l1_mem = bytes;
    q->l1 = (uint8_t *)malloc((size_t)bytes);
    if (!q->l1)
        return plt_fail(err, PLT_NOMEM, "L1 table");
    const struct plt_seg seg = {q->header.l1_off, (size_t)bytes, q->l1};
    st = q->child->read(q->child, io, &seg, 1, err);
    return st == PLT_OK ? st : plt_prefix(err, "L1 table: ");
}

/* Bounds for what entries say: the size, or when that is not known yet the
 * largest there is. */
static uint64_t limit_of(const struct plt_child *child)
{
    return child->size == PLT_SIZE_UNKNOWN ? PLT_SIZE_MAX : child->size;
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
    atomic_init(&q->child_size, limit_of(q->child));
    enum plt_status st = load(q, args->io, err);
    if (st == PLT_OK && q->header.backing[0]) {
        st = q->host->open_named(
            q->host, args->io, PLT_ROLE_BACKING, q->header.backing,
            q->header.backing_format[0] ? q->header.backing_format : NULL,
            &q->backing, err);
        if (st != PLT_OK)
            st = plt_prefix(err, "backing file: ");
    }
    atomic_init(&q->backing_size, q->backing ? limit_of(q->backing) : 0);
    if (st != PLT_OK) {
        qcow2_close(q);
        return st;
    }
    out->size = q->header.size;
    *image = q;
    return PLT_OK;
}

/* ---- Reading ---- */

/* A compressed cluster that a segment wants a part of. */
struct part {
    uint64_t key;
    size_t in, len;
    uint8_t *buf;
};

/* What a read is made of, gathered before anything is fetched. */
struct plan {
    struct plt_seg *data, *backing;
    size_t n_data, n_backing, cap_data, cap_backing;
    struct qcow2_set packed;
    struct part *parts;
    size_t n_parts, cap_parts;
    uint64_t limit, backing_limit; /* sizes, the same for the whole read */
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

/* [off, off+len) of a layer that ends at limit, zeros behind. */
static bool add_clipped(struct plt_seg **list, size_t *cap, size_t *n,
                        uint64_t limit, uint64_t off, uint8_t *buf, size_t len)
{
    const uint64_t there = off < limit ? limit - off : 0;
    const size_t now = there < len ? (size_t)there : len;

    memset(buf + now, 0, len - now);
    return !now || add_seg(list, cap, n, (struct plt_seg){off, now, buf});
}

static bool add_packed(const struct qcow2 *q, struct plan *p,
                       const struct qcow2_piece *piece, uint64_t off,
                       uint8_t *buf)
{
    const struct qcow2_block want = {
        .key = qcow2_key(QCOW2_OF_PACKED, piece->guest),
        .len = (size_t)q->cluster,
        .host = piece->host,
        .stored = piece->stored,
        .is_packed = true};
    void *array = p->parts;
    const bool is_good =
        room(&array, &p->cap_parts, p->n_parts, sizeof(*p->parts));

    p->parts = (struct part *)array;
    if (!is_good || !qcow2_set_add(&p->packed, &want))
        return false;
    p->parts[p->n_parts++] = (struct part){
        want.key, (size_t)(off & (q->cluster - 1)), (size_t)piece->len, buf};
    return true;
}

static bool add_piece(const struct qcow2 *q, struct plan *p,
                      const struct qcow2_piece *piece, uint64_t off,
                      uint8_t *buf)
{
    const size_t n = (size_t)piece->len;

    switch (piece->kind) {
    case QCOW2_DATA: /* the file may end inside its last cluster */
        return add_clipped(&p->data, &p->cap_data, &p->n_data, p->limit,
                           piece->host, buf, n);
    case QCOW2_PACKED:
        return add_packed(q, p, piece, off, buf);
    case QCOW2_UNALLOCATED: /* the backing file may be shorter */
        return add_clipped(&p->backing, &p->cap_backing, &p->n_backing,
                           p->backing_limit, off, buf, n);
    case QCOW2_ZERO:
    default:
        memset(buf, 0, n);
        return true;
    }
}

static enum plt_status plan_all(struct qcow2 *q, struct plt_io *io,
                                struct plan *p, const struct plt_seg *segs,
                                size_t n, struct plt_error *err)
{
    struct qcow2_tables tables;
    enum plt_status st = qcow2_tables_fetch(q, io, segs, n, &tables, err);

    if (st != PLT_OK)
        return st;
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        uint8_t *const buf = (uint8_t *)segs[i].buf;
        for (size_t at = 0; at < segs[i].len && st == PLT_OK;) {
            const uint64_t off = segs[i].off + at;
            struct qcow2_piece piece;
            st = qcow2_map(q, &tables, p->limit, off, segs[i].len - at, &piece,
                           err);
            if (st == PLT_OK && !add_piece(q, p, &piece, off, buf + at))
                st = plt_fail(err, PLT_NOMEM, "a list of pieces");
            if (st == PLT_OK)
                at += (size_t)piece.len;
        }
    }
    qcow2_tables_release(q, &tables);
    return st;
}

static enum plt_status fetch_plan(struct qcow2 *q, struct plt_io *io,
                                  struct plan *p, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (p->n_data || p->packed.n)
        st = qcow2_set_fetch(q, io, &p->packed, p->data, p->n_data, err);
    for (size_t i = 0; i < p->n_parts && st == PLT_OK; i++) {
        const struct part *const part = &p->parts[i];
        const uint8_t *const data = qcow2_set_find(&p->packed, part->key);
        memcpy(part->buf, data + part->in, part->len);
    }
    if (st != PLT_OK || !p->n_backing)
        return st;
    st = q->backing->read(q->backing, io, p->backing, p->n_backing, err);
    return st == PLT_OK || st == PLT_AGAIN ? st
                                           : plt_prefix(err, "backing file: ");
}

static enum plt_status read_once(struct qcow2 *q, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct plan p = {.limit = atomic_load(&q->child_size),
                     .backing_limit = atomic_load(&q->backing_size)};
    enum plt_status st = plan_all(q, io, &p, segs, n, err);

    if (st == PLT_OK)
        st = fetch_plan(q, io, &p, err);
    qcow2_set_release(q, &p.packed);
    free(p.data);
    free(p.backing);
    free(p.parts);
    return st;
}

/* Find a size that was unknown.  True: now there are bounds that were not. */
static bool learn_size(struct plt_child *child, struct plt_io *io,
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

static enum plt_status qcow2_read(void *image, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n,
                                  struct plt_error *err)
{
    struct qcow2 *const q = (struct qcow2 *)image;
    enum plt_status st = read_once(q, io, segs, n, err);

    if (st != PLT_CORRUPT || io->flags & PLT_IO_NOWAIT)
        return st;
    /* Perhaps it only ran over an end that was not known. */
    const bool is_child = learn_size(q->child, io, &q->child_size);
    const bool is_backing = learn_size(q->backing, io, &q->backing_size);
    return is_child || is_backing ? read_once(q, io, segs, n, err) : st;
}

/* ---- Extents ---- */

/* What is emitted, one extent behind, so that neighbours become one. */
struct emitter {
    plt_extent_fn *emit;
    void *cookie;
    struct plt_extent last; /* len 0: none yet */
    bool has_stopped;
};

static bool put(struct emitter *e, const struct plt_extent *x)
{
    const struct plt_extent *const l = &e->last;

    if (l->len && l->flags == x->flags && l->depth == x->depth &&
        (!(x->flags & PLT_EXTENT_MAPPED) ||
         l->child_off + l->len == x->child_off)) {
        e->last.len += x->len;
        return true;
    }
    if (l->len && !e->emit(e->cookie, l))
        e->has_stopped = true;
    e->last = *x;
    return !e->has_stopped;
}

/* An extent of the backing file: one deeper, and no offset of our child. */
static bool put_deeper(void *cookie, const struct plt_extent *extent)
{
    struct plt_extent x = *extent;

    x.depth++;
    return put((struct emitter *)cookie, &x);
}

static enum plt_status put_piece(struct qcow2 *q, struct plt_io *io,
                                 struct emitter *e, uint64_t off,
                                 struct qcow2_piece *piece,
                                 struct plt_error *err)
{
    const uint64_t below = atomic_load(&q->backing_size);
    struct plt_extent x = {.off = off, .len = piece->len};

    switch (piece->kind) {
    case QCOW2_UNALLOCATED:
        if (off < below) {
            if (piece->len > below - off)
                piece->len = below - off;
            return q->backing->extents(q->backing, io, off, piece->len,
                                       put_deeper, e, err);
        }
        x.flags = PLT_EXTENT_ZERO | PLT_EXTENT_HOLE;
        break;
    case QCOW2_PACKED:
        x.flags = PLT_EXTENT_COMPRESSED;
        break;
    case QCOW2_DATA:
        x.flags = PLT_EXTENT_MAPPED;
        x.child_off = piece->host;
        break;
    case QCOW2_ZERO:
    default:
        x.flags = PLT_EXTENT_ZERO;
        break;
    }
    (void)put(e, &x);
    return PLT_OK;
}

/* [off, off+len), its tables fetched together. */
static enum plt_status put_window(struct qcow2 *q, struct plt_io *io,
                                  struct emitter *e, uint64_t off, uint64_t len,
                                  struct plt_error *err)
{
    const uint64_t limit = atomic_load(&q->child_size);
    const struct plt_seg seg = {off, (size_t)len, NULL};
    struct qcow2_tables tables;
    enum plt_status st = qcow2_tables_fetch(q, io, &seg, 1, &tables, err);

    if (st != PLT_OK)
        return st;
    for (const uint64_t end = off + len;
         off < end && st == PLT_OK && !e->has_stopped;) {
        struct qcow2_piece piece;
        st = qcow2_map(q, &tables, limit, off, end - off, &piece, err);
        if (st == PLT_OK)
            st = put_piece(q, io, e, off, &piece, err);
        off += piece.len;
    }
    qcow2_tables_release(q, &tables);
    return st;
}

/* The first windows are small, for those who only want the next extent. */
static enum plt_status qcow2_extents(void *image, struct plt_io *io,
                                     uint64_t off, uint64_t len,
                                     plt_extent_fn *emit, void *cookie,
                                     struct plt_error *err)
{
    enum { FIRST_SLICES = 2, MAX_SLICES = 64 };
    struct qcow2 *const q = (struct qcow2 *)image;
    struct emitter e = {.emit = emit, .cookie = cookie};
    const uint64_t end = off + len;
    enum plt_status st = PLT_OK;

    for (uint64_t slices = FIRST_SLICES;
         off < end && st == PLT_OK && !e.has_stopped;) {
        uint64_t n = slices * q->slice_span - off % q->slice_span;
        if (n > end - off)
            n = end - off;
        st = put_window(q, io, &e, off, n, err);
        off += n;
        slices = slices < MAX_SLICES ? slices * 2 : slices;
    }
    if (st == PLT_OK && !e.has_stopped && e.last.len)
        (void)emit(cookie, &e.last);
    return st;
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
