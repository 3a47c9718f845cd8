/* SPDX-License-Identifier: Apache-2.0 */
/* One input through one driver: open, read whole and in pieces, ask extents.
 *
 * Besides the sanitizers and memhost's own checks (blocks released, memory
 * given back, tasks stopped) it holds: two reads of one span agree, with and
 * without the cache; extents are contiguous; what an extent calls ZERO reads as
 * zeros. Included by each target once. */
#ifndef TESTS_FUZZ_DRIVE_H
#define TESTS_FUZZ_DRIVE_H

#include <string.h>

#include "fuzz_must.h"
#include "memhost.h"

extern const struct plt_driver platter_driver;

#define FUZZ_MUST MUST

enum {
    FUZZ_READ_MAX = 1 << 20,  /* of a layer: a bomb must not eat the minute */
    FUZZ_PIECE = 4093,        /* prime: pieces straddle every unit */
    FUZZ_EXTENTS = 4096,      /* asked of one layer */
    FUZZ_DEADLINE_MS = 20000, /* reached: a hang, and reported as one */
    FUZZ_CACHE = 4 << 20
};

struct fuzz_extents {
    uint64_t next; /* where the next extent must begin */
    uint64_t end;  /* of what whole holds */
    const uint8_t *whole;
    unsigned n;
};

static bool fuzz_extent(void *cookie, const struct plt_extent *e)
{
    struct fuzz_extents *const x = (struct fuzz_extents *)cookie;

    FUZZ_MUST(e->len > 0);
    FUZZ_MUST(x->n ? e->off == x->next
                   : e->off <= x->next && e->len > x->next - e->off);
    FUZZ_MUST(e->len <= PLT_SIZE_MAX - e->off);
    if (e->flags & PLT_EXTENT_ZERO)
        for (uint64_t i = e->off; i < e->off + e->len && i < x->end; i++)
            FUZZ_MUST(x->whole[i] == 0);
    x->next = e->off + e->len;
    x->n++;
    return x->n < FUZZ_EXTENTS;
}

static enum plt_status fuzz_read(void *image, uint8_t *buf, uint64_t off,
                                 size_t len, struct plt_error *err)
{
    struct plt_io io;
    const struct plt_seg seg = {off, len, buf};

    memhost_io_init(&io, 0, FUZZ_DEADLINE_MS);
    const enum plt_status st = platter_driver.read(image, &io, &seg, 1, err);
    FUZZ_MUST(st != PLT_TIMEOUT && st != PLT_BUG);
    return st;
}

static void fuzz_image(struct memhost *h, void *image, uint64_t size)
{
    struct plt_error err = {0};
    struct plt_io io;

    memhost_io_init(&io, 0, FUZZ_DEADLINE_MS);
    if (size == PLT_SIZE_UNKNOWN) {
        const enum plt_status st =
            platter_driver.resolve_size(image, &io, &size, &err);
        FUZZ_MUST(st != PLT_TIMEOUT && st != PLT_BUG);
        if (st != PLT_OK)
            size = 8192; /* the readable part in front of the damage */
    }
    FUZZ_MUST(size <= PLT_SIZE_MAX);
    const size_t n = size < FUZZ_READ_MAX ? (size_t)size : FUZZ_READ_MAX;
    uint8_t *const whole = malloc(n + 1);
    uint8_t *const part = malloc(n + 1);
    FUZZ_MUST(whole && part);
    const bool is_whole = n && fuzz_read(image, whole, 0, n, &err) == PLT_OK;
    memhost_drop_cache(h);
    for (size_t at = 0; at < n; at += FUZZ_PIECE) {
        const size_t len = n - at < FUZZ_PIECE ? n - at : FUZZ_PIECE;
        const enum plt_status st = fuzz_read(image, part + at, at, len, &err);
        FUZZ_MUST(!is_whole || st == PLT_OK);
        FUZZ_MUST(!is_whole || memcmp(whole + at, part + at, len) == 0);
    }
    if (size > n) /* and the last bytes of a layer that is larger */
        (void)fuzz_read(image, part, size - (n < 700 ? n : 700),
                        n < 700 ? n : 700, &err);
    if (platter_driver.extents && is_whole) {
        struct fuzz_extents x = {.end = n, .whole = whole};
        while (x.next < n && x.n < FUZZ_EXTENTS) {
            const uint64_t from = x.next;
            const unsigned before = x.n;
            x.n = 0;
            const enum plt_status st = platter_driver.extents(
                image, &io, from, n - from, fuzz_extent, &x, &err);
            if (st != PLT_OK)
                break;
            FUZZ_MUST(x.n > 0 && x.next > from);
            x.n += before;
        }
    }
    if (platter_driver.info)
        free(memhost_info(&platter_driver, image));
    free(whole);
    free(part);
}

static bool fuzz_snapshot(void *cookie, const struct plt_snapshot *s)
{
    char *const first = (char *)cookie;

    FUZZ_MUST(s->id && s->name);
    if (!first[0])
        (void)snprintf(first, 64, "snapshot=%.40s", s->id);
    return true;
}

static bool fuzz_dirty(void *cookie, const struct plt_extent *e)
{
    uint64_t *const next = (uint64_t *)cookie;

    FUZZ_MUST(e->len > 0 && e->off <= *next && e->off + e->len > *next);
    FUZZ_MUST(!(e->flags & ~(uint32_t)PLT_EXTENT_DIRTY));
    *next = e->off + e->len;
    return true;
}

/* What it says of itself; snapshot: "snapshot=ID" of the first, or "". */
static void fuzz_describe(void *image, uint64_t size, char snapshot[64])
{
    struct plt_error err = {0};
    struct plt_check check = {.struct_size = (uint32_t)sizeof(check)};
    struct plt_io io;
    uint64_t next = 0;

    memhost_io_init(&io, 0, FUZZ_DEADLINE_MS);
    snapshot[0] = '\0';
    if (platter_driver.snapshots)
        (void)platter_driver.snapshots(image, &io, fuzz_snapshot, snapshot,
                                       &err);
    if (platter_driver.check) {
        const enum plt_status st =
            platter_driver.check(image, &io, &check, &err);
        FUZZ_MUST(st != PLT_TIMEOUT && st != PLT_BUG);
    }
    if (platter_driver.dirty_extents && size != PLT_SIZE_UNKNOWN && size)
        (void)platter_driver.dirty_extents(image, &io, "b", 0,
                                           size < 1 << 30 ? size : 1 << 30,
                                           fuzz_dirty, &next, &err);
}

static inline void fuzz_drive(const uint8_t *data, size_t size,
                              const char *state_dir)
{
    static const char *const secrets[] = {"geheim"};
    char snapshot[64] = "";

    struct memchild child;
    struct plt_error err = {0};
    struct plt_opened opened;
    void *image = NULL;
    struct memhost *const h = memhost_new(FUZZ_CACHE, state_dir);

    memchild_init(&child, data, size);
    memhost_set_secrets(h, secrets, 1);
    if (memhost_open(h, &platter_driver, &child.child, 0, &image, &opened, &err,
                     (const char *)NULL) == PLT_OK) {
        fuzz_image(h, image, opened.size);
        fuzz_describe(image, opened.size, snapshot);
        platter_driver.close(image);
    }
    if (snapshot[0] &&
        memhost_open(h, &platter_driver, &child.child, 0, &image, &opened, &err,
                     snapshot, (const char *)NULL) == PLT_OK) {
        fuzz_image(h, image, opened.size);
        platter_driver.close(image);
    }
    memhost_free(h);
}

#endif
