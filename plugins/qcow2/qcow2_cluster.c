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

static enum plt_status with_deflate(const void *cookie, void **state,
                                    const struct plt_want *want,
                                    const uint8_t *in, uint8_t *out)
{
    size_t used = 0, got = 0;

    (void)cookie;
    if (!*state)
        *state = libdeflate_alloc_decompressor();
    if (!*state)
        return PLT_NOMEM;
    const enum libdeflate_result r = libdeflate_deflate_decompress_ex(
        (struct libdeflate_decompressor *)*state, in, want->stored, out,
        want->len, &used, &got);
    if (r == LIBDEFLATE_SUCCESS)
        return got == want->len ? PLT_OK : PLT_CORRUPT;
    return with_zlib(in, want->stored, out, want->len);
}

static void free_deflate(void *state)
{
    libdeflate_free_decompressor((struct libdeflate_decompressor *)state);
}

/* Whole frames, each told its length first: so the decoder needs no window of
 * its own, whatever a frame claims.  QEMU takes several, one after another. */
static enum plt_status with_zstd(const void *cookie, void **state,
                                 const struct plt_want *want, const uint8_t *in,
                                 uint8_t *out)
{
    size_t at = 0, full = 0;

    (void)cookie;
    if (!*state)
        *state = ZSTD_createDCtx();
    if (!*state)
        return PLT_NOMEM;
    while (full < want->len) {
        const size_t frame =
            ZSTD_findFrameCompressedSize(in + at, want->stored - at);
        if (ZSTD_isError(frame))
            return PLT_CORRUPT;
        const size_t got = ZSTD_decompressDCtx(
            (ZSTD_DCtx *)*state, out + full, want->len - full, in + at, frame);
        if (ZSTD_isError(got))
            return PLT_CORRUPT;
        at += frame;
        full += got;
    }
    return PLT_OK;
}

static void free_zstd(void *state)
{
    (void)ZSTD_freeDCtx((ZSTD_DCtx *)state);
}

const struct plt_decoding qcow2_zlib_decoding = {.decode = with_deflate,
                                                 .release = free_deflate,
                                                 .what = "compressed cluster"};
const struct plt_decoding qcow2_zstd_decoding = {
    .decode = with_zstd, .release = free_zstd, .what = "compressed cluster"};
