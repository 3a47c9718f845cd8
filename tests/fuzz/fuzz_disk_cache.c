/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache's files as untrusted input: segments of records, and the index
 * that leads to them.
 *
 * An input is a list of changes (fuzz_changes.h) to files that were written
 * here; an odd first byte is for the index.  Wherever a record is looked for
 * after that, it is the block that was written under that name or none; the
 * files are taken up again without a fault, and what is written then is found.
 */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/disk_index.h"
#include "cache/disk_segments.h"
#include "fuzz_changes.h"

enum {
    SEGMENTS = 4,
    SEGMENT = 16384,
    DATA = SEGMENTS * SEGMENT,
    SLOTS = DISK_INDEX_PAGE / 8,
    RECORDS = 48,
    LONGEST = 1800
};

static const uint8_t secret[DISK_SECRET] = "written by hand";
static uint8_t data_made[DATA], index_made[DISK_INDEX_PAGE];
static uint64_t place[RECORDS]; /* 0: written over since */
static int data_fd, index_fd;

static struct disk_name name_of(unsigned i)
{
    struct disk_name name = {.key = i / 2};
    memset(name.id, (int)(i % 2 + 1), sizeof(name.id));
    return name;
}

static uint64_t hash_of(unsigned i)
{
    return (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static size_t bytes_of(unsigned i, uint8_t out[LONGEST])
{
    const size_t len = i * 37 % LONGEST + 1;

    for (size_t k = 0; k < len; k++)
        out[k] = (uint8_t)(i * 31 + k * 7 + k / 251);
    return len;
}

static void append(struct disk_segments *s, unsigned i, uint64_t *pos)
{
    uint8_t bytes[LONGEST];
    const struct disk_name name = name_of(i);
    const size_t len = bytes_of(i, bytes);

    if (!disk_segments_fits(s, len)) {
        const uint32_t segment = disk_segments_next(s);
        MUST(segment < SEGMENTS && disk_segments_begin(s, segment) == 0);
    }
    MUST(disk_segments_fits(s, len));
    MUST(disk_segments_append(s, &name, bytes, len, pos) == 0);
    MUST(disk_segments_hold(s, *pos) && *pos % DISK_UNIT == 0);
}

static void set_up(void)
{
    struct disk_segments s;
    struct disk_index ix;

    data_fd = memfd_create("data", MFD_CLOEXEC);
    index_fd = memfd_create("index", MFD_CLOEXEC);
    MUST(data_fd >= 0 && index_fd >= 0);
    MUST(disk_segments_init(&s, data_fd, SEGMENT, SEGMENTS, secret));
    MUST(disk_index_init(&ix, index_fd, 0, SLOTS));
    for (unsigned i = 0; i < RECORDS; i++) {
        append(&s, i, &place[i]);
        (void)disk_index_put(&ix, hash_of(i), place[i],
                             disk_segments_at(&s, place[i]));
    }
    MUST(disk_index_flush(&ix) == 0);
    MUST(pread(data_fd, data_made, DATA, 0) > 3 * SEGMENT);
    MUST(pread(index_fd, index_made, sizeof(index_made), 0) ==
         sizeof(index_made));
    disk_index_release(&ix);
    disk_segments_release(&s);
}

static void count(void *cookie, const struct disk_name *name, uint64_t pos,
                  uint64_t generation)
{
    MUST(name && generation && pos % DISK_UNIT == 0 && pos < DATA);
    ++*(unsigned *)cookie;
}

/* Right or not there. */
static bool look(const struct disk_segments *s, unsigned i, uint64_t pos)
{
    uint8_t bytes[LONGEST], got[LONGEST];
    const struct disk_name name = name_of(i);
    const size_t len = bytes_of(i, bytes);
    const enum disk_found found = disk_segments_read(s, pos, &name, got, len);

    MUST(found != DISK_FAILED);
    MUST(found != DISK_FOUND || memcmp(got, bytes, len) == 0);
    return found == DISK_FOUND;
}

static void check(void)
{
    struct disk_segments s;
    struct disk_index ix;
    struct disk_place found[DISK_BUCKET], kept[RECORDS];
    uint64_t n = 0, n_hit = 0, n_cleared = 0, pos = 0;
    unsigned n_walked = 0;

    MUST(disk_segments_init(&s, data_fd, SEGMENT, SEGMENTS, secret));
    MUST(disk_index_init(&ix, index_fd, 0, SLOTS));
    MUST(disk_segments_recover(&s, count, &n_walked) == 0);
    MUST(n_walked <= SEGMENT / DISK_UNIT);
    MUST(disk_segments_used(&s) <= SEGMENTS);
    for (unsigned i = 0; i < RECORDS; i++) {
        (void)look(&s, i, place[i]);
        (void)look(&s, i, place[(i + 1) % RECORDS]);
        const size_t m = disk_index_find(&ix, hash_of(i), true, found);
        MUST(m <= DISK_BUCKET);
        for (size_t k = 0; k < m; k++) {
            MUST(found[k].pos && found[k].pos % DISK_UNIT == 0 &&
                 found[k].pos < DISK_MOST);
            (void)look(&s, i, found[k].pos);
            disk_index_hit(&ix, &found[k]);
        }
    }
    /* As the writer makes room, and goes on. */
    disk_index_count(&ix, 0, SEGMENT, &n, &n_hit);
    MUST(n_hit <= n && n <= SLOTS);
    const size_t n_kept =
        disk_index_sweep(&ix, 0, SEGMENT, kept, RECORDS / 2, &n_cleared);
    MUST(n_kept <= RECORDS / 2 && n_kept + n_cleared == n);
    for (unsigned i = 0; i < RECORDS; i++) {
        append(&s, i, &pos);
        MUST(look(&s, i, pos));
        if (i < n_kept && s.pos % SEGMENT) {
            uint64_t moved = 0;
            MUST(disk_segments_move(&s, kept[i].pos,
                                    (s.pos / SEGMENT + 1) * SEGMENT,
                                    &moved) == 0);
            MUST(moved < DATA);
        }
    }
    MUST(disk_index_flush(&ix) == 0);
    disk_index_release(&ix);
    disk_segments_release(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[DATA], slots[DISK_INDEX_PAGE];
    size_t len = DATA, index_len = sizeof(slots);

    if (!data_fd)
        set_up();
    memcpy(bytes, data_made, DATA);
    memcpy(slots, index_made, sizeof(slots));
    for (size_t i = 0; i < CHANGES && (i + 1) * CHANGE <= size; i++) {
        const uint8_t *const p = data + i * CHANGE;
        if (p[0] % 2)
            change(slots, sizeof(slots), &index_len, p);
        else
            change(bytes, DATA, &len, p);
    }
    MUST(ftruncate(data_fd, 0) == 0 && ftruncate(index_fd, 0) == 0);
    MUST(pwrite(data_fd, bytes, len, 0) == (ssize_t)len);
    MUST(pwrite(index_fd, slots, index_len, 0) == (ssize_t)index_len);
    check();
    return 0;
}
