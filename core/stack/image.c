/* SPDX-License-Identifier: Apache-2.0 */
/* The set of open images.
 *
 *     (nothing) --open--> OPENING --> OPEN --changed/evicted--> leaving -->
 * closed
 *                            |
 *                            +--> FAILED: those who waited hear it; forgotten
 *
 * One lock guards the table and the states; nothing is opened, closed, read or
 * asked while it is held.  Closing joins threads and may wait, so it is never
 * done where a reference happens to be dropped (that may be an event thread)
 * but on a thread of its own, the reaper. */
#include "stack/image.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/disk_cache.h"
#include "stack/catalogue.h"
#include "stack/image_inside.h"
#include "stack/registry.h"
#include "stack/spec.h"
#include "stack/stack.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/log.h"

enum {
    DEFAULT_MAX_OPEN = 256,
    DEFAULT_REVALIDATE_MS = 5000,
    MAX_OPEN_LIMIT = 4096,
    PREFETCH_SHARE = 4,  /* of the open images, at most so many are kept open by
                            prefetches */
    READAHEAD_SHARE = 8, /* of the budget, at most so much ahead of a stream */
    DISK_EPOCH = 1 /* change it when the keys of any driver's blocks, or what is
                      in the blocks, mean something else than before */
};

enum state { OPENING, OPEN, FAILED };

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
    bool is_stopping;
    pthread_t reaper;
};

/* FNV-1a with a seed of this process: clients choose the keys. */
static uint64_t hash_key(const struct images *images, const char *key)
{
    uint64_t h = images->seed;
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * UINT64_C(1099511628211);
    return h ^ h >> 29;
}

/* ---- Closing ---- */

static void destroy(struct image *image)
{
    image_follow_release(image);
    if (image->stack) {
        struct log_line l;
        log_begin(&l, LOG_INFO, "stack_closed");
        log_text(&l, "image", image->name);
        log_end(&l);
        stack_close(image->stack);
    }
    json_decref(image->choices);
    free(image->key);
    free(image->name);
    free(image);
}

static void *reap(void *arg)
{
    struct images *const images = (struct images *)arg;

    lock_take(&images->lock);
    while (!images->is_stopping || images->dead) {
        struct image *const image = images->dead;
        if (!image) {
            (void)cond_wait(&images->changed, &images->lock, CLOCK_NEVER);
            continue;
        }
        images->dead = image->next_dead;
        lock_give(&images->lock);
        destroy(image);
        lock_take(&images->lock);
        images->n_alive--;
        cond_wake_all(&images->changed);
    }
    lock_give(&images->lock);
    return NULL;
}

static void unref_locked(struct images *images, struct image *image)
{
    ASSERT(image->refs > 0);
    if (--image->refs > 0)
        return;
    image->next_dead = images->dead;
    images->dead = image;
    cond_wake_all(&images->changed);
}

/* Take out of the table: nobody finds it any more. */
static void unlist_locked(struct images *images, struct image *image)
{
    if (!image->is_listed)
        return;
    for (size_t i = 0; i < images->n; i++) {
        if (images->table[i] == image) {
            images->table[i] = images->table[--images->n];
            break;
        }
    }
    image->is_listed = false;
    unref_locked(images, image);
}

void image_ref(struct image *image)
{
    lock_take(&image->images->lock);
    image->refs++;
    lock_give(&image->images->lock);
}

void image_unref(struct image *image)
{
    if (!image)
        return;
    struct images *const images = image->images;
    lock_take(&images->lock);
    unref_locked(images, image);
    lock_give(&images->lock);
}

/* ---- The set ---- */

static int open_state_dir(const char *path, struct plt_error *err,
                          enum plt_status *st)
{
    *st = PLT_OK;
    if (!path)
        return -1;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        *st = plt_fail_sys(err, PLT_IO, errno, "state folder %.100s", path);
    const int fd =
        *st == PLT_OK ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (*st == PLT_OK && fd < 0)
        *st = plt_fail_sys(err, PLT_IO, errno, "state folder %.100s", path);
    return fd;
}

enum plt_status images_new(const struct images_config *config,
                           struct images **out, struct plt_error *err)
{
    enum plt_status st;
    struct images *const images = calloc(1, sizeof(*images));

    if (!images)
        return plt_fail(err, PLT_NOMEM, "the set of images");
    images->config = *config;
    if (!images->config.max_open)
        images->config.max_open = DEFAULT_MAX_OPEN;
    if (images->config.max_open > MAX_OPEN_LIMIT)
        images->config.max_open = MAX_OPEN_LIMIT;
    if (!images->config.revalidate_ms && !images->config.is_always_revalidated)
        images->config.revalidate_ms = DEFAULT_REVALIDATE_MS;
    images->env.no_sidecars = config->no_sidecars;
    lock_init(&images->lock);
    cond_init(&images->changed);
    ASSERT(RAND_bytes((unsigned char *)&images->seed, sizeof(images->seed)) ==
           1);
    images->env.state_dir = open_state_dir(config->state_dir, err, &st);
    images->policy = policy_new(config->is_local);
    images->cache = cache_new(config->cache_bytes);
    images->secrets = secrets_new();
    images->shares = shares_new();
    images->checksums = checksums_new();
    images->env.metrics = metrics_new();
    if (images->policy)
        images->catalogue =
            catalogue_new(images->env.state_dir, images->policy);
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    images->crew = crew_new(cores > 1 ? (unsigned)cores - 1 : 0);
    images->table = calloc(images->config.max_open, sizeof(*images->table));
    if (st == PLT_OK &&
        (!images->policy || !images->cache || !images->secrets ||
         !images->crew || !images->shares || !images->table ||
         !images->catalogue || !images->checksums || !images->env.metrics))
        st = plt_fail(err, PLT_NOMEM, "the set of images");
    if (st == PLT_OK)
        st = registry_load(&images->registry, config->plugin_path, err);
    images->env.cache = images->cache;
    images->env.policy = images->policy;
    images->env.secrets = images->secrets;
    images->env.crew = images->crew;
    images->env.shares = images->shares;
    if (st == PLT_OK && config->disk_cache_bytes)
        images->env.disk = disk_cache_open(
            &(struct disk_cache_config){.cache = images->cache,
                                        .dir = images->env.state_dir,
                                        .limit = config->disk_cache_bytes,
                                        .epoch = DISK_EPOCH});
    if (st == PLT_OK) {
        images->prefetch = prefetch_new(
            images->cache, (config->cache_bytes + config->disk_cache_bytes) / 2,
            images->config.max_open < PREFETCH_SHARE
                ? 1
                : images->config.max_open / PREFETCH_SHARE);
        images->traces = traces_new(images->env.state_dir, images->cache);
        if (!images->prefetch || !images->traces)
            st = plt_fail(err, PLT_NOMEM, "the set of images");
    }
    if (st == PLT_OK) {
        const int sys = pthread_create(&images->reaper, NULL, reap, images);
        if (sys != 0)
            st = plt_fail_sys(err, PLT_BUSY, sys, "a thread");
    }
    if (st != PLT_OK) {
        images->is_stopping = true; /* the reaper does not run */
        images_free(images);
        return st;
    }
    *out = images;
    return PLT_OK;
}

void images_free(struct images *images)
{
    if (!images)
        return;
    prefetch_stop(images->prefetch); /* its tasks hold images */
    lock_take(&images->lock);
    const bool has_reaper = !images->is_stopping;
    while (images->n)
        unlist_locked(images, images->table[0]);
    while (has_reaper && images->n_alive)
        (void)cond_wait(&images->changed, &images->lock, CLOCK_NEVER);
    images->is_stopping = true;
    cond_wake_all(&images->changed);
    lock_give(&images->lock);
    if (has_reaper)
        ASSERT(pthread_join(images->reaper, NULL) == 0);
    prefetch_free(images->prefetch);
    traces_free(images->traces);
    free(images->table);
    registry_free(images->registry);
    catalogue_free(images->catalogue);
    checksums_free(images->checksums);
    metrics_free(images->env.metrics);
    policy_free(images->policy);
    secrets_free(images->secrets);
    crew_free(images->crew);
    shares_free(images->shares);
    disk_cache_close(images->env.disk);
    if (images->cache)
        cache_free(images->cache);
    if (images->env.state_dir >= 0)
        (void)close(images->env.state_dir);
    cond_release(&images->changed);
    lock_release(&images->lock);
    free(images);
}

enum plt_status images_add_origin(struct images *images, const char *name,
                                  const char *base, struct plt_error *err)
{
    return policy_add_origin(images->policy, name, base, err);
}

enum plt_status images_allow_addresses(struct images *images, const char *name,
                                       const char *blocks,
                                       struct plt_error *err)
{
    return policy_allow_addresses(images->policy, name, blocks, err);
}

enum plt_status images_add_image(struct images *images, const char *name,
                                 const char *source, const char *selectors,
                                 const char *labels, struct plt_error *err)
{
    return catalogue_add(images->catalogue, name, source, selectors, labels,
                         err);
}

enum plt_status images_load_registered(struct images *images,
                                       struct plt_error *err)
{
    return catalogue_load(images->catalogue, err);
}

/* Every open image of this name, whatever else was selected: nobody finds it
 * any more, and it closes when its readers leave. */
static void drop_named(struct images *images, const char *name)
{
    lock_take(&images->lock);
    for (size_t i = images->n; i-- > 0;) {
        if (i < images->n && strcmp(images->table[i]->name, name) == 0)
            unlist_locked(images, images->table[i]);
    }
    lock_give(&images->lock);
}

enum plt_status images_register(struct images *images, json_t *entry,
                                bool *is_new, struct plt_error *err)
{
    return catalogue_register(images->catalogue, entry, is_new, err);
}

enum plt_status images_unregister(struct images *images, const char *name,
                                  struct plt_error *err)
{
    const enum plt_status st = catalogue_remove(images->catalogue, name, err);

    if (st == PLT_OK)
        drop_named(images, name);
    return st;
}

/* What an open image stands for is another place now, or none. */
static bool has_moved(struct images *images, const struct image *image)
{
    struct location now;
    struct plt_error ignored;
    struct reference r;
    bool is_same = false;
    const struct location *const was =
        image->state == OPEN ? stack_place(image->stack) : NULL;
    const bool is_alias = catalogue_get(images->catalogue, image->name, &r);

    if (was && policy_locate(images->policy, is_alias ? r.target : image->name,
                             &now, &ignored) == PLT_OK) {
        is_same = was->url ? now.url && strcmp(was->url, now.url) == 0
                           : now.folder && !strcmp(was->folder, now.folder) &&
                                 strcmp(was->path, now.path) == 0;
        location_release(&now);
    }
    if (is_alias)
        reference_release(&r);
    return !is_same;
}

/* What a registered name stands for, as one text; NULL: it is none. */
static char *registered(struct images *images, const struct image *image)
{
    struct reference r;

    if (!catalogue_get(images->catalogue, image->name, &r))
        return NULL;
    char *const key = reference_key(&r);
    reference_release(&r);
    return key;
}

void images_replace_names(struct images *images, struct images *other)
{
    lock_take(&images->lock);
    const size_t n = images->n;
    char **const was = calloc(n + 1, sizeof(*was));
    for (size_t i = 0; i < n && was; i++)
        was[i] = registered(images, images->table[i]);
    policy_replace(images->policy, other->policy);
    secrets_replace(images->secrets, other->secrets);
    catalogue_replace(images->catalogue, other->catalogue);
    /* From the end: what is taken out is replaced by the last one. */
    for (size_t i = n; i-- > 0;) {
        struct image *const image = images->table[i];
        char *const now = registered(images, image);
        const bool is_same =
            was && (was[i] ? now && strcmp(was[i], now) == 0 : !now);
        if (image->state != FAILED && (!is_same || has_moved(images, image)))
            unlist_locked(images, image);
        free(now);
        free(was ? was[i] : NULL);
    }
    lock_give(&images->lock);
    free(was);
}

enum plt_status images_add_secret(struct images *images, const char *name,
                                  const char *path, struct plt_error *err)
{
    return secrets_add_file(images->secrets, name, path, err);
}

json_t *images_origins_json(struct images *images)
{
    return policy_origins_json(images->policy);
}

json_t *images_plugins_json(struct images *images)
{
    return registry_json(images->registry);
}

struct disk_cache *images_disk_cache(struct images *images)
{
    return images->env.disk;
}

struct cache *images_cache(struct images *images)
{
    return images->cache;
}

const struct stack_metrics *images_metrics(struct images *images)
{
    return images->env.metrics;
}

/* ---- Opening ---- */

/* From a reference to an open stack.  Steals place. */
static enum plt_status build(struct images *images,
                             const struct reference *reference,
                             struct location *place, const struct spec *spec,
                             unsigned how, struct plt_io *io,
                             struct stack **stack, json_t **choices,
                             struct plt_error *err)
{
    const struct stack_request request = {
        .env = &images->env,
        .registry = images->registry,
        .place = place,
        .spec = spec,
        .member = reference->member,
        .snapshot = reference->snapshot,
        .partition = reference->partition,
        .secret = reference->secret,
        .is_list = (how & IMAGE_LIST) != 0,
        .is_described = (how & IMAGE_DESCRIBE) != 0,
        .is_vm_state = (how & IMAGE_VM_STATE) != 0};
    const uint64_t start = clock_now();
    AUTO_FREE char *label = strdup(place->label);
    const enum plt_status st = stack_open(&request, io, stack, choices, err);

    if (st == PLT_OK) {
        char layers[128] = "";
        size_t n = 0;
        for (struct node *node = stack_top(*stack); node; node = node->below)
            n += (size_t)snprintf(layers + n,
                                  n < sizeof(layers) ? sizeof(layers) - n : 0,
                                  "%s%s", n ? "," : "", node->driver->name);
        struct log_line l;
        log_begin(&l, LOG_INFO, "stack_opened");
        log_text(&l, "image", label ? label : "");
        log_text(&l, "stack", layers);
        if (node_size(stack_top(*stack)) != PLT_SIZE_UNKNOWN)
            log_number(&l, "size", node_size(stack_top(*stack)));
        log_number(&l, "ms", (clock_now() - start) / NS_PER_MS);
        log_end(&l);
    }
    return st;
}

/* A registered image's reference with the client's own selectors over it; a
 * copy (reference_release).  False: no memory.  Who asks for the file as it is
 * does not mean what the registered one is inside of it. */
static bool merge(struct images *images, const struct reference *asked,
                  struct reference *out)
{
    if (!catalogue_get(images->catalogue, asked->target, out))
        return reference_copy(out, asked);
    const struct {
        const char *own;
        char **slot;
    } table[] = {{asked->member, &out->member},
                 {asked->layers, &out->layers},
                 {asked->snapshot, &out->snapshot},
                 {asked->partition, &out->partition},
                 {asked->secret, &out->secret}};
    const bool is_file = asked->layers && !asked->layers[0];
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char *const copy = table[i].own ? strdup(table[i].own) : NULL;
        if (!table[i].own && !is_file)
            continue;
        free(*table[i].slot);
        *table[i].slot = copy;
        if (table[i].own && !copy) {
            reference_release(out);
            return false;
        }
    }
    return true;
}

static enum plt_status build_reference(struct images *images,
                                       const struct reference *asked,
                                       unsigned how, struct plt_io *io,
                                       struct stack **stack, json_t **choices,
                                       struct plt_error *err)
{
    struct reference r;
    struct spec spec = {.n_layers = 0};
    struct location *const place = calloc(1, sizeof(*place));

    if (!place || !merge(images, asked, &r)) {
        free(place);
        return plt_fail(err, PLT_NOMEM, "a location");
    }
    enum plt_status st = policy_locate(images->policy, r.target, place, err);
    if (st == PLT_OK && r.layers)
        st = spec_parse_layers(&spec, images->registry, r.layers, err);
    if (st == PLT_OK) {
        st = build(images, &r, place, &spec, how, io, stack, choices, err);
        spec_release(&spec);
    } else {
        location_release(place);
        free(place);
    }
    reference_release(&r);
    return st;
}

static struct image *find_locked(struct images *images, uint64_t hash,
                                 const char *key)
{
    for (size_t i = 0; i < images->n; i++) {
        struct image *const image = images->table[i];
        if (image->hash == hash && strcmp(image->key, key) == 0)
            return image;
    }
    return NULL;
}

/* The idle image that was used least recently goes.  False: all are in use. */
static bool close_idle_locked(struct images *images)
{
    struct image *idle = NULL;

    for (size_t i = 0; i < images->n; i++) {
        struct image *const image = images->table[i];
        if (image->refs == 1 && image->state == OPEN &&
            (!idle || image->used_ns < idle->used_ns))
            idle = image;
    }
    if (idle)
        unlist_locked(images, idle);
    return idle != NULL;
}

/* Make room for one more, in the table and in memory: every open image keeps
 * tables and points there for as long as it is open. */
static bool make_room_locked(struct images *images)
{
    enum { AT_ONCE = 8 };

    for (unsigned i = 0; i < AT_ONCE && cache_is_tight(images->cache); i++)
        (void)close_idle_locked(images);
    return images->n < images->config.max_open || close_idle_locked(images);
}

/* A new image with one reference for the caller. */
static struct image *image_new(struct images *images, char *key, uint64_t hash,
                               const char *name)
{
    struct image *const image = calloc(1, sizeof(*image));
    char *const name_copy = strdup(name);

    if (!image || !key || !name_copy) {
        free(image);
        free(name_copy);
        free(key);
        return NULL;
    }
    image->images = images;
    image->key = key;
    image->name = name_copy;
    image->hash = hash;
    image->refs = 1;
    image->used_ns = image->checked_ns = clock_now();
    return image;
}

/* Take a listed OPEN image out when its source is seen to have changed. */
static bool drop_changed_locked(struct images *images, struct image *image)
{
    if (image->state != OPEN || !stack_has_changed(image->stack))
        return false;
    unlist_locked(images, image);
    return true;
}

static bool is_due(const struct images *images, const struct image *image)
{
    return clock_now() - image->checked_ns >=
           (uint64_t)images->config.revalidate_ms * NS_PER_MS;
}

enum plt_status images_peek(struct images *images,
                            const struct reference *reference,
                            struct image **out)
{
    AUTO_FREE char *key = reference_key(reference);
    enum plt_status st = PLT_AGAIN;

    if (!key)
        return st;
    const uint64_t hash = hash_key(images, key);
    lock_take(&images->lock);
    struct image *const image = find_locked(images, hash, key);
    if (image && image->state == OPEN && !stack_has_changed(image->stack) &&
        (image->is_checking || !is_due(images, image))) {
        image->refs++;
        image->used_ns = clock_now();
        *out = image;
        st = PLT_OK;
    }
    lock_give(&images->lock);
    return st;
}

/* The opening of a listed image, by whoever found nothing there. */
static enum plt_status open_listed(struct images *images, struct image *image,
                                   const struct reference *reference,
                                   struct plt_io *io, struct plt_error *err)
{
    struct stack *stack = NULL;
    json_t *choices = NULL;
    const enum plt_status st =
        build_reference(images, reference, 0, io, &stack, &choices, err);

    lock_take(&images->lock);
    image->stack = stack;
    image->choices = choices;
    image->checked_ns = clock_now();
    image->state = st == PLT_OK ? OPEN : FAILED;
    if (st != PLT_OK) {
        image->err = *err;
        unlist_locked(images, image); /* the next asker tries again */
    }
    cond_wake_all(&images->changed);
    lock_give(&images->lock);
    return st;
}

/* Wait while somebody else opens it. */
static enum plt_status wait_open_locked(struct images *images,
                                        struct image *image, struct plt_io *io,
                                        struct plt_error *err)
    LOCK_HELD(&images->lock);
static enum plt_status wait_open_locked(struct images *images,
                                        struct image *image, struct plt_io *io,
                                        struct plt_error *err)
{
    while (image->state == OPENING) {
        const uint64_t slice = clock_after_ms(100);
        if (io->cancelled(io))
            return plt_fail(err, PLT_CANCELLED, "request withdrawn");
        if (clock_now() >= io->deadline_ns)
            return plt_fail(err, PLT_TIMEOUT, "not opened in time");
        (void)cond_wait(&images->changed, &images->lock,
                        slice < io->deadline_ns ? slice : io->deadline_ns);
    }
    if (image->state == FAILED) {
        *err = image->err;
        return image->err.status;
    }
    return PLT_OK;
}

enum plt_status images_open(struct images *images,
                            const struct reference *reference,
                            struct plt_io *io, struct image **out,
                            json_t **choices, struct plt_error *err)
{
    char *key = reference_key(reference);
    enum plt_status st;

    if (!key)
        return plt_fail(err, PLT_NOMEM, "an image's key");
    const uint64_t hash = hash_key(images, key);
    lock_take(&images->lock);
    for (;;) {
        struct image *image = find_locked(images, hash, key);
        bool is_mine = false;
        if (image && drop_changed_locked(images, image))
            continue;
        if (!image) {
            if (!make_room_locked(images)) {
                st = plt_fail(err, PLT_BUSY, "%u images are open and in use",
                              images->config.max_open);
                break;
            }
            image = image_new(images, strdup(key), hash, reference->target);
            if (!image) {
                st = plt_fail(err, PLT_NOMEM, "an image");
                break;
            }
            image->refs++; /* the table's */
            image->is_listed = true;
            images->table[images->n++] = image;
            images->n_alive++;
            is_mine = true;
        } else {
            image->refs++;
        }
        image->used_ns = clock_now();
        if (is_mine) {
            lock_give(&images->lock);
            st = open_listed(images, image, reference, io, err);
            lock_take(&images->lock);
        } else {
            st = wait_open_locked(images, image, io, err);
            /* The opener left or had less time than we have: our turn. */
            const bool is_again = image->state == FAILED &&
                                  (st == PLT_CANCELLED || st == PLT_TIMEOUT) &&
                                  !io->cancelled(io) &&
                                  clock_now() < io->deadline_ns;
            if (is_again) {
                unref_locked(images, image);
                continue;
            }
        }
        if (st == PLT_OK && !is_mine && !image->is_checking &&
            is_due(images, image)) {
            image->is_checking = true;
            lock_give(&images->lock);
            image_revalidate(image, io);
            lock_take(&images->lock);
            image->is_checking = false;
            image->checked_ns = clock_now();
        }
        if (st == PLT_OK && drop_changed_locked(images, image)) {
            unref_locked(images, image);
            continue;
        }
        if (st == PLT_OK) {
            *out = image;
        } else {
            if (st == PLT_CHOICE && choices && image->choices)
                *choices = json_deep_copy(image->choices);
            unref_locked(images, image);
        }
        break;
    }
    lock_give(&images->lock);
    free(key);
    return st;
}

/* An image of the caller's own, not in the table. */
static enum plt_status wrap(struct images *images, struct stack *stack,
                            const char *name, struct image **out,
                            struct plt_error *err)
{
    struct image *const image = image_new(images, strdup(""), 0, name);

    if (!image) {
        stack_close(stack);
        return plt_fail(err, PLT_NOMEM, "an image");
    }
    image->state = OPEN;
    image->stack = stack;
    lock_take(&images->lock);
    images->n_alive++;
    lock_give(&images->lock);
    *out = image;
    return PLT_OK;
}

enum plt_status images_open_spec(struct images *images, const char *text,
                                 const struct reference *selectors,
                                 unsigned how, struct plt_io *io,
                                 struct image **out, json_t **choices,
                                 struct plt_error *err)
{
    struct stack *stack = NULL;
    struct spec spec, layers = {.n_layers = 0};
    struct location *const place = calloc(1, sizeof(*place));

    if (!place)
        return plt_fail(err, PLT_NOMEM, "a location");
    enum plt_status st = spec_parse(&spec, images->registry, text, err);
    if (st != PLT_OK) {
        free(place);
        return st;
    }
    st = policy_locate_own(images->policy, spec.source, place, err);
    if (st == PLT_OK && selectors->layers && spec.is_pinned)
        st = plt_fail(err, PLT_INVALID, "layers twice: in the spec and apart");
    if (st == PLT_OK && selectors->layers)
        st = spec_parse_layers(&layers, images->registry, selectors->layers,
                               err);
    if (st != PLT_OK) {
        location_release(place);
        free(place);
    } else {
        st =
            build(images, selectors, place, selectors->layers ? &layers : &spec,
                  how, io, &stack, choices, err);
    }
    spec_release(&layers);
    spec_release(&spec);
    return st == PLT_OK ? wrap(images, stack, text, out, err) : st;
}

/* ---- For a description ---- */

enum plt_status images_open_described(struct images *images,
                                      const struct reference *reference,
                                      struct plt_io *io, struct image **out,
                                      json_t **choices, struct plt_error *err)
{
    struct stack *stack = NULL;
    enum plt_status st = images_open(images, reference, io, out, choices, err);

    /* Perhaps only the key is missing. */
    if (st != PLT_DENIED)
        return st;
    st = build_reference(images, reference, IMAGE_DESCRIBE, io, &stack, NULL,
                         err);
    return st == PLT_OK ? wrap(images, stack, reference->target, out, err) : st;
}

enum plt_status images_members(struct images *images,
                               const struct reference *reference,
                               struct plt_io *io, json_t **out,
                               struct plt_error *err)
{
    struct stack *stack = NULL;
    struct image *image = NULL;
    enum plt_status st = images_peek(images, reference, &image);

    /* An open image has its archive open; else open one only to list it. */
    if (st != PLT_OK) {
        st = build_reference(images, reference, IMAGE_LIST, io, &stack, NULL,
                             err);
        if (st == PLT_OK)
            st = wrap(images, stack, reference->target, &image, err);
        if (st != PLT_OK)
            return st;
    }
    st = image_members(image, io, out, err);
    image_unref(image);
    return st;
}

/* ---- One image ---- */

uint64_t image_size(const struct image *image)
{
    return node_size(stack_top(image->stack));
}

enum plt_status image_resolve_size(struct image *image, struct plt_io *io,
                                   uint64_t *size, struct plt_error *err)
{
    return node_resolve_size(stack_top(image->stack), io, size, err);
}

const char *image_etag(const struct image *image)
{
    return stack_etag(image->stack);
}

int64_t image_mtime(const struct image *image)
{
    return stack_mtime(image->stack);
}

const char *image_name(const struct image *image)
{
    return image->name;
}

enum plt_status image_read(struct image *image, struct plt_io *io,
                           const struct plt_seg *segs, size_t n,
                           struct plt_error *err)
{
    /* One image is one version for ever: once any read has seen another one,
     * no read may succeed, not even from memory of the old. */
    if (stack_has_changed(image->stack)) {
        const enum plt_status st =
            plt_fail(err, PLT_CHANGED, "the source has changed");
        (void)snprintf(err->layer, sizeof(err->layer), "%s", "source");
        return st;
    }
    return node_read(stack_top(image->stack), io, segs, n, err);
}

enum plt_status image_extents(struct image *image, struct plt_io *io,
                              uint64_t off, uint64_t len, plt_extent_fn *emit,
                              void *cookie, struct plt_error *err)
{
    return node_extents(stack_top(image->stack), io, off, len, emit, cookie,
                        err);
}

struct stack *image_stack(const struct image *image)
{
    return image->stack;
}

bool image_hides_places(const struct image *image)
{
    return !image->images->config.is_local;
}

json_t *images_registered_json(struct images *images)
{
    return catalogue_json(images->catalogue);
}

void images_visit(struct images *images,
                  void (*fn)(void *cookie, struct image *image), void *cookie)
{
    size_t n;

    lock_take(&images->lock);
    AUTO_FREE struct image **open =
        calloc(images->n + 1, sizeof(struct image *));
    n = open ? images->n : 0;
    for (size_t i = 0; i < n; i++) {
        open[i] = images->table[i];
        open[i]->refs++;
    }
    lock_give(&images->lock);
    for (size_t i = 0; i < n; i++) {
        fn(cookie, open[i]);
        image_unref(open[i]);
    }
}

struct checksums *images_checksums(struct image *image)
{
    return image->images->checksums;
}

struct image_follow *image_follow(struct image *image)
{
    return &image->follow;
}

struct prefetch *images_prefetch(struct images *images)
{
    return images->prefetch;
}

struct traces *images_traces(struct images *images)
{
    return images->traces;
}

struct images *image_images(struct image *image)
{
    return image->images;
}

uint64_t images_readahead(const struct images *images)
{
    const uint64_t asked = images->config.readahead_bytes,
                   share = images->config.cache_bytes / READAHEAD_SHARE;
    const uint64_t limit = asked < share ? asked : share;
    return limit >= READAHEAD_LEAST ? limit : 0;
}

bool image_is_listed(struct image *image)
{
    lock_take(&image->images->lock);
    const bool is_listed = image->is_listed;
    lock_give(&image->images->lock);
    return is_listed;
}

unsigned image_waiting(struct image *image)
{
    return atomic_load(&image->n_waiting);
}

unsigned image_readers(struct image *image)
{
    lock_take(&image->images->lock);
    const unsigned refs = image->refs;
    lock_give(&image->images->lock);
    return refs > 2 ? refs - 2 : 0; /* the table's, and the asker's */
}

struct cache *image_cache(struct image *image)
{
    return image->images->cache;
}

/* The parts of a key (reference_key), which is all that is kept of what was
 * asked. */
static const char *const key_parts[] = {"name",      "member", "snapshot",
                                        "partition", "secret", "layers"};
enum { KEY_PARTS = sizeof(key_parts) / sizeof(key_parts[0]) };

bool image_is_selected(const struct image *image)
{
    const char *const first = image->key + strcspn(image->key, "\1\2");
    return strchr(*first ? first + 1 : first, '\1') != NULL;
}

json_t *image_reference_json(const struct image *image)
{
    json_t *const row = json_object();
    const char *p = image->key;

    for (size_t i = 0; i < KEY_PARTS && *p; i++) {
        const size_t len = strcspn(p, "\1\2");
        if (p[len] == '\1')
            (void)json_object_set_new(row, key_parts[i], json_stringn(p, len));
        p += len + 1;
    }
    return row;
}

bool image_is_open(struct image *image)
{
    lock_take(&image->images->lock);
    const bool is_open = image->state == OPEN;
    lock_give(&image->images->lock);
    return is_open;
}

bool image_enter(struct image *image, unsigned limit)
{
    if (atomic_fetch_add(&image->n_waiting, 1) < limit)
        return true;
    (void)atomic_fetch_sub(&image->n_waiting, 1);
    return false;
}

void image_leave(struct image *image)
{
    (void)atomic_fetch_sub(&image->n_waiting, 1);
}
