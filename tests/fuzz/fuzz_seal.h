/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of the formats, made right after bytes were changed: no mutation
 * gets past them by itself. */
#ifndef TESTS_FUZZ_SEAL_H
#define TESTS_FUZZ_SEAL_H

#include <stddef.h>
#include <stdint.h>

/* Those of tar headers, of both copies of a GPT and of gzip members that can be
 * decoded, of whatever of these data holds. */
void seal(uint8_t *data, size_t size);

/* The first gzip member of data decoded, at most cap bytes into out; 0: it is
 * none.  *used: its length in data. */
size_t seal_unzip(const uint8_t *data, size_t size, uint8_t *out, size_t cap,
                  size_t *used);
/* A gzip member of data, the level 0 to 9; 0: longer than cap. */
size_t seal_zip(const uint8_t *data, size_t size, uint8_t *out, size_t cap,
                int level);
/* A tar with one member of that name and the end's two blocks; 0: longer than
 * cap. */
size_t seal_tar(const char *name, const uint8_t *data, size_t size,
                uint8_t *out, size_t cap);

#endif
