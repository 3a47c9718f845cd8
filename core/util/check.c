/* SPDX-License-Identifier: Apache-2.0 */
#include "util/check.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *condition)
{
    (void)fprintf(stderr,
                  "level=error event=assertion_failed at=%s:%d "
                  "thread=%#lx text=\"%s\"\n",
                  file, line, (unsigned long)pthread_self(), condition);
    abort();
}
