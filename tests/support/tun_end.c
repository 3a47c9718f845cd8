/* SPDX-License-Identifier: Apache-2.0 */
#include "tun_end.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t tun_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

void tun_missing(const char *what)
{
    (void)fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
                  strerror(errno));
    exit(3);
}

static void ask(int sock, unsigned long what, struct ifreq *r, const char *name)
{
    if (ioctl(sock, what, r) != 0)
        tun_missing(name);
}

static void set_address(struct ifreq *r, const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    (void)inet_pton(AF_INET, address, &in.sin_addr);
    memcpy(&r->ifr_addr, &in, sizeof(in));
}

static void set_up(int sock, const char *device)
{
    struct ifreq r = {0};

    (void)snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", device);
    ask(sock, SIOCGIFFLAGS, &r, device);
    r.ifr_flags = (short)(r.ifr_flags | IFF_UP | IFF_RUNNING);
    ask(sock, SIOCSIFFLAGS, &r, device);
}

int tun_end(const char *device, const char *own, const char *other,
            bool is_offloaded)
{
    struct ifreq r = {0};
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    const int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const unsigned offload = is_offloaded ? TUN_F_CSUM | TUN_F_TSO4 : 0;

    if (fd < 0)
        tun_missing("/dev/net/tun cannot be opened");
    (void)snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", device);
    r.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(fd, TUNSETIFF, &r) != 0 || ioctl(fd, TUNSETOFFLOAD, offload) != 0)
        tun_missing("a tun device cannot be made");
    set_address(&r, own);
    ask(sock, SIOCSIFADDR, &r, "an address");
    if (other) {
        set_address(&r, other);
        ask(sock, SIOCSIFDSTADDR, &r, "the other end's address");
    } else {
        set_address(&r, "255.255.0.0");
        ask(sock, SIOCSIFNETMASK, &r, "a mask");
    }
    r.ifr_qlen = 10000;
    ask(sock, SIOCSIFTXQLEN, &r, "a queue");
    set_up(sock, device);
    set_up(sock, "lo");
    (void)close(sock);
    return fd;
}
