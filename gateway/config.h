/* SPDX-License-Identifier: Apache-2.0 */
/* Flags and the configuration file: one struct, the same names in both.
 * Threads: made before any starts, read only afterwards. */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/log.h"

enum { CONFIG_MAX_LISTEN = 16, CONFIG_MAX_NAMED = 1024 };

struct config_named {
    char *name, *value, *selectors; /* selectors: query text, images only */
};

struct config {
    char *listen[CONFIG_MAX_LISTEN];
    size_t n_listen;
    struct config_named origins[CONFIG_MAX_NAMED], images[CONFIG_MAX_NAMED],
        secrets[CONFIG_MAX_NAMED]; /* secrets: value is a file's path */
    size_t n_origins, n_images, n_secrets;
    char *state_dir, *plugin_path, *pid_file;
    uint64_t cache_bytes;
    unsigned deadline_s, workers, max_waiting, drain_s, max_open;
    unsigned max_connections, revalidate_ms;
    enum log_level log_level;
};

/* From argv.  0: start; 1: done (help was printed), exit 0; 2: mistakes were
 * printed, exit 2. */
int config_parse(struct config *config, int argc, char **argv);
void config_release(struct config *config);

#endif
