/* SPDX-License-Identifier: Apache-2.0 */
/* mirrors.json: what is kept of mirrors between runs (mirror_state.c). */
#ifndef MIRROR_MIRROR_STATE_H
#define MIRROR_MIRROR_STATE_H

#include "mirror/mirror_inside.h"

/* Before there are threads.  PLT_CORRUPT: it is not what was written. */
PLT_MUST_USE enum plt_status state_load(struct mirrors *mirrors,
                                        struct plt_error *err);
/* A version that is kept has this file. */
bool state_names_file(struct mirrors *mirrors, const char *name);

/* mirrors.c, for the loading: one with a reference, steals what is in *entry;
 * NULL without memory. */
struct mirror *mirror_new(struct mirrors *mirrors, struct mirror_entry *entry);
PLT_MUST_USE enum plt_status mirrors_list(struct mirrors *mirrors,
                                          struct mirror *mirror,
                                          struct plt_error *err);

#endif
