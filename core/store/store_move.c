/* SPDX-License-Identifier: Apache-2.0 */
/* Writing leaves anew that lie where they cannot stay: in a segment of which
 * little is needed, or that could not be synced.  Each hint is turned to the
 * new place when that is written, and only if it still leads to the old one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_inside.h"

/* What is collected before it is written: a batch. */
struct mover {
    struct store *store;
    struct segment *s;
    struct store_scratch *scratch;
    bool *lost;
    size_t n;
    uint8_t digests[STORE_BATCH][STORE_DIGEST];
    uint64_t from[STORE_BATCH];
    uint8_t data[STORE_BATCH * STORE_LEAF];
};

static enum plt_status flush(struct mover *m, struct plt_error *err)
{
    const size_t n = m->n;

    m->n = 0;
    return n ? store_append(m->store, n,
                            (const uint8_t(*)[STORE_DIGEST])m->digests, m->data,
                            m->from, err)
             : PLT_OK;
}

static bool is_live(struct store *store, const uint8_t *digest, uint64_t place)
{
    lock_take(&store->lock);
    const bool is_there = store_index_has(&store->index, digest, place);
    lock_give(&store->lock);
    return is_there;
}

/* What its head says: a hint is by the first bytes alone, and the directory may
 * differ behind them. */
static const uint8_t (*names_of(struct mover *m, int fd,
                                const struct directory_entry *e,
                                const uint8_t (*digests)[STORE_DIGEST],
                                uint8_t head[RECORD_HEAD_MOST]))[STORE_DIGEST]
{
    struct store_record r;
    size_t got;

    return store_read(fd, head, RECORD_HEAD_MOST, e->off, &got) == 0 &&
                   store_record_parse(head, got, m->s->secret, e->off, &r) &&
                   r.n == e->n
               ? r.digests
               : digests;
}

/* The leaves of one record that are live; there is room for all. */
static enum plt_status collect(struct mover *m, int fd,
                               const struct directory_entry *e,
                               const uint8_t (*digests)[STORE_DIGEST],
                               struct plt_error *err)
{
    uint8_t head[RECORD_HEAD_MOST];
    struct store_want wants[RECORD_LEAVES];
    size_t n = 0;

    digests = names_of(m, fd, e, digests, head);
    for (size_t i = 0; i < e->n; i++) {
        const uint64_t place = place_make(m->s->slot, e->off, i);
        uint8_t *const out = m->data + (m->n + n) * STORE_LEAF;
        if (is_live(m->store, digests[i], place))
            wants[n++] = (struct store_want){
                .place = place, .digest = digests[i], .out = out};
    }
    if (!n)
        return PLT_OK;
    store_record_read(fd, m->s->secret, e->off, wants, n, m->scratch);
    for (size_t i = 0; i < n; i++) {
        uint8_t *const out = m->data + m->n * STORE_LEAF;
        if (wants[i].found == FOUND_FAILED)
            return plt_fail(err, PLT_IO, "a segment cannot be read");
        if (wants[i].found != FOUND_IT) {
            if (store_forget(m->store, wants[i].digest, wants[i].place) &&
                m->lost)
                *m->lost = true;
            continue;
        }
        if (out != wants[i].out)
            memmove(out, wants[i].out, STORE_LEAF);
        memcpy(m->digests[m->n], wants[i].digest, STORE_DIGEST);
        m->from[m->n++] = wants[i].place;
    }
    return PLT_OK;
}

static enum plt_status move_all(struct mover *m, const struct directory *d,
                                uint64_t off, bool (*is_stopped)(void *cookie),
                                void *cookie, struct plt_error *err)
{
    const int fd = segment_fd(m->store, m->s);
    size_t at = 0;

    if (fd < 0)
        return plt_fail_sys(err, PLT_IO, errno, "a segment cannot be opened");
    for (size_t i = 0; i < d->n_entries; at += d->entries[i++].n) {
        enum plt_status st = PLT_OK;
        if (d->entries[i].off < off)
            continue;
        if (m->n + RECORD_LEAVES > STORE_BATCH)
            st = flush(m, err);
        if (st == PLT_OK && is_stopped && is_stopped(cookie))
            st = plt_fail(err, PLT_CANCELLED, "the sweep was stopped");
        if (st == PLT_OK)
            st = collect(m, fd, &d->entries[i],
                         (const uint8_t(*)[STORE_DIGEST])d->digests + at, err);
        if (st != PLT_OK)
            return st;
    }
    return flush(m, err);
}

enum plt_status store_move(struct store *store, struct segment *s, uint64_t off,
                           bool (*is_stopped)(void *cookie), void *cookie,
                           bool *lost, struct plt_error *err)
{
    struct directory d;
    enum plt_status st = segment_directory(store, s, &d, err);
    if (st != PLT_OK)
        return st;
    struct mover *const m = malloc(sizeof(*m));
    struct store_scratch *const scratch = store_scratch_take(store);
    if (m && scratch) {
        m->store = store;
        m->s = s;
        m->scratch = scratch;
        m->lost = lost;
        m->n = 0;
        st = move_all(m, &d, off, is_stopped, cookie, err);
    } else {
        st = plt_fail(err, PLT_NOMEM, "moving leaves");
    }
    if (scratch)
        store_scratch_give(store, scratch);
    free(m);
    directory_release(&d);
    return st;
}
