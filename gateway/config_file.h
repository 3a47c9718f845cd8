/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of config.h: one reading of flags and files, and how its mistakes are
 * told.
 *
 * Origins, images and secrets are entries first, whoever named them; they are
 * looked at together at the end, since a flag may name the origin of an image
 * in a file that was read before.  So the files' texts are kept until then:
 * they know the lines.
 * Threads: the one that parses. */
#ifndef GATEWAY_CONFIG_FILE_H
#define GATEWAY_CONFIG_FILE_H

#include <jansson.h>

#include "config.h"
#include "config_where.h"

enum config_section {
    CONFIG_ORIGINS,
    CONFIG_IMAGES,
    CONFIG_SECRETS,
    CONFIG_MIRRORS,   /* the last with a map of its own in a file */
    CONFIG_ADDRESSES, /* of an origin: its name, and blocks */
    CONFIG_HEADERS,   /* of an origin: its name, and a file; in the order of
                         enum plt_credential */
    CONFIG_CA,
    CONFIG_CLIENT,
    CONFIG_SECTIONS
};

/* What a mistake is about; borrowed. */
struct config_at {
    size_t file; /* of parse->files, from 1; 0: a flag */
    size_t n;
    /* n keys; of a flag "--image", then the name */
    const char *path[CONFIG_WHERE_DEPTH];
};

struct config_entry {
    struct config_named named;
    enum config_section section;
    size_t file; /* as in config_at */
    bool is_bad; /* told already: only its name still counts */
};

struct config_text {
    char *name, *text; /* new; text may be NULL */
};

struct config_parse {
    struct config *config;
    bool is_log;               /* mistakes are lines of the log */
    unsigned n_bad;            /* mistakes so far */
    bool is_partial;           /* a file was not taken: names may be missing */
    struct config_text *files; /* new */
    size_t n_files;
    struct config_entry *entries; /* new */
    size_t n_entries, n_of[CONFIG_SECTIONS];
};

/* ---- config.c ---- */

/* Tell a mistake.  Control characters are told as '?'. */
__attribute__((format(printf, 3, 4))) void
config_bad(struct config_parse *parse, const struct config_at *at,
           const char *fmt, ...);
/* The same in a line that is known, or 0: it has none. */
__attribute__((format(printf, 4, 5))) void
config_bad_line(struct config_parse *parse, const struct config_at *at,
                unsigned line, const char *fmt, ...);
/* new; NULL without memory, which is told. */
char *config_copy(struct config_parse *parse, const char *text);
/* Is there a single setting of that name?  *takes_number: a number as well as
 * a text. */
bool config_knows(const char *key, bool *takes_number);
/* A single setting by its name in the file; at is the flag, or the key. */
void config_set(struct config_parse *parse, const struct config_at *at,
                const char *key, const char *value);
/* One more name of a section; the texts of entry->named are stolen. */
void config_add(struct config_parse *parse, const struct config_at *at,
                const struct config_entry *entry);
void config_add_listen(struct config_parse *parse, const struct config_at *at,
                       const char *text);
void config_add_cors(struct config_parse *parse, const struct config_at *at,
                     const char *text);

/* ---- config_sign.c ---- */

void config_add_sibling(struct config_parse *parse, const struct config_at *at,
                        const char *text);
/* The file that manifest_key names, read. */
void config_load_key(struct config_parse *parse, const struct config_at *at,
                     const char *file);
void config_release_sign(struct config *config);

/* ---- config_access.c ---- */

/* The section "access"; one --access. */
void config_take_access(struct config_parse *parse, const struct config_at *at,
                        json_t *map);
void config_add_access(struct config_parse *parse, const struct config_at *at,
                       const char *text);

/* ---- config_mirrors.c ---- */

/* One text of a list. */
void config_add_text(struct config_parse *parse, const struct config_at *at,
                     enum config_texts_kind kind, const char *text);
/* A row of the section "mirrors"; at is its name.  One --mirror. */
void config_take_mirror(struct config_parse *parse, const struct config_at *at,
                        json_t *row);
void config_add_mirror(struct config_parse *parse, const struct config_at *at,
                       const char *text);
/* Is it good, all else being known? */
void config_check_mirror(struct config_parse *parse, const struct config_at *at,
                         const struct config_entry *entry);
void config_mirrors_release(struct config_mirrors *mirrors);

/* ---- config_file.c ---- */

/* "an object", for mistakes. */
const char *config_type_name(const json_t *value);
/* The same place, one key deeper. */
struct config_at config_under(const struct config_at *at, const char *key);
/* Borrowed; NULL: it is no text, which is told. */
const char *config_text_of(struct config_parse *parse,
                           const struct config_at *at, json_t *value);

/* A file that a reload will read again, so that the sandbox lets it: its place
 * in parse->files, from 1; 0 without memory. */
size_t config_add_file(struct config_parse *parse, const char *file);
/* All that a file says. */
void config_take_file(struct config_parse *parse, const char *file);
/* What an origin or a secret is, against what is there: a folder, a URL, a file
 * that can be read.  Opens no pipe, asks no network. */
void config_check_value(struct config_parse *parse, const struct config_at *at,
                        enum config_section section, const char *value);
/* An http(s) URL without user, query and fragment; else it is told. */
bool config_is_url(struct config_parse *parse, const struct config_at *at,
                   const char *text);
/* The entries among one another: names, and what images refer to. */
void config_check(struct config_parse *parse);

#endif
