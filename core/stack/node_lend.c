/* SPDX-License-Identifier: Apache-2.0 */
/* The boundary to a driver, for bytes that are lent: what it hands on is
 * counted, and must lie in the block that it names. */
#include <platter/bytes.h>

#include "stack/node.h"

static _Thread_local bool is_peeking;

struct lending {
    struct cache *cache;
    plt_lend_fn *emit;
    void *cookie;
    uint64_t left;
};

static bool is_inside(const struct plt_block *block, const void *data,
                      size_t len)
{
    const uintptr_t from = (uintptr_t)block->data, at = (uintptr_t)data;

    return at >= from && plt_span_ok(at - from, len, block->len);
}

static bool pass_on(void *cookie, const void *data, size_t len,
                    struct plt_block *block)
{
    struct lending *const l = (struct lending *)cookie;
    const bool is_good =
        len && len <= l->left && (block ? is_inside(block, data, len) : !data);

    if (is_good) {
        l->left -= len;
        return l->emit(l->cookie, data, len, block);
    }
    if (block)
        cache_unref(l->cache, block);
    l->left = UINT64_MAX; /* never to be whole */
    return false;
}

enum plt_status node_lend(struct node *node, struct plt_io *io, uint64_t off,
                          uint64_t len, plt_lend_fn *emit, void *cookie)
{
    const uint64_t size = node_size(node);
    struct lending l = {.cache = stack_environment(node->stack)->cache,
                        .emit = emit,
                        .cookie = cookie,
                        .left = len};

    if (!node->driver->lend || !len ||
        node->driver->threads != PLT_CONCURRENT_READS ||
        !plt_span_ok(off, len, size != PLT_SIZE_UNKNOWN ? size : PLT_SIZE_MAX))
        return PLT_AGAIN;
    if (is_peeking) { /* nothing of it is counted, and nothing lent */
        (void)node->driver->lend(node->image, io, off, len, pass_on, &l);
        return PLT_AGAIN;
    }
    const struct metrics_span span = metrics_begin();
    const enum plt_status st =
        node->driver->lend(node->image, io, off, len, pass_on, &l);
    const bool is_whole = st == PLT_OK && l.left == 0;
    metrics_end(node->metrics, span, is_whole ? len : 0);
    return is_whole ? PLT_OK : PLT_AGAIN;
}

/* ---- Peeking ---- */

struct peek {
    struct cache *cache;
    bool is_there;
};

/* Seen, and that is all: a driver that is told to stop has lent nothing. */
static bool look(void *cookie, const void *data, size_t len,
                 struct plt_block *block)
{
    struct peek *const p = (struct peek *)cookie;

    (void)data;
    (void)len;
    if (block)
        cache_unref(p->cache, block);
    p->is_there = block != NULL;
    return false;
}

bool node_peek(struct node *node, struct plt_io *io, uint64_t off)
{
    struct peek p = {.cache = stack_environment(node->stack)->cache};

    is_peeking = true;
    const enum plt_status st = node_lend(node, io, off, 1, look, &p);
    is_peeking = false;
    return st == PLT_AGAIN && p.is_there;
}

bool node_is_peeking(void)
{
    return is_peeking;
}
