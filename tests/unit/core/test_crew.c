/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers: every index exactly once, whoever asks, and all done at the return.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>

#include "sched/crew.h"

enum { N = 1000, ASKERS = 8 };

struct counted {
    _Atomic unsigned seen[N];
};

static void count(void *cookie, size_t i)
{
    struct counted *const c = (struct counted *)cookie;

    for (volatile unsigned k = 0; k < 200; k++)
        continue;
    (void)atomic_fetch_add(&c->seen[i], 1);
}

static void expect_once(struct crew *crew, size_t n)
{
    static _Thread_local struct counted c;

    for (size_t i = 0; i < N; i++)
        atomic_store(&c.seen[i], 0);
    crew_run(crew, n, count, &c);
    for (size_t i = 0; i < N; i++)
        cr_assert_eq(atomic_load(&c.seen[i]), i < n ? 1 : 0, "%zu", i);
}

Test(crew, every_index_is_run_once, .timeout = 60)
{
    static const unsigned helpers[] = {0, 1, 3, 100};
    static const size_t sizes[] = {0, 1, 2, 7, N};

    for (size_t h = 0; h < 4; h++) {
        struct crew *const crew = crew_new(helpers[h]);
        cr_assert(crew);
        for (size_t s = 0; s < 5; s++)
            for (unsigned round = 0; round < 20; round++)
                expect_once(crew, sizes[s]);
        crew_free(crew);
    }
}

static void *ask(void *arg)
{
    for (unsigned round = 0; round < 50; round++)
        expect_once((struct crew *)arg, N);
    return NULL;
}

Test(crew, many_may_ask_at_once, .timeout = 120)
{
    struct crew *const crew = crew_new(3);
    pthread_t threads[ASKERS];

    for (unsigned i = 0; i < ASKERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, ask, crew), 0);
    for (unsigned i = 0; i < ASKERS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    crew_free(crew);
}
