/* SPDX-License-Identifier: Apache-2.0 */
/* Other gateways that have some of a disk, so that edges fetch from each other
 * and not all from here: siblings of the configuration, and edges that have
 * told of themselves while they asked.
 *
 * What an edge tells is hostile: it may name its own address only, for five
 * minutes, a few times, and who fetches from it verifies what comes.
 * Threads: any, but edges_new and edges_free. */
#ifndef GATEWAY_EDGES_H
#define GATEWAY_EDGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EDGES_TABLE = 1024,  /* of all disks; then the oldest is forgotten */
    EDGES_OF_CLIENT = 8, /* ... of one address; then its own oldest */
    EDGES_KEPT_S = 300,  /* seconds since it was told */
    EDGES_MOST = 16,     /* handed out at a time */
    EDGES_URL = 256      /* bytes of a URL, with its NUL */
};

struct edges; /* of one process */

struct edges *edges_new(void); /* new, or NULL */
void edges_free(struct edges *edges);

/* http(s)://host[:port][/path], of characters that a URL may hold, without a
 * user, a query or a fragment, shorter than EDGES_URL. */
bool edges_url_ok(const char *url);
/* Its host is the address of the client ("ADDR:PORT", "[ADDR]:PORT"), written
 * as a number. */
bool edges_is_own(const char *url, const char *client);

/* The edge at url (edges_is_own) has some of the disk with this root, or will
 * have.  now_ns: clock_now(). */
void edges_tell(struct edges *edges, const uint8_t root[32], const char *url,
                uint64_t now_ns);

/* Those that have told of the root in the last EDGES_KEPT_S, and the n
 * siblings, none twice and never `but` (NULL: nobody is left out), in random
 * order, at most EDGES_MOST: how many are in out. */
size_t edges_list(struct edges *edges, const uint8_t root[32], const char *but,
                  char *const *siblings, size_t n, uint64_t now_ns,
                  char out[EDGES_MOST][EDGES_URL]);

#endif
