/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves for tests of the store: of a number each, so that whoever knows the
 * number knows the bytes. */
#ifndef TESTS_STORE_LEAVES_H
#define TESTS_STORE_LEAVES_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

/* Every third one is random bytes, the others are text that compresses. */
void leaf_make(uint64_t number, uint8_t out[STORE_LEAF]);
void leaf_digest(const uint8_t leaf[STORE_LEAF], uint8_t out[STORE_DIGEST]);
/* leaf_make and leaf_digest of n in a row, from `first` on. */
void leaves_make(uint64_t first, size_t n, uint8_t *data,
                 uint8_t (*digests)[STORE_DIGEST]);

#endif
