/* SPDX-License-Identifier: Apache-2.0 */
/* The content of a long answer: pulled by libmicrohttpd, 64 KiB at a time.
 *
 * What is in memory is copied straight into its buffer.  What is not is read by
 * a worker into a window that grows while the client keeps up (256 KiB to 1
 * MiB), one window ahead of the one being sent; the connection sleeps
 * meanwhile.  A read that fails ends the connection: an answer is never padded,
 * and never ends quietly.
 *
 * Several ranges are sent one after another: each is a span with windows of its
 * own, behind the head of its part.
 *
 * Lock: `lock` guards all but off and end, which the event thread owns. */
#include <stdlib.h>
#include <string.h>

#include "request.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    BLOCK = 64 * 1024, /* larger ones were measured slower */
    WINDOW_MIN = 256 * 1024,
    WINDOW_MAX = 1024 * 1024
};

struct window {
    uint8_t *data;
    size_t cap, len;
    uint64_t off;
};

struct body {
    struct request *request;
    struct lock lock;
    unsigned refs;       /* the response, and a running job */
    uint64_t start, end; /* of the span on the disk; end is exclusive */
    uint64_t base;       /* where in the content the span's bytes begin */
    size_t part;         /* of several: which one the span is */
    struct window now, next;
    bool has_next, is_reading, is_sleeping, has_failed;
    uint64_t read_off; /* what the job reads */
    size_t read_len, step;
};

static void body_unref(struct body *b)
{
    lock_take(&b->lock);
    const bool is_last = --b->refs == 0;
    lock_give(&b->lock);
    if (!is_last)
        return;
    lock_release(&b->lock);
    free(b->now.data);
    free(b->next.data);
    request_unref(b->request);
    free(b);
}

static void read_job(void *cookie)
{
    struct body *const b = (struct body *)cookie;
    struct request *const r = b->request;
    struct request_io io;
    struct plt_error err = {.status = PLT_OK, .at = PLT_AT_NONE};
    enum plt_status st = PLT_OK;

    /* The window that is not being sent is the job's alone. */
    if (b->next.cap < b->read_len) {
        free(b->next.data);
        b->next.data = malloc(b->read_len);
        b->next.cap = b->next.data ? b->read_len : 0;
        if (!b->next.data)
            st = plt_fail(&err, PLT_NOMEM, "a window");
    }
    request_io_init(&io, r, 0);
    if (st == PLT_OK) {
        const struct plt_seg seg = {b->read_off, b->read_len, b->next.data};
        st = image_read(r->image, &io.io, &seg, 1, &err);
    }
    lock_take(&b->lock);
    b->is_reading = false;
    b->has_failed = st != PLT_OK;
    b->has_next = st == PLT_OK;
    b->next.off = b->read_off;
    b->next.len = b->read_len;
    if (st != PLT_OK && !atomic_load(&r->is_gone))
        r->err = err; /* the log's line says why the answer broke off */
    const bool is_sleeping = b->is_sleeping;
    b->is_sleeping = false;
    if (is_sleeping)
        MHD_resume_connection(r->connection);
    lock_give(&b->lock);
    body_unref(b);
}

/* Read [off, ...) on a worker.  False: none is free. */
static bool start_read_locked(struct body *b, uint64_t off)
{
    b->read_off = off;
    b->read_len = b->end - off < b->step ? (size_t)(b->end - off) : b->step;
    b->step = b->step < WINDOW_MAX ? b->step * 2 : WINDOW_MAX;
    b->refs++;
    b->is_reading = workers_submit(b->request->server->workers, read_job, b);
    b->refs -= !b->is_reading;
    return b->is_reading;
}

static ssize_t take_locked(struct body *b, uint64_t off, char *buf, size_t max)
{
    const size_t at = (size_t)(off - b->now.off);
    const size_t left = b->now.len - at;
    const size_t n = left < max ? left : max;

    memcpy(buf, b->now.data + at, n);
    /* While this window is sent, the next one is read. */
    const uint64_t after = b->now.off + b->now.len;
    if (!b->is_reading && !b->has_next && !b->has_failed && after < b->end)
        (void)start_read_locked(b, after);
    return (ssize_t)n;
}

static bool is_in(const struct window *w, uint64_t off)
{
    return w->len && off >= w->off && off - w->off < w->len;
}

/* From memory, without a worker.  0: it is not there. */
static ssize_t take_now(struct body *b, uint64_t off, char *buf, size_t max)
{
    struct request *const r = b->request;
    struct request_io io;
    struct plt_error err;
    const struct plt_seg seg = {off, max, buf};

    request_io_init(&io, r, PLT_IO_NOWAIT);
    const enum plt_status st = image_read(r->image, &io.io, &seg, 1, &err);
    if (st == PLT_OK)
        return (ssize_t)max;
    if (st == PLT_AGAIN)
        return 0;
    r->err = err;
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* Bytes of the span that is being sent. */
static ssize_t read_span(struct body *b, uint64_t off, char *buf, size_t max)
{
    ssize_t n = 0;

    if (max > b->end - off)
        max = (size_t)(b->end - off);
    lock_take(&b->lock);
    if (!is_in(&b->now, off) && b->has_next && is_in(&b->next, off)) {
        const struct window old = b->now;
        b->now = b->next;
        b->next = old;
        b->has_next = false;
    }
    if (is_in(&b->now, off)) {
        n = take_locked(b, off, buf, max);
    } else if (b->has_failed) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (!b->is_reading) {
        /* Nobody else is here: memory first, then a worker. */
        lock_give(&b->lock);
        n = take_now(b, off, buf, max);
        lock_take(&b->lock);
        if (n == 0 && !start_read_locked(b, off))
            n = MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (n == 0) {
        b->is_sleeping = true;
        MHD_suspend_connection(b->request->connection);
    }
    lock_give(&b->lock);
    if (n > 0)
        (void)atomic_fetch_add(&b->request->sent, (uint64_t)n);
    return n;
}

static ssize_t copy_text(const char *text, size_t len, size_t at, char *buf,
                         size_t max)
{
    const size_t n = len - at < max ? len - at : max;
    memcpy(buf, text + at, n);
    return (ssize_t)n;
}

/* On to the next part: no read of the one before runs any more, since all of
 * its bytes were there. */
static void next_part(struct body *b)
{
    const struct multipart *const m = b->request->multi;

    b->base += b->end - b->start;
    if (++b->part < m->n) {
        const struct part *const p = &m->parts[b->part];
        b->start = p->span.first;
        b->end = p->span.last + 1;
        b->base += p->head_len;
    } else {
        b->start = b->end = 0;
    }
    lock_take(&b->lock);
    b->now.len = b->next.len = 0;
    b->has_next = false;
    b->step = WINDOW_MIN;
    lock_give(&b->lock);
}

static ssize_t body_read(void *cookie, uint64_t pos, char *buf, size_t max)
{
    struct body *const b = (struct body *)cookie;
    const struct multipart *const m = b->request->multi;

    if (!m)
        return read_span(b, b->start + pos, buf, max);
    while (b->part < m->n && pos >= b->base + (b->end - b->start))
        next_part(b);
    if (b->part == m->n) {
        if (pos - b->base >= m->tail_len)
            return MHD_CONTENT_READER_END_OF_STREAM;
        return copy_text(m->tail, m->tail_len, (size_t)(pos - b->base), buf,
                         max);
    }
    const struct part *const p = &m->parts[b->part];
    if (pos < b->base)
        return copy_text(p->head, p->head_len,
                         p->head_len - (size_t)(b->base - pos), buf, max);
    return read_span(b, b->start + (pos - b->base), buf, max);
}

static void body_free(void *cookie)
{
    struct body *const b = (struct body *)cookie;
    atomic_store(&b->request->is_gone, true); /* a job still running gives up */
    body_unref(b);
}

struct MHD_Response *body_response(struct request *r)
{
    struct body *const b = calloc(1, sizeof(*b));

    if (!b)
        return NULL;
    lock_init(&b->lock);
    b->request = r;
    b->refs = 1;
    b->start = r->first;
    b->end = r->last + 1;
    if (r->multi) {
        b->start = r->multi->parts[0].span.first;
        b->end = r->multi->parts[0].span.last + 1;
        b->base = r->multi->parts[0].head_len;
    }
    b->step = WINDOW_MIN;
    b->now = (struct window){.data = r->piece,
                             .cap = r->piece_len,
                             .len = r->piece_len,
                             .off = b->start};
    r->piece = NULL;
    request_ref(r);
    struct MHD_Response *const response = MHD_create_response_from_callback(
        r->multi ? r->multi->len : b->end - b->start, BLOCK, body_read, b,
        body_free);
    if (!response)
        body_unref(b);
    return response;
}
