/* SPDX-License-Identifier: Apache-2.0 */
/* A stack as text: which layers, guest side first, over which source.
 *
 *     qcow2:tar{member=box.img}:gzip:https://host/x.box
 *
 * A spec with layers is exactly that stack; one without is probed.  "//" after
 * a layer's colon means nothing (QEMU's dictzip and tar drivers took both).  In
 * braces, NAME=VALUE pairs with commas; a backslash takes the next character as
 * it is.  A JSON form says the same:
 *     {"layers": [{"driver": "tar", "member": "box.img"}, {"driver": "gzip"}],
 *      "source": "https://host/x.box"}
 * Immutable once made.  Threads: its holder's. */
#ifndef STACK_SPEC_H
#define STACK_SPEC_H

#include <stdbool.h>
#include <stddef.h>

#include <platter/driver.h>

#include "stack/registry.h"

/* Deeper stacks are nobody's real image, and each layer costs a lookup. */
enum { SPEC_MAX_LAYERS = 16, SPEC_MAX_SETTINGS = 16, SPEC_MAX_TEXT = 16384 };

struct spec_layer {
    const struct plt_driver *driver; /* borrowed from the registry */
    struct plt_setting settings[SPEC_MAX_SETTINGS]; /* new texts */
    size_t n_settings;
};

struct spec {
    struct spec_layer layers[SPEC_MAX_LAYERS]; /* guest side first */
    size_t n_layers;
    bool is_pinned; /* exactly these layers: no probing */
    char *source;   /* path or URL as written; NULL in a layers list; new */
};

/* The text or JSON form.  On failure *out holds nothing. */
PLT_MUST_USE enum plt_status spec_parse(struct spec *out,
                                        const struct registry *registry,
                                        const char *text,
                                        struct plt_error *err);
/* The layers= selector: names with commas, guest side first; "" pins none. */
PLT_MUST_USE enum plt_status spec_parse_layers(struct spec *out,
                                               const struct registry *registry,
                                               const char *text,
                                               struct plt_error *err);
void spec_release(struct spec *spec);

/* Add a setting, checked against the driver's table. */
PLT_MUST_USE enum plt_status spec_layer_set(struct spec_layer *layer,
                                            const char *name, size_t name_len,
                                            const char *value,
                                            struct plt_error *err);
void spec_layer_release(struct spec_layer *layer);
/* The driver takes an option of this name. */
bool spec_driver_takes(const struct plt_driver *driver, const char *name);

#endif
