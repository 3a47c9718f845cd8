/* SPDX-License-Identifier: Apache-2.0 */
/* The stored index: a header and records, appended as the front goes on.
 *
 *   header   8 magic "PLTGZIDX", le32 version, le32 0, 32 id of the source,
 *            le64 length of the source (all ones: unknown), le32 CRC-32
 *   record   le32 type, le32 length of payload, payload, le32 CRC-32 of all
 *     1 point  le64 out, le64 in_bits, le32 flags, le32 CRC of the bytes of its
 *              block before it, le32 member CRC, le32 member length, packed
 *              window
 *     2 zeros  le64 offset, le64 length
 *     3 end    le64 size, le64 members, le32 flags (1: garbage behind)
 *     5 row    of BGZF: le64 out, le64 in, and of each of up to 64 blocks
 *              le16 its length in the source, le16 its length, less one each
 *     4 sums   le32 CRC-32 of the next block, and of the one after it ...
 *
 * Blocks are GZIP_BLOCK bytes of what the stream decodes to, the last one
 * shorter; a point comes behind the sums of all blocks before its own.
 *
 * Whatever is behind the first record that does not hold is cut off: a record
 * half written by a process that died, or one that was damaged.  Nothing in the
 * file is believed for being ours: offsets must ascend and lie inside the
 * source, windows are as long as they say, and each block that is decoded from
 * a point is compared with its CRC-32 at every read. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libdeflate.h>

#include <platter/bytes.h>

#include "gzip_bgzf.h"
#include "gzip_image.h"

enum {
    VERSION = 3,
    HEADER = 60,
    MAX_PAYLOAD = 40 + GZIP_WINDOW + 1024, /* a window packs to no more */
    REC_POINT = 1,
    REC_ZEROS = 2,
    REC_END = 3,
    REC_SUMS = 4,
    REC_ROW = 5,
    MAX_SUMS = 1024 /* in a record */
};

bool gzip_write_all(int fd, const uint8_t *p, size_t n)
{
    while (n) {
        const ssize_t did = write(fd, p, n);
        if (did <= 0)
            return false;
        p += did;
        n -= (size_t)did;
    }
    return true;
}

static bool write_record(int fd, uint32_t type, const uint8_t *fixed, size_t n,
                         const uint8_t *tail, size_t n_tail)
{
    uint8_t *const rec = malloc(12 + n + n_tail);
    if (!rec)
        return false;
    plt_put_le32(rec, type);
    plt_put_le32(rec + 4, (uint32_t)(n + n_tail));
    memcpy(rec + 8, fixed, n);
    if (n_tail)
        memcpy(rec + 8 + n, tail, n_tail);
    plt_put_le32(rec + 8 + n + n_tail,
                 libdeflate_crc32(0, rec, 8 + n + n_tail));
    const bool is_good = gzip_write_all(fd, rec, 12 + n + n_tail);
    free(rec);
    return is_good;
}

bool gzip_file_point(int fd, const struct gzip_point *p)
{
    uint8_t fixed[32];
    plt_put_le64(fixed, p->out);
    plt_put_le64(fixed + 8, p->in_bits);
    plt_put_le32(fixed + 16, p->flags);
    plt_put_le32(fixed + 20, p->block_crc);
    plt_put_le32(fixed + 24, p->member_crc);
    plt_put_le32(fixed + 28, p->member_len);
    return write_record(fd, REC_POINT, fixed, sizeof(fixed), p->window,
                        p->window_len);
}

bool gzip_file_run(int fd, uint64_t off, uint64_t len)
{
    uint8_t fixed[16];
    plt_put_le64(fixed, off);
    plt_put_le64(fixed + 8, len);
    return write_record(fd, REC_ZEROS, fixed, sizeof(fixed), NULL, 0);
}

bool gzip_file_crcs(int fd, const uint32_t *crcs, size_t n)
{
    uint8_t fixed[4 * MAX_SUMS];
    bool is_good = true;

    while (n && is_good) {
        const size_t now = n < MAX_SUMS ? n : MAX_SUMS;
        for (size_t i = 0; i < now; i++)
            plt_put_le32(fixed + 4 * i, crcs[i]);
        is_good = write_record(fd, REC_SUMS, fixed, 4 * now, NULL, 0);
        crcs += now;
        n -= now;
    }
    return is_good;
}

bool gzip_file_row(int fd, const struct gzip_row *row,
                   const struct gzip_lens *lens, size_t n)
{
    uint8_t fixed[16 + 4 * BGZF_ROW];

    plt_put_le64(fixed, row->out);
    plt_put_le64(fixed + 8, row->in);
    for (size_t i = 0; i < n; i++) {
        plt_put_le16(fixed + 16 + 4 * i, lens[i].in);
        plt_put_le16(fixed + 18 + 4 * i, lens[i].out);
    }
    return write_record(fd, REC_ROW, fixed, 16 + 4 * n, NULL, 0);
}

bool gzip_file_end(int fd, uint64_t size, uint64_t members, bool has_garbage,
                   bool has_eof_block)
{
    uint8_t fixed[20];
    plt_put_le64(fixed, size);
    plt_put_le64(fixed + 8, members);
    plt_put_le32(fixed + 16,
                 (uint32_t)has_garbage | (uint32_t)has_eof_block << 1);
    return write_record(fd, REC_END, fixed, sizeof(fixed), NULL, 0);
}

static void make_header(const uint8_t id[32], uint64_t child_size,
                        uint8_t out[HEADER])
{
    memset(out, 0, HEADER);
    memcpy(out, "PLTGZIDX", 8);
    plt_put_le32(out + 8, VERSION);
    memcpy(out + 16, id, 32);
    plt_put_le64(out + 48, child_size);
    plt_put_le32(out + 56, libdeflate_crc32(0, out, 56));
}

bool gzip_file_start(int fd, const uint8_t id[32], uint64_t child_size)
{
    uint8_t head[HEADER];

    make_header(id, child_size, head);
    return gzip_write_all(fd, head, HEADER);
}

bool gzip_file_restart(int fd, const struct gzip_image *gz)
{
    return ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0 &&
           gzip_file_start(fd, gz->child_id, gz->child->size);
}

bool gzip_file_is_of(int fd, const uint8_t id[32], uint64_t child_size)
{
    uint8_t want[HEADER], head[HEADER];

    make_header(id, child_size, want);
    return pread(fd, head, HEADER, 0) == HEADER &&
           memcmp(head, want, HEADER) == 0;
}

/* One record's payload into gz; false: it does not hold. */
static bool take_point(struct gzip_image *gz, struct plt_cur *c,
                       uint64_t child_size)
{
    struct gzip_point p = {.out = plt_cur_le64(c),
                           .in_bits = plt_cur_le64(c),
                           .flags = plt_cur_le32(c),
                           .block_crc = plt_cur_le32(c)};
    p.member_crc = plt_cur_le32(c);
    p.member_len = plt_cur_le32(c);
    p.window_len = (uint32_t)plt_cur_left(c);
    const uint8_t *const window = plt_cur_take(c, p.window_len);
    const struct gzip_point *const last =
        gz->n_points ? &gz->points[gz->n_points - 1] : NULL;
    uint8_t scratch[GZIP_WINDOW];

    if (!gz->n_rows)
        gz->is_bgzf = false; /* it only began so */
    if (c->bad || gz->is_bgzf || p.out > PLT_SIZE_MAX ||
        gz->n_crcs < p.out / GZIP_BLOCK || p.in_bits / 8 >= child_size ||
        p.flags > GZIP_AT_MEMBER ||
        ((p.flags & GZIP_AT_MEMBER) && (p.window_len || p.in_bits % 8)))
        return false;
    if (last ? p.out <= last->out || p.in_bits <= last->in_bits
             : p.out != 0 || p.in_bits != 0)
        return false;
    if (p.window_len) {
        p.window = malloc(p.window_len);
        if (!p.window)
            return false;
        memcpy(p.window, window, p.window_len);
    }
    if ((p.window_len && !gzip_window_unpack(&p, scratch)) ||
        !gzip_points_add(gz, &p)) {
        free(p.window);
        return false;
    }
    return true;
}

static bool take_sums(struct gzip_image *gz, struct plt_cur *c)
{
    bool is_good = plt_cur_left(c) % 4 == 0;

    while (is_good && plt_cur_left(c))
        is_good = gzip_crcs_add(gz, plt_cur_le32(c));
    return is_good;
}

static bool take_run(struct gzip_image *gz, struct plt_cur *c)
{
    const uint64_t off = plt_cur_le64(c), len = plt_cur_le64(c);
    const struct gzip_zero_run *const last =
        gz->n_runs ? &gz->runs[gz->n_runs - 1] : NULL;

    if (c->bad || !len || off > PLT_SIZE_MAX || len > PLT_SIZE_MAX - off ||
        (off % ZERO_UNIT && !gz->is_bgzf) ||
        (last && off < last->off + last->len))
        return false;
    return gzip_runs_add(gz, off, len);
}

static bool take_row(struct gzip_image *gz, struct plt_cur *c,
                     uint64_t child_size)
{
    const uint64_t out = plt_cur_le64(c), in = plt_cur_le64(c);
    const size_t n = plt_cur_left(c) / 4;
    bool is_good = !c->bad && gz->is_bgzf && n && n <= BGZF_ROW &&
                   plt_cur_left(c) % 4 == 0 && out == gzip_bgzf_out(gz) &&
                   out <= PLT_SIZE_MAX / 2 && in >= gzip_bgzf_in(gz) &&
                   in <= child_size;
    uint64_t at = in;

    for (size_t i = 0; i < n && is_good; i++) {
        const uint32_t in_len = plt_cur_le16(c) + 1U;
        const uint32_t out_len = plt_cur_le16(c) + 1U;
        is_good = in_len >= BGZF_MIN && in_len <= child_size - at &&
                  gzip_bgzf_add(gz, at, in_len, out_len);
        at += in_len;
    }
    return is_good;
}

static bool take_end(struct gzip_image *gz, struct plt_cur *c)
{
    const uint64_t size = plt_cur_le64(c), members = plt_cur_le64(c);
    const uint32_t flags = plt_cur_le32(c);
    const struct gzip_zero_run *const last =
        gz->n_runs ? &gz->runs[gz->n_runs - 1] : NULL;

    if (gz->is_bgzf) {
        if (c->bad || size != gzip_bgzf_out(gz) ||
            (last && last->off + last->len > size))
            return false;
        gz->has_eof_block = flags & 2;
    } else if (c->bad || !gz->n_points || size > PLT_SIZE_MAX ||
               size < gz->points[gz->n_points - 1].out ||
               (last && last->off + last->len > size) ||
               gz->n_crcs != (size + GZIP_BLOCK - 1) / GZIP_BLOCK) {
        return false;
    }
    gz->out = size;
    gz->members = members;
    gz->has_garbage = flags & 1;
    return true;
}

bool gzip_file_load(struct gzip_image *gz, int fd, uint64_t child_size,
                    bool *is_whole)
{
    uint8_t want[HEADER], head[HEADER], fixed[8];
    uint8_t *const rec = malloc(12 + MAX_PAYLOAD);
    struct stat sb;
    off_t good = HEADER;

    *is_whole = false;
    make_header(gz->child_id, child_size, want);
    if (!rec || fstat(fd, &sb) != 0) {
        free(rec);
        return false;
    }
    if (pread(fd, head, HEADER, 0) != HEADER ||
        memcmp(head, want, HEADER) != 0) {
        free(rec);
        return ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0 &&
               gzip_write_all(fd, want, HEADER);
    }
    while (!*is_whole && pread(fd, fixed, 8, good) == 8) {
        const uint32_t type = plt_le32(fixed), len = plt_le32(fixed + 4);
        if (len > MAX_PAYLOAD || sb.st_size - good < (off_t)len + 12 ||
            pread(fd, rec, 12 + (size_t)len, good) != (ssize_t)len + 12 ||
            plt_le32(rec + 8 + len) != libdeflate_crc32(0, rec, 8 + len))
            break;
        struct plt_cur c = plt_cur_init(rec + 8, len);
        bool is_held = false;
        if (type == REC_POINT)
            is_held = take_point(gz, &c, child_size);
        else if (type == REC_ZEROS)
            is_held = take_run(gz, &c);
        else if (type == REC_END)
            is_held = *is_whole = take_end(gz, &c);
        else if (type == REC_SUMS)
            is_held = take_sums(gz, &c);
        else if (type == REC_ROW)
            is_held = take_row(gz, &c, child_size);
        if (!is_held)
            break;
        good += (off_t)len + 12;
    }
    free(rec);
    if (!*is_whole && gz->is_bgzf)
        gz->out = gzip_bgzf_out(gz);
    else if (!*is_whole)
        gzip_points_trim(gz);
    return ftruncate(fd, good) == 0 && lseek(fd, good, SEEK_SET) == good;
}
