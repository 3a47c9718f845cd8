/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over its corpus without a fuzzer: every file as it is, cut
 * at a few places, and with bytes changed one at a time (a fixed sequence, so
 * that a failure repeats).  A folder that is missing or empty is a failure: a
 * replay of nothing proves nothing. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef REPLAY_FEW /* a target that opens whole stacks is slow */
enum { N_CHANGES = 4, N_CUTS = 3 };
#else
enum { N_CHANGES = 64, N_CUTS = 16 };
#endif
enum { MAX_FILE = 1 << 20 };

/* A private copy of exactly `size` bytes, so that reading past it is seen. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *const copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int replay(const char *path)
{
    static uint8_t buf[MAX_FILE];
    FILE *const f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    const size_t size = fread(buf, 1, sizeof(buf), f);
    (void)fclose(f);
    run(buf, size);
    for (size_t i = 0; i < N_CUTS; i++)
        run(buf, size * i / N_CUTS);
    uint32_t lcg = 12345;
    for (size_t i = 0; i < N_CHANGES && size; i++) {
        lcg = lcg * 1664525U + 1013904223U;
        /* Half of the changes in the first 512 bytes: headers live there. */
        const size_t reach = i % 2 && size > 512 ? 512 : size;
        const size_t at = lcg % reach;
        const uint8_t old = buf[at];
        buf[at] = (uint8_t)(i % 4 == 0 ? 0xff : old ^ (1U << (lcg >> 29)));
        run(buf, size);
        buf[at] = old;
    }
    return 0;
}

int main(int argc, char **argv)
{
    unsigned n = 0;
    int failed = 0;

    for (int i = 1; i < argc; i++) {
        DIR *const dir = opendir(argv[i]);
        if (!dir) {
            failed |= replay(argv[i]);
            n++;
            continue;
        }
        for (const struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            if (e->d_name[0] == '.')
                continue;
            (void)snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
            failed |= replay(path);
            n++;
        }
        (void)closedir(dir);
    }
    (void)printf("%u inputs replayed\n", n);
    return failed || !n ? 1 : 0;
}
