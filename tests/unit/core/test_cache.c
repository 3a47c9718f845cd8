/* SPDX-License-Identifier: Apache-2.0 */
/* The block cache by its contract: one budget, one filler, held is fixed. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "util/clock.h"

enum { BLOCK = 4096, AFTER_BURST_US = 260 * 1000 };

static bool not_cancelled(const struct plt_io *io)
{
    (void)io;
    return false;
}

static bool is_cancelled(const struct plt_io *io)
{
    (void)io;
    return true;
}

static struct plt_io make_io(uint64_t deadline_ns)
{
    return (struct plt_io){.struct_size = (uint32_t)sizeof(struct plt_io),
                           .deadline_ns = deadline_ns,
                           .cancelled = not_cancelled};
}

/* Fill and let go; false: no room. */
static bool put(struct cache *c, uint64_t owner, uint64_t key, size_t len)
{
    struct plt_block *b;
    if (cache_claim(c, owner, key, len, false, &b) != PLT_CLAIM_FILL)
        return false;
    memset(b->data, (int)(key * 31 + owner) & 0xff, len);
    cache_commit(c, b);
    cache_unref(c, b);
    return true;
}

static bool has(struct cache *c, uint64_t owner, uint64_t key, size_t len)
{
    struct plt_block *b;
    if (cache_claim(c, owner, key, len, true, &b) != PLT_CLAIM_HIT)
        return false;
    const uint8_t want = (uint8_t)((key * 31 + owner) & 0xff);
    const bool is_same =
        b->len == len && b->data[0] == want && b->data[len - 1] == want;
    cache_unref(c, b);
    cr_assert(is_same, "block %ju of %ju has other bytes", (uintmax_t)key,
              (uintmax_t)owner);
    return true;
}

static struct cache_stats stats_of(struct cache *c)
{
    struct cache_stats s;
    cache_stats(c, &s);
    return s;
}

Test(cache, the_first_claim_fills_and_the_next_hits_the_same_bytes)
{
    struct cache *const c = cache_new(1 << 20);
    struct plt_block *a, *b;
    cr_assert_eq(cache_claim(c, 1, 2, BLOCK, false, &a), PLT_CLAIM_FILL);
    cr_assert_eq(a->len, BLOCK);
    memset(a->data, 7, BLOCK);
    cache_commit(c, a);
    cr_assert_eq(cache_claim(c, 1, 2, BLOCK, false, &b), PLT_CLAIM_HIT);
    cr_assert_eq(a, b);
    cr_assert_eq(b->data[BLOCK - 1], 7);
    cache_unref(c, a);
    cache_unref(c, b);
    const struct cache_stats s = stats_of(c);
    cr_assert_eq(s.hits, 1);
    cr_assert_eq(s.fills, 1);
    cr_assert_eq(s.blocks, 1);
    cr_assert_geq(s.bytes, BLOCK);
    cache_free(c);
}

Test(cache, owners_and_keys_never_see_each_others_blocks)
{
    struct cache *const c = cache_new(16 << 20);
    const uint64_t odd[] = {0, 1, 2, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < 6; i++) {
        for (size_t k = 0; k < 6; k++)
            cr_assert(put(c, odd[i], odd[k], 64 + i * 6 + k));
    }
    for (size_t i = 0; i < 6; i++) {
        for (size_t k = 0; k < 6; k++)
            cr_assert(has(c, odd[i], odd[k], 64 + i * 6 + k));
    }
    cr_assert_not(has(c, 3, 1, 64));
    cache_free(c);
}

Test(cache, only_hit_reserves_nothing_and_never_waits)
{
    struct cache *const c = cache_new(1 << 20);
    struct plt_block *a, *b;
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, true, &b), PLT_CLAIM_FULL);
    cr_assert_null(b);
    cr_assert_eq(stats_of(c).bytes, 0);
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, false, &a), PLT_CLAIM_FILL);
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, true, &b), PLT_CLAIM_FULL);
    cr_assert_null(b);
    cache_commit(c, a);
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, true, &b), PLT_CLAIM_HIT);
    cache_unref(c, a);
    cache_unref(c, b);
    cache_free(c);
}

Test(cache, another_length_for_one_key_is_refused)
{
    struct cache *const c = cache_new(1 << 20);
    struct plt_block *b;
    cr_assert(put(c, 1, 1, BLOCK));
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK + 1, false, &b), PLT_CLAIM_FULL);
    cr_assert_null(b);
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK - 1, true, &b), PLT_CLAIM_FULL);
    cr_assert(has(c, 1, 1, BLOCK));
    cache_free(c);
}

Test(cache, an_abandoned_block_leaves_nothing_behind)
{
    struct cache *const c = cache_new(1 << 20);
    struct plt_error err;
    struct plt_block *b;
    (void)!plt_fail(&err, PLT_CORRUPT, "bad crc");
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, false, &b), PLT_CLAIM_FILL);
    cache_abandon(c, b, &err);
    cr_assert_eq(stats_of(c).blocks, 0);
    cr_assert_eq(stats_of(c).bytes, 0);
    cr_assert(put(c, 1, 1, BLOCK)); /* and may be tried again */
    cache_free(c);
}

/* ---- Waiting ---- */

struct waiter {
    struct cache *cache;
    struct plt_block *block;
    struct plt_io io;
    struct plt_error err;
    enum plt_status st;
    uint8_t byte;
};

static void *wait_for(void *arg)
{
    struct waiter *const w = arg;
    w->st = cache_wait(w->cache, w->block, &w->io, &w->err);
    if (w->st == PLT_OK) {
        w->byte = w->block->data[0];
        cache_unref(w->cache, w->block);
    }
    return NULL;
}

/* One fills, one waits on a thread; the filler ends with `how`. */
static struct waiter one_waits(enum plt_status how)
{
    struct cache *const c = cache_new(1 << 20);
    struct waiter w = {.cache = c, .io = make_io(UINT64_MAX)};
    struct plt_block *b;
    pthread_t thread;
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, false, &b), PLT_CLAIM_FILL);
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, false, &w.block),
                 PLT_CLAIM_PENDING);
    cr_assert_eq(pthread_create(&thread, NULL, wait_for, &w), 0);
    usleep(20 * 1000);
    b->data[0] = 99;
    if (how == PLT_OK) {
        cache_commit(c, b);
        cache_unref(c, b);
    } else {
        struct plt_error err;
        (void)!plt_fail_at(&err, how, 4711, "why it failed");
        cache_abandon(c, b, &err);
    }
    (void)pthread_join(thread, NULL);
    cr_assert_eq(stats_of(c).waits, 1);
    cr_assert_eq(stats_of(c).blocks, how == PLT_OK);
    cache_free(c);
    return w;
}

Test(cache, who_waits_gets_what_the_filler_filled)
{
    const struct waiter w = one_waits(PLT_OK);
    cr_assert_eq(w.st, PLT_OK);
    cr_assert_eq(w.byte, 99);
}

Test(cache, who_waits_gets_the_error_of_the_filler)
{
    const struct waiter w = one_waits(PLT_ORIGIN);
    cr_assert_eq(w.st, PLT_ORIGIN);
    cr_assert_eq(w.err.status, PLT_ORIGIN);
    cr_assert_eq(w.err.at, 4711);
    cr_assert_str_eq(w.err.text, "why it failed");
}

Test(cache, a_filler_that_gave_up_for_itself_means_try_again)
{
    const enum plt_status own[] = {PLT_CANCELLED, PLT_TIMEOUT};
    for (size_t i = 0; i < 2; i++) {
        const struct waiter w = one_waits(own[i]);
        cr_assert_eq(w.st, PLT_AGAIN);
        cr_assert_eq(w.err.status, PLT_AGAIN);
    }
}

Test(cache, waiting_ends_at_the_deadline_or_when_withdrawn)
{
    struct cache *const c = cache_new(1 << 20);
    struct plt_block *b, *same;
    struct plt_error err;
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, false, &b), PLT_CLAIM_FILL);

    struct plt_io io = make_io(clock_after_ms(30));
    uint64_t start = clock_now();
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, false, &same), PLT_CLAIM_PENDING);
    cr_assert_eq(cache_wait(c, same, &io, &err), PLT_TIMEOUT);
    cr_assert_lt(clock_now() - start, 5 * NS_PER_S);
    cr_assert_geq(clock_now() - start, 30 * NS_PER_MS);

    io = make_io(UINT64_MAX);
    io.cancelled = is_cancelled;
    start = clock_now();
    cr_assert_eq(cache_claim(c, 1, 1, BLOCK, false, &same), PLT_CLAIM_PENDING);
    cr_assert_eq(cache_wait(c, same, &io, &err), PLT_CANCELLED);
    cr_assert_lt(clock_now() - start, 5 * NS_PER_S);

    /* their references are gone, the filler's is not */
    cache_commit(c, b);
    cache_unref(c, b);
    cache_free(c);
}

/* ---- The budget ---- */

Test(cache, the_budget_is_never_exceeded)
{
    const uint64_t budget = 1 << 20;
    struct cache *const c = cache_new(budget);
    for (uint64_t key = 0; key < 4000; key++) {
        cr_assert(put(c, 1, key, 1 + (size_t)(key * 7919 % 9000)));
        cr_assert_leq(stats_of(c).bytes, budget);
    }
    cr_assert_gt(stats_of(c).evictions, 1000);
    cr_assert_gt(stats_of(c).bytes, budget / 2);
    cache_free(c);
}

Test(cache, freed_buffers_that_are_kept_count_in_the_budget)
{
    const uint64_t budget = 4 << 20;
    struct cache *const c = cache_new(budget);
    for (uint64_t key = 0; key < 400; key++) {
        cr_assert(put(c, 1, key, 64 * 1024 + (size_t)(key % 3) * 65536));
        cr_assert_leq(stats_of(c).bytes, budget);
    }
    cache_drop_owner(c, 1);
    cr_assert_eq(stats_of(c).blocks, 0);
    /* and are given up when something else needs the room */
    for (uint64_t key = 0; key < 1000; key++)
        cr_assert(put(c, 2, key, 1000));
    cr_assert(cache_mem_take(c, budget / 2));
    cr_assert_leq(stats_of(c).bytes, budget);
    cache_mem_give(c, budget / 2);
    cache_free(c);
}

Test(cache, held_blocks_are_never_evicted_and_the_rest_is_told_full)
{
    enum { HELD = 300 };
    struct cache *const c = cache_new(1 << 20);
    struct plt_block *held[HELD], *b;
    size_t n = 0;
    while (n < HELD &&
           cache_claim(c, 1, n, BLOCK, false, &held[n]) == PLT_CLAIM_FILL) {
        memset(held[n]->data, (int)n & 0xff, BLOCK);
        cache_commit(c, held[n]);
        n++;
    }
    cr_assert_gt(n, 200);
    cr_assert_lt(n, 257);
    cr_assert_leq(stats_of(c).bytes, 1 << 20);
    cr_assert_gt(stats_of(c).full, 0);
    cr_assert_eq(cache_claim(c, 2, 1, BLOCK, false, &b), PLT_CLAIM_FULL);
    cr_assert_null(b);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(cache_claim(c, 1, i, BLOCK, true, &b), PLT_CLAIM_HIT,
                     "held block %zu is gone from the table", i);
        cr_assert_eq(b, held[i]);
        cache_unref(c, b);
        cr_assert_eq(held[i]->data[0], i & 0xff);
        cr_assert_eq(held[i]->data[BLOCK - 1], i & 0xff);
        cache_unref(c, held[i]);
    }
    cr_assert(put(c, 2, 1, BLOCK));
    cache_free(c);
}

Test(cache, a_block_larger_than_the_budget_is_full_and_evicts_for_ever_nothing)
{
    struct cache *const c = cache_new(1 << 16);
    struct plt_block *b;
    cr_assert_eq(cache_claim(c, 1, 1, 1 << 20, false, &b), PLT_CLAIM_FULL);
    cr_assert_eq(stats_of(c).bytes, 0);
    cr_assert(put(c, 1, 2, BLOCK));
    cache_free(c);
}

Test(cache, reservations_share_the_budget_and_take_half_at_most)
{
    const uint64_t budget = 1 << 20;
    struct cache *const c = cache_new(budget);
    for (uint64_t key = 0; key < 400; key++)
        cr_assert(put(c, 1, key, BLOCK));
    cr_assert(cache_mem_take(c, budget / 2));
    cr_assert_leq(stats_of(c).bytes, budget);
    cr_assert_eq(stats_of(c).reserved, budget / 2);
    cr_assert_not(cache_mem_take(c, 1));
    cr_assert_not(cache_mem_take(c, UINT64_MAX));
    cr_assert_not(cache_mem_take(c, UINT64_MAX - budget));
    cr_assert_eq(stats_of(c).reserved, budget / 2);
    cache_mem_give(c, budget / 2);
    cr_assert_eq(stats_of(c).reserved, 0);
    cr_assert_not(cache_mem_take(c, budget / 2 + 1));
    cr_assert(cache_mem_take(c, 0));
    cache_free(c);
}

Test(cache, what_is_read_again_survives_a_scan_of_ten_budgets)
{
    enum { HOT = 160, BUDGET_BLOCKS = 4096 };
    struct cache *const c = cache_new((uint64_t)BUDGET_BLOCKS * (BLOCK + 256));
    for (uint64_t key = 0; key < BUDGET_BLOCKS / 2; key++)
        cr_assert(put(c, 3, key, BLOCK)); /* a cache in use */
    for (uint64_t key = 0; key < HOT; key++)
        cr_assert(put(c, 1, key, BLOCK));
    usleep(AFTER_BURST_US);
    for (uint64_t key = 0; key < HOT; key++)
        cr_assert(has(c, 1, key, BLOCK));
    for (uint64_t key = 0; key < 10 * BUDGET_BLOCKS; key++)
        cr_assert(put(c, 2, key, BLOCK));
    unsigned n_left = 0;
    for (uint64_t key = 0; key < HOT; key++)
        n_left += has(c, 1, key, BLOCK);
    cr_assert_eq(n_left, HOT, "%u of %d are left", n_left, HOT);
    cache_free(c);
}

Test(cache, what_was_read_twice_in_one_burst_goes_with_the_scan)
{
    enum { BUDGET_BLOCKS = 4096 };
    struct cache *const c = cache_new((uint64_t)BUDGET_BLOCKS * (BLOCK + 256));
    const uint64_t start = clock_now();
    for (uint64_t key = 0; key < 100; key++)
        cr_assert(put(c, 1, key, BLOCK) && has(c, 1, key, BLOCK));
    const bool is_burst = clock_now() - start < 150 * NS_PER_MS;
    for (uint64_t key = 0; key < 4 * BUDGET_BLOCKS; key++)
        cr_assert(put(c, 2, key, BLOCK));
    unsigned n_left = 0;
    for (uint64_t key = 0; key < 100; key++)
        n_left += has(c, 1, key, BLOCK);
    cr_assert(n_left == 0 || !is_burst, "%u are left", n_left);
    cache_free(c);
}

/* Looked at later than its first burst, which would promote a block that is
 * asked for. */
Test(cache, a_peek_is_no_hit_and_keeps_nothing)
{
    struct cache *const c = cache_new(1 << 20);
    struct plt_block *b, *half;
    cr_assert(put(c, 1, 1, BLOCK));
    cr_assert(put(c, 1, 2, BLOCK));
    usleep(AFTER_BURST_US);
    cr_assert(has(c, 1, 2, BLOCK)); /* one that came back */
    const struct cache_stats before = stats_of(c);
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert(cache_peek(c, 1, 1, BLOCK, &b));
        cr_assert_eq(b->data[0], (1 * 31 + 1) & 0xff);
        cr_assert_not(cache_block_is_kept(b));
        cache_unref(c, b);
        cr_assert_not(cache_peek(c, 1, 3, BLOCK, &b));
        cr_assert_null(b);
        cr_assert_not(cache_peek(c, 1, 1, BLOCK / 2, &b));
        cr_assert_not(cache_peek(c, 2, 1, BLOCK, &b));
    }
    cr_assert_eq(cache_claim(c, 1, 4, BLOCK, false, &half), PLT_CLAIM_FILL);
    cr_assert_not(cache_peek(c, 1, 4, BLOCK, &b)); /* nobody has filled it */
    cache_commit(c, half);
    cr_assert(cache_peek(c, 1, 4, BLOCK, &b));
    cr_assert_eq(b, half);
    cache_unref(c, b);
    cache_unref(c, half);
    const struct cache_stats after = stats_of(c);
    cr_assert_eq(after.hits, before.hits);
    cr_assert_eq(after.waits, before.waits);
    cr_assert_eq(after.full, before.full);
    cr_assert_eq(after.fills, before.fills + 1);
    /* a scan takes what was only looked at, and leaves what came back */
    for (uint64_t key = 0; key < 2000; key++)
        cr_assert(put(c, 3, key, BLOCK));
    cr_assert_not(cache_peek(c, 1, 1, BLOCK, &b));
    cr_assert(has(c, 1, 2, BLOCK));
    cache_free(c);
}

Test(cache, a_layer_that_closes_takes_its_blocks_along_but_for_held_ones)
{
    struct cache *const c = cache_new(1 << 20);
    struct plt_block *b;
    for (uint64_t key = 0; key < 50; key++)
        cr_assert(put(c, 1, key, BLOCK) && put(c, 2, key, BLOCK));
    cr_assert_eq(cache_claim(c, 1, 7, BLOCK, false, &b), PLT_CLAIM_HIT);
    const uint8_t was = b->data[0];
    cache_drop_owner(c, 1);
    cr_assert_eq(stats_of(c).blocks, 51);
    for (uint64_t key = 0; key < 50; key++) {
        cr_assert_not(has(c, 1, key, BLOCK));
        cr_assert(has(c, 2, key, BLOCK));
    }
    cr_assert_eq(b->data[0], was);
    cache_unref(c, b);
    cr_assert_eq(stats_of(c).blocks, 50);
    cache_free(c);
}

/* ---- Many at once ---- */

enum { THREADS = 6, KEYS = 300, ROUNDS = 4000 };

struct racer {
    struct cache *cache;
    unsigned seed;
    unsigned n_wrong, n_ok;
    _Atomic unsigned *filling; /* [KEYS]: fillers now */
};

static void *race(void *arg)
{
    struct racer *const r = arg;
    struct plt_io io = make_io(UINT64_MAX);
    unsigned x = r->seed;
    for (int i = 0; i < ROUNDS; i++) {
        x = x * 1103515245U + 12345U;
        const uint64_t key = x >> 8 & 0xffff ? (x >> 8) % KEYS : 0;
        struct plt_block *b;
        struct plt_error err;
        switch (cache_claim(r->cache, 1, key, BLOCK, i % 5 == 0, &b)) {
        case PLT_CLAIM_FILL:
            if (atomic_fetch_add(&r->filling[key], 1) != 0)
                r->n_wrong++; /* two fill one block */
            memset(b->data, (int)key & 0xff, BLOCK);
            (void)atomic_fetch_sub(&r->filling[key], 1);
            if (x >> 4 & 1) {
                cache_commit(r->cache, b);
                break;
            }
            (void)!plt_fail(&err, PLT_ORIGIN, "no");
            cache_abandon(r->cache, b, &err);
            continue;
        case PLT_CLAIM_PENDING: {
            const enum plt_status st = cache_wait(r->cache, b, &io, &err);
            if (st == PLT_OK)
                break;
            r->n_wrong += st != PLT_ORIGIN;
            continue;
        }
        case PLT_CLAIM_HIT:
            break;
        default:
            continue;
        }
        r->n_wrong +=
            b->data[0] != (key & 0xff) || b->data[BLOCK - 1] != (key & 0xff);
        r->n_ok++;
        cache_unref(r->cache, b);
    }
    return NULL;
}

Test(cache, many_threads_see_one_filler_and_only_whole_blocks)
{
    static _Atomic unsigned filling[KEYS];
    struct cache *const c = cache_new(100 * (BLOCK + 256));
    pthread_t threads[THREADS];
    struct racer r[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        r[i] = (struct racer){.cache = c, .seed = i + 1, .filling = filling};
        cr_assert_eq(pthread_create(&threads[i], NULL, race, &r[i]), 0);
    }
    for (unsigned i = 0; i < 200; i++) {
        cr_expect_leq(stats_of(c).reserved, 50 * (BLOCK + 256));
        if (cache_mem_take(c, 10 * BLOCK))
            cache_mem_give(c, 10 * BLOCK);
        if (i % 50 == 0)
            cache_drop_owner(c, 1);
        usleep(100);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        cr_expect_eq(r[i].n_wrong, 0, "thread %u: %u wrong", i, r[i].n_wrong);
        cr_expect_gt(r[i].n_ok, 100);
    }
    const struct cache_stats s = stats_of(c);
    cr_assert_leq(s.bytes, s.budget);
    cr_assert_eq(s.reserved, 0);
    cache_drop_owner(c, 1);
    cr_assert_eq(stats_of(c).blocks, 0);
    cr_assert_eq(stats_of(c).bytes, 0); /* BLOCK is too short for a spare */
    cache_free(c);
}
