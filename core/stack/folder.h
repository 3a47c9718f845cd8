/* SPDX-License-Identifier: Apache-2.0 */
/* What a folder of a local origin has, for people who look for an image.
 *
 * A folder is opened as policy opens files: beneath its origin and nowhere
 * else.  Regular files and folders are told; nothing is opened but folders, and
 * what a link leads to is looked at without being opened.  Names that no
 * reference can say (reference.h) are left out.
 * Threads: any. */
#ifndef STACK_FOLDER_H
#define STACK_FOLDER_H

#include <jansson.h>

#include "stack/policy.h"

enum {
    FOLDER_NAMES = 200000, /* read of one folder */
    FOLDER_LOOKS = 10000   /* of those, looked at: with the prefix */
};

struct folder_query {
    const char *target; /* "ORIGIN" or "ORIGIN/PATH", decoded and normalised */
    /* What a name begins with; those that begin with a dot are told when it
     * does.  NULL: all. */
    const char *prefix;
    /* May it be told?  target is "ORIGIN/PATH/NAME".  NULL: all may. */
    bool (*may_tell)(const void *cookie, const char *target, bool is_folder);
    const void *cookie;
    size_t first, most; /* rows of the answer */
};

struct folder_list {
    /* Sorted by the bytes of the name: {"name", "type": "file"|"directory",
     * "size" in bytes (of files), "modified": RFC 3339}; new. */
    json_t *rows;
    size_t total; /* rows that there are in all */
    bool
        is_short; /* there are more: FOLDER_NAMES or FOLDER_LOOKS was reached */
};

/* PLT_NOT_FOUND: no such origin, or no such folder; PLT_UNSUPPORTED: the
 * origin's files are not on this machine; PLT_DENIED: what is asked for leads
 * out of the origin, or may not be read. */
PLT_MUST_USE enum plt_status folder_list(const struct policy *policy,
                                         const struct folder_query *query,
                                         struct folder_list *out,
                                         struct plt_error *err);

#endif
