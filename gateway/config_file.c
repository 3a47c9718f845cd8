/* SPDX-License-Identifier: Apache-2.0 */
/* The file section by section, then the names of all sections together. */
#include "config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <platter/driver.h>

#include "config_where.h"
#include "stack/address.h"
#include "stack/catalogue.h"
#include "stack/json_text.h"
#include "stack/policy.h"
#include "stack/reference.h"
#include "util/auto.h"
#include "stack/json_memory.h"

enum {
    MAX_FILE = 16 << 20,  /* 8192 images with labels of 2 KiB */
    MAX_LABEL_NAME = 255, /* as catalogue.c, of those that are registered */
    MAX_LABEL = 4095,
    MAX_CREDENTIAL = 255 /* the name of a file */
};

static const char *const sections[] = {"origins", "images", "secrets",
                                       "mirrors"};

/* ---- Values ---- */

const char *config_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

struct config_at config_under(const struct config_at *at, const char *key)
{
    struct config_at deep = *at;

    if (deep.n < CONFIG_WHERE_DEPTH)
        deep.path[deep.n++] = key;
    return deep;
}

const char *config_text_of(struct config_parse *p, const struct config_at *at,
                           json_t *value)
{
    if (!json_is_string(value))
        config_bad(p, at, "must be a text, not %s", config_type_name(value));
    return json_string_value(value);
}

static bool is_http(const char *text)
{
    return strncmp(text, "http://", 7) == 0 ||
           strncmp(text, "https://", 8) == 0;
}

/* Policy's own words, which begin with the name that it was told. */
static void check_url(struct config_parse *p, const struct config_at *at,
                      const char *url)
{
    static const char begin[] = "origin x: ";
    struct policy *const policy = policy_new(false);
    struct plt_error err;

    if (!policy) {
        config_bad(p, at, "out of memory");
    } else if (policy_add_origin(policy, "x", url, &err) != PLT_OK) {
        const size_t n = sizeof(begin) - 1;
        const bool has_begin = strncmp(err.text, begin, n) == 0;
        config_bad(p, at, "must be %s", err.text + (has_begin ? n : 0));
    }
    policy_free(policy);
}

static void check_folder(struct config_parse *p, const struct config_at *at,
                         const char *path)
{
    struct stat sb;

    if (*path != '/')
        config_bad(p, at, "is not an absolute path: %s", path);
    else if (stat(path, &sb) != 0)
        config_bad(p, at, "%s: %s", path, strerror(errno));
    else if (!S_ISDIR(sb.st_mode))
        config_bad(p, at, "%s: not a folder", path);
    else if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
        config_bad(p, at, "%s: %s", path, strerror(errno));
}

/* A pipe is left alone: who reads it takes it from the server. */
static void check_secret(struct config_parse *p, const struct config_at *at,
                         const char *path)
{
    struct stat sb;

    if (stat(path, &sb) != 0 ||
        faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) != 0)
        config_bad(p, at, "%s: %s", path, strerror(errno));
    else if (S_ISDIR(sb.st_mode))
        config_bad(p, at, "%s: a folder, not a file", path);
    else if (S_ISREG(sb.st_mode) &&
             (sb.st_size < 1 || sb.st_size > PLT_MAX_SECRET))
        config_bad(p, at, "%s: a key has 1 to %d bytes, not %jd", path,
                   PLT_MAX_SECRET, (intmax_t)sb.st_size);
}

static void check_addresses(struct config_parse *p, const struct config_at *at,
                            const char *blocks)
{
    struct plt_error err;

    if (address_check(blocks, &err) != PLT_OK)
        config_bad(p, at, "%s", err.text);
}

/* The file is there; of header fields, all of them are some. */
static void check_credential(struct config_parse *p, const struct config_at *at,
                             enum config_section section, const char *file)
{
    struct policy *const policy = policy_new(false);
    struct plt_error err = {.status = PLT_OK};
    struct stat sb;

    if (!policy || policy_add_origin(policy, "x", "http://x/", &err) != PLT_OK)
        config_bad(p, at, "out of memory");
    else if (stat(file, &sb) != 0 || !S_ISREG(sb.st_mode))
        config_bad(p, at, "%s: %s", file, "not a file");
    else if (policy_set_credential(
                 policy, "x", (enum plt_credential)(section - CONFIG_HEADERS),
                 file, &err) != PLT_OK)
        config_bad(p, at, "%s", err.text);
    policy_free(policy);
}

bool config_is_url(struct config_parse *p, const struct config_at *at,
                   const char *text)
{
    const unsigned n_bad = p->n_bad;

    if (!is_http(text))
        config_bad(p, at, "must be an http(s) URL, not %s", text);
    else
        check_url(p, at, text);
    return p->n_bad == n_bad;
}

void config_check_value(struct config_parse *p, const struct config_at *at,
                        enum config_section section, const char *value)
{
    if (section == CONFIG_SECRETS)
        check_secret(p, at, value);
    else if (section == CONFIG_ADDRESSES)
        check_addresses(p, at, value);
    else if (section >= CONFIG_HEADERS)
        check_credential(p, at, section, value);
    else if (section == CONFIG_ORIGINS && is_http(value))
        check_url(p, at, value);
    else if (section == CONFIG_ORIGINS && *value == '/')
        check_folder(p, at, value);
    else if (section == CONFIG_ORIGINS)
        config_bad(p, at, "must be an http(s) URL or an absolute folder");
}

/* ---- Origins and secrets: one of two keys ---- */

/* url of an origin; anything else is path's to complain of. */
static char *origin_url(struct config_parse *p, const struct config_at *at,
                        const char *text)
{
    if (is_http(text))
        check_url(p, at, text);
    else /* not told: there may be a password in it */
        config_bad(p, at, "does not begin with http:// or https://");
    return config_copy(p, text);
}

static char *origin_path(struct config_parse *p, const struct config_at *at,
                         const char *text)
{
    check_folder(p, at, text);
    return config_copy(p, text);
}

static char *secret_file(struct config_parse *p, const struct config_at *at,
                         const char *text)
{
    check_secret(p, at, text);
    return config_copy(p, text);
}

/* systemd.exec(5): a credential is a file in a folder of the unit's own. */
static char *secret_credential(struct config_parse *p,
                               const struct config_at *at, const char *text)
{
    const char *const folder = getenv("CREDENTIALS_DIRECTORY");

    if (!*text || strchr(text, '/') || strlen(text) > MAX_CREDENTIAL ||
        strcmp(text, ".") == 0 || strcmp(text, "..") == 0) {
        config_bad(p, at, "must be a name of at most %d bytes, without a slash",
                   MAX_CREDENTIAL);
        return NULL;
    }
    if (!folder || *folder != '/') {
        config_bad(p, at,
                   "CREDENTIALS_DIRECTORY is not set: credentials come "
                   "from a systemd unit");
        return NULL;
    }
    const size_t size = strlen(folder) + strlen(text) + 2;
    char *const path = malloc(size);
    if (!path) {
        config_bad(p, at, "out of memory");
        return NULL;
    }
    (void)snprintf(path, size, "%s/%s", folder, text);
    check_secret(p, at, path);
    return path;
}

struct one_of_two {
    const char *key;
    char *(*take)(struct config_parse *, const struct config_at *,
                  const char *); /* the entry's value, new; NULL: told */
};

/* The addresses of an origin, as one text with commas. */
static void take_addresses(struct config_parse *p, const struct config_at *at,
                           json_t *list)
{
    const unsigned n_bad = p->n_bad;
    char *text = NULL;
    size_t len = 0, i;
    json_t *item;
    FILE *const out = open_memstream(&text, &len);

    if (!json_is_array(list) || !json_array_size(list))
        config_bad(p, at, "must be an array of addresses, not %s",
                   json_is_array(list) ? "an empty one"
                                       : config_type_name(list));
    json_array_foreach(list, i, item)
    {
        char index[24];
        (void)snprintf(index, sizeof(index), "[%zu]", i);
        const struct config_at deep = config_under(at, index);
        const char *const block = config_text_of(p, &deep, item);
        if (block)
            check_addresses(p, &deep, block);
        if (block && out)
            (void)fprintf(out, "%s%s", i ? "," : "", block);
    }
    if (!out || fclose(out) != 0)
        config_bad(p, at, "out of memory");
    else if (p->n_bad == n_bad)
        check_addresses(p, at, text);
    const struct config_entry e = {
        .section = CONFIG_ADDRESSES,
        .file = at->file,
        .named = {.name = config_copy(p, at->path[1]),
                  .value = text ? text : config_copy(p, "")},
        .is_bad = p->n_bad != n_bad};
    config_add(p, at, &e);
}

static const char *const credential_keys[] = {"headers", "ca", "certificate"};

/* SECTIONS: the key is none of these. */
static enum config_section credential_of(const char *key)
{
    for (unsigned i = 0; i < CONFIG_CREDENTIALS; i++) {
        if (strcmp(key, credential_keys[i]) == 0)
            return (enum config_section)(CONFIG_HEADERS + i);
    }
    return CONFIG_SECTIONS;
}

static void take_credential(struct config_parse *p, const struct config_at *at,
                            enum config_section section, json_t *json)
{
    const unsigned n_bad = p->n_bad;
    const char *const file = config_text_of(p, at, json);

    if (file)
        check_credential(p, at, section, file);
    const struct config_entry e = {
        .section = section,
        .file = at->file,
        .named = {.name = config_copy(p, at->path[1]),
                  .value = config_copy(p, file ? file : "")},
        .is_bad = p->n_bad != n_bad};
    config_add(p, at, &e);
}

/* One key of such a row, *value being what was taken before, or NULL. */
static void take_either(struct config_parse *p, const struct config_at *at,
                        const struct one_of_two rows[2], const char *key,
                        json_t *json, char **value)
{
    const struct config_at deep = config_under(at, key);
    const bool is_first = strcmp(key, rows[0].key) == 0;

    if (!is_first && strcmp(key, rows[1].key) != 0) {
        config_bad(p, &deep, "unknown key");
        return;
    }
    const char *const text = config_text_of(p, &deep, json);
    if (text) {
        free(*value);
        *value = rows[!is_first].take(p, &deep, text);
    }
}

/* The name counts even when the row is bad, so that what refers to it is not
 * told as well. */
static void take_pair(struct config_parse *p, const struct config_at *at,
                      enum config_section section, json_t *row)
{
    static const struct one_of_two rows[][2] = {
        [CONFIG_ORIGINS] = {{"url", origin_url}, {"path", origin_path}},
        [CONFIG_SECRETS] = {{"file", secret_file},
                            {"credential", secret_credential}}};
    const char *const a = rows[section][0].key, *const b = rows[section][1].key;
    const unsigned n_bad = p->n_bad;
    char *value = NULL;
    const char *key;
    json_t *json;

    if (!json_is_object(row))
        config_bad(p, at, "must be an object with %s or %s, not %s", a, b,
                   config_type_name(row));
    else if (json_object_get(row, a) && json_object_get(row, b))
        config_bad(p, at, "has both %s and %s", a, b);
    else if (!json_object_get(row, a) && !json_object_get(row, b))
        config_bad(p, at, "has neither %s nor %s", a, b);
    json_object_foreach(row, key, json)
    {
        const struct config_at deep = config_under(at, key);
        const enum config_section of = credential_of(key);
        if (section == CONFIG_ORIGINS && strcmp(key, "addresses") == 0)
            take_addresses(p, &deep, json);
        else if (section == CONFIG_ORIGINS && of != CONFIG_SECTIONS)
            take_credential(p, &deep, of, json);
        else
            take_either(p, at, rows[section], key, json, &value);
    }
    const struct config_entry e = {
        .section = section,
        .file = at->file,
        .named = {.name = config_copy(p, at->path[1]),
                  .value = value ? value : config_copy(p, "")},
        .is_bad = p->n_bad != n_bad};
    config_add(p, at, &e);
}

/* ---- Images ---- */

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

/* "&key=value", all but RFC 3986's unreserved characters encoded. */
static void write_selector(FILE *out, const char *key, const char *value)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

    (void)fprintf(out, "%s%s=", ftell(out) > 0 ? "&" : "", key);
    for (; *value; value++) {
        if (strchr(plain, *value))
            (void)fputc(*value, out);
        else
            (void)fprintf(out, "%%%02X", (unsigned)(unsigned char)*value);
    }
}

static void check_label(struct config_parse *p, const struct config_at *at,
                        const char *label, json_t *json)
{
    const struct config_at deep = config_under(at, label);
    const char *const text = config_text_of(p, &deep, json);

    if (strlen(label) > MAX_LABEL_NAME)
        config_bad(p, &deep, "a label's name has at most %d bytes",
                   MAX_LABEL_NAME);
    if (text && strlen(text) > MAX_LABEL)
        config_bad(p, &deep, "has more than %d bytes", MAX_LABEL);
}

/* As JSON text; new, NULL: told. */
static char *take_labels(struct config_parse *p, const struct config_at *at,
                         json_t *map)
{
    const char *label;
    json_t *json;

    if (!json_is_object(map)) {
        config_bad(p, at, "must be an object of texts, not %s",
                   config_type_name(map));
        return NULL;
    }
    if (json_object_size(map) > CATALOGUE_MAX_LABELS)
        config_bad(p, at, "has more than %d labels", CATALOGUE_MAX_LABELS);
    json_object_foreach(map, label, json)
    {
        check_label(p, at, label, json);
    }
    AUTO_JSON_TEXT char *text = json_dumps(map, JSON_COMPACT);
    if (text)
        return config_copy(p, text);
    config_bad(p, at, "out of memory");
    return NULL;
}

/* What one image says, while it is read. */
struct image_row {
    struct reference r; /* its selectors, to see whether they are well formed */
    FILE *query;
    char *labels;
    const char *source; /* borrowed */
};

static void take_image_key(struct config_parse *p, const struct config_at *at,
                           struct image_row *row, const char *key, json_t *json)
{
    struct plt_error err;

    if (strcmp(key, "labels") == 0) {
        row->labels = take_labels(p, at, json);
        return;
    }
    if (strcmp(key, "source") != 0 && !is_selector(key)) {
        config_bad(p, at, "unknown key");
        return;
    }
    const char *const text = config_text_of(p, at, json);
    if (!is_selector(key))
        row->source = text ? text : "";
    else if (text && reference_select(&row->r, key, text, &err) != PLT_OK)
        config_bad(p, at, "%s", err.text);
    else if (text)
        write_selector(row->query, key, text);
}

static void take_image_row(struct config_parse *p, const struct config_at *at,
                           struct image_row *row, json_t *json)
{
    const char *key;
    json_t *value;

    if (!json_is_object(json)) {
        config_bad(p, at, "must be an object with a source, not %s",
                   config_type_name(json));
        return;
    }
    json_object_foreach(json, key, value)
    {
        const struct config_at deep = config_under(at, key);
        take_image_key(p, &deep, row, key, value);
    }
    if (!row->source)
        config_bad(p, at, "has no source");
}

static void take_image(struct config_parse *p, const struct config_at *at,
                       json_t *json)
{
    const unsigned n_bad = p->n_bad;
    char *query = NULL;
    size_t len = 0;
    struct image_row row = {.query = open_memstream(&query, &len)};

    if (row.query)
        take_image_row(p, at, &row, json);
    if (!row.query || fclose(row.query) != 0)
        config_bad(p, at, "out of memory");
    const struct config_entry e = {
        .section = CONFIG_IMAGES,
        .file = at->file,
        .named = {.name = config_copy(p, at->path[1]),
                  .value = config_copy(p, row.source ? row.source : ""),
                  .selectors = len ? STEAL(query) : NULL,
                  .labels = row.labels},
        .is_bad = p->n_bad != n_bad};
    free(query);
    reference_release(&row.r);
    config_add(p, at, &e);
}

/* ---- The file ---- */

static void take_map(struct config_parse *p, const struct config_at *at,
                     enum config_section section, json_t *map)
{
    const char *name;
    json_t *row;

    if (!json_is_object(map)) {
        p->is_partial = true;
        config_bad(p, at, "must be an object of names, not %s",
                   config_type_name(map));
        return;
    }
    json_object_foreach(map, name, row)
    {
        const struct config_at deep = config_under(at, name);
        if (section == CONFIG_IMAGES)
            take_image(p, &deep, row);
        else if (section == CONFIG_MIRRORS)
            config_take_mirror(p, &deep, row);
        else
            take_pair(p, &deep, section, row);
    }
}

typedef void take_text_fn(struct config_parse *, const struct config_at *,
                          const char *);

static void take_seed(struct config_parse *p, const struct config_at *at,
                      const char *text)
{
    config_add_text(p, at, CONFIG_SEEDS, text);
}

static void take_output(struct config_parse *p, const struct config_at *at,
                        const char *text)
{
    config_add_text(p, at, CONFIG_OUTPUTS, text);
}

static void take_mirror_key(struct config_parse *p, const struct config_at *at,
                            const char *text)
{
    config_add_text(p, at, CONFIG_KEYS, text);
}

static void take_texts(struct config_parse *p, const struct config_at *at,
                       take_text_fn *take, json_t *list)
{
    json_t *item;
    size_t i;

    if (!json_is_array(list)) {
        config_bad(p, at, "must be an array of texts, not %s",
                   config_type_name(list));
        return;
    }
    json_array_foreach(list, i, item)
    {
        char index[24];
        (void)snprintf(index, sizeof(index), "[%zu]", i);
        const struct config_at deep = config_under(at, index);
        const char *const text = config_text_of(p, &deep, item);
        if (text)
            take(p, &deep, text);
    }
}

/* A number as text: 30, and 30.0 or 3e1, which are the same to JSON. */
static bool format_number(const json_t *value, char *out, size_t cap)
{
    const double real = json_real_value(value);

    if (json_is_integer(value)) {
        (void)snprintf(out, cap, "%" JSON_INTEGER_FORMAT,
                       json_integer_value(value));
        return true;
    }
    /* up to 2^53 a double holds every integer */
    const bool is_small =
        real > -9007199254740992.0 && real < 9007199254740992.0;
    (void)snprintf(out, cap, is_small ? "%.0f" : "%.17g", real);
    return json_is_real(value) && (!is_small || (double)(int64_t)real == real);
}

static void take_single(struct config_parse *p, const struct config_at *at,
                        const char *key, json_t *value)
{
    bool takes_number;
    char text[48];

    if (!config_knows(key, &takes_number))
        config_bad(p, at, "unknown key");
    else if (json_is_string(value))
        config_set(p, at, key, json_string_value(value));
    else if (takes_number && format_number(value, text, sizeof(text)))
        config_set(p, at, key, text);
    else
        config_bad(p, at, "must be a %s, not %s",
                   takes_number ? "whole number" : "text",
                   json_is_real(value) ? "a fraction"
                                       : config_type_name(value));
}

static void take_key(struct config_parse *p, const struct config_at *at,
                     const char *key, json_t *value)
{
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if (strcmp(key, sections[i]) == 0) {
            take_map(p, at, (enum config_section)i, value);
            return;
        }
    }
    static const struct {
        const char *key;
        take_text_fn *take;
    } lists[] = {
        {"listen", config_add_listen},    {"cors", config_add_cors},
        {"siblings", config_add_sibling}, {"seeds", take_seed},
        {"outputs", take_output},         {"mirror_keys", take_mirror_key}};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (strcmp(key, lists[i].key) == 0) {
            take_texts(p, at, lists[i].take, value);
            return;
        }
    }
    if (strcmp(key, "access") == 0)
        config_take_access(p, at, value);
    else
        take_single(p, at, key, value);
}

/* The file's text, *len bytes and a NUL; new.  NULL: *why. */
static char *read_file(const char *file, size_t *len, const char **why)
{
    FILE *const f = fopen(file, "re");
    char *const text = f ? malloc(MAX_FILE + 2) : NULL;

    *why = f ? "out of memory" : strerror(errno);
    *len = text ? fread(text, 1, MAX_FILE + 1, f) : 0;
    const int e = text && ferror(f) ? errno : 0;
    if (f)
        (void)fclose(f);
    if (!text)
        return NULL;
    if (!e && *len <= MAX_FILE) {
        text[*len] = '\0';
        return text;
    }
    *why = e ? strerror(e) : "is larger than 16 MiB";
    free(text);
    return NULL;
}

static void tell_twice(void *cookie, const char *const *path, size_t n,
                       unsigned line, unsigned first)
{
    struct config_parse *const p = (struct config_parse *)cookie;
    struct config_at at = {.file = p->n_files, .n = n};

    memcpy(at.path, path, n * sizeof(*path));
    config_bad_line(p, &at, line, "given twice, before in line %u", first);
}

static void take_root(struct config_parse *p, const struct config_at *at,
                      json_t *root)
{
    const char *key;
    json_t *value;

    if (!json_is_object(root)) {
        config_bad_line(p, at, 1, "the file is one object, not %s",
                        config_type_name(root));
        p->is_partial = true;
        return;
    }
    if (!config_where_twice(p->files[at->file - 1].text, tell_twice, p))
        config_bad_line(p, at, 0, "out of memory");
    json_object_foreach(root, key, value)
    {
        const struct config_at deep = config_under(at, key);
        take_key(p, &deep, key, value);
    }
}

size_t config_add_file(struct config_parse *p, const char *file)
{
    struct config_text *const grown =
        realloc(p->files, (p->n_files + 1) * sizeof(*grown));

    if (grown)
        p->files = grown;
    char *const name = grown ? strdup(file) : NULL;
    if (!name)
        return 0;
    p->files[p->n_files++] = (struct config_text){.name = name};
    return p->n_files;
}

void config_take_file(struct config_parse *p, const char *file)
{
    const struct config_at at = {.file = config_add_file(p, file)};
    const char *why = "out of memory";
    json_error_t error;
    size_t len = 0;

    char *const text = at.file ? read_file(file, &len, &why) : NULL;
    if (!text) {
        config_bad_line(p, &at, 0, "%s", why);
        p->is_partial = true;
        return;
    }
    p->files[at.file - 1].text = text;
    json_t *const root = json_memory_parse(text, len, 0, &error);
    if (root) {
        take_root(p, &at, root);
    } else {
        config_bad_line(p, &at, error.line > 0 ? (unsigned)error.line : 1, "%s",
                        error.text);
        p->is_partial = true;
    }
    json_decref(root);
}

/* ---- Names, all together ---- */

/* Entries by section and name; of equal ones the first given first. */
struct names {
    const struct config_entry **v; /* new; its items borrowed */
    size_t n;
};

static int by_name(const void *a, const void *b)
{
    const struct config_entry *const *const x =
        (const struct config_entry *const *)a;
    const struct config_entry *const *const y =
        (const struct config_entry *const *)b;
    const int c = (*x)->section == (*y)->section
                      ? strcmp((*x)->named.name, (*y)->named.name)
                      : (int)(*x)->section - (int)(*y)->section;

    return c ? c : (*x > *y) - (*x < *y);
}

/* entry against a section and a name of len bytes, as by_name. */
static int compare(const struct config_entry *e, enum config_section section,
                   const char *name, size_t len)
{
    if (e->section != section)
        return (int)e->section - (int)section;
    const int c = strncmp(e->named.name, name, len);
    return c ? c : e->named.name[len] != '\0';
}

/* The first that has the name; NULL: none. */
static const struct config_entry *find(const struct names *names,
                                       enum config_section section,
                                       const char *name, size_t len)
{
    size_t low = 0, high = names->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (compare(names->v[mid], section, name, len) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < names->n && !compare(names->v[low], section, name, len)
               ? names->v[low]
               : NULL;
}

static struct config_at place(const struct config_entry *e)
{
    static const char *const flags[] = {
        "--origin",        "--image",
        "--secret",        "--mirror",
        "--allow-address", "--origin-headers",
        "--origin-ca",     "--origin-certificate"};

    if (e->section >= CONFIG_ADDRESSES && e->file)
        return (struct config_at){
            .file = e->file,
            .n = 3,
            .path = {sections[CONFIG_ORIGINS], e->named.name,
                     e->section == CONFIG_ADDRESSES
                         ? "addresses"
                         : credential_keys[e->section - CONFIG_HEADERS]}};
    return (struct config_at){
        .file = e->file,
        .n = 2,
        .path = {(e->file ? sections : flags)[e->section], e->named.name}};
}

/* Their names stand in one place of a URL. */
static bool is_disk(enum config_section section)
{
    return section == CONFIG_ORIGINS || section == CONFIG_IMAGES ||
           section == CONFIG_MIRRORS;
}

static void check_name(struct config_parse *p, const struct names *names,
                       const struct config_entry *e)
{
    static const char *const what[] = {"an origin",
                                       "an image",
                                       "a secret",
                                       "a mirror",
                                       "another list of addresses",
                                       "another file of header fields",
                                       "another file of authorities",
                                       "another certificate"};
    const struct config_at at = place(e);
    const char *const name = e->named.name;

    if (!policy_name_ok(name))
        config_bad(p, &at,
                   "a name is 1 to 63 of letters, digits, . _ and -, a letter "
                   "or digit first");
    const struct config_entry *taken = NULL;
    for (unsigned s = 0; s < CONFIG_SECTIONS; s++) {
        const struct config_entry *const other =
            s == e->section ||
                    (is_disk(e->section) && is_disk((enum config_section)s))
                ? find(names, (enum config_section)s, name, strlen(name))
                : NULL;
        if (other && other < e && (!taken || s == e->section))
            taken = other;
    }
    if (taken)
        config_bad(p, &at, "the name is taken by %s", what[taken->section]);
}

/* Every name in "a,b" is a configured secret's. */
static void check_secrets(struct config_parse *p, const struct names *names,
                          const struct config_at *at, const char *list)
{
    while (*list) {
        const size_t n = strcspn(list, ",");
        if (n && !find(names, CONFIG_SECRETS, list, n))
            config_bad(p, at, "no secret is named %.*s", (int)(n < 64 ? n : 64),
                       list);
        list += n + (list[n] == ',');
    }
}

static void check_reference(struct config_parse *p, const struct names *names,
                            const struct config_entry *e,
                            const struct reference *r)
{
    const struct config_at at = place(e);
    const struct config_at source = e->file ? config_under(&at, "source") : at;
    const struct config_at secret =
        e->file && e->named.selectors && strstr(e->named.selectors, "secret=")
            ? config_under(&at, "secret")
            : source;
    const size_t len = strcspn(r->target, "/");

    if (!r->target[len])
        config_bad(p, &source, "must be ORIGIN/PATH, not %.64s", r->target);
    else if (!find(names, CONFIG_ORIGINS, r->target, len))
        config_bad(p, &source, "no origin is named %.*s",
                   (int)(len < 64 ? len : 64), r->target);
    if (r->secret)
        check_secrets(p, names, &secret, r->secret);
}

static void check_image(struct config_parse *p, const struct names *names,
                        const struct config_entry *e)
{
    const struct config_at at = place(e);
    const struct config_at source = e->file ? config_under(&at, "source") : at;
    struct reference r;
    struct plt_error err;

    if (reference_parse(&r, e->named.value, e->named.selectors, NULL, &err) !=
        PLT_OK) {
        config_bad(p, &source, "%s", err.text);
        return;
    }
    /* What a file that was not taken would have named is not known. */
    if (!p->is_partial)
        check_reference(p, names, e, &r);
    reference_release(&r);
}

/* The origin of ORIGIN/PATH, if it is one. */
static void check_origin(struct config_parse *p, const struct names *names,
                         const struct config_at *at, const char *reference)
{
    const size_t len = strcspn(reference, "/");

    if (reference[len] && !is_http(reference) && !p->is_partial &&
        !find(names, CONFIG_ORIGINS, reference, len))
        config_bad(p, at, "no origin is named %.*s", (int)(len < 64 ? len : 64),
                   reference);
}

static void check_mirror(struct config_parse *p, const struct names *names,
                         const struct config_entry *e)
{
    const struct config_at at = place(e);
    const struct config_at source = e->file ? config_under(&at, "source") : at;

    config_check_mirror(p, &at, e);
    check_origin(p, names, &source, e->named.value);
}

static void check_origin_of(struct config_parse *p, const struct names *names,
                            const struct config_entry *e)
{
    const struct config_at at = place(e);
    const struct config_entry *const origin =
        find(names, CONFIG_ORIGINS, e->named.name, strlen(e->named.name));

    if (!origin && !p->is_partial)
        config_bad(p, &at, "no origin is named %.63s", e->named.name);
    else if (origin && !origin->is_bad && !is_http(origin->named.value))
        config_bad(p, &at, "origin %.63s is a folder", e->named.name);
}

void config_check(struct config_parse *p)
{
    struct names names = {
        .v = malloc((p->n_entries + 1) * sizeof(struct config_entry *)),
        .n = p->n_entries};

    if (!names.v) {
        config_bad(p, &(struct config_at){.n = 1, .path = {"configuration"}},
                   "out of memory");
        return;
    }
    for (size_t i = 0; i < names.n; i++)
        names.v[i] = &p->entries[i];
    qsort(names.v, names.n, sizeof(struct config_entry *), by_name);
    for (size_t i = 0; i < p->n_entries; i++) {
        const struct config_entry *const e = &p->entries[i];
        check_name(p, &names, e);
        if (e->section == CONFIG_IMAGES && !e->is_bad)
            check_image(p, &names, e);
        else if (e->section == CONFIG_MIRRORS)
            check_mirror(p, &names, e);
        else if (e->section >= CONFIG_ADDRESSES && !e->is_bad)
            check_origin_of(p, &names, e);
    }
    const struct config_texts *const seeds =
        &p->config->mirrors.texts[CONFIG_SEEDS];
    for (size_t i = 0; i < seeds->n; i++)
        check_origin(p, &names, &(struct config_at){.n = 1, .path = {"seeds"}},
                     seeds->v[i]);
    free(names.v);
}
