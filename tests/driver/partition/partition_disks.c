/* SPDX-License-Identifier: Apache-2.0 */
#include "partition_disks.h"

#include <stdio.h>

/* Of ISO 3309, bit by bit: not the code under test's. */
static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
    }
    return ~crc;
}

struct disk disk_new(size_t n)
{
    struct disk d = {malloc(n + 1), n};

    cr_assert(d.p);
    for (size_t i = 0; i < n; i++)
        d.p[i] = (uint8_t)((i * 2654435761U >> 13) ^ i >> 9);
    if (n >= 512)
        memset(d.p, 0, 512);
    return d;
}

void disk_free(struct disk *d)
{
    free(d->p);
    d->p = NULL;
}

void clear_mbr(struct disk *d, uint64_t at)
{
    memset(d->p + at, 0, 512);
    d->p[at + 510] = 0x55;
    d->p[at + 511] = 0xaa;
}

void put_mbr(struct disk *d, uint64_t at, unsigned slot, uint8_t flag,
             uint8_t type, uint32_t first, uint32_t count)
{
    uint8_t *const e = d->p + at + 446 + (size_t)slot * 16;

    memset(e, 0, 16);
    e[0] = flag;
    e[4] = type;
    plt_put_le32(e + 8, first);
    plt_put_le32(e + 12, count);
    d->p[at + 510] = 0x55;
    d->p[at + 511] = 0xaa;
}

static uint64_t array_sectors(uint32_t sector, uint32_t n, uint32_t entry)
{
    return ((uint64_t)n * entry + sector - 1) / sector;
}

struct gpt gpt_of(const struct disk *d, uint32_t sector, uint32_t n,
                  uint32_t entry, const struct gpt_entry *v, size_t n_used,
                  bool is_backup)
{
    const uint64_t last = d->n / sector - 1;
    const uint64_t array = array_sectors(sector, n, entry);

    return (struct gpt){.sector = sector,
                        .header_len = 92,
                        .n = n,
                        .entry = entry,
                        .lba = is_backup ? last : 1,
                        .alternate = is_backup ? 1 : last,
                        .array = is_backup ? last - array : 2,
                        .first_usable = 2 + array,
                        .last_usable = last - array - 1,
                        .id = 0xd1,
                        .v = v,
                        .n_used = n_used};
}

void gpt_sum(struct disk *d, uint64_t at)
{
    const uint32_t len = plt_le32(d->p + at + 12);

    memset(d->p + at + 16, 0, 4);
    if (at <= d->n && len <= d->n - at)
        plt_put_le32(d->p + at + 16, crc32_of(d->p + at, len));
}

void gpt_put(struct disk *d, uint64_t at, const struct gpt *g)
{
    /* UEFI appendix A, 0fc63daf-8483-4772-8e79-3d69d8477de4 */
    static const uint8_t linux_data[16] = {0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84,
                                           0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69,
                                           0xd8, 0x47, 0x7d, 0xe4};
    uint8_t *const h = d->p + at;
    const uint64_t len = (uint64_t)g->n * g->entry;
    uint32_t crc = 0;

    if (g->array < d->n / g->sector && len <= d->n - g->array * g->sector) {
        uint8_t *const array = d->p + g->array * g->sector;
        memset(array, 0, len);
        for (size_t i = 0; i < g->n_used && g->entry >= 128; i++) {
            uint8_t *const e = array + i * g->entry;
            memcpy(e, linux_data, 16);
            memset(e + 16, (int)i + 1, 16);
            plt_put_le64(e + 32, g->v[i].first);
            plt_put_le64(e + 40, g->v[i].last);
            plt_put_le64(e + 48, g->v[i].attributes);
            for (size_t k = 0; g->v[i].name && k < 36; k++) {
                e[56 + 2 * k] = (uint8_t)g->v[i].name[k];
                e[57 + 2 * k] = (uint8_t)(g->v[i].name[k] >> 8);
            }
        }
        crc = crc32_of(array, len);
    }
    memset(h, 0, g->sector);
    memcpy(h, "EFI PART", 8);
    plt_put_le32(h + 8, 0x10000);
    plt_put_le32(h + 12, g->header_len);
    plt_put_le64(h + 24, g->lba);
    plt_put_le64(h + 32, g->alternate);
    plt_put_le64(h + 40, g->first_usable);
    plt_put_le64(h + 48, g->last_usable);
    memset(h + 56, g->id, 16);
    plt_put_le64(h + 72, g->array);
    plt_put_le32(h + 80, g->n);
    plt_put_le32(h + 84, g->entry);
    plt_put_le32(h + 88, crc);
    gpt_sum(d, at);
}

void gpt_put_both(struct disk *d, uint32_t sector, uint32_t n, uint32_t entry,
                  const struct gpt_entry *v, size_t n_used)
{
    const struct gpt one = gpt_of(d, sector, n, entry, v, n_used, false);
    const struct gpt two = gpt_of(d, sector, n, entry, v, n_used, true);
    const uint64_t sectors = d->n / sector - 1;

    clear_mbr(d, 0);
    put_mbr(d, 0, 0, 0, 0xee, 1,
            sectors < UINT32_MAX ? (uint32_t)sectors : UINT32_MAX);
    gpt_put(d, sector, &one);
    gpt_put(d, two.lba * sector, &two);
}

/* ---- The driver ---- */

static enum plt_status start(struct opened *o, const struct disk *d,
                             uint32_t flags, const char *what, const char *more,
                             struct plt_error *err)
{
    struct plt_opened opened;

    o->host = memhost_new(1 << 20, NULL);
    memchild_init(&o->child, d->p, d->n);
    o->image = NULL;
    const enum plt_status st = memhost_open(
        o->host, &platter_driver, &o->child.child, flags, &o->image, &opened,
        err, what ? what : more, what ? more : NULL, (const char *)NULL);
    o->size = opened.size;
    o->flags = opened.flags;
    if (st != PLT_OK) {
        o->image = NULL;
        memhost_free(o->host);
    }
    return st;
}

enum plt_status open_over(struct opened *o, const struct disk *d,
                          const char *what, const char *more,
                          struct plt_error *err)
{
    return start(o, d, 0, what, more, err);
}

enum plt_status list_over(struct opened *o, const struct disk *d,
                          const char *what, struct plt_error *err)
{
    return start(o, d, PLT_OPEN_LIST, what, NULL, err);
}

void close_over(struct opened *o)
{
    platter_driver.close(o->image);
    memhost_free(o->host);
}

char *list_text(const struct disk *d)
{
    struct opened o;
    struct plt_error err = {0};

    cr_assert_eq(list_over(&o, d, NULL, &err), PLT_OK, "%s", err.text);
    cr_assert_eq(o.size, 0);
    char *const text = memhost_info(&platter_driver, o.image);
    close_over(&o);
    return text;
}

unsigned count_of(const char *text, const char *what)
{
    unsigned n = 0;

    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

bool is_listed(const char *text, unsigned number, uint64_t start,
               uint64_t length)
{
    char row[128];

    (void)snprintf(row, sizeof(row),
                   "\"number\":%u,\"start\":%ju,\"length\":%ju,", number,
                   (uintmax_t)start, (uintmax_t)length);
    return count_of(text, row) == 1;
}

enum plt_status open_status(const struct disk *d, unsigned number)
{
    struct opened o;
    struct plt_error err = {0};
    char setting[32];

    (void)snprintf(setting, sizeof(setting), "number=%u", number);
    const enum plt_status st = open_over(&o, d, setting, NULL, &err);
    if (st == PLT_OK)
        close_over(&o);
    return st;
}

void same_slice(const struct disk *d, unsigned number, uint64_t start,
                uint64_t length)
{
    struct opened o;
    struct plt_error err = {0};
    char setting[32];
    uint32_t lcg = 7;

    (void)snprintf(setting, sizeof(setting), "number=%u", number);
    cr_assert_eq(open_over(&o, d, setting, NULL, &err), PLT_OK, "%s", err.text);
    cr_assert_eq(o.size, length, "partition %u has %ju bytes", number,
                 (uintmax_t)o.size);
    uint8_t *const got = malloc((size_t)length);
    cr_assert(got);
    for (unsigned i = 0; i < 20; i++) {
        lcg = lcg * 1664525U + 1013904223U;
        const uint64_t off = i ? (lcg >> 4) % length : 0;
        lcg = lcg * 1664525U + 1013904223U;
        const size_t n = (size_t)(i ? 1 + (lcg >> 4) % (length - off) : length);
        cr_assert_eq(memhost_read(&platter_driver, o.image, got, off, n, &err),
                     PLT_OK, "%s", err.text);
        cr_assert_eq(memcmp(got, d->p + start + off, n), 0,
                     "partition %u at %ju+%zu", number, (uintmax_t)off, n);
    }
    free(got);
    close_over(&o);
}
