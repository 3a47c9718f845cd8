/* SPDX-License-Identifier: Apache-2.0 */
/* Options of one layer: NAME=VALUE text, typed by the driver's own table.
 *
 * The core checks names and values against the table before open() is called,
 * so a driver reads them with the functions below and needs no error path.
 * Threads: read only. */
#ifndef PLATTER_OPTION_H
#define PLATTER_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum plt_option_type {
    PLT_OPTION_TEXT,  /* any bytes but NUL, at most 4096 */
    PLT_OPTION_BYTES, /* a number with an optional suffix b k M G T P E */
    PLT_OPTION_BOOL   /* on off yes no true false 1 0 */
};

/* One row of a driver's table; a row with name NULL ends it. */
struct plt_option {
    const char *name;
    enum plt_option_type type;
    const char *help; /* one phrase */
};

/* One option as given. */
struct plt_setting {
    const char *name;
    const char *value;
};

/* The value's text, borrowed; NULL when not set.  The last one counts. */
const char *plt_setting_text(const struct plt_setting *s, size_t n,
                             const char *name);
/* The value in bytes, or `otherwise` when not set. */
uint64_t plt_setting_bytes(const struct plt_setting *s, size_t n,
                           const char *name, uint64_t otherwise);
bool plt_setting_bool(const struct plt_setting *s, size_t n, const char *name,
                      bool otherwise);

/* Text to a number of bytes, with the suffixes that qemu-img takes (k, K, M, G,
 * T, P, E: powers of 1024; b or none: bytes).  False: malformed or overflow;
 * *out is then unchanged.  No sign, no space, no fraction. */
bool plt_parse_bytes(const char *text, uint64_t *out);
bool plt_parse_bool(const char *text, bool *out);

#ifdef __cplusplus
}
#endif
#endif
