/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that fetch.  Each takes the mirror that has work and the highest
 * priority, does one bounded piece of it, and looks again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/log.h"

enum { IDLE_MS = 1000, BUSY_MS = 2000 };

enum task { TASK_NONE, TASK_LOOK, TASK_CHECK, TASK_FETCH };

struct work {
    enum task task;
    struct version *v; /* counted, or NULL */
    bool is_doubted;   /* its source failed last */
};

void mirror_failed(struct mirror *m, const struct plt_error *err)
{
    char error[sizeof(m->error)];
    struct log_line l;

    if (err->status == PLT_CANCELLED)
        return;
    (void)snprintf(error, sizeof(error), "%s%s%s", err->layer,
                   err->layer[0] ? ": " : "", err->text);
    lock_take(&m->lock);
    const bool is_new = strcmp(m->error, error) != 0;
    memcpy(m->error, error, sizeof(error));
    m->error_status = err->status;
    /* The version that was being fetched is not there any more. */
    m->must_look = m->must_look || err->status == PLT_CHANGED;
    uint64_t ms = MIRROR_RETRY_MIN_MS;
    for (unsigned i = 0; i < m->failures && ms < MIRROR_RETRY_MAX_MS; i++)
        ms *= 2;
    m->failures++;
    if (err->status == PLT_BUSY && ms > BUSY_MS)
        ms = BUSY_MS;
    if (err->sys == ENOSPC)
        atomic_store(&m->mirrors->must_sweep, true);
    m->due_ns =
        clock_after_ms(ms < MIRROR_RETRY_MAX_MS ? ms : MIRROR_RETRY_MAX_MS);
    /* What waiting does not mend. */
    m->is_failed = err->status == PLT_DENIED || err->status == PLT_INVALID ||
                   err->status == PLT_NOT_FOUND || err->status == PLT_IO ||
                   err->status == PLT_NOMEM || err->status == PLT_CORRUPT;
    if (m->is_failed)
        m->due_ns = clock_after_ms(MIRROR_RETRY_MAX_MS);
    /* A busy one is no failure: its manifest is being made, or it is full. */
    if (err->status != PLT_BUSY)
        history_note(m, m->is_failed ? HISTORY_FAILED : HISTORY_WAITING, NULL,
                     1, error);
    cond_wake_all(&m->moved);
    lock_give(&m->lock);
    mirror_changed(m);
    if (!is_new)
        return;
    log_begin(&l, LOG_WARN, "mirror_failed");
    log_text(&l, "mirror", m->entry.name);
    log_text(&l, "status", plt_status_name(err->status));
    log_text(&l, "layer", err->layer);
    log_text(&l, "text", err->text);
    log_end(&l);
}

static int minute_of_day(void)
{
    const time_t now = time(NULL);
    struct tm tm;
    return gmtime_r(&now, &tm) ? tm.tm_hour * 60 + tm.tm_min : 0;
}

/* A slow or dead source holds a mover for as long as it likes to be waited for:
 * some are kept for other mirrors. */
static bool may_take(const struct mirror *m)
{
    struct mirrors *const all = m->mirrors;

    if (atomic_load(&m->failures) &&
        atomic_load(&all->n_doubted) >= MOVERS_DOUBTED)
        return false;
    return !atomic_load(&m->n_movers) ||
           atomic_load(&all->n_busy) < MOVERS - MOVERS_KEPT;
}

static enum task task_locked(struct mirror *m, struct version *todo,
                             uint64_t now, int minute) LOCK_HELD(m->lock)
{
    const bool is_due = now >= m->due_ns && !m->is_removed;
    const bool is_looked_at =
        todo && !todo->is_passing && !m->must_look && now < m->look_ns;

    /* A paused one is looked at once, so that its disk can be read. */
    if (is_due && !is_looked_at)
        return !m->is_looking && (!m->is_paused || !m->current) ? TASK_LOOK
                                                                : TASK_NONE;
    if (!is_due || todo->is_passing)
        return TASK_NONE;
    lock_take(&todo->lock);
    const bool is_checked = todo->is_checked;
    lock_give(&todo->lock);
    if (!is_checked)
        return m->n_movers ? TASK_NONE : TASK_CHECK;
    /* One is enough to use up what a limit gives. */
    const unsigned most =
        todo->is_direct || mirror_is_asked(m) || m->allowance_ns > now
            ? 1
            : MOVERS_OF_ONE;
    return !m->is_paused && !atomic_load(&todo->is_complete) &&
                   m->n_movers < most &&
                   entry_is_scheduled(&m->entry, minute) &&
                   now >= m->idle_until_ns && now >= m->paced_ns
               ? TASK_FETCH
               : TASK_NONE;
}

/* Take what is to be done for m now; false: nothing.  The caller owes leave().
 */
static bool take(struct mirror *m, uint64_t now, int minute, struct work *work)
{
    struct mirrors *const all = m->mirrors;

    lock_take(&m->lock);
    struct version *const todo = m->coming ? m->coming : m->current;
    *work = (struct work){.is_doubted = atomic_load(&m->failures) > 0};
    if (may_take(m))
        work->task = task_locked(m, todo, now, minute);
    if (work->task == TASK_LOOK) {
        m->is_looking = true;
    } else if (work->task != TASK_NONE) {
        m->n_movers++;
        work->v = todo;
        version_ref(todo);
    }
    if (work->task != TASK_NONE) {
        (void)atomic_fetch_add(&all->n_busy, 1);
        (void)atomic_fetch_add(&all->n_doubted, work->is_doubted);
        atomic_store(&m->taken_ns, now);
    }
    lock_give(&m->lock);
    return work->task != TASK_NONE;
}

static void leave(struct mirror *m, struct work *work)
{
    struct mirrors *const all = m->mirrors;

    lock_take(&m->lock);
    m->n_movers -= work->task != TASK_LOOK;
    lock_give(&m->lock);
    (void)atomic_fetch_sub(&all->n_busy, 1);
    (void)atomic_fetch_sub(&all->n_doubted, work->is_doubted);
    version_unref(work->v);
}

/* All is here: it takes the place of the one before. */
static enum plt_status switch_to(struct mirror *m, struct version *v,
                                 struct plt_error *err)
{
    struct version *old = NULL;
    struct log_line l;

    lock_take(&m->lock);
    const bool is_coming = m->coming == v;
    if (!is_coming && m->current != v) { /* there is a newer one by now */
        lock_give(&m->lock);
        return PLT_OK;
    }
    if (is_coming) {
        old = m->current;
        m->current = v;
        m->coming = NULL;
    }
    mirror_time(m->completed);
    history_note(m, HISTORY_COMPLETE, v, 1, NULL);
    cond_wake_all(&m->moved);
    lock_give(&m->lock);
    if (is_coming)
        images_forget(m->mirrors->images, m->entry.name);
    log_begin(&l, LOG_INFO, "mirror_complete");
    log_text(&l, "mirror", m->entry.name);
    log_number(&l, "fetched", atomic_load(&v->counts.fetched));
    log_number(&l, "reused", atomic_load(&v->counts.reused));
    log_end(&l);
    const enum plt_status st = mirrors_save(m->mirrors, err);
    version_unref(old);
    return st;
}

/* The last group is here.  One thread does this: the others find nothing to
 * take. */
static enum plt_status finish(struct mirror *m, struct version *v,
                              struct plt_error *err)
{
    lock_take(&v->lock);
    const bool is_ours = !v->is_finishing && !atomic_load(&v->is_complete);
    v->is_finishing = v->is_finishing || is_ours;
    lock_give(&v->lock);
    if (!is_ours)
        return PLT_OK;
    enum plt_status st = version_finish(v, err);
    if (st == PLT_OK)
        st = switch_to(m, v, err);
    if (st != PLT_OK) /* it is complete when mirrors.json says so, too */
        atomic_store(&v->is_complete, false);
    lock_take(&v->lock);
    v->is_finishing = false;
    lock_give(&v->lock);
    if (st == PLT_NOT_FOUND) { /* something of it was lost meanwhile */
        version_recheck(v);
        st = PLT_OK;
    }
    return st;
}

static void fetch(struct mirror *m, struct version *v)
{
    struct plt_error err;
    bool is_idle = false;
    enum plt_status st = v->is_direct ? mirror_direct(v, &err)
                                      : mirror_window(v, &is_idle, &err);

    if (st == PLT_OK && version_is_whole(v)) {
        st = finish(m, v, &err);
        mirror_changed(m); /* it is complete only now */
    } else if (st == PLT_OK && is_idle) {
        /* The others have the rest. */
        lock_take(&m->lock);
        m->idle_until_ns = clock_after_ms(20);
        lock_give(&m->lock);
    }
    if (st != PLT_OK) {
        mirror_failed(m, &err);
        return;
    }
    lock_take(&m->lock);
    m->failures = 0;
    m->is_failed = false;
    m->error[0] = '\0';
    lock_give(&m->lock);
}

static void check(struct mirror *m, struct version *v)
{
    version_check(v);
    if (atomic_load(&m->mirrors->is_stopping))
        return;
    /* One that is coming has still to take the name: it is complete then. */
    lock_take(&m->lock);
    const bool is_current = m->current == v;
    lock_give(&m->lock);
    if (!is_current || !version_is_whole(v))
        atomic_store(&v->is_complete, false);
    else if (manifest_file_is_complete(v->file))
        atomic_store(&v->is_complete, true);
    mirror_changed(m);
}

struct candidate {
    struct mirror *m; /* counted */
    int priority;
    bool is_ill;
    unsigned n_movers;
    uint64_t taken_ns;
};

/* By priority; of equals one whose source is well, that fewer work for, that
 * was served longest ago. */
static int by_urgency(const void *x, const void *y)
{
    const struct candidate *const a = (const struct candidate *)x;
    const struct candidate *const b = (const struct candidate *)y;

    if (a->priority != b->priority)
        return a->priority > b->priority ? -1 : 1;
    if (a->is_ill != b->is_ill)
        return a->is_ill ? 1 : -1;
    if (a->n_movers != b->n_movers)
        return a->n_movers < b->n_movers ? -1 : 1;
    return (a->taken_ns > b->taken_ns) - (a->taken_ns < b->taken_ns);
}

/* The mirror with the most urgent work, or NULL.  new reference. */
static struct mirror *choose(struct mirrors *all, struct work *work)
{
    const uint64_t now = clock_now();
    const int minute = minute_of_day();
    struct mirror *best = NULL;
    size_t n;

    struct mirror **const list = mirrors_all(all, &n);
    struct candidate *const c = calloc(n + 1, sizeof(*c));
    /* As they are now: others change them meanwhile. */
    for (size_t i = 0; c && i < n; i++)
        c[i] = (struct candidate){list[i], atomic_load(&list[i]->priority),
                                  atomic_load(&list[i]->failures) > 0,
                                  atomic_load(&list[i]->n_movers),
                                  atomic_load(&list[i]->taken_ns)};
    if (c && n)
        qsort(c, n, sizeof(*c), by_urgency);
    for (size_t i = 0; c && i < n && !best; i++) {
        if (take(c[i].m, now, minute, work))
            best = c[i].m;
    }
    for (size_t i = 0; i < n; i++) {
        if (list[i] != best)
            mirror_unref(list[i]);
    }
    free(c);
    free(list);
    return best;
}

void *mover_run(void *arg)
{
    struct mirrors *const all = (struct mirrors *)arg;

    while (!atomic_load(&all->is_stopping)) {
        struct work work = {.v = NULL};
        lock_take(&all->lock);
        const uint64_t seen = all->wakes;
        lock_give(&all->lock);
        struct mirror *const m = choose(all, &work);
        if (!m) {
            lock_take(&all->lock);
            if (all->wakes == seen && !atomic_load(&all->is_stopping))
                (void)cond_wait(&all->work, &all->lock,
                                clock_after_ms(IDLE_MS));
            lock_give(&all->lock);
            continue;
        }
        if (work.task == TASK_LOOK)
            mirror_look(m);
        else if (work.task == TASK_CHECK)
            check(m, work.v);
        else
            fetch(m, work.v);
        leave(m, &work);
        mirror_unref(m);
    }
    return NULL;
}
