/* SPDX-License-Identifier: Apache-2.0 */
/* What prefetch.c and prefetch_task.c share, and nobody else.
 *
 * Lock: `lock` guards the table of tasks and what changes in a task; nothing is
 * read or waited for with it but the condition. */
#ifndef STACK_PREFETCH_INSIDE_H
#define STACK_PREFETCH_INSIDE_H

#include <stdatomic.h>

#include "cache/cache.h"
#include "sched/workers.h"
#include "stack/image_inside.h"
#include "util/lock.h"

enum { PREFETCH_SEGS = 64 }; /* stretches of one batch */

enum task_state {
    TASK_WAITING,
    TASK_RUNNING,
    TASK_COMPLETE,
    TASK_STOPPED,
    TASK_FAILED
};
struct task {
    struct prefetch *p;
    struct image *image; /* NULL once it is over */
    char etag[96];
    enum prefetch_kind kind;
    struct prefetch_span *spans;
    size_t n;
    enum task_state state;
    uint64_t total, done, taken; /* taken: without zeros */
    unsigned n_running;          /* batches */
    uint64_t begun_ns, ended_ns;
    char why[128]; /* it did not complete; "" */
    atomic_bool is_cancelled;
    _Atomic uint64_t origin_bytes, origin_requests;
};

struct prefetch {
    struct cache *cache;
    uint64_t limit;
    size_t most; /* tasks that are not over */
    struct workers *readers, *leaders;
    atomic_bool is_stopping;
    struct lock lock;
    struct cond moved;                  /* a batch is over */
    struct task *tasks[PREFETCH_KNOWN]; /* the oldest first */
    size_t n;
    _Atomic uint64_t ahead_bytes, used_bytes, task_bytes, given_up,
        origin_bytes, origin_requests;
};

/* Some stretches, read at once and thrown away. */
struct batch {
    struct prefetch *p;
    struct image *image;
    struct task *task; /* or NULL */
    size_t n, len;
    struct plt_seg segs[PREFETCH_SEGS];
};

/* The circumstances of a background read; task: or NULL. */
struct prefetch_io {
    struct plt_io io; /* first */
    struct prefetch *p;
    struct task *task;
};
struct prefetch_io prefetch_io_make(struct prefetch *p, struct task *task,
                                    uint32_t flags);
/* *is_there: all of it was in memory. */
MAY_WAIT enum plt_status prefetch_read(struct batch *batch, bool *is_there,
                                       struct plt_error *err);
bool prefetch_is_over(const struct task *task);

#endif
