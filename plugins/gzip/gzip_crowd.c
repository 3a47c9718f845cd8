/* SPDX-License-Identifier: Apache-2.0 */
#include "gzip_crowd.h"

#include <pthread.h>
#include <stdlib.h>

enum { MOST = 2 };

struct gzip_crowd {
    pthread_mutex_t lock;
    unsigned n; /* guarded by lock */
};

void *gzip_crowd_make(void)
{
    struct gzip_crowd *const c = calloc(1, sizeof(*c));

    if (c)
        (void)pthread_mutex_init(&c->lock, NULL);
    return c;
}

void gzip_crowd_destroy(void *object)
{
    struct gzip_crowd *const c = (struct gzip_crowd *)object;

    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

bool gzip_crowd_enter(struct gzip_crowd *c)
{
    bool has_place = true;

    if (!c)
        return true;
    pthread_mutex_lock(&c->lock);
    has_place = c->n < MOST;
    c->n += has_place;
    pthread_mutex_unlock(&c->lock);
    return has_place;
}

void gzip_crowd_leave(struct gzip_crowd *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->n--;
    pthread_mutex_unlock(&c->lock);
}
