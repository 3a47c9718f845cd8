/* SPDX-License-Identifier: Apache-2.0 */
/* What a client asks for: ORIGIN/PATH or a registered NAME, and selectors.
 *
 * Text from clients is normalised here, once, before anything else looks at it:
 * percent-decoding per path segment, ';name=value' parameters of the last
 * segment, the query.  Refused (PLT_INVALID): NUL, control characters,
 * malformed percent-encoding, an encoded slash or backslash, "." and ".." and
 * empty segments, over-long UTF-8, unknown or repeated selectors, over-long
 * text. Threads: a reference belongs to its holder. */
#ifndef STACK_REFERENCE_H
#define STACK_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include <platter/error.h>

enum { REFERENCE_MAX = 4096 }; /* bytes of target and of each selector */

struct reference {
    char *target;    /* "demo/dir/x.tar.gz", decoded, no leading slash; new */
    char *member;    /* or NULL, as all below */
    char *snapshot;  /* id or name */
    char *partition; /* decimal */
    char *secret;
    char *layers; /* "" is set: the file as it is */
};

/* raw_path: what follows "/disk/", still percent-encoded, without the query;
 * raw_query: what follows '?', still encoded, or NULL.
 * Query names that are not selectors are INVALID unless listed in
 * `other_names` (NULL-ended array, or NULL); those are ignored here.
 * On failure *out holds nothing. */
PLT_MUST_USE enum plt_status reference_parse(struct reference *out,
                                             const char *raw_path,
                                             const char *raw_query,
                                             const char *const *other_names,
                                             struct plt_error *err);
/* The query names of `names` (NULL-ended, at most 32) have a value and stand at
 * most once, or INVALID; with is_all no others stand there. */
PLT_MUST_USE enum plt_status reference_check_query(const char *raw_query,
                                                   const char *const *names,
                                                   bool is_all,
                                                   struct plt_error *err);
void reference_release(struct reference *reference);
/* A selector by its name, its value as it is (not encoded); INVALID as in a
 * query. */
PLT_MUST_USE enum plt_status reference_select(struct reference *reference,
                                              const char *name,
                                              const char *value,
                                              struct plt_error *err);
/* All of it; false without memory, *out then holds nothing. */
bool reference_copy(struct reference *out, const struct reference *reference);

/* One text that is equal for equal references: the key of the open images.
 * new; NULL without memory. */
char *reference_key(const struct reference *reference);

/* The value of one query parameter, decoded; new.  NULL and *st is PLT_OK: not
 * there; PLT_INVALID: malformed; or PLT_NOMEM. */
char *reference_query(const char *raw_query, const char *name,
                      enum plt_status *st);

#endif
