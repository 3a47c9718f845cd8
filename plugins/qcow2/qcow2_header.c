/* SPDX-License-Identifier: Apache-2.0 */
#include "qcow2_header.h"

#include <stdio.h>
#include <string.h>

#include <platter/bytes.h>

enum extension {
    EXT_END = 0,
    EXT_BITMAPS = 0x23852875,
    EXT_DATA_FILE = 0x44415441,
    EXT_LUKS = 0x0537be77,
    EXT_FEATURE_NAMES = 0x6803f857
};
static const uint32_t ext_backing_format = 0xe2792aca; /* no int */

/* "Feature name table": entries of 48 bytes, type, bit, name. */
static void feature_name(const uint8_t *table, size_t len, unsigned bit,
                         char out[47])
{
    for (size_t at = 0; len - at >= 48; at += 48) {
        if (table[at] == 0 && table[at + 1] == bit) {
            (void)snprintf(out, 47, "%.46s", (const char *)table + at + 2);
            return;
        }
    }
    (void)snprintf(out, 47, "incompatible bit %u", bit);
}

/* A name that fills its extension, without a NUL. */
static enum plt_status take_name(const uint8_t *data, size_t len, char *out,
                                 size_t cap, const char *what,
                                 struct plt_error *err)
{
    if (len >= cap || memchr(data, 0, len))
        return plt_fail(err, PLT_CORRUPT, "%s of %zu bytes", what, len);
    memcpy(out, data, len);
    out[len] = '\0';
    return PLT_OK;
}

/* "Bitmaps extension".  An image that was written by something that knows
 * nothing of bitmaps has lost the autoclear bit: then nothing of it is true. */
static enum plt_status take_bitmaps(struct qcow2_header *h, struct plt_cur c,
                                    struct plt_error *err)
{
    const uint32_t n = plt_cur_be32(&c);
    (void)plt_cur_be32(&c); /* reserved */
    const uint64_t len = plt_cur_be64(&c), off = plt_cur_be64(&c);

    if (!(h->autoclear & QCOW2_BITMAPS))
        return PLT_OK;
    if (c.bad || !n || n > QCOW2_MAX_BITMAPS || !len ||
        len > QCOW2_MAX_DIRECTORY ||
        off & ((UINT64_C(1) << h->cluster_bits) - 1))
        return plt_fail(err, PLT_CORRUPT,
                        "directory of %u bitmaps in %llu bytes", n,
                        (unsigned long long)len);
    h->n_bitmaps = n;
    h->bitmaps_len = len;
    h->bitmaps_off = off;
    return PLT_OK;
}

static enum plt_status take_extension(struct qcow2_header *h, uint32_t type,
                                      const uint8_t *data, uint32_t len,
                                      struct plt_error *err)
{
    struct plt_cur c = plt_cur_init(data, len);

    if (type == ext_backing_format)
        return take_name(data, len, h->backing_format,
                         sizeof(h->backing_format), "backing format name", err);
    switch (type) {
    case EXT_DATA_FILE:
        return take_name(data, len, h->data_file, sizeof(h->data_file),
                         "data file name", err);
    case EXT_BITMAPS:
        return take_bitmaps(h, c, err);
    case EXT_LUKS:
        h->luks_off = plt_cur_be64(&c);
        h->luks_len = plt_cur_be64(&c);
        return c.bad ? plt_fail(err, PLT_CORRUPT, "LUKS extension of %u bytes",
                                len)
                     : PLT_OK;
    case EXT_FEATURE_NAMES:
        return PLT_OK;
    default:
        if (h->n_unknown < QCOW2_MAX_UNKNOWN)
            h->unknown[h->n_unknown++] = (struct qcow2_unknown){type, len};
        return PLT_OK;
    }
}

/* "Header extensions".  names: the feature table, when there is one. */
static enum plt_status parse_extensions(struct qcow2_header *h,
                                        struct plt_cur *c,
                                        const uint8_t **names, size_t *n_names,
                                        struct plt_error *err)
{
    for (unsigned i = 0; plt_cur_left(c) >= 8; i++) {
        if (i == QCOW2_MAX_EXTENSIONS)
            return plt_fail(err, PLT_CORRUPT, "more than %u header extensions",
                            i);
        const uint32_t type = plt_cur_be32(c), len = plt_cur_be32(c);
        if (type == EXT_END)
            return PLT_OK;
        const uint8_t *const data = plt_cur_take(c, len);
        if (!data)
            return plt_fail(err, PLT_CORRUPT,
                            "header extension %#x of %u bytes", type, len);
        if (type == EXT_FEATURE_NAMES) {
            *names = data;
            *n_names = len;
        }
        const enum plt_status st = take_extension(h, type, data, len, err);
        if (st != PLT_OK)
            return st;
        const size_t pad = (8 - len % 8) % 8;
        if (pad && plt_cur_left(c) >= pad)
            (void)plt_cur_take(c, pad);
    }
    return PLT_OK;
}

static enum plt_status check_features(const struct qcow2_header *h,
                                      const uint8_t *names, size_t n_names,
                                      struct plt_error *err)
{
    const uint64_t known = QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_DATA_FILE |
                           QCOW2_COMPRESSION | QCOW2_EXTENDED_L2;
    char name[47];

    if (h->crypt > QCOW2_LUKS)
        return plt_fail(err, PLT_UNSUPPORTED, "encryption method %u", h->crypt);
    if (h->crypt == QCOW2_LUKS && !h->luks_len)
        return plt_fail(err, PLT_CORRUPT,
                        "encrypted (LUKS), but no header extension says where");
    for (unsigned bit = 0; bit < 64; bit++) {
        if (h->incompatible & ~known & UINT64_C(1) << bit) {
            feature_name(names, n_names, bit, name);
            return plt_fail(err, PLT_UNSUPPORTED, "feature %s", name);
        }
    }
    if (h->compression > QCOW2_ZSTD)
        return plt_fail(err, PLT_UNSUPPORTED, "compression type %u",
                        h->compression);
    if (!(h->incompatible & QCOW2_COMPRESSION) !=
        (h->compression == QCOW2_ZLIB))
        return plt_fail(err, PLT_CORRUPT,
                        "compression type %u against the feature bit",
                        h->compression);
    return PLT_OK;
}

/* The tables that the header names, and the size of the disk against them. */
static enum plt_status check_tables(const struct qcow2_header *h,
                                    uint64_t child_size, struct plt_error *err)
{
    const uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    const bool has_subclusters = (h->incompatible & QCOW2_EXTENDED_L2) != 0;
    if (has_subclusters && h->cluster_bits < QCOW2_SUBCLUSTER_BITS)
        return plt_fail(err, PLT_CORRUPT,
                        "cluster_bits %u with extended L2 entries",
                        h->cluster_bits);
    /* One L1 entry maps a cluster of L2 entries, of 8 bytes or 16. */
    const unsigned shift = 2 * h->cluster_bits - (has_subclusters ? 4 : 3);
    const uint64_t want =
        (h->size >> shift) + ((h->size & ((UINT64_C(1) << shift) - 1)) != 0);
    if (h->l1_count > QCOW2_MAX_L1 || want > QCOW2_MAX_L1)
        return plt_fail(err, PLT_CORRUPT, "L1 table of %u entries",
                        h->l1_count);
    if (h->l1_count < want)
        return plt_fail(err, PLT_CORRUPT,
                        "L1 table of %u entries is too small for the disk",
                        h->l1_count);
    if (h->l1_off % cluster)
        return plt_fail(err, PLT_CORRUPT, "L1 table offset %#llx",
                        (unsigned long long)h->l1_off);
    const uint64_t limit =
        child_size == PLT_SIZE_UNKNOWN ? PLT_SIZE_MAX : child_size;
    if (!plt_span_ok(h->l1_off, (uint64_t)h->l1_count * 8, limit))
        return plt_fail(err, PLT_CORRUPT, "L1 table outside the file");
    /* Reading needs none, but an image without one is none to QEMU either. */
    const uint64_t ref_bytes = (uint64_t)h->refcounts_len << h->cluster_bits;
    if (!ref_bytes || ref_bytes > QCOW2_MAX_REFTABLE ||
        h->refcounts_off % cluster ||
        !plt_span_ok(h->refcounts_off, ref_bytes, limit))
        return plt_fail(err, PLT_CORRUPT,
                        "refcount table of %u clusters at %#llx",
                        h->refcounts_len, (unsigned long long)h->refcounts_off);
    if (h->n_snapshots > QCOW2_MAX_SNAPSHOTS ||
        (h->n_snapshots &&
         (h->snapshots_off % cluster || h->snapshots_off >= limit)))
        return plt_fail(err, PLT_CORRUPT, "%u snapshots at %#llx",
                        h->n_snapshots, (unsigned long long)h->snapshots_off);
    if (h->n_bitmaps && !plt_span_ok(h->bitmaps_off, h->bitmaps_len, limit))
        return plt_fail(err, PLT_CORRUPT, "bitmap directory outside the file");
    if (h->luks_len && !plt_span_ok(h->luks_off, h->luks_len, limit))
        return plt_fail(err, PLT_CORRUPT, "LUKS header outside the file");
    return PLT_OK;
}

enum plt_status qcow2_header_parse(struct qcow2_header *h, const uint8_t *buf,
                                   size_t n, uint64_t child_size,
                                   struct plt_error *err)
{
    struct plt_cur c = plt_cur_init(buf, n);
    const uint8_t *names = NULL;
    size_t n_names = 0;
    uint32_t header_len = 72;

    *h = (struct qcow2_header){.refcount_bits = 16};
    const uint32_t magic = plt_cur_be32(&c);
    h->version = plt_cur_be32(&c);
    const uint64_t backing_off = plt_cur_be64(&c);
    const uint32_t backing_len = plt_cur_be32(&c);
    h->cluster_bits = plt_cur_be32(&c);
    h->size = plt_cur_be64(&c);
    h->crypt = plt_cur_be32(&c);
    h->l1_count = plt_cur_be32(&c);
    h->l1_off = plt_cur_be64(&c);
    h->refcounts_off = plt_cur_be64(&c);
    h->refcounts_len = plt_cur_be32(&c);
    h->n_snapshots = plt_cur_be32(&c);
    h->snapshots_off = plt_cur_be64(&c);
    if (c.bad || magic != 0x514649fb)
        return plt_fail(err, PLT_CORRUPT, "no qcow2 header");
    if (h->version != 2 && h->version != 3)
        return plt_fail(err, PLT_UNSUPPORTED, "version %u", h->version);
    if (h->version == 3) {
        h->incompatible = plt_cur_be64(&c);
        h->compatible = plt_cur_be64(&c);
        h->autoclear = plt_cur_be64(&c);
        const uint32_t order = plt_cur_be32(&c);
        header_len = plt_cur_be32(&c);
        if (c.bad || order > 6)
            return plt_fail(err, PLT_CORRUPT, "refcount_order %u", order);
        h->refcount_bits = 1U << order;
        if (header_len < 104 || header_len > n || header_len % 8)
            return plt_fail(err, PLT_CORRUPT, "header_length %u", header_len);
        if (header_len > 104)
            h->compression = plt_cur_u8(&c);
    }
    if (h->cluster_bits < QCOW2_MIN_BITS || h->cluster_bits > QCOW2_MAX_BITS)
        return plt_fail(err, PLT_CORRUPT, "cluster_bits %u", h->cluster_bits);
    const uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    if (header_len > cluster)
        return plt_fail(err, PLT_CORRUPT, "header_length %u", header_len);
    if (h->size > PLT_SIZE_MAX)
        return plt_fail(err, PLT_CORRUPT, "virtual size %llu",
                        (unsigned long long)h->size);
    /* Extensions end at the backing file's name or the first cluster's end. */
    size_t end = n < cluster ? n : (size_t)cluster;
    if (backing_off && backing_off < end)
        end = (size_t)backing_off;
    if (header_len < end) {
        c = plt_cur_init(buf + header_len, end - header_len);
        const enum plt_status st =
            parse_extensions(h, &c, &names, &n_names, err);
        if (st != PLT_OK)
            return st;
    }
    if (backing_off) {
        if (backing_len > QCOW2_MAX_BACKING ||
            !plt_span_ok(backing_off, backing_len, n) ||
            backing_off + backing_len > cluster)
            return plt_fail(err, PLT_CORRUPT, "backing file name of %u bytes",
                            backing_len);
        memcpy(h->backing, buf + backing_off, backing_len);
        h->backing[backing_len] = '\0';
        if (strlen(h->backing) != backing_len)
            return plt_fail(err, PLT_CORRUPT, "NUL in the backing file's name");
    }
    const enum plt_status st = check_features(h, names, n_names, err);
    if (st != PLT_OK)
        return st;
    return check_tables(h, child_size, err);
}
