/* SPDX-License-Identifier: Apache-2.0 */
/* Fields and bodies of answers to requests for several ranges; what servers
 * send as a whole is tests/http/test_exact.py's. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "curl_multipart.h"

static bool boundary(const char *value, char *out)
{
    return curl_boundary(value, value + strlen(value), out);
}

Test(curl_multipart, the_boundary_of_a_content_type)
{
    static const struct {
        const char *value, *want; /* NULL: there is none */
    } table[] = {{"multipart/byteranges; boundary=abc", "abc"},
                 {"Multipart/ByteRanges;BOUNDARY=abc", "abc"},
                 {"multipart/byteranges ; a=b ; boundary=a'()+_,-./:=?9 ; c=d",
                  "a'()+_,-./:=?9"},
                 {"multipart/byteranges; boundary=\"a b\"", "a b"},
                 {"multipart/byteranges; x=\"a;boundary=b\"; boundary=c", "c"},
                 {"multipart/byteranges;; boundary=c;", "c"},
                 {"multipart/byteranges; boundary=\"a \"", NULL},
                 {"multipart/byteranges; boundary=\"a", NULL},
                 {"multipart/byteranges; boundary=a*b", NULL},
                 {"multipart/byteranges; boundary=\"\"", NULL},
                 {"multipart/byteranges; boundary=", NULL},
                 {"multipart/byteranges; boundary", NULL},
                 {"multipart/byteranges; boundary=a; boundary=a", NULL},
                 {"multipart/byteranges", NULL},
                 {"multipart/byterangesx; boundary=a", NULL},
                 {"multipart/mixed; boundary=a", NULL},
                 {"", NULL}};
    char out[CURL_BOUNDARY + 1], value[200];

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const bool has = boundary(table[i].value, out);
        cr_expect_eq(has, table[i].want != NULL, "%s", table[i].value);
        if (has && table[i].want)
            cr_expect_str_eq(out, table[i].want);
    }
    for (int n = 69; n <= 72; n++) {
        (void)snprintf(value, sizeof(value),
                       "multipart/byteranges; boundary=%.*s", n,
                       "0123456789012345678901234567890123456789"
                       "0123456789012345678901234567890123456789");
        cr_expect_eq(boundary(value, out), n <= 70, "%d", n);
    }
}

Test(curl_multipart, spans_are_claimed_whole_once_and_with_their_neighbours)
{
    struct curl_span spans[] = {{.off = 100, .len = 50},
                                {.off = 200, .len = 1},
                                {.off = 201 + CURL_PART_GAP, .len = 9},
                                {.off = 10000, .len = 10}};
    static const struct {
        uint64_t first, last;
        int span; /* -1: no */
    } table[] = {{100, 148, -1},
                 {101, 149, -1},
                 {99, 149, -1},
                 {100, 150, -1},
                 {0, 20000, -1},
                 {200, 10009, -1}, /* too much between */
                 {200, 201 + CURL_PART_GAP + 8, 1},
                 {200, 200, -1},
                 {100, 200, -1}, /* one is here */
                 {100, 149, 0},
                 {100, 149, -1},
                 {10000, 10010, -1},
                 {10000, 10009, 3}};
    size_t span;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const bool is_one = curl_multipart_claim(spans, 4, table[i].first,
                                                 table[i].last, &span);
        cr_expect_eq(is_one, table[i].span >= 0, "%zu", i);
        if (is_one)
            cr_expect_eq((int)span, table[i].span, "%zu", i);
    }
}

struct sink {
    uint8_t bytes[64]; /* of the file */
    size_t n;
};

static void put(void *cookie, size_t span, uint64_t off, const uint8_t *data,
                size_t len)
{
    struct sink *const s = (struct sink *)cookie;
    cr_assert_lt(span, 2);
    memcpy(s->bytes + off, data, len);
    s->n += len;
}

/* What is wrong with a body that comes `step` bytes at a time; NULL: nothing.
 */
static const char *run(const char *body, size_t step, struct sink *sink)
{
    struct curl_span spans[] = {{.off = 4, .len = 6}, {.off = 20, .len = 3}};
    struct curl_multipart m;
    const size_t size = strlen(body);

    *sink = (struct sink){.n = 0};
    curl_multipart_init(&m, "B", spans, 2, 64);
    for (size_t at = 0; at < size; at += step) {
        const size_t n = size - at < step ? size - at : step;
        const char *const wrong =
            curl_multipart_feed(&m, (const uint8_t *)body + at, n, put, sink);
        if (wrong)
            return wrong;
    }
    return curl_multipart_end(&m);
}

#define FIRST "--B\r\nContent-Range: bytes 4-9/64\r\n\r\nab\r\n--\r\n"
#define SECOND "--B\r\nX: y\r\ncontent-range:bytes 20-22/64 \r\n\r\nxyz\r\n"

Test(curl_multipart, parts_come_however_they_are_cut)
{
    static const char *const good[] = {"\r\n" FIRST SECOND "--B--\r\n",
                                       FIRST SECOND "--B--",
                                       SECOND FIRST "--B-- \t\r\n"};
    struct sink sink;

    for (size_t i = 0; i < 3; i++) {
        for (size_t step = 1; step < 200; step++) {
            const char *const wrong = run(good[i], step, &sink);
            cr_assert_null(wrong, "%zu by %zu: %s", i, step, wrong);
            cr_assert_eq(sink.n, 9);
            cr_assert_arr_eq(sink.bytes + 4, "ab\r\n--", 6);
            cr_assert_arr_eq(sink.bytes + 20, "xyz", 3);
        }
    }
}

Test(curl_multipart, a_body_that_is_cut_or_has_a_byte_too_many_is_wrong)
{
    static const char body[] = FIRST SECOND "--B--\r\n";
    const size_t len = strlen(body);
    char text[256];
    struct sink sink;

    for (size_t n = 0; n < len - 2; n++) { /* the last CRLF is free */
        (void)snprintf(text, sizeof(text), "%.*s", (int)n, body);
        cr_expect_not_null(run(text, 7, &sink), "%zu", n);
    }
    (void)snprintf(text, sizeof(text), "%s\r\n", body);
    cr_expect_not_null(run(text, 7, &sink));
}

Test(curl_multipart, a_head_is_bounded)
{
    static char body[8192];
    struct sink sink;

    for (int n = 490; n <= 520; n++) {
        (void)snprintf(body, sizeof(body),
                       "--B\r\nX: %0*d\r\nContent-Range: bytes 4-9/64\r\n\r\n"
                       "abcdef\r\n" SECOND "--B--",
                       n, 0);
        const bool is_good = 3 + n + 2 <= CURL_PART_LINE;
        cr_expect_eq(run(body, 64, &sink) == NULL, is_good, "%d", n);
    }
    for (int lines = 1; lines < 40; lines++) {
        int at = snprintf(body, sizeof(body), "--B\r\n");
        for (int i = 0; i < lines; i++)
            at += snprintf(body + at, sizeof(body) - (size_t)at, "X: %097d\r\n",
                           0);
        (void)snprintf(body + at, sizeof(body) - (size_t)at, "%s%s",
                       strstr(FIRST, "Content"), SECOND "--B--");
        const bool is_good = 100 * lines + 28 <= CURL_PART_HEAD;
        cr_expect_eq(run(body, 64, &sink) == NULL, is_good, "%d", lines);
    }
}
