/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

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
    r->start_ns = clock_now();
    r->fd = -1;
    const uint64_t n = atomic_fetch_add(&server->n_requests, 1);
    /* Unique in the process, and unlike between processes. */
    const uint64_t id = (n + server->id_seed) * UINT64_C(0x9e3779b97f4a7c15);
    (void)snprintf(r->id, sizeof(r->id), "%016llx", (unsigned long long)id);
    /* RFC 9112 3.2.2: the absolute form is for proxies, and must be taken. */
    if (strncmp(path, "http://", 7) == 0 || strncmp(path, "https://", 8) == 0) {
        path = strchr(strstr(path, "://") + 3, '/');
        path = path ? path : "/";
    }
    const size_t len = strcspn(path, "?");
    r->path = strndup(path, len);
    r->query = path[len] ? strdup(path + len + 1) : NULL;
    (void)atomic_fetch_add(&server->n_active, 1);
    return r;
}

void request_ref(struct request *r)
{
    (void)atomic_fetch_add(&r->refs, 1);
}

void request_unref(struct request *r)
{
    if (atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    if (r->has_entered)
        image_leave(r->image);
    image_unref(r->image);
    reference_release(&r->reference);
    json_decref(r->choices);
    json_decref(r->json);
    free(r->piece);
    free(r->multi);
    free(r->body);
    free(r->link);
    free(r->path);
    free(r->query);
    free(r->range);
    free(r->if_match);
    free(r->if_none_match);
    free(r->if_modified_since);
    free(r->if_unmodified_since);
    free(r->if_range);
    free(r->want_content_digest);
    free(r->want_repr_digest);
    free(r->origin);
    free(r->content_type);
    (void)atomic_fetch_sub(&r->server->n_active, 1);
    free(r);
}

struct header_copy {
    const char *name;
    char *value; /* several fields of one name, joined as RFC 9110 5.3 says */
    bool has_no_memory;
};

static enum MHD_Result join_header(void *cookie, enum MHD_ValueKind kind,
                                   const char *key, const char *value)
{
    struct header_copy *const h = (struct header_copy *)cookie;

    (void)kind;
    if (strcasecmp(key, h->name) != 0 || !value)
        return MHD_YES;
    const size_t old = h->value ? strlen(h->value) : 0;
    const size_t size = old + strlen(value) + 3;
    char *const grown = malloc(size);
    if (grown) {
        (void)snprintf(grown, size, "%s%s%s", h->value ? h->value : "",
                       h->value ? ", " : "", value);
        free(h->value);
        h->value = grown;
    } else {
        h->has_no_memory = true;
    }
    return MHD_YES;
}

char *request_header(struct request *r, const char *name)
{
    struct header_copy h = {.name = name};

    (void)MHD_get_connection_values(r->connection, MHD_HEADER_KIND, join_header,
                                    &h);
    /* Without its condition or range it would be another request. */
    r->has_no_memory = r->has_no_memory || h.has_no_memory;
    return h.value;
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
    r->connection = connection;
    (void)snprintf(r->method, sizeof(r->method), "%s", method);
    r->is_head = strcmp(method, "HEAD") == 0;
    r->range = r->is_head ? NULL : request_header(r, "Range");
    r->if_match = request_header(r, "If-Match");
    r->if_none_match = request_header(r, "If-None-Match");
    r->if_modified_since = request_header(r, "If-Modified-Since");
    r->if_unmodified_since = request_header(r, "If-Unmodified-Since");
    r->if_range = request_header(r, "If-Range");
    r->want_content_digest = request_header(r, "Want-Content-Digest");
    r->want_repr_digest = request_header(r, "Want-Repr-Digest");
    r->origin = request_header(r, "Origin");
    r->content_type = request_header(r, "Content-Type");
    char *const accept = request_header(r, "Accept");
    r->wants_events =
        !r->is_head && accept && strstr(accept, "text/event-stream");
    free(accept);
    take_id(r);
    take_trace(r);
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    r->fd = i ? i->connect_fd : -1;
    i = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *const sa = i ? i->client_addr : NULL;
    char text[INET6_ADDRSTRLEN] = "?";
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;
    if (sa && sa->sa_family == AF_INET) {
        memcpy(&a.v4, sa, sizeof(a.v4));
        (void)inet_ntop(AF_INET, &a.v4.sin_addr, text, sizeof(text));
        (void)snprintf(r->client, sizeof(r->client), "%s:%u", text,
                       ntohs(a.v4.sin_port));
        r->client_number =
            number_of(r->server, &a.v4.sin_addr, sizeof(a.v4.sin_addr));
        r->is_loopback = ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    } else if (sa && sa->sa_family == AF_INET6) {
        memcpy(&a.v6, sa, sizeof(a.v6));
        (void)inet_ntop(AF_INET6, &a.v6.sin6_addr, text, sizeof(text));
        (void)snprintf(r->client, sizeof(r->client), "[%s]:%u", text,
                       ntohs(a.v6.sin6_port));
        r->client_number =
            number_of(r->server, &a.v6.sin6_addr, sizeof(a.v6.sin6_addr));
        r->is_loopback = IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
    }
}

/* ---- Circumstances ---- */

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
    if (recv(r->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
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

void request_submit(struct request *r, workers_fn *fn)
{
    request_ref(r);
    atomic_store(&r->is_suspended, true);
    MHD_suspend_connection(r->connection);
    if (workers_submit(r->server->workers, fn, r))
        return;
    r->err.status = plt_fail(&r->err, PLT_BUSY, "no worker is free");
    request_resume(r);
}

void request_resume(struct request *r)
{
    r->is_ready = true;
    atomic_store(&r->is_suspended, false);
    MHD_resume_connection(r->connection);
    request_unref(r);
}
