/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "admission.h"
#include "admit.h"
#include "descriptors.h"
#include "edges.h"
#include "listen.h"
#include "mirror/mirror.h"
#include "route.h"
#include "sandbox.h"
#include "stack/json_memory.h"
#include "tls.h"
#include "util/auto.h"
#include "util/clock.h"

enum {
    /* With more connections than this the kernel keeps so much of an answer
     * that it cannot send yet.  Else it is some MB for each client that does
     * not read; but a single one is three times as fast with them. */
    MANY_CONNECTIONS = 64,
    UNSENT_BYTES = 128 * 1024,
    CONNECTION_BYTES = 32 * 1024 /* headers of a request fit, or 431 */
};

/* ---- libmicrohttpd's callbacks ---- */

static void *on_uri(void *cookie, const char *uri,
                    struct MHD_Connection *connection)
{
    (void)connection;
    return request_new((struct server *)cookie, uri);
}

/* A boot trace is longer than what others send; who may not send one is not
 * listened to so far. */
static size_t max_body(const struct request *r)
{
    return r->route && r->route->kind == KIND_TRACE && r->verdict == ACCESS_OK
               ? MAX_TRACE_BODY
               : MAX_BODY;
}

/* The body of a POST is kept, any other means nothing to us (RFC 9110 9.3.1)
 * and is dropped; neither without end. */
static enum MHD_Result take_body(struct request *r, const char *data,
                                 size_t len)
{
    const bool is_kept =
        strcmp(r->method, "POST") == 0 && r->verdict == ACCESS_OK;
    const size_t most = max_body(r);

    r->body_len += len;
    if (r->body_len > MAX_DRAIN)
        return MHD_NO;
    if (!is_kept || r->body_len > most || r->over != BUDGET_NONE)
        return MHD_YES;
    if (!r->body && request_hold(r, most + 1))
        r->body = calloc(1, most + 1);
    if (!r->body) {
        r->over = BUDGET_CLIENT_MEMORY;
        return MHD_YES; /* dropped; answered when it is all there */
    }
    memcpy(r->body + (r->body_len - len), data, len);
    return MHD_YES;
}

/* What the client says it will send is more than will be read: said before it
 * has sent it. */
static bool is_too_large(struct request *r)
{
    const char *const text = MHD_lookup_connection_value(
        r->connection, MHD_HEADER_KIND, "Content-Length");
    return text && strtoull(text, NULL, 10) > max_body(r);
}

/* Where this request ends another server may see elsewhere: nothing behind it
 * on this connection is read (an answer before the body closes it). */
static enum MHD_Result answer_mistake(struct request *r, const char *mistake)
{
    r->is_last = true;
    return answer_problem(r, MHD_HTTP_BAD_REQUEST, "bad request", mistake);
}

static enum MHD_Result answer_too_large(struct request *r)
{
    char detail[64];

    budgets_refuse(r->server->budgets, BUDGET_BODY, r->client, r->id);
    (void)snprintf(detail, sizeof(detail),
                   "a request's body may have %zu bytes", max_body(r));
    return answer_problem(r, MHD_HTTP_CONTENT_TOO_LARGE, "content too large",
                          detail);
}

/* No memory for a request at all. */
static enum MHD_Result answer_nobody(struct MHD_Connection *connection)
{
    struct MHD_Response *const response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, "Retry-After", "1");
    const enum MHD_Result result =
        MHD_queue_response(connection, MHD_HTTP_SERVICE_UNAVAILABLE, response);
    MHD_destroy_response(response);
    return result;
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
    if (!r)
        return answer_nobody(connection);
    if (!r->has_begun) {
        /* The first call is for the headers alone; answering it would close
         * the connection behind the answer. */
        request_begin(r, connection, method);
        if (r->peer && !r->peer->is_counted)
            return MHD_NO; /* it has been told */
        r->route = route_find(r->path ? r->path : "");
        const char *const mistake = admission_mistake(r, version);
        if (mistake)
            return answer_mistake(r, mistake);
        if (r->route && strcmp(method, "POST") == 0)
            route_look(r);
        return is_too_large(r) ? answer_too_large(r) : MHD_YES;
    }
    if (*upload_len) {
        const size_t len = *upload_len;
        *upload_len = 0;
        return take_body(r, upload, len);
    }
    if (r->body_len > max_body(r))
        return answer_too_large(r);
    if (r->over == BUDGET_CLIENT_MEMORY && !r->has_dispatched) {
        r->err.status = plt_fail(&r->err, PLT_NOMEM, "for a request's body");
        return answer_error(r, &r->err);
    }
    if (r->peer)
        watch_phase(&r->peer->watched, WATCH_WORKING);
    const bool is_first = !r->has_dispatched;
    r->has_dispatched = true;
    return route_dispatch(r, is_first);
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
    if (r->is_untimed)
        (void)MHD_set_connection_option(connection,
                                        MHD_CONNECTION_OPTION_TIMEOUT,
                                        r->server->config->client_timeout_s);
    if (r->peer)
        watch_phase(&r->peer->watched, WATCH_RECEIVING);
    if (end == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED)
        budgets_refuse(r->server->budgets, BUDGET_CLIENT_TIMEOUT, r->client,
                       r->id);
    const bool has_left = atomic_exchange(&r->is_gone, true) ||
                          end == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED ||
                          end == MHD_REQUEST_TERMINATED_READ_ERROR ||
                          end == MHD_REQUEST_TERMINATED_CLIENT_ABORT;
    (void)atomic_fetch_add(&r->server->bytes_sent, atomic_load(&r->sent));
    access_log(r, end);
    errors_ended(r->server->errors, r, has_left);
    request_unref(r);
}

static void on_connection(void *cookie, struct MHD_Connection *connection,
                          void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    static const int unsent = UNSENT_BYTES;
    struct server *const s = (struct server *)cookie;
    struct peer *peer = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *const i = MHD_get_connection_info(
            connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = peer = peer_new(s, connection);
        if (!peer)
            return;
        peer->watched.fd = i->connect_fd;
        peer->watched.client = peer->text;
        (void)admission_connect(s, peer, i->connect_fd);
        if (watch_add(s->watch, &peer->watched) > MANY_CONNECTIONS)
            (void)setsockopt(i->connect_fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                             &unsent, sizeof(unsent));
    } else if (peer) {
        watch_remove(s->watch, &peer->watched);
        admission_disconnect(s, peer);
        peer_free(peer);
        *context = NULL;
    }
}

static size_t no_unescape(void *cookie, struct MHD_Connection *connection,
                          char *text)
{
    (void)cookie;
    (void)connection;
    return strlen(text);
}

/* libmicrohttpd answers by itself what it cannot read, and tells only here. */
static void count_unread(struct server *s, const char *text)
{
    const char *const at = strstr(text, "HTTP response code is ");
    const unsigned long status =
        at ? strtoul(at + strlen("HTTP response code is "), NULL, 10) : 0;

    if (status == MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE)
        budgets_refuse(s->budgets, BUDGET_HEADER, NULL, NULL);
    else if (status == MHD_HTTP_URI_TOO_LONG)
        budgets_refuse(s->budgets, BUDGET_URL, NULL, NULL);
}

/* A message may quote a URL, and who reads logs may not use it. */
static void hide_signatures(char *text)
{
    static const char name[] = "signature=",
                      digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789-_";

    for (char *p = text; (p = strstr(p, name));) {
        p += sizeof(name) - 1;
        memset(p, '*', strspn(p, digits));
    }
}

__attribute__((format(printf, 2, 0))) static void
on_mhd_log(void *cookie, const char *fmt, va_list ap)
{
    char text[512];
    struct log_line l;

    (void)vsnprintf(text, sizeof(text), fmt, ap);
    count_unread((struct server *)cookie, text);
    text[strcspn(text, "\n")] = '\0';
    hide_signatures(text);
    log_begin(&l, LOG_DEBUG, "http");
    log_text(&l, "text", text);
    log_end(&l);
}

/* ---- Start and stop ---- */

static void log_listening(int fd, bool is_tls)
{
    char text[256];
    struct log_line l;

    listen_name(fd, text, sizeof(text));
    log_begin(&l, LOG_INFO, "listening");
    log_text(&l, "address", text);
    if (is_tls)
        log_text(&l, "tls", "yes");
    log_end(&l);
}

/* What a listener with TLS has besides. */
static struct MHD_OptionItem no_items[] = {{MHD_OPTION_END, 0, NULL}};

static void fill_tls(struct MHD_OptionItem items[4])
{
    union {
        int (*call)(gnutls_session_t, const gnutls_datum_t *, int,
                    const gnutls_pk_algorithm_t *, int, gnutls_pcert_st **,
                    unsigned *, gnutls_privkey_t *);
        const char *text;
        void *pointer;
    } u = {.call = tls_certificate};
    size_t n = 0;

    items[n++] =
        (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, u.pointer};
    u.text = TLS_PRIORITIES;
    items[n++] =
        (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, u.pointer};
    u.text = tls_authorities();
    if (u.text)
        items[n++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, u.pointer};
    items[n] = no_items[0];
}

static struct MHD_Daemon *start_daemon(struct server *s, int fd, bool is_tls)
{
    struct MHD_OptionItem tls[4];
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    /* One epoll thread alone was measured to collapse at 256 connections. */
    const unsigned threads = cores > 2 ? (unsigned)cores : 2;

    fill_tls(tls);
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_ERROR_LOG | MHD_USE_TURBO |
            (is_tls ? (unsigned)MHD_USE_TLS : 0),
        0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, s,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL,
        MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_CONNECTION_LIMIT,
        s->connections_each, MHD_OPTION_CONNECTION_TIMEOUT,
        s->config->client_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_ARRAY, is_tls ? tls : no_items, MHD_OPTION_END);
}

/* The names of a configuration into a set of images. */
static enum plt_status add_names(struct images *images, const struct config *c,
                                 struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < c->origins.n && st == PLT_OK; i++)
        st = images_add_origin(images, c->origins.v[i].name,
                               c->origins.v[i].value, err);
    for (size_t i = 0; i < c->addresses.n && st == PLT_OK; i++)
        st = images_allow_addresses(images, c->addresses.v[i].name,
                                    c->addresses.v[i].value, err);
    for (unsigned k = 0; k < CONFIG_CREDENTIALS; k++) {
        const struct config_list *const list = &c->credentials[k];
        for (size_t i = 0; i < list->n && st == PLT_OK; i++)
            st = images_set_credential(images, list->v[i].name,
                                       (enum plt_credential)k, list->v[i].value,
                                       err);
    }
    for (size_t i = 0; i < c->secrets.n && st == PLT_OK; i++)
        st = images_add_secret(images, c->secrets.v[i].name,
                               c->secrets.v[i].value, err);
    for (size_t i = 0; i < c->images.n && st == PLT_OK; i++)
        st = images_add_image(images, c->images.v[i].name, c->images.v[i].value,
                              c->images.v[i].selectors, c->images.v[i].labels,
                              err);
    return st;
}

/* Those of the configuration: what is not so, and cannot be made so, is told
 * and stays. */
static void want_mirrors(struct mirrors *mirrors, const struct config *c)
{
    for (size_t i = 0; i < c->mirrored.n; i++) {
        const char *const text = c->mirrored.v[i].labels;
        json_t *const entry = json_memory_parse(text, strlen(text), 0, NULL);
        struct plt_error err = {.text = "out of memory"};
        if (!entry || mirrors_want(mirrors, entry, &err) != PLT_OK) {
            struct log_line l;
            log_begin(&l, LOG_ERROR, "mirror_not_as_configured");
            log_text(&l, "mirror", c->mirrored.v[i].name);
            log_text(&l, "text", err.text);
            log_end(&l);
        }
        json_decref(entry);
    }
}

static enum plt_status start_mirrors(struct server *s, const struct config *c,
                                     struct plt_error *err)
{
    struct mirrors_config mc = config_mirrors_given(c);

    mc.images = s->images;
    const enum plt_status st = mirrors_new(&mc, &s->mirrors, err);
    if (st == PLT_OK)
        want_mirrors(s->mirrors, c);
    return st;
}

static struct manifest_file *mirror_of_image(void *cookie, struct image *image)
{
    return mirrors_manifest((struct mirrors *)cookie, image);
}

static char *mirror_of_root(void *cookie, const manifest_digest root,
                            uint64_t n)
{
    return mirrors_by_root((struct mirrors *)cookie, root, n);
}

static bool configure(struct server *s, const struct config *c)
{
    const struct images_config ic = {.plugin_path = c->plugin_path,
                                     .state_dir = c->state_dir,
                                     .cache_bytes = c->cache_bytes,
                                     .disk_cache_bytes = c->disk_cache_bytes,
                                     .readahead_bytes = c->readahead_bytes,
                                     .max_open = c->max_open,
                                     .revalidate_ms = c->revalidate_ms,
                                     .no_sidecars = !c->sidecars,
                                     .is_always_revalidated =
                                         c->has_revalidate};
    struct plt_error err = {.at = PLT_AT_NONE};
    enum plt_status st = images_new(&ic, &s->images, &err);

    if (st == PLT_OK)
        st = add_names(s->images, c, &err);
    if (st == PLT_OK)
        st = images_load_registered(s->images, &err);
    if (st == PLT_OK)
        st = start_mirrors(s, c, &err);
    /* Four reads of a MiB share the line, and nobody waits for each. */
    const struct manifests_config mc = {.images = s->images,
                                        .state_dir = c->state_dir,
                                        .wait_ms =
                                            (uint64_t)c->deadline_s * 4000};
    if (st == PLT_OK)
        st = manifests_new(&mc, &s->manifests, &err);
    if (st == PLT_OK)
        manifests_set_owner(
            s->manifests, &(struct manifests_owner){.of_image = mirror_of_image,
                                                    .of_root = mirror_of_root,
                                                    .cookie = s->mirrors});
    if (st == PLT_OK && !(s->edges = edges_new()))
        st = plt_fail(&err, PLT_NOMEM, "the table of edges");
    if (st != PLT_OK)
        (void)fprintf(stderr, "platterd: %s\n", err.text);
    return st == PLT_OK;
}

/* A daemon for each socket of one text of the configuration. */
static bool start_listening(struct server *s, const char *text)
{
    int fds[CONFIG_MAX_LISTEN];
    struct listen_spec spec;
    const size_t n = listen_open(text, fds, CONFIG_MAX_LISTEN - s->n_daemons);
    bool is_good = n && listen_parse(text, &spec);

    for (size_t i = 0; i < n; i++) {
        struct MHD_Daemon *const d =
            is_good ? start_daemon(s, fds[i], spec.is_tls) : NULL;
        if (d) {
            s->is_passed[s->n_daemons] = spec.kind == LISTEN_PASSED;
            s->daemons[s->n_daemons++] = d;
            log_listening(fds[i], spec.is_tls);
            continue;
        }
        if (is_good)
            (void)fprintf(stderr,
                          "platterd: the HTTP server did not start on %s\n",
                          text);
        (void)close(fds[i]);
        is_good = false;
    }
    return is_good;
}

struct server *server_new(struct config *config)
{
    struct server *const s = calloc(1, sizeof(*s));
    struct plt_error err;
    bool is_good;

    if (!s) {
        config_release(config);
        free(config);
        return NULL;
    }
    s->config = config;
    s->old = config;
    audit_init(&s->audit, config->state_dir);
    if (RAND_bytes((unsigned char *)&s->id_seed, sizeof(s->id_seed)) != 1)
        s->id_seed = clock_now();
    const unsigned n = (unsigned)config->n_listen;
    s->connections_each =
        n ? descriptors_for_connections(config->max_connections * n) / n : 0;
    s->connections_all = s->connections_each * n;
    s->budgets = budgets_new(config->client_memory);
    if (s->budgets)
        budgets_count_json(s->budgets);
    s->errors = errors_new();
    is_good = s->budgets && s->errors && configure(s, config);
    if (is_good) {
        s->workers = workers_new(config->workers, config->workers * 4);
        s->watch = watch_new(s);
        s->teller = teller_new(s);
        is_good = s->workers && s->watch && s->teller;
    }
    if (is_good && tls_load(config, false, &err) != PLT_OK) {
        (void)fprintf(stderr, "platterd: %s\n", err.text);
        is_good = false;
    }
    for (size_t i = 0; i < config->n_listen && is_good; i++) {
        is_good = start_listening(s, config->listen[i]);
        s->n_listening += is_good;
    }
    if (!is_good) {
        server_free(s);
        return NULL;
    }
    return s;
}

/* ---- Reload ---- */

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_texts(const struct config *a, const struct config *b,
                       enum config_texts_kind kind)
{
    const struct config_texts *const x = &a->mirrors.texts[kind];
    const struct config_texts *const y = &b->mirrors.texts[kind];
    bool is_same = x->n == y->n;

    for (size_t i = 0; i < x->n && is_same; i++)
        is_same = strcmp(x->v[i], y->v[i]) == 0;
    return is_same;
}

/* What is fixed while the process runs is told, not taken. */
static void log_fixed(const struct config *was, const struct config *now)
{
    bool is_other_listen = was->n_listen != now->n_listen;

    for (size_t i = 0; i < was->n_listen && !is_other_listen; i++)
        is_other_listen = !same_text(was->listen[i], now->listen[i]);
    const struct {
        const char *key;
        bool is_other;
    } rows[] = {
        {"listen", is_other_listen},
        {"state_dir", !same_text(was->state_dir, now->state_dir)},
        {"plugin_path", !same_text(was->plugin_path, now->plugin_path)},
        {"cache_size", was->cache_bytes != now->cache_bytes},
        {"disk_cache_size", was->disk_cache_bytes != now->disk_cache_bytes},
        {"readahead", was->readahead_bytes != now->readahead_bytes},
        {"workers", was->workers != now->workers},
        {"max_open", was->max_open != now->max_open},
        {"max_connections", was->max_connections != now->max_connections},
        {"client_timeout", was->client_timeout_s != now->client_timeout_s},
        {"revalidate", was->revalidate_ms != now->revalidate_ms},
        {"seeds", !same_texts(was, now, CONFIG_SEEDS)},
        {"outputs", !same_texts(was, now, CONFIG_OUTPUTS)},
        {"mirror_keys", !same_texts(was, now, CONFIG_KEYS)},
        {"advertise",
         !same_text(was->mirrors.advertise, now->mirrors.advertise)},
        {"store_size", was->mirrors.store_limit != now->mirrors.store_limit},
        {"store_compression",
         was->mirrors.compression != now->mirrors.compression},
        {"mirror_bandwidth", was->mirrors.bandwidth != now->mirrors.bandwidth},
        {"scrub_rate", was->mirrors.scrub_rate != now->mirrors.scrub_rate},
        {"sidecars", was->sidecars != now->sidecars},
        {"tls_client_ca",
         (was->tls_client_ca != NULL) != (now->tls_client_ca != NULL)}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct log_line l;
        if (!rows[i].is_other)
            continue;
        log_begin(&l, LOG_WARN, "needs_restart");
        log_text(&l, "key", rows[i].key);
        log_end(&l);
    }
}

bool server_reload(struct server *s, struct config *config)
{
    /* A set that is never opened: its names are what counts. */
    const struct images_config ic = {.plugin_path = config->plugin_path,
                                     .cache_bytes = 1 << 20};
    struct plt_error err = {.at = PLT_AT_NONE};
    struct images *next = NULL;
    enum plt_status st = images_new(&ic, &next, &err);

    if (st == PLT_OK)
        st = add_names(next, config, &err);
    const char *const miss = sandbox_misses(config);
    if (st == PLT_OK && miss)
        st = plt_fail(&err, PLT_INVALID,
                      "origin %s: not among what the sandbox lets in since the "
                      "start; a restart does",
                      miss);
    if (st == PLT_OK)
        st = tls_load(config, false, &err);
    if (st != PLT_OK) {
        struct log_line l;
        log_begin(&l, LOG_ERROR, "config_mistake");
        log_text(&l, "text", err.text);
        log_end(&l);
        images_free(next);
        return false;
    }
    const bool is_taken = images_replace_names(s->images, next);
    images_free(next);
    if (!is_taken)
        return false;
    log_fixed(s->config, config);
    want_mirrors(s->mirrors, config);
    /* Requests that run may still look at the old one: it is kept. */
    config->older = s->old;
    s->old = config;
    s->config = config;
    budgets_set_memory(s->budgets, config->client_memory);
    (void)atomic_fetch_add(&s->n_reloads, 1);
    return true;
}

/* ---- Stop ---- */

/* Names of unix sockets, ours alone, and while somebody still answers on them:
 * from then on the next process may have put its own there. */
static void remove_names(struct server *s)
{
    const struct config *first = s->old;

    while (first->older)
        first = first->older;
    for (size_t i = 0; i < s->n_listening; i++)
        listen_remove(first->listen[i]);
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
    int fds[CONFIG_MAX_LISTEN];
    /* Closed when libmicrohttpd's threads have ended, which may still look at
     * them.  Who knocks is refused from here on, but at a socket of the service
     * manager's: there the next process takes them. */
    remove_names(s);
    for (size_t i = 0; i < s->n_daemons; i++) {
        fds[i] = MHD_quiesce_daemon(s->daemons[i]);
        if (fds[i] >= 0 && !s->is_passed[i])
            (void)shutdown(fds[i], SHUT_RDWR);
    }
    wait_idle(s, clock_after_ms((uint64_t)s->config->drain_s * 1000));
    /* Who still runs is told to give up; jobs end within a poll, and resume
     * their connections: none may sleep when libmicrohttpd stops. */
    atomic_store(&s->is_cancelled, true);
    if (s->workers)
        workers_stop(s->workers);
    teller_stop(s->teller);
    for (size_t i = 0; i < s->n_daemons; i++) {
        MHD_stop_daemon(s->daemons[i]);
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
    workers_free(s->workers); /* the event threads could still submit */
    watch_free(s->watch);     /* its connections are gone */
    teller_free(s->teller);
    mirrors_stop(s->mirrors);
    manifests_free(s->manifests);
    edges_free(s->edges);
    images_free(s->images);
    mirrors_free(s->mirrors);
    audit_release(&s->audit);
    errors_free(s->errors);
    tls_unload();
    budgets_free(s->budgets);
    while (s->old) {
        struct config *const older = s->old->older;
        config_release(s->old);
        free(s->old);
        s->old = older;
    }
    free(s);
}
