/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache's two files: their shape, and what begins anew when it is not
 * that.
 *
 *   index    | head, 4 KiB | barred layers, 4 KiB | slots ... |
 *
 * The head is written when everything else is in its place, and not again.  The
 * index file is locked as long as it is in use. */
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <platter/bytes.h>

#include "cache/disk_cache_inside.h"
#include "util/clock.h"

enum {
    PAGE = DISK_INDEX_PAGE,
    SLOTS_OFF = 2 * PAGE,
    HEAD_USED = 64,
    SEGMENT_LEAST = 8 << 20,
    SEGMENT_MOST = 64 << 20,
    SEGMENTS = 32,       /* the limit is cut into so many, within these two */
    SLOT_PER = 32 << 10, /* bytes of data for a slot: blocks are 64 KiB and
                            more, or small ones among them */
    SLOTS_LEAST = 4096,
    MEMORY_PART = 8, /* of the budget, for slots */
    GHOST_PER = 2    /* slots for a ghost */
};

#define HEAD_MAGIC UINT64_C(0x3145484341434450) /* "PDCACHE1" */

static uint64_t power_below(uint64_t v)
{
    uint64_t p = 1;
    while (p <= v / 2)
        p *= 2;
    return p;
}

static uint64_t segment_bytes_for(uint64_t limit)
{
    const uint64_t v = power_below(limit / SEGMENTS);

    return v < SEGMENT_LEAST  ? SEGMENT_LEAST
           : v > SEGMENT_MOST ? SEGMENT_MOST
                              : v;
}

static uint64_t slots_for(uint64_t limit, uint64_t budget)
{
    uint64_t v = power_below(limit / SLOT_PER) * 2;
    const uint64_t most = power_below(budget / MEMORY_PART / 8);

    if (v > most)
        v = most;
    return v < SLOTS_LEAST ? SLOTS_LEAST : v;
}

/* ---- The head ---- */

static void make_head(uint8_t head[HEAD_USED], uint64_t epoch,
                      uint64_t segment_bytes, uint64_t n_slots,
                      const uint8_t *secret)
{
    memset(head, 0, HEAD_USED);
    plt_put_le64(head, HEAD_MAGIC);
    plt_put_le64(head + 16, epoch);
    plt_put_le64(head + 24, segment_bytes);
    plt_put_le64(head + 32, n_slots);
    memcpy(head + 40, secret, DISK_SECRET);
    plt_put_le32(head + 8, libdeflate_crc32(0, head + 12, HEAD_USED - 12));
}

/* The file has the shape that is wanted; secret: of its head. */
static bool is_ours(int fd, uint64_t epoch, uint64_t segment_bytes,
                    uint64_t n_slots, uint8_t *secret)
{
    uint8_t head[HEAD_USED], want[HEAD_USED];

    if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head))
        return false;
    memcpy(secret, head + 40, DISK_SECRET);
    make_head(want, epoch, segment_bytes, n_slots, secret);
    return memcmp(head, want, sizeof(head)) == 0;
}

/* ---- Barred layers ---- */

int disk_cache_write_bars_locked(struct disk_cache *dc)
{
    uint8_t page[PAGE] = {0};
    const struct disk_bars *const b = &dc->bars;

    plt_put_le32(page + 4, b->n_barred);
    memcpy(page + 16, b->barred, (size_t)b->n_barred * DISK_BARRED_ID);
    plt_put_le32(page, libdeflate_crc32(0, page + 4, PAGE - 4));
    const ssize_t n = pwrite(dc->index_fd, page, sizeof(page), PAGE);
    if (n != (ssize_t)sizeof(page))
        return n < 0 ? errno : ENOSPC;
    return fdatasync(dc->index_fd) == 0 ? 0 : errno;
}

static bool read_bars(struct disk_cache *dc)
{
    uint8_t page[PAGE];
    struct disk_bars *const b = &dc->bars;

    if (pread(dc->index_fd, page, sizeof(page), PAGE) !=
            (ssize_t)sizeof(page) ||
        plt_le32(page) != libdeflate_crc32(0, page + 4, PAGE - 4) ||
        plt_le32(page + 4) > DISK_BARRED)
        return false;
    b->n_barred = plt_le32(page + 4);
    memcpy(b->barred, page + 16, (size_t)b->n_barred * DISK_BARRED_ID);
    return true;
}

void disk_cache_spoil_files(struct disk_cache *dc)
{
    const uint8_t none[HEAD_USED] = {0};

    const bool is_spoilt =
        (pwrite(dc->index_fd, none, sizeof(none), 0) == (ssize_t)sizeof(none) &&
         fdatasync(dc->index_fd) == 0) ||
        ftruncate(dc->index_fd, 0) == 0;
    /* Neither: what is there is seen through by its checksums, as any other. */
    (void)is_spoilt;
}

/* ---- Opening ---- */

static int open_file(int dir, const char *name)
{
    struct stat sb;
    const int fd =
        openat(dir, name,
               O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

    if (fd >= 0 && fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode))
        return fd;
    if (fd >= 0) {
        (void)close(fd);
        errno = EINVAL;
    }
    return -1;
}

/* Nothing that was there counts any more: a new secret says so.  The head comes
 * last, so that what is half made is made again. */
static bool begin_anew(struct disk_cache *dc, uint64_t epoch,
                       uint64_t segment_bytes, uint64_t n_slots,
                       uint8_t *secret)
{
    uint8_t head[PAGE] = {0};

    if (getrandom(secret, DISK_SECRET, 0) != DISK_SECRET ||
        ftruncate(dc->index_fd, 0) != 0 || ftruncate(dc->data_fd, 0) != 0 ||
        ftruncate(dc->index_fd, (off_t)dc->index_bytes) != 0)
        return false;
    dc->bars.n_barred = 0;
    const int sys = disk_cache_write_bars_locked(dc);
    if (sys) {
        errno = sys;
        return false;
    }
    make_head(head, epoch, segment_bytes, n_slots, secret);
    return pwrite(dc->index_fd, head, sizeof(head), 0) == (ssize_t)sizeof(head);
}

/* What an earlier run wrote last, which the index may not know. */
static void take_up(void *cookie, const struct disk_name *name, uint64_t pos,
                    uint64_t generation)
{
    struct disk_cache *const dc = (struct disk_cache *)cookie;
    struct disk_place found[DISK_BUCKET];
    const uint64_t hash = disk_cache_hash(dc, name);
    const size_t n = disk_index_find(&dc->index, hash, true, found);

    for (size_t i = 0; i < n; i++) {
        if (found[i].pos == pos)
            return;
    }
    (void)disk_index_put(&dc->index, hash, pos, generation);
}

static bool set_up(struct disk_cache *dc, uint64_t segment_bytes,
                   uint64_t n_slots, const uint8_t *secret)
{
    const uint32_t n =
        (uint32_t)((dc->limit - dc->index_bytes) / segment_bytes);
    const uint64_t memory = sizeof(*dc) + disk_index_memory(n_slots) +
                            disk_segments_memory(n) +
                            n_slots / GHOST_PER * sizeof(*dc->ghosts);

    memcpy(&dc->seed, secret, sizeof(dc->seed));
    if (!cache_mem_take(dc->cache, memory))
        return false;
    dc->memory = memory;
    dc->n_ghosts = n_slots / GHOST_PER;
    dc->ghosts = calloc(dc->n_ghosts, sizeof(*dc->ghosts));
    const bool has_index =
        disk_index_init(&dc->index, dc->index_fd, SLOTS_OFF, n_slots);
    return disk_segments_init(&dc->segments, dc->data_fd, segment_bytes, n,
                              secret) &&
           has_index && dc->ghosts;
}

const char *disk_cache_files(struct disk_cache *dc, int dir, uint64_t epoch)
{
    struct cache_stats budget;
    uint8_t secret[DISK_SECRET];

    errno = 0;
    if (dir < 0)
        return "there is no state folder";
    cache_stats(dc->cache, &budget);
    const uint64_t segment_bytes = segment_bytes_for(dc->limit);
    const uint64_t n_slots = slots_for(dc->limit, budget.budget);
    dc->index_bytes = SLOTS_OFF + n_slots * 8;
    dc->index_fd = open_file(dir, "disk-cache.index");
    if (dc->index_fd < 0)
        return "cannot open disk-cache.index";
    if (flock(dc->index_fd, LOCK_EX | LOCK_NB) != 0)
        return "another process has the files";
    dc->data_fd = open_file(dir, "disk-cache.data");
    if (dc->data_fd < 0)
        return "cannot open disk-cache.data";
    if ((!is_ours(dc->index_fd, epoch, segment_bytes, n_slots, secret) ||
         !read_bars(dc)) &&
        !begin_anew(dc, epoch, segment_bytes, n_slots, secret))
        return "cannot write the files";
    errno = 0;
    if (!set_up(dc, segment_bytes, n_slots, secret))
        return "no memory in the budget";
    /* A limit that is less than it was. */
    struct stat sb;
    const uint64_t most = dc->segments.n * segment_bytes;
    if (fstat(dc->data_fd, &sb) != 0 ||
        ((uint64_t)sb.st_size > most &&
         ftruncate(dc->data_fd, (off_t)most) != 0))
        return "cannot shorten disk-cache.data";
    (void)posix_fadvise(dc->data_fd, 0, 0, POSIX_FADV_RANDOM);
    errno = disk_segments_recover(&dc->segments, take_up, dc);
    return errno ? "cannot read disk-cache.data" : NULL;
}

void disk_cache_close_files(struct disk_cache *dc)
{
    if (dc->index.slots)
        disk_index_release(&dc->index);
    disk_segments_release(&dc->segments);
    free(dc->ghosts);
    if (dc->memory)
        cache_mem_give(dc->cache, dc->memory);
    if (dc->data_fd >= 0)
        (void)close(dc->data_fd);
    if (dc->index_fd >= 0)
        (void)close(dc->index_fd);
}

bool disk_cache_files_stand(const struct disk_cache *dc)
{
    struct stat a, b;

    return fstat(dc->index_fd, &a) == 0 && fstat(dc->data_fd, &b) == 0 &&
           a.st_nlink && b.st_nlink;
}
