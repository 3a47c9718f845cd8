/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/node_disk.h"

#include <string.h>

#include "cache/disk_cache.h"
#include "stack/stack.h"

/* Calls of drivers that this thread is in, and what the outermost one said. */
static _Thread_local unsigned depth;
static _Thread_local const struct plt_io *waiter;

void node_disk_enter(const struct plt_io *io)
{
    if (depth++ == 0)
        waiter = io && !(io->flags & PLT_IO_NOWAIT) ? io : NULL;
}

void node_disk_leave(void)
{
    depth--;
}

const struct plt_io *node_disk_waiter(void)
{
    return depth ? waiter : NULL;
}

static struct disk_cache *disk_of(const struct node *node)
{
    return stack_environment(node->stack)->disk;
}

static bool is_kept(const struct node *node)
{
    /* acquire: pairs with node_disk_named(); the id is there */
    return atomic_load_explicit(&node->is_on_disk, memory_order_acquire);
}

static bool is_dear(const struct node *node)
{
    return (node->child.flags & PLT_CHILD_REMOTE) ||
           (node->below && node->driver->kind == PLT_KIND_WRAPPER);
}

void node_disk_named(struct node *node)
{
    if (node->is_pinned && !node->is_secret && is_dear(node) &&
        disk_cache_admits(disk_of(node), node->id))
        atomic_store_explicit(&node->is_on_disk, true, memory_order_release);
}

void node_disk_changed(struct node *node)
{
    for (; node; node = node->below) {
        if (is_kept(node))
            disk_cache_changed(disk_of(node), node->id);
    }
}

static struct disk_name name_of(const struct node *node, uint64_t key)
{
    struct disk_name name = {.key = key};

    memcpy(name.id, node->id, sizeof(name.id));
    return name;
}

/* The block is ours to fill: from the disk? */
static bool fill(struct node *node, const struct disk_name *name,
                 struct plt_block *block)
{
    if (!disk_cache_get(disk_of(node), name, block->data, block->len))
        return false;
    cache_commit(stack_environment(node->stack)->cache, block);
    return true;
}

/* Who asks for nothing but a hit, and may wait: a driver that would do without
 * the cache otherwise. */
static enum plt_claim fetch(struct node *node, const struct disk_name *name,
                            size_t len, struct plt_block **block)
{
    static const struct plt_error gone = {.status = PLT_CANCELLED,
                                          .at = PLT_AT_NONE};
    struct cache *const cache = stack_environment(node->stack)->cache;

    if (!disk_cache_may_have(disk_of(node), name))
        return PLT_CLAIM_FULL;
    const enum plt_claim claim =
        cache_claim(cache, node->owner, name->key, len, false, block);
    if (claim == PLT_CLAIM_HIT ||
        (claim == PLT_CLAIM_FILL && fill(node, name, *block)))
        return PLT_CLAIM_HIT;
    /* Others may wait for it meanwhile: they claim again. */
    if (claim == PLT_CLAIM_FILL)
        cache_abandon(cache, *block, &gone);
    else if (claim == PLT_CLAIM_PENDING)
        cache_unref(cache, *block);
    *block = NULL;
    return PLT_CLAIM_FULL;
}

enum plt_claim node_disk_claim(struct node *node, uint64_t key, size_t len,
                               bool only_hit, enum plt_claim claim,
                               struct plt_block **block)
{
    if (!is_kept(node))
        return claim;
    const struct disk_name name = name_of(node, key);
    if (claim == PLT_CLAIM_HIT) {
        if (cache_block_is_kept(*block))
            disk_cache_again(disk_of(node), &name, *block);
        return claim;
    }
    if (!node_disk_waiter())
        return claim;
    if (claim == PLT_CLAIM_FILL && fill(node, &name, *block))
        return PLT_CLAIM_HIT;
    if (claim == PLT_CLAIM_FULL && only_hit)
        return fetch(node, &name, len, block);
    return claim;
}

void node_disk_commit(struct node *node, struct plt_block *block)
{
    if (!is_kept(node) || stack_has_changed(node->stack))
        return;
    const struct disk_name name = name_of(node, cache_block_key(block));
    disk_cache_offer(disk_of(node), &name, block);
}
