/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/workers.h"

#include <stdlib.h>

#include "util/check.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    STACK_BYTES = 2 << 20, /* address space, of which what is used is memory: a
                              chain of 100 images opens within it, sanitizers
                              and all */
    IDLE_MS = 10 * 1000
};

struct job {
    struct job *next;
    workers_fn *fn;
    void *cookie;
};

struct workers {
    struct lock lock;
    struct cond work;  /* a job came, or the pool stops */
    struct cond ended; /* a thread ended */
    struct job *first, **last;
    unsigned n_queued, n_idle, n_threads, n_running;
    unsigned max_threads, max_queued;
    bool is_stopping;
};

struct workers *workers_new(unsigned max_threads, unsigned max_queued)
{
    struct workers *const w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    lock_init(&w->lock);
    cond_init(&w->work);
    cond_init(&w->ended);
    w->last = &w->first;
    w->max_threads = max_threads ? max_threads : 1;
    w->max_queued = max_queued;
    return w;
}

static void *run(void *arg)
{
    struct workers *const w = (struct workers *)arg;

    lock_take(&w->lock);
    for (;;) {
        const uint64_t until = clock_after_ms(IDLE_MS);
        bool in_time = true;
        w->n_idle++;
        while (!w->first && !w->is_stopping && in_time)
            in_time = cond_wait(&w->work, &w->lock, until);
        w->n_idle--;
        struct job *const job = w->first;
        if (!job)
            break;
        w->first = job->next;
        if (!w->first)
            w->last = &w->first;
        w->n_queued--;
        w->n_running++;
        lock_give(&w->lock);
        job->fn(job->cookie);
        free(job);
        lock_take(&w->lock);
        w->n_running--;
    }
    w->n_threads--;
    cond_wake_all(&w->ended);
    lock_give(&w->lock);
    return NULL;
}

/* One thread more, where jobs wait and nobody is free for them. */
static void grow_locked(struct workers *w)
{
    pthread_attr_t attr;
    pthread_t thread;

    if (w->n_idle >= w->n_queued || w->n_threads >= w->max_threads)
        return;
    ASSERT(pthread_attr_init(&attr) == 0);
    ASSERT(pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
    ASSERT(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
    if (pthread_create(&thread, &attr, run, w) == 0)
        w->n_threads++;
    ASSERT(pthread_attr_destroy(&attr) == 0);
}

bool workers_submit(struct workers *w, workers_fn *fn, void *cookie)
{
    struct job *const job = malloc(sizeof(*job));
    bool is_taken = false;

    if (!job)
        return false;
    *job = (struct job){.fn = fn, .cookie = cookie};
    lock_take(&w->lock);
    if (!w->is_stopping && w->n_queued < w->max_queued) {
        *w->last = job;
        w->last = &job->next;
        w->n_queued++;
        grow_locked(w);
        is_taken = w->n_threads > 0;
        if (!is_taken) { /* no thread at all: take it back, it is alone */
            w->first = NULL;
            w->last = &w->first;
            w->n_queued = 0;
        }
        cond_wake_one(&w->work);
    }
    lock_give(&w->lock);
    if (!is_taken)
        free(job);
    return is_taken;
}

void workers_stop(struct workers *w)
{
    lock_take(&w->lock);
    w->is_stopping = true;
    cond_wake_all(&w->work);
    while (w->n_threads)
        (void)cond_wait(&w->ended, &w->lock, CLOCK_NEVER);
    lock_give(&w->lock);
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    workers_stop(w);
    cond_release(&w->work);
    cond_release(&w->ended);
    lock_release(&w->lock);
    free(w);
}

void workers_load(struct workers *w, unsigned *queued, unsigned *running)
{
    lock_take(&w->lock);
    *queued = w->n_queued;
    *running = w->n_running;
    lock_give(&w->lock);
}
