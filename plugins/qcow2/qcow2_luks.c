/* SPDX-License-Identifier: Apache-2.0 */
/* LUKS version 1: a master key, split and encrypted once for each of eight
 * passphrases.  A passphrase is right when the digest of the key that comes out
 * is the header's: so a wrong one is always told. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <platter/bytes.h>

#include "qcow2_cipher.h"

enum {
    SLOTS = 8,
    SALT = 32,
    DIGEST = 20,
    HEADER_BYTES = 592,
    LUKS_SECTOR = 512 /* of offsets in the header */
};

static const uint32_t slot_active = 0x00ac71f3;

struct slot {
    bool is_active;
    uint32_t iterations, stripes;
    uint64_t off; /* bytes from the header's start */
    uint8_t salt[SALT];
};

struct qcow2_luks {
    char cipher[33], mode[33], hash[33], uuid[41];
    char mode_name[16], iv_name[16], iv_hash[16]; /* parts of mode */
    uint32_t key_len, iterations;
    uint64_t payload;
    uint8_t digest[DIGEST], salt[SALT];
    struct slot slots[SLOTS];
    enum qcow2_mode mode_kind;
    enum qcow2_iv iv_kind;
};

/* ---- The header ---- */

/* A text field; what is no plain word is made harmless for messages. */
static void take_text(struct plt_cur *c, char *out, size_t n)
{
    const uint8_t *const p = plt_cur_take(c, n);
    size_t i = 0;

    for (; p && i < n && p[i]; i++)
        out[i] = (char)(isalnum(p[i]) || strchr("-_:.", p[i]) ? p[i] : '?');
    out[i] = '\0';
}

static void take_bytes(struct plt_cur *c, uint8_t *out, size_t n)
{
    const uint8_t *const p = plt_cur_take(c, n);
    if (p)
        memcpy(out, p, n);
}

static void copy_part(char *out, size_t cap, const char *from, size_t n)
{
    (void)snprintf(out, cap, "%.*s", (int)(n < cap ? n : cap - 1), from);
}

/* "xts-plain64", "cbc-essiv:sha256" */
static void split_mode(struct qcow2_luks *l)
{
    const size_t n = strcspn(l->mode, "-");
    const char *const iv = l->mode[n] ? l->mode + n + 1 : "";
    const size_t m = strcspn(iv, ":");

    copy_part(l->mode_name, sizeof(l->mode_name), l->mode, n);
    copy_part(l->iv_name, sizeof(l->iv_name), iv, m);
    copy_part(l->iv_hash, sizeof(l->iv_hash), iv[m] ? iv + m + 1 : "",
              strlen(iv[m] ? iv + m + 1 : ""));
}

static const EVP_MD *hash_of(const char *name)
{
    static const char *const known[] = {
        "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(name, known[i]) == 0)
            return EVP_get_digestbyname(name);
    return NULL;
}

static enum plt_status check_cipher(struct qcow2_luks *l, struct plt_error *err)
{
    split_mode(l);
    if (strcmp(l->cipher, "aes") != 0)
        return plt_fail(err, PLT_UNSUPPORTED, "LUKS with the cipher %s",
                        l->cipher);
    if (strcmp(l->mode_name, "xts") == 0)
        l->mode_kind = QCOW2_XTS;
    else if (strcmp(l->mode_name, "cbc") == 0)
        l->mode_kind = QCOW2_CBC;
    else
        return plt_fail(err, PLT_UNSUPPORTED, "LUKS with the mode %s", l->mode);
    if (strcmp(l->iv_name, "plain") == 0)
        l->iv_kind = QCOW2_PLAIN32;
    else if (strcmp(l->iv_name, "plain64") == 0)
        l->iv_kind = QCOW2_PLAIN64;
    else if (strcmp(l->iv_name, "essiv") == 0 && hash_of(l->iv_hash))
        l->iv_kind = QCOW2_ESSIV;
    else
        return plt_fail(err, PLT_UNSUPPORTED, "LUKS with the mode %s", l->mode);
    if (!hash_of(l->hash))
        return plt_fail(err, PLT_UNSUPPORTED, "LUKS with the hash %s", l->hash);
    if (!qcow2_cipher_ok(l->mode_kind, l->key_len))
        return plt_fail(err, PLT_CORRUPT, "LUKS: a key of %u bytes for %s",
                        l->key_len, l->mode);
    return PLT_OK;
}

/* May a key of n bytes cost so many iterations?  PBKDF2 makes them anew for
 * each digest's length of it. */
static bool is_cheap(const struct qcow2_luks *l, uint32_t iterations, size_t n)
{
    const size_t size = (size_t)EVP_MD_get_size(hash_of(l->hash));

    return iterations && (uint64_t)iterations * ((n + size - 1) / size) <=
                             QCOW2_MAX_ITERATIONS;
}

static enum plt_status check_slots(const struct qcow2_luks *l, size_t len,
                                   struct plt_error *err)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *const s = &l->slots[i];
        if (!s->is_active)
            continue;
        if (!is_cheap(l, s->iterations, l->key_len) || !s->stripes ||
            s->stripes > QCOW2_MAX_STRIPES || s->off < HEADER_BYTES ||
            !plt_span_ok(s->off, (uint64_t)l->key_len * s->stripes, len))
            return plt_fail_at(err, PLT_CORRUPT, s->off,
                               "LUKS key slot %u: %u stripes, %u iterations", i,
                               s->stripes, s->iterations);
    }
    if (!is_cheap(l, l->iterations, DIGEST))
        return plt_fail(err, PLT_CORRUPT, "LUKS: %u iterations", l->iterations);
    return PLT_OK;
}

enum plt_status qcow2_luks_parse(struct qcow2_luks **out, const uint8_t *header,
                                 size_t len, struct plt_error *err)
{
    static const uint8_t magic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};
    struct plt_cur c = plt_cur_init(header, len);
    const uint8_t *const start = plt_cur_take(&c, sizeof(magic));

    if (len < HEADER_BYTES || !start ||
        memcmp(start, magic, sizeof(magic)) != 0)
        return plt_fail(err, PLT_CORRUPT, "no LUKS header");
    const uint16_t version = plt_cur_be16(&c);
    if (version != 1)
        return plt_fail(err, PLT_UNSUPPORTED, "LUKS version %u", version);
    struct qcow2_luks *const l = calloc(1, sizeof(*l));
    if (!l)
        return plt_fail(err, PLT_NOMEM, "a LUKS header");
    take_text(&c, l->cipher, 32);
    take_text(&c, l->mode, 32);
    take_text(&c, l->hash, 32);
    l->payload = (uint64_t)plt_cur_be32(&c) * LUKS_SECTOR;
    l->key_len = plt_cur_be32(&c);
    take_bytes(&c, l->digest, DIGEST);
    take_bytes(&c, l->salt, SALT);
    l->iterations = plt_cur_be32(&c);
    take_text(&c, l->uuid, 40);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *const s = &l->slots[i];
        s->is_active = plt_cur_be32(&c) == slot_active;
        s->iterations = plt_cur_be32(&c);
        take_bytes(&c, s->salt, SALT);
        s->off = (uint64_t)plt_cur_be32(&c) * LUKS_SECTOR;
        s->stripes = plt_cur_be32(&c);
    }
    enum plt_status st = check_cipher(l, err);
    if (st == PLT_OK)
        st = check_slots(l, len, err);
    if (st == PLT_OK)
        *out = l;
    else
        qcow2_luks_free(l);
    return st;
}

void qcow2_luks_free(struct qcow2_luks *luks)
{
    free(luks);
}

void qcow2_luks_info(const struct qcow2_luks *l, struct plt_info *info)
{
    const unsigned bits = l->key_len * (l->mode_kind == QCOW2_XTS ? 4 : 8);
    char cipher[48];

    (void)snprintf(cipher, sizeof(cipher), "%s-%u", l->cipher, bits);
    info->text(info, "format", "luks");
    info->text(info, "ivgen-alg", l->iv_name);
    if (l->iv_kind == QCOW2_ESSIV)
        info->text(info, "ivgen-hash-alg", l->iv_hash);
    info->text(info, "hash-alg", l->hash);
    info->text(info, "cipher-alg", cipher);
    info->text(info, "cipher-mode", l->mode_name);
    info->text(info, "uuid", l->uuid);
    info->number(info, "payload-offset", l->payload);
    info->number(info, "master-key-iters", l->iterations);
    info->array_begin(info, "slots");
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *const s = &l->slots[i];
        info->object_begin(info, NULL);
        info->boolean(info, "active", s->is_active);
        if (s->is_active) {
            info->number(info, "iters", s->iterations);
            info->number(info, "stripes", s->stripes);
        }
        info->number(info, "key-offset", s->off);
        info->end(info);
    }
    info->end(info);
}

/* ---- Keys ---- */

/* One block of the key, xored together of `iterations` codes.  ctx has the
 * passphrase. */
static enum plt_status derive_block(EVP_MAC_CTX *ctx, struct plt_io *io,
                                    const uint8_t *salt, uint32_t number,
                                    uint32_t iterations,
                                    uint8_t block[EVP_MAX_MD_SIZE],
                                    size_t *size, struct plt_error *err)
{
    enum { BETWEEN_ASKS = 1 << 14 }; /* some 10 ms */
    uint8_t code[EVP_MAX_MD_SIZE], be[4];
    enum plt_status st = PLT_OK;
    size_t n = 0;

    plt_put_be32(be, number);
    bool is_good = EVP_MAC_init(ctx, NULL, 0, NULL) == 1 &&
                   EVP_MAC_update(ctx, salt, SALT) == 1 &&
                   EVP_MAC_update(ctx, be, sizeof(be)) == 1 &&
                   EVP_MAC_final(ctx, code, &n, sizeof(code)) == 1;
    if (is_good)
        memcpy(block, code, n);
    for (uint32_t i = 1; i < iterations && is_good && st == PLT_OK; i++) {
        is_good = EVP_MAC_init(ctx, NULL, 0, NULL) == 1 &&
                  EVP_MAC_update(ctx, code, n) == 1 &&
                  EVP_MAC_final(ctx, code, &n, sizeof(code)) == 1;
        for (size_t k = 0; k < n; k++)
            block[k] ^= code[k];
        if (i % BETWEEN_ASKS == 0)
            st = plt_io_ask(io, err);
    }
    OPENSSL_cleanse(code, sizeof(code));
    *size = n;
    return is_good ? st : plt_fail(err, PLT_NOMEM, "a key");
}

/* PBKDF2, RFC 8018 5.2.  Not libcrypto's: the image says how long it takes, and
 * that one cannot be told that nobody waits any more. */
static enum plt_status derive(const struct qcow2_luks *l, struct plt_io *io,
                              const uint8_t *from, size_t from_len,
                              const uint8_t *salt, uint32_t iterations,
                              uint8_t *out, size_t n, struct plt_error *err)
{
    EVP_MAC *const mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *const ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
    char digest[32];
    uint8_t block[EVP_MAX_MD_SIZE];
    enum plt_status st = PLT_OK;

    (void)snprintf(digest, sizeof(digest), "%s",
                   EVP_MD_get0_name(hash_of(l->hash)));
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()};
    if (!ctx || EVP_MAC_init(ctx, from, from_len, params) != 1)
        st = plt_fail(err, PLT_NOMEM, "a key");
    for (uint32_t i = 1; n && st == PLT_OK; i++) {
        size_t size = 0;
        st = derive_block(ctx, io, salt, i, iterations, block, &size, err);
        const size_t len = n < size ? n : size;
        if (st == PLT_OK)
            memcpy(out, block, len);
        out += len;
        n -= len;
    }
    OPENSSL_cleanse(block, sizeof(block));
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return st;
}

/* LUKS spec, "AF-Splitter": hash every piece of the key with its number. */
static bool diffuse(const EVP_MD *md, uint8_t *key, size_t n)
{
    const size_t size = (size_t)EVP_MD_get_size(md);
    EVP_MD_CTX *const ctx = EVP_MD_CTX_new();
    bool is_good = ctx != NULL;

    for (uint32_t i = 0; is_good && i * size < n; i++) {
        const size_t len = n - i * size < size ? n - i * size : size;
        uint8_t number[4], digest[EVP_MAX_MD_SIZE];
        plt_put_be32(number, i);
        is_good = EVP_DigestInit_ex(ctx, md, NULL) == 1 &&
                  EVP_DigestUpdate(ctx, number, sizeof(number)) == 1 &&
                  EVP_DigestUpdate(ctx, key + i * size, len) == 1 &&
                  EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
        if (is_good)
            memcpy(key + i * size, digest, len);
        OPENSSL_cleanse(digest, sizeof(digest));
    }
    EVP_MD_CTX_free(ctx);
    return is_good;
}

static bool merge(const struct qcow2_luks *l, const uint8_t *split,
                  uint32_t stripes, uint8_t *key)
{
    const EVP_MD *const md = hash_of(l->hash);
    bool is_good = true;

    memset(key, 0, l->key_len);
    for (uint32_t i = 0; i < stripes && is_good; i++) {
        for (uint32_t k = 0; k < l->key_len; k++)
            key[k] ^= split[(size_t)i * l->key_len + k];
        if (i + 1 < stripes)
            is_good = diffuse(md, key, l->key_len);
    }
    return is_good;
}

/* Does this secret open this slot?  key: the master key then. */
static enum plt_status try_slot(const struct qcow2_luks *l,
                                const struct slot *s, struct plt_io *io,
                                const uint8_t *header, const uint8_t *secret,
                                size_t secret_len, uint8_t *key, bool *is_right,
                                struct plt_error *err)
{
    const size_t n = (size_t)l->key_len * s->stripes;
    uint8_t derived[QCOW2_MAX_KEY], digest[DIGEST];
    uint8_t *const split = malloc(n);
    struct qcow2_cipher cipher = {.key_len = 0};

    enum plt_status st = split ? derive(l, io, secret, secret_len, s->salt,
                                        s->iterations, derived, l->key_len, err)
                               : plt_fail(err, PLT_NOMEM, "a key");
    bool is_good = st == PLT_OK &&
                   qcow2_cipher_init(&cipher, l->mode_kind, l->iv_kind,
                                     hash_of(l->iv_hash), derived, l->key_len);
    if (is_good) {
        memcpy(split, header + s->off, n);
        is_good = qcow2_cipher_decrypt(&cipher, split, n, 0) &&
                  merge(l, split, s->stripes, key);
    }
    if (is_good)
        st = derive(l, io, key, l->key_len, l->salt, l->iterations, digest,
                    DIGEST, err);
    *is_right = is_good && st == PLT_OK &&
                CRYPTO_memcmp(digest, l->digest, DIGEST) == 0;
    qcow2_cipher_release(&cipher);
    OPENSSL_cleanse(derived, sizeof(derived));
    if (split)
        OPENSSL_cleanse(split, n);
    free(split);
    /* Without an error of their own they fail for want of memory alone: what
     * they are given has been checked. */
    return st != PLT_OK ? st
           : is_good    ? PLT_OK
                        : plt_fail(err, PLT_NOMEM, "a key");
}

enum plt_status qcow2_luks_open(const struct qcow2_luks *l,
                                struct plt_host *host, struct plt_io *io,
                                const uint8_t *header, size_t len,
                                struct qcow2_crypt **out, struct plt_error *err)
{
    uint8_t secret[PLT_MAX_SECRET], key[QCOW2_MAX_KEY];
    enum plt_status st = PLT_OK;
    bool is_open = false;
    unsigned n = 0;

    (void)len; /* checked when it was parsed */
    for (; !is_open && st == PLT_OK && PLT_HAS(host, secret); n++) {
        size_t secret_len = 0;
        st = host->secret(host, n, secret, sizeof(secret), &secret_len, err);
        if (st != PLT_OK)
            break;
        for (unsigned i = 0; i < SLOTS && !is_open && st == PLT_OK; i++) {
            if (!l->slots[i].is_active)
                continue;
            st = plt_io_ask(io, err);
            if (st == PLT_OK)
                st = try_slot(l, &l->slots[i], io, header, secret, secret_len,
                              key, &is_open, err);
        }
    }
    OPENSSL_cleanse(secret, sizeof(secret));
    if (is_open) {
        struct qcow2_cipher cipher;
        is_open = qcow2_cipher_init(&cipher, l->mode_kind, l->iv_kind,
                                    hash_of(l->iv_hash), key, l->key_len);
        *out = is_open ? qcow2_crypt_new(&cipher, true) : NULL;
        qcow2_cipher_release(&cipher);
        st = *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a key");
    } else if (st == PLT_OK || st == PLT_NOT_FOUND) {
        st = n ? plt_fail(err, PLT_DENIED,
                          "encrypted (LUKS), and no named secret opens it")
               : plt_fail(err, PLT_DENIED,
                          "encrypted (LUKS), and no secret was named");
    }
    OPENSSL_cleanse(key, sizeof(key));
    return st;
}
