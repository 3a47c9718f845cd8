/* SPDX-License-Identifier: Apache-2.0 */
/* Looking up and reading: hints out of the index, then the disk, then SHA-256.
 * No lock is held while the disk is read; segments that are looked into are
 * counted. */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "store/store_inside.h"

enum { SCRATCHES = 8 }; /* kept for the next reader */

/* ---- Scratch ---- */

void store_scratch_free(struct store_scratch *scratch)
{
    if (scratch)
        (void)ZSTD_freeDCtx(scratch->unzip);
    free(scratch);
}

struct store_scratch *store_scratch_take(struct store *store)
{
    lock_take(&store->scratch_lock);
    struct store_scratch *s = store->scratch;
    if (s) {
        store->scratch = s->next;
        store->n_scratch--;
    }
    lock_give(&store->scratch_lock);
    if (s)
        return s;
    s = malloc(sizeof(*s));
    if (!s)
        return NULL;
    s->unzip = ZSTD_createDCtx();
    if (s->unzip)
        return s;
    free(s);
    return NULL;
}

void store_scratch_give(struct store *store, struct store_scratch *scratch)
{
    lock_take(&store->scratch_lock);
    const bool is_kept = store->n_scratch < SCRATCHES;
    if (is_kept) {
        scratch->next = store->scratch;
        store->scratch = scratch;
        store->n_scratch++;
    }
    lock_give(&store->scratch_lock);
    if (!is_kept)
        store_scratch_free(scratch);
}

/* ---- Hints ---- */

struct segment *store_pin_locked(struct store *store, uint64_t place)
{
    struct segment *const s = store->segments[place_slot(place)];

    if (s)
        s->refs++;
    return s;
}

bool store_forget(struct store *store, const uint8_t *digest, uint64_t place)
{
    lock_take(&store->lock);
    const bool is_there = store_index_forget(&store->index, digest, place);
    if (is_there) {
        struct segment *const s = store->segments[place_slot(place)];
        ASSERT(s && s->live);
        s->live--;
        store->stats.damaged++;
    }
    lock_give(&store->lock);
    return is_there;
}

struct hints {
    uint64_t places[INDEX_FOUND];
    struct segment *segments[INDEX_FOUND];
    size_t n;
};

static void look_up(struct store *store, const uint8_t *prefix, struct hints *h)
{
    lock_take(&store->lock);
    h->n = store_index_find(&store->index, prefix, h->places);
    for (size_t i = 0; i < h->n; i++)
        h->segments[i] = store_pin_locked(store, h->places[i]);
    lock_give(&store->lock);
}

static void let_go(struct store *store, const struct hints *h)
{
    for (size_t i = 0; i < h->n; i++)
        segment_unpin(store, h->segments[i]);
}

/* What the wants of one record are, read and judged. */
static void read_places(struct store *store, struct store_want *wants, size_t n,
                        struct store_scratch *scratch)
{
    const int fd = segment_fd(store, wants->segment);

    if (fd >= 0) {
        store_record_read(fd, wants->segment->secret, place_off(wants->place),
                          wants, n, scratch);
        return;
    }
    for (size_t i = 0; i < n; i++)
        wants[i].found = FOUND_FAILED;
}

/* ---- One leaf ---- */

static bool keep(struct store *store, const uint8_t *digest, uint64_t place)
{
    lock_take(&store->lock);
    const bool is_there = store_index_keep(&store->index, digest, place);
    lock_give(&store->lock);
    return is_there;
}

/* By its hints as they are now.  OTHER: none leads to it. */
static enum store_found try_once(struct store *store, const uint8_t *digest,
                                 uint8_t *buf, bool is_kept, bool *is_moved,
                                 struct store_scratch *scratch)
{
    struct store_want want = {.digest = digest, .out = buf};
    enum store_found worst = FOUND_OTHER;
    struct hints h;

    *is_moved = false;
    look_up(store, digest, &h);
    for (size_t i = 0; i < h.n; i++) {
        want.place = h.places[i];
        want.segment = h.segments[i];
        read_places(store, &want, 1, scratch);
        if (want.found == FOUND_IT) {
            *is_moved = is_kept && !keep(store, digest, want.place);
            worst = FOUND_IT;
            break;
        }
        if (want.found == FOUND_DAMAGED &&
            !store_forget(store, digest, want.place))
            *is_moved = true;
        if (want.found > worst)
            worst = want.found;
    }
    let_go(store, &h);
    return worst;
}

enum plt_status store_fetch(struct store *store, const uint8_t *digest,
                            uint8_t *buf, bool is_kept, struct plt_error *err)
{
    struct store_scratch *const scratch = store_scratch_take(store);
    enum store_found found = FOUND_OTHER;
    bool is_moved = true;

    if (!scratch)
        return plt_fail(err, PLT_NOMEM, "reading a leaf");
    for (int i = 0; i < FIND_TRIES && is_moved; i++)
        found = try_once(store, digest, buf, is_kept, &is_moved, scratch);
    store_scratch_give(store, scratch);
    if (found == FOUND_IT && !is_moved)
        return PLT_OK;
    if (found == FOUND_FAILED)
        return plt_fail(err, PLT_IO, "a segment cannot be read");
    return plt_fail(err, PLT_NOT_FOUND, "no such leaf");
}

bool store_may_have(struct store *store, const uint8_t digest[STORE_DIGEST])
{
    uint64_t places[INDEX_FOUND];

    lock_take(&store->lock);
    const bool is_there = store_index_find(&store->index, digest, places);
    lock_give(&store->lock);
    return is_there;
}

size_t store_hold(struct store *store, size_t n,
                  const uint8_t (*digests)[STORE_DIGEST])
{
    uint64_t places[INDEX_FOUND];
    size_t missing = 0;

    ASSERT(n <= STORE_BATCH);
    lock_take(&store->lock);
    for (size_t i = 0; i < n; i++) {
        missing += !store_index_find(&store->index, digests[i], places);
        store_index_mark(&store->index, digests[i]);
    }
    lock_give(&store->lock);
    return missing;
}

enum plt_status store_get(struct store *store,
                          const uint8_t digest[STORE_DIGEST],
                          uint8_t buf[STORE_LEAF], struct plt_error *err)
{
    return store_fetch(store, digest, buf, false, err);
}

/* ---- Several ---- */

static int by_place(const void *a, const void *b)
{
    const struct store_want *const x = (const struct store_want *)a;
    const struct store_want *const y = (const struct store_want *)b;

    return (x->place > y->place) - (x->place < y->place);
}

/* Each by its first hint, record by record. */
static size_t look_up_all(struct store *store, size_t n,
                          const uint8_t (*digests)[STORE_DIGEST], uint8_t *buf,
                          struct store_want *wants)
{
    uint64_t places[INDEX_FOUND];
    size_t n_wants = 0;

    lock_take(&store->lock);
    for (size_t i = 0; i < n; i++) {
        if (!store_index_find(&store->index, digests[i], places))
            continue;
        wants[n_wants++] = (struct store_want){
            .segment = store_pin_locked(store, places[0]),
            .place = places[0],
            .digest = digests[i],
            .out = buf + i * STORE_LEAF,
            .found = FOUND_OTHER,
        };
    }
    lock_give(&store->lock);
    qsort(wants, n_wants, sizeof(*wants), by_place);
    return n_wants;
}

/* In as many reads as there are records. */
static void read_all(struct store *store, struct store_want *wants, size_t n,
                     struct store_scratch *scratch)
{
    for (size_t i = 0, k; i < n; i += k) {
        const uint64_t record = wants[i].place - place_leaf(wants[i].place);
        for (k = 1; i + k < n; k++) {
            if (wants[i + k].place - place_leaf(wants[i + k].place) != record)
                break;
        }
        read_places(store, wants + i, k, scratch);
    }
    for (size_t i = 0; i < n; i++)
        segment_unpin(store, wants[i].segment);
}

enum plt_status store_get_batch(struct store *store, size_t n,
                                const uint8_t (*digests)[STORE_DIGEST],
                                uint8_t *buf, bool *there,
                                struct plt_error *err)
{
    struct store_want wants[STORE_BATCH];

    ASSERT(n <= STORE_BATCH);
    memset(there, 0, n * sizeof(*there));
    const size_t n_wants = look_up_all(store, n, digests, buf, wants);
    if (!n_wants)
        return PLT_OK;
    struct store_scratch *const scratch = store_scratch_take(store);
    if (!scratch) {
        for (size_t i = 0; i < n_wants; i++)
            segment_unpin(store, wants[i].segment);
        return plt_fail(err, PLT_NOMEM, "reading leaves");
    }
    read_all(store, wants, n_wants, scratch);
    store_scratch_give(store, scratch);
    for (size_t i = 0; i < n_wants; i++) {
        const size_t at = (size_t)(wants[i].out - buf) / STORE_LEAF;
        there[at] = wants[i].found == FOUND_IT;
        if (there[at])
            continue;
        /* Another hint, or damage: as one leaf is read. */
        const enum plt_status st =
            store_fetch(store, wants[i].digest, wants[i].out, false, err);
        if (st != PLT_OK && st != PLT_NOT_FOUND)
            return st;
        there[at] = st == PLT_OK;
    }
    return PLT_OK;
}

/* ---- By prefix ---- */

bool store_digest_at(struct store *store, struct segment *s, uint64_t place,
                     uint8_t digest[STORE_DIGEST])
{
    uint8_t head[RECORD_HEAD_MOST];
    struct store_record r;
    size_t got;
    const int fd = segment_fd(store, s);

    if (fd < 0 || store_read(fd, head, sizeof(head), place_off(place), &got) ||
        !store_record_parse(head, got, s->secret, place_off(place), &r) ||
        place_leaf(place) >= r.n)
        return false;
    memcpy(digest, r.digests[place_leaf(place)], STORE_DIGEST);
    return true;
}

enum plt_status store_find(struct store *store,
                           const uint8_t prefix[STORE_PREFIX],
                           uint8_t digest[STORE_DIGEST], struct plt_error *err)
{
    struct hints h;
    bool is_found = false;

    look_up(store, prefix, &h);
    for (size_t i = 0; i < h.n && !is_found; i++)
        is_found = store_digest_at(store, h.segments[i], h.places[i], digest) &&
                   memcmp(digest, prefix, STORE_PREFIX) == 0;
    let_go(store, &h);
    return is_found ? PLT_OK
                    : plt_fail(err, PLT_NOT_FOUND, "no leaf begins like that");
}

/* ---- Numbers ---- */

void store_stats(struct store *store, struct store_stats *out)
{
    lock_take(&store->lock);
    *out = store->stats;
    out->leaves = store->index.used;
    out->memory_bytes = store_index_memory(&store->index);
    lock_give(&store->lock);
    out->limit = store->config.limit;
}
