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
    IDLE_MS = 10 * 1000,
    SHARES = 1024 /* of each kind; owners that fall together share one */
};

enum share_of { OF_CLIENT, OF_ORIGIN, SHARE_KINDS };

struct job {
    struct job *next;
    workers_fn *fn;
    void *cookie;
    unsigned *shares[SHARE_KINDS]; /* running jobs of its owners; NULL: none */
};

struct workers {
    struct lock lock;
    struct cond work;  /* a job came, or the pool stops */
    struct cond ended; /* a thread ended */
    struct job *first, **last;
    unsigned n_queued, n_idle, n_threads, n_running;
    unsigned max_threads, max_queued, share;
    unsigned running[SHARE_KINDS][SHARES];
    bool is_stopping;
};

unsigned workers_share(unsigned max_threads)
{
    return max_threads < 4 ? max_threads : max_threads - max_threads / 4;
}

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
    w->share = workers_share(w->max_threads);
    return w;
}

static bool may_run(const struct workers *w, const struct job *job)
{
    for (unsigned i = 0; i < SHARE_KINDS; i++) {
        if (job->shares[i] && *job->shares[i] >= w->share)
            return false;
    }
    return true;
}

static void count(struct job *job, int by)
{
    for (unsigned i = 0; i < SHARE_KINDS; i++) {
        if (job->shares[i])
            *job->shares[i] += (unsigned)by;
    }
}

/* The first job in the queue whose owners have not their share; NULL: none.
 * When a share has room again its thread looks here next, so that nobody has to
 * be woken for it. */
static struct job *pick_locked(struct workers *w) LOCK_HELD(&w->lock);
static struct job *pick_locked(struct workers *w)
{
    struct job **link = &w->first;

    while (*link && !may_run(w, *link))
        link = &(*link)->next;
    struct job *const job = *link;
    if (!job)
        return NULL;
    *link = job->next;
    if (!*link)
        w->last = link;
    w->n_queued--;
    w->n_running++;
    count(job, 1);
    return job;
}

static void *run(void *arg)
{
    struct workers *const w = (struct workers *)arg;

    lock_take(&w->lock);
    for (;;) {
        const uint64_t until = clock_after_ms(IDLE_MS);
        bool in_time = true;
        struct job *job;
        w->n_idle++;
        while (!(job = pick_locked(w)) && !w->is_stopping && in_time)
            in_time = cond_wait(&w->work, &w->lock, until);
        w->n_idle--;
        if (!job)
            break;
        lock_give(&w->lock);
        job->fn(job->cookie);
        lock_take(&w->lock);
        count(job, -1);
        free(job);
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
    return workers_submit_for(w, &(struct workers_owner){.client = 0}, fn,
                              cookie);
}

static unsigned *share_of(struct workers *w, enum share_of kind, uint64_t owner)
{
    return owner ? &w->running[kind][owner % SHARES] : NULL;
}

bool workers_submit_for(struct workers *w, const struct workers_owner *owner,
                        workers_fn *fn, void *cookie)
{
    struct job *const job = malloc(sizeof(*job));
    bool is_taken = false;

    if (!job)
        return false;
    *job = (struct job){.fn = fn,
                        .cookie = cookie,
                        .shares = {share_of(w, OF_CLIENT, owner->client),
                                   share_of(w, OF_ORIGIN, owner->origin)}};
    lock_take(&w->lock);
    if (!w->is_stopping && (owner->is_owed || w->n_queued < w->max_queued)) {
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

unsigned workers_most(const struct workers *w)
{
    return w->max_threads;
}

void workers_load(struct workers *w, unsigned *queued, unsigned *running)
{
    lock_take(&w->lock);
    *queued = w->n_queued;
    *running = w->n_running;
    lock_give(&w->lock);
}
