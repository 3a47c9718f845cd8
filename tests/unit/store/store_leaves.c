/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "store_leaves.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

static uint64_t mix(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void leaf_make(uint64_t number, uint8_t out[STORE_LEAF])
{
    uint64_t state = number;

    if (number % 3) {
        char line[64];
        const int n = snprintf(line, sizeof(line), "leaf %llu of many\n",
                               (unsigned long long)number);
        for (size_t at = 0; at < STORE_LEAF; at++)
            out[at] = (uint8_t)line[at % (size_t)n];
        return;
    }
    for (size_t at = 0; at < STORE_LEAF; at += 8) {
        const uint64_t v = mix(&state);
        memcpy(out + at, &v, sizeof(v));
    }
}

void leaf_digest(const uint8_t leaf[STORE_LEAF], uint8_t out[STORE_DIGEST])
{
    SHA256(leaf, STORE_LEAF, out);
}

void leaves_make(uint64_t first, size_t n, uint8_t *data,
                 uint8_t (*digests)[STORE_DIGEST])
{
    for (size_t i = 0; i < n; i++) {
        leaf_make(first + i, data + i * STORE_LEAF);
        leaf_digest(data + i * STORE_LEAF, digests[i]);
    }
}
