/* SPDX-License-Identifier: Apache-2.0 */
/* The text is known to be well formed, so that this walk over it believes what
 * it sees: a bracket is counted, a text stepped over, anything else is a word.
 * RFC 8259 section 2 has the structure, section 7 the escapes. */
#include "config_where.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    const char *p;
    unsigned line;
};

/* A text as it stands, without its quotes. */
struct span {
    const char *p, *end;
};

static void skip_space(struct walk *w)
{
    for (; *w->p && strchr(" \t\r\n", *w->p); w->p++)
        w->line += *w->p == '\n';
}

static void skip_one(struct walk *w, char c)
{
    skip_space(w);
    w->p += *w->p == c;
}

/* At its first quote; to behind its last. */
static struct span skip_text(struct walk *w)
{
    struct span s = {++w->p, NULL};

    while (*w->p && *w->p != '"')
        w->p += *w->p == '\\' && w->p[1] ? 2 : 1;
    s.end = w->p;
    w->p += *w->p == '"';
    return s;
}

/* One value, whatever it is. */
static void skip_value(struct walk *w)
{
    unsigned depth = 0;

    do {
        skip_space(w);
        if (*w->p == '"') {
            (void)skip_text(w);
        } else if (*w->p && strchr("{}[],:", *w->p)) {
            depth += *w->p == '{' || *w->p == '[';
            depth -= depth && (*w->p == '}' || *w->p == ']');
            w->p++;
        } else {
            w->p += strcspn(w->p, " \t\r\n{}[],:\"");
        }
        if (depth)
            skip_space(w);
    } while (depth && *w->p);
}

/* ---- Decoding of keys ---- */

/* What \uXXXX at s stands for; 0: there is none. */
static uint32_t unit(struct span s)
{
    char digits[5] = "", *end;

    if (s.end - s.p < 6 || s.p[0] != '\\' || s.p[1] != 'u')
        return 0;
    memcpy(digits, s.p + 2, 4);
    const unsigned long v = strtoul(digits, &end, 16);
    return *end ? 0 : (uint32_t)v;
}

static size_t utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char heads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(heads[n] | c);
    return n;
}

/* The next character of s, taken off it; its length in bytes. */
static size_t decode_one(struct span *s, char out[4])
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";

    if (*s->p != '\\' || s->end - s->p < 2) {
        out[0] = *s->p++;
        return 1;
    }
    uint32_t c = unit(*s);
    if (s->p[1] == 'u' && c) {
        s->p += 6;
        const uint32_t low = unit(*s);
        if (c >= 0xd800 && c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            s->p += 6;
        }
        return utf8(c, out);
    }
    const char *const named = strchr(from, s->p[1]);
    out[0] = named ? to[named - from] : s->p[1];
    s->p += 2;
    return 1;
}

/* new; NULL without memory. */
static char *decode(struct span s)
{
    char *const text = malloc((size_t)(s.end - s.p) + 1), one[4];
    size_t len = 0;

    while (text && s.p < s.end) {
        /* never longer than it stands: an escape has six characters */
        const size_t n = decode_one(&s, one);
        memcpy(text + len, one, n);
        len += n;
    }
    if (text)
        text[len] = '\0';
    return text;
}

static bool is_key(struct span s, const char *key)
{
    char one[4];

    while (s.p < s.end) {
        const size_t n = decode_one(&s, one);
        if (strncmp(key, one, n) != 0)
            return false;
        key += n;
    }
    return !*key;
}

/* ---- Finding a path ---- */

/* At '{': to the value of key, *line being the key's.  False: it is not there.
 */
static bool enter_object(struct walk *w, const char *key, unsigned *line)
{
    struct walk found = {NULL, 0};

    w->p++;
    for (skip_space(w); *w->p == '"'; skip_space(w)) {
        const unsigned here = w->line;
        const bool is_it = is_key(skip_text(w), key);
        skip_one(w, ':');
        skip_space(w);
        if (is_it) {
            found = *w;
            *line = here;
        }
        skip_value(w);
        skip_one(w, ',');
    }
    if (found.p)
        *w = found;
    return found.p != NULL;
}

/* At '[': to the item that "[N]" is. */
static bool enter_array(struct walk *w, const char *index, unsigned *line)
{
    unsigned long n = *index == '[' ? strtoul(index + 1, NULL, 10) : ~0UL;

    w->p++;
    for (skip_space(w); *w->p && *w->p != ']'; skip_space(w)) {
        *line = n ? *line : w->line;
        if (!n--)
            return true;
        skip_value(w);
        skip_one(w, ',');
    }
    return false;
}

unsigned config_where(const char *text, const char *const *path, size_t n)
{
    struct walk w = {text, 1};
    unsigned line = 1;

    skip_space(&w);
    for (size_t i = 0; i < n; i++) {
        if (*w.p == '{' ? !enter_object(&w, path[i], &line)
                        : *w.p != '[' || !enter_array(&w, path[i], &line))
            break;
    }
    return line;
}

/* ---- Keys given twice ---- */

struct key {
    char *text; /* new */
    unsigned line;
};

struct keys {
    struct key *v; /* new; n of them in room for cap */
    size_t n, cap;
};

struct search {
    config_twice_fn *tell;
    void *cookie;
    const char *path[CONFIG_WHERE_DEPTH];
    bool is_out_of_memory;
};

/* By text, then as they stand: an object may be on one line, so that lines do
 * not order its keys; what is told does not depend on it then. */
static int by_text(const void *a, const void *b)
{
    const struct key *const x = (const struct key *)a;
    const struct key *const y = (const struct key *)b;
    const int c = strcmp(x->text, y->text);

    return c ? c : (x->line > y->line) - (x->line < y->line);
}

/* The text of a new key of the object, borrowed; NULL without memory. */
static const char *keep(struct keys *keys, struct span s, unsigned line)
{
    if (keys->n == keys->cap) {
        const size_t cap = keys->cap ? keys->cap * 2 : 16;
        struct key *const grown = realloc(keys->v, cap * sizeof(*grown));
        if (!grown)
            return NULL;
        keys->v = grown;
        keys->cap = cap;
    }
    char *const text = decode(s);
    if (text)
        keys->v[keys->n++] = (struct key){text, line};
    return text;
}

/* All that is in one object; frees them. */
static void tell_keys(struct search *s, struct keys *keys, size_t depth)
{
    if (keys->n)
        qsort(keys->v, keys->n, sizeof(*keys->v), by_text);
    for (size_t i = 1; i < keys->n; i++) {
        const struct key *const was = &keys->v[i - 1], *const is = &keys->v[i];
        if (strcmp(was->text, is->text) != 0)
            continue;
        s->path[depth] = is->text;
        s->tell(s->cookie, s->path, depth + 1, is->line, was->line);
    }
    for (size_t i = 0; i < keys->n; i++)
        free(keys->v[i].text);
    free(keys->v);
}

static void search_value(struct search *s, struct walk *w, size_t depth);

static void search_object(struct search *s, struct walk *w, size_t depth)
{
    struct keys keys = {NULL, 0, 0};

    w->p++;
    for (skip_space(w); *w->p == '"'; skip_space(w)) {
        const unsigned line = w->line;
        const char *const text = keep(&keys, skip_text(w), line);
        s->is_out_of_memory = s->is_out_of_memory || !text;
        s->path[depth] = text ? text : "";
        skip_one(w, ':');
        search_value(s, w, depth + 1);
        skip_one(w, ',');
    }
    w->p += *w->p == '}';
    tell_keys(s, &keys, depth);
}

static void search_array(struct search *s, struct walk *w, size_t depth)
{
    size_t i = 0;

    w->p++;
    for (skip_space(w); *w->p && *w->p != ']'; skip_space(w)) {
        char index[24];
        (void)snprintf(index, sizeof(index), "[%zu]", i++);
        s->path[depth] = index;
        search_value(s, w, depth + 1);
        skip_one(w, ',');
    }
    w->p += *w->p == ']';
}

/* NOLINTNEXTLINE(misc-no-recursion): CONFIG_WHERE_DEPTH deep */
static void search_value(struct search *s, struct walk *w, size_t depth)
{
    skip_space(w);
    if (depth < CONFIG_WHERE_DEPTH && *w->p == '{')
        search_object(s, w, depth);
    else if (depth < CONFIG_WHERE_DEPTH && *w->p == '[')
        search_array(s, w, depth);
    else
        skip_value(w);
}

bool config_where_twice(const char *text, config_twice_fn *tell, void *cookie)
{
    struct search s = {.tell = tell, .cookie = cookie};
    struct walk w = {text, 1};

    search_value(&s, &w, 0);
    return !s.is_out_of_memory;
}
