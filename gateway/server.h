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

#include "audit.h"
#include "config.h"
#include "sched/workers.h"
#include "stack/image.h"

struct MHD_Daemon;
struct manifests;
struct edges;
struct budgets;
struct watch;
struct mirrors;
struct teller;

enum { SERVER_STATUSES = 600, SERVER_ROUTES = 29 }; /* the last: none */

struct server {
    _Atomic(const struct config *) config; /* changed by a reload */
    struct images *images;
    struct mirrors *mirrors; /* mirror/mirror.h */
    struct manifests *manifests;
    struct edges *edges;   /* edges.h */
    struct teller *teller; /* request.h */
    struct workers *workers;
    struct budgets *budgets; /* budgets.h */
    struct watch *watch;     /* watch.h */
    struct MHD_Daemon *daemons[CONFIG_MAX_LISTEN];
    bool is_passed[CONFIG_MAX_LISTEN]; /* its socket is the manager's as well */
    size_t n_daemons;
    size_t n_listening;        /* texts of the first configuration's `listen` */
    unsigned connections_each; /* of a listener, at most */
    unsigned connections_all;  /* of all that there were at the start */
    uint64_t id_seed;
    atomic_bool is_draining;   /* no new work: readyz says so */
    atomic_bool is_cancelled;  /* running work gives up */
    _Atomic unsigned n_active; /* requests between start and completion */
    _Atomic uint64_t n_requests, bytes_sent, origin_bytes, origin_requests;
    _Atomic uint64_t n_reloads;
    _Atomic uint64_t refused[ACCESS_VERDICTS]; /* by access.h */
    struct audit audit;
    struct errors *errors; /* errors.h */
    _Atomic uint64_t by_route[SERVER_ROUTES][SERVER_STATUSES];
    struct config *old; /* of before a reload: running requests may look */
};

/* Open origins and images, bind, start.  Steals config, also on failure.  new;
 * NULL: what failed was printed. */
struct server *server_new(struct config *config);
/* Origins, images, secrets and limits of a new configuration; stolen on
 * success.  What needs a restart is logged and stays as it was.  On failure
 * nothing has changed and why is logged.  From the main thread. */
bool server_reload(struct server *server, struct config *config);
/* Stop accepting, let running answers end for drain_s, cancel the rest, free.
 */
void server_free(struct server *server);

#endif
