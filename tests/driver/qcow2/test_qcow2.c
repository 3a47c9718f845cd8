/* SPDX-License-Identifier: Apache-2.0 */
/* The driver against QEMU: what qemu-img and qemu-io wrote, read by ours, is
 * what qemu-img reads. */
#include "qcow2_images.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(qcow2, .init = enter_folder, .fini = leave_folder, .timeout = 240);

/* Writes on top, of the kinds that make each sort of cluster. */
#define CHANGES                                                                \
    "qemu-io -f qcow2 -c 'write -P 1 70k 3k' -c 'write -z 256k 512k' "         \
    "-c 'write -zu 1M 128k' -c 'discard 2M 256k' -c 'write -P 2 2100k 1k' "    \
    "-c 'write -P 3 3M 200k' -c 'write -z 3100k 512' -c 'discard 3104k 4k' "   \
    "-c 'write -P 4 5150k 512' %s > qemu-io.log"

static void expect_image(const char *path, unsigned n_spans)
{
    struct opened o;

    sh("rm -f truth.raw; qemu-img convert -f qcow2 -O raw %s truth.raw", path);
    struct bytes truth = slurp("truth.raw");
    open_image(&o, path, 4 << 20);
    expect_equal(&o, truth, n_spans);
    close_image(&o);
    open_image(&o, path, 0); /* nothing stays in the cache */
    expect_equal(&o, truth, n_spans / 4);
    close_image(&o);
    free(truth.p);
}

static void expect_matrix(const char *const *sizes, const char *options)
{
    make_disk();
    for (; *sizes; sizes++) {
        for (int is_packed = 0; is_packed < 2; is_packed++) {
            sh("qemu-img convert -f raw %s -O qcow2 -o cluster_size=%s,%s "
               "disk.raw i.qcow2",
               is_packed ? "-c" : "", *sizes, options);
            expect_image("i.qcow2", 60);
            sh(CHANGES, "i.qcow2");
            expect_image("i.qcow2", 60);
        }
    }
}

static const char *const all_sizes[] = {"512", "4k", "64k", "2M", NULL};

Test(qcow2, reads_version_2_as_qemu_does)
{
    expect_matrix(all_sizes, "compat=0.10");
}

Test(qcow2, reads_version_3_as_qemu_does)
{
    expect_matrix(all_sizes, "compat=1.1");
}

Test(qcow2, reads_zstd_clusters_as_qemu_does)
{
    expect_matrix(all_sizes, "compression_type=zstd");
}

Test(qcow2, reads_subclusters_as_qemu_does)
{
    static const char *const sizes[] = {"16k", "64k", "2M", NULL};

    expect_matrix(sizes, "extended_l2=on");
}

Test(qcow2, reads_preallocated_images_as_qemu_does)
{
    static const char *const modes[] = {"metadata", "falloc", "full"};

    for (size_t i = 0; i < 3; i++) {
        sh("rm -f p.qcow2; qemu-img create -q -f qcow2 -o preallocation=%s "
           "p.qcow2 3333k",
           modes[i]);
        expect_image("p.qcow2", 20);
        sh("qemu-io -f qcow2 -c 'write -P 7 100k 300k' -c 'write -z 200k 9k' "
           "p.qcow2 > log");
        expect_image("p.qcow2", 40);
    }
}

Test(qcow2, reads_compressed_clusters_that_lie_in_any_order)
{
    static const char *const options[] = {"compression_type=zlib",
                                          "compression_type=zstd"};

    for (size_t i = 0; i < 2; i++) {
        sh("rm -f r.qcow2; qemu-img create -q -f qcow2 -o %s r.qcow2 1M",
           options[i]);
        sh("qemu-io -f qcow2 -c 'write -c -P 1 512k 64k' "
           "-c 'write -c -P 2 0 64k' -c 'write -c -P 3 576k 64k' "
           "-c 'write -P 4 192k 64k' -c 'write -c -P 5 64k 64k' "
           "-c 'write -c -P 6 448k 64k' r.qcow2 > log");
        expect_image("r.qcow2", 40);
    }
}

Test(qcow2, reads_dirty_images_and_says_so)
{
    make_disk();
    sh("qemu-img convert -O qcow2 -o lazy_refcounts=on disk.raw d.qcow2");
    sh("(qemu-io -f qcow2 -c 'write -P 9 1M 64k' -c abort d.qcow2 || true) "
       ">log 2>&1");
    struct opened o;
    open_image(&o, "d.qcow2", 1 << 20);
    char *const info = memhost_info(&platter_driver, o.image);
    cr_assert(strstr(info, "\"dirty-flag\":true"), "%s", info);
    cr_assert(strstr(info, "\"lazy-refcounts\":true"), "%s", info);
    free(info);
    close_image(&o);
    expect_image("d.qcow2", 20);
}

Test(qcow2, info_says_what_qemu_img_says)
{
    static const char *const options[] = {
        "compat=0.10", "compat=1.1,cluster_size=4k,refcount_bits=1",
        "compression_type=zstd,lazy_refcounts=on",
        "extended_l2=on,cluster_size=128k"};

    for (size_t i = 0; i < 4; i++) {
        struct opened o;
        sh("rm -f i.qcow2; qemu-img create -q -f qcow2 -o %s i.qcow2 10M",
           options[i]);
        open_image(&o, "i.qcow2", 0);
        char *const info = memhost_info(&platter_driver, o.image);
        FILE *const f = fopen("ours.json", "w");
        cr_assert(f && fputs(info, f) >= 0);
        (void)fclose(f);
        sh("qemu-img info --output=json i.qcow2 > theirs.json");
        sh("python3 -c '\n"
           "import json\n"
           "a, b = json.load(open(\"ours.json\")), "
           "json.load(open(\"theirs.json\"))\n"
           "for k in (\"cluster-size\", \"dirty-flag\", \"format-specific\"):\n"
           "    assert a[k] == b[k], (k, a[k], b[k])'");
        free(info);
        close_image(&o);
    }
}

/* ---- Backing files ---- */

Test(qcow2, reads_through_to_a_shorter_backing_file)
{
    static const char *const options[] = {
        "cluster_size=512", "cluster_size=64k",
        "extended_l2=on,cluster_size=64k", "compat=0.10,cluster_size=2M"};
    struct opened o;
    struct plt_opened out;
    struct plt_error err;

    make_disk();
    struct bytes base = slurp("disk.raw");
    for (size_t i = 0; i < 4; i++) {
        struct memchild below;
        sh("rm -f o.qcow2; qemu-img create -q -f qcow2 -o %s -b disk.raw "
           "-F raw o.qcow2 8M",
           options[i]);
        sh("qemu-io -f qcow2 -c 'write -P 8 64k 100k' -c 'write -z 1M 200k' "
           "-c 'write -P 9 5300k 300k' -c 'discard 3M 64k' o.qcow2 > log");
        sh("qemu-img convert -O raw o.qcow2 truth.raw");
        struct bytes truth = slurp("truth.raw"), file = slurp("o.qcow2");
        memset(&o, 0, sizeof(o));
        for (int is_hidden = 0; is_hidden < 2; is_hidden++) {
            o.host = memhost_new(1 << 20, NULL);
            memchild_init(&o.child, file.p, file.n);
            memchild_init(&below, base.p, base.n);
            if (is_hidden)
                below.child.size = PLT_SIZE_UNKNOWN;
            memhost_add_named(o.host, "disk.raw", &below.child);
            cr_assert_eq(memhost_open(o.host, &platter_driver, &o.child.child,
                                      0, &o.image, &out, &err, NULL),
                         PLT_OK, "%s", err.text);
            o.size = out.size;
            expect_equal(&o, truth, 60);
            close_image(&o);
        }
        free(truth.p);
        free(file.p);
    }
    free(base.p);
}

Test(qcow2, a_backing_file_that_policy_refuses_fails_the_open)
{
    struct opened o;
    struct plt_error err;

    sh("qemu-img create -q -u -f qcow2 -b /etc/passwd -F raw b.qcow2 1M");
    struct bytes file = slurp("b.qcow2");
    cr_assert_eq(open_bytes(&o, file, false, 0, &err), PLT_DENIED);
    cr_assert(strncmp(err.text, "backing file: ", 14) == 0, "%s", err.text);
    free(file.p);
}

/* ---- Large disks ---- */

static void expect_far(const char *size, uint64_t at_kib)
{
    struct opened o;
    struct plt_error err;
    static uint8_t buf[3 << 16];

    sh("rm -f far.qcow2 part.raw; qemu-img create -q -f qcow2 far.qcow2 %s",
       size);
    sh("qemu-io -f qcow2 -c 'write -P 6 %lluk 70k' far.qcow2 > log",
       (unsigned long long)at_kib);
    sh("qemu-img dd -f qcow2 -O raw bs=65536 skip=%llu count=%llu if=far.qcow2 "
       "of=part.raw",
       (unsigned long long)at_kib / 64 - 1,
       (unsigned long long)at_kib / 64 + 2);
    struct bytes truth = slurp("part.raw");
    cr_assert_eq(truth.n, sizeof(buf));
    open_image(&o, "far.qcow2", 1 << 20);
    cr_assert_eq(memhost_read(&platter_driver, o.image, buf,
                              (at_kib / 64 - 1) << 16, sizeof(buf), &err),
                 PLT_OK, "%s", err.text);
    cr_assert(memcmp(buf, truth.p, sizeof(buf)) == 0);
    cr_assert_eq(buf[65536], 6);
    /* And the last bytes of the disk. */
    cr_assert_eq(
        memhost_read(&platter_driver, o.image, buf, o.size - 512, 512, &err),
        PLT_OK, "%s", err.text);
    /* Opening and these two reads took little of the file. */
    cr_assert_leq(memchild_bytes(&o.child), 600000);
    close_image(&o);
    free(truth.p);
}

Test(qcow2, reads_disks_larger_than_4_gib_2_tib_and_64_tib)
{
    expect_far("5G", (UINT64_C(9) << 19) + 128);
    expect_far("3T", (UINT64_C(5) << 29) + 64);
    expect_far("64T", (UINT64_C(63) << 30) + 640);
}

/* ---- Extents ---- */

struct claim {
    uint64_t at, off, len, host;
    int present, zero, data, depth;
    struct claim *list;
    size_t n;
};

static bool collect(void *cookie, const struct plt_extent *e)
{
    struct claim *const all = cookie;

    cr_assert_eq(e->off, all->at, "a gap");
    cr_assert_gt(e->len, 0);
    all->at += e->len;
    all->list = realloc(all->list, (all->n + 1) * sizeof(*all));
    all->list[all->n++] = (struct claim){
        .off = e->off,
        .len = e->len,
        .host = e->flags & PLT_EXTENT_MAPPED ? e->child_off : UINT64_MAX,
        .present = !(e->flags & PLT_EXTENT_HOLE),
        .zero = !!(e->flags & PLT_EXTENT_ZERO),
        .data = !(e->flags & PLT_EXTENT_ZERO),
        .depth = (int)e->depth};
    return true;
}

static void expect_map(const char *path)
{
    struct claim ours = {.list = NULL};
    struct opened o;
    struct plt_error err;
    unsigned long long off, len;
    long long host;
    int present, zero, data, depth;
    size_t n = 0, i = 0;

    sh("qemu-img map --output=json %s > map.json", path);
    sh("python3 -c '\n"
       "import json\n"
       "for e in json.load(open(\"map.json\")):\n"
       "    print(e[\"start\"], e[\"length\"], int(e[\"present\"]), "
       "int(e[\"zero\"]), int(e[\"data\"]), e[\"depth\"], "
       "e.get(\"offset\", -1))' > map.txt");
    open_image(&o, path, 1 << 20);
    cr_assert_eq(platter_driver.extents(o.image, memhost_io(), 0, o.size,
                                        collect, &ours, &err),
                 PLT_OK, "%s", err.text);
    cr_assert_eq(ours.at, o.size);
    FILE *const f = fopen("map.txt", "r");
    cr_assert(f);
    while (fscanf(f, "%llu %llu %d %d %d %d %lld", &off, &len, &present, &zero,
                  &data, &depth, &host) == 7) {
        n++;
        for (; i < ours.n && ours.list[i].off < off + len; i++) {
            const struct claim *const c = &ours.list[i];
            cr_assert_eq(c->present, present, "%s: at %llu", path, off);
            cr_assert_eq(c->zero, zero, "%s: at %llu", path, off);
            cr_assert_eq(c->data, data, "%s: at %llu", path, off);
            cr_assert_eq(c->depth, depth, "%s: at %llu", path, off);
            /* For zeros QEMU may tell where they would be. */
            const uint64_t at = c->off > off ? c->off : off;
            if (data)
                cr_assert_eq(c->host == UINT64_MAX
                                 ? -1
                                 : (long long)(c->host + (at - c->off)),
                             host < 0 ? -1 : host + (long long)(at - off),
                             "%s: at %llu", path, off);
            if (c->off + c->len > off + len)
                break; /* ours reaches into theirs that follows */
        }
    }
    (void)fclose(f);
    cr_assert(i == ours.n && n > 3, "%zu extents, %zu of ours", n, i);
    cr_assert_leq(ours.n, n, "neighbours are not joined");
    free(ours.list);
    close_image(&o);
}

Test(qcow2, extents_are_those_of_qemu_img_map)
{
    static const char *const options[] = {"cluster_size=512",
                                          "cluster_size=4k",
                                          "cluster_size=64k",
                                          "compat=0.10,cluster_size=64k",
                                          "extended_l2=on,cluster_size=16k",
                                          "extended_l2=on,cluster_size=64k"};

    make_disk();
    for (size_t i = 0; i < 6; i++) {
        for (int is_packed = 0; is_packed < 2; is_packed++) {
            sh("qemu-img convert %s -O qcow2 -o %s disk.raw m.qcow2",
               is_packed ? "-c" : "", options[i]);
            sh(CHANGES, "m.qcow2");
            expect_map("m.qcow2");
        }
    }
}

Test(qcow2, extents_of_a_backing_file_are_one_deeper)
{
    struct claim ours = {.list = NULL};
    struct memchild below;
    struct opened o = {.size = 0};
    struct plt_opened out;
    struct plt_error err;
    uint64_t deep = 0;

    make_disk();
    sh("head -c 640k /dev/urandom > base.raw; qemu-img create -q -f qcow2 "
       "-b base.raw -F raw o.qcow2 1M; qemu-io -f qcow2 "
       "-c 'write -P 1 128k 64k' -c 'write -z 320k 64k' o.qcow2 > log");
    sh("qemu-img map --output=json o.qcow2 > map.json; python3 -c '\n"
       "import json\n"
       "print(sum(e[\"length\"] for e in json.load(open(\"map.json\")) "
       "if e[\"depth\"] == 1 and e[\"data\"]))' > deep.txt");
    struct bytes base = slurp("base.raw"), text = slurp("deep.txt");
    o.file = slurp("o.qcow2");
    o.host = memhost_new(0, NULL);
    memchild_init(&o.child, o.file.p, o.file.n);
    memchild_init(&below, base.p, base.n);
    memhost_add_named(o.host, "base.raw", &below.child);
    cr_assert_eq(memhost_open(o.host, &platter_driver, &o.child.child, 0,
                              &o.image, &out, &err, NULL),
                 PLT_OK, "%s", err.text);
    cr_assert_eq(platter_driver.extents(o.image, memhost_io(), 0, out.size,
                                        collect, &ours, &err),
                 PLT_OK, "%s", err.text);
    for (size_t i = 0; i < ours.n; i++)
        deep += ours.list[i].depth == 1 ? ours.list[i].len : 0;
    cr_assert_eq(deep, strtoull((const char *)text.p, NULL, 10));
    cr_assert_eq(deep, 512 * 1024);
    cr_assert_eq(ours.n, 6);
    free(ours.list);
    free(base.p);
    free(text.p);
    close_image(&o);
}

static bool stop_at_once(void *cookie, const struct plt_extent *e)
{
    (void)e;
    ++*(unsigned *)cookie;
    return false;
}

Test(qcow2, extents_stop_when_told_and_cost_little_then)
{
    struct opened o;
    struct plt_error err;
    unsigned n = 0;

    make_disk();
    sh("qemu-img convert -O qcow2 -o cluster_size=512 disk.raw m.qcow2");
    open_image(&o, "m.qcow2", 1 << 20);
    const uint64_t before = memchild_reads(&o.child);
    cr_assert_eq(platter_driver.extents(o.image, memhost_io(), 0, o.size,
                                        stop_at_once, &n, &err),
                 PLT_OK);
    cr_assert_eq(n, 1);
    cr_assert_leq(memchild_reads(&o.child) - before, 4);
    close_image(&o);
}

/* ---- What it costs ---- */

Test(qcow2, a_cold_read_of_many_clusters_is_two_reads_of_the_child)
{
    static const char *const options[] = {"", "-c", "-c -o cluster_size=512",
                                          "-o cluster_size=4k"};

    make_disk();
    for (size_t i = 0; i < 4; i++) {
        struct opened o;
        struct plt_error err;
        sh("qemu-img convert %s -O qcow2 disk.raw c.qcow2", options[i]);
        open_image(&o, "c.qcow2", 64 << 20);
        cr_assert_eq(memchild_reads(&o.child), 2, "opening: header, L1");
        uint8_t *const buf = malloc(o.size);
        cr_assert_eq(
            memhost_read(&platter_driver, o.image, buf, 0, o.size, &err),
            PLT_OK, "%s", err.text);
        cr_assert_eq(memchild_reads(&o.child), 4);
        /* No byte of the file twice, but for what opening looked at. */
        cr_assert_leq(memchild_bytes(&o.child), o.file.n + 70000);
        free(buf);
        close_image(&o);
    }
}

Test(qcow2, without_waiting_it_answers_from_memory_or_not_at_all)
{
    struct opened o;
    struct plt_io io;
    struct plt_error err;
    static uint8_t cold[100000], warm[100000];

    make_disk();
    sh("qemu-img convert -c -O qcow2 disk.raw w.qcow2");
    open_image(&o, "w.qcow2", 64 << 20);
    memhost_io_init(&io, PLT_IO_NOWAIT, UINT64_MAX);
    const struct plt_seg seg = {123456, sizeof(warm), warm};
    const uint64_t before = memchild_reads(&o.child);
    cr_assert_eq(platter_driver.read(o.image, &io, &seg, 1, &err), PLT_AGAIN);
    cr_assert_eq(memchild_reads(&o.child), before);
    cr_assert_eq(memhost_read(&platter_driver, o.image, cold, 123456,
                              sizeof(cold), &err),
                 PLT_OK);
    const uint64_t after = memchild_reads(&o.child);
    cr_assert_eq(platter_driver.read(o.image, &io, &seg, 1, &err), PLT_OK);
    cr_assert_eq(memchild_reads(&o.child), after);
    cr_assert(memcmp(cold, warm, sizeof(cold)) == 0);
    close_image(&o);
}

Test(qcow2, reads_a_file_whose_length_is_not_known)
{
    struct opened o;
    struct plt_error err;

    make_disk();
    sh("qemu-img convert -c -O qcow2 disk.raw u.qcow2");
    struct bytes file = slurp("u.qcow2"), truth = slurp("disk.raw");
    cr_assert_eq(open_bytes(&o, file, true, 1 << 20, &err), PLT_OK, "%s",
                 err.text);
    expect_equal(&o, truth, 30);
    close_image(&o);
    free(file.p);
    free(truth.p);
}

/* ---- Threads ---- */

struct reader {
    struct opened *o;
    struct bytes truth;
    unsigned seed;
    bool is_wrong;
};

static void *read_much(void *cookie)
{
    struct reader *const r = cookie;
    uint8_t *const buf = malloc(300000);
    struct plt_error err;

    for (unsigned i = 0; i < 60; i++) {
        const uint64_t off = (uint64_t)rand_r(&r->seed) % (r->truth.n - 300000);
        const size_t len = (size_t)rand_r(&r->seed) % 300000 + 1;
        if (memhost_read(&platter_driver, r->o->image, buf, off, len, &err) !=
                PLT_OK ||
            memcmp(buf, r->truth.p + off, len) != 0)
            r->is_wrong = true;
    }
    free(buf);
    return NULL;
}

Test(qcow2, many_threads_read_the_same_image)
{
    static const uint64_t budgets[] = {0, 300000, 64 << 20};
    struct reader readers[6];
    pthread_t threads[6];
    struct opened o;

    make_disk();
    sh("qemu-img convert -c -O qcow2 -o cluster_size=8k disk.raw t.qcow2");
    sh(CHANGES, "t.qcow2");
    sh("qemu-img convert -O raw t.qcow2 truth.raw");
    struct bytes truth = slurp("truth.raw");
    for (size_t b = 0; b < 3; b++) {
        open_image(&o, "t.qcow2", budgets[b]);
        for (unsigned i = 0; i < 6; i++) {
            readers[i] = (struct reader){&o, truth, i / 2, false};
            cr_assert_eq(
                pthread_create(&threads[i], NULL, read_much, &readers[i]), 0);
        }
        for (unsigned i = 0; i < 6; i++) {
            cr_assert_eq(pthread_join(threads[i], NULL), 0);
            cr_assert(!readers[i].is_wrong);
        }
        close_image(&o);
    }
    free(truth.p);
}
