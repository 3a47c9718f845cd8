/* SPDX-License-Identifier: Apache-2.0 */
/* GET and HEAD of /disk and /raw, and of what is served as they are
 * (content.h).
 *
 *   look up -> decide -> first piece -> answer
 *
 * All of it on the event thread when everything is in memory; otherwise all of
 * it on a worker, and only the answer on the event thread.  The status line is
 * not sent before the first piece is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "digest.h"
#include "route.h"
#include "util/clock.h"

/* The ranges that are asked for, of a disk whose size is known. */
static enum plt_status take_ranges(struct request *r, const char *text)
{
    const size_t most =
        text && strchr(text, ',') ? r->server->config->max_ranges : 1;
    struct range one, *const spans =
                          most > 1 ? malloc(most * sizeof(*spans)) : &one;
    enum plt_status st = PLT_OK;
    size_t n = 0;

    if (!spans)
        return plt_fail(&r->err, PLT_NOMEM, "ranges");
    switch (range_parse(text, r->size, most, spans, &n)) {
    case RANGE_UNSATISFIABLE:
        r->status = MHD_HTTP_RANGE_NOT_SATISFIABLE;
        break;
    case RANGE_PART:
        r->status = MHD_HTTP_PARTIAL_CONTENT;
        r->first = spans[0].first;
        r->last = spans[0].last;
        break;
    case RANGE_WHOLE:
    default:
        r->status = MHD_HTTP_OK;
        break;
    }
    if (n > 1) {
        r->multi = multipart_new(spans, n, r->size, request_boundary(r));
        if (!r->multi)
            st = plt_fail(&r->err, PLT_NOMEM, "ranges");
    }
    if (spans != &one)
        free(spans);
    return st;
}

static const char *etag_of(const struct request *r)
{
    return r->content ? r->content->etag : image_etag(r->image);
}

/* RFC 9110 8.8.2.1: a time that is still to come must not be told; now stands
 * for it, which no client can name afterwards. */
static int64_t last_modified(const struct request *r)
{
    if (r->content)
        return INT64_MIN;
    const int64_t mtime = image_mtime(r->image), now = (int64_t)time(NULL);

    return mtime < now ? mtime : now;
}

/* Preconditions, then the range (RFC 9110 13.2.2): r->status, the spans. */
static enum plt_status decide(struct request *r)
{
    const struct precondition p = {.if_match = r->if_match,
                                   .if_none_match = r->if_none_match,
                                   .if_modified_since = r->if_modified_since,
                                   .if_unmodified_since =
                                       r->if_unmodified_since,
                                   .if_range = r->if_range,
                                   .etag = etag_of(r),
                                   .mtime = last_modified(r),
                                   .now = (int64_t)time(NULL)};

    free(r->multi);
    r->multi = NULL;
    r->first = 0;
    r->last = r->size ? r->size - 1 : 0;
    switch (precondition_check(&p)) {
    case PRECONDITION_FAILED:
        r->status = MHD_HTTP_PRECONDITION_FAILED;
        return PLT_OK;
    case PRECONDITION_NOT_MODIFIED:
        r->status = MHD_HTTP_NOT_MODIFIED;
        return PLT_OK;
    case PRECONDITION_PASS:
    default:
        return take_ranges(r, precondition_range_ok(&p) ? r->range : NULL);
    }
}

static uint64_t content_len(const struct request *r)
{
    const bool has_body =
        r->status == MHD_HTTP_OK || r->status == MHD_HTTP_PARTIAL_CONTENT;

    if (r->multi)
        return r->multi->len;
    return has_body && r->size ? r->last - r->first + 1 : 0;
}

/* All parts with their text, in one read: what is scattered on the disk becomes
 * one vectored read for every layer below. */
static enum plt_status read_parts(struct request *r, struct plt_io *io)
{
    const struct multipart *const m = r->multi;
    struct plt_seg *const segs = calloc(m->n, sizeof(*segs));
    uint8_t *p = r->piece;

    if (!segs)
        return plt_fail(&r->err, PLT_NOMEM, "a piece");
    for (size_t i = 0; i < m->n; i++) {
        const struct part *const part = &m->parts[i];
        const size_t len = (size_t)(part->span.last - part->span.first + 1);
        memcpy(p, part->head, part->head_len);
        p += part->head_len;
        segs[i] = (struct plt_seg){part->span.first, len, p};
        p += len;
    }
    memcpy(p, m->tail, m->tail_len);
    const enum plt_status st = request_read(r, io, segs, m->n, &r->err);
    free(segs);
    return st;
}

static enum plt_status read_first(struct request *r, struct plt_io *io)
{
    const uint64_t len = content_len(r);
    bool is_whole = r->multi && len <= MULTI_PIECE;
    uint64_t first = r->first, most = r->last - r->first + 1;

    if (!len || r->is_head)
        return PLT_OK;
    if (r->multi) {
        first = r->multi->parts[0].span.first;
        most = r->multi->parts[0].span.last - first + 1;
    }
    if ((io->flags & PLT_IO_NOWAIT) && !r->multi && !r->content &&
        lent_take(r, io, first, most))
        return PLT_OK;
    if (is_whole)
        r->piece_len = (size_t)len;
    else if (r->content && r->content->is_digested)
        r->piece_len = (size_t)most; /* a block */
    else
        r->piece_len = most < FIRST_PIECE ? (size_t)most : (size_t)FIRST_PIECE;
    if (r->piece_len > PIECE_SMALL && !request_hold(r, r->piece_len)) {
        /* Too many hold too much: the rest is pulled, by small pieces. */
        is_whole = false;
        r->piece_len = most < PIECE_SMALL ? (size_t)most : (size_t)PIECE_SMALL;
        budgets_refuse(r->server->budgets, BUDGET_CLIENT_MEMORY, r->client,
                       r->id);
    }
    r->piece = piece_new(r->piece_len);
    if (!r->piece)
        return plt_fail(&r->err, PLT_NOMEM, "a piece");
    if (is_whole)
        return read_parts(r, io);
    const struct plt_seg seg = {first, r->piece_len, r->piece};
    return request_read(r, io, &seg, 1, &r->err);
}

/* Told when it has been read: a source that saw what comes next before it would
 * take the two for two readers.  A long answer is read ahead of by body.c,
 * several ranges are nobody's order. */
static void tell(const struct request *r, bool is_hit)
{
    const uint64_t len = content_len(r);

    if (len && !r->multi && !r->is_head && !r->content)
        image_seen(r->image, r->client_number, r->first, len, is_hit);
}

/* What clients ask for is shown; also while it is waited for. */
static void note(const struct request *r)
{
    const uint64_t len = content_len(r);

    if (!len || r->is_head || r->content)
        return;
    if (!r->multi)
        image_asked(r->image, r->first, len);
    for (size_t i = 0; r->multi && i < r->multi->n; i++) {
        const struct range *const span = &r->multi->parts[i].span;
        image_asked(r->image, span->first, span->last - span->first + 1);
    }
}

/* What is served, and how long it is. */
static enum plt_status find_size(struct request *r, struct plt_io *io)
{
    enum plt_status st;

    if (r->route->kind == KIND_DISK)
        return image_resolve_size(r->image, io, &r->size, &r->err);
    if (r->route->kind == KIND_BLOCK)
        st = content_of_block(r, io);
    else if (r->wants_events && r->part == PART_HEAD)
        return PLT_OK; /* its progress is sent while it is made */
    else
        st = content_of_manifest(r, io);
    if (st == PLT_OK)
        r->size = r->content->size;
    return st;
}

/* Everything, waiting as it must. */
static void disk_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    struct request_io io;
    enum plt_status st = PLT_OK;

    const enum request_kind kind = r->route->kind;

    request_io_init(&io, r, 0);
    if (!r->image && kind != KIND_BLOCK)
        st = images_open(r->server->images, &r->reference, &io.io, &r->image,
                         &r->choices, &r->err);
    if (st == PLT_OK && kind != KIND_BLOCK) {
        image_enter(r->image);
        r->has_entered = true;
    }
    if (st == PLT_OK)
        st = find_size(r, &io.io);
    const bool has_events = kind == KIND_MANIFEST && !r->content;
    if (st == PLT_OK && !has_events)
        st = decide(r);
    if (st == PLT_OK && !has_events) {
        note(r);
        st = read_first(r, &io.io);
    }
    if (st == PLT_OK) {
        if (!has_events)
            tell(r, false);
        r->err.status = PLT_OK;
    }
    if (r->has_entered) {
        image_leave(r->image);
        r->has_entered = false;
    }
    request_resume(r);
}

/* RFC 9530, for who asks: Content-Digest where the content is in one piece,
 * Repr-Digest where somebody has had the checksum made. */
static void add_digests(struct request *r, const uint8_t *content, size_t len,
                        struct MHD_Response *response)
{
    enum digest_algorithm a = digest_wanted(r->want_content_digest);
    char field[DIGEST_FIELD] = "", hex[IMAGE_CHECKSUM_TEXT];

    if (a == DIGEST_NONE && r->content && r->content->is_digested)
        a = DIGEST_SHA256;
    if (content && a != DIGEST_NONE)
        digest_field(a, content, len, field);
    if (field[0])
        answer_header(r, response, "Content-Digest", field);
    a = digest_wanted(r->want_repr_digest);
    if (a == DIGEST_NONE || r->content ||
        !image_known_checksum(r->image, digest_name(a), 0, hex))
        return;
    digest_field_of_hex(a, hex, field);
    if (field[0])
        answer_header(r, response, "Repr-Digest", field);
}

static void add_headers(struct request *r, struct MHD_Response *response)
{
    char value[96];

    answer_header(r, response, "ETag", etag_of(r));
    answer_header(r, response, "Accept-Ranges", "bytes");
    /* May be stored, must be asked about: what it decodes to is pinned by the
     * ETag, not by time. */
    answer_header(r, response, "Cache-Control",
                  r->content ? r->content->cache_control : "no-cache");
    precondition_format_date(last_modified(r), value);
    if (value[0])
        answer_header(r, response, "Last-Modified", value);
    if (r->status == MHD_HTTP_NOT_MODIFIED)
        return;
    if (r->multi) {
        (void)snprintf(value, sizeof(value),
                       "multipart/byteranges; boundary=%s", r->boundary);
        answer_header(r, response, "Content-Type", value);
        return;
    }
    answer_header(r, response, "Content-Type",
                  r->content ? r->content->type : "application/octet-stream");
    if (r->status == MHD_HTTP_PARTIAL_CONTENT) {
        (void)snprintf(value, sizeof(value), "bytes %llu-%llu/%llu",
                       (unsigned long long)r->first,
                       (unsigned long long)r->last,
                       (unsigned long long)r->size);
        answer_header(r, response, "Content-Range", value);
    }
}

/* HEAD and 304: a length and nothing to take it from. */
static ssize_t no_body(void *cookie, uint64_t pos, char *buf, size_t max)
{
    (void)cookie;
    (void)pos;
    (void)buf;
    (void)max;
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* More ranges than may be, of all reasons for a 416. */
static bool has_too_many(const struct request *r)
{
    unsigned n = 1;

    for (const char *p = r->range; p && *p; p++)
        n += *p == ',';
    return n > r->server->config->max_ranges;
}

static enum MHD_Result answer_disk(struct request *r)
{
    struct MHD_Response *response;
    const bool is_same = r->status == MHD_HTTP_NOT_MODIFIED;
    /* 8.6: a 304 has the length of the 200, or none */
    const uint64_t len = is_same ? r->size : content_len(r);
    const uint8_t *content = NULL; /* all of it, when it is at hand */

    if (r->status == MHD_HTTP_RANGE_NOT_SATISFIABLE && has_too_many(r))
        budgets_refuse(r->server->budgets, BUDGET_RANGES, r->client, r->id);
    if (r->status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
        return answer_problem(r, r->status, "range not satisfiable",
                              "the range is malformed, begins past the end, or "
                              "is one of too many");
    if (r->status == MHD_HTTP_PRECONDITION_FAILED)
        return answer_problem(r, r->status, "precondition failed",
                              "the disk is another version");
    if ((r->is_head || is_same) && len) {
        response =
            MHD_create_response_from_callback(len, 1024, no_body, NULL, NULL);
    } else if (r->loan) {
        response = lent_response(r);
    } else if (r->piece && r->piece_len == len) {
        content = r->piece;
        response = piece_response(r->piece, r->piece_len);
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
        return answer_queue(r, r->status, NULL);
    if (r->want_content_digest || r->want_repr_digest ||
        (r->content && r->content->is_digested))
        add_digests(r, content, (size_t)len, response);
    add_headers(r, response);
    return answer_queue(r, r->status, response);
}

/* What is served, without waiting; PLT_AGAIN. */
static enum plt_status find_now(struct request *r, struct plt_io *io)
{
    enum plt_status st = PLT_OK;

    if (r->route->kind == KIND_BLOCK ||
        (r->wants_events && r->part == PART_HEAD) ||
        images_peek(r->server->images, &r->reference, &r->image) != PLT_OK)
        return PLT_AGAIN;
    if (r->route->kind == KIND_MANIFEST) {
        st = content_of_manifest(r, io);
        if (st == PLT_OK)
            r->size = r->content->size;
    } else {
        r->size = image_size(r->image);
    }
    return st == PLT_OK && r->size == PLT_SIZE_UNKNOWN ? PLT_AGAIN : st;
}

/* All from memory?  True: answered in *result. */
static bool try_now(struct request *r, enum MHD_Result *result)
{
    struct request_io io;

    request_io_init(&io, r, PLT_IO_NOWAIT);
    enum plt_status st = find_now(r, &io.io);
    if (st == PLT_OK)
        st = decide(r);
    if (st == PLT_OK)
        st = read_first(r, &io.io);
    if (st == PLT_AGAIN)
        return false;
    if (st == PLT_OK) {
        note(r);
        tell(r, true);
    }
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
    if (r->content)
        r->content->release(r->content);
    r->content = NULL;
    free(r->piece);
    r->piece = NULL;
    request_let_go(r);
    request_submit(r, disk_job);
    return MHD_YES;
}
