/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed clusters (qcow2 spec, "Compressed Clusters Descriptor"): a stream
 * of raw deflate, or a zstd frame, that begins at any byte and is said to end
 * with a sector of 512 bytes, so that other data follows in the same bytes.
 *
 * What QEMU reads is read: libdeflate wants the last block of a stream, zlib
 * and QEMU are content when the cluster is full, so zlib has the last word. */
#include "qcow2_cluster.h"

#define ZLIB_CONST
#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

static enum plt_status with_zlib(const uint8_t *in, size_t n, uint8_t *out,
                                 size_t len)
{
    z_stream z = {.next_in = in, .avail_in = (uInt)n};

    z.next_out = out;
    z.avail_out = (uInt)len;
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return PLT_NOMEM;
    const int r = inflate(&z, Z_FINISH);
    const bool is_good =
        (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0;
    (void)inflateEnd(&z);
    return is_good ? PLT_OK : r == Z_MEM_ERROR ? PLT_NOMEM : PLT_CORRUPT;
}

static enum plt_status with_deflate(struct qcow2_decoder *d, const uint8_t *in,
                                    size_t n, uint8_t *out, size_t len)
{
    size_t used = 0, got = 0;

    if (!d->deflate)
        d->deflate = libdeflate_alloc_decompressor();
    if (!d->deflate)
        return PLT_NOMEM;
    const enum libdeflate_result r = libdeflate_deflate_decompress_ex(
        (struct libdeflate_decompressor *)d->deflate, in, n, out, len, &used,
        &got);
    if (r == LIBDEFLATE_SUCCESS)
        return got == len ? PLT_OK : PLT_CORRUPT;
    return with_zlib(in, n, out, len);
}

/* Whole frames, each told its length first: so the decoder needs no window of
 * its own, whatever a frame claims.  QEMU takes several, one after another. */
static enum plt_status with_zstd(struct qcow2_decoder *d, const uint8_t *in,
                                 size_t n, uint8_t *out, size_t len)
{
    size_t at = 0, full = 0;

    if (!d->zstd)
        d->zstd = ZSTD_createDCtx();
    if (!d->zstd)
        return PLT_NOMEM;
    while (full < len) {
        const size_t frame = ZSTD_findFrameCompressedSize(in + at, n - at);
        if (ZSTD_isError(frame))
            return PLT_CORRUPT;
        const size_t got = ZSTD_decompressDCtx((ZSTD_DCtx *)d->zstd, out + full,
                                               len - full, in + at, frame);
        if (ZSTD_isError(got))
            return PLT_CORRUPT;
        at += frame;
        full += got;
    }
    return PLT_OK;
}

enum plt_status qcow2_decode(struct qcow2_decoder *d, bool is_zstd,
                             const uint8_t *in, size_t n, uint8_t *out,
                             size_t len)
{
    return is_zstd ? with_zstd(d, in, n, out, len)
                   : with_deflate(d, in, n, out, len);
}

void qcow2_decoder_release(struct qcow2_decoder *d)
{
    libdeflate_free_decompressor((struct libdeflate_decompressor *)d->deflate);
    (void)ZSTD_freeDCtx((ZSTD_DCtx *)d->zstd);
    *d = (struct qcow2_decoder){.deflate = NULL};
}
