/* SPDX-License-Identifier: Apache-2.0 */
/* A folder and a store in it.  Included by each test once. */
#ifndef TESTS_STORE_RIG_H
#define TESTS_STORE_RIG_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"
#include "store_leaves.h"
#include "util/log.h"

struct rig {
    char path[64];
    struct store_config config;
    struct store *store;
    struct plt_error err;
};

#define OK(call)                                                               \
    do {                                                                       \
        const enum plt_status st_ = (call);                                    \
        cr_assert_eq(st_, PLT_OK, "%s: %s", plt_status_name(st_),              \
                     r->err.text);                                             \
    } while (0)

static void rig_open(struct rig *r)
{
    OK(store_open(&r->config, &r->store, &r->err));
}

static struct rig *rig_new(uint64_t limit, enum store_compression compression)
{
    struct rig *const r = calloc(1, sizeof(*r));

    snprintf(r->path, sizeof(r->path), "%s/platter-store-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    cr_assert(mkdtemp(r->path));
    r->config = (struct store_config){
        .dir = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .limit = limit,
        .compression = compression,
    };
    cr_assert(r->config.dir >= 0);
    rig_open(r);
    return r;
}

static void rig_close(struct rig *r)
{
    store_close(r->store);
    r->store = NULL;
}

static inline void rig_again(struct rig *r)
{
    rig_close(r);
    rig_open(r);
}

static void rig_free(struct rig *r)
{
    char command[128];

    rig_close(r);
    close(r->config.dir);
    snprintf(command, sizeof(command), "rm -r %s", r->path);
    cr_assert(system(command) == 0);
    free(r);
}

/* Leaves [first, first + n), put; how many were new. */
static size_t rig_put(struct rig *r, uint64_t first, size_t n)
{
    static _Thread_local uint8_t data[STORE_BATCH * STORE_LEAF];
    static _Thread_local uint8_t digests[STORE_BATCH][STORE_DIGEST];
    size_t all = 0;

    while (n) {
        const size_t k = n < STORE_BATCH ? n : STORE_BATCH;
        size_t added = 99;
        leaves_make(first, k, data, digests);
        OK(store_put(r->store, k, (const uint8_t(*)[STORE_DIGEST])digests, data,
                     &added, &r->err));
        all += added;
        first += k;
        n -= k;
    }
    return all;
}

/* It is there, and right.  A wrong byte ends the test. */
static bool rig_has(struct rig *r, uint64_t number)
{
    uint8_t want[STORE_LEAF], digest[STORE_DIGEST], got[STORE_LEAF];
    struct plt_error err;

    leaf_make(number, want);
    leaf_digest(want, digest);
    const enum plt_status st = store_get(r->store, digest, got, &err);
    cr_assert(st == PLT_OK || st == PLT_NOT_FOUND, "%s", err.text);
    cr_assert(st != PLT_OK || memcmp(want, got, STORE_LEAF) == 0,
              "leaf %llu is wrong", (unsigned long long)number);
    cr_assert(st != PLT_OK || store_may_have(r->store, digest));
    return st == PLT_OK;
}

/* How many of [first, first + n) are there, asked in batches. */
static size_t rig_count(struct rig *r, uint64_t first, size_t n)
{
    static _Thread_local uint8_t want[STORE_BATCH * STORE_LEAF],
        got[STORE_BATCH * STORE_LEAF];
    static _Thread_local uint8_t digests[STORE_BATCH][STORE_DIGEST];
    bool there[STORE_BATCH];
    size_t count = 0;

    while (n) {
        const size_t k = n < STORE_BATCH ? n : STORE_BATCH;
        leaves_make(first, k, want, digests);
        memset(got, 0x55, sizeof(got));
        OK(store_get_batch(r->store, k, (const uint8_t(*)[STORE_DIGEST])digests,
                           got, there, &r->err));
        for (size_t i = 0; i < k; i++) {
            count += there[i];
            cr_assert(!there[i] ||
                          memcmp(want + i * STORE_LEAF, got + i * STORE_LEAF,
                                 STORE_LEAF) == 0,
                      "leaf %llu is wrong", (unsigned long long)(first + i));
        }
        first += k;
        n -= k;
    }
    return count;
}

static inline struct store_stats rig_stats(struct rig *r)
{
    struct store_stats stats;
    store_stats(r->store, &stats);
    return stats;
}

#endif
