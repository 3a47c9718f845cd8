/* SPDX-License-Identifier: Apache-2.0 */
/* Monotonic time in nanoseconds; every deadline in the program is on it. */
#ifndef UTIL_CLOCK_H
#define UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER UINT64_MAX
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* Now, CLOCK_MONOTONIC.  Threads: any. */
uint64_t clock_now(void);
/* Now plus ms, saturating. */
uint64_t clock_after_ms(uint64_t ms);
/* For pthread_cond_timedwait on a CLOCK_MONOTONIC condition.  CLOCK_NEVER
 * becomes a time some decades away. */
struct timespec clock_timespec(uint64_t ns);

#endif
