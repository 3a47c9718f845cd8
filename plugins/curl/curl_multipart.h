/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to a request for several ranges: multipart/byteranges (RFC 9110
 * 14.6), read as it streams.  It must be just what was asked for: each range
 * once, in any order, alone or with its neighbours in one part, of a file of
 * the right length.  Pure: nothing is kept of bodies.
 * Threads: any, on one's own objects. */
#ifndef CURL_MULTIPART_H
#define CURL_MULTIPART_H

#include <stddef.h>

#include "curl_fields.h"

enum {
    CURL_PART_LINE = 512,  /* bytes of a line in a part's head */
    CURL_PART_HEAD = 2048, /* bytes of such a head */
    /* Between two ranges that come as one part: a server may join what costs
     * less than a head (RFC 9110 15.3.7.2). */
    CURL_PART_GAP = 4096
};

/* A range that is asked for. */
struct curl_span {
    uint64_t off, len;   /* bytes; len at least 1 */
    size_t want, n_want; /* of the reader's, the first and how many */
    bool is_here;        /* a part has it */
};

enum curl_multipart_state {
    CURL_PART_START,     /* of the body */
    CURL_PART_FIELDS,    /* in a head */
    CURL_PART_AFTER,     /* in a body, or at the line's end behind it */
    CURL_PART_DELIMITER, /* before the next, or the end */
    CURL_PART_OVER
};

struct curl_multipart {
    struct curl_span *spans; /* borrowed: ascending, apart */
    size_t n;
    uint64_t total; /* bytes of the file */
    char boundary[CURL_BOUNDARY + 1];
    enum curl_multipart_state state;
    bool has_blank, has_range;
    bool is_other_total; /* a part is of a file of another length */
    struct curl_content_range range;
    uint64_t at, left; /* in a part's body: next byte, and how many */
    size_t head_len, line_len;
    char line[CURL_PART_LINE];
};

/* Bytes of the file from off on, of a part that began with spans[span]. */
typedef void curl_part_fn(void *cookie, size_t span, uint64_t off,
                          const uint8_t *data, size_t len);

void curl_multipart_init(struct curl_multipart *m, const char *boundary,
                         struct curl_span *spans, size_t n, uint64_t total);
/* More of the body.  NULL, or what is wrong with it. */
const char *curl_multipart_feed(struct curl_multipart *m, const uint8_t *data,
                                size_t len, curl_part_fn *emit, void *cookie);
/* The body is over.  NULL, or what is missing. */
const char *curl_multipart_end(const struct curl_multipart *m);
/* Bytes first to last answer spans, whole ones that nothing has answered yet;
 * *span is the first.  False: they do not. */
bool curl_multipart_claim(struct curl_span *spans, size_t n, uint64_t first,
                          uint64_t last, size_t *span);

#endif
