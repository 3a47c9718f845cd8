/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/extent_sum.h"

#include <stdlib.h>

#include "util/check.h"

bool extent_sum_init(struct extent_sum *s, uint64_t start, uint64_t length,
                     unsigned n)
{
    ASSERT(n > 0 && n <= EXTENT_SUM_MAX);
    *s = (struct extent_sum){.start = start, .length = length, .n = n};
    for (size_t i = 0; i < EXTENT_KINDS; i++) {
        s->bytes[i] = calloc(n, sizeof(*s->bytes[i]));
        if (!s->bytes[i]) {
            extent_sum_release(s);
            return false;
        }
    }
    return true;
}

void extent_sum_release(struct extent_sum *s)
{
    for (size_t i = 0; i < EXTENT_KINDS; i++) {
        free(s->bytes[i]);
        s->bytes[i] = NULL;
    }
}

uint64_t extent_sum_edge(const struct extent_sum *s, unsigned i)
{
    /* floor(i*length/n) without a product that does not fit */
    return s->start + i * (s->length / s->n) + i * (s->length % s->n) / s->n;
}

enum extent_kind extent_kind(const struct plt_extent *x)
{
    if (x->flags & PLT_EXTENT_ABSENT)
        return EXTENT_HOLE;
    if (x->flags & PLT_EXTENT_ZERO)
        return EXTENT_ZERO;
    return x->flags & PLT_EXTENT_COMPRESSED ? EXTENT_COMPRESSED : EXTENT_DATA;
}

bool extent_has_offset(const struct plt_extent *x)
{
    return x->flags & (PLT_EXTENT_MAPPED | PLT_EXTENT_RESERVED);
}

/* What a row says of an extent. */
static uint32_t shown(const struct plt_extent *x)
{
    return x->flags &
           (PLT_EXTENT_ZERO | PLT_EXTENT_COMPRESSED | PLT_EXTENT_ABSENT |
            PLT_EXTENT_DIRTY | PLT_EXTENT_MAPPED);
}

bool extent_same(const struct plt_extent *a, const struct plt_extent *b)
{
    return shown(a) == shown(b) && a->depth == b->depth &&
           extent_has_offset(a) == extent_has_offset(b) &&
           (!extent_has_offset(a) || a->child_off + a->len == b->child_off);
}

bool extent_sum_take(void *cookie, const struct plt_extent *x)
{
    struct extent_sum *const s = (struct extent_sum *)cookie;
    uint64_t *const bytes = s->bytes[extent_kind(x)];
    const uint64_t end = x->off + x->len;

    if (s->last.len && extent_same(&s->last, x)) {
        s->last.len += x->len;
    } else {
        s->last = *x;
        s->runs++;
    }
    for (uint64_t off = x->off; off < end;) {
        uint64_t edge = extent_sum_edge(s, s->at + 1);
        while (edge <= off && s->at + 1 < s->n)
            edge = extent_sum_edge(s, ++s->at + 1);
        ASSERT(off < edge);
        const uint64_t to = end < edge ? end : edge;
        bytes[s->at] += to - off;
        off = to;
    }
    return true;
}
