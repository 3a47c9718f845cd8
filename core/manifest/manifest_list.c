/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_list.h"

#include <string.h>

static size_t row_bytes(enum manifest_list list)
{
    return list == MANIFEST_LIST_PREFIXES ? MANIFEST_PREFIX : MANIFEST_DIGEST;
}

uint64_t manifest_list_size(const struct manifest_file *f,
                            enum manifest_list list)
{
    const uint64_t size = manifest_file_size(f);
    const uint64_t rows = list == MANIFEST_LIST_GROUPS ? manifest_groups(size)
                                                       : manifest_leaves(size);
    return rows * row_bytes(list);
}

/* The rows that group g adds: its digest, or those of its leaves. */
static enum plt_status read_group(struct manifest_file *f,
                                  enum manifest_list list, uint64_t g,
                                  manifest_digest *rows, struct plt_error *err)
{
    size_t n;

    if (list != MANIFEST_LIST_GROUPS)
        return manifest_file_leaves(f, g, rows, &n, err);
    return manifest_file_group(f, g, rows[0])
               ? PLT_OK
               : plt_fail(err, PLT_NOT_FOUND, "a group's digest");
}

enum plt_status manifest_list_read(struct manifest_file *f,
                                   enum manifest_list list, uint64_t off,
                                   size_t len, uint8_t *buf,
                                   struct plt_error *err)
{
    const size_t row = row_bytes(list);
    const size_t of_group =
        list == MANIFEST_LIST_GROUPS ? row : row * MANIFEST_LEAVES;
    manifest_digest rows[MANIFEST_LEAVES];

    ASSERT(off <= manifest_list_size(f, list) &&
           len <= manifest_list_size(f, list) - off);
    while (len) {
        const uint64_t g = off / of_group;
        size_t at = (size_t)(off % of_group);
        const enum plt_status st = read_group(f, list, g, rows, err);
        if (st != PLT_OK)
            return st;
        for (; at < of_group && len; at++, off++, len--)
            *buf++ = rows[at / row][at % row];
    }
    return PLT_OK;
}
