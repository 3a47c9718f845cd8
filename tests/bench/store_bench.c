/* SPDX-License-Identifier: Apache-2.0 */
/* What the store of leaves costs: MB/s in and out, and memory and time to open
 * at many leaves.
 *
 *     store_bench FOLDER [MIB [LEAVES]]
 *
 *   FOLDER  empty; what is made there stays
 *   MIB     of random leaves that are put, synced, and got in order and
 * anywhere (1024); once plain, once as zstd LEAVES  of names alone, for the
 * index (10000000): their bytes are zeros, so that segments are small and the
 * names the most of them */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"
#include "util/clock.h"

static struct store *store;
static uint8_t data[STORE_BATCH * STORE_LEAF];
static uint8_t digests[STORE_BATCH][STORE_DIGEST];
static bool there[STORE_BATCH];
static struct plt_error err;

static void must(enum plt_status st)
{
    if (st == PLT_OK)
        return;
    fprintf(stderr, "store_bench: %s\n", err.text);
    exit(1);
}

static void open_store(int dir, enum store_compression compression)
{
    const struct store_config config = {.dir = dir, .compression = compression};
    must(store_open(&config, &store, &err));
}

static double since(uint64_t *start)
{
    const uint64_t now = clock_now();
    const double s = (double)(now - *start) / 1e9;
    *start = now;
    return s;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static long resident_kib(void)
{
    long kib = 0;
    char line[128];
    FILE *const f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof(line), f))
        (void)sscanf(line, "VmRSS: %ld", &kib);
    if (f)
        (void)fclose(f);
    return kib;
}

/* Half random, half text: about two to one. */
static void make_batch(uint64_t number)
{
    uint64_t state = number + 1;

    for (size_t i = 0; i < STORE_BATCH; i++) {
        uint8_t *const leaf = data + i * STORE_LEAF;
        for (size_t at = 0; at < STORE_LEAF / 2; at += 8) {
            const uint64_t v = next_random(&state);
            memcpy(leaf + at, &v, 8);
        }
        memset(leaf + STORE_LEAF / 2, (int)(number & 255), STORE_LEAF / 2);
        SHA256(leaf, STORE_LEAF, digests[i]);
    }
}

static const uint8_t (*names(void))[STORE_DIGEST]
{
    return (const uint8_t(*)[STORE_DIGEST])digests;
}

static void speed(int dir, const char *what, enum store_compression compression,
                  uint64_t mib, uint8_t (*all)[STORE_DIGEST])
{
    double making = 0, putting = 0;
    uint64_t start = clock_now(), state = 5;

    open_store(dir, compression);
    for (uint64_t i = 0; i < mib; i++) {
        make_batch(i + (compression == STORE_ZSTD ? mib : 0));
        memcpy(all[i * STORE_BATCH], digests, sizeof(digests));
        making += since(&start);
        must(store_put(store, STORE_BATCH, names(), data, NULL, &err));
        putting += since(&start);
    }
    must(store_sync(store, &err));
    putting += since(&start);
    printf("%s: put and synced %.0f MB/s (making them took %.1f s)\n", what,
           (double)mib * 1.048576 / putting, making);
    (void)since(&start);
    for (uint64_t i = 0; i < mib; i++)
        must(store_get_batch(
            store, STORE_BATCH,
            (const uint8_t(*)[STORE_DIGEST])all[i * STORE_BATCH], data, there,
            &err));
    printf("%s: got in order %.0f MB/s\n", what,
           (double)mib * 1.048576 / since(&start));
    const uint64_t n = mib * 16;
    for (uint64_t i = 0; i < n; i++)
        must(store_get(store, all[next_random(&state) % (mib * STORE_BATCH)],
                       data, &err));
    printf("%s: got anywhere %.0f leaves/s\n", what, (double)n / since(&start));
    store_close(store);
}

static void index_of(int dir, uint64_t leaves)
{
    struct store_stats stats;
    uint64_t start = clock_now(), state = 9;
    const long before = resident_kib();

    memset(data, 0, sizeof(data));
    open_store(dir, STORE_ZSTD);
    for (uint64_t i = 0; i < leaves; i += STORE_BATCH) {
        for (size_t k = 0; k < sizeof(digests); k += 8) {
            const uint64_t v = next_random(&state);
            memcpy((uint8_t *)digests + k, &v, 8);
        }
        must(store_put(store, STORE_BATCH, names(), data, NULL, &err));
    }
    store_stats(store, &stats);
    printf(
        "%llu leaves: put in %.1f s; hints %.1f MiB; %ld MiB more resident\n",
        (unsigned long long)stats.leaves, since(&start),
        (double)stats.memory_bytes / 1048576, (resident_kib() - before) / 1024);
    store_close(store);
    (void)since(&start);
    open_store(dir, STORE_ZSTD);
    store_stats(store, &stats);
    printf("%llu leaves: opened in %.2f s; hints %.1f MiB; %ld MiB resident; "
           "%llu segments of %.0f MiB in all\n",
           (unsigned long long)stats.leaves, since(&start),
           (double)stats.memory_bytes / 1048576, resident_kib() / 1024,
           (unsigned long long)stats.segments,
           (double)stats.disk_bytes / 1048576);
    unsigned n_false = 0;
    for (int i = 0; i < 1000000; i++) {
        const uint64_t v = next_random(&state) * 3;
        memcpy(digests[0], &v, 8);
        n_false += store_may_have(store, digests[0]);
    }
    printf("a million look-ups of what is not there: %.2f s, %u false hints\n",
           since(&start), n_false);
    store_close(store);
}

int main(int argc, char **argv)
{
    const uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 1024;
    const uint64_t leaves =
        argc > 3 ? strtoull(argv[3], NULL, 10) : UINT64_C(10000000);
    const int dir = argc > 1 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;

    if (dir < 0 || mkdirat(dir, "a", 0700) != 0 ||
        mkdirat(dir, "b", 0700) != 0) {
        (void)fprintf(stderr, "usage: store_bench FOLDER [MIB [LEAVES]]\n");
        return 2;
    }
    const int a = openat(dir, "a", O_RDONLY | O_DIRECTORY);
    const int b = openat(dir, "b", O_RDONLY | O_DIRECTORY);
    uint8_t(*const all)[STORE_DIGEST] =
        malloc((size_t)mib * STORE_BATCH * STORE_DIGEST + 1);
    if (!all)
        return 1;
    if (mib) {
        speed(a, "plain", STORE_PLAIN, mib, all);
        speed(a, "zstd", STORE_ZSTD, mib, all);
    }
    index_of(b, leaves);
    free(all);
    return 0;
}
