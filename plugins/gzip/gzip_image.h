/* SPDX-License-Identifier: Apache-2.0 */
/* One open gzip layer: what its files share.
 *
 * Three kinds.  A dictzip has a table of independent chunks (gzip_dict.c); BGZF
 * says where its blocks are in their headers (gzip_bgzf.c).  Any other, a plain
 * stream, is decoded once, forward, by the *front* (gzip_front.c), which
 * leaves behind restart points and the list of zero runs (gzip_points.c, kept
 * in a file by gzip_points_file.c); what lies behind the front is decoded again
 * from the nearest point when it is not in the cache (gzip_span.c).  The front
 * leaves the CRC-32 of each block, too: what is decoded again is given out only
 * when it is what it was.
 *
 *     0 ---- point ---- point ---- ... ---- front --------------- end
 *     |<-- any span, from its point -->|        waits for the front
 *
 * Lock: `lock` guards everything from `points` to `members`; it is never held
 * across a call out. */
#ifndef GZIP_IMAGE_H
#define GZIP_IMAGE_H

#include <pthread.h>

#include <platter/driver.h>

enum {
    GZIP_BLOCK = 64 * 1024,    /* unit of the cache, and of a CRC-32 */
    GZIP_WINDOW = 32768,       /* RFC 1951: the farthest distance */
    ZERO_UNIT = 64 * 1024,     /* zero runs are whole units of this */
    POINT_OUT = 1 << 20,       /* a point each MiB decoded ... */
    POINT_IN = 64 * 1024,      /* ... and 64 KiB compressed ... */
    POINT_IN_MOST = 320 << 10, /* ... or after so much compressed, which is what
                                  a remote reader waits for */
    POINT_FIRST = 256 << 10,   /* ... the first one early: whoever opens the
                                  stream again looks at its beginning */
    POINT_OUT_MAX = 4 << 20,   /* ... but at the latest after 4 MiB decoded */
    MAX_SPAN = 64 << 20,       /* a span beyond it is not decoded at random */
    MAX_BUSY = 32              /* spans being decoded at a time */
};

enum gzip_point_flag {
    GZIP_AT_MEMBER = 1 /* in_bits is at a member's header: no window */
};

struct gzip_point {
    uint64_t out;     /* decoded bytes before it */
    uint64_t in_bits; /* where the deflate block's (member's) bits begin */
    uint32_t flags;
    uint32_t block_crc;  /* CRC-32 of its block's bytes before it */
    uint32_t member_crc; /* CRC-32 of the member up to here */
    uint32_t member_len; /* its bytes up to here, modulo 2^32 */
    uint32_t window_len; /* compressed; 0: needs none */
    uint8_t *window;     /* raw deflate of GZIP_WINDOW bytes, unused ones 0 */
};

struct gzip_zero_run {
    uint64_t off, len; /* decoded bytes */
};

enum gzip_front_state { FRONT_RUNNING, FRONT_DONE, FRONT_FAILED };

struct gzip_image {
    struct plt_host *host;
    struct plt_child *child;
    char name[256]; /* FNAME of the first member */
    uint8_t child_id[32];

    /* dictzip */
    unsigned dict_version; /* 0: a plain stream */
    uint32_t chunk_len;
    uint32_t n_chunks;
    uint64_t *chunk_off; /* n_chunks + 1 of them */
    uint64_t dict_size;

    /* BGZF: gzip_bgzf.h.  Not of one that has only begun so. */
    bool is_bgzf;
    struct gzip_row *rows;
    size_t n_rows, cap_rows;
    struct gzip_lens *lens;
    size_t n_lens, cap_lens;
    bool has_eof_block;

    /* plain stream */
    struct gzip_crowd *crowd; /* of all images; or NULL */
    struct plt_task *front;
    pthread_mutex_t lock;
    pthread_cond_t moved; /* the front moved or ended, or a span was decoded */
    struct gzip_point *points;
    size_t n_points, cap_points;
    struct gzip_zero_run *runs; /* ascending */
    size_t n_runs, cap_runs;
    uint32_t *crcs; /* of each block below `out` */
    size_t n_crcs, cap_crcs;
    uint64_t mem;       /* taken from the budget */
    uint64_t out;       /* decoded and readable: whole blocks, or the size */
    uint64_t next_off;  /* where a sequential reader would go on */
    uint64_t in;        /* compressed bytes that the front has consumed */
    uint64_t requests;  /* streams it has opened */
    uint64_t want;      /* end of the farthest read that waited or came by */
    uint64_t want_from; /* where the last one began */
    uint64_t want_ns;   /* when */
    unsigned n_waiting; /* readers that wait for the front */
    enum gzip_front_state state;
    bool is_stopping;
    bool has_garbage;     /* bytes behind the last member, ignored */
    struct plt_error err; /* FRONT_FAILED */
    uint64_t failed_ns;
    size_t busy[MAX_BUSY]; /* points whose spans are being decoded */
    unsigned n_busy;
    uint64_t members;
    uint64_t members_at;  /* before the last point and its own header */
    int state_fd;         /* the front's own after open; -1: not kept */
    _Atomic bool is_kept; /* the front alone writes it; others ask */
    bool wants_sidecar, has_looked;
    const char *sidecar;       /* the suffix of the one that was found */
    struct gzip_image *theirs; /* it, our own form, not yet taken */
    bool is_theirs_whole;
    struct gzip_claims *claims; /* another tool's index, being proven */
    uint64_t spans_proven;      /* of it */
    bool is_refuted;            /* it was not all true */
};

uint64_t gzip_now_ns(void);
/* Wait on `moved` with the lock held, until until_ns at most. */
void gzip_wait_locked(struct gzip_image *gz, uint64_t until_ns);

/* gzip.c, lock held: [from, end) is being read, and the front goes on ahead of
 * it. */
void gzip_was_asked_locked(struct gzip_image *gz, uint64_t from, uint64_t end);

/* gzip_lend.c: as struct plt_driver's lend. */
enum plt_status gzip_lend(void *image, struct plt_io *io, uint64_t off,
                          uint64_t len, plt_lend_fn *emit, void *cookie);

/* gzip.c: wait until the front has come to the end. */
enum plt_status gzip_await_end(struct gzip_image *gz, struct plt_io *io,
                               struct plt_error *err);

/* gzip_points.c.  Called with the lock held. */
/* Room for one more item, from the budget. */
bool gzip_grow(struct gzip_image *gz, void **array, size_t *cap, size_t n,
               size_t item);
/* Append; window is stolen on success.  False: no memory in the budget. */
bool gzip_points_add(struct gzip_image *gz, const struct gzip_point *point);
/* Index of the last point at or before out; there is always point 0. */
size_t gzip_points_find(const struct gzip_image *gz, uint64_t out);
bool gzip_runs_add(struct gzip_image *gz, uint64_t off, uint64_t len);
/* Of the next block.  False: no memory. */
bool gzip_crcs_add(struct gzip_image *gz, uint32_t crc);
/* After reading an index that is not whole: nothing but points and what lies in
 * whole blocks before the last one. */
void gzip_points_trim(struct gzip_image *gz);
/* How many bytes from off are known zeros (0: none), and where the next zero
 * run after off begins (UINT64_MAX: none). */
uint64_t gzip_runs_at(const struct gzip_image *gz, uint64_t off,
                      uint64_t *next);
void gzip_points_release(struct gzip_image *gz);

/* A window for storing: new, *len bytes; NULL without memory. */
uint8_t *gzip_window_pack(const uint8_t window[GZIP_WINDOW], uint32_t *len);
bool gzip_window_unpack(const struct gzip_point *point,
                        uint8_t window[GZIP_WINDOW]);

/* gzip_points_file.c: the stored form.  fd is the caller's. */
/* All of it where fd stands; false: not all could be written. */
bool gzip_write_all(int fd, const uint8_t *p, size_t n);
/* Read what is usable of the file into gz, cut off what is not, leave fd at the
 * end.  Starts the file anew when it is another source's.  *is_whole: the end
 * of the stream is known, and gz->out is it.  False: the file cannot be used.
 */
bool gzip_file_load(struct gzip_image *gz, int fd, uint64_t child_size,
                    bool *is_whole);
/* The header of a new file; is the file's header this one?  id: 32 bytes that
 * name the compressed stream. */
bool gzip_file_start(int fd, const uint8_t id[32], uint64_t child_size);
bool gzip_file_is_of(int fd, const uint8_t id[32], uint64_t child_size);
/* Append; false: could not be written, keep nothing more. */
bool gzip_file_point(int fd, const struct gzip_point *point);
bool gzip_file_run(int fd, uint64_t off, uint64_t len);
bool gzip_file_crcs(int fd, const uint32_t *crcs, size_t n);
bool gzip_file_row(int fd, const struct gzip_row *row,
                   const struct gzip_lens *lens, size_t n);
bool gzip_file_end(int fd, uint64_t size, uint64_t members, bool has_garbage,
                   bool has_eof_block);
/* Nothing but the header. */
bool gzip_file_restart(int fd, const struct gzip_image *gz);

/* gzip_front.c: the task. */
/* Tell the readers why, and wait until one asks again: an origin may come back.
 * False: it is over. */
bool gzip_front_failed(struct gzip_image *gz, struct plt_io *io,
                       const struct plt_error *err, bool is_over);
/* Nothing that passes. */
bool gzip_is_final(enum plt_status st);
void gzip_front_run(void *image, struct plt_io *io);

/* gzip_span.c: fill buf[0..len) with decoded bytes from off, all of them behind
 * the front: *did of them, one block's or more.  is_forward: the reader goes on
 * behind it. */
enum plt_status gzip_span_read(struct gzip_image *gz, struct plt_io *io,
                               void *buf, uint64_t off, size_t len,
                               bool is_forward, size_t *did,
                               struct plt_error *err);

/* gzip_exchange.c: struct plt_driver's index_get, index_put and index_get_as.
 */
enum plt_status gzip_index_get(void *image, struct plt_io *io, plt_put_fn *put,
                               void *cookie, struct plt_error *err);
enum plt_status gzip_index_put(void *image, struct plt_io *io, const void *data,
                               size_t len, struct plt_error *err);

/* Our own form, into an image of its own (gzip_points_release, free). */
enum plt_status gzip_exchange_load(struct gzip_image *gz, struct plt_io *io,
                                   const void *data, size_t len,
                                   struct gzip_image **out, bool *is_whole,
                                   struct plt_error *err);
/* Write the kept file anew, and go on with it.  Lock held. */
void gzip_exchange_keep(struct gzip_image *gz);
enum plt_status gzip_index_get_as(void *image, struct plt_io *io,
                                  const char *form, plt_put_fn *put,
                                  void *cookie, struct plt_error *err);

/* gzip_dict.c */
struct gzip_header;
/* PLT_OK with dict_version 0: no dictzip. */
enum plt_status gzip_dict_open(struct gzip_image *gz, struct plt_io *io,
                               const struct gzip_header *header,
                               struct plt_error *err);

#endif
