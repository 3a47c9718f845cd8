/* SPDX-License-Identifier: Apache-2.0 */
/* The text is known to be well formed, so that this walk over it believes what
 * it sees; it still never leaves the text, which ends in NUL. */
#include "config_where.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    const char *p;
    unsigned line;
};

static void skip_space(struct walk *w)
{
    for (; *w->p && strchr(" \t\r\n", *w->p); w->p++)
        w->line += *w->p == '\n';
}

/* A text; *is_it: it is `key`, which has no escapes in the files people write;
 * an escaped key is simply not found. */
static void skip_text(struct walk *w, const char *key, bool *is_it)
{
    const char *const start = ++w->p;

    while (*w->p && *w->p != '"')
        w->p += *w->p == '\\' && w->p[1] ? 2 : 1;
    const size_t len = (size_t)(w->p - start);
    *is_it = key && strlen(key) == len && memcmp(key, start, len) == 0;
    w->p += *w->p == '"';
}

/* One value, whatever it is: brackets are counted, texts are stepped over. */
static void skip_value(struct walk *w)
{
    unsigned depth = 0;
    bool ignored;

    do {
        skip_space(w);
        if (*w->p == '"') {
            skip_text(w, NULL, &ignored);
        } else if (*w->p == '{' || *w->p == '[') {
            depth++;
            w->p++;
        } else if (*w->p == '}' || *w->p == ']') {
            depth -= depth > 0;
            w->p++;
        } else if (*w->p == ',' || *w->p == ':') {
            w->p++;
        } else {
            w->p += strcspn(w->p, " \t\r\n,:]}[{\"");
        }
        skip_space(w);
    } while (depth && *w->p);
}

/* To the value of key in the object at w.  False: it is not there. */
static bool enter_object(struct walk *w, const char *key)
{
    bool is_it = false;

    w->p++;
    for (skip_space(w); *w->p == '"'; skip_space(w)) {
        struct walk at = *w;
        skip_text(&at, key, &is_it);
        skip_space(&at);
        at.p += *at.p == ':';
        skip_space(&at);
        if (is_it) {
            *w = at;
            return true;
        }
        skip_value(&at);
        *w = at;
        w->p += *w->p == ',';
    }
    return false;
}

static bool enter_array(struct walk *w, unsigned long index)
{
    w->p++;
    for (skip_space(w); *w->p && *w->p != ']'; skip_space(w)) {
        if (!index--)
            return true;
        skip_value(w);
        w->p += *w->p == ',';
    }
    return false;
}

unsigned config_where(const char *text, const char *const *path, size_t n)
{
    struct walk w = {text, 1};
    unsigned line = 0;

    skip_space(&w);
    for (size_t i = 0; i < n; i++) {
        const bool is_index = path[i][0] == '[';
        bool is_there = false;
        if (is_index && *w.p == '[')
            is_there = enter_array(&w, strtoul(path[i] + 1, NULL, 10));
        else if (!is_index && *w.p == '{')
            is_there = enter_object(&w, path[i]);
        if (!is_there) {
            if (i < 2) /* the section alone is not the place */
                line = 0;
            break;
        }
        line = w.line;
    }
    return line;
}
