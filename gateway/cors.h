/* SPDX-License-Identifier: Apache-2.0 */
/* Which web pages may read answers (the Fetch standard's CORS protocol): the
 * origins that the configuration names.  Threads: the event thread's. */
#ifndef GATEWAY_CORS_H
#define GATEWAY_CORS_H

#include <microhttpd.h>

#include "request.h"

/* Add what a page of the request's origin may see; nothing without an Origin
 * field, or when it is not configured. */
void cors_add(struct request *request, struct MHD_Response *response);
/* The same for an OPTIONS that asks beforehand: methods and fields. */
void cors_add_preflight(struct request *request, const char *methods,
                        struct MHD_Response *response);

#endif
