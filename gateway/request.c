/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include "admission.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "stack/json_memory.h"
#include "stack/json_text.h"
#include "util/check.h"
#include "util/clock.h"

/* How often a waiting worker looks whether the client is still there. */
enum { PEEK_MS = 250 };

struct request *request_new(struct server *server, const char *raw_uri)
{
    struct request *const r = calloc(1, sizeof(*r));
    const char *path = raw_uri;

    if (!r)
        return NULL;
    atomic_init(&r->refs, 1);
    r->server = server;
    r->over = BUDGET_NONE;
    r->start_ns = clock_now();
    r->fd = -1;
    const uint64_t n = atomic_fetch_add(&server->n_requests, 1);
    /* Unique in the process, and unlike between processes. */
    const uint64_t id = (n + server->id_seed) * UINT64_C(0x9e3779b97f4a7c15);
    (void)snprintf(r->id, sizeof(r->id), "%016llx", (unsigned long long)id);
    /* RFC 9112 3.2.2: the absolute form is for proxies, and must be taken. What
     * is behind its '?' is no path, were there a slash in it. */
    const bool is_absolute =
        strncmp(path, "http://", 7) == 0 || strncmp(path, "https://", 8) == 0;
    if (is_absolute) {
        path = strstr(path, "://") + 3;
        path += strcspn(path, "/?");
    }
    const size_t len = strcspn(path, "?");
    r->path = is_absolute && !len ? strdup("/") : strndup(path, len);
    r->query = path[len] ? strdup(path + len + 1) : NULL;
    /* Without its selectors it would be another image. */
    r->has_no_memory = !r->path || (path[len] && !r->query);
    /* Before anything is logged of it. */
    signature_take(r->path, r->query, &r->signature);
    (void)atomic_fetch_add(&server->n_active, 1);
    return r;
}

void request_ref(struct request *r)
{
    (void)atomic_fetch_add(&r->refs, 1);
}

/* Fields that are looked at, each once for a request. */
#define FIELD(name, member)                                                    \
    {                                                                          \
        name, sizeof(name) - 1, offsetof(struct request, member)               \
    }
static const struct field {
    const char *name;
    size_t len, slot;
} fields[] = {FIELD("Range", range),
              FIELD("If-Match", if_match),
              FIELD("If-None-Match", if_none_match),
              FIELD("If-Modified-Since", if_modified_since),
              FIELD("If-Unmodified-Since", if_unmodified_since),
              FIELD("If-Range", if_range),
              FIELD("Want-Content-Digest", want_content_digest),
              FIELD("Want-Repr-Digest", want_repr_digest),
              FIELD("Origin", origin),
              FIELD("Content-Type", content_type),
              FIELD("Accept", accept),
              FIELD("Authorization", authorization)};
enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

static char **slot_of(struct request *r, const struct field *f)
{
    return (char **)(void *)((char *)r + f->slot);
}

void request_unref(struct request *r)
{
    if (atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    if (r->has_entered)
        image_leave(r->image);
    request_let_go(r);
    json_text_free(r->text);
    if (r->content)
        r->content->release(r->content);
    image_unref(r->image);
    reference_release(&r->reference);
    free(r->list);
    free(r->told);
    free(r->folder);
    free(r->prefix);
    free(r->own.v);
    while (r->n_others)
        reference_release(&r->others[--r->n_others]);
    json_decref(r->choices);
    json_decref(r->json);
    free(r->piece);
    loan_free(r->loan);
    free(r->multi);
    free(r->body);
    free(r->link);
    free(r->path);
    free(r->query);
    if (r->authorization)
        OPENSSL_cleanse(r->authorization, strlen(r->authorization));
    for (size_t i = 0; i < FIELDS; i++)
        free(*slot_of(r, &fields[i]));
    (void)atomic_fetch_sub(&r->server->n_active, 1);
    free(r);
}

/* Several fields of one name are joined as RFC 9110 5.3 says. */
static void join(struct request *r, char **slot, const char *value, size_t len)
{
    const size_t old = *slot ? strlen(*slot) : 0, gap = *slot ? 2 : 0;
    char *const grown = realloc(*slot, old + gap + len + 1);

    if (!grown) {
        /* Without its condition or range it would be another request. */
        r->has_no_memory = true;
        return;
    }
    memcpy(grown + old, ", ", gap);
    memcpy(grown + old + gap, value, len);
    grown[old + gap + len] = '\0';
    *slot = grown;
}

static enum MHD_Result take_field(void *cookie, enum MHD_ValueKind kind,
                                  const char *key, size_t key_len,
                                  const char *value, size_t len)
{
    struct request *const r = (struct request *)cookie;

    (void)kind;
    for (size_t i = 0; value && i < FIELDS; i++) {
        if (fields[i].len == key_len &&
            strncasecmp(key, fields[i].name, key_len) == 0)
            join(r, slot_of(r, &fields[i]), value, len);
    }
    return MHD_YES;
}

/* The client's own id, where it is one that may stand in a log line. */
const char *request_boundary(struct request *r)
{
    uint64_t v = 0;

    if (r->boundary[0])
        return r->boundary;
    /* Eight bytes come whole or not at all, and never fail once the kernel has
     * started up (getrandom(2)). */
    ASSERT(getrandom(&v, sizeof(v), 0) == sizeof(v));
    (void)snprintf(r->boundary, sizeof(r->boundary), "%016llx",
                   (unsigned long long)v);
    return r->boundary;
}

static void take_id(struct request *r)
{
    const char *const id = MHD_lookup_connection_value(
        r->connection, MHD_HEADER_KIND, "X-Request-Id");
    const size_t len = id ? strlen(id) : 0;

    if (len && len < sizeof(r->id) &&
        strspn(id, "0123456789abcdefghijklmnopqrstuvwxyz"
                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ-._") == len)
        memcpy(r->id, id, len + 1);
}

/* W3C Trace Context 2.2: "00-TRACE-PARENT-FLAGS" in lower-case hexadecimal.
 * Origins hear the trace, with this request as the parent. */
static void take_trace(struct request *r)
{
    static const char hex[] = "0123456789abcdef";
    const char *const t = MHD_lookup_connection_value(
        r->connection, MHD_HEADER_KIND, "Traceparent");

    if (!t || strlen(t) != 55 || strncmp(t, "00-", 3) != 0 ||
        strspn(t + 3, hex) != 32 || t[35] != '-' || strspn(t + 36, hex) != 16 ||
        t[52] != '-' || strspn(t + 53, hex) != 2 || strspn(t + 3, "0") == 32 ||
        strspn(t + 36, "0") == 16)
        return;
    (void)snprintf(r->traceparent, sizeof(r->traceparent), "%.36s%.16s%.3s", t,
                   request_boundary(r), t + 52);
}

/* FNV-1a of an address, with a seed of this process: readers are told apart by
 * it, whatever connection they come on. */
static uint64_t number_of(const struct server *s, const void *data, size_t len)
{
    const uint8_t *const p = (const uint8_t *)data;
    uint64_t h = s->id_seed ^ UINT64_C(14695981039346656037);

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(1099511628211);
    return h ^ h >> 29;
}

void request_begin(struct request *r, struct MHD_Connection *connection,
                   const char *method)
{
    r->has_begun = true;
    r->json_lost = json_memory_lost();
    r->connection = connection;
    (void)snprintf(r->method, sizeof(r->method), "%s", method);
    r->is_head = strcmp(method, "HEAD") == 0;
    (void)MHD_get_connection_values_n(connection, MHD_HEADER_KIND, take_field,
                                      r);
    if (r->is_head) { /* RFC 9110 14.2: of GET alone */
        free(r->range);
        r->range = NULL;
    }
    r->wants_events =
        !r->is_head && r->accept && strstr(r->accept, "text/event-stream");
    take_id(r);
    take_trace(r);
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    r->fd = i ? i->connect_fd : -1;
    i = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct peer *const peer = i ? i->socket_context : NULL;
    if (peer) {
        r->peer = peer;
        r->is_unix = peer->is_unix;
        r->is_tls = peer->is_tls;
        r->share = peer->share;
        memcpy(r->client, peer->text, sizeof(r->client));
        r->client_number = peer->number;
        r->is_loopback = peer->is_loopback;
    } else {
        r->has_no_memory = true;
    }
}

/* Who connects by a unix socket: the kernel says it (unix(7)). */
static void name_unix(const struct server *s, struct MHD_Connection *connection,
                      struct peer *p)
{
    const union MHD_ConnectionInfo *const i =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred who = {.pid = 0};
    socklen_t len = sizeof(who);

    if (i)
        (void)getsockopt(i->connect_fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
    (void)snprintf(p->text, sizeof(p->text), "unix:uid=%lu:pid=%ld",
                   (unsigned long)who.uid, (long)who.pid);
    p->number = number_of(s, &who, sizeof(who));
    p->share = budgets_number(s->budgets, &who.uid, sizeof(who.uid));
    p->is_loopback = p->is_unix = true;
}

struct peer *peer_new(const struct server *s, struct MHD_Connection *connection)
{
    struct peer *const p = calloc(1, sizeof(*p));
    const union MHD_ConnectionInfo *const i =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *const sa = i ? i->client_addr : NULL;
    char text[INET6_ADDRSTRLEN] = "?";
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;

    if (p && sa && sa->sa_family == AF_INET) {
        memcpy(&a.v4, sa, sizeof(a.v4));
        (void)inet_ntop(AF_INET, &a.v4.sin_addr, text, sizeof(text));
        (void)snprintf(p->text, sizeof(p->text), "%s:%u", text,
                       ntohs(a.v4.sin_port));
        p->number = number_of(s, &a.v4.sin_addr, sizeof(a.v4.sin_addr));
        p->share = budgets_number(s->budgets, &a.v4.sin_addr, 4);
        p->is_loopback = ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    } else if (p && sa && sa->sa_family == AF_INET6) {
        memcpy(&a.v6, sa, sizeof(a.v6));
        (void)inet_ntop(AF_INET6, &a.v6.sin6_addr, text, sizeof(text));
        (void)snprintf(p->text, sizeof(p->text), "[%s]:%u", text,
                       ntohs(a.v6.sin6_port));
        const uint8_t *const bytes = a.v6.sin6_addr.s6_addr;
        p->number = number_of(s, bytes, sizeof(a.v6.sin6_addr));
        /* Who has a network has all of its 2^64 addresses. */
        p->share = IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr)
                       ? budgets_number(s->budgets, bytes + 12, 4)
                       : budgets_number(s->budgets, bytes, 8);
        p->is_loopback =
            IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr) ||
            (IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr) && bytes[12] == 127);
    } else if (p && sa && sa->sa_family == AF_UNIX) {
        name_unix(s, connection, p);
    }
    if (p) {
        const union MHD_ConnectionInfo *const t = MHD_get_connection_info(
            connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        p->is_tls = p->watched.is_tls = t && t->tls_session;
    }
    return p;
}

void peer_free(struct peer *p)
{
    if (p)
        free(p->names);
    free(p);
}

/* ---- Circumstances ---- */

/* Who leaves a connection with TLS says so in bytes that nobody takes now. */
static bool has_hung_up(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 1 && p.revents;
}

static bool is_cancelled(const struct plt_io *io)
{
    struct request *const r = ((const struct request_io *)io)->request;
    char byte;

    if (atomic_load(&r->is_gone) || atomic_load(&r->server->is_cancelled))
        return true;
    /* Nobody else watches a suspended connection's socket. */
    const uint64_t now = clock_now();
    if (!atomic_load(&r->is_suspended) ||
        now - atomic_load(&r->peeked_ns) < PEEK_MS * NS_PER_MS)
        return false;
    atomic_store(&r->peeked_ns, now);
    if (recv(r->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0 &&
        !(r->is_tls && has_hung_up(r->fd)))
        return false;
    atomic_store(&r->is_gone, true);
    return true;
}

static void charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    struct request *const r = ((struct request_io *)io)->request;
    (void)atomic_fetch_add(&r->origin_bytes, bytes);
    (void)atomic_fetch_add(&r->origin_requests, requests);
    (void)atomic_fetch_add(&r->server->origin_bytes, bytes);
    (void)atomic_fetch_add(&r->server->origin_requests, requests);
}

void request_io_init(struct request_io *io, struct request *request,
                     uint32_t flags)
{
    *io = (struct request_io){
        .io = {.struct_size = (uint32_t)sizeof(io->io),
               .flags = flags,
               .deadline_ns = clock_after_ms(
                   (uint64_t)request->server->config->deadline_s * 1000),
               .cancelled = is_cancelled,
               .charge = charge,
               .traceparent =
                   request->traceparent[0] ? request->traceparent : NULL},
        .request = request};
}

bool request_hold(struct request *r, size_t bytes)
{
    if (!budgets_memory_take(r->server->budgets, r->share, bytes))
        return false;
    r->held += bytes;
    return true;
}

void request_let_go(struct request *r)
{
    if (r->held)
        budgets_memory_give(r->server->budgets, r->share, r->held);
    r->held = 0;
}

bool request_work(struct request *r, workers_fn *fn, void *cookie, bool is_owed)
{
    const struct workers_owner owner = {
        .client = r->share, .origin = r->origin_number, .is_owed = is_owed};
    return workers_submit_for(r->server->workers, &owner, fn, cookie);
}

void request_submit(struct request *r, workers_fn *fn)
{
    request_ref(r);
    atomic_store(&r->is_suspended, true);
    MHD_suspend_connection(r->connection);
    r->over = admission_enter(r);
    if (r->over == BUDGET_NONE) {
        if (request_work(r, fn, r, false))
            return;
        r->over = BUDGET_WORKERS;
        r->err.status = plt_fail(&r->err, PLT_BUSY, "no worker is free");
    }
    request_resume(r);
}

void request_resume(struct request *r)
{
    admission_leave(r);
    r->is_ready = true;
    atomic_store(&r->is_suspended, false);
    MHD_resume_connection(r->connection);
    request_unref(r);
}
