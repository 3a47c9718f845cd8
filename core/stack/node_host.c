/* SPDX-License-Identifier: Apache-2.0 */
/* What the core does for a driver: each slot of struct plt_host, for one node.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stack/node.h"
#include "stack/node_disk.h"
#include "util/check.h"
#include "util/clock.h"

/* Decoders keep their tables on the heap; a task needs little more than a call
 * chain through the stack and libcurl. */
enum {
    TASK_STACK = 512 * 1024,
    MEM_PATIENCE_MS = 5000 /* for memory that others have */
};

static struct node *of(struct plt_host *host)
{
    return (struct node *)(void *)((char *)host - offsetof(struct node, host));
}

static struct cache *cache_of(struct plt_host *host)
{
    return stack_environment(of(host)->stack)->cache;
}

static enum plt_claim block_claim(struct plt_host *host, uint64_t key,
                                  size_t len, bool only_hit,
                                  struct plt_block **block)
{
    struct node *const node = of(host);

    if (node_is_peeking())
        return cache_peek(cache_of(host), node->owner, key, len, block)
                   ? PLT_CLAIM_HIT
                   : PLT_CLAIM_FULL;
    enum plt_claim claim =
        cache_claim(cache_of(host), node->owner, key, len, only_hit, block);

    claim = node_disk_claim(node, key, len, only_hit, claim, block);
    if (claim == PLT_CLAIM_HIT)
        (void)atomic_fetch_add_explicit(&node->metrics->hits, 1,
                                        memory_order_relaxed);
    else if (claim == PLT_CLAIM_FILL)
        (void)atomic_fetch_add_explicit(&node->metrics->fills, 1,
                                        memory_order_relaxed);
    return claim;
}

static void block_commit(struct plt_host *host, struct plt_block *block)
{
    cache_commit(cache_of(host), block);
    node_disk_commit(of(host), block);
}

static void block_abandon(struct plt_host *host, struct plt_block *block,
                          const struct plt_error *err)
{
    cache_abandon(cache_of(host), block, err);
}

static enum plt_status block_wait(struct plt_host *host,
                                  struct plt_block *block, struct plt_io *io,
                                  struct plt_error *err)
{
    return cache_wait(cache_of(host), block, io, err);
}

static void block_release(struct plt_host *host, struct plt_block *block)
{
    cache_unref(cache_of(host), block);
}

/* Many requests at once may need more than there is, for a moment: who can wait
 * does so, rather than fail.  Not for long: all may be waiting for each other.
 */
static bool mem_wait(struct cache *cache, const struct plt_io *io,
                     uint64_t bytes)
{
    const struct timespec step = {.tv_nsec = 4000000};
    const uint64_t patience = clock_after_ms(MEM_PATIENCE_MS);
    const uint64_t until =
        io->deadline_ns < patience ? io->deadline_ns : patience;
    bool is_taken = false;

    while (!is_taken && clock_now() < until && !io->cancelled(io)) {
        (void)nanosleep(&step, NULL);
        is_taken = cache_mem_take(cache, bytes);
    }
    return is_taken;
}

static enum plt_status mem_take(struct plt_host *host, uint64_t bytes,
                                struct plt_error *err)
{
    const struct plt_io *const io = node_disk_waiter();

    if (cache_mem_take(cache_of(host), bytes) ||
        (io && cache_mem_fits(cache_of(host), bytes) &&
         mem_wait(cache_of(host), io, bytes)))
        return PLT_OK;
    return plt_fail(err, PLT_NOMEM, "no room for %llu bytes in the budget",
                    (unsigned long long)bytes);
}

static void mem_give(struct plt_host *host, uint64_t bytes)
{
    cache_mem_give(cache_of(host), bytes);
}

/* ---- Tasks ---- */

struct plt_task {
    struct plt_io io; /* first */
    pthread_t thread;
    plt_task_fn *fn;
    void *cookie;
    atomic_bool is_stopping;
};

static bool task_cancelled(const struct plt_io *io)
{
    const struct plt_task *const t = (const struct plt_task *)io;
    return atomic_load_explicit(&t->is_stopping, memory_order_relaxed);
}

/* Background cost is counted by whoever waited for it; the rest is nobody's. */
static void task_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

static void *task_main(void *arg)
{
    struct plt_task *const t = (struct plt_task *)arg;
    t->fn(t->cookie, &t->io);
    return NULL;
}

static enum plt_status task_start(struct plt_host *host, plt_task_fn *fn,
                                  void *cookie, struct plt_task **task,
                                  struct plt_error *err)
{
    pthread_attr_t attr;
    struct plt_task *const t = calloc(1, sizeof(*t));

    (void)host;
    if (!t)
        return plt_fail(err, PLT_NOMEM, "a task");
    t->io = (struct plt_io){.struct_size = (uint32_t)sizeof(t->io),
                            .flags = PLT_IO_BACKGROUND,
                            .deadline_ns = CLOCK_NEVER,
                            .cancelled = task_cancelled,
                            .charge = task_charge};
    t->fn = fn;
    t->cookie = cookie;
    ASSERT(pthread_attr_init(&attr) == 0);
    ASSERT(pthread_attr_setstacksize(&attr, TASK_STACK) == 0);
    const int sys = pthread_create(&t->thread, &attr, task_main, t);
    ASSERT(pthread_attr_destroy(&attr) == 0);
    if (sys != 0) {
        free(t);
        return plt_fail_sys(err, PLT_BUSY, sys, "a background thread");
    }
    *task = t;
    return PLT_OK;
}

static void task_stop(struct plt_host *host, struct plt_task *task)
{
    (void)host;
    if (!task)
        return;
    atomic_store(&task->is_stopping, true);
    ASSERT(pthread_join(task->thread, NULL) == 0);
    free(task);
}

/* ---- State ---- */

/* Files are named by what they describe: the id of the layer below, which holds
 * the source's address and validator, and the driver.  A source that changes
 * has another id and finds nothing. */
static int state_open(struct plt_host *host, const char *kind, uint32_t flags)
{
    const struct node *const node = of(host);
    const int dir = stack_environment(node->stack)->state_dir;
    const bool is_write = (flags & PLT_STATE_WRITE) != 0;
    char name[128];
    size_t n = 0;

    if (dir < 0 || !node->below || !node->below->is_pinned ||
        strlen(kind) > 16 ||
        strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(kind))
        return -1;
    for (size_t i = 0; i < 20; i++)
        n += (size_t)snprintf(name + n, sizeof(name) - n, "%02x",
                              node->below->id[i]);
    (void)snprintf(name + n, sizeof(name) - n, ".%s.%s", node->driver->name,
                   kind);
    const int fd = openat(dir, name,
                          (is_write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC |
                              O_NOFOLLOW | O_NONBLOCK,
                          0600);
    struct stat sb;
    if (fd < 0)
        return -1;
    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) ||
        (is_write && flock(fd, LOCK_EX | LOCK_NB) != 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* ---- Policy ---- */

static enum plt_status open_named(struct plt_host *host, struct plt_io *io,
                                  enum plt_role role, const char *name,
                                  const char *format, struct plt_child **child,
                                  struct plt_error *err)
{
    struct node *const node = of(host);
    return stack_open_named(node->stack, node, io, role, name, format, child,
                            err);
}

static enum plt_status sidecar(struct plt_host *host, struct plt_io *io,
                               const char *suffix, uint64_t max,
                               plt_put_fn *put, void *cookie,
                               struct plt_error *err)
{
    const struct node *const node = of(host);
    return stack_sidecar(node->stack, node, io, suffix, max, put, cookie, err);
}

static enum plt_status allow_url(struct plt_host *host, const char *url,
                                 struct plt_error *err)
{
    return policy_allow_url(stack_environment(of(host)->stack)->policy, url,
                            err);
}

static enum plt_status allow_address(struct plt_host *host, const char *url,
                                     const uint8_t *address, size_t len,
                                     struct plt_error *err)
{
    return policy_allow_address(stack_environment(of(host)->stack)->policy, url,
                                address, len, err);
}

static enum plt_status credential(struct plt_host *host, const char *url,
                                  enum plt_credential kind, char *buf,
                                  size_t cap, struct plt_error *err)
{
    return policy_credential(stack_environment(of(host)->stack)->policy, url,
                             kind, buf, cap, err);
}

/* ---- Secrets and helpers ---- */

static enum plt_status host_secret(struct plt_host *host, unsigned i,
                                   uint8_t *buf, size_t cap, size_t *len,
                                   struct plt_error *err)
{
    struct node *const node = of(host);
    const enum plt_status st =
        secrets_get(stack_environment(node->stack)->secrets,
                    stack_secret_names(node->stack), i, buf, cap, len, err);
    node->is_secret = node->is_secret || st == PLT_OK;
    return st;
}

static void each(struct plt_host *host, size_t n,
                 void (*fn)(void *cookie, size_t i), void *cookie)
{
    crew_run(stack_environment(of(host)->stack)->crew, n, fn, cookie);
}

static void *shared(struct plt_host *host, void *(*make)(void),
                    void (*destroy)(void *object))
{
    struct node *const node = of(host);
    void *object;

    if (node->has_share)
        return NULL;
    object = shares_get(stack_environment(node->stack)->shares, node->driver,
                        make, destroy);
    node->has_share = object != NULL;
    return object;
}

void node_host_init(struct node *node)
{
    node->host = (struct plt_host){.struct_size = (uint32_t)sizeof(node->host),
                                   .block_claim = block_claim,
                                   .block_commit = block_commit,
                                   .block_abandon = block_abandon,
                                   .block_wait = block_wait,
                                   .block_release = block_release,
                                   .mem_take = mem_take,
                                   .mem_give = mem_give,
                                   .task_start = task_start,
                                   .task_stop = task_stop,
                                   .state_open = state_open,
                                   .open_named = open_named,
                                   .allow_url = allow_url,
                                   .secret = host_secret,
                                   .each = each,
                                   .shared = shared,
                                   .sidecar = sidecar,
                                   .allow_address = allow_address,
                                   .credential = credential};
}
