/* SPDX-License-Identifier: Apache-2.0 */
/* ISA-L has no way to stop at a block's end.  But a block header is at least a
 * few bytes, and when the input ends inside one, the state says so
 * (ISAL_BLOCK_HDR) and the bits before it are exactly the block's beginning. So
 * when a point is due, input goes in by slices of 4 KiB, each after a snapshot
 * of the state; a slice in which the Huffman tables changed had a header in it,
 * and is decoded again from the snapshot in ever smaller steps, one of which
 * ends inside the header.  That costs some tens of microseconds a point, and
 * nothing between points. */
#include "gzip_decode.h"

#include <stddef.h>
#include <string.h>

#include "gzip_sidecar.h"

enum {
    CARRY = 1024, /* consumed input that stays at hand: ISA-L's read-ahead, and
                     the part of a header that it keeps */
    SLICE = 4096, /* searched for a header at a time, and then ... */
    NARROWER = 8, /* ... in so many parts, and each part of it, down to ... */
    STEP = 4,
    BLIND = 512 << 10 /* no change of tables seen for so much output: blocks
                          may all have the same ones */
};

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
    const enum plt_status st = f->stream->read(
        f->stream, f->io, f->in + f->end, GZIP_IN_CAP - f->end, &got, &f->err);
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
bool gzip_need(struct decoder *f, size_t n)
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
bool gzip_push(struct decoder *f)
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
bool gzip_drain(struct decoder *f)
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
void gzip_take_slot(struct decoder *f, uint64_t slot_off, size_t fill)
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
bool gzip_next_slot(struct decoder *f)
{
    memcpy(f->before, f->out + FRONT_SLOT - GZIP_WINDOW, GZIP_WINDOW);
    f->part.is_full = true;
    const bool is_good = gzip_push(f);
    gzip_take_slot(f, f->part.slot_off + FRONT_SLOT, 0);
    return is_good;
}

/* At fill. */
bool gzip_mark(struct decoder *f, const struct mark *m)
{
    if (f->part.n_marks == FRONT_MARKS && !gzip_push(f))
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
    if (!f->spare && !gzip_push(f))
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

bool gzip_is_due(const struct decoder *f)
{
    const uint64_t out = gzip_out_now(f) - f->last_out;
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
    f->last_out = gzip_out_now(f);
    f->last_in = in_bits / 8;
    f->blind_at = 0;
    t->point = (struct gzip_point){.out = f->last_out, .in_bits = in_bits};
    memcpy(t->window, f->before + here, GZIP_WINDOW - here);
    memcpy(t->window + GZIP_WINDOW - here, f->out + f->fill - here, here);
    t->in_len = f->pos - from;
    memcpy(t->in, f->in + from, t->in_len);
    t->out_len = 0;
    return gzip_mark(f, &(struct mark){.kind = MARK_POINT, .trial = t});
}

/* Enough has followed, or the member has ended. */
bool gzip_close_trial(struct decoder *f)
{
    struct trial *const t = f->trial;

    f->trial = NULL;
    return gzip_mark(f, &(struct mark){.kind = MARK_TRIAL, .trial = t});
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
    return t && t->out_len == GZIP_WINDOW ? gzip_close_trial(f) : true;
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
        if (f->spare && gzip_is_due(f) && at_header(f)) {
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
bool gzip_decode_some(struct decoder *f)
{
    size_t n_in, got;
    size_t avail = f->end - f->pos;
    const bool is_wanted = gzip_is_due(f);

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
        const uint64_t out = gzip_out_now(f);
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
