/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of core/mirror share, and nobody else.
 *
 * Locks, taken in this order: a mirror's `lock` (its entry, versions, errors,
 * what is due), a version's `lock` (which groups are here, taken or wanted).
 * mirrors->lock guards the list and is taken before both.  None is held while
 * anything waits for a disk or the network, but `save_lock`, which puts writers
 * of mirrors.json in a row. */
#ifndef MIRROR_MIRROR_INSIDE_H
#define MIRROR_MIRROR_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "manifest/manifest_file.h"
#include "mirror/mirror.h"
#include "mirror/mirror_history.h"
#include "stack/provided.h"
#include "stack/reference.h"
#include "util/lock.h"

enum {
    MOVERS = 8,                /* threads that fetch, of all mirrors */
    MOVERS_OF_ONE = 4,         /* of one mirror, at most */
    MOVERS_KEPT = 2,           /* for mirrors that have none */
    MOVERS_DOUBTED = 4,        /* for all whose source failed last, at most */
    WINDOW_GROUPS = 32,        /* taken by a mover at a time */
    WINDOW_LEAVES = 1024,      /* fetched by it at a time */
    MIRROR_NAME = 64,          /* with its NUL */
    MIRROR_WAIT_MS = 30000,    /* of one request of the background */
    MIRROR_DEMAND_MS = 1000,   /* so long after a reader waited it may again */
    MIRROR_YIELD_MS = 8000,    /* then the background has a turn all the same */
    MIRROR_DATA_MS = 120000,   /* of a request for bytes of the disk */
    MIRROR_RETRY_MIN_MS = 500, /* after a failure of the source, doubling */
    MIRROR_RETRY_MAX_MS = 30000,
    MIRROR_SOURCES = 16 /* siblings that are known at a time */
};

enum via { VIA_AUTO, VIA_BLOCKS, VIA_RANGES };

/* What is asked for.  Name, source, output and is_signed stay as they are; the
 * rest is changed and read under the mirror's lock.  Texts new. */
struct mirror_entry {
    char name[MIRROR_NAME];
    char *source;
    char *output; /* or NULL */
    int priority;
    uint64_t bandwidth;   /* bytes a second; 0: no limit */
    uint64_t follow_s;    /* 0: never */
    int from_min, to_min; /* of the day, UTC, [from, to); -1: always */
    bool is_signed, wants_trace;
    enum via via;
};

enum group_state {
    GROUP_TODO,
    GROUP_TAKEN, /* a mover has it */
    GROUP_DONE   /* every leaf is here, or zeros */
};

/* What a version costs and brings; bytes and counts. */
struct mirror_counts {
    _Atomic uint64_t fetched, demand, reused, requests, repaired, refused;
};

/* One version of a disk.  Counted; what does not change is read without its
 * lock. */
struct version {
    _Atomic unsigned refs;
    struct version *next_alive, *previous_alive; /* mirrors->versions_lock */
    struct mirrors *mirrors;
    struct mirror *mirror; /* alive as long as a version of it */
    char file_name[40]; /* of its manifest, in the folder; "": none is kept */
    struct manifest_file *file;
    uint64_t size, n_groups;
    bool is_listed;
    uint64_t held;    /* bytes of the budget */
    bool is_direct;   /* the source has no manifest: digests are of what came */
    bool is_passing;  /* and nothing is kept: until the manifest is there */
    char etag[128];   /* direct: of the source's image */
    uint8_t salt[16]; /* direct: tells this version from every other */
    manifest_digest root; /* when has_root */
    atomic_bool has_root;
    char signature[8]; /* "good", "none" or "": not asked for; fixed */
    struct out_file
        *out; /* where the disk lies instead of the store; or NULL */

    struct lock lock;
    uint8_t *state;  /* enum group_state of each */
    uint16_t *here;  /* leaves of each that are here and not zeros */
    uint16_t *data;  /* leaves of each that are not zeros; as far as known */
    uint32_t *order; /* groups in the order they are wanted, or NULL */
    uint64_t next;   /* place in the order from which to look for TODO */
    uint64_t n_done; /* groups */
    uint64_t n_here, n_data; /* sums of the two */
    uint64_t told_data;      /* leaves that are not zeros, as the manifest says;
                                UINT64_MAX: it does not */
    uint64_t guessed_data;   /* of a source without a manifest; 0: not known */
    uint64_t unsynced;       /* bytes put since store_sync */
    bool is_checked;         /* what is here was looked for since the start */
    unsigned n_rechecks;     /* asked for */
    bool is_finishing;
    uint64_t scrub_group; /* the keeper's: of an output, what is read next */
    atomic_bool is_complete;
    /* How often the source did not know its own root: then it is asked for
     * ranges of its disk. */
    _Atomic unsigned n_unknown;
    struct mirror_counts counts;
};

struct mirror {
    _Atomic unsigned refs;
    struct mirrors *mirrors;
    struct lock lock;
    struct cond moved; /* a version came, or the look failed */
    struct mirror_entry entry;
    bool is_removed, is_paused;
    atomic_bool is_halted; /* either: the background ends */
    atomic_bool is_gone;   /* removed: for who has no lock */
    struct mirror_counts
        counts;                /* of what is asked before there is a version */
    struct version *current;   /* what is served; NULL: not looked at yet */
    struct version *coming;    /* of a followed one: becomes it when complete */
    _Atomic unsigned n_movers; /* that work for it now */
    _Atomic int priority;      /* the entry's */
    _Atomic uint64_t taken_ns; /* when a mover last took it */
    bool is_looking;           /* one of them asks the source */
    bool must_look;
    uint64_t look_ns;       /* next look of a followed one; CLOCK_NEVER: none */
    uint64_t due_ns;        /* nothing before: after a failure */
    uint64_t idle_until_ns; /* all that is left is taken */
    _Atomic unsigned failures; /* in a row */
    bool is_failed;            /* needs somebody */
    char error[256];           /* "" */
    enum plt_status error_status;
    uint64_t away_ns; /* the source could not be reached, then; 0: it can */
    char since[24], checked[24], completed[24]; /* RFC 3339 or "" */
    struct history history;
    _Atomic uint64_t changes; /* mirrors_change_count */
    _Atomic unsigned n_versions;
    /* bytes that came in each of the last seconds */
    _Atomic uint64_t rate_second[8], rate_bytes[8];
    uint64_t allowance_ns; /* when the next byte may come, by its bandwidth */
    uint64_t paid;         /* bytes that the allowance has given out already */
    uint64_t paced_ns;     /* then they may come */
    _Atomic uint64_t demand_ns; /* when a reader last waited for the source */
    _Atomic uint64_t turn_ns;   /* when the background last had a turn */
    struct {
        char url[512]; /* up to and with the '/' before "v1/" */
        uint64_t muted_ns;
        bool is_used;
    } sibling[MIRROR_SOURCES];
    unsigned n_siblings;
    uint64_t siblings_ns;
};

struct seeds;

struct mirrors {
    struct mirrors_config config;
    struct images *images;
    struct provider provider;
    struct store *store;
    int dir, store_dir; /* of manifests and mirrors.json; of the store */
    struct lock lock;
    struct cond work; /* something may be due: wakes was counted up */
    uint64_t wakes;
    struct mirror **list; /* sorted by name */
    size_t n, cap;
    struct lock save_lock;
    atomic_bool is_unsaved; /* mirrors.json is not what it should be: the disk
                               failed, or was full */
    atomic_bool has_news;   /* a history has what mirrors.json has not */
    struct lock versions_lock; /* guards the next two; taken last */
    struct version *versions;  /* all that are alive */
    size_t n_versions;
    atomic_bool is_stopping;
    _Atomic unsigned n_busy, n_doubted; /* movers at work; of those, for mirrors
                                           whose source failed last */
    pthread_t movers[MOVERS];
    unsigned n_started;
    pthread_t keeper;
    bool has_keeper;
    struct seeds *seeds;
    uint64_t allowance_ns; /* by config.bandwidth */
    _Atomic uint64_t fetched, reused, demand, repaired, refused;
    atomic_bool must_sweep;
    uint64_t scrub_place;
    _Atomic uint64_t scrubbed_bytes, scrub_rounds;
};

/* ---- mirror_entry.c ---- */

PLT_MUST_USE enum plt_status entry_parse(struct mirror_entry *out,
                                         json_t *asked, struct plt_error *err);
/* The configuration lets it be: INVALID, DENIED. */
PLT_MUST_USE enum plt_status entry_check(const struct mirror_entry *entry,
                                         const struct mirrors_config *config,
                                         struct plt_error *err);
/* What may change later; on failure nothing has. */
PLT_MUST_USE enum plt_status entry_change(struct mirror_entry *entry,
                                          json_t *asked, struct plt_error *err);
/* What can change as it is in `was`, one by one: the rest is read meanwhile. */
void entry_restore(struct mirror_entry *entry, const struct mirror_entry *was);
void entry_release(struct mirror_entry *entry);
/* As it was asked for, every field; new; NULL without memory. */
json_t *entry_json(const struct mirror_entry *entry);
/* The background may run at this minute of the day. */
bool entry_is_scheduled(const struct mirror_entry *entry, int minute);

/* ---- mirrors.c ---- */

void mirror_ref(struct mirror *mirror);
void mirror_unref(struct mirror *mirror);
struct mirror *mirrors_find(struct mirrors *mirrors, const char *name);
/* Write mirrors.json, for good. */
PLT_MUST_USE MAY_WAIT enum plt_status mirrors_save(struct mirrors *mirrors,
                                                   struct plt_error *err);
void mirrors_wake(struct mirrors *mirrors);
/* Something that its JSON says has changed. */
void mirror_changed(struct mirror *mirror);
/* References to all, at that moment: new array of *n, each to be let go. */
struct mirror **mirrors_all(struct mirrors *mirrors, size_t *n);

/* ---- mirror_status.c ---- */

/* What is wrong, as JSON: null for ""; new, NULL without memory. */
json_t *mirror_error_json(const char *error);

/* ---- mirror_version.c ---- */

/* A version of so many bytes with one reference.  file_name "": a new one is
 * made up.  out: stolen, or NULL. */
PLT_MUST_USE MAY_WAIT enum plt_status
version_new(struct mirror *mirror, uint64_t size, const char *file_name,
            struct version **out, struct plt_error *err);
void version_ref(struct version *version);
void version_unref(struct version *version); /* NULL is fine */
/* The budget goes with the images, and some versions after them. */
void version_give_memory(struct version *version);
/* References to all that are alive: new array of *n; NULL without memory. */
struct version **versions_all(struct mirrors *mirrors, size_t *n);
/* What a version's file says is here: the store is asked.  Ends early when
 * stopped. */
MAY_WAIT void version_check(struct version *version);
/* Something of it may be lost: look again, in the background. */
void version_recheck(struct version *version);
/* Take up to n groups to fetch, in the order that they are wanted. */
size_t version_take(struct version *version, size_t n, uint64_t *groups);
/* Group g is (not) here now.  here, data: leaves that are not zeros. */
void version_give(struct version *version, uint64_t g, bool is_done,
                  size_t here, size_t data);
bool version_is_whole(struct version *version);
/* Put first what is said to be read first: stretches of bytes, n of them. */
void version_order(struct version *version, const uint64_t (*stretches)[2],
                   size_t n, uint64_t first_group);
/* All is here: durable, and its manifest, too. */
PLT_MUST_USE MAY_WAIT enum plt_status version_finish(struct version *version,
                                                     struct plt_error *err);

/* ---- mirror_io.c ---- */

/* The circumstances of work for a version; outer: a reader's, or NULL for the
 * background. */
struct mirror_io {
    struct plt_io io;        /* first */
    struct version *version; /* or NULL: of the mirror alone */
    struct mirror *mirror;
    struct plt_io *outer;
};
void mirror_io_init(struct mirror_io *m, struct mirror *mirror,
                    struct version *version, struct plt_io *outer,
                    uint32_t flags);
/* Wait until so many bytes may be fetched; false: stopped meanwhile, or, unless
 * is_patient, they may not for long: the mover has others to work for, and what
 * the allowance has given is this mirror's the next time. */
MAY_WAIT bool mirror_pace(struct mirror *mirror, uint64_t bytes,
                          bool is_patient);
/* Readers wait for the source now, or just did: what the background has under
 * way is in front of them on the line. */
bool mirror_is_asked(struct mirror *mirror);
/* It were fewer: so many need not have been waited for. */
void mirror_pace_back(struct mirror *mirror, uint64_t bytes);
/* So many bytes of the disk more are here; how many a second came, lately. */
void mirror_add_rate(struct mirror *mirror, uint64_t bytes);
uint64_t mirror_rate(struct mirror *mirror);

/* ---- mirror_source.c ---- */

/* Where the parts of a source are; texts new. */
struct source {
    bool is_url;
    char *base; /* of a gateway's URL, with its last slash */
    char *path; /* the reference, as the URL spells it */
};
PLT_MUST_USE enum plt_status source_parse(struct source *out, const char *text,
                                          struct plt_error *err);
void source_release(struct source *source);
/* BASE/v1/KIND/PATH TAIL; new; NULL without memory. */
char *source_url(const struct source *source, const char *kind,
                 const char *tail);
/* The source's disk, opened; new reference. */
PLT_MUST_USE MAY_WAIT enum plt_status source_disk(struct mirror *mirror,
                                                  struct plt_io *io,
                                                  struct image **out,
                                                  struct plt_error *err);
/* What documents of the source's gateway are fetched beside (image_fetch): the
 * list of groups, which any cache between can keep.  Not the disk: a cache that
 * does not keep ranges asks for all of it to answer the first one.
 * PLT_NOT_FOUND: the source has no manifest. */
PLT_MUST_USE MAY_WAIT enum plt_status source_beside(struct mirror *mirror,
                                                    struct plt_io *io,
                                                    struct image **out,
                                                    struct plt_error *err);
/* It has another version: what was opened of it before is not asked again. */
void source_forget(struct mirror *mirror);
/* Bytes of /v1/manifest/REF/PART, at most 64 stretches. */
PLT_MUST_USE MAY_WAIT enum plt_status
source_part(struct mirror *mirror, const char *part, struct plt_io *io,
            const struct plt_seg *segs, size_t n, struct plt_error *err);

/* ---- mirror_look.c ---- */

void mirror_time(char out[24]); /* now, RFC 3339 */

/* What the head of a manifest says. */
struct mirror_head {
    uint64_t size;        /* of the disk: bytes */
    uint64_t data_leaves; /* that are not zeros; UINT64_MAX: not said */
    manifest_digest root;
    char signature[8]; /* "good", "none" or "": not asked for */
};
/* Untrusted input.  PLT_CORRUPT. */
PLT_MUST_USE enum plt_status look_parse_head(const char *text, size_t len,
                                             struct mirror_head *out,
                                             struct plt_error *err);
/* Ask the source which version it has; a new one becomes the current, or the
 * coming one.  The caller has set is_looking. */
MAY_WAIT void mirror_look(struct mirror *mirror);

/* ---- mirror_window.c ---- */

/* Fetch some groups of it.  OK also when there were none to take. */
PLT_MUST_USE MAY_WAIT enum plt_status
mirror_window(struct version *version, bool *is_idle, struct plt_error *err);

/* ---- mirror_fetch.c ---- */

/* The full digests of group g's leaves, fetched if they are not known. */
PLT_MUST_USE MAY_WAIT enum plt_status
fetch_digests(struct version *version, struct plt_io *io, uint64_t g,
              manifest_digest *leaves, size_t *n, struct plt_error *err);
/* Leaves of the disk by their numbers, ascending, one after the other into buf:
 * n of them, WINDOW_LEAVES at most; what the disk's end cuts off is zeros. */
PLT_MUST_USE MAY_WAIT enum plt_status
fetch_leaves(struct version *version, struct plt_io *io, const uint64_t *leaves,
             size_t n, uint8_t *buf, struct plt_error *err);
/* The same as one frame of the source's, compressed, under a name that any
 * cache may keep: edges that go from one version to the next ask for the same.
 * *cost grows by the bytes that came. */
PLT_MUST_USE MAY_WAIT enum plt_status
fetch_packed(struct version *version, struct plt_io *io, const uint64_t *leaves,
             size_t n, uint8_t *buf, uint64_t *cost, struct plt_error *err);
/* The whole group g, from a sibling or the source, as an immutable block. */
PLT_MUST_USE MAY_WAIT enum plt_status fetch_block(struct version *version,
                                                  struct plt_io *io, uint64_t g,
                                                  uint8_t *buf, uint64_t *cost,
                                                  struct plt_error *err);
/* Its blocks are asked for by their root. */
bool fetch_by_root(struct version *version);
/* What the source sent is not what its manifest says: counted, named. */
PLT_MUST_USE enum plt_status fetch_refused(struct version *version,
                                           const char *who, uint64_t leaf,
                                           struct plt_error *err);

/* ---- mirror_direct.c ---- */

/* Copy all of a source without a manifest. */
PLT_MUST_USE MAY_WAIT enum plt_status mirror_direct(struct version *version,
                                                    struct plt_error *err);

/* ---- mirror_disk.c ---- */

/* The provider of all mirrors' disks. */
void mirror_disk_provider(struct mirrors *mirrors, struct provider *out);

/* ---- mirror_mover.c ---- */

void *mover_run(void *mirrors);
/* A source failed: when it is tried again, and what is said of it. */
void mirror_failed(struct mirror *mirror, const struct plt_error *err);

/* ---- mirror_keep.c ---- */

void *keeper_run(void *mirrors);

/* ---- mirror_seed.c ---- */

struct seeds *seeds_new(struct mirrors *mirrors);
/* Their images are closed, and none is opened again: images_free waits for all
 * that are open.  NULL is fine. */
void seeds_close(struct seeds *seeds);
void seeds_free(struct seeds *seeds);
/* The leaf whose digest begins so, out of an image of this host, verified to
 * begin so: false: none. */
MAY_WAIT bool seeds_get(struct seeds *seeds, struct plt_io *io,
                        const uint8_t prefix[MANIFEST_PREFIX],
                        uint8_t buf[MANIFEST_LEAF], manifest_digest digest);
/* Now and then: memory of seeds that nobody asked for a while is given back. */
void seeds_tick(struct seeds *seeds);

#endif
