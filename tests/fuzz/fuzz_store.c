/* SPDX-License-Identifier: Apache-2.0 */
/* The store of leaves, opened over segments that were changed: heads, records,
 * frames, footers; a sealed segment and an open one.
 *
 * The first byte of an input says (1) whether checks of record heads and of the
 * footer are made right afterwards, as only somebody could who knows the
 * segment's secret; changes follow (fuzz_changes.h), an odd first byte is for
 * the open segment.  Whatever the files hold: it opens, gives out the bytes of
 * a digest or nothing, takes what it lacks, survives a scrub and a sweep, and
 * has all of it at the next start. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include <stdbool.h>

#include "fuzz_changes.h"
#include "fuzz_scratch.h"
#include "store/store.h"
#include "store/store_record.h"
#include "util/log.h"

enum {
    SEAL = 1,
    FIRST = 40,  /* leaves of the sealed segment, */
    LEAVES = 60, /* ... and of both */
    MOST = 256 << 10,
    TRAILER = 64
};

static uint8_t leaves[LEAVES][STORE_LEAF], digests[LEAVES][STORE_DIGEST];
static uint8_t made[2][MOST];
static size_t made_len[2];
static const char *const names[] = {"00000001.seg", "00000002.seg"};
static int dir;

static const uint8_t (*digests_from(size_t first))[STORE_DIGEST]
{
    return (const uint8_t(*)[STORE_DIGEST])(uintptr_t)&digests[first];
}

static struct store *start(void)
{
    const struct store_config config = {
        .dir = dir, .limit = 64 << 20, .compression = STORE_ZSTD};
    struct store *store;
    struct plt_error err;

    MUST(store_open(&config, &store, &err) == PLT_OK);
    return store;
}

static void put(struct store *store, size_t first, size_t n)
{
    struct plt_error err;

    MUST(store_put(store, n, digests_from(first), leaves[first], NULL, &err) ==
         PLT_OK);
}

static size_t count(struct store *store)
{
    static uint8_t got[LEAVES * STORE_LEAF];
    uint8_t one[STORE_LEAF];
    bool there[LEAVES];
    struct plt_error err;
    size_t n = 0;

    MUST(store_get_batch(store, LEAVES, digests_from(0), got, there, &err) ==
         PLT_OK);
    for (size_t i = 0; i < LEAVES; i++) {
        MUST(!there[i] ||
             memcmp(got + i * STORE_LEAF, leaves[i], STORE_LEAF) == 0);
        const enum plt_status st = store_get(store, digests[i], one, &err);
        MUST(st == (there[i] ? PLT_OK : PLT_NOT_FOUND));
        MUST(st != PLT_OK || memcmp(one, leaves[i], STORE_LEAF) == 0);
        n += there[i];
    }
    return n;
}

static void make_leaves(void)
{
    for (size_t i = 0; i < LEAVES; i++) {
        uint32_t v = (uint32_t)i + 1;
        for (size_t k = 0; k < STORE_LEAF; k++) {
            v = v * 1664525U + 1013904223U;
            leaves[i][k] = (uint8_t)(i % 2 && k % 1024 < 900 ? i : v >> 24);
        }
        (void)SHA256(leaves[i], STORE_LEAF, digests[i]);
    }
}

static size_t read_file(const char *name, uint8_t *out)
{
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0);
    const ssize_t n = read(fd, out, MOST);
    MUST(n > 0 && n < MOST && close(fd) == 0);
    return (size_t)n;
}

/* Both were open ones; a start seals the older. */
static void set_up(void)
{
    if (!scratch_make())
        return;
    const int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(quiet >= 0 && dir >= 0);
    log_set_fd(quiet);
    make_leaves();
    struct store *store = start();
    put(store, 0, 7);
    put(store, 7, FIRST - 7);
    store_close(store);
    const size_t len = read_file(names[0], made[0]);
    MUST(unlinkat(dir, names[0], 0) == 0);
    store = start();
    put(store, FIRST, LEAVES - FIRST);
    store_close(store);
    MUST(renameat(dir, names[0], dir, names[1]) == 0);
    scratch_write(names[0], made[0], len);
    store = start();
    MUST(count(store) == LEAVES);
    store_close(store);
    for (size_t i = 0; i < 2; i++)
        made_len[i] = read_file(names[i], made[i]);
    MUST(made_len[0] > len);
}

/* As store_record.c and store_footer.c make them. */
static void seal(uint8_t *bytes, size_t len)
{
    for (size_t at = 64; at + RECORD_HEAD_MOST < len; at += RECORD_ALIGN) {
        if (memcmp(bytes + at, made[0] + 64, 4) == 0 &&
            bytes[at + 4] <= RECORD_LEAVES)
            store_record_seal(bytes + at, bytes + 8, at);
    }
    if (len < 2 * TRAILER)
        return;
    uint8_t *const t = bytes + len - TRAILER;
    const uint64_t off = plt_le64(t + 24);
    if (off <= len - TRAILER)
        store_check(t, 48, bytes + off, len - TRAILER - (size_t)off, t + 48);
}

static enum plt_status keep(void *cookie, struct store_sweep *sweep,
                            struct plt_error *err)
{
    (void)cookie;
    (void)err;
    store_sweep_keep(sweep, 30, digests_from(20));
    return PLT_OK;
}

static void check(bool is_as_made)
{
    struct store *store = start();
    struct plt_error err;
    uint64_t place = 0;
    uint8_t digest[STORE_DIGEST];

    const size_t n = count(store);
    MUST(!is_as_made || n == LEAVES);
    MUST(store_find(store, digests[5], digest, &err) != PLT_OK ||
         memcmp(digest, digests[5], STORE_PREFIX) == 0);
    MUST(store_scrub(store, &place, UINT64_MAX, NULL, NULL, &err) == PLT_OK);
    MUST(place == 0);
    MUST(count(store) == n);
    put(store, 0, LEAVES);
    MUST(count(store) == LEAVES);
    MUST(store_sync(store, &err) == PLT_OK);
    store_close(store);
    store = start();
    MUST(count(store) == LEAVES);
    MUST(store_sweep(store, keep, NULL, 1, NULL, &err) == PLT_OK);
    MUST(count(store) == 30);
    store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[2][MOST];
    size_t len[2];

    set_up();
    for (size_t i = 0; i < 2; i++) {
        len[i] = made_len[i];
        memcpy(bytes[i], made[i], len[i]);
    }
    for (size_t i = 0; i < CHANGES && 1 + (i + 1) * CHANGE <= size; i++) {
        const uint8_t *const p = data + 1 + i * CHANGE;
        change(bytes[p[0] % 2], made_len[p[0] % 2], &len[p[0] % 2], p);
    }
    for (size_t i = 0; i < 2; i++) {
        if (size && data[0] & SEAL)
            seal(bytes[i], len[i]);
        scratch_write(names[i], bytes[i], len[i]);
    }
    for (char name[] = "00000003.seg"; name[7] <= '9'; name[7]++)
        scratch_write(name, NULL, 0);
    check(size <= CHANGE);
    return 0;
}
