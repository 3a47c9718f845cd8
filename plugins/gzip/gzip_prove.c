/* SPDX-License-Identifier: Apache-2.0 */
#include "gzip_prove.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libdeflate.h>
#include <zlib.h>

#include <platter/bytes.h>

#include "gzip_front.h"
#include "gzip_header.h"

enum {
    BATCH = 4,           /* spans read by one request and decoded at a time */
    BATCH_IN = 16 << 20, /* of compressed bytes, unless one span has more */
    APART = POINT_OUT,   /* nearer hints are not needed */
    SPAN_MIN = 2 * GZIP_WINDOW,
    AHEAD = 32 << 20 /* blocks farther ahead of readers are not kept */
};

/* What of one cache block lies in a span. */
struct piece {
    uint32_t crc, len;
    uint32_t zeros; /* bit i: its i-th unit is all zeros, and in the span */
    struct plt_block *block; /* ours to commit, or NULL */
};

struct span {
    /* What is claimed. */
    uint64_t out, out_end;
    uint64_t in_bits, in_end_bits;
    const struct gzip_point *known; /* begins at one of our own; or NULL */
    size_t hint;                    /* else */
    uint8_t *in;                    /* from in_bits / 8 */
    size_t in_len;

    /* What was found. */
    const char *why; /* the claim that does not hold, or NULL */
    bool ends_at_member;
    uint64_t member_at; /* then: where its header begins, in bits */
    uint64_t members;
    bool has_end; /* a member ended: */
    uint32_t first_crc, first_len, want_crc, want_len;
    uint32_t last_crc, last_len; /* behind the last one's end */
    size_t head_len;
    uint8_t head[GZIP_WINDOW], tail[GZIP_WINDOW], window[GZIP_WINDOW];
    struct piece *piece;
    size_t n_pieces;

    /* While it is decoded. */
    struct inflate_state state;
    size_t pos;
    uint64_t got, summed;
    uint8_t scratch[GZIP_BLOCK];
};

struct prover {
    struct front front; /* first: its finisher's half makes the points */
    struct gzip_image *gz;
    const struct gzip_hints *hints;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    size_t first, next; /* hints that end the first span, and the next one */
    struct gzip_point start;
    uint64_t n_taken, turn; /* batches */
    bool has_failed;

    /* Of whose turn it is: what the span before the next one left. */
    bool is_begun, is_at_member;
    uint64_t in_bits;
    uint32_t zeros; /* of the block so far */
    uint8_t window[GZIP_WINDOW];
};

struct batch {
    struct prover *p;
    struct span *span[BATCH];
    size_t n;
    uint64_t mem, number;
};

/* ---- The index file ---- */

void gzip_claims_free(struct gzip_image *gz, struct gzip_claims *claims)
{
    if (!claims)
        return;
    gz->host->mem_give(gz->host, claims->mem);
    free(claims->hints.hint);
    free(claims->file);
    free(claims);
}

enum plt_status gzip_claims_new(struct gzip_image *gz, const void *data,
                                size_t len, struct gzip_claims **out,
                                struct plt_error *err)
{
    const size_t most = gzip_foreign_most(len);
    const uint64_t mem = (uint64_t)most * sizeof(struct gzip_hint) + len;
    struct gzip_claims *const c = calloc(1, sizeof(*c));
    enum plt_status st = gz->host->mem_take(gz->host, mem, err);

    if (st != PLT_OK || !c) {
        if (st == PLT_OK)
            gz->host->mem_give(gz->host, mem);
        free(c);
        return st == PLT_OK ? plt_fail(err, PLT_NOMEM, "an index") : st;
    }
    c->mem = mem;
    c->file = malloc(len + 1);
    c->hints.hint = calloc(most, sizeof(*c->hints.hint));
    if (!c->file || !c->hints.hint) {
        st = plt_fail(err, PLT_NOMEM, "an index");
    } else {
        memcpy(c->file, data, len);
        const char *const why =
            gzip_foreign_parse(c->file, len, gz->child->size, APART, &c->hints);
        if (why)
            st = plt_fail(err, PLT_INVALID, "%s", why);
    }
    if (st == PLT_OK)
        *out = c;
    else
        gzip_claims_free(gz, c);
    return st;
}

/* ---- Decoding one span: nothing here waits ---- */

static bool refute(struct span *s, const char *why)
{
    s->why = why;
    return false;
}

static struct piece *piece_at(struct span *s, uint64_t out)
{
    return &s->piece[out / GZIP_BLOCK - s->out / GZIP_BLOCK];
}

/* Where the byte at `out` goes. */
static uint8_t *place(struct span *s, uint64_t out)
{
    struct piece *const p = piece_at(s, out);

    return (p->block ? p->block->data : s->scratch) + out % GZIP_BLOCK;
}

static void keep_tail(struct span *s, const uint8_t *from, size_t n)
{
    if (n >= GZIP_WINDOW) {
        memcpy(s->tail, from + n - GZIP_WINDOW, GZIP_WINDOW);
        return;
    }
    memmove(s->tail, s->tail + n, GZIP_WINDOW - n);
    memcpy(s->tail + GZIP_WINDOW - n, from, n);
}

/* Account what has come out and was not yet: it lies in one block. */
static void sum(struct span *s)
{
    const size_t n = (size_t)(s->got - s->summed);
    const uint64_t at = s->out + s->summed;

    if (!n)
        return;
    struct piece *const p = piece_at(s, at);
    const uint8_t *const from = place(s, at);
    const uint32_t crc = libdeflate_crc32(0, from, n);
    p->crc = (uint32_t)crc32_combine(p->crc, crc, (z_off_t)n);
    p->len += (uint32_t)n;
    s->last_crc = (uint32_t)crc32_combine(s->last_crc, crc, (z_off_t)n);
    s->last_len += (uint32_t)n;
    if (!s->has_end && s->head_len < GZIP_WINDOW && s->head_len == s->summed) {
        const size_t room = GZIP_WINDOW - s->head_len;
        memcpy(s->head + s->head_len, from, n < room ? n : room);
        s->head_len += n < room ? n : room;
    }
    keep_tail(s, from, n);
    s->summed = s->got;
}

/* A block's part is complete: which of its units are zeros? */
static void find_zeros(struct span *s, uint64_t end)
{
    const uint64_t block = (end - 1) / GZIP_BLOCK * GZIP_BLOCK;
    struct piece *const p = piece_at(s, end - 1);

    for (unsigned i = 0; i < GZIP_BLOCK / ZERO_UNIT; i++) {
        const uint64_t a = block + (uint64_t)i * ZERO_UNIT;
        if (a < s->out || a + ZERO_UNIT > end)
            continue;
        const uint8_t *const d = place(s, a);
        if (d[0] == 0 && memcmp(d, d + 1, ZERO_UNIT - 1) == 0)
            p->zeros |= 1U << i;
    }
}

/* The trailer at pos is that of the member that ends here. */
static bool end_member(struct span *s)
{
    sum(s);
    if (s->in_len - s->pos < 8)
        return refute(s, "a point inside a trailer");
    const uint32_t crc = plt_le32(s->in + s->pos);
    const uint32_t len = plt_le32(s->in + s->pos + 4);
    if (!s->has_end) {
        s->first_crc = s->last_crc;
        s->first_len = s->last_len;
        s->want_crc = crc;
        s->want_len = len;
    } else if (crc != s->last_crc || len != s->last_len) {
        return refute(s, "a member's checksum");
    }
    s->has_end = true;
    s->last_crc = s->last_len = 0;
    s->pos += 8;
    return true;
}

/* Header at pos.  *is_there: the span ends at it, or behind it. */
static bool next_member(struct span *s, bool *is_there)
{
    const uint64_t base = s->in_bits / 8;
    struct gzip_header h;

    s->member_at = (base + s->pos) * 8;
    *is_there = s->member_at == s->in_end_bits;
    if (!*is_there) {
        if (gzip_header_parse(s->in + s->pos, s->in_len - s->pos, &h) !=
            GZIP_PARSED)
            return refute(s, "no member where one ought to be");
        s->pos += h.len;
        s->members++;
        *is_there = (base + s->pos) * 8 == s->in_end_bits;
        isal_inflate_init(&s->state);
    }
    s->ends_at_member = *is_there;
    return true;
}

/* One call of ISA-L.  False: no deflate data, or more of it than claimed. */
static bool call(struct span *s, size_t n_in, bool *has_moved)
{
    struct inflate_state *const st = &s->state;
    const uint64_t at = s->out + s->got;
    const uint64_t left = s->out_end - at;
    const uint64_t in_block = GZIP_BLOCK - at % GZIP_BLOCK;
    const size_t room = (size_t)(left < in_block ? left : in_block);
    uint8_t surplus;
    union {
        const uint8_t *in;
        uint8_t *isal; /* its pointer is not const; it does not write */
    } u = {.in = s->in + s->pos};

    st->next_in = u.isal;
    st->avail_in = (uint32_t)n_in;
    st->next_out = room ? place(s, at) : &surplus;
    st->avail_out = room ? (uint32_t)room : 1;
    const int r = isal_inflate(st);
    const size_t did = (room ? room : 1) - st->avail_out;
    s->pos += n_in - st->avail_in;
    *has_moved = did > 0 || n_in > st->avail_in;
    if (r < ISAL_DECOMP_OK)
        return refute(s, "not deflate data");
    if (!room && did)
        return refute(s, "more bytes than claimed");
    s->got += did;
    if (did && (did == room)) {
        sum(s);
        find_zeros(s, s->out + s->got);
    }
    return true;
}

/* All whole bytes have been given: the bits of the last one that are still the
 * span's, and nothing may be left. */
static bool arrive(struct span *s)
{
    struct inflate_state *const st = &s->state;
    const unsigned bits = (unsigned)(s->in_end_bits % 8);
    bool has_moved = true;

    if (bits) {
        if (st->read_in_length < 0 || st->read_in_length > 48 ||
            st->tmp_in_size)
            return refute(s, "no block begins at a point");
        st->read_in |= (uint64_t)(s->in[s->pos] & ((1U << bits) - 1))
                       << st->read_in_length;
        st->read_in_length += (int32_t)bits;
    }
    while (has_moved) {
        const int32_t before = st->read_in_length;
        if (!call(s, 0, &has_moved))
            return false;
        has_moved = has_moved || st->read_in_length != before;
    }
    if ((st->block_state != ISAL_BLOCK_HDR &&
         st->block_state != ISAL_BLOCK_NEW_HDR) ||
        st->read_in_length != 0 || st->tmp_in_size ||
        st->tmp_out_valid != st->tmp_out_processed)
        return refute(s, "no block begins at a point");
    return true;
}

/* Ready to decode the first byte. */
static bool begin(struct prover *p, struct span *s, bool *is_at_header)
{
    const unsigned skip = (unsigned)(s->in_bits % 8);
    struct gzip_header h;
    bool has_window;

    isal_inflate_init(&s->state);
    *is_at_header =
        s->known ? (s->known->flags & GZIP_AT_MEMBER) != 0
                 : !p->hints->hint[s->hint].window_len && !skip &&
                       gzip_header_parse(s->in, s->in_len, &h) == GZIP_PARSED;
    if (*is_at_header)
        return true;
    has_window = s->known ? s->known->window_len > 0
                          : p->hints->hint[s->hint].window_len > 0;
    if (has_window &&
        !(s->known ? gzip_window_unpack(s->known, s->window)
                   : gzip_foreign_window(p->hints, s->hint, s->window)))
        return refute(s, "a window");
    if ((has_window || s->known) &&
        isal_inflate_set_dict(&s->state, s->window, GZIP_WINDOW) !=
            ISAL_DECOMP_OK)
        return refute(s, "a window");
    if (skip) {
        s->state.read_in = (uint64_t)s->in[0] >> skip;
        s->state.read_in_length = (int32_t)(8 - skip);
        s->pos = 1;
    }
    return true;
}

static bool decode(struct prover *p, struct span *s)
{
    const size_t whole = (size_t)(s->in_end_bits / 8 - s->in_bits / 8);
    bool is_there = false, has_moved = true;

    if (!begin(p, s, &has_moved) || (has_moved && !next_member(s, &is_there)))
        return false;
    while (!is_there) {
        const struct inflate_state *const st = &s->state;
        if (st->block_state == ISAL_BLOCK_FINISH &&
            st->tmp_out_valid == st->tmp_out_processed) {
            s->pos -= (size_t)(st->read_in_length / 8); /* read ahead */
            if (!end_member(s) || !next_member(s, &is_there))
                return false;
            continue;
        }
        /* Short of output it may stand still with input left. */
        if (s->pos >= whole) {
            if (!call(s, 0, &has_moved))
                return false;
            if (!has_moved && st->block_state != ISAL_BLOCK_FINISH) {
                if (!arrive(s))
                    return false;
                break;
            }
            continue;
        }
        if (!call(s, whole - s->pos, &has_moved))
            return false;
        if (!has_moved)
            return refute(s, "fewer bytes than claimed");
    }
    sum(s);
    if (s->got != s->out_end - s->out)
        return refute(s, "fewer bytes than claimed");
    return true;
}

static void decode_one(void *cookie, size_t i)
{
    struct batch *const b = (struct batch *)cookie;

    (void)decode(b->p, b->span[i]);
}

/* ---- Linking: in order, one batch at a time ---- */

/* The span's beginning is where the one before it ended, and its window was
 * right: it becomes a point. */
static bool link_start(struct prover *p, struct span *s)
{
    const struct finish *const n = &p->front.finish;
    const struct gzip_hint *const h = &p->hints->hint[s->hint];

    if (p->is_at_member) {
        struct gzip_point point = {.out = s->out,
                                   .in_bits = p->in_bits,
                                   .flags = GZIP_AT_MEMBER,
                                   .block_crc = n->block_crc};
        if (h->window_len)
            return refute(s, "a window before a member");
        gzip_finish_keep(&p->front, &point);
        if (p->in_bits != s->in_bits) { /* its header has been counted */
            pthread_mutex_lock(&p->gz->lock);
            p->gz->members_at--;
            pthread_mutex_unlock(&p->gz->lock);
        }
        return true;
    }
    struct trial *const t = &p->front.trials[0];
    t->point = (struct gzip_point){.out = s->out,
                                   .in_bits = s->in_bits,
                                   .block_crc = n->block_crc,
                                   .member_crc = n->member_crc,
                                   .member_len = n->member_len};
    memcpy(t->window, p->window, GZIP_WINDOW);
    t->in_len = s->in_len < TRIAL_IN ? s->in_len : TRIAL_IN;
    memcpy(t->in, s->in, t->in_len);
    t->out_len = s->head_len;
    memcpy(t->out, s->head, s->head_len);
    return gzip_finish_settle(&p->front, t) ||
           refute(s, "a window is not what was decoded");
}

static bool link_members(struct prover *p, const struct span *s)
{
    struct finish *const n = &p->front.finish;
    const uint32_t crc = s->has_end ? s->first_crc : s->last_crc;
    const uint32_t len = s->has_end ? s->first_len : s->last_len;

    n->member_crc = (uint32_t)crc32_combine(n->member_crc, crc, (z_off_t)len);
    n->member_len += len;
    if (!s->has_end)
        return true;
    if (n->member_crc != s->want_crc || n->member_len != s->want_len)
        return false;
    n->member_crc = s->last_crc;
    n->member_len = s->last_len;
    return true;
}

/* Give a block's part to the readers, once it is whole. */
static bool link_piece(struct prover *p, struct piece *piece, uint64_t off)
{
    struct gzip_image *const gz = p->gz;
    struct finish *const n = &p->front.finish;
    bool is_good = true;

    n->block_crc =
        (uint32_t)crc32_combine(n->block_crc, piece->crc, (z_off_t)piece->len);
    const bool is_whole = off % GZIP_BLOCK + piece->len == GZIP_BLOCK;
    const uint64_t end = off - off % GZIP_BLOCK + GZIP_BLOCK;
    if (is_whole && piece->block) {
        gz->host->block_commit(gz->host, piece->block);
        gz->host->block_release(gz->host, piece->block);
        piece->block = NULL;
    }
    p->zeros |= piece->zeros;
    if (!is_whole)
        return true;
    pthread_mutex_lock(&gz->lock);
    if (end > gz->out) {
        for (unsigned i = 0; i < GZIP_BLOCK / ZERO_UNIT; i++) {
            if (p->zeros & 1U << i)
                (void)gzip_runs_add(
                    gz, end - GZIP_BLOCK + (uint64_t)i * ZERO_UNIT, ZERO_UNIT);
        }
        is_good = gz->n_crcs == end / GZIP_BLOCK - 1 &&
                  gzip_crcs_add(gz, n->block_crc);
        if (is_good)
            gz->out = end;
    }
    pthread_mutex_unlock(&gz->lock);
    n->block_crc = 0;
    p->zeros = 0;
    return is_good;
}

static bool link_span(struct prover *p, struct span *s)
{
    struct gzip_image *const gz = p->gz;
    uint64_t at = s->out;

    if (s->why || (p->is_begun && !link_start(p, s)))
        return false;
    p->is_begun = true;
    if (!link_members(p, s))
        return false;
    /* Before readers see what came of it. */
    pthread_mutex_lock(&gz->lock);
    if (s->in_end_bits / 8 + 1 > gz->in)
        gz->in = s->in_end_bits / 8 + 1;
    pthread_mutex_unlock(&gz->lock);
    for (size_t i = 0; i < s->n_pieces; i++) {
        if (!link_piece(p, &s->piece[i], at))
            return false;
        at += s->piece[i].len;
    }
    p->is_at_member = s->ends_at_member;
    p->in_bits = s->ends_at_member ? s->member_at : s->in_end_bits;
    memcpy(p->window, s->tail, GZIP_WINDOW);
    pthread_mutex_lock(&gz->lock);
    gz->members += s->members;
    gz->spans_proven++;
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    return true;
}

/* ---- Batches ---- */

static void span_free(struct gzip_image *gz, struct span *s)
{
    struct plt_error again = {.at = PLT_AT_NONE};

    for (size_t i = 0; s && s->piece && i < s->n_pieces; i++) {
        if (!s->piece[i].block)
            continue;
        again.status = plt_fail(&again, PLT_AGAIN, "a block");
        gz->host->block_abandon(gz->host, s->piece[i].block, &again);
    }
    if (s) {
        free(s->piece);
        free(s->in);
    }
    free(s);
}

static void batch_release(struct batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        span_free(b->p->gz, b->span[i]);
    b->p->gz->host->mem_give(b->p->gz->host, b->mem);
}

/* The span from where the last one ends to hint `next`, if that can be one. */
static bool plan_span(struct prover *p, struct batch *b)
{
    const struct gzip_hint *const h = &p->hints->hint[p->next];
    const bool is_first = p->next == p->first;
    const uint64_t out = is_first ? p->start.out : h[-1].out;
    const uint64_t bits = is_first ? p->start.in_bits : h[-1].in_bits;
    struct plt_error ignored;

    if (h->out < out + SPAN_MIN || h->in_bits <= bits ||
        h->out - out > MAX_SPAN || (h->in_bits - bits) / 8 > MAX_SPAN)
        return false;
    const uint64_t first = out / GZIP_BLOCK;
    const size_t n_pieces = (size_t)((h->out - 1) / GZIP_BLOCK - first + 1);
    const size_t in_len = (size_t)((h->in_bits + 7) / 8 - bits / 8);
    const uint64_t mem =
        sizeof(struct span) + in_len + n_pieces * sizeof(struct piece);
    if (p->gz->host->mem_take(p->gz->host, mem, &ignored) != PLT_OK)
        return false;
    b->mem += mem;
    struct span *const s = calloc(1, sizeof(*s));
    if (s) {
        s->piece = calloc(n_pieces, sizeof(*s->piece));
        s->in = malloc(in_len);
    }
    if (!s || !s->piece || !s->in) {
        span_free(p->gz, s);
        return false;
    }
    s->out = out;
    s->out_end = h->out;
    s->in_bits = bits;
    s->in_end_bits = h->in_bits;
    s->known = is_first ? &p->start : NULL;
    s->hint = is_first ? 0 : p->next - 1;
    s->n_pieces = n_pieces;
    s->in_len = in_len;
    b->span[b->n++] = s;
    p->next++;
    return true;
}

/* The next spans.  Empty: there are no more, or no memory for them. */
static void plan(struct prover *p, struct batch *b)
{
    uint64_t in = 0;

    *b = (struct batch){.p = p};
    pthread_mutex_lock(&p->lock);
    while (!p->has_failed && b->n < BATCH && p->next < p->hints->n &&
           in < BATCH_IN && plan_span(p, b))
        in += b->span[b->n - 1]->in_len;
    if (b->n)
        b->number = p->n_taken++;
    else
        p->next = p->hints->n;
    pthread_mutex_unlock(&p->lock);
}

/* Blocks that readers may come for are decoded into the cache's memory. */
static void claim_blocks(struct gzip_image *gz, struct span *s)
{
    pthread_mutex_lock(&gz->lock);
    const uint64_t until = gz->want + AHEAD, known = gz->out;
    pthread_mutex_unlock(&gz->lock);
    for (size_t i = 0; i < s->n_pieces; i++) {
        const uint64_t key = s->out / GZIP_BLOCK + i, off = key * GZIP_BLOCK;
        struct plt_block *block;
        if (off < s->out || off + GZIP_BLOCK > s->out_end || off < known ||
            off > until)
            continue;
        const enum plt_claim claim =
            gz->host->block_claim(gz->host, key, GZIP_BLOCK, false, &block);
        if (claim == PLT_CLAIM_FILL)
            s->piece[i].block = block;
        else if (claim != PLT_CLAIM_FULL)
            gz->host->block_release(gz->host, block);
    }
}

static bool read_batch(struct batch *b, struct plt_io *io)
{
    struct gzip_image *const gz = b->p->gz;
    struct plt_seg segs[BATCH];
    struct plt_error ignored;

    for (size_t i = 0; i < b->n; i++)
        segs[i] = (struct plt_seg){b->span[i]->in_bits / 8, b->span[i]->in_len,
                                   b->span[i]->in};
    pthread_mutex_lock(&gz->lock);
    gz->requests += b->n;
    pthread_mutex_unlock(&gz->lock);
    return gz->child->read(gz->child, io, segs, b->n, &ignored) == PLT_OK;
}

/* Wait for the batches before this one. */
static bool await_turn(struct prover *p, uint64_t number)
{
    pthread_mutex_lock(&p->lock);
    while (p->turn != number)
        (void)pthread_cond_wait(&p->moved, &p->lock);
    const bool is_good = !p->has_failed;
    pthread_mutex_unlock(&p->lock);
    return is_good;
}

static void work(struct prover *p, struct plt_io *io)
{
    struct batch b;

    for (plan(p, &b); b.n; plan(p, &b)) {
        gzip_pace(p->gz, b.span[0]->out);
        bool is_good = !io->cancelled(io) && read_batch(&b, io);
        if (is_good) {
            for (size_t i = 0; i < b.n; i++)
                claim_blocks(p->gz, b.span[i]);
            p->gz->host->each(p->gz->host, b.n, decode_one, &b);
        }
        is_good = await_turn(p, b.number) && is_good;
        for (size_t i = 0; i < b.n && is_good; i++)
            is_good = link_span(p, b.span[i]);
        pthread_mutex_lock(&p->lock);
        p->has_failed = p->has_failed || !is_good;
        p->turn++;
        pthread_cond_broadcast(&p->moved);
        pthread_mutex_unlock(&p->lock);
        batch_release(&b);
    }
    batch_release(&b); /* what memory was taken for nothing */
}

static void help(void *prover, struct plt_io *io)
{
    struct prover *const p = (struct prover *)prover;
    work(p, io);
}

/* The last point, where proving begins; the very first one is made here. */
static void find_start(struct prover *p)
{
    struct gzip_image *const gz = p->gz;
    struct gzip_point first = {.flags = GZIP_AT_MEMBER};

    pthread_mutex_lock(&gz->lock);
    const bool is_new = !gz->n_points;
    if (!is_new)
        p->start = gz->points[gz->n_points - 1];
    gz->members = gz->members_at;
    pthread_mutex_unlock(&gz->lock);
    if (is_new)
        p->start = first;
    gzip_finish_start(&p->front, &p->start);
    if (is_new)
        gzip_finish_keep(&p->front, &first);
    while (p->next < p->hints->n &&
           (p->hints->hint[p->next].out < p->start.out + SPAN_MIN ||
            p->hints->hint[p->next].in_bits <= p->start.in_bits))
        p->next++;
    p->first = p->next;
}

/* Until what the helper has taken is linked, too. */
static void await_helper(struct prover *p, const struct plt_io *io)
{
    pthread_mutex_lock(&p->lock);
    while (p->turn != p->n_taken && !io->cancelled(io)) {
        struct timespec ts = {0};
        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        ts.tv_sec++;
        (void)pthread_cond_timedwait(&p->moved, &p->lock, &ts);
    }
    pthread_mutex_unlock(&p->lock);
}

void gzip_prove(struct gzip_image *gz, struct plt_io *io)
{
    struct plt_host *const host = gz->host;
    struct prover *const p = calloc(1, sizeof(*p));
    struct plt_task *helper = NULL;
    struct plt_error ignored;
    pthread_condattr_t attr;

    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (p && PLT_HAS(host, each)) {
        p->gz = p->front.gz = gz;
        p->hints = &gz->claims->hints;
        (void)pthread_mutex_init(&p->lock, NULL);
        (void)pthread_cond_init(&p->moved, &attr);
        (void)pthread_mutex_init(&p->front.lock, NULL);
        (void)pthread_cond_init(&p->front.moved, NULL);
        find_start(p);
        /* One reads while the other decodes; alone it works, too. */
        if (host->task_start(host, help, p, &helper, &ignored) != PLT_OK)
            helper = NULL;
        work(p, io);
        await_helper(p, io);
        host->task_stop(host, helper);
        pthread_mutex_lock(&gz->lock);
        gz->is_refuted = p->has_failed && !io->cancelled(io);
        pthread_mutex_unlock(&gz->lock);
        (void)pthread_cond_destroy(&p->front.moved);
        (void)pthread_mutex_destroy(&p->front.lock);
        (void)pthread_cond_destroy(&p->moved);
        (void)pthread_mutex_destroy(&p->lock);
    }
    free(p);
    (void)pthread_condattr_destroy(&attr);
    pthread_mutex_lock(&gz->lock);
    struct gzip_claims *const claims = gz->claims;
    gz->claims = NULL;
    pthread_mutex_unlock(&gz->lock);
    gzip_claims_free(gz, claims);
}
