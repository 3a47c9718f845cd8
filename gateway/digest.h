/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 9530: which digest a client wants, and the fields that say it.
 * Threads: any. */
#ifndef GATEWAY_DIGEST_H
#define GATEWAY_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { DIGEST_FIELD = 112 }; /* of a whole field value, with its NUL */

enum digest_algorithm { DIGEST_NONE, DIGEST_SHA256, DIGEST_SHA512 };

/* Of a Want-Content-Digest or Want-Repr-Digest value (RFC 9530 4, a dictionary
 * of RFC 8941 with weights 0 to 10): the preferred one of those that are
 * computed here.  NULL, malformed, or nothing known in it: DIGEST_NONE. */
enum digest_algorithm digest_wanted(const char *value);

/* The name that images_checksum knows: "sha256"; NULL for DIGEST_NONE. */
const char *digest_name(enum digest_algorithm algorithm);

/* "sha-256=:BASE64:" of the bytes, or of a digest that is known in hexadecimal
 * already.  out: "" on failure. */
void digest_field(enum digest_algorithm algorithm, const void *data, size_t len,
                  char out[DIGEST_FIELD]);
void digest_field_of_hex(enum digest_algorithm algorithm, const char *hex,
                         char out[DIGEST_FIELD]);

#endif
