/* SPDX-License-Identifier: Apache-2.0 */
/*     0 magic   4 leaves   5 is it zstd   6 zero   8 secret   24 place
 *    32 stored bytes of data   36 zero   48 check of all before and the digests
 *    64 digests   64 + 32 n data
 *
 * The secret is the segment's: a leaf's bytes that look like a record are none,
 * since who made the leaf does not know it.  The place is that in the file. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "store/store_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <platter/bytes.h>

#include "store/store_place.h"

_Static_assert(STORE_DIGEST == SHA256_DIGEST_LENGTH, "SHA-256");
_Static_assert(RECORD_MOST % RECORD_ALIGN == 0, "records touch");

enum {
    RECORD_MAGIC = 0x43525450, /* "PTRC" */
    AT_LEAVES = 4,
    AT_ZSTD = 5,
    AT_SECRET = 8,
    AT_PLACE = 24,
    AT_DATA_LEN = 32,
    AT_CHECK = 48
};

void store_check(const void *a, size_t a_len, const void *b, size_t b_len,
                 uint8_t out[STORE_CHECK])
{
    uint8_t digest[STORE_DIGEST];
    SHA256_CTX c;

    (void)SHA256_Init(&c);
    (void)SHA256_Update(&c, a, a_len);
    (void)SHA256_Update(&c, b, b_len);
    (void)SHA256_Final(digest, &c);
    memcpy(out, digest, STORE_CHECK);
}

bool store_is_leaf(const uint8_t *data, const uint8_t digest[STORE_DIGEST])
{
    uint8_t got[STORE_DIGEST];
    SHA256_CTX c;

    (void)SHA256_Init(&c);
    (void)SHA256_Update(&c, data, STORE_LEAF);
    (void)SHA256_Final(got, &c);
    return memcmp(got, digest, sizeof(got)) == 0;
}

int store_write(int fd, const void *data, size_t len, uint64_t off)
{
    const uint8_t *p = (const uint8_t *)data;

    while (len) {
        const ssize_t n = pwrite(fd, p, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ENOSPC;
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int store_read(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
    uint8_t *const p = (uint8_t *)buf;

    *got = 0;
    while (*got < len) {
        const ssize_t n = pread(fd, p + *got, len - *got, (off_t)(off + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

/* ---- Making ---- */

static size_t padded(size_t bytes)
{
    return (bytes + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

static void check_of(const uint8_t *record, size_t n, uint8_t *out)
{
    store_check(record, AT_CHECK, record + RECORD_HEAD, n * STORE_DIGEST, out);
}

size_t store_record_make(uint8_t *out, size_t n,
                         const uint8_t (*digests)[STORE_DIGEST],
                         const uint8_t *data, ZSTD_CCtx *zip)
{
    const size_t off = RECORD_HEAD + n * STORE_DIGEST;
    size_t len = n * STORE_LEAF;

    ASSERT(n && n <= RECORD_LEAVES);
    memset(out, 0, RECORD_HEAD);
    plt_put_le32(out, RECORD_MAGIC);
    out[AT_LEAVES] = (uint8_t)n;
    memcpy(out + RECORD_HEAD, digests, n * STORE_DIGEST);
    /* A frame that does not get smaller does not fit: then it is plain. */
    const size_t frame =
        zip ? ZSTD_compress2(zip, out + off, len - RECORD_ALIGN, data, len) : 0;
    if (zip && !ZSTD_isError(frame)) {
        out[AT_ZSTD] = 1;
        len = frame;
    } else {
        memcpy(out + off, data, len);
    }
    plt_put_le32(out + AT_DATA_LEN, (uint32_t)len);
    const size_t bytes = padded(off + len);
    memset(out + off + len, 0, bytes - off - len);
    return bytes;
}

void store_record_seal(uint8_t *record, const uint8_t secret[STORE_SECRET],
                       uint64_t off)
{
    memcpy(record + AT_SECRET, secret, STORE_SECRET);
    plt_put_le64(record + AT_PLACE, off);
    check_of(record, record[AT_LEAVES], record + AT_CHECK);
}

/* ---- Reading ---- */

bool store_record_parse(const uint8_t *buf, size_t len,
                        const uint8_t secret[STORE_SECRET], uint64_t off,
                        struct store_record *out)
{
    uint8_t check[STORE_CHECK];

    if (len < RECORD_HEAD || plt_le32(buf) != RECORD_MAGIC ||
        (secret && memcmp(buf + AT_SECRET, secret, STORE_SECRET) != 0) ||
        plt_le64(buf + AT_PLACE) != off)
        return false;
    out->n = buf[AT_LEAVES];
    out->is_zstd = buf[AT_ZSTD];
    out->data_len = plt_le32(buf + AT_DATA_LEN);
    if (!out->n || out->n > RECORD_LEAVES || !out->data_len ||
        out->data_len > out->n * STORE_LEAF ||
        (!out->is_zstd && out->data_len != out->n * STORE_LEAF))
        return false;
    out->data_off = RECORD_HEAD + out->n * STORE_DIGEST;
    if (len < out->data_off)
        return false;
    check_of(buf, out->n, check);
    if (memcmp(check, buf + AT_CHECK, sizeof(check)) != 0)
        return false;
    out->bytes = padded(out->data_off + out->data_len);
    out->digests =
        (const uint8_t(*)[STORE_DIGEST])(uintptr_t)(buf + RECORD_HEAD);
    return true;
}

const uint8_t *store_record_secret(const uint8_t *record)
{
    return record + AT_SECRET;
}

const uint8_t *store_record_data(const struct store_record *r,
                                 const uint8_t *record,
                                 struct store_scratch *scratch)
{
    if (!r->is_zstd)
        return record + r->data_off;
    const size_t len = r->n * STORE_LEAF;
    return ZSTD_decompressDCtx(scratch->unzip, scratch->plain, len,
                               record + r->data_off, r->data_len) == len
               ? scratch->plain
               : NULL;
}

static void judge_all(struct store_want *wants, size_t n,
                      enum store_found found)
{
    for (size_t i = 0; i < n; i++)
        wants[i].found = found;
}

/* EIO is the disk's word that these bytes are lost, as good as wrong ones. */
static enum store_found failed(int sys)
{
    return sys == 0 || sys == EIO ? FOUND_DAMAGED : FOUND_FAILED;
}

/* The head tells which of them it has. */
static size_t match(const struct store_record *r, struct store_want *wants,
                    size_t n)
{
    size_t n_here = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t leaf = place_leaf(wants[i].place);
        const bool is_here =
            leaf < r->n &&
            memcmp(r->digests[leaf], wants[i].digest, STORE_DIGEST) == 0;
        wants[i].found = is_here ? FOUND_IT : FOUND_OTHER;
        n_here += is_here;
    }
    return n_here;
}

static void give_out(struct store_want *want, const uint8_t *data)
{
    if (store_is_leaf(data, want->digest))
        memcpy(want->out, data, STORE_LEAF);
    else
        want->found = FOUND_DAMAGED;
}

/* One leaf of a plain record, without the others. */
static void read_one(int fd, const struct store_record *r, uint64_t off,
                     struct store_want *want)
{
    size_t got;
    const int sys = store_read(
        fd, want->out, STORE_LEAF,
        off + r->data_off + place_leaf(want->place) * (size_t)STORE_LEAF, &got);

    if (sys || got != STORE_LEAF)
        want->found = failed(sys);
    else if (!store_is_leaf(want->out, want->digest))
        want->found = FOUND_DAMAGED;
}

void store_record_read(int fd, const uint8_t secret[STORE_SECRET], uint64_t off,
                       struct store_want *wants, size_t n,
                       struct store_scratch *scratch)
{
    /* Of several it is likely that most of the record is wanted. */
    const size_t first = n > 1 ? RECORD_MOST : RECORD_HEAD_MOST;
    struct store_record r;
    size_t got, more = 0;

    int sys = store_read(fd, scratch->raw, first, off, &got);
    if (sys || !store_record_parse(scratch->raw, got, secret, off, &r)) {
        judge_all(wants, n, failed(sys));
        return;
    }
    if (!match(&r, wants, n))
        return;
    if (n == 1 && !r.is_zstd) {
        read_one(fd, &r, off, wants);
        return;
    }
    if (got < r.bytes && n == 1)
        sys =
            store_read(fd, scratch->raw + got, r.bytes - got, off + got, &more);
    const uint8_t *const data =
        sys || got + more < r.bytes
            ? NULL
            : store_record_data(&r, scratch->raw, scratch);
    for (size_t i = 0; i < n; i++) {
        if (wants[i].found != FOUND_IT)
            continue;
        if (data)
            give_out(&wants[i],
                     data + place_leaf(wants[i].place) * (size_t)STORE_LEAF);
        else
            wants[i].found = failed(sys);
    }
}
