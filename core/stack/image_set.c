/* SPDX-License-Identifier: Apache-2.0 */
/* The set's making and end, the reaper, and the names that images are asked for
 * by. */
#include "stack/image_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/random.h>
#include <unistd.h>

#include "cache/disk_cache.h"
#include "stack/catalogue.h"
#include "stack/provided.h"
#include "stack/registry.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    DEFAULT_MAX_OPEN = 256,
    DEFAULT_REVALIDATE_MS = 5000,
    MAX_OPEN_LIMIT = 4096,
    PREFETCH_SHARE = 4,  /* of the open images, at most so many are kept open by
                            prefetches */
    READAHEAD_SHARE = 8, /* of the budget, at most so much ahead of a stream */
    DISK_EPOCH = 2 /* change it when the keys of any driver's blocks, or what is
                      in the blocks, mean something else than before */
};

/* FNV-1a. */
uint64_t image_set_hash(const struct images *images, const char *key)
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

void image_set_unref_locked(struct images *images, struct image *image)
{
    ASSERT(image->refs > 0);
    if (--image->refs > 0)
        return;
    image->next_dead = images->dead;
    images->dead = image;
    cond_wake_all(&images->changed);
}

void image_set_unlist_locked(struct images *images, struct image *image)
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
    image_set_unref_locked(images, image);
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
    image_set_unref_locked(images, image);
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
    /* So few bytes come whole, and never fail (getrandom(2)). */
    ASSERT(getrandom(&images->seed, sizeof(images->seed), 0) ==
           sizeof(images->seed));
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
        image_set_unlist_locked(images, images->table[0]);
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

enum plt_status images_set_credential(struct images *images, const char *name,
                                      enum plt_credential kind,
                                      const char *file, struct plt_error *err)
{
    return policy_set_credential(images->policy, name, kind, file, err);
}

enum plt_status images_credential(const struct images *images, const char *url,
                                  enum plt_credential kind, char *buf,
                                  size_t cap, struct plt_error *err)
{
    return policy_credential(images->policy, url, kind, buf, cap, err);
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
            image_set_unlist_locked(images, images->table[i]);
    }
    lock_give(&images->lock);
}

void images_forget(struct images *images, const char *name)
{
    drop_named(images, name);
}

bool image_set_provides(const struct images *images, const char *name)
{
    const struct provider *const p = images->env.provider;
    return p && p->has(p->cookie, name);
}

bool images_has_name(struct images *images, const char *name)
{
    return policy_has_origin(images->policy, name) ||
           catalogue_has(images->catalogue, name);
}

enum plt_status images_allow_url(struct images *images, const char *url,
                                 struct plt_error *err)
{
    return policy_allow_url(images->policy, url, err);
}

bool images_has_origin_of(struct images *images, const char *target)
{
    return policy_has_origin_of(images->policy, target);
}

enum plt_status images_register(struct images *images, json_t *entry,
                                bool *is_new, struct plt_error *err)
{
    const char *const name = json_string_value(json_object_get(entry, "name"));

    if (name && image_set_provides(images, name))
        return plt_fail(err, PLT_EXISTS, "a mirror has the name %.64s", name);
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
    if (was && image_is_of_url(image))
        return policy_allow_url(images->policy, was->url, &ignored) != PLT_OK;
    const bool is_alias =
        catalogue_get(images->catalogue, image->name, &r) == PLT_OK;

    if (was && was->provided) {
        is_same = !is_alias && image_set_provides(images, image->name);
    } else if (was &&
               policy_locate(images->policy, is_alias ? r.target : image->name,
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

    if (catalogue_get(images->catalogue, image->name, &r) != PLT_OK)
        return NULL;
    char *const key = reference_key(&r);
    reference_release(&r);
    return key;
}

bool images_replace_names(struct images *images, struct images *other)
{
    lock_take(&images->lock);
    const size_t n = images->n;
    char **const was = calloc(n + 1, sizeof(*was));
    for (size_t i = 0; i < n && was; i++)
        was[i] = registered(images, images->table[i]);
    /* The only one that can fail comes first. */
    const bool is_taken =
        was && catalogue_replace(images->catalogue, other->catalogue);
    if (is_taken) {
        policy_replace(images->policy, other->policy);
        secrets_replace(images->secrets, other->secrets);
    }
    /* From the end: what is taken out is replaced by the last one. */
    for (size_t i = n; i-- > 0;) {
        struct image *const image = images->table[i];
        char *const now = registered(images, image);
        const bool is_same =
            was && (was[i] ? now && strcmp(was[i], now) == 0 : !now);
        if (is_taken && image->state != FAILED &&
            (!is_same || has_moved(images, image)))
            image_set_unlist_locked(images, image);
        free(now);
        free(was ? was[i] : NULL);
    }
    lock_give(&images->lock);
    free(was);
    return is_taken;
}

enum plt_status images_add_secret(struct images *images, const char *name,
                                  const char *path, struct plt_error *err)
{
    return secrets_add_file(images->secrets, name, path, err);
}

enum plt_status images_files(struct images *images,
                             const struct folder_query *query,
                             struct folder_list *out, struct plt_error *err)
{
    return folder_list(images->policy, query, out, err);
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

struct catalogue *images_catalogue(struct images *images)
{
    return images->catalogue;
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

struct prefetch *images_prefetch(struct images *images)
{
    return images->prefetch;
}

struct traces *images_traces(struct images *images)
{
    return images->traces;
}

uint64_t images_readahead(const struct images *images)
{
    const uint64_t asked = images->config.readahead_bytes,
                   share = images->config.cache_bytes / READAHEAD_SHARE;
    const uint64_t limit = asked < share ? asked : share;
    return limit >= READAHEAD_LEAST ? limit : 0;
}
