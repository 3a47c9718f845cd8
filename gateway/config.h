/* SPDX-License-Identifier: Apache-2.0 */
/* Flags and the configuration file: one struct, the same names in both
 * (platterd.json(5)).
 *
 * Every mistake is told, not only the first, with its file, line and key; a
 * configuration is taken as a whole or not at all.  What is in the struct has
 * been checked as far as can be without a network: names are well formed and
 * taken once, numbers are in range, folders and files are there, an image's
 * source lies in an origin.
 * Threads: made and released by one; read only in between, by any. */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "access.h"
#include "mirror/mirror.h"
#include "util/log.h"

enum { CONFIG_CREDENTIALS = 3 };
enum { CONFIG_MAX_SIBLINGS = 64 };
enum { CONFIG_MAX_LISTEN = 16, CONFIG_MAX_CORS = 16, CONFIG_MAX_SECRETS = 256 };

enum sandbox { SANDBOX_AUTO, SANDBOX_REQUIRE, SANDBOX_OFF };

struct config_named {
    char *name, *value; /* origins: a URL or a folder; images: ORIGIN/PATH, as
                           in a URL; secrets: a file's path; new */
    char *selectors;    /* query text; images only, or NULL; new */
    char *labels;       /* a JSON object as text: of an image its labels, or
                           NULL; of a mirror all of its entry; new */
};

/* In the order of the flags and the file.  At most POLICY_MAX_ORIGINS,
 * CATALOGUE_MAX and CONFIG_MAX_SECRETS. */
struct config_list {
    struct config_named *v; /* new; NULL: none */
    size_t n;
};

/* Lists of texts about mirrors, in the order of the flags and the file. */
enum config_texts_kind {
    CONFIG_SEEDS,   /* references, or ORIGIN/PATHs */
    CONFIG_OUTPUTS, /* absolute paths; folders with their last slash */
    CONFIG_KEYS, /* minisign public keys: the text, also of what was a file */
    CONFIG_TEXTS_KINDS
};
enum { CONFIG_MAX_TEXTS = 64 };

struct config_texts {
    char *v[CONFIG_MAX_TEXTS + 1]; /* new; NULL behind the last */
    size_t n;
};

/* mirror/mirror.h says what they mean. */
struct config_mirrors {
    struct config_texts texts[CONFIG_TEXTS_KINDS];
    char *advertise;      /* a URL; new, or NULL */
    uint64_t store_limit; /* bytes; 0: none */
    uint64_t bandwidth;   /* bytes a second; 0: no limit */
    uint64_t scrub_rate;  /* bytes a second; 0: no scrub */
    enum store_compression compression;
};

struct config {
    char *listen[CONFIG_MAX_LISTEN]; /* as listen.h; at least one; new */
    size_t n_listen;
    char *cors[CONFIG_MAX_CORS]; /* "*" or scheme://host[:port]; new */
    size_t n_cors;
    char *siblings[CONFIG_MAX_SIBLINGS]; /* URLs (edges_url_ok); new */
    size_t n_siblings;
    struct config_list origins, images, secrets;
    struct config_list files;     /* that were read: their paths as values */
    struct config_list addresses; /* of origins by name: blocks (address.h) */
    /* of origins by name: files, by enum plt_credential (driver.h) */
    struct config_list credentials[CONFIG_CREDENTIALS];
    struct config_list mirrored; /* mirrors that shall be there; their sources
                                    as values */
    struct config_mirrors mirrors;
    struct access_list access;
    char *state_dir, *plugin_path, *pid_file; /* new, or NULL */
    /* PEM files; new, or NULL.  Certificate and key together. */
    char *tls_certificate, *tls_key, *tls_client_ca;
    char *manifest_key;      /* a file, of minisign's; new, or NULL */
    char *manifest_key_text; /* what is in it: wiped; new, or NULL */
    uint64_t cache_bytes;
    uint64_t disk_cache_bytes; /* 0: none */
    uint64_t readahead_bytes;  /* ahead of one stream; 0: none */
    unsigned deadline_s, workers, max_waiting, drain_s, max_open, max_ranges;
    unsigned max_connections, revalidate_ms;
    /* Budgets of clients (budgets.h). */
    uint64_t client_memory, min_rate;    /* bytes; bytes a second, 0: none */
    unsigned max_connections_per_client; /* 0: three quarters of all */
    unsigned max_waiting_per_client, client_timeout_s;
    unsigned sidecars;   /* 1: indexes beside sources are looked for */
    bool has_revalidate; /* it was given: revalidate_ms 0 is "every time" */
    bool is_check;       /* --check-config */
    enum log_level log_level;
    enum sandbox sandbox; /* sandbox.h; auto: where the kernel has it */
    struct config *older; /* of a server's list; not looked at here */
};

/* From argv and the files that it names.  0: start; 1: done (help, version, or
 * --check-config found nothing), exit 0; 2: mistakes were printed, exit 2.
 * is_reload: mistakes go to the log instead, event=config_mistake with file,
 * line, key, text.  argv may be permuted (getopt), its texts stay.
 * *config is written in any case, for config_release.  Not reentrant, as
 * getopt is not. */
int config_parse(struct config *config, int argc, char **argv, bool is_reload);
/* What mirrors are given; all texts borrowed from config, images NULL. */
struct mirrors_config config_mirrors_given(const struct config *config);
/* Contents; *config is then empty.  Not `older`. */
void config_release(struct config *config);

#endif
