/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a disk where they lie in the cache, held for as long as an answer is
 * being sent from them.
 *
 * The blocks stay in the one budget, but cannot be evicted meanwhile: how many
 * bytes of blocks are lent is bounded, one eighth of the budget, however slowly
 * clients read.  Beyond it nothing is lent, and answers are copies again.
 * Threads: a loan has one owner; it may be freed on any thread, and later than
 * its image is closed. */
#ifndef STACK_IMAGE_LOAN_H
#define STACK_IMAGE_LOAN_H

#include "stack/image.h"

enum {
    LOAN_PIECES = 64,      /* more make an answer slower than a copy */
    LOAN_MOST = 256 * 1024 /* bytes of one loan: see lent.c of the gateway */
};

struct loan_piece {
    const void *data;
    size_t len; /* bytes, at least 1 */
};

struct loan;

/* [off, off+len) of the disk, at most LOAN_MOST.  OK: *loan is new.  PLT_AGAIN:
 * not all of it is in memory, some of it in memory that cannot be lent, in too
 * many pieces, or enough is lent: read it.  Never waits. */
PLT_MUST_USE enum plt_status image_lend(struct image *image, struct plt_io *io,
                                        uint64_t off, size_t len,
                                        struct loan **loan);
/* Its pieces, in order; borrowed. */
const struct loan_piece *loan_pieces(const struct loan *loan, size_t *n);
/* NULL is fine. */
void loan_free(struct loan *loan);

#endif
