/* SPDX-License-Identifier: Apache-2.0 */
/* platter, the command: what its files share.  One thread, but for the readers
 * of image_pump(). */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "stack/image.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CHOICE = 3, EXIT_STOPPED = 130 };
enum { EXIT_CORRUPT = 2, EXIT_LEAKS = 3 };          /* of check */
enum { EXIT_DIFFERENT = 1, EXIT_NOT_COMPARED = 2 }; /* of compare */
enum { CLI_SECRET_FILES = 16, CLI_PIECE = 1 << 20 };

struct options {
    const char *plugin_path, *state_dir, *format, *gateway;
    struct reference selectors; /* borrowed texts */
    uint64_t offset, length, cache, block_size, size, count;
    unsigned threads, seconds;
    bool has_length, is_json, is_forced, is_verbose, is_vm_state, is_quiet;
    bool is_resumed, is_verified, is_shown, is_strict, is_compressed;
    const char *context, *algorithm, *pattern, *out_format;
    const char *export_file, *import_file, *index_format, *trace_file;
    bool is_recorded, is_replayed;
    /* of mirror; NULL: not given */
    const char *follow, *bandwidth, *priority, *schedule, *fetch, *output_path;
    bool is_signed, is_waited_for, is_watched, has_no_trace;
    /* what the gateway is shown: files, by enum plt_credential; or NULL */
    const char *credentials[3];
    const struct images *images;          /* of the run: knows what they hold */
    const char *manifest_form, *out_file; /* of manifest */
    bool is_groups, is_leaves;
    const char *signing_key, *expires, *route;  /* of sign */
    const char *secret_files[CLI_SECRET_FILES]; /* NAME=FILE */
    size_t n_secret_files;
    char secret_names[CLI_SECRET_FILES * 64]; /* all of them, with commas */
};

/* What a command works on.  args: n of them, as the command's row says. */
struct command_run {
    struct images *images;
    const struct options *o;
    char **args;
};

/* ---- cli_util.c ---- */

/* Set by SIGINT and SIGTERM: whoever waits gives up. */
bool cli_is_stopped(void);
void cli_catch_signals(void);
/* Without a deadline; cancelled by a signal. */
struct plt_io cli_io(void);
/* "platter: WHAT: LAYER: TEXT" to standard error.  EXIT_FAILED, or
 * EXIT_STOPPED after a signal. */
int cli_failed(const char *what, const struct plt_error *err);
__attribute__((format(printf, 1, 2))) int cli_complain(const char *fmt, ...);
int cli_usage(const char *why);
/* Print and free; the exit code. */
int cli_print_json(json_t *value);
/* 0, or EXIT_FAILED when standard output could not take it all. */
int cli_flush(void);
/* "1.5 GiB" */
void cli_size_text(uint64_t bytes, char out[32]);
json_int_t cli_number(json_t *row, const char *key);
bool cli_is_set(json_t *row, const char *key);
const char *cli_text(json_t *row, const char *key); /* "" when not there */
/* Escape sequences where standard output (or error) is a terminal and NO_COLOR
 * is not set; else "". */
const char *cli_bold(void);
const char *cli_red(void);
const char *cli_plain(void);

/* ---- cli_progress.c: after two seconds, to standard error ---- */

struct progress {
    const char *what;
    uint64_t start_ns, last_ns, first, last_done;
    bool is_off, has_shown;
};
/* first: what was done in an earlier run and does not count for the rate. */
void progress_begin(struct progress *p, const char *what, uint64_t first,
                    bool is_off);
void progress_show(struct progress *p, uint64_t done, uint64_t all);
void progress_end(struct progress *p);
enum { PROGRESS_BAR = 24 };
/* "######......", share 0 to 1; "1:05", "2:00:00". */
void progress_bar(double share, char out[PROGRESS_BAR + 1]);
void progress_time(double seconds, char out[24]);

/* ---- cli_gateway.c: platterd by HTTP ---- */

/* GET gateway/v1/KIND/SPEC with selectors and `query` ("a=b&c=d" or NULL).  new
 * in *out.  0, or an exit code with the reason told. */
int gateway_json(const struct options *o, const char *kind, const char *spec,
                 const char *query, json_t **out);
/* The same, any bytes: new (free) in *data. */
int gateway_bytes(const struct options *o, const char *kind, const char *spec,
                  const char *query, char **data, size_t *len);
/* POST of a JSON text; as gateway_json. */
int gateway_post(const struct options *o, const char *kind, const char *spec,
                 const char *body, json_t **out);
/* GET, POST (with a body) or DELETE of gateway/v1/PATH, which is coded as in a
 * URL.  what: in messages.  *out: new, NULL where there is no content.  0, or
 * an exit code with the reason told. */
int gateway_call(const struct options *o, const char *method, const char *path,
                 const char *what, const char *body, json_t **out);
/* Server-sent events of gateway/v1/PATH: each "progress" to on_event (borrowed,
 * may be NULL), the last one new in *out; as gateway_call. */
int gateway_watch(const struct options *o, const char *path, const char *what,
                  void (*on_event)(void *cookie, json_t *value), void *cookie,
                  json_t **out);
/* With -f: 0 when the disk there is of that format. */
int gateway_check_format(const struct options *o, const char *spec);
/* GET gateway/v1/KIND/SPEC of what takes long, with its progress as it comes;
 * as gateway_json.  key: a text that the answer must have. */
int gateway_events(const struct options *o, const char *kind, const char *spec,
                   const char *query, const char *key, json_t **out);
/* GET gateway/v1/manifest/SPEC/LIST, LIST "" for none; as gateway_bytes. */
int gateway_manifest(const struct options *o, const char *spec,
                     const char *list, const char *query, char **data,
                     size_t *len);
/* SPEC with selectors as it stands in a path; new, NULL without memory. */
char *gateway_path(const struct options *o, const char *spec);
/* The stack spec of /disk/SPEC with selectors; new, NULL without memory. */
char *gateway_disk_spec(const struct options *o, const char *spec);

/* ---- cli_target.c: a disk, here or behind a gateway ---- */

struct target {
    struct image *image; /* with a gateway: over its /disk */
    const char *spec;
    const struct options *o;
    char etag[48]; /* of the guest disk, with its quotes */
};

/* how: IMAGE_*.  0, or an exit code with the reason told. */
int cli_open(struct images *images, const char *spec, const struct options *o,
             unsigned how, struct image **image);
int target_open(struct target *t, struct images *images, const char *spec,
                const struct options *o);
void target_close(struct target *t);
uint64_t target_size(const struct target *t);
/* Hand [off, off+len) on in order, read in parallel; zeros as far as anybody
 * knows them are not read or fetched. */
PLT_MUST_USE enum plt_status target_pump(struct target *t,
                                         const struct image_pump *pump,
                                         struct plt_error *err);
/* The span that --offset and --length mean; 0 or an exit code. */
int target_span(const struct target *t, uint64_t *off, uint64_t *len);

/* ---- Commands: the exit code ---- */

int cmd_info(const struct command_run *run);
int cmd_map(const struct command_run *run);
int cmd_members(const struct command_run *run);
int cmd_partitions(const struct command_run *run);
int cmd_snapshots(const struct command_run *run);
int cmd_check(const struct command_run *run);
int cmd_plugins(const struct command_run *run);
/* cli_access.c */
int cmd_token(const struct command_run *run);
int cmd_sign(const struct command_run *run);
int cmd_checksum(const struct command_run *run);
int cmd_manifest(const struct command_run *run);
int cmd_read(const struct command_run *run);
int cmd_convert(const struct command_run *run);
int cmd_compare(const struct command_run *run);
int cmd_index(const struct command_run *run);
/* cli_trace.c: index with --trace, --record or --replay. */
int cli_trace(const struct command_run *run);
/* cli_mirror_show.c: rows of /v1/mirrors, for a person. */
struct mirror_watch {
    const struct options *o;
    uint64_t last_ns; /* when a line was printed */
    bool has_line;    /* one that is written over stands there */
    char state[16];
};
void mirror_show(json_t *row);
void mirror_show_list(json_t *rows);
/* How far it is, in one line to standard error; cookie: struct mirror_watch. */
void mirror_show_line(void *cookie, json_t *row);

/* cli_mirror.c: args end with a NULL. */
int cmd_mirror(const struct command_run *run);
extern const char cli_mirror_usage[];
int cmd_bench(const struct command_run *run);

#endif
