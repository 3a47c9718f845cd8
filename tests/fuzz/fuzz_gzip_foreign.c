/* SPDX-License-Identifier: Apache-2.0 */
/* Another tool's index as untrusted input.
 *
 * The input is a list of changes to a real index of a stream made here: byte 0
 * says which (1: indexed_gzip's, else gztool's) and whether (2) it is cut off,
 * at the first place; then five bytes each: where (24 bits), and two bytes to
 * exclusive-or there.  Whatever it says, every read must give the right bytes:
 * nothing of a foreign index is believed. */
#include <zlib.h>

#include "fuzz_drive.h"

enum {
    INDEXED = 1,
    CUT = 2,
    PLAIN = 3300000,
    SPLIT = 2200000,
    MAX_FILE = 4 << 20
};

static uint8_t plain[PLAIN], *packed;
static size_t packed_len;
static struct file {
    uint8_t *p;
    size_t n;
} files[2];

static bool take(void *cookie, const void *data, size_t len)
{
    struct file *const f = (struct file *)cookie;

    FUZZ_MUST(len <= MAX_FILE - f->n);
    memcpy(f->p + f->n, data, len);
    f->n += len;
    return true;
}

static void *open_stream(struct memhost *h, struct memchild *child)
{
    struct plt_error err = {0};
    struct plt_opened opened;
    void *image = NULL;

    memchild_init(child, packed, packed_len);
    FUZZ_MUST(memhost_open(h, &platter_driver, &child->child, 0, &image,
                           &opened, &err, (const char *)NULL) == PLT_OK);
    return image;
}

static void setup(void)
{
    static const char *const forms[] = {"gztool", "indexed_gzip"};
    uint32_t lcg = 1;

    packed = malloc(PLAIN);
    FUZZ_MUST(packed);
    for (size_t i = 0; i < PLAIN; i++) {
        lcg = lcg * 1664525U + 1013904223U;
        plain[i] = (uint8_t)('a' + (lcg >> 29));
    }
    /* Two members, so that there is a point without a window. */
    for (size_t i = 0; i < 2; i++) {
        z_stream z;
        memset(&z, 0, sizeof(z));
        FUZZ_MUST(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) ==
                  Z_OK);
        z.next_in = plain + i * SPLIT;
        z.avail_in = i ? PLAIN - SPLIT : SPLIT;
        z.next_out = packed + packed_len;
        z.avail_out = (uInt)(PLAIN - packed_len);
        FUZZ_MUST(deflate(&z, Z_FINISH) == Z_STREAM_END);
        packed_len += z.total_out;
        FUZZ_MUST(deflateEnd(&z) == Z_OK);
    }
    struct memhost *const h = memhost_new(0, NULL);
    struct memchild child;
    struct plt_error err = {0};
    void *const image = open_stream(h, &child);
    for (size_t i = 0; i < 2; i++) {
        files[i].p = malloc(MAX_FILE);
        FUZZ_MUST(files[i].p);
        FUZZ_MUST(platter_driver.index_get_as(image, memhost_io(), forms[i],
                                              take, &files[i], &err) == PLT_OK);
    }
    platter_driver.close(image);
    memhost_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t spots[] = {0, 1 << 20, SPLIT - 2500, PLAIN - 5000};
    static uint8_t got[5000];
    struct memchild child;
    struct plt_error err = {0};

    if (!packed)
        setup();
    const struct file *const file = &files[size && data[0] & INDEXED];
    size_t len = file->n;
    uint8_t *const p = malloc(len);
    FUZZ_MUST(p);
    memcpy(p, file->p, len);
    for (size_t i = 1; size >= 5 && i <= size - 5; i += 5) {
        const size_t at =
            (data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16) %
            (file->n - 1);
        p[at] ^= data[i + 3];
        p[at + 1] ^= data[i + 4];
        if (i == 1 && data[0] & CUT)
            len = at;
    }
    struct memhost *const h = memhost_new(1 << 20, NULL);
    void *const image = open_stream(h, &child);
    const enum plt_status st =
        platter_driver.index_put(image, memhost_io(), p, len, &err);
    FUZZ_MUST(st == PLT_OK || st == PLT_INVALID);
    free(p);
    for (size_t i = 0; i < sizeof(spots) / sizeof(spots[0]); i++) {
        FUZZ_MUST(fuzz_read(image, got, spots[i], sizeof(got), &err) == PLT_OK);
        FUZZ_MUST(memcmp(got, plain + spots[i], sizeof(got)) == 0);
    }
    free(memhost_info(&platter_driver, image));
    platter_driver.close(image);
    memhost_free(h);
    return 0;
}
