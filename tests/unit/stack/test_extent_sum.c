/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of extents: every byte in one bucket, whatever the window. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include <platter/driver.h>

#include "stack/extent_sum.h"

static void give(struct extent_sum *s, uint64_t off, uint64_t len,
                 uint32_t flags)
{
    cr_assert(extent_sum_take(
        s, &(struct plt_extent){.off = off, .len = len, .flags = flags}));
}

static uint64_t all(const struct extent_sum *s, unsigned i)
{
    uint64_t sum = 0;

    for (size_t k = 0; k < EXTENT_KINDS; k++)
        sum += s->bytes[k][i];
    return sum;
}

Test(extent_sum, a_kind_for_every_flag)
{
    static const struct {
        uint32_t flags;
        enum extent_kind kind;
    } rows[] = {
        {0, EXTENT_DATA},
        {PLT_EXTENT_MAPPED, EXTENT_DATA},
        {PLT_EXTENT_COMPRESSED, EXTENT_COMPRESSED},
        {PLT_EXTENT_COMPRESSED | PLT_EXTENT_ZERO, EXTENT_ZERO},
        {PLT_EXTENT_ZERO, EXTENT_ZERO},
        {PLT_EXTENT_ZERO | PLT_EXTENT_RESERVED, EXTENT_ZERO},
        {PLT_EXTENT_ZERO | PLT_EXTENT_HOLE, EXTENT_ZERO},
        {PLT_EXTENT_ZERO | PLT_EXTENT_HOLE | PLT_EXTENT_ABSENT, EXTENT_HOLE}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        cr_assert_eq(extent_kind(&(struct plt_extent){.flags = rows[i].flags}),
                     rows[i].kind, "flags %u", rows[i].flags);
}

Test(extent_sum, a_run_is_cut_at_the_edges_of_buckets)
{
    struct extent_sum s;

    cr_assert(extent_sum_init(&s, 1000, 10, 3)); /* 1000, 1003, 1006, 1010 */
    give(&s, 1000, 5, PLT_EXTENT_ZERO);
    give(&s, 1005, 5, 0);
    cr_assert_eq(s.bytes[EXTENT_ZERO][0], 3);
    cr_assert_eq(s.bytes[EXTENT_ZERO][1], 2);
    cr_assert_eq(s.bytes[EXTENT_DATA][1], 1);
    cr_assert_eq(s.bytes[EXTENT_DATA][2], 4);
    cr_assert_eq(s.runs, 2);
    extent_sum_release(&s);
}

Test(extent_sum, fewer_bytes_than_buckets_leave_some_empty)
{
    struct extent_sum s;
    uint64_t sum = 0;

    cr_assert(extent_sum_init(&s, 7, 3, 8));
    for (uint64_t i = 0; i < 3; i++)
        give(&s, 7 + i, 1, i % 2 ? 0 : PLT_EXTENT_COMPRESSED);
    for (unsigned i = 0; i < 8; i++) {
        cr_assert_eq(all(&s, i),
                     extent_sum_edge(&s, i + 1) - extent_sum_edge(&s, i));
        sum += all(&s, i);
    }
    cr_assert_eq(sum, 3);
    extent_sum_release(&s);
}

Test(extent_sum, the_longest_disk_in_the_most_buckets)
{
    struct extent_sum s;

    cr_assert(extent_sum_init(&s, 0, PLT_SIZE_MAX, EXTENT_SUM_MAX));
    cr_assert_eq(extent_sum_edge(&s, EXTENT_SUM_MAX), PLT_SIZE_MAX);
    give(&s, 0, PLT_SIZE_MAX - 1, PLT_EXTENT_ZERO | PLT_EXTENT_ABSENT);
    give(&s, PLT_SIZE_MAX - 1, 1, 0);
    for (unsigned i = 0; i < EXTENT_SUM_MAX; i++) {
        /* floor(i * length / n), done in the length that it needs */
        const uint64_t edge =
            (uint64_t)((unsigned __int128)PLT_SIZE_MAX * i / EXTENT_SUM_MAX);
        cr_assert_eq(extent_sum_edge(&s, i), edge);
        cr_assert_eq(all(&s, i), extent_sum_edge(&s, i + 1) - edge);
    }
    cr_assert_eq(s.bytes[EXTENT_DATA][EXTENT_SUM_MAX - 1], 1);
    extent_sum_release(&s);
}

Test(extent_sum, runs_are_counted_as_rows_are)
{
    struct extent_sum s;

    cr_assert(extent_sum_init(&s, 0, 60, 2));
    for (uint64_t i = 0; i < 3; i++)
        (void)extent_sum_take(&s,
                              &(struct plt_extent){.off = i * 10,
                                                   .len = 10,
                                                   .flags = PLT_EXTENT_MAPPED,
                                                   .child_off = 500 + i * 10});
    cr_assert_eq(s.runs, 1);
    (void)extent_sum_take(&s, &(struct plt_extent){.off = 30,
                                                   .len = 10,
                                                   .flags = PLT_EXTENT_MAPPED,
                                                   .child_off = 531});
    cr_assert_eq(s.runs, 2); /* elsewhere in the file */
    give(&s, 40, 10, PLT_EXTENT_ZERO);
    give(&s, 50, 10, PLT_EXTENT_ZERO | PLT_EXTENT_HOLE);
    cr_assert_eq(s.runs, 3); /* the rows say the same of both */
    extent_sum_release(&s);
}

Test(extent_sum, any_runs_in_any_window_are_whole)
{
    srand(7);
    for (unsigned round = 0; round < 300; round++) {
        const uint64_t start = (uint64_t)rand(),
                       len = 1 + (uint64_t)rand() % 5000;
        const unsigned n = 1 + (unsigned)rand() % 300;
        struct extent_sum s;
        cr_assert(extent_sum_init(&s, start, len, n));
        uint64_t kinds[EXTENT_KINDS] = {0};
        for (uint64_t at = 0; at < len;) {
            static const uint32_t flags[] = {
                0, PLT_EXTENT_COMPRESSED, PLT_EXTENT_ZERO, PLT_EXTENT_ABSENT};
            const unsigned k = (unsigned)rand() % 4;
            uint64_t now = 1 + (uint64_t)rand() % 90;
            now = now < len - at ? now : len - at;
            give(&s, start + at, now, flags[k]);
            kinds[k] += now;
            at += now;
        }
        for (unsigned i = 0; i < n; i++) {
            cr_assert_eq(extent_sum_edge(&s, i), start + i * len / n);
            cr_assert_eq(all(&s, i),
                         extent_sum_edge(&s, i + 1) - extent_sum_edge(&s, i));
            for (size_t k = 0; k < EXTENT_KINDS; k++)
                kinds[k] -= s.bytes[k][i];
        }
        for (size_t k = 0; k < EXTENT_KINDS; k++)
            cr_assert_eq(kinds[k], 0);
        extent_sum_release(&s);
    }
}
