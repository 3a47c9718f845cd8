/* SPDX-License-Identifier: Apache-2.0 */
/* The set of open images and what is in it: for image.c, image_set.c and
 * image_one.c alone.
 *
 *     (nothing) --open--> OPENING --> OPEN --changed, evicted--> closed
 *                            |
 *                            +--> FAILED: those who waited hear it; forgotten
 *
 * One lock guards the table and the states; nothing is opened, closed, read or
 * asked while it is held.  Closing joins threads and may wait, so it is never
 * done where a reference happens to be dropped (that may be an event thread)
 * but on a thread of its own, the reaper. */
#ifndef STACK_IMAGE_SET_H
#define STACK_IMAGE_SET_H

#include "stack/image_inside.h"
#include "util/lock.h"

enum state { OPENING, OPEN, FAILED };

/* What a key begins with that is a URL's (images_open_url): no reference_key()
 * does, as its parts hold no control characters. */
enum { IMAGE_KEY_URL = 3 };

struct image {
    struct images *images;
    struct image *next_dead; /* on the reaper's list */
    char *key, *name;
    uint64_t hash;
    unsigned refs;  /* guarded by images->lock, as all down to stack */
    bool is_listed; /* in the table: the table holds one reference */
    bool is_checking;
    enum state state;
    uint64_t used_ns, checked_ns;
    struct plt_error err; /* FAILED */
    json_t *choices;      /* FAILED with PLT_CHOICE */
    struct stack *stack;  /* fixed once OPEN */
    _Atomic unsigned n_waiting;
    struct image_follow follow;
};

struct images {
    struct images_config config;
    struct registry *registry;
    struct policy *policy;
    struct secrets *secrets;
    struct crew *crew;
    struct shares *shares;
    struct cache *cache;
    struct stack_env env;
    struct catalogue *catalogue;
    struct checksums *checksums;
    struct prefetch *prefetch;
    struct traces *traces;
    uint64_t seed;

    struct lock lock;
    struct cond changed;  /* an image left OPENING, or the reaper has work */
    struct image **table; /* unordered, n of them */
    size_t n;
    struct image *dead; /* to be closed */
    size_t n_alive;     /* every image that is not freed */
    _Atomic uint64_t n_refused;
    bool is_stopping;
    pthread_t reaper;
};

/* Of a reference_key(); seeded, since clients choose the keys. */
uint64_t image_set_hash(const struct images *images, const char *key);
/* A provider has this name (provided.h). */
bool image_set_provides(const struct images *images, const char *name);
/* With the lock held: let go; who is last gives the image to the reaper. */
void image_set_unref_locked(struct images *images, struct image *image);
/* With the lock held: take out of the table; nobody finds it any more. */
void image_set_unlist_locked(struct images *images, struct image *image);

#endif
