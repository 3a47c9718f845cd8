/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include <platter/driver.h>

enum plt_status plt_io_ask(const struct plt_io *io, struct plt_error *err)
{
    struct timespec now = {0};

    if (io->cancelled(io))
        return plt_fail(err, PLT_CANCELLED, "request withdrawn");
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if ((uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec >=
        io->deadline_ns)
        return plt_fail(err, PLT_TIMEOUT, "not done in time");
    return PLT_OK;
}
