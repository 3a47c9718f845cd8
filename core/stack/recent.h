/* SPDX-License-Identifier: Apache-2.0 */
/* What clients asked of an image lately, for a picture of it.
 *
 * A fixed ring, written for every request on event threads: a flag is taken or
 * passed by, so that nobody waits, and a request that is not noted costs a
 * picture one line.  Spans that touch and come within RECENT_JOIN_MS are one: a
 * reader in order would fill the ring in a moment; later ones stand apart, so
 * that each has an age of its own.
 * Threads: any.  Time is passed in (clock_now). */
#ifndef STACK_RECENT_H
#define STACK_RECENT_H

#include <stddef.h>
#include <stdint.h>

enum { RECENT_SPANS = 256, RECENT_JOIN_MS = 500, RECENT_MS = 10000 };

struct recent;

struct recent_span {
    uint64_t off, len; /* bytes; len at least 1 */
    uint64_t ns;       /* when its last request came */
};

struct recent *recent_new(void);         /* new; NULL without memory */
void recent_free(struct recent *recent); /* NULL is fine */

/* A client asked for [off, off+len); len is at least 1, and the end at most
 * PLT_SIZE_MAX. */
void recent_see(struct recent *recent, uint64_t off, uint64_t len,
                uint64_t now_ns);
/* Those of the last RECENT_MS, newest first; how many. */
size_t recent_list(struct recent *recent, uint64_t now_ns,
                   struct recent_span out[RECENT_SPANS]);

#endif
