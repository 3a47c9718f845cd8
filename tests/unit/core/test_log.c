/* SPDX-License-Identifier: Apache-2.0 */
/* One event is one line whatever is in it, and no secret gets into one. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* What has been logged since start(), NUL-terminated. */
struct sink {
    FILE *file;
    char text[400000];
};
static struct sink sink;

static void start(void)
{
    sink.file = tmpfile();
    cr_assert_not_null(sink.file);
    log_set_fd(fileno(sink.file));
    log_set_level(LOG_INFO);
}

static const char *logged(void)
{
    const ssize_t n =
        pread(fileno(sink.file), sink.text, sizeof(sink.text) - 1, 0);
    cr_assert_geq(n, 0);
    sink.text[n] = '\0';
    return sink.text;
}

static const char *one_text(const char *value)
{
    struct log_line l;
    start();
    log_begin(&l, LOG_INFO, "e");
    log_text(&l, "k", value);
    log_end(&l);
    return logged();
}

Test(log, a_line_is_level_event_and_pairs)
{
    struct log_line l;
    start();
    log_begin(&l, LOG_WARN, "read_failed");
    log_text(&l, "image", "demo/x.tar.gz");
    log_number(&l, "size", UINT64_MAX);
    log_signed(&l, "mtime", INT64_MIN);
    log_hex(&l, "id", 0xbeef);
    log_end(&l);
    cr_assert_str_eq(logged(),
                     "level=warn event=read_failed image=demo/x.tar.gz "
                     "size=18446744073709551615 mtime=-9223372036854775808 "
                     "id=0xbeef\n");
}

Test(log, untrusted_text_is_escaped_so_that_a_line_stays_one)
{
    static const struct {
        const char *value, *want;
    } rows[] = {
        {"plain-1.2_~/:{}", "plain-1.2_~/:{}"},
        {"", "\"\""},
        {"a b", "\"a b\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"x\nlevel=error event=fake", "\"x\\x0alevel=error event=fake\""},
        {"\r\n\t\x1b[31m", "\\x0d\\x0a\\x09\\x1b[31m"},
        {"\x7f", "\\x7f"},
        {"\xc3\xa9\xff", "\\xc3\\xa9\\xff"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char want[128];
        (void)snprintf(want, sizeof(want), "level=info event=e k=%s\n",
                       rows[i].want);
        cr_expect_str_eq(one_text(rows[i].value), want);
    }
}

Test(log, every_byte_alone_gives_one_printable_line)
{
    for (int c = 1; c < 256; c++) {
        const char value[] = {(char)c, '\0'};
        const char *const line = one_text(value);
        const size_t n = strlen(line);
        cr_assert_eq(strcspn(line, "\n"), n - 1, "byte %d", c);
        for (size_t i = 0; i + 1 < n; i++)
            cr_assert(line[i] >= 0x20 && line[i] < 0x7f, "byte %d", c);
        (void)fclose(sink.file);
    }
}

Test(log, a_line_too_long_is_cut_and_says_so)
{
    char value[9000];
    for (size_t len = 1990; len < 2100; len++) {
        memset(value, 'a', len);
        value[len] = '\0';
        struct log_line l;
        start();
        log_begin(&l, LOG_INFO, "e");
        log_text(&l, "k", value);
        log_number(&l, "after", 1);
        log_end(&l);
        const char *const line = logged();
        const size_t n = strlen(line);
        cr_assert_leq(n, sizeof(l.text));
        cr_assert_eq(line[n - 1], '\n');
        const bool is_whole = strcmp(line + n - 9, " after=1\n") == 0;
        const bool is_marked = strcmp(line + n - 7, " cut=1\n") == 0;
        cr_assert(is_whole != is_marked, "length %zu", len);
        (void)fclose(sink.file);
    }
    memset(value, '\n', sizeof(value) - 1); /* four times as long in the log */
    value[sizeof(value) - 1] = '\0';
    const char *const line = one_text(value);
    cr_assert_str_eq(line + strlen(line) - 7, " cut=1\n");
}

Test(log, levels_above_the_one_set_are_dropped)
{
    start();
    log_set_level(LOG_WARN);
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        struct log_line l;
        log_begin(&l, (enum log_level)level, "e");
        log_end(&l);
    }
    cr_assert_str_eq(logged(), "level=error event=e\nlevel=warn event=e\n");
}

Test(log, addresses_lose_user_password_query_and_fragment)
{
    static const struct {
        const char *url, *want;
    } rows[] = {
        {"http://host/a/b.gz", "http://host/a/b.gz"},
        {"https://user:secret@host:8443/a?token=x#y", "https://host:8443/a"},
        {"https://secret@host", "https://host"},
        {"http://host/a?X-Amz-Signature=secret", "http://host/a"},
        {"http://host?secret", "http://host"},
        {"http://host#secret", "http://host"},
        {"http://u:p@ss@host/x", "http://host/x"}, /* the last @ counts */
        {"http://host/mail@example", "http://host/mail@example"},
        {"qcow2:http://u:secret@host/x?secret", "qcow2:http://host/x"},
        {"/srv/images/disk.raw", "/srv/images/disk.raw"},
        {"", ""},
        {"http://", "http://"},
        {"http://user:secret@", "http://"},
        {"http://[::1]:80/x?secret", "http://[::1]:80/x"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char out[256];
        log_redact_url(rows[i].url, out, sizeof(out));
        cr_expect_str_eq(out, rows[i].want);
    }
    char small[8];
    log_redact_url("http://host/long/path", small, sizeof(small));
    cr_assert_str_eq(small, "http://");
}

enum { WRITERS = 8, LINES = 200 };

static void *write_lines(void *arg)
{
    const char *const value = arg;
    for (int i = 0; i < LINES; i++) {
        struct log_line l;
        log_begin(&l, LOG_INFO, "e");
        log_text(&l, "k", value);
        log_end(&l);
    }
    return NULL;
}

Test(log, lines_of_many_threads_never_mix)
{
    pthread_t threads[WRITERS];
    char values[WRITERS][200];
    unsigned seen[WRITERS] = {0};

    start();
    (void)ftruncate(fileno(sink.file), 0);
    for (size_t i = 0; i < WRITERS; i++) {
        memset(values[i], 'a' + (int)i, sizeof(values[i]) - 1);
        values[i][sizeof(values[i]) - 1] = '\0';
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, values[i]),
                     0);
    }
    for (size_t i = 0; i < WRITERS; i++)
        (void)pthread_join(threads[i], NULL);
    (void)logged();
    char *save = NULL;
    for (char *line = strtok_r(sink.text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        const char *const k = strstr(line, " k=");
        cr_assert_not_null(k);
        const size_t who = (size_t)(k[3] - 'a');
        cr_assert_lt(who, WRITERS);
        cr_assert_str_eq(k + 3, values[who]);
        seen[who]++;
    }
    for (size_t i = 0; i < WRITERS; i++)
        cr_assert_eq(seen[i], LINES, "writer %zu: %u lines", i, seen[i]);
}
