/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding again what lies behind the front: from the nearest point to the
 * next, compared with the CRC-32 that the front took of the same bytes, and all
 * of it put into the cache, since neighbours are asked for next.  Nothing is
 * given out before its CRC has been seen. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>

#include "gzip_header.h"
#include "gzip_image.h"

enum { MAX_SPANS = 64 };

/* What is to be decoded: points first .. first+n, and where each ends. */
struct range {
    size_t first, n_spans;
    struct gzip_point start;  /* window: borrowed, fixed while open */
    uint64_t ends[MAX_SPANS]; /* decoded offsets */
    uint32_t crcs[MAX_SPANS];
    bool is_checked[MAX_SPANS];
    uint64_t out_end, in_off, in_end; /* in bytes */
    bool is_done;                     /* the stream's size is known */
    uint64_t size;
};

/* The spans that hold the block at `a`; lock held. */
static enum plt_status plan_locked(struct gzip_image *gz, uint64_t a,
                                   uint64_t need_end, struct range *r,
                                   struct plt_error *err)
{
    const size_t i = gzip_points_find(gz, a);
    uint64_t in_end = gz->in;
    size_t j = i;

    r->first = i;
    r->n_spans = 0;
    r->start = gz->points[i];
    r->is_done = gz->state == FRONT_DONE;
    r->size = gz->out;
    do {
        const bool is_last = j + 1 == gz->n_points;
        const uint64_t end = is_last ? gz->out : gz->points[j + 1].out;
        if (r->n_spans == MAX_SPANS)
            return plt_fail(err, PLT_UNSUPPORTED, "too many spans in a block");
        r->ends[r->n_spans] = end;
        r->crcs[r->n_spans] = gz->points[j].crc;
        r->is_checked[r->n_spans++] = !is_last || r->is_done;
        if (!is_last)
            in_end = gz->points[j + 1].in_bits / 8 + 1;
        else
            in_end = gz->in;
        r->out_end = end;
        j++;
    } while (r->out_end < need_end && j < gz->n_points);
    r->in_off = r->start.in_bits / 8;
    r->in_end = in_end;
    if (r->out_end < need_end || r->out_end - r->start.out > MAX_SPAN ||
        r->in_end <= r->in_off || r->in_end - r->in_off > MAX_SPAN)
        return plt_fail_at(err, PLT_UNSUPPORTED, a,
                           "no restart point within 64 MiB");
    return PLT_OK;
}

/* From in (source bytes from start's byte on) to out[0..len). */
static bool decode(const struct gzip_point *start, uint8_t *in, size_t in_len,
                   uint8_t *out, size_t len)
{
    struct inflate_state *const s = malloc(sizeof(*s));
    uint8_t window[GZIP_WINDOW] = {0};
    size_t pos = 0, got = 0;
    bool is_inside = !(start->flags & GZIP_AT_MEMBER);
    bool is_good = s != NULL;

    while (is_good && got < len) {
        isal_inflate_init(s);
        if (is_inside) {
            const unsigned skip = (unsigned)(start->in_bits % 8);
            is_good =
                (!start->window_len || gzip_window_unpack(start, window)) &&
                isal_inflate_set_dict(s, window, GZIP_WINDOW) == ISAL_DECOMP_OK;
            s->read_in = (uint64_t)in[0] >> skip;
            s->read_in_length = (int32_t)(8 - skip);
            pos = 1;
            is_inside = false;
        } else {
            struct gzip_header h;
            is_good =
                gzip_header_parse(in + pos, in_len - pos, &h) == GZIP_PARSED;
            pos += is_good ? h.len : 0;
        }
        if (!is_good)
            break;
        s->next_in = in + pos;
        s->avail_in = (uint32_t)(in_len - pos);
        s->next_out = out + got;
        s->avail_out = (uint32_t)(len - got);
        is_good = isal_inflate(s) >= ISAL_DECOMP_OK;
        got = len - s->avail_out;
        pos = in_len - s->avail_in - (size_t)(s->read_in_length / 8);
        if (got < len)
            is_good = is_good && s->block_state == ISAL_BLOCK_FINISH &&
                      in_len - pos >= 8;
        pos += 8;
    }
    free(s);
    return is_good;
}

/* Every whole block of the range into the cache. */
static void store(struct gzip_image *gz, struct plt_io *io,
                  const struct range *r, const uint8_t *out)
{
    uint64_t a = (r->start.out + GZIP_BLOCK - 1) / GZIP_BLOCK * GZIP_BLOCK;
    struct plt_error ignored;

    for (; a < r->out_end; a += GZIP_BLOCK) {
        uint64_t len = r->out_end - a;
        struct plt_block *b;
        if (len < GZIP_BLOCK && !(r->is_done && r->out_end == r->size))
            break;
        if (len > GZIP_BLOCK)
            len = GZIP_BLOCK;
        const enum plt_claim c = gz->host->block_claim(gz->host, a / GZIP_BLOCK,
                                                       (size_t)len, false, &b);
        if (c == PLT_CLAIM_FILL) {
            memcpy(b->data, out + (a - r->start.out), (size_t)len);
            gz->host->block_commit(gz->host, b);
        }
        if (c == PLT_CLAIM_FILL || c == PLT_CLAIM_HIT ||
            (c == PLT_CLAIM_PENDING &&
             gz->host->block_wait(gz->host, b, io, &ignored) == PLT_OK))
            gz->host->block_release(gz->host, b);
    }
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

static enum plt_status decode_range(struct gzip_image *gz, struct plt_io *io,
                                    const struct range *r, void *buf,
                                    uint64_t off, size_t len,
                                    struct plt_error *err)
{
    const size_t in_len = (size_t)(r->in_end - r->in_off);
    const size_t out_len = (size_t)(r->out_end - r->start.out);
    const uint64_t mem = (uint64_t)in_len + out_len;
    enum plt_status st = gz->host->mem_take(gz->host, mem, err);

    if (st != PLT_OK)
        return st;
    uint8_t *const in = malloc(in_len), *const out = malloc(out_len);
    if (!in || !out) {
        st = plt_fail(err, PLT_NOMEM, "a span");
    } else {
        const struct plt_seg seg = {r->in_off, in_len, in};
        st = gz->child->read(gz->child, io, &seg, 1, err);
    }
    if (st == PLT_OK && !decode(&r->start, in, in_len, out, out_len))
        st = mistrust(gz, r->start.out, err);
    uint64_t at = r->start.out;
    for (size_t i = 0; st == PLT_OK && i < r->n_spans; i++) {
        if (r->is_checked[i] &&
            libdeflate_crc32(0, out + (at - r->start.out),
                             (size_t)(r->ends[i] - at)) != r->crcs[i])
            st = mistrust(gz, at, err);
        at = r->ends[i];
    }
    if (st == PLT_OK) {
        memcpy(buf, out + (off - r->start.out), len);
        store(gz, io, r, out);
    }
    free(in);
    free(out);
    gz->host->mem_give(gz->host, mem);
    return st;
}

static bool is_busy_locked(const struct gzip_image *gz, size_t point)
{
    for (unsigned i = 0; i < gz->n_busy; i++) {
        if (gz->busy[i] == point)
            return true;
    }
    return gz->n_busy == MAX_BUSY;
}

static bool from_cache(struct gzip_image *gz, void *buf, uint64_t off,
                       size_t len, uint64_t a, size_t block_len)
{
    struct plt_block *b;

    if (gz->host->block_claim(gz->host, a / GZIP_BLOCK, block_len, true, &b) !=
        PLT_CLAIM_HIT)
        return false;
    memcpy(buf, b->data + (off - a), len);
    gz->host->block_release(gz->host, b);
    return true;
}

enum plt_status gzip_span_read(struct gzip_image *gz, struct plt_io *io,
                               void *buf, uint64_t off, size_t len,
                               struct plt_error *err)
{
    const uint64_t a = off / GZIP_BLOCK * GZIP_BLOCK;
    struct range r;
    enum plt_status st = PLT_OK;
    bool has_waited = false;

    pthread_mutex_lock(&gz->lock);
    const size_t first = gzip_points_find(gz, a);
    while (is_busy_locked(gz, first) && st == PLT_OK) {
        has_waited = true;
        gzip_wait_locked(gz, gzip_now_ns() + 100 * UINT64_C(1000000));
        if (io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
        else if (gzip_now_ns() >= io->deadline_ns)
            st = plt_fail(err, PLT_TIMEOUT, "a span was not ready in time");
    }
    uint64_t b = a + GZIP_BLOCK;
    const bool is_whole = b <= gz->out || gz->state == FRONT_DONE;
    if (b > gz->out)
        b = gz->out;
    if (st == PLT_OK)
        st = plan_locked(gz, a, b, &r, err);
    if (st == PLT_OK)
        gz->busy[gz->n_busy++] = first;
    pthread_mutex_unlock(&gz->lock);
    if (st != PLT_OK)
        return st;
    if (!has_waited || !is_whole ||
        !from_cache(gz, buf, off, len, a, (size_t)(b - a)))
        st = decode_range(gz, io, &r, buf, off, len, err);
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
