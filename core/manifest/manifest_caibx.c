/* SPDX-License-Identifier: Apache-2.0 */
/* casync's blob index with chunks of one size (caformat.h of casync 2): a head,
 * a table of 40 bytes a chunk, its tail; numbers are little-endian. */
#include "manifest/manifest_export.h"
#include "manifest/manifest_export_out.h"

#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

enum { HEAD = 48, TABLE_HEAD = 16, ROW = 40, ROWS = 1024 };

static const uint64_t index_type = UINT64_C(0x96824d9c7b129ff9),
                      table_type = UINT64_C(0xe75b9e112f17417d),
                      tail_marker = UINT64_C(0x4b4f050e5549ecd1),
                      /* ids are SHA-512/256; the rest is what casync says of
                         any blob */
    flags = UINT64_C(0xb000000000000000);

static void put_le(uint8_t *p, uint64_t v)
{
    for (size_t i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get_le(const uint8_t *p)
{
    uint64_t v = 0;

    for (size_t i = 8; i--;)
        v = v << 8 | p[i];
    return v;
}

static void words(struct export_out *out, const uint64_t *v, size_t n)
{
    uint8_t le[8];

    for (size_t i = 0; i < n; i++) {
        put_le(le, v[i]);
        export_bytes(out, le, sizeof(le));
    }
}

/* False without memory. */
static bool make_id(const uint8_t *data, size_t len, uint8_t id[32])
{
    return EVP_Digest(data, len, id, NULL, EVP_sha512_256(), NULL) == 1;
}

void caibx_head(struct export_out *out)
{
    const uint64_t head[] = {HEAD,           index_type,     flags,
                             MANIFEST_CHUNK, MANIFEST_CHUNK, MANIFEST_CHUNK,
                             UINT64_MAX,     table_type};
    words(out, head, sizeof(head) / sizeof(head[0]));
}

void caibx_chunk(struct export_out *out, uint64_t end, const uint8_t *data,
                 size_t len)
{
    uint8_t id[32];

    if (!make_id(data, len, id)) {
        out->err.status = plt_fail(&out->err, PLT_NOMEM, "a digest");
        return;
    }
    words(out, &end, 1);
    export_bytes(out, id, sizeof(id));
}

void caibx_end(struct export_out *out, uint64_t size)
{
    const uint64_t n = size / MANIFEST_CHUNK + (size % MANIFEST_CHUNK != 0);
    const uint64_t tail[] = {0, 0, HEAD, TABLE_HEAD + (n + 1) * ROW,
                             tail_marker};
    words(out, tail, sizeof(tail) / sizeof(tail[0]));
}

enum plt_status manifest_chunk_find(int fd, const uint8_t id[32], uint64_t *off,
                                    size_t *len, struct plt_error *err)
{
    uint8_t rows[ROWS * ROW];
    uint64_t before = 0;
    ssize_t n;

    for (off_t at = HEAD + TABLE_HEAD;
         (n = pread(fd, rows, sizeof(rows), at)) >= ROW; at += n - n % ROW) {
        for (ssize_t i = 0; i + ROW <= n; i += ROW) {
            const uint64_t end = get_le(rows + i);
            if (end <= before || end - before > MANIFEST_CHUNK)
                break; /* the tail */
            if (memcmp(rows + i + 8, id, 32) == 0) {
                *off = before;
                *len = (size_t)(end - before);
                return PLT_OK;
            }
            before = end;
        }
    }
    return plt_fail(err, PLT_NOT_FOUND, "the disk has no such chunk");
}

bool manifest_chunk_is(const uint8_t *data, size_t len, const uint8_t id[32])
{
    uint8_t made[32];

    return make_id(data, len, made) && memcmp(made, id, sizeof(made)) == 0;
}

/* RFC 8878 3.1.1: one segment with its size in 4 bytes, and one raw block. */
size_t manifest_chunk_frame(const uint8_t *data, size_t len,
                            uint8_t out[MANIFEST_CHUNK_FRAME])
{
    static const uint8_t magic[5] = {0x28, 0xb5, 0x2f, 0xfd, 0xa0};
    const size_t block = len << 3 | 1; /* raw, the last */

    memcpy(out, magic, sizeof(magic));
    for (size_t i = 0; i < 4; i++)
        out[5 + i] = (uint8_t)(len >> 8 * i);
    for (size_t i = 0; i < 3; i++)
        out[9 + i] = (uint8_t)(block >> 8 * i);
    memcpy(out + 12, data, len);
    return len + 12;
}
