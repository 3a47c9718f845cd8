/* SPDX-License-Identifier: Apache-2.0 */
/* From a result to a response.  Public and private text differ: a client is
 * told the table's words, the layer, and what is wrong with the image it named;
 * what an origin or this machine said goes to the log alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cors.h"
#include "route.h"
#include "stack/json_memory.h"

/* What is said when there is no memory to say it with: made on the stack, and
 * sent when libmicrohttpd has the little that it needs. */
static struct MHD_Response *without_memory(const struct request *r)
{
    char text[256];
    const int len =
        snprintf(text, sizeof(text),
                 "{\n  \"type\": \"/problems/nomem\",\n"
                 "  \"title\": \"%s\",\n  \"status\": %d,\n"
                 "  \"request_id\": \"%s\"\n}\n",
                 plt_status_text(PLT_NOMEM), plt_status_http(PLT_NOMEM), r->id);
    struct MHD_Response *const response = MHD_create_response_from_buffer(
        (size_t)len, text, MHD_RESPMEM_MUST_COPY);

    if (!response)
        return NULL;
    (void)MHD_add_response_header(response, "Content-Type",
                                  "application/problem+json");
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    (void)MHD_add_response_header(response, "Retry-After", "1");
    return response;
}

void answer_header(struct request *r, struct MHD_Response *response,
                   const char *name, const char *value)
{
    if (MHD_add_response_header(response, name, value) != MHD_YES)
        r->has_lost_header = true;
}
#include "stack/json_text.h"

enum MHD_Result answer_queue(struct request *r, unsigned status,
                             struct MHD_Response *response)
{
    const bool is_last = !response; /* nothing smaller can be said */

    if (!response) {
        response = without_memory(r);
        status = MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (!response)
        return MHD_NO;
    answer_header(r, response, "X-Request-Id", r->id);
    cors_add(r, response);
    answer_header(r, response, "X-Content-Type-Options", "nosniff");
    if (r->is_last)
        answer_header(r, response, "Connection", "close");
    if (r->has_lost_header && !is_last) {
        /* A 206 without its range, a disk without its ETag: another answer. */
        r->has_lost_header = false;
        MHD_destroy_response(response);
        return answer_queue(r, status, NULL);
    }
    r->status = status;
    if (r->peer)
        watch_phase(&r->peer->watched, WATCH_SENDING);
    const enum MHD_Result result =
        MHD_queue_response(r->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result answer_text(struct request *r, unsigned status,
                            const char *type, const char *text)
{
    union {
        const char *text;
        void *memory; /* libmicrohttpd copies it */
    } u = {.text = text};
    struct MHD_Response *const response = MHD_create_response_from_buffer(
        strlen(text), u.memory, MHD_RESPMEM_MUST_COPY);
    if (response) {
        answer_header(r, response, "Content-Type", type);
        answer_header(r, response, "Cache-Control", "no-store");
    }
    return answer_queue(r, status, response);
}

/* Of a text out of json_dumps, which is consumed; NULL without memory. */
static struct MHD_Response *text_response(char *text)
{
    if (!text)
        return NULL;
    const size_t len = strlen(text);
    text[len] = '\n'; /* in place of the NUL: the length is told */
    struct MHD_Response *const response =
        MHD_create_response_from_buffer_with_free_callback(len + 1, text,
                                                           json_text_free);
    if (!response)
        json_text_free(text);
    return response;
}

enum MHD_Result answer_json(struct request *r, unsigned status, json_t *value,
                            const char *type)
{
    char *const text = json_dumps(value, JSON_INDENT(2));
    json_decref(value);
    if (text && json_memory_lost() != r->json_lost) { /* it lacks something */
        json_text_free(text);
        return answer_queue(r, status, NULL);
    }
    return answer_json_text(r, status, text, type);
}

enum MHD_Result answer_json_text(struct request *r, unsigned status, char *text,
                                 const char *type)
{
    struct MHD_Response *const response = text_response(text);

    if (!response)
        return answer_queue(r, status, NULL);
    answer_header(r, response, "Content-Type", type);
    answer_header(r, response, "Cache-Control",
                  r->etag[0] ? "no-cache" : "no-store");
    if (r->etag[0])
        answer_header(r, response, "ETag", r->etag);
    if (r->link)
        answer_header(r, response, "Link", r->link);
    if (r->is_short)
        answer_header(r, response, "X-List-Truncated", "true");
    if (r->has_total) {
        char total[24];
        (void)snprintf(total, sizeof(total), "%zu", r->total);
        answer_header(r, response, "X-Total-Count", total);
    }
    if (r->location[0])
        answer_header(r, response, "Location", r->location);
    return answer_queue(r, status, response);
}

static json_t *problem(const struct request *r, const char *type,
                       unsigned status, const char *title)
{
    return json_pack("{s:s, s:s, s:i, s:s}", "type", type, "title", title,
                     "status", (int)status, "request_id", r->id);
}

/* The response of a problem document, which is consumed; NULL without memory.
 */
static struct MHD_Response *problem_response(struct request *r, json_t *doc)
{
    char *const text = doc ? json_dumps(doc, JSON_INDENT(2)) : NULL;

    errors_told(r, doc);
    json_decref(doc);
    if (!text || json_memory_lost() != r->json_lost) { /* it lacks something */
        json_text_free(text);
        return NULL;
    }
    struct MHD_Response *const response = text_response(text);
    if (!response)
        return NULL;
    answer_header(r, response, "Content-Type", "application/problem+json");
    answer_header(r, response, "Cache-Control", "no-store");
    return response;
}

enum MHD_Result answer_problem(struct request *r, unsigned status,
                               const char *title, const char *detail)
{
    json_t *const doc = problem(r, "about:blank", status, title);

    if (doc)
        (void)json_object_set_new(doc, "detail", json_string(detail));
    struct MHD_Response *const response = problem_response(r, doc);
    if (!response)
        return answer_queue(r, status, NULL);
    if (r->challenge)
        answer_header(r, response, "WWW-Authenticate", r->challenge);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        answer_header(r, response, "Allow", r->route->methods);
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE ||
        status == MHD_HTTP_TOO_MANY_REQUESTS)
        answer_header(r, response, "Retry-After", "1");
    if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE) {
        char value[48];
        (void)snprintf(value, sizeof(value), "bytes */%llu",
                       (unsigned long long)r->size);
        answer_header(r, response, "Content-Range", value);
        answer_header(r, response, "Accept-Ranges", "bytes");
    }
    return answer_queue(r, status, response);
}

/* Errors whose text says only what the client's own image is. */
static bool is_public(const struct plt_error *err)
{
    const enum plt_status st = err->status;

    /* What is missing inside an image may be said; what a source misses is a
     * place. */
    if (st == PLT_NOT_FOUND)
        return strcmp(err->layer, "file") != 0 &&
               strcmp(err->layer, "curl") != 0;
    /* Of what is denied, only that a key is missing: it is the client's to name
     * one, and no place is in the text. */
    if (st == PLT_DENIED)
        return strncmp(err->text, "encrypted", 9) == 0;
    return st == PLT_CORRUPT || st == PLT_UNSUPPORTED || st == PLT_CHOICE ||
           st == PLT_INVALID || st == PLT_EXISTS;
}

/* Everything but unreserved characters, percent-encoded. */
static void encode(char *out, size_t cap, const char *text)
{
    size_t n = strlen(out);
    for (; *text && n + 4 < cap; text++) {
        const unsigned char c = (unsigned char)*text;
        const bool is_plain = (c >= '0' && c <= '9') ||
                              (c >= 'a' && c <= 'z') ||
                              (c >= 'A' && c <= 'Z') || strchr("-._~", c);
        n += (size_t)snprintf(out + n, cap - n, is_plain ? "%c" : "%%%02X", c);
    }
}

static void add_choices(const struct request *r, json_t *doc)
{
    json_t *row;
    size_t i;

    json_array_foreach(r->choices, i, row)
    {
        char href[12800];
        (void)snprintf(href, sizeof(href), "%.4000s?%.4000s%smember=", r->path,
                       r->query ? r->query : "", r->query ? "&" : "");
        encode(href, sizeof(href),
               json_string_value(json_object_get(row, "name")));
        (void)json_object_set_new(row, "href", json_string(href));
    }
    (void)json_object_set(doc, "choices", r->choices);
}

json_t *answer_document(const struct request *r, const struct plt_error *err)
{
    const unsigned status = (unsigned)plt_status_http(err->status);
    char type[64] = "/problems/", *p = type + strlen(type);

    for (const char *s = plt_status_name(err->status); *s; s++)
        *p++ = *s == '_' ? '-' : (char)(*s | 0x20);
    *p = '\0';
    json_t *const doc = problem(r, type, status, plt_status_text(err->status));
    if (!doc)
        return NULL;
    if (err->layer[0])
        (void)json_object_set_new(doc, "layer", json_string(err->layer));
    if (is_public(err) && err->text[0]) {
        json_t *detail = json_string(err->text);
        if (!detail) /* bytes that are no text: the log has them */
            detail = json_string("see the log");
        (void)json_object_set_new(doc, "detail", detail);
    }
    if (err->status == PLT_CHOICE && r->choices)
        add_choices(r, doc);
    return doc;
}

/* Which budget an error comes from, where the request does not know. */
static enum budget budget_of(const struct request *r,
                             const struct plt_error *err)
{
    if (r->over != BUDGET_NONE)
        return r->over;
    return err->status == PLT_TIMEOUT ? BUDGET_DEADLINE
           : err->status == PLT_NOMEM ? BUDGET_CACHE
                                      : BUDGET_NONE;
}

enum MHD_Result answer_error(struct request *r, const struct plt_error *err)
{
    const enum budget budget = budget_of(r, err);

    if (budget != BUDGET_NONE)
        budgets_refuse(r->server->budgets, budget, r->client, r->id);
    if (budget == BUDGET_WAITING_PER_CLIENT)
        return answer_problem(r, MHD_HTTP_TOO_MANY_REQUESTS,
                              "too many requests",
                              "more requests of this address wait than may: "
                              "ask again when one is answered");
    const unsigned status = (unsigned)plt_status_http(err->status);
    struct MHD_Response *const response =
        problem_response(r, answer_document(r, err));

    if (!response)
        return answer_queue(r, status, NULL);
    if (plt_status_retry(err->status))
        answer_header(r, response, "Retry-After", "1");
    return answer_queue(r, status, response);
}
