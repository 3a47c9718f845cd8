/* SPDX-License-Identifier: Apache-2.0 */
/* mirrors.json: what was asked for, and which versions there are.  What of them
 * is here is in the store and the manifests' files. */
#include "mirror/mirror_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mirror/mirror_output.h"
#include "stack/json_memory.h"
#include "stack/json_text.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/log.h"

enum { STATE_MAX = 64 << 20 };

static const char file_name[] = "mirrors.json";
static const char new_name[] = "mirrors.json.new";

/* ---- Writing ---- */

static json_t *version_json(const struct version *v, const char *role)
{
    char hex[MANIFEST_HEX], salt[MANIFEST_HEX];
    manifest_digest wide = {0};

    memcpy(wide, v->salt, sizeof(v->salt));
    manifest_to_hex(wide, salt);
    manifest_to_hex(v->root, hex);
    return json_pack(
        "{s:s, s:s, s:I, s:b, s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:I}", "role",
        role, "file", v->file_name, "size", (json_int_t)v->size, "direct",
        v->is_direct, "etag", v->etag, "salt", salt, "root",
        atomic_load(&v->has_root) ? hex : "", "complete",
        atomic_load(&v->is_complete), "signature", v->signature, "data-leaves",
        v->told_data == UINT64_MAX ? (json_int_t)-1 : (json_int_t)v->told_data,
        "fetched", (json_int_t)atomic_load(&v->counts.fetched), "reused",
        (json_int_t)atomic_load(&v->counts.reused));
}

static json_t *mirror_state(struct mirror *m)
{
    json_t *const versions = json_array();

    lock_take(&m->lock);
    const bool is_removed = m->is_removed;
    json_t *const row =
        is_removed
            ? NULL
            : json_pack("{s:o, s:b, s:s, s:s, s:O, s:o}", "entry",
                        entry_json(&m->entry), "paused", m->is_paused, "since",
                        m->since, "completed", m->completed, "versions",
                        versions, "history", history_state(&m->history));
    if (row && m->current && !m->current->is_passing)
        (void)json_array_append_new(versions,
                                    version_json(m->current, "current"));
    if (row && m->coming)
        (void)json_array_append_new(versions,
                                    version_json(m->coming, "coming"));
    lock_give(&m->lock);
    json_decref(versions);
    return row;
}

static bool write_all(int fd, const char *text, size_t len)
{
    while (len) {
        const ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static enum plt_status write_file(int dir, const char *text,
                                  struct plt_error *err)
{
    AUTO_FD int fd =
        openat(dir, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || !write_all(fd, text, strlen(text)) || fsync(fd) != 0 ||
        renameat(dir, new_name, dir, file_name) != 0 || fsync(dir) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "mirrors.json");
    return PLT_OK;
}

enum plt_status mirrors_save(struct mirrors *all, struct plt_error *err)
{
    size_t n;

    lock_take(&all->save_lock);
    const uint64_t lost = json_memory_lost();
    atomic_store(&all->has_news, false); /* what comes now is for the next */
    struct mirror **const list = mirrors_all(all, &n);
    json_t *const rows = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *const row = mirror_state(list[i]);
        if (row)
            (void)json_array_append_new(rows, row);
        mirror_unref(list[i]);
    }
    json_t *const root = json_pack("{s:i, s:o}", "version", 1, "mirrors", rows);
    AUTO_JSON_TEXT char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    const bool is_whole = list && text && json_memory_lost() == lost;
    const enum plt_status st = is_whole
                                   ? write_file(all->dir, text, err)
                                   : plt_fail(err, PLT_NOMEM, "mirrors.json");
    atomic_store(&all->is_unsaved, st != PLT_OK);
    json_decref(root);
    free(list);
    lock_give(&all->save_lock);
    return st;
}

/* ---- Reading ---- */

static const char *text_of(json_t *o, const char *key)
{
    const char *const text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static bool is_file_name(const char *name)
{
    const size_t len = strlen(name);
    return len == 25 && strspn(name, "0123456789abcdef") == 16 &&
           strcmp(name + 16, ".manifest") == 0;
}

static enum plt_status load_version(struct mirror *m, json_t *row,
                                    struct plt_error *err)
{
    const char *const name = text_of(row, "file"), *role = text_of(row, "role");
    const json_int_t size = json_integer_value(json_object_get(row, "size"));
    const json_int_t data =
        json_integer_value(json_object_get(row, "data-leaves"));
    struct version *v;
    manifest_digest salt;

    if (!is_file_name(name) || size < 0 ||
        !manifest_from_hex(text_of(row, "salt"), salt))
        return plt_fail(err, PLT_CORRUPT, "a version of %.64s is damaged",
                        m->entry.name);
    enum plt_status st = version_new(m, (uint64_t)size, name, &v, err);
    if (st != PLT_OK)
        return st;
    memcpy(v->salt, salt, sizeof(v->salt));
    v->is_direct = json_is_true(json_object_get(row, "direct"));
    v->told_data = data < 0 ? UINT64_MAX : (uint64_t)data;
    (void)snprintf(v->etag, sizeof(v->etag), "%s", text_of(row, "etag"));
    (void)snprintf(v->signature, sizeof(v->signature), "%s",
                   text_of(row, "signature"));
    if (manifest_from_hex(text_of(row, "root"), v->root))
        atomic_store(&v->has_root, true);
    /* One that was coming has still to take the name. */
    atomic_store(&v->is_complete,
                 strcmp(role, "coming") != 0 &&
                     json_is_true(json_object_get(row, "complete")));
    atomic_store(&v->counts.fetched,
                 (uint64_t)json_integer_value(json_object_get(row, "fetched")));
    atomic_store(&v->counts.reused,
                 (uint64_t)json_integer_value(json_object_get(row, "reused")));
    /* Its digests must be those of its root still. */
    manifest_digest root;
    if (!v->is_direct && (!manifest_file_root(v->file, root) ||
                          memcmp(root, v->root, MANIFEST_DIGEST) != 0)) {
        struct log_line l;
        log_begin(&l, LOG_WARN, "mirror_manifest_damaged");
        log_text(&l, "mirror", m->entry.name);
        log_end(&l);
        version_unref(v); /* looked at anew */
        return PLT_OK;
    }
    if (m->entry.output)
        st = entry_check(&m->entry, &m->mirrors->config, err);
    if (m->entry.output && st == PLT_OK)
        st = out_open(m->entry.output, v->size, atomic_load(&v->is_complete),
                      &v->out, err);
    if (st != PLT_OK) { /* a device that is not there yet: tried again */
        (void)snprintf(m->error, sizeof(m->error), "%s", err->text);
        version_unref(v);
        return PLT_OK;
    }
    struct version **const slot =
        strcmp(role, "coming") == 0 ? &m->coming : &m->current;
    if (*slot) {
        version_unref(v);
        return plt_fail(err, PLT_CORRUPT, "%.64s has two versions",
                        m->entry.name);
    }
    *slot = v;
    /* Complete ones are not looked at again unless they are followed. */
    m->must_look = !atomic_load(&v->is_complete) && v->is_direct;
    return PLT_OK;
}

static enum plt_status load_one(struct mirrors *all, json_t *row,
                                struct plt_error *err)
{
    struct mirror_entry entry;
    json_t *version;
    size_t i;

    enum plt_status st =
        entry_parse(&entry, json_object_get(row, "entry"), err);
    if (st != PLT_OK)
        return st;
    struct mirror *const m = mirror_new(all, &entry);
    entry_release(&entry);
    if (!m)
        return plt_fail(err, PLT_NOMEM, "a mirror");
    m->is_paused = json_is_true(json_object_get(row, "paused"));
    atomic_store(&m->is_halted, m->is_paused);
    (void)snprintf(m->since, sizeof(m->since), "%s", text_of(row, "since"));
    (void)snprintf(m->completed, sizeof(m->completed), "%s",
                   text_of(row, "completed"));
    history_load(&m->history, json_object_get(row, "history"));
    st = mirrors_list(all, m, err);
    json_array_foreach(json_object_get(row, "versions"), i, version)
    {
        if (st == PLT_OK)
            st = load_version(m, version, err);
    }
    if (!m->current && m->coming)
        m->current = STEAL(m->coming);
    m->look_ns = m->entry.follow_s ? clock_now() : UINT64_MAX;
    mirror_unref(m);
    return st;
}

static enum plt_status read_file(int dir, char **text, size_t *len,
                                 struct plt_error *err)
{
    AUTO_FD int fd = openat(dir, file_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat sb;

    *text = NULL;
    if (fd < 0 && errno == ENOENT)
        return PLT_OK;
    if (fd < 0 || fstat(fd, &sb) != 0)
        return plt_fail_sys(err, PLT_IO, errno, "mirrors.json");
    if (!S_ISREG(sb.st_mode) || sb.st_size > STATE_MAX)
        return plt_fail(err, PLT_CORRUPT, "mirrors.json is damaged");
    AUTO_FREE char *buf = malloc((size_t)sb.st_size + 1);
    if (!buf)
        return plt_fail(err, PLT_NOMEM, "mirrors.json");
    *len = 0;
    while (*len < (size_t)sb.st_size) {
        const ssize_t n = read(fd, buf + *len, (size_t)sb.st_size - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return plt_fail_sys(err, PLT_IO, n ? errno : EIO, "mirrors.json");
        *len += (size_t)n;
    }
    buf[*len] = '\0';
    *text = STEAL(buf);
    return PLT_OK;
}

enum plt_status state_load(struct mirrors *all, struct plt_error *err)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0, i;
    json_t *row;

    enum plt_status st = read_file(all->dir, &text, &len, err);
    if (st != PLT_OK || !text)
        return st;
    const uint64_t lost = json_memory_lost();
    json_t *const root =
        json_memory_parse(text, len, JSON_REJECT_DUPLICATES, NULL);
    json_t *const rows = json_object_get(root, "mirrors");
    if (json_memory_lost() != lost)
        st = plt_fail(err, PLT_NOMEM, "mirrors.json");
    else if (json_integer_value(json_object_get(root, "version")) != 1 ||
             !json_is_array(rows))
        st = plt_fail(err, PLT_CORRUPT,
                      "mirrors.json in the state folder is damaged");
    json_array_foreach(rows, i, row)
    {
        if (st == PLT_OK)
            st = load_one(all, row, err);
        if (st == PLT_INVALID || st == PLT_EXISTS) { /* no client's mistake */
            const struct plt_error why = *err;
            st =
                plt_fail(err, PLT_CORRUPT,
                         "mirrors.json in the state folder, mirror %zu: %.120s",
                         i, why.text);
        }
    }
    json_decref(root);
    return st;
}

static bool has_file(struct mirror *m, const char *name)
{
    lock_take(&m->lock);
    const bool has = (m->current && strcmp(m->current->file_name, name) == 0) ||
                     (m->coming && strcmp(m->coming->file_name, name) == 0);
    lock_give(&m->lock);
    return has;
}

bool state_names_file(struct mirrors *all, const char *name)
{
    bool has = false;
    size_t n;

    struct mirror **const list = mirrors_all(all, &n);
    for (size_t i = 0; i < n; i++) {
        has = has || has_file(list[i], name);
        mirror_unref(list[i]);
    }
    free(list);
    return has || !list;
}
