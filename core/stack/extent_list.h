/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, clips and merges what a driver emits.  A driver is a separate binary:
 * one that breaks the order fails the request, and nothing more.
 * Threads: the request's own. */
#ifndef STACK_EXTENT_LIST_H
#define STACK_EXTENT_LIST_H

#include <platter/driver.h>

struct extent_list {
    uint64_t next, end;        /* expected next offset; end of what was asked */
    struct plt_extent pending; /* merged so far; len 0: none */
    plt_extent_fn *emit;
    void *cookie;
    bool has_stopped; /* the consumer wants no more */
    bool is_broken;   /* the driver broke the contract */
};

void extent_list_init(struct extent_list *list, uint64_t off, uint64_t len,
                      plt_extent_fn *emit, void *cookie);
/* The plt_extent_fn to hand to a driver, with the list as cookie. */
bool extent_list_take(void *list, const struct plt_extent *extent);
/* Hand on what is pending. */
void extent_list_flush(struct extent_list *list);

#endif
