/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/minisign.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNTRUSTED "untrusted comment: "
#define TRUSTED "trusted comment: "

enum {
    ID = 8,
    SIGNATURE = 64,
    DIGEST = 64,
    /* "Ed", id, key; "Ed" or "ED", id, signature */
    PUBLIC = 2 + ID + 32,
    SIGNED = 2 + ID + SIGNATURE,
    /* "Ed", "Sc" or NUL NUL, "B2", salt, two limits of scrypt, id, seed, public
     * key, checksum */
    AT_KDF = 2,
    AT_ID = 2 + 2 + 2 + 32 + 8 + 8,
    AT_SEED = AT_ID + ID,
    AT_PUBLIC = AT_SEED + 32,
    SECRET = AT_PUBLIC + 32 + 32,
    LINE = 4 * ((SECRET + 2) / 3) + 1 /* the longest in base64, with its NUL */
};

/* ---- Texts ---- */

struct line {
    const char *p;
    size_t n;
};

/* The line at *p, without its end; *p moves behind it, and is NULL behind the
 * last one. */
static struct line next_line(const char **p)
{
    struct line line = {*p, strcspn(*p, "\n")};

    *p += line.n;
    *p = **p ? *p + 1 : NULL;
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static bool begins(struct line line, const char *with)
{
    return line.n >= strlen(with) && memcmp(line.p, with, strlen(with)) == 0;
}

/* Just so many bytes, in the one way that base64 writes them. */
static bool decode(struct line line, uint8_t *out, size_t n)
{
    const size_t len = 4 * ((n + 2) / 3);
    unsigned char bytes[LINE];
    char text[LINE];

    bool is_good = line.n == len && len < LINE;
    if (is_good)
        is_good = EVP_DecodeBlock(bytes, (const unsigned char *)line.p,
                                  (int)len) == (int)(n + 2) / 3 * 3;
    if (is_good) {
        (void)EVP_EncodeBlock((unsigned char *)text, bytes, (int)n);
        is_good = memcmp(text, line.p, len) == 0;
        memcpy(out, bytes, n);
    }
    OPENSSL_cleanse(bytes, sizeof(bytes));
    OPENSSL_cleanse(text, sizeof(text));
    return is_good;
}

/* The base64 of a key, alone or under a comment. */
static bool key_line(const char *text, uint8_t *out, size_t n)
{
    if (strnlen(text, MINISIGN_TEXT) == MINISIGN_TEXT)
        return false;
    struct line line = next_line(&text);
    if (begins(line, UNTRUSTED) && text)
        line = next_line(&text);
    return decode(line, out, n) && (!text || !*text);
}

static bool is_comment(const char *p, size_t n)
{
    if (n >= MINISIGN_COMMENT)
        return false;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
            return false;
    }
    return true;
}

/* ---- Ed25519 and BLAKE2b ---- */

static bool digest(const void *data, size_t len, uint8_t out[DIGEST])
{
    return EVP_Digest(data, len, out, NULL, EVP_blake2b512(), NULL) == 1;
}

static bool is_signed(const struct minisign_key *key, const void *data,
                      size_t len, const uint8_t signature[SIGNATURE])
{
    EVP_PKEY *const pkey = EVP_PKEY_new_raw_public_key(
        EVP_PKEY_ED25519, NULL, key->key, sizeof(key->key));
    EVP_MD_CTX *const md = EVP_MD_CTX_new();
    const bool is_good =
        pkey && md && EVP_DigestVerifyInit(md, NULL, NULL, NULL, pkey) == 1 &&
        EVP_DigestVerify(md, signature, SIGNATURE, (const uint8_t *)data,
                         len) == 1;

    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pkey);
    return is_good;
}

static bool sign(EVP_PKEY *pkey, const void *data, size_t len,
                 uint8_t signature[SIGNATURE])
{
    EVP_MD_CTX *const md = EVP_MD_CTX_new();
    size_t n = SIGNATURE;
    const bool is_good =
        md && EVP_DigestSignInit(md, NULL, NULL, NULL, pkey) == 1 &&
        EVP_DigestSign(md, signature, &n, (const uint8_t *)data, len) == 1;

    EVP_MD_CTX_free(md);
    return is_good && n == SIGNATURE;
}

/* ---- Public ---- */

enum plt_status minisign_key_parse(const char *text, struct minisign_key *out,
                                   struct plt_error *err)
{
    uint8_t raw[PUBLIC];

    if (!key_line(text, raw, sizeof(raw)) || memcmp(raw, "Ed", 2) != 0)
        return plt_fail(err, PLT_INVALID, "not a public key of minisign");
    memcpy(out->id, raw + 2, ID);
    memcpy(out->key, raw + 2 + ID, sizeof(out->key));
    return PLT_OK;
}

/* The parts of a signature's text. */
struct parts {
    uint8_t one[SIGNED];
    uint8_t both[SIGNATURE]; /* over one's signature and the comment */
    struct line comment;
};

static bool parse(const char *text, struct parts *out)
{
    struct line lines[4] = {{"", 0}};

    if (strnlen(text, MINISIGN_TEXT) == MINISIGN_TEXT)
        return false;
    for (size_t i = 0; i < 4 && text; i++)
        lines[i] = next_line(&text);
    out->comment = lines[2];
    if (!begins(lines[0], UNTRUSTED) || !begins(lines[2], TRUSTED) ||
        (text && *text))
        return false;
    out->comment.p += strlen(TRUSTED);
    out->comment.n -= strlen(TRUSTED);
    return decode(lines[1], out->one, sizeof(out->one)) &&
           decode(lines[3], out->both, sizeof(out->both)) &&
           out->one[0] == 'E' && (out->one[1] == 'd' || out->one[1] == 'D');
}

enum plt_status minisign_verify(const struct minisign_key *keys, size_t n,
                                const void *data, size_t len,
                                const char *signature,
                                char comment[MINISIGN_COMMENT],
                                struct plt_error *err)
{
    struct parts p;
    uint8_t hash[DIGEST], all[SIGNATURE + MINISIGN_COMMENT];

    comment[0] = '\0';
    if (!parse(signature, &p))
        return plt_fail(err, PLT_CORRUPT, "not a signature of minisign");
    if (!is_comment(p.comment.p, p.comment.n))
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a trusted comment of more than %d bytes, or no text",
                        MINISIGN_COMMENT - 1);
    if (p.one[1] == 'D') {
        if (!digest(data, len, hash))
            return plt_fail(err, PLT_NOMEM, "a digest");
        data = hash;
        len = sizeof(hash);
    }
    memcpy(all, p.one + 2 + ID, SIGNATURE);
    memcpy(all + SIGNATURE, p.comment.p, p.comment.n);
    bool is_known = false;
    for (size_t i = 0; i < n; i++) {
        if (memcmp(keys[i].id, p.one + 2, ID) != 0)
            continue;
        is_known = true;
        if (!is_signed(&keys[i], data, len, p.one + 2 + ID) ||
            !is_signed(&keys[i], all, SIGNATURE + p.comment.n, p.both))
            continue;
        memcpy(comment, p.comment.p, p.comment.n);
        comment[p.comment.n] = '\0';
        return PLT_OK;
    }
    return plt_fail(err, PLT_DENIED,
                    is_known ? "the signature does not fit the bytes"
                             : "signed with another key");
}

/* ---- Secret ---- */

/* *pkey is new.  A key that is not encrypted has zeros for its checksum: that
 * the public half belongs to the seed is checked instead, and an id that is
 * damaged is one that no verifier looks for. */
static enum plt_status open_secret(const char *text, EVP_PKEY **pkey,
                                   struct minisign_key *out,
                                   struct plt_error *err)
{
    uint8_t raw[SECRET];
    size_t n = sizeof(out->key);
    enum plt_status st = PLT_OK;

    *pkey = NULL;
    if (!key_line(text, raw, sizeof(raw)) || memcmp(raw, "Ed", 2) != 0) {
        st = plt_fail(err, PLT_INVALID, "not a secret key of minisign");
    } else if (memcmp(raw + AT_KDF, "\0\0", 2) != 0) {
        st = plt_fail(err, PLT_UNSUPPORTED,
                      "the key is encrypted with a password; minisign -G -W "
                      "makes one that is not");
    } else {
        *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
                                             raw + AT_SEED, 32);
        memcpy(out->id, raw + AT_ID, ID);
        if (!*pkey)
            st = plt_fail(err, PLT_NOMEM, "a key");
        else if (EVP_PKEY_get_raw_public_key(*pkey, out->key, &n) != 1 ||
                 n != sizeof(out->key) ||
                 CRYPTO_memcmp(out->key, raw + AT_PUBLIC, n) != 0)
            st = plt_fail(err, PLT_INVALID, "a damaged secret key");
    }
    OPENSSL_cleanse(raw, sizeof(raw));
    if (st != PLT_OK) {
        EVP_PKEY_free(*pkey);
        *pkey = NULL;
    }
    return st;
}

enum plt_status minisign_key_of_secret(const char *secret_key_text,
                                       struct minisign_key *out,
                                       struct plt_error *err)
{
    EVP_PKEY *pkey;
    const enum plt_status st = open_secret(secret_key_text, &pkey, out, err);

    EVP_PKEY_free(pkey);
    return st;
}

/* new; NULL without memory. */
static char *write_text(const uint8_t *one, const uint8_t *both,
                        const char *comment)
{
    const size_t cap =
        2 * LINE + sizeof(UNTRUSTED) + sizeof(TRUSTED) + MINISIGN_COMMENT + 64;
    unsigned char first[LINE], second[LINE];
    char *const text = malloc(cap);

    (void)EVP_EncodeBlock(first, one, SIGNED);
    (void)EVP_EncodeBlock(second, both, SIGNATURE);
    if (text)
        (void)snprintf(text, cap,
                       UNTRUSTED "signature of platter\n%s\n" TRUSTED
                                 "%s\n%s\n",
                       (char *)first, comment, (char *)second);
    return text;
}

enum plt_status minisign_sign(const char *secret_key_text, const void *data,
                              size_t len, const char *comment, char **signature,
                              struct plt_error *err)
{
    const size_t n = strnlen(comment, MINISIGN_COMMENT);
    uint8_t hash[DIGEST], both[SIGNATURE];
    uint8_t one[SIGNED] = "ED", all[SIGNATURE + MINISIGN_COMMENT];
    struct minisign_key key;
    EVP_PKEY *pkey;

    if (!is_comment(comment, n))
        return plt_fail(err, PLT_INVALID, "a comment that is not one line");
    enum plt_status st = open_secret(secret_key_text, &pkey, &key, err);
    if (st != PLT_OK)
        return st;
    memcpy(one + 2, key.id, ID);
    bool is_good =
        digest(data, len, hash) && sign(pkey, hash, sizeof(hash), one + 2 + ID);
    memcpy(all, one + 2 + ID, SIGNATURE);
    memcpy(all + SIGNATURE, comment, n);
    is_good = is_good && sign(pkey, all, SIGNATURE + n, both);
    EVP_PKEY_free(pkey);
    *signature = is_good ? write_text(one, both, comment) : NULL;
    return *signature ? PLT_OK : plt_fail(err, PLT_NOMEM, "a signature");
}
