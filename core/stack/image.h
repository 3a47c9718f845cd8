/* SPDX-License-Identifier: Apache-2.0 */
/* Open images: stacks of drivers, shared by name, counted, closed when idle.
 *
 * `struct images` is the process's set: plugins, origins, cache, policy.
 * `struct image` is one open stack.  An image is one version of its source for
 * ever: when the source changes, reads fail with PLT_CHANGED, the image is
 * taken out of the set, and the next images_open() opens the new version under
 * another ETag.  Opening is single flight: many askers, one opening.
 *
 * Threads: any, for everything but images_new, images_add_* and images_free. */
#ifndef STACK_IMAGE_H
#define STACK_IMAGE_H

#include <jansson.h>

#include <platter/driver.h>

#include "stack/folder.h"
#include "stack/metrics.h"
#include "stack/reference.h"
#include "util/check.h"

struct images;
struct image;
struct prefetch;

enum { IMAGE_ETAG = 40 }; /* of a text, with its NUL */

struct images_config {
    const char *plugin_path; /* folders, colon separated; NULL: the built-in */
    const char *state_dir;   /* what is kept between runs; NULL: nothing */
    uint64_t cache_bytes;    /* the one budget for decoded data and tables */
    uint64_t disk_cache_bytes; /* in state_dir, for blocks that were dear; 0:
                                  none, else DISK_CACHE_LEAST to _MOST */
    uint64_t readahead_bytes;  /* the most ahead of one stream, up to
                                  READAHEAD_MOST; 0: nothing is read ahead */
    unsigned max_open;      /* stacks kept open, idle ones closed first; 256 */
    unsigned revalidate_ms; /* ask the source at most this often; 0: 5000 */
    bool is_always_revalidated; /* revalidate_ms 0 means at every opening */
    bool no_sidecars;           /* look for no index beside a source */
    bool is_local; /* a command on its user's own authority: specs may
                      name any path and URL.  Never in a server */
};

/* new in *out.  Loads every plugin; one that cannot be loaded is logged. */
PLT_MUST_USE enum plt_status images_new(const struct images_config *config,
                                        struct images **out,
                                        struct plt_error *err);
/* Every image must have been unreferenced. */
void images_free(struct images *images);

/* An origin: NAME=BASE, BASE an http(s) URL prefix or an absolute folder. */
PLT_MUST_USE enum plt_status images_add_origin(struct images *images,
                                               const char *name,
                                               const char *base,
                                               struct plt_error *err);
/* policy_allow_addresses(): blocks of addresses that the origin may be at. */
PLT_MUST_USE enum plt_status images_allow_addresses(struct images *images,
                                                    const char *name,
                                                    const char *blocks,
                                                    struct plt_error *err);
/* policy_set_credential(): what is shown at the origin. */
PLT_MUST_USE enum plt_status images_set_credential(struct images *images,
                                                   const char *name,
                                                   enum plt_credential kind,
                                                   const char *file,
                                                   struct plt_error *err);
/* policy_credential(), for requests of one's own to an origin. */
PLT_MUST_USE enum plt_status images_credential(const struct images *images,
                                               const char *url,
                                               enum plt_credential kind,
                                               char *buf, size_t cap,
                                               struct plt_error *err);
/* A named image of the configuration: reference text "ORIGIN/PATH", selectors
 * as query text ("member=disk.raw") or NULL, labels as a JSON object's text or
 * NULL. */
PLT_MUST_USE enum plt_status
images_add_image(struct images *images, const char *name, const char *source,
                 const char *selectors, const char *labels,
                 struct plt_error *err);
/* Those that were registered in earlier runs; after the configuration's. */
PLT_MUST_USE enum plt_status images_load_registered(struct images *images,
                                                    struct plt_error *err);
/* catalogue.h: by a request; kept in the state folder. */
PLT_MUST_USE enum plt_status images_register(struct images *images,
                                             json_t *entry, bool *is_new,
                                             struct plt_error *err);
/* The same backwards; what is open under the name closes when its readers
 * leave, and is forgotten by the cache then. */
PLT_MUST_USE enum plt_status images_unregister(struct images *images,
                                               const char *name,
                                               struct plt_error *err);
/* A new configuration: origins, secrets and named images of `other` (made for
 * this, without a state folder) in place of the present ones; what is open and
 * means another place now is opened anew by the next asker.  False: no memory
 * for it, and all is as it was. */
bool images_replace_names(struct images *images, struct images *other);

/* A key for encrypted images, out of a file (secrets.h). */
PLT_MUST_USE enum plt_status images_add_secret(struct images *images,
                                               const char *name,
                                               const char *path,
                                               struct plt_error *err);

/* folder.h: the files of a folder of an origin. */
PLT_MUST_USE MAY_WAIT enum plt_status
images_files(struct images *images, const struct folder_query *query,
             struct folder_list *out, struct plt_error *err);
/* [{"name", "kind": "http"|"local"}]: no address is disclosed.  new. */
json_t *images_origins_json(struct images *images);
/* [{"name", "kind", "summary", "file", "abi"}] of loaded plugins.  new. */
json_t *images_plugins_json(struct images *images);
/* image_list.c: images as a list for people and tools, registered ones and
 * those that are open besides.  Rows: "name", "state" ("idle", "opening",
 * "open"), of registered ones "source", selectors, "labels", "registered",
 * "created"; of open ones "virtual-size", "format", "stack" (drivers, guest
 * side first), "source-size", "etag", "readers", "cached-bytes", and each
 * selector that the client gave under its own name. */
enum images_order { /* each with names as the second key, and ascending */
                    IMAGES_BY_NAME,
                    IMAGES_BY_SIZE, /* as the next two: rows without one come
                                       last */
                    IMAGES_BY_CACHED,
                    IMAGES_BY_READERS,
                    IMAGES_BY_STATE /* idle, opening, open */
};
enum { IMAGES_SEARCH = 256 };
struct images_query {
    const char *name;   /* the registered image of this name alone; or NULL */
    const char *search; /* rows with this text in name, source, format or stack
                           ("qcow2,tar,gzip,file"), whatever the case of ASCII
                           letters; at most IMAGES_SEARCH bytes; NULL: all */
    enum images_order order;
    bool is_descending; /* but for the second key */
    size_t first, most; /* rows of the answer */
};
/* new; NULL without memory.  *total: rows that match in all. */
json_t *images_json(struct images *images, const struct images_query *query,
                    size_t *total);
/* Its stack is there: what is asked of it below may be asked. */
bool image_is_open(struct image *image);
/* Call fn for every image of the table, referenced meanwhile. */
void images_visit(struct images *images,
                  void (*fn)(void *cookie, struct image *image), void *cookie);
struct cache *images_cache(struct images *images);
struct disk_cache *images_disk_cache(struct images *images); /* or NULL */
struct prefetch *images_prefetch(struct images *images);     /* prefetch.h */
const struct stack_metrics *images_metrics(struct images *images);

/* Open, or take a reference to what is open.  *out is new (image_unref).
 * On PLT_CHOICE, *choices (when not NULL) is a new array of members to choose
 * from: [{"name","size"}].  Waits at most until io's deadline; the
 * opening itself goes on for the others who wait for it. */
PLT_MUST_USE MAY_WAIT enum plt_status
images_open(struct images *images, const struct reference *reference,
            struct plt_io *io, struct image **out, json_t **choices,
            struct plt_error *err);

/* The same without waiting: PLT_AGAIN (err is not filled) when it is not open,
 * or is due to be compared with its source. */
PLT_MUST_USE enum plt_status images_peek(struct images *images,
                                         const struct reference *reference,
                                         struct image **out);

/* The same, however long ago it was compared with its source: for who reads no
 * byte of it. */
PLT_MUST_USE enum plt_status images_look(struct images *images,
                                         const struct reference *reference,
                                         struct image **out);

/* As images_open, for someone who reads what the image says of itself and not
 * its disk: an encrypted one opens without its key, and reads of it then fail
 * with PLT_DENIED. */
PLT_MUST_USE MAY_WAIT enum plt_status
images_open_described(struct images *images, const struct reference *reference,
                      struct plt_io *io, struct image **out, json_t **choices,
                      struct plt_error *err);

enum image_how {
    IMAGE_LIST = 1,     /* the archive, for image_members(): choose nothing */
    IMAGE_DESCRIBE = 2, /* as images_open_described */
    IMAGE_VM_STATE = 4, /* the VM state of the snapshot that is selected */
    IMAGE_EXACT = 8     /* opening fetches no more than it needs, for reads with
                           PLT_IO_EXACT */
};

/* For commands (is_local): a stack spec, a path or a URL.  Selectors of
 * `selectors` (its target is not used) as far as set.  how: IMAGE_*. */
PLT_MUST_USE MAY_WAIT enum plt_status
images_open_spec(struct images *images, const char *spec,
                 const struct reference *selectors, unsigned how,
                 struct plt_io *io, struct image **out, json_t **choices,
                 struct plt_error *err);

/* The bytes at an absolute http(s) URL, as they are, for the gateway's own
 * requests to another one.  No reference names such an image, and no list has
 * it.  The URL must lie beneath a configured origin (PLT_DENIED), and its text
 * is sent as it is.  Opening costs one request for one byte; read with
 * PLT_IO_EXACT.  Shared, compared with its source and closed as images_open()'s
 * are. */
PLT_MUST_USE MAY_WAIT enum plt_status
images_open_url(struct images *images, const char *url, struct plt_io *io,
                struct image **out, struct plt_error *err);

/* Files of an archive, opened for listing:
 * [{"name","size","stored","offset","type","mtime","sparse","candidate"}], the
 * type in words ("file", "directory", "symlink", "hardlink" ...), the time RFC
 * 3339.  new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
images_members(struct images *images, const struct reference *reference,
               struct plt_io *io, json_t **out, struct plt_error *err);
PLT_MUST_USE MAY_WAIT enum plt_status image_members(struct image *image,
                                                    struct plt_io *io,
                                                    json_t **out,
                                                    struct plt_error *err);

void image_ref(struct image *image);
void image_unref(struct image *image);

/* Bytes, or PLT_SIZE_UNKNOWN while nobody knows. */
uint64_t image_size(const struct image *image);
/* The size, waited for. */
PLT_MUST_USE MAY_WAIT enum plt_status image_resolve_size(struct image *image,
                                                         struct plt_io *io,
                                                         uint64_t *size,
                                                         struct plt_error *err);
/* A strong validator with its quotes, borrowed; derived from what pins the
 * source and from the stack. */
const char *image_etag(const struct image *image);
/* The ETag that the depth-th image below it (1: its backing file) would have as
 * an image of its own: what image_extents tells to lie at that depth or deeper,
 * at the same offset, are its bytes.  False: there is none, the image is a
 * partition, or nothing tells versions of that one apart. */
bool image_backing_etag(const struct image *image, unsigned depth,
                        char out[IMAGE_ETAG]);
/* Of the disk: seconds since 1970; INT64_MIN: unknown, or of several sources.
 */
int64_t image_mtime(const struct image *image);
/* As the client named it; borrowed. */
const char *image_name(const struct image *image);

/* Where the source of an open image lies: its http(s) URL, borrowed; NULL: a
 * local file. */
const char *image_source_url(const struct image *image);
/* Another whole document that lies with the image's own source, which must be
 * over HTTP: struct plt_driver's fetch, of the layer at the bottom. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_fetch(struct image *image, struct plt_io *io, const char *url,
            uint8_t *buf, size_t cap, size_t *got, struct plt_error *err);

/* Fill all segments or fail; spans must lie inside the size (PLT_BUG if not).
 * With PLT_IO_NOWAIT never waits: PLT_AGAIN.  After a failure the buffers are
 * unspecified and must not be sent. */
PLT_MUST_USE enum plt_status image_read(struct image *image, struct plt_io *io,
                                        const struct plt_seg *segs, size_t n,
                                        struct plt_error *err);
/* A client asked for [off, off+len) of the disk, and had it from memory at once
 * or not (image_follow.c).  client: a number that all its connections share.
 * Reads ahead of who reads in order.  Does not wait. */
void image_seen(struct image *image, uint64_t client, uint64_t off,
                uint64_t len, bool is_hit);
/* A client asks for [off, off+len) of the disk, which lies inside it: kept for
 * a while for image_live_json.  Does not wait. */
void image_asked(struct image *image, uint64_t off, uint64_t len);
/* Checked, merged and clipped extents of [off, off+len). */
PLT_MUST_USE MAY_WAIT enum plt_status
image_extents(struct image *image, struct plt_io *io, uint64_t off,
              uint64_t len, plt_extent_fn *emit, void *cookie,
              struct plt_error *err);

/* The same of a persistent bitmap: PLT_EXTENT_DIRTY or 0.  PLT_NOT_FOUND: there
 * is none of that name. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_dirty_extents(struct image *image, struct plt_io *io, const char *bitmap,
                    uint64_t off, uint64_t len, plt_extent_fn *emit,
                    void *cookie, struct plt_error *err);

/* Extents of [start, start+length) as JSON, clipped to the disk:
 *     {"start", "length", "virtual-size", "context", "extents": [...],
 *      "next": where to go on, when there were more than `most`}
 * context NULL or "zero": rows of `qemu-img map --output=json` (start, length,
 * depth, present, zero, data, compressed, offset); "dirty:NAME": start, length,
 * dirty.  new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_extents_json(struct image *image, struct plt_io *io, uint64_t start,
                   uint64_t length, const char *context, size_t most,
                   json_t **out, struct plt_error *err);

/* The same in sums, for a picture (image_sums.c):
 *     {"start", "length", "virtual-size", "buckets", "extents": how many rows
 *      the list would have, "data": [bytes ...], "compressed", "zero", "hole"}
 * Bucket i of `buckets` (1 to IMAGE_BUCKETS) is [start + floor(i*length/N),
 * start + floor((i+1)*length/N)), and its four sums are its length.  However
 * many extents there are, the memory is that of the buckets.  new in *out. */
enum { IMAGE_BUCKETS = 8192 };
PLT_MUST_USE MAY_WAIT enum plt_status
image_sums_json(struct image *image, struct plt_io *io, uint64_t start,
                uint64_t length, unsigned buckets, json_t **out,
                struct plt_error *err);

/* What of it is in memory at this moment, and what clients ask for, for a
 * picture that is drawn again each second:
 *     {"start", "length", "virtual-size", "buckets", "cached": [bytes ...],
 *      "reads": [{"start", "length", "age-ms"} ...]}
 * "cached": bytes that a read would get out of the memory cache, decoded
 * already; zeros are nobody's bytes, and what a local source serves is the
 * kernel's.  It is sampled, at IMAGE_SAMPLES places at most or one for each
 * bucket, each standing for an equal part of its bucket.  "reads": of the last
 * 10 seconds, newest first, at most 256; requests that touch and come within
 * half a second are one.  Nothing of the image, of the cache and of the
 * counters changes by it, and no source is asked; it waits for the size alone.
 * new in *out. */
enum { IMAGE_SAMPLES = 4096 };
PLT_MUST_USE MAY_WAIT enum plt_status
image_live_json(struct image *image, struct plt_io *io, uint64_t start,
                uint64_t length, unsigned buckets, json_t **out,
                struct plt_error *err);

/* [{"id","name","date","vm-clock","vm-state-size","disk-size"...}] in the names
 * of qemu-img info's "snapshots"; empty for a format that has none.  new in
 * *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_snapshots_json(struct image *image, struct plt_io *io, json_t **out,
                     struct plt_error *err);

/* How far something long is, in bytes: done never shrinks. */
typedef void image_progress_fn(void *cookie, uint64_t done, uint64_t all);

/* `qemu-img check --output=json`, and "findings": at most `most` of them, each
 * {"kind": "leak"|"corruption"|"error", "offset", "text"}.  new in *out.
 * progress: of the drivers that say how far they are, in bytes of what each
 * goes over (tables, the disk that they map); between reads, on the caller's
 * thread; or NULL.  all grows when one more layer is checked. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_check_json(struct image *image, struct plt_io *io, size_t most,
                 image_progress_fn *progress, void *cookie, json_t **out,
                 struct plt_error *err);
/* A layer has something to check: image_check_json is worth a try. */
bool image_has_check(struct image *image);

/* The stack as opened, in the field names of `qemu-img info --output=json` with
 * "layers" besides, guest side first.  new; NULL without memory.  Does not
 * wait: an unknown size is left out. */
json_t *image_info(struct image *image);

/* MBR and GPT: {"label", "id", "sector-size", "problems", "partitions":
 * [{"number", "start", "length", "type", "type-name", "name", "uuid",
 * "filesystem": {"type","label","uuid"}}]} (platter-partition(7)).  new in
 * *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_partitions_json(struct image *image, struct plt_io *io, json_t **out,
                      struct plt_error *err);

/* ---- The random-access index of a compressed source (image_index.c) ---- */

/* The compressed layer nearest to the guest that has an index: {"driver",
 * "state": "decoding"|"complete"|"failed", "decoded", "points", "source-size",
 * ...} as its driver describes it.  PLT_NOT_FOUND: there is none.  Does not
 * wait.  new in *out. */
PLT_MUST_USE enum plt_status image_index_json(struct image *image, json_t **out,
                                              struct plt_error *err);
/* Its bytes, for another gateway (form NULL) or another tool, by its name: new
 * (free) in *data. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_index_get(struct image *image, struct plt_io *io, const char *form,
                uint8_t **data, size_t *len, struct plt_error *err);
/* Take such bytes.  Nobody else may use the image meanwhile. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_index_put(struct image *image, struct plt_io *io, const uint8_t *data,
                size_t len, struct plt_error *err);
/* Build it to the end; *out is the decoded size.  As far as io's deadline
 * allows: PLT_TIMEOUT, and what was built is kept. */
PLT_MUST_USE MAY_WAIT enum plt_status image_index_build(struct image *image,
                                                        struct plt_io *io,
                                                        uint64_t *out,
                                                        struct plt_error *err);

/* ---- Boot traces and prefetching (image_trace.c) ---- */

enum { IMAGE_PREFETCH_RANGES = 1024 };

/* The disk's size must be known (image_resolve_size).  A trace is that of the
 * image's ETag, whatever name it is asked for by. */

/* Begin to record what clients read, for so many seconds (1 to 3600); the trace
 * that was kept stays until then. */
PLT_MUST_USE enum plt_status image_trace_record(struct image *image,
                                                unsigned seconds,
                                                struct plt_error *err);
/* What is being recorded, else what is kept: {"version", "state",
 * "virtual-size", "bytes", "truncated", "reads": [[offset, length, ms], ...],
 * "etag", "created"}.  PLT_NOT_FOUND: nothing.  new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_trace_json(struct image *image, json_t **out, struct plt_error *err);
/* Keep this one, which may come from anywhere; a recording ends.  PLT_INVALID:
 * damaged, or of a disk of another size. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_trace_load(struct image *image, json_t *value, struct plt_error *err);
/* Forget it, and what is being recorded. */
PLT_MUST_USE MAY_WAIT enum plt_status image_trace_drop(struct image *image,
                                                       struct plt_error *err);

/* Read in the background: what the kept trace says, the whole disk, or ranges
 * [[offset, length], ...], 1 to IMAGE_PREFETCH_RANGES.  One that runs for this
 * image ends.  PLT_BUSY: too many wait. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_prefetch_trace(struct image *image, struct plt_error *err);
PLT_MUST_USE enum plt_status image_prefetch_disk(struct image *image,
                                                 struct plt_error *err);
PLT_MUST_USE enum plt_status
image_prefetch_ranges(struct image *image, json_t *rows, struct plt_error *err);
/* The last of them as prefetch_json; PLT_NOT_FOUND: none.  new in *out. */
PLT_MUST_USE enum plt_status
image_prefetch_json(struct image *image, json_t **out, struct plt_error *err);
PLT_MUST_USE enum plt_status image_prefetch_cancel(struct image *image,
                                                   struct plt_error *err);

/* ---- In order, read in parallel (image_pump.c) ---- */

/* A piece of the disk.  data NULL: all of it is zeros, and was not read. */
struct image_piece {
    uint64_t off;
    size_t len;
    const uint8_t *data;
    bool is_skipped;    /* not wanted: neither data nor zeros */
    uint8_t digest[64]; /* what `prepare` left */
};

struct image_pump {
    uint64_t off, len; /* inside the disk */
    size_t piece;      /* bytes, 4 KiB to 16 MiB; pieces are cut at multiples */
    unsigned threads;  /* that read; 0: 4 */
    uint64_t wait_ms;  /* each read's own deadline; 0: the asker's for all */
    /* On a reading thread, any order: is this piece wanted?  One that is not is
     * not read and not prepared.  NULL: all are. */
    bool (*wants)(void *cookie, uint64_t off, size_t len);
    /* On a reading thread, any order; may be NULL. */
    void (*prepare)(void *cookie, struct image_piece *piece);
    /* On the caller's thread, in order; its failure ends it all. */
    enum plt_status (*take)(void *cookie, const struct image_piece *piece,
                            struct plt_error *err);
    void *cookie;
};

/* Read a stretch of the disk with several threads and hand it on in order.
 * Holes and zero clusters are not read.  At most 2 * threads pieces are held,
 * out of the one memory budget.  Ends when io is cancelled. */
PLT_MUST_USE MAY_WAIT enum plt_status image_pump(struct image *image,
                                                 struct plt_io *io,
                                                 const struct image_pump *pump,
                                                 struct plt_error *err);

/* ---- Checksums (image_checksum.c) ---- */

enum {
    IMAGE_CHECKSUM_TEXT = 129, /* hexadecimal, with its NUL */
    IMAGE_CHECKSUMS = 8,
    IMAGE_CHECKSUM_WAITERS = 32, /* they hold threads */
    IMAGE_BLOCK_MIN = 1 << 20,
    IMAGE_BLOCK_MAX = 16 << 20
};

/* The digest of the guest disk in hexadecimal.  algorithm: "sha256", "sha512".
 * block 0: of the disk's bytes.  Else the block hash of ovirt-imageio: the
 * digest of the digests of blocks of this size (IMAGE_BLOCK_MIN to _MAX, a
 * multiple of 4096, the last one shorter).  Known ones are kept by ETag; who
 * asks for one that is being made waits for it, without progress.  Of all
 * images at most IMAGE_CHECKSUMS are made at a time and IMAGE_CHECKSUM_WAITERS
 * wait, beyond it PLT_BUSY.
 * progress: on the caller's thread; or NULL.  wait_ms: of each read. */
PLT_MUST_USE MAY_WAIT enum plt_status
image_checksum(struct image *image, struct plt_io *io, const char *algorithm,
               uint64_t block, uint64_t wait_ms, image_progress_fn *progress,
               void *cookie, char out[IMAGE_CHECKSUM_TEXT],
               struct plt_error *err);
/* Could it: PLT_INVALID and what is wrong with the arguments. */
PLT_MUST_USE enum plt_status image_checksum_can(const char *algorithm,
                                                uint64_t block,
                                                struct plt_error *err);
/* Only when it is known.  Does not wait. */
bool image_known_checksum(struct image *image, const char *algorithm,
                          uint64_t block, char out[IMAGE_CHECKSUM_TEXT]);

/* A request waits on it, for image_readers(). */
void image_enter(struct image *image);
void image_leave(struct image *image);
/* How often an image was not opened since max_open were, all in use. */
uint64_t images_refused(struct images *images);

#endif
