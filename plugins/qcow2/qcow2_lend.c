/* SPDX-License-Identifier: Apache-2.0 */
/* Lending clusters that are in memory: decoded ones from the cache, plain ones
 * and the backing file's from whoever has them below. */
#include "qcow2_image.h"

/* Who takes what is lent, and where. */
struct receiver {
    struct plt_io *io;
    plt_lend_fn *emit;
    void *cookie;
};

/* [off, off+len) of a layer that ends at limit, zeros behind. */
static bool lend_clipped(const struct receiver *to, struct plt_child *child,
                         uint64_t limit, uint64_t off, uint64_t len)
{
    const uint64_t there = off < limit ? limit - off : 0;
    const uint64_t now = there < len ? there : len;

    if (now &&
        (!PLT_HAS(child, lend) ||
         child->lend(child, to->io, off, now, to->emit, to->cookie) != PLT_OK))
        return false;
    return now == len || to->emit(to->cookie, NULL, (size_t)(len - now), NULL);
}

static bool lend_packed(const struct qcow2 *q, const struct receiver *to,
                        const struct qcow2_piece *piece, uint64_t off)
{
    struct plt_block *block;

    if (q->host->block_claim(q->host, qcow2_key(QCOW2_OF_PACKED, piece->guest),
                             (size_t)q->cluster, true, &block) != PLT_CLAIM_HIT)
        return false;
    return to->emit(to->cookie, block->data + (off & (q->cluster - 1)),
                    (size_t)piece->len, block);
}

static bool lend_piece(const struct qcow2 *q, const struct receiver *to,
                       const struct qcow2_piece *piece, uint64_t off)
{
    const uint64_t backing = q->is_vm_state ? 0 : atomic_load(&q->backing.size);

    switch (piece->kind) {
    case QCOW2_DATA:
        return lend_clipped(to, q->data.child, atomic_load(&q->data.size),
                            piece->host, piece->len);
    case QCOW2_PACKED:
        return lend_packed(q, to, piece, off);
    case QCOW2_UNALLOCATED:
        return lend_clipped(to, q->backing.child, backing, off, piece->len);
    case QCOW2_ZERO:
    default:
        return to->emit(to->cookie, NULL, (size_t)piece->len, NULL);
    }
}

enum plt_status qcow2_lend(void *image, struct plt_io *io, uint64_t off,
                           uint64_t len, plt_lend_fn *emit, void *cookie)
{
    struct qcow2 *const q = (struct qcow2 *)image;
    const struct receiver to = {io, emit, cookie};
    const struct plt_seg seg = {off, (size_t)len, NULL};
    const uint64_t end = q->base + off + len;
    struct qcow2_tables tables;
    struct plt_error unused;
    bool is_good = true;

    if (q->header.crypt ||
        qcow2_tables_fetch(q, io, &seg, 1, &tables, &unused) != PLT_OK)
        return PLT_AGAIN;
    for (uint64_t at = q->base + off; at < end && is_good;) {
        struct qcow2_piece piece;
        is_good = qcow2_map(q, &tables, atomic_load(&q->data.size), at,
                            end - at, &piece, &unused) == PLT_OK &&
                  lend_piece(q, &to, &piece, at);
        at += is_good ? piece.len : 0;
    }
    qcow2_tables_release(q, &tables);
    return is_good ? PLT_OK : PLT_AGAIN;
}
