/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges, several at a time, on a lane. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_transfer.h"

void curl_transfer_give(struct curl_transfer *t, const uint8_t *data,
                        size_t len)
{
    const uint64_t from = t->pos, to = from + len;

    t->pos = to;
    while (t->at_want < t->n_wants &&
           t->wants[t->at_want].off + t->wants[t->at_want].len <= from)
        t->at_want++;
    for (size_t i = t->at_want; i < t->n_wants; i++) {
        const struct curl_want *const w = &t->wants[i];
        const uint64_t lo = w->off > from ? w->off : from;
        const uint64_t hi = w->off + w->len < to ? w->off + w->len : to;
        if (w->off >= to)
            break;
        if (lo < hi)
            memcpy(w->buf + (lo - w->off), data + (lo - from),
                   (size_t)(hi - lo));
    }
}

/* The headers are there: may the body be used? */
static enum plt_status begin(struct curl_transfer *t)
{
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->answer.code);
    t->is_checked = true;
    if (t->parts)
        return curl_parts_begin(t);
    t->pos = t->off;
    t->left = t->len;
    return curl_answer_check(t->ci, &t->answer, t->off, t->len, &t->err);
}

static size_t on_body(char *data, size_t size, size_t n, void *cookie)
{
    struct curl_transfer *const t = (struct curl_transfer *)cookie;
    const size_t len = size * n;

    if (!t->is_checked)
        t->st = begin(t);
    if (t->st == PLT_OK && t->parts && !t->is_one)
        t->st = curl_parts_take(t, (const uint8_t *)data, len);
    else if (t->st == PLT_OK && len > t->left)
        t->st = plt_fail(&t->err, PLT_ORIGIN, "more bytes than were asked for");
    if (t->st != PLT_OK)
        return 0;
    t->got += len;
    if (t->parts && !t->is_one)
        return len;
    t->left -= len;
    curl_transfer_give(t, (const uint8_t *)data, len);
    return len;
}

static bool start_transfer(struct curl_image *ci, const struct plt_io *io,
                           CURLM *lane, struct curl_transfer *t)
{
    char range[CURL_RANGES_TEXT];

    t->got = 0;
    t->at_want = 0;
    t->is_checked = t->is_one = false;
    t->st = PLT_OK;
    t->why[0] = '\0';
    t->easy = curl_make(ci, io, &t->answer, &t->headers, true);
    if (!t->easy)
        return false;
    if (t->parts)
        curl_parts_text(t, range, sizeof(range));
    else
        (void)snprintf(range, sizeof(range), "%llu-%llu",
                       (unsigned long long)t->off,
                       (unsigned long long)(t->off + t->len - 1));
    (void)curl_easy_setopt(t->easy, CURLOPT_RANGE, range);
    (void)curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->why);
    (void)curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    t->is_running = curl_multi_add_handle(lane, t->easy) == CURLM_OK;
    return t->is_running;
}

static void stop_transfer(CURLM *lane, struct plt_io *io,
                          struct curl_transfer *t)
{
    if (t->is_running) {
        (void)curl_multi_remove_handle(lane, t->easy);
        io->charge(io, t->got, 1);
    }
    t->is_running = false;
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    t->easy = NULL;
    t->headers = NULL;
}

/* A transfer has ended by itself: was it what it should be? */
static void judge(struct curl_transfer *t, CURLcode code)
{
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->answer.code);
    if (t->st != PLT_OK)
        return; /* said while it came */
    if (code != CURLE_OK && t->answer.code < 300)
        t->st = curl_code_error(&t->answer, code, t->why, &t->err);
    else if (!t->is_checked)
        t->st = begin(t);
    if (t->st == PLT_OK && t->parts && !t->is_one)
        t->st = curl_parts_end(t);
    else if (t->st == PLT_OK && t->left)
        t->st = plt_fail(&t->err, PLT_ORIGIN, "the answer was cut short");
    t->is_done = t->st == PLT_OK;
    if (t->is_done)
        curl_measure(t->ci, t->easy, t->got);
}

/* Run the transfers that are not done, a few at a time, to their ends. */
static enum plt_status run_all(struct curl_image *ci, CURLM *lane,
                               struct plt_io *io, struct curl_transfer *ts,
                               size_t n, struct plt_error *err)
{
    size_t next = 0, running = 0;
    enum plt_status st = PLT_OK;

    while ((next < n || running) && st == PLT_OK) {
        for (; next < n && running < CURL_PARALLEL; next++) {
            if (ts[next].is_done)
                continue;
            if (!start_transfer(ci, io, lane, &ts[next]))
                return plt_fail(err, PLT_NOMEM, "a request");
            running++;
        }
        int live = 0, left = 0;
        (void)curl_multi_perform(lane, &live);
        for (CURLMsg *m; (m = curl_multi_info_read(lane, &left));) {
            struct curl_transfer *t = NULL;
            if (m->msg != CURLMSG_DONE)
                continue;
            (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
            judge(t, m->data.result);
            stop_transfer(lane, io, t);
            running--;
        }
        if (!running)
            continue;
        const uint64_t now = curl_now_ns();
        if (io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
        else if (now >= io->deadline_ns)
            st =
                plt_fail(err, PLT_TIMEOUT, "the origin did not answer in time");
        else
            (void)curl_multi_poll(
                lane, NULL, 0,
                io->deadline_ns - now < UINT64_C(100000000)
                    ? (int)((io->deadline_ns - now) / 1000000) + 1
                    : 100,
                NULL);
    }
    return st;
}

/* Wants that are near become one transfer.  What lies between them is there
 * already (curl_read.c): it is read over where that is less than a round trip,
 * and little beside what is wanted. */
static size_t plan(struct curl_image *ci, const struct curl_want *wants,
                   size_t n, struct curl_transfer *ts)
{
    const uint64_t most = curl_gap(ci);
    size_t n_ts = 0;

    for (size_t i = 0; i < n; i++) {
        struct curl_transfer *const last = n_ts ? &ts[n_ts - 1] : NULL;
        const uint64_t end = wants[i].off + wants[i].len;
        const uint64_t gap = last ? wants[i].off - (last->off + last->len) : 0;
        if (last && gap <= most && gap <= (last->len + wants[i].len) / 8 &&
            end - last->off <= CURL_PIECE) {
            last->len = end - last->off;
            last->n_wants++;
        } else {
            ts[n_ts++] = (struct curl_transfer){.ci = ci,
                                                .wants = &wants[i],
                                                .n_wants = 1,
                                                .off = wants[i].off,
                                                .len = wants[i].len};
        }
    }
    return n_ts;
}

enum plt_status curl_transfers_run(struct curl_image *ci, struct plt_io *io,
                                   struct curl_transfer *ts, size_t n,
                                   struct plt_error *err)
{
    CURLM *const lane = curl_lane_take(ci);
    enum plt_status st = PLT_OK;
    unsigned tries = 0, redirects = 0;

    if (!lane)
        return plt_fail(err, PLT_NOMEM, "requests");
    for (;;) {
        const struct curl_transfer *bad = NULL;
        st = run_all(ci, lane, io, ts, n, err);
        if (st != PLT_OK)
            break;
        for (size_t i = 0; i < n; i++) {
            /* The failure that asking again does not help comes first. */
            if (!ts[i].is_done && (!bad || !curl_may_retry(&ts[i].err)))
                bad = &ts[i];
        }
        if (!bad)
            break;
        if (bad->st == PLT_AGAIN) {
            if (redirects++ == CURL_REDIRECTS)
                st = plt_fail(err, PLT_ORIGIN, "too many redirects");
            else
                st = curl_redirect(ci, &bad->answer, err);
            if (st != PLT_OK)
                break;
            continue;
        }
        *err = bad->err;
        st = bad->st;
        if (!curl_may_retry(&bad->err) || ++tries == CURL_TRIES ||
            !curl_backoff(io, tries, &bad->answer))
            break;
    }
    for (size_t i = 0; i < n; i++)
        stop_transfer(lane, io, &ts[i]);
    curl_lane_give(ci, lane);
    if (st == PLT_ORIGIN)
        err->sys = 0; /* the mark of curl_may_retry is ours alone */
    return st;
}

enum plt_status curl_fetch(struct curl_image *ci, struct plt_io *io,
                           const struct curl_want *wants, size_t n,
                           struct plt_error *err)
{
    struct curl_transfer *const ts = calloc(n, sizeof(*ts));

    if (!ts)
        return plt_fail(err, PLT_NOMEM, "requests");
    const enum plt_status st =
        curl_transfers_run(ci, io, ts, plan(ci, wants, n, ts), err);
    free(ts);
    return st;
}
