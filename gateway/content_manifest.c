/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a manifest as content.  The lists are read out of its file while
 * they are sent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "content_sign.h"
#include "manifest/manifest_head.h"
#include "manifest/manifest_list.h"
#include "manifest/manifests.h"
#include "request.h"

/* A name points to a root for a few seconds; an edge may go on with what it
 * has while it asks again. */
static const char short_lived[] = "max-age=5, stale-while-revalidate=30";

struct list {
    struct content content; /* first */
    struct manifest_file *file;
    enum manifest_list list;
};

/* What was found damaged while it was read is made anew for the next asker. */
static enum plt_status not_damaged(enum plt_status st, struct plt_error *err)
{
    return st == PLT_NOT_FOUND
               ? plt_fail(err, PLT_BUSY, "the manifest was damaged at rest")
               : st;
}

static enum plt_status read_list(struct content *content, struct plt_io *io,
                                 uint64_t off, size_t len, uint8_t *buf,
                                 struct plt_error *err)
{
    struct list *const l = (struct list *)content;

    if ((io->flags & PLT_IO_NOWAIT) && l->list != MANIFEST_LIST_GROUPS)
        return PLT_AGAIN;
    return not_damaged(manifest_list_read(l->file, l->list, off, len, buf, err),
                       err);
}

static void release_list(struct content *content)
{
    manifest_file_unref(((struct list *)content)->file);
    free(content);
}

static struct content *list_new(struct manifest_file *file,
                                enum manifest_list list)
{
    struct list *const l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->content.size = manifest_list_size(file, list);
    l->content.read = read_list;
    l->content.release = release_list;
    l->file = file;
    l->list = list;
    manifest_file_ref(file);
    return &l->content;
}

/* ---- The head ---- */

struct head {
    struct content content; /* first */
    struct manifest_text *text;
};

static enum plt_status read_head(struct content *content, struct plt_io *io,
                                 uint64_t off, size_t len, uint8_t *buf,
                                 struct plt_error *err)
{
    (void)io;
    (void)err;
    memcpy(buf, ((struct head *)content)->text->text + off, len);
    return PLT_OK;
}

static void release_head(struct content *content)
{
    manifest_text_unref(((struct head *)content)->text);
    free(content);
}

/* Of the head's very bytes. */
static enum plt_status make_signature(struct request *r,
                                      struct manifest_file *file,
                                      const manifest_digest root,
                                      struct content **out)
{
    struct manifest_text *text = NULL;
    enum plt_status st =
        not_damaged(manifest_head(file, &text, &r->err), &r->err);

    if (st == PLT_OK)
        st = content_of_signature(r, text->text, text->len, root, out);
    manifest_text_unref(text);
    return st;
}

static enum plt_status make_head(struct request *r, struct manifest_file *file,
                                 struct content **out)
{
    struct manifest_text *text = NULL;
    struct head *h;
    const enum plt_status st =
        not_damaged(manifest_head(file, &text, &r->err), &r->err);

    if (st != PLT_OK)
        return st;
    /* One that is kept is in memory anyway. */
    if (text->len > MANIFEST_HEAD_KEPT && !request_hold(r, text->len)) {
        manifest_text_unref(text);
        r->over = BUDGET_CLIENT_MEMORY;
        return plt_fail(&r->err, PLT_NOMEM, "for a manifest");
    }
    h = calloc(1, sizeof(*h));
    if (!h) {
        manifest_text_unref(text);
        return PLT_OK; /* and no content */
    }
    h->content.size = text->len;
    h->content.read = read_head;
    h->content.release = release_head;
    h->text = text;
    *out = &h->content;
    return PLT_OK;
}

/* ["name" in the ETag, media type] of each part. */
static const struct {
    const char *name, *type;
} parts[] = {
    [PART_HEAD] = {"head", "application/json"},
    [PART_GROUPS] = {"groups", "application/octet-stream"},
    [PART_LEAVES] = {"leaves", "application/octet-stream"},
    [PART_PREFIXES] = {"prefixes", "application/octet-stream"},
    [PART_SIGNATURE] = {"signature", "text/plain; charset=utf-8"},
    [PART_SOURCES] = {"sources", "application/json"},
    [PART_BMAP] = {"bmap", "application/xml"},
    [PART_RAUC] = {"rauc", "application/octet-stream"},
    [PART_ZSYNC] = {"zsync", "application/x-zsync"},
    [PART_CAIBX] = {"caibx", "application/octet-stream"},
    [PART_CHUNK] = {"chunk", "application/octet-stream"},
};

/* PLT_AGAIN: a worker finds it, and may wait. */
static enum plt_status find(struct request *r, struct plt_io *io,
                            struct manifest_file **out)
{
    struct manifests *const m = r->server->manifests;

    if (!(io->flags & PLT_IO_NOWAIT))
        return manifests_get(m, r->image, &r->reference, io, NULL, NULL, out,
                             &r->err);
    if (r->part == PART_HEAD || r->part == PART_GROUPS)
        *out = manifests_peek(m, r->image, &r->reference);
    if (*out && r->part == PART_HEAD && !manifest_head_is_kept(*out)) {
        manifest_file_unref(*out);
        *out = NULL;
    }
    return *out ? PLT_OK : PLT_AGAIN;
}

enum plt_status content_of_manifest(struct request *r, struct plt_io *io)
{
    struct manifest_file *file = NULL;
    struct content *c = NULL;
    manifest_digest root;
    char hex[MANIFEST_HEX];
    enum plt_status st = find(r, io, &file);

    if (st != PLT_OK)
        return st;
    ASSERT(manifest_file_root(file, root));
    manifest_to_hex(root, hex);
    switch (r->part) {
    case PART_GROUPS:
        c = list_new(file, MANIFEST_LIST_GROUPS);
        break;
    case PART_LEAVES:
        c = list_new(file, MANIFEST_LIST_LEAVES);
        break;
    case PART_RAUC:
        /* RAUC's block-hash-index is the leaves, whole ones. */
        if (manifest_file_size(file) % MANIFEST_LEAF)
            st =
                plt_fail(&r->err, PLT_UNSUPPORTED,
                         "a block-hash-index is of whole blocks of 4096 bytes, "
                         "and the disk has %llu bytes",
                         (unsigned long long)manifest_file_size(file));
        else
            c = list_new(file, MANIFEST_LIST_LEAVES);
        break;
    case PART_BMAP:
    case PART_ZSYNC:
    case PART_CAIBX:
    case PART_CHUNK:
        st = content_of_export(r, io, file, &c);
        break;
    case PART_PREFIXES:
        c = list_new(file, MANIFEST_LIST_PREFIXES);
        break;
    case PART_SIGNATURE:
        st = make_signature(r, file, root, &c);
        break;
    case PART_SOURCES:
        st = content_of_sources(r, root, &c);
        break;
    case PART_HEAD:
    default:
        st = make_head(r, file, &c);
        break;
    }
    manifest_file_unref(file);
    if (st == PLT_OK && !c)
        st = plt_fail(&r->err, PLT_NOMEM, "a manifest");
    if (st != PLT_OK)
        return st;
    if (!c->etag[0])
        (void)snprintf(c->etag, sizeof(c->etag), "\"%s-%s\"", hex,
                       parts[r->part].name);
    c->type = parts[r->part].type;
    c->cache_control = r->part == PART_SOURCES ? "no-store" : short_lived;
    r->content = c;
    return PLT_OK;
}
