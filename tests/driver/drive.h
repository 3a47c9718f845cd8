/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver tests share: a temporary folder filled by a shell script of
 * real tools, whole files, and a driver opened over one of them. */
#ifndef TESTS_DRIVER_DRIVE_H
#define TESTS_DRIVER_DRIVE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memhost.h"

extern const struct plt_driver platter_driver;

struct bytes {
    uint8_t *p;
    size_t n;
};

/* Run `script` by sh -e in a folder of its own, and enter it. */
static inline void make_files(char *dir, const char *script)
{
    char *command = NULL;
    cr_assert(mkdtemp(dir));
    cr_assert(asprintf(&command, "cd %s && set -e && exec 2>err && %s", dir,
                       script) > 0);
    cr_assert_eq(system(command), 0, "a tool failed: %s", script);
    free(command);
}

static inline void remove_files(const char *dir)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

static inline struct bytes load(const char *dir, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *const f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    cr_assert_eq(fseek(f, 0, SEEK_END), 0);
    struct bytes b = {.n = (size_t)ftell(f)};
    rewind(f);
    b.p = malloc(b.n + 1);
    cr_assert(b.p);
    cr_assert_eq(fread(b.p, 1, b.n, f), b.n);
    (void)fclose(f);
    return b;
}

/* Spans that were lent, by all tests so far. */
static unsigned n_lent;

/* Random spans of `image` are those of `want`, lent where they are as well as
 * read; a fixed sequence. */
static inline void same_spans(void *image, struct bytes want, unsigned n,
                              const char *what)
{
    struct plt_error err = {0};
    uint8_t *const got = malloc(want.n + 1);
    uint32_t lcg = 7;
    for (unsigned i = 0; i < n; i++) {
        lcg = lcg * 1664525U + 1013904223U;
        const size_t off = i ? (lcg >> 4) % want.n : 0;
        lcg = lcg * 1664525U + 1013904223U;
        const size_t len = i ? 1 + (lcg >> 4) % (want.n - off) : want.n;
        cr_assert_eq(memhost_read(&platter_driver, image, got, off, len, &err),
                     PLT_OK, "%s: %s", what, err.text);
        cr_assert_eq(memcmp(got, want.p + off, len), 0, "%s at %zu+%zu", what,
                     off, len);
        if (memhost_lend(&platter_driver, image, got, off, len) != PLT_OK)
            continue;
        cr_assert_eq(memcmp(got, want.p + off, len), 0, "%s lent at %zu+%zu",
                     what, off, len);
        n_lent++;
    }
    free(got);
}

/* The layer over `file` equals `want`; then each read of its child fails, once
 * and for ever: an error or the right bytes, and right again afterwards. */
static inline void same_as(const char *dir, const char *file, struct bytes want,
                           uint64_t budget, bool with_faults)
{
    struct bytes packed = load(dir, file);
    struct memchild child;
    struct plt_opened opened;
    struct plt_error err = {0};
    void *image = NULL;
    uint64_t reads = 1;
    for (uint64_t fail_at = 0; fail_at <= reads && fail_at < 40; fail_at++) {
        struct memhost *const h = memhost_new(budget, NULL);
        memchild_init(&child, packed.p, packed.n);
        child.lends = true;
        child.fail_at = fail_at;
        child.fail_forever = fail_at % 2;
        enum plt_status st =
            memhost_open(h, &platter_driver, &child.child, 0, &image, &opened,
                         &err, (const char *)NULL);
        cr_assert(st == PLT_OK || (fail_at && st == PLT_ORIGIN), "%s: %s", file,
                  err.text);
        if (st == PLT_OK && fail_at == 0) {
            uint64_t size = opened.size;
            if (size == PLT_SIZE_UNKNOWN)
                cr_assert_eq(platter_driver.resolve_size(image, memhost_io(),
                                                         &size, &err),
                             PLT_OK, "%s: %s", file, err.text);
            cr_assert_eq(size, want.n, "%s", file);
            same_spans(image, want, 20, file);
            reads = with_faults ? memchild_reads(&child) : 0;
        } else if (st == PLT_OK) {
            uint8_t *const got = malloc(want.n + 1);
            st = memhost_read(&platter_driver, image, got, 0, want.n, &err);
            cr_assert(st == PLT_OK || st == PLT_ORIGIN, "%s: %s", file,
                      err.text);
            if (st == PLT_OK)
                cr_assert_eq(memcmp(got, want.p, want.n), 0, "%s", file);
            free(got);
            child.fail_at = 0;
        }
        if (image) {
            if (fail_at && platter_driver.resolve_size == NULL)
                same_spans(image, want, 2, file);
            platter_driver.close(image);
        }
        image = NULL;
        memhost_free(h);
    }
    free(packed.p);
}

#endif
