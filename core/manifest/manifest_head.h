/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a manifest as text: what a mirror reads first.  The same bytes
 * for the same disk, whatever it is wrapped in (platter-manifest(7)). */
#ifndef MANIFEST_MANIFEST_HEAD_H
#define MANIFEST_MANIFEST_HEAD_H

#include "manifest/manifest_file.h"

enum { MANIFEST_HEAD_KEPT = 256 << 10 }; /* bytes of text, at most */

/* {"version", "algorithm", "virtual-size", "leaf-size", "group-size", "root",
 * "data", "data-bytes", "data-leaves"} of a complete manifest: a new reference
 * in *out (manifest_text_unref).  Up to MANIFEST_HEAD_KEPT it is made once and
 * kept with the file; a longer one is made of what is in memory each time.
 * Only when the file has never been counted are all leaves read: a second for
 * 100 GiB of data.  PLT_NOT_FOUND: it is damaged, or not complete. */
PLT_MUST_USE MAY_WAIT enum plt_status manifest_head(struct manifest_file *file,
                                                    struct manifest_text **out,
                                                    struct plt_error *err);
/* It would give what is kept.  Memory alone. */
bool manifest_head_is_kept(struct manifest_file *file);
/* Bytes that are kept with the file of a disk of this size, at most. */
uint64_t manifest_head_held(uint64_t size);

/* Stretches of data of a complete manifest, in order, in leaves: [first, end).
 * False ends it. */
typedef bool manifest_run_fn(void *cookie, uint64_t first, uint64_t end);
PLT_MUST_USE MAY_WAIT enum plt_status manifest_runs(struct manifest_file *file,
                                                    manifest_run_fn *fn,
                                                    void *cookie,
                                                    struct plt_error *err);

#endif
