/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that fails and loses power, under the store's own system calls (the
 * linker wraps them).  It knows of each segment in one folder what a power cut
 * leaves for sure: what was there at the last sync of the file, or of the
 * folder for names.  Of the rest a cut leaves any sectors, chosen at random. */
#ifndef TESTS_STORE_DISK_H
#define TESTS_STORE_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* From now on segments in this folder, which is empty, are watched. */
void disk_watch(int dir, uint64_t seed);
void disk_unwatch(void);
/* Each write, sync or removal fails with this rate of a thousand; of what was
 * written when a sync fails, a power cut leaves nothing for sure, ever. */
void disk_set_failing(unsigned write, unsigned sync);
unsigned disk_failed(void); /* how many did */
/* Behind so many calls that change something the power is cut: what a start
 * would find then is written into this folder.  0: now. */
void disk_cut_after(unsigned calls, int into);
bool disk_was_cut(void);
/* Pseudo-random, below n. */
uint64_t disk_random(uint64_t n);

#endif
