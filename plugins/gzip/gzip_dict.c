/* SPDX-License-Identifier: Apache-2.0 */
/* dictzip: a gzip member whose FEXTRA holds the compressed lengths of chunks
 * that end in a full flush, so that each decodes alone.
 *
 *   version 1   le16 version, le16 chunk length, le16 count, le16 x count
 *   version 99  le16 version, le32 chunk length, le32 count, le64 length of the
 *               whole, le32 x count      (QEMU's dictzip block driver, 2009)
 */
#include <stdlib.h>

#include <platter/bytes.h>

#include "gzip_header.h"
#include "gzip_image.h"
#include "gzip_units.h"

enum {
    MAX_CHUNK = 2 << 20, /* the largest block of the cache */
    MAX_COMPRESSED = 4 << 20
};

/* Version 1 has no length but ISIZE, which is modulo 2^32; the number of chunks
 * tells which multiple. */
static enum plt_status find_size(struct gzip_image *gz, struct plt_io *io,
                                 uint64_t data_end, struct plt_error *err)
{
    const uint64_t most = (uint64_t)gz->n_chunks * gz->chunk_len;
    const uint64_t least = most - gz->chunk_len;
    uint64_t size;
    uint8_t tail[4];

    enum plt_status st = gz->child->resolve_size(gz->child, io, &size, err);
    if (st != PLT_OK)
        return st;
    if (size < 8 || data_end > size - 8)
        return plt_fail(err, PLT_CORRUPT, "the chunk table does not sum up");
    const struct plt_seg seg = {size - 4, sizeof(tail), tail};
    st = gz->child->read(gz->child, io, &seg, 1, err);
    if (st != PLT_OK)
        return st;
    const uint64_t low = plt_le32(tail);
    uint64_t total = (least & ~UINT64_C(0xffffffff)) | low;
    if (total <= least)
        total += UINT64_C(1) << 32;
    if (total > most) {
        /* Bytes behind the member: the last chunk itself has to tell. */
        return plt_fail(err, PLT_CORRUPT,
                        "the length does not agree with the chunk table");
    }
    gz->dict_size = total;
    return PLT_OK;
}

enum plt_status gzip_dict_open(struct gzip_image *gz, struct plt_io *io,
                               const struct gzip_header *header,
                               struct plt_error *err)
{
    size_t len = 0;
    const uint8_t *const ra = gzip_header_subfield(header, 'R', 'A', &len);
    struct plt_cur c = plt_cur_init(ra, len);

    if (!ra)
        return PLT_OK;
    const unsigned version = plt_cur_le16(&c);
    const bool is_wide = version == 99;
    if (version != 1 && !is_wide)
        return plt_fail(err, PLT_UNSUPPORTED, "dictzip version %u", version);
    gz->chunk_len = is_wide ? plt_cur_le32(&c) : plt_cur_le16(&c);
    gz->n_chunks = is_wide ? plt_cur_le32(&c) : plt_cur_le16(&c);
    gz->dict_size = is_wide ? plt_cur_le64(&c) : 0;
    if (c.bad || !gz->chunk_len || !gz->n_chunks)
        return plt_fail(err, PLT_CORRUPT, "dictzip header of %zu bytes", len);
    if (gz->chunk_len > MAX_CHUNK)
        return plt_fail(err, PLT_UNSUPPORTED, "dictzip chunks of %u bytes",
                        gz->chunk_len);
    /* FEXTRA is at most 65535 bytes: that bounds the count. */
    if (plt_cur_left(&c) / (is_wide ? 4 : 2) < gz->n_chunks)
        return plt_fail(err, PLT_CORRUPT,
                        "chunk table of %u entries in %zu "
                        "bytes",
                        gz->n_chunks, len);
    gz->chunk_off = malloc(((size_t)gz->n_chunks + 1) * sizeof(uint64_t));
    if (!gz->chunk_off)
        return plt_fail(err, PLT_NOMEM, "the chunk table");
    uint64_t off = header->len;
    for (uint32_t i = 0; i < gz->n_chunks; i++) {
        const uint32_t n = is_wide ? plt_cur_le32(&c) : plt_cur_le16(&c);
        if (!n || n > MAX_COMPRESSED)
            return plt_fail(err, PLT_CORRUPT, "chunk %u has %u bytes", i, n);
        gz->chunk_off[i] = off;
        off += n;
    }
    gz->chunk_off[gz->n_chunks] = off;
    if (gz->child->size != PLT_SIZE_UNKNOWN && off > gz->child->size)
        return plt_fail(err, PLT_CORRUPT, "chunks past the end of the file");
    const uint64_t most = (uint64_t)gz->n_chunks * gz->chunk_len;
    if (is_wide && gz->dict_size &&
        (gz->dict_size > most || gz->dict_size <= most - gz->chunk_len))
        return plt_fail(err, PLT_CORRUPT,
                        "the length does not agree with the chunk table");
    gz->dict_version = version;
    return gz->dict_size ? PLT_OK : find_size(gz, io, off, err);
}

struct gzip_unit gzip_dict_unit(const struct gzip_image *gz, uint64_t out)
{
    const uint64_t n = out / gz->chunk_len;
    const uint64_t left = gz->dict_size - n * gz->chunk_len;

    return (struct gzip_unit){
        .out = n * gz->chunk_len,
        .in = gz->chunk_off[n],
        .out_len = left < gz->chunk_len ? (uint32_t)left : gz->chunk_len,
        .in_len = (uint32_t)(gz->chunk_off[n + 1] - gz->chunk_off[n])};
}
