/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding untrusted bytes: spans, a bounded cursor, loads with a byte order.
 *
 * Nothing here can read outside what it was given or overflow.  Threads: any;
 * a cursor belongs to one decoder. */
#ifndef PLATTER_BYTES_H
#define PLATTER_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* [off, off+len) lies inside [0, size).  Cannot itself overflow. */
static inline bool plt_span_ok(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

static inline uint16_t plt_le16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] | (unsigned)p[1] << 8);
}

static inline uint32_t plt_le32(const uint8_t *p)
{
    return (uint32_t)plt_le16(p) | (uint32_t)plt_le16(p + 2) << 16;
}

static inline uint64_t plt_le64(const uint8_t *p)
{
    return (uint64_t)plt_le32(p) | (uint64_t)plt_le32(p + 4) << 32;
}

static inline uint16_t plt_be16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | (unsigned)p[1]);
}

static inline uint32_t plt_be32(const uint8_t *p)
{
    return (uint32_t)plt_be16(p) << 16 | (uint32_t)plt_be16(p + 2);
}

static inline uint64_t plt_be64(const uint8_t *p)
{
    return (uint64_t)plt_be32(p) << 32 | (uint64_t)plt_be32(p + 4);
}

static inline void plt_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v & 0xff);
    p[1] = (uint8_t)(v >> 8);
}

static inline void plt_put_le32(uint8_t *p, uint32_t v)
{
    plt_put_le16(p, (uint16_t)(v & 0xffff));
    plt_put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void plt_put_le64(uint8_t *p, uint64_t v)
{
    plt_put_le32(p, (uint32_t)(v & 0xffffffffU));
    plt_put_le32(p + 4, (uint32_t)(v >> 32));
}

static inline void plt_put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16 & 0xff);
    p[2] = (uint8_t)(v >> 8 & 0xff);
    p[3] = (uint8_t)(v & 0xff);
}

static inline void plt_put_be64(uint8_t *p, uint64_t v)
{
    plt_put_be32(p, (uint32_t)(v >> 32));
    plt_put_be32(p + 4, (uint32_t)(v & 0xffffffffU));
}

/* A read position over untrusted bytes.  Reading past the end yields zero and
 * latches `bad`: a decoder reads straight through and asks once at the end. */
struct plt_cur {
    const uint8_t *p, *end;
    bool bad;
};

static inline struct plt_cur plt_cur_init(const void *buf, size_t len)
{
    const uint8_t *const p = (const uint8_t *)buf;
    struct plt_cur c = {p, p ? p + len : p, false};
    return c;
}

static inline size_t plt_cur_left(const struct plt_cur *c)
{
    return c->bad ? 0 : (size_t)(c->end - c->p);
}

/* The next n bytes, borrowed; NULL and latched when there are fewer. */
static inline const uint8_t *plt_cur_take(struct plt_cur *c, size_t n)
{
    if (c->bad || n > (size_t)(c->end - c->p)) {
        c->bad = true;
        return NULL;
    }
    c->p += n;
    return c->p - n;
}

static inline uint8_t plt_cur_u8(struct plt_cur *c)
{
    const uint8_t *const p = plt_cur_take(c, 1);
    return p ? *p : (uint8_t)0;
}

static inline uint16_t plt_cur_le16(struct plt_cur *c)
{
    const uint8_t *const p = plt_cur_take(c, 2);
    return p ? plt_le16(p) : (uint16_t)0;
}

static inline uint32_t plt_cur_le32(struct plt_cur *c)
{
    const uint8_t *const p = plt_cur_take(c, 4);
    return p ? plt_le32(p) : 0;
}

static inline uint64_t plt_cur_le64(struct plt_cur *c)
{
    const uint8_t *const p = plt_cur_take(c, 8);
    return p ? plt_le64(p) : 0;
}

static inline uint16_t plt_cur_be16(struct plt_cur *c)
{
    const uint8_t *const p = plt_cur_take(c, 2);
    return p ? plt_be16(p) : (uint16_t)0;
}

static inline uint32_t plt_cur_be32(struct plt_cur *c)
{
    const uint8_t *const p = plt_cur_take(c, 4);
    return p ? plt_be32(p) : 0;
}

static inline uint64_t plt_cur_be64(struct plt_cur *c)
{
    const uint8_t *const p = plt_cur_take(c, 8);
    return p ? plt_be64(p) : 0;
}

#ifdef __cplusplus
}
#endif
#endif
