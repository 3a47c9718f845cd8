/* SPDX-License-Identifier: Apache-2.0 */
#include "tar_sparse.h"

#include <stdlib.h>

#include <platter/bytes.h>

enum plt_status tar_map_add(struct tar_map *map, uint64_t size,
                            struct tar_piece piece, struct plt_error *err)
{
    if (!plt_span_ok(piece.off, piece.len, size))
        return plt_fail(err, PLT_CORRUPT,
                        "sparse map goes past the file's end");
    if (piece.off < map->end)
        return plt_fail(err, PLT_CORRUPT, "sparse map does not ascend");
    map->end = piece.off + piece.len;
    if (!piece.len)
        return PLT_OK; /* GNU tar ends a map with an empty piece */
    if (map->n == TAR_MAX_SPARSE)
        return plt_fail(err, PLT_UNSUPPORTED, "sparse map of over %d pieces",
                        TAR_MAX_SPARSE);
    if (map->n == map->cap) {
        const size_t cap = map->cap ? map->cap * 2 : 64;
        struct tar_piece *const pieces =
            realloc(map->pieces, cap * sizeof(*pieces));
        if (pieces)
            map->pieces = pieces;
        uint64_t *const stored = realloc(map->stored, cap * sizeof(*stored));
        if (stored)
            map->stored = stored;
        if (!pieces || !stored)
            return plt_fail(err, PLT_NOMEM, "a sparse map");
        map->cap = cap;
    }
    map->pieces[map->n] = piece;
    map->stored[map->n++] = map->sum;
    map->sum += piece.len; /* at most size: pieces do not overlap */
    return PLT_OK;
}

size_t tar_map_find(const struct tar_map *map, uint64_t off)
{
    size_t low = 0, high = map->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (map->pieces[mid].off + map->pieces[mid].len <= off)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void tar_map_release(struct tar_map *map)
{
    free(map->pieces);
    free(map->stored);
    *map = (struct tar_map){.n = 0};
}
