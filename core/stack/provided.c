/* SPDX-License-Identifier: Apache-2.0 */
/* A driver of the core's own, without a plugin: it keeps blocks of the
 * provider's disk in the cache, so that the event threads and several readers
 * of one stretch find them there. */
#include "stack/provided.h"

#include <stdlib.h>
#include <string.h>

#include "stack/image_set.h"
#include "stack/provided_inside.h"
#include "util/check.h"

enum {
    BLOCK = 64 * 1024, /* the cache's unit */
    AT_ONCE = 32       /* blocks claimed together */
};

struct disk {
    const struct provider *provider;
    struct plt_host *host;
    void *handle;
    uint64_t size;
    struct plt_identity identity;
};

/* The host is the node's, and args have no other way to its surroundings. */
static const struct node *node_of(const struct plt_host *host)
{
    return (const struct node *)(const void *)((const char *)host -
                                               offsetof(struct node, host));
}

static enum plt_status provided_open(const struct plt_open_args *args,
                                     void **image, struct plt_opened *out,
                                     struct plt_error *err)
{
    const struct node *const node = node_of(args->host);
    struct disk *const d = calloc(1, sizeof(*d));

    if (!d)
        return plt_fail(err, PLT_NOMEM, "a disk");
    d->provider = stack_environment(node->stack)->provider;
    d->host = args->host;
    const enum plt_status st =
        d->provider->open(d->provider->cookie, node->place->provided, args->io,
                          &d->handle, &d->size, &d->identity, err);
    if (st != PLT_OK) {
        free(d);
        return st;
    }
    out->size = d->size;
    *image = d;
    return PLT_OK;
}

static void provided_close(void *image)
{
    struct disk *const d = (struct disk *)image;

    d->provider->close(d->handle);
    free(d);
}

static size_t block_len(const struct disk *d, uint64_t k)
{
    const uint64_t left = d->size - k * BLOCK;
    return left < BLOCK ? (size_t)left : BLOCK;
}

/* Blocks of one stretch that are claimed together. */
struct batch {
    uint64_t first;
    size_t n;
    struct plt_block *block[AT_ONCE];
    enum plt_claim claim[AT_ONCE];
};

static void let_go(struct batch *b, const struct disk *d)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->block[i])
            d->host->block_release(d->host, b->block[i]);
        b->block[i] = NULL;
    }
}

/* Fill what is ours in one read, and tell those who wait. */
static enum plt_status fill(struct batch *b, const struct disk *d,
                            struct plt_io *io, struct plt_error *err)
{
    struct plt_seg segs[AT_ONCE];
    size_t n = 0;

    for (size_t i = 0; i < b->n; i++) {
        if (b->claim[i] == PLT_CLAIM_FILL)
            segs[n++] = (struct plt_seg){(b->first + i) * BLOCK,
                                         b->block[i]->len, b->block[i]->data};
    }
    const enum plt_status st =
        n ? d->provider->read(d->handle, io, segs, n, err) : PLT_OK;
    for (size_t i = 0; i < b->n; i++) {
        if (b->claim[i] != PLT_CLAIM_FILL)
            continue;
        if (st == PLT_OK) {
            d->host->block_commit(d->host, b->block[i]);
            b->claim[i] = PLT_CLAIM_HIT;
        } else {
            d->host->block_abandon(d->host, b->block[i], err);
            b->block[i] = NULL;
        }
    }
    return st;
}

/* The bytes [off, off+len) of block i, which nobody keeps, or has by now. */
static enum plt_status take(struct batch *b, size_t i, const struct disk *d,
                            struct plt_io *io, uint64_t off, size_t len,
                            uint8_t *to, struct plt_error *err)
{
    const struct plt_seg own = {off, len, to};

    if (b->claim[i] == PLT_CLAIM_PENDING) {
        const enum plt_status st =
            d->host->block_wait(d->host, b->block[i], io, err);
        if (st == PLT_OK) {
            b->claim[i] = PLT_CLAIM_HIT;
        } else {
            b->block[i] = NULL;
            if (st != PLT_AGAIN)
                return st;
        }
    }
    if (!b->block[i])
        return d->provider->read(d->handle, io, &own, 1, err);
    memcpy(to, b->block[i]->data + off % BLOCK, len);
    return PLT_OK;
}

/* One stretch of at most AT_ONCE blocks. */
static enum plt_status read_some(const struct disk *d, struct plt_io *io,
                                 uint64_t off, size_t len, uint8_t *to,
                                 struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    struct batch b = {.first = off / BLOCK};

    b.n = (size_t)((off + len - 1) / BLOCK - b.first) + 1;
    for (size_t i = 0; i < b.n; i++) {
        b.claim[i] = d->host->block_claim(d->host, b.first + i,
                                          block_len(d, b.first + i), is_nowait,
                                          &b.block[i]);
        if (b.claim[i] == PLT_CLAIM_FULL)
            b.block[i] = NULL;
        if (is_nowait && b.claim[i] != PLT_CLAIM_HIT) {
            let_go(&b, d);
            return PLT_AGAIN;
        }
    }
    enum plt_status st = is_nowait ? PLT_OK : fill(&b, d, io, err);
    for (size_t i = 0; i < b.n && st == PLT_OK; i++) {
        const uint64_t at = (b.first + i) * BLOCK;
        const uint64_t from = at > off ? at : off;
        const uint64_t to_end = at + BLOCK < off + len ? at + BLOCK : off + len;
        st = take(&b, i, d, io, from, (size_t)(to_end - from),
                  to + (from - off), err);
    }
    let_go(&b, d);
    return st;
}

static enum plt_status provided_read(void *image, struct plt_io *io,
                                     const struct plt_seg *segs, size_t n,
                                     struct plt_error *err)
{
    const struct disk *const d = (const struct disk *)image;

    for (size_t i = 0; i < n; i++) {
        for (size_t done = 0; done < segs[i].len;) {
            const uint64_t off = segs[i].off + done;
            const size_t room = AT_ONCE * BLOCK - (size_t)(off % BLOCK);
            const size_t now =
                segs[i].len - done < room ? segs[i].len - done : room;
            const enum plt_status st =
                read_some(d, io, off, now, (uint8_t *)segs[i].buf + done, err);
            if (st != PLT_OK)
                return st;
            done += now;
        }
    }
    return PLT_OK;
}

static enum plt_status provided_lend(void *image, struct plt_io *io,
                                     uint64_t off, uint64_t len,
                                     plt_lend_fn *emit, void *cookie)
{
    const struct disk *const d = (const struct disk *)image;
    const uint64_t end = off + len;

    (void)io;
    while (off < end) {
        const uint64_t k = off / BLOCK;
        const size_t in = (size_t)(off % BLOCK), all = block_len(d, k);
        const size_t now =
            end - off < all - in ? (size_t)(end - off) : all - in;
        struct plt_block *block;
        if (d->host->block_claim(d->host, k, all, true, &block) !=
            PLT_CLAIM_HIT)
            return PLT_AGAIN;
        if (!emit(cookie, block->data + in, now, block))
            return PLT_AGAIN;
        off += now;
    }
    return PLT_OK;
}

static enum plt_status provided_extents(void *image, struct plt_io *io,
                                        uint64_t off, uint64_t len,
                                        plt_extent_fn *emit, void *cookie,
                                        struct plt_error *err)
{
    const struct disk *const d = (const struct disk *)image;
    return d->provider->extents(d->handle, io, off, len, emit, cookie, err);
}

static void provided_info(void *image, struct plt_info *info)
{
    const struct disk *const d = (const struct disk *)image;
    d->provider->info(d->handle, info);
}

static void provided_identity(void *image, struct plt_identity *out)
{
    const struct disk *const d = (const struct disk *)image;
    *out = d->identity;
}

const struct plt_driver provided_driver = {
    .struct_size = (uint32_t)sizeof(struct plt_driver),
    .abi_major = PLT_ABI_MAJOR,
    .abi_minor = PLT_ABI_MINOR,
    .name = "mirror",
    .summary = "a disk that this gateway keeps",
    .kind = PLT_KIND_SOURCE,
    .threads = PLT_CONCURRENT_READS,
    .caps = PLT_CAP_NOWAIT,
    .open = provided_open,
    .close = provided_close,
    .read = provided_read,
    .lend = provided_lend,
    .extents = provided_extents,
    .info = provided_info,
    .identity = provided_identity};

void images_set_provider(struct images *images, const struct provider *provider)
{
    images->env.provider = provider;
}

void *image_provided(struct image *image)
{
    struct node *const top = stack_top(image->stack);

    return top->driver == &provided_driver ? ((struct disk *)top->image)->handle
                                           : NULL;
}
