/* SPDX-License-Identifier: Apache-2.0 */
/* One client for HTTP ranges and NBD, so that what the client costs is alike.
 *
 *   rbench one  TARGET -o OFF -l LEN [-w SECONDS] [-V RAW]
 *       one read on a fresh connection
 *   rbench seq  TARGET -S SIZE [-c CHUNK] [-q DEPTH] [-V RAW]
 *       the whole disk in order.  HTTP at depth 1: one GET; else DEPTH reads
 *       of CHUNK bytes at a time
 *   rbench rand TARGET -l LEN -q DEPTH -t SECONDS [-b BLOCKS | -S SIZE]
 *               [-s SEED] [-V RAW]
 *       random reads, DEPTH at a time: of BLOCKS, a text of numbers of 64 KiB
 *       blocks, one a line, or of the whole disk
 *
 *   -w N  wait so many seconds for the server to listen
 *   -n N  at most N NBD connections (4), used when the server says multi-conn
 *   -T S  give up when nothing arrives for S seconds (60)
 *   -V F  compare every byte with the file F
 *
 * Prints one line of JSON; {"error": ...} and exit 1 when it could not. */
#include "rbench.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 65536 };

_Noreturn void rbench_die(const char *what, const char *detail)
{
    char text[512];

    (void)snprintf(text, sizeof text, "%s%s%s", what, *detail ? ": " : "",
                   detail);
    (void)fprintf(stderr, "%s\n", text);
    for (char *p = text; *p; p++)
        if (*p == '"' || *p == '\\' || *p < ' ')
            *p = '_';
    (void)printf("{\"error\":\"%s\"}\n", text);
    exit(1);
}

uint64_t rbench_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(struct rbench *b)
{
    b->seed ^= b->seed << 13;
    b->seed ^= b->seed >> 7;
    b->seed ^= b->seed << 17;
    return b->seed;
}

uint64_t rbench_pick(struct rbench *b)
{
    if (!b->n_blocks)
        return next_random(b) % (b->size / b->len) * b->len;
    const uint64_t off = b->blocks[next_random(b) % b->n_blocks] * BLOCK;
    return b->len < BLOCK ? off + next_random(b) % (BLOCK / b->len) * b->len
                          : off;
}

void rbench_check(struct rbench *b, const uint8_t *p, uint64_t off, size_t n)
{
    if (b->raw && (off > b->raw_len || n > b->raw_len - off ||
                   memcmp(p, b->raw + off, n) != 0))
        b->bad++;
}

void rbench_took(struct rbench *b, uint64_t ns)
{
    if (b->n_took == b->room) {
        b->room = b->room ? b->room * 2 : 65536;
        b->took = realloc(b->took, b->room * sizeof *b->took);
        if (!b->took)
            rbench_die("out of memory", "");
    }
    b->took[b->n_took++] = ns;
}

/* ---- What was measured ---- */

static double since(uint64_t start)
{
    return (double)(rbench_now() - start) / 1e9;
}

static double own_cpu(void)
{
    struct rusage r;

    (void)getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

void rbench_report_one(const struct rbench *b, uint64_t start, uint64_t first)
{
    (void)printf("{\"total_s\":%.6f,\"ttfb_s\":%.6f,\"bad\":%" PRIu64 "}\n",
                 since(start), (double)(first - start) / 1e9, b->bad);
}

void rbench_report_seq(const struct rbench *b, uint64_t start, int conns)
{
    const double s = since(start);

    (void)printf("{\"s\":%.4f,\"mbps\":%.1f,\"conns\":%d,\"bad\":%" PRIu64
                 ",\"cpu_s\":%.3f}\n",
                 s, (double)b->size / s / 1e6, conns, b->bad, own_cpu());
}

static int by_length(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void rbench_report_rand(struct rbench *b, uint64_t start)
{
    const double s = since(start);
    const size_t n = b->n_took;

    if (!n)
        rbench_die("no reads", "");
    qsort(b->took, n, sizeof *b->took, by_length);
    (void)printf(
        "{\"n\":%zu,\"iops\":%.1f,\"mbps\":%.2f,\"p50_us\":%.1f,"
        "\"p99_us\":%.1f,\"max_us\":%.1f,\"bad\":%" PRIu64 ",\"cpu_s\":%.3f}\n",
        n, (double)n / s, (double)n / s * b->len / 1e6,
        (double)b->took[n / 2] / 1e3, (double)b->took[n * 99 / 100] / 1e3,
        (double)b->took[n - 1] / 1e3, b->bad, own_cpu());
}

/* ---- What is asked ---- */

static void load_blocks(struct rbench *b, const char *path)
{
    FILE *const f = fopen(path, "r");
    size_t room = 0;
    char line[32];

    if (!f)
        rbench_die("cannot open", path);
    while (fgets(line, sizeof line, f)) {
        if (b->n_blocks == room) {
            room = room ? room * 2 : 4096;
            b->blocks = realloc(b->blocks, room * sizeof *b->blocks);
            if (!b->blocks)
                rbench_die("out of memory", "");
        }
        b->blocks[b->n_blocks++] = strtoull(line, NULL, 10);
    }
    (void)fclose(f);
    if (!b->n_blocks)
        rbench_die("no blocks in", path);
}

static void map_raw(struct rbench *b, const char *path)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size <= 0)
        rbench_die("cannot open", path);
    b->raw_len = (uint64_t)st.st_size;
    void *const p = mmap(NULL, b->raw_len, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        rbench_die("cannot map", path);
    b->raw = p;
    (void)close(fd);
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    char *end;
    const uint64_t v = strtoull(text, &end, 10);

    if (*end || end == text || v < min || v > max)
        rbench_die("not a number that can be used", text);
    return v;
}

static void set(struct rbench *b, int option, const char *arg)
{
    switch (option) {
    case 'b':
        load_blocks(b, arg);
        break;
    case 'c':
        b->chunk = (uint32_t)number(arg, 1, 1u << 30);
        break;
    case 'l':
        b->len = (uint32_t)number(arg, 1, 1u << 30);
        break;
    case 'n':
        b->max_conns = (int)number(arg, 1, 64);
        break;
    case 'o':
        b->off = number(arg, 0, INT64_MAX);
        break;
    case 'q':
        b->depth = (int)number(arg, 1, 4096);
        break;
    case 's':
        b->seed = number(arg, 0, UINT64_MAX) * 0x9E3779B97F4A7C15u | 1;
        break;
    case 'S':
        b->size = number(arg, 1, INT64_MAX);
        break;
    case 't':
        b->seconds = strtod(arg, NULL);
        break;
    case 'T':
        b->idle_ms = (int)number(arg, 1, 3600) * 1000;
        break;
    case 'V':
        map_raw(b, arg);
        break;
    case 'w':
        b->wait_s = strtod(arg, NULL);
        break;
    default:
        rbench_die("an option that is not known", "");
    }
}

int main(int argc, char **argv)
{
    struct rbench b = {.len = BLOCK,
                       .chunk = 1 << 20,
                       .depth = 1,
                       .max_conns = 4,
                       .idle_ms = 60000,
                       .seconds = 1,
                       .seed = 1};
    int option;

    if (argc < 3)
        rbench_die("usage", "rbench one|seq|rand TARGET OPTIONS");
    const char *const mode = argv[1];
    b.target = argv[2];
    optind = 3;
    while ((option = getopt(argc, argv, "b:c:l:n:o:q:s:S:t:T:V:w:")) != -1)
        set(&b, option, optarg);
    for (int i = 0; i < 8; i++)
        (void)next_random(&b);
    const bool is_http = strncmp(b.target, "http://", 7) == 0;
    if (strcmp(mode, "one") == 0) {
        (is_http ? http_one : nbd_one)(&b);
        return 0;
    }
    const bool is_seq = strcmp(mode, "seq") == 0;
    if (!is_seq && strcmp(mode, "rand") != 0)
        rbench_die("unknown mode", mode);
    if (is_seq ? !b.size : !b.n_blocks && b.size < b.len)
        rbench_die("how large is the disk (-S), or which blocks (-b)?", "");
    if (is_seq && is_http && b.depth == 1)
        http_seq(&b);
    else
        (is_http ? http_many : nbd_many)(&b, is_seq);
    return 0;
}
