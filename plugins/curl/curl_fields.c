/* SPDX-License-Identifier: Apache-2.0 */
#include "curl_fields.h"

#include <string.h>
#include <strings.h>

bool curl_digits(const char **p, const char *end, uint64_t *out)
{
    const char *const start = *p;
    uint64_t v = 0;

    while (*p < end && **p >= '0' && **p <= '9') {
        if (v > (uint64_t)INT64_MAX / 10 - 1)
            return false;
        v = v * 10 + (uint64_t)(**p - '0');
        (*p)++;
    }
    *out = v;
    return *p > start;
}

bool curl_content_range(const char *p, const char *end,
                        struct curl_content_range *out)
{
    if (end - p < 6 || strncasecmp(p, "bytes ", 6) != 0)
        return false;
    p += 6;
    *out = (struct curl_content_range){1, 0, CURL_TOTAL_UNKNOWN};
    bool is_good = true;
    if (p < end && *p == '*')
        p++;
    else
        is_good = curl_digits(&p, end, &out->first) && p < end && *p++ == '-' &&
                  curl_digits(&p, end, &out->last);
    if (!is_good || p >= end || *p++ != '/')
        return false;
    if (p < end && *p == '*')
        p++;
    else if (!curl_digits(&p, end, &out->total))
        return false;
    return p == end;
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* RFC 2046 5.1.1: bchars. */
static bool is_boundary_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (c && strchr("'()+_,-./:=? ", c));
}

/* A parameter's value at *p, a token or quoted, moved behind it; out may be
 * NULL.  False: it does not end, or is no boundary. */
static bool take_value(const char **p, const char *end, char *out)
{
    const bool is_quoted = *p < end && **p == '"';
    size_t n = 0;

    *p += is_quoted;
    for (; *p < end; (*p)++) {
        const char c = **p;
        if (is_quoted ? c == '"' : c == ';' || c == ' ' || c == '\t')
            break;
        if (out && (n == CURL_BOUNDARY || !is_boundary_char(c)))
            return false;
        if (out)
            out[n++] = c;
    }
    if (is_quoted && *p == end)
        return false;
    *p += is_quoted;
    if (out)
        out[n] = '\0';
    return !out || (n && out[n - 1] != ' ');
}

bool curl_boundary(const char *p, const char *end, char out[CURL_BOUNDARY + 1])
{
    static const char type[] = "multipart/byteranges";
    const size_t len = sizeof(type) - 1;
    bool has_one = false;

    if ((size_t)(end - p) < len || strncasecmp(p, type, len) != 0)
        return false;
    for (p = skip_space(p + len, end); p < end; p = skip_space(p, end)) {
        if (*p++ != ';')
            return false;
        p = skip_space(p, end);
        const char *const name = p;
        while (p < end && *p != '=' && *p != ';')
            p++;
        if (p == name && (p == end || *p == ';'))
            continue; /* an empty parameter */
        if (p == end || *p != '=')
            return false;
        const bool is_it = p - name == 8 && !strncasecmp(name, "boundary", 8);
        p++;
        if ((is_it && has_one) || !take_value(&p, end, is_it ? out : NULL))
            return false;
        has_one = has_one || is_it;
    }
    return has_one;
}
