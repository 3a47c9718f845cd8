/* SPDX-License-Identifier: Apache-2.0 */
/* The compressed units of image files: what a driver decodes at a time. */
#ifndef DECODERS_UNITS_H
#define DECODERS_UNITS_H

#include <stddef.h>
#include <stdint.h>

enum { UNIT_MAX = 1 << 16 }; /* bytes that one decodes to, at most */

enum coding {
    RAW_DEFLATE, /* RFC 1951 */
    ZLIB,        /* RFC 1950, with its Adler-32 */
};

struct unit {
    const uint8_t *in;
    size_t in_len;
    size_t out_len; /* bytes that it decodes to; at most UNIT_MAX */
};

struct units {
    enum coding coding;
    uint8_t *file; /* what the units point into */
    size_t file_len;
    struct unit *unit;
    size_t n, room;
    uint64_t out; /* bytes of all */
};

/* Each loads DIR/NAME whole and finds its units; ends the program with what is
 * wrong when the file cannot be read or has none.  Files are those of
 * make_data: of a form that is known, so nothing but bounds is checked. */
void units_bgzf(struct units *u, const char *dir, const char *name);
void units_dictzip(struct units *u, const char *dir, const char *name);
void units_qcow2(struct units *u, const char *dir, const char *name);
void units_vmdk(struct units *u, const char *dir, const char *name);

void units_free(struct units *u);

/* A file whole; steals nothing, gives new memory with 16 bytes behind it. */
uint8_t *load_file(const char *path, size_t *len);

_Noreturn void decoders_die(const char *what, const char *detail);

#endif
