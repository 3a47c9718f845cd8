/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <platter/driver.h>

#include "stack/trace.h"

#define SIZE (UINT64_C(1) << 40)

static struct recorder *rec;
static struct trace trace;

static void set_up(void)
{
    rec = recorder_new();
    cr_assert(rec);
    recorder_begin(rec, SIZE, "\"00ff\"", 60);
}

static void tear_down(void)
{
    trace_release(&trace);
    recorder_free(rec);
}

TestSuite(trace, .init = set_up, .fini = tear_down);

static void get(size_t n)
{
    trace_release(&trace);
    cr_assert(recorder_get(rec, &trace));
    cr_assert_eq(trace.n, n, "%zu, not %zu", trace.n, n);
}

static void is(size_t i, uint64_t off, uint64_t len)
{
    cr_assert_eq(trace.reads[i].off, off, "[%zu] at %zu", i,
                 (size_t)trace.reads[i].off);
    cr_assert_eq(trace.reads[i].len, len, "[%zu] of %zu", i,
                 (size_t)trace.reads[i].len);
}

Test(trace, each_byte_counts_when_it_is_first_read)
{
    cr_assert_not(recorder_add(rec, 100, 1));
    cr_assert_not(recorder_add(rec, 1 << 20, 8192));
    cr_assert_not(recorder_add(rec, 0, 4096)); /* known */
    /* Around what is known: two stretches, and one that goes on. */
    cr_assert_not(recorder_add(rec, (1 << 20) - 4096, 16384));
    get(3);
    is(0, 0, 4096);
    is(1, 1 << 20, 12288);
    is(2, (1 << 20) - 4096, 4096);
}

Test(trace, what_goes_on_lengthens_up_to_a_bound)
{
    for (unsigned i = 0; i < 512; i++) {
        (void)recorder_add(rec, (1 << 30) + i * 4096, 4096);
        (void)recorder_add(rec, i * 8192, 4096); /* another reader */
    }
    trace_release(&trace);
    cr_assert(recorder_get(rec, &trace));
    uint64_t all = 0;
    for (size_t i = 0; i < trace.n; i++) {
        cr_assert_leq(trace.reads[i].len, TRACE_LONGEST);
        if (trace.reads[i].off >= 1 << 30)
            all += trace.reads[i].len;
    }
    cr_assert_eq(all, 512 * 4096);
    cr_assert_leq(trace.n, 512 + 512 / 12);
}

Test(trace, ends_when_it_is_full_and_says_so_once)
{
    unsigned ended = 0;
    bool has_ended;

    for (uint64_t i = 0; i < TRACE_READS + 100; i++)
        ended += recorder_add(rec, i << 20, 1);
    cr_assert_eq(ended, 1);
    get(TRACE_READS);
    cr_assert(trace.is_truncated);
    cr_assert_not(recorder_is_on(rec, &has_ended));
    cr_assert_not(has_ended);
    /* Anew: nothing of before. */
    recorder_begin(rec, SIZE, "\"01\"", 60);
    (void)recorder_add(rec, 0, 1);
    get(1);
    cr_assert_not(trace.is_truncated);
    cr_assert(recorder_end(rec));
    cr_assert_not(recorder_end(rec));
    cr_assert_not(recorder_add(rec, 1 << 20, 1));
    get(1);
}

Test(trace, ends_with_the_disk)
{
    recorder_begin(rec, 5000, "\"00\"", 60);
    cr_assert_not(recorder_add(rec, 4999, 1));
    get(1);
    is(0, 4096, 904);
}

/* Against a map of what was read. */
Test(trace, any_order_of_reads)
{
    enum { PAGES = 1024 };
    uint8_t seen[PAGES] = {0}, told[PAGES] = {0};

    srand(7);
    recorder_begin(rec, PAGES * 4096, "\"00\"", 60);
    for (unsigned i = 0; i < 2000; i++) {
        const unsigned at = (unsigned)rand() % PAGES;
        const unsigned most = PAGES - at < 40 ? PAGES - at : 40;
        const unsigned n = 1 + (unsigned)rand() % most;
        if (i < 60) {
            cr_assert_not(recorder_add(rec, at * 4096, n * 4096));
            memset(seen + at, 1, n);
        } else { /* only what is known */
            unsigned k = 0;
            while (k < n && seen[at + k])
                k++;
            if (k)
                cr_assert_not(recorder_add(rec, at * 4096, k * 4096));
        }
    }
    trace_release(&trace);
    cr_assert(recorder_get(rec, &trace));
    for (size_t i = 0; i < trace.n; i++) {
        for (uint64_t k = 0; k < trace.reads[i].len / 4096; k++)
            cr_assert_eq(told[trace.reads[i].off / 4096 + k]++, 0);
    }
    cr_assert_arr_eq(seen, told, PAGES);
}

struct row {
    const char *text, *why;
};

Test(trace, hostile_documents)
{
    static const struct row rows[] = {
        {"", "not JSON"},
        {"[]", "version"},
        {"{\"version\":2,\"virtual-size\":1,\"reads\":[]}", "version"},
        {"{\"version\":1,\"reads\":[]}", "virtual-size"},
        {"{\"version\":1,\"virtual-size\":-1,\"reads\":[]}", "virtual-size"},
        {"{\"version\":1,\"virtual-size\":8192}", "reads"},
        {"{\"version\":1,\"virtual-size\":4096,\"reads\":[]}", "4096"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[],\"x\":1}", "x"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[],\"etag\":5}",
         "etag"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[],\"created\":\"now\""
         "}",
         "created"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[[0,1]]}", "reads[0]"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[[0,0,0]]}",
         "outside"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[[8192,1,0]]}",
         "outside"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":"
         "[[9223372036854775807,9223372036854775807,0]]}",
         "outside"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[[0.5,1,0]]}",
         "reads[0]"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[[0,1,4294967296]]}",
         "reads[0]"},
        {"{\"version\":1,\"virtual-size\":8192,\"reads\":[[0,8192,0],[0,1,0]]}",
         "more is read"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct plt_error err = {.at = PLT_AT_NONE};
        cr_assert_eq(
            trace_parse(&trace, rows[i].text, strlen(rows[i].text), 8192, &err),
            PLT_INVALID, "%s", rows[i].text);
        cr_assert(strstr(err.text, rows[i].why), "%s: %s", rows[i].text,
                  err.text);
        cr_assert_null(trace.reads);
    }
}
