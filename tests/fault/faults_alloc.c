/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations: whose they are is told by the address that they return to. */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "faults.h"

enum {
    OURS = 1,
    LIBRARY = 2,
    LIBC = 4,
    OPENSSL = 8, /* does not survive it in its own start */
    MAX_RANGES = 512,
    BUCKETS = 1 << 14,
    BLOCKS = 1 << 20
};

FAULTS_EXPORT void *malloc(size_t len);
FAULTS_EXPORT void *calloc(size_t n, size_t len);
FAULTS_EXPORT void *realloc(void *p, size_t len);
FAULTS_EXPORT void free(void *p);
FAULTS_EXPORT char *strdup(const char *s);
FAULTS_EXPORT char *strndup(const char *s, size_t n);

extern void *__libc_malloc(size_t len);
extern void *__libc_calloc(size_t n, size_t len);
extern void *__libc_realloc(void *p, size_t len);
extern void __libc_free(void *p);

/* ---- Whose ---- */

static struct {
    uintptr_t begin, end, base;
    unsigned who;
    char name[32];
} ranges[MAX_RANGES];
static _Atomic unsigned n_ranges;
static atomic_flag is_looking = ATOMIC_FLAG_INIT;

static unsigned who_is(const char *path)
{
    const char *const slash = strrchr(path, '/');
    const char *const name = slash ? slash + 1 : path;

    if (!*path || strncmp(name, "platter", 7) == 0 ||
        strstr(path, "/plugins.d/") || strstr(path, "/drivers/"))
        return OURS;
    if (strncmp(name, "ld-linux", 8) == 0 || strncmp(name, "faults", 6) == 0 ||
        strncmp(name, "linux-vdso", 10) == 0)
        return 0;
    if (strncmp(name, "libcrypto", 9) == 0 || strncmp(name, "libssl", 6) == 0)
        return OPENSSL;
    return strncmp(name, "libc.so", 7) == 0 ? LIBC : LIBRARY;
}

static int add_module(struct dl_phdr_info *info, size_t size, void *cookie)
{
    (void)size;
    (void)cookie;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *const h = &info->dlpi_phdr[i];
        const uintptr_t begin = info->dlpi_addr + h->p_vaddr;
        unsigned n = atomic_load(&n_ranges), k = 0;
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X) || n == MAX_RANGES)
            continue;
        while (k < n && ranges[k].begin != begin)
            k++;
        if (k < n)
            continue;
        const char *const slash = strrchr(info->dlpi_name, '/');
        ranges[n].begin = begin;
        ranges[n].end = begin + h->p_memsz;
        ranges[n].base = info->dlpi_addr;
        ranges[n].who = who_is(info->dlpi_name);
        (void)snprintf(ranges[n].name, sizeof(ranges[n].name), "%s",
                       slash ? slash + 1 : info->dlpi_name);
        atomic_store(&n_ranges, n + 1);
    }
    return 0;
}

static int range_of(uintptr_t at)
{
    for (int pass = 0; pass < 2; pass++) {
        const unsigned n = atomic_load(&n_ranges);
        for (unsigned i = 0; i < n; i++)
            if (at >= ranges[i].begin && at < ranges[i].end)
                return (int)i;
        if (atomic_flag_test_and_set(&is_looking))
            return -1;
        (void)dl_iterate_phdr(add_module, NULL);
        atomic_flag_clear(&is_looking);
    }
    return -1;
}

static unsigned whose(uintptr_t at)
{
    const int i = range_of(at);
    return i < 0 ? 0 : ranges[i].who;
}

/* ---- Which are live ---- */

struct block {
    void *p;
    uintptr_t at; /* the caller */
    size_t len;
    struct block *next;
};
static struct block *buckets[BUCKETS];
static atomic_flag bucket_lock[BUCKETS];
static struct block *blocks; /* a pool that is not given back */
static _Atomic unsigned n_blocks;
static struct block *_Atomic spare;
static atomic_flag spare_lock = ATOMIC_FLAG_INIT;

static void hold(atomic_flag *flag)
{
    while (atomic_flag_test_and_set_explicit(flag, memory_order_acquire))
        ;
}

static void let(atomic_flag *flag)
{
    atomic_flag_clear_explicit(flag, memory_order_release);
}

static unsigned bucket_of(const void *p)
{
    return (unsigned)(((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15U >> 50);
}

static struct block *new_block(void)
{
    hold(&spare_lock);
    struct block *b = spare;
    if (b)
        spare = b->next;
    if (!blocks) {
        blocks = mmap(NULL, sizeof(*blocks) * BLOCKS, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (blocks == MAP_FAILED)
            _exit(120);
    }
    if (!b && n_blocks < BLOCKS)
        b = &blocks[n_blocks++];
    let(&spare_lock);
    if (!b)
        _exit(121);
    return b;
}

static void born(void *p, size_t len, uintptr_t at)
{
    if (!p)
        return;
    const unsigned k = bucket_of(p);
    struct block *const b = new_block();

    *b = (struct block){.p = p, .at = at, .len = len};
    hold(&bucket_lock[k]);
    b->next = buckets[k];
    buckets[k] = b;
    let(&bucket_lock[k]);
    atomic_fetch_add(&faults->live_blocks, 1);
    atomic_fetch_add(&faults->live_bytes, len);
}

static void died(const void *p)
{
    if (!p)
        return;
    const unsigned k = bucket_of(p);

    hold(&bucket_lock[k]);
    struct block **at = &buckets[k], *b;
    while ((b = *at) && b->p != p)
        at = &b->next;
    if (b)
        *at = b->next;
    let(&bucket_lock[k]);
    if (!b)
        return;
    atomic_fetch_sub(&faults->live_blocks, 1);
    atomic_fetch_sub(&faults->live_bytes, b->len);
    hold(&spare_lock);
    b->next = spare;
    spare = b;
    let(&spare_lock);
}

void faults_report(int fd)
{
    static struct {
        uintptr_t at;
        size_t n, bytes;
    } rows[4096];
    size_t n = 0;

    for (unsigned k = 0; k < BUCKETS; k++)
        for (const struct block *b = buckets[k]; b; b = b->next) {
            size_t i = 0;
            while (i < n && rows[i].at != b->at)
                i++;
            if (i == n && n < sizeof(rows) / sizeof(rows[0]))
                rows[n++].at = b->at;
            if (i < n) {
                rows[i].n++;
                rows[i].bytes += b->len;
            }
        }
    for (size_t i = 0; i < n; i++) {
        const int r = range_of(rows[i].at);
        (void)dprintf(
            fd, "%zu %zu %s+%#lx\n", rows[i].n, rows[i].bytes,
            r < 0 ? "?" : ranges[r].name,
            (unsigned long)(rows[i].at - (r < 0 ? 0 : ranges[r].base)));
    }
}

/* ---- The calls ---- */

/* Shall this one fail? */
static bool fails(unsigned who)
{
    if (!(atomic_load(&faults->alloc_who) & who))
        return false;
    atomic_fetch_add(&faults->did_seen, 1);
    uint64_t left = atomic_load(&faults->alloc_left);
    while (left &&
           !atomic_compare_exchange_weak(&faults->alloc_left, &left, left - 1))
        ;
    if (left != 1 && !faults_hit(atomic_load(&faults->alloc_rate), 1000000))
        return false;
    atomic_fetch_add(&faults->did_alloc, 1);
    errno = ENOMEM;
    return true;
}

#define CALLER ((uintptr_t)__builtin_return_address(0))

static void *make(size_t len, uintptr_t at)
{
    const unsigned who = whose(at);

    if (fails(who))
        return NULL;
    void *const p = __libc_malloc(len);
    if (who == OURS)
        born(p, len, at);
    return p;
}

void *malloc(size_t len)
{
    return make(len, CALLER);
}

void *calloc(size_t n, size_t len)
{
    const uintptr_t at = CALLER;
    const unsigned who = whose(at);

    if (fails(who))
        return NULL;
    void *const p = __libc_calloc(n, len);
    if (who == OURS)
        born(p, n * len, at);
    return p;
}

void *realloc(void *p, size_t len)
{
    const uintptr_t at = CALLER;
    const unsigned who = whose(at);

    if (len && fails(who))
        return NULL;
    died(p);
    void *const q = __libc_realloc(p, len);
    if (who == OURS)
        born(q, len, at);
    return q;
}

void free(void *p)
{
    const int was = errno;
    died(p);
    __libc_free(p);
    errno = was;
}

char *strndup(const char *s, size_t n)
{
    const size_t len = strnlen(s, n);
    char *const p = make(len + 1, CALLER);
    if (p) {
        memcpy(p, s, len);
        p[len] = '\0';
    }
    return p;
}

char *strdup(const char *s)
{
    const size_t len = strlen(s) + 1;
    char *const p = make(len, CALLER);
    return p ? memcpy(p, s, len) : NULL;
}
