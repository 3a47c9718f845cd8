/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/shares.h"

#include <stdlib.h>

#include "util/check.h"
#include "util/lock.h"

enum { MAX_DRIVERS = 64 };

struct share {
    const struct plt_driver *driver;
    void *object;
    void (*destroy)(void *object);
    unsigned refs;
};

struct shares {
    struct lock lock; /* held over make() and destroy(): nobody sees half */
    struct share v[MAX_DRIVERS];
};

struct shares *shares_new(void)
{
    struct shares *const s = calloc(1, sizeof(*s));
    if (s)
        lock_init(&s->lock);
    return s;
}

void shares_free(struct shares *shares)
{
    if (!shares)
        return;
    for (size_t i = 0; i < MAX_DRIVERS; i++)
        ASSERT(shares->v[i].refs == 0);
    lock_release(&shares->lock);
    free(shares);
}

/* The driver's own, or a free one; NULL: neither. */
static struct share *find(struct shares *shares,
                          const struct plt_driver *driver)
{
    struct share *unused = NULL;

    for (size_t i = 0; i < MAX_DRIVERS; i++) {
        struct share *const s = &shares->v[i];
        if (s->refs && s->driver == driver)
            return s;
        if (!s->refs && !unused)
            unused = s;
    }
    return unused;
}

void *shares_get(struct shares *shares, const struct plt_driver *driver,
                 void *(*make)(void), void (*destroy)(void *object))
{
    void *object = NULL;

    lock_take(&shares->lock);
    struct share *const s = find(shares, driver);
    if (s && !s->refs)
        *s = (struct share){
            .driver = driver, .object = make(), .destroy = destroy};
    if (s && s->object) {
        s->refs++;
        object = s->object;
    }
    lock_give(&shares->lock);
    return object;
}

void shares_put(struct shares *shares, const struct plt_driver *driver)
{
    lock_take(&shares->lock);
    struct share *const s = find(shares, driver);
    ASSERT(s && s->refs && s->driver == driver);
    if (--s->refs == 0)
        s->destroy(s->object);
    lock_give(&shares->lock);
}
