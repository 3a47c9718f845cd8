/* SPDX-License-Identifier: Apache-2.0 */
/* The store by its contract: what it gives out are the bytes of that digest or
 * nothing; what is needed stays; what is not needed goes. */
#include "store_rig.h"

#include <errno.h>

#define LIMIT (UINT64_C(16) << 20)

Test(store, gives_back_what_was_put)
{
    struct rig *const r = rig_new(0, STORE_PLAIN);

    cr_assert_not(rig_has(r, 1));
    cr_assert_eq(rig_put(r, 0, 1000), 1000);
    cr_assert_eq(rig_count(r, 0, 1000), 1000);
    for (uint64_t i = 0; i < 1000; i += 7)
        cr_assert(rig_has(r, i));
    cr_assert_eq(rig_count(r, 1000, 1000), 0);
    const struct store_stats s = rig_stats(r);
    cr_assert_eq(s.leaves, 1000);
    cr_assert_eq(s.put, 1000);
    cr_assert_eq(s.passed_by, 0);
    cr_assert_eq(s.segments, 1);
    cr_assert_eq(s.damaged, 0);
    cr_assert(s.disk_bytes > 1000 * 4096 && s.disk_bytes < 1000 * 4200);
    rig_free(r);
}

Test(store, keeps_a_leaf_once)
{
    struct rig *const r = rig_new(0, STORE_PLAIN);

    cr_assert_eq(rig_put(r, 0, 300), 300);
    const uint64_t bytes = rig_stats(r).disk_bytes;
    cr_assert_eq(rig_put(r, 0, 300), 0);
    cr_assert_eq(rig_put(r, 100, 300), 100);
    const struct store_stats s = rig_stats(r);
    cr_assert_eq(s.leaves, 400);
    cr_assert_eq(s.passed_by, 500);
    cr_assert(s.disk_bytes - bytes < 101 * 4200);
    rig_free(r);
}

Test(store, keeps_a_leaf_once_that_is_twice_in_a_call)
{
    struct rig *const r = rig_new(0, STORE_PLAIN);
    uint8_t data[4 * STORE_LEAF], digests[4][STORE_DIGEST];
    size_t added;

    leaves_make(0, 2, data, digests);
    leaves_make(0, 2, data + 2 * STORE_LEAF, digests + 2);
    OK(store_put(r->store, 4, (const uint8_t(*)[STORE_DIGEST])digests, data,
                 &added, &r->err));
    cr_assert_eq(added, 2);
    cr_assert_eq(rig_stats(r).leaves, 2);
    cr_assert_eq(rig_count(r, 0, 2), 2);
    rig_free(r);
}

static void restart(enum store_compression compression)
{
    struct rig *const r = rig_new(LIMIT * 8, compression);

    /* segments are 2 MiB: some are sealed, and a tail */
    rig_put(r, 0, 3000);
    rig_again(r);
    cr_assert_eq(rig_stats(r).leaves, 3000);
    cr_assert_eq(rig_count(r, 0, 3000), 3000);
    cr_assert_eq(rig_put(r, 0, 3010), 10);
    rig_again(r);
    cr_assert_eq(rig_count(r, 0, 3010), 3010);
    cr_assert_eq(rig_stats(r).leaves, 3010);
    rig_free(r);
}

Test(store, has_everything_after_a_restart)
{
    restart(STORE_PLAIN);
}

Test(store, has_everything_after_a_restart_compressed)
{
    restart(STORE_ZSTD);
}

Test(store, compresses_and_reads_both_kinds)
{
    struct rig *const r = rig_new(0, STORE_ZSTD);

    rig_put(r, 0, 1000);
    const uint64_t bytes = rig_stats(r).disk_bytes;
    cr_assert(bytes < 1000 * 4096 / 2, "%llu", (unsigned long long)bytes);
    r->config.compression = STORE_PLAIN;
    rig_again(r);
    rig_put(r, 1000, 1000);
    cr_assert(rig_stats(r).disk_bytes > bytes + 1000 * 4096);
    cr_assert_eq(rig_count(r, 0, 2000), 2000);
    r->config.compression = STORE_ZSTD;
    r->config.level = 1;
    rig_again(r);
    cr_assert_eq(rig_put(r, 500, 2500), 1000);
    cr_assert_eq(rig_count(r, 0, 3000), 3000);
    for (uint64_t i = 0; i < 3000; i += 11)
        cr_assert(rig_has(r, i));
    rig_free(r);
}

Test(store, finds_a_digest_by_its_first_bytes)
{
    struct rig *const r = rig_new(0, STORE_PLAIN);
    uint8_t leaf[STORE_LEAF], digest[STORE_DIGEST], got[STORE_DIGEST];

    rig_put(r, 0, 100);
    for (uint64_t i = 0; i < 200; i++) {
        leaf_make(i, leaf);
        leaf_digest(leaf, digest);
        const enum plt_status st = store_find(r->store, digest, got, &r->err);
        cr_assert_eq(st, i < 100 ? PLT_OK : PLT_NOT_FOUND);
        cr_assert(st != PLT_OK || memcmp(got, digest, STORE_DIGEST) == 0);
    }
    rig_free(r);
}

Test(store, is_one_process_own)
{
    struct rig *const r = rig_new(0, STORE_PLAIN);
    struct store *other = NULL;

    cr_assert_eq(store_open(&r->config, &other, &r->err), PLT_BUSY);
    rig_again(r);
    rig_free(r);
}

Test(store, stays_within_its_limit)
{
    struct rig *const r = rig_new(LIMIT, STORE_PLAIN);
    uint8_t data[16 * STORE_LEAF], digests[16][STORE_DIGEST];
    enum plt_status st = PLT_OK;
    uint64_t n = 0;

    for (; st == PLT_OK && n < 100000; n += 16) {
        leaves_make(n, 16, data, digests);
        st = store_put(r->store, 16, (const uint8_t(*)[STORE_DIGEST])digests,
                       data, NULL, &r->err);
    }
    cr_assert_eq(st, PLT_NOMEM);
    cr_assert_eq(r->err.sys, ENOSPC);
    n -= 16;
    cr_assert(n > LIMIT / 4096 / 5 * 4, "%llu", (unsigned long long)n);
    cr_assert_not(store_may_have(r->store, digests[3]));
    cr_assert(rig_stats(r).disk_bytes <= LIMIT);
    cr_assert_eq(rig_count(r, 0, n), n);
    rig_again(r);
    cr_assert(rig_stats(r).disk_bytes <= LIMIT);
    cr_assert_eq(rig_count(r, 0, n), n);
    rig_free(r);
}

/* ---- Sweeps ---- */

struct marks {
    struct rig *r;
    uint64_t step, end; /* every step-th leaf below end is needed */
    uint64_t put;       /* is put while it marks, if not 0 */
    uint64_t held;      /* is held while it marks, if not 0 */
    bool is_failing;
};

static enum plt_status mark(void *cookie, struct store_sweep *sweep,
                            struct plt_error *err)
{
    const struct marks *const m = cookie;
    uint8_t data[STORE_LEAF], digest[1][STORE_DIGEST];

    for (uint64_t i = 0; m->step && i < m->end; i += m->step) {
        leaves_make(i, 1, data, digest);
        store_sweep_keep(sweep, 1, (const uint8_t(*)[STORE_DIGEST])digest);
    }
    if (m->put)
        rig_put(m->r, m->put, 1);
    leaves_make(m->held, 1, data, digest);
    if (m->held)
        cr_assert_eq(
            store_hold(m->r->store, 1, (const uint8_t(*)[STORE_DIGEST])digest),
            0);
    return m->is_failing ? plt_fail(err, PLT_CORRUPT, "a mark") : PLT_OK;
}

static enum plt_status sweep(struct rig *r, const struct marks *marks,
                             uint64_t target)
{
    struct marks m = *marks;
    m.r = r;
    return store_sweep(r->store, mark, &m, target, NULL, &r->err);
}

static uint64_t bytes_of_files(const struct rig *r)
{
    DIR *const dir = opendir(r->path);
    struct stat sb;
    uint64_t bytes = 0;

    for (const struct dirent *e; (e = readdir(dir));) {
        cr_assert(fstatat(dirfd(dir), e->d_name, &sb, 0) == 0);
        if (S_ISREG(sb.st_mode))
            bytes += (uint64_t)sb.st_size;
    }
    closedir(dir);
    return bytes;
}

static void sweep_keeps(enum store_compression compression)
{
    struct rig *const r = rig_new(LIMIT * 8, compression);

    rig_put(r, 0, 8000);
    const uint64_t before = rig_stats(r).disk_bytes;
    cr_assert_eq(sweep(r, &(struct marks){.step = 10, .end = 8000}, 0), PLT_OK);
    const struct store_stats s = rig_stats(r);
    cr_assert_eq(s.leaves, 800);
    cr_assert(s.disk_bytes < before / 4, "%llu of %llu",
              (unsigned long long)s.disk_bytes, (unsigned long long)before);
    cr_assert(s.swept_bytes > before / 2);
    cr_assert_eq(s.disk_bytes, bytes_of_files(r));
    for (int again = 0; again < 2; again++) {
        for (uint64_t i = 0; i < 8000; i++)
            cr_assert_eq(rig_has(r, i), i % 10 == 0);
        rig_again(r);
    }
    cr_assert_eq(rig_put(r, 0, 8000), 7200);
    cr_assert_eq(rig_count(r, 0, 8000), 8000);
    rig_free(r);
}

Test(store, sweep_keeps_what_is_needed_and_gives_the_rest_back)
{
    sweep_keeps(STORE_PLAIN);
}

Test(store, sweep_keeps_what_is_needed_compressed)
{
    sweep_keeps(STORE_ZSTD);
}

Test(store, what_is_held_during_a_sweep_is_kept_and_what_is_not_there_is_told)
{
    struct rig *const r = rig_new(0, STORE_PLAIN);
    uint8_t data[2 * STORE_LEAF], digests[2][STORE_DIGEST];

    rig_put(r, 0, 100);
    cr_assert_eq(sweep(r, &(struct marks){.held = 7}, 0), PLT_OK);
    cr_assert(rig_has(r, 7));
    cr_assert_not(rig_has(r, 8));
    leaves_make(7, 2, data, digests);
    cr_assert_eq(
        store_hold(r->store, 2, (const uint8_t(*)[STORE_DIGEST])digests), 1);
    rig_free(r);
}

Test(store, sweep_of_everything_leaves_nothing)
{
    struct rig *const r = rig_new(LIMIT, STORE_PLAIN);

    rig_put(r, 0, 2000);
    OK(sweep(r, &(struct marks){.step = 0}, 0));
    const struct store_stats s = rig_stats(r);
    cr_assert_eq(s.leaves, 0);
    cr_assert_eq(s.segments, 0);
    cr_assert_eq(s.disk_bytes, 0);
    cr_assert_eq(bytes_of_files(r), 0);
    cr_assert_eq(rig_put(r, 0, 2000), 2000);
    rig_free(r);
}

Test(store, sweep_makes_room_at_the_limit)
{
    struct rig *const r = rig_new(LIMIT, STORE_PLAIN);
    uint8_t data[16 * STORE_LEAF], digests[16][STORE_DIGEST];
    uint64_t n = 0;

    for (int round = 0; round < 4; round++) {
        for (;; n += 16) {
            leaves_make(n, 16, data, digests);
            if (store_put(r->store, 16, (const uint8_t(*)[STORE_DIGEST])digests,
                          data, NULL, &r->err) != PLT_OK)
                break;
        }
        cr_assert_eq(r->err.status, PLT_NOMEM);
        OK(sweep(r, &(struct marks){.step = 5, .end = n}, 0));
        cr_assert(rig_stats(r).disk_bytes <= LIMIT);
        for (uint64_t i = 0; i < n; i += 5)
            cr_assert(rig_has(r, i));
    }
    cr_assert(n > 2 * LIMIT / 4096);
    rig_free(r);
}

Test(store, sweep_goes_on_to_its_target)
{
    struct rig *const r = rig_new(LIMIT * 8, STORE_PLAIN);
    const struct marks most = {.step = 4, .end = 4000};

    /* Three quarters are needed: nothing is worth it by itself. */
    rig_put(r, 0, 4000);
    struct marks m = most;
    m.step = 1;
    m.end = 3000;
    OK(sweep(r, &m, 0));
    cr_assert_eq(rig_stats(r).leaves, 3000);
    const uint64_t bytes = rig_stats(r).disk_bytes;
    OK(sweep(r, &most, bytes));
    cr_assert(rig_stats(r).disk_bytes <= bytes);
    OK(sweep(r, &most, 1));
    cr_assert(rig_stats(r).disk_bytes < 750 * 4300);
    cr_assert_eq(rig_stats(r).leaves, 750);
    for (uint64_t i = 0; i < 3000; i++)
        cr_assert_eq(rig_has(r, i), i % 4 == 0);
    rig_free(r);
}

Test(store, sweep_keeps_what_is_put_or_put_again_meanwhile)
{
    struct rig *const r = rig_new(LIMIT, STORE_PLAIN);

    rig_put(r, 0, 1000);
    OK(sweep(r, &(struct marks){.step = 0, .put = 500}, 0));
    cr_assert(rig_has(r, 500));
    cr_assert_eq(rig_stats(r).leaves, 1);
    OK(sweep(r, &(struct marks){.step = 0, .put = 5000}, 0));
    cr_assert(rig_has(r, 5000));
    cr_assert_eq(rig_stats(r).leaves, 1);
    rig_free(r);
}

Test(store, sweep_whose_marking_fails_keeps_all)
{
    struct rig *const r = rig_new(LIMIT, STORE_PLAIN);

    rig_put(r, 0, 1000);
    cr_assert_eq(sweep(r, &(struct marks){.is_failing = true}, 0), PLT_CORRUPT);
    cr_assert_eq(rig_count(r, 0, 1000), 1000);
    rig_free(r);
}

static bool is_stopped(void *cookie)
{
    (void)cookie;
    return true;
}

Test(store, sweep_stops_when_it_is_told)
{
    struct rig *const r = rig_new(LIMIT, STORE_PLAIN);
    struct marks m = {.r = r, .step = 2, .end = 1000};

    rig_put(r, 0, 1000);
    cr_assert_eq(store_sweep(r->store, mark, &m, 0, is_stopped, &r->err),
                 PLT_CANCELLED);
    for (uint64_t i = 0; i < 1000; i += 2)
        cr_assert(rig_has(r, i));
    OK(sweep(r, &m, 0));
    cr_assert_eq(rig_stats(r).leaves, 500);
    rig_free(r);
}

/* ---- Memory ---- */

Test(store, index_grows_and_forgets)
{
    struct rig *const r = rig_new(0, STORE_ZSTD);
    const size_t n = 60000; /* of 48 Ki that the first table takes */

    rig_put(r, 0, n);
    cr_assert_eq(rig_count(r, 0, n), n);
    OK(sweep(r, &(struct marks){.step = 100, .end = n}, 0));
    cr_assert_eq(rig_stats(r).leaves, n / 100);
    cr_assert_eq(rig_put(r, 0, n), n - n / 100);
    rig_again(r);
    cr_assert_eq(rig_count(r, 0, n), n);
    rig_free(r);
}

/* ---- Many files ---- */

static size_t open_files(void)
{
    DIR *const dir = opendir("/proc/self/fd");
    size_t n = 0;

    cr_assert(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

Test(store, keeps_few_files_open_and_merges_small_segments)
{
    struct rig *const r = rig_new(0, STORE_PLAIN);
    const unsigned n = 160;
    char name[32];

    for (unsigned i = 0; i < n; i++) {
        /* A file of the next number: what is before it is no tail any more. */
        rig_put(r, i * 4, 4);
        rig_close(r);
        snprintf(name, sizeof(name), "%08u.seg", 2 * i + 2);
        const int fd = openat(r->config.dir, name, O_CREAT | O_WRONLY, 0600);
        cr_assert(fd >= 0 && close(fd) == 0);
        rig_open(r);
    }
    cr_assert_eq(rig_stats(r).segments, n);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(rig_count(r, 0, n * 4), n * 4);
    cr_assert(open_files() < 150, "%zu", open_files());
    OK(sweep(r, &(struct marks){.step = 1, .end = n * 4}, 0));
    cr_assert_leq(rig_stats(r).segments, 2);
    cr_assert_eq(rig_count(r, 0, n * 4), n * 4);
    rig_again(r);
    cr_assert_eq(rig_count(r, 0, n * 4), n * 4);
    rig_free(r);
}
