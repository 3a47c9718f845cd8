/* SPDX-License-Identifier: Apache-2.0 */
/* Who may come in: connections of one client, and requests of one client, image
 * or origin that wait.  Threads: the event threads', but for admission_leave.
 */
#ifndef GATEWAY_ADMISSION_H
#define GATEWAY_ADMISSION_H

#include "budgets.h"
#include "request.h"

/* A new connection is counted.  False: the client has too many; it was told so
 * (429), and its socket is shut down. */
bool admission_connect(struct server *server, struct peer *peer, int fd);
void admission_disconnect(struct server *server, const struct peer *peer);

/* Before the request goes to the workers: a place among those that wait.
 * BUDGET_NONE: it has one; else which budget is over, and request->err. */
enum budget admission_enter(struct request *request);
/* Gives the place back, if it has one. */
void admission_leave(struct request *request);

/* Fields that servers read differently, one behind a proxy as another request
 * than the proxy meant (RFC 9112 6.3, 11.2): what is wrong, NULL: nothing. */
const char *admission_mistake(struct request *request, const char *version);

#endif
