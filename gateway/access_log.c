/* SPDX-License-Identifier: Apache-2.0 */
#include "route.h"
#include "util/clock.h"
#include "util/log.h"

void access_log(struct request *r, enum MHD_RequestTerminationCode end)
{
    static const char *const ends[] = {"completed", "error", "timeout",
                                       "shutdown",  "read",  "client_gone"};
    struct log_line l;

    const size_t route = r->route ? route_index(r->route) : SERVER_ROUTES - 1;

    if (r->status < SERVER_STATUSES)
        (void)atomic_fetch_add(&r->server->by_route[route][r->status], 1);
    log_begin(&l,
              r->err.status != PLT_OK || r->verdict != ACCESS_OK ? LOG_WARN
                                                                 : LOG_INFO,
              "request");
    log_text(&l, "req", r->id);
    log_text(&l, "client", r->client);
    if (r->who)
        log_text(&l, "who", r->who);
    log_text(&l, "method", r->method);
    log_text(&l, "path", r->path ? r->path : "");
    log_number(&l, "status", r->status);
    if (r->range)
        log_text(&l, "range", r->range);
    log_number(&l, "sent", atomic_load(&r->sent));
    log_number(&l, "ms", (clock_now() - r->start_ns) / NS_PER_MS);
    log_number(&l, "origin_bytes", atomic_load(&r->origin_bytes));
    log_number(&l, "origin_requests", atomic_load(&r->origin_requests));
    if (r->verdict != ACCESS_OK)
        log_text(&l, "refused", access_verdict_name(r->verdict));
    if (end != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        log_text(&l, "end", ends[(unsigned)end % 6]);
    if (r->err.status != PLT_OK) {
        log_text(&l, "error", plt_status_name(r->err.status));
        log_text(&l, "layer", r->err.layer);
        if (r->err.at != PLT_AT_NONE && r->err.layer[0])
            log_hex(&l, "at", r->err.at);
        log_text(&l, "text", r->err.text);
    }
    log_end(&l);
}
