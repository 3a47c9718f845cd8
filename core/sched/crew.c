/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/crew.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "util/check.h"
#include "util/clock.h"
#include "util/lock.h"

enum { MAX_HELPERS = 15, STACK_BYTES = 256 * 1024 };

/* On the stack of the one who runs it; helpers hold it while busy > 0. */
struct job {
    struct job *next;
    crew_fn *fn;
    void *cookie;
    size_t n;
    _Atomic size_t taken;
    unsigned busy; /* helpers inside; guarded by the crew's lock */
};

struct crew {
    struct lock lock;
    struct cond changed; /* a job came, a helper left one, or the end */
    struct job *jobs;    /* those with something left, newest first */
    pthread_t threads[MAX_HELPERS];
    unsigned n_threads, max_threads;
    bool is_stopping;
};

static void work(struct job *job)
{
    for (;;) {
        const size_t i = atomic_fetch_add(&job->taken, 1);
        if (i >= job->n)
            return;
        job->fn(job->cookie, i);
    }
}

static void *help(void *arg)
{
    struct crew *const crew = (struct crew *)arg;

    lock_take(&crew->lock);
    while (!crew->is_stopping) {
        struct job *job = crew->jobs;
        while (job && atomic_load(&job->taken) >= job->n)
            job = job->next;
        if (!job) {
            (void)cond_wait(&crew->changed, &crew->lock, CLOCK_NEVER);
            continue;
        }
        job->busy++;
        lock_give(&crew->lock);
        work(job);
        lock_take(&crew->lock);
        if (--job->busy == 0)
            cond_wake_all(&crew->changed);
    }
    lock_give(&crew->lock);
    return NULL;
}

struct crew *crew_new(unsigned helpers)
{
    struct crew *const crew = calloc(1, sizeof(*crew));

    if (!crew)
        return NULL;
    lock_init(&crew->lock);
    cond_init(&crew->changed);
    crew->max_threads = helpers < MAX_HELPERS ? helpers : MAX_HELPERS;
    return crew;
}

void crew_free(struct crew *crew)
{
    if (!crew)
        return;
    lock_take(&crew->lock);
    crew->is_stopping = true;
    cond_wake_all(&crew->changed);
    lock_give(&crew->lock);
    for (unsigned i = 0; i < crew->n_threads; i++)
        ASSERT(pthread_join(crew->threads[i], NULL) == 0);
    cond_release(&crew->changed);
    lock_release(&crew->lock);
    free(crew);
}

/* A thread that cannot be started is done without. */
static void add_helper_locked(struct crew *crew)
{
    pthread_attr_t attr;

    ASSERT(pthread_attr_init(&attr) == 0);
    ASSERT(pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
    if (pthread_create(&crew->threads[crew->n_threads], &attr, help, crew) == 0)
        crew->n_threads++;
    ASSERT(pthread_attr_destroy(&attr) == 0);
}

void crew_run(struct crew *crew, size_t n, crew_fn *fn, void *cookie)
{
    struct job job = {.fn = fn, .cookie = cookie, .n = n};

    if (n < 2 || !crew->max_threads) {
        work(&job);
        return;
    }
    lock_take(&crew->lock);
    job.next = crew->jobs;
    crew->jobs = &job;
    if (crew->n_threads < crew->max_threads && crew->n_threads + 1 < n)
        add_helper_locked(crew);
    cond_wake_all(&crew->changed);
    lock_give(&crew->lock);
    work(&job);
    lock_take(&crew->lock);
    for (struct job **p = &crew->jobs; *p; p = &(*p)->next) {
        if (*p == &job) {
            *p = job.next;
            break;
        }
    }
    while (job.busy)
        (void)cond_wait(&crew->changed, &crew->lock, CLOCK_NEVER);
    lock_give(&crew->lock);
}
