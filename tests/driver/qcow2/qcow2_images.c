/* SPDX-License-Identifier: Apache-2.0 */
#include "qcow2_images.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

void sh(const char *fmt, ...)
{
    char cmd[4096];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    cr_assert_eq(system(cmd), 0, "%s", cmd);
}

void enter_folder(void)
{
    (void)strcpy(folder, "/tmp/platter-qcow2-XXXXXX");
    cr_assert(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
}

void leave_folder(void)
{
    char cmd[128];

    cr_assert_eq(chdir("/"), 0);
    (void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", folder);
    cr_assert_eq(system(cmd), 0);
}

struct bytes slurp(const char *path)
{
    FILE *const f = fopen(path, "rb");
    struct bytes b;

    cr_assert(f, "%s", path);
    cr_assert_eq(fseek(f, 0, SEEK_END), 0);
    b.n = (size_t)ftell(f);
    rewind(f);
    b.p = malloc(b.n ? b.n : 1);
    cr_assert(b.p && fread(b.p, 1, b.n, f) == b.n);
    (void)fclose(f);
    return b;
}

void make_disk(void)
{
    const size_t n = (5 << 20) + 77 * 512;
    uint8_t *const p = calloc(1, n);
    FILE *const f = fopen("disk.raw", "wb");

    cr_assert(p && f);
    srandom(7);
    for (size_t at = 0; at + 100000 < n;) {
        const size_t len = (size_t)random() % 90000;
        const long kind = random() % 3;
        for (size_t i = 0; i < len && kind; i++)
            p[at + i] = kind == 1 ? (uint8_t)random()
                                  : (uint8_t) "guest disks "[random() % 12];
        at += len;
    }
    memset(p + n - 700, 'e', 700);
    cr_assert_eq(fwrite(p, 1, n, f), n);
    (void)fclose(f);
    free(p);
}

enum plt_status open_bytes(struct opened *o, struct bytes file,
                           bool is_size_hidden, uint64_t budget,
                           struct plt_error *err)
{
    struct plt_opened out;

    memset(o, 0, sizeof(*o));
    o->host = memhost_new(budget, NULL);
    memchild_init(&o->child, file.p, file.n);
    if (is_size_hidden)
        o->child.child.size = PLT_SIZE_UNKNOWN;
    const enum plt_status st =
        memhost_open(o->host, &platter_driver, &o->child.child, 0, &o->image,
                     &out, err, NULL);
    o->size = out.size;
    if (st != PLT_OK) {
        memhost_free(o->host);
        o->host = NULL;
    }
    return st;
}

void open_image(struct opened *o, const char *path, uint64_t budget)
{
    struct bytes file = slurp(path);
    struct plt_error err;
    const enum plt_status st = open_bytes(o, file, false, budget, &err);

    cr_assert_eq(st, PLT_OK, "%s: %s", path, err.text);
    o->file = file;
}

void close_image(struct opened *o)
{
    platter_driver.close(o->image);
    memhost_free(o->host);
    free(o->file.p);
}

static void expect_span(struct opened *o, struct bytes truth, uint64_t off,
                        size_t len)
{
    uint8_t *const buf = malloc(len);
    struct plt_seg segs[4];
    struct plt_error err;
    size_t n = 0;

    cr_assert(buf);
    memset(buf, 0xaa, len);
    for (size_t at = 0; at < len; n++) {
        size_t part = n == 3 ? len - at : (size_t)random() % (len - at) + 1;
        /* Every second call in one segment. */
        if (len & 1)
            part = len;
        segs[3 - n] = (struct plt_seg){off + at, part, buf + at};
        at += part;
    }
    const enum plt_status st =
        platter_driver.read(o->image, memhost_io(), segs + 4 - n, n, &err);
    cr_assert_eq(st, PLT_OK, "[%zu at %llu] %s", len, (unsigned long long)off,
                 err.text);
    cr_assert(memcmp(buf, truth.p + off, len) == 0, "[%zu at %llu] differs",
              len, (unsigned long long)off);
    free(buf);
}

void expect_equal(struct opened *o, struct bytes truth, unsigned n_spans)
{
    cr_assert_eq(o->size, truth.n);
    srandom(3);
    for (unsigned i = 0; i < n_spans; i++) {
        const uint64_t off = (uint64_t)random() % truth.n;
        const uint64_t most = i % 4 ? 9000 : 700000;
        size_t len = (size_t)random() % most + 1;
        if (len > truth.n - off)
            len = (size_t)(truth.n - off);
        expect_span(o, truth, off, len);
    }
    expect_span(o, truth, 0, truth.n);
    expect_span(o, truth, truth.n - 1, 1);
}
