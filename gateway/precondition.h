/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 9110 13: conditional requests, headers to a decision, in the order of
 * 13.2.2.  Pure; threads: any. */
#ifndef GATEWAY_PRECONDITION_H
#define GATEWAY_PRECONDITION_H

#include <stdbool.h>
#include <stdint.h>

struct precondition {
    /* values, or NULL */
    const char *if_match, *if_none_match, *if_modified_since,
        *if_unmodified_since, *if_range;
    const char *etag; /* of the representation, strong, with quotes */
    int64_t mtime;    /* of it; INT64_MIN: unknown */
    int64_t now;      /* seconds since 1970: years of two digits need it */
};

enum precondition_result {
    PRECONDITION_PASS,
    PRECONDITION_NOT_MODIFIED, /* 304 */
    PRECONDITION_FAILED        /* 412 */
};

enum precondition_result precondition_check(const struct precondition *p);
/* May the Range be honoured (13.1.5)?  Without If-Range: yes. */
bool precondition_range_ok(const struct precondition *p);

/* RFC 9110 5.6.7, all three forms of HTTP-date, to the letter, and a day of the
 * calendar.  now: a year of two digits is at most 50 years behind it.  False:
 * no date. */
bool precondition_parse_date(const char *text, int64_t now, int64_t *out);
/* IMF-fixdate of a time; out has room for 30 bytes. */
void precondition_format_date(int64_t t, char out[30]);

#endif
