/* SPDX-License-Identifier: Apache-2.0 */
/* The boot traces that are kept, by the ETag of what they were recorded of: a
 * disk that changes has another ETag and finds none.
 *
 * TRACES_HELD of them in memory, out of the one budget; with a state folder
 * TRACES_KEPT in files there, trace-ETAG.json, of which the oldest go.  What is
 * in such a file is read as the trace of a client is: one that is damaged is
 * none.
 * Threads: any; all but traces_new may wait for the disk. */
#ifndef STACK_TRACES_H
#define STACK_TRACES_H

#include "cache/cache.h"
#include "stack/trace.h"

enum { TRACES_HELD = 64, TRACES_KEPT = 256 };

struct traces;

/* state_dir: a folder's descriptor, borrowed, or -1.  new; NULL without memory.
 */
struct traces *traces_new(int state_dir, struct cache *cache);
void traces_free(struct traces *traces);

/* A copy (trace_release) in *out; false: none, of a disk of so many bytes. */
bool traces_get(struct traces *traces, const char *etag, uint64_t size,
                struct trace *out);
/* Steals the contents of *trace, on failure too.  In place of one of the same
 * ETag.  is_kept: in the state folder as well, where there is one. */
PLT_MUST_USE enum plt_status traces_put(struct traces *traces, const char *etag,
                                        struct trace *trace, bool is_kept,
                                        struct plt_error *err);
/* False: there was none. */
bool traces_drop(struct traces *traces, const char *etag);

#endif
