/* SPDX-License-Identifier: Apache-2.0 */
/* Reading from an origin with ranges: everything goes through the cache in
 * blocks of 64 KiB, each fetched once whoever and how many want it.
 *
 * A read claims the blocks that its segments touch, fetches those that are its
 * to fill together, and waits for the others, which somebody else is filling.
 * What lies between two of its blocks and costs less to fetch than asking twice
 * is fetched and kept too; so is, with the first block that is wanted of it,
 * what is left of the file's front, where formats have their tables, and of its
 * end, where archives and streams have theirs. */
#include <stdlib.h>
#include <string.h>

#include "curl_image.h"

enum {
    FRONT_BLOCKS = CURL_FRONT / CURL_BLOCK,
    END_BLOCKS = CURL_END / CURL_BLOCK,
    MAX_BETWEEN = 64, /* blocks of gaps in one read */
    EXTRA = FRONT_BLOCKS + END_BLOCKS + MAX_BETWEEN,
    FEW = 8 /* blocks that a read in memory needs no memory for */
};

size_t curl_block_len(const struct curl_image *ci, uint64_t number)
{
    const uint64_t left = ci->size - number * CURL_BLOCK;
    return left < CURL_BLOCK ? (size_t)left : CURL_BLOCK;
}

/* One block of a read. */
struct item {
    uint64_t number;
    struct plt_block *block; /* NULL: no room in the cache, see own */
    uint8_t *own;
    enum plt_claim claim;
    bool is_extra; /* nobody asked for it: fetched along, never waited for */
};

struct batch {
    struct item *item; /* sorted by number; `few`, or new */
    size_t n, cap;
    struct item few[FEW];
};

static int by_number(const void *a, const void *b)
{
    const struct item *const x = (const struct item *)a;
    const struct item *const y = (const struct item *)b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static bool is_wanted(const struct curl_image *ci, uint64_t number)
{
    return number > 0 || ci->head_len < curl_block_len(ci, 0);
}

static void batch_release(struct batch *b)
{
    if (b->item != b->few)
        free(b->item);
}

/* Number the blocks of the segments, each once; room for more, or none. */
static bool batch_init(struct batch *b, const struct curl_image *ci,
                       const struct plt_seg *segs, size_t n, size_t more)
{
    size_t m = 0;

    b->cap = more;
    b->n = 0;
    for (size_t i = 0; i < n; i++)
        b->cap += segs[i].len / CURL_BLOCK + 2;
    b->item = b->cap <= FEW ? b->few : malloc(b->cap * sizeof(*b->item));
    if (!b->item)
        return false;
    for (size_t i = 0; i < n; i++) {
        const uint64_t last = (segs[i].off + segs[i].len - 1) / CURL_BLOCK;
        if (curl_known(ci, &segs[i]))
            continue;
        for (uint64_t k = segs[i].off / CURL_BLOCK; k <= last; k++) {
            if (is_wanted(ci, k))
                b->item[m++] = (struct item){.number = k};
        }
    }
    qsort(b->item, m, sizeof(*b->item), by_number);
    for (size_t i = 0; i < m; i++) {
        if (!b->n || b->item[b->n - 1].number != b->item[i].number)
            b->item[b->n++] = b->item[i];
    }
    return true;
}

/* What is there already, in memory or on the disk, which takes its time: before
 * the order of claims is anybody's business.  True: that is all. */
static bool claim_hits(struct batch *b, struct curl_image *ci)
{
    bool is_all = true;

    for (size_t i = 0; i < b->n; i++) {
        struct item *const it = &b->item[i];
        it->claim = ci->host->block_claim(ci->host, it->number,
                                          curl_block_len(ci, it->number), true,
                                          &it->block);
        if (it->claim != PLT_CLAIM_HIT)
            it->block = NULL;
        is_all = is_all && it->block;
    }
    return is_all;
}

/* Claim what the segments want.  With NOWAIT: hits, or PLT_AGAIN. */
static enum plt_status claim_all(struct batch *b, struct curl_image *ci,
                                 bool is_nowait, struct plt_error *err)
{
    for (size_t i = 0; i < b->n; i++) {
        struct item *const it = &b->item[i];
        const size_t len = curl_block_len(ci, it->number);
        if (it->block)
            continue;
        it->claim = ci->host->block_claim(ci->host, it->number, len, is_nowait,
                                          &it->block);
        if (it->claim != PLT_CLAIM_FULL)
            continue;
        it->own = is_nowait ? NULL : malloc(len);
        if (!it->own) {
            for (size_t k = i + 1; k < b->n; k++) {
                if (b->item[k].block)
                    ci->host->block_release(ci->host, b->item[k].block);
            }
            b->n = i; /* the others are not claimed */
            return is_nowait ? PLT_AGAIN : plt_fail(err, PLT_NOMEM, "a block");
        }
    }
    return PLT_OK;
}

static bool is_missing(const struct item *it)
{
    return it->claim == PLT_CLAIM_FILL || it->own;
}

/* A block that goes along, when it is nobody's yet. */
static void add_extra(struct batch *b, struct curl_image *ci, uint64_t number)
{
    struct item it = {.number = number, .is_extra = true};

    if (b->n == b->cap || !is_wanted(ci, number))
        return;
    it.claim = ci->host->block_claim(
        ci->host, number, curl_block_len(ci, number), false, &it.block);
    if (it.claim == PLT_CLAIM_FILL)
        b->item[b->n++] = it;
    else if (it.claim != PLT_CLAIM_FULL)
        ci->host->block_release(ci->host, it.block);
}

/* [from, to) of the file's blocks, when one of them is missing and this is the
 * first time. */
static void add_place(struct batch *b, struct curl_image *ci, uint64_t from,
                      uint64_t to, atomic_bool *is_done)
{
    const size_t n = b->n;
    bool is_touched = false;

    if (atomic_load(is_done))
        return;
    for (size_t i = 0; i < n; i++)
        is_touched =
            is_touched || (is_missing(&b->item[i]) &&
                           b->item[i].number >= from && b->item[i].number < to);
    if (!is_touched || atomic_exchange(is_done, true))
        return;
    for (uint64_t k = from; k < to; k++) {
        bool is_there = false;
        for (size_t i = 0; i < n && !is_there; i++)
            is_there = b->item[i].number == k;
        if (!is_there)
            add_extra(b, ci, k);
    }
}

/* Blocks between missing ones that are nearer than a round trip costs. */
static void add_between(struct batch *b, struct curl_image *ci)
{
    const uint64_t gap = curl_gap(ci) / CURL_BLOCK;
    const size_t n = b->n;
    const struct item *last = NULL;
    size_t room = MAX_BETWEEN;

    for (size_t i = 0; i < n; i++) {
        const struct item *const it = &b->item[i];
        if (!is_missing(it))
            continue;
        const uint64_t between = last ? it->number - last->number - 1 : 0;
        if (between && between <= gap && between <= room &&
            it == last + 1) { /* nothing that is there already lies between */
            room -= (size_t)between;
            for (uint64_t k = last->number + 1; k < it->number; k++)
                add_extra(b, ci, k);
        }
        last = it;
    }
}

static void add_extras(struct batch *b, struct curl_image *ci)
{
    const uint64_t blocks = (ci->size + CURL_BLOCK - 1) / CURL_BLOCK;
    const uint64_t front =
        blocks < ci->front / CURL_BLOCK ? blocks : ci->front / CURL_BLOCK;
    const uint64_t end = blocks > END_BLOCKS ? blocks - END_BLOCKS : 0;

    add_between(b, ci);
    add_place(b, ci, 0, front, &ci->has_front);
    add_place(b, ci, end, blocks, &ci->has_end);
    qsort(b->item, b->n, sizeof(*b->item), by_number);
}

/* What is to be fetched: new, sorted; NULL: no memory. */
static struct curl_want *gather(const struct batch *b,
                                const struct curl_image *ci, size_t *n)
{
    struct curl_want *const w = malloc((b->n + 1) * sizeof(*w));

    *n = 0;
    for (size_t i = 0; w && i < b->n; i++) {
        const struct item *const it = &b->item[i];
        if (is_missing(it))
            w[(*n)++] = (struct curl_want){it->number * CURL_BLOCK,
                                           curl_block_len(ci, it->number),
                                           it->own ? it->own : it->block->data};
    }
    return w;
}

/* Tell who waits for ours how it went. */
static void settle(struct batch *b, struct curl_image *ci, enum plt_status st,
                   const struct plt_error *err)
{
    for (size_t i = 0; i < b->n; i++) {
        struct item *const it = &b->item[i];
        if (it->claim != PLT_CLAIM_FILL)
            continue;
        if (st == PLT_OK) {
            ci->host->block_commit(ci->host, it->block);
        } else {
            ci->host->block_abandon(ci->host, it->block, err);
            it->block = NULL;
        }
    }
}

/* Claim, and fetch what is ours to fill. */
static enum plt_status fill(struct batch *b, struct curl_image *ci,
                            struct plt_io *io, struct plt_error *err)
{
    struct curl_place place = {.run = NULL};
    struct curl_want *wants = NULL;
    size_t n = 0;

    if (claim_hits(b, ci))
        return PLT_OK;
    curl_run_order(ci, b->item[0].number * CURL_BLOCK);
    (void)pthread_mutex_lock(&ci->claim_lock);
    enum plt_status st = claim_all(b, ci, false, err);
    if (st == PLT_OK) {
        add_extras(b, ci);
        wants = gather(b, ci, &n);
        if (!wants)
            st = plt_fail(err, PLT_NOMEM, "a read");
        else if (n)
            place = curl_run_enter(ci, wants, n);
    }
    (void)pthread_mutex_unlock(&ci->claim_lock);
    if (n)
        st = curl_run_fetch(ci, io, &place, wants, n, err);
    free(wants);
    settle(b, ci, st, err);
    return st;
}

/* Ours are filled: now one that another fills. */
static enum plt_status wait_for(struct item *it, struct curl_image *ci,
                                struct plt_io *io, enum plt_status st,
                                struct plt_error *err)
{
    struct plt_error why;
    const enum plt_status waited =
        ci->host->block_wait(ci->host, it->block, io, &why);

    if (waited == PLT_OK)
        return st;
    it->block = NULL;
    if (st != PLT_OK)
        return st;
    if (waited != PLT_AGAIN) {
        *err = why;
        return waited;
    }
    /* Who was filling it went away: fetch it for ourselves. */
    const size_t len = curl_block_len(ci, it->number);
    it->own = malloc(len);
    const struct curl_want one = {it->number * CURL_BLOCK, len, it->own};
    return it->own ? curl_fetch(ci, io, &one, 1, err)
                   : plt_fail(err, PLT_NOMEM, "a block");
}

/* Copy what of [from, from+len) the segments ask for. */
static void give(uint64_t from, const uint8_t *data, size_t len,
                 const struct plt_seg *segs, size_t n)
{
    const uint64_t to = from + len;

    for (size_t k = 0; k < n; k++) {
        const uint64_t s = segs[k].off, e = s + segs[k].len;
        const uint64_t lo = s > from ? s : from, hi = e < to ? e : to;
        if (lo < hi)
            memcpy((uint8_t *)segs[k].buf + (lo - s), data + (lo - from),
                   (size_t)(hi - lo));
    }
}

/* What was kept of the ends is in no block. */
enum plt_status curl_lend(void *image, struct plt_io *io, uint64_t off,
                          uint64_t len, plt_lend_fn *emit, void *cookie)
{
    struct curl_image *const ci = (struct curl_image *)image;
    const uint64_t end = off + len;

    (void)io;
    if (!ci->has_ranges)
        return PLT_AGAIN;
    while (off < end) {
        const uint64_t k = off / CURL_BLOCK;
        const size_t in = (size_t)(off % CURL_BLOCK);
        const size_t block_len = curl_block_len(ci, k);
        const size_t now =
            end - off < block_len - in ? (size_t)(end - off) : block_len - in;
        struct plt_block *block;
        if (ci->host->block_claim(ci->host, k, block_len, true, &block) !=
            PLT_CLAIM_HIT)
            return PLT_AGAIN;
        if (!emit(cookie, block->data + in, now, block))
            return PLT_AGAIN;
        off += now;
    }
    return PLT_OK;
}

enum plt_status curl_read_ranges(struct curl_image *ci, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    struct batch b;

    if (!batch_init(&b, ci, segs, n, is_nowait ? 0 : EXTRA))
        return plt_fail(err, PLT_NOMEM, "a read");
    enum plt_status st =
        is_nowait ? claim_all(&b, ci, true, err) : fill(&b, ci, io, err);
    for (size_t i = 0; i < b.n; i++) {
        struct item *const it = &b.item[i];
        if (it->claim == PLT_CLAIM_PENDING)
            st = wait_for(it, ci, io, st, err);
        if (st == PLT_OK && !it->is_extra)
            give(it->number * CURL_BLOCK, it->block ? it->block->data : it->own,
                 curl_block_len(ci, it->number), segs, n);
        if (it->block)
            ci->host->block_release(ci->host, it->block);
        free(it->own);
    }
    batch_release(&b);
    if (st == PLT_OK && !is_wanted(ci, 0))
        give(0, ci->head, ci->head_len, segs, n);
    return st;
}
