/* SPDX-License-Identifier: Apache-2.0 */
/* How many fronts of the process may run on though nobody waits for them: two,
 * or a thousand images that were looked into once would all be decoded to their
 * ends at the same time.  Threads: any. */
#ifndef GZIP_CROWD_H
#define GZIP_CROWD_H

#include <stdbool.h>

struct gzip_crowd;

/* For plt_host.shared. */
void *gzip_crowd_make(void);
void gzip_crowd_destroy(void *crowd);
/* A place; false: there is none now.  NULL (no memory for it): always. */
bool gzip_crowd_enter(struct gzip_crowd *crowd);
void gzip_crowd_leave(struct gzip_crowd *crowd);

#endif
