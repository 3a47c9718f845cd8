/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a manifest as text: what a mirror reads first.  The same bytes
 * for the same disk, whatever it is wrapped in (platter-manifest(7)). */
#ifndef MANIFEST_MANIFEST_HEAD_H
#define MANIFEST_MANIFEST_HEAD_H

#include "manifest/manifest_file.h"

/* {"version", "algorithm", "virtual-size", "leaf-size", "group-size", "root",
 * "data", "data-bytes", "data-leaves"} of a complete manifest: new (free) in
 * *text, of *len bytes and a NUL.  Reads all leaves: a second for 100 GiB of
 * data.  PLT_NOT_FOUND: it is damaged, or not complete. */
PLT_MUST_USE MAY_WAIT enum plt_status manifest_head(struct manifest_file *file,
                                                    char **text, size_t *len,
                                                    struct plt_error *err);

/* Stretches of data of a complete manifest, in order, in leaves: [first, end).
 * False ends it. */
typedef bool manifest_run_fn(void *cookie, uint64_t first, uint64_t end);
PLT_MUST_USE MAY_WAIT enum plt_status manifest_runs(struct manifest_file *file,
                                                    manifest_run_fn *fn,
                                                    void *cookie,
                                                    struct plt_error *err);

#endif
