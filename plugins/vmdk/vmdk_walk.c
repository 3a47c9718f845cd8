/* SPDX-License-Identifier: Apache-2.0 */
/* A stream-optimized file is written from its start to its end: grains, each
 * behind a marker with its number, then tables, directory and footer.  One that
 * was cut off has its grains all the same. */
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "vmdk_image.h"

enum { STEP = 256 * 1024, GRAIN_MARKER = 12 };

/* A forward reader with a little to look ahead. */
struct reader {
    struct plt_stream *stream;
    struct plt_io *io;
    uint8_t *buf;
    size_t from, to;
    uint64_t pos; /* in the file, of buf[from] */
    bool is_end;
};

/* Have n bytes (at most a sector), or the end. */
static enum plt_status need(struct reader *r, size_t n, struct plt_error *err)
{
    while (r->to - r->from < n && !r->is_end) {
        size_t got = 0;
        enum plt_status st = plt_io_ask(r->io, err);
        if (st != PLT_OK)
            return st;
        memmove(r->buf, r->buf + r->from, r->to - r->from);
        r->to -= r->from;
        r->from = 0;
        st = r->stream->read(r->stream, r->io, r->buf + r->to, STEP - r->to,
                             &got, err);
        if (st != PLT_OK)
            return st;
        r->is_end = got == 0;
        r->to += got;
    }
    return PLT_OK;
}

static enum plt_status skip(struct reader *r, uint64_t n, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    while (n && st == PLT_OK && !(r->is_end && r->to == r->from)) {
        const size_t have = r->to - r->from;
        const size_t now = have < n ? have : (size_t)n;
        r->from += now;
        r->pos += now;
        n -= now;
        if (n)
            st = need(r, 1, err);
    }
    return st;
}

/* The file is at least so long. */
static bool limit_at_least(const struct vmdk_extent *e, uint64_t end)
{
    return end <= atomic_load(&e->size);
}

static enum plt_status put_grain(struct vmdk *v, struct vmdk_extent *e,
                                 uint64_t lba, uint64_t at,
                                 struct plt_error *err)
{
    const uint64_t grain = lba * VMDK_SECTOR / e->header.grain;
    const uint64_t no = grain / e->header.gtes;

    if (lba > PLT_SIZE_MAX / VMDK_SECTOR || no >= e->header.gd_count ||
        lba * VMDK_SECTOR % e->header.grain || at / VMDK_SECTOR > UINT32_MAX)
        return plt_fail_at(err, PLT_CORRUPT, at, "a marker of sector %llu",
                           (unsigned long long)lba);
    if (!e->walked[no]) {
        const enum plt_status st =
            vmdk_take(v, e->header.gtes * 4, "grain table", err);
        if (st != PLT_OK)
            return st;
        e->walked[no] = calloc(e->header.gtes, 4);
        if (!e->walked[no])
            return plt_fail(err, PLT_NOMEM, "grain table");
        e->gd[no] = 1;
    }
    plt_put_le32(e->walked[no] + grain % e->header.gtes * 4,
                 (uint32_t)(at / VMDK_SECTOR));
    return PLT_OK;
}

static enum plt_status walk_markers(struct vmdk *v, struct vmdk_extent *e,
                                    struct reader *r, struct plt_error *err)
{
    for (;;) {
        enum plt_status st = need(r, VMDK_SECTOR, err);
        if (st != PLT_OK || r->to - r->from < VMDK_SECTOR)
            return st;
        const uint8_t *const p = r->buf + r->from;
        const uint64_t value = plt_le64(p);
        const uint64_t size = plt_le32(p + 8);
        uint64_t next = VMDK_SECTOR;
        if (size) {
            const uint64_t whole = (GRAIN_MARKER + size + VMDK_SECTOR - 1) /
                                   VMDK_SECTOR * VMDK_SECTOR;
            if (size > vmdk_packed_max(&e->header))
                return plt_fail_at(err, PLT_CORRUPT, r->pos,
                                   "a marker of %llu bytes",
                                   (unsigned long long)size);
            /* The last one may be cut off: then it is not there. */
            if (limit_at_least(e, r->pos + GRAIN_MARKER + size))
                st = put_grain(v, e, value, r->pos, err);
            next = whole;
        } else if (value && plt_le32(p + 12)) {
            /* Tables, directory, footer: so many sectors behind the marker. */
            if (value > UINT32_MAX)
                return PLT_OK;
            next += value * VMDK_SECTOR;
        }
        if (st == PLT_OK)
            st = skip(r, next, err);
        if (st != PLT_OK)
            return st;
    }
}

enum plt_status vmdk_walk(struct vmdk *v, struct vmdk_extent *e,
                          struct plt_io *io, struct plt_error *err)
{
    const uint64_t n = e->header.gd_count;
    struct reader r = {.io = io};
    enum plt_status st = vmdk_take(v, n * 16 + STEP, "grain directory", err);

    if (st != PLT_OK)
        return st;
    free(e->gd);
    e->gd = calloc((size_t)n + 1, sizeof(*e->gd));
    e->walked = calloc((size_t)n + 1, sizeof(uint8_t *));
    r.buf = malloc(STEP);
    /* Header and descriptor lie in front of the first marker. */
    r.pos = e->header.overhead;
    if (!e->gd || !e->walked || !r.buf)
        st = plt_fail(err, PLT_NOMEM, "grain directory");
    if (st == PLT_OK)
        st = e->child->stream_open(e->child, io, r.pos, &r.stream, err);
    if (st == PLT_OK) {
        st = walk_markers(v, e, &r, err);
        r.stream->close(r.stream);
    }
    free(r.buf);
    return st == PLT_OK ? st : plt_prefix(err, "walk over the grains: ");
}
