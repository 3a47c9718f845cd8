/* SPDX-License-Identifier: Apache-2.0 */
/* A request and access.h: what the request shows, what its route wants.
 * Threads: the event threads'. */
#ifndef GATEWAY_ADMIT_H
#define GATEWAY_ADMIT_H

#include "request.h"

/* May it be answered?  Sets request->verdict and ->who.  Before the reference
 * is parsed only as far as that can be told without it. */
bool admit(struct request *request);
/* The answer to one that may not: 401 or 403, counted. */
enum MHD_Result admit_refuse(struct request *request);

/* Is it from a program on this machine, by a unix socket, or by a loopback
 * address under such a name (a web page elsewhere can have a browser here
 * connect to us, but only under its own name), and not passed on by a proxy? */
bool admit_is_local(const struct request *request);

#endif
