/* SPDX-License-Identifier: Apache-2.0 */
/* Policy is made of three questions: is this name well formed, which origin's
 * is it, does the file lie beneath that origin's folder.  The last one is asked
 * of the kernel while it opens, since only the kernel sees the links. */
#include "stack/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stack/address.h"
#include "util/auto.h"
#include "util/check.h"

enum { CREDENTIALS = PLT_CREDENTIAL_CLIENT + 1 };

struct origin {
    char *name, *base;
    char *blocks; /* of addresses that are allowed besides; or NULL */
    char *credentials[CREDENTIALS]; /* by enum plt_credential; or NULL */
    bool is_remote;
};

/* Behind a pointer, so that asking may lock a policy that is const to the
 * asker. */
struct origins {
    pthread_rwlock_t lock; /* guards the rest; held across no call out */
    struct origin v[POLICY_MAX_ORIGINS];
    size_t n;
};

struct policy {
    struct origins *origins;
    bool is_local;
};

struct policy *policy_new(bool is_local)
{
    struct policy *const p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->is_local = is_local;
    p->origins = calloc(1, sizeof(*p->origins));
    if (!p->origins || pthread_rwlock_init(&p->origins->lock, NULL) != 0) {
        free(p->origins);
        free(p);
        return NULL;
    }
    return p;
}

static void lock_read(const struct policy *policy)
{
    ASSERT(pthread_rwlock_rdlock(&policy->origins->lock) == 0);
}

static void unlock(const struct policy *policy)
{
    ASSERT(pthread_rwlock_unlock(&policy->origins->lock) == 0);
}

static void drop_credentials(struct origin *o)
{
    for (size_t i = 0; i < CREDENTIALS; i++) {
        if (o->credentials[i])
            explicit_bzero(o->credentials[i], strlen(o->credentials[i]));
        free(o->credentials[i]);
        o->credentials[i] = NULL;
    }
}

void policy_free(struct policy *policy)
{
    if (!policy)
        return;
    for (size_t i = 0; i < policy->origins->n; i++) {
        free(policy->origins->v[i].name);
        free(policy->origins->v[i].base);
        free(policy->origins->v[i].blocks);
        drop_credentials(&policy->origins->v[i]);
    }
    (void)pthread_rwlock_destroy(&policy->origins->lock);
    free(policy->origins);
    free(policy);
}

void location_release(struct location *l)
{
    free(l->url);
    free(l->folder);
    free(l->path);
    free(l->base);
    free(l->provided);
    free(l->label);
    *l = (struct location){.url = NULL};
}

bool policy_name_ok(const char *name)
{
    static const char alnum[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    const size_t n = strlen(name);
    if (!n || n > 63 || !strchr(alnum, name[0]))
        return false;
    for (const char *p = name; *p; p++) {
        if (!strchr(alnum, *p) && !strchr("._-", *p))
            return false;
    }
    return true;
}

/* With the lock held. */
static const struct origin *find(const struct policy *policy, const char *name,
                                 size_t len)
{
    for (size_t i = 0; i < policy->origins->n; i++) {
        const struct origin *const o = &policy->origins->v[i];
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

bool policy_has_origin(const struct policy *policy, const char *name)
{
    lock_read(policy);
    const bool has = find(policy, name, strlen(name)) != NULL;
    unlock(policy);
    return has;
}

bool policy_has_origin_of(const struct policy *policy, const char *target)
{
    lock_read(policy);
    const bool has = find(policy, target, strcspn(target, "/")) != NULL;
    unlock(policy);
    return has;
}

void policy_replace(struct policy *policy, struct policy *other)
{
    struct origins *const a = policy->origins, *const b = other->origins;
    struct origin *const old = malloc(sizeof(a->v));

    ASSERT(old); /* 6 KiB, at a reload */
    ASSERT(pthread_rwlock_wrlock(&a->lock) == 0);
    const size_t n = a->n;
    memcpy(old, a->v, sizeof(a->v));
    memcpy(a->v, b->v, sizeof(a->v));
    a->n = b->n;
    memcpy(b->v, old, sizeof(a->v));
    b->n = n;
    unlock(policy);
    free(old);
}

static bool is_http(const char *text)
{
    return strncmp(text, "http://", 7) == 0 ||
           strncmp(text, "https://", 8) == 0;
}

/* Concatenation; new, NULL without memory. */
static char *join(const char *a, const char *b, const char *c)
{
    const size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
    char *const s = malloc(size);
    if (s)
        (void)snprintf(s, size, "%s%s%s", a, b, c);
    return s;
}

enum plt_status policy_add_origin(struct policy *policy, const char *name,
                                  const char *base, struct plt_error *err)
{
    const bool is_remote = is_http(base);

    if (!policy_name_ok(name))
        return plt_fail(err, PLT_INVALID,
                        "origin name %.64s: letters, digits, . _ - only", name);
    if (policy_has_origin(policy, name))
        return plt_fail(err, PLT_INVALID, "origin %s named twice", name);
    if (policy->origins->n == POLICY_MAX_ORIGINS)
        return plt_fail(err, PLT_INVALID, "more than %d origins",
                        POLICY_MAX_ORIGINS);
    if (is_remote) {
        const char *const host = strstr(base, "://") + 3;
        if (strpbrk(base, "?# \t\r\n\\") || *host == '/' || !*host ||
            memchr(host, '@', strcspn(host, "/")))
            return plt_fail(err, PLT_INVALID,
                            "origin %s: a URL without user, query or fragment",
                            name);
    } else if (base[0] != '/') {
        return plt_fail(err, PLT_INVALID,
                        "origin %s: an http(s) URL or an absolute folder",
                        name);
    } else {
        struct stat sb;
        if (stat(base, &sb) != 0)
            return plt_fail_sys(err, PLT_INVALID, errno, "origin %s", name);
        if (!S_ISDIR(sb.st_mode))
            return plt_fail(err, PLT_INVALID, "origin %s: not a folder", name);
    }
    struct origin *const o = &policy->origins->v[policy->origins->n];
    const char *const slash = base[strlen(base) - 1] == '/' ? "" : "/";
    *o = (struct origin){.name = strdup(name),
                         .base = join(base, slash, ""),
                         .is_remote = is_remote};
    if (!o->name || !o->base) {
        free(o->name);
        free(o->base);
        return plt_fail(err, PLT_NOMEM, "an origin");
    }
    policy->origins->n++;
    return PLT_OK;
}

/* RFC 3986 2.3: everything but unreserved characters and '/' is encoded. */
static char *encode_path(const char *path)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    char *const out = malloc(strlen(path) * 3 + 1);
    char *p = out;

    for (const char *s = path; out && *s; s++) {
        if (strchr(plain, *s))
            *p++ = *s;
        else
            p += snprintf(p, 4, "%%%02X", (unsigned)(unsigned char)*s);
    }
    if (out)
        *p = '\0';
    return out;
}

static enum plt_status fill(struct location *out, const char *base,
                            bool is_remote, const char *path, const char *label,
                            struct plt_error *err)
{
    *out = (struct location){.path = strdup(path), .label = strdup(label)};
    bool is_good = out->path && out->label;
    if (is_remote) {
        AUTO_FREE char *coded = encode_path(path);
        out->base = strdup(base);
        out->url = coded ? join(base, coded, "") : NULL;
        is_good = is_good && out->base && out->url;
    } else {
        out->folder = strdup(base);
        is_good = is_good && out->folder;
    }
    if (is_good)
        return PLT_OK;
    location_release(out);
    return plt_fail(err, PLT_NOMEM, "a location");
}

enum plt_status policy_locate(const struct policy *policy, const char *target,
                              struct location *out, struct plt_error *err)
{
    const size_t len = strcspn(target, "/");

    lock_read(policy);
    const struct origin *const o = find(policy, target, len);
    const enum plt_status st =
        o && target[len] && target[len + 1]
            ? fill(out, o->base, o->is_remote, target + len + 1, target, err)
            : plt_fail(err, PLT_NOT_FOUND, "no origin of that name");
    unlock(policy);
    return st;
}

enum plt_status policy_locate_own(const struct policy *policy, const char *text,
                                  struct location *out, struct plt_error *err)
{
    if (!policy->is_local)
        return plt_fail(err, PLT_DENIED, "not an origin's");
    if (is_http(text)) {
        /* The folder of the URL, for what the image may name. */
        const char *const path = strchr(strstr(text, "://") + 3, '/');
        const size_t end =
            path ? (size_t)(strrchr(path, '/') - text) + 1 : strlen(text);
        *out = (struct location){.url = strdup(text),
                                 .base = strndup(text, end),
                                 .path = strdup(text + end),
                                 .label = strdup(text),
                                 .is_own = true};
        if (out->url && out->base && out->path && out->label)
            return PLT_OK;
        location_release(out);
        return plt_fail(err, PLT_NOMEM, "a location");
    }
    if (strstr(text, "://"))
        return plt_fail(err, PLT_UNSUPPORTED,
                        "no source for %.*s:", (int)strcspn(text, ":") % 32,
                        text);
    const char *const slash = strrchr(text, '/');
    AUTO_FREE char *folder =
        slash ? strndup(text, (size_t)(slash - text) + 1) : strdup("./");
    if (!folder)
        return plt_fail(err, PLT_NOMEM, "a location");
    const enum plt_status st =
        fill(out, folder, false, slash ? slash + 1 : text, text, err);
    if (st == PLT_OK)
        out->is_own = true;
    return st;
}

const char *policy_complaint(const char *name)
{
    const size_t first = strcspn(name, "/");

    if (!*name || strlen(name) > 1023)
        return "is empty or too long";
    if (name[0] == '/')
        return "is an absolute path";
    if (memchr(name, ':', first))
        return "names a protocol";
    for (const char *p = name; *p;) {
        const size_t len = strcspn(p, "/");
        if (len == 0 || (len == 1 && *p == '.' && p != name))
            return "has an empty segment";
        if (len == 2 && p[0] == '.' && p[1] == '.')
            return "leaves its folder";
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f || p[i] == '\\')
                return "has characters that no file name of ours has";
        }
        p += len;
        if (*p == '/' && !*++p)
            return "ends in a slash";
    }
    return NULL;
}

enum plt_status policy_locate_sibling(const struct location *from,
                                      const char *name, struct location *out,
                                      struct plt_error *err)
{
    const char *const bad = policy_complaint(name);

    if (bad)
        return plt_fail(err, PLT_DENIED, "the image names a file that %s", bad);
    if (from->provided)
        return plt_fail(err, PLT_DENIED,
                        "the image names a file, and beside a mirror is none");
    if (strncmp(name, "./", 2) == 0)
        name += 2;
    const char *const slash = strrchr(from->path, '/');
    AUTO_FREE char *folder =
        slash ? strndup(from->path, (size_t)(slash - from->path) + 1)
              : strdup("");
    AUTO_FREE char *path = folder ? join(folder, name, "") : NULL;
    const char *const tail = strrchr(from->label, '/');
    AUTO_FREE char *stem =
        tail ? strndup(from->label, (size_t)(tail - from->label) + 1)
             : strdup("");
    AUTO_FREE char *label = stem ? join(stem, name, "") : NULL;
    if (!path || !label)
        return plt_fail(err, PLT_NOMEM, "a location");
    return fill(out, from->url ? from->base : from->folder, from->url != NULL,
                path, label, err);
}

int policy_open_beneath(int folder, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};

    return (int)syscall(SYS_openat2, folder, path, &how, sizeof(how));
}

/* A regular file, or -1 with errno: ENOTSUP when it is something else.  It is
 * looked at before it is opened, since opening a device or a pipe may do
 * something already. */
static int open_regular(int folder, const char *path)
{
    AUTO_FD int place = policy_open_beneath(folder, path, O_PATH);
    struct stat sb;

    if (place < 0 || fstat(place, &sb) != 0)
        return -1;
    if (!S_ISREG(sb.st_mode)) {
        errno = S_ISDIR(sb.st_mode) ? ENOENT : ENOTSUP;
        return -1;
    }
    return policy_open_beneath(folder, path, O_RDONLY | O_NOCTTY | O_NONBLOCK);
}

/* What may pass by itself is no failure of the disk. */
static enum plt_status errno_status(int sys)
{
    return sys == EMFILE || sys == ENFILE ? PLT_BUSY
           : sys == ENOMEM                ? PLT_NOMEM
                                          : PLT_IO;
}

enum plt_status policy_open_file(const struct location *l, int *fd,
                                 struct plt_error *err)
{
    struct stat sb;
    AUTO_FD int file = -1;

    if (l->is_own) {
        AUTO_FREE char *path = join(l->folder, l->path, "");
        if (!path)
            return plt_fail(err, PLT_NOMEM, "a path");
        file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    } else {
        AUTO_FD int folder = open(l->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
            return plt_fail_sys(err, errno_status(errno), errno,
                                "the origin's folder");
        file = open_regular(folder, l->path);
    }
    if (file < 0) {
        const int sys = errno;
        if (sys == ENOENT || sys == ENOTDIR || sys == ENAMETOOLONG)
            return plt_fail_sys(err, PLT_NOT_FOUND, sys, "open");
        if (sys == EXDEV || sys == ELOOP || sys == EACCES || sys == EPERM ||
            sys == ENOTSUP)
            return plt_fail_sys(err, PLT_DENIED, sys, "open");
        return plt_fail_sys(err, errno_status(sys), sys, "open");
    }
    if (fstat(file, &sb) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "fstat");
    if (S_ISDIR(sb.st_mode))
        return plt_fail(err, PLT_NOT_FOUND, "a folder, not a file");
    if (!S_ISREG(sb.st_mode) && !(l->is_own && S_ISBLK(sb.st_mode)))
        return plt_fail(err, PLT_DENIED, "not a regular file");
    *fd = file;
    file = -1;
    return PLT_OK;
}

/* Scheme and authority in lower case, without the scheme's own port, and the
 * path; false: not a URL that could be any origin's. */
static bool split_url(const char *url, char *site, size_t cap,
                      const char **path)
{
    if (!is_http(url) || strpbrk(url, "\\ \t\r\n"))
        return false;
    const char *const host = strstr(url, "://") + 3;
    const size_t len = (size_t)(host - url) + strcspn(host, "/?#");
    if (len >= cap || memchr(host, '@', strcspn(host, "/?#")))
        return false;
    for (size_t i = 0; i < len; i++)
        site[i] = url[i] >= 'A' && url[i] <= 'Z' ? (char)(url[i] + 32) : url[i];
    site[len] = '\0';
    const char *const port = url[4] == 's' ? ":443" : ":80";
    const size_t n = strlen(port);
    if (len > n && strcmp(site + len - n, port) == 0)
        site[len - n] = '\0';
    *path = url + len;
    return true;
}

/* An encoded slash, backslash or NUL: what it means is each server's own idea
 * of it, and to some the dots before it are a segment. */
static bool is_coded_end(const char *p)
{
    return strncasecmp(p, "%2f", 3) == 0 || strncasecmp(p, "%5c", 3) == 0 ||
           strncmp(p, "%00", 3) == 0;
}

/* A dot segment, plain or encoded, anywhere before the query. */
static bool has_dots(const char *path)
{
    for (const char *p = path; *p && *p != '?' && *p != '#';) {
        size_t dots = 0, others = 0;
        for (p += *p == '/'; *p && !strchr("/?#", *p);) {
            const bool coded =
                p[0] == '%' && p[1] == '2' && (p[2] == 'e' || p[2] == 'E');
            if (*p == '.' || coded)
                dots++;
            else
                others++;
            if (is_coded_end(p))
                return true;
            p += coded ? 3 : 1;
        }
        if (!others && (dots == 1 || dots == 2))
            return true;
    }
    return false;
}

/* Of the same site, and the URL lies beneath it.  *site: 512 bytes. */
static bool is_of(const struct origin *o, const char *site, const char *path)
{
    char ours[512];
    const char *base;

    return o->is_remote && split_url(o->base, ours, sizeof(ours), &base) &&
           strcmp(site, ours) == 0 && strncmp(path, base, strlen(base)) == 0;
}

enum plt_status policy_allow_url(const struct policy *policy, const char *url,
                                 struct plt_error *err)
{
    char site[512];
    const char *path;
    bool is_ours = false;

    if (!split_url(url, site, sizeof(site), &path) || has_dots(path))
        return plt_fail(err, PLT_DENIED, "redirect to a URL of no origin");
    if (policy->is_local)
        return PLT_OK;
    lock_read(policy);
    for (size_t i = 0; i < policy->origins->n && !is_ours; i++)
        is_ours = is_of(&policy->origins->v[i], site, path);
    unlock(policy);
    return is_ours
               ? PLT_OK
               : plt_fail(err, PLT_DENIED, "redirect to a URL of no origin");
}

enum plt_status policy_locate_url(const struct policy *policy, const char *url,
                                  struct location *out, struct plt_error *err)
{
    const enum plt_status st = policy_allow_url(policy, url, err);

    if (st != PLT_OK)
        return st;
    /* Nothing is named from there: it has no folder. */
    *out = (struct location){.url = strdup(url),
                             .base = strdup(""),
                             .path = strdup(""),
                             .label = strndup(url, strcspn(url, "?#"))};
    if (out->url && out->base && out->path && out->label)
        return PLT_OK;
    location_release(out);
    return plt_fail(err, PLT_NOMEM, "a location");
}

enum plt_status policy_allow_addresses(struct policy *policy, const char *name,
                                       const char *blocks,
                                       struct plt_error *err)
{
    const enum plt_status st = address_check(blocks, err);

    for (size_t i = 0; st == PLT_OK && i < policy->origins->n; i++) {
        struct origin *const o = &policy->origins->v[i];
        if (strcmp(o->name, name) != 0)
            continue;
        if (!o->is_remote)
            return plt_fail(err, PLT_INVALID, "origin %s is a folder", name);
        free(o->blocks);
        o->blocks = strdup(blocks);
        return o->blocks ? PLT_OK : plt_fail(err, PLT_NOMEM, "an origin");
    }
    return st == PLT_OK ? plt_fail(err, PLT_INVALID, "no origin %.63s", name)
                        : st;
}

/* Does the host of a site ("https://host:port") name that address itself? */
static bool names_address(const char *site, const uint8_t *address, size_t len)
{
    static const char local[] = "127.0.0.0/8,::1";
    const char *host = strstr(site, "://") + 3;
    char text[ADDRESS_TEXT];
    struct plt_error ignored;

    const bool is_bracketed = *host == '[';
    host += is_bracketed;
    const size_t n = strcspn(host, is_bracketed ? "]" : ":");
    if (n == 9 && memcmp(host, "localhost", 9) == 0)
        return address_in(local, address, len);
    if (n >= sizeof(text))
        return false;
    memcpy(text, host, n);
    text[n] = '\0';
    return !strpbrk(text, "/,") && address_check(text, &ignored) == PLT_OK &&
           address_in(text, address, len);
}

enum plt_status policy_allow_address(const struct policy *policy,
                                     const char *url, const uint8_t *address,
                                     size_t len, struct plt_error *err)
{
    const char *const kind = address_kind(address, len);
    char site[512], text[ADDRESS_TEXT];
    const char *path;
    bool is_allowed = !kind || policy->is_local;

    if (is_allowed)
        return PLT_OK;
    if (split_url(url, site, sizeof(site), &path)) {
        lock_read(policy);
        for (size_t i = 0; i < policy->origins->n && !is_allowed; i++) {
            const struct origin *const o = &policy->origins->v[i];
            is_allowed =
                is_of(o, site, path) && (address_in(o->blocks, address, len) ||
                                         names_address(site, address, len));
        }
        unlock(policy);
    }
    if (is_allowed)
        return PLT_OK;
    address_text(address, len, text);
    return plt_fail(err, PLT_DENIED,
                    "the origin's name leads to %s, %s that its configuration "
                    "does not allow",
                    text, kind);
}

json_t *policy_origins_json(const struct policy *policy)
{
    json_t *const list = json_array();

    lock_read(policy);
    for (size_t i = 0; list && i < policy->origins->n; i++) {
        const struct origin *const o = &policy->origins->v[i];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "name", o->name, "kind",
                            o->is_remote ? "http" : "local"));
    }
    unlock(policy);
    return list;
}

/* ---- Credentials ---- */

/* Fields that are the driver's own: with another value in them an answer would
 * be of something else. */
static bool is_reserved_field(const char *name, size_t len)
{
    static const char *const names[] = {"Accept-Encoding",
                                        "Connection",
                                        "Content-Length",
                                        "Expect",
                                        "Host",
                                        "If-Match",
                                        "If-None-Match",
                                        "If-Range",
                                        "If-Modified-Since",
                                        "Proxy-Authorization",
                                        "Range",
                                        "TE",
                                        "Trailer",
                                        "Traceparent",
                                        "Transfer-Encoding",
                                        "Upgrade",
                                        "If-Unmodified-Since"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i]) == len && strncasecmp(names[i], name, len) == 0)
            return true;
    }
    return false;
}

/* RFC 9110 5.1, 5.5: "Name: value" of printable characters. */
static bool field_ok(const char *line, size_t len)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const size_t name = strspn(line, token);

    if (!name || name >= len || line[name] != ':' ||
        is_reserved_field(line, name))
        return false;
    for (size_t i = name + 1; i < len; i++) {
        const unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return strspn(line + name + 1, " \t") < len - name - 1;
}

/* All of a file's lines, each with its LF; empty ones and those that begin with
 * '#' are left out.  new in *out. */
static enum plt_status read_fields(const char *file, char **out,
                                   struct plt_error *err)
{
    AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    AUTO_FREE char *text = calloc(1, PLT_MAX_CREDENTIAL + 1);
    struct stat sb;
    size_t n = 0;

    if (!text)
        return plt_fail(err, PLT_NOMEM, "header fields");
    const bool is_file = fd >= 0 && fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode);
    const ssize_t len = is_file ? read(fd, text, PLT_MAX_CREDENTIAL) : -1;
    if (len < 0 || len > PLT_MAX_CREDENTIAL - 2 ||
        strlen(text) != (size_t)len) {
        explicit_bzero(text, PLT_MAX_CREDENTIAL);
        return plt_fail(err, PLT_INVALID,
                        "%s: not a file of header fields of at most %d bytes",
                        file, PLT_MAX_CREDENTIAL - 2);
    }
    *out = calloc(1, (size_t)len + 2);
    for (const char *p = text; *out && *p;) {
        const size_t line = strcspn(p, "\r\n");
        const bool is_field = line && *p != '#';
        if (is_field && !field_ok(p, line)) {
            explicit_bzero(*out, n);
            free(*out);
            *out = NULL;
            explicit_bzero(text, (size_t)len);
            return plt_fail(err, PLT_INVALID,
                            "%s: a line that is no header field, or one that "
                            "is not for others to set",
                            file);
        }
        if (is_field) {
            memcpy(*out + n, p, line);
            n += line;
            (*out)[n++] = '\n';
        }
        p += line + (p[line] != '\0');
    }
    explicit_bzero(text, (size_t)len);
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "header fields");
}

enum plt_status policy_set_credential(struct policy *policy, const char *name,
                                      enum plt_credential kind,
                                      const char *file, struct plt_error *err)
{
    struct origin *o = NULL;
    char *text = NULL;

    for (size_t i = 0; i < policy->origins->n && !o; i++) {
        if (strcmp(policy->origins->v[i].name, name) == 0)
            o = &policy->origins->v[i];
    }
    if (!o || !o->is_remote)
        return plt_fail(err, PLT_INVALID,
                        o ? "origin %.63s is a folder" : "no origin %.63s",
                        name);
    if (kind == PLT_CREDENTIAL_HEADERS) {
        const enum plt_status st = read_fields(file, &text, err);
        if (st != PLT_OK)
            return st;
    } else {
        if (access(file, R_OK) != 0 || strlen(file) >= PLT_MAX_CREDENTIAL)
            return plt_fail(err, PLT_INVALID, "%s: %s", file, strerror(errno));
        text = strdup(file);
    }
    if (!text)
        return plt_fail(err, PLT_NOMEM, "an origin");
    free(o->credentials[kind]);
    o->credentials[kind] = text;
    return PLT_OK;
}

enum plt_status policy_credential(const struct policy *policy, const char *url,
                                  enum plt_credential kind, char *buf,
                                  size_t cap, struct plt_error *err)
{
    enum plt_status st = PLT_NOT_FOUND;
    const struct origin *best = NULL;
    char site[512];
    const char *path;

    if (!split_url(url, site, sizeof(site), &path))
        return plt_fail(err, PLT_NOT_FOUND, "no origin");
    lock_read(policy);
    for (size_t i = 0; i < policy->origins->n; i++) {
        const struct origin *const o = &policy->origins->v[i];
        if (is_of(o, site, path) &&
            (!best || strlen(o->base) > strlen(best->base)))
            best = o;
    }
    const char *const text = best ? best->credentials[kind] : NULL;
    if (text && strlen(text) < cap) {
        memcpy(buf, text, strlen(text) + 1);
        st = PLT_OK;
    }
    unlock(policy);
    return st == PLT_OK ? st : plt_fail(err, st, "nothing to show");
}
