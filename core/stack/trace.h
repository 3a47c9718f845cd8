/* SPDX-License-Identifier: Apache-2.0 */
/* A boot trace: which stretches of a disk were read first, in their order.
 *
 * Offsets are of the guest's disk, so that a trace of one gateway is good at
 * another that has the same disk under another name or wrapped otherwise.  As
 * JSON (image.h, image_trace_json) it comes from anybody: what it says is read
 * ahead, never believed.
 *
 * A recorder makes one: each byte counts when it is first asked for; what
 * follows on one of the last stretches within a second lengthens it.
 * Threads: a trace belongs to one; a recorder has a lock. */
#ifndef STACK_TRACE_H
#define STACK_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <platter/error.h>

enum {
    TRACE_READS = 8192,          /* stretches of one trace */
    TRACE_LONGEST = 1024 * 1024, /* bytes to which a recorder lengthens one */
    TRACE_ALIGN = 4096,          /* recorded ones begin and end there */
    TRACE_SECONDS = 3600,        /* of one recording */
    TRACE_ETAG = 48              /* with quotes and NUL */
};

struct trace_read {
    uint64_t off, len; /* bytes; len at least 1, inside the disk */
    uint32_t ms;       /* since the first */
};

struct trace {
    uint64_t size;            /* bytes of the disk */
    char etag[TRACE_ETAG];    /* of what it was recorded of; "": not said */
    int64_t created;          /* seconds since 1970; 0: not said */
    bool is_truncated;        /* there was more than it has room for */
    struct trace_read *reads; /* new */
    size_t n;
};

/* From JSON.  PLT_INVALID: not such a document, more than TRACE_READS, outside
 * of the disk, or more bytes in sum than it has.  size: what its "virtual-size"
 * must be; PLT_SIZE_UNKNOWN: any.  On failure nothing is left. */
PLT_MUST_USE enum plt_status trace_take(struct trace *trace, json_t *value,
                                        uint64_t size, struct plt_error *err);
/* The same from text. */
PLT_MUST_USE enum plt_status trace_parse(struct trace *trace, const char *text,
                                         size_t len, uint64_t size,
                                         struct plt_error *err);
/* state: "recording" or "complete".  new; NULL without memory. */
json_t *trace_json(const struct trace *trace, const char *state);
/* A copy; false: no memory. */
bool trace_copy(struct trace *to, const struct trace *from);
void trace_release(struct trace *trace);

struct recorder;

/* new; NULL without memory.  It records nothing before recorder_begin. */
struct recorder *recorder_new(void);
void recorder_free(struct recorder *rec);
/* Forget what was recorded, and record for so many seconds (1 to
 * TRACE_SECONDS). */
void recorder_begin(struct recorder *rec, uint64_t size, const char *etag,
                    unsigned seconds);
/* A read of [off, off+len), inside the disk.  True: with it the recording has
 * ended, by time or by size; said once. */
bool recorder_add(struct recorder *rec, uint64_t off, uint64_t len);
/* End it now.  False: none runs. */
bool recorder_end(struct recorder *rec);
/* Is it recording, and not over by time?  One that is over so is ended with
 * it, and *has_ended true: said once. */
bool recorder_is_on(struct recorder *rec, bool *has_ended);
/* What there is so far; a copy.  False: nothing was ever begun, or no memory.
 */
bool recorder_get(struct recorder *rec, struct trace *trace);

#endif
