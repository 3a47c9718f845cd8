/* SPDX-License-Identifier: Apache-2.0 */
/* What mirrors (core/mirror/mirror.h) may use, and those that shall be there.
 *
 * Whether a mirror's row is good depends on outputs and keys that may be named
 * after it, so the rows are looked at when all has been read. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <platter/option.h>

#include "config_file.h"
#include "manifest/minisign.h"
#include "mirror/mirror.h"
#include "stack/json_memory.h"
#include "stack/json_text.h"
#include "stack/reference.h"
#include "util/auto.h"

static const struct {
    const char *one, *many; /* of a mistake */
    size_t most;
} kinds[] = {[CONFIG_SEEDS] = {"a seed", "seeds", CONFIG_MAX_TEXTS},
             [CONFIG_OUTPUTS] = {"an output", "outputs", CONFIG_MAX_TEXTS},
             [CONFIG_KEYS] = {"a key", "keys", CONFIG_MAX_TEXTS}};

/* ---- Lists of texts ---- */

/* What a seed refers to; its origin is looked at with the others. */
static char *take_seed(struct config_parse *p, const struct config_at *at,
                       const char *text)
{
    struct reference r;
    struct plt_error err;

    if (reference_parse(&r, text, NULL, NULL, &err) != PLT_OK) {
        config_bad(p, at, "%s", err.text);
        return NULL;
    }
    reference_release(&r);
    return config_copy(p, text);
}

/* A folder is there; a file's folder is, or nothing could be written. */
static char *take_output(struct config_parse *p, const struct config_at *at,
                         const char *text)
{
    const char *const slash = strrchr(text, '/');
    const bool is_folder = slash && !slash[1];
    struct stat sb;

    if (*text != '/' || strstr(text, "/../") || strstr(text, "//")) {
        config_bad(p, at, "is not an absolute path without ..: %s", text);
        return NULL;
    }
    AUTO_FREE char *folder = strndup(text, (size_t)(slash + 1 - text));
    if (!folder) {
        config_bad(p, at, "out of memory");
        return NULL;
    }
    if (stat(folder, &sb) != 0)
        config_bad(p, at, "%s: %s", folder, strerror(errno));
    else if (!is_folder && stat(text, &sb) == 0 && S_ISDIR(sb.st_mode))
        config_bad(p, at, "%s: a folder: write it with a slash at the end",
                   text);
    return config_copy(p, text);
}

/* new; NULL: told. */
static char *read_key(struct config_parse *p, const struct config_at *at,
                      const char *file)
{
    AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char text[1024];
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (n < 0) {
        config_bad(p, at, "%s: %s", file, strerror(errno));
        return NULL;
    }
    if (!config_add_file(p, file)) {
        config_bad(p, at, "out of memory");
        return NULL;
    }
    text[n] = '\0';
    return config_copy(p, text);
}

/* The base64 of a public key begins with "RW" ("Ed", and the id of the key);
 * anything with a slash in front is a file. */
static char *take_public_key(struct config_parse *p, const struct config_at *at,
                             const char *text)
{
    struct minisign_key key;
    struct plt_error err;
    char *const copy =
        *text == '/' ? read_key(p, at, text) : config_copy(p, text);

    if (copy && minisign_key_parse(copy, &key, &err) != PLT_OK) {
        config_bad(p, at, "%s", err.text);
        free(copy);
        return NULL;
    }
    return copy;
}

void config_add_text(struct config_parse *p, const struct config_at *at,
                     enum config_texts_kind kind, const char *text)
{
    static char *(*const take[])(struct config_parse *,
                                 const struct config_at *, const char *) = {
        [CONFIG_SEEDS] = take_seed,
        [CONFIG_OUTPUTS] = take_output,
        [CONFIG_KEYS] = take_public_key};
    struct config_texts *const list = &p->config->mirrors.texts[kind];

    if (list->n == kinds[kind].most) {
        config_bad(p, at, "more than %zu %s", kinds[kind].most,
                   kinds[kind].many);
        return;
    }
    if (!*text) {
        config_bad(p, at, "is empty");
        return;
    }
    char *const taken = take[kind](p, at, text);
    if (taken)
        list->v[list->n++] = taken;
}

void config_mirrors_release(struct config_mirrors *m)
{
    for (size_t k = 0; k < CONFIG_TEXTS_KINDS; k++) {
        for (size_t i = 0; i < m->texts[k].n; i++)
            free(m->texts[k].v[i]);
    }
    free(m->advertise);
    *m = (struct config_mirrors){.advertise = NULL};
}

/* ---- Mirrors ---- */

/* Numbers may be texts with a suffix, or 30.0, as everywhere in the file. */
static void spell_numbers(json_t *row)
{
    static const char *const keys[] = {"bandwidth", "follow", "priority"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *const was = json_object_get(row, keys[i]);
        const char *const text = json_string_value(was);
        const double real = json_real_value(was);
        uint64_t v = 0;
        if (text ? plt_parse_bytes(text, &v) && v <= INT64_MAX
                 : json_is_real(was) && real >= -100 && real < 1e15 &&
                       (double)(int64_t)real == real)
            (void)json_object_set_new(
                row, keys[i],
                json_integer(text ? (json_int_t)v : (json_int_t)real));
    }
}

static void add_mirror(struct config_parse *p, const struct config_at *at,
                       const char *name, json_t *row)
{
    const uint64_t lost = json_memory_lost();

    spell_numbers(row);
    (void)json_object_set_new(row, "name", json_string(name));
    const char *const source =
        json_string_value(json_object_get(row, "source"));
    AUTO_JSON_TEXT char *text = json_dumps(row, JSON_COMPACT);
    if (!text || json_memory_lost() != lost) {
        config_bad(p, at, "out of memory");
        return;
    }
    const struct config_entry e = {
        .section = CONFIG_MIRRORS,
        .file = at->file,
        .named = {.name = config_copy(p, name),
                  .value = config_copy(p, source ? source : ""),
                  .labels = config_copy(p, text)}};
    config_add(p, at, &e);
}

void config_take_mirror(struct config_parse *p, const struct config_at *at,
                        json_t *row)
{
    if (!json_is_object(row)) {
        config_bad(p, at, "must be an object with a source, not %s",
                   config_type_name(row));
        return;
    }
    if (json_object_get(row, "name")) {
        const struct config_at deep = config_under(at, "name");
        config_bad(p, &deep, "unknown key"); /* it stands before the row */
    }
    json_t *const copy = json_copy(row);
    if (copy)
        add_mirror(p, at, at->path[1], copy);
    else
        config_bad(p, at, "out of memory");
    json_decref(copy);
}

void config_add_mirror(struct config_parse *p, const struct config_at *at,
                       const char *text)
{
    const char *const eq = strchr(text, '=');
    AUTO_FREE char *name = eq ? strndup(text, (size_t)(eq - text)) : NULL;

    if (!eq || eq == text || !eq[1] ||
        strcspn(text, "/:@") < (size_t)(eq - text)) {
        config_bad(p, at, "takes NAME=SOURCE");
        return;
    }
    json_t *const row = json_object();
    const struct config_at deep = {.n = 2,
                                   .path = {at->path[0], name ? name : ""}};
    if (name && json_object_set_new(row, "source", json_string(eq + 1)) == 0)
        add_mirror(p, &deep, name, row);
    else
        config_bad(p, at, "not a text in UTF-8, or out of memory");
    json_decref(row);
}

/* One key of a row by itself, so that each mistake is told. */
static void check_key(struct config_parse *p, const struct config_at *at,
                      const struct mirrors_config *mc, const char *key,
                      json_t *value)
{
    json_t *const row = json_pack("{s:s, s:s}", "name", "x", "source", "x/x");
    struct plt_error err;

    if (!row || json_object_set(row, key, value) != 0) {
        config_bad(p, at, "out of memory");
        json_decref(row);
        return;
    }
    const enum plt_status st = mirrors_check(mc, row, &err);
    if (st != PLT_OK)
        config_bad(p, at, "%s",
                   st == PLT_UNSUPPORTED ? "unknown key" : err.text);
    json_decref(row);
}

void config_check_mirror(struct config_parse *p, const struct config_at *at,
                         const struct config_entry *e)
{
    const struct mirrors_config mc = config_mirrors_given(p->config);
    const char *key;
    json_t *value;

    json_t *const row =
        json_memory_parse(e->named.labels, strlen(e->named.labels), 0, NULL);
    if (!row)
        config_bad(p, at, "out of memory");
    else if (!json_object_get(row, "source"))
        config_bad(p, at, "has no source");
    json_object_foreach(row, key, value)
    {
        const struct config_at deep = at->file ? config_under(at, key) : *at;
        if (strcmp(key, "name") != 0)
            check_key(p, &deep, &mc, key, value);
    }
    json_decref(row);
}

struct mirrors_config config_mirrors_given(const struct config *c)
{
    const struct config_mirrors *const m = &c->mirrors;
    const struct config_texts *const t = m->texts;

    return (struct mirrors_config){
        .state_dir = c->state_dir,
        .store_limit = m->store_limit,
        .compression = m->compression,
        .bandwidth = m->bandwidth,
        .scrub_rate = m->scrub_rate,
        .seeds = (const char *const *)t[CONFIG_SEEDS].v,
        .outputs = (const char *const *)t[CONFIG_OUTPUTS].v,
        .keys = t[CONFIG_KEYS].n ? (const char *const *)t[CONFIG_KEYS].v : NULL,
        .advertise = m->advertise};
}
