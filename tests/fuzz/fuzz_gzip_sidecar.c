/* SPDX-License-Identifier: Apache-2.0 */
/* An index that lies beside the source as untrusted input.
 *
 * The first byte of an input says whose form it has: ours, gztool's or
 * indexed_gzip's; changes to a true one follow (fuzz_changes.h).  A reader asks
 * for what lies far behind what is decoded, so that it is looked for.  Whatever
 * it says, every read gives the right bytes: ours holds checksums, nothing of
 * the others is believed. */
#include <zlib.h>

#include "fuzz_changes.h"
#include "fuzz_drive.h"

enum { PLAIN = 10 << 20, MAX_FILE = 4 << 20, KINDS = 3 };

static uint8_t *plain, *packed;
static size_t packed_len;
static struct file {
    uint8_t *p;
    size_t n;
} files[KINDS];

static bool take(void *cookie, const void *data, size_t len)
{
    struct file *const f = (struct file *)cookie;

    MUST(len <= MAX_FILE - f->n);
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
    MUST(memhost_open(h, &platter_driver, &child->child, 0, &image, &opened,
                      &err, (const char *)NULL) == PLT_OK);
    return image;
}

static void set_up(void)
{
    static const char *const forms[KINDS] = {NULL, "gztool", "indexed_gzip"};
    uint32_t lcg = 1;
    z_stream z;

    plain = malloc(PLAIN);
    packed = malloc(PLAIN);
    MUST(plain && packed);
    for (size_t i = 0; i < PLAIN; i++) {
        lcg = lcg * 1664525U + 1013904223U;
        plain[i] = (uint8_t)(i % 64 < 40 ? 'x' : 'a' + (lcg >> 29));
    }
    memset(&z, 0, sizeof(z));
    MUST(deflateInit2(&z, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = plain;
    z.avail_in = PLAIN;
    z.next_out = packed;
    z.avail_out = PLAIN;
    MUST(deflate(&z, Z_FINISH) == Z_STREAM_END);
    packed_len = z.total_out;
    MUST(deflateEnd(&z) == Z_OK);
    struct memhost *const h = memhost_new(0, NULL);
    struct memchild child;
    struct plt_error err = {0};
    uint64_t size = 0;
    void *const image = open_stream(h, &child);
    MUST(platter_driver.resolve_size(image, memhost_io(), &size, &err) ==
             PLT_OK &&
         size == PLAIN);
    for (size_t i = 0; i < KINDS; i++) {
        files[i].p = malloc(MAX_FILE);
        MUST(files[i].p);
        MUST((forms[i]
                  ? platter_driver.index_get_as(image, memhost_io(), forms[i],
                                                take, &files[i], &err)
                  : platter_driver.index_get(image, memhost_io(), take,
                                             &files[i], &err)) == PLT_OK);
    }
    platter_driver.close(image);
    memhost_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const suffixes[KINDS] = {".pltidx", ".gzi", ".gzidx"};
    static const uint32_t spots[] = {PLAIN - 5000, 5 << 20, 0};
    static uint8_t got[5000];
    struct memchild child, beside;
    struct plt_error err = {0};

    if (!plain)
        set_up();
    const unsigned kind = size ? data[0] % KINDS : 0;
    size_t len = files[kind].n;
    uint8_t *const p = malloc(len);
    MUST(p);
    memcpy(p, files[kind].p, len);
    for (size_t i = 0; i < CHANGES && 1 + (i + 1) * CHANGE <= size; i++)
        change(p, files[kind].n, &len, data + 1 + i * CHANGE);
    struct memhost *const h = memhost_new(16 << 20, NULL);
    memchild_init(&beside, p, len);
    memhost_add_named(h, suffixes[kind], &beside.child);
    void *const image = open_stream(h, &child);
    for (size_t i = 0; i < sizeof(spots) / sizeof(spots[0]); i++) {
        MUST(fuzz_read(image, got, spots[i], sizeof(got), &err) == PLT_OK);
        MUST(memcmp(got, plain + spots[i], sizeof(got)) == 0);
    }
    MUST(memhost_sidecars(h) > 0);
    free(memhost_info(&platter_driver, image));
    platter_driver.close(image);
    memhost_free(h);
    free(p);
    return 0;
}
