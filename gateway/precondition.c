/* SPDX-License-Identifier: Apache-2.0 */
#include "precondition.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char days[] = "SunMonTueWedThuFriSat";

/* Days from 1970-01-01 to a date of the Gregorian calendar. */
static int64_t days_from(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    const int64_t era = (y >= 0 ? y : y - 399) / 400;
    const int64_t yoe = y - era * 400;
    const int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

bool precondition_parse_date(const char *text, int64_t *out)
{
    char month[4] = "";
    int d, y, hh, mm, ss, end = 0;
    bool is_short = false;

    if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &d,
               month, &y, &hh, &mm, &ss, &end) != 6 ||
        !end) {
        end = 0;
        is_short =
            sscanf(text, "%*[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &d,
                   month, &y, &hh, &mm, &ss, &end) == 6 &&
            end > 0;
        if (!is_short) {
            end = 0;
            if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n",
                       month, &d, &hh, &mm, &ss, &y, &end) != 6 ||
                !end)
                return false;
        }
    }
    if (text[end])
        return false;
    if (is_short) /* RFC 9110 5.6.7: at most 50 years ahead */
        y += y < 70 ? 2000 : 1900;
    const char *const m = strlen(month) == 3 ? strstr(months, month) : NULL;
    if (!m || (m - months) % 3 || d < 1 || d > 31 || hh < 0 || hh > 23 ||
        mm < 0 || mm > 59 || ss < 0 || ss > 60)
        return false;
    *out = days_from(y, (m - months) / 3 + 1, d) * 86400 + hh * 3600 + mm * 60 +
           ss;
    return true;
}

void precondition_format_date(int64_t t, char out[30])
{
    const time_t when = (time_t)t;
    struct tm tm;

    out[0] = '\0';
    if (t < 0 || t >= INT64_C(253402300800) || !gmtime_r(&when, &tm))
        return;
    char text[96]; /* a year of tm may be any int, for the compiler */
    (void)snprintf(text, sizeof(text),
                   "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                   days + (size_t)tm.tm_wday * 3, tm.tm_mday,
                   months + (size_t)tm.tm_mon * 3, tm.tm_year + 1900,
                   tm.tm_hour, tm.tm_min, tm.tm_sec);
    (void)snprintf(out, 30, "%.29s", text);
}

/* The entity-tag list names ours: weakly (If-None-Match) or strongly. */
static bool list_has(const char *list, const char *etag, bool is_weak_ok)
{
    const char *p = list;

    for (;;) {
        p += strspn(p, " \t,");
        if (!*p)
            return false;
        if (*p == '*' && p == list + strspn(list, " \t"))
            return p[1 + strspn(p + 1, " \t")] == '\0';
        const bool is_weak = strncmp(p, "W/", 2) == 0;
        p += is_weak ? 2 : 0;
        if (*p != '"')
            return false; /* malformed: names nothing from here on */
        const char *const end = strchr(p + 1, '"');
        if (!end)
            return false;
        const size_t n = (size_t)(end - p) + 1;
        if (n == strlen(etag) && memcmp(p, etag, n) == 0 &&
            (!is_weak || is_weak_ok))
            return true;
        p = end + 1;
    }
}

enum precondition_result precondition_check(const struct precondition *p)
{
    int64_t date;
    const bool has_mtime = p->mtime != INT64_MIN;

    /* 13.2.2, steps 1 to 4 */
    if (p->if_match) {
        if (!list_has(p->if_match, p->etag, false))
            return PRECONDITION_FAILED;
    } else if (p->if_unmodified_since && has_mtime &&
               precondition_parse_date(p->if_unmodified_since, &date) &&
               p->mtime > date) {
        return PRECONDITION_FAILED;
    }
    if (p->if_none_match) {
        if (list_has(p->if_none_match, p->etag, true))
            return PRECONDITION_NOT_MODIFIED;
    } else if (p->if_modified_since && has_mtime &&
               precondition_parse_date(p->if_modified_since, &date) &&
               p->mtime <= date) {
        return PRECONDITION_NOT_MODIFIED;
    }
    return PRECONDITION_PASS;
}

bool precondition_range_ok(const struct precondition *p)
{
    int64_t date;

    if (!p->if_range)
        return true;
    const char *const v = p->if_range + strspn(p->if_range, " \t");
    if (*v == '"') /* strong comparison; a weak tag never matches */
        return strcmp(v, p->etag) == 0;
    /* A date must be exactly ours. */
    return p->mtime != INT64_MIN && precondition_parse_date(v, &date) &&
           date == p->mtime;
}
