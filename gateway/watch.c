/* SPDX-License-Identifier: Apache-2.0 */
#include "watch.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "budgets.h"
#include "server.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    LOOKS = 8, /* in one client_timeout */
    LOOK_LEAST_MS = 250,
    LOOK_MOST_MS = 2000,
    HURRY = 8 /* so much sooner when nearly all connections are taken */
};

struct watch {
    struct server *server;
    struct lock lock;
    struct cond stop;
    struct watched *connections;
    struct watched_memory *memories;
    unsigned n;
    bool is_stopping;
    pthread_t thread;
};

static const char timed_out[] = "HTTP/1.1 408 Request Timeout\r\n"
                                "Content-Type: application/problem+json\r\n"
                                "Content-Length: 95\r\n"
                                "Connection: close\r\n"
                                "\r\n"
                                "{\"type\": \"about:blank\", \"title\": "
                                "\"request timeout\", \"status\": 408, "
                                "\"request_id\": \"unread\"    }\n";

static void cut(struct watch *w, struct watched *c, enum budget budget)
{
    if (atomic_load(&c->phase) == WATCH_RECEIVING && c->has_begun && !c->is_tls)
        (void)send(c->fd, timed_out, sizeof(timed_out) - 1,
                   MSG_DONTWAIT | MSG_NOSIGNAL);
    atomic_store(&c->phase, WATCH_CUT);
    budgets_refuse(w->server->budgets, budget, c->client, NULL);
    (void)shutdown(c->fd, SHUT_RDWR);
}

/* Since its first byte came; when nearly all connections are taken, one that
 * sends nothing goes too. */
static void look_receiving(struct watch *w, struct watched *c, uint64_t now,
                           uint64_t received, bool is_full)
{
    const struct config *const config = w->server->config;
    const uint64_t patience = (uint64_t)config->client_timeout_s * 1000 *
                              NS_PER_MS / (is_full ? HURRY : 1);

    c->has_begun = received > c->base;
    if (!c->since_ns && (is_full || c->has_begun))
        c->since_ns = now;
    else if (c->since_ns && now - c->since_ns >= patience)
        cut(w, c, BUDGET_CLIENT_TIMEOUT);
}

/* At the rate, over the time of client_timeout; a reader who has taken all that
 * there was begins anew. */
static void look_sending(struct watch *w, struct watched *c, uint64_t now,
                         const struct tcp_info *info)
{
    const struct config *const config = w->server->config;
    const uint64_t ms = (now - c->since_ns) / NS_PER_MS;

    if (!info->tcpi_notsent_bytes && !info->tcpi_unacked) {
        c->base = info->tcpi_bytes_acked;
        c->since_ns = now;
    } else if (ms >= (uint64_t)config->client_timeout_s * 1000) {
        const uint64_t taken = info->tcpi_bytes_acked - c->base;
        if (!taken)
            cut(w, c, BUDGET_CLIENT_TIMEOUT);
        else if (taken < config->min_rate * ms / 1000)
            cut(w, c, BUDGET_RATE);
        c->base = info->tcpi_bytes_acked;
        c->since_ns = now;
    }
}

/* False: no TCP, but a socket of this machine. */
static bool ask(int fd, struct tcp_info *info)
{
    socklen_t len = sizeof(*info);

    memset(info, 0, sizeof(*info));
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

static void look(struct watch *w, struct watched *c, uint64_t now, bool is_full)
{
    const unsigned phase = atomic_load(&c->phase);
    const unsigned n = atomic_load(&c->n_requests);
    struct tcp_info info;

    if (phase == WATCH_CUT || phase == WATCH_WORKING || !c->is_tcp ||
        !ask(c->fd, &info))
        return;
    if (n != c->seen || phase != c->seen_phase) {
        c->seen = n;
        c->seen_phase = phase;
        c->since_ns = phase == WATCH_SENDING ? now : 0;
        c->base = phase == WATCH_SENDING ? info.tcpi_bytes_acked
                                         : info.tcpi_bytes_received;
    } else if (phase == WATCH_SENDING) {
        look_sending(w, c, now, &info);
    } else {
        look_receiving(w, c, now, info.tcpi_bytes_received, is_full);
    }
}

static void look_all_locked(struct watch *w) LOCK_HELD(&w->lock);
static void look_all_locked(struct watch *w)
{
    const uint64_t now = clock_now();
    const unsigned most = w->server->connections_all;
    const bool is_full = w->n > most - most / 8;

    for (struct watched *c = w->connections; c; c = c->next)
        look(w, c, now, is_full);
    if (!budgets_memory_is_tight(w->server->budgets))
        return;
    for (struct watched_memory *m = w->memories; m; m = m->next)
        m->trim(m, now);
}

static void *run(void *cookie)
{
    struct watch *const w = (struct watch *)cookie;

    lock_take(&w->lock);
    while (!w->is_stopping) {
        uint64_t ms =
            (uint64_t)w->server->config->client_timeout_s * 1000 / LOOKS;
        ms = ms < LOOK_LEAST_MS  ? LOOK_LEAST_MS
             : ms > LOOK_MOST_MS ? LOOK_MOST_MS
                                 : ms;
        if (!cond_wait(&w->stop, &w->lock, clock_after_ms(ms)))
            look_all_locked(w);
    }
    lock_give(&w->lock);
    return NULL;
}

struct watch *watch_new(struct server *server)
{
    struct watch *const w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    w->server = server;
    lock_init(&w->lock);
    cond_init(&w->stop);
    if (pthread_create(&w->thread, NULL, run, w) == 0)
        return w;
    cond_release(&w->stop);
    lock_release(&w->lock);
    free(w);
    return NULL;
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    lock_take(&w->lock);
    w->is_stopping = true;
    cond_wake_all(&w->stop);
    lock_give(&w->lock);
    (void)pthread_join(w->thread, NULL);
    cond_release(&w->stop);
    lock_release(&w->lock);
    free(w);
}

unsigned watch_add(struct watch *w, struct watched *c)
{
    struct tcp_info unused;

    atomic_init(&c->phase, WATCH_RECEIVING);
    c->is_tcp = ask(c->fd, &unused);
    lock_take(&w->lock);
    c->next = w->connections;
    c->back = &w->connections;
    if (c->next)
        c->next->back = &c->next;
    w->connections = c;
    const unsigned n = ++w->n;
    lock_give(&w->lock);
    return n;
}

void watch_remove(struct watch *w, struct watched *c)
{
    lock_take(&w->lock);
    *c->back = c->next;
    if (c->next)
        c->next->back = c->back;
    w->n--;
    lock_give(&w->lock);
}

void watch_phase(struct watched *c, enum watch_phase phase)
{
    if (atomic_load(&c->phase) == WATCH_CUT)
        return;
    if (phase == WATCH_RECEIVING)
        (void)atomic_fetch_add(&c->n_requests, 1);
    atomic_store(&c->phase, (unsigned)phase);
}

void watch_memory_add(struct watch *w, struct watched_memory *m)
{
    lock_take(&w->lock);
    m->next = w->memories;
    m->back = &w->memories;
    if (m->next)
        m->next->back = &m->next;
    w->memories = m;
    lock_give(&w->lock);
}

void watch_memory_remove(struct watch *w, struct watched_memory *m)
{
    lock_take(&w->lock);
    *m->back = m->next;
    if (m->next)
        m->next->back = m->back;
    lock_give(&w->lock);
}
