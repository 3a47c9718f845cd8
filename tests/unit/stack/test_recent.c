/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked lately: joined, in order, forgotten in time. */
#include <criterion/criterion.h>
#include <pthread.h>

#include "stack/recent.h"
#include "util/clock.h"

enum { KIB = 1024 };

static const uint64_t t0 = 1000 * NS_PER_S;

static uint64_t ms(uint64_t n)
{
    return t0 + n * NS_PER_MS;
}

Test(recent, newest_first_and_none_older_than_ten_seconds)
{
    struct recent *const r = recent_new();
    struct recent_span v[RECENT_SPANS];

    cr_assert_eq(recent_list(r, t0, v), 0);
    recent_see(r, 0, 512, ms(0));
    recent_see(r, 1 << 20, 4096, ms(2000));
    recent_see(r, 8 << 20, 1, ms(1000)); /* another thread, told later */
    cr_assert_eq(recent_list(r, ms(3000), v), 3);
    cr_assert_eq(v[0].off, 1 << 20);
    cr_assert_eq(v[0].len, 4096);
    cr_assert_eq(v[0].ns, ms(2000));
    cr_assert_eq(v[1].off, 8 << 20);
    cr_assert_eq(v[2].off, 0);
    cr_assert_eq(recent_list(r, ms(RECENT_MS), v), 2);
    cr_assert_eq(recent_list(r, ms(RECENT_MS + 1999), v), 1);
    cr_assert_eq(recent_list(r, ms(RECENT_MS + 2000), v), 0);
    recent_free(r);
}

Test(recent, readers_in_order_are_a_span_each)
{
    struct recent *const r = recent_new();
    struct recent_span v[RECENT_SPANS];

    for (uint64_t i = 0; i < 400; i++) {
        recent_see(r, i * KIB, KIB, ms(i));
        recent_see(r, (1 << 30) + i * KIB, KIB + 7, ms(i));   /* overlapping */
        recent_see(r, (1 << 25) - (i + 1) * KIB, KIB, ms(i)); /* backwards */
    }
    cr_assert_eq(recent_list(r, ms(400), v), 3);
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(v[i].ns, ms(399));
        cr_assert_eq(v[i].len, 400 * KIB + (v[i].off == 1 << 30 ? 7 : 0));
    }
    recent_free(r);
}

Test(recent, what_does_not_touch_or_comes_later_stands_apart)
{
    struct recent *const r = recent_new();
    struct recent_span v[RECENT_SPANS];

    recent_see(r, 0, 10, ms(0));
    recent_see(r, 11, 10, ms(0)); /* a gap of one byte */
    recent_see(r, 21, 10, ms(RECENT_JOIN_MS));
    cr_assert_eq(recent_list(r, ms(600), v), 3);
    cr_assert_eq(v[0].off, 21);
    cr_assert_eq(v[0].len, 10);
    /* one that goes on for long has an age for each half second */
    for (uint64_t i = 0; i < 3000; i++)
        recent_see(r, (1 << 20) + i * KIB, KIB, ms(1000 + i));
    cr_assert_eq(recent_list(r, ms(4000), v), 3 + 3000 / RECENT_JOIN_MS);
    cr_assert_eq(v[0].len, RECENT_JOIN_MS * KIB);
    recent_free(r);
}

Test(recent, the_last_of_many_are_kept)
{
    struct recent *const r = recent_new();
    struct recent_span v[RECENT_SPANS];

    for (uint64_t i = 0; i < 1000; i++)
        recent_see(r, i * 2 * KIB, KIB, ms(i));
    cr_assert_eq(recent_list(r, ms(1000), v), RECENT_SPANS);
    for (size_t i = 0; i < RECENT_SPANS; i++)
        cr_assert_eq(v[i].off, (999 - i) * 2 * KIB);
    recent_free(r);
}

static void *write_many(void *cookie)
{
    for (uint64_t i = 0; i < 20000; i++)
        recent_see(cookie, i % 977 * 1000, 500, ms(i / 100));
    return NULL;
}

Test(recent, many_write_while_it_is_listed)
{
    struct recent *const r = recent_new();
    struct recent_span v[RECENT_SPANS];
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, write_many, r), 0);
    for (unsigned i = 0; i < 2000; i++) {
        const size_t n = recent_list(r, ms(200), v);
        cr_assert_leq(n, RECENT_SPANS);
        for (size_t k = 0; k < n; k++) {
            cr_assert_eq(v[k].off % 1000, 0);
            cr_assert_eq(v[k].len, 500);
        }
    }
    for (size_t i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    cr_assert_eq(recent_list(r, ms(200), v), RECENT_SPANS);
    recent_free(r);
}
