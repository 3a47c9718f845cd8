/* SPDX-License-Identifier: Apache-2.0 */
#include "gzip_units.h"

#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include <platter/bytes.h>

#include "gzip_header.h"

enum { CREW = 16 /* parts that a batch is decoded in, at most */ };

static const uint64_t key_of_units = UINT64_C(1) << 63;

struct work {
    struct gzip_unit unit;
    struct plt_block *block;
    uint8_t *own;          /* memory of ours, when the cache has no room */
    uint8_t *in;           /* its bytes, 2 bytes of room behind a chunk's */
    bool is_mine, is_good; /* to be filled; has been */
    bool has_tried;        /* there was memory to decode it with */
    bool is_pending, is_again;
};

struct batch {
    struct gzip_image *gz;
    struct work work[UNITS_BATCH];
    size_t n;
    size_t mine[UNITS_BATCH], n_mine;
    size_t each; /* of mine, in one part */
    uint8_t *in;
};

uint64_t gzip_unit_key(const struct gzip_unit *unit)
{
    return key_of_units | unit->out;
}

/* ---- Decoding ---- */

static bool decode_block(struct libdeflate_decompressor *d, const uint8_t *in,
                         size_t in_len, uint8_t *out, size_t out_len)
{
    struct gzip_header h;
    size_t used = 0, got = 0;

    if (gzip_header_parse(in, in_len, &h) != GZIP_PARSED || in_len < h.len + 8)
        return false;
    const size_t body = in_len - h.len - 8;
    const uint8_t *const tail = in + in_len - 8;
    return libdeflate_deflate_decompress_ex(d, in + h.len, body, out, out_len,
                                            &used,
                                            &got) == LIBDEFLATE_SUCCESS &&
           used == body && got == out_len && plt_le32(tail + 4) == out_len &&
           libdeflate_crc32(0, out, out_len) == plt_le32(tail);
}

/* A chunk ends in a flush, not in a final block, which libdeflate insists on:
 * an empty final block (03 00) behind it makes it whole. */
static bool decode_chunk(struct libdeflate_decompressor *d, uint8_t *in,
                         size_t in_len, uint8_t *out, size_t out_len)
{
    size_t got = 0;

    in[in_len] = 3;
    in[in_len + 1] = 0;
    return libdeflate_deflate_decompress(d, in, in_len + 2, out, out_len,
                                         &got) == LIBDEFLATE_SUCCESS &&
           got == out_len;
}

static uint8_t *data_of(const struct work *w)
{
    return w->block ? w->block->data : w->own;
}

static void decode_part(void *cookie, size_t part)
{
    struct batch *const b = (struct batch *)cookie;
    struct libdeflate_decompressor *const d = libdeflate_alloc_decompressor();
    const size_t from = part * b->each;
    const size_t to = b->n_mine - from < b->each ? b->n_mine : from + b->each;

    for (size_t i = from; d && i < to; i++) {
        struct work *const w = &b->work[b->mine[i]];
        const struct gzip_unit *const u = &w->unit;
        w->has_tried = true;
        w->is_good =
            b->gz->dict_version
                ? decode_chunk(d, w->in, u->in_len, data_of(w), u->out_len)
                : decode_block(d, w->in, u->in_len, data_of(w), u->out_len);
    }
    libdeflate_free_decompressor(d);
}

static void decode_all(struct batch *b)
{
    struct plt_host *const host = b->gz->host;
    const size_t parts = b->n_mine < CREW ? b->n_mine : CREW;

    if (!parts)
        return;
    b->each = (b->n_mine + parts - 1) / parts;
    const size_t n = (b->n_mine + b->each - 1) / b->each;
    if (n > 1 && PLT_HAS(host, each)) {
        host->each(host, n, decode_part, b);
        return;
    }
    for (size_t i = 0; i < n; i++)
        decode_part(b, i);
}

bool gzip_bgzf_check(const uint8_t *in, size_t in_len, size_t out_len,
                     bool *is_zero)
{
    struct libdeflate_decompressor *const d = libdeflate_alloc_decompressor();
    uint8_t *const out = malloc(out_len + 1);
    const bool is_good = d && out && decode_block(d, in, in_len, out, out_len);

    if (is_zero)
        *is_zero = is_good && out_len && !out[0] &&
                   memcmp(out, out + 1, out_len - 1) == 0;
    free(out);
    libdeflate_free_decompressor(d);
    return is_good;
}

/* ---- Blocks ---- */

/* Claim all; what is ours is in mine[].  False: nowait, and one is not there.
 */
static bool claim_all(struct batch *b, bool only_hit)
{
    struct plt_host *const host = b->gz->host;
    bool is_full = false;

    for (size_t i = 0; i < b->n; i++) {
        struct work *const w = &b->work[i];
        const enum plt_claim c =
            host->block_claim(host, gzip_unit_key(&w->unit), w->unit.out_len,
                              only_hit, &w->block);
        w->is_mine = c == PLT_CLAIM_FILL || (c == PLT_CLAIM_FULL && !only_hit);
        w->is_pending = c == PLT_CLAIM_PENDING;
        is_full = is_full || c == PLT_CLAIM_FULL;
        if (c == PLT_CLAIM_FULL)
            w->block = NULL;
        if (w->is_mine)
            b->mine[b->n_mine++] = i;
    }
    return !(only_hit && is_full);
}

/* What was decoded is for all; the rest is given up.  err: why, or NULL. */
static void settle(struct batch *b, const struct plt_error *err)
{
    struct plt_host *const host = b->gz->host;

    for (size_t i = 0; i < b->n_mine; i++) {
        struct work *const w = &b->work[b->mine[i]];
        if (w->block && w->is_good) {
            host->block_commit(host, w->block);
        } else if (w->block) {
            host->block_abandon(host, w->block, err);
            w->block = NULL;
        }
    }
}

static void release(struct batch *b)
{
    struct plt_host *const host = b->gz->host;

    for (size_t i = 0; i < b->n; i++) {
        if (b->work[i].block)
            host->block_release(host, b->work[i].block);
        free(b->work[i].own);
    }
    free(b->in);
}

/* Fetch and decode what is ours. */
static enum plt_status fill(struct batch *b, struct plt_io *io,
                            struct plt_error *err)
{
    struct gzip_image *const gz = b->gz;
    const size_t pad = gz->dict_version ? 2 : 0;
    struct plt_seg segs[UNITS_BATCH];
    size_t total = 0, n = 0, at = 0;
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < b->n_mine; i++)
        total += b->work[b->mine[i]].unit.in_len + pad;
    b->in = malloc(total);
    for (size_t i = 0; b->in && i < b->n_mine; i++) {
        struct work *const w = &b->work[b->mine[i]];
        w->own = w->block ? NULL : malloc(w->unit.out_len);
        if (!w->block && !w->own)
            st = plt_fail(err, PLT_NOMEM, "a unit");
        w->in = b->in + at;
        at += w->unit.in_len + pad;
        if (n && !pad && segs[n - 1].off + segs[n - 1].len == w->unit.in)
            segs[n - 1].len += w->unit.in_len; /* its neighbour */
        else
            segs[n++] = (struct plt_seg){w->unit.in, w->unit.in_len, w->in};
    }
    if (!b->in)
        st = plt_fail(err, PLT_NOMEM, "%zu bytes of units", total);
    if (st == PLT_OK)
        st = gz->child->read(gz->child, io, segs, n, err);
    if (st == PLT_OK)
        decode_all(b);
    for (size_t i = 0; st == PLT_OK && i < b->n_mine; i++) {
        const struct work *const w = &b->work[b->mine[i]];
        if (!w->has_tried)
            st = plt_fail(err, PLT_NOMEM, "a decoder");
        else if (!w->is_good)
            st = plt_fail_at(err, PLT_CORRUPT, w->unit.in,
                             gz->dict_version
                                 ? "a chunk does not decode to %u bytes"
                                 : "a block is not what its header and trailer "
                                   "say, %u bytes of that checksum",
                             w->unit.out_len);
    }
    settle(b, err);
    return st;
}

void gzip_units_cache(struct gzip_image *gz, const struct gzip_unit *units,
                      const uint8_t *const *in, size_t n)
{
    struct batch *const b = calloc(1, sizeof(*b));
    struct plt_error again = {.at = PLT_AT_NONE};

    if (!b)
        return;
    b->gz = gz;
    for (size_t i = 0; i < n && i < UNITS_BATCH; i++) {
        union {
            const uint8_t *bytes;
            uint8_t *chunk; /* of a block nothing is written */
        } u = {.bytes = in[i]};
        struct work *const w = &b->work[b->n];
        w->unit = units[i];
        w->in = u.chunk;
        const enum plt_claim c =
            gz->host->block_claim(gz->host, gzip_unit_key(&units[i]),
                                  units[i].out_len, false, &w->block);
        if (c == PLT_CLAIM_FILL)
            b->mine[b->n_mine++] = b->n++;
        else if (c != PLT_CLAIM_FULL)
            gz->host->block_release(gz->host, w->block);
    }
    decode_all(b);
    again.status = plt_fail(&again, PLT_AGAIN, "a block");
    settle(b, &again);
    release(b);
    free(b);
}

/* ---- Reading ---- */

/* Copy what of the unit the segments ask for. */
static void give(const struct plt_seg *segs, size_t n, const struct work *w)
{
    const uint64_t from = w->unit.out, to = from + w->unit.out_len;
    const uint8_t *const data = data_of(w);

    for (size_t i = 0; i < n; i++) {
        const uint64_t s = segs[i].off, e = s + segs[i].len;
        const uint64_t lo = s > from ? s : from, hi = e < to ? e : to;
        if (lo < hi)
            memcpy((uint8_t *)segs[i].buf + (lo - s), data + (lo - from),
                   (size_t)(hi - lo));
    }
}

/* Those that others decode.  One whose filler gave up is for ourselves. */
static enum plt_status await_others(struct batch *b, struct plt_io *io,
                                    struct plt_error *err)
{
    struct plt_host *const host = b->gz->host;
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < b->n; i++) {
        struct work *const w = &b->work[i];
        struct plt_error why;
        if (!w->is_pending)
            continue;
        const enum plt_status got = host->block_wait(host, w->block, io, &why);
        if (got == PLT_OK)
            continue;
        w->block = NULL;
        w->is_again = got == PLT_AGAIN;
        if (!w->is_again && st == PLT_OK) {
            *err = why;
            st = got;
        }
    }
    return st;
}

/* Once more, without the cache. */
static enum plt_status read_again(struct gzip_image *gz, struct plt_io *io,
                                  const struct gzip_unit *unit,
                                  const struct plt_seg *segs, size_t n,
                                  struct plt_error *err)
{
    struct batch *const b = calloc(1, sizeof(*b));
    enum plt_status st;

    if (!b)
        return plt_fail(err, PLT_NOMEM, "a unit");
    b->gz = gz;
    b->work[0] = (struct work){.unit = *unit, .is_mine = true};
    b->n = b->n_mine = 1;
    st = fill(b, io, err);
    if (st == PLT_OK)
        give(segs, n, &b->work[0]);
    release(b);
    free(b);
    return st;
}

static enum plt_status read_batch(struct batch *b, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n,
                                  struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (!claim_all(b, (io->flags & PLT_IO_NOWAIT) != 0))
        st = PLT_AGAIN;
    if (st == PLT_OK && b->n_mine)
        st = fill(b, io, err);
    if (st == PLT_OK)
        st = await_others(b, io, err);
    for (size_t i = 0; st == PLT_OK && i < b->n; i++) {
        if (b->work[i].is_again)
            st = read_again(b->gz, io, &b->work[i].unit, segs, n, err);
        else
            give(segs, n, &b->work[i]);
    }
    release(b);
    return st;
}

/* Units from segs[*i], its byte *at, on; zeros are filled in at once. */
static void gather(struct batch *b, const struct plt_seg *segs, size_t n,
                   size_t *i, size_t *at)
{
    struct gzip_image *const gz = b->gz;
    uint64_t bytes = 0, next;

    pthread_mutex_lock(&gz->lock);
    for (; *i < n && b->n < UNITS_BATCH && bytes < UNITS_BYTES; *at = 0, ++*i) {
        while (*at < segs[*i].len && b->n < UNITS_BATCH &&
               bytes < UNITS_BYTES) {
            const uint64_t off = segs[*i].off + *at;
            const size_t left = segs[*i].len - *at;
            const uint64_t zeros = gzip_runs_at(gz, off, &next);
            if (zeros) {
                const size_t now = zeros < left ? (size_t)zeros : left;
                memset((uint8_t *)segs[*i].buf + *at, 0, now);
                *at += now;
                continue;
            }
            const struct gzip_unit u = gz->dict_version
                                           ? gzip_dict_unit(gz, off)
                                           : gzip_bgzf_unit(gz, off);
            const uint64_t in_unit = u.out + u.out_len - off;
            *at += in_unit < left ? (size_t)in_unit : left;
            if (b->n && b->work[b->n - 1].unit.out == u.out)
                continue; /* two segments of one unit */
            b->work[b->n++].unit = u;
            bytes += u.out_len;
        }
        if (*at < segs[*i].len)
            break;
    }
    pthread_mutex_unlock(&gz->lock);
}

enum plt_status gzip_units_read(struct gzip_image *gz, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct plt_error *err)
{
    struct batch *const b = malloc(sizeof(*b));
    enum plt_status st = PLT_OK;
    size_t i = 0, at = 0;

    if (!b)
        return plt_fail(err, PLT_NOMEM, "units");
    while (i < n && st == PLT_OK) {
        memset(b, 0, sizeof(*b));
        b->gz = gz;
        gather(b, segs, n, &i, &at);
        if (b->n)
            st = read_batch(b, io, segs, n, err);
    }
    free(b);
    return st;
}
