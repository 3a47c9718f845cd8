/* SPDX-License-Identifier: Apache-2.0 */
/* A footer says what a sealed segment has, so that a start reads it alone:
 *
 *     records: 4 bytes of offset, 4 of leaves, each
 *     digests: 32 bytes each, in the records' order; all 0: of a leaf that was
 *       not whole when a start read it
 *     trailer, the file's last 64 bytes:
 *        0 magic   8 secret   24 offset of the footer   32 records   36 leaves
 *       40 zero   48 check of the trailer before it and all of the footer
 *
 * It is written when all before it is on the disk for good: who finds it whole
 * may believe that what it names was written.  That it is still right nobody
 * believes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

#include "store/store_inside.h"
#include "util/auto.h"

enum {
    ENTRY = 8,
    TRAILER = 64,
    AT_SECRET = 8,
    AT_OFF = 24,
    AT_RECORDS = 32,
    AT_LEAVES = 36,
    AT_CHECK = 48
};
#define TRAILER_MAGIC UINT64_C(0x31444e45524f5453) /* "STOREND1" */

uint64_t directory_bytes(const struct directory *d)
{
    return d->n_entries * ENTRY + d->n_leaves * STORE_DIGEST + TRAILER;
}

int footer_write(int fd, const struct directory *d, const uint8_t *secret,
                 uint64_t *end)
{
    const size_t len = (size_t)directory_bytes(d);
    AUTO_FREE uint8_t *buf = calloc(1, len);
    if (!buf)
        return ENOMEM;
    for (size_t i = 0; i < d->n_entries; i++) {
        plt_put_le32(buf + i * ENTRY, d->entries[i].off);
        plt_put_le32(buf + i * ENTRY + 4, d->entries[i].n);
    }
    memcpy(buf + d->n_entries * ENTRY, d->digests, d->n_leaves * STORE_DIGEST);
    uint8_t *const t = buf + len - TRAILER;
    plt_put_le64(t, TRAILER_MAGIC);
    memcpy(t + AT_SECRET, secret, STORE_SECRET);
    plt_put_le64(t + AT_OFF, *end);
    plt_put_le32(t + AT_RECORDS, (uint32_t)d->n_entries);
    plt_put_le32(t + AT_LEAVES, (uint32_t)d->n_leaves);
    store_check(t, AT_CHECK, buf, len - TRAILER, t + AT_CHECK);
    const int sys = store_write(fd, buf, len, *end);
    if (!sys)
        *end += len;
    return sys;
}

/* The records are in order, within the segment, and have the leaves. */
static bool is_sound(const struct directory *d, uint64_t off)
{
    uint64_t at = SEGMENT_HEAD, n = 0;

    for (size_t i = 0; i < d->n_entries; i++) {
        const struct directory_entry *const e = &d->entries[i];
        if (e->off < at || e->off % RECORD_ALIGN || e->off >= off || !e->n ||
            e->n > RECORD_LEAVES)
            return false;
        at = (uint64_t)e->off + RECORD_ALIGN;
        n += e->n;
    }
    return n == d->n_leaves;
}

static bool parse(const uint8_t *buf, struct directory *out, size_t records,
                  size_t leaves)
{
    if (!directory_reserve(out, records, leaves))
        return false;
    for (size_t i = 0; i < records; i++)
        out->entries[i] = (struct directory_entry){
            plt_le32(buf + i * ENTRY), plt_le32(buf + i * ENTRY + 4)};
    if (leaves)
        memcpy(out->digests, buf + records * ENTRY, leaves * STORE_DIGEST);
    out->n_entries = records;
    out->n_leaves = leaves;
    return true;
}

bool footer_read(int fd, uint64_t bytes, const uint8_t *secret,
                 struct directory *out, uint64_t *data_end)
{
    uint8_t t[TRAILER], check[STORE_CHECK];
    size_t got;

    *out = (struct directory){.n_leaves = 0};
    if (bytes < SEGMENT_HEAD + TRAILER ||
        store_read(fd, t, sizeof(t), bytes - TRAILER, &got) ||
        got != sizeof(t) || plt_le64(t) != TRAILER_MAGIC ||
        memcmp(t + AT_SECRET, secret, STORE_SECRET) != 0)
        return false;
    const uint64_t off = plt_le64(t + AT_OFF);
    const uint64_t records = plt_le32(t + AT_RECORDS);
    const uint64_t leaves = plt_le32(t + AT_LEAVES);
    const uint64_t len = records * ENTRY + leaves * STORE_DIGEST;
    if (off < SEGMENT_HEAD || off > SEGMENT_MOST || leaves > SEGMENT_LEAVES ||
        records > leaves || off + len + TRAILER != bytes)
        return false;
    AUTO_FREE uint8_t *buf = malloc((size_t)len + 1);
    if (!buf || store_read(fd, buf, (size_t)len, off, &got) || got != len)
        return false;
    store_check(t, AT_CHECK, buf, (size_t)len, check);
    if (memcmp(check, t + AT_CHECK, sizeof(check)) != 0 ||
        !parse(buf, out, (size_t)records, (size_t)leaves) ||
        !is_sound(out, off)) {
        directory_release(out);
        return false;
    }
    *data_end = off;
    return true;
}

uint64_t footer_leaves(int fd, uint64_t bytes)
{
    uint8_t t[TRAILER];
    size_t got;

    if (bytes < TRAILER ||
        store_read(fd, t, sizeof(t), bytes - TRAILER, &got) ||
        got != sizeof(t) || plt_le64(t) != TRAILER_MAGIC ||
        plt_le32(t + AT_LEAVES) > SEGMENT_LEAVES)
        return 0;
    return plt_le32(t + AT_LEAVES);
}
