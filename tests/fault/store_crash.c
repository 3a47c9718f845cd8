/* SPDX-License-Identifier: Apache-2.0 */
/* The store under SIGKILL: a child puts, gets, syncs, sweeps and scrubs from
 * several threads and tells through a pipe what a store_sync of its has
 * covered; it is killed at a random moment; what it told has to be there, and
 * right.
 *
 *     store_crash [--kills N] [--load SECONDS] [FOLDER]
 *
 *   --kills  how often (200, or what PLATTER_KILLS says); all in one store
 *   --load   the same load without a kill, in this very process
 *   FOLDER   where the store is made (/tmp)
 *
 * Leaves are numbers below LEAVES; those that a sweep may forget, every fourth,
 * nobody counts on. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../unit/store/store_leaves.h"
#include "util/log.h"

enum { LEAVES = 6144, PUTTERS = 3, RUN = 60, KILL_MS = 160 };

static uint8_t data[LEAVES][STORE_LEAF], digests[LEAVES][STORE_DIGEST];
static bool promised[LEAVES];
static struct store *store;
static int told = -1; /* the pipe */
static atomic_bool is_over;

static void must(bool cond, const char *what, const struct plt_error *err)
{
    if (cond)
        return;
    fprintf(stderr, "store_crash: %s: %s\n", what, err ? err->text : "");
    _exit(3);
}

static uint64_t next_random(uint64_t *state, uint64_t n)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % n;
}

static const uint8_t (*digests_from(size_t first))[STORE_DIGEST]
{
    return (const uint8_t(*)[STORE_DIGEST]) & digests[first];
}

/* ---- The load ---- */

struct span {
    uint32_t first, n;
};

static void tell(const struct span *spans, size_t n)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n; i++) {
        if (told >= 0)
            must(write(told, &spans[i], sizeof(*spans)) ==
                     (ssize_t)sizeof(*spans),
                 "pipe", NULL);
        else
            memset(promised + spans[i].first, true, spans[i].n);
    }
    (void)pthread_mutex_unlock(&lock);
}

static void *put(void *cookie)
{
    uint64_t state = (uint64_t)(uintptr_t)cookie;
    struct span spans[8];
    struct plt_error err;

    while (!is_over) {
        const size_t n = 1 + next_random(&state, 8);
        for (size_t i = 0; i < n; i++) {
            const uint32_t len = 1 + (uint32_t)next_random(&state, RUN);
            const uint32_t at = (uint32_t)next_random(&state, LEAVES - len);
            spans[i] = (struct span){at, len};
            const enum plt_status st =
                store_put(store, len, digests_from(at), data[at], NULL, &err);
            must(st == PLT_OK || st == PLT_NOMEM, "put", &err);
            if (st != PLT_OK)
                spans[i].n = 0;
        }
        must(store_sync(store, &err) == PLT_OK, "sync", &err);
        tell(spans, n);
    }
    return NULL;
}

static void *get(void *cookie)
{
    static uint8_t buf[STORE_BATCH * STORE_LEAF];
    bool there[STORE_BATCH];
    uint64_t state = (uint64_t)(uintptr_t)cookie;
    struct plt_error err;

    while (!is_over) {
        const size_t n = 1 + next_random(&state, 100);
        const size_t at = next_random(&state, LEAVES - n);
        must(store_get_batch(store, n, digests_from(at), buf, there, &err) ==
                 PLT_OK,
             "get", &err);
        for (size_t i = 0; i < n; i++)
            must(!there[i] || memcmp(buf + i * STORE_LEAF, data[at + i],
                                     STORE_LEAF) == 0,
                 "a leaf is wrong", NULL);
    }
    return NULL;
}

static enum plt_status keep(void *cookie, struct store_sweep *sweep,
                            struct plt_error *err)
{
    (void)cookie;
    (void)err;
    for (size_t i = 0; i < LEAVES; i += 4)
        store_sweep_keep(sweep, 3, digests_from(i));
    return PLT_OK;
}

static void *sweep(void *cookie)
{
    uint64_t state = (uint64_t)(uintptr_t)cookie, place = 0;
    struct plt_error err;
    struct store_stats stats;

    while (!is_over) {
        const enum plt_status st =
            store_sweep(store, keep, NULL, next_random(&state, 2), NULL, &err);
        must(st == PLT_OK || st == PLT_NOMEM, "sweep", &err);
        must(store_scrub(store, &place, 4 << 20, NULL, NULL, &err) == PLT_OK,
             "scrub", &err);
        store_stats(store, &stats);
        must(stats.damaged == 0, "something is damaged", NULL);
        usleep(2000);
    }
    return NULL;
}

static void load(uint64_t seed, unsigned ms)
{
    pthread_t threads[PUTTERS + 2];

    for (size_t i = 0; i < PUTTERS + 2; i++)
        must(pthread_create(&threads[i], NULL,
                            i < PUTTERS    ? put
                            : i == PUTTERS ? get
                                           : sweep,
                            (void *)(uintptr_t)(seed * 8 + i + 1)) == 0,
             "thread", NULL);
    usleep(ms * 1000);
    is_over = true;
    for (size_t i = 0; i < PUTTERS + 2; i++)
        must(pthread_join(threads[i], NULL) == 0, "join", NULL);
}

/* ---- What is left ---- */

static void open_store(int dir, bool is_zstd)
{
    const struct store_config config = {
        .dir = dir,
        .limit = 96 << 20,
        .compression = is_zstd ? STORE_ZSTD : STORE_PLAIN,
        .level = 1,
    };
    struct plt_error err;

    must(store_open(&config, &store, &err) == PLT_OK, "open", &err);
}

static unsigned check(void)
{
    uint8_t buf[STORE_LEAF];
    struct plt_error err;
    unsigned n = 0;

    for (size_t i = 0; i < LEAVES; i++) {
        if (!promised[i] || i % 4 == 3)
            continue;
        n++;
        must(store_get(store, digests[i], buf, &err) == PLT_OK,
             "what was synced is gone", &err);
        must(memcmp(buf, data[i], STORE_LEAF) == 0, "a leaf is wrong", NULL);
    }
    return n;
}

static void child(int dir, uint64_t seed, int out)
{
    told = out;
    open_store(dir, seed % 2);
    load(seed, 600000);
    _exit(0);
}

static void kill_once(int dir, uint64_t seed)
{
    struct span span;
    uint64_t state = seed + 77;
    int pipes[2], status = 0;

    must(pipe(pipes) == 0, "pipe", NULL);
    const pid_t pid = fork();
    must(pid >= 0, "fork", NULL);
    if (!pid)
        child(dir, seed, pipes[1]);
    close(pipes[1]);
    /* Some die while they open. */
    usleep((useconds_t)next_random(&state, KILL_MS * 1000));
    must(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid, "kill",
         NULL);
    must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
         "the child ended by itself", NULL);
    while (read(pipes[0], &span, sizeof(span)) == (ssize_t)sizeof(span)) {
        must(span.first + span.n <= LEAVES, "span", NULL);
        memset(promised + span.first, true, span.n);
    }
    close(pipes[0]);
}

int main(int argc, char **argv)
{
    const char *const kills = getenv("PLATTER_KILLS");
    unsigned n_kills = kills ? (unsigned)strtoul(kills, NULL, 10) : 200,
             seconds = 0, n = 0;
    char path[256], command[300];
    const char *base = "/tmp";

    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--kills") == 0)
            n_kills = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (i + 1 < argc && strcmp(argv[i], "--load") == 0)
            seconds = (unsigned)strtoul(argv[++i], NULL, 10);
        else
            base = argv[i];
    }
    snprintf(path, sizeof(path), "%s/platter-crash-XXXXXX", base);
    must(mkdtemp(path), path, NULL);
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(dir >= 0, path, NULL);
    for (size_t i = 0; i < LEAVES; i++)
        leaves_make(i, 1, data[i], &digests[i]);
    if (seconds) {
        open_store(dir, true);
        load(1, seconds * 1000);
        n = check();
        store_close(store);
    }
    for (unsigned i = 0; i < n_kills && !seconds; i++) {
        kill_once(dir, i + 1);
        open_store(dir, i % 2);
        n = check();
        store_close(store);
    }
    must(n > LEAVES / 2, "too little was synced to say anything", NULL);
    printf("%u kills, %u leaves had been synced, all of them are there\n",
           seconds ? 0 : n_kills, n);
    snprintf(command, sizeof(command), "rm -r %s", path);
    return system(command) == 0 ? 0 : 1;
}
