/* SPDX-License-Identifier: Apache-2.0 */
/* A mutex and a condition on monotonic time.  A failing lock call is our own
 * mistake and aborts.  Clang's thread-safety analysis reads the annotations on
 * functions (on members from clang 19). */
#ifndef UTIL_LOCK_H
#define UTIL_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define LOCK_ATTR(x) __attribute__((x))
#else
#define LOCK_ATTR(x)
#endif
#define LOCK_TYPE LOCK_ATTR(capability("mutex"))
#define LOCK_TAKES(...) LOCK_ATTR(acquire_capability(__VA_ARGS__))
#define LOCK_GIVES(...) LOCK_ATTR(release_capability(__VA_ARGS__))
#define LOCK_HELD(...) LOCK_ATTR(requires_capability(__VA_ARGS__))
#define LOCK_NOT_HELD(...) LOCK_ATTR(locks_excluded(__VA_ARGS__))

struct LOCK_TYPE lock {
    pthread_mutex_t mutex;
};

struct cond {
    pthread_cond_t cond; /* on CLOCK_MONOTONIC */
};

void lock_init(struct lock *lock);
void lock_release(struct lock *lock);
void lock_take(struct lock *lock) LOCK_TAKES(lock);
void lock_give(struct lock *lock) LOCK_GIVES(lock);

void cond_init(struct cond *cond);
void cond_release(struct cond *cond);
void cond_wake_all(struct cond *cond);
void cond_wake_one(struct cond *cond);
/* Wait with `lock` held until woken or until deadline_ns (clock.h).
 * False: the deadline has passed.  Wakes without cause happen: loop. */
bool cond_wait(struct cond *cond, struct lock *lock, uint64_t deadline_ns)
    LOCK_HELD(lock);

#endif
