/* SPDX-License-Identifier: Apache-2.0 */
/* The set of mirrors: its making and end, and what is asked of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mirror/mirror_inside.h"
#include "mirror/mirror_output.h"
#include "mirror/mirror_state.h"
#include "stack/provided.h"
#include "util/auto.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/log.h"

/* ---- One mirror ---- */

void mirror_ref(struct mirror *m)
{
    (void)atomic_fetch_add(&m->refs, 1);
}

void mirror_unref(struct mirror *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) > 1)
        return;
    ASSERT(!m->current && !m->coming);
    entry_release(&m->entry);
    history_release(&m->history);
    cond_release(&m->moved);
    lock_release(&m->lock);
    free(m);
}

void mirror_changed(struct mirror *m)
{
    (void)atomic_fetch_add(&m->changes, 1);
}

struct mirror *mirror_new(struct mirrors *all, struct mirror_entry *entry)
{
    struct mirror *const m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->refs = 1;
    m->mirrors = all;
    m->entry = *entry;
    *entry = (struct mirror_entry){.source = NULL};
    m->changes = 1;
    m->look_ns = UINT64_MAX;
    m->must_look = true;
    atomic_store(&m->priority, m->entry.priority);
    lock_init(&m->lock);
    cond_init(&m->moved);
    mirror_time(m->since);
    return m;
}

/* Its versions go; readers keep theirs. */
static void end(struct mirror *m)
{
    lock_take(&m->lock);
    struct version *const current = STEAL(m->current);
    struct version *const coming = STEAL(m->coming);
    m->is_removed = true;
    atomic_store(&m->is_gone, true);
    atomic_store(&m->is_halted, true);
    cond_wake_all(&m->moved);
    lock_give(&m->lock);
    /* The output may be another mirror's soon. */
    if (current && current->out)
        out_retire(current->out, true);
    if (coming && coming->out)
        out_retire(coming->out, true);
    version_unref(current);
    version_unref(coming);
}

/* ---- The list ---- */

static int compare(const void *key, const void *row)
{
    struct mirror *const *const m = (struct mirror *const *)row;
    return strcmp((const char *)key, (*m)->entry.name);
}

static struct mirror **place(struct mirrors *all, const char *name)
{
    return all->n ? bsearch(name, all->list, all->n, sizeof(struct mirror *),
                            compare)
                  : NULL;
}

struct mirror *mirrors_find(struct mirrors *all, const char *name)
{
    lock_take(&all->lock);
    struct mirror **const at = place(all, name);
    struct mirror *const m = at ? *at : NULL;
    if (m)
        mirror_ref(m);
    lock_give(&all->lock);
    return m;
}

bool mirrors_has(struct mirrors *all, const char *name)
{
    lock_take(&all->lock);
    const bool has = place(all, name) != NULL;
    lock_give(&all->lock);
    return has;
}

struct mirror **mirrors_all(struct mirrors *all, size_t *n)
{
    lock_take(&all->lock);
    struct mirror **const list = calloc(all->n + 1, sizeof(struct mirror *));
    *n = list ? all->n : 0;
    for (size_t i = 0; i < *n; i++) {
        list[i] = all->list[i];
        mirror_ref(list[i]);
    }
    lock_give(&all->lock);
    return list;
}

/* A file is written as NAME.part first. */
static bool is_same_output(const char *a, const char *b)
{
    const size_t n = strlen(a) < strlen(b) ? strlen(a) : strlen(b);
    const char *const rest = strlen(a) < strlen(b) ? b + n : a + n;

    return strncmp(a, b, n) == 0 && (!*rest || strcmp(rest, ".part") == 0);
}

static const struct mirror *who_writes(const struct mirrors *all,
                                       const char *output)
{
    for (size_t i = 0; i < all->n; i++) {
        const char *const other = all->list[i]->entry.output;
        if (output && other && is_same_output(output, other))
            return all->list[i];
    }
    return NULL;
}

enum plt_status mirrors_list(struct mirrors *all, struct mirror *m,
                             struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    lock_take(&all->lock);
    const struct mirror *const other = who_writes(all, m->entry.output);
    if (place(all, m->entry.name)) {
        st =
            plt_fail(err, PLT_EXISTS, "there is a mirror %.64s", m->entry.name);
    } else if (other) {
        st = plt_fail(err, PLT_EXISTS, "the mirror %.64s has this output",
                      other->entry.name);
    } else if (all->n == MIRRORS_MAX) {
        st = plt_fail(err, PLT_BUSY, "there are %d mirrors", MIRRORS_MAX);
    } else if (all->n == all->cap) {
        const size_t cap = 2 * all->cap + 16;
        struct mirror **const grown =
            realloc(all->list, cap * sizeof(struct mirror *));
        if (grown) {
            all->list = grown;
            all->cap = cap;
        } else {
            st = plt_fail(err, PLT_NOMEM, "a mirror");
        }
    }
    if (st == PLT_OK) {
        size_t i = all->n++;
        for (; i && strcmp(all->list[i - 1]->entry.name, m->entry.name) > 0;
             i--)
            all->list[i] = all->list[i - 1];
        all->list[i] = m;
        mirror_ref(m);
    }
    lock_give(&all->lock);
    return st;
}

static void unlist(struct mirrors *all, struct mirror *m)
{
    bool was_there = false;

    lock_take(&all->lock);
    for (size_t i = 0; i < all->n; i++) {
        if (was_there)
            all->list[i - 1] = all->list[i];
        else
            was_there = all->list[i] == m;
    }
    all->n -= was_there;
    lock_give(&all->lock);
    if (was_there)
        mirror_unref(m);
}

void mirrors_wake(struct mirrors *all)
{
    lock_take(&all->lock);
    all->wakes++;
    cond_wake_all(&all->work);
    lock_give(&all->lock);
}

/* ---- Threads ---- */

static enum plt_status start(struct mirrors *all, struct plt_error *err)
{
    int sys = 0;

    /* One does, slower. */
    while (all->n_started < MOVERS && sys == 0) {
        sys =
            pthread_create(&all->movers[all->n_started], NULL, mover_run, all);
        all->n_started += sys == 0;
    }
    if (!all->n_started)
        return plt_fail_sys(err, PLT_BUSY, sys, "a thread for mirrors");
    sys = pthread_create(&all->keeper, NULL, keeper_run, all);
    all->has_keeper = sys == 0;
    return sys == 0 ? PLT_OK
                    : plt_fail_sys(err, PLT_BUSY, sys, "a thread for mirrors");
}

/* They start with the first mirror. */
static enum plt_status need_threads(struct mirrors *all, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    lock_take(&all->save_lock);
    if (!all->n_started || !all->has_keeper)
        st = start(all, err);
    lock_give(&all->save_lock);
    return st;
}

/* ---- The set ---- */

static int folder(int at, const char *name, enum plt_status *st,
                  struct plt_error *err)
{
    if (*st != PLT_OK)
        return -1;
    if (mkdirat(at, name, 0700) != 0 && errno != EEXIST) {
        *st = plt_fail_sys(err, PLT_IO, errno, "the state folder's %s", name);
        return -1;
    }
    const int fd =
        openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        *st = plt_fail_sys(err, PLT_IO, errno, "the state folder's %s", name);
    return fd;
}

/* What a run before left and nobody names. */
static void tidy(struct mirrors *all)
{
    const int fd = openat(all->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *const dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;

    if (!dir && fd >= 0)
        (void)close(fd);
    while (dir && (e = readdir(dir))) {
        const size_t len = strlen(e->d_name);
        if (len > 9 && strcmp(e->d_name + len - 9, ".manifest") == 0 &&
            !state_names_file(all, e->d_name))
            (void)unlinkat(all->dir, e->d_name, 0);
    }
    if (dir)
        (void)closedir(dir);
}

/* Another process has the store: this one serves all else. */
static enum plt_status go_without(struct mirrors *all,
                                  const struct plt_error *why)
{
    struct log_line l;

    (void)close(all->dir);
    (void)close(all->store_dir);
    all->dir = all->store_dir = -1;
    log_begin(&l, LOG_WARN, "mirrors_off");
    log_text(&l, "text", why->text);
    log_end(&l);
    return PLT_OK;
}

static enum plt_status load(struct mirrors *all, struct plt_error *err)
{
    all->seeds = seeds_new(all);
    const enum plt_status st = all->seeds
                                   ? state_load(all, err)
                                   : plt_fail(err, PLT_NOMEM, "the mirrors");
    if (st == PLT_OK)
        tidy(all);
    return st;
}

enum plt_status mirrors_new(const struct mirrors_config *config,
                            struct mirrors **out, struct plt_error *err)
{
    struct mirrors *const all = calloc(1, sizeof(*all));
    enum plt_status st = PLT_OK;

    if (!all)
        return plt_fail(err, PLT_NOMEM, "the mirrors");
    all->config = *config;
    all->images = config->images;
    all->dir = all->store_dir = -1;
    lock_init(&all->lock);
    lock_init(&all->save_lock);
    lock_init(&all->versions_lock);
    cond_init(&all->work);
    if (config->state_dir) {
        AUTO_FD int fd =
            open(config->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            st = plt_fail_sys(err, PLT_IO, errno, "the state folder");
        all->dir = folder(fd, "mirrors", &st, err);
        all->store_dir = folder(fd, "store", &st, err);
        const struct store_config store = {.dir = all->store_dir,
                                           .limit = config->store_limit,
                                           .compression = config->compression};
        if (st == PLT_OK)
            st = store_open(&store, &all->store, err);
        if (st == PLT_BUSY)
            st = go_without(all, err);
        else if (st == PLT_OK)
            st = load(all, err);
    }
    if (st == PLT_OK) {
        mirror_disk_provider(all, &all->provider);
        images_set_provider(all->images, &all->provider);
        if (all->n)
            st = need_threads(all, err);
    }
    if (st != PLT_OK) {
        mirrors_free(all);
        return st;
    }
    *out = all;
    return PLT_OK;
}

void mirrors_stop(struct mirrors *all)
{
    if (!all)
        return;
    atomic_store(&all->is_stopping, true);
    mirrors_wake(all);
    while (all->n_started)
        ASSERT(pthread_join(all->movers[--all->n_started], NULL) == 0);
    if (all->has_keeper)
        ASSERT(pthread_join(all->keeper, NULL) == 0);
    all->has_keeper = false;
    seeds_close(all->seeds);
    size_t n;
    struct version **const list = versions_all(all, &n);
    for (size_t i = 0; i < n; i++) {
        version_give_memory(list[i]);
        version_unref(list[i]);
    }
    free(list);
}

void mirrors_free(struct mirrors *all)
{
    if (!all)
        return;
    mirrors_stop(all);
    while (all->n) {
        struct mirror *const m = all->list[all->n - 1];
        mirror_ref(m);
        unlist(all, m);
        end(m);
        mirror_unref(m);
    }
    free(all->list);
    seeds_free(all->seeds);
    store_close(all->store);
    if (all->dir >= 0)
        (void)close(all->dir);
    if (all->store_dir >= 0)
        (void)close(all->store_dir);
    cond_release(&all->work);
    lock_release(&all->save_lock);
    lock_release(&all->versions_lock);
    lock_release(&all->lock);
    free(all);
}

/* ---- Requests ---- */

static bool is_same(struct mirror *m, const struct mirror_entry *entry)
{
    lock_take(&m->lock);
    json_t *const a = entry_json(&m->entry);
    lock_give(&m->lock);
    json_t *const b = entry_json(entry);
    const bool same = a && b && json_equal(a, b);

    json_decref(a);
    json_decref(b);
    return same;
}

/* A disk of this gateway's own mirrors is no source: two could name each other.
 */
static bool is_mirror(struct mirrors *all, const struct mirror_entry *e)
{
    struct plt_error ignored;
    struct reference r;

    if (strncmp(e->source, "http", 4) == 0 ||
        reference_parse(&r, e->source, NULL, NULL, &ignored) != PLT_OK)
        return false;
    const bool is =
        strcmp(r.target, e->name) == 0 || mirrors_has(all, r.target);
    reference_release(&r);
    return is;
}

/* It lies in an origin.  What is there is for later. */
static enum plt_status check_source(struct mirrors *all,
                                    const struct mirror_entry *e,
                                    struct plt_error *err)
{
    struct reference r;

    if (strncmp(e->source, "http", 4) == 0 && strstr(e->source, "://"))
        return images_allow_url(all->images, e->source, err);
    enum plt_status st = reference_parse(&r, e->source, NULL, NULL, err);
    if (st != PLT_OK)
        return st;
    if (strchr(r.target, '/') && !images_has_origin_of(all->images, r.target))
        st = plt_fail(err, PLT_INVALID, "no origin is that of %.64s", r.target);
    reference_release(&r);
    return st;
}

enum plt_status mirrors_add(struct mirrors *all, json_t *asked, bool *is_new,
                            struct plt_error *err)
{
    struct mirror_entry entry;

    *is_new = false;
    if (all->dir < 0)
        return plt_fail(
            err, PLT_UNSUPPORTED,
            "mirrors need a state folder (--state) that no other process has");
    enum plt_status st = entry_parse(&entry, asked, err);
    if (st != PLT_OK)
        return st;
    st = entry_check(&entry, &all->config, err);
    if (st == PLT_OK)
        st = check_source(all, &entry, err);
    if (st != PLT_OK) {
        entry_release(&entry);
        return st;
    }
    struct mirror *m = mirrors_find(all, entry.name);
    if (m) {
        st = is_same(m, &entry)
                 ? PLT_OK
                 : plt_fail(err, PLT_EXISTS, "there is another mirror %.64s",
                            entry.name);
    } else if (images_has_name(all->images, entry.name)) {
        st = plt_fail(err, PLT_EXISTS, "an origin or image has the name %.64s",
                      entry.name);
    } else if (is_mirror(all, &entry)) {
        st = plt_fail(err, PLT_INVALID,
                      "the source is a mirror of this gateway");
    } else {
        m = mirror_new(all, &entry);
        if (m) {
            lock_take(&m->lock);
            history_note(m, HISTORY_MADE, NULL, 1, NULL);
            lock_give(&m->lock);
        }
        st = m ? mirrors_list(all, m, err)
               : plt_fail(err, PLT_NOMEM, "a mirror");
        if (st == PLT_OK)
            st = mirrors_save(all, err);
        if (st == PLT_OK)
            st = need_threads(all, err);
        if (st == PLT_OK) {
            *is_new = true;
            mirrors_wake(all);
        } else if (m) {
            unlist(all, m);
            end(m);
        }
    }
    mirror_unref(m);
    entry_release(&entry);
    return st;
}

enum plt_status mirrors_remove(struct mirrors *all, const char *name,
                               struct plt_error *err)
{
    struct mirror *const m = mirrors_find(all, name);

    if (!m)
        return plt_fail(err, PLT_NOT_FOUND, "there is no mirror %.64s", name);
    lock_take(&m->lock);
    m->is_removed = true;
    lock_give(&m->lock);
    enum plt_status st = mirrors_save(all, err);
    if (st == PLT_OK) {
        unlist(all, m);
        images_forget(all->images, name);
        end(m);
        atomic_store(&all->must_sweep, true);
    } else {
        lock_take(&m->lock);
        m->is_removed = false;
        lock_give(&m->lock);
    }
    mirror_unref(m);
    return st;
}

enum plt_status mirrors_pause(struct mirrors *all, const char *name, bool on,
                              struct plt_error *err)
{
    struct mirror *const m = mirrors_find(all, name);

    if (!m)
        return plt_fail(err, PLT_NOT_FOUND, "there is no mirror %.64s", name);
    lock_take(&m->lock);
    const bool was = m->is_paused;
    m->is_paused = on;
    lock_give(&m->lock);
    const enum plt_status st = was == on ? PLT_OK : mirrors_save(all, err);
    lock_take(&m->lock);
    if (st != PLT_OK)
        m->is_paused = was;
    /* As it is by now: of two who ask at once either may be the last here. */
    atomic_store(&m->is_halted, m->is_paused || m->is_removed);
    if (st == PLT_OK && (was != on || (!on && m->is_failed)))
        history_note(m, on ? HISTORY_PAUSED : HISTORY_RESUMED, NULL, 1, NULL);
    if (st == PLT_OK && !on) {
        m->must_look = true;
        m->failures = 0;
        m->due_ns = 0;
        m->is_failed = false;
    }
    lock_give(&m->lock);
    mirror_changed(m);
    mirrors_wake(all);
    mirror_unref(m);
    return st;
}

enum plt_status mirrors_change(struct mirrors *all, const char *name,
                               json_t *asked, struct plt_error *err)
{
    struct mirror *const m = mirrors_find(all, name);

    if (!m)
        return plt_fail(err, PLT_NOT_FOUND, "there is no mirror %.64s", name);
    lock_take(&m->lock);
    const struct mirror_entry was = m->entry;
    enum plt_status st = entry_change(&m->entry, asked, err);
    lock_give(&m->lock);
    if (st == PLT_OK)
        st = mirrors_save(all, err);
    lock_take(&m->lock);
    if (st != PLT_OK)
        entry_restore(&m->entry, &was);
    atomic_store(&m->priority, m->entry.priority);
    if (st == PLT_OK && m->entry.bandwidth != was.bandwidth)
        m->allowance_ns = m->paced_ns = m->paid = 0;
    if (st == PLT_OK)
        m->look_ns = m->entry.follow_s ? clock_now() : UINT64_MAX;
    lock_give(&m->lock);
    if (st == PLT_OK) {
        mirror_changed(m);
        mirrors_wake(all);
    }
    mirror_unref(m);
    return st;
}

uint64_t mirrors_change_count(struct mirrors *all, const char *name)
{
    struct mirror *const m = mirrors_find(all, name);
    const uint64_t n = m ? atomic_load(&m->changes) : 0;

    mirror_unref(m);
    return n;
}
