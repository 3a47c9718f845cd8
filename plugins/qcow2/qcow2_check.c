/* SPDX-License-Identifier: Apache-2.0 */
/* Consistency: what uses each cluster of the file, against what the refcounts
 * say of it; and every entry of every table.
 *
 *     refcount table, blocks  -> said[]   what the image says
 *     header, L1s, L2s, data, snapshots, bitmaps, LUKS, refcounts
 *                             -> seen[]   what is true
 *
 * What is counted as a leak, a corruption or an error is what qemu-img check
 * counts, so that the numbers can be compared.  Nothing is changed.
 *
 * Cost: every table once, read many at a time; four bytes of memory a cluster
 * of the file, out of the budget. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <platter/bytes.h>

#include "qcow2_image.h"

enum {
    COUNT_MAX =
        UINT16_MAX - 1,    /* more references than this are not told apart */
    UNKNOWN = UINT16_MAX,  /* said: cannot be read */
    BATCH_BYTES = 2 << 20, /* of tables read at a time */
    BATCH_TABLES = 256
};

static const uint64_t off_mask = UINT64_C(0x00fffffffffffe00);
static const uint64_t refblock_mask = UINT64_C(0xfffffffffffffe00);
static const uint64_t l1_reserved = UINT64_C(0x7f000000000001ff);
static const uint64_t l2_reserved = UINT64_C(0x3f000000000001fe);
static const uint64_t flag_copied = UINT64_C(1) << 63;
static const uint64_t flag_packed = UINT64_C(1) << 62;

struct checker {
    struct qcow2 *q;
    struct plt_io *io;
    struct plt_check *out;
    uint64_t size, n; /* of the file: bytes, clusters */
    uint16_t *said, *seen;
    uint8_t *buf;       /* BATCH_BYTES */
    uint64_t done, all; /* bytes of tables; one that is not there counts as gone
                           over */
};

/* So many tables more have been gone over. */
static void step(struct checker *c, uint64_t n)
{
    c->done += n * c->q->cluster;
    plt_check_tell(c->out, c->done, c->all);
}

__attribute__((format(printf, 4, 5))) static void found(struct checker *c,
                                                        enum plt_finding kind,
                                                        uint64_t at,
                                                        const char *fmt, ...)
{
    char text[160];
    va_list ap;

    if (kind == PLT_FINDING_LEAK)
        c->out->leaks++;
    else if (kind == PLT_FINDING_CORRUPTION)
        c->out->corruptions++;
    else
        c->out->check_errors++;
    if (!c->out->finding)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    c->out->finding(c->out->cookie, kind, at, text);
}

/* Something uses these bytes of the file.  The last cluster may be there in
 * part only. */
static void use(struct checker *c, uint64_t off, uint64_t len)
{
    const unsigned bits = c->q->header.cluster_bits;

    if (!len)
        return;
    if (off > PLT_SIZE_MAX - len ||
        (off + len > c->size && off + len - c->size >= c->q->cluster)) {
        found(c, PLT_FINDING_CORRUPTION, off,
              "%llu bytes are used behind the end of the file",
              (unsigned long long)len);
        return;
    }
    for (uint64_t i = off >> bits; i <= (off + len - 1) >> bits && i < c->n;
         i++)
        if (c->seen[i] < COUNT_MAX)
            c->seen[i]++;
}

static uint16_t said(const struct checker *c, uint64_t off)
{
    const uint64_t i = off >> c->q->header.cluster_bits;
    return i < c->n ? c->said[i] : 0;
}

/* Bytes of the file, zeros behind its end. */
static enum plt_status fetch(struct checker *c, struct plt_seg *segs, size_t n,
                             struct plt_error *err)
{
    const enum plt_status asked = plt_io_ask(c->io, err);
    size_t kept = 0;

    if (asked != PLT_OK)
        return asked;
    for (size_t i = 0; i < n; i++) {
        struct plt_seg s = segs[i];
        const uint64_t there = s.off < c->size ? c->size - s.off : 0;
        uint8_t *const p = (uint8_t *)s.buf;
        const size_t len = there < s.len ? (size_t)there : s.len;
        for (size_t k = len; k < s.len; k++)
            p[k] = 0;
        s.len = len;
        if (len)
            segs[kept++] = s;
    }
    return kept ? c->q->child->read(c->q->child, c->io, segs, kept, err)
                : PLT_OK;
}

/* ---- What the refcounts say ---- */

static uint16_t refcount_at(const uint8_t *block, uint64_t i, unsigned bits)
{
    uint64_t v = 0;

    if (bits < 8)
        return (uint16_t)((unsigned)block[i * bits / 8] >> (i * bits % 8) &
                          ((1U << bits) - 1));
    for (unsigned k = 0; k < bits / 8; k++)
        v = v << 8 | block[i * (bits / 8) + k];
    return v < COUNT_MAX ? (uint16_t)v : (uint16_t)COUNT_MAX;
}

/* The block of refcounts that entry `no` of the table points to, its own use
 * included. */
static enum plt_status take_refblock(struct checker *c, uint64_t no,
                                     uint64_t entry, struct plt_error *err)
{
    const struct qcow2 *const q = c->q;
    const unsigned bits = q->header.refcount_bits;
    const uint64_t per_block = q->cluster * 8 / bits;
    const uint64_t first = no * per_block, off = entry & refblock_mask;
    const uint64_t last = first + per_block < c->n ? first + per_block : c->n;

    if (entry & ~refblock_mask)
        found(c, PLT_FINDING_CORRUPTION, off,
              "reserved bits in entry %llu of the refcount table",
              (unsigned long long)no);
    if (off & (q->cluster - 1) || off > PLT_SIZE_MAX) {
        found(c, PLT_FINDING_CORRUPTION, off,
              "refcount block %llu is not aligned", (unsigned long long)no);
        for (uint64_t i = first; i < last; i++)
            c->said[i] = UNKNOWN;
        return PLT_OK;
    }
    if (!off)
        return PLT_OK;
    if (off >> q->header.cluster_bits >= c->n) {
        found(c, PLT_FINDING_CORRUPTION, off,
              "refcount block %llu lies behind the end of the file",
              (unsigned long long)no);
        return PLT_OK;
    }
    if (!(entry & ~refblock_mask))
        use(c, off, q->cluster);
    struct plt_seg seg = {off, (size_t)q->cluster, c->buf};
    const enum plt_status st = fetch(c, &seg, 1, err);
    for (uint64_t i = first; i < last && st == PLT_OK; i++)
        c->said[i] = refcount_at(c->buf, i - first, bits);
    return st;
}

/* Entries of the refcount table that are about a cluster of the file. */
static uint64_t n_refblocks(const struct checker *c)
{
    const struct qcow2_header *const h = &c->q->header;
    const uint64_t there = ((uint64_t)h->refcounts_len << h->cluster_bits) / 8;
    const uint64_t per_block = c->q->cluster * 8 / h->refcount_bits;
    const uint64_t needed = c->n / per_block + (c->n % per_block != 0);

    return needed < there ? needed : there;
}

static enum plt_status take_refcounts(struct checker *c, struct plt_error *err)
{
    const struct qcow2_header *const h = &c->q->header;
    const uint64_t len = (uint64_t)h->refcounts_len << h->cluster_bits;
    enum plt_status st = PLT_OK;

    use(c, h->refcounts_off, len);
    for (uint64_t at = 0; at < len && st == PLT_OK;) {
        uint8_t table[4096];
        const uint64_t here = at;
        const size_t n =
            len - at < sizeof(table) ? (size_t)(len - at) : sizeof(table);
        struct plt_seg seg = {h->refcounts_off + at, n, table};
        st = fetch(c, &seg, 1, err);
        for (; at < here + n && st == PLT_OK; at += 8) {
            const uint64_t entry = plt_be64(table + (at - here));
            if (entry)
                st = take_refblock(c, at / 8, entry, err);
            if (at / 8 < n_refblocks(c))
                step(c, 1);
        }
    }
    return st;
}

/* A refcount block that something else uses as well. */
static enum plt_status check_refblocks(struct checker *c, struct plt_error *err)
{
    const struct qcow2_header *const h = &c->q->header;
    const uint64_t len = (uint64_t)h->refcounts_len << h->cluster_bits;

    for (uint64_t at = 0; at < len;) {
        uint8_t table[4096];
        const uint64_t here = at;
        const size_t n =
            len - at < sizeof(table) ? (size_t)(len - at) : sizeof(table);
        struct plt_seg seg = {h->refcounts_off + at, n, table};
        const enum plt_status st = fetch(c, &seg, 1, err);
        if (st != PLT_OK)
            return st;
        for (; at < here + n; at += 8) {
            const uint64_t off = plt_be64(table + (at - here));
            const uint64_t i = off >> h->cluster_bits;
            if (off && !(off & (c->q->cluster - 1)) && i < c->n &&
                c->seen[i] != 1)
                found(c, PLT_FINDING_CORRUPTION, off,
                      "refcount block %llu is used %u times",
                      (unsigned long long)at / 8, c->seen[i]);
        }
    }
    return PLT_OK;
}

/* ---- Tables ---- */

/* The flag that says "used once" must say what the refcount says. */
static void check_copied(struct checker *c, uint64_t off, uint64_t entry,
                         const char *what)
{
    const uint16_t count = said(c, off);

    if (count != UNKNOWN && (count == 1) != ((entry & flag_copied) != 0))
        found(c, PLT_FINDING_CORRUPTION, off,
              "the copied flag of a %s cluster, whose refcount is %u", what,
              count);
}

static void check_packed(struct checker *c, uint64_t entry, uint64_t bitmap,
                         bool is_active)
{
    const unsigned x = 62 - (c->q->header.cluster_bits - 8);
    const uint64_t host = entry & ((UINT64_C(1) << x) - 1);
    const uint64_t sectors =
        (entry >> x & ((UINT64_C(1) << (c->q->header.cluster_bits - 8)) - 1)) +
        1;

    if (entry & flag_copied)
        found(c, PLT_FINDING_CORRUPTION, host,
              "the copied flag of a compressed cluster");
    if (c->q->has_data_file) {
        found(c, PLT_FINDING_CORRUPTION, host,
              "a compressed cluster beside an external data file");
        return;
    }
    if (bitmap) {
        found(c, PLT_FINDING_CORRUPTION, host,
              "a compressed cluster with subclusters");
        return;
    }
    use(c, host, sectors * 512 - (host & 511));
    if (!is_active)
        return;
    c->out->allocated_clusters++;
    c->out->compressed_clusters++;
    c->out->fragmented_clusters++; /* by their nature */
}

/* A cluster of data, or one that is kept for zeros.  *next: where it would lie
 * if it went on from the one before; 0: there was none. */
static void check_data(struct checker *c, uint64_t entry, uint64_t bitmap,
                       bool is_active, bool is_flagged, uint64_t *next)
{
    const uint64_t host = entry & off_mask;

    if (bitmap >> 32 & bitmap)
        found(c, PLT_FINDING_CORRUPTION, host,
              "subclusters that are both allocated and zero");
    if (host & (c->q->cluster - 1))
        found(c, PLT_FINDING_CORRUPTION, host, "a data cluster is not aligned");
    if (is_active) {
        c->out->allocated_clusters++;
        c->out->fragmented_clusters += *next && host != *next;
        *next = host + c->q->cluster;
    }
    if (!c->q->has_data_file) {
        use(c, host, c->q->cluster);
        if (is_active && is_flagged)
            check_copied(c, host, entry, "data");
    }
}

/* is_flagged: its copied flags are looked at. */
static void check_l2(struct checker *c, const uint8_t *table, bool is_active,
                     bool is_flagged)
{
    const bool has_subclusters = c->q->entry == 16;
    uint64_t next = 0;

    for (uint64_t at = 0; at < c->q->cluster; at += c->q->entry) {
        const uint64_t entry = plt_be64(table + at);
        const uint64_t bitmap = has_subclusters ? plt_be64(table + at + 8) : 0;
        if (entry & flag_packed) {
            check_packed(c, entry, bitmap, is_active);
            continue;
        }
        if (entry & l2_reserved)
            found(c, PLT_FINDING_CORRUPTION, entry & off_mask,
                  "reserved bits in an L2 entry");
        if (entry & off_mask || (c->q->has_data_file && entry & flag_copied))
            check_data(c, entry, bitmap, is_active, is_flagged, &next);
        else if (bitmap & UINT32_MAX)
            found(c, PLT_FINDING_CORRUPTION, PLT_AT_NONE,
                  "subclusters are allocated without a cluster");
    }
}

/* Tables whose entries are gathered, read together and walked. */
struct l2_batch {
    struct plt_seg segs[BATCH_TABLES];
    bool is_flagged[BATCH_TABLES];
    size_t n, max;
};

static enum plt_status walk_batch(struct checker *c, struct l2_batch *b,
                                  bool is_active, struct plt_error *err)
{
    const size_t n = b->n;
    const enum plt_status st = n ? fetch(c, b->segs, n, err) : PLT_OK;

    for (size_t i = 0; i < n && st == PLT_OK; i++)
        check_l2(c, c->buf + i * c->q->cluster, is_active, b->is_flagged[i]);
    b->n = 0;
    return st;
}

static enum plt_status add_l2(struct checker *c, struct l2_batch *b,
                              uint64_t entry, bool is_active,
                              struct plt_error *err)
{
    const uint64_t off = entry & off_mask;

    if (!entry)
        return PLT_OK;
    if (entry & l1_reserved)
        found(c, PLT_FINDING_CORRUPTION, off, "reserved bits in an L1 entry");
    /* An entry that is only flags points to the header, which is no table: what
     * that gives is counted as qemu-img does. */
    use(c, off, c->q->cluster);
    if (off & (c->q->cluster - 1))
        found(c, PLT_FINDING_CORRUPTION, off, "an L2 table is not aligned");
    if (is_active && off)
        check_copied(c, off, entry, "table");
    b->is_flagged[b->n] = off != 0;
    b->segs[b->n] = (struct plt_seg){off, (size_t)c->q->cluster,
                                     c->buf + b->n * c->q->cluster};
    return ++b->n == b->max ? walk_batch(c, b, is_active, err) : PLT_OK;
}

static enum plt_status check_l1(struct checker *c, uint64_t off, uint64_t count,
                                bool is_active, struct plt_error *err)
{
    struct l2_batch b = {.max = (size_t)(BATCH_BYTES / c->q->cluster)};
    enum plt_status st = PLT_OK;

    if (b.max > BATCH_TABLES)
        b.max = BATCH_TABLES;
    use(c, off, count * 8);
    for (uint64_t no = 0; no < count && st == PLT_OK;) {
        uint8_t table[4096];
        const size_t n = count - no < sizeof(table) / 8 ? (size_t)(count - no)
                                                        : sizeof(table) / 8;
        struct plt_seg seg = {off + no * 8, n * 8, table};
        st = fetch(c, &seg, 1, err);
        for (size_t i = 0; i < n && st == PLT_OK; i++) {
            st = add_l2(c, &b, plt_be64(table + i * 8), is_active, err);
            step(c, 1);
        }
        no += n;
    }
    return st == PLT_OK ? walk_batch(c, &b, is_active, err) : st;
}

/* ---- Snapshots and bitmaps ---- */

static bool is_l1_good(const struct checker *c, const struct qcow2_snapshot *s)
{
    return !(s->l1_off & (c->q->cluster - 1)) && s->l1_count <= QCOW2_MAX_L1;
}

static enum plt_status check_snapshots(struct checker *c, struct plt_error *err)
{
    const struct qcow2 *const q = c->q;
    enum plt_status st = PLT_OK;

    for (uint32_t i = 0; i < q->snapshots.n && st == PLT_OK; i++) {
        const struct qcow2_snapshot *const s = &q->snapshots.v[i];
        if (!is_l1_good(c, s))
            found(c, PLT_FINDING_CORRUPTION, s->l1_off,
                  "the L1 table of snapshot %.40s", s->about.id);
        else
            st = check_l1(c, s->l1_off, s->l1_count, false, err);
    }
    if (q->header.n_snapshots)
        use(c, q->header.snapshots_off, q->snapshots.table_len);
    return st;
}

static enum plt_status check_bitmap(struct checker *c,
                                    const struct qcow2_bitmap *b,
                                    struct plt_error *err)
{
    const uint64_t mask = c->q->cluster - 1;
    enum plt_status st = PLT_OK;

    use(c, b->table_off, (uint64_t)b->table_len * 8);
    for (uint32_t no = 0; no < b->table_len && st == PLT_OK;) {
        uint8_t table[4096];
        const size_t n = b->table_len - no < sizeof(table) / 8
                             ? (size_t)(b->table_len - no)
                             : sizeof(table) / 8;
        struct plt_seg seg = {b->table_off + (uint64_t)no * 8, n * 8, table};
        st = fetch(c, &seg, 1, err);
        for (size_t i = 0; i < n && st == PLT_OK; i++) {
            const uint64_t entry = plt_be64(table + i * 8);
            const uint64_t off = entry & off_mask;
            if (entry & ~(off_mask | 1) || (off && entry & 1) || off & mask)
                found(c, PLT_FINDING_CORRUPTION, off,
                      "an entry of bitmap %.64s", b->name);
            else if (off)
                use(c, off, c->q->cluster);
        }
        no += (uint32_t)n;
    }
    return st;
}

/* ---- Preallocation ---- */

static bool add_space(void *cookie, const struct plt_extent *x)
{
    if (!(x->flags & PLT_EXTENT_HOLE))
        *(uint64_t *)cookie += x->len;
    return true;
}

/* The rule of QEMU, so that a map of such an image is the same: a tenth more
 * clusters than there is space for, and two at least. */
static enum plt_status ask_preallocated(struct checker *c, uint64_t space,
                                        struct plt_error *err)
{
    const uint64_t there = space / c->q->cluster;
    const uint64_t limit =
        there * 10 / 9 > there + 2 ? there * 10 / 9 : there + 2;
    uint64_t used = 0;
    const enum plt_status st = take_refcounts(c, err);

    for (uint64_t i = 0; i < c->n && used < limit && st == PLT_OK; i++)
        used += c->said[i] != 0;
    if (st == PLT_OK)
        atomic_store(&c->q->is_preallocated,
                     used >= limit ? QCOW2_YES : QCOW2_NO);
    return st;
}

static enum plt_status with_checker(struct qcow2 *q, struct plt_io *io,
                                    struct plt_check *check, uint64_t size,
                                    uint64_t space, struct plt_error *err);

enum plt_status qcow2_ask_preallocated(struct qcow2 *q, struct plt_io *io,
                                       struct plt_error *err)
{
    struct plt_check unused = {.struct_size = (uint32_t)sizeof(unused)};
    uint64_t size, space = 0;
    enum plt_status st = q->child->resolve_size(q->child, io, &size, err);

    if (st == PLT_OK)
        st = q->child->extents(q->child, io, 0, size, add_space, &space, err);
    /* A file without holes has its space. */
    if (st == PLT_OK && space == size)
        atomic_store(&q->is_preallocated, QCOW2_NO);
    else if (st == PLT_OK)
        st = with_checker(q, io, &unused, size, space, err);
    return st;
}

/* ---- All ---- */

static void compare(struct checker *c)
{
    const unsigned bits = c->q->header.cluster_bits;
    uint64_t end = 1; /* the header, whatever is said of it */

    for (uint64_t i = 0; i < c->n; i++) {
        if (c->said[i] == UNKNOWN) {
            found(c, PLT_FINDING_ERROR, i << bits,
                  "the refcount of cluster %llu cannot be read",
                  (unsigned long long)i);
            continue;
        }
        if (c->said[i] || c->seen[i])
            end = i + 1;
        if (c->said[i] != c->seen[i])
            found(c,
                  c->said[i] < c->seen[i] ? PLT_FINDING_CORRUPTION
                                          : PLT_FINDING_LEAK,
                  i << bits, "cluster %llu: refcount %u, used %u times",
                  (unsigned long long)i, c->said[i], c->seen[i]);
    }
    c->out->image_end_offset = end << bits;
}

/* Of the tables, those that take time: blocks of refcounts, L2 tables. */
static uint64_t bytes_to_go(const struct checker *c)
{
    uint64_t n = n_refblocks(c) + c->q->header.l1_count;

    for (uint32_t i = 0; i < c->q->snapshots.n; i++) {
        const struct qcow2_snapshot *const s = &c->q->snapshots.v[i];
        n += is_l1_good(c, s) ? s->l1_count : 0;
    }
    return n * c->q->cluster;
}

static enum plt_status check_all(struct checker *c, struct plt_error *err)
{
    const struct qcow2 *const q = c->q;
    const struct qcow2_header *const h = &q->header;

    c->out->total_clusters = h->size / q->cluster + (h->size % q->cluster != 0);
    c->all = bytes_to_go(c);
    use(c, 0, q->cluster);
    enum plt_status st = take_refcounts(c, err);
    if (st == PLT_OK)
        st = check_l1(c, h->l1_off, h->l1_count, true, err);
    if (st == PLT_OK)
        st = check_snapshots(c, err);
    if (h->crypt == QCOW2_LUKS)
        use(c, h->luks_off, h->luks_len);
    if (h->n_bitmaps)
        use(c, h->bitmaps_off, h->bitmaps_len);
    for (uint32_t i = 0; i < q->bitmaps.n && st == PLT_OK; i++)
        st = check_bitmap(c, &q->bitmaps.v[i], err);
    if (st == PLT_OK)
        st = check_refblocks(c, err);
    if (st == PLT_OK)
        compare(c);
    return st;
}

/* With the memory for it: all is checked, or only (space is not UINT64_MAX)
 * whether it was allocated in advance. */
static enum plt_status with_checker(struct qcow2 *q, struct plt_io *io,
                                    struct plt_check *check, uint64_t size,
                                    uint64_t space, struct plt_error *err)
{
    struct checker c = {.q = q, .io = io, .out = check, .size = size};

    c.n = size / q->cluster + (size % q->cluster != 0);
    if (c.n > SIZE_MAX / 8)
        return plt_fail(err, PLT_NOMEM, "a file of %llu clusters",
                        (unsigned long long)c.n);
    const uint64_t mem = c.n * 4 + BATCH_BYTES;
    enum plt_status st = q->host->mem_take(q->host, mem, err);
    if (st != PLT_OK)
        return plt_prefix(err, "refcounts: ");
    c.said = calloc((size_t)c.n + 1, sizeof(*c.said));
    c.seen = calloc((size_t)c.n + 1, sizeof(*c.seen));
    c.buf = malloc(BATCH_BYTES);
    if (!c.said || !c.seen || !c.buf)
        st = plt_fail(err, PLT_NOMEM, "refcounts");
    else
        st = space == UINT64_MAX ? check_all(&c, err)
                                 : ask_preallocated(&c, space, err);
    free(c.said);
    free(c.seen);
    free(c.buf);
    q->host->mem_give(q->host, mem);
    return st;
}

enum plt_status qcow2_check(void *image, struct plt_io *io,
                            struct plt_check *check, struct plt_error *err)
{
    struct qcow2 *const q = (struct qcow2 *)image;
    uint64_t size;
    const enum plt_status st = q->child->resolve_size(q->child, io, &size, err);

    return st == PLT_OK ? with_checker(q, io, check, size, UINT64_MAX, err)
                        : st;
}
