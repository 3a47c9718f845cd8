/* SPDX-License-Identifier: Apache-2.0 */
/* dictzip: a gzip member whose FEXTRA holds the compressed lengths of chunks
 * that end in a full flush, so that each decodes alone.
 *
 *   version 1   le16 version, le16 chunk length, le16 count, le16 x count
 *   version 99  le16 version, le32 chunk length, le32 count, le64 length of the
 *               whole, le32 x count      (QEMU's dictzip block driver, 2009)
 *
 * A chunk ends in a flush, not in a final block, which libdeflate insists on:
 * an empty final block (03 00) behind it makes it whole. */
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include <platter/bytes.h>

#include "gzip_header.h"
#include "gzip_image.h"

enum {
    MAX_CHUNK = 2 << 20, /* the largest block of the cache */
    MAX_COMPRESSED = 4 << 20,
    MAX_BATCH = 64 /* chunks decoded by one call */
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

static size_t chunk_size(const struct gzip_image *gz, uint64_t n)
{
    const uint64_t left = gz->dict_size - n * gz->chunk_len;
    return left < gz->chunk_len ? (size_t)left : gz->chunk_len;
}

/* Copy what of chunk n the segments ask for. */
static void give(const struct gzip_image *gz, const struct plt_seg *segs,
                 size_t n_segs, uint64_t n, const struct plt_block *b)
{
    const uint64_t from = n * gz->chunk_len, to = from + b->len;

    for (size_t i = 0; i < n_segs; i++) {
        const uint64_t s = segs[i].off, e = s + segs[i].len;
        const uint64_t lo = s > from ? s : from, hi = e < to ? e : to;
        if (lo < hi)
            memcpy((uint8_t *)segs[i].buf + (lo - s), b->data + (lo - from),
                   (size_t)(hi - lo));
    }
}

struct batch {
    uint64_t chunk[MAX_BATCH];
    struct plt_block *block[MAX_BATCH];
    bool is_mine[MAX_BATCH];
    size_t n, n_mine;
};

/* Fill the blocks that are ours: one read for all, then each decoded alone. */
static enum plt_status fill(struct gzip_image *gz, struct plt_io *io,
                            struct batch *b, struct plt_error *err)
{
    struct plt_seg segs[MAX_BATCH];
    size_t total = 0, n = 0;
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < b->n; i++) {
        if (b->is_mine[i])
            total += (size_t)(gz->chunk_off[b->chunk[i] + 1] -
                              gz->chunk_off[b->chunk[i]]) +
                     2;
    }
    uint8_t *const in = malloc(total);
    struct libdeflate_decompressor *const d = libdeflate_alloc_decompressor();
    if (!in || !d)
        st = plt_fail(err, PLT_NOMEM, "%zu bytes of chunks", total);
    size_t at = 0;
    for (size_t i = 0; st == PLT_OK && i < b->n; i++) {
        if (!b->is_mine[i])
            continue;
        const uint64_t off = gz->chunk_off[b->chunk[i]];
        const size_t len = (size_t)(gz->chunk_off[b->chunk[i] + 1] - off);
        segs[n++] = (struct plt_seg){off, len, in + at};
        at += len + 2;
    }
    if (st == PLT_OK)
        st = gz->child->read(gz->child, io, segs, n, err);
    for (size_t i = 0, k = 0; i < b->n; i++) {
        if (!b->is_mine[i])
            continue;
        if (st == PLT_OK) {
            uint8_t *const chunk = segs[k].buf;
            size_t got = 0;
            chunk[segs[k].len] = 3; /* an empty final block */
            chunk[segs[k].len + 1] = 0;
            if (libdeflate_deflate_decompress(
                    d, chunk, segs[k].len + 2, b->block[i]->data,
                    b->block[i]->len, &got) != LIBDEFLATE_SUCCESS ||
                got != b->block[i]->len)
                st = plt_fail_at(err, PLT_CORRUPT, segs[k].off,
                                 "chunk %llu does not decode to %zu bytes",
                                 (unsigned long long)b->chunk[i],
                                 b->block[i]->len);
            k++;
        }
        if (st == PLT_OK) {
            gz->host->block_commit(gz->host, b->block[i]);
        } else {
            gz->host->block_abandon(gz->host, b->block[i], err);
            b->block[i] = NULL;
        }
        b->is_mine[i] = false;
    }
    free(in);
    libdeflate_free_decompressor(d);
    return st;
}

/* One chunk when the cache has no room at all. */
static enum plt_status read_alone(struct gzip_image *gz, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n,
                                  uint64_t chunk, struct plt_error *err)
{
    const uint64_t off = gz->chunk_off[chunk];
    const size_t len = (size_t)(gz->chunk_off[chunk + 1] - off);
    struct plt_block b = {.len = chunk_size(gz, chunk)};
    struct libdeflate_decompressor *const d = libdeflate_alloc_decompressor();
    uint8_t *const in = malloc(len + 2);
    enum plt_status st;

    b.data = malloc(b.len);
    if (!d || !in || !b.data) {
        st = plt_fail(err, PLT_NOMEM, "a chunk");
    } else {
        const struct plt_seg seg = {off, len, in};
        st = gz->child->read(gz->child, io, &seg, 1, err);
        in[len] = 3;
        in[len + 1] = 0;
        if (st == PLT_OK &&
            libdeflate_deflate_decompress(d, in, len + 2, b.data, b.len,
                                          NULL) != LIBDEFLATE_SUCCESS)
            st = plt_fail_at(err, PLT_CORRUPT, off, "chunk %llu",
                             (unsigned long long)chunk);
        if (st == PLT_OK)
            give(gz, segs, n, chunk, &b);
    }
    free(b.data);
    free(in);
    libdeflate_free_decompressor(d);
    return st;
}

/* The chunks of one batch: claim all, fill ours, wait for the others'. */
static enum plt_status read_batch(struct gzip_image *gz, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n_segs,
                                  struct batch *b, struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    enum plt_status st = PLT_OK;
    bool is_full[MAX_BATCH] = {false}, is_pending[MAX_BATCH] = {false};

    for (size_t i = 0; i < b->n; i++) {
        const enum plt_claim c = gz->host->block_claim(
            gz->host, b->chunk[i], chunk_size(gz, b->chunk[i]), is_nowait,
            &b->block[i]);
        b->is_mine[i] = c == PLT_CLAIM_FILL;
        b->n_mine += b->is_mine[i];
        is_full[i] = c == PLT_CLAIM_FULL;
        is_pending[i] = c == PLT_CLAIM_PENDING;
    }
    for (size_t i = 0; is_nowait && i < b->n; i++) {
        if (is_full[i])
            st = PLT_AGAIN;
    }
    if (b->n_mine)
        st = fill(gz, io, b, err);
    for (size_t i = 0; i < b->n; i++) {
        if (is_pending[i]) {
            struct plt_error why;
            const enum plt_status w =
                gz->host->block_wait(gz->host, b->block[i], io, &why);
            if (w != PLT_OK) {
                b->block[i] = NULL;
                is_full[i] = w == PLT_AGAIN; /* its filler gave up: ourselves */
                if (w != PLT_AGAIN && st == PLT_OK) {
                    *err = why;
                    st = w;
                }
            }
        }
        if (st == PLT_OK && is_full[i])
            st = read_alone(gz, io, segs, n_segs, b->chunk[i], err);
        else if (st == PLT_OK && b->block[i])
            give(gz, segs, n_segs, b->chunk[i], b->block[i]);
        if (b->block[i])
            gz->host->block_release(gz->host, b->block[i]);
    }
    return st;
}

enum plt_status gzip_dict_read(struct gzip_image *gz, struct plt_io *io,
                               const struct plt_seg *segs, size_t n,
                               struct plt_error *err)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t chunk = segs[i].off / gz->chunk_len;
        const uint64_t last = (segs[i].off + segs[i].len - 1) / gz->chunk_len;
        while (chunk <= last) {
            struct batch b = {.n = 0};
            while (chunk <= last && b.n < MAX_BATCH)
                b.chunk[b.n++] = chunk++;
            const enum plt_status st = read_batch(gz, io, &segs[i], 1, &b, err);
            if (st != PLT_OK)
                return st;
        }
    }
    return PLT_OK;
}
