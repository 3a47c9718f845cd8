/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a source which version it has.
 *
 * A gateway has a manifest: its head names the root, which is the version.  It
 * may still be making it; until then the disk is read through and nothing of it
 * is kept.  Any other source is what its ETag says, and the digests are made of
 * what comes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "manifest/minisign.h"
#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "stack/json_memory.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    MAX_HEAD = 8 << 20,
    MAX_SIGNATURE = 4096,
    MAX_SOURCES = 64 * 1024,
    MAX_TRACE = 1 << 20,
    MAX_STRETCHES = 8192,
    GROUPS_AT_ONCE = 1 << 20, /* bytes of the list in one read */
    SIBLINGS_MS = 60000,
    LOOK_AGAIN_S = 10, /* after a failure, or sooner, if it follows closer */
    FIRST_MS = 3000    /* then the disk is read without its manifest */
};

void mirror_time(char out[24])
{
    const time_t now = time(NULL);
    struct tm tm;

    out[0] = '\0';
    if (gmtime_r(&now, &tm))
        (void)strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static bool take_u64(json_t *o, const char *key, uint64_t *out)
{
    json_t *const value = json_object_get(o, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

enum plt_status look_parse_head(const char *text, size_t len,
                                struct mirror_head *out, struct plt_error *err)
{
    json_t *const o =
        json_memory_parse(text, len, JSON_REJECT_DUPLICATES, NULL);
    const char *const root = json_string_value(json_object_get(o, "root"));
    const char *const algorithm =
        json_string_value(json_object_get(o, "algorithm"));
    uint64_t version, leaf, group;

    *out = (struct mirror_head){.data_leaves = UINT64_MAX};
    (void)take_u64(o, "data-leaves", &out->data_leaves);
    const bool is_good =
        take_u64(o, "version", &version) && version == 1 &&
        take_u64(o, "virtual-size", &out->size) && out->size <= PLT_SIZE_MAX &&
        take_u64(o, "leaf-size", &leaf) && leaf == MANIFEST_LEAF &&
        take_u64(o, "group-size", &group) && group == MANIFEST_GROUP &&
        algorithm && strcmp(algorithm, "sha256") == 0 && root &&
        manifest_from_hex(root, out->root);
    json_decref(o);
    return is_good ? PLT_OK
                   : plt_fail(err, PLT_CORRUPT,
                              "the source's manifest is none of version 1");
}

/* ---- Documents ---- */

static enum plt_status get(struct mirror *m, struct plt_io *io,
                           struct image *beside, const char *kind,
                           const char *tail, size_t max, char **text,
                           size_t *len, struct plt_error *err)
{
    struct source source;
    AUTO_FREE char *buf = malloc(max + 1);

    enum plt_status st = source_parse(&source, m->entry.source, err);
    if (st != PLT_OK)
        return st;
    AUTO_FREE char *url = source_url(&source, kind, tail);
    source_release(&source);
    if (!url || !buf)
        return plt_fail(err, PLT_NOMEM, "a document");
    st = image_fetch(beside, io, url, (uint8_t *)buf, max, len, err);
    if (st != PLT_OK)
        return st;
    buf[*len] = '\0';
    char *const fit = realloc(buf, *len + 1);
    *text = fit ? fit : buf;
    buf = NULL;
    return PLT_OK;
}

/* A gateway signs "image=REF root=ROOT": one image's manifest must not be taken
 * for another's.  Others may say what they like. */
static bool is_of_image(struct mirror *m, const char *comment)
{
    static const char key[] = "image=";
    struct plt_error ignored;
    struct source source;

    if (strncmp(comment, key, sizeof(key) - 1) != 0)
        return true;
    if (source_parse(&source, m->entry.source, &ignored) != PLT_OK)
        return false;
    const char *const name = comment + sizeof(key) - 1;
    const size_t len = strlen(source.path);
    const bool is = strncmp(name, source.path, len) == 0 &&
                    (name[len] == '\0' || name[len] == ' ');
    source_release(&source);
    return is;
}

/* Compared with the keys: "good", or "none" where it need not be. */
static enum plt_status check_signature(struct mirror *m, struct plt_io *io,
                                       struct image *beside, const char *head,
                                       size_t len, struct mirror_head *out,
                                       struct plt_error *err)
{
    const char *const *const texts = m->mirrors->config.keys;
    AUTO_FREE char *signature = NULL;
    char comment[256];
    size_t n = 0, got;

    out->signature[0] = '\0';
    while (texts && texts[n])
        n++;
    if (!n)
        return PLT_OK;
    AUTO_FREE struct minisign_key *keys = calloc(n, sizeof(*keys));
    if (!keys)
        return plt_fail(err, PLT_NOMEM, "keys");
    for (size_t i = 0; i < n; i++) {
        const enum plt_status st = minisign_key_parse(texts[i], &keys[i], err);
        if (st != PLT_OK)
            return st;
    }
    enum plt_status st = get(m, io, beside, "manifest", "/signature",
                             MAX_SIGNATURE, &signature, &got, err);
    if (st == PLT_NOT_FOUND && !m->entry.is_signed) {
        (void)snprintf(out->signature, sizeof(out->signature), "none");
        return PLT_OK;
    }
    if (st == PLT_NOT_FOUND)
        return plt_fail(err, PLT_DENIED,
                        "the source's manifest is not signed, and must be");
    if (st != PLT_OK)
        return st;
    st = minisign_verify(keys, n, head, len, signature, comment, err);
    if (st != PLT_OK) {
        struct plt_error why = *err;
        return plt_fail(err, PLT_DENIED, "the manifest's signature: %.150s",
                        why.text);
    }
    if (!is_of_image(m, comment))
        return plt_fail(err, PLT_DENIED,
                        "the manifest's signature is of another image: %.120s",
                        comment);
    (void)snprintf(out->signature, sizeof(out->signature), "good");
    return PLT_OK;
}

static enum plt_status get_groups(struct version *v, struct plt_io *io,
                                  const manifest_digest root,
                                  struct plt_error *err)
{
    const uint64_t bytes = v->n_groups * MANIFEST_DIGEST;
    AUTO_FREE manifest_digest *groups =
        malloc(bytes ? (size_t)bytes : MANIFEST_DIGEST);
    const uint32_t flags = io->flags;
    enum plt_status st = PLT_OK;

    if (!groups)
        return plt_fail(err, PLT_NOMEM, "a list of groups");
    /* Not kept in the cache: a wrong list would be found there again. */
    io->flags |= PLT_IO_EXACT;
    for (uint64_t at = 0; at < bytes && st == PLT_OK; at += GROUPS_AT_ONCE) {
        const uint64_t left = bytes - at;
        const struct plt_seg seg = {
            at, left < GROUPS_AT_ONCE ? (size_t)left : GROUPS_AT_ONCE,
            (uint8_t *)groups + at};
        st = source_part(v->mirror, "/groups", io, &seg, 1, err);
    }
    io->flags = flags;
    if (st == PLT_OK)
        st = manifest_file_put_groups(v->file, (const manifest_digest *)groups,
                                      root, err);
    if (st == PLT_CORRUPT)
        st = plt_fail(err, PLT_ORIGIN,
                      "the source's list of groups is not what its root says");
    return st;
}

/* ---- The order ---- */

static void order_by_trace(struct version *v, struct plt_io *io,
                           struct image *beside)
{
    AUTO_FREE char *text = NULL;
    struct plt_error ignored;
    uint64_t first = 0;
    size_t len, n = 0;
    json_t *o = NULL, *row;
    size_t i;

    /* Edges that help each other begin at different places. */
    lock_take(&v->mirror->lock);
    const bool has_siblings = v->mirror->n_siblings > 0,
               wants_trace = v->mirror->entry.wants_trace;
    lock_give(&v->mirror->lock);
    if (has_siblings && v->n_groups)
        first = (v->salt[0] | (uint64_t)v->salt[1] << 8) * v->n_groups >> 16;
    AUTO_FREE uint64_t(*stretches)[2] =
        calloc(MAX_STRETCHES + 1, sizeof(*stretches));
    if (!stretches)
        return;
    if (wants_trace && get(v->mirror, io, beside, "trace", "", MAX_TRACE, &text,
                           &len, &ignored) == PLT_OK)
        o = json_memory_parse(text, len, 0, NULL);
    stretches[n][1] = 1; /* where the partition table is */
    n++;
    json_array_foreach(json_object_get(o, "reads"), i, row)
    {
        const json_int_t off = json_integer_value(json_array_get(row, 0));
        const json_int_t of = json_integer_value(json_array_get(row, 1));
        if (n > MAX_STRETCHES || off < 0 || of <= 0 ||
            (uint64_t)off >= v->size || (uint64_t)of > v->size - (uint64_t)off)
            continue;
        stretches[n][0] = (uint64_t)off;
        stretches[n++][1] = (uint64_t)of;
    }
    json_decref(o);
    version_order(v, (const uint64_t(*)[2])stretches, n, first);
}

static void look_for_siblings(struct mirror *m, struct plt_io *io,
                              struct image *beside)
{
    AUTO_FREE char *text = NULL;
    struct plt_error ignored;
    char tail[600];
    const char *const own = m->mirrors->config.advertise;
    size_t len, i;
    json_t *value;

    if (m->siblings_ns && clock_now() < m->siblings_ns)
        return;
    m->siblings_ns = clock_after_ms(SIBLINGS_MS);
    (void)snprintf(tail, sizeof(tail), "/sources%s%.500s", own ? "?edge=" : "",
                   own ? own : "");
    if (get(m, io, beside, "manifest", tail, MAX_SOURCES, &text, &len,
            &ignored) != PLT_OK)
        return;
    json_t *const o = json_memory_parse(text, len, 0, NULL);
    lock_take(&m->lock);
    unsigned n = 0;
    json_array_foreach(json_object_get(o, "sources"), i, value)
    {
        const char *const url = json_string_value(value);
        const size_t of = url ? strlen(url) : 0;
        if (!of || of + 2 > sizeof(m->sibling[0].url) || n == MIRROR_SOURCES ||
            (own && strcmp(url, own) == 0) || strpbrk(url, " ?#@"))
            continue;
        if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
            continue;
        (void)snprintf(m->sibling[n].url, sizeof(m->sibling[n].url), "%s%s",
                       url, url[of - 1] == '/' ? "" : "/");
        m->sibling[n].muted_ns = 0;
        m->sibling[n++].is_used = false;
    }
    m->n_siblings = n;
    lock_give(&m->lock);
    json_decref(o);
}

/* ---- Versions ---- */

/* It is the one to be fetched now.  Steals v. */
static enum plt_status take_version(struct mirror *m, struct version *v,
                                    struct plt_error *err)
{
    struct version *old = NULL, *other = NULL;

    lock_take(&m->lock);
    if (m->is_removed) {
        lock_give(&m->lock);
        version_unref(v);
        return plt_fail(err, PLT_CANCELLED, "the mirror was deleted");
    }
    /* A complete version is served until the next one is, too; of two that are
     * not, the newer. */
    const bool is_beside = m->current && !m->current->is_passing &&
                           atomic_load(&m->current->is_complete) &&
                           !(v->out && out_is_in_place(v->out));
    other = m->coming;
    if (is_beside) {
        m->coming = v;
    } else {
        old = m->current;
        m->current = v;
        m->coming = NULL;
        m->completed[0] = '\0';
    }
    if (!v->is_passing)
        history_note(m, HISTORY_VERSION, v, 1, NULL);
    /* Whoever has waited for this reads first. */
    atomic_store(&m->turn_ns, clock_now());
    if (!is_beside)
        atomic_store(&m->demand_ns, clock_now());
    cond_wake_all(&m->moved);
    lock_give(&m->lock);
    if (old)
        images_forget(m->mirrors->images, m->entry.name);
    const enum plt_status st =
        v->is_passing ? PLT_OK : mirrors_save(m->mirrors, err);
    version_unref(old);
    version_unref(other);
    mirror_changed(m);
    mirrors_wake(m->mirrors);
    return st;
}

static struct version *newest(struct mirror *m)
{
    lock_take(&m->lock);
    struct version *const v = m->coming ? m->coming : m->current;
    if (v)
        version_ref(v);
    lock_give(&m->lock);
    return v;
}

/* The version before writes nothing more where the next one does: not even a
 * late answer, or what a reader of it has waited for. */
static enum plt_status begin_out(struct mirror *m, struct version *v,
                                 struct version *before, struct plt_error *err)
{
    if (!m->entry.output)
        return PLT_OK;
    const bool is_same_place =
        before && before->out &&
        (out_is_in_place(before->out) || !atomic_load(&before->is_complete));
    if (is_same_place)
        out_retire(before->out, true);
    const enum plt_status st =
        out_open(m->entry.output, v->size, false, &v->out, err);
    if (st != PLT_OK && is_same_place)
        out_retire(before->out, false);
    return st;
}

/* A source with a manifest. */
static enum plt_status look_at_head(struct mirror *m, struct plt_io *io,
                                    struct image *beside, struct plt_error *err)
{
    AUTO_FREE char *text = NULL;
    struct version *const known = newest(m);
    struct version *v = NULL;
    struct mirror_head head;
    size_t len;

    enum plt_status st =
        get(m, io, beside, "manifest", "", MAX_HEAD, &text, &len, err);
    if (st == PLT_OK)
        st = look_parse_head(text, len, &head, err);
    if (st == PLT_OK)
        st = check_signature(m, io, beside, text, len, &head, err);
    const bool is_same = st == PLT_OK && known && !known->is_direct &&
                         known->size == head.size &&
                         memcmp(known->root, head.root, MANIFEST_DIGEST) == 0;
    if (st == PLT_OK && !is_same && known)
        source_forget(m);
    if (st == PLT_OK && !is_same)
        look_for_siblings(m, io, beside);
    if (st == PLT_OK && !is_same)
        st = version_new(m, head.size, "", &v, err);
    if (v) {
        memcpy(v->root, head.root, sizeof(v->root));
        v->told_data = head.data_leaves;
        v->is_checked = true; /* nothing was here before */
        (void)snprintf(v->signature, sizeof(v->signature), "%s",
                       head.signature);
        st = get_groups(v, io, head.root, err);
        if (st == PLT_OK)
            st = begin_out(m, v, known, err);
        if (st == PLT_OK) {
            atomic_store(&v->has_root, true);
            order_by_trace(v, io, beside);
            st = take_version(m, v, err);
        } else {
            version_unref(v);
        }
    }
    version_unref(known);
    return st;
}

/* Leaves that may be something else than zeros, as far as the source tells. */
static bool add_extent(void *cookie, const struct plt_extent *e)
{
    uint64_t *const leaves = (uint64_t *)cookie;

    if (!(e->flags & PLT_EXTENT_ZERO))
        *leaves += manifest_leaves(e->len);
    return true;
}

static uint64_t guess_data(struct image *disk, struct plt_io *io, uint64_t size)
{
    struct plt_error ignored;
    uint64_t leaves = 0;

    return image_extents(disk, io, 0, size, add_extent, &leaves, &ignored) ==
                       PLT_OK &&
                   leaves < manifest_leaves(size)
               ? leaves
               : manifest_leaves(size);
}

/* A source without: its ETag is its version. */
static enum plt_status look_at_disk(struct mirror *m, struct plt_io *io,
                                    struct image *disk, bool is_passing,
                                    struct plt_error *err)
{
    struct version *const known = newest(m);
    struct version *v = NULL;
    uint64_t size;

    enum plt_status st = image_resolve_size(disk, io, &size, err);
    const bool is_same = st == PLT_OK && known && known->is_direct &&
                         known->size == size &&
                         known->is_passing == is_passing &&
                         strcmp(known->etag, image_etag(disk)) == 0;
    if (st == PLT_OK && !is_same && m->entry.is_signed && !is_passing)
        st = plt_fail(err, PLT_DENIED,
                      "the source has no manifest, and it must be signed");
    if (st == PLT_OK && !is_same)
        st = version_new(m, size, "", &v, err);
    if (v) {
        v->is_direct = true;
        v->guessed_data = size && !is_passing ? guess_data(disk, io, size) : 0;
        v->is_passing = is_passing;
        v->is_checked = true;
        (void)snprintf(v->etag, sizeof(v->etag), "%s", image_etag(disk));
        st = is_passing ? PLT_OK : begin_out(m, v, known, err);
        if (st == PLT_OK)
            st = take_version(m, v, err);
        else
            version_unref(v);
    }
    version_unref(known);
    return st;
}

/* Of what is read from the disk itself, for want of a manifest. */
static enum plt_status look_without(struct mirror *m, struct plt_io *io,
                                    bool is_passing, struct plt_error *err)
{
    struct image *disk;
    enum plt_status st = source_disk(m, io, &disk, err);

    if (st != PLT_OK)
        return st;
    st = look_at_disk(m, io, disk, is_passing, err);
    image_unref(disk);
    return st;
}

static enum plt_status look(struct mirror *m, struct plt_error *err)
{
    struct mirror_io io;
    struct image *beside;

    enum plt_status st = entry_check(&m->entry, &m->mirrors->config, err);
    if (st != PLT_OK)
        return st;
    mirror_io_init(&io, m, NULL, NULL, 0);
    if (strncmp(m->entry.source, "http", 4) != 0)
        return look_without(m, &io.io, false, err);
    struct version *const known = newest(m);
    const bool is_first = !known && !m->entry.is_signed;
    version_unref(known);
    if (is_first)
        io.io.deadline_ns = clock_after_ms(FIRST_MS);
    st = source_beside(m, &io.io, &beside, err);
    if (st == PLT_OK) {
        st = look_at_head(m, &io.io, beside, err);
        image_unref(beside);
    }
    if (st == PLT_BUSY || st == PLT_TIMEOUT) {
        /* It is being made: the disk can be read all the same. */
        struct plt_error why;
        io.io.deadline_ns = clock_after_ms(MIRROR_WAIT_MS);
        if (is_first)
            why.status = look_without(m, &io.io, true, &why);
    } else if (st == PLT_NOT_FOUND || st == PLT_UNSUPPORTED) {
        st = look_without(m, &io.io, false, err);
    }
    return st;
}

void mirror_look(struct mirror *m)
{
    struct plt_error err;
    const enum plt_status st = look(m, &err);

    lock_take(&m->lock);
    m->is_looking = false;
    uint64_t next_s = m->entry.follow_s;
    if (st != PLT_OK && next_s > LOOK_AGAIN_S)
        next_s = LOOK_AGAIN_S;
    m->look_ns = next_s ? clock_after_ms(next_s * 1000) : UINT64_MAX;
    if (st == PLT_OK) {
        m->must_look = false;
        m->failures = 0;
        m->error[0] = '\0';
        m->is_failed = false;
        m->away_ns = 0;
        mirror_time(m->checked);
    }
    cond_wake_all(&m->moved);
    lock_give(&m->lock);
    if (st != PLT_OK)
        mirror_failed(m, &err);
    mirror_changed(m);
    mirrors_wake(m->mirrors);
}
