/* SPDX-License-Identifier: Apache-2.0 */
/* How far a long job is, as server-sent events (WHATWG HTML 9.2): "progress"
 * with bytes_done and bytes_total at most twice a second, then its result under
 * the name of the endpoint, or "error" with a problem document, and the end.
 *
 * Of progress only the newest counts: what the client was too slow to take is
 * replaced.  Nothing is queued, so a slow client costs two texts.
 *
 * Lock: `lock` guards everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"
#include "stack/json_memory.h"
#include "stack/json_text.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/lock.h"

enum { EVERY_MS = 500 };

struct events {
    struct request *request;
    events_job *job;
    struct lock lock;
    unsigned refs;      /* the response, and the job */
    char progress[128]; /* the event being sent ... */
    char *told;         /* ... or a longer one; new */
    size_t len, at;
    char *last; /* the final one; new */
    size_t last_len, last_at;
    uint64_t told_ns;
    bool is_over, is_sleeping;
};

static void events_unref(struct events *e)
{
    lock_take(&e->lock);
    const bool is_last = --e->refs == 0;
    lock_give(&e->lock);
    if (!is_last)
        return;
    lock_release(&e->lock);
    free(e->last);
    free(e->told);
    request_unref(e->request);
    free(e);
}

static void wake_locked(struct events *e) LOCK_HELD(&e->lock);
static void wake_locked(struct events *e)
{
    if (!e->is_sleeping)
        return;
    e->is_sleeping = false;
    atomic_store(&e->request->is_suspended, false);
    MHD_resume_connection(e->request->connection);
}

static void on_progress(void *cookie, uint64_t done, uint64_t all)
{
    struct events *const e = (struct events *)cookie;
    const uint64_t now = clock_now();

    if (now - e->told_ns < EVERY_MS * NS_PER_MS)
        return;
    e->told_ns = now;
    lock_take(&e->lock);
    if (e->at == 0 || e->at == e->len) {
        e->at = 0;
        e->len = (size_t)snprintf(
            e->progress, sizeof(e->progress),
            "event: progress\n"
            "data: {\"bytes_done\":%llu,\"bytes_total\":%llu}\n\n",
            (unsigned long long)done, (unsigned long long)all);
        wake_locked(e);
    }
    lock_give(&e->lock);
}

/* "event: NAME\ndata: JSON\n\n"; new, NULL without memory. */
static char *event_text(const char *name, json_t *doc)
{
    const uint64_t lost = json_memory_lost();
    AUTO_JSON_TEXT char *data = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    const size_t cap = data ? strlen(data) + 64 : 0;
    char *const text = data && json_memory_lost() == lost ? malloc(cap) : NULL;

    if (text)
        (void)snprintf(text, cap, "event: %s\ndata: %s\n\n", name, data);
    return text;
}

static char *final_event(struct request *r, enum plt_status st)
{
    const uint64_t lost = json_memory_lost();
    json_t *const doc =
        st == PLT_OK ? json_incref(r->json) : answer_document(r, &r->err);
    char *const text =
        json_memory_lost() == lost
            ? event_text(st == PLT_OK ? r->route->label : "error", doc)
            : NULL;
    json_decref(doc);
    return text;
}

void events_tell(void *cookie, const char *name, json_t *value)
{
    struct events *const e = (struct events *)cookie;
    char *text = event_text(name, value);

    lock_take(&e->lock);
    if (text && (e->at == 0 || e->at == e->len)) {
        free(e->told);
        e->told = STEAL(text);
        e->at = 0;
        e->len = strlen(e->told);
        wake_locked(e);
    }
    lock_give(&e->lock);
    free(text);
}

struct request *events_request(struct events *e)
{
    return e->request;
}

bool events_is_over(struct events *e)
{
    return atomic_load(&e->request->is_gone);
}

void events_keep(struct events *e)
{
    lock_take(&e->lock);
    if (e->at == e->len) {
        free(e->told);
        e->told = NULL;
        (void)snprintf(e->progress, sizeof(e->progress), ":\n\n");
        e->at = 0;
        e->len = strlen(e->progress);
        wake_locked(e);
    }
    lock_give(&e->lock);
}

void events_end(struct events *e, enum plt_status st)
{
    struct request *const r = e->request;

    budgets_leave(r->server->budgets, COUNT_WAITING, r->share);
    char *const last = final_event(r, st);
    lock_take(&e->lock);
    e->last = last;
    e->last_len = last ? strlen(last) : 0;
    e->is_over = true;
    wake_locked(e);
    lock_give(&e->lock);
    events_unref(e);
}

static void run(void *cookie)
{
    struct events *const e = (struct events *)cookie;
    struct request_io io;

    request_io_init(&io, e->request, 0);
    events_end(e, e->job(e->request, &io.io, on_progress, e));
}

static size_t take(char *buf, size_t max, const char *text, size_t len,
                   size_t *at)
{
    const size_t n = len - *at < max ? len - *at : max;

    if (n)
        memcpy(buf, text + *at, n);
    *at += n;
    return n;
}

static ssize_t on_read(void *cookie, uint64_t pos, char *buf, size_t max)
{
    struct events *const e = (struct events *)cookie;
    ssize_t n;

    (void)pos;
    lock_take(&e->lock);
    n = (ssize_t)take(buf, max, e->told ? e->told : e->progress, e->len,
                      &e->at);
    if (n == 0 && e->is_over)
        n = (ssize_t)take(buf, max, e->last, e->last_len, &e->last_at);
    if (n == 0 && e->is_over) {
        n = e->last ? MHD_CONTENT_READER_END_OF_STREAM
                    : MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (n == 0) {
        e->is_sleeping = true;
        atomic_store(&e->request->is_suspended, true);
        MHD_suspend_connection(e->request->connection);
    }
    lock_give(&e->lock);
    return n;
}

static void on_free(void *cookie)
{
    struct events *const e = (struct events *)cookie;
    atomic_store(&e->request->is_gone, true); /* a job still running gives up */
    events_unref(e);
}

static enum MHD_Result refuse(struct request *r, enum budget over,
                              const char *why)
{
    r->over = over;
    r->err.status = plt_fail(&r->err, PLT_BUSY, "%s", why);
    return answer_error(r, &r->err);
}

/* A stream with two references, of its response and of who tells. */
static struct events *begin(struct request *r, struct MHD_Response **response)
{
    struct events *const e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    lock_init(&e->lock);
    e->request = r;
    e->refs = 2;
    request_ref(r);
    *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, sizeof(e->progress) * 8, on_read, e, on_free);
    if (*response)
        return e;
    events_unref(e);
    events_unref(e);
    return NULL;
}

static bool submit(struct request *r, struct events *e)
{
    return request_work(r, run, e, false);
}

static enum MHD_Result answer(struct request *r, events_job *job,
                              events_give *give)
{
    struct budgets *const budgets = r->server->budgets;
    struct MHD_Response *response;

    /* The place it had ended with the opening of the image; the job, which may
     * take minutes, has its own: of its client, not among the image's readers.
     */
    if (!budgets_enter(budgets, COUNT_WAITING, r->share,
                       r->server->config->max_waiting_per_client))
        return refuse(r, BUDGET_WAITING_PER_CLIENT,
                      "too many of this client wait");
    struct events *const e = begin(r, &response);
    if (!e) {
        budgets_leave(budgets, COUNT_WAITING, r->share);
        return answer_queue(r, MHD_HTTP_OK, NULL);
    }
    e->job = job;
    if (!give(r, e)) {
        budgets_leave(budgets, COUNT_WAITING, r->share);
        events_unref(e);
        MHD_destroy_response(response);
        atomic_store(&r->is_gone, false);
        return refuse(r, BUDGET_WORKERS, "no worker is free");
    }
    answer_header(r, response, "Content-Type", "text/event-stream");
    answer_header(r, response, "Cache-Control", "no-store");
    return answer_queue(r, MHD_HTTP_OK, response);
}

enum MHD_Result answer_events(struct request *r, events_job *job)
{
    return answer(r, job, submit);
}

enum MHD_Result answer_events_of(struct request *r, events_give *give)
{
    return answer(r, NULL, give);
}
