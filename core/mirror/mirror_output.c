/* SPDX-License-Identifier: Apache-2.0 */
#include "mirror/mirror_output.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/auto.h"

struct out_file {
    char *path, *part; /* part NULL: written where it is */
    uint64_t size;
    int fd;
    int old; /* the file that has the name now, or -1 */
    atomic_bool is_retired;
    _Atomic unsigned n_changing; /* threads that write or name it now */
};

static bool get_all(int fd, uint8_t *buf, size_t len, uint64_t off)
{
    while (len) {
        const ssize_t n = pread(fd, buf, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        buf += n;
        len -= (size_t)n;
        off += (uint64_t)n;
    }
    return true;
}

static bool put_all(int fd, const uint8_t *buf, size_t len, uint64_t off)
{
    while (len) {
        const ssize_t n = pwrite(fd, buf, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        buf += n;
        len -= (size_t)n;
        off += (uint64_t)n;
    }
    return true;
}

static size_t leaf_bytes(const struct out_file *o, uint64_t n)
{
    const uint64_t left = o->size - n * MANIFEST_LEAF;
    return left < MANIFEST_LEAF ? (size_t)left : MANIFEST_LEAF;
}

static bool look(const struct out_file *o, int fd, uint64_t n, uint8_t *buf,
                 manifest_digest digest)
{
    const size_t len = leaf_bytes(o, n);

    if (fd < 0 || !get_all(fd, buf, len, n * MANIFEST_LEAF))
        return false;
    memset(buf + len, 0, MANIFEST_LEAF - len);
    manifest_leaf(buf, MANIFEST_LEAF, digest);
    return true;
}

/* A device, or the file that has its name already. */
static enum plt_status open_place(struct out_file *o, bool is_complete,
                                  bool *is_file, struct plt_error *err)
{
    struct stat sb;
    uint64_t bytes = 0;

    *is_file = false;
    o->fd = open(o->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    const bool is_link = o->fd < 0 && errno == ELOOP;
    if (is_link) /* a name of a device, as udev makes */
        o->fd = open(o->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (o->fd < 0 && errno == ENOENT) {
        *is_file = true;
        return PLT_OK;
    }
    if (o->fd < 0 || fstat(o->fd, &sb) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "the output %.120s", o->path);
    if (S_ISREG(sb.st_mode) && !is_link) {
        *is_file = true;
        if (is_complete && (uint64_t)sb.st_size == o->size)
            return PLT_OK;
        o->old = o->fd;
        o->fd = -1;
        return PLT_OK;
    }
    if (!S_ISBLK(sb.st_mode))
        return plt_fail(err, PLT_INVALID,
                        "the output %.120s is no file and no block device",
                        o->path);
    if (ioctl(o->fd, BLKGETSIZE64, &bytes) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "the output %.120s", o->path);
    if (bytes < o->size)
        return plt_fail(
            err, PLT_INVALID, "the output %.100s has %llu bytes, the disk %llu",
            o->path, (unsigned long long)bytes, (unsigned long long)o->size);
    return PLT_OK;
}

static enum plt_status open_part(struct out_file *o, struct plt_error *err)
{
    const size_t len = strlen(o->path) + sizeof(".part");

    o->part = malloc(len);
    if (!o->part)
        return plt_fail(err, PLT_NOMEM, "an output");
    (void)snprintf(o->part, len, "%s.part", o->path);
    o->fd = open(o->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (o->fd < 0 || ftruncate(o->fd, (off_t)o->size) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "the output %.120s", o->part);
    return PLT_OK;
}

enum plt_status out_open(const char *path, uint64_t size, bool is_complete,
                         struct out_file **out, struct plt_error *err)
{
    struct out_file *const o = calloc(1, sizeof(*o));
    bool is_file = false;

    if (!o)
        return plt_fail(err, PLT_NOMEM, "an output");
    o->fd = o->old = -1;
    o->size = size;
    o->path = strdup(path);
    enum plt_status st = o->path ? open_place(o, is_complete, &is_file, err)
                                 : plt_fail(err, PLT_NOMEM, "an output");
    if (st == PLT_OK && is_file && o->fd < 0)
        st = open_part(o, err);
    if (st != PLT_OK) {
        out_close(o);
        return st;
    }
    *out = o;
    return PLT_OK;
}

void out_close(struct out_file *o)
{
    if (!o)
        return;
    if (o->fd >= 0)
        (void)close(o->fd);
    if (o->old >= 0)
        (void)close(o->old);
    free(o->path);
    free(o->part);
    free(o);
}

bool out_is_in_place(const struct out_file *o)
{
    return !o->part && o->old < 0;
}

void out_retire(struct out_file *o, bool on)
{
    atomic_store(&o->is_retired, on);
    while (on && atomic_load(&o->n_changing)) /* one leaf, or a rename */
        (void)sched_yield();
}

/* It may be changed until leave(). */
static enum plt_status enter(struct out_file *o, struct plt_error *err)
{
    (void)atomic_fetch_add(&o->n_changing, 1);
    return atomic_load(&o->is_retired)
               ? plt_fail(err, PLT_CANCELLED, "an output that another has")
               : PLT_OK;
}

static void leave(struct out_file *o)
{
    (void)atomic_fetch_sub(&o->n_changing, 1);
}

bool out_take(struct out_file *o, uint64_t n,
              const uint8_t prefix[MANIFEST_PREFIX], manifest_digest digest)
{
    uint8_t buf[MANIFEST_LEAF];
    struct plt_error ignored;

    if (look(o, o->fd, n, buf, digest) &&
        memcmp(digest, prefix, MANIFEST_PREFIX) == 0)
        return true;
    return look(o, o->old, n, buf, digest) &&
           memcmp(digest, prefix, MANIFEST_PREFIX) == 0 &&
           out_put(o, n, buf, &ignored) == PLT_OK;
}

bool out_get(struct out_file *o, uint64_t n, const manifest_digest digest,
             uint8_t *buf)
{
    uint8_t own[MANIFEST_LEAF];
    manifest_digest is;

    return look(o, o->fd, n, buf ? buf : own, is) &&
           memcmp(is, digest, MANIFEST_DIGEST) == 0;
}

enum plt_status out_put(struct out_file *o, uint64_t n,
                        const uint8_t data[MANIFEST_LEAF],
                        struct plt_error *err)
{
    enum plt_status st = enter(o, err);

    if (st == PLT_OK &&
        !put_all(o->fd, data, leaf_bytes(o, n), n * MANIFEST_LEAF))
        st = plt_fail_sys(err, PLT_IO, errno, "the output %.120s", o->path);
    leave(o);
    return st;
}

enum plt_status out_zero(struct out_file *o, uint64_t n, struct plt_error *err)
{
    static const uint8_t zeros[MANIFEST_LEAF];
    uint8_t buf[MANIFEST_LEAF];

    if (get_all(o->fd, buf, leaf_bytes(o, n), n * MANIFEST_LEAF) &&
        memcmp(buf, zeros, leaf_bytes(o, n)) == 0)
        return PLT_OK;
    return out_put(o, n, zeros, err);
}

enum plt_status out_sync(struct out_file *o, struct plt_error *err)
{
    return fdatasync(o->fd) == 0
               ? PLT_OK
               : plt_fail_sys(err, PLT_IO, errno, "the output %.120s", o->path);
}

static enum plt_status verify(struct out_file *o, struct manifest_file *file,
                              struct plt_error *err)
{
    manifest_digest said[MANIFEST_LEAVES], is[MANIFEST_LEAVES];
    AUTO_FREE uint8_t *buf = malloc(MANIFEST_GROUP);
    size_t n;

    if (!buf)
        return plt_fail(err, PLT_NOMEM, "an output");
    for (uint64_t g = 0; g < manifest_groups(o->size); g++) {
        const size_t len = manifest_group_bytes(o->size, g);
        const enum plt_status st = manifest_file_leaves(file, g, said, &n, err);
        if (st != PLT_OK)
            return st;
        if (!get_all(o->fd, buf, len, g * MANIFEST_GROUP))
            return plt_fail_sys(err, PLT_IO, errno, "the output %.120s",
                                o->path);
        manifest_leaf_list(buf, len, is);
        if (memcmp(is, said, n * MANIFEST_DIGEST) != 0)
            return plt_fail_at(err, PLT_NOT_FOUND, g * MANIFEST_GROUP,
                               "the output is not what was written");
    }
    return PLT_OK;
}

static enum plt_status name(struct out_file *o, struct plt_error *err)
{
    AUTO_FREE char *folder = strdup(o->path);
    char *const slash = folder ? strrchr(folder, '/') : NULL;

    if (!folder)
        return plt_fail(err, PLT_NOMEM, "an output");
    if (slash)
        slash[slash == folder] = '\0';
    AUTO_FD int dir =
        open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rename(o->part, o->path) != 0 || (dir >= 0 && fsync(dir) != 0))
        return plt_fail_sys(err, PLT_IO, errno, "the output %.120s", o->path);
    return PLT_OK;
}

enum plt_status out_finish(struct out_file *o, struct manifest_file *file,
                           struct plt_error *err)
{
    /* What is read back comes from the disk, not from memory. */
    enum plt_status st = out_sync(o, err);

    (void)posix_fadvise(o->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (st == PLT_OK)
        st = verify(o, file, err);
    if (st == PLT_OK && o->part && fsync(o->fd) != 0)
        st = plt_fail_sys(err, PLT_IO, errno, "the output %.120s", o->path);
    if (st == PLT_OK && o->part) {
        st = enter(o, err);
        if (st == PLT_OK)
            st = name(o, err);
        leave(o);
    }
    if (st != PLT_OK)
        return st;
    free(o->part);
    o->part = NULL;
    if (o->old >= 0)
        (void)close(o->old);
    o->old = -1;
    return PLT_OK;
}
