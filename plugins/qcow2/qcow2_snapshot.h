/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2 spec, "Snapshots": the table as read at open.  Immutable then.
 * Threads: any. */
#ifndef QCOW2_SNAPSHOT_H
#define QCOW2_SNAPSHOT_H

#include <platter/driver.h>

enum {
    QCOW2_MAX_SNAPSHOT_TABLE = 16 << 20, /* bytes; QEMU allows 64 MiB */
    QCOW2_MAX_SNAPSHOT_EXTRA = 1024      /* bytes of extra data, as QEMU */
};

struct qcow2_snapshot {
    uint64_t l1_off;
    uint32_t l1_count;
    struct plt_snapshot about; /* texts are new */
};

struct qcow2_snapshots {
    struct qcow2_snapshot *v;
    uint32_t n;
    uint64_t table_len; /* bytes of the table in the file */
};

/* Parse `n` entries out of the len bytes at buf.  disk_size: of the active
 * disk, for entries that do not say theirs.  PLT_AGAIN: the table goes on
 * behind buf (err is not filled).  L1 tables and sizes are checked when one is
 * shown: a bad snapshot does not make the disk unreadable.  After a failure
 * *out is empty. */
PLT_MUST_USE enum plt_status qcow2_snapshots_parse(struct qcow2_snapshots *out,
                                                   const uint8_t *buf,
                                                   size_t len, uint32_t n,
                                                   uint64_t disk_size,
                                                   struct plt_error *err);
void qcow2_snapshots_release(struct qcow2_snapshots *s);

/* By id, else by name, as qemu-img; NULL: there is none.  Borrowed. */
const struct qcow2_snapshot *
qcow2_snapshots_find(const struct qcow2_snapshots *s, const char *id_or_name);

#endif
