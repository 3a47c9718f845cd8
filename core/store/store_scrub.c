/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what lies at rest: the segments by their numbers, the records by
 * their order.  A place to go on from is a segment's number and an offset in
 * it, which stays right when segments come and go.  What is in the page cache
 * says nothing of the disk, so it is let go first. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "store/store_inside.h"
#include "util/auto.h"

struct scrub {
    struct store *store;
    struct store_scratch *scratch;
    uint8_t *leaves; /* RECORD_DATA_MOST */
    void (*damaged)(void *cookie, const uint8_t digest[STORE_DIGEST]);
    void *cookie;
};

/* The first segment of this number or above, counted; NULL: none. */
static struct segment *next_segment(struct store *store, uint64_t number)
{
    struct segment *next = NULL;

    lock_take(&store->lock);
    for (uint32_t i = 0; i < store->n_slots; i++) {
        struct segment *const s = store->segments[i];
        if (s && s->number >= number && (!next || s->number < next->number))
            next = s;
    }
    if (next)
        next->refs++;
    lock_give(&store->lock);
    return next;
}

/* Of one record, the leaves that a hint leads to. */
static enum plt_status scrub_record(const struct scrub *scrub,
                                    struct segment *s, int fd, uint64_t off,
                                    size_t n,
                                    const uint8_t (*digests)[STORE_DIGEST],
                                    struct plt_error *err)
{
    struct store *const store = scrub->store;
    struct store_want wants[RECORD_LEAVES];
    size_t n_wants = 0;

    lock_take(&store->lock);
    for (size_t i = 0; i < n; i++) {
        const uint64_t place = place_make(s->slot, off, i);
        if (!s->is_gone && store_index_has(&store->index, digests[i], place))
            wants[n_wants++] =
                (struct store_want){.place = place,
                                    .digest = digests[i],
                                    .out = scrub->leaves + i * STORE_LEAF};
    }
    lock_give(&store->lock);
    if (!n_wants)
        return PLT_OK;
    (void)posix_fadvise(fd, (off_t)off, RECORD_MOST, POSIX_FADV_DONTNEED);
    store_record_read(fd, s->secret, off, wants, n_wants, scrub->scratch);
    for (size_t i = 0; i < n_wants; i++) {
        if (wants[i].found == FOUND_FAILED)
            return plt_fail(err, PLT_IO, "segment %" PRIu32 " cannot be read",
                            s->number);
        /* Another leaf's: the directory is wrong, and the hint may be right. */
        if (wants[i].found == FOUND_DAMAGED &&
            store_forget(store, wants[i].digest, wants[i].place) &&
            scrub->damaged)
            scrub->damaged(scrub->cookie, wants[i].digest);
    }
    return PLT_OK;
}

/* From *off on; *off: where it was left, 0 at the end.  *bytes: still to do. */
static enum plt_status scrub_segment(const struct scrub *scrub,
                                     struct segment *s, uint64_t *off,
                                     uint64_t *bytes, struct plt_error *err)
{
    struct directory d;
    const int fd = segment_fd(scrub->store, s);
    size_t at = 0;

    if (fd < 0)
        return plt_fail_sys(err, PLT_IO, errno, "segment %" PRIu32, s->number);
    enum plt_status st = segment_directory(scrub->store, s, &d, err);
    if (st != PLT_OK)
        return st;
    for (size_t i = 0; i < d.n_entries; at += d.entries[i++].n) {
        const struct directory_entry *const e = &d.entries[i];
        if (e->off < *off)
            continue;
        *off = e->off;
        if (!*bytes || st != PLT_OK)
            break;
        st = scrub_record(scrub, s, fd, e->off, e->n,
                          (const uint8_t(*)[STORE_DIGEST])d.digests + at, err);
        const uint64_t cost =
            i + 1 < d.n_entries ? d.entries[i + 1].off - e->off : RECORD_MOST;
        *bytes -= cost < *bytes ? cost : *bytes;
        *off = e->off + RECORD_ALIGN;
    }
    if (!d.n_entries || *off > d.entries[d.n_entries - 1].off)
        *off = 0;
    directory_release(&d);
    return st;
}

enum plt_status
store_scrub(struct store *store, uint64_t *place, uint64_t bytes,
            void (*damaged)(void *cookie, const uint8_t digest[STORE_DIGEST]),
            void *cookie, struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    AUTO_FREE uint8_t *leaves = malloc(RECORD_DATA_MOST);
    struct store_scratch *const scratch = store_scratch_take(store);
    const struct scrub scrub = {store, scratch, leaves, damaged, cookie};

    if (!leaves || !scratch)
        st = plt_fail(err, PLT_NOMEM, "a scrub");
    while (st == PLT_OK && bytes) {
        struct segment *const s = next_segment(store, *place >> 32);
        if (!s) {
            *place = 0;
            break;
        }
        uint64_t off = *place >> 32 == s->number ? *place & UINT32_MAX : 0;
        st = scrub_segment(&scrub, s, &off, &bytes, err);
        *place = off ? (uint64_t)s->number << 32 | off
                     : (uint64_t)(s->number + 1) << 32;
        segment_unpin(store, s);
    }
    if (scratch)
        store_scratch_give(store, scratch);
    return st;
}
