/* SPDX-License-Identifier: Apache-2.0 */
/* A start: the newest segment first, so that of two copies of a leaf the newer
 * one counts (the older may be the damaged one that it replaced).
 *
 * Sealed segments are believed to hold what their footers name; that it is
 * still right is seen when it is read.  Of the others nothing is believed: what
 * a killed process left to the page cache is synced, the cache let go, and
 * every leaf read from the disk itself and hashed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "store/store_inside.h"
#include "util/log.h"

/* ---- Leaves ---- */

static bool is_known(struct store *store, const uint8_t *digest)
{
    uint64_t places[INDEX_FOUND];
    uint8_t other[STORE_DIGEST];
    const size_t n = store_index_find(&store->index, digest, places);

    for (size_t i = 0; i < n; i++) {
        struct segment *const s = store->segments[place_slot(places[i])];
        if (store_digest_at(store, s, places[i], other) &&
            memcmp(other, digest, STORE_DIGEST) == 0)
            return true;
    }
    return false;
}

static void add_leaf(struct store *store, struct segment *s, uint64_t off,
                     size_t leaf, const uint8_t *digest)
{
    static const uint8_t nameless[STORE_DIGEST];

    if (memcmp(digest, nameless, STORE_DIGEST) == 0 || is_known(store, digest))
        return;
    store_index_put(&store->index, digest, place_make(s->slot, off, leaf));
    s->live++;
}

static bool add_sealed(struct store *store, struct segment *s,
                       const struct directory *d)
{
    size_t at = d->n_leaves;

    if (!store_index_reserve(&store->index, d->n_leaves))
        return false;
    for (size_t i = d->n_entries; i-- > 0;) {
        at -= d->entries[i].n;
        for (size_t leaf = d->entries[i].n; leaf-- > 0;)
            add_leaf(store, s, d->entries[i].off, leaf, d->digests[at + leaf]);
    }
    s->leaves = d->n_leaves;
    return true;
}

struct walk {
    struct store *store;
    struct segment *s;
    bool is_failed; /* no memory */
};

/* A record of which some leaf is whole.  The others stay nameless, or a footer
 * would hide good copies of them that are older. */
static bool add_walked(void *cookie, uint64_t off, const struct store_record *r,
                       const uint8_t *data)
{
    struct walk *const w = (struct walk *)cookie;
    uint8_t digests[RECORD_LEAVES][STORE_DIGEST] = {{0}};
    bool is_good = false;

    if (!data || w->is_failed)
        return false;
    if (!store_index_reserve(&w->store->index, r->n) ||
        !directory_reserve(&w->s->directory, 1, r->n)) {
        w->is_failed = true;
        return false;
    }
    for (size_t i = 0; i < r->n; i++) {
        if (!store_is_leaf(data + i * STORE_LEAF, r->digests[i]))
            continue;
        is_good = true;
        memcpy(digests[i], r->digests[i], STORE_DIGEST);
        add_leaf(w->store, w->s, off, i, r->digests[i]);
    }
    if (is_good)
        (void)directory_add(&w->s->directory, off, r->n,
                            (const uint8_t(*)[STORE_DIGEST])digests);
    return is_good;
}

/* ---- Segments ---- */

/* By its head, or, when that is damaged, by the first record, whose place is no
 * leaf's. */
static bool read_secret(struct segment *s, int fd)
{
    uint8_t buf[SEGMENT_HEAD + RECORD_HEAD_MOST];
    struct store_record r;
    size_t got;

    if (store_read(fd, buf, sizeof(buf), 0, &got) || got < SEGMENT_HEAD)
        return false;
    if (segment_is_head(buf)) {
        memcpy(s->secret, segment_head_secret(buf), STORE_SECRET);
        return true;
    }
    if (!store_record_parse(buf + SEGMENT_HEAD, got - SEGMENT_HEAD, NULL,
                            SEGMENT_HEAD, &r))
        return false;
    memcpy(s->secret, store_record_secret(buf + SEGMENT_HEAD), STORE_SECRET);
    return true;
}

/* What is not sealed and not the tail. */
static void seal(struct store *store, struct segment *s, int fd)
{
    uint64_t end = s->data_end;

    if (footer_write(fd, &s->directory, s->secret, &end) == 0)
        segment_set_bytes(store, s, end);
    s->state = SEGMENT_SEALED;
    directory_release(&s->directory);
}

static void keep_open(struct store *store, struct segment *s)
{
    s->state = SEGMENT_TAIL;
    s->refs++;
    store->unsealed = store->open = s;
}

static enum plt_status load_unsealed(struct store *store, struct segment *s,
                                     int fd, struct plt_error *err)
{
    struct walk w = {.store = store, .s = s};
    struct store_scratch *const scratch = store_scratch_take(store);

    if (!scratch)
        return plt_fail(err, PLT_NOMEM, "reading a segment");
    /* It may hold what was promised: it stays as it is when the disk fails. */
    if (fdatasync(fd) != 0) {
        const int sys = errno;
        store_scratch_give(store, scratch);
        return plt_fail_sys(err, PLT_IO, sys, "syncing segment %" PRIu32,
                            s->number);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    const uint64_t end =
        segment_walk(fd, s->bytes, s->secret, scratch, add_walked, &w);
    store_scratch_give(store, scratch);
    if (!end || w.is_failed)
        return plt_fail(err, PLT_NOMEM, "reading a segment");
    s->data_end = end;
    s->leaves = s->directory.n_leaves;
    if (!s->leaves) {
        segment_drop(store, s);
        return PLT_OK;
    }
    if (s->bytes > end && ftruncate(fd, (off_t)end) == 0)
        segment_set_bytes(store, s, end);
    s->synced = end;
    if (s->number + 1 == store->next_number)
        keep_open(store, s);
    else
        seal(store, s, fd);
    return PLT_OK;
}

/* One without a whole head is of a process that was killed as it made it. */
static void tell_dropped(const struct segment *s)
{
    struct log_line l;

    if (s->bytes <= SEGMENT_HEAD)
        return;
    log_begin(&l, LOG_WARN, "store_segment_dropped");
    log_number(&l, "segment", s->number);
    log_number(&l, "bytes", s->bytes);
    log_end(&l);
}

static enum plt_status load_segment(struct store *store,
                                    const struct store_file *file,
                                    struct plt_error *err)
{
    struct directory d;
    struct segment *const s = segment_new(store, file->number);

    if (!s)
        return plt_fail(err, PLT_NOMEM, "segment %" PRIu32, file->number);
    segment_set_bytes(store, s, file->bytes);
    const int fd = segment_fd(store, s);
    if (fd < 0)
        return plt_fail_sys(err, PLT_IO, errno, "segment %" PRIu32, s->number);
    if (!read_secret(s, fd)) {
        tell_dropped(s);
        segment_drop(store, s);
        return PLT_OK;
    }
    if (!footer_read(fd, s->bytes, s->secret, &d, &s->data_end))
        return load_unsealed(store, s, fd, err);
    const bool is_added = add_sealed(store, s, &d);
    directory_release(&d);
    return is_added ? PLT_OK : plt_fail(err, PLT_NOMEM, "hints");
}

/* What the trailers say, for the size of the index alone. */
static uint64_t guess_leaves(struct store *store,
                             const struct store_files *files)
{
    char name[SEGMENT_NAME];
    uint64_t n = 0;

    for (size_t i = 0; i < files->n; i++) {
        segment_name(files->list[i].number, name);
        const int fd = openat(store->config.dir, name,
                              O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        n += fd < 0 ? 0 : footer_leaves(fd, files->list[i].bytes);
        if (fd >= 0)
            (void)close(fd);
    }
    return n;
}

static enum plt_status load(struct store *store,
                            const struct store_files *files,
                            struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (!store_index_init(&store->index, guess_leaves(store, files)))
        return plt_fail(err, PLT_NOMEM, "index of the store");
    store->next_number = files->n ? files->list[0].number + 1 : 1;
    store->is_dir_unsynced = true;
    for (size_t i = 0; i < files->n && st == PLT_OK; i++)
        st = load_segment(store, &files->list[i], err);
    return st;
}

/* ---- Opening and closing ---- */

static enum plt_status lock_folder(struct store *store, struct plt_error *err)
{
    store->lock_fd = openat(store->config.dir, "store.lock",
                            O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0)
        return plt_fail_sys(err, PLT_IO, errno, "store.lock");
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return PLT_OK;
    return errno == EWOULDBLOCK
               ? plt_fail(err, PLT_BUSY, "another process has the store")
               : plt_fail_sys(err, PLT_IO, errno, "locking the store");
}

static uint64_t within(uint64_t v, uint64_t least, uint64_t most)
{
    return v < least ? least : v > most ? most : v;
}

static void store_free(struct store *store)
{
    for (uint32_t i = 0; i < store->n_slots; i++) {
        if (store->segments[i])
            segment_free(store->segments[i]);
    }
    store_index_release(&store->index);
    while (store->scratch) {
        struct store_scratch *const s = store->scratch;
        store->scratch = s->next;
        store_scratch_free(s);
    }
    if (store->lock_fd >= 0)
        (void)close(store->lock_fd);
    lock_release(&store->sync);
    lock_release(&store->tail);
    lock_release(&store->lock);
    lock_release(&store->scratch_lock);
    free(store);
}

enum plt_status store_open(const struct store_config *config,
                           struct store **out, struct plt_error *err)
{
    struct store_files files = {.n = 0};
    struct store *const store = calloc(1, sizeof(*store));

    if (!store)
        return plt_fail(err, PLT_NOMEM, "a store");
    store->config = *config;
    store->lock_fd = -1;
    store->segment_bytes = config->limit
                               ? within(config->limit / SEGMENT_PER_LIMIT,
                                        SEGMENT_LEAST, SEGMENT_MOST)
                               : SEGMENT_MOST;
    store->reserve = within(config->limit / 8, 0, store->segment_bytes);
    lock_init(&store->sync);
    lock_init(&store->tail);
    lock_init(&store->lock);
    lock_init(&store->scratch_lock);
    enum plt_status st = lock_folder(store, err);
    if (st == PLT_OK)
        st = store_list_files(store->config.dir, &files, err);
    if (st == PLT_OK)
        st = load(store, &files, err);
    free(files.list);
    if (st == PLT_OK)
        *out = store;
    else
        store_free(store);
    return st;
}

void store_close(struct store *store)
{
    struct plt_error err;

    if (!store)
        return;
    const enum plt_status st = store_sync(store, &err);
    if (st != PLT_OK) {
        struct log_line l;
        log_begin(&l, LOG_WARN, "store_not_synced");
        log_text(&l, "error", err.text);
        log_end(&l);
    }
    store_free(store);
}
