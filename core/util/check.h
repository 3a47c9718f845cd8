/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions for our own mistakes: cheap, without side effects, kept in
 * release. Input is never asserted (it gets an error). */
#ifndef UTIL_CHECK_H
#define UTIL_CHECK_H

/* Prints file, line, condition and thread to standard error, then aborts. */
__attribute__((noreturn)) void check_failed(const char *file, int line,
                                            const char *condition);

#define ASSERT(cond)                                                           \
    do {                                                                       \
        if (__builtin_expect(!(cond), 0))                                      \
            check_failed(__FILE__, __LINE__, #cond);                           \
    } while (0)

/* Marks a function that may wait for a disk or the network: never call it from
 * a thread that serves several connections.  For people and grep. */
#define MAY_WAIT

#endif
