/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "util/auto.h"

struct entry {
    char *name; /* new */
    bool is_folder;
    uint64_t size;
    time_t modified;
};

struct folder {
    int root; /* the origin's own, for what links lead to */
    DIR *dir;
    const char *path; /* below root; borrowed */
    const struct folder_query *query;
    struct entry *v; /* new */
    size_t n, cap, n_names, n_looks;
    bool is_short, has_no_memory;
};

/* A text of several, of so many bytes with its NUL; new. */
static char *join(const char *a, const char *b, const char *c)
{
    const size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
    char *const out = malloc(size);

    if (out)
        (void)snprintf(out, size, "%s%s%s", a, b, c);
    return out;
}

/* ---- Names ---- */

/* As reference.c takes them; that it is UTF-8 is seen when it becomes JSON. */
static bool can_be_said(const char *name)
{
    for (const char *p = name; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '\\')
            return false;
    }
    json_t *const text = json_string(name);
    json_decref(text);
    return text != NULL;
}

static bool is_wanted(const char *name, const char *prefix)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    if (name[0] == '.' && !(prefix && prefix[0] == '.'))
        return false;
    return !prefix || strncmp(name, prefix, strlen(prefix)) == 0;
}

/* ---- Looking ---- */

/* What the name leads to, links as policy has them. */
static bool look(struct folder *f, const char *name, struct stat *sb)
{
    if (fstatat(dirfd(f->dir), name, sb, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (!S_ISLNK(sb->st_mode))
        return true;
    AUTO_FREE char *path = join(f->path, "/", name);
    if (!path) {
        f->has_no_memory = true;
        return false;
    }
    AUTO_FD int place = policy_open_beneath(f->root, path, O_PATH);
    return place >= 0 && fstat(place, sb) == 0;
}

static bool may_tell(struct folder *f, const char *name, bool is_folder)
{
    const struct folder_query *const q = f->query;

    if (!q->may_tell)
        return true;
    AUTO_FREE char *target = join(q->target, "/", name);
    if (!target)
        f->has_no_memory = true;
    return target && q->may_tell(q->cookie, target, is_folder);
}

static bool add(struct folder *f, const char *name, const struct stat *sb)
{
    if (f->n == f->cap) {
        const size_t cap = 2 * f->cap + 64;
        struct entry *const grown = realloc(f->v, cap * sizeof(*grown));
        if (!grown)
            return false;
        f->v = grown;
        f->cap = cap;
    }
    char *const copy = strdup(name);
    if (!copy)
        return false;
    f->v[f->n++] = (struct entry){.name = copy,
                                  .is_folder = S_ISDIR(sb->st_mode),
                                  .size = (uint64_t)sb->st_size,
                                  .modified = sb->st_mtime};
    return true;
}

static void take(struct folder *f, const char *name)
{
    struct stat sb;

    if (!is_wanted(name, f->query->prefix))
        return;
    if (f->n_looks++ == FOLDER_LOOKS) {
        f->is_short = true;
        return;
    }
    if (can_be_said(name) && look(f, name, &sb) &&
        (S_ISREG(sb.st_mode) || S_ISDIR(sb.st_mode)) &&
        may_tell(f, name, S_ISDIR(sb.st_mode)) && !add(f, name, &sb))
        f->has_no_memory = true;
}

static enum plt_status read_names(struct folder *f, struct plt_error *err)
{
    const struct dirent *d;

    errno = 0;
    while (!f->is_short && !f->has_no_memory && (d = readdir(f->dir))) {
        if (f->n_names++ == FOLDER_NAMES)
            f->is_short = true;
        else
            take(f, d->d_name);
        errno = 0;
    }
    if (f->has_no_memory)
        return plt_fail(err, PLT_NOMEM, "a list");
    return errno ? plt_fail_sys(err, PLT_IO, errno, "readdir") : PLT_OK;
}

/* ---- Telling ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name,
                  ((const struct entry *)b)->name);
}

static json_t *tell(const struct entry *e)
{
    json_t *const row = json_pack("{s:s, s:s}", "name", e->name, "type",
                                  e->is_folder ? "directory" : "file");
    char when[32];
    struct tm tm;

    if (row && !e->is_folder)
        (void)json_object_set_new(row, "size",
                                  json_integer((json_int_t)e->size));
    if (row && gmtime_r(&e->modified, &tm) && tm.tm_year < 8100 &&
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm))
        (void)json_object_set_new(row, "modified", json_string(when));
    return row;
}

static enum plt_status tell_page(struct folder *f, struct folder_list *out,
                                 struct plt_error *err)
{
    const struct folder_query *const q = f->query;
    const size_t first = q->first < f->n ? q->first : f->n;
    const size_t end = f->n - first > q->most ? first + q->most : f->n;

    if (f->n)
        qsort(f->v, f->n, sizeof(*f->v), by_name);
    *out = (struct folder_list){
        .rows = json_array(), .total = f->n, .is_short = f->is_short};
    for (size_t i = first; out->rows && i < end; i++)
        (void)json_array_append_new(out->rows, tell(&f->v[i]));
    return out->rows ? PLT_OK : plt_fail(err, PLT_NOMEM, "a list");
}

/* ---- All of it ---- */

static enum plt_status fail_open(int sys, struct plt_error *err)
{
    if (sys == ENOENT || sys == ENOTDIR || sys == ENAMETOOLONG)
        return plt_fail(err, PLT_NOT_FOUND, "no folder of that name");
    if (sys == EXDEV || sys == ELOOP || sys == EACCES || sys == EPERM)
        return plt_fail_sys(err, PLT_DENIED, sys, "open");
    return plt_fail_sys(err,
                        sys == EMFILE || sys == ENFILE ? PLT_BUSY
                        : sys == ENOMEM                ? PLT_NOMEM
                                                       : PLT_IO,
                        sys, "open");
}

static enum plt_status list_at(const struct location *place,
                               const struct folder_query *query,
                               struct folder_list *out, struct plt_error *err)
{
    AUTO_FD int root = open(place->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int fd = root < 0 ? -1
                            : policy_open_beneath(root, place->path,
                                                  O_RDONLY | O_DIRECTORY);
    struct folder f = {.root = root, .path = place->path, .query = query};

    if (fd < 0)
        return fail_open(errno, err);
    f.dir = fdopendir(fd);
    if (!f.dir) {
        (void)close(fd);
        return plt_fail(err, PLT_NOMEM, "a folder");
    }
    enum plt_status st = read_names(&f, err);
    if (st == PLT_OK)
        st = tell_page(&f, out, err);
    (void)closedir(f.dir);
    for (size_t i = 0; i < f.n; i++)
        free(f.v[i].name);
    free(f.v);
    return st;
}

enum plt_status folder_list(const struct policy *policy,
                            const struct folder_query *query,
                            struct folder_list *out, struct plt_error *err)
{
    /* Of the origin itself as of all below it: its own folder is ".". */
    AUTO_FREE char *target = join(query->target, "/", ".");
    struct location place;

    if (!target)
        return plt_fail(err, PLT_NOMEM, "a folder's name");
    enum plt_status st = policy_locate(policy, target, &place, err);
    if (st != PLT_OK)
        return st;
    st = place.url ? plt_fail(err, PLT_UNSUPPORTED,
                              "only of origins that are folders are files "
                              "listed")
                   : list_at(&place, query, out, err);
    location_release(&place);
    return st;
}
