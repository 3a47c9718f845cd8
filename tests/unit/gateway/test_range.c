/* SPDX-License-Identifier: Apache-2.0 */
/* The Range header against the text of RFC 9110 14.1.1, 14.1.2 and 14.2, and
 * against the one rule that is ours: what begins `bytes` and is malformed never
 * becomes a 200. */
#include <criterion/criterion.h>
#include <stdbool.h>
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
        struct range spans[8];
        size_t n_spans = 99;
        const enum range_kind kind =
            range_parse(r->header, r->size, 8, spans, &n_spans);
        const uint64_t first = spans[0].first, last = spans[0].last;
        const char *const name = r->header ? r->header : "(none)";
        cr_expect_eq(kind, r->kind, "\"%s\" of %ju: kind %d", name,
                     (uintmax_t)r->size, (int)kind);
        if (kind != RANGE_PART || r->kind != RANGE_PART)
            continue;
        cr_expect_eq(n_spans, 1, "\"%s\": %zu spans", name, n_spans);
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

/* "a-b,c-d" for what is left of header. */
static const char *left(const char *header, uint64_t size, size_t most)
{
    static char text[512];
    struct range spans[8];
    size_t n, at = 0;

    text[0] = '\0';
    switch (range_parse(header, size, most, spans, &n)) {
    case RANGE_UNSATISFIABLE:
        return "416";
    case RANGE_WHOLE:
        return "200";
    default:
        break;
    }
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%ju-%ju",
                               i ? "," : "", (uintmax_t)spans[i].first,
                               (uintmax_t)spans[i].last);
    return text;
}

Test(range, several_ranges_keep_their_order_and_near_ones_are_joined)
{
    static const struct {
        const char *header, *left;
    } rows[] = {
        {"bytes=0-1,1000-1001", "0-1,1000-1001"},
        {"bytes=1000-1001, 0-1", "1000-1001,0-1"},
        {"bytes=0-0,-1", "0-0,9999-9999"},
        {"bytes=0-99,100-199", "0-199"},
        {"bytes=100-199,0-99", "0-199"},
        {"bytes=0-9,89-99", "0-99"},      /* a gap of 79 bytes */
        {"bytes=0-9,90-99", "0-9,90-99"}, /* of 80 */
        {"bytes=0-9,5000-5009,20-29", "0-29,5000-5009"},
        /* what joins two others: they become one, at the first one's place */
        {"bytes=0-9,5000-5009,400-409,200-219,60-389", "0-409,5000-5009"},
        {"bytes=5-,0-9", "0-9999"},
        /* one past the end is left out; 416 only when nothing is left */
        {"bytes=20000-,5-6", "5-6"},
        {"bytes=20000-,10000-", "416"},
        {"bytes=-0,5-6", "5-6"},
        /* 5.6.1.2: empty elements */
        {"bytes=,0-1", "0-1"},
        {"bytes=0-1,", "0-1"},
        {"bytes=0-1,,  ,3000-3001", "0-1,3000-3001"},
        {"bytes=,", "416"},
        /* malformed anywhere: nothing of it is believed */
        {"bytes=0-1,x", "416"},
        {"bytes=0-1,5-4", "416"},
        {"bytes=0-1 3-4", "416"},
        {"bytes=0-1;3-4", "416"},
        /* two fields of one name, as 5.3 joins them */
        {"bytes=0-1, bytes=3-4", "416"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        cr_expect_str_eq(left(rows[i].header, 10000, 8), rows[i].left,
                         "\"%s\": %s", rows[i].header,
                         left(rows[i].header, 10000, 8));
}

Test(range, too_many_ranges_and_too_many_overlaps_are_refused)
{
    cr_expect_str_eq(left("bytes=0-0,1000-1000,2000-2000", 10000, 3),
                     "0-0,1000-1000,2000-2000");
    cr_expect_str_eq(left("bytes=0-0,1000-1000,2000-2000", 10000, 2), "416");
    /* those past the end count: each costs its reading */
    cr_expect_str_eq(left("bytes=0-0,20000-,30000-", 10000, 2), "416");
    cr_expect_str_eq(left("bytes=0-,0-,0-", 10000, 8), "0-9999");
    cr_expect_str_eq(left("bytes=0-,0-,0-,0-", 10000, 8), "416");
}

/* What is left never overlaps, lies inside, and holds every byte asked for. */
Test(range, any_set_of_ranges_is_covered_once)
{
    uint64_t seed = 1;

    for (unsigned turn = 0; turn < 20000; turn++) {
        uint64_t v[8];
        char text[256] = "bytes=";
        bool is_asked[2048] = {false}, is_left[2048] = {false};
        struct range spans[8];
        size_t n = 0;
        for (size_t i = 0; i < 8; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            v[i] = (seed >> 33) % 2048;
        }
        for (size_t i = 0; i < 8; i += 2) {
            const uint64_t a = v[i] < v[i + 1] ? v[i] : v[i + 1];
            const uint64_t b = a + (v[i] ^ v[i + 1]) % 64;
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                           "%s%ju-%ju", i ? "," : "", (uintmax_t)a,
                           (uintmax_t)b);
            for (uint64_t k = a; k <= b && k < 2048; k++)
                is_asked[k] = true;
        }
        const enum range_kind kind = range_parse(text, 2048, 8, spans, &n);
        if (kind != RANGE_PART)
            continue; /* too many overlaps */
        for (size_t i = 0; i < n; i++) {
            cr_assert(spans[i].first <= spans[i].last && spans[i].last < 2048);
            for (uint64_t k = spans[i].first; k <= spans[i].last; k++) {
                cr_assert_not(is_left[k], "%s: byte %ju twice", text,
                              (uintmax_t)k);
                is_left[k] = true;
            }
        }
        for (size_t k = 0; k < 2048; k++)
            cr_assert(!is_asked[k] || is_left[k], "%s: byte %zu is lost", text,
                      k);
    }
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
        struct range spans[8];
        size_t n_spans;
        cr_expect_eq(range_parse(bad[i], 10, 8, spans, &n_spans),
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
        struct range spans[8];
        size_t n_spans = 0;
        const enum range_kind kind = range_parse(text, 55, 8, spans, &n_spans);
        const uint64_t first = spans[0].first, last = spans[0].last;
        cr_assert_neq(kind, RANGE_WHOLE, "\"%s\"", text);
        if (kind == RANGE_PART) {
            n_parts++;
            cr_assert(first <= last && last < 55, "\"%s\" gave %ju-%ju", text,
                      (uintmax_t)first, (uintmax_t)last);
            cr_assert_eq(n_spans, 1, "\"%s\"", text);
        }
    }
    cr_assert_gt(n_parts, 100);
}
