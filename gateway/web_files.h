/* SPDX-License-Identifier: Apache-2.0 */
/* The files of web/, as they were at build (web/embed_web.cmake). */
#ifndef GATEWAY_WEB_FILES_H
#define GATEWAY_WEB_FILES_H

#include <stddef.h>

struct web_file {
    const char *name; /* its path in web/; NULL ends the table */
    const char *type; /* Content-Type */
    const char *hash; /* of the bytes: 32 hexadecimal digits */
    const unsigned char *plain;
    size_t plain_len;
    const unsigned char *packed; /* the same by gzip */
    size_t packed_len;
};

extern const struct web_file web_files[];

#endif
