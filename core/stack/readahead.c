/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/readahead.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECENT = 8,
    STRIDES = 3, /* equal distances in a row: then it is a strided reader */
    STRAY = 8,   /* requests of one stream may change places so far */
    STRIKES = 8, /* requests of another until a reader loses its place */
    FEWEST = 2,  /* stretches of a strided plan */
    NEAR = 512 * 1024, /* what lies nearer together may be fetched in one */
    ALIGN = 64 * 1024  /* plans end there: the block of most layers */
};

struct recent {
    uint64_t off, len;
};

struct stream {
    uint64_t stride; /* 0: sequential */
    uint64_t len;    /* of the last request; strided: of each */
    uint64_t at;     /* where the next request should begin */
    uint64_t ahead;  /* planned up to here, never below at */
    uint64_t window;
    uint64_t tick; /* when it was last used; 0: no stream */
};

struct reader {
    /* A plan of the stream in this place is being read.  Not the stream's own:
     * another may have taken the place meanwhile, and waits. */
    atomic_bool is_reading[READAHEAD_STREAMS];
    atomic_bool is_busy; /* guards the rest; taken or passed by */
    uint64_t client;
    unsigned strikes;
    bool is_quiet; /* all that was planned last was there already */
    unsigned n;    /* of recent, ever */
    uint64_t tick;
    struct recent recent[RECENT];
    struct stream streams[READAHEAD_STREAMS];
};

struct readahead {
    uint64_t limit;
    struct reader readers[READAHEAD_READERS];
};

struct readahead *readahead_new(uint64_t limit)
{
    struct readahead *const ra = calloc(1, sizeof(*ra));

    if (ra)
        ra->limit = limit;
    return ra;
}

void readahead_free(struct readahead *ra)
{
    free(ra);
}

/* The reader's place, taken; NULL: somebody is at it, or it is another's. */
static struct reader *reader_take(struct readahead *ra, uint64_t client)
{
    struct reader *const r =
        &ra->readers[(client ^ client >> 32) % READAHEAD_READERS];

    if (atomic_exchange_explicit(&r->is_busy, true, memory_order_acquire))
        return NULL;
    if (r->client == client) {
        r->strikes = 0;
        return r;
    }
    if (r->tick && ++r->strikes < STRIKES) {
        atomic_store_explicit(&r->is_busy, false, memory_order_release);
        return NULL;
    }
    r->client = client;
    r->strikes = 0;
    r->is_quiet = false;
    r->n = 0;
    r->tick = 0;
    memset(r->recent, 0, sizeof(r->recent));
    memset(r->streams, 0, sizeof(r->streams));
    return r;
}

static void reader_give(struct reader *r)
{
    atomic_store_explicit(&r->is_busy, false, memory_order_release);
}

/* ---- Finding a stream ---- */

/* Does the request go on with it?  Requests on several connections overtake one
 * another, so that a little further and a little behind is of it too. */
static bool is_of(const struct stream *s, uint64_t off, uint64_t len)
{
    const uint64_t far =
        s->stride ? STRAY * s->stride : STRAY * (s->len > len ? s->len : len);

    if (!s->tick || (s->stride && len > s->stride))
        return false;
    if (off < s->at)
        return s->at - off <= far &&
               (!s->stride || (s->at - off) % s->stride == 0);
    if (s->stride)
        return off - s->at <= far && (off - s->at) % s->stride == 0;
    return off - s->at <= far || off < s->ahead;
}

static const struct recent *before(const struct reader *r, uint64_t off)
{
    const unsigned n = r->n < RECENT ? r->n : RECENT;

    for (unsigned i = 0; i < n; i++) {
        const struct recent *const x = &r->recent[i];
        if (x->off + x->len == off)
            return x;
    }
    return NULL;
}

/* The distance that the last requests and this one have in common; 0: none. */
static uint64_t common_stride(const struct reader *r, uint64_t off,
                              uint64_t len)
{
    uint64_t stride = 0;

    if (r->n < STRIDES)
        return 0;
    for (unsigned i = 1; i <= STRIDES; i++) {
        const struct recent *const x = &r->recent[(r->n - i) % RECENT];
        if (x->len != len || x->off >= off ||
            (stride && off - x->off != stride))
            return 0;
        stride = off - x->off;
        off = x->off;
    }
    return stride > len && stride <= READAHEAD_STRIDE ? stride : 0;
}

/* A new stream when this request makes one; else it is remembered. */
static struct stream *begin(struct reader *r, uint64_t off, uint64_t len)
{
    const struct recent *const one = before(r, off);
    const bool is_sequential = one && before(r, one->off);
    const uint64_t stride = is_sequential ? 0 : common_stride(r, off, len);
    struct stream *oldest = &r->streams[0];

    if (!is_sequential && !stride) {
        r->recent[r->n++ % RECENT] = (struct recent){off, len};
        return NULL;
    }
    for (unsigned i = 1; i < READAHEAD_STREAMS; i++) {
        if (r->streams[i].tick < oldest->tick)
            oldest = &r->streams[i];
    }
    *oldest = (struct stream){.stride = stride,
                              .len = len,
                              .at = off,
                              .ahead = off,
                              .window = READAHEAD_LEAST};
    r->n = 0;
    return oldest;
}

/* ---- Going on ---- */

static void advance(struct stream *s, uint64_t off, uint64_t len,
                    uint64_t *used)
{
    const uint64_t next = off + (s->stride ? s->stride : len);
    const uint64_t was = s->at;

    s->len = len;
    if (next <= was)
        return;
    const uint64_t to = next < s->ahead ? next : s->ahead;
    if (to > was)
        *used = s->stride ? (to - was) / s->stride * len : to - was;
    s->at = next;
    if (s->ahead < next)
        s->ahead = next;
}

static void plan_sequential(struct stream *s, uint64_t size,
                            struct readahead_plan *plan)
{
    uint64_t to = size - s->at < s->window ? size : s->at + s->window;

    if (to < size && to / ALIGN * ALIGN > s->ahead)
        to = to / ALIGN * ALIGN;
    if (to <= s->ahead)
        return;
    *plan = (struct readahead_plan){.off = s->ahead,
                                    .len = to - s->ahead,
                                    .stride = to - s->ahead,
                                    .n = 1,
                                    .used = plan->used};
    s->ahead = to;
}

/* What one stretch of a strided stream may cost at the origin: the gap too,
 * where it is cheaper than asking twice. */
static uint64_t cost(const struct stream *s)
{
    return s->stride - s->len <= NEAR ? s->stride
           : s->len > ALIGN           ? s->len
                                      : ALIGN;
}

/* How many stretches the window holds. */
static uint64_t fitting(const struct stream *s)
{
    const uint64_t n = s->window / cost(s);
    return n > FEWEST ? n : FEWEST;
}

static void plan_strided(struct stream *s, uint64_t size,
                         struct readahead_plan *plan)
{
    const uint64_t count = fitting(s);
    const uint64_t planned = (s->ahead - s->at) / s->stride;
    const uint64_t inside = s->len <= size && s->ahead <= size - s->len
                                ? (size - s->len - s->ahead) / s->stride + 1
                                : 0;
    uint64_t n = count > planned ? count - planned : 0;

    if (n > READAHEAD_SEGS)
        n = READAHEAD_SEGS;
    if (n > inside)
        n = inside;
    if (!n)
        return;
    *plan = (struct readahead_plan){.off = s->ahead,
                                    .len = s->len,
                                    .stride = s->stride,
                                    .n = (unsigned)n,
                                    .used = plan->used};
    s->ahead += n * s->stride;
}

/* Half through the window: the next one, twice as long. */
static void plan_next(struct readahead *ra, struct stream *s, uint64_t size,
                      struct readahead_plan *plan)
{
    const bool is_far = s->stride
                            ? (s->ahead - s->at) / s->stride > fitting(s) / 2
                            : s->ahead - s->at > s->window / 2;

    if (s->at >= size || is_far)
        return;
    if (s->ahead > s->at && s->window < ra->limit)
        s->window = 2 * s->window < ra->limit ? 2 * s->window : ra->limit;
    if (s->stride)
        plan_strided(s, size, plan);
    else
        plan_sequential(s, size, plan);
}

void readahead_see(struct readahead *ra, uint64_t client, uint64_t off,
                   uint64_t len, uint64_t size, bool is_hit,
                   struct readahead_plan *plan)
{
    struct stream *s = NULL;

    *plan = (struct readahead_plan){.n = 0};
    if (!len || off >= size || len > size - off)
        return;
    struct reader *const r = reader_take(ra, client);
    if (!r)
        return;
    r->tick++;
    for (unsigned i = 0; i < READAHEAD_STREAMS && !s; i++) {
        if (is_of(&r->streams[i], off, len))
            s = &r->streams[i];
    }
    if (!s) {
        s = begin(r, off, len);
        /* What is in memory anyway needs nobody to read ahead. */
        if (s)
            r->is_quiet = is_hit;
    }
    if (s) {
        s->tick = r->tick;
        advance(s, off, len, &plan->used);
        if (!is_hit && r->is_quiet) {
            r->is_quiet = false;
            s->ahead = s->at;
        }
        const size_t i = (size_t)(s - r->streams);
        if (!r->is_quiet && !atomic_load(&r->is_reading[i]))
            plan_next(ra, s, size, plan);
        if (plan->n) {
            atomic_store(&r->is_reading[i], true);
            plan->place =
                (unsigned)((size_t)(r - ra->readers) * READAHEAD_STREAMS + i);
        }
    }
    reader_give(r);
}

void readahead_done(struct readahead *ra, const struct readahead_plan *plan)
{
    atomic_store(&ra->readers[plan->place / READAHEAD_STREAMS]
                      .is_reading[plan->place % READAHEAD_STREAMS],
                 false);
}

void readahead_needless(struct readahead *ra, uint64_t client)
{
    struct reader *const r = reader_take(ra, client);

    if (!r)
        return;
    r->is_quiet = true;
    reader_give(r);
}
