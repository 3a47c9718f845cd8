/* SPDX-License-Identifier: Apache-2.0 */
/* How a failure travels: a class, and one phrase made where the fact is known.
 *
 * The object is the caller's and of fixed size, so that out-of-memory can be
 * reported.  A function that fails fills it and returns the same class; one
 * that succeeds leaves it alone.  Whoever consumes the error logs it, once;
 * nobody in between does.  Threads: an error belongs to one call. */
#ifndef PLATTER_ERROR_H
#define PLATTER_ERROR_H

#include <stdint.h>

#if defined(__GNUC__)
#define PLT_MUST_USE __attribute__((warn_unused_result))
#define PLT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PLT_MUST_USE
#define PLT_PRINTF(fmt, args)
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum plt_status {
#define PLT_STATUS(name, http, retry, text) PLT_##name,
#include <platter/status.def>
#undef PLT_STATUS
    PLT_STATUS_COUNT
};

#define PLT_AT_NONE UINT64_MAX

struct plt_error {
    enum plt_status status; /* class: HTTP answer, retry or not */
    int sys;                /* errno, or 0: no system call involved */
    uint64_t at;            /* byte offset in layer; PLT_AT_NONE: none */
    char layer[16];         /* the driver that failed first, set by the core */
    char text[200];         /* for the log: one phrase, no full stop */
};

/* Fill *err and return `status`, so a failure is one statement:
 *     return plt_fail(err, PLT_CORRUPT, "cluster_bits %u", bits);
 * Clears layer, sys and at.  err is never NULL.  Never allocates or logs. */
PLT_MUST_USE PLT_PRINTF(3, 4) enum plt_status
    plt_fail(struct plt_error *err, enum plt_status status, const char *fmt,
             ...);

/* The same, with errno `sys` (its text is appended). */
PLT_MUST_USE PLT_PRINTF(4, 5) enum plt_status
    plt_fail_sys(struct plt_error *err, enum plt_status status, int sys,
                 const char *fmt, ...);

/* The same, with the byte offset in this layer where it went wrong. */
PLT_MUST_USE PLT_PRINTF(4, 5) enum plt_status
    plt_fail_at(struct plt_error *err, enum plt_status status, uint64_t at,
                const char *fmt, ...);

/* Put context before the phrase of an error that is being passed up
 * ("L2 table 17: ..."), keep the class, and return it. */
PLT_PRINTF(2, 3)
enum plt_status plt_prefix(struct plt_error *err, const char *fmt, ...);

/* The table of status.def by number.  Unknown numbers read as PLT_BUG's row.
 * Strings are static. */
const char *plt_status_name(enum plt_status status); /* "CORRUPT" */
const char *plt_status_text(enum plt_status status); /* public words */
int plt_status_http(enum plt_status status);
int plt_status_retry(enum plt_status status);

#ifdef __cplusplus
}
#endif
#endif
