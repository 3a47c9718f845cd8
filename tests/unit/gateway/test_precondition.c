/* SPDX-License-Identifier: Apache-2.0 */
/* Conditional requests against RFC 9110: 5.6.7 dates, 8.8.3 entity-tags, 13.1
 * each field, 13.2.2 their order. */
#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "precondition.h"

#define TAG "\"v1\""
/* The time of every example in RFC 9110 5.6.7; `date -u -d @784111777` agrees.
 */
#define T INT64_C(784111777)
#define AT_T "Sun, 06 Nov 1994 08:49:37 GMT"
#define BEFORE_T "Sun, 06 Nov 1994 08:49:36 GMT"
#define AFTER_T "Sun, 06 Nov 1994 08:49:38 GMT"

/* For years of two digits: 2026-11-21 00:00:00. */
#define NOW INT64_C(1795219200)

#define N(a) (sizeof(a) / sizeof((a)[0]))

Test(date, all_three_forms_of_5_6_7_are_one_time)
{
    static const char *const forms[] = {
        "Sun, 06 Nov 1994 08:49:37 GMT",  /* IMF-fixdate */
        "Sunday, 06-Nov-94 08:49:37 GMT", /* rfc850-date */
        "Sun Nov  6 08:49:37 1994",       /* asctime-date */
    };
    for (size_t i = 0; i < N(forms); i++) {
        int64_t t = 0;
        cr_assert(precondition_parse_date(forms[i], NOW, &t), "%s", forms[i]);
        cr_assert_eq(t, T, "%s gave %jd", forms[i], (intmax_t)t);
    }
}

Test(date, edges_of_the_calendar_are_right)
{
    /* times by `date -u -d ... +%s` */
    static const struct {
        const char *text;
        int64_t t;
    } rows[] = {
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Tue, 29 Feb 2000 23:59:59 GMT", 951868799},
        {"Wed, 01 Mar 2000 00:00:00 GMT", 951868800},
        {"Thu, 29 Feb 2024 12:00:00 GMT", 1709208000},
        {"Sun, 31 Dec 2023 23:59:59 GMT", 1704067199},
        {"Tue, 19 Jan 2038 03:14:08 GMT", 2147483648},
        {"Mon, 01 Mar 2100 00:00:00 GMT", 4107542400},
        {"Wed Mar 30 01:02:03 2011", 1301446923},
        {"Friday, 31-Dec-99 23:59:59 GMT", 946684799},
        {"Saturday, 01-Jan-00 00:00:00 GMT", 946684800},
        /* 5.6.7: more than 50 years ahead is in the past */
        {"Tuesday, 01-Jan-80 00:00:00 GMT", 315532800},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800}, /* a leap second */
        {"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799},
        {"Sun Nov 06 08:49:37 1994", T}, /* asctime: ( 2DIGIT / SP DIGIT ) */
        /* the weekday is a name of one, and says nothing else */
        {"Mon, 06 Nov 1994 08:49:37 GMT", T},
    };
    for (size_t i = 0; i < N(rows); i++) {
        int64_t t = -1;
        cr_expect(precondition_parse_date(rows[i].text, NOW, &t), "%s",
                  rows[i].text);
        cr_expect_eq(t, rows[i].t, "%s gave %jd", rows[i].text, (intmax_t)t);
    }
}

Test(date, what_is_no_date_is_none)
{
    static const char *const bad[] = {
        "",
        "yesterday",
        "784111777",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 GMT+1",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nox 1994 08:49:37 GMT",
        "Sun, 06 anF 1994 08:49:37 GMT",
        "Sun, 06 No 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun Nov  6 08:49:37",
        "\"Sun, 06 Nov 1994 08:49:37 GMT\"",
        "Sun, 06 Nov 99999999999 08:49:37 GMT",
        /* 5.6.7: case-sensitive */
        "sun, 06 Nov 1994 08:49:37 GMT",
        "SUN, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "sunday, 06-Nov-94 08:49:37 GMT",
        /* names of nothing */
        "Xyz, 06 Nov 1994 08:49:37 GMT",
        "Sunda, 06-Nov-94 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sunday Nov  6 08:49:37 1994",
        ", 06 Nov 1994 08:49:37 GMT",
        /* exactly as many digits, and one space, as the grammar has */
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun,  6 Nov 1994 08:49:37 GMT",
        "Sun, 006 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov  1994 08:49:37 GMT",
        "Sun, 06 Nov 1994  08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37  GMT",
        "Sun, 06 Nov 1994 08:49:37GMT",
        "Sun,\t06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 994 08:49:37 GMT",
        "Sun, 06 Nov 01994 08:49:37 GMT",
        "Sun, 06 Nov -994 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994  8:49:37 GMT",
        "Sun, 06 Nov 1994 08:9:37 GMT",
        "Sun, 06 Nov 1994 08:49:7 GMT",
        "Sun, 06 Nov 1994 -8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37.0 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sunday, 6-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-4 08:49:37 GMT",
        "Sunday, 06-Nov-094 08:49:37 GMT",
        "Sunday, 06 Nov 94 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov   6 08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  6 08:49:37 19940",
        "Sun, Nov  6 08:49:37 1994",
        /* no days of the calendar */
        "Wed, 30 Feb 2000 00:00:00 GMT",
        "Thu, 29 Feb 2001 00:00:00 GMT",
        "Mon, 29 Feb 2100 00:00:00 GMT",
        "Sun, 31 Apr 1994 00:00:00 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Monday, 29-Feb-99 00:00:00 GMT",
        "Sun Nov  0 08:49:37 1994",
        "Sun, 06 Nov 1994 99:49:37 GMT",
        "Sun, 06 Nov 1994 08:99:37 GMT",
        "Sun, 06 Nov 1994 08:49:99 GMT",
    };
    for (size_t i = 0; i < N(bad); i++) {
        int64_t t = 42;
        cr_expect_not(precondition_parse_date(bad[i], NOW, &t),
                      "\"%s\" gave %jd", bad[i], (intmax_t)t);
    }
}

/* RFC 9110 5.6.7: a timestamp that appears to be more than 50 years in the
 * future is the most recent year in the past with the same last two digits. */
Test(date, years_of_two_digits_turn_over_50_years_from_now)
{
    /* times by `date -u -d ... +%s` */
    static const struct {
        int64_t now;
        const char *text;
        int64_t t;
    } rows[] = {
        {NOW, "Saturday, 21-Nov-26 00:00:00 GMT", 1795219200},
        {NOW, "Saturday, 21-Nov-76 00:00:00 GMT",
         3373142400}, /* to the second */
        {NOW, "Sunday, 21-Nov-76 00:00:01 GMT", 217382401},
        {NOW, "Friday, 20-Nov-76 23:59:59 GMT", 3373142399},
        {NOW, "Friday, 01-Jan-77 00:00:00 GMT", 220924800},
        {NOW, "Friday, 31-Dec-99 23:59:59 GMT", 946684799},
        {NOW, "Thursday, 01-Jan-26 00:00:00 GMT", 1767225600},
        /* 2099-12-31 23:59:59: 10 is 2110, and 49 the year before 50 */
        {4102444799, "Wednesday, 01-Jan-10 00:00:00 GMT", 4417977600},
        {4102444799, "Wednesday, 31-Dec-49 23:59:59 GMT", 5680281599},
        {4102444799, "Wednesday, 01-Jan-50 00:00:00 GMT", 2524608000},
        /* 2024-02-29: the same day of 2074 is the first of March */
        {1709208000, "Thursday, 01-Mar-74 11:59:59 GMT", 3287131199},
        {1709208000, "Thursday, 02-Mar-74 00:00:00 GMT", 131414400},
        /* 1970, as a clock that was never set says */
        {0, "Sunday, 06-Nov-94 08:49:37 GMT", T},
        /* 29 February of what year it turns out to be */
        {NOW, "Tuesday, 29-Feb-00 00:00:00 GMT", 951782400},
    };
    for (size_t i = 0; i < N(rows); i++) {
        int64_t t = -1;
        cr_expect(precondition_parse_date(rows[i].text, rows[i].now, &t), "%s",
                  rows[i].text);
        cr_expect_eq(t, rows[i].t, "%s gave %jd", rows[i].text, (intmax_t)t);
    }
}

Test(date, what_is_written_is_what_libc_writes_and_reads_back)
{
    char ours[30], theirs[64];
    for (int64_t t = 0; t < INT64_C(253402300800);
         t += INT64_C(86400) * 97 + 3607) {
        const time_t when = (time_t)t;
        struct tm tm;
        int64_t back = -1;
        precondition_format_date(t, ours);
        cr_assert_not_null(gmtime_r(&when, &tm));
        (void)strftime(theirs, sizeof(theirs), "%a, %d %b %Y %H:%M:%S GMT",
                       &tm);
        cr_assert_str_eq(ours, theirs);
        cr_assert(precondition_parse_date(ours, NOW, &back));
        cr_assert_eq(back, t, "%s", ours);
    }
}

Test(date, a_time_no_http_date_can_say_is_written_as_nothing)
{
    const int64_t bad[] = {-1, INT64_MIN, INT64_MAX, INT64_C(253402300800)};
    for (size_t i = 0; i < N(bad); i++) {
        char out[30];
        memset(out, 'x', sizeof(out));
        precondition_format_date(bad[i], out);
        cr_expect_str_empty(out);
    }
    char last[30];
    precondition_format_date(INT64_C(253402300799), last);
    cr_expect_str_eq(last, "Fri, 31 Dec 9999 23:59:59 GMT");
}

/* ---- Decisions ---- */

struct row {
    const char *match, *none, *modified, *unmodified;
    enum precondition_result want;
};

static void check(const struct row *rows, size_t n, const char *etag,
                  int64_t mtime)
{
    for (size_t i = 0; i < n; i++) {
        const struct precondition p = {.if_match = rows[i].match,
                                       .if_none_match = rows[i].none,
                                       .if_modified_since = rows[i].modified,
                                       .if_unmodified_since =
                                           rows[i].unmodified,
                                       .etag = etag,
                                       .mtime = mtime,
                                       .now = NOW};
        cr_expect_eq(precondition_check(&p), rows[i].want, "row %zu", i);
    }
}

#define PASS PRECONDITION_PASS
#define FAILED PRECONDITION_FAILED
#define SAME PRECONDITION_NOT_MODIFIED

Test(precondition, if_match_compares_strongly)
{
    static const struct row rows[] = {
        {NULL, NULL, NULL, NULL, PASS}, /* no condition at all */
        {TAG, NULL, NULL, NULL, PASS},
        {"\"v2\"", NULL, NULL, NULL, FAILED},
        {"W/" TAG, NULL, NULL, NULL, FAILED}, /* 13.1.1, 8.8.3.2 */
        {"*", NULL, NULL, NULL, PASS},
        {" * ", NULL, NULL, NULL, PASS},
        {"\"a\", " TAG, NULL, NULL, NULL, PASS},
        {"\"a\",\"b\" , " TAG " ,\"c\"", NULL, NULL, NULL, PASS},
        {"\"a\", W/" TAG, NULL, NULL, NULL, FAILED},
        {"\"V1\"", NULL, NULL, NULL, FAILED}, /* case counts */
        {"\"v1", NULL, NULL, NULL, FAILED},   /* malformed names nothing */
        {"v1", NULL, NULL, NULL, FAILED},
        {"", NULL, NULL, NULL, FAILED},
        {"**", NULL, NULL, NULL, FAILED},
        {"*, " TAG, NULL, NULL, NULL, FAILED},
        {"\"v\"", NULL, NULL, NULL, FAILED},
        {"\"v11\"", NULL, NULL, NULL, FAILED},
        {"w/" TAG, NULL, NULL, NULL, FAILED}, /* 8.8.3: W is case-sensitive */
        {"W/ " TAG, NULL, NULL, NULL, FAILED},
        /* 5.6.1.2: empty elements and the space around them */
        {",, ,\t" TAG ",,", NULL, NULL, NULL, PASS},
        {"\t\"a\"\t,\t" TAG "\t", NULL, NULL, NULL, PASS},
        /* no comma, no list */
        {"\"a\" " TAG, NULL, NULL, NULL, FAILED},
        {"\"a\"" TAG, NULL, NULL, NULL, FAILED},
        {TAG "x", NULL, NULL, NULL, FAILED},
        {"\"a\";" TAG, NULL, NULL, NULL, FAILED},
        {"\"a\", x, " TAG, NULL, NULL, NULL, FAILED},
        {"\"a\", *", NULL, NULL, NULL, FAILED},
        {", *", NULL, NULL, NULL, FAILED},
        {TAG ", rubbish", NULL, NULL, NULL, PASS},
    };
    check(rows, N(rows), TAG, T);
}

Test(precondition, if_none_match_compares_weakly)
{
    static const struct row rows[] = {
        {NULL, TAG, NULL, NULL, SAME},
        {NULL, "W/" TAG, NULL, NULL, SAME}, /* 13.1.2 */
        {NULL, "\"v2\"", NULL, NULL, PASS},
        {NULL, "*", NULL, NULL, SAME},
        {NULL, "\"a\", W/\"b\", " TAG, NULL, NULL, SAME},
        {NULL, "\"a,\", " TAG, NULL, NULL, SAME}, /* a comma is a tag's own */
        {NULL, "\"a, v1\"", NULL, NULL, PASS},
        {NULL, "garbage", NULL, NULL, PASS},
        {NULL, "", NULL, NULL, PASS},
        {NULL, " \t*\t ", NULL, NULL, SAME},
        {NULL, "\"a\" " TAG, NULL, NULL, PASS},
        {NULL, "W/W/" TAG, NULL, NULL, PASS},
        {NULL, TAG "," TAG, NULL, NULL, SAME},
    };
    check(rows, N(rows), TAG, T);
}

Test(precondition, times_count_by_whole_seconds)
{
    static const struct row rows[] = {
        {NULL, NULL, AT_T, NULL, SAME}, /* 13.1.3 */
        {NULL, NULL, AFTER_T, NULL, SAME},
        {NULL, NULL, BEFORE_T, NULL, PASS},
        {NULL, NULL, "Sunday, 06-Nov-94 08:49:37 GMT", NULL, SAME},
        {NULL, NULL, "Sun Nov  6 08:49:37 1994", NULL, SAME},
        {NULL, NULL, "not a date", NULL, PASS}, /* MUST ignore */
        {NULL, NULL, NULL, AT_T, PASS},         /* 13.1.4 */
        {NULL, NULL, NULL, AFTER_T, PASS},
        {NULL, NULL, NULL, BEFORE_T, FAILED},
        {NULL, NULL, NULL, "not a date", PASS}, /* MUST ignore */
        /* 5.5: space around a value is none of it */
        {NULL, NULL, " \t" AT_T "\t ", NULL, SAME},
        {NULL, NULL, NULL, " " BEFORE_T " ", FAILED},
        /* two fields, joined as 5.3 says, are no date */
        {NULL, NULL, AT_T ", " AT_T, NULL, PASS},
        {NULL, NULL, NULL, BEFORE_T ", " BEFORE_T, PASS},
        {NULL, NULL, "sun, 06 nov 1994 08:49:37 gmt", NULL, PASS},
        {NULL, NULL, NULL, "sat, 05 nov 1994 08:49:37 gmt", PASS},
        {NULL, NULL,
         "Sun, 06 Nov 1994 08:49:37 GMT                    "
         "                                              x",
         NULL, PASS},
    };
    check(rows, N(rows), TAG, T);
}

Test(precondition, without_a_time_of_ours_times_are_ignored)
{
    static const struct row rows[] = {
        {NULL, NULL, AFTER_T, NULL, PASS},
        {NULL, NULL, NULL, BEFORE_T, PASS},
    };
    check(rows, N(rows), TAG, INT64_MIN);
}

Test(precondition, order_of_13_2_2_is_kept)
{
    static const struct row rows[] = {
        /* step 1 before 2: with If-Match, If-Unmodified-Since is ignored */
        {TAG, NULL, NULL, BEFORE_T, PASS},
        {"\"v2\"", NULL, NULL, AFTER_T, FAILED},
        /* step 3 before 4: with If-None-Match, If-Modified-Since is ignored */
        {NULL, "\"v2\"", AFTER_T, NULL, PASS},
        {NULL, TAG, BEFORE_T, NULL, SAME},
        /* steps 1 and 2 before 3 and 4 */
        {"\"v2\"", TAG, NULL, NULL, FAILED},
        {NULL, TAG, NULL, BEFORE_T, FAILED},
        {TAG, TAG, NULL, NULL, SAME},
        {NULL, NULL, AT_T, AT_T, SAME},
    };
    check(rows, N(rows), TAG, T);
}

Test(if_range, only_what_names_these_very_bytes_lets_a_range_through)
{
    static const struct {
        const char *value;
        bool ok;
    } rows[] = {
        {NULL, true},
        {TAG, true},
        {"  " TAG, true},
        {"\"v2\"", false},
        {"W/" TAG, false}, /* 13.1.5: strong comparison */
        {"*", false},
        {"\"a\", " TAG, false}, /* one tag, no list */
        {"v1", false},
        {"", false},
        {AT_T, true},
        {"Sunday, 06-Nov-94 08:49:37 GMT", true},
        {"Sun Nov  6 08:49:37 1994", true},
        {BEFORE_T, false},
        {AFTER_T, false}, /* an exact match, not "since" */
        {"not a date", false},
        {TAG " \t", true}, /* 5.5 */
        {TAG ",", false},
        {TAG TAG, false},
        {TAG "x", false},
        {"\"v1", false},
        {"W/", false},
        {"Sun, 06 Nov 1994 08:49:37 GMT ", true},
        {"Sun, 6 Nov 1994 08:49:37 GMT", false},
        {"Sun, 06 Nov 1994 08:49:37 gmt", false},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct precondition p = {
            .if_range = rows[i].value, .etag = TAG, .mtime = T, .now = NOW};
        cr_expect_eq(precondition_range_ok(&p), rows[i].ok, "\"%s\"",
                     rows[i].value ? rows[i].value : "(none)");
        p.mtime = INT64_MIN;
        const bool is_date = rows[i].value && *rows[i].value == 'S';
        cr_expect_eq(precondition_range_ok(&p), rows[i].ok && !is_date,
                     "\"%s\" without a time of ours",
                     rows[i].value ? rows[i].value : "(none)");
    }
}
