/* SPDX-License-Identifier: Apache-2.0 */
/* Another whole document of the same server's: a plain GET, which any cache on
 * the way may answer.  It has a redirect of its own, and nothing of the image's
 * but its host (policy, credentials) and the pool of connections. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_image.h"

struct document {
    struct curl_image place; /* url, host and pool alone */
    CURL *easy;
    struct curl_slist *headers;
    struct curl_answer answer;
    uint8_t *buf;
    size_t cap, len;
    bool is_long; /* more than cap bytes */
    char why[CURL_ERROR_SIZE];
};

static size_t on_body(char *data, size_t size, size_t n, void *cookie)
{
    struct document *const d = (struct document *)cookie;
    const size_t len = size * n;

    (void)curl_easy_getinfo(d->easy, CURLINFO_RESPONSE_CODE, &d->answer.code);
    if (d->answer.code != 200 || d->answer.is_coded)
        return 0; /* judged by its head */
    d->is_long = len > d->cap - d->len ||
                 (d->answer.has_length && d->answer.length > d->cap);
    if (d->is_long)
        return 0;
    memcpy(d->buf + d->len, data, len);
    d->len += len;
    return len;
}

/* ORIGIN, but asking again would get the same. */
static enum plt_status lies(struct plt_error *err, const char *what)
{
    const enum plt_status st = plt_fail(err, PLT_ORIGIN, "%s", what);
    err->sys = -1;
    return st;
}

static enum plt_status judge(struct document *d, CURLcode code,
                             struct plt_error *err)
{
    const struct curl_answer *const a = &d->answer;

    (void)curl_easy_getinfo(d->easy, CURLINFO_RESPONSE_CODE, &d->answer.code);
    if (a->code >= 300) {
        const enum plt_status st = curl_status_error(a, true, err);
        /* Nothing that pins the image was sent: it has not changed. */
        return st == PLT_CHANGED
                   ? lies(err, "refuses a condition that was not sent")
                   : st;
    }
    if (d->is_long)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a document of more than %zu bytes", d->cap);
    if (a->code > 200)
        return lies(err, "no 200 to a request for a whole document");
    if (a->code == 200 && a->is_coded)
        return lies(err, "a Content-Encoding that was not asked for");
    if (code != CURLE_OK)
        return curl_code_error(a, code, d->why, err);
    if (a->has_length && a->length != d->len)
        return plt_fail(err, PLT_ORIGIN, "the answer was cut short");
    return PLT_OK;
}

/* Until the transfer has ended by itself: *code. */
static enum plt_status wait_for(CURLM *lane, struct plt_io *io, CURLcode *code,
                                struct plt_error *err)
{
    for (;;) {
        int live = 0, left = 0;
        (void)curl_multi_perform(lane, &live);
        for (CURLMsg *m; (m = curl_multi_info_read(lane, &left));) {
            if (m->msg == CURLMSG_DONE) {
                *code = m->data.result;
                return PLT_OK;
            }
        }
        if (io->cancelled(io))
            return plt_fail(err, PLT_CANCELLED, "request withdrawn");
        if (curl_now_ns() >= io->deadline_ns)
            return plt_fail(err, PLT_TIMEOUT,
                            "the origin did not answer in time");
        (void)curl_multi_poll(lane, NULL, 0, 100, NULL);
    }
}

static enum plt_status try_once(struct document *d, struct plt_io *io,
                                CURLM *lane, struct plt_error *err)
{
    CURLcode code = CURLE_OK;

    d->len = 0;
    d->is_long = false;
    d->why[0] = '\0';
    d->easy = curl_make(&d->place, io, &d->answer, &d->headers, false);
    if (!d->easy)
        return plt_fail(err, PLT_NOMEM, "a request");
    (void)curl_easy_setopt(d->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(d->easy, CURLOPT_WRITEDATA, d);
    (void)curl_easy_setopt(d->easy, CURLOPT_ERRORBUFFER, d->why);
    (void)curl_multi_add_handle(lane, d->easy);
    enum plt_status st = wait_for(lane, io, &code, err);
    if (st == PLT_OK)
        st = judge(d, code, err);
    io->charge(io, d->len, 1);
    (void)curl_multi_remove_handle(lane, d->easy);
    curl_easy_cleanup(d->easy);
    curl_slist_free_all(d->headers);
    return st;
}

static enum plt_status try_all(struct document *d, struct plt_io *io,
                               CURLM *lane, struct plt_error *err)
{
    unsigned tries = 0, redirects = 0;

    for (;;) {
        err->sys = 0;
        enum plt_status st = try_once(d, io, lane, err);
        if (st == PLT_AGAIN) {
            if (redirects++ == CURL_REDIRECTS)
                return lies(err, "too many redirects");
            st = curl_redirect(&d->place, &d->answer, err);
            if (st == PLT_OK)
                continue;
            return st;
        }
        if (st == PLT_OK || st == PLT_CANCELLED || !curl_may_retry(err) ||
            ++tries == CURL_TRIES || !curl_backoff(io, tries, &d->answer))
            return st;
    }
}

enum plt_status curl_document(void *image, struct plt_io *io, const char *url,
                              uint8_t *buf, size_t cap, size_t *got,
                              struct plt_error *err)
{
    struct curl_image *const ci = (struct curl_image *)image;
    struct document d = {
        .place = {.host = ci->host, .pool = ci->pool}, .buf = buf, .cap = cap};
    enum plt_status st = ci->host->allow_url(ci->host, url, err);

    if (st != PLT_OK)
        return st;
    d.place.url = strdup(url);
    if (!d.place.url)
        return plt_fail(err, PLT_NOMEM, "a URL");
    (void)pthread_mutex_init(&d.place.lock, NULL);
    curl_site(url, d.place.site, sizeof(d.place.site));
    atomic_init(&d.place.is_multiplexed, atomic_load(&ci->is_multiplexed));
    CURLM *const lane = curl_lane_take(&d.place);
    st = lane ? try_all(&d, io, lane, err)
              : plt_fail(err, PLT_NOMEM, "a request");
    if (lane)
        curl_lane_give(&d.place, lane);
    (void)pthread_mutex_destroy(&d.place.lock);
    free(d.place.url);
    if (st == PLT_ORIGIN)
        err->sys = 0;
    *got = d.len;
    return st;
}
