/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of guest disks.  The disk is read by several threads (image_pump.c);
 * the plain digest is made of it in order, that of blocks on the threads that
 * read, and a block of zeros costs nothing but its place in the order. */
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/image_inside.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/lock.h"

enum { KEPT = 512, PLAIN_PIECE = 1 << 20, KEY = 80, POLL_MS = 100 };

struct known {
    char key[KEY]; /* ETag, algorithm, block size; "": free */
    char hex[IMAGE_CHECKSUM_TEXT];
};

struct checksums {
    struct lock lock;  /* guards the rest */
    struct cond ended; /* one that was being made */
    struct known v[KEPT];
    size_t next;                     /* the oldest is overwritten */
    char made[IMAGE_CHECKSUMS][KEY]; /* being made just now; "": free */
    unsigned n_waiting;              /* for one of them */
};

struct checksums *checksums_new(void)
{
    struct checksums *const c = calloc(1, sizeof(*c));
    if (c) {
        lock_init(&c->lock);
        cond_init(&c->ended);
    }
    return c;
}

void checksums_free(struct checksums *c)
{
    if (c) {
        cond_release(&c->ended);
        lock_release(&c->lock);
    }
    free(c);
}

static void make_key(struct image *image, const char *algorithm, uint64_t block,
                     char key[KEY])
{
    (void)snprintf(key, KEY, "%.40s:%.16s:%llu", image_etag(image), algorithm,
                   (unsigned long long)block);
}

static bool find_locked(const struct checksums *c, const char *key,
                        char out[IMAGE_CHECKSUM_TEXT])
{
    for (size_t i = 0; i < KEPT; i++) {
        if (strcmp(c->v[i].key, key) == 0) {
            memcpy(out, c->v[i].hex, IMAGE_CHECKSUM_TEXT);
            return true;
        }
    }
    return false;
}

bool image_known_checksum(struct image *image, const char *algorithm,
                          uint64_t block, char out[IMAGE_CHECKSUM_TEXT])
{
    struct checksums *const c = images_checksums(image);
    char key[KEY];

    make_key(image, algorithm, block, key);
    lock_take(&c->lock);
    const bool is_known = find_locked(c, key, out);
    lock_give(&c->lock);
    return is_known;
}

/* Being made: *place is free, or NULL when all are taken. */
static bool is_made_locked(struct checksums *c, const char *key, char **place)
{
    *place = NULL;
    for (size_t i = 0; i < IMAGE_CHECKSUMS; i++) {
        if (strcmp(c->made[i], key) == 0)
            return true;
        if (!c->made[i][0])
            *place = c->made[i];
    }
    return false;
}

/* Known by now, or the caller's to make: *place is then its, for leave(). */
static enum plt_status enter(struct checksums *c, const struct plt_io *io,
                             const char *key, char out[IMAGE_CHECKSUM_TEXT],
                             char **place, struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    bool is_known;

    *place = NULL;
    lock_take(&c->lock);
    while (!(is_known = find_locked(c, key, out)) &&
           is_made_locked(c, key, place) && st == PLT_OK) {
        if (io->cancelled(io)) {
            st = plt_fail(err, PLT_CANCELLED, "a checksum");
        } else if (c->n_waiting == IMAGE_CHECKSUM_WAITERS) {
            st = plt_fail(err, PLT_BUSY, "%d wait for checksums",
                          IMAGE_CHECKSUM_WAITERS);
        } else {
            c->n_waiting++;
            (void)cond_wait(&c->ended, &c->lock, clock_after_ms(POLL_MS));
            c->n_waiting--;
        }
    }
    if (st == PLT_OK && !is_known && !*place)
        st = plt_fail(err, PLT_BUSY, "%d checksums are being made",
                      IMAGE_CHECKSUMS);
    else if (st == PLT_OK && !is_known)
        (void)snprintf(*place, KEY, "%s", key);
    if (st != PLT_OK || is_known)
        *place = NULL;
    lock_give(&c->lock);
    return st;
}

/* hex: NULL when it was not made. */
static void leave(struct checksums *c, char *place, const char *hex)
{
    lock_take(&c->lock);
    if (hex) {
        struct known *const k = &c->v[c->next++ % KEPT];
        memcpy(k->key, place, KEY);
        (void)snprintf(k->hex, sizeof(k->hex), "%s", hex);
    }
    place[0] = '\0';
    cond_wake_all(&c->ended);
    lock_give(&c->lock);
}

struct sum {
    const EVP_MD *md;
    EVP_MD_CTX *ctx;
    size_t digest_len;
    size_t block;              /* 0: plain */
    uint8_t zeros[64];         /* the digest of a whole block of zeros */
    const uint8_t *zero;       /* PLAIN_PIECE of them */
    atomic_bool has_no_memory; /* for the digest of a piece */
    uint64_t done, all;
    image_progress_fn *progress;
    void *cookie;
};

static void prepare_block(void *cookie, struct image_piece *p)
{
    struct sum *const s = (struct sum *)cookie;

    if (p->data &&
        EVP_Digest(p->data, p->len, p->digest, NULL, s->md, NULL) != 1)
        atomic_store(&s->has_no_memory, true);
}

/* The digest of len zeros, which may be a short last block. */
static bool digest_zeros(const struct sum *s, size_t len, uint8_t *out)
{
    EVP_MD_CTX *const ctx = EVP_MD_CTX_new();

    if (!ctx || EVP_DigestInit_ex(ctx, s->md, NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        return false;
    }
    while (len) {
        const size_t n = len < PLAIN_PIECE ? len : PLAIN_PIECE;
        ASSERT(EVP_DigestUpdate(ctx, s->zero, n) == 1);
        len -= n;
    }
    ASSERT(EVP_DigestFinal_ex(ctx, out, NULL) == 1);
    EVP_MD_CTX_free(ctx);
    return true;
}

static enum plt_status take_piece(void *cookie, const struct image_piece *p,
                                  struct plt_error *err)
{
    struct sum *const s = (struct sum *)cookie;
    const uint8_t *data = p->data ? p->data : s->zero;
    size_t len = p->len;
    uint8_t digest[64];

    if (atomic_load(&s->has_no_memory))
        return plt_fail(err, PLT_NOMEM, "a digest");
    if (s->block) {
        data = p->digest;
        len = s->digest_len;
        if (!p->data && p->len == s->block) {
            data = s->zeros;
        } else if (!p->data) {
            if (!digest_zeros(s, p->len, digest))
                return plt_fail(err, PLT_NOMEM, "a digest");
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
    if ((s->block && !digest_zeros(s, s->block, s->zeros)) ||
        EVP_DigestInit_ex(s->ctx, s->md, NULL) != 1)
        return plt_fail(err, PLT_NOMEM, "a digest");
    const enum plt_status st = image_pump(image, io, &pump, err);
    if (st != PLT_OK)
        return st;
    ASSERT(EVP_DigestFinal_ex(s->ctx, digest, NULL) == 1);
    for (size_t i = 0; i < s->digest_len; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return PLT_OK;
}

static const EVP_MD *find_digest(const char *algorithm)
{
    if (strcmp(algorithm, "sha256") == 0)
        return EVP_sha256();
    return strcmp(algorithm, "sha512") == 0 ? EVP_sha512() : NULL;
}

enum plt_status image_checksum_can(const char *algorithm, uint64_t block,
                                   struct plt_error *err)
{
    if (!find_digest(algorithm))
        return plt_fail(err, PLT_INVALID, "algorithm is sha256 or sha512");
    if (block &&
        (block < IMAGE_BLOCK_MIN || block > IMAGE_BLOCK_MAX || block % 4096))
        return plt_fail(err, PLT_INVALID,
                        "block_size is 1M to 16M, and a multiple of 4096");
    return PLT_OK;
}

enum plt_status image_checksum(struct image *image, struct plt_io *io,
                               const char *algorithm, uint64_t block,
                               uint64_t wait_ms, image_progress_fn *progress,
                               void *cookie, char out[IMAGE_CHECKSUM_TEXT],
                               struct plt_error *err)
{
    struct checksums *const c = images_checksums(image);
    struct sum s = {.md = find_digest(algorithm),
                    .block = (size_t)block,
                    .progress = progress,
                    .cookie = cookie};
    char key[KEY], *place = NULL;
    enum plt_status st = image_checksum_can(algorithm, block, err);

    if (st == PLT_OK)
        st = image_resolve_size(image, io, &s.all, err);
    if (st != PLT_OK)
        return st;
    make_key(image, algorithm, block, key);
    st = enter(c, io, key, out, &place, err);
    if (st != PLT_OK || !place)
        return st;
    AUTO_FREE uint8_t *zero = calloc(1, PLAIN_PIECE);
    s.zero = zero;
    s.ctx = EVP_MD_CTX_new();
    st = zero && s.ctx ? compute(image, io, &s, wait_ms, out, err)
                       : plt_fail(err, PLT_NOMEM, "a digest");
    EVP_MD_CTX_free(s.ctx);
    leave(c, place, st == PLT_OK ? out : NULL);
    return st;
}
