/* SPDX-License-Identifier: Apache-2.0 */
/* A text that many hold: counted, and never changed.  Threads: any. */
#ifndef MANIFEST_MANIFEST_TEXT_H
#define MANIFEST_MANIFEST_TEXT_H

#include <stdatomic.h>
#include <stddef.h>

struct manifest_text {
    _Atomic unsigned refs;
    size_t len;  /* bytes, without the NUL behind them */
    char text[]; /* len + 1 */
};

/* len bytes and a NUL, to be filled by its maker; new, NULL without memory. */
struct manifest_text *manifest_text_new(size_t len);
void manifest_text_ref(struct manifest_text *text);
void manifest_text_unref(struct manifest_text *text); /* NULL is fine */

#endif
