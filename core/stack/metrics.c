/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/lock.h"

const uint64_t metrics_bounds_us[METRICS_BUCKETS - 1] = {
    1000,   2500,   5000,    10000,   25000,   50000,
    100000, 250000, 1000000, 5000000, 30000000};

struct stack_metrics {
    struct lock lock; /* guards the giving of places */
    struct driver_metrics v[METRICS_DRIVERS];
};

/* Time that reads of layers below have taken out of the present one. */
static _Thread_local uint64_t inner_ns;

struct stack_metrics *metrics_new(void)
{
    struct stack_metrics *const m = calloc(1, sizeof(*m));
    if (m)
        lock_init(&m->lock);
    return m;
}

void metrics_free(struct stack_metrics *m)
{
    if (m)
        lock_release(&m->lock);
    free(m);
}

struct driver_metrics *metrics_of(struct stack_metrics *m,
                                  const struct plt_driver *driver)
{
    struct driver_metrics *d = m->v;

    lock_take(&m->lock);
    while (d->name && strcmp(d->name, driver->name) != 0 &&
           d < &m->v[METRICS_DRIVERS - 1])
        d++;
    if (!d->name) {
        d->is_source = driver->kind == PLT_KIND_SOURCE;
        d->name = driver->name;
    }
    lock_give(&m->lock);
    return d;
}

const struct driver_metrics *metrics_at(const struct stack_metrics *m,
                                        unsigned i)
{
    return i < METRICS_DRIVERS && m->v[i].name ? &m->v[i] : NULL;
}

struct metrics_span metrics_begin(void)
{
    const struct metrics_span span = {clock_now(), inner_ns};
    inner_ns = 0;
    return span;
}

void metrics_end(struct driver_metrics *d, struct metrics_span span,
                 uint64_t bytes)
{
    const uint64_t all = clock_now() - span.start_ns;
    const uint64_t own = all > inner_ns ? all - inner_ns : 0;
    unsigned i = 0;

    inner_ns = span.inner_ns + all;
    (void)atomic_fetch_add_explicit(&d->reads, 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&d->bytes, bytes, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&d->ns, own, memory_order_relaxed);
    if (!d->is_source)
        return;
    while (i < METRICS_BUCKETS - 1 && own / 1000 > metrics_bounds_us[i])
        i++;
    (void)atomic_fetch_add_explicit(&d->buckets[i], 1, memory_order_relaxed);
}
