/* SPDX-License-Identifier: Apache-2.0 */
/* Which references have given which root, so that a block that is asked for by
 * its root finds an image: MANIFEST_ROOTS rows, the last used first, kept in
 * roots.json of a folder.  What is read there goes through the same parser as
 * what a client names.
 * Threads: any. */
#ifndef MANIFEST_MANIFEST_ROOTS_H
#define MANIFEST_MANIFEST_ROOTS_H

#include "manifest/manifest.h"
#include "stack/reference.h"
#include "util/check.h"

enum { MANIFEST_ROOTS = 1024 };

struct manifest_roots;

/* dir: a descriptor, borrowed, or -1: in memory alone.  A file that is damaged
 * is none, and is logged.  new; NULL without memory. */
MAY_WAIT struct manifest_roots *manifest_roots_new(int dir);
void manifest_roots_free(struct manifest_roots *roots); /* NULL is fine */

/* This reference has this root now.  What cannot be written is logged, and
 * known until the end of the process. */
MAY_WAIT void manifest_roots_add(struct manifest_roots *roots,
                                 const manifest_digest root,
                                 const struct reference *reference);
/* Has it given this root before: it is the last used then.  Does not wait. */
bool manifest_roots_use(struct manifest_roots *roots,
                        const manifest_digest root,
                        const struct reference *reference);
/* Copies of the references of a root, the last used first: how many; out has
 * room for most.  Each is to be released.  Does not wait. */
size_t manifest_roots_find(struct manifest_roots *roots,
                           const manifest_digest root, struct reference *out,
                           size_t most);

#endif
