/* SPDX-License-Identifier: Apache-2.0 */
/* The qcow2 driver: versions 2 and 3, read side, after docs/interop/qcow2 of
 * QEMU.
 *
 *     segments -> tables (one read for those not in memory)
 *              -> pieces -> plain ones and compressed ones: one read
 *                        -> not allocated: backing file, one read; or zeros
 *
 * So a read costs at most two dependent reads of the child (three when the L1
 * table is too large to be kept), however many clusters it touches.  Plain
 * bytes go straight into the caller's buffers; compressed clusters are decoded
 * into the cache and copied out of it.
 *
 * Encrypted clusters are read into the caller's buffers and decrypted there;
 * the sectors of which a caller wants a part go through a buffer of their own.
 *
 * A file whose length nobody knows yet (a qcow2 inside a plain gzip stream) is
 * read without bounds first; only when that runs over its end is the length
 * asked for, once. */
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "qcow2_image.h"

static int qcow2_probe(const struct plt_probe *probe)
{
    if (probe->head_len < 8 || plt_be32(probe->head) != 0x514649fb)
        return 0;
    const uint32_t version = plt_be32(probe->head + 4);
    return version == 2 || version == 3 ? 100 : 60; /* refused by name */
}

static void qcow2_close(void *image)
{
    qcow2_free((struct qcow2 *)image);
}

static enum plt_status qcow2_open(const struct plt_open_args *args,
                                  void **image, struct plt_opened *out,
                                  struct plt_error *err)
{
    struct qcow2 *const q = calloc(1, sizeof(*q));

    if (!q)
        return plt_fail(err, PLT_NOMEM, "an image");
    q->host = args->host;
    q->child = args->child;
    const enum plt_status st = qcow2_load(q, args, err);
    if (st != PLT_OK) {
        qcow2_free(q);
        return st;
    }
    out->size = q->size;
    *image = q;
    return PLT_OK;
}

/* ---- Reading ---- */

/* A compressed cluster that a segment wants a part of. */
struct part {
    uint64_t key;
    size_t in, len;
    uint8_t *buf;
};

/* A stretch of the caller's memory to decrypt where it is. */
struct cipher {
    uint8_t *buf;
    size_t len;
    uint64_t off; /* as qcow2_crypt_decrypt wants it */
};

/* A sector of which a segment wants [in, in+len). */
struct edge {
    uint8_t sector[QCOW2_CRYPT_SECTOR];
    size_t in, len;
    uint8_t *buf;
    struct edge *next;
};

/* What a read is made of, gathered before anything is fetched. */
struct plan {
    struct plt_seg *data, *backing;
    size_t n_data, n_backing, cap_data, cap_backing;
    struct plt_set packed;
    struct part *parts;
    size_t n_parts, cap_parts;
    struct cipher *ciphers;
    size_t n_ciphers, cap_ciphers;
    struct edge *edges;
    uint64_t limit, backing_limit; /* sizes, the same for the whole read */
};

/* Room for one more item. */
static bool room(void **array, size_t *cap, size_t n, size_t item)
{
    if (n < *cap)
        return true;
    const size_t more = *cap ? *cap * 2 : 16;
    void *const grown = realloc(*array, more * item);
    if (!grown)
        return false;
    *array = grown;
    *cap = more;
    return true;
}

static bool add_seg(struct plt_seg **list, size_t *cap, size_t *n,
                    struct plt_seg seg)
{
    struct plt_seg *const last = *n ? &(*list)[*n - 1] : NULL;
    void *array = *list;

    /* Adjacent in the file and in memory: one. */
    if (last && last->off + last->len == seg.off &&
        (uint8_t *)last->buf + last->len == (uint8_t *)seg.buf) {
        last->len += seg.len;
        return true;
    }
    const bool is_good = room(&array, cap, *n, sizeof(seg));
    *list = (struct plt_seg *)array;
    if (is_good)
        (*list)[(*n)++] = seg;
    return is_good;
}

/* [off, off+len) of a layer that ends at limit, zeros behind. */
static bool add_clipped(struct plt_seg **list, size_t *cap, size_t *n,
                        uint64_t limit, uint64_t off, uint8_t *buf, size_t len)
{
    const uint64_t there = off < limit ? limit - off : 0;
    const size_t now = there < len ? (size_t)there : len;

    memset(buf + now, 0, len - now);
    return !now || add_seg(list, cap, n, (struct plt_seg){off, now, buf});
}

static bool add_packed(const struct qcow2 *q, struct plan *p,
                       const struct qcow2_piece *piece, uint64_t off,
                       uint8_t *buf)
{
    const struct plt_want want = {.key =
                                      qcow2_key(QCOW2_OF_PACKED, piece->guest),
                                  .len = (size_t)q->cluster,
                                  .off = piece->host,
                                  .stored = piece->stored,
                                  .is_packed = true};
    void *array = p->parts;
    const bool is_good =
        room(&array, &p->cap_parts, p->n_parts, sizeof(*p->parts));

    p->parts = (struct part *)array;
    if (!is_good || !plt_set_add(&p->packed, &want))
        return false;
    p->parts[p->n_parts++] = (struct part){
        want.key, (size_t)(off & (q->cluster - 1)), (size_t)piece->len, buf};
    return true;
}

static bool add_cipher(struct plan *p, uint64_t host, uint64_t off,
                       uint8_t *buf, size_t len)
{
    struct cipher *const last =
        p->n_ciphers ? &p->ciphers[p->n_ciphers - 1] : NULL;
    void *array = p->ciphers;

    if (!add_clipped(&p->data, &p->cap_data, &p->n_data, p->limit, host, buf,
                     len))
        return false;
    if (last && last->buf + last->len == buf && last->off + last->len == off) {
        last->len += len;
        return true;
    }
    const bool is_good =
        room(&array, &p->cap_ciphers, p->n_ciphers, sizeof(*p->ciphers));
    p->ciphers = (struct cipher *)array;
    if (is_good)
        p->ciphers[p->n_ciphers++] = (struct cipher){buf, len, off};
    return is_good;
}

/* Encrypted data: whole sectors where they belong, others beside. */
static bool add_encrypted(const struct qcow2 *q, struct plan *p, uint64_t host,
                          uint64_t guest, uint8_t *buf, size_t len)
{
    const uint64_t iv = qcow2_crypt_by_host(q->crypt) ? host : guest;

    for (size_t at = 0; at < len;) {
        const size_t in = (size_t)((host + at) % QCOW2_CRYPT_SECTOR);
        size_t n = (len - at) / QCOW2_CRYPT_SECTOR * QCOW2_CRYPT_SECTOR;
        if (!in && n) {
            if (!add_cipher(p, host + at, iv + at, buf + at, n))
                return false;
            at += n;
            continue;
        }
        struct edge *const e = malloc(sizeof(*e));
        if (!e)
            return false;
        n = QCOW2_CRYPT_SECTOR - in;
        if (n > len - at)
            n = len - at;
        e->in = in;
        e->len = n;
        e->buf = buf + at;
        e->next = p->edges;
        p->edges = e;
        if (!add_cipher(p, host + at - in, iv + at - in, e->sector,
                        QCOW2_CRYPT_SECTOR))
            return false;
        at += n;
    }
    return true;
}

static bool add_piece(const struct qcow2 *q, struct plan *p,
                      const struct qcow2_piece *piece, uint64_t off,
                      uint8_t *buf)
{
    const size_t n = (size_t)piece->len;

    switch (piece->kind) {
    case QCOW2_DATA: /* the file may end inside its last cluster */
        if (q->crypt)
            return add_encrypted(q, p, piece->host, off, buf, n);
        return add_clipped(&p->data, &p->cap_data, &p->n_data, p->limit,
                           piece->host, buf, n);
    case QCOW2_PACKED:
        return add_packed(q, p, piece, off, buf);
    case QCOW2_UNALLOCATED: /* the backing file may be shorter */
        return add_clipped(&p->backing, &p->cap_backing, &p->n_backing,
                           p->backing_limit, off, buf, n);
    case QCOW2_ZERO:
    default:
        memset(buf, 0, n);
        return true;
    }
}

static enum plt_status plan_all(struct qcow2 *q, struct plt_io *io,
                                struct plan *p, const struct plt_seg *segs,
                                size_t n, struct plt_error *err)
{
    struct qcow2_tables tables;
    enum plt_status st = qcow2_tables_fetch(q, io, segs, n, &tables, err);

    if (st != PLT_OK)
        return st;
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        uint8_t *const buf = (uint8_t *)segs[i].buf;
        for (size_t at = 0; at < segs[i].len && st == PLT_OK;) {
            const uint64_t off = q->base + segs[i].off + at;
            struct qcow2_piece piece;
            st = qcow2_map(q, &tables, p->limit, off, segs[i].len - at, &piece,
                           err);
            if (st == PLT_OK && !add_piece(q, p, &piece, off, buf + at))
                st = plt_fail(err, PLT_NOMEM, "a list of pieces");
            if (st == PLT_OK)
                at += (size_t)piece.len;
        }
    }
    qcow2_tables_release(q, &tables);
    return st;
}

static enum plt_status fetch_plan(struct qcow2 *q, struct plt_io *io,
                                  struct plan *p, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    /* One call for all, unless data and compressed clusters are not in the same
     * file: then there are no compressed ones. */
    if (q->has_data_file && p->n_data)
        st = q->data.child->read(q->data.child, io, p->data, p->n_data, err);
    else if (p->n_data || p->packed.n)
        st = plt_set_fetch(&p->packed, q->host, q->child, io,
                           q->header.compression == QCOW2_ZSTD
                               ? &qcow2_zstd_decoding
                               : &qcow2_zlib_decoding,
                           p->data, p->n_data, err);
    for (size_t i = 0; i < p->n_parts && st == PLT_OK; i++) {
        const struct part *const part = &p->parts[i];
        const uint8_t *const data = plt_set_find(&p->packed, part->key);
        memcpy(part->buf, data + part->in, part->len);
    }
    for (size_t i = 0; i < p->n_ciphers && st == PLT_OK; i++) {
        const struct cipher *const c = &p->ciphers[i];
        st = qcow2_crypt_decrypt(q->crypt, c->buf, c->len, c->off, err);
    }
    for (const struct edge *e = p->edges; e && st == PLT_OK; e = e->next)
        memcpy(e->buf, e->sector + e->in, e->len);
    if (st != PLT_OK || !p->n_backing)
        return st;
    st = q->backing.child->read(q->backing.child, io, p->backing, p->n_backing,
                                err);
    return st == PLT_OK || st == PLT_AGAIN ? st
                                           : plt_prefix(err, "backing file: ");
}

static enum plt_status read_once(struct qcow2 *q, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct plan p = {.limit = atomic_load(&q->data.size),
                     .backing_limit = atomic_load(&q->backing.size)};

    if (q->is_vm_state)
        p.backing_limit = 0;
    enum plt_status st = plan_all(q, io, &p, segs, n, err);
    if (st == PLT_OK)
        st = fetch_plan(q, io, &p, err);
    plt_set_release(&p.packed, q->host);
    free(p.data);
    free(p.backing);
    free(p.parts);
    free(p.ciphers);
    while (p.edges) {
        struct edge *const e = p.edges;
        p.edges = e->next;
        free(e);
    }
    return st;
}

/* Find a size that was unknown.  True: now there are bounds that were not. */
static bool learn_size(struct plt_child *child, struct plt_io *io,
                       _Atomic uint64_t *size)
{
    struct plt_error unused;
    uint64_t found;

    if (!child || atomic_load(size) != PLT_SIZE_MAX ||
        child->resolve_size(child, io, &found, &unused) != PLT_OK ||
        found > PLT_SIZE_MAX)
        return false;
    atomic_store(size, found);
    return true;
}

static enum plt_status qcow2_read(void *image, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n,
                                  struct plt_error *err)
{
    struct qcow2 *const q = (struct qcow2 *)image;

    if (q->header.crypt && !q->crypt)
        return plt_fail(err, PLT_DENIED, "encrypted, and opened without a key");
    enum plt_status st = read_once(q, io, segs, n, err);

    if (st != PLT_CORRUPT || io->flags & PLT_IO_NOWAIT)
        return st;
    /* Perhaps it only ran over an end that was not known. */
    const bool is_child = learn_size(q->child, io, &q->child_size);
    const bool is_data = learn_size(q->data.child, io, &q->data.size);
    const bool is_backing = learn_size(q->backing.child, io, &q->backing.size);
    return is_child || is_data || is_backing ? read_once(q, io, segs, n, err)
                                             : st;
}

static const struct plt_option qcow2_options[] = {
    {"snapshot", PLT_OPTION_TEXT, "an internal snapshot: its id or name"},
    {"vmstate", PLT_OPTION_BOOL, "the snapshot's VM state, not its disk"},
    {NULL, PLT_OPTION_TEXT, NULL}};

PLT_DRIVER(.name = "qcow2", .summary = "qcow2 images, versions 2 and 3",
           .kind = PLT_KIND_FORMAT, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .options = qcow2_options,
           .probe = qcow2_probe, .open = qcow2_open, .close = qcow2_close,
           .read = qcow2_read, .extents = qcow2_extents, .info = qcow2_info,
           .snapshots = qcow2_list_snapshots, .check = qcow2_check,
           .dirty_extents = qcow2_dirty_extents, .lend = qcow2_lend)
