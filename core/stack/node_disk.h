/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks of a layer are kept on a disk (cache/disk_cache.h), and when the
 * disk is looked at.
 *
 * Kept are blocks of layers over a remote source, and of the source itself:
 * they cost the network.  Over a local file, only those of a wrapper, a stream
 * that has to be decoded from a point before: a cluster or a grain decodes
 * alone in about the time that a disk takes.  Never kept is what cannot be
 * named, because nothing pins the source, and what a secret has opened: its
 * plain bytes do not go to another disk.
 *
 * The disk is read only on a thread that is inside a read which may wait; an
 * event thread's reads do not (PLT_IO_NOWAIT), nor does what a background task
 * decodes anyway.
 * Threads: any. */
#ifndef STACK_NODE_DISK_H
#define STACK_NODE_DISK_H

#include "stack/node.h"
#include "util/check.h"

/* Around each call of a driver: does who asked wait?  Nested ones change
 * nothing. */
void node_disk_enter(const struct plt_io *io);
void node_disk_leave(void);
/* Who waits on this thread, inside of such calls; NULL: nobody, do not wait. */
const struct plt_io *node_disk_waiter(void);

/* The layer is open and has its id: may its blocks be kept? */
MAY_WAIT void node_disk_named(struct node *node);
/* The layer's source, or that of one below, has changed. */
void node_disk_changed(struct node *node);

/* What cache_claim answered, made better. */
enum plt_claim node_disk_claim(struct node *node, uint64_t key, size_t len,
                               bool only_hit, enum plt_claim claim,
                               struct plt_block **block);
/* The driver has filled it. */
void node_disk_commit(struct node *node, struct plt_block *block);

#endif
