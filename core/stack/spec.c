/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing stack specs.  One pass, left to right; the first word that is no
 * driver's name begins the source. */
#include "stack/spec.h"
#include "stack/json_memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "stack/json_text.h"

static const struct plt_option *find_option(const struct plt_driver *driver,
                                            const char *name, size_t len)
{
    for (const struct plt_option *o = driver->options; o && o->name; o++) {
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

bool spec_driver_takes(const struct plt_driver *driver, const char *name)
{
    return find_option(driver, name, strlen(name)) != NULL;
}

enum plt_status spec_layer_set(struct spec_layer *layer, const char *name,
                               size_t name_len, const char *value,
                               struct plt_error *err)
{
    const struct plt_option *const o =
        find_option(layer->driver, name, name_len);
    uint64_t bytes;
    bool flag;

    if (!o)
        return plt_fail(err, PLT_INVALID, "%s has no option %.*s",
                        layer->driver->name,
                        (int)(name_len < 32 ? name_len : 32), name);
    if ((o->type == PLT_OPTION_BYTES && !plt_parse_bytes(value, &bytes)) ||
        (o->type == PLT_OPTION_BOOL && !plt_parse_bool(value, &flag)) ||
        strlen(value) > 4096)
        return plt_fail(err, PLT_INVALID, "%s: %s cannot be %.40s",
                        layer->driver->name, o->name, value);
    if (layer->n_settings == SPEC_MAX_SETTINGS)
        return plt_fail(err, PLT_INVALID, "%s: too many options",
                        layer->driver->name);
    char *const copy = strdup(value);
    if (!copy)
        return plt_fail(err, PLT_NOMEM, "an option");
    layer->settings[layer->n_settings++] = (struct plt_setting){o->name, copy};
    return PLT_OK;
}

void spec_layer_release(struct spec_layer *layer)
{
    for (size_t i = 0; i < layer->n_settings; i++) {
        union {
            const char *text;
            void *memory;
        } value = {.text = layer->settings[i].value};
        free(value.memory);
    }
    layer->n_settings = 0;
}

void spec_release(struct spec *spec)
{
    for (size_t i = 0; i < spec->n_layers; i++)
        spec_layer_release(&spec->layers[i]);
    free(spec->source);
    spec->n_layers = 0;
    spec->source = NULL;
}

static enum plt_status add_layer(struct spec *spec,
                                 const struct plt_driver *driver,
                                 struct plt_error *err)
{
    if (driver->kind == PLT_KIND_SOURCE)
        return plt_fail(err, PLT_INVALID, "%s is a source, not a layer",
                        driver->name);
    if (spec->n_layers == SPEC_MAX_LAYERS)
        return plt_fail(err, PLT_INVALID, "more than %d layers",
                        SPEC_MAX_LAYERS);
    struct spec_layer *const layer = &spec->layers[spec->n_layers++];
    *layer = (struct spec_layer){.driver = driver};
    return PLT_OK;
}

/* "{a=b,c=d}" at *p, which points behind '{'; leaves *p behind '}'. */
static enum plt_status parse_braces(struct spec_layer *layer, const char **p,
                                    struct plt_error *err)
{
    char value[4097];
    const char *s = *p;

    while (*s != '}') {
        const size_t name_len = strcspn(s, "=,}");
        const char *const name = s;
        size_t n = 0;
        if (s[name_len] != '=')
            return plt_fail(err, PLT_INVALID, "%s: option without a value",
                            layer->driver->name);
        for (s += name_len + 1; *s && *s != ',' && *s != '}'; s++) {
            if (*s == '\\' && s[1])
                s++;
            if (n == sizeof(value) - 1)
                return plt_fail(err, PLT_INVALID, "%s: option too long",
                                layer->driver->name);
            value[n++] = *s;
        }
        value[n] = '\0';
        if (!*s)
            return plt_fail(err, PLT_INVALID, "%s: no closing brace",
                            layer->driver->name);
        const enum plt_status st =
            spec_layer_set(layer, name, name_len, value, err);
        if (st != PLT_OK)
            return st;
        s += *s == ',';
    }
    *p = s + 1;
    return PLT_OK;
}

static enum plt_status parse_text(struct spec *out,
                                  const struct registry *registry,
                                  const char *text, struct plt_error *err)
{
    const char *p = text;

    for (;;) {
        const size_t len = strcspn(p, ":{/");
        const struct plt_driver *const d = p[len] == ':' || p[len] == '{'
                                               ? registry_find(registry, p, len)
                                               : NULL;
        if (!d || (d->kind == PLT_KIND_SOURCE && p[len] == ':'))
            break;
        enum plt_status st = add_layer(out, d, err);
        p += len;
        if (st == PLT_OK && *p == '{') {
            p++;
            st = parse_braces(&out->layers[out->n_layers - 1], &p, err);
        }
        if (st != PLT_OK)
            return st;
        if (*p != ':')
            return plt_fail(err, PLT_INVALID, "%s: no ':' behind the layer",
                            d->name);
        p++;
        if (p[0] == '/' && p[1] == '/')
            p += 2;
        out->is_pinned = true;
    }
    if (strncmp(p, "file:", 5) == 0)
        p += strncmp(p + 5, "//", 2) == 0 ? 7 : 5;
    if (!*p)
        return plt_fail(err, PLT_INVALID, "a spec ends in a path or a URL");
    out->source = strdup(p);
    return out->source ? PLT_OK : plt_fail(err, PLT_NOMEM, "a spec");
}

static enum plt_status parse_json_layer(struct spec *out,
                                        const struct registry *registry,
                                        json_t *row, struct plt_error *err)
{
    const char *const name = json_string_value(json_object_get(row, "driver"));
    const struct plt_driver *const d =
        name ? registry_find(registry, name, strlen(name)) : NULL;
    const char *key;
    json_t *value;

    if (!d)
        return plt_fail(err, PLT_INVALID, "no driver %.32s",
                        name ? name : "named in a layer");
    enum plt_status st = add_layer(out, d, err);
    json_object_foreach(row, key, value)
    {
        if (st != PLT_OK)
            return st;
        if (strcmp(key, "driver") == 0)
            continue;
        AUTO_JSON_TEXT char *made = NULL;
        const char *text = json_string_value(value);
        if (!text) /* a number, a boolean */
            text = made = json_dumps(value, JSON_ENCODE_ANY);
        if (!text)
            return plt_fail(err, PLT_NOMEM, "an option");
        st = spec_layer_set(&out->layers[out->n_layers - 1], key, strlen(key),
                            text, err);
    }
    return st;
}

static enum plt_status parse_json(struct spec *out,
                                  const struct registry *registry,
                                  const char *text, struct plt_error *err)
{
    json_error_t why;
    json_t *const root =
        json_memory_parse(text, strlen(text), JSON_REJECT_DUPLICATES, &why);
    enum plt_status st = PLT_OK;
    const char *key;
    json_t *value;

    if (!root)
        return plt_fail(err, PLT_INVALID, "JSON spec, line %d: %.100s",
                        why.line, why.text);
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "layers") == 0 && json_is_array(value)) {
            out->is_pinned = true;
            for (size_t i = 0; st == PLT_OK && i < json_array_size(value); i++)
                st = parse_json_layer(out, registry, json_array_get(value, i),
                                      err);
        } else if (strcmp(key, "source") == 0 && json_is_string(value)) {
            out->source = strdup(json_string_value(value));
        } else {
            st =
                plt_fail(err, PLT_INVALID, "JSON spec: unknown key %.40s", key);
        }
        if (st != PLT_OK)
            break;
    }
    json_decref(root);
    if (st == PLT_OK && (!out->source || !*out->source))
        st = plt_fail(err, PLT_INVALID, "JSON spec: no source");
    return st;
}

enum plt_status spec_parse(struct spec *out, const struct registry *registry,
                           const char *text, struct plt_error *err)
{
    *out = (struct spec){.n_layers = 0};
    if (strlen(text) > SPEC_MAX_TEXT)
        return plt_fail(err, PLT_INVALID, "spec too long");
    const enum plt_status st = text[0] == '{'
                                   ? parse_json(out, registry, text, err)
                                   : parse_text(out, registry, text, err);
    if (st != PLT_OK)
        spec_release(out);
    return st;
}

enum plt_status spec_parse_layers(struct spec *out,
                                  const struct registry *registry,
                                  const char *text, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    *out = (struct spec){.is_pinned = true};
    while (*text && st == PLT_OK) {
        const size_t len = strcspn(text, ",");
        const struct plt_driver *const d = registry_find(registry, text, len);
        if (!d)
            st = plt_fail(err, PLT_INVALID, "layers=: no driver %.*s",
                          (int)(len < 32 ? len : 32), text);
        else
            st = add_layer(out, d, err);
        text += len + (text[len] == ',');
    }
    if (st != PLT_OK)
        spec_release(out);
    return st;
}
