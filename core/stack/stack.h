/* SPDX-License-Identifier: Apache-2.0 */
/* A chain of open nodes: opened bottom up, closed top down.
 *
 * What the layers are is either pinned by a spec or found by asking every
 * driver about the first 64 KiB of each layer, until nothing matches.  Probing
 * ends above a format driver: what a guest wrote on its disk is never taken for
 * a layer of ours.  Layers that an image names (backing files) become further
 * chains of the same stack.
 *
 * Threads: stack_open and stack_close on one thread each; between them nodes
 * are used by any. */
#ifndef STACK_STACK_H
#define STACK_STACK_H

#include "stack/node.h"
#include "stack/registry.h"
#include "stack/spec.h"

struct stack;

enum { STACK_ETAG = 40 }; /* 34 characters and a NUL */

struct stack_request {
    const struct stack_env *env;     /* borrowed, outlives the stack */
    const struct registry *registry; /* the same */
    struct location *place;          /* stolen, also on failure */
    const struct spec *spec;         /* pins layers when is_pinned; or NULL */
    const char *member;              /* selector or NULL, as the next two */
    const char *snapshot;
    const char *partition; /* a decimal number */
    const char *secret;    /* names of secrets, with commas; NULL: none */
    bool is_list;          /* stop at the first archive, to list it */
    bool is_described;     /* without a key as well: PLT_OPEN_DESCRIBE */
    bool is_vm_state;      /* what `snapshot` names is its VM state */
    bool is_exact;         /* its source is opened with PLT_OPEN_EXACT */
};

/* new in *out.  On PLT_CHOICE, *choices (when not NULL) is new. */
PLT_MUST_USE enum plt_status stack_open(const struct stack_request *request,
                                        struct plt_io *io, struct stack **out,
                                        json_t **choices,
                                        struct plt_error *err);
void stack_close(struct stack *stack);

struct node *stack_top(struct stack *stack);
bool stack_has_changed(const struct stack *stack);
const char *stack_etag(const struct stack *stack); /* with its quotes */
/* The ETag that the depth-th (1: the nearest) backing file below the image at
 * the top would have, opened by itself the way it was opened here.  False:
 * there is none, or nothing tells its versions apart. */
bool stack_backing_etag(const struct stack *stack, unsigned depth,
                        char out[STACK_ETAG]);
/* The chain's own source. */
struct node *stack_source(struct stack *stack);
const struct plt_identity *stack_identity(const struct stack *stack);
/* When what it decodes to was last modified: seconds since 1970; INT64_MIN:
 * unknown, or of several sources, of which any may change under the others'
 * times. */
int64_t stack_mtime(const struct stack *stack);
const struct location *stack_place(const struct stack *stack);
/* Ask every source whether it is what was opened; PLT_CHANGED if not. */
PLT_MUST_USE enum plt_status
stack_revalidate(struct stack *stack, struct plt_io *io, struct plt_error *err);
/* The layers, guest side first; new. */
json_t *stack_layers_json(struct stack *stack, bool hide_place);
/* The partition table on the disk, in the names of platter-partition(7); new in
 * *out. */
PLT_MUST_USE enum plt_status stack_partitions_json(struct stack *stack,
                                                   struct plt_io *io,
                                                   json_t **out,
                                                   struct plt_error *err);
/* One archive member as JSON; new. */
json_t *stack_member_json(const struct plt_member *member);

#endif
