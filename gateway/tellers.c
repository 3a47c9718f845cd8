/* SPDX-License-Identifier: Apache-2.0 */
/* Events of mirrors: who listens may do so for hours, so that no listener has a
 * worker of its own.  One thread looks at the mirrors' counts of changes, four
 * times a second while anybody listens, and tells those for whom something is
 * new.
 *
 * Lock: `lock` guards the list and the thread's beginning and end.  It is not
 * held while anybody is told. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror.h"
#include "route.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/lock.h"

enum { TELL_MS = 250, KEEP_MS = 15000, NAME = 64 };

struct listener {
    struct listener *next;
    struct events *events; /* a reference */
    char name[NAME];
    uint64_t seen;    /* the count of changes that was told */
    uint64_t told_ns; /* when anything was sent last */
};

struct teller {
    struct server *server;
    struct lock lock;
    struct cond work;           /* a listener came, or the end */
    struct listener *listeners; /* new ones; the thread has the others */
    bool has_thread, is_stopping;
    pthread_t thread;
};

/* Ends the stream: what is last comes from the request. */
static void end(struct listener *l, enum plt_status st)
{
    events_end(l->events, st);
    free(l);
}

static bool is_final(json_t *row)
{
    const char *const state = json_string_value(json_object_get(row, "state"));

    return state &&
           (strcmp(state, "complete") == 0 || strcmp(state, "failed") == 0);
}

/* False: it was its last event, and the listener is gone. */
static bool tell(struct teller *t, struct listener *l, bool is_stopping)
{
    struct mirrors *const mirrors = t->server->mirrors;
    struct request *const r = events_request(l->events);
    const uint64_t now = clock_now();
    json_t *row = NULL;
    enum plt_status st = PLT_OK;

    if (events_is_over(l->events) || is_stopping) {
        end(l, plt_fail(&r->err, PLT_BUSY, "the gateway ends"));
        return false;
    }
    /* Read before the row: what changes in between is told the next time. */
    const uint64_t count = mirrors_change_count(mirrors, l->name);
    if (count && count == l->seen) {
        if (now - l->told_ns > KEEP_MS * NS_PER_MS) {
            l->told_ns = now;
            events_keep(l->events);
        }
        return true;
    }
    st = mirrors_json(mirrors, l->name, &row, &r->err);
    if (st != PLT_OK || is_final(row)) {
        r->json = row;
        end(l, st);
        return false;
    }
    l->seen = count;
    l->told_ns = now;
    events_tell(l->events, "progress", row);
    json_decref(row);
    return true;
}

static bool wait_for_work(struct teller *t, struct listener **mine)
{
    lock_take(&t->lock);
    if (!*mine) {
        while (!t->listeners && !t->is_stopping)
            (void)cond_wait(&t->work, &t->lock, CLOCK_NEVER);
    } else if (!t->listeners && !t->is_stopping) {
        (void)cond_wait(&t->work, &t->lock, clock_after_ms(TELL_MS));
    }
    while (t->listeners) {
        struct listener *const l = t->listeners;
        t->listeners = l->next;
        l->next = *mine;
        *mine = l;
    }
    const bool is_stopping = t->is_stopping;
    lock_give(&t->lock);
    return is_stopping || atomic_load(&t->server->is_draining);
}

static void *run(void *cookie)
{
    struct teller *const t = (struct teller *)cookie;
    struct listener *mine = NULL;
    bool is_stopping;

    do {
        is_stopping = wait_for_work(t, &mine);
        for (struct listener **at = &mine; *at;) {
            struct listener *const l = *at, *const next = l->next;
            if (tell(t, l, is_stopping))
                at = &l->next;
            else
                *at = next;
        }
        lock_take(&t->lock);
        is_stopping = t->is_stopping && !t->listeners;
        lock_give(&t->lock);
    } while (!is_stopping || mine);
    return NULL;
}

struct teller *teller_new(struct server *server)
{
    struct teller *const t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->server = server;
    lock_init(&t->lock);
    cond_init(&t->work);
    return t;
}

void teller_stop(struct teller *t)
{
    if (!t)
        return;
    lock_take(&t->lock);
    t->is_stopping = true;
    const bool has_thread = t->has_thread;
    cond_wake_all(&t->work);
    lock_give(&t->lock);
    if (has_thread)
        ASSERT(pthread_join(t->thread, NULL) == 0);
    t->has_thread = false;
}

void teller_free(struct teller *t)
{
    if (!t)
        return;
    cond_release(&t->work);
    lock_release(&t->lock);
    free(t);
}

static bool give(struct request *r, struct events *events)
{
    struct teller *const t = r->server->teller;
    struct listener *const l = calloc(1, sizeof(*l));
    const char *const name = r->path + strlen(r->route->path);

    if (!l)
        return false;
    l->events = events;
    const size_t len = strcspn(name, "/");
    ASSERT(len < NAME);
    memcpy(l->name, name, len);
    lock_take(&t->lock);
    if (!t->has_thread && !t->is_stopping)
        t->has_thread = pthread_create(&t->thread, NULL, run, t) == 0;
    const bool is_good = t->has_thread && !t->is_stopping;
    if (is_good) {
        l->next = t->listeners;
        t->listeners = l;
        cond_wake_all(&t->work);
    }
    lock_give(&t->lock);
    if (!is_good)
        free(l);
    return is_good;
}

enum MHD_Result teller_answer(struct request *r)
{
    return answer_events_of(r, give);
}
