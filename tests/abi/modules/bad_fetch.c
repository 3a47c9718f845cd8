/* SPDX-License-Identifier: Apache-2.0 */
/* A source in place of `file`, of ten bytes; the document that it fetches is
 * wrong in the way that the URL says. */
#include <string.h>
#include <unistd.h>

#include <platter/driver.h>

static enum plt_status source_open(const struct plt_open_args *args,
                                   void **image, struct plt_opened *out,
                                   struct plt_error *err)
{
    (void)err;
    (void)close(args->fd);
    *image = NULL;
    out->size = 10;
    return PLT_OK;
}

static void source_close(void *image)
{
    (void)image;
}

static enum plt_status source_read(void *image, struct plt_io *io,
                                   const struct plt_seg *segs, size_t n,
                                   struct plt_error *err)
{
    static const char bytes[] = "0123456789";

    (void)image;
    (void)io;
    (void)err;
    for (size_t i = 0; i < n; i++)
        memcpy(segs[i].buf, bytes + segs[i].off, segs[i].len);
    return PLT_OK;
}

static void source_identity(void *image, struct plt_identity *out)
{
    (void)image;
    *out = (struct plt_identity){PLT_PIN_STRONG, 0, "ten"};
}

static enum plt_status bad_fetch(void *image, struct plt_io *io,
                                 const char *url, uint8_t *buf, size_t cap,
                                 size_t *got, struct plt_error *err)
{
    (void)image;
    (void)io;
    memset(buf, 'x', cap);
    *got = cap;
    switch (url[0]) {
    case 'm': /* more than there is room for */
        *got = cap + 1;
        return PLT_OK;
    case 'c': /* it knows nothing of that */
        return plt_fail(err, PLT_CHANGED, "changed");
    case 'a': /* it was asked to wait */
        return PLT_AGAIN;
    case 's': /* there is none */
        return (enum plt_status)99;
    case 'n':
        return plt_fail(err, PLT_NOT_FOUND, "none");
    default:
        return PLT_OK;
    }
}

PLT_DRIVER(.name = "file", .kind = PLT_KIND_SOURCE,
           .threads = PLT_CONCURRENT_READS, .open = source_open,
           .close = source_close, .read = source_read,
           .identity = source_identity, .fetch = bad_fetch)
