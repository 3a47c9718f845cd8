/* SPDX-License-Identifier: Apache-2.0 */
/* GET and HEAD of /v1/manifest and /v1/blocks: what is asked for, and who may;
 * handle_disk.c sends it. */
#include <stdlib.h>
#include <string.h>

#include "admit.h"
#include "content.h"
#include "manifest/manifests.h"
#include "route.h"
#include "util/clock.h"

/* ---- /v1/manifest ---- */

static const struct {
    const char *suffix;
    enum manifest_part part;
} suffixes[] = {{"/groups", PART_GROUPS},
                {"/leaves", PART_LEAVES},
                {"/prefixes", PART_PREFIXES},
                {"/signature", PART_SIGNATURE},
                {"/sources", PART_SOURCES}};

/* "/chunks/ABCD/ABCD....cacnk", as casync asks for them: which. */
static bool take_chunk(struct request *r, size_t len)
{
    enum { FOLDER = 4, TAIL = 8 + FOLDER + 1 + (MANIFEST_HEX - 1) + 6 };
    const char *const end = r->path + len - TAIL;
    const char *const name = end + 8 + FOLDER + 1;
    char hex[MANIFEST_HEX];

    if (len <= TAIL || strncmp(end, "/chunks/", 8) != 0 ||
        strncmp(end + 8, name, FOLDER) != 0 || name[-1] != '/' ||
        strcmp(name + MANIFEST_HEX - 1, ".cacnk") != 0)
        return false;
    memcpy(hex, name, MANIFEST_HEX - 1);
    hex[MANIFEST_HEX - 1] = '\0';
    r->part_len = TAIL;
    return manifest_from_hex(hex, r->chunk);
}

enum plt_status manifest_take_part(struct request *r)
{
    static const char *const formats[] = {"json", "bmap", "rauc", "zsync",
                                          "caibx"};
    const size_t len = strlen(r->path);
    enum plt_status st;

    r->part = PART_HEAD;
    r->part_len = 0;
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        const size_t n = strlen(suffixes[i].suffix);
        if (len > n && strcmp(r->path + len - n, suffixes[i].suffix) == 0) {
            r->part = suffixes[i].part;
            r->part_len = n;
        }
    }
    if (take_chunk(r, len))
        r->part = PART_CHUNK;
    char *const format = reference_query(r->query, "format", &st);
    if (!format)
        return st == PLT_OK ? st : plt_fail(&r->err, st, "malformed format");
    size_t i = 0;
    while (i < 5 && strcmp(formats[i], format) != 0)
        i++;
    if (i == 5)
        st = plt_fail(&r->err, PLT_INVALID, "format is not known: %.40s",
                      format);
    else if (r->part != PART_HEAD)
        st = plt_fail(&r->err, PLT_INVALID, "a list has no format");
    else if (i)
        r->part = (enum manifest_part)(PART_BMAP + i - 1);
    free(format);
    return st;
}

static enum plt_status make_events(struct request *r, struct plt_io *io,
                                   image_progress_fn *progress, void *cookie)
{
    struct manifest_file *file = NULL;
    manifest_digest root;
    char hex[MANIFEST_HEX];
    enum plt_status st;

    io->deadline_ns = CLOCK_NEVER;
    st = manifests_get(r->server->manifests, r->image, &r->reference, io,
                       progress, cookie, &file, &r->err);
    if (st != PLT_OK)
        return st;
    ASSERT(manifest_file_root(file, root));
    manifest_to_hex(root, hex);
    r->json = json_pack("{s:s, s:I}", "root", hex, "virtual-size",
                        (json_int_t)manifest_file_size(file));
    manifest_file_unref(file);
    return r->json ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a manifest");
}

enum MHD_Result handle_manifest(struct request *r)
{
    if (r->is_ready && r->err.status == PLT_OK && !r->content)
        return answer_events(r, make_events);
    return handle_disk(r);
}

/* ---- /v1/blocks ---- */

/* A number without leading zeros. */
static bool parse_number(const char *p, size_t len, uint64_t *out)
{
    *out = 0;
    if (!len || (p[0] == '0' && len > 1) || len > 15)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(p[i] - '0');
    }
    return true;
}

/* "ROOT/N", "ROOT/leaves=LIST", with ".zst" or not: as they are written by us,
 * and no other way, since each is the name of one thing in caches. */
static bool parse_block(struct request *r, const char *text)
{
    static const char leaves[] = "leaves=", zst[] = ".zst";
    char hex[MANIFEST_HEX];
    const char *p = text + MANIFEST_HEX;

    if (strlen(text) <= MANIFEST_HEX || p[-1] != '/')
        return false;
    memcpy(hex, text, MANIFEST_HEX - 1);
    hex[MANIFEST_HEX - 1] = '\0';
    if (!manifest_from_hex(hex, r->root))
        return false;
    size_t len = strlen(p);
    r->is_packed =
        len > sizeof(zst) - 1 && strcmp(p + len - (sizeof(zst) - 1), zst) == 0;
    if (r->is_packed)
        len -= sizeof(zst) - 1;
    if (strncmp(p, leaves, sizeof(leaves) - 1) != 0)
        return parse_number(p, len, &r->block_number);
    r->list = malloc(sizeof(*r->list));
    if (!r->list || !manifest_pick_parse(r->list, p + sizeof(leaves) - 1,
                                         len - (sizeof(leaves) - 1)))
        return false;
    r->block_number = r->list->run[0].first / MANIFEST_LEAVES;
    return true;
}

/* The references that its asker may read, the likeliest as the request's. */
static bool take_references(struct request *r)
{
    struct reference found[MANIFESTS_CANDIDATES];
    const size_t n = manifests_references(r->server->manifests, r->root,
                                          r->block_number, found);
    bool has_one = false;

    for (size_t i = n; i--;) { /* the likeliest is taken last, by its user */
        r->reference = found[i];
        if (admit(r)) {
            has_one = true;
            r->others[r->n_others++] = found[i];
        } else {
            reference_release(&found[i]);
        }
    }
    r->reference = (struct reference){.target = NULL};
    if (has_one)
        r->reference = r->others[--r->n_others];
    return has_one;
}

enum MHD_Result handle_block(struct request *r)
{
    if (r->is_ready)
        return handle_disk(r);
    /* One answer for what is not there and what is not theirs: a root tells
     * nothing to who does not know where it comes from. */
    if (!parse_block(r, r->path + strlen(r->route->path)) ||
        !take_references(r)) {
        r->err.status = content_fail_block(&r->err);
        return answer_error(r, &r->err);
    }
    r->is_private = r->authorization || (r->peer && r->peer->names);
    return handle_disk(r);
}
