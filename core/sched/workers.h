/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded pool of threads for work that may wait.
 *
 * Threads start when needed, up to a maximum, have small stacks, and end after
 * a while without work.  Jobs run in the order of submission, but for those
 * whose client or origin has its share of the threads already (three quarters;
 * all of a pool of fewer than 4): these let others pass.  So one client, or one
 * origin that does not answer, never has all threads.  A submission never
 * blocks: beyond max_queued waiting jobs it is refused, and the caller answers
 * 503.  Threads: any. */
#ifndef SCHED_WORKERS_H
#define SCHED_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

struct workers;
typedef void workers_fn(void *cookie);

/* *new*, or NULL without memory. */
struct workers *workers_new(unsigned max_threads, unsigned max_queued);
/* False: refused (full, no thread could be started and none runs, or stopped).
 * fn(cookie) will then never run. */
bool workers_submit(struct workers *workers, workers_fn *fn, void *cookie);

/* Whose job it is: numbers that no one outside can choose (seeded hashes; those
 * that fall together share a share).  0: nobody's, without a share. */
struct workers_owner {
    uint64_t client, origin;
    bool is_owed; /* of an answer that has begun: a full queue is no reason */
};
bool workers_submit_for(struct workers *workers,
                        const struct workers_owner *owner, workers_fn *fn,
                        void *cookie);
/* The share of so many threads. */
unsigned workers_share(unsigned max_threads);
/* Refuse new jobs from now on, run out the queue, wait for all threads to end.
 */
void workers_stop(struct workers *workers);
/* workers_stop, and free: nobody may submit any more. */
void workers_free(struct workers *workers);
/* How many threads it may have. */
unsigned workers_most(const struct workers *workers);
/* Jobs waiting and running now, for metrics. */
void workers_load(struct workers *workers, unsigned *queued, unsigned *running);

#endif
