/* SPDX-License-Identifier: Apache-2.0 */
/* Names of images: NAME -> a reference with its selectors, and labels.
 *
 * Some come from the configuration and last as long as it says; others are
 * registered while the server runs and are kept in the state folder's
 * images.json, which is replaced as a whole (written beside, synced, renamed),
 * so that a name that was acknowledged survives kill -9.
 * Threads: any. */
#ifndef STACK_CATALOGUE_H
#define STACK_CATALOGUE_H

#include <jansson.h>

#include <platter/error.h>

#include "stack/policy.h"
#include "stack/reference.h"

enum { CATALOGUE_MAX = 8192, CATALOGUE_MAX_LABELS = 64 };

struct catalogue;

/* state_dir: a descriptor, borrowed; -1: nothing is kept, and nothing can be
 * registered.  policy is borrowed: names must not be origins'.  new. */
struct catalogue *catalogue_new(int state_dir, const struct policy *policy);
void catalogue_free(struct catalogue *catalogue);

/* Read images.json.  PLT_CORRUPT: it is there, and is not what was written. */
PLT_MUST_USE enum plt_status catalogue_load(struct catalogue *catalogue,
                                            struct plt_error *err);

/* From the configuration.  source: "ORIGIN/PATH"; selectors: query text, or
 * NULL; labels: a JSON object of texts as text, or NULL. */
PLT_MUST_USE enum plt_status
catalogue_add(struct catalogue *catalogue, const char *name, const char *source,
              const char *selectors, const char *labels, struct plt_error *err);

/* {"name", "source", selectors..., "labels": {...}} of a client: checked, kept,
 * then known.  PLT_INVALID: malformed; PLT_EXISTS: the name is taken by
 * something else (the same again is PLT_OK and *is_new false); PLT_UNSUPPORTED:
 * no state folder; PLT_IO: it could not be kept. */
PLT_MUST_USE enum plt_status catalogue_register(struct catalogue *catalogue,
                                                json_t *entry, bool *is_new,
                                                struct plt_error *err);
/* PLT_NOT_FOUND; PLT_DENIED: it is the configuration's. */
PLT_MUST_USE enum plt_status catalogue_remove(struct catalogue *catalogue,
                                              const char *name,
                                              struct plt_error *err);

/* A copy of what name stands for (reference_release); PLT_NOT_FOUND: not known;
 * or PLT_NOMEM. */
enum plt_status catalogue_get(struct catalogue *catalogue, const char *name,
                              struct reference *out);
bool catalogue_has(struct catalogue *catalogue, const char *name);

/* What is told of one name. */
struct catalogue_row {
    const char *name; /* told's */
    json_t *told; /* {"name","source",selectors...,"labels","created"}, to be
                     read only; "created" of a client's */
    bool is_configured;
};
/* All names, sorted by them; *rows is new (catalogue_rows_free).  False: no
 * memory. */
bool catalogue_rows(struct catalogue *catalogue, struct catalogue_row **rows,
                    size_t *n);
void catalogue_rows_free(struct catalogue *catalogue,
                         struct catalogue_row *rows, size_t n);

/* Take the configured names of `other` in place of one's own; what was
 * registered stays, but for names that are now configured, or origins of
 * other's policy.  other has none then; nobody else uses it.
 * False: no memory, or more than CATALOGUE_MAX; all is as it was. */
bool catalogue_replace(struct catalogue *catalogue, struct catalogue *other);

#endif
