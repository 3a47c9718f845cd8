/* SPDX-License-Identifier: Apache-2.0 */
/* A mirror's disk as it is read: what is here from here, verified, and the rest
 * from the source, at once and before everything else; what comes so is kept.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "stack/provided.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"

enum { AWAY_MS = 1000, WAIT_SLICE_MS = 100 };

static bool disk_has(void *cookie, const char *name)
{
    return mirrors_has((struct mirrors *)cookie, name);
}

/* The version to be read, once the source has been looked at. */
static enum plt_status wait_version(struct mirror *m, struct plt_io *io,
                                    struct version **out, struct plt_error *err)
{
    enum plt_status st = PLT_AGAIN;

    lock_take(&m->lock);
    while (st == PLT_AGAIN) {
        if (m->current) {
            version_ref(m->current);
            *out = m->current;
            st = PLT_OK;
        } else if (m->is_removed) {
            st = plt_fail(err, PLT_NOT_FOUND, "the mirror was deleted");
        } else if (m->failures) {
            st = plt_fail(err, m->error_status, "%.180s", m->error);
        } else if (io->cancelled(io)) {
            st = plt_fail(err, PLT_CANCELLED, "a mirror");
        } else if (clock_now() >= io->deadline_ns) {
            st = plt_fail(err, PLT_TIMEOUT, "the source has not answered yet");
        } else {
            (void)cond_wait(&m->moved, &m->lock, clock_after_ms(WAIT_SLICE_MS));
        }
    }
    lock_give(&m->lock);
    return st;
}

static enum plt_status disk_open(void *cookie, const char *name,
                                 struct plt_io *io, void **disk, uint64_t *size,
                                 struct plt_identity *identity,
                                 struct plt_error *err)
{
    struct mirror *const m = mirrors_find((struct mirrors *)cookie, name);
    struct version *v = NULL;

    if (!m)
        return plt_fail(err, PLT_NOT_FOUND, "there is no such mirror");
    const enum plt_status st = wait_version(m, io, &v, err);
    mirror_unref(m);
    if (st != PLT_OK)
        return st;
    *disk = v;
    *size = v->size;
    *identity =
        (struct plt_identity){.pin = PLT_PIN_STRONG, .mtime = INT64_MIN};
    /* Equal roots are equal bytes, wherever they are mirrored.  A disk whose
     * root nobody knew when it was begun has its own. */
    char hex[MANIFEST_HEX];
    if (v->is_direct) {
        manifest_digest id = {0};
        memcpy(id, v->salt, sizeof(v->salt));
        manifest_to_hex(id, hex);
    } else {
        manifest_to_hex(v->root, hex);
    }
    (void)snprintf(identity->validator, sizeof(identity->validator), "%s:%s",
                   v->is_direct ? "direct" : "root", hex);
    return PLT_OK;
}

static void disk_close(void *disk)
{
    version_unref((struct version *)disk);
}

/* ---- Reading ---- */

/* A stretch of leaves of one group that are read together. */
struct piece {
    struct version *v;
    struct plt_io *io; /* the reader's */
    uint64_t g;
    size_t first, n; /* leaves of the group */
    uint8_t *buf;    /* n leaves */
};

/* What a reader hears of a source that is away: it is the edge's to wait for
 * it. */
static enum plt_status blame(struct mirror *m, enum plt_status st,
                             struct plt_error *err)
{
    atomic_store(&m->demand_ns, clock_now());
    const bool is_away =
        st == PLT_ORIGIN || st == PLT_BUSY || st == PLT_TIMEOUT;

    lock_take(&m->lock);
    if (st == PLT_OK)
        m->away_ns = 0;
    else if (is_away)
        m->away_ns = clock_now();
    if (st == PLT_CHANGED)
        m->must_look = true;
    lock_give(&m->lock);
    if (st == PLT_CHANGED)
        mirrors_wake(m->mirrors);
    if (!is_away)
        return st;
    struct plt_error why = *err;
    return plt_fail(err, PLT_TIMEOUT, "not mirrored yet, and the source: %s",
                    why.text);
}

static bool is_away(struct mirror *m)
{
    atomic_store(&m->demand_ns, clock_now()); /* it is about to be asked */
    lock_take(&m->lock);
    const bool is =
        m->away_ns && clock_now() - m->away_ns < (uint64_t)AWAY_MS * NS_PER_MS;
    lock_give(&m->lock);
    return is;
}

static enum via via(struct version *v)
{
    struct mirror *const m = v->mirror;

    lock_take(&m->lock);
    const enum via how = m->entry.via;
    lock_give(&m->lock);
    return fetch_by_root(v) ? how : VIA_RANGES;
}

/* Leaves that are not here: which[] of the piece, n of them. */
static enum plt_status fetch(struct piece *p, const manifest_digest *digests,
                             const size_t *which, size_t n,
                             struct plt_error *err)
{
    struct version *const v = p->v;
    AUTO_FREE uint64_t *leaves = malloc(n * sizeof(*leaves));
    AUTO_FREE uint8_t *got = malloc(n * MANIFEST_LEAF);
    AUTO_FREE manifest_digest *kept = malloc(n * sizeof(*kept));
    struct mirror_io io;

    if (!leaves || !got || !kept)
        return plt_fail(err, PLT_NOMEM, "leaves of a mirror");
    if (is_away(v->mirror))
        return plt_fail(err, PLT_TIMEOUT,
                        "not mirrored yet, and the source is away");
    for (size_t i = 0; i < n; i++)
        leaves[i] = p->g * MANIFEST_LEAVES + p->first + which[i];
    mirror_io_init(&io, v->mirror, v, p->io, PLT_IO_EXACT);
    uint64_t cost = 0;
    enum plt_status st = PLT_CHANGED;
    if (via(v) != VIA_RANGES)
        st = fetch_packed(v, &io.io, leaves, n, got, &cost, err);
    /* Its digests tell whether it is the same disk still. */
    if (st == PLT_CHANGED)
        st = fetch_leaves(v, &io.io, leaves, n, got, err);
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        manifest_leaf(got + i * MANIFEST_LEAF, MANIFEST_LEAF, kept[i]);
        if (memcmp(kept[i], digests[which[i]], MANIFEST_DIGEST) != 0)
            st = fetch_refused(v, v->mirror->entry.source, leaves[i], err);
        memcpy(p->buf + which[i] * MANIFEST_LEAF, got + i * MANIFEST_LEAF,
               MANIFEST_LEAF);
    }
    if (st != PLT_OK)
        return blame(v->mirror, st, err);
    (void)blame(v->mirror, st, err);
    struct plt_error ignored; /* it is served all the same */
    if (!v->out) {
        ignored.status = store_put(v->mirrors->store, n,
                                   (const uint8_t(*)[STORE_DIGEST])kept, got,
                                   NULL, &ignored);
        return PLT_OK;
    }
    for (size_t i = 0; i < n; i++)
        ignored.status =
            out_put(v->out, leaves[i], got + i * MANIFEST_LEAF, &ignored);
    return PLT_OK;
}

/* It was complete, and something of it is gone: a damaged disk. */
static void repaired(struct version *v, uint64_t g, size_t n)
{
    lock_take(&v->lock);
    const bool was_done = v->state[g] == GROUP_DONE;
    lock_give(&v->lock);
    if (!was_done)
        return;
    (void)atomic_fetch_add(&v->counts.repaired, n);
    (void)atomic_fetch_add(&v->mirrors->repaired, n);
    lock_take(&v->mirror->lock);
    history_note(v->mirror, HISTORY_REPAIRED, v, n, NULL);
    lock_give(&v->mirror->lock);
    mirror_changed(v->mirror);
}

/* Leaves out of the store or the output, n of them into buf, one after the
 * other; at[i] is the place of the i-th in the piece. */
static enum plt_status get_here(const struct piece *p,
                                const manifest_digest *digests,
                                const size_t *at, size_t n, uint8_t *buf,
                                bool *there, struct plt_error *err)
{
    if (!p->v->out)
        return store_get_batch(p->v->mirrors->store, n,
                               (const uint8_t(*)[STORE_DIGEST])digests, buf,
                               there, err);
    for (size_t i = 0; i < n; i++)
        there[i] = out_get(p->v->out, p->g * MANIFEST_LEAVES + p->first + at[i],
                           digests[i], buf + i * MANIFEST_LEAF);
    return PLT_OK;
}

static enum plt_status read_known(struct piece *p,
                                  const manifest_digest *digests,
                                  struct plt_error *err)
{
    manifest_digest some[MANIFEST_LEAVES];
    size_t at[MANIFEST_LEAVES], which[MANIFEST_LEAVES], n = 0, missing = 0;
    bool there[MANIFEST_LEAVES];

    for (size_t i = 0; i < p->n; i++) {
        if (manifest_is_zero_leaf(digests[i])) { /* zeros are nowhere */
            memset(p->buf + i * MANIFEST_LEAF, 0, MANIFEST_LEAF);
        } else {
            memcpy(some[n], digests[i], MANIFEST_DIGEST);
            at[n++] = i;
        }
    }
    if (!n)
        return PLT_OK;
    AUTO_FREE uint8_t *apart = n < p->n ? malloc(n * MANIFEST_LEAF) : NULL;
    if (n < p->n && !apart)
        return plt_fail(err, PLT_NOMEM, "leaves of a mirror");
    enum plt_status st = get_here(p, (const manifest_digest *)some, at, n,
                                  apart ? apart : p->buf, there, err);
    if (st != PLT_OK)
        return st;
    for (size_t i = 0; i < n; i++) {
        if (!there[i])
            which[missing++] = at[i];
        else if (apart)
            memcpy(p->buf + at[i] * MANIFEST_LEAF, apart + i * MANIFEST_LEAF,
                   MANIFEST_LEAF);
    }
    if (!missing)
        return PLT_OK;
    st = fetch(p, digests, which, missing, err);
    if (st == PLT_OK)
        repaired(p->v, p->g, missing);
    return st;
}

/* From a source without a manifest, as it is. */
static enum plt_status read_through(struct version *v, struct plt_io *outer,
                                    uint64_t off, size_t len, uint8_t *buf,
                                    struct plt_error *err)
{
    const struct plt_seg seg = {off, len, buf};
    struct mirror_io io;
    struct image *image;

    if (is_away(v->mirror))
        return plt_fail(err, PLT_TIMEOUT,
                        "not mirrored yet, and the source is away");
    mirror_io_init(&io, v->mirror, v, outer, 0);
    enum plt_status st = source_disk(v->mirror, &io.io, &image, err);
    if (st == PLT_OK) {
        uint64_t size;
        st = image_resolve_size(image, &io.io, &size, err);
        if (st == PLT_OK &&
            (size != v->size || strcmp(image_etag(image), v->etag) != 0))
            st = plt_fail(err, PLT_CHANGED, "the source has changed");
        if (st == PLT_OK)
            st = image_read(image, &io.io, &seg, 1, err);
        image_unref(image);
    }
    return blame(v->mirror, st, err);
}

/* The block that is asked for, of which caches between may know, is all that is
 * fetched: its digests are made of it, and hash to the group's. */
static enum plt_status read_block(struct version *v, struct plt_io *outer,
                                  uint64_t g, manifest_digest *leaves,
                                  uint8_t *block, struct plt_error *err)
{
    const size_t n = manifest_group_leaves(v->size, g);
    struct plt_error ignored;
    struct mirror_io io;

    if (is_away(v->mirror))
        return plt_fail(err, PLT_TIMEOUT,
                        "not mirrored yet, and the source is away");
    mirror_io_init(&io, v->mirror, v, outer, PLT_IO_EXACT);
    uint64_t cost = 0;
    enum plt_status st = fetch_block(v, &io.io, g, block, &cost, err);
    st = blame(v->mirror, st, err);
    if (st != PLT_OK)
        return st;
    manifest_leaf_list(block, n * MANIFEST_LEAF, leaves);
    st = manifest_file_put(v->file, g, (const manifest_digest *)leaves, n, err);
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        const uint8_t *const data = block + i * MANIFEST_LEAF;
        if (v->out)
            ignored.status =
                out_put(v->out, g * MANIFEST_LEAVES + i, data, &ignored);
        else if (!manifest_is_zero_leaf(leaves[i]))
            ignored.status =
                store_put(v->mirrors->store, 1,
                          (const uint8_t(*)[STORE_DIGEST]) & leaves[i], data,
                          NULL, &ignored);
    }
    return st;
}

/* The part of one group: [off, off+len), whole leaves or up to the end. */
static enum plt_status read_group(struct version *v, struct plt_io *io,
                                  uint64_t off, size_t len, uint8_t *buf,
                                  struct plt_error *err)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    const uint64_t g = off / MANIFEST_GROUP;
    const uint64_t first = off / MANIFEST_LEAF;
    const size_t n =
        (size_t)((off + len + MANIFEST_LEAF - 1) / MANIFEST_LEAF - first);
    size_t of_group = 0;
    struct mirror_io mine;

    if (!v->is_direct && !manifest_file_has_leaves(v->file, g) &&
        via(v) == VIA_BLOCKS) {
        AUTO_FREE uint8_t *block = malloc(MANIFEST_GROUP);
        if (!block)
            return plt_fail(err, PLT_NOMEM, "a block of a mirror");
        const enum plt_status st = read_block(v, io, g, leaves, block, err);
        if (st == PLT_OK)
            memcpy(buf, block + off % MANIFEST_GROUP, len);
        return st;
    }
    if (!manifest_file_has_leaves(v->file, g))
        atomic_store(&v->mirror->demand_ns, clock_now());
    mirror_io_init(&mine, v->mirror, v, io, PLT_IO_EXACT);
    enum plt_status st = fetch_digests(v, &mine.io, g, leaves, &of_group, err);
    if (st == PLT_NOT_FOUND && v->is_direct)
        return read_through(v, io, off, len, buf, err);
    if (st != PLT_OK)
        return blame(v->mirror, st, err);
    AUTO_FREE uint8_t *whole = malloc(n * MANIFEST_LEAF);
    if (!whole)
        return plt_fail(err, PLT_NOMEM, "leaves of a mirror");
    struct piece p = {v, io, g, (size_t)(first % MANIFEST_LEAVES), n, whole};
    st = read_known(&p, (const manifest_digest *)leaves + p.first, err);
    if (st == PLT_OK)
        memcpy(buf, whole + off % MANIFEST_LEAF, len);
    return st;
}

static enum plt_status disk_read(void *disk, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct version *const v = (struct version *)disk;

    for (size_t i = 0; i < n; i++) {
        uint64_t off = segs[i].off;
        uint8_t *to = (uint8_t *)segs[i].buf;
        size_t left = segs[i].len;
        while (left) {
            const size_t room = MANIFEST_GROUP - (size_t)(off % MANIFEST_GROUP);
            const size_t now = left < room ? left : room;
            const enum plt_status st = read_group(v, io, off, now, to, err);
            if (st != PLT_OK)
                return st;
            off += now;
            to += now;
            left -= now;
        }
    }
    return PLT_OK;
}

/* ---- What it says of itself ---- */

static enum plt_status disk_extents(void *disk, struct plt_io *io, uint64_t off,
                                    uint64_t len, plt_extent_fn *emit,
                                    void *cookie, struct plt_error *err)
{
    struct version *const v = (struct version *)disk;
    const uint64_t end = off + len;
    manifest_digest leaves[MANIFEST_LEAVES];

    while (off < end) {
        const uint64_t g = off / MANIFEST_GROUP;
        const uint64_t to =
            g * MANIFEST_GROUP + manifest_group_bytes(v->size, g);
        size_t n;
        if (io->cancelled(io))
            return plt_fail(err, PLT_CANCELLED, "extents of a mirror");
        if (manifest_file_leaves(v->file, g, leaves, &n, err) != PLT_OK) {
            const struct plt_extent data = {.off = off, .len = to - off};
            if (!emit(cookie, &data))
                return PLT_OK;
            off = to;
            continue;
        }
        while (off < to && off < end) {
            const size_t i = (size_t)(off / MANIFEST_LEAF % MANIFEST_LEAVES);
            const bool is_zero = manifest_is_zero_leaf(leaves[i]);
            size_t k = i + 1;
            while (k < n && manifest_is_zero_leaf(leaves[k]) == is_zero)
                k++;
            uint64_t until = g * MANIFEST_GROUP + k * MANIFEST_LEAF;
            until = until < to ? until : to;
            const struct plt_extent e = {
                .off = off,
                .len = until - off,
                .flags = is_zero ? PLT_EXTENT_ZERO | PLT_EXTENT_HOLE : 0};
            if (!emit(cookie, &e))
                return PLT_OK;
            off = until;
        }
    }
    return PLT_OK;
}

static void disk_info(void *disk, struct plt_info *info)
{
    struct version *const v = (struct version *)disk;
    char hex[MANIFEST_HEX];

    info->text(info, "mirror", v->mirror->entry.name);
    if (atomic_load(&v->has_root)) {
        manifest_to_hex(v->root, hex);
        info->text(info, "root", hex);
    }
    info->boolean(info, "complete", atomic_load(&v->is_complete));
}

void mirror_disk_provider(struct mirrors *mirrors, struct provider *out)
{
    *out = (struct provider){.cookie = mirrors,
                             .has = disk_has,
                             .open = disk_open,
                             .close = disk_close,
                             .read = disk_read,
                             .extents = disk_extents,
                             .info = disk_info};
}
