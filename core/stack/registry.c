/* SPDX-License-Identifier: Apache-2.0 */
/* Loading plugins.  A plugin is another compiler's work: its struct is copied,
 * as much of it as both sides know, before anything in it is believed. */
#include "stack/registry.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/log.h"

struct entry {
    struct plt_driver driver; /* our copy */
    char *file;
};

struct registry {
    struct entry entries[REGISTRY_MAX];
    size_t n;
    /* A plugin is missing for want of memory: without qcow2's, a qcow2 image
     * would be read as raw bytes. */
    bool has_no_memory;
};

static bool name_ok(const char *name)
{
    const size_t n = strlen(name);
    return n > 0 && n < 16 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == n;
}

/* Name stands in the comma-separated list. */
static bool in_list(const char *list, const char *name, size_t len)
{
    while (list && *list) {
        const size_t n = strcspn(list, ",");
        if (n == len && memcmp(list, name, len) == 0)
            return true;
        list += n + (list[n] == ',');
    }
    return false;
}

const struct plt_driver *registry_find(const struct registry *registry,
                                       const char *name, size_t len)
{
    for (size_t i = 0; i < registry->n; i++) {
        const struct plt_driver *const d = &registry->entries[i].driver;
        if ((strlen(d->name) == len && memcmp(d->name, name, len) == 0) ||
            in_list(d->aliases, name, len))
            return d;
    }
    return NULL;
}

/* Why the struct cannot be used, or NULL. */
static const char *complaint(const struct plt_driver *d)
{
    if (!d->name || !name_ok(d->name))
        return "its name is not [a-z0-9]{1,15}";
    if (!d->open || !d->close || !d->read)
        return "open, close or read is missing";
    if ((unsigned)d->kind > (unsigned)PLT_KIND_FORMAT)
        return "unknown kind";
    if (d->kind == PLT_KIND_SOURCE && !d->identity)
        return "a source without identity";
    if (d->kind == PLT_KIND_ARCHIVE && !d->members)
        return "an archive without members";
    return NULL;
}

static void refuse(const char *path, const char *why)
{
    struct log_line l;
    log_begin(&l, LOG_WARN, "plugin_refused");
    log_text(&l, "file", path);
    log_text(&l, "text", why);
    log_end(&l);
}

/* Why code is not taken from there: only root, and whoever owns the program
 * itself, may be able to put it there.  NULL: it is. */
static const char *distrust(const char *path)
{
    struct stat program, sb;

    if (stat("/proc/self/exe", &program) != 0 || stat(path, &sb) != 0)
        return "cannot be looked at";
    if (sb.st_uid != 0 && sb.st_uid != program.st_uid)
        return "neither root's nor the program's owner's";
    if (sb.st_mode & (S_IWGRP | S_IWOTH))
        return "others than its owner may write to it";
    return NULL;
}

static void load_file(struct registry *r, const char *path)
{
    char why[256];
    const char *const doubt = distrust(path);

    if (doubt) {
        refuse(path, doubt);
        return;
    }

    if (r->n == REGISTRY_MAX) {
        refuse(path, "too many plugins");
        return;
    }
    errno = 0;
    void *const handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        r->has_no_memory = r->has_no_memory || errno == ENOMEM;
        const char *const text = dlerror();
        refuse(path, text ? text : "dlopen failed");
        return;
    }
    const struct plt_driver *const theirs = dlsym(handle, "platter_driver");
    if (!theirs) {
        refuse(path, "no symbol platter_driver");
        return;
    }
    /* The first eight bytes are the same in every version there will be. */
    if (theirs->abi_major != PLT_ABI_MAJOR) {
        (void)snprintf(why, sizeof(why), "ABI %u.%u, this program has %u.%u",
                       theirs->abi_major, theirs->abi_minor, PLT_ABI_MAJOR,
                       PLT_ABI_MINOR);
        refuse(path, why);
        return;
    }
    struct entry *const e = &r->entries[r->n];
    const size_t size = theirs->struct_size < sizeof(e->driver)
                            ? theirs->struct_size
                            : sizeof(e->driver);
    memset(&e->driver, 0, sizeof(e->driver));
    memcpy(&e->driver, theirs, size);
    const char *const bad = complaint(&e->driver);
    if (bad) {
        refuse(path, bad);
        return;
    }
    if (registry_find(r, e->driver.name, strlen(e->driver.name))) {
        (void)snprintf(why, sizeof(why), "there is a driver %s already",
                       e->driver.name);
        refuse(path, why);
        return;
    }
    e->file = strdup(path);
    r->n += e->file != NULL;
    r->has_no_memory = r->has_no_memory || !e->file;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every *.so of a folder, in the order of their names. */
static void load_folder(struct registry *r, const char *folder)
{
    char *names[REGISTRY_MAX];
    size_t n = 0;
    DIR *const dir = opendir(folder);
    const char *const doubt = dir ? distrust(folder) : NULL;

    if (!dir && errno == ENOMEM)
        r->has_no_memory = true;
    if (doubt) {
        refuse(folder, doubt);
        (void)closedir(dir);
    }
    if (!dir || doubt)
        return;
    for (const struct dirent *e; n < REGISTRY_MAX && (e = readdir(dir));) {
        const size_t len = strlen(e->d_name);
        if (len < 4 || strcmp(e->d_name + len - 3, ".so") != 0)
            continue;
        const size_t size = strlen(folder) + len + 2;
        char *const path = malloc(size);
        if (!path) {
            r->has_no_memory = true;
            break;
        }
        (void)snprintf(path, size, "%s/%s", folder, e->d_name);
        names[n++] = path;
    }
    (void)closedir(dir);
    qsort(names, n, sizeof(names[0]), by_name);
    for (size_t i = 0; i < n; i++) {
        load_file(r, names[i]);
        free(names[i]);
    }
}

size_t registry_builtin(char folders[2][PATH_MAX + 64])
{
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n <= 0)
        return 0;
    self[n] = '\0';
    char *const slash = strrchr(self, '/');
    if (!slash)
        return 0;
    *slash = '\0'; /* the folder of the program: .../bin */
    (void)snprintf(folders[0], sizeof(folders[0]), "%s/../plugins.d", self);
    (void)snprintf(folders[1], sizeof(folders[1]),
                   "%s/../" PLATTER_PLUGIN_LIBDIR, self);
    return 2;
}

enum plt_status registry_load(struct registry **out, const char *path,
                              struct plt_error *err)
{
    struct registry *const r = calloc(1, sizeof(*r));
    char folders[2][PATH_MAX + 64];

    if (!r)
        return plt_fail(err, PLT_NOMEM, "the plugin table");
    /* Folders named by the user come before our own: theirs win. */
    while (path && *path) {
        const size_t n = strcspn(path, ":");
        char *const folder = strndup(path, n);
        if (folder && n)
            load_folder(r, folder);
        r->has_no_memory = r->has_no_memory || !folder;
        free(folder);
        path += n + (path[n] == ':');
    }
    const size_t n_builtin = registry_builtin(folders);
    for (size_t i = 0; i < n_builtin; i++)
        load_folder(r, folders[i]);
    if (r->has_no_memory) {
        registry_free(r);
        return plt_fail(err, PLT_NOMEM, "a plugin");
    }
    if (!r->n) {
        registry_free(r);
        return plt_fail(err, PLT_NOT_FOUND, "no plugin could be loaded");
    }
    *out = r;
    return PLT_OK;
}

void registry_free(struct registry *registry)
{
    if (!registry)
        return;
    for (size_t i = 0; i < registry->n; i++)
        free(registry->entries[i].file);
    free(registry);
}

const struct plt_driver *registry_probe(const struct registry *registry,
                                        const struct plt_probe *probe,
                                        bool is_format_wanted)
{
    const struct plt_driver *best = NULL;
    int best_score = 49;

    for (size_t i = 0; i < registry->n; i++) {
        const struct plt_driver *const d = &registry->entries[i].driver;
        if (!d->probe || d->kind == PLT_KIND_SOURCE ||
            (d->kind == PLT_KIND_FORMAT && !is_format_wanted))
            continue;
        const int score = d->probe(probe);
        if (score > best_score) {
            best = d;
            best_score = score;
        }
    }
    return best;
}

json_t *registry_json(const struct registry *registry)
{
    static const char *const kinds[] = {
        [PLT_KIND_SOURCE] = "source",
        [PLT_KIND_WRAPPER] = "wrapper",
        [PLT_KIND_ARCHIVE] = "archive",
        [PLT_KIND_FORMAT] = "format",
    };
    json_t *const list = json_array();

    for (size_t i = 0; list && i < registry->n; i++) {
        const struct entry *const e = &registry->entries[i];
        char abi[24];
        (void)snprintf(abi, sizeof(abi), "%u.%u", e->driver.abi_major,
                       e->driver.abi_minor);
        json_t *const row =
            json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", e->driver.name,
                      "kind", kinds[e->driver.kind], "summary",
                      e->driver.summary ? e->driver.summary : "", "abi", abi,
                      "file", e->file);
        if (row && e->driver.aliases)
            (void)json_object_set_new(row, "aliases",
                                      json_string(e->driver.aliases));
        json_t *const options = json_array();
        for (const struct plt_option *o = e->driver.options; o && o->name; o++)
            (void)json_array_append_new(
                options, json_pack("{s:s, s:s}", "name", o->name, "help",
                                   o->help ? o->help : ""));
        /* Into no row: it is freed. */
        (void)json_object_set_new(row, "options", options);
        (void)json_array_append_new(list, row);
    }
    return list;
}
