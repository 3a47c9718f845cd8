/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *key;  /* of RFC 9530's registry */
    const char *name; /* of ours */
    size_t len;       /* bytes */
} algorithms[] = {[DIGEST_NONE] = {"", NULL, 0},
                  [DIGEST_SHA256] = {"sha-256", "sha256", 32},
                  [DIGEST_SHA512] = {"sha-512", "sha512", 64}};

enum digest_algorithm digest_wanted(const char *value)
{
    enum digest_algorithm best = DIGEST_NONE;
    int best_weight = 0;

    for (const char *p = value; p && *p;) {
        p += strspn(p, " \t,");
        const size_t key = strcspn(p, "=,; \t");
        int weight = 1, used = 0;
        const char *const end = p + key;
        if (*end == '=' && (sscanf(end, "=%2d%n", &weight, &used) != 1 ||
                            weight < 0 || weight > 10))
            return DIGEST_NONE;
        for (enum digest_algorithm a = DIGEST_SHA256; a <= DIGEST_SHA512; a++) {
            if (strlen(algorithms[a].key) == key &&
                strncasecmp(p, algorithms[a].key, key) == 0 &&
                weight > best_weight) {
                best = a;
                best_weight = weight;
            }
        }
        p = end + used + strcspn(end + used, ",");
    }
    return best;
}

const char *digest_name(enum digest_algorithm algorithm)
{
    return algorithms[algorithm].name;
}

static void write_field(enum digest_algorithm a, const uint8_t *digest,
                        char out[DIGEST_FIELD])
{
    unsigned char text[96];

    (void)EVP_EncodeBlock(text, digest, (int)algorithms[a].len);
    (void)snprintf(out, DIGEST_FIELD, "%s=:%s:", algorithms[a].key,
                   (const char *)text);
}

void digest_field(enum digest_algorithm a, const void *data, size_t len,
                  char out[DIGEST_FIELD])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    const EVP_MD *const md = a == DIGEST_SHA512 ? EVP_sha512() : EVP_sha256();

    out[0] = '\0';
    if (a != DIGEST_NONE && EVP_Digest(data, len, digest, NULL, md, NULL) == 1)
        write_field(a, digest, out);
}

void digest_field_of_hex(enum digest_algorithm a, const char *hex,
                         char out[DIGEST_FIELD])
{
    uint8_t digest[64];
    size_t n = 0;

    out[0] = '\0';
    for (; n < algorithms[a].len; n++) {
        unsigned byte;
        if (sscanf(hex + 2 * n, "%2x", &byte) != 1)
            return;
        digest[n] = (uint8_t)byte;
    }
    if (n)
        write_field(a, digest, out);
}
