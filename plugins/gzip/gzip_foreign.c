/* SPDX-License-Identifier: Apache-2.0 */
#include "gzip_foreign.h"

#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include <platter/bytes.h>

enum {
    WINDOW = 32768,
    GZTOOL_HEAD = 16,
    GZTOOL_POINT = 24,
    INDEXED_HEAD = 35,
    INDEXED_POINT = 17,
    MAX_PACKED = 65536 /* zlib adds a few bytes to what does not pack */
};

enum gzip_foreign gzip_foreign_is(const uint8_t *p, size_t n)
{
    static const uint8_t none[8] = {0};

    if (n >= GZTOOL_HEAD && memcmp(p, none, 8) == 0 &&
        (memcmp(p + 8, "gzipindx", 8) == 0 ||
         memcmp(p + 8, "gzipindX", 8) == 0))
        return GZIP_FOREIGN_GZTOOL;
    if (n >= INDEXED_HEAD && memcmp(p, "GZIDX", 5) == 0)
        return GZIP_FOREIGN_INDEXED;
    if (n >= 8 && (n - 8) % 16 == 0 && plt_le64(p) == (n - 8) / 16)
        return GZIP_FOREIGN_UNFIT;
    return GZIP_FOREIGN_NONE;
}

size_t gzip_foreign_most(size_t n)
{
    return n / INDEXED_POINT + 1;
}

/* The bits of one point as a position.  False: there is none such. */
static bool position(uint64_t in, uint32_t bits, uint64_t *in_bits)
{
    if (in > UINT64_MAX / 16 || bits > 7 || (bits && !in))
        return false;
    *in_bits = in * 8 - bits;
    return true;
}

/* One more, unless it is of no use.  `last` is the one before it in the file,
 * kept or not.  False: out of order. */
static bool take(struct gzip_hints *h, const struct gzip_hint *p,
                 struct gzip_hint *last, uint64_t source, uint64_t apart)
{
    const struct gzip_hint *const kept = h->n ? &h->hint[h->n - 1] : NULL;

    if (p->out > INT64_MAX ||
        (last->in_bits && (p->out < last->out || p->in_bits <= last->in_bits)))
        return false;
    *last = *p;
    if (p->in_bits / 8 < source && p->out >= (kept ? kept->out : 0) + apart)
        h->hint[h->n++] = *p;
    return true;
}

static const char *parse_gztool(struct plt_cur *c, const uint8_t *file,
                                uint64_t source, uint64_t apart,
                                struct gzip_hints *h)
{
    struct gzip_hint last = {.out = 0};

    (void)plt_cur_take(c, 15);
    const bool has_lines = plt_cur_u8(c) == 'X';
    if (has_lines)
        (void)plt_cur_be32(c);
    (void)plt_cur_be64(c); /* 0 while it is being written */
    const uint64_t n = plt_cur_be64(c);
    const size_t each = has_lines ? GZTOOL_POINT + 8 : GZTOOL_POINT;
    if (c->bad || n > plt_cur_left(c) / each)
        return "the index of gztool is cut off";
    h->is_packed = true;
    for (uint64_t i = 0; i < n; i++) {
        struct gzip_hint p = {.out = plt_cur_be64(c)};
        const uint64_t in = plt_cur_be64(c);
        const uint32_t bits = plt_cur_be32(c);
        p.window_len = plt_cur_be32(c);
        const uint8_t *const window = plt_cur_take(c, p.window_len);
        if (has_lines)
            (void)plt_cur_be64(c);
        if (c->bad)
            return "the index of gztool is cut off";
        p.window_at = (size_t)(window - file);
        if (p.window_len > MAX_PACKED || !position(in, bits, &p.in_bits) ||
            !take(h, &p, &last, source, apart))
            return "a point of gztool's index is out of order";
    }
    h->out = plt_cur_left(c) >= 8 ? plt_cur_be64(c) : 0;
    return NULL;
}

static const char *parse_indexed(struct plt_cur *c, const uint8_t *file,
                                 size_t len, uint64_t source, uint64_t apart,
                                 struct gzip_hints *h)
{
    struct gzip_hint last = {.out = 0};

    (void)plt_cur_take(c, 5);
    const unsigned version = plt_cur_u8(c);
    (void)plt_cur_u8(c);
    const uint64_t length = plt_cur_le64(c);
    h->out = plt_cur_le64(c);
    (void)plt_cur_le32(c); /* spacing */
    const uint32_t window = plt_cur_le32(c);
    const uint32_t n = plt_cur_le32(c);
    const size_t each = version ? INDEXED_POINT + 1 : INDEXED_POINT;
    if (version > 1)
        return "another version of indexed_gzip's index";
    if (length && length != source)
        return "the index is of a stream of another length";
    if (window != WINDOW)
        return "windows of another size than 32768";
    if (c->bad || n > plt_cur_left(c) / each)
        return "the index of indexed_gzip is cut off";
    size_t at = len - plt_cur_left(c) + n * each;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t in = plt_cur_le64(c);
        struct gzip_hint p = {.out = plt_cur_le64(c)};
        const uint8_t bits = plt_cur_u8(c);
        if (version ? plt_cur_u8(c) : i > 0) {
            p.window_at = at;
            p.window_len = WINDOW;
            at += WINDOW;
        }
        if (at > len)
            return "the index of indexed_gzip is cut off";
        if (!position(in, bits, &p.in_bits) ||
            !take(h, &p, &last, source, apart))
            return "a point of indexed_gzip's index is out of order";
    }
    (void)file;
    return NULL;
}

const char *gzip_foreign_parse(const uint8_t *p, size_t n, uint64_t source,
                               uint64_t apart, struct gzip_hints *hints)
{
    struct plt_cur c = plt_cur_init(p, n);

    hints->file = p;
    hints->n = 0;
    hints->out = 0;
    hints->is_packed = false;
    switch (gzip_foreign_is(p, n)) {
    case GZIP_FOREIGN_GZTOOL:
        return parse_gztool(&c, p, source, apart, hints);
    case GZIP_FOREIGN_INDEXED:
        return parse_indexed(&c, p, n, source, apart, hints);
    case GZIP_FOREIGN_UNFIT:
        return "bgzip's index says nothing that the stream does not";
    case GZIP_FOREIGN_NONE:
    default:
        return "not an index that is known";
    }
}

bool gzip_foreign_window(const struct gzip_hints *hints, size_t i,
                         uint8_t window[WINDOW])
{
    const struct gzip_hint *const h = &hints->hint[i];
    const uint8_t *const from = hints->file + h->window_at;
    size_t n = 0;
    bool is_good = true;

    if (!h->window_len) {
        memset(window, 0, WINDOW);
    } else if (!hints->is_packed) {
        memcpy(window, from, WINDOW);
    } else {
        struct libdeflate_decompressor *const d =
            libdeflate_alloc_decompressor();
        is_good =
            d && libdeflate_zlib_decompress(d, from, h->window_len, window,
                                            WINDOW, &n) == LIBDEFLATE_SUCCESS;
        if (is_good) {
            memmove(window + WINDOW - n, window, n);
            memset(window, 0, WINDOW - n);
        }
        libdeflate_free_decompressor(d);
    }
    return is_good;
}

/* ---- Writing ---- */

size_t gzip_foreign_put_head(enum gzip_foreign kind, uint8_t *to, size_t n,
                             uint64_t source, uint64_t out)
{
    if (kind == GZIP_FOREIGN_GZTOOL) {
        memset(to, 0, 8);
        memcpy(to + 8, "gzipindx", 8);
        plt_put_be64(to + 16, n);
        plt_put_be64(to + 24, n);
        return 32;
    }
    memcpy(to, "GZIDX\1", 7);
    plt_put_le64(to + 7, source);
    plt_put_le64(to + 15, out);
    plt_put_le32(to + 23, 1 << 20);
    plt_put_le32(to + 27, WINDOW);
    plt_put_le32(to + 31, (uint32_t)n);
    return INDEXED_HEAD;
}

static size_t pack(uint8_t *to, const uint8_t window[WINDOW])
{
    struct libdeflate_compressor *const c = libdeflate_alloc_compressor(6);
    const size_t n =
        c ? libdeflate_zlib_compress(c, window, WINDOW, to,
                                     GZIP_FOREIGN_POINT - GZTOOL_POINT)
          : 0;

    libdeflate_free_compressor(c);
    return n;
}

size_t gzip_foreign_put_point(enum gzip_foreign kind, uint8_t *to,
                              const struct gzip_foreign_point *point)
{
    const uint64_t in = (point->in_bits + 7) / 8;
    const uint32_t bits = (uint32_t)(in * 8 - point->in_bits);
    size_t n = 0;

    if (kind == GZIP_FOREIGN_INDEXED) {
        plt_put_le64(to, in);
        plt_put_le64(to + 8, point->out);
        to[16] = (uint8_t)bits;
        to[17] = point->window != NULL;
        return 18;
    }
    plt_put_be64(to, point->out);
    plt_put_be64(to + 8, in);
    plt_put_be32(to + 16, bits);
    if (point->window && !(n = pack(to + GZTOOL_POINT, point->window)))
        return 0;
    plt_put_be32(to + 20, (uint32_t)n);
    return GZTOOL_POINT + n;
}

size_t gzip_foreign_put_tail(enum gzip_foreign kind, uint8_t *to, uint64_t out)
{
    if (kind != GZIP_FOREIGN_GZTOOL)
        return 0;
    plt_put_be64(to, out);
    return 8;
}
