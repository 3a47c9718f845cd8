/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's files share.
 *
 * Locks, taken downwards: `sync` (one at a time waits for the disk), `tail`
 * (who appends), `lock` (the index, the table of segments and the numbers; held
 * for memory alone).  A segment is counted: who has looked a place up in it
 * holds it until it is read, and the last one removes the file of one that is
 * out of the table. */
#ifndef STORE_STORE_INSIDE_H
#define STORE_STORE_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"
#include "store/store_index.h"
#include "store/store_place.h"
#include "store/store_record.h"
#include "util/lock.h"

enum {
    SEGMENT_MOST = 64 << 20,  /* bytes; a place's offset has no more */
    SEGMENT_LEAST = 2 << 20,  /* a batch, and its footer, fit */
    SEGMENT_PER_LIMIT = 64,   /* the limit is cut into so many, within these */
    SEGMENT_LEAVES = 1 << 16, /* a footer is 2.5 MiB at most */
    SEGMENT_HEAD = 64,
    SEGMENT_NAME = 16,
    BATCH_RECORDS = STORE_BATCH / RECORD_LEAVES,
    OPEN_FILES = 128,   /* descriptors of segments that nobody reads just now */
    UNSEALED_MOST = 4,  /* full segments that wait for their footers */
    UNSEALED_FULL = 32, /* then the disk does not sync, and nothing is put */
    FIND_TRIES = 4      /* of what others change meanwhile */
};

/* What a segment's records are, in their order. */
struct directory_entry {
    uint32_t off; /* bytes */
    uint32_t n;   /* leaves */
};
struct directory {
    struct directory_entry *entries;
    uint8_t (*digests)[STORE_DIGEST];
    size_t n_entries, n_leaves, cap_entries, cap_leaves;
};

enum segment_state {
    SEGMENT_SEALED,
    SEGMENT_TAIL,
    SEGMENT_FULL,   /* its footer is to be written */
    SEGMENT_SUSPECT /* it could not be synced: what is behind `synced` has to be
                       written anew */
};

struct segment {
    uint32_t number, slot;
    uint8_t secret[STORE_SECRET];

    /* under lock */
    unsigned refs;     /* the table's; one while it is not sealed; readers' */
    int fd;            /* -1: to be opened */
    bool is_gone;      /* out of the table */
    uint64_t bytes;    /* of the file */
    uint64_t live;     /* hints that lead here */
    uint64_t leaves;   /* in its records */
    uint64_t data_end; /* behind the last record; grows under tail, too */

    /* state and directory under tail; synced under sync */
    enum segment_state state;
    struct directory directory; /* while it is not sealed */
    uint64_t synced; /* bytes from the beginning that outlast a power cut */
    struct segment *next; /* that is not sealed */
};

struct store {
    struct store_config config;
    int lock_fd;
    uint64_t segment_bytes, reserve;

    struct lock sync;
    bool is_lost; /* what was put could be neither synced nor read again */
    bool is_sweeping;

    struct lock tail;
    struct segment *unsealed; /* all that are not sealed, the tail among them */
    struct segment *open;     /* the tail; NULL: none */
    uint32_t next_number;
    uint64_t n_appended; /* calls that added something */
    bool is_dir_unsynced;

    struct lock lock;
    struct store_index index;
    struct segment *segments[PLACE_SEGMENTS];
    uint32_t n_slots; /* of the table that have been used */
    uint32_t hand;    /* where to look for a descriptor to close */
    unsigned n_open;
    struct store_stats stats; /* the numbers that only grow; disk_bytes,
                                 segments */

    struct lock scratch_lock;
    struct store_scratch *scratch;
    unsigned n_scratch;
};

/* ---- store.c ---- */

/* NULL: no memory.  Given back with store_scratch_give. */
struct store_scratch *store_scratch_take(struct store *store);
void store_scratch_give(struct store *store, struct store_scratch *scratch);
void store_scratch_free(struct store_scratch *scratch);
/* The segment of a place, counted; NULL: there is none. */
struct segment *store_pin_locked(struct store *store, uint64_t place)
    LOCK_HELD(store->lock);
/* A hint led to damage.  False: it does not lead there any more. */
bool store_forget(struct store *store, const uint8_t *digest, uint64_t place);
/* The digest of the leaf at a place, as the record's head says. */
bool store_digest_at(struct store *store, struct segment *s, uint64_t place,
                     uint8_t digest[STORE_DIGEST]);
/* store_get; is_kept: the sweep's mark is set, too, and that it is there holds
 * when this returns. */
PLT_MUST_USE enum plt_status store_fetch(struct store *store,
                                         const uint8_t *digest, uint8_t *buf,
                                         bool is_kept, struct plt_error *err);

/* ---- store_append.c ---- */

/* Write leaves behind the last that lie at `from`; their hints lead to the new
 * places then, where they still led to the old ones. */
PLT_MUST_USE enum plt_status
store_append(struct store *store, size_t n,
             const uint8_t (*digests)[STORE_DIGEST], const uint8_t *data,
             const uint64_t *from, struct plt_error *err);

/* ---- store_move.c ---- */

/* Write what is live from off on of a segment anew.  *lost (may be NULL): set
 * when something could not be read again. */
PLT_MUST_USE enum plt_status store_move(struct store *store, struct segment *s,
                                        uint64_t off,
                                        bool (*is_stopped)(void *cookie),
                                        void *cookie, bool *lost,
                                        struct plt_error *err);

/* ---- store_segment.c ---- */

void segment_name(uint32_t number, char out[SEGMENT_NAME]);
/* In the table, with one reference; NULL: no memory, or the table is full. */
struct segment *segment_new(struct store *store, uint32_t number);
/* A new file with its head: the tail. */
PLT_MUST_USE enum plt_status segment_begin(struct store *store,
                                           struct plt_error *err)
    LOCK_HELD(store->tail);
/* One reader's; -1 and errno. */
int segment_fd(struct store *store, struct segment *s);
void segment_unpin(struct store *store, struct segment *s);
/* Out of the table; the file goes with the last reader. */
void segment_drop(struct store *store, struct segment *s);
/* Its file has this length now. */
void segment_set_bytes(struct store *store, struct segment *s, uint64_t bytes);
void segment_free(struct segment *s);
/* The head of a segment. */
void segment_make_head(uint8_t head[SEGMENT_HEAD], const uint8_t *secret);
bool segment_is_head(const uint8_t head[SEGMENT_HEAD]);
/* The secret of a head that was read. */
const uint8_t *segment_head_secret(const uint8_t head[SEGMENT_HEAD]);

bool directory_add(struct directory *d, uint64_t off, size_t n,
                   const uint8_t (*digests)[STORE_DIGEST]);
bool directory_reserve(struct directory *d, size_t entries, size_t leaves);
/* Without the records from off on. */
void directory_cut(struct directory *d, uint64_t off);
void directory_release(struct directory *d);
/* Bytes of the footer. */
uint64_t directory_bytes(const struct directory *d);
/* What a segment has: a copy, new in *out.  CORRUPT: its footer is damaged. */
PLT_MUST_USE enum plt_status segment_directory(struct store *store,
                                               struct segment *s,
                                               struct directory *out,
                                               struct plt_error *err);

/* ---- store_footer.c ---- */

/* Behind the last record, whose end is *end; *end is then the file's.
 * errno's value. */
int footer_write(int fd, const struct directory *d, const uint8_t *secret,
                 uint64_t *end);
/* Of a file of `bytes` bytes.  False: none that is whole (or no memory).
 * *data_end: where it begins.  new in *out. */
bool footer_read(int fd, uint64_t bytes, const uint8_t *secret,
                 struct directory *out, uint64_t *data_end);

/* What its trailer says; 0: none. */
uint64_t footer_leaves(int fd, uint64_t bytes);

/* ---- store_walk.c ---- */

/* The records of a file, by their heads alone, whatever lies between: for each
 * in the file as a whole, fn with its leaves (in a row, not verified; NULL: the
 * frame is damaged).  Returns the end of the last one that fn finds good; 0: no
 * memory. */
uint64_t segment_walk(int fd, uint64_t bytes, const uint8_t *secret,
                      struct store_scratch *scratch,
                      bool (*fn)(void *cookie, uint64_t off,
                                 const struct store_record *r,
                                 const uint8_t *data),
                      void *cookie);

/* ---- store_names.c ---- */

struct store_file {
    uint32_t number;
    uint64_t bytes;
};
struct store_files {
    struct store_file *list; /* the caller frees it */
    size_t n, cap;
};
/* Of the segments in a folder, the newest first. */
PLT_MUST_USE enum plt_status
store_list_files(int folder, struct store_files *files, struct plt_error *err);

/* ---- store_sync.c ---- */

/* What waits for its footer is many: see to it. */
void store_settle(struct store *store);

#endif
