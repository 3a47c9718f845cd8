/* SPDX-License-Identifier: Apache-2.0 */
/* Mark, forget, give back.
 *
 * The marks are bits beside the hints, so that marking reads nothing; a hint of
 * another leaf that looks the same is kept with it, and does no harm.  From the
 * call's beginning on whatever is put or passed by is marked.  Then what is not
 * marked is forgotten, a few slots at a time.  A segment that no hint leads to
 * goes; of one that few lead to they are moved behind the tail first.  A file
 * is removed only after a sync that began when nothing led to it any more. */
#include <stdlib.h>

#include "store/store_inside.h"
#include "util/auto.h"

enum {
    STEP = 16 << 10, /* slots in one go under the lock */
    SMALL_PART = 8,  /* less than this part of a segment is small ... */
    SMALL_MOST = 8   /* ... and so many of them are too many */
};

struct store_sweep {
    struct store *store;
};

void store_sweep_keep(struct store_sweep *sweep, size_t n,
                      const uint8_t (*digests)[STORE_DIGEST])
{
    struct store *const store = sweep->store;

    lock_take(&store->lock);
    for (size_t i = 0; i < n; i++)
        store_index_mark(&store->index, digests[i]);
    lock_give(&store->lock);
}

static void gone(void *cookie, uint64_t place)
{
    const struct store *const store = (const struct store *)cookie;
    struct segment *const s = store->segments[place_slot(place)];

    ASSERT(s && s->live);
    s->live--;
}

typedef bool stop_fn(void *cookie);

static enum plt_status stopped(stop_fn *is_stopped, void *cookie,
                               struct plt_error *err)
{
    return is_stopped && is_stopped(cookie)
               ? plt_fail(err, PLT_CANCELLED, "the sweep was stopped")
               : PLT_OK;
}

static enum plt_status forget(struct store *store, stop_fn *is_stopped,
                              void *cookie, struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    uint64_t at = 0;
    bool is_more = true;

    while (is_more && st == PLT_OK) {
        lock_take(&store->lock);
        is_more = store_index_sweep(&store->index, &at, STEP, gone, store);
        lock_give(&store->lock);
        st = stopped(is_stopped, cookie, err);
    }
    return st;
}

/* ---- What is worth it ---- */

struct victim {
    struct segment *s;    /* counted */
    uint64_t bytes, kept; /* of the file; of it, what has to be moved */
};

static uint64_t kept_of(const struct segment *s)
{
    return s->leaves ? (uint64_t)((double)s->bytes * (double)s->live /
                                  (double)s->leaves)
                     : 0;
}

static int by_share(const void *a, const void *b)
{
    const struct victim *const x = (const struct victim *)a;
    const struct victim *const y = (const struct victim *)b;
    const double p = (double)x->kept / (double)x->bytes;
    const double q = (double)y->kept / (double)y->bytes;

    return (p > q) - (p < q);
}

/* The sealed ones, emptiest first, counted; new in *out. */
static size_t list_victims(struct store *store, struct victim **out)
    LOCK_HELD(store->tail)
{
    size_t n = 0;

    lock_take(&store->lock);
    struct victim *const list =
        calloc((size_t)store->n_slots + 1, sizeof(*list));
    for (uint32_t i = 0; list && i < store->n_slots; i++) {
        struct segment *const s = store->segments[i];
        if (!s || s->state != SEGMENT_SEALED)
            continue;
        s->refs++;
        list[n++] = (struct victim){s, s->bytes, kept_of(s)};
    }
    lock_give(&store->lock);
    if (n)
        qsort(list, n, sizeof(*list), by_share);
    *out = list;
    return n;
}

static bool is_small(const struct store *store, const struct victim *v)
{
    return v->bytes < store->segment_bytes / SMALL_PART;
}

static uint64_t used(struct store *store)
{
    lock_take(&store->lock);
    const uint64_t bytes = store->stats.disk_bytes;
    lock_give(&store->lock);
    return bytes;
}

static bool is_worth(struct store *store, const struct victim *v,
                     uint64_t target, bool is_small_too)
{
    if (is_small_too && is_small(store, v))
        return true;
    return target ? used(store) > target && v->kept < v->bytes / 16 * 15
                  : v->kept <= v->bytes / 2;
}

/* ---- Giving back ---- */

static bool is_dead(struct store *store, const struct segment *s)
{
    lock_take(&store->lock);
    const bool is_it = !s->live && !s->is_gone;
    lock_give(&store->lock);
    return is_it;
}

static void give_back(struct store *store, struct segment *s)
{
    lock_take(&store->lock);
    store->stats.swept_bytes += s->bytes;
    lock_give(&store->lock);
    segment_drop(store, s);
}

/* Those to which nothing leads when this begins. */
static enum plt_status drop_dead(struct store *store, struct victim *list,
                                 size_t n, struct plt_error *err)
{
    size_t n_dead = 0;

    while (n_dead < n && is_dead(store, list[n_dead].s))
        n_dead++;
    if (!n_dead)
        return PLT_OK;
    const enum plt_status st = store_sync(store, err);
    for (size_t i = 0; i < n_dead && st == PLT_OK; i++)
        give_back(store, list[i].s);
    return st;
}

static enum plt_status rewrite(struct store *store, struct victim *list,
                               size_t n, uint64_t target, stop_fn *is_stopped,
                               void *cookie, struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    size_t n_small = 0;

    for (size_t i = 0; i < n; i++)
        n_small += is_small(store, &list[i]);
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (!list[i].kept ||
            !is_worth(store, &list[i], target, n_small > SMALL_MOST))
            continue;
        st = store_move(store, list[i].s, 0, is_stopped, cookie, NULL, err);
        if (st == PLT_OK)
            st = drop_dead(store, &list[i], 1, err);
    }
    return st;
}

/* A tail of which little is needed may go like the others. */
static void close_tail(struct store *store)
{
    lock_take(&store->tail);
    struct segment *const s = store->open;
    if (s) {
        lock_take(&store->lock);
        const bool is_sparse = kept_of(s) <= s->bytes / 2;
        lock_give(&store->lock);
        if (is_sparse) {
            s->state = SEGMENT_FULL;
            store->open = NULL;
        }
    }
    lock_give(&store->tail);
}

static enum plt_status collect(struct store *store, uint64_t target,
                               stop_fn *is_stopped, void *cookie,
                               struct plt_error *err)
{
    AUTO_FREE struct victim *list = NULL;

    close_tail(store);
    /* full ones get their footers */
    enum plt_status st = store_sync(store, err);
    if (st != PLT_OK)
        return st;
    lock_take(&store->tail);
    const size_t n = list_victims(store, &list);
    lock_give(&store->tail);
    if (!list)
        return plt_fail(err, PLT_NOMEM, "a sweep");
    st = drop_dead(store, list, n, err);
    if (st == PLT_OK)
        st = rewrite(store, list, n, target, is_stopped, cookie, err);
    for (size_t i = 0; i < n; i++)
        segment_unpin(store, list[i].s);
    return st;
}

static bool begin(struct store *store)
{
    lock_take(&store->lock);
    const bool is_free = !store->is_sweeping;
    if (is_free) {
        store->is_sweeping = true;
        store_index_unmark_all(&store->index);
    }
    lock_give(&store->lock);
    return is_free;
}

enum plt_status store_sweep(struct store *store, store_mark_fn *mark,
                            void *cookie, uint64_t target,
                            bool (*is_stopped)(void *cookie),
                            struct plt_error *err)
{
    struct store_sweep sweep = {.store = store};

    if (!begin(store))
        return plt_fail(err, PLT_BUSY, "a sweep is running");
    enum plt_status st = mark(cookie, &sweep, err);
    if (st == PLT_OK)
        st = stopped(is_stopped, cookie, err);
    if (st == PLT_OK)
        st = forget(store, is_stopped, cookie, err);
    if (st == PLT_OK)
        st = collect(store, target, is_stopped, cookie, err);
    lock_take(&store->lock);
    store->is_sweeping = false;
    lock_give(&store->lock);
    return st;
}
