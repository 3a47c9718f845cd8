/* SPDX-License-Identifier: Apache-2.0 */
/* From a request's path and query to a reference: the one normaliser.
 *
 * RFC 3986 3.3: segments are split at '/' before anything is decoded, so that
 * an encoded slash can never become one; it is refused instead of kept, since
 * no origin file has a slash in its name.  '.' and '..' are refused, not
 * resolved: a client that sends them here wants something that it should not.
 */
#include "stack/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/auto.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* RFC 3629: the shortest form only, no surrogates, at most U+10FFFF. */
static bool utf8_ok(const unsigned char *s)
{
    while (*s) {
        const unsigned c = *s++;
        unsigned more, low, value;
        if (c < 0x80)
            continue;
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1, low = 0x80, value = c & 0x1f;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2, low = 0x800, value = c & 0x0f;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3, low = 0x10000, value = c & 0x07;
        } else {
            return false;
        }
        while (more--) {
            if ((*s & 0xc0) != 0x80)
                return false;
            value = value << 6 | (*s++ & 0x3fU);
        }
        if (value < low || value > 0x10ffff ||
            (value >= 0xd800 && value <= 0xdfff))
            return false;
    }
    return true;
}

/* Decode [s, s+len) onto the end of out (cap bytes in all).  Refuses what no
 * name may hold. */
static enum plt_status decode(char *out, size_t cap, const char *s, size_t len,
                              bool is_path, struct plt_error *err)
{
    size_t n = strlen(out);
    const size_t start = n;

    for (size_t i = 0; i < len; i++) {
        int c = (unsigned char)s[i];
        const bool is_coded = c == '%';
        if (is_coded) {
            const int high = i + 2 < len ? hex(s[i + 1]) : -1;
            const int low = i + 2 < len ? hex(s[i + 2]) : -1;
            if (high < 0 || low < 0)
                return plt_fail(err, PLT_INVALID, "malformed percent-encoding");
            c = high << 4 | low;
            i += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return plt_fail(err, PLT_INVALID, "control character in a name");
        if (is_path && (c == '\\' || (is_coded && c == '/')))
            return plt_fail(err, PLT_INVALID, "encoded slash or backslash");
        if (n + 1 >= cap)
            return plt_fail(err, PLT_INVALID, "name too long");
        out[n++] = (char)c;
        out[n] = '\0';
    }
    if (!utf8_ok((const unsigned char *)out + start))
        return plt_fail(err, PLT_INVALID, "name is not UTF-8");
    return PLT_OK;
}

static bool is_name(const char *name, const char *s, size_t len)
{
    return strlen(name) == len && memcmp(name, s, len) == 0;
}

static char **selector_slot(struct reference *r, const char *name, size_t len)
{
    const struct {
        const char *name;
        char **slot;
    } table[] = {{"member", &r->member},
                 {"snapshot", &r->snapshot},
                 {"partition", &r->partition},
                 {"secret", &r->secret},
                 {"layers", &r->layers}};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (is_name(table[i].name, name, len))
            return table[i].slot;
    }
    return NULL;
}

static enum plt_status fail_unknown(const char *s, size_t len,
                                    struct plt_error *err)
{
    return plt_fail(err, PLT_INVALID, "unknown parameter %.*s",
                    (int)(len < 32 ? len : 32), s);
}

/* One "name=value" of length len, still encoded. */
static enum plt_status take_selector(struct reference *r, const char *s,
                                     size_t len, const char *const *other,
                                     struct plt_error *err)
{
    const char *const eq = memchr(s, '=', len);
    const size_t name_len = eq ? (size_t)(eq - s) : len;

    for (; other && *other; other++) {
        if (is_name(*other, s, name_len))
            return PLT_OK; /* reference_check_query() looks at it */
    }
    char **const slot = selector_slot(r, s, name_len);
    if (!slot || !eq)
        return fail_unknown(s, name_len, err);
    if (*slot)
        return plt_fail(err, PLT_INVALID, "parameter %.*s given twice",
                        (int)name_len, s);
    char *const value = calloc(1, REFERENCE_MAX + 1);
    if (!value)
        return plt_fail(err, PLT_NOMEM, "a parameter");
    *slot = value;
    return decode(value, REFERENCE_MAX + 1, eq + 1, len - name_len - 1, false,
                  err);
}

enum plt_status reference_select(struct reference *r, const char *name,
                                 const char *value, struct plt_error *err)
{
    char **const slot = selector_slot(r, name, strlen(name));

    if (!slot || *slot)
        return plt_fail(err, PLT_INVALID, "parameter %.32s is %s", name,
                        slot ? "given twice" : "unknown");
    if (strlen(value) > REFERENCE_MAX || !utf8_ok((const unsigned char *)value))
        return plt_fail(err, PLT_INVALID, "%s is too long, or not UTF-8", name);
    for (const char *p = value; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return plt_fail(err, PLT_INVALID, "control character in a name");
    }
    *slot = strdup(value);
    return *slot ? PLT_OK : plt_fail(err, PLT_NOMEM, "a parameter");
}

static bool copy_text(char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return !text || *out;
}

bool reference_copy(struct reference *out, const struct reference *r)
{
    *out = (struct reference){.target = NULL};
    if (copy_text(&out->target, r->target) &&
        copy_text(&out->member, r->member) &&
        copy_text(&out->snapshot, r->snapshot) &&
        copy_text(&out->partition, r->partition) &&
        copy_text(&out->secret, r->secret) &&
        copy_text(&out->layers, r->layers))
        return true;
    reference_release(out);
    return false;
}

/* The path's segments, and the parameters of the last one. */
static enum plt_status parse_path(struct reference *r, const char *p,
                                  struct plt_error *err)
{
    for (;;) {
        const size_t segment = strcspn(p, "/");
        const bool is_last = p[segment] == '\0';
        const char *const semi = is_last ? memchr(p, ';', segment) : NULL;
        const size_t name_len = semi ? (size_t)(semi - p) : segment;
        const size_t before = strlen(r->target);
        if (!is_last && memchr(p, ';', segment))
            return plt_fail(err, PLT_INVALID,
                            "parameters belong behind the last segment");
        enum plt_status st =
            decode(r->target, REFERENCE_MAX + 1, p, name_len, true, err);
        if (st != PLT_OK)
            return st;
        const char *const name = r->target + before;
        if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return plt_fail(err, PLT_INVALID, "empty or dot segment");
        for (const char *s = semi; s;) {
            const char *const next =
                memchr(s + 1, ';', (size_t)(p + segment - s - 1));
            const char *const end = next ? next : p + segment;
            st = take_selector(r, s + 1, (size_t)(end - s - 1), NULL, err);
            if (st != PLT_OK)
                return st;
            s = next;
        }
        if (is_last)
            return PLT_OK;
        if (strlen(r->target) + 1 > REFERENCE_MAX)
            return plt_fail(err, PLT_INVALID, "name too long");
        strncat(r->target, "/", 2);
        p += segment + 1;
    }
}

enum plt_status reference_parse(struct reference *out, const char *raw_path,
                                const char *raw_query,
                                const char *const *other_names,
                                struct plt_error *err)
{
    /* Decoding makes nothing longer. */
    const size_t raw_len = strlen(raw_path);
    const size_t most = raw_len < REFERENCE_MAX ? raw_len : REFERENCE_MAX;

    *out = (struct reference){.target = calloc(1, most + 2)};
    if (!out->target)
        return plt_fail(err, PLT_NOMEM, "a reference");
    enum plt_status st = parse_path(out, raw_path, err);
    for (const char *q = raw_query; q && *q && st == PLT_OK;) {
        const size_t len = strcspn(q, "&");
        if (len)
            st = take_selector(out, q, len, other_names, err);
        q += len + (q[len] == '&');
    }
    if (st != PLT_OK)
        reference_release(out);
    return st;
}

enum plt_status reference_check_query(const char *raw_query,
                                      const char *const *names, bool is_all,
                                      struct plt_error *err)
{
    uint32_t seen = 0;

    for (const char *q = raw_query; q && *q;) {
        const size_t len = strcspn(q, "&"), name_len = strcspn(q, "=&");
        unsigned i = 0;
        while (names[i] && !is_name(names[i], q, name_len))
            i++;
        const bool is_known = names[i] && i < 32;
        if (is_all && len && !is_known)
            return fail_unknown(q, name_len, err);
        if (is_known && name_len == len)
            return plt_fail(err, PLT_INVALID, "parameter %s has no value",
                            names[i]);
        if (is_known && seen >> i & 1)
            return plt_fail(err, PLT_INVALID, "parameter %s given twice",
                            names[i]);
        seen |= is_known ? UINT32_C(1) << i : 0;
        q += len + (q[len] == '&');
    }
    return PLT_OK;
}

void reference_release(struct reference *reference)
{
    free(reference->target);
    free(reference->member);
    free(reference->snapshot);
    free(reference->partition);
    free(reference->secret);
    free(reference->layers);
    *reference = (struct reference){.target = NULL};
}

char *reference_key(const struct reference *r)
{
    const char *const parts[] = {r->target,    r->member, r->snapshot,
                                 r->partition, r->secret, r->layers};
    const size_t n_parts = sizeof(parts) / sizeof(parts[0]);
    size_t size = 1;

    for (size_t i = 0; i < n_parts; i++)
        size += (parts[i] ? strlen(parts[i]) : 0) + 2;
    char *const key = malloc(size);
    char *p = key;
    /* Control characters cannot stand in a part, so they separate parts; "not
     * set" and "set to nothing" differ. */
    for (size_t i = 0; key && i < n_parts; i++) {
        const size_t len = parts[i] ? strlen(parts[i]) : 0;
        if (len)
            memcpy(p, parts[i], len);
        p += len;
        *p++ = parts[i] ? '\1' : '\2';
    }
    if (key)
        *p = '\0';
    return key;
}

char *reference_query(const char *raw_query, const char *name,
                      enum plt_status *st)
{
    const size_t name_len = strlen(name);

    *st = PLT_OK;
    for (const char *q = raw_query; q && *q;) {
        const size_t len = strcspn(q, "&");
        if (len > name_len && q[name_len] == '=' &&
            memcmp(q, name, name_len) == 0) {
            struct plt_error err;
            char *const value = calloc(1, REFERENCE_MAX + 1);
            *st = value ? decode(value, REFERENCE_MAX + 1, q + name_len + 1,
                                 len - name_len - 1, false, &err)
                        : PLT_NOMEM;
            if (*st == PLT_OK)
                return value;
            free(value);
            return NULL;
        }
        q += len + (q[len] == '&');
    }
    return NULL;
}
