/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor: text that says what a VMDK is made of, after VMware's Virtual
 * Disk Format 5.0, "The Descriptor File".  Lines end in LF or CRLF; '#' begins
 * a comment; keys are matched without regard to case; values may be quoted.
 * Pure decoding.  Threads: any. */
#ifndef VMDK_DESCRIPTOR_H
#define VMDK_DESCRIPTOR_H

#include <platter/driver.h>

enum {
    VMDK_MAX_DESCRIPTOR = 1 << 20, /* bytes, as QEMU */
    VMDK_MAX_EXTENTS = 1024,       /* 2 TiB in pieces of 2 GiB */
    VMDK_MAX_NAME = 1023           /* bytes of a file's name */
};

#define VMDK_NO_PARENT UINT32_C(0xffffffff)

enum vmdk_access { VMDK_RW, VMDK_RDONLY, VMDK_NOACCESS };
enum vmdk_type {
    VMDK_FLAT, /* FLAT and VMFS */
    VMDK_ZERO,
    VMDK_SPARSE,
    VMDK_VMFSSPARSE,
    VMDK_SESPARSE
};

struct vmdk_line {
    enum vmdk_access access;
    enum vmdk_type type;
    const char *word; /* the type as written; of static memory */
    uint64_t len;     /* bytes */
    uint64_t off;     /* bytes in the file; flat ones */
    char *name;       /* new; NULL: none (zero) */
};

struct vmdk_descriptor {
    uint32_t cid, parent_cid;
    char create_type[40];
    char *parent; /* hint; new; NULL: none */
    struct vmdk_line *lines;
    size_t n_lines;
};

/* The first bytes are a descriptor's. */
bool vmdk_is_descriptor(const uint8_t *buf, size_t n);

/* After a failure *out is empty. */
PLT_MUST_USE enum plt_status vmdk_descriptor_parse(struct vmdk_descriptor *out,
                                                   const uint8_t *buf, size_t n,
                                                   struct plt_error *err);
void vmdk_descriptor_release(struct vmdk_descriptor *d);

#endif
