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
    unsigned n_streams;
    CURLSH *share;
    pthread_mutex_t shared[CURL_LOCK_DATA_LAST]; /* by curl_lock_data */
};

static void on_lock(CURL *easy, curl_lock_data what, curl_lock_access access,
                    void *cookie)
{
    struct curl_pool *const pool = (struct curl_pool *)cookie;

    (void)easy;
    (void)access;
    (void)pthread_mutex_lock(&pool->shared[what]);
}

static void on_unlock(CURL *easy, curl_lock_data what, void *cookie)
{
    struct curl_pool *const pool = (struct curl_pool *)cookie;

    (void)easy;
    (void)pthread_mutex_unlock(&pool->shared[what]);
}

/* Connections are not shared: libcurl's are one multi handle's at a time. */
static CURLSH *make_share(struct curl_pool *pool)
{
    CURLSH *const share = curl_share_init();

    if (!share)
        return NULL;
    (void)curl_share_setopt(share, CURLSHOPT_LOCKFUNC, on_lock);
    (void)curl_share_setopt(share, CURLSHOPT_UNLOCKFUNC, on_unlock);
    (void)curl_share_setopt(share, CURLSHOPT_USERDATA, pool);
    (void)curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    (void)curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    return share;
}

void *curl_pool_make(void)
{
    struct curl_pool *const pool = calloc(1, sizeof(*pool));

    if (!pool)
        return NULL;
    (void)pthread_mutex_init(&pool->lock, NULL);
    for (size_t i = 0; i < CURL_LOCK_DATA_LAST; i++)
        (void)pthread_mutex_init(&pool->shared[i], NULL);
    pool->share = make_share(pool); /* NULL: it goes without */
    return pool;
}

void curl_pool_destroy(void *object)
{
    struct curl_pool *const pool = (struct curl_pool *)object;

    for (unsigned i = 0; i < pool->n; i++)
        (void)curl_multi_cleanup(pool->idle[i].lane);
    (void)curl_share_cleanup(pool->share);
    for (size_t i = 0; i < CURL_LOCK_DATA_LAST; i++)
        (void)pthread_mutex_destroy(&pool->shared[i]);
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

CURLSH *curl_pool_share(struct curl_pool *pool)
{
    return pool->share;
}

bool curl_pool_stream_begins(struct curl_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    const bool has_room = pool->n_streams < CURL_STREAMS;
    pool->n_streams += has_room;
    (void)pthread_mutex_unlock(&pool->lock);
    return has_room;
}

void curl_pool_stream_ended(struct curl_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    pool->n_streams--;
    (void)pthread_mutex_unlock(&pool->lock);
}
