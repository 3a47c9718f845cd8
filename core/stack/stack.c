/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/stack.h"

#include "stack/provided_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "stack/node_disk.h"
#include "util/auto.h"
#include "util/check.h"

enum {
    PROBE_BYTES = 64 * 1024,
    MAX_CHAIN = 100,   /* images in a chain of backing files */
    MAX_PLACES = 2048, /* files of a stack: extents of a split image, too */
    MAX_NODES = 4096,  /* layers of all of them */
    SIDECAR_PIECE = 256 * 1024,
    MAX_CHOICES = 1000 /* members listed in an answer that asks to choose */
};

/* Part of every id: change it when any driver decodes the same source to other
 * bytes than before, and every ETag and stored index is new.  DISK_EPOCH of
 * image.c is for when only the keys of blocks change. */
static const char id_epoch[] = "platter-1";

struct stack {
    const struct stack_env *env;
    const struct registry *registry;
    struct node *nodes[MAX_NODES]; /* in order of opening */
    size_t n_nodes;
    struct location *places[MAX_PLACES];
    size_t n_places;
    struct node *top;
    struct node *source; /* of the first chain */
    atomic_bool has_changed;
    char etag[STACK_ETAG];
    /* while opening */
    json_t **choices;
    const char *member, *snapshot, *partition, *secret;
    bool is_list, is_described, is_vm_state, is_exact;
};

const struct stack_env *stack_environment(const struct stack *stack)
{
    return stack->env;
}

void stack_mark_changed(struct stack *stack)
{
    atomic_store(&stack->has_changed, true);
}

const char *stack_secret_names(const struct stack *stack)
{
    return stack->secret;
}

bool stack_has_changed(const struct stack *stack)
{
    return atomic_load_explicit(&stack->has_changed, memory_order_relaxed);
}

struct node *stack_top(struct stack *stack)
{
    return stack->top;
}

const char *stack_etag(const struct stack *stack)
{
    return stack->etag;
}

static void write_etag(const struct node *node, char out[STACK_ETAG])
{
    size_t n = 0;

    out[n++] = '"';
    for (size_t i = 0; i < 16; i++)
        n += (size_t)snprintf(out + n, STACK_ETAG - n, "%02x", node->id[i]);
    (void)snprintf(out + n, STACK_ETAG - n, "\"");
}

bool stack_backing_etag(const struct stack *stack, unsigned depth,
                        char out[STACK_ETAG])
{
    const struct node *node = stack->top;

    while (node && depth--)
        node = node->backing;
    if (!node || !node->is_pinned)
        return false;
    write_etag(node, out);
    return true;
}

struct node *stack_source(struct stack *stack)
{
    return stack->source;
}

const struct plt_identity *stack_identity(const struct stack *stack)
{
    return &stack->source->identity;
}

int64_t stack_mtime(const struct stack *stack)
{
    for (size_t i = 0; i < stack->n_nodes; i++) {
        const struct node *const node = stack->nodes[i];
        if (!node->below && node != stack->source)
            return INT64_MIN;
    }
    return stack->source->identity.mtime;
}

const struct location *stack_place(const struct stack *stack)
{
    return stack->places[0];
}

/* ---- Names of bytes ---- */

static void hash_text(EVP_MD_CTX *md, const char *text)
{
    ASSERT(EVP_DigestUpdate(md, text, strlen(text) + 1) == 1);
}

/* The id of an open node: what it is, how it was asked, over what. */
static enum plt_status name_node(struct node *node,
                                 const struct plt_setting *settings, size_t n,
                                 struct plt_error *err)
{
    EVP_MD_CTX *const md = EVP_MD_CTX_new();
    uint8_t named[32];

    memcpy(named, node->id, sizeof(named)); /* of layers the image named */
    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(md);
        return plt_fail(err, PLT_NOMEM, "a digest");
    }
    hash_text(md, id_epoch);
    hash_text(md, node->driver->name);
    for (size_t i = 0; i < n; i++) {
        hash_text(md, settings[i].name);
        hash_text(md, settings[i].value);
    }
    if (node->below) {
        ASSERT(EVP_DigestUpdate(md, node->below->id, 32) == 1);
        ASSERT(EVP_DigestUpdate(md, named, 32) == 1);
        node->is_pinned = node->below->is_pinned && node->is_pinned;
    } else {
        const struct location *const l = node->place;
        if (!l->provided) { /* whose name says nothing of its bytes */
            hash_text(md, l->url ? l->url : l->folder);
            hash_text(md, l->path);
        }
        hash_text(md, node->identity.validator);
        node->is_pinned = node->identity.pin != PLT_PIN_NONE;
        if (!node->is_pinned) {
            /* Nothing tells two versions apart: this opening is its own. */
            uint8_t nonce[16];
            ASSERT(getrandom(nonce, sizeof(nonce), 0) == sizeof(nonce));
            ASSERT(EVP_DigestUpdate(md, nonce, sizeof(nonce)) == 1);
        }
    }
    ASSERT(EVP_DigestFinal_ex(md, node->id, NULL) == 1);
    EVP_MD_CTX_free(md);
    return PLT_OK;
}

/* ---- Opening ---- */

/* Open one layer and put it on the stack.  args: flags, settings, url, fd. */
static enum plt_status add_node(struct stack *stack,
                                const struct plt_driver *driver,
                                struct node *below, struct location *place,
                                struct node *opener, struct plt_open_args *args,
                                struct node **out, struct plt_error *err)
{
    struct node *const node =
        stack->n_nodes < MAX_NODES ? malloc(sizeof(*node)) : NULL;

    if (!node) {
        if (args->fd >= 0)
            (void)close(args->fd);
        return plt_fail(err, PLT_NOMEM, "a layer");
    }
    node_init(node, stack, driver, below, place);
    node->opener = opener;
    node->depth = opener ? opener->depth + 1 : 0;
    if (stack->is_described)
        args->flags |= PLT_OPEN_DESCRIBE;
    node->is_pinned = true; /* until a named layer is not */
    enum plt_status st = node_open(node, args, err);
    if (st == PLT_OK)
        st = name_node(node, args->settings, args->n_settings, err);
    if (st != PLT_OK) {
        node_release(node);
        free(node);
        return st;
    }
    node->is_secret = node->is_secret || (below && below->is_secret);
    node_disk_named(node);
    stack->nodes[stack->n_nodes++] = node;
    *out = node;
    return PLT_OK;
}

static enum plt_status open_source(struct stack *stack, struct location *place,
                                   struct node *opener, struct plt_io *io,
                                   struct node **out, struct plt_error *err)
{
    const char *const name = place->url ? "curl" : "file";
    const struct plt_driver *const driver =
        place->provided ? &provided_driver
                        : registry_find(stack->registry, name, strlen(name));
    struct plt_open_args args = {.flags = stack->is_exact ? PLT_OPEN_EXACT : 0,
                                 .io = io,
                                 .url = place->url,
                                 .fd = -1};

    if (!driver || driver->kind != PLT_KIND_SOURCE)
        return plt_fail(err, PLT_UNSUPPORTED, "the plugin %s is not there",
                        name);
    if (!place->url && !place->provided) {
        const enum plt_status st = policy_open_file(place, &args.fd, err);
        if (st != PLT_OK) {
            (void)snprintf(err->layer, sizeof(err->layer), "%s", name);
            return st;
        }
    }
    return add_node(stack, driver, NULL, place, opener, &args, out, err);
}

/* The first bytes of a layer, whose length may be unknown: *len of them. */
static enum plt_status read_head(struct node *node, struct plt_io *io,
                                 uint8_t *head, size_t *len,
                                 struct plt_error *err)
{
    uint64_t size = node_size(node);
    struct plt_seg seg = {0, PROBE_BYTES, head};

    if (size == PLT_SIZE_UNKNOWN) {
        const enum plt_status st = node_read(node, io, &seg, 1, err);
        if (st != PLT_CORRUPT) {
            *len = PROBE_BYTES;
            return st;
        }
        /* Shorter than that, or broken: the end tells, and it is near. */
        const enum plt_status size_st = node_resolve_size(node, io, &size, err);
        if (size_st != PLT_OK)
            return size_st;
    }
    *len = size < PROBE_BYTES ? (size_t)size : PROBE_BYTES;
    seg.len = *len;
    return *len ? node_read(node, io, &seg, 1, err) : PLT_OK;
}

static bool add_choice(void *cookie, const struct plt_member *member)
{
    json_t *const list = (json_t *)cookie;

    if (member->is_candidate)
        (void)json_array_append_new(
            list, json_pack("{s:o, s:I}", "name", node_json_text(member->name),
                            "size", (json_int_t)(member->size & INT64_MAX)));
    return json_array_size(list) < MAX_CHOICES;
}

/* The candidates of an archive that would not choose; best effort, since the
 * error that matters is already there. */
static void list_choices(struct stack *stack, const struct plt_driver *driver,
                         struct node *below, struct location *place,
                         struct plt_io *io)
{
    struct plt_open_args args = {.flags = PLT_OPEN_LIST, .io = io, .fd = -1};
    struct plt_error ignored;
    struct node *archive;

    if (!stack->choices)
        return;
    if (add_node(stack, driver, below, place, NULL, &args, &archive,
                 &ignored) != PLT_OK)
        return;
    json_t *const list = json_array();
    if (list && node_members(archive, io, add_choice, list, &ignored) == PLT_OK)
        *stack->choices = list;
    else
        json_decref(list);
}

/* Open the layer `driver` over `below`; layer: its settings or NULL. */
static enum plt_status open_layer(struct stack *stack,
                                  const struct plt_driver *driver,
                                  const struct spec_layer *layer,
                                  struct node *below, struct location *place,
                                  struct node *opener, struct plt_io *io,
                                  struct node **out, struct plt_error *err)
{
    struct plt_setting settings[SPEC_MAX_SETTINGS + 3];
    struct plt_open_args args = {.io = io, .fd = -1, .settings = settings};
    const bool is_archive = driver->kind == PLT_KIND_ARCHIVE;

    for (size_t i = 0; layer && i < layer->n_settings; i++)
        settings[args.n_settings++] = layer->settings[i];
    /* member= is for the archive nearest to the source. */
    if (is_archive && stack->member && spec_driver_takes(driver, "member")) {
        settings[args.n_settings++] =
            (struct plt_setting){"member", stack->member};
        stack->member = NULL;
    }
    if (!opener && driver->kind == PLT_KIND_FORMAT && stack->snapshot &&
        spec_driver_takes(driver, "snapshot")) {
        settings[args.n_settings++] =
            (struct plt_setting){"snapshot", stack->snapshot};
        if (stack->is_vm_state)
            settings[args.n_settings++] = (struct plt_setting){"vmstate", "on"};
        stack->snapshot = NULL;
    }
    if (is_archive && stack->is_list)
        args.flags |= PLT_OPEN_LIST;
    const enum plt_status st =
        add_node(stack, driver, below, place, opener, &args, out, err);
    if (st == PLT_CHOICE)
        list_choices(stack, driver, below, place, io);
    return st;
}

/* Ask what the layer is, open that, and again.  *top is moved up. */
static enum plt_status probe_up(struct stack *stack, bool is_format_wanted,
                                struct location *place, struct node *opener,
                                struct plt_io *io, struct node **top,
                                struct plt_error *err)
{
    AUTO_FREE uint8_t *head = malloc(PROBE_BYTES);

    if (!head)
        return plt_fail(err, PLT_NOMEM, "the head of a layer");
    for (unsigned n = 0;; n++) {
        struct plt_probe probe = {.struct_size = (uint32_t)sizeof(probe),
                                  .head = head};
        enum plt_status st = read_head(*top, io, head, &probe.head_len, err);
        if (st != PLT_OK)
            return st;
        probe.size = node_size(*top);
        const struct plt_driver *const driver =
            registry_probe(stack->registry, &probe, is_format_wanted);
        if (!driver)
            return PLT_OK;
        if (n == SPEC_MAX_LAYERS)
            return plt_fail(err, PLT_UNSUPPORTED,
                            "more than %d layers in one another",
                            SPEC_MAX_LAYERS);
        st = open_layer(stack, driver, NULL, *top, place, opener, io, top, err);
        if (st != PLT_OK)
            return st;
        if (driver->kind == PLT_KIND_FORMAT ||
            (driver->kind == PLT_KIND_ARCHIVE && stack->is_list))
            return PLT_OK;
    }
}

/* What lies over *top when nothing is pinned.  format: what an image said of
 * the one that it named, or NULL. */
static enum plt_status find_layers(struct stack *stack, struct location *place,
                                   const char *format, struct node *opener,
                                   struct plt_io *io, struct node **top,
                                   struct plt_error *err)
{
    const bool is_raw = format && strcmp(format, "raw") == 0;
    const enum plt_status st =
        probe_up(stack, !is_raw, place, opener, io, top, err);

    if (st == PLT_OK && format && !is_raw &&
        strcmp((*top)->driver->name, format) != 0)
        return plt_fail(err, PLT_CORRUPT, "%.100s is not %.32s", place->label,
                        format);
    return st;
}

static void add_place(struct stack *stack, struct location *place)
{
    ASSERT(stack->n_places < MAX_PLACES);
    stack->places[stack->n_places++] = place;
}

/* One image: its source and what lies over it.  Steals place. */
static enum plt_status open_chain(struct stack *stack, struct location *place,
                                  const struct spec *spec, struct plt_io *io,
                                  struct plt_error *err)
{
    struct node **const top = &stack->top;

    add_place(stack, place);
    enum plt_status st = open_source(stack, place, NULL, io, top, err);
    stack->source = *top;
    if (st != PLT_OK)
        return st;
    if (!spec || !spec->is_pinned)
        return find_layers(stack, place, NULL, NULL, io, top, err);
    for (size_t i = spec->n_layers; i-- > 0 && st == PLT_OK;) {
        const struct spec_layer *const layer = &spec->layers[i];
        st = open_layer(stack, layer->driver, layer, *top, place, NULL, io, top,
                        err);
        if (st == PLT_OK && stack->is_list &&
            layer->driver->kind == PLT_KIND_ARCHIVE)
            break;
    }
    return st;
}

/* ---- Files that an image names ---- */

/* Two locations that are the same place by name. */
static bool same_place(const struct location *a, const struct location *b)
{
    if (a->provided || b->provided)
        return a->provided && b->provided &&
               strcmp(a->provided, b->provided) == 0;
    if (a->url || b->url)
        return a->url && b->url && strcmp(a->url, b->url) == 0;
    return strcmp(a->folder, b->folder) == 0 && strcmp(a->path, b->path) == 0;
}

static enum plt_status fail_loop(struct plt_error *err)
{
    return plt_fail(err, PLT_CORRUPT, "the chain of images is a loop");
}

/* A file beside the asker's own, over what wraps it. */
static enum plt_status open_beside(struct stack *stack, struct node *asker,
                                   struct plt_io *io, enum plt_role role,
                                   const char *name, const char *format,
                                   struct node **top, struct plt_error *err)
{
    const bool is_exact =
        role != PLT_ROLE_BACKING && format && strcmp(format, "raw") == 0;
    struct location *const place = calloc(1, sizeof(*place));

    if (!place)
        return plt_fail(err, PLT_NOMEM, "a location");
    enum plt_status st = policy_locate_sibling(asker->place, name, place, err);
    if (st != PLT_OK) {
        free(place);
        return st;
    }
    for (const struct node *n = asker; n; n = n->opener) {
        if (same_place(n->place, place)) {
            location_release(place);
            free(place);
            return fail_loop(err);
        }
    }
    add_place(stack, place);
    st = open_source(stack, place, asker, io, top, err);
    return st == PLT_OK && !is_exact
               ? find_layers(stack, place, format, asker, io, top, err)
               : st;
}

static const struct node *archive_of(const struct node *node)
{
    while (node && node->driver->kind != PLT_KIND_ARCHIVE)
        node = node->below;
    return node;
}

/* The name of the member that an archive was entered by; new, or NULL. */
static char *member_of(const struct node *archive)
{
    json_t *const info = node_info((struct node *)(uintptr_t)archive, false);
    const char *const name = json_string_value(json_object_get(info, "member"));
    char *const copy = name ? strdup(name) : NULL;

    json_decref(info);
    return copy;
}

/* An image inside an archive names its neighbours there. */
static enum plt_status open_member(struct stack *stack, struct node *asker,
                                   const struct node *archive,
                                   struct plt_io *io, enum plt_role role,
                                   const char *name, const char *format,
                                   struct node **top, struct plt_error *err)
{
    const char *const bad = policy_complaint(name);
    const bool is_exact =
        role != PLT_ROLE_BACKING && format && strcmp(format, "raw") == 0;
    AUTO_FREE char *own = member_of(archive);
    const char *const slash = own ? strrchr(own, '/') : NULL;
    const size_t size = (own ? strlen(own) : 0) + strlen(name) + 1;
    AUTO_FREE char *path = malloc(size);

    if (bad)
        return plt_fail(err, PLT_DENIED, "the image names a file that %s", bad);
    if (!own)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a file beside a member of this archive");
    if (!path)
        return plt_fail(err, PLT_NOMEM, "a name");
    (void)snprintf(path, size, "%.*s%s", slash ? (int)(slash - own) + 1 : 0,
                   own, strncmp(name, "./", 2) == 0 ? name + 2 : name);
    for (const struct node *a = asker; a; a = a->opener) {
        const struct node *const there = archive_of(a->below);
        AUTO_FREE char *theirs =
            there && there->below == archive->below ? member_of(there) : NULL;
        if (theirs && strcmp(theirs, path) == 0)
            return fail_loop(err);
    }
    const struct plt_setting setting = {"member", path};
    struct plt_open_args args = {.io = io,
                                 .fd = -1,
                                 .settings = &setting,
                                 .n_settings = 1,
                                 .beside = archive->image};
    const enum plt_status st = add_node(stack, archive->driver, archive->below,
                                        asker->place, asker, &args, top, err);
    return st == PLT_OK && !is_exact
               ? find_layers(stack, asker->place, format, asker, io, top, err)
               : st;
}

/* What an image is made of names it too (name_node). */
static enum plt_status mix_in(struct node *asker, const struct node *named,
                              struct plt_error *err)
{
    EVP_MD_CTX *const md = EVP_MD_CTX_new();

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(md);
        return plt_fail(err, PLT_NOMEM, "a digest");
    }
    ASSERT(EVP_DigestUpdate(md, asker->id, 32) == 1);
    ASSERT(EVP_DigestUpdate(md, named->id, 32) == 1);
    ASSERT(EVP_DigestFinal_ex(md, asker->id, NULL) == 1);
    EVP_MD_CTX_free(md);
    asker->is_pinned = asker->is_pinned && named->is_pinned;
    asker->is_secret = asker->is_secret || named->is_secret;
    return PLT_OK;
}

enum plt_status stack_open_named(struct stack *stack, struct node *asker,
                                 struct plt_io *io, enum plt_role role,
                                 const char *name, const char *format,
                                 struct plt_child **child,
                                 struct plt_error *err)
{
    const struct node *const archive = archive_of(asker->below);
    struct node *top = NULL;
    uint64_t size;

    if (role == PLT_ROLE_BACKING && asker->depth + 1 >= MAX_CHAIN)
        return plt_fail(err, PLT_DENIED, "a chain of more than %d images",
                        MAX_CHAIN);
    if (stack->n_places == MAX_PLACES)
        return plt_fail(err, PLT_DENIED, "an image of more than %d files",
                        MAX_PLACES);
    /* A selector is the outermost image's. */
    const char *const member = stack->member;
    stack->member = NULL;
    enum plt_status st =
        archive ? open_member(stack, asker, archive, io, role, name, format,
                              &top, err)
                : open_beside(stack, asker, io, role, name, format, &top, err);
    stack->member = member;
    if (st == PLT_OK)
        st = node_resolve_size(top, io, &size, err);
    if (st != PLT_OK)
        return st;
    top->child.size = size;
    if (role == PLT_ROLE_BACKING)
        asker->backing = top;
    *child = &top->child;
    return mix_in(asker, top, err);
}

/* ---- Files beside a source ---- */

/* All of an open source. */
static enum plt_status hand_on(struct node *node, struct plt_io *io,
                               uint64_t max, plt_put_fn *put, void *cookie,
                               struct plt_error *err)
{
    AUTO_FREE uint8_t *buf = malloc(SIDECAR_PIECE);
    uint64_t size = 0;
    enum plt_status st = node_resolve_size(node, io, &size, err);

    if (st == PLT_OK && !buf)
        st = plt_fail(err, PLT_NOMEM, "a file beside the source");
    if (st == PLT_OK && size > max)
        st = plt_fail(err, PLT_UNSUPPORTED, "a file of %llu bytes",
                      (unsigned long long)size);
    for (uint64_t at = 0; st == PLT_OK && at < size;) {
        const uint64_t left = size - at;
        const size_t n = left < SIDECAR_PIECE ? (size_t)left : SIDECAR_PIECE;
        const struct plt_seg seg = {at, n, buf};
        st = node_read(node, io, &seg, 1, err);
        if (st == PLT_OK && !put(cookie, buf, n))
            st = plt_fail(err, PLT_NOMEM, "a file beside the source");
        at += n;
    }
    return st;
}

enum plt_status stack_sidecar(struct stack *stack, const struct node *asker,
                              struct plt_io *io, const char *suffix,
                              uint64_t max, plt_put_fn *put, void *cookie,
                              struct plt_error *err)
{
    const struct node *const below = asker->below;
    struct location place = {.url = NULL};

    if (stack->env->no_sidecars || !below || below->below || below->opener ||
        below->place->provided)
        return plt_fail(err, PLT_NOT_FOUND, "no file beside the source");
    const char *const slash = strrchr(below->place->path, '/');
    const char *const own = slash ? slash + 1 : below->place->path;
    const size_t len = strlen(own) + strlen(suffix) + 1;
    AUTO_FREE char *name = malloc(len);
    AUTO_FREE struct node *node = malloc(sizeof(*node));
    if (!name || !node)
        return plt_fail(err, PLT_NOMEM, "a file beside the source");
    (void)snprintf(name, len, "%s%s", own, suffix);
    enum plt_status st = policy_locate_sibling(below->place, name, &place, err);
    if (st != PLT_OK)
        return st;
    struct plt_open_args args = {.io = io, .url = place.url, .fd = -1};
    if (!place.url)
        st = policy_open_file(&place, &args.fd, err);
    if (st == PLT_OK) {
        /* For the time of the question: it is on nobody's list. */
        node_init(node, stack, below->driver, NULL, &place);
        node->is_apart = true;
        st = node_open(node, &args, err);
        if (st == PLT_OK)
            st = hand_on(node, io, max, put, cookie, err);
        node_release(node);
    }
    location_release(&place);
    return st;
}

/* ---- Partitions ---- */

static const struct plt_driver *partition_driver(const struct stack *stack)
{
    return registry_find(stack->registry, "partition", strlen("partition"));
}

/* One partition of the disk, as a disk of its own. */
static enum plt_status open_partition(struct stack *stack, struct plt_io *io,
                                      struct plt_error *err)
{
    const struct plt_driver *const driver = partition_driver(stack);
    const struct plt_setting setting = {"number", stack->partition};
    struct plt_open_args args = {
        .io = io, .fd = -1, .settings = &setting, .n_settings = 1};

    if (!driver)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "the plugin partition is not there");
    if (strspn(stack->partition, "0123456789") != strlen(stack->partition) ||
        !stack->partition[0])
        return plt_fail(err, PLT_INVALID, "partition= is a number");
    return add_node(stack, driver, stack->top, stack->places[0], NULL, &args,
                    &stack->top, err);
}

enum plt_status stack_partitions_json(struct stack *stack, struct plt_io *io,
                                      json_t **out, struct plt_error *err)
{
    const struct plt_driver *const driver = partition_driver(stack);
    struct plt_open_args args = {.flags = PLT_OPEN_LIST, .io = io, .fd = -1};
    AUTO_FREE struct node *node = malloc(sizeof(*node));

    if (!driver)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "the plugin partition is not there");
    if (!node)
        return plt_fail(err, PLT_NOMEM, "a layer");
    /* Over the disk for the time of the question: it is on nobody's list. */
    node_init(node, stack, driver, stack->top, stack->places[0]);
    const enum plt_status st = node_open(node, &args, err);
    if (st == PLT_OK) {
        *out = node_info(node, true);
        (void)json_object_del(*out, "driver");
        (void)json_object_del(*out, "kind");
        (void)json_object_del(*out, "size");
    }
    node_release(node);
    return st == PLT_OK && !*out ? plt_fail(err, PLT_NOMEM, "a table") : st;
}

enum plt_status stack_open(const struct stack_request *request,
                           struct plt_io *io, struct stack **out,
                           json_t **choices, struct plt_error *err)
{
    struct stack *const stack = calloc(1, sizeof(*stack));
    enum plt_status st;

    if (!stack) {
        location_release(request->place);
        free(request->place);
        return plt_fail(err, PLT_NOMEM, "a stack");
    }
    stack->env = request->env;
    stack->registry = request->registry;
    stack->choices = choices;
    stack->member = request->member;
    stack->snapshot = request->snapshot;
    stack->partition = request->partition;
    stack->secret = request->secret;
    stack->is_list = request->is_list;
    stack->is_described = request->is_described;
    stack->is_vm_state = request->is_vm_state;
    stack->is_exact = request->is_exact;
    st = open_chain(stack, request->place, request->spec, io, err);
    if (st == PLT_OK && stack->member)
        st = plt_fail(err, PLT_INVALID, "member= but there is no archive");
    if (st == PLT_OK && stack->snapshot && !stack->is_list)
        st = plt_fail(err, PLT_INVALID, "snapshot= but the image has none");
    if (st == PLT_OK && stack->partition && !stack->is_list)
        st = open_partition(stack, io, err);
    if (st != PLT_OK) {
        stack_close(stack);
        return st;
    }
    stack->member = stack->snapshot = NULL;
    stack->partition = stack->secret = NULL;
    stack->choices = NULL;
    write_etag(stack->top, stack->etag);
    *out = stack;
    return PLT_OK;
}

void stack_close(struct stack *stack)
{
    if (!stack)
        return;
    while (stack->n_nodes > 0) {
        struct node *const node = stack->nodes[--stack->n_nodes];
        node_release(node);
        free(node);
    }
    for (size_t i = 0; i < stack->n_places; i++) {
        location_release(stack->places[i]);
        free(stack->places[i]);
    }
    free(stack);
}

/* The file at a local place still is the one that was opened: a file that was
 * replaced leaves the open one as it was, unseen by its descriptor. */
static enum plt_status check_replaced(struct stack *stack, struct node *node,
                                      struct plt_error *err)
{
    struct plt_error ignored;
    struct stat sb;
    AUTO_FD int fd = -1;
    char now[64];

    if (node->place->url || node->place->provided)
        return PLT_OK;
    if (policy_open_file(node->place, &fd, &ignored) == PLT_OK &&
        fstat(fd, &sb) == 0) {
        (void)snprintf(now, sizeof(now),
                       "%llu:%llu:", (unsigned long long)sb.st_dev,
                       (unsigned long long)sb.st_ino);
        if (strncmp(now, node->identity.validator, strlen(now)) == 0)
            return PLT_OK;
    }
    stack_mark_changed(stack);
    return plt_fail(err, PLT_CHANGED, "the file was replaced");
}

enum plt_status stack_revalidate(struct stack *stack, struct plt_io *io,
                                 struct plt_error *err)
{
    for (size_t i = 0; i < stack->n_nodes; i++) {
        struct node *const node = stack->nodes[i];
        if (node->below)
            continue;
        enum plt_status st = node_revalidate(node, io, err);
        if (st == PLT_OK)
            st = check_replaced(stack, node, err);
        if (st != PLT_OK)
            return st;
    }
    return PLT_OK;
}

json_t *stack_layers_json(struct stack *stack, bool hide_place)
{
    json_t *const list = json_array();

    for (struct node *n = stack->top; list && n; n = n->below) {
        json_t *const row = node_info(n, hide_place);
        if (row && !n->below)
            (void)json_object_set_new(row, "filename",
                                      node_json_text(n->place->label));
        (void)json_array_append_new(list, row);
    }
    return list;
}

json_t *stack_member_json(const struct plt_member *m)
{
    const char *type = "other";
    char when[32] = "";
    struct tm tm;
    const time_t t = (time_t)m->mtime;

    switch (m->type) {
    case '0':
    case '\0':
    case '7':
    case 'S':
        type = "file";
        break;
    case '1':
        type = "hardlink";
        break;
    case '2':
        type = "symlink";
        break;
    case '3':
    case '4':
        type = "device";
        break;
    case '5':
        type = "directory";
        break;
    case '6':
        type = "fifo";
        break;
    default:
        break;
    }
    /* RFC 3339; years beyond 9999 have no form there. */
    if (m->mtime >= 0 && m->mtime < INT64_C(253402300800) && gmtime_r(&t, &tm))
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_t *const row = json_pack(
        "{s:o, s:I, s:I, s:I, s:s, s:b, s:b}", "name", node_json_text(m->name),
        "size", (json_int_t)(m->size & INT64_MAX), "stored",
        (json_int_t)(m->stored & INT64_MAX), "offset",
        (json_int_t)(m->off & INT64_MAX), "type", type, "sparse",
        (int)m->is_sparse, "candidate", (int)m->is_candidate);
    if (row && when[0])
        (void)json_object_set_new(row, "mtime", json_string(when));
    return row;
}
