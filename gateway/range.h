/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 9110 14.2: the Range header, text to span.  Pure; threads: any.
 *
 * Stricter than the RFC in one place, on purpose: a `bytes` range that is
 * malformed, and several ranges, are unsatisfiable (416) and never ignored. The
 * disk clients of the field take a 200 of the whole for their range, and
 * corrupt silently.  Only a unit that is not `bytes` is ignored, as 14.2
 * demands. */
#ifndef GATEWAY_RANGE_H
#define GATEWAY_RANGE_H

#include <stdint.h>

enum range_kind {
    RANGE_WHOLE,        /* no Range, or of another unit: 200 */
    RANGE_PART,         /* 206: first..last, both inside */
    RANGE_UNSATISFIABLE /* 416 */
};

/* header: the field's value, or NULL.  size: bytes of the representation. */
enum range_kind range_parse(const char *header, uint64_t size, uint64_t *first,
                            uint64_t *last);

#endif
