/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, bitmaps, encryption, check: through the driver's ABI, on images
 * whose tables lie. */
#include "qcow2_images.h"

#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>

TestSuite(qcow2_tables, .init = enter_folder, .fini = leave_folder,
          .timeout = 240);

static const char *const secrets[] = {"falsch", "geheim"};

static bool take_snapshot(void *cookie, const struct plt_snapshot *s)
{
    cr_assert(s->id && s->name);
    ++*(unsigned *)cookie;
    return true;
}

static bool take_extent(void *cookie, const struct plt_extent *x)
{
    uint64_t *const next = (uint64_t *)cookie;

    cr_assert(x->len > 0 && x->off <= *next && x->off + x->len > *next);
    *next = x->off + x->len;
    return true;
}

struct told {
    uint64_t n_found, done, all;
};

static void take_finding(void *cookie, enum plt_finding kind, uint64_t at,
                         const char *text)
{
    (void)at;
    cr_assert(text[0] && kind <= PLT_FINDING_ERROR);
    ((struct told *)cookie)->n_found++;
}

static void take_progress(void *cookie, uint64_t done, uint64_t all)
{
    struct told *const t = (struct told *)cookie;

    cr_assert(done > t->done && done <= all);
    cr_assert(!t->all || t->all == all);
    t->done = done;
    t->all = all;
}

static void expect_sane(enum plt_status st)
{
    cr_assert(st != PLT_BUG && st != PLT_IO && st != PLT_AGAIN &&
              (unsigned)st < (unsigned)PLT_STATUS_COUNT);
}

/* Everything that can be asked of these bytes; OK when it opens. */
static enum plt_status ask_all(struct bytes file, unsigned n_secrets,
                               const char *setting, uint32_t flags,
                               struct plt_error *err)
{
    struct memhost *const h = memhost_new(1 << 20, NULL);
    struct plt_io *const io = memhost_io();
    struct plt_check check = {.struct_size = (uint32_t)sizeof(check),
                              .finding = take_finding,
                              .progress = take_progress};
    struct told told = {.n_found = 0};
    struct plt_opened opened;
    struct memchild child;
    uint64_t next = 0;
    unsigned n_snapshots = 0;
    void *image = NULL;
    static uint8_t buf[70000];

    memchild_init(&child, file.p, file.n);
    memhost_set_secrets(h, secrets, n_secrets);
    enum plt_status st = memhost_open(h, &platter_driver, &child.child, flags,
                                      &image, &opened, err, setting, NULL);
    expect_sane(st);
    if (st == PLT_OK) {
        free(memhost_info(&platter_driver, image));
        expect_sane(platter_driver.snapshots(image, io, take_snapshot,
                                             &n_snapshots, err));
        check.cookie = &told;
        const enum plt_status checked =
            platter_driver.check(image, io, &check, err);
        expect_sane(checked);
        cr_assert_eq(told.n_found,
                     check.leaks + check.corruptions + check.check_errors);
        cr_assert(checked != PLT_OK || told.done == told.all);
        /* A core of before 1.7, which has no such field. */
        const uint64_t before = told.done;
        check.struct_size = (uint32_t)offsetof(struct plt_check, progress);
        cr_assert_eq(platter_driver.check(image, io, &check, err), checked);
        cr_assert_eq(told.done, before);
        if (opened.size) {
            expect_sane(platter_driver.dirty_extents(
                image, io, "b", 0, opened.size, take_extent, &next, err));
            next = 0;
            expect_sane(platter_driver.extents(image, io, 0, opened.size,
                                               take_extent, &next, err));
        }
        const size_t n =
            opened.size < sizeof(buf) ? (size_t)opened.size : sizeof(buf);
        if (n)
            st = memhost_read(&platter_driver, image, buf, 0, n, err);
        expect_sane(st);
        platter_driver.close(image);
    }
    memhost_free(h);
    return st;
}

/* Each byte of [at, at+n) changed in turn. */
static void flip_all(struct bytes b, size_t at, size_t n, unsigned n_secrets,
                     const char *setting)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    struct plt_error err;

    cr_assert(at + n <= b.n);
    for (size_t i = at; i < at + n; i++) {
        for (size_t m = 0; m < sizeof(masks); m++) {
            b.p[i] ^= masks[m];
            (void)ask_all(b, n_secrets, setting, 0, &err);
            b.p[i] ^= masks[m];
        }
    }
    cr_assert_eq(ask_all(b, n_secrets, setting, 0, &err), PLT_OK, "%s",
                 err.text);
}

static struct bytes with_tables(void)
{
    sh("qemu-img create -q -f qcow2 -o cluster_size=4k t.qcow2 1M;"
       "qemu-io -f qcow2 -c 'write -P 1 0 100k' t.qcow2 >/dev/null;"
       "qemu-img snapshot -c first t.qcow2; qemu-img bitmap --add t.qcow2 b;"
       "qemu-io -f qcow2 -c 'write -P 2 50k 100k' t.qcow2 >/dev/null;"
       "qemu-img snapshot -c second t.qcow2");
    return slurp("t.qcow2");
}

static size_t extension(struct bytes b, uint32_t type)
{
    uint8_t want[4];

    plt_put_be32(want, type);
    const uint8_t *const p = memmem(b.p, 4096, want, 4);
    cr_assert(p);
    return (size_t)(p - b.p);
}

Test(qcow2_tables, snapshot_tables_that_lie_do_no_harm)
{
    struct bytes b = with_tables();

    flip_all(b, (size_t)plt_be64(b.p + 64), 160, 0, NULL);
    flip_all(b, (size_t)plt_be64(b.p + 64), 80, 0, "snapshot=1");
    flip_all(b, 60, 12, 0, NULL);
    free(b.p);
}

Test(qcow2_tables, a_bad_snapshot_does_not_take_the_disk_away)
{
    struct bytes b = with_tables();
    struct plt_error err;

    plt_put_be64(b.p + plt_be64(b.p + 64), 12345); /* its L1 table */
    cr_assert_eq(ask_all(b, 0, NULL, 0, &err), PLT_OK, "%s", err.text);
    cr_assert_eq(ask_all(b, 0, "snapshot=1", 0, &err), PLT_CORRUPT);
    cr_assert_eq(ask_all(b, 0, "snapshot=second", 0, &err), PLT_OK);
    cr_assert_eq(ask_all(b, 0, "snapshot=third", 0, &err), PLT_NOT_FOUND);
    cr_assert_eq(ask_all(b, 0, "vmstate=on", 0, &err), PLT_INVALID);
    free(b.p);
}

Test(qcow2_tables, bitmap_directories_that_lie_do_no_harm)
{
    struct bytes b = with_tables();
    const size_t at = extension(b, 0x23852875);
    const uint64_t directory = plt_be64(b.p + at + 24);
    const uint64_t table = plt_be64(b.p + directory);

    flip_all(b, at, 32, 0, NULL);
    flip_all(b, (size_t)directory, 32, 0, NULL);
    flip_all(b, (size_t)table, 8, 0, NULL);
    free(b.p);
}

Test(qcow2_tables, refcounts_that_lie_are_found)
{
    struct bytes b = with_tables();
    struct plt_error err;

    flip_all(b, (size_t)plt_be64(b.p + 48), 16, 0, NULL);
    flip_all(b, (size_t)plt_be64(b.p + plt_be64(b.p + 48)), 64, 0, NULL);
    cr_assert_eq(ask_all(b, 0, NULL, 0, &err), PLT_OK);
    free(b.p);
}

/* ---- Encryption ---- */

static struct bytes locked(void)
{
    /* Its key derivation cannot always measure so short a time. */
    sh("for i in $(seq 50); do rm -f l.qcow2; qemu-img create -q "
       "--object secret,id=s,data=geheim -f qcow2 -o encrypt.format=luks,"
       "encrypt.key-secret=s,encrypt.iter-time=10,encrypt.cipher-alg=aes-128,"
       "encrypt.hash-alg=sha512 l.qcow2 1M 2>/dev/null && break; done;"
       "qemu-io --object secret,id=s,data=geheim --image-opts driver=qcow2,"
       "file.filename=l.qcow2,encrypt.key-secret=s -c 'write -P 1 0 100k' "
       ">/dev/null");
    return slurp("l.qcow2");
}

Test(qcow2_tables, without_the_secret_there_is_a_description_and_no_disk)
{
    struct bytes b = locked();
    struct plt_error err;

    cr_assert_eq(ask_all(b, 2, NULL, 0, &err), PLT_OK, "%s", err.text);
    cr_assert_eq(ask_all(b, 0, NULL, 0, &err), PLT_DENIED);
    cr_assert(strstr(err.text, "no secret was named"), "%s", err.text);
    cr_assert_eq(ask_all(b, 1, NULL, 0, &err), PLT_DENIED);
    cr_assert(strstr(err.text, "opens it"), "%s", err.text);
    /* Opened to be described: it opens, and the read is refused. */
    cr_assert_eq(ask_all(b, 0, NULL, PLT_OPEN_DESCRIBE, &err), PLT_DENIED);
    cr_assert(strstr(err.text, "without a key"), "%s", err.text);
    free(b.p);
}

Test(qcow2_tables, luks_headers_that_lie_do_no_harm)
{
    struct bytes b = locked();
    const size_t at = (size_t)plt_be64(b.p + extension(b, 0x0537be77) + 8);
    struct plt_error err;

    for (size_t i = 0; i < 592; i += i < 112 ? 3 : 7) {
        const size_t in = i >= 208 ? (i - 208) % 48 : 0;
        /* More iterations only take longer. */
        if ((i >= 164 && i < 168) || (i >= 208 && in >= 4 && in < 8))
            continue;
        b.p[at + i] ^= 0x81;
        const enum plt_status st = ask_all(b, 2, NULL, 0, &err);
        cr_assert(st == PLT_OK || st == PLT_DENIED || st == PLT_CORRUPT ||
                      st == PLT_UNSUPPORTED,
                  "%zu: %u", i, (unsigned)st);
        b.p[at + i] ^= 0x81;
    }
    const uint32_t iterations = plt_be32(b.p + at + 164);
    plt_put_be32(b.p + at + 164, UINT32_MAX);
    cr_assert_eq(ask_all(b, 2, NULL, 0, &err), PLT_CORRUPT);
    plt_put_be32(b.p + at + 164, iterations);
    /* The most there may be, of a digest that has half of the key's length. */
    memcpy(b.p + at + 72, "md5\0\0\0", 7);
    plt_put_be32(b.p + at + 212, 32 << 20);
    cr_assert_eq(ask_all(b, 2, NULL, 0, &err), PLT_CORRUPT);
    free(b.p);
}
