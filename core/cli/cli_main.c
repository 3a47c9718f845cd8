/* SPDX-License-Identifier: Apache-2.0 */
/* platter: the stack on the command line, here or through a gateway.
 *
 * Without --gateway the specs and files are the user's own, opened with the
 * user's own rights; what an image names is confined all the same. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "stack/json_memory.h"
#include "util/log.h"

static const char usage_text[] =
    "usage: platter COMMAND [OPTIONS] SPEC\n"
    "\n"
    "  info SPEC         what the image is: layers, sizes, format\n"
    "  map SPEC          where data, zeros and holes lie\n"
    "  members SPEC      the files of an archive\n"
    "  partitions SPEC   the partition table, and what file systems there are\n"
    "  snapshots SPEC    the snapshots inside an image\n"
    "  check SPEC        are the image's own tables sound\n"
    "  checksum SPEC     digest of the guest disk\n"
    "  manifest SPEC     its root: the disk's identity, whatever wraps it\n"
    "  read SPEC         bytes of the guest disk to standard output\n"
    "  convert SPEC OUT  the guest disk as a raw, sparse file\n"
    "  compare A B       are two guest disks the same\n"
    "  index SPEC        the random-access index of a compressed source\n"
    "  bench SPEC        how fast it reads\n"
    "  plugins           the drivers that are loaded\n"
    "  token             a new token for a gateway, and what it configures\n"
    "  mirror ...        images of elsewhere that a gateway keeps, see below\n"
    "  sign REF          a URL of a gateway that opens one disk for a while\n"
    "\n"
    "SPEC is a path, a URL, or a stack, guest side first:\n"
    "  qcow2:tar{member=box.img}:gzip:https://host/x.box\n"
    "With --gateway URL it is a reference of that gateway: ORIGIN/PATH.\n"
    "\n"
    "Which disk:\n"
    "  --member NAME              which file of an archive\n"
    "  --partition N              one partition as a disk\n"
    "  --snapshot ID|NAME         the disk of an internal snapshot\n"
    "  --vmstate                  (read) the snapshot's VM state instead\n"
    "  --layers A,B               these layers, guest side first, no probing\n"
    "  -f FORMAT                  as qemu-img: raw, or what must be found\n"
    "  --secret-file NAME=FILE    a key of an encrypted image (repeat)\n"
    "  --secret NAME[,NAME]       which of them; default: all\n"
    "Which part, and how:\n"
    "  --offset N, --length N     (read, map) bytes; suffixes k M G T\n"
    "  --context dirty:NAME       (map) a persistent bitmap\n"
    "  --algorithm sha256|sha512  (checksum)\n"
    "  --block-size N             (checksum) ovirt-imageio's block hash\n"
    "  --format bmap|rauc|zsync|caibx, --groups, --leaves   (manifest)\n"
    "  -o FILE                    (manifest) in place of standard output\n"
    "  -O raw                     (convert) the format to write\n"
    "  --resume                   (convert) go on with what a run has left\n"
    "  --verify                   (convert) compare digests at the end\n"
    "  -s, --strict               (compare) sizes must be equal as well\n"
    "  --show                     (index) build nothing\n"
    "  --export FILE, --import FILE   (index) to and from other hosts\n"
    "  --index-format platter|gztool|indexed_gzip   (index) of --export\n"
    "  --record                   (index) have a gateway record what is read\n"
    "                             first, for --time S seconds (300)\n"
    "  --trace FILE               (index) fetch that, or with --replay send "
    "it\n"
    "  --replay                   (index) have the gateway read it ahead\n"
    "  --pattern sequential|random|strided, --size N, --count N, --time S\n"
    "                             (bench) default: random, 64k, 10000\n"
    "  --threads N                reads at a time (convert, compare, read: 4;\n"
    "                             bench: 1)\n"
    "Where and what else:\n"
    "  --gateway URL              ask a platterd\n"
    "  --headers FILE             header fields for it: a token\n"
    "  --ca FILE                  the authorities of its certificate, in PEM\n"
    "  --certificate FILE         ours for it, with its key, in PEM\n"
    "  --signing-key NAME=FILE    (sign) the key, by its name there\n"
    "  --expires SPAN             (sign) 90s, 15m, 12h, 30d; default 1h\n"
    "  --route disk|raw|info|...  (sign) what of it; default disk\n"
    "  --json, --output=json|human   print JSON\n"
    "  --plugin-path DIRS         further folders with drivers\n"
    "  --state DIR                keep indexes between runs\n"
    "  --cache-size N             memory for decoded data (default 256M)\n"
    "  --force                    (read) write to a terminal\n"
    "  --quiet                    no progress\n"
    "  --verbose                  say what is opened and closed\n"
    "  --help, --version\n";

/* Apart: a text has 4095 characters at most (C17 5.2.4.1). */
static const char exits[] =
    "\n"
    "Exit: 0 done, 1 failed, 2 wrong usage, 3 several disks: name one, 130\n"
    "stopped by a signal.\n"
    "check: 0 sound, 1 could not check, 2 corruptions, 3 leaks only.\n"
    "compare: 0 the same, 1 different, 2 could not compare.\n";

static void tell_usage(FILE *to)
{
    (void)fputs(usage_text, to);
    (void)fputs(cli_mirror_usage, to);
    (void)fputs(exits, to);
}

static const struct command {
    const char *name;
    int (*run)(const struct command_run *);
    int n_args; /* -1: it looks by itself */
    const char *needs;
} commands[] = {{"info", cmd_info, 1, "one SPEC is needed"},
                {"map", cmd_map, 1, "one SPEC is needed"},
                {"members", cmd_members, 1, "one SPEC is needed"},
                {"partitions", cmd_partitions, 1, "one SPEC is needed"},
                {"snapshots", cmd_snapshots, 1, "one SPEC is needed"},
                {"check", cmd_check, 1, "one SPEC is needed"},
                {"checksum", cmd_checksum, 1, "one SPEC is needed"},
                {"manifest", cmd_manifest, 1, "one SPEC is needed"},
                {"read", cmd_read, 1, "one SPEC is needed"},
                {"convert", cmd_convert, 2, "a SPEC and a file are needed"},
                {"compare", cmd_compare, 2, "two SPECs are needed"},
                {"index", cmd_index, 1, "one SPEC is needed"},
                {"bench", cmd_bench, 1, "one SPEC is needed"},
                {"plugins", cmd_plugins, 0, "this command takes no SPEC"},
                {"token", cmd_token, 0, "this command takes no SPEC"},
                {"sign", cmd_sign, 1, "one ORIGIN/PATH is needed"},
                {"mirror", cmd_mirror, -1, NULL}};

enum {
    OPT_OFFSET = 256,
    OPT_LENGTH,
    OPT_JSON,
    OPT_OUTPUT,
    OPT_MEMBER,
    OPT_SNAPSHOT,
    OPT_PARTITION,
    OPT_SECRET,
    OPT_SECRET_FILE,
    OPT_VM_STATE,
    OPT_CONTEXT,
    OPT_LAYERS,
    OPT_PLUGINS,
    OPT_STATE,
    OPT_CACHE,
    OPT_FORCE,
    OPT_QUIET,
    OPT_VERBOSE,
    OPT_GATEWAY,
    OPT_ALGORITHM,
    OPT_BLOCK_SIZE,
    OPT_RESUME,
    OPT_VERIFY,
    OPT_SHOW,
    OPT_EXPORT,
    OPT_IMPORT,
    OPT_INDEX_FORMAT,
    OPT_TRACE,
    OPT_RECORD,
    OPT_REPLAY,
    OPT_PATTERN,
    OPT_SIZE,
    OPT_COUNT,
    OPT_TIME,
    OPT_THREADS,
    OPT_SIGNING_KEY,
    OPT_FORMAT,
    OPT_GROUPS,
    OPT_LEAVES,
    OPT_HEADERS,
    OPT_CA,
    OPT_CERTIFICATE,
    OPT_EXPIRES,
    OPT_ROUTE,
    OPT_FOLLOW,
    OPT_BANDWIDTH,
    OPT_PRIORITY,
    OPT_SCHEDULE,
    OPT_FETCH,
    OPT_SIGNED,
    OPT_WAIT,
    OPT_WATCH,
    OPT_NO_TRACE,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"offset", required_argument, NULL, OPT_OFFSET},
    {"length", required_argument, NULL, OPT_LENGTH},
    {"json", no_argument, NULL, OPT_JSON},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"member", required_argument, NULL, OPT_MEMBER},
    {"snapshot", required_argument, NULL, OPT_SNAPSHOT},
    {"partition", required_argument, NULL, OPT_PARTITION},
    {"secret", required_argument, NULL, OPT_SECRET},
    {"secret-file", required_argument, NULL, OPT_SECRET_FILE},
    {"vmstate", no_argument, NULL, OPT_VM_STATE},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"layers", required_argument, NULL, OPT_LAYERS},
    {"plugin-path", required_argument, NULL, OPT_PLUGINS},
    {"state", required_argument, NULL, OPT_STATE},
    {"cache-size", required_argument, NULL, OPT_CACHE},
    {"force", no_argument, NULL, OPT_FORCE},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"gateway", required_argument, NULL, OPT_GATEWAY},
    {"algorithm", required_argument, NULL, OPT_ALGORITHM},
    {"block-size", required_argument, NULL, OPT_BLOCK_SIZE},
    {"resume", no_argument, NULL, OPT_RESUME},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"strict", no_argument, NULL, 's'},
    {"show", no_argument, NULL, OPT_SHOW},
    {"export", required_argument, NULL, OPT_EXPORT},
    {"import", required_argument, NULL, OPT_IMPORT},
    {"index-format", required_argument, NULL, OPT_INDEX_FORMAT},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"record", no_argument, NULL, OPT_RECORD},
    {"replay", no_argument, NULL, OPT_REPLAY},
    {"pattern", required_argument, NULL, OPT_PATTERN},
    {"size", required_argument, NULL, OPT_SIZE},
    {"count", required_argument, NULL, OPT_COUNT},
    {"time", required_argument, NULL, OPT_TIME},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"signing-key", required_argument, NULL, OPT_SIGNING_KEY},
    {"format", required_argument, NULL, OPT_FORMAT},
    {"groups", no_argument, NULL, OPT_GROUPS},
    {"leaves", no_argument, NULL, OPT_LEAVES},
    {"headers", required_argument, NULL, OPT_HEADERS},
    {"ca", required_argument, NULL, OPT_CA},
    {"certificate", required_argument, NULL, OPT_CERTIFICATE},
    {"expires", required_argument, NULL, OPT_EXPIRES},
    {"route", required_argument, NULL, OPT_ROUTE},
    {"follow", required_argument, NULL, OPT_FOLLOW},
    {"bandwidth", required_argument, NULL, OPT_BANDWIDTH},
    {"priority", required_argument, NULL, OPT_PRIORITY},
    {"schedule", required_argument, NULL, OPT_SCHEDULE},
    {"fetch", required_argument, NULL, OPT_FETCH},
    {"signed", no_argument, NULL, OPT_SIGNED},
    {"wait", no_argument, NULL, OPT_WAIT},
    {"watch", no_argument, NULL, OPT_WATCH},
    {"no-trace", no_argument, NULL, OPT_NO_TRACE},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0}};

/* -1, or the exit code with the reason told. */
static int take_size(const char *value, uint64_t *out, const char *why)
{
    return plt_parse_bytes(value, out) ? -1 : cli_usage(why);
}

static int take_small(const char *value, unsigned most, unsigned *out,
                      const char *why)
{
    uint64_t v;

    if (!plt_parse_bytes(value, &v) || !v || v > most)
        return cli_usage(why);
    *out = (unsigned)v;
    return -1;
}

static int take_secret_file(struct options *o, const char *value)
{
    if (o->n_secret_files == CLI_SECRET_FILES || !strchr(value, '='))
        return cli_usage("--secret-file takes NAME=FILE, 16 times at most");
    o->secret_files[o->n_secret_files++] = value;
    return -1;
}

static int take_output(struct options *o, const char *value)
{
    if (*value == '/') { /* of mirror, which is not known yet */
        o->output_path = value;
        return -1;
    }
    o->is_json = strcmp(value, "json") == 0;
    return o->is_json || strcmp(value, "human") == 0
               ? -1
               : cli_usage("--output is json or human");
}

/* Options that are a text or a switch.  NULL: none of them. */
static const char **text_slot(struct options *o, int c)
{
    switch (c) {
    case OPT_CONTEXT:
        return &o->context;
    case OPT_PLUGINS:
        return &o->plugin_path;
    case OPT_STATE:
        return &o->state_dir;
    case OPT_GATEWAY:
        return &o->gateway;
    case OPT_ALGORITHM:
        return &o->algorithm;
    case OPT_EXPORT:
        return &o->export_file;
    case OPT_IMPORT:
        return &o->import_file;
    case OPT_INDEX_FORMAT:
        return &o->index_format;
    case OPT_TRACE:
        return &o->trace_file;
    case OPT_PATTERN:
        return &o->pattern;
    case OPT_SIGNING_KEY:
        return &o->signing_key;
    case OPT_HEADERS:
        return &o->credentials[PLT_CREDENTIAL_HEADERS];
    case OPT_CA:
        return &o->credentials[PLT_CREDENTIAL_CA];
    case OPT_CERTIFICATE:
        return &o->credentials[PLT_CREDENTIAL_CLIENT];
    case OPT_FORMAT:
        return &o->manifest_form;
    case 'o':
        return &o->out_file;
    case OPT_EXPIRES:
        return &o->expires;
    case OPT_ROUTE:
        return &o->route;
    case OPT_FOLLOW:
        return &o->follow;
    case OPT_BANDWIDTH:
        return &o->bandwidth;
    case OPT_PRIORITY:
        return &o->priority;
    case OPT_SCHEDULE:
        return &o->schedule;
    case OPT_FETCH:
        return &o->fetch;
    case 'f':
        return &o->format;
    case 'O':
        return &o->out_format;
    default:
        return NULL;
    }
}

static bool *switch_slot(struct options *o, int c)
{
    switch (c) {
    case OPT_JSON:
        return &o->is_json;
    case OPT_VM_STATE:
        return &o->is_vm_state;
    case OPT_FORCE:
        return &o->is_forced;
    case OPT_QUIET:
        return &o->is_quiet;
    case OPT_VERBOSE:
        return &o->is_verbose;
    case OPT_RESUME:
        return &o->is_resumed;
    case OPT_VERIFY:
        return &o->is_verified;
    case OPT_SHOW:
        return &o->is_shown;
    case OPT_GROUPS:
        return &o->is_groups;
    case OPT_LEAVES:
        return &o->is_leaves;
    case OPT_RECORD:
        return &o->is_recorded;
    case OPT_REPLAY:
        return &o->is_replayed;
    case OPT_SIGNED:
        return &o->is_signed;
    case OPT_WAIT:
        return &o->is_waited_for;
    case OPT_WATCH:
        return &o->is_watched;
    case OPT_NO_TRACE:
        return &o->has_no_trace;
    case 's':
        return &o->is_strict;
    case 'c':
        return &o->is_compressed;
    default:
        return NULL;
    }
}

static char **selector_slot(struct options *o, int c)
{
    switch (c) {
    case OPT_MEMBER:
        return &o->selectors.member;
    case OPT_SNAPSHOT:
        return &o->selectors.snapshot;
    case OPT_PARTITION:
        return &o->selectors.partition;
    case OPT_SECRET:
        return &o->selectors.secret;
    case OPT_LAYERS:
        return &o->selectors.layers;
    default:
        return NULL;
    }
}

/* -1: go on; else the exit code. */
static int take_option(struct options *o, int c, char *value)
{
    if (text_slot(o, c)) {
        *text_slot(o, c) = value;
        return -1;
    }
    if (switch_slot(o, c)) {
        *switch_slot(o, c) = true;
        return -1;
    }
    if (selector_slot(o, c)) {
        *selector_slot(o, c) = value;
        return -1;
    }
    switch (c) {
    case OPT_OFFSET:
        return take_size(value, &o->offset, "bad --offset");
    case OPT_LENGTH:
        o->has_length = true;
        return take_size(value, &o->length, "bad --length");
    case OPT_CACHE:
        if (!plt_parse_bytes(value, &o->cache) || o->cache < 1 << 20)
            return cli_usage("--cache-size is 1M or more");
        return -1;
    case OPT_BLOCK_SIZE:
        return take_size(value, &o->block_size, "bad --block-size");
    case OPT_SIZE:
        return take_size(value, &o->size, "bad --size");
    case OPT_COUNT:
        return take_size(value, &o->count, "bad --count");
    case OPT_TIME:
        return take_small(value, 86400, &o->seconds, "bad --time");
    case OPT_THREADS:
        return take_small(value, 64, &o->threads, "--threads is 1 to 64");
    case OPT_OUTPUT:
        return take_output(o, value);
    case OPT_SECRET_FILE:
        return take_secret_file(o, value);
    case 'p': /* qemu-img's; progress is shown anyway */
        return -1;
    case OPT_HELP:
        tell_usage(stdout);
        return 0;
    case OPT_VERSION:
        (void)puts("platter " PLATTER_VERSION);
        return 0;
    default:
        return cli_usage("unknown option, or one without its value");
    }
}

/* Load them, and name all when none was named. */
static enum plt_status add_secrets(struct images *images, struct options *o,
                                   struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    size_t used = 0;

    for (size_t i = 0; i < o->n_secret_files && st == PLT_OK; i++) {
        const char *const eq = strchr(o->secret_files[i], '=');
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s",
                       (int)(eq - o->secret_files[i]), o->secret_files[i]);
        st = images_add_secret(images, name, eq + 1, err);
        used += (size_t)snprintf(o->secret_names + used,
                                 sizeof(o->secret_names) - used, "%s%s",
                                 used ? "," : "", name);
    }
    if (used && !o->selectors.secret)
        o->selectors.secret = o->secret_names;
    return st;
}

/* The gateway as an origin of its own, when there is something to show it. */
static enum plt_status add_gateway(struct images *images,
                                   const struct options *o,
                                   struct plt_error *err)
{
    const size_t n = strlen(o->gateway);
    enum plt_status st = PLT_OK;
    bool has_any = false;

    for (unsigned k = 0; k < 3; k++)
        has_any = has_any || o->credentials[k];
    if (!has_any)
        return PLT_OK;
    char *const base = malloc(n + 2);
    if (!base)
        return plt_fail(err, PLT_NOMEM, "the gateway");
    (void)snprintf(base, n + 2, "%s%s", o->gateway,
                   n && o->gateway[n - 1] == '/' ? "" : "/");
    st = images_add_origin(images, "gateway", base, err);
    free(base);
    for (unsigned k = 0; k < 3 && st == PLT_OK; k++) {
        if (o->credentials[k])
            st =
                images_set_credential(images, "gateway", (enum plt_credential)k,
                                      o->credentials[k], err);
    }
    return st;
}

static int run_command(const struct command *c, struct options *o, char **args)
{
    const struct images_config config = {.plugin_path = o->plugin_path,
                                         .state_dir = o->state_dir,
                                         .cache_bytes = o->cache,
                                         .is_local = true};
    struct command_run run = {.o = o, .args = args};
    struct plt_error err = {.at = PLT_AT_NONE};

    if (images_new(&config, &run.images, &err) != PLT_OK)
        return cli_failed("start", &err);
    int code = 0;
    if (add_secrets(run.images, o, &err) != PLT_OK)
        code = cli_failed("secrets", &err);
    if (!code && o->gateway && add_gateway(run.images, o, &err) != PLT_OK)
        code = cli_failed(o->gateway, &err);
    o->images = run.images;
    if (!code && o->gateway && c->n_args == 1)
        code = gateway_check_format(o, args[0]);
    if (!code)
        code = c->run(&run);
    images_free(run.images);
    return code;
}

int main(int argc, char **argv)
{
    struct options o = {.cache = UINT64_C(256) << 20};
    const struct command *command = NULL;
    int c;

    cli_catch_signals();
    while ((c = getopt_long(argc, argv, "f:o:O:psc", long_options, NULL)) !=
           -1) {
        const int code = take_option(&o, c, optarg);
        if (code >= 0)
            return code;
    }
    if (optind >= argc) {
        tell_usage(stderr);
        return EXIT_USAGE;
    }
    const char *const name = argv[optind++];
    if (strcmp(name, "help") == 0) {
        tell_usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0)
            command = &commands[i];
    }
    if (!command)
        return cli_usage("unknown command");
    if (o.is_vm_state && command->run != cmd_read)
        return cli_usage("--vmstate is of read");
    if (o.is_vm_state && (o.gateway || !o.selectors.snapshot))
        return cli_usage(o.gateway ? "a gateway serves no VM states"
                                   : "--vmstate needs --snapshot");
    if (command->n_args >= 0 && argc - optind != command->n_args)
        return cli_usage(command->needs);
    if (o.output_path && command->run != cmd_mirror)
        return cli_usage("--output is json or human");
    if (command->run == cmd_mirror && !o.gateway)
        o.gateway = "http://127.0.0.1:8080";
    /* A driver that was refused is no news to `info`, but is here. */
    log_set_level(o.is_verbose                  ? LOG_INFO
                  : command->run == cmd_plugins ? LOG_WARN
                                                : LOG_ERROR);
    if (o.format && strcmp(o.format, "raw") == 0 && !o.selectors.layers) {
        static char none[] = "";
        o.selectors.layers = none;
        o.format = NULL;
    }
    json_memory_watch();
    const int code = run_command(command, &o, &argv[optind]);
    /* What was printed may lack what jansson had no memory for. */
    return code || !json_memory_lost() ? code : cli_complain("out of memory");
}
