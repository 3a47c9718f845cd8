/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/catalogue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "stack/json_memory.h"
#include "stack/json_text.h"
#include "util/auto.h"
#include "util/lock.h"
#include "util/log.h"

enum { MAX_FILE = 64 << 20 };

static const char file_name[] = "images.json";
static const char new_name[] = "images.json.new";

struct entry {
    json_t *told;     /* as listed, with its name; never changed; new */
    const char *name; /* told's */
    struct reference reference;
    bool is_configured;
};

struct catalogue {
    int state_dir;
    const struct policy *policy;
    struct lock lock;
    struct entry *v; /* n of them, unordered; guarded by lock, as n */
    size_t n;
    /* Registered ones whose names the configuration has taken: kept in the file
     * for when it lets go of them; guarded by lock. */
    json_t *hidden;
};

struct catalogue *catalogue_new(int state_dir, const struct policy *policy)
{
    struct catalogue *const c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->state_dir = state_dir;
    c->policy = policy;
    lock_init(&c->lock);
    c->hidden = json_array();
    if (!c->hidden) {
        lock_release(&c->lock);
        free(c);
        return NULL;
    }
    return c;
}

static void entry_release(struct entry *e)
{
    json_decref(e->told);
    reference_release(&e->reference);
}

void catalogue_free(struct catalogue *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++)
        entry_release(&c->v[i]);
    free(c->v);
    json_decref(c->hidden);
    lock_release(&c->lock);
    free(c);
}

static struct entry *find_locked(const struct catalogue *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->v[i].name, name) == 0)
            return &c->v[i];
    }
    return NULL;
}

/* ---- Entries ---- */

static const char *const selectors[] = {"member", "snapshot", "partition",
                                        "secret", "layers"};
enum { N_SELECTORS = sizeof(selectors) / sizeof(selectors[0]) };

static bool is_selector(const char *key)
{
    for (size_t i = 0; i < N_SELECTORS; i++) {
        if (strcmp(selectors[i], key) == 0)
            return true;
    }
    return false;
}

static bool labels_ok(json_t *labels)
{
    const char *key;
    json_t *value;

    if (!json_is_object(labels) ||
        json_object_size(labels) > CATALOGUE_MAX_LABELS)
        return false;
    json_object_foreach(labels, key, value)
    {
        if (!json_is_string(value) || strlen(key) > 255 ||
            json_string_length(value) > 4095)
            return false;
    }
    return true;
}

/* Keys and types; the reference's own rules are reference.c's. */
static enum plt_status check_entry(json_t *told, struct plt_error *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(told))
        return plt_fail(err, PLT_INVALID, "an image is a JSON object");
    json_object_foreach(told, key, value)
    {
        if (strcmp(key, "labels") == 0) {
            if (!labels_ok(value))
                return plt_fail(err, PLT_INVALID,
                                "labels is an object of at most %d texts",
                                CATALOGUE_MAX_LABELS);
        } else if (strcmp(key, "name") != 0 && strcmp(key, "source") != 0 &&
                   !is_selector(key)) {
            return plt_fail(err, PLT_INVALID, "unknown key %.40s", key);
        } else if (!json_is_string(value)) {
            return plt_fail(err, PLT_INVALID, "%.40s is not a text", key);
        }
    }
    if (!json_object_get(told, "name") || !json_object_get(told, "source"))
        return plt_fail(err, PLT_INVALID, "an image has a name and a source");
    return PLT_OK;
}

/* The reference of a checked object. */
static enum plt_status take_reference(json_t *told, struct reference *out,
                                      struct plt_error *err)
{
    enum plt_status st =
        reference_parse(out, json_string_value(json_object_get(told, "source")),
                        NULL, NULL, err);

    for (size_t i = 0; i < N_SELECTORS && st == PLT_OK; i++) {
        const char *const value =
            json_string_value(json_object_get(told, selectors[i]));
        if (value)
            st = reference_select(out, selectors[i], value, err);
    }
    if (st != PLT_OK)
        reference_release(out);
    return st;
}

static enum plt_status check_name(struct catalogue *c, const char *name,
                                  struct plt_error *err)
{
    if (!policy_name_ok(name))
        return plt_fail(err, PLT_INVALID,
                        "image name %.64s: letters, digits, . _ - only", name);
    if (policy_has_origin(c->policy, name))
        return plt_fail(err, PLT_EXISTS, "image name %.64s is an origin's",
                        name);
    return PLT_OK;
}

/* Steals told and the reference on success. */
static enum plt_status append_locked(struct catalogue *c, json_t *told,
                                     const struct reference *reference,
                                     bool is_configured, struct plt_error *err)
{
    if (c->n == CATALOGUE_MAX)
        return plt_fail(err, PLT_INVALID, "more than %d images", CATALOGUE_MAX);
    struct entry *const grown = realloc(c->v, (c->n + 1) * sizeof(*grown));
    if (!grown)
        return plt_fail(err, PLT_NOMEM, "an image's name");
    c->v = grown;
    c->v[c->n++] =
        (struct entry){.told = told,
                       .name = json_string_value(json_object_get(told, "name")),
                       .reference = *reference,
                       .is_configured = is_configured};
    return PLT_OK;
}

static void set_text(json_t *told, const char *key, const char *value)
{
    if (value)
        (void)json_object_set_new(told, key, json_string(value));
}

enum plt_status catalogue_add(struct catalogue *c, const char *name,
                              const char *source, const char *query,
                              const char *labels, struct plt_error *err)
{
    struct reference r;
    json_t *const map =
        labels ? json_memory_parse(labels, strlen(labels), 0, NULL) : NULL;
    enum plt_status st = check_name(c, name, err);

    if (st == PLT_OK)
        st = reference_parse(&r, source, query, NULL, err);
    if (st != PLT_OK) {
        json_decref(map);
        return st;
    }
    json_t *const told =
        json_pack("{s:s, s:s}", "name", name, "source", source);
    if (told) {
        set_text(told, "member", r.member);
        set_text(told, "snapshot", r.snapshot);
        set_text(told, "partition", r.partition);
        set_text(told, "secret", r.secret);
        set_text(told, "layers", r.layers);
        if (map)
            (void)json_object_set(told, "labels", map);
    }
    json_decref(map);
    lock_take(&c->lock);
    if (!told)
        st = plt_fail(err, PLT_NOMEM, "an image's name");
    else if (find_locked(c, name))
        st = plt_fail(err, PLT_INVALID, "image name %.64s is taken", name);
    else
        st = append_locked(c, told, &r, true, err);
    lock_give(&c->lock);
    if (st != PLT_OK) {
        json_decref(told);
        reference_release(&r);
    }
    return st;
}

/* ---- The file ---- */

static enum plt_status fail_keep(struct plt_error *err)
{
    return plt_fail_sys(err, PLT_IO, errno, "images.json");
}

static bool write_all(int fd, const char *text, size_t len)
{
    while (len) {
        const ssize_t did = write(fd, text, len);
        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0)
            return false;
        text += did;
        len -= (size_t)did;
    }
    return true;
}

/* All that was registered, on disk before it is true. */
static enum plt_status keep_locked(struct catalogue *c, struct plt_error *err)
{
    const uint64_t lost = json_memory_lost();
    json_t *const list = json_array();
    json_t *const root =
        list ? json_pack("{s:i, s:O}", "version", 1, "images", list) : NULL;

    for (size_t i = 0; root && i < c->n; i++) {
        if (!c->v[i].is_configured)
            (void)json_array_append(list, c->v[i].told);
    }
    if (root)
        (void)json_array_extend(list, c->hidden);
    json_decref(list);
    AUTO_JSON_TEXT char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!text || json_memory_lost() != lost)
        return plt_fail(err, PLT_NOMEM, "images.json");
    AUTO_FD int fd = openat(c->state_dir, new_name,
                            O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !write_all(fd, text, strlen(text)) || fsync(fd) != 0 ||
        renameat(c->state_dir, new_name, c->state_dir, file_name) != 0 ||
        fsync(c->state_dir) != 0)
        return fail_keep(err);
    return PLT_OK;
}

/* The file's text; new.  NULL with PLT_OK: there is none. */
static enum plt_status read_file(struct catalogue *c, char **text,
                                 struct plt_error *err)
{
    struct stat sb;
    size_t n = 0;
    AUTO_FD int fd = openat(c->state_dir, file_name, O_RDONLY | O_CLOEXEC);

    *text = NULL;
    if (fd < 0)
        return errno == ENOENT ? PLT_OK : fail_keep(err);
    if (fstat(fd, &sb) != 0)
        return fail_keep(err);
    if (sb.st_size > MAX_FILE)
        return plt_fail(err, PLT_CORRUPT, "images.json is too large");
    char *const buf = calloc(1, (size_t)sb.st_size + 1);
    if (!buf)
        return plt_fail(err, PLT_NOMEM, "images.json");
    while (n < (size_t)sb.st_size) {
        const ssize_t did = read(fd, buf + n, (size_t)sb.st_size - n);
        if (did <= 0)
            break;
        n += (size_t)did;
    }
    *text = buf;
    return PLT_OK;
}

/* May a registered image have this name now? */
static bool is_free_locked(struct catalogue *c, const struct policy *policy,
                           json_t *told)
{
    const char *const name = json_string_value(json_object_get(told, "name"));
    return !policy_has_origin(policy, name) && !find_locked(c, name);
}

/* It is what it says; told is kept. */
static enum plt_status take_told_locked(struct catalogue *c, json_t *told,
                                        struct plt_error *err)
{
    struct reference r;
    enum plt_status st = take_reference(told, &r, err);

    if (st != PLT_OK)
        return st;
    st = append_locked(c, told, &r, false, err);
    if (st == PLT_OK)
        (void)json_incref(told);
    else
        reference_release(&r);
    return st;
}

static enum plt_status hide_locked(struct catalogue *c, json_t *told,
                                   struct plt_error *err)
{
    struct log_line l;

    log_begin(&l, LOG_WARN, "registered_image_hidden");
    log_text(&l, "image", json_string_value(json_object_get(told, "name")));
    log_end(&l);
    return json_array_append(c->hidden, told) == 0
               ? PLT_OK
               : plt_fail(err, PLT_NOMEM, "an image");
}

/* Those whose names the configuration has let go of. */
static void unhide_locked(struct catalogue *c, const struct policy *policy)
{
    struct plt_error ignored;

    for (size_t i = 0; i < json_array_size(c->hidden);) {
        json_t *const told = json_array_get(c->hidden, i);
        if (is_free_locked(c, policy, told) &&
            take_told_locked(c, told, &ignored) == PLT_OK)
            (void)json_array_remove(c->hidden, i);
        else
            i++;
    }
}

/* One of the file's. */
static enum plt_status load_one(struct catalogue *c, json_t *told,
                                struct plt_error *err)
{
    json_t *const bare = json_deep_copy(told);
    enum plt_status st = bare ? PLT_OK : plt_fail(err, PLT_NOMEM, "an image");

    if (bare) {
        (void)json_object_del(bare, "created");
        st = check_entry(bare, err);
    }
    json_decref(bare);
    if (st != PLT_OK)
        return st;
    return is_free_locked(c, c->policy, told) ? take_told_locked(c, told, err)
                                              : hide_locked(c, told, err);
}

enum plt_status catalogue_load(struct catalogue *c, struct plt_error *err)
{
    AUTO_FREE char *text = NULL;
    json_t *told;
    size_t i;

    if (c->state_dir < 0)
        return PLT_OK;
    enum plt_status st = read_file(c, &text, err);
    if (st != PLT_OK || !text)
        return st;
    const uint64_t lost = json_memory_lost();
    json_t *const root =
        json_memory_parse(text, strlen(text), JSON_REJECT_DUPLICATES, NULL);
    json_t *const list = json_object_get(root, "images");
    if (json_memory_lost() != lost)
        st = plt_fail(err, PLT_NOMEM, "images.json");
    else if (json_integer_value(json_object_get(root, "version")) != 1 ||
             !json_is_array(list))
        st = plt_fail(err, PLT_CORRUPT,
                      "images.json in the state folder is damaged");
    lock_take(&c->lock);
    json_array_foreach(list, i, told)
    {
        if (st == PLT_OK)
            st = load_one(c, told, err);
        if (st == PLT_INVALID) { /* no client's mistake */
            struct plt_error why = *err;
            st = plt_fail(err, PLT_CORRUPT,
                          "images.json in the state folder, image %zu: %s", i,
                          why.text);
        }
    }
    lock_give(&c->lock);
    json_decref(root);
    return st;
}

/* ---- Registering ---- */

static void stamp(json_t *told)
{
    const time_t now = time(NULL);
    char text[32];
    struct tm tm;

    if (gmtime_r(&now, &tm) &&
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
        set_text(told, "created", text);
}

/* The same but for the time of its making. */
static bool is_same(const struct entry *e, json_t *told)
{
    json_t *const bare = json_copy(e->told);
    if (bare)
        (void)json_object_del(bare, "created");
    const bool same = bare && json_equal(bare, told);
    json_decref(bare);
    return same;
}

static enum plt_status register_locked(struct catalogue *c, json_t *asked,
                                       const struct reference *r, bool *is_new,
                                       struct plt_error *err)
{
    const char *const name = json_string_value(json_object_get(asked, "name"));
    const struct entry *const known = find_locked(c, name);
    const uint64_t lost = json_memory_lost();

    *is_new = !known;
    if (known && is_same(known, asked))
        return PLT_OK;
    if (known && json_memory_lost() == lost)
        return plt_fail(err, PLT_EXISTS,
                        "image name %.64s is taken: delete it first", name);
    json_t *const told = json_deep_copy(asked);
    if (told)
        stamp(told);
    if (json_memory_lost() != lost) {
        json_decref(told);
        return plt_fail(err, PLT_NOMEM, "an image's name");
    }
    enum plt_status st = append_locked(c, told, r, false, err);
    if (st != PLT_OK) {
        json_decref(told);
        return st;
    }
    st = keep_locked(c, err);
    if (st != PLT_OK) {
        c->n--; /* never was */
        json_decref(told);
    }
    return st;
}

enum plt_status catalogue_register(struct catalogue *c, json_t *asked,
                                   bool *is_new, struct plt_error *err)
{
    struct reference r;
    enum plt_status st;

    *is_new = false;
    if (c->state_dir < 0)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "images are registered in a state folder, and none is "
                        "configured");
    st = check_entry(asked, err);
    if (st == PLT_OK)
        st = check_name(c, json_string_value(json_object_get(asked, "name")),
                        err);
    if (st == PLT_OK)
        st = take_reference(asked, &r, err);
    if (st != PLT_OK)
        return st;
    if (!policy_has_origin_of(c->policy, r.target)) {
        reference_release(&r);
        return plt_fail(err, PLT_INVALID, "source names no origin");
    }
    lock_take(&c->lock);
    st = register_locked(c, asked, &r, is_new, err);
    lock_give(&c->lock);
    if (st != PLT_OK || !*is_new)
        reference_release(&r);
    return st;
}

enum plt_status catalogue_remove(struct catalogue *c, const char *name,
                                 struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    lock_take(&c->lock);
    struct entry *const e = find_locked(c, name);
    if (!e) {
        st = plt_fail(err, PLT_NOT_FOUND, "no image of that name");
    } else if (e->is_configured) {
        st = plt_fail(err, PLT_DENIED, "the configuration names this image");
    } else {
        struct entry gone = *e, *const last = &c->v[c->n - 1];
        *e = *last;
        c->n--;
        st = keep_locked(c, err);
        if (st == PLT_OK)
            entry_release(&gone);
        else
            c->v[c->n++] = gone; /* still there: there is room for it */
    }
    lock_give(&c->lock);
    return st;
}

/* ---- Asking ---- */

enum plt_status catalogue_get(struct catalogue *c, const char *name,
                              struct reference *out)
{
    enum plt_status st = PLT_NOT_FOUND;

    lock_take(&c->lock);
    const struct entry *const e = find_locked(c, name);
    if (e)
        st = reference_copy(out, &e->reference) ? PLT_OK : PLT_NOMEM;
    lock_give(&c->lock);
    return st;
}

bool catalogue_has(struct catalogue *c, const char *name)
{
    lock_take(&c->lock);
    const bool has = find_locked(c, name) != NULL;
    lock_give(&c->lock);
    return has;
}

static int by_name(const void *a, const void *b)
{
    const struct catalogue_row *const x = (const struct catalogue_row *)a;
    const struct catalogue_row *const y = (const struct catalogue_row *)b;
    return strcmp(x->name, y->name);
}

bool catalogue_rows(struct catalogue *c, struct catalogue_row **rows, size_t *n)
{
    lock_take(&c->lock);
    *n = c->n;
    *rows = calloc(c->n + 1, sizeof(**rows));
    for (size_t i = 0; *rows && i < c->n; i++) {
        const struct entry *const e = &c->v[i];
        (*rows)[i] = (struct catalogue_row){.name = e->name,
                                            .told = json_incref(e->told),
                                            .is_configured = e->is_configured};
    }
    lock_give(&c->lock);
    if (*rows)
        qsort(*rows, *n, sizeof(**rows), by_name);
    return *rows != NULL;
}

/* jansson's count orders nothing: who frees an entry must have seen all that
 * was read of it, which the lock says. */
void catalogue_rows_free(struct catalogue *c, struct catalogue_row *rows,
                         size_t n)
{
    lock_take(&c->lock);
    for (size_t i = 0; i < n; i++)
        json_decref(rows[i].told);
    lock_give(&c->lock);
    free(rows);
}

bool catalogue_replace(struct catalogue *c, struct catalogue *other)
{
    lock_take(&c->lock);
    const size_t most = c->n + other->n;
    struct entry *const grown = realloc(other->v, (most + 1) * sizeof(*grown));
    if (grown)
        other->v = grown;
    if (!grown || most > CATALOGUE_MAX) {
        lock_give(&c->lock);
        return false;
    }
    /* What stays goes over to the new list, then the lists change places. */
    for (size_t i = 0; i < c->n; i++) {
        struct entry *const e = &c->v[i];
        const bool is_taken = find_locked(other, e->name) ||
                              policy_has_origin(other->policy, e->name);
        struct plt_error ignored;
        if (!e->is_configured && is_taken) /* without memory: until a restart */
            (void)hide_locked(c, e->told, &ignored);
        if (e->is_configured || is_taken)
            continue;
        other->v[other->n++] = *e;
        *e = c->v[--c->n];
        i--;
    }
    struct entry *const v = c->v;
    const size_t n = c->n;
    c->v = other->v;
    c->n = other->n;
    other->v = NULL;
    other->n = 0;
    for (size_t i = 0; i < n; i++) /* here: see catalogue_rows_free */
        entry_release(&v[i]);
    free(v);
    unhide_locked(c, other->policy);
    lock_give(&c->lock);
    return true;
}
