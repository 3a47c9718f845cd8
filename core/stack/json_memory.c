/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/json_memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "util/check.h"
#include "util/lock.h"

/* What a parser gets when there is no memory, until it has come to the end of
 * what it has read: at most 1 KiB of text, the token in hand twice over, and a
 * table of the object in hand.  Not touched, it costs nothing. */
enum { RESERVE = 2 << 20 };

static _Alignas(max_align_t) unsigned char reserve[RESERVE];
static size_t used; /* of it; the holder's */
static pthread_mutex_t holder = PTHREAD_MUTEX_INITIALIZER;

static _Thread_local uint64_t lost;
static _Thread_local bool is_parsing, holds_reserve;

static json_memory_take *count_take;
static json_memory_give *count_give;

/* NULL: no memory, or none that is allowed. */
static void *counted(size_t bytes)
{
    void *const p = malloc(bytes);

    if (!p || !count_take || count_take(malloc_usable_size(p)))
        return p;
    free(p);
    return NULL;
}

static void *take(size_t bytes)
{
    void *const p = counted(bytes);

    if (p)
        return p;
    lost++;
    if (!is_parsing)
        return NULL;
    if (!holds_reserve)
        (void)pthread_mutex_lock(&holder);
    holds_reserve = true;
    const size_t step = _Alignof(max_align_t);
    const size_t at = used;
    /* Better than what jansson would do to the memory of others. */
    ASSERT(bytes < RESERVE - at - step);
    used = (at + bytes + step - 1) / step * step;
    return reserve + at;
}

static void give(void *p)
{
    const unsigned char *const c = (const unsigned char *)p;

    if (!p || (c >= reserve && c < reserve + RESERVE))
        return;
    if (count_give)
        count_give(malloc_usable_size(p));
    free(p);
}

void json_memory_count(json_memory_take *take_fn, json_memory_give *give_fn)
{
    count_take = take_fn;
    count_give = give_fn;
}

void json_memory_watch(void)
{
    json_set_alloc_funcs(take, give);
}

uint64_t json_memory_lost(void)
{
    return lost;
}

struct source {
    const char *text;
    size_t len;
    uint64_t lost; /* before */
};

/* No more text for who has no memory for it. */
static size_t read_more(void *buffer, size_t len, void *cookie)
{
    struct source *const s = (struct source *)cookie;
    const size_t n = s->len < len ? s->len : len;

    if (lost != s->lost)
        return (size_t)-1;
    if (n)
        memcpy(buffer, s->text, n);
    s->text += n;
    s->len -= n;
    return n;
}

json_t *json_memory_parse(const char *text, size_t len, size_t flags,
                          json_error_t *why)
{
    struct source s = {.text = text, .len = len, .lost = lost};

    is_parsing = true;
    json_t *value = json_load_callback(read_more, &s, flags, why);
    is_parsing = false;
    if (lost != s.lost) {
        json_decref(value);
        value = NULL;
    }
    if (holds_reserve) {
        used = 0;
        holds_reserve = false;
        (void)pthread_mutex_unlock(&holder);
    }
    return value;
}
