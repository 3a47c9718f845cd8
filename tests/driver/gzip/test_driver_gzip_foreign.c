/* SPDX-License-Identifier: Apache-2.0 */
/* Index files of gztool and indexed_gzip, by the tools themselves: taken,
 * proven, written; damaged, stale and lying ones never give a wrong byte. */
#include "drive.h"

#include <platter/bytes.h>

enum { SMALL = 4096 };

static const char make[] =
    "head -c 4000000 /dev/urandom | base64 >d;"
    "head -c 3000000 /dev/zero >>d; seq 1 600000 >>d;"
    "gzip -kn d; "
    "for i in 1 2 3 4 5; do head -c $((i * 700000)) d | gzip -nc; done >m.gz;"
    "zcat m.gz >m; pigz -ic d >p.gz;"
    "for x in d m p; do "
    "gztool -z -s 1 -I $x.0 -i $x.gz >/dev/null; "
    "gztool -x -s 1 -I $x.1 -i $x.gz >/dev/null;"
    "/usr/bin/python3 -c \"import indexed_gzip as g,sys\n"
    "f=g.IndexedGzipFile(sys.argv[1]+'.gz',spacing=1<<20)\n"
    "f.build_full_index();f.export_index(sys.argv[1]+'.2')\" $x; done";

struct opened_image {
    struct memhost *host;
    struct memchild child;
    struct bytes packed;
    void *image;
};

static void open_over(struct opened_image *o, struct bytes packed)
{
    struct plt_error err = {0};
    struct plt_opened opened;

    o->host = memhost_new(8 << 20, NULL);
    o->packed = packed;
    memchild_init(&o->child, packed.p, packed.n);
    o->child.delay_us = 300; /* so that the index comes before the front */
    cr_assert_eq(memhost_open(o->host, &platter_driver, &o->child.child, 0,
                              &o->image, &opened, &err, (const char *)NULL),
                 PLT_OK, "%s", err.text);
}

static void close_it(struct opened_image *o)
{
    platter_driver.close(o->image);
    memhost_free(o->host);
}

static enum plt_status put(struct opened_image *o, struct bytes index)
{
    struct plt_error err = {0};
    return platter_driver.index_put(o->image, memhost_io(), index.p, index.n,
                                    &err);
}

/* What it says of itself once all is decoded; new. */
static char *whole(struct opened_image *o, struct bytes want)
{
    struct plt_error err = {0};
    uint64_t size = 0;

    cr_assert_eq(
        platter_driver.resolve_size(o->image, memhost_io(), &size, &err),
        PLT_OK, "%s", err.text);
    cr_assert_eq(size, want.n);
    return memhost_info(&platter_driver, o->image);
}

Test(gzip_foreign, each_format_is_taken_and_proven)
{
    char dir[] = "/tmp/driver_gzip_foreign.XXXXXX";
    make_files(dir, make);
    static const char *const streams[] = {"d", "m", "p"};
    for (size_t i = 0; i < 9; i++) {
        char gz[16], name[16];
        const char *const x = streams[i / 3];
        (void)snprintf(gz, sizeof(gz), "%s.gz", x);
        (void)snprintf(name, sizeof(name), "%s.%zu", x, i % 3);
        struct bytes packed = load(dir, gz), index = load(dir, name);
        struct bytes want = load(dir, x[0] == 'p' ? "d" : x);
        struct opened_image o;
        open_over(&o, packed);
        cr_assert_eq(put(&o, index), PLT_OK, "%s", name);
        same_spans(o.image, want, 20, name);
        char *const info = whole(&o, want);
        cr_assert(strstr(info, "\"foreign-spans\":"), "%s: %s", name, info);
        cr_assert(strstr(info, "\"foreign-refuted\":false"), "%s: %s", name,
                  info);
        cr_assert(strstr(info, x[0] == 'm' ? "\"members\":5" : "\"members\":1"),
                  "%s: %s", name, info);
        free(info);
        memhost_drop_cache(o.host);
        same_spans(o.image, want, 20, name);
        close_it(&o);
        free(packed.p);
        free(index.p);
        free(want.p);
    }
    remove_files(dir);
}

struct sink {
    FILE *f;
};

static bool take(void *cookie, const void *data, size_t len)
{
    return fwrite(data, 1, len, ((struct sink *)cookie)->f) == len;
}

/* What we write is read by the tools, and by us. */
Test(gzip_foreign, each_format_is_written)
{
    static const char *const forms[] = {"gztool", "indexed_gzip"};
    static const char check[] =
        "for x in d m p; do y=$x; [ $x = p ] && y=d;"
        "for at in 0 1 70000 1048575 2500001 5200000; do "
        "gztool -b $at -r 3000 -I $x.gztool $x.gz >got 2>err;"
        "tail -c +$((at + 1)) $y | head -c 3000 | cmp - got; done;"
        "gztool -ll -I $x.gztool 2>&1 | grep -q points;"
        "/usr/bin/python3 -c \"import indexed_gzip as g,sys\n"
        "x,y=sys.argv[1:]\n"
        "f=g.IndexedGzipFile(x+'.gz',index_file=x+'.indexed_gzip')\n"
        "d=open(y,'rb').read()\n"
        "for at in [0,1,70000,1048575,2500001,5200000]+list(range(0,len(d),"
        "333333)):\n"
        "  f.seek(at)\n"
        "  assert f.read(3000)==d[at:at+3000],at\" $x $y; done";
    char dir[] = "/tmp/driver_gzip_foreign.XXXXXX", path[128];
    make_files(dir, make);
    for (size_t i = 0; i < 6; i++) {
        const char *const x = &"d\0m\0p"[i / 2 * 2];
        struct plt_error err = {0};
        struct opened_image o;
        (void)snprintf(path, sizeof(path), "%s.gz", x);
        struct bytes packed = load(dir, path);
        struct bytes want = load(dir, x[0] == 'p' ? "d" : x);
        (void)snprintf(path, sizeof(path), "%s/%s.%s", dir, x, forms[i % 2]);
        struct sink s = {fopen(path, "wb")};
        open_over(&o, packed);
        cr_assert_eq(platter_driver.index_get_as(o.image, memhost_io(),
                                                 forms[i % 2], take, &s, &err),
                     PLT_OK, "%s", err.text);
        (void)fclose(s.f);
        cr_assert_eq(platter_driver.index_get_as(o.image, memhost_io(), "other",
                                                 take, &s, &err),
                     PLT_UNSUPPORTED);
        close_it(&o);
        (void)snprintf(path, sizeof(path), "%s.%s", x, forms[i % 2]);
        struct bytes index = load(dir, path);
        open_over(&o, packed);
        cr_assert_eq(put(&o, index), PLT_OK, "%s", path);
        same_spans(o.image, want, 5, path);
        char *const info = whole(&o, want);
        cr_assert(strstr(info, "\"foreign-refuted\":false"), "%s: %s", path,
                  info);
        free(info);
        close_it(&o);
        free(index.p);
        free(packed.p);
        free(want.p);
    }
    (void)snprintf(path, sizeof(path), "%s/check", dir);
    FILE *const f = fopen(path, "w");
    cr_assert(f && fputs(check, f) >= 0 && fclose(f) == 0);
    (void)snprintf(path, sizeof(path), "cd %s && sh -e check", dir);
    cr_assert_eq(system(path), 0);
    remove_files(dir);
}

/* Over the stream `packed` an index that is no true one of it. */
static void lies(struct bytes packed, struct bytes want, struct bytes index,
                 const char *what)
{
    struct opened_image o;

    open_over(&o, packed);
    const enum plt_status st = put(&o, index);
    cr_assert(st == PLT_OK || st == PLT_INVALID, "%s", what);
    same_spans(o.image, want, 4, what);
    free(whole(&o, want));
    memhost_drop_cache(o.host);
    same_spans(o.image, want, 4, what);
    close_it(&o);
}

Test(gzip_foreign, what_is_not_true_gives_no_wrong_byte)
{
    char dir[] = "/tmp/driver_gzip_foreign.XXXXXX";
    make_files(dir, make);
    static const char *const names[] = {"d.0", "d.1", "d.2", "m.2"};
    for (size_t i = 0; i < 4; i++) {
        const bool is_m = names[i][0] == 'm';
        struct bytes packed = load(dir, is_m ? "m.gz" : "d.gz");
        struct bytes want = load(dir, is_m ? "m" : "d");
        struct bytes index = load(dir, names[i]);
        /* cut off */
        for (size_t n = 0; n <= index.n; n += index.n / 3 + 1)
            lies(packed, want, (struct bytes){index.p, n}, names[i]);
        /* a byte changed: heads, points, windows */
        uint32_t lcg = 5;
        for (unsigned k = 0; k < 16; k++) {
            lcg = lcg * 1664525U + 1013904223U;
            const size_t at = (lcg >> 4) % (k % 2 ? index.n : 400);
            index.p[at] ^= (uint8_t)(1U << (lcg >> 29));
            lies(packed, want, index, names[i]);
            index.p[at] ^= (uint8_t)(1U << (lcg >> 29));
        }
        free(packed.p);
        free(want.p);
        free(index.p);
    }
    /* each of another stream */
    struct bytes packed = load(dir, "p.gz"), want = load(dir, "d");
    for (size_t i = 0; i < 4; i++) {
        struct bytes index = load(dir, names[i]);
        lies(packed, want, index, names[i]);
        free(index.p);
    }
    free(packed.p);
    free(want.p);
    remove_files(dir);
}

/* Another version of the file, of the same length and with every deflate block
 * where it was: stored blocks, a byte of which differs, and references to it
 * that reach over all points.  Only the windows are stale. */
Test(gzip_foreign, a_stale_window_is_found_out)
{
    static const char script[] =
        "/usr/bin/python3 -c \"import zlib,random,struct\n"
        "random.seed(3)\n"
        "blk=bytes(random.randrange(256) for _ in range(30000))\n"
        "def pack(b):\n"
        "  c=zlib.compressobj(9,8,-15); d=b; o=b''\n"
        "  o+=c.compress(b+d[:29999])+c.flush(2)\n"
        "  for i in range(150):\n"
        "    o+=c.compress(d+d[:7000+i])+c.flush(2)\n"
        "  p=b+d[:29999]+b''.join(d+d[:7000+i] for i in range(150))\n"
        "  o+=c.flush()\n"
        "  return p,bytes.fromhex('1f8b08000000000000ff')+o+"
        "struct.pack('<II',zlib.crc32(p),len(p))\n"
        "p,a=pack(blk)\n"
        "q,b=pack(blk[:5000]+bytes([blk[5000]^1])+blk[5001:])\n"
        "open('a','wb').write(p);open('a.gz','wb').write(a)\n"
        "open('b','wb').write(q);open('b.gz','wb').write(b)\";"
        "gztool -z -s 1 -I a.0 -i a.gz >/dev/null;"
        "/usr/bin/python3 -c \"import indexed_gzip as g\n"
        "f=g.IndexedGzipFile('a.gz',spacing=1<<20)\n"
        "f.build_full_index();f.export_index('a.2')\"";
    char dir[] = "/tmp/driver_gzip_foreign.XXXXXX";
    make_files(dir, script);
    struct bytes a = load(dir, "a.gz"), b = load(dir, "b.gz");
    struct bytes want = load(dir, "b");
    cr_assert_eq(a.n, b.n, "the two versions differ in length");
    for (size_t i = 0; i < 2; i++) {
        struct bytes index = load(dir, i ? "a.2" : "a.0");
        struct opened_image o;
        open_over(&o, b);
        cr_assert_eq(put(&o, index), PLT_OK);
        same_spans(o.image, want, 8, "stale");
        char *const info = whole(&o, want);
        cr_assert(strstr(info, "\"foreign-refuted\":true"), "%s", info);
        free(info);
        close_it(&o);
        free(index.p);
    }
    free(a.p);
    free(b.p);
    free(want.p);
    remove_files(dir);
}

/* Each read below fails, once and for ever. */
Test(gzip_foreign, faults)
{
    char dir[] = "/tmp/driver_gzip_foreign.XXXXXX";
    make_files(dir, make);
    struct bytes packed = load(dir, "m.gz"), want = load(dir, "m");
    struct bytes index = load(dir, "m.2");
    uint8_t *const got = malloc(want.n);
    for (uint64_t at = 1; at < 24; at++) {
        struct plt_error err = {0};
        struct opened_image o;
        struct plt_opened opened;
        o.host = memhost_new(at % 3 ? 8 << 20 : 0, NULL);
        memchild_init(&o.child, packed.p, packed.n);
        if (memhost_open(o.host, &platter_driver, &o.child.child, 0, &o.image,
                         &opened, &err, (const char *)NULL) == PLT_OK) {
            o.child.fail_with = PLT_ORIGIN;
            o.child.fail_forever = at % 2;
            o.child.fail_at = at / 2 + 1;
            cr_assert_eq(put(&o, index), PLT_OK);
            const enum plt_status st = memhost_read(
                &platter_driver, o.image, got, 0, want.n - SMALL, &err);
            cr_assert(st == PLT_OK || st == PLT_ORIGIN, "%s", err.text);
            if (st == PLT_OK)
                cr_assert_eq(memcmp(got, want.p, want.n - SMALL), 0);
            platter_driver.close(o.image);
        }
        memhost_free(o.host);
    }
    free(got);
    free(packed.p);
    free(want.p);
    free(index.p);
    remove_files(dir);
}
