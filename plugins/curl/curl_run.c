/* SPDX-License-Identifier: Apache-2.0 */
/* Readers that go forward.
 *
 * One who reads a disk in order asks for a window, sends it, and asks for the
 * next: a request for each would leave the line idle for a round trip each
 * time.  So a reader who has come back twice to where it left off gets one long
 * request (curl_stream.c), and its reads take from that what TCP has brought in
 * the meantime: the kernel's receive window is then the window of the read, and
 * it sizes it by bandwidth and delay.  The request is bounded by what the
 * reader has read so far, so that one who stops has not cost much.
 *
 * A *run* is one such reader, told by where it left off.  Its reads have an
 * order: each takes its place behind the one before under the lock, and waits
 * for it.  Several threads may read for one: windows of an answer, pieces of a
 * copy.  They come nearly in order, so one that is a little early waits a
 * moment for those before it (curl_run_order); where that was in vain a few
 * times nobody waits so for a while.  Where it did not help, and a read ends
 * where another one began, there are no long requests of this image for a
 * while: each that is given up costs what is under way.
 *
 * Who reads here and there comes near an old run's end now and then.  So what a
 * run has read must be most of what lies between its begin and its end.
 *
 * Lock: ci->run_lock, not held while anything is waited for but the condition.
 * Who waits for its place may owe fills to the cache: whoever is before it owes
 * nobody a wait but the network. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "curl_image.h"

enum {
    AFTER_READS = 2,       /* in a row: then comes the long request */
    SKIP_STEP = 16 * 1024, /* bytes read over at a time */
    PIECES_S = 10,         /* none so long after pieces were seen */
    EARLY = 4 << 20,       /* so far ahead one may be early ... */
    EARLY_NS = 50000000,   /* ... and waits so long ... */
    VAIN = 8,              /* ... but when that was in vain so often ... */
    VAIN_S = 1,            /* ... not for so long */
    SPARSE = 256 << 10,    /* covered, and less than half of it read: no run */
    IDLE_S = 10,           /* a long request that nobody reads is ended */
    POLL_NS = 50 * 1000 * 1000
};

static void dispose(struct curl_image *ci, const struct curl_run *r)
{
    if (r->stream)
        r->stream->close(r->stream);
    if (r->is_stream)
        curl_pool_stream_ended(ci->pool);
}

/* The run whose reader left off where a read begins, or a little before.  What
 * lies between is there already: a long request that is under way is read over
 * it, since it costs more to begin another.  NULL: none. */
static struct curl_run *find_locked(struct curl_image *ci, uint64_t first,
                                    uint64_t gap)
{
    for (size_t i = 0; i < CURL_RUNS; i++) {
        struct curl_run *const r = &ci->runs[i];
        if (r->is_used && !r->is_over && first >= r->end &&
            first - r->end <= (r->is_stream ? CURL_GAP_MAX : gap))
            return r;
    }
    return NULL;
}

static bool is_sparse(const struct curl_run *r)
{
    const uint64_t covered = r->end - r->begin;
    return covered > SPARSE && r->bytes < covered / 2;
}

/* A place for a new run; NULL: all are being read. */
static struct curl_run *free_place_locked(struct curl_image *ci)
{
    struct curl_run *best = NULL;

    for (size_t i = 0; i < CURL_RUNS; i++) {
        struct curl_run *const r = &ci->runs[i];
        if (!r->is_used)
            return r;
        if (r->readers == 0 && (!best || r->used_ns < best->used_ns))
            best = r;
    }
    return best;
}

/* Take the runs that nobody reads any more off the table. */
static size_t expire_locked(struct curl_image *ci, const struct curl_run *but,
                            uint64_t now, struct curl_run *old)
{
    size_t n = 0;

    for (size_t i = 0; i < CURL_RUNS; i++) {
        struct curl_run *const r = &ci->runs[i];
        if (r != but && r->readers == 0 && r->is_stream &&
            now - r->used_ns > IDLE_S * UINT64_C(1000000000)) {
            old[n++] = *r;
            *r = (struct curl_run){.is_used = false};
        }
    }
    return n;
}

/* From when on there may be long requests. */
static uint64_t quiet_locked(const struct curl_image *ci)
{
    return ci->pieces_ns ? ci->pieces_ns + PIECES_S * UINT64_C(1000000000) : 0;
}

struct curl_place curl_run_enter(struct curl_image *ci,
                                 const struct curl_want *wants, size_t n)
{
    struct curl_run old[CURL_RUNS + 1];
    struct curl_place p = {.from = wants[0].off,
                           .to = wants[n - 1].off + wants[n - 1].len};
    const uint64_t now = curl_now_ns(), gap = curl_gap(ci), first = p.from;
    uint64_t holes = p.to - p.from;

    for (size_t i = 0; i < n; i++)
        holes -= wants[i].len;
    if (holes > CURL_GAP_MAX)
        return p;
    (void)pthread_mutex_lock(&ci->run_lock);
    struct curl_run *r = find_locked(ci, first, gap);
    size_t n_old = expire_locked(ci, r, now, old);
    for (size_t i = 0; r && r->is_stream && i < CURL_RUNS; i++) {
        if (ci->runs[i].is_used && ci->runs[i].begin == p.to)
            ci->pieces_ns = now;
    }
    if (r) {
        p.from = r->end;
        if (!r->is_stream && ++r->reads > AFTER_READS &&
            now >= quiet_locked(ci)) {
            r->is_stream = curl_pool_stream_begins(ci->pool);
            r->turn = p.from;
        }
    } else {
        r = free_place_locked(ci);
        if (r) {
            old[n_old++] = *r;
            *r = (struct curl_run){.is_used = true, .reads = 1, .begin = first};
        }
    }
    if (r) {
        r->end = p.to;
        r->bytes += p.to - first;
        if (is_sparse(r))
            r->is_over = true; /* the next one begins anew */
        (void)pthread_cond_broadcast(&ci->run_moved);
        r->used_ns = now;
        r->readers++;
        p.run = r;
        p.bytes = r->bytes;
        p.is_stream = r->is_stream;
    }
    (void)pthread_mutex_unlock(&ci->run_lock);
    for (size_t i = 0; i < n_old; i++)
        dispose(ci, &old[i]);
    return p;
}

static void add_ns(struct timespec *t, long ns)
{
    t->tv_nsec += ns;
    if (t->tv_nsec >= 1000000000) {
        t->tv_nsec -= 1000000000;
        t->tv_sec++;
    }
}

/* A run is a little before off, and none is there. */
static bool is_early_locked(const struct curl_image *ci, uint64_t off,
                            uint64_t now)
{
    bool is_early = false;

    if (ci->vain >= VAIN && now - ci->vain_ns < VAIN_S * UINT64_C(1000000000))
        return false;
    for (size_t i = 0; i < CURL_RUNS; i++) {
        const struct curl_run *const r = &ci->runs[i];
        if (!r->is_stream || r->is_over)
            continue;
        if (off >= r->begin && off <= r->end)
            return false;
        is_early = is_early || (off > r->end && off - r->end <= EARLY &&
                                now - r->used_ns < UINT64_C(200000000));
    }
    return is_early;
}

void curl_run_order(struct curl_image *ci, uint64_t off)
{
    struct timespec until;
    bool has_waited = false;
    int waited = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    add_ns(&until, EARLY_NS);
    (void)pthread_mutex_lock(&ci->run_lock);
    while (waited == 0 && is_early_locked(ci, off, curl_now_ns())) {
        has_waited = true;
        waited = pthread_cond_timedwait(&ci->run_moved, &ci->run_lock, &until);
    }
    if (waited) {
        ci->vain++;
        ci->vain_ns = curl_now_ns();
    } else if (has_waited) {
        ci->vain = 0;
    }
    (void)pthread_mutex_unlock(&ci->run_lock);
}

/* Wait until those before have read.  False: the run is no more, or there is no
 * time; then it is no more for those behind, either. */
static bool wait_turn(struct curl_image *ci, const struct curl_place *p,
                      const struct plt_io *io)
{
    struct curl_run *const r = p->run;

    (void)pthread_mutex_lock(&ci->run_lock);
    while (!r->is_over && r->turn != p->from) {
        struct timespec until;
        if (io->cancelled(io) || curl_now_ns() >= io->deadline_ns) {
            r->is_over = true;
            (void)pthread_cond_broadcast(&ci->run_moved);
            break;
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        add_ns(&until, POLL_NS);
        (void)pthread_cond_timedwait(&ci->run_moved, &ci->run_lock, &until);
    }
    const bool is_ours = !r->is_over;
    (void)pthread_mutex_unlock(&ci->run_lock);
    return is_ours;
}

static void leave(struct curl_image *ci, const struct curl_place *p,
                  bool is_good)
{
    struct curl_run *const r = p->run;
    struct curl_run old = {.is_used = false};

    if (!r)
        return;
    (void)pthread_mutex_lock(&ci->run_lock);
    if (p->is_stream && is_good)
        r->turn = p->to;
    if (!is_good || p->to == ci->size)
        r->is_over = true;
    r->used_ns = curl_now_ns();
    if (--r->readers == 0 && r->is_over) {
        old = *r;
        *r = (struct curl_run){.is_used = false};
    }
    (void)pthread_cond_broadcast(&ci->run_moved);
    (void)pthread_mutex_unlock(&ci->run_lock);
    dispose(ci, &old);
}

/* Where a long request from pos on has to end: where its reader will find
 * blocks that are there already, or that another run brings. */
static uint64_t end_of_stream(struct curl_image *ci, const struct curl_place *p,
                              uint64_t pos)
{
    uint64_t end = pos + curl_ahead(p->bytes, pos, ci->size);

    (void)pthread_mutex_lock(&ci->run_lock);
    for (size_t i = 0; i < CURL_RUNS; i++) {
        const struct curl_run *const r = &ci->runs[i];
        if (r->is_used && r->begin > pos && r->begin < end)
            end = r->begin;
    }
    (void)pthread_mutex_unlock(&ci->run_lock);
    for (uint64_t k = p->to / CURL_BLOCK; k * CURL_BLOCK < end; k++) {
        struct plt_block *block;
        if (ci->host->block_claim(ci->host, k, curl_block_len(ci, k), true,
                                  &block) == PLT_CLAIM_HIT) {
            ci->host->block_release(ci->host, block);
            end = k * CURL_BLOCK;
        }
    }
    return end > p->to ? end : p->to;
}

/* len bytes of the long request into buf, the next long request behind it where
 * it ends.  The turn is ours: nobody else touches the run's stream. */
static enum plt_status take(struct curl_image *ci, const struct curl_place *p,
                            struct plt_io *io, uint8_t *buf, size_t len,
                            struct plt_error *err)
{
    struct curl_run *const r = p->run;

    while (len) {
        if (r->stream && r->pos == r->stream_end) {
            r->stream->close(r->stream);
            r->stream = NULL;
        }
        if (!r->stream) {
            r->stream_end = end_of_stream(ci, p, r->pos);
            const enum plt_status st = curl_stream_range(
                ci, io, r->pos, r->stream_end, &r->stream, err);
            if (st != PLT_OK)
                return st;
        }
        size_t got = 0;
        const enum plt_status st =
            r->stream->read(r->stream, io, buf, len, &got, err);
        if (st != PLT_OK)
            return st;
        if (got == 0)
            return plt_fail(err, PLT_BUG, "a stream that ends early");
        r->pos += got;
        buf += got;
        len -= got;
    }
    return PLT_OK;
}

static enum plt_status read_stream(struct curl_image *ci,
                                   const struct curl_place *p,
                                   struct plt_io *io,
                                   const struct curl_want *wants, size_t n,
                                   struct plt_error *err)
{
    struct curl_run *const r = p->run;
    uint8_t over[SKIP_STEP];
    enum plt_status st = PLT_OK;

    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (!r->stream || r->pos == r->stream_end)
            r->pos = r->stream_end = wants[i].off; /* nothing to read over */
        while (r->pos < wants[i].off && st == PLT_OK) {
            const uint64_t gap = wants[i].off - r->pos;
            st = take(ci, p, io, over,
                      gap < sizeof(over) ? (size_t)gap : sizeof(over), err);
        }
        if (st == PLT_OK)
            st = take(ci, p, io, wants[i].buf, wants[i].len, err);
    }
    return st;
}

enum plt_status curl_run_fetch(struct curl_image *ci, struct plt_io *io,
                               const struct curl_place *p,
                               const struct curl_want *wants, size_t n,
                               struct plt_error *err)
{
    const bool is_streamed = p->is_stream && wait_turn(ci, p, io);
    const bool is_pinned = ci->etag[0] || ci->modified[0];
    enum plt_status st = is_streamed ? read_stream(ci, p, io, wants, n, err)
                                     : curl_fetch(ci, io, wants, n, err);

    leave(ci, p, st == PLT_OK && is_streamed == p->is_stream);
    /* A stream of a file that nothing pins is not taken up again. */
    if (is_streamed && st == PLT_ORIGIN && !is_pinned)
        st = curl_fetch(ci, io, wants, n, err);
    return st;
}

void curl_run_init(struct curl_image *ci)
{
    pthread_condattr_t attr;

    (void)pthread_mutex_init(&ci->claim_lock, NULL);
    (void)pthread_mutex_init(&ci->run_lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&ci->run_moved, &attr);
    (void)pthread_condattr_destroy(&attr);
}

void curl_run_release(struct curl_image *ci)
{
    for (size_t i = 0; i < CURL_RUNS; i++)
        dispose(ci, &ci->runs[i]);
    (void)pthread_mutex_destroy(&ci->claim_lock);
    (void)pthread_mutex_destroy(&ci->run_lock);
    (void)pthread_cond_destroy(&ci->run_moved);
}
