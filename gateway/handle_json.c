/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that is described rather than served. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "query.h"
#include "route.h"
#include "stack/json_memory.h"
#include "util/clock.h"

extern const unsigned char embedded_openapi[]; /* openapi.json, built in */

/* A page of JSON that a person or a tool still likes to read. */
enum { LONG_TEXT = 4 << 20, MAX_FINDINGS = 1000 };

static enum plt_status checksum_wanted(struct request *r,
                                       const char **algorithm, uint64_t *block)
{
    static const char *const words[] = {"sha256", "sha512", NULL};
    unsigned at;
    enum plt_status st = take_word(r, "algorithm", words, &at, &r->err);

    if (st == PLT_OK)
        st = take_number(r, "block_size", 0, block, &r->err);
    *algorithm = words[at];
    return st == PLT_OK ? image_checksum_can(*algorithm, *block, &r->err) : st;
}

static enum plt_status checksum_json(struct request *r, struct plt_io *io,
                                     image_progress_fn *progress, void *cookie)
{
    const uint64_t wait_ms = (uint64_t)r->server->config->deadline_s * 1000;
    char hex[IMAGE_CHECKSUM_TEXT];
    const char *algorithm;
    uint64_t block;
    enum plt_status st = checksum_wanted(r, &algorithm, &block);

    /* Events are sent while it is made; what is wrong is told before. */
    if (st == PLT_OK && r->wants_events && !progress)
        return PLT_OK;
    if (st != PLT_OK)
        return st;
    /* It is as long as the disk: only each read has a deadline. */
    io->deadline_ns = CLOCK_NEVER;
    st = image_checksum(r->image, io, algorithm, block, wait_ms, progress,
                        cookie, hex, &r->err);
    if (st != PLT_OK)
        return st;
    r->json = json_pack("{s:s, s:s, s:s, s:I}", "algorithm", algorithm,
                        "checksum", hex, "etag", image_etag(r->image),
                        "virtual-size", (json_int_t)image_size(r->image));
    if (r->json && block)
        (void)json_object_set_new(r->json, "block_size",
                                  json_integer((json_int_t)block));
    return r->json ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a checksum");
}

/* A driver that says how far it is has a whole deadline from there on. */
struct check_progress {
    struct plt_io *io;
    uint64_t wait_ms;
    image_progress_fn *tell;
    void *cookie;
};

static void on_check(void *cookie, uint64_t done, uint64_t all)
{
    struct check_progress *const p = (struct check_progress *)cookie;

    p->io->deadline_ns = clock_after_ms(p->wait_ms);
    p->tell(p->cookie, done, all);
}

static enum plt_status check_json(struct request *r, struct plt_io *io,
                                  image_progress_fn *progress, void *cookie)
{
    struct check_progress p = {
        .io = io,
        .wait_ms = (uint64_t)r->server->config->deadline_s * 1000,
        .tell = progress,
        .cookie = cookie};

    /* As of checksums: where there is nothing to check is told before. */
    if (r->wants_events && !progress && image_has_check(r->image))
        return PLT_OK;
    if (progress) /* not every driver says how far it is */
        events_keep((struct events *)cookie);
    return image_check_json(r->image, io, MAX_FINDINGS,
                            progress ? on_check : NULL, &p, &r->json, &r->err);
}

/* How far it reaches, or the index itself. */
static enum plt_status index_json(struct request *r, struct plt_io *io)
{
    static const char *const formats[] = {"json", "platter", "gztool", "gzidx",
                                          NULL};
    static const char *const forms[] = {NULL, NULL, "gztool", "indexed_gzip"};
    unsigned at;
    enum plt_status st = take_word(r, "format", formats, &at, &r->err);

    if (st != PLT_OK)
        return st;
    r->is_foreign = forms[at] != NULL;
    if (!at)
        return image_index_json(r->image, &r->json, &r->err);
    st = image_index_get(r->image, io, forms[at], &r->piece, &r->piece_len,
                         &r->err);
    if (st != PLT_OK || request_hold(r, r->piece_len))
        return st;
    r->over = BUDGET_CLIENT_MEMORY;
    return plt_fail(&r->err, PLT_NOMEM, "for an index");
}

static enum plt_status describe(struct request *r, struct plt_io *io)
{
    switch (r->route->kind) {
    case KIND_EXTENTS:
        return extents_job(r, io);
    case KIND_PARTITIONS:
        return image_partitions_json(r->image, io, &r->json, &r->err);
    case KIND_SNAPSHOTS:
        return image_snapshots_json(r->image, io, &r->json, &r->err);
    case KIND_CHECK:
        return check_json(r, io, NULL, NULL);
    case KIND_CHECKSUM:
        return checksum_json(r, io, NULL, NULL);
    case KIND_INDEX:
        return index_json(r, io);
    default:
        r->json = image_info(r->image);
        return r->json ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a description");
    }
}

static void json_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    const uint64_t lost = json_memory_lost();
    struct request_io io;
    enum plt_status st;

    request_io_init(&io, r, 0);
    if (r->route->kind == KIND_MEMBERS) {
        budgets_json_begin();
        st = images_members(r->server->images, &r->reference, &io.io, &r->json,
                            &r->err);
    } else {
        st = r->route->kind == KIND_EXTENTS && extents_look(r)
                 ? PLT_OK
                 : images_open_described(r->server->images, &r->reference,
                                         &io.io, &r->image, &r->choices,
                                         &r->err);
        if (st == PLT_OK) {
            image_enter(r->image);
            r->has_entered = true;
        }
        budgets_json_begin(); /* what others open with us is not ours */
        if (st == PLT_OK)
            st = describe(r, &io.io);
    }
    if (st == PLT_OK && r->route->also && json_is_array(r->json) &&
        (r->route->kind == KIND_MEMBERS || r->route->kind == KIND_SNAPSHOTS))
        st = page_cut(r);
    /* Here and not where it is sent: a long one takes a while. */
    if (st == PLT_OK && r->json)
        r->text =
            json_dumps(r->json, r->is_dense ? JSON_COMPACT : JSON_INDENT(2));
    if (r->text && r->has_validator && !extents_validate(r))
        st = plt_fail(&r->err, PLT_NOMEM, "a validator");
    if (!budgets_json_end()) {
        r->over = BUDGET_CLIENT_MEMORY;
        r->err.status = plt_fail(&r->err, PLT_NOMEM, "for a long answer");
    } else if (st == PLT_OK && json_memory_lost() != lost) {
        r->err.status = plt_fail(&r->err, PLT_NOMEM, "a description");
    } else if (st == PLT_OK) {
        r->err.status = PLT_OK;
    }
    json_decref(r->json);
    r->json = NULL;
    /* What it was made of goes back: each thread's arena would keep it. */
    if (r->text && strlen(r->text) > LONG_TEXT)
        (void)malloc_trim(0);
    request_resume(r);
}

static enum MHD_Result answer_bytes(struct request *r)
{
    struct MHD_Response *const response = MHD_create_response_from_buffer(
        r->piece_len, r->piece, MHD_RESPMEM_MUST_FREE);

    if (!response)
        return answer_queue(r, MHD_HTTP_OK, NULL);
    r->piece = NULL;
    answer_header(r, response, "Content-Type",
                  r->is_foreign ? "application/octet-stream"
                                : "application/vnd.platter.index");
    answer_header(r, response, "Cache-Control", "no-store");
    return answer_queue(r, MHD_HTTP_OK, response);
}

enum MHD_Result handle_image_json(struct request *r)
{
    if (!r->is_ready) {
        request_submit(r, json_job);
        return MHD_YES;
    }
    if (r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    if (r->piece)
        return answer_bytes(r);
    if (r->etag[0])
        return answer_extents(r);
    if (r->route->kind == KIND_CHECKSUM && r->wants_events)
        return answer_events(r, checksum_json);
    if (r->route->kind == KIND_CHECK && r->wants_events)
        return answer_events(r, check_json);
    char *const text = r->text;
    r->text = NULL;
    return answer_json_text(r, MHD_HTTP_OK, text, "application/json");
}

enum MHD_Result handle_origins(struct request *r)
{
    return answer_list(r, images_origins_json(r->server->images));
}

enum MHD_Result handle_errors(struct request *r)
{
    struct list_page page;
    size_t total;

    r->err.status = take_page(r, &page, &r->err);
    if (r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    json_t *const list =
        errors_json(r->server->errors, page.first, page.most, &total);
    return answer_page(r, list, &page, total);
}

enum MHD_Result handle_health(struct request *r)
{
    return answer_text(r, MHD_HTTP_OK, "text/plain", "ok\n");
}

enum MHD_Result handle_ready(struct request *r)
{
    const char *const state_dir = r->server->config->state_dir;
    const char *why = NULL;

    if (atomic_load(&r->server->is_draining))
        why = "draining\n";
    else if (state_dir && access(state_dir, W_OK | X_OK) != 0)
        why = "the state folder cannot be written\n";
    return answer_text(r, why ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK,
                       "text/plain", why ? why : "ready\n");
}

enum MHD_Result handle_openapi(struct request *r)
{
    return answer_text(r, MHD_HTTP_OK, "application/json",
                       (const char *)embedded_openapi);
}
