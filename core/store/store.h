/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves by their digests: the content-addressed store of an edge.
 *
 * A leaf is 4096 bytes; its name is their SHA-256.  All mirrors of a host share
 * one store, so that a leaf that any image, or an earlier version, has is kept
 * once and fetched never again.  Leaves lie in records, and records in
 * segments, files that are written from front to end and then never changed; a
 * segment that nothing refers to is removed as a whole, one that little refers
 * to is written anew.  Memory holds hints, 8 bytes a place, of where a leaf may
 * lie; what is read there is hashed before anybody gets it, so that neither a
 * stale hint nor a damaged disk gives out a wrong byte.  The layout is in
 * core/ARCHITECTURE.md.
 *
 * Nobody else may use the folder: it is locked.
 * Threads: any.  Everything here may wait for the disk but store_stats. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <platter/error.h>

#include "util/check.h"

enum {
    STORE_LEAF = 4096, /* bytes */
    STORE_DIGEST = 32, /* bytes of SHA-256 */
    STORE_PREFIX = 8,  /* first bytes of a digest that find a leaf */
    STORE_BATCH = 256  /* leaves in one call, at most */
};

struct store;

enum store_compression { STORE_PLAIN, STORE_ZSTD };

struct store_config {
    int dir;        /* of its own; borrowed, outlives the store */
    uint64_t limit; /* bytes on disk, at most; 0: none */
    enum store_compression compression; /* of what is written from now on; what
                                           is there may be of both kinds */
    int level;                          /* of zstd; 0: 3 */
};

/* Reads the ends of segments: seconds at ten million leaves.  Whatever a killed
 * process left is cut off or read again, never believed without its checksum.
 * PLT_BUSY: another process has it.  new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
store_open(const struct store_config *config, struct store **out,
           struct plt_error *err);
/* What was put is on its way to the disk, as after store_sync when that worked;
 * NULL is fine. */
void store_close(struct store *store);

/* Is there (a hint of) a leaf of this digest?  Memory alone, does not wait; a
 * false true is possible and rare (2^-20), a false false is not. */
bool store_may_have(struct store *store, const uint8_t digest[STORE_DIGEST]);

/* Of these n (STORE_BATCH at most), how many are not there, as store_may_have
 * knows; a sweep that is running keeps the others, as if they were put again.
 * Memory alone, does not wait. */
size_t store_hold(struct store *store, size_t n,
                  const uint8_t (*digests)[STORE_DIGEST]);

/* The leaf of this digest into buf, verified.  PLT_NOT_FOUND: it is not there,
 * or what was there is damaged (counted, forgotten, and to be put again). */
PLT_MUST_USE MAY_WAIT enum plt_status
store_get(struct store *store, const uint8_t digest[STORE_DIGEST],
          uint8_t buf[STORE_LEAF], struct plt_error *err);
/* Several at once, in as few reads as their places allow: the i-th into
 * buf + i * STORE_LEAF, and there[i] is whether it was there, whole.  n:
 * at most STORE_BATCH.  OK also when none was. */
PLT_MUST_USE MAY_WAIT enum plt_status
store_get_batch(struct store *store, size_t n,
                const uint8_t (*digests)[STORE_DIGEST], uint8_t *buf,
                bool *there, struct plt_error *err);
/* The digest of a leaf that begins with this prefix, as its record says: a hint
 * (the leaf is verified when it is read).  PLT_NOT_FOUND: none.  Of several
 * any.
 */
PLT_MUST_USE MAY_WAIT enum plt_status
store_find(struct store *store, const uint8_t prefix[STORE_PREFIX],
           uint8_t digest[STORE_DIGEST], struct plt_error *err);

/* Keep leaves under their digests, which are the caller's word: it has made
 * them of these bytes.  Those that are there already, whole, are passed by.
 * Readers find them at once; that they outlast a power cut is what store_sync
 * promises. n: at most STORE_BATCH.  *added (may be NULL): how many were new.
 * PLT_NOMEM: the limit is reached and a sweep is needed (sys ENOSPC); PLT_IO:
 * the disk fails or is full; then none of them is there that was not. */
PLT_MUST_USE MAY_WAIT enum plt_status
store_put(struct store *store, size_t n, const uint8_t (*digests)[STORE_DIGEST],
          const uint8_t *data, size_t *added, struct plt_error *err);
/* All that was put before this call is on the disk, for good. */
PLT_MUST_USE MAY_WAIT enum plt_status store_sync(struct store *store,
                                                 struct plt_error *err);

/* Forget what nobody needs.  mark() is called once and names every leaf that is
 * needed by store_sweep_keep; what is put, put again or held from the call's
 * beginning on is kept, too.  What is only found is not.  When mark fails, all
 * is kept.  Segments in which little is needed are written anew, until `target`
 * bytes at most are used (0: all that is worth it); needed leaves are never
 * dropped.  One at a time: PLT_BUSY.  Reads and puts go on meanwhile.
 * is_stopped (may be NULL) is asked now and then; PLT_CANCELLED when it says
 * so. */
struct store_sweep;
typedef enum plt_status store_mark_fn(void *cookie, struct store_sweep *sweep,
                                      struct plt_error *err);
void store_sweep_keep(struct store_sweep *sweep, size_t n,
                      const uint8_t (*digests)[STORE_DIGEST]);
PLT_MUST_USE MAY_WAIT enum plt_status
store_sweep(struct store *store, store_mark_fn *mark, void *cookie,
            uint64_t target, bool (*is_stopped)(void *cookie),
            struct plt_error *err);

/* Read and hash what lies at rest, from *place on (0: the beginning) for about
 * `bytes` bytes of disk; *place is then where to go on, 0 behind the end.  What
 * is damaged is forgotten and counted; damaged(cookie, digest) is told (may be
 * NULL). */
PLT_MUST_USE MAY_WAIT enum plt_status
store_scrub(struct store *store, uint64_t *place, uint64_t bytes,
            void (*damaged)(void *cookie, const uint8_t digest[STORE_DIGEST]),
            void *cookie, struct plt_error *err);

struct store_stats {
    uint64_t leaves;       /* that are there */
    uint64_t disk_bytes;   /* of all segments, as they are allocated */
    uint64_t limit;        /* bytes; 0: none */
    uint64_t memory_bytes; /* of the hints */
    uint64_t segments;
    uint64_t put,
        passed_by;        /* leaves, since it was opened: new; already there */
    uint64_t damaged;     /* leaves found damaged, since it was opened */
    uint64_t swept_bytes; /* given back to the disk, since it was opened */
};
/* Does not wait. */
void store_stats(struct store *store, struct store_stats *out);

#endif
