/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "request.h"
#include "util/auto.h"
#include "util/clock.h"

enum {
    BACKLOG = 1024,
    IDLE_S = 60, /* an idle connection is closed after it */
    MAX_BODY = 64 * 1024,
    CONNECTION_BYTES = 32 * 1024 /* headers of a request fit, or 431 */
};

/* ---- Routes ---- */

static const struct route {
    const char *path; /* with a trailing slash: a reference follows */
    enum request_kind kind;
    const char *layers; /* selector that the path implies */
    enum MHD_Result (*handle)(struct request *);
} routes[] = {
    {"/disk/", KIND_DISK, NULL, handle_disk},
    {"/raw/", KIND_DISK, "", handle_disk},
    {"/v1/info/", KIND_INFO, NULL, handle_image_json},
    {"/v1/members/", KIND_MEMBERS, NULL, handle_image_json},
    {"/v1/extents/", KIND_EXTENTS, NULL, handle_image_json},
    {"/v1/snapshots/", KIND_SNAPSHOTS, NULL, handle_image_json},
    {"/v1/check/", KIND_CHECK, NULL, handle_image_json},
    {"/v1/origins", KIND_NONE, NULL, handle_origins},
    {"/v1/images", KIND_NONE, NULL, handle_images},
    {"/healthz", KIND_NONE, NULL, handle_health},
    {"/readyz", KIND_NONE, NULL, handle_ready},
    {"/metrics", KIND_NONE, NULL, handle_metrics},
    {"/", KIND_NONE, NULL, handle_index},
};

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *const r = &routes[i];
        const size_t n = strlen(r->path);
        if (r->kind != KIND_NONE ? strncmp(path, r->path, n) == 0
                                 : strcmp(path, r->path) == 0)
            return r;
    }
    return NULL;
}

static enum MHD_Result handle_options(struct request *r)
{
    struct MHD_Response *const response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response)
        (void)MHD_add_response_header(response, "Allow", "GET, HEAD, OPTIONS");
    return answer_queue(r, MHD_HTTP_NO_CONTENT, response);
}

/* Which image is meant: once, before the handler. */
static enum plt_status parse_reference(struct request *r,
                                       const struct route *route)
{
    static const char *const of_extents[] = {"start", "length", "context",
                                             "format", NULL};
    enum plt_status st = reference_parse(
        &r->reference, r->path + strlen(route->path), r->query,
        route->kind == KIND_EXTENTS ? of_extents : NULL, &r->err);
    if (st == PLT_OK && route->layers) {
        free(r->reference.layers);
        r->reference.layers = strdup(route->layers);
        if (!r->reference.layers)
            st = plt_fail(&r->err, PLT_NOMEM, "a reference");
    }
    return st;
}

static enum MHD_Result dispatch(struct request *r, bool is_first)
{
    const struct route *const route = find_route(r->path ? r->path : "");

    if (!route)
        return answer_problem(r, MHD_HTTP_NOT_FOUND, "no such resource",
                              "see / for what there is");
    if (strcmp(r->method, "OPTIONS") == 0)
        return handle_options(r);
    if (strcmp(r->method, "GET") != 0 && !r->is_head)
        return answer_problem(r, MHD_HTTP_METHOD_NOT_ALLOWED,
                              "method not allowed", "GET, HEAD, OPTIONS");
    if (is_first && route->kind != KIND_NONE) {
        r->kind = route->kind;
        if (atomic_load(&r->server->is_draining))
            return answer_problem(r, MHD_HTTP_SERVICE_UNAVAILABLE,
                                  "shutting down", "ask another server");
        const enum plt_status st = parse_reference(r, route);
        r->err.status = st;
        if (st != PLT_OK)
            return answer_error(r, &r->err);
    }
    return route->handle(r);
}

/* ---- libmicrohttpd's callbacks ---- */

static void *on_uri(void *cookie, const char *uri,
                    struct MHD_Connection *connection)
{
    (void)connection;
    return request_new((struct server *)cookie, uri);
}

static enum MHD_Result on_request(void *cookie,
                                  struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *upload,
                                  size_t *upload_len, void **state)
{
    struct request *const r = (struct request *)*state;

    (void)cookie;
    (void)url;
    (void)version;
    (void)upload;
    if (!r)
        return MHD_NO;
    if (!r->has_begun) {
        /* The first call is for the headers alone; answering it would close
         * the connection behind the answer. */
        request_begin(r, connection, method);
        return MHD_YES;
    }
    if (*upload_len) {
        /* A body on GET means nothing to us (RFC 9110 9.3.1): it is dropped,
         * but not without end. */
        r->body_len += *upload_len;
        *upload_len = 0;
        return r->body_len > MAX_BODY ? MHD_NO : MHD_YES;
    }
    const bool is_first = !r->has_dispatched;
    r->has_dispatched = true;
    return dispatch(r, is_first);
}

static void on_completed(void *cookie, struct MHD_Connection *connection,
                         void **state, enum MHD_RequestTerminationCode end)
{
    struct request *const r = (struct request *)*state;

    (void)cookie;
    (void)connection;
    if (!r)
        return;
    *state = NULL;
    atomic_store(&r->is_gone, true);
    (void)atomic_fetch_add(&r->server->bytes_sent, atomic_load(&r->sent));
    access_log(r, end);
    request_unref(r);
}

static size_t no_unescape(void *cookie, struct MHD_Connection *connection,
                          char *text)
{
    (void)cookie;
    (void)connection;
    return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void
on_mhd_log(void *cookie, const char *fmt, va_list ap)
{
    char text[512];
    struct log_line l;

    (void)cookie;
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_begin(&l, LOG_DEBUG, "http");
    log_text(&l, "text", text);
    log_end(&l);
}

/* ---- Start and stop ---- */

/* A listening socket for ADDR:PORT or [ADDR]:PORT; -1: printed why. */
static int listen_on(const char *text)
{
    char host[256];
    const char *const colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags =
                                 AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV},
                    *found = NULL;
    const bool is_v6 = text[0] == '[';
    int fd = -1, on = 1;

    if (!colon || (is_v6 && colon[-1] != ']')) {
        (void)fprintf(stderr, "platterd: --listen takes ADDR:PORT: %s\n", text);
        return -1;
    }
    (void)snprintf(host, sizeof(host), "%.*s",
                   (int)(colon - text) - (is_v6 ? 2 : 0),
                   text + (is_v6 ? 1 : 0));
    const int e = getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, &found);
    if (e != 0) {
        (void)fprintf(stderr, "platterd: cannot listen on %s: %s\n", text,
                      gai_strerror(e));
        return -1;
    }
    fd =
        socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
        listen(fd, BACKLOG) != 0) {
        (void)fprintf(stderr, "platterd: cannot listen on %s: %s\n", text,
                      strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static void log_listening(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    char host[64] = "?", port[16] = "?", text[96];
    struct log_line l;
    union {
        struct sockaddr_storage *storage;
        struct sockaddr *plain;
    } u = {.storage = &ss};

    if (getsockname(fd, u.plain, &len) == 0)
        (void)getnameinfo(u.plain, len, host, sizeof(host), port, sizeof(port),
                          NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(text, sizeof(text), strchr(host, ':') ? "[%s]:%s" : "%s:%s",
                   host, port);
    log_begin(&l, LOG_INFO, "listening");
    log_text(&l, "address", text);
    log_end(&l);
}

static struct MHD_Daemon *start_daemon(struct server *s, int fd)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    /* One epoll thread alone was measured to collapse at 256 connections. */
    const unsigned threads = cores > 2 ? (unsigned)cores : 2;

    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_ERROR_LOG | MHD_USE_TURBO,
        0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log,
        NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_uri,
        s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL,
        MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_CONNECTION_LIMIT,
        s->config->max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
}

static bool configure(struct server *s)
{
    const struct config *const c = s->config;
    const struct images_config ic = {.plugin_path = c->plugin_path,
                                     .state_dir = c->state_dir,
                                     .cache_bytes = c->cache_bytes,
                                     .max_open = c->max_open,
                                     .revalidate_ms = c->revalidate_ms};
    struct plt_error err = {.at = PLT_AT_NONE};
    enum plt_status st = images_new(&ic, &s->images, &err);

    for (size_t i = 0; i < c->n_origins && st == PLT_OK; i++)
        st = images_add_origin(s->images, c->origins[i].name,
                               c->origins[i].value, &err);
    for (size_t i = 0; i < c->n_secrets && st == PLT_OK; i++)
        st = images_add_secret(s->images, c->secrets[i].name,
                               c->secrets[i].value, &err);
    for (size_t i = 0; i < c->n_images && st == PLT_OK; i++)
        st = images_add_image(s->images, c->images[i].name, c->images[i].value,
                              c->images[i].selectors, &err);
    if (st != PLT_OK)
        (void)fprintf(stderr, "platterd: %s\n", err.text);
    return st == PLT_OK;
}

struct server *server_new(const struct config *config)
{
    struct server *const s = calloc(1, sizeof(*s));
    bool is_good;

    if (!s)
        return NULL;
    s->config = config;
    if (RAND_bytes((unsigned char *)&s->id_seed, sizeof(s->id_seed)) != 1)
        s->id_seed = clock_now();
    is_good = configure(s);
    if (is_good) {
        s->workers = workers_new(config->workers, config->workers * 4);
        is_good = s->workers != NULL;
    }
    for (size_t i = 0; i < config->n_listen && is_good; i++) {
        const int fd = listen_on(config->listen[i]);
        struct MHD_Daemon *const d = fd >= 0 ? start_daemon(s, fd) : NULL;
        if (d) {
            s->daemons[s->n_daemons++] = d;
            log_listening(fd);
        } else {
            if (fd >= 0) {
                (void)fprintf(stderr,
                              "platterd: the HTTP server did not "
                              "start on %s\n",
                              config->listen[i]);
                (void)close(fd);
            }
            is_good = false;
        }
    }
    if (!is_good) {
        server_free(s);
        return NULL;
    }
    return s;
}

static void wait_idle(struct server *s, uint64_t until)
{
    while (atomic_load(&s->n_active) && clock_now() < until) {
        const struct timespec step = {0, 10000000};
        (void)nanosleep(&step, NULL);
    }
}

void server_free(struct server *s)
{
    if (!s)
        return;
    atomic_store(&s->is_draining, true);
    for (size_t i = 0; i < s->n_daemons; i++) {
        const int fd = MHD_quiesce_daemon(s->daemons[i]);
        if (fd >= 0)
            (void)close(fd);
    }
    wait_idle(s, clock_after_ms((uint64_t)s->config->drain_s * 1000));
    /* Who still runs is told to give up; jobs end within a poll, and resume
     * their connections: none may sleep when libmicrohttpd stops. */
    atomic_store(&s->is_cancelled, true);
    if (s->workers)
        workers_stop(s->workers);
    for (size_t i = 0; i < s->n_daemons; i++)
        MHD_stop_daemon(s->daemons[i]);
    workers_free(s->workers); /* the event threads could still submit */
    images_free(s->images);
    free(s);
}
