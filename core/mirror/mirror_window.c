/* SPDX-License-Identifier: Apache-2.0 */
/* Some groups of a version: what of them is on this host already, and the rest
 * fetched.
 *
 *   1. digests     whole groups that are as in the version before, or zeros,
 *                  cost nothing; of others the first 8 bytes of each leaf's
 *                  digest are fetched, unless all 32 are known
 *   2. resolve     zeros; the version before, at the same place; the store; the
 *                  seeds.  What is left is missing
 *   3. fetch       a group of which nearly all is missing as an immutable
 * block, scattered leaves together as lists, or multi-range requests
 *   4. verify      the digests of all leaves, as they are now, hash to the
 *                  group's, which hashes to the root; only then is anything of
 *                  it kept
 *
 * When 4 fails, the group is done again with its full digests, which tells who
 * is wrong: two leaves whose digests begin alike, or the source. */
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"

enum {
    BLOCK_MISSING = 230, /* leaves of 256: the block is as cheap as they are */
    KNOWN_VERSIONS = 16,
    PUT_SYNC = 64 << 20 /* bytes put, then they are made durable */
};

enum what { ZERO, HERE, SEED, MISSING };

struct group {
    uint64_t g;
    size_t n;
    bool is_over;      /* nothing is to be fetched for it */
    bool is_as_before; /* all its leaves are another version's */
    bool is_full;      /* leaves are all known; else only `prefix` */
    bool is_block;     /* fetch all of it */
    bool is_placed;    /* in the window that is fetched now */
    size_t n_missing, n_seeded;
    manifest_digest leaves[MANIFEST_LEAVES];
    uint8_t prefix[MANIFEST_LEAVES][MANIFEST_PREFIX];
    uint8_t what[MANIFEST_LEAVES];
};

struct window {
    struct version *v;
    struct version *before; /* of this mirror; borrowed, or NULL */
    struct version *known[KNOWN_VERSIONS]; /* it, and those of other mirrors */
    size_t n_known;
    struct group *group;
    size_t n;
    uint8_t *buf;    /* WINDOW_LEAVES leaves */
    uint8_t *seeded; /* one leaf */
    enum via via;    /* of the entry */
    bool has_siblings;
};

/* ---- 1. digests ---- */

static bool is_zero_group(const manifest_digest digest, size_t n)
{
    manifest_digest zero;
    manifest_zero_group(n, zero);
    return memcmp(zero, digest, MANIFEST_DIGEST) == 0;
}

/* All of it is as in the version before, or in another mirror's, at the same
 * place. */
static bool is_as_before(const struct window *w, struct group *gr,
                         const manifest_digest digest)
{
    struct plt_error ignored;
    manifest_digest was;
    size_t n = 0;

    for (size_t i = 0; i < w->n_known; i++) {
        struct version *const v = w->known[i];
        if (gr->g < v->n_groups && manifest_file_group(v->file, gr->g, was) &&
            memcmp(was, digest, MANIFEST_DIGEST) == 0 &&
            manifest_file_leaves(v->file, gr->g, gr->leaves, &n, &ignored) ==
                PLT_OK &&
            n == gr->n)
            return true;
    }
    return false;
}

static enum plt_status know(struct window *w, struct group *gr,
                            struct plt_error *err)
{
    struct version *const v = w->v;
    manifest_digest digest;
    size_t n;

    gr->n = manifest_group_leaves(v->size, gr->g);
    const bool has_digest = manifest_file_group(v->file, gr->g, digest);
    ASSERT(has_digest); /* a version with a manifest has them all */
    if (manifest_file_leaves(v->file, gr->g, gr->leaves, &n, err) == PLT_OK) {
        gr->is_full = true;
        return PLT_OK;
    }
    if (is_zero_group(digest, gr->n)) {
        for (size_t i = 0; i < gr->n; i++)
            memcpy(gr->leaves[i], manifest_zero_leaf(), MANIFEST_DIGEST);
        gr->is_full = true;
    } else if (is_as_before(w, gr, digest)) {
        gr->is_full = gr->is_as_before = true;
    }
    return gr->is_full ? manifest_file_put(
                             v->file, gr->g,
                             (const manifest_digest *)(const manifest_digest *)
                                 gr->leaves,
                             gr->n, err)
                       : PLT_OK;
}

static enum plt_status fetch_prefixes(struct window *w, struct plt_io *io,
                                      struct plt_error *err)
{
    struct plt_seg segs[WINDOW_GROUPS];
    size_t n = 0;

    for (size_t i = 0; i < w->n; i++) {
        struct group *const gr = &w->group[i];
        if (!gr->is_full)
            segs[n++] =
                (struct plt_seg){gr->g * MANIFEST_LEAVES * MANIFEST_PREFIX,
                                 gr->n * MANIFEST_PREFIX, gr->prefix};
    }
    return n ? source_part(w->v->mirror, "/prefixes", io, segs, n, err)
             : PLT_OK;
}

/* ---- 2. resolve ---- */

static bool begins(const manifest_digest digest, const uint8_t *prefix)
{
    return memcmp(digest, prefix, MANIFEST_PREFIX) == 0;
}

/* Into the output: from where it lies there, from the store, or a seed.  What
 * is known of the digest is its beginning, or all of it. */
static enum what resolve_out(struct window *w, struct plt_io *io,
                             struct group *gr, size_t i)
{
    struct version *const v = w->v;
    struct store *const store = v->mirrors->store;
    const uint64_t n = gr->g * MANIFEST_LEAVES + i;
    const uint8_t *const prefix = gr->is_full ? gr->leaves[i] : gr->prefix[i];
    struct plt_error ignored;
    manifest_digest digest;
    enum what what = HERE;

    if (gr->is_full ? manifest_is_zero_leaf(gr->leaves[i])
                    : begins(manifest_zero_leaf(), prefix)) {
        memcpy(gr->leaves[i], manifest_zero_leaf(), MANIFEST_DIGEST);
        return out_zero(v->out, n, &ignored) == PLT_OK ? ZERO : MISSING;
    }
    if (!out_take(v->out, n, prefix, digest)) {
        const bool is_stored =
            store_find(store, prefix, digest, &ignored) == PLT_OK &&
            store_get(store, digest, w->seeded, &ignored) == PLT_OK;
        if (!is_stored &&
            !seeds_get(v->mirrors->seeds, io, prefix, w->seeded, digest))
            return MISSING;
        what = is_stored ? HERE : SEED;
        if (out_put(v->out, n, w->seeded, &ignored) != PLT_OK)
            return MISSING;
    }
    if (gr->is_full && memcmp(digest, gr->leaves[i], MANIFEST_DIGEST) != 0)
        return MISSING;
    memcpy(gr->leaves[i], digest, MANIFEST_DIGEST);
    return what;
}

/* A leaf of which 8 bytes are known.  was: those of the version before, or
 * NULL. */
static enum what resolve_prefix(const struct window *w, struct group *gr,
                                size_t i, const manifest_digest *was)
{
    struct store *const store = w->v->mirrors->store;
    struct plt_error ignored;

    if (begins(manifest_zero_leaf(), gr->prefix[i])) {
        memcpy(gr->leaves[i], manifest_zero_leaf(), MANIFEST_DIGEST);
        return ZERO;
    }
    if (was && begins(was[i], gr->prefix[i]) && store_may_have(store, was[i])) {
        memcpy(gr->leaves[i], was[i], MANIFEST_DIGEST);
        return HERE;
    }
    return store_find(store, gr->prefix[i], gr->leaves[i], &ignored) == PLT_OK
               ? HERE
               : MISSING;
}

static enum what resolve_full(const struct window *w, const struct group *gr,
                              size_t i)
{
    struct store *const store = w->v->mirrors->store;
    manifest_digest there;
    struct plt_error ignored;

    if (manifest_is_zero_leaf(gr->leaves[i]))
        return ZERO;
    if (!store_may_have(store, gr->leaves[i]))
        return MISSING;
    /* A hint is wrong once in a million: its record says which leaf it is.
     * Those of a version that has them all are not looked at one by one. */
    return gr->is_as_before ||
                   (store_find(store, gr->leaves[i], there, &ignored) ==
                        PLT_OK &&
                    memcmp(there, gr->leaves[i], MANIFEST_DIGEST) == 0)
               ? HERE
               : MISSING;
}

/* Out of a seed into the store. */
static bool take_seed(struct window *w, struct plt_io *io, struct group *gr,
                      size_t i)
{
    manifest_digest digest;
    struct plt_error ignored;
    const uint8_t *const prefix = gr->is_full ? gr->leaves[i] : gr->prefix[i];

    if (!seeds_get(w->v->mirrors->seeds, io, prefix, w->seeded, digest))
        return false;
    if (gr->is_full && memcmp(digest, gr->leaves[i], MANIFEST_DIGEST) != 0)
        return false;
    memcpy(gr->leaves[i], digest, MANIFEST_DIGEST);
    return store_put(w->v->mirrors->store, 1,
                     (const uint8_t(*)[STORE_DIGEST])gr->leaves[i], w->seeded,
                     NULL, &ignored) == PLT_OK;
}

static void resolve(struct window *w, struct plt_io *io, struct group *gr)
{
    manifest_digest was[MANIFEST_LEAVES];
    struct plt_error ignored;
    size_t n = 0;
    const bool has_was =
        !gr->is_full && w->before && gr->g < w->before->n_groups &&
        manifest_file_leaves(w->before->file, gr->g, was, &n, &ignored) ==
            PLT_OK &&
        n == gr->n;

    for (size_t i = 0; i < gr->n; i++) {
        enum what what =
            w->v->out ? resolve_out(w, io, gr, i)
            : gr->is_full
                ? resolve_full(w, gr, i)
                : resolve_prefix(w, gr, i,
                                 has_was ? (const manifest_digest *)was : NULL);
        if (what == MISSING && !w->v->out && take_seed(w, io, gr, i)) {
            what = SEED;
            gr->n_seeded++;
        }
        gr->n_missing += what == MISSING;
        gr->what[i] = (uint8_t)what;
    }
    const size_t least = w->has_siblings ? BLOCK_MISSING / 2 : BLOCK_MISSING;
    gr->is_block =
        gr->n_missing && (w->via == VIA_BLOCKS ||
                          (w->via == VIA_AUTO && gr->n_missing >= least));
}

/* ---- 3. fetch, 4. verify ---- */

/* The digest of what came for leaf i; false: it is known to be another. */
static bool take_digest(struct group *gr, size_t i, const uint8_t *data)
{
    manifest_digest made;

    manifest_leaf(data, MANIFEST_LEAF, made);
    if (gr->is_full)
        return memcmp(made, gr->leaves[i], MANIFEST_DIGEST) == 0;
    memcpy(gr->leaves[i], made, MANIFEST_DIGEST);
    return begins(made, gr->prefix[i]);
}

/* Keep leaves that lie one after the other. */
static enum plt_status keep(struct window *w, const struct group *gr,
                            const size_t *which, size_t n, const uint8_t *data,
                            struct plt_error *err)
{
    manifest_digest digests[MANIFEST_LEAVES];
    struct version *const v = w->v;

    for (size_t i = 0; i < n; i++)
        memcpy(digests[i], gr->leaves[which[i]], MANIFEST_DIGEST);
    if (!v->out)
        return store_put(v->mirrors->store, n,
                         (const uint8_t(*)[STORE_DIGEST])digests, data, NULL,
                         err);
    enum plt_status st = PLT_OK;
    for (size_t i = 0; i < n && st == PLT_OK; i++)
        st = out_put(v->out, gr->g * MANIFEST_LEAVES + which[i],
                     data + i * MANIFEST_LEAF, err);
    return st;
}

/* The group's leaves as they are now are the manifest's.  *is_wrong: they are
 * not, and its full digests are needed to tell why. */
static enum plt_status settle(struct window *w, struct group *gr,
                              bool *is_wrong, struct plt_error *err)
{
    *is_wrong = false;
    if (gr->is_full)
        return PLT_OK;
    const enum plt_status st = manifest_file_put(
        w->v->file, gr->g,
        (const manifest_digest *)(const manifest_digest *)gr->leaves, gr->n,
        err);
    *is_wrong = st == PLT_CORRUPT;
    return *is_wrong ? PLT_OK : st;
}

static void finish(struct window *w, struct group *gr)
{
    struct version *const v = w->v;
    size_t data = 0, here = 0;

    for (size_t i = 0; i < gr->n; i++) {
        data += gr->what[i] != ZERO;
        here += gr->what[i] == HERE || gr->what[i] == SEED;
    }
    (void)atomic_fetch_add(&v->counts.reused, here * MANIFEST_LEAF);
    (void)atomic_fetch_add(&v->mirrors->reused, here * MANIFEST_LEAF);
    gr->is_over = true;
    version_give(v, gr->g, true, data, data);
    mirror_changed(v->mirror);
}

/* Once more, knowing all its digests. */
static enum plt_status again(struct window *w, struct plt_io *io,
                             struct group *gr, struct plt_error *err);

static enum plt_status complete(struct window *w, struct plt_io *io,
                                struct group *gr, const uint8_t *data,
                                const size_t *which, size_t n,
                                struct plt_error *err)
{
    bool is_wrong = false;

    for (size_t i = 0; i < n; i++) {
        if (take_digest(gr, which[i], data + i * MANIFEST_LEAF))
            continue;
        if (gr->is_full)
            return fetch_refused(w->v, w->v->mirror->entry.source,
                                 gr->g * MANIFEST_LEAVES + which[i], err);
        is_wrong = true;
    }
    enum plt_status st = is_wrong ? PLT_OK : settle(w, gr, &is_wrong, err);
    if (st == PLT_OK && is_wrong)
        return again(w, io, gr, err);
    if (st == PLT_OK && n)
        st = keep(w, gr, which, n, data, err);
    if (st == PLT_OK)
        finish(w, gr);
    return st;
}

/* The whole group as one block. */
static enum plt_status get_block(struct window *w, struct plt_io *io,
                                 struct group *gr, struct plt_error *err)
{
    size_t which[MANIFEST_LEAVES], n = 0;

    const uint64_t bytes = manifest_group_bytes(w->v->size, gr->g);
    uint64_t cost = 0;
    if (!mirror_pace(w->v->mirror, bytes, false))
        return plt_fail(err, PLT_CANCELLED, "a mirror");
    io->deadline_ns = clock_after_ms(MIRROR_DATA_MS);
    enum plt_status st = fetch_block(w->v, io, gr->g, w->buf, &cost, err);
    if (cost < bytes)
        mirror_pace_back(w->v->mirror, bytes - cost);
    if (st != PLT_OK)
        return st;
    for (size_t i = 0; i < gr->n; i++) {
        if (gr->what[i] != MISSING)
            continue;
        if (n < i)
            memmove(w->buf + n * MANIFEST_LEAF, w->buf + i * MANIFEST_LEAF,
                    MANIFEST_LEAF);
        which[n++] = i;
    }
    return complete(w, io, gr, w->buf, which, n, err);
}

/* Missing leaves of as many groups as fit, at once. */
static enum plt_status get_ranges(struct window *w, struct plt_io *io,
                                  struct group **some, size_t n_some,
                                  struct plt_error *err)
{
    AUTO_FREE uint64_t *leaves = malloc(WINDOW_LEAVES * sizeof(*leaves));
    size_t n = 0;

    if (!leaves)
        return plt_fail(err, PLT_NOMEM, "a list of leaves");
    for (size_t k = 0; k < n_some; k++) {
        for (size_t i = 0; i < some[k]->n; i++) {
            if (some[k]->what[i] == MISSING)
                leaves[n++] = some[k]->g * MANIFEST_LEAVES + i;
        }
    }
    ASSERT(n <= WINDOW_LEAVES);
    if (n && !mirror_pace(w->v->mirror, n * MANIFEST_LEAF, false))
        return plt_fail(err, PLT_CANCELLED, "a mirror");
    io->deadline_ns = clock_after_ms(MIRROR_DATA_MS);
    enum plt_status st = PLT_OK;
    uint64_t cost = 0;
    if (n && w->via != VIA_RANGES) {
        st = fetch_packed(w->v, io, leaves, n, w->buf, &cost, err);
        if (cost < n * MANIFEST_LEAF)
            mirror_pace_back(w->v->mirror, n * MANIFEST_LEAF - cost);
    } else if (n) {
        st = fetch_leaves(w->v, io, leaves, n, w->buf, err);
    }
    const uint8_t *data = w->buf;
    if (st != PLT_OK)
        return st;
    for (size_t k = 0; k < n_some; k++) {
        size_t which[MANIFEST_LEAVES], of = 0;
        struct plt_error why;
        for (size_t i = 0; i < some[k]->n; i++) {
            if (some[k]->what[i] == MISSING)
                which[of++] = i;
        }
        const enum plt_status one =
            complete(w, io, some[k], data, which, of, &why);
        data += of * MANIFEST_LEAF;
        if (one == PLT_OK)
            continue;
        *err = why;
        st = one;
        if (one != PLT_ORIGIN) /* of one that is sent wrong others are not */
            break;
    }
    return st;
}

static enum plt_status again(struct window *w, struct plt_io *io,
                             struct group *gr, struct plt_error *err)
{
    enum plt_status st =
        fetch_digests(w->v, io, gr->g, gr->leaves, &gr->n, err);

    if (st != PLT_OK)
        return st;
    gr->is_full = true;
    gr->n_missing = 0;
    for (size_t i = 0; i < gr->n; i++) {
        gr->what[i] = (uint8_t)(w->v->out ? resolve_out(w, io, gr, i)
                                          : resolve_full(w, gr, i));
        gr->n_missing += gr->what[i] == MISSING;
    }
    /* Its own buffer: the window's holds what others are still to be made of.
     */
    AUTO_FREE uint8_t *buf = malloc(MANIFEST_GROUP);
    if (!buf)
        return plt_fail(err, PLT_NOMEM, "a block");
    struct window own = *w;
    own.buf = buf;
    return get_ranges(&own, io, &gr, 1, err);
}

static enum plt_status get_all(struct window *w, struct plt_io *io,
                               struct plt_error *err)
{
    struct group *some[WINDOW_GROUPS];
    size_t n = 0, leaves = 0;
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < w->n && st == PLT_OK; i++) {
        struct group *const gr = &w->group[i];
        if (gr->is_over)
            continue;
        if (gr->is_block) {
            st = get_block(w, io, gr, err);
            continue;
        }
        if (leaves + gr->n_missing > WINDOW_LEAVES) {
            st = get_ranges(w, io, some, n, err);
            n = leaves = 0;
        }
        some[n++] = gr;
        leaves += gr->n_missing;
    }
    return st == PLT_OK && n ? get_ranges(w, io, some, n, err) : st;
}

/* ---- */

static enum plt_status sync_now_and_then(struct window *w,
                                         struct plt_error *err)
{
    struct version *const v = w->v;
    bool is_due;

    lock_take(&v->lock);
    for (size_t i = 0; i < w->n; i++)
        v->unsynced += w->group[i].n_missing * MANIFEST_LEAF;
    is_due = v->unsynced >= PUT_SYNC;
    if (is_due)
        v->unsynced = 0;
    lock_give(&v->lock);
    if (!is_due)
        return PLT_OK;
    return v->out ? out_sync(v->out, err) : store_sync(v->mirrors->store, err);
}

enum plt_status mirror_window(struct version *v, bool *is_idle,
                              struct plt_error *err)
{
    uint64_t groups[WINDOW_GROUPS];
    struct window w = {.v = v};
    struct mirror_io io;

    w.n = version_take(v, WINDOW_GROUPS, groups);
    *is_idle = w.n == 0;
    if (!w.n)
        return PLT_OK;
    AUTO_FREE struct group *group = calloc(w.n, sizeof(*group));
    AUTO_FREE uint8_t *buf = malloc((size_t)WINDOW_LEAVES * MANIFEST_LEAF);
    AUTO_FREE uint8_t *seeded = malloc(MANIFEST_LEAF);
    enum plt_status st = group && buf && seeded
                             ? PLT_OK
                             : plt_fail(err, PLT_NOMEM, "a mirror's window");
    w.group = group;
    w.buf = buf;
    w.seeded = seeded;
    lock_take(&v->mirror->lock);
    w.via = fetch_by_root(v) ? v->mirror->entry.via : VIA_RANGES;
    w.has_siblings = v->mirror->n_siblings > 0;
    struct version *const before =
        v->mirror->current != v ? v->mirror->current : NULL;
    if (before)
        version_ref(before);
    lock_give(&v->mirror->lock);
    size_t n_alive;
    struct version **const alive = versions_all(v->mirrors, &n_alive);
    w.before = before;
    if (before)
        w.known[w.n_known++] = before;
    for (size_t i = 0; i < n_alive && w.n_known < KNOWN_VERSIONS; i++) {
        if (alive[i] != v && alive[i] != before)
            w.known[w.n_known++] = alive[i];
    }
    mirror_io_init(&io, v->mirror, v, NULL, PLT_IO_BACKGROUND | PLT_IO_EXACT);
    for (size_t i = 0; i < w.n && st == PLT_OK; i++) {
        group[i].g = groups[i];
        st = know(&w, &group[i], err);
    }
    if (st == PLT_OK)
        st = fetch_prefixes(&w, &io.io, err);
    for (size_t i = 0; i < w.n && st == PLT_OK; i++) {
        resolve(&w, &io.io, &group[i]);
        if (io.io.cancelled(&io.io))
            st = plt_fail(err, PLT_CANCELLED, "a mirror");
    }
    if (st == PLT_OK)
        st = get_all(&w, &io.io, err);
    for (size_t i = 0; i < w.n; i++) {
        if (!group || !group[i].is_over)
            version_give(v, groups[i], false, 0, 0);
    }
    if (st == PLT_OK)
        st = sync_now_and_then(&w, err);
    version_unref(before);
    for (size_t i = 0; i < n_alive; i++)
        version_unref(alive[i]);
    free(alive);
    return st;
}
