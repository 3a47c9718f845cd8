/* SPDX-License-Identifier: Apache-2.0 */
#include "gzip_header.h"

#include <string.h>

#include <zlib.h>

#include <platter/bytes.h>

enum { FHCRC = 2, FEXTRA = 4, FNAME = 8, FCOMMENT = 16, RESERVED = 0xe0 };
enum { MAX_TEXT = 65536 };

static enum gzip_parse bad(struct gzip_header *out, const char *why)
{
    out->why = why;
    return GZIP_BAD;
}

/* A NUL-ended text at *at; moves *at behind it. */
static enum gzip_parse skip_text(const uint8_t *p, size_t n, size_t *at,
                                 struct gzip_header *out)
{
    const size_t left = n - *at;
    const uint8_t *const end =
        memchr(p + *at, 0, left < MAX_TEXT ? left : MAX_TEXT);
    if (!end)
        return left < MAX_TEXT ? GZIP_MORE
                               : bad(out, "header text of more than 64 KiB");
    *at = (size_t)(end - p) + 1;
    return GZIP_PARSED;
}

enum gzip_parse gzip_header_parse(const uint8_t *p, size_t n,
                                  struct gzip_header *out)
{
    size_t at = 10;
    enum gzip_parse r;

    *out = (struct gzip_header){.len = 0};
    if ((n > 0 && p[0] != 0x1f) || (n > 1 && p[1] != 0x8b))
        return bad(out, "no gzip magic");
    if (n > 2 && p[2] != 8)
        return bad(out, "compression method is not deflate");
    if (n > 3 && (p[3] & RESERVED))
        return bad(out, "reserved header flags are set");
    if (n < 10)
        return GZIP_MORE;
    if (p[3] & FEXTRA) {
        if (n < 12)
            return GZIP_MORE;
        out->extra_len = plt_le16(p + 10);
        if (n - 12 < out->extra_len)
            return GZIP_MORE;
        out->extra = p + 12;
        at = 12 + out->extra_len;
    }
    if (p[3] & FNAME) {
        out->name = (const char *)p + at;
        if ((r = skip_text(p, n, &at, out)) != GZIP_PARSED)
            return r;
    }
    if ((p[3] & FCOMMENT) && (r = skip_text(p, n, &at, out)) != GZIP_PARSED)
        return r;
    if (p[3] & FHCRC) {
        if (n - at < 2)
            return GZIP_MORE;
        const uLong crc = crc32(0, p, (uInt)at);
        if ((crc & 0xffff) != plt_le16(p + at))
            return bad(out, "header checksum is wrong");
        at += 2;
    }
    out->len = at;
    return GZIP_PARSED;
}

const uint8_t *gzip_header_subfield(const struct gzip_header *header, char si1,
                                    char si2, size_t *len)
{
    struct plt_cur c = plt_cur_init(header->extra, header->extra_len);

    if (!header->extra)
        return NULL;
    while (plt_cur_left(&c) >= 4) {
        const uint8_t a = plt_cur_u8(&c), b = plt_cur_u8(&c);
        const size_t n = plt_cur_le16(&c);
        const uint8_t *const payload = plt_cur_take(&c, n);
        if (!payload)
            return NULL;
        if (a == (uint8_t)si1 && b == (uint8_t)si2) {
            *len = n;
            return payload;
        }
    }
    return NULL;
}
