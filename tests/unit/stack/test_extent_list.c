/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of platter/extent.h, kept against drivers that break it. */
#include <criterion/criterion.h>

#include "stack/extent_list.h"

struct seen {
    struct plt_extent e[16];
    size_t n;
};

static bool keep(void *cookie, const struct plt_extent *e)
{
    struct seen *const s = cookie;
    s->e[s->n++] = *e;
    return s->n < 16;
}

static void give(struct extent_list *l, uint64_t off, uint64_t len,
                 uint32_t flags, uint64_t child)
{
    (void)extent_list_take(
        l, &(struct plt_extent){
               .off = off, .len = len, .flags = flags, .child_off = child});
}

Test(extent_list, neighbours_of_one_nature_become_one)
{
    struct seen s = {.n = 0};
    struct extent_list l;
    extent_list_init(&l, 0, 100, keep, &s);
    give(&l, 0, 10, PLT_EXTENT_ZERO, 0);
    give(&l, 10, 10, PLT_EXTENT_ZERO, 0);
    give(&l, 20, 30, PLT_EXTENT_MAPPED, 1000);
    give(&l, 50, 25, PLT_EXTENT_MAPPED, 1030);
    give(&l, 75, 25, PLT_EXTENT_MAPPED, 9000);
    extent_list_flush(&l);
    cr_assert_not(l.is_broken);
    cr_assert_eq(s.n, 3);
    cr_assert_eq(s.e[0].len, 20);
    cr_assert_eq(s.e[1].len, 55);
    cr_assert_eq(s.e[2].child_off, 9000);
}

Test(extent_list, first_and_last_are_clipped_with_their_offsets)
{
    struct seen s = {.n = 0};
    struct extent_list l;
    extent_list_init(&l, 100, 50, keep, &s);
    give(&l, 0, 1000, PLT_EXTENT_MAPPED, 7000);
    extent_list_flush(&l);
    cr_assert_eq(s.n, 1);
    cr_assert_eq(s.e[0].off, 100);
    cr_assert_eq(s.e[0].len, 50);
    cr_assert_eq(s.e[0].child_off, 7100);
}

Test(extent_list, gaps_steps_back_and_nothing_are_breaches)
{
    const uint64_t bad[][2] = {
        {1, 10}, {0, 0}, {UINT64_MAX, 2}, {0, UINT64_MAX}};
    for (size_t i = 0; i < 4; i++) {
        struct seen s = {.n = 0};
        struct extent_list l;
        extent_list_init(&l, 0, 100, keep, &s);
        give(&l, bad[i][0], bad[i][1], 0, 0);
        cr_assert(l.is_broken, "%zu", i);
    }
    struct seen s = {.n = 0};
    struct extent_list l;
    extent_list_init(&l, 0, 100, keep, &s);
    give(&l, 0, 50, 0, 0);
    give(&l, 20, 10, 0, 0); /* behind what was said: nothing new in it */
    cr_assert(l.is_broken);
}
