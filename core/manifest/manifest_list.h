/* SPDX-License-Identifier: Apache-2.0 */
/* A complete manifest's lists as plain bytes, any stretch of them: digests one
 * behind the other, in the order of the disk. */
#ifndef MANIFEST_MANIFEST_LIST_H
#define MANIFEST_MANIFEST_LIST_H

#include "manifest/manifest_file.h"

enum manifest_list {
    MANIFEST_LIST_GROUPS,  /* 32 bytes a group */
    MANIFEST_LIST_LEAVES,  /* 32 bytes a leaf */
    MANIFEST_LIST_PREFIXES /* the first 8 bytes of each leaf's */
};

/* Its length in bytes. */
uint64_t manifest_list_size(const struct manifest_file *file,
                            enum manifest_list list);
/* Fill buf with [off, off+len) of it, which lies inside.  PLT_NOT_FOUND: the
 * manifest is damaged there. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_list_read(struct manifest_file *file, enum manifest_list list,
                   uint64_t off, size_t len, uint8_t *buf,
                   struct plt_error *err);

#endif
