/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/image_loan.h"

#include <stdlib.h>

#include "cache/cache.h"
#include "stack/image_inside.h"

struct loan {
    struct cache *cache;
    size_t n;
    struct loan_piece pieces[LOAN_PIECES];
    struct plt_block *blocks[LOAN_PIECES]; /* NULL: zeros */
};

/* What every zero is sent from; never written, so that the kernel has one page
 * for all of it. */
static uint8_t zeros[LOAN_MOST];

static bool add_piece(struct loan *l, const void *data, size_t len,
                      struct plt_block *block)
{
    l->blocks[l->n] = block;
    l->pieces[l->n++] = (struct loan_piece){data, len};
    return true;
}

static bool take(void *cookie, const void *data, size_t len,
                 struct plt_block *block)
{
    struct loan *const l = (struct loan *)cookie;

    if (l->n < LOAN_PIECES && !block)
        return add_piece(l, zeros, len, NULL); /* len: at most the loan's */
    if (l->n < LOAN_PIECES && cache_loan_take(l->cache, block->len))
        return add_piece(l, data, len, block);
    if (block)
        cache_unref(l->cache, block);
    return false;
}

enum plt_status image_lend(struct image *image, struct plt_io *io, uint64_t off,
                           size_t len, struct loan **loan)
{
    struct stack *const stack = image_stack(image);

    /* Who reads hears that it has changed. */
    if (!len || len > LOAN_MOST || stack_has_changed(stack))
        return PLT_AGAIN;
    struct loan *const l = malloc(sizeof(*l));
    if (!l)
        return PLT_AGAIN;
    l->cache = image_cache(image);
    l->n = 0;
    const enum plt_status st =
        node_lend(stack_top(stack), io, off, len, take, l);
    if (st != PLT_OK)
        loan_free(l);
    else
        *loan = l;
    return st;
}

const struct loan_piece *loan_pieces(const struct loan *l, size_t *n)
{
    *n = l->n;
    return l->pieces;
}

void loan_free(struct loan *l)
{
    for (size_t i = 0; l && i < l->n; i++) {
        struct plt_block *const block = l->blocks[i];
        if (!block)
            continue;
        cache_loan_give(l->cache, block->len);
        cache_unref(l->cache, block);
    }
    free(l);
}
