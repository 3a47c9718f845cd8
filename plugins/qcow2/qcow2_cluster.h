/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks out of the cache, many at a time: slices of tables as they are, and
 * compressed clusters decoded.
 *
 * A caller adds what it wants to a set and fetches the set.  What is missing is
 * claimed, read with *one* vectored read of the child (together with the plain
 * segments of the caller), decoded and published.  Threads: a set belongs to
 * one call. */
#ifndef QCOW2_CLUSTER_H
#define QCOW2_CLUSTER_H

#include <platter/driver.h>

struct qcow2;

/* Spaces of keys: offsets / 512 are below 2^54, and so are cluster numbers. */
enum qcow2_space { QCOW2_OF_L1 = 1, QCOW2_OF_L2 = 2, QCOW2_OF_PACKED = 3 };

static inline uint64_t qcow2_key(enum qcow2_space space, uint64_t n)
{
    return (uint64_t)space << 60 | n;
}

struct qcow2_block {
    uint64_t key;
    size_t len;          /* bytes of the block */
    uint64_t host;       /* where its bytes lie in the file */
    size_t stored;       /* ... and how many they are */
    bool is_packed;      /* ... and they are compressed */
    const uint8_t *data; /* after a fetch */

    /* Of qcow2_fetch.c */
    struct plt_block *block; /* held, or NULL: then data is our own memory */
    uint8_t *own;
    enum plt_claim claim;
    size_t in; /* packed: where its bytes lie in the scratch memory */
    enum plt_status decoded;
};

struct qcow2_set {
    struct qcow2_block *v;
    size_t n, cap;
};

/* False: no memory.  The same key may be added again and again. */
PLT_MUST_USE bool qcow2_set_add(struct qcow2_set *set,
                                const struct qcow2_block *want);

/* Fetch all, and fill the n plain segments of the file as well.  With
 * PLT_IO_NOWAIT: PLT_AGAIN when anything is not in memory.  Nothing is held
 * after a failure; otherwise until qcow2_set_release. */
PLT_MUST_USE enum plt_status qcow2_set_fetch(struct qcow2 *q, struct plt_io *io,
                                             struct qcow2_set *set,
                                             const struct plt_seg *plain,
                                             size_t n, struct plt_error *err);

/* The bytes of a block of a fetched set; NULL: it was not added. */
const uint8_t *qcow2_set_find(const struct qcow2_set *set, uint64_t key);

/* Let everything go, and the set's own memory; it is then empty. */
void qcow2_set_release(struct qcow2 *q, struct qcow2_set *set);

/* Decoders of compressed clusters, made when first needed. */
struct qcow2_decoder {
    void *deflate, *zstd;
};
/* The n bytes at in must give exactly len bytes.  What lies behind the end of
 * the coded stream does not matter.  OK: out is filled; else PLT_CORRUPT or
 * PLT_NOMEM. */
PLT_MUST_USE enum plt_status qcow2_decode(struct qcow2_decoder *d, bool is_zstd,
                                          const uint8_t *in, size_t n,
                                          uint8_t *out, size_t len);
void qcow2_decoder_release(struct qcow2_decoder *d);

#endif
