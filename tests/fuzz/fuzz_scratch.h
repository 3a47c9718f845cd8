/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of one's own for a target that needs files: in memory where there is
 * a /dev/shm, gone at the program's end.  Included by each target once. */
#ifndef TESTS_FUZZ_SCRATCH_H
#define TESTS_FUZZ_SCRATCH_H

#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz_must.h"

enum { SCRATCH_PATH = 128 };

static char scratch[64]; /* its path, absolute */
static pid_t scratch_owner;

static int scratch_drop(const char *path, const struct stat *sb, int type,
                        struct FTW *at)
{
    (void)sb;
    (void)type;
    (void)at;
    (void)remove(path);
    return 0;
}

static void scratch_remove(void)
{
    if (scratch_owner == getpid()) /* and no child of the fuzzer's */
        (void)nftw(scratch, scratch_drop, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void scratch_path(char out[SCRATCH_PATH], const char *name)
{
    MUST((size_t)snprintf(out, SCRATCH_PATH, "%s/%s", scratch, name) <
         SCRATCH_PATH);
}

static inline void scratch_folder(const char *name)
{
    char path[SCRATCH_PATH];
    scratch_path(path, name);
    MUST(mkdir(path, 0700) == 0);
}

/* The folder, once; true at the first call. */
static inline bool scratch_make(void)
{
    if (scratch[0])
        return false;
    (void)snprintf(scratch, sizeof(scratch), "%s/platter-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    MUST(mkdtemp(scratch));
    scratch_owner = getpid();
    MUST(atexit(scratch_remove) == 0);
    return true;
}

/* What it held is gone.  data NULL: no such file. */
static inline void scratch_write(const char *name, const void *data, size_t len)
{
    char path[SCRATCH_PATH];

    scratch_path(path, name);
    (void)unlink(path);
    if (!data)
        return;
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    for (size_t at = 0; at < len;) {
        const ssize_t n = write(fd, (const char *)data + at, len - at);
        MUST(n > 0);
        at += (size_t)n;
    }
    MUST(close(fd) == 0);
}

#endif
