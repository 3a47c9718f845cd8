/* SPDX-License-Identifier: Apache-2.0 */
/* The decoded-block cache: one budget for the process, many layers.
 *
 * A block is (owner, key) -> bytes of a fixed length.  The owner is a number
 * that one open layer has for itself, never reused.  A claim either hits, or
 * makes the caller the one who fills (single flight), or says that somebody
 * else is filling. Blocks are counted: one that is held is never evicted or
 * changed, so answers can be sent from it without a copy.
 *
 * Sharded by a seeded hash, one lock per shard; no lock is held across a call
 * out.  Replacement resists scans: a new block enters a probation list, and is
 * promoted to the protected list when it is hit a second time later than its
 * first burst; probation is evicted first (segmented LRU).  The budget counts
 * data plus bookkeeping of all resident blocks and all mem_take() reservations.
 * Held blocks count and cannot be evicted: when nothing can be evicted a claim
 * answers FULL rather than exceed the budget.
 *
 * Buffers of evicted blocks are reused for blocks of the same length where that
 * is easy: fresh memory costs page faults.
 * Threads: any. */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <platter/driver.h>

struct cache;

struct cache_stats {
    uint64_t budget, bytes, reserved, blocks;     /* now */
    uint64_t lent;                                /* now */
    uint64_t hits, fills, waits, full, evictions; /* since the start */
};

/* budget in bytes.  new; NULL without memory. */
struct cache *cache_new(uint64_t budget);
/* Every block must have been released. */
void cache_free(struct cache *cache);

/* The contracts are those of struct plt_host's block_*; owner comes first. */
enum plt_claim cache_claim(struct cache *cache, uint64_t owner, uint64_t key,
                           size_t len, bool only_hit, struct plt_block **block);
/* Is it there, and filled?  A claim with only_hit that nobody made: no block
 * becomes the newer or is promoted for it, and nothing is counted.  True:
 * *block is held. */
bool cache_peek(struct cache *cache, uint64_t owner, uint64_t key, size_t len,
                struct plt_block **block);
void cache_commit(struct cache *cache, struct plt_block *block);
void cache_abandon(struct cache *cache, struct plt_block *block,
                   const struct plt_error *err);
enum plt_status cache_wait(struct cache *cache, struct plt_block *block,
                           struct plt_io *io, struct plt_error *err);
void cache_unref(struct cache *cache, struct plt_block *block);
/* One reference more to a block that is held. */
void cache_ref(struct cache *cache, struct plt_block *block);
/* Of a block that is held: its key; and whether it has been hit later than its
 * first burst, so that it is one that is asked for again and again. */
uint64_t cache_block_key(const struct plt_block *block);
bool cache_block_is_kept(const struct plt_block *block);

/* Forget every block of a layer that closes (all released but for answers still
 * being sent, which keep theirs until cache_unref). */
void cache_drop_owner(struct cache *cache, uint64_t owner);

/* Call fn for every block that is filled, with a lock held: fn computes and
 * calls nothing here. */
void cache_visit(struct cache *cache,
                 void (*fn)(void *cookie, uint64_t owner, size_t len),
                 void *cookie);

/* Reservations for memory that lives outside blocks, in the same budget: at
 * most half of it in sum.  Evicts blocks to make room; false: no room. */
bool cache_mem_take(struct cache *cache, uint64_t bytes);
/* Could there ever be room for so much? */
bool cache_mem_fits(const struct cache *cache, uint64_t bytes);
void cache_mem_give(struct cache *cache, uint64_t bytes);
/* More than half of what may be taken is: time to close what nobody uses. */
bool cache_is_tight(const struct cache *cache);

/* Before a block is held for as long as a client takes to read from it: its
 * length, out of the eighth of the budget that may be lent so.  A block that is
 * lent twice counts twice.  False: enough is lent. */
bool cache_loan_take(struct cache *cache, uint64_t bytes);
void cache_loan_give(struct cache *cache, uint64_t bytes);

void cache_stats(struct cache *cache, struct cache_stats *out);

#endif
