/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_backing.h"

#include <stdlib.h>
#include <string.h>

#include "util/auto.h"

struct survey {
    uint64_t size, backing_size;
    unsigned depth;
    uint64_t at;  /* all before it has been told */
    uint8_t *own; /* a bit for each group: it is not the backing file's */
};

static void mark_own(struct survey *s, uint64_t from, uint64_t to)
{
    for (uint64_t g = from / MANIFEST_GROUP; g * MANIFEST_GROUP < to; g++)
        s->own[g / 8] |= (uint8_t)(1u << g % 8);
}

/* Up to the backing file's end its depth counts, and behind it zeros, whoever
 * says so. */
static bool survey_extent(void *cookie, const struct plt_extent *x)
{
    struct survey *const s = (struct survey *)cookie;
    const uint64_t end = x->off + x->len;
    const uint64_t middle = end < s->backing_size      ? end
                            : x->off > s->backing_size ? x->off
                                                       : s->backing_size;

    if (x->off != s->at)
        return false;
    s->at = end;
    if (x->off < middle && x->depth < s->depth)
        mark_own(s, x->off, middle);
    if (middle < end && !(x->flags & PLT_EXTENT_ZERO))
        mark_own(s, middle, end);
    return true;
}

/* The leaves of group g as this disk has them: cut, or filled up with zeros.
 * False: they are not known, or are not cut between leaves. */
static bool shared_leaves(struct manifest_file *backing, uint64_t size,
                          uint64_t g, manifest_digest *leaves)
{
    const uint64_t backing_size = manifest_file_size(backing);
    const size_t want = manifest_group_leaves(size, g);
    const bool is_last = g + 1 == manifest_groups(size);
    struct plt_error err = {.at = PLT_AT_NONE};
    size_t n;

    if (g >= manifest_groups(backing_size) ||
        (is_last && size % MANIFEST_LEAF && backing_size > size) ||
        manifest_file_leaves(backing, g, leaves, &n, &err) != PLT_OK)
        return false;
    for (; n < want; n++)
        memcpy(leaves[n], manifest_zero_leaf(), MANIFEST_DIGEST);
    return true;
}

enum plt_status manifest_take_backing(struct image *image, struct plt_io *io,
                                      unsigned depth,
                                      struct manifest_file *backing,
                                      struct manifest_file *file, uint64_t *n,
                                      struct plt_error *err)
{
    struct survey s = {.size = manifest_file_size(file),
                       .backing_size = manifest_file_size(backing),
                       .depth = depth};
    const uint64_t n_groups = manifest_groups(s.size);
    manifest_digest leaves[MANIFEST_LEAVES];

    *n = 0;
    AUTO_FREE uint8_t *own = calloc(n_groups / 8 + 1, 1);
    if (!own)
        return plt_fail(err, PLT_NOMEM, "a map of groups");
    s.own = own;
    enum plt_status st =
        image_extents(image, io, 0, s.size, survey_extent, &s, err);
    if (st != PLT_OK || s.at != s.size) /* what is not told is read */
        return st;
    for (uint64_t g = 0; g < n_groups && st == PLT_OK; g++) {
        if (io->cancelled(io))
            return plt_fail(err, PLT_CANCELLED, "a manifest");
        if (own[g / 8] >> g % 8 & 1 || manifest_file_has_leaves(file, g) ||
            !shared_leaves(backing, s.size, g, leaves))
            continue;
        st = manifest_file_put(file, g, (const manifest_digest *)leaves,
                               manifest_group_leaves(s.size, g), err);
        ++*n;
    }
    return st;
}
