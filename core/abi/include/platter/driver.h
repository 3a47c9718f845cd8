/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a platter driver: this page is all that a driver author reads.
 *
 * A driver turns the bytes of the layer below it (its child) into the bytes of
 * one layer more: gzip gives the decoded stream, tar one member, qcow2 the
 * guest disk.  A source driver (file, curl) has no child.  It is a shared
 * object with one exported symbol, `platter_driver`, made by PLT_DRIVER() at
 * the foot of its main file.  It needs no symbol of the program that loads it:
 * what it calls is handed to it (struct plt_host, struct plt_child) or linked
 * into it (libplatter_sdk.a: error.h, option.h).
 *
 *     client -> core -> driver.read -> child.read -> core -> driver.read -> ...
 *
 * Requests go down and filled buffers come back; nothing below ever calls up.
 *
 * The core stands at every boundary.  It clamps spans before a driver sees
 * them, checks what drivers answer, names the failing layer, counts and times.
 * So a driver is short: it maps what it gets onto its child and calls the child
 * once, with everything at the same time.
 *
 * Everything read from an image or an origin is hostile.  Bounds that come from
 * data are data: answer PLT_CORRUPT, never assert.  Ask mem_take() before an
 * allocation whose size an image chose.
 *
 * Versions: struct sizes travel with the structs.  The core copies
 * min(struct_size, sizeof) of a driver's struct into a zeroed one, and a driver
 * may use a field of a core struct only when struct_size covers it, which
 * PLT_HAS() tells (fields of ABI 1.0 are always there).  Fields are only ever
 * appended.  A different abi_major is refused with both numbers. */
#ifndef PLATTER_DRIVER_H
#define PLATTER_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <platter/error.h>
#include <platter/extent.h>
#include <platter/option.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PLT_ABI_MAJOR 1
#define PLT_ABI_MINOR 7

#define PLT_HAS(object, field)                                                 \
    ((object)->struct_size >=                                                  \
     offsetof(__typeof__(*(object)), field) + sizeof((object)->field))

/* The size of a layer that nobody knows yet (a plain gzip stream before its end
 * has been seen).  It is not zero and not an error. */
#define PLT_SIZE_UNKNOWN UINT64_MAX

/* The largest size or offset of any layer: 2^63 - 1, as off_t and QEMU. */
#define PLT_SIZE_MAX ((uint64_t)INT64_MAX)

enum plt_credential {
    PLT_CREDENTIAL_HEADERS, /* header fields, "Name: value", each with its LF */
    PLT_CREDENTIAL_CA,      /* a PEM file of authorities, instead of the
                               system's */
    PLT_CREDENTIAL_CLIENT   /* a PEM file of a certificate and its key */
};
enum { PLT_MAX_CREDENTIAL = 16384 }; /* bytes, with the NUL */

/* ---- One request ------------------------------------------------------- */

enum plt_io_flag {
    PLT_IO_NOWAIT = 1,     /* answer from memory or return PLT_AGAIN: the caller
                              is a thread that serves many connections */
    PLT_IO_BACKGROUND = 2, /* nobody waits for this: yield to those who wait */
    /* ABI 1.6: just these bytes, once: nothing besides is fetched along, and
     * nothing of it is kept in the cache.  For reads of a source; others may
     * take no notice. */
    PLT_IO_EXACT = 4
};

/* The circumstances of a request; goes down with it unchanged.
 * Threads: the request's own, but for cancelled() and charge(), which any
 * thread may call while the request lasts. */
struct plt_io {
    uint32_t struct_size;
    uint32_t flags;       /* PLT_IO_*; unknown bits are ignored */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; UINT64_MAX: none */
    /* True: the asker has gone or the server stops; return PLT_CANCELLED soon
     * (within 100 ms or so). */
    bool (*cancelled)(const struct plt_io *io);
    /* Account what this request cost at the origin. */
    void (*charge)(struct plt_io *io, uint64_t origin_bytes,
                   uint32_t origin_requests);

    /* ---- ABI 1.2 ---- */

    /* A W3C traceparent for requests that this one causes; or NULL. */
    const char *traceparent;
};

/* Between the parts of something long: PLT_CANCELLED when nobody waits for it,
 * PLT_TIMEOUT behind the deadline, else OK.  In libplatter_sdk.a. */
PLT_MUST_USE enum plt_status plt_io_ask(const struct plt_io *io,
                                        struct plt_error *err);

/* One stretch of a vectored read: fill buf[0..len) with layer bytes from off.
 */
struct plt_seg {
    uint64_t off; /* bytes */
    size_t len;   /* bytes, at least 1 */
    void *buf;
};

/* ---- The layer below --------------------------------------------------- */

/* A forward reader over a layer, made by stream_open.  Threads: one at a time.
 */
struct plt_stream {
    uint32_t struct_size;
    /* Up to cap bytes into buf, at least one unless the layer ends there:
     * *got == 0 is the end.  May wait.  After a failure the stream can only be
     * closed. */
    enum plt_status (*read)(struct plt_stream *stream, struct plt_io *io,
                            void *buf, size_t cap, size_t *got,
                            struct plt_error *err);
    void (*close)(struct plt_stream *stream);
};

enum plt_child_flag {
    /* A byte far ahead costs decoding all before it once: walk, do not jump,
     * and do not walk to the end before answering what is already known. */
    PLT_CHILD_FORWARD = 1,
    PLT_CHILD_REMOTE = 2 /* every call below may be a network round trip */
};

struct plt_info;
struct plt_block;

/* Bytes lent from memory, handed on in order and without a gap: len of them at
 * data, which lie inside block; or data and block NULL: len zeros.  The
 * reference to block that the lender has becomes the receiver's, whatever this
 * answers.  False: stop, and answer PLT_AGAIN. */
typedef bool plt_lend_fn(void *cookie, const void *data, size_t len,
                         struct plt_block *block);

/* The layer below.  Lives until .close returns.
 * Threads: any number of calls at once. */
struct plt_child {
    uint32_t struct_size;
    uint32_t flags; /* PLT_CHILD_* */
    uint64_t size;  /* bytes, fixed while open; or PLT_SIZE_UNKNOWN */

    /* Fill all n segments or fail; there are no short reads.  After a failure
     * the buffers are unspecified and must not be used.  A span outside
     * [0, size) comes back PLT_CORRUPT: bounds taken from an image are data.
     * Segments may come in any order and must not overlap in memory.
     * May wait, unless PLT_IO_NOWAIT. */
    enum plt_status (*read)(struct plt_child *child, struct plt_io *io,
                            const struct plt_seg *segs, size_t n,
                            struct plt_error *err);
    /* As struct plt_driver's extents; always there (a driver that has none
     * reads as all data). */
    enum plt_status (*extents)(struct plt_child *child, struct plt_io *io,
                               uint64_t off, uint64_t len, plt_extent_fn *emit,
                               void *cookie, struct plt_error *err);
    /* The size, even when that means reading on to the end.  May wait. */
    enum plt_status (*resolve_size)(struct plt_child *child, struct plt_io *io,
                                    uint64_t *size, struct plt_error *err);
    /* Read forward from off with as few requests as the layer can manage; for
     * a remote source, one.  *stream is new; close it before .close returns. */
    enum plt_status (*stream_open)(struct plt_child *child, struct plt_io *io,
                                   uint64_t off, struct plt_stream **stream,
                                   struct plt_error *err);

    /* ---- ABI 1.1 ---- */

    /* What the layer says of itself, as struct plt_driver's info: a
     * differential disk compares what its parent is with what it was.  Does not
     * wait. */
    void (*info)(struct plt_child *child, struct plt_info *info);

    /* ---- ABI 1.4 ---- */

    /* As struct plt_driver's lend; always there (a driver that has none lends
     * nothing: PLT_AGAIN). */
    enum plt_status (*lend)(struct plt_child *child, struct plt_io *io,
                            uint64_t off, uint64_t len, plt_lend_fn *emit,
                            void *cookie);
};

/* ---- What the core does for a driver ----------------------------------- */

/* A block of decoded bytes in the process-wide cache, of one budget.  Counted:
 * data stays valid, and after commit unchanged, until released. */
struct plt_block {
    uint8_t *data;
    size_t len;
};

enum plt_claim {
    PLT_CLAIM_HIT,     /* *block is filled: read it, then release it */
    PLT_CLAIM_FILL,    /* *block is yours to fill: then commit or abandon */
    PLT_CLAIM_PENDING, /* somebody fills it: block_wait, then release */
    PLT_CLAIM_FULL     /* no memory in the budget: *block is NULL; do without */
};

/* Bytes of a secret, at most. */
enum { PLT_MAX_SECRET = 4096 };

enum plt_role { PLT_ROLE_BACKING, PLT_ROLE_DATA_FILE, PLT_ROLE_EXTENT };

enum plt_state_flag { PLT_STATE_WRITE = 1 };

/* A stretch of something longer, in order.  False: stop. */
typedef bool plt_put_fn(void *cookie, const void *data, size_t len);

/* A background thread of a driver.  Threads: stop from close() only. */
struct plt_task;
typedef void plt_task_fn(void *cookie, struct plt_io *io);

/* One host per open layer.  Lives until .close returns.  Threads: any. */
struct plt_host {
    uint32_t struct_size;

    /* The decoded-block cache.  Keys are the layer's own: layers never see each
     * other's blocks.  len is the exact length the block has or will have (at
     * most 2 MiB), the same for every claim of one key.  A HIT may be what an
     * earlier run filled: what a key and a block mean follows from the source's
     * bytes and the layer's options alone.
     *
     * Who gets FILL owes commit or abandon, soon, and must not block_wait for
     * another block while it owes one: fill all that you own, then wait.
     * Several may be claimed first and filled together (one vectored read for
     * all misses).  With `only_hit`, a block that is not there comes back FULL,
     * nothing is reserved, and nothing can wait. */
    enum plt_claim (*block_claim)(struct plt_host *host, uint64_t key,
                                  size_t len, bool only_hit,
                                  struct plt_block **block);
    /* Filled: others may read it.  The caller keeps its reference. */
    void (*block_commit)(struct plt_host *host, struct plt_block *block);
    /* Could not be filled: those who wait get *err; nothing stays in the cache.
     * The caller's reference is gone. */
    void (*block_abandon)(struct plt_host *host, struct plt_block *block,
                          const struct plt_error *err);
    /* Wait for a PENDING block until io's deadline.  OK: it is filled, and the
     * reference is the caller's as after HIT.  Otherwise the reference is gone.
     * PLT_CANCELLED or PLT_TIMEOUT of the *filler* comes back as PLT_AGAIN:
     * claim again, it may be your turn now. */
    enum plt_status (*block_wait)(struct plt_host *host,
                                  struct plt_block *block, struct plt_io *io,
                                  struct plt_error *err);
    void (*block_release)(struct plt_host *host, struct plt_block *block);

    /* Reserve memory whose size data chose, before allocating it; PLT_NOMEM
     * when the process has no more to give.  Give back the same sum. */
    enum plt_status (*mem_take)(struct plt_host *host, uint64_t bytes,
                                struct plt_error *err);
    void (*mem_give)(struct plt_host *host, uint64_t bytes);

    /* Run fn(cookie, io) on a thread of its own, with PLT_IO_BACKGROUND set, no
     * deadline, and an io->cancelled() that turns true at task_stop.
     * *task is new.  task_stop cancels, joins and frees; NULL is fine. */
    enum plt_status (*task_start)(struct plt_host *host, plt_task_fn *fn,
                                  void *cookie, struct plt_task **task,
                                  struct plt_error *err);
    void (*task_stop)(struct plt_host *host, struct plt_task *task);

    /* A small file kept between runs for this very source (its address, length
     * and validator) and layer; kind is [a-z0-9-]{1,16}.  Returns a new file
     * descriptor, or -1: there is none, none may be kept, or (writing) another
     * process holds it.  With PLT_STATE_WRITE it is created when missing,
     * readable and writable, and locked.  Its content is untrusted input. */
    int (*state_open)(struct plt_host *host, const char *kind, uint32_t flags);

    /* Ask for the layer an image names.  `name` is untrusted bytes from the
     * image, `format` its driver or NULL to probe.  Policy decides (default:
     * same origin, same folder, no absolute path, no other scheme, no cycle,
     * bounded depth); a refusal is PLT_DENIED.  A DATA_FILE or an EXTENT of
     * format "raw" is the file's bytes as they are.  *child is new and lives as
     * long as this layer. */
    enum plt_status (*open_named)(struct plt_host *host, struct plt_io *io,
                                  enum plt_role role, const char *name,
                                  const char *format, struct plt_child **child,
                                  struct plt_error *err);

    /* For a source: may this URL, met in a redirect, be fetched?  OK, or
     * PLT_DENIED. */
    enum plt_status (*allow_url)(struct plt_host *host, const char *url,
                                 struct plt_error *err);

    /* ---- ABI 1.1 ---- */

    /* The i-th secret (from 0) that the asker named for this image, copied into
     * buf; cap: PLT_MAX_SECRET is always enough.  PLT_NOT_FOUND behind the last
     * one.  In open() only.  Wipe buf after use; say nothing of it anywhere. */
    enum plt_status (*secret)(struct plt_host *host, unsigned i, uint8_t *buf,
                              size_t cap, size_t *len, struct plt_error *err);

    /* Call fn(cookie, i) for every i in [0, n), in any order, on the caller's
     * thread and on others that have nothing to do; returns when all have
     * returned.  For decoding: fn computes and never waits. */
    void (*each)(struct plt_host *host, size_t n,
                 void (*fn)(void *cookie, size_t i), void *cookie);

    /* The one object that all open layers of this driver have in common (a pool
     * of connections): make() is called for the first layer that asks,
     * destroy() when the last that asked is closed.  NULL: there is none.  In
     * open() only; ask once.  The object has locks of its own. */
    void *(*shared)(struct plt_host *host, void *(*make)(void),
                    void (*destroy)(void *object));

    /* ---- ABI 1.3 ---- */

    /* The whole of a file that somebody may have put beside the source: its
     * name is the source's with `suffix` behind.  Only for a layer right over a
     * source; policy as for open_named, but it is no part of what the image is:
     * it is looked at once and neither pinned nor hashed into ids, so that what
     * is served must not depend on what it says.  PLT_NOT_FOUND: there is none,
     * or it is not wanted here; PLT_UNSUPPORTED: more than max bytes.  May
     * wait; from any thread while the layer is open. */
    enum plt_status (*sidecar)(struct plt_host *host, struct plt_io *io,
                               const char *suffix, uint64_t max,
                               plt_put_fn *put, void *cookie,
                               struct plt_error *err);

    /* ---- ABI 1.4 ---- */

    /* For a source: may a connection for this URL be made to this address (4
     * bytes of IPv4 or 16 of IPv6, in the network's order)?  Ask of the one
     * that is connected to.  OK, or PLT_DENIED. */
    enum plt_status (*allow_address)(struct plt_host *host, const char *url,
                                     const uint8_t *address, size_t len,
                                     struct plt_error *err);

    /* ---- ABI 1.5 ---- */

    /* For a source: what the configuration gives to be shown at the origin of
     * this URL, a text with its NUL, copied into buf; cap: PLT_MAX_CREDENTIAL
     * is always enough.  Ask for the URL that is about to be asked for, anew
     * after each redirect: what is one origin's is never another's.
     * PLT_NOT_FOUND: nothing.  Wipe headers after use; say nothing of them
     * anywhere. */
    enum plt_status (*credential)(struct plt_host *host, const char *url,
                                  enum plt_credential kind, char *buf,
                                  size_t cap, struct plt_error *err);
};

/* ---- Describing a layer ------------------------------------------------ */

/* A writer of JSON.  key is NULL inside an array.  Text is any bytes: what is
 * not UTF-8 is escaped by the core.  Nothing is kept after a call. */
struct plt_info {
    uint32_t struct_size;
    void (*text)(struct plt_info *info, const char *key, const char *value);
    void (*number)(struct plt_info *info, const char *key, uint64_t value);
    void (*boolean)(struct plt_info *info, const char *key, bool value);
    void (*object_begin)(struct plt_info *info, const char *key);
    void (*array_begin)(struct plt_info *info, const char *key);
    void (*end)(struct plt_info *info); /* the innermost object or array */
};

/* A file in an archive. */
struct plt_member {
    const char *name; /* as in the archive, bytes */
    uint64_t size;    /* bytes when read, holes included */
    uint64_t stored;  /* bytes of data in the archive */
    uint64_t off;     /* byte offset of its data in the child */
    int64_t mtime;    /* seconds since 1970 */
    char type;        /* tar's: '0' file, '2' symbolic link, '5' folder ... */
    bool is_sparse;
    bool is_candidate; /* could be a disk image: one of these is entered */
};
typedef bool plt_member_fn(void *cookie, const struct plt_member *member);

/* A state of the disk kept inside the image. */
struct plt_snapshot {
    const char *id, *name;  /* as in the image, bytes */
    uint64_t date_s;        /* when it was made: seconds since 1970 ... */
    uint32_t date_ns;       /* ... and nanoseconds */
    uint64_t vm_clock_ns;   /* how long the guest had run */
    uint64_t icount;        /* instructions it had run; UINT64_MAX: not kept */
    uint64_t vm_state_size; /* bytes; 0: of the disk alone */
    uint64_t disk_size;     /* bytes that it has as a disk */
};
typedef bool plt_snapshot_fn(void *cookie, const struct plt_snapshot *snapshot);

/* What a check finds: the counts of `qemu-img check --output=json`.  The
 * caller zeroes it and sets struct_size, finding, progress and cookie. */
enum plt_finding {
    PLT_FINDING_LEAK,       /* space that nothing uses: harmless */
    PLT_FINDING_CORRUPTION, /* what the tables say cannot all be true */
    PLT_FINDING_ERROR       /* could not be checked */
};
struct plt_check {
    uint32_t struct_size;
    /* Called for every finding, in any order; may be NULL.  at: byte offset in
     * the child, or PLT_AT_NONE.  text: borrowed, one line. */
    void (*finding)(void *cookie, enum plt_finding kind, uint64_t at,
                    const char *text);
    void *cookie;
    uint64_t corruptions, leaks, check_errors;
    uint64_t image_end_offset; /* bytes; behind it the file is not used */
    uint64_t total_clusters, allocated_clusters, fragmented_clusters,
        compressed_clusters;

    /* ABI 1.1 ends here. */

    /* How far the check is, in bytes of what the driver goes over: done grows
     * up to all, which stays the same.  Called between reads, by the thread
     * that checks; may be NULL.  plt_check_tell() calls it where it is there.
     */
    void (*progress)(void *cookie, uint64_t done, uint64_t all);
};

static inline void plt_check_tell(const struct plt_check *check, uint64_t done,
                                  uint64_t all)
{
    if (PLT_HAS(check, progress) && check->progress)
        check->progress(check->cookie, done, all);
}

/* What a source says of the bytes it serves. */
enum plt_pin {
    PLT_PIN_NONE, /* nothing but a length: may not be kept, may change unseen */
    PLT_PIN_WEAK, /* Last-Modified and length, or a weak ETag */
    PLT_PIN_STRONG /* a strong ETag; a local file's inode, length and times */
};

struct plt_identity {
    enum plt_pin pin;
    int64_t mtime;       /* seconds since 1970; INT64_MIN: unknown */
    char validator[256]; /* text, different whenever the bytes may differ */
};

/* ---- The driver -------------------------------------------------------- */

/* Given to probe: the first bytes of a layer. */
struct plt_probe {
    uint32_t struct_size;
    uint64_t size;       /* of the layer, or PLT_SIZE_UNKNOWN */
    const uint8_t *head; /* its first bytes */
    size_t head_len;     /* 64 KiB, or fewer where the layer is shorter */
};

enum plt_open_flag {
    /* An archive is opened to list it: choose no member; size is then 0. */
    PLT_OPEN_LIST = 1,
    /* To be described, not read: a key that is missing or wrong is no reason to
     * fail; reads then do, with PLT_DENIED. */
    PLT_OPEN_DESCRIBE = 2,
    /* ABI 1.6: it will be read with PLT_IO_EXACT: bring no more than opening
     * needs. */
    PLT_OPEN_EXACT = 4
};

struct plt_open_args {
    uint32_t struct_size;
    uint32_t flags; /* PLT_OPEN_* */
    struct plt_host *host;
    struct plt_child *child; /* NULL for a source */
    struct plt_io *io;       /* of the request that opens: valid in open only */
    const struct plt_setting *settings; /* checked; valid in open only */
    size_t n_settings;
    /* For a source: where policy says the bytes are. */
    const char *url; /* http(s), or NULL */
    int fd;          /* an open regular file, the driver's to close; or -1 */
    /* Names the bytes of the child: equal ids mean equal bytes.  All zero when
     * the source gives no validator: then nothing may be kept of it. */
    uint8_t child_id[32];

    /* ---- ABI 1.1 ---- */

    /* For an archive: an open image of the same driver over the same child,
     * which stays open longer than this one; what it knows of the members need
     * not be found again.  NULL: there is none. */
    void *beside;
};

enum plt_opened_flag { PLT_OPENED_FORWARD = 1, PLT_OPENED_REMOTE = 2 };

struct plt_opened {
    uint32_t struct_size;
    uint32_t
        flags;     /* PLT_OPENED_*; become the PLT_CHILD_* of the layer above */
    uint64_t size; /* bytes, or PLT_SIZE_UNKNOWN */
};

enum plt_kind {
    PLT_KIND_SOURCE,  /* has no child: file, curl */
    PLT_KIND_WRAPPER, /* one stream out of another: gzip */
    PLT_KIND_ARCHIVE, /* one file of many: tar */
    PLT_KIND_FORMAT   /* a guest disk: qcow2; probing ends above it */
};

enum plt_threads {
    PLT_ONE_AT_A_TIME,   /* the core serialises all calls on one image */
    PLT_CONCURRENT_READS /* read, extents, size, info ... at once */
};

enum plt_cap {
    PLT_CAP_NOWAIT = 1 /* honours PLT_IO_NOWAIT; others are never called so */
};

/* open and close are never concurrent with anything on the same image.  All
 * state hangs off `image`: a file-scope variable in a driver is const or a
 * bug.  Optional slots are NULL. */
struct plt_driver {
    uint32_t struct_size; /* sizeof, as this plugin was compiled */
    uint16_t abi_major, abi_minor;
    const char *name;    /* [a-z0-9]{1,15}, unique among loaded drivers */
    const char *aliases; /* further names in specs, comma separated; or NULL */
    const char *summary; /* one line for `platter plugins` */
    enum plt_kind kind;
    enum plt_threads threads;
    uint32_t caps;                    /* PLT_CAP_*; unknown bits are ignored */
    const struct plt_option *options; /* or NULL: takes none */

    /* How sure is this driver that the layer is its own: 0 no ... 100 certain
     * (a magic number and a checksum).  The highest wins; below 50 does not
     * count.  Pure; optional (a driver without one is opened by name only). */
    int (*probe)(const struct plt_probe *probe);

    /* Open over args->child.  On success *image is new and *out filled; on
     * failure nothing is left and *image is unspecified.  An archive with
     * several candidates and no member named fails with PLT_CHOICE; without
     * any, with PLT_NOT_FOUND.  May wait. */
    enum plt_status (*open)(const struct plt_open_args *args, void **image,
                            struct plt_opened *out, struct plt_error *err);
    void (*close)(void *image);

    /* Fill all segments or fail.  Spans lie inside [0, size) where the size is
     * known; where it is not, a span past the end is PLT_CORRUPT.  After a
     * failure the buffers are unspecified.  May wait, at most until
     * io->deadline_ns; with PLT_IO_NOWAIT may not, and returns PLT_AGAIN
     * rather than fill a part. */
    enum plt_status (*read)(void *image, struct plt_io *io,
                            const struct plt_seg *segs, size_t n,
                            struct plt_error *err);

    /* Optional: see extent.h.  Without it everything is data. */
    enum plt_status (*extents)(void *image, struct plt_io *io, uint64_t off,
                               uint64_t len, plt_extent_fn *emit, void *cookie,
                               struct plt_error *err);

    /* Optional, for a driver that opens with PLT_SIZE_UNKNOWN: find the size,
     * once; it is the same ever after.  May wait. */
    enum plt_status (*resolve_size)(void *image, struct plt_io *io,
                                    uint64_t *size, struct plt_error *err);

    /* Optional: write what this layer is into an open JSON object, in the field
     * names of `qemu-img info --output=json` where it has them.  Does not wait.
     */
    void (*info)(void *image, struct plt_info *info);

    /* Optional, archives: emit every member in archive order.  May wait. */
    enum plt_status (*members)(void *image, struct plt_io *io,
                               plt_member_fn *emit, void *cookie,
                               struct plt_error *err);

    /* Optional: a forward reader; without it the core makes one of reads. */
    enum plt_status (*stream_open)(void *image, struct plt_io *io, uint64_t off,
                                   struct plt_stream **stream,
                                   struct plt_error *err);

    /* Sources: what pins the bytes.  Fixed at open.  Does not wait. */
    void (*identity)(void *image, struct plt_identity *out);

    /* Sources, optional: OK while the source still is what was opened,
     * PLT_CHANGED when not.  May wait. */
    enum plt_status (*revalidate)(void *image, struct plt_io *io,
                                  struct plt_error *err);

    /* ---- ABI 1.1 ---- */

    /* Optional: emit every internal snapshot, in the image's order.  One is
     * opened as a disk by the option "snapshot" (id or name).  May wait. */
    enum plt_status (*snapshots)(void *image, struct plt_io *io,
                                 plt_snapshot_fn *emit, void *cookie,
                                 struct plt_error *err);

    /* Optional: compare all that the image says of itself; changes nothing.
     * Adds to the counts of *check, and says (1.7) how far it is.  OK: it could
     * be checked, whatever was found.  May wait, long. */
    enum plt_status (*check)(void *image, struct plt_io *io,
                             struct plt_check *check, struct plt_error *err);

    /* Optional: extents of a persistent bitmap; PLT_EXTENT_DIRTY or 0.
     * PLT_NOT_FOUND: there is none of that name.  May wait. */
    enum plt_status (*dirty_extents)(void *image, struct plt_io *io,
                                     const char *bitmap, uint64_t off,
                                     uint64_t len, plt_extent_fn *emit,
                                     void *cookie, struct plt_error *err);

    /* ABI 1.1 ends here. */

    /* Optional, a compressed stream: its random-access index as far as it
     * reaches, in this driver's own form, good at any place where the same
     * stream lies.  PLT_NOT_FOUND: it needs none.  May wait. */
    enum plt_status (*index_get)(void *image, struct plt_io *io,
                                 plt_put_fn *put, void *cookie,
                                 struct plt_error *err);

    /* Optional: take what index_get gave elsewhere, or (1.3) an index of
     * another tool that the driver knows by its magic, and keep it as one's
     * own; untrusted input.  PLT_INVALID: damaged, or another stream's.  Never
     * concurrent with anything on the same image.  May wait. */
    enum plt_status (*index_put)(void *image, struct plt_io *io,
                                 const void *data, size_t len,
                                 struct plt_error *err);

    /* ABI 1.2 ends here. */

    /* Optional: the same index in the form of another tool, by name ("gztool",
     * "indexed_gzip").  PLT_UNSUPPORTED: not in that form.  PLT_NOT_FOUND: it
     * needs none.  PLT_BUSY: that form holds only whole indexes, and this one
     * is not yet.  May wait. */
    enum plt_status (*index_get_as)(void *image, struct plt_io *io,
                                    const char *form, plt_put_fn *put,
                                    void *cookie, struct plt_error *err);

    /* ABI 1.3 ends here. */

    /* Optional: lend the bytes [off, off+len) where they are in memory, so that
     * an answer is sent from there and not copied.  OK: all of them have been
     * emitted; PLT_AGAIN: something of them is not in memory, lies in no block,
     * or emit said stop; then what was emitted is worth nothing and the caller
     * reads.  The span lies inside the size, or ends before the driver knows
     * its end.  io has PLT_IO_NOWAIT; called with PLT_CONCURRENT_READS alone.
     */
    enum plt_status (*lend)(void *image, struct plt_io *io, uint64_t off,
                            uint64_t len, plt_lend_fn *emit, void *cookie);

    /* ABI 1.4 ends here. */

    /* Sources over HTTP, optional: another whole document, at an absolute URL
     * that policy allows, by a plain GET (no range, no condition), so that any
     * cache may answer.  It is no part of the image, and says nothing of
     * whether that has changed.  *got bytes of at most cap are in buf.
     * PLT_NOT_FOUND: there is none; PLT_UNSUPPORTED: it is longer than cap;
     * never PLT_CHANGED.  May wait. */
    enum plt_status (*fetch)(void *image, struct plt_io *io, const char *url,
                             uint8_t *buf, size_t cap, size_t *got,
                             struct plt_error *err);

    /* ABI 1.6 ends here.  Append below; never insert, reorder or retype. */
};

#define PLT_EXPORT __attribute__((visibility("default")))

/* At the foot of a driver:
 *     PLT_DRIVER(.name = "raw", .kind = PLT_KIND_FORMAT, .open = raw_open, ...)
 */
#define PLT_DRIVER(...)                                                        \
    PLT_EXPORT extern const struct plt_driver platter_driver;                  \
    PLT_EXPORT const struct plt_driver platter_driver = {                      \
        .struct_size = (uint32_t)sizeof(struct plt_driver),                    \
        .abi_major = PLT_ABI_MAJOR,                                            \
        .abi_minor = PLT_ABI_MINOR,                                            \
        __VA_ARGS__};

#ifdef __cplusplus
}
#endif
#endif
