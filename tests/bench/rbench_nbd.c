/* SPDX-License-Identifier: Apache-2.0 */
/* The same reads over NBD: many in flight, over several connections where the
 * server says that these see one disk. */
#include "rbench.h"

#include <libnbd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONNS = 64 };

struct reader {
    struct rbench *b;
    struct nbd_handle *nbd;
    uint8_t *buf;
    uint64_t off, begun; /* begun: ns, 0 while none is in flight */
    uint32_t len;
    int *live;
};

static struct nbd_handle *dial(const struct rbench *b)
{
    const uint64_t end = rbench_now() + (uint64_t)(b->wait_s * 1e9);

    for (;;) {
        struct nbd_handle *const h = nbd_create();
        if (!h)
            rbench_die("nbd_create", nbd_get_error());
        (void)nbd_set_handshake_flags(h, LIBNBD_HANDSHAKE_FLAG_MASK);
        if (nbd_connect_uri(h, b->target) == 0)
            return h;
        if (rbench_now() > end)
            rbench_die("nbd connect", nbd_get_error());
        nbd_close(h);
        (void)usleep(500);
    }
}

void nbd_one(struct rbench *b)
{
    uint8_t *const buf = malloc(b->len);
    const uint64_t start = rbench_now();
    struct nbd_handle *const h = dial(b);

    if (!buf || nbd_pread(h, buf, b->len, b->off, 0) != 0)
        rbench_die("nbd read", buf ? nbd_get_error() : "out of memory");
    const uint64_t first = rbench_now();
    rbench_check(b, buf, b->off, b->len);
    rbench_report_one(b, start, first);
    nbd_close(h);
    free(buf);
}

static int done(void *user, int *error)
{
    struct reader *const r = user;

    if (*error)
        rbench_die("nbd read", strerror(*error));
    rbench_took(r->b, rbench_now() - r->begun);
    rbench_check(r->b, r->buf, r->off, r->len);
    r->begun = 0;
    (*r->live)--;
    return 1; /* the command is retired */
}

static void issue(struct reader *r, uint64_t off, uint32_t len)
{
    r->off = off;
    r->len = len;
    r->begun = rbench_now();
    (*r->live)++;
    if (nbd_aio_pread(
            r->nbd, r->buf, len, off,
            (nbd_completion_callback){.callback = done, .user_data = r}, 0) < 0)
        rbench_die("nbd read", nbd_get_error());
}

static void pump(struct nbd_handle **h, int n, int idle_ms)
{
    struct pollfd fds[CONNS];

    for (int i = 0; i < n; i++) {
        const unsigned way = nbd_aio_get_direction(h[i]);
        fds[i] = (struct pollfd){.fd = nbd_aio_get_fd(h[i])};
        if (way & LIBNBD_AIO_DIRECTION_READ)
            fds[i].events |= POLLIN;
        if (way & LIBNBD_AIO_DIRECTION_WRITE)
            fds[i].events |= POLLOUT;
    }
    if (poll(fds, (nfds_t)n, idle_ms) <= 0)
        rbench_die("timeout", "");
    for (int i = 0; i < n; i++) {
        const unsigned way = nbd_aio_get_direction(h[i]);
        if ((fds[i].revents & (POLLIN | POLLHUP)) &&
            (way & LIBNBD_AIO_DIRECTION_READ))
            (void)nbd_aio_notify_read(h[i]);
        else if ((fds[i].revents & POLLOUT) &&
                 (way & LIBNBD_AIO_DIRECTION_WRITE))
            (void)nbd_aio_notify_write(h[i]);
    }
}

void nbd_many(struct rbench *b, bool is_seq)
{
    struct nbd_handle *h[CONNS];
    const uint32_t len = is_seq ? b->chunk : b->len;
    uint64_t next = 0;
    int n = 0, live = 0;

    h[n++] = dial(b);
    if (nbd_can_multi_conn(h[0]) > 0)
        while (n < b->max_conns && n < b->depth)
            h[n++] = dial(b);
    struct reader *const all = calloc((size_t)b->depth, sizeof *all);
    for (int i = 0; i < b->depth; i++) {
        if (!all)
            rbench_die("out of memory", "");
        all[i] = (struct reader){
            .b = b, .nbd = h[i % n], .buf = malloc(len), .live = &live};
        if (!all[i].buf)
            rbench_die("out of memory", "");
    }
    const uint64_t start = rbench_now();
    const uint64_t end = start + (uint64_t)(b->seconds * 1e9);
    for (;;) {
        for (int i = 0; i < b->depth; i++) {
            if (all[i].begun ||
                (is_seq ? next >= b->size : rbench_now() >= end))
                continue;
            const uint64_t off = is_seq ? next : rbench_pick(b);
            const uint32_t want =
                is_seq && b->size - off < len ? (uint32_t)(b->size - off) : len;
            next += want;
            issue(&all[i], off, want);
        }
        if (!live)
            break;
        pump(h, n, b->idle_ms);
    }
    if (is_seq)
        rbench_report_seq(b, start, n);
    else
        rbench_report_rand(b, start);
}
