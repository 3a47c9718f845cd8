/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/json_memory.h"

#include <stdlib.h>

#include <jansson.h>

static _Thread_local uint64_t lost;

static void *take(size_t bytes)
{
    void *const p = malloc(bytes);

    lost += !p;
    return p;
}

void json_memory_watch(void)
{
    json_set_alloc_funcs(take, free);
}

uint64_t json_memory_lost(void)
{
    return lost;
}
