/* SPDX-License-Identifier: Apache-2.0 */
/* The multipart/byteranges content of RFC 9110 14.6 (RFC 2046 5.1.1): the text
 * around the parts and how long it all is.  Pure; threads: its holder's. */
#ifndef GATEWAY_MULTIPART_H
#define GATEWAY_MULTIPART_H

#include "range.h"

enum { MULTIPART_HEAD = 192, MULTIPART_BOUNDARY = 32 };

struct part {
    struct range span;
    size_t head_len;
    char head[MULTIPART_HEAD]; /* delimiter and fields before its bytes */
};

struct multipart {
    uint64_t len; /* bytes of the whole content */
    size_t tail_len, n;
    char tail[MULTIPART_BOUNDARY + 16]; /* the closing delimiter */
    struct part parts[];
};

/* spans: n of them, inside a representation of size bytes.  boundary: at most
 * MULTIPART_BOUNDARY characters of RFC 2046's, and not to be guessed by who
 * writes the representation.  new (free); NULL without memory. */
struct multipart *multipart_new(const struct range *spans, size_t n,
                                uint64_t size, const char *boundary);

#endif
