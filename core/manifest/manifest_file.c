/* SPDX-License-Identifier: Apache-2.0 */
/* The file, all numbers little-endian:
 *
 *     0     the head, 64 bytes, and manifest_leaf() of them
 *           0 "platter-digests" NUL   16 version, 4 bytes: 1
 *           20 state, 4 bytes         24 the disk's size in bytes, 8 bytes
 *           32 the root; zeros in STATE_PARTIAL
 *     4096  group digests, 32 bytes each; zeros: unknown
 *     then, at the next multiple of 4096, leaf digests, 32 bytes each
 *
 * Groups of zeros are not written before the end, and their leaves never: they
 * follow from the group's digest.
 *
 * Locks: `writing` is held while the file is changed, and is taken first;
 * `lock` guards what is known in memory, and nobody waits with it. */
#define _GNU_SOURCE /* memfd_create */
#include "manifest/manifest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/auto.h"
#include "util/lock.h"

enum {
    HEAD = 64,
    ALIGN = 4096,
    VERSION = 1,
    STATE_PARTIAL = 0, /* groups are believed when their leaves make them */
    STATE_GROUPS = 1,  /* the groups make the root */
    STATE_COMPLETE = 2
};

static const char magic[16] = "platter-digests";
static const manifest_digest unknown; /* no bytes have this digest */

struct manifest_file {
    _Atomic unsigned refs;
    int fd, dir; /* dir: a descriptor of its own, or -1 */
    uint64_t size, n_groups, leaves_at;
    atomic_bool is_complete;

    struct lock writing, lock; /* lock guards the rest */
    manifest_digest *groups;
    uint8_t *has_leaves; /* a flag for each group */
    uint64_t n_known;
    bool has_root;
    manifest_digest root;
};

static void put_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | p[n];
    return v;
}

static bool read_all(int fd, void *buf, size_t len, uint64_t off)
{
    uint8_t *p = (uint8_t *)buf;

    while (len) {
        const ssize_t n = pread(fd, p, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return true;
}

static enum plt_status write_all(int fd, const void *buf, size_t len,
                                 uint64_t off, struct plt_error *err)
{
    const uint8_t *p = (const uint8_t *)buf;

    while (len) {
        const ssize_t n = pwrite(fd, p, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return plt_fail_sys(err, PLT_IO, n < 0 ? errno : ENOSPC,
                                "write a manifest");
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return PLT_OK;
}

/* ---- The head ---- */

static enum plt_status write_head(struct manifest_file *f, unsigned state,
                                  const manifest_digest root,
                                  struct plt_error *err)
{
    uint8_t head[HEAD + MANIFEST_DIGEST];

    memcpy(head, magic, sizeof(magic));
    put_le(head + 16, VERSION, 4);
    put_le(head + 20, state, 4);
    put_le(head + 24, f->size, 8);
    memcpy(head + 32, root, MANIFEST_DIGEST);
    manifest_leaf(head, HEAD, head + HEAD);
    return write_all(f->fd, head, sizeof(head), 0, err);
}

/* False: there is none that can be believed. */
static bool read_head(int fd, unsigned *state, uint64_t *size,
                      manifest_digest root)
{
    uint8_t head[HEAD + MANIFEST_DIGEST];
    manifest_digest digest;

    if (!read_all(fd, head, sizeof(head), 0))
        return false;
    manifest_leaf(head, HEAD, digest);
    *state = (unsigned)get_le(head + 20, 4);
    *size = get_le(head + 24, 8);
    memcpy(root, head + 32, MANIFEST_DIGEST);
    return memcmp(digest, head + HEAD, MANIFEST_DIGEST) == 0 &&
           memcmp(head, magic, sizeof(magic)) == 0 &&
           get_le(head + 16, 4) == VERSION && *state <= STATE_COMPLETE &&
           *size <= MANIFEST_FILE_MOST;
}

/* ---- Memory ---- */

static uint64_t leaves_place(uint64_t size)
{
    const uint64_t end = ALIGN + manifest_groups(size) * MANIFEST_DIGEST;
    return (end + ALIGN - 1) / ALIGN * ALIGN;
}

static bool is_zero_group(const struct manifest_file *f, uint64_t g,
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
    if (memcmp(f->groups[g], unknown, MANIFEST_DIGEST) == 0)
        f->n_known++;
    memcpy(f->groups[g], digest, MANIFEST_DIGEST);
    f->has_leaves[g] = has_leaves;
}

/* With `writing` held, so that the groups stay as they are. */
static void find_root(struct manifest_file *f) LOCK_HELD(&f->writing);
static void find_root(struct manifest_file *f)
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

/* new; takes fd over, on failure too. */
static struct manifest_file *file_new(int dir, int fd, uint64_t size)
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
    f->leaves_at = leaves_place(size);
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
    free(f->has_leaves);
    free(f->groups);
    free(f);
}

/* ---- Opening ---- */

static uint64_t leaf_off(const struct manifest_file *f, uint64_t g)
{
    return f->leaves_at + g * MANIFEST_LEAVES * MANIFEST_DIGEST;
}

/* Do the leaves in the file make this group? */
static bool read_leaves(const struct manifest_file *f, uint64_t g,
                        const manifest_digest group, manifest_digest *leaves)
{
    const size_t n = manifest_group_leaves(f->size, g);
    manifest_digest digest;

    if (!read_all(f->fd, leaves, n * MANIFEST_DIGEST, leaf_off(f, g)))
        return false;
    manifest_group((const manifest_digest *)leaves, n, digest);
    return memcmp(digest, group, MANIFEST_DIGEST) == 0;
}

/* What the groups say is believed as a whole, or of those whose leaves are
 * there.  False: the file cannot be read. */
static bool load(struct manifest_file *f, unsigned state,
                 const manifest_digest root)
{
    manifest_digest leaves[MANIFEST_LEAVES], made;
    bool is_whole = false;

    if (!read_all(f->fd, f->groups, f->n_groups * MANIFEST_DIGEST, ALIGN))
        return false;
    if (state != STATE_PARTIAL) {
        manifest_root(f->size, (const manifest_digest *)f->groups, made);
        is_whole = memcmp(made, root, MANIFEST_DIGEST) == 0;
    }
    for (uint64_t g = 0; g < f->n_groups; g++) {
        uint8_t *const group = f->groups[g];
        const bool is_zero = is_zero_group(f, g, group);
        const bool is_there = memcmp(group, unknown, MANIFEST_DIGEST) != 0;
        const bool has_leaves = is_zero || (!is_whole && is_there &&
                                            read_leaves(f, g, group, leaves));
        f->has_leaves[g] = has_leaves;
        if (is_whole || has_leaves)
            f->n_known++;
        else
            memset(group, 0, MANIFEST_DIGEST);
    }
    atomic_store(&f->is_complete, is_whole && state == STATE_COMPLETE);
    return true;
}

/* What is there under the name, when it is what this module wrote; or NULL. */
static struct manifest_file *open_there(int dir, const char *name)
{
    manifest_digest root;
    unsigned state;
    uint64_t size;
    struct stat sb;
    const int fd =
        openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return NULL;
    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) ||
        !read_head(fd, &state, &size, root) ||
        (uint64_t)sb.st_size !=
            leaves_place(size) + manifest_leaves(size) * MANIFEST_DIGEST) {
        (void)close(fd);
        return NULL;
    }
    struct manifest_file *const f = file_new(dir, fd, size);
    if (f && load(f, state, root)) {
        lock_take(&f->writing);
        find_root(f);
        lock_give(&f->writing);
        return f;
    }
    manifest_file_unref(f);
    return NULL;
}

static enum plt_status make(int dir, const char *name, uint64_t size,
                            struct manifest_file **out, struct plt_error *err)
{
    int fd;

    if (dir >= 0) {
        (void)unlinkat(dir, name, 0);
        fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    } else {
        fd = memfd_create("manifest", MFD_CLOEXEC);
    }
    if (fd < 0)
        return plt_fail_sys(err, PLT_IO, errno, "make a manifest");
    struct manifest_file *const f = file_new(dir, fd, size);
    if (!f)
        return plt_fail(err, PLT_NOMEM, "a manifest");
    const uint64_t end = f->leaves_at + manifest_leaves(size) * MANIFEST_DIGEST;
    enum plt_status st = PLT_OK;
    if (ftruncate(fd, (off_t)end) != 0)
        st = plt_fail_sys(err, PLT_IO, errno, "make a manifest");
    if (st == PLT_OK)
        st = write_head(f, STATE_PARTIAL, unknown, err);
    if (st != PLT_OK) {
        manifest_file_unref(f);
        return st;
    }
    lock_take(&f->writing);
    find_root(f); /* of an empty disk */
    lock_give(&f->writing);
    *out = f;
    return PLT_OK;
}

enum plt_status manifest_file_open(int dir, const char *name, uint64_t size,
                                   struct manifest_file **out,
                                   struct plt_error *err)
{
    if (size > MANIFEST_FILE_MOST)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a disk of more than 16 TiB has no manifest");
    struct manifest_file *const f = dir >= 0 ? open_there(dir, name) : NULL;
    if (f && f->size == size) {
        *out = f;
        return PLT_OK;
    }
    manifest_file_unref(f);
    return make(dir, name, size, out, err);
}

enum plt_status manifest_file_open_complete(int dir, const char *name,
                                            struct manifest_file **out,
                                            struct plt_error *err)
{
    struct manifest_file *const f = dir >= 0 ? open_there(dir, name) : NULL;

    if (f && atomic_load(&f->is_complete)) {
        *out = f;
        return PLT_OK;
    }
    manifest_file_unref(f);
    return plt_fail(err, PLT_NOT_FOUND, "no complete manifest");
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
    return memcmp(out, unknown, MANIFEST_DIGEST) != 0;
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
    if (is_zero_group(f, g, group)) {
        for (size_t i = 0; i < *n; i++)
            memcpy(leaves[i], manifest_zero_leaf(), MANIFEST_DIGEST);
        return PLT_OK;
    }
    bool are_there = read_leaves(f, g, group, leaves);
    if (!are_there) {
        /* Somebody may have been writing them, or another group. */
        lock_take(&f->writing);
        are_there = manifest_file_group(f, g, group) &&
                    read_leaves(f, g, group, leaves);
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
    if (!is_zero_group(f, g, group)) {
        st = write_all(f->fd, leaves, n * MANIFEST_DIGEST, leaf_off(f, g), err);
        if (st == PLT_OK)
            st = write_all(f->fd, group, MANIFEST_DIGEST,
                           ALIGN + g * MANIFEST_DIGEST, err);
    }
    if (st != PLT_OK)
        return st;
    lock_take(&f->lock);
    set_group_locked(f, g, group, true);
    lock_give(&f->lock);
    find_root(f);
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
    enum plt_status st =
        write_all(f->fd, groups, f->n_groups * MANIFEST_DIGEST, ALIGN, err);
    if (st == PLT_OK)
        st = write_head(f, STATE_GROUPS, root, err);
    if (st == PLT_OK) {
        lock_take(&f->lock);
        for (uint64_t g = 0; g < f->n_groups; g++) {
            const bool is_same =
                memcmp(f->groups[g], groups[g], MANIFEST_DIGEST) == 0;
            set_group_locked(f, g, groups[g],
                             (is_same && f->has_leaves[g]) ||
                                 is_zero_group(f, g, groups[g]));
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
        write_all(f->fd, f->groups, f->n_groups * MANIFEST_DIGEST, ALIGN, err);

    /* The head says that all is there: it goes last. */
    if (st == PLT_OK && fdatasync(f->fd) != 0)
        st = plt_fail_sys(err, PLT_IO, errno, "write a manifest");
    if (st == PLT_OK)
        st = write_head(f, STATE_COMPLETE, f->root, err);
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
