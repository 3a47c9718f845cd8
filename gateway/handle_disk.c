/* SPDX-License-Identifier: Apache-2.0 */
/* GET and HEAD of /disk and /raw.
 *
 *   look up -> decide -> first piece -> answer
 *
 * All of it on the event thread when everything is in memory; otherwise all of
 * it on a worker, and only the answer on the event thread.  The status line is
 * not sent before the first piece is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"
#include "util/clock.h"

/* Preconditions, then the range (RFC 9110 13.2.2): r->status, first, last. */
static void decide(struct request *r)
{
    const struct precondition p = {.if_match = r->if_match,
                                   .if_none_match = r->if_none_match,
                                   .if_modified_since = r->if_modified_since,
                                   .if_unmodified_since =
                                       r->if_unmodified_since,
                                   .if_range = r->if_range,
                                   .etag = image_etag(r->image),
                                   .mtime = image_mtime(r->image)};
    const char *const range = precondition_range_ok(&p) ? r->range : NULL;

    r->first = 0;
    r->last = r->size ? r->size - 1 : 0;
    switch (precondition_check(&p)) {
    case PRECONDITION_FAILED:
        r->status = MHD_HTTP_PRECONDITION_FAILED;
        return;
    case PRECONDITION_NOT_MODIFIED:
        r->status = MHD_HTTP_NOT_MODIFIED;
        return;
    case PRECONDITION_PASS:
    default:
        break;
    }
    switch (range_parse(range, r->size, &r->first, &r->last)) {
    case RANGE_UNSATISFIABLE:
        r->status = MHD_HTTP_RANGE_NOT_SATISFIABLE;
        break;
    case RANGE_PART:
        r->status = MHD_HTTP_PARTIAL_CONTENT;
        break;
    case RANGE_WHOLE:
    default:
        r->status = MHD_HTTP_OK;
        break;
    }
}

static uint64_t body_len(const struct request *r)
{
    const bool has_body =
        r->status == MHD_HTTP_OK || r->status == MHD_HTTP_PARTIAL_CONTENT;
    return has_body && r->size ? r->last - r->first + 1 : 0;
}

static enum plt_status read_first(struct request *r, struct plt_io *io)
{
    const uint64_t len = body_len(r);

    if (!len || r->is_head)
        return PLT_OK;
    r->piece_len = len < FIRST_PIECE ? (size_t)len : FIRST_PIECE;
    if (!r->piece)
        r->piece = malloc(r->piece_len);
    if (!r->piece)
        return plt_fail(&r->err, PLT_NOMEM, "a piece");
    const struct plt_seg seg = {r->first, r->piece_len, r->piece};
    return image_read(r->image, io, &seg, 1, &r->err);
}

/* Everything, waiting as it must. */
static void disk_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    struct request_io io;
    enum plt_status st = PLT_OK;

    request_io_init(&io, r, 0);
    if (!r->image)
        st = images_open(r->server->images, &r->reference, &io.io, &r->image,
                         &r->choices, &r->err);
    if (st == PLT_OK) {
        r->has_entered = image_enter(r->image, r->server->config->max_waiting);
        if (!r->has_entered)
            st = plt_fail(&r->err, PLT_BUSY, "too many wait for this image");
    }
    if (st == PLT_OK)
        st = image_resolve_size(r->image, &io.io, &r->size, &r->err);
    if (st == PLT_OK) {
        decide(r);
        st = read_first(r, &io.io);
    }
    if (st == PLT_OK)
        r->err.status = PLT_OK;
    if (r->has_entered) {
        image_leave(r->image);
        r->has_entered = false;
    }
    request_resume(r);
}

static void add_headers(const struct request *r, struct MHD_Response *response)
{
    char value[96];

    (void)MHD_add_response_header(response, "ETag", image_etag(r->image));
    (void)MHD_add_response_header(response, "Accept-Ranges", "bytes");
    /* May be stored, must be asked about: what it decodes to is pinned by the
     * ETag, not by time. */
    (void)MHD_add_response_header(response, "Cache-Control", "no-cache");
    precondition_format_date(image_mtime(r->image), value);
    if (value[0])
        (void)MHD_add_response_header(response, "Last-Modified", value);
    if (r->status == MHD_HTTP_NOT_MODIFIED)
        return;
    (void)MHD_add_response_header(response, "Content-Type",
                                  "application/octet-stream");
    if (r->status == MHD_HTTP_PARTIAL_CONTENT) {
        (void)snprintf(value, sizeof(value), "bytes %llu-%llu/%llu",
                       (unsigned long long)r->first,
                       (unsigned long long)r->last,
                       (unsigned long long)r->size);
        (void)MHD_add_response_header(response, "Content-Range", value);
    }
}

/* HEAD: a length and nothing to take it from. */
static ssize_t no_body(void *cookie, uint64_t pos, char *buf, size_t max)
{
    (void)cookie;
    (void)pos;
    (void)buf;
    (void)max;
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result answer_disk(struct request *r)
{
    struct MHD_Response *response;
    const uint64_t len = body_len(r);

    if (r->status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
        return answer_problem(r, r->status, "range not satisfiable",
                              "the range is malformed, is more than one, or "
                              "begins past the end");
    if (r->status == MHD_HTTP_PRECONDITION_FAILED)
        return answer_problem(r, r->status, "precondition failed",
                              "the disk is another version");
    if (r->is_head && len) {
        response =
            MHD_create_response_from_callback(len, 1024, no_body, NULL, NULL);
    } else if (r->piece && r->piece_len == len) {
        response = MHD_create_response_from_buffer(r->piece_len, r->piece,
                                                   MHD_RESPMEM_MUST_FREE);
        if (response) {
            r->piece = NULL;
            atomic_store(&r->sent, len);
        }
    } else if (len) {
        response = body_response(r);
    } else {
        response =
            MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
    if (!response)
        return MHD_NO;
    add_headers(r, response);
    return answer_queue(r, r->status, response);
}

/* All from memory?  True: answered in *result. */
static bool try_now(struct request *r, enum MHD_Result *result)
{
    struct request_io io;

    if (images_peek(r->server->images, &r->reference, &r->image) != PLT_OK)
        return false;
    r->size = image_size(r->image);
    if (r->size == PLT_SIZE_UNKNOWN)
        return false;
    decide(r);
    request_io_init(&io, r, PLT_IO_NOWAIT);
    const enum plt_status st = read_first(r, &io.io);
    if (st == PLT_AGAIN)
        return false;
    r->err.status = st;
    *result = st == PLT_OK ? answer_disk(r) : answer_error(r, &r->err);
    return true;
}

enum MHD_Result handle_disk(struct request *r)
{
    enum MHD_Result result;

    if (r->is_ready)
        return r->err.status == PLT_OK ? answer_disk(r)
                                       : answer_error(r, &r->err);
    if (try_now(r, &result))
        return result;
    /* The worker opens it anew, under its own deadline, and looks at the
     * source when that is due. */
    image_unref(r->image);
    r->image = NULL;
    free(r->piece);
    r->piece = NULL;
    request_submit(r, disk_job);
    return MHD_YES;
}
