/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as minisign(1) makes and takes them: Ed25519 over the bytes
 * (legacy) or over their BLAKE2b-512 (what it makes by default, and we), and a
 * trusted comment that is signed together with that signature.
 *
 *     untrusted comment: ...
 *     base64: "Ed" | "ED", key id (8), signature (64)
 *     trusted comment: ...
 *     base64: signature over the signature above and the trusted comment (64)
 *
 * Pure: texts in, texts out; all of them may be hostile.  Threads: any. */
#ifndef MANIFEST_MINISIGN_H
#define MANIFEST_MINISIGN_H

#include <stddef.h>
#include <stdint.h>

#include <platter/error.h>

enum {
    MINISIGN_COMMENT = 256, /* bytes of a trusted comment, with its NUL */
    MINISIGN_TEXT = 16384   /* of any text that is parsed: bytes at most */
};

struct minisign_key {
    uint8_t id[8];
    uint8_t key[32];
};

/* A public key: its line of base64, or the file with the comment before it.
 * PLT_INVALID: it is none. */
PLT_MUST_USE enum plt_status minisign_key_parse(const char *text,
                                                struct minisign_key *out,
                                                struct plt_error *err);

/* signature (the text of a .minisig) is one of the keys' over data, and its
 * trusted comment, copied into `comment`, belongs to it.  PLT_CORRUPT: the text
 * is no signature; PLT_UNSUPPORTED: its comment is longer than MINISIGN_COMMENT
 * or not text; PLT_DENIED: no key has made it.  On failure comment is "". */
PLT_MUST_USE enum plt_status minisign_verify(const struct minisign_key *keys,
                                             size_t n, const void *data,
                                             size_t len, const char *signature,
                                             char comment[MINISIGN_COMMENT],
                                             struct plt_error *err);

/* A secret key's file, as `minisign -G -W` writes it, signs data and comment
 * (one line, less than MINISIGN_COMMENT bytes): new text (free) in *signature.
 * PLT_INVALID: it is no such key, or the comment no such line; PLT_UNSUPPORTED:
 * the key is encrypted with a password.  Nothing of the key is in err; its text
 * is the caller's to wipe. */
PLT_MUST_USE enum plt_status
minisign_sign(const char *secret_key_text, const void *data, size_t len,
              const char *comment, char **signature, struct plt_error *err);

/* The public key of a secret one; as above. */
PLT_MUST_USE enum plt_status minisign_key_of_secret(const char *secret_key_text,
                                                    struct minisign_key *out,
                                                    struct plt_error *err);

#endif
