/* SPDX-License-Identifier: Apache-2.0 */
#include "qcow2_cipher.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <platter/bytes.h>

enum { BLOCK = 16, AES_KEY = 16 };

struct qcow2_crypt {
    struct qcow2_cipher cipher;
    bool is_by_host;
};

/* ---- Ciphers ---- */

static const EVP_CIPHER *cbc_of(size_t key_len)
{
    return key_len == 16   ? EVP_aes_128_cbc()
           : key_len == 24 ? EVP_aes_192_cbc()
           : key_len == 32 ? EVP_aes_256_cbc()
                           : NULL;
}

static const EVP_CIPHER *ecb_of(size_t key_len)
{
    return key_len == 16   ? EVP_aes_128_ecb()
           : key_len == 24 ? EVP_aes_192_ecb()
           : key_len == 32 ? EVP_aes_256_ecb()
                           : NULL;
}

/* OpenSSL has XTS for 128 and 256 bits. */
static const EVP_CIPHER *xts_of(size_t key_len)
{
    return key_len == 32   ? EVP_aes_128_xts()
           : key_len == 64 ? EVP_aes_256_xts()
                           : NULL;
}

bool qcow2_cipher_ok(enum qcow2_mode mode, size_t key_len)
{
    return mode == QCOW2_XTS ? key_len == 32 || key_len == 48 || key_len == 64
                             : cbc_of(key_len) != NULL;
}

bool qcow2_cipher_init(struct qcow2_cipher *c, enum qcow2_mode mode,
                       enum qcow2_iv iv, const EVP_MD *essiv,
                       const uint8_t *key, size_t key_len)
{
    unsigned n = 0;

    *c = (struct qcow2_cipher){.mode = mode, .iv = iv, .key_len = key_len};
    memcpy(c->key, key, key_len);
    if (iv != QCOW2_ESSIV)
        return true;
    if (EVP_Digest(key, key_len, c->iv_key, &n, essiv, NULL) != 1)
        return false;
    c->iv_key_len = n;
    return ecb_of(n) != NULL;
}

void qcow2_cipher_release(struct qcow2_cipher *c)
{
    OPENSSL_cleanse(c, sizeof(*c));
}

/* What one call needs of OpenSSL; contexts are not shared between threads. */
struct work {
    EVP_CIPHER_CTX *data, *iv, *tweak; /* tweak: XTS made of ECB */
};

static EVP_CIPHER_CTX *context(const EVP_CIPHER *type, const uint8_t *key,
                               bool is_encrypt)
{
    EVP_CIPHER_CTX *const ctx = EVP_CIPHER_CTX_new();

    if (ctx && EVP_CipherInit_ex(ctx, type, NULL, key, NULL, is_encrypt) == 1 &&
        EVP_CIPHER_CTX_set_padding(ctx, 0) == 1)
        return ctx;
    EVP_CIPHER_CTX_free(ctx);
    return NULL;
}

static bool begin(struct work *w, const struct qcow2_cipher *c)
{
    const bool is_xts = c->mode == QCOW2_XTS;
    const EVP_CIPHER *const xts = is_xts ? xts_of(c->key_len) : NULL;
    const size_t half = c->key_len / 2;

    *w = (struct work){.data = NULL};
    if (!is_xts) {
        w->data = context(cbc_of(c->key_len), c->key, false);
    } else if (xts) {
        w->data = context(xts, c->key, false);
    } else {
        w->data = context(ecb_of(half), c->key, false);
        w->tweak = context(ecb_of(half), c->key + half, true);
    }
    if (c->iv == QCOW2_ESSIV)
        w->iv = context(ecb_of(c->iv_key_len), c->iv_key, true);
    return w->data && (!is_xts || xts || w->tweak) &&
           (c->iv != QCOW2_ESSIV || w->iv);
}

static void end(struct work *w)
{
    EVP_CIPHER_CTX_free(w->data);
    EVP_CIPHER_CTX_free(w->iv);
    EVP_CIPHER_CTX_free(w->tweak);
}

static bool make_iv(const struct work *w, const struct qcow2_cipher *c,
                    uint64_t sector, uint8_t iv[BLOCK])
{
    int n = 0;

    memset(iv, 0, BLOCK);
    if (c->iv == QCOW2_PLAIN32)
        plt_put_le32(iv, (uint32_t)sector);
    else
        plt_put_le64(iv, sector);
    return c->iv != QCOW2_ESSIV ||
           EVP_EncryptUpdate(w->iv, iv, &n, iv, BLOCK) == 1;
}

/* Multiply by x in GF(2^128), as IEEE 1619 numbers the bits. */
static void double_tweak(uint8_t t[BLOCK])
{
    const uint64_t low = plt_le64(t), high = plt_le64(t + 8);

    plt_put_le64(t, low << 1 ^ (high >> 63 ? 0x87 : 0));
    plt_put_le64(t + 8, high << 1 | low >> 63);
}

static bool xts_by_ecb(const struct work *w, uint8_t *buf, size_t len,
                       uint8_t iv[BLOCK])
{
    uint8_t tweaks[QCOW2_CRYPT_SECTOR];
    int n = 0;

    if (EVP_EncryptUpdate(w->tweak, iv, &n, iv, BLOCK) != 1)
        return false;
    for (size_t at = 0; at < len; at += BLOCK) {
        memcpy(tweaks + at, iv, BLOCK);
        double_tweak(iv);
    }
    for (size_t i = 0; i < len; i++)
        buf[i] ^= tweaks[i];
    if (EVP_DecryptUpdate(w->data, buf, &n, buf, (int)len) != 1)
        return false;
    for (size_t i = 0; i < len; i++)
        buf[i] ^= tweaks[i];
    return true;
}

bool qcow2_cipher_decrypt(const struct qcow2_cipher *c, uint8_t *buf,
                          size_t len, uint64_t sector)
{
    struct work w;
    bool is_good = begin(&w, c);
    int n = 0;

    for (size_t at = 0; at < len && is_good; sector++) {
        const size_t step =
            len - at < QCOW2_CRYPT_SECTOR ? len - at : QCOW2_CRYPT_SECTOR;
        uint8_t iv[BLOCK];
        is_good = make_iv(&w, c, sector, iv);
        if (is_good && w.tweak)
            is_good = xts_by_ecb(&w, buf + at, step, iv);
        else if (is_good)
            is_good = EVP_DecryptInit_ex(w.data, NULL, NULL, NULL, iv) == 1 &&
                      EVP_DecryptUpdate(w.data, buf + at, &n, buf + at,
                                        (int)step) == 1;
        at += step;
    }
    end(&w);
    return is_good;
}

/* ---- An image's data ---- */

struct qcow2_crypt *qcow2_crypt_new(const struct qcow2_cipher *cipher,
                                    bool is_by_host)
{
    struct qcow2_crypt *const crypt = malloc(sizeof(*crypt));

    if (crypt) {
        crypt->cipher = *cipher;
        crypt->is_by_host = is_by_host;
    }
    return crypt;
}

void qcow2_crypt_free(struct qcow2_crypt *crypt)
{
    if (!crypt)
        return;
    qcow2_cipher_release(&crypt->cipher);
    free(crypt);
}

bool qcow2_crypt_by_host(const struct qcow2_crypt *crypt)
{
    return crypt->is_by_host;
}

enum plt_status qcow2_crypt_decrypt(const struct qcow2_crypt *crypt,
                                    uint8_t *buf, size_t len, uint64_t off,
                                    struct plt_error *err)
{
    if (qcow2_cipher_decrypt(&crypt->cipher, buf, len,
                             off / QCOW2_CRYPT_SECTOR))
        return PLT_OK;
    return plt_fail(err, PLT_NOMEM, "a cipher");
}

enum plt_status qcow2_aes_open(struct plt_host *host, struct qcow2_crypt **out,
                               struct plt_error *err)
{
    uint8_t secret[PLT_MAX_SECRET], key[AES_KEY] = {0};
    struct qcow2_cipher cipher;
    size_t len = 0;
    enum plt_status st = PLT_NOT_FOUND;

    if (PLT_HAS(host, secret))
        st = host->secret(host, 0, secret, sizeof(secret), &len, err);
    if (st == PLT_NOT_FOUND)
        return plt_fail(err, PLT_DENIED,
                        "encrypted (AES), and no secret was named");
    if (st != PLT_OK)
        return st;
    memcpy(key, secret, len < AES_KEY ? len : AES_KEY);
    (void)qcow2_cipher_init(&cipher, QCOW2_CBC, QCOW2_PLAIN64, NULL, key,
                            AES_KEY);
    OPENSSL_cleanse(secret, sizeof(secret));
    OPENSSL_cleanse(key, sizeof(key));
    *out = qcow2_crypt_new(&cipher, false);
    qcow2_cipher_release(&cipher);
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a key");
}
