/* SPDX-License-Identifier: Apache-2.0 */
/* Locals that clean up after themselves, and STEAL where ownership leaves. */
#ifndef UTIL_AUTO_H
#define UTIL_AUTO_H

#include <stdlib.h>
#include <unistd.h>

static inline void auto_free_(void *p)
{
    void **const pp = (void **)p;
    free(*pp);
}

static inline void auto_fd_(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

#define AUTO_FREE __attribute__((cleanup(auto_free_)))
#define AUTO_FD __attribute__((cleanup(auto_fd_)))

/* The pointer's value; the pointer is NULL afterwards. */
#define STEAL(p)                                                               \
    __extension__({                                                            \
        __typeof__(p) steal_ = (p);                                            \
        (p) = NULL;                                                            \
        steal_;                                                                \
    })

#endif
