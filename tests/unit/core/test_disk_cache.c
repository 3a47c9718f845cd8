/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache by its contract: what it gives back is what was put in, or
 * nothing; never longer than its limit; whatever happens to its files. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/disk_cache.h"
#include "util/log.h"

enum { BLOCK = 64 * 1024 };
#define LIMIT DISK_CACHE_LEAST
#define BUDGET (UINT64_C(32) << 20)

static int no_nftw(const char *path, const struct stat *sb, int type,
                   struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* A folder, its cache, and the memory above it. */
struct rig {
    char path[64];
    int dir, log;
    struct cache *cache;
    struct disk_cache *dc;
};

static void rig_open(struct rig *r)
{
    r->cache = cache_new(BUDGET);
    r->dc = disk_cache_open(&(struct disk_cache_config){
        .cache = r->cache, .dir = r->dir, .limit = LIMIT, .epoch = 1});
}

static struct rig rig_at(const char *base)
{
    struct rig r = {.log = -1};
    char log[] = "/tmp/platter-log-XXXXXX";

    snprintf(r.path, sizeof(r.path), "%s/platter-dc-XXXXXX", base);
    cr_assert(mkdtemp(r.path));
    r.log = mkstemp(log);
    cr_assert(unlink(log) == 0);
    log_set_fd(r.log);
    r.dir = open(r.path, O_RDONLY | O_DIRECTORY);
    rig_open(&r);
    return r;
}

static void rig_close(struct rig *r)
{
    disk_cache_close(r->dc);
    cache_free(r->cache);
    r->dc = NULL;
    r->cache = NULL;
}

static void rig_again(struct rig *r)
{
    rig_close(r);
    rig_open(r);
}

static void rig_end(struct rig *r)
{
    if (r->cache)
        rig_close(r);
    close(r->dir);
    close(r->log);
    nftw(r->path, no_nftw, 8, FTW_DEPTH | FTW_PHYS);
}

static unsigned log_lines(const struct rig *r, const char *what)
{
    char text[8192];
    const ssize_t n = pread(r->log, text, sizeof(text) - 1, 0);
    unsigned found = 0;

    text[n > 0 ? n : 0] = '\0';
    for (const char *p = text; (p = strstr(p, what)); p++)
        found++;
    return found;
}

static struct disk_name name(uint64_t layer, uint64_t key)
{
    struct disk_name n = {.key = key};
    for (size_t i = 0; i < sizeof(n.id); i++)
        n.id[i] =
            (uint8_t)((layer + 1) * 0x9e3779b97f4a7c15ULL >> (i % 8 * 8)) ^
            (uint8_t)i;
    return n;
}

/* What a block holds follows from its name. */
static void pattern(uint8_t *out, size_t len, uint64_t layer, uint64_t key)
{
    uint64_t x = layer * 1000003 + key + 88172645463325252ULL;
    for (size_t i = 0; i < len; i++) {
        if (i % 8 == 0) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        out[i] = (uint8_t)(x >> i % 8 * 8);
    }
}

/* Through memory, as the stack does it; offered `times`. */
static void put_times(struct rig *r, uint64_t layer, uint64_t key, size_t len,
                      unsigned times)
{
    const struct disk_name n = name(layer, key);
    struct plt_block *b;
    const enum plt_claim c =
        cache_claim(r->cache, layer + 1, key, len, false, &b);

    if (c == PLT_CLAIM_PENDING)
        cache_unref(r->cache, b);
    if (c == PLT_CLAIM_PENDING || c == PLT_CLAIM_FULL)
        return; /* others are at it */
    if (c == PLT_CLAIM_FILL) {
        pattern(b->data, len, layer, key);
        cache_commit(r->cache, b);
    }
    for (unsigned i = 0; i < times; i++)
        disk_cache_offer(r->dc, &n, b);
    cache_unref(r->cache, b);
}

static void put(struct rig *r, uint64_t layer, uint64_t key, size_t len)
{
    put_times(r, layer, key, len, 1);
    if (key % 16 == 15)
        disk_cache_settle(r->dc);
}

/* There, and right; wrong bytes end the test. */
static bool has(struct rig *r, uint64_t layer, uint64_t key, size_t len)
{
    static _Thread_local uint8_t got[DISK_BLOCK_MOST], want[DISK_BLOCK_MOST];
    const struct disk_name n = name(layer, key);

    if (!disk_cache_get(r->dc, &n, got, len))
        return false;
    pattern(want, len, layer, key);
    cr_assert(memcmp(got, want, len) == 0, "layer %ju key %ju",
              (uintmax_t)layer, (uintmax_t)key);
    return true;
}

static struct disk_cache_stats stats(struct rig *r)
{
    struct disk_cache_stats s;
    disk_cache_stats(r->dc, &s);
    return s;
}

static uint64_t length_of(const struct rig *r, const char *file)
{
    struct stat sb;
    return fstatat(r->dir, file, &sb, 0) == 0 ? (uint64_t)sb.st_size : 0;
}

static void expect_limit(const struct rig *r)
{
    cr_assert_leq(length_of(r, "disk-cache.data") +
                      length_of(r, "disk-cache.index"),
                  LIMIT);
}

Test(disk_cache, a_block_comes_back_under_its_own_name_and_length_only)
{
    struct rig r = rig_at("/tmp");
    cr_assert(r.dc);
    put(&r, 1, 7, BLOCK);
    put(&r, 1, 8, 1);
    disk_cache_settle(r.dc);
    put(&r, 2, 9, DISK_BLOCK_MOST);
    disk_cache_settle(r.dc);
    cr_assert(has(&r, 1, 7, BLOCK));
    cr_assert(has(&r, 1, 8, 1));
    cr_assert(has(&r, 2, 9, DISK_BLOCK_MOST));
    cr_assert_not(has(&r, 2, 7, BLOCK));
    cr_assert_not(has(&r, 1, 6, BLOCK));
    cr_assert_not(has(&r, 1, 7, BLOCK - 1));
    cr_assert_eq(stats(&r).writes, 3);
    rig_end(&r);
}

Test(disk_cache, what_was_written_is_there_after_reopening_and_not_before_twice)
{
    struct rig r = rig_at("/tmp");
    for (uint64_t k = 0; k < 200; k++)
        put(&r, 1, k, BLOCK);
    rig_again(&r);
    for (uint64_t k = 0; k < 200; k++)
        cr_assert(has(&r, 1, k, BLOCK), "key %ju", (uintmax_t)k);
    for (uint64_t k = 0; k < 200; k++)
        put(&r, 1, k, BLOCK);
    disk_cache_settle(r.dc);
    cr_assert_eq(stats(&r).writes, 0, "it is there already");
    put(&r, 1, 1000, BLOCK);
    disk_cache_settle(r.dc);
    for (uint64_t k = 0; k < 200; k++)
        cr_assert(has(&r, 1, k, BLOCK), "written over by the next one");
    rig_end(&r);
}

Test(disk_cache, goes_round_within_its_limit_and_keeps_what_is_read,
     .timeout = 120)
{
    struct rig r = rig_at("/tmp");
    /* Four times the limit; each is offered twice, so that none is refused. */
    for (uint64_t k = 0; k < 4096; k++) {
        put_times(&r, 1, k, BLOCK, 2);
        if (k % 8 == 7)
            disk_cache_settle(r.dc);
        if (k >= 8) /* eight that are read again and again */
            cr_assert(has(&r, 1, k % 8, BLOCK), "hot %ju at %ju",
                      (uintmax_t)k % 8, (uintmax_t)k);
        if (k % 512 == 0)
            expect_limit(&r);
    }
    disk_cache_settle(r.dc);
    expect_limit(&r);
    unsigned n = 0;
    for (uint64_t k = 0; k < 4096; k++)
        n += has(&r, 1, k, BLOCK);
    cr_assert_gt(n, 600, "%u of about 890 that fit", n);
    const struct disk_cache_stats s = stats(&r);
    cr_assert_leq(s.bytes, LIMIT);
    cr_assert_gt(s.evicted, 3000);
    cr_assert(s.is_on);
    rig_end(&r);
}

Test(disk_cache, a_scan_does_not_push_out_what_is_there, .timeout = 120)
{
    struct rig r = rig_at("/tmp");
    for (uint64_t k = 0; k < 885; k++)
        put(&r, 1, k, BLOCK);
    disk_cache_settle(r.dc);
    rig_again(&r); /* it knows by then that it is full */
    unsigned before = 0, after = 0;
    for (uint64_t k = 0; k < 885; k++)
        before +=
            disk_cache_may_have(r.dc, &(struct disk_name[]){name(1, k)}[0]);
    const uint64_t writes = stats(&r).writes;
    for (uint64_t k = 0; k < 8192; k++)
        put(&r, 2, k, BLOCK);
    disk_cache_settle(r.dc);
    for (uint64_t k = 0; k < 885; k++)
        after += has(&r, 1, k, BLOCK);
    cr_assert_gt(before, 860, "%u, %ju written, %ju dropped, %ju evicted",
                 before, (uintmax_t)stats(&r).writes,
                 (uintmax_t)stats(&r).dropped, (uintmax_t)stats(&r).evicted);
    cr_assert_eq(after, before, "%u of %u are left, %ju written, %ju refused",
                 after, before, (uintmax_t)(stats(&r).writes - writes),
                 (uintmax_t)stats(&r).refused);
    /* What fills the last segment is taken, and a few that look like a block
     * that was refused. */
    cr_assert_lt(stats(&r).writes - writes, 200);
    cr_assert_gt(stats(&r).refused, 8000);
    /* The same once more is no scan any more. */
    for (uint64_t k = 8000; k < 8192; k++)
        put(&r, 2, k, BLOCK);
    disk_cache_settle(r.dc);
    unsigned taken = 0;
    for (uint64_t k = 8000; k < 8192; k++)
        taken += has(&r, 2, k, BLOCK);
    cr_assert_gt(taken, 150, "%u", taken);
    rig_end(&r);
}

Test(disk_cache, what_memory_keeps_is_written_though_it_was_refused)
{
    struct rig r = rig_at("/tmp");
    for (uint64_t k = 0; k < 900; k++)
        put(&r, 1, k, BLOCK);
    disk_cache_settle(r.dc);
    put(&r, 3, 5, BLOCK);
    disk_cache_settle(r.dc);
    cr_assert_not(has(&r, 3, 5, BLOCK));
    struct plt_block *b;
    cr_assert_eq(cache_claim(r.cache, 4, 5, BLOCK, true, &b), PLT_CLAIM_HIT);
    const struct disk_name n = name(3, 5);
    disk_cache_again(r.dc, &n, b);
    cache_unref(r.cache, b);
    disk_cache_settle(r.dc);
    cr_assert(has(&r, 3, 5, BLOCK));
    rig_end(&r);
}

/* Change the file while nobody has it open. */
static void scribble(const struct rig *r, const char *file, uint64_t at,
                     const void *data, size_t len)
{
    const int fd = openat(r->dir, file, O_WRONLY);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, data, len, (off_t)at), (ssize_t)len);
    close(fd);
}

Test(disk_cache, every_byte_of_a_record_that_is_flipped_is_a_miss)
{
    enum { LEN = 100 };
    struct rig r = rig_at("/tmp");
    put(&r, 1, 1, LEN);
    put(&r, 1, 2, LEN);
    disk_cache_settle(r.dc);
    const int fd = openat(r.dir, "disk-cache.data", O_RDWR);
    for (unsigned at = 0; at < DISK_RECORD_HEAD + LEN; at++) {
        for (unsigned bit = 0; bit < 8; bit += 7) {
            uint8_t was, now;
            cr_assert_eq(pread(fd, &was, 1, DISK_SEGMENT_HEAD + at), 1);
            now = was ^ (uint8_t)(1U << bit);
            cr_assert_eq(pwrite(fd, &now, 1, DISK_SEGMENT_HEAD + at), 1);
            cr_assert_not(has(&r, 1, 1, LEN), "byte %u", at);
            cr_assert_eq(pwrite(fd, &was, 1, DISK_SEGMENT_HEAD + at), 1);
            /* It was forgotten; put there again, behind. */
            cr_assert_not(has(&r, 1, 1, LEN), "byte %u", at);
            rig_again(&r); /* the newest segment's records are found again */
            cr_assert(has(&r, 1, 1, LEN), "byte %u", at);
        }
    }
    cr_assert(has(&r, 1, 2, LEN));
    close(fd);
    rig_end(&r);
}

Test(disk_cache, scribbled_and_truncated_files_give_right_bytes_or_none,
     .timeout = 200)
{
    uint8_t junk[5000];
    unsigned left = 0;
    srand(4);
    for (unsigned round = 0; round < 60; round++) {
        struct rig r = rig_at("/tmp");
        for (uint64_t k = 0; k < 150; k++)
            put(&r, 1, k, BLOCK / 4);
        rig_close(&r);
        const char *const file =
            round % 2 ? "disk-cache.data" : "disk-cache.index";
        const uint64_t size = round % 2 ? 150 * BLOCK / 4 : length_of(&r, file);
        if (round % 3 == 2) {
            const int fd = openat(r.dir, file, O_WRONLY);
            cr_assert_eq(ftruncate(fd, rand() % (off_t)size), 0);
            close(fd);
        }
        for (unsigned i = 0; i < 6 && round % 3 != 2; i++) {
            for (size_t k = 0; k < sizeof(junk); k++)
                junk[k] = (uint8_t)rand();
            scribble(&r, file,
                     /* the index's heads too, now and then */
                     (uint64_t)rand() %
                         (round % 4 == 0 && size > 9000 ? 9000 : size),
                     junk, 1 + (size_t)rand() % sizeof(junk));
        }
        rig_open(&r);
        cr_assert(r.dc, "round %u", round);
        for (uint64_t k = 0; k < 150; k++)
            left += has(&r, 1, k, BLOCK / 4);
        /* It goes on behind the last record that it could follow; what lies
         * behind that one is written over, one by one at worst, and written
         * again in turn. */
        unsigned missing = 1;
        for (unsigned pass = 0; missing && pass < 160; pass++) {
            missing = 0;
            for (uint64_t k = 0; k < 150; k++) {
                if (!has(&r, 1, k, BLOCK / 4)) {
                    missing++;
                    put(&r, 1, k, BLOCK / 4);
                }
            }
            disk_cache_settle(r.dc);
        }
        cr_assert_eq(missing, 0, "round %u", round);
        expect_limit(&r);
        rig_end(&r);
    }
    cr_assert_gt(left, 60 * 150 / 3, "%u", left);
}

Test(disk_cache, a_record_in_an_image_is_not_taken_for_one_of_ours)
{
    struct rig r = rig_at("/tmp");
    uint8_t whole[DISK_RECORD_HEAD + 100];
    put(&r, 1, 1, 100);
    disk_cache_settle(r.dc);
    int fd = openat(r.dir, "disk-cache.data", O_RDWR);
    cr_assert_eq(pread(fd, whole, sizeof(whole), DISK_SEGMENT_HEAD),
                 (ssize_t)sizeof(whole));
    close(fd);
    rig_end(&r);
    /* The same record in another cache's file, at the place that a slot of it
     * leads to: the secret is another. */
    r = rig_at("/tmp");
    put(&r, 1, 1, 100);
    disk_cache_settle(r.dc);
    scribble(&r, "disk-cache.data", DISK_SEGMENT_HEAD, whole, sizeof(whole));
    cr_assert_not(has(&r, 1, 1, 100));
    rig_end(&r);
}

/* Writes and looks until it is killed. */
static void child(const char *path, unsigned seed)
{
    struct rig r = {.log = open("/dev/null", O_WRONLY)};
    log_set_fd(r.log);
    r.dir = open(path, O_RDONLY | O_DIRECTORY);
    rig_open(&r);
    srand(seed);
    for (;;) {
        const uint64_t k = (uint64_t)rand() % 3000;
        put_times(&r, 1, k, BLOCK / (1 + k % 5), 2);
        (void)has(&r, 1, (uint64_t)rand() % 3000, BLOCK);
    }
}

Test(disk_cache, killed_at_any_moment_every_hit_is_right, .timeout = 200)
{
    struct rig r = rig_at("/tmp");
    unsigned found = 0;
    rig_close(&r);
    for (unsigned round = 0; round < 40; round++) {
        const pid_t pid = fork();
        if (pid == 0)
            child(r.path, round);
        usleep(20000 + round * 7919 % 400000);
        kill(pid, SIGKILL);
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "it ended by itself: %x", status);
        expect_limit(&r);
        rig_open(&r);
        cr_assert(r.dc);
        unsigned now = 0;
        for (uint64_t k = 0; k < 3000; k++)
            now += has(&r, 1, k, BLOCK / (1 + k % 5));
        found += now;
        rig_close(&r);
    }
    cr_assert_gt(found, 2000, "%u", found);
    rig_end(&r);
}

Test(disk_cache, a_second_process_goes_without)
{
    struct rig r = rig_at("/tmp"), other = r;
    put(&r, 1, 1, BLOCK);
    other.cache = cache_new(BUDGET);
    other.dc = disk_cache_open(&(struct disk_cache_config){
        .cache = other.cache, .dir = r.dir, .limit = LIMIT, .epoch = 1});
    cr_assert_null(other.dc);
    cr_assert_eq(log_lines(&r, "event=disk_cache_off"), 1);
    cr_assert_eq(log_lines(&r, "another process"), 1);
    cache_free(other.cache);
    disk_cache_settle(r.dc);
    cr_assert(has(&r, 1, 1, BLOCK));
    rig_end(&r);
}

Test(disk_cache, another_epoch_another_limit_and_no_folder)
{
    struct rig r = rig_at("/tmp");
    put(&r, 1, 1, BLOCK);
    rig_close(&r);
    r.cache = cache_new(BUDGET);
    r.dc = disk_cache_open(&(struct disk_cache_config){
        .cache = r.cache, .dir = r.dir, .limit = LIMIT, .epoch = 2});
    cr_assert_not(has(&r, 1, 1, BLOCK));
    put(&r, 1, 1, BLOCK);
    rig_close(&r);
    r.cache = cache_new(BUDGET);
    cr_assert_null(disk_cache_open(&(struct disk_cache_config){
        .cache = r.cache, .dir = -1, .limit = LIMIT, .epoch = 2}));
    /* The index takes 40 KiB; others get half of the budget. */
    cache_free(r.cache);
    r.cache = cache_new(64 << 10);
    cr_assert_null(disk_cache_open(&(struct disk_cache_config){
        .cache = r.cache, .dir = r.dir, .limit = LIMIT, .epoch = 2}));
    cr_assert_eq(log_lines(&r, "event=disk_cache_off"), 2);
    rig_end(&r);
}

Test(disk_cache, a_smaller_limit_cuts_off_what_is_too_much)
{
    struct rig r = rig_at("/tmp");
    rig_close(&r);
    r.cache = cache_new(BUDGET);
    r.dc =
        disk_cache_open(&(struct disk_cache_config){.cache = r.cache,
                                                    .dir = r.dir,
                                                    .limit = LIMIT + (32 << 20),
                                                    .epoch = 1});
    for (uint64_t k = 0; k < 1300; k++)
        put(&r, 1, k, BLOCK);
    disk_cache_settle(r.dc);
    cr_assert_gt(length_of(&r, "disk-cache.data"), LIMIT);
    rig_again(&r);
    expect_limit(&r);
    unsigned n = 0;
    for (uint64_t k = 0; k < 1300; k++)
        n += has(&r, 1, k, BLOCK);
    cr_assert(n > 600 && n < 1000, "%u", n);
    put(&r, 1, 5000, 512);
    put_times(&r, 1, 5001, 512, 2);
    disk_cache_settle(r.dc);
    cr_assert(has(&r, 1, 5001, 512));
    expect_limit(&r);
    rig_end(&r);
}

Test(disk_cache, a_source_that_changes_under_its_validator_is_barred_for_good)
{
    struct rig r = rig_at("/tmp");
    const struct disk_name n = name(1, 0);
    cr_assert(disk_cache_admits(r.dc, n.id));
    cr_assert(disk_cache_admits(r.dc, n.id), "opened twice");
    disk_cache_changed(r.dc, n.id);
    cr_assert_not(disk_cache_admits(r.dc, n.id));
    rig_again(&r);
    cr_assert_not(disk_cache_admits(r.dc, n.id));
    for (uint64_t i = 2; i < 400 && stats(&r).is_on; i++) {
        const struct disk_name other = name(i, 0);
        cr_assert(disk_cache_admits(r.dc, other.id));
        disk_cache_changed(r.dc, other.id);
        cr_assert_not(disk_cache_admits(r.dc, other.id));
    }
    /* Too many: off, and empty the next time. */
    cr_assert_not(stats(&r).is_on);
    rig_close(&r);
    rig_open(&r);
    cr_assert(disk_cache_admits(r.dc, n.id));
    rig_end(&r);
}

Test(disk_cache, a_full_disk_turns_it_off_with_one_line)
{
    struct rig r = {.dir = -1};
    char path[] = "/tmp/platter-full-XXXXXX";
    cr_assert(mkdtemp(path));
    if (mount("none", path, "tmpfs", 0, "size=20m") != 0) {
        rmdir(path);
        cr_skip("mounting needs root");
    }
    r = rig_at(path);
    cr_assert(r.dc);
    for (uint64_t k = 0; k < 1000; k++)
        put(&r, 1, k, BLOCK);
    disk_cache_settle(r.dc);
    cr_assert_not(stats(&r).is_on);
    cr_assert_eq(log_lines(&r, "event=disk_cache_off"), 1);
    cr_assert_eq(log_lines(&r, "No space left"), 1);
    cr_assert_not(has(&r, 1, 1, BLOCK));
    rig_end(&r);
    cr_assert_eq(umount(path), 0);
    rmdir(path);
}

Test(disk_cache, a_file_that_may_not_grow_turns_it_off)
{
    struct rig r = rig_at("/tmp");
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit most = {12 << 20, 12 << 20};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &most), 0);
    for (uint64_t k = 0; k < 300; k++)
        put(&r, 1, k, BLOCK);
    disk_cache_settle(r.dc);
    cr_assert_not(stats(&r).is_on);
    cr_assert_eq(log_lines(&r, "event=disk_cache_off"), 1);
    rig_end(&r);
}

/* The descriptor that has this file. */
static int fd_of(const char *file)
{
    for (int fd = 3; fd < 64; fd++) {
        char link[32], to[256];
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        const ssize_t n = readlink(link, to, sizeof(to) - 1);
        to[n > 0 ? n : 0] = '\0';
        if (n > 0 && strstr(to, file))
            return fd;
    }
    return -1;
}

Test(disk_cache, a_disk_that_fails_to_read_turns_it_off)
{
    struct rig r = rig_at("/tmp");
    put(&r, 1, 1, BLOCK);
    disk_cache_settle(r.dc);
    /* A descriptor that answers every read with an error. */
    const int bad = open("/dev/null", O_WRONLY), fd = fd_of("disk-cache.data");
    cr_assert(fd >= 0 && bad >= 0);
    cr_assert_eq(dup2(bad, fd), fd);
    cr_assert_not(has(&r, 1, 1, BLOCK));
    cr_assert_not(stats(&r).is_on);
    cr_assert_not(has(&r, 1, 1, BLOCK));
    cr_assert_eq(log_lines(&r, "event=disk_cache_off"), 1);
    close(bad);
    rig_end(&r);
}

Test(disk_cache, files_that_are_deleted_turn_it_off_and_are_made_anew)
{
    struct rig r = rig_at("/tmp");
    put(&r, 1, 1, BLOCK);
    disk_cache_settle(r.dc);
    cr_assert_eq(unlinkat(r.dir, "disk-cache.data", 0), 0);
    for (unsigned i = 0; i < 50 && stats(&r).is_on; i++)
        usleep(100000);
    cr_assert_not(stats(&r).is_on);
    cr_assert_eq(log_lines(&r, "deleted"), 1);
    rig_again(&r);
    cr_assert_not(has(&r, 1, 1, BLOCK));
    put(&r, 1, 1, BLOCK);
    disk_cache_settle(r.dc);
    cr_assert(has(&r, 1, 1, BLOCK));
    rig_end(&r);
}

/* ---- Many at once ---- */

static atomic_bool is_over;

static void *churn(void *arg)
{
    struct rig *const r = (struct rig *)arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    unsigned long hits = 0;

    while (!atomic_load(&is_over)) {
        const uint64_t k = (uint64_t)rand_r(&seed) % 1500;
        const size_t len = BLOCK / (1 + k % 3);
        if (has(r, 1, k, len))
            hits++;
        else
            put_times(r, 1, k, len, 2);
        struct plt_block *b;
        if (cache_claim(r->cache, 2, k, len, true, &b) == PLT_CLAIM_HIT) {
            const struct disk_name n = name(1, k);
            if (cache_block_is_kept(b))
                disk_cache_again(r->dc, &n, b);
            cache_unref(r->cache, b);
        } else if (b) {
            cache_unref(r->cache, b);
        }
        if (k == 0) {
            const struct disk_name n = name(9, k);
            (void)disk_cache_admits(r->dc, n.id);
            disk_cache_changed(r->dc, n.id);
        }
    }
    return (void *)hits;
}

Test(disk_cache, many_threads_get_right_bytes_while_segments_go_round,
     .timeout = 120)
{
    struct rig r = rig_at("/tmp");
    pthread_t t[6];
    unsigned long hits = 0;
    atomic_store(&is_over, false);
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(pthread_create(&t[i], NULL, churn, &r), 0);
    /* A slow disk takes longer until the first segment goes. */
    sleep(6);
    for (unsigned i = 0; i < 60 && !stats(&r).evicted; i++)
        sleep(1);
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < 6; i++) {
        void *n;
        pthread_join(t[i], &n);
        hits += (unsigned long)n;
    }
    const struct disk_cache_stats s = stats(&r);
    cr_assert_gt(hits, 100, "%lu", hits);
    cr_assert(s.is_on);
    cr_assert_gt(s.evicted, 0);
    expect_limit(&r);
    rig_end(&r);
}
