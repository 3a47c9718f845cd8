/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: what a disk is, in digests (platter-manifest(7)). */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "manifest/manifest_build.h"
#include "manifest/manifest_head.h"
#include "stack/json_memory.h"

static void on_progress(void *cookie, uint64_t done, uint64_t all)
{
    progress_show((struct progress *)cookie, done, all);
}

/* The head of an open image; new in *text. */
static enum plt_status make_head(struct image *image, struct progress *p,
                                 struct manifest_text **text,
                                 struct plt_error *err)
{
    struct plt_io io = cli_io();
    struct manifest_file *file = NULL;
    uint64_t size;
    enum plt_status st = image_resolve_size(image, &io, &size, err);

    if (st == PLT_OK)
        st = manifest_file_open(-1, "", size, &file, err);
    const struct manifest_build build = {
        .file = file, .progress = on_progress, .cookie = p};
    if (st == PLT_OK)
        st = manifest_build(image, &io, &build, err);
    if (st == PLT_OK)
        st = manifest_head(file, text, err);
    manifest_file_unref(file);
    return st;
}

static int head_here(const struct command_run *run, json_t **out)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct image *image = NULL;
    struct progress p;
    struct manifest_text *text = NULL;
    int code = cli_open(run->images, run->args[0], run->o, 0, &image);

    if (code)
        return code;
    progress_begin(&p, "manifest", 0, run->o->is_quiet);
    const enum plt_status st = make_head(image, &p, &text, &err);
    progress_end(&p);
    if (st == PLT_OK)
        *out = json_memory_parse(text->text, text->len, 0, NULL);
    else
        code = cli_failed(run->args[0], &err);
    manifest_text_unref(text);
    image_unref(image);
    return code;
}

int cmd_manifest(const struct command_run *run)
{
    json_t *result = NULL;
    const int code = run->o->gateway ? gateway_json(run->o, "manifest",
                                                    run->args[0], NULL, &result)
                                     : head_here(run, &result);

    if (code)
        return code;
    if (run->o->is_json)
        return cli_print_json(result);
    (void)printf("%s  %s\n", cli_text(result, "root"), run->args[0]);
    json_decref(result);
    return cli_flush();
}
