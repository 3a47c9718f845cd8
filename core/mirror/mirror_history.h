/* SPDX-License-Identifier: Apache-2.0 */
/* What happened to a mirror: its last events, kept with it in mirrors.json.
 *
 * Failures and repairs, one after the other, are one row that counts: a source
 * that is away for a day does not push out all else.  Nothing is told here that
 * the mirror's JSON did not tell when it happened.
 * Lock: the mirror's. */
#ifndef MIRROR_MIRROR_HISTORY_H
#define MIRROR_MIRROR_HISTORY_H

#include <jansson.h>

#include "manifest/manifest.h"
#include "util/lock.h"

struct mirror;
struct version;

enum {
    HISTORY_MAX = 32,  /* rows */
    HISTORY_TEXT = 256 /* of an error, with its NUL */
};

/* Names are told and kept (mirror_history.c). */
enum history_event {
    HISTORY_MADE,
    HISTORY_VERSION,  /* the source has this one now */
    HISTORY_COMPLETE, /* all of it is here */
    HISTORY_PAUSED,
    HISTORY_RESUMED,
    HISTORY_WAITING,  /* the source failed: it is tried again by itself */
    HISTORY_FAILED,   /* needs somebody */
    HISTORY_REPAIRED, /* leaves that were damaged at rest */
    HISTORY_EVENTS
};

struct history_row {
    int64_t time_s; /* since 1970 */
    enum history_event event;
    uint64_t count;          /* how often in a row; of repairs: leaves */
    int64_t seconds;         /* since the version came; -1: not known */
    int64_t fetched, reused; /* bytes; -1: not of this event */
    bool has_root;
    manifest_digest root;
    char *error; /* new, or NULL */
};

struct history {
    struct history_row *rows; /* oldest first; new, or NULL */
    unsigned n;
};

void history_release(struct history *history);
/* An event of the mirror; its lock is held.  v: the version that it is of, or
 * NULL; n: how often, 1 at least; error: or NULL.  Without memory it
 * is not noted.  Written with the next mirrors_save, within half a minute. */
void history_note(struct mirror *mirror, enum history_event event,
                  struct version *v, uint64_t n, const char *error);
/* What is told: newest first; new, NULL without memory. */
json_t *history_json(const struct history *history);
/* What is kept: oldest first; new, NULL without memory. */
json_t *history_state(const struct history *history);
/* What was kept.  Rows that are none are left out. */
void history_load(struct history *history, json_t *rows);

#endif
