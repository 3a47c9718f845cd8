/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that is described rather than served. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "request.h"

/* A page of JSON that a person or a tool still likes to read. */
enum { MAX_ROWS = 100000, MAX_FINDINGS = 1000 };

static enum plt_status take_number(const struct request *r, const char *name,
                                   uint64_t otherwise, uint64_t *out,
                                   struct plt_error *err)
{
    bool is_bad;
    char *const text = reference_query(r->query, name, &is_bad);

    *out = otherwise;
    if (is_bad || (text && !plt_parse_bytes(text, out)))
        is_bad = true;
    free(text);
    return is_bad
               ? plt_fail(err, PLT_INVALID, "%s is not a number of bytes", name)
               : PLT_OK;
}

static enum plt_status extents_json(struct request *r, struct plt_io *io)
{
    bool is_bad = false;
    char *const context = reference_query(r->query, "context", &is_bad);
    char *const format =
        is_bad ? NULL : reference_query(r->query, "format", &is_bad);
    const bool is_map = format && strcmp(format, "qemu-map") == 0;
    uint64_t start = 0, length = 0;
    enum plt_status st = PLT_OK;

    if (is_bad || (format && !is_map))
        st = plt_fail(&r->err, PLT_INVALID, "format is qemu-map");
    if (st == PLT_OK)
        st = take_number(r, "start", 0, &start, &r->err);
    if (st == PLT_OK)
        st = take_number(r, "length", PLT_SIZE_MAX, &length, &r->err);
    if (st == PLT_OK)
        st = image_extents_json(r->image, io, start, length, context, MAX_ROWS,
                                &r->json, &r->err);
    free(context);
    free(format);
    if (st != PLT_OK || !is_map)
        return st;
    if (json_object_get(r->json, "next"))
        return plt_fail(&r->err, PLT_INVALID,
                        "more than %d extents: ask in parts, with start= and "
                        "length=",
                        MAX_ROWS);
    json_t *const rows = json_incref(json_object_get(r->json, "extents"));
    json_decref(r->json);
    r->json = rows;
    return PLT_OK;
}

static enum plt_status describe(struct request *r, struct plt_io *io)
{
    switch (r->kind) {
    case KIND_EXTENTS:
        return extents_json(r, io);
    case KIND_SNAPSHOTS:
        return image_snapshots_json(r->image, io, &r->json, &r->err);
    case KIND_CHECK:
        return image_check_json(r->image, io, MAX_FINDINGS, &r->json, &r->err);
    default:
        r->json = image_info(r->image);
        return r->json ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a description");
    }
}

static void json_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    struct request_io io;
    enum plt_status st;

    request_io_init(&io, r, 0);
    if (r->kind == KIND_MEMBERS) {
        st = images_members(r->server->images, &r->reference, &io.io, &r->json,
                            &r->err);
    } else {
        st = images_open_described(r->server->images, &r->reference, &io.io,
                                   &r->image, &r->choices, &r->err);
        if (st == PLT_OK)
            st = describe(r, &io.io);
    }
    if (st == PLT_OK)
        r->err.status = PLT_OK;
    request_resume(r);
}

enum MHD_Result handle_image_json(struct request *r)
{
    if (!r->is_ready) {
        request_submit(r, json_job);
        return MHD_YES;
    }
    if (r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    json_t *const value = r->json;
    r->json = NULL;
    return answer_json(r, MHD_HTTP_OK, value, "application/json");
}

enum MHD_Result handle_origins(struct request *r)
{
    return answer_json(r, MHD_HTTP_OK, images_origins_json(r->server->images),
                       "application/json");
}

enum MHD_Result handle_images(struct request *r)
{
    return answer_json(r, MHD_HTTP_OK, images_open_json(r->server->images),
                       "application/json");
}

enum MHD_Result handle_health(struct request *r)
{
    return answer_text(r, MHD_HTTP_OK, "text/plain", "ok\n");
}

enum MHD_Result handle_ready(struct request *r)
{
    const bool is_draining = atomic_load(&r->server->is_draining);
    return answer_text(r,
                       is_draining ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK,
                       "text/plain", is_draining ? "draining\n" : "ready\n");
}

/* The Prometheus text format, version 0.0.4. */
enum MHD_Result handle_metrics(struct request *r)
{
    struct server *const s = r->server;
    struct cache_stats c;
    char text[8192];
    size_t n = 0;
    unsigned queued, running;

    cache_stats(images_cache(s->images), &c);
    workers_load(s->workers, &queued, &running);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"platter_requests_active", "gauge", "Requests being answered.",
         atomic_load(&s->n_active)},
        {"platter_sent_bytes_total", "counter", "Bytes of disks sent.",
         atomic_load(&s->bytes_sent)},
        {"platter_origin_bytes_total", "counter",
         "Bytes fetched from origins that a request waited for.",
         atomic_load(&s->origin_bytes)},
        {"platter_origin_requests_total", "counter", "Requests to origins.",
         atomic_load(&s->origin_requests)},
        {"platter_workers_queued", "gauge", "Jobs that wait for a worker.",
         queued},
        {"platter_workers_running", "gauge", "Jobs on workers.", running},
        {"platter_cache_budget_bytes", "gauge", "Memory allowed.", c.budget},
        {"platter_cache_bytes", "gauge", "Memory in use.", c.bytes},
        {"platter_cache_reserved_bytes", "gauge",
         "Of it, kept by open images and running reads.", c.reserved},
        {"platter_cache_hits_total", "counter", "Blocks found.", c.hits},
        {"platter_cache_fills_total", "counter", "Blocks filled.", c.fills},
        {"platter_cache_evictions_total", "counter", "Blocks evicted.",
         c.evictions},
        {"platter_cache_full_total", "counter", "Claims without room.", c.full},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n",
                              rows[i].name, rows[i].help, rows[i].name,
                              rows[i].type, rows[i].name, rows[i].value);
    n += (size_t)snprintf(
        text + n, sizeof(text) - n,
        "# HELP platter_requests_total Requests answered, by status.\n"
        "# TYPE platter_requests_total counter\n");
    for (unsigned i = 0; i < SERVER_STATUSES && n + 80 < sizeof(text); i++) {
        const uint64_t count = atomic_load(&s->by_status[i]);
        if (count)
            n += (size_t)snprintf(text + n, sizeof(text) - n,
                                  "platter_requests_total{status=\"%u\"} "
                                  "%" PRIu64 "\n",
                                  i, count);
    }
    return answer_text(r, MHD_HTTP_OK, "text/plain; version=0.0.4", text);
}

enum MHD_Result handle_index(struct request *r)
{
    return answer_text(
        r, MHD_HTTP_OK, "text/plain; charset=utf-8",
        "platter: byte ranges of guest disks\n"
        "\n"
        "  /disk/ORIGIN/PATH        the decoded guest disk\n"
        "  /raw/ORIGIN/PATH         the file as it is\n"
        "  /v1/info/ORIGIN/PATH     the stack as opened\n"
        "  /v1/members/ORIGIN/PATH  files of an archive\n"
        "  /v1/extents/ORIGIN/PATH  data, zeros and holes "
        "(start= length= context= format=qemu-map)\n"
        "  /v1/snapshots/ORIGIN/PATH   internal snapshots\n"
        "  /v1/check/ORIGIN/PATH    consistency of the image's tables\n"
        "  /v1/origins  /v1/images  what is configured, what is open\n"
        "  /metrics  /healthz  /readyz\n"
        "\n"
        "  ?member=NAME  ?snapshot=ID  ?secret=NAME  "
        "?layers=qcow2,tar,gzip\n");
}
