/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts with a line each to a middle, on one machine.
 *
 *     delay_star QUEUE_MS MBIT:ONE_WAY_US...
 *
 * The n-th host (from 1) is a network namespace with the address 10.67.0.n.
 * Its line carries MBIT megabits a second each way (0: as fast as it comes)
 * and takes ONE_WAY_US; what goes from one host to another passes both their
 * lines, one behind the other, each with a queue of its own, of QUEUE_MS at its
 * rate; what would wait longer is dropped, as a router does.
 *
 * It says "ready" and the descriptors of the namespaces, in order
 * (/proc/PID/fd/FD).  For each line on standard input it prints for each host
 * SENT:RECEIVED:DROPPED, bytes onto its line and off it and packets that one of
 * the two queues of its line dropped.  It ends with its standard input.
 *
 * Packets are as large as TCP makes them (segmentation offload): at these rates
 * about a millisecond's worth, so that two cores carry twenty hosts.
 *
 * Needs root, namespaces and /dev/net/tun; exit 3 says which is missing. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tun_end.h"

enum {
    MAX_HOSTS = 64,
    BATCH = 16, /* packets taken from one host before the next's turn */
    MAX_AHEAD = 256 << 20, /* bytes on all lines without a rate, at most */
    IP_DESTINATION = 16    /* offset in a packet */
};

struct packet {
    struct packet *next;
    uint64_t due_ns;
    size_t len; /* of data, struct virtio_net_hdr included */
    unsigned to;
    uint8_t data[];
};

/* One direction of one line: packets in the order in which they leave it. */
struct way {
    struct packet *first, **last;
    uint64_t busy_ns; /* the line is taken until then */
};

struct host {
    int fd, ns;
    double ns_per_byte;
    uint64_t delay_ns;
    struct way up, down;
    uint64_t sent, received, dropped;
};

static struct host hosts[MAX_HOSTS];
static unsigned n_hosts;
static uint64_t queue_ns;
static size_t under_way;

/* Steals p. */
static void enter(struct host *h, struct way *w, struct packet *p, uint64_t now)
{
    const uint64_t start = w->busy_ns > now ? w->busy_ns : now;
    const double bytes = (double)(p->len - sizeof(struct virtio_net_hdr));

    if (start - now > queue_ns || under_way > MAX_AHEAD) {
        h->dropped++;
        free(p);
        return;
    }
    w->busy_ns = start + (uint64_t)(bytes * h->ns_per_byte);
    p->due_ns = w->busy_ns + h->delay_ns;
    p->next = NULL;
    *w->last = p;
    w->last = &p->next;
    under_way += p->len;
}

/* The first packet, when its time has come; NULL.  Lowers *next to when that
 * will be. */
static struct packet *leave(struct way *w, uint64_t now, uint64_t *next)
{
    struct packet *const p = w->first;

    if (!p)
        return NULL;
    if (p->due_ns > now) {
        *next = p->due_ns < *next ? p->due_ns : *next;
        return NULL;
    }
    w->first = p->next;
    if (!w->first)
        w->last = &w->first;
    under_way -= p->len;
    return p;
}

static void take(struct host *h)
{
    static uint8_t data[TUN_MAX_PACKET];

    for (int i = 0; i < BATCH; i++) {
        const ssize_t n = read(h->fd, data, sizeof(data));
        const size_t head = sizeof(struct virtio_net_hdr);
        if (n < (ssize_t)(head + 20))
            return;
        const uint8_t *const ip = data + head;
        const unsigned to = ip[IP_DESTINATION + 3] - 1U;
        if (ip[0] >> 4 != 4 || ip[IP_DESTINATION] != 10 || to >= n_hosts)
            continue;
        struct packet *const p = malloc(sizeof(*p) + (size_t)n);
        if (!p)
            tun_missing("memory");
        p->len = (size_t)n;
        p->to = to;
        memcpy(p->data, data, (size_t)n);
        h->sent += (size_t)n - head;
        enter(h, &h->up, p, tun_now_ns());
    }
}

/* What is due goes on.  When the next is; UINT64_MAX: nothing is under way. */
static uint64_t carry(void)
{
    uint64_t next = UINT64_MAX;
    const uint64_t now = tun_now_ns();
    struct packet *p;

    for (unsigned i = 0; i < n_hosts; i++) {
        while ((p = leave(&hosts[i].up, now, &next)))
            enter(&hosts[p->to], &hosts[p->to].down, p, p->due_ns);
    }
    for (unsigned i = 0; i < n_hosts; i++) {
        while ((p = leave(&hosts[i].down, now, &next))) {
            if (write(hosts[i].fd, p->data, p->len) == (ssize_t)p->len)
                hosts[i].received += p->len - sizeof(struct virtio_net_hdr);
            else
                hosts[i].dropped++;
            free(p);
        }
    }
    return next;
}

/* False: standard input has ended. */
static bool answer(void)
{
    char line[64];
    const ssize_t n = read(STDIN_FILENO, line, sizeof(line));

    for (ssize_t i = 0; i < n; i++) {
        if (line[i] != '\n')
            continue;
        for (unsigned h = 0; h < n_hosts; h++)
            (void)printf("%llu:%llu:%llu ", (unsigned long long)hosts[h].sent,
                         (unsigned long long)hosts[h].received,
                         (unsigned long long)hosts[h].dropped);
        (void)printf("\n");
    }
    (void)fflush(stdout);
    return n > 0;
}

/* The n-th host; the process is in its namespace then. */
static void make_host(struct host *h, unsigned n, const char *line)
{
    char address[32];
    char *end;
    const double mbit = strtod(line, &end);

    (void)snprintf(address, sizeof(address), "10.67.0.%u", n + 1);
    if (unshare(CLONE_NEWNET) != 0)
        tun_missing("a network namespace cannot be made");
    h->ns = open("/proc/self/ns/net", O_RDONLY);
    if (h->ns < 0)
        tun_missing("/proc/self/ns/net");
    h->fd = tun_end("star", address, NULL, true);
    h->ns_per_byte = mbit > 0 ? 8000.0 / mbit : 0;
    h->delay_ns = *end == ':' ? strtoull(end + 1, NULL, 10) * 1000 : 0;
    h->up.last = &h->up.first;
    h->down.last = &h->down.first;
}

static void wait_until(uint64_t next, struct pollfd *polls)
{
    const uint64_t now = tun_now_ns();
    const uint64_t ns = next == UINT64_MAX ? UINT64_C(1000000000)
                        : next > now       ? next - now
                                           : 0;
    const struct timespec ts = {(time_t)(ns / 1000000000),
                                (long)(ns % 1000000000)};

    if (ppoll(polls, n_hosts + 1, &ts, NULL) < 0 && errno != EINTR)
        tun_missing("ppoll");
}

int main(int argc, char **argv)
{
    struct pollfd polls[MAX_HOSTS + 1] = {{STDIN_FILENO, POLLIN, 0}};

    if (argc < 4 || argc > MAX_HOSTS + 2) {
        (void)fprintf(stderr,
                      "usage: delay_star QUEUE_MS MBIT:ONE_WAY_US...\n");
        return 2;
    }
    queue_ns = strtoull(argv[1], NULL, 10) * 1000000;
    n_hosts = (unsigned)argc - 2;
    for (unsigned i = 0; i < n_hosts; i++) {
        make_host(&hosts[i], i, argv[i + 2]);
        polls[i + 1] = (struct pollfd){hosts[i].fd, POLLIN, 0};
    }
    (void)prctl(PR_SET_TIMERSLACK, 1000);
    /* Before the hosts' programs: a line does not wait for a processor. */
    (void)setpriority(PRIO_PROCESS, 0, -15);
    (void)printf("ready");
    for (unsigned i = 0; i < n_hosts; i++)
        (void)printf(" %d", hosts[i].ns);
    (void)printf("\n");
    (void)fflush(stdout);
    for (;;) {
        wait_until(carry(), polls);
        if ((polls[0].revents & (POLLIN | POLLHUP)) && !answer())
            return 0;
        for (unsigned i = 0; i < n_hosts; i++) {
            if (polls[i + 1].revents & POLLIN)
                take(&hosts[i]);
        }
    }
}
