/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and signatures: a public key, a NUL, a secret one, a NUL, a signature, a
 * NUL, and what is signed.
 *
 * A key that is read is one; what a key signs, its public half verifies, with
 * that comment, and not as the signature of anything else; what verifies has a
 * comment that is one line. */
#include <stdbool.h>
#include <string.h>

#include "fuzz_must.h"
#include "manifest/minisign.h"

/* new: the text up to the NUL; *data moves behind it. */
static char *take(const uint8_t **data, size_t *size)
{
    const size_t n = strnlen((const char *)*data, *size);
    char *const text = strndup((const char *)*data, n);

    MUST(text);
    *data += n + (n < *size);
    *size -= n + (n < *size);
    return text;
}

static void check_secret(const char *text, const uint8_t *data, size_t size)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct minisign_key key;
    char comment[MINISIGN_COMMENT], *signature = NULL;
    const uint8_t other = 0;

    const enum plt_status st =
        minisign_sign(text, data, size, "image=x", &signature, &err);
    MUST(minisign_key_of_secret(text, &key, &err) == st);
    MUST(st == PLT_OK || st == PLT_INVALID || st == PLT_UNSUPPORTED);
    if (st != PLT_OK)
        return;
    MUST(minisign_verify(&key, 1, data, size, signature, comment, &err) ==
         PLT_OK);
    MUST(strcmp(comment, "image=x") == 0);
    if (size != 1 || data[0] != other)
        MUST(minisign_verify(&key, 1, &other, 1, signature, comment, &err) ==
             PLT_DENIED);
    free(signature);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct minisign_key key;
    char comment[MINISIGN_COMMENT];

    char *const public = take(&data, &size);
    char *const secret = take(&data, &size);
    char *const signature = take(&data, &size);
    const enum plt_status has = minisign_key_parse(public, &key, &err);
    MUST(has == PLT_OK || has == PLT_INVALID);
    const enum plt_status st = minisign_verify(&key, has == PLT_OK, data, size,
                                               signature, comment, &err);
    MUST(st == PLT_OK || st == PLT_CORRUPT || st == PLT_DENIED ||
         st == PLT_UNSUPPORTED);
    MUST(has == PLT_OK || st != PLT_OK);
    MUST(st == PLT_OK || !comment[0]);
    for (const char *p = comment; st == PLT_OK && *p; p++)
        MUST((unsigned char)*p >= ' ');
    check_secret(secret, data, size);
    free(public);
    free(secret);
    free(signature);
    return 0;
}
