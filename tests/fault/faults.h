/* SPDX-License-Identifier: Apache-2.0 */
/* The interposer: a library that is loaded before a program (LD_PRELOAD) and
 * makes what it asks of libc fail.  It is told what by a page of memory that
 * the test maps too (FAULTS_PAGE, a file), so that a running server's luck
 * changes from one request to the next.
 *
 *   FAULTS_PAGE    the file of the page, struct faults
 *   FAULTS_DISK    the folder whose files are kind 0
 *   FAULTS_STATE   the folder whose files are kind 1
 *   FAULTS_REPORT  at exit: what our modules allocated and did not free
 *   FAULTS_EACH    "FIRST STEP RESULTS": run main() once for each allocation,
 *                  that one failing; see faults_main.c */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct faults {
#define FAULT(name) _Atomic uint64_t name;
#define FAULT_OF(name) _Atomic uint64_t name[2];
#include "faults.def"
#undef FAULT
#undef FAULT_OF
};

extern struct faults *faults; /* never NULL */

/* True with this rate of `of`; pseudo-random. */
bool faults_hit(uint64_t rate, uint64_t of);

/* Write the live blocks of our modules, one line for each place that made
 * them: COUNT BYTES MODULE+OFFSET. */
void faults_report(int fd);

#define FAULTS_EXPORT __attribute__((visibility("default")))

#endif
