/* SPDX-License-Identifier: Apache-2.0 */
/* In which line of a JSON text something stands: jansson tells that of syntax
 * errors alone.
 *
 * The text is one that jansson has taken, and ends in NUL; what it has not
 * taken gives lines of no meaning, but is never read past its end.  Lines count
 * from 1, at each newline.  Keys are compared as decoded: "\u0061" is "a".
 * Pure; threads: any. */
#ifndef GATEWAY_CONFIG_WHERE_H
#define GATEWAY_CONFIG_WHERE_H

#include <stdbool.h>
#include <stddef.h>

enum { CONFIG_WHERE_DEPTH = 8 }; /* keys in a path, at most */

/* path: n keys from the root on, as decoded; of an array, "[2]" is its third
 * item.  The line in which the last key of it that is there begins, or the
 * item; 1 when not even the first one is.  Of a key given twice, the last one:
 * its value is the one that jansson keeps. */
unsigned config_where(const char *text, const char *const *path, size_t n);

/* path: n keys, the last one given in `line` and before that in `first`; all of
 * it borrowed until the call returns. */
typedef void config_twice_fn(void *cookie, const char *const *path, size_t n,
                             unsigned line, unsigned first);

/* Tell every key that its object has already; objects nested deeper than
 * CONFIG_WHERE_DEPTH are not looked at.  False: no memory, some may be
 * missing. */
bool config_where_twice(const char *text, config_twice_fn *tell, void *cookie);

#endif
