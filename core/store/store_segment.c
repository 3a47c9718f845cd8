/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: their files, their table, their descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <platter/bytes.h>

#include "store/store_inside.h"
#include "util/auto.h"

enum {
    AT_SECRET = 8,
    AT_CHECK = 32,
    NUMBERS = 100000000 /* that a name has digits for */
};
#define HEAD_MAGIC UINT64_C(0x31474553524f5453) /* "STORSEG1" */

void segment_make_head(uint8_t head[SEGMENT_HEAD], const uint8_t *secret)
{
    memset(head, 0, SEGMENT_HEAD);
    plt_put_le64(head, HEAD_MAGIC);
    memcpy(head + AT_SECRET, secret, STORE_SECRET);
    store_check(head, AT_CHECK, NULL, 0, head + AT_CHECK);
}

bool segment_is_head(const uint8_t head[SEGMENT_HEAD])
{
    uint8_t want[SEGMENT_HEAD];

    segment_make_head(want, head + AT_SECRET);
    return memcmp(head, want, sizeof(want)) == 0;
}

const uint8_t *segment_head_secret(const uint8_t head[SEGMENT_HEAD])
{
    return head + AT_SECRET;
}

void segment_name(uint32_t number, char out[SEGMENT_NAME])
{
    (void)snprintf(out, SEGMENT_NAME, "%08" PRIu32 ".seg", number % NUMBERS);
}

/* ---- The table ---- */

void segment_free(struct segment *s)
{
    if (s->fd >= 0)
        (void)close(s->fd);
    directory_release(&s->directory);
    free(s);
}

struct segment *segment_new(struct store *store, uint32_t number)
{
    struct segment *const s = calloc(1, sizeof(*s));
    uint32_t slot = 0;

    if (!s)
        return NULL;
    lock_take(&store->lock);
    while (slot < store->n_slots && store->segments[slot])
        slot++;
    if (slot < PLACE_SEGMENTS) {
        store->segments[slot] = s;
        if (slot == store->n_slots)
            store->n_slots++;
        store->stats.segments++;
    }
    lock_give(&store->lock);
    *s = (struct segment){.number = number, .slot = slot, .refs = 1, .fd = -1};
    if (slot < PLACE_SEGMENTS)
        return s;
    free(s);
    return NULL;
}

void segment_set_bytes(struct store *store, struct segment *s, uint64_t bytes)
{
    lock_take(&store->lock);
    store->stats.disk_bytes += bytes - s->bytes;
    s->bytes = bytes;
    lock_give(&store->lock);
}

static void unpin(struct store *store, struct segment *s, bool is_dropped)
{
    char name[SEGMENT_NAME];

    lock_take(&store->lock);
    if (is_dropped) {
        s->is_gone = true;
        store->segments[s->slot] = NULL;
        store->stats.segments--;
        store->stats.disk_bytes -= s->bytes;
    }
    const bool is_last = --s->refs == 0;
    if (is_last && s->fd >= 0)
        store->n_open--;
    lock_give(&store->lock);
    if (!is_last)
        return;
    if (s->is_gone) {
        segment_name(s->number, name);
        /* One that stays is found again, and swept again. */
        (void)unlinkat(store->config.dir, name, 0);
    }
    segment_free(s);
}

void segment_unpin(struct store *store, struct segment *s)
{
    unpin(store, s, false);
}

void segment_drop(struct store *store, struct segment *s)
{
    unpin(store, s, true);
}

/* ---- Descriptors ---- */

static void close_one_locked(struct store *store) LOCK_HELD(store->lock)
{
    for (uint32_t i = 0; i < store->n_slots; i++) {
        store->hand = (store->hand + 1) % store->n_slots;
        struct segment *const s = store->segments[store->hand];
        if (!s || s->fd < 0 || s->refs > 1)
            continue;
        (void)close(s->fd);
        s->fd = -1;
        store->n_open--;
        return;
    }
}

int segment_fd(struct store *store, struct segment *s)
{
    char name[SEGMENT_NAME];

    lock_take(&store->lock);
    int fd = s->fd;
    lock_give(&store->lock);
    if (fd >= 0)
        return fd;
    segment_name(s->number, name);
    fd = openat(store->config.dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    lock_take(&store->lock);
    if (s->fd < 0) {
        s->fd = fd;
        fd = -1;
        if (++store->n_open > OPEN_FILES)
            close_one_locked(store);
    }
    const int theirs = s->fd;
    lock_give(&store->lock);
    if (fd >= 0)
        (void)close(fd);
    return theirs;
}

/* ---- A new one ---- */

enum plt_status segment_begin(struct store *store, struct plt_error *err)
{
    uint8_t head[SEGMENT_HEAD], secret[STORE_SECRET];
    char name[SEGMENT_NAME];
    int sys = 0;

    if (store->next_number >= NUMBERS)
        return plt_fail_sys(err, PLT_NOMEM, ENOSPC, "no numbers for segments");
    if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
        return plt_fail_sys(err, PLT_IO, errno, "random numbers");
    struct segment *const s = segment_new(store, store->next_number);
    if (!s)
        return plt_fail_sys(err, PLT_NOMEM, ENOSPC, "no room for a segment");
    segment_name(s->number, name);
    const int fd =
        openat(store->config.dir, name,
               O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        sys = errno;
        segment_drop(store, s);
        return plt_fail_sys(err, PLT_IO, sys, "new segment %s", name);
    }
    store->next_number++;
    segment_make_head(head, secret);
    memcpy(s->secret, secret, sizeof(secret));
    sys = store_write(fd, head, sizeof(head), 0);
    lock_take(&store->lock);
    s->fd = fd;
    store->n_open++;
    lock_give(&store->lock);
    if (sys) {
        segment_drop(store, s);
        return plt_fail_sys(err, PLT_IO, sys, "head of segment %s", name);
    }
    segment_set_bytes(store, s, SEGMENT_HEAD);
    lock_take(&store->lock);
    s->refs++;
    s->data_end = SEGMENT_HEAD;
    lock_give(&store->lock);
    s->state = SEGMENT_TAIL;
    s->next = store->unsealed;
    store->unsealed = store->open = s;
    store->is_dir_unsynced = true;
    return PLT_OK;
}

/* ---- Directories ---- */

bool directory_reserve(struct directory *d, size_t entries, size_t leaves)
{
    if (d->n_entries + entries > d->cap_entries) {
        const size_t cap = (d->n_entries + entries) * 2;
        void *const p = realloc(d->entries, cap * sizeof(*d->entries));
        if (!p)
            return false;
        d->entries = p;
        d->cap_entries = cap;
    }
    if (d->n_leaves + leaves > d->cap_leaves) {
        const size_t cap = (d->n_leaves + leaves) * 2;
        void *const p = realloc(d->digests, cap * STORE_DIGEST);
        if (!p)
            return false;
        d->digests = p;
        d->cap_leaves = cap;
    }
    return true;
}

bool directory_add(struct directory *d, uint64_t off, size_t n,
                   const uint8_t (*digests)[STORE_DIGEST])
{
    if (!directory_reserve(d, 1, n))
        return false;
    d->entries[d->n_entries++] =
        (struct directory_entry){(uint32_t)off, (uint32_t)n};
    memcpy(d->digests[d->n_leaves], digests, n * STORE_DIGEST);
    d->n_leaves += n;
    return true;
}

void directory_cut(struct directory *d, uint64_t off)
{
    while (d->n_entries && d->entries[d->n_entries - 1].off >= off)
        d->n_leaves -= d->entries[--d->n_entries].n;
}

void directory_release(struct directory *d)
{
    free(d->entries);
    free(d->digests);
    *d = (struct directory){.n_leaves = 0};
}

/* Of the walk, when the footer is damaged. */
static bool add_walked(void *cookie, uint64_t off, const struct store_record *r,
                       const uint8_t *data)
{
    struct directory *const d = (struct directory *)cookie;

    (void)data;
    return directory_add(d, off, r->n, r->digests);
}

static enum plt_status read_directory(struct store *store, struct segment *s,
                                      struct directory *out,
                                      struct plt_error *err)
{
    uint64_t data_end;
    const int fd = segment_fd(store, s);

    if (fd < 0)
        return plt_fail_sys(err, PLT_IO, errno, "segment %" PRIu32, s->number);
    if (footer_read(fd, s->bytes, s->secret, out, &data_end))
        return PLT_OK;
    struct store_scratch *const scratch = store_scratch_take(store);
    if (!scratch)
        return plt_fail(err, PLT_NOMEM, "reading a segment");
    const uint64_t end =
        segment_walk(fd, s->bytes, s->secret, scratch, add_walked, out);
    store_scratch_give(store, scratch);
    return end ? PLT_OK : plt_fail(err, PLT_NOMEM, "reading a segment");
}

enum plt_status segment_directory(struct store *store, struct segment *s,
                                  struct directory *out, struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    bool is_read = false;

    *out = (struct directory){.n_leaves = 0};
    lock_take(&store->tail);
    const struct directory *const d = &s->directory;
    if (s->state == SEGMENT_SEALED) {
        is_read = true;
    } else if (!directory_reserve(out, d->n_entries, d->n_leaves)) {
        st = plt_fail(err, PLT_NOMEM, "directory of a segment");
    } else if (d->n_entries) {
        memcpy(out->entries, d->entries, d->n_entries * sizeof(*d->entries));
        memcpy(out->digests, d->digests, d->n_leaves * STORE_DIGEST);
        out->n_entries = d->n_entries;
        out->n_leaves = d->n_leaves;
    }
    lock_give(&store->tail);
    if (is_read)
        st = read_directory(store, s, out, err);
    if (st != PLT_OK)
        directory_release(out);
    return st;
}
