/* SPDX-License-Identifier: Apache-2.0 */
/* What both protocols of the client share; rbench.c says what it is for. */
#ifndef RBENCH_H
#define RBENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rbench {
    const char *target; /* http://ADDRESS:PORT/PATH or an NBD URI */
    uint64_t off;       /* one: where */
    uint64_t size;      /* of the disk, bytes; 0: not said */
    uint32_t len;       /* bytes of one read */
    uint32_t chunk;     /* seq: bytes of one read */
    int depth;          /* reads at a time */
    int max_conns;      /* of NBD, used when the server says multi-conn */
    int idle_ms;        /* nothing arrives for so long: a stall */
    double seconds;     /* rand: no new read after it */
    double wait_s;      /* the server may need so long to listen */
    uint64_t seed;

    uint64_t *blocks; /* numbers of 64 KiB blocks that reads are drawn from */
    size_t n_blocks;
    const uint8_t *raw; /* the disk as it has to be, or NULL */
    uint64_t raw_len;
    uint64_t bad; /* pieces that were something else */

    uint64_t *took; /* ns of each read */
    size_t n_took, room;
};

/* Says what is wrong, as JSON too, and ends with 1. */
_Noreturn void rbench_die(const char *what, const char *detail);

uint64_t rbench_now(void); /* ns, monotonic */

/* Where the next random read begins: in one of blocks, or anywhere. */
uint64_t rbench_pick(struct rbench *b);

/* Compares n bytes that were read at off with the disk. */
void rbench_check(struct rbench *b, const uint8_t *p, uint64_t off, size_t n);

void rbench_took(struct rbench *b, uint64_t ns);

/* One line of JSON each: of one read, of the whole disk, of many reads, all
 * begun at start (rbench_now). */
void rbench_report_one(const struct rbench *b, uint64_t start, uint64_t first);
void rbench_report_seq(const struct rbench *b, uint64_t start, int conns);
void rbench_report_rand(struct rbench *b, uint64_t start);

/* The three modes over each protocol. */
void http_one(struct rbench *b);
void http_seq(struct rbench *b);
void http_many(struct rbench *b, bool is_seq);
void nbd_one(struct rbench *b);
void nbd_many(struct rbench *b, bool is_seq);

#endif
