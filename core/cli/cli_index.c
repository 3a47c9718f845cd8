/* SPDX-License-Identifier: Apache-2.0 */
/* The random-access index of a compressed source: build, show, export, import.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/auto.h"
#include "util/clock.h"

enum { MAX_FILE = 1 << 30 };

static int show(const struct command_run *run, json_t *index)
{
    const char *key;
    json_t *value;

    if (run->o->is_json)
        return cli_print_json(index);
    (void)printf("index of the %s layer:\n", cli_text(index, "driver"));
    json_object_foreach(index, key, value)
    {
        if (strcmp(key, "driver") == 0 || strcmp(key, "kind") == 0)
            continue;
        if (json_is_integer(value))
            (void)printf("  %s: %" JSON_INTEGER_FORMAT "\n", key,
                         json_integer_value(value));
        else
            (void)printf("  %s: %s\n", key,
                         json_is_string(value) ? json_string_value(value)
                         : json_is_true(value) ? "true"
                                               : "false");
    }
    json_decref(index);
    return cli_flush();
}

static int show_image(const struct command_run *run, struct image *image)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    json_t *index = NULL;

    return image_index_json(image, &index, &err) == PLT_OK
               ? show(run, index)
               : cli_failed(run->args[0], &err);
}

/* To the end, looking up now and then to say how far it is. */
static int build(const struct command_run *run, struct image *image)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    struct progress p;
    uint64_t size;
    enum plt_status st;

    progress_begin(&p, "index", 0, run->o->is_quiet);
    do {
        json_t *index = NULL;
        io.deadline_ns = clock_after_ms(250);
        st = image_index_build(image, &io, &size, &err);
        if (st == PLT_TIMEOUT &&
            image_index_json(image, &index, &err) == PLT_OK)
            progress_show(&p, (uint64_t)cli_number(index, "source-done"),
                          (uint64_t)cli_number(index, "source-size"));
        json_decref(index);
    } while (st == PLT_TIMEOUT && !cli_is_stopped());
    progress_end(&p);
    if (st == PLT_TIMEOUT) /* a signal came first */
        st = plt_fail(&err, PLT_CANCELLED, "stopped");
    return st == PLT_OK ? 0 : cli_failed(run->args[0], &err);
}

static int write_file(const char *name, const char *data, size_t len)
{
    FILE *const f = strcmp(name, "-") == 0 ? stdout : fopen(name, "we");
    const bool is_good = f && fwrite(data, 1, len, f) == len && fflush(f) == 0;

    if (!is_good)
        (void)cli_complain("%s: %s", name, strerror(errno));
    if (f && f != stdout)
        (void)fclose(f);
    return is_good ? 0 : EXIT_FAILED;
}

/* --index-format: the name of another tool, or NULL.  False: told. */
static bool take_form(const struct options *o, const char **form,
                      const char **query)
{
    static const char *const forms[][3] = {
        {"platter", NULL, "format=platter"},
        {"gztool", "gztool", "format=gztool"},
        {"indexed_gzip", "indexed_gzip", "format=gzidx"}};
    const char *const word = o->index_format ? o->index_format : "platter";

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (strcmp(word, forms[i][0]) == 0) {
            *form = forms[i][1];
            *query = forms[i][2];
            return true;
        }
    }
    return false;
}

static int export_index(const struct command_run *run, struct image *image)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    uint8_t *data = NULL;
    size_t len = 0;
    const char *form = NULL, *query = NULL;
    union {
        uint8_t *bytes;
        char *text;
    } u;

    (void)take_form(run->o, &form, &query); /* it is one: cmd_index */
    if (image_index_get(image, &io, form, &data, &len, &err) != PLT_OK)
        return cli_failed(run->args[0], &err);
    u.bytes = data;
    const int code = write_file(run->o->export_file, u.text, len);
    free(data);
    return code;
}

static int import_index(const struct command_run *run, struct image *image)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    FILE *const f = fopen(run->o->import_file, "re");
    size_t n = 0, cap = 1 << 20;
    uint8_t *data = f ? malloc(cap) : NULL;
    int code = 0;

    while (data && !feof(f) && !ferror(f) && n < MAX_FILE) {
        n += fread(data + n, 1, cap - n, f);
        if (n == cap) {
            uint8_t *const grown = realloc(data, cap *= 2);
            if (!grown)
                break;
            data = grown;
        }
    }
    if (!data || ferror(f) || !feof(f))
        code = cli_complain("%s: %s", run->o->import_file,
                            f ? "too large, or not readable" : strerror(errno));
    if (f)
        (void)fclose(f);
    if (!code && image_index_put(image, &io, data, n, &err) != PLT_OK)
        code = cli_failed(run->o->import_file, &err);
    free(data);
    return code;
}

static int of_gateway(const struct command_run *run)
{
    const struct options *const o = run->o;
    json_t *index = NULL;
    char *data = NULL;
    size_t len = 0;
    const char *form = NULL, *query = NULL;
    int code;

    (void)take_form(o, &form, &query);
    if (o->import_file)
        return cli_complain("a gateway takes no index: import it where its "
                            "state folder is");
    if (!o->export_file) {
        code = gateway_json(o, "index", run->args[0], NULL, &index);
        return code ? code : show(run, index);
    }
    code = gateway_bytes(o, "index", run->args[0], query, &data, &len);
    if (!code)
        code = write_file(o->export_file, data, len);
    free(data);
    return code;
}

int cmd_index(const struct command_run *run)
{
    const struct options *const o = run->o;
    struct image *image = NULL;
    const char *form, *query;

    if (o->trace_file || o->is_recorded || o->is_replayed)
        return cli_trace(run);
    if (!take_form(o, &form, &query))
        return cli_usage("--index-format is platter, gztool or indexed_gzip");
    if (o->gateway)
        return of_gateway(run);
    /* The index is that of a layer below: no member has to be chosen. */
    int code = cli_open(run->images, run->args[0], o,
                        o->selectors.member ? 0 : IMAGE_LIST, &image);
    if (code)
        return code;
    if (o->import_file)
        code = import_index(run, image);
    if (!code && !o->is_shown) /* another tool's is proven so */
        code = build(run, image);
    if (!code && o->export_file)
        code = export_index(run, image);
    else if (!code)
        code = show_image(run, image);
    image_unref(image);
    return code;
}
