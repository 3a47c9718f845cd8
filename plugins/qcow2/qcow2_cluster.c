/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed clusters: a stream of raw deflate or zstd that begins anywhere and
 * is said to end at a 512-byte border, with other data behind it.  It must give
 * exactly one cluster. */
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>
#include <zstd.h>

#include "qcow2_image.h"

/* Keys of decoded clusters; those of L2 tables are offsets / 512, below it. */
static const uint64_t key_base = UINT64_C(1) << 62;

static bool inflate_zlib(const uint8_t *in, size_t n, uint8_t *out, size_t len)
{
    struct libdeflate_decompressor *const d = libdeflate_alloc_decompressor();
    size_t used = 0, got = 0;

    if (!d)
        return false;
    const enum libdeflate_result r =
        libdeflate_deflate_decompress_ex(d, in, n, out, len, &used, &got);
    libdeflate_free_decompressor(d);
    return r == LIBDEFLATE_SUCCESS && got == len;
}

static bool inflate_zstd(const uint8_t *in, size_t n, uint8_t *out, size_t len)
{
    ZSTD_DCtx *const d = ZSTD_createDCtx();
    ZSTD_inBuffer from = {in, n, 0};
    ZSTD_outBuffer to = {out, len, 0};

    if (!d)
        return false;
    /* The window cannot be larger than what comes out. */
    (void)ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, 27);
    while (to.pos < len) {
        const size_t in_before = from.pos, out_before = to.pos;
        const size_t r = ZSTD_decompressStream(d, &to, &from);
        if (ZSTD_isError(r) || (from.pos == in_before && to.pos == out_before))
            break;
    }
    ZSTD_freeDCtx(d);
    return to.pos == len;
}

struct job {
    struct qcow2_piece piece;
    struct plt_block *block;
    uint8_t *own; /* instead of a block, when the cache is full */
    enum plt_claim claim;
    uint8_t *in;
};

static int by_guest(const void *a, const void *b)
{
    const uint64_t x = ((const struct qcow2_packed *)a)->piece.guest;
    const uint64_t y = ((const struct qcow2_packed *)b)->piece.guest;
    return x < y ? -1 : x > y;
}

static enum plt_status unpack_one(const struct qcow2 *q, const struct job *j,
                                  struct plt_error *err)
{
    uint8_t *const out = j->own ? j->own : j->block->data;
    const size_t len = (size_t)q->cluster;
    const bool is_good = q->header.compression
                             ? inflate_zstd(j->in, j->piece.packed, out, len)
                             : inflate_zlib(j->in, j->piece.packed, out, len);

    if (is_good)
        return PLT_OK;
    return plt_fail_at(err, PLT_CORRUPT, j->piece.host,
                       "compressed cluster %llu does not decode to a cluster",
                       (unsigned long long)j->piece.guest);
}

/* Read all that is ours with one call, and decode it. */
static enum plt_status fill(struct qcow2 *q, struct plt_io *io,
                            struct job *jobs, size_t n, struct plt_error *err)
{
    struct plt_seg *const segs = malloc(n * sizeof(*segs));
    size_t total = 0, m = 0, at = 0;
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < n; i++)
        total += jobs[i].claim == PLT_CLAIM_FILL || jobs[i].own
                     ? jobs[i].piece.packed
                     : 0;
    uint8_t *const in = malloc(total ? total : 1);
    if (!segs || !in)
        st = plt_fail(err, PLT_NOMEM, "compressed clusters");
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (jobs[i].claim != PLT_CLAIM_FILL && !jobs[i].own)
            continue;
        jobs[i].in = in + at;
        /* Neighbours in the file, which writers make, become one segment. */
        if (m && segs[m - 1].off + segs[m - 1].len == jobs[i].piece.host)
            segs[m - 1].len += jobs[i].piece.packed;
        else
            segs[m++] = (struct plt_seg){jobs[i].piece.host,
                                         jobs[i].piece.packed, in + at};
        at += jobs[i].piece.packed;
    }
    if (st == PLT_OK && m)
        st = q->child->read(q->child, io, segs, m, err);
    for (size_t i = 0; i < n; i++) {
        const bool is_mine = jobs[i].claim == PLT_CLAIM_FILL;
        if (!is_mine && !jobs[i].own)
            continue;
        if (st == PLT_OK)
            st = unpack_one(q, &jobs[i], err);
        if (is_mine && st == PLT_OK) {
            q->host->block_commit(q->host, jobs[i].block);
        } else if (is_mine) {
            q->host->block_abandon(q->host, jobs[i].block, err);
            jobs[i].block = NULL;
        }
    }
    free(in);
    free(segs);
    return st;
}

static enum plt_status wait_for(struct qcow2 *q, struct plt_io *io,
                                struct job *j, struct plt_error *err)
{
    enum plt_status st = q->host->block_wait(q->host, j->block, io, err);

    if (st == PLT_OK)
        return st;
    j->block = NULL;
    if (st != PLT_AGAIN)
        return st;
    /* Who was filling it left: do it for ourselves. */
    j->own = malloc((size_t)q->cluster);
    j->claim = PLT_CLAIM_FULL;
    return j->own ? fill(q, io, j, 1, err)
                  : plt_fail(err, PLT_NOMEM, "a cluster");
}

enum plt_status qcow2_unpack(struct qcow2 *q, struct plt_io *io,
                             struct qcow2_packed *list, size_t n,
                             struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    struct job *const jobs = calloc(n, sizeof(*jobs));
    enum plt_status st = PLT_OK;
    size_t n_jobs = 0;

    if (!jobs)
        return plt_fail(err, PLT_NOMEM, "compressed clusters");
    qsort(list, n, sizeof(*list), by_guest); /* one claim for each cluster */
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (n_jobs && jobs[n_jobs - 1].piece.guest == list[i].piece.guest)
            continue;
        struct job *const j = &jobs[n_jobs++];
        j->piece = list[i].piece;
        j->claim =
            q->host->block_claim(q->host, key_base + j->piece.guest,
                                 (size_t)q->cluster, is_nowait, &j->block);
        if (j->claim == PLT_CLAIM_FULL && is_nowait)
            st = PLT_AGAIN;
        else if (j->claim == PLT_CLAIM_FULL)
            j->own = malloc((size_t)q->cluster);
        if (j->claim == PLT_CLAIM_FULL && st == PLT_OK && !j->own)
            st = plt_fail(err, PLT_NOMEM, "a cluster");
    }
    if (st == PLT_OK)
        st = fill(q, io, jobs, n_jobs, err);
    else
        for (size_t i = 0; i < n_jobs; i++) {
            if (jobs[i].claim == PLT_CLAIM_FILL) {
                q->host->block_abandon(q->host, jobs[i].block, err);
                jobs[i].block = NULL;
            }
        }
    for (size_t i = 0; i < n_jobs; i++) {
        struct plt_error why;
        if (jobs[i].claim != PLT_CLAIM_PENDING)
            continue;
        const enum plt_status waited = wait_for(q, io, &jobs[i], &why);
        if (st == PLT_OK && waited != PLT_OK) {
            *err = why;
            st = waited;
        }
    }
    for (size_t i = 0, k = 0; i < n && st == PLT_OK; i++) {
        while (jobs[k].piece.guest != list[i].piece.guest)
            k++;
        memcpy(list[i].buf,
               (jobs[k].own ? jobs[k].own : jobs[k].block->data) + list[i].in,
               list[i].len);
    }
    for (size_t i = 0; i < n_jobs; i++) {
        if (jobs[i].block)
            q->host->block_release(q->host, jobs[i].block);
        free(jobs[i].own);
    }
    free(jobs);
    return st;
}
