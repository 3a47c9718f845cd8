/* SPDX-License-Identifier: Apache-2.0 */
/* Sharded segmented LRU with single flight.
 *
 *   claim -> [FILLING] --commit--> [FILLED] in probation --hit later-->
 * protected
 *                \--abandon--> [FAILED], out of the table at once
 *
 * A block's life is its reference count plus one while it is in the table.  The
 * budget is one atomic sum: a claim adds to it first and evicts until it fits,
 * from its own shard and then from the others, one lock at a time. */
#include "cache/cache.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/check.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    N_SHARDS = 16,
    N_BUCKETS = 4096,      /* per shard: 64 Ki blocks of 64 KiB are 4 GiB */
    OVERHEAD = 256,        /* bookkeeping charged for a block */
    SPARE_MIN = 64 * 1024, /* freed buffers from this length on are kept for the
                              next block of that length: fresh memory costs a
                              page fault for each 4 KiB */
    SPARE_MAX = 8,         /* of them in a shard */
    BURST_MS =
        200 /* hits this soon after filling are one burst, not a return */
};

enum block_state { FILLING, FILLED, FAILED };

struct entry {
    struct plt_block block;      /* first */
    struct entry *next;          /* in the bucket */
    struct entry *newer, *older; /* in a list; held ones stay in it */
    uint64_t owner, key;
    uint64_t born_ns;
    unsigned refs;
    enum block_state state;
    bool is_listed;
    atomic_bool is_protected; /* changed under the lock; read by any holder */
    struct plt_error err;
};

struct list {
    struct entry *newest, *oldest;
    uint64_t bytes;
};

struct shard {
    struct lock lock;
    struct cond changed; /* a block left FILLING */
    struct entry *buckets[N_BUCKETS];
    struct list probation, protected;
    uint8_t *spare[SPARE_MAX];
    size_t spare_len[SPARE_MAX];
    unsigned n_spare;
    uint64_t hits, fills, waits, full, evictions, n_blocks;
};

struct cache {
    uint64_t budget;
    _Atomic uint64_t used;     /* blocks, bookkeeping, spares, reservations */
    _Atomic uint64_t reserved; /* mem_take */
    _Atomic uint64_t lent;     /* counted in used as any block */
    uint64_t seed;
    struct shard shards[N_SHARDS];
};

struct cache *cache_new(uint64_t budget)
{
    struct cache *const c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->budget = budget;
    c->seed = clock_now() * UINT64_C(0x9e3779b97f4a7c15) ^ (uintptr_t)c;
    for (size_t i = 0; i < N_SHARDS; i++) {
        lock_init(&c->shards[i].lock);
        cond_init(&c->shards[i].changed);
    }
    return c;
}

static uint64_t mix(const struct cache *c, uint64_t owner, uint64_t key)
{
    uint64_t h = key ^ owner * UINT64_C(0x9e3779b97f4a7c15) ^ c->seed;
    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 31;
}

static struct shard *shard_of(struct cache *c, uint64_t owner, uint64_t key)
{
    return &c->shards[mix(c, owner, key) % N_SHARDS];
}

static struct entry **bucket_of(struct cache *c, struct shard *s,
                                uint64_t owner, uint64_t key)
{
    return &s->buckets[mix(c, owner, key) / N_SHARDS % N_BUCKETS];
}

/* ---- Lists ---- */

static void list_add(struct list *l, struct entry *e)
{
    e->newer = NULL;
    e->older = l->newest;
    if (l->newest)
        l->newest->newer = e;
    else
        l->oldest = e;
    l->newest = e;
    l->bytes += e->block.len;
}

static void list_remove(struct list *l, struct entry *e)
{
    *(e->newer ? &e->newer->older : &l->newest) = e->older;
    *(e->older ? &e->older->newer : &l->oldest) = e->newer;
    l->bytes -= e->block.len;
}

static struct list *list_of(struct shard *s, const struct entry *e)
{
    return e->is_protected ? &s->protected : &s->probation;
}

/* ---- Memory ---- */

/* Large blocks are mapped: the heap has an arena for each few threads, and what
 * is evicted in one is of no use to a block that another thread fills.  400
 * gzip images looked into once held 520 MB for a budget of 256, and 300 with
 * this. Neighbours are one mapping to the kernel.  A sanitizer watches the
 * heap. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { IS_MAPPED = 0 };
#else
enum { IS_MAPPED = 1 };
#endif

static uint8_t *buffer_new(size_t len)
{
    if (!IS_MAPPED || len < SPARE_MIN)
        return malloc(len);
    void *const p = mmap(NULL, len, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void buffer_free(uint8_t *data, size_t len)
{
    if (!IS_MAPPED || len < SPARE_MIN)
        free(data);
    else if (data && munmap(data, len) != 0)
        /* It lies between others, and the kernel keeps no more mappings: the
         * pages go back all the same, only the addresses stay taken. */
        (void)madvise(data, len, MADV_DONTNEED);
}

static uint8_t *take_buffer_locked(struct cache *c, struct shard *s, size_t len)
{
    for (unsigned i = 0; i < s->n_spare; i++) {
        if (s->spare_len[i] == len) {
            uint8_t *const data = s->spare[i];
            s->n_spare--;
            s->spare[i] = s->spare[s->n_spare];
            s->spare_len[i] = s->spare_len[s->n_spare];
            (void)atomic_fetch_sub(&c->used, len);
            return data;
        }
    }
    return NULL;
}

static void free_entry_locked(struct cache *c, struct shard *s, struct entry *e)
{
    const size_t len = e->block.len;

    (void)atomic_fetch_sub(&c->used, len + OVERHEAD);
    if (len >= SPARE_MIN && s->n_spare < SPARE_MAX) {
        s->spare[s->n_spare] = e->block.data;
        s->spare_len[s->n_spare++] = len;
        (void)atomic_fetch_add(&c->used, len);
    } else {
        buffer_free(e->block.data, len);
    }
    s->n_blocks--;
    free(e);
}

/* Out of the table; freed now, or when its last holder lets go. */
static void unlist_locked(struct cache *c, struct shard *s, struct entry *e)
{
    struct entry **p = bucket_of(c, s, e->owner, e->key);

    while (*p != e)
        p = &(*p)->next;
    *p = e->next;
    list_remove(list_of(s, e), e);
    e->is_listed = false;
    if (!e->refs)
        free_entry_locked(c, s, e);
}

static void drop_spares_locked(struct cache *c, struct shard *s)
{
    while (s->n_spare) {
        s->n_spare--;
        (void)atomic_fetch_sub(&c->used, s->spare_len[s->n_spare]);
        buffer_free(s->spare[s->n_spare], s->spare_len[s->n_spare]);
    }
}

/* Evict one block that nobody holds: probation first, oldest first. */
static bool evict_one_locked(struct cache *c, struct shard *s)
{
    struct list *const lists[] = {&s->probation, &s->protected};

    for (size_t i = 0; i < 2; i++) {
        for (struct entry *e = lists[i]->oldest; e; e = e->newer) {
            if (!e->refs && e->state == FILLED) {
                s->evictions++;
                unlist_locked(c, s, e);
                return true;
            }
        }
    }
    return false;
}

static bool fits(struct cache *c)
{
    return atomic_load(&c->used) <= c->budget;
}

/* Evict in one shard until the sum fits.  A spare of the length wanted is worth
 * more than a block, so spares go last. */
static void trim_locked(struct cache *c, struct shard *s)
{
    while (!fits(c) && evict_one_locked(c, s))
        ;
    if (!fits(c))
        drop_spares_locked(c, s);
}

/* Room made everywhere, no lock held on entry. */
static bool make_room(struct cache *c, const struct shard *first)
{
    const size_t start = first ? (size_t)(first - c->shards) : 0;

    for (size_t i = 0; i < N_SHARDS && !fits(c); i++) {
        struct shard *const s = &c->shards[(start + i) % N_SHARDS];
        lock_take(&s->lock);
        trim_locked(c, s);
        lock_give(&s->lock);
    }
    return fits(c);
}

void cache_free(struct cache *c)
{
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct shard *const s = &c->shards[i];
        lock_take(&s->lock);
        while (evict_one_locked(c, s))
            ;
        drop_spares_locked(c, s);
        ASSERT(s->n_blocks == 0);
        lock_give(&s->lock);
        cond_release(&s->changed);
        lock_release(&s->lock);
    }
    free(c);
}

/* ---- Claims ---- */

static struct entry *find_locked(struct cache *c, struct shard *s,
                                 uint64_t owner, uint64_t key)
{
    struct entry *e = *bucket_of(c, s, owner, key);
    while (e && (e->key != key || e->owner != owner))
        e = e->next;
    return e;
}

/* A hit that comes later than the first burst makes a block worth keeping. */
static void touch_locked(struct shard *s, struct entry *e)
{
    if (e->is_protected) {
        if (s->protected.newest != e) {
            list_remove(&s->protected, e);
            list_add(&s->protected, e);
        }
        return;
    }
    if (clock_now() - e->born_ns < BURST_MS * NS_PER_MS)
        return;
    list_remove(&s->probation, e);
    e->is_protected = true;
    list_add(&s->protected, e);
    /* Protected blocks take at most four fifths: the rest is for new ones. */
    while (s->protected.bytes > 4 * (s->probation.bytes + e->block.len) &&
           s->protected.oldest != e) {
        struct entry *const old = s->protected.oldest;
        list_remove(&s->protected, old);
        old->is_protected = false;
        list_add(&s->probation, old);
    }
}

static enum plt_claim found_locked(struct shard *s, struct entry *e,
                                   bool only_hit, struct plt_block **block)
{
    if (e->state != FILLED && only_hit)
        return PLT_CLAIM_FULL;
    e->refs++;
    *block = &e->block;
    if (e->state != FILLED) {
        s->waits++;
        return PLT_CLAIM_PENDING;
    }
    s->hits++;
    touch_locked(s, e);
    return PLT_CLAIM_HIT;
}

enum plt_claim cache_claim(struct cache *c, uint64_t owner, uint64_t key,
                           size_t len, bool only_hit, struct plt_block **block)
{
    struct shard *const s = shard_of(c, owner, key);
    enum plt_claim result = PLT_CLAIM_FULL;

    *block = NULL;
    lock_take(&s->lock);
    struct entry *e = find_locked(c, s, owner, key);
    if (e && e->block.len != len) {
        lock_give(&s->lock);
        return PLT_CLAIM_FULL; /* the layer broke its word on lengths */
    }
    if (e || only_hit) {
        if (e)
            result = found_locked(s, e, only_hit, block);
        lock_give(&s->lock);
        return result;
    }
    (void)atomic_fetch_add(&c->used, len + OVERHEAD);
    trim_locked(c, s);
    uint8_t *data = take_buffer_locked(c, s, len);
    lock_give(&s->lock);
    const bool is_fitting = make_room(c, s);
    if (is_fitting && !data)
        data = buffer_new(len);
    struct entry *const fresh =
        is_fitting && data ? calloc(1, sizeof(*fresh)) : NULL;
    lock_take(&s->lock);
    e = find_locked(c, s, owner, key); /* the lock was open for a while */
    if (e || !fresh) {
        (void)atomic_fetch_sub(&c->used, len + OVERHEAD);
        if (e && e->block.len == len)
            result = found_locked(s, e, false, block);
        else
            s->full++;
        lock_give(&s->lock);
        free(fresh);
        buffer_free(data, len);
        return result;
    }
    fresh->block = (struct plt_block){.data = data, .len = len};
    fresh->owner = owner;
    fresh->key = key;
    fresh->refs = 1;
    fresh->state = FILLING;
    fresh->is_listed = true;
    struct entry **const bucket = bucket_of(c, s, owner, key);
    fresh->next = *bucket;
    *bucket = fresh;
    list_add(&s->probation, fresh);
    s->n_blocks++;
    s->fills++;
    lock_give(&s->lock);
    *block = &fresh->block;
    return PLT_CLAIM_FILL;
}

bool cache_peek(struct cache *c, uint64_t owner, uint64_t key, size_t len,
                struct plt_block **block)
{
    struct shard *const s = shard_of(c, owner, key);

    *block = NULL;
    lock_take(&s->lock);
    struct entry *const e = find_locked(c, s, owner, key);
    if (e && e->state == FILLED && e->block.len == len) {
        e->refs++;
        *block = &e->block;
    }
    lock_give(&s->lock);
    return *block != NULL;
}

static struct shard *shard_of_block(struct cache *c, struct plt_block *block)
{
    const struct entry *const e = (const struct entry *)block;
    return shard_of(c, e->owner, e->key);
}

static void unref_locked(struct cache *c, struct shard *s, struct entry *e)
{
    ASSERT(e->refs > 0);
    if (--e->refs == 0 && !e->is_listed)
        free_entry_locked(c, s, e);
}

void cache_commit(struct cache *c, struct plt_block *block)
{
    struct entry *const e = (struct entry *)block;
    struct shard *const s = shard_of_block(c, block);

    lock_take(&s->lock);
    ASSERT(e->state == FILLING);
    e->state = FILLED;
    e->born_ns = clock_now();
    cond_wake_all(&s->changed);
    lock_give(&s->lock);
}

void cache_abandon(struct cache *c, struct plt_block *block,
                   const struct plt_error *err)
{
    struct entry *const e = (struct entry *)block;
    struct shard *const s = shard_of_block(c, block);

    lock_take(&s->lock);
    ASSERT(e->state == FILLING);
    e->state = FAILED;
    e->err = *err;
    if (e->is_listed)
        unlist_locked(c, s, e);
    cond_wake_all(&s->changed);
    unref_locked(c, s, e);
    lock_give(&s->lock);
}

enum plt_status cache_wait(struct cache *c, struct plt_block *block,
                           struct plt_io *io, struct plt_error *err)
{
    struct entry *const e = (struct entry *)block;
    struct shard *const s = shard_of_block(c, block);
    enum plt_status st = PLT_OK;

    lock_take(&s->lock);
    while (e->state == FILLING && st == PLT_OK) {
        const uint64_t slice = clock_after_ms(100);
        (void)cond_wait(&s->changed, &s->lock,
                        slice < io->deadline_ns ? slice : io->deadline_ns);
        if (e->state != FILLING)
            break;
        if (io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
        else if (clock_now() >= io->deadline_ns)
            st = plt_fail(err, PLT_TIMEOUT, "a block was not ready in time");
    }
    if (st == PLT_OK && e->state == FAILED) {
        *err = e->err;
        st = err->status;
        if (st == PLT_CANCELLED || st == PLT_TIMEOUT)
            st = err->status = PLT_AGAIN;
    }
    if (st != PLT_OK)
        unref_locked(c, s, e);
    lock_give(&s->lock);
    return st;
}

void cache_unref(struct cache *c, struct plt_block *block)
{
    struct shard *const s = shard_of_block(c, block);

    lock_take(&s->lock);
    unref_locked(c, s, (struct entry *)block);
    lock_give(&s->lock);
}

void cache_ref(struct cache *c, struct plt_block *block)
{
    struct shard *const s = shard_of_block(c, block);

    lock_take(&s->lock);
    ASSERT(((struct entry *)block)->refs > 0);
    ((struct entry *)block)->refs++;
    lock_give(&s->lock);
}

uint64_t cache_block_key(const struct plt_block *block)
{
    return ((const struct entry *)block)->key;
}

bool cache_block_is_kept(const struct plt_block *block)
{
    return atomic_load_explicit(&((const struct entry *)block)->is_protected,
                                memory_order_relaxed);
}

void cache_drop_owner(struct cache *c, uint64_t owner)
{
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct shard *const s = &c->shards[i];
        lock_take(&s->lock);
        struct list *const lists[] = {&s->probation, &s->protected};
        for (size_t k = 0; k < 2; k++) {
            struct entry *e = lists[k]->oldest;
            while (e) {
                struct entry *const newer = e->newer;
                if (e->owner == owner && e->state == FILLED)
                    unlist_locked(c, s, e);
                e = newer;
            }
        }
        lock_give(&s->lock);
    }
}

void cache_visit(struct cache *c,
                 void (*fn)(void *cookie, uint64_t owner, size_t len),
                 void *cookie)
{
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct shard *const s = &c->shards[i];
        lock_take(&s->lock);
        const struct list *const lists[] = {&s->probation, &s->protected};
        for (size_t k = 0; k < 2; k++) {
            for (const struct entry *e = lists[k]->oldest; e; e = e->newer) {
                if (e->state == FILLED)
                    fn(cookie, e->owner, e->block.len);
            }
        }
        lock_give(&s->lock);
    }
}

bool cache_mem_fits(const struct cache *c, uint64_t bytes)
{
    return bytes <= c->budget / 2;
}

bool cache_mem_take(struct cache *c, uint64_t bytes)
{
    /* Before anything is added: a count from an image may be anything. */
    if (!cache_mem_fits(c, bytes))
        return false;
    const uint64_t before = atomic_fetch_add(&c->reserved, bytes);
    const uint64_t used = atomic_fetch_add(&c->used, bytes);

    if (before <= c->budget / 2 && bytes <= c->budget / 2 - before &&
        (used + bytes <= c->budget || make_room(c, NULL)))
        return true;
    (void)atomic_fetch_sub(&c->used, bytes);
    (void)atomic_fetch_sub(&c->reserved, bytes);
    return false;
}

void cache_mem_give(struct cache *c, uint64_t bytes)
{
    (void)atomic_fetch_sub(&c->used, bytes);
    (void)atomic_fetch_sub(&c->reserved, bytes);
}

bool cache_is_tight(const struct cache *c)
{
    return atomic_load_explicit(&c->reserved, memory_order_relaxed) >
           c->budget / 4;
}

bool cache_loan_take(struct cache *c, uint64_t bytes)
{
    const uint64_t before = atomic_fetch_add(&c->lent, bytes);

    if (before + bytes <= c->budget / 8)
        return true;
    (void)atomic_fetch_sub(&c->lent, bytes);
    return false;
}

void cache_loan_give(struct cache *c, uint64_t bytes)
{
    (void)atomic_fetch_sub(&c->lent, bytes);
}

void cache_stats(struct cache *c, struct cache_stats *out)
{
    *out = (struct cache_stats){.budget = c->budget,
                                .bytes = atomic_load(&c->used),
                                .reserved = atomic_load(&c->reserved),
                                .lent = atomic_load(&c->lent)};
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct shard *const s = &c->shards[i];
        lock_take(&s->lock);
        out->blocks += s->n_blocks;
        out->hits += s->hits;
        out->fills += s->fills;
        out->waits += s->waits;
        out->full += s->full;
        out->evictions += s->evictions;
        lock_give(&s->lock);
    }
}
