/* SPDX-License-Identifier: Apache-2.0 */
/* Values of header fields, of an answer and of the parts in one.  Pure; the
 * text ends at `end`, without a NUL.  Threads: any. */
#ifndef CURL_FIELDS_H
#define CURL_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#define CURL_TOTAL_UNKNOWN UINT64_MAX

enum { CURL_BOUNDARY = 70 }; /* characters: RFC 2046 5.1.1 */

/* Digits at *p, moved behind them.  False: none, or too many. */
bool curl_digits(const char **p, const char *end, uint64_t *out);

/* Content-Range, RFC 9110 14.4.  Of "bytes * /TOTAL" first is 1 and last is 0;
 * total may be CURL_TOTAL_UNKNOWN. */
struct curl_content_range {
    uint64_t first, last, total;
};
bool curl_content_range(const char *p, const char *end,
                        struct curl_content_range *out);

/* The boundary in a Content-Type that is multipart/byteranges.  False: it is
 * another type, has none or several, or one that RFC 2046 does not allow. */
bool curl_boundary(const char *p, const char *end, char out[CURL_BOUNDARY + 1]);

#endif
