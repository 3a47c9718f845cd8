/* SPDX-License-Identifier: Apache-2.0 */
/* The curl driver: a file on an HTTP server as a source.
 *
 * Opening is one request, for the first 384 KiB, which says the size, what pins
 * the version, and whether ranges are honoured; what it brings is what probing
 * asks for next.  From then on every request carries the validator and every
 * answer is checked against it: this image is one version of the file for ever.
 * An origin without ranges is read forward, from the start again when a reader
 * goes back further than the cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_image.h"

static void curl_close(void *image)
{
    struct curl_image *const ci = (struct curl_image *)image;

    if (ci->forward)
        ci->forward->close(ci->forward);
    (void)pthread_mutex_destroy(&ci->lock);
    (void)pthread_mutex_destroy(&ci->forward_lock);
    free(ci->asked_url);
    free(ci->url);
    free(ci->head);
    free(ci);
}

/* ---- The first request ---- */

static size_t block_len(const struct curl_image *ci, uint64_t n)
{
    const uint64_t left = ci->size - n * CURL_BLOCK;
    return left < CURL_BLOCK ? (size_t)left : CURL_BLOCK;
}

/* What the first request brought goes where what others bring goes, and lives
 * as long as there is room; its first block is the image's own. */
static void publish_head(struct curl_image *ci)
{
    for (size_t at = CURL_HEAD_KEPT; at < ci->head_len;) {
        const size_t len = block_len(ci, at / CURL_BLOCK);
        struct plt_block *block;
        const enum plt_claim claim = ci->host->block_claim(
            ci->host, at / CURL_BLOCK, len, false, &block);
        if (claim == PLT_CLAIM_FILL && len <= ci->head_len - at) {
            memcpy(block->data, ci->head + at, len);
            ci->host->block_commit(ci->host, block);
            ci->host->block_release(ci->host, block);
        } else if (claim == PLT_CLAIM_FILL) {
            const struct plt_error err = {.status = PLT_CANCELLED};
            ci->host->block_abandon(ci->host, block, &err);
        } else if (claim != PLT_CLAIM_FULL) {
            ci->host->block_release(ci->host, block);
        }
        at += len;
    }
    if (ci->head_len <= CURL_HEAD_KEPT)
        return;
    ci->head_len = CURL_HEAD_KEPT;
    uint8_t *const less = realloc(ci->head, CURL_HEAD_KEPT);
    if (less)
        ci->head = less;
}

struct first {
    struct curl_image *ci;
    CURL *easy;
    struct curl_answer answer;
    bool is_cut; /* enough of a 200 was read */
};

static size_t on_head(char *data, size_t size, size_t n, void *cookie)
{
    struct first *const f = (struct first *)cookie;
    struct curl_image *const ci = f->ci;
    const size_t len = size * n, room = CURL_HEAD - ci->head_len;
    const size_t now = len < room ? len : room;

    (void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &f->answer.code);
    if (f->answer.code != 200 && f->answer.code != 206)
        return len; /* an error's page */
    memcpy(ci->head + ci->head_len, data, now);
    ci->head_len += now;
    f->is_cut = now < len;
    return f->is_cut ? 0 : len;
}

static enum plt_status first_try(struct curl_image *ci, struct first *f,
                                 struct plt_io *io, CURLM *lane,
                                 struct plt_error *err)
{
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE] = "";
    CURLcode code = CURLE_OK;
    enum plt_status st = PLT_OK;
    bool is_over = false;

    ci->head_len = 0;
    f->is_cut = false;
    f->easy = curl_make(ci, io, &f->answer, &headers, false);
    if (!f->easy)
        return plt_fail(err, PLT_NOMEM, "a request");
    (void)curl_easy_setopt(f->easy, CURLOPT_RANGE, CURL_HEAD_RANGE);
    (void)curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_head);
    (void)curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
    (void)curl_easy_setopt(f->easy, CURLOPT_ERRORBUFFER, why);
    (void)curl_multi_add_handle(lane, f->easy);
    while (!is_over && st == PLT_OK) {
        int live = 0, left = 0;
        (void)curl_multi_perform(lane, &live);
        for (CURLMsg *m; (m = curl_multi_info_read(lane, &left));) {
            if (m->msg == CURLMSG_DONE) {
                code = m->data.result;
                is_over = true;
            }
        }
        if (is_over)
            break;
        const uint64_t now = curl_now_ns();
        if (io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
        else if (now >= io->deadline_ns)
            st =
                plt_fail(err, PLT_TIMEOUT, "the origin did not answer in time");
        else
            (void)curl_multi_poll(lane, NULL, 0, 100, NULL);
    }
    (void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &f->answer.code);
    io->charge(io, ci->head_len, 1);
    (void)curl_multi_remove_handle(lane, f->easy);
    curl_easy_cleanup(f->easy);
    curl_slist_free_all(headers);
    if (st != PLT_OK)
        return st;
    if (code != CURLE_OK && !f->is_cut && f->answer.code < 300)
        return curl_code_error(code, why, err);
    if (f->answer.code == 416 && f->answer.total == 0)
        return PLT_OK; /* RFC 9110 15.5.17: bytes * /0, an empty file */
    if (f->answer.code != 200 && f->answer.code != 206)
        return curl_status_error(&f->answer, true, err);
    return PLT_OK;
}

static enum plt_status learn(struct curl_image *ci, const struct curl_answer *a,
                             struct plt_error *err)
{
    (void)snprintf(ci->etag, sizeof(ci->etag), "%s", a->etag);
    (void)snprintf(ci->modified, sizeof(ci->modified), "%s", a->modified);
    const time_t t = a->modified[0] ? curl_getdate(a->modified, NULL) : -1;
    ci->mtime = t >= 0 ? (int64_t)t : INT64_MIN;
    if (a->is_coded)
        return plt_fail(err, PLT_ORIGIN,
                        "a Content-Encoding that was not asked for");
    if (a->code == 416) {
        ci->size = 0;
        ci->has_ranges = true;
        return PLT_OK;
    }
    if (a->code == 200) {
        ci->has_ranges = false;
        ci->size = a->has_length ? a->length : PLT_SIZE_UNKNOWN;
        if (ci->size != PLT_SIZE_UNKNOWN && ci->head_len > ci->size)
            return plt_fail(err, PLT_ORIGIN, "more bytes than Content-Length");
        return PLT_OK;
    }
    const uint64_t want = a->total < CURL_HEAD ? a->total : (uint64_t)CURL_HEAD;
    if (!a->has_range || a->total == CURL_TOTAL_UNKNOWN || a->total == 0 ||
        a->total > PLT_SIZE_MAX)
        return plt_fail(err, PLT_ORIGIN,
                        "206 without a Content-Range that says the size");
    if (a->first != 0 || a->last != want - 1)
        return plt_fail(err, PLT_ORIGIN,
                        "206 with another range than was asked");
    if (ci->head_len != want)
        return plt_fail(err, PLT_ORIGIN, "the answer was cut short");
    ci->has_ranges = true;
    ci->size = a->total;
    return PLT_OK;
}

static enum plt_status first_request(struct curl_image *ci, struct plt_io *io,
                                     struct plt_error *err)
{
    struct first f = {.ci = ci};
    CURLM *const lane = curl_lane_take(ci);
    unsigned tries = 0, redirects = 0;
    enum plt_status st;

    if (!lane)
        return plt_fail(err, PLT_NOMEM, "a request");
    for (;;) {
        err->sys = 0;
        st = first_try(ci, &f, io, lane, err);
        if (st == PLT_OK)
            st = learn(ci, &f.answer, err);
        if (st == PLT_AGAIN) {
            if (redirects++ == CURL_REDIRECTS)
                st = plt_fail(err, PLT_ORIGIN, "too many redirects");
            else
                st = curl_redirect(ci, &f.answer, err);
            if (st == PLT_OK)
                continue;
            break;
        }
        if (st == PLT_OK || st == PLT_CANCELLED || !curl_may_retry(err) ||
            ++tries == CURL_TRIES || !curl_backoff(io, tries, &f.answer))
            break;
    }
    curl_lane_give(ci, lane);
    if (st == PLT_ORIGIN)
        err->sys = 0;
    return st;
}

static enum plt_status curl_open(const struct plt_open_args *args, void **image,
                                 struct plt_opened *out, struct plt_error *err)
{
    struct curl_image *const ci = calloc(1, sizeof(*ci));

    if (!ci)
        return plt_fail(err, PLT_NOMEM, "an image");
    if (!args->url || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(ci);
        return plt_fail(err, PLT_BUG, "no URL, or no libcurl");
    }
    (void)pthread_mutex_init(&ci->lock, NULL);
    (void)pthread_mutex_init(&ci->forward_lock, NULL);
    ci->host = args->host;
    ci->asked_url = strdup(args->url);
    ci->url = strdup(args->url);
    ci->head = malloc(CURL_HEAD);
    (void)snprintf(ci->site, sizeof(ci->site), "%.*s",
                   (int)(strcspn(args->url, "/") + 2 +
                         strcspn(args->url + strcspn(args->url, "/") + 2, "/")),
                   args->url);
    ci->pool = (struct curl_pool *)ci->host->shared(ci->host, curl_pool_make,
                                                    curl_pool_destroy);
    enum plt_status st = PLT_OK;
    if (!ci->asked_url || !ci->url || !ci->head || !ci->pool)
        st = plt_fail(err, PLT_NOMEM, "an image");
    if (st == PLT_OK)
        st = first_request(ci, args->io, err);
    if (st != PLT_OK) {
        curl_close(ci);
        return st;
    }
    if (ci->has_ranges)
        publish_head(ci);
    out->size = ci->size;
    out->flags = PLT_OPENED_REMOTE | (ci->has_ranges ? 0 : PLT_OPENED_FORWARD);
    *image = ci;
    return PLT_OK;
}

/* ---- Reading ---- */

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int by_offset(const void *a, const void *b)
{
    const struct curl_want *const x = (const struct curl_want *)a;
    const struct curl_want *const y = (const struct curl_want *)b;
    return x->off < y->off ? -1 : x->off > y->off;
}

/* One read: the blocks that its small segments touch, each once. */
struct batch {
    uint64_t *number;
    struct plt_block **block; /* NULL: no room in the cache, see own */
    uint8_t **own;
    enum plt_claim *claim;
    size_t n;
};

static void batch_release(struct batch *b)
{
    for (size_t i = 0; b->own && i < b->n; i++)
        free(b->own[i]);
    free(b->number);
    free(b->block);
    free(b->own);
    free(b->claim);
}

static bool is_head(const struct curl_image *ci, const struct plt_seg *s)
{
    return s->off <= ci->head_len && s->len <= ci->head_len - s->off;
}

static bool is_direct(const struct plt_seg *s)
{
    return s->len >= CURL_DIRECT;
}

/* Number the blocks of the small segments, sorted, each once. */
static bool batch_init(struct batch *b, const struct curl_image *ci,
                       const struct plt_seg *segs, size_t n)
{
    size_t room = 0;

    *b = (struct batch){.n = 0};
    for (size_t i = 0; i < n; i++)
        room += is_direct(&segs[i]) ? 0 : segs[i].len / CURL_BLOCK + 2;
    if (!room)
        return true;
    b->number = malloc(room * sizeof(*b->number));
    b->block = calloc(room, sizeof(struct plt_block *));
    b->own = calloc(room, sizeof(*b->own));
    b->claim = calloc(room, sizeof(*b->claim));
    if (!b->number || !b->block || !b->own || !b->claim)
        return false;
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_direct(&segs[i]) || is_head(ci, &segs[i]))
            continue;
        const uint64_t last = (segs[i].off + segs[i].len - 1) / CURL_BLOCK;
        for (uint64_t k = segs[i].off / CURL_BLOCK; k <= last; k++)
            b->number[m++] = k;
    }
    qsort(b->number, m, sizeof(*b->number), by_number);
    for (size_t i = 0; i < m; i++) {
        if (!b->n || b->number[b->n - 1] != b->number[i])
            b->number[b->n++] = b->number[i];
    }
    return true;
}

/* Copy what of block i the segments ask for. */
static void give(const struct batch *b, size_t i, const uint8_t *data,
                 size_t len, const struct plt_seg *segs, size_t n)
{
    const uint64_t from = b->number[i] * CURL_BLOCK, to = from + len;

    for (size_t k = 0; k < n; k++) {
        const uint64_t s = segs[k].off, e = s + segs[k].len;
        const uint64_t lo = s > from ? s : from, hi = e < to ? e : to;
        if (!is_direct(&segs[k]) && lo < hi)
            memcpy((uint8_t *)segs[k].buf + (lo - s), data + (lo - from),
                   (size_t)(hi - lo));
    }
}

/* Gather what has to be fetched: blocks of ours, and long segments in pieces.
 */
static struct curl_want *gather(const struct curl_image *ci,
                                const struct batch *b,
                                const struct plt_seg *segs, size_t n,
                                size_t *n_wants)
{
    size_t room = b->n + 1, m = 0;

    for (size_t i = 0; i < n; i++)
        room += is_direct(&segs[i]) ? segs[i].len / CURL_PIECE + 1 : 0;
    struct curl_want *const w = malloc(room * sizeof(*w));
    for (size_t i = 0; w && i < b->n; i++) {
        uint8_t *const data =
            b->claim[i] == PLT_CLAIM_FILL ? b->block[i]->data : b->own[i];
        if (data)
            w[m++] = (struct curl_want){b->number[i] * CURL_BLOCK,
                                        block_len(ci, b->number[i]), data};
    }
    for (size_t i = 0; w && i < n; i++) {
        for (size_t at = 0; is_direct(&segs[i]) && at < segs[i].len;) {
            const size_t left = segs[i].len - at;
            const size_t now = left < CURL_PIECE ? left : CURL_PIECE;
            w[m++] = (struct curl_want){segs[i].off + at, now,
                                        (uint8_t *)segs[i].buf + at};
            at += now;
        }
    }
    if (w)
        qsort(w, m, sizeof(*w), by_offset);
    *n_wants = m;
    return w;
}

/* Long segments may lie over one another or over blocks; a fetch wants each
 * byte once.  Then the overlapping ones are fetched by calls of their own. */
static enum plt_status fetch(struct curl_image *ci, struct plt_io *io,
                             const struct curl_want *w, size_t n,
                             struct plt_error *err)
{
    size_t start = 0;
    enum plt_status st = PLT_OK;

    for (size_t i = 1; i <= n && st == PLT_OK; i++) {
        if (i == n || w[i].off < w[i - 1].off + w[i - 1].len) {
            st = curl_fetch(ci, io, w + start, i - start, err);
            start = i;
        }
    }
    return st;
}

static enum plt_status read_ranges(struct curl_image *ci, struct plt_io *io,
                                   const struct plt_seg *segs, size_t n,
                                   struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    struct batch b;
    enum plt_status st = PLT_OK;
    size_t n_wants = 0;

    for (size_t i = 0; is_nowait && i < n; i++) {
        if (is_direct(&segs[i]) && !is_head(ci, &segs[i]))
            return PLT_AGAIN;
    }
    if (!batch_init(&b, ci, segs, n)) {
        batch_release(&b);
        return plt_fail(err, PLT_NOMEM, "a read");
    }
    for (size_t i = 0; i < b.n; i++) {
        const size_t len = block_len(ci, b.number[i]);
        b.claim[i] = ci->host->block_claim(ci->host, b.number[i], len,
                                           is_nowait, &b.block[i]);
        if (b.claim[i] == PLT_CLAIM_FULL && is_nowait)
            st = PLT_AGAIN;
        else if (b.claim[i] == PLT_CLAIM_FULL) {
            b.own[i] = malloc(len);
            if (!b.own[i])
                st = plt_fail(err, PLT_NOMEM, "a block");
        }
    }
    struct curl_want *w = NULL;
    if (st == PLT_OK) {
        w = gather(ci, &b, segs, n, &n_wants);
        if (!w)
            st = plt_fail(err, PLT_NOMEM, "a read");
    }
    if (st == PLT_OK && n_wants)
        st = fetch(ci, io, w, n_wants, err);
    free(w);
    for (size_t i = 0; i < b.n; i++) {
        if (b.claim[i] != PLT_CLAIM_FILL)
            continue;
        if (st == PLT_OK) {
            ci->host->block_commit(ci->host, b.block[i]);
        } else {
            ci->host->block_abandon(ci->host, b.block[i], err);
            b.block[i] = NULL;
        }
    }
    /* Ours are filled: now the ones that others fill. */
    for (size_t i = 0; i < b.n; i++) {
        if (b.claim[i] == PLT_CLAIM_PENDING) {
            struct plt_error why;
            const enum plt_status waited =
                ci->host->block_wait(ci->host, b.block[i], io, &why);
            if (waited != PLT_OK)
                b.block[i] = NULL;
            if (waited == PLT_AGAIN && st == PLT_OK) {
                /* Who was filling it went away: fetch it for ourselves. */
                const size_t len = block_len(ci, b.number[i]);
                b.own[i] = malloc(len);
                const struct curl_want one = {b.number[i] * CURL_BLOCK, len,
                                              b.own[i]};
                st = b.own[i] ? curl_fetch(ci, io, &one, 1, err)
                              : plt_fail(err, PLT_NOMEM, "a block");
            } else if (waited != PLT_OK && st == PLT_OK) {
                *err = why;
                st = waited;
            }
        }
        if (st == PLT_OK)
            give(&b, i, b.block[i] ? b.block[i]->data : b.own[i],
                 block_len(ci, b.number[i]), segs, n);
        if (b.block[i])
            ci->host->block_release(ci->host, b.block[i]);
    }
    batch_release(&b);
    return st;
}

/* ---- Origins without ranges ---- */

/* Bring the forward reader to the block and read it; every block that is passed
 * goes into the cache.  buf takes the block.  *len is less at the end. */
static enum plt_status forward_block(struct curl_image *ci, struct plt_io *io,
                                     uint64_t number, uint8_t *buf, size_t *len,
                                     struct plt_error *err)
{
    const uint64_t off = number * CURL_BLOCK;
    enum plt_status st = PLT_OK;

    if (ci->forward && ci->forward_pos > off) {
        ci->forward->close(ci->forward);
        ci->forward = NULL;
    }
    if (!ci->forward) {
        st = curl_stream_open(ci, io, 0, &ci->forward, err);
        ci->forward_pos = 0;
    }
    while (st == PLT_OK && ci->forward_pos <= off) {
        size_t n = 0, got = 1;
        while (st == PLT_OK && n < CURL_BLOCK && got) {
            st = ci->forward->read(ci->forward, io, buf + n, CURL_BLOCK - n,
                                   &got, err);
            n += st == PLT_OK ? got : 0;
        }
        if (st != PLT_OK)
            break;
        struct plt_block *block = NULL;
        const uint64_t k = ci->forward_pos / CURL_BLOCK;
        if (n && ci->host->block_claim(ci->host, k, CURL_BLOCK, false,
                                       &block) == PLT_CLAIM_FILL) {
            memset(block->data, 0, CURL_BLOCK);
            memcpy(block->data, buf, n);
            ci->host->block_commit(ci->host, block);
            ci->host->block_release(ci->host, block);
        } else if (block) { /* HIT: nobody else fills, the lock is held */
            ci->host->block_release(ci->host, block);
        }
        ci->forward_pos += n;
        *len = n;
        if (n < CURL_BLOCK) {
            if (ci->size == PLT_SIZE_UNKNOWN)
                ci->size = ci->forward_pos;
            break;
        }
    }
    if (st != PLT_OK && ci->forward) {
        ci->forward->close(ci->forward);
        ci->forward = NULL;
    }
    return st;
}

static enum plt_status forward_seg(struct curl_image *ci, struct plt_io *io,
                                   struct plt_seg seg, uint8_t *scratch,
                                   struct plt_error *err)
{
    uint8_t *buf = (uint8_t *)seg.buf;

    while (seg.len) {
        const uint64_t k = seg.off / CURL_BLOCK;
        const size_t in = (size_t)(seg.off % CURL_BLOCK);
        const size_t now =
            seg.len < CURL_BLOCK - in ? seg.len : CURL_BLOCK - in;
        struct plt_block *block;
        if (ci->host->block_claim(ci->host, k, CURL_BLOCK, true, &block) ==
            PLT_CLAIM_HIT) {
            /* The last block is filled up with zeros that are nobody's. */
            const bool is_past =
                ci->size != PLT_SIZE_UNKNOWN && seg.off + now > ci->size;
            if (!is_past)
                memcpy(buf, block->data + in, now);
            ci->host->block_release(ci->host, block);
            if (is_past)
                return plt_fail_at(err, PLT_CORRUPT, seg.off,
                                   "the file ends before what is asked");
        } else if (io->flags & PLT_IO_NOWAIT) {
            return PLT_AGAIN;
        } else {
            size_t len = 0;
            const enum plt_status st =
                forward_block(ci, io, k, scratch, &len, err);
            if (st != PLT_OK)
                return st;
            if (ci->forward_pos < seg.off + now || len < in + now)
                return plt_fail_at(err, PLT_CORRUPT, seg.off,
                                   "the file ends before what is asked");
            memcpy(buf, scratch + in, now);
        }
        buf += now;
        seg.off += now;
        seg.len -= now;
    }
    return PLT_OK;
}

static enum plt_status read_forward(struct curl_image *ci, struct plt_io *io,
                                    const struct plt_seg *segs, size_t n,
                                    struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    uint8_t *const scratch = malloc(CURL_BLOCK);

    if (!scratch)
        return plt_fail(err, PLT_NOMEM, "a block");
    if (io->flags & PLT_IO_NOWAIT) {
        if (pthread_mutex_trylock(&ci->forward_lock) != 0) {
            free(scratch);
            return PLT_AGAIN;
        }
    } else {
        (void)pthread_mutex_lock(&ci->forward_lock);
    }
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (is_head(ci, &segs[i]))
            continue;
        st = forward_seg(ci, io, segs[i], scratch, err);
    }
    (void)pthread_mutex_unlock(&ci->forward_lock);
    free(scratch);
    return st;
}

/* The beginning of a long segment, as far as the head and the cache have it,
 * filled; what is left of it. */
static struct plt_seg take_cached(const struct curl_image *ci, struct plt_seg s)
{
    while (s.len && s.off < ci->size) {
        const uint64_t no = s.off / CURL_BLOCK;
        const size_t in = (size_t)(s.off % CURL_BLOCK);
        const size_t len = block_len(ci, no);
        const uint8_t *from = no ? NULL : ci->head;
        size_t there = no ? len : ci->head_len;
        struct plt_block *block = NULL;
        if (no && ci->host->block_claim(ci->host, no, len, true, &block) !=
                      PLT_CLAIM_HIT)
            break;
        if (block)
            from = block->data;
        there = there > in ? there - in : 0;
        if (there > s.len)
            there = s.len;
        memcpy(s.buf, from + in, there);
        if (block)
            ci->host->block_release(ci->host, block);
        if (!there)
            break;
        s.off += there;
        s.len -= there;
        s.buf = (uint8_t *)s.buf + there;
    }
    return s;
}

static enum plt_status curl_read(void *image, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct curl_image *const ci = (struct curl_image *)image;
    struct plt_seg *const rest = malloc((n ? n : 1) * sizeof(*rest));
    enum plt_status st = PLT_OK;
    size_t left = 0;

    if (!rest)
        return plt_fail(err, PLT_NOMEM, "a read");
    for (size_t i = 0; i < n; i++) {
        struct plt_seg s = segs[i];
        if (is_head(ci, &s)) {
            memcpy(s.buf, ci->head + s.off, s.len);
            continue;
        }
        if (ci->has_ranges && is_direct(&s))
            s = take_cached(ci, s);
        if (s.len)
            rest[left++] = s;
    }
    if (left)
        st = ci->has_ranges ? read_ranges(ci, io, rest, left, err)
                            : read_forward(ci, io, rest, left, err);
    free(rest);
    return st;
}

static enum plt_status curl_resolve_size(void *image, struct plt_io *io,
                                         uint64_t *size, struct plt_error *err)
{
    struct curl_image *const ci = (struct curl_image *)image;
    uint8_t *const scratch = malloc(CURL_BLOCK);
    enum plt_status st = PLT_OK;

    if (!scratch)
        return plt_fail(err, PLT_NOMEM, "a block");
    (void)pthread_mutex_lock(&ci->forward_lock);
    while (ci->size == PLT_SIZE_UNKNOWN && st == PLT_OK) {
        size_t len;
        st = forward_block(ci, io,
                           ci->forward ? ci->forward_pos / CURL_BLOCK : 0,
                           scratch, &len, err);
    }
    *size = ci->size;
    (void)pthread_mutex_unlock(&ci->forward_lock);
    free(scratch);
    return st;
}

static void curl_identity(void *image, struct plt_identity *out)
{
    const struct curl_image *const ci = (const struct curl_image *)image;
    const bool is_strong = ci->etag[0] && strncmp(ci->etag, "W/", 2) != 0;
    char size[24] = "?";

    out->pin = is_strong                        ? PLT_PIN_STRONG
               : ci->etag[0] || ci->modified[0] ? PLT_PIN_WEAK
                                                : PLT_PIN_NONE;
    out->mtime = ci->mtime;
    if (ci->size != PLT_SIZE_UNKNOWN)
        (void)snprintf(size, sizeof(size), "%llu",
                       (unsigned long long)ci->size);
    (void)snprintf(out->validator, sizeof(out->validator), "%s|%.62s|%.160s",
                   size, is_strong ? "" : ci->modified,
                   is_strong ? "" : ci->etag);
    if (is_strong) {
        const size_t n = strlen(out->validator);
        (void)snprintf(out->validator + n, sizeof(out->validator) - n, "%s",
                       ci->etag);
    }
}

static enum plt_status curl_revalidate(void *image, struct plt_io *io,
                                       struct plt_error *err)
{
    struct curl_image *const ci = (struct curl_image *)image;
    uint8_t byte;
    const struct curl_want one = {0, 1, &byte};

    /* Asking for one byte under the validator says it all; an origin without
     * ranges says it when it is read again, and an empty file by its length. */
    if (!ci->has_ranges || ci->size == 0)
        return PLT_OK;
    return curl_fetch(ci, io, &one, 1, err);
}

static void curl_info(void *image, struct plt_info *info)
{
    struct curl_image *const ci = (struct curl_image *)image;
    char clean[1024] = "";
    const char *const scheme = strstr(ci->asked_url, "://");

    /* No query in what is shown: that is where signatures stand. */
    if (scheme)
        (void)snprintf(clean, sizeof(clean), "%.*s",
                       (int)strcspn(ci->asked_url, "?#"), ci->asked_url);
    info->text(info, "url", clean);
    if (ci->etag[0])
        info->text(info, "origin-etag", ci->etag);
    if (ci->modified[0])
        info->text(info, "origin-last-modified", ci->modified);
    info->boolean(info, "ranges", ci->has_ranges);
}

PLT_DRIVER(.name = "curl", .aliases = "http,https",
           .summary = "a file on an HTTP server, by ranges",
           .kind = PLT_KIND_SOURCE, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .open = curl_open, .close = curl_close,
           .read = curl_read, .resolve_size = curl_resolve_size,
           .info = curl_info, .stream_open = curl_stream_open,
           .identity = curl_identity, .revalidate = curl_revalidate)
