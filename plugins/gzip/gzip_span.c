/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding again what lies behind the front: from the nearest point to the end
 * of the blocks that are asked for, or, when the reader goes on, of the last
 * block that begins before the next point.  Each block goes straight into the
 * cache's memory, and nothing of it is given out before its CRC-32 is what the
 * front took of the same bytes. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>

#include "gzip_header.h"
#include "gzip_image.h"

enum { IN_SLACK = 16 * 1024 };

/* What is to be decoded. */
struct range {
    struct gzip_point start; /* window: borrowed, fixed while open */
    uint64_t first, end;     /* of what goes into blocks; first is a block's
                                beginning, end another one's or the size */
    uint64_t in_off, in_end; /* source bytes that ought to do */
    uint64_t in_most;        /* that certainly do */
    const uint32_t *crcs;    /* from first on; new */
};

struct decoding {
    struct inflate_state state;
    const uint8_t *in;
    size_t len, pos;
    uint8_t window[GZIP_WINDOW];
    uint8_t scratch[GZIP_BLOCK]; /* what goes nowhere */
};

enum outcome { DECODED, SHORT, BAD, NO_MEMORY };

/* Source bytes up to where `out` has been decoded, by the points around it. */
static void bound_input(const struct gzip_image *gz, uint64_t out,
                        uint64_t *likely, uint64_t *most)
{
    const size_t i = gzip_points_find(gz, out - 1);
    const struct gzip_point *const p = &gz->points[i];
    const bool is_last = i + 1 == gz->n_points;
    const uint64_t next_out = is_last ? gz->out : gz->points[i + 1].out;
    const uint64_t next_in =
        is_last ? gz->in : gz->points[i + 1].in_bits / 8 + 1;
    const uint64_t in = p->in_bits / 8;
    const uint64_t n = next_in > in ? next_in - in : 0;
    const uint64_t span = next_out > p->out ? next_out - p->out : 1;

    *most = in + n;
    /* As if it were evenly packed, and some more: 128 bits hold the product. */
    *likely = in + IN_SLACK +
              (uint64_t)((__extension__(unsigned __int128) n * (out - p->out)) /
                         span * 9 / 8);
    if (*likely > *most)
        *likely = *most;
}

/* What the reader wants of it. */
struct wanted {
    uint8_t *buf;
    uint64_t off;
    size_t len;
};

static uint64_t block_end(uint64_t off)
{
    return (off + GZIP_BLOCK - 1) / GZIP_BLOCK * GZIP_BLOCK;
}

/* Lock held. */
static enum plt_status plan_locked(struct gzip_image *gz,
                                   const struct wanted *w, bool is_forward,
                                   struct range *r, struct plt_error *err)
{
    const uint64_t a = w->off / GZIP_BLOCK * GZIP_BLOCK;
    const size_t i = gzip_points_find(gz, a);

    if (!gz->n_points)
        return plt_fail(err, PLT_NOMEM, "not even one restart point");
    const struct gzip_point *const p = &gz->points[i];
    r->start = *p;
    r->first =
        is_forward ? (p->out + GZIP_BLOCK - 1) / GZIP_BLOCK * GZIP_BLOCK : a;
    /* Up to the next point, where another decoding begins; who does not go on
     * wants no more than he asks for. */
    r->end = is_forward ? PLT_SIZE_MAX : block_end(w->off + w->len);
    if (i + 1 < gz->n_points && gz->points[i + 1].out < r->end)
        r->end = block_end(gz->points[i + 1].out);
    if (r->end > p->out + POINT_OUT_MAX && r->end > block_end(w->off + w->len))
        r->end = block_end(w->off + w->len);
    if (r->end < a + GZIP_BLOCK)
        r->end = a + GZIP_BLOCK;
    if (r->end > gz->out)
        r->end = gz->state == FRONT_DONE ? gz->out
                                         : gz->out / GZIP_BLOCK * GZIP_BLOCK;
    r->in_off = p->in_bits / 8;
    bound_input(gz, r->end, &r->in_end, &r->in_most);
    if (r->end <= a || r->end - p->out > MAX_SPAN || r->in_most <= r->in_off ||
        r->in_most - r->in_off > MAX_SPAN)
        return plt_fail_at(err, PLT_UNSUPPORTED, a,
                           "no restart point within 64 MiB");
    const size_t first = (size_t)(r->first / GZIP_BLOCK);
    const size_t n = (size_t)((r->end + GZIP_BLOCK - 1) / GZIP_BLOCK) - first;
    if (first + n > gz->n_crcs)
        return plt_fail_at(err, PLT_BUG, a, "a block without its checksum");
    uint32_t *const crcs = malloc(n * sizeof(*crcs));
    if (!crcs)
        return plt_fail(err, PLT_NOMEM, "checksums");
    memcpy(crcs, gz->crcs + first, n * sizeof(*crcs));
    r->crcs = crcs;
    return PLT_OK;
}

/* ---- Decoding ---- */

static enum outcome begin(struct decoding *d, const struct gzip_point *start)
{
    const unsigned skip = (unsigned)(start->in_bits % 8);

    isal_inflate_init(&d->state);
    if (start->flags & GZIP_AT_MEMBER) {
        d->state.block_state = ISAL_BLOCK_FINISH; /* a header comes next */
        return DECODED;
    }
    /* We packed it, or unpacked it once when it was loaded. */
    if (start->window_len && !gzip_window_unpack(start, d->window))
        return NO_MEMORY;
    if (isal_inflate_set_dict(&d->state, d->window, GZIP_WINDOW) !=
        ISAL_DECOMP_OK)
        return BAD;
    d->state.read_in = (uint64_t)d->in[0] >> skip;
    d->state.read_in_length = (int32_t)(8 - skip);
    d->pos = 1;
    return DECODED;
}

/* A member has ended, or none has begun: its header. */
static enum outcome next_member(struct decoding *d, bool is_first)
{
    struct gzip_header h;

    if (!is_first) {
        /* What ISA-L has read ahead is not the member's. */
        d->pos -= (size_t)(d->state.read_in_length / 8);
        d->pos += 8; /* its trailer; the blocks have sums of their own */
    }
    if (d->pos > d->len)
        return SHORT;
    switch (gzip_header_parse(d->in + d->pos, d->len - d->pos, &h)) {
    case GZIP_PARSED:
        break;
    case GZIP_MORE:
        return SHORT;
    case GZIP_BAD:
    default:
        return BAD;
    }
    d->pos += h.len;
    isal_inflate_init(&d->state);
    return DECODED;
}

/* The next len bytes. */
static enum outcome decode(struct decoding *d, uint8_t *out, size_t len,
                           bool *is_first)
{
    struct inflate_state *const s = &d->state;
    size_t got = 0;

    while (got < len) {
        if (s->block_state == ISAL_BLOCK_FINISH &&
            s->tmp_out_valid == s->tmp_out_processed) {
            const enum outcome o = next_member(d, *is_first);
            if (o != DECODED)
                return o;
        }
        *is_first = false;
        union {
            const uint8_t *in;
            uint8_t *isal; /* its pointer is not const; it does not write */
        } u = {.in = d->in + d->pos};
        s->next_in = u.isal;
        s->avail_in = (uint32_t)(d->len - d->pos);
        s->next_out = out + got;
        s->avail_out = (uint32_t)(len - got);
        const int r = isal_inflate(s);
        const size_t before = got;
        got = len - s->avail_out;
        d->pos = d->len - s->avail_in;
        if (r < ISAL_DECOMP_OK)
            return BAD;
        if (got == before && s->block_state != ISAL_BLOCK_FINISH)
            return SHORT;
    }
    return DECODED;
}

/* A CRC that does not hold: the source has changed under its validator, or the
 * kept index is not its own.  Forget the index, so that the next opening
 * begins anew. */
static enum plt_status mistrust(struct gzip_image *gz, uint64_t at,
                                struct plt_error *err)
{
    pthread_mutex_lock(&gz->lock);
    gz->is_kept = false;
    if (gz->state_fd >= 0 && ftruncate(gz->state_fd, 0) != 0)
        gz->is_kept = false; /* a file that stays is seen through next time */
    pthread_mutex_unlock(&gz->lock);
    return plt_fail_at(err, PLT_CHANGED, at,
                       "decoded data is not what it was before");
}

static void give(const struct wanted *w, uint64_t a, const uint8_t *data,
                 size_t len)
{
    const uint64_t from = w->off > a ? w->off : a;
    const uint64_t end = w->off + w->len, to = end < a + len ? end : a + len;

    if (from < to)
        memcpy(w->buf + (from - w->off), data + (from - a),
               (size_t)(to - from));
}

/* One block, into the cache where it takes it. */
static enum outcome decode_block(struct gzip_image *gz, struct decoding *d,
                                 const struct range *r, uint64_t a,
                                 bool *is_first, const struct wanted *w)
{
    struct plt_host *const host = gz->host;
    const size_t len =
        r->end - a < GZIP_BLOCK ? (size_t)(r->end - a) : GZIP_BLOCK;
    const uint32_t crc = r->crcs[(a - r->first) / GZIP_BLOCK];
    struct plt_error again = {.at = PLT_AT_NONE};
    struct plt_block *block;
    const enum plt_claim claim =
        host->block_claim(host, a / GZIP_BLOCK, len, false, &block);
    const bool is_mine = claim == PLT_CLAIM_FILL;
    uint8_t *const out = is_mine ? block->data : d->scratch;

    if (claim == PLT_CLAIM_HIT || claim == PLT_CLAIM_PENDING)
        host->block_release(host, block);
    enum outcome o = decode(d, out, len, is_first);
    if (o == DECODED && libdeflate_crc32(0, out, len) != crc)
        o = BAD;
    if (o == DECODED)
        give(w, a, out, len);
    if (is_mine && o == DECODED) {
        host->block_commit(host, block);
        host->block_release(host, block);
    } else if (is_mine) {
        again.status = plt_fail(&again, PLT_AGAIN, "a block");
        host->block_abandon(host, block, &again);
    }
    return o;
}

/* With the source's bytes up to r->in_end. */
static enum outcome decode_blocks(struct gzip_image *gz, struct decoding *d,
                                  const struct range *r, const struct wanted *w,
                                  uint64_t *at)
{
    bool is_first = (r->start.flags & GZIP_AT_MEMBER) != 0;
    enum outcome o = begin(d, &r->start);

    *at = r->start.out;
    while (o == DECODED && *at < r->first) {
        const uint64_t left = r->first - *at;
        const size_t n = left < GZIP_BLOCK ? (size_t)left : GZIP_BLOCK;
        o = decode(d, d->scratch, n, &is_first);
        *at += n;
    }
    for (uint64_t a = r->first; o == DECODED && a < r->end; a += GZIP_BLOCK) {
        *at = a;
        o = decode_block(gz, d, r, a, &is_first, w);
    }
    return o;
}

static enum plt_status decode_range(struct gzip_image *gz, struct plt_io *io,
                                    struct range *r, const struct wanted *w,
                                    struct plt_error *err)
{
    const size_t most = (size_t)(r->in_most - r->in_off);
    const uint64_t mem = (uint64_t)most + sizeof(struct decoding);
    enum plt_status st = gz->host->mem_take(gz->host, mem, err);
    enum outcome o = SHORT;
    size_t len = 0;
    uint64_t at = r->start.out;

    if (st != PLT_OK)
        return st;
    uint8_t *const in = malloc(most);
    struct decoding *const d = calloc(1, sizeof(*d));
    if (!in || !d)
        st = plt_fail(err, PLT_NOMEM, "a span");
    while (st == PLT_OK && o == SHORT && len < most) {
        const size_t want = len ? most : (size_t)(r->in_end - r->in_off);
        const struct plt_seg seg = {r->in_off + len, want - len, in + len};
        st = gz->child->read(gz->child, io, &seg, 1, err);
        len = want;
        if (st != PLT_OK)
            break;
        d->in = in;
        d->len = len;
        d->pos = 0;
        o = decode_blocks(gz, d, r, w, &at);
    }
    if (st == PLT_OK && o == NO_MEMORY)
        st = plt_fail(err, PLT_NOMEM, "a window");
    else if (st == PLT_OK && o != DECODED)
        st = mistrust(gz, at, err);
    free(in);
    free(d);
    gz->host->mem_give(gz->host, mem);
    return st;
}

/* ---- Reading ---- */

static bool is_busy_locked(const struct gzip_image *gz, size_t point)
{
    for (unsigned i = 0; i < gz->n_busy; i++) {
        if (gz->busy[i] == point)
            return true;
    }
    return gz->n_busy == MAX_BUSY;
}

static bool from_cache(struct gzip_image *gz, const struct wanted *w,
                       uint64_t a, size_t block_len, size_t *did)
{
    struct plt_block *b;
    const uint64_t left = a + block_len - w->off;

    if (gz->host->block_claim(gz->host, a / GZIP_BLOCK, block_len, true, &b) !=
        PLT_CLAIM_HIT)
        return false;
    give(w, a, b->data, block_len);
    *did = left < w->len ? (size_t)left : w->len;
    gz->host->block_release(gz->host, b);
    return true;
}

/* Until nobody decodes from that point. */
static enum plt_status await_turn_locked(struct gzip_image *gz,
                                         struct plt_io *io, size_t point,
                                         bool *has_waited,
                                         struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    *has_waited = false;
    while (is_busy_locked(gz, point) && st == PLT_OK) {
        *has_waited = true;
        gzip_wait_locked(gz, gzip_now_ns() + 100 * UINT64_C(1000000));
        if (io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
        else if (gzip_now_ns() >= io->deadline_ns)
            st = plt_fail(err, PLT_TIMEOUT, "a span was not ready in time");
    }
    return st;
}

enum plt_status gzip_span_read(struct gzip_image *gz, struct plt_io *io,
                               void *buf, uint64_t off, size_t len,
                               bool is_forward, size_t *did,
                               struct plt_error *err)
{
    const uint64_t a = off / GZIP_BLOCK * GZIP_BLOCK;
    const struct wanted w = {buf, off, len};
    struct range r = {.crcs = NULL};
    bool has_waited;

    pthread_mutex_lock(&gz->lock);
    const size_t first = gzip_points_find(gz, a);
    enum plt_status st = await_turn_locked(gz, io, first, &has_waited, err);
    const uint64_t block_len =
        gz->out - a < GZIP_BLOCK ? gz->out - a : GZIP_BLOCK;
    if (st == PLT_OK)
        st = plan_locked(gz, &w, is_forward, &r, err);
    if (st == PLT_OK)
        gz->busy[gz->n_busy++] = first;
    pthread_mutex_unlock(&gz->lock);
    if (st != PLT_OK)
        return st;
    if (!has_waited || !from_cache(gz, &w, a, (size_t)block_len, did)) {
        st = decode_range(gz, io, &r, &w, err);
        *did = r.end - off < len ? (size_t)(r.end - off) : len;
    }
    union {
        const uint32_t *crcs;
        void *memory;
    } u = {.crcs = r.crcs};
    free(u.memory);
    pthread_mutex_lock(&gz->lock);
    for (unsigned i = 0; i < gz->n_busy; i++) {
        if (gz->busy[i] == first) {
            gz->busy[i] = gz->busy[--gz->n_busy];
            break;
        }
    }
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    return st;
}
