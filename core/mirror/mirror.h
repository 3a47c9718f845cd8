/* SPDX-License-Identifier: Apache-2.0 */
/* Mirrors: images of elsewhere that this host keeps.
 *
 * A mirror has a name, a source and a state:
 *
 *     mirroring --all is here--> complete --the source moved on--> mirroring
 *         | ^                        (followed ones)
 *   pause v | resume            failed: needs somebody; goes on by itself when
 *        paused                         what failed is of the source
 *
 * Its disk is served under its bare name from the first second.  What is kept:
 * leaves in the store, shared by all mirrors; the manifest of each version; and
 * `mirrors.json`, written before a change is acknowledged.
 * Threads: any. */
#ifndef MIRROR_MIRROR_H
#define MIRROR_MIRROR_H

#include <jansson.h>

#include "manifest/manifest_file.h"
#include "stack/image.h"
#include "store/store.h"

enum { MIRRORS_MAX = 1024 };

struct mirrors;

struct mirrors_config {
    struct images *images; /* borrowed, outlives mirrors */
    const char *state_dir; /* borrowed; NULL: there can be no mirrors */
    uint64_t store_limit;  /* bytes; 0: none */
    enum store_compression compression;
    uint64_t bandwidth;         /* bytes a second of all mirrors; 0: no limit */
    uint64_t scrub_rate;        /* bytes a second, at rest; 0: no scrub */
    const char *const *seeds;   /* references or ORIGIN/PATHs whose leaves are
                                   taken when they are wanted; NULL-ended; NULL */
    const char *const *outputs; /* files, devices and folders (with their last
                                   slash) that "output" may name; NULL-ended */
    const char *const *keys;    /* minisign public keys (base64) that manifests
                                   must    be signed with by one of; NULL-ended;
                                   NULL:    no    signature is asked for */
    const char *advertise; /* this gateway's URL, told to upstreams that may
                              send other edges here; NULL: not told */
};

/* new in *out.  Goes on with what mirrors.json says, in the background.
 * PLT_CORRUPT: that file is not what was written. */
PLT_MUST_USE MAY_WAIT enum plt_status
mirrors_new(const struct mirrors_config *config, struct mirrors **out,
            struct plt_error *err);
/* Its threads end; NULL is fine.  Before images_free, which closes the disks
 * that are open. */
void mirrors_stop(struct mirrors *mirrors);
/* What was kept is on the disk; NULL is fine.  After images_free. */
void mirrors_free(struct mirrors *mirrors);

/* Is it an entry that mirrors_add would take, as far as that can be known
 * without mirrors?  PLT_INVALID, PLT_DENIED, PLT_UNSUPPORTED: a mirror has no
 * such key. */
PLT_MUST_USE enum plt_status mirrors_check(const struct mirrors_config *config,
                                           json_t *entry,
                                           struct plt_error *err);

/* A request's JSON object, with the defaults in brackets:
 *
 * - "name": [A-Za-z0-9][A-Za-z0-9._-]{0,62}, no origin's or image's
 * - "source": the URL of a /disk/... of a gateway in a configured origin, or a
 *   reference ORIGIN/PATH with selectors as path parameters
 * - "priority": -100 to 100 (0): of two that wait the higher goes first
 * - "bandwidth": bytes a second, 1024 at least, or 0 (0): no limit of its own
 * - "follow": seconds between looks for a new version, 5 at least; 0 (0): never
 * - "schedule": "HH:MM-HH:MM", UTC: the background runs within alone; "" ("")
 * - "output": a file or block device that holds the disk instead of the store,
 *   in the configuration's outputs, and no other mirror's; null (null)
 * - "signed": true: a manifest without a good signature is refused (false)
 * - "trace": false: the upstream's boot trace is not asked for (true)
 * - "fetch" ("auto"): what is missing as lists of leaves, compressed, and as
 *   blocks where nearly all is, under names that any cache keeps; "blocks":
 *   whole blocks of 1 MiB alone; "ranges": ranges of /disk, uncompressed
 *
 * The same again is PLT_OK and *is_new false.  PLT_INVALID, PLT_EXISTS (another
 * of this name), PLT_UNSUPPORTED (no state folder), PLT_DENIED (policy).  Kept
 * before it returns; the source need not be there yet. */
PLT_MUST_USE MAY_WAIT enum plt_status mirrors_add(struct mirrors *mirrors,
                                                  json_t *entry, bool *is_new,
                                                  struct plt_error *err);
/* It shall be there as the entry says, which is the configuration's: made when
 * it is not, changed when it is another.  PLT_EXISTS: what differs cannot be
 * changed (source, output, signed); it stays as it is. */
PLT_MUST_USE MAY_WAIT enum plt_status
mirrors_want(struct mirrors *mirrors, json_t *entry, struct plt_error *err);
/* Its name is free at once; its leaves go with the next sweep.  An output stays
 * as it is. */
PLT_MUST_USE MAY_WAIT enum plt_status mirrors_remove(struct mirrors *mirrors,
                                                     const char *name,
                                                     struct plt_error *err);
/* Pause: nothing is fetched in the background; the disk is served on, and what
 * a reader asks for is fetched.  Resume; also ends "failed", and looks at the
 * source at once. */
PLT_MUST_USE MAY_WAIT enum plt_status mirrors_pause(struct mirrors *mirrors,
                                                    const char *name, bool on,
                                                    struct plt_error *err);
/* Change "priority", "bandwidth", "follow", "schedule", "trace", "fetch" of one
 * that is there; others are PLT_INVALID. */
PLT_MUST_USE MAY_WAIT enum plt_status mirrors_change(struct mirrors *mirrors,
                                                     const char *name,
                                                     json_t *entry,
                                                     struct plt_error *err);

/* What it is and how far: what was asked for, and
 *
 * - "state": "mirroring", "complete", "paused", "failed"
 * - "root": 64 hexadecimal digits of the version served; null: unknown
 * - "next_root": of a followed one, the version that is being fetched; or null
 * - "virtual_size": bytes; null: not known yet
 * - "bytes_total": of the disk that are not zeros, as far as is known
 * - "bytes_local": of those, that are here, verified
 * - "bytes_fetched": that came over the network for this version, all of it
 *   (manifest, digests, repeats), as they came: compressed
 * - "bytes_reused": that this host had: of other images, versions, seeds
 * - "bytes_demand": of those fetched, because a reader waited
 * - "blocks_total", "blocks_local": the same in leaves of 4096 bytes
 * - "share": 0 to 1, of bytes_total that is local
 * - "rate": bytes of the disk a second that came to be here, of the last
 * seconds
 * - "eta_seconds": null: nobody knows
 * - "requests": at the source, for this version
 * - "verified": true: each leaf was compared with a manifest of the source;
 *   false: the source has none, digests are of what came
 * - "signature": "good", "none"; null: not asked for
 * - "siblings": URLs of edges that blocks were taken from
 * - "repaired": leaves that were damaged at rest and fetched again
 * - "refused": leaves and lists that the source sent wrong
 * - "error": text, or null: what is wrong now, naming who is to blame
 * - "since", "checked", "completed": RFC 3339, or null
 * - "versions": how many are kept: readers have the others open
 * - "history": what happened to it, newest first, at most 32 rows: "time" (RFC
 *   3339), "event" ("made", "version", "complete", "paused", "resumed",
 *   "waiting", "failed", "repaired"), "count" (how often, one after the other;
 *   of "repaired": leaves), "root", and of "complete" "bytes_fetched",
 *   "bytes_reused" and "seconds" since the version came, of "waiting" and
 *   "failed" "error"; null: not known, or not of this event.  Not in the list
 *
 * new in *out.  PLT_NOT_FOUND.  Does not wait. */
PLT_MUST_USE enum plt_status mirrors_json(struct mirrors *mirrors,
                                          const char *name, json_t **out,
                                          struct plt_error *err);
/* An array of them, sorted by name; new, NULL without memory.  Does not wait.
 */
json_t *mirrors_list_json(struct mirrors *mirrors);
/* {"leaves","disk_bytes","limit","memory_bytes","damaged",...} of the store,
 * and how far the scrub is; new; NULL without memory, or without a store. */
json_t *mirrors_store_json(struct mirrors *mirrors);
/* A number that is another one when anything that mirrors_json says of it has
 * changed (at most each 200 ms for progress); 0: no such mirror.  Does not
 * wait.
 */
uint64_t mirrors_change_count(struct mirrors *mirrors, const char *name);

bool mirrors_has(struct mirrors *mirrors, const char *name);
/* The manifest of this very image, when it is a mirror's disk, as far as it is
 * known; new reference (manifest_file_unref), or NULL.  Does not wait. */
struct manifest_file *mirrors_manifest(struct mirrors *mirrors,
                                       struct image *image);
/* The name under which the version with this root can be opened, when group g
 * of it is here (a sibling is told what is here, and never waits for more); new
 * text (free), or NULL. */
char *mirrors_by_root(struct mirrors *mirrors, const manifest_digest root,
                      uint64_t g);

/* Totals since the start, for metrics. */
struct mirrors_totals {
    uint64_t fetched_bytes, reused_bytes, demand_bytes, repaired_leaves,
        refused_leaves; /* that a source or a sibling sent wrong */
    unsigned n_mirroring, n_complete, n_paused, n_failed;
};
void mirrors_totals(struct mirrors *mirrors, struct mirrors_totals *out);

#endif
