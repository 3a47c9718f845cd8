/* SPDX-License-Identifier: Apache-2.0 */
#include "precondition.h"

#include <string.h>
#include <time.h>

static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char *const weekdays[] = {"Sunday",    "Monday",   "Tuesday",
                                       "Wednesday", "Thursday", "Friday",
                                       "Saturday"};

/* Days from 1970-01-01 to a date of the Gregorian calendar. */
static int64_t days_from(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    const int64_t era = (y >= 0 ? y : y - 399) / 400;
    const int64_t yoe = y - era * 400;
    const int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* ---- Dates ---- */

struct date {
    int64_t year;
    unsigned month, day, hour, minute, second; /* month and day from 1 */
    bool has_century;
};

static bool take_digits(const char **p, size_t n, unsigned *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        *out = *out * 10 + (unsigned)(**p - '0');
    }
    return true;
}

/* A name of the table, by its first three letters or in full; case counts. */
static bool take_name(const char **p, const char *const *names, size_t n,
                      bool is_long, unsigned *out)
{
    for (size_t i = 0; i < n; i++) {
        const size_t len = is_long ? strlen(names[i]) : 3;
        if (strncmp(*p, names[i], len) == 0) {
            *p += len;
            *out = (unsigned)i;
            return true;
        }
    }
    return false;
}

/* The part of a date that `code` stands for, as in strftime(3). */
static bool take_part(const char **p, char code, struct date *d)
{
    unsigned v;

    switch (code) {
    case 'a': /* the weekday says nothing that the date does not */
    case 'A':
        return take_name(p, weekdays, 7, code == 'A', &v);
    case 'b':
        if (!take_name(p, months, 12, false, &v))
            return false;
        d->month = v + 1;
        return true;
    case 'd':
        return take_digits(p, 2, &d->day);
    case 'e': /* asctime's: a space instead of the first digit */
        if (**p != ' ')
            return take_digits(p, 2, &d->day);
        (*p)++;
        return take_digits(p, 1, &d->day);
    case 'Y':
    case 'y':
        d->has_century = code == 'Y';
        if (!take_digits(p, d->has_century ? 4 : 2, &v))
            return false;
        d->year = v;
        return true;
    case 'T':
    default:
        return take_digits(p, 2, &d->hour) && *(*p)++ == ':' &&
               take_digits(p, 2, &d->minute) && *(*p)++ == ':' &&
               take_digits(p, 2, &d->second);
    }
}

static bool take_date(const char *p, const char *form, struct date *d)
{
    for (; *form; form++) {
        if (*form == '%') {
            if (!take_part(&p, *++form, d))
                return false;
        } else if (*p++ != *form) {
            return false;
        }
    }
    return *p == '\0';
}

static bool is_in_calendar(const struct date *d)
{
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30,
                                      31, 31, 30, 31, 30, 31};
    const bool is_leap =
        d->year % 4 == 0 && (d->year % 100 != 0 || d->year % 400 == 0);
    const unsigned most =
        lengths[d->month - 1] + (d->month == 2 && is_leap ? 1U : 0U);

    /* a leap second is the 60th */
    return d->day >= 1 && d->day <= most && d->hour < 24 && d->minute < 60 &&
           d->second <= 60;
}

static int64_t time_of(const struct date *d)
{
    return days_from(d->year, d->month, d->day) * 86400 +
           (int64_t)d->hour * 3600 + d->minute * 60 + d->second;
}

/* RFC 9110 5.6.7: what would be more than 50 years ahead is the last year in
 * the past with these two digits. */
static void find_century(struct date *d, int64_t now)
{
    const time_t t = (time_t)now;
    struct tm tm;

    if (!gmtime_r(&t, &tm))
        return;
    const int64_t most = tm.tm_year + INT64_C(1900) + 50;
    const int64_t limit = days_from(most, tm.tm_mon + 1, tm.tm_mday) * 86400 +
                          tm.tm_hour * INT64_C(3600) + tm.tm_min * 60 +
                          tm.tm_sec;
    d->year = most - (most - d->year) % 100;
    if (time_of(d) > limit)
        d->year -= 100;
}

bool precondition_parse_date(const char *text, int64_t now, int64_t *out)
{
    static const char *const forms[] = {
        "%a, %d %b %Y %T GMT", /* IMF-fixdate */
        "%A, %d-%b-%y %T GMT", /* rfc850-date */
        "%a %b %e %T %Y"       /* asctime-date */
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct date d = {.year = 0};
        if (!take_date(text, forms[i], &d))
            continue;
        if (!d.has_century)
            find_century(&d, now);
        if (!is_in_calendar(&d))
            return false;
        *out = time_of(&d);
        return true;
    }
    return false;
}

static char *put_digits(char *p, int64_t v, size_t n)
{
    for (size_t i = n; i--; v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + n;
}

static char *put_text(char *p, const char *text, size_t n)
{
    memcpy(p, text, n);
    return p + n;
}

/* Each disk answer has one: neither printf nor gmtime_r, which takes a lock
 * that all threads share. */
void precondition_format_date(int64_t t, char out[30])
{
    int64_t year = 1970 + t / 31556952; /* of the mean year: or one beside it */
    unsigned month = 12;
    char *p = out;

    *p = '\0';
    if (t < 0 || t >= INT64_C(253402300800))
        return;
    const int64_t days = t / 86400, s = t % 86400;
    if (days >= days_from(year + 1, 1, 1))
        year++;
    else if (days < days_from(year, 1, 1))
        year--;
    while (days < days_from(year, month, 1))
        month--;
    p = put_text(p, weekdays[(days + 4) % 7], 3); /* it began on a Thursday */
    p = put_text(p, ", ", 2);
    p = put_digits(p, days - days_from(year, month, 1) + 1, 2);
    p = put_text(p, " ", 1);
    p = put_text(p, months[month - 1], 3);
    p = put_text(p, " ", 1);
    p = put_digits(p, year, 4);
    p = put_text(p, " ", 1);
    p = put_digits(p, s / 3600, 2);
    p = put_text(p, ":", 1);
    p = put_digits(p, s / 60 % 60, 2);
    p = put_text(p, ":", 1);
    p = put_digits(p, s % 60, 2);
    (void)put_text(p, " GMT", 5);
}

/* ---- Conditions ---- */

/* A field's value as a date; the space around it is not part of it (5.5). */
static bool field_date(const char *field, int64_t now, int64_t *out)
{
    char text[48]; /* "Wednesday, 06-Nov-94 08:49:37 GMT" is the longest */
    const char *const p = field + strspn(field, " \t");
    size_t n = strlen(p);

    while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    if (n >= sizeof(text))
        return false;
    memcpy(text, p, n);
    text[n] = '\0';
    return precondition_parse_date(text, now, out);
}

/* One entity-tag at *p (8.8.3), and whether it is ours: compared strongly, or
 * weakly.  False: there is none. */
static bool take_etag(const char **p, const char *etag, bool is_weak_ok,
                      bool *is_ours)
{
    const bool is_weak = strncmp(*p, "W/", 2) == 0;
    const char *const start = *p + (is_weak ? 2 : 0);
    const char *const end = *start == '"' ? strchr(start + 1, '"') : NULL;

    if (!end)
        return false;
    const size_t n = (size_t)(end - start) + 1;
    *is_ours = n == strlen(etag) && memcmp(start, etag, n) == 0 &&
               (!is_weak || is_weak_ok);
    *p = end + 1 + strspn(end + 1, " \t");
    return true;
}

/* The list names ours, or is "*".  What is behind something malformed is not
 * read. */
static bool list_has(const char *list, const char *etag, bool is_weak_ok)
{
    const char *p = list + strspn(list, " \t");
    bool is_ours = false;

    if (*p == '*')
        return p[1 + strspn(p + 1, " \t")] == '\0';
    for (;;) {
        p += strspn(p, " \t,"); /* 5.6.1.2: empty elements are ignored */
        if (!*p || !take_etag(&p, etag, is_weak_ok, &is_ours) ||
            (*p && *p != ','))
            return false;
        if (is_ours)
            return true;
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
               field_date(p->if_unmodified_since, p->now, &date) &&
               p->mtime > date) {
        return PRECONDITION_FAILED;
    }
    if (p->if_none_match) {
        if (list_has(p->if_none_match, p->etag, true))
            return PRECONDITION_NOT_MODIFIED;
    } else if (p->if_modified_since && has_mtime &&
               field_date(p->if_modified_since, p->now, &date) &&
               p->mtime <= date) {
        return PRECONDITION_NOT_MODIFIED;
    }
    return PRECONDITION_PASS;
}

bool precondition_range_ok(const struct precondition *p)
{
    int64_t date;
    bool is_ours;

    if (!p->if_range)
        return true;
    const char *v = p->if_range + strspn(p->if_range, " \t");
    /* One tag and nothing behind it; a weak one never matches. */
    if (take_etag(&v, p->etag, false, &is_ours))
        return is_ours && !*v;
    /* A date must be exactly ours. */
    return p->mtime != INT64_MIN && field_date(v, p->now, &date) &&
           date == p->mtime;
}
