/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "request.h"
#include "stack/json_text.h"
#include "util/auto.h"

void audit_init(struct audit *a, const char *folder)
{
    static const char name[] = "/audit.jsonl";
    const size_t size = folder ? strlen(folder) + sizeof(name) : 0;

    lock_init(&a->lock);
    a->path = size ? malloc(size) : NULL;
    if (a->path)
        (void)snprintf(a->path, size, "%s%s", folder, name);
}

void audit_release(struct audit *a)
{
    lock_release(&a->lock);
    free(a->path);
    a->path = NULL;
}

static void complain(const struct audit *a, int e)
{
    struct log_line l;

    log_begin(&l, LOG_ERROR, "audit_failed");
    log_text(&l, "file", a->path);
    log_text(&l, "text", strerror(e));
    log_end(&l);
}

/* A line as a whole or not at all, as far as the disk has room. */
static int append(const struct audit *a, const char *line)
{
    AUTO_FD int fd = open(
        a->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    const size_t len = strlen(line);
    struct stat sb;

    if (fd < 0 || fstat(fd, &sb) != 0)
        return errno;
    const ssize_t n = write(fd, line, len);
    if (n == (ssize_t)len)
        return fdatasync(fd) == 0 ? 0 : errno;
    const int e = n < 0 ? errno : ENOSPC;
    if (n > 0)
        (void)!ftruncate(fd, sb.st_size); /* it was told as not written */
    return e;
}

static void rotate(const struct audit *a)
{
    const size_t size = strlen(a->path) + 3;
    AUTO_FREE char *older = malloc(size);
    struct stat sb;

    if (!older || stat(a->path, &sb) != 0 || sb.st_size < AUDIT_MOST)
        return;
    (void)snprintf(older, size, "%s.1", a->path);
    (void)rename(a->path, older);
}

/* doc is consumed. */
static void keep(struct audit *a, json_t *doc)
{
    AUTO_JSON_TEXT char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    const size_t len = text ? strlen(text) : 0;
    AUTO_FREE char *line = text ? malloc(len + 2) : NULL;
    int e = ENOMEM;

    json_decref(doc);
    if (line) {
        memcpy(line, text, len);
        memcpy(line + len, "\n", 2);
        lock_take(&a->lock);
        rotate(a);
        e = append(a, line);
        lock_give(&a->lock);
    }
    if (e)
        complain(a, e);
}

/* RFC 3339, to the second, in UTC. */
static void format_now(char out[32])
{
    const time_t now = time(NULL);
    struct tm tm;

    (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
}

void audit_change(struct request *r, const char *what)
{
    struct audit *const a = &r->server->audit;
    const char *const who = r->who ? r->who : "";
    char now[32];
    struct log_line l;

    log_begin(&l, LOG_ALWAYS, "audit");
    log_text(&l, "req", r->id);
    log_text(&l, "who", who);
    log_text(&l, "client", r->client);
    log_text(&l, "method", r->method);
    log_text(&l, "path", r->path ? r->path : "");
    log_text(&l, "image", what ? what : "");
    log_text(&l, "result", plt_status_name(r->err.status));
    log_end(&l);
    if (!a->path)
        return;
    format_now(now);
    keep(a,
         json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "time", now,
                   "request_id", r->id, "who", who, "client", r->client,
                   "method", r->method, "path", r->path ? r->path : "", "image",
                   what ? what : "", "result", plt_status_name(r->err.status)));
}

void audit_reload(struct audit *a, bool is_taken)
{
    const char *const result = is_taken ? "OK" : "INVALID";
    char now[32];
    struct log_line l;

    log_begin(&l, LOG_ALWAYS, "audit");
    log_text(&l, "who", "signal");
    log_text(&l, "method", "RELOAD");
    log_text(&l, "result", result);
    log_end(&l);
    if (!a->path)
        return;
    format_now(now);
    keep(a, json_pack("{s:s, s:s, s:s, s:s}", "time", now, "who", "signal",
                      "method", "RELOAD", "result", result));
}
