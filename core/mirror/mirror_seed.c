/* SPDX-License-Identifier: Apache-2.0 */
/* Images of this host whose leaves are taken when a mirror wants them.
 *
 * A seed is any image that can be opened: its digests are made once, kept
 * beside the mirrors' by its ETag, and put into a table of leaf numbers, by the
 * first bytes of the digests.  What is found is read from the image and hashed
 * before it is used, so that an image that changed meanwhile costs a read and
 * no more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/manifest_build.h"
#include "mirror/mirror_inside.h"
#include "stack/reference.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    REST_MS = 60000,
    MAX_SEEDS = 64,
    RETRY_MS = 60000,
    PROBES = 64,
    WAIT_MS = 30000
};

/* A place in a table: half of a digest's first 8 bytes, and which leaf. */
struct slot {
    uint32_t tag, leaf; /* leaf UINT32_MAX: free */
};

struct seed {
    const char *name; /* of the configuration */
    enum { COLD, READY, BAD } state;
    uint64_t retry_ns;
    struct image *image;
    struct slot *slots;
    uint64_t mask;
};

struct seeds {
    struct mirrors *mirrors;
    struct lock lock; /* guards all; held while a seed is being made ready */
    struct seed seed[MAX_SEEDS];
    size_t n;
    uint64_t used_ns;
};

struct seeds *seeds_new(struct mirrors *mirrors)
{
    struct seeds *const s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->mirrors = mirrors;
    lock_init(&s->lock);
    for (const char *const *p = mirrors->config.seeds;
         p && *p && s->n < MAX_SEEDS; p++)
        s->seed[s->n++] = (struct seed){.name = *p};
    return s;
}

static void cool(struct seed *seed)
{
    image_unref(seed->image);
    free(seed->slots);
    seed->image = NULL;
    seed->slots = NULL;
    seed->state = COLD;
}

void seeds_close(struct seeds *s)
{
    if (!s)
        return;
    lock_take(&s->lock);
    for (size_t i = 0; i < s->n; i++) {
        cool(&s->seed[i]);
        s->seed[i].state = BAD;
        s->seed[i].retry_ns = CLOCK_NEVER;
    }
    lock_give(&s->lock);
}

void seeds_free(struct seeds *s)
{
    if (!s)
        return;
    seeds_close(s);
    lock_release(&s->lock);
    free(s);
}

void seeds_tick(struct seeds *s)
{
    const uint64_t now = clock_now();

    lock_take(&s->lock);
    for (size_t i = 0; i < s->n; i++) {
        if (s->seed[i].state == READY &&
            now - s->used_ns > (uint64_t)REST_MS * NS_PER_MS)
            cool(&s->seed[i]);
    }
    lock_give(&s->lock);
}

static uint64_t number(const uint8_t *prefix)
{
    uint64_t n;
    memcpy(&n, prefix, sizeof(n));
    return n;
}

static void add(struct seed *seed, const manifest_digest digest, uint64_t leaf)
{
    const uint64_t n = number(digest);
    const uint32_t tag = (uint32_t)(n >> 32);

    for (unsigned i = 0; i < PROBES; i++) {
        struct slot *const slot = &seed->slots[(n + i) & seed->mask];
        if (slot->leaf == UINT32_MAX) {
            *slot = (struct slot){tag, (uint32_t)leaf};
            return;
        }
        if (slot->tag == tag) /* the same again, as good as certainly */
            return;
    }
}

/* The digests of its image into a table. */
static enum plt_status fill(struct seed *seed, struct manifest_file *file,
                            struct plt_error *err)
{
    const uint64_t size = manifest_file_size(file);
    manifest_digest leaves[MANIFEST_LEAVES];
    uint64_t cap = 1024;
    size_t n;

    while (cap < manifest_leaves(size) * 3 / 2)
        cap *= 2;
    if (manifest_leaves(size) >= UINT32_MAX)
        return plt_fail(err, PLT_UNSUPPORTED, "a seed of more than 16 TiB");
    seed->slots = malloc(cap * sizeof(*seed->slots));
    if (!seed->slots)
        return plt_fail(err, PLT_NOMEM, "a seed's table");
    seed->mask = cap - 1;
    memset(seed->slots, 0xff, cap * sizeof(*seed->slots));
    for (uint64_t g = 0; g < manifest_groups(size); g++) {
        const enum plt_status st =
            manifest_file_leaves(file, g, leaves, &n, err);
        if (st != PLT_OK)
            return st;
        for (size_t i = 0; i < n; i++) {
            if (!manifest_is_zero_leaf(leaves[i]))
                add(seed, leaves[i], g * MANIFEST_LEAVES + i);
        }
    }
    return PLT_OK;
}

/* Its manifest's file: "seed-" and what its ETag hashes to. */
static void file_name(struct image *image, char *out, size_t cap)
{
    manifest_digest digest;
    char hex[MANIFEST_HEX];
    const char *const etag = image_etag(image);
    const size_t len = strlen(etag);

    manifest_leaf((const uint8_t *)etag,
                  len < MANIFEST_LEAF ? len : MANIFEST_LEAF, digest);
    manifest_to_hex(digest, hex);
    (void)snprintf(out, cap, "seed-%.32s", hex);
}

static bool is_stopping(const struct plt_io *io)
{
    const struct mirror_io *const m =
        (const struct mirror_io *)(const void *)io;
    return atomic_load(&m->mirror->mirrors->is_stopping);
}

static enum plt_status make_ready(struct seeds *s, struct seed *seed,
                                  struct plt_io *io, struct plt_error *err)
{
    struct manifest_file *file = NULL;
    struct reference r;
    char name[64];
    uint64_t size;

    enum plt_status st = reference_parse(&r, seed->name, NULL, NULL, err);
    if (st != PLT_OK)
        return st;
    st = images_open(s->mirrors->images, &r, io, &seed->image, NULL, err);
    reference_release(&r);
    if (st != PLT_OK)
        return st;
    st = image_resolve_size(seed->image, io, &size, err);
    if (st == PLT_OK) {
        file_name(seed->image, name, sizeof(name));
        st = manifest_file_open(s->mirrors->dir, name, size, &file, err);
    }
    if (st == PLT_OK && !manifest_file_is_complete(file)) {
        const struct manifest_build build = {.file = file, .wait_ms = WAIT_MS};
        st = manifest_build(seed->image, io, &build, err);
    }
    if (st == PLT_OK)
        st = fill(seed, file, err);
    manifest_file_unref(file);
    return st;
}

static void need(struct seeds *s, struct seed *seed, struct plt_io *outer)
{
    struct mirror_io io = *(struct mirror_io *)(void *)outer;
    struct plt_error err;
    struct log_line l;
    const uint64_t start = clock_now();

    if (seed->state == READY ||
        (seed->state == BAD && clock_now() < seed->retry_ns))
        return;
    io.io.deadline_ns = UINT64_MAX;
    io.io.cancelled = is_stopping;
    const enum plt_status st = make_ready(s, seed, &io.io, &err);
    log_begin(&l, st == PLT_OK ? LOG_INFO : LOG_WARN, "mirror_seed");
    log_text(&l, "seed", seed->name);
    if (st == PLT_OK)
        log_number(&l, "ms", (clock_now() - start) / NS_PER_MS);
    else
        log_text(&l, "text", err.text);
    log_end(&l);
    if (st == PLT_OK) {
        seed->state = READY;
        return;
    }
    cool(seed);
    seed->state = BAD;
    seed->retry_ns = clock_after_ms(RETRY_MS);
}

/* The leaf of this number, if it still is what the table says. */
static bool read_leaf(struct image *image, struct plt_io *io, uint64_t leaf,
                      const uint8_t *prefix, uint8_t *buf,
                      manifest_digest digest)
{
    const uint64_t size = image_size(image), off = leaf * MANIFEST_LEAF;
    struct plt_error ignored;

    if (off >= size)
        return false;
    const size_t len =
        size - off < MANIFEST_LEAF ? (size_t)(size - off) : MANIFEST_LEAF;
    const struct plt_seg seg = {off, len, buf};
    memset(buf + len, 0, MANIFEST_LEAF - len);
    if (image_read(image, io, &seg, 1, &ignored) != PLT_OK)
        return false;
    manifest_leaf(buf, MANIFEST_LEAF, digest);
    return memcmp(digest, prefix, MANIFEST_PREFIX) == 0;
}

bool seeds_get(struct seeds *s, struct plt_io *io,
               const uint8_t prefix[MANIFEST_PREFIX],
               uint8_t buf[MANIFEST_LEAF], manifest_digest digest)
{
    const uint64_t n = number(prefix);

    for (size_t k = 0; k < s->n; k++) {
        struct seed *const seed = &s->seed[k];
        struct image *image = NULL;
        uint64_t leaf = UINT64_MAX;
        lock_take(&s->lock);
        s->used_ns = clock_now();
        need(s, seed, io);
        for (unsigned i = 0; seed->state == READY && i < PROBES; i++) {
            const struct slot *const slot = &seed->slots[(n + i) & seed->mask];
            if (slot->leaf == UINT32_MAX)
                break;
            if (slot->tag == (uint32_t)(n >> 32)) {
                leaf = slot->leaf;
                image = seed->image;
                image_ref(image);
                break;
            }
        }
        lock_give(&s->lock);
        const bool is_got =
            image && read_leaf(image, io, leaf, prefix, buf, digest);
        image_unref(image);
        if (is_got)
            return true;
    }
    return false;
}
