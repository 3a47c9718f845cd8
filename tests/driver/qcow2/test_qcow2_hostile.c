/* SPDX-License-Identifier: Apache-2.0 */
/* Images that lie, images cut short, features not read, children that fail. */
#include "qcow2_images.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

TestSuite(qcow2_hostile, .init = enter_folder, .fini = leave_folder,
          .timeout = 240);

/* Open, then read all in one; the first failure. */
static enum plt_status try_all(struct bytes file, struct plt_error *err)
{
    struct opened o;
    enum plt_status st = open_bytes(&o, file, false, 1 << 20, err);

    if (st != PLT_OK)
        return st;
    uint8_t *const buf = malloc(o.size);
    cr_assert(buf);
    st = memhost_read(&platter_driver, o.image, buf, 0, o.size, err);
    free(buf);
    close_image(&o);
    return st;
}

static struct bytes make_image(const char *options)
{
    sh("rm -f h.qcow2; qemu-img convert %s -O qcow2 disk.raw h.qcow2", options);
    return slurp("h.qcow2");
}

/* Where the first L2 table lies. */
static uint64_t first_l2(struct bytes b)
{
    return plt_be64(b.p + plt_be64(b.p + 40)) & UINT64_C(0x00fffffffffffe00);
}

Test(qcow2_hostile, header_fields_out_of_bounds_are_corrupt)
{
    static const struct {
        size_t at;
        unsigned width;
        uint64_t value;
    } lies[] = {
        {0, 4, 0x514649fa},
        {20, 4, 8},
        {20, 4, 22},
        {20, 4, UINT32_MAX},
        {24, 8, UINT64_MAX},
        {24, 8, UINT64_C(1) << 63},
        {24, 8, UINT64_C(1) << 50},
        {36, 4, 0},
        {36, 4, UINT32_MAX},
        {36, 4, 1 << 20},
        {40, 8, 1},
        {40, 8, UINT64_C(1) << 62},
        {40, 8, UINT64_MAX & ~0xffffULL},
        {48, 8, 12345},
        {48, 8, UINT64_C(1) << 40},
        {56, 4, 0},
        {56, 4, UINT32_MAX},
        {60, 4, UINT32_MAX},
        {96, 4, 7},
        {100, 4, 96},
        {100, 4, 105},
        {100, 4, UINT32_MAX},
        {16, 4, 1024},
        {108, 4, 0},
    };

    make_disk();
    struct bytes good = make_image("");
    struct plt_error err;
    cr_assert_eq(try_all(good, &err), PLT_OK, "%s", err.text);
    for (size_t i = 0; i + 1 < sizeof(lies) / sizeof(lies[0]); i++) {
        uint8_t kept[128];
        memcpy(kept, good.p, sizeof(kept));
        if (lies[i].width == 4)
            plt_put_be32(good.p + lies[i].at, (uint32_t)lies[i].value);
        else
            plt_put_be64(good.p + lies[i].at, lies[i].value);
        if (lies[i].at == 16)
            plt_put_be64(good.p + 8, 512);
        cr_assert_eq(try_all(good, &err), PLT_CORRUPT, "%zu: %llx: %s",
                     lies[i].at, (unsigned long long)lies[i].value, err.text);
        memcpy(good.p, kept, sizeof(kept));
    }
    free(good.p);
}

Test(qcow2_hostile, tables_that_point_outside_the_file_are_corrupt)
{
    static const uint64_t bad[] = {
        UINT64_C(0x0000000000010200), UINT64_C(0x0000000070000000),
        UINT64_C(0x00fffffffffe0000), UINT64_C(0x0000000000000200),
        UINT64_C(0x4fffffffffffffff), UINT64_C(0x7fffffffffffffff)};
    struct plt_error err;

    make_disk();
    struct bytes b = make_image("");
    const uint64_t l1 = plt_be64(b.p + 40), l2 = first_l2(b);
    const uint64_t l1_entry = plt_be64(b.p + l1);
    const uint64_t l2_entry = plt_be64(b.p + l2);
    for (size_t i = 0; i < 4; i++) {
        plt_put_be64(b.p + l1, bad[i]);
        cr_assert_eq(try_all(b, &err), PLT_CORRUPT, "L1 %zu", i);
    }
    plt_put_be64(b.p + l1, l1_entry);
    for (size_t i = 0; i < 6; i++) {
        plt_put_be64(b.p + l2, bad[i]);
        cr_assert_eq(try_all(b, &err), PLT_CORRUPT, "L2 %zu", i);
    }
    plt_put_be64(b.p + l2, l2_entry);
    cr_assert_eq(try_all(b, &err), PLT_OK);
    free(b.p);
}

Test(qcow2_hostile, tables_that_point_to_each_other_do_no_harm)
{
    struct plt_error err;

    make_disk();
    struct bytes b = make_image("-o cluster_size=512");
    const uint64_t l1 = plt_be64(b.p + 40), l2 = first_l2(b);
    /* The L1 table as an L2 table, L2 tables as data, one for everything. */
    plt_put_be64(b.p + l1 + 8, l1);
    for (unsigned i = 2; i < plt_be32(b.p + 36); i++)
        plt_put_be64(b.p + l1 + i * 8, l2);
    plt_put_be64(b.p + l2, l2);
    (void)try_all(b, &err);
    free(b.p);
}

Test(qcow2_hostile, a_zero_flag_in_version_2_is_corrupt_as_for_qemu)
{
    struct plt_error err;

    make_disk();
    struct bytes b = make_image("-o compat=0.10");
    b.p[first_l2(b) + 7] |= 1;
    cr_assert_eq(try_all(b, &err), PLT_CORRUPT);
    FILE *const f = fopen("zero.qcow2", "wb");
    cr_assert(f && fwrite(b.p, 1, b.n, f) == b.n);
    (void)fclose(f);
    sh("! qemu-img convert -O raw zero.qcow2 out.raw 2>/dev/null");
    free(b.p);
}

Test(qcow2_hostile, subclusters_both_allocated_and_zero_are_corrupt)
{
    struct plt_error err;

    make_disk();
    struct bytes b = make_image("-o extended_l2=on,cluster_size=64k");
    memset(b.p + first_l2(b) + 8, 0xff, 8);
    cr_assert_eq(try_all(b, &err), PLT_CORRUPT);
    free(b.p);
}

Test(qcow2_hostile, broken_compressed_clusters_are_corrupt_and_others_are_read)
{
    static const char *const options[] = {"-c", "-c -o compression_type=zstd"};
    static uint8_t buf[65536];

    make_disk();
    for (size_t i = 0; i < 2; i++) {
        struct bytes b = make_image(options[i]), truth = slurp("disk.raw");
        struct opened o;
        struct plt_error err;
        uint64_t n = 0;
        const uint64_t l2 = first_l2(b);
        while (!(b.p[l2 + n * 8] & 0x40))
            n++;
        const uint64_t at = plt_be64(b.p + l2 + n * 8) & ((1ULL << 54) - 1);
        memset(b.p + at, 0xff, 64);
        cr_assert_eq(open_bytes(&o, b, false, 1 << 20, &err), PLT_OK);
        cr_assert_eq(memhost_read(&platter_driver, o.image, buf, n << 16,
                                  sizeof(buf), &err),
                     PLT_CORRUPT);
        cr_assert_eq(err.at, at);
        /* The next that is compressed, whose first sector is shared. */
        for (n++; !(b.p[l2 + n * 8] & 0x40); n++)
            continue;
        cr_assert_eq(memhost_read(&platter_driver, o.image, buf, n << 16,
                                  sizeof(buf), &err),
                     PLT_OK);
        cr_assert(memcmp(buf, truth.p + (n << 16), sizeof(buf)) == 0);
        close_image(&o);
        free(b.p);
        free(truth.p);
    }
}

Test(qcow2_hostile, a_file_cut_short_is_never_read_as_whole)
{
    struct plt_error err;

    make_disk();
    struct bytes b = make_image("");
    for (size_t n = 0; n + 65536 < b.n; n += b.n / 97)
        cr_assert_eq(try_all((struct bytes){b.p, n}, &err), PLT_CORRUPT,
                     "cut at %zu", n);
    free(b.p);
}

Test(qcow2_hostile, any_changed_byte_of_the_tables_does_no_harm)
{
    struct plt_error err;

    make_disk();
    struct bytes b = make_image("-c -o cluster_size=4k");
    const uint64_t l2 = first_l2(b);
    srandom(11);
    for (unsigned i = 0; i < 300; i++) {
        const size_t at =
            i % 2 ? (size_t)random() % 600 : l2 + (size_t)random() % 4096;
        const uint8_t was = b.p[at];
        struct opened o;
        uint8_t buf[5000];
        b.p[at] ^= (uint8_t)(1 << random() % 8);
        if (open_bytes(&o, b, false, 100000, &err) == PLT_OK) {
            for (uint64_t off = 0; off + 5000 < o.size && off < (8 << 20);
                 off += 77777)
                (void)memhost_read(&platter_driver, o.image, buf, off, 5000,
                                   &err);
            close_image(&o);
        }
        b.p[at] = was;
    }
    free(b.p);
}

/* ---- Features ---- */

static void expect_refused(const char *path, enum plt_status want,
                           const char *word)
{
    struct plt_error err;
    struct bytes b = slurp(path);

    cr_assert_eq(try_all(b, &err), want, "%s", path);
    cr_assert(strstr(err.text, word), "%s", err.text);
    free(b.p);
}

Test(qcow2_hostile, what_cannot_be_opened_is_refused_by_name)
{
    sh("qemu-img create -q -f qcow2 -o data_file=x.data d.qcow2 1M");
    expect_refused("d.qcow2", PLT_DENIED, "data file");
    /* Its key derivation cannot always measure so short a time. */
    sh("for i in $(seq 50); do qemu-img create -q "
       "--object secret,id=s,data=geheim -f qcow2 -o encrypt.format=luks,"
       "encrypt.key-secret=s,encrypt.iter-time=10 l.qcow2 1M 2>/dev/null && "
       "exit 0; done; exit 1");
    expect_refused("l.qcow2", PLT_DENIED, "LUKS");
    sh("qemu-img create -q -f qcow2 n.qcow2 1M; printf '\\001' | "
       "dd of=n.qcow2 bs=1 seek=73 conv=notrunc status=none");
    expect_refused("n.qcow2", PLT_UNSUPPORTED, "incompatible bit 48");
    sh("printf 'QFI\\373\\0\\0\\0\\001%%0200d' 0 > v1.qcow2");
    expect_refused("v1.qcow2", PLT_UNSUPPORTED, "version 1");
}

Test(qcow2_hostile, an_unknown_feature_is_called_what_the_image_calls_it)
{
    static const uint8_t of_table[] = {0x68, 0x03, 0xf8, 0x57};

    sh("qemu-img create -q -f qcow2 f.qcow2 1M");
    struct bytes b = slurp("f.qcow2");
    uint8_t *const table = memmem(b.p, 4096, of_table, 4);
    struct plt_error err;
    cr_assert(table);
    table[9] = 40; /* its first row, which is of the incompatible ones */
    memcpy(table + 10, "time travel\0", 12);
    b.p[72 + 2] |= 1; /* bit 40 */
    cr_assert_eq(try_all(b, &err), PLT_UNSUPPORTED);
    cr_assert(strstr(err.text, "time travel"), "%s", err.text);
    free(b.p);
}

/* ---- Children that fail ---- */

Test(qcow2_hostile, every_read_of_the_child_may_fail_once)
{
    static const char *const options[] = {"-o cluster_size=4k",
                                          "-c -o cluster_size=4k"};

    make_disk();
    struct bytes truth = slurp("disk.raw");
    uint8_t *const buf = malloc(truth.n);
    for (size_t k = 0; k < 4; k++) {
        struct bytes b = make_image(options[k / 2]);
        unsigned n_failed = 0;
        for (uint64_t n = 1;; n++) {
            struct opened o;
            struct plt_opened out;
            struct plt_error err;
            memset(&o, 0, sizeof(o));
            o.host = memhost_new(1 << 20, NULL);
            memchild_init(&o.child, b.p, b.n);
            o.child.fail_at = n;
            o.child.fail_with = k % 2 ? PLT_TIMEOUT : PLT_ORIGIN;
            enum plt_status st =
                memhost_open(o.host, &platter_driver, &o.child.child, 0,
                             &o.image, &out, &err, NULL);
            if (st != PLT_OK) {
                cr_assert_eq(st, o.child.fail_with);
                memhost_free(o.host);
                n_failed++;
                continue;
            }
            /* In steps, so that there are reads to fail. */
            st = PLT_OK;
            for (size_t at = 0; at < truth.n && st == PLT_OK; at += 1000000) {
                const size_t len =
                    truth.n - at < 1000000 ? truth.n - at : 1000000;
                st = memhost_read(&platter_driver, o.image, buf + at, at, len,
                                  &err);
            }
            if (st != PLT_OK) {
                cr_assert_eq(st, o.child.fail_with);
                n_failed++;
            }
            /* What failed left nothing behind. */
            o.child.fail_at = 0;
            cr_assert_eq(
                memhost_read(&platter_driver, o.image, buf, 0, truth.n, &err),
                PLT_OK);
            cr_assert(memcmp(buf, truth.p, truth.n) == 0);
            platter_driver.close(o.image);
            memhost_free(o.host);
            if (st == PLT_OK)
                break;
        }
        cr_assert_geq(n_failed, 8);
        free(b.p);
    }
    free(buf);
    free(truth.p);
}
