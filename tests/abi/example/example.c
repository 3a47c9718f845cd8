/* SPDX-License-Identifier: Apache-2.0 */
/* A driver outside the tree: every byte of the layer below, XORed with a key.
 *
 *     cc -std=c17 -fPIC -shared -I PREFIX/include example.c \
 *         PREFIX/lib/libplatter_sdk.a -o example.so
 *     platter read --plugin-path . 'example{key=7}:FILE' */
#include <stdlib.h>

#include <platter/driver.h>

enum { DEFAULT_KEY = 0x5a, MAX_KEY = 255 };

struct example {
    struct plt_child *child;
    uint8_t key;
};

static enum plt_status example_open(const struct plt_open_args *args,
                                    void **image, struct plt_opened *out,
                                    struct plt_error *err)
{
    const uint64_t key =
        plt_setting_bytes(args->settings, args->n_settings, "key", DEFAULT_KEY);
    if (key > MAX_KEY)
        return plt_fail(err, PLT_INVALID, "key is not below 256");
    struct example *const e = malloc(sizeof(*e));
    if (!e)
        return plt_fail(err, PLT_NOMEM, "an image");
    *e = (struct example){.child = args->child, .key = (uint8_t)key};
    out->size = args->child->size;
    out->flags =
        args->child->flags & PLT_CHILD_FORWARD ? PLT_OPENED_FORWARD : 0;
    *image = e;
    return PLT_OK;
}

static void example_close(void *image)
{
    free(image);
}

static enum plt_status example_read(void *image, struct plt_io *io,
                                    const struct plt_seg *segs, size_t n,
                                    struct plt_error *err)
{
    const struct example *const e = (const struct example *)image;
    const enum plt_status st = e->child->read(e->child, io, segs, n, err);

    for (size_t i = 0; st == PLT_OK && i < n; i++) {
        uint8_t *const p = (uint8_t *)segs[i].buf;
        for (size_t k = 0; k < segs[i].len; k++)
            p[k] ^= e->key;
    }
    return st;
}

static enum plt_status example_size(void *image, struct plt_io *io,
                                    uint64_t *size, struct plt_error *err)
{
    const struct example *const e = (const struct example *)image;
    return e->child->resolve_size(e->child, io, size, err);
}

static const struct plt_option example_options[] = {
    {"key", PLT_OPTION_BYTES, "what every byte is XORed with; default 90"},
    {NULL, PLT_OPTION_TEXT, NULL}};

PLT_DRIVER(.name = "example", .summary = "every byte XORed with a key",
           .kind = PLT_KIND_FORMAT, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .options = example_options,
           .open = example_open, .close = example_close, .read = example_read,
           .resolve_size = example_size)
