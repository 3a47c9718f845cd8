/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of mirrors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror_inside.h"
#include "util/auto.h"

static void set(json_t *row, const char *key, json_t *value)
{
    (void)json_object_set_new(row, key, value);
}

static void set_number(json_t *row, const char *key, uint64_t value)
{
    set(row, key, json_integer((json_int_t)(value & INT64_MAX)));
}

static void set_time(json_t *row, const char *key, const char *text)
{
    set(row, key, text[0] ? json_string(text) : json_null());
}

/* It may have been cut within a character, or be a source's: then all that is
 * not ASCII is a '?', as JSON has no other texts than UTF-8. */
json_t *mirror_error_json(const char *error)
{
    char text[sizeof(((struct mirror *)NULL)->error)];
    json_t *const value = error[0] ? json_string(error) : json_null();

    (void)snprintf(text, sizeof(text), "%s", error);
    for (char *p = text; *p; p++)
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    return value ? value : json_string(text);
}

static void set_root(json_t *row, const char *key, struct version *v)
{
    char hex[MANIFEST_HEX];

    if (!v || !atomic_load(&v->has_root)) {
        set(row, key, json_null());
        return;
    }
    manifest_to_hex(v->root, hex);
    set(row, key, json_string(hex));
}

/* How far the version is that is being fetched, or was last. */
static void set_progress(json_t *row, struct mirror *m, struct version *v,
                         bool is_going)
{
    const uint64_t rate = mirror_rate(m);
    uint64_t total = 0, local = 0;

    if (v) {
        lock_take(&v->lock);
        local = v->n_here;
        total = v->told_data != UINT64_MAX ? v->told_data : v->n_data;
        if (v->told_data == UINT64_MAX && !atomic_load(&v->is_complete) &&
            v->guessed_data > total)
            total = v->guessed_data;
        lock_give(&v->lock);
    }
    set_number(row, "bytes_total", total * MANIFEST_LEAF);
    set_number(row, "bytes_local", local * MANIFEST_LEAF);
    set_number(row, "blocks_total", total);
    set_number(row, "blocks_local", local);
    set(row, "share",
        json_real(v && total ? (double)local / (double)total
                  : v && atomic_load(&v->is_complete) ? 1.0
                                                      : 0.0));
    set_number(row, "rate", rate);
    const uint64_t left = total > local ? (total - local) * MANIFEST_LEAF : 0;
    if (v && atomic_load(&v->is_complete))
        set_number(row, "eta_seconds", 0);
    else
        set(row, "eta_seconds",
            is_going && v && rate ? json_integer((json_int_t)(left / rate))
                                  : json_null());
}

static void set_counts(json_t *row, const struct mirror_counts *c)
{
    set_number(row, "bytes_fetched", atomic_load(&c->fetched));
    set_number(row, "bytes_reused", atomic_load(&c->reused));
    set_number(row, "bytes_demand", atomic_load(&c->demand));
    set_number(row, "requests", atomic_load(&c->requests));
    set_number(row, "repaired", atomic_load(&c->repaired));
    set_number(row, "refused", atomic_load(&c->refused));
}

static json_t *siblings_locked(struct mirror *m)
{
    json_t *const list = json_array();

    for (unsigned i = 0; i < m->n_siblings; i++) {
        if (m->sibling[i].is_used)
            (void)json_array_append_new(list, json_string(m->sibling[i].url));
    }
    return list;
}

static json_t *mirror_row(struct mirror *m, bool with_history)
{
    lock_take(&m->lock);
    struct version *const v = m->coming ? m->coming : m->current;
    const bool is_complete = v && atomic_load(&v->is_complete);
    const bool is_going = !m->is_paused && !m->is_failed && !is_complete;
    json_t *const row = entry_json(&m->entry);
    set(row, "state",
        json_string(m->is_failed   ? "failed"
                    : is_complete  ? "complete"
                    : m->is_paused ? "paused"
                                   : "mirroring"));
    set_root(row, "root", m->current);
    set_root(row, "next_root", m->coming);
    set(row, "virtual_size",
        v ? json_integer((json_int_t)(v->size & INT64_MAX)) : json_null());
    set_progress(row, m, v, is_going);
    set_counts(row, v ? &v->counts : &m->counts);
    set(row, "verified", json_boolean(v && !v->is_direct));
    set(row, "signature",
        v && v->signature[0] ? json_string(v->signature) : json_null());
    set(row, "siblings", siblings_locked(m));
    set(row, "error", mirror_error_json(m->error));
    set_time(row, "since", m->since);
    set_time(row, "checked", m->checked);
    set_time(row, "completed", m->completed);
    set_number(row, "versions", atomic_load(&m->n_versions));
    if (with_history)
        set(row, "history", history_json(&m->history));
    lock_give(&m->lock);
    return row;
}

enum plt_status mirrors_json(struct mirrors *all, const char *name,
                             json_t **out, struct plt_error *err)
{
    struct mirror *const m = mirrors_find(all, name);

    if (!m)
        return plt_fail(err, PLT_NOT_FOUND, "there is no mirror %.64s", name);
    *out = mirror_row(m, true);
    mirror_unref(m);
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a mirror's state");
}

json_t *mirrors_list_json(struct mirrors *all)
{
    json_t *const rows = json_array();
    size_t n;

    struct mirror **const list = mirrors_all(all, &n);
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(rows, mirror_row(list[i], false));
        mirror_unref(list[i]);
    }
    free(list);
    return rows;
}

json_t *mirrors_store_json(struct mirrors *all)
{
    struct store_stats s;

    if (!all->store)
        return NULL;
    store_stats(all->store, &s);
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "leaves",
        (json_int_t)s.leaves, "disk_bytes", (json_int_t)s.disk_bytes, "limit",
        (json_int_t)s.limit, "memory_bytes", (json_int_t)s.memory_bytes,
        "segments", (json_int_t)s.segments, "put", (json_int_t)s.put,
        "passed_by", (json_int_t)s.passed_by, "damaged", (json_int_t)s.damaged,
        "swept_bytes", (json_int_t)s.swept_bytes, "scrubbed_bytes",
        (json_int_t)atomic_load(&all->scrubbed_bytes), "scrub_rounds",
        (json_int_t)atomic_load(&all->scrub_rounds));
}

struct manifest_file *mirrors_manifest(struct mirrors *all, struct image *image)
{
    struct version *const v = (struct version *)image_provided(image);

    (void)all;
    if (!v)
        return NULL;
    manifest_file_ref(v->file);
    return v->file;
}

/* Group g of it is here. */
static bool has_group(struct version *v, uint64_t g)
{
    bool has = false;

    if (!v || g >= v->n_groups)
        return false;
    lock_take(&v->lock);
    has = v->state[g] == GROUP_DONE;
    lock_give(&v->lock);
    return has;
}

char *mirrors_by_root(struct mirrors *all, const manifest_digest root,
                      uint64_t g)
{
    char *name = NULL;
    size_t n;

    struct mirror **const list = mirrors_all(all, &n);
    for (size_t i = 0; i < n; i++) {
        struct mirror *const m = list[i];
        lock_take(&m->lock);
        struct version *const v = m->current;
        if (!name && v && atomic_load(&v->has_root) &&
            memcmp(v->root, root, MANIFEST_DIGEST) == 0 && has_group(v, g))
            name = strdup(m->entry.name);
        lock_give(&m->lock);
        mirror_unref(m);
    }
    free(list);
    return name;
}

void mirrors_totals(struct mirrors *all, struct mirrors_totals *out)
{
    size_t n;

    *out =
        (struct mirrors_totals){.fetched_bytes = atomic_load(&all->fetched),
                                .reused_bytes = atomic_load(&all->reused),
                                .demand_bytes = atomic_load(&all->demand),
                                .repaired_leaves = atomic_load(&all->repaired),
                                .refused_leaves = atomic_load(&all->refused)};
    struct mirror **const list = mirrors_all(all, &n);
    for (size_t i = 0; i < n; i++) {
        struct mirror *const m = list[i];
        lock_take(&m->lock);
        struct version *const v = m->coming ? m->coming : m->current;
        if (m->is_failed)
            out->n_failed++;
        else if (v && atomic_load(&v->is_complete))
            out->n_complete++;
        else if (m->is_paused)
            out->n_paused++;
        else
            out->n_mirroring++;
        lock_give(&m->lock);
        mirror_unref(m);
    }
    free(list);
}
