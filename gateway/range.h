/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 9110 14.2: the Range header, text to spans.  Pure; threads: any.
 *
 * Stricter than the RFC in one place, on purpose: a `bytes` range that is
 * malformed is unsatisfiable (416) and never ignored.  The disk clients of the
 * field take a 200 of the whole for their range, and corrupt silently.  Only a
 * unit that is not `bytes` is ignored, as 14.2 demands. */
#ifndef GATEWAY_RANGE_H
#define GATEWAY_RANGE_H

#include <stddef.h>
#include <stdint.h>

enum {
    RANGE_JOIN = 80,    /* a gap of fewer bytes costs less than a part's head */
    RANGE_OVERLAPS = 2, /* more ranges that overlap others are an attack */
    RANGE_MOST = 1024   /* no configuration allows more ranges than this */
};

/* Bytes first..last of the representation, both of them in it. */
struct range {
    uint64_t first, last;
};

enum range_kind {
    RANGE_WHOLE,        /* no Range, or of another unit: 200 */
    RANGE_PART,         /* 206: *n spans */
    RANGE_UNSATISFIABLE /* 416 */
};

/* header: the field's value, or NULL.  size: bytes of the representation.
 * spans: room for `most` (1 to RANGE_MOST), the number of ranges a client may
 * ask for.  *n: how many are left, in the order of the request, after those
 * past the end were left out and neighbours were joined; 1 means a plain
 * answer, whatever was asked (RFC 9110 15.3.7.2).  More ranges than `most`, or
 * more than RANGE_OVERLAPS that overlap another one, are unsatisfiable. */
enum range_kind range_parse(const char *header, uint64_t size, size_t most,
                            struct range *spans, size_t *n);

#endif
