/* SPDX-License-Identifier: Apache-2.0 */
/* One partition as a disk: reads, extents, options, and how it and the list
 * behave over a stream that is decoded from its beginning. */
#include "partition_disks.h"

#include <stdio.h>

enum { S = 512, FIRST = 300, COUNT = 500 };

static struct disk with_one(void)
{
    const struct gpt_entry one = {.first = FIRST, .last = FIRST + COUNT - 1};
    struct disk d = disk_new(1000 * S);
    gpt_put_both(&d, S, 128, 128, &one, 1);
    return d;
}

Test(partition, reads_of_any_number_of_pieces_equal_the_slice)
{
    enum { MOST = 200 };
    struct disk d = with_one();
    struct opened o;
    struct plt_error err = {0};
    uint32_t lcg = 3;
    uint8_t *const got = calloc(MOST, 700);
    cr_assert(got);
    cr_assert_eq(open_over(&o, &d, "number=1", NULL, &err), PLT_OK);
    /* around the portions of 64 that are handed down */
    static const size_t counts[] = {1, 2, 63, 64, 65, 127, 128, 129, MOST};
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        struct plt_seg segs[MOST];
        for (size_t i = 0; i < counts[c]; i++) {
            lcg = lcg * 1664525U + 1013904223U;
            const size_t len = 1 + (lcg >> 8) % 700;
            lcg = lcg * 1664525U + 1013904223U;
            segs[i] = (struct plt_seg){(lcg >> 4) % (COUNT * S - len), len,
                                       got + i * 700};
        }
        cr_assert_eq(
            platter_driver.read(o.image, memhost_io(), segs, counts[c], &err),
            PLT_OK, "%s", err.text);
        for (size_t i = 0; i < counts[c]; i++)
            cr_assert_eq(
                memcmp(segs[i].buf, d.p + FIRST * S + segs[i].off, segs[i].len),
                0, "piece %zu of %zu", i, counts[c]);
    }
    cr_assert_eq(memhost_lend(&platter_driver, o.image, got, 700, 9000),
                 PLT_AGAIN);
    o.child.lends = true;
    cr_assert_eq(memhost_lend(&platter_driver, o.image, got, 700, 9000),
                 PLT_OK);
    cr_assert_eq(memcmp(got, d.p + FIRST * S + 700, 9000), 0);
    free(got);
    close_over(&o);
    disk_free(&d);
}

Test(partition, a_read_that_fails_is_an_error_and_the_next_is_right)
{
    struct disk d = with_one();
    struct opened o;
    struct plt_error err = {0};
    uint8_t got[200];
    cr_assert_eq(open_over(&o, &d, "number=1", NULL, &err), PLT_OK);
    const uint64_t before = memchild_reads(&o.child);
    /* 130 pieces are three reads of the child: each of them in turn */
    for (uint64_t n = 1; n <= 4; n++) {
        struct plt_seg segs[130];
        for (size_t i = 0; i < 130; i++)
            segs[i] = (struct plt_seg){i * S, 1, got + i};
        o.child.n_reads = before;
        o.child.fail_at = before + n;
        cr_assert_eq(
            platter_driver.read(o.image, memhost_io(), segs, 130, &err),
            n <= 3 ? PLT_ORIGIN : PLT_OK, "read %ju", (uintmax_t)n);
    }
    for (size_t i = 0; i < 130; i++)
        cr_assert_eq(got[i], d.p[(FIRST + i) * S]);
    close_over(&o);
    disk_free(&d);
}

Test(partition, options_out_of_range_are_invalid)
{
    static const struct {
        const char *one, *two;
        enum plt_status want;
    } rows[] = {
        {"number=1", NULL, PLT_OK},
        {"number=1", "sector=512", PLT_OK},
        {"number=0", NULL, PLT_INVALID},
        {NULL, NULL, PLT_INVALID},
        {"number=1", "sector=1", PLT_INVALID},
        {"number=1", "sector=513", PLT_INVALID},
        {"number=1", "sector=8192", PLT_INVALID},
        {"number=1", "sector=4294967808", PLT_INVALID}, /* 2^32 + 512 */
        {"number=2", NULL, PLT_NOT_FOUND},
        {"number=4294967297", NULL, PLT_NOT_FOUND}, /* 2^32 + 1 */
        {"number=18446744073709551615", NULL, PLT_NOT_FOUND},
    };
    struct disk d = with_one();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct opened o;
        struct plt_error err = {0};
        const enum plt_status st =
            open_over(&o, &d, rows[i].one, rows[i].two, &err);
        cr_expect_eq(st, rows[i].want, "row %zu: %d: %s", i, (int)st, err.text);
        if (st == PLT_OK)
            close_over(&o);
    }
    disk_free(&d);
}

Test(partition, who_asks_for_a_number_that_is_not_there_is_told_which_are)
{
    struct disk d = disk_new(1000 * S);
    struct opened o;
    struct plt_error err = {0};
    put_mbr(&d, 0, 0, 0, 0x83, 100, 10);
    put_mbr(&d, 0, 2, 0, 0x83, 200, 10);
    cr_expect_eq(open_over(&o, &d, "number=2", NULL, &err), PLT_NOT_FOUND);
    cr_expect(strstr(err.text, "there are 1, 3"), "%s", err.text);
    clear_mbr(&d, 0);
    cr_expect_eq(open_over(&o, &d, "number=2", NULL, &err), PLT_NOT_FOUND);
    cr_expect(strstr(err.text, "has none"), "%s", err.text);
    disk_free(&d);
}

/* ---- Extents ---- */

/* The disk below in stretches of 10 sectors, kinds in turn. */
static const uint32_t kinds[] = {0,
                                 PLT_EXTENT_ZERO | PLT_EXTENT_HOLE,
                                 PLT_EXTENT_COMPRESSED,
                                 PLT_EXTENT_ZERO | PLT_EXTENT_RESERVED,
                                 PLT_EXTENT_MAPPED,
                                 PLT_EXTENT_ZERO | PLT_EXTENT_MAPPED};
enum { STRETCH = 10 * S, N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static enum plt_status striped(struct plt_child *child, struct plt_io *io,
                               uint64_t off, uint64_t len, plt_extent_fn *emit,
                               void *cookie, struct plt_error *err)
{
    (void)child;
    (void)io;
    (void)err;
    for (const uint64_t end = off + len; off < end;) {
        const uint64_t k = off / STRETCH;
        const struct plt_extent e = {.off = off,
                                     .len = (k + 1) * STRETCH - off,
                                     .flags = kinds[k % N_KINDS],
                                     .depth = (uint32_t)(k % 3),
                                     .child_off = 77};
        if (!emit(cookie, &e))
            break;
        off += e.len;
    }
    return PLT_OK;
}

struct seen {
    uint64_t from, next;
    unsigned n, most;
};

static bool see(void *cookie, const struct plt_extent *e)
{
    struct seen *const s = (struct seen *)cookie;
    const uint64_t below = e->off + FIRST * S, k = below / STRETCH;
    const uint32_t was = kinds[k % N_KINDS];

    cr_assert_eq(e->off, s->next);
    cr_assert_eq(below + e->len, (k + 1) * STRETCH);
    cr_assert_eq(e->depth, k % 3);
    /* where it is read on the disk below */
    cr_assert_eq(e->child_off, below);
    const bool is_plain = !(was & (PLT_EXTENT_ZERO | PLT_EXTENT_COMPRESSED));
    cr_assert_eq(e->flags,
                 was | (is_plain                  ? PLT_EXTENT_MAPPED
                        : was & PLT_EXTENT_MAPPED ? 0U
                                                  : PLT_EXTENT_RESERVED));
    s->next = e->off + e->len;
    return ++s->n < s->most;
}

Test(partition, extents_are_those_of_the_disk_moved_to_its_beginning)
{
    struct disk d = with_one();
    struct opened o;
    struct plt_error err = {0};
    cr_assert_eq(open_over(&o, &d, "number=1", NULL, &err), PLT_OK);
    o.child.child.extents = striped;
    for (uint64_t off = 0; off < COUNT * S; off += 3 * S) {
        for (unsigned most = 1; most < 5; most++) {
            struct seen s = {.from = off, .next = off, .most = most};
            cr_assert_eq(platter_driver.extents(o.image, memhost_io(), off,
                                                COUNT * S - off, see, &s, &err),
                         PLT_OK);
            cr_assert(s.n == most || s.next >= COUNT * S);
        }
    }
    close_over(&o);
    disk_free(&d);
}

static enum plt_status no_extents(struct plt_child *child, struct plt_io *io,
                                  uint64_t off, uint64_t len,
                                  plt_extent_fn *emit, void *cookie,
                                  struct plt_error *err)
{
    (void)child;
    (void)io;
    (void)len;
    (void)emit;
    (void)cookie;
    return plt_fail_at(err, PLT_ORIGIN, off, "no map");
}

Test(partition, extents_that_fail_below_fail)
{
    struct disk d = with_one();
    struct opened o;
    struct plt_error err = {0};
    struct seen s = {.most = 1};
    cr_assert_eq(open_over(&o, &d, "number=1", NULL, &err), PLT_OK);
    o.child.child.extents = no_extents;
    cr_expect_eq(
        platter_driver.extents(o.image, memhost_io(), 0, S, see, &s, &err),
        PLT_ORIGIN);
    close_over(&o);
    disk_free(&d);
}

/* ---- Over a stream that is decoded from its beginning ---- */

/* Nothing behind this byte can be had in time. */
static uint64_t reach;

static enum plt_status (*whole_read)(struct plt_child *child, struct plt_io *io,
                                     const struct plt_seg *segs, size_t n,
                                     struct plt_error *err);

static enum plt_status late_read(struct plt_child *child, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (segs[i].off + segs[i].len > reach)
            return plt_fail(err, PLT_TIMEOUT, "too late");
    }
    return whole_read(child, io, segs, n, err);
}

static enum plt_status open_late(struct opened *o, const struct disk *d,
                                 uint32_t child_flags, bool is_list,
                                 struct plt_error *err)
{
    struct plt_opened opened;

    o->host = memhost_new(1 << 20, NULL);
    memchild_init(&o->child, d->p, d->n);
    whole_read = o->child.child.read;
    o->child.child.read = late_read;
    o->child.child.flags = child_flags;
    const enum plt_status st =
        memhost_open(o->host, &platter_driver, &o->child.child,
                     is_list ? PLT_OPEN_LIST : 0, &o->image, &opened, err,
                     is_list ? NULL : "number=1", (const char *)NULL);
    o->flags = opened.flags;
    if (st != PLT_OK)
        memhost_free(o->host);
    return st;
}

Test(partition, in_a_stream_the_table_is_told_before_the_rest_is_decoded)
{
    struct disk d = with_one();
    struct opened o;
    struct plt_error err = {0};
    memcpy(d.p + FIRST * S + 4096 - 10, "SWAPSPACE2", 10);
    plt_put_le32(d.p + FIRST * S + 1024, 1); /* its version */
    reach = 72 * 1024;
    cr_assert_eq(open_late(&o, &d, PLT_CHILD_FORWARD, true, &err), PLT_OK, "%s",
                 err.text);
    char *text = memhost_info(&platter_driver, o.image);
    cr_expect(is_listed(text, 1, FIRST * S, COUNT * S), "%s", text);
    cr_expect(strstr(text, "\"filesystems-unread\":true"), "%s", text);
    cr_expect(strstr(text, "\"backup\":\"unread\""), "%s", text);
    free(text);
    close_over(&o);
    /* reached: it is looked into, and the backup is still left */
    reach = d.n - S;
    cr_assert_eq(open_late(&o, &d, PLT_CHILD_FORWARD, true, &err), PLT_OK);
    text = memhost_info(&platter_driver, o.image);
    cr_expect_not(strstr(text, "filesystems-unread"), "%s", text);
    cr_expect(strstr(text, "\"filesystem\":{\"type\":\"swap\""), "%s", text);
    cr_expect(strstr(text, "\"backup\":\"unread\""), "%s", text);
    free(text);
    close_over(&o);
    /* the partition itself: opened by the head alone, and forward, too */
    reach = 72 * 1024;
    cr_assert_eq(open_late(&o, &d, PLT_CHILD_FORWARD, false, &err), PLT_OK);
    cr_expect_eq(o.flags, PLT_OPENED_FORWARD);
    close_over(&o);
    cr_assert_eq(open_late(&o, &d, PLT_CHILD_REMOTE, false, &err), PLT_OK);
    cr_expect_eq(o.flags, 0);
    close_over(&o);
    /* elsewhere a read that is late is an error */
    cr_expect_eq(open_late(&o, &d, PLT_CHILD_REMOTE, true, &err), PLT_TIMEOUT);
    disk_free(&d);
}

Test(partition, a_file_system_from_the_first_byte_is_said_beside_the_table)
{
    struct disk d = with_one();
    memset(d.p + 1024, 0, 1);
    char *text = list_text(&d);
    cr_expect_not(strstr(text, "\"filesystem\""), "%s", text);
    free(text);
    disk_free(&d);
    d = disk_new(100 * S);
    memcpy(d.p + 4096 - 10, "SWAPSPACE2", 10);
    plt_put_le32(d.p + 1024, 1);
    memcpy(d.p + 1024 + 28, "label\0", 6);
    text = list_text(&d);
    cr_expect(strstr(text, "{\"label\":\"none\",\"filesystem\":{\"type\":"
                           "\"swap\",\"label\":\"label\""),
              "%s", text);
    free(text);
    disk_free(&d);
}
