/* SPDX-License-Identifier: Apache-2.0 */
/* The front: one pass over the stream, as fast as ISA-L goes, that leaves
 * behind blocks for readers, zero runs, and restart points.  Here is its
 * decoder; see gzip_front.h for the other half.
 *
 * ISA-L has no way to stop at a block's end.  But a block header is at least a
 * few bytes, and when the input ends inside one, the state says so
 * (ISAL_BLOCK_HDR) and the bits before it are exactly the block's beginning. So
 * when a point is due, input goes in by slices of 4 KiB, each after a snapshot
 * of the state; a slice in which the Huffman tables changed had a header in it,
 * and is decoded again from the snapshot in steps of STEP bytes, one of which
 * ends inside the header.  That costs a few microseconds a point, and nothing
 * between points. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <platter/bytes.h>

#include "gzip_bgzf.h"
#include "gzip_crowd.h"
#include "gzip_front.h"
#include "gzip_header.h"
#include "gzip_prove.h"
#include "gzip_sidecar.h"

enum {
    IN_CAP = 256 * 1024,
    CARRY = 1024, /* consumed input that stays at hand: ISA-L's read-ahead, and
                     the part of a header that it keeps */
    SLICE = 4096, /* searched for a header at a time, and then ... */
    NARROWER = 8, /* ... in so many parts, and each part of it, down to ... */
    STEP = 4,
    BLIND = 512 << 10, /* no change of tables seen for so much output: blocks
                          may all have the same ones */
    LEAD = 32 << 20,   /* how far ahead of its readers the front keeps what it
                          decodes, and waits for them while they are active */
    IDLE_MS = 2000,    /* readers not seen for so long are gone */
    RUN_ON = 4 << 20, /* how far it goes unasked without a place in the crowd */
    PATIENCE_MS = 2000 /* after so long without one its memory is given up */
};

struct decoder {
    struct front front;
    struct plt_io *io;
    struct plt_stream *stream;
    struct plt_error err;

    uint8_t in[IN_CAP];
    size_t pos, end;
    uint64_t base; /* source offset of in[0] */
    bool is_eof;

    uint8_t before[GZIP_WINDOW]; /* the bytes before the slot */
    uint8_t *out;                /* the slot */
    size_t fill;
    struct part part; /* what of it is not handed on yet, up to fill */

    struct inflate_state state, snapshot;
    uint64_t last_out, last_in; /* of the last point found */
    uint64_t blind_at; /* searched for the next one in vain up to here */
    uint64_t members;
    struct trial *trial; /* being collected, or NULL */
    struct trial *spare; /* for the next one, or NULL */
    bool has_place;      /* in the crowd */
    bool is_paused;      /* gave up for want of one */
};

static uint64_t out_now(const struct decoder *f)
{
    return f->part.slot_off + f->fill;
}

/* ---- Input ---- */

/* More input behind what there is, CARRY bytes before pos kept.  False: failed
 * (f->err), PLT_OK in f->err.status and is_eof at the end. */
static bool refill(struct decoder *f)
{
    if (f->is_eof)
        return true;
    if (gzip_sidecar_found(f->front.gz, f->io))
        return plt_fail(&f->err, PLT_AGAIN, "an index") == PLT_OK;
    const size_t keep = f->pos < CARRY ? f->pos : CARRY;
    const size_t drop = f->pos - keep;
    size_t got = 0;

    if (drop) {
        memmove(f->in, f->in + drop, f->end - drop);
        f->pos -= drop;
        f->end -= drop;
        f->base += drop;
    }
    const enum plt_status st = f->stream->read(f->stream, f->io, f->in + f->end,
                                               IN_CAP - f->end, &got, &f->err);
    if (st != PLT_OK)
        return false;
    f->is_eof = got == 0;
    f->end += got;
    pthread_mutex_lock(&f->front.gz->lock);
    if (f->base + f->end > f->front.gz->in) /* taken up at an older point */
        f->front.gz->in = f->base + f->end;
    pthread_mutex_unlock(&f->front.gz->lock);
    return true;
}

/* At least n bytes behind pos, or the end. */
static bool need(struct decoder *f, size_t n)
{
    while (f->end - f->pos < n && !f->is_eof) {
        if (!refill(f))
            return false;
    }
    return true;
}

/* ---- The queue ---- */

/* Why the finisher has given up, into f->err. */
static bool take_failure(struct decoder *f)
{
    f->err = f->front.finish_err;
    return false;
}

/* Hand on what is there.  False: the finisher has found a fault. */
static bool push(struct decoder *f)
{
    struct front *const q = &f->front;

    f->part.to = f->fill;
    pthread_mutex_lock(&q->lock);
    while (q->n_put - q->n_done == FRONT_PARTS)
        (void)pthread_cond_wait(&q->moved, &q->lock);
    q->parts[q->n_put++ % FRONT_PARTS] = f->part;
    const bool has_failed = q->has_failed;
    pthread_cond_broadcast(&q->moved);
    pthread_mutex_unlock(&q->lock);
    f->part.from = f->fill;
    f->part.n_marks = 0;
    return has_failed ? take_failure(f) : true;
}

/* Until everything is finished. */
static bool drain(struct decoder *f)
{
    struct front *const q = &f->front;

    pthread_mutex_lock(&q->lock);
    while (q->n_done != q->n_put)
        (void)pthread_cond_wait(&q->moved, &q->lock);
    const bool has_failed = q->has_failed;
    pthread_mutex_unlock(&q->lock);
    return has_failed ? take_failure(f) : true;
}

/* A free slot, from `fill` on. */
static void take_slot(struct decoder *f, uint64_t slot_off, size_t fill)
{
    struct front *const q = &f->front;
    unsigned i = 0;

    pthread_mutex_lock(&q->lock);
    while (q->is_slot_taken[i]) {
        if (++i == FRONT_SLOTS) {
            (void)pthread_cond_wait(&q->moved, &q->lock);
            i = 0;
        }
    }
    q->is_slot_taken[i] = true;
    pthread_mutex_unlock(&q->lock);
    f->out = q->slots[i];
    f->fill = fill;
    f->part = (struct part){
        .slot = i, .slot_off = slot_off, .from = fill, .head = fill};
}

/* The slot is full. */
static bool next_slot(struct decoder *f)
{
    memcpy(f->before, f->out + FRONT_SLOT - GZIP_WINDOW, GZIP_WINDOW);
    f->part.is_full = true;
    const bool is_good = push(f);
    take_slot(f, f->part.slot_off + FRONT_SLOT, 0);
    return is_good;
}

/* At fill. */
static bool mark(struct decoder *f, const struct mark *m)
{
    if (f->part.n_marks == FRONT_MARKS && !push(f))
        return false;
    f->part.marks[f->part.n_marks] = *m;
    f->part.marks[f->part.n_marks++].at = f->fill;
    return true;
}

static struct trial *free_trial_locked(struct front *q)
{
    for (size_t i = 0; i < FRONT_TRIALS; i++) {
        if (!q->trials[i].is_taken)
            return &q->trials[i];
    }
    return NULL;
}

/* For the next point.  Waits for the finisher rather than leave the point out:
 * where points are is no matter of who is faster, and two indexes of a file are
 * equal. */
static bool take_trial(struct decoder *f)
{
    struct front *const q = &f->front;

    /* What closes the others may not be handed on yet. */
    pthread_mutex_lock(&q->lock);
    f->spare = free_trial_locked(q);
    pthread_mutex_unlock(&q->lock);
    if (!f->spare && !push(f))
        return false;
    pthread_mutex_lock(&q->lock);
    while (!f->spare && !q->has_failed) {
        f->spare = free_trial_locked(q);
        if (!f->spare)
            (void)pthread_cond_wait(&q->moved, &q->lock);
    }
    if (f->spare)
        f->spare->is_taken = true;
    pthread_mutex_unlock(&q->lock);
    return f->spare || take_failure(f);
}

/* ---- Points ---- */

static bool is_due(const struct decoder *f)
{
    const uint64_t out = out_now(f) - f->last_out;
    const uint64_t in = f->base + f->pos - f->last_in;
    return !f->trial && ((out >= POINT_FIRST && f->last_out == 0) ||
                         (out >= POINT_OUT && in >= POINT_IN) ||
                         in >= POINT_IN_MOST || out >= POINT_OUT_MAX);
}

/* A block begins at in_bits, with the output where it is. */
static bool open_trial(struct decoder *f, uint64_t in_bits)
{
    struct trial *const t = f->spare;
    const size_t from = (size_t)(in_bits / 8 - f->base);
    const size_t here = f->fill < GZIP_WINDOW ? f->fill : GZIP_WINDOW;

    f->spare = NULL;
    f->trial = t;
    f->last_out = out_now(f);
    f->last_in = in_bits / 8;
    f->blind_at = 0;
    t->point = (struct gzip_point){.out = f->last_out, .in_bits = in_bits};
    memcpy(t->window, f->before + here, GZIP_WINDOW - here);
    memcpy(t->window + GZIP_WINDOW - here, f->out + f->fill - here, here);
    t->in_len = f->pos - from;
    memcpy(t->in, f->in + from, t->in_len);
    t->out_len = 0;
    return mark(f, &(struct mark){.kind = MARK_POINT, .trial = t});
}

/* Enough has followed, or the member has ended. */
static bool close_trial(struct decoder *f)
{
    struct trial *const t = f->trial;

    f->trial = NULL;
    return mark(f, &(struct mark){.kind = MARK_TRIAL, .trial = t});
}

/* ---- Output ---- */

/* Account n bytes that came out behind fill, from n_in of input. */
static bool took(struct decoder *f, size_t n_in, size_t n)
{
    struct trial *const t = f->trial;

    if (t) {
        const size_t room = TRIAL_IN - t->in_len;
        const size_t more = n_in < room ? n_in : room;
        memcpy(t->in + t->in_len, f->in + f->pos, more);
        t->in_len += more;
        const size_t out_room = GZIP_WINDOW - t->out_len;
        const size_t out_more = n < out_room ? n : out_room;
        memcpy(t->out + t->out_len, f->out + f->fill, out_more);
        t->out_len += out_more;
    }
    f->pos += n_in;
    f->fill += n;
    return t && t->out_len == GZIP_WINDOW ? close_trial(f) : true;
}

/* ---- Decoding ---- */

/* One call of ISA-L with at most n_in bytes and the block's room.  What came
 * out is not yet accounted.  False: the data is no deflate. */
static bool call(struct decoder *f, size_t n_in, size_t *took_in, size_t *got)
{
    struct inflate_state *const s = &f->state;
    const size_t room = FRONT_SLOT - f->fill;

    s->next_in = f->in + f->pos;
    s->avail_in = (uint32_t)n_in;
    s->next_out = f->out + f->fill;
    s->avail_out = (uint32_t)room;
    const int r = isal_inflate(s);
    *took_in = n_in - s->avail_in;
    *got = room - s->avail_out;
    return r >= ISAL_DECOMP_OK;
}

/* The state stands inside a header whose first bit is known, with nothing
 * decoded and not yet given out. */
static bool at_header(const struct decoder *f)
{
    const struct inflate_state *const s = &f->state;
    return s->block_state == ISAL_BLOCK_HDR && s->avail_out > 0 &&
           s->tmp_out_valid == s->tmp_out_processed && s->tmp_in_size > 0;
}

/* Has a block begun in the n bytes of input since remember()? */
static bool has_new_header(const struct decoder *f, size_t n)
{
    const struct inflate_state *const a = &f->snapshot, *const b = &f->state;

    if (a->block_state == ISAL_BLOCK_TYPE0)
        return a->type0_block_len <= (int32_t)n; /* or it goes on */
    return b->block_state == ISAL_BLOCK_TYPE0 ||
           memcmp(&a->lit_huff_code, &b->lit_huff_code,
                  sizeof(a->lit_huff_code)) != 0;
}

static bool is_given_out(const struct inflate_state *s)
{
    return s->tmp_out_valid == s->tmp_out_processed;
}

/* The state, to go back to with pos and fill as they are.  What ISA-L has for a
 * history need not be copied: it is the output. */
static void remember(struct decoder *f)
{
    const struct inflate_state *const s = &f->state;

    memcpy(&f->snapshot, s, offsetof(struct inflate_state, tmp_out_buffer));
    if (!is_given_out(s))
        memcpy(f->snapshot.tmp_out_buffer, s->tmp_out_buffer,
               (size_t)s->tmp_out_valid);
}

static void go_back(struct decoder *f)
{
    struct inflate_state *const s = &f->state;
    const size_t here = f->fill < GZIP_WINDOW ? f->fill : GZIP_WINDOW;

    memcpy(s, &f->snapshot, offsetof(struct inflate_state, tmp_out_buffer));
    if (!is_given_out(s)) {
        memcpy(s->tmp_out_buffer, f->snapshot.tmp_out_buffer,
               (size_t)s->tmp_out_valid);
        return;
    }
    memcpy(s->tmp_out_buffer, f->before + here, GZIP_WINDOW - here);
    memcpy(s->tmp_out_buffer + GZIP_WINDOW - here, f->out + f->fill - here,
           here);
    s->tmp_out_valid = s->tmp_out_processed = GZIP_WINDOW;
}

static bool no_deflate(struct decoder *f)
{
    return plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->pos,
                       "not deflate data") == PLT_OK;
}

/* Decode the slice up to a header, in ever smaller steps.  Each call costs
 * ISA-L a copy of its history. */
static bool decode_finely(struct decoder *f, size_t slice, size_t step)
{
    size_t end = f->pos + slice;
    size_t n_in, got;

    while (f->pos < end && f->fill < FRONT_SLOT &&
           f->state.block_state != ISAL_BLOCK_FINISH) {
        const size_t left = end - f->pos, n = left < step ? left : step;
        if (step > STEP)
            remember(f);
        if (!call(f, n, &n_in, &got))
            return no_deflate(f);
        if (step > STEP && has_new_header(f, n)) {
            go_back(f);
            end = f->pos + n;
            step = step / NARROWER > STEP ? step / NARROWER : STEP;
            continue;
        }
        if (!took(f, n_in, got))
            return false;
        if (f->spare && is_due(f) && at_header(f)) {
            const struct inflate_state *const s = &f->state;
            if (!open_trial(f, (f->base + f->pos) * 8 -
                                   (uint64_t)s->read_in_length -
                                   (uint64_t)s->tmp_in_size * 8))
                return false;
            break;
        }
        if (!n_in && !got)
            break;
    }
    return true;
}

/* Decode some.  False: failed, f->err says how. */
static bool decode_some(struct decoder *f)
{
    size_t n_in, got;
    size_t avail = f->end - f->pos;
    const bool is_wanted = is_due(f);

    if (is_wanted && !f->spare && !take_trial(f))
        return false;
    if (!avail && !f->is_eof) {
        if (!refill(f))
            return false;
        avail = f->end - f->pos;
    }
    bool is_good;
    if (is_wanted && avail) {
        const size_t slice = avail < SLICE ? avail : SLICE;
        const uint64_t out = out_now(f);
        if (!f->blind_at)
            f->blind_at = out + BLIND;
        if (out >= f->blind_at) {
            f->blind_at = out + POINT_OUT_MAX; /* it is slow */
            return decode_finely(f, slice, STEP);
        }
        remember(f);
        is_good = call(f, slice, &n_in, &got);
        if (is_good && has_new_header(f, slice)) {
            go_back(f);
            return decode_finely(f, slice, SLICE / NARROWER);
        }
    } else {
        is_good = call(f, avail, &n_in, &got);
    }
    if (!is_good)
        return no_deflate(f);
    if (!took(f, n_in, got))
        return false;
    if (!n_in && !got && f->state.block_state != ISAL_BLOCK_FINISH &&
        f->fill < FRONT_SLOT && f->is_eof)
        return plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->end,
                           "the stream ends inside a member") == PLT_OK;
    return true;
}

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
        if (!decode_some(f))
            return false;
        if (f->fill == FRONT_SLOT) {
            if (!next_slot(f) || !pace(f))
                return false;
        }
    }
    if (f->trial && !close_trial(f))
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
        if (!need(f, want))
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
    const bool is_point = is_due(f) || out_now(f) == 0;
    if (is_point) {
        f->last_out = out_now(f);
        f->last_in = at;
    }
    if (!mark(f, &(struct mark){
                     .kind = MARK_MEMBER, .src = at, .is_point = is_point}))
        return false;
    f->pos += h.len;
    isal_inflate_init(&f->state);
    return true;
}

static bool run_trailer(struct decoder *f)
{
    if (!need(f, 8))
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
    return mark(f, &m);
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
    take_slot(f, p.out / FRONT_SLOT * FRONT_SLOT, (size_t)(p.out % FRONT_SLOT));
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
        if (!need(f, 1))
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
    return push(f);
}

/* The same, until all that was decoded is finished. */
static bool run_all(struct decoder *f)
{
    const bool is_good = run(f);

    if (f->stream)
        f->stream->close(f->stream);
    f->stream = NULL;
    /* A fault that the finisher found lies before any other. */
    return drain(f) && is_good;
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

static void run_plain(struct gzip_image *gz, struct plt_io *io)
{
    struct pair p = {.decoder = NULL};
    struct plt_error err = {.at = PLT_AT_NONE};
    bool goes_on = true, has_place = false;

    if (gz->claims)
        gzip_prove(gz, io);
    while (goes_on) {
        if (!p.decoder && !pair_start(gz, io, has_place, &p, &err)) {
            pair_stop(gz, &p);
            goes_on = err.status == PLT_NOMEM
                          ? rest(gz, io, &has_place)
                          : gzip_front_failed(gz, io, &err, true);
            continue;
        }
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
