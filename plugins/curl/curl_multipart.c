/* SPDX-License-Identifier: Apache-2.0 */
/*     [CRLF] --B CRLF  fields CRLF CRLF  body  CRLF --B ...  CRLF --B-- [CRLF]
 *
 * A body is as long as its Content-Range says; what is in it is never looked
 * at, so that a boundary in a disk is none.  RFC 2046 allows text before the
 * first delimiter and behind the last: no server sends any, and we take none.
 */
#include "curl_multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

void curl_multipart_init(struct curl_multipart *m, const char *boundary,
                         struct curl_span *spans, size_t n, uint64_t total)
{
    *m = (struct curl_multipart){.spans = spans, .n = n, .total = total};
    (void)snprintf(m->boundary, sizeof(m->boundary), "%s", boundary);
    for (size_t i = 0; i < n; i++)
        spans[i].is_here = false;
}

bool curl_multipart_claim(struct curl_span *spans, size_t n, uint64_t first,
                          uint64_t last, size_t *span)
{
    size_t from = 0;

    while (from < n && spans[from].off != first)
        from++;
    size_t to = from;
    for (;; to++) {
        if (to == n || spans[to].is_here || spans[to].off > last)
            return false;
        const uint64_t end = spans[to].off + spans[to].len;
        if (end - 1 == last)
            break;
        if (to + 1 == n || spans[to + 1].off - end > CURL_PART_GAP)
            return false;
    }
    for (size_t i = from; i <= to; i++)
        spans[i].is_here = true;
    *span = from;
    return true;
}

/* --B or, when *is_last, --B--, with white space behind. */
static bool is_delimiter(const struct curl_multipart *m, size_t n,
                         bool *is_last)
{
    const size_t len = strlen(m->boundary);
    const char *const p = m->line;

    while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    if (n < 2 + len || memcmp(p, "--", 2) != 0 ||
        memcmp(p + 2, m->boundary, len) != 0)
        return false;
    *is_last = n == len + 4 && memcmp(p + 2 + len, "--", 2) == 0;
    return n == len + 2 || *is_last;
}

/* A field in a part's head. */
static const char *take_field(struct curl_multipart *m, size_t n)
{
    static const char name[] = "content-range:";
    const size_t len = sizeof(name) - 1;
    const char *p = m->line, *end = m->line + n;

    m->head_len += n;
    if (m->head_len > CURL_PART_HEAD)
        return "the head of a part is too long";
    if (*p == ' ' || *p == '\t' || !memchr(p, ':', n))
        return "a part's head has a line that is no field";
    if (n < len || strncasecmp(p, name, len) != 0)
        return NULL;
    if (m->has_range)
        return "a part has two Content-Ranges";
    for (p += len; p < end && (*p == ' ' || *p == '\t');)
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    m->has_range = curl_content_range(p, end, &m->range);
    return m->has_range ? NULL : "a part's Content-Range that cannot be read";
}

/* The head is over: which part is it? */
static const char *begin_part(struct curl_multipart *m)
{
    size_t span;

    if (!m->has_range)
        return "a part without Content-Range";
    if (m->range.total != m->total) {
        m->is_other_total = m->range.total != CURL_TOTAL_UNKNOWN;
        return "a part of another length of the whole";
    }
    if (m->range.first > m->range.last ||
        !curl_multipart_claim(m->spans, m->n, m->range.first, m->range.last,
                              &span))
        return "a part that was not asked for, or twice";
    m->at = m->range.first;
    m->left = m->range.last - m->range.first + 1;
    m->state = CURL_PART_AFTER;
    return NULL;
}

/* n: without its CRLF. */
static const char *take_line(struct curl_multipart *m, size_t n)
{
    bool is_last;

    switch (m->state) {
    case CURL_PART_START:
        if (n == 0 && !m->has_blank) {
            m->has_blank = true;
            return NULL;
        }
        if (!is_delimiter(m, n, &is_last) || is_last)
            return "a body that does not begin with its boundary";
        break;
    case CURL_PART_FIELDS:
        return n ? take_field(m, n) : begin_part(m);
    case CURL_PART_AFTER:
        m->state = CURL_PART_DELIMITER;
        return n ? "a part that is longer than its range" : NULL;
    case CURL_PART_DELIMITER:
        if (!is_delimiter(m, n, &is_last))
            return "no boundary behind a part";
        if (is_last) {
            m->state = CURL_PART_OVER;
            return NULL;
        }
        break;
    case CURL_PART_OVER:
        break;
    }
    m->state = CURL_PART_FIELDS;
    m->has_range = false;
    m->head_len = 0;
    return NULL;
}

const char *curl_multipart_feed(struct curl_multipart *m, const uint8_t *data,
                                size_t len, curl_part_fn *emit, void *cookie)
{
    while (len) {
        if (m->left) {
            const size_t now = m->left < len ? (size_t)m->left : len;
            size_t span = 0;
            while (m->spans[span].off != m->range.first)
                span++;
            emit(cookie, span, m->at, data, now);
            m->at += now;
            m->left -= now;
            data += now;
            len -= now;
            continue;
        }
        if (m->state == CURL_PART_OVER)
            return "bytes behind the last part";
        if (m->line_len == sizeof(m->line))
            return "a line of a part's head is too long";
        m->line[m->line_len++] = (char)*data;
        len--;
        if (*data++ != '\n')
            continue;
        if (m->line_len < 2 || m->line[m->line_len - 2] != '\r')
            return "a line of a part's head does not end with CRLF";
        const char *const wrong = take_line(m, m->line_len - 2);
        m->line_len = 0;
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *curl_multipart_end(const struct curl_multipart *m)
{
    bool is_last = false;
    /* The last delimiter's CRLF belongs to what may stand behind it. */
    const bool is_over = m->state == CURL_PART_OVER ||
                         (m->state == CURL_PART_DELIMITER &&
                          is_delimiter(m, m->line_len, &is_last) && is_last);

    if (!is_over)
        return "parts that are cut short";
    for (size_t i = 0; i < m->n; i++) {
        if (!m->spans[i].is_here)
            return "a range that was asked for is missing";
    }
    return NULL;
}
