/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of blocks: claim, read together, decode, publish, wait for the rest.
 *
 * The order is what keeps two calls from waiting for each other: whoever owns a
 * block fills it before it waits for anybody else's.  A block whose filler gave
 * up is claimed again; after a few rounds of that it is read for this call
 * alone. */
#include <stdlib.h>
#include <string.h>

#include <platter/blockset.h>

enum { MAX_ROUNDS = 3 };

/* Where a fetch reads and decodes. */
struct fetch {
    struct plt_host *host;
    struct plt_child *child;
    const struct plt_decoding *decoding;
};

bool plt_set_add(struct plt_set *set, const struct plt_want *want)
{
    if (set->n && set->v[set->n - 1].key == want->key)
        return true;
    if (set->n == set->cap) {
        const size_t cap = set->cap ? set->cap * 2 : 8;
        struct plt_want *const v =
            (struct plt_want *)realloc(set->v, cap * sizeof(*v));
        if (!v)
            return false;
        set->v = v;
        set->cap = cap;
    }
    set->v[set->n] = *want;
    set->v[set->n].data = NULL;
    set->v[set->n].block = NULL;
    set->v[set->n++].own = NULL;
    return true;
}

static int by_key(const void *a, const void *b)
{
    const uint64_t x = ((const struct plt_want *)a)->key;
    const uint64_t y = ((const struct plt_want *)b)->key;

    return (x > y) - (x < y);
}

/* A key twice in one set would wait for itself. */
static void sort_set(struct plt_set *set)
{
    size_t n = 1;

    if (set->n < 2)
        return;
    for (size_t i = 1; i < set->n; i++) {
        if (set->v[i].key <= set->v[i - 1].key) {
            qsort(set->v, set->n, sizeof(*set->v), by_key);
            break;
        }
    }
    for (size_t i = 1; i < set->n; i++)
        if (set->v[i].key != set->v[n - 1].key)
            set->v[n++] = set->v[i];
    set->n = n;
}

const uint8_t *plt_set_find(const struct plt_set *set, uint64_t key)
{
    const struct plt_want want = {.key = key};
    const struct plt_want *const found =
        set->n ? (const struct plt_want *)bsearch(&want, set->v, set->n,
                                                  sizeof(want), by_key)
               : NULL;

    return found ? found->data : NULL;
}

static void drop_own(struct plt_host *host, struct plt_want *b)
{
    if (!b->own)
        return;
    free(b->own);
    b->own = NULL;
    host->mem_give(host, b->len);
}

void plt_set_release(struct plt_set *set, struct plt_host *host)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->v[i].block)
            host->block_release(host, set->v[i].block);
        drop_own(host, &set->v[i]);
    }
    free(set->v);
    *set = (struct plt_set){.v = NULL};
}

/* Ours to fill, in the cache or for this call alone. */
static bool is_mine(const struct plt_want *b)
{
    return !b->data && (b->claim == PLT_CLAIM_FILL || b->own);
}

static uint8_t *target(const struct plt_want *b)
{
    return b->own ? b->own : b->block->data;
}

static enum plt_status claim_own(const struct fetch *f, struct plt_want *b,
                                 struct plt_error *err)
{
    const enum plt_status st = f->host->mem_take(f->host, b->len, err);

    if (st != PLT_OK)
        return st;
    b->own = (uint8_t *)malloc(b->len);
    if (b->own)
        return PLT_OK;
    f->host->mem_give(f->host, b->len);
    return plt_fail(err, PLT_NOMEM, "a block of %zu bytes", b->len);
}

static enum plt_status claim_all(const struct fetch *f, struct plt_io *io,
                                 struct plt_set *set, unsigned round,
                                 struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;

    for (size_t i = 0; i < set->n; i++) {
        struct plt_want *const b = &set->v[i];
        if (b->data)
            continue;
        b->claim = round < MAX_ROUNDS
                       ? f->host->block_claim(f->host, b->key, b->len,
                                              is_nowait, &b->block)
                       : PLT_CLAIM_FULL;
        if (b->claim == PLT_CLAIM_HIT) {
            b->data = b->block->data;
        } else if (b->claim == PLT_CLAIM_FULL) {
            b->block = NULL;
            if (is_nowait)
                return plt_fail(err, PLT_AGAIN, "not in memory");
            const enum plt_status st = claim_own(f, b, err);
            if (st != PLT_OK)
                return st;
        }
    }
    return PLT_OK;
}

/* ---- One read for everything that is missing ---- */

struct batch {
    struct plt_seg *segs; /* plain ones, tables, then stretches of streams */
    size_t n_segs;
    size_t first_stretch;
    uint8_t *scratch;
    size_t scratch_len;
    struct plt_want **order; /* compressed, by their place in the file */
    size_t n_order;
};

static int by_off(const void *a, const void *b)
{
    const uint64_t x = (*(struct plt_want *const *)a)->off;
    const uint64_t y = (*(struct plt_want *const *)b)->off;

    return (x > y) - (x < y);
}

/* Streams that touch or share sectors, as those of one writer do, become one
 * stretch: nothing is read twice. */
static void join_streams(struct batch *t)
{
    uint64_t end = 0;

    t->first_stretch = t->n_segs;
    qsort(t->order, t->n_order, sizeof(struct plt_want *), by_off);
    for (size_t i = 0; i < t->n_order; i++) {
        struct plt_want *const b = t->order[i];
        struct plt_seg *last = &t->segs[t->n_segs];
        const uint64_t b_end = b->off + b->stored; /* at most the limit */
        if (t->n_segs == t->first_stretch || b->off > end) {
            *last = (struct plt_seg){.off = b->off, .len = b->stored};
            b->in = t->scratch_len;
            t->scratch_len += b->stored;
            t->n_segs++;
            end = b_end;
            continue;
        }
        last--;
        b->in = t->scratch_len - last->len + (size_t)(b->off - last->off);
        if (b_end > end) {
            last->len += (size_t)(b_end - end);
            t->scratch_len += (size_t)(b_end - end);
            end = b_end;
        }
    }
}

static enum plt_status batch_init(const struct fetch *f, struct batch *t,
                                  struct plt_set *set,
                                  const struct plt_seg *plain, size_t n,
                                  struct plt_error *err)
{
    *t = (struct batch){.n_segs = n};
    t->segs = (struct plt_seg *)malloc((n + set->n + 1) * sizeof(*t->segs));
    t->order =
        (struct plt_want **)malloc((set->n + 1) * sizeof(struct plt_want *));
    if (!t->segs || !t->order)
        return plt_fail(err, PLT_NOMEM, "a list of %zu blocks", set->n);
    if (n)
        memcpy(t->segs, plain, n * sizeof(*plain));
    for (size_t i = 0; i < set->n; i++) {
        struct plt_want *const b = &set->v[i];
        if (!is_mine(b))
            continue;
        if (b->is_packed)
            t->order[t->n_order++] = b;
        else
            t->segs[t->n_segs++] =
                (struct plt_seg){b->off, b->stored, target(b)};
    }
    join_streams(t);
    if (!t->scratch_len)
        return PLT_OK;
    const size_t len = t->scratch_len;
    t->scratch_len = 0; /* not taken yet */
    const enum plt_status st = f->host->mem_take(f->host, len, err);
    if (st != PLT_OK)
        return st;
    t->scratch_len = len;
    t->scratch = (uint8_t *)malloc(len);
    if (!t->scratch)
        return plt_fail(err, PLT_NOMEM, "%zu coded bytes", len);
    size_t at = 0;
    for (size_t i = t->first_stretch; i < t->n_segs; i++) {
        t->segs[i].buf = t->scratch + at;
        at += t->segs[i].len;
    }
    return PLT_OK;
}

static void batch_release(const struct fetch *f, struct batch *t)
{
    if (t->scratch_len)
        f->host->mem_give(f->host, t->scratch_len);
    free(t->scratch);
    free(t->segs);
    free(t->order);
}

/* Decoding, in several jobs: the i-th takes every n-th compressed block. */
enum { MAX_JOBS = 8 };

struct jobs {
    const struct fetch *f;
    const struct batch *batch;
    size_t n; /* jobs */
};

static void decode_some(void *cookie, size_t i)
{
    const struct jobs *const jobs = (const struct jobs *)cookie;
    const struct plt_decoding *const d = jobs->f->decoding;
    const struct batch *const t = jobs->batch;
    void *state = NULL;

    for (; i < t->n_order; i += jobs->n) {
        struct plt_want *const b = t->order[i];
        b->decoded =
            d->decode(d->cookie, &state, b, t->scratch + b->in, target(b));
    }
    if (state)
        d->release(state);
}

static void decode_all(const struct fetch *f, const struct batch *t)
{
    struct jobs d = {.f = f, .batch = t, .n = t->n_order};

    if (d.n > MAX_JOBS)
        d.n = MAX_JOBS;
    if (d.n > 1 && PLT_HAS(f->host, each))
        f->host->each(f->host, d.n, decode_some, &d);
    else
        for (size_t i = 0; i < d.n; i++)
            decode_some(&d, i);
}

/* How the decoding of a block ended. */
static enum plt_status decoded(const struct fetch *f, const struct plt_want *b,
                               struct plt_error *err)
{
    if (!b->is_packed || b->decoded == PLT_OK)
        return PLT_OK;
    if (b->decoded == PLT_NOMEM)
        return plt_fail(err, PLT_NOMEM, "a decoder");
    return plt_fail_at(err, PLT_CORRUPT, b->off,
                       "a %s does not decode to %zu bytes", f->decoding->what,
                       b->len);
}

/* Fill all that is ours.  A block that fails is given up alone: the others are
 * good, whoever waits for them. */
static enum plt_status fill_all(const struct fetch *f, struct plt_io *io,
                                struct plt_set *set,
                                const struct plt_seg *plain, size_t n,
                                struct plt_error *err)
{
    struct plt_error why = {.status = PLT_OK};
    struct batch t;
    enum plt_status st = batch_init(f, &t, set, plain, n, &why);

    if (st == PLT_OK && t.n_segs)
        st = f->child->read(f->child, io, t.segs, t.n_segs, &why);
    const bool is_read = st == PLT_OK;
    if (is_read)
        decode_all(f, &t);
    for (size_t i = 0; i < set->n; i++) {
        struct plt_want *const b = &set->v[i];
        struct plt_error bad;
        if (!is_mine(b))
            continue;
        enum plt_status b_st = is_read ? decoded(f, b, &bad) : st;
        if (!is_read)
            bad = why;
        if (b_st == PLT_OK) {
            if (b->block)
                f->host->block_commit(f->host, b->block);
            b->data = target(b);
            continue;
        }
        if (b->block)
            f->host->block_abandon(f->host, b->block, &bad);
        b->block = NULL;
        drop_own(f->host, b);
        if (st == PLT_OK) {
            st = b_st;
            why = bad;
        }
    }
    batch_release(f, &t);
    if (st != PLT_OK)
        *err = why;
    return st;
}

/* Give back what was claimed and will not be filled. */
static void abandon_all(const struct fetch *f, struct plt_set *set,
                        const struct plt_error *err)
{
    for (size_t i = 0; i < set->n; i++) {
        struct plt_want *const b = &set->v[i];
        if (b->data || !b->block || b->claim != PLT_CLAIM_FILL)
            continue;
        f->host->block_abandon(f->host, b->block, err);
        b->block = NULL;
    }
}

/* Every PENDING block is waited for even after a failure: that alone gives its
 * reference back.  *is_again: some filler gave up. */
static enum plt_status wait_all(const struct fetch *f, struct plt_io *io,
                                struct plt_set *set, enum plt_status st,
                                bool *is_again, struct plt_error *err)
{
    for (size_t i = 0; i < set->n; i++) {
        struct plt_want *const b = &set->v[i];
        struct plt_error why;
        if (b->data || !b->block || b->claim != PLT_CLAIM_PENDING)
            continue;
        const enum plt_status waited =
            f->host->block_wait(f->host, b->block, io, &why);
        if (waited == PLT_OK) {
            b->data = b->block->data;
            continue;
        }
        b->block = NULL;
        if (waited == PLT_AGAIN) {
            *is_again = true;
        } else if (st == PLT_OK) {
            st = waited;
            *err = why;
        }
    }
    return st;
}

enum plt_status plt_set_fetch(struct plt_set *set, struct plt_host *host,
                              struct plt_child *child, struct plt_io *io,
                              const struct plt_decoding *decoding,
                              const struct plt_seg *plain, size_t n,
                              struct plt_error *err)
{
    const struct fetch fetch = {host, child, decoding}, *const f = &fetch;
    enum plt_status st = PLT_OK;
    bool is_again = true;

    sort_set(set);
    for (size_t i = 0; i < set->n; i++) {
        /* Until it is claimed nothing of it is held. */
        set->v[i].claim = PLT_CLAIM_FULL;
    }
    for (unsigned round = 0; st == PLT_OK && is_again; round++) {
        is_again = false;
        st = claim_all(f, io, set, round, err);
        if (st == PLT_OK)
            st = fill_all(f, io, set, plain, round ? 0 : n, err);
        else
            abandon_all(f, set, err);
        st = wait_all(f, io, set, st, &is_again, err);
    }
    if (st != PLT_OK)
        plt_set_release(set, host);
    return st;
}
