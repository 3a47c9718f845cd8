/* SPDX-License-Identifier: Apache-2.0 */
/* GPT by UEFI 2.10, part 5.3: both copies, each checksum, each size of sector
 * and entry, and every number that may lie. */
#include "partition_disks.h"

#include <stdio.h>

enum { S = 512 };

static const struct gpt_entry three[] = {
    {.first = 300, .last = 399},
    {.first = 400, .last = 400, .attributes = 4}, /* of one sector */
    {.first = 500, .last = 599}};

static struct disk usual(void)
{
    struct disk d = disk_new(1000 * S);
    gpt_put_both(&d, S, 128, 128, three, 3);
    return d;
}

static void expect_three(const char *text, uint32_t sector)
{
    for (unsigned i = 0; i < 3; i++)
        cr_expect(is_listed(text, i + 1, three[i].first * sector,
                            (three[i].last - three[i].first + 1) * sector),
                  "%s", text);
    cr_expect_eq(count_of(text, "\"number\""), 3, "%s", text);
}

Test(gpt, sectors_and_entries_of_every_size_are_found)
{
    static const uint32_t sectors[] = {512, 1024, 2048, 4096};
    static const uint32_t entries[] = {128, 256, 512, 1024, 2048, 4096};
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 6; k++) {
            const uint32_t sector = sectors[i];
            struct disk d = disk_new((size_t)1000 * sector);
            gpt_put_both(&d, sector, 16, entries[k], three, 3);
            char *const text = list_text(&d);
            char want[128];
            expect_three(text, sector);
            (void)snprintf(want, sizeof(want),
                           "\"backup\":\"good\",\"hybrid\":false,"
                           "\"sector-size\":%u,\"problems\":[]",
                           sector);
            cr_expect(strstr(text, want), "%u: %s", sector, text);
            const uint64_t array = (16 * entries[k] + sector - 1) / sector;
            (void)snprintf(want, sizeof(want),
                           "\"first-usable\":%ju,\"last-usable\":%ju,",
                           (uintmax_t)(2 + array) * sector,
                           (uintmax_t)(999 - array) * sector - 1);
            cr_expect(strstr(text, want), "%s: %s", want, text);
            free(text);
            same_slice(&d, 1, (uint64_t)300 * sector, (uint64_t)100 * sector);
            same_slice(&d, 2, (uint64_t)400 * sector, sector);
            disk_free(&d);
        }
    }
}

Test(gpt, a_sector_size_that_is_said_counts_and_another_finds_nothing)
{
    struct disk d = disk_new(1000 * 4096);
    struct opened o;
    struct plt_error err = {0};
    gpt_put_both(&d, 4096, 128, 128, three, 3);
    cr_assert_eq(open_over(&o, &d, "number=1", "sector=4096", &err), PLT_OK);
    cr_expect_eq(o.size, 100 * 4096);
    close_over(&o);
    cr_expect_eq(open_over(&o, &d, "number=1", "sector=512", &err),
                 PLT_CORRUPT);
    disk_free(&d);
}

/* Each byte of the header: all are under its checksum, or are the checksum or
 * its length. */
Test(gpt, any_byte_of_the_primary_header_damaged_the_backup_is_used)
{
    for (size_t at = 0; at < 92; at++) {
        struct disk d = usual();
        d.p[S + at] ^= 0x40;
        char *const text = list_text(&d);
        expect_three(text, S);
        cr_expect(strstr(text, "the primary GPT "), "byte %zu: %s", at, text);
        cr_expect(strstr(text, "; the backup is used"), "byte %zu: %s", at,
                  text);
        cr_expect(strstr(text, "\"backup\":\"good\""), "byte %zu", at);
        free(text);
        if (at % 8 == 0)
            same_slice(&d, 3, 500 * S, 100 * S);
        disk_free(&d);
    }
}

Test(gpt, any_byte_of_the_primary_entries_damaged_the_backup_is_used)
{
    for (size_t at = 0; at < 128 * 128; at += at < 512 ? 1 : 97) {
        struct disk d = usual();
        d.p[2 * S + at] ^= 0x01;
        char *const text = list_text(&d);
        expect_three(text, S);
        cr_expect(strstr(text, "has damaged entries (checksum); the backup is "
                               "used"),
                  "byte %zu: %s", at, text);
        free(text);
        disk_free(&d);
    }
}

Test(gpt, any_byte_of_the_backup_damaged_is_said_and_the_primary_is_used)
{
    for (size_t i = 0; i < 92 + 60; i++) {
        struct disk d = usual();
        const size_t array = d.n - 33 * S;
        d.p[i < 92 ? d.n - S + i : array + (i - 92) * 271] ^= 0x80;
        char *const text = list_text(&d);
        expect_three(text, S);
        cr_expect(strstr(text, "\"backup\":\"damaged\""), "%zu: %s", i, text);
        cr_expect_eq(count_of(text, "the backup GPT "), 1, "%zu: %s", i, text);
        free(text);
        disk_free(&d);
    }
}

Test(gpt, both_copies_damaged_nothing_is_guessed)
{
    for (unsigned i = 0; i < 4; i++) {
        struct disk d = usual();
        d.p[i & 1 ? S + 60 : 2 * S + 5] ^= 1;
        d.p[i & 2 ? d.n - S + 60 : d.n - 33 * S + 5] ^= 1;
        char *const text = list_text(&d);
        cr_expect(strstr(text, "\"label\":\"gpt\""), "%s", text);
        cr_expect(strstr(text, "\"partitions\":[]"), "%s", text);
        cr_expect(strstr(text, "\"backup\":\"damaged\""), "%s", text);
        cr_expect(strstr(text, "the primary GPT "), "%s", text);
        cr_expect(strstr(text, "the backup GPT "), "%s", text);
        free(text);
        cr_expect_eq(open_status(&d, 1), PLT_CORRUPT);
        cr_expect_eq(open_status(&d, 9), PLT_CORRUPT);
        disk_free(&d);
    }
}

Test(gpt, the_backup_alone_is_found_at_every_sector_size)
{
    static const uint32_t sectors[] = {512, 1024, 2048, 4096};
    for (size_t i = 0; i < 4; i++) {
        const uint32_t sector = sectors[i];
        struct disk d = disk_new((size_t)1000 * sector);
        gpt_put_both(&d, sector, 128, 128, three, 3);
        memset(d.p + sector, 0, sector);
        char *const text = list_text(&d);
        expect_three(text, sector);
        cr_expect(strstr(text, "; the backup is used"), "%s", text);
        free(text);
        same_slice(&d, 1, (uint64_t)300 * sector, (uint64_t)100 * sector);
        disk_free(&d);
    }
}

Test(gpt, a_backup_of_another_disk_is_damage)
{
    struct disk d = usual();
    struct gpt g = gpt_of(&d, S, 128, 128, three, 3, true);
    g.id = 0xd2;
    gpt_put(&d, g.lba * S, &g);
    char *const text = list_text(&d);
    expect_three(text, S);
    cr_expect(strstr(text, "\"backup\":\"damaged\""), "%s", text);
    cr_expect(strstr(text, "another disk's"), "%s", text);
    free(text);
    disk_free(&d);
}

/* Each a lie with good checksums; in the primary alone the backup is used, in
 * both nothing is. */
Test(gpt, numbers_that_lie_under_good_checksums_are_refused)
{
    static const struct {
        uint32_t n, entry, header_len;
        uint64_t array, lba;
    } rows[] = {
        {UINT32_MAX, 128, 92, 2, 0},
        {UINT32_MAX, 4096, 92, 2, 0},
        {UINT32_MAX, UINT32_MAX, 92, 2, 0},
        {8193, 128, 92, 2, 0},    /* a byte more than a MiB would be enough */
        {1 << 25, 128, 92, 2, 0}, /* 2^32 bytes of entries */
        {128, 0, 92, 2, 0},
        {128, 64, 92, 2, 0},
        {128, 127, 92, 2, 0},
        {128, 129, 92, 2, 0},
        {128, 192, 92, 2, 0}, /* not 128 times a power of two */
        {128, 8192, 92, 2, 0},
        {128, UINT32_C(1) << 31, 92, 2, 0},
        {128, 128, 92, 969, 0}, /* one sector too near to the end */
        {128, 128, 92, 1000, 0},
        {128, 128, 92, 1001, 0},
        {128, 128, 92, UINT64_MAX, 0},
        {128, 128, 92, UINT64_C(1) << 55, 0}, /* times 512 is 2^64 */
        {128, 128, 92, 2, 2},
        {128, 128, 92, 2, UINT64_MAX},
        {128, 128, 92, 2, UINT64_C(1) << 55},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct disk d = usual();
        for (unsigned both = 0; both < 2; both++) {
            struct gpt g =
                gpt_of(&d, S, rows[i].n, rows[i].entry, NULL, 0, both);
            g.array = rows[i].array;
            g.lba = rows[i].lba ? rows[i].lba : both ? 999 : 1;
            gpt_put(&d, both ? 999 * S : S, &g);
            char *const text = list_text(&d);
            cr_expect(strstr(text, "the primary GPT "), "%zu: %s", i, text);
            if (both)
                cr_expect(strstr(text, "\"partitions\":[]"), "%zu: %s", i,
                          text);
            else
                expect_three(text, S);
            free(text);
            cr_expect_eq(open_status(&d, 1), both ? PLT_CORRUPT : PLT_OK,
                         "row %zu", i);
        }
        disk_free(&d);
    }
}

Test(gpt, header_lengths_that_are_impossible_are_refused)
{
    static const uint32_t bad[] = {0,   1,    16,         20,        91,
                                   513, 4096, 0x7fffffff, UINT32_MAX};
    static const uint32_t good[] = {92, 93, 128, 512};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct disk d = usual();
        plt_put_le32(d.p + S + 12, bad[i]);
        gpt_sum(&d, S);
        char *const text = list_text(&d);
        cr_expect(strstr(text, "impossible length; the backup is used"),
                  "%u: %s", bad[i], text);
        free(text);
        disk_free(&d);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct disk d = usual();
        plt_put_le32(d.p + S + 12, good[i]);
        gpt_sum(&d, S);
        char *const text = list_text(&d);
        cr_expect(strstr(text, "\"problems\":[]"), "%u: %s", good[i], text);
        free(text);
        disk_free(&d);
    }
}

Test(gpt, a_table_without_any_entry_is_good_and_empty)
{
    struct disk d = disk_new(1000 * S);
    gpt_put_both(&d, S, 0, 128, NULL, 0);
    char *const text = list_text(&d);
    cr_expect(strstr(text, "\"problems\":[],\"partitions\":[]"), "%s", text);
    free(text);
    cr_expect_eq(open_status(&d, 1), PLT_NOT_FOUND);
    disk_free(&d);
}

Test(gpt, more_partitions_than_are_read_is_a_feature_not_there)
{
    enum { N = 1025 };
    static struct gpt_entry v[N];
    struct disk d = disk_new(4000 * S);
    struct opened o;
    struct plt_error err = {0};
    for (unsigned i = 0; i < N; i++)
        v[i].first = v[i].last = 1000 + i;
    gpt_put_both(&d, S, N, 128, v, N - 1);
    char *const text = list_text(&d);
    cr_expect_eq(count_of(text, "\"number\""), N - 1);
    free(text);
    same_slice(&d, N - 1, (1000 + N - 2) * S, S);
    gpt_put_both(&d, S, N, 128, v, N);
    /* Not for want of memory: it will not work later either. */
    cr_expect_eq(list_over(&o, &d, NULL, &err), PLT_UNSUPPORTED, "%d: %s",
                 (int)err.status, err.text);
    cr_expect_eq(open_over(&o, &d, "number=1", NULL, &err), PLT_UNSUPPORTED);
    disk_free(&d);
}

Test(gpt, looking_into_hundreds_of_partitions_costs_few_reads)
{
    enum { N = 1000 };
    static struct gpt_entry v[N];
    struct disk d = disk_new(4000 * S);
    struct opened o;
    struct plt_error err = {0};
    for (unsigned i = 0; i < N; i++)
        v[i].first = v[i].last = 1000 + i;
    gpt_put_both(&d, S, N, 128, v, N);
    cr_assert_eq(list_over(&o, &d, NULL, &err), PLT_OK, "%s", err.text);
    cr_expect_leq(memchild_reads(&o.child), 1 + 1 + 2 + 128);
    close_over(&o);
    cr_assert_eq(open_over(&o, &d, "number=1", NULL, &err), PLT_OK);
    cr_expect_leq(memchild_reads(&o.child), 2);
    close_over(&o);
    disk_free(&d);
}

Test(gpt, entries_that_lie_are_said_and_the_others_are_used)
{
    static const struct gpt_entry v[] = {
        {.first = 400, .last = 399},
        {.first = UINT64_MAX, .last = 0},
        {.first = 0, .last = UINT64_MAX},
        {.first = 0, .last = UINT64_MAX / S},
        {.first = 0, .last = (uint64_t)INT64_MAX / S},
        {.first = 300, .last = (uint64_t)INT64_MAX / S - 1},
        {.first = 990, .last = 1000},
        {.first = 1000, .last = 1000},
        {.first = 300, .last = 350},
        {.first = 340, .last = 360},
    };
    struct disk d = disk_new(1000 * S);
    gpt_put_both(&d, S, 128, 128, v, 10);
    char *const text = list_text(&d);
    for (unsigned n = 1; n <= 5; n++) {
        char want[64];
        (void)snprintf(want, sizeof(want), "partition %u ends before", n);
        cr_expect(strstr(text, want), "%u: %s", n, text);
        cr_expect_eq(open_status(&d, n), PLT_NOT_FOUND, "%u", n);
    }
    for (unsigned n = 6; n <= 8; n++) {
        char want[64];
        (void)snprintf(want, sizeof(want), "partition %u reaches past", n);
        cr_expect(strstr(text, want), "%u: %s", n, text);
        cr_expect_eq(open_status(&d, n), PLT_CORRUPT, "%u", n);
    }
    cr_expect_eq(count_of(text, "\"number\""), 5, "%s", text);
    cr_expect(strstr(text, "partitions 9 and 10 overlap") ||
                  strstr(text, "and 10 overlap"),
              "%s", text);
    free(text);
    same_slice(&d, 9, 300 * S, 51 * S);
    same_slice(&d, 10, 340 * S, 21 * S);
    disk_free(&d);
}

Test(gpt, usable_bounds_that_are_no_bytes_of_any_disk_are_refused)
{
    static const uint64_t bad[] = {UINT64_MAX, UINT64_C(1) << 55,
                                   UINT64_MAX / S};
    for (size_t i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 2; k++) {
            struct disk d = usual();
            struct gpt g = gpt_of(&d, S, 128, 128, three, 3, false);
            *(k ? &g.last_usable : &g.first_usable) = bad[i];
            gpt_put(&d, S, &g);
            char *const text = list_text(&d);
            expect_three(text, S);
            const char *const is =
                strstr(text, k ? "\"last-usable\":" : "\"first-usable\":");
            cr_assert(is, "%s", text);
            const uint64_t told = strtoull(strchr(is, ':') + 1, NULL, 10);
            cr_expect_leq(told, d.n, "%ju: %s", (uintmax_t)bad[i], text);
            cr_expect(strstr(text, "bounds of what is usable; the backup is "),
                      "%s", text);
            free(text);
            disk_free(&d);
        }
    }
}

Test(gpt, names_are_utf_8_whatever_units_they_are_of)
{
    static const uint16_t names[][36] = {
        {'r', 'o', 'o', 't'},
        {0x00e9, 0x65e5, 0xd83d, 0xde00}, /* e acute, sun, a face */
        {0xd83d},                         /* half a pair */
        {0xde00, 'x'},                    /* the other half */
        {0xd83d, 0xd83d, 0xde00},
        {[35] = 0xd83d}, /* behind a NUL: not there */
    };
    static const char *const want[] = {
        "root",
        "\\u00c3\\u00a9\\u00e6\\u0097\\u00a5\\u00f0\\u009f\\u0098\\u0080",
        "\\u00ef\\u00bf\\u00bd",
        "\\u00ef\\u00bf\\u00bdx",
        "\\u00ef\\u00bf\\u00bd\\u00f0\\u009f\\u0098\\u0080",
        NULL,
    };
    uint16_t full[36];
    for (size_t i = 0; i < 36; i++)
        full[i] =
            i == 35 ? 0xd83d : 0xffff; /* all of it, and half at the end */
    for (size_t i = 0; i < 7; i++) {
        struct disk d = disk_new(1000 * S);
        const struct gpt_entry one = {
            .first = 300, .last = 399, .name = i < 6 ? names[i] : full};
        char row[128];
        gpt_put_both(&d, S, 128, 128, &one, 1);
        char *const text = list_text(&d);
        if (i == 6) {
            cr_expect_eq(count_of(text, "\\u00ef\\u00bf\\u00bf"), 35, "%s",
                         text);
            cr_expect_eq(count_of(text, "\\u00ef\\u00bf\\u00bd"), 1, "%s",
                         text);
        } else if (want[i]) {
            (void)snprintf(row, sizeof(row), "\"name\":\"%s\"", want[i]);
            cr_expect(strstr(text, row), "%zu: %s", i, text);
        } else {
            cr_expect_not(strstr(text, "\"name\":"), "%zu: %s", i, text);
        }
        free(text);
        disk_free(&d);
    }
}

Test(gpt, a_hybrid_mbr_is_said_and_the_gpt_counts)
{
    struct disk d = usual();
    put_mbr(&d, 0, 1, 0x80, 0x83, 700, 10);
    char *const text = list_text(&d);
    expect_three(text, S);
    cr_expect(strstr(text, "\"hybrid\":true"), "%s", text);
    free(text);
    same_slice(&d, 2, 400 * S, S);
    disk_free(&d);
}

Test(gpt, a_protective_mbr_protects_though_the_gpt_is_gone)
{
    struct disk d = disk_new(1000 * S);
    clear_mbr(&d, 0);
    put_mbr(&d, 0, 2, 0, 0xee, 1, 999);
    char *const text = list_text(&d);
    cr_expect(strstr(text, "\"label\":\"gpt\""), "%s", text);
    cr_expect(strstr(text, "the primary GPT is not there"), "%s", text);
    cr_expect(strstr(text, "the backup GPT is not there"), "%s", text);
    free(text);
    cr_expect_eq(open_status(&d, 1), PLT_CORRUPT);
    disk_free(&d);
}

Test(gpt, without_a_protective_mbr_it_is_said_and_not_used)
{
    struct disk d = usual();
    memset(d.p, 0, 512);
    char *const text = list_text(&d);
    cr_expect(strstr(text, "\"label\":\"none\""), "%s", text);
    cr_expect(strstr(text, "without a protective MBR"), "%s", text);
    free(text);
    cr_expect_eq(open_status(&d, 1), PLT_NOT_FOUND);
    disk_free(&d);
}

Test(gpt, a_disk_that_grew_keeps_its_table_and_says_so)
{
    struct disk d = disk_new(1200 * S);
    struct disk was = {d.p, 1000 * S};
    gpt_put_both(&was, S, 128, 128, three, 3);
    char *const text = list_text(&d);
    expect_three(text, S);
    cr_expect(strstr(text, "the backup table is not at the end of the disk"),
              "%s", text);
    cr_expect(strstr(text, "\"backup\":\"damaged\""), "%s", text);
    free(text);
    disk_free(&d);
}

Test(gpt, a_disk_cut_anywhere_gives_an_error_or_the_right_bytes)
{
    struct disk d = usual();
    for (size_t n = 0; n <= d.n; n += n < 3 * S ? 7 : S / 2) {
        const struct disk cut = {d.p, n};
        char *const text = list_text(&cut);
        cr_assert_eq(strstr(text, "\"gpt\"") != NULL, n >= S, "cut at %zu", n);
        /* The backup is whole only on the whole disk. */
        cr_assert_eq(strstr(text, "\"problems\":[]") != NULL, n < S || n == d.n,
                     "cut at %zu: %s", n, text);
        free(text);
        const enum plt_status st = open_status(&cut, 1);
        cr_assert_eq(st,
                     n < S         ? PLT_NOT_FOUND
                     : n < 400 * S ? PLT_CORRUPT
                                   : PLT_OK,
                     "cut at %zu: %d", n, (int)st);
        if (st == PLT_OK && n % (50 * S) == 0)
            same_slice(&cut, 1, 300 * S, 100 * S);
    }
    disk_free(&d);
}

Test(gpt, the_smallest_disks_do_no_harm)
{
    static const uint32_t sectors[] = {512, 1024, 2048, 4096};
    for (size_t i = 0; i < 4; i++) {
        for (size_t n = 2; n < 5; n++) {
            struct disk d = disk_new(n * sectors[i]);
            struct gpt g = gpt_of(&d, sectors[i], 0, 128, NULL, 0, false);
            clear_mbr(&d, 0);
            put_mbr(&d, 0, 0, 0, 0xee, 1, 1);
            g.array = g.first_usable = g.last_usable = 1;
            gpt_put(&d, sectors[i], &g);
            free(list_text(&d));
            cr_expect_eq(open_status(&d, 1), PLT_NOT_FOUND);
            disk_free(&d);
        }
    }
}

/* As for the MBR: every read in turn, over a good table and over one whose
 * primary is damaged. */
Test(gpt, any_read_that_fails_is_the_error_of_opening)
{
    for (unsigned i = 0; i < 8; i++) {
        const bool is_forever = i & 1, is_list = i & 2, is_damaged = i & 4;
        struct disk d = disk_new(2000 * S);
        gpt_put_both(&d, S, 1024, 128, three, 3); /* entries past the head */
        if (is_damaged)
            d.p[S + 30] ^= 1;
        for (uint64_t n = 1;; n++) {
            struct memhost *const h = memhost_new(1 << 20, NULL);
            struct memchild child;
            struct plt_opened opened;
            struct plt_error err = {0};
            void *image = NULL;
            memchild_init(&child, d.p, d.n);
            child.fail_at = n;
            child.fail_forever = is_forever;
            const enum plt_status st =
                memhost_open(h, &platter_driver, &child.child,
                             is_list ? PLT_OPEN_LIST : 0, &image, &opened, &err,
                             is_list ? NULL : "number=1", (const char *)NULL);
            const bool has_fired = memchild_reads(&child) >= n;
            cr_assert_eq(st, has_fired ? PLT_ORIGIN : PLT_OK, "%u, read %ju", i,
                         (uintmax_t)n);
            if (st == PLT_OK)
                platter_driver.close(image);
            memhost_free(h);
            if (!has_fired) {
                cr_assert_geq(n, 3);
                break;
            }
        }
        disk_free(&d);
    }
}
