/* SPDX-License-Identifier: Apache-2.0 */
/* Making a manifest, on a thread of its own. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "manifest/manifest_backing.h"
#include "manifest/manifest_folder.h"
#include "manifest/manifest_head.h"
#include "manifest/manifests_inside.h"
#include "util/auto.h"
#include "util/clock.h"

enum { THREAD_STACK = 2 << 20 };

struct make {
    struct plt_io io; /* first */
    struct manifests *m;
    struct manifest_entry *entry;
    struct image *image;
    struct reference reference; /* target NULL: none */
};

/* ---- Memory ---- */

static bool count_data(void *cookie, const struct plt_extent *x)
{
    uint64_t *const bytes = (uint64_t *)cookie;

    if (!(x->flags & PLT_EXTENT_ZERO))
        *bytes += x->len + 2 * (uint64_t)MANIFEST_GROUP;
    return true;
}

uint64_t manifests_held(uint64_t size)
{
    return (manifest_groups(size) + 1) * (MANIFEST_DIGEST + 1) +
           manifest_head_held(size);
}

/* What a manifest takes: the digests of groups, its head, and without a folder
 * those of the leaves that are not zeros. */
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
    const uint64_t bytes =
        manifests_held(size) + manifest_leaves(data) * MANIFEST_DIGEST;
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

/* What the nearest image below has, whose manifest is there. */
static enum plt_status inherit(struct make *k, struct manifest_file *file,
                               struct plt_error *err)
{
    struct manifests *const m = k->m;
    struct manifest_file *backing = NULL;
    struct plt_error none = {.at = PLT_AT_NONE};
    char etag[IMAGE_ETAG];
    uint64_t n = 0;
    unsigned depth = 1;

    while (image_backing_etag(k->image, depth, etag) &&
           manifests_find_etag(m, etag, &backing, &none) != PLT_OK)
        depth++;
    if (!backing)
        return PLT_OK;
    const enum plt_status st =
        manifest_take_backing(k->image, &k->io, depth, backing, file, &n, err);
    manifest_file_unref(backing);
    lock_take(&m->lock);
    m->totals.inherited += n;
    lock_give(&m->lock);
    return st;
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
    st = inherit(k, *file, err);
    if (st == PLT_OK)
        st = manifest_build(k->image, &k->io, &build, err);
    struct manifest_text *head;
    if (st == PLT_OK)
        st = manifest_head(*file, &head, err); /* not by each who waits */
    if (st == PLT_OK)
        manifest_text_unref(head);
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
    struct manifest_entry *const e = k->entry;
    struct manifest_file *file = NULL;
    struct plt_error err = {.status = PLT_OK, .at = PLT_AT_NONE};
    const enum plt_status st = make_it(k, &file, &err);

    if (st == PLT_OK)
        manifests_note(m, &k->reference, file);
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
        manifests_remove_locked(m, e);
    }
    manifests_unref_locked(m, e);
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

enum plt_status manifests_begin_locked(struct manifests *m, struct image *image,
                                       const struct reference *reference,
                                       struct manifest_entry **out,
                                       struct plt_error *err)
{
    if (m->is_stopping || m->totals.being_made == MANIFESTS_BUILDS)
        return plt_fail(err, PLT_BUSY, "%d manifests are being made",
                        MANIFESTS_BUILDS);
    AUTO_FREE struct make *k = calloc(1, sizeof(*k));
    struct manifest_entry *const e =
        k ? manifests_add_locked(m, image_etag(image)) : NULL;
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
        manifests_remove_locked(m, e);
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
    manifests_remove_locked(m, e);
    image_unref(image); /* the asker has another */
    reference_release(&k->reference);
    return plt_fail(err, PLT_BUSY, "no thread to make a manifest");
}
