/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 through OpenSSL's older calls: they allocate nothing and cannot fail,
 * and a leaf takes no longer than its bytes. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "manifest/manifest.h"

#include <string.h>

#include <openssl/sha.h>

#include "util/check.h"

_Static_assert(MANIFEST_DIGEST == SHA256_DIGEST_LENGTH, "SHA-256");

static const uint8_t zeros[MANIFEST_LEAF];

/* printf of 4096 zero bytes through sha256sum */
static const uint8_t zero_leaf[MANIFEST_DIGEST] = {
    0xad, 0x7f, 0xac, 0xb2, 0x58, 0x6f, 0xc6, 0xe9, 0x66, 0xc0, 0x04,
    0xd7, 0xd1, 0xd1, 0x6b, 0x02, 0x4f, 0x58, 0x05, 0xff, 0x7c, 0xb4,
    0x7c, 0x7a, 0x85, 0xda, 0xbd, 0x8b, 0x48, 0x89, 0x2c, 0xa7};

/* 256 of these, binary, through the same: nearly all groups that are asked
 * about are whole ones. */
static const uint8_t zero_group[MANIFEST_DIGEST] = {
    0x19, 0x54, 0x80, 0x55, 0xbd, 0x34, 0x69, 0x24, 0x55, 0xff, 0x38,
    0xe9, 0xcd, 0xd7, 0x02, 0xbd, 0xba, 0xb1, 0x06, 0x5d, 0xb3, 0x68,
    0xa1, 0x4e, 0x91, 0x6d, 0x28, 0xb3, 0xe6, 0x5d, 0xe3, 0x98};

uint64_t manifest_leaves(uint64_t size)
{
    return size / MANIFEST_LEAF + (size % MANIFEST_LEAF != 0);
}

uint64_t manifest_groups(uint64_t size)
{
    return size / MANIFEST_GROUP + (size % MANIFEST_GROUP != 0);
}

size_t manifest_group_bytes(uint64_t size, uint64_t g)
{
    ASSERT(g < manifest_groups(size));
    const uint64_t left = size - g * MANIFEST_GROUP;
    return left < MANIFEST_GROUP ? (size_t)left : MANIFEST_GROUP;
}

size_t manifest_group_leaves(uint64_t size, uint64_t g)
{
    return (size_t)manifest_leaves(manifest_group_bytes(size, g));
}

void manifest_leaf(const uint8_t *data, size_t len, manifest_digest out)
{
    SHA256_CTX c;

    ASSERT(len && len <= MANIFEST_LEAF);
    (void)SHA256_Init(&c);
    (void)SHA256_Update(&c, data, len);
    (void)SHA256_Update(&c, zeros, MANIFEST_LEAF - len);
    (void)SHA256_Final(out, &c);
}

void manifest_leaf_list(const uint8_t *data, size_t len, manifest_digest *out)
{
    for (size_t at = 0; at < len; at += MANIFEST_LEAF) {
        const size_t left = len - at;
        manifest_leaf(data + at, left < MANIFEST_LEAF ? left : MANIFEST_LEAF,
                      *out++);
    }
}

void manifest_group(const manifest_digest *leaves, size_t n,
                    manifest_digest out)
{
    SHA256_CTX c;

    ASSERT(n && n <= MANIFEST_LEAVES);
    (void)SHA256_Init(&c);
    (void)SHA256_Update(&c, leaves, n * MANIFEST_DIGEST);
    (void)SHA256_Final(out, &c);
}

void manifest_root(uint64_t size, const manifest_digest *groups,
                   manifest_digest out)
{
    static const char name[16] = "platter-root-1";
    SHA256_CTX c;
    uint8_t le[8];

    for (size_t i = 0; i < sizeof(le); i++)
        le[i] = (uint8_t)(size >> 8 * i);
    (void)SHA256_Init(&c);
    (void)SHA256_Update(&c, name, sizeof(name));
    (void)SHA256_Update(&c, le, sizeof(le));
    for (uint64_t g = 0, n = manifest_groups(size); g < n; g++)
        (void)SHA256_Update(&c, groups[g], MANIFEST_DIGEST);
    (void)SHA256_Final(out, &c);
}

const uint8_t *manifest_zero_leaf(void)
{
    return zero_leaf;
}

void manifest_zero_group(size_t n, manifest_digest out)
{
    SHA256_CTX c;

    ASSERT(n && n <= MANIFEST_LEAVES);
    if (n == MANIFEST_LEAVES) {
        memcpy(out, zero_group, MANIFEST_DIGEST);
        return;
    }
    (void)SHA256_Init(&c);
    for (size_t i = 0; i < n; i++)
        (void)SHA256_Update(&c, zero_leaf, MANIFEST_DIGEST);
    (void)SHA256_Final(out, &c);
}

bool manifest_is_zero_leaf(const manifest_digest digest)
{
    return memcmp(digest, zero_leaf, MANIFEST_DIGEST) == 0;
}

void manifest_to_hex(const manifest_digest digest, char out[MANIFEST_HEX])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < MANIFEST_DIGEST; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[MANIFEST_HEX - 1] = '\0';
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool manifest_from_hex(const char *text, manifest_digest out)
{
    for (size_t i = 0; i < MANIFEST_DIGEST; i++) {
        const int high = digit(text[2 * i]);
        const int low = high < 0 ? -1 : digit(text[2 * i + 1]);
        if (low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return text[MANIFEST_HEX - 1] == '\0';
}
