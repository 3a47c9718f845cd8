/* SPDX-License-Identifier: Apache-2.0 */
#include "content_sign.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edges.h"
#include "manifest/minisign.h"
#include "request.h"
#include "route.h"
#include "util/clock.h"

/* Text as content, stolen (free); its ETag is of its bytes. */
static enum plt_status take_text(struct request *r, char *text,
                                 const manifest_digest root, const char *name,
                                 struct content **out)
{
    const size_t len = strlen(text);
    char hex[MANIFEST_HEX], own[MANIFEST_HEX];
    manifest_digest digest;

    ASSERT(EVP_Digest(text, len, digest, NULL, EVP_sha256(), NULL) == 1);
    manifest_to_hex(root, hex);
    manifest_to_hex(digest, own);
    *out = content_of_bytes((uint8_t *)text, len);
    if (!*out)
        return plt_fail(&r->err, PLT_NOMEM, "a text");
    (void)snprintf((*out)->etag, sizeof((*out)->etag), "\"%s-%s-%.12s\"", hex,
                   name, own);
    return PLT_OK;
}

/* "image=REF root=HEX". */
static void make_comment(const struct request *r, const char *hex,
                         char out[MINISIGN_COMMENT])
{
    const char *const ref = r->path + strlen(r->route->path);
    const int n = snprintf(out, MINISIGN_COMMENT, "image=%.*s%s%s root=%s",
                           (int)(strlen(ref) - r->part_len), ref,
                           r->query ? "?" : "", r->query ? r->query : "", hex);

    if (n < 0 || n >= MINISIGN_COMMENT)
        (void)snprintf(out, MINISIGN_COMMENT, "root=%s", hex);
}

enum plt_status content_of_signature(struct request *r, const char *head,
                                     size_t len, const manifest_digest root,
                                     struct content **out)
{
    const struct config *const c = atomic_load(&r->server->config);
    char comment[MINISIGN_COMMENT], hex[MANIFEST_HEX], *text;

    if (!c->manifest_key_text)
        return plt_fail(&r->err, PLT_NOT_FOUND, "manifests are not signed");
    manifest_to_hex(root, hex);
    make_comment(r, hex, comment);
    const enum plt_status st =
        minisign_sign(c->manifest_key_text, head, len, comment, &text, &r->err);
    return st == PLT_OK ? take_text(r, text, root, "signature", out) : st;
}

enum plt_status content_of_sources(struct request *r,
                                   const manifest_digest root,
                                   struct content **out)
{
    const struct config *const c = atomic_load(&r->server->config);
    struct edges *const edges = r->server->edges;
    char urls[EDGES_MOST][EDGES_URL];
    const uint64_t now = clock_now();

    if (r->edge && !r->is_head && edges_is_own(r->edge, r->client))
        edges_tell(edges, root, r->edge, now);
    const size_t n =
        edges_list(edges, root, r->edge, c->siblings, c->n_siblings, now, urls);
    json_t *const list = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(list, json_string(urls[i]));
    json_t *const doc = json_pack("{s:o}", "sources", list);
    char *const text = json_dumps(doc, JSON_COMPACT);
    json_decref(doc);
    return text ? take_text(r, text, root, "sources", out)
                : plt_fail(&r->err, PLT_NOMEM, "a list");
}
