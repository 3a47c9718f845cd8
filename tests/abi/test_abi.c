/* SPDX-License-Identifier: Apache-2.0 */
/* The core against plugins that other compilers, other versions and other
 * people made: tests/abi/modules, loaded as --plugin-path does. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "stack/image_loan.h"
#include "stack/metrics.h"
#include "util/log.h"

static char log_text_seen[65536];
static char file_path[64];

static bool not_cancelled(const struct plt_io *io)
{
    (void)io;
    return false;
}

static void no_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

static struct plt_io make_io(void)
{
    return (struct plt_io){.struct_size = (uint32_t)sizeof(struct plt_io),
                           .deadline_ns = UINT64_MAX,
                           .cancelled = not_cancelled,
                           .charge = no_charge};
}

/* The set with a folder's modules; what was logged meanwhile in log_text_seen.
 */
static struct images *load_from(const char *folder)
{
    const struct images_config config = {
        .plugin_path = folder, .cache_bytes = 16 << 20, .is_local = true};
    struct images *images = NULL;
    struct plt_error err;
    FILE *const log = tmpfile();

    cr_assert_not_null(log);
    log_set_fd(fileno(log));
    cr_assert_eq(images_new(&config, &images, &err), PLT_OK, "%s", err.text);
    const ssize_t n =
        pread(fileno(log), log_text_seen, sizeof(log_text_seen) - 1, 0);
    cr_assert_geq(n, 0);
    log_text_seen[n] = '\0';
    log_set_fd(2);
    (void)fclose(log);
    return images;
}

static struct images *load(void)
{
    return load_from(ABI_MODULES);
}

/* The log line that names this module's file; NULL: none. */
static const char *line_of(const char *module)
{
    static char line[4096];
    const char *const at = strstr(log_text_seen, module);
    if (!at)
        return NULL;
    const char *start = at;
    while (start > log_text_seen && start[-1] != '\n')
        start--;
    (void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(start, "\n"),
                   start);
    return line;
}

static bool is_listed(struct images *images, const char *name)
{
    json_t *const rows = images_plugins_json(images);
    json_t *row;
    size_t i;
    bool found = false;

    json_array_foreach(rows, i, row)
    {
        found |=
            strcmp(json_string_value(json_object_get(row, "name")), name) == 0;
    }
    json_decref(rows);
    return found;
}

/* A file of ten bytes, the first one `first`, opened through `driver`. */
static struct image *open_over(struct images *images, const char *driver,
                               char first)
{
    const struct reference none = {.target = NULL};
    struct plt_io io = make_io();
    struct plt_error err;
    struct image *image = NULL;
    char spec[128];

    strcpy(file_path, "/tmp/test-abi-XXXXXX");
    const int fd = mkstemp(file_path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, &first, 1), 1);
    cr_assert_eq(write(fd, "123456789", 9), 9);
    (void)close(fd);
    (void)snprintf(spec, sizeof(spec), "%s:%s", driver, file_path);
    cr_assert_eq(
        images_open_spec(images, spec, &none, false, &io, &image, NULL, &err),
        PLT_OK, "%s", err.text);
    return image;
}

static bool count_extent(void *cookie, const struct plt_extent *e)
{
    (void)e;
    ++*(unsigned *)cookie;
    return true;
}

Test(abi, another_major_is_refused_with_both_numbers)
{
    struct images *const images = load();
    const char *const line = line_of("wrong_major.so");
    cr_assert_not_null(line);
    cr_assert(strstr(line, "event=plugin_refused"), "%s", line);
    cr_assert(strstr(line, "99.7"), "%s", line);
    cr_assert(strstr(line, "1.7"), "%s", line);
    cr_assert_not(is_listed(images, "wrongmajor"));
    images_free(images);
}

Test(abi, what_is_no_driver_is_refused_and_the_others_are_loaded)
{
    static const char *const bad[] = {"no_symbol.so", "bad_name.so",
                                      "source_without_identity.so"};
    struct images *const images = load();
    for (size_t i = 0; i < 3; i++) {
        const char *const line = line_of(bad[i]);
        cr_assert_not_null(line, "%s", bad[i]);
        cr_assert(strstr(line, "event=plugin_refused"), "%s", line);
    }
    cr_assert_not(is_listed(images, "noidentity"));
    cr_assert(is_listed(images, "raw"));
    cr_assert(is_listed(images, "gzip"));
    images_free(images);
}

Test(abi, structs_shorter_and_longer_than_ours_are_taken_as_far_as_known)
{
    static const char *const names[] = {"shortstruct", "longstruct"};
    struct images *const images = load();
    cr_assert_null(line_of("short_struct.so"));
    cr_assert_null(line_of("long_struct.so"));
    for (size_t i = 0; i < 2; i++) {
        struct plt_io io = make_io();
        struct plt_error err;
        unsigned n_extents = 0;
        char buf[4];
        cr_assert(is_listed(images, names[i]));
        struct image *const image = open_over(images, names[i], '0');
        const struct plt_seg seg = {3, sizeof(buf), buf};
        cr_assert_eq(image_read(image, &io, &seg, 1, &err), PLT_OK);
        cr_assert_arr_eq(buf, "3456", 4);
        /* slots behind the end of the short one abort when called */
        cr_assert_eq(
            image_extents(image, &io, 0, 10, count_extent, &n_extents, &err),
            PLT_OK);
        cr_assert_eq(n_extents, 1);
        json_decref(image_info(image));
        image_unref(image);
        (void)unlink(file_path);
    }
    images_free(images);
}

Test(abi, a_driver_that_breaks_the_order_of_extents_fails_that_request_alone)
{
    struct images *const images = load();
    for (const char *how = ".genwb"; *how; how++) {
        struct plt_io io = make_io();
        struct plt_error err = {.status = PLT_OK};
        unsigned n_extents = 0;
        char buf[9];
        struct image *const image = open_over(images, "badextents", *how);
        log_set_level(LOG_ERROR);
        const enum plt_status st =
            image_extents(image, &io, 0, 10, count_extent, &n_extents, &err);
        cr_expect_eq(st, *how == '.' ? PLT_OK : PLT_BUG, "%c: %s", *how,
                     plt_status_name(st));
        if (*how != '.')
            cr_expect_str_eq(err.layer, "badextents");
        const struct plt_seg seg = {1, sizeof(buf), buf};
        cr_expect_eq(image_read(image, &io, &seg, 1, &err), PLT_OK);
        cr_expect_arr_eq(buf, "123456789", 9);
        image_unref(image);
        (void)unlink(file_path);
    }
    images_free(images);
}

Test(abi, a_driver_that_lends_other_bytes_than_asked_lends_nothing)
{
    struct images *const images = load();
    for (const char *how = ".slobzdne"; *how; how++) {
        struct plt_io io = make_io();
        struct image *const image = open_over(images, "badlend", *how);
        struct loan *loan = NULL;
        struct cache_stats stats;
        size_t n;
        const bool is_lent = image_lend(image, &io, 0, 10, &loan) == PLT_OK;
        cr_expect_eq(is_lent, *how == '.', "%c", *how);
        if (is_lent) {
            const struct loan_piece *const p = loan_pieces(loan, &n);
            cr_expect_eq(n, 1);
            cr_expect_eq(p->len, 10);
            cr_expect_arr_eq(p->data, ".123456789", 10);
            cache_stats(images_cache(images), &stats);
            cr_expect_eq(stats.lent, 10);
        }
        /* its bytes outlast the image */
        image_unref(image);
        if (is_lent)
            cr_expect_arr_eq(loan_pieces(loan, &n)->data, ".123456789", 10);
        loan_free(loan);
        cache_stats(images_cache(images), &stats);
        cr_expect_eq(stats.lent, 0, "%c", *how);
        (void)unlink(file_path);
    }
    images_free(images); /* asserts that no block is still held */
}

/* How often the driver of this name was counted. */
static uint64_t breaks_of(struct images *images, const char *name)
{
    const struct driver_metrics *m;
    for (unsigned i = 0; (m = metrics_at(images_metrics(images), i)); i++) {
        if (strcmp(atomic_load(&m->name), name) == 0)
            return atomic_load(&m->broken);
    }
    return 0;
}

Test(abi, a_driver_that_answers_what_it_may_not_is_named_and_counted)
{
    struct images *const images = load();
    uint64_t n = 0;

    for (const char *how = ".sat"; *how; how++) {
        struct plt_io io = make_io();
        struct plt_error err = {.status = PLT_OK};
        char buf[9];
        struct image *const image = open_over(images, "breaks", *how);
        log_set_level(LOG_ERROR);
        const struct plt_seg seg = {1, sizeof(buf), buf};
        const enum plt_status st = image_read(image, &io, &seg, 1, &err);
        n += *how == 's' || *how == 'a';
        cr_expect_eq(st,
                     *how == '.'   ? PLT_OK
                     : *how == 't' ? PLT_CORRUPT
                                   : PLT_BUG,
                     "%c: %s", *how, plt_status_name(st));
        cr_expect_eq(breaks_of(images, "breaks"), n, "%c", *how);
        if (*how != '.') {
            cr_expect_eq(err.status, st);
            cr_expect_lt(strnlen(err.text, sizeof(err.text)), sizeof(err.text));
            cr_expect_lt(strnlen(err.layer, sizeof(err.layer)),
                         sizeof(err.layer));
        }
        /* what it describes is JSON whatever it calls */
        json_t *const info = image_info(image);
        cr_expect_not_null(info);
        char *const text = json_dumps(info, 0);
        cr_expect_not_null(text);
        free(text);
        json_decref(info);
        json_t *rows = NULL;
        cr_expect_eq(image_snapshots_json(image, &io, &rows, &err), PLT_OK);
        json_decref(rows);
        image_unref(image);
        (void)unlink(file_path);
    }
    images_free(images);
}

Test(abi, a_stream_of_more_than_was_asked_fails_who_reads_it)
{
    struct images *const images = load();
    const struct reference none = {.target = NULL};
    struct plt_io io = make_io();
    struct plt_error err = {.status = PLT_OK};
    struct image *image = NULL;
    char command[128], spec[128], buf[9];

    strcpy(file_path, "/tmp/test-abi-XXXXXX");
    (void)close(mkstemp(file_path));
    (void)snprintf(command, sizeof(command), "echo 0123456789 | gzip > %s",
                   file_path);
    cr_assert_eq(system(command), 0);
    (void)snprintf(spec, sizeof(spec), "gzip:breaks:%s", file_path);
    log_set_level(LOG_ERROR);
    enum plt_status st =
        images_open_spec(images, spec, &none, 0, &io, &image, NULL, &err);
    const struct plt_seg seg = {1, sizeof(buf), buf};
    if (st == PLT_OK)
        st = image_read(image, &io, &seg, 1, &err);
    cr_expect_eq(st, PLT_BUG, "%s: %s", plt_status_name(st), err.text);
    cr_expect_str_eq(err.layer, "breaks");
    cr_expect_geq(breaks_of(images, "breaks"), 1);
    image_unref(image);
    images_free(images);
    (void)unlink(file_path);
}

Test(abi, a_document_that_is_more_than_there_is_room_for_is_none)
{
    struct images *const images = load_from(ABI_SOURCES);
    struct plt_io io = make_io();
    struct image *const image = open_over(images, "raw", '0');
    uint64_t n = 0;

    for (const char *how = ".mcasn."; *how; how++) {
        struct plt_error err = {.status = PLT_OK};
        const char url[] = {*how, '\0'};
        uint8_t buf[8] = "";
        char byte;
        size_t got = 99;
        log_set_level(LOG_ERROR);
        const enum plt_status st =
            image_fetch(image, &io, url, buf, sizeof(buf), &got, &err);
        n += *how != '.' && *how != 'n';
        cr_expect_eq(st,
                     *how == '.'   ? PLT_OK
                     : *how == 'n' ? PLT_NOT_FOUND
                                   : PLT_BUG,
                     "%c: %s", *how, plt_status_name(st));
        cr_expect_eq(breaks_of(images, "file"), n, "%c", *how);
        if (st == PLT_OK)
            cr_expect(got == 8 && buf[7] == 'x');
        else
            cr_expect_str_eq(err.layer, "file");
        /* it said nothing of the image */
        const struct plt_seg seg = {9, 1, &byte};
        cr_expect_eq(image_read(image, &io, &seg, 1, &err), PLT_OK);
        cr_expect_eq(byte, '9');
    }
    image_unref(image);
    (void)unlink(file_path);
    images_free(images);
}

Test(abi, a_source_without_documents_has_none)
{
    struct images *const images = load();
    struct plt_io io = make_io();
    struct plt_error err = {.status = PLT_OK};
    struct image *const image = open_over(images, "raw", '0');
    uint8_t buf[8];
    size_t got;

    cr_expect_null(image_source_url(image));
    cr_expect_eq(image_fetch(image, &io, "http://h/", buf, 8, &got, &err),
                 PLT_UNSUPPORTED);
    image_unref(image);
    (void)unlink(file_path);
    images_free(images);
}
