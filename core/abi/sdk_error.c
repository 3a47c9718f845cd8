/* SPDX-License-Identifier: Apache-2.0 */
/* The code behind platter/error.h; linked into the core and into every plugin.
 * The two never compare pointers, only numbers and text, so that two copies
 * in one process are fine. */
#include <platter/error.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *text;
    int http, retry;
} rows[] = {
#define PLT_STATUS(name, http, retry, text) {#name, text, http, retry},
#include <platter/status.def>
#undef PLT_STATUS
};

static unsigned row_of(enum plt_status status)
{
    const unsigned n = (unsigned)status;
    return n < (unsigned)PLT_STATUS_COUNT ? n : (unsigned)PLT_BUG;
}

const char *plt_status_name(enum plt_status status)
{
    return rows[row_of(status)].name;
}

const char *plt_status_text(enum plt_status status)
{
    return rows[row_of(status)].text;
}

int plt_status_http(enum plt_status status)
{
    return rows[row_of(status)].http;
}

int plt_status_retry(enum plt_status status)
{
    return rows[row_of(status)].retry;
}

static void start(struct plt_error *err, enum plt_status status, int sys,
                  uint64_t at)
{
    err->status = status;
    err->sys = sys;
    err->at = at;
    err->layer[0] = '\0';
}

enum plt_status plt_fail(struct plt_error *err, enum plt_status status,
                         const char *fmt, ...)
{
    va_list ap;

    start(err, status, 0, PLT_AT_NONE);
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return status;
}

enum plt_status plt_fail_at(struct plt_error *err, enum plt_status status,
                            uint64_t at, const char *fmt, ...)
{
    va_list ap;

    start(err, status, 0, at);
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return status;
}

enum plt_status plt_fail_sys(struct plt_error *err, enum plt_status status,
                             int sys, const char *fmt, ...)
{
    va_list ap;
    char why[80];

    start(err, status, sys, PLT_AT_NONE);
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    const size_t used = strlen(err->text);
    if (strerror_r(sys, why, sizeof(why)) != 0)
        (void)snprintf(why, sizeof(why), "errno %d", sys);
    (void)snprintf(err->text + used, sizeof(err->text) - used, ": %s", why);
    return status;
}

enum plt_status plt_prefix(struct plt_error *err, const char *fmt, ...)
{
    va_list ap;
    char old[sizeof(err->text)];

    memcpy(old, err->text, sizeof(old));
    old[sizeof(old) - 1] = '\0';
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    const size_t used = strlen(err->text);
    (void)snprintf(err->text + used, sizeof(err->text) - used, "%s", old);
    return err->status;
}
