/* SPDX-License-Identifier: Apache-2.0 */
/* What goes on beside the fetching: leaves that nobody needs any more are given
 * back, and what lies at rest is read and hashed, slowly. */
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    TICK_MS = 500,
    SAVE_AGAIN_MS = 5000,
    SAVE_NEWS_MS = 30000, /* of histories: what happened is not worth a write
                             each time */
    SWEEP_EACH_S = 3600,
    SCRUB_STEP = 4 << 20
};

static bool is_stopped(void *cookie)
{
    return atomic_load(&((struct mirrors *)cookie)->is_stopping);
}

/* ---- Sweeping ---- */

static enum plt_status mark_version(struct mirrors *all, struct version *v,
                                    struct store_sweep *sweep,
                                    struct plt_error *err)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    struct plt_error ignored;
    size_t n;

    if (v->out) /* none of it is in the store */
        return PLT_OK;
    for (uint64_t g = 0; g < v->n_groups; g++) {
        if (is_stopped(all))
            return plt_fail(err, PLT_CANCELLED, "a sweep");
        /* What is not known can have no leaves; what is damaged is fetched. */
        if (manifest_file_leaves(v->file, g, leaves, &n, &ignored) == PLT_OK)
            store_sweep_keep(sweep, n, (const uint8_t(*)[STORE_DIGEST])leaves);
    }
    return PLT_OK;
}

/* Every version that is alive: readers hold old ones. */
static enum plt_status mark(void *cookie, struct store_sweep *sweep,
                            struct plt_error *err)
{
    struct mirrors *const all = (struct mirrors *)cookie;
    enum plt_status st = PLT_OK;
    size_t n;

    struct version **const list = versions_all(all, &n);
    if (!list)
        return plt_fail(err, PLT_NOMEM, "a sweep");
    for (size_t i = 0; i < n; i++) {
        if (st == PLT_OK)
            st = mark_version(all, list[i], sweep, err);
        version_unref(list[i]);
    }
    free(list);
    return st;
}

static void sweep(struct mirrors *all)
{
    struct store_stats before, after;
    struct plt_error err;
    struct log_line l;

    store_stats(all->store, &before);
    const enum plt_status st =
        store_sweep(all->store, mark, all, 0, is_stopped, &err);
    store_stats(all->store, &after);
    if (st == PLT_CANCELLED || st == PLT_BUSY)
        return;
    log_begin(&l, st == PLT_OK ? LOG_INFO : LOG_WARN, "store_swept");
    log_number(&l, "leaves", after.leaves);
    log_number(&l, "disk_bytes", after.disk_bytes);
    log_number(&l, "given_back", after.swept_bytes - before.swept_bytes);
    if (st != PLT_OK)
        log_text(&l, "text", err.text);
    log_end(&l);
}

/* ---- Scrubbing ---- */

static void damaged(void *cookie, const uint8_t digest[STORE_DIGEST])
{
    (void)digest;
    *(bool *)cookie = true;
}

/* Every version looks again what of it is here, and fetches the rest. */
static void recheck_all(struct mirrors *all)
{
    size_t n;

    struct version **const list = versions_all(all, &n);
    for (size_t i = 0; i < n; i++) {
        version_recheck(list[i]);
        version_unref(list[i]);
    }
    free(list);
}

/* Some groups of each output, in turn, as the store's leaves. */
static void scrub_output(struct version *v, uint64_t bytes)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    struct plt_error ignored;
    size_t n = 0;

    if (!v->out || !atomic_load(&v->is_complete) || !v->n_groups)
        return;
    for (uint64_t done = 0; done < bytes; done += MANIFEST_GROUP) {
        const uint64_t g = v->scrub_group++ % v->n_groups;
        bool is_whole =
            manifest_file_leaves(v->file, g, leaves, &n, &ignored) == PLT_OK;
        for (size_t i = 0; i < n && is_whole; i++)
            is_whole =
                out_get(v->out, g * MANIFEST_LEAVES + i, leaves[i], NULL);
        if (is_whole)
            continue;
        struct log_line l;
        log_begin(&l, LOG_WARN, "scrub_found_damage");
        log_text(&l, "mirror", v->mirror->entry.name);
        log_number(&l, "offset", g * MANIFEST_GROUP);
        log_end(&l);
        version_recheck(v);
        return;
    }
}

static void scrub_outputs(struct mirrors *all, uint64_t bytes)
{
    size_t n;

    struct version **const list = versions_all(all, &n);
    for (size_t i = 0; i < n; i++) {
        scrub_output(list[i], bytes);
        version_unref(list[i]);
    }
    free(list);
}

static uint64_t scrub(struct mirrors *all)
{
    const uint64_t rate = all->config.scrub_rate;
    const uint64_t step = rate < SCRUB_STEP ? rate : SCRUB_STEP;
    bool is_damaged = false;
    struct plt_error err;
    struct log_line l;

    if (store_scrub(all->store, &all->scrub_place, step, damaged, &is_damaged,
                    &err) != PLT_OK) {
        log_begin(&l, LOG_WARN, "scrub_failed");
        log_text(&l, "text", err.text);
        log_end(&l);
        return clock_after_ms(60000);
    }
    scrub_outputs(all, step);
    (void)atomic_fetch_add(&all->scrubbed_bytes, step);
    if (!all->scrub_place)
        (void)atomic_fetch_add(&all->scrub_rounds, 1);
    if (is_damaged) {
        log_begin(&l, LOG_WARN, "scrub_found_damage");
        log_end(&l);
        recheck_all(all);
    }
    return clock_after_ms(step * 1000 / rate);
}

/* ---- */

static void save(struct mirrors *all)
{
    struct plt_error ignored; /* it was told when it failed first */

    ignored.status = mirrors_save(all, &ignored);
}

void *keeper_run(void *arg)
{
    struct mirrors *const all = (struct mirrors *)arg;
    uint64_t scrub_ns = clock_after_ms(1000);
    uint64_t save_ns = 0, news_ns = 0;
    uint64_t sweep_ns = clock_after_ms((uint64_t)SWEEP_EACH_S * 1000);

    while (!is_stopped(all)) {
        const uint64_t now = clock_now();
        if (atomic_exchange(&all->must_sweep, false) || now >= sweep_ns) {
            sweep(all);
            sweep_ns = clock_after_ms((uint64_t)SWEEP_EACH_S * 1000);
        }
        if (all->config.scrub_rate && now >= scrub_ns)
            scrub_ns = scrub(all);
        if ((atomic_load(&all->is_unsaved) && now >= save_ns) ||
            (atomic_load(&all->has_news) && now >= news_ns)) {
            save(all);
            save_ns = clock_after_ms(SAVE_AGAIN_MS);
            news_ns = clock_after_ms(SAVE_NEWS_MS);
        }
        seeds_tick(all->seeds);
        lock_take(&all->lock);
        if (!is_stopped(all))
            (void)cond_wait(&all->work, &all->lock, clock_after_ms(TICK_MS));
        lock_give(&all->lock);
    }
    if (atomic_load(&all->has_news))
        save(all);
    return NULL;
}
