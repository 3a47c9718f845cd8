/* SPDX-License-Identifier: Apache-2.0 */
/* One long request, read forward.  When its connection breaks it is asked again
 * from where it was, under the same validators, so that who decodes forward
 * does not notice. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_image.h"

enum { ROOM = 1 << 20 /* received and not yet read */ };

struct curl_stream {
    struct plt_stream stream; /* first */
    struct curl_image *ci;
    CURLM *lane;
    CURL *easy;
    struct curl_slist *headers;
    struct curl_answer answer;
    uint64_t pos;  /* of the next byte that is given out */
    uint64_t end;  /* exclusive; PLT_SIZE_UNKNOWN: where the file ends */
    uint64_t skip; /* an origin without ranges: bytes still to be dropped */
    uint8_t *buf;
    size_t from, to; /* what is in buf */
    uint8_t *sink;   /* of who reads now: filled before buf is */
    size_t sink_len, sunk;
    bool is_paused, is_checked, is_over;
    unsigned tries, redirects; /* since the last byte */
    struct plt_error err;
    enum plt_status st;
    char why[CURL_ERROR_SIZE];
};

/* Where the next byte of the transfer lies in the file. */
static uint64_t coming(const struct curl_stream *s)
{
    return s->pos + (s->to - s->from);
}

/* What a request from off on asks for: bytes; 0: all. */
static uint64_t asked(const struct curl_stream *s, uint64_t off)
{
    return s->end != PLT_SIZE_UNKNOWN ? s->end - off : 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *cookie)
{
    struct curl_stream *const s = (struct curl_stream *)cookie;
    const uint8_t *p = (const uint8_t *)data;
    size_t len = size * n, direct;

    if (!s->is_checked) {
        (void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE,
                                &s->answer.code);
        s->st = curl_answer_check(s->ci, &s->answer, coming(s),
                                  asked(s, coming(s)), &s->err);
        s->is_checked = true;
    }
    if (s->st != PLT_OK)
        return 0;
    const size_t drop = s->skip < len ? (size_t)s->skip : len;
    const size_t room = s->to == s->from ? s->sink_len - s->sunk : 0;
    direct = room < len - drop ? room : len - drop;
    /* All or nothing: a paused delivery comes again whole. */
    if (len - drop - direct > ROOM - s->to) {
        s->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    s->skip -= drop;
    p += drop;
    len -= drop;
    if (direct) {
        memcpy(s->sink + s->sunk, p, direct);
        s->sunk += direct;
        s->pos += direct;
    }
    memcpy(s->buf + s->to, p + direct, len - direct);
    s->to += len - direct;
    return size * n;
}

static void hang_up(struct curl_stream *s)
{
    if (s->easy) {
        (void)curl_multi_remove_handle(s->lane, s->easy);
        curl_easy_cleanup(s->easy);
    }
    curl_slist_free_all(s->headers);
    s->easy = NULL;
    s->headers = NULL;
}

/* Ask for everything from where we are. */
static enum plt_status dial(struct curl_stream *s, struct plt_io *io,
                            struct plt_error *err)
{
    char range[48];
    const uint64_t off = coming(s);

    hang_up(s);
    s->is_checked = s->is_paused = false;
    s->st = PLT_OK;
    s->why[0] = '\0';
    s->skip = s->ci->has_ranges ? 0 : off;
    s->easy = curl_make(s->ci, io, &s->answer, &s->headers, true);
    if (!s->easy)
        return plt_fail(err, PLT_NOMEM, "a request");
    if (s->ci->has_ranges) {
        (void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)off);
        if (s->end != PLT_SIZE_UNKNOWN)
            (void)snprintf(range, sizeof(range), "%llu-%llu",
                           (unsigned long long)off,
                           (unsigned long long)(s->end - 1));
        (void)curl_easy_setopt(s->easy, CURLOPT_RANGE, range);
    }
    (void)curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    (void)curl_easy_setopt(s->easy, CURLOPT_ERRORBUFFER, s->why);
    if (curl_multi_add_handle(s->lane, s->easy) != CURLM_OK)
        return plt_fail(err, PLT_NOMEM, "a request");
    io->charge(io, 0, 1);
    return PLT_OK;
}

/* The transfer has ended.  Go on, be over, or fail. */
static enum plt_status ended(struct curl_stream *s, struct plt_io *io,
                             CURLcode code, struct plt_error *err)
{
    const uint64_t off = coming(s);
    const uint64_t size = s->end != PLT_SIZE_UNKNOWN ? s->end : s->ci->size;

    (void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &s->answer.code);
    if (s->st == PLT_OK && code != CURLE_OK && s->answer.code < 300)
        s->st = curl_code_error(&s->answer, code, s->why, &s->err);
    else if (s->st == PLT_OK && !s->is_checked)
        s->st =
            curl_answer_check(s->ci, &s->answer, off, asked(s, off), &s->err);
    if (s->st == PLT_OK && size != PLT_SIZE_UNKNOWN && off != size)
        s->st = plt_fail(&s->err, PLT_ORIGIN, "the answer was cut short");
    if (s->st == PLT_OK && s->skip)
        s->st = plt_fail(&s->err, PLT_CHANGED, "the file became shorter");
    if (s->st == PLT_OK) {
        s->is_over = true;
        hang_up(s);
        return PLT_OK;
    }
    if (s->st == PLT_AGAIN) {
        if (s->redirects++ == CURL_REDIRECTS)
            return plt_fail(err, PLT_ORIGIN, "too many redirects");
        const enum plt_status st = curl_redirect(s->ci, &s->answer, err);
        return st == PLT_OK ? dial(s, io, err) : st;
    }
    *err = s->err;
    /* Without a validator nothing says that the rest is of the same file. */
    const bool is_pinned = s->ci->etag[0] || s->ci->modified[0];
    if (!curl_may_retry(&s->err) || (!is_pinned && off > 0) ||
        ++s->tries == CURL_TRIES || !curl_backoff(io, s->tries, &s->answer)) {
        if (err->status == PLT_ORIGIN)
            err->sys = 0;
        return err->status;
    }
    return dial(s, io, err);
}

static enum plt_status wait_some(struct curl_stream *s, struct plt_io *io,
                                 struct plt_error *err)
{
    int live = 0, left = 0;

    if (s->is_paused && s->to < ROOM / 2) {
        s->is_paused = false;
        (void)curl_easy_pause(s->easy, CURLPAUSE_CONT);
    }
    (void)curl_multi_perform(s->lane, &live);
    for (CURLMsg *m; (m = curl_multi_info_read(s->lane, &left));) {
        if (m->msg == CURLMSG_DONE)
            return ended(s, io, m->data.result, err);
    }
    if (s->to > s->from || s->sunk)
        return PLT_OK;
    const uint64_t now = curl_now_ns();
    if (io->cancelled(io))
        return plt_fail(err, PLT_CANCELLED, "request withdrawn");
    if (now >= io->deadline_ns)
        return plt_fail(err, PLT_TIMEOUT, "the origin did not answer in time");
    (void)curl_multi_poll(s->lane, NULL, 0, 100, NULL);
    return PLT_OK;
}

/* Before the stream has begun: what the cache has of it is not fetched again.
 */
static bool take_cached(struct curl_stream *s, void *buf, size_t cap,
                        size_t *got)
{
    struct curl_image *const ci = s->ci;
    const uint64_t no = s->pos / CURL_BLOCK;
    struct plt_block *block;

    if (!ci->has_ranges || s->pos >= ci->size)
        return false;
    const uint64_t left = ci->size - no * CURL_BLOCK;
    const size_t len = left < CURL_BLOCK ? (size_t)left : (size_t)CURL_BLOCK;
    if (ci->host->block_claim(ci->host, no, len, true, &block) != PLT_CLAIM_HIT)
        return false;
    const size_t in = (size_t)(s->pos % CURL_BLOCK);
    *got = len - in < cap ? len - in : cap;
    memcpy(buf, block->data + in, *got);
    ci->host->block_release(ci->host, block);
    s->pos += *got;
    s->is_over = s->pos == ci->size;
    return true;
}

/* What is there without a request of its own. */
static bool take_known(struct curl_stream *s, void *buf, size_t cap,
                       size_t *got)
{
    struct curl_image *const ci = s->ci;

    if (s->pos >= ci->head_len)
        return take_cached(s, buf, cap, got);
    const size_t n = ci->head_len - (size_t)s->pos;
    *got = n < cap ? n : cap;
    memcpy(buf, ci->head + s->pos, *got);
    s->pos += *got;
    s->is_over = s->pos == ci->size;
    return true;
}

static size_t take_buffered(struct curl_stream *s, uint8_t *buf, size_t cap)
{
    const size_t have = s->to - s->from;
    const size_t n = have < cap ? have : cap;

    memcpy(buf, s->buf + s->from, n);
    s->from += n;
    s->pos += n;
    if (s->from == s->to) {
        s->from = s->to = 0;
    } else if (s->from > ROOM / 2) {
        memmove(s->buf, s->buf + s->from, s->to - s->from);
        s->to -= s->from;
        s->from = 0;
    }
    return n;
}

static enum plt_status stream_read(struct plt_stream *stream, struct plt_io *io,
                                   void *buf, size_t cap, size_t *got,
                                   struct plt_error *err)
{
    struct curl_stream *const s = (struct curl_stream *)stream;
    enum plt_status st = PLT_OK;

    if (!s->easy && !s->is_over && s->end == PLT_SIZE_UNKNOWN &&
        take_known(s, buf, cap, got))
        return PLT_OK;
    *got = take_buffered(s, (uint8_t *)buf, cap);
    s->sink = (uint8_t *)buf;
    s->sink_len = *got ? 0 : cap; /* what is buffered goes first */
    s->sunk = 0;
    if (!*got && !s->easy && !s->is_over) {
        s->is_over = s->pos == s->ci->size;
        if (!s->is_over)
            st = dial(s, io, err);
    }
    while (st == PLT_OK && !*got && !s->is_over) {
        st = wait_some(s, io, err);
        *got = s->sunk ? s->sunk : take_buffered(s, (uint8_t *)buf, cap);
    }
    s->sink_len = s->sunk = 0;
    if (st != PLT_OK)
        return st;
    if (*got)
        s->tries = s->redirects = 0;
    io->charge(io, *got, 0);
    return PLT_OK;
}

static void stream_close(struct plt_stream *stream)
{
    struct curl_stream *const s = (struct curl_stream *)stream;

    hang_up(s);
    curl_lane_give(s->ci, s->lane);
    free(s->buf);
    free(s);
}

enum plt_status curl_stream_range(struct curl_image *ci, struct plt_io *io,
                                  uint64_t off, uint64_t end,
                                  struct plt_stream **stream,
                                  struct plt_error *err)
{
    struct curl_stream *const s = calloc(1, sizeof(*s));
    uint8_t *const buf = malloc(ROOM);
    CURLM *const lane = curl_lane_take(ci);

    (void)io;
    if (!s || !buf || !lane) {
        free(s);
        free(buf);
        if (lane)
            curl_lane_give(ci, lane);
        return plt_fail(err, PLT_NOMEM, "a stream");
    }
    s->stream = (struct plt_stream){.struct_size = (uint32_t)sizeof(s->stream),
                                    .read = stream_read,
                                    .close = stream_close};
    s->ci = ci;
    s->lane = lane;
    s->buf = buf;
    s->pos = off;
    s->end = end;
    *stream = &s->stream;
    return PLT_OK;
}

enum plt_status curl_stream_open(void *image, struct plt_io *io, uint64_t off,
                                 struct plt_stream **stream,
                                 struct plt_error *err)
{
    return curl_stream_range((struct curl_image *)image, io, off,
                             PLT_SIZE_UNKNOWN, stream, err);
}
