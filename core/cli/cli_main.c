/* SPDX-License-Identifier: Apache-2.0 */
/* platter: the stack on the command line, without a server.
 *
 * The specs and files are the user's own, opened with the user's own rights;
 * what an image names is confined all the same.  Commands that are promised and
 * not there yet say so. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache.h"
#include "stack/image.h"
#include "util/auto.h"
#include "util/clock.h"
#include "util/log.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CHOICE = 3 };
enum { EXIT_CORRUPT = 2, EXIT_LEAKS = 3 }; /* of check */
enum { PIECE = 1 << 20, PROGRESS_AFTER_S = 2, MAX_SECRET_FILES = 16 };

struct options {
    const char *plugin_path, *state_dir, *format;
    struct reference selectors; /* borrowed texts */
    uint64_t offset, length, cache;
    bool has_length, is_json, is_forced, is_verbose, is_vm_state;
    const char *context;
    const char *secret_files[MAX_SECRET_FILES]; /* NAME=FILE */
    size_t n_secret_files;
    char secret_names[MAX_SECRET_FILES * 64]; /* all of them, with commas */
};

static const char usage_text[] =
    "usage: platter COMMAND [OPTIONS] SPEC\n"
    "\n"
    "  info SPEC      what the image is: layers, sizes, format\n"
    "  read SPEC      bytes of the guest disk to standard output\n"
    "  map SPEC       where data, zeros and holes lie\n"
    "  members SPEC   the files of an archive\n"
    "  snapshots SPEC the snapshots inside an image\n"
    "  check SPEC     are the image's own tables sound\n"
    "  plugins        the drivers that are loaded\n"
    "\n"
    "SPEC is a path, a URL, or a stack, guest side first:\n"
    "  qcow2:tar{member=box.img}:gzip:https://host/x.box\n"
    "\n"
    "  --json, --output=json|human   print JSON\n"
    "  --offset N, --length N        (read, map) bytes, with suffixes k M G T\n"
    "  --snapshot ID|NAME            the disk of an internal snapshot\n"
    "  --vmstate                     (read) the snapshot's VM state instead\n"
    "  --context dirty:NAME          (map) a persistent bitmap\n"
    "  --secret-file NAME=FILE       a key of an encrypted image (repeat)\n"
    "  --secret NAME[,NAME]          which of them; default: all\n"
    "  --member NAME                 which file of an archive\n"
    "  --layers A,B                  these layers, guest side first, no "
    "probing\n"
    "  -f FORMAT                     as qemu-img: raw, or what must be found\n"
    "  --plugin-path DIRS            further folders with drivers\n"
    "  --state DIR                   keep indexes between runs\n"
    "  --cache-size N                memory for decoded data (default 256M)\n"
    "  --force                       (read) write to a terminal\n"
    "  --verbose                     say what is opened and closed\n"
    "  --help, --version\n"
    "\n"
    "Exit: 0 done, 1 failed, 2 wrong usage, 3 several disks: name one.\n"
    "check: 0 sound, 1 could not check, 2 corruptions, 3 leaks only.\n";

static bool never_cancelled(const struct plt_io *io)
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
                           .deadline_ns = CLOCK_NEVER,
                           .cancelled = never_cancelled,
                           .charge = no_charge};
}

static int failed(const char *what, const struct plt_error *err)
{
    (void)fprintf(stderr, "platter: %s: %s%s%s", what, err->layer,
                  err->layer[0] ? ": " : "", err->text);
    if (err->at != PLT_AT_NONE)
        (void)fprintf(stderr, " (at byte %" PRIu64 ")", err->at);
    (void)fputc('\n', stderr);
    return EXIT_FAILED;
}

static int print_json(json_t *value)
{
    const int bad = json_dumpf(value, stdout, JSON_INDENT(2));
    json_decref(value);
    return bad || putchar('\n') == EOF || fflush(stdout) != 0 ? EXIT_FAILED : 0;
}

/* 1.5 GiB (1610612736 bytes), as qemu-img writes sizes. */
static void print_size(uint64_t bytes)
{
    static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
                                        "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t u = 0;

    while (value >= 1024 && u < 6) {
        value /= 1024;
        u++;
    }
    (void)printf("%.3g %s (%" PRIu64 " bytes)", value, units[u], bytes);
}

static int open_spec(struct images *images, const char *spec,
                     const struct options *o, unsigned how,
                     struct image **image)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = make_io();
    json_t *choices = NULL, *row;
    size_t i;

    const enum plt_status st = images_open_spec(
        images, spec, &o->selectors, how, &io, image, &choices, &err);
    if (st == PLT_OK)
        return 0;
    const int code = failed(spec, &err);
    json_array_foreach(choices, i, row)
    {
        (void)fprintf(stderr, "  --member '%s'\n",
                      json_string_value(json_object_get(row, "name")));
    }
    json_decref(choices);
    return st == PLT_CHOICE ? EXIT_CHOICE : code;
}

/* ---- info ---- */

static json_int_t number_of(json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

static void print_snapshots(json_t *rows)
{
    json_t *row;
    size_t i;

    if (json_array_size(rows))
        (void)printf("snapshots:\n  %-8s %-24s %16s %16s  %-20s %14s\n", "ID",
                     "NAME", "DISK", "VM STATE", "DATE", "VM CLOCK");
    json_array_foreach(rows, i, row)
    {
        const time_t t = (time_t)number_of(row, "date-sec");
        const json_int_t s = number_of(row, "vm-clock-sec");
        char when[32] = "";
        struct tm tm;
        if (gmtime_r(&t, &tm))
            (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
        (void)printf(
            "  %-8s %-24s %16" JSON_INTEGER_FORMAT " %16" JSON_INTEGER_FORMAT
            "  %-20s %4" JSON_INTEGER_FORMAT ":%02d:%02d.%03d\n",
            json_string_value(json_object_get(row, "id")),
            json_string_value(json_object_get(row, "name")),
            number_of(row, "disk-size"), number_of(row, "vm-state-size"), when,
            s / 3600, (int)(s / 60 % 60), (int)(s % 60),
            (int)(number_of(row, "vm-clock-nsec") / 1000000));
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

static int cmd_info(struct images *images, const char *spec,
                    const struct options *o)
{
    struct image *image = NULL;
    const int code = open_spec(images, spec, o, IMAGE_DESCRIBE, &image);

    if (code)
        return code;
    json_t *const info = image_info(image);
    image_unref(image);
    if (!info)
        return EXIT_FAILED;
    if (o->is_json)
        return print_json(info);
    print_info(info);
    json_decref(info);
    return fflush(stdout) != 0 ? EXIT_FAILED : 0;
}

/* ---- read ---- */

static void show_progress(uint64_t done, uint64_t all, uint64_t start_ns)
{
    static uint64_t last;
    const uint64_t now = clock_now();

    if (!isatty(2) || now - start_ns < PROGRESS_AFTER_S * NS_PER_S ||
        (now - last < NS_PER_S / 4 && done < all))
        return;
    last = now;
    const double s = (double)(now - start_ns) / 1e9;
    (void)fprintf(stderr, "\r%5.1f %%  %8.1f MB/s ",
                  all ? 100.0 * (double)done / (double)all : 100.0,
                  (double)done / 1e6 / s);
    if (done == all)
        (void)fputc('\n', stderr);
}

static bool write_all(const uint8_t *p, size_t n)
{
    while (n) {
        const ssize_t did = write(1, p, n);
        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0)
            return false;
        p += did;
        n -= (size_t)did;
    }
    return true;
}

static int copy_out(struct image *image, const char *spec,
                    const struct options *o)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = make_io();
    AUTO_FREE uint8_t *buf = malloc(PIECE);
    uint64_t off = o->offset, end = PLT_SIZE_UNKNOWN;
    const uint64_t start = clock_now();

    if (!buf)
        return EXIT_FAILED;
    /* The size is waited for only where it matters. */
    if (!o->has_length || image_size(image) != PLT_SIZE_UNKNOWN) {
        if (image_resolve_size(image, &io, &end, &err) != PLT_OK)
            return failed(spec, &err);
        if (off > end || (o->has_length && o->length > end - off)) {
            (void)fprintf(stderr,
                          "platter: %s: the range ends past the disk of "
                          "%" PRIu64 " bytes\n",
                          spec, end);
            return EXIT_FAILED;
        }
    }
    if (o->has_length)
        end = off + o->length;
    while (off < end) {
        const size_t len = end - off < PIECE ? (size_t)(end - off) : PIECE;
        const struct plt_seg seg = {off, len, buf};
        if (image_read(image, &io, &seg, 1, &err) != PLT_OK)
            return failed(spec, &err);
        if (!write_all(buf, len)) {
            if (errno != EPIPE)
                (void)fprintf(stderr, "platter: standard output: %s\n",
                              strerror(errno));
            return EXIT_FAILED;
        }
        off += len;
        show_progress(off - o->offset, end - o->offset, start);
    }
    return 0;
}

static int cmd_read(struct images *images, const char *spec,
                    const struct options *o)
{
    struct image *image = NULL;

    if (isatty(1) && !o->is_forced) {
        (void)fprintf(stderr, "platter: a disk does not belong on a terminal "
                              "(--force)\n");
        return EXIT_USAGE;
    }
    int code =
        open_spec(images, spec, o, o->is_vm_state ? IMAGE_VM_STATE : 0, &image);
    if (!code) {
        code = copy_out(image, spec, o);
        image_unref(image);
    }
    return code;
}

/* ---- map, snapshots, check ---- */

/* What is asked of an open image, as JSON. */
typedef enum plt_status ask_fn(struct image *image, const struct options *o,
                               json_t **out, struct plt_error *err);

static int ask(struct images *images, const char *spec, const struct options *o,
               ask_fn *fn, json_t **out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct image *image = NULL;
    int code = open_spec(images, spec, o, IMAGE_DESCRIBE, &image);

    if (code)
        return code;
    if (fn(image, o, out, &err) != PLT_OK)
        code = failed(spec, &err);
    image_unref(image);
    return code;
}

static enum plt_status ask_extents(struct image *image, const struct options *o,
                                   json_t **out, struct plt_error *err)
{
    struct plt_io io = make_io();
    return image_extents_json(image, &io, o->offset,
                              o->has_length ? o->length : PLT_SIZE_MAX,
                              o->context, SIZE_MAX, out, err);
}

static bool is_set(json_t *row, const char *key)
{
    return json_is_true(json_object_get(row, key));
}

static int cmd_map(struct images *images, const char *spec,
                   const struct options *o)
{
    json_t *found = NULL, *row, *offset;
    size_t i;
    const int code = ask(images, spec, o, ask_extents, &found);

    if (code)
        return code;
    json_t *const rows = json_incref(json_object_get(found, "extents"));
    json_decref(found);
    if (o->is_json)
        return print_json(rows);
    (void)printf("%16s %16s %5s  %-10s %16s\n", "START", "LENGTH", "DEPTH",
                 "WHAT", "OFFSET");
    json_array_foreach(rows, i, row)
    {
        const char *const what =
            o->context && strcmp(o->context, "zero") != 0
                ? (is_set(row, "dirty") ? "dirty" : "clean")
            : is_set(row, "compressed") ? "compressed"
            : !is_set(row, "present")   ? "hole"
            : is_set(row, "zero")       ? "zero"
                                        : "data";
        (void)printf("%16" JSON_INTEGER_FORMAT " %16" JSON_INTEGER_FORMAT
                     " %5" JSON_INTEGER_FORMAT "  %-10s",
                     number_of(row, "start"), number_of(row, "length"),
                     number_of(row, "depth"), what);
        offset = json_object_get(row, "offset");
        if (offset)
            (void)printf(" %16" JSON_INTEGER_FORMAT,
                         json_integer_value(offset));
        (void)putchar('\n');
    }
    json_decref(rows);
    return fflush(stdout) != 0 ? EXIT_FAILED : 0;
}

static enum plt_status ask_snapshots(struct image *image,
                                     const struct options *o, json_t **out,
                                     struct plt_error *err)
{
    struct plt_io io = make_io();
    (void)o;
    return image_snapshots_json(image, &io, out, err);
}

static int cmd_snapshots(struct images *images, const char *spec,
                         const struct options *o)
{
    json_t *rows = NULL;
    const int code = ask(images, spec, o, ask_snapshots, &rows);

    if (code)
        return code;
    if (o->is_json)
        return print_json(rows);
    if (json_array_size(rows))
        print_snapshots(rows);
    else
        (void)puts("no snapshots");
    json_decref(rows);
    return fflush(stdout) != 0 ? EXIT_FAILED : 0;
}

static enum plt_status ask_check(struct image *image, const struct options *o,
                                 json_t **out, struct plt_error *err)
{
    enum { FINDINGS = 10000 };
    struct plt_io io = make_io();
    (void)o;
    return image_check_json(image, &io, FINDINGS, out, err);
}

static void print_check(json_t *result)
{
    json_t *const findings = json_object_get(result, "findings");
    const json_int_t all = number_of(result, "total-clusters");
    const json_int_t used = number_of(result, "allocated-clusters");
    const json_int_t bad = number_of(result, "corruptions"),
                     leaks = number_of(result, "leaks"),
                     errors = number_of(result, "check-errors");
    json_t *row;
    size_t i;

    json_array_foreach(findings, i, row)
    {
        (void)printf("%s: %s", json_string_value(json_object_get(row, "kind")),
                     json_string_value(json_object_get(row, "text")));
        if (json_object_get(row, "offset"))
            (void)printf(" (at byte %" JSON_INTEGER_FORMAT ")",
                         number_of(row, "offset"));
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
        used ? 100.0 * (double)number_of(result, "fragmented-clusters") /
                   (double)used
             : 0,
        used ? 100.0 * (double)number_of(result, "compressed-clusters") /
                   (double)used
             : 0,
        number_of(result, "image-end-offset"));
}

/* The exit codes of qemu-img check. */
static int cmd_check(struct images *images, const char *spec,
                     const struct options *o)
{
    json_t *result = NULL;
    int code = ask(images, spec, o, ask_check, &result);

    if (code)
        return code;
    code = number_of(result, "check-errors")  ? EXIT_FAILED
           : number_of(result, "corruptions") ? EXIT_CORRUPT
           : number_of(result, "leaks")       ? EXIT_LEAKS
                                              : 0;
    if (o->is_json)
        return print_json(result) ? EXIT_FAILED : code;
    print_check(result);
    json_decref(result);
    return fflush(stdout) != 0 ? EXIT_FAILED : code;
}

/* ---- members, plugins ---- */

static int cmd_members(struct images *images, const char *spec,
                       const struct options *o)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = make_io();
    struct image *image = NULL;
    json_t *rows = NULL, *row;
    size_t i;
    int code = open_spec(images, spec, o, IMAGE_LIST, &image);

    if (code)
        return code;
    if (image_members(image, &io, &rows, &err) != PLT_OK)
        code = failed(spec, &err);
    image_unref(image);
    if (code)
        return code;
    if (o->is_json)
        return print_json(rows);
    (void)printf("  %-10s %16s  %-20s  %s\n", "TYPE", "SIZE", "MODIFIED",
                 "NAME");
    json_array_foreach(rows, i, row)
    {
        const char *const when =
            json_string_value(json_object_get(row, "mtime"));
        (void)printf(
            "%c %-10s %16" JSON_INTEGER_FORMAT "  %-20s  %s\n",
            json_is_true(json_object_get(row, "candidate")) ? '*' : ' ',
            json_string_value(json_object_get(row, "type")),
            json_integer_value(json_object_get(row, "size")), when ? when : "",
            json_string_value(json_object_get(row, "name")));
    }
    json_decref(rows);
    return fflush(stdout) != 0 ? EXIT_FAILED : 0;
}

static int cmd_plugins(struct images *images, const char *spec,
                       const struct options *o)
{
    json_t *const rows = images_plugins_json(images);
    json_t *row;
    size_t i;

    (void)spec;
    if (o->is_json)
        return print_json(rows);
    (void)printf("%-8s %-8s %-4s %s\n", "NAME", "KIND", "ABI", "WHAT");
    json_array_foreach(rows, i, row)
    {
        (void)printf("%-8s %-8s %-4s %s\n",
                     json_string_value(json_object_get(row, "name")),
                     json_string_value(json_object_get(row, "kind")),
                     json_string_value(json_object_get(row, "abi")),
                     json_string_value(json_object_get(row, "summary")));
    }
    json_decref(rows);
    return 0;
}

static const struct command {
    const char *name;
    int (*run)(struct images *, const char *, const struct options *);
    bool has_spec;
} commands[] = {{"info", cmd_info, true},
                {"read", cmd_read, true},
                {"map", cmd_map, true},
                {"members", cmd_members, true},
                {"snapshots", cmd_snapshots, true},
                {"check", cmd_check, true},
                {"plugins", cmd_plugins, false}};

static const char *const later[] = {
    "partitions", "checksum", "convert", "index", "mirror", "compare", "bench"};

static int usage(const char *why)
{
    (void)fprintf(stderr, "platter: %s; see platter --help\n", why);
    return EXIT_USAGE;
}

enum {
    OPT_OFFSET = 256,
    OPT_LENGTH,
    OPT_JSON,
    OPT_OUTPUT,
    OPT_MEMBER,
    OPT_SNAPSHOT,
    OPT_PARTITION,
    OPT_SECRET,
    OPT_SECRET_FILE,
    OPT_VM_STATE,
    OPT_CONTEXT,
    OPT_LAYERS,
    OPT_PLUGINS,
    OPT_STATE,
    OPT_CACHE,
    OPT_FORCE,
    OPT_VERBOSE,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"offset", required_argument, NULL, OPT_OFFSET},
    {"length", required_argument, NULL, OPT_LENGTH},
    {"json", no_argument, NULL, OPT_JSON},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"member", required_argument, NULL, OPT_MEMBER},
    {"snapshot", required_argument, NULL, OPT_SNAPSHOT},
    {"partition", required_argument, NULL, OPT_PARTITION},
    {"secret", required_argument, NULL, OPT_SECRET},
    {"secret-file", required_argument, NULL, OPT_SECRET_FILE},
    {"vmstate", no_argument, NULL, OPT_VM_STATE},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"layers", required_argument, NULL, OPT_LAYERS},
    {"plugin-path", required_argument, NULL, OPT_PLUGINS},
    {"state", required_argument, NULL, OPT_STATE},
    {"cache-size", required_argument, NULL, OPT_CACHE},
    {"force", no_argument, NULL, OPT_FORCE},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0}};

/* -1: go on; else the exit code. */
static int take_option(struct options *o, int c, char *value)
{
    switch (c) {
    case OPT_OFFSET:
        return plt_parse_bytes(value, &o->offset) ? -1 : usage("bad --offset");
    case OPT_LENGTH:
        o->has_length = true;
        return plt_parse_bytes(value, &o->length) ? -1 : usage("bad --length");
    case OPT_CACHE:
        return plt_parse_bytes(value, &o->cache) ? -1
                                                 : usage("bad --cache-size");
    case OPT_JSON:
        o->is_json = true;
        return -1;
    case OPT_OUTPUT:
        o->is_json = strcmp(value, "json") == 0;
        return o->is_json || strcmp(value, "human") == 0
                   ? -1
                   : usage("--output is json or human");
    case OPT_MEMBER:
        o->selectors.member = value;
        return -1;
    case OPT_SNAPSHOT:
        o->selectors.snapshot = value;
        return -1;
    case OPT_PARTITION:
        o->selectors.partition = value;
        return -1;
    case OPT_SECRET:
        o->selectors.secret = value;
        return -1;
    case OPT_SECRET_FILE:
        if (o->n_secret_files == MAX_SECRET_FILES || !strchr(value, '='))
            return usage("--secret-file takes NAME=FILE, 16 times at most");
        o->secret_files[o->n_secret_files++] = value;
        return -1;
    case OPT_VM_STATE:
        o->is_vm_state = true;
        return -1;
    case OPT_CONTEXT:
        o->context = value;
        return -1;
    case OPT_LAYERS:
        o->selectors.layers = value;
        return -1;
    case OPT_PLUGINS:
        o->plugin_path = value;
        return -1;
    case OPT_STATE:
        o->state_dir = value;
        return -1;
    case OPT_FORCE:
        o->is_forced = true;
        return -1;
    case OPT_VERBOSE:
        o->is_verbose = true;
        return -1;
    case 'f':
        o->format = value;
        return -1;
    case OPT_HELP:
        (void)fputs(usage_text, stdout);
        return 0;
    case OPT_VERSION:
        (void)puts("platter " PLATTER_VERSION);
        return 0;
    default:
        return usage("unknown option, or one without its value");
    }
}

/* Load them, and name all when none was named. */
static enum plt_status add_secrets(struct images *images, struct options *o,
                                   struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    size_t used = 0;

    for (size_t i = 0; i < o->n_secret_files && st == PLT_OK; i++) {
        const char *const eq = strchr(o->secret_files[i], '=');
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s",
                       (int)(eq - o->secret_files[i]), o->secret_files[i]);
        st = images_add_secret(images, name, eq + 1, err);
        used += (size_t)snprintf(o->secret_names + used,
                                 sizeof(o->secret_names) - used, "%s%s",
                                 used ? "," : "", name);
    }
    if (used && !o->selectors.secret)
        o->selectors.secret = o->secret_names;
    return st;
}

static int run_command(const struct command *c, struct options *o,
                       const char *spec)
{
    const struct images_config config = {.plugin_path = o->plugin_path,
                                         .state_dir = o->state_dir,
                                         .cache_bytes = o->cache,
                                         .is_local = true};
    struct images *images;
    struct plt_error err = {.at = PLT_AT_NONE};

    if (images_new(&config, &images, &err) != PLT_OK)
        return failed("start", &err);
    const int code = add_secrets(images, o, &err) == PLT_OK
                         ? c->run(images, spec, o)
                         : failed("secrets", &err);
    images_free(images);
    return code;
}

int main(int argc, char **argv)
{
    struct options o = {.cache = UINT64_C(256) << 20};
    const struct command *command = NULL;
    int c;

    (void)signal(SIGPIPE, SIG_IGN);
    while ((c = getopt_long(argc, argv, "f:", long_options, NULL)) != -1) {
        const int code = take_option(&o, c, optarg);
        if (code >= 0)
            return code;
    }
    log_set_level(o.is_verbose ? LOG_INFO : LOG_ERROR);
    if (optind >= argc) {
        (void)fputs(usage_text, stderr);
        return EXIT_USAGE;
    }
    const char *const name = argv[optind++];
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0)
            command = &commands[i];
    }
    for (size_t i = 0; !command && i < sizeof(later) / sizeof(later[0]); i++) {
        if (strcmp(later[i], name) == 0) {
            (void)fprintf(stderr, "platter: %s is not there yet\n", name);
            return EXIT_FAILED;
        }
    }
    if (!command)
        return usage("unknown command");
    if (argc - optind != (command->has_spec ? 1 : 0))
        return usage(command->has_spec ? "one SPEC is needed"
                                       : "this command takes no SPEC");
    if (o.format && strcmp(o.format, "raw") == 0 && !o.selectors.layers) {
        static char none[] = "";
        o.selectors.layers = none;
    }
    return run_command(command, &o, argv[optind]);
}
