/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static const char *skip_ows(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* Digits at *p; a value too large for 64 bits becomes the largest one, which is
 * past every end.  False: no digit. */
static bool digits(const char **p, uint64_t *out)
{
    const char *const start = *p;
    uint64_t v = 0;

    for (; **p >= '0' && **p <= '9'; (*p)++) {
        const uint64_t d = (uint64_t)(**p - '0');
        v = v > (UINT64_MAX - d) / 10 ? UINT64_MAX : v * 10 + d;
    }
    *out = v;
    return *p > start;
}

/* RFC 9110 5.6.2 */
static bool is_token(const char *p, size_t n)
{
    static const char specials[] = "!#$%&'*+-.^_`|~";
    if (!n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        const bool is_alnum = (c >= '0' && c <= '9') ||
                              (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_alnum && !strchr(specials, c))
            return false;
    }
    return true;
}

enum range_kind range_parse(const char *header, uint64_t size, uint64_t *first,
                            uint64_t *last)
{
    if (!header)
        return RANGE_WHOLE;
    const char *p = skip_ows(header);
    const size_t unit = strcspn(p, "=");
    if (p[unit] != '=' || !is_token(p, unit))
        return RANGE_UNSATISFIABLE;
    if (unit != 5 || strncasecmp(p, "bytes", 5) != 0)
        return RANGE_WHOLE;
    p = skip_ows(p + unit + 1);
    uint64_t a, b = UINT64_MAX;
    if (*p == '-') {
        /* 14.1.2: suffix-range, the last b bytes */
        p++;
        if (!digits(&p, &b) || b == 0 || size == 0)
            return RANGE_UNSATISFIABLE;
        a = b < size ? size - b : 0;
        b = size - 1;
    } else {
        if (!digits(&p, &a) || *p++ != '-')
            return RANGE_UNSATISFIABLE;
        if (*p >= '0' && *p <= '9') {
            (void)digits(&p, &b);
            if (b < a)
                return RANGE_UNSATISFIABLE;
        }
    }
    p = skip_ows(p);
    if (*p || a >= size) /* rubbish, a second range, or past the end */
        return RANGE_UNSATISFIABLE;
    *first = a;
    *last = b < size ? b : size - 1; /* 14.1.2: clamped to the end */
    return RANGE_PART;
}
