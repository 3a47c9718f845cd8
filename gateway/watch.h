/* SPDX-License-Identifier: Apache-2.0 */
/* Who is slow: one thread that looks at every connection now and then.
 *
 * libmicrohttpd closes a connection on which nothing moves at all.  A client
 * that sends or takes a byte now and then passes that, so here is looked at how
 * much has moved, as TCP counts it: a request must be there so long after its
 * first byte, and a reader for whom bytes wait must take them at some rate.  A
 * source that is slow is nobody's fault here: then no bytes wait.
 *
 * What is too slow is shut down (shutdown(2)), and libmicrohttpd ends it on its
 * event thread.  A connection leaves the list before its socket is closed,
 * under the same lock, so that no other connection's is ever meant. Threads:
 * any, but where it says otherwise. */
#ifndef GATEWAY_WATCH_H
#define GATEWAY_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct watch;

enum watch_phase {
    WATCH_RECEIVING, /* between two requests, or in one that is not all there */
    WATCH_WORKING,
    WATCH_SENDING,
    WATCH_CUT
};

/* One connection; part of a struct peer. */
struct watched {
    struct watched *next, **back; /* the list; guarded by the watch's lock */
    const char *client;           /* for the log; borrowed */
    int fd;
    bool is_tls; /* nothing can be written to it past libmicrohttpd */
    bool is_tcp; /* can be looked at; fixed by watch_add */
    _Atomic unsigned phase, n_requests; /* event thread writes, watch reads */
    /* the watch's own */
    unsigned seen;           /* n_requests of the last look */
    bool has_begun;          /* bytes of a request are there */
    unsigned seen_phase;     /* phase of it */
    uint64_t base, since_ns; /* bytes at the beginning, and when that was */
};

/* Something that holds memory for a client and can do with less. */
struct watched_memory {
    struct watched_memory *next, **back;
    void (*trim)(struct watched_memory *memory, uint64_t now);
};

/* For the server's life; new, NULL without memory or thread.  It looks at
 * server's config, limits and counts. */
struct watch *watch_new(struct server *server);
void watch_free(struct watch *watch);

/* How many there are now. */
unsigned watch_add(struct watch *watch, struct watched *connection);
void watch_remove(struct watch *watch, struct watched *connection);
/* Of the connection's event thread: where its request is. */
void watch_phase(struct watched *connection, enum watch_phase phase);

/* trim is called while memory for clients is short (budgets.h), with the
 * watch's lock held. */
void watch_memory_add(struct watch *watch, struct watched_memory *memory);
void watch_memory_remove(struct watch *watch, struct watched_memory *memory);

#endif
