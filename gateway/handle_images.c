/* SPDX-License-Identifier: Apache-2.0 */
/* The list of images, and registering them.  Changes are kept on disk before
 * they are acknowledged, on a worker. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "audit.h"
#include "query.h"
#include "route.h"
#include "stack/json_memory.h"
#include "util/auto.h"

static const char *name_of(const struct request *r)
{
    return r->path + strlen("/v1/images/");
}

static void register_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    const uint64_t lost = json_memory_lost();
    json_t *const entry =
        json_memory_parse(r->body ? r->body : "", r->body ? strlen(r->body) : 0,
                          JSON_REJECT_DUPLICATES, NULL);
    bool is_new = false;
    enum plt_status st;

    /* jansson cuts a text that it has no memory for, and goes on. */
    if (json_memory_lost() != lost)
        st = plt_fail(&r->err, PLT_NOMEM, "the body");
    else
        st = entry ? images_register(r->server->images, entry, &is_new, &r->err)
                   : plt_fail(&r->err, PLT_INVALID, "the body is not JSON");
    if (st == PLT_OK) {
        r->err.status = PLT_OK;
        r->status = is_new ? MHD_HTTP_CREATED : MHD_HTTP_OK;
        r->json = json_incref(entry);
    }
    audit_change(r, json_string_value(json_object_get(entry, "name")));
    json_decref(entry);
    request_resume(r);
}

static void delete_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;

    if (images_unregister(r->server->images, name_of(r), &r->err) == PLT_OK)
        r->err.status = PLT_OK;
    audit_change(r, name_of(r));
    request_resume(r);
}

/* The row of a registered image in the list; new, or NULL. */
static json_t *row_of(struct images *images, const char *asked,
                      bool *has_memory)
{
    const struct images_query query = {.name = asked, .most = 1};
    const uint64_t lost = json_memory_lost();
    size_t n;
    json_t *const list = images_json(images, &query, &n);
    json_t *const found = json_incref(json_array_get(list, 0));

    *has_memory = list && json_memory_lost() == lost;
    json_decref(list);
    return found;
}

/* What GET of its address says; what was asked, when it is gone already. */
static enum MHD_Result answer_registered(struct request *r)
{
    json_t *const asked = r->json;
    const char *const name = json_string_value(json_object_get(asked, "name"));
    bool has_memory;
    json_t *row = row_of(r->server->images, name, &has_memory);

    r->json = NULL;
    (void)snprintf(r->location, sizeof(r->location), "/v1/images/%.63s", name);
    if (!row)
        row = json_incref(asked);
    json_decref(asked);
    return answer_json(r, r->status, row, "application/json");
}

/* RFC 9110 8.3.1: the type alone, or with parameters. */
bool request_is_json(const struct request *r)
{
    const char *const content_type = r->content_type;
    static const char type[] = "application/json";
    const size_t n = sizeof(type) - 1;

    return content_type && strncasecmp(content_type, type, n) == 0 &&
           (!content_type[n] || strchr("; \t", content_type[n]));
}

static enum MHD_Result post_image(struct request *r)
{
    if (r->is_ready)
        return r->err.status == PLT_OK ? answer_registered(r)
                                       : answer_error(r, &r->err);
    /* A web page's form cannot send JSON, and a DELETE is asked about
     * beforehand. */
    if (!request_is_json(r))
        return answer_problem(r, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
                              "unsupported media type",
                              "an image is registered as application/json");
    request_submit(r, register_job);
    return MHD_YES;
}

/* Words of sort=, in images.h's order; downwards with a '-' in front. */
static enum plt_status take_order(const struct request *r,
                                  struct images_query *query,
                                  struct plt_error *err)
{
    static const char *const words[] = {"name",
                                        "-name",
                                        "virtual-size",
                                        "-virtual-size",
                                        "cached-bytes",
                                        "-cached-bytes",
                                        "readers",
                                        "-readers",
                                        "state",
                                        "-state",
                                        NULL};
    unsigned at;
    const enum plt_status st = take_word(r, "sort", words, &at, err);

    query->order = (enum images_order)(at / 2);
    query->is_descending = at % 2;
    return st;
}

static enum MHD_Result list_images(struct request *r)
{
    struct images_query query = {.order = IMAGES_BY_NAME};
    AUTO_FREE char *search = NULL;
    struct list_page page = {0};
    enum plt_status st = take_page(r, &page, &r->err);
    size_t total;

    if (st == PLT_OK)
        st = take_order(r, &query, &r->err);
    if (st == PLT_OK)
        st = take_text(r, "search", IMAGES_SEARCH, &search, &r->err);
    r->err.status = st;
    if (st != PLT_OK)
        return answer_error(r, &r->err);
    query.search = search;
    query.first = page.first;
    query.most = page.most;
    json_t *const list = images_json(r->server->images, &query, &total);
    return answer_page(r, list, &page, total);
}

enum MHD_Result handle_images(struct request *r)
{
    if (strcmp(r->method, "POST") == 0)
        return post_image(r);
    return list_images(r);
}

/* GET of one: its row of the list. */
static enum MHD_Result get_image(struct request *r)
{
    bool has_memory;
    json_t *const row = row_of(r->server->images, name_of(r), &has_memory);

    if (row)
        return answer_json(r, MHD_HTTP_OK, row, "application/json");
    r->err.status =
        has_memory ? plt_fail(&r->err, PLT_NOT_FOUND, "no image of that name")
                   : plt_fail(&r->err, PLT_NOMEM, "a list");
    return answer_error(r, &r->err);
}

enum MHD_Result handle_image(struct request *r)
{
    if (strcmp(r->method, "DELETE") != 0)
        return get_image(r);
    if (r->is_ready && r->err.status == PLT_DENIED)
        return answer_problem(r, MHD_HTTP_FORBIDDEN, "not allowed",
                              "the configuration names this image");
    if (r->is_ready && r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    if (r->is_ready)
        return answer_queue(
            r, MHD_HTTP_NO_CONTENT,
            MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
    request_submit(r, delete_job);
    return MHD_YES;
}
