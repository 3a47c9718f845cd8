/* SPDX-License-Identifier: Apache-2.0 */
/* A cipher with its key and the way its IVs are made: for qcow2_crypt.c and
 * qcow2_luks.c alone.  Immutable once made.  Threads: any. */
#ifndef QCOW2_CIPHER_H
#define QCOW2_CIPHER_H

#include <openssl/evp.h>

#include "qcow2_crypt.h"

enum qcow2_mode { QCOW2_CBC, QCOW2_XTS };
enum qcow2_iv { QCOW2_PLAIN32, QCOW2_PLAIN64, QCOW2_ESSIV };

enum { QCOW2_MAX_KEY = 64 }; /* bytes: two of AES-256 */

struct qcow2_cipher {
    enum qcow2_mode mode;
    enum qcow2_iv iv;
    size_t key_len, iv_key_len; /* bytes */
    uint8_t key[QCOW2_MAX_KEY], iv_key[EVP_MAX_MD_SIZE];
};

/* AES has keys of this length in this mode. */
bool qcow2_cipher_ok(enum qcow2_mode mode, size_t key_len);
/* essiv: the hash, with QCOW2_ESSIV.  False: its digest is no key of AES. */
bool qcow2_cipher_init(struct qcow2_cipher *c, enum qcow2_mode mode,
                       enum qcow2_iv iv, const EVP_MD *essiv,
                       const uint8_t *key, size_t key_len);
void qcow2_cipher_release(struct qcow2_cipher *c); /* wipes */
/* In place, sectors from `sector` on; the last may be cut, to a multiple of 16
 * bytes.  False: no memory. */
bool qcow2_cipher_decrypt(const struct qcow2_cipher *c, uint8_t *buf,
                          size_t len, uint64_t sector);

/* Copies the cipher; new, or NULL. */
struct qcow2_crypt *qcow2_crypt_new(const struct qcow2_cipher *cipher,
                                    bool is_by_host);

#endif
