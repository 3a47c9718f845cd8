/* SPDX-License-Identifier: Apache-2.0 */
/* Stack specs as text and as JSON, and layers= lists.  What is taken has a
 * source and only layers and options that the plugins have; and the JSON form
 * of it is the same stack again. */
#include <string.h>

#include "fuzz_must.h"
#include "stack/spec.h"

static struct registry *registry;

static void check_layers(const struct spec *spec)
{
    MUST(spec->n_layers <= SPEC_MAX_LAYERS);
    MUST(!spec->n_layers || spec->is_pinned);
    for (size_t i = 0; i < spec->n_layers; i++) {
        const struct spec_layer *const l = &spec->layers[i];
        MUST(l->driver && l->driver->kind != PLT_KIND_SOURCE);
        MUST(l->n_settings <= SPEC_MAX_SETTINGS);
        for (size_t k = 0; k < l->n_settings; k++)
            MUST(l->settings[k].value &&
                 spec_driver_takes(l->driver, l->settings[k].name));
    }
}

/* new; NULL: a value is not UTF-8, or an option is set twice. */
static char *as_json(const struct spec *spec)
{
    json_t *const rows = json_array();
    bool is_good = true;

    for (size_t i = 0; i < spec->n_layers; i++) {
        const struct spec_layer *const l = &spec->layers[i];
        json_t *const row = json_pack("{s:s}", "driver", l->driver->name);
        for (size_t k = 0; k < l->n_settings; k++)
            is_good =
                !json_object_get(row, l->settings[k].name) &&
                json_object_set_new(row, l->settings[k].name,
                                    json_string(l->settings[k].value)) == 0 &&
                is_good;
        MUST(json_array_append_new(rows, row) == 0);
    }
    json_t *const root = json_object();
    is_good =
        json_object_set_new(root, "source", json_string(spec->source)) == 0 &&
        is_good;
    if (spec->is_pinned)
        MUST(json_object_set(root, "layers", rows) == 0);
    json_decref(rows);
    char *const text = is_good ? json_dumps(root, 0) : NULL;
    json_decref(root);
    return text;
}

static void check_again(const struct spec *spec)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct spec again;
    char *const text = as_json(spec);

    if (text && strlen(text) <= SPEC_MAX_TEXT) {
        MUST(spec_parse(&again, registry, text, &err) == PLT_OK);
        MUST(again.n_layers == spec->n_layers &&
             again.is_pinned == spec->is_pinned &&
             strcmp(again.source, spec->source) == 0);
        for (size_t i = 0; i < spec->n_layers; i++) {
            const struct spec_layer *const a = &again.layers[i],
                                           *const b = &spec->layers[i];
            MUST(a->driver == b->driver && a->n_settings == b->n_settings);
            for (size_t k = 0; k < a->n_settings; k++)
                MUST(strcmp(a->settings[k].name, b->settings[k].name) == 0 &&
                     strcmp(a->settings[k].value, b->settings[k].value) == 0);
        }
        spec_release(&again);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct spec spec;
    char *const text = malloc(size + 1);

    MUST(text);
    if (!registry)
        MUST(registry_load(&registry, NULL, &err) == PLT_OK);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    err.text[0] = '\0';
    if (spec_parse(&spec, registry, text, &err) == PLT_OK) {
        MUST(spec.source && spec.source[0]);
        check_layers(&spec);
        check_again(&spec);
    } else {
        MUST(err.text[0] && !spec.source && !spec.n_layers);
    }
    spec_release(&spec);
    if (spec_parse_layers(&spec, registry, text, &err) == PLT_OK) {
        MUST(!spec.source && spec.is_pinned);
        check_layers(&spec);
    }
    spec_release(&spec);
    free(text);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return LLVMFuzzerTestOneInput(NULL, 0);
}
