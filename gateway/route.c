/* SPDX-License-Identifier: Apache-2.0 */
#include "route.h"

#include <stdlib.h>
#include <string.h>

#include "admit.h"
#include "cors.h"
#include "stack/json_memory.h"

static const char is_changed[] = "GET, HEAD, OPTIONS, POST, DELETE";
static const char read_only[] = "GET, HEAD, OPTIONS";

static const char *const of_list[] = {"limit", "offset", NULL};
static const char *const of_images[] = {"limit", "offset", "search", "sort",
                                        NULL};
static const char *const of_files[] = {"limit", "offset", "prefix", NULL};
static const char *const of_extents[] = {"start",  "length",  "context",
                                         "format", "buckets", NULL};
static const char *const of_checksum[] = {"algorithm", "block_size", NULL};
static const char *const of_index[] = {"format", NULL};
static const char *const of_manifest[] = {"format", "edge", NULL};
static const char *const of_nothing[] = {NULL};

#define READ ACCESS_READ
#define META ACCESS_METADATA
#define MIRROR ACCESS_MIRROR
#define ADMIN ACCESS_ADMIN

static const struct route routes[] = {
    {"/disk/", "disk", KIND_DISK, READ, 0, true, NULL, NULL, read_only,
     handle_disk},
    {"/raw/", "raw", KIND_DISK, READ, 0, true, "", NULL, read_only,
     handle_disk},
    {"/v1/info/", "info", KIND_INFO, META, 0, true, NULL, NULL, read_only,
     handle_image_json},
    {"/v1/members/", "members", KIND_MEMBERS, META, 0, true, NULL, of_list,
     read_only, handle_image_json},
    {"/v1/extents/", "extents", KIND_EXTENTS, META, 0, true, NULL, of_extents,
     read_only, handle_image_json},
    {"/v1/partitions/", "partitions", KIND_PARTITIONS, META, 0, true, NULL,
     NULL, read_only, handle_image_json},
    {"/v1/snapshots/", "snapshots", KIND_SNAPSHOTS, META, 0, true, NULL,
     of_list, read_only, handle_image_json},
    {"/v1/check/", "check", KIND_CHECK, META, 0, true, NULL, NULL, read_only,
     handle_image_json},
    {"/v1/checksum/", "checksum", KIND_CHECKSUM, META, 0, true, NULL,
     of_checksum, read_only, handle_image_json},
    {"/v1/index/", "index", KIND_INDEX, META, 0, true, NULL, of_index,
     read_only, handle_image_json},
    {"/v1/trace/", "trace", KIND_TRACE, META, MIRROR, true, NULL, NULL,
     is_changed, handle_trace},
    {"/v1/prefetch/", "prefetch", KIND_PREFETCH, META, MIRROR, true, NULL, NULL,
     is_changed, handle_trace},
    {"/v1/manifest/", "manifest", KIND_MANIFEST, META, 0, true, NULL,
     of_manifest, read_only, handle_manifest},
    {"/v1/blocks/", "blocks", KIND_BLOCK, READ, 0, true, NULL, of_nothing,
     read_only, handle_block},
    {"/v1/origins", "origins", KIND_PLAIN, META, 0, false, NULL, of_list,
     read_only, handle_origins},
    {"/v1/errors", "errors", KIND_PLAIN, ADMIN, 0, false, NULL, of_list,
     read_only, handle_errors},
    {"/v1/files/", "files", KIND_FILES, META, 0, true, NULL, of_files,
     read_only, handle_files},
    {"/v1/images", "images", KIND_PLAIN, META, ADMIN, false, NULL, of_images,
     "GET, HEAD, OPTIONS, POST", handle_images},
    {"/v1/images/", "image", KIND_PLAIN, META, ADMIN, true, NULL, of_nothing,
     "GET, HEAD, OPTIONS, DELETE", handle_image},
    {"/v1/mirrors", "mirrors", KIND_PLAIN, META, MIRROR, false, NULL, of_list,
     "GET, HEAD, OPTIONS, POST", handle_mirrors},
    {"/v1/mirrors/*/events", "mirror_events", KIND_PLAIN, META, 0, false, NULL,
     of_nothing, read_only, handle_mirror_events},
    {"/v1/mirrors/", "mirror", KIND_PLAIN, META, MIRROR, true, NULL, of_nothing,
     is_changed, handle_mirror},
    {"/openapi.json", "openapi", KIND_PLAIN, 0, 0, false, NULL, NULL, read_only,
     handle_openapi},
    {"/healthz", "healthz", KIND_PLAIN, 0, 0, false, NULL, NULL, read_only,
     handle_health},
    {"/readyz", "readyz", KIND_PLAIN, 0, 0, false, NULL, NULL, read_only,
     handle_ready},
    {"/metrics", "metrics", KIND_PLAIN, META, 0, false, NULL, NULL, read_only,
     handle_metrics},
    {"/web/", "web", KIND_PLAIN, 0, 0, true, NULL, NULL, read_only, handle_web},
    {"/", "index", KIND_PLAIN, 0, 0, false, NULL, NULL, read_only,
     handle_index},
};

_Static_assert(SERVER_ROUTES == ROUTES + 1, "and one for no route");
_Static_assert(sizeof(routes) / sizeof(routes[0]) == ROUTES,
               "counters have a place for each");

const struct route *route_at(size_t i)
{
    return i < ROUTES ? &routes[i] : NULL;
}

size_t route_index(const struct route *route)
{
    return (size_t)(route - routes);
}

static bool matches(const struct route *r, const char *path)
{
    const char *const star = strchr(r->path, '*');

    if (r->has_rest)
        return strncmp(path, r->path, strlen(r->path)) == 0;
    if (!star)
        return strcmp(path, r->path) == 0;
    const size_t n = (size_t)(star - r->path);
    if (strncmp(path, r->path, n) != 0)
        return false;
    const size_t segment = strcspn(path + n, "/");
    return segment && strcmp(path + n + segment, star + 1) == 0;
}

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < ROUTES; i++) {
        const struct route *const r = &routes[i];
        if (matches(r, path))
            return r;
    }
    return NULL;
}

static enum MHD_Result answer_options(struct request *r, const char *methods)
{
    struct MHD_Response *const response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response) {
        answer_header(r, response, "Allow", methods);
        cors_add_preflight(r, methods, response);
    }
    return answer_queue(r, MHD_HTTP_NO_CONTENT, response);
}

/* RFC 9110 9.1 and 15.6.2: a method that no resource here knows is 501, one
 * that this resource does not take is 405. */
static bool is_known(const char *method)
{
    static const char *const known[] = {"GET",     "HEAD",   "POST",
                                        "PUT",     "DELETE", "CONNECT",
                                        "OPTIONS", "TRACE",  "PATCH"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(method, known[i]) == 0)
            return true;
    }
    return false;
}

static bool is_in(const char *list, const char *method)
{
    const size_t n = strlen(method);

    for (const char *p = list; (p = strstr(p, method)); p += n) {
        if ((p == list || p[-1] == ' ') && (p[n] == ',' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* The path's rest names an image. */
static bool has_reference(const struct route *route)
{
    return route->kind != KIND_PLAIN && route->kind != KIND_BLOCK &&
           route->kind != KIND_FILES;
}

/* Which image is meant: once, before the handler. */
static enum plt_status parse_reference(struct request *r)
{
    const struct route *const route = r->route;
    char *path = r->path + strlen(route->path), cut = '\0', *end = NULL;

    if (route->kind == KIND_MANIFEST) {
        r->err.status = manifest_take_part(r);
        if (r->err.status != PLT_OK)
            return r->err.status;
        end = r->path + strlen(r->path) - r->part_len;
        cut = *end;
        *end = '\0';
    }
    enum plt_status st =
        reference_parse(&r->reference, path, r->query, route->also, &r->err);
    if (end)
        *end = cut;

    if (st == PLT_OK && route->layers &&
        (r->reference.layers || r->reference.secret)) {
        st = plt_fail(&r->err, PLT_INVALID,
                      "layers= and secret= are for /disk: this is the file as "
                      "it is");
    } else if (st == PLT_OK && route->layers) {
        r->reference.layers = strdup(route->layers);
        if (!r->reference.layers)
            st = plt_fail(&r->err, PLT_NOMEM, "a reference");
    }
    return st;
}

void route_look(struct request *r)
{
    const struct plt_error none = r->err;

    /* A signature is good or bad once the image is known. */
    if (r->signature.state == SIGNATURE_GIVEN && !r->has_no_memory &&
        has_reference(r->route))
        (void)parse_reference(r);
    (void)admit(r);
    reference_release(&r->reference);
    r->err = none;
}

enum MHD_Result route_dispatch(struct request *r, bool is_first)
{
    const struct route *const route = r->route;

    r->json_lost = json_memory_lost();
    if (r->has_no_memory) {
        r->err.status = plt_fail(&r->err, PLT_NOMEM, "a part of the request");
        return answer_error(r, &r->err);
    }
    if (strcmp(r->path, "*") == 0 &&
        strcmp(r->method, "OPTIONS") == 0) /* RFC 9110 9.3.7: the server */
        return answer_options(r, "GET, HEAD, OPTIONS, POST, DELETE");
    if (!is_known(r->method))
        return answer_problem(r, MHD_HTTP_NOT_IMPLEMENTED, "unknown method",
                              "no resource here has such a method");
    if (!route)
        return answer_problem(r, MHD_HTTP_NOT_FOUND, "no such resource",
                              "see / and /openapi.json for what there is");
    if (strcmp(r->method, "OPTIONS") == 0)
        return answer_options(r, route->methods);
    if (!is_in(route->methods, r->method))
        return answer_problem(r, MHD_HTTP_METHOD_NOT_ALLOWED,
                              "method not allowed", route->methods);
    if (!is_first)
        return route->handle(r);
    if (route->kind != KIND_PLAIN && atomic_load(&r->server->is_draining))
        return answer_problem(r, MHD_HTTP_SERVICE_UNAVAILABLE, "shutting down",
                              "ask another server");
    enum plt_status st = PLT_OK;
    if (route->also)
        st = reference_check_query(r->query, route->also, !has_reference(route),
                                   &r->err);
    if (st == PLT_OK && has_reference(route))
        st = parse_reference(r);
    if (st == PLT_OK && route->kind == KIND_FILES)
        st = files_take(r);
    r->err.status = st;
    if (st != PLT_OK)
        return answer_error(r, &r->err);
    if (route->kind == KIND_BLOCK) /* of which image is seen by its handler */
        return route->handle(r);
    return admit(r) ? route->handle(r) : admit_refuse(r);
}
