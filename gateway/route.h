/* SPDX-License-Identifier: Apache-2.0 */
/* Method and path to a handler: one table.  Threads: the event threads'. */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

#include "request.h"

enum request_kind {
    KIND_PLAIN, /* not about an image */
    KIND_DISK,  /* /disk and /raw */
    KIND_INFO,
    KIND_MEMBERS,
    KIND_EXTENTS,
    KIND_PARTITIONS,
    KIND_SNAPSHOTS,
    KIND_CHECK,
    KIND_CHECKSUM,
    KIND_INDEX,
    KIND_TRACE,
    KIND_PREFETCH,
    KIND_MANIFEST,
    KIND_BLOCK,
    KIND_FILES
};

struct route {
    const char *path;  /* with `has_rest`, a prefix with its slash; a '*' stands
                          for one segment */
    const char *label; /* in metrics */
    enum request_kind kind;
    unsigned scope, change_scope; /* ACCESS_* of reading it, of POST and DELETE;
                                     0: anybody */
    bool has_rest;                /* a reference or a name follows */
    const char *layers;           /* selector that the path implies, or NULL */
    /* Query names that are not selectors.  NULL: none, and of what is not
     * about an image the query is not looked at */
    const char *const *also;
    const char *methods; /* the Allow field */
    enum MHD_Result (*handle)(struct request *);
};

enum { ROUTES = 28 };

/* The i-th route; NULL behind the last one. */
const struct route *route_at(size_t i);
size_t route_index(const struct route *route);
const struct route *route_find(const char *path);

/* Before the body of a POST: may its client do that, so that the body is worth
 * being kept?  In request->verdict; what else is wrong is said afterwards. */
void route_look(struct request *request);
/* Answer a request whose header, and body when it has one, is there; called
 * again when a job is ready. */
enum MHD_Result route_dispatch(struct request *request, bool is_first);

#endif
