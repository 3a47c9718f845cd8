/* SPDX-License-Identifier: Apache-2.0 */
/* Just the bytes that are asked for (PLT_IO_EXACT), for who knows them all
 * beforehand: scattered leaves of a disk whose digests are known.
 *
 * What the cache has is taken from there.  The rest is sorted and joined to
 * ranges, and those are asked for many at a time (RFC 9110 14.2), so that what
 * lies between them is neither fetched nor paid for with a round trip each.
 * Servers may do without that, and many do: one that answers otherwise is asked
 * range by range from then on, as its answer says nothing of the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_transfer.h"

enum {
    RANGES = 64,                         /* of one request */
    RANGES_TEXT = CURL_RANGES_TEXT - 64, /* bytes of its field */
    REQUEST = CURL_PIECE                 /* bytes asked for by it */
};

/* ---- A transfer with parts ---- */

static int put_range(char *out, size_t cap, const struct curl_span *s)
{
    return snprintf(out, cap, "%llu-%llu", (unsigned long long)s->off,
                    (unsigned long long)(s->off + s->len - 1));
}

void curl_parts_text(const struct curl_transfer *t, char *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < t->parts->n && n + 1 < cap; i++) {
        if (i)
            out[n++] = ',';
        n += (size_t)put_range(out + n, cap - n, &t->parts->spans[i]);
    }
}

/* The answer cannot be used, and is no reason to think so of the file. */
static enum plt_status refuse(struct curl_transfer *t, const char *what)
{
    return plt_fail(&t->err, PLT_UNSUPPORTED, "several ranges: %s", what);
}

/* A server may send one stretch that has them all (15.3.7.2). */
static bool is_stretch(struct curl_transfer *t)
{
    const struct curl_answer *const a = &t->answer;
    struct curl_multipart *const m = t->parts;
    size_t span;

    if (a->first > a->last || a->last >= t->ci->size ||
        a->first != m->spans[0].off ||
        !curl_multipart_claim(m->spans, m->n, a->first, a->last, &span))
        return false;
    return m->spans[m->n - 1].is_here;
}

enum plt_status curl_parts_begin(struct curl_transfer *t)
{
    struct curl_multipart *const m = t->parts;
    const enum plt_status st =
        curl_answer_check_parts(t->ci, &t->answer, &t->err);

    if (st != PLT_OK)
        return st;
    curl_multipart_init(m, t->answer.boundary, m->spans, m->n, t->ci->size);
    if (t->answer.boundary[0])
        return PLT_OK;
    if (!is_stretch(t))
        return refuse(t, "one came alone");
    t->is_one = true;
    t->pos = t->answer.first;
    t->left = t->answer.last - t->answer.first + 1;
    return PLT_OK;
}

static void take_part(void *cookie, size_t span, uint64_t off,
                      const uint8_t *data, size_t len)
{
    struct curl_transfer *const t = (struct curl_transfer *)cookie;

    if (off == t->parts->spans[span].off) {
        /* Parts come in any order; wants of a transfer begin with its first
         * span's. */
        t->pos = off;
        t->at_want = t->parts->spans[span].want - t->parts->spans[0].want;
    }
    curl_transfer_give(t, data, len);
}

enum plt_status curl_parts_take(struct curl_transfer *t, const uint8_t *data,
                                size_t len)
{
    const char *const wrong =
        curl_multipart_feed(t->parts, data, len, take_part, t);

    if (!wrong)
        return PLT_OK;
    return t->parts->is_other_total
               ? plt_fail(&t->err, PLT_CHANGED, "another length")
               : refuse(t, wrong);
}

enum plt_status curl_parts_end(struct curl_transfer *t)
{
    const char *const wrong = curl_multipart_end(t->parts);
    return wrong ? refuse(t, wrong) : PLT_OK;
}

/* ---- What is asked for ---- */

static int by_off(const void *a, const void *b)
{
    const struct curl_want *const x = (const struct curl_want *)a;
    const struct curl_want *const y = (const struct curl_want *)b;
    return x->off < y->off ? -1 : x->off > y->off;
}

/* The piece is there already: copied. */
static bool is_here(struct curl_image *ci, const struct plt_seg *piece)
{
    const uint64_t k = piece->off / CURL_BLOCK;
    const uint8_t *const known = curl_known(ci, piece);
    struct plt_block *block;

    if (known) {
        memcpy(piece->buf, known, piece->len);
        return true;
    }
    if (ci->host->block_claim(ci->host, k, curl_block_len(ci, k), true,
                              &block) != PLT_CLAIM_HIT)
        return false;
    memcpy(piece->buf, block->data + piece->off % CURL_BLOCK, piece->len);
    ci->host->block_release(ci->host, block);
    return true;
}

/* What is missing of the segments, cut at blocks, sorted: new; NULL: no memory.
 */
static struct curl_want *gather(struct curl_image *ci,
                                const struct plt_seg *segs, size_t n,
                                size_t *n_wants)
{
    size_t cap = 1, m = 0;

    for (size_t i = 0; i < n; i++)
        cap += segs[i].len / CURL_BLOCK + 2;
    struct curl_want *const wants = malloc(cap * sizeof(*wants));
    for (size_t i = 0; wants && i < n; i++) {
        uint8_t *buf = (uint8_t *)segs[i].buf;
        uint64_t off = segs[i].off;
        for (size_t left = segs[i].len; left;) {
            const size_t room = CURL_BLOCK - (size_t)(off % CURL_BLOCK);
            const size_t now = left < room ? left : room;
            if (!is_here(ci, &(struct plt_seg){off, now, buf}))
                wants[m++] = (struct curl_want){off, now, buf};
            off += now;
            buf += now;
            left -= now;
        }
    }
    if (wants)
        qsort(wants, m, sizeof(*wants), by_off);
    *n_wants = m;
    return wants;
}

/* Wants that touch or overlap are one span, of REQUEST bytes or a block more.
 * spans: n of them.  Returns how many there are. */
static size_t join(const struct curl_want *wants, size_t n,
                   struct curl_span *spans)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        struct curl_span *const last = m ? &spans[m - 1] : NULL;
        const uint64_t end = wants[i].off + wants[i].len;
        const uint64_t to = last ? last->off + last->len : 0;
        if (last && (wants[i].off < to ||
                     (wants[i].off == to && end - last->off <= REQUEST))) {
            if (end > to)
                last->len = end - last->off;
            last->n_want++;
        } else {
            spans[m++] = (struct curl_span){.off = wants[i].off,
                                            .len = wants[i].len,
                                            .want = i,
                                            .n_want = 1};
        }
    }
    return m;
}

/* ---- One read ---- */

struct exact {
    struct curl_image *ci;
    struct curl_want *wants;
    struct curl_span *spans;
    size_t n_spans;
    struct curl_transfer *ts; /* n_spans of them */
    struct curl_multipart *parts;
};

static void exact_release(struct exact *x)
{
    free(x->wants);
    free(x->spans);
    free(x->ts);
    free(x->parts);
}

/* How many spans go into one request, from `span` on. */
static size_t take(const struct curl_span *span, size_t n)
{
    uint64_t bytes = 0;
    size_t text = 0, i = 0;

    for (; i < n && i < RANGES; i++) {
        bytes += span[i].len;
        text += (size_t)put_range(NULL, 0, &span[i]) + 1;
        if (i && (bytes > REQUEST || text > RANGES_TEXT))
            break;
    }
    return i;
}

/* Requests for the spans.  Returns how many there are. */
static size_t plan(struct exact *x)
{
    const bool is_single = atomic_load(&x->ci->is_single);
    size_t n_ts = 0, n_parts = 0;

    for (size_t i = 0; i < x->n_spans;) {
        struct curl_span *const first = &x->spans[i];
        const size_t n = is_single ? 1 : take(first, x->n_spans - i);
        const struct curl_span *const last = &first[n - 1];
        struct curl_transfer *const t = &x->ts[n_ts++];
        *t = (struct curl_transfer){.ci = x->ci,
                                    .wants = &x->wants[first->want],
                                    .n_wants =
                                        last->want + last->n_want - first->want,
                                    .off = first->off,
                                    .len = first->len};
        if (n > 1) {
            t->parts = &x->parts[n_parts++];
            t->parts->spans = first;
            t->parts->n = n;
        }
        i += n;
    }
    return n_ts;
}

/* Leave those out that have been read. */
static void drop_done(struct exact *x, size_t n_ts)
{
    size_t kept = 0, at = 0;

    for (size_t i = 0; i < n_ts; i++) {
        const size_t n = x->ts[i].parts ? x->ts[i].parts->n : 1;
        for (size_t k = 0; k < n; k++, at++) {
            if (!x->ts[i].is_done)
                x->spans[kept++] = x->spans[at];
        }
    }
    x->n_spans = kept;
}

enum plt_status curl_read_exact(struct curl_image *ci, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct plt_error *err)
{
    struct exact x = {.ci = ci};
    enum plt_status st = PLT_OK;
    size_t n_wants = 0;

    x.wants = gather(ci, segs, n, &n_wants);
    x.spans = malloc((n_wants + 1) * sizeof(*x.spans));
    if (x.wants && x.spans)
        x.n_spans = join(x.wants, n_wants, x.spans);
    x.ts = malloc((x.n_spans + 1) * sizeof(*x.ts));
    x.parts = malloc((x.n_spans / 2 + 1) * sizeof(*x.parts));
    if (!x.wants || !x.spans || !x.ts || !x.parts) {
        exact_release(&x);
        return plt_fail(err, PLT_NOMEM, "a read");
    }
    while (x.n_spans) {
        const size_t n_ts = plan(&x);
        st = curl_transfers_run(ci, io, x.ts, n_ts, err);
        if (st != PLT_UNSUPPORTED)
            break;
        /* Once only: no request has parts from here on. */
        atomic_store(&ci->is_single, true);
        drop_done(&x, n_ts);
    }
    exact_release(&x);
    return st;
}
