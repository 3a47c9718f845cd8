/* SPDX-License-Identifier: Apache-2.0 */
/* The three headers of sparse files, little-endian all.  Hosted: Virtual Disk
 * Format 5.0, "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
 * Extents"; COWD: "ESX Server Sparse Extents"; seSparse: as VMware writes it,
 * constant header and volatile header.  What QEMU refuses is refused. */
#include <string.h>

#include <platter/bytes.h>

#include "vmdk_extent.h"

enum {
    FLAG_SECOND_DIRECTORY = 1 << 1,
    FLAG_ZERO_GRAINS = 1 << 2,
    FLAG_COMPRESSED = 1 << 16,
    FLAG_MARKERS = 1 << 17,
    HOSTED_BYTES = 79,
    COWD_BYTES = 32,
    SE_BYTES = 512,
    DEFLATE = 1,
    COWD_GTES = 4096,
    SE_GTES = 4096,
    MARKER_FOOTER = 3
};

static const uint32_t hosted_magic = 0x564d444b, cowd_magic = 0x44574f43;
static const uint64_t se_magic = 0xcafebabe, se_version = 0x0000000200000001;
static const uint64_t at_end = UINT64_MAX;

bool vmdk_is_sparse(const uint8_t *head, size_t n)
{
    return n >= 8 &&
           (plt_le32(head) == hosted_magic || plt_le32(head) == cowd_magic ||
            plt_le64(head) == se_magic);
}

/* Sectors of the file to bytes; what is no offset becomes one past all. */
static uint64_t bytes_of(uint64_t sectors)
{
    return sectors > PLT_SIZE_MAX / VMDK_SECTOR ? PLT_SIZE_MAX
                                                : sectors * VMDK_SECTOR;
}

static enum plt_status check_common(struct vmdk_header *h, uint64_t capacity,
                                    uint64_t grain, struct plt_error *err)
{
    if (capacity > PLT_SIZE_MAX / VMDK_SECTOR)
        return plt_fail(err, PLT_CORRUPT, "capacity of %llu sectors",
                        (unsigned long long)capacity);
    h->capacity = capacity * VMDK_SECTOR;
    if (!grain || grain > VMDK_MAX_GRAIN / VMDK_SECTOR ||
        (grain & (grain - 1)) != 0)
        return plt_fail(err, PLT_CORRUPT, "grains of %llu sectors",
                        (unsigned long long)grain);
    h->grain = grain * VMDK_SECTOR;
    if (!h->gtes || h->gtes > VMDK_MAX_GTES)
        return plt_fail(err, PLT_CORRUPT, "grain tables of %u entries",
                        h->gtes);
    const uint64_t span = h->grain * h->gtes;
    const uint64_t want = h->capacity / span + (h->capacity % span != 0);
    if (h->form == VMDK_HOSTED)
        h->gd_count = want;
    if (h->gd_count < want || h->gd_count > VMDK_MAX_DIRECTORY / 8)
        return plt_fail(err, PLT_CORRUPT, "grain directory of %llu entries",
                        (unsigned long long)h->gd_count);
    return PLT_OK;
}

/* SparseExtentHeader */
static enum plt_status parse_hosted(struct vmdk_header *h, const uint8_t *p,
                                    struct plt_error *err)
{
    struct plt_cur c = plt_cur_init(p + 4, HOSTED_BYTES - 4);

    h->form = VMDK_HOSTED;
    h->version = plt_cur_le32(&c);
    const uint32_t flags = plt_cur_le32(&c);
    const uint64_t capacity = plt_cur_le64(&c), grain = plt_cur_le64(&c);
    h->descriptor_off = bytes_of(plt_cur_le64(&c));
    h->descriptor_len = bytes_of(plt_cur_le64(&c));
    h->gtes = plt_cur_le32(&c);
    const uint64_t rgd = plt_cur_le64(&c), gd = plt_cur_le64(&c);
    h->overhead = bytes_of(plt_cur_le64(&c));
    h->is_unclean = plt_cur_u8(&c) != 0;
    const uint8_t *const ends = plt_cur_take(&c, 4);
    const uint16_t algorithm = plt_cur_le16(&c);

    if (h->version < 1 || h->version > 3)
        return plt_fail(err, PLT_UNSUPPORTED, "version %u", h->version);
    /* A transfer in text mode has changed them, and everything else. */
    if (memcmp(ends, "\n \r\n", 4) != 0)
        return plt_fail(err, PLT_CORRUPT,
                        "the file was changed by a transfer in text mode");
    h->is_compressed = (flags & FLAG_COMPRESSED) != 0;
    h->has_markers = (flags & FLAG_MARKERS) != 0;
    h->has_zero_grains = (flags & FLAG_ZERO_GRAINS) != 0;
    if (h->is_compressed && algorithm != DEFLATE)
        return plt_fail(err, PLT_UNSUPPORTED, "compression algorithm %u",
                        algorithm);
    h->is_at_end = gd == at_end;
    h->gd = h->is_at_end ? UINT64_MAX : bytes_of(gd);
    h->rgd = flags & FLAG_SECOND_DIRECTORY && rgd != at_end && rgd
                 ? bytes_of(rgd)
                 : UINT64_MAX;
    if (!capacity && h->descriptor_len) {
        h->capacity = 0;
        return PLT_OK;
    }
    if (h->gtes > 512)
        return plt_fail(err, PLT_CORRUPT, "grain tables of %u entries",
                        h->gtes);
    return check_common(h, capacity, grain, err);
}

/* COWDisk_Header */
static enum plt_status parse_cowd(struct vmdk_header *h, const uint8_t *p,
                                  struct plt_error *err)
{
    struct plt_cur c = plt_cur_init(p + 4, COWD_BYTES - 4);

    h->form = VMDK_COWD;
    h->version = plt_cur_le32(&c);
    (void)plt_cur_le32(&c); /* flags */
    const uint32_t capacity = plt_cur_le32(&c), grain = plt_cur_le32(&c);
    h->gd = bytes_of(plt_cur_le32(&c));
    h->gd_count = plt_cur_le32(&c);
    h->rgd = UINT64_MAX;
    h->gtes = COWD_GTES;
    if (h->version != 1)
        return plt_fail(err, PLT_UNSUPPORTED, "COWD version %u", h->version);
    return check_common(h, capacity, grain, err);
}

static enum plt_status parse_se(struct vmdk_header *h, const uint8_t *p,
                                size_t n, struct plt_error *err)
{
    struct plt_cur c = plt_cur_init(p + 8, SE_BYTES - 8);

    h->form = VMDK_SE;
    const uint64_t version = plt_cur_le64(&c), capacity = plt_cur_le64(&c);
    const uint64_t grain = plt_cur_le64(&c), gt = plt_cur_le64(&c);
    const uint64_t flags = plt_cur_le64(&c);
    uint64_t reserved = 0;
    for (unsigned i = 0; i < 4; i++)
        reserved |= plt_cur_le64(&c);
    const uint64_t volatile_off = plt_cur_le64(&c);
    for (unsigned i = 0; i < 5; i++)
        (void)plt_cur_le64(&c); /* its size; journal header and journal */
    const uint64_t gd = plt_cur_le64(&c), gd_sectors = plt_cur_le64(&c);
    h->tables_off = bytes_of(plt_cur_le64(&c));
    for (unsigned i = 0; i < 5; i++)
        (void)plt_cur_le64(&c); /* tables' size; free bitmap; back map */
    h->data_off = bytes_of(plt_cur_le64(&c));
    h->version = 1;
    h->gd = bytes_of(gd);
    h->rgd = UINT64_MAX;
    h->gtes = SE_GTES;
    h->gd_count = gd_sectors > VMDK_MAX_DIRECTORY / VMDK_SECTOR
                      ? UINT64_MAX
                      : gd_sectors * (VMDK_SECTOR / 8);
    h->volatile_off = bytes_of(volatile_off);
    if (n < SE_BYTES || version != se_version)
        return plt_fail(err, PLT_UNSUPPORTED, "seSparse version %#llx",
                        (unsigned long long)version);
    if (flags || reserved)
        return plt_fail(err, PLT_UNSUPPORTED, "seSparse flags %#llx",
                        (unsigned long long)(flags | reserved));
    if (grain != 8 || gt != SE_GTES * 8 / VMDK_SECTOR)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "seSparse grains of %llu and tables of %llu sectors",
                        (unsigned long long)grain, (unsigned long long)gt);
    return check_common(h, capacity, grain, err);
}

enum plt_status vmdk_header_parse(struct vmdk_header *out, const uint8_t *head,
                                  size_t n, struct plt_error *err)
{
    *out = (struct vmdk_header){.gd = UINT64_MAX};
    if (n >= HOSTED_BYTES && plt_le32(head) == hosted_magic)
        return parse_hosted(out, head, err);
    if (n >= COWD_BYTES && plt_le32(head) == cowd_magic)
        return parse_cowd(out, head, err);
    if (n >= SE_BYTES && plt_le64(head) == se_magic)
        return parse_se(out, head, n, err);
    return plt_fail(err, PLT_CORRUPT, "no header of a sparse extent");
}

enum plt_status vmdk_footer_parse(struct vmdk_header *out, const uint8_t *tail,
                                  struct plt_error *err)
{
    const uint8_t *const footer = tail + VMDK_SECTOR;
    const uint8_t *const end = footer + VMDK_SECTOR;

    if (plt_le32(tail + 8) != 0 || plt_le32(tail + 12) != MARKER_FOOTER ||
        plt_le32(footer) != hosted_magic || plt_le64(end) != 0 ||
        plt_le32(end + 8) != 0 || plt_le32(end + 12) != 0)
        return plt_fail(err, PLT_CORRUPT, "no footer");
    *out = (struct vmdk_header){.gd = UINT64_MAX};
    const enum plt_status st = parse_hosted(out, footer, err);
    if (st == PLT_OK && out->is_at_end)
        return plt_fail(err, PLT_CORRUPT, "the footer has no directory");
    return st;
}
