/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifests_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "manifest/manifest_folder.h"
#include "manifest/manifests_export.h"
#include "util/clock.h"

enum { POLL_MS = 200 };

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

void manifests_unref_locked(struct manifests *m, struct manifest_entry *e)
{
    if (--e->refs)
        return;
    manifest_file_unref(e->file);
    if (e->held)
        cache_mem_give(images_cache(m->config.images), e->held);
    free(e);
}

void manifests_remove_locked(struct manifests *m,
                             const struct manifest_entry *e)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i] == e) {
            struct manifest_entry *const gone = m->v[i];
            m->v[i] = m->v[--m->n];
            manifests_unref_locked(m, gone);
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
        manifests_remove_locked(m, m->v[0]);
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

static struct manifest_entry *find_locked(struct manifests *m, const char *etag)
    LOCK_HELD(&m->lock);
static struct manifest_entry *find_locked(struct manifests *m, const char *etag)
{
    for (size_t i = 0; i < m->n; i++) {
        if (strcmp(m->v[i]->etag, etag) == 0) {
            m->v[i]->used = ++m->clock;
            return m->v[i];
        }
    }
    return NULL;
}

struct manifest_entry *manifests_add_locked(struct manifests *m,
                                            const char *etag)
{
    struct manifest_entry *oldest = NULL;

    for (size_t i = 0; i < m->n && m->n == MANIFESTS_OPEN; i++) {
        if (!m->v[i]->is_being_made &&
            (!oldest || m->v[i]->used < oldest->used))
            oldest = m->v[i];
    }
    if (oldest)
        manifests_remove_locked(m, oldest);
    struct manifest_entry *const e =
        m->n < MANIFESTS_OPEN ? calloc(1, sizeof(*e)) : NULL;
    if (!e)
        return NULL;
    e->refs = 1;
    e->used = ++m->clock;
    (void)snprintf(e->etag, sizeof(e->etag), "%s", etag);
    m->v[m->n++] = e;
    return e;
}

/* ---- Finding ---- */

void manifests_note(struct manifests *m, const struct reference *reference,
                    struct manifest_file *file)
{
    manifest_digest root;

    if (reference && reference->target && manifest_file_root(file, root))
        manifest_roots_add(m->roots, root, reference);
}

static struct manifest_file *owned(struct manifests *m, struct image *image)
{
    return m->owner.of_image ? m->owner.of_image(m->owner.cookie, image) : NULL;
}

struct manifest_file *manifests_peek(struct manifests *m, struct image *image,
                                     const struct reference *reference)
{
    struct manifest_file *file = owned(m, image);
    manifest_digest root;

    if (!file) {
        lock_take(&m->lock);
        const struct manifest_entry *const e =
            find_locked(m, image_etag(image));
        if (e && e->file) {
            file = e->file;
            manifest_file_ref(file);
        }
        lock_give(&m->lock);
    }
    if (file && manifest_file_is_complete(file) &&
        manifest_file_root(file, root) &&
        manifest_roots_use(m->roots, root, reference))
        return file;
    manifest_file_unref(file);
    return NULL;
}

enum plt_status manifests_find(struct manifests *m, struct image *image,
                               struct manifest_file **out,
                               struct plt_error *err)
{
    *out = owned(m, image);
    return *out ? PLT_OK : manifests_find_etag(m, image_etag(image), out, err);
}

/* In memory, or complete in the folder. */
enum plt_status manifests_find_etag(struct manifests *m, const char *etag,
                                    struct manifest_file **out,
                                    struct plt_error *err)
{
    char name[MANIFEST_FILE_NAME];
    enum plt_status st;

    *out = NULL;
    lock_take(&m->lock);
    struct manifest_entry *e = find_locked(m, etag);
    const bool is_there = e != NULL;
    if (e && e->file && manifest_file_is_complete(e->file)) {
        *out = e->file;
        manifest_file_ref(*out);
    } else if (e && e->file) {
        manifests_remove_locked(
            m, e); /* damage was found: the rest is read again */
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
    const uint64_t bytes = manifests_held(manifest_file_size(*out));
    if (!cache_mem_take(images_cache(m->config.images), bytes))
        return PLT_OK; /* for this asker alone */
    lock_take(&m->lock);
    e = find_locked(m, etag) ? NULL : manifests_add_locked(m, etag);
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
static enum plt_status wait_locked(struct manifests *m,
                                   struct manifest_entry *e, struct plt_io *io,
                                   image_progress_fn *progress, void *cookie,
                                   struct plt_error *err) LOCK_HELD(&m->lock);
static enum plt_status wait_locked(struct manifests *m,
                                   struct manifest_entry *e, struct plt_io *io,
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
    struct manifest_entry *e;

    if (st == PLT_OK && !manifest_file_is_complete(*out)) {
        manifest_file_unref(*out);
        *out = NULL;
        return plt_fail(err, PLT_BUSY, "not all of the image is mirrored yet");
    }
    if (st == PLT_OK)
        manifests_note(m, reference, *out);
    if (st != PLT_NOT_FOUND)
        return st;
    st = PLT_OK;
    lock_take(&m->lock);
    e = find_locked(m, image_etag(image));
    if (!e)
        st = manifests_begin_locked(m, image, reference, &e, err);
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
        manifests_unref_locked(m, e);
    }
    lock_give(&m->lock);
    if (st == PLT_OK)
        manifests_note(m, reference, *out);
    return st;
}

static void drop_etag(struct manifests *m, const char *etag)
{
    char name[MANIFEST_FILE_NAME];

    lock_take(&m->files);
    lock_take(&m->lock);
    struct manifest_entry *const e = find_locked(m, etag);
    const bool is_left = e && e->is_being_made;
    if (e && !is_left) {
        manifests_remove_locked(m, e);
        m->totals.dropped++;
    }
    lock_give(&m->lock);
    if (!is_left && m->dir >= 0 && manifest_folder_name(etag, name))
        manifest_folder_remove(m->dir, name);
    lock_give(&m->files);
}

/* It may be one of the images below that changed: out of their manifests the
 * same would be made again. */
void manifests_drop(struct manifests *m, struct image *image)
{
    char etag[IMAGE_ETAG];

    drop_etag(m, image_etag(image));
    for (unsigned depth = 1; image_backing_etag(image, depth, etag); depth++)
        drop_etag(m, etag);
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
