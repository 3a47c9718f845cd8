/* SPDX-License-Identifier: Apache-2.0 */
/* Documents that lost a field for want of memory.  jansson says so with -1 or
 * NULL at each of hundreds of calls, and a document without the field looks
 * whole.  So its allocations are watched instead: whoever makes or reads a
 * document compares the count before with the count behind. */
#ifndef STACK_JSON_MEMORY_H
#define STACK_JSON_MEMORY_H

#include <stdint.h>

/* Watch from here on.  Once, before there are threads. */
void json_memory_watch(void);

/* Allocations of jansson's that have failed on this thread so far.
 * Threads: any. */
uint64_t json_memory_lost(void);

#endif
