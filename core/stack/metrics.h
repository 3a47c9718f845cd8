/* SPDX-License-Identifier: Apache-2.0 */
/* What each driver's layers cost, summed over all open images.
 * Threads: any; counters only grow. */
#ifndef STACK_METRICS_H
#define STACK_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <platter/driver.h>

enum { METRICS_DRIVERS = 32, METRICS_BUCKETS = 12 };

/* Upper bounds of the histogram's buckets, in microseconds; the last one has
 * none. */
extern const uint64_t metrics_bounds_us[METRICS_BUCKETS - 1];

struct driver_metrics {
    _Atomic(const char *) name; /* borrowed from the driver; NULL: a free
                                   place.  Last set: who finds it has the rest
                                   without a lock */
    bool is_source;
    _Atomic uint64_t reads, bytes;
    _Atomic uint64_t ns; /* in reads, without those of the layers below */
    _Atomic uint64_t hits, fills; /* of its blocks in the cache */
    _Atomic uint64_t broken;      /* answers that it may not give */
    _Atomic uint64_t buckets[METRICS_BUCKETS]; /* reads by time: of sources */
};

struct stack_metrics; /* of one process */

struct stack_metrics *metrics_new(void); /* new, or NULL */
void metrics_free(struct stack_metrics *metrics);
/* The driver's place; when there are too many, a common last one. */
struct driver_metrics *metrics_of(struct stack_metrics *metrics,
                                  const struct plt_driver *driver);
/* The i-th place; NULL behind the last one in use. */
const struct driver_metrics *metrics_at(const struct stack_metrics *metrics,
                                        unsigned i);

/* Around one read of a layer: nested ones subtract themselves. */
struct metrics_span {
    uint64_t start_ns, inner_ns;
};
struct metrics_span metrics_begin(void);
void metrics_end(struct driver_metrics *metrics, struct metrics_span span,
                 uint64_t bytes);

#endif
