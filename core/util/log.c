/* SPDX-License-Identifier: Apache-2.0 */
#include "util/log.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int max_level = LOG_INFO;
static _Atomic int out_fd = 2;

void log_set_level(enum log_level level)
{
    atomic_store(&max_level, (int)level);
}

void log_set_fd(int fd)
{
    atomic_store(&out_fd, fd);
}

/* Room is kept for a quote and " cut=1\n". */
static void put(struct log_line *l, const char *s, size_t n)
{
    const size_t room = sizeof(l->text) - 9 - l->len;
    if (n > room) {
        n = room;
        l->is_cut = true;
    }
    memcpy(l->text + l->len, s, n);
    l->len += n;
}

void log_begin(struct log_line *line, enum log_level level, const char *event)
{
    static const char *const names[] = {"error", "warn", "info", "debug",
                                        "info"};

    line->level = level;
    line->len = 0;
    line->is_cut = false;
    line->is_dropped =
        level != LOG_ALWAYS && (int)level > atomic_load(&max_level);
    if (line->is_dropped)
        return;
    put(line, "level=", 6);
    put(line, names[level], strlen(names[level]));
    put(line, " event=", 7);
    put(line, event, strlen(event));
}

static void put_key(struct log_line *line, const char *key)
{
    put(line, " ", 1);
    put(line, key, strlen(key));
    put(line, "=", 1);
}

/* Stands for itself, within quotes or without. */
static bool is_plain(unsigned c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void log_text(struct log_line *line, const char *key, const char *value)
{
    const bool is_quoted = !*value || strpbrk(value, " \"\\=") != NULL;

    if (line->is_dropped)
        return;
    put_key(line, key);
    if (is_quoted)
        put(line, "\"", 1);
    while (*value) {
        const char *const from = value;
        while (is_plain((unsigned char)*value))
            value++;
        put(line, from, (size_t)(value - from));
        const unsigned c = (unsigned char)*value;
        char hex[5];
        if (!c)
            break;
        if (c == '"' || c == '\\') {
            put(line, "\\", 1);
            put(line, value, 1);
        } else {
            (void)snprintf(hex, sizeof(hex), "\\x%02x", c);
            put(line, hex, 4);
        }
        value++;
    }
    if (is_quoted)
        put(line, "\"", 1);
}

void log_number(struct log_line *line, const char *key, uint64_t value)
{
    char text[20], *p = text + sizeof(text);

    if (line->is_dropped)
        return;
    /* Every request logs five of them: printf was measured. */
    do
        *--p = (char)('0' + value % 10);
    while (value /= 10);
    put_key(line, key);
    put(line, p, (size_t)(text + sizeof(text) - p));
}

void log_signed(struct log_line *line, const char *key, int64_t value)
{
    char text[24];

    if (line->is_dropped)
        return;
    const int n = snprintf(text, sizeof(text), "%" PRId64, value);
    put_key(line, key);
    put(line, text, (size_t)n);
}

void log_hex(struct log_line *line, const char *key, uint64_t value)
{
    char text[24];

    if (line->is_dropped)
        return;
    const int n = snprintf(text, sizeof(text), "0x%" PRIx64, value);
    put_key(line, key);
    put(line, text, (size_t)n);
}

void log_redact_url(const char *url, char *out, size_t cap)
{
    const char *const scheme = strstr(url, "://");
    const char *host = scheme ? scheme + 3 : url;
    const size_t authority = strcspn(host, "/?#");
    const char *at = NULL;

    for (size_t i = 0; scheme && i < authority; i++) {
        if (host[i] == '@')
            at = host + i;
    }
    const size_t head = (size_t)(host - url);
    if (at)
        host = at + 1;
    (void)snprintf(out, cap, "%.*s%.*s", (int)head, url,
                   (int)strcspn(host, "?#"), host);
}

void log_url(struct log_line *line, const char *key, const char *url)
{
    char clean[1024];

    if (line->is_dropped)
        return;
    log_redact_url(url, clean, sizeof(clean));
    log_text(line, key, clean);
}

void log_end(struct log_line *line)
{
    if (line->is_dropped)
        return;
    if (line->is_cut) {
        bool is_open = false; /* the cut may have left a quoted value open */
        for (size_t i = 0; i < line->len; i++) {
            if (line->text[i] == '\\')
                i++;
            else if (line->text[i] == '"')
                is_open = !is_open;
        }
        if (is_open)
            line->text[line->len++] = '"';
        memcpy(line->text + line->len, " cut=1", 6);
        line->len += 6;
    }
    line->text[line->len++] = '\n';
    /* One write: lines of several threads never mix.  A log that cannot be
     * written has nobody left to tell. */
    if (write(atomic_load(&out_fd), line->text, line->len) < 0)
        return;
}
