/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"

#include <sys/resource.h>

#include "util/log.h"

/* For open images and connections to origins; of a limit that is too small for
 * that, half of it. */
enum { RESERVE = 1024 };

unsigned descriptors_for_connections(unsigned wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return wanted;
    if (limit.rlim_cur < wanted + RESERVE && limit.rlim_cur < limit.rlim_max) {
        const rlim_t need = wanted + RESERVE;
        limit.rlim_cur = need < limit.rlim_max ? need : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0 ||
            getrlimit(RLIMIT_NOFILE, &limit) != 0)
            return wanted;
    }
    const rlim_t reserve =
        limit.rlim_cur / 2 < RESERVE ? limit.rlim_cur / 2 : (rlim_t)RESERVE;
    const rlim_t most = limit.rlim_cur - reserve;
    if (most >= wanted)
        return wanted;
    struct log_line l;
    log_begin(&l, LOG_WARN, "few_descriptors");
    log_number(&l, "limit", limit.rlim_cur);
    log_number(&l, "max_connections", most);
    log_end(&l);
    return most > 16 ? (unsigned)most : 16;
}
