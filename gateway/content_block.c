/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th 1 MiB of the disk with a root: out of any image that has it and that
 * its asker may read, compared with the digests before a byte is sent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "manifest/manifests.h"
#include "request.h"
#include "util/auto.h"

enum plt_status content_fail_block(struct plt_error *err)
{
    return plt_fail(err, PLT_NOT_FOUND,
                    "no image here that you may read has this root and block; "
                    "its manifest may not have been asked for yet");
}

/* The bytes of the group, as its leaves say. */
static enum plt_status read_block(struct request *r, struct plt_io *io,
                                  struct manifest_file *file,
                                  struct content **out)
{
    manifest_digest want[MANIFEST_LEAVES], got[MANIFEST_LEAVES];
    const size_t len =
        manifest_group_bytes(manifest_file_size(file), r->block_number);
    size_t n;
    enum plt_status st =
        manifest_file_leaves(file, r->block_number, want, &n, &r->err);

    if (st == PLT_NOT_FOUND)
        return plt_fail(&r->err, PLT_BUSY, "the manifest was damaged at rest");
    if (st != PLT_OK)
        return st;
    if (!request_hold(r, len)) {
        r->over = BUDGET_CLIENT_MEMORY;
        return plt_fail(&r->err, PLT_NOMEM, "for a block");
    }
    AUTO_FREE uint8_t *data = malloc(len);
    if (!data)
        return plt_fail(&r->err, PLT_NOMEM, "a block");
    const struct plt_seg seg = {r->block_number * MANIFEST_GROUP, len, data};
    st = image_read(r->image, io, &seg, 1, &r->err);
    if (st != PLT_OK)
        return st;
    manifest_leaf_list(data, len, got);
    if (memcmp(want, got, n * MANIFEST_DIGEST) != 0) {
        manifests_drop(r->server->manifests, r->image);
        return plt_fail(&r->err, PLT_CHANGED,
                        "block %llu is not what its manifest says",
                        (unsigned long long)r->block_number);
    }
    *out = content_of_bytes(STEAL(data), len);
    return *out ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a block");
}

/* PLT_NOT_FOUND: this one has another root by now. */
static enum plt_status try_image(struct request *r, struct plt_io *io,
                                 struct content **out)
{
    struct manifest_file *file = NULL;
    manifest_digest root;
    enum plt_status st = images_open(r->server->images, &r->reference, io,
                                     &r->image, &r->choices, &r->err);

    if (st == PLT_OK)
        st = manifests_find(r->server->manifests, r->image, &file, &r->err);
    if (st != PLT_OK)
        return st;
    if (!manifest_file_root(file, root) ||
        memcmp(root, r->root, sizeof(root)) != 0 ||
        r->block_number >= manifest_groups(manifest_file_size(file)))
        st = content_fail_block(&r->err);
    else
        st = read_block(r, io, file, out);
    manifest_file_unref(file);
    return st;
}

enum plt_status content_of_block(struct request *r, struct plt_io *io)
{
    struct content *c = NULL;
    char hex[MANIFEST_HEX];
    enum plt_status st = try_image(r, io, &c);

    while (st != PLT_OK && r->n_others) {
        image_unref(r->image);
        r->image = NULL;
        request_let_go(r);
        reference_release(&r->reference);
        r->reference = r->others[--r->n_others];
        st = try_image(r, io, &c);
    }
    if (st == PLT_CHOICE || st == PLT_NOT_FOUND)
        return content_fail_block(&r->err);
    if (st != PLT_OK)
        return st;
    manifest_to_hex(r->root, hex);
    (void)snprintf(c->etag, sizeof(c->etag), "\"%s-%llu\"", hex,
                   (unsigned long long)r->block_number);
    c->type = "application/octet-stream";
    /* What somebody had to show something for is not for other people's eyes.
     */
    c->cache_control = r->is_private ? "private, max-age=31536000, immutable"
                                     : "public, max-age=31536000, immutable";
    c->is_digested = true;
    r->content = c;
    return PLT_OK;
}
