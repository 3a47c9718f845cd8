/* SPDX-License-Identifier: Apache-2.0 */
/* A local file as a source.  Policy has opened it; this driver only reads what
 * it was handed, and says so when the file is no longer the one it opened:
 * every read compares length, times and inode first, which costs one fstat(2)
 * and no disk access. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <platter/driver.h>

struct file {
    int fd;
    bool is_block;
    uint64_t size;
    struct stat sb; /* as it was at open */
};

static void file_close(void *image)
{
    struct file *const f = (struct file *)image;
    (void)close(f->fd);
    free(f);
}

static enum plt_status file_open(const struct plt_open_args *args, void **image,
                                 struct plt_opened *out, struct plt_error *err)
{
    struct file *const f = calloc(1, sizeof(*f));

    if (args->fd < 0 || !f) {
        free(f);
        if (args->fd >= 0)
            (void)close(args->fd);
        return args->fd < 0 ? plt_fail(err, PLT_BUG, "no file was handed over")
                            : plt_fail(err, PLT_NOMEM, "an image");
    }
    f->fd = args->fd;
    enum plt_status st = PLT_OK;
    if (fstat(f->fd, &f->sb) != 0) {
        st = plt_fail_sys(err, PLT_IO, errno, "fstat");
    } else if (S_ISBLK(f->sb.st_mode)) {
        const off_t end = lseek(f->fd, 0, SEEK_END);
        f->is_block = true;
        f->size = end > 0 ? (uint64_t)end : 0;
    } else if (S_ISREG(f->sb.st_mode)) {
        f->size = (uint64_t)f->sb.st_size;
    } else {
        st = plt_fail(err, PLT_DENIED, "not a regular file");
    }
    if (st != PLT_OK) {
        file_close(f);
        return st;
    }
    out->size = f->size;
    *image = f;
    return PLT_OK;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static enum plt_status check(struct file *f, struct plt_error *err)
{
    struct stat now;

    if (f->is_block)
        return PLT_OK;
    if (fstat(f->fd, &now) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "fstat");
    /* Who writes in place can put the old time back (rsync --inplace -t), but
     * not the inode's own; that moves, too, when a name of it goes, which is
     * how a file is replaced: the bytes are the old ones then. */
    if (now.st_size != f->sb.st_size ||
        !same_time(now.st_mtim, f->sb.st_mtim) ||
        (!same_time(now.st_ctim, f->sb.st_ctim) &&
         now.st_nlink == f->sb.st_nlink))
        return plt_fail(err, PLT_CHANGED, "the file was written to");
    return PLT_OK;
}

/* preadv2's RWF_NOWAIT answers from the page cache or not at all. */
static enum plt_status read_one(struct file *f, const struct plt_seg *seg,
                                bool is_nowait, struct plt_error *err)
{
    size_t did = 0;

    while (did < seg->len) {
        struct iovec iov = {(char *)seg->buf + did, seg->len - did};
        const ssize_t n = preadv2(f->fd, &iov, 1, (off_t)(seg->off + did),
                                  is_nowait ? RWF_NOWAIT : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && is_nowait)
            return PLT_AGAIN;
        if (n < 0)
            return plt_fail_sys(err, PLT_IO, errno, "read");
        if (n == 0)
            return plt_fail_at(err, PLT_CHANGED, seg->off + did,
                               "the file became shorter");
        if (is_nowait && (size_t)n < seg->len - did)
            return PLT_AGAIN;
        did += (size_t)n;
    }
    return PLT_OK;
}

static enum plt_status file_read(void *image, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct file *const f = (struct file *)image;
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < n && st == PLT_OK; i++)
        st = read_one(f, &segs[i], is_nowait, err);
    /* After the bytes: what was written before them is seen now. */
    return st == PLT_OK ? check(f, err) : st;
}

static enum plt_status file_extents(void *image, struct plt_io *io,
                                    uint64_t off, uint64_t len,
                                    plt_extent_fn *emit, void *cookie,
                                    struct plt_error *err)
{
    struct file *const f = (struct file *)image;
    const uint32_t hole_flags =
        PLT_EXTENT_ZERO | PLT_EXTENT_HOLE | PLT_EXTENT_RESERVED;
    const uint64_t end = off + len;
    bool is_more = true;

    (void)io;
    (void)err;
    while (off < end && is_more) {
        struct plt_extent e = {.off = off,
                               .len = end - off,
                               .flags = PLT_EXTENT_MAPPED,
                               .child_off = off};
        const off_t data = lseek(f->fd, (off_t)off, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            e.flags = hole_flags;
        } else if (data > 0 && (uint64_t)data > off) {
            e.flags = hole_flags;
            e.len = (uint64_t)data - off;
        } else if (data >= 0) {
            const off_t hole = lseek(f->fd, (off_t)off, SEEK_HOLE);
            if (hole > 0 && (uint64_t)hole > off)
                e.len = (uint64_t)hole - off;
        }
        if (e.len > end - off)
            e.len = end - off;
        is_more = emit(cookie, &e);
        off += e.len;
    }
    return PLT_OK;
}

/* Begins with "device:inode": the core compares that with the path's. */
static void file_identity(void *image, struct plt_identity *out)
{
    const struct file *const f = (const struct file *)image;

    out->pin = f->is_block ? PLT_PIN_NONE : PLT_PIN_STRONG;
    out->mtime = f->is_block ? INT64_MIN : (int64_t)f->sb.st_mtim.tv_sec;
    (void)snprintf(out->validator, sizeof(out->validator),
                   "%llu:%llu:%llu:%lld.%09ld:%lld.%09ld",
                   (unsigned long long)f->sb.st_dev,
                   (unsigned long long)f->sb.st_ino,
                   (unsigned long long)f->size, (long long)f->sb.st_mtim.tv_sec,
                   f->sb.st_mtim.tv_nsec, (long long)f->sb.st_ctim.tv_sec,
                   f->sb.st_ctim.tv_nsec);
}

static enum plt_status file_revalidate(void *image, struct plt_io *io,
                                       struct plt_error *err)
{
    (void)io;
    return check((struct file *)image, err);
}

PLT_DRIVER(.name = "file", .summary = "a local file or block device",
           .kind = PLT_KIND_SOURCE, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .open = file_open, .close = file_close,
           .read = file_read, .extents = file_extents,
           .identity = file_identity, .revalidate = file_revalidate)
