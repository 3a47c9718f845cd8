/* SPDX-License-Identifier: Apache-2.0 */
/* L1 and L2: from the disk to the file.  qcow2 spec, "Cluster mapping". */
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "qcow2_image.h"

static const uint64_t off_mask = UINT64_C(0x00fffffffffffe00);
static const uint64_t flag_packed = UINT64_C(1) << 62;

/* The L2 table at off in the file: *block is to be released, or *own freed. */
static enum plt_status get_l2(struct qcow2 *q, struct plt_io *io, uint64_t off,
                              struct plt_block **block, uint8_t **own,
                              const uint8_t **table, struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    struct plt_seg seg = {off, (size_t)q->cluster, NULL};
    enum plt_status st;

    *own = NULL;
    switch (
        q->host->block_claim(q->host, off >> 9, seg.len, is_nowait, block)) {
    case PLT_CLAIM_HIT:
        break;
    case PLT_CLAIM_FILL:
        seg.buf = (*block)->data;
        st = q->child->read(q->child, io, &seg, 1, err);
        if (st != PLT_OK) {
            q->host->block_abandon(q->host, *block, err);
            return st;
        }
        q->host->block_commit(q->host, *block);
        break;
    case PLT_CLAIM_PENDING:
        st = q->host->block_wait(q->host, *block, io, err);
        if (st == PLT_AGAIN) /* its filler left: our turn */
            return get_l2(q, io, off, block, own, table, err);
        if (st != PLT_OK)
            return st;
        break;
    case PLT_CLAIM_FULL:
    default:
        if (is_nowait)
            return PLT_AGAIN;
        *own = malloc(seg.len);
        if (!*own)
            return plt_fail(err, PLT_NOMEM, "an L2 table");
        seg.buf = *own;
        st = q->child->read(q->child, io, &seg, 1, err);
        if (st != PLT_OK) {
            free(*own);
            return st;
        }
        break;
    }
    *table = *own ? *own : (*block)->data;
    return PLT_OK;
}

/* One L2 entry, decoded and checked. */
static enum plt_status decode(const struct qcow2 *q, uint64_t entry,
                              uint64_t cluster_no, struct qcow2_piece *p,
                              struct plt_error *err)
{
    const unsigned bits = q->header.cluster_bits;
    const uint64_t limit =
        q->child->size == PLT_SIZE_UNKNOWN ? PLT_SIZE_MAX : q->child->size;

    *p = (struct qcow2_piece){.guest = cluster_no};
    if (entry & flag_packed) {
        /* "Compressed Clusters Descriptor" */
        const unsigned x = 62 - (bits - 8);
        p->kind = QCOW2_PACKED;
        p->host = entry & ((UINT64_C(1) << x) - 1);
        const uint64_t sectors =
            (entry >> x & ((UINT64_C(1) << (bits - 8)) - 1)) + 1;
        uint64_t n = sectors * 512 - (p->host & 511);
        if (p->host >= limit)
            return plt_fail_at(err, PLT_CORRUPT, p->host,
                               "compressed cluster %llu lies past the end",
                               (unsigned long long)cluster_no);
        if (n > limit - p->host) /* the last one may end with the file */
            n = limit - p->host;
        p->packed = (uint32_t)n;
        return PLT_OK;
    }
    p->host = entry & off_mask;
    if (p->host & (q->cluster - 1))
        return plt_fail_at(err, PLT_CORRUPT, p->host,
                           "cluster %llu is not aligned",
                           (unsigned long long)cluster_no);
    if ((entry & 1) && q->header.version >= 3)
        p->kind = QCOW2_ZERO;
    else
        p->kind = p->host ? QCOW2_DATA : QCOW2_UNALLOCATED;
    /* A last cluster that was never written to its end may be short. */
    if (p->kind == QCOW2_DATA && p->host >= limit)
        return plt_fail_at(err, PLT_CORRUPT, p->host,
                           "cluster %llu lies past the end",
                           (unsigned long long)cluster_no);
    return PLT_OK;
}

static bool goes_on(const struct qcow2 *q, const struct qcow2_piece *a,
                    const struct qcow2_piece *b, uint64_t clusters)
{
    if (a->kind != b->kind || a->kind == QCOW2_PACKED)
        return false;
    if (a->kind == QCOW2_DATA)
        return b->host == a->host + clusters * q->cluster;
    return a->kind != QCOW2_ZERO || !a->host == !b->host;
}

enum plt_status qcow2_map(struct qcow2 *q, struct plt_io *io, uint64_t off,
                          uint64_t len, struct qcow2_piece *piece,
                          struct plt_error *err)
{
    const unsigned bits = q->header.cluster_bits;
    const uint64_t per_l2 = q->cluster / 8;
    const uint64_t cluster_no = off >> bits, in = off & (q->cluster - 1);
    const uint64_t l1_no = cluster_no / per_l2;
    uint64_t i = cluster_no % per_l2, n = 1;
    struct plt_block *block = NULL;
    uint8_t *own = NULL;
    const uint8_t *table = NULL;

    const uint64_t l2_off = plt_be64(q->l1 + l1_no * 8) & off_mask;
    const uint64_t rest = per_l2 * q->cluster - (i * q->cluster + in);
    if (!l2_off) {
        *piece = (struct qcow2_piece){.kind = QCOW2_UNALLOCATED,
                                      .len = rest < len ? rest : len};
        return PLT_OK;
    }
    if (l2_off & (q->cluster - 1) ||
        (q->child->size != PLT_SIZE_UNKNOWN &&
         !plt_span_ok(l2_off, q->cluster, q->child->size)))
        return plt_fail_at(err, PLT_CORRUPT, l2_off,
                           "L1 entry %llu points to no L2 table",
                           (unsigned long long)l1_no);
    enum plt_status st = get_l2(q, io, l2_off, &block, &own, &table, err);
    if (st != PLT_OK)
        return st == PLT_AGAIN
                   ? st
                   : plt_prefix(err,
                                "L2 table %llu: ", (unsigned long long)l1_no);
    st = decode(q, plt_be64(table + i * 8), cluster_no, piece, err);
    while (st == PLT_OK && piece->kind != QCOW2_PACKED && i + n < per_l2 &&
           n * q->cluster < in + len) {
        struct qcow2_piece next;
        st = decode(q, plt_be64(table + (i + n) * 8), cluster_no + n, &next,
                    err);
        if (st != PLT_OK || !goes_on(q, piece, &next, n)) {
            st = PLT_OK; /* a bad one is met when it is asked for */
            break;
        }
        n++;
    }
    if (own)
        free(own);
    else
        q->host->block_release(q->host, block);
    if (st != PLT_OK)
        return st;
    const uint64_t all = n * q->cluster - in;
    piece->len = all < len ? all : len;
    if (piece->kind == QCOW2_DATA)
        piece->host += in;
    return PLT_OK;
}
