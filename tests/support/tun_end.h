/* SPDX-License-Identifier: Apache-2.0 */
/* One end of an emulated line: a tun device whose packets a program carries.
 * For delay_line and delay_star, which end when something is missing. */
#ifndef SUPPORT_TUN_END_H
#define SUPPORT_TUN_END_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TUN_MAX_PACKET = 66 * 1024
}; /* bytes, struct virtio_net_hdr before it */

/* A tun device in the calling thread's network namespace, with the address
 * `own`, up, and lo up.  `other` is the address at the other end; NULL: there
 * are many, own's /16.  is_offloaded: packets of up to 64 KiB, unsegmented,
 * pass (TSO), else of 1500 bytes.  The descriptor does not block; the caller
 * closes it. */
int tun_end(const char *device, const char *own, const char *other,
            bool is_offloaded);

/* Say what is missing, and errno's text, on standard error; exit with 3. */
_Noreturn void tun_missing(const char *what);

/* Of CLOCK_MONOTONIC. */
uint64_t tun_now_ns(void);

#endif
