/* SPDX-License-Identifier: Apache-2.0 */
/* Which library decodes fastest what drivers decode at a time.
 *
 *   decoders DIR [ROUNDS [OUT.csv]]
 *       libdeflate, ISA-L and zlib on the units of files of make_data: BGZF
 *       blocks, dictzip chunks, qcow2 clusters, vmdk grains; on one thread and
 *       on two.  ROUNDS (5) interleaved rounds after one that compares what
 *       the three give; medians.  Rates are for a second of processor time of
 *       one core, which a busy machine changes least; OUT.csv has those of the
 *       clock beside them.  Says which one the driver uses, and how far it is
 *       from the fastest.  Exit 1: two of them differ.
 *   decoders prefix FILE.gz BYTES
 *       seconds that ISA-L takes, on one core and with the CRC-32, to decode
 *       the first BYTES of output (0: all), the file being in memory
 *
 * MB are 10^6 bytes of output. */
#include "decoders_units.h"

#include <inttypes.h>
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define ZLIB_CONST
#include <zlib.h>

enum { ROUNDS_MAX = 101, THREADS_MAX = 2, LIBRARIES = 3 };

static double seconds(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- The libraries: one state for a thread, as the drivers keep it ---- */

static void *deflate_new(enum coding c)
{
    (void)c;
    return libdeflate_alloc_decompressor();
}

static bool deflate_decode(void *state, enum coding c, const struct unit *u,
                           uint8_t *out)
{
    size_t used, got = 0;
    const enum libdeflate_result r =
        (c == ZLIB ? libdeflate_zlib_decompress_ex
                   : libdeflate_deflate_decompress_ex)(
            state, u->in, u->in_len, out, u->out_len, &used, &got);

    return r == LIBDEFLATE_SUCCESS && got == u->out_len;
}

static void deflate_free(void *state)
{
    libdeflate_free_decompressor(state);
}

static void *isal_new(enum coding c)
{
    (void)c;
    return malloc(sizeof(struct inflate_state));
}

static bool isal_decode(void *state, enum coding c, const struct unit *u,
                        uint8_t *out)
{
    struct inflate_state *const s = state;
    union {
        const uint8_t *in;
        uint8_t *isal; /* its pointer is not const; it does not write */
    } p = {.in = u->in};

    isal_inflate_init(s);
    s->crc_flag = c == ZLIB ? ISAL_ZLIB : ISAL_DEFLATE;
    s->next_in = p.isal;
    s->avail_in = (uint32_t)u->in_len;
    s->next_out = out;
    s->avail_out = (uint32_t)u->out_len;
    return isal_inflate_stateless(s) >= ISAL_DECOMP_OK && s->avail_out == 0;
}

static void *zlib_new(enum coding c)
{
    z_stream *const z = calloc(1, sizeof *z);

    if (z && inflateInit2(z, c == ZLIB ? MAX_WBITS : -MAX_WBITS) != Z_OK)
        decoders_die("zlib", "inflateInit2");
    return z;
}

static bool zlib_decode(void *state, enum coding c, const struct unit *u,
                        uint8_t *out)
{
    z_stream *const z = state;

    (void)c;
    (void)inflateReset(z);
    z->next_in = u->in;
    z->avail_in = (uInt)u->in_len;
    z->next_out = out;
    z->avail_out = (uInt)u->out_len;
    const int r = inflate(z, Z_FINISH);
    return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z->avail_out == 0;
}

static void zlib_free(void *state)
{
    (void)inflateEnd(state);
    free(state);
}

static const struct library {
    const char *name;
    void *(*init)(enum coding c);
    bool (*decode)(void *state, enum coding c, const struct unit *u,
                   uint8_t *out);
    void (*release)(void *state);
} libraries[LIBRARIES] = {
    {"libdeflate", deflate_new, deflate_decode, deflate_free},
    {"ISA-L", isal_new, isal_decode, free},
    {"zlib", zlib_new, zlib_decode, zlib_free},
};

static const struct source {
    const char *name, *file;
    void (*load)(struct units *u, const char *dir, const char *name);
    int used;          /* index in libraries: what the driver decodes with */
    const char *where; /* and where it says so */
} sources[] = {
    {"BGZF blocks", "gce-bgzf.tar.gz", units_bgzf, 0,
     "plugins/gzip/gzip_units.c"},
    {"dictzip chunks", "gce.tar.dz", units_dictzip, 0,
     "plugins/gzip/gzip_units.c"},
    {"qcow2 clusters", "disk-zlib.qcow2", units_qcow2, 0,
     "plugins/qcow2/qcow2_cluster.c"},
    {"vmdk grains", "disk-stream.vmdk", units_vmdk, 0,
     "plugins/vmdk/vmdk_extent.c"},
};

/* ---- One pass over all units ---- */

struct pass {
    const struct units *units;
    const struct library *lib;
    atomic_size_t next;
    atomic_bool is_bad;
};

static void *decode_some(void *cookie)
{
    struct pass *const p = cookie;
    void *const state = p->lib->init(p->units->coding);
    uint8_t *const out = malloc(UNIT_MAX);

    if (!state || !out)
        decoders_die("memory", "none left");
    for (;;) { /* by eights: the counter costs nothing */
        const size_t from = atomic_fetch_add(&p->next, 8);
        if (from >= p->units->n)
            break;
        for (size_t i = from; i < from + 8 && i < p->units->n; i++)
            if (!p->lib->decode(state, p->units->coding, &p->units->unit[i],
                                out))
                atomic_store(&p->is_bad, true);
    }
    p->lib->release(state);
    free(out);
    return NULL;
}

/* MB of output in a second of the clock, and in one of processor time. */
struct rate {
    double wall, cpu;
};

static struct rate measure(const struct units *units, const struct library *lib,
                           int threads)
{
    struct pass p = {.units = units, .lib = lib};
    pthread_t other[THREADS_MAX];
    const double wall = seconds(CLOCK_MONOTONIC);
    const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);

    for (int i = 1; i < threads; i++)
        if (pthread_create(&other[i], NULL, decode_some, &p) != 0)
            decoders_die("thread", "cannot be started");
    (void)decode_some(&p);
    for (int i = 1; i < threads; i++)
        (void)pthread_join(other[i], NULL);
    if (atomic_load(&p.is_bad))
        decoders_die(lib->name, "does not decode a unit");
    const double mb = (double)units->out / 1e6;
    return (struct rate){mb / (seconds(CLOCK_MONOTONIC) - wall),
                         mb / (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu)};
}

/* All three give the same bytes, or the program ends. */
static void compare(const struct units *u, const char *name)
{
    uint8_t *out[LIBRARIES];
    void *state[LIBRARIES];

    for (int k = 0; k < LIBRARIES; k++) {
        state[k] = libraries[k].init(u->coding);
        out[k] = malloc(UNIT_MAX);
        if (!state[k] || !out[k])
            decoders_die("memory", "none left");
    }
    for (size_t i = 0; i < u->n; i++)
        for (int k = 0; k < LIBRARIES; k++)
            if (!libraries[k].decode(state[k], u->coding, &u->unit[i],
                                     out[k]) ||
                memcmp(out[k], out[0], u->unit[i].out_len) != 0)
                decoders_die(name, "the libraries differ");
    for (int k = 0; k < LIBRARIES; k++) {
        libraries[k].release(state[k]);
        free(out[k]);
    }
}

static int by_cpu(const void *a, const void *b)
{
    const double x = ((const struct rate *)a)->cpu;
    const double y = ((const struct rate *)b)->cpu;

    return x < y ? -1 : x > y;
}

static int by_wall(const void *a, const void *b)
{
    const double x = ((const struct rate *)a)->wall;
    const double y = ((const struct rate *)b)->wall;

    return x < y ? -1 : x > y;
}

static struct rate median_of(struct rate *r, int n,
                             int (*order)(const void *, const void *))
{
    qsort(r, (size_t)n, sizeof *r, order);
    return r[n / 2];
}

static void one_source(const struct source *s, const char *dir, int rounds,
                       FILE *csv)
{
    static struct rate got[THREADS_MAX][LIBRARIES][ROUNDS_MAX];
    struct units u;

    s->load(&u, dir, s->file);
    compare(&u, s->name);
    for (int r = 0; r < rounds; r++)
        for (int t = 0; t < THREADS_MAX; t++)
            for (int k = 0; k < LIBRARIES; k++)
                got[t][k][r] = measure(&u, &libraries[k], t + 1);
    for (int t = 0; t < THREADS_MAX; t++) {
        double median[LIBRARIES];
        int best = 0;
        (void)printf("%-15s %7zu %5.1f  %d  ", s->name, u.n,
                     (double)u.out / (double)u.n / 1024, t + 1);
        for (int k = 0; k < LIBRARIES; k++) {
            median[k] = median_of(got[t][k], rounds, by_cpu).cpu;
            if (median[k] > median[best])
                best = k;
            (void)printf("%10.0f ", median[k]);
            if (csv)
                (void)fprintf(csv, "%s,%d,%s,%.1f,%.1f,%s\n", s->name, t + 1,
                              libraries[k].name, median[k],
                              median_of(got[t][k], rounds, by_wall).wall,
                              libraries[s->used].name);
        }
        const double behind = median[best] / median[s->used] - 1;
        (void)printf("  %-10s ", libraries[best].name);
        if (behind > 0.05)
            (void)printf("the driver's %s is %.0f %% slower (%s)\n",
                         libraries[s->used].name,
                         100 * (1 - median[s->used] / median[best]), s->where);
        else
            (void)printf("the driver's %s: within 5 %%\n",
                         libraries[s->used].name);
    }
    (void)fflush(stdout);
    units_free(&u);
}

static int prefix(const char *path, uint64_t bytes)
{
    static struct inflate_state s;
    static uint8_t out[1 << 18];
    struct isal_gzip_header head;
    uint64_t got = 0;
    size_t len;
    uint8_t *const in = load_file(path, &len);
    const double start = seconds(CLOCK_MONOTONIC);

    isal_inflate_init(&s);
    isal_gzip_header_init(&head);
    s.next_in = in;
    s.avail_in = (uint32_t)len;
    s.crc_flag = ISAL_GZIP;
    if (len > UINT32_MAX || isal_read_gzip_header(&s, &head) != ISAL_DECOMP_OK)
        decoders_die(path, "is no gzip file");
    do {
        s.next_out = out;
        s.avail_out = sizeof out;
        if (isal_inflate(&s) != ISAL_DECOMP_OK)
            decoders_die(path, "does not decode");
        got += sizeof out - s.avail_out;
    } while (s.avail_out == 0 && (!bytes || got < bytes));
    (void)printf("{\"s\":%.6f,\"bytes\":%" PRIu64 "}\n",
                 seconds(CLOCK_MONOTONIC) - start, got);
    free(in);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "prefix") == 0)
        return prefix(argv[2], strtoull(argv[3], NULL, 10));
    if (argc < 2 || argc > 4)
        decoders_die("usage", "decoders DIR [ROUNDS [OUT.csv]]");
    const long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 5;
    if (rounds < 1 || rounds > ROUNDS_MAX)
        decoders_die("rounds", "1 to 101");
    FILE *const csv = argc > 3 ? fopen(argv[3], "w") : NULL;
    if (argc > 3 && !csv)
        decoders_die(argv[3], "cannot be written");
    if (csv)
        (void)fprintf(csv, "units,threads,library,MB per cpu second,MB/s,"
                           "driver uses\n");
    (void)printf("%-15s %7s %5s  %s %10s %10s %10s   %-10s driver\n"
                 "%-15s %7s %5s  %s %10s %10s %10s\n",
                 "units", "number", "KiB", "thr", "libdeflate", "ISA-L", "zlib",
                 "fastest", "", "", "each", "", "MB/cpu-s", "MB/cpu-s",
                 "MB/cpu-s");
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        one_source(&sources[i], argv[1], (int)rounds, csv);
    if (csv && fclose(csv) != 0)
        decoders_die(argv[3], "cannot be written");
    return 0;
}
