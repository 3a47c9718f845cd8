/* SPDX-License-Identifier: Apache-2.0 */
/* What comes over the network: digests of a group, scattered leaves, whole
 * blocks.  Nothing that is fetched here is believed here but digests, which
 * hash to their group's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/manifest_pack.h"
#include "mirror/mirror_inside.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    MUTED_MS = 60000,
    SIBLING_TRIES = 2,
    DIGESTS_AHEAD = 8,
    UNKNOWN_TRIES = 3
};

enum plt_status fetch_refused(struct version *v, const char *who, uint64_t leaf,
                              struct plt_error *err)
{
    struct log_line l;

    (void)atomic_fetch_add(&v->counts.refused, 1);
    (void)atomic_fetch_add(&v->mirrors->refused, 1);
    log_begin(&l, LOG_WARN, "mirror_refused");
    log_text(&l, "mirror", v->mirror->entry.name);
    log_url(&l, "source", who);
    log_number(&l, "offset", leaf * MANIFEST_LEAF);
    log_end(&l);
    return plt_fail_at(err, PLT_ORIGIN, leaf * MANIFEST_LEAF,
                       "%.100s sent bytes that are not what its manifest says",
                       who);
}

/* Groups from g on whose digests are fetched with g's: what is near is asked
 * for soon, and a round trip costs more than their bytes. */
static size_t near(struct version *v, uint64_t g)
{
    size_t n = 1;

    while (n < DIGESTS_AHEAD && g + n < v->n_groups &&
           !manifest_file_has_leaves(v->file, g + n))
        n++;
    return n;
}

enum plt_status fetch_digests(struct version *v, struct plt_io *io, uint64_t g,
                              manifest_digest *leaves, size_t *n,
                              struct plt_error *err)
{
    enum plt_status st = manifest_file_leaves(v->file, g, leaves, n, err);

    if (st != PLT_NOT_FOUND || v->is_direct)
        return st;
    *n = manifest_group_leaves(v->size, g);
    const size_t groups = near(v, g);
    const uint64_t last = g + groups - 1;
    const size_t of_last = manifest_group_leaves(v->size, last);
    const size_t all = (groups - 1) * MANIFEST_LEAVES + of_last;
    AUTO_FREE manifest_digest *list = malloc(all * sizeof(*list));
    if (!list)
        return plt_fail(err, PLT_NOMEM, "a list of digests");
    const struct plt_seg seg = {g * MANIFEST_LEAVES * MANIFEST_DIGEST,
                                all * MANIFEST_DIGEST, list};
    st = source_part(v->mirror, "/leaves", io, &seg, 1, err);
    if (st != PLT_OK)
        return st;
    for (size_t i = 1; i < groups; i++) {
        struct plt_error ignored; /* it is asked for again */
        ignored.status = manifest_file_put(
            v->file, g + i, (const manifest_digest *)list + i * MANIFEST_LEAVES,
            manifest_group_leaves(v->size, g + i), &ignored);
    }
    memcpy(leaves, list, *n * MANIFEST_DIGEST);
    st =
        manifest_file_put(v->file, g, (const manifest_digest *)leaves, *n, err);
    if (st != PLT_CORRUPT)
        return st;
    return fetch_refused(v, v->mirror->entry.source, g * MANIFEST_LEAVES, err);
}

/* Bytes of this leaf that the disk has. */
static size_t leaf_bytes(const struct version *v, uint64_t leaf)
{
    const uint64_t left = v->size - leaf * MANIFEST_LEAF;
    return left < MANIFEST_LEAF ? (size_t)left : MANIFEST_LEAF;
}

enum plt_status fetch_leaves(struct version *v, struct plt_io *io,
                             const uint64_t *leaves, size_t n, uint8_t *buf,
                             struct plt_error *err)
{
    AUTO_FREE struct plt_seg *segs = calloc(n, sizeof(*segs));
    struct image *image;
    size_t k = 0;

    if (!segs)
        return plt_fail(err, PLT_NOMEM, "a list of leaves");
    for (size_t i = 0; i < n; i++) {
        const size_t len = leaf_bytes(v, leaves[i]);
        const uint64_t off = leaves[i] * MANIFEST_LEAF;
        uint8_t *const to = buf + i * MANIFEST_LEAF;
        if (len < MANIFEST_LEAF)
            memset(to + len, 0, MANIFEST_LEAF - len);
        if (k && segs[k - 1].off + segs[k - 1].len == off)
            segs[k - 1].len += len;
        else
            segs[k++] = (struct plt_seg){off, len, to};
    }
    enum plt_status st = source_disk(v->mirror, io, &image, err);
    if (st != PLT_OK)
        return st;
    uint64_t size;
    st = image_resolve_size(image, io, &size, err);
    if (st == PLT_OK && size != v->size)
        st = plt_fail(err, PLT_CHANGED, "the source's disk has another size");
    if (st == PLT_OK)
        st = image_read(image, io, segs, k, err);
    image_unref(image);
    return st;
}

bool fetch_by_root(struct version *v)
{
    return atomic_load(&v->n_unknown) < UNKNOWN_TRIES;
}

/* It has another version by now, which the next look will tell; or it does not
 * serve by roots, or not to us. */
static enum plt_status fail_unknown(struct version *v, struct plt_error *err)
{
    (void)atomic_fetch_add(&v->n_unknown, 1);
    return plt_fail(err, PLT_CHANGED,
                    "the source has no image with this root any more");
}

/* BASE/v1/blocks/ROOT/WHAT.zst; new. */
static char *block_url(const struct version *v, const char *base,
                       const char *what)
{
    char hex[MANIFEST_HEX];
    const size_t len =
        strlen(base) + sizeof("v1/blocks//.zst") + MANIFEST_HEX + strlen(what);
    char *const url = malloc(len);

    manifest_to_hex(v->root, hex);
    if (url)
        (void)snprintf(url, len, "%sv1/blocks/%s/%s.zst", base, hex, what);
    return url;
}

/* What a gateway has under this name, which is want bytes long, unpacked. */
static enum plt_status get_packed(struct version *v, struct plt_io *io,
                                  const char *base, const char *what,
                                  uint8_t *buf, size_t want, uint64_t *cost,
                                  struct plt_error *err)
{
    const size_t cap = manifest_pack_bound(want);
    AUTO_FREE char *url = block_url(v, base, what);
    AUTO_FREE uint8_t *frame = malloc(cap);
    struct image *image;
    size_t got = 0;

    if (!url || !frame)
        return plt_fail(err, PLT_NOMEM, "a block");
    enum plt_status st = source_beside(v->mirror, io, &image, err);
    if (st != PLT_OK)
        return st;
    st = image_fetch(image, io, url, frame, cap, &got, err);
    image_unref(image);
    *cost += got;
    if (st == PLT_OK && manifest_unpack(frame, got, buf, want, err) != PLT_OK) {
        const struct plt_error why = *err;
        st = plt_fail(err, PLT_ORIGIN, "%.80s sent %.100s", base, why.text);
    }
    return st;
}

static enum plt_status get_block(struct version *v, struct plt_io *io,
                                 const char *base, uint64_t g, uint8_t *buf,
                                 uint64_t *cost, struct plt_error *err)
{
    const size_t want = manifest_group_bytes(v->size, g);
    char number[24];

    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)g);
    const enum plt_status st =
        get_packed(v, io, base, number, buf, want, cost, err);
    if (st == PLT_OK)
        memset(buf + want, 0, MANIFEST_GROUP - want);
    return st;
}

enum plt_status fetch_packed(struct version *v, struct plt_io *io,
                             const uint64_t *leaves, size_t n, uint8_t *buf,
                             uint64_t *cost, struct plt_error *err)
{
    static const char kind[] = "leaves=";
    struct source source;

    enum plt_status st = source_parse(&source, v->mirror->entry.source, err);
    if (st != PLT_OK)
        return st;
    AUTO_FREE struct manifest_pick *pick = malloc(sizeof(*pick));
    AUTO_FREE char *what = malloc(sizeof(kind) + MANIFEST_PICK_TEXT);
    if (!pick || !what)
        st = plt_fail(err, PLT_NOMEM, "a list of leaves");
    for (size_t done = 0; done < n && st == PLT_OK;) {
        size_t bytes;
        pick->n_runs = pick->n_leaves = 0;
        while (done + pick->n_leaves < n &&
               manifest_pick_add(pick, leaves[done + pick->n_leaves]))
            ;
        if (!manifest_pick_bytes(pick, v->size, &bytes))
            bytes = 0; /* cannot be: they are leaves of this disk */
        ASSERT(bytes);
        memcpy(what, kind, sizeof(kind));
        manifest_pick_text(pick, what + sizeof(kind) - 1);
        uint8_t *const to = buf + done * MANIFEST_LEAF;
        st = get_packed(v, io, source.base, what, to, bytes, cost, err);
        done += pick->n_leaves;
        /* What the disk's end cuts off is zeros. */
        if (st == PLT_OK)
            memset(to + bytes, 0, pick->n_leaves * MANIFEST_LEAF - bytes);
    }
    source_release(&source);
    return st == PLT_NOT_FOUND ? fail_unknown(v, err) : st;
}

/* A sibling to ask; false: none. */
static bool choose_sibling(struct mirror *m, uint64_t salt, char *base,
                           size_t cap, unsigned *which)
{
    const uint64_t now = clock_now();
    bool is_found = false;

    lock_take(&m->lock);
    for (unsigned i = 0; i < m->n_siblings && !is_found; i++) {
        const unsigned k = (unsigned)((salt + i) % m->n_siblings);
        if (m->sibling[k].muted_ns > now)
            continue;
        is_found = true;
        *which = k;
        (void)snprintf(base, cap, "%s", m->sibling[k].url);
    }
    lock_give(&m->lock);
    return is_found;
}

static void heard_sibling(struct mirror *m, unsigned which, const char *base,
                          bool is_good)
{
    lock_take(&m->lock);
    if (which < m->n_siblings && strcmp(m->sibling[which].url, base) == 0) {
        if (is_good)
            m->sibling[which].is_used = true;
        else
            m->sibling[which].muted_ns = clock_after_ms(MUTED_MS);
    }
    lock_give(&m->lock);
}

/* Is the block what the manifest says?  A sibling's word counts for nothing. */
static bool is_block(struct version *v, uint64_t g, const uint8_t *buf)
{
    manifest_digest leaves[MANIFEST_LEAVES], made, said;
    const size_t n = manifest_group_leaves(v->size, g);

    manifest_leaf_list(buf, n * MANIFEST_LEAF, leaves);
    manifest_group((const manifest_digest *)leaves, n, made);
    return manifest_file_group(v->file, g, said) &&
           memcmp(made, said, MANIFEST_DIGEST) == 0;
}

static bool from_sibling(struct version *v, struct plt_io *io, uint64_t g,
                         uint8_t *buf, uint64_t *cost)
{
    char base[512];
    unsigned which;

    for (unsigned i = 0; i < SIBLING_TRIES; i++) {
        struct plt_error why, ignored;
        if (!choose_sibling(v->mirror, g + i * 7, base, sizeof(base), &which))
            return false;
        const enum plt_status st = get_block(v, io, base, g, buf, cost, &why);
        if (st == PLT_OK && is_block(v, g, buf)) {
            heard_sibling(v->mirror, which, base, true);
            return true;
        }
        if (st == PLT_OK) /* it lies */
            ignored.status =
                fetch_refused(v, base, g * MANIFEST_LEAVES, &ignored);
        if (st == PLT_CANCELLED)
            return false;
        if (st != PLT_NOT_FOUND) /* that one has it not yet */
            heard_sibling(v->mirror, which, base, false);
    }
    return false;
}

enum plt_status fetch_block(struct version *v, struct plt_io *io, uint64_t g,
                            uint8_t *buf, uint64_t *cost, struct plt_error *err)
{
    struct source source;

    if (from_sibling(v, io, g, buf, cost))
        return PLT_OK;
    enum plt_status st = source_parse(&source, v->mirror->entry.source, err);
    if (st != PLT_OK)
        return st;
    st = get_block(v, io, source.base, g, buf, cost, err);
    if (st == PLT_NOT_FOUND)
        st = fail_unknown(v, err);
    if (st == PLT_OK && !is_block(v, g, buf))
        st =
            fetch_refused(v, v->mirror->entry.source, g * MANIFEST_LEAVES, err);
    source_release(&source);
    return st;
}
