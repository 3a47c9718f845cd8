/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/auto.h"

enum { DIGITS_MIN = 2, DIGITS_MAX = 64 };

static const char digits[] = "0123456789abcdef";

enum plt_status manifest_folder_open(const char *state_dir, int *dir,
                                     struct plt_error *err)
{
    AUTO_FD int state =
        open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (state >= 0 && mkdirat(state, "manifests", 0700) != 0 && errno != EEXIST)
        return plt_fail_sys(err, PLT_IO, errno, "make %s/manifests", state_dir);
    *dir = state < 0 ? -1
                     : openat(state, "manifests",
                              O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return *dir >= 0 ? PLT_OK
                     : plt_fail_sys(err, PLT_IO, errno, "open %s/manifests",
                                    state_dir);
}

bool manifest_folder_name(const char *etag, char out[MANIFEST_FILE_NAME])
{
    const size_t n = etag[0] == '"' ? strspn(etag + 1, digits) : 0;

    if (n < DIGITS_MIN || n > DIGITS_MAX || strcmp(etag + 1 + n, "\"") != 0)
        return false;
    (void)snprintf(out, MANIFEST_FILE_NAME, "%.*s", (int)n, etag + 1);
    return true;
}

void manifest_folder_touch(int dir, const char *name)
{
    (void)utimensat(dir, name, NULL, AT_SYMLINK_NOFOLLOW);
}

/* One that this folder's users made: digits, and perhaps a suffix. */
static bool is_ours(const char *name)
{
    const size_t n = strspn(name, digits);
    return n >= DIGITS_MIN && strlen(name) < MANIFEST_FILE_NAME &&
           (name[n] == '\0' || name[n] == '.');
}

static DIR *list(int dir)
{
    const int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *const d = fd >= 0 ? fdopendir(fd) : NULL;

    if (!d && fd >= 0)
        (void)close(fd);
    return d;
}

void manifest_folder_remove(int dir, const char *name)
{
    DIR *const d = list(dir);
    const size_t n = strlen(name);
    const struct dirent *e;

    while (d && (e = readdir(d))) {
        if (strncmp(e->d_name, name, n) == 0 &&
            (e->d_name[n] == '\0' || e->d_name[n] == '.'))
            (void)unlinkat(dir, e->d_name, 0);
    }
    if (d)
        (void)closedir(d);
}

struct sum {
    uint64_t n, bytes;
    char oldest[MANIFEST_FILE_NAME];
};

static struct sum look(int dir, const char *keep)
{
    DIR *const d = list(dir);
    struct sum s = {.n = 0};
    struct timespec age = {0, 0};
    const struct dirent *e;
    struct stat sb;

    while (d && (e = readdir(d))) {
        if (!is_ours(e->d_name) ||
            fstatat(dir, e->d_name, &sb, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        s.n++;
        s.bytes += (uint64_t)sb.st_blocks * 512;
        if (strcmp(e->d_name, keep) == 0 ||
            (s.oldest[0] && (sb.st_mtim.tv_sec > age.tv_sec ||
                             (sb.st_mtim.tv_sec == age.tv_sec &&
                              sb.st_mtim.tv_nsec >= age.tv_nsec))))
            continue;
        age = sb.st_mtim;
        memcpy(s.oldest, e->d_name, strlen(e->d_name) + 1);
    }
    if (d)
        (void)closedir(d);
    return s;
}

void manifest_folder_prune(int dir, uint64_t most, uint64_t bytes,
                           const char *keep)
{
    for (;;) {
        const struct sum s = look(dir, keep);
        if ((s.n <= most && s.bytes <= bytes) || !s.oldest[0] ||
            unlinkat(dir, s.oldest, 0) != 0)
            return;
    }
}
