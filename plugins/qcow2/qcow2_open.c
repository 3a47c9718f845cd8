/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: header; then everything that it points to and that must be known
 * before the first read, in one vectored read; then the files it names.
 *
 * Round trips of a remote image, of which the first is usually in memory
 * already: 1 header; 2 L1 table, snapshot table, bitmap directory and LUKS
 * header together; 3 the L1 table of a snapshot, when one is asked for. */
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "qcow2_image.h"

enum {
    SNAPSHOT_GUESS = 128, /* bytes of a table's entry, names and all */
    GUESS_MAX = 64 * 1024 /* of a table's first read */
};

void qcow2_free(struct qcow2 *q)
{
    if (q->mem)
        q->host->mem_give(q->host, q->mem);
    qcow2_snapshots_release(&q->snapshots);
    qcow2_bitmaps_release(&q->bitmaps);
    qcow2_crypt_free(q->crypt);
    qcow2_luks_free(q->luks);
    free(q->l1);
    free(q);
}

/* Bounds for what tables say: the size, or when that is not known yet the
 * largest there is. */
static uint64_t limit_of(const struct plt_child *child)
{
    return child->size == PLT_SIZE_UNKNOWN ? PLT_SIZE_MAX : child->size;
}

/* Memory that an image chose the size of. */
static uint8_t *take(struct qcow2 *q, size_t n, const char *what,
                     enum plt_status *st, struct plt_error *err)
{
    *st = q->host->mem_take(q->host, n, err);
    if (*st != PLT_OK) {
        *st = plt_prefix(err, "%s: ", what);
        return NULL;
    }
    q->mem += n;
    uint8_t *const p = malloc(n ? n : 1);
    if (!p)
        *st = plt_fail(err, PLT_NOMEM, "%s", what);
    return p;
}

static void give(struct qcow2 *q, uint8_t *p, size_t n)
{
    if (!p)
        return;
    free(p);
    q->mem -= n;
    q->host->mem_give(q->host, n);
}

/* The first bytes, whose number is known only where the length is. */
static enum plt_status read_head(struct qcow2 *q, struct plt_io *io,
                                 uint8_t *buf, size_t *n, struct plt_error *err)
{
    struct plt_seg seg = {0, QCOW2_HEADER_BYTES, buf};
    uint64_t size = q->child->size;

    *n = QCOW2_HEADER_BYTES;
    if (size == PLT_SIZE_UNKNOWN) {
        const enum plt_status st = q->child->read(q->child, io, &seg, 1, err);
        if (st != PLT_CORRUPT)
            return st;
        const enum plt_status size_st =
            q->child->resolve_size(q->child, io, &size, err);
        if (size_st != PLT_OK)
            return size_st;
    }
    if (size < *n)
        *n = (size_t)size;
    if (!*n)
        return plt_fail(err, PLT_CORRUPT, "no qcow2 header");
    seg.len = *n;
    return q->child->read(q->child, io, &seg, 1, err);
}

/* ---- What the header points to ---- */

/* Read before anything is shown. */
struct tables {
    uint8_t *snapshots, *bitmaps, *luks;
    size_t snapshots_len, bitmaps_len, luks_len;
};

/* How much of the snapshot table to read: its length is known only when it has
 * been parsed. */
static size_t clip_table(const struct qcow2 *q, uint64_t want, uint64_t size)
{
    const uint64_t there = size - q->header.snapshots_off;

    if (want > QCOW2_MAX_SNAPSHOT_TABLE)
        want = QCOW2_MAX_SNAPSHOT_TABLE;
    return (size_t)(want < there ? want : there);
}

static enum plt_status parse_snapshots(struct qcow2 *q, struct plt_io *io,
                                       struct tables *t, uint64_t size,
                                       struct plt_error *err)
{
    const struct qcow2_header *const h = &q->header;

    for (;;) {
        enum plt_status st =
            qcow2_snapshots_parse(&q->snapshots, t->snapshots, t->snapshots_len,
                                  h->n_snapshots, h->size, err);
        if (st != PLT_AGAIN)
            return st == PLT_OK ? st : plt_prefix(err, "snapshot table: ");
        const size_t more =
            clip_table(q, (uint64_t)t->snapshots_len * 16 + 1, size);
        if (more == t->snapshots_len)
            return plt_fail(err, PLT_CORRUPT,
                            "%u snapshots in a table of %zu bytes",
                            h->n_snapshots, more);
        give(q, t->snapshots, t->snapshots_len);
        t->snapshots_len = more;
        t->snapshots = take(q, more, "snapshot table", &st, err);
        const struct plt_seg seg = {h->snapshots_off, more, t->snapshots};
        if (st == PLT_OK)
            st = q->child->read(q->child, io, &seg, 1, err);
        if (st != PLT_OK)
            return plt_prefix(err, "snapshot table: ");
    }
}

/* The L1 table of what is shown, unless it is read in slices. */
static enum plt_status add_l1(struct qcow2 *q, struct plt_seg *segs, size_t *n,
                              struct plt_error *err)
{
    const uint64_t bytes = (uint64_t)q->l1_count * 8;
    enum plt_status st;

    if (!bytes || bytes > QCOW2_SLICE)
        return PLT_OK;
    q->l1 = take(q, (size_t)bytes, "L1 table", &st, err);
    if (st == PLT_OK)
        segs[(*n)++] = (struct plt_seg){q->l1_off, (size_t)bytes, q->l1};
    return st;
}

static enum plt_status add_table(struct qcow2 *q, struct plt_seg *segs,
                                 size_t *n, uint64_t off, size_t len,
                                 const char *what, uint8_t **buf,
                                 size_t *buf_len, struct plt_error *err)
{
    enum plt_status st;

    if (!len)
        return PLT_OK;
    *buf = take(q, len, what, &st, err);
    *buf_len = len;
    if (st == PLT_OK)
        segs[(*n)++] = (struct plt_seg){off, len, *buf};
    return st;
}

static enum plt_status read_tables(struct qcow2 *q, struct plt_io *io,
                                   bool is_snapshot, struct tables *t,
                                   uint64_t *size, struct plt_error *err)
{
    const struct qcow2_header *const h = &q->header;
    struct plt_seg segs[4];
    size_t n = 0, guess = 0;
    enum plt_status st = PLT_OK;

    *size = q->child->size;
    if (h->n_snapshots) {
        /* Where the table ends is known only from the file's end. */
        if (*size == PLT_SIZE_UNKNOWN)
            st = q->child->resolve_size(q->child, io, size, err);
        if (st == PLT_OK && h->snapshots_off >= *size)
            st = plt_fail(err, PLT_CORRUPT, "snapshot table past the end");
        if (st != PLT_OK)
            return st;
        guess = clip_table(q, (uint64_t)h->n_snapshots * SNAPSHOT_GUESS, *size);
        if (guess > GUESS_MAX)
            guess = GUESS_MAX;
    }
    if (h->luks_len > QCOW2_MAX_LUKS)
        return plt_fail(err, PLT_CORRUPT, "LUKS header of %llu bytes",
                        (unsigned long long)h->luks_len);
    if (!is_snapshot)
        st = add_l1(q, segs, &n, err);
    if (st == PLT_OK)
        st = add_table(q, segs, &n, h->snapshots_off, guess, "snapshot table",
                       &t->snapshots, &t->snapshots_len, err);
    if (st == PLT_OK && h->n_bitmaps)
        st = add_table(q, segs, &n, h->bitmaps_off, (size_t)h->bitmaps_len,
                       "bitmap directory", &t->bitmaps, &t->bitmaps_len, err);
    if (st == PLT_OK && h->crypt == QCOW2_LUKS)
        st = add_table(q, segs, &n, h->luks_off, (size_t)h->luks_len,
                       "LUKS header", &t->luks, &t->luks_len, err);
    if (st != PLT_OK || !n)
        return st;
    st = q->child->read(q->child, io, segs, n, err);
    return st == PLT_OK ? st : plt_prefix(err, "tables: ");
}

static enum plt_status unlock(struct qcow2 *q, struct plt_io *io,
                              const struct tables *t, struct plt_error *err)
{
    if (q->header.crypt == QCOW2_AES)
        return qcow2_aes_open(q->host, &q->crypt, err);
    if (q->header.crypt != QCOW2_LUKS)
        return PLT_OK;
    const enum plt_status st =
        qcow2_luks_parse(&q->luks, t->luks, t->luks_len, err);
    return st == PLT_OK ? qcow2_luks_open(q->luks, q->host, io, t->luks,
                                          t->luks_len, &q->crypt, err)
                        : st;
}

/* ---- What is shown ---- */

/* The disk of a snapshot, or the VM state in it: that lies behind the disk, at
 * the next L1 entry. */
static enum plt_status show_snapshot(struct qcow2 *q, const char *name,
                                     bool is_vm_state, struct plt_error *err)
{
    const struct qcow2_snapshot *const s =
        qcow2_snapshots_find(&q->snapshots, name);

    if (!s)
        return plt_fail(err, PLT_NOT_FOUND, "no snapshot %.64s", name);
    if (s->l1_off & (q->cluster - 1) || s->l1_count > QCOW2_MAX_L1 ||
        !plt_span_ok(s->l1_off, (uint64_t)s->l1_count * 8, limit_of(q->child)))
        return plt_fail_at(err, PLT_CORRUPT, s->l1_off,
                           "L1 table of snapshot %.64s: %u entries", name,
                           s->l1_count);
    if (s->about.disk_size > PLT_SIZE_MAX / 2 ||
        s->about.vm_state_size > PLT_SIZE_MAX / 2)
        return plt_fail(err, PLT_CORRUPT, "snapshot %.64s of %llu bytes", name,
                        (unsigned long long)s->about.disk_size);
    q->shown = s;
    q->l1_off = s->l1_off;
    q->l1_count = s->l1_count;
    q->size = s->about.disk_size;
    if (!is_vm_state)
        return PLT_OK;
    if (!s->about.vm_state_size)
        return plt_fail(err, PLT_NOT_FOUND, "snapshot %.64s has no VM state",
                        name);
    const uint64_t span = q->cluster / q->entry * q->cluster;
    q->is_vm_state = true;
    q->base = (q->size / span + (q->size % span != 0)) * span;
    q->size = s->about.vm_state_size;
    if (q->base > PLT_SIZE_MAX - q->size)
        return plt_fail(err, PLT_CORRUPT, "VM state of %llu bytes",
                        (unsigned long long)q->size);
    return PLT_OK;
}

static enum plt_status load_tables(struct qcow2 *q,
                                   const struct plt_open_args *args,
                                   struct tables *t, struct plt_error *err)
{
    const char *const snapshot =
        plt_setting_text(args->settings, args->n_settings, "snapshot");
    const bool is_vm_state =
        plt_setting_bool(args->settings, args->n_settings, "vmstate", false);
    uint64_t size;

    if (is_vm_state && !snapshot)
        return plt_fail(err, PLT_INVALID,
                        "vmstate needs the snapshot that it was saved with");
    enum plt_status st =
        read_tables(q, args->io, snapshot != NULL, t, &size, err);
    if (st == PLT_OK && q->header.n_snapshots)
        st = parse_snapshots(q, args->io, t, size, err);
    if (st == PLT_OK && t->bitmaps) {
        st = qcow2_bitmaps_parse(&q->bitmaps, t->bitmaps, t->bitmaps_len,
                                 q->header.n_bitmaps, q->header.cluster_bits,
                                 err);
    }
    if (st == PLT_OK) {
        st = unlock(q, args->io, t, err);
        /* What it says of itself needs no key. */
        if (st == PLT_DENIED && args->flags & PLT_OPEN_DESCRIBE)
            st = PLT_OK;
    }
    if (st != PLT_OK || !snapshot)
        return st;
    st = show_snapshot(q, snapshot, is_vm_state, err);
    struct plt_seg seg;
    size_t n = 0;
    if (st == PLT_OK)
        st = add_l1(q, &seg, &n, err);
    if (st == PLT_OK && n)
        st = q->child->read(q->child, args->io, &seg, n, err);
    return st;
}

/* ---- The files that it names ---- */

static enum plt_status open_files(struct qcow2 *q, struct plt_io *io,
                                  struct plt_error *err)
{
    const struct qcow2_header *const h = &q->header;
    enum plt_status st = PLT_OK;

    q->data.child = q->child;
    if (q->has_data_file) {
        if (!h->data_file[0])
            return plt_fail(err, PLT_CORRUPT,
                            "an external data file that is not named");
        st = q->host->open_named(q->host, io, PLT_ROLE_DATA_FILE, h->data_file,
                                 "raw", &q->data.child, err);
        if (st != PLT_OK)
            return plt_prefix(err, "data file: ");
    }
    atomic_init(&q->data.size, limit_of(q->data.child));
    if (h->backing[0]) {
        st =
            q->host->open_named(q->host, io, PLT_ROLE_BACKING, h->backing,
                                h->backing_format[0] ? h->backing_format : NULL,
                                &q->backing.child, err);
        if (st != PLT_OK)
            return plt_prefix(err, "backing file: ");
        atomic_init(&q->backing.size, limit_of(q->backing.child));
    }
    return PLT_OK;
}

enum plt_status qcow2_load(struct qcow2 *q, const struct plt_open_args *args,
                           struct plt_error *err)
{
    struct tables t = {.snapshots = NULL};
    uint8_t *const head = malloc(QCOW2_HEADER_BYTES);
    size_t n = 0;

    if (!head)
        return plt_fail(err, PLT_NOMEM, "a header");
    enum plt_status st = read_head(q, args->io, head, &n, err);
    if (st == PLT_OK)
        st = qcow2_header_parse(&q->header, head, n, q->child->size, err);
    free(head);
    if (st != PLT_OK)
        return st;
    q->cluster = UINT64_C(1) << q->header.cluster_bits;
    q->entry = q->header.incompatible & QCOW2_EXTENDED_L2 ? 16 : 8;
    q->slice = q->cluster < QCOW2_SLICE ? q->cluster : QCOW2_SLICE;
    q->slice_span = q->slice / q->entry * q->cluster;
    q->has_data_file = (q->header.incompatible & QCOW2_DATA_FILE) != 0;
    q->size = q->header.size;
    q->l1_off = q->header.l1_off;
    q->l1_count = q->header.l1_count;
    atomic_init(&q->child_size, limit_of(q->child));
    atomic_init(&q->backing.size, 0);
    st = load_tables(q, args, &t, err);
    give(q, t.snapshots, t.snapshots_len);
    give(q, t.bitmaps, t.bitmaps_len);
    give(q, t.luks, t.luks_len);
    return st == PLT_OK ? open_files(q, args->io, err) : st;
}
