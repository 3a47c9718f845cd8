/* SPDX-License-Identifier: Apache-2.0 */
/* What to ask an origin for: how much at first, what to read over rather than
 * ask again, how far ahead of a reader who goes forward.  Pure: no request is
 * made here.  Threads: any, on one's own objects. */
#ifndef CURL_PLAN_H
#define CURL_PLAN_H

#include <stddef.h>
#include <stdint.h>

enum {
    /* Without anything measured, and the bounds of what measuring says. */
    CURL_GAP = 64 * 1024,
    CURL_GAP_MIN = 16 * 1024,
    CURL_GAP_MAX = 512 * 1024,
    /* Where formats keep their tables, and what a qcow2 as qemu-img writes it
     * has before its second cluster of data. */
    CURL_FRONT = 384 * 1024,
    CURL_END = 128 * 1024, /* footers, directories: so much of the end */
    CURL_TAIL = 64 * 1024, /* ... with the first request */
    /* Ahead of a forward reader: at least, and from where on to the end. */
    CURL_AHEAD_MIN = 1 << 20,
    CURL_AHEAD_ALL = 64 << 20
};

/* What an answer cost so far.  All zero: nothing is known. */
struct curl_cost {
    uint64_t trip_ns;     /* request to first byte, the least lately */
    uint64_t bytes_per_s; /* of bodies once they come */
};

/* One answer was measured: request to first byte, first to last, its length. */
void curl_cost_learn(struct curl_cost *cost, uint64_t trip_ns, uint64_t body_ns,
                     uint64_t bytes);
/* A gap of so many bytes costs as much as a round trip. */
uint64_t curl_cost_gap(const struct curl_cost *cost);

/* What a first request should bring of a file, by its URL.  A name is a hint of
 * what will be asked for next, and never decides what the file is. */
struct curl_guess {
    size_t head;  /* bytes of the beginning, in whole blocks */
    size_t tail;  /* bytes of the end, asked for at the same time; or 0 */
    size_t front; /* with the first that misses of so many: all of them */
};
struct curl_guess curl_guess(const char *url);

/* How long a request a forward reader at `off` gets who has read `bytes` in a
 * row: bytes, at most size - off. */
uint64_t curl_ahead(uint64_t bytes, uint64_t off, uint64_t size);

#endif
