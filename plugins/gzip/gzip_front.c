/* SPDX-License-Identifier: Apache-2.0 */
/* The front: one pass over the stream, as fast as ISA-L goes, that leaves
 * behind blocks for readers, zero runs, and restart points.
 *
 * ISA-L has no way to stop at a block's end.  But a block header is at least a
 * few bytes, and when the input ends inside one, the state says so
 * (ISAL_BLOCK_HDR) and the bits before it are exactly the block's beginning. So
 * when a point is due, input goes in by slices of 4 KiB, each after a snapshot
 * of the state; a slice in which the Huffman tables changed had a header in it,
 * and is decoded again from the snapshot in steps of STEP bytes, one of which
 * ends inside the header.  That costs a few microseconds a point, and nothing
 * between points.
 *
 * A candidate found so is not believed: the 32 KiB that follow it are decoded
 * three times from there, with dictionaries that say of each output byte
 * whether it came out of the window and from where (i & 255, i >> 8, and the
 * complement of the first).  If what comes out is what the stream gave, the
 * point is right, and the window's bytes that nobody asked for become zeros. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <zlib.h>

#include <platter/bytes.h>

#include "gzip_header.h"
#include "gzip_image.h"

enum {
    IN_CAP = 512 * 1024,
    CARRY = 1024, /* consumed input that stays at hand: ISA-L's read-ahead, and
                     the part of a header that it keeps */
    SLICE = 4096,
    STEP = 4,
    TRIAL_IN = 48 * 1024, /* 32 KiB of output need no more */
    LEAD = 32 << 20, /* how far ahead of its readers the front keeps what it
                        decodes, and waits for them while they are active */
    IDLE_MS = 2000,  /* readers not seen for so long are gone */
    RETRY_MS = 1000
};

/* A point found and not yet tried. */
struct pending {
    bool is_set;
    struct gzip_point point;
    uint32_t span_crc; /* of the span that it ends */
    uint8_t window[GZIP_WINDOW];
    uint8_t in[TRIAL_IN], out[GZIP_WINDOW];
    size_t in_len, out_len;
};

struct front {
    struct gzip_image *gz;
    struct plt_io *io;
    struct plt_stream *stream;
    struct plt_error err;

    uint8_t in[IN_CAP];
    size_t pos, end;
    uint64_t base; /* source offset of in[0] */
    bool is_eof;

    uint8_t out[GZIP_WINDOW + GZIP_BLOCK]; /* what came before, the block */
    size_t fill;                           /* bytes of the block */
    uint64_t block_off;
    bool is_headless; /* began inside the block */

    struct inflate_state state, snapshot, trial;
    uint32_t member_crc, member_len;
    /* the span since the last point */
    uint64_t last_out, last_in;
    uint32_t span_crc;           /* of its finished members */
    uint32_t part_crc, part_len; /* of this member where the span began */
    struct pending pending;
    uint64_t runs_written; /* zero runs are in the file up to here */
    uint8_t trial_out[3][GZIP_WINDOW];
    uint8_t dicts[3][GZIP_WINDOW];
};

static uint64_t out_now(const struct front *f)
{
    return f->block_off + f->fill;
}

/* CRC of this member's bytes since the span began or the member did. */
static uint32_t part_crc(const struct front *f, uint32_t crc, uint32_t len)
{
    const uint32_t n = len - f->part_len; /* modulo 2^32, spans are short */
    return crc ^ (uint32_t)crc32_combine(f->part_crc, 0, (z_off_t)n);
}

static uint32_t span_crc_at(const struct front *f, uint32_t crc, uint32_t len)
{
    return (uint32_t)crc32_combine(f->span_crc, part_crc(f, crc, len),
                                   (z_off_t)(len - f->part_len));
}

/* ---- Input ---- */

/* More input behind what there is, CARRY bytes before pos kept.  False: failed
 * (f->err), PLT_OK in f->err.status and is_eof at the end. */
static bool refill(struct front *f)
{
    if (f->is_eof)
        return true;
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
    pthread_mutex_lock(&f->gz->lock);
    f->gz->in = f->base + f->end;
    pthread_mutex_unlock(&f->gz->lock);
    return true;
}

/* At least n bytes behind pos, or the end. */
static bool need(struct front *f, size_t n)
{
    while (f->end - f->pos < n && !f->is_eof) {
        if (!refill(f))
            return false;
    }
    return true;
}

/* ---- Points ---- */

static void start_span(struct front *f, const struct gzip_point *p)
{
    f->last_out = p->out;
    f->last_in = p->in_bits / 8;
    f->span_crc = 0;
    f->part_crc = p->member_crc;
    f->part_len = p->member_len;
}

/* Take the point into the index and the file. */
static void keep_point(struct front *f, struct gzip_point *p, uint32_t prev_crc)
{
    struct gzip_image *const gz = f->gz;
    struct gzip_zero_run run = {0, 0};

    pthread_mutex_lock(&gz->lock);
    const bool is_added = gzip_points_add(gz, p);
    if (is_added && gz->n_points > 1)
        gz->points[gz->n_points - 2].crc = prev_crc;
    pthread_mutex_unlock(&gz->lock);
    if (!is_added) {
        free(p->window); /* no room: the span before just grows */
        return;
    }
    start_span(f, p);
    while (gz->is_kept && f->runs_written < p->out) {
        /* The next run not yet in the file, as far as it is known. */
        uint64_t next = 0;
        pthread_mutex_lock(&gz->lock);
        run.off = f->runs_written;
        run.len = gzip_runs_at(gz, run.off, &next);
        pthread_mutex_unlock(&gz->lock);
        if (run.len) {
            gz->is_kept = gzip_file_run(gz->state_fd, run.off, run.len);
            f->runs_written = run.off + run.len;
        } else if (next < p->out) {
            f->runs_written = next;
        } else {
            break;
        }
    }
    if (gz->is_kept)
        gz->is_kept = gzip_file_point(gz->state_fd, p, prev_crc);
}

static bool is_due(const struct front *f)
{
    const uint64_t out = out_now(f) - f->last_out;
    return !f->pending.is_set &&
           ((out >= POINT_FIRST && f->last_out == 0) ||
            (out >= POINT_OUT && f->base + f->pos - f->last_in >= POINT_IN) ||
            out >= POINT_OUT_MAX);
}

/* Decode what follows the candidate from it, with one dictionary. */
static bool try_restart(struct front *f, unsigned which)
{
    const struct pending *const p = &f->pending;
    struct inflate_state *const s = &f->trial;
    const unsigned skip = (unsigned)(p->point.in_bits % 8);

    isal_inflate_init(s);
    if (isal_inflate_set_dict(s, f->dicts[which], GZIP_WINDOW) !=
            ISAL_DECOMP_OK ||
        !p->in_len)
        return false;
    union {
        const uint8_t *in;
        uint8_t *isal; /* its pointer is not const; it does not write */
    } u = {.in = p->in};
    s->read_in = (uint64_t)p->in[0] >> skip;
    s->read_in_length = (int32_t)(8 - skip);
    s->next_in = u.isal + 1;
    s->avail_in = (uint32_t)p->in_len - 1;
    s->next_out = f->trial_out[which];
    s->avail_out = (uint32_t)p->out_len;
    return isal_inflate(s) >= ISAL_DECOMP_OK && s->avail_out == 0;
}

/* The candidate's trial; it becomes a point, or is forgotten. */
static void settle_pending(struct front *f)
{
    struct pending *const p = &f->pending;
    uint8_t used[GZIP_WINDOW] = {0};
    bool is_any = false;

    p->is_set = false;
    if (!p->out_len || !try_restart(f, 0) || !try_restart(f, 1) ||
        !try_restart(f, 2))
        return;
    for (size_t i = 0; i < p->out_len; i++) {
        const uint8_t low = f->trial_out[0][i];
        if (low == f->trial_out[2][i]) {
            if (low != p->out[i])
                return;
            continue;
        }
        const size_t at = (size_t)low | (size_t)f->trial_out[1][i] << 8;
        if (at >= GZIP_WINDOW || p->window[at] != p->out[i])
            return;
        used[at] = 1;
        is_any = true;
    }
    if (is_any) {
        for (size_t i = 0; i < GZIP_WINDOW; i++) {
            if (!used[i])
                p->window[i] = 0;
        }
        p->point.window = gzip_window_pack(p->window, &p->point.window_len);
        if (!p->point.window)
            return;
    }
    keep_point(f, &p->point, p->span_crc);
}

static void open_pending(struct front *f, uint64_t in_bits)
{
    struct pending *const p = &f->pending;
    const size_t from = (size_t)(in_bits / 8 - f->base);

    p->is_set = true;
    p->point = (struct gzip_point){.out = out_now(f),
                                   .in_bits = in_bits,
                                   .member_crc = f->member_crc,
                                   .member_len = f->member_len};
    p->span_crc = span_crc_at(f, f->member_crc, f->member_len);
    memcpy(p->window, f->out + f->fill, GZIP_WINDOW);
    p->in_len = f->pos - from;
    memcpy(p->in, f->in + from, p->in_len);
    p->out_len = 0;
}

/* ---- Output ---- */

static bool all_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* The block is full, or the stream has ended: give it to the readers. */
static void publish(struct front *f, bool is_end)
{
    struct gzip_image *const gz = f->gz;
    const uint8_t *const data = f->out + GZIP_WINDOW;
    const size_t from = f->is_headless ? GZIP_BLOCK : 0;
    struct plt_block *block;
    bool has_data = false;
    bool zero[GZIP_BLOCK / ZERO_UNIT] = {false};

    for (size_t at = 0; at < f->fill; at += ZERO_UNIT) {
        zero[at / ZERO_UNIT] = !from && f->fill - at >= ZERO_UNIT &&
                               all_zero(data + at, ZERO_UNIT);
        has_data = has_data || !zero[at / ZERO_UNIT];
    }
    pthread_mutex_lock(&gz->lock);
    /* Twice the distance at which the front waits for its readers, so that none
     * of theirs is left out. */
    const bool is_wanted = f->block_off < gz->want + 2 * (uint64_t)LEAD;
    const bool is_new = out_now(f) > gz->out;
    pthread_mutex_unlock(&gz->lock);
    if (has_data && !from && is_wanted && is_new && f->fill) {
        const enum plt_claim claim = gz->host->block_claim(
            gz->host, f->block_off / GZIP_BLOCK, f->fill, false, &block);
        if (claim == PLT_CLAIM_FILL) {
            memcpy(block->data, data, f->fill);
            gz->host->block_commit(gz->host, block);
        }
        if (claim == PLT_CLAIM_FILL || claim == PLT_CLAIM_HIT)
            gz->host->block_release(gz->host, block);
        else if (claim == PLT_CLAIM_PENDING &&
                 gz->host->block_wait(gz->host, block, f->io, &f->err) ==
                     PLT_OK)
            gz->host->block_release(gz->host, block);
    }
    pthread_mutex_lock(&gz->lock);
    for (size_t i = 0; is_new && i < sizeof(zero) / sizeof(zero[0]); i++) {
        if (zero[i]) /* a run that finds no room is just data */
            (void)gzip_runs_add(gz, f->block_off + i * ZERO_UNIT, ZERO_UNIT);
    }
    if (is_new)
        gz->out = out_now(f);
    if (is_end) {
        /* With the length, so that nobody sees a last block of unknown size. */
        if (gz->n_points)
            gz->points[gz->n_points - 1].crc = f->span_crc;
        gz->state = FRONT_DONE;
    }
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    if (f->fill == GZIP_BLOCK) {
        memcpy(f->out, f->out + GZIP_BLOCK, GZIP_WINDOW);
        f->block_off += GZIP_BLOCK;
        f->fill = 0;
        f->is_headless = false;
    }
}

/* Account n bytes that came out behind fill, from n_in of input. */
static void took(struct front *f, size_t n_in, size_t n)
{
    const uint8_t *const data = f->out + GZIP_WINDOW + f->fill;
    struct pending *const p = &f->pending;

    f->member_crc = libdeflate_crc32(f->member_crc, data, n);
    f->member_len += (uint32_t)n;
    if (p->is_set) {
        const size_t room = TRIAL_IN - p->in_len;
        const size_t more = n_in < room ? n_in : room;
        memcpy(p->in + p->in_len, f->in + f->pos, more);
        p->in_len += more;
        const size_t out_room = GZIP_WINDOW - p->out_len;
        const size_t out_more = n < out_room ? n : out_room;
        memcpy(p->out + p->out_len, data, out_more);
        p->out_len += out_more;
    }
    f->pos += n_in;
    f->fill += n;
    if (p->is_set && p->out_len == GZIP_WINDOW)
        settle_pending(f);
}

/* ---- Decoding ---- */

/* One call of ISA-L with at most n_in bytes and the block's room.  What came
 * out is not yet accounted.  False: the data is no deflate. */
static bool call(struct front *f, size_t n_in, size_t *took_in, size_t *got)
{
    struct inflate_state *const s = &f->state;
    const size_t room = GZIP_BLOCK - f->fill;

    s->next_in = f->in + f->pos;
    s->avail_in = (uint32_t)n_in;
    s->next_out = f->out + GZIP_WINDOW + f->fill;
    s->avail_out = (uint32_t)room;
    const int r = isal_inflate(s);
    *took_in = n_in - s->avail_in;
    *got = room - s->avail_out;
    return r >= ISAL_DECOMP_OK;
}

/* The state stands inside a header whose first bit is known, with nothing
 * decoded and not yet given out. */
static bool at_header(const struct front *f)
{
    const struct inflate_state *const s = &f->state;
    return s->block_state == ISAL_BLOCK_HDR && s->avail_out > 0 &&
           s->tmp_out_valid == s->tmp_out_processed && s->tmp_in_size > 0;
}

static bool has_new_header(const struct front *f)
{
    const struct inflate_state *const a = &f->snapshot, *const b = &f->state;
    return a->block_state == ISAL_BLOCK_TYPE0 ||
           b->block_state == ISAL_BLOCK_TYPE0 ||
           memcmp(&a->lit_huff_code, &b->lit_huff_code,
                  sizeof(a->lit_huff_code)) != 0;
}

/* Decode the slice again from the snapshot, looking for a header. */
static bool decode_finely(struct front *f, size_t slice)
{
    const size_t end = f->pos + slice;
    size_t n_in, got;

    f->state = f->snapshot;
    while (f->pos < end && f->fill < GZIP_BLOCK &&
           f->state.block_state != ISAL_BLOCK_FINISH) {
        const size_t left = end - f->pos;
        if (!call(f, left < STEP ? left : STEP, &n_in, &got))
            return false;
        took(f, n_in, got);
        if (is_due(f) && at_header(f)) {
            const struct inflate_state *const s = &f->state;
            open_pending(f, (f->base + f->pos) * 8 -
                                (uint64_t)s->read_in_length -
                                (uint64_t)s->tmp_in_size * 8);
        }
        if (!n_in && !got)
            break;
    }
    return true;
}

/* Decode some.  False: failed, f->err says how. */
static bool decode_some(struct front *f)
{
    size_t n_in, got;
    size_t avail = f->end - f->pos;
    const bool is_searching = is_due(f);

    if (!avail && !f->is_eof) {
        if (!refill(f))
            return false;
        avail = f->end - f->pos;
    }
    bool is_good;
    if (is_searching && avail) {
        const struct inflate_state *const s = &f->state;
        size_t slice = avail < SLICE ? avail : SLICE;
        /* Inside a long stored block there is nothing to find. */
        const bool is_stored = s->block_state == ISAL_BLOCK_TYPE0 &&
                               s->type0_block_len > (int32_t)slice;
        f->snapshot = f->state;
        is_good = call(f, slice, &n_in, &got);
        if (is_good && !is_stored && has_new_header(f))
            return decode_finely(f, slice)
                       ? true
                       : (plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->pos,
                                      "not deflate data") == PLT_OK);
    } else {
        is_good = call(f, avail, &n_in, &got);
    }
    if (!is_good)
        return plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->pos,
                           "not deflate data") == PLT_OK;
    took(f, n_in, got);
    if (!n_in && !got && f->state.block_state != ISAL_BLOCK_FINISH &&
        f->fill < GZIP_BLOCK && f->is_eof)
        return plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->end,
                           "the stream ends inside a member") == PLT_OK;
    return true;
}

/* Let readers that are at work catch up: what is far ahead of them would be
 * thrown out of the cache before they come. */
static void pace(struct front *f)
{
    struct gzip_image *const gz = f->gz;

    pthread_mutex_lock(&gz->lock);
    while (!gz->is_stopping && !gz->n_waiting &&
           f->block_off > gz->want + LEAD &&
           gzip_now_ns() - gz->want_ns < IDLE_MS * UINT64_C(1000000))
        gzip_wait_locked(gz, gzip_now_ns() + 50 * UINT64_C(1000000));
    pthread_mutex_unlock(&gz->lock);
}

/* A member's data up to its last bit. */
static bool run_body(struct front *f)
{
    while (f->state.block_state != ISAL_BLOCK_FINISH ||
           f->state.tmp_out_valid != f->state.tmp_out_processed) {
        if (f->io->cancelled(f->io))
            return plt_fail(&f->err, PLT_CANCELLED, "closed") == PLT_OK;
        if (!decode_some(f))
            return false;
        if (f->fill == GZIP_BLOCK) {
            publish(f, false);
            pace(f);
        }
    }
    if (f->pending.is_set)
        settle_pending(f);
    /* What ISA-L has read ahead is not the member's. */
    f->pos -= (size_t)(f->state.read_in_length / 8);
    return true;
}

/* Header of a member at pos.  *is_end: there is none, and that is fine. */
static bool run_header(struct front *f, bool *is_end)
{
    struct gzip_header h;
    enum gzip_parse r;
    size_t want = 1024;
    struct gzip_image *const gz = f->gz;

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
    if (r != GZIP_PARSED && gz->members > 0) {
        /* gzip ignores what follows a whole member when it is no other one;
         * zeros up to a tape's block are not even worth a word. */
        pthread_mutex_lock(&gz->lock);
        for (size_t i = f->pos; i < f->end; i++)
            gz->has_garbage = gz->has_garbage || f->in[i];
        pthread_mutex_unlock(&gz->lock);
        *is_end = true;
        return true;
    }
    if (r != GZIP_PARSED)
        return plt_fail_at(&f->err, PLT_CORRUPT, at, "%s",
                           r == GZIP_BAD ? h.why : "the header is cut off") ==
               PLT_OK;
    pthread_mutex_lock(&gz->lock);
    gz->members++;
    pthread_mutex_unlock(&gz->lock);
    f->member_crc = f->member_len = 0;
    f->part_crc = f->part_len = 0;
    if (is_due(f) || out_now(f) == 0) {
        struct gzip_point p = {
            .out = out_now(f), .in_bits = at * 8, .flags = GZIP_AT_MEMBER};
        if (p.out > f->last_out || !gz->n_points)
            keep_point(f, &p, f->span_crc);
    }
    f->pos += h.len;
    isal_inflate_init(&f->state);
    return true;
}

static bool run_trailer(struct front *f)
{
    if (!need(f, 8))
        return false;
    if (f->end - f->pos < 8)
        return plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->end,
                           "the stream ends before a member's checksum") ==
               PLT_OK;
    const uint32_t crc = plt_le32(f->in + f->pos);
    const uint32_t len = plt_le32(f->in + f->pos + 4);
    if (crc != f->member_crc || len != f->member_len)
        return plt_fail_at(&f->err, PLT_CORRUPT, f->base + f->pos,
                           "a member's %s is wrong",
                           crc != f->member_crc ? "CRC-32" : "length") ==
               PLT_OK;
    f->span_crc = span_crc_at(f, f->member_crc, f->member_len);
    f->part_crc = f->part_len = f->member_crc = f->member_len = 0;
    f->pos += 8;
    return true;
}

/* From the last point on (there is none yet: from the start). */
static bool start(struct front *f, bool *is_inside)
{
    struct gzip_image *const gz = f->gz;
    struct gzip_point p = {.flags = GZIP_AT_MEMBER};
    bool is_good = true;

    memset(f->out, 0, GZIP_WINDOW);
    pthread_mutex_lock(&gz->lock);
    if (gz->n_points)
        p = gz->points[gz->n_points - 1]; /* window: points only grow */
    gz->requests++;
    if (p.in_bits && !gz->members)
        gz->members = 1; /* at least: the ones before are not counted again */
    pthread_mutex_unlock(&gz->lock);
    f->base = p.in_bits / 8;
    f->pos = f->end = 0;
    f->is_eof = false;
    f->block_off = p.out / GZIP_BLOCK * GZIP_BLOCK;
    f->fill = (size_t)(p.out % GZIP_BLOCK);
    f->is_headless = f->fill > 0;
    f->runs_written = p.out / ZERO_UNIT * ZERO_UNIT;
    f->pending.is_set = false;
    f->member_crc = p.member_crc;
    f->member_len = p.member_len;
    start_span(f, &p);
    *is_inside = !(p.flags & GZIP_AT_MEMBER);
    if (gz->child->stream_open(gz->child, f->io, f->base, &f->stream,
                               &f->err) != PLT_OK)
        return false;
    isal_inflate_init(&f->state);
    if (*is_inside) {
        const unsigned skip = (unsigned)(p.in_bits % 8);
        uint8_t *const window = f->dicts[0]; /* scratch here */
        memset(window, 0, GZIP_WINDOW);
        is_good = (!p.window_len || gzip_window_unpack(&p, window)) &&
                  isal_inflate_set_dict(&f->state, window, GZIP_WINDOW) ==
                      ISAL_DECOMP_OK;
        /* What of the block came before is not here, but the window is. */
        memcpy(f->out + f->fill, window, GZIP_WINDOW);
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
static bool run(struct front *f)
{
    bool is_inside, is_end = false;
    struct gzip_image *const gz = f->gz;

    if (!start(f, &is_inside))
        return false;
    for (unsigned i = 0; i < GZIP_WINDOW; i++) {
        f->dicts[0][i] = (uint8_t)(i & 255);
        f->dicts[1][i] = (uint8_t)(i >> 8);
        f->dicts[2][i] = (uint8_t) ~(i & 255);
    }
    while (!is_end) {
        if (!is_inside && !run_header(f, &is_end))
            return false;
        is_inside = false;
        if (!is_end && (!run_body(f) || !run_trailer(f)))
            return false;
    }
    publish(f, true);
    if (gz->is_kept)
        gz->is_kept = gzip_file_end(gz->state_fd, gz->out, gz->members,
                                    gz->has_garbage, f->span_crc);
    return true;
}

static bool is_final(enum plt_status st)
{
    return st == PLT_CORRUPT || st == PLT_CHANGED || st == PLT_UNSUPPORTED ||
           st == PLT_CANCELLED || st == PLT_BUG;
}

void gzip_front_run(void *image, struct plt_io *io)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    struct front *const f = calloc(1, sizeof(*f));
    struct plt_error err;
    bool is_over = false;

    if (f) {
        f->gz = gz;
        f->io = io;
        for (unsigned i = 0; i < GZIP_WINDOW; i++) {
            f->dicts[0][i] = (uint8_t)(i & 255);
            f->dicts[1][i] = (uint8_t)(i >> 8);
            f->dicts[2][i] = (uint8_t) ~(i & 255);
        }
    }
    while (!is_over) {
        if (f) {
            is_over = run(f);
            if (f->stream)
                f->stream->close(f->stream);
            f->stream = NULL;
            err = f->err;
        } else {
            err.status = plt_fail(&err, PLT_NOMEM, "a decoder");
        }
        if (is_over)
            break;
        pthread_mutex_lock(&gz->lock);
        gz->err = err;
        gz->state = FRONT_FAILED;
        gz->failed_ns = gzip_now_ns();
        pthread_cond_broadcast(&gz->moved);
        is_over = !f || is_final(err.status);
        /* An origin may come back: go on when a reader asks for it. */
        while (!is_over && gz->state == FRONT_FAILED) {
            is_over = gz->is_stopping || io->cancelled(io);
            if (!is_over)
                gzip_wait_locked(gz, gzip_now_ns() + 100 * UINT64_C(1000000));
        }
        pthread_mutex_unlock(&gz->lock);
    }
    free(f);
}
