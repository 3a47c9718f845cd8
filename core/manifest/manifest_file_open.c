/* SPDX-License-Identifier: Apache-2.0 */
/* The file, all numbers little-endian:
 *
 *     0     the head, 64 bytes, and manifest_leaf() of them
 *           0 "platter-digests" NUL   16 version, 4 bytes: 1
 *           20 state, 4 bytes         24 the disk's size in bytes, 8 bytes
 *           32 the root; zeros in PARTIAL
 *     128   64 bytes, and manifest_leaf() of them, when the counts are known:
 *           128 the root that they are of   160 bytes of data, 8 bytes
 *           168 leaves of data, 8 bytes     176 zeros
 *     4096  group digests, 32 bytes each; zeros: unknown
 *     then, at the next multiple of 4096, leaf digests, 32 bytes each
 *
 * Groups of zeros are not written before the end, and their leaves never: they
 * follow from the group's digest. */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manifest/manifest_file_inside.h"

enum { HEAD = 64, COUNTS = 64, COUNTS_AT = 128, VERSION = 1 };

static const char magic[16] = "platter-digests";
const manifest_digest manifest_unknown;

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

bool manifest_file_read(int fd, void *buf, size_t len, uint64_t off)
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

enum plt_status manifest_file_write(int fd, const void *buf, size_t len,
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

enum plt_status manifest_file_write_head(struct manifest_file *f,
                                         unsigned state,
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
    return manifest_file_write(f->fd, head, sizeof(head), 0, err);
}

/* False: there is none that can be believed. */
static bool read_head(int fd, unsigned *state, uint64_t *size,
                      manifest_digest root)
{
    uint8_t head[HEAD + MANIFEST_DIGEST];
    manifest_digest digest;

    if (!manifest_file_read(fd, head, sizeof(head), 0))
        return false;
    manifest_leaf(head, HEAD, digest);
    *state = (unsigned)get_le(head + 20, 4);
    *size = get_le(head + 24, 8);
    memcpy(root, head + 32, MANIFEST_DIGEST);
    return memcmp(digest, head + HEAD, MANIFEST_DIGEST) == 0 &&
           memcmp(head, magic, sizeof(magic)) == 0 &&
           get_le(head + 16, 4) == VERSION &&
           *state <= MANIFEST_FILE_COMPLETE && *size <= MANIFEST_FILE_MOST;
}

enum plt_status manifest_file_write_counts(struct manifest_file *f,
                                           const manifest_digest root,
                                           const struct manifest_counts *counts,
                                           struct plt_error *err)
{
    uint8_t row[COUNTS + MANIFEST_DIGEST] = {0};

    memcpy(row, root, MANIFEST_DIGEST);
    put_le(row + 32, counts->bytes, 8);
    put_le(row + 40, counts->leaves, 8);
    manifest_leaf(row, COUNTS, row + COUNTS);
    return manifest_file_write(f->fd, row, sizeof(row), COUNTS_AT, err);
}

/* Of a file that nobody else knows yet. */
static void load_counts(struct manifest_file *f)
{
    uint8_t row[COUNTS + MANIFEST_DIGEST];
    manifest_digest digest;

    if (!f->has_root || !manifest_file_read(f->fd, row, sizeof(row), COUNTS_AT))
        return;
    manifest_leaf(row, COUNTS, digest);
    f->counts = (struct manifest_counts){.bytes = get_le(row + 32, 8),
                                         .leaves = get_le(row + 40, 8)};
    f->has_counts = memcmp(digest, row + COUNTS, MANIFEST_DIGEST) == 0 &&
                    memcmp(f->root, row, MANIFEST_DIGEST) == 0 &&
                    f->counts.bytes <= f->size &&
                    f->counts.leaves <= manifest_leaves(f->size);
}

uint64_t manifest_file_leaves_place(uint64_t size)
{
    const uint64_t end =
        MANIFEST_FILE_LISTS + manifest_groups(size) * MANIFEST_DIGEST;
    return (end + MANIFEST_FILE_LISTS - 1) / MANIFEST_FILE_LISTS *
           MANIFEST_FILE_LISTS;
}

/* ---- Opening ---- */

/* What the groups say is believed as a whole, or of those whose leaves are
 * there.  False: the file cannot be read. */
static bool load(struct manifest_file *f, unsigned state,
                 const manifest_digest root)
{
    manifest_digest leaves[MANIFEST_LEAVES], made;
    bool is_whole = false;

    if (!manifest_file_read(f->fd, f->groups, f->n_groups * MANIFEST_DIGEST,
                            MANIFEST_FILE_LISTS))
        return false;
    if (state != MANIFEST_FILE_PARTIAL) {
        manifest_root(f->size, (const manifest_digest *)f->groups, made);
        is_whole = memcmp(made, root, MANIFEST_DIGEST) == 0;
    }
    for (uint64_t g = 0; g < f->n_groups; g++) {
        uint8_t *const group = f->groups[g];
        const bool is_zero = manifest_file_is_zero(f, g, group);
        const bool is_there =
            memcmp(group, manifest_unknown, MANIFEST_DIGEST) != 0;
        const bool has_leaves =
            is_zero || (!is_whole && is_there &&
                        manifest_file_read_leaves(f, g, group, leaves));
        f->has_leaves[g] = has_leaves;
        if (is_whole || has_leaves)
            f->n_known++;
        else
            memset(group, 0, MANIFEST_DIGEST);
    }
    atomic_store(&f->is_complete, is_whole && state == MANIFEST_FILE_COMPLETE);
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
        (uint64_t)sb.st_size != manifest_file_leaves_place(size) +
                                    manifest_leaves(size) * MANIFEST_DIGEST) {
        (void)close(fd);
        return NULL;
    }
    struct manifest_file *const f = manifest_file_new(dir, fd, size);
    if (f && load(f, state, root)) {
        lock_take(&f->writing);
        manifest_file_find_root(f);
        lock_give(&f->writing);
        load_counts(f);
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
    struct manifest_file *const f = manifest_file_new(dir, fd, size);
    if (!f)
        return plt_fail(err, PLT_NOMEM, "a manifest");
    const uint64_t end = f->leaves_at + manifest_leaves(size) * MANIFEST_DIGEST;
    enum plt_status st = PLT_OK;
    if (ftruncate(fd, (off_t)end) != 0)
        st = plt_fail_sys(err, PLT_IO, errno, "make a manifest");
    if (st == PLT_OK)
        st = manifest_file_write_head(f, MANIFEST_FILE_PARTIAL,
                                      manifest_unknown, err);
    if (st != PLT_OK) {
        manifest_file_unref(f);
        return st;
    }
    lock_take(&f->writing);
    manifest_file_find_root(f); /* of an empty disk */
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
