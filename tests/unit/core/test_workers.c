/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: bounded in threads and in queue, in order, and complete at its end.
 */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <unistd.h>

#include "sched/workers.h"
#include "util/clock.h"
#include "util/lock.h"

/* Jobs wait at a gate until it opens. */
struct gate {
    struct lock lock;
    struct cond changed;
    bool is_open;
    unsigned n_in, most_in, n_done;
    unsigned order[4096];
};

struct job {
    struct gate *gate;
    unsigned id;
};

static void gate_init(struct gate *g)
{
    *g = (struct gate){.is_open = false};
    lock_init(&g->lock);
    cond_init(&g->changed);
}

static void pass(void *cookie)
{
    const struct job *const j = cookie;
    struct gate *const g = j->gate;
    lock_take(&g->lock);
    g->n_in++;
    if (g->n_in > g->most_in)
        g->most_in = g->n_in;
    cond_wake_all(&g->changed);
    while (!g->is_open)
        (void)cond_wait(&g->changed, &g->lock, CLOCK_NEVER);
    g->n_in--;
    g->order[g->n_done++] = j->id;
    cond_wake_all(&g->changed);
    lock_give(&g->lock);
}

static void gate_open(struct gate *g)
{
    lock_take(&g->lock);
    g->is_open = true;
    cond_wake_all(&g->changed);
    lock_give(&g->lock);
}

static bool wait_in(struct gate *g, unsigned n)
{
    const uint64_t until = clock_after_ms(20000);
    bool in_time = true;
    lock_take(&g->lock);
    while (g->n_in < n && in_time)
        in_time = cond_wait(&g->changed, &g->lock, until);
    const bool ok = g->n_in >= n;
    lock_give(&g->lock);
    return ok;
}

Test(workers, jobs_of_one_thread_run_in_the_order_given)
{
    enum { JOBS = 1000 };
    static struct gate g;
    static struct job jobs[JOBS];
    struct workers *const w = workers_new(1, JOBS);
    cr_assert_not_null(w);
    gate_init(&g);
    for (unsigned i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){&g, i};
        cr_assert(workers_submit(w, pass, &jobs[i]));
    }
    gate_open(&g);
    workers_free(w);
    cr_assert_eq(g.n_done, JOBS);
    for (unsigned i = 0; i < JOBS; i++)
        cr_assert_eq(g.order[i], i);
}

Test(workers, waiting_jobs_get_threads_up_to_the_maximum_and_no_more)
{
    enum { THREADS = 4, JOBS = 20 };
    static struct gate g;
    static struct job jobs[JOBS];
    unsigned queued, running;
    struct workers *const w = workers_new(THREADS, JOBS);
    gate_init(&g);
    for (unsigned i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){&g, i};
        cr_assert(workers_submit(w, pass, &jobs[i]));
    }
    cr_assert(wait_in(&g, THREADS), "threads did not start");
    usleep(50 * 1000); /* time for one too many */
    workers_load(w, &queued, &running);
    cr_assert_eq(running, THREADS);
    cr_assert_eq(queued, JOBS - THREADS);
    gate_open(&g);
    workers_free(w);
    cr_assert_eq(g.n_done, JOBS);
    cr_assert_eq(g.most_in, THREADS);
}

Test(workers, beyond_the_queue_a_job_is_refused_at_once_and_never_runs)
{
    static struct gate g;
    struct job jobs[] = {{&g, 0}, {&g, 1}, {&g, 2}, {&g, 3}};
    struct workers *const w = workers_new(1, 2);
    gate_init(&g);
    cr_assert(workers_submit(w, pass, &jobs[0]));
    cr_assert(wait_in(&g, 1));
    cr_assert(workers_submit(w, pass, &jobs[1]));
    cr_assert(workers_submit(w, pass, &jobs[2]));
    cr_assert_not(workers_submit(w, pass, &jobs[3]));
    gate_open(&g);
    workers_free(w);
    cr_assert_eq(g.n_done, 3);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(g.order[i], i);
}

/* One thread is idle and two jobs come at once: the idle one can take only one
 * of them, so the other needs a thread more.  Either waits for both to be in.
 */
Test(workers, two_jobs_at_once_do_not_share_one_idle_thread)
{
    for (int round = 0; round < 100; round++) {
        static struct gate g;
        struct job jobs[] = {{&g, 0}, {&g, 1}, {&g, 2}};
        unsigned queued, running = 1;
        struct workers *const w = workers_new(8, 8);
        gate_init(&g);
        g.is_open = true;
        cr_assert(workers_submit(w, pass, &jobs[0]));
        lock_take(&g.lock);
        while (!g.n_done)
            (void)cond_wait(&g.changed, &g.lock, CLOCK_NEVER);
        g.is_open = false;
        lock_give(&g.lock);
        while (running)
            workers_load(w, &queued, &running);
        usleep(100); /* now it sleeps */
        cr_assert(workers_submit(w, pass, &jobs[1]));
        cr_assert(workers_submit(w, pass, &jobs[2]));
        cr_assert(wait_in(&g, 2), "round %d: a job waits behind another",
                  round);
        gate_open(&g);
        workers_free(w);
        cr_assert_eq(g.n_done, 3);
    }
}

static void count_one(void *cookie)
{
    (void)atomic_fetch_add((_Atomic unsigned *)cookie, 1);
}

struct submitter {
    struct workers *workers;
    _Atomic unsigned *ran;
    unsigned taken;
};

static void *submit_many(void *arg)
{
    struct submitter *const s = arg;
    for (int i = 0; i < 5000; i++)
        s->taken += workers_submit(s->workers, count_one, s->ran);
    return NULL;
}

Test(workers, every_job_taken_from_many_threads_runs_exactly_once)
{
    enum { SUBMITTERS = 6 };
    _Atomic unsigned ran = 0;
    pthread_t threads[SUBMITTERS];
    struct submitter s[SUBMITTERS];
    struct workers *const w = workers_new(4, 64);
    unsigned taken = 0;
    for (size_t i = 0; i < SUBMITTERS; i++) {
        s[i] = (struct submitter){w, &ran, 0};
        cr_assert_eq(pthread_create(&threads[i], NULL, submit_many, &s[i]), 0);
    }
    for (size_t i = 0; i < SUBMITTERS; i++) {
        (void)pthread_join(threads[i], NULL);
        taken += s[i].taken;
    }
    workers_free(w);
    cr_assert_gt(taken, 0);
    cr_assert_eq(atomic_load(&ran), taken);
}

Test(workers, an_unused_pool_ends_at_once)
{
    workers_free(workers_new(4, 4));
    workers_free(NULL);
}

/* One owner's jobs never hold more than three quarters of the threads, and
 * another's pass those of it that wait. */
static void check_share(const struct workers_owner *one,
                        const struct workers_owner *other)
{
    static struct gate slow, quick;
    static struct job jobs[17];
    struct workers *const w = workers_new(8, 16);
    gate_init(&slow);
    gate_init(&quick);
    for (unsigned i = 0; i < 16; i++) {
        jobs[i] = (struct job){&slow, i};
        cr_assert(workers_submit_for(w, one, pass, &jobs[i]));
    }
    cr_assert(wait_in(&slow, 6));
    usleep(50000);
    cr_assert_eq(slow.most_in, 6);
    jobs[16] = (struct job){&quick, 0};
    cr_assert(workers_submit_for(w, other, pass, &jobs[16]));
    cr_assert(wait_in(&quick, 1));
    gate_open(&quick);
    gate_open(&slow);
    workers_free(w);
    cr_assert_eq(slow.n_done, 16);
    cr_assert_eq(quick.n_done, 1);
    cr_assert_eq(slow.most_in, 6);
}

Test(workers, a_client_has_a_share_of_the_threads)
{
    check_share(&(struct workers_owner){.client = 7},
                &(struct workers_owner){.client = 8});
}

Test(workers, an_origin_has_a_share_of_the_threads)
{
    check_share(&(struct workers_owner){.client = 0, .origin = 7},
                &(struct workers_owner){.client = 0, .origin = 8});
}

Test(workers, what_is_owed_is_not_refused_by_a_full_queue)
{
    static struct gate g;
    static struct job jobs[4];
    const struct workers_owner owed = {.client = 1, .is_owed = true};
    struct workers *const w = workers_new(1, 1);
    gate_init(&g);
    for (unsigned i = 0; i < 4; i++)
        jobs[i] = (struct job){&g, i};
    cr_assert(workers_submit(w, pass, &jobs[0]));
    cr_assert(wait_in(&g, 1));
    cr_assert(workers_submit(w, pass, &jobs[1]));
    cr_assert_not(workers_submit(w, pass, &jobs[2]));
    cr_assert(workers_submit_for(w, &owed, pass, &jobs[3]));
    gate_open(&g);
    workers_free(w);
    cr_assert_eq(g.n_done, 3);
}
