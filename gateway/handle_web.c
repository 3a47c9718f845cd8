/* SPDX-License-Identifier: Apache-2.0 */
/* The page for people: GET / and the files that it is made of, beneath /web/.
 * They are in the program, so a browser needs no other host, and is told to ask
 * none: the policy allows scripts and styles of this gateway's own files,
 * nothing inline, and no text is ever made into markup (trusted types without a
 * policy).  Whoever may connect may load them: they hold no data. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "precondition.h"
#include "route.h"
#include "web_files.h"

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'";

static const struct web_file *find(const char *name)
{
    const struct web_file *f = web_files;

    while (f->name && strcmp(f->name, name) != 0)
        f++;
    return f->name ? f : NULL;
}

/* RFC 9110 12.5.3, as far as it concerns the one coding that we have: named,
 * and not with a weight of zero. */
static bool takes_gzip(const struct request *r)
{
    const char *p = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND,
                                                "Accept-Encoding");

    for (; p && *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " \t");
        if (strncasecmp(p, "gzip", 4) != 0 || !strchr(" \t;,", p[4]))
            continue;
        const char *q = p + 4 + strspn(p + 4, " \t");
        if (*q != ';')
            return true;
        q += 1 + strspn(q + 1, " \t");
        return strncasecmp(q, "q=0", 3) != 0 ||
               strcspn(q + 3, "123456789,") < strcspn(q + 3, ",");
    }
    return false;
}

static bool is_same(const struct request *r, const char *etag)
{
    const struct precondition p = {
        .if_none_match = MHD_lookup_connection_value(
            r->connection, MHD_HEADER_KIND, "If-None-Match"),
        .etag = etag,
        .mtime = INT64_MIN};

    return precondition_check(&p) == PRECONDITION_NOT_MODIFIED;
}

static enum MHD_Result answer_file(struct request *r, const struct web_file *f)
{
    const bool is_packed = takes_gzip(r);
    const union {
        const unsigned char *bytes;
        void *memory; /* libmicrohttpd only reads it */
    } u = {.bytes = is_packed ? f->packed : f->plain};
    char etag[48];

    /* Two codings are two representations (RFC 9110 8.8.3.3). */
    (void)snprintf(etag, sizeof(etag), "\"%s%s\"", f->hash,
                   is_packed ? "-gzip" : "");
    const bool is_known = is_same(r, etag);
    const size_t len = is_packed ? f->packed_len : f->plain_len;
    struct MHD_Response *const response = MHD_create_response_from_buffer(
        is_known ? 0 : len, u.memory, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return answer_queue(r, MHD_HTTP_OK, NULL);
    answer_header(r, response, "ETag", etag);
    answer_header(r, response, "Cache-Control", "no-cache");
    answer_header(r, response, "Vary", "Accept-Encoding");
    answer_header(r, response, "Content-Security-Policy", policy);
    answer_header(r, response, "Referrer-Policy", "no-referrer");
    answer_header(r, response, "Cross-Origin-Opener-Policy", "same-origin");
    answer_header(r, response, "Cross-Origin-Resource-Policy", "same-origin");
    if (is_known)
        return answer_queue(r, MHD_HTTP_NOT_MODIFIED, response);
    answer_header(r, response, "Content-Type", f->type);
    if (is_packed)
        answer_header(r, response, "Content-Encoding", "gzip");
    return answer_queue(r, MHD_HTTP_OK, response);
}

enum MHD_Result handle_index(struct request *r)
{
    return answer_file(r, find("index.html"));
}

enum MHD_Result handle_web(struct request *r)
{
    const struct web_file *const f = find(r->path + strlen(r->route->path));

    if (f)
        return answer_file(r, f);
    return answer_problem(r, MHD_HTTP_NOT_FOUND, "no such file",
                          "the page has no file of that name");
}
