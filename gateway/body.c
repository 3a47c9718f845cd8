/* SPDX-License-Identifier: Apache-2.0 */
/* The content of a long answer: pulled by libmicrohttpd, 64 KiB at a time.
 *
 * What is in memory is copied straight into its buffer.  What is not is read by
 * workers into windows that grow while the client keeps up (256 KiB to 1 MiB),
 * two of them behind the one that is being sent, so that two cores decode; the
 * connection sleeps meanwhile.  A read that fails ends the connection: an
 * answer is never padded, and never ends quietly.
 *
 *     [ sent | sending | ready ] [ being read ] [ being read ]
 *              windows, a ring, in the order of the content
 *
 * Windows are held for the client (budgets.h).  While that memory is short they
 * stay small, and who takes nothing gives back what is ready, to be read again;
 * while there is none, one of PIECE_SMALL at a time is read, for each answer
 * that has begun goes on.
 *
 * Several ranges are sent one after another: each is a span with windows of its
 * own, behind the head of its part.
 *
 * Lock: `lock` guards all but start, end, base and part, which the event thread
 * owns, and the data of a window, which its reader does. */
#include <stdlib.h>
#include <string.h>

#include "request.h"
#include "util/clock.h"
#include "util/lock.h"

enum {
    BLOCK = 64 * 1024, /* larger ones were measured slower */
    WINDOW_MIN = 256 * 1024,
    WINDOW_MAX = 1024 * 1024,
    WINDOWS = 3,
    STALLED_MS = 1000 /* nothing was taken for so long */
};

enum window_state { WINDOW_FREE, WINDOW_READING, WINDOW_READY, WINDOW_FAILED };

struct window {
    struct body *body;
    enum window_state state;
    uint8_t *data;
    size_t cap, len;
    size_t held; /* of budgets_memory_take */
    uint64_t off;
};

struct body {
    struct watched_memory watched; /* first */
    struct request *request;
    struct lock lock;
    unsigned refs;       /* the response, and running jobs */
    uint64_t start, end; /* of the span on the disk; end is exclusive */
    uint64_t base;       /* where in the content the span's bytes begin */
    size_t part;         /* of several: which one the span is */
    struct window windows[WINDOWS];
    unsigned head; /* the window that is sent, or the next to be read */
    bool is_sleeping;
    size_t step;       /* of the next window */
    uint64_t moved_ns; /* when the client last took something */
};

static struct budgets *budgets_of(const struct body *b)
{
    return b->request->server->budgets;
}

/* Of a window that nobody reads into. */
static void release(struct window *w)
{
    if (w->held)
        budgets_memory_give(budgets_of(w->body), w->body->request->share,
                            w->held);
    free(w->data);
    w->data = NULL;
    w->cap = w->held = 0;
}

static void body_unref(struct body *b)
{
    lock_take(&b->lock);
    const bool is_last = --b->refs == 0;
    lock_give(&b->lock);
    if (!is_last)
        return;
    lock_release(&b->lock);
    for (unsigned i = 0; i < WINDOWS; i++)
        release(&b->windows[i]);
    request_unref(b->request);
    free(b);
}

static void read_job(void *cookie)
{
    struct window *const w = (struct window *)cookie;
    struct body *const b = w->body;
    struct request *const r = b->request;
    struct request_io io;
    struct plt_error err = {.status = PLT_OK, .at = PLT_AT_NONE};
    enum plt_status st = PLT_OK;

    if (w->cap < w->len) {
        free(w->data);
        w->data = malloc(w->len);
        w->cap = w->data ? w->len : 0;
        if (!w->data)
            st = plt_fail(&err, PLT_NOMEM, "a window");
    }
    request_io_init(&io, r, 0);
    if (st == PLT_OK) {
        const struct plt_seg seg = {w->off, w->len, w->data};
        st = request_read(r, &io.io, &seg, 1, &err);
        /* An answer that has begun is worth waiting for memory. */
        while ((st == PLT_NOMEM || st == PLT_BUSY) &&
               clock_now() < io.io.deadline_ns && !io.io.cancelled(&io.io)) {
            (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
            st = request_read(r, &io.io, &seg, 1, &err);
        }
    }
    lock_take(&b->lock);
    w->state = st == PLT_OK ? WINDOW_READY : WINDOW_FAILED;
    if (st != PLT_OK && !atomic_load(&r->is_gone))
        r->err = err; /* the log's line says why the answer broke off */
    /* Only what the client waits for is worth waking it. */
    const bool is_awaited = b->is_sleeping && w == &b->windows[b->head];
    if (is_awaited) {
        b->is_sleeping = false;
        MHD_resume_connection(r->connection);
    }
    lock_give(&b->lock);
    body_unref(b);
}

/* How much may be read into a window, up to the next step; 0: nothing, since
 * others of this answer are on their way. */
static size_t room_locked(struct body *b, struct window *w, bool is_only)
    LOCK_HELD(&b->lock);
static size_t room_locked(struct body *b, struct window *w, bool is_only)
{
    const size_t step = b->step;
    const size_t more = step > w->held ? step - w->held : 0;

    if (budgets_memory_is_tight(budgets_of(b)))
        b->step = WINDOW_MIN;
    else if (step < WINDOW_MAX)
        b->step = step * 2;
    if (!more)
        return step;
    if (budgets_memory_take(budgets_of(b), b->request->share, more)) {
        w->held += more;
        return step;
    }
    return w->held ? w->held : is_only ? (size_t)PIECE_SMALL : 0;
}

/* Behind what is being read or ready, up to the end.  False: not even one. */
static bool read_ahead_locked(struct body *b, uint64_t off) LOCK_HELD(&b->lock);
static bool read_ahead_locked(struct body *b, uint64_t off)
{
    bool is_any = false;

    for (unsigned i = 0; i < WINDOWS && off < b->end; i++) {
        struct window *const w = &b->windows[(b->head + i) % WINDOWS];
        if (w->state != WINDOW_FREE) {
            off = w->off + w->len;
            is_any = true;
            continue;
        }
        const size_t room = room_locked(b, w, !is_any);
        if (!room)
            break;
        w->off = off;
        w->len = b->end - off < room ? (size_t)(b->end - off) : room;
        w->state = WINDOW_READING;
        b->refs++;
        if (!request_work(b->request, read_job, w, true)) {
            w->state = WINDOW_FREE;
            b->refs--;
            break;
        }
        off += w->len;
        is_any = true;
    }
    return is_any;
}

static ssize_t take_locked(struct body *b, struct window *w, uint64_t off,
                           char *buf, size_t max) LOCK_HELD(&b->lock);
static ssize_t take_locked(struct body *b, struct window *w, uint64_t off,
                           char *buf, size_t max)
{
    const size_t at = (size_t)(off - w->off);
    const size_t left = w->len - at;
    const size_t n = left < max ? left : max;

    memcpy(buf, w->data + at, n);
    if (n == left) {
        w->state = WINDOW_FREE;
        if (!w->held || budgets_memory_is_tight(budgets_of(b)))
            release(w);
        b->head = (b->head + 1) % WINDOWS;
    }
    /* While this is sent, the next ones are read. */
    (void)read_ahead_locked(b, off + n);
    return (ssize_t)n;
}

/* From memory, without a worker.  0: it is not there. */
static ssize_t take_now(struct body *b, uint64_t off, char *buf, size_t max)
{
    struct request *const r = b->request;
    struct request_io io;
    struct plt_error err;
    const struct plt_seg seg = {off, max, buf};

    request_io_init(&io, r, PLT_IO_NOWAIT);
    const enum plt_status st = request_read(r, &io.io, &seg, 1, &err);
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
    b->moved_ns = clock_now();
    struct window *const w = &b->windows[b->head];
    if (w->state == WINDOW_READY) {
        n = take_locked(b, w, off, buf, max);
    } else if (w->state == WINDOW_FAILED) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (w->state == WINDOW_FREE) {
        /* No window is in use: memory first, then workers. */
        lock_give(&b->lock);
        n = take_now(b, off, buf, max);
        lock_take(&b->lock);
        if (n == 0 && !read_ahead_locked(b, off))
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

/* On to the next part: all windows of the one before have been sent. */
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

/* What is ready for a client that takes nothing is dropped. */
static void trim(struct watched_memory *memory, uint64_t now)
{
    struct body *const b = (struct body *)memory;
    bool is_at_rest = true;

    lock_take(&b->lock);
    for (unsigned i = 0; i < WINDOWS; i++)
        is_at_rest = is_at_rest && (b->windows[i].state == WINDOW_READY ||
                                    b->windows[i].state == WINDOW_FREE);
    if (is_at_rest && now > b->moved_ns + STALLED_MS * NS_PER_MS) {
        for (unsigned i = 0; i < WINDOWS; i++) {
            release(&b->windows[i]);
            b->windows[i].state = WINDOW_FREE;
        }
        b->step = WINDOW_MIN;
    }
    lock_give(&b->lock);
}

static void body_free(void *cookie)
{
    struct body *const b = (struct body *)cookie;
    watch_memory_remove(b->request->server->watch, &b->watched);
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
    for (unsigned i = 0; i < WINDOWS; i++)
        b->windows[i].body = b;
    /* What was read before the status line is the first window. */
    b->windows[0].data = r->piece;
    b->windows[0].cap = b->windows[0].len = r->piece_len;
    b->windows[0].held = r->held;
    b->windows[0].off = b->start;
    b->windows[0].state = r->piece_len ? WINDOW_READY : WINDOW_FREE;
    b->moved_ns = clock_now();
    b->watched.trim = trim;
    r->piece = NULL;
    r->held = 0; /* nothing but the piece: a GET keeps no body */
    request_ref(r);
    watch_memory_add(r->server->watch, &b->watched);
    struct MHD_Response *const response = MHD_create_response_from_callback(
        r->multi ? r->multi->len : b->end - b->start, BLOCK, body_read, b,
        body_free);
    /* libmicrohttpd takes a client for idle whose socket has no room for more,
     * which with some MB on their way may last minutes at 10 KB/s. */
    r->is_untimed =
        response && r->peer && r->peer->watched.is_tcp &&
        MHD_set_connection_option(r->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                  0U) == MHD_YES;
    if (!response) {
        watch_memory_remove(r->server->watch, &b->watched);
        body_unref(b);
    }
    return response;
}
