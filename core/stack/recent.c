/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/recent.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"

/* So many of the newest are looked at for one that a request continues: as many
 * readers in order may run side by side. */
enum { LOOKED_AT = 16 };

struct entry {
    struct recent_span span;
    uint64_t first_ns;
};

struct recent {
    atomic_flag is_taken;
    unsigned n, next; /* used; where the next one goes */
    struct entry v[RECENT_SPANS];
};

struct recent *recent_new(void)
{
    struct recent *const r = calloc(1, sizeof(*r));

    if (r)
        atomic_flag_clear(&r->is_taken);
    return r;
}

void recent_free(struct recent *r)
{
    free(r);
}

static bool touches(const struct recent_span *s, uint64_t off, uint64_t len)
{
    return off <= s->off + s->len && s->off <= off + len;
}

static void widen(struct recent_span *s, uint64_t off, uint64_t len)
{
    const uint64_t a = off < s->off ? off : s->off;
    const uint64_t b =
        off + len > s->off + s->len ? off + len : s->off + s->len;

    s->off = a;
    s->len = b - a;
}

static void note(struct recent *r, uint64_t off, uint64_t len, uint64_t now)
{
    const unsigned n = r->n < LOOKED_AT ? r->n : LOOKED_AT;

    for (unsigned i = 1; i <= n; i++) {
        struct entry *const e =
            &r->v[(r->next + RECENT_SPANS - i) % RECENT_SPANS];
        /* now may be before it: another thread's clock was read later */
        if (now < e->first_ns + RECENT_JOIN_MS * NS_PER_MS &&
            touches(&e->span, off, len)) {
            widen(&e->span, off, len);
            e->span.ns = now > e->span.ns ? now : e->span.ns;
            return;
        }
    }
    r->v[r->next] = (struct entry){{off, len, now}, now};
    r->next = (r->next + 1) % RECENT_SPANS;
    r->n += r->n < RECENT_SPANS;
}

void recent_see(struct recent *r, uint64_t off, uint64_t len, uint64_t now)
{
    if (atomic_flag_test_and_set_explicit(&r->is_taken, memory_order_acquire))
        return;
    note(r, off, len, now);
    atomic_flag_clear_explicit(&r->is_taken, memory_order_release);
}

static int newest_first(const void *a, const void *b)
{
    const uint64_t x = ((const struct recent_span *)a)->ns;
    const uint64_t y = ((const struct recent_span *)b)->ns;

    return (x < y) - (x > y);
}

size_t recent_list(struct recent *r, uint64_t now,
                   struct recent_span out[RECENT_SPANS])
{
    size_t n = 0;

    /* Whoever has it writes one entry, or copies them as we will. */
    while (
        atomic_flag_test_and_set_explicit(&r->is_taken, memory_order_acquire))
        (void)sched_yield();
    for (unsigned i = 1; i <= r->n; i++) {
        const struct entry *const e =
            &r->v[(r->next + RECENT_SPANS - i) % RECENT_SPANS];
        if (e->span.ns + RECENT_MS * NS_PER_MS > now)
            out[n++] = e->span;
    }
    atomic_flag_clear_explicit(&r->is_taken, memory_order_release);
    qsort(out, n, sizeof(*out), newest_first);
    return n;
}
