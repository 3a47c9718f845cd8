/* SPDX-License-Identifier: Apache-2.0 */
/* Lending grains that are in memory: decoded ones from the cache, plain ones,
 * flat extents and the parent's from whoever has them below. */
#include "vmdk_image.h"

/* Who takes what is lent, and where. */
struct receiver {
    struct plt_io *io;
    plt_lend_fn *emit;
    void *cookie;
};

/* [off, off+len) of a layer that ends at limit, zeros behind; child NULL: all
 * of it zeros. */
static bool lend_clipped(const struct receiver *to, struct plt_child *child,
                         uint64_t limit, uint64_t off, uint64_t len)
{
    const uint64_t there = child && off < limit ? limit - off : 0;
    const uint64_t now = there < len ? there : len;

    if (now &&
        (!PLT_HAS(child, lend) ||
         child->lend(child, to->io, off, now, to->emit, to->cookie) != PLT_OK))
        return false;
    return now == len || to->emit(to->cookie, NULL, (size_t)(len - now), NULL);
}

static bool lend_packed(const struct vmdk *v, const struct vmdk_extent *e,
                        const struct receiver *to,
                        const struct vmdk_piece *piece, uint64_t off)
{
    struct plt_block *block;

    if (v->host->block_claim(v->host, vmdk_key(VMDK_OF_GRAIN, e, piece->grain),
                             (size_t)e->header.grain, true,
                             &block) != PLT_CLAIM_HIT)
        return false;
    return to->emit(to->cookie, block->data + off % e->header.grain,
                    (size_t)piece->len, block);
}

static bool lend_piece(const struct vmdk *v, const struct vmdk_extent *e,
                       const struct receiver *to,
                       const struct vmdk_piece *piece, uint64_t off)
{
    switch (piece->kind) {
    case VMDK_ABSENT:
        return lend_clipped(to, v->parent, atomic_load(&v->parent_size),
                            e->start + off, piece->len);
    case VMDK_PACKED:
        return lend_packed(v, e, to, piece, off);
    case VMDK_DATA:
        return lend_clipped(to, e->child, atomic_load(&e->size), piece->host,
                            piece->len);
    case VMDK_ZEROS:
    default:
        return to->emit(to->cookie, NULL, (size_t)piece->len, NULL);
    }
}

static bool lend_sparse(struct vmdk *v, struct vmdk_extent *e,
                        const struct receiver *to, uint64_t off, uint64_t len)
{
    const struct plt_seg seg = {off, (size_t)len, NULL};
    const uint64_t end = off + len;
    struct plt_error unused;
    struct plt_set tables;
    bool is_good = true;

    if (vmdk_tables_fetch(v, e, to->io, &seg, 1, &tables, &unused) != PLT_OK)
        return false;
    while (off < end && is_good) {
        struct vmdk_piece piece;
        is_good =
            vmdk_map(e, &tables, off, end - off, &piece, &unused) == PLT_OK &&
            lend_piece(v, e, to, &piece, off);
        off += is_good ? piece.len : 0;
    }
    plt_set_release(&tables, v->host);
    return is_good;
}

/* A stretch of one extent, by its own offsets. */
static bool lend_extent(struct vmdk *v, struct vmdk_extent *e,
                        const struct receiver *to, uint64_t off, uint64_t len)
{
    if (e->is_closed)
        return false;
    if (e->type == VMDK_ZERO)
        return to->emit(to->cookie, NULL, (size_t)len, NULL);
    if (e->type != VMDK_FLAT)
        return lend_sparse(v, e, to, off, len);
    return PLT_HAS(e->child, lend) &&
           e->child->lend(e->child, to->io, e->off + off, len, to->emit,
                          to->cookie) == PLT_OK;
}

enum plt_status vmdk_lend(void *image, struct plt_io *io, uint64_t off,
                          uint64_t len, plt_lend_fn *emit, void *cookie)
{
    struct vmdk *const v = (struct vmdk *)image;
    const struct receiver to = {io, emit, cookie};
    const uint64_t end = off + len;

    while (off < end) {
        struct vmdk_extent *const e = vmdk_find(v, off);
        const uint64_t left = e->start + e->len - off;
        const uint64_t now = left < end - off ? left : end - off;
        if (!lend_extent(v, e, &to, off - e->start, now))
            return PLT_AGAIN;
        off += now;
    }
    return PLT_OK;
}
