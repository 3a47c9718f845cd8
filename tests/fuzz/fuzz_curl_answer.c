/* SPDX-License-Identifier: Apache-2.0 */
/* What an origin answers, line by line, to a request for a span of a file that
 * is open.  The first byte says which span, the next two the status; what
 * follows are the headers' lines.
 *
 * Only an answer that says to be that span of that version, as long as that, is
 * taken; no line makes a text of ours longer than it may be. */
#include <stdbool.h>
#include <string.h>

#include "curl_image.h"
#include "fuzz_must.h"

#define ETAG "\"v1\""

enum { SIZE = 1000 };

static void check_texts(const struct curl_answer *a)
{
    MUST(memchr(a->etag, 0, sizeof(a->etag)));
    MUST(memchr(a->modified, 0, sizeof(a->modified)));
    MUST(memchr(a->location, 0, sizeof(a->location)));
    MUST(a->retry_after >= -1 && a->retry_after < 3600);
}

struct text {
    const uint8_t *p;
    size_t n;
};

static bool lacks(const struct text *headers, const char *value)
{
    return !memmem(headers->p, headers->n, value, strlen(value));
}

static void check_answer(const struct curl_image *ci, struct curl_answer *a,
                         const struct text *headers, uint64_t off, uint64_t len)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    char range[64];

    err.text[0] = '\0';
    const enum plt_status st = curl_answer_check(ci, a, off, len, &err);
    MUST(st != PLT_BUG && st != PLT_NOMEM && st != PLT_IO);
    MUST(st == PLT_OK || st == PLT_AGAIN || err.text[0]);
    if (st != PLT_OK)
        return;
    MUST(!a->is_coded && !lacks(headers, ETAG));
    if (!ci->has_ranges) {
        MUST(a->code == 200);
        return;
    }
    (void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)off);
    MUST(a->code == 206 && a->has_range && !lacks(headers, range));
    MUST(a->first == off && a->last == (len ? off + len : SIZE) - 1);
    MUST(!a->has_length || a->length == a->last - a->first + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct curl_image ci = {.size = SIZE, .etag = ETAG};
    struct curl_answer a = {.ci = &ci};

    if (size < 3)
        return 0;
    const uint64_t off = data[0] % 64 * 8, len = data[0] / 64 * 100;
    const struct text headers = {data + 3, size - 3};
    ci.has_ranges = data[1] % 2;
    curl_answer_clear(&a);
    for (size_t at = 0; at < size - 3;) {
        const uint8_t *const line = data + 3 + at;
        const uint8_t *const end = memchr(line, '\n', size - 3 - at);
        const size_t n = end ? (size_t)(end - line) + 1 : size - 3 - at;
        char *const copy = malloc(n); /* as libcurl's: no NUL behind */
        MUST(copy);
        memcpy(copy, line, n);
        const size_t took = curl_answer_header(copy, 1, n, &a);
        free(copy);
        check_texts(&a);
        MUST(took == n || took == 0);
        if (took == 0)
            break;
        at += n;
    }
    a.code = 100 + (data[1] / 2 + data[2] * 2) % 500;
    check_answer(&ci, &a, &headers, off, len);
    if (curl_end_fits(&ci, &a, 100))
        MUST(a.code == 206 && a.first == SIZE - 100 && a.last == SIZE - 1);
    return 0;
}
