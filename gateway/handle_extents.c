/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/extents: rows, in several tools' shapes, or sums and what is in memory,
 * for a picture. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "route.h"

/* Rows of one answer: a page of JSON that a tool still likes to read. */
enum { MAX_EXTENTS = 100000 };

/* ovirt-imageio's shape of extents: a hole reads through to the backing chain,
 * and here there is nothing further to read through to. */
static json_t *imageio_extents(json_t *rows)
{
    json_t *const out = json_array();
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        json_t *const is_dirty = json_object_get(row, "dirty");
        json_t *const made = json_object();
        (void)json_object_set(made, "start", json_object_get(row, "start"));
        (void)json_object_set(made, "length", json_object_get(row, "length"));
        if (is_dirty)
            (void)json_object_set(made, "dirty", is_dirty);
        (void)json_object_set_new(
            made, "zero",
            json_boolean(json_is_true(json_object_get(row, "zero"))));
        if (!is_dirty)
            (void)json_object_set_new(
                made, "hole",
                json_boolean(json_is_false(json_object_get(row, "present"))));
        (void)json_array_append_new(out, made);
    }
    return out;
}

static enum plt_status rows_json(struct request *r, struct plt_io *io)
{
    enum { OURS, QEMU, IMAGEIO };
    static const char *const formats[] = {"platter", "qemu-map", "imageio",
                                          NULL};
    enum plt_status st;
    char *const context = reference_query(r->query, "context", &st);
    uint64_t start = 0, length = 0;
    unsigned format;

    if (st != PLT_OK)
        st = plt_fail(&r->err, st, "malformed context");
    else
        st = take_word(r, "format", formats, &format, &r->err);
    if (st == PLT_OK)
        st = take_number(r, "start", 0, &start, &r->err);
    if (st == PLT_OK)
        st = take_number(r, "length", PLT_SIZE_MAX, &length, &r->err);
    if (st == PLT_OK)
        st = image_extents_json(r->image, io, start, length, context,
                                MAX_EXTENTS, &r->json, &r->err);
    free(context);
    if (st != PLT_OK || format == OURS)
        return st;
    if (json_object_get(r->json, "next"))
        return plt_fail(&r->err, PLT_INVALID,
                        "more than %d extents: ask in parts, with start= and "
                        "length=",
                        MAX_EXTENTS);
    json_t *const rows = json_object_get(r->json, "extents");
    json_t *const out =
        format == QEMU ? json_incref(rows) : imageio_extents(rows);
    json_decref(r->json);
    r->json = out;
    return out ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a list");
}

/* ---- Sums ---- */

static enum plt_status has_parameter(const struct request *r, const char *name,
                                     bool *out)
{
    enum plt_status st;
    char *const text = reference_query(r->query, name, &st);

    *out = text != NULL;
    free(text);
    return st;
}

static enum plt_status sums_json(struct request *r, struct plt_io *io)
{
    static const char *const contexts[] = {"zero", "cache", NULL};
    uint64_t start, length, buckets;
    bool has_format = false;
    unsigned is_live;
    enum plt_status st = take_number(r, "buckets", 0, &buckets, &r->err);

    if (st == PLT_OK && (!buckets || buckets > IMAGE_BUCKETS))
        st =
            plt_fail(&r->err, PLT_INVALID, "buckets is 1 to %d", IMAGE_BUCKETS);
    if (st == PLT_OK)
        st = has_parameter(r, "format", &has_format);
    if (st == PLT_OK && has_format)
        st = plt_fail(&r->err, PLT_INVALID, "sums have no format");
    if (st == PLT_OK)
        st = take_word(r, "context", contexts, &is_live, &r->err);
    if (st == PLT_OK)
        st = take_number(r, "start", 0, &start, &r->err);
    if (st == PLT_OK)
        st = take_number(r, "length", PLT_SIZE_MAX, &length, &r->err);
    if (st != PLT_OK)
        return st;
    r->is_dense = true;
    r->has_validator = !is_live;
    return (is_live ? image_live_json : image_sums_json)(
        r->image, io, start, length, (unsigned)buckets, &r->json, &r->err);
}

bool extents_look(struct request *r)
{
    enum plt_status st;
    char *const context = reference_query(r->query, "context", &st);
    const bool is_live = context && strcmp(context, "cache") == 0;

    free(context);
    return is_live &&
           images_look(r->server->images, &r->reference, &r->image) == PLT_OK;
}

enum plt_status extents_job(struct request *r, struct plt_io *io)
{
    bool has_buckets;
    const enum plt_status st = has_parameter(r, "buckets", &has_buckets);

    if (st != PLT_OK)
        return plt_fail(&r->err, st, "malformed buckets");
    return has_buckets ? sums_json(r, io) : rows_json(r, io);
}

/* The entity tag of sums: the disk's, and what was said of it.  The disk's
 * alone would not do: a compressed stream tells its zeros as they are found,
 * under the one tag. */
bool extents_validate(struct request *r)
{
    const char *const disk = image_etag(r->image); /* "TAG" */
    uint8_t digest[EVP_MAX_MD_SIZE];
    int n = 0;

    if (EVP_Digest(r->text, strlen(r->text), digest, NULL, EVP_sha256(), NULL))
        n = snprintf(r->etag, sizeof(r->etag),
                     "%.*s-%02x%02x%02x%02x%02x%02x\"", (int)strlen(disk) - 1,
                     disk, digest[0], digest[1], digest[2], digest[3],
                     digest[4], digest[5]);
    return n > 0;
}

enum MHD_Result answer_extents(struct request *r)
{
    const struct precondition p = {.if_match = r->if_match,
                                   .if_none_match = r->if_none_match,
                                   .etag = r->etag,
                                   .mtime = INT64_MIN};
    struct MHD_Response *response;
    char *const text = r->text;

    switch (precondition_check(&p)) {
    case PRECONDITION_FAILED:
        return answer_problem(r, MHD_HTTP_PRECONDITION_FAILED,
                              "precondition failed",
                              "the disk, or what is known of it, is another");
    case PRECONDITION_NOT_MODIFIED:
        response =
            MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        if (response) {
            answer_header(r, response, "ETag", r->etag);
            answer_header(r, response, "Cache-Control", "no-cache");
        }
        return answer_queue(r, MHD_HTTP_NOT_MODIFIED, response);
    case PRECONDITION_PASS:
    default:
        r->text = NULL;
        return answer_json_text(r, MHD_HTTP_OK, text, "application/json");
    }
}
