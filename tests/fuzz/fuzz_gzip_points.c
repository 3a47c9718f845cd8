/* SPDX-License-Identifier: Apache-2.0 */
/* The stored index of a gzip layer as untrusted input.
 *
 * The input is a list of changes to a real index of a stream made here: byte 0
 * has flags, then five bytes each: where (24 bits), and two bytes to
 * exclusive-or there.  Without FORGE the checksums tell, so every read must
 * give the right bytes; with it they are made to fit, and the driver must only
 * stay within memory and time: whoever can write the folder with right
 * checksums owns it. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <platter/bytes.h>

#include "fuzz_drive.h"

enum {
    FORGE = 1,
    PLAIN = 3 << 20, /* some points */
    HEADER = 60,
    STATE_MAX = 1 << 20
};

static uint8_t plain[PLAIN], *packed, *state;
static size_t packed_len, state_len;
static char dir[] = "/tmp/fuzz_points.XXXXXX", path[64];

static void remove_dir(void)
{
    (void)unlink(path);
    (void)rmdir(dir);
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
    uint32_t lcg = 1;
    for (size_t i = 0; i < PLAIN; i++) {
        lcg = lcg * 1664525U + 1013904223U;
        /* 512 KiB of zeros in the middle: zero runs are kept, too. */
        const bool is_zero = i >= PLAIN / 2 && i < PLAIN / 2 + (512 << 10);
        plain[i] = is_zero ? 0 : (uint8_t)('a' + (lcg >> 29));
    }
    z_stream z;
    memset(&z, 0, sizeof(z));
    FUZZ_MUST(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) ==
              Z_OK);
    packed = malloc(PLAIN);
    state = malloc(STATE_MAX);
    FUZZ_MUST(packed && state);
    z.next_in = plain;
    z.avail_in = PLAIN;
    z.next_out = packed;
    z.avail_out = PLAIN;
    FUZZ_MUST(deflate(&z, Z_FINISH) == Z_STREAM_END);
    packed_len = z.total_out;
    FUZZ_MUST(deflateEnd(&z) == Z_OK && mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/points", dir);
    FUZZ_MUST(atexit(remove_dir) == 0);

    struct memhost *const h = memhost_new(0, dir);
    struct memchild child;
    struct plt_error err = {0};
    uint64_t size = 0;
    void *const image = open_stream(h, &child);
    FUZZ_MUST(platter_driver.resolve_size(image, memhost_io(), &size, &err) ==
                  PLT_OK &&
              size == PLAIN);
    platter_driver.close(image);
    memhost_free(h);
    FILE *const f = fopen(path, "rb");
    FUZZ_MUST(f);
    state_len = fread(state, 1, STATE_MAX, f);
    (void)fclose(f);
    FUZZ_MUST(state_len > HEADER + 100);
}

/* Give the header and every record the checksum of what they say now. */
static void forge(uint8_t *p, size_t n)
{
    if (n < HEADER)
        return;
    plt_put_le32(p + HEADER - 4, (uint32_t)crc32(0, p, HEADER - 4));
    for (size_t at = HEADER; n - at >= 12;) {
        const uint32_t len = plt_le32(p + at + 4);
        if (len > n - at - 12)
            return;
        plt_put_le32(p + at + 8 + len,
                     (uint32_t)crc32(0, p + at, (uInt)(8 + len)));
        at += 12 + (size_t)len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t spots[] = {0, 1 << 20, PLAIN / 2 + 7, PLAIN - 5000};
    static uint8_t got[5000];
    struct memchild child;
    struct plt_error err = {0};
    const bool is_forged = size && data[0] & FORGE;

    if (!packed)
        setup();
    uint8_t *const p = malloc(state_len);
    FUZZ_MUST(p);
    memcpy(p, state, state_len);
    for (size_t i = 1; size >= 5 && i <= size - 5; i += 5) {
        const size_t at =
            (data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16) %
            (state_len - 1);
        p[at] ^= data[i + 3];
        p[at + 1] ^= data[i + 4];
    }
    if (is_forged)
        forge(p, state_len);
    FILE *const f = fopen(path, "wb");
    FUZZ_MUST(f && fwrite(p, 1, state_len, f) == state_len);
    FUZZ_MUST(fclose(f) == 0);
    free(p);

    struct memhost *const h = memhost_new(0, dir);
    void *const image = open_stream(h, &child);
    for (size_t i = 0; i < sizeof(spots) / sizeof(spots[0]); i++) {
        const enum plt_status st =
            fuzz_read(image, got, spots[i], sizeof(got), &err);
        if (!is_forged) {
            FUZZ_MUST(st == PLT_OK);
            FUZZ_MUST(memcmp(got, plain + spots[i], sizeof(got)) == 0);
        }
    }
    free(memhost_info(&platter_driver, image));
    platter_driver.close(image);
    memhost_free(h);
    return 0;
}
