/* SPDX-License-Identifier: Apache-2.0 */
/* An index beside the source: found when it helps, taken when it is true. */
#include "drive.h"

static const char make[] =
    "head -c 15000000 /dev/urandom | base64 >d; seq 1 900000 >>d;"
    "head -c 2000000 d >e; tail -c +1000001 d >>e;"
    "gzip -1 -nk d; gzip -1 -nk e; bgzip -c d >b.gz; bgzip -c e >eb.gz;"
    "gztool -z -s 2 -I d.gzi -i d.gz >/dev/null;"
    "gztool -z -s 2 -I e.gzi -i e.gz >/dev/null;"
    "/usr/bin/python3 -c \"import indexed_gzip as g\n"
    "f=g.IndexedGzipFile('d.gz',spacing=2<<20)\n"
    "f.build_full_index();f.export_index('d.gzidx')\"";

static bool take(void *cookie, const void *data, size_t len)
{
    return fwrite(data, 1, len, (FILE *)cookie) == len;
}

/* Our own form of `name`'s index as name.pltidx. */
static void export_own(const char *dir, const char *name)
{
    struct bytes packed = load(dir, name);
    struct memhost *const h = memhost_new(8 << 20, NULL);
    struct memchild child;
    struct plt_opened opened;
    struct plt_error err = {0};
    void *image = NULL;
    char path[128];
    uint64_t size;

    memchild_init(&child, packed.p, packed.n);
    cr_assert_eq(memhost_open(h, &platter_driver, &child.child, 0, &image,
                              &opened, &err, (const char *)NULL),
                 PLT_OK);
    cr_assert_eq(platter_driver.resolve_size(image, memhost_io(), &size, &err),
                 PLT_OK);
    (void)snprintf(path, sizeof(path), "%s/%s.pltidx", dir, name);
    FILE *const f = fopen(path, "wb");
    cr_assert(f);
    cr_assert_eq(platter_driver.index_get(image, memhost_io(), take, f, &err),
                 PLT_OK);
    (void)fclose(f);
    platter_driver.close(image);
    memhost_free(h);
    free(packed.p);
}

struct row {
    const char *stream, *file, *suffix;
    bool is_taken; /* and said so */
    bool is_whole; /* at once: little of the source was read */
};

Test(gzip_sidecar, is_taken_when_it_is_true)
{
    static const struct row rows[] = {
        {"d.gz", "d.gz.pltidx", ".pltidx", true, true},
        {"b.gz", "b.gz.pltidx", ".pltidx", true, true},
        {"d.gz", "d.gzidx", ".gzidx", true, false},
        {"d.gz", "d.gzi", ".gzi", true, false},
        {"d.gz", "e.gz.pltidx", ".pltidx", false, false},
        {"b.gz", "eb.gz.pltidx", ".pltidx", false, false},
        {"d.gz", "e.gzi", ".gzi", true, false}, /* taken, and refuted */
        {"d.gz", "d", ".gzi", false, false},
        {"b.gz", "d.gzi", ".gzi", false, false},
        {"d.gz", NULL, NULL, false, false}};
    char dir[] = "/tmp/driver_gzip_sidecar.XXXXXX";
    make_files(dir, make);
    export_own(dir, "d.gz");
    export_own(dir, "e.gz");
    export_own(dir, "b.gz");
    export_own(dir, "eb.gz");
    struct bytes want = load(dir, "d");
    uint8_t *const got = malloc(want.n);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *const r = &rows[i];
        const char *const what = r->file ? r->file : "none";
        struct bytes packed = load(dir, r->stream), index = {0};
        struct memhost *const h = memhost_new(16 << 20, NULL);
        struct memchild child, beside;
        struct plt_opened opened;
        struct plt_error err = {0};
        void *image = NULL;
        memchild_init(&child, packed.p, packed.n);
        child.delay_us = 2000;
        if (r->file) {
            index = load(dir, r->file);
            memchild_init(&beside, index.p, index.n);
            memhost_add_named(h, r->suffix, &beside.child);
        }
        cr_assert_eq(memhost_open(h, &platter_driver, &child.child, 0, &image,
                                  &opened, &err, (const char *)NULL),
                     PLT_OK);
        cr_assert_eq(memhost_read(&platter_driver, image, got, 0, 70000, &err),
                     PLT_OK);
        cr_assert_eq(memhost_sidecars(h), 0, "looked for too early");
        const uint64_t far = want.n - 700000;
        cr_assert_eq(
            memhost_read(&platter_driver, image, got, far, 70000, &err), PLT_OK,
            "%s: %s", what, err.text);
        cr_assert_eq(memcmp(got, want.p + far, 70000), 0, "%s", what);
        cr_assert_gt(memhost_sidecars(h), 0, "%s", what);
        cr_assert_leq(memhost_sidecars(h), 3, "%s", what);
        if (r->is_whole)
            cr_assert_lt(memchild_bytes(&child), packed.n / 2, "%s", what);
        char *const info = memhost_info(&platter_driver, image);
        cr_assert_eq(strstr(info, "\"sidecar\"") != NULL, r->is_taken, "%s: %s",
                     what, info);
        free(info);
        same_spans(image, want, 10, what);
        memhost_drop_cache(h);
        same_spans(image, want, 10, what);
        platter_driver.close(image);
        memhost_free(h);
        free(packed.p);
        free(index.p);
    }
    free(got);
    free(want.p);
    remove_files(dir);
}
