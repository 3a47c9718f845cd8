/* SPDX-License-Identifier: Apache-2.0 */
/* The errors that clients were lately answered with, for whoever runs the
 * gateway.  It is what a client itself was told, or would have been told where
 * its answer broke off: what the log alone may have is not here.
 *
 * They are at most ERRORS_MOST, in memory that is there from the start.  Each
 * kind has places of its own, so that none is drowned by another: who tries
 * paths that are not there pushes out others who do, and no disk that fails.
 * The same error of the same path is one row, with a count.
 * Threads: any. */
#ifndef GATEWAY_ERRORS_H
#define GATEWAY_ERRORS_H

#include <jansson.h>

#include "stack/image.h"

enum { ERRORS_MOST = 256 };

enum {
    ERROR_TYPE = 32,
    ERROR_TITLE = 80,
    ERROR_LAYER = 16,
    ERROR_DETAIL = 200
};

struct errors;
struct request;

/* What a problem document said; texts are cut. */
struct error_told {
    char type[ERROR_TYPE], title[ERROR_TITLE], layer[ERROR_LAYER],
        detail[ERROR_DETAIL];
};

/* new; NULL without memory. */
struct errors *errors_new(void);
void errors_free(struct errors *errors); /* NULL is fine */

/* The document that is sent, for the row that its request's end makes. */
void errors_told(struct request *request, const json_t *document);
/* At the end of a request: a row, when it was answered with 4xx or 5xx, or its
 * answer broke off (status 200 or 206), by an event "error" or by the end of
 * the connection, but not because its client had left. */
void errors_ended(struct errors *errors, const struct request *request,
                  bool has_left);

/* Newest first: {"time": RFC 3339, of the last one, "request_id", "method",
 * "path", "status", "type", "title", "layer", "detail", "count"}; new, NULL
 * without memory.  *total: rows in all. */
json_t *errors_json(struct errors *errors, size_t first, size_t most,
                    size_t *total);

#endif
