/* SPDX-License-Identifier: Apache-2.0 */
/* Records: one to sixteen leaves, their digests before them, plain or as one
 * zstd frame.  Pure but for the reading: no lock, no state. */
#ifndef STORE_STORE_RECORD_H
#define STORE_STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/sha.h>
#include <zstd.h>

#include "store/store.h"

enum {
    STORE_SECRET = 16,
    STORE_CHECK = 16, /* bytes of SHA-256 that secure a head or a footer */
    RECORD_LEAVES = 16,
    RECORD_ALIGN = 64,
    RECORD_HEAD = 64,
    RECORD_HEAD_MOST = RECORD_HEAD + RECORD_LEAVES * STORE_DIGEST,
    RECORD_DATA_MOST = RECORD_LEAVES * STORE_LEAF,
    RECORD_MOST = RECORD_HEAD_MOST + RECORD_DATA_MOST
};

/* A head as it was read; the pointer is into what it was read from. */
struct store_record {
    size_t n; /* leaves */
    bool is_zstd;
    size_t data_off; /* from its beginning */
    size_t data_len; /* as stored */
    size_t bytes;    /* in all, to the next record */
    const uint8_t (*digests)[STORE_DIGEST];
};

/* What reading takes; one thread at a time. */
struct store_scratch {
    struct store_scratch *next;
    ZSTD_DCtx *unzip;
    uint8_t raw[RECORD_MOST];
    uint8_t plain[RECORD_DATA_MOST];
};

enum store_found {
    FOUND_IT,
    FOUND_OTHER,   /* whole, and of other leaves */
    FOUND_DAMAGED, /* not a record, or not the bytes of its digest */
    FOUND_FAILED   /* the disk does not read, for want of something else */
};

/* One leaf of a record: what is wanted, and what came of it. */
struct store_want {
    struct segment *segment; /* the caller's */
    uint64_t place;
    const uint8_t *digest;
    uint8_t *out; /* STORE_LEAF bytes */
    enum store_found found;
};

/* The first STORE_CHECK bytes of the SHA-256 of two pieces. */
void store_check(const void *a, size_t a_len, const void *b, size_t b_len,
                 uint8_t out[STORE_CHECK]);
bool store_is_leaf(const uint8_t *data, const uint8_t digest[STORE_DIGEST]);

/* All of write or read; errno's value, 0: done. *got (of store_read): how much
 * there was. */
int store_write(int fd, const void *data, size_t len, uint64_t off);
int store_read(int fd, void *buf, size_t len, uint64_t off, size_t *got);

/* Make a record of n leaves of `data`, in a row; not sealed yet.  zip NULL:
 * plain.  Returns its bytes, RECORD_MOST at most, all written. */
size_t store_record_make(uint8_t *out, size_t n,
                         const uint8_t (*digests)[STORE_DIGEST],
                         const uint8_t *data, ZSTD_CCtx *zip);
/* It will lie at off of the segment of this secret. */
void store_record_seal(uint8_t *record, const uint8_t secret[STORE_SECRET],
                       uint64_t off);
/* The head, which begins the `len` bytes of buf.  False: it is none of this
 * place.  secret NULL: whatever it says. */
bool store_record_parse(const uint8_t *buf, size_t len,
                        const uint8_t secret[STORE_SECRET], uint64_t off,
                        struct store_record *out);
/* What a head that was parsed has. */
const uint8_t *store_record_secret(const uint8_t *record);
/* Its leaves, in a row: into its own bytes (plain), or scratch->plain.  NULL:
 * its frame is damaged.  Not verified. */
const uint8_t *store_record_data(const struct store_record *r,
                                 const uint8_t *record,
                                 struct store_scratch *scratch);
/* Read what is wanted of the record at off; the wants' places say which leaf.
 * Sets `found` of each. */
void store_record_read(int fd, const uint8_t secret[STORE_SECRET], uint64_t off,
                       struct store_want *wants, size_t n,
                       struct store_scratch *scratch);

#endif
