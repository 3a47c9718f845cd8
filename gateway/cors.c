/* SPDX-License-Identifier: Apache-2.0 */
#include "cors.h"

#include <string.h>

/* The Access-Control-Allow-Origin value; NULL: none is allowed. */
static const char *allowed(const struct request *r)
{
    const struct config *const c = r->server->config;

    for (size_t i = 0; r->origin && i < c->n_cors; i++) {
        if (strcmp(c->cors[i], "*") == 0)
            return "*";
        if (strcmp(c->cors[i], r->origin) == 0)
            return r->origin;
    }
    return NULL;
}

void cors_add(struct request *r, struct MHD_Response *response)
{
    const char *const origin = allowed(r);

    /* Caches must not hand one page's answer to another. */
    if (r->server->config->n_cors &&
        strcmp(r->server->config->cors[0], "*") != 0)
        answer_header(r, response, "Vary", "Origin");
    if (!origin)
        return;
    answer_header(r, response, "Access-Control-Allow-Origin", origin);
    answer_header(
        r, response, "Access-Control-Expose-Headers",
        "Accept-Ranges, Content-Digest, Content-Length, Content-Range, ETag, "
        "Last-Modified, Link, Location, Repr-Digest, Retry-After, "
        "WWW-Authenticate, X-List-Truncated, X-Request-Id, X-Total-Count");
}

void cors_add_preflight(struct request *r, const char *methods,
                        struct MHD_Response *response)
{
    if (!allowed(r))
        return;
    answer_header(r, response, "Access-Control-Allow-Methods", methods);
    answer_header(
        r, response, "Access-Control-Allow-Headers",
        "Authorization, Content-Type, If-Match, If-Modified-Since, "
        "If-None-Match, If-Range, "
        "If-Unmodified-Since, Range, Traceparent, Want-Content-Digest, "
        "Want-Repr-Digest, X-Request-Id");
    answer_header(r, response, "Access-Control-Max-Age", "600");
}
