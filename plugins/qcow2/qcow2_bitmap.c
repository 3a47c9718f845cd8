/* SPDX-License-Identifier: Apache-2.0 */
#include "qcow2_bitmap.h"

#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "qcow2_image.h"

enum { FIXED_BYTES = 24, DIRTY_TRACKING = 1 };

static const uint64_t off_mask = UINT64_C(0x00fffffffffffe00);

/* ---- The directory ---- */

static enum plt_status check_one(const struct qcow2_bitmap *b, uint32_t no,
                                 unsigned cluster_bits, struct plt_error *err)
{
    const uint32_t known =
        QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_COMPATIBLE;

    if (b->type != DIRTY_TRACKING || b->flags & ~known ||
        b->granularity_bits < QCOW2_BITMAP_MIN_BITS ||
        b->granularity_bits > QCOW2_BITMAP_MAX_BITS)
        return plt_fail(err, PLT_CORRUPT,
                        "bitmap %u: type %u, flags %#x, granularity 2^%u", no,
                        b->type, b->flags, b->granularity_bits);
    if (b->table_len > QCOW2_MAX_BITMAP_TABLE ||
        b->table_off & ((UINT64_C(1) << cluster_bits) - 1))
        return plt_fail_at(err, PLT_CORRUPT, b->table_off,
                           "bitmap %u has a table of %u entries", no,
                           b->table_len);
    return PLT_OK;
}

/* "Bitmap directory entry" */
static enum plt_status parse_one(struct qcow2_bitmap *b, struct plt_cur *c,
                                 uint32_t no, struct plt_error *err)
{
    const uint8_t *const start = c->p;

    b->table_off = plt_cur_be64(c);
    b->table_len = plt_cur_be32(c);
    b->flags = plt_cur_be32(c);
    b->type = plt_cur_u8(c);
    b->granularity_bits = plt_cur_u8(c);
    const uint16_t name_len = plt_cur_be16(c);
    b->extra_len = plt_cur_be32(c);
    (void)plt_cur_take(c, b->extra_len);
    const uint8_t *const name = plt_cur_take(c, name_len);
    if (c->bad || !name_len || name_len > QCOW2_MAX_NAME ||
        memchr(name, 0, name_len))
        return plt_fail(err, PLT_CORRUPT, "bitmap %u has a name of %u bytes",
                        no, name_len);
    b->name = strndup((const char *)name, name_len);
    if (!b->name)
        return plt_fail(err, PLT_NOMEM, "a bitmap's name");
    const size_t pad = (8 - (size_t)(c->p - start) % 8) % 8;
    if (!plt_cur_take(c, pad) && pad)
        return plt_fail(err, PLT_CORRUPT, "bitmap %u is cut off", no);
    return PLT_OK;
}

enum plt_status qcow2_bitmaps_parse(struct qcow2_bitmaps *out,
                                    const uint8_t *buf, size_t len, uint32_t n,
                                    unsigned cluster_bits,
                                    struct plt_error *err)
{
    struct plt_cur c = plt_cur_init(buf, len);
    enum plt_status st = PLT_OK;

    *out = (struct qcow2_bitmaps){.v = NULL};
    if (n > len / FIXED_BYTES)
        return plt_fail(err, PLT_CORRUPT, "%u bitmaps in %zu bytes", n, len);
    out->v = calloc(n ? n : 1, sizeof(*out->v));
    if (!out->v)
        return plt_fail(err, PLT_NOMEM, "%u bitmaps", n);
    while (out->n < n && st == PLT_OK) {
        struct qcow2_bitmap *const b = &out->v[out->n++];
        st = parse_one(b, &c, out->n, err);
        if (st == PLT_OK)
            st = check_one(b, out->n, cluster_bits, err);
    }
    if (st == PLT_OK && plt_cur_left(&c))
        st = plt_fail(err, PLT_CORRUPT, "%u bitmaps do not fill %zu bytes", n,
                      len);
    if (st != PLT_OK)
        qcow2_bitmaps_release(out);
    return st;
}

void qcow2_bitmaps_release(struct qcow2_bitmaps *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        free(b->v[i].name);
    free(b->v);
    *b = (struct qcow2_bitmaps){.v = NULL};
}

void qcow2_bitmaps_info(const struct qcow2_bitmaps *b, struct plt_info *info)
{
    if (!b->n)
        return;
    info->array_begin(info, "bitmaps");
    for (uint32_t i = 0; i < b->n; i++) {
        info->object_begin(info, NULL);
        info->array_begin(info, "flags");
        if (b->v[i].flags & QCOW2_BITMAP_IN_USE)
            info->text(info, NULL, "in-use");
        if (b->v[i].flags & QCOW2_BITMAP_AUTO)
            info->text(info, NULL, "auto");
        info->end(info);
        info->text(info, "name", b->v[i].name);
        info->number(info, "granularity",
                     UINT64_C(1) << b->v[i].granularity_bits);
        info->end(info);
    }
    info->end(info);
}

/* ---- The bits ---- */

/* A walk over a bitmap: a run of equal bits at a time. */
struct walk {
    const struct qcow2_bitmap *bitmap;
    plt_extent_fn *emit;
    void *cookie;
    uint64_t end; /* of what was asked */
    bool has_stopped;
};

static void put(struct walk *w, uint64_t off, uint64_t len, bool is_dirty)
{
    const struct plt_extent x = {
        .off = off, .len = len, .flags = is_dirty ? PLT_EXTENT_DIRTY : 0};
    if (!w->has_stopped && off < w->end)
        w->has_stopped = !w->emit(w->cookie, &x);
}

/* The n bits at `bits` tell of the disk from off on, up to its end. */
static void put_bits(struct walk *w, const uint8_t *bits, uint64_t n,
                     uint64_t off, uint64_t disk)
{
    const unsigned g = w->bitmap->granularity_bits;

    for (uint64_t i = 0; i < n && !w->has_stopped;) {
        const bool is_dirty = bits[i / 8] >> (i % 8) & 1;
        const uint8_t same = is_dirty ? 0xff : 0;
        uint64_t j = i + 1;
        while (j < n && (bits[j / 8] >> (j % 8) & 1) == is_dirty)
            j += j % 8 == 0 && bits[j / 8] == same ? 8 : 1;
        if (j > n)
            j = n;
        const uint64_t at = off + (i << g);
        const uint64_t len = (j - i) << g;
        put(w, at, at + len > disk ? disk - at : len, is_dirty);
        i = j;
    }
}

/* One entry of the bitmap's table: a cluster of bits, of which the disk has
 * `n` from off on.  buf: a cluster. */
static enum plt_status put_entry(struct qcow2 *q, struct plt_io *io,
                                 struct walk *w, uint64_t entry, uint64_t off,
                                 uint64_t n, uint8_t *buf,
                                 struct plt_error *err)
{
    const uint64_t host = entry & off_mask;
    const uint64_t len = n << w->bitmap->granularity_bits;

    if (!host) {
        put(w, off, len > q->size - off ? q->size - off : len, entry & 1);
        return PLT_OK;
    }
    if (entry & ~off_mask || host & (q->cluster - 1))
        return plt_fail_at(err, PLT_CORRUPT, host, "an entry of bitmap %.64s",
                           w->bitmap->name);
    const struct plt_seg seg = {host, (size_t)((n + 7) / 8), buf};
    const enum plt_status st = q->child->read(q->child, io, &seg, 1, err);
    if (st != PLT_OK)
        return plt_prefix(err, "bitmap: ");
    put_bits(w, buf, n, off, q->size);
    return PLT_OK;
}

enum { ENTRIES = 1024 }; /* of a table, read at a time */

static enum plt_status walk_table(struct qcow2 *q, struct plt_io *io,
                                  struct walk *w, uint64_t off, uint8_t *buf,
                                  struct plt_error *err)
{
    const struct qcow2_bitmap *const b = w->bitmap;
    const unsigned g = b->granularity_bits;
    const uint64_t per_entry = q->cluster * 8; /* bits */
    const uint64_t bits =
        (q->size >> g) + ((q->size & ((UINT64_C(1) << g) - 1)) != 0);
    uint64_t no = (off >> g) / per_entry;
    uint8_t table[ENTRIES * 8];
    enum plt_status st = PLT_OK;

    if (bits > (uint64_t)b->table_len * per_entry)
        return plt_fail(err, PLT_CORRUPT, "bitmap %.64s is too small", b->name);
    while (st == PLT_OK && !w->has_stopped && no * per_entry < bits &&
           (no * per_entry) << g < w->end) {
        const uint64_t left = (bits + per_entry - 1) / per_entry - no;
        const size_t n = left < ENTRIES ? (size_t)left : ENTRIES;
        const struct plt_seg seg = {b->table_off + no * 8, n * 8, table};
        st = q->child->read(q->child, io, &seg, 1, err);
        if (st != PLT_OK)
            return plt_prefix(err, "bitmap table: ");
        for (size_t i = 0; i < n && st == PLT_OK && !w->has_stopped;
             i++, no++) {
            const uint64_t first = no * per_entry;
            if (first << g >= w->end)
                break;
            st = put_entry(q, io, w, plt_be64(table + i * 8), first << g,
                           bits - first < per_entry ? bits - first : per_entry,
                           buf, err);
        }
    }
    return st;
}

enum plt_status qcow2_dirty_extents(void *image, struct plt_io *io,
                                    const char *name, uint64_t off,
                                    uint64_t len, plt_extent_fn *emit,
                                    void *cookie, struct plt_error *err)
{
    struct qcow2 *const q = (struct qcow2 *)image;
    struct walk w = {.emit = emit, .cookie = cookie, .end = off + len};

    for (uint32_t i = 0; i < q->bitmaps.n && !w.bitmap; i++)
        if (strcmp(q->bitmaps.v[i].name, name) == 0)
            w.bitmap = &q->bitmaps.v[i];
    if (!w.bitmap)
        return plt_fail(err, PLT_NOT_FOUND, "no bitmap %.64s", name);
    if (w.bitmap->flags & QCOW2_BITMAP_IN_USE)
        return plt_fail(err, PLT_CORRUPT,
                        "bitmap %.64s was not closed: its bits mean nothing",
                        name);
    if (w.bitmap->extra_len &&
        !(w.bitmap->flags & QCOW2_BITMAP_EXTRA_COMPATIBLE))
        return plt_fail(err, PLT_UNSUPPORTED, "extra data of bitmap %.64s",
                        name);
    enum plt_status st = q->host->mem_take(q->host, q->cluster, err);
    if (st != PLT_OK)
        return st;
    uint8_t *const buf = malloc((size_t)q->cluster);
    st = buf ? walk_table(q, io, &w, off, buf, err)
             : plt_fail(err, PLT_NOMEM, "a cluster of bits");
    free(buf);
    q->host->mem_give(q->host, q->cluster);
    return st;
}
