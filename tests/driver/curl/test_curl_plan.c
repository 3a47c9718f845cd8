/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of an origin, by what is known of it: bounds, and a few lines
 * whose round trips and rates are worked out by hand. */
#include <criterion/criterion.h>

#include "curl_plan.h"

enum { MS = 1000000, KIB = 1024 };

static uint64_t gap_of(uint64_t trip_ns, uint64_t body_ns, uint64_t bytes)
{
    struct curl_cost cost = {0};

    curl_cost_learn(&cost, trip_ns, body_ns, bytes);
    return curl_cost_gap(&cost);
}

Test(curl_plan, nothing_known_has_a_gap_of_a_block)
{
    const struct curl_cost cost = {0};
    cr_expect_eq(curl_cost_gap(&cost), 64 * KIB);
}

Test(curl_plan, a_gap_is_a_round_trip_of_bytes)
{
    /* 10 ms at 25 MB/s (200 Mbit/s): 250 kB. */
    cr_expect_eq(gap_of(10 * MS, 40 * MS, 1000000), 250000);
    /* 1 ms at 100 MB/s: 100 kB. */
    cr_expect_eq(gap_of(1 * MS, 10 * MS, 1000000), 100000);
}

Test(curl_plan, a_gap_is_bounded)
{
    cr_expect_eq(gap_of(20 * MS, 1 * MS, 100000000), 512 * KIB);
    cr_expect_eq(gap_of(1000, 1000 * MS, 40000), 16 * KIB);
    cr_expect_eq(gap_of(UINT64_MAX, 1, UINT64_MAX), 64 * KIB);
    cr_expect_eq(gap_of(UINT64_MAX, 0, 1 << 30), 512 * KIB);
}

Test(curl_plan, short_answers_say_nothing_of_the_rate)
{
    cr_expect_eq(gap_of(20 * MS, 1, 1000), 64 * KIB);
    cr_expect_eq(gap_of(0, 40 * MS, 1000000), 64 * KIB);
}

Test(curl_plan, the_least_round_trip_and_the_best_rate_count_and_fade)
{
    struct curl_cost cost = {0};

    curl_cost_learn(&cost, 10 * MS, 10 * MS, 1000000);
    curl_cost_learn(&cost, 200 * MS, 1000 * MS, 1000000);
    cr_expect_lt(cost.trip_ns, 11 * MS);
    cr_expect_gt(cost.bytes_per_s, 80000000);
    for (int i = 0; i < 100; i++)
        curl_cost_learn(&cost, 200 * MS, 1000 * MS, 1000000);
    cr_expect_gt(cost.trip_ns, 190 * MS);
    cr_expect_lt(cost.bytes_per_s, 1100000);
}

Test(curl_plan, tables_are_where_the_name_says)
{
    cr_expect_eq(curl_guess("http://h/a.qcow2").head, 384 * KIB);
    cr_expect_eq(curl_guess("http://h/a.QCOW2?token=x.ova").head, 384 * KIB);
    cr_expect_eq(curl_guess("http://h/a.qcow2").tail, 0);
    cr_expect_eq(curl_guess("http://h/a.ova").tail, 64 * KIB);
    cr_expect_eq(curl_guess("http://h/a.vmdk#x").tail, 64 * KIB);
    cr_expect_eq(curl_guess("http://h/a.tar.gz").head, 64 * KIB);
    cr_expect_eq(curl_guess("http://h/a.tar.gz").front, 0);
    cr_expect_eq(curl_guess("http://h/?x=.ova").tail, 0);
    cr_expect_eq(curl_guess("").head, 64 * KIB);
    cr_expect_eq(curl_guess("x").front, 384 * KIB);
}

Test(curl_plan, heads_and_fronts_are_whole_blocks)
{
    static const char *const urls[] = {"a.qcow2", "a.ova", "a.gz", "a"};

    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        const struct curl_guess g = curl_guess(urls[i]);
        cr_expect_eq(g.head % (64 * KIB), 0);
        cr_expect_leq(g.front, CURL_FRONT);
        cr_expect_geq(g.head, 64 * KIB);
        /* An open fetches no more than this, whatever the name. */
        cr_expect_leq(g.head + g.tail, 384 * KIB);
    }
}

Test(curl_plan, a_long_request_grows_with_its_reader_and_ends_with_the_file)
{
    const uint64_t size = UINT64_C(1) << 40;

    cr_expect_eq(curl_ahead(1, 0, size), 1 << 20);
    cr_expect_eq(curl_ahead(1 << 20, 0, size), 4 << 20);
    cr_expect_eq(curl_ahead(1 << 20, size - 5, size), 5);
    cr_expect_eq(curl_ahead(64 << 20, 0, size), size);
    cr_expect_eq(curl_ahead(UINT64_MAX, 7, size), size - 7);
    for (uint64_t n = 1; n < size; n *= 2)
        cr_expect_leq(curl_ahead(n, 0, size), curl_ahead(n * 2, 0, size));
}
