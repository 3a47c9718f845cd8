/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the set share, and nobody else.
 *
 * An entry is one ETag:  being made -> complete, or failed and forgotten.
 *
 * Locks: `files` is held while files of the folder are opened or removed by
 * name, and is taken first; `lock` guards the table and its entries. */
#ifndef MANIFEST_MANIFESTS_INSIDE_H
#define MANIFEST_MANIFESTS_INSIDE_H

#include "manifest/manifest_roots.h"
#include "manifest/manifests.h"
#include "util/lock.h"

enum { MANIFESTS_ETAG = 80 };

struct manifest_entry {
    unsigned refs; /* the table's, the maker's, those who wait */
    char etag[MANIFESTS_ETAG];
    struct manifest_file *file; /* NULL: not yet */
    uint64_t held;              /* of the budget */
    uint64_t used;              /* when, counted */
    uint64_t done, all;         /* of what is being made */
    bool is_being_made;
    struct plt_error err; /* why it was not */
};

struct manifests {
    struct manifests_config config;
    struct manifests_owner owner;
    int dir; /* -1: none */
    struct manifest_roots *roots;
    struct manifest_exports *exports;
    struct lock files;
    struct lock lock;
    struct cond moved;
    struct manifest_entry *v[MANIFESTS_OPEN];
    size_t n;
    uint64_t clock;
    unsigned n_waiting;
    bool is_stopping;
    struct manifests_totals totals;
};

/* ---- manifests.c ---- */

/* An entry of its own, in place of the one used longest ago.  NULL: all are
 * being made, or no memory. */
struct manifest_entry *manifests_add_locked(struct manifests *m,
                                            const char *etag)
    LOCK_HELD(&m->lock);
/* Out of the table. */
void manifests_remove_locked(struct manifests *m,
                             const struct manifest_entry *e)
    LOCK_HELD(&m->lock);
/* Of the last reference; gives back what it holds. */
void manifests_unref_locked(struct manifests *m, struct manifest_entry *e)
    LOCK_HELD(&m->lock);
/* This reference has given the manifest's root; NULL is fine. */
MAY_WAIT void manifests_note(struct manifests *m,
                             const struct reference *reference,
                             struct manifest_file *file);

/* manifests_find by an ETag alone. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifests_find_etag(struct manifests *m, const char *etag,
                    struct manifest_file **out, struct plt_error *err);

/* ---- manifests_make.c ---- */

/* Bytes of the budget for a manifest that is in a file. */
uint64_t manifests_held(uint64_t size);
/* *out: the entry that is being made from now on. */
enum plt_status manifests_begin_locked(struct manifests *m, struct image *image,
                                       const struct reference *reference,
                                       struct manifest_entry **out,
                                       struct plt_error *err)
    LOCK_HELD(&m->lock);

#endif
