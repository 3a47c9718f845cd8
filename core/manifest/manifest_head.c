/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/auto.h"

enum { FIXED = 400, ROW = 48 }; /* ROW: of "[START,LENGTH]," */

static bool is_zero_group(struct manifest_file *f, uint64_t g)
{
    manifest_digest zero, digest;

    manifest_zero_group(manifest_group_leaves(manifest_file_size(f), g), zero);
    return manifest_file_group(f, g, digest) &&
           memcmp(zero, digest, sizeof(zero)) == 0;
}

enum plt_status manifest_runs(struct manifest_file *f, manifest_run_fn *fn,
                              void *cookie, struct plt_error *err)
{
    const uint64_t n_groups = manifest_groups(manifest_file_size(f));
    manifest_digest leaves[MANIFEST_LEAVES];
    uint64_t first = 0, end = 0; /* the run so far; empty: none */
    bool goes_on = true;

    for (uint64_t g = 0; g < n_groups && goes_on; g++) {
        size_t n;
        if (is_zero_group(f, g))
            continue;
        const enum plt_status st = manifest_file_leaves(f, g, leaves, &n, err);
        if (st != PLT_OK)
            return st;
        for (size_t i = 0; i < n && goes_on; i++) {
            const uint64_t at = g * MANIFEST_LEAVES + i;
            if (manifest_is_zero_leaf(leaves[i]))
                continue;
            if (first < end && at > end)
                goes_on = fn(cookie, first, end);
            if (first == end || at > end)
                first = at;
            end = at + 1;
        }
    }
    if (first < end && goes_on)
        (void)fn(cookie, first, end);
    return PLT_OK;
}

struct count {
    uint64_t size, bytes, leaves;
};

static bool count_run(void *cookie, uint64_t first, uint64_t end)
{
    struct count *const c = (struct count *)cookie;
    const uint64_t to = end * MANIFEST_LEAF;

    c->leaves += end - first;
    c->bytes += (to < c->size ? to : c->size) - first * MANIFEST_LEAF;
    return true;
}

/* "[START,LENGTH],..." of groups with data; NULL without memory. */
static char *data_rows(struct manifest_file *f, size_t *len)
{
    const uint64_t size = manifest_file_size(f), n = manifest_groups(size);
    size_t cap = 4096;
    char *rows = malloc(cap);

    *len = 0;
    for (uint64_t g = 0; g < n && rows; g++) {
        const uint64_t first = g;
        while (g < n && !is_zero_group(f, g))
            g++;
        if (first == g)
            continue;
        if (cap - *len < ROW) {
            char *const grown = realloc(rows, cap *= 2);
            if (!grown)
                free(rows);
            rows = grown;
            if (!rows)
                return NULL;
        }
        const uint64_t from = first * MANIFEST_GROUP, to = g * MANIFEST_GROUP;
        *len += (size_t)snprintf(
            rows + *len, cap - *len, "%s[%llu,%llu]", *len ? "," : "",
            (unsigned long long)from,
            (unsigned long long)((to < size ? to : size) - from));
    }
    return rows;
}

/* The text of what is known. */
static struct manifest_text *write_text(struct manifest_file *f,
                                        const manifest_digest root,
                                        const struct manifest_counts *c)
{
    char hex[MANIFEST_HEX], fixed[FIXED];
    size_t len = 0;
    AUTO_FREE char *rows = data_rows(f, &len);
    struct manifest_text *out = NULL;

    manifest_to_hex(root, hex);
    const int before = snprintf(
        fixed, sizeof(fixed),
        "{\"version\":1,\"algorithm\":\"sha256\",\"virtual-size\":%llu,"
        "\"leaf-size\":%d,\"group-size\":%d,\"root\":\"%s\",\"data\":[",
        (unsigned long long)manifest_file_size(f), MANIFEST_LEAF,
        MANIFEST_GROUP, hex);
    const int after =
        snprintf(fixed + before, sizeof(fixed) - (size_t)before,
                 "],\"data-bytes\":%llu,\"data-leaves\":%llu}\n",
                 (unsigned long long)c->bytes, (unsigned long long)c->leaves);
    if (rows)
        out = manifest_text_new((size_t)before + len + (size_t)after);
    if (!out)
        return NULL;
    memcpy(out->text, fixed, (size_t)before);
    memcpy(out->text + before, rows, len);
    memcpy(out->text + before + len, fixed + before, (size_t)after);
    return out;
}

static enum plt_status count(struct manifest_file *f,
                             struct manifest_counts *out, struct plt_error *err)
{
    struct count c = {.size = manifest_file_size(f)};

    if (manifest_file_counts(f, out))
        return PLT_OK;
    const enum plt_status st = manifest_runs(f, count_run, &c, err);
    *out = (struct manifest_counts){.bytes = c.bytes, .leaves = c.leaves};
    return st;
}

enum plt_status manifest_head(struct manifest_file *f,
                              struct manifest_text **out, struct plt_error *err)
{
    struct manifest_counts counts;
    manifest_digest root;

    *out = manifest_file_text(f);
    if (*out)
        return PLT_OK;
    if (!manifest_file_root(f, root))
        return plt_fail(err, PLT_NOT_FOUND, "the manifest is not complete");
    const enum plt_status st = count(f, &counts, err);
    if (st != PLT_OK)
        return st;
    *out = write_text(f, root, &counts);
    if (!*out)
        return plt_fail(err, PLT_NOMEM, "the head of a manifest");
    manifest_file_keep(f, root, &counts,
                       (*out)->len <= MANIFEST_HEAD_KEPT ? *out : NULL);
    return PLT_OK;
}

bool manifest_head_is_kept(struct manifest_file *f)
{
    struct manifest_text *const text = manifest_file_text(f);

    manifest_text_unref(text);
    return text != NULL;
}

uint64_t manifest_head_held(uint64_t size)
{
    /* Two groups at least for each stretch. */
    const uint64_t most = FIXED + (manifest_groups(size) / 2 + 1) * ROW;

    return most < MANIFEST_HEAD_KEPT ? most : MANIFEST_HEAD_KEPT;
}
