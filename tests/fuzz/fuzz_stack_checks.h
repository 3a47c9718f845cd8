/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of every open image, and must hold of the answers: the
 * properties of fuzz_stack.c.  Included by each target once. */
#ifndef TESTS_FUZZ_STACK_CHECKS_H
#define TESTS_FUZZ_STACK_CHECKS_H

#include <stdbool.h>
#include <string.h>

#include "fuzz_must.h"
#include "stack/image_loan.h"
#include "util/clock.h"

enum {
    CHECK_WHOLE =
        512 << 10,    /* of a disk's front: a bomb must not eat the minute */
    CHECK_ROWS = 256, /* of a list */
    CHECK_PAGES = 8,  /* of extents */
    CHECK_TIME_MS = 20000
};

/* What was found of one opening. */
struct checked {
    enum plt_status status; /* of the opening */
    char why[128];          /* it failed */
    uint64_t size;
    char etag[128];
    uint8_t *whole; /* n bytes from the front; new */
    size_t n;
    bool is_whole; /* they could be read */
    bool is_sound; /* and they are all, and nothing was seen to be wrong */
};

static bool check_never(const struct plt_io *io)
{
    (void)io;
    return false;
}

static void check_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

static struct plt_io check_io(void)
{
    return (struct plt_io){.struct_size = (uint32_t)sizeof(struct plt_io),
                           .deadline_ns = clock_after_ms(CHECK_TIME_MS),
                           .cancelled = check_never,
                           .charge = check_charge};
}

/* Memory was short: the same may work another time. */
static bool is_scarce(enum plt_status st)
{
    return st == PLT_NOMEM || st == PLT_BUSY;
}

/* A local file cannot be slow, and a driver is never at fault. */
static enum plt_status check_status(enum plt_status st)
{
    MUST(st != PLT_BUG && st != PLT_TIMEOUT && st != PLT_AGAIN);
    MUST(st != PLT_CHANGED && st != PLT_CANCELLED && st != PLT_IO);
    return st;
}

/* Steals it.  Text that any reader takes, and the same when it is read. */
static void check_json(json_t *value)
{
    json_error_t ignored;

    MUST(value);
    char *const text = json_dumps(value, JSON_ENCODE_ANY);
    MUST(text);
    json_t *const again = json_loads(text, JSON_REJECT_DUPLICATES, &ignored);
    MUST(again && json_equal(value, again));
    json_decref(again);
    json_decref(value);
    free(text);
}

static uint32_t check_random(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

/* ---- Bytes ---- */

static enum plt_status check_read(struct image *image, void *buf, uint64_t off,
                                  size_t len)
{
    struct plt_io io = check_io();
    struct plt_error err = {.at = PLT_AT_NONE};
    const struct plt_seg seg = {off, len, buf};

    return check_status(image_read(image, &io, &seg, 1, &err));
}

/* Each byte of the front once more, by pieces of any length, and some by two
 * segments at once. */
static void check_pieces(struct image *image, const struct checked *c,
                         uint32_t *seed)
{
    uint8_t *const buf = malloc(c->n);

    MUST(buf);
    for (size_t at = 0; at < c->n;) {
        size_t len = check_random(seed) % 100000 + 1;
        if (check_random(seed) % 4 == 0)
            len = len % 512 + 1;
        if (len > c->n - at)
            len = c->n - at;
        struct plt_io io = check_io();
        struct plt_error err = {.at = PLT_AT_NONE};
        const size_t other = check_random(seed) % c->n;
        const struct plt_seg segs[2] = {{at, len, buf + at},
                                        {other, 1, buf + other}};
        const size_t n_segs =
            other < at || other >= at + len ? 1 + check_random(seed) % 2 : 1;
        const enum plt_status st =
            check_status(image_read(image, &io, segs, n_segs, &err));
        MUST(!c->is_whole || st == PLT_OK || is_scarce(st));
        image_seen(image, 1, at, len, st == PLT_OK);
        if (st == PLT_OK && c->is_whole)
            MUST(memcmp(buf + at, c->whole + at, len) == 0 &&
                 (n_segs == 1 || buf[other] == c->whole[other]));
        at += len;
    }
    free(buf);
}

/* What is lent of the cache is what was read: from where something stands. */
static void check_lent(struct image *image, const struct checked *c,
                       uint32_t *seed)
{
    for (unsigned i = 0; c->is_whole && i < 6; i++) {
        size_t off = check_random(seed) % c->n, n = 0;
        for (size_t k = 0; k < c->n && !c->whole[off]; k++)
            off = (off + 1) % c->n;
        off += check_random(seed) % 100 % (c->n - off);
        const size_t most = c->n - off < LOAN_MOST ? c->n - off : LOAN_MOST,
                     len = ((most - 1) >> 3 * i) + 1;
        struct plt_io io = check_io();
        struct loan *loan = NULL;
        size_t at = off;
        io.flags = PLT_IO_NOWAIT;
        const enum plt_status st = image_lend(image, &io, off, len, &loan);
        MUST(st == PLT_OK || st == PLT_AGAIN);
        if (st != PLT_OK)
            continue;
        const struct loan_piece *const pieces = loan_pieces(loan, &n);
        MUST(n && n <= LOAN_PIECES);
        for (size_t k = 0; k < n; at += pieces[k++].len)
            MUST(pieces[k].len && pieces[k].len <= off + len - at &&
                 memcmp(pieces[k].data, c->whole + at, pieces[k].len) == 0);
        MUST(at == off + len);
        loan_free(loan);
    }
}

/* Two readings of some place far behind. */
static void check_far(struct image *image, uint64_t size, uint32_t *seed)
{
    uint8_t a[4096], b[4096];

    for (unsigned i = 0; i < 4; i++) {
        const uint64_t r = (uint64_t)check_random(seed) << 40 ^
                           (uint64_t)check_random(seed) << 20 ^
                           check_random(seed);
        const uint64_t off = i ? r % size : size - 1;
        const size_t len =
            size - off < sizeof(a) ? (size_t)(size - off) : sizeof(a);
        const enum plt_status st = check_read(image, a, off, len);
        if (st == PLT_OK && check_read(image, b + len / 2, off + len / 2,
                                       len - len / 2) == PLT_OK)
            MUST(memcmp(a + len / 2, b + len / 2, len - len / 2) == 0);
    }
}

/* By hand and unseen, or the fuzzer would learn the text from the comparison.
 */
#ifdef __clang__
__attribute__((no_sanitize("coverage")))
#endif
static bool
check_holds(const uint8_t *whole, size_t n, const char *text)
{
    const size_t len = strlen(text);

    for (size_t i = 0; n >= len && i <= n - len; i++) {
        size_t k = 0;
        while (k < len && whole[i + k] == (uint8_t)text[k])
            k++;
        if (k == len)
            return true;
    }
    return false;
}

/* ---- Extents ---- */

struct check_extents {
    uint64_t next;
    unsigned n;
    const struct checked *c;
};

static bool check_extent(void *cookie, const struct plt_extent *e)
{
    struct check_extents *const x = (struct check_extents *)cookie;

    MUST(e->len > 0 && e->off == x->next && e->len <= x->c->size - e->off);
    if (e->flags & PLT_EXTENT_ZERO && x->c->is_whole)
        for (uint64_t i = e->off; i < e->off + e->len && i < x->c->n; i++)
            MUST(x->c->whole[i] == 0);
    x->next = e->off + e->len;
    return ++x->n < CHECK_ROWS;
}

static void check_all_extents(struct image *image, const struct checked *c,
                              uint32_t *seed)
{
    struct check_extents x = {.c = c};
    struct plt_error err = {.at = PLT_AT_NONE};
    uint64_t from = check_random(seed) % c->size;

    for (unsigned i = 0; i < CHECK_PAGES && x.next < c->size; i++) {
        struct plt_io io = check_io();
        const uint64_t at = x.next;
        x.n = 0;
        const enum plt_status st = check_status(image_extents(
            image, &io, at, c->size - at, check_extent, &x, &err));
        if (st != PLT_OK)
            return;
        /* It ends at the end, or where it was stopped. */
        MUST(x.n == CHECK_ROWS ? x.next > at : x.next == c->size);
    }
    struct plt_io io = check_io();
    json_t *rows = NULL;
    if (check_status(image_extents_json(image, &io, from, c->size - from, NULL,
                                        CHECK_ROWS, &rows, &err)) != PLT_OK)
        return;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(rows, "extents"), i, row)
    {
        MUST((uint64_t)json_integer_value(json_object_get(row, "start")) ==
             from);
        from += (uint64_t)json_integer_value(json_object_get(row, "length"));
    }
    const json_t *const next = json_object_get(rows, "next");
    MUST(from == (next ? (uint64_t)json_integer_value(next) : c->size));
    check_json(rows);
}

static uint64_t check_sum(const json_t *picture, const char *name, size_t n)
{
    const json_t *const list = json_object_get(picture, name);
    uint64_t sum = 0;

    MUST(json_array_size(list) == n);
    for (size_t i = 0; i < n; i++)
        sum += (uint64_t)json_integer_value(json_array_get(list, i));
    return sum;
}

/* Of some stretch: every byte is something, and no more than all in memory. */
static void check_picture(struct image *image, const struct checked *c,
                          uint32_t *seed)
{
    const uint64_t start = check_random(seed) % c->size;
    const uint64_t length = check_random(seed) % (c->size - start) + 1;
    const unsigned n = check_random(seed) % 100 + 1;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = check_io();
    json_t *value = NULL;

    if (check_status(image_sums_json(image, &io, start, length, n, &value,
                                     &err)) == PLT_OK) {
        MUST(check_sum(value, "data", n) + check_sum(value, "compressed", n) +
                 check_sum(value, "zero", n) + check_sum(value, "hole", n) ==
             length);
        check_json(value);
    }
    image_asked(image, start, length);
    io = check_io();
    if (check_status(image_live_json(image, &io, start, length, n, &value,
                                     &err)) == PLT_OK) {
        MUST(check_sum(value, "cached", n) <= length);
        MUST(json_array_size(json_object_get(value, "reads")) > 0);
        check_json(value);
    }
}

/* ---- What it says of itself ---- */

typedef enum plt_status check_ask_fn(struct image *image, struct plt_io *io,
                                     json_t **out, struct plt_error *err);

static void check_progress(void *cookie, uint64_t done, uint64_t all)
{
    uint64_t *const last = (uint64_t *)cookie;

    MUST(done <= all && done >= *last);
    *last = done;
}

static enum plt_status check_check(struct image *image, struct plt_io *io,
                                   json_t **out, struct plt_error *err)
{
    uint64_t last = 0;

    return image_check_json(image, io, CHECK_ROWS, check_progress, &last, out,
                            err);
}

static void check_descriptions(struct image *image, struct checked *c)
{
    check_ask_fn *const asks[] = {image_snapshots_json, check_check,
                                  image_members};
    struct plt_error err = {.at = PLT_AT_NONE};
    json_t *const info = image_info(image), *value = NULL;

    MUST(info);
    const json_t *const size = json_object_get(info, "virtual-size");
    MUST(!size || (uint64_t)json_integer_value(size) == c->size);
    check_json(info);
    for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
        struct plt_io io = check_io();
        if (check_status(asks[i](image, &io, &value, &err)) != PLT_OK) {
            c->is_sound = c->is_sound && err.status != PLT_CORRUPT;
            continue;
        }
        c->is_sound = c->is_sound && !json_object_get(value, "corruptions");
        check_json(value);
    }
    if (image_index_json(image, &value, &err) == PLT_OK)
        check_json(value);
}

static void checked_release(struct checked *c)
{
    free(c->whole);
    *c = (struct checked){.status = PLT_BUG};
}

/* Open, read, ask.  outside: text that must not be in the disk.  *c: new
 * (checked_release). */
static void check_image(struct images *images, const struct reference *r,
                        uint32_t seed, const char *outside, struct checked *c)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = check_io();
    struct image *image = NULL;
    json_t *choices = NULL;

    *c = (struct checked){.status = PLT_OK};
    c->status =
        check_status(images_open(images, r, &io, &image, &choices, &err));
    if (c->status == PLT_CHOICE)
        check_json(choices);
    MUST(c->status == PLT_OK || err.text[0]);
    if (c->status != PLT_OK) {
        (void)snprintf(c->why, sizeof(c->why), "%.8s: %.110s", err.layer,
                       err.text);
        return;
    }
    (void)snprintf(c->etag, sizeof(c->etag), "%s", image_etag(image));
    io = check_io();
    if (seed & 4) /* the index first, and the size by it, or later */
        check_json(image_info(image));
    if (check_status(image_resolve_size(image, &io, &c->size, &err)) !=
        PLT_OK) {
        c->status = err.status;
        (void)snprintf(c->why, sizeof(c->why), "size: %.110s", err.text);
        MUST(c->status != PLT_OK);
        image_unref(image);
        return;
    }
    MUST(c->size <= PLT_SIZE_MAX);
    c->n = c->size < CHECK_WHOLE ? (size_t)c->size : CHECK_WHOLE;
    if (c->n) {
        c->whole = malloc(c->n);
        MUST(c->whole);
        c->is_whole = check_read(image, c->whole, 0, c->n) == PLT_OK;
        MUST(!c->is_whole || !check_holds(c->whole, c->n, outside));
        check_pieces(image, c, &seed);
        check_lent(image, c, &seed);
        check_far(image, c->size, &seed);
        check_all_extents(image, c, &seed);
        check_picture(image, c, &seed);
    } else {
        c->is_whole = true;
    }
    c->is_sound = c->is_whole && c->n == c->size;
    check_descriptions(image, c);
    image_unref(image);
}

#endif
