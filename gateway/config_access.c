/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of access.h, from the file's section "access" and from --access. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <platter/driver.h>

#include "config_file.h"
#include "stack/policy.h"
#include "util/auto.h"

enum { MAX_CERTIFICATE_NAME = 253 };

/* "2027-01-31T12:00:00Z", RFC 3339, in UTC; false: it is not that. */
static bool parse_time(const char *text, int64_t *out)
{
    struct tm tm = {.tm_isdst = 0};
    const char *const end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (!end || *end)
        return false;
    const time_t t = timegm(&tm);
    *out = t;
    return t > 0;
}

/* The key of a row, as it is, a newline at its end included: as a secret. */
static void load_key(struct config_parse *p, const struct config_at *at,
                     struct access_row *row)
{
    AUTO_FD int fd = open(row->key_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat sb;

    if (fd < 0 || fstat(fd, &sb) != 0) {
        config_bad(p, at, "%s: %s", row->key_file, strerror(errno));
        return;
    }
    if (!S_ISREG(sb.st_mode) || sb.st_size < SIGNATURE_KEY_LEAST ||
        sb.st_size > PLT_MAX_SECRET) {
        config_bad(p, at, "%s: a signing key is a file of %d to %d bytes",
                   row->key_file, SIGNATURE_KEY_LEAST, PLT_MAX_SECRET);
        return;
    }
    row->key = malloc((size_t)sb.st_size);
    if (!row->key) {
        config_bad(p, at, "out of memory");
        return;
    }
    row->key_len = (size_t)sb.st_size;
    if (pread(fd, row->key, row->key_len, 0) != (ssize_t)row->key_len)
        config_bad(p, at, "%s: cannot be read", row->key_file);
}

/* A name as certificates have them; "*." may stand in front. */
static bool certificate_name_ok(const char *text)
{
    const char *const name = strncmp(text, "*.", 2) == 0 ? text + 2 : text;
    const size_t n = strlen(name);

    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == '*')
            return false;
    }
    return n && n <= MAX_CERTIFICATE_NAME;
}

/* What is left of a token that was lost on its way to sha256sum. */
static const char of_nothing[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/* What the row asks for: one of these. */
static void take_kind(struct config_parse *p, const struct config_at *at,
                      struct access_row *row, enum access_kind kind,
                      const char *text)
{
    row->kind = kind;
    if (kind == ACCESS_TOKEN) {
        if (strcmp(text, of_nothing) == 0)
            config_bad(p, at, "is the SHA-256 of nothing");
        if (!access_digest(text, row->digest))
            config_bad(p, at,
                       "must be the SHA-256 of a token, 64 hexadecimal digits "
                       "in lower case");
    } else if (kind == ACCESS_CERTIFICATE) {
        if (!certificate_name_ok(text))
            config_bad(p, at, "must be a name, or *. and a domain");
        row->certificate = config_copy(p, text);
    } else {
        row->key_file = config_copy(p, text);
        if (row->key_file)
            load_key(p, at, row);
    }
}

/* The row by its name, once all that it says has been read. */
static void add_row(struct config_parse *p, const struct config_at *at,
                    struct access_row *row, bool has_kind)
{
    struct access_list *const list = &p->config->access;
    const bool is_anonymous = strcmp(row->name, "anonymous") == 0;
    const bool is_local = strcmp(row->name, "local") == 0;
    struct access_row *const grown =
        list->n < ACCESS_ROWS ? realloc(list->v, (list->n + 1) * sizeof(*grown))
                              : NULL;

    if (grown)
        list->v = grown;
    if (!policy_name_ok(row->name))
        config_bad(p, at,
                   "a name is 1 to 63 of letters, digits, . _ and -, a letter "
                   "or digit first");
    if (is_anonymous || is_local)
        row->kind = is_local ? ACCESS_LOCAL : ACCESS_ANONYMOUS;
    if ((is_anonymous || is_local) && has_kind)
        config_bad(p, at, "%s shows nothing: no token, certificate or key",
                   row->name);
    if (!is_anonymous && !is_local && !has_kind)
        config_bad(p, at,
                   "has none of token_sha256, certificate and signing_key");
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->v[i].name, row->name) == 0)
            config_bad(p, at, "the name is taken by another row");
    }
    if (!grown) {
        config_bad(p, at,
                   list->n < ACCESS_ROWS ? "out of memory"
                                         : "more than %d rows",
                   ACCESS_ROWS);
        access_row_release(row);
        return;
    }
    grown[list->n++] = *row;
}

/* ---- The file ---- */

static void take_scopes(struct config_parse *p, const struct config_at *at,
                        struct access_row *row, json_t *list)
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
        const char *const text = config_text_of(p, at, item);
        const unsigned scope =
            text && !strchr(text, ',') ? access_scopes(text) : 0;
        if (text && !scope)
            config_bad(p, at,
                       "must be of read, metadata, mirror, admin, not %s",
                       text);
        row->scopes |= scope;
    }
}

static void take_names(struct config_parse *p, const struct config_at *at,
                       struct access_names *names, json_t *list)
{
    json_t *item;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > ACCESS_PATTERNS) {
        config_bad(p, at, "must be an array of at most %d texts, not %s",
                   ACCESS_PATTERNS, config_type_name(list));
        return;
    }
    names->is_given = true;
    names->v = calloc(json_array_size(list) + 1, sizeof(*names->v));
    json_array_foreach(list, i, item)
    {
        const char *const text = config_text_of(p, at, item);
        if (text && names->v &&
            (names->v[names->n] = config_copy(p, text)) != NULL)
            names->n++;
    }
    if (!names->v)
        config_bad(p, at, "out of memory");
}

static const struct {
    const char *key;
    enum access_kind kind;
} kinds[] = {{"token_sha256", ACCESS_TOKEN},
             {"certificate", ACCESS_CERTIFICATE},
             {"signing_key", ACCESS_SIGNING_KEY}};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* True: it is what the row asks for. */
static bool take_key(struct config_parse *p, const struct config_at *at,
                     struct access_row *row, const char *key, json_t *json)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (strcmp(key, kinds[i].key) != 0)
            continue;
        const char *const text = config_text_of(p, at, json);
        if (text && row->kind != ACCESS_ANONYMOUS)
            config_bad(p, at, "the row has another of these already");
        else if (text)
            take_kind(p, at, row, kinds[i].kind, text);
        return true;
    }
    if (strcmp(key, "scopes") == 0) {
        take_scopes(p, at, row, json);
    } else if (strcmp(key, "images") == 0) {
        take_names(p, at, &row->images, json);
    } else if (strcmp(key, "secrets") == 0) {
        take_names(p, at, &row->secrets, json);
    } else if (strcmp(key, "expires") == 0) {
        const char *const text = config_text_of(p, at, json);
        if (text && !parse_time(text, &row->expires))
            config_bad(p, at, "must be a time as 2027-01-31T12:00:00Z, not %s",
                       text);
    } else {
        config_bad(p, at, "unknown key");
    }
    return false;
}

static void take_row(struct config_parse *p, const struct config_at *at,
                     const char *name, json_t *json)
{
    struct access_row row = {.name = config_copy(p, name),
                             .expires = INT64_MAX};
    bool has_kind = false;
    const char *key;
    json_t *value;

    if (!row.name)
        return;
    if (!json_is_object(json)) {
        config_bad(p, at, "must be an object with scopes, not %s",
                   config_type_name(json));
        access_row_release(&row);
        return;
    }
    json_object_foreach(json, key, value)
    {
        const struct config_at deep = config_under(at, key);
        has_kind = take_key(p, &deep, &row, key, value) || has_kind;
    }
    if (!json_object_get(json, "scopes"))
        config_bad(p, at, "has no scopes");
    add_row(p, at, &row, has_kind);
}

void config_take_access(struct config_parse *p, const struct config_at *at,
                        json_t *map)
{
    const char *name;
    json_t *row;

    if (!json_is_object(map)) {
        config_bad(p, at, "must be an object of names, not %s",
                   config_type_name(map));
        return;
    }
    json_object_foreach(map, name, row)
    {
        const struct config_at deep = config_under(at, name);
        take_row(p, &deep, name, row);
    }
}

/* ---- The flag ---- */

/* NAME=SCOPES[:KIND:VALUE] */
void config_add_access(struct config_parse *p, const struct config_at *at,
                       const char *text)
{
    static const char *const words[] = {"token", "certificate", "signing-key"};
    const char *const eq = strchr(text, '=');
    const char *const colon = eq ? strchr(eq, ':') : NULL;
    const char *const value = colon ? strchr(colon + 1, ':') : NULL;
    struct access_row row = {.expires = INT64_MAX};
    bool has_kind = false;

    row.name = eq ? strndup(text, (size_t)(eq - text)) : NULL;
    AUTO_FREE char *scopes =
        eq ? strndup(eq + 1, colon ? (size_t)(colon - eq - 1) : strlen(eq + 1))
           : NULL;
    const struct config_at deep = config_under(at, row.name ? row.name : "");
    row.scopes = scopes ? access_scopes(scopes) : 0;
    for (size_t i = 0; i < KINDS && value; i++) {
        const size_t n = (size_t)(value - colon - 1);
        if (strlen(words[i]) == n && memcmp(words[i], colon + 1, n) == 0) {
            take_kind(p, &deep, &row, kinds[i].kind, value + 1);
            has_kind = true;
        }
    }
    if (!row.name || (scopes && *scopes && !row.scopes) ||
        (colon && !has_kind)) {
        config_bad(p, at,
                   "takes NAME=SCOPE[,SCOPE][:token:SHA256 | "
                   ":certificate:NAME | :signing-key:FILE]");
        access_row_release(&row);
        return;
    }
    add_row(p, &deep, &row, has_kind);
}
