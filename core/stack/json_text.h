/* SPDX-License-Identifier: Apache-2.0 */
/* Texts out of json_dumps.  They belong to jansson's allocator, which a program
 * may have replaced by one that counts: free(3) would pass it by. */
#ifndef STACK_JSON_TEXT_H
#define STACK_JSON_TEXT_H

#include <jansson.h>

/* NULL is good. */
static inline void json_text_free(void *text)
{
    json_malloc_t unused;
    json_free_t release;

    json_get_alloc_funcs(&unused, &release);
    release(text);
}

static inline void json_text_clean(char **text)
{
    json_text_free(*text);
}
/* char *text = json_dumps(...); freed at the end of the block. */
#define AUTO_JSON_TEXT __attribute__((cleanup(json_text_clean)))

#endif
