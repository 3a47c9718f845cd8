/* SPDX-License-Identifier: Apache-2.0 */
/* One open HTTP source: what the files of this driver share.
 *
 * A read drives its own transfers: it takes a *lane* (a libcurl multi handle
 * with its kept connections) from the driver's pool, runs all its ranges on it
 * at the same time on the calling thread, and gives it back.  The caller waits
 * anyway; so there is no thread of ours to hand over to and wake up.
 *
 * Locks: `claim_lock` keeps the claims of one read together and in the order of
 * their places in runs; `run_lock` guards the runs; `lock` url and cost.  They
 * are taken in this order.  `forward_lock` serialises the one forward reader of
 * an origin without ranges, and is held while it reads. */
#ifndef CURL_IMAGE_H
#define CURL_IMAGE_H

#include <pthread.h>

#include <curl/curl.h>

#include <stdatomic.h>

#include <platter/driver.h>

#include "curl_fields.h"
#include "curl_plan.h"

enum {
    CURL_BLOCK = 64 * 1024,      /* unit of the cache */
    CURL_HEAD_KEPT = CURL_BLOCK, /* of what is read at open, in the image */
    CURL_PIECE = 4 << 20,        /* longer ranges are split, to be parallel */
    CURL_RUNS = 8,     /* forward readers of an image that are told apart */
    CURL_STREAMS = 24, /* long requests of theirs, of all images together */
    CURL_PARALLEL = 8, /* transfers of one read at a time */
    CURL_LANES = 48,   /* kept, of all images together */
    CURL_TRIES = 4,
    CURL_REDIRECTS = 5,
    CURL_MAX_HEADERS = 64 * 1024,
    CURL_STALL_S = 30, /* less than 1 KiB/s for so long is a stall */
    CURL_CONNECT_MS = 10000
};

/* What the headers of one answer said. */
struct curl_answer {
    long code;
    char etag[200], modified[64], location[2048];
    char boundary[CURL_BOUNDARY + 1]; /* of multipart/byteranges; "" */
    bool has_range, has_length, is_coded;
    uint64_t first, last, total; /* Content-Range; total may be unknown */
    uint64_t length;
    long retry_after; /* seconds; -1: not said */
    size_t header_bytes;
    /* While the connection is made: policy refused the address. */
    struct curl_image *ci;
    bool is_denied;
    struct plt_error denied;
};

/* One who reads forward: curl_run.c. */
struct curl_run {
    uint64_t begin;   /* where it was first seen */
    uint64_t end;     /* where it left off; places are given out up to there */
    uint64_t turn;    /* ... and have been read up to there */
    uint64_t bytes;   /* that it has asked for in a row */
    uint64_t used_ns; /* last */
    unsigned reads;   /* in a row */
    unsigned readers; /* that have a place */
    bool is_used, is_over;
    bool is_stream; /* has a long request, or its first reader makes it */
    /* Of the reader whose turn it is: */
    struct plt_stream *stream;
    uint64_t pos, stream_end;
};

struct curl_image {
    struct plt_host *host;
    char *asked_url; /* as the core named it; borrowed by nobody, ours */
    uint64_t size;
    bool has_ranges;
    char etag[200], modified[64]; /* as at open; "" none */
    int64_t mtime;
    uint8_t *head;
    size_t head_len;
    uint8_t *tail; /* the last tail_len bytes, or NULL; fixed at open */
    size_t tail_len;

    pthread_mutex_t lock;
    char *url; /* where redirects led; new text on each change */
    struct curl_cost cost;
    atomic_bool is_multiplexed; /* the origin speaks HTTP/2 */
    atomic_bool is_single;      /* it answers one range at a time alone */
    struct curl_pool *pool;
    char site[256]; /* scheme, host and port of asked_url */

    size_t front;                   /* bytes; see struct curl_guess */
    atomic_bool has_front, has_end; /* were asked for: see curl_read.c */

    pthread_mutex_t claim_lock;
    pthread_mutex_t run_lock;
    pthread_cond_t run_moved;
    struct curl_run runs[CURL_RUNS];
    uint64_t pieces_ns; /* when several threads were last seen to read pieces */
    uint64_t vain_ns;   /* when one was last early and nobody came before it */
    unsigned vain;      /* how often in a row */

    pthread_mutex_t forward_lock;
    struct plt_stream *forward;
    uint64_t forward_pos;
};

/* ---- curl_answer.c ---- */

void curl_answer_clear(struct curl_answer *answer);
/* libcurl's header callback; cookie is a struct curl_answer. */
size_t curl_answer_header(char *data, size_t size, size_t n, void *cookie);
/* The answer to a request for bytes off .. off+len-1 of ci (len 0: to the end)
 * may be used.  A redirect is PLT_AGAIN. */
enum plt_status curl_answer_check(const struct curl_image *ci,
                                  const struct curl_answer *answer,
                                  uint64_t off, uint64_t len,
                                  struct plt_error *err);
/* The same of a request for several ranges, before its parts are looked at.
 * PLT_UNSUPPORTED: the origin answers one at a time alone. */
enum plt_status curl_answer_check_parts(const struct curl_image *ci,
                                        const struct curl_answer *answer,
                                        struct plt_error *err);
/* The answer to a request for the last `cap` bytes is of the file that ci has
 * been opened as. */
bool curl_end_fits(const struct curl_image *ci,
                   const struct curl_answer *answer, size_t cap);
/* The class of a status that is no success. */
enum plt_status curl_status_error(const struct curl_answer *answer,
                                  bool is_open, struct plt_error *err);
/* The class of a transfer that failed. */
enum plt_status curl_code_error(const struct curl_answer *answer, CURLcode code,
                                const char *text, struct plt_error *err);
bool curl_may_retry(const struct plt_error *err);

/* ---- curl_request.c ---- */

uint64_t curl_now_ns(void);
/* A handle with everything set that all requests share: url, policy, headers.
 * *headers is new (curl_slist_free_all after the handle).  NULL: no memory. */
CURL *curl_make(struct curl_image *ci, const struct plt_io *io,
                struct curl_answer *answer, struct curl_slist **headers,
                bool has_validators);
/* Follow answer's Location, if policy lets us. */
enum plt_status curl_redirect(struct curl_image *ci,
                              const struct curl_answer *answer,
                              struct plt_error *err);
/* Learn from an answer that is complete: bytes of body. */
void curl_measure(struct curl_image *ci, CURL *easy, uint64_t bytes);
/* What is cheaper to read over than to ask again: bytes. */
uint64_t curl_gap(struct curl_image *ci);
/* Sleep before try n (1 is the first retry) unless there is no time. */
bool curl_backoff(struct plt_io *io, unsigned n,
                  const struct curl_answer *answer);

/* ---- curl_pool.c ---- */

/* Idle lanes of all images, with their connections.  Threads: any. */
struct curl_pool;
void *curl_pool_make(void);
void curl_pool_destroy(void *pool);
/* NULL: no memory.  One that was last used for the same site, when there is. */
CURLM *curl_lane_take(struct curl_image *ci);
void curl_lane_give(struct curl_image *ci, CURLM *lane);
/* One long request more; false: there are CURL_STREAMS. */
bool curl_pool_stream_begins(struct curl_pool *pool);
void curl_pool_stream_ended(struct curl_pool *pool);
/* Names that were looked up and TLS sessions, for all handles. */
CURLSH *curl_pool_share(struct curl_pool *pool);

/* ---- curl_fetch.c ---- */

/* Bytes [off, off+len) into buf: wants are sorted by off and do not overlap. */
struct curl_want {
    uint64_t off;
    size_t len;
    uint8_t *buf;
};
enum plt_status curl_fetch(struct curl_image *ci, struct plt_io *io,
                           const struct curl_want *wants, size_t n,
                           struct plt_error *err);

/* ---- curl_exact.c ---- */

/* PLT_IO_EXACT: from the cache or the origin just the bytes that are asked for,
 * several ranges in one request where the origin answers such. */
enum plt_status curl_read_exact(struct curl_image *ci, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct plt_error *err);

/* ---- curl_document.c ---- */

/* As struct plt_driver's fetch. */
enum plt_status curl_document(void *image, struct plt_io *io, const char *url,
                              uint8_t *buf, size_t cap, size_t *got,
                              struct plt_error *err);

/* ---- curl_first.c ---- */

/* Fill in size, validators, has_ranges, head; what more comes goes into the
 * cache.  is_exact: ask for one byte, and fetch nothing along later. */
enum plt_status curl_first(struct curl_image *ci, struct plt_io *io,
                           bool is_exact, struct plt_error *err);

/* ---- curl_run.c ---- */

void curl_run_init(struct curl_image *ci);
void curl_run_release(struct curl_image *ci);
/* One read's place in a run. */
struct curl_place {
    struct curl_run *run; /* NULL: it is none's */
    uint64_t from, to;    /* its turn comes when the run is at `from` */
    uint64_t bytes;       /* that the run's reader has asked for in a row */
    bool is_stream;
};
/* Before a read from off on claims anything: wait some milliseconds for reads
 * before it that are on their way, if it looks as if there were. */
void curl_run_order(struct curl_image *ci, uint64_t off);
/* Take it: does not wait.  To be followed by curl_run_fetch. */
struct curl_place curl_run_enter(struct curl_image *ci,
                                 const struct curl_want *wants, size_t n);
/* As curl_fetch; a reader that goes forward is served from a long request. */
enum plt_status curl_run_fetch(struct curl_image *ci, struct plt_io *io,
                               const struct curl_place *place,
                               const struct curl_want *wants, size_t n,
                               struct plt_error *err);

/* ---- curl.c ---- */

/* Scheme, host and port of a URL; cap bytes, cut when longer. */
void curl_site(const char *url, char *out, size_t cap);
/* The bytes of a segment that lies in what the image itself keeps, or NULL. */
const uint8_t *curl_known(const struct curl_image *ci, const struct plt_seg *s);

/* ---- curl_read.c ---- */

/* Of block `number`: bytes. */
size_t curl_block_len(const struct curl_image *ci, uint64_t number);
/* As struct plt_driver's lend. */
enum plt_status curl_lend(void *image, struct plt_io *io, uint64_t off,
                          uint64_t len, plt_lend_fn *emit, void *cookie);
/* From an origin with ranges, through the cache. */
enum plt_status curl_read_ranges(struct curl_image *ci, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err);

/* ---- curl_stream.c ---- */

/* A stream of [off, end); for a run. */
enum plt_status curl_stream_range(struct curl_image *ci, struct plt_io *io,
                                  uint64_t off, uint64_t end,
                                  struct plt_stream **stream,
                                  struct plt_error *err);

enum plt_status curl_stream_open(void *image, struct plt_io *io, uint64_t off,
                                 struct plt_stream **stream,
                                 struct plt_error *err);

#endif
