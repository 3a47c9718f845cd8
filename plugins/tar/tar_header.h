/* SPDX-License-Identifier: Apache-2.0 */
/* Tar headers, pure decoding: v7, POSIX ustar, GNU, PAX extended records.
 * After POSIX.1-2017 pax(1) and GNU tar's manual, "Basic Tar Format" and
 * "Storing Sparse Files".  Threads: any. */
#ifndef TAR_HEADER_H
#define TAR_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TAR_BLOCK = 512,
    TAR_MAX_NAME = 64 * 1024,       /* longer names are no file's */
    TAR_MAX_PAX = 32 * 1024 * 1024, /* a sparse map of a million pieces */
    TAR_MAX_SPARSE = 1 << 20,       /* pieces of one file */
    TAR_MAX_MEMBERS = 1 << 20
};

enum tar_kind { TAR_END, TAR_HEADER, TAR_BAD };

struct tar_piece {
    uint64_t off, len; /* of the file */
};

struct tar_block {
    char name[100 + 155 + 2]; /* prefix/name */
    char link[101];
    char type;
    bool is_gnu, is_ustar;
    uint64_t size; /* of what is stored behind the header */
    int64_t mtime;
    /* type 'S', old GNU sparse */
    uint64_t real_size;
    struct tar_piece pieces[4];
    unsigned n_pieces;
    bool is_extended;
};

/* One header block.  TAR_END: all zeros.  TAR_BAD: *why says (static text). */
enum tar_kind tar_block_parse(const uint8_t block[TAR_BLOCK],
                              struct tar_block *out, const char **why);
/* An extension header of an old GNU sparse file: up to 21 pieces. */
bool tar_extension_parse(const uint8_t block[TAR_BLOCK],
                         struct tar_piece pieces[21], unsigned *n,
                         bool *is_extended);

/* One PAX record at *at of text[0..len); moves *at behind it.  Key and value
 * are borrowed and not NUL-ended.  False: the end (*is_bad unset) or malformed.
 */
struct tar_record {
    const char *key, *value;
    size_t key_len, value_len;
};
bool tar_record_next(const uint8_t *text, size_t len, size_t *at,
                     struct tar_record *out, bool *is_bad);
/* Decimal digits only, at most UINT64_MAX. */
bool tar_decimal(const char *text, size_t len, uint64_t *out);

#endif
