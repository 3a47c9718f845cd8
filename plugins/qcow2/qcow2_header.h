/* SPDX-License-Identifier: Apache-2.0 */
/* The header and its extensions, after docs/interop/qcow2 of QEMU: pure
 * decoding.  Threads: any. */
#ifndef QCOW2_HEADER_H
#define QCOW2_HEADER_H

#include <platter/driver.h>

enum {
    QCOW2_HEADER_BYTES = 64 * 1024, /* header and extensions lie in the first
                                       cluster; more of it is not looked at */
    QCOW2_MIN_BITS = 9,
    QCOW2_MAX_BITS = 21,
    QCOW2_MAX_L1 = 4 << 20, /* entries: 32 MiB, as QEMU's limit; they map 2 PiB
                               with clusters of 64 KiB */
    QCOW2_MAX_REFTABLE = 8 << 20,  /* bytes, as QEMU */
    QCOW2_MAX_SNAPSHOTS = 65536,   /* as QEMU */
    QCOW2_MAX_EXTENSIONS = 64,     /* five are defined */
    QCOW2_MAX_BACKING = 1023,      /* bytes, of the format */
    QCOW2_MAX_NAME = 1023,         /* bytes of a data file's or bitmap's name */
    QCOW2_MAX_BITMAPS = 65535,     /* as QEMU */
    QCOW2_MAX_DIRECTORY = 1 << 24, /* bytes of a bitmap directory; QEMU allows
                                      more than anybody has */
    QCOW2_MAX_UNKNOWN = 16,        /* unknown header extensions that are told */
    QCOW2_SUBCLUSTER_BITS = 14     /* smallest cluster with extended L2 */
};

enum qcow2_incompatible {
    QCOW2_DIRTY = 1,
    QCOW2_CORRUPT = 2,
    QCOW2_DATA_FILE = 4,
    QCOW2_COMPRESSION = 8,
    QCOW2_EXTENDED_L2 = 16
};

enum qcow2_autoclear { QCOW2_BITMAPS = 1, QCOW2_DATA_FILE_RAW = 2 };

enum qcow2_crypt_method { QCOW2_PLAIN, QCOW2_AES, QCOW2_LUKS };

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

struct qcow2_header {
    uint32_t version;
    unsigned cluster_bits;
    uint64_t size; /* virtual, bytes */
    uint32_t crypt;
    uint32_t l1_count;
    uint64_t l1_off;
    uint32_t n_snapshots;
    uint64_t incompatible, compatible, autoclear;
    unsigned refcount_bits;
    uint8_t compression;                 /* enum qcow2_compression */
    char backing[QCOW2_MAX_BACKING + 1]; /* "": none */
    char backing_format[32];
    uint64_t refcounts_off; /* of the refcount table ... */
    uint32_t refcounts_len; /* ... in clusters */
    uint64_t snapshots_off;
    char data_file[QCOW2_MAX_NAME + 1]; /* "": not named */
    uint64_t luks_off, luks_len;        /* 0: no such extension */
    uint32_t n_bitmaps;                 /* 0: no such extension, or not valid */
    uint64_t bitmaps_off, bitmaps_len;
    struct qcow2_unknown {
        uint32_t type, len;
    } unknown[QCOW2_MAX_UNKNOWN];
    unsigned n_unknown;
};

/* buf: the first n bytes of the file, QCOW2_HEADER_BYTES or as many as it has;
 * child_size: of the file, or PLT_SIZE_UNKNOWN.  What this driver does not read
 * fails with PLT_UNSUPPORTED and its name. */
PLT_MUST_USE enum plt_status qcow2_header_parse(struct qcow2_header *out,
                                                const uint8_t *buf, size_t n,
                                                uint64_t child_size,
                                                struct plt_error *err);

#endif
