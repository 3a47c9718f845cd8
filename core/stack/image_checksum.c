/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of guest disks.  The disk is read by several threads (image_pump.c);
 * the plain digest is made of it in order, that of blocks on the threads that
 * read, and a block of zeros costs nothing but its place in the order. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/image_inside.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/lock.h"

enum { KEPT = 512, PLAIN_PIECE = 1 << 20, KEY = 80 };

struct known {
    char key[KEY]; /* ETag, algorithm, block size; "": free */
    char hex[IMAGE_CHECKSUM_TEXT];
};

struct checksums {
    struct lock lock; /* guards the rest */
    struct known v[KEPT];
    size_t next; /* the oldest is overwritten */
};

struct checksums *checksums_new(void)
{
    struct checksums *const c = calloc(1, sizeof(*c));
    if (c)
        lock_init(&c->lock);
    return c;
}

void checksums_free(struct checksums *c)
{
    if (c)
        lock_release(&c->lock);
    free(c);
}

static void make_key(struct image *image, const char *algorithm, uint64_t block,
                     char key[KEY])
{
    (void)snprintf(key, KEY, "%.40s:%.16s:%llu", image_etag(image), algorithm,
                   (unsigned long long)block);
}

bool image_known_checksum(struct image *image, const char *algorithm,
                          uint64_t block, char out[IMAGE_CHECKSUM_TEXT])
{
    struct checksums *const c = images_checksums(image);
    bool is_known = false;
    char key[KEY];

    make_key(image, algorithm, block, key);
    lock_take(&c->lock);
    for (size_t i = 0; i < KEPT && !is_known; i++) {
        is_known = strcmp(c->v[i].key, key) == 0;
        if (is_known)
            memcpy(out, c->v[i].hex, IMAGE_CHECKSUM_TEXT);
    }
    lock_give(&c->lock);
    return is_known;
}

static void keep(struct image *image, const char *algorithm, uint64_t block,
                 const char *hex)
{
    struct checksums *const c = images_checksums(image);
    struct known *k;

    lock_take(&c->lock);
    k = &c->v[c->next++ % KEPT];
    make_key(image, algorithm, block, k->key);
    (void)snprintf(k->hex, sizeof(k->hex), "%s", hex);
    lock_give(&c->lock);
}

struct sum {
    const EVP_MD *md;
    EVP_MD_CTX *ctx;
    size_t digest_len;
    size_t block;        /* 0: plain */
    uint8_t zeros[64];   /* the digest of a whole block of zeros */
    const uint8_t *zero; /* PLAIN_PIECE of them */
    uint64_t done, all;
    image_progress_fn *progress;
    void *cookie;
};

static void prepare_block(void *cookie, struct image_piece *p)
{
    const struct sum *const s = (const struct sum *)cookie;

    if (p->data)
        ASSERT(EVP_Digest(p->data, p->len, p->digest, NULL, s->md, NULL) == 1);
}

/* The digest of len zeros, which may be a short last block. */
static void digest_zeros(const struct sum *s, size_t len, uint8_t *out)
{
    EVP_MD_CTX *const ctx = EVP_MD_CTX_new();

    ASSERT(ctx && EVP_DigestInit_ex(ctx, s->md, NULL) == 1);
    while (len) {
        const size_t n = len < PLAIN_PIECE ? len : PLAIN_PIECE;
        ASSERT(EVP_DigestUpdate(ctx, s->zero, n) == 1);
        len -= n;
    }
    ASSERT(EVP_DigestFinal_ex(ctx, out, NULL) == 1);
    EVP_MD_CTX_free(ctx);
}

static enum plt_status take_piece(void *cookie, const struct image_piece *p,
                                  struct plt_error *err)
{
    struct sum *const s = (struct sum *)cookie;
    const uint8_t *data = p->data ? p->data : s->zero;
    size_t len = p->len;
    uint8_t digest[64];

    (void)err;
    if (s->block) {
        data = p->digest;
        len = s->digest_len;
        if (!p->data && p->len == s->block) {
            data = s->zeros;
        } else if (!p->data) {
            digest_zeros(s, p->len, digest);
            data = digest;
        }
    }
    ASSERT(EVP_DigestUpdate(s->ctx, data, len) == 1);
    s->done += p->len;
    if (s->progress)
        s->progress(s->cookie, s->done, s->all);
    return PLT_OK;
}

static enum plt_status compute(struct image *image, struct plt_io *io,
                               struct sum *s, uint64_t wait_ms,
                               char out[IMAGE_CHECKSUM_TEXT],
                               struct plt_error *err)
{
    const struct image_pump pump = {.len = s->all,
                                    .piece = s->block ? s->block : PLAIN_PIECE,
                                    .wait_ms = wait_ms,
                                    .prepare = s->block ? prepare_block : NULL,
                                    .take = take_piece,
                                    .cookie = s};
    uint8_t digest[64];

    s->digest_len = (size_t)EVP_MD_get_size(s->md);
    if (s->block)
        digest_zeros(s, s->block, s->zeros);
    ASSERT(EVP_DigestInit_ex(s->ctx, s->md, NULL) == 1);
    const enum plt_status st = image_pump(image, io, &pump, err);
    if (st != PLT_OK)
        return st;
    ASSERT(EVP_DigestFinal_ex(s->ctx, digest, NULL) == 1);
    for (size_t i = 0; i < s->digest_len; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return PLT_OK;
}

enum plt_status image_checksum(struct image *image, struct plt_io *io,
                               const char *algorithm, uint64_t block,
                               uint64_t wait_ms, image_progress_fn *progress,
                               void *cookie, char out[IMAGE_CHECKSUM_TEXT],
                               struct plt_error *err)
{
    struct sum s = {
        .block = (size_t)block, .progress = progress, .cookie = cookie};

    if (strcmp(algorithm, "sha256") == 0)
        s.md = EVP_sha256();
    else if (strcmp(algorithm, "sha512") == 0)
        s.md = EVP_sha512();
    else
        return plt_fail(err, PLT_INVALID, "algorithm is sha256 or sha512");
    if (block &&
        (block < IMAGE_BLOCK_MIN || block > IMAGE_BLOCK_MAX || block % 4096))
        return plt_fail(err, PLT_INVALID,
                        "block_size is 1M to 16M, and a multiple of 4096");
    if (image_known_checksum(image, algorithm, block, out))
        return PLT_OK;
    enum plt_status st = image_resolve_size(image, io, &s.all, err);
    if (st != PLT_OK)
        return st;
    AUTO_FREE uint8_t *zero = calloc(1, PLAIN_PIECE);
    s.zero = zero;
    s.ctx = EVP_MD_CTX_new();
    st = zero && s.ctx ? compute(image, io, &s, wait_ms, out, err)
                       : plt_fail(err, PLT_NOMEM, "a digest");
    EVP_MD_CTX_free(s.ctx);
    if (st == PLT_OK)
        keep(image, algorithm, block, out);
    return st;
}
