/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of one read: for curl_fetch.c and curl_exact.c alone. */
#ifndef CURL_TRANSFER_H
#define CURL_TRANSFER_H

#include "curl_image.h"
#include "curl_multipart.h"

/* A request for [off, off+len), or with `parts` for the ranges in there.  It
 * fills wants, which are sorted by off. */
struct curl_transfer {
    struct curl_image *ci;
    const struct curl_want *wants;
    size_t n_wants;
    uint64_t off, len;
    struct curl_multipart *parts; /* borrowed; its spans: what is asked for */

    CURL *easy;
    struct curl_slist *headers;
    struct curl_answer answer;
    uint64_t pos;   /* in the file, of the next byte that comes */
    uint64_t left;  /* bytes that may come, without parts */
    uint64_t got;   /* bytes of body */
    size_t at_want; /* those before it end before pos */
    bool is_checked, is_done, is_running;
    bool is_one; /* parts were asked for, and come as one stretch */
    struct plt_error err;
    enum plt_status st;
    char why[CURL_ERROR_SIZE];
};

/* Run them to their ends, a few at a time, as often as it takes and is allowed.
 * PLT_UNSUPPORTED: the origin does not answer requests with parts; those that
 * are not done may be asked for in another way.  Nothing of a transfer is worth
 * anything unless it is done. */
enum plt_status curl_transfers_run(struct curl_image *ci, struct plt_io *io,
                                   struct curl_transfer *ts, size_t n,
                                   struct plt_error *err);

/* ---- curl_exact.c: a transfer with parts ---- */

/* What stands in its Range; cap: CURL_RANGES_TEXT is enough. */
enum { CURL_RANGES_TEXT = 4096 };
void curl_parts_text(const struct curl_transfer *t, char *out, size_t cap);
/* Its headers are there. */
enum plt_status curl_parts_begin(struct curl_transfer *t);
enum plt_status curl_parts_take(struct curl_transfer *t, const uint8_t *data,
                                size_t len);
enum plt_status curl_parts_end(struct curl_transfer *t);
/* Bytes of the file at t->pos into the wants; what nobody wants is dropped. */
void curl_transfer_give(struct curl_transfer *t, const uint8_t *data,
                        size_t len);

#endif
