/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_text.h"

#include <stdlib.h>

struct manifest_text *manifest_text_new(size_t len)
{
    struct manifest_text *const t = malloc(sizeof(*t) + len + 1);

    if (!t)
        return NULL;
    atomic_init(&t->refs, 1);
    t->len = len;
    t->text[len] = '\0';
    return t;
}

void manifest_text_ref(struct manifest_text *t)
{
    (void)atomic_fetch_add(&t->refs, 1);
}

void manifest_text_unref(struct manifest_text *t)
{
    if (t && atomic_fetch_sub(&t->refs, 1) == 1)
        free(t);
}
