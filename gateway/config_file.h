/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file, and how mistakes are told.  Main thread only. */
#ifndef GATEWAY_CONFIG_FILE_H
#define GATEWAY_CONFIG_FILE_H

#include <jansson.h>

#include "config.h"

/* One reading of flags and file. */
struct config_parse {
    struct config *config;
    bool is_log;      /* mistakes are lines of the log */
    unsigned n_bad;   /* mistakes so far */
    const char *file; /* the last one; or NULL */
    char *text;       /* its text; new */
};

/* A mistake: of a flag when path is NULL, else of the file's value at path
 * (n keys, config_where.h). */
__attribute__((format(printf, 4, 5))) void
config_bad(struct config_parse *parse, const char *const *path, size_t n,
           const char *fmt, ...);

/* One setting by its name in the file; path as in config_bad. */
void config_set(struct config_parse *parse, const char *key, const char *value,
                const char *const *path, size_t n);
/* Texts are copied; selectors and labels are stolen. */
void config_add(struct config_parse *parse, struct config_list *list,
                const char *name, const char *value, char *selectors,
                char *labels);
/* A text onto listen or cors. */
void config_add_listen(struct config_parse *parse, const char *text,
                       const char *const *path, size_t n);
void config_add_cors(struct config_parse *parse, const char *text,
                     const char *const *path, size_t n);

/* Names, places and references, as far as they can be looked at without
 * opening an image: where mistakes are told by value, not by line, the value's
 * path is `list`.`name`. */
void config_check_names(struct config_parse *parse);

void config_take_file(struct config_parse *parse, const char *file);

#endif
