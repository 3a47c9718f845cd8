/* SPDX-License-Identifier: Apache-2.0 */
/* A gzip member's header, RFC 1952 2.3: pure decoding.  Threads: any. */
#ifndef GZIP_HEADER_H
#define GZIP_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FEXTRA is at most 65535 bytes; a name or comment longer than 64 KiB is an
 * attack, and no tool writes one. */
enum { GZIP_MAX_HEADER = 10 + 2 + 65535 + 65536 + 65536 + 2 };

enum gzip_parse {
    GZIP_PARSED,
    GZIP_MORE, /* needs bytes behind the n given */
    GZIP_BAD   /* not a gzip header; `why` says */
};

struct gzip_header {
    size_t len;           /* bytes up to the deflate data */
    const char *why;      /* static text, after GZIP_BAD */
    const char *name;     /* FNAME, NUL-ended, borrowed; or NULL */
    const uint8_t *extra; /* FEXTRA, borrowed; or NULL */
    size_t extra_len;
};

enum gzip_parse gzip_header_parse(const uint8_t *p, size_t n,
                                  struct gzip_header *out);
/* The payload of FEXTRA's subfield (RFC 1952 2.3.1.1), borrowed; NULL: none. */
const uint8_t *gzip_header_subfield(const struct gzip_header *header, char si1,
                                    char si2, size_t *len);

#endif
