/* SPDX-License-Identifier: Apache-2.0 */
/* The file of digests: what is put comes back, what is damaged is unknown. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manifest/manifest_head.h"

enum { NAME_MAX_HERE = 64 };

static int dir = -1;
static char folder[NAME_MAX_HERE];

static void set_up(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/manifest.XXXXXX");
    cr_assert(mkdtemp(folder));
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert(dir >= 0);
}

static void tear_down(void)
{
    (void)unlinkat(dir, "m", 0);
    (void)close(dir);
    cr_assert_eq(rmdir(folder), 0);
}

/* A disk's byte; group 1 is all zeros. */
static uint8_t disk_byte(uint64_t off)
{
    return off / MANIFEST_GROUP == 1 ? 0
                                     : (uint8_t)(off * 2654435761u >> 13) + 1;
}

/* The leaves of group g, made the long way. */
static size_t leaves_of(uint64_t size, uint64_t g, manifest_digest *leaves)
{
    const size_t len = manifest_group_bytes(size, g);
    uint8_t *const data = malloc(len);

    for (size_t i = 0; i < len; i++)
        data[i] = disk_byte(g * MANIFEST_GROUP + i);
    manifest_leaf_list(data, len, leaves);
    free(data);
    return manifest_group_leaves(size, g);
}

static void put(struct manifest_file *f, uint64_t g)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    struct plt_error err = {.at = PLT_AT_NONE};
    const size_t n = leaves_of(manifest_file_size(f), g, leaves);

    cr_assert_eq(
        manifest_file_put(f, g, (const manifest_digest *)leaves, n, &err),
        PLT_OK, "%s", err.text);
}

static bool has(struct manifest_file *f, uint64_t g)
{
    manifest_digest want[MANIFEST_LEAVES], got[MANIFEST_LEAVES];
    struct plt_error err = {.at = PLT_AT_NONE};
    size_t n;
    const enum plt_status st = manifest_file_leaves(f, g, got, &n, &err);

    if (st == PLT_NOT_FOUND)
        return false;
    cr_assert_eq(st, PLT_OK);
    cr_assert_eq(n, leaves_of(manifest_file_size(f), g, want));
    cr_assert_eq(memcmp(want, got, n * MANIFEST_DIGEST), 0, "group %llu",
                 (unsigned long long)g);
    return true;
}

static struct manifest_file *open_at(int at, uint64_t size)
{
    struct manifest_file *f = NULL;
    struct plt_error err = {.at = PLT_AT_NONE};

    cr_assert_eq(manifest_file_open(at, "m", size, &f, &err), PLT_OK, "%s",
                 err.text);
    return f;
}

static void make_root(uint64_t size, manifest_digest root)
{
    const uint64_t n = manifest_groups(size);
    manifest_digest leaves[MANIFEST_LEAVES], *const groups =
                                                 calloc(n + 1, sizeof(*groups));

    for (uint64_t g = 0; g < n; g++) {
        const size_t k = leaves_of(size, g, leaves);
        manifest_group((const manifest_digest *)leaves, k, groups[g]);
    }
    manifest_root(size, (const manifest_digest *)groups, root);
    free(groups);
}

static struct manifest_file *make_complete(int at, uint64_t size)
{
    struct manifest_file *const f = open_at(at, size);
    struct plt_error err = {.at = PLT_AT_NONE};

    for (uint64_t g = manifest_groups(size); g--;)
        put(f, g);
    cr_assert_eq(manifest_file_finish(f, &err), PLT_OK, "%s", err.text);
    return f;
}

static const uint64_t sizes[] = {
    0,       1,       4095,    4096,          4097,
    1 << 20, 1048577, 3 << 20, (3 << 20) - 1, (2 << 20) + 4096,
    5 << 20};

TestSuite(manifest_file, .init = set_up, .fini = tear_down, .timeout = 120);

Test(manifest_file, what_is_put_comes_back_after_a_restart)
{
    manifest_digest want, got;
    struct plt_error err = {.at = PLT_AT_NONE};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct manifest_file *f = make_complete(dir, sizes[i]);
        make_root(sizes[i], want);
        for (int round = 0; round < 2; round++) {
            cr_assert(manifest_file_is_complete(f));
            cr_assert_eq(manifest_file_size(f), sizes[i]);
            cr_assert(manifest_file_root(f, got));
            cr_assert_eq(memcmp(want, got, sizeof(want)), 0);
            for (uint64_t g = 0; g < manifest_groups(sizes[i]); g++)
                cr_assert(has(f, g) && manifest_file_has_leaves(f, g));
            manifest_file_unref(f);
            f = NULL;
            cr_assert_eq(manifest_file_open_complete(dir, "m", &f, &err),
                         PLT_OK);
        }
        manifest_file_unref(f);
    }
}

Test(manifest_file, without_a_folder_it_is_in_memory)
{
    manifest_digest want, got;
    struct manifest_file *const f = make_complete(-1, sizes[9]);

    make_root(sizes[9], want);
    cr_assert(manifest_file_root(f, got));
    cr_assert_eq(memcmp(want, got, sizeof(want)), 0);
    for (uint64_t g = 0; g < manifest_groups(sizes[9]); g++)
        cr_assert(has(f, g));
    manifest_file_unref(f);
    cr_assert_neq(faccessat(dir, "m", F_OK, 0), 0);
}

Test(manifest_file, a_partial_one_knows_what_was_put)
{
    const uint64_t size = 4 << 20;
    manifest_digest digest;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *f = open_at(dir, size), *none = NULL;

    put(f, 2);
    cr_assert_eq(manifest_file_finish(f, &err), PLT_NOT_FOUND);
    for (int round = 0; round < 2; round++) {
        cr_assert(!manifest_file_root(f, digest));
        cr_assert(!manifest_file_is_complete(f));
        for (uint64_t g = 0; g < 4; g++) {
            cr_assert_eq(manifest_file_group(f, g, digest), g == 2);
            cr_assert_eq(manifest_file_has_leaves(f, g), g == 2);
            cr_assert_eq(has(f, g), g == 2);
        }
        manifest_file_unref(f);
        cr_assert_eq(manifest_file_open_complete(dir, "m", &none, &err),
                     PLT_NOT_FOUND);
        f = open_at(dir, size);
    }
    manifest_file_unref(f);
    f = open_at(dir, size + 1); /* of another disk: anew */
    cr_assert(!manifest_file_group(f, 2, digest));
    manifest_file_unref(f);
}

Test(manifest_file, another_digest_of_a_known_group_is_refused)
{
    manifest_digest leaves[MANIFEST_LEAVES];
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *const f = open_at(dir, 1 << 20);
    const size_t n = leaves_of(1 << 20, 0, leaves);

    put(f, 0);
    put(f, 0);
    leaves[7][3] ^= 1;
    cr_assert_eq(
        manifest_file_put(f, 0, (const manifest_digest *)leaves, n, &err),
        PLT_CORRUPT);
    cr_assert(has(f, 0));
    manifest_file_unref(f);
}

Test(manifest_file, groups_come_first_and_leaves_later)
{
    const uint64_t size = (3 << 20) + 5;
    manifest_digest leaves[MANIFEST_LEAVES], groups[4], root, got;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *f = open_at(dir, size);

    for (uint64_t g = 0; g < 4; g++) {
        const size_t n = leaves_of(size, g, leaves);
        manifest_group((const manifest_digest *)leaves, n, groups[g]);
    }
    make_root(size, root);
    groups[3][0] ^= 1;
    cr_assert_eq(manifest_file_put_groups(f, (const manifest_digest *)groups,
                                          root, &err),
                 PLT_CORRUPT);
    cr_assert(!manifest_file_root(f, got));
    groups[3][0] ^= 1;
    cr_assert_eq(manifest_file_put_groups(f, (const manifest_digest *)groups,
                                          root, &err),
                 PLT_OK);
    for (int round = 0; round < 2; round++) {
        cr_assert(manifest_file_root(f, got));
        cr_assert_eq(memcmp(root, got, sizeof(root)), 0);
        for (uint64_t g = 0; g < 4; g++) /* zeros are known by their digest */
            cr_assert_eq(has(f, g), g == 1);
        cr_assert_eq(manifest_file_finish(f, &err), PLT_NOT_FOUND);
        manifest_file_unref(f);
        f = open_at(dir, size);
    }
    for (uint64_t g = 0; g < 4; g++)
        put(f, g);
    cr_assert_eq(manifest_file_finish(f, &err), PLT_OK);
    manifest_file_unref(f);
}

/* Each byte of the file in turn: what is said is true, or nothing is. */
Test(manifest_file, damage_is_never_believed)
{
    const uint64_t size = (2 << 20) + 9000;
    manifest_digest want, got;
    struct stat sb;
    struct manifest_file *f = make_complete(dir, size);

    make_root(size, want);
    manifest_file_unref(f);
    cr_assert_eq(fstatat(dir, "m", &sb, 0), 0);
    for (off_t at = 0; at < sb.st_size; at += at < 96 ? 1 : 97) {
        const int fd = openat(dir, "m", O_RDWR | O_CLOEXEC);
        uint8_t byte, bad;
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        bad = byte ^ 0x40;
        cr_assert_eq(pwrite(fd, &bad, 1, at), 1);
        f = open_at(dir, size);
        if (manifest_file_root(f, got))
            cr_assert_eq(memcmp(want, got, sizeof(want)), 0);
        unsigned n_there = 0;
        for (uint64_t g = 0; g < 3; g++)
            n_there += has(f, g);
        /* The head, the groups, and the leaves of what is not zeros. */
        const bool says_something =
            at < 96 || (at >= 4096 && at < 4096 + 3 * 32) ||
            (at >= 8192 && at < 8192 + 256 * 32) || at >= 8192 + 512 * 32;
        cr_assert_eq(n_there < 3, says_something, "at %lld", (long long)at);
        cr_assert_eq(manifest_file_is_complete(f), !says_something);
        for (uint64_t g = 0; g < 3; g++)
            put(f, g); /* and it is whole again */
        cr_assert(has(f, 0) && has(f, 1) && has(f, 2));
        manifest_file_unref(f);
        (void)close(fd);
        f = make_complete(dir, size);
        manifest_file_unref(f);
    }
}

static bool has_counts(struct manifest_file *f, uint64_t bytes)
{
    struct manifest_counts c;

    if (!manifest_file_counts(f, &c))
        return false;
    cr_assert_eq(c.bytes, bytes);
    cr_assert_eq(c.leaves, manifest_leaves(bytes));
    return true;
}

/* The counts are on the disk, the text in memory; both are of one root. */
Test(manifest_file, what_was_counted_is_kept)
{
    const uint64_t size = (3 << 20) + 77, data = size - MANIFEST_GROUP;
    const struct manifest_counts counts = {data, manifest_leaves(data)};
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *f = make_complete(dir, size);
    struct manifest_text *text, *again;
    manifest_digest root, other = {1};

    cr_assert(!has_counts(f, data));
    cr_assert(manifest_file_root(f, root));
    manifest_file_keep(f, other, &counts, NULL); /* of another disk */
    cr_assert(!has_counts(f, data));
    manifest_file_unref(f);
    f = open_at(dir, size);
    cr_assert(!has_counts(f, data));
    cr_assert_eq(manifest_head(f, &text, &err), PLT_OK);
    cr_assert_eq(strlen(text->text), text->len);
    cr_assert(has_counts(f, data));
    again = manifest_file_text(f);
    cr_assert_eq(again, text);
    manifest_text_unref(again);
    manifest_file_unref(f);
    f = open_at(dir, size);
    cr_assert(has_counts(f, data));
    cr_assert_null(manifest_file_text(f));
    cr_assert_eq(manifest_head(f, &again, &err), PLT_OK);
    cr_assert_str_eq(again->text, text->text);
    manifest_text_unref(again);

    /* Other groups in the same file. */
    const manifest_digest groups[4] = {{1}, {2}, {3}, {4}};
    manifest_root(size, groups, other);
    cr_assert_eq(manifest_file_put_groups(f, groups, other, &err), PLT_OK);
    cr_assert(!has_counts(f, data));
    cr_assert_null(manifest_file_text(f));
    manifest_file_unref(f);
    f = open_at(dir, size);
    cr_assert(!has_counts(f, data));
    manifest_file_unref(f);
    manifest_text_unref(text); /* outlives them */
}

Test(manifest_file, damaged_counts_are_not_believed)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_text *text;
    struct manifest_file *f = make_complete(dir, 1 << 20);

    cr_assert_eq(manifest_head(f, &text, &err), PLT_OK);
    manifest_text_unref(text);
    manifest_file_unref(f);
    const int fd = openat(dir, "m", O_RDWR | O_CLOEXEC);
    for (off_t at = 128; at < 128 + 96; at++) {
        uint8_t byte;
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        const uint8_t bad = byte ^ 0x10;
        cr_assert_eq(pwrite(fd, &bad, 1, at), 1);
        f = open_at(dir, 1 << 20);
        cr_assert(!has_counts(f, 1 << 20), "at %lld", (long long)at);
        cr_assert(manifest_file_is_complete(f));
        manifest_file_unref(f);
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    }
    f = open_at(dir, 1 << 20);
    cr_assert(has_counts(f, 1 << 20));
    manifest_file_unref(f);
    (void)close(fd);
}

Test(manifest_file, a_file_that_is_cut_short_is_begun_anew)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *f = make_complete(dir, 2 << 20);

    const int fd = openat(dir, "m", O_RDWR | O_CLOEXEC);
    cr_assert_eq(ftruncate(fd, 5000), 0);
    (void)close(fd);
    cr_assert(!has(f, 0)); /* under our feet: unknown, and no more */
    cr_assert(!manifest_file_is_complete(f));
    manifest_file_unref(f);
    f = NULL;
    cr_assert_eq(manifest_file_open_complete(dir, "m", &f, &err),
                 PLT_NOT_FOUND);
    f = open_at(dir, 2 << 20);
    cr_assert(!has(f, 0));
    put(f, 0);
    cr_assert(has(f, 0));
    manifest_file_unref(f);
}

Test(manifest_file, what_is_no_file_is_not_followed)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *f = NULL;

    cr_assert_eq(symlinkat("/etc/passwd", dir, "m"), 0);
    cr_assert_eq(manifest_file_open_complete(dir, "m", &f, &err),
                 PLT_NOT_FOUND);
    f = open_at(dir, 1);
    put(f, 0);
    manifest_file_unref(f);
    cr_assert_eq(manifest_file_open(dir, "m", UINT64_C(1) << 45, &f, &err),
                 PLT_UNSUPPORTED);
}

enum { PUTTERS = 6 };

static void *put_all(void *arg)
{
    struct manifest_file *const f = (struct manifest_file *)arg;

    for (uint64_t i = 0; i < 8; i++) {
        put(f, (i * 5 + (uint64_t)(uintptr_t)&i / 4096) % 8);
        (void)has(f, i);
    }
    for (uint64_t g = 0; g < 8; g++)
        put(f, g);
    return NULL;
}

Test(manifest_file, several_put_at_once)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *const f = open_at(dir, 8 << 20);
    manifest_digest want, got;
    pthread_t t[PUTTERS];

    for (int i = 0; i < PUTTERS; i++)
        cr_assert_eq(pthread_create(&t[i], NULL, put_all, f), 0);
    for (int i = 0; i < PUTTERS; i++)
        cr_assert_eq(pthread_join(t[i], NULL), 0);
    cr_assert_eq(manifest_file_finish(f, &err), PLT_OK);
    make_root(8 << 20, want);
    cr_assert(manifest_file_root(f, got));
    cr_assert_eq(memcmp(want, got, sizeof(want)), 0);
    manifest_file_unref(f);
}
