/* SPDX-License-Identifier: Apache-2.0 */
/* Boot traces and prefetches: GET tells, POST begins or takes, DELETE ends.
 *
 * All of it is a worker's: the image is opened, with its key, and its size
 * waited for. */
#include <string.h>

#include "audit.h"
#include "route.h"
#include "stack/json_memory.h"

enum { SECONDS = 300 }; /* of a recording, unless it is said */

/* {"seconds": N}: record; {"reads": ...}: take. */
static enum plt_status post_trace(struct request *r, json_t *body)
{
    json_t *const seconds = json_object_get(body, "seconds");
    const json_int_t n = seconds ? json_integer_value(seconds) : SECONDS;

    if (json_object_get(body, "reads"))
        return image_trace_load(r->image, body, &r->err);
    if (json_object_size(body) > (seconds != NULL))
        return plt_fail(&r->err, PLT_INVALID,
                        "neither a trace nor {\"seconds\": N}");
    return image_trace_record(r->image, n < 1 || n > 86400 ? 0 : (unsigned)n,
                              &r->err);
}

/* {"what": "trace"|"disk"} or {"ranges": [...]}; nothing said: the trace. */
static enum plt_status post_prefetch(struct request *r, json_t *body)
{
    json_t *const ranges = json_object_get(body, "ranges");
    json_t *const what = json_object_get(body, "what");
    const char *const word = what ? json_string_value(what) : "trace";

    if (json_object_size(body) != (what != NULL) + (size_t)(ranges != NULL) ||
        (what && ranges))
        return plt_fail(&r->err, PLT_INVALID,
                        "a prefetch is {\"what\": \"trace\"}, {\"what\": "
                        "\"disk\"} or {\"ranges\": [...]}");
    if (ranges)
        return image_prefetch_ranges(r->image, ranges, &r->err);
    if (word && strcmp(word, "trace") == 0)
        return image_prefetch_trace(r->image, &r->err);
    if (word && strcmp(word, "disk") == 0)
        return image_prefetch_disk(r->image, &r->err);
    return plt_fail(&r->err, PLT_INVALID, "what is trace or disk");
}

static enum plt_status post(struct request *r)
{
    const uint64_t lost = json_memory_lost();
    json_t *const body =
        json_memory_parse(r->body ? r->body : "", r->body ? strlen(r->body) : 0,
                          JSON_REJECT_DUPLICATES, NULL);
    enum plt_status st;

    if (json_memory_lost() != lost)
        st = plt_fail(&r->err, PLT_NOMEM, "the body");
    else if (!json_is_object(body))
        st = plt_fail(&r->err, PLT_INVALID, "the body is no JSON object");
    else
        st = r->route->kind == KIND_TRACE ? post_trace(r, body)
                                          : post_prefetch(r, body);
    json_decref(body);
    return st;
}

static enum plt_status act(struct request *r)
{
    const bool is_trace = r->route->kind == KIND_TRACE;
    enum plt_status st = PLT_OK;

    r->status = MHD_HTTP_OK;
    if (strcmp(r->method, "DELETE") == 0) {
        r->status = MHD_HTTP_NO_CONTENT;
        return is_trace ? image_trace_drop(r->image, &r->err)
                        : image_prefetch_cancel(r->image, &r->err);
    }
    if (strcmp(r->method, "POST") == 0) {
        r->status = is_trace ? MHD_HTTP_OK : MHD_HTTP_ACCEPTED;
        st = post(r);
    }
    if (st != PLT_OK)
        return st;
    return is_trace ? image_trace_json(r->image, &r->json, &r->err)
                    : image_prefetch_json(r->image, &r->json, &r->err);
}

static void trace_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    struct request_io io;

    request_io_init(&io, r, 0);
    enum plt_status st = images_open(r->server->images, &r->reference, &io.io,
                                     &r->image, &r->choices, &r->err);
    if (st == PLT_OK) {
        image_enter(r->image);
        r->has_entered = true;
    }
    if (st == PLT_OK)
        st = image_resolve_size(r->image, &io.io, &r->size, &r->err);
    if (st == PLT_OK)
        st = act(r);
    if (st == PLT_OK)
        r->err.status = PLT_OK;
    if (!r->is_head && strcmp(r->method, "GET") != 0)
        audit_change(r, r->reference.target);
    request_resume(r);
}

enum MHD_Result handle_trace(struct request *r)
{
    const bool is_post = strcmp(r->method, "POST") == 0;

    if (!r->is_ready) {
        if (is_post && !request_is_json(r))
            return answer_problem(r, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                  "unsupported media type",
                                  "what to do is said as application/json");
        request_submit(r, trace_job);
        return MHD_YES;
    }
    if (r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    if (r->status == MHD_HTTP_NO_CONTENT)
        return answer_queue(
            r, r->status,
            MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
    json_t *const value = r->json;
    r->json = NULL;
    return answer_json(r, r->status, value, "application/json");
}
