/* SPDX-License-Identifier: Apache-2.0 */
/* The manifests of a process: found by an image's ETag, made once, kept.
 *
 * With a state folder they are files in its subfolder "manifests", named by the
 * ETag's hexadecimal digits: MANIFESTS_KEPT at most, of MANIFESTS_BYTES
 * together, those that were used longest ago go first.  Without, they are in
 * memory, out of the images' budget.  Making is single flight, on threads of
 * its own, and goes on when those who asked have left, MANIFESTS_BUILDS at a
 * time; what a killed process had made is not read again, and what an overlay
 * shares with its backing file not when that one's manifest is there.
 * Threads: any. */
#ifndef MANIFEST_MANIFESTS_H
#define MANIFEST_MANIFESTS_H

#include "manifest/manifest_build.h"
#include "stack/image.h"

enum {
    MANIFESTS_BUILDS = 4,
    MANIFESTS_WAITERS = 32, /* for those being made; they hold threads */
    MANIFESTS_OPEN = 64,    /* in use, or kept open for the next asker */
    MANIFESTS_KEPT = 512,   /* files */
    MANIFESTS_CANDIDATES = 8
};
#define MANIFESTS_BYTES (UINT64_C(8) << 30)

struct manifests;

struct manifests_config {
    struct images *images; /* borrowed, outlives manifests */
    const char *state_dir; /* NULL: in memory */
    uint64_t wait_ms;      /* deadline of each read of a disk */
};

/* new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifests_new(const struct manifests_config *config, struct manifests **out,
              struct plt_error *err);
/* Ends what is being made; NULL is fine.  Before images_free. */
MAY_WAIT void manifests_free(struct manifests *manifests);

/* Asked before anything else, each may be NULL; neither waits.  of_image: the
 * manifest of an image that somebody else keeps, maybe partial; a new
 * reference, or NULL.  of_root: the bare name under which a disk with this root
 * can be opened and its n-th block read at once, new (free), or NULL.  Before
 * the first request. */
struct manifests_owner {
    struct manifest_file *(*of_image)(void *cookie, struct image *image);
    char *(*of_root)(void *cookie, const manifest_digest root, uint64_t n);
    void *cookie;
};
void manifests_set_owner(struct manifests *manifests,
                         const struct manifests_owner *owner);

/* The complete manifest of an image: new reference in *out
 * (manifest_file_unref).  Made when it is not there; waits for that until io's
 * deadline, then PLT_BUSY, and the making goes on.  PLT_BUSY as well when too
 * many are made or waited for.  reference: how the image was asked for, to be
 * found by its root; NULL: not noted.  progress: on the caller's thread, or
 * NULL. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifests_get(struct manifests *manifests, struct image *image,
              const struct reference *reference, struct plt_io *io,
              image_progress_fn *progress, void *cookie,
              struct manifest_file **out, struct plt_error *err);
/* The same when it is in memory and this reference has given its root before:
 * new reference, or NULL.  Does not wait. */
struct manifest_file *manifests_peek(struct manifests *manifests,
                                     struct image *image,
                                     const struct reference *reference);
/* Only when it is there; PLT_NOT_FOUND.  It may be partial when another keeps
 * it. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifests_find(struct manifests *manifests, struct image *image,
               struct manifest_file **out, struct plt_error *err);
/* The disk's bytes are not what it says: it is made anew for the next asker, as
 * are those of the images below it. */
MAY_WAIT void manifests_drop(struct manifests *manifests, struct image *image);

/* References that may give the n-th block of a disk with this root, the
 * likeliest first: how many; out has room for MANIFESTS_CANDIDATES, each is to
 * be released.  Does not wait. */
size_t manifests_references(struct manifests *manifests,
                            const manifest_digest root, uint64_t n,
                            struct reference *out);

struct manifest_exports;
/* manifests_export.h; borrowed. */
struct manifest_exports *manifests_exports(const struct manifests *manifests);

/* Since the start. */
struct manifests_totals {
    uint64_t made, failed, dropped;
    uint64_t inherited; /* groups, out of the manifests of backing files */
    unsigned being_made;
};
void manifests_totals(struct manifests *manifests,
                      struct manifests_totals *out);
#endif
