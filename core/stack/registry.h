/* SPDX-License-Identifier: Apache-2.0 */
/* The drivers of this process: loads plugins, checks their ABI, finds one by
 * name or alias, asks all of them to probe.
 *
 * Plugins are loaded once, at the start, and never unloaded.  Threads: read
 * only after registry_load. */
#ifndef STACK_REGISTRY_H
#define STACK_REGISTRY_H

#include <jansson.h>

#include <limits.h>

#include <platter/driver.h>

enum { REGISTRY_MAX = 64 };

struct registry;

/* Load every *.so of the folders in `path` (colon separated; NULL: plugins.d
 * beside the program's folder, as in a build, or the installed one).  A file
 * that is no plugin, has another ABI or a name that is taken is logged and left
 * out.  PLT_NOT_FOUND when nothing at all could be loaded.  new in *out. */
PLT_MUST_USE enum plt_status
registry_load(struct registry **out, const char *path, struct plt_error *err);
void registry_free(struct registry *registry);
/* The folders that are looked into in any case; how many. */
size_t registry_builtin(char folders[2][PATH_MAX + 64]);

/* By name or alias; NULL: none.  Borrowed, fixed for the process. */
const struct plt_driver *registry_find(const struct registry *registry,
                                       const char *name, size_t len);
/* The driver that is surest, from 50 up; NULL: none.  With is_format_wanted
 * false, formats are not asked. */
const struct plt_driver *registry_probe(const struct registry *registry,
                                        const struct plt_probe *probe,
                                        bool is_format_wanted);
json_t *registry_json(const struct registry *registry);

#endif
