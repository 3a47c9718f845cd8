/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a manifest's file share, and nobody else.
 *
 * Locks: `writing` is held while the file is changed, and is taken first;
 * `lock` guards what is known in memory, and nobody waits with it. */
#ifndef MANIFEST_MANIFEST_FILE_INSIDE_H
#define MANIFEST_MANIFEST_FILE_INSIDE_H

#include <stdatomic.h>

#include "manifest/manifest_file.h"
#include "util/lock.h"

enum {
    MANIFEST_FILE_PARTIAL = 0, /* groups are believed when their leaves make
                                  them */
    MANIFEST_FILE_GROUPS = 1,  /* the groups make the root */
    MANIFEST_FILE_COMPLETE = 2
};
enum { MANIFEST_FILE_LISTS = 4096 }; /* where the groups begin */

struct manifest_file {
    _Atomic unsigned refs;
    int fd, dir; /* dir: a descriptor of its own, or -1 */
    uint64_t size, n_groups, leaves_at;
    atomic_bool is_complete;

    struct lock writing, lock; /* lock guards the rest */
    manifest_digest *groups;
    uint8_t *has_leaves; /* a flag for each group */
    uint64_t n_known;
    bool has_root;
    manifest_digest root;
    bool has_counts; /* of this root, as the text */
    struct manifest_counts counts;
    struct manifest_text *text; /* NULL: none */
};

/* ---- manifest_file.c ---- */

/* new; takes fd over, on failure too.  dir is duplicated; -1: none. */
struct manifest_file *manifest_file_new(int dir, int fd, uint64_t size);
/* Do the leaves in the file make this group? */
MAY_WAIT bool manifest_file_read_leaves(const struct manifest_file *f,
                                        uint64_t g, const manifest_digest group,
                                        manifest_digest *leaves);
bool manifest_file_is_zero(const struct manifest_file *f, uint64_t g,
                           const manifest_digest digest);
/* When all groups are known. */
void manifest_file_find_root(struct manifest_file *f) LOCK_HELD(&f->writing);

/* ---- manifest_file_open.c ---- */

extern const manifest_digest manifest_unknown; /* no bytes have this digest */
/* Where the leaves begin. */
uint64_t manifest_file_leaves_place(uint64_t size);
/* All of len, or false. */
MAY_WAIT bool manifest_file_read(int fd, void *buf, size_t len, uint64_t off);
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_write(int fd, const void *buf, size_t len, uint64_t off,
                    struct plt_error *err);
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_write_head(struct manifest_file *f, unsigned state,
                         const manifest_digest root, struct plt_error *err);
MAY_WAIT enum plt_status
manifest_file_write_counts(struct manifest_file *f, const manifest_digest root,
                           const struct manifest_counts *counts,
                           struct plt_error *err);

#endif
