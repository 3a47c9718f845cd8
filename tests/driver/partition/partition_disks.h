/* SPDX-License-Identifier: Apache-2.0 */
/* Disks with partition tables, written from the specifications (the table of
 * the IBM PC's boot sector; UEFI 2.10, part 5.3) rather than by a tool, so that
 * each field can lie; and the driver opened over one. */
#ifndef TESTS_PARTITION_DISKS_H
#define TESTS_PARTITION_DISKS_H

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "memhost.h"

extern const struct plt_driver platter_driver;

/* n bytes of which no two sectors are equal. */
struct disk {
    uint8_t *p;
    size_t n;
};

struct disk disk_new(size_t n);
void disk_free(struct disk *d);

/* Slot 0 to 3 of the boot record at byte `at`, which gets its 55 aa. */
void put_mbr(struct disk *d, uint64_t at, unsigned slot, uint8_t flag,
             uint8_t type, uint32_t first, uint32_t count);
/* The record at byte `at` without any entry. */
void clear_mbr(struct disk *d, uint64_t at);

struct gpt_entry {
    uint64_t first, last, attributes;
    const uint16_t *name; /* 36 units, or NULL */
};

/* What a table says of itself; change it, then write it again. */
struct gpt {
    uint32_t sector;
    uint32_t header_len, n, entry; /* as the header says */
    uint64_t lba, alternate, array, first_usable, last_usable;
    uint8_t id;
    const struct gpt_entry *v; /* borrowed */
    size_t n_used;
};

/* The primary or the backup of a disk, as a partitioning tool writes it. */
struct gpt gpt_of(const struct disk *d, uint32_t sector, uint32_t n,
                  uint32_t entry, const struct gpt_entry *v, size_t n_used,
                  bool is_backup);
/* Header at byte `at`, entries at g->array (where these lie on the disk), and
 * the checksums of both. */
void gpt_put(struct disk *d, uint64_t at, const struct gpt *g);
/* Make the header's own checksum good again. */
void gpt_sum(struct disk *d, uint64_t at);
/* A protective MBR and both copies. */
void gpt_put_both(struct disk *d, uint32_t sector, uint32_t n, uint32_t entry,
                  const struct gpt_entry *v, size_t n_used);

/* The driver over a disk. */
struct opened {
    struct memhost *host;
    struct memchild child;
    void *image;
    uint64_t size;
    uint32_t flags;
};

/* what: "number=1", "sector=4096" or NULL. */
enum plt_status open_over(struct opened *o, const struct disk *d,
                          const char *what, const char *more,
                          struct plt_error *err);
enum plt_status list_over(struct opened *o, const struct disk *d,
                          const char *what, struct plt_error *err);
void close_over(struct opened *o);

/* What the list says, as JSON; new.  It must be there. */
char *list_text(const struct disk *d);
/* How often `what` stands in text. */
unsigned count_of(const char *text, const char *what);
/* Partition `number` is listed with these bytes. */
bool is_listed(const char *text, unsigned number, uint64_t start,
               uint64_t length);
/* partition=number equals [start, start+length) of the disk. */
void same_slice(const struct disk *d, unsigned number, uint64_t start,
                uint64_t length);
/* The status of opening it. */
enum plt_status open_status(const struct disk *d, unsigned number);

#endif
