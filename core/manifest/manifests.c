/* SPDX-License-Identifier: Apache-2.0 */
/* An entry is one ETag:  being made -> complete, or failed and forgotten.
 *
 * Locks: `files` is held while files of the folder are opened or removed by
 * name, and is taken first; `lock` guards the table and its entries. */
#include "manifest/manifests.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/cache.h"
#include "manifest/manifest_folder.h"
#include "manifest/manifest_roots.h"
#include "manifest/manifests_export.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/log.h"

enum { ETAG = 80, POLL_MS = 200, THREAD_STACK = 2 << 20 };

struct entry {
    unsigned refs; /* the table's, the maker's, those who wait */
    char etag[ETAG];
    struct manifest_file *file; /* NULL: not yet */
    uint64_t held;              /* of the budget */
    uint64_t used;              /* when, counted */
    uint64_t done, all;         /* of what is being made */
    bool is_being_made;
    struct plt_error err; /* why it was not */
};

struct manifests {
    struct manifests_config config;
    struct manifests_owner owner;
    int dir; /* -1: none */
    struct manifest_roots *roots;
    struct manifest_exports *exports;
    struct lock files;
    struct lock lock;
    struct cond moved;
    struct entry *v[MANIFESTS_OPEN];
    size_t n;
    uint64_t clock;
    unsigned n_waiting;
    bool is_stopping;
    struct manifests_totals totals;
};

struct make {
    struct plt_io io; /* first */
    struct manifests *m;
    struct entry *entry;
    struct image *image;
    struct reference reference; /* target NULL: none */
};

/* ---- The set ---- */

enum plt_status manifests_new(const struct manifests_config *config,
                              struct manifests **out, struct plt_error *err)
{
    struct manifests *const m = calloc(1, sizeof(*m));
    enum plt_status st = PLT_OK;

    if (!m)
        return plt_fail(err, PLT_NOMEM, "manifests");
    m->config = *config;
    m->dir = -1;
    lock_init(&m->files);
    lock_init(&m->lock);
    cond_init(&m->moved);
    if (config->state_dir)
        st = manifest_folder_open(config->state_dir, &m->dir, err);
    if (st == PLT_OK) {
        m->roots = manifest_roots_new(m->dir);
        m->exports = manifest_exports_new(m->dir);
        if (!m->roots || !m->exports)
            st = plt_fail(err, PLT_NOMEM, "manifests");
    }
    if (st == PLT_OK)
        *out = m;
    else
        manifests_free(m);
    return st;
}

/* Of the last reference; gives back what it holds. */
static void entry_unref_locked(struct manifests *m, struct entry *e)
    LOCK_HELD(&m->lock);
static void entry_unref_locked(struct manifests *m, struct entry *e)
{
    if (--e->refs)
        return;
    manifest_file_unref(e->file);
    if (e->held)
        cache_mem_give(images_cache(m->config.images), e->held);
    free(e);
}

static void remove_locked(struct manifests *m, const struct entry *e)
    LOCK_HELD(&m->lock);
static void remove_locked(struct manifests *m, const struct entry *e)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i] == e) {
            struct entry *const gone = m->v[i];
            m->v[i] = m->v[--m->n];
            entry_unref_locked(m, gone);
            return;
        }
    }
}

void manifests_free(struct manifests *m)
{
    if (!m)
        return;
    lock_take(&m->lock);
    m->is_stopping = true;
    while (m->totals.being_made)
        (void)cond_wait(&m->moved, &m->lock, CLOCK_NEVER);
    while (m->n)
        remove_locked(m, m->v[0]);
    lock_give(&m->lock);
    manifest_exports_free(m->exports);
    manifest_roots_free(m->roots);
    if (m->dir >= 0)
        (void)close(m->dir);
    cond_release(&m->moved);
    lock_release(&m->lock);
    lock_release(&m->files);
    free(m);
}

void manifests_set_owner(struct manifests *m,
                         const struct manifests_owner *owner)
{
    m->owner = *owner;
}

struct manifest_exports *manifests_exports(const struct manifests *m)
{
    return m->exports;
}

void manifests_totals(struct manifests *m, struct manifests_totals *out)
{
    lock_take(&m->lock);
    *out = m->totals;
    lock_give(&m->lock);
}

static struct entry *find_locked(struct manifests *m, const char *etag)
    LOCK_HELD(&m->lock);
static struct entry *find_locked(struct manifests *m, const char *etag)
{
    for (size_t i = 0; i < m->n; i++) {
        if (strcmp(m->v[i]->etag, etag) == 0) {
            m->v[i]->used = ++m->clock;
            return m->v[i];
        }
    }
    return NULL;
}

/* An entry of its own, in place of the one used longest ago.  NULL: all are
 * being made, or no memory. */
static struct entry *add_locked(struct manifests *m, const char *etag)
    LOCK_HELD(&m->lock);
static struct entry *add_locked(struct manifests *m, const char *etag)
{
    struct entry *oldest = NULL;

    for (size_t i = 0; i < m->n && m->n == MANIFESTS_OPEN; i++) {
        if (!m->v[i]->is_being_made &&
            (!oldest || m->v[i]->used < oldest->used))
            oldest = m->v[i];
    }
    if (oldest)
        remove_locked(m, oldest);
    struct entry *const e =
        m->n < MANIFESTS_OPEN ? calloc(1, sizeof(*e)) : NULL;
    if (!e)
        return NULL;
    e->refs = 1;
    e->used = ++m->clock;
    (void)snprintf(e->etag, sizeof(e->etag), "%s", etag);
    m->v[m->n++] = e;
    return e;
}

/* ---- Memory ---- */

static bool count_data(void *cookie, const struct plt_extent *x)
{
    uint64_t *const bytes = (uint64_t *)cookie;

    if (!(x->flags & PLT_EXTENT_ZERO))
        *bytes += x->len + 2 * (uint64_t)MANIFEST_GROUP;
    return true;
}

/* What a manifest takes: the digests of groups, and without a folder those of
 * the leaves that are not zeros. */
static enum plt_status take_memory(struct make *k, uint64_t size,
                                   struct plt_error *err)
{
    struct cache *const cache = images_cache(k->m->config.images);
    uint64_t data = 0;
    enum plt_status st = PLT_OK;

    if (size > MANIFEST_FILE_MOST)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a disk of more than 16 TiB has no manifest");
    if (k->m->dir < 0)
        st = image_extents(k->image, &k->io, 0, size, count_data, &data, err);
    if (st != PLT_OK)
        return st;
    if (data > size)
        data = size;
    const uint64_t bytes = (manifest_groups(size) + 1) * (MANIFEST_DIGEST + 1) +
                           manifest_leaves(data) * MANIFEST_DIGEST;
    if (!cache_mem_fits(cache, bytes))
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a manifest of this disk needs %llu bytes of cache%s",
                        (unsigned long long)bytes,
                        k->m->dir < 0 ? ", or a state folder" : "");
    if (!cache_mem_take(cache, bytes))
        return plt_fail(err, PLT_NOMEM, "%llu bytes for a manifest",
                        (unsigned long long)bytes);
    lock_take(&k->m->lock);
    k->entry->held = bytes;
    lock_give(&k->m->lock);
    return PLT_OK;
}

/* ---- Making ---- */

static bool is_cancelled(const struct plt_io *io)
{
    struct manifests *const m = ((const struct make *)io)->m;

    lock_take(&m->lock);
    const bool is_stopping = m->is_stopping;
    lock_give(&m->lock);
    return is_stopping;
}

static void charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

static void on_progress(void *cookie, uint64_t done, uint64_t all)
{
    struct make *const k = (struct make *)cookie;

    lock_take(&k->m->lock);
    k->entry->done = done;
    k->entry->all = all;
    lock_give(&k->m->lock);
}

static void note(struct manifests *m, const struct reference *reference,
                 struct manifest_file *file)
{
    manifest_digest root;

    if (reference && reference->target && manifest_file_root(file, root))
        manifest_roots_add(m->roots, root, reference);
}

static enum plt_status make_it(struct make *k, struct manifest_file **file,
                               struct plt_error *err)
{
    struct manifests *const m = k->m;
    char name[MANIFEST_FILE_NAME];
    uint64_t size;
    enum plt_status st = image_resolve_size(k->image, &k->io, &size, err);

    if (st == PLT_OK)
        st = take_memory(k, size, err);
    if (st != PLT_OK)
        return st;
    const bool is_kept =
        m->dir >= 0 && manifest_folder_name(k->entry->etag, name);
    lock_take(&m->files);
    st = manifest_file_open(is_kept ? m->dir : -1, name, size, file, err);
    lock_give(&m->files);
    if (st != PLT_OK)
        return st;
    const struct manifest_build build = {.file = *file,
                                         .wait_ms = m->config.wait_ms,
                                         .progress = on_progress,
                                         .cookie = k};
    st = manifest_build(k->image, &k->io, &build, err);
    if (st == PLT_OK && is_kept) {
        lock_take(&m->files);
        manifest_folder_prune(m->dir, MANIFESTS_KEPT, MANIFESTS_BYTES, name);
        lock_give(&m->files);
    }
    return st;
}

static void *make_thread(void *arg)
{
    struct make *const k = (struct make *)arg;
    struct manifests *const m = k->m;
    struct entry *const e = k->entry;
    struct manifest_file *file = NULL;
    struct plt_error err = {.status = PLT_OK, .at = PLT_AT_NONE};
    const enum plt_status st = make_it(k, &file, &err);

    if (st == PLT_OK)
        note(m, &k->reference, file);
    image_unref(k->image);
    reference_release(&k->reference);
    lock_take(&m->lock);
    e->is_being_made = false;
    if (st == PLT_OK) {
        e->file = STEAL(file);
        m->totals.made++;
    } else {
        e->err = err;
        m->totals.failed++;
        remove_locked(m, e);
    }
    entry_unref_locked(m, e);
    m->totals.being_made--;
    cond_wake_all(&m->moved);
    lock_give(&m->lock); /* m may be gone from here on */
    manifest_file_unref(file);
    free(k);
    return NULL;
}

static bool start_thread(struct make *k)
{
    pthread_attr_t attr;
    pthread_t thread;

    ASSERT(pthread_attr_init(&attr) == 0);
    (void)pthread_attr_setstacksize(&attr, THREAD_STACK);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    const bool is_good = pthread_create(&thread, &attr, make_thread, k) == 0;
    (void)pthread_attr_destroy(&attr);
    return is_good;
}

/* *out: the entry that is being made from now on. */
static enum plt_status begin_locked(struct manifests *m, struct image *image,
                                    const struct reference *reference,
                                    struct entry **out, struct plt_error *err)
    LOCK_HELD(&m->lock);
static enum plt_status begin_locked(struct manifests *m, struct image *image,
                                    const struct reference *reference,
                                    struct entry **out, struct plt_error *err)
{
    if (m->is_stopping || m->totals.being_made == MANIFESTS_BUILDS)
        return plt_fail(err, PLT_BUSY, "%d manifests are being made",
                        MANIFESTS_BUILDS);
    AUTO_FREE struct make *k = calloc(1, sizeof(*k));
    struct entry *const e = k ? add_locked(m, image_etag(image)) : NULL;
    if (!e)
        return plt_fail(err, PLT_NOMEM, "a manifest");
    *k = (struct make){.io = {.struct_size = (uint32_t)sizeof(k->io),
                              .deadline_ns = CLOCK_NEVER,
                              .cancelled = is_cancelled,
                              .charge = charge},
                       .m = m,
                       .entry = e,
                       .image = image};
    if (reference && !reference_copy(&k->reference, reference)) {
        remove_locked(m, e);
        return plt_fail(err, PLT_NOMEM, "a manifest");
    }
    image_ref(image);
    e->is_being_made = true;
    e->refs++;
    m->totals.being_made++;
    *out = e;
    if (start_thread(k)) {
        k = NULL;
        return PLT_OK;
    }
    m->totals.being_made--;
    e->refs--;
    remove_locked(m, e);
    image_unref(image); /* the asker has another */
    reference_release(&k->reference);
    return plt_fail(err, PLT_BUSY, "no thread to make a manifest");
}

/* ---- Finding ---- */

/* In memory, or complete in the folder. */
enum plt_status manifests_find(struct manifests *m, struct image *image,
                               struct manifest_file **out,
                               struct plt_error *err)
{
    const char *const etag = image_etag(image);
    char name[MANIFEST_FILE_NAME];
    enum plt_status st;

    *out = m->owner.of_image ? m->owner.of_image(m->owner.cookie, image) : NULL;
    if (*out)
        return PLT_OK;
    lock_take(&m->lock);
    struct entry *e = find_locked(m, etag);
    const bool is_there = e != NULL;
    if (e && e->file && manifest_file_is_complete(e->file)) {
        *out = e->file;
        manifest_file_ref(*out);
    } else if (e && e->file) {
        remove_locked(m, e); /* damage was found: the rest is read again */
    }
    lock_give(&m->lock);
    if (*out)
        return PLT_OK;
    if (is_there || m->dir < 0 || !manifest_folder_name(etag, name))
        return plt_fail(err, PLT_NOT_FOUND, "no manifest yet");
    lock_take(&m->files);
    st = manifest_file_open_complete(m->dir, name, out, err);
    if (st == PLT_OK)
        manifest_folder_touch(m->dir, name);
    lock_give(&m->files);
    if (st != PLT_OK)
        return st;
    const uint64_t bytes =
        (manifest_groups(manifest_file_size(*out)) + 1) * (MANIFEST_DIGEST + 1);
    if (!cache_mem_take(images_cache(m->config.images), bytes))
        return PLT_OK; /* for this asker alone */
    lock_take(&m->lock);
    e = find_locked(m, etag) ? NULL : add_locked(m, etag);
    if (e) {
        e->file = *out;
        e->held = bytes;
        manifest_file_ref(*out);
    }
    lock_give(&m->lock);
    if (!e)
        cache_mem_give(images_cache(m->config.images), bytes);
    return PLT_OK;
}

/* Until it is made, or io's deadline. */
static enum plt_status wait_locked(struct manifests *m, struct entry *e,
                                   struct plt_io *io,
                                   image_progress_fn *progress, void *cookie,
                                   struct plt_error *err) LOCK_HELD(&m->lock);
static enum plt_status wait_locked(struct manifests *m, struct entry *e,
                                   struct plt_io *io,
                                   image_progress_fn *progress, void *cookie,
                                   struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (m->n_waiting == MANIFESTS_WAITERS)
        return plt_fail(err, PLT_BUSY, "%d wait for manifests",
                        MANIFESTS_WAITERS);
    m->n_waiting++;
    while (e->is_being_made && st == PLT_OK) {
        const uint64_t soon = clock_after_ms(POLL_MS);
        (void)cond_wait(&m->moved, &m->lock,
                        soon < io->deadline_ns ? soon : io->deadline_ns);
        const uint64_t done = e->done, all = e->all;
        const bool is_late = clock_now() >= io->deadline_ns;
        lock_give(&m->lock);
        if (progress && all)
            progress(cookie, done, all);
        if (io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "a manifest");
        else if (is_late)
            st = plt_fail(err, PLT_BUSY, "the manifest is being made");
        lock_take(&m->lock);
    }
    m->n_waiting--;
    return st;
}

enum plt_status manifests_get(struct manifests *m, struct image *image,
                              const struct reference *reference,
                              struct plt_io *io, image_progress_fn *progress,
                              void *cookie, struct manifest_file **out,
                              struct plt_error *err)
{
    enum plt_status st = manifests_find(m, image, out, err);
    struct entry *e;

    if (st == PLT_OK && !manifest_file_is_complete(*out)) {
        manifest_file_unref(*out);
        *out = NULL;
        return plt_fail(err, PLT_BUSY, "not all of the image is mirrored yet");
    }
    if (st == PLT_OK)
        note(m, reference, *out);
    if (st != PLT_NOT_FOUND)
        return st;
    st = PLT_OK;
    lock_take(&m->lock);
    e = find_locked(m, image_etag(image));
    if (!e)
        st = begin_locked(m, image, reference, &e, err);
    if (st == PLT_OK) {
        e->refs++;
        st = wait_locked(m, e, io, progress, cookie, err);
        if (!e->is_being_made && !e->file) {
            *err = e->err;
            st = e->err.status;
        } else if (!e->is_being_made) {
            st = PLT_OK;
            *out = e->file;
            manifest_file_ref(*out);
        }
        entry_unref_locked(m, e);
    }
    lock_give(&m->lock);
    if (st == PLT_OK)
        note(m, reference, *out);
    return st;
}

void manifests_drop(struct manifests *m, struct image *image)
{
    char name[MANIFEST_FILE_NAME];

    lock_take(&m->files);
    lock_take(&m->lock);
    struct entry *const e = find_locked(m, image_etag(image));
    const bool is_gone = e && !e->is_being_made;
    if (is_gone) {
        remove_locked(m, e);
        m->totals.dropped++;
    }
    lock_give(&m->lock);
    if (is_gone && m->dir >= 0 && manifest_folder_name(image_etag(image), name))
        manifest_folder_remove(m->dir, name);
    lock_give(&m->files);
}

size_t manifests_references(struct manifests *m, const manifest_digest root,
                            uint64_t n, struct reference *out)
{
    char *const name =
        m->owner.of_root ? m->owner.of_root(m->owner.cookie, root, n) : NULL;
    size_t found = 0;

    if (name)
        out[found++] = (struct reference){.target = name};
    return found + manifest_roots_find(m->roots, root, out + found,
                                       MANIFESTS_CANDIDATES - found);
}
