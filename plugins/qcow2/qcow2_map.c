/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2 spec, "Cluster mapping": an L1 entry points to an L2 table, an L2 entry
 * to a cluster of the file.  With extended L2 entries, every entry has a bitmap
 * behind it that tells of each 32nd of the cluster what it is.
 *
 * What entries may say is checked as QEMU does: an offset that is not aligned,
 * a zero flag in version 2, a subcluster both allocated and zero are corrupt;
 * reserved bits are ignored. */
#include <platter/bytes.h>

#include "qcow2_image.h"

enum { SUBCLUSTERS = 32 };

static const uint64_t off_mask = UINT64_C(0x00fffffffffffe00);
static const uint64_t flag_packed = UINT64_C(1) << 62;
static const uint64_t flag_copied = UINT64_C(1) << 63;
static const uint64_t flag_zero = 1;

/* ---- Tables ---- */

/* The slice of an L1 table too large to be kept, with entry `no`. */
static struct plt_want l1_slice(const struct qcow2 *q, uint64_t no)
{
    const uint64_t all = (uint64_t)q->l1_count * 8;
    const uint64_t at = no * 8 / QCOW2_SLICE * QCOW2_SLICE;
    const uint64_t len = all - at < QCOW2_SLICE ? all - at : QCOW2_SLICE;

    return (struct plt_want){.key =
                                 qcow2_key(QCOW2_OF_L1, no * 8 / QCOW2_SLICE),
                             .len = (size_t)len,
                             .off = q->l1_off + at,
                             .stored = (size_t)len};
}

static uint64_t l1_entry(const struct qcow2 *q, const struct plt_set *l1,
                         uint64_t no)
{
    if (q->l1)
        return plt_be64(q->l1 + no * 8);
    return plt_be64(plt_set_find(l1, l1_slice(q, no).key) +
                    no * 8 % QCOW2_SLICE);
}

static struct plt_want l2_slice(const struct qcow2 *q, uint64_t table,
                                uint64_t no)
{
    const uint64_t host = table + no * q->slice;

    return (struct plt_want){.key = qcow2_key(QCOW2_OF_L2, host >> 9),
                             .len = (size_t)q->slice,
                             .off = host,
                             .stored = (size_t)q->slice};
}

/* The L2 table that L1 entry `no` names; *table is 0 when there is none.  The
 * L1 of a snapshot may be shorter than the disk. */
static enum plt_status l2_table(const struct qcow2 *q, const struct plt_set *l1,
                                uint64_t no, uint64_t limit, uint64_t *table,
                                struct plt_error *err)
{
    *table = no < q->l1_count ? l1_entry(q, l1, no) & off_mask : 0;
    if (*table & (q->cluster - 1) ||
        (*table && !plt_span_ok(*table, q->cluster, limit)))
        return plt_fail_at(err, PLT_CORRUPT, *table,
                           "L1 entry %llu points to no L2 table",
                           (unsigned long long)no);
    return PLT_OK;
}

static enum plt_status no_list(struct plt_error *err)
{
    return plt_fail(err, PLT_NOMEM, "a list of tables");
}

static enum plt_status fetch_l1(struct qcow2 *q, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct plt_set *l1, struct plt_error *err)
{
    const uint64_t per_l2 = q->cluster / q->entry;
    const unsigned bits = q->header.cluster_bits;

    for (size_t i = 0; i < n; i++) {
        const uint64_t off = q->base + segs[i].off;
        const uint64_t last = ((off + segs[i].len - 1) >> bits) / per_l2;
        uint64_t no = (off >> bits) / per_l2;
        for (no -= no % (QCOW2_SLICE / 8); no <= last && no < q->l1_count;
             no += QCOW2_SLICE / 8) {
            const struct plt_want want = l1_slice(q, no);
            if (!plt_set_add(l1, &want)) {
                plt_set_release(l1, q->host);
                return no_list(err);
            }
        }
    }
    const enum plt_status st =
        plt_set_fetch(l1, q->host, q->child, io, NULL, NULL, 0, err);
    return st == PLT_OK || st == PLT_AGAIN ? st : plt_prefix(err, "L1 table: ");
}

static enum plt_status fetch_l2(struct qcow2 *q, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct qcow2_tables *t, struct plt_error *err)
{
    const uint64_t limit = atomic_load(&q->child_size);
    const uint64_t per_table = q->cluster / q->slice;
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        const uint64_t off = q->base + segs[i].off;
        const uint64_t last = (off + segs[i].len - 1) / q->slice_span;
        uint64_t no = off / q->slice_span;
        while (no <= last && no / per_table < q->l1_count && st == PLT_OK) {
            uint64_t table = 0;
            st = l2_table(q, &t->l1, no / per_table, limit, &table, err);
            if (st != PLT_OK)
                break;
            if (!table) {
                no += per_table - no % per_table;
                continue;
            }
            const struct plt_want want = l2_slice(q, table, no % per_table);
            if (!plt_set_add(&t->l2, &want))
                st = no_list(err);
            no++;
        }
    }
    if (st != PLT_OK) {
        plt_set_release(&t->l2, q->host);
        return st;
    }
    st = plt_set_fetch(&t->l2, q->host, q->child, io, NULL, NULL, 0, err);
    return st == PLT_OK || st == PLT_AGAIN ? st : plt_prefix(err, "L2 table: ");
}

enum plt_status qcow2_tables_fetch(struct qcow2 *q, struct plt_io *io,
                                   const struct plt_seg *segs, size_t n,
                                   struct qcow2_tables *tables,
                                   struct plt_error *err)
{
    *tables = (struct qcow2_tables){.l1 = {.v = NULL}};
    if (!q->l1) {
        const enum plt_status st = fetch_l1(q, io, segs, n, &tables->l1, err);
        if (st != PLT_OK)
            return st;
    }
    const enum plt_status st = fetch_l2(q, io, segs, n, tables, err);
    if (st != PLT_OK)
        plt_set_release(&tables->l1, q->host);
    return st;
}

void qcow2_tables_release(struct qcow2 *q, struct qcow2_tables *tables)
{
    plt_set_release(&tables->l1, q->host);
    plt_set_release(&tables->l2, q->host);
}

/* ---- Entries ---- */

/* "Compressed Clusters Descriptor" */
static enum plt_status map_packed(const struct qcow2 *q, uint64_t entry,
                                  struct qcow2_piece *p, struct plt_error *err)
{
    const uint64_t limit = atomic_load(&q->child_size);
    const unsigned bits = q->header.cluster_bits;
    const unsigned x = 62 - (bits - 8);
    const uint64_t sectors =
        (entry >> x & ((UINT64_C(1) << (bits - 8)) - 1)) + 1;

    p->kind = QCOW2_PACKED;
    if (q->has_data_file)
        return plt_fail(err, PLT_CORRUPT,
                        "compressed cluster %llu beside an external data file",
                        (unsigned long long)p->guest);
    p->host = entry & ((UINT64_C(1) << x) - 1);
    if (p->host >= limit)
        return plt_fail_at(err, PLT_CORRUPT, p->host,
                           "compressed cluster %llu lies past the end",
                           (unsigned long long)p->guest);
    const uint64_t n = sectors * 512 - (p->host & 511);
    /* The last one may end with the file, inside a sector. */
    p->stored = (uint32_t)(n < limit - p->host ? n : limit - p->host);
    return PLT_OK;
}

/* "Extended L2 Entries": bits 0..31 say allocated, bits 32..63 zero. */
static bool sub_kind(uint64_t bitmap, bool has_host, uint64_t sub,
                     enum qcow2_kind *kind)
{
    const bool is_allocated = bitmap >> sub & 1;
    const bool is_zero = bitmap >> (sub + SUBCLUSTERS) & 1;

    *kind = is_zero        ? QCOW2_ZERO
            : is_allocated ? QCOW2_DATA
                           : QCOW2_UNALLOCATED;
    return !is_allocated || (has_host && !is_zero);
}

/* One entry from byte `in` of its cluster on; guest: the cluster's number. */
static enum plt_status map_entry(const struct qcow2 *q, const uint8_t *raw,
                                 uint64_t guest, uint64_t in, uint64_t limit,
                                 struct qcow2_piece *p, struct plt_error *err)
{
    const uint64_t entry = plt_be64(raw);
    const unsigned long long no = guest;
    bool is_good = true;

    *p = (struct qcow2_piece){.guest = guest, .len = q->cluster - in};
    if (entry & flag_packed)
        return map_packed(q, entry, p, err);
    const uint64_t host = entry & off_mask;
    /* Offset 0 of an external data file is as good as any other. */
    const bool has_host = host || (q->has_data_file && entry & flag_copied);
    if (host & (q->cluster - 1))
        return plt_fail_at(err, PLT_CORRUPT, host,
                           "cluster %llu is not aligned", no);
    if (q->entry == 16) {
        const uint64_t bitmap = plt_be64(raw + 8);
        const uint64_t size = q->cluster / SUBCLUSTERS;
        uint64_t sub = in / size;
        enum qcow2_kind next;
        is_good = sub_kind(bitmap, has_host, sub, &p->kind);
        while (++sub < SUBCLUSTERS && sub_kind(bitmap, has_host, sub, &next) &&
               next == p->kind)
            continue;
        p->len = sub * size - in;
    } else if (entry & flag_zero) {
        p->kind = QCOW2_ZERO;
        is_good = q->header.version >= 3;
    } else {
        p->kind = has_host ? QCOW2_DATA : QCOW2_UNALLOCATED;
    }
    if (!is_good)
        return plt_fail(err, PLT_CORRUPT, "flags of cluster %llu", no);
    p->has_host = has_host;
    p->host = host + in;
    /* A last cluster that was never written to its end may be short. */
    if (p->kind == QCOW2_DATA && host >= limit)
        return plt_fail_at(err, PLT_CORRUPT, host,
                           "cluster %llu lies past the end", no);
    return PLT_OK;
}

static bool goes_on(const struct qcow2_piece *a, const struct qcow2_piece *b)
{
    return a->kind == b->kind && a->kind != QCOW2_PACKED &&
           a->has_host == b->has_host &&
           (!a->has_host || b->host == a->host + a->len);
}

enum plt_status qcow2_map(const struct qcow2 *q,
                          const struct qcow2_tables *tables, uint64_t limit,
                          uint64_t off, uint64_t len, struct qcow2_piece *piece,
                          struct plt_error *err)
{
    const unsigned bits = q->header.cluster_bits;
    const uint64_t per_table = q->cluster / q->slice;
    const uint64_t per_slice = q->slice / q->entry;
    const uint64_t slice_no = off / q->slice_span;
    const uint64_t guest = off >> bits;
    uint64_t i = guest % per_slice, table = 0;

    enum plt_status st = l2_table(q, &tables->l1, slice_no / per_table,
                                  atomic_load(&q->child_size), &table, err);
    if (st != PLT_OK)
        return st;
    if (!table) {
        const uint64_t span = q->slice_span * per_table;
        /* Behind the L1 table's end nothing follows. */
        const uint64_t rest =
            slice_no / per_table < q->l1_count ? span - off % span : len;
        *piece = (struct qcow2_piece){.kind = QCOW2_UNALLOCATED,
                                      .len = rest < len ? rest : len};
        return PLT_OK;
    }
    const uint8_t *const slice =
        plt_set_find(&tables->l2, l2_slice(q, table, slice_no % per_table).key);
    if (!slice)
        return plt_fail(err, PLT_BUG, "a table that was not asked for");
    st = map_entry(q, slice + i * q->entry, guest, off & (q->cluster - 1),
                   limit, piece, err);
    /* As far as it goes on; a bad entry is met when it is asked for. */
    for (uint64_t end = (off & (q->cluster - 1)) + piece->len;
         st == PLT_OK && piece->len < len && end % q->cluster == 0 &&
         ++i < per_slice;) {
        struct qcow2_piece next;
        struct plt_error unused;
        if (map_entry(q, slice + i * q->entry, guest + 1, 0, limit, &next,
                      &unused) != PLT_OK ||
            !goes_on(piece, &next))
            break;
        piece->len += next.len;
        end = next.len;
    }
    if (st == PLT_OK && piece->len > len)
        piece->len = len;
    return st;
}
