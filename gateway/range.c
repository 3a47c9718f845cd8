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

/* One range-spec at *p.  False: malformed.  *has: it lies in the size. */
static bool take_spec(const char **p, uint64_t size, struct range *out,
                      bool *has)
{
    uint64_t a, b = UINT64_MAX;

    if (**p == '-') {
        /* 14.1.2: suffix-range, the last b bytes */
        (*p)++;
        if (!digits(p, &b))
            return false;
        *has = b > 0 && size > 0;
        a = b < size ? size - b : 0;
        b = UINT64_MAX;
    } else {
        if (!digits(p, &a) || *(*p)++ != '-')
            return false;
        if (**p >= '0' && **p <= '9' && (!digits(p, &b) || b < a))
            return false;
        *has = a < size;
    }
    /* 14.1.2: clamped to the end */
    *out = (struct range){a, b < size ? b : size - 1};
    return true;
}

/* a and b share bytes, or the gap between them is not worth a part. */
static bool are_near(const struct range *a, const struct range *b)
{
    const struct range *const low = a->first <= b->first ? a : b;
    const struct range *const high = low == a ? b : a;
    return high->first <= low->last || high->first - low->last <= RANGE_JOIN;
}

static bool do_overlap(const struct range *a, const struct range *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Put `one` to the others, joined with all that are near.  The place of the
 * first of them is kept. */
static void join(struct range *spans, size_t *n, struct range one)
{
    size_t at = SIZE_MAX;

    for (size_t i = 0; i < *n; i++) {
        if (i == at || !are_near(&spans[i], &one))
            continue;
        one.first = spans[i].first < one.first ? spans[i].first : one.first;
        one.last = spans[i].last > one.last ? spans[i].last : one.last;
        if (at == SIZE_MAX) {
            at = i;
        } else {
            const size_t gone = i > at ? i : at;
            at = i > at ? at : i;
            (*n)--;
            memmove(&spans[gone], &spans[gone + 1],
                    (*n - gone) * sizeof(*spans));
        }
        i = SIZE_MAX; /* from the start: it has grown */
    }
    if (at == SIZE_MAX)
        at = (*n)++;
    spans[at] = one;
}

enum range_kind range_parse(const char *header, uint64_t size, size_t most,
                            struct range *spans, size_t *n)
{
    size_t n_asked = 0, n_overlaps = 0;

    *n = 0;
    if (!header)
        return RANGE_WHOLE;
    const char *p = skip_ows(header);
    const size_t unit = strcspn(p, "=");
    if (p[unit] != '=' || !is_token(p, unit))
        return RANGE_UNSATISFIABLE;
    if (unit != 5 || strncasecmp(p, "bytes", 5) != 0)
        return RANGE_WHOLE;
    for (p = skip_ows(p + unit + 1); *p; p = skip_ows(p)) {
        struct range one;
        bool has = false;
        if (*p == ',') { /* 5.6.1.2: empty elements are ignored */
            p++;
            continue;
        }
        if (!take_spec(&p, size, &one, &has) || n_asked++ == most)
            return RANGE_UNSATISFIABLE;
        p = skip_ows(p);
        if (*p && *p != ',')
            return RANGE_UNSATISFIABLE;
        for (size_t i = 0; has && i < *n; i++) {
            if (do_overlap(&spans[i], &one)) {
                n_overlaps++;
                break;
            }
        }
        if (n_overlaps > RANGE_OVERLAPS)
            return RANGE_UNSATISFIABLE;
        if (has)
            join(spans, n, one);
    }
    return *n ? RANGE_PART : RANGE_UNSATISFIABLE;
}
