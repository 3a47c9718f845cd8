/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's own requests to another server, by commands on standard input:
 *     fetcher PLUGINS ORIGIN=BASE...
 *
 *     open URL            images_open_url()
 *     reference PATH      images_open() of what a client would write
 *     read OFF+LEN ...    of what is open, with PLT_IO_EXACT, in one call
 *     plain OFF+LEN ...   without
 *     twice OFF+LEN ...   with it; then from memory alone (PLT_IO_NOWAIT)
 *     document CAP URL    image_fetch()
 *     ms N                deadline of the calls that follow
 *     list                images_json()
 *     allow NAME=BASE...  these are the origins now
 *
 * Each is answered by a line, "STATUS BYTES REQUESTS LENGTH TEXT", and LENGTH
 * bytes: STATUS a class of status.def, BYTES and REQUESTS what was charged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stack/image.h"
#include "util/clock.h"
#include "util/log.h"

enum { LINE = 1 << 20, MAX_SEGS = 65536 };

struct call {
    struct plt_io io; /* first */
    uint64_t bytes, requests;
};

static struct image *image;
static uint64_t wait_ms = 20000;

static bool not_cancelled(const struct plt_io *io)
{
    (void)io;
    return false;
}

static void charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    struct call *const call = (struct call *)io;
    call->bytes += bytes;
    call->requests += requests;
}

static struct call call_of(uint32_t flags)
{
    return (struct call){.io = {.struct_size = (uint32_t)sizeof(struct plt_io),
                                .flags = flags,
                                .deadline_ns = clock_after_ms(wait_ms),
                                .cancelled = not_cancelled,
                                .charge = charge}};
}

static void answer(const struct call *call, enum plt_status st,
                   const struct plt_error *err, const void *data, size_t len)
{
    static const char *const names[] = {
#define PLT_STATUS(name, ...) #name,
#include <platter/status.def>
#undef PLT_STATUS
    };

    (void)printf("%s %llu %llu %zu %s: %s\n", names[st],
                 (unsigned long long)call->bytes,
                 (unsigned long long)call->requests, st == PLT_OK ? len : 0,
                 st == PLT_OK || st == PLT_AGAIN ? "" : err->layer,
                 st == PLT_OK || st == PLT_AGAIN ? "" : err->text);
    if (st == PLT_OK)
        (void)fwrite(data, 1, len, stdout);
    (void)fflush(stdout);
}

static void read_spans(char *text, uint32_t flags, bool is_twice)
{
    struct plt_seg *const segs = calloc(MAX_SEGS, sizeof(*segs));
    struct plt_error err = {.at = PLT_AT_NONE};
    struct call call = call_of(flags);
    size_t n = 0, len = 0;

    for (char *p = strtok(text, " "); p && n < MAX_SEGS;
         p = strtok(NULL, " ")) {
        char *end;
        segs[n].off = strtoull(p, &end, 10);
        segs[n].len = strtoull(end + 1, NULL, 10);
        len += segs[n++].len;
    }
    uint8_t *const buf = calloc(1, len + 1);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        segs[i].buf = buf + at;
        at += segs[i].len;
    }
    enum plt_status st = image_read(image, &call.io, segs, n, &err);
    if (st == PLT_OK && is_twice) {
        struct call again = call_of(flags | PLT_IO_NOWAIT);
        st = image_read(image, &again.io, segs, n, &err);
    }
    answer(&call, st, &err, buf, len);
    free(buf);
    free(segs);
}

static void open_one(struct images *images, const char *text, bool is_url)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct call call = call_of(0);
    struct reference r;
    enum plt_status st;

    image_unref(image);
    image = NULL;
    if (is_url) {
        st = images_open_url(images, text, &call.io, &image, &err);
    } else {
        char *const path = strdup(text);
        char *const query = strchr(path, '?');
        if (query)
            *query = '\0';
        st = reference_parse(&r, path, query ? query + 1 : NULL, NULL, &err);
        if (st == PLT_OK) {
            st = images_open(images, &r, &call.io, &image, NULL, &err);
            reference_release(&r);
        }
        free(path);
    }
    const char *url = st == PLT_OK ? image_source_url(image) : NULL;
    url = url ? url : "";
    answer(&call, st, &err, url, strlen(url));
}

static void fetch_document(const char *text)
{
    char *url;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct call call = call_of(0);
    const size_t cap = strtoul(text, &url, 10);
    uint8_t *const buf = malloc(cap + 1);
    size_t got = 0;
    const enum plt_status st =
        image_fetch(image, &call.io, url + 1, buf, cap, &got, &err);

    answer(&call, st, &err, buf, got);
    free(buf);
}

static void set_wait(const char *text)
{
    const struct call call = call_of(0);

    wait_ms = strtoull(text, NULL, 10);
    answer(&call, PLT_OK, NULL, "", 0);
}

static void list(struct images *images)
{
    const struct call call = call_of(0);
    const struct images_query all = {.most = SIZE_MAX};
    size_t n;
    json_t *const rows = images_json(images, &all, &n);
    char *const text = json_dumps(rows, 0);

    answer(&call, PLT_OK, NULL, text, strlen(text));
    free(text);
    json_decref(rows);
}

static bool add_origin(struct images *images, const char *text)
{
    char *const name = strdup(text);
    char *const base = strchr(name, '=');
    struct plt_error err = {.at = PLT_AT_NONE};

    *base = '\0';
    const enum plt_status st = images_add_origin(images, name, base + 1, &err);
    if (st != PLT_OK)
        (void)fprintf(stderr, "fetcher: %s\n", err.text);
    free(name);
    return st == PLT_OK;
}

static struct images *make(const char *plugins)
{
    const struct images_config config = {
        .plugin_path = plugins, .cache_bytes = 64 << 20, .revalidate_ms = 1};
    struct plt_error err = {.at = PLT_AT_NONE};
    struct images *images = NULL;

    if (images_new(&config, &images, &err) != PLT_OK)
        (void)fprintf(stderr, "fetcher: %s\n", err.text);
    return images;
}

/* A new configuration. */
static void allow(struct images *images, const char *plugins, char *text)
{
    struct images *const other = make(plugins);
    const struct call call = call_of(0);

    for (char *p = strtok(text, " "); p; p = strtok(NULL, " "))
        (void)add_origin(other, p);
    answer(&call, images_replace_names(images, other) ? PLT_OK : PLT_NOMEM,
           NULL, "", 0);
    images_free(other);
}

int main(int argc, char **argv)
{
    static char line[LINE];
    struct images *const images = argc > 1 ? make(argv[1]) : NULL;

    for (int i = 2; images && i < argc; i++) {
        if (!add_origin(images, argv[i]))
            return 1;
    }
    while (images && fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char *const space = strchr(line, ' ');
        char *const rest = space ? space + 1 : line + strlen(line);
        if (space)
            *space = '\0';
        if (strcmp(line, "open") == 0)
            open_one(images, rest, true);
        else if (strcmp(line, "reference") == 0)
            open_one(images, rest, false);
        else if (strcmp(line, "list") == 0)
            list(images);
        else if (strcmp(line, "allow") == 0)
            allow(images, argv[1], rest);
        else if (strcmp(line, "ms") == 0)
            set_wait(rest);
        else if (!image)
            break;
        else if (strcmp(line, "document") == 0)
            fetch_document(rest);
        else
            read_spans(rest, line[0] == 'p' ? 0 : PLT_IO_EXACT,
                       strcmp(line, "twice") == 0);
    }
    image_unref(image);
    images_free(images);
    return images ? 0 : 1;
}
