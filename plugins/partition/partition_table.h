/* SPDX-License-Identifier: Apache-2.0 */
/* Partition tables: MBR with its chain of extended partitions, and GPT (UEFI
 * 2.10, part 5).  Everything read is hostile; what is wrong with a table is
 * said in its problems, and what can be used of it is used. */
#ifndef PARTITION_TABLE_H
#define PARTITION_TABLE_H

#include <platter/driver.h>

enum {
    TABLE_HEAD = 72 * 1024, /* what is read of the disk's beginning */
    TABLE_MAX = 1024,       /* partitions; more are not read */
    TABLE_LOGICAL_MAX = 128,
    TABLE_PROBLEMS = 16,
    TABLE_NAME = 36 * 3 + 1 /* UTF-8 of 36 UTF-16 units, with its NUL */
};

enum table_label { TABLE_NONE, TABLE_DOS, TABLE_GPT };

struct table_entry {
    unsigned number;   /* as Linux counts */
    uint64_t off, len; /* bytes */
    uint8_t mbr_type;
    uint8_t type[16], id[16]; /* GPT */
    uint64_t attributes;      /* GPT */
    char name[TABLE_NAME];    /* GPT; UTF-8 */
    bool is_bootable, is_logical, is_container;
};

/* What is known of the GPT at the disk's end. */
enum table_backup { BACKUP_UNREAD, BACKUP_GOOD, BACKUP_BAD };

struct table {
    enum table_label label;
    enum table_backup backup;
    uint32_t sector; /* bytes */
    uint32_t mbr_id;
    uint8_t id[16];            /* GPT */
    bool is_hybrid, is_broken; /* broken: a GPT without a usable header */
    uint64_t first_usable,
        last_usable;       /* GPT; bytes, last of the last sector */
    struct table_entry *v; /* n of them; new */
    size_t n;
    char problems[TABLE_PROBLEMS][120];
    size_t n_problems;
};

struct table_source {
    struct plt_child *child;
    struct plt_io *io;
    uint64_t size;       /* of the disk, bytes */
    const uint8_t *head; /* its first bytes */
    size_t head_len;
    uint32_t sector;  /* 0: find out */
    bool is_complete; /* look at the backup, too */
};

/* Read the table; no table is TABLE_NONE and PLT_OK.  On failure nothing is
 * left. */
PLT_MUST_USE enum plt_status table_read(const struct table_source *source,
                                        struct table *out,
                                        struct plt_error *err);
void table_release(struct table *table);

/* Words for a type; "" when it is not known. */
const char *table_mbr_type(uint8_t type);
const char *table_gpt_type(const uint8_t type[16]);
/* Text of a GUID as it lies on disk (UEFI, appendix A), lower case. */
void table_guid(const uint8_t guid[16], char out[37]);

#endif
