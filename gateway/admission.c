/* SPDX-License-Identifier: Apache-2.0 */
#include "admission.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "util/auto.h"

/* ---- Connections ---- */

/* Written to the socket as it is: libmicrohttpd has not read a request yet, and
 * is not to. */
static const char too_many[] =
    "HTTP/1.1 429 Too Many Requests\r\n"
    "Content-Type: application/problem+json\r\n"
    "Content-Length: 101\r\n"
    "Retry-After: 1\r\n"
    "Connection: close\r\n"
    "\r\n"
    "{\"type\": \"about:blank\", \"title\": \"too many connections\", "
    "\"status\": 429, \"request_id\": \"unread\"     }\n";

bool admission_connect(struct server *s, struct peer *peer, int fd)
{
    const struct config *const c = s->config;
    const unsigned most = c->max_connections_per_client
                              ? c->max_connections_per_client
                              : s->connections_each - s->connections_each / 4;

    peer->is_counted =
        budgets_enter(s->budgets, COUNT_CONNECTIONS, peer->share, most);
    if (peer->is_counted)
        return true;
    budgets_refuse(s->budgets, BUDGET_CONNECTIONS, peer->text, NULL);
    if (!peer->is_tls) /* who speaks TLS could not read it */
        (void)send(fd, too_many, sizeof(too_many) - 1,
                   MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_RDWR);
    return false;
}

void admission_disconnect(struct server *s, const struct peer *peer)
{
    if (peer->is_counted)
        budgets_leave(s->budgets, COUNT_CONNECTIONS, peer->share);
}

/* ---- Requests that wait ---- */

/* Once: what is counted under which number. */
static bool number_image(struct request *r)
{
    const char *const target = r->reference.target;

    if (!target)
        return true; /* about no image */
    AUTO_FREE char *key = reference_key(&r->reference);
    if (!key)
        return false;
    r->image_number = budgets_number(r->server->budgets, key, strlen(key));
    r->origin_number =
        budgets_number(r->server->budgets, target, strcspn(target, "/"));
    return true;
}

enum budget admission_enter(struct request *r)
{
    struct budgets *const l = r->server->budgets;
    const struct config *const c = r->server->config;
    /* Of the threads and their queue, an origin's share. */
    const unsigned of_origin = workers_share(c->workers) * 5;

    if (!number_image(r)) {
        r->err.status = plt_fail(&r->err, PLT_NOMEM, "an image's key");
        return BUDGET_CLIENT_MEMORY;
    }
    if (!budgets_enter(l, COUNT_WAITING, r->share, c->max_waiting_per_client)) {
        r->err.status =
            plt_fail(&r->err, PLT_BUSY, "too many of this client wait");
        return BUDGET_WAITING_PER_CLIENT;
    }
    if (r->image_number &&
        !budgets_enter(l, COUNT_IMAGE, r->image_number, c->max_waiting)) {
        budgets_leave(l, COUNT_WAITING, r->share);
        r->err.status =
            plt_fail(&r->err, PLT_BUSY, "too many wait for this image");
        return BUDGET_WAITING_PER_IMAGE;
    }
    if (r->image_number &&
        !budgets_enter(l, COUNT_ORIGIN, r->origin_number, of_origin)) {
        budgets_leave(l, COUNT_WAITING, r->share);
        budgets_leave(l, COUNT_IMAGE, r->image_number);
        r->err.status =
            plt_fail(&r->err, PLT_BUSY, "too many wait for this origin");
        return BUDGET_WAITING_PER_ORIGIN;
    }
    r->has_place = true;
    return BUDGET_NONE;
}

void admission_leave(struct request *r)
{
    struct budgets *const l = r->server->budgets;

    if (!r->has_place)
        return;
    r->has_place = false;
    budgets_leave(l, COUNT_WAITING, r->share);
    if (r->image_number) {
        budgets_leave(l, COUNT_IMAGE, r->image_number);
        budgets_leave(l, COUNT_ORIGIN, r->origin_number);
    }
}

/* ---- Fields ---- */

struct fields {
    unsigned n_host, n_length, n_coding;
    const char *coding, *host;
    bool is_odd;
};

/* RFC 9110 5.6.2 and 5.5: a name is a token; NUL and CR are in no value. */
static enum MHD_Result take_field(void *cookie, enum MHD_ValueKind kind,
                                  const char *key, size_t key_len,
                                  const char *value, size_t len)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    struct fields *const f = (struct fields *)cookie;

    (void)kind;
    if (!key_len || strspn(key, token) != key_len || !value ||
        memchr(value, '\0', len) || memchr(value, '\r', len)) {
        f->is_odd = true;
    } else if (strcasecmp(key, "Host") == 0) {
        f->n_host++;
        f->host = value;
    } else if (strcasecmp(key, "Content-Length") == 0) {
        f->n_length++;
    } else if (strcasecmp(key, "Transfer-Encoding") == 0) {
        f->n_coding++;
        f->coding = value;
    }
    return MHD_YES;
}

/* RFC 3986 3.2.2 and 3.2.3, without a user: what may stand in a name or a
 * number, and at most one port. */
static bool host_ok(const char *host)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "0123456789-._~%!$&'()*+,;=";
    const bool is_number = *host == '[';
    const char *p = host + is_number;

    p += strspn(p, is_number ? "0123456789abcdefABCDEF:.%" : name);
    if (is_number && *p++ != ']')
        return false;
    if (*p == ':')
        p += 1 + strspn(p + 1, "0123456789");
    return *p == '\0';
}

const char *admission_mistake(struct request *r, const char *version)
{
    struct fields f = {.n_host = 0};

    (void)MHD_get_connection_values_n(r->connection, MHD_HEADER_KIND,
                                      take_field, &f);
    if (f.is_odd)
        return "a header field is malformed";
    if (f.n_host > 1 || (f.host && !host_ok(f.host)))
        return "Host stands twice or is malformed";
    if (f.n_length > 1)
        return "Content-Length stands twice";
    if (f.n_coding && f.n_length)
        return "Content-Length and Transfer-Encoding exclude each other";
    if (f.n_coding && (f.n_coding > 1 || strcasecmp(f.coding, "chunked") != 0 ||
                       strcmp(version, "HTTP/1.0") == 0))
        return "Transfer-Encoding may be chunked, once, in HTTP/1.1";
    return NULL;
}
