/* SPDX-License-Identifier: Apache-2.0 */
/* The digests of one disk in a file: what is known of them.
 *
 * A file holds groups and leaves at fixed places, which follow from the disk's
 * size, so that it can be filled in any order, by several threads, and used
 * while it is partial.  What it says of a group is believed when the leaves'
 * digests hash to the group's; nothing else need be durable in any order, and
 * after a crash what does not is unknown again.
 *
 * Counted.  Threads: any. */
#ifndef MANIFEST_MANIFEST_FILE_H
#define MANIFEST_MANIFEST_FILE_H

#include <platter/error.h>

#include "manifest/manifest.h"
#include "manifest/manifest_text.h"
#include "util/check.h"

/* The largest disk that has one, in bytes: its groups are held in memory. */
#define MANIFEST_FILE_MOST (UINT64_C(16) << 40)

struct manifest_file;

/* Open NAME in the folder dir, or make it, for a disk of `size` bytes.  What is
 * there is untrusted input: of another size, version or without its checksum it
 * is begun anew.  dir -1: in memory, out of a file without a name.
 * PLT_UNSUPPORTED: of more than MANIFEST_FILE_MOST.  new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_open(int dir, const char *name, uint64_t size,
                   struct manifest_file **out, struct plt_error *err);
/* The same, only when it is there and complete; PLT_NOT_FOUND. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_open_complete(int dir, const char *name,
                            struct manifest_file **out, struct plt_error *err);
void manifest_file_ref(struct manifest_file *file);
void manifest_file_unref(struct manifest_file *file); /* NULL is fine */

uint64_t manifest_file_size(const struct manifest_file *file); /* of the disk */

/* The digest of group g; false: not known yet.  Memory alone. */
bool manifest_file_group(struct manifest_file *file, uint64_t g,
                         manifest_digest out);
/* The leaves' digests of group g, verified against the group's: leaves has room
 * for MANIFEST_LEAVES, *n are there.  PLT_NOT_FOUND: they are not known (or
 * what is there is damaged, which is then the same). */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_leaves(struct manifest_file *file, uint64_t g,
                     manifest_digest *leaves, size_t *n, struct plt_error *err);
/* Are the leaves of group g known, as far as memory knows: they were put in
 * this run, or are those of zeros, or manifest_file_leaves gave them. */
bool manifest_file_has_leaves(struct manifest_file *file, uint64_t g);

/* The leaves of group g are these.  PLT_CORRUPT: the group's digest is known
 * already, and it is another; nothing is changed. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_put(struct manifest_file *file, uint64_t g,
                  const manifest_digest *leaves, size_t n,
                  struct plt_error *err);
/* All group digests at once, of manifest_groups(size); PLT_CORRUPT: they do not
 * make this root.  The leaves need not be known. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_put_groups(struct manifest_file *file,
                         const manifest_digest *groups,
                         const manifest_digest root, struct plt_error *err);

/* All groups are known: the root.  false: not all are. */
bool manifest_file_root(struct manifest_file *file, manifest_digest out);
/* Leaves and groups are all known: on the disk for good, and marked so.
 * PLT_NOT_FOUND: something is missing. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_file_finish(struct manifest_file *file, struct plt_error *err);
bool manifest_file_is_complete(const struct manifest_file *file);

/* ---- What was made of it (manifest_head.c) ---- */

/* How much of the disk is not zeros, of a file with a root. */
struct manifest_counts {
    uint64_t bytes, leaves;
};
/* Both: memory alone.  false: not known yet. */
bool manifest_file_counts(struct manifest_file *file,
                          struct manifest_counts *out);
/* The head's text: new reference, or NULL. */
struct manifest_text *manifest_file_text(struct manifest_file *file);
/* Kept with the file, which has this root, or else not: the counts on the disk
 * too, as far as it takes them; text NULL: the counts alone. */
MAY_WAIT void manifest_file_keep(struct manifest_file *file,
                                 const manifest_digest root,
                                 const struct manifest_counts *counts,
                                 struct manifest_text *text);

#endif
