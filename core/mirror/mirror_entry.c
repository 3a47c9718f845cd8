/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a mirror, from JSON and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror_inside.h"
#include "stack/policy.h"

enum {
    PRIORITY_MAX = 100,
    FOLLOW_MIN_S = 5,
    FOLLOW_MAX_S = 30 * 86400,
    SOURCE_MAX = 4096,
    DAY_MIN = 24 * 60
};

static enum plt_status take_text(json_t *value, const char *key, char **slot,
                                 struct plt_error *err)
{
    if (!json_is_string(value) || json_string_length(value) > SOURCE_MAX ||
        strlen(json_string_value(value)) != json_string_length(value))
        return plt_fail(err, PLT_INVALID, "\"%s\" is not a text of at most %d",
                        key, SOURCE_MAX);
    *slot = strdup(json_string_value(value));
    return *slot ? PLT_OK : plt_fail(err, PLT_NOMEM, "a mirror");
}

static enum plt_status take_number(json_t *value, const char *key,
                                   long long min, long long max, long long *out,
                                   struct plt_error *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max)
        return plt_fail(err, PLT_INVALID,
                        "\"%s\" is not a whole number of %lld to %lld", key,
                        min, max);
    *out = json_integer_value(value);
    return PLT_OK;
}

static enum plt_status take_bool(json_t *value, const char *key, bool *out,
                                 struct plt_error *err)
{
    if (!json_is_boolean(value))
        return plt_fail(err, PLT_INVALID, "\"%s\" is not true or false", key);
    *out = json_is_true(value);
    return PLT_OK;
}

/* Two digits in [0, max]; -1: not so. */
static int two(const char *p, int max)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return -1;
    const int n = (p[0] - '0') * 10 + p[1] - '0';
    return n <= max ? n : -1;
}

/* "HH:MM-HH:MM" */
static bool parse_schedule(const char *text, int *from, int *to)
{
    *from = *to = -1;
    if (!text[0])
        return true;
    if (strlen(text) != 11 || text[2] != ':' || text[5] != '-' ||
        text[8] != ':')
        return false;
    const int h = two(text, 23), m = two(text + 3, 59), h2 = two(text + 6, 24),
              m2 = two(text + 9, 59);
    if (h < 0 || m < 0 || h2 < 0 || m2 < 0 || (h2 == 24 && m2))
        return false;
    *from = h * 60 + m;
    *to = h2 * 60 + m2;
    return *from != *to;
}

static enum plt_status take_via(json_t *value, struct mirror_entry *out,
                                struct plt_error *err)
{
    const char *const text = json_string_value(value);

    if (text && strcmp(text, "auto") == 0)
        out->via = VIA_AUTO;
    else if (text && strcmp(text, "blocks") == 0)
        out->via = VIA_BLOCKS;
    else if (text && strcmp(text, "ranges") == 0)
        out->via = VIA_RANGES;
    else
        return plt_fail(err, PLT_INVALID,
                        "\"fetch\" is not \"auto\", \"blocks\" or \"ranges\"");
    return PLT_OK;
}

/* One key that may change later, too; *is_known: it is one of these. */
static enum plt_status take_changing(struct mirror_entry *out, const char *key,
                                     json_t *value, bool *is_known,
                                     struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    long long n = 0;

    *is_known = true;
    if (strcmp(key, "priority") == 0) {
        st = take_number(value, key, -PRIORITY_MAX, PRIORITY_MAX, &n, err);
        out->priority = (int)n;
    } else if (strcmp(key, "bandwidth") == 0) {
        st = take_number(value, key, 0, INT64_MAX, &n, err);
        out->bandwidth = (uint64_t)n;
        if (st == PLT_OK && n && n < 1024)
            st = plt_fail(err, PLT_INVALID,
                          "\"bandwidth\" is bytes a second, 1024 at least");
    } else if (strcmp(key, "follow") == 0) {
        st = take_number(value, key, 0, FOLLOW_MAX_S, &n, err);
        out->follow_s = (uint64_t)n;
        if (st == PLT_OK && n && n < FOLLOW_MIN_S)
            st = plt_fail(err, PLT_INVALID,
                          "\"follow\" is seconds, 0 or %d at "
                          "least",
                          FOLLOW_MIN_S);
    } else if (strcmp(key, "schedule") == 0) {
        if (!json_is_string(value) ||
            !parse_schedule(json_string_value(value), &out->from_min,
                            &out->to_min))
            st = plt_fail(err, PLT_INVALID,
                          "\"schedule\" is not \"HH:MM-HH:MM\" or \"\"");
    } else if (strcmp(key, "trace") == 0) {
        st = take_bool(value, key, &out->wants_trace, err);
    } else if (strcmp(key, "fetch") == 0) {
        st = take_via(value, out, err);
    } else {
        *is_known = false;
    }
    return st;
}

/* An output is one of the configuration's files, or in one of its folders. */
static enum plt_status check_output(const char *output,
                                    const struct mirrors_config *config,
                                    struct plt_error *err)
{
    bool is_good = false;

    for (const char *const *p = config->outputs; p && *p && !is_good; p++) {
        const size_t len = strlen(*p);
        const char *const rest = output + len;
        if (strcmp(*p, output) == 0)
            is_good = len && (*p)[len - 1] != '/';
        else if (len && (*p)[len - 1] == '/')
            is_good = strncmp(*p, output, len) == 0 && *rest &&
                      !strchr(rest, '/') && rest[0] != '.';
    }
    return is_good ? PLT_OK
                   : plt_fail(err, PLT_DENIED,
                              "the configuration's outputs do not name this "
                              "\"output\"");
}

static enum plt_status take_key(struct mirror_entry *out, const char *key,
                                json_t *value, struct plt_error *err)
{
    bool is_known;
    enum plt_status st = take_changing(out, key, value, &is_known, err);

    if (is_known)
        return st;
    if (strcmp(key, "name") == 0) {
        const char *const name = json_string_value(value);
        if (!name || !policy_name_ok(name))
            return plt_fail(err, PLT_INVALID,
                            "\"name\" is not a name: a letter or digit and up "
                            "to 62 of these, '.', '_' and '-'");
        (void)snprintf(out->name, sizeof(out->name), "%s", name);
        return PLT_OK;
    }
    if (strcmp(key, "source") == 0)
        return take_text(value, key, &out->source, err);
    if (strcmp(key, "output") == 0)
        return json_is_null(value) ? PLT_OK
                                   : take_text(value, key, &out->output, err);
    if (strcmp(key, "signed") == 0)
        return take_bool(value, key, &out->is_signed, err);
    return plt_fail(err, PLT_INVALID, "a mirror has no \"%.64s\"", key);
}

enum plt_status entry_parse(struct mirror_entry *out, json_t *asked,
                            struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    const char *key;
    json_t *value;

    *out = (struct mirror_entry){
        .from_min = -1, .to_min = -1, .wants_trace = true};
    if (!json_is_object(asked))
        return plt_fail(err, PLT_INVALID, "a mirror is a JSON object");
    json_object_foreach(asked, key, value)
    {
        if (st == PLT_OK)
            st = take_key(out, key, value, err);
    }
    if (st == PLT_OK && (!out->name[0] || !out->source))
        st = plt_fail(err, PLT_INVALID,
                      "a mirror needs a \"name\" and a \"source\"");
    if (st == PLT_OK) {
        struct source source;
        st = source_parse(&source, out->source, err);
        if (st == PLT_OK)
            source_release(&source);
    }
    if (st != PLT_OK)
        entry_release(out);
    return st;
}

enum plt_status entry_check(const struct mirror_entry *e,
                            const struct mirrors_config *config,
                            struct plt_error *err)
{
    if (e->is_signed && (!config->keys || !config->keys[0]))
        return plt_fail(err, PLT_INVALID,
                        "\"signed\" needs a public key in the configuration");
    return e->output ? check_output(e->output, config, err) : PLT_OK;
}

void entry_restore(struct mirror_entry *entry, const struct mirror_entry *was)
{
    entry->priority = was->priority;
    entry->bandwidth = was->bandwidth;
    entry->follow_s = was->follow_s;
    entry->from_min = was->from_min;
    entry->to_min = was->to_min;
    entry->wants_trace = was->wants_trace;
    entry->via = was->via;
}

enum plt_status entry_change(struct mirror_entry *entry, json_t *asked,
                             struct plt_error *err)
{
    struct mirror_entry now = *entry;
    enum plt_status st = PLT_OK;
    const char *key;
    json_t *value;
    bool is_known;

    if (!json_is_object(asked))
        return plt_fail(err, PLT_INVALID, "a change is a JSON object");
    json_object_foreach(asked, key, value)
    {
        if (st == PLT_OK)
            st = take_changing(&now, key, value, &is_known, err);
        if (st == PLT_OK && !is_known)
            st = plt_fail(err, PLT_INVALID, "\"%.64s\" cannot be changed", key);
    }
    if (st != PLT_OK)
        return st;
    entry_restore(entry, &now);
    return PLT_OK;
}

void entry_release(struct mirror_entry *e)
{
    free(e->source);
    free(e->output);
    e->source = e->output = NULL;
}

json_t *entry_json(const struct mirror_entry *e)
{
    static const char *const vias[] = {"auto", "blocks", "ranges"};
    char schedule[16] = "";

    if (e->from_min >= 0)
        (void)snprintf(schedule, sizeof(schedule), "%02d:%02d-%02d:%02d",
                       e->from_min / 60 % 24, e->from_min % 60,
                       e->to_min / 60 % 25, e->to_min % 60);
    json_t *const row =
        json_pack("{s:s, s:s, s:i, s:I, s:I, s:s, s:b, s:b, s:s}", "name",
                  e->name, "source", e->source, "priority", e->priority,
                  "bandwidth", (json_int_t)e->bandwidth, "follow",
                  (json_int_t)e->follow_s, "schedule", schedule, "signed",
                  e->is_signed, "trace", e->wants_trace, "fetch", vias[e->via]);
    if (row)
        (void)json_object_set_new(
            row, "output", e->output ? json_string(e->output) : json_null());
    return row;
}

bool entry_is_scheduled(const struct mirror_entry *e, int minute)
{
    if (e->from_min < 0)
        return true;
    const bool is_in = minute >= e->from_min % DAY_MIN;
    const bool is_before = minute < e->to_min;
    return e->from_min < e->to_min ? is_in && is_before : is_in || is_before;
}
