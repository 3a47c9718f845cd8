/* SPDX-License-Identifier: Apache-2.0 */
#include "partition_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include <platter/bytes.h>

enum {
    MBR_ENTRIES = 446,
    MBR_ENTRY = 16,
    MBR_SECTOR = 512,
    GPT_HEADER = 92,
    GPT_ENTRY = 128,
    GPT_ARRAY_MAX = 1 << 20 /* bytes of entries; usual are 16 KiB */
};

static const uint32_t sectors[] = {512, 4096, 1024, 2048};

__attribute__((format(printf, 2, 3))) static void complain(struct table *t,
                                                           const char *fmt, ...)
{
    va_list ap;

    if (t->n_problems == TABLE_PROBLEMS)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(t->problems[t->n_problems++], sizeof(t->problems[0]), fmt,
                    ap);
    va_end(ap);
}

/* [off, off+len) of the disk, which must lie in it. */
static enum plt_status get(const struct table_source *s, uint64_t off,
                           void *buf, size_t len, struct plt_error *err)
{
    const struct plt_seg seg = {off, len, buf};

    if (off <= s->head_len && len <= s->head_len - off) {
        memcpy(buf, s->head + off, len);
        return PLT_OK;
    }
    return s->child->read(s->child, s->io, &seg, 1, err);
}

static enum plt_status add_entry(struct table *t, struct table_entry **out,
                                 struct plt_error *err)
{
    if (t->n == TABLE_MAX)
        return plt_fail(err, PLT_UNSUPPORTED, "more than %d partitions",
                        TABLE_MAX);
    if (t->n % 16 == 0) {
        struct table_entry *const grown =
            realloc(t->v, (t->n + 16) * sizeof(*grown));
        if (!grown)
            return plt_fail(err, PLT_NOMEM, "a partition table");
        t->v = grown;
    }
    *out = &t->v[t->n++];
    **out = (struct table_entry){.number = 0};
    return PLT_OK;
}

/* ---- Names ---- */

const char *table_mbr_type(uint8_t type)
{
    switch (type) {
#define MBR(number, words)                                                     \
    case number:                                                               \
        return words;
#define GPT(guid, words)
#include "partition_types.def"
#undef MBR
#undef GPT
    default:
        return "";
    }
}

const char *table_gpt_type(const uint8_t type[16])
{
    static const struct {
        const char *guid, *words;
    } known[] = {
#define MBR(number, words)
#define GPT(guid, words) {guid, words},
#include "partition_types.def"
#undef MBR
#undef GPT
    };
    char text[37];

    table_guid(type, text);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].guid, text) == 0)
            return known[i].words;
    }
    return "";
}

void table_guid(const uint8_t g[16], char out[37])
{
    (void)snprintf(out, 37, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   plt_le32(g), plt_le16(g + 4), plt_le16(g + 6), g[8], g[9],
                   g[10], g[11], g[12], g[13], g[14], g[15]);
}

/* 36 units of UTF-16LE to UTF-8; half a pair becomes U+FFFD. */
static void take_name(const uint8_t *p, char out[TABLE_NAME])
{
    size_t n = 0;

    for (unsigned i = 0; i < 36; i++) {
        uint32_t c = plt_le16(p + 2 * (size_t)i);
        const uint32_t next = i < 35 ? plt_le16(p + 2 * (size_t)i + 2) : 0;
        if (!c)
            break;
        if (c >= 0xd800 && c < 0xdc00 && next >= 0xdc00 && next < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (next - 0xdc00);
            i++;
        } else if (c >= 0xd800 && c < 0xe000) {
            c = 0xfffd;
        }
        if (c < 0x80) {
            out[n++] = (char)c;
        } else if (c < 0x800) {
            out[n++] = (char)(0xc0 | c >> 6);
            out[n++] = (char)(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            out[n++] = (char)(0xe0 | c >> 12);
            out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
            out[n++] = (char)(0x80 | (c & 0x3f));
        } else {
            out[n++] = (char)(0xf0 | c >> 18);
            out[n++] = (char)(0x80 | (c >> 12 & 0x3f));
            out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
            out[n++] = (char)(0x80 | (c & 0x3f));
        }
    }
    out[n] = '\0';
}

/* ---- MBR ---- */

static bool is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

/* A boot sector of a file system ends in 55 aa as well, but has code or text
 * where the flags of a table's entries are 0 or 0x80. */
static bool is_mbr(const uint8_t *sector)
{
    if (sector[510] != 0x55 || sector[511] != 0xaa)
        return false;
    for (unsigned i = 0; i < 4; i++) {
        if (sector[MBR_ENTRIES + i * MBR_ENTRY] & 0x7f)
            return false;
    }
    return memcmp(sector + 3, "NTFS    ", 8) != 0 &&
           memcmp(sector + 3, "EXFAT   ", 8) != 0 &&
           memcmp(sector + 54, "FAT1", 4) != 0 &&
           memcmp(sector + 82, "FAT32", 5) != 0;
}

static enum plt_status take_mbr_entry(struct table *t, const uint8_t *p,
                                      uint64_t base, unsigned number,
                                      struct plt_error *err)
{
    const uint64_t first = plt_le32(p + 8), count = plt_le32(p + 12);
    struct table_entry *e;

    if (!p[4] || !count)
        return PLT_OK;
    const enum plt_status st = add_entry(t, &e, err);
    if (st != PLT_OK)
        return st;
    e->number = number;
    e->off = (base + first) * t->sector; /* 2^33 sectors of 4 KiB at most */
    e->len = count * t->sector;
    e->mbr_type = p[4];
    e->is_bootable = p[0] == 0x80;
    e->is_logical = number > 4;
    e->is_container = is_extended(p[4]);
    return PLT_OK;
}

/* The chain of extended boot records: each has one logical partition, relative
 * to itself, and a link, relative to the extended partition.  *number: of the
 * next one; Linux counts on through a second extended partition. */
static enum plt_status walk_logical(const struct table_source *s,
                                    struct table *t, uint64_t first,
                                    uint64_t count, unsigned *number,
                                    struct plt_error *err)
{
    uint64_t seen[TABLE_LOGICAL_MAX], at = first;
    uint8_t ebr[MBR_SECTOR];
    enum plt_status st;

    for (size_t n = 0;; n++) {
        bool is_loop = n == TABLE_LOGICAL_MAX;
        for (size_t i = 0; i < n && !is_loop; i++)
            is_loop = seen[i] == at;
        if (is_loop) {
            complain(t, "the chain of logical partitions is a loop, or too "
                        "long");
            return PLT_OK;
        }
        seen[n] = at;
        if (at < first || at - first >= count ||
            !plt_span_ok(at * t->sector, MBR_SECTOR, s->size)) {
            complain(t, "the chain of logical partitions leaves the extended "
                        "partition");
            return PLT_OK;
        }
        st = get(s, at * t->sector, ebr, sizeof(ebr), err);
        if (st != PLT_OK)
            return st;
        if (ebr[510] != 0x55 || ebr[511] != 0xaa) {
            complain(t, "the extended boot record at byte %llu is damaged",
                     (unsigned long long)(at * t->sector));
            return PLT_OK;
        }
        const uint8_t *const p = ebr + MBR_ENTRIES, *const link = p + MBR_ENTRY;
        /* Linux counts an empty record at the start of the chain not at all. */
        if (p[4] && plt_le32(p + 12)) {
            st = take_mbr_entry(t, p, at, (*number)++, err);
            if (st != PLT_OK)
                return st;
        }
        if (!is_extended(link[4]) || !plt_le32(link + 12))
            return PLT_OK;
        at = first + plt_le32(link + 8);
    }
}

static enum plt_status read_mbr(const struct table_source *s, struct table *t,
                                struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    unsigned number = 5;

    t->label = TABLE_DOS;
    t->sector = s->sector ? s->sector : MBR_SECTOR;
    t->mbr_id = plt_le32(s->head + 440);
    for (unsigned i = 0; i < 4 && st == PLT_OK; i++)
        st = take_mbr_entry(t, s->head + MBR_ENTRIES + i * MBR_ENTRY, 0, i + 1,
                            err);
    for (unsigned i = 0; i < 4 && st == PLT_OK; i++) {
        const uint8_t *const p = s->head + MBR_ENTRIES + i * MBR_ENTRY;
        const uint32_t count = plt_le32(p + 12);
        if (is_extended(p[4]) && count)
            st = walk_logical(s, t, plt_le32(p + 8), count, &number, err);
    }
    return st;
}

/* ---- GPT ---- */

struct gpt {
    uint64_t lba, alternate, first_usable, last_usable, array;
    uint32_t n, entry;
    uint32_t array_crc;
    uint8_t id[16];
};

/* A header as it lies on disk; NULL: good, else what is wrong. */
static const char *take_header(const uint8_t *p, uint64_t lba, uint32_t sector,
                               uint64_t size, struct gpt *g)
{
    const uint32_t len = plt_le32(p + 12);
    uint8_t copy[4096];

    if (memcmp(p, "EFI PART", 8) != 0)
        return "is not there";
    if (len < GPT_HEADER || len > sector)
        return "has an impossible length";
    memcpy(copy, p, len);
    memset(copy + 16, 0, 4); /* the checksum itself counts as zero */
    if (libdeflate_crc32(0, copy, len) != plt_le32(p + 16))
        return "is damaged (checksum)";
    *g = (struct gpt){.lba = plt_le64(p + 24),
                      .alternate = plt_le64(p + 32),
                      .first_usable = plt_le64(p + 40),
                      .last_usable = plt_le64(p + 48),
                      .array = plt_le64(p + 72),
                      .n = plt_le32(p + 80),
                      .entry = plt_le32(p + 84),
                      .array_crc = plt_le32(p + 88)};
    memcpy(g->id, p + 56, 16);
    if (g->lba != lba)
        return "belongs to another place";
    /* 5.3.2: 128 times a power of two */
    if (g->entry < GPT_ENTRY || g->entry > 4096 ||
        (g->entry & (g->entry - 1)) ||
        (uint64_t)g->n * g->entry > GPT_ARRAY_MAX)
        return "has impossible entries";
    if (g->array > size / sector ||
        !plt_span_ok(g->array * sector, (uint64_t)g->n * g->entry, size))
        return "has its entries behind the end of the disk";
    if (g->first_usable > g->last_usable ||
        g->last_usable >= PLT_SIZE_MAX / sector)
        return "has impossible bounds of what is usable";
    return NULL;
}

static enum plt_status take_gpt_entry(struct table *t, const uint8_t *p,
                                      unsigned number, struct plt_error *err)
{
    static const uint8_t unused[16] = {0};
    const uint64_t first = plt_le64(p + 32), last = plt_le64(p + 40);
    const uint64_t most = PLT_SIZE_MAX / t->sector;
    struct table_entry *e;

    if (memcmp(p, unused, 16) == 0)
        return PLT_OK;
    if (last < first || last >= most) {
        complain(t, "partition %u ends before it begins", number);
        return PLT_OK;
    }
    const enum plt_status st = add_entry(t, &e, err);
    if (st != PLT_OK)
        return st;
    e->number = number;
    e->off = first * t->sector;
    e->len = (last - first + 1) * t->sector;
    memcpy(e->type, p, 16);
    memcpy(e->id, p + 16, 16);
    e->attributes = plt_le64(p + 48);
    e->is_bootable = e->attributes >> 2 & 1; /* legacy BIOS bootable */
    take_name(p + 56, e->name);
    return PLT_OK;
}

/* The header at lba and its entries.  *why: NULL when all of it is good. */
static enum plt_status try_gpt(const struct table_source *s, struct table *t,
                               uint64_t lba, bool is_kept, const char **why,
                               struct plt_error *err)
{
    uint8_t header[4096];
    struct gpt g;

    if (!plt_span_ok(lba * t->sector, t->sector, s->size)) {
        *why = "lies behind the end of the disk";
        return PLT_OK;
    }
    enum plt_status st = get(s, lba * t->sector, header, t->sector, err);
    if (st != PLT_OK)
        return st;
    *why = take_header(header, lba, t->sector, s->size, &g);
    if (*why)
        return PLT_OK;
    const size_t len = (size_t)g.n * g.entry;
    uint8_t *const array = malloc(len + 1);
    if (!array)
        return plt_fail(err, PLT_NOMEM, "a partition table");
    if (len)
        st = get(s, g.array * t->sector, array, len, err);
    if (st == PLT_OK && libdeflate_crc32(0, array, len) != g.array_crc)
        *why = "has damaged entries (checksum)";
    if (st == PLT_OK && !*why && is_kept) {
        memcpy(t->id, g.id, 16);
        t->first_usable = g.first_usable * t->sector;
        t->last_usable = (g.last_usable + 1) * t->sector - 1;
        for (unsigned i = 0; i < g.n && st == PLT_OK; i++)
            st = take_gpt_entry(t, array + (size_t)i * g.entry, i + 1, err);
        if (g.alternate != s->size / t->sector - 1 && lba == 1)
            complain(t, "the backup table is not at the end of the disk");
    } else if (st == PLT_OK && !*why && memcmp(t->id, g.id, 16) != 0) {
        *why = "is another disk's";
    }
    free(array);
    return st;
}

/* The sector size at which a header lies, as far as the head tells. */
static uint32_t find_sector(const struct table_source *s)
{
    if (s->sector)
        return s->sector;
    for (size_t i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
        if (s->head_len >= sectors[i] + 8 &&
            memcmp(s->head + sectors[i], "EFI PART", 8) == 0)
            return sectors[i];
    }
    return 0;
}

/* The backup at the disk's end, at whichever sector size it is good. */
static enum plt_status use_backup(const struct table_source *s, struct table *t,
                                  const char *primary, struct plt_error *err)
{
    const char *why = "is not there";
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
        if ((s->sector && s->sector != sectors[i]) || s->size < 2 * sectors[i])
            continue;
        t->sector = sectors[i];
        st = try_gpt(s, t, s->size / t->sector - 1, true, &why, err);
        if (st != PLT_OK || !why)
            break;
    }
    if (st != PLT_OK)
        return st;
    t->backup = why ? BACKUP_BAD : BACKUP_GOOD;
    t->is_broken = why != NULL;
    complain(t, "the primary GPT %s%s", primary,
             why ? "" : "; the backup is used");
    if (why) {
        t->sector = s->sector ? s->sector : MBR_SECTOR;
        complain(t, "the backup GPT %s", why);
    }
    return PLT_OK;
}

static enum plt_status read_gpt(const struct table_source *s, struct table *t,
                                struct plt_error *err)
{
    const char *why = "is not there";
    enum plt_status st = PLT_OK;

    t->label = TABLE_GPT;
    t->sector = find_sector(s);
    if (t->sector)
        st = try_gpt(s, t, 1, true, &why, err);
    if (st != PLT_OK)
        return st;
    if (why)
        return use_backup(s, t, why, err);
    if (!s->is_complete)
        return PLT_OK;
    st = try_gpt(s, t, s->size / t->sector - 1, false, &why, err);
    if (st == PLT_OK) {
        t->backup = why ? BACKUP_BAD : BACKUP_GOOD;
        if (why)
            complain(t, "the backup GPT %s", why);
    }
    return st;
}

/* ---- Both ---- */

static int by_offset(const void *a, const void *b)
{
    const struct table_entry *const *const x =
        (const struct table_entry *const *)a;
    const struct table_entry *const *const y =
        (const struct table_entry *const *)b;
    return (*x)->off < (*y)->off ? -1 : (*x)->off > (*y)->off;
}

/* Said, not mended: partitions that lie over one another or past the end. */
static enum plt_status check_places(const struct table_source *s,
                                    struct table *t, struct plt_error *err)
{
    const struct table_entry **const v = calloc(t->n + 1, sizeof(*v));
    const struct table_entry *last = NULL;
    size_t n = 0;

    if (!v)
        return plt_fail(err, PLT_NOMEM, "a partition table");
    for (size_t i = 0; i < t->n; i++) {
        if (!plt_span_ok(t->v[i].off, t->v[i].len, s->size))
            complain(t, "partition %u reaches past the end of the disk",
                     t->v[i].number);
        if (!t->v[i].is_container)
            v[n++] = &t->v[i];
    }
    if (n)
        qsort(v, n, sizeof(const struct table_entry *), by_offset);
    for (size_t i = 0; i < n; i++) {
        if (last && last->off + last->len > v[i]->off)
            complain(t, "partitions %u and %u overlap", last->number,
                     v[i]->number);
        if (!last || v[i]->off + v[i]->len > last->off + last->len)
            last = v[i];
    }
    free(v);
    return PLT_OK;
}

enum plt_status table_read(const struct table_source *s, struct table *out,
                           struct plt_error *err)
{
    unsigned n_others = 0;
    bool is_protective = false;
    enum plt_status st = PLT_OK;

    *out = (struct table){.label = TABLE_NONE};
    out->sector = s->sector ? s->sector : MBR_SECTOR;
    if (s->head_len < MBR_SECTOR || !is_mbr(s->head)) {
        if (find_sector(s))
            complain(out, "a GPT without a protective MBR is not used");
        return PLT_OK;
    }
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t type = s->head[MBR_ENTRIES + i * MBR_ENTRY + 4];
        is_protective = is_protective || type == 0xee;
        n_others += type && type != 0xee;
    }
    out->is_hybrid = is_protective && n_others;
    st = is_protective ? read_gpt(s, out, err) : read_mbr(s, out, err);
    if (st == PLT_OK)
        st = check_places(s, out, err);
    if (st != PLT_OK)
        table_release(out);
    return st;
}

void table_release(struct table *t)
{
    free(t->v);
    *t = (struct table){.label = TABLE_NONE};
}
