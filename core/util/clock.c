/* SPDX-License-Identifier: Apache-2.0 */
#include "util/clock.h"

#include "util/check.h"

uint64_t clock_now(void)
{
    struct timespec ts;
    ASSERT(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_after_ms(uint64_t ms)
{
    const uint64_t now = clock_now();
    if (ms > (CLOCK_NEVER - now) / NS_PER_MS)
        return CLOCK_NEVER;
    return now + ms * NS_PER_MS;
}

struct timespec clock_timespec(uint64_t ns)
{
    /* time_t may have 32 bits: no deadline of ours is 30 years away. */
    const uint64_t cap = UINT64_C(1000000000) * NS_PER_S;
    const uint64_t t = ns < cap ? ns : cap;
    return (struct timespec){.tv_sec = (time_t)(t / NS_PER_S),
                             .tv_nsec = (long)(t % NS_PER_S)};
}
