/* SPDX-License-Identifier: Apache-2.0 */
/* One extent: a stretch of the disk in one file.  Three kinds of sparse ones
 * (hosted "KDMV", COWD, seSparse) become the same here: a directory of tables
 * of grains.
 *
 * Words: a *grain* is the unit of allocation, a *grain table* (GT) maps some
 * hundred grains, the *grain directory* (GD) points to the tables. */
#ifndef VMDK_EXTENT_H
#define VMDK_EXTENT_H

#include <stdatomic.h>

#include <platter/blockset.h>

#include "vmdk_descriptor.h"

enum {
    VMDK_SECTOR = 512,
    VMDK_HEAD = 64 * 1024,        /* of a file: header and descriptor */
    VMDK_MAX_GRAIN = 2 << 20,     /* bytes: what a block of the cache holds;
                                     64 KiB are usual */
    VMDK_MAX_GTES = 4096,         /* entries of a grain table */
    VMDK_MAX_DIRECTORY = 32 << 20 /* bytes */
};

enum vmdk_form { VMDK_HOSTED, VMDK_COWD, VMDK_SE };

/* The header of a sparse file, whichever it is. */
struct vmdk_header {
    enum vmdk_form form;
    uint32_t version;
    uint64_t capacity; /* bytes of the disk; 0: only a descriptor is here */
    uint64_t grain;    /* bytes */
    uint32_t gtes;     /* entries of a grain table */
    uint64_t gd, rgd; /* byte offset; UINT64_MAX: none.  rgd: the second copy */
    uint64_t gd_count;                       /* entries */
    uint64_t descriptor_off, descriptor_len; /* bytes; 0: none */
    uint64_t overhead; /* bytes in front of the first grain */
    bool is_compressed, has_markers, has_zero_grains, is_unclean;
    bool is_at_end;                /* gd is told by the footer */
    uint64_t tables_off, data_off; /* seSparse: bytes */
    uint64_t volatile_off;         /* seSparse: its second header */
};

/* The file begins as a sparse one. */
bool vmdk_is_sparse(const uint8_t *head, size_t n);
/* head: the first n bytes of the file, VMDK_HEAD or as many as it has. */
PLT_MUST_USE enum plt_status vmdk_header_parse(struct vmdk_header *out,
                                               const uint8_t *head, size_t n,
                                               struct plt_error *err);
/* The last three sectors of a stream: footer marker, footer, end of stream. */
PLT_MUST_USE enum plt_status vmdk_footer_parse(struct vmdk_header *out,
                                               const uint8_t *tail,
                                               struct plt_error *err);

struct vmdk_extent {
    uint64_t start, len; /* bytes of the disk */
    enum vmdk_type type;
    bool is_closed;          /* NOACCESS */
    struct plt_child *child; /* NULL: zero, or closed */
    _Atomic uint64_t size;   /* of the file, PLT_SIZE_MAX: not known */
    uint64_t off;            /* flat: where it begins */
    unsigned no;
    struct vmdk_header header; /* sparse */
    uint64_t *gd;              /* byte offsets of grain tables; 0: none */
    const char *word; /* what the descriptor calls its type; "": nothing */
    char *name;       /* as written; NULL: the file itself */
    bool uses_second_directory;
    uint8_t **walked; /* tables made by walking the stream, or NULL */
};

enum vmdk_kind { VMDK_ABSENT, VMDK_ZEROS, VMDK_DATA, VMDK_PACKED };

struct vmdk_piece {
    enum vmdk_kind kind;
    uint64_t len;   /* bytes of the disk, at least 1 */
    uint64_t host;  /* data, packed: byte offset in the extent's file */
    uint64_t grain; /* its number in the extent */
};

struct vmdk;

/* Load the directory of a sparse extent whose header is parsed. */
PLT_MUST_USE enum plt_status vmdk_directory_load(struct vmdk *v,
                                                 struct vmdk_extent *e,
                                                 struct plt_io *io,
                                                 struct plt_error *err);

/* Hold the grain tables that map the n segments (offsets in the extent). */
PLT_MUST_USE enum plt_status
vmdk_tables_fetch(struct vmdk *v, struct vmdk_extent *e, struct plt_io *io,
                  const struct plt_seg *segs, size_t n, struct plt_set *tables,
                  struct plt_error *err);
/* What lies at off of the extent, at most len bytes of it. */
PLT_MUST_USE enum plt_status vmdk_map(const struct vmdk_extent *e,
                                      const struct plt_set *tables,
                                      uint64_t off, uint64_t len,
                                      struct vmdk_piece *piece,
                                      struct plt_error *err);

/* Keys of the cache: 4 bits of kind, 12 of extent, 48 of number. */
enum vmdk_space { VMDK_OF_TABLE = 1, VMDK_OF_GRAIN = 2 };
static inline uint64_t vmdk_key(enum vmdk_space space,
                                const struct vmdk_extent *e, uint64_t n)
{
    return (uint64_t)space << 60 | (uint64_t)e->no << 48 | n;
}

/* How many bytes a compressed grain takes at most, its marker included. */
static inline uint64_t vmdk_packed_max(const struct vmdk_header *h)
{
    return h->grain + h->grain / 64 + 1024;
}

/* The stream has no directory: read it through once, and make the tables of the
 * markers that its grains have. */
PLT_MUST_USE enum plt_status vmdk_walk(struct vmdk *v, struct vmdk_extent *e,
                                       struct plt_io *io,
                                       struct plt_error *err);

/* cookie: the extent */
extern const struct plt_decoding vmdk_marked_decoding, vmdk_bare_decoding;

#endif
