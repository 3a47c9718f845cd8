/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache as a whole, opened over files that were changed: heads, the
 * list of barred layers, slots, records.
 *
 * The first byte of an input says (1) whether the checksums of the index's head
 * and list are made right afterwards; changes follow (fuzz_changes.h), an odd
 * first byte is for the index.  Whatever the files hold: it opens, gives back
 * what was put in or nothing, lets no barred layer in, and takes and gives new
 * blocks. */
#include <stdbool.h>
#include <zlib.h>

#include "cache/disk_cache.h"
#include "fuzz_changes.h"
#include "fuzz_scratch.h"
#include "util/log.h"

enum {
    SEAL = 1,
    PAGE = 4096,
    BUDGET = 16 << 20,
    BLOCKS = 12,
    DATA = 256 << 10, /* as much of the data file as they take */
    INDEX = 64 << 10
};

static uint8_t data_made[DATA], index_made[INDEX];
static size_t data_len, index_len;
static int dir;

static struct disk_name name_of(unsigned i)
{
    struct disk_name name = {.key = i};
    memset(name.id, (int)i / 4 + 1, sizeof(name.id));
    return name;
}

static size_t bytes_of(unsigned i, uint8_t *out)
{
    const size_t len = i * 1511 % 16384 + 1;

    for (size_t k = 0; k < len; k++)
        out[k] = (uint8_t)(i * 31 + k * 7 + k / 251);
    return len;
}

static struct disk_cache *start(struct cache **cache)
{
    *cache = cache_new(BUDGET);
    MUST(*cache);
    return disk_cache_open(&(struct disk_cache_config){
        .cache = *cache, .dir = dir, .limit = DISK_CACHE_LEAST, .epoch = 1});
}

static void stop(struct cache *cache, struct disk_cache *dc)
{
    disk_cache_close(dc);
    cache_free(cache);
}

static void put(struct cache *cache, struct disk_cache *dc, unsigned i)
{
    uint8_t bytes[16384];
    const struct disk_name name = name_of(i);
    const size_t len = bytes_of(i, bytes);
    struct plt_block *b = NULL;

    MUST(cache_claim(cache, 1, i, len, false, &b) == PLT_CLAIM_FILL);
    memcpy(b->data, bytes, len);
    cache_commit(cache, b);
    disk_cache_offer(dc, &name, b);
    cache_unref(cache, b);
}

static bool has(struct disk_cache *dc, unsigned i)
{
    uint8_t bytes[16384], got[16384];
    const struct disk_name name = name_of(i);
    const size_t len = bytes_of(i, bytes);
    const bool is_there = disk_cache_get(dc, &name, got, len);

    MUST(!is_there || memcmp(bytes, got, len) == 0);
    return is_there;
}

static size_t read_file(const char *name, uint8_t *out, size_t cap)
{
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0);
    const ssize_t n = read(fd, out, cap);
    MUST(n > 0 && close(fd) == 0);
    return (size_t)n;
}

static void write_file(const char *name, const uint8_t *bytes, size_t len)
{
    const int fd =
        openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0 && write(fd, bytes, len) == (ssize_t)len && close(fd) == 0);
}

static void set_up(void)
{
    struct cache *cache;

    if (!scratch_make())
        return;
    const int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(quiet >= 0 && dir >= 0);
    log_set_fd(quiet);
    struct disk_cache *dc = start(&cache);
    MUST(dc);
    for (unsigned i = 0; i < BLOCKS; i++)
        put(cache, dc, i);
    disk_cache_settle(dc);
    /* One layer is barred: it had changed, and came back. */
    const struct disk_name barred = name_of(BLOCKS);
    disk_cache_changed(dc, barred.id);
    MUST(!disk_cache_admits(dc, barred.id));
    stop(cache, dc);
    data_len = read_file("disk-cache.data", data_made, DATA);
    index_len = read_file("disk-cache.index", index_made, INDEX);
    MUST(index_len > 2 * PAGE && index_len < INDEX);
}

/* As disk_cache_file.c writes them. */
static void seal(uint8_t *index)
{
    plt_put_le32(index + 8, (uint32_t)crc32(0, index + 12, 64 - 12));
    plt_put_le32(index + PAGE, (uint32_t)crc32(0, index + PAGE + 4, PAGE - 4));
}

static void check(bool is_as_made)
{
    struct cache *cache;
    struct disk_cache *const dc = start(&cache);
    struct disk_cache_stats stats;
    unsigned n = 0;

    MUST(dc);
    for (unsigned i = 0; i < BLOCKS; i++)
        n += has(dc, i);
    MUST(!is_as_made || n == BLOCKS);
    const struct disk_name barred = name_of(BLOCKS);
    MUST(!is_as_made || !disk_cache_admits(dc, barred.id));
    put(cache, dc, BLOCKS + 1);
    disk_cache_settle(dc);
    (void)has(dc, BLOCKS + 1);
    disk_cache_stats(dc, &stats);
    MUST(stats.bytes <= stats.limit && stats.limit == DISK_CACHE_LEAST);
    stop(cache, dc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[DATA], slots[INDEX];

    set_up();
    size_t len = data_len, slots_len = index_len;
    memcpy(bytes, data_made, len);
    memcpy(slots, index_made, slots_len);
    for (size_t i = 0; i < CHANGES && 1 + (i + 1) * CHANGE <= size; i++) {
        const uint8_t *const p = data + 1 + i * CHANGE;
        if (p[0] % 2)
            change(slots, index_len, &slots_len, p);
        else
            change(bytes, data_len, &len, p);
    }
    if (size && data[0] & SEAL)
        seal(slots);
    write_file("disk-cache.data", bytes, len);
    write_file("disk-cache.index", slots, slots_len);
    check(size <= CHANGE);
    return 0;
}
