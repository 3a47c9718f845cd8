/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 range requests on kept connections: no more of it than a server
 * that is measured here sends.  Only a 206 with a Content-Length of just what
 * was asked for is taken. */
#include "rbench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD = 16384 };

struct place {
    struct sockaddr_in addr;
    char host[64];
    const char *path;
};

struct conn {
    int fd;
    char head[HEAD];
    size_t n_head, head_len; /* received; whole, or 0 */
    uint64_t off, want, got, begun;
    uint8_t *buf;
};

static void parse(struct place *p, const char *target)
{
    const char *const host = target + 7;
    const size_t n = strcspn(host, "/");
    char name[64];
    char *port;

    if (n >= sizeof p->host)
        rbench_die("host too long", target);
    memcpy(p->host, host, n);
    p->host[n] = 0;
    p->path = host[n] ? host + n : "/";
    memcpy(name, p->host, n + 1);
    port = strchr(name, ':');
    if (port)
        *port++ = 0;
    p->addr.sin_family = AF_INET;
    p->addr.sin_port = htons((uint16_t)(port ? strtoul(port, NULL, 10) : 80));
    if (inet_pton(AF_INET, name, &p->addr.sin_addr) != 1)
        rbench_die("a numeric IPv4 address is needed", name);
}

static int dial(const struct rbench *b, const struct place *p)
{
    const uint64_t end = rbench_now() + (uint64_t)(b->wait_s * 1e9);
    const struct timeval idle = {.tv_sec = b->idle_ms / 1000};
    const int one = 1;

    for (;;) {
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            rbench_die("socket", strerror(errno));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
        if (connect(fd, (const struct sockaddr *)&p->addr, sizeof p->addr) == 0)
            return fd;
        const int why = errno;
        (void)close(fd);
        if (rbench_now() > end)
            rbench_die("connect", strerror(why));
        (void)usleep(500);
    }
}

static void ask(const struct place *p, struct conn *c, uint64_t off,
                uint64_t len)
{
    char text[5000];
    const int n = snprintf(text, sizeof text,
                           "GET %s HTTP/1.1\r\nHost: %s\r\n"
                           "Range: bytes=%" PRIu64 "-%" PRIu64 "\r\n\r\n",
                           p->path, p->host, off, off + len - 1);

    if (n < 0 || (size_t)n >= sizeof text)
        rbench_die("target too long", "");
    c->n_head = c->head_len = 0;
    c->off = off;
    c->want = len;
    c->got = 0;
    c->begun = rbench_now();
    if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        rbench_die("send", strerror(errno));
}

/* Receives; 0 when nothing is there now and the connection does not block. */
static size_t receive(int fd, void *to, size_t room, bool may_block)
{
    const ssize_t n = recv(fd, to, room, 0);

    if (n > 0)
        return (size_t)n;
    if (n < 0 && errno == EAGAIN) {
        if (may_block)
            rbench_die("timeout", "");
        return 0;
    }
    rbench_die("recv", n ? strerror(errno) : "closed before the end");
}

/* Takes a piece of the head; true: it is whole. */
static bool take_head(struct conn *c, bool may_block)
{
    c->n_head +=
        receive(c->fd, c->head + c->n_head, HEAD - 1 - c->n_head, may_block);
    c->head[c->n_head] = 0;
    char *const end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (c->n_head == HEAD - 1)
            rbench_die("a head that does not end", "");
        return false;
    }
    *end = 0;
    if (strncmp(c->head, "HTTP/1.1 206", 12) != 0) {
        c->head[strcspn(c->head, "\r\n")] = 0;
        rbench_die("answer", c->head);
    }
    const char *const field = strcasestr(c->head, "\r\ncontent-length:");
    if (!field || strtoull(field + 17, NULL, 10) != c->want)
        rbench_die("Content-Length is not what was asked for", "");
    c->head_len = (size_t)(end + 4 - c->head);
    return true;
}

/* One answer on a connection that blocks, through a buffer of cap bytes. */
static uint64_t fetch(struct rbench *b, const struct place *p, struct conn *c,
                      uint64_t off, uint64_t len, size_t cap)
{
    uint64_t first = 0;

    ask(p, c, off, len);
    while (!take_head(c, true))
        ;
    c->got = c->n_head - c->head_len;
    if (c->got > len)
        rbench_die("more than was asked for", "");
    if (c->got) {
        first = rbench_now();
        rbench_check(b, (const uint8_t *)c->head + c->head_len, off, c->got);
    }
    while (c->got < len) {
        const size_t n = receive(c->fd, c->buf,
                                 len - c->got < cap ? len - c->got : cap, true);
        if (!first)
            first = rbench_now();
        rbench_check(b, c->buf, off + c->got, n);
        c->got += n;
    }
    return first;
}

static struct conn *conns(const struct rbench *b, const struct place *p, int n,
                          size_t cap)
{
    struct conn *const c = calloc((size_t)n, sizeof *c);

    for (int i = 0; i < n; i++) {
        if (!c || !(c[i].buf = malloc(cap)))
            rbench_die("out of memory", "");
        c[i].fd = dial(b, p);
    }
    return c;
}

void http_one(struct rbench *b)
{
    struct place p = {0};

    parse(&p, b->target);
    const uint64_t start = rbench_now();
    struct conn *const c = conns(b, &p, 1, b->len);
    const uint64_t first = fetch(b, &p, c, b->off, b->len, b->len);
    rbench_report_one(b, start, first);
}

void http_seq(struct rbench *b)
{
    struct place p = {0};

    parse(&p, b->target);
    const uint64_t start = rbench_now();
    struct conn *const c = conns(b, &p, 1, b->chunk);
    (void)fetch(b, &p, c, 0, b->size, b->chunk);
    rbench_report_seq(b, start, 1);
}

/* Takes what has arrived; true: the answer is whole. */
static bool advance(struct conn *c)
{
    if (!c->head_len) {
        if (!take_head(c, false))
            return false;
        c->got = c->n_head - c->head_len;
        if (c->got > c->want)
            rbench_die("more than was asked for", "");
        memcpy(c->buf, c->head + c->head_len, c->got);
    }
    while (c->got < c->want) {
        const size_t n =
            receive(c->fd, c->buf + c->got, (size_t)(c->want - c->got), false);
        if (!n)
            return false;
        c->got += n;
    }
    return true;
}

void http_many(struct rbench *b, bool is_seq)
{
    struct place p = {0};
    const uint32_t len = is_seq ? b->chunk : b->len;
    const int ep = epoll_create1(EPOLL_CLOEXEC);
    uint64_t next = 0;
    int live = 0;

    parse(&p, b->target);
    struct conn *const all = conns(b, &p, b->depth, len);
    const uint64_t start = rbench_now();
    const uint64_t end = start + (uint64_t)(b->seconds * 1e9);
    for (int i = 0; i < b->depth; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (fcntl(all[i].fd, F_SETFL, O_NONBLOCK) != 0 ||
            epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &e) != 0)
            rbench_die("epoll", strerror(errno));
        if (is_seq && next >= b->size)
            continue;
        const uint64_t off = is_seq ? next : rbench_pick(b);
        const uint64_t n = is_seq && b->size - off < len ? b->size - off : len;
        next += n;
        ask(&p, &all[i], off, n);
        live++;
    }
    while (live) {
        struct epoll_event ready[64];
        const int n = epoll_wait(ep, ready, 64, b->idle_ms);
        if (n <= 0)
            rbench_die("timeout", "");
        for (int i = 0; i < n; i++) {
            struct conn *const c = ready[i].data.ptr;
            if (!advance(c))
                continue;
            const uint64_t now = rbench_now();
            rbench_took(b, now - c->begun);
            rbench_check(b, c->buf, c->off, (size_t)c->want);
            live--;
            if (is_seq ? next >= b->size : now >= end)
                continue;
            const uint64_t off = is_seq ? next : rbench_pick(b);
            const uint64_t more =
                is_seq && b->size - off < len ? b->size - off : len;
            next += more;
            ask(&p, c, off, more);
            live++;
        }
    }
    if (is_seq)
        rbench_report_seq(b, start, b->depth);
    else
        rbench_report_rand(b, start);
}
