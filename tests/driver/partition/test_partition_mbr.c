/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the boot sector and the chain of logical partitions: numbers as
 * Linux gives them (block/partitions/msdos.c), and everything that a table may
 * say that is not so. */
#include "partition_disks.h"

#include <stdio.h>

enum { S = 512 };

/* A boot record of the chain at sector `at`: its partition, relative to itself,
 * and the link, relative to the container; count 0: none. */
static void put_ebr(struct disk *d, uint32_t at, uint32_t first, uint32_t count,
                    uint32_t link, uint32_t link_count)
{
    clear_mbr(d, (uint64_t)at * S);
    if (count)
        put_mbr(d, (uint64_t)at * S, 0, 0, 0x83, first, count);
    if (link_count)
        put_mbr(d, (uint64_t)at * S, 1, 0, 0x05, link, link_count);
}

Test(mbr, primaries_and_logical_ones_have_the_numbers_of_linux)
{
    struct disk d = disk_new(1000 * S);
    put_mbr(&d, 0, 0, 0x80, 0x83, 10, 50);
    put_mbr(&d, 0, 1, 0, 0x0f, 100, 400);
    put_mbr(&d, 0, 3, 0, 0x07, 600, 400);
    plt_put_le32(d.p + 440, 0xdeadbeef);
    put_ebr(&d, 100, 2, 50, 100, 120);
    put_ebr(&d, 200, 3, 90, 300, 100);
    put_ebr(&d, 400, 1, 99, 0, 0);
    char *const text = list_text(&d);
    cr_expect(is_listed(text, 1, 10 * S, 50 * S), "%s", text);
    cr_expect(is_listed(text, 2, 100 * S, 400 * S), "%s", text);
    cr_expect(is_listed(text, 4, 600 * S, 400 * S), "%s", text);
    cr_expect(is_listed(text, 5, 102 * S, 50 * S), "%s", text);
    cr_expect(is_listed(text, 6, 203 * S, 90 * S), "%s", text);
    cr_expect(is_listed(text, 7, 401 * S, 99 * S), "%s", text);
    cr_expect_eq(count_of(text, "\"number\""), 6, "%s", text);
    cr_expect(strstr(text, "\"label\":\"dos\",\"id\":\"0xdeadbeef\""));
    cr_expect(strstr(text, "\"problems\":[]"), "%s", text);
    cr_expect_eq(count_of(text, "\"bootable\":true"), 1);
    cr_expect_eq(count_of(text, "\"logical\":true"), 3);
    cr_expect_eq(count_of(text, "\"container\":true"), 1);
    cr_expect(strstr(text, "\"uuid\":\"deadbeef-05\""));
    free(text);
    same_slice(&d, 1, 10 * S, 50 * S);
    same_slice(&d, 4, 600 * S, 400 * S);
    same_slice(&d, 6, 203 * S, 90 * S);
    same_slice(&d, 7, 401 * S, 99 * S);
    cr_expect_eq(open_status(&d, 2), PLT_UNSUPPORTED); /* the container */
    cr_expect_eq(open_status(&d, 3), PLT_NOT_FOUND);
    cr_expect_eq(open_status(&d, 8), PLT_NOT_FOUND);
    disk_free(&d);
}

Test(mbr, a_second_container_goes_on_counting)
{
    struct disk d = disk_new(1000 * S);
    put_mbr(&d, 0, 0, 0, 0x05, 100, 100);
    put_mbr(&d, 0, 1, 0, 0x85, 300, 100);
    put_mbr(&d, 0, 2, 0, 0x0f, 0, 0); /* empty, whatever its type */
    put_ebr(&d, 100, 1, 20, 50, 50);
    put_ebr(&d, 150, 1, 20, 0, 0);
    put_ebr(&d, 300, 1, 30, 0, 0);
    char *const text = list_text(&d);
    cr_expect(is_listed(text, 5, 101 * S, 20 * S), "%s", text);
    cr_expect(is_listed(text, 6, 151 * S, 20 * S), "%s", text);
    cr_expect(is_listed(text, 7, 301 * S, 30 * S), "%s", text);
    cr_expect(strstr(text, "\"problems\":[]"), "%s", text);
    free(text);
    same_slice(&d, 7, 301 * S, 30 * S);
    disk_free(&d);
}

Test(mbr, an_empty_record_in_the_chain_is_not_counted)
{
    struct disk d = disk_new(1000 * S);
    put_mbr(&d, 0, 0, 0, 0x05, 100, 800);
    put_ebr(&d, 100, 0, 0, 100, 100);
    put_ebr(&d, 200, 5, 20, 0, 0);
    char *const text = list_text(&d);
    cr_expect(is_listed(text, 5, 205 * S, 20 * S), "%s", text);
    cr_expect_eq(count_of(text, "\"number\""), 2, "%s", text);
    free(text);
    disk_free(&d);
}

Test(mbr, chains_that_are_loops_or_leave_their_container_end)
{
    /* What the second record links to, relative to the container at 100. */
    static const struct {
        uint32_t link;
        const char *problem;
    } rows[] = {
        {0, "loop"},
        {100, "loop"}, /* itself */
        {400, "leaves"},
        {401, "leaves"},
        {0x7fffffff, "leaves"},
        {0xffffffff, "leaves"},
        {60, "damaged"}, /* no record there */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct disk d = disk_new(1000 * S);
        struct opened o;
        struct plt_error err = {0};
        put_mbr(&d, 0, 0, 0, 0x05, 100, 400);
        put_ebr(&d, 100, 1, 20, 100, 100);
        put_ebr(&d, 200, 1, 20, rows[i].link, 100);
        cr_assert_eq(list_over(&o, &d, NULL, &err), PLT_OK, "%s", err.text);
        char *const text = memhost_info(&platter_driver, o.image);
        cr_expect(strstr(text, rows[i].problem), "%u: %s", rows[i].link, text);
        cr_expect(is_listed(text, 5, 101 * S, 20 * S), "%s", text);
        cr_expect(is_listed(text, 6, 201 * S, 20 * S), "%s", text);
        cr_expect_eq(count_of(text, "\"number\""), 3, "%s", text);
        free(text);
        close_over(&o);
        same_slice(&d, 6, 201 * S, 20 * S);
        disk_free(&d);
    }
}

Test(mbr, a_container_at_sector_0_reads_the_table_as_a_record_once)
{
    struct disk d = disk_new(100 * S);
    put_mbr(&d, 0, 0, 0, 0x83, 10, 5);
    put_mbr(&d, 0, 1, 0, 0x05, 0, 100); /* both container and link */
    char *const text = list_text(&d);
    cr_expect(strstr(text, "loop"), "%s", text);
    cr_expect(is_listed(text, 1, 10 * S, 5 * S), "%s", text);
    free(text);
    disk_free(&d);
}

Test(mbr, a_chain_of_thousands_is_cut_and_costs_few_reads)
{
    enum { N = 3000 };
    struct disk d = disk_new((size_t)(4 * N + 200) * S);
    struct opened o;
    struct plt_error err = {0};
    put_mbr(&d, 0, 0, 0, 0x05, 200, 4 * N);
    for (uint32_t i = 0; i < N; i++)
        put_ebr(&d, 200 + 4 * i, 1, 2, 4 * (i + 1), 4);
    cr_assert_eq(list_over(&o, &d, NULL, &err), PLT_OK, "%s", err.text);
    char *const text = memhost_info(&platter_driver, o.image);
    cr_expect(strstr(text, "too long"), "%.300s", text);
    cr_expect_eq(count_of(text, "\"number\""), 1 + 128);
    /* the head, a record each, a look into each of 128 at most */
    cr_expect_leq(memchild_reads(&o.child), 1 + 128 + 128);
    free(text);
    close_over(&o);
    same_slice(&d, 5, 201 * S, 2 * S);
    disk_free(&d);
}

Test(mbr, entries_past_the_end_are_listed_said_and_not_opened)
{
    static const struct {
        uint32_t first, count;
        bool is_inside;
    } rows[] = {
        {990, 10, true},        {990, 11, false},
        {999, 1, true},         {1000, 1, false},
        {1001, 1, false},       {0xffffffff, 0xffffffff, false},
        {0, 0xffffffff, false}, {1, 0xffffffff, false},
        {0x80000000, 1, false}, {0, 1000, true},
        {0, 1001, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct disk d = disk_new(1000 * S);
        put_mbr(&d, 0, 2, 0, 0x83, rows[i].first, rows[i].count);
        char *const text = list_text(&d);
        cr_expect(is_listed(text, 3, (uint64_t)rows[i].first * S,
                            (uint64_t)rows[i].count * S),
                  "%s", text);
        cr_expect_eq(strstr(text, "partition 3 reaches past the end") == NULL,
                     rows[i].is_inside, "%s", text);
        free(text);
        cr_expect_eq(open_status(&d, 3),
                     rows[i].is_inside ? PLT_OK : PLT_CORRUPT, "row %zu", i);
        if (rows[i].is_inside)
            same_slice(&d, 3, (uint64_t)rows[i].first * S,
                       (uint64_t)rows[i].count * S);
        disk_free(&d);
    }
}

Test(mbr, the_largest_numbers_with_the_largest_sectors_do_not_wrap)
{
    struct disk d = disk_new(1000 * S);
    struct opened o;
    struct plt_error err = {0};
    put_mbr(&d, 0, 0, 0, 0x83, 0xffffffff, 0xffffffff);
    put_mbr(&d, 0, 1, 0, 0x05, 0xffffffff, 0xffffffff);
    cr_assert_eq(list_over(&o, &d, "sector=4096", &err), PLT_OK, "%s",
                 err.text);
    char *const text = memhost_info(&platter_driver, o.image);
    cr_expect(is_listed(text, 1, UINT64_C(0xffffffff) * 4096,
                        UINT64_C(0xffffffff) * 4096),
              "%s", text);
    free(text);
    close_over(&o);
    cr_expect_eq(open_over(&o, &d, "number=1", "sector=4096", &err),
                 PLT_CORRUPT);
    disk_free(&d);
}

Test(mbr, overlaps_are_said_and_each_is_still_readable)
{
    struct disk d = disk_new(1000 * S);
    put_mbr(&d, 0, 0, 0, 0x83, 100, 100);
    put_mbr(&d, 0, 1, 0, 0x83, 199, 100);
    put_mbr(&d, 0, 2, 0, 0x83, 299, 100); /* touches, does not overlap */
    put_mbr(&d, 0, 3, 0, 0x83, 150, 10);  /* inside the first */
    char *const text = list_text(&d);
    cr_expect(strstr(text, "partitions 1 and 2 overlap"), "%s", text);
    cr_expect(strstr(text, "partitions 1 and 4 overlap"), "%s", text);
    cr_expect_eq(count_of(text, "overlap"), 2, "%s", text);
    free(text);
    for (unsigned n = 1; n <= 3; n++)
        same_slice(&d, n, (n * 100 - (n > 1)) * (uint64_t)S, 100 * S);
    disk_free(&d);
}

Test(mbr, many_problems_are_told_up_to_a_limit)
{
    struct disk d = disk_new(1000 * S);
    put_mbr(&d, 0, 0, 0, 0x05, 100, 900);
    for (uint32_t i = 0; i < 100; i++)
        put_ebr(&d, 100 + i, 1, 0x10000, i + 1, 1);
    char *const text = list_text(&d);
    cr_expect(strstr(text, "damaged"), "%s", text); /* the last record */
    cr_expect_eq(count_of(text, "reaches past"), 15, "%s", text);
    free(text);
    disk_free(&d);
}

Test(mbr, what_is_no_table_is_none)
{
    static const struct {
        size_t at;
        const char *bytes;
        size_t n;
    } rows[] = {
        {510, "\x55\xab", 2},  {511, "\x00", 1},      {446, "\x01", 1},
        {446 + 16, "\x7f", 1}, {446 + 32, "\xc0", 1}, {446 + 48, "A", 1},
        {3, "NTFS    ", 8},    {3, "EXFAT   ", 8},    {54, "FAT12   ", 8},
        {54, "FAT16   ", 8},   {82, "FAT32   ", 8},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct disk d = disk_new(100 * S);
        put_mbr(&d, 0, 0, 0x80, 0x83, 10, 50);
        cr_assert_eq(open_status(&d, 1), PLT_OK);
        memcpy(d.p + rows[i].at, rows[i].bytes, rows[i].n);
        char *const text = list_text(&d);
        cr_expect(strstr(text, "\"label\":\"none\""), "row %zu: %s", i, text);
        cr_expect(strstr(text, "\"partitions\":[]"), "row %zu: %s", i, text);
        free(text);
        cr_expect_eq(open_status(&d, 1), PLT_NOT_FOUND, "row %zu", i);
        disk_free(&d);
    }
}

Test(mbr, a_disk_cut_anywhere_gives_an_error_or_the_right_bytes)
{
    struct disk d = disk_new(400 * S);
    put_mbr(&d, 0, 0, 0x80, 0x83, 10, 20);
    put_mbr(&d, 0, 1, 0, 0x05, 160, 240);
    put_ebr(&d, 160, 1, 20, 100, 100);
    put_ebr(&d, 260, 1, 20, 0, 0);
    for (size_t n = 0; n <= d.n; n += n < 2 * S ? 1 : S / 2) {
        const struct disk cut = {d.p, n};
        char *const text = list_text(&cut);
        cr_assert_eq(strstr(text, "\"dos\"") != NULL, n >= S, "cut at %zu", n);
        free(text);
        const enum plt_status one = open_status(&cut, 1);
        const enum plt_status six = open_status(&cut, 6);
        cr_assert_eq(one,
                     n < S        ? PLT_NOT_FOUND
                     : n < 30 * S ? PLT_CORRUPT
                                  : PLT_OK,
                     "cut at %zu: %d", n, (int)one);
        cr_assert_eq(six,
                     n < 261 * S   ? PLT_NOT_FOUND
                     : n < 281 * S ? PLT_CORRUPT
                                   : PLT_OK,
                     "cut at %zu: %d", n, (int)six);
        if (one == PLT_OK && n % (16 * S) == 0)
            same_slice(&cut, 1, 10 * S, 20 * S);
    }
    disk_free(&d);
}

/* The n-th read of the disk fails, once and for ever: that error and no other,
 * and right again afterwards. */
Test(mbr, any_read_that_fails_is_the_error_of_opening)
{
    struct disk d = disk_new(1000 * S);
    put_mbr(&d, 0, 0, 0x80, 0x83, 200, 20);
    put_mbr(&d, 0, 1, 0, 0x05, 300, 700);
    put_ebr(&d, 300, 1, 20, 100, 100);
    put_ebr(&d, 400, 1, 20, 200, 100);
    put_ebr(&d, 500, 1, 20, 0, 0);
    char *const want = list_text(&d);
    for (unsigned is_forever = 0; is_forever < 2; is_forever++) {
        for (uint64_t n = 1;; n++) {
            struct opened o = {.host = memhost_new(1 << 20, NULL)};
            struct plt_opened opened;
            struct plt_error err = {0};
            memchild_init(&o.child, d.p, d.n);
            o.child.fail_at = n;
            o.child.fail_forever = is_forever;
            const enum plt_status st = memhost_open(
                o.host, &platter_driver, &o.child.child, PLT_OPEN_LIST,
                &o.image, &opened, &err, (const char *)NULL);
            const bool has_fired = memchild_reads(&o.child) >= n;
            cr_assert_eq(st, has_fired ? PLT_ORIGIN : PLT_OK, "read %ju: %s",
                         (uintmax_t)n, err.text);
            if (st == PLT_OK) {
                char *const text = memhost_info(&platter_driver, o.image);
                cr_assert_str_eq(text, want);
                free(text);
                platter_driver.close(o.image);
            }
            memhost_free(o.host);
            if (!has_fired) {
                cr_assert_geq(n, 6); /* head, three records, four looks */
                break;
            }
        }
    }
    free(want);
    disk_free(&d);
}
