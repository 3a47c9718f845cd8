/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"

#include <stdlib.h>
#include <string.h>

#include "request.h"

enum plt_status request_read(struct request *r, struct plt_io *io,
                             const struct plt_seg *segs, size_t n,
                             struct plt_error *err)
{
    struct content *const c = r->content;
    enum plt_status st = PLT_OK;

    if (!c)
        return image_read(r->image, io, segs, n, err);
    for (size_t i = 0; i < n && st == PLT_OK; i++)
        st = c->read(c, io, segs[i].off, segs[i].len, (uint8_t *)segs[i].buf,
                     err);
    return st;
}

struct bytes {
    struct content content; /* first */
    uint8_t *data;
};

static enum plt_status read_bytes(struct content *content, struct plt_io *io,
                                  uint64_t off, size_t len, uint8_t *buf,
                                  struct plt_error *err)
{
    (void)io;
    (void)err;
    memcpy(buf, ((struct bytes *)content)->data + off, len);
    return PLT_OK;
}

static void release_bytes(struct content *content)
{
    free(((struct bytes *)content)->data);
    free(content);
}

struct content *content_of_bytes(uint8_t *data, size_t len)
{
    struct bytes *const b = calloc(1, sizeof(*b));

    if (!b) {
        free(data);
        return NULL;
    }
    b->content.size = len;
    b->content.read = read_bytes;
    b->content.release = release_bytes;
    b->data = data;
    return &b->content;
}
