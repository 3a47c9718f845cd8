/* SPDX-License-Identifier: Apache-2.0 */
/* BGZF: found by hopping, decoded by blocks; lengths that lie are errors. */
#include "drive.h"

#include <platter/bytes.h>

static const char make[] =
    "head -c 5000000 /dev/urandom | base64 >d; head -c 3000000 /dev/zero >>d;"
    "seq 1 300000 >>d; bgzip -c d >d.gz";

static void *open_over(struct memhost *h, struct memchild *child,
                       struct bytes packed)
{
    struct plt_error err = {0};
    struct plt_opened opened;
    void *image = NULL;

    memchild_init(child, packed.p, packed.n);
    cr_assert_eq(memhost_open(h, &platter_driver, &child->child, 0, &image,
                              &opened, &err, (const char *)NULL),
                 PLT_OK, "%s", err.text);
    return image;
}

static enum plt_status size_of(void *image, uint64_t *size,
                               struct plt_error *err)
{
    return platter_driver.resolve_size(image, memhost_io(), size, err);
}

static void has(void *image, const char *text)
{
    char *const info = memhost_info(&platter_driver, image);
    cr_assert(strstr(info, text), "%s in %s", text, info);
    free(info);
}

/* Where the n-th block begins. */
static size_t block(struct bytes b, unsigned n)
{
    size_t at = 0;
    while (n-- && at + 18 < b.n)
        at += plt_le16(b.p + at + 16) + 1U;
    return at;
}

Test(gzip_bgzf, any_span_with_faults)
{
    char dir[] = "/tmp/driver_gzip_bgzf.XXXXXX";
    make_files(dir, make);
    struct bytes want = load(dir, "d");
    same_as(dir, "d.gz", want, 16 << 20, true);
    same_as(dir, "d.gz", want, 0, true);
    free(want.p);
    remove_files(dir);
}

/* A cold read fetches the blocks that it needs, once; a warm one nothing. */
Test(gzip_bgzf, what_a_read_costs)
{
    char dir[] = "/tmp/driver_gzip_bgzf.XXXXXX";
    make_files(dir, make);
    struct bytes packed = load(dir, "d.gz"), want = load(dir, "d");
    struct memhost *const h = memhost_new(16 << 20, dir);
    struct memchild child;
    struct plt_error err = {0};
    uint64_t size = 0;
    uint8_t *const got = malloc(want.n);
    void *image = open_over(h, &child, packed);
    cr_assert_eq(size_of(image, &size, &err), PLT_OK, "%s", err.text);
    cr_assert_eq(size, want.n);
    has(image, "\"access\":\"bgzf\"");
    has(image, "\"eof-marker\":true");
    platter_driver.close(image);
    memhost_drop_cache(h);

    image = open_over(h, &child, packed); /* the table is kept */
    cr_assert_eq(child.n_stream_opens, 0);
    const uint64_t reads = memchild_reads(&child);
    const uint64_t bytes = memchild_bytes(&child);
    cr_assert_eq(
        memhost_read(&platter_driver, image, got, 3000000, 65536, &err),
        PLT_OK);
    cr_assert_eq(memcmp(got, want.p + 3000000, 65536), 0);
    cr_assert_eq(memchild_reads(&child) - reads, 1);
    cr_assert_leq(memchild_bytes(&child) - bytes, 2 * 65536);
    cr_assert_eq(
        memhost_read(&platter_driver, image, got, 3000001, 65000, &err),
        PLT_OK);
    cr_assert_eq(memchild_reads(&child) - reads, 1);
    /* zeros cost nothing */
    cr_assert_eq(memhost_read(&platter_driver, image, got, want.n - 4500000,
                              65536, &err),
                 PLT_OK);
    cr_assert_eq(memchild_reads(&child) - reads, 1);
    /* several at once: one read below */
    struct plt_seg segs[5];
    for (size_t i = 0; i < 5; i++)
        segs[i] =
            (struct plt_seg){1000000 - 150000 * i + i, 70000, got + 70000 * i};
    memhost_drop_cache(h);
    cr_assert_eq(platter_driver.read(image, memhost_io(), segs, 5, &err),
                 PLT_OK);
    for (size_t i = 0; i < 5; i++)
        cr_assert_eq(memcmp(segs[i].buf, want.p + segs[i].off, 70000), 0);
    cr_assert_eq(memchild_reads(&child) - reads, 2);
    platter_driver.close(image);
    memhost_free(h);
    free(got);
    free(packed.p);
    free(want.p);
    remove_files(dir);
}

/* Change `bytes` at `at`, and what follows from it. */
struct lie {
    const char *what;
    unsigned block;
    int at; /* < 0: from the block's end */
    uint8_t change;
    bool is_found_out; /* not before the block is read */
};

Test(gzip_bgzf, lengths_that_lie_are_errors)
{
    static const struct lie lies[] = {{"BSIZE, a little", 20, 16, 1, true},
                                      {"BSIZE, much", 20, 17, 0x40, true},
                                      {"BSIZE of the first", 0, 16, 3, true},
                                      {"ISIZE too large", 30, -4, 1, false},
                                      {"ISIZE too small", 30, -3, 1, false},
                                      {"ISIZE beyond 64 KiB", 30, -2, 1, true},
                                      {"CRC-32", 30, -8, 1, false},
                                      {"data", 30, 100, 0x10, false}};
    char dir[] = "/tmp/driver_gzip_bgzf.XXXXXX";
    make_files(dir, make);
    struct bytes packed = load(dir, "d.gz"), want = load(dir, "d");
    uint8_t *const got = malloc(want.n + 65536);
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        const struct lie *const l = &lies[i];
        const size_t from = block(packed, l->block);
        const size_t to = block(packed, l->block + 1);
        const size_t at =
            l->at < 0 ? to - (size_t)-l->at : from + (size_t)l->at;
        struct memhost *const h = memhost_new(16 << 20, NULL);
        struct memchild child;
        struct plt_error err = {0};
        uint64_t size = 0;
        packed.p[at] ^= l->change;
        void *const image = open_over(h, &child, packed);
        enum plt_status st = size_of(image, &size, &err);
        cr_assert_eq(st, l->is_found_out ? PLT_CORRUPT : PLT_OK, "%s: %d %s",
                     l->what, (int)st, err.text);
        /* What lies before is readable, the block itself is not. */
        const uint64_t ahead = (uint64_t)l->block * 65280;
        if (ahead) {
            cr_assert_eq(memhost_read(&platter_driver, image, got, 0,
                                      (size_t)ahead - 65280, &err),
                         PLT_OK, "%s: %s", l->what, err.text);
            cr_assert_eq(memcmp(got, want.p, (size_t)ahead - 65280), 0);
        }
        st = memhost_read(&platter_driver, image, got, ahead, 65280, &err);
        cr_assert_eq(st, PLT_CORRUPT, "%s: %d", l->what, (int)st);
        platter_driver.close(image);
        memhost_free(h);
        packed.p[at] ^= l->change;
    }
    free(got);
    free(packed.p);
    free(want.p);
    remove_files(dir);
}

/* What else may stand in such a file: no empty block at the end, empty ones in
 * between, other bytes or members behind. */
Test(gzip_bgzf, odd_files)
{
    static const char *const files[] = {"no-eof.gz", "twice.gz",  "garbage.gz",
                                        "mixed.gz",  "padded.gz", "bare.gz"};
    char dir[] = "/tmp/driver_gzip_bgzf.XXXXXX";
    make_files(
        dir,
        "head -c 2000000 /dev/urandom | base64 >d; cat d d >dd;"
        "bgzip -c d >d.gz; head -c -28 d.gz >no-eof.gz; cat d.gz d.gz "
        ">twice.gz;"
        "(cat d.gz; echo what) >garbage.gz; (cat d.gz; gzip -c d) >mixed.gz;"
        "(cat d.gz; head -c 5000 /dev/zero) >padded.gz;"
        "(cat no-eof.gz; echo what) >bare.gz");
    struct bytes d = load(dir, "d"), dd = load(dir, "dd");
    for (size_t i = 0; i < 6; i++) {
        const bool is_twice = i == 1 || i == 3;
        same_as(dir, files[i], is_twice ? dd : d, 8 << 20, i == 3);
    }
    static const char *const says[] = {
        "\"eof-marker\":false",      "\"access\":\"bgzf\"",
        "\"trailing-garbage\":true", "\"access\":\"points\"",
        "\"eof-marker\":true",       "\"trailing-garbage\":true"};
    for (size_t i = 0; i < 6; i++) {
        /* and the same from what was kept */
        for (unsigned k = 0; k < 2; k++) {
            struct memhost *const h = memhost_new(8 << 20, dir);
            struct memchild child;
            struct plt_error err = {0};
            uint64_t size = 0;
            struct bytes packed = load(dir, files[i]);
            void *const image = open_over(h, &child, packed);
            cr_assert_eq(size_of(image, &size, &err), PLT_OK);
            cr_assert_eq(size, i == 1 || i == 3 ? dd.n : d.n);
            has(image, says[i]);
            cr_assert(!k || child.n_stream_opens == 0, "%s", files[i]);
            same_spans(image, i == 1 || i == 3 ? dd : d, 5, files[i]);
            platter_driver.close(image);
            memhost_free(h);
            free(packed.p);
        }
        char path[64];
        (void)snprintf(path, sizeof(path), "%s/points", dir);
        cr_assert_eq(remove(path), 0);
    }
    free(d.p);
    free(dd.p);
    remove_files(dir);
}

struct sink {
    uint8_t p[1 << 20];
    size_t n;
};

static bool take(void *cookie, const void *data, size_t len)
{
    struct sink *const s = (struct sink *)cookie;
    cr_assert(len <= sizeof(s->p) - s->n);
    memcpy(s->p + s->n, data, len);
    s->n += len;
    return true;
}

Test(gzip_bgzf, the_table_goes_to_others)
{
    char dir[] = "/tmp/driver_gzip_bgzf.XXXXXX";
    make_files(dir, make);
    struct bytes packed = load(dir, "d.gz"), want = load(dir, "d");
    static struct sink s;
    struct memhost *const h = memhost_new(16 << 20, NULL);
    struct memchild child;
    struct plt_error err = {0};
    uint64_t size = 0;
    void *image = open_over(h, &child, packed);
    cr_assert_eq(size_of(image, &size, &err), PLT_OK);
    cr_assert_eq(platter_driver.index_get(image, memhost_io(), take, &s, &err),
                 PLT_OK);
    platter_driver.close(image);
    cr_assert_lt(s.n, packed.n / 500);
    for (size_t cut = 0; cut < 3; cut++) {
        image = open_over(h, &child, packed);
        cr_assert_eq(platter_driver.index_put(image, memhost_io(), s.p,
                                              s.n - cut * 300, &err),
                     PLT_OK, "%s", err.text);
        same_spans(image, want, 10, "taken");
        platter_driver.close(image);
        memhost_drop_cache(h);
    }
    memhost_free(h);
    free(packed.p);
    free(want.p);
    remove_files(dir);
}
