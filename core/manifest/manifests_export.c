/* SPDX-License-Identifier: Apache-2.0 */
/* One at a time is made; a second that is wanted meanwhile waits, and is then
 * mostly there.  Lock: `lock` guards all of it, and is not held while one is
 * made. */
#define _GNU_SOURCE /* memfd_create */
#include "manifest/manifests_export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manifest/manifest_folder.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/lock.h"

enum { NAME = MANIFEST_FILE_NAME + 16, WAITERS = 16, POLL_MS = 100 };

static const char new_name[] = "export-new";

struct held {
    char name[NAME]; /* "": none */
    int fd;
};

struct manifest_exports {
    int dir;
    struct lock lock;
    struct cond ended;
    bool is_making;
    unsigned n_waiting;
    struct held held[EXPORTS_HELD];
    size_t next; /* the oldest is overwritten */
};

struct manifest_exports *manifest_exports_new(int dir)
{
    struct manifest_exports *const x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->dir = dir;
    lock_init(&x->lock);
    cond_init(&x->ended);
    return x;
}

void manifest_exports_free(struct manifest_exports *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < EXPORTS_HELD; i++) {
        if (x->held[i].name[0])
            (void)close(x->held[i].fd);
    }
    cond_release(&x->ended);
    lock_release(&x->lock);
    free(x);
}

/* A descriptor of the caller's own, or -1. */
static int find_locked(struct manifest_exports *x, const char *name)
    LOCK_HELD(&x->lock);
static int find_locked(struct manifest_exports *x, const char *name)
{
    if (x->dir >= 0) {
        const int fd = openat(x->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0)
            manifest_folder_touch(x->dir, name);
        return fd;
    }
    for (size_t i = 0; i < EXPORTS_HELD; i++) {
        if (strcmp(x->held[i].name, name) == 0)
            return fcntl(x->held[i].fd, F_DUPFD_CLOEXEC, 0);
    }
    return -1;
}

/* OK and *fd >= 0: it is there.  OK and -1: the caller makes it. */
static enum plt_status enter(struct manifest_exports *x,
                             const struct plt_io *io, const char *name, int *fd,
                             struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    lock_take(&x->lock);
    while ((*fd = find_locked(x, name)) < 0 && x->is_making && st == PLT_OK) {
        if (io->cancelled(io)) {
            st = plt_fail(err, PLT_CANCELLED, "an export");
        } else if (x->n_waiting == WAITERS) {
            st = plt_fail(err, PLT_BUSY, "%d wait for exports", WAITERS);
        } else {
            x->n_waiting++;
            (void)cond_wait(&x->ended, &x->lock, clock_after_ms(POLL_MS));
            x->n_waiting--;
        }
    }
    if (st == PLT_OK && *fd < 0)
        x->is_making = true;
    lock_give(&x->lock);
    return st;
}

static void leave(struct manifest_exports *x, const char *name, int fd,
                  bool is_good)
{
    lock_take(&x->lock);
    x->is_making = false;
    if (is_good && x->dir < 0) {
        struct held *const h = &x->held[x->next++ % EXPORTS_HELD];
        const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (h->name[0])
            (void)close(h->fd);
        h->fd = own;
        (void)snprintf(h->name, sizeof(h->name), "%s", own >= 0 ? name : "");
    }
    cond_wake_all(&x->ended);
    lock_give(&x->lock);
}

/* It has its name when it is whole, and on the disk. */
static enum plt_status keep(struct manifest_exports *x, const char *name,
                            int fd, struct plt_error *err)
{
    if (x->dir >= 0 &&
        (fdatasync(fd) != 0 || renameat(x->dir, new_name, x->dir, name) != 0))
        return plt_fail_sys(err, PLT_IO, errno, "keep an export");
    return PLT_OK;
}

enum plt_status
manifest_exports_get(struct manifest_exports *x, struct image *image,
                     struct manifest_file *file, enum manifest_export kind,
                     struct plt_io *io, uint64_t wait_ms, int *fd,
                     uint64_t *len, struct plt_error *err)
{
    manifest_digest root;
    char hex[MANIFEST_HEX], name[NAME];
    struct stat sb;
    enum plt_status st =
        manifest_export_can(kind, manifest_file_size(file), err);

    /* By the root: other wrappings of the disk have the same. */
    if (st == PLT_OK && !manifest_file_root(file, root))
        st = plt_fail(err, PLT_NOT_FOUND, "the manifest is not complete");
    if (st != PLT_OK)
        return st;
    manifest_to_hex(root, hex);
    (void)snprintf(name, sizeof(name), "%s.%s", hex,
                   manifest_export_name(kind));
    st = enter(x, io, name, fd, err);
    if (st == PLT_OK && *fd < 0) {
        *fd = x->dir >= 0
                  ? openat(x->dir, new_name,
                           O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                           0600)
                  : memfd_create("export", MFD_CLOEXEC);
        st = *fd < 0 ? plt_fail_sys(err, PLT_IO, errno, "make an export")
                     : manifest_export_make(kind, image, file, io, wait_ms,
                                            x->dir >= 0 ? MANIFESTS_BYTES
                                                        : EXPORTS_HELD_MAX,
                                            NULL, NULL, *fd, err);
        if (st == PLT_OK)
            st = keep(x, name, *fd, err);
        leave(x, name, *fd, st == PLT_OK);
        if (st == PLT_OK && x->dir >= 0)
            manifest_folder_prune(x->dir, MANIFESTS_KEPT, MANIFESTS_BYTES,
                                  name);
    }
    if (st == PLT_OK && fstat(*fd, &sb) != 0)
        st = plt_fail_sys(err, PLT_IO, errno, "an export");
    if (st == PLT_OK)
        *len = (uint64_t)sb.st_size;
    else if (*fd >= 0)
        (void)close(*fd);
    return st;
}
