/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever its files hold: it opens, gives out no wrong byte, keeps what was
 * not damaged, and takes again what was. */
#include "store_rig.h"

#include "store/store_record.h"

enum {
    LEAVES = 1300, /* two sealed segments of 2 MiB and a tail */
    FILES = 8,
    IN_RECORD = 16
};
#define LIMIT (UINT64_C(64) << 20)

/* The files of a store, as they were. */
struct copy {
    size_t n;
    char names[FILES][32];
    uint8_t *bytes[FILES];
    size_t len[FILES];
};

static uint64_t state = 1;

static size_t below(size_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state % n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static struct copy save(const struct rig *r)
{
    struct copy c = {0};
    DIR *const dir = opendir(r->path);
    struct stat sb;

    for (const struct dirent *e; (e = readdir(dir));) {
        if (strstr(e->d_name, ".seg"))
            snprintf(c.names[c.n++], 32, "%.31s", e->d_name);
    }
    closedir(dir);
    qsort(c.names, c.n, sizeof(c.names[0]), by_name);
    for (size_t i = 0; i < c.n; i++) {
        const int fd = openat(r->config.dir, c.names[i], O_RDONLY);
        cr_assert(fd >= 0 && fstat(fd, &sb) == 0);
        c.len[i] = (size_t)sb.st_size;
        c.bytes[i] = malloc(c.len[i]);
        cr_assert(read(fd, c.bytes[i], c.len[i]) == sb.st_size);
        close(fd);
    }
    return c;
}

static void drop(struct copy *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->bytes[i]);
}

static void put_file(const struct rig *r, const char *name,
                     const uint8_t *bytes, size_t len)
{
    const int fd =
        openat(r->config.dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    close(fd);
}

/* As it was saved, and nothing else. */
static void restore(const struct rig *r, const struct copy *c)
{
    DIR *const dir = opendir(r->path);

    for (const struct dirent *e; (e = readdir(dir));) {
        if (strstr(e->d_name, ".seg"))
            cr_assert(unlinkat(r->config.dir, e->d_name, 0) == 0);
    }
    closedir(dir);
    for (size_t i = 0; i < c->n; i++)
        put_file(r, c->names[i], c->bytes[i], c->len[i]);
}

static void poke(const struct rig *r, const char *name, size_t at,
                 const void *bytes, size_t len)
{
    const int fd = openat(r->config.dir, name, O_WRONLY);
    cr_assert(fd >= 0 && pwrite(fd, bytes, len, (off_t)at) == (ssize_t)len);
    close(fd);
}

static struct rig *made(enum store_compression compression, struct copy *c)
{
    struct rig *const r = rig_new(LIMIT, compression);
    /* of several sizes; at last all of them are plain */
    for (uint64_t i = 0; i < 900; i += 50)
        rig_put(r, i, i % 100 ? 50 : 13);
    for (uint64_t i = 0; i < 900; i += 100)
        rig_put(r, i, 50);
    r->config.compression = STORE_PLAIN;
    rig_again(r);
    rig_put(r, 900, LEAVES - 900);
    cr_assert_eq(rig_count(r, 0, LEAVES), LEAVES);
    rig_close(r);
    *c = save(r);
    cr_assert_geq(c->n, compression == STORE_PLAIN ? 3 : 2);
    log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    return r;
}

/* After damage it goes on, and has all again. */
static void mend(struct rig *r, size_t least)
{
    const size_t n = rig_count(r, 0, LEAVES);
    cr_assert_geq(n, least);
    cr_assert_eq(rig_count(r, 0, LEAVES), n);
    cr_assert_eq(rig_put(r, 0, LEAVES), LEAVES - n);
    cr_assert_eq(rig_count(r, 0, LEAVES), LEAVES);
    rig_again(r);
    cr_assert_eq(rig_count(r, 0, LEAVES), LEAVES);
    rig_close(r);
}

static void flips(enum store_compression compression)
{
    struct copy c;
    struct rig *const r = made(compression, &c);

    for (int round = 0; round < 80; round++) {
        const size_t i = below(c.n);
        /* heads, footers and trailers as often as data */
        const size_t at = round % 3 == 0   ? below(c.len[i])
                          : round % 3 == 1 ? below(1400)
                                           : c.len[i] - 1 - below(500);
        const uint8_t byte = c.bytes[i][at] ^ (uint8_t)(1 << below(8));
        restore(r, &c);
        poke(r, c.names[i], at, &byte, 1);
        rig_open(r);
        mend(r, LEAVES - IN_RECORD);
    }
    drop(&c);
    rig_free(r);
}

Test(damage, of_one_bit_costs_one_record)
{
    flips(STORE_PLAIN);
}

Test(damage, of_one_bit_costs_one_record_compressed)
{
    flips(STORE_ZSTD);
}

Test(damage, of_many_bytes_gives_out_none_of_them)
{
    struct copy c;
    struct rig *const r = made(STORE_ZSTD, &c);

    for (int round = 0; round < 30; round++) {
        restore(r, &c);
        for (size_t k = 1 + below(400); k; k--) {
            const size_t i = below(c.n);
            const uint8_t byte = (uint8_t)below(256);
            poke(r, c.names[i], below(c.len[i]), &byte, 1);
        }
        rig_open(r);
        mend(r, 0);
    }
    drop(&c);
    rig_free(r);
}

Test(damage, of_the_whole_is_an_empty_store)
{
    struct copy c;
    struct rig *const r = made(STORE_PLAIN, &c);
    static const uint8_t zeros[4096];

    put_file(r, c.names[0], zeros, 0);
    put_file(r, c.names[1], zeros, 63);
    put_file(r, c.names[2], zeros, sizeof(zeros));
    put_file(r, "00000009.seg", zeros, sizeof(zeros));
    put_file(r, "9.seg", zeros, 1);
    put_file(r, "other", zeros, 1);
    rig_open(r);
    cr_assert_eq(rig_stats(r).leaves, 0);
    cr_assert_eq(rig_stats(r).disk_bytes, 0);
    mend(r, 0);
    cr_assert_eq(faccessat(r->config.dir, "other", F_OK, 0), 0);
    cr_assert_eq(faccessat(r->config.dir, "9.seg", F_OK, 0), 0);
    cr_assert_neq(faccessat(r->config.dir, "00000009.seg", F_OK, 0), 0);
    drop(&c);
    rig_free(r);
}

Test(damage, a_name_that_is_no_file_is_passed_over)
{
    struct copy c;
    struct rig *const r = made(STORE_PLAIN, &c);

    cr_assert(mkdirat(r->config.dir, "00000077.seg", 0700) == 0);
    cr_assert(symlinkat("00000001.seg", r->config.dir, "00000078.seg") == 0);
    cr_assert(mkfifoat(r->config.dir, "00000079.seg", 0600) == 0);
    rig_open(r);
    cr_assert_eq(rig_count(r, 0, LEAVES), LEAVES);
    rig_close(r);
    drop(&c);
    rig_free(r);
}

/* The records of a file up to a length that are whole, in leaves. */
static size_t whole_before(const struct copy *c, size_t i, size_t len)
{
    struct store_record r;
    size_t n = 0;

    for (size_t at = 64; at < len; at += r.bytes) {
        if (!store_record_parse(c->bytes[i] + at, c->len[i] - at,
                                c->bytes[i] + 8, at, &r) ||
            at + r.bytes > len)
            break;
        n += r.n;
    }
    return n;
}

Test(damage, a_file_cut_anywhere_keeps_what_is_before)
{
    struct copy c;
    struct rig *const r = made(STORE_PLAIN, &c);

    for (size_t i = 0; i < c.n; i++) {
        const size_t all = whole_before(&c, i, c.len[i]);
        for (size_t k = 0; k < 24; k++) {
            const size_t cuts[] = {0,
                                   1,
                                   63,
                                   64,
                                   65,
                                   127,
                                   128,
                                   64 + 66112,
                                   63 + 66112,
                                   65 + 66112,
                                   c.len[i] - 1,
                                   c.len[i] - 63,
                                   c.len[i] - 64,
                                   c.len[i] - 65,
                                   c.len[i] - 4096};
            const size_t n_cuts = sizeof(cuts) / sizeof(cuts[0]);
            const size_t len = k < n_cuts ? cuts[k] : below(c.len[i]);
            restore(r, &c);
            put_file(r, c.names[i], c.bytes[i], len);
            rig_open(r);
            mend(r, LEAVES - all + whole_before(&c, i, len));
        }
    }
    drop(&c);
    rig_free(r);
}

Test(damage, the_newer_copy_of_a_leaf_counts)
{
    struct copy c;
    struct rig *const r = made(STORE_PLAIN, &c);
    uint8_t leaf[STORE_LEAF];

    /* A leaf in the first segment, in the middle of its bytes. */
    leaf_make(3, leaf);
    uint8_t *const at = memmem(c.bytes[0], c.len[0], leaf, sizeof(leaf));
    cr_assert(at);
    poke(r, c.names[0], (size_t)(at - c.bytes[0]) + 2000, "\xff\x01\x80", 3);
    rig_open(r);
    cr_assert_not(rig_has(r, 3));
    cr_assert_eq(rig_stats(r).damaged, 1);
    cr_assert_eq(rig_stats(r).leaves, LEAVES - 1);
    cr_assert_eq(rig_put(r, 3, 1), 1);
    /* The old footer names it still. */
    for (int i = 0; i < 3; i++) {
        rig_again(r);
        cr_assert(rig_has(r, 3));
        cr_assert_eq(rig_stats(r).damaged, 0);
    }
    rig_close(r);
    drop(&c);
    rig_free(r);
}

Test(damage, is_put_anew_by_a_put)
{
    struct copy c;
    struct rig *const r = made(STORE_PLAIN, &c);
    uint8_t leaf[STORE_LEAF];

    leaf_make(6, leaf);
    uint8_t *const at = memmem(c.bytes[0], c.len[0], leaf, sizeof(leaf));
    poke(r, c.names[0], (size_t)(at - c.bytes[0]), "x", 1);
    rig_open(r);
    /* It seems to be there. */
    cr_assert_eq(rig_put(r, 6, 1), 1);
    cr_assert(rig_has(r, 6));
    cr_assert_eq(rig_stats(r).damaged, 1);
    rig_close(r);
    drop(&c);
    rig_free(r);
}

/* ---- Records that somebody else has made ---- */

/* A record of one leaf, `number`, as its bytes would be at `off`. */
static size_t forge(uint8_t *out, uint64_t number, const uint8_t *secret,
                    uint64_t off)
{
    uint8_t data[STORE_LEAF], digest[1][STORE_DIGEST];

    leaves_make(number, 1, data, digest);
    const size_t len = store_record_make(
        out, 1, (const uint8_t(*)[STORE_DIGEST])digest, data, NULL);
    store_record_seal(out, secret, off);
    return len;
}

/* Leaves whose bytes, in a row, are a record; what is around them is damaged so
 * that a start looks for one there. */
static bool is_taken(bool is_secret_known)
{
    struct rig *const r = rig_new(LIMIT, STORE_PLAIN);
    static uint8_t data[4 * STORE_LEAF];
    uint8_t digests[4][STORE_DIGEST];
    const size_t data_off = 64 + 64 + 4 * STORE_DIGEST;
    uint8_t secret[STORE_SECRET] = "they do not know";
    uint8_t zeros[64] = {0};

    rig_put(r, 1, 1);
    rig_close(r);
    struct copy c = save(r);
    if (is_secret_known)
        memcpy(secret, c.bytes[0] + 8, sizeof(secret));
    const size_t tail = c.len[0]; /* where the record of the four will lie */
    const size_t in = 128;
    for (size_t i = 0; i < 4; i++)
        leaf_make(200 + i, data + i * STORE_LEAF);
    (void)forge(data + in, 99, secret, tail - 64 + data_off + in);
    for (size_t i = 0; i < 4; i++)
        leaf_digest(data + i * STORE_LEAF, digests[i]);
    rig_open(r);
    OK(store_put(r->store, 4, (const uint8_t(*)[STORE_DIGEST])digests, data,
                 NULL, &r->err));
    rig_close(r);
    poke(r, c.names[0], tail, zeros, sizeof(zeros));
    rig_open(r);
    cr_assert(rig_has(r, 1));
    const bool is_there = rig_has(r, 99);
    drop(&c);
    rig_free(r);
    return is_there;
}

Test(damage, bytes_of_leaves_are_no_records)
{
    cr_assert_not(is_taken(false));
    cr_assert(is_taken(true)); /* and it is the secret that makes it so */
}

/* ---- Scrubs ---- */

static size_t n_told;
static uint8_t told[64][STORE_DIGEST];

static void tell(void *cookie, const uint8_t digest[STORE_DIGEST])
{
    (void)cookie;
    cr_assert(n_told < 64);
    memcpy(told[n_told++], digest, STORE_DIGEST);
}

static void scrub_finds(enum store_compression compression)
{
    struct copy c;
    struct rig *const r = made(compression, &c);
    uint8_t leaf[STORE_LEAF], digest[STORE_DIGEST];
    uint64_t place = 0;
    unsigned calls = 0;

    rig_open(r);
    OK(store_scrub(r->store, &place, UINT64_MAX, tell, NULL, &r->err));
    cr_assert_eq(place, 0);
    cr_assert_eq(n_told, 0);
    leaf_make(3, leaf); /* random bytes: they stay as they are in both kinds */
    leaf_digest(leaf, digest);
    uint8_t *const at = memmem(c.bytes[0], c.len[0], leaf, sizeof(leaf) / 2);
    cr_assert(at);
    poke(r, c.names[0], (size_t)(at - c.bytes[0]) + 100, "\1\2\3\4", 4);
    do {
        OK(store_scrub(r->store, &place, 300000, tell, NULL, &r->err));
        calls++;
    } while (place && calls < 1000);
    cr_assert(calls > 3 && calls < 100, "%u", calls);
    cr_assert(n_told >= 1 && n_told <= IN_RECORD);
    bool is_told = false;
    for (size_t i = 0; i < n_told; i++)
        is_told |= memcmp(told[i], digest, STORE_DIGEST) == 0;
    cr_assert(is_told);
    cr_assert_not(store_may_have(r->store, digest));
    cr_assert_eq(rig_stats(r).damaged, n_told);
    cr_assert_eq(rig_stats(r).leaves, LEAVES - n_told);
    mend(r, LEAVES - n_told);
    drop(&c);
    rig_free(r);
}

Test(damage, is_found_by_a_scrub)
{
    scrub_finds(STORE_PLAIN);
}

Test(damage, is_found_by_a_scrub_compressed)
{
    scrub_finds(STORE_ZSTD);
}
