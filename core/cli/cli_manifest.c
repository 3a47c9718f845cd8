/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: what a disk is, in digests (platter-manifest(7)). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "manifest/manifest_build.h"
#include "manifest/manifest_export.h"
#include "manifest/manifest_head.h"
#include "manifest/manifest_list.h"
#include "stack/json_memory.h"
#include "util/auto.h"

enum { NONE = -1, CHUNK = 1 << 16 };

/* What is wanted of it: a list, or an export that is made in a pass over the
 * disk; both NONE: the head. */
static const struct form {
    const char *name, *part, *query; /* part, query: of the gateway */
    int list, export;
} forms[] = {
    {"bmap", "", "format=bmap", NONE, MANIFEST_EXPORT_BMAP},
    {"rauc", "", "format=rauc", MANIFEST_LIST_LEAVES, NONE},
    {"zsync", "", "format=zsync", NONE, MANIFEST_EXPORT_ZSYNC},
    {"caibx", "", "format=caibx", NONE, MANIFEST_EXPORT_CAIBX},
    {"groups", "groups", NULL, MANIFEST_LIST_GROUPS, NONE},
    {"leaves", "leaves", NULL, MANIFEST_LIST_LEAVES, NONE},
    {"head", "", NULL, NONE, NONE},
};
enum { FORMATS = 4, FORM_GROUPS = 4, FORM_LEAVES, FORM_HEAD };

/* ---- Where it goes ---- */

struct out {
    const char *name; /* NULL: standard output */
    char *part;       /* NAME.part, until all of it is there */
    FILE *f;
};

static int out_open(struct out *out, const char *name)
{
    const bool is_file = name && strcmp(name, "-") != 0;

    *out = (struct out){.name = is_file ? name : NULL, .f = stdout};
    if (!is_file)
        return 0;
    const size_t len = strlen(name) + sizeof(".part");
    out->part = malloc(len);
    if (!out->part)
        return cli_complain("out of memory");
    (void)snprintf(out->part, len, "%s.part", name);
    out->f = fopen(out->part, "we");
    return out->f ? 0 : cli_complain("%s: %s", out->part, strerror(errno));
}

static bool out_write(struct out *out, const void *data, size_t len)
{
    return !cli_is_stopped() && fwrite(data, 1, len, out->f) == len;
}

/* code: how it went so far; the same, or that of a failure here. */
static int out_close(struct out *out, int code)
{
    if (!out->name)
        return code ? code : cli_flush();
    if (out->f) {
        const bool is_whole = !ferror(out->f) && fflush(out->f) == 0 &&
                              fsync(fileno(out->f)) == 0;
        (void)fclose(out->f);
        if (!code && (!is_whole || rename(out->part, out->name) != 0))
            code = cli_complain("%s: %s", out->name, strerror(errno));
        if (code)
            (void)unlink(out->part);
    }
    free(out->part);
    return code;
}

/* A write that failed, or a signal. */
static int out_failed(const struct out *out)
{
    return cli_is_stopped()
               ? EXIT_STOPPED
               : cli_complain("%s: %s",
                              out->name ? out->name : "standard output",
                              strerror(errno));
}

/* ---- By itself ---- */

static void on_progress(void *cookie, uint64_t done, uint64_t all)
{
    progress_show((struct progress *)cookie, done, all);
}

/* The manifest of an open image; new. */
static enum plt_status make(struct image *image, struct progress *p,
                            struct manifest_file **out, struct plt_error *err)
{
    struct plt_io io = cli_io();
    uint64_t size;
    enum plt_status st = image_resolve_size(image, &io, &size, err);

    if (st == PLT_OK)
        st = manifest_file_open(-1, "", size, out, err);
    const struct manifest_build build = {
        .file = *out, .progress = on_progress, .cookie = p};
    if (st == PLT_OK)
        st = manifest_build(image, &io, &build, err);
    return st;
}

static int write_list(struct manifest_file *file, enum manifest_list list,
                      const char *spec, struct out *out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    const uint64_t size = manifest_list_size(file, list);
    uint8_t buf[CHUNK];

    for (uint64_t at = 0; at < size;) {
        const size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        if (manifest_list_read(file, list, at, n, buf, &err) != PLT_OK)
            return cli_failed(spec, &err);
        if (!out_write(out, buf, n))
            return out_failed(out);
        at += n;
    }
    return 0;
}

/* Made in a file without a name, since it is not written in order. */
static int write_export(struct image *image, struct manifest_file *file,
                        enum manifest_export kind, struct progress *p,
                        const char *spec, struct out *out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    FILE *const made = tmpfile();
    uint8_t buf[CHUNK];
    size_t n;
    int code = 0;

    if (!made)
        return cli_complain("a temporary file: %s", strerror(errno));
    enum plt_status st =
        manifest_export_can(kind, manifest_file_size(file), &err);
    if (st == PLT_OK)
        st = manifest_export_make(kind, image, file, &io, 0, UINT64_MAX,
                                  on_progress, p, fileno(made), &err);
    if (st != PLT_OK)
        code = cli_failed(spec, &err);
    while (!code && (n = fread(buf, 1, sizeof(buf), made)) > 0) {
        if (!out_write(out, buf, n))
            code = out_failed(out);
    }
    if (!code && ferror(made))
        code = cli_complain("a temporary file: %s", strerror(errno));
    (void)fclose(made);
    return code;
}

static int write_head(struct manifest_file *file, const char *spec,
                      struct out *out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_text *head = NULL;

    if (manifest_head(file, &head, &err) != PLT_OK)
        return cli_failed(spec, &err);
    const int code =
        out_write(out, head->text, head->len) ? 0 : out_failed(out);
    manifest_text_unref(head);
    return code;
}

static int write_form(const struct command_run *run, const struct form *form,
                      struct image *image, struct manifest_file *file,
                      struct progress *p)
{
    const char *const spec = run->args[0];
    struct out out;
    int code = out_open(&out, run->o->out_file);

    if (!code && form->export != NONE)
        code = write_export(image, file, (enum manifest_export)form->export, p,
                            spec, &out);
    else if (!code && form->list != NONE)
        code = write_list(file, (enum manifest_list)form->list, spec, &out);
    else if (!code)
        code = write_head(file, spec, &out);
    return out_close(&out, code);
}

/* {"root"}, or the whole head. */
static int show_here(struct manifest_file *file, const char *spec, bool is_json,
                     json_t **out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_text *head = NULL;
    manifest_digest root;
    char hex[MANIFEST_HEX];

    if (!is_json && manifest_file_root(file, root)) {
        manifest_to_hex(root, hex);
        *out = json_pack("{s:s}", "root", hex);
        return 0;
    }
    if (manifest_head(file, &head, &err) != PLT_OK)
        return cli_failed(spec, &err);
    *out = json_memory_parse(head->text, head->len, 0, NULL);
    manifest_text_unref(head);
    return 0;
}

static int do_here(const struct command_run *run, const struct form *form,
                   json_t **out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct manifest_file *file = NULL;
    struct image *image = NULL;
    struct progress p;
    int code = cli_open(run->images, run->args[0], run->o, 0, &image);

    if (code)
        return code;
    progress_begin(&p, "manifest", 0, run->o->is_quiet);
    if (make(image, &p, &file, &err) != PLT_OK)
        code = cli_failed(run->args[0], &err);
    else if (form == &forms[FORM_HEAD] && !run->o->out_file)
        code = show_here(file, run->args[0], run->o->is_json, out);
    else if (strcmp(form->name, "rauc") == 0 &&
             manifest_file_size(file) % MANIFEST_LEAF)
        code = cli_complain("%s: a block-hash-index is of whole blocks of 4096 "
                            "bytes",
                            run->args[0]);
    else
        code = write_form(run, form, image, file, &p);
    progress_end(&p);
    manifest_file_unref(file);
    image_unref(image);
    return code;
}

/* ---- Of a gateway ---- */

static int ask_gateway(const struct command_run *run, const struct form *form,
                       json_t **out)
{
    const struct options *const o = run->o;
    const bool is_head = form == &forms[FORM_HEAD];
    char *data = NULL;
    size_t len = 0;
    struct out file;
    /* It is made, or this shows how far it is. */
    int code = gateway_events(o, "manifest", run->args[0], NULL, "root", out);

    if (code || (is_head && !o->is_json && !o->out_file))
        return code;
    json_decref(*out);
    *out = NULL;
    code =
        gateway_manifest(o, run->args[0], form->part, form->query, &data, &len);
    if (!code && is_head && !o->out_file) {
        *out = json_memory_parse(data ? data : "", len, 0, NULL);
    } else if (!code) {
        code = out_open(&file, o->out_file);
        if (!code && len && !out_write(&file, data, len))
            code = out_failed(&file);
        code = out_close(&file, code);
    }
    free(data);
    return code;
}

/* ---- */

/* NULL: told. */
static const struct form *take_form(const struct options *o)
{
    size_t i = 0;

    if ((o->manifest_form != NULL) + o->is_groups + o->is_leaves + o->is_json >
        1) {
        (void)cli_usage("one of --format, --groups, --leaves and --json");
        return NULL;
    }
    if (o->is_groups || o->is_leaves)
        return &forms[o->is_groups ? FORM_GROUPS : FORM_LEAVES];
    if (!o->manifest_form)
        return &forms[FORM_HEAD];
    while (i < FORMATS && strcmp(forms[i].name, o->manifest_form) != 0)
        i++;
    if (i == FORMATS) {
        (void)cli_usage("--format is bmap, rauc, zsync or caibx");
        return NULL;
    }
    if (forms[i].export == MANIFEST_EXPORT_ZSYNC && !o->gateway) {
        (void)cli_usage("a zsync file is of a disk on a --gateway");
        return NULL;
    }
    return &forms[i];
}

int cmd_manifest(const struct command_run *run)
{
    const struct options *const o = run->o;
    const struct form *const form = take_form(o);
    json_t *result = NULL;

    if (!form)
        return EXIT_USAGE;
    if (form != &forms[FORM_HEAD] && form->export != MANIFEST_EXPORT_BMAP &&
        !o->out_file && isatty(1) && !o->is_forced) {
        (void)cli_complain("digests do not belong on a terminal (-o, --force)");
        return EXIT_USAGE;
    }
    const int code = o->gateway ? ask_gateway(run, form, &result)
                                : do_here(run, form, &result);
    if (code || !result)
        return code;
    if (o->is_json)
        return cli_print_json(result);
    (void)printf("%s  %s\n", cli_text(result, "root"), run->args[0]);
    json_decref(result);
    return cli_flush();
}
