/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded pool of threads for work that may wait.
 *
 * Threads start when needed, up to a maximum, have small stacks, and end after
 * a while without work.  Jobs run in the order of submission.  A submission
 * never blocks: beyond max_queued waiting jobs it is refused, and the caller
 * answers 503.  Threads: any. */
#ifndef SCHED_WORKERS_H
#define SCHED_WORKERS_H

#include <stdbool.h>

struct workers;
typedef void workers_fn(void *cookie);

/* *new*, or NULL without memory. */
struct workers *workers_new(unsigned max_threads, unsigned max_queued);
/* False: refused (full, no thread could be started and none runs, or stopped).
 * fn(cookie) will then never run. */
bool workers_submit(struct workers *workers, workers_fn *fn, void *cookie);
/* Refuse new jobs from now on, run out the queue, wait for all threads to end.
 */
void workers_stop(struct workers *workers);
/* workers_stop, and free: nobody may submit any more. */
void workers_free(struct workers *workers);
/* Jobs waiting and running now, for metrics. */
void workers_load(struct workers *workers, unsigned *queued, unsigned *running);

#endif
