/* SPDX-License-Identifier: Apache-2.0 */
#include "qcow2_snapshot.h"

#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "qcow2_header.h"

enum { FIXED_BYTES = 40, WITH_DISK_SIZE = 16, WITH_ICOUNT = 24 };

/* A new text of the n bytes; a NUL inside ends it, as it would for QEMU. */
static char *take_text(struct plt_cur *c, size_t n)
{
    const uint8_t *const p = plt_cur_take(c, n);
    char *const text = p ? malloc(n + 1) : NULL;

    if (text) {
        memcpy(text, p, n);
        text[n] = '\0';
    }
    return text;
}

static void release_one(struct qcow2_snapshot *s)
{
    free((void *)(uintptr_t)s->about.id);
    free((void *)(uintptr_t)s->about.name);
}

static enum plt_status parse_one(struct qcow2_snapshot *s, struct plt_cur *c,
                                 uint32_t no, uint64_t disk_size,
                                 struct plt_error *err)
{
    const uint8_t *const start = c->p;

    if (plt_cur_left(c) < FIXED_BYTES)
        return PLT_AGAIN;
    s->l1_off = plt_cur_be64(c);
    s->l1_count = plt_cur_be32(c);
    const uint16_t id_len = plt_cur_be16(c), name_len = plt_cur_be16(c);
    s->about.date_s = plt_cur_be32(c);
    s->about.date_ns = plt_cur_be32(c);
    s->about.vm_clock_ns = plt_cur_be64(c);
    s->about.vm_state_size = plt_cur_be32(c);
    const uint32_t extra_len = plt_cur_be32(c);
    if (extra_len > QCOW2_MAX_SNAPSHOT_EXTRA)
        return plt_fail(err, PLT_CORRUPT,
                        "snapshot %u has %u bytes of extra data", no,
                        extra_len);
    s->about.disk_size = disk_size;
    s->about.icount = UINT64_MAX;
    if (plt_cur_left(c) < (size_t)extra_len + id_len + name_len)
        return PLT_AGAIN;
    struct plt_cur extra = plt_cur_init(plt_cur_take(c, extra_len), extra_len);
    if (extra_len >= 8)
        s->about.vm_state_size = plt_cur_be64(&extra);
    if (extra_len >= WITH_DISK_SIZE)
        s->about.disk_size = plt_cur_be64(&extra);
    if (extra_len >= WITH_ICOUNT)
        s->about.icount = plt_cur_be64(&extra);
    s->about.id = take_text(c, id_len);
    s->about.name = take_text(c, name_len);
    if (!s->about.id || !s->about.name)
        return plt_fail(err, PLT_NOMEM, "a snapshot's name");
    /* Entries begin at multiples of 8; the last one need not be padded. */
    const size_t pad = (8 - (size_t)(c->p - start) % 8) % 8;
    (void)plt_cur_take(c, pad < plt_cur_left(c) ? pad : plt_cur_left(c));
    return PLT_OK;
}

enum plt_status qcow2_snapshots_parse(struct qcow2_snapshots *out,
                                      const uint8_t *buf, size_t len,
                                      uint32_t n, uint64_t disk_size,
                                      struct plt_error *err)
{
    struct plt_cur c = plt_cur_init(buf, len);
    enum plt_status st = PLT_OK;

    *out = (struct qcow2_snapshots){.v = NULL};
    if (n > len / FIXED_BYTES)
        return PLT_AGAIN;
    out->v = calloc(n ? n : 1, sizeof(*out->v));
    if (!out->v)
        return plt_fail(err, PLT_NOMEM, "%u snapshots", n);
    while (out->n < n && st == PLT_OK) {
        struct qcow2_snapshot *const s = &out->v[out->n++];
        st = parse_one(s, &c, out->n, disk_size, err);
    }
    out->table_len = len - plt_cur_left(&c);
    if (st != PLT_OK)
        qcow2_snapshots_release(out);
    return st;
}

void qcow2_snapshots_release(struct qcow2_snapshots *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        release_one(&s->v[i]);
    free(s->v);
    *s = (struct qcow2_snapshots){.v = NULL};
}

const struct qcow2_snapshot *
qcow2_snapshots_find(const struct qcow2_snapshots *s, const char *id_or_name)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i].about.id, id_or_name) == 0)
            return &s->v[i];
    for (uint32_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i].about.name, id_or_name) == 0)
            return &s->v[i];
    return NULL;
}
