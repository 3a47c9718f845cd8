/* SPDX-License-Identifier: Apache-2.0 */
#include "gzip_bgzf.h"

#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "gzip_front.h"
#include "gzip_sidecar.h"
#include "gzip_units.h"

enum {
    IN_CAP = 1 << 20,
    AT_ONCE = 2 << 20,
    TINY = 320,        /* so short, a block may be all zeros */
    ZEROS_MIN = 16384, /* ... if it gives so many bytes */
    LEAD = 32 << 20,   /* blocks farther ahead of readers are not decoded ... */
    BEHIND = 3 << 20   /* ... nor those so far behind them */
};

/* ---- The table ---- */

bool gzip_bgzf_is(const struct gzip_header *header, size_t *len)
{
    size_t n = 0;
    const uint8_t *const bc = gzip_header_subfield(header, 'B', 'C', &n);

    if (!bc || n != 2)
        return false;
    *len = (size_t)plt_le16(bc) + 1;
    return true;
}

size_t gzip_bgzf_in_row(const struct gzip_image *gz, size_t i)
{
    const uint64_t end =
        i + 1 < gz->n_rows ? gz->rows[i + 1].first : gz->n_lens;
    return (size_t)(end - gz->rows[i].first);
}

/* n is at most its blocks: where the next one would begin. */
struct gzip_unit gzip_bgzf_nth(const struct gzip_image *gz, size_t i, size_t n)
{
    const struct gzip_row *const r = &gz->rows[i];
    const struct gzip_lens *const lens = &gz->lens[r->first];
    struct gzip_unit u = {.out = r->out, .in = r->in};

    for (size_t k = 0; k < n; k++) {
        u.out += lens[k].out + UINT64_C(1);
        u.in += lens[k].in + UINT64_C(1);
    }
    if (n < gzip_bgzf_in_row(gz, i)) {
        u.out_len = lens[n].out + 1U;
        u.in_len = lens[n].in + 1U;
    }
    return u;
}

uint64_t gzip_bgzf_out(const struct gzip_image *gz)
{
    const size_t i = gz->n_rows - 1;
    return gz->n_rows ? gzip_bgzf_nth(gz, i, gzip_bgzf_in_row(gz, i)).out : 0;
}

uint64_t gzip_bgzf_in(const struct gzip_image *gz)
{
    const size_t i = gz->n_rows - 1;
    return gz->n_rows ? gzip_bgzf_nth(gz, i, gzip_bgzf_in_row(gz, i)).in : 0;
}

struct gzip_unit gzip_bgzf_unit(const struct gzip_image *gz, uint64_t out)
{
    size_t low = 0, high = gz->n_rows; /* the last row at or before out */

    while (high - low > 1) {
        const size_t mid = low + (high - low) / 2;
        if (gz->rows[mid].out <= out)
            low = mid;
        else
            high = mid;
    }
    const size_t n = gzip_bgzf_in_row(gz, low);
    const struct gzip_lens *const lens = &gz->lens[gz->rows[low].first];
    uint64_t at = gz->rows[low].out;
    size_t k = 0;
    while (k + 1 < n && out - at > lens[k].out)
        at += lens[k++].out + UINT64_C(1);
    return gzip_bgzf_nth(gz, low, k);
}

bool gzip_bgzf_add(struct gzip_image *gz, uint64_t in, uint32_t in_len,
                   uint32_t out_len)
{
    const uint64_t out = gzip_bgzf_out(gz);

    void *lens = gz->lens, *rows = gz->rows;
    bool is_grown =
        gzip_grow(gz, &lens, &gz->cap_lens, gz->n_lens, sizeof(*gz->lens));

    gz->lens = lens;
    is_grown = is_grown && gzip_grow(gz, &rows, &gz->cap_rows, gz->n_rows,
                                     sizeof(*gz->rows));
    gz->rows = rows;
    if (!is_grown)
        return false;
    if (!gz->n_rows || gzip_bgzf_in(gz) != in ||
        gzip_bgzf_in_row(gz, gz->n_rows - 1) == BGZF_ROW)
        gz->rows[gz->n_rows++] = (struct gzip_row){out, in, gz->n_lens};
    gz->lens[gz->n_lens++] =
        (struct gzip_lens){(uint16_t)(in_len - 1), (uint16_t)(out_len - 1)};
    return true;
}

void gzip_bgzf_release(struct gzip_image *gz)
{
    free(gz->rows);
    free(gz->lens);
    gz->rows = NULL;
    gz->lens = NULL;
    gz->n_rows = gz->cap_rows = gz->n_lens = gz->cap_lens = 0;
}

bool gzip_bgzf_write(const struct gzip_image *gz, int fd, size_t i)
{
    const size_t n = gzip_bgzf_in_row(gz, i);
    const uint64_t end = gzip_bgzf_nth(gz, i, n).out;
    uint64_t off = gz->rows[i].out, next;
    bool is_good =
        gzip_file_row(fd, &gz->rows[i], &gz->lens[gz->rows[i].first], n);

    while (is_good && off < end) {
        const uint64_t zeros = gzip_runs_at(gz, off, &next);
        const uint64_t left = end - off;
        if (zeros)
            is_good = gzip_file_run(fd, off, zeros < left ? zeros : left);
        else if (next >= end)
            break;
        off = zeros ? off + zeros : next;
    }
    return is_good;
}

/* ---- The front ---- */

struct hopper {
    struct gzip_image *gz;
    struct plt_io *io;
    struct plt_stream *stream;
    struct plt_error err;
    uint8_t in[IN_CAP];
    size_t pos, end;
    uint64_t base; /* source offset of in[0] */
    bool is_eof;
    uint64_t out; /* of what has been hopped over */
    bool is_other, has_garbage, has_eof_block;
    struct gzip_unit last; /* the last block, its bytes at last_at if >= 0 */
    ptrdiff_t last_at;
    size_t rows_kept; /* in the file */
    /* The last block that was all zeros: in a run of them all are the same. */
    uint8_t zeros[TINY];
    size_t zeros_len;
    uint32_t zeros_out;
    /* Found in what is at hand, not yet told to readers. */
    struct gzip_unit unit[UNITS_BATCH];
    size_t unit_at[UNITS_BATCH];
    bool is_zero[UNITS_BATCH];
    size_t n;
    uint64_t n_members;
};

/* At least n bytes behind pos, or the end.  What lies before pos goes. */
static bool need(struct hopper *h, size_t n)
{
    while (h->end - h->pos < n && !h->is_eof) {
        size_t got = 0;
        if (h->pos + n > IN_CAP) {
            memmove(h->in, h->in + h->pos, h->end - h->pos);
            h->base += h->pos;
            h->last_at -= (ptrdiff_t)h->pos;
            h->end -= h->pos;
            h->pos = 0;
        }
        if (h->stream->read(h->stream, h->io, h->in + h->end, IN_CAP - h->end,
                            &got, &h->err) != PLT_OK)
            return false;
        h->is_eof = got == 0;
        h->end += got;
    }
    return true;
}

/* Rows that are complete (all of them at the end), into the file. */
static void keep_rows(struct hopper *h, bool is_end)
{
    struct gzip_image *const gz = h->gz;
    const size_t n = is_end || !gz->n_rows ? gz->n_rows : gz->n_rows - 1;

    /* Nobody else changes the table. */
    for (; gz->is_kept && h->rows_kept < n; h->rows_kept++)
        gz->is_kept = gzip_bgzf_write(gz, gz->state_fd, h->rows_kept);
}

/* Decode those that readers are about to ask for, and tell of all. */
static bool publish(struct hopper *h)
{
    struct gzip_image *const gz = h->gz;
    const uint8_t *in[UNITS_BATCH];
    struct gzip_unit near[UNITS_BATCH];
    size_t n_near = 0;
    bool is_good = true;

    pthread_mutex_lock(&gz->lock);
    /* Of windows that are read at a time, the later one may have asked last. */
    const uint64_t from = gz->want_from > BEHIND ? gz->want_from - BEHIND : 0;
    const uint64_t until = gz->want + LEAD;
    pthread_mutex_unlock(&gz->lock);
    for (size_t i = 0; i < h->n; i++) {
        const struct gzip_unit *const u = &h->unit[i];
        if (u->out + u->out_len > from && u->out < until && !h->is_zero[i]) {
            near[n_near] = *u;
            in[n_near++] = h->in + h->unit_at[i];
        }
    }
    gzip_units_cache(gz, near, in, n_near);
    pthread_mutex_lock(&gz->lock);
    for (size_t i = 0; i < h->n && is_good; i++) {
        const struct gzip_unit *const u = &h->unit[i];
        is_good = gzip_bgzf_add(gz, u->in, u->in_len, u->out_len);
        if (is_good && h->is_zero[i])
            (void)gzip_runs_add(gz, u->out, u->out_len);
    }
    if (is_good)
        gz->out = h->out;
    gz->members += h->n_members;
    if (h->base + h->pos > gz->in)
        gz->in = h->base + h->pos;
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    h->n = 0;
    h->n_members = 0;
    keep_rows(h, false);
    return is_good ||
           plt_fail(&h->err, PLT_NOMEM, "a table of blocks") == PLT_OK;
}

/* What follows is no member: is that the end, or was the last block's length a
 * lie?  Its bytes tell. */
static bool at_end(struct hopper *h, const char *why)
{
    for (size_t i = h->pos; i < h->end; i++)
        h->has_garbage = h->has_garbage || h->in[i];
    if (!h->has_garbage || h->has_eof_block ||
        (h->last_at >= 0 && gzip_bgzf_check(h->in + h->last_at, h->last.in_len,
                                            h->last.out_len, NULL)))
        return true;
    return plt_fail_at(&h->err, PLT_CORRUPT, h->base + h->pos,
                       "where a block's BSIZE ends: %s", why) == PLT_OK;
}

static bool is_zero_block(struct hopper *h, const uint8_t *in, size_t len,
                          uint32_t size)
{
    bool is_zero = false;

    if (len == h->zeros_len && size == h->zeros_out &&
        memcmp(in, h->zeros, len) == 0)
        return true;
    if (gzip_bgzf_check(in, len, size, &is_zero) && is_zero) {
        memcpy(h->zeros, in, len);
        h->zeros_len = len;
        h->zeros_out = size;
    }
    return is_zero;
}

/* The block at pos.  *is_end: there is none. */
static bool hop(struct hopper *h, bool *is_end)
{
    struct gzip_header header;
    size_t len = 0, want = 64;
    enum gzip_parse r = GZIP_MORE;

    *is_end = false;
    for (; r == GZIP_MORE; want *= 2) {
        if (want > IN_CAP / 2)
            want = IN_CAP / 2;
        if (!need(h, want))
            return false;
        r = gzip_header_parse(h->in + h->pos, h->end - h->pos, &header);
        if (h->end - h->pos < want || want == IN_CAP / 2)
            break;
    }
    const uint64_t at = h->base + h->pos;
    if (r != GZIP_PARSED) {
        *is_end = true;
        return at_end(h, r == GZIP_BAD ? header.why : "the header is cut off");
    }
    if (!gzip_bgzf_is(&header, &len)) {
        h->is_other = *is_end = true;
        return true;
    }
    if (len < header.len + 2 + 8)
        return plt_fail_at(&h->err, PLT_CORRUPT, at,
                           "a block's BSIZE is less than its header") == PLT_OK;
    if (!need(h, len))
        return false;
    if (h->end - h->pos < len)
        return plt_fail_at(&h->err, PLT_CORRUPT, at,
                           "the stream ends inside a block") == PLT_OK;
    const uint32_t size = plt_le32(h->in + h->pos + len - 4);
    if (size > BGZF_MAX)
        return plt_fail_at(&h->err, PLT_CORRUPT, at,
                           "a block's ISIZE is more than 64 KiB") == PLT_OK;
    const struct gzip_unit u = {
        .out = h->out, .in = at, .out_len = size, .in_len = (uint32_t)len};
    h->has_eof_block = !size;
    h->last = u;
    h->last_at = (ptrdiff_t)h->pos;
    h->n_members++;
    if (size) {
        h->unit[h->n] = u;
        h->unit_at[h->n] = h->pos;
        h->is_zero[h->n] = false;
        if (len < TINY && size >= ZEROS_MIN)
            h->is_zero[h->n] = is_zero_block(h, h->in + h->pos, len, size);
        h->n++;
    }
    h->out += size;
    h->pos += len;
    return true;
}

/* All that is at hand, as far as a batch goes.  Blocks found are at hand until
 * the next refill, so that readers are told first. */
static bool hop_some(struct hopper *h, bool *is_end)
{
    bool is_good = true;

    *is_end = false;
    do {
        is_good = hop(h, is_end);
    } while (is_good && !*is_end && h->n < UNITS_BATCH &&
             (h->is_eof || h->end - h->pos >= 2 * BGZF_MAX));
    return is_good;
}

static bool run(struct hopper *h)
{
    struct gzip_image *const gz = h->gz;
    bool is_end = false;

    pthread_mutex_lock(&gz->lock);
    h->base = gzip_bgzf_in(gz);
    h->out = gz->out;
    h->rows_kept = gz->n_rows;
    gz->requests++;
    pthread_mutex_unlock(&gz->lock);
    h->pos = h->end = h->n = 0;
    h->n_members = 0;
    h->last_at = -1;
    h->is_eof = h->has_garbage = h->has_eof_block = false;
    if (gz->child->stream_open(gz->child, h->io, h->base, &h->stream,
                               &h->err) != PLT_OK)
        return false;
    while (!is_end) {
        if (h->io->cancelled(h->io))
            return plt_fail(&h->err, PLT_CANCELLED, "closed") == PLT_OK;
        /* The first ones at once, the others with less ado. */
        if (h->out > AT_ONCE && !need(h, IN_CAP / 2))
            return false;
        if (gzip_sidecar_found(gz, h->io))
            return plt_fail(&h->err, PLT_AGAIN, "an index") == PLT_OK;
        const bool is_good = hop_some(h, &is_end);
        /* What was found before a fault can be read. */
        if ((h->n || h->n_members) && !publish(h))
            return false;
        if (!is_good)
            return false;
        gzip_pace(gz, h->out);
    }
    return true;
}

/* The end is known, or that these are not all blocks. */
static void finish(struct hopper *h)
{
    struct gzip_image *const gz = h->gz;

    if (!h->is_other)
        keep_rows(h, true);
    pthread_mutex_lock(&gz->lock);
    if (h->is_other) {
        gz->is_bgzf = false; /* the table stays: a reader may be at it */
        gz->out = gz->in = gz->members = 0;
        gz->n_runs = 0;
    } else {
        gz->has_garbage = h->has_garbage;
        gz->has_eof_block = h->has_eof_block;
        gz->state = FRONT_DONE;
    }
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    if (h->is_other && gz->is_kept)
        gz->is_kept = gzip_file_restart(gz->state_fd, gz);
    else if (gz->is_kept)
        gz->is_kept = gzip_file_end(gz->state_fd, gz->out, gz->members,
                                    gz->has_garbage, gz->has_eof_block);
}

bool gzip_bgzf_run(struct gzip_image *gz, struct plt_io *io)
{
    struct hopper *const h = calloc(1, sizeof(*h));
    struct plt_error err;
    bool is_done = false, is_other = false;

    if (!h) {
        err.status = plt_fail(&err, PLT_NOMEM, "a table of blocks");
        (void)gzip_front_failed(gz, io, &err, true);
        return false;
    }
    h->gz = gz;
    h->io = io;
    for (bool is_over = false; !is_done && !is_over;) {
        is_done = run(h);
        if (h->stream)
            h->stream->close(h->stream);
        h->stream = NULL;
        if (!is_done && h->err.status == PLT_AGAIN)
            is_over = gzip_sidecar_take(gz);
        else if (!is_done)
            is_over = !gzip_front_failed(gz, io, &h->err,
                                         gzip_is_final(h->err.status));
    }
    if (is_done)
        finish(h);
    is_other = h->is_other;
    free(h);
    return is_other;
}
