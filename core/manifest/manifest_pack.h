/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves that are sent together: a list of them as it stands in a path, and
 * their bytes as one zstd frame (RFC 8878).  Pure.  Threads: any. */
#ifndef MANIFEST_MANIFEST_PACK_H
#define MANIFEST_MANIFEST_PACK_H

#include <platter/error.h>

#include "manifest/manifest.h"

enum {
    MANIFEST_PICK_LEAVES = 1024, /* of one list, at most */
    MANIFEST_PICK_RUNS = 512,
    MANIFEST_PICK_TEXT = 3072 /* bytes, with the NUL: URLs stay below 4 KiB */
};

/* Runs of leaves, ascending, apart from each other by at least one leaf. */
struct manifest_pick {
    size_t n_runs, n_leaves;
    struct {
        uint64_t first; /* leaf */
        size_t n;       /* at least 1 */
    } run[MANIFEST_PICK_RUNS];
};

/* "0-15,17,300-310": decimal, without leading zeros, written in one way alone.
 * len: of the text.  false: it is not that. */
bool manifest_pick_parse(struct manifest_pick *out, const char *text,
                         size_t len);
/* Put leaf n behind the others; false: it does not fit, also as a text.  n is
 * greater than all that are in it. */
bool manifest_pick_add(struct manifest_pick *list, uint64_t leaf);
void manifest_pick_text(const struct manifest_pick *list,
                        char out[MANIFEST_PICK_TEXT]);
/* Bytes that its leaves have on a disk of this size; the last one may be short.
 * false: it is not all of that disk. */
bool manifest_pick_bytes(const struct manifest_pick *list, uint64_t size,
                         size_t *out);

/* One frame; new (free) in *out.  PLT_NOMEM. */
PLT_MUST_USE enum plt_status manifest_pack(const uint8_t *data, size_t len,
                                           uint8_t **out, size_t *out_len,
                                           struct plt_error *err);
/* Exactly len bytes out of a frame; untrusted input.  PLT_CORRUPT. */
PLT_MUST_USE enum plt_status manifest_unpack(const uint8_t *frame,
                                             size_t frame_len, uint8_t *out,
                                             size_t len, struct plt_error *err);
/* The most that a frame of so many bytes has. */
size_t manifest_pack_bound(size_t len);
/* Names the coder: other frames of the same bytes have another name. */
unsigned manifest_pack_version(void);

#endif
