/* SPDX-License-Identifier: Apache-2.0 */
/* In which line of a JSON text a value stands: jansson does not tell.  Pure;
 * threads: any. */
#ifndef GATEWAY_CONFIG_WHERE_H
#define GATEWAY_CONFIG_WHERE_H

#include <stddef.h>

/* text: JSON that has been parsed without an error.  path: keys from the root
 * on, as decoded, "[2]" for the third item of an array; n of them.  The line
 * (from 1) of the last key that is there; 0 when not even the first two are (or
 * the only one is not): then the value is not of this file. */
unsigned config_where(const char *text, const char *const *path, size_t n);

#endif
