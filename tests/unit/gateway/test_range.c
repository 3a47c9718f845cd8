/* SPDX-License-Identifier: Apache-2.0 */
/* The Range header against the text of RFC 9110 14.1.1, 14.1.2 and 14.2, and
 * against the one rule that is ours: what begins `bytes` and is not one good
 * range never becomes a 200. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "range.h"

#define BIG (UINT64_C(1) << 62)

struct row {
    const char *header;
    uint64_t size;
    enum range_kind kind;
    uint64_t first, last; /* of a RANGE_PART */
};

static void check(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct row *const r = &rows[i];
        uint64_t first = 7777, last = 8888;
        const enum range_kind kind =
            range_parse(r->header, r->size, &first, &last);
        const char *const name = r->header ? r->header : "(none)";
        cr_expect_eq(kind, r->kind, "\"%s\" of %ju: kind %d", name,
                     (uintmax_t)r->size, (int)kind);
        if (kind != RANGE_PART || r->kind != RANGE_PART)
            continue;
        cr_expect_eq(first, r->first, "\"%s\": first %ju", name,
                     (uintmax_t)first);
        cr_expect_eq(last, r->last, "\"%s\": last %ju", name, (uintmax_t)last);
    }
}

#define CHECK(rows) check(rows, sizeof(rows) / sizeof((rows)[0]))

Test(range, examples_of_rfc_9110_14_1_2_mean_what_it_says)
{
    static const struct row rows[] = {
        /* "assuming a representation of length 10000" */
        {"bytes=0-499", 10000, RANGE_PART, 0, 499},
        {"bytes=500-999", 10000, RANGE_PART, 500, 999},
        {"bytes=-500", 10000, RANGE_PART, 9500, 9999},
        {"bytes=9500-", 10000, RANGE_PART, 9500, 9999},
    };
    CHECK(rows);
}

Test(range, without_a_header_or_with_another_unit_it_is_the_whole)
{
    static const struct row rows[] = {
        {NULL, 10, RANGE_WHOLE, 0, 0},
        {NULL, 0, RANGE_WHOLE, 0, 0},
        /* 14.2: a unit that is not understood is ignored */
        {"seconds=0-1", 10, RANGE_WHOLE, 0, 0},
        {"x-lines=99-", 10, RANGE_WHOLE, 0, 0},
        {"byte=0-1", 10, RANGE_WHOLE, 0, 0},
        {"bytess=0-1", 10, RANGE_WHOLE, 0, 0},
    };
    CHECK(rows);
}

Test(range, unit_is_compared_without_regard_to_case)
{
    /* 14.1: range-unit names are case-insensitive */
    static const struct row rows[] = {
        {"Bytes=1-2", 10, RANGE_PART, 1, 2},
        {"BYTES=-3", 10, RANGE_PART, 7, 9},
    };
    CHECK(rows);
}

Test(range, end_is_clamped_and_start_is_not)
{
    static const struct row rows[] = {
        {"bytes=0-10", 10, RANGE_PART, 0, 9},
        {"bytes=9-9", 10, RANGE_PART, 9, 9},
        {"bytes=9-18446744073709551615", 10, RANGE_PART, 9, 9},
        {"bytes=9-99999999999999999999999999", 10, RANGE_PART, 9, 9},
        {"bytes=-10", 10, RANGE_PART, 0, 9},
        {"bytes=-11", 10, RANGE_PART, 0, 9},
        {"bytes=-99999999999999999999999999", 10, RANGE_PART, 0, 9},
        {"bytes=10-", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=10-10", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=18446744073709551615-", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=18446744073709551616-", 10, RANGE_UNSATISFIABLE, 0, 0},
        /* 2^64 + 3: must not wrap round to byte 3 */
        {"bytes=18446744073709551619-18446744073709551620", 10,
         RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=00000000000000000000000001-02", 10, RANGE_PART, 1, 2},
    };
    CHECK(rows);
}

Test(range, disks_past_four_gibibytes_keep_all_their_digits)
{
    static const struct row rows[] = {
        {"bytes=4294967295-4294967296", BIG, RANGE_PART, 4294967295,
         4294967296},
        {"bytes=4611686018427387903-", BIG, RANGE_PART, BIG - 1, BIG - 1},
        {"bytes=-1", INT64_MAX, RANGE_PART, INT64_MAX - 1, INT64_MAX - 1},
        {"bytes=0-", INT64_MAX, RANGE_PART, 0, INT64_MAX - 1},
    };
    CHECK(rows);
}

Test(range, nothing_of_an_empty_disk_can_be_satisfied)
{
    static const struct row rows[] = {
        {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-0", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-1", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 0, RANGE_UNSATISFIABLE, 0, 0},
    };
    CHECK(rows);
}

Test(range, suffix_of_nothing_is_unsatisfiable)
{
    /* 14.1.2: satisfiable only with a non-zero suffix-length */
    static const struct row rows[] = {
        {"bytes=-0", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-000", 10, RANGE_UNSATISFIABLE, 0, 0},
    };
    CHECK(rows);
}

Test(range, several_ranges_are_refused_however_they_are_written)
{
    static const struct row rows[] = {
        {"bytes=0-1,3-4", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-1, 3-4", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-0,-1", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-,0-,0-,0-,0-", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=,0-1", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-1,", 10, RANGE_UNSATISFIABLE, 0, 0},
    };
    CHECK(rows);
}

Test(range, spaces_and_tabs_around_the_value_do_not_count)
{
    static const struct row rows[] = {
        {" \tbytes=1-2\t ", 10, RANGE_PART, 1, 2},
        {"bytes= 1-2", 10, RANGE_PART, 1, 2},
    };
    CHECK(rows);
}

Test(range, malformed_values_are_never_the_whole)
{
    static const char *const bad[] = {
        "",
        " ",
        "bytes",
        "bytes ",
        "bytes=",
        "bytes= ",
        "bytes=-",
        "bytes=--1",
        "bytes=a-b",
        "bytes=1",
        "bytes=1 -2",
        "bytes=1- 2",
        "bytes=2-1",
        "bytes=1-2x",
        "bytes=1-x",
        "bytes=x-2",
        "bytes=+1-2",
        "bytes=1-+2",
        "bytes=0x1-2",
        "bytes=1--2",
        "bytes=-1-2",
        "bytes=1-2-",
        "bytes:0-1",
        "bytes 0-1",
        "bytes =0-1",
        "=0-1",
        "0-1",
        "bytes==0-1",
        "bytes=1;2",
        "bytes=*",
        "bytes=1-2/10",
        "by\x01tes=0-1",
        "bytes=\n1-2",
        "bytes=1-2\r\n",
        "\xc3\xa9=0-1",
        "bytes=1.0-2",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t first = 0, last = 0;
        cr_expect_eq(range_parse(bad[i], 10, &first, &last),
                     RANGE_UNSATISFIABLE, "\"%s\"", bad[i]);
    }
}

/* Every short text of the characters that matter: whatever comes out as a part
 * lies inside, and what begins with bytes= is never the whole. */
Test(range, no_short_text_gets_a_span_outside_the_disk)
{
    static const char alphabet[] = "059-, x*";
    enum { N = sizeof(alphabet) - 1, DEEP = 6 };
    unsigned long n_parts = 0;
    unsigned long all = 1;

    for (int i = 0; i < DEEP; i++)
        all *= N;
    for (unsigned long code = 0; code < all; code++) {
        char text[6 + DEEP + 1] = "bytes=";
        unsigned long rest = code;
        for (size_t i = 0; i < DEEP; i++, rest /= N)
            text[6 + i] = alphabet[rest % N];
        uint64_t first = 7777, last = 7777;
        const enum range_kind kind = range_parse(text, 55, &first, &last);
        cr_assert_neq(kind, RANGE_WHOLE, "\"%s\"", text);
        if (kind == RANGE_PART) {
            n_parts++;
            cr_assert(first <= last && last < 55, "\"%s\" gave %ju-%ju", text,
                      (uintmax_t)first, (uintmax_t)last);
            cr_assert_null(strchr(text, ','), "\"%s\"", text);
        }
    }
    cr_assert_gt(n_parts, 100);
}
