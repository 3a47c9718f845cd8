/* SPDX-License-Identifier: Apache-2.0 */
/* A request's path behind /disk/, and in the next line its query.  What is
 * taken has no segment that is empty, "." or "..", no control character and no
 * backslash, is UTF-8, is the same when it is written and read again, and has a
 * key that only an equal one has. */
#include <jansson.h>
#include <string.h>

#include "fuzz_must.h"
#include "stack/reference.h"

static const char *const others[] = {"start", "length", NULL};

static void check_text(const char *text, bool is_path)
{
    if (!text)
        return;
    MUST(strlen(text) <= REFERENCE_MAX);
    json_t *const as_json = json_string(text); /* which looks at UTF-8 too */
    MUST(as_json);
    json_decref(as_json);
    for (const char *p = text; *p; p++)
        MUST((unsigned char)*p >= 0x20 && *p != 0x7f &&
             !(is_path && *p == '\\'));
    for (const char *p = text; is_path;) {
        const size_t len = strcspn(p, "/");
        MUST(len > 0 && !(len == 1 && p[0] == '.') &&
             !(len == 2 && p[0] == '.' && p[1] == '.'));
        if (!p[len])
            return;
        p += len + 1;
    }
}

/* Percent-encoded onto out. */
static char *encode(char *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '/')
            *out++ = '/';
        else
            out += sprintf(out, "%%%02x", (unsigned char)*text);
    }
    *out = '\0';
    return out;
}

static void check_again(const struct reference *r)
{
    const struct {
        const char *name, *value;
    } parts[] = {{"member", r->member},
                 {"snapshot", r->snapshot},
                 {"partition", r->partition},
                 {"secret", r->secret},
                 {"layers", r->layers}};
    struct plt_error err = {.at = PLT_AT_NONE};
    struct reference again, copy;
    char *const path = malloc(3 * REFERENCE_MAX + 1),
                *const query = malloc(5 * (3 * REFERENCE_MAX + 16));

    MUST(path && query);
    char *q = query;
    *q = '\0';
    (void)encode(path, r->target);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!parts[i].value)
            continue;
        q += sprintf(q, "%s%s=", q == query ? "" : "&", parts[i].name);
        q = encode(q, parts[i].value);
    }
    MUST(reference_parse(&again, path, query, NULL, &err) == PLT_OK);
    MUST(reference_copy(&copy, r));
    char *const a = reference_key(r), *const b = reference_key(&again),
                *const c = reference_key(&copy);
    MUST(a && b && c && strcmp(a, b) == 0 && strcmp(a, c) == 0);
    MUST(strcmp(again.target, r->target) == 0);
    /* One selector more or less is another key. */
    free(copy.member);
    copy.member = r->member ? NULL : strdup("");
    char *const d = reference_key(&copy);
    MUST(d && strcmp(a, d) != 0);
    free(a);
    free(b);
    free(c);
    free(d);
    free(path);
    free(query);
    reference_release(&again);
    reference_release(&copy);
}

static void check_query(const char *query)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    enum plt_status st = PLT_OK;
    char *const value = reference_query(query, "start", &st);

    MUST(!value || st == PLT_OK);
    check_text(value, false);
    if (reference_check_query(query, others, true, &err) == PLT_OK && query)
        for (const char *p = query; *p;) {
            const size_t len = strcspn(p, "&");
            MUST(!len || strncmp(p, "start=", 6) == 0 ||
                 strncmp(p, "length=", 7) == 0);
            p += len + (p[len] == '&');
        }
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct reference r;
    char *const text = malloc(size + 1);

    MUST(text);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    char *query = strchr(text, '\n');
    if (query)
        *query++ = '\0';
    if (reference_parse(&r, text, query, others, &err) == PLT_OK) {
        MUST(r.target && r.target[0]);
        check_text(r.target, true);
        check_text(r.member, false);
        check_text(r.snapshot, false);
        check_text(r.partition, false);
        check_text(r.secret, false);
        check_text(r.layers, false);
        check_again(&r);
    } else {
        MUST(err.status == PLT_INVALID && err.text[0] && !r.target);
    }
    reference_release(&r);
    check_query(query);
    free(text);
    return 0;
}
