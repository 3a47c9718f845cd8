/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in a partition, by the first bytes of it: file systems, and what
 * is found in a partition instead of one.  Types, labels and UUIDs are written
 * as blkid(8) writes them.  Pure; threads: any. */
#ifndef PARTITION_FS_H
#define PARTITION_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FS_HEAD = 72 * 1024 }; /* of the partition; btrfs lies at 64 KiB */

struct fs {
    const char *type;
    char label[768]; /* bytes as stored, or UTF-8; "" */
    char uuid[40];   /* "" */
};

/* head: the first len bytes (fewer than FS_HEAD only where it is shorter).
 * False: nothing that is known. */
bool fs_recognise(const uint8_t *head, size_t len, struct fs *out);

#endif
