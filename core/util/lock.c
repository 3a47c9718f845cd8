/* SPDX-License-Identifier: Apache-2.0 */
#include "util/lock.h"

#include <errno.h>

#include "util/check.h"
#include "util/clock.h"

void lock_init(struct lock *lock)
{
    ASSERT(pthread_mutex_init(&lock->mutex, NULL) == 0);
}

void lock_release(struct lock *lock)
{
    ASSERT(pthread_mutex_destroy(&lock->mutex) == 0);
}

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif

void lock_take(struct lock *lock)
{
    ASSERT(pthread_mutex_lock(&lock->mutex) == 0);
}

void lock_give(struct lock *lock)
{
    ASSERT(pthread_mutex_unlock(&lock->mutex) == 0);
}

void cond_init(struct cond *cond)
{
    pthread_condattr_t attr;
    ASSERT(pthread_condattr_init(&attr) == 0);
    ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&cond->cond, &attr) == 0);
    ASSERT(pthread_condattr_destroy(&attr) == 0);
}

void cond_release(struct cond *cond)
{
    ASSERT(pthread_cond_destroy(&cond->cond) == 0);
}

void cond_wake_all(struct cond *cond)
{
    ASSERT(pthread_cond_broadcast(&cond->cond) == 0);
}

void cond_wake_one(struct cond *cond)
{
    ASSERT(pthread_cond_signal(&cond->cond) == 0);
}

bool cond_wait(struct cond *cond, struct lock *lock, uint64_t deadline_ns)
{
    const struct timespec until = clock_timespec(deadline_ns);
    const int sys = pthread_cond_timedwait(&cond->cond, &lock->mutex, &until);
    ASSERT(sys == 0 || sys == ETIMEDOUT);
    return sys == 0;
}
