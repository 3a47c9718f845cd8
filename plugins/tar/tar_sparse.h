/* SPDX-License-Identifier: Apache-2.0 */
/* Where the bytes of one member lie: pieces of the file over a run of stored
 * data.  A file that is not sparse has one.  Threads: read only once built. */
#ifndef TAR_SPARSE_H
#define TAR_SPARSE_H

#include <platter/driver.h>

#include "tar_header.h"

struct tar_map {
    struct tar_piece *pieces; /* ascending, not overlapping, none empty */
    uint64_t *stored;         /* where each begins in the stored data */
    size_t n, cap;
    uint64_t end; /* of the last piece: the next begins here or later */
    uint64_t sum; /* stored bytes */
};

/* Append.  PLT_CORRUPT when it is not behind the last one, or past `size`. */
PLT_MUST_USE enum plt_status tar_map_add(struct tar_map *map, uint64_t size,
                                         struct tar_piece piece,
                                         struct plt_error *err);
/* The first piece that ends after off; map->n: none. */
size_t tar_map_find(const struct tar_map *map, uint64_t off);
void tar_map_release(struct tar_map *map);

#endif
