/* SPDX-License-Identifier: Apache-2.0 */
/* See memhost.h.  Plain and slow on purpose: one lock, one list.  What it
 * checks hard is the contract: a claim that is neither committed nor abandoned,
 * a block held at the end, memory that was not given back, fail here. */
#define _GNU_SOURCE
#include "memhost.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define MUST(cond)                                                             \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "%s:%d: contract broken: %s\n", __FILE__,          \
                    __LINE__, #cond);                                          \
            abort();                                                           \
        }                                                                      \
    } while (0)

/* ---- io ---- */

static bool never_cancelled(const struct plt_io *io)
{
    (void)io;
    return false;
}

static void no_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

struct plt_io *memhost_io(void)
{
    static struct plt_io io = {.struct_size = sizeof(io),
                               .deadline_ns = UINT64_MAX,
                               .cancelled = never_cancelled,
                               .charge = no_charge};
    return &io;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

void memhost_io_init(struct plt_io *io, uint32_t flags, uint64_t timeout_ms)
{
    *io = *memhost_io();
    io->flags = flags;
    io->deadline_ns = timeout_ms == UINT64_MAX
                          ? UINT64_MAX
                          : now_ns() + timeout_ms * 1000000U;
}

/* ---- child ---- */

static enum plt_status child_fault(struct memchild *m, struct plt_error *err)
{
    const uint64_t n = __atomic_add_fetch(&m->n_reads, 1, __ATOMIC_RELAXED);
    if (m->delay_us)
        usleep(m->delay_us);
    if (m->fail_at && (n == m->fail_at || (m->fail_forever && n > m->fail_at)))
        return plt_fail(err, m->fail_with, "memchild fails read %llu",
                        (unsigned long long)n);
    return PLT_OK;
}

enum bstate { FILLING, FILLED, FAILED };

struct bentry {
    struct plt_block block; /* first */
    struct memhost *host;   /* NULL: a child's, lent */
    struct bentry *next;
    uint64_t key, used;
    unsigned refs;
    enum bstate state;
    struct plt_error err;
};

static enum plt_status child_read(struct plt_child *child, struct plt_io *io,
                                  const struct plt_seg *segs, size_t n,
                                  struct plt_error *err)
{
    struct memchild *const m = (struct memchild *)child;
    MUST(io && io->cancelled && io->charge);
    const enum plt_status st = child_fault(m, err);
    if (st != PLT_OK)
        return st;
    __atomic_add_fetch(&m->n_segs, n, __ATOMIC_RELAXED);
    for (size_t i = 0; i < n; i++) {
        MUST(segs[i].len > 0);
        if (segs[i].off > m->size || segs[i].len > m->size - segs[i].off)
            return plt_fail_at(err, PLT_CORRUPT, segs[i].off,
                               "read of %zu bytes past the end", segs[i].len);
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(segs[i].buf, m->data + segs[i].off, segs[i].len);
        __atomic_add_fetch(&m->n_bytes, segs[i].len, __ATOMIC_RELAXED);
    }
    return PLT_OK;
}

static enum plt_status child_extents(struct plt_child *child, struct plt_io *io,
                                     uint64_t off, uint64_t len,
                                     plt_extent_fn *emit, void *cookie,
                                     struct plt_error *err)
{
    (void)child;
    (void)io;
    (void)err;
    (void)emit(cookie, &(struct plt_extent){.off = off, .len = len});
    return PLT_OK;
}

static enum plt_status child_size(struct plt_child *child, struct plt_io *io,
                                  uint64_t *size, struct plt_error *err)
{
    (void)io;
    (void)err;
    *size = ((struct memchild *)child)->size;
    return PLT_OK;
}

struct memstream {
    struct plt_stream stream;
    struct memchild *m;
    uint64_t off;
};

static enum plt_status stream_read(struct plt_stream *stream, struct plt_io *io,
                                   void *buf, size_t cap, size_t *got,
                                   struct plt_error *err)
{
    struct memstream *const s = (struct memstream *)stream;
    MUST(io && cap);
    const enum plt_status st = child_fault(s->m, err);
    if (st != PLT_OK)
        return st;
    size_t n = cap < 65536 ? cap : 65536; /* short, as a socket is */
    if (n > s->m->size - s->off)
        n = (size_t)(s->m->size - s->off);
    memcpy(buf, s->m->data + s->off, n);
    s->off += n;
    __atomic_add_fetch(&s->m->n_bytes, n, __ATOMIC_RELAXED);
    *got = n;
    return PLT_OK;
}

static void stream_close(struct plt_stream *stream)
{
    free(stream);
}

static enum plt_status child_stream(struct plt_child *child, struct plt_io *io,
                                    uint64_t off, struct plt_stream **stream,
                                    struct plt_error *err)
{
    struct memchild *const m = (struct memchild *)child;
    (void)io;
    if (off > m->size)
        return plt_fail_at(err, PLT_CORRUPT, off, "stream past the end");
    struct memstream *const s = calloc(1, sizeof(*s));
    MUST(s);
    s->stream = (struct plt_stream){.struct_size = sizeof(s->stream),
                                    .read = stream_read,
                                    .close = stream_close};
    s->m = m;
    s->off = off;
    __atomic_add_fetch(&m->n_stream_opens, 1, __ATOMIC_RELAXED);
    *stream = &s->stream;
    return PLT_OK;
}

/* A copy of the span as a block of nobody's, where the test says so. */
static enum plt_status child_lend(struct plt_child *child, struct plt_io *io,
                                  uint64_t off, uint64_t len, plt_lend_fn *emit,
                                  void *cookie)
{
    struct memchild *const m = (struct memchild *)child;

    (void)io;
    MUST(off <= m->size && len <= m->size - off);
    if (!m->lends)
        return PLT_AGAIN;
    struct bentry *const e = calloc(1, sizeof(*e));
    MUST(e);
    e->block.len = (size_t)len;
    e->block.data = malloc(e->block.len);
    MUST(e->block.data);
    memcpy(e->block.data, m->data + off, e->block.len);
    return emit(cookie, e->block.data, e->block.len, &e->block) ? PLT_OK
                                                                : PLT_AGAIN;
}

static void child_info(struct plt_child *child, struct plt_info *info)
{
    (void)child; /* bytes: nothing to say of themselves */
    (void)info;
}

void memchild_init(struct memchild *m, const void *data, uint64_t size)
{
    memset(m, 0, sizeof(*m));
    m->child = (struct plt_child){.struct_size = sizeof(m->child),
                                  .size = size,
                                  .read = child_read,
                                  .extents = child_extents,
                                  .resolve_size = child_size,
                                  .stream_open = child_stream,
                                  .info = child_info,
                                  .lend = child_lend};
    m->data = data;
    m->size = size;
    m->fail_with = PLT_ORIGIN;
}

uint64_t memchild_reads(struct memchild *m)
{
    return __atomic_load_n(&m->n_reads, __ATOMIC_RELAXED);
}

uint64_t memchild_bytes(struct memchild *m)
{
    return __atomic_load_n(&m->n_bytes, __ATOMIC_RELAXED);
}

/* ---- host ---- */

struct named {
    struct named *next;
    char *name;
    struct plt_child *child;
};

struct memhost {
    struct plt_host host; /* first */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct bentry *blocks;
    struct named *named;
    uint64_t budget, resident, taken, tick, hits, fills, tasks;
    char *state_dir;
    const char *const *secrets; /* borrowed */
    unsigned n_secrets;
    unsigned n_sidecars;
};

static struct memhost *of(struct plt_host *host)
{
    return (struct memhost *)host;
}

static void drop_locked(struct memhost *h, struct bentry *e)
{
    for (struct bentry **p = &h->blocks; *p; p = &(*p)->next) {
        if (*p == e) {
            *p = e->next;
            h->resident -= e->block.len;
            break;
        }
    }
    free(e->block.data);
    free(e);
}

static void trim_locked(struct memhost *h)
{
    while (h->resident > h->budget) {
        struct bentry *old = NULL;
        for (struct bentry *e = h->blocks; e; e = e->next)
            if (!e->refs && e->state == FILLED && (!old || e->used < old->used))
                old = e;
        if (!old)
            return;
        drop_locked(h, old);
    }
}

static enum plt_claim claim(struct plt_host *host, uint64_t key, size_t len,
                            bool only_hit, struct plt_block **block)
{
    struct memhost *const h = of(host);
    enum plt_claim result = PLT_CLAIM_FULL;

    MUST(len > 0 && len <= (2U << 20));
    *block = NULL;
    pthread_mutex_lock(&h->lock);
    struct bentry *e = h->blocks;
    while (e && (e->key != key || e->state == FAILED))
        e = e->next;
    if (e) {
        MUST(e->block.len == len);
        if (e->state == FILLED || !only_hit) {
            e->refs++;
            e->used = ++h->tick;
            *block = &e->block;
            result = e->state == FILLED ? PLT_CLAIM_HIT : PLT_CLAIM_PENDING;
            h->hits += e->state == FILLED;
        }
    } else if (!only_hit) {
        e = calloc(1, sizeof(*e));
        MUST(e);
        e->block.data = malloc(len);
        MUST(e->block.data);
        e->block.len = len;
        e->host = h;
        e->key = key;
        e->refs = 1;
        e->used = ++h->tick;
        e->next = h->blocks;
        h->blocks = e;
        h->resident += len;
        h->fills++;
        *block = &e->block;
        result = PLT_CLAIM_FILL;
    }
    pthread_mutex_unlock(&h->lock);
    return result;
}

static void commit(struct plt_host *host, struct plt_block *block)
{
    struct memhost *const h = of(host);
    struct bentry *const e = (struct bentry *)block;
    pthread_mutex_lock(&h->lock);
    MUST(e->state == FILLING && e->refs);
    e->state = FILLED;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static void unref_locked(struct memhost *h, struct bentry *e)
{
    MUST(e->refs > 0);
    if (--e->refs == 0) {
        if (e->state == FAILED)
            drop_locked(h, e);
        else
            trim_locked(h);
    }
}

static void abandon(struct plt_host *host, struct plt_block *block,
                    const struct plt_error *err)
{
    struct memhost *const h = of(host);
    struct bentry *const e = (struct bentry *)block;
    pthread_mutex_lock(&h->lock);
    MUST(e->state == FILLING);
    e->state = FAILED;
    e->err = *err;
    pthread_cond_broadcast(&h->changed);
    unref_locked(h, e);
    pthread_mutex_unlock(&h->lock);
}

static void release(struct plt_host *host, struct plt_block *block)
{
    struct memhost *const h = of(host);
    struct bentry *const e = (struct bentry *)block;
    pthread_mutex_lock(&h->lock);
    MUST(e->state == FILLED);
    unref_locked(h, e);
    pthread_mutex_unlock(&h->lock);
}

static enum plt_status wait_for(struct plt_host *host, struct plt_block *block,
                                struct plt_io *io, struct plt_error *err)
{
    struct memhost *const h = of(host);
    struct bentry *const e = (struct bentry *)block;
    enum plt_status st = PLT_OK;

    pthread_mutex_lock(&h->lock);
    while (e->state == FILLING && st == PLT_OK) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        ts.tv_nsec += 20000000;
        if (ts.tv_nsec >= 1000000000) {
            ts.tv_nsec -= 1000000000;
            ts.tv_sec++;
        }
        pthread_cond_timedwait(&h->changed, &h->lock, &ts);
        if (e->state == FILLING && io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "cancelled");
        else if (e->state == FILLING && now_ns() >= io->deadline_ns)
            st = plt_fail(err, PLT_TIMEOUT, "block not filled in time");
    }
    if (st == PLT_OK && e->state == FAILED) {
        *err = e->err;
        st = e->err.status;
        if (st == PLT_CANCELLED || st == PLT_TIMEOUT)
            st = err->status = PLT_AGAIN;
    }
    if (st != PLT_OK)
        unref_locked(h, e);
    pthread_mutex_unlock(&h->lock);
    return st;
}

static enum plt_status mem_take(struct plt_host *host, uint64_t bytes,
                                struct plt_error *err)
{
    struct memhost *const h = of(host);
    enum plt_status st = PLT_OK;
    pthread_mutex_lock(&h->lock);
    if (bytes > (UINT64_C(1) << 30) - h->taken)
        st = plt_fail(err, PLT_NOMEM, "%llu bytes", (unsigned long long)bytes);
    else
        h->taken += bytes;
    pthread_mutex_unlock(&h->lock);
    return st;
}

static void mem_give(struct plt_host *host, uint64_t bytes)
{
    struct memhost *const h = of(host);
    pthread_mutex_lock(&h->lock);
    MUST(bytes <= h->taken);
    h->taken -= bytes;
    pthread_mutex_unlock(&h->lock);
}

struct plt_task {
    struct plt_io io; /* first */
    pthread_t thread;
    plt_task_fn *fn;
    void *cookie;
    bool stop;
};

static bool task_cancelled(const struct plt_io *io)
{
    return __atomic_load_n(&((const struct plt_task *)io)->stop,
                           __ATOMIC_ACQUIRE);
}

static void *task_main(void *arg)
{
    struct plt_task *const t = arg;
    t->fn(t->cookie, &t->io);
    return NULL;
}

static enum plt_status task_start(struct plt_host *host, plt_task_fn *fn,
                                  void *cookie, struct plt_task **task,
                                  struct plt_error *err)
{
    struct plt_task *const t = calloc(1, sizeof(*t));
    (void)err;
    MUST(t);
    t->io = *memhost_io();
    t->io.flags = PLT_IO_BACKGROUND;
    t->io.cancelled = task_cancelled;
    t->fn = fn;
    t->cookie = cookie;
    MUST(pthread_create(&t->thread, NULL, task_main, t) == 0);
    __atomic_add_fetch(&of(host)->tasks, 1, __ATOMIC_RELAXED);
    *task = t;
    return PLT_OK;
}

static void task_stop(struct plt_host *host, struct plt_task *task)
{
    if (!task)
        return;
    __atomic_store_n(&task->stop, true, __ATOMIC_RELEASE);
    MUST(pthread_join(task->thread, NULL) == 0);
    __atomic_sub_fetch(&of(host)->tasks, 1, __ATOMIC_RELAXED);
    free(task);
}

static int state_open(struct plt_host *host, const char *kind, uint32_t flags)
{
    char path[4096];
    if (!of(host)->state_dir)
        return -1;
    snprintf(path, sizeof(path), "%s/%s", of(host)->state_dir, kind);
    const bool w = flags & PLT_STATE_WRITE;
    const int fd = open(
        path, w ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0600);
    if (fd >= 0 && w && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static enum plt_status open_named(struct plt_host *host, struct plt_io *io,
                                  enum plt_role role, const char *name,
                                  const char *format, struct plt_child **child,
                                  struct plt_error *err)
{
    (void)io;
    (void)role;
    (void)format;
    for (const struct named *n = of(host)->named; n; n = n->next) {
        if (strcmp(n->name, name) == 0) {
            *child = n->child;
            return PLT_OK;
        }
    }
    return plt_fail(err, PLT_DENIED, "%.100s may not be opened", name);
}

/* A child that was added under the suffix. */
static enum plt_status sidecar(struct plt_host *host, struct plt_io *io,
                               const char *suffix, uint64_t max,
                               plt_put_fn *put, void *cookie,
                               struct plt_error *err)
{
    struct plt_child *child = NULL;
    enum plt_status st;

    pthread_mutex_lock(&of(host)->lock);
    of(host)->n_sidecars++;
    pthread_mutex_unlock(&of(host)->lock);
    if (open_named(host, io, PLT_ROLE_EXTENT, suffix, "raw", &child, err) !=
        PLT_OK)
        return plt_fail(err, PLT_NOT_FOUND, "no file beside the source");
    if (child->size > max)
        return plt_fail(err, PLT_UNSUPPORTED, "a file of many bytes");
    uint8_t *const buf = malloc(child->size + 1);
    const struct plt_seg seg = {0, child->size, buf};
    MUST(buf);
    st = child->size ? child->read(child, io, &seg, 1, err) : PLT_OK;
    if (st == PLT_OK && !put(cookie, buf, child->size / 2))
        st = plt_fail(err, PLT_NOMEM, "the sink is full");
    if (st == PLT_OK &&
        !put(cookie, buf + child->size / 2, child->size - child->size / 2))
        st = plt_fail(err, PLT_NOMEM, "the sink is full");
    free(buf);
    return st;
}

unsigned memhost_sidecars(struct memhost *h)
{
    pthread_mutex_lock(&h->lock);
    const unsigned n = h->n_sidecars;
    pthread_mutex_unlock(&h->lock);
    return n;
}

static enum plt_status allow_url(struct plt_host *host, const char *url,
                                 struct plt_error *err)
{
    (void)host;
    if (strncmp(url, "http://127.0.0.1", 16) == 0 && !strstr(url, "forbidden"))
        return PLT_OK;
    return plt_fail(err, PLT_DENIED, "redirect leaves the origin");
}

void memhost_add_named(struct memhost *h, const char *name,
                       struct plt_child *child)
{
    struct named *const n = calloc(1, sizeof(*n));
    MUST(n);
    n->name = strdup(name);
    n->child = child;
    n->next = h->named;
    h->named = n;
}

static enum plt_status host_secret(struct plt_host *host, unsigned i,
                                   uint8_t *buf, size_t cap, size_t *len,
                                   struct plt_error *err)
{
    struct memhost *const h = of(host);

    if (!h->secrets || i >= h->n_secrets)
        return plt_fail(err, PLT_NOT_FOUND, "no further secret");
    *len = strlen(h->secrets[i]);
    MUST(*len <= cap);
    memcpy(buf, h->secrets[i], *len);
    return PLT_OK;
}

/* Backwards, so that nobody counts on an order. */
static void each(struct plt_host *host, size_t n,
                 void (*fn)(void *cookie, size_t i), void *cookie)
{
    (void)host;
    while (n-- > 0)
        fn(cookie, n);
}

/* No driver under this host shares anything yet. */
static void *shared(struct plt_host *host, void *(*make)(void),
                    void (*destroy)(void *object))
{
    (void)host;
    (void)make;
    (void)destroy;
    return NULL;
}

void memhost_set_secrets(struct memhost *h, const char *const *secrets,
                         unsigned n)
{
    h->secrets = secrets;
    h->n_secrets = n;
}

struct memhost *memhost_new(uint64_t budget, const char *state_dir)
{
    struct memhost *const h = calloc(1, sizeof(*h));
    MUST(h);
    h->host = (struct plt_host){.struct_size = sizeof(h->host),
                                .block_claim = claim,
                                .block_commit = commit,
                                .block_abandon = abandon,
                                .block_wait = wait_for,
                                .block_release = release,
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
                                .sidecar = sidecar};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    h->budget = budget;
    h->state_dir = state_dir ? strdup(state_dir) : NULL;
    return h;
}

void memhost_drop_cache(struct memhost *h)
{
    pthread_mutex_lock(&h->lock);
    const uint64_t old = h->budget;
    h->budget = 0;
    trim_locked(h);
    h->budget = old;
    pthread_mutex_unlock(&h->lock);
}

void memhost_free(struct memhost *h)
{
    memhost_drop_cache(h);
    MUST(!h->blocks && "a block is still held");
    MUST(!h->taken && "memory was not given back");
    MUST(!h->tasks && "a task was not stopped");
    while (h->named) {
        struct named *const n = h->named;
        h->named = n->next;
        free(n->name);
        free(n);
    }
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
    free(h->state_dir);
    free(h);
}

struct plt_host *memhost_host(struct memhost *h)
{
    return &h->host;
}

uint64_t memhost_hits(struct memhost *h)
{
    pthread_mutex_lock(&h->lock);
    const uint64_t n = h->hits;
    pthread_mutex_unlock(&h->lock);
    return n;
}

uint64_t memhost_fills(struct memhost *h)
{
    pthread_mutex_lock(&h->lock);
    const uint64_t n = h->fills;
    pthread_mutex_unlock(&h->lock);
    return n;
}

enum plt_status memhost_open(struct memhost *h, const struct plt_driver *driver,
                             struct plt_child *child, uint32_t flags,
                             void **image, struct plt_opened *opened,
                             struct plt_error *err, ...)
{
    struct plt_setting settings[16];
    char *copies[16];
    size_t n = 0;
    va_list ap;

    va_start(ap, err);
    for (const char *s; (s = va_arg(ap, const char *)) && n < 16; n++) {
        copies[n] = strdup(s);
        char *const eq = strchr(copies[n], '=');
        MUST(eq);
        *eq = '\0';
        settings[n] = (struct plt_setting){copies[n], eq + 1};
    }
    va_end(ap);
    struct plt_open_args args = {.struct_size = sizeof(args),
                                 .flags = flags,
                                 .host = &h->host,
                                 .child = child,
                                 .io = memhost_io(),
                                 .settings = settings,
                                 .n_settings = n,
                                 .fd = -1};
    memset(args.child_id, 0x5a, sizeof(args.child_id));
    *opened = (struct plt_opened){.struct_size = sizeof(*opened)};
    const enum plt_status st = driver->open(&args, image, opened, err);
    for (size_t i = 0; i < n; i++)
        free(copies[i]);
    return st;
}

enum plt_status memhost_read(const struct plt_driver *driver, void *image,
                             void *buf, uint64_t off, size_t len,
                             struct plt_error *err)
{
    const struct plt_seg seg = {off, len, buf};
    return driver->read(image, memhost_io(), &seg, 1, err);
}

/* Where lent bytes are copied to. */
struct borrower {
    uint8_t *buf;
    size_t left;
    unsigned stop; /* after so many pieces; 0: never */
};

static bool borrow(void *cookie, const void *data, size_t len,
                   struct plt_block *block)
{
    struct borrower *const b = (struct borrower *)cookie;
    struct bentry *const e = (struct bentry *)block;
    const uint8_t *const from = data;

    MUST(len > 0 && len <= b->left && !data == !block);
    MUST(!block ||
         (from >= block->data && from + len <= block->data + block->len));
    if (block)
        memcpy(b->buf, data, len);
    else
        memset(b->buf, 0, len);
    b->buf += len;
    b->left -= len;
    if (e && e->host) {
        release(&e->host->host, block);
    } else if (e) {
        free(block->data);
        free(e);
    }
    return !b->stop || --b->stop;
}

enum plt_status memhost_lend(const struct plt_driver *driver, void *image,
                             void *buf, uint64_t off, size_t len)
{
    struct plt_io io;
    struct borrower all = {buf, len, 0}, one = {buf, len, 1};

    memhost_io_init(&io, PLT_IO_NOWAIT, 0);
    if (!driver->lend)
        return PLT_AGAIN;
    /* Who says stop after the first piece has it, and nothing of it leaks. */
    (void)driver->lend(image, &io, off, len, borrow, &one);
    const enum plt_status st = driver->lend(image, &io, off, len, borrow, &all);
    MUST(st == PLT_OK ? all.left == 0 : st == PLT_AGAIN);
    return st;
}

struct json {
    struct plt_info info; /* first */
    FILE *out;
    char closers[32];
    unsigned depth;
    bool is_first;
};

static void json_key(struct json *j, const char *key)
{
    if (!j->is_first)
        fputc(',', j->out);
    j->is_first = false;
    if (key)
        fprintf(j->out, "\"%s\":", key);
}

static void json_text(struct plt_info *info, const char *key, const char *value)
{
    struct json *const j = (struct json *)info;
    json_key(j, key);
    fputc('"', j->out);
    for (; *value; value++) {
        const unsigned char c = (unsigned char)*value;
        if (c < 32 || c > 126 || c == '"' || c == '\\')
            fprintf(j->out, "\\u%04x", c);
        else
            fputc(c, j->out);
    }
    fputc('"', j->out);
}

static void json_number(struct plt_info *info, const char *key, uint64_t value)
{
    json_key((struct json *)info, key);
    fprintf(((struct json *)info)->out, "%llu", (unsigned long long)value);
}

static void json_boolean(struct plt_info *info, const char *key, bool value)
{
    json_key((struct json *)info, key);
    fputs(value ? "true" : "false", ((struct json *)info)->out);
}

static void json_open(struct plt_info *info, const char *key, char open,
                      char close)
{
    struct json *const j = (struct json *)info;
    json_key(j, key);
    MUST(j->depth < sizeof(j->closers));
    fputc(open, j->out);
    j->closers[j->depth++] = close;
    j->is_first = true;
}

static void json_object(struct plt_info *info, const char *key)
{
    json_open(info, key, '{', '}');
}

static void json_array(struct plt_info *info, const char *key)
{
    json_open(info, key, '[', ']');
}

static void json_end(struct plt_info *info)
{
    struct json *const j = (struct json *)info;
    MUST(j->depth > 0);
    fputc(j->closers[--j->depth], j->out);
    j->is_first = false;
}

char *memhost_info(const struct plt_driver *driver, void *image)
{
    char *text = NULL;
    size_t size = 0;
    struct json j = {.info = {.struct_size = sizeof(j.info),
                              .text = json_text,
                              .number = json_number,
                              .boolean = json_boolean,
                              .object_begin = json_object,
                              .array_begin = json_array,
                              .end = json_end},
                     .is_first = true};
    j.out = open_memstream(&text, &size);
    MUST(j.out);
    fputc('{', j.out);
    driver->info(image, &j.info);
    MUST(j.depth == 0);
    fputc('}', j.out);
    fclose(j.out);
    return text;
}
