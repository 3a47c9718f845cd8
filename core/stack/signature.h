/* SPDX-License-Identifier: Apache-2.0 */
/* Signed URLs: one image for a while, for clients that cannot send a header.
 *
 *     /disk/lab/x.box?member=box.img&expires=1790000000&key=hv&signature=...
 *     /disk/lab/x.box;member=box.img;expires=1790000000;key=hv;signature=...
 *
 * expires is in seconds since 1970 (UTC), key the name of the key, signature
 * base64url (RFC 4648 5, without padding) of HMAC-SHA-256 (RFC 2104) over
 *
 *     platter-signed-url-1 LF  ROUTE LF  TARGET LF  then for each of member,
 *     snapshot, partition, secret, layers: "name=VALUE LF" where it is given,
 *     "expires=N LF" and "key=NAME LF"
 *
 * ROUTE being "/disk/" or "/v1/info/", TARGET and VALUE decoded (they have no
 * control characters, so nothing can be moved from one line to another).  What
 * is signed is what is meant, not how it is spelled: as a query or as
 * parameters of the path, encoded or not.
 * Threads: any. */
#ifndef STACK_SIGNATURE_H
#define STACK_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stack/reference.h"

enum {
    SIGNATURE_MAC = 32,
    SIGNATURE_TEXT = 44, /* 43 characters and a NUL */
    SIGNATURE_KEY_LEAST = 16,
    SIGNATURE_KEY_NAME = 64
};

enum signature_state { SIGNATURE_NONE, SIGNATURE_GIVEN, SIGNATURE_MALFORMED };

struct signature {
    enum signature_state state;
    int64_t expires; /* seconds since 1970 */
    char key[SIGNATURE_KEY_NAME];
    uint8_t mac[SIGNATURE_MAC];
};

/* Take expires=, key= and signature= out of a raw path and query, both of which
 * are shortened in place (query: NULL, or "" afterwards).  MALFORMED: one of
 * them is missing, there twice, or no such thing. */
void signature_take(char *path, char *query, struct signature *out);

/* The code that out->mac must be.  False without memory. */
bool signature_make(const void *key, size_t key_len, const char *route,
                    const struct reference *reference, const char *key_name,
                    int64_t expires, uint8_t mac[SIGNATURE_MAC]);
void signature_format(const uint8_t mac[SIGNATURE_MAC],
                      char out[SIGNATURE_TEXT]);

#endif
