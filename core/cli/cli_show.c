/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of an image: as JSON, or as a person reads it. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "util/auto.h"
#include "util/log.h"

static void print_size(uint64_t bytes)
{
    char text[32];

    cli_size_text(bytes, text);
    (void)printf("%s (%" PRIu64 " bytes)", text, bytes);
}

__attribute__((format(printf, 1, 2))) static void put_head(const char *fmt, ...)
{
    va_list ap;

    (void)fputs(cli_bold(), stdout);
    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    (void)printf("%s\n", cli_plain());
}

/* What is asked of an open image, as JSON. */
typedef enum plt_status ask_fn(struct image *image, const struct options *o,
                               json_t **out, struct plt_error *err);

/* Here, or from the gateway. */
static int ask(const struct command_run *run, unsigned how, ask_fn *fn,
               const char *kind, const char *query, json_t **out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct image *image = NULL;
    const char *const spec = run->args[0];

    if (run->o->gateway)
        return gateway_json(run->o, kind, spec, query, out);
    int code = cli_open(run->images, spec, run->o, how, &image);
    if (code)
        return code;
    if (fn(image, run->o, out, &err) != PLT_OK)
        code = cli_failed(spec, &err);
    image_unref(image);
    return code;
}

/* ---- info ---- */

static void print_snapshots(json_t *rows)
{
    json_t *row;
    size_t i;

    if (json_array_size(rows))
        put_head("snapshots:\n  %-8s %-24s %16s %16s  %-20s %14s", "ID", "NAME",
                 "DISK", "VM STATE", "DATE", "VM CLOCK");
    json_array_foreach(rows, i, row)
    {
        const time_t t = (time_t)cli_number(row, "date-sec");
        const json_int_t s = cli_number(row, "vm-clock-sec");
        char when[32] = "";
        struct tm tm;
        if (gmtime_r(&t, &tm))
            (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
        (void)printf(
            "  %-8s %-24s %16" JSON_INTEGER_FORMAT " %16" JSON_INTEGER_FORMAT
            "  %-20s %4" JSON_INTEGER_FORMAT ":%02d:%02d.%03d\n",
            json_string_value(json_object_get(row, "id")),
            json_string_value(json_object_get(row, "name")),
            cli_number(row, "disk-size"), cli_number(row, "vm-state-size"),
            when, s / 3600, (int)(s / 60 % 60), (int)(s % 60),
            (int)(cli_number(row, "vm-clock-nsec") / 1000000));
    }
}

static void print_value(const char *key, json_t *value)
{
    if (json_is_string(value))
        (void)printf("    %s: %s\n", key, json_string_value(value));
    else if (json_is_integer(value))
        (void)printf("    %s: %" JSON_INTEGER_FORMAT "\n", key,
                     json_integer_value(value));
    else if (json_is_boolean(value))
        (void)printf("    %s: %s\n", key,
                     json_is_true(value) ? "true" : "false");
}

static void print_info(json_t *info)
{
    const char *key;
    json_t *layer, *value;
    size_t i;
    json_t *const layers = json_object_get(info, "layers");

    (void)printf("image: %s\nfile format: %s\n",
                 json_string_value(json_object_get(info, "filename")),
                 json_string_value(json_object_get(info, "format")));
    value = json_object_get(info, "virtual-size");
    if (value) {
        (void)printf("virtual size: ");
        print_size((uint64_t)json_integer_value(value));
        (void)putchar('\n');
    }
    value = json_object_get(info, "cluster-size");
    if (value)
        (void)printf("cluster_size: %" JSON_INTEGER_FORMAT "\n",
                     json_integer_value(value));
    value = json_object_get(info, "backing-filename");
    if (value)
        (void)printf("backing file: %s\n", json_string_value(value));
    if (json_is_true(json_object_get(info, "encrypted")))
        (void)printf("encrypted: yes\n");
    print_snapshots(json_object_get(info, "snapshots"));
    (void)printf("etag: %s\nstack:\n",
                 json_string_value(json_object_get(info, "etag")));
    json_array_foreach(layers, i, layer)
    {
        (void)printf("  %s %s\n", i ? "over" : "    ",
                     json_string_value(json_object_get(layer, "driver")));
        json_object_foreach(layer, key, value)
        {
            if (strcmp(key, "driver") != 0 && strcmp(key, "kind") != 0)
                print_value(key, value);
        }
    }
    value = json_object_get(json_object_get(info, "format-specific"), "data");
    if (value) {
        json_t *const data = value;
        (void)printf("Format specific information:\n");
        json_object_foreach(data, key, value) print_value(key, value);
    }
}

static enum plt_status ask_info(struct image *image, const struct options *o,
                                json_t **out, struct plt_error *err)
{
    (void)o;
    *out = image_info(image);
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a description");
}

int cmd_info(const struct command_run *run)
{
    json_t *info = NULL;
    const int code = ask(run, IMAGE_DESCRIBE, ask_info, "info", NULL, &info);

    if (code)
        return code;
    if (run->o->is_json)
        return cli_print_json(info);
    print_info(info);
    json_decref(info);
    return cli_flush();
}

/* ---- map ---- */

static enum plt_status ask_extents(struct image *image, const struct options *o,
                                   json_t **out, struct plt_error *err)
{
    struct plt_io io = cli_io();
    return image_extents_json(image, &io, o->offset,
                              o->has_length ? o->length : PLT_SIZE_MAX,
                              o->context, SIZE_MAX, out, err);
}

/* All of a gateway's pages as one answer. */
static int gateway_extents(const struct command_run *run, json_t **out)
{
    const struct options *const o = run->o;
    const uint64_t length = o->has_length ? o->length : PLT_SIZE_MAX;
    uint64_t off = o->offset;
    const uint64_t end =
        length > PLT_SIZE_MAX - off ? PLT_SIZE_MAX : off + length;
    json_t *all = NULL;

    for (;;) {
        char query[512];
        json_t *page = NULL;
        (void)snprintf(query, sizeof(query),
                       "start=%" PRIu64 "&length=%" PRIu64 "%s%.300s", off,
                       end - off, o->context ? "&context=" : "",
                       o->context ? o->context : "");
        const int code = gateway_json(o, "extents", run->args[0], query, &page);
        if (code) {
            json_decref(all);
            return code;
        }
        json_t *const next = json_object_get(page, "next");
        const uint64_t at = next ? (uint64_t)json_integer_value(next) : 0;
        if (all)
            (void)json_array_extend(json_object_get(all, "extents"),
                                    json_object_get(page, "extents"));
        else
            all = json_incref(page);
        json_decref(page);
        if (at <= off)
            break;
        off = at;
    }
    *out = all;
    return 0;
}

static const char *word_of(const struct options *o, json_t *row)
{
    if (o->context && strcmp(o->context, "zero") != 0)
        return cli_is_set(row, "dirty") ? "dirty" : "clean";
    return cli_is_set(row, "compressed") ? "compressed"
           : !cli_is_set(row, "present") ? "hole"
           : cli_is_set(row, "zero")     ? "zero"
                                         : "data";
}

int cmd_map(const struct command_run *run)
{
    json_t *found = NULL, *row, *offset;
    size_t i;
    const int code = run->o->gateway ? gateway_extents(run, &found)
                                     : ask(run, IMAGE_DESCRIBE, ask_extents,
                                           NULL, NULL, &found);

    if (code)
        return code;
    json_t *const rows = json_incref(json_object_get(found, "extents"));
    json_decref(found);
    if (run->o->is_json)
        return cli_print_json(rows);
    put_head("%16s %16s %5s  %-10s %16s", "START", "LENGTH", "DEPTH", "WHAT",
             "OFFSET");
    json_array_foreach(rows, i, row)
    {
        (void)printf("%16" JSON_INTEGER_FORMAT " %16" JSON_INTEGER_FORMAT
                     " %5" JSON_INTEGER_FORMAT "  %-10s",
                     cli_number(row, "start"), cli_number(row, "length"),
                     cli_number(row, "depth"), word_of(run->o, row));
        offset = json_object_get(row, "offset");
        if (offset)
            (void)printf(" %16" JSON_INTEGER_FORMAT,
                         json_integer_value(offset));
        (void)putchar('\n');
    }
    json_decref(rows);
    return cli_flush();
}

/* ---- partitions ---- */

static enum plt_status ask_partitions(struct image *image,
                                      const struct options *o, json_t **out,
                                      struct plt_error *err)
{
    struct plt_io io = cli_io();
    (void)o;
    return image_partitions_json(image, &io, out, err);
}

static void print_fs(json_t *fs)
{
    if (fs)
        (void)printf("%-12s %s", cli_text(fs, "type"), cli_text(fs, "label"));
}

static void print_partitions(json_t *table)
{
    json_t *row, *problem;
    size_t i;
    char size[32];

    (void)printf("table: %s%s%s\n", cli_text(table, "label"),
                 *cli_text(table, "id") ? ", " : "", cli_text(table, "id"));
    if (json_object_get(table, "filesystem")) {
        (void)printf("the whole disk: ");
        print_fs(json_object_get(table, "filesystem"));
        (void)putchar('\n');
    }
    json_array_foreach(json_object_get(table, "problems"), i, problem)
    {
        (void)printf("%sproblem:%s %s\n", cli_red(), cli_plain(),
                     json_string_value(problem));
    }
    if (cli_is_set(table, "filesystems-unread"))
        (void)puts("file systems far into the stream were not looked at: ask "
                   "again");
    if (!json_array_size(json_object_get(table, "partitions")))
        return;
    put_head("%3s  %-4s %15s %15s %9s  %-24s %s", "N", "BOOT", "START",
             "LENGTH", "SIZE", "TYPE", "FILE SYSTEM");
    json_array_foreach(json_object_get(table, "partitions"), i, row)
    {
        const char *const words = cli_text(row, "type-name");
        cli_size_text((uint64_t)cli_number(row, "length"), size);
        (void)printf("%3" JSON_INTEGER_FORMAT "  %-4s %15" JSON_INTEGER_FORMAT
                     " %15" JSON_INTEGER_FORMAT " %9s  %-24s ",
                     cli_number(row, "number"),
                     cli_is_set(row, "bootable") ? "*" : "",
                     cli_number(row, "start"), cli_number(row, "length"), size,
                     *words ? words : cli_text(row, "type"));
        print_fs(json_object_get(row, "filesystem"));
        (void)putchar('\n');
    }
}

int cmd_partitions(const struct command_run *run)
{
    json_t *table = NULL;
    const int code = ask(run, 0, ask_partitions, "partitions", NULL, &table);

    if (code)
        return code;
    if (run->o->is_json)
        return cli_print_json(table);
    print_partitions(table);
    json_decref(table);
    return cli_flush();
}

/* ---- snapshots ---- */

static enum plt_status ask_snapshots(struct image *image,
                                     const struct options *o, json_t **out,
                                     struct plt_error *err)
{
    struct plt_io io = cli_io();
    (void)o;
    return image_snapshots_json(image, &io, out, err);
}

int cmd_snapshots(const struct command_run *run)
{
    json_t *rows = NULL;
    const int code = ask(run, IMAGE_DESCRIBE, ask_snapshots, "snapshots",
                         "limit=100000", &rows);

    if (code)
        return code;
    if (run->o->is_json)
        return cli_print_json(rows);
    if (json_array_size(rows))
        print_snapshots(rows);
    else
        (void)puts("no snapshots");
    json_decref(rows);
    return cli_flush();
}

/* ---- check ---- */

static enum plt_status ask_check(struct image *image, const struct options *o,
                                 json_t **out, struct plt_error *err)
{
    enum { FINDINGS = 10000 };
    struct plt_io io = cli_io();
    (void)o;
    return image_check_json(image, &io, FINDINGS, NULL, NULL, out, err);
}

static void print_check(json_t *result)
{
    json_t *const findings = json_object_get(result, "findings");
    const json_int_t all = cli_number(result, "total-clusters");
    const json_int_t used = cli_number(result, "allocated-clusters");
    const json_int_t bad = cli_number(result, "corruptions"),
                     leaks = cli_number(result, "leaks"),
                     errors = cli_number(result, "check-errors");
    json_t *row;
    size_t i;

    json_array_foreach(findings, i, row)
    {
        (void)printf("%s: %s", json_string_value(json_object_get(row, "kind")),
                     json_string_value(json_object_get(row, "text")));
        if (json_object_get(row, "offset"))
            (void)printf(" (at byte %" JSON_INTEGER_FORMAT ")",
                         cli_number(row, "offset"));
        (void)putchar('\n');
    }
    if (!bad && !leaks && !errors)
        (void)puts("No errors were found on the image.");
    else
        (void)printf("%" JSON_INTEGER_FORMAT " corruptions, "
                     "%" JSON_INTEGER_FORMAT " leaked clusters, "
                     "%" JSON_INTEGER_FORMAT " clusters that could not be "
                     "checked\n",
                     bad, leaks, errors);
    (void)printf(
        "%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT
        " = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed "
        "clusters\nImage end offset: %" JSON_INTEGER_FORMAT "\n",
        used, all, all ? 100.0 * (double)used / (double)all : 0,
        used ? 100.0 * (double)cli_number(result, "fragmented-clusters") /
                   (double)used
             : 0,
        used ? 100.0 * (double)cli_number(result, "compressed-clusters") /
                   (double)used
             : 0,
        cli_number(result, "image-end-offset"));
}

/* The exit codes of qemu-img check. */
int cmd_check(const struct command_run *run)
{
    json_t *result = NULL;
    int code = ask(run, IMAGE_DESCRIBE, ask_check, "check", NULL, &result);

    if (code)
        return code;
    code = cli_number(result, "check-errors")  ? EXIT_FAILED
           : cli_number(result, "corruptions") ? EXIT_CORRUPT
           : cli_number(result, "leaks")       ? EXIT_LEAKS
                                               : 0;
    if (run->o->is_json)
        return cli_print_json(result) ? EXIT_FAILED : code;
    print_check(result);
    json_decref(result);
    return cli_flush() ? EXIT_FAILED : code;
}

/* ---- members, plugins ---- */

static enum plt_status ask_members(struct image *image, const struct options *o,
                                   json_t **out, struct plt_error *err)
{
    struct plt_io io = cli_io();
    (void)o;
    return image_members(image, &io, out, err);
}

int cmd_members(const struct command_run *run)
{
    json_t *rows = NULL, *row;
    size_t i;
    const int code =
        ask(run, IMAGE_LIST, ask_members, "members", "limit=100000", &rows);

    if (code)
        return code;
    if (run->o->is_json)
        return cli_print_json(rows);
    put_head("  %-10s %16s  %-20s  %s", "TYPE", "SIZE", "MODIFIED", "NAME");
    json_array_foreach(rows, i, row)
    {
        (void)printf("%c %-10s %16" JSON_INTEGER_FORMAT "  %-20s  %s\n",
                     cli_is_set(row, "candidate") ? '*' : ' ',
                     cli_text(row, "type"), cli_number(row, "size"),
                     cli_text(row, "mtime"), cli_text(row, "name"));
    }
    json_decref(rows);
    return cli_flush();
}

int cmd_plugins(const struct command_run *run)
{
    json_t *const rows = images_plugins_json(run->images);
    json_t *row;
    size_t i;

    if (run->o->is_json)
        return cli_print_json(rows);
    put_head("%-10s %-8s %-4s %s", "NAME", "KIND", "ABI", "WHAT");
    json_array_foreach(rows, i, row)
    {
        (void)printf("%-10s %-8s %-4s %s\n", cli_text(row, "name"),
                     cli_text(row, "kind"), cli_text(row, "abi"),
                     cli_text(row, "summary"));
    }
    json_decref(rows);
    return cli_flush();
}

/* ---- checksum ---- */

static void on_progress(void *cookie, uint64_t done, uint64_t all)
{
    progress_show((struct progress *)cookie, done, all);
}

static int sum_here(const struct command_run *run, json_t **out)
{
    const struct options *const o = run->o;
    const char *const algorithm = o->algorithm ? o->algorithm : "sha256";
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    struct image *image = NULL;
    struct progress p;
    char hex[IMAGE_CHECKSUM_TEXT];
    int code = cli_open(run->images, run->args[0], o, 0, &image);

    if (code)
        return code;
    progress_begin(&p, "checksum", 0, o->is_quiet);
    const enum plt_status st = image_checksum(
        image, &io, algorithm, o->block_size, 0, on_progress, &p, hex, &err);
    progress_end(&p);
    if (st == PLT_OK) {
        *out = json_pack("{s:s, s:s, s:s, s:I}", "algorithm", algorithm,
                         "checksum", hex, "etag", image_etag(image),
                         "virtual-size", (json_int_t)image_size(image));
        if (o->block_size)
            (void)json_object_set_new(*out, "block_size",
                                      json_integer((json_int_t)o->block_size));
    } else {
        code = cli_failed(run->args[0], &err);
    }
    image_unref(image);
    return code;
}

int cmd_checksum(const struct command_run *run)
{
    const struct options *const o = run->o;
    json_t *result = NULL;
    char query[128] = "";
    int code;

    (void)snprintf(query, sizeof(query), "algorithm=%.32s",
                   o->algorithm ? o->algorithm : "sha256");
    if (o->block_size)
        (void)snprintf(query + strlen(query), sizeof(query) - strlen(query),
                       "&block_size=%" PRIu64, o->block_size);
    code = o->gateway ? gateway_events(o, "checksum", run->args[0], query,
                                       "checksum", &result)
                      : sum_here(run, &result);
    if (code)
        return code;
    if (o->is_json)
        return cli_print_json(result);
    /* As sha256sum prints it. */
    (void)printf("%s  %s\n", cli_text(result, "checksum"), run->args[0]);
    json_decref(result);
    return cli_flush();
}
