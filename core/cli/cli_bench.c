/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a disk reads: a pattern, some threads, and the times of all reads.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/auto.h"
#include "util/clock.h"

enum { MAX_THREADS = 64, DEFAULT_COUNT = 10000, MAX_COUNT = 10000000 };
enum pattern { SEQUENTIAL, RANDOM, STRIDED };

struct bench {
    struct image *image;
    enum pattern pattern;
    uint64_t size, n_places; /* of one read; reads that fit */
    uint64_t count, until_ns;
    uint32_t *us; /* of each read; count of them */
    _Atomic uint64_t next, n_done;
    atomic_bool has_failed;
    struct plt_error err;
};

/* A permutation-like walk over all places that any thread count shares. */
static uint64_t place(const struct bench *b, uint64_t i)
{
    uint64_t h = i + UINT64_C(0x9e3779b97f4a7c15);

    switch (b->pattern) {
    case SEQUENTIAL:
        return i % b->n_places;
    case STRIDED:
        return i * 17 % b->n_places;
    case RANDOM:
    default:
        h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
        return (h ^ h >> 31) % b->n_places;
    }
}

static void *run_reads(void *arg)
{
    struct bench *const b = (struct bench *)arg;
    struct plt_io io = cli_io();
    AUTO_FREE uint8_t *buf = malloc(b->size);

    while (buf && !atomic_load(&b->has_failed)) {
        struct plt_error err = {.at = PLT_AT_NONE};
        const uint64_t i = atomic_fetch_add(&b->next, 1);
        const uint64_t start = clock_now();
        if (i >= b->count || start >= b->until_ns || cli_is_stopped())
            break;
        const struct plt_seg seg = {place(b, i) * b->size, (size_t)b->size,
                                    buf};
        if (image_read(b->image, &io, &seg, 1, &err) != PLT_OK) {
            if (!atomic_exchange(&b->has_failed, true))
                b->err = err;
            break;
        }
        const uint64_t us = (clock_now() - start) / 1000;
        b->us[atomic_fetch_add(&b->n_done, 1)] =
            us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    }
    return NULL;
}

static int by_time(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int report(const struct command_run *run, struct bench *b, double s)
{
    static const double shares[] = {0, 0.5, 0.9, 0.99, 0.999, 1};
    static const char *const names[] = {"min", "p50",  "p90",
                                        "p99", "p999", "max"};
    const uint64_t n = atomic_load(&b->n_done);
    json_t *const doc = json_pack(
        "{s:I, s:I, s:f, s:f, s:f}", "reads", (json_int_t)n, "read-size",
        (json_int_t)b->size, "seconds", s, "reads-per-second", (double)n / s,
        "bytes-per-second", (double)(n * b->size) / s);
    json_t *const times = json_object();
    char rate[32];

    if (n)
        qsort(b->us, n, sizeof(*b->us), by_time);
    for (size_t i = 0; i < 6 && n; i++) {
        const uint64_t at = (uint64_t)((double)(n - 1) * shares[i] + 0.5);
        (void)json_object_set_new(times, names[i],
                                  json_real((double)b->us[at] / 1e6));
    }
    (void)json_object_set(doc, "latency-seconds", times);
    if (run->o->is_json) {
        json_decref(times);
        return cli_print_json(doc);
    }
    cli_size_text((uint64_t)((double)(n * b->size) / s), rate);
    (void)printf("%" PRIu64 " reads of %" PRIu64 " bytes in %.2f s: %.0f "
                 "reads/s, %s/s\n",
                 n, b->size, s, (double)n / s, rate);
    for (size_t i = 0; i < 6 && n; i++)
        (void)printf("  %-4s %10.3f ms\n", names[i],
                     1e3 * json_real_value(json_object_get(times, names[i])));
    json_decref(times);
    json_decref(doc);
    return cli_flush();
}

static int bench(const struct command_run *run, struct bench *b)
{
    pthread_t threads[MAX_THREADS];
    const unsigned want = run->o->threads ? run->o->threads : 1;
    unsigned n = 0;
    const uint64_t start = clock_now();

    while (n < want && n < MAX_THREADS &&
           pthread_create(&threads[n], NULL, run_reads, b) == 0)
        n++;
    if (!n)
        return cli_complain("no thread to read");
    while (n)
        (void)pthread_join(threads[--n], NULL);
    const double s = (double)(clock_now() - start) / 1e9;
    if (atomic_load(&b->has_failed))
        return cli_failed(run->args[0], &b->err);
    return report(run, b, s);
}

int cmd_bench(const struct command_run *run)
{
    static const char *const patterns[] = {"sequential", "random", "strided"};
    const struct options *const o = run->o;
    struct bench b = {.size = o->size ? o->size : 65536,
                      .count = o->count ? o->count : DEFAULT_COUNT,
                      .until_ns = CLOCK_NEVER,
                      .pattern = RANDOM};
    struct target t;
    bool is_known = !o->pattern;

    for (unsigned i = 0; i < 3; i++) {
        if (o->pattern && strcmp(o->pattern, patterns[i]) == 0) {
            b.pattern = (enum pattern)i;
            is_known = true;
        }
    }
    if (!is_known)
        return cli_usage("--pattern is sequential, random or strided");
    if (b.size > 1 << 30 || b.count > MAX_COUNT)
        return cli_usage("--size is at most 1G, --count at most 10000000");
    if (o->seconds) {
        b.count = o->count ? o->count : MAX_COUNT;
        b.until_ns = clock_after_ms((uint64_t)o->seconds * 1000);
    }
    int code = target_open(&t, run->images, run->args[0], o);
    if (code)
        return code;
    b.image = t.image;
    b.n_places = target_size(&t) / b.size;
    AUTO_FREE uint32_t *us = calloc(b.count, sizeof(*us));
    b.us = us;
    if (!b.n_places)
        code = cli_complain("%s: smaller than one read", run->args[0]);
    else
        code = us ? bench(run, &b) : cli_complain("out of memory");
    target_close(&t);
    return code;
}
