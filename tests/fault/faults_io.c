/* SPDX-License-Identifier: Apache-2.0 */
/* Files: a descriptor is of a kind by the path that it was opened with, or by
 * the kind of the folder that it was opened in. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

enum { DISK, STATE, NONE, MAX_FD = 65536 };

static _Atomic unsigned char kinds[MAX_FD]; /* kind + 1; 0: not ours */

/* The next one of this name, of the type that the call has here. */
#define NEXT(name) ((__typeof__(&name))next_of(#name))

static void *next_of(const char *name)
{
    void *const p = dlsym(RTLD_NEXT, name);
    if (!p)
        abort();
    return p;
}

static unsigned kind_of(int fd)
{
    if (fd < 0 || fd >= MAX_FD || !kinds[fd])
        return NONE;
    return kinds[fd] - 1U;
}

static void set_kind(int fd, unsigned kind)
{
    if (fd >= 0 && fd < MAX_FD)
        kinds[fd] = (unsigned char)(kind == NONE ? 0 : kind + 1);
}

static bool is_beneath(const char *path, const char *variable)
{
    const char *const folder = getenv(variable);
    const size_t n = folder ? strlen(folder) : 0;
    return n && strncmp(path, folder, n) == 0 &&
           (path[n] == '/' || path[n] == '\0');
}

static unsigned kind_of_path(int dir, const char *path)
{
    if (path[0] != '/')
        return kind_of(dir);
    return is_beneath(path, "FAULTS_DISK")    ? DISK
           : is_beneath(path, "FAULTS_STATE") ? STATE
                                              : NONE;
}

static bool hit(_Atomic uint64_t *rates, unsigned kind)
{
    return kind != NONE && faults_hit(atomic_load(&rates[kind]), 1000);
}

static void doze(uint64_t ms)
{
    const struct timespec t = {(time_t)(ms / 1000),
                               (long)(ms % 1000 * 1000000)};
    (void)syscall(SYS_nanosleep, &t, NULL);
}

static int wrong(unsigned kind)
{
    const uint64_t e = atomic_load(&faults->error[kind]);
    return e ? (int)e : EIO;
}

/* ---- Opening ---- */

static int opened(int fd, int dir, const char *path)
{
    set_kind(fd, kind_of_path(dir, path));
    return fd;
}

static bool may_open(int dir, const char *path, int flags)
{
    const unsigned kind = kind_of_path(dir, path);
    if ((flags & O_ACCMODE) == O_RDONLY || !hit(faults->open_error, kind))
        return true;
    atomic_fetch_add(&faults->did_write[kind], 1);
    errno = wrong(kind);
    return false;
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(ap, int) : 0;
}

#define OPEN(name)                                                             \
    FAULTS_EXPORT int name(const char *path, int flags, ...);                  \
    int name(const char *path, int flags, ...)                                 \
    {                                                                          \
        va_list ap;                                                            \
        va_start(ap, flags);                                                   \
        const mode_t mode = mode_of(flags, ap);                                \
        va_end(ap);                                                            \
        return may_open(-1, path, flags)                                       \
                   ? opened(NEXT(name)(path, flags, mode), -1, path)           \
                   : -1;                                                       \
    }
#define OPENAT(name)                                                           \
    FAULTS_EXPORT int name(int dir, const char *path, int flags, ...);         \
    int name(int dir, const char *path, int flags, ...)                        \
    {                                                                          \
        va_list ap;                                                            \
        va_start(ap, flags);                                                   \
        const mode_t mode = mode_of(flags, ap);                                \
        va_end(ap);                                                            \
        return may_open(dir, path, flags)                                      \
                   ? opened(NEXT(name)(dir, path, flags, mode), dir, path)     \
                   : -1;                                                       \
    }
OPEN(open)
OPEN(open64)
OPEN(__open_2)
OPEN(__open64_2)
OPENAT(openat)
OPENAT(openat64)
OPENAT(__openat_2)
OPENAT(__openat64_2)

FAULTS_EXPORT long syscall(long number, ...);
long syscall(long number, ...)
{
    long a[6];
    va_list ap;

    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    const long rc = NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_openat2 && rc >= 0)
        (void)opened((int)rc, (int)a[0], (const char *)a[1]);
    return rc;
}

FAULTS_EXPORT int close(int fd);
int close(int fd)
{
    set_kind(fd, NONE);
    return NEXT(close)(fd);
}

FAULTS_EXPORT int fcntl64(int fd, int command, ...);
int fcntl64(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *const arg = va_arg(ap, void *);
    va_end(ap);
    const int rc = NEXT(fcntl64)(fd, command, arg);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        set_kind(rc, kind_of(fd));
    return rc;
}

FAULTS_EXPORT int dup(int fd);
int dup(int fd)
{
    const int copy = NEXT(dup)(fd);
    set_kind(copy, kind_of(fd));
    return copy;
}

/* ---- Reading ---- */

/* Before a read: -1 and errno, or how much of len to ask for. */
static ssize_t before_read(unsigned kind, size_t len, bool is_nowait)
{
    if (kind == NONE)
        return (ssize_t)len;
    const bool is_slow = hit(faults->read_slow, kind);
    if (is_slow || atomic_load(&faults->read_stall[kind])) {
        if (is_nowait) {
            errno = EAGAIN;
            return -1;
        }
        atomic_fetch_add(&faults->did_read[kind], 1);
        if (is_slow)
            doze(atomic_load(&faults->slow_ms[kind]));
        atomic_fetch_add(&faults->stalled[kind], 1);
        while (atomic_load(&faults->read_stall[kind]))
            doze(5);
        atomic_fetch_sub(&faults->stalled[kind], 1);
    }
    if (hit(faults->read_error, kind)) {
        atomic_fetch_add(&faults->did_read[kind], 1);
        errno = EIO;
        return -1;
    }
    if (len > 1 && hit(faults->read_short, kind)) {
        atomic_fetch_add(&faults->did_read[kind], 1);
        return (ssize_t)(len / 2);
    }
    return (ssize_t)len;
}

static ssize_t after_read(unsigned kind, void *buf, ssize_t got)
{
    if (got > 0 && hit(faults->read_flip, kind)) {
        atomic_fetch_add(&faults->did_read[kind], 1);
        ((unsigned char *)buf)[got / 2] ^= 0x10;
    }
    return got;
}

FAULTS_EXPORT ssize_t read(int fd, void *buf, size_t len);
ssize_t read(int fd, void *buf, size_t len)
{
    const unsigned kind = kind_of(fd);
    const ssize_t n = before_read(kind, len, false);
    return n < 0 ? n : after_read(kind, buf, NEXT(read)(fd, buf, (size_t)n));
}

FAULTS_EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
ssize_t __read_chk(int fd, void *buf, size_t len, size_t room)
{
    if (len > room)
        abort();
    return read(fd, buf, len);
}

#undef pread64
FAULTS_EXPORT ssize_t pread64(int fd, void *buf, size_t len, off64_t off);
ssize_t pread64(int fd, void *buf, size_t len, off64_t off)
{
    const unsigned kind = kind_of(fd);
    const ssize_t n = before_read(kind, len, false);
    return n < 0
               ? n
               : after_read(kind, buf, NEXT(pread64)(fd, buf, (size_t)n, off));
}

FAULTS_EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t off,
                                    size_t room);
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t off, size_t room)
{
    if (len > room)
        abort();
    return pread64(fd, buf, len, off);
}

/* A short vectored read is its first buffer's half. */
static ssize_t read_vector(int fd, const struct iovec *v, int n, off64_t off,
                           int flags)
{
    const unsigned kind = kind_of(fd);
    const ssize_t len =
        before_read(kind, v[0].iov_len, (flags & RWF_NOWAIT) != 0);
    if (len < 0)
        return len;
    struct iovec half = {v[0].iov_base, (size_t)len};
    const bool is_short = (size_t)len < v[0].iov_len;
    const ssize_t got = NEXT(preadv64v2)(fd, is_short ? &half : v,
                                         is_short ? 1 : n, off, flags);
    const bool is_more = got > 0 && (size_t)got > half.iov_len;
    (void)after_read(kind, half.iov_base,
                     is_more ? (ssize_t)half.iov_len : got);
    return got;
}

FAULTS_EXPORT ssize_t preadv64v2(int fd, const struct iovec *v, int n,
                                 off64_t off, int flags);
ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t off, int flags)
{
    return read_vector(fd, v, n, off, flags);
}

FAULTS_EXPORT ssize_t preadv64(int fd, const struct iovec *v, int n,
                               off64_t off);
ssize_t preadv64(int fd, const struct iovec *v, int n, off64_t off)
{
    return read_vector(fd, v, n, off, 0);
}

/* ---- Writing ---- */

static ssize_t before_write(unsigned kind, size_t len)
{
    if (kind == NONE)
        return (ssize_t)len;
    if (hit(faults->write_slow, kind)) {
        atomic_fetch_add(&faults->did_write[kind], 1);
        doze(atomic_load(&faults->slow_ms[kind]));
    }
    if (hit(faults->write_error, kind)) {
        atomic_fetch_add(&faults->did_write[kind], 1);
        errno = wrong(kind);
        return -1;
    }
    if (len > 1 && hit(faults->write_short, kind)) {
        atomic_fetch_add(&faults->did_write[kind], 1);
        return (ssize_t)(len / 2);
    }
    return (ssize_t)len;
}

FAULTS_EXPORT ssize_t write(int fd, const void *buf, size_t len);
ssize_t write(int fd, const void *buf, size_t len)
{
    const ssize_t n = before_write(kind_of(fd), len);
    return n < 0 ? n : NEXT(write)(fd, buf, (size_t)n);
}

#undef pwrite64
FAULTS_EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len,
                               off64_t off);
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
    const ssize_t n = before_write(kind_of(fd), len);
    return n < 0 ? n : NEXT(pwrite64)(fd, buf, (size_t)n, off);
}

#undef fallocate64
FAULTS_EXPORT int fallocate64(int fd, int mode, off64_t off, off64_t len);
int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
    return before_write(kind_of(fd), 1) < 0
               ? -1
               : NEXT(fallocate64)(fd, mode, off, len);
}

static bool may_sync(int fd)
{
    const unsigned kind = kind_of(fd);
    if (!hit(faults->sync_error, kind))
        return true;
    atomic_fetch_add(&faults->did_write[kind], 1);
    errno = wrong(kind);
    return false;
}

FAULTS_EXPORT int fsync(int fd);
int fsync(int fd)
{
    return may_sync(fd) ? NEXT(fsync)(fd) : -1;
}

FAULTS_EXPORT int fdatasync(int fd);
int fdatasync(int fd)
{
    return may_sync(fd) ? NEXT(fdatasync)(fd) : -1;
}

FAULTS_EXPORT int renameat(int from_dir, const char *from, int to_dir,
                           const char *to);
int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return before_write(kind_of_path(to_dir, to), 1) < 0
               ? -1
               : NEXT(renameat)(from_dir, from, to_dir, to);
}
