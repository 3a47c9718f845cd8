/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "stack/readahead.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define SIZE (1024 * MIB)

static struct readahead *ra;
static struct readahead_plan plan;

static void set_up(void)
{
    ra = readahead_new(4 * MIB);
    cr_assert(ra);
}

static void tear_down(void)
{
    readahead_free(ra);
}

TestSuite(readahead, .init = set_up, .fini = tear_down);

static unsigned see(uint64_t client, uint64_t off, uint64_t len, bool is_hit)
{
    readahead_see(ra, client, off, len, SIZE, is_hit, &plan);
    if (plan.n)
        readahead_done(ra, &plan);
    for (unsigned i = 0; i < plan.n; i++) {
        const uint64_t at = plan.off + i * plan.stride;
        cr_assert(at < SIZE && plan.len && plan.len <= SIZE - at);
    }
    return plan.n;
}

Test(readahead, three_in_order_begin_with_the_least_window)
{
    cr_assert_eq(see(1, 10 * MIB, 64 * KIB, false), 0);
    cr_assert_eq(see(1, 10 * MIB + 64 * KIB, 64 * KIB, false), 0);
    cr_assert_eq(see(1, 10 * MIB + 128 * KIB, 64 * KIB, false), 1);
    cr_assert_eq(plan.off, 10 * MIB + 192 * KIB);
    cr_assert_eq(plan.len, READAHEAD_LEAST);
}

/* Each byte once, the window doubles up to the limit, and what was planned is
 * told as used when it is asked for. */
Test(readahead, a_stream_is_planned_once_and_doubles)
{
    uint64_t ahead = 0, planned = 0, used = 0, most = 0;

    for (uint64_t at = 0; at < 64 * MIB; at += 64 * KIB) {
        if (see(1, at, 64 * KIB, true)) {
            cr_assert(!planned || plan.off == ahead);
            cr_assert_geq(plan.off, at + 64 * KIB);
            ahead = plan.off + plan.len;
            planned += plan.len;
        }
        used += plan.used;
        if (planned && ahead - at > most)
            most = ahead - at;
    }
    cr_assert_eq(planned, 0, "all hits at first: quiet until one is none");
    for (uint64_t at = 64 * MIB; at < 128 * MIB; at += 64 * KIB) {
        if (see(1, at, 64 * KIB, at > 64 * MIB)) {
            cr_assert(!planned || plan.off == ahead);
            ahead = plan.off + plan.len;
            planned += plan.len;
        }
        used += plan.used;
        if (planned && ahead - at > most)
            most = ahead - at;
    }
    cr_assert_geq(planned, 63 * MIB);
    cr_assert_leq(planned, 69 * MIB);
    cr_assert_geq(used, 63 * MIB);
    cr_assert_leq(used, planned);
    cr_assert_leq(most, 4 * MIB + 64 * KIB);
    cr_assert_geq(most, 2 * MIB);
}

Test(readahead, several_connections_may_overtake_one_another)
{
    static const unsigned order[] = {1, 0, 3, 2, 4, 6, 5, 7, 9, 8};
    unsigned n = 0;

    for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        n += see(1, 10 * MIB + order[i] * 64 * KIB, 64 * KIB, false);
    cr_assert_gt(n, 0);
    cr_assert_eq(see(2, 10 * MIB + 640 * KIB, 64 * KIB, false), 0,
                 "another client's");
}

Test(readahead, strides)
{
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(see(1, i * MIB, 4 * KIB, false), 0);
    cr_assert_gt(see(1, 3 * MIB, 4 * KIB, false), 1);
    cr_assert_eq(plan.off, 4 * MIB);
    cr_assert_eq(plan.stride, MIB);
    cr_assert_eq(plan.len, 4 * KIB);
    /* To the disk's end and not beyond. */
    for (unsigned i = 4; i < 1024; i++)
        (void)see(1, i * MIB, 4 * KIB, true);
}

Test(readahead, who_reads_anywhere_is_never_read_ahead_of)
{
    uint64_t x = 88172645463325252;

    for (unsigned i = 0; i < 20000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        cr_assert_eq(
            see(1, x % (SIZE / (64 * KIB)) * 64 * KIB, 64 * KIB, false), 0);
    }
}

Test(readahead, one_plan_at_a_time)
{
    struct readahead_plan first;

    for (unsigned i = 0; i < 3; i++)
        readahead_see(ra, 1, i * 64 * KIB, 64 * KIB, SIZE, false, &first);
    cr_assert_eq(first.n, 1);
    for (unsigned i = 3; i < 10; i++)
        cr_assert_eq(see(1, i * 64 * KIB, 64 * KIB, true), 0);
    readahead_done(ra, &first);
    cr_assert_eq(see(1, 640 * KIB, 64 * KIB, true), 1);
    cr_assert_eq(plan.off, 704 * KIB);
}

Test(readahead, needless_ones_stop_until_a_miss)
{
    for (unsigned i = 0; i < 3; i++)
        (void)see(1, i * 64 * KIB, 64 * KIB, false);
    readahead_needless(ra, 1);
    for (unsigned i = 3; i < 100; i++)
        cr_assert_eq(see(1, i * 64 * KIB, 64 * KIB, true), 0);
    cr_assert_eq(see(1, 100 * 64 * KIB, 64 * KIB, false), 1);
    cr_assert_eq(plan.off, 101 * 64 * KIB);
}

Test(readahead, the_end_of_the_disk_and_spans_outside)
{
    for (unsigned i = 0; i < 3; i++)
        (void)see(1, SIZE - (4 - i) * 64 * KIB, 64 * KIB, false);
    cr_assert_eq(plan.n, 1);
    cr_assert_eq(plan.off + plan.len, SIZE);
    cr_assert_eq(see(1, SIZE, 1, false), 0);
    cr_assert_eq(see(1, UINT64_MAX, UINT64_MAX, false), 0);
    cr_assert_eq(see(1, SIZE - 1, 2, false), 0);
}

/* More readers than places: whoever comes again and again has one. */
Test(readahead, a_newcomer_gets_a_place_in_the_end)
{
    unsigned n = 0;

    for (uint64_t c = 0; c < 1000; c++)
        (void)see(c, 0, 4096, false);
    for (unsigned i = 0; i < 40; i++)
        n += see(12345, i * 64 * KIB, 64 * KIB, false);
    cr_assert_gt(n, 0);
}
