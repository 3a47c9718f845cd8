/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_seal.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include <platter/bytes.h>

enum { BLOCK = 512, GZIP_HEAD = 10, UNZIP_MOST = 1 << 20 };

/* ---- tar: the sum of a header's bytes, its own place as spaces ---- */

static void seal_header(uint8_t *h)
{
    unsigned sum = 0;

    memset(h + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += h[i];
    (void)snprintf((char *)h + 148, 8, "%06o", sum & 0777777);
}

static void seal_headers(uint8_t *data, size_t size)
{
    for (size_t at = 0; at + BLOCK <= size; at += BLOCK)
        if (memcmp(data + at + 257, "ustar", 5) == 0)
            seal_header(data + at);
}

/* ---- GPT: of the entries, then of the header that holds it ---- */

static void seal_gpt(uint8_t *data, size_t size, size_t at, size_t sector)
{
    if (size < BLOCK || at > size - BLOCK ||
        memcmp(data + at, "EFI PART", 8) != 0)
        return;
    const uint64_t entries = plt_le64(data + at + 72);
    const uint64_t len =
        (uint64_t)plt_le32(data + at + 80) * plt_le32(data + at + 84);
    const uint32_t head = plt_le32(data + at + 12);

    if (entries < size / sector && len <= size - entries * sector)
        plt_put_le32(data + at + 88,
                     (uint32_t)crc32(0, data + entries * sector, (uInt)len));
    plt_put_le32(data + at + 16, 0);
    if (head <= size - at)
        plt_put_le32(data + at + 16, (uint32_t)crc32(0, data + at, (uInt)head));
}

/* ---- gzip ---- */

/* The header's length; 0: it is none.  RFC 1952. */
static size_t gzip_head(const uint8_t *p, size_t size)
{
    size_t at = GZIP_HEAD;

    if (size < GZIP_HEAD || p[0] != 0x1f || p[1] != 0x8b || p[2] != 8)
        return 0;
    if (p[3] & 4) {
        if (size < at + 2)
            return 0;
        at += 2 + plt_le16(p + at);
    }
    for (unsigned bit = 8; bit <= 16; bit <<= 1) {
        if (!(p[3] & bit))
            continue;
        while (at < size && p[at])
            at++;
        at++;
    }
    at += p[3] & 2 ? 2 : 0;
    return at < size ? at : 0;
}

/* A member: *used is its length without the trailer. */
static size_t inflate_member(const uint8_t *data, size_t size, uint8_t *out,
                             size_t cap, size_t *used)
{
    z_stream z;
    const size_t head = gzip_head(data, size);

    memset(&z, 0, sizeof(z));
    if (!head || inflateInit2(&z, -15) != Z_OK)
        return 0;
    z.next_in = (Bytef *)(uintptr_t)(data + head);
    z.avail_in = (uInt)(size - head);
    z.next_out = out;
    z.avail_out = (uInt)cap;
    const int rc = inflate(&z, Z_FINISH);
    *used = head + z.total_in;
    const size_t n = z.total_out;
    (void)inflateEnd(&z);
    return rc == Z_STREAM_END && *used + 8 <= size ? n : 0;
}

size_t seal_unzip(const uint8_t *data, size_t size, uint8_t *out, size_t cap,
                  size_t *used)
{
    const size_t n = inflate_member(data, size, out, cap, used);
    *used += 8;
    return n;
}

static void seal_members(uint8_t *data, size_t size)
{
    static uint8_t out[UNZIP_MOST];

    for (size_t at = 0; at < size;) {
        size_t used = 0;
        const size_t n =
            inflate_member(data + at, size - at, out, sizeof(out), &used);
        if (!n)
            return;
        plt_put_le32(data + at + used, (uint32_t)crc32(0, out, (uInt)n));
        plt_put_le32(data + at + used + 4, (uint32_t)n);
        at += used + 8;
    }
}

size_t seal_zip(const uint8_t *data, size_t size, uint8_t *out, size_t cap,
                int level)
{
    z_stream z;

    memset(&z, 0, sizeof(z));
    if (deflateInit2(&z, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = out;
    z.avail_out = (uInt)cap;
    const int rc = deflate(&z, Z_FINISH);
    const size_t n = z.total_out;
    (void)deflateEnd(&z);
    return rc == Z_STREAM_END ? n : 0;
}

size_t seal_tar(const char *name, const uint8_t *data, size_t size,
                uint8_t *out, size_t cap)
{
    const size_t padded = (size + BLOCK - 1) / BLOCK * BLOCK;

    if (padded + 3 * BLOCK > cap)
        return 0;
    memset(out, 0, padded + 3 * BLOCK);
    (void)snprintf((char *)out, 100, "%s", name);
    (void)snprintf((char *)out + 100, 8, "0000644");
    (void)snprintf((char *)out + 124, 12, "%011zo", size);
    out[156] = '0';
    memcpy(out + 257, "ustar\00000", 8);
    seal_header(out);
    if (size)
        memcpy(out + BLOCK, data, size);
    return padded + 3 * BLOCK;
}

void seal(uint8_t *data, size_t size)
{
    seal_headers(data, size);
    for (size_t sector = 512; sector <= 4096; sector *= 8) {
        seal_gpt(data, size, sector, sector);
        if (size >= sector)
            seal_gpt(data, size, size / sector * sector - sector, sector);
    }
    seal_members(data, size);
}
