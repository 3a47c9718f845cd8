/* SPDX-License-Identifier: Apache-2.0 */
/* A long line between two network namespaces of one machine.
 *
 *     delay_line ONE_WAY_US MBIT QUEUE_KIB
 *
 * In the caller's network namespace it makes the device "near" (10.66.0.1), in
 * a new one of its own the device "far" (10.66.0.2), and carries packets
 * between the two, each after ONE_WAY_US and not faster than MBIT megabits a
 * second (0: as fast as it comes); what would wait behind more than QUEUE_KIB
 * is dropped, as a router does.  Both ends are the kernel's own TCP.
 *
 * It says "ready" when packets pass; /proc/PID/ns/net is the far namespace.
 * For each line on standard input it prints the bytes that have arrived at the
 * far and at the near end so far and the packets that were dropped.  It ends
 * with its standard input.
 *
 * Without a rate the devices take packets of up to 64 KiB (segmentation
 * offload), so that the machine is not the limit; with one, packets are 1500
 * bytes, so that the queue is a real one.
 *
 * Needs root, namespaces and /dev/net/tun; exit 3 says which is missing. */
#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tun_end.h"

enum {
    RING = 64 << 20, /* bytes under way in one direction */
    MAX_PACKET = TUN_MAX_PACKET,
    BATCH = 64 /* packets taken from one device before the other's turn */
};

struct record {
    uint64_t due_ns;
    uint32_t len;
    uint32_t is_wrap; /* the rest of the ring is unused */
};

/* One direction: packets in the order in which they will arrive. */
struct way {
    uint8_t *ring;
    size_t head, tail, used;
    uint64_t busy_ns; /* the line is taken until then */
    uint64_t arrived, dropped;
};

/* ---- The line ---- */

/* Where a packet of MAX_PACKET would fit; NULL: the ring is full. */
static struct record *room(struct way *w)
{
    const size_t need = sizeof(struct record) + MAX_PACKET;

    if (RING - w->tail < need) {
        if (w->used + (RING - w->tail) + need > RING)
            return NULL;
        if (w->tail < RING) {
            struct record *const r = (struct record *)(w->ring + w->tail);
            r->is_wrap = 1;
            w->used += RING - w->tail;
        }
        w->tail = 0;
    }
    return w->used + need <= RING ? (struct record *)(w->ring + w->tail) : NULL;
}

/* Packets that a device has to send go onto the line. */
static void take(struct way *w, int fd, uint64_t delay_ns, double ns_per_byte,
                 uint64_t queue_ns)
{
    static uint8_t lost[MAX_PACKET];

    for (int i = 0; i < BATCH; i++) {
        struct record *const r = room(w);
        uint8_t *const data = r ? (uint8_t *)(r + 1) : lost;
        const ssize_t n = read(fd, data, MAX_PACKET);
        if (n <= 0)
            return;
        const uint64_t now = tun_now_ns();
        const uint64_t start = w->busy_ns > now ? w->busy_ns : now;
        if (!r || (queue_ns && start - now > queue_ns)) {
            w->dropped++;
            continue;
        }
        const double bytes = (double)n - sizeof(struct virtio_net_hdr);
        w->busy_ns = start + (uint64_t)(bytes * ns_per_byte);
        *r = (struct record){.due_ns = w->busy_ns + delay_ns,
                             .len = (uint32_t)n};
        const size_t whole = (sizeof(*r) + (size_t)n + 7) / 8 * 8;
        w->tail += whole;
        w->used += whole;
    }
}

/* Packets whose time has come go into the other device.  When the next one is
 * due; UINT64_MAX: none is under way. */
static uint64_t deliver(struct way *w, int fd)
{
    while (w->used) {
        const struct record *const r = (struct record *)(w->ring + w->head);
        if (w->head == RING || r->is_wrap) {
            w->used -= RING - w->head;
            w->head = 0;
            continue;
        }
        if (r->due_ns > tun_now_ns())
            return r->due_ns;
        if (write(fd, r + 1, r->len) == (ssize_t)r->len)
            w->arrived += r->len - sizeof(struct virtio_net_hdr);
        else
            w->dropped++;
        const size_t whole = (sizeof(*r) + r->len + 7) / 8 * 8;
        w->head += whole;
        w->used -= whole;
    }
    return UINT64_MAX;
}

/* False: standard input has ended. */
static bool answer(const struct way *to_far, const struct way *to_near)
{
    char line[64];
    const ssize_t n = read(STDIN_FILENO, line, sizeof(line));

    for (ssize_t i = 0; i < n; i++) {
        if (line[i] == '\n')
            (void)printf(
                "%llu %llu %llu\n", (unsigned long long)to_far->arrived,
                (unsigned long long)to_near->arrived,
                (unsigned long long)(to_far->dropped + to_near->dropped));
    }
    (void)fflush(stdout);
    return n > 0;
}

static void make_ring(struct way *w)
{
    w->ring = mmap(NULL, RING, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (w->ring == MAP_FAILED)
        tun_missing("memory");
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fprintf(stderr, "usage: delay_line ONE_WAY_US MBIT QUEUE_KIB\n");
        return 2;
    }
    const uint64_t delay_ns = strtoull(argv[1], NULL, 10) * 1000;
    const double mbit = strtod(argv[2], NULL);
    const double ns_per_byte = mbit > 0 ? 8000.0 / mbit : 0;
    const uint64_t queue_ns =
        (uint64_t)((double)strtoull(argv[3], NULL, 10) * 1024 * ns_per_byte);
    struct way to_far = {0}, to_near = {0};

    make_ring(&to_far);
    make_ring(&to_near);
    const int near = tun_end("near", "10.66.0.1", "10.66.0.2", mbit <= 0);
    if (unshare(CLONE_NEWNET) != 0)
        tun_missing("a network namespace cannot be made");
    const int far = tun_end("far", "10.66.0.2", "10.66.0.1", mbit <= 0);
    (void)prctl(PR_SET_TIMERSLACK, 1000);
    (void)printf("ready\n");
    (void)fflush(stdout);
    for (;;) {
        const uint64_t a = deliver(&to_far, far), b = deliver(&to_near, near);
        const uint64_t next = a < b ? a : b, now = tun_now_ns();
        const uint64_t wait = next == UINT64_MAX ? UINT64_C(1000000000)
                              : next > now       ? next - now
                                                 : 0;
        const struct timespec ts = {(time_t)(wait / 1000000000),
                                    (long)(wait % 1000000000)};
        struct pollfd p[3] = {
            {near, POLLIN, 0}, {far, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        if (ppoll(p, 3, &ts, NULL) < 0 && errno != EINTR)
            return 1;
        if (p[0].revents & POLLIN)
            take(&to_far, near, delay_ns, ns_per_byte, queue_ns);
        if (p[1].revents & POLLIN)
            take(&to_near, far, delay_ns, ns_per_byte, queue_ns);
        if ((p[2].revents & (POLLIN | POLLHUP)) && !answer(&to_far, &to_near))
            return 0;
    }
}
