/* SPDX-License-Identifier: Apache-2.0 */
#include "config_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_where.h"
#include "stack/policy.h"
#include "stack/reference.h"

enum { MAX_FILE = 16 << 20 };

void config_bad(struct config_parse *p, const char *const *path, size_t n,
                const char *fmt, ...)
{
    char why[512], key[256] = "";
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    p->n_bad++;
    for (size_t i = 0; i < n; i++) {
        const size_t used = strlen(key);
        (void)snprintf(key + used, sizeof(key) - used, "%s%s",
                       i && path[i][0] != '[' ? "." : "", path[i]);
    }
    const unsigned line = n && p->text ? config_where(p->text, path, n) : 0;
    if (p->is_log) {
        struct log_line l;
        log_begin(&l, LOG_ERROR, "config_mistake");
        if (line) {
            log_text(&l, "file", p->file);
            log_number(&l, "line", line);
        }
        log_text(&l, "key", key);
        log_text(&l, "text", why);
        log_end(&l);
    } else if (line) {
        (void)fprintf(stderr, "platterd: %s:%u: %s: %s\n", p->file, line, key,
                      why);
    } else {
        (void)fprintf(stderr, "platterd: %s%s%s\n", key, n ? ": " : "", why);
    }
}

/* ---- Sections ---- */

static void take_origins(struct config_parse *p, json_t *map)
{
    const char *name, *key;
    json_t *row, *value;

    json_object_foreach(map, name, row)
    {
        const char *const path[] = {"origins", name, NULL};
        const char *base = NULL;
        if (!json_is_object(row)) {
            config_bad(p, path, 2, "an origin is an object with url or path");
            continue;
        }
        json_object_foreach(row, key, value)
        {
            const char *const deep[] = {"origins", name, key};
            const bool is_url = strcmp(key, "url") == 0;
            if (!is_url && strcmp(key, "path") != 0)
                config_bad(p, deep, 3, "unknown key");
            else if (!json_is_string(value))
                config_bad(p, deep, 3, "not a text");
            else if (base)
                config_bad(p, deep, 3, "url and path: an origin has one");
            else if (is_url !=
                     (strncmp(json_string_value(value), "http", 4) == 0))
                config_bad(p, deep, 3,
                           is_url ? "not an http or https URL"
                                  : "not a folder's path");
            base = json_is_string(value) ? json_string_value(value) : base;
        }
        if (!base)
            config_bad(p, path, 2, "has neither url nor path");
        else
            config_add(p, &p->config->origins, name, base, NULL, NULL);
    }
}

/* systemd.exec(5): a credential is a file in a folder of the unit's own. */
static char *credential_path(struct config_parse *p, const char *name,
                             const char *const *path)
{
    const char *const folder = getenv("CREDENTIALS_DIRECTORY");
    char text[4096];

    if (strchr(name, '/') || !*name || strcmp(name, "..") == 0) {
        config_bad(p, path, 3, "a credential's name has no slash");
        return NULL;
    }
    if (!folder) {
        config_bad(p, path, 3,
                   "CREDENTIALS_DIRECTORY is not set: no systemd unit?");
        return NULL;
    }
    (void)snprintf(text, sizeof(text), "%s/%s", folder, name);
    return strdup(text);
}

static void take_secrets(struct config_parse *p, json_t *map)
{
    const char *name, *key;
    json_t *row, *value;

    json_object_foreach(map, name, row)
    {
        const char *const path[] = {"secrets", name, NULL};
        char *file = NULL;
        unsigned n = 0;
        json_object_foreach(row, key, value)
        {
            const char *const deep[] = {"secrets", name, key};
            const bool is_file = strcmp(key, "file") == 0;
            if (!is_file && strcmp(key, "credential") != 0) {
                config_bad(p, deep, 3, "unknown key");
            } else if (!json_is_string(value)) {
                config_bad(p, deep, 3, "not a text");
            } else if (!n) {
                file = is_file
                           ? strdup(json_string_value(value))
                           : credential_path(p, json_string_value(value), deep);
            }
            n++;
        }
        if (n != 1)
            config_bad(p, path, 2, "a secret has a file or a credential");
        else if (file)
            config_add(p, &p->config->secrets, name, file, NULL, NULL);
        free(file);
    }
}

/* RFC 3986 unreserved stays, the rest is encoded; "key=value&" onto text. */
static void add_selector(char *text, size_t cap, const char *key,
                         const char *value)
{
    size_t n = strlen(text);
    n += (size_t)snprintf(text + n, cap - n, "%s%s=", n ? "&" : "", key);
    for (; *value && n + 4 < cap; value++)
        n += (size_t)snprintf(text + n, cap - n, "%%%02X",
                              (unsigned)(unsigned char)*value);
}

static bool is_selector(const char *key)
{
    static const char *const names[] = {"member", "snapshot", "partition",
                                        "layers", "secret"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], key) == 0)
            return true;
    }
    return false;
}

static void take_images(struct config_parse *p, json_t *map)
{
    const char *name, *key, *label;
    json_t *row, *value, *text;

    json_object_foreach(map, name, row)
    {
        const char *const path[] = {"images", name, NULL};
        char query[8192] = "", *labels = NULL;
        const char *source = NULL;
        if (!json_is_object(row)) {
            config_bad(p, path, 2, "an image is an object with a source");
            continue;
        }
        json_object_foreach(row, key, value)
        {
            const char *const deep[] = {"images", name, key, NULL};
            if (strcmp(key, "labels") == 0 && json_is_object(value)) {
                json_object_foreach(value, label, text)
                {
                    const char *const at[] = {"images", name, key, label};
                    if (!json_is_string(text))
                        config_bad(p, at, 4, "not a text");
                }
                labels = json_dumps(value, JSON_COMPACT);
            } else if (strcmp(key, "labels") == 0) {
                config_bad(p, deep, 3, "labels is an object of texts");
            } else if (strcmp(key, "source") != 0 && !is_selector(key)) {
                config_bad(p, deep, 3, "unknown key");
            } else if (!json_is_string(value)) {
                config_bad(p, deep, 3, "not a text");
            } else if (is_selector(key)) {
                add_selector(query, sizeof(query), key,
                             json_string_value(value));
            } else {
                source = json_string_value(value);
            }
        }
        if (source) {
            config_add(p, &p->config->images, name, source,
                       query[0] ? strdup(query) : NULL, labels);
        } else {
            config_bad(p, path, 2, "has no source");
            free(labels);
        }
    }
}

typedef void take_text_fn(struct config_parse *, const char *,
                          const char *const *, size_t);

static void take_texts(struct config_parse *p, const char *key, json_t *list,
                       take_text_fn *take)
{
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        char index[24];
        const char *const path[] = {key, index};
        (void)snprintf(index, sizeof(index), "[%zu]", i);
        if (json_is_string(item))
            take(p, json_string_value(item), path, 2);
        else
            config_bad(p, path, 2, "not a text");
    }
}

static void take_section(struct config_parse *p, const char *key, json_t *value)
{
    static const struct {
        const char *key;
        void (*take)(struct config_parse *, json_t *);
    } maps[] = {{"origins", take_origins},
                {"images", take_images},
                {"secrets", take_secrets}};
    static const struct {
        const char *key;
        take_text_fn *take;
    } lists[] = {{"listen", config_add_listen}, {"cors", config_add_cors}};
    const char *const path[] = {key};
    char text[24];

    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
        if (strcmp(key, maps[i].key) != 0)
            continue;
        if (json_is_object(value))
            maps[i].take(p, value);
        else
            config_bad(p, path, 1, "is an object: names and what they are");
        return;
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (strcmp(key, lists[i].key) != 0)
            continue;
        if (json_is_array(value))
            take_texts(p, key, value, lists[i].take);
        else
            config_bad(p, path, 1, "is an array of texts");
        return;
    }
    if (json_is_string(value)) {
        config_set(p, key, json_string_value(value), path, 1);
    } else if (json_is_integer(value)) {
        (void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT,
                       json_integer_value(value));
        config_set(p, key, text, path, 1);
    } else {
        config_bad(p, path, 1, "is a text or a whole number");
    }
}

/* The file's text; new, NULL: told why. */
static char *read_file(struct config_parse *p, const char *file)
{
    FILE *const f = fopen(file, "re");
    char *const text = f ? calloc(1, MAX_FILE + 1) : NULL;
    const size_t n = text ? fread(text, 1, MAX_FILE + 1, f) : 0;
    const bool is_good = text && !ferror(f) && n <= MAX_FILE;

    if (!is_good)
        config_bad(p, NULL, 0, "%s: %s", file,
                   n > MAX_FILE ? "larger than 16 MiB" : "cannot be read");
    if (f)
        (void)fclose(f);
    if (!is_good) {
        free(text);
        return NULL;
    }
    return text;
}

void config_take_file(struct config_parse *p, const char *file)
{
    json_error_t why;
    const char *key;
    json_t *value;
    char *const text = read_file(p, file);

    if (!text)
        return;
    json_t *const root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    free(p->text);
    p->file = file;
    p->text = text;
    if (!root)
        config_bad(p, NULL, 0, "%s:%d: %s", file, why.line, why.text);
    else if (!json_is_object(root))
        config_bad(p, NULL, 0, "%s:1: the file is one JSON object", file);
    else
        json_object_foreach(root, key, value) take_section(p, key, value);
    json_decref(root);
}

/* ---- Names ---- */

static bool is_named(const struct config_list *list, const char *name,
                     size_t len)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strlen(list->v[i].name) == len &&
            memcmp(list->v[i].name, name, len) == 0)
            return true;
    }
    return false;
}

/* Whether policy would take it. */
static void check_origins(struct config_parse *p)
{
    struct policy *const policy = policy_new(false);
    struct plt_error err;

    for (size_t i = 0; policy && i < p->config->origins.n; i++) {
        const struct config_named *const o = &p->config->origins.v[i];
        const char *const path[] = {"origins", o->name};
        if (policy_add_origin(policy, o->name, o->value, &err) != PLT_OK)
            config_bad(p, path, 2, "%s", err.text);
    }
    policy_free(policy);
}

static void check_image(struct config_parse *p, const struct config_named *im)
{
    const char *const path[] = {"images", im->name, "source"};
    struct reference r;
    struct plt_error err;

    if (!policy_name_ok(im->name))
        config_bad(p, path, 2, "a name has letters, digits, . _ - only");
    if (is_named(&p->config->origins, im->name, strlen(im->name)))
        config_bad(p, path, 2, "an origin has this name");
    if (reference_parse(&r, im->value, im->selectors, NULL, &err) != PLT_OK) {
        config_bad(p, path, 3, "%s", err.text);
        return;
    }
    if (!is_named(&p->config->origins, r.target, strcspn(r.target, "/")) ||
        !strchr(r.target, '/'))
        config_bad(p, path, 3, "%.80s is not in any origin: ORIGIN/PATH",
                   im->value);
    reference_release(&r);
}

void config_check_names(struct config_parse *p)
{
    struct config *const c = p->config;

    check_origins(p);
    for (size_t i = 0; i < c->images.n; i++)
        check_image(p, &c->images.v[i]);
    for (size_t i = 0; i < c->secrets.n; i++) {
        const struct config_named *const s = &c->secrets.v[i];
        const char *const path[] = {"secrets", s->name};
        if (!policy_name_ok(s->name))
            config_bad(p, path, 2, "a name has letters, digits, . _ - only");
        if (access(s->value, R_OK) != 0)
            config_bad(p, path, 2, "%.200s cannot be read", s->value);
    }
}
