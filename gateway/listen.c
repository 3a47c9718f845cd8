/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 4096, /* or what the kernel allows */
    MAX_PORT = 65535,
    FIRST_PASSED = 3,  /* SD_LISTEN_FDS_START */
    MAX_PASSED = 1024, /* more is a slip of somebody's */
    SOCKET_MODE = 0660
};

union any_address {
    struct sockaddr_storage storage;
    struct sockaddr plain;
    struct sockaddr_un local;
};

/* ---- The text ---- */

/* No name is looked up: what is listened on must not depend on who answers. */
static bool parse_tcp(const char *text, struct listen_spec *out)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICHOST};
    const char *const colon = strrchr(text, ':');
    const bool is_v6 = *text == '[';
    struct addrinfo *found = NULL;

    if (!colon || (is_v6 && colon[-1] != ']') ||
        (size_t)(colon - text) >= sizeof(out->host))
        return false;
    const size_t digits = strspn(colon + 1, "0123456789");
    if (!digits || digits > 5 || colon[1 + digits] ||
        strtoul(colon + 1, NULL, 10) > MAX_PORT)
        return false;
    (void)snprintf(out->host, sizeof(out->host), "%.*s",
                   (int)(colon - text) - (is_v6 ? 2 : 0), text + is_v6);
    (void)snprintf(out->port, sizeof(out->port), "%.5s", colon + 1);
    const bool is_good =
        getaddrinfo(*out->host ? out->host : NULL, "0", &hints, &found) == 0;
    if (is_good)
        freeaddrinfo(found);
    return is_good;
}

bool listen_parse(const char *text, struct listen_spec *out)
{
    static const char tls[] = "https://",
                      local[] = "unix:", passed[] = "systemd";

    *out = (struct listen_spec){.kind = LISTEN_TCP};
    if (strncmp(text, local, sizeof(local) - 1) == 0) {
        out->kind = LISTEN_UNIX;
        out->path = text + sizeof(local) - 1;
        return *out->path == '/' &&
               strlen(out->path) < sizeof(((struct sockaddr_un *)0)->sun_path);
    }
    if (strncmp(text, tls, sizeof(tls) - 1) == 0) {
        out->is_tls = true;
        text += sizeof(tls) - 1;
    }
    if (strncmp(text, passed, sizeof(passed) - 1) == 0) {
        const char *const rest = text + sizeof(passed) - 1;
        out->kind = LISTEN_PASSED;
        out->name = *rest ? rest + 1 : rest;
        return !*rest || (*rest == ':' && rest[1] && !strchr(rest + 1, ':'));
    }
    return parse_tcp(text, out);
}

/* ---- Sockets ---- */

static int fail(const char *text, const char *why, int fd)
{
    (void)fprintf(stderr, "platterd: cannot listen on %s: %s\n", text, why);
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static int open_tcp(const char *text, const struct listen_spec *spec)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICHOST |
                                               AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int on = 1;

    const int e = getaddrinfo(*spec->host ? spec->host : NULL, spec->port,
                              &hints, &found);
    if (e != 0)
        return fail(text, gai_strerror(e), -1);
    const int fd =
        socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const bool is_good = fd >= 0 &&
                         bind(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                         listen(fd, BACKLOG) == 0;
    const int why = errno;
    freeaddrinfo(found);
    return is_good ? fd : fail(text, strerror(why), fd);
}

/* A socket's name stays behind when its process was killed.  One that somebody
 * answers on is not ours to take. */
static bool is_stale(const union any_address *a)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stat sb;

    if (fd < 0)
        return false;
    const bool is_refused =
        lstat(a->local.sun_path, &sb) == 0 && S_ISSOCK(sb.st_mode) &&
        connect(fd, &a->plain, sizeof(a->local)) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return is_refused;
}

static int open_unix(const char *text, const struct listen_spec *spec)
{
    union any_address a = {.local = {.sun_family = AF_UNIX}};
    const int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(a.local.sun_path, sizeof(a.local.sun_path), "%s",
                   spec->path);
    if (fd < 0)
        return fail(text, strerror(errno), fd);
    if (is_stale(&a))
        (void)unlink(spec->path);
    /* Who may connect is who may write to it; never wider, not for a moment. */
    const mode_t mask = umask(0777 & ~(unsigned)SOCKET_MODE);
    const bool is_good =
        bind(fd, &a.plain, sizeof(a.local)) == 0 && listen(fd, BACKLOG) == 0;
    const int why = errno;
    (void)umask(mask);
    return is_good ? fd : fail(text, strerror(why), fd);
}

/* The number of sockets that were handed over; 0: none to us. */
static unsigned passed_count(void)
{
    const char *const pid = getenv("LISTEN_PID");
    const char *const n = getenv("LISTEN_FDS");

    if (!pid || !n || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    const unsigned long v = strtoul(n, NULL, 10);
    return v <= MAX_PASSED ? (unsigned)v : 0;
}

bool listen_has_passed(void)
{
    return passed_count() > 0;
}

/* Is the i-th of "a:b:c" this name? */
static bool is_named(unsigned i, const char *name)
{
    const char *names = getenv("LISTEN_FDNAMES");

    for (; names && i; i--) {
        names = strchr(names, ':');
        names = names ? names + 1 : NULL;
    }
    const size_t n = names ? strcspn(names, ":") : 0;
    return names && strlen(name) == n && memcmp(names, name, n) == 0;
}

/* What is handed over comes through exec, and what this process has opened by
 * itself would not: with a wrong LISTEN_FDS, or when two texts ask for one
 * socket, none has two servers, nor plain HTTP and TLS at once. */
static bool is_to_take(int fd)
{
    int on = 0;
    socklen_t len = sizeof(on);
    const int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || flags & FD_CLOEXEC)
        return false;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

static size_t open_passed(const char *text, const struct listen_spec *spec,
                          int *fds, size_t most)
{
    size_t n = 0;

    for (unsigned i = 0; i < passed_count() && n < most; i++) {
        const int fd = FIRST_PASSED + (int)i;
        if (*spec->name && !is_named(i, spec->name))
            continue;
        if (!is_to_take(fd)) {
            (void)fail(text, "a descriptor is no listening socket, or taken",
                       -1);
            continue;
        }
        const int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_PASSED);
        if (copy < 0 || fcntl(copy, F_SETFL, O_NONBLOCK) != 0)
            (void)fail(text, strerror(errno), copy);
        else
            fds[n++] = copy;
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (!n)
        (void)fail(text,
                   listen_has_passed() ? "none of that name was handed over"
                                       : "no socket was handed over",
                   -1);
    return n;
}

size_t listen_open(const char *text, int *fds, size_t most)
{
    struct listen_spec spec;

    if (!most || !listen_parse(text, &spec)) {
        (void)fail(text, most ? "not an address" : "too many sockets", -1);
        return 0;
    }
    if (spec.kind == LISTEN_PASSED)
        return open_passed(text, &spec, fds, most);
    fds[0] = spec.kind == LISTEN_UNIX ? open_unix(text, &spec)
                                      : open_tcp(text, &spec);
    return fds[0] >= 0;
}

void listen_remove(const char *text)
{
    struct listen_spec spec;

    if (listen_parse(text, &spec) && spec.kind == LISTEN_UNIX)
        (void)unlink(spec.path);
}

void listen_name(int fd, char *out, size_t cap)
{
    union any_address a = {.storage = {.ss_family = AF_UNSPEC}};
    socklen_t len = sizeof(a);
    char host[64] = "?", port[16] = "?";

    if (getsockname(fd, &a.plain, &len) == 0 &&
        a.storage.ss_family == AF_UNIX) {
        (void)snprintf(out, cap, "unix:%.*s", (int)sizeof(a.local.sun_path),
                       a.local.sun_path);
        return;
    }
    (void)getnameinfo(&a.plain, len, host, sizeof(host), port, sizeof(port),
                      NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(out, cap, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
                   port);
}
