/* SPDX-License-Identifier: Apache-2.0 */
/* One version of a disk: which of its groups are here.
 *
 * Nothing of that is written down.  The manifest's file says which digests a
 * group has, and the store which leaves are there; after a start the two are
 * compared again. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cache/cache.h"
#include "manifest/manifest_head.h"
#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"

/* Bytes of memory for a group, its digest in the file's memory included. */
enum { PER_GROUP = 48 };

static void make_name(char *out, size_t cap)
{
    uint64_t n;

    ASSERT(getrandom(&n, sizeof(n), 0) == sizeof(n));
    (void)snprintf(out, cap, "%016llx.manifest", (unsigned long long)n);
}

enum plt_status version_new(struct mirror *mirror, uint64_t size,
                            const char *file_name, struct version **out,
                            struct plt_error *err)
{
    struct version *const v = calloc(1, sizeof(*v));
    const uint64_t n = manifest_groups(size);

    if (!v)
        return plt_fail(err, PLT_NOMEM, "a version");
    v->refs = 1;
    v->mirrors = mirror->mirrors;
    v->mirror = mirror;
    mirror_ref(mirror);
    (void)atomic_fetch_add(&mirror->n_versions, 1);
    v->size = size;
    v->n_groups = n;
    v->told_data = UINT64_MAX;
    lock_init(&v->lock);
    ASSERT(getrandom(v->salt, sizeof(v->salt), 0) == sizeof(v->salt));
    if (file_name[0])
        (void)snprintf(v->file_name, sizeof(v->file_name), "%s", file_name);
    else
        make_name(v->file_name, sizeof(v->file_name));
    const uint64_t held = n * PER_GROUP + manifest_head_held(size);
    enum plt_status st = PLT_OK;
    if (n >= UINT32_MAX ||
        !cache_mem_take(images_cache(mirror->mirrors->images), held)) {
        st = plt_fail(err, PLT_NOMEM,
                      "a disk of %llu MiB to be mirrored: it would take %llu "
                      "MiB of the cache",
                      (unsigned long long)n, (unsigned long long)(held >> 20));
    } else {
        v->held = held;
        v->state = calloc(n + 1, sizeof(*v->state));
        v->here = calloc(n + 1, sizeof(*v->here));
        v->data = calloc(n + 1, sizeof(*v->data));
        st = v->state && v->here && v->data
                 ? manifest_file_open(mirror->mirrors->dir, v->file_name, size,
                                      &v->file, err)
                 : plt_fail(err, PLT_NOMEM, "a version");
    }
    if (st != PLT_OK) {
        version_unref(v);
        return st;
    }
    struct mirrors *const all = v->mirrors;
    lock_take(&all->versions_lock);
    v->next_alive = all->versions;
    if (v->next_alive)
        v->next_alive->previous_alive = v;
    all->versions = v;
    all->n_versions++;
    v->is_listed = true;
    lock_give(&all->versions_lock);
    *out = v;
    return PLT_OK;
}

struct version **versions_all(struct mirrors *all, size_t *n)
{
    *n = 0;
    lock_take(&all->versions_lock);
    struct version **const list =
        calloc(all->n_versions + 1, sizeof(struct version *));
    for (struct version *v = list ? all->versions : NULL; v;
         v = v->next_alive) {
        unsigned refs = atomic_load(&v->refs);
        /* One that is about to go waits for the lock, with none. */
        while (refs && !atomic_compare_exchange_weak(&v->refs, &refs, refs + 1))
            ;
        if (refs)
            list[(*n)++] = v;
    }
    lock_give(&all->versions_lock);
    return list;
}

static void unlist(struct version *v)
{
    struct mirrors *const all = v->mirrors;

    lock_take(&all->versions_lock);
    if (v->next_alive)
        v->next_alive->previous_alive = v->previous_alive;
    if (v->previous_alive)
        v->previous_alive->next_alive = v->next_alive;
    else
        all->versions = v->next_alive;
    all->n_versions--;
    lock_give(&all->versions_lock);
}

void version_give_memory(struct version *v)
{
    if (v->held)
        cache_mem_give(images_cache(v->mirrors->images), v->held);
    v->held = 0;
}

void version_ref(struct version *v)
{
    (void)atomic_fetch_add(&v->refs, 1);
}

void version_unref(struct version *v)
{
    if (!v || atomic_fetch_sub(&v->refs, 1) > 1)
        return;
    struct mirrors *const all = v->mirrors;
    if (v->is_listed)
        unlist(v);
    manifest_file_unref(v->file);
    /* While mirrors end, what is kept is what mirrors.json names; it may name
     * this one while it could not be written.  A start removes what it does
     * not. */
    if (!atomic_load(&all->is_stopping)) {
        if (!atomic_load(&all->is_unsaved))
            (void)unlinkat(all->dir, v->file_name, 0);
        /* One that kept nothing, as far as is known, is not worth it: its
         * manifest was damaged, and the next version finds its leaves. */
        if (v->n_here && !v->out)
            atomic_store(&all->must_sweep, true);
    }
    out_close(v->out);
    version_give_memory(v);
    free(v->state);
    free(v->here);
    free(v->data);
    free(v->order);
    lock_release(&v->lock);
    (void)atomic_fetch_sub(&v->mirror->n_versions, 1);
    mirror_changed(v->mirror);
    mirror_unref(v->mirror);
    free(v);
}

/* How many of these are not zeros, and how many of those are here.  Zeros must
 * be in an output, too. */
static void count(const struct version *v, uint64_t g,
                  const manifest_digest *leaves, size_t n, size_t *data,
                  size_t *here)
{
    *data = *here = 0;
    for (size_t i = 0; i < n; i++) {
        const bool is_zero = manifest_is_zero_leaf(leaves[i]);
        const bool is_here =
            v->out ? out_get(v->out, g * MANIFEST_LEAVES + i, leaves[i], NULL)
                   : is_zero || store_may_have(v->mirrors->store, leaves[i]);
        if (is_zero && is_here)
            continue;
        (*data)++;
        *here += is_here;
    }
}

void version_check(struct version *v)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    struct plt_error ignored;
    size_t n, data, here;

    lock_take(&v->lock);
    const unsigned asked = v->n_rechecks;
    lock_give(&v->lock);
    for (uint64_t g = 0; g < v->n_groups; g++) {
        if (atomic_load(&v->mirrors->is_stopping))
            return;
        lock_take(&v->lock);
        const bool is_ours = v->state[g] != GROUP_TAKEN;
        if (is_ours)
            v->state[g] = GROUP_TAKEN;
        lock_give(&v->lock);
        if (!is_ours)
            continue;
        if (manifest_file_leaves(v->file, g, leaves, &n, &ignored) != PLT_OK) {
            version_give(v, g, false, 0, 0);
            continue;
        }
        count(v, g, (const manifest_digest *)leaves, n, &data, &here);
        version_give(v, g, here == data, here, data);
    }
    lock_take(&v->lock);
    v->is_checked = v->n_rechecks == asked; /* no other came meanwhile */
    v->next = 0;
    lock_give(&v->lock);
    mirror_changed(v->mirror);
}

void version_recheck(struct version *v)
{
    lock_take(&v->lock);
    v->is_checked = false;
    v->n_rechecks++;
    lock_give(&v->lock);
    mirrors_wake(v->mirrors);
}

size_t version_take(struct version *v, size_t n, uint64_t *groups)
{
    size_t taken = 0;

    lock_take(&v->lock);
    for (; v->next < v->n_groups && taken < n; v->next++) {
        const uint64_t g = v->order ? v->order[v->next] : v->next;
        if (v->state[g] == GROUP_TODO) {
            v->state[g] = GROUP_TAKEN;
            groups[taken++] = g;
        }
    }
    lock_give(&v->lock);
    return taken;
}

void version_give(struct version *v, uint64_t g, bool is_done, size_t here,
                  size_t data)
{
    lock_take(&v->lock);
    ASSERT(v->state[g] == GROUP_TAKEN);
    v->state[g] = is_done ? GROUP_DONE : GROUP_TODO;
    v->n_here = v->n_here - v->here[g] + here;
    v->n_data = v->n_data - v->data[g] + data;
    if (v->is_checked && here > v->here[g])
        mirror_add_rate(v->mirror,
                        (uint64_t)(here - v->here[g]) * MANIFEST_LEAF);
    v->here[g] = (uint16_t)here;
    v->data[g] = (uint16_t)data;
    if (!is_done)
        v->next = 0; /* one that was passed is wanted again */
    lock_give(&v->lock);
}

bool version_is_whole(struct version *v)
{
    bool is_whole = true;

    lock_take(&v->lock);
    for (uint64_t g = 0; g < v->n_groups && is_whole; g++)
        is_whole = v->state[g] == GROUP_DONE;
    lock_give(&v->lock);
    return is_whole;
}

void version_order(struct version *v, const uint64_t (*stretches)[2], size_t n,
                   uint64_t first_group)
{
    uint32_t *const order = calloc(v->n_groups + 1, sizeof(*order));
    AUTO_FREE uint8_t *is_in = calloc(v->n_groups + 1, 1);
    /* A trace is the source's word: many stretches that are each the whole disk
     * would take hours. */
    uint64_t k = 0, steps = 2 * v->n_groups + n;

    if (!order || !is_in) { /* then they come in the disk's order */
        free(order);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t g = stretches[i][0] / MANIFEST_GROUP;
        const uint64_t end = stretches[i][0] + stretches[i][1];
        for (; steps && g < v->n_groups && g * MANIFEST_GROUP < end; g++) {
            steps--;
            if (!is_in[g])
                order[k++] = (uint32_t)g;
            is_in[g] = 1;
        }
    }
    for (uint64_t i = 0; i < v->n_groups; i++) {
        const uint64_t g = (first_group + i) % v->n_groups;
        if (!is_in[g])
            order[k++] = (uint32_t)g;
    }
    lock_take(&v->lock);
    free(v->order);
    v->order = order;
    v->next = 0;
    lock_give(&v->lock);
}

/* Every leaf is in the store still.  What was found there while a group's
 * leaves were not in the manifest may have gone with a sweep; from now on every
 * sweep knows them all. */
static enum plt_status hold_all(struct version *v, struct plt_error *err)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    size_t n;

    for (uint64_t g = 0; g < v->n_groups; g++) {
        enum plt_status st = manifest_file_leaves(v->file, g, leaves, &n, err);
        if (st != PLT_OK)
            return st;
        size_t k = 0;
        for (size_t i = 0; i < n; i++) {
            if (!manifest_is_zero_leaf(leaves[i]))
                memmove(leaves[k++], leaves[i], MANIFEST_DIGEST);
        }
        if (store_hold(v->mirrors->store, k,
                       (const uint8_t(*)[STORE_DIGEST])leaves))
            return plt_fail_at(err, PLT_NOT_FOUND, g * MANIFEST_GROUP,
                               "leaves that were here have gone");
    }
    return PLT_OK;
}

enum plt_status version_finish(struct version *v, struct plt_error *err)
{
    enum plt_status st = v->out ? PLT_OK : hold_all(v, err);

    if (st == PLT_OK)
        st = v->out ? out_finish(v->out, v->file, err)
                    : store_sync(v->mirrors->store, err);
    if (st == PLT_OK)
        st = manifest_file_finish(v->file, err);
    if (st != PLT_OK)
        return st;
    if (manifest_file_root(v->file, v->root))
        atomic_store(&v->has_root, true);
    atomic_store(&v->is_complete, true);
    return PLT_OK;
}
