/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of manifest_export share with each other, and nobody else: a
 * buffered file that remembers its first failure. */
#ifndef MANIFEST_MANIFEST_EXPORT_OUT_H
#define MANIFEST_MANIFEST_EXPORT_OUT_H

#include <stddef.h>
#include <stdint.h>

#include <platter/error.h>

#include "manifest/manifest.h"

enum { EXPORT_BUFFER = 65536 };

struct export_out {
    int fd; /* borrowed */
    uint64_t off, most;
    struct plt_error err; /* status OK: none */
    size_t n;
    uint8_t buf[EXPORT_BUFFER];
};

void export_init(struct export_out *out, int fd, uint64_t most);
void export_bytes(struct export_out *out, const void *data, size_t len);
/* At most 1023 bytes of text. */
void export_print(struct export_out *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void export_flush(struct export_out *out);
/* Go on writing there. */
void export_seek(struct export_out *out, uint64_t off);
/* Of all of the file, in hexadecimal. */
void export_sha256(struct export_out *out, char hex[MANIFEST_HEX]);
enum plt_status export_status(const struct export_out *out,
                              struct plt_error *err);

/* manifest_caibx.c */
void caibx_head(struct export_out *out);
/* The chunk that ends there. */
void caibx_chunk(struct export_out *out, uint64_t end, const uint8_t *data,
                 size_t len);
void caibx_end(struct export_out *out, uint64_t size);

#endif
