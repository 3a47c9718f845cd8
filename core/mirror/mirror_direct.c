/* SPDX-License-Identifier: Apache-2.0 */
/* A source without a manifest: all of it is read once, kept, and its digests
 * are what came. */
#include <string.h>

#include "manifest/manifest_build.h"
#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "util/clock.h"

enum { THREADS = 4, SYNC_GROUPS = 64 };

struct copy {
    struct version *v;
    struct mirror_io *io;
    _Atomic uint64_t n_groups;
};

/* Fresh, or lost since: only those are read. */
static bool wants(void *cookie, uint64_t g)
{
    struct version *const v = ((struct copy *)cookie)->v;

    lock_take(&v->lock);
    const bool is_wanted = v->state[g] != GROUP_DONE;
    if (is_wanted)
        v->state[g] = GROUP_TAKEN;
    lock_give(&v->lock);
    return is_wanted;
}

/* Leaves that are not zeros, one after the other. */
static enum plt_status keep(struct version *v, uint64_t g, const uint8_t *data,
                            size_t len, const manifest_digest *leaves, size_t n,
                            size_t *kept, struct plt_error *err)
{
    uint8_t last[MANIFEST_LEAF];
    enum plt_status st = PLT_OK;

    *kept = 0;
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        const uint8_t *leaf = data + i * MANIFEST_LEAF;
        const size_t left = len - i * MANIFEST_LEAF;
        if (manifest_is_zero_leaf(leaves[i])) {
            if (v->out)
                st = out_zero(v->out, g * MANIFEST_LEAVES + i, err);
            continue;
        }
        if (left < MANIFEST_LEAF) {
            memset(last, 0, sizeof(last));
            memcpy(last, leaf, left);
            leaf = last;
        }
        (*kept)++;
        if (v->out) {
            st = out_put(v->out, g * MANIFEST_LEAVES + i, leaf, err);
            continue;
        }
        /* As many as follow, whole, in one call. */
        size_t k = i + 1;
        while (leaf != last && k < n &&
               len - k * MANIFEST_LEAF >= MANIFEST_LEAF &&
               !manifest_is_zero_leaf(leaves[k]))
            k++;
        *kept += k - i - 1;
        size_t added = 0;
        st = store_put(v->mirrors->store, k - i, &leaves[i], leaf, &added, err);
        const uint64_t reused = (k - i - added) * MANIFEST_LEAF;
        (void)atomic_fetch_add(&v->counts.reused, reused);
        (void)atomic_fetch_add(&v->mirrors->reused, reused);
        i = k - 1;
    }
    return st;
}

static enum plt_status sink(void *cookie, uint64_t g, const uint8_t *data,
                            size_t len, const manifest_digest *leaves, size_t n,
                            struct plt_error *err)
{
    struct copy *const c = (struct copy *)cookie;
    struct version *const v = c->v;
    size_t kept = 0;
    enum plt_status st = PLT_OK;

    if (data && !mirror_pace(v->mirror, len, true))
        st = plt_fail(err, PLT_CANCELLED, "a mirror");
    if (st == PLT_OK && data)
        st = keep(v, g, data, len, leaves, n, &kept, err);
    for (size_t i = 0; i < n && st == PLT_OK && !data && v->out; i++)
        st = out_zero(v->out, g * MANIFEST_LEAVES + i, err);
    version_give(v, g, st == PLT_OK, kept, kept);
    mirror_changed(v->mirror);
    if (st == PLT_OK && atomic_fetch_add(&c->n_groups, 1) % SYNC_GROUPS == 0)
        st =
            v->out ? out_sync(v->out, err) : store_sync(v->mirrors->store, err);
    return st;
}

/* What was taken, and did not come. */
static void give_back(struct version *v)
{
    lock_take(&v->lock);
    for (uint64_t g = 0; g < v->n_groups; g++) {
        if (v->state[g] == GROUP_TAKEN)
            v->state[g] = GROUP_TODO;
    }
    v->next = 0;
    lock_give(&v->lock);
}

enum plt_status mirror_direct(struct version *v, struct plt_error *err)
{
    struct mirror_io io;
    struct copy copy = {.v = v, .io = &io};
    struct image *image;

    mirror_io_init(&io, v->mirror, v, NULL, PLT_IO_BACKGROUND);
    enum plt_status st = source_disk(v->mirror, &io.io, &image, err);
    if (st != PLT_OK)
        return st;
    uint64_t size;
    st = image_resolve_size(image, &io.io, &size, err);
    if (st == PLT_OK &&
        (size != v->size || strcmp(image_etag(image), v->etag) != 0))
        st = plt_fail(err, PLT_CHANGED, "the source has changed");
    io.io.deadline_ns = UINT64_MAX;
    const struct manifest_build build = {.file = v->file,
                                         .threads = THREADS,
                                         .wait_ms = MIRROR_DATA_MS,
                                         .sink = sink,
                                         .wants = wants,
                                         .cookie = &copy};
    if (st == PLT_OK)
        st = manifest_build(image, &io.io, &build, err);
    image_unref(image);
    if (st != PLT_OK)
        give_back(v);
    return st;
}
