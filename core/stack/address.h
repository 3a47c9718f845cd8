/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of the network: which are not the public's, and lists of blocks
 * that a configuration names.  IPv4 has 4 bytes and IPv6 16, in the order of
 * the network; an IPv6 address that stands for an IPv4 one (mapped, NAT64,
 * 6to4) is that one, so that no spelling leads round a rule. Pure.  Threads:
 * any. */
#ifndef STACK_ADDRESS_H
#define STACK_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <platter/error.h>

enum { ADDRESS_TEXT = 46, ADDRESS_MAX_BLOCKS = 64 };

/* What an address is, when it is not the public's: "a loopback address" ...;
 * borrowed.  NULL: anybody's (RFC 6890 and IANA's registries).  len: 4 or 16;
 * any other: "no IP address". */
const char *address_kind(const uint8_t *address, size_t len);

/* "10.0.0.0/8,fd00::/8,192.0.2.7": blocks or single addresses, separated by
 * commas, at most ADDRESS_MAX_BLOCKS.  PLT_INVALID says which one is wrong. */
PLT_MUST_USE enum plt_status address_check(const char *blocks,
                                           struct plt_error *err);
/* Does it lie in one of them?  blocks was checked; NULL is none. */
bool address_in(const char *blocks, const uint8_t *address, size_t len);

/* As people write it. */
void address_text(const uint8_t *address, size_t len, char out[ADDRESS_TEXT]);

#endif
