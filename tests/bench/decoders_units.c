/* SPDX-License-Identifier: Apache-2.0 */
#include "decoders_units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t le(const uint8_t *p, int n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | p[n];
    return v;
}

static uint64_t be(const uint8_t *p, int n)
{
    uint64_t v = 0;

    for (int i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

_Noreturn void decoders_die(const char *what, const char *detail)
{
    (void)fprintf(stderr, "decoders: %s: %s\n", what, detail);
    exit(1);
}

uint8_t *load_file(const char *path, size_t *len)
{
    FILE *const f = fopen(path, "rb");
    long end;

    if (!f || fseek(f, 0, SEEK_END) != 0 || (end = ftell(f)) < 0)
        decoders_die(path, strerror(errno));
    rewind(f);
    *len = (size_t)end;
    uint8_t *const p = calloc(1, *len + 16);
    if (!p || fread(p, 1, *len, f) != *len)
        decoders_die(path, "cannot be read");
    (void)fclose(f);
    return p;
}

static void load(struct units *u, enum coding coding, const char *dir,
                 const char *name)
{
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    *u = (struct units){.coding = coding};
    u->file = load_file(path, &u->file_len);
}

static void add(struct units *u, const uint8_t *in, size_t in_len,
                size_t out_len)
{
    if (in < u->file || in > u->file + u->file_len ||
        in_len > (size_t)(u->file + u->file_len - in) || out_len > UNIT_MAX)
        decoders_die("unit", "outside of its file");
    if (u->n == u->room) {
        u->room = u->room ? u->room * 2 : 4096;
        u->unit = realloc(u->unit, u->room * sizeof *u->unit);
        if (!u->unit)
            decoders_die("memory", "none left");
    }
    u->unit[u->n++] = (struct unit){in, in_len, out_len};
    u->out += out_len;
}

void units_free(struct units *u)
{
    free(u->unit);
    free(u->file);
}

/* SAM specification, 4.1: the extra field BC holds the block's length less
 * one, the last four bytes what it decodes to. */
void units_bgzf(struct units *u, const char *dir, const char *name)
{
    load(u, RAW_DEFLATE, dir, name);
    for (size_t at = 0; at + 18 <= u->file_len;) {
        const uint8_t *const p = u->file + at;
        const size_t whole = (size_t)le(p + 16, 2) + 1;
        if (le(p + 10, 2) != 6 || memcmp(p + 12, "BC", 2) != 0 || whole < 26 ||
            whole > u->file_len - at)
            decoders_die(name, "is no BGZF file");
        const size_t out = (size_t)le(p + whole - 4, 4);
        if (out)
            add(u, p + 18, whole - 26, out);
        at += whole;
    }
    if (!u->n)
        decoders_die(name, "has no blocks");
}

/* dictzip(1): the extra field RA holds the length of a chunk, their number,
 * and the compressed length of each.  A chunk ends in a flush, and libdeflate
 * insists on a final block: each is copied, as the driver does, and given an
 * empty one (03 00). */
void units_dictzip(struct units *u, const char *dir, const char *name)
{
    load(u, RAW_DEFLATE, dir, name);
    const uint8_t *const p = u->file;
    if (u->file_len < 30 || memcmp(p + 12, "RA", 2) != 0)
        decoders_die(name, "is no dictzip file");
    const size_t extra = (size_t)le(p + 10, 2);
    const size_t chunk = (size_t)le(p + 18, 2), n = (size_t)le(p + 20, 2);
    size_t at = 12 + extra;
    if (p[3] & 8) /* the name */
        at += strlen((const char *)p + at) + 1;
    const size_t last = (size_t)le(p + u->file_len - 4, 4) - (n - 1) * chunk;
    uint8_t *const copy = calloc(1, u->file_len + 2 * n + 16);
    if (!copy)
        decoders_die("memory", "none left");
    uint8_t *const file = u->file;
    const size_t file_len = u->file_len;
    u->file = copy;
    u->file_len = file_len + 2 * n;
    for (size_t i = 0, to = 0; i < n; i++) {
        const size_t len = (size_t)le(file + 22 + 2 * i, 2);
        if (22 + 2 * i + 2 > 12 + extra || at + len > file_len)
            decoders_die(name, "has a table that does not fit");
        memcpy(copy + to, file + at, len);
        copy[to + len] = 3;
        add(u, copy + to, len + 2, i + 1 < n ? chunk : last);
        at += len;
        to += len + 2;
    }
    free(file);
}

/* docs/interop/qcow2.txt, "Compressed Clusters Descriptor"; the length is in
 * sectors, so that other data follows in the same bytes. */
void units_qcow2(struct units *u, const char *dir, const char *name)
{
    load(u, RAW_DEFLATE, dir, name);
    const uint8_t *const p = u->file;
    if (u->file_len < 104 || memcmp(p, "QFI\xfb", 4) != 0)
        decoders_die(name, "is no qcow2 image");
    const unsigned bits = (unsigned)be(p + 20, 4);
    const uint64_t n_l1 = be(p + 36, 4), l1 = be(p + 40, 8);
    const unsigned shift = 62 - (bits - 8);
    if (bits > 16 || l1 + n_l1 * 8 > u->file_len)
        decoders_die(name, "has clusters of another size");
    for (uint64_t i = 0; i < n_l1; i++) {
        const uint64_t l2 =
            be(p + l1 + i * 8, 8) & UINT64_C(0x00fffffffffffe00);
        if (!l2 || l2 + (UINT64_C(1) << bits) > u->file_len)
            continue;
        for (uint64_t k = 0; k < UINT64_C(1) << (bits - 3); k++) {
            const uint64_t e = be(p + l2 + k * 8, 8);
            if (!(e >> 62 & 1))
                continue;
            const uint64_t at = e & ((UINT64_C(1) << shift) - 1);
            const uint64_t sectors =
                (e >> shift & ((UINT64_C(1) << (62 - shift)) - 1)) + 1;
            uint64_t len = sectors * 512 - at % 512;
            if (at < u->file_len && len > u->file_len - at)
                len = u->file_len - at;
            add(u, p + at, (size_t)len, (size_t)1 << bits);
        }
    }
    if (!u->n)
        decoders_die(name, "has no compressed clusters");
}

/* VMware's "Virtual Disk Format 5.0": behind the overhead follow markers, of
 * which those with a length are grains (sector, length, a zlib stream). */
void units_vmdk(struct units *u, const char *dir, const char *name)
{
    load(u, ZLIB, dir, name);
    const uint8_t *const p = u->file;
    if (u->file_len < 512 || memcmp(p, "KDMV", 4) != 0)
        decoders_die(name, "is no sparse extent");
    const size_t grain = (size_t)le(p + 20, 8) * 512;
    const uint64_t sectors = le(p + 12, 8);
    for (uint64_t at = le(p + 64, 8) * 512; at + 512 <= u->file_len;) {
        const uint64_t value = le(p + at, 8), len = le(p + at + 8, 4);
        if (len && value + grain / 512 <= sectors) {
            add(u, p + at + 12, (size_t)len, grain);
            at += (12 + len + 511) / 512 * 512;
        } else if (len) {
            at += (12 + len + 511) / 512 * 512;
        } else {
            const uint64_t type = le(p + at + 12, 4);
            if (type == 0 || value > u->file_len / 512) /* end of stream */
                break;
            at += 512 + value * 512;
        }
    }
    if (!u->n)
        decoders_die(name, "has no grains");
}
