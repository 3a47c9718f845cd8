/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/disk_segments.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <platter/bytes.h>

#include "cache/disk_index.h"
#include "util/auto.h"

enum {
    SEGMENT_MAGIC = 0x53434450, /* "PDCS" */
    RECORD_MAGIC = 0x52434450,  /* "PDCR" */
    SEGMENT_USED = 40, /* bytes of a segment's head that say something */
    SETTLE = 8 << 20   /* bytes of a stretch that the disk is given */
};

/* A record's head; a segment's has the first four in the same places.
 *    0 magic   4 checksum of all behind it   8 secret   24 generation
 *   32 place  40 key  48 length  52 zero  56 id  88 zero */
enum {
    AT_CHECKSUM = 4,
    AT_SECRET = 8,
    AT_GENERATION = 24,
    AT_PLACE = 32,
    AT_KEY = 40,
    AT_LENGTH = 48,
    AT_ID = 56
};

uint64_t disk_record_bytes(size_t len)
{
    return ((uint64_t)len + DISK_RECORD_HEAD + DISK_UNIT - 1) / DISK_UNIT *
           DISK_UNIT;
}

uint64_t disk_segments_memory(uint32_t n)
{
    return (uint64_t)n * 8;
}

bool disk_segments_init(struct disk_segments *s, int fd, uint64_t segment_bytes,
                        uint32_t n, const uint8_t secret[DISK_SECRET])
{
    *s = (struct disk_segments){
        .fd = fd, .segment_bytes = segment_bytes, .n = n, .open = n};
    memcpy(s->secret, secret, sizeof(s->secret));
    s->generation = calloc(n, sizeof(*s->generation));
    return s->generation;
}

void disk_segments_release(struct disk_segments *s)
{
    free(s->generation);
    s->generation = NULL;
}

static uint64_t begin_of(const struct disk_segments *s, uint32_t segment)
{
    return (uint64_t)segment * s->segment_bytes;
}

static uint64_t generation_of(const struct disk_segments *s, uint32_t segment)
{
    return atomic_load_explicit(&s->generation[segment], memory_order_acquire);
}

bool disk_segments_hold(const struct disk_segments *s, uint64_t pos)
{
    return pos < begin_of(s, s->n);
}

uint64_t disk_segments_at(const struct disk_segments *s, uint64_t pos)
{
    return generation_of(s, (uint32_t)(pos / s->segment_bytes));
}

uint32_t disk_segments_used(const struct disk_segments *s)
{
    uint32_t used = 0;

    for (uint32_t i = 0; i < s->n; i++)
        used += generation_of(s, i) != 0;
    return used;
}

/* ---- Heads ---- */

static uint32_t checksum(const uint8_t *head, size_t head_len, const void *data,
                         size_t len)
{
    const uint32_t crc =
        libdeflate_crc32(0, head + AT_SECRET, head_len - AT_SECRET);
    return len ? libdeflate_crc32(crc, data, len) : crc;
}

static void make_head(const struct disk_segments *s, uint8_t *head,
                      uint32_t magic, uint64_t pos)
{
    plt_put_le32(head, magic);
    memcpy(head + AT_SECRET, s->secret, DISK_SECRET);
    plt_put_le64(head + AT_GENERATION, disk_segments_at(s, pos));
    plt_put_le64(head + AT_PLACE, pos);
}

/* One of ours, written at this very place; what it says else may be damaged. */
static bool is_head(const struct disk_segments *s, const uint8_t *head,
                    uint32_t magic, uint64_t pos)
{
    return plt_le32(head) == magic &&
           memcmp(head + AT_SECRET, s->secret, DISK_SECRET) == 0 &&
           plt_le64(head + AT_PLACE) == pos;
}

static size_t length_of(const struct disk_segments *s, const uint8_t *head,
                        uint64_t pos)
{
    const uint32_t len = plt_le32(head + AT_LENGTH);
    const uint64_t left = s->segment_bytes - pos % s->segment_bytes;

    return len <= DISK_BLOCK_MOST && disk_record_bytes(len) <= left ? len : 0;
}

static int write_all(int fd, const uint8_t *data, size_t len, uint64_t pos)
{
    while (len) {
        const ssize_t n = pwrite(fd, data, len, (off_t)pos);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ENOSPC;
        data += n;
        pos += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* What the memory holds the page cache need not.  The disk is given each
 * stretch when it is written, and waited for one stretch later: who writes is
 * as slow as the disk, and what is late is dropped and does not pile up. */
static void settle(struct disk_segments *s, bool is_all)
{
    const uint64_t len = s->started - s->settled;

    if (s->open == s->n || (s->pos - s->started < SETTLE && !is_all))
        return;
    if (s->pos > s->started)
        (void)sync_file_range(s->fd, (off_t)s->started,
                              (off_t)(s->pos - s->started),
                              SYNC_FILE_RANGE_WRITE);
    if (len) {
        (void)sync_file_range(s->fd, (off_t)s->settled, (off_t)len,
                              SYNC_FILE_RANGE_WAIT_BEFORE |
                                  SYNC_FILE_RANGE_WRITE |
                                  SYNC_FILE_RANGE_WAIT_AFTER);
        (void)posix_fadvise(s->fd, (off_t)s->settled, (off_t)len,
                            POSIX_FADV_DONTNEED);
    }
    s->settled = s->started;
    s->started = s->pos;
}

/* ---- Reading ---- */

enum disk_found disk_segments_read(const struct disk_segments *s, uint64_t pos,
                                   const struct disk_name *name, void *buf,
                                   size_t len)
{
    uint8_t head[DISK_RECORD_HEAD];
    const struct iovec parts[] = {{head, sizeof(head)}, {buf, len}};
    ssize_t got;

    do
        got = preadv(s->fd, parts, 2, (off_t)pos);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return DISK_FAILED;
    if ((size_t)got != sizeof(head) + len ||
        !is_head(s, head, RECORD_MAGIC, pos) ||
        plt_le64(head + AT_KEY) != name->key ||
        plt_le32(head + AT_LENGTH) != len ||
        memcmp(head + AT_ID, name->id, sizeof(name->id)) != 0 ||
        plt_le32(head + AT_CHECKSUM) != checksum(head, sizeof(head), buf, len))
        return DISK_NOT_IT;
    return DISK_FOUND;
}

/* ---- Finding one's place again ---- */

/* The records of the newest segment, as far as they are whole. */
static void walk(struct disk_segments *s,
                 void (*fn)(void *cookie, const struct disk_name *name,
                            uint64_t pos, uint64_t generation),
                 void *cookie)
{
    const uint64_t generation = generation_of(s, s->open);
    const uint64_t end = begin_of(s, s->open) + s->segment_bytes;
    uint8_t head[DISK_RECORD_HEAD];
    struct disk_name name;

    while (s->pos < end && pread(s->fd, head, sizeof(head), (off_t)s->pos) ==
                               (ssize_t)sizeof(head)) {
        const size_t len = length_of(s, head, s->pos);
        if (!len || !is_head(s, head, RECORD_MAGIC, s->pos) ||
            plt_le64(head + AT_GENERATION) != generation)
            break;
        memcpy(name.id, head + AT_ID, sizeof(name.id));
        name.key = plt_le64(head + AT_KEY);
        fn(cookie, &name, s->pos, generation);
        s->pos += disk_record_bytes(len);
    }
    s->settled = s->started = s->pos;
}

int disk_segments_recover(struct disk_segments *s,
                          void (*fn)(void *cookie, const struct disk_name *name,
                                     uint64_t pos, uint64_t generation),
                          void *cookie)
{
    uint64_t newest = 0;
    uint8_t head[SEGMENT_USED];

    for (uint32_t i = 0; i < s->n; i++) {
        const uint64_t pos = begin_of(s, i);
        const ssize_t got = pread(s->fd, head, sizeof(head), (off_t)pos);
        if (got < 0)
            return errno;
        if (got != (ssize_t)sizeof(head) ||
            !is_head(s, head, SEGMENT_MAGIC, pos) ||
            plt_le32(head + AT_CHECKSUM) !=
                checksum(head, sizeof(head), NULL, 0))
            continue;
        const uint64_t generation = plt_le64(head + AT_GENERATION);
        atomic_store(&s->generation[i], generation);
        if (generation > newest) {
            newest = generation;
            s->open = i;
        }
    }
    if (!newest)
        return 0;
    s->pos = begin_of(s, s->open) + DISK_SEGMENT_HEAD;
    walk(s, fn, cookie);
    return 0;
}

/* ---- Writing ---- */

uint32_t disk_segments_next(const struct disk_segments *s)
{
    uint32_t oldest = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        if (generation_of(s, i) < generation_of(s, oldest))
            oldest = i;
    }
    return oldest;
}

/* All of it now, so that a disk that is full says so before anything is in it.
 * Some file systems cannot. */
static int reserve(const struct disk_segments *s, uint32_t segment)
{
    if (fallocate(s->fd, 0, (off_t)begin_of(s, segment),
                  (off_t)s->segment_bytes) == 0 ||
        errno == EOPNOTSUPP || errno == ENOSYS)
        return 0;
    return errno;
}

/* Under a generation that is newer than all. */
static int write_head(struct disk_segments *s, uint32_t segment)
{
    uint8_t head[SEGMENT_USED] = {0};
    uint64_t newest = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        if (generation_of(s, i) > newest)
            newest = generation_of(s, i);
    }
    /* release: who sees a slot of the new generation finds it here */
    atomic_store_explicit(&s->generation[segment], newest + 1,
                          memory_order_release);
    make_head(s, head, SEGMENT_MAGIC, begin_of(s, segment));
    plt_put_le32(head + AT_CHECKSUM, checksum(head, sizeof(head), NULL, 0));
    return write_all(s->fd, head, sizeof(head), begin_of(s, segment));
}

int disk_segments_begin(struct disk_segments *s, uint32_t segment)
{
    int sys = generation_of(s, segment) ? 0 : reserve(s, segment);

    if (sys)
        return sys;
    settle(s, true);
    settle(s, true);
    sys = write_head(s, segment);
    s->open = segment;
    s->settled = s->started = begin_of(s, segment);
    s->pos = s->settled + DISK_SEGMENT_HEAD;
    return sys;
}

int disk_segments_renew(struct disk_segments *s, uint32_t segment)
{
    return write_head(s, segment);
}

bool disk_segments_fits(const struct disk_segments *s, size_t len)
{
    return s->open < s->n && disk_record_bytes(len) <= begin_of(s, s->open) +
                                                           s->segment_bytes -
                                                           s->pos;
}

/* A record goes out; its name is in the head. */
static int put_record(struct disk_segments *s, uint8_t head[DISK_RECORD_HEAD],
                      const uint8_t *data, size_t len, uint64_t *pos)
{
    make_head(s, head, RECORD_MAGIC, s->pos);
    plt_put_le32(head + AT_CHECKSUM,
                 checksum(head, DISK_RECORD_HEAD, data, len));
    int sys = write_all(s->fd, head, DISK_RECORD_HEAD, s->pos);
    if (!sys)
        sys = write_all(s->fd, data, len, s->pos + DISK_RECORD_HEAD);
    if (sys)
        return sys;
    *pos = s->pos;
    s->pos += disk_record_bytes(len);
    settle(s, false);
    return 0;
}

int disk_segments_append(struct disk_segments *s, const struct disk_name *name,
                         const uint8_t *data, size_t len, uint64_t *pos)
{
    uint8_t head[DISK_RECORD_HEAD] = {0};

    ASSERT(len && len <= DISK_BLOCK_MOST && disk_segments_fits(s, len));
    plt_put_le64(head + AT_KEY, name->key);
    plt_put_le32(head + AT_LENGTH, (uint32_t)len);
    memcpy(head + AT_ID, name->id, sizeof(name->id));
    return put_record(s, head, data, len, pos);
}

int disk_segments_move(struct disk_segments *s, uint64_t from, uint64_t end,
                       uint64_t *pos)
{
    uint8_t head[DISK_RECORD_HEAD];
    const ssize_t got = pread(s->fd, head, sizeof(head), (off_t)from);

    *pos = 0;
    if (got != (ssize_t)sizeof(head))
        return got < 0 ? errno : 0;
    const size_t len = length_of(s, head, from);
    if (!len || !is_head(s, head, RECORD_MAGIC, from) ||
        s->pos + disk_record_bytes(len) > end)
        return 0;
    AUTO_FREE uint8_t *data = malloc(len);
    if (!data)
        return 0;
    const ssize_t more =
        pread(s->fd, data, len, (off_t)(from + DISK_RECORD_HEAD));
    if (more != (ssize_t)len)
        return more < 0 ? errno : 0;
    if (plt_le32(head + AT_CHECKSUM) != checksum(head, sizeof(head), data, len))
        return 0;
    return put_record(s, head, data, len, pos);
}
