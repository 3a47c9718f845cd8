/* SPDX-License-Identifier: Apache-2.0 */
#include "edges.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/clock.h"
#include "util/lock.h"

/* An address as IPv6 writes it: what is IPv4 in either is the same. */
struct host {
    uint8_t bytes[16];
};

struct edge {
    uint64_t told_ns; /* 0: free */
    uint8_t root[32];
    struct host host;
    char url[EDGES_URL];
};

struct edges {
    struct lock lock;
    struct edge v[EDGES_TABLE]; /* guarded by lock */
};

struct edges *edges_new(void)
{
    struct edges *const edges = calloc(1, sizeof(*edges));

    if (edges)
        lock_init(&edges->lock);
    return edges;
}

void edges_free(struct edges *edges)
{
    if (edges)
        lock_release(&edges->lock);
    free(edges);
}

/* ---- URLs ---- */

/* host[:port] of a URL; its length in *len.  NULL: another scheme. */
static const char *authority(const char *url, size_t *len)
{
    const char *const host = strncmp(url, "http://", 7) == 0    ? url + 7
                             : strncmp(url, "https://", 8) == 0 ? url + 8
                                                                : NULL;
    *len = host ? strcspn(host, "/") : 0;
    return host;
}

/* "host", "host:port" or "[host]:port": the host in out.  False: it is too
 * long, or none. */
static bool host_of(const char *p, size_t len, char *out, size_t cap)
{
    const bool is_bracketed = len && *p == '[';
    const char *const end =
        is_bracketed ? memchr(p, ']', len) : memchr(p, ':', len);
    const char *const from = p + is_bracketed;
    const size_t n = end ? (size_t)(end - from) : len - is_bracketed;
    const char *const port = end ? end + is_bracketed : p + len;
    const size_t left = (size_t)(p + len - port);

    if (!n || n >= cap || (is_bracketed && !end))
        return false;
    if (left && (*port != ':' || left < 2 || left > 6 ||
                 strspn(port + 1, "0123456789") < left - 1))
        return false;
    memcpy(out, from, n);
    out[n] = '\0';
    return true;
}

bool edges_url_ok(const char *url)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "-._~/:[]!$&'()*+,;=%";
    size_t len;
    const char *const host = authority(url, &len);
    char name[EDGES_URL];

    return host && strlen(url) < EDGES_URL && !url[strspn(url, good)] &&
           host_of(host, len, name, sizeof(name));
}

static bool address_of(const char *p, size_t len, struct host *out)
{
    char name[INET6_ADDRSTRLEN];
    struct in_addr four;

    if (!host_of(p, len, name, sizeof(name)))
        return false;
    if (inet_pton(AF_INET6, name, out->bytes) == 1)
        return true;
    if (inet_pton(AF_INET, name, &four) != 1)
        return false;
    memcpy(out->bytes, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    memcpy(out->bytes + 12, &four, 4);
    return true;
}

bool edges_is_own(const char *url, const char *client)
{
    struct host a, b;
    size_t len;
    const char *const host = authority(url, &len);

    return edges_url_ok(url) && address_of(host, len, &a) &&
           address_of(client, strlen(client), &b) &&
           memcmp(&a, &b, sizeof(a)) == 0;
}

/* ---- The table ---- */

static bool is_kept(const struct edge *e, uint64_t now_ns)
{
    return e->told_ns && now_ns - e->told_ns < EDGES_KEPT_S * NS_PER_S;
}

/* Where what is told goes: over the same that was told before, over the
 * client's own oldest when it has many, else over what is free or oldest. */
static struct edge *place_locked(struct edges *edges, const struct edge *told)
{
    struct edge *oldest = &edges->v[0], *own = NULL;
    unsigned n_own = 0;

    for (size_t i = 0; i < EDGES_TABLE; i++) {
        struct edge *const e = &edges->v[i];
        if (e->told_ns && memcmp(e->root, told->root, sizeof(e->root)) == 0 &&
            strcmp(e->url, told->url) == 0)
            return e;
        if (e->told_ns < oldest->told_ns)
            oldest = e;
        if (!is_kept(e, told->told_ns) ||
            memcmp(&e->host, &told->host, sizeof(e->host)) != 0)
            continue;
        n_own++;
        if (!own || e->told_ns < own->told_ns)
            own = e;
    }
    return n_own < EDGES_OF_CLIENT ? oldest : own;
}

void edges_tell(struct edges *edges, const uint8_t root[32], const char *url,
                uint64_t now_ns)
{
    struct edge told = {.told_ns = now_ns};
    size_t len;
    const char *const host = authority(url, &len);

    if (!edges_url_ok(url) || !address_of(host, len, &told.host))
        return;
    memcpy(told.root, root, sizeof(told.root));
    (void)snprintf(told.url, sizeof(told.url), "%s", url);
    lock_take(&edges->lock);
    *place_locked(edges, &told) = told;
    lock_give(&edges->lock);
}

/* ---- Handing out ---- */

/* Any of so many, each as likely: the i-th of n that come takes the place, or
 * none.  Few enough, that a remainder favours nobody to speak of. */
static size_t draw(size_t n)
{
    uint64_t x = 0;

    (void)!getrandom(&x, sizeof(x), GRND_NONBLOCK);
    return (size_t)(x % n);
}

struct draw {
    const char *but;
    size_t n_seen, n; /* n of them are in out */
    char (*out)[EDGES_URL];
};

/* A random choice of what comes, in random order. */
static void take(struct draw *d, const char *url)
{
    if (d->but && strcmp(url, d->but) == 0)
        return;
    for (size_t i = 0; i < d->n; i++) {
        if (strcmp(d->out[i], url) == 0)
            return;
    }
    const size_t at = draw(++d->n_seen);
    if (d->n < EDGES_MOST) {
        /* at <= n: who stands there moves to the end. */
        if (at < d->n)
            memcpy(d->out[d->n], d->out[at], EDGES_URL);
        d->n++;
    } else if (at >= EDGES_MOST) {
        return;
    }
    (void)snprintf(d->out[at], EDGES_URL, "%s", url);
}

size_t edges_list(struct edges *edges, const uint8_t root[32], const char *but,
                  char *const *siblings, size_t n, uint64_t now_ns,
                  char out[EDGES_MOST][EDGES_URL])
{
    struct draw d = {.but = but, .out = out};

    for (size_t i = 0; i < n; i++)
        take(&d, siblings[i]);
    lock_take(&edges->lock);
    for (size_t i = 0; i < EDGES_TABLE; i++) {
        const struct edge *const e = &edges->v[i];
        if (is_kept(e, now_ns) && memcmp(e->root, root, sizeof(e->root)) == 0)
            take(&d, e->url);
    }
    lock_give(&edges->lock);
    return d.n;
}
