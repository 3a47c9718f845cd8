/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/address.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

struct block {
    uint8_t bytes[16];
    size_t len; /* 4 or 16 */
    unsigned bits;
};

static bool in_block(const struct block *b, const uint8_t *address, size_t len)
{
    const size_t whole = b->bits / 8;
    const unsigned rest = b->bits % 8;

    if (b->len != len || memcmp(b->bytes, address, whole) != 0)
        return false;
    return !rest || ((b->bytes[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

/* The IPv4 address that an IPv6 one stands for. */
static const uint8_t *inner(const uint8_t *address, size_t *len)
{
    static const struct {
        struct block block;
        size_t at;
    } table[] = {
        {{{[10] = 0xff, 0xff}, 16, 96}, 12},   /* RFC 4291 2.5.5.2 */
        {{{0, 0x64, 0xff, 0x9b}, 16, 96}, 12}, /* RFC 6052 2.1 */
        {{{0x20, 0x02}, 16, 16}, 2},           /* RFC 3056 2 */
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (*len == 16 && in_block(&table[i].block, address, *len)) {
            *len = 4;
            return address + table[i].at;
        }
    }
    return address;
}

const char *address_kind(const uint8_t *address, size_t len)
{
    static const struct {
        struct block block;
        const char *kind;
    } table[] = {
        {{{0}, 4, 8}, "an unspecified address"}, /* RFC 1122 3.2.1.3 */
        {{{10}, 4, 8}, "a private address"},     /* RFC 1918 */
        {{{172, 16}, 4, 12}, "a private address"},
        {{{192, 168}, 4, 16}, "a private address"},
        {{{100, 64}, 4, 10}, "a private address"}, /* RFC 6598 */
        {{{127}, 4, 8}, "a loopback address"},
        {{{169, 254}, 4, 16}, "a link-local address"}, /* RFC 3927: metadata */
        {{{192, 0, 0}, 4, 24}, "a reserved address"},  /* RFC 6890 */
        {{{192, 0, 2}, 4, 24}, "a reserved address"},  /* RFC 5737 */
        {{{198, 51, 100}, 4, 24}, "a reserved address"},
        {{{203, 0, 113}, 4, 24}, "a reserved address"},
        {{{198, 18}, 4, 15}, "a private address"}, /* RFC 2544 */
        {{{224}, 4, 4}, "a multicast address"},
        {{{240}, 4, 4}, "a reserved address"}, /* and broadcast */
        {{{[15] = 1}, 16, 128}, "a loopback address"},
        {{{0}, 16, 96}, "an unspecified address"}, /* and RFC 4291 2.5.5.1 */
        {{{0x01}, 16, 64}, "a reserved address"},  /* RFC 6666 */
        {{{0xfc}, 16, 7}, "a private address"},    /* RFC 4193 */
        {{{0xfe, 0x80}, 16, 10}, "a link-local address"},
        {{{0xfe, 0xc0}, 16, 10}, "a private address"}, /* RFC 3879 */
        {{{0xff}, 16, 8}, "a multicast address"},
        {{{0, 0x64, 0xff, 0x9b, 0, 1}, 16, 48}, "a private address"}, /* 8215 */
        {{{0x20, 0x01, 0x0d, 0xb8}, 16, 32}, "a reserved address"},
        {{{0x20, 0x01}, 16, 23}, "a reserved address"}, /* RFC 2928, Teredo */
    };

    if (len != 4 && len != 16)
        return "no IP address";
    address = inner(address, &len);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (in_block(&table[i].block, address, len))
            return table[i].kind;
    }
    return NULL;
}

/* One of a list, `n` bytes of text. */
static bool parse(const char *text, size_t n, struct block *out)
{
    char word[ADDRESS_TEXT + 4];
    char *end = NULL;

    if (!n || n >= sizeof(word))
        return false;
    memcpy(word, text, n);
    word[n] = '\0';
    char *const slash = strchr(word, '/');
    if (slash)
        *slash = '\0';
    *out = (struct block){.len = strchr(word, ':') ? 16 : 4};
    if (inet_pton(out->len == 16 ? AF_INET6 : AF_INET, word, out->bytes) != 1)
        return false;
    const unsigned long most = out->len * 8;
    const unsigned long bits = slash ? strtoul(slash + 1, &end, 10) : most;
    if (slash && (slash[1] < '0' || slash[1] > '9' || *end || bits > most))
        return false;
    out->bits = (unsigned)bits;
    return true;
}

enum plt_status address_check(const char *blocks, struct plt_error *err)
{
    size_t n = 0;

    for (const char *p = blocks;; p++) {
        const size_t len = strcspn(p, ",");
        struct block b;
        if (!parse(p, len, &b))
            return plt_fail(err, PLT_INVALID,
                            "%.*s: not an address or a block of addresses",
                            (int)(len < 60 ? len : 60), p);
        if (++n > ADDRESS_MAX_BLOCKS)
            return plt_fail(err, PLT_INVALID, "more than %d blocks",
                            ADDRESS_MAX_BLOCKS);
        p += len;
        if (!*p)
            return PLT_OK;
    }
}

bool address_in(const char *blocks, const uint8_t *address, size_t len)
{
    size_t short_len = len;
    const uint8_t *const four = inner(address, &short_len);

    for (const char *p = blocks; p && *p;) {
        const size_t n = strcspn(p, ",");
        struct block b;
        if (parse(p, n, &b) &&
            (in_block(&b, address, len) || in_block(&b, four, short_len)))
            return true;
        p += n;
        p += *p == ',';
    }
    return false;
}

void address_text(const uint8_t *address, size_t len, char out[ADDRESS_TEXT])
{
    if ((len != 4 && len != 16) ||
        !inet_ntop(len == 16 ? AF_INET6 : AF_INET, address, out, ADDRESS_TEXT))
        (void)snprintf(out, ADDRESS_TEXT, "no address");
}
