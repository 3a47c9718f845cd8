/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <platter/error.h>

#include "listen.h"
#include "stack/registry.h"
#include "util/auto.h"

/* Newer than the kernel headers of Debian 12. */
#define FS_REFER (UINT64_C(1) << 13)
#define FS_TRUNCATE (UINT64_C(1) << 14)
#define FS_IOCTL_DEV (UINT64_C(1) << 15)
#define NET_BIND_TCP (UINT64_C(1) << 0)
#define SCOPE_ABSTRACT_UNIX (UINT64_C(1) << 0)
#define SCOPE_SIGNAL (UINT64_C(1) << 1)
#define RULE_NET_PORT 2

struct ruleset {
    uint64_t fs, net, scoped;
};

struct net_port {
    uint64_t allowed, port;
};

enum {
    READ = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
    VERSION_1 = (1 << 13) - 1
};

/* What resolving names and checking certificates reads, and what libraries load
 * while they run. */
static const char *const system_places[] = {"/usr/lib",
                                            "/lib",
                                            "/lib64",
                                            "/usr/share/ca-certificates",
                                            "/usr/local/share/ca-certificates",
                                            "/usr/share/zoneinfo",
                                            "/run/systemd/resolve",
                                            "/run/nscd",
                                            "/dev/urandom",
                                            "/dev/null",
                                            "/proc/self",
                                            "/proc/sys/kernel/random"};

/* Of /etc root sees passwords, too: then only these.  Anybody else gets the
 * folder, in which resolv.conf may be replaced while we run. */
static const char *const etc_files[] = {
    "/etc/resolv.conf", "/etc/hosts",       "/etc/nsswitch.conf",
    "/etc/gai.conf",    "/etc/host.conf",   "/etc/services",
    "/etc/ssl",         "/etc/ld.so.cache", "/etc/localtime",
    "/etc/pki",         "/etc/gnutls",      "/etc/ca-certificates"};

static int make_ruleset(int abi, uint64_t *fs)
{
    struct ruleset r = {.fs = VERSION_1};
    size_t size = sizeof(r.fs);

    if (abi >= 2)
        r.fs |= FS_REFER;
    if (abi >= 3)
        r.fs |= FS_TRUNCATE;
    if (abi >= 4) {
        r.net = NET_BIND_TCP;
        size += sizeof(r.net);
    }
    if (abi >= 5)
        r.fs |= FS_IOCTL_DEV;
    if (abi >= 6) {
        r.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
        size += sizeof(r.scoped);
    }
    *fs = r.fs;
    return (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
}

/* A place that is not there is no mistake: it will not be opened either. */
static bool allow_path(int ruleset, const char *path, uint64_t access)
{
    AUTO_FD int fd = open(path, O_PATH | O_CLOEXEC);
    struct stat sb;

    if (fd < 0)
        return errno == ENOENT || errno == EACCES || errno == ENOTDIR;
    if (fstat(fd, &sb) != 0)
        return false;
    if (!S_ISDIR(sb.st_mode)) /* what can be done to a file */
        access &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                  FS_TRUNCATE | FS_IOCTL_DEV;
    const struct landlock_path_beneath_attr rule = {.allowed_access = access,
                                                    .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH,
                   &rule, 0) == 0;
}

/* The folder that a file is in: editors and deployments put another file there
 * under the same name. */
static bool allow_folder_of(int ruleset, const char *file)
{
    AUTO_FREE char *folder = strdup(file);

    if (!folder)
        return false;
    char *const slash = strrchr(folder, '/');
    if (!slash)
        return allow_path(ruleset, ".", READ);
    slash[slash == folder] = '\0';
    return allow_path(ruleset, folder, READ);
}

static bool allow_plugins(int ruleset, const char *path)
{
    char folders[2][PATH_MAX + 64];
    bool is_good = true;

    for (size_t i = 0; i < registry_builtin(folders); i++)
        is_good = is_good && allow_path(ruleset, folders[i], READ);
    while (path && *path && is_good) {
        const size_t n = strcspn(path, ":");
        AUTO_FREE char *folder = strndup(path, n);
        is_good = folder && (!n || allow_path(ruleset, folder, READ));
        path += n + (path[n] == ':');
    }
    return is_good;
}

static bool allow_names(int ruleset, const struct config *c)
{
    bool is_good = true;

    for (size_t i = 0; i < c->origins.n && is_good; i++) {
        if (c->origins.v[i].value[0] == '/')
            is_good = allow_path(ruleset, c->origins.v[i].value, READ);
    }
    for (size_t i = 0; i < c->secrets.n && is_good; i++)
        is_good = allow_folder_of(ruleset, c->secrets.v[i].value);
    for (unsigned k = 0; k < CONFIG_CREDENTIALS; k++) {
        const struct config_list *const list = &c->credentials[k];
        for (size_t i = 0; i < list->n && is_good; i++)
            is_good = allow_folder_of(ruleset, list->v[i].value);
    }
    const char *const keys[] = {c->tls_certificate, c->tls_key,
                                c->tls_client_ca, c->manifest_key};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && is_good; i++)
        is_good = !keys[i] || allow_folder_of(ruleset, keys[i]);
    for (size_t i = 0; i < c->access.n && is_good; i++)
        is_good = !c->access.v[i].key_file ||
                  allow_folder_of(ruleset, c->access.v[i].key_file);
    for (size_t i = 0; i < c->files.n && is_good; i++)
        is_good = allow_folder_of(ruleset, c->files.v[i].value);
    return is_good;
}

static bool allow_ports(int ruleset, const struct config *c)
{
    for (size_t i = 0; i < c->n_listen; i++) {
        struct listen_spec spec;
        if (!listen_parse(c->listen[i], &spec) || spec.kind != LISTEN_TCP)
            continue;
        const struct net_port rule = {NET_BIND_TCP,
                                      strtoul(spec.port, NULL, 10)};
        if (syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) !=
            0)
            return false;
    }
    return true;
}

/* Unix sockets are made, and taken away at the end. */
static bool allow_sockets(int ruleset, const struct config *c)
{
    for (size_t i = 0; i < c->n_listen; i++) {
        struct listen_spec spec;
        if (!listen_parse(c->listen[i], &spec) || spec.kind != LISTEN_UNIX)
            continue;
        AUTO_FREE char *folder = strdup(spec.path);
        if (!folder)
            return false;
        char *const slash = strrchr(folder, '/');
        slash[slash == folder] = '\0';
        if (!allow_path(ruleset, folder,
                        LANDLOCK_ACCESS_FS_MAKE_SOCK |
                            LANDLOCK_ACCESS_FS_REMOVE_FILE |
                            LANDLOCK_ACCESS_FS_WRITE_FILE))
            return false;
    }
    return true;
}

static bool allow_pid_file(int ruleset, const char *file, uint64_t all)
{
    AUTO_FREE char *folder = file ? strdup(file) : NULL;
    char *const slash = folder ? strrchr(folder, '/') : NULL;

    if (!file)
        return true;
    if (slash)
        slash[slash == folder] = '\0';
    const uint64_t few = LANDLOCK_ACCESS_FS_WRITE_FILE |
                         LANDLOCK_ACCESS_FS_MAKE_REG |
                         LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE;
    return allow_path(ruleset, slash ? folder : ".", all & few);
}

/* Devices are written where they are.  A file is written beside and then
 * renamed, which a rule can allow in its folder alone. */
static bool allow_outputs(int ruleset, const struct config *c, uint64_t all)
{
    const uint64_t few =
        READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
        LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
    const struct config_texts *const list = &c->mirrors.texts[CONFIG_OUTPUTS];
    bool is_good = true;

    for (size_t i = 0; i < list->n && is_good; i++) {
        struct stat sb;
        AUTO_FREE char *path = strdup(list->v[i]);
        if (!path)
            return false;
        if (stat(path, &sb) != 0 || !S_ISBLK(sb.st_mode))
            strrchr(path, '/')[1] = '\0';
        is_good = allow_path(ruleset, path, all & few);
    }
    return is_good;
}

/* The version of Landlock that holds from now on; 0: none, errno. */
static int limit_files(const struct config *c)
{
    const int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
                                 LANDLOCK_CREATE_RULESET_VERSION);
    uint64_t all = 0;

    if (abi <= 0)
        return 0;
    AUTO_FD int ruleset = make_ruleset(abi, &all);
    bool is_good = ruleset >= 0;
    for (size_t i = 0;
         i < sizeof(system_places) / sizeof(system_places[0]) && is_good; i++)
        is_good = allow_path(ruleset, system_places[i], READ);
    for (size_t i = 0; i < sizeof(etc_files) / sizeof(etc_files[0]) && is_good;
         i++)
        is_good = allow_path(ruleset, geteuid() ? "/etc" : etc_files[i], READ);
    if (is_good && c->state_dir)
        is_good = (mkdir(c->state_dir, 0700) == 0 || errno == EEXIST) &&
                  allow_path(ruleset, c->state_dir,
                             all & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE);
    is_good = is_good && allow_names(ruleset, c) &&
              allow_plugins(ruleset, c->plugin_path) &&
              allow_pid_file(ruleset, c->pid_file, all) &&
              allow_outputs(ruleset, c, all) && allow_sockets(ruleset, c) &&
              (abi < 4 || allow_ports(ruleset, c));
    return is_good && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 ? abi
                                                                           : 0;
}

static void tell(int landlock, bool has_calls)
{
    struct log_line l;

    log_begin(&l, landlock && has_calls ? LOG_INFO : LOG_WARN, "sandbox");
    log_number(&l, "landlock", (uint64_t)landlock);
    log_text(&l, "seccomp", has_calls ? "yes" : "no");
    log_end(&l);
}

enum plt_status sandbox_enter(const struct config *c, struct plt_error *err)
{
    if (c->sandbox == SANDBOX_OFF)
        return PLT_OK;
    /* Both want it; and nothing of ours is ever set-user-id. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "no_new_privs");
    const int landlock = limit_files(c);
    const int why = errno;
    if (!landlock && c->sandbox == SANDBOX_REQUIRE)
        return plt_fail_sys(err, PLT_UNSUPPORTED, why, "Landlock");
    const bool has_calls = sandbox_limit_calls();
    if (!has_calls && c->sandbox == SANDBOX_REQUIRE)
        return plt_fail_sys(err, PLT_UNSUPPORTED, errno, "seccomp");
    tell(landlock, has_calls);
    return PLT_OK;
}

const char *sandbox_misses(const struct config *c)
{
    for (size_t i = 0; i < c->origins.n; i++) {
        const char *const folder = c->origins.v[i].value;
        if (folder[0] != '/')
            continue;
        AUTO_FD int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == EACCES && access(folder, R_OK) == 0)
            return c->origins.v[i].name;
    }
    return NULL;
}
