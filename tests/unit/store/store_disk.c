/* SPDX-License-Identifier: Apache-2.0 */
#include "store_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { FILES = 256, FDS = 1024, SECTOR = 512, ROOM = 4 << 20 };

struct op { /* not synced */
    bool is_cut;
    uint64_t off;
    size_t len; /* is_cut: 0, and off is the new length */
    uint8_t *data;
};

struct file {
    char name[32];
    bool is_there, is_there_for_sure;
    uint8_t *bytes; /* for sure; ROOM */
    size_t len;
    struct op *ops;
    size_t n_ops;
};

static struct {
    pthread_mutex_t lock;
    bool is_on;
    int dir;
    uint64_t state;
    unsigned write_rate, sync_rate, n_failed;
    unsigned calls_left; /* to the cut */
    int into;
    bool is_armed, was_cut;
    struct file files[FILES];
    size_t n;
    struct file *of_fd[FDS];
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void must(bool cond, const char *what)
{
    if (cond)
        return;
    perror(what);
    abort();
}

uint64_t disk_random(uint64_t n)
{
    disk.state ^= disk.state << 13;
    disk.state ^= disk.state >> 7;
    disk.state ^= disk.state << 17;
    return disk.state % n;
}

static void drop_ops(struct file *f)
{
    for (size_t i = 0; i < f->n_ops; i++)
        free(f->ops[i].data);
    free(f->ops);
    f->ops = NULL;
    f->n_ops = 0;
}

void disk_watch(int dir, uint64_t seed)
{
    disk_unwatch();
    disk.dir = dir;
    disk.state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    disk.write_rate = disk.sync_rate = disk.n_failed = 0;
    disk.is_armed = disk.was_cut = false;
    disk.is_on = true;
}

void disk_unwatch(void)
{
    for (size_t i = 0; i < disk.n; i++) {
        drop_ops(&disk.files[i]);
        free(disk.files[i].bytes);
    }
    memset(disk.files, 0, sizeof(disk.files));
    memset(disk.of_fd, 0, sizeof(disk.of_fd));
    disk.n = 0;
    disk.is_on = false;
}

void disk_set_failing(unsigned write, unsigned sync)
{
    disk.write_rate = write;
    disk.sync_rate = sync;
}

unsigned disk_failed(void)
{
    return disk.n_failed;
}

bool disk_was_cut(void)
{
    return disk.was_cut;
}

/* ---- The cut ---- */

int __real_openat64(int dir, const char *path, int flags, ...);
int __real_close(int fd);

static void put_sector(uint8_t *bytes, size_t *len, uint64_t off,
                       const uint8_t *data, size_t n)
{
    must(off + n <= ROOM, "room");
    if (off > *len)
        memset(bytes + *len, 0, off - *len);
    memcpy(bytes + off, data, n);
    if (off + n > *len)
        *len = off + n;
}

/* Any of its sectors. */
static void apply_some(const struct op *op, unsigned chance, uint8_t *bytes,
                       size_t *len)
{
    if (op->is_cut) {
        if (disk_random(100) < chance && op->off < *len)
            *len = op->off;
        return;
    }
    for (size_t at = 0; at < op->len;) {
        const size_t in = (op->off + at) % SECTOR;
        const size_t n =
            op->len - at < SECTOR - in ? op->len - at : SECTOR - in;
        if (disk_random(100) < chance)
            put_sector(bytes, len, op->off + at, op->data + at, n);
        at += n;
    }
}

static void save_file(const struct file *f, unsigned chance)
{
    uint8_t *const bytes = malloc(ROOM);
    size_t len = f->len;

    must(bytes, "malloc");
    memcpy(bytes, f->bytes, len);
    for (size_t i = 0; i < f->n_ops; i++)
        apply_some(&f->ops[i], chance, bytes, &len);
    const int fd =
        __real_openat64(disk.into, f->name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(fd >= 0 && write(fd, bytes, len) == (ssize_t)len, "image");
    (void)__real_close(fd);
    free(bytes);
}

static void cut(void)
{
    static const unsigned chances[] = {0, 10, 50, 90, 100};
    const unsigned chance = chances[disk_random(5)];

    for (size_t i = 0; i < disk.n; i++) {
        const struct file *const f = &disk.files[i];
        const bool is_there = f->is_there == f->is_there_for_sure
                                  ? f->is_there
                                  : disk_random(100) < 50;
        if (is_there)
            save_file(f, chance);
    }
    disk.was_cut = true;
    disk.is_armed = false;
}

void disk_cut_after(unsigned calls, int into)
{
    disk.into = into;
    disk.calls_left = calls;
    disk.was_cut = false;
    disk.is_armed = true;
    if (!calls)
        cut();
}

/* Before each call that changes something. */
static void tick(void)
{
    if (disk.is_armed && --disk.calls_left == 0)
        cut();
}

static bool fails(unsigned rate)
{
    const bool is_it = disk_random(1000) < rate;
    disk.n_failed += is_it;
    return is_it;
}

/* ---- The calls ---- */

static struct file *file_of(int fd)
{
    return disk.is_on && fd >= 0 && fd < FDS ? disk.of_fd[fd] : NULL;
}

static struct file *by_name(const char *name)
{
    for (size_t i = 0; i < disk.n; i++) {
        if (strcmp(disk.files[i].name, name) == 0)
            return &disk.files[i];
    }
    must(disk.n < FILES, "files");
    struct file *const f = &disk.files[disk.n++];
    snprintf(f->name, sizeof(f->name), "%s", name);
    f->bytes = malloc(ROOM);
    must(f->bytes, "malloc");
    return f;
}

static void note(struct file *f, bool is_cut, uint64_t off, const void *data,
                 size_t len)
{
    f->ops = realloc(f->ops, (f->n_ops + 1) * sizeof(*f->ops));
    must(f->ops, "malloc");
    struct op *const op = &f->ops[f->n_ops++];
    *op = (struct op){is_cut, off, len, malloc(len + 1)};
    must(op->data, "malloc");
    if (len)
        memcpy(op->data, data, len);
}

int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    const mode_t mode = flags & O_CREAT ? (mode_t)va_arg(ap, int) : 0;
    va_end(ap);
    const int fd = __real_openat64(dir, path, flags, mode);
    pthread_mutex_lock(&disk.lock);
    if (disk.is_on && dir == disk.dir && strstr(path, ".seg") && fd >= 0) {
        must(fd < FDS, "descriptors");
        disk.of_fd[fd] = by_name(path);
        disk.of_fd[fd]->is_there = true;
    }
    pthread_mutex_unlock(&disk.lock);
    return fd;
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
    pthread_mutex_lock(&disk.lock);
    if (file_of(fd))
        disk.of_fd[fd] = NULL;
    pthread_mutex_unlock(&disk.lock);
    return __real_close(fd);
}

ssize_t __real_pwrite64(int fd, const void *data, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t off)
{
    pthread_mutex_lock(&disk.lock);
    struct file *const f = file_of(fd);
    bool is_failed = false;
    if (f) {
        tick();
        is_failed = fails(disk.write_rate);
        if (is_failed && disk_random(2))
            len /= 2; /* a part goes through, then the rest fails */
        if (!is_failed || len > 1)
            note(f, false, (uint64_t)off, data, len);
    }
    pthread_mutex_unlock(&disk.lock);
    const ssize_t n = __real_pwrite64(fd, data, len, off);
    if (is_failed) {
        errno = ENOSPC;
        return -1;
    }
    return n;
}

int __real_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len)
{
    pthread_mutex_lock(&disk.lock);
    struct file *const f = file_of(fd);
    bool is_failed = false;
    if (f) {
        tick();
        is_failed = fails(disk.write_rate);
        if (!is_failed)
            note(f, true, (uint64_t)len, NULL, 0);
    }
    pthread_mutex_unlock(&disk.lock);
    errno = EIO;
    return is_failed ? -1 : __real_ftruncate64(fd, len);
}

/* A failed sync writes some of it and forgets the rest: the next one will not
 * write that either. */
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    pthread_mutex_lock(&disk.lock);
    struct file *const f = file_of(fd);
    bool is_failed = false;
    if (f) {
        tick();
        is_failed = fails(disk.sync_rate);
        for (size_t i = 0; i < f->n_ops; i++)
            apply_some(&f->ops[i], is_failed ? 30 : 100, f->bytes, &f->len);
        drop_ops(f);
    }
    pthread_mutex_unlock(&disk.lock);
    errno = EIO;
    return is_failed ? -1 : __real_fdatasync(fd);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    pthread_mutex_lock(&disk.lock);
    bool is_failed = false;
    if (disk.is_on && fd == disk.dir) {
        tick();
        is_failed = fails(disk.sync_rate);
        for (size_t i = 0; i < disk.n && !is_failed; i++)
            disk.files[i].is_there_for_sure = disk.files[i].is_there;
    }
    pthread_mutex_unlock(&disk.lock);
    errno = EIO;
    return is_failed ? -1 : __real_fsync(fd);
}

int __real_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags)
{
    pthread_mutex_lock(&disk.lock);
    bool is_failed = false;
    if (disk.is_on && dir == disk.dir) {
        tick();
        is_failed = fails(disk.write_rate);
        if (!is_failed)
            by_name(path)->is_there = false;
    }
    pthread_mutex_unlock(&disk.lock);
    errno = EIO;
    return is_failed ? -1 : __real_unlinkat(dir, path, flags);
}
