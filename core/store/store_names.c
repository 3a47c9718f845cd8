/* SPDX-License-Identifier: Apache-2.0 */
/* Which segments a folder has.  Other files in it are left alone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_inside.h"

static bool number_of(const char *name, uint32_t *number)
{
    char again[SEGMENT_NAME];
    char *end;
    const unsigned long v = strtoul(name, &end, 10);

    if (strlen(name) != 12 || v > UINT32_MAX)
        return false;
    *number = (uint32_t)v;
    segment_name(*number, again);
    return strcmp(name, again) == 0;
}

static bool add_file(struct store_files *files, uint32_t number, uint64_t bytes)
{
    if (files->n == files->cap) {
        const size_t cap = files->cap ? files->cap * 2 : 64;
        void *const p = realloc(files->list, cap * sizeof(*files->list));
        if (!p)
            return false;
        files->list = p;
        files->cap = cap;
    }
    files->list[files->n++] = (struct store_file){number, bytes};
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct store_file *const x = (const struct store_file *)a;
    const struct store_file *const y = (const struct store_file *)b;

    return (x->number < y->number) - (x->number > y->number);
}

enum plt_status store_list_files(int folder, struct store_files *files,
                                 struct plt_error *err)
{
    const int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *const dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    enum plt_status st = PLT_OK;
    struct stat sb;
    uint32_t number;

    if (!dir) {
        const int sys = errno;
        if (fd >= 0)
            (void)close(fd);
        return plt_fail_sys(err, PLT_IO, sys, "folder of the store");
    }
    for (errno = 0; st == PLT_OK && (entry = readdir(dir)); errno = 0) {
        if (!number_of(entry->d_name, &number) ||
            fstatat(fd, entry->d_name, &sb, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(sb.st_mode))
            continue;
        if (!add_file(files, number, (uint64_t)sb.st_size))
            st = plt_fail(err, PLT_NOMEM, "names of segments");
    }
    if (st == PLT_OK && errno)
        st = plt_fail_sys(err, PLT_IO, errno, "folder of the store");
    (void)closedir(dir);
    if (files->n)
        qsort(files->list, files->n, sizeof(*files->list), newest_first);
    return st;
}
