/* SPDX-License-Identifier: Apache-2.0 */
/* What a successful store_sync covered is there after a power cut, at whatever
 * call it comes, and whatever failed before: writes, syncs, removals.  A failed
 * sync takes with it what it did not write, as disks do. */
#include "store_rig.h"

#include "store_disk.h"

enum {
    LEAVES = 4000, /* numbers that are in use */
    CUTS = 12,     /* of each run */
    STEPS = 25     /* of the load before each */
};

struct model {
    struct rig *r;
    bool put[LEAVES];  /* is there */
    bool kept[LEAVES]; /* has to be there after a cut */
    uint64_t mod;      /* a sweep keeps multiples */
    unsigned n_synced;
};

static void put_some(struct model *m)
{
    static uint8_t data[STORE_BATCH * STORE_LEAF];
    static uint8_t digests[STORE_BATCH][STORE_DIGEST];
    const size_t n = 1 + disk_random(disk_random(4) ? 40 : STORE_BATCH);
    const uint64_t first = disk_random(LEAVES - n);

    leaves_make(first, n, data, digests);
    if (store_put(m->r->store, n, (const uint8_t(*)[STORE_DIGEST])digests, data,
                  NULL, &m->r->err) != PLT_OK)
        return;
    memset(m->put + first, true, n);
}

static void sync_all(struct model *m)
{
    if (store_sync(m->r->store, &m->r->err) != PLT_OK)
        return;
    memcpy(m->kept, m->put, sizeof(m->put));
    m->n_synced++;
}

static enum plt_status keep(void *cookie, struct store_sweep *sweep,
                            struct plt_error *err)
{
    const struct model *const m = cookie;
    uint8_t data[STORE_LEAF], digest[1][STORE_DIGEST];

    (void)err;
    for (uint64_t i = 0; i < LEAVES; i += m->mod) {
        if (!m->put[i])
            continue;
        leaves_make(i, 1, data, digest);
        store_sweep_keep(sweep, 1, (const uint8_t(*)[STORE_DIGEST])digest);
    }
    return PLT_OK;
}

static void sweep(struct model *m)
{
    m->mod = 1 + disk_random(5);
    for (uint64_t i = 0; i < LEAVES; i++) {
        m->put[i] &= i % m->mod == 0;
        m->kept[i] &= i % m->mod == 0;
    }
    const enum plt_status st = store_sweep(
        m->r->store, keep, m, disk_random(3) ? 0 : 1, NULL, &m->r->err);
    cr_assert(st == PLT_OK || disk_failed(), "%s", m->r->err.text);
}

static void check_live(struct model *m)
{
    for (uint64_t i = disk_random(7); i < LEAVES; i += 7)
        cr_assert(!m->put[i] || rig_has(m->r, i), "leaf %llu is not there",
                  (unsigned long long)i);
}

static void step(struct model *m)
{
    const uint64_t what = disk_random(100);

    if (what < 70)
        put_some(m);
    else if (what < 90)
        sync_all(m);
    else if (what < 95)
        sweep(m);
    else
        check_live(m);
}

/* A start over what the cut left. */
static void check_cut(struct model *m, struct rig *after)
{
    struct rig *const r = after;

    rig_open(after);
    for (uint64_t i = 0; i < LEAVES; i++) {
        if (!m->kept[i])
            continue;
        cr_assert(rig_has(after, i), "leaf %llu was synced",
                  (unsigned long long)i);
    }
    /* Go on with it: all can be put, and is there the next time. */
    rig_put(after, 0, 300);
    OK(store_sync(after->store, &after->err));
    rig_again(after);
    cr_assert_eq(rig_count(after, 0, 300), 300);
}

static struct rig *folder(void)
{
    struct rig *const r = rig_new(64 << 20, STORE_PLAIN);
    rig_close(r);
    return r;
}

static void run(uint64_t seed, unsigned write_rate, unsigned sync_rate,
                unsigned *n_synced, unsigned *n_cut)
{
    struct model *const m = calloc(1, sizeof(*m));
    struct rig *const r = rig_new(
        64 << 20, seed % 2 ? STORE_ZSTD : STORE_PLAIN); /* 2 MiB a segment */

    rig_close(r);
    m->r = r;
    disk_watch(r->config.dir, seed);
    rig_open(r);
    for (int i = 0; i < CUTS; i++) {
        struct rig *const after = folder();
        disk_set_failing(write_rate, sync_rate);
        for (int k = 0; k < STEPS; k++)
            step(m);
        disk_cut_after((unsigned)(1 + disk_random(12)), after->config.dir);
        for (int k = 0; k < 200 && !disk_was_cut(); k++) {
            /* What a call in which it is cut promises counts from its end. */
            struct model before = *m;
            step(m);
            if (!disk_was_cut())
                continue;
            for (uint64_t n = 0; n < LEAVES; n++)
                before.kept[n] &= m->kept[n]; /* a sweep takes back */
            disk_set_failing(0, 0);
            check_cut(&before, after);
            ++*n_cut;
        }
        rig_free(after);
        check_live(m);
    }
    *n_synced += m->n_synced;
    disk_set_failing(0, 0);
    rig_close(r);
    disk_unwatch();
    rig_open(r);
    check_live(m);
    rig_free(r);
    free(m);
}

static void runs(uint64_t first, unsigned n, unsigned write_rate,
                 unsigned sync_rate)
{
    unsigned n_synced = 0, n_cut = 0;

    log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    for (uint64_t seed = first; seed < first + n; seed++)
        run(seed, write_rate, sync_rate, &n_synced, &n_cut);
    cr_assert(n_cut >= n * CUTS / 2, "%u cuts", n_cut);
    cr_assert(n_synced > n * 5, "%u syncs", n_synced);
}

Test(power, cut_at_any_call_keeps_what_was_synced)
{
    runs(1, 5, 0, 0);
}

Test(power, cut_after_failing_writes_keeps_what_was_synced)
{
    runs(100, 5, 100, 0);
}

Test(power, cut_after_failing_syncs_keeps_what_was_synced)
{
    runs(200, 5, 0, 200);
}

Test(power, cut_after_both_keeps_what_was_synced)
{
    runs(300, 5, 60, 150);
}

Test(power, a_start_that_cannot_sync_fails_and_harms_nothing)
{
    struct rig *const r = rig_new(64 << 20, STORE_PLAIN);

    rig_put(r, 0, 700); /* a full segment, and a tail */
    rig_close(r);
    disk_watch(r->config.dir, 1);
    disk_set_failing(0, 1000);
    cr_assert_eq(store_open(&r->config, &r->store, &r->err), PLT_IO);
    r->store = NULL;
    disk_unwatch();
    rig_open(r);
    cr_assert_eq(rig_count(r, 0, 700), 700);
    rig_free(r);
}

Test(power, no_sync_succeeds_before_what_failed_is_on_the_disk)
{
    struct rig *const r = folder(), *const after = folder();

    disk_watch(r->config.dir, 1);
    rig_open(r);
    rig_put(r, 0, 100);
    disk_set_failing(0, 1000);
    for (int i = 0; i < 50; i++) {
        cr_assert_eq(store_sync(r->store, &r->err), PLT_IO);
        rig_put(r, 100 + (uint64_t)i, 1);
    }
    cr_assert_eq(rig_count(r, 0, 150), 150);
    disk_set_failing(0, 0);
    OK(store_sync(r->store, &r->err));
    disk_cut_after(0, after->config.dir);
    rig_open(after);
    cr_assert_eq(rig_count(after, 0, 150), 150);
    cr_assert_eq(rig_count(r, 0, 150), 150);
    cr_assert(rig_stats(r).segments < 60);
    rig_free(after);
    rig_free(r);
    disk_unwatch();
}
