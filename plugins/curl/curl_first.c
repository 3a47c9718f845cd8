/* SPDX-License-Identifier: Apache-2.0 */
/* The request that opens a file, and beside it one for the file's end.
 *
 * The head says all that there is to know: size, validator, whether ranges are
 * honoured.  Where the name promises tables at the end, the last bytes are
 * asked for at the same time, as a suffix, since nobody knows the size yet:
 * archive and footer are then read in the round trip of the head.  That answer
 * is a gift: one that fails, comes late or does not fit the head's is
 * forgotten, and whoever wants those bytes asks for them like any others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_image.h"

/* For how long at most an open waits for the end, when the head is there. */
#define END_PATIENCE_NS UINT64_C(500000000)

/* One of the two requests. */
struct part {
    struct curl_image *ci;
    CURL *easy; /* NULL: not asked for */
    struct curl_slist *headers;
    struct curl_answer answer;
    uint8_t *buf;
    size_t cap, len;
    bool is_cut; /* it would have been more */
    bool is_over;
    CURLcode code;
    char why[CURL_ERROR_SIZE];
};

static size_t on_head(char *data, size_t size, size_t n, void *cookie)
{
    struct part *const p = (struct part *)cookie;
    const size_t len = size * n, room = p->cap - p->len;
    const size_t now = len < room ? len : room;

    (void)curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &p->answer.code);
    if (p->answer.code != 200 && p->answer.code != 206)
        return len; /* an error's page */
    memcpy(p->buf + p->len, data, now);
    p->len += now;
    p->is_cut = now < len;
    return p->is_cut ? 0 : len;
}

static size_t on_end(char *data, size_t size, size_t n, void *cookie)
{
    struct part *const p = (struct part *)cookie;
    const size_t len = size * n;

    (void)curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &p->answer.code);
    if (p->answer.code != 206 || len > p->cap - p->len)
        return 0;
    memcpy(p->buf + p->len, data, len);
    p->len += len;
    return len;
}

static bool ask(struct part *p, const struct plt_io *io, CURLM *lane,
                const char *range, curl_write_callback on_body)
{
    p->len = 0;
    p->is_cut = p->is_over = false;
    p->code = CURLE_OK;
    p->why[0] = '\0';
    p->easy = curl_make(p->ci, io, &p->answer, &p->headers, false);
    if (!p->easy)
        return false;
    (void)curl_easy_setopt(p->easy, CURLOPT_RANGE, range);
    (void)curl_easy_setopt(p->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(p->easy, CURLOPT_WRITEDATA, p);
    (void)curl_easy_setopt(p->easy, CURLOPT_ERRORBUFFER, p->why);
    (void)curl_easy_setopt(p->easy, CURLOPT_PRIVATE, p);
    (void)curl_multi_add_handle(lane, p->easy);
    return true;
}

static void hang_up(struct part *p, struct plt_io *io, CURLM *lane)
{
    if (!p->easy)
        return;
    (void)curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &p->answer.code);
    io->charge(io, p->len, 1);
    (void)curl_multi_remove_handle(lane, p->easy);
    curl_easy_cleanup(p->easy);
    curl_slist_free_all(p->headers);
    p->easy = NULL;
    p->headers = NULL;
}

/* Until the head is there, and the end, when it does not take much longer. */
static enum plt_status wait_for(struct part *head, struct part *end,
                                struct plt_io *io, CURLM *lane,
                                struct plt_error *err)
{
    const uint64_t start = curl_now_ns();
    uint64_t patience =
        0; /* until when for the end; 0: the head is not there */

    for (;;) {
        int live = 0, left = 0;
        (void)curl_multi_perform(lane, &live);
        for (CURLMsg *m; (m = curl_multi_info_read(lane, &left));) {
            struct part *p = NULL;
            if (m->msg != CURLMSG_DONE)
                continue;
            (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &p);
            p->code = m->data.result;
            p->is_over = true;
            if (p == head && p->code == CURLE_OK)
                curl_measure(p->ci, p->easy, p->len);
        }
        const uint64_t now = curl_now_ns();
        if (head->is_over) {
            if (!end->easy || end->is_over || head->code != CURLE_OK)
                return PLT_OK;
            if (!patience)
                patience =
                    now + (now - start < END_PATIENCE_NS ? now - start
                                                         : END_PATIENCE_NS);
            if (now >= patience)
                return PLT_OK;
        }
        if (io->cancelled(io))
            return plt_fail(err, PLT_CANCELLED, "request withdrawn");
        if (now >= io->deadline_ns)
            return plt_fail(err, PLT_TIMEOUT,
                            "the origin did not answer in time");
        (void)curl_multi_poll(lane, NULL, 0, patience ? 10 : 100, NULL);
    }
}

static enum plt_status first_try(struct part *head, struct part *end,
                                 struct plt_io *io, CURLM *lane,
                                 struct plt_error *err)
{
    char range[48];

    (void)snprintf(range, sizeof(range), "0-%zu", head->cap - 1);
    if (!ask(head, io, lane, range, on_head))
        return plt_fail(err, PLT_NOMEM, "a request");
    if (end->buf) {
        (void)snprintf(range, sizeof(range), "-%zu", end->cap);
        (void)ask(end, io, lane, range, on_end);
    }
    const enum plt_status st = wait_for(head, end, io, lane, err);
    hang_up(head, io, lane);
    hang_up(end, io, lane);
    if (st != PLT_OK)
        return st;
    const long code = head->answer.code;
    if (head->code != CURLE_OK && !head->is_cut && code < 300)
        return curl_code_error(&head->answer, head->code, head->why, err);
    if (code == 416 && head->answer.total == 0)
        return PLT_OK; /* RFC 9110 15.5.17: bytes * /0, an empty file */
    if (code != 200 && code != 206)
        return curl_status_error(&head->answer, true, err);
    return PLT_OK;
}

static enum plt_status learn(struct curl_image *ci, const struct part *head,
                             struct plt_error *err)
{
    const struct curl_answer *const a = &head->answer;

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
        if (ci->size != PLT_SIZE_UNKNOWN && head->len > ci->size)
            return plt_fail(err, PLT_ORIGIN, "more bytes than Content-Length");
        return PLT_OK;
    }
    const uint64_t want = a->total < head->cap ? a->total : head->cap;
    if (!a->has_range || a->total == CURL_TOTAL_UNKNOWN || a->total == 0 ||
        a->total > PLT_SIZE_MAX)
        return plt_fail(err, PLT_ORIGIN,
                        "206 without a Content-Range that says the size");
    if (a->first != 0 || a->last != want - 1)
        return plt_fail(err, PLT_ORIGIN,
                        "206 with another range than was asked");
    if (head->len != want)
        return plt_fail(err, PLT_ORIGIN, "the answer was cut short");
    ci->has_ranges = true;
    ci->size = a->total;
    return PLT_OK;
}

/* What the head brought goes where what others bring goes, and lives as long as
 * there is room; its first block is the image's own. */
static void publish(struct curl_image *ci, const uint8_t *data, size_t len)
{
    for (uint64_t k = 1; k * CURL_BLOCK < len; k++) {
        const uint64_t at = k * CURL_BLOCK;
        const size_t n = curl_block_len(ci, k);
        struct plt_block *block;
        if (n > len - at)
            return;
        const enum plt_claim claim =
            ci->host->block_claim(ci->host, k, n, false, &block);
        if (claim == PLT_CLAIM_FILL) {
            memcpy(block->data, data + at, n);
            ci->host->block_commit(ci->host, block);
        }
        if (claim != PLT_CLAIM_FULL)
            ci->host->block_release(ci->host, block);
    }
}

static void keep_tail(struct curl_image *ci, struct part *end)
{
    struct plt_error ignored;

    if (!end->len || end->code != CURLE_OK ||
        !curl_end_fits(ci, &end->answer, end->cap) ||
        end->len != end->answer.last - end->answer.first + 1 ||
        ci->host->mem_take(ci->host, end->cap, &ignored) != PLT_OK)
        return;
    ci->tail = end->buf;
    ci->tail_len = end->len;
    end->buf = NULL;
}

static void keep(struct curl_image *ci, struct part *head, struct part *end)
{
    ci->head = head->buf;
    ci->head_len = head->len;
    if (!ci->has_ranges)
        return;
    publish(ci, head->buf, head->len);
    keep_tail(ci, end);
    if (ci->head_len <= CURL_HEAD_KEPT)
        return;
    ci->head_len = CURL_HEAD_KEPT;
    uint8_t *const less = realloc(ci->head, CURL_HEAD_KEPT);
    if (less)
        ci->head = less;
}

static enum plt_status try_all(struct part *head, struct part *end,
                               struct plt_io *io, CURLM *lane,
                               struct plt_error *err)
{
    struct curl_image *const ci = head->ci;
    unsigned tries = 0, redirects = 0;

    for (;;) {
        err->sys = 0;
        enum plt_status st = first_try(head, end, io, lane, err);
        if (st == PLT_OK)
            st = learn(ci, head, err);
        if (st == PLT_AGAIN) {
            if (redirects++ == CURL_REDIRECTS)
                return plt_fail(err, PLT_ORIGIN, "too many redirects");
            st = curl_redirect(ci, &head->answer, err);
            if (st == PLT_OK)
                continue;
            return st;
        }
        if (st == PLT_OK || st == PLT_CANCELLED || !curl_may_retry(err) ||
            ++tries == CURL_TRIES || !curl_backoff(io, tries, &head->answer))
            return st;
    }
}

enum plt_status curl_first(struct curl_image *ci, struct plt_io *io,
                           bool is_exact, struct plt_error *err)
{
    static const struct curl_guess least = {1, 0, 0};
    const struct curl_guess guess =
        is_exact ? least : curl_guess(ci->asked_url);
    struct part head = {.ci = ci, .cap = guess.head};
    struct part end = {.ci = ci, .cap = guess.tail};
    CURLM *const lane = curl_lane_take(ci);
    enum plt_status st;

    head.buf = malloc(head.cap);
    end.buf = end.cap ? malloc(end.cap) : NULL;
    if (lane && head.buf)
        st = try_all(&head, &end, io, lane, err);
    else
        st = plt_fail(err, PLT_NOMEM, "a request");
    if (lane)
        curl_lane_give(ci, lane);
    ci->front = guess.front;
    atomic_init(&ci->has_front, guess.front <= guess.head);
    atomic_init(&ci->has_end, is_exact);
    if (st == PLT_OK)
        keep(ci, &head, &end);
    else
        free(head.buf);
    free(end.buf);
    if (st == PLT_ORIGIN)
        err->sys = 0;
    return st;
}
