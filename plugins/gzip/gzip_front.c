/* SPDX-License-Identifier: Apache-2.0 */
/* The front: one pass over the stream, as fast as ISA-L goes, that leaves
 * behind blocks for readers, zero runs, and restart points.  Here are the walk
 * over members, and when it goes on and rests; gzip_decode.h decodes, and
 * gzip_front.h's other half finishes. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <platter/bytes.h>

#include "gzip_bgzf.h"
#include "gzip_crowd.h"
#include "gzip_decode.h"
#include "gzip_header.h"
#include "gzip_prove.h"
#include "gzip_sidecar.h"

enum {
    LEAD = 32 << 20,  /* how far ahead of its readers the front keeps what it
                         decodes, and waits for them while they are active */
    IDLE_MS = 2000,   /* readers not seen for so long are gone */
    RUN_ON = 4 << 20, /* how far it goes unasked without a place in the crowd */
    PATIENCE_MS = 2000 /* after so long without one its memory is given up */
};

void gzip_pace(struct gzip_image *gz, uint64_t out)
{
    pthread_mutex_lock(&gz->lock);
    while (!gz->is_stopping && !gz->n_waiting && out > gz->want + LEAD &&
           gzip_now_ns() - gz->want_ns < IDLE_MS * UINT64_C(1000000))
        gzip_wait_locked(gz, gzip_now_ns() + 50 * UINT64_C(1000000));
    pthread_mutex_unlock(&gz->lock);
}

/* Readers that are at work catch up: what is far ahead of them would be thrown
 * out of the cache before they come. */
static bool is_ahead_locked(const struct decoder *f)
{
    const struct gzip_image *const gz = f->front.gz;
    return f->part.slot_off > gz->want + LEAD &&
           gzip_now_ns() - gz->want_ns < IDLE_MS * UINT64_C(1000000);
}

/* Nobody waits for what comes next, and others are in its place. */
static bool is_crowded_locked(struct decoder *f)
{
    const struct gzip_image *const gz = f->front.gz;

    if (f->has_place || f->part.slot_off <= gz->want + RUN_ON)
        return false;
    f->has_place = gzip_crowd_enter(gz->crowd);
    return !f->has_place;
}

/* Wait where going on helps nobody.  False: for too long, begin again later. */
static bool pace(struct decoder *f)
{
    struct gzip_image *const gz = f->front.gz;
    const uint64_t until = gzip_now_ns() + PATIENCE_MS * UINT64_C(1000000);
    bool is_crowded = false;

    pthread_mutex_lock(&gz->lock);
    while (!gz->is_stopping && !gz->n_waiting &&
           ((is_crowded = is_crowded_locked(f)) || is_ahead_locked(f))) {
        if (is_crowded && gzip_now_ns() > until)
            break;
        gzip_wait_locked(gz, gzip_now_ns() + 50 * UINT64_C(1000000));
        is_crowded = false;
    }
    pthread_mutex_unlock(&gz->lock);
    f->is_paused = is_crowded;
    return !is_crowded;
}

/* A member's data up to its last bit. */
static bool run_body(struct decoder *f)
{
    while (f->state.block_state != ISAL_BLOCK_FINISH ||
           f->state.tmp_out_valid != f->state.tmp_out_processed) {
        if (f->io->cancelled(f->io))
            return plt_fail(&f->err, PLT_CANCELLED, "closed") == PLT_OK;
        if (!gzip_decode_some(f))
            return false;
        if (f->fill == FRONT_SLOT) {
            if (!gzip_next_slot(f) || !pace(f))
                return false;
        }
    }
    if (f->trial && !gzip_close_trial(f))
        return false;
    /* What ISA-L has read ahead is not the member's. */
    f->pos -= (size_t)(f->state.read_in_length / 8);
    return true;
}

/* Header of a member at pos.  *is_end: there is none, and that is fine. */
static bool run_header(struct decoder *f, bool *is_end)
{
    struct gzip_header h;
    enum gzip_parse r;
    size_t want = 1024;

    *is_end = false;
    for (;;) {
        if (!gzip_need(f, want))
            return false;
        r = gzip_header_parse(f->in + f->pos, f->end - f->pos, &h);
        if (r != GZIP_MORE || f->is_eof || f->end - f->pos < want)
            break;
        want *= 2;
    }
    const uint64_t at = f->base + f->pos;
    if (r != GZIP_PARSED && f->members > 0) {
        /* gzip ignores what follows a whole member when it is no other one;
         * zeros up to a tape's block are not even worth a word. */
        for (size_t i = f->pos; i < f->end; i++)
            f->part.has_garbage = f->part.has_garbage || f->in[i];
        *is_end = true;
        return true;
    }
    if (r != GZIP_PARSED)
        return plt_fail_at(&f->err, PLT_CORRUPT, at, "%s",
                           r == GZIP_BAD ? h.why : "the header is cut off") ==
               PLT_OK;
    f->members++;
    const bool is_point = gzip_is_due(f) || gzip_out_now(f) == 0;
    if (is_point) {
        f->last_out = gzip_out_now(f);
        f->last_in = at;
    }
    if (!gzip_mark(f, &(struct mark){.kind = MARK_MEMBER,
                                     .src = at,
                                     .is_point = is_point}))
        return false;
    f->pos += h.len;
    isal_inflate_init(&f->state);
    return true;
}

static bool run_trailer(struct decoder *f)
{
    if (!gzip_need(f, 8))
        return false;
    if (f->end - f->pos < 8)
        return plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->end,
                           "the stream ends before a member's checksum") ==
               PLT_OK;
    const struct mark m = {.kind = MARK_TRAILER,
                           .src = f->base + f->pos,
                           .crc = plt_le32(f->in + f->pos),
                           .len = plt_le32(f->in + f->pos + 4)};
    f->pos += 8;
    return gzip_mark(f, &m);
}

/* From the last point on (there is none yet: from the start). */
static bool start(struct decoder *f, bool *is_inside)
{
    struct gzip_image *const gz = f->front.gz;
    struct gzip_point p = {.flags = GZIP_AT_MEMBER};
    bool is_good = true;

    pthread_mutex_lock(&gz->lock);
    if (gz->n_points)
        p = gz->points[gz->n_points - 1]; /* window: points only grow */
    gz->requests++;
    gz->members = gz->members_at;
    if (p.in_bits && !gz->members)
        gz->members = 1; /* at least: a kept index does not count them */
    f->members = gz->members;
    pthread_mutex_unlock(&gz->lock);
    f->base = p.in_bits / 8;
    f->pos = f->end = 0;
    f->is_eof = false;
    f->trial = f->spare = NULL;
    f->last_out = p.out;
    f->last_in = f->base;
    f->blind_at = 0;
    gzip_finish_start(&f->front, &p);
    gzip_take_slot(f, p.out / FRONT_SLOT * FRONT_SLOT,
                   (size_t)(p.out % FRONT_SLOT));
    memset(f->before, 0, GZIP_WINDOW);
    *is_inside = !(p.flags & GZIP_AT_MEMBER);
    if (gz->child->stream_open(gz->child, f->io, f->base, &f->stream,
                               &f->err) != PLT_OK)
        return false;
    isal_inflate_init(&f->state);
    if (*is_inside) {
        const unsigned skip = (unsigned)(p.in_bits % 8);
        uint8_t window[GZIP_WINDOW] = {0};
        is_good = (!p.window_len || gzip_window_unpack(&p, window)) &&
                  isal_inflate_set_dict(&f->state, window, GZIP_WINDOW) ==
                      ISAL_DECOMP_OK;
        /* What of the block came before is not here, but the window is. */
        const size_t here = f->fill < GZIP_WINDOW ? f->fill : GZIP_WINDOW;
        memcpy(f->before + here, window, GZIP_WINDOW - here);
        memcpy(f->out + f->fill - here, window + GZIP_WINDOW - here, here);
        if (!is_good)
            return plt_fail(&f->err, PLT_CORRUPT, "a point's window") == PLT_OK;
        if (!gzip_need(f, 1))
            return false;
        if (f->end == 0)
            return plt_fail(&f->err, PLT_CORRUPT, "ends at a point") == PLT_OK;
        f->state.read_in = (uint64_t)f->in[0] >> skip;
        f->state.read_in_length = (int32_t)(8 - skip);
        f->pos = 1;
    }
    return true;
}

/* Start to end.  True: the end was reached. */
static bool run(struct decoder *f)
{
    bool is_inside, is_end = false;

    if (!start(f, &is_inside))
        return false;
    while (!is_end) {
        if (!is_inside && !run_header(f, &is_end))
            return false;
        is_inside = false;
        if (!is_end && (!run_body(f) || !run_trailer(f)))
            return false;
    }
    f->part.is_end = true;
    return gzip_push(f);
}

/* The same, until all that was decoded is finished. */
static bool run_all(struct decoder *f)
{
    const bool is_good = run(f);

    if (f->stream)
        f->stream->close(f->stream);
    f->stream = NULL;
    /* A fault that the finisher found lies before any other. */
    return gzip_drain(f) && is_good;
}

bool gzip_is_final(enum plt_status st)
{
    return st == PLT_CORRUPT || st == PLT_CHANGED || st == PLT_UNSUPPORTED ||
           st == PLT_CANCELLED || st == PLT_BUG;
}

/* A decoder and its finisher. */
struct pair {
    struct decoder *decoder;
    struct plt_task *finisher;
};

static void pair_stop(struct gzip_image *gz, struct pair *p)
{
    struct decoder *const f = p->decoder;

    if (!f)
        return;
    pthread_mutex_lock(&f->front.lock);
    f->front.is_over = true;
    pthread_cond_broadcast(&f->front.moved);
    pthread_mutex_unlock(&f->front.lock);
    gz->host->task_stop(gz->host, p->finisher);
    if (f->has_place)
        gzip_crowd_leave(gz->crowd);
    (void)pthread_cond_destroy(&f->front.moved);
    (void)pthread_mutex_destroy(&f->front.lock);
    (void)munmap(f, sizeof(*f));
    gz->host->mem_give(gz->host, sizeof(*f));
    *p = (struct pair){.decoder = NULL};
}

/* Mapped, so that what hundreds of them had goes back when they rest. */
static struct decoder *decoder_new(struct gzip_image *gz, struct plt_error *err)
{
    if (gz->host->mem_take(gz->host, sizeof(struct decoder), err) != PLT_OK)
        return NULL;
    void *const p = mmap(NULL, sizeof(struct decoder), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        return (struct decoder *)p;
    gz->host->mem_give(gz->host, sizeof(struct decoder));
    err->status = plt_fail(err, PLT_NOMEM, "a decoder");
    return NULL;
}

static bool pair_start(struct gzip_image *gz, struct plt_io *io, bool has_place,
                       struct pair *p, struct plt_error *err)
{
    struct decoder *const f = decoder_new(gz, err);

    *p = (struct pair){.decoder = f};
    if (!f) {
        if (has_place)
            gzip_crowd_leave(gz->crowd);
        return false;
    }
    f->front.gz = gz;
    f->io = io;
    f->has_place = has_place;
    (void)pthread_mutex_init(&f->front.lock, NULL);
    (void)pthread_cond_init(&f->front.moved, NULL);
    return gz->host->task_start(gz->host, gzip_finish_run, &f->front,
                                &p->finisher, err) == PLT_OK;
}

bool gzip_front_failed(struct gzip_image *gz, struct plt_io *io,
                       const struct plt_error *err, bool is_over)
{
    pthread_mutex_lock(&gz->lock);
    gz->err = *err;
    gz->state = FRONT_FAILED;
    gz->failed_ns = gzip_now_ns();
    pthread_cond_broadcast(&gz->moved);
    while (!is_over && gz->state == FRONT_FAILED) {
        is_over = gz->is_stopping || io->cancelled(io);
        if (!is_over)
            gzip_wait_locked(gz, gzip_now_ns() + 100 * UINT64_C(1000000));
    }
    pthread_mutex_unlock(&gz->lock);
    return !is_over;
}

/* Without a decoder, until somebody waits for the front or there is a place for
 * it (*has_place), but a moment at least.  False: it is over. */
static bool rest(struct gzip_image *gz, struct plt_io *io, bool *has_place)
{
    const uint64_t ms = UINT64_C(1000000);
    const uint64_t until = gzip_now_ns() + 20 * ms;
    bool is_over = false, is_wanted = false;

    *has_place = false;
    pthread_mutex_lock(&gz->lock);
    while (!is_over && !is_wanted && !*has_place) {
        const uint64_t now = gzip_now_ns();
        gzip_wait_locked(gz,
                         gz->n_waiting && now < until ? until : now + 500 * ms);
        is_over = gz->is_stopping || io->cancelled(io);
        is_wanted = gz->n_waiting && gzip_now_ns() >= until;
        *has_place = !is_over && !is_wanted && gzip_crowd_enter(gz->crowd);
    }
    pthread_mutex_unlock(&gz->lock);
    return !is_over;
}

/* So often a decoder is tried for who waits, each 20 ms: some 5 s, as the core
 * waits for memory; then they are told. */
enum { STARVED = 250 };

static void run_plain(struct gzip_image *gz, struct plt_io *io)
{
    struct pair p = {.decoder = NULL};
    struct plt_error err = {.at = PLT_AT_NONE};
    bool goes_on = true, has_place = false;
    unsigned n_starved = 0;

    if (gz->claims)
        gzip_prove(gz, io);
    while (goes_on) {
        if (!p.decoder && !pair_start(gz, io, has_place, &p, &err)) {
            pair_stop(gz, &p);
            const bool is_short = err.status == PLT_NOMEM;
            n_starved = is_short ? n_starved + 1 : 0;
            goes_on = is_short && n_starved < STARVED
                          ? rest(gz, io, &has_place)
                          : gzip_front_failed(gz, io, &err, !is_short);
            n_starved %= STARVED;
            continue;
        }
        n_starved = 0;
        has_place = false;
        p.decoder->is_paused = false;
        goes_on = !run_all(p.decoder);
        if (goes_on && p.decoder->is_paused) {
            pair_stop(gz, &p);
            goes_on = rest(gz, io, &has_place);
        } else if (goes_on && p.decoder->err.status == PLT_AGAIN) {
            if (gz->claims)
                gzip_prove(gz, io);
            goes_on = !gzip_sidecar_take(gz);
        } else if (goes_on) {
            goes_on = gzip_front_failed(gz, io, &p.decoder->err,
                                        gzip_is_final(p.decoder->err.status));
        }
    }
    pair_stop(gz, &p);
}

void gzip_front_run(void *image, struct plt_io *io)
{
    struct gzip_image *const gz = (struct gzip_image *)image;

    if (!gz->is_bgzf || gzip_bgzf_run(gz, io))
        run_plain(gz, io);
}
