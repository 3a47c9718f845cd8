/* SPDX-License-Identifier: Apache-2.0 */
/* Lends its ten bytes out of one block, wrongly in the way that the first one
 * says. */
#include <stdlib.h>

#include "module.h"

struct lender {
    struct plt_host *host;
    struct plt_child *child;
};

static enum plt_status lender_open(const struct plt_open_args *args,
                                   void **image, struct plt_opened *out,
                                   struct plt_error *err)
{
    struct lender *const l = malloc(sizeof(*l));

    if (!l)
        return plt_fail(err, PLT_NOMEM, "an image");
    *l = (struct lender){args->host, args->child};
    *image = l;
    out->size = 10;
    return PLT_OK;
}

static enum plt_status lender_read(void *image, struct plt_io *io,
                                   const struct plt_seg *segs, size_t n,
                                   struct plt_error *err)
{
    const struct lender *const l = (const struct lender *)image;
    return l->child->read(l->child, io, segs, n, err);
}

/* The block, each time it is called with a reference. */
static struct plt_block *block_of(const struct lender *l, struct plt_io *io)
{
    struct plt_block *block;
    struct plt_error err;

    if (l->host->block_claim(l->host, 0, 10, false, &block) != PLT_CLAIM_FILL)
        return block;
    const struct plt_seg seg = {0, 10, block->data};
    if (l->child->read(l->child, io, &seg, 1, &err) != PLT_OK)
        abort();
    l->host->block_commit(l->host, block);
    return block;
}

static enum plt_status bad_lend(void *image, struct plt_io *io, uint64_t off,
                                uint64_t len, plt_lend_fn *emit, void *cookie)
{
    const struct lender *const l = (const struct lender *)image;
    struct plt_block *const b = block_of(l, io);
    uint8_t *const data = b->data + off;
    const size_t n = (size_t)len;

    switch (b->data[0]) {
    case 's': /* one byte short */
        return emit(cookie, data, n - 1, b) ? PLT_OK : PLT_AGAIN;
    case 'l': /* twice what is asked */
        if (!emit(cookie, data, n, b))
            return PLT_AGAIN;
        (void)emit(cookie, data, n, block_of(l, io));
        return PLT_OK;
    case 'o': /* bytes behind the block */
        (void)emit(cookie, data + 1, n, b);
        return PLT_OK;
    case 'b': /* and before it */
        (void)emit(cookie, data - 1, n, b);
        return PLT_OK;
    case 'z': /* zeros that a block holds */
        (void)emit(cookie, NULL, n, b);
        return PLT_OK;
    case 'd': /* bytes that none holds */
        (void)emit(cookie, data, n, NULL);
        l->host->block_release(l->host, b);
        return PLT_OK;
    case 'n': /* nothing */
        (void)emit(cookie, data, 0, b);
        return PLT_OK;
    case 'e': /* all of it, and a failure */
        (void)emit(cookie, data, n, b);
        return PLT_CORRUPT;
    default: /* good */
        return emit(cookie, data, n, b) ? PLT_OK : PLT_AGAIN;
    }
}

PLT_DRIVER(.name = "badlend", .kind = PLT_KIND_FORMAT,
           .threads = PLT_CONCURRENT_READS, .open = lender_open, .close = free,
           .read = lender_read, .lend = bad_lend)
