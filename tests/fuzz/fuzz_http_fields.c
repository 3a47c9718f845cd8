/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of a request that decide what is sent: Range, the conditions and
 * the digests that are wanted.
 *
 * An input is text: the size of the disk, then a field in each line, as in a
 * request.  Besides the sanitizers it holds: what is left of a range lies in
 * the disk, apart from one another, and means the same when it is asked again;
 * what begins `bytes=` is never the whole; a condition that does not name our
 * validator does not hold; a date that is read and written is the same date; a
 * digest is one that was named. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "multipart.h"
#include "precondition.h"
#include "range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                             \
    do {                                                                       \
        if (!(cond)) {                                                         \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__,      \
                          __LINE__, #cond);                                    \
            abort();                                                           \
        }                                                                      \
    } while (0)

#define ETAG "\"v1\""
#define BOUNDARY "0123456789abcdef0123456789abcdef"
#define NOW INT64_C(1795219200)

enum {
    MOST = 12,
    RANGE,
    MATCH,
    NONE_MATCH,
    SINCE,
    UNMODIFIED,
    IF_RANGE,
    DIGEST,
    N
};

static const char *const names[N] = {
    [RANGE] = "Range:",
    [MATCH] = "If-Match:",
    [NONE_MATCH] = "If-None-Match:",
    [SINCE] = "If-Modified-Since:",
    [UNMODIFIED] = "If-Unmodified-Since:",
    [IF_RANGE] = "If-Range:",
    [DIGEST] = "Want-Repr-Digest:",
};

/* The parts and their text are as long as was said, and nothing was cut. */
static void check_parts(const struct range *spans, size_t n, uint64_t size)
{
    struct multipart *const m = multipart_new(spans, n, size, BOUNDARY);

    MUST(m && m->n == n);
    uint64_t len = m->tail_len;
    MUST(m->tail_len == strlen(m->tail));
    for (size_t i = 0; i < n; i++) {
        char want[128];
        MUST(m->parts[i].head_len == strlen(m->parts[i].head));
        (void)snprintf(want, sizeof(want),
                       "\r\nContent-Range: bytes %llu-%llu/%llu\r\n\r\n",
                       (unsigned long long)spans[i].first,
                       (unsigned long long)spans[i].last,
                       (unsigned long long)size);
        MUST(strstr(m->parts[i].head, want));
        len += m->parts[i].head_len + (spans[i].last - spans[i].first + 1);
    }
    MUST(m->len == len);
    free(m);
}

static void check_range(const char *header, uint64_t size)
{
    struct range spans[MOST], again[RANGE_MOST];
    size_t n = 99, n_again = 99;
    const enum range_kind kind = range_parse(header, size, MOST, spans, &n);
    char text[64 * MOST] = "bytes=";

    MUST(n <= MOST);
    if (kind == RANGE_WHOLE) {
        const char *const p = header ? header + strspn(header, " \t") : "";
        MUST(strncasecmp(p, "bytes=", 6) != 0);
        return;
    }
    MUST(header);
    if (kind == RANGE_UNSATISFIABLE)
        return;
    MUST(kind == RANGE_PART && n > 0);
    for (size_t i = 0; i < n; i++) {
        MUST(spans[i].first <= spans[i].last && spans[i].last < size);
        for (size_t k = 0; k < i; k++)
            MUST(spans[i].first > spans[k].last ||
                 spans[k].first > spans[i].last);
        const size_t at = strlen(text);
        (void)snprintf(text + at, sizeof(text) - at, "%s%llu-%llu",
                       i ? "," : "", (unsigned long long)spans[i].first,
                       (unsigned long long)spans[i].last);
    }
    check_parts(spans, n, size);
    MUST(range_parse(text, size, MOST, again, &n_again) == RANGE_PART);
    MUST(n_again == n && memcmp(spans, again, n * sizeof(*spans)) == 0);
    /* The limit decides whether, never what. */
    MUST(range_parse(header, size, RANGE_MOST, again, &n_again) == RANGE_PART);
    MUST(n_again == n && memcmp(spans, again, n * sizeof(*spans)) == 0);
}

static void check_date(const char *text)
{
    int64_t t = 0, back = 0;
    char written[30];

    if (!text || !precondition_parse_date(text, NOW, &t))
        return;
    const size_t len = strlen(text);
    MUST(len >= 24 && len <= 33);
    MUST(t >= INT64_C(-62167219200) && t <= INT64_C(253402300800));
    precondition_format_date(t, written);
    MUST(!written[0] == (t < 0 || t == INT64_C(253402300800)));
    MUST(!written[0] ||
         (precondition_parse_date(written, 0, &back) && back == t));
}

static void check_conditions(char *const *v)
{
    const struct precondition p = {.if_match = v[MATCH],
                                   .if_none_match = v[NONE_MATCH],
                                   .if_modified_since = v[SINCE],
                                   .if_unmodified_since = v[UNMODIFIED],
                                   .if_range = v[IF_RANGE],
                                   .etag = ETAG,
                                   .mtime = INT64_C(784111777),
                                   .now = NOW};
    struct precondition q = p;
    const enum precondition_result got = precondition_check(&p);
    const char *const m = p.if_match, *const n = p.if_none_match;

    if (m && !strstr(m, ETAG) && !strchr(m, '*'))
        MUST(got == PRECONDITION_FAILED);
    if (n && !strstr(n, ETAG) && !strchr(n, '*'))
        MUST(got != PRECONDITION_NOT_MODIFIED);
    if (!m && !n && !p.if_modified_since && !p.if_unmodified_since)
        MUST(got == PRECONDITION_PASS);
    /* 13.1.3, 13.1.4: not looked at beside the tags */
    if (n)
        q.if_modified_since = NULL;
    if (m)
        q.if_unmodified_since = NULL;
    MUST(precondition_check(&q) == got);
    /* Without a time of ours times decide nothing. */
    q.mtime = INT64_MIN;
    if (!m && !n)
        MUST(precondition_check(&q) == PRECONDITION_PASS);
    if (p.if_range && !strstr(p.if_range, ETAG))
        MUST(!precondition_range_ok(&q));
    if (p.if_range && precondition_range_ok(&p))
        MUST(strstr(p.if_range, ETAG) || strstr(p.if_range, "94"));
    check_date(p.if_modified_since);
    check_date(p.if_unmodified_since);
    check_date(p.if_range);
}

static void check_digest(const char *value)
{
    static const char *const keys[] = {"", "sha-256", "sha-512"};
    const enum digest_algorithm a = digest_wanted(value);
    char hex[129] = "", field[DIGEST_FIELD], again[DIGEST_FIELD];

    MUST(a <= DIGEST_SHA512 && (value || a == DIGEST_NONE));
    if (a == DIGEST_NONE)
        return;
    MUST(strcasestr(value, keys[a]));
    memset(hex, 'a', a == DIGEST_SHA256 ? 64 : 128);
    digest_field_of_hex(a, hex, field);
    digest_field(a, value, strlen(value), again);
    MUST(strlen(field) == strlen(again));
    MUST(strncmp(field, keys[a], 7) == 0 && strncmp(again, keys[a], 7) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *v[N] = {NULL};
    uint64_t disk = 0;
    size_t i = 0;

    for (; i < size && data[i] >= '0' && data[i] <= '9'; i++)
        disk = (disk * 10 + data[i] - '0') & INT64_MAX; /* PLT_SIZE_MAX */
    while (i < size) {
        const uint8_t *const end = memchr(data + i, '\n', size - i);
        const size_t len = end ? (size_t)(end - data) - i : size - i;
        for (size_t k = RANGE; k < N; k++) {
            const size_t head = strlen(names[k]);
            if (len < head || memcmp(data + i, names[k], head) != 0 || v[k])
                continue;
            v[k] = strndup((const char *)data + i + head, len - head);
            MUST(v[k]);
        }
        i += len + 1;
    }
    check_range(v[RANGE], disk);
    check_conditions(v);
    check_digest(v[DIGEST]);
    for (size_t k = RANGE; k < N; k++)
        free(v[k]);
    return 0;
}
