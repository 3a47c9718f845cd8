/* SPDX-License-Identifier: Apache-2.0 */
/* One open archive: what the files of this driver share. */
#ifndef TAR_IMAGE_H
#define TAR_IMAGE_H

#include <pthread.h>

#include "tar_index.h"
#include "tar_ovf.h"

struct tar {
    struct plt_host *host;
    struct tar *beside; /* the one that walks for us, or NULL */
    struct plt_child *child;
    struct tar_member member; /* the one that is open; name NULL: a listing */
    struct tar_map map;
    uint64_t map_mem;

    pthread_mutex_t lock;
    struct tar_walk walk;
    struct tar_member *members;
    size_t n_members, cap_members;
    uint64_t members_mem;
    struct tar_ovf ovf; /* n 0: there is none; fixed after open */
};

/* All members are in the list then.  Lock held (or opening). */
PLT_MUST_USE enum plt_status tar_walk_all(struct tar *t, struct plt_io *io,
                                          struct plt_error *err);

/* tar_manifest.c: as struct plt_driver's check. */
PLT_MUST_USE enum plt_status tar_check(void *image, struct plt_io *io,
                                       struct plt_check *check,
                                       struct plt_error *err);

#endif
