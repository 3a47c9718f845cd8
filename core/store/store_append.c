/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: a batch becomes records, and all of them one write behind the last.
 * Compression comes before the lock is taken.  Hints come when everything is
 * written; a write that fails leaves the tail where it was, and the next one
 * goes over what it left. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store_inside.h"
#include "util/auto.h"

/* Leaves on their way to the tail. */
struct batch {
    size_t n;
    const uint8_t (*digests)[STORE_DIGEST]; /* n */
    const uint64_t *from;                   /* n, or NULL */
    uint8_t *bytes;                         /* new: the records in a row */
    size_t len;
    size_t n_records;
    uint32_t offs[BATCH_RECORDS]; /* of each record, in bytes */
};

static size_t leaves_of(const struct batch *b, size_t record)
{
    const size_t left = b->n - record * RECORD_LEAVES;
    return left < RECORD_LEAVES ? left : RECORD_LEAVES;
}

static ZSTD_CCtx *zip_of(const struct store *store)
{
    const int level = store->config.level;
    ZSTD_CCtx *const zip = ZSTD_createCCtx();

    if (zip)
        (void)ZSTD_CCtx_setParameter(zip, ZSTD_c_compressionLevel,
                                     level ? level : 3);
    return zip;
}

static enum plt_status make_records(struct store *store, struct batch *b,
                                    const uint8_t *data, struct plt_error *err)
{
    const bool is_zstd = store->config.compression == STORE_ZSTD;
    ZSTD_CCtx *const zip = is_zstd ? zip_of(store) : NULL;

    b->n_records = (b->n + RECORD_LEAVES - 1) / RECORD_LEAVES;
    b->len = 0;
    b->bytes = malloc(b->n_records * RECORD_MOST);
    if (!b->bytes || (is_zstd && !zip)) {
        (void)ZSTD_freeCCtx(zip);
        return plt_fail(err, PLT_NOMEM, "records of %zu leaves", b->n);
    }
    for (size_t i = 0; i < b->n_records; i++) {
        b->offs[i] = (uint32_t)b->len;
        b->len += store_record_make(b->bytes + b->len, leaves_of(b, i),
                                    b->digests + i * RECORD_LEAVES,
                                    data + i * RECORD_LEAVES * STORE_LEAF, zip);
    }
    (void)ZSTD_freeCCtx(zip);
    return PLT_OK;
}

/* ---- The tail ---- */

static bool fits(const struct store *store, const struct batch *b)
{
    const struct segment *const s = store->open;

    return s &&
           s->data_end + b->len + directory_bytes(&s->directory) +
                   b->n_records * 8 + b->n * STORE_DIGEST <=
               store->segment_bytes &&
           s->directory.n_leaves + b->n <= SEGMENT_LEAVES;
}

/* What is on the disk, and will be when all has its footer. */
static uint64_t used_bytes(struct store *store) LOCK_HELD(store->tail)
{
    uint64_t bytes = 0;

    for (const struct segment *s = store->unsealed; s; s = s->next)
        bytes += directory_bytes(&s->directory);
    lock_take(&store->lock);
    bytes += store->stats.disk_bytes;
    lock_give(&store->lock);
    return bytes;
}

/* Leaves of a segment that could not be synced: what they take here they leave
 * there, and without it nothing could be synced, nor swept. */
static bool is_rescue(struct store *store, const struct batch *b)
    LOCK_HELD(store->tail)
{
    if (!b->from)
        return false;
    lock_take(&store->lock);
    const struct segment *const s = store->segments[place_slot(b->from[0])];
    lock_give(&store->lock);
    return s && s->state == SEGMENT_SUSPECT;
}

static enum plt_status make_room(struct store *store, const struct batch *b,
                                 struct plt_error *err) LOCK_HELD(store->tail)
{
    const uint64_t limit = store->config.limit;
    const uint64_t more = b->len + b->n_records * 8 + b->n * STORE_DIGEST;
    /* What is moved makes room for more than it takes. */
    const uint64_t reserve = b->from ? 0 : store->reserve;

    if (limit && !is_rescue(store, b) &&
        (reserve > limit || more > limit - reserve ||
         used_bytes(store) > limit - reserve - more))
        return plt_fail_sys(err, PLT_NOMEM, ENOSPC, "the store is full");
    if (fits(store, b))
        return PLT_OK;
    size_t n = 0;
    for (const struct segment *s = store->unsealed; s; s = s->next)
        n++;
    if (n >= UNSEALED_FULL)
        return plt_fail(err, PLT_IO, "%zu segments cannot be synced", n);
    if (store->open) {
        store->open->state = SEGMENT_FULL;
        store->open = NULL;
    }
    return segment_begin(store, err);
}

/* ---- Hints ---- */

/* That each leaf of the batch is there from now on; those that were moved, if
 * nobody has forgotten them meanwhile. */
static void tell(struct store *store, const struct batch *b, uint64_t off)
{
    struct segment *const s = store->open;
    size_t n_told = 0;

    lock_take(&store->lock);
    for (size_t i = 0; i < b->n; i++) {
        const uint64_t place = place_make(
            s->slot, off + b->offs[i / RECORD_LEAVES], i % RECORD_LEAVES);
        if (!b->from) {
            store_index_put(&store->index, b->digests[i], place);
        } else if (store_index_move(&store->index, b->digests[i], b->from[i],
                                    place)) {
            store->segments[place_slot(b->from[i])]->live--;
        } else {
            continue;
        }
        n_told++;
    }
    s->live += n_told;
    s->leaves += b->n;
    s->data_end = off + b->len;
    store->stats.disk_bytes += s->data_end - s->bytes;
    s->bytes = s->data_end;
    if (!b->from)
        store->stats.put += b->n;
    lock_give(&store->lock);
}

static bool reserve_memory(struct store *store, const struct batch *b)
{
    lock_take(&store->lock);
    const bool is_room = b->from || store_index_reserve(&store->index, b->n);
    lock_give(&store->lock);
    return is_room &&
           directory_reserve(&store->open->directory, b->n_records, b->n);
}

static enum plt_status write_batch(struct store *store, struct batch *b,
                                   struct plt_error *err) LOCK_HELD(store->tail)
{
    enum plt_status st = make_room(store, b, err);
    if (st != PLT_OK)
        return st;
    if (!reserve_memory(store, b))
        return plt_fail(err, PLT_NOMEM, "hints of %zu leaves", b->n);
    struct segment *const s = store->open;
    const uint64_t off = s->data_end;
    for (size_t i = 0; i < b->n_records; i++)
        store_record_seal(b->bytes + b->offs[i], s->secret, off + b->offs[i]);
    const int sys = store_write(s->fd, b->bytes, b->len, off);
    if (sys) {
        /* What it wrote has no hint; cut off it is found by no start either. */
        const int cut = ftruncate(s->fd, (off_t)off);
        (void)cut;
        return plt_fail_sys(err, PLT_IO, sys, "writing %zu leaves", b->n);
    }
    for (size_t i = 0; i < b->n_records; i++)
        (void)directory_add(&s->directory, off + b->offs[i], leaves_of(b, i),
                            b->digests + i * RECORD_LEAVES);
    return PLT_OK;
}

/* ---- Putting ---- */

/* The leaves of a call that are not there yet. */
struct news {
    size_t n;
    size_t at[STORE_BATCH]; /* in the caller's order */
};

static bool is_twice(const struct news *news, size_t i,
                     const uint8_t (*digests)[STORE_DIGEST])
{
    for (size_t k = 0; k < news->n; k++) {
        if (memcmp(digests[news->at[k]], digests[i], STORE_DIGEST) == 0)
            return true;
    }
    return false;
}

/* What is there is read and hashed, so that a damaged one is written anew. */
static enum plt_status sort_out(struct store *store, size_t n,
                                const uint8_t (*digests)[STORE_DIGEST],
                                struct news *news, struct plt_error *err)
{
    uint8_t buf[STORE_LEAF];

    news->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_twice(news, i, digests))
            continue;
        const enum plt_status st =
            store_may_have(store, digests[i])
                ? store_fetch(store, digests[i], buf, true, err)
                : PLT_NOT_FOUND;
        if (st == PLT_NOT_FOUND)
            news->at[news->n++] = i;
        else if (st != PLT_OK)
            return st;
    }
    return PLT_OK;
}

/* The new ones in a row. */
static bool gather(const struct news *news,
                   const uint8_t (*digests)[STORE_DIGEST], const uint8_t *data,
                   uint8_t (**out_digests)[STORE_DIGEST], uint8_t **out_data)
{
    *out_digests = malloc(news->n * STORE_DIGEST);
    *out_data = malloc(news->n * STORE_LEAF);
    if (!*out_digests || !*out_data)
        return false;
    for (size_t i = 0; i < news->n; i++) {
        memcpy((*out_digests)[i], digests[news->at[i]], STORE_DIGEST);
        memcpy(*out_data + i * STORE_LEAF, data + news->at[i] * STORE_LEAF,
               STORE_LEAF);
    }
    return true;
}

/* Others may have put some of the same meanwhile: their hints are there. */
static bool is_met(struct store *store, const struct batch *b)
{
    uint64_t places[INDEX_FOUND];
    bool is_any = false;

    lock_take(&store->lock);
    for (size_t i = 0; i < b->n && !is_any; i++)
        is_any = store_index_find(&store->index, b->digests[i], places);
    lock_give(&store->lock);
    return is_any;
}

/* seen: store->n_appended before it was looked which leaves are new; NULL: they
 * are written in any case.  AGAIN: look again. */
static enum plt_status append(struct store *store, struct batch *b,
                              const uint8_t *data, const uint64_t *seen,
                              struct plt_error *err)
{
    enum plt_status st = make_records(store, b, data, err);

    if (st == PLT_OK) {
        lock_take(&store->tail);
        if (seen && *seen != store->n_appended && is_met(store, b))
            st = PLT_AGAIN;
        if (st == PLT_OK)
            st = write_batch(store, b, err);
        if (st == PLT_OK) {
            tell(store, b, store->open->data_end);
            store->n_appended++;
        }
        lock_give(&store->tail);
    }
    free(b->bytes);
    return st;
}

static enum plt_status put_once(struct store *store, size_t n,
                                const uint8_t (*digests)[STORE_DIGEST],
                                const uint8_t *data, bool is_last,
                                size_t *added, struct plt_error *err)
{
    struct news news;
    AUTO_FREE uint8_t *new_data = NULL;
    AUTO_FREE void *new_digests = NULL;

    lock_take(&store->tail);
    const uint64_t seen = store->n_appended;
    lock_give(&store->tail);
    enum plt_status st = sort_out(store, n, digests, &news, err);
    *added = 0;
    if (st != PLT_OK || !news.n)
        return st;
    struct batch b = {.n = news.n, .digests = digests};
    if (news.n < n) {
        uint8_t(*rows)[STORE_DIGEST] = NULL;
        const bool is_whole = gather(&news, digests, data, &rows, &new_data);
        new_digests = rows;
        if (!is_whole)
            return plt_fail(err, PLT_NOMEM, "putting %zu leaves", n);
        b.digests = (const uint8_t(*)[STORE_DIGEST])rows;
    }
    st = append(store, &b, new_data ? new_data : data, is_last ? NULL : &seen,
                err);
    *added = st == PLT_OK ? news.n : 0;
    return st;
}

enum plt_status store_put(struct store *store, size_t n,
                          const uint8_t (*digests)[STORE_DIGEST],
                          const uint8_t *data, size_t *added,
                          struct plt_error *err)
{
    enum plt_status st = PLT_AGAIN;
    size_t n_added = 0;

    ASSERT(n <= STORE_BATCH);
    /* At last they are written twice rather than never. */
    for (int i = 1; i <= FIND_TRIES && st == PLT_AGAIN; i++)
        st = put_once(store, n, digests, data, i == FIND_TRIES, &n_added, err);
    if (st != PLT_OK)
        return st;
    lock_take(&store->lock);
    store->stats.passed_by += n - n_added;
    lock_give(&store->lock);
    if (added)
        *added = n_added;
    if (n_added)
        store_settle(store);
    return PLT_OK;
}

enum plt_status store_append(struct store *store, size_t n,
                             const uint8_t (*digests)[STORE_DIGEST],
                             const uint8_t *data, const uint64_t *from,
                             struct plt_error *err)
{
    struct batch b = {.n = n, .digests = digests, .from = from};

    return append(store, &b, data, NULL, err);
}
