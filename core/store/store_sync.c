/* SPDX-License-Identifier: Apache-2.0 */
/* What a promise takes: the data of every segment that is not sealed, and the
 * names of new ones.  Who comes while one waits for the disk waits for him, and
 * finds most of it done.
 *
 * A sync that fails leaves pages that look clean and are not on the disk; a
 * second one would succeed and mean nothing.  So a segment is never synced
 * again: what it had not synced is read once more, while memory still has it,
 * and written into another segment; until that is synced every call fails.
 *
 * A full segment gets its footer when what it names is on the disk. */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "store/store_inside.h"

/* Out of the list; s is the caller's to let go. */
static void unlist(struct store *store, struct segment *s)
    LOCK_HELD(store->tail)
{
    struct segment **at = &store->unsealed;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->next = NULL;
}

/* All of it is on the disk.  A footer that cannot be written is no harm: a
 * start reads the records instead. */
static void seal(struct store *store, struct segment *s) LOCK_HELD(store->sync)
{
    uint64_t end = s->data_end;
    const bool is_written =
        footer_write(s->fd, &s->directory, s->secret, &end) == 0;

    if (is_written)
        segment_set_bytes(store, s, end);
    lock_take(&store->tail);
    unlist(store, s);
    s->state = SEGMENT_SEALED;
    directory_release(&s->directory);
    lock_give(&store->tail);
    segment_unpin(store, s);
}

/* What it could not sync nothing leads to any more. */
static void cut(struct store *store, struct segment *s) LOCK_HELD(store->sync)
{
    if (s->synced < SEGMENT_HEAD)
        s->synced = SEGMENT_HEAD;
    lock_take(&store->tail);
    directory_cut(&s->directory, s->synced);
    lock_take(&store->lock);
    s->data_end = s->synced;
    s->leaves = s->directory.n_leaves;
    lock_give(&store->lock);
    s->state = SEGMENT_FULL;
    lock_give(&store->tail);
    if (ftruncate(s->fd, (off_t)s->synced) == 0)
        segment_set_bytes(store, s, s->synced);
    const bool is_empty = s->directory.n_leaves == 0;
    seal(store, s);
    if (is_empty)
        segment_drop(store, s);
}

/* The segment becomes a suspect. */
static enum plt_status accuse(struct store *store, struct segment *s, int sys,
                              struct plt_error *err) LOCK_HELD(store->sync)
{
    lock_take(&store->tail);
    s->state = SEGMENT_SUSPECT;
    if (store->open == s)
        store->open = NULL;
    lock_give(&store->tail);
    return plt_fail_sys(err, PLT_IO, sys, "syncing segment %" PRIu32,
                        s->number);
}

/* What is to be done, as it is now; each is in the list until this thread takes
 * it out. */
struct work {
    struct segment *s;
    uint64_t end;
    enum segment_state state;
};
enum { WORK_MOST = UNSEALED_FULL + 1 };

static size_t list_work(struct store *store, struct work *work)
    LOCK_HELD(store->sync)
{
    size_t n = 0;

    lock_take(&store->tail);
    for (struct segment *s = store->unsealed; s && n < WORK_MOST; s = s->next)
        work[n++] = (struct work){s, s->data_end, s->state};
    lock_give(&store->tail);
    return n;
}

static enum plt_status sync_names(struct store *store, struct plt_error *err)
{
    lock_take(&store->tail);
    const bool is_due = store->is_dir_unsynced;
    store->is_dir_unsynced = false;
    lock_give(&store->tail);
    if (!is_due || fsync(store->config.dir) == 0)
        return PLT_OK;
    const int sys = errno;
    lock_take(&store->tail);
    store->is_dir_unsynced = true;
    lock_give(&store->tail);
    return plt_fail_sys(err, PLT_IO, sys, "syncing the folder");
}

static enum plt_status sync_data(struct store *store, const struct work *work,
                                 size_t n, struct plt_error *err)
    LOCK_HELD(store->sync)
{
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < n; i++) {
        struct segment *const s = work[i].s;
        if (s->synced == work[i].end)
            continue;
        if (fdatasync(s->fd) != 0)
            st = accuse(store, s, errno, err);
        else
            s->synced = work[i].end;
    }
    return st;
}

/* Suspects' leaves are written anew, before the list is made.  Then nothing
 * leads to what they could not sync, and it is cut off. */
static enum plt_status rescue(struct store *store, struct plt_error *err)
    LOCK_HELD(store->sync)
{
    struct work work[WORK_MOST];
    enum plt_status st = PLT_OK;
    const size_t n = list_work(store, work);

    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (work[i].state != SEGMENT_SUSPECT)
            continue;
        st = store_move(store, work[i].s, work[i].s->synced, NULL, NULL,
                        &store->is_lost, err);
        if (st == PLT_OK)
            cut(store, work[i].s);
    }
    return st;
}

static enum plt_status sync_all(struct store *store, struct plt_error *err)
    LOCK_HELD(store->sync)
{
    struct work work[WORK_MOST];
    enum plt_status st = rescue(store, err);

    if (st != PLT_OK)
        return st;
    if (store->is_lost)
        return plt_fail(err, PLT_IO, "leaves were lost when a sync failed");
    const size_t n = list_work(store, work);
    st = sync_data(store, work, n, err);
    if (st == PLT_OK)
        st = sync_names(store, err);
    if (st != PLT_OK)
        return st;
    for (size_t i = 0; i < n; i++) {
        if (work[i].state == SEGMENT_FULL)
            seal(store, work[i].s);
    }
    return PLT_OK;
}

enum plt_status store_sync(struct store *store, struct plt_error *err)
{
    lock_take(&store->sync);
    const enum plt_status st = sync_all(store, err);
    lock_give(&store->sync);
    return st;
}

void store_settle(struct store *store)
{
    struct plt_error err;
    size_t n = 0;

    lock_take(&store->tail);
    for (const struct segment *s = store->unsealed; s; s = s->next)
        n += s->state != SEGMENT_TAIL;
    lock_give(&store->tail);
    /* What fails fails again when somebody asks. */
    if (n >= UNSEALED_MOST && store_sync(store, &err) != PLT_OK)
        return;
}
