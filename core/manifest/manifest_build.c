/* SPDX-License-Identifier: Apache-2.0 */
/* The digests are made on the threads that read (image_pump.c), group by group;
 * the caller's thread only counts. */
#include "manifest/manifest_build.h"

#include <string.h>

#include "util/lock.h"

struct making {
    const struct manifest_build *build;
    uint64_t done, all;
    struct lock lock;     /* guards the rest */
    struct plt_error err; /* the first that failed; status OK: none */
};

static uint64_t group_at(uint64_t off)
{
    return off / MANIFEST_GROUP;
}

static bool is_known(struct manifest_file *file, uint64_t g)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    struct plt_error err = {.at = PLT_AT_NONE};
    size_t n;

    return manifest_file_has_leaves(file, g) ||
           manifest_file_leaves(file, g, leaves, &n, &err) == PLT_OK;
}

static bool is_wanted(void *cookie, uint64_t off, size_t len)
{
    const struct manifest_build *const b = ((struct making *)cookie)->build;
    const uint64_t g = group_at(off);

    (void)len;
    if (b->sink && (!b->wants || b->wants(b->cookie, g)))
        return true;
    return !is_known(b->file, g);
}

static void hash_piece(void *cookie, struct image_piece *p)
{
    struct making *const m = (struct making *)cookie;
    const struct manifest_build *const b = m->build;
    const uint64_t g = group_at(p->off);
    const size_t n = (size_t)manifest_leaves(p->len);
    manifest_digest leaves[MANIFEST_LEAVES];
    struct plt_error err = {.status = PLT_OK, .at = PLT_AT_NONE};
    enum plt_status st = PLT_OK;

    if (p->data) {
        manifest_leaf_list(p->data, p->len, leaves);
    } else {
        for (size_t i = 0; i < n; i++)
            memcpy(leaves[i], manifest_zero_leaf(), MANIFEST_DIGEST);
    }
    if (b->sink && (!b->wants || b->wants(b->cookie, g)))
        st = b->sink(b->cookie, g, p->data, p->len,
                     (const manifest_digest *)leaves, n, &err);
    if (st == PLT_OK)
        st = manifest_file_put(b->file, g, (const manifest_digest *)leaves, n,
                               &err);
    if (st == PLT_OK)
        return;
    lock_take(&m->lock);
    if (m->err.status == PLT_OK)
        m->err = err;
    lock_give(&m->lock);
}

static enum plt_status count_piece(void *cookie, const struct image_piece *p,
                                   struct plt_error *err)
{
    struct making *const m = (struct making *)cookie;

    lock_take(&m->lock);
    const enum plt_status st = m->err.status;
    if (st != PLT_OK)
        *err = m->err;
    lock_give(&m->lock);
    m->done += p->len;
    if (st == PLT_OK && m->build->progress)
        m->build->progress(m->build->cookie, m->done, m->all);
    return st;
}

enum plt_status manifest_build(struct image *image, struct plt_io *io,
                               const struct manifest_build *build,
                               struct plt_error *err)
{
    struct making m = {.build = build,
                       .err = {.status = PLT_OK, .at = PLT_AT_NONE}};
    enum plt_status st = image_resolve_size(image, io, &m.all, err);

    if (st != PLT_OK)
        return st;
    ASSERT(m.all == manifest_file_size(build->file));
    const struct image_pump pump = {.len = m.all,
                                    .piece = MANIFEST_GROUP,
                                    .threads = build->threads,
                                    .wait_ms = build->wait_ms,
                                    .wants = is_wanted,
                                    .prepare = hash_piece,
                                    .take = count_piece,
                                    .cookie = &m};
    lock_init(&m.lock);
    st = image_pump(image, io, &pump, err);
    lock_release(&m.lock);
    return st == PLT_OK ? manifest_file_finish(build->file, err) : st;
}
