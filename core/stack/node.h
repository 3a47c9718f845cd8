/* SPDX-License-Identifier: Apache-2.0 */
/* One open layer, and the only caller of its driver.
 *
 * Every read, from HTTP or from a driver above, passes here.  Here spans are
 * checked, the driver's promise about threads is kept, PLT_IO_NOWAIT is held
 * back from drivers that do not know it, errors get their layer's name, what a
 * driver answers is doubted, and a source that changed marks the whole stack.
 * Threads: any, between node_open and node_close. */
#ifndef STACK_NODE_H
#define STACK_NODE_H

#include <stdatomic.h>

#include <jansson.h>

#include <platter/driver.h>

#include "cache/cache.h"
#include "sched/crew.h"
#include "stack/metrics.h"
#include "stack/policy.h"
#include "stack/secrets.h"
#include "stack/shares.h"
#include "util/lock.h"

struct stack;
struct disk_cache;
struct provider;

struct node {
    struct plt_child child; /* first: this layer as the child of the next */
    struct plt_host host;   /* what its driver is handed */
    const struct plt_driver *driver;
    void *image;
    bool is_open, has_share;
    struct stack *stack;  /* borrowed */
    struct node *below;   /* borrowed; NULL under a source */
    bool is_apart;        /* beside the stack: what becomes of it is nobody's */
    struct node *opener;  /* of the image that named this one; or NULL */
    struct node *backing; /* the top of the image that this one names as its
                             backing file; borrowed; NULL: none */
    struct location *place; /* of the source at its bottom; borrowed */
    unsigned depth;         /* images above it in the chain of backing files */
    uint64_t owner;         /* in the cache */
    struct driver_metrics *metrics;
    struct lock serial; /* held across calls of a PLT_ONE_AT_A_TIME driver;
                           taken in stack order, top down */
    _Atomic uint64_t known_size; /* PLT_SIZE_UNKNOWN until it is */
    uint8_t id[32];              /* equal ids: equal bytes; 0: not pinned */
    bool is_pinned;
    bool is_secret;               /* a secret has opened it, or a layer below */
    atomic_bool is_on_disk;       /* its blocks may be (node_disk.h) */
    struct plt_identity identity; /* of a source */
};

/* Everything a stack shares with its nodes. */
struct stack_env {
    struct cache *cache;
    struct disk_cache *disk; /* NULL: none */
    const struct policy *policy;
    const struct secrets *secrets;
    struct crew *crew;
    struct shares *shares;
    struct stack_metrics *metrics;
    int state_dir; /* file descriptor or -1 */
    bool no_sidecars;
    const struct provider *provider; /* provided.h; NULL: none */
};

/* Set up an unopened node; node_release undoes it. */
void node_init(struct node *node, struct stack *stack,
               const struct plt_driver *driver, struct node *below,
               struct location *place);
/* driver->open with everything around it.  args needs flags, io, settings,
 * n_settings, url and fd; fd is consumed. */
PLT_MUST_USE enum plt_status
node_open(struct node *node, struct plt_open_args *args, struct plt_error *err);
/* Close, forget cached blocks, release. */
void node_release(struct node *node);

uint64_t node_size(const struct node *node);
PLT_MUST_USE enum plt_status node_read(struct node *node, struct plt_io *io,
                                       const struct plt_seg *segs, size_t n,
                                       struct plt_error *err);
/* node_lend.c.  PLT_OK or PLT_AGAIN, as struct plt_driver's lend. */
PLT_MUST_USE enum plt_status node_lend(struct node *node, struct plt_io *io,
                                       uint64_t off, uint64_t len,
                                       plt_lend_fn *emit, void *cookie);
/* Would a read of the byte at off be served out of the cache?  Asks as for a
 * loan and takes none: nothing waits, and neither the cache nor the counters
 * nor a driver's idea of its readers know of it.  False of zeros, which are no
 * block's, and of what a driver cannot lend. */
bool node_peek(struct node *node, struct plt_io *io, uint64_t off);
/* This thread is in node_peek. */
bool node_is_peeking(void);
PLT_MUST_USE enum plt_status node_extents(struct node *node, struct plt_io *io,
                                          uint64_t off, uint64_t len,
                                          plt_extent_fn *emit, void *cookie,
                                          struct plt_error *err);
PLT_MUST_USE enum plt_status node_resolve_size(struct node *node,
                                               struct plt_io *io,
                                               uint64_t *size,
                                               struct plt_error *err);
PLT_MUST_USE enum plt_status node_members(struct node *node, struct plt_io *io,
                                          plt_member_fn *emit, void *cookie,
                                          struct plt_error *err);
PLT_MUST_USE enum plt_status node_snapshots(struct node *node,
                                            struct plt_io *io,
                                            plt_snapshot_fn *emit, void *cookie,
                                            struct plt_error *err);
/* check: zeroed but for struct_size, finding and cookie. */
PLT_MUST_USE enum plt_status node_check(struct node *node, struct plt_io *io,
                                        struct plt_check *check,
                                        struct plt_error *err);
/* As node_extents, of a bitmap. */
PLT_MUST_USE enum plt_status
node_dirty_extents(struct node *node, struct plt_io *io, const char *bitmap,
                   uint64_t off, uint64_t len, plt_extent_fn *emit,
                   void *cookie, struct plt_error *err);
/* form: NULL for the driver's own, or another tool's name. */
PLT_MUST_USE enum plt_status node_index_get(struct node *node,
                                            struct plt_io *io, const char *form,
                                            plt_put_fn *put, void *cookie,
                                            struct plt_error *err);
PLT_MUST_USE enum plt_status node_index_put(struct node *node,
                                            struct plt_io *io, const void *data,
                                            size_t len, struct plt_error *err);
/* Of a source: as struct plt_driver's fetch.  PLT_UNSUPPORTED: it has none. */
PLT_MUST_USE enum plt_status node_fetch(struct node *node, struct plt_io *io,
                                        const char *url, uint8_t *buf,
                                        size_t cap, size_t *got,
                                        struct plt_error *err);
PLT_MUST_USE enum plt_status
node_revalidate(struct node *node, struct plt_io *io, struct plt_error *err);

/* What the driver says of itself, as an object; new.  hide_place: leave out
 * what names the source's address. */
json_t *node_info(struct node *node, bool hide_place);
/* Bytes that are not UTF-8 text, escaped; new JSON string. */
json_t *node_json_text(const char *text);

/* node_host.c: fill node->host. */
void node_host_init(struct node *node);

/* Called by node when a layer reports that its source changed, and by the host
 * for a layer that an image names.  Implemented by stack.c. */
void stack_mark_changed(struct stack *stack);
const struct stack_env *stack_environment(const struct stack *stack);
/* The names of secrets that the asker gave, with commas; NULL: none, or the
 * stack is open already. */
const char *stack_secret_names(const struct stack *stack);
enum plt_status stack_open_named(struct stack *stack, struct node *asker,
                                 struct plt_io *io, enum plt_role role,
                                 const char *name, const char *format,
                                 struct plt_child **child,
                                 struct plt_error *err);
/* struct plt_host's sidecar. */
enum plt_status stack_sidecar(struct stack *stack, const struct node *asker,
                              struct plt_io *io, const char *suffix,
                              uint64_t max, plt_put_fn *put, void *cookie,
                              struct plt_error *err);

#endif
