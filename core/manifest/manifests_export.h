/* SPDX-License-Identifier: Apache-2.0 */
/* Exports that are kept: in the folder beside the manifest, HEX.bmap and so on,
 * under the same limits; without a folder a few of them in memory.
 * Threads: any. */
#ifndef MANIFEST_MANIFESTS_EXPORT_H
#define MANIFEST_MANIFESTS_EXPORT_H

#include "manifest/manifest_export.h"
#include "manifest/manifests.h"

enum {
    EXPORTS_HELD = 8,           /* in memory, without a folder */
    EXPORTS_HELD_MAX = 16 << 20 /* bytes of each */
};

struct manifest_exports;

struct manifest_exports *manifest_exports_new(int dir); /* NULL: no memory */
void manifest_exports_free(struct manifest_exports *exports);

/* The export of an image whose manifest is `file`: a descriptor of the caller's
 * own in *fd, *len bytes.  Made when it is not there, by the caller, while
 * others who want any wait: it takes as long as reading the disk.  PLT_BUSY
 * when too many wait. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_exports_get(struct manifest_exports *exports, struct image *image,
                     struct manifest_file *file, enum manifest_export kind,
                     struct plt_io *io, uint64_t wait_ms, int *fd,
                     uint64_t *len, struct plt_error *err);

#endif
