/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest disk is, whatever it is wrapped in.
 *
 * A disk is cut into leaves of 4096 bytes and groups of 256 leaves (1 MiB).
 *
 *     leaf digest   SHA-256 of the leaf; a last leaf that the disk's end cuts
 *                   short is filled up with zeros
 *     group digest  SHA-256 over the digests of its leaves, in order; the last
 *                   group may have fewer
 *     root          SHA-256 over the 16 bytes "platter-root-1" NUL NUL, the
 *                   disk's size in bytes (little-endian, 8 bytes), and the
 *                   digests of all groups, in order
 *
 * The root is the disk's identity: equal roots mean equal size and equal bytes.
 * Zeros have digests like any bytes (those of the constants below), so that
 * holes, zero clusters and zeros that are stored make no difference.
 *
 * This header is pure: no files, no images.  Threads: any. */
#ifndef MANIFEST_MANIFEST_H
#define MANIFEST_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MANIFEST_LEAF = 4096,                  /* bytes of disk */
    MANIFEST_LEAVES = 256,                 /* of a group */
    MANIFEST_GROUP = 1 << 20,              /* bytes of disk */
    MANIFEST_DIGEST = 32,                  /* bytes */
    MANIFEST_PREFIX = 8,                   /* bytes of a digest in "prefixes" */
    MANIFEST_HEX = 2 * MANIFEST_DIGEST + 1 /* a root as text, with its NUL */
};

typedef uint8_t manifest_digest[MANIFEST_DIGEST];

/* Of a disk of so many bytes. */
uint64_t manifest_leaves(uint64_t size);
uint64_t manifest_groups(uint64_t size);
/* Leaves of group g (MANIFEST_LEAVES, or fewer in the last). */
size_t manifest_group_leaves(uint64_t size, uint64_t g);
/* Bytes of disk in group g. */
size_t manifest_group_bytes(uint64_t size, uint64_t g);

/* len: 1 to MANIFEST_LEAF; what is missing counts as zeros. */
void manifest_leaf(const uint8_t *data, size_t len, manifest_digest out);
/* The digests of all leaves in data: n of them, (n-1)*4096 < len <= n*4096. */
void manifest_leaf_list(const uint8_t *data, size_t len, manifest_digest *out);
void manifest_group(const manifest_digest *leaves, size_t n,
                    manifest_digest out);
void manifest_root(uint64_t size, const manifest_digest *groups,
                   manifest_digest out);
/* Of 4096 zeros; of a group of n (1 to 256) such leaves. */
const uint8_t *manifest_zero_leaf(void);
void manifest_zero_group(size_t n, manifest_digest out);
bool manifest_is_zero_leaf(const manifest_digest digest);

/* 64 lower-case hexadecimal digits and NUL; and back: false unless it is
 * exactly that. */
void manifest_to_hex(const manifest_digest digest, char out[MANIFEST_HEX]);
bool manifest_from_hex(const char *text, manifest_digest out);

#endif
