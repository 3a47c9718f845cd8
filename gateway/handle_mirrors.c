/* SPDX-License-Identifier: Apache-2.0 */
/* Mirrors: the list, making, changing and deleting them, and how far they are,
 * as JSON and as server-sent events.  Changes are kept on disk before they are
 * acknowledged, on a worker. */
#include <stdio.h>
#include <string.h>

#include "audit.h"
#include "mirror/mirror.h"
#include "query.h"
#include "route.h"
#include "stack/json_memory.h"

static const char at[] = "/v1/mirrors/";

enum { NAME = 64 };

/* The name in the path; false: it is none. */
static bool name_of(const struct request *r, char name[NAME])
{
    const char *const rest = r->path + sizeof(at) - 1;
    const size_t len = strcspn(rest, "/");
    const bool has_more = rest[len] && r->route->has_rest;

    if (!len || len >= NAME || has_more)
        return false;
    memcpy(name, rest, len);
    name[len] = '\0';
    return true;
}

static enum plt_status parse_body(struct request *r, json_t **out)
{
    const uint64_t lost = json_memory_lost();

    *out =
        json_memory_parse(r->body ? r->body : "", r->body ? strlen(r->body) : 0,
                          JSON_REJECT_DUPLICATES, NULL);
    /* jansson cuts a text that it has no memory for, and goes on. */
    if (json_memory_lost() != lost)
        return plt_fail(&r->err, PLT_NOMEM, "the body");
    return *out ? PLT_OK
                : plt_fail(&r->err, PLT_INVALID, "the body is not JSON");
}

/* ---- The list ---- */

static void add_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    struct mirrors *const mirrors = r->server->mirrors;
    json_t *entry = NULL;
    bool is_new = false;

    enum plt_status st = parse_body(r, &entry);
    const char *const name = json_string_value(json_object_get(entry, "name"));
    if (st == PLT_OK)
        st = mirrors_add(mirrors, entry, &is_new, &r->err);
    if (st == PLT_OK)
        st = mirrors_json(mirrors, name, &r->json, &r->err);
    if (st == PLT_OK) {
        r->err.status = PLT_OK;
        r->status = is_new ? MHD_HTTP_CREATED : MHD_HTTP_OK;
        (void)snprintf(r->location, sizeof(r->location), "%s%.63s", at, name);
    }
    audit_change(r, name);
    json_decref(entry);
    request_resume(r);
}

static enum MHD_Result answer_made(struct request *r)
{
    json_t *const value = r->json;

    if (r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    r->json = NULL;
    return answer_json(r, r->status, value, "application/json");
}

static enum MHD_Result answer_type(struct request *r)
{
    return answer_problem(r, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
                          "unsupported media type",
                          "what to mirror is said as application/json");
}

enum MHD_Result handle_mirrors(struct request *r)
{
    if (strcmp(r->method, "POST") != 0)
        return answer_list(r, mirrors_list_json(r->server->mirrors));
    if (r->is_ready)
        return answer_made(r);
    if (!request_is_json(r))
        return answer_type(r);
    request_submit(r, add_job);
    return MHD_YES;
}

/* ---- One ---- */

/* {"paused": true|false, and what mirrors_change takes}. */
static enum plt_status change(struct request *r, const char *name)
{
    struct mirrors *const mirrors = r->server->mirrors;
    json_t *body = NULL;

    enum plt_status st = parse_body(r, &body);
    json_t *const paused = json_incref(json_object_get(body, "paused"));
    if (st == PLT_OK && !json_is_object(body))
        st = plt_fail(&r->err, PLT_INVALID, "the body is no JSON object");
    if (st == PLT_OK && paused && !json_is_boolean(paused))
        st = plt_fail(&r->err, PLT_INVALID, "\"paused\" is not true or false");
    if (paused)
        (void)json_object_del(body, "paused");
    if (st == PLT_OK && json_object_size(body))
        st = mirrors_change(mirrors, name, body, &r->err);
    if (st == PLT_OK && paused)
        st = mirrors_pause(mirrors, name, json_is_true(paused), &r->err);
    if (st == PLT_OK)
        st = mirrors_json(mirrors, name, &r->json, &r->err);
    json_decref(paused);
    json_decref(body);
    return st;
}

static void one_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    char name[NAME] = "";

    (void)name_of(r, name);
    const enum plt_status st =
        strcmp(r->method, "DELETE") == 0
            ? mirrors_remove(r->server->mirrors, name, &r->err)
            : change(r, name);
    if (st == PLT_OK) {
        r->err.status = PLT_OK;
        r->status = r->json ? MHD_HTTP_OK : MHD_HTTP_NO_CONTENT;
    }
    audit_change(r, name);
    request_resume(r);
}

/* new in *row; NULL: answered. */
static enum MHD_Result look(struct request *r, json_t **row)
{
    char name[NAME];

    *row = NULL;
    if (!name_of(r, name))
        return answer_problem(r, MHD_HTTP_NOT_FOUND, "no such resource",
                              "a mirror's name is one segment");
    r->err.status = mirrors_json(r->server->mirrors, name, row, &r->err);
    return r->err.status == PLT_OK ? MHD_YES : answer_error(r, &r->err);
}

enum MHD_Result handle_mirror_events(struct request *r)
{
    json_t *row;
    const enum MHD_Result result = look(r, &row);

    if (!row)
        return result;
    json_decref(row);
    return r->is_head ? answer_text(r, MHD_HTTP_OK, "text/event-stream", "")
                      : teller_answer(r);
}

static enum MHD_Result get_one(struct request *r)
{
    json_t *row;
    const enum MHD_Result result = look(r, &row);

    if (!row)
        return result;
    if (!r->wants_events || r->is_head)
        return answer_json(r, MHD_HTTP_OK, row, "application/json");
    json_decref(row);
    return teller_answer(r);
}

enum MHD_Result handle_mirror(struct request *r)
{
    const bool is_post = strcmp(r->method, "POST") == 0;
    char name[NAME];

    if (!is_post && strcmp(r->method, "DELETE") != 0)
        return get_one(r);
    if (!name_of(r, name))
        return answer_problem(r, MHD_HTTP_NOT_FOUND, "no such resource",
                              "a mirror's name is one segment");
    if (r->is_ready && r->err.status == PLT_OK && !r->json)
        return answer_queue(
            r, MHD_HTTP_NO_CONTENT,
            MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
    if (r->is_ready)
        return answer_made(r);
    if (is_post && !request_is_json(r))
        return answer_type(r);
    request_submit(r, one_job);
    return MHD_YES;
}
