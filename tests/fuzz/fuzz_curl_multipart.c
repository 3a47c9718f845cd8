/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to a request for several ranges.  The first line is the value of
 * its Content-Type, with the boundary; what follows is the body.
 *
 * However the body is cut into deliveries, the same comes of it; what is given
 * out lies in spans that were asked for or in the little between two; and a
 * body that is good has given out each byte of each span once. */
#include <stdbool.h>
#include <string.h>

#include "curl_multipart.h"
#include "fuzz_must.h"

enum { TOTAL = 20000, N = 4 };

static const struct curl_span asked[N] = {{.off = 0, .len = 16},
                                          {.off = 40, .len = 8},
                                          {.off = 48 + CURL_PART_GAP, .len = 3},
                                          {.off = 19990, .len = 10}};

struct seen {
    uint8_t times[TOTAL], bytes[TOTAL];
};

static void put(void *cookie, size_t span, uint64_t off, const uint8_t *data,
                size_t len)
{
    struct seen *const s = (struct seen *)cookie;

    MUST(len > 0 && span < N && off >= asked[span].off);
    MUST(off < TOTAL && len <= TOTAL - off);
    for (size_t i = 0; i < len; i++) {
        MUST(s->times[off + i]++ == 0);
        s->bytes[off + i] = data[i];
    }
}

/* It is as it should be; what came of it is in *s. */
static bool run(const char *boundary, const uint8_t *body, size_t size,
                size_t step, struct seen *s)
{
    struct curl_span spans[N];
    struct curl_multipart m;
    const char *wrong = NULL;

    memcpy(spans, asked, sizeof(spans));
    memset(s, 0, sizeof(*s));
    curl_multipart_init(&m, boundary, spans, N, TOTAL);
    for (size_t at = 0; at < size && !wrong; at += step) {
        const size_t n = size - at < step ? size - at : step;
        uint8_t *const copy = malloc(n);
        MUST(copy);
        memcpy(copy, body + at, n);
        wrong = curl_multipart_feed(&m, copy, n, put, s);
        free(copy);
        MUST(m.left <= TOTAL && m.line_len <= sizeof(m.line));
    }
    if (!wrong)
        wrong = curl_multipart_end(&m);
    for (size_t i = 0; i < N && !wrong; i++) {
        MUST(spans[i].is_here);
        for (uint64_t k = 0; k < spans[i].len; k++)
            MUST(s->times[spans[i].off + k] == 1);
    }
    return !wrong;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct seen one, other;
    static const size_t steps[] = {1, 7, 64};
    const uint8_t *const end = size ? memchr(data, '\n', size) : NULL;
    char boundary[CURL_BOUNDARY + 1];

    if (!end)
        return 0;
    const size_t n = (size_t)(end - data);
    char *const value = malloc(n + 1); /* without a NUL */
    MUST(value);
    memcpy(value, data, n);
    const bool has = curl_boundary(value, value + n, boundary);
    free(value);
    if (!has)
        return 0;
    MUST(memchr(boundary, 0, sizeof(boundary)) && boundary[0]);
    const size_t len = size - n - 1;
    const bool is_good = run(boundary, end + 1, len, len + 1, &one);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        MUST(run(boundary, end + 1, len, steps[i], &other) == is_good);
        if (is_good)
            MUST(memcmp(&one, &other, sizeof(one)) == 0);
    }
    return 0;
}
