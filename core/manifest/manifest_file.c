/* SPDX-License-Identifier: Apache-2.0 */
/* What a file says, in memory, and what comes in. */
#include "manifest/manifest_file_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Memory ---- */

bool manifest_file_is_zero(const struct manifest_file *f, uint64_t g,
                           const manifest_digest digest)
{
    manifest_digest zero;

    manifest_zero_group(manifest_group_leaves(f->size, g), zero);
    return memcmp(digest, zero, MANIFEST_DIGEST) == 0;
}

static void set_group_locked(struct manifest_file *f, uint64_t g,
                             const manifest_digest digest, bool has_leaves)
    LOCK_HELD(&f->lock);
static void set_group_locked(struct manifest_file *f, uint64_t g,
                             const manifest_digest digest, bool has_leaves)
{
    if (memcmp(f->groups[g], manifest_unknown, MANIFEST_DIGEST) == 0)
        f->n_known++;
    memcpy(f->groups[g], digest, MANIFEST_DIGEST);
    f->has_leaves[g] = has_leaves;
}

/* With `writing` held, so that the groups stay as they are. */
void manifest_file_find_root(struct manifest_file *f)
{
    manifest_digest root;

    if (f->has_root || f->n_known < f->n_groups)
        return;
    manifest_root(f->size, (const manifest_digest *)f->groups, root);
    lock_take(&f->lock);
    memcpy(f->root, root, MANIFEST_DIGEST);
    f->has_root = true;
    lock_give(&f->lock);
}

struct manifest_file *manifest_file_new(int dir, int fd, uint64_t size)
{
    struct manifest_file *const f = calloc(1, sizeof(*f));

    if (!f) {
        (void)close(fd);
        return NULL;
    }
    atomic_init(&f->refs, 1);
    f->fd = fd;
    f->dir = dir >= 0 ? fcntl(dir, F_DUPFD_CLOEXEC, 0) : -1;
    f->size = size;
    f->n_groups = manifest_groups(size);
    f->leaves_at = manifest_file_leaves_place(size);
    lock_init(&f->writing);
    lock_init(&f->lock);
    f->groups = calloc(f->n_groups + 1, MANIFEST_DIGEST);
    f->has_leaves = calloc(f->n_groups + 1, 1);
    if (f->groups && f->has_leaves && (dir < 0 || f->dir >= 0))
        return f;
    manifest_file_unref(f);
    return NULL;
}

void manifest_file_ref(struct manifest_file *f)
{
    (void)atomic_fetch_add(&f->refs, 1);
}

void manifest_file_unref(struct manifest_file *f)
{
    if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    if (f->dir >= 0)
        (void)close(f->dir);
    (void)close(f->fd);
    lock_release(&f->lock);
    lock_release(&f->writing);
    manifest_text_unref(f->text);
    free(f->has_leaves);
    free(f->groups);
    free(f);
}

static uint64_t leaf_off(const struct manifest_file *f, uint64_t g)
{
    return f->leaves_at + g * MANIFEST_LEAVES * MANIFEST_DIGEST;
}

bool manifest_file_read_leaves(const struct manifest_file *f, uint64_t g,
                               const manifest_digest group,
                               manifest_digest *leaves)
{
    const size_t n = manifest_group_leaves(f->size, g);
    manifest_digest digest;

    if (!manifest_file_read(f->fd, leaves, n * MANIFEST_DIGEST, leaf_off(f, g)))
        return false;
    manifest_group((const manifest_digest *)leaves, n, digest);
    return memcmp(digest, group, MANIFEST_DIGEST) == 0;
}

/* ---- What is known ---- */

uint64_t manifest_file_size(const struct manifest_file *f)
{
    return f->size;
}

bool manifest_file_is_complete(const struct manifest_file *f)
{
    return atomic_load(&f->is_complete);
}

bool manifest_file_group(struct manifest_file *f, uint64_t g,
                         manifest_digest out)
{
    ASSERT(g < f->n_groups);
    lock_take(&f->lock);
    memcpy(out, f->groups[g], MANIFEST_DIGEST);
    lock_give(&f->lock);
    return memcmp(out, manifest_unknown, MANIFEST_DIGEST) != 0;
}

bool manifest_file_has_leaves(struct manifest_file *f, uint64_t g)
{
    ASSERT(g < f->n_groups);
    lock_take(&f->lock);
    const bool has = f->has_leaves[g];
    lock_give(&f->lock);
    return has;
}

bool manifest_file_root(struct manifest_file *f, manifest_digest out)
{
    lock_take(&f->lock);
    const bool has = f->has_root;
    memcpy(out, f->root, MANIFEST_DIGEST);
    lock_give(&f->lock);
    return has;
}

bool manifest_file_counts(struct manifest_file *f, struct manifest_counts *out)
{
    lock_take(&f->lock);
    const bool has = f->has_counts;
    *out = f->counts;
    lock_give(&f->lock);
    return has;
}

struct manifest_text *manifest_file_text(struct manifest_file *f)
{
    lock_take(&f->lock);
    struct manifest_text *const text = f->text;
    if (text)
        manifest_text_ref(text);
    lock_give(&f->lock);
    return text;
}

void manifest_file_keep(struct manifest_file *f, const manifest_digest root,
                        const struct manifest_counts *counts,
                        struct manifest_text *text)
{
    struct plt_error ignored = {.at = PLT_AT_NONE};

    lock_take(&f->writing);
    lock_take(&f->lock);
    const bool is_same =
        f->has_root && memcmp(f->root, root, MANIFEST_DIGEST) == 0;
    const bool is_new = is_same && !f->has_counts;
    if (is_same && text && !f->text) {
        manifest_text_ref(text);
        f->text = text;
    }
    if (is_new) {
        f->counts = *counts;
        f->has_counts = true;
    }
    lock_give(&f->lock);
    if (is_new) /* else they are counted again after the next start */
        (void)manifest_file_write_counts(f, root, counts, &ignored);
    lock_give(&f->writing);
}

/* Remember whether the leaves of a group of this digest are there. */
static void note_leaves(struct manifest_file *f, uint64_t g,
                        const manifest_digest group, bool are_there)
{
    lock_take(&f->lock);
    if (memcmp(f->groups[g], group, MANIFEST_DIGEST) == 0) {
        f->has_leaves[g] = are_there;
        if (!are_there)
            atomic_store(&f->is_complete, false);
    }
    lock_give(&f->lock);
}

enum plt_status manifest_file_leaves(struct manifest_file *f, uint64_t g,
                                     manifest_digest *leaves, size_t *n,
                                     struct plt_error *err)
{
    manifest_digest group;

    *n = manifest_group_leaves(f->size, g);
    if (!manifest_file_group(f, g, group))
        return plt_fail(err, PLT_NOT_FOUND, "leaves of a group");
    if (manifest_file_is_zero(f, g, group)) {
        for (size_t i = 0; i < *n; i++)
            memcpy(leaves[i], manifest_zero_leaf(), MANIFEST_DIGEST);
        return PLT_OK;
    }
    bool are_there = manifest_file_read_leaves(f, g, group, leaves);
    if (!are_there) {
        /* Somebody may have been writing them, or another group. */
        lock_take(&f->writing);
        are_there = manifest_file_group(f, g, group) &&
                    manifest_file_read_leaves(f, g, group, leaves);
        if (!are_there)
            note_leaves(f, g, group, false);
        lock_give(&f->writing);
    }
    if (!are_there)
        return plt_fail(err, PLT_NOT_FOUND, "leaves of a group");
    note_leaves(f, g, group, true);
    return PLT_OK;
}

/* ---- What comes in ---- */

static enum plt_status put_locked(struct manifest_file *f, uint64_t g,
                                  const manifest_digest *leaves, size_t n,
                                  const manifest_digest group,
                                  struct plt_error *err) LOCK_HELD(&f->writing);
static enum plt_status put_locked(struct manifest_file *f, uint64_t g,
                                  const manifest_digest *leaves, size_t n,
                                  const manifest_digest group,
                                  struct plt_error *err)
{
    manifest_digest was;
    const bool is_known = manifest_file_group(f, g, was);
    enum plt_status st = PLT_OK;

    if (is_known && memcmp(was, group, MANIFEST_DIGEST) != 0)
        return plt_fail(err, PLT_CORRUPT,
                        "group %llu of the disk has another digest",
                        (unsigned long long)g);
    if (is_known && manifest_file_has_leaves(f, g))
        return PLT_OK;
    if (!manifest_file_is_zero(f, g, group)) {
        st = manifest_file_write(f->fd, leaves, n * MANIFEST_DIGEST,
                                 leaf_off(f, g), err);
        if (st == PLT_OK)
            st = manifest_file_write(f->fd, group, MANIFEST_DIGEST,
                                     MANIFEST_FILE_LISTS + g * MANIFEST_DIGEST,
                                     err);
    }
    if (st != PLT_OK)
        return st;
    lock_take(&f->lock);
    set_group_locked(f, g, group, true);
    lock_give(&f->lock);
    manifest_file_find_root(f);
    return PLT_OK;
}

enum plt_status manifest_file_put(struct manifest_file *f, uint64_t g,
                                  const manifest_digest *leaves, size_t n,
                                  struct plt_error *err)
{
    manifest_digest group;

    ASSERT(g < f->n_groups && n == manifest_group_leaves(f->size, g));
    manifest_group(leaves, n, group);
    lock_take(&f->writing);
    const enum plt_status st = put_locked(f, g, leaves, n, group, err);
    lock_give(&f->writing);
    return st;
}

enum plt_status manifest_file_put_groups(struct manifest_file *f,
                                         const manifest_digest *groups,
                                         const manifest_digest root,
                                         struct plt_error *err)
{
    manifest_digest made;

    manifest_root(f->size, groups, made);
    if (memcmp(made, root, MANIFEST_DIGEST) != 0)
        return plt_fail(err, PLT_CORRUPT, "the groups make another root");
    lock_take(&f->writing);
    enum plt_status st = manifest_file_write(
        f->fd, groups, f->n_groups * MANIFEST_DIGEST, MANIFEST_FILE_LISTS, err);
    if (st == PLT_OK)
        st = manifest_file_write_head(f, MANIFEST_FILE_GROUPS, root, err);
    if (st == PLT_OK) {
        lock_take(&f->lock);
        for (uint64_t g = 0; g < f->n_groups; g++) {
            const bool is_same =
                memcmp(f->groups[g], groups[g], MANIFEST_DIGEST) == 0;
            set_group_locked(f, g, groups[g],
                             (is_same && f->has_leaves[g]) ||
                                 manifest_file_is_zero(f, g, groups[g]));
        }
        if (memcmp(f->root, root, MANIFEST_DIGEST) != 0) {
            f->has_counts = false;
            manifest_text_unref(f->text);
            f->text = NULL;
        }
        memcpy(f->root, root, MANIFEST_DIGEST);
        f->has_root = true;
        lock_give(&f->lock);
        atomic_store(&f->is_complete, false);
    }
    lock_give(&f->writing);
    return st;
}

static enum plt_status finish_locked(struct manifest_file *f,
                                     struct plt_error *err)
    LOCK_HELD(&f->writing);
static enum plt_status finish_locked(struct manifest_file *f,
                                     struct plt_error *err)
{
    enum plt_status st =
        manifest_file_write(f->fd, f->groups, f->n_groups * MANIFEST_DIGEST,
                            MANIFEST_FILE_LISTS, err);

    /* The head says that all is there: it goes last. */
    if (st == PLT_OK && fdatasync(f->fd) != 0)
        st = plt_fail_sys(err, PLT_IO, errno, "write a manifest");
    if (st == PLT_OK)
        st = manifest_file_write_head(f, MANIFEST_FILE_COMPLETE, f->root, err);
    if (st == PLT_OK &&
        (fdatasync(f->fd) != 0 || (f->dir >= 0 && fsync(f->dir) != 0)))
        st = plt_fail_sys(err, PLT_IO, errno, "write a manifest");
    if (st == PLT_OK)
        atomic_store(&f->is_complete, true);
    return st;
}

enum plt_status manifest_file_finish(struct manifest_file *f,
                                     struct plt_error *err)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    enum plt_status st = PLT_OK;
    size_t n;

    if (manifest_file_is_complete(f))
        return PLT_OK;
    if (!manifest_file_root(f, leaves[0]))
        return plt_fail(err, PLT_NOT_FOUND, "groups are missing");
    for (uint64_t g = 0; g < f->n_groups && st == PLT_OK; g++) {
        if (!manifest_file_has_leaves(f, g))
            st = manifest_file_leaves(f, g, leaves, &n, err);
    }
    if (st != PLT_OK)
        return st;
    lock_take(&f->writing);
    st = finish_locked(f, err);
    lock_give(&f->writing);
    return st;
}
