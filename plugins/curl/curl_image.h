/* SPDX-License-Identifier: Apache-2.0 */
/* One open HTTP source: what the files of this driver share.
 *
 * A read drives its own transfers: it takes a *lane* (a libcurl multi handle
 * with its kept connections) from the driver's pool, runs all its ranges on it
 * at the same time on the calling thread, and gives it back.  The caller waits
 * anyway; so there is no thread of ours to hand over to and wake up.
 *
 * Lock: `lock` guards url; `forward_lock` serialises the one
 * forward reader of an origin without ranges, and is held while it reads. */
#ifndef CURL_IMAGE_H
#define CURL_IMAGE_H

#include <pthread.h>

#include <curl/curl.h>

#include <platter/driver.h>

enum {
    /* Read at open, kept: what probing looks at, and the tables of a fresh
     * qcow2 with its first cluster of data. */
    CURL_HEAD = 384 * 1024,
    CURL_HEAD_KEPT = 64 * 1024, /* ... in the image; the rest in the cache */
    CURL_BLOCK = 64 * 1024,     /* unit of the cache for small reads */
    CURL_DIRECT = 256 * 1024,   /* longer segments pass the cache by */
    CURL_GAP = 64 * 1024, /* ranges closer than this are one request: it is
                             cheaper to read over than to ask again */
    CURL_PIECE = 4 << 20, /* longer ranges are split, to be parallel */
    CURL_PARALLEL = 8,    /* transfers of one read at a time */
    CURL_LANES = 48,      /* kept, of all images together */
    CURL_TRIES = 4,
    CURL_REDIRECTS = 5,
    CURL_MAX_HEADERS = 64 * 1024,
    CURL_STALL_S = 30, /* less than 1 KiB/s for so long is a stall */
    CURL_CONNECT_MS = 10000
};

#define CURL_HEAD_RANGE "0-393215" /* CURL_HEAD bytes */
#define CURL_TOTAL_UNKNOWN UINT64_MAX

/* What the headers of one answer said. */
struct curl_answer {
    long code;
    char etag[200], modified[64], location[2048];
    bool has_range, has_length, is_coded;
    uint64_t first, last, total; /* Content-Range; total may be unknown */
    uint64_t length;
    long retry_after; /* seconds; -1: not said */
    size_t header_bytes;
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

    pthread_mutex_t lock;
    char *url; /* where redirects led; new text on each change */
    struct curl_pool *pool;
    char site[256]; /* scheme, host and port of asked_url */

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
/* The class of a status that is no success. */
enum plt_status curl_status_error(const struct curl_answer *answer,
                                  bool is_open, struct plt_error *err);
/* The class of a transfer that failed. */
enum plt_status curl_code_error(CURLcode code, const char *text,
                                struct plt_error *err);
bool curl_may_retry(const struct plt_error *err);

/* ---- curl_fetch.c ---- */

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
/* ---- curl_pool.c ---- */

/* Idle lanes of all images, with their connections.  Threads: any. */
struct curl_pool;
void *curl_pool_make(void);
void curl_pool_destroy(void *pool);
/* NULL: no memory.  One that was last used for the same site, when there is. */
CURLM *curl_lane_take(struct curl_image *ci);
void curl_lane_give(struct curl_image *ci, CURLM *lane);

/* ---- curl_fetch.c, again ---- */

/* Sleep before try n (1 is the first retry) unless there is no time. */
bool curl_backoff(struct plt_io *io, unsigned n,
                  const struct curl_answer *answer);

/* Bytes [off, off+len) into buf: wants are sorted by off and do not overlap. */
struct curl_want {
    uint64_t off;
    size_t len;
    uint8_t *buf;
};
enum plt_status curl_fetch(struct curl_image *ci, struct plt_io *io,
                           const struct curl_want *wants, size_t n,
                           struct plt_error *err);

/* ---- curl_stream.c ---- */

enum plt_status curl_stream_open(void *image, struct plt_io *io, uint64_t off,
                                 struct plt_stream **stream,
                                 struct plt_error *err);

#endif
