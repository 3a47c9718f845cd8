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

/* Are the leaves of one run what the manifest says of them? */
static enum plt_status compare(struct request *r, struct manifest_file *file,
                               uint64_t first, size_t n, const uint8_t *data,
                               size_t len)
{
    manifest_digest want[MANIFEST_LEAVES], got[MANIFEST_LEAVES];
    size_t known;

    while (n) {
        const size_t at = (size_t)(first % MANIFEST_LEAVES);
        const size_t most = MANIFEST_LEAVES - at, of = n < most ? n : most;
        const size_t bytes =
            of * MANIFEST_LEAF < len ? of * MANIFEST_LEAF : len;
        const enum plt_status st = manifest_file_leaves(
            file, first / MANIFEST_LEAVES, want, &known, &r->err);
        if (st == PLT_NOT_FOUND) /* damaged at rest, or of a mirror, not here */
            return plt_fail(&r->err, PLT_BUSY, "digests are not known");
        if (st != PLT_OK)
            return st;
        manifest_leaf_list(data, bytes, got);
        if (memcmp(want + at, got, of * MANIFEST_DIGEST) != 0) {
            manifests_drop(r->server->manifests, r->image);
            return plt_fail(&r->err, PLT_CHANGED,
                            "leaf %llu is not what its manifest says",
                            (unsigned long long)first);
        }
        first += of;
        n -= of;
        data += bytes;
        len -= bytes;
    }
    return PLT_OK;
}

/* The leaves of the list, one behind the other. */
static enum plt_status read_leaves(struct request *r, struct plt_io *io,
                                   struct manifest_file *file,
                                   const struct manifest_pick *list,
                                   uint8_t *data, size_t len)
{
    AUTO_FREE struct plt_seg *segs = calloc(list->n_runs, sizeof(*segs));
    size_t at = 0;

    if (!segs)
        return plt_fail(&r->err, PLT_NOMEM, "a block");
    for (size_t i = 0; i < list->n_runs; i++) {
        const size_t all = list->run[i].n * MANIFEST_LEAF, left = len - at;
        segs[i] = (struct plt_seg){list->run[i].first * MANIFEST_LEAF,
                                   all < left ? all : left, data + at};
        at += segs[i].len;
    }
    enum plt_status st = image_read(r->image, io, segs, list->n_runs, &r->err);
    for (size_t i = 0; i < list->n_runs && st == PLT_OK; i++)
        st = compare(r, file, list->run[i].first, list->run[i].n,
                     (const uint8_t *)segs[i].buf, segs[i].len);
    return st;
}

static enum plt_status read_block(struct request *r, struct plt_io *io,
                                  struct manifest_file *file,
                                  struct content **out)
{
    const uint64_t size = manifest_file_size(file);
    AUTO_FREE struct manifest_pick *own = NULL;
    const struct manifest_pick *list = r->list;
    size_t len;

    if (!list) {
        own = calloc(1, sizeof(*own));
        if (!own)
            return plt_fail(&r->err, PLT_NOMEM, "a block");
        own->n_runs = 1;
        own->run[0].first = r->block_number * MANIFEST_LEAVES;
        own->run[0].n = own->n_leaves =
            manifest_group_leaves(size, r->block_number);
        list = own;
    }
    if (!manifest_pick_bytes(list, size, &len))
        return content_fail_block(&r->err);
    const size_t held = r->is_packed ? len + manifest_pack_bound(len) : len;
    if (!request_hold(r, held)) {
        r->over = BUDGET_CLIENT_MEMORY;
        return plt_fail(&r->err, PLT_NOMEM, "for a block");
    }
    AUTO_FREE uint8_t *data = malloc(len);
    if (!data)
        return plt_fail(&r->err, PLT_NOMEM, "a block");
    enum plt_status st = read_leaves(r, io, file, list, data, len);
    if (st == PLT_OK && r->is_packed) {
        uint8_t *frame = NULL;
        st = manifest_pack(data, len, &frame, &len, &r->err);
        free(data);
        data = frame;
    }
    if (st != PLT_OK)
        return st;
    *out = content_of_bytes(STEAL(data), len);
    return *out ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a block");
}

/* A name for what is asked for: the block's number, or digits of the list's; of
 * a frame, what made it, too: another version may make another. */
static void name_content(const struct request *r, char out[CONTENT_ETAG])
{
    char hex[MANIFEST_HEX], list[24], coder[24] = "";
    manifest_digest digest;

    (void)snprintf(list, sizeof(list), "%llu",
                   (unsigned long long)r->block_number);
    if (r->list) {
        char text[MANIFEST_PICK_TEXT], own[MANIFEST_HEX];
        manifest_pick_text(r->list, text);
        manifest_leaf((const uint8_t *)text, strlen(text), digest);
        manifest_to_hex(digest, own);
        (void)snprintf(list, sizeof(list), "leaves-%.12s", own);
    }
    if (r->is_packed)
        (void)snprintf(coder, sizeof(coder), ".zst%u", manifest_pack_version());
    manifest_to_hex(r->root, hex);
    (void)snprintf(out, CONTENT_ETAG, "\"%s-%s%s\"", hex, list, coder);
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
    name_content(r, c->etag);
    c->type = r->is_packed ? "application/zstd" : "application/octet-stream";
    /* What somebody had to show something for is not for other people's eyes.
     */
    c->cache_control = r->is_private ? "private, max-age=31536000, immutable"
                                     : "public, max-age=31536000, immutable";
    c->is_digested = true;
    r->content = c;
    return PLT_OK;
}
