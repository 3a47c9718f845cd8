/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks out of the cache, many at a time: stretches of the child as they are
 * (tables), and coded ones decoded (compressed clusters, grains).  For drivers
 * of formats; the code is in libplatter_sdk.a.
 *
 * A caller adds what it wants to a set and fetches the set.  What is missing is
 * claimed, read with *one* vectored read of the child (together with the plain
 * segments of the caller), decoded on several cores and published.
 * Threads: a set belongs to one call. */
#ifndef PLATTER_BLOCKSET_H
#define PLATTER_BLOCKSET_H

#include <platter/driver.h>

#ifdef __cplusplus
extern "C" {
#endif

struct plt_want {
    uint64_t key;        /* in the layer's own space of keys (block_claim) */
    size_t len;          /* bytes of the block, at most 2 MiB */
    uint64_t off;        /* where its bytes lie in the child */
    size_t stored;       /* ... and how many they are */
    bool is_packed;      /* ... and they are coded */
    const uint8_t *data; /* after a fetch */

    /* Of the SDK */
    struct plt_block *block; /* held, or NULL: then data is our own memory */
    uint8_t *own;
    enum plt_claim claim;
    size_t in; /* packed: where its bytes lie in the scratch memory */
    enum plt_status decoded;
};

/* How coded blocks are decoded. */
struct plt_decoding {
    /* The want->stored bytes at in give exactly want->len bytes at out.  OK,
     * PLT_CORRUPT or PLT_NOMEM; the SDK makes the words.  *state is the
     * decoder's own memory, NULL at first; several are at work at once. */
    enum plt_status (*decode)(const void *cookie, void **state,
                              const struct plt_want *want, const uint8_t *in,
                              uint8_t *out);
    void (*release)(void *state); /* of a state that is not NULL */
    const void *cookie;
    const char *what; /* "compressed cluster", for messages */
};

struct plt_set {
    struct plt_want *v;
    size_t n, cap;
};

/* False: no memory.  The same key may be added again and again. */
PLT_MUST_USE bool plt_set_add(struct plt_set *set, const struct plt_want *want);

/* Fetch all, and fill the n plain segments of the child as well.  decoding:
 * NULL when nothing is packed.  With PLT_IO_NOWAIT: PLT_AGAIN when anything is
 * not in memory.  Nothing is held after a failure; otherwise until
 * plt_set_release. */
PLT_MUST_USE enum plt_status
plt_set_fetch(struct plt_set *set, struct plt_host *host,
              struct plt_child *child, struct plt_io *io,
              const struct plt_decoding *decoding, const struct plt_seg *plain,
              size_t n, struct plt_error *err);

/* The bytes of a block of a fetched set; NULL: it was not added. */
const uint8_t *plt_set_find(const struct plt_set *set, uint64_t key);

/* Let everything go, and the set's own memory; it is then empty. */
void plt_set_release(struct plt_set *set, struct plt_host *host);

#ifdef __cplusplus
}
#endif
#endif
