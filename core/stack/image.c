/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: from a reference to an image, single flight (image_set.h). */
#include "stack/image_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/catalogue.h"
#include "stack/registry.h"
#include "stack/spec.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/log.h"

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
        .is_vm_state = (how & IMAGE_VM_STATE) != 0,
        .is_exact = (how & IMAGE_EXACT) != 0};
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
    const enum plt_status st =
        catalogue_get(images->catalogue, asked->target, out);
    if (st != PLT_OK)
        return st == PLT_NOT_FOUND && reference_copy(out, asked);
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

static enum plt_status locate_provided(const char *name, struct location *out,
                                       struct plt_error *err)
{
    out->provided = strdup(name);
    out->label = strdup(name);
    return out->provided && out->label ? PLT_OK
                                       : plt_fail(err, PLT_NOMEM, "a location");
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
    const bool is_provided = image_set_provides(images, r.target);
    enum plt_status st =
        is_provided ? locate_provided(r.target, place, err)
                    : policy_locate(images->policy, r.target, place, err);
    /* What a guest wrote on its disk is not looked into. */
    spec.is_pinned = is_provided;
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

/* The bytes that lie at a URL, as they are. */
static enum plt_status build_url(struct images *images, const char *url,
                                 struct plt_io *io, struct stack **stack,
                                 struct plt_error *err)
{
    static const struct reference none = {.target = NULL};
    static const struct spec raw = {.is_pinned = true};
    struct location *const place = calloc(1, sizeof(*place));

    if (!place)
        return plt_fail(err, PLT_NOMEM, "a location");
    const enum plt_status st =
        policy_locate_url(images->policy, url, place, err);
    if (st != PLT_OK) {
        free(place);
        return st;
    }
    return build(images, &none, place, &raw, IMAGE_EXACT, io, stack, NULL, err);
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
        image_set_unlist_locked(images, idle);
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
    image_set_unlist_locked(images, image);
    return true;
}

static bool is_due(const struct images *images, const struct image *image)
{
    return clock_now() - image->checked_ns >=
           (uint64_t)images->config.revalidate_ms * NS_PER_MS;
}

static enum plt_status take_open(struct images *images,
                                 const struct reference *reference,
                                 bool is_fresh, struct image **out)
{
    AUTO_FREE char *key = reference_key(reference);
    enum plt_status st = PLT_AGAIN;

    if (!key)
        return st;
    const uint64_t hash = image_set_hash(images, key);
    lock_take(&images->lock);
    struct image *const image = find_locked(images, hash, key);
    if (image && image->state == OPEN && !stack_has_changed(image->stack) &&
        (!is_fresh || image->is_checking || !is_due(images, image))) {
        image->refs++;
        image->used_ns = clock_now();
        *out = image;
        st = PLT_OK;
    }
    lock_give(&images->lock);
    return st;
}

enum plt_status images_peek(struct images *images,
                            const struct reference *reference,
                            struct image **out)
{
    return take_open(images, reference, true, out);
}

enum plt_status images_look(struct images *images,
                            const struct reference *reference,
                            struct image **out)
{
    return take_open(images, reference, false, out);
}

/* What an image of the set is opened for: a client's reference, or a URL. */
struct wish {
    const struct reference *reference;
    const char *url; /* when reference is NULL */
    const char *key; /* equal keys: the same image */
    const char *name;
};

/* The opening of a listed image, by whoever found nothing there. */
static enum plt_status open_listed(struct images *images, struct image *image,
                                   const struct wish *wish, struct plt_io *io,
                                   struct plt_error *err)
{
    struct stack *stack = NULL;
    json_t *choices = NULL;
    const enum plt_status st =
        wish->reference ? build_reference(images, wish->reference, 0, io,
                                          &stack, &choices, err)
                        : build_url(images, wish->url, io, &stack, err);

    lock_take(&images->lock);
    image->stack = stack;
    image->choices = choices;
    image->checked_ns = clock_now();
    image->state = st == PLT_OK ? OPEN : FAILED;
    if (st != PLT_OK) {
        image->err = *err;
        image_set_unlist_locked(images, image); /* the next asker tries again */
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

static enum plt_status open_shared(struct images *images,
                                   const struct wish *wish, struct plt_io *io,
                                   struct image **out, json_t **choices,
                                   struct plt_error *err)
{
    const uint64_t hash = image_set_hash(images, wish->key);
    enum plt_status st;

    lock_take(&images->lock);
    for (;;) {
        struct image *image = find_locked(images, hash, wish->key);
        bool is_mine = false;
        if (image && drop_changed_locked(images, image))
            continue;
        if (!image) {
            if (!make_room_locked(images)) {
                (void)atomic_fetch_add(&images->n_refused, 1);
                st = plt_fail(err, PLT_BUSY, "%u images are open and in use",
                              images->config.max_open);
                break;
            }
            image = image_new(images, strdup(wish->key), hash, wish->name);
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
            st = open_listed(images, image, wish, io, err);
            lock_take(&images->lock);
        } else {
            st = wait_open_locked(images, image, io, err);
            /* The opener left or had less time than we have: our turn. */
            const bool is_again = image->state == FAILED &&
                                  (st == PLT_CANCELLED || st == PLT_TIMEOUT) &&
                                  !io->cancelled(io) &&
                                  clock_now() < io->deadline_ns;
            if (is_again) {
                image_set_unref_locked(images, image);
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
            image_set_unref_locked(images, image);
            continue;
        }
        if (st == PLT_OK) {
            *out = image;
        } else {
            if (st == PLT_CHOICE && choices && image->choices)
                *choices = json_deep_copy(image->choices);
            image_set_unref_locked(images, image);
        }
        break;
    }
    lock_give(&images->lock);
    return st;
}

enum plt_status images_open(struct images *images,
                            const struct reference *reference,
                            struct plt_io *io, struct image **out,
                            json_t **choices, struct plt_error *err)
{
    AUTO_FREE char *key = reference_key(reference);
    const struct wish wish = {
        .reference = reference, .key = key, .name = reference->target};

    if (!key)
        return plt_fail(err, PLT_NOMEM, "an image's key");
    return open_shared(images, &wish, io, out, choices, err);
}

enum plt_status images_open_url(struct images *images, const char *url,
                                struct plt_io *io, struct image **out,
                                struct plt_error *err)
{
    const size_t len = strlen(url);
    AUTO_FREE char *key = malloc(len + 2);
    AUTO_FREE char *name = strndup(url, strcspn(url, "?#"));
    const struct wish wish = {.url = url, .key = key, .name = name};

    if (!key || !name)
        return plt_fail(err, PLT_NOMEM, "an image's key");
    key[0] = IMAGE_KEY_URL;
    memcpy(key + 1, url, len + 1);
    return open_shared(images, &wish, io, out, NULL, err);
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
