/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon: listening sockets, libmicrohttpd, the pool of workers, and how it
 * all stops.
 *
 * Requests are answered on libmicrohttpd's event threads when everything they
 * need is in memory; what has to wait is suspended and goes to a worker, which
 * resumes it.  No event thread ever waits.
 * Threads: fields are fixed after server_new, or atomic. */
#ifndef GATEWAY_SERVER_H
#define GATEWAY_SERVER_H

#include <stdatomic.h>

#include "config.h"
#include "sched/workers.h"
#include "stack/image.h"

struct MHD_Daemon;

enum { SERVER_STATUSES = 600 };

struct server {
    const struct config *config;
    struct images *images;
    struct workers *workers;
    struct MHD_Daemon *daemons[CONFIG_MAX_LISTEN];
    size_t n_daemons;
    uint64_t id_seed;
    atomic_bool is_draining;   /* no new work: readyz says so */
    atomic_bool is_cancelled;  /* running work gives up */
    _Atomic unsigned n_active; /* requests between start and completion */
    _Atomic uint64_t n_requests, bytes_sent, origin_bytes, origin_requests;
    _Atomic uint64_t by_status[SERVER_STATUSES];
};

/* Open origins and images, bind, start.  new; NULL: what failed was printed. */
struct server *server_new(const struct config *config);
/* Stop accepting, let running answers end for drain_s, cancel the rest, free.
 */
void server_free(struct server *server);

#endif
