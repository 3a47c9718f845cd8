/* SPDX-License-Identifier: Apache-2.0 */
/* Directory, tables, grains of one sparse extent.
 *
 * A hosted file keeps its directory twice; when the first one points out of the
 * file or cannot be read, the second is used.  A stream that was cut off before
 * its directory is walked: every grain has a marker that says which one it is.
 */
#include "vmdk_extent.h"

#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include <platter/bytes.h>

#include "vmdk_image.h"

enum { MARKER = 12 }; /* bytes in front of a compressed grain */

static size_t entry_size(const struct vmdk_extent *e)
{
    return e->header.form == VMDK_SE ? 8 : 4;
}

/* ---- Grains ---- */

/* A zlib stream that gives one grain; the last one of a disk may be short.
 * cookie: the extent. */
static enum plt_status inflate_grain(const void *cookie, void **state,
                                     const struct plt_want *want,
                                     const uint8_t *in, size_t n, uint8_t *out)
{
    const struct vmdk_extent *const e = (const struct vmdk_extent *)cookie;
    const uint64_t no = want->key & ((UINT64_C(1) << 48) - 1);
    const uint64_t rest = e->len - no * e->header.grain;
    const size_t need = rest < want->len ? (size_t)rest : want->len;
    size_t used = 0, got = 0;

    if (!*state)
        *state = libdeflate_alloc_decompressor();
    if (!*state)
        return PLT_NOMEM;
    const enum libdeflate_result r =
        libdeflate_zlib_decompress_ex((struct libdeflate_decompressor *)*state,
                                      in, n, out, want->len, &used, &got);
    if (r != LIBDEFLATE_SUCCESS || got < need)
        return PLT_CORRUPT;
    memset(out + got, 0, want->len - got);
    return PLT_OK;
}

static enum plt_status decode_marked(const void *cookie, void **state,
                                     const struct plt_want *want,
                                     const uint8_t *in, uint8_t *out)
{
    if (want->stored < MARKER)
        return PLT_CORRUPT;
    const uint32_t n = plt_le32(in + 8);
    return n && n <= want->stored - MARKER
               ? inflate_grain(cookie, state, want, in + MARKER, n, out)
               : PLT_CORRUPT;
}

static enum plt_status decode_bare(const void *cookie, void **state,
                                   const struct plt_want *want,
                                   const uint8_t *in, uint8_t *out)
{
    return inflate_grain(cookie, state, want, in, want->stored, out);
}

static void free_state(void *state)
{
    libdeflate_free_decompressor((struct libdeflate_decompressor *)state);
}

const struct plt_decoding vmdk_marked_decoding = {
    .decode = decode_marked, .release = free_state, .what = "compressed grain"};
const struct plt_decoding vmdk_bare_decoding = {
    .decode = decode_bare, .release = free_state, .what = "compressed grain"};

/* ---- The directory ---- */

static uint64_t limit_of(const struct vmdk_extent *e)
{
    return atomic_load(&e->size);
}

/* An entry of the directory as the byte offset of its table.  False: it is no
 * such thing. */
static bool table_at(const struct vmdk_extent *e, const uint8_t *raw,
                     uint64_t *off)
{
    const uint64_t len = (uint64_t)e->header.gtes * entry_size(e);

    if (e->header.form != VMDK_SE) {
        *off = (uint64_t)plt_le32(raw) * VMDK_SECTOR;
    } else {
        const uint64_t entry = plt_le64(raw);
        if (entry && entry >> 32 != 0x10000000)
            return false;
        *off = entry ? e->header.tables_off + (entry & UINT32_MAX) * len : 0;
    }
    return !*off || plt_span_ok(*off, len, limit_of(e));
}

/* The directory at `at`, into e->gd. */
static enum plt_status read_directory(struct vmdk_extent *e, struct plt_io *io,
                                      uint64_t at, uint8_t *raw,
                                      struct plt_error *err)
{
    const size_t size = entry_size(e);
    const uint64_t n = e->header.gd_count;
    const struct plt_seg seg = {at, (size_t)(n * size), raw};

    if (!plt_span_ok(at, n * size, limit_of(e)))
        return plt_fail_at(err, PLT_CORRUPT, at,
                           "grain directory outside the file");
    if (!n)
        return PLT_OK;
    const enum plt_status st = e->child->read(e->child, io, &seg, 1, err);
    if (st != PLT_OK)
        return plt_prefix(err, "grain directory: ");
    for (uint64_t i = 0; i < n; i++) {
        if (!table_at(e, raw + i * size, &e->gd[i]))
            return plt_fail_at(err, PLT_CORRUPT, at + i * size,
                               "entry %llu of the grain directory",
                               (unsigned long long)i);
    }
    return PLT_OK;
}

enum plt_status vmdk_directory_load(struct vmdk *v, struct vmdk_extent *e,
                                    struct plt_io *io, struct plt_error *err)
{
    const uint64_t n = e->header.gd_count;
    enum plt_status st = vmdk_take(v, n * 8, "grain directory", err);

    if (st != PLT_OK)
        return st;
    e->gd = calloc((size_t)n + 1, sizeof(*e->gd));
    uint8_t *const raw = malloc((size_t)n * 8 + 1);
    if (!e->gd || !raw) {
        free(raw);
        return plt_fail(err, PLT_NOMEM, "grain directory");
    }
    st = read_directory(e, io, e->header.gd, raw, err);
    if (st == PLT_CORRUPT && e->header.rgd != UINT64_MAX) {
        struct plt_error second;
        memset(e->gd, 0, (size_t)n * sizeof(*e->gd));
        if (read_directory(e, io, e->header.rgd, raw, &second) == PLT_OK) {
            e->uses_second_directory = true;
            st = PLT_OK;
        }
    }
    free(raw);
    return st;
}

/* ---- Tables ---- */

static struct plt_want table_want(const struct vmdk_extent *e, uint64_t off)
{
    const size_t len = e->header.gtes * entry_size(e);

    return (struct plt_want){.key =
                                 vmdk_key(VMDK_OF_TABLE, e, off / VMDK_SECTOR),
                             .len = len,
                             .off = off,
                             .stored = len};
}

enum plt_status vmdk_tables_fetch(struct vmdk *v, struct vmdk_extent *e,
                                  struct plt_io *io, const struct plt_seg *segs,
                                  size_t n, struct plt_set *tables,
                                  struct plt_error *err)
{
    const uint64_t span = e->header.grain * e->header.gtes;

    *tables = (struct plt_set){.v = NULL};
    for (size_t i = 0; i < n; i++) {
        const uint64_t last = (segs[i].off + segs[i].len - 1) / span;
        for (uint64_t no = segs[i].off / span;
             no <= last && no < e->header.gd_count && !e->walked; no++) {
            const struct plt_want want = table_want(e, e->gd[no]);
            if (e->gd[no] && !plt_set_add(tables, &want)) {
                plt_set_release(tables, v->host);
                return plt_fail(err, PLT_NOMEM, "a list of tables");
            }
        }
    }
    const enum plt_status st =
        plt_set_fetch(tables, v->host, e->child, io, NULL, NULL, 0, err);
    return st == PLT_OK || st == PLT_AGAIN ? st
                                           : plt_prefix(err, "grain table: ");
}

/* seSparse: the top nibble is the kind of a grain; its number is turned by 12
 * bits. */
static enum plt_status map_se(const struct vmdk_extent *e, uint64_t entry,
                              struct vmdk_piece *p, struct plt_error *err)
{
    const uint64_t index = (entry & UINT64_C(0x0fff000000000000)) >> 48 |
                           (entry & UINT64_C(0x0000ffffffffffff)) << 12;

    switch (entry >> 60) {
    case 0:
        p->kind = VMDK_ABSENT;
        if (!entry)
            return PLT_OK;
        break;
    case 1: /* unmapped by the guest */
    case 2:
        p->kind = VMDK_ZEROS;
        return PLT_OK;
    case 3:
        p->kind = VMDK_DATA;
        if (index <= (PLT_SIZE_MAX - e->header.data_off) / e->header.grain) {
            p->host = e->header.data_off + index * e->header.grain;
            return PLT_OK;
        }
        break;
    default:
        break;
    }
    return plt_fail(err, PLT_CORRUPT, "entry %#llx of a grain table",
                    (unsigned long long)entry);
}

static enum plt_status map_grain(const struct vmdk_extent *e,
                                 const uint8_t *raw, struct vmdk_piece *p,
                                 struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (e->header.form == VMDK_SE) {
        st = map_se(e, plt_le64(raw), p, err);
    } else {
        const uint32_t entry = plt_le32(raw);
        p->host = (uint64_t)entry * VMDK_SECTOR;
        p->kind = !entry                                    ? VMDK_ABSENT
                  : entry == 1 && e->header.has_zero_grains ? VMDK_ZEROS
                  : e->header.is_compressed                 ? VMDK_PACKED
                                                            : VMDK_DATA;
    }
    if (st == PLT_OK && (p->kind == VMDK_DATA || p->kind == VMDK_PACKED) &&
        p->host >= limit_of(e))
        return plt_fail_at(err, PLT_CORRUPT, p->host,
                           "grain %llu lies past the end",
                           (unsigned long long)p->grain);
    return st;
}

static bool goes_on(const struct vmdk_piece *a, const struct vmdk_piece *b)
{
    return a->kind == b->kind && a->kind != VMDK_PACKED &&
           (a->kind != VMDK_DATA || a->host + a->len == b->host);
}

enum plt_status vmdk_map(const struct vmdk_extent *e,
                         const struct plt_set *tables, uint64_t off,
                         uint64_t len, struct vmdk_piece *piece,
                         struct plt_error *err)
{
    const uint64_t span = e->header.grain * e->header.gtes;
    const uint64_t no = off / span, in = off % e->header.grain;
    const size_t size = entry_size(e);
    uint64_t i = off % span / e->header.grain;

    *piece = (struct vmdk_piece){.kind = VMDK_ABSENT,
                                 .grain = off / e->header.grain};
    if (no >= e->header.gd_count || !e->gd[no]) {
        const uint64_t rest = span - off % span;
        piece->len = rest < len ? rest : len;
        return PLT_OK;
    }
    const uint8_t *const table =
        e->walked ? e->walked[no]
                  : plt_set_find(tables, table_want(e, e->gd[no]).key);
    if (!table)
        return plt_fail(err, PLT_BUG, "a table that was not asked for");
    const enum plt_status st = map_grain(e, table + i * size, piece, err);
    if (st != PLT_OK)
        return st;
    piece->len = e->header.grain - in;
    if (piece->kind == VMDK_DATA)
        piece->host += in;
    while (piece->len < len && ++i < e->header.gtes) {
        struct vmdk_piece next = {.grain = piece->grain};
        struct plt_error unused;
        /* A bad entry is met when it is asked for. */
        if (map_grain(e, table + i * size, &next, &unused) != PLT_OK ||
            !goes_on(piece, &next))
            break;
        piece->len += e->header.grain;
    }
    if (piece->len > len)
        piece->len = len;
    return PLT_OK;
}
