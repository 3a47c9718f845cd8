/* SPDX-License-Identifier: Apache-2.0 */
/* Flags and the configuration file: one struct, the same names in both.
 * Threads: made before any starts, read only afterwards. */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/log.h"

enum { CONFIG_MAX_LISTEN = 16, CONFIG_MAX_CORS = 16 };

struct config_named {
    char *name, *value; /* images: ORIGIN/PATH; secrets: a file's path */
    char *selectors;    /* query text; images only, or NULL */
    char *labels;       /* a JSON object as text; images only, or NULL */
};

struct config_list {
    struct config_named *v; /* new */
    size_t n;
};

struct config {
    char *listen[CONFIG_MAX_LISTEN];
    size_t n_listen;
    char *cors[CONFIG_MAX_CORS]; /* "*" or scheme://host[:port] */
    size_t n_cors;
    struct config_list origins, images, secrets;
    char *state_dir, *plugin_path, *pid_file;
    uint64_t cache_bytes;
    unsigned deadline_s, workers, max_waiting, drain_s, max_open, max_ranges;
    unsigned max_connections, revalidate_ms;
    bool has_revalidate; /* 0 means at every opening */
    bool is_check;       /* --check-config */
    enum log_level log_level;
    struct config *older; /* of a server's list */
};

/* From argv.  0: start; 1: done (help was printed), exit 0; 2: mistakes were
 * printed, exit 2.  is_reload: mistakes go to the log.  Resets getopt. */
int config_parse(struct config *config, int argc, char **argv, bool is_reload);
void config_release(struct config *config);

#endif
