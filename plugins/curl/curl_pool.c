/* SPDX-License-Identifier: Apache-2.0 */
/* Connections outlive the images that opened them: the next image of the same
 * server needs none of its own, and many open images keep few. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_image.h"

struct idle {
    CURLM *lane;
    char site[sizeof(((struct curl_image *)NULL)->site)];
};

struct curl_pool {
    pthread_mutex_t lock;
    struct idle idle[CURL_LANES]; /* used last: at the end */
    unsigned n;
};

void *curl_pool_make(void)
{
    struct curl_pool *const pool = calloc(1, sizeof(*pool));

    if (pool)
        (void)pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void curl_pool_destroy(void *object)
{
    struct curl_pool *const pool = (struct curl_pool *)object;

    for (unsigned i = 0; i < pool->n; i++)
        (void)curl_multi_cleanup(pool->idle[i].lane);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static void remove_at(struct curl_pool *pool, unsigned i)
{
    memmove(&pool->idle[i], &pool->idle[i + 1],
            (--pool->n - i) * sizeof(pool->idle[0]));
}

CURLM *curl_lane_take(struct curl_image *ci)
{
    struct curl_pool *const pool = ci->pool;
    CURLM *lane = NULL;

    (void)pthread_mutex_lock(&pool->lock);
    for (unsigned i = pool->n; i-- > 0 && !lane;) {
        if (strcmp(pool->idle[i].site, ci->site) == 0) {
            lane = pool->idle[i].lane;
            remove_at(pool, i);
        }
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (lane)
        return lane;
    lane = curl_multi_init();
    if (lane)
        (void)curl_multi_setopt(lane, CURLMOPT_MAXCONNECTS,
                                (long)CURL_PARALLEL);
    return lane;
}

void curl_lane_give(struct curl_image *ci, CURLM *lane)
{
    struct curl_pool *const pool = ci->pool;
    CURLM *old = NULL;

    (void)pthread_mutex_lock(&pool->lock);
    if (pool->n == CURL_LANES) {
        old = pool->idle[0].lane;
        remove_at(pool, 0);
    }
    struct idle *const i = &pool->idle[pool->n++];
    i->lane = lane;
    (void)snprintf(i->site, sizeof(i->site), "%s", ci->site);
    (void)pthread_mutex_unlock(&pool->lock);
    if (old)
        (void)curl_multi_cleanup(old);
}
