/* SPDX-License-Identifier: Apache-2.0 */
/* What qemu-img map tells: of every stretch of the disk in which image of the
 * chain it lies, and where. */
#include "qcow2_image.h"

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
        (!(x->flags & (PLT_EXTENT_MAPPED | PLT_EXTENT_RESERVED)) ||
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

/* Data clusters that were allocated and not written: the file knows. */
struct sparse {
    struct emitter *e;
    uint64_t host, guest; /* where the piece lies */
};

static bool put_sparse(void *cookie, const struct plt_extent *extent)
{
    const struct sparse *const s = (const struct sparse *)cookie;
    const struct plt_extent x = {.off = s->guest + (extent->off - s->host),
                                 .len = extent->len,
                                 .flags = PLT_EXTENT_MAPPED |
                                          (extent->flags & PLT_EXTENT_ZERO),
                                 .child_off = extent->off};

    return put(s->e, &x);
}

static enum plt_status put_data(struct qcow2 *q, struct plt_io *io,
                                struct emitter *e, uint64_t off,
                                struct qcow2_piece *piece,
                                struct plt_error *err)
{
    struct sparse s = {e, piece->host, off};
    const uint64_t limit = atomic_load(&q->data.size);

    if (piece->len > limit - piece->host)
        piece->len = limit - piece->host; /* the rest: asked again */
    return q->data.child->extents(q->data.child, io, piece->host, piece->len,
                                  put_sparse, &s, err);
}

static enum plt_status put_piece(struct qcow2 *q, struct plt_io *io,
                                 struct emitter *e, uint64_t off,
                                 struct qcow2_piece *piece,
                                 struct plt_error *err)
{
    const uint64_t below = q->is_vm_state ? 0 : atomic_load(&q->backing.size);
    struct plt_extent x = {.off = off, .len = piece->len};

    /* Without the key the bytes are nowhere as they are. */
    if (piece->has_host && !q->header.crypt) {
        x.flags =
            piece->kind == QCOW2_DATA ? PLT_EXTENT_MAPPED : PLT_EXTENT_RESERVED;
        x.child_off = piece->host;
    }
    switch (piece->kind) {
    case QCOW2_UNALLOCATED:
        if (off < below) {
            if (piece->len > below - off)
                piece->len = below - off;
            return q->backing.child->extents(q->backing.child, io, off,
                                             piece->len, put_deeper, e, err);
        }
        x.flags |= PLT_EXTENT_ZERO | PLT_EXTENT_HOLE | PLT_EXTENT_ABSENT;
        break;
    case QCOW2_PACKED:
        x.flags = PLT_EXTENT_COMPRESSED;
        break;
    case QCOW2_ZERO:
        x.flags |= PLT_EXTENT_ZERO;
        break;
    case QCOW2_DATA:
    default:
        if (atomic_load(&q->is_preallocated) == QCOW2_YES && !q->header.crypt &&
            piece->host < atomic_load(&q->data.size))
            return put_data(q, io, e, off, piece, err);
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
    const uint64_t limit = atomic_load(&q->data.size);
    const struct plt_seg seg = {off, (size_t)len, NULL};
    struct qcow2_tables tables;
    enum plt_status st = qcow2_tables_fetch(q, io, &seg, 1, &tables, err);

    if (st != PLT_OK)
        return st;
    for (const uint64_t end = off + len;
         off < end && st == PLT_OK && !e->has_stopped;) {
        struct qcow2_piece piece;
        st =
            qcow2_map(q, &tables, limit, q->base + off, end - off, &piece, err);
        if (st == PLT_OK)
            st = put_piece(q, io, e, off, &piece, err);
        off += piece.len;
    }
    qcow2_tables_release(q, &tables);
    return st;
}

/* The first windows are small, for those who only want the next extent. */
enum plt_status qcow2_extents(void *image, struct plt_io *io, uint64_t off,
                              uint64_t len, plt_extent_fn *emit, void *cookie,
                              struct plt_error *err)
{
    enum { FIRST_SLICES = 2, MAX_SLICES = 64 };
    struct qcow2 *const q = (struct qcow2 *)image;
    struct emitter e = {.emit = emit, .cookie = cookie};
    const uint64_t end = off + len;
    /* What the L1 table reaches; a snapshot's disk may claim to be longer. */
    const uint64_t reach = q->l1_count * (q->cluster / q->entry) * q->cluster;
    const uint64_t mapped = reach > q->base ? reach - q->base : 0;
    enum plt_status st = PLT_OK;

    if (atomic_load(&q->is_preallocated) == QCOW2_NOT_ASKED)
        st = qcow2_ask_preallocated(q, io, err);
    for (uint64_t slices = FIRST_SLICES;
         off < end && st == PLT_OK && !e.has_stopped;) {
        uint64_t n = slices * q->slice_span - off % q->slice_span;
        if (off >= mapped)
            n = end - off;
        else if (n > mapped - off)
            n = mapped - off;
        if (n > end - off)
            n = end - off;
        /* One table may stand for all of a vast disk, and nothing of it waits.
         */
        st = plt_io_ask(io, err);
        if (st == PLT_OK)
            st = put_window(q, io, &e, off, n, err);
        off += n;
        slices = slices < MAX_SLICES ? slices * 2 : slices;
    }
    if (st == PLT_OK && !e.has_stopped && e.last.len)
        (void)emit(cookie, &e.last);
    return st;
}
