/* SPDX-License-Identifier: Apache-2.0 */
/* One partition of a disk as a disk of its own, or, opened as a list, what the
 * disk's table says of all of them.
 *
 * Opened by name only: what a guest wrote on its disk is never a layer by
 * itself. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <platter/bytes.h>

#include "partition_fs.h"
#include "partition_table.h"

enum {
    PORTION = 64,
    FS_MOST = 128,    /* partitions that are looked into */
    FS_WAIT_S = 5,    /* for all of them, where looking means decoding */
    HEAD = TABLE_HEAD /* one read for the table and what lies at 0 */
};

_Static_assert((int)TABLE_HEAD == (int)FS_HEAD, "one read serves both");

struct part {
    struct plt_child *child;
    uint64_t off, size; /* of the one; size 0 in a list */
    struct table table;
    size_t at; /* of the one, in the table */
    bool is_list, has_unread;
    bool has_fs; /* at the start of the disk */
    struct fs fs;
    struct fs *found; /* of each entry, type NULL: nothing known; new */
};

/* ---- Looking into partitions ---- */

/* The asker's circumstances with less time. */
struct short_io {
    struct plt_io io; /* first */
    struct plt_io *asker;
};

static bool short_cancelled(const struct plt_io *io)
{
    const struct short_io *const s = (const struct short_io *)io;
    return s->asker->cancelled(s->asker);
}

static void short_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    struct short_io *const s = (struct short_io *)io;
    s->asker->charge(s->asker, bytes, requests);
}

static uint64_t now_ns(void)
{
    struct timespec ts = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* Where a byte far ahead costs decoding all before it, what is not reached in a
 * few seconds is left out, and said to be; elsewhere a read that fails is an
 * error. */
static enum plt_status look_into(struct part *p, struct plt_io *asker,
                                 uint64_t disk, struct plt_error *err)
{
    const bool is_forward = p->child->flags & PLT_CHILD_FORWARD;
    struct short_io s = {.io = {.struct_size = (uint32_t)sizeof(s.io),
                                .flags = asker->flags,
                                .deadline_ns = asker->deadline_ns,
                                .cancelled = short_cancelled,
                                .charge = short_charge},
                         .asker = asker};
    const uint64_t limit = now_ns() + FS_WAIT_S * UINT64_C(1000000000);
    uint8_t *const head = malloc(FS_HEAD);
    enum plt_status st = PLT_OK;

    if (!head)
        return plt_fail(err, PLT_NOMEM, "the head of a partition");
    if (is_forward && limit < s.io.deadline_ns)
        s.io.deadline_ns = limit;
    for (size_t i = 0; i < p->table.n && i < FS_MOST && st == PLT_OK; i++) {
        const struct table_entry *const e = &p->table.v[i];
        if (e->is_container || !plt_span_ok(e->off, e->len, disk))
            continue;
        const struct plt_seg seg = {
            e->off, e->len < FS_HEAD ? (size_t)e->len : FS_HEAD, head};
        st = p->child->read(p->child, &s.io, &seg, 1, err);
        if (st == PLT_OK) {
            if (!fs_recognise(head, seg.len, &p->found[i]))
                p->found[i].type = NULL;
        } else if (st == PLT_TIMEOUT && is_forward) {
            p->has_unread = true;
            st = PLT_OK;
            break;
        }
    }
    free(head);
    return st;
}

/* ---- Opening ---- */

/* Which numbers there are, for who asked for another. */
static enum plt_status fail_number(const struct table *t, uint64_t number,
                                   struct plt_error *err)
{
    char list[128] = "";
    size_t n = 0;

    for (size_t i = 0; i < t->n && n < 100; i++) {
        if (!t->v[i].is_container)
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%u",
                                  n ? ", " : "", t->v[i].number);
    }
    return plt_fail(err, PLT_NOT_FOUND,
                    n ? "no partition %llu: there are %s"
                      : "no partition %llu: the disk has none",
                    (unsigned long long)number, list);
}

static enum plt_status choose(struct part *p, uint64_t number, uint64_t disk,
                              struct plt_error *err)
{
    const struct table *const t = &p->table;

    if (t->is_broken)
        return plt_fail(err, PLT_CORRUPT,
                        "both copies of the partition table are damaged");
    for (size_t i = 0; i < t->n; i++) {
        const struct table_entry *const e = &t->v[i];
        if (e->number != number)
            continue;
        if (e->is_container)
            return plt_fail(err, PLT_UNSUPPORTED,
                            "partition %u is a container for others",
                            e->number);
        if (!plt_span_ok(e->off, e->len, disk))
            return plt_fail(err, PLT_CORRUPT,
                            "partition %u reaches past the end of the disk",
                            e->number);
        p->at = i;
        p->off = e->off;
        p->size = e->len;
        return PLT_OK;
    }
    return fail_number(t, number, err);
}

static enum plt_status list_all(struct part *p, struct plt_io *io,
                                const uint8_t *head, size_t head_len,
                                uint64_t disk, struct plt_error *err)
{
    p->found = calloc(p->table.n + 1, sizeof(*p->found));
    if (!p->found)
        return plt_fail(err, PLT_NOMEM, "a partition table");
    p->has_fs = fs_recognise(head, head_len, &p->fs);
    return look_into(p, io, disk, err);
}

static void partition_close(void *image)
{
    struct part *const p = (struct part *)image;

    table_release(&p->table);
    free(p->found);
    free(p);
}

static enum plt_status open_table(struct part *p,
                                  const struct plt_open_args *args,
                                  uint8_t *head, struct plt_error *err)
{
    struct table_source s = {
        .child = args->child, .io = args->io, .head = head};
    const uint64_t number =
        plt_setting_bytes(args->settings, args->n_settings, "number", 0);
    const uint64_t sector =
        plt_setting_bytes(args->settings, args->n_settings, "sector", 0);
    enum plt_status st =
        args->child->resolve_size(args->child, args->io, &s.size, err);

    if (sector && sector != 512 && sector != 1024 && sector != 2048 &&
        sector != 4096)
        return plt_fail(err, PLT_INVALID,
                        "sector is 512, 1024, 2048 or 4096 bytes");
    if (!p->is_list && !number)
        return plt_fail(err, PLT_INVALID, "number= counts from 1");
    if (st != PLT_OK)
        return st;
    s.sector = (uint32_t)sector;
    s.head_len = s.size < HEAD ? (size_t)s.size : HEAD;
    s.is_complete = p->is_list && !(args->child->flags & PLT_CHILD_FORWARD);
    const struct plt_seg seg = {0, s.head_len, head};
    if (s.head_len)
        st = args->child->read(args->child, args->io, &seg, 1, err);
    if (st == PLT_OK)
        st = table_read(&s, &p->table, err);
    if (st != PLT_OK)
        return st;
    return p->is_list ? list_all(p, args->io, head, s.head_len, s.size, err)
                      : choose(p, number, s.size, err);
}

static enum plt_status partition_open(const struct plt_open_args *args,
                                      void **image, struct plt_opened *out,
                                      struct plt_error *err)
{
    struct part *const p = calloc(1, sizeof(*p));
    uint8_t *const head = malloc(HEAD);
    enum plt_status st;

    if (!p || !head) {
        free(p);
        free(head);
        return plt_fail(err, PLT_NOMEM, "a partition");
    }
    p->child = args->child;
    p->is_list = args->flags & PLT_OPEN_LIST;
    st = open_table(p, args, head, err);
    free(head);
    if (st != PLT_OK) {
        partition_close(p);
        return st;
    }
    out->size = p->size;
    out->flags =
        args->child->flags & PLT_CHILD_FORWARD ? PLT_OPENED_FORWARD : 0;
    *image = p;
    return PLT_OK;
}

/* ---- Reading ---- */

static enum plt_status partition_read(void *image, struct plt_io *io,
                                      const struct plt_seg *segs, size_t n,
                                      struct plt_error *err)
{
    struct part *const p = (struct part *)image;
    struct plt_seg below[PORTION];

    while (n) {
        const size_t now = n < PORTION ? n : PORTION;
        for (size_t i = 0; i < now; i++) {
            below[i] = segs[i];
            below[i].off += p->off;
        }
        const enum plt_status st =
            p->child->read(p->child, io, below, now, err);
        if (st != PLT_OK)
            return st;
        segs += now;
        n -= now;
    }
    return PLT_OK;
}

static enum plt_status partition_lend(void *image, struct plt_io *io,
                                      uint64_t off, uint64_t len,
                                      plt_lend_fn *emit, void *cookie)
{
    const struct part *const p = (const struct part *)image;

    if (!PLT_HAS(p->child, lend))
        return PLT_AGAIN;
    return p->child->lend(p->child, io, off + p->off, len, emit, cookie);
}

/* What is asked, moved back to the partition's beginning. */
struct shift {
    uint64_t off;
    plt_extent_fn *emit;
    void *cookie;
};

static bool emit_shifted(void *cookie, const struct plt_extent *extent)
{
    const struct shift *const s = (const struct shift *)cookie;
    struct plt_extent e = *extent;

    e.off -= s->off;
    e.child_off = extent->off; /* on the disk */
    if (!(e.flags & (PLT_EXTENT_ZERO | PLT_EXTENT_COMPRESSED)))
        e.flags |= PLT_EXTENT_MAPPED;
    else if (!(e.flags & PLT_EXTENT_MAPPED))
        e.flags |= PLT_EXTENT_RESERVED;
    return s->emit(s->cookie, &e);
}

static enum plt_status partition_extents(void *image, struct plt_io *io,
                                         uint64_t off, uint64_t len,
                                         plt_extent_fn *emit, void *cookie,
                                         struct plt_error *err)
{
    struct part *const p = (struct part *)image;
    struct shift s = {.off = p->off, .emit = emit, .cookie = cookie};

    return p->child->extents(p->child, io, off + p->off, len, emit_shifted, &s,
                             err);
}

/* ---- Describing ---- */

static void put_fs(struct plt_info *info, const struct fs *fs)
{
    info->object_begin(info, "filesystem");
    info->text(info, "type", fs->type);
    if (fs->label[0])
        info->text(info, "label", fs->label);
    if (fs->uuid[0])
        info->text(info, "uuid", fs->uuid);
    info->end(info);
}

static void put_entry(struct plt_info *info, const struct table *t,
                      const struct table_entry *e)
{
    const bool is_gpt = t->label == TABLE_GPT;
    char text[40];
    const char *const words =
        is_gpt ? table_gpt_type(e->type) : table_mbr_type(e->mbr_type);

    info->number(info, "number", e->number);
    info->number(info, "start", e->off);
    info->number(info, "length", e->len);
    if (is_gpt)
        table_guid(e->type, text);
    else
        (void)snprintf(text, sizeof(text), "0x%02x", e->mbr_type);
    info->text(info, "type", text);
    if (words[0])
        info->text(info, "type-name", words);
    if (is_gpt) {
        if (e->name[0])
            info->text(info, "name", e->name);
        table_guid(e->id, text);
        info->text(info, "uuid", text);
        /* Text: a double, which a JSON number is to many, has 53 bits. */
        (void)snprintf(text, sizeof(text), "0x%016" PRIx64, e->attributes);
        if (e->attributes)
            info->text(info, "attributes", text);
    } else if (t->mbr_id) {
        (void)snprintf(text, sizeof(text), "%08x-%02x", t->mbr_id, e->number);
        info->text(info, "uuid", text);
    }
    info->boolean(info, "bootable", e->is_bootable);
    if (e->is_logical)
        info->boolean(info, "logical", true);
    if (e->is_container)
        info->boolean(info, "container", true);
}

static void put_table(struct plt_info *info, const struct part *p)
{
    static const char *const labels[] = {"none", "dos", "gpt"};
    static const char *const backups[] = {"unread", "good", "damaged"};
    const struct table *const t = &p->table;
    char text[40];

    info->text(info, "label", labels[t->label]);
    if (t->label == TABLE_GPT) {
        table_guid(t->id, text);
        info->text(info, "id", text);
        info->number(info, "first-usable", t->first_usable);
        info->number(info, "last-usable", t->last_usable);
        info->text(info, "backup", backups[t->backup]);
        info->boolean(info, "hybrid", t->is_hybrid);
    } else if (t->label == TABLE_DOS) {
        (void)snprintf(text, sizeof(text), "0x%08x", t->mbr_id);
        info->text(info, "id", text);
    }
    if (t->label != TABLE_NONE)
        info->number(info, "sector-size", t->sector);
    if (p->has_fs)
        put_fs(info, &p->fs);
    if (p->has_unread)
        info->boolean(info, "filesystems-unread", true);
    info->array_begin(info, "problems");
    for (size_t i = 0; i < t->n_problems; i++)
        info->text(info, NULL, t->problems[i]);
    info->end(info);
    info->array_begin(info, "partitions");
    for (size_t i = 0; i < t->n; i++) {
        info->object_begin(info, NULL);
        put_entry(info, t, &t->v[i]);
        if (p->found[i].type)
            put_fs(info, &p->found[i]);
        info->end(info);
    }
    info->end(info);
}

static void partition_info(void *image, struct plt_info *info)
{
    const struct part *const p = (const struct part *)image;

    if (p->is_list)
        put_table(info, p);
    else
        put_entry(info, &p->table, &p->table.v[p->at]);
}

static const struct plt_option partition_options[] = {
    {"number", PLT_OPTION_BYTES, "which partition, as Linux counts"},
    {"sector", PLT_OPTION_BYTES, "bytes of a sector; default: found out"},
    {NULL, PLT_OPTION_TEXT, NULL}};

PLT_DRIVER(.name = "partition", .summary = "one partition of a disk (MBR, GPT)",
           .kind = PLT_KIND_WRAPPER, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .options = partition_options,
           .open = partition_open, .close = partition_close,
           .read = partition_read, .extents = partition_extents,
           .info = partition_info, .lend = partition_lend)
