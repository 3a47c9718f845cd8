/* SPDX-License-Identifier: Apache-2.0 */
/* Each recogniser looks at a magic number and at what must be true besides,
 * since a magic of two bytes is met by chance.  Sources: the on-disk format
 * documents of each file system, named at its recogniser. */
#include "partition_fs.h"

#include <stdio.h>
#include <string.h>

#include <platter/bytes.h>

/* 8-4-4-4-12 of bytes in order; all zeros: no UUID. */
static void put_uuid(struct fs *fs, const uint8_t *u)
{
    static const uint8_t none[16] = {0};

    if (memcmp(u, none, 16) == 0)
        return;
    (void)snprintf(fs->uuid, sizeof(fs->uuid),
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                   "%02x%02x%02x%02x%02x%02x",
                   u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9],
                   u[10], u[11], u[12], u[13], u[14], u[15]);
}

/* Bytes up to a NUL, without the spaces at the end. */
static void put_label(struct fs *fs, const uint8_t *text, size_t len)
{
    size_t n = 0;

    while (n < len && n + 1 < sizeof(fs->label) && text[n])
        n++;
    while (n && text[n - 1] == ' ')
        n--;
    memcpy(fs->label, text, n);
    fs->label[n] = '\0';
}

static bool is_power(uint32_t v)
{
    return v && !(v & (v - 1));
}

/* The kernel's ext4 documentation, "The Super Block". */
static bool is_ext(const uint8_t *h, struct fs *fs)
{
    enum {
        HAS_JOURNAL = 4,
        JOURNAL_DEV = 8,
        EXT3_INCOMPAT = 0x2 | 0x4 | 0x10, /* filetype, recover, meta_bg */
        EXT3_RO = 0x1 | 0x2 | 0x4 /* sparse_super, large_file, btree_dir */
    };
    const uint8_t *const s = h + 1024;
    const uint32_t compat = plt_le32(s + 92), incompat = plt_le32(s + 96);
    const uint32_t ro = plt_le32(s + 100);

    if (plt_le16(s + 56) != 0xef53)
        return false;
    if (incompat & JOURNAL_DEV)
        fs->type = "jbd";
    else if ((incompat & ~(uint32_t)EXT3_INCOMPAT) || (ro & ~(uint32_t)EXT3_RO))
        fs->type = "ext4";
    else
        fs->type = compat & HAS_JOURNAL ? "ext3" : "ext2";
    put_uuid(fs, s + 104);
    put_label(fs, s + 120, 16);
    return true;
}

/* XFS Algorithms and Data Structures, "Superblocks". */
static bool is_xfs(const uint8_t *h, struct fs *fs)
{
    if (memcmp(h, "XFSB", 4) != 0 || !is_power(plt_be32(h + 4)))
        return false;
    fs->type = "xfs";
    put_uuid(fs, h + 32);
    put_label(fs, h + 108, 12);
    return true;
}

/* btrfs, "On-disk Format": the superblock at 64 KiB. */
static bool is_btrfs(const uint8_t *h, struct fs *fs)
{
    const uint8_t *const s = h + 65536;

    if (memcmp(s + 64, "_BHRfS_M", 8) != 0)
        return false;
    fs->type = "btrfs";
    put_uuid(fs, s + 32);
    put_label(fs, s + 299, 256);
    return true;
}

static void put_serial(struct fs *fs, const uint8_t *p)
{
    (void)snprintf(fs->uuid, sizeof(fs->uuid), "%02X%02X-%02X%02X", p[3], p[2],
                   p[1], p[0]);
}

/* Microsoft's FAT specification 1.03: the BIOS parameter block.  The label is
 * that of the boot sector, which mkfs and format write as that of the root. */
static bool is_vfat(const uint8_t *h, struct fs *fs)
{
    const bool is_32 = memcmp(h + 82, "FAT32   ", 8) == 0;
    const bool is_16 =
        memcmp(h + 54, "FAT1", 4) == 0 || memcmp(h + 54, "FAT     ", 8) == 0;
    const uint32_t sector = plt_le16(h + 11);

    if ((!is_32 && !is_16) || h[510] != 0x55 || h[511] != 0xaa ||
        !is_power(sector) || sector < 512 || sector > 4096 ||
        !is_power(h[13]) || !plt_le16(h + 14) || !h[16] || h[16] > 4 ||
        (h[21] < 0xf8 && h[21] != 0xf0))
        return false;
    fs->type = "vfat";
    put_serial(fs, h + (is_32 ? 67 : 39));
    put_label(fs, h + (is_32 ? 71 : 43), 11);
    if (strcmp(fs->label, "NO NAME") == 0)
        fs->label[0] = '\0';
    return true;
}

/* The exFAT specification, 3.1; its label lies in the root folder. */
static bool is_exfat(const uint8_t *h, struct fs *fs)
{
    if (memcmp(h + 3, "EXFAT   ", 8) != 0 || h[510] != 0x55 || h[511] != 0xaa)
        return false;
    fs->type = "exfat";
    put_serial(fs, h + 100);
    return true;
}

/* NTFS boot sector; its label lies in the MFT. */
static bool is_ntfs(const uint8_t *h, struct fs *fs)
{
    if (memcmp(h + 3, "NTFS    ", 8) != 0 || !is_power(plt_le16(h + 11)))
        return false;
    fs->type = "ntfs";
    (void)snprintf(fs->uuid, sizeof(fs->uuid), "%016llX",
                   (unsigned long long)plt_le64(h + 0x48));
    return true;
}

/* mkswap(8): the magic is at the end of the first page, whatever it is. */
static bool is_swap(const uint8_t *h, struct fs *fs)
{
    for (uint32_t page = 4096; page <= 65536; page *= 2) {
        if (memcmp(h + page - 10, "SWAPSPACE2", 10) != 0 ||
            plt_le32(h + 1024) != 1)
            continue;
        fs->type = "swap";
        put_uuid(fs, h + 1036);
        put_label(fs, h + 1052, 16);
        return true;
    }
    return false;
}

/* The kernel's squashfs documentation. */
static bool is_squashfs(const uint8_t *h, struct fs *fs)
{
    if (memcmp(h, "hsqs", 4) != 0 || plt_le16(h + 28) != 4)
        return false;
    fs->type = "squashfs";
    return true;
}

/* ECMA-119 8.4: the primary volume descriptor; its dates serve as UUID. */
static bool is_iso9660(const uint8_t *h, struct fs *fs)
{
    const uint8_t *const v = h + 32768;
    const uint8_t *date = v + 830; /* modification, else creation */

    if (v[0] != 1 || memcmp(v + 1, "CD001", 5) != 0)
        return false;
    fs->type = "iso9660";
    put_label(fs, v + 40, 32);
    if (strspn((const char *)date, "0") >= 16)
        date = v + 813;
    for (unsigned i = 0; i < 16; i++) {
        if (date[i] < '0' || date[i] > '9')
            return true;
    }
    (void)snprintf(fs->uuid, sizeof(fs->uuid),
                   "%.4s-%.2s-%.2s-%.2s-%.2s-%.2s-%.2s", (const char *)date,
                   (const char *)date + 4, (const char *)date + 6,
                   (const char *)date + 8, (const char *)date + 10,
                   (const char *)date + 12, (const char *)date + 14);
    return true;
}

/* ECMA-167 3/9: the volume recognition sequence. */
static bool is_udf(const uint8_t *h, struct fs *fs)
{
    for (uint32_t at = 32768; at + 2048 <= FS_HEAD; at += 2048) {
        if (memcmp(h + at + 1, "NSR02", 5) == 0 ||
            memcmp(h + at + 1, "NSR03", 5) == 0) {
            fs->type = "udf";
            return true;
        }
        if (memcmp(h + at + 1, "BEA01", 5) != 0 &&
            memcmp(h + at + 1, "CD001", 5) != 0)
            return false;
    }
    return false;
}

/* LUKS On-Disk Format 1.2.3 and LUKS2 1.1.1. */
static bool is_luks(const uint8_t *h, struct fs *fs)
{
    const unsigned version = plt_be16(h + 6);

    if (memcmp(h, "LUKS\xba\xbe", 6) != 0 || version < 1 || version > 2)
        return false;
    fs->type = "crypto_LUKS";
    (void)snprintf(fs->uuid, sizeof(fs->uuid), "%.36s", (const char *)h + 168);
    if (version == 2)
        put_label(fs, h + 24, 48);
    return true;
}

/* lvmraid's label: one of the first four sectors. */
static bool is_lvm(const uint8_t *h, struct fs *fs)
{
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *const s = h + (size_t)i * 512;
        const uint32_t at = plt_le32(s + 20);
        if (memcmp(s, "LABELONE", 8) != 0 ||
            memcmp(s + 24, "LVM2 001", 8) != 0 || at > 512 - 32)
            continue;
        const char *const u = (const char *)s + at;
        fs->type = "LVM2_member";
        (void)snprintf(fs->uuid, sizeof(fs->uuid),
                       "%.6s-%.4s-%.4s-%.4s-%.4s-%.4s-%.6s", u, u + 6, u + 10,
                       u + 14, u + 18, u + 22, u + 26);
        return true;
    }
    return false;
}

/* The kernel's md documentation: version 1.1 lies at 0, 1.2 at 4 KiB. */
static bool is_md(const uint8_t *h, struct fs *fs)
{
    for (unsigned at = 0; at <= 4096; at += 4096) {
        const uint8_t *const s = h + at;
        if (plt_le32(s) != 0xa92b4efc || plt_le32(s + 4) != 1)
            continue;
        fs->type = "linux_raid_member";
        put_uuid(fs, s + 16);
        put_label(fs, s + 32, 32);
        return true;
    }
    return false;
}

static void put_utf16(struct fs *fs, const uint8_t *p, size_t units)
{
    size_t n = 0;

    for (size_t i = 0; i < units && n + 4 < sizeof(fs->label); i++) {
        const unsigned c = plt_le16(p + 2 * i);
        if (!c)
            break;
        if (c < 0x80) {
            fs->label[n++] = (char)c;
        } else if (c < 0x800) {
            fs->label[n++] = (char)(0xc0 | c >> 6);
            fs->label[n++] = (char)(0x80 | (c & 0x3f));
        } else {
            fs->label[n++] = (char)(0xe0 | c >> 12);
            fs->label[n++] = (char)(0x80 | (c >> 6 & 0x3f));
            fs->label[n++] = (char)(0x80 | (c & 0x3f));
        }
    }
    fs->label[n] = '\0';
}

/* The kernel's f2fs documentation and its header. */
static bool is_f2fs(const uint8_t *h, struct fs *fs)
{
    if (plt_le32(h + 1024) != 0xf2f52010)
        return false;
    fs->type = "f2fs";
    put_uuid(fs, h + 1024 + 108);
    put_utf16(fs, h + 1024 + 124, 240);
    return true;
}

/* The kernel's erofs documentation. */
static bool is_erofs(const uint8_t *h, struct fs *fs)
{
    if (plt_le32(h + 1024) != 0xe0f5e1e2)
        return false;
    fs->type = "erofs";
    put_uuid(fs, h + 1024 + 48);
    put_label(fs, h + 1024 + 64, 16);
    return true;
}

/* Apple's TN1150, and the APFS reference. */
static bool is_apple(const uint8_t *h, struct fs *fs)
{
    const unsigned version = plt_be16(h + 1026);

    if (memcmp(h + 32, "NXSB", 4) == 0) {
        fs->type = "apfs";
        put_uuid(fs, h + 72);
        return true;
    }
    if ((memcmp(h + 1024, "H+", 2) == 0 && version == 4) ||
        (memcmp(h + 1024, "HX", 2) == 0 && version == 5)) {
        fs->type = "hfsplus";
        return true;
    }
    return false;
}

/* The kernel's jfs and reiserfs headers; Microsoft's ReFS. */
static bool is_other(const uint8_t *h, struct fs *fs)
{
    if (memcmp(h + 32768, "JFS1", 4) == 0) {
        fs->type = "jfs";
        put_uuid(fs, h + 32768 + 136);
        put_label(fs, h + 32768 + 152, 16);
        return true;
    }
    if (memcmp(h + 65536 + 52, "ReIsEr", 6) == 0) {
        fs->type = "reiserfs";
        put_uuid(fs, h + 65536 + 84);
        put_label(fs, h + 65536 + 100, 16);
        return true;
    }
    if (memcmp(h + 3, "ReFS\0\0\0", 8) == 0) {
        fs->type = "ReFS";
        return true;
    }
    return false;
}

bool fs_recognise(const uint8_t *head, size_t len, struct fs *out)
{
    /* Containers first: what they hold may leave traces of its own. */
    static bool (*const known[])(const uint8_t *, struct fs *) = {
        is_luks,    is_lvm,  is_md,    is_xfs,   is_squashfs, is_erofs,
        is_f2fs,    is_ntfs, is_exfat, is_vfat,  is_ext,      is_btrfs,
        is_iso9660, is_udf,  is_swap,  is_apple, is_other};
    uint8_t whole[FS_HEAD];

    /* Recognisers may look anywhere in the head. */
    if (len < FS_HEAD) {
        memcpy(whole, head, len);
        memset(whole + len, 0, sizeof(whole) - len);
        head = whole;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        *out = (struct fs){.type = NULL};
        if (known[i](head, out))
            return true;
    }
    return false;
}
