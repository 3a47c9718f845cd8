/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over an archive's members: header to header, forward, as far as it
 * has been asked for.  Headers are read 512 bytes at a time: what is below
 * keeps the blocks that they lie in. Threads: its owner's lock. */
#ifndef TAR_INDEX_H
#define TAR_INDEX_H

#include <platter/driver.h>

#include "tar_header.h"
#include "tar_sparse.h"

enum tar_sparse_form {
    TAR_DENSE,
    TAR_OLDGNU,  /* map in the header and its extensions */
    TAR_PAX_0_0, /* map in GNU.sparse.offset and .numbytes records */
    TAR_PAX_0_1, /* map in one GNU.sparse.map record */
    TAR_PAX_1_0  /* map in front of the data */
};

struct tar_member {
    char *name, *link; /* new */
    char type;
    uint64_t header; /* offset of its first header block, PAX and long names
                        included: where to read it again */
    uint64_t data;   /* offset of what is stored */
    uint64_t stored; /* bytes of it */
    uint64_t size;   /* bytes of the file */
    int64_t mtime;
    enum tar_sparse_form form;
    bool is_candidate;
};

struct tar_walk {
    struct plt_child *child;
    uint64_t pos; /* of the next header */
    bool is_done;
    bool has_end; /* the archive ends with a zero block, as it should */
    struct tar_map *want_map; /* where the next member's map goes, or NULL */
};

void tar_walk_init(struct tar_walk *walk, struct plt_child *child,
                   uint64_t pos);
/* The next member.  *out is new (tar_member_release); out->name NULL: the end.
 */
PLT_MUST_USE enum plt_status tar_walk_next(struct tar_walk *walk,
                                           struct plt_io *io,
                                           struct tar_member *out,
                                           struct plt_error *err);
void tar_member_release(struct tar_member *member);

/* Could be a disk by its name. */
bool tar_name_is_disk(const char *name);

#endif
