/* SPDX-License-Identifier: Apache-2.0 */
/* Flags, and what flags and file have in common: the table of single settings,
 * the lists, and the telling of mistakes. */
#include "config.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/option.h>

#include "config_file.h"
#include "config_where.h"
#include "listen.h"
#include "range.h"
#include "stack/catalogue.h"
#include "cache/disk_cache.h"
#include "stack/policy.h"
#include "stack/readahead.h"
#include "tls.h"

/* A sanitizer looks into its own process from outside at the end. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_DEFAULT SANDBOX_OFF
#else
#define SANDBOX_DEFAULT SANDBOX_AUTO
#endif

enum {
    REVALIDATE_MS = 5000,
    MAX_CACHE_G = 1 << 20, /* 1 PiB: more is a slip of the hand */
    MAX_PORT = 65535
};

/* In two: a compiler need not take a longer text. */
static const char usage_text[] =
    "usage: platterd [OPTIONS]\n"
    "\n"
    "  --origin NAME=BASE      an http(s) URL prefix or a folder (repeat)\n"
    "  --allow-address NAME=BLOCK[,BLOCK]   private addresses that an origin\n"
    "                          may be at: 10.1.0.0/16, fd00::1 (once each)\n"
    "  --origin-headers NAME=FILE   header fields that an origin is sent:\n"
    "                          tokens, cookies (once each)\n"
    "  --origin-ca NAME=FILE   the authorities of its certificate, in PEM\n"
    "  --origin-certificate NAME=FILE   ours for it, with its key, in PEM\n"
    "  --listen [https://]ADDR:PORT, unix:PATH, [https://]systemd[:NAME]\n"
    "                          default 127.0.0.1:8080, or the sockets that\n"
    "                          systemd has opened (repeat)\n"
    "  --tls-certificate FILE, --tls-key FILE   of https, in PEM; read again "
    "on\n"
    "                          SIGHUP\n"
    "  --tls-client-ca FILE    ask clients for certificates of these "
    "authorities\n"
    "  --access NAME=SCOPE[,SCOPE][:token:SHA256 | :certificate:NAME |\n"
    "                          :signing-key:FILE]   who may read, metadata,\n"
    "                          mirror, admin; NAME anonymous or local: "
    "without\n"
    "                          showing anything (repeat)\n"
    "  --image NAME=ORIGIN/PATH[?SELECTORS]   a named image (repeat)\n"
    "  --secret NAME=FILE      a key for encrypted images (repeat)\n"
    "  --cors ORIGIN           web pages of scheme://host[:port], or *, may "
    "read\n"
    "                          answers (repeat)\n"
    "  --manifest-key FILE     minisign's secret key: manifests are signed\n"
    "  --sibling URL           another gateway, told to edges (repeat)\n"
    "  --config FILE           JSON, the same names; flags are added to it\n"
    "  --check-config          say what is wrong with all of it, and exit\n"
    "  --state-dir DIR, --state DIR   keep indexes, boot traces and\n"
    "                          registered images\n"
    "  --plugin-path DIRS      further folders with drivers\n"
    "  --cache-size N          memory for decoded data (default 256M)\n"
    "  --disk-cache-size N     of the state folder, for what was fetched or\n"
    "                          decoded, 64M or more (default 0: none)\n"
    "  --readahead N           bytes ahead of who reads in order (default 4M; "
    "0:\n"
    "                          none)\n";

static const char usage_more[] =
    "  --mirror NAME=SOURCE    keep this image here: a /disk/ URL of a "
    "gateway,\n"
    "                          or ORIGIN/PATH (repeat)\n"
    "  --seed ORIGIN/PATH      an image that mirrors take what they can from\n"
    "                          (repeat)\n"
    "  --output PATH           a file, a device, or a folder with its last "
    "slash\n"
    "                          that mirrors may write (repeat)\n"
    "  --mirror-key KEY|FILE   minisign public key of mirrors' manifests "
    "(repeat)\n"
    "  --advertise URL         of this gateway, told to upstreams\n"
    "  --store-size N          of the state folder, for mirrors (default 0: "
    "no\n"
    "                          limit)\n"
    "  --store-compression none|zstd   (default none)\n"
    "  --mirror-bandwidth N    bytes a second of all mirrors (default 0: no\n"
    "                          limit)\n"
    "  --scrub-rate N          bytes a second of mirrors read again at rest\n"
    "                          (default 1M; 0: none)\n"
    "  --deadline SECONDS      of one wait for a source (default 30)\n"
    "  --workers N             threads for requests that wait (default 256)\n"
    "  --max-waiting-per-image N   (default 64)\n"
    "  --max-open N            images kept open (default 256)\n"
    "  --max-connections N     (default 4096)\n"
    "  --max-connections-per-client N   (default 0: three quarters of\n"
    "                          --max-connections)\n"
    "  --max-waiting-per-client N   requests that wait (default 512)\n"
    "  --client-memory N       for answers that are not sent yet (default "
    "256M)\n"
    "  --client-timeout SECONDS   for a request to come, and for an answer to\n"
    "                          move (default 60)\n"
    "  --min-rate N            bytes a second that a reader takes at least\n"
    "                          (default 1k; 0: any)\n"
    "  --max-ranges N          ranges in one request (default 64)\n"
    "  --revalidate SECONDS    compare with the source so often (default 5;\n"
    "                          0: at every request)\n"
    "  --sidecars 0            look for no index beside a compressed source\n"
    "  --drain SECONDS         at the end, wait for running answers (default "
    "10)\n"
    "  --log-level error|warn|info|debug\n"
    "  --sandbox auto|require|off   Landlock and seccomp (default auto)\n"
    "  --pid-file FILE\n"
    "  --help, --version\n"
    "\n"
    "SIGHUP: read flags and file again; connections stay.  SIGTERM: end when\n"
    "running answers have ended.\n"
    "Exit: 0 stopped as asked, 1 cannot start, 2 wrong usage.\n";

/* ---- Mistakes ---- */

static void clean(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

/* "origins.gce.url", "listen[1]", or "--image debian". */
static void format_key(const struct config_at *at, char *out, size_t cap)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < at->n && used < cap; i++) {
        const char *const between = !i                      ? ""
                                    : !at->file             ? " "
                                    : at->path[i][0] == '[' ? ""
                                                            : ".";
        const int n =
            snprintf(out + used, cap - used, "%s%s", between, at->path[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    clean(out);
}

/* line 0: it has none; key "": it is about all of the file. */
static void log_mistake(const char *file, unsigned line, const char *key,
                        const char *why)
{
    struct log_line l;

    log_begin(&l, LOG_ERROR, "config_mistake");
    if (file)
        log_text(&l, "file", file);
    if (line)
        log_number(&l, "line", line);
    if (*key)
        log_text(&l, "key", key);
    log_text(&l, "text", why);
    log_end(&l);
}

static void print_mistake(const char *file, unsigned line, const char *key,
                          const char *why)
{
    char number[16] = "";

    if (line)
        (void)snprintf(number, sizeof(number), ":%u", line);
    (void)fprintf(stderr, "platterd: %s%s%s%s%s%s\n", file ? file : "", number,
                  file ? ": " : "", key, *key ? ": " : "", why);
}

__attribute__((format(printf, 4, 0))) static void
tell(struct config_parse *p, const struct config_at *at, unsigned line,
     const char *fmt, va_list ap)
{
    const char *const file = at->file ? p->files[at->file - 1].name : NULL;
    char why[512], key[512];

    (void)vsnprintf(why, sizeof(why), fmt, ap);
    clean(why);
    format_key(at, key, sizeof(key));
    p->n_bad++;
    (p->is_log ? log_mistake : print_mistake)(file, line, key, why);
}

void config_bad(struct config_parse *p, const struct config_at *at,
                const char *fmt, ...)
{
    const char *const text = at->file ? p->files[at->file - 1].text : NULL;
    va_list ap;

    va_start(ap, fmt);
    tell(p, at, text ? config_where(text, at->path, at->n) : 0, fmt, ap);
    va_end(ap);
}

void config_bad_line(struct config_parse *p, const struct config_at *at,
                     unsigned line, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell(p, at, line, fmt, ap);
    va_end(ap);
}

static void no_memory(struct config_parse *p)
{
    config_bad(p, &(struct config_at){.n = 1, .path = {"configuration"}},
               "out of memory");
}

char *config_copy(struct config_parse *p, const char *text)
{
    char *const copy = strdup(text);
    if (!copy)
        no_memory(p);
    return copy;
}

/* ---- Lists ---- */

static void named_release(struct config_named *named)
{
    free(named->name);
    free(named->value);
    free(named->selectors);
    free(named->labels);
}

void config_add(struct config_parse *p, const struct config_at *at,
                const struct config_entry *entry)
{
    static const struct {
        const char *what;
        size_t most;
    } rows[] = {{"origins", POLICY_MAX_ORIGINS},
                {"images", CATALOGUE_MAX},
                {"secrets", CONFIG_MAX_SECRETS},
                {"mirrors", MIRRORS_MAX},
                {"lists of addresses", POLICY_MAX_ORIGINS},
                {"files of header fields", POLICY_MAX_ORIGINS},
                {"files of authorities", POLICY_MAX_ORIGINS},
                {"certificates", POLICY_MAX_ORIGINS}};
    struct config_named named = entry->named;
    struct config_entry *const grown =
        named.name && named.value
            ? realloc(p->entries, (p->n_entries + 1) * sizeof(*grown))
            : NULL;

    if (!grown) {
        no_memory(p);
        named_release(&named);
        return;
    }
    p->entries = grown;
    grown[p->n_entries++] = *entry;
    /* Said once; the names behind still count, for what refers to them. */
    if (p->n_of[entry->section]++ == rows[entry->section].most)
        config_bad(p, at, "more than %zu %s", rows[entry->section].most,
                   rows[entry->section].what);
}

/* ":PORT" and no more; "" too where the port may be left out. */
static bool port_ok(const char *text, bool is_optional)
{
    const size_t n = *text ? strspn(text + 1, "0123456789") : 0;

    if (!*text)
        return is_optional;
    return *text == ':' && n && n <= 5 && !text[n + 1] &&
           strtoul(text + 1, NULL, 10) <= MAX_PORT;
}

void config_add_listen(struct config_parse *p, const struct config_at *at,
                       const char *text)
{
    struct config *const c = p->config;
    struct listen_spec spec;

    if (!listen_parse(text, &spec))
        config_bad(p, at,
                   "takes [https://]ADDR:PORT, the address a number, "
                   "unix:/PATH, or systemd[:NAME]: %s",
                   text);
    else if (c->n_listen == CONFIG_MAX_LISTEN)
        config_bad(p, at, "more than %d addresses", CONFIG_MAX_LISTEN);
    else if ((c->listen[c->n_listen] = config_copy(p, text)))
        c->n_listen++;
}

/* RFC 6454 6.2, as browsers send it: nothing else would ever compare equal. */
static bool cors_ok(const char *text)
{
    static const char scheme[] = "abcdefghijklmnopqrstuvwxyz0123456789.-+";
    static const char name[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
    static const char v6[] = "0123456789abcdef:.";
    const size_t head = strspn(text, scheme);

    if (strcmp(text, "*") == 0)
        return true;
    if (*text < 'a' || *text > 'z' || strncmp(text + head, "://", 3) != 0)
        return false;
    const char *const host = text + head + 3;
    const bool is_v6 = *host == '[';
    const size_t n = strspn(host + is_v6, is_v6 ? v6 : name);
    if (!n || (is_v6 && host[n + 1] != ']'))
        return false;
    return port_ok(host + n + (is_v6 ? 2 : 0), true);
}

void config_add_cors(struct config_parse *p, const struct config_at *at,
                     const char *text)
{
    struct config *const c = p->config;

    if (!cors_ok(text))
        config_bad(p, at,
                   "takes * or scheme://host[:port], lower case, no path: %s",
                   text);
    else if (c->n_cors == CONFIG_MAX_CORS)
        config_bad(p, at, "more than %d origins of pages", CONFIG_MAX_CORS);
    else if ((c->cors[c->n_cors] = config_copy(p, text)))
        c->n_cors++;
}

/* ---- Single settings ---- */

enum setting_type { TEXT, LEVEL, SANDBOX, COMPRESSION, URL, SIZE, NUMBER };

struct setting {
    const char *key;
    enum setting_type type;
    size_t field;         /* offset in struct config */
    uint64_t least, most; /* of a SIZE or NUMBER */
    bool is_none_good;    /* 0 is good as well */
};

#define FIELD(x) offsetof(struct config, x)

static const struct setting settings[] = {
    {"state_dir", TEXT, FIELD(state_dir), 0, 0, false},
    {"plugin_path", TEXT, FIELD(plugin_path), 0, 0, false},
    {"pid_file", TEXT, FIELD(pid_file), 0, 0, false},
    {"tls_certificate", TEXT, FIELD(tls_certificate), 0, 0, false},
    {"tls_key", TEXT, FIELD(tls_key), 0, 0, false},
    {"tls_client_ca", TEXT, FIELD(tls_client_ca), 0, 0, false},
    {"manifest_key", TEXT, FIELD(manifest_key), 0, 0, false},
    {"log_level", LEVEL, FIELD(log_level), 0, 0, false},
    {"sandbox", SANDBOX, FIELD(sandbox), 0, 0, false},
    {"store_compression", COMPRESSION, FIELD(mirrors.compression), 0, 0, false},
    {"advertise", URL, FIELD(mirrors.advertise), 0, 0, false},
    {"store_size", SIZE, FIELD(mirrors.store_limit), (uint64_t)64 << 20,
     (uint64_t)MAX_CACHE_G << 30, true},
    {"mirror_bandwidth", SIZE, FIELD(mirrors.bandwidth), 1024,
     (uint64_t)MAX_CACHE_G << 30, true},
    {"scrub_rate", SIZE, FIELD(mirrors.scrub_rate), 1024, 1 << 30, true},
    {"cache_size", SIZE, FIELD(cache_bytes), 1 << 20,
     (uint64_t)MAX_CACHE_G << 30, false},
    {"disk_cache_size", SIZE, FIELD(disk_cache_bytes), DISK_CACHE_LEAST,
     DISK_CACHE_MOST, true},
    {"readahead", SIZE, FIELD(readahead_bytes), READAHEAD_LEAST, READAHEAD_MOST,
     true},
    {"deadline", NUMBER, FIELD(deadline_s), 1, 3600, false},
    {"workers", NUMBER, FIELD(workers), 1, 4096, false},
    {"max_waiting_per_image", NUMBER, FIELD(max_waiting), 1, 65536, false},
    {"max_open", NUMBER, FIELD(max_open), 1, 4096, false},
    {"max_connections", NUMBER, FIELD(max_connections), 1, 65536, false},
    {"max_connections_per_client", NUMBER, FIELD(max_connections_per_client), 0,
     65536, false},
    {"max_waiting_per_client", NUMBER, FIELD(max_waiting_per_client), 1, 65536,
     false},
    {"client_memory", SIZE, FIELD(client_memory), 4 << 20,
     (uint64_t)MAX_CACHE_G << 30, false},
    {"client_timeout", NUMBER, FIELD(client_timeout_s), 1, 3600, false},
    {"min_rate", SIZE, FIELD(min_rate), 0, 1 << 20, false},
    {"max_ranges", NUMBER, FIELD(max_ranges), 1, RANGE_MOST, false},
    {"drain", NUMBER, FIELD(drain_s), 0, 3600, false},
    {"sidecars", NUMBER, FIELD(sidecars), 0, 1, false},
    {"revalidate", NUMBER, FIELD(revalidate_ms), 0, 86400, false},
};

static void set_text(struct config_parse *p, const struct config_at *at,
                     const struct setting *s, const char *text)
{
    char **const slot = (char **)(void *)((char *)p->config + s->field);

    if (!*text) {
        config_bad(p, at, "is empty");
        return;
    }
    free(*slot);
    *slot = config_copy(p, text);
    if (s->field == FIELD(manifest_key))
        config_load_key(p, at, text);
}

static void set_sandbox(struct config_parse *p, const struct config_at *at,
                        const char *text)
{
    static const char *const names[] = {[SANDBOX_AUTO] = "auto",
                                        [SANDBOX_REQUIRE] = "require",
                                        [SANDBOX_OFF] = "off"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            p->config->sandbox = (enum sandbox)i;
            return;
        }
    }
    config_bad(p, at, "must be auto, require or off, not %s", text);
}

static void set_compression(struct config_parse *p, const struct config_at *at,
                            const char *text)
{
    static const char *const names[] = {
        [STORE_PLAIN] = "none", [STORE_ZSTD] = "zstd"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            p->config->mirrors.compression = (enum store_compression)i;
            return;
        }
    }
    config_bad(p, at, "must be none or zstd, not %s", text);
}

static void set_level(struct config_parse *p, const struct config_at *at,
                      const char *text)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            p->config->log_level = (enum log_level)i;
            return;
        }
    }
    config_bad(p, at, "must be error, warn, info or debug, not %s", text);
}

static void set_number(struct config_parse *p, const struct config_at *at,
                       const struct setting *s, const char *text)
{
    char *const slot = (char *)p->config + s->field;
    uint64_t v;

    if (!plt_parse_bytes(text, &v) || v > s->most ||
        (v < s->least && (v || !s->is_none_good))) {
        config_bad(p, at, "must be %s%llu to %llu%s, not %s",
                   s->is_none_good ? "0, or " : "",
                   (unsigned long long)s->least, (unsigned long long)s->most,
                   s->type == SIZE ? " bytes" : "", text);
        return;
    }
    const unsigned narrow = (unsigned)v;
    if (s->type == SIZE)
        memcpy(slot, &v, sizeof(v));
    else
        memcpy(slot, &narrow, sizeof(narrow));
    if (s->field == FIELD(revalidate_ms)) {
        p->config->revalidate_ms = narrow * 1000;
        p->config->has_revalidate = true;
    }
}

static const struct setting *find_setting(const char *key)
{
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        if (strcmp(key, settings[i].key) == 0)
            return &settings[i];
    }
    return NULL;
}

bool config_knows(const char *key, bool *takes_number)
{
    const struct setting *const s = find_setting(key);

    *takes_number = s && (s->type == SIZE || s->type == NUMBER);
    return s != NULL;
}

void config_set(struct config_parse *p, const struct config_at *at,
                const char *key, const char *value)
{
    const struct setting *const s = find_setting(key);

    if (!s)
        config_bad(p, at, "unknown key");
    else if (s->type == TEXT)
        set_text(p, at, s, value);
    else if (s->type == LEVEL)
        set_level(p, at, value);
    else if (s->type == SANDBOX)
        set_sandbox(p, at, value);
    else if (s->type == COMPRESSION)
        set_compression(p, at, value);
    else if (s->type == URL && !config_is_url(p, at, value))
        return; /* told */
    else if (s->type == URL)
        set_text(p, at, s, value);
    else
        set_number(p, at, s, value);
}

/* ---- Flags ---- */

static const struct option options[] = {
    {"origin", required_argument, NULL, 'o'},
    {"allow-address", required_argument, NULL, 'a'},
    {"listen", required_argument, NULL, 'l'},
    {"image", required_argument, NULL, 'i'},
    {"secret", required_argument, NULL, 's'},
    {"cors", required_argument, NULL, 'x'},
    {"sibling", required_argument, NULL, 'b'},
    {"access", required_argument, NULL, 'A'},
    {"origin-headers", required_argument, NULL, 'H'},
    {"origin-ca", required_argument, NULL, 'C'},
    {"origin-certificate", required_argument, NULL, 'E'},
    {"seed", required_argument, NULL, 'S'},
    {"output", required_argument, NULL, 'O'},
    {"mirror-key", required_argument, NULL, 'K'},
    {"mirror", required_argument, NULL, 'M'},
    {"config", required_argument, NULL, 'c'},
    {"check-config", no_argument, NULL, 'k'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},
    /* The rest are single settings, 0. */
    {"state", required_argument, NULL, 0},
    {"state-dir", required_argument, NULL, 0},
    {"plugin-path", required_argument, NULL, 0},
    {"cache-size", required_argument, NULL, 0},
    {"disk-cache-size", required_argument, NULL, 0},
    {"readahead", required_argument, NULL, 0},
    {"store-size", required_argument, NULL, 0},
    {"store-compression", required_argument, NULL, 0},
    {"mirror-bandwidth", required_argument, NULL, 0},
    {"scrub-rate", required_argument, NULL, 0},
    {"advertise", required_argument, NULL, 0},
    {"deadline", required_argument, NULL, 0},
    {"workers", required_argument, NULL, 0},
    {"max-waiting-per-image", required_argument, NULL, 0},
    {"max-open", required_argument, NULL, 0},
    {"max-connections", required_argument, NULL, 0},
    {"max-connections-per-client", required_argument, NULL, 0},
    {"max-waiting-per-client", required_argument, NULL, 0},
    {"client-memory", required_argument, NULL, 0},
    {"client-timeout", required_argument, NULL, 0},
    {"min-rate", required_argument, NULL, 0},
    {"max-ranges", required_argument, NULL, 0},
    {"revalidate", required_argument, NULL, 0},
    {"drain", required_argument, NULL, 0},
    {"sidecars", required_argument, NULL, 0},
    {"log-level", required_argument, NULL, 0},
    {"sandbox", required_argument, NULL, 0},
    {"pid-file", required_argument, NULL, 0},
    {"tls-certificate", required_argument, NULL, 0},
    {"tls-key", required_argument, NULL, 0},
    {"tls-client-ca", required_argument, NULL, 0},
    {"manifest-key", required_argument, NULL, 0},
    {NULL, 0, NULL, 0}};

/* A flag is the setting of its name, '-' for '_'. */
static void take_setting(struct config_parse *p, const struct config_at *at,
                         const char *flag)
{
    char key[32];

    (void)snprintf(key, sizeof(key), "%s",
                   strcmp(flag, "state") == 0 ? "state_dir" : flag);
    for (char *c = key; *c; c++)
        *c = *c == '-' ? '_' : *c;
    config_set(p, at, key, optarg);
}

/* NAME=VALUE.  The text is not told: a URL may have a password in it. */
static void take_pair(struct config_parse *p, const struct config_at *at,
                      enum config_section section, const char *text)
{
    static const char *const forms[] = {
        "NAME=BASE",
        "NAME=ORIGIN/PATH[?SELECTORS]",
        "NAME=FILE",
        "NAME=SOURCE",
        "NAME=ADDRESS[/BITS][,ADDRESS[/BITS]...]",
        "NAME=FILE",
        "NAME=FILE",
        "NAME=FILE"};
    const char *const eq = strchr(text, '=');
    const char *const query =
        section == CONFIG_IMAGES && eq ? strchr(eq, '?') : NULL;

    /* a URL with a '=' in it, the name forgotten, is not told either */
    if (!eq || eq == text || !eq[1] || query == eq + 1 ||
        strcspn(text, "/:@") < (size_t)(eq - text)) {
        config_bad(p, at, "takes %s", forms[section]);
        return;
    }
    struct config_entry e = {
        .section = section,
        .named = {.name = strndup(text, (size_t)(eq - text)),
                  .value = query ? strndup(eq + 1, (size_t)(query - eq - 1))
                                 : strdup(eq + 1),
                  .selectors = query ? config_copy(p, query + 1) : NULL}};
    const struct config_at deep = {
        .n = 2, .path = {at->path[0], e.named.name ? e.named.name : ""}};
    const unsigned n_bad = p->n_bad;
    if (e.named.value)
        config_check_value(p, &deep, section, e.named.value);
    e.is_bad = p->n_bad != n_bad;
    config_add(p, &deep, &e);
}

static void take_flag(struct config_parse *p, int o, const char *flag)
{
    char text[40];
    const struct config_at at = {.n = 1, .path = {text}};

    (void)snprintf(text, sizeof(text), "--%s", flag);
    if (o == 'o')
        take_pair(p, &at, CONFIG_ORIGINS, optarg);
    else if (o == 'i')
        take_pair(p, &at, CONFIG_IMAGES, optarg);
    else if (o == 's')
        take_pair(p, &at, CONFIG_SECRETS, optarg);
    else if (o == 'a')
        take_pair(p, &at, CONFIG_ADDRESSES, optarg);
    else if (o == 'l')
        config_add_listen(p, &at, optarg);
    else if (o == 'x')
        config_add_cors(p, &at, optarg);
    else if (o == 'b')
        config_add_sibling(p, &at, optarg);
    else if (o == 'H')
        take_pair(p, &at, CONFIG_HEADERS, optarg);
    else if (o == 'C')
        take_pair(p, &at, CONFIG_CA, optarg);
    else if (o == 'E')
        take_pair(p, &at, CONFIG_CLIENT, optarg);
    else if (o == 'A')
        config_add_access(p, &at, optarg);
    else if (o == 'S')
        config_add_text(p, &at, CONFIG_SEEDS, optarg);
    else if (o == 'O')
        config_add_text(p, &at, CONFIG_OUTPUTS, optarg);
    else if (o == 'K')
        config_add_text(p, &at, CONFIG_KEYS, optarg);
    else if (o == 'M')
        config_add_mirror(p, &at, optarg);
    else if (o == 'c')
        config_take_file(p, optarg);
    else if (o == 'k')
        p->config->is_check = true;
    else
        take_setting(p, &at, flag);
}

/* getopt could not: it is told, and the others are looked at all the same. */
static void tell_unknown(struct config_parse *p, int o, const char *flag)
{
    char text[64];
    const struct config_at at = {.n = 1, .path = {text}};

    (void)snprintf(text, sizeof(text), "%.*s", (int)strcspn(flag, "="), flag);
    config_bad(p, &at, "%s",
               o == ':' ? "takes a value"
               : optopt ? "unknown flag, or one that takes no value"
                        : "unknown flag, or short for several");
}

/* False: help or version was all that was asked. */
static bool take_flags(struct config_parse *p, int argc, char **argv)
{
    int o, i = 0;

    optind = 0; /* glibc: from the start, also the second time */
    opterr = 0;
    while ((o = getopt_long(argc, argv, ":", options, &i)) != -1) {
        if (o == 'h' || o == 'v') {
            (void)fputs(o == 'h' ? usage_text
                                 : "platterd " PLATTER_VERSION "\n",
                        stdout);
            (void)fputs(o == 'h' ? usage_more : "", stdout);
            return false;
        }
        if (o == '?' || o == ':')
            tell_unknown(p, o, argv[optind - 1]);
        else
            take_flag(p, o, options[i].name);
    }
    for (; optind < argc; optind++)
        config_bad(p, &(struct config_at){.n = 1, .path = {argv[optind]}},
                   "what is this? Every option begins with --");
    return true;
}

/* ---- All of it ---- */

/* Entries become the configuration's lists; they own their texts no more. */
static bool fill_list(struct config_parse *p, enum config_section section,
                      struct config_list *list)
{
    const size_t n = p->n_of[section];

    list->v = n ? calloc(n, sizeof(*list->v)) : NULL;
    if (n && !list->v) {
        no_memory(p);
        return false;
    }
    for (size_t i = 0; i < p->n_entries; i++) {
        struct config_entry *const e = &p->entries[i];
        if (e->section != section)
            continue;
        list->v[list->n++] = e->named;
        e->named = (struct config_named){.name = NULL};
    }
    return true;
}

static bool fill_files(struct config_parse *p, struct config_list *list)
{
    list->v = p->n_files ? calloc(p->n_files, sizeof(*list->v)) : NULL;
    for (size_t i = 0; list->v && i < p->n_files; i++) {
        list->v[i].value = config_copy(p, p->files[i].name);
        list->n++;
        if (!list->v[i].value)
            return false;
    }
    if (list->v || !p->n_files)
        return true;
    no_memory(p);
    return false;
}

/* What several settings say together. */
static void check_tls(struct config_parse *p)
{
    const struct config *const c = p->config;
    const struct config_at at = {.n = 1, .path = {"tls_certificate"}};
    const bool has_both = c->tls_certificate && c->tls_key;
    struct plt_error err;

    for (size_t i = 0; i < c->n_listen; i++) {
        struct listen_spec spec;
        if (listen_parse(c->listen[i], &spec) && spec.is_tls && !has_both)
            config_bad(p, &at, "%s needs tls_certificate and tls_key",
                       c->listen[i]);
    }
    if (!c->tls_certificate != !c->tls_key)
        config_bad(p, &at, "tls_certificate and tls_key belong together");
    else if (c->tls_client_ca && !has_both)
        config_bad(p, &at, "tls_client_ca needs tls_certificate and tls_key");
    else if (tls_load(c, true, &err) != PLT_OK)
        config_bad(p, &at, "%s", err.text);
}

static void fill(struct config_parse *p)
{
    struct config *const c = p->config;

    if (!c->n_listen &&
        (c->listen[0] = config_copy(p, listen_has_passed() ? "systemd"
                                                           : "127.0.0.1:8080")))
        c->n_listen = 1;
    (void)(fill_list(p, CONFIG_ORIGINS, &c->origins) &&
           fill_list(p, CONFIG_IMAGES, &c->images) &&
           fill_list(p, CONFIG_SECRETS, &c->secrets) &&
           fill_list(p, CONFIG_MIRRORS, &c->mirrored) &&
           fill_list(p, CONFIG_ADDRESSES, &c->addresses) &&
           fill_list(p, CONFIG_HEADERS, &c->credentials[0]) &&
           fill_list(p, CONFIG_CA, &c->credentials[1]) &&
           fill_list(p, CONFIG_CLIENT, &c->credentials[2]) &&
           fill_files(p, &c->files));
}

static void parse_release(struct config_parse *p)
{
    for (size_t i = 0; i < p->n_entries; i++)
        named_release(&p->entries[i].named);
    for (size_t i = 0; i < p->n_files; i++) {
        free(p->files[i].name);
        free(p->files[i].text);
    }
    free(p->entries);
    free(p->files);
}

int config_parse(struct config *c, int argc, char **argv, bool is_reload)
{
    struct config_parse p = {.config = c, .is_log = is_reload};

    *c = (struct config){.cache_bytes = UINT64_C(256) << 20,
                         .readahead_bytes = UINT64_C(4) << 20,
                         .deadline_s = 30,
                         .workers = 256,
                         .max_waiting = 64,
                         .max_open = 256,
                         .max_connections = 4096,
                         .client_memory = UINT64_C(256) << 20,
                         .max_waiting_per_client = 512,
                         .client_timeout_s = 60,
                         .min_rate = 1024,
                         .mirrors.scrub_rate = 1 << 20,
                         .max_ranges = 64,
                         .revalidate_ms = REVALIDATE_MS,
                         .sidecars = 1,
                         .drain_s = 10,
                         .log_level = LOG_INFO,
                         .sandbox = SANDBOX_DEFAULT};
    const bool goes_on = take_flags(&p, argc, argv);
    if (goes_on) {
        config_check(&p);
        check_tls(&p);
    }
    if (goes_on && !p.n_bad)
        fill(&p);
    parse_release(&p);
    if (!goes_on)
        return 1;
    if (p.n_bad)
        return 2;
    if (c->is_check)
        (void)puts("platterd: configuration is good");
    return c->is_check ? 1 : 0;
}

static void list_release(struct config_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        named_release(&list->v[i]);
    free(list->v);
}

void config_release(struct config *c)
{
    struct config *const older = c->older;

    for (size_t i = 0; i < c->n_listen; i++)
        free(c->listen[i]);
    for (size_t i = 0; i < c->n_cors; i++)
        free(c->cors[i]);
    list_release(&c->origins);
    list_release(&c->images);
    list_release(&c->secrets);
    list_release(&c->mirrored);
    config_mirrors_release(&c->mirrors);
    list_release(&c->addresses);
    for (size_t i = 0; i < CONFIG_CREDENTIALS; i++)
        list_release(&c->credentials[i]);
    list_release(&c->files);
    free(c->state_dir);
    free(c->plugin_path);
    free(c->pid_file);
    free(c->tls_certificate);
    free(c->tls_key);
    free(c->tls_client_ca);
    config_release_sign(c);
    for (size_t i = 0; i < c->access.n; i++)
        access_row_release(&c->access.v[i]);
    free(c->access.v);
    *c = (struct config){.older = older};
}
