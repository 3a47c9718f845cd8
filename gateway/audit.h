/* SPDX-License-Identifier: Apache-2.0 */
/* What was changed, by whom: one line for each change that a client asked for
 * and was allowed to ask, whatever came of it, and for each reload.
 *
 * The line goes to the log (event=audit, at every log level) and, with a state
 * folder, as JSON to audit.jsonl in it, synchronised before the client hears of
 * it; at 16 MiB that file becomes audit.jsonl.1.  What cannot be written is
 * told in the log; the change is made all the same. Threads: any that may wait
 * for a disk. */
#ifndef GATEWAY_AUDIT_H
#define GATEWAY_AUDIT_H

#include <stdbool.h>

#include "util/lock.h"

enum { AUDIT_MOST = 16 << 20 };

struct request;

struct audit {
    struct lock lock; /* of the file */
    char *path;       /* new; NULL: only the log */
};

/* folder: the state folder, or NULL. */
void audit_init(struct audit *audit, const char *folder);
void audit_release(struct audit *audit);

/* A change that has ended, with request->err; what: the image it was about, as
 * far as it is known. */
void audit_change(struct request *request, const char *what);
/* is_taken: the configuration is now another one. */
void audit_reload(struct audit *audit, bool is_taken);

#endif
