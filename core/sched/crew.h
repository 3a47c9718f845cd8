/* SPDX-License-Identifier: Apache-2.0 */
/* A few threads that help whoever has a lot to compute: one for every core but
 * the caller's own, started when first needed.
 *
 * Nobody waits for a helper to be free: the caller works itself, and helpers
 * join while there is something left.  Threads: any. */
#ifndef SCHED_CREW_H
#define SCHED_CREW_H

#include <stddef.h>

struct crew;
typedef void crew_fn(void *cookie, size_t i);

/* new, or NULL without memory.  helpers: at most so many threads. */
struct crew *crew_new(unsigned helpers);
/* Nobody may be inside crew_run. */
void crew_free(struct crew *crew);

/* fn(cookie, i) for every i in [0, n), in any order; returns when all have
 * returned.  fn computes: it must not wait for anything. */
void crew_run(struct crew *crew, size_t n, crew_fn *fn, void *cookie);

#endif
