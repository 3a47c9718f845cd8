/* SPDX-License-Identifier: Apache-2.0 */
/* Every mistake is reported, not only the first: who mends a file wants them
 * all.  Unknown keys are mistakes. */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/option.h>

#include "config_file.h"
#include "range.h"
#include "stack/catalogue.h"
#include "stack/policy.h"

enum { MAX_SECRETS = 256 };

static const char usage_text[] =
    "usage: platterd [OPTIONS]\n"
    "\n"
    "  --origin NAME=BASE      an http(s) URL prefix or a folder (repeat)\n"
    "  --listen ADDR:PORT      default 127.0.0.1:8080 (repeat)\n"
    "  --image NAME=ORIGIN/PATH[?SELECTORS]   a named image (repeat)\n"
    "  --secret NAME=FILE      a key for encrypted images (repeat)\n"
    "  --cors ORIGIN           web pages of scheme://host[:port], or *, may "
    "read\n"
    "                          answers (repeat)\n"
    "  --config FILE           JSON, the same names; flags are added to it\n"
    "  --check-config          say what is wrong with all of it, and exit\n"
    "  --state DIR             keep indexes and registered images\n"
    "  --plugin-path DIRS      further folders with drivers\n"
    "  --cache-size N          memory for decoded data (default 256M)\n"
    "  --deadline SECONDS      of one wait for a source (default 30)\n"
    "  --workers N             threads for requests that wait (default 256)\n"
    "  --max-waiting-per-image N   (default 64)\n"
    "  --max-open N            images kept open (default 256)\n"
    "  --max-connections N     (default 4096)\n"
    "  --max-ranges N          ranges in one request (default 64)\n"
    "  --revalidate SECONDS    compare with the source so often (default 5;\n"
    "                          0: at every request)\n"
    "  --drain SECONDS         at the end, wait for running answers (default "
    "10)\n"
    "  --log-level error|warn|info|debug\n"
    "  --pid-file FILE\n"
    "  --help, --version\n"
    "\n"
    "SIGHUP: read flags and file again; connections stay.  SIGTERM: end when\n"
    "running answers have ended.\n"
    "Exit: 0 stopped as asked, 1 cannot start, 2 wrong usage.\n";

/* ---- Lists ---- */

void config_add(struct config_parse *p, struct config_list *list,
                const char *name, const char *value, char *selectors,
                char *labels)
{
    struct config *const c = p->config;
    const char *const what = list == &c->origins  ? "origins"
                             : list == &c->images ? "images"
                                                  : "secrets";
    const size_t most = list == &c->origins  ? (size_t)POLICY_MAX_ORIGINS
                        : list == &c->images ? (size_t)CATALOGUE_MAX
                                             : (size_t)MAX_SECRETS;
    const char *const path[] = {what, name};
    const char *wrong = NULL;

    for (size_t i = 0; i < list->n && !wrong; i++) {
        if (strcmp(list->v[i].name, name) == 0)
            wrong = "named twice";
    }
    if (list->n == most)
        config_bad(p, path, 2, "more than %zu", most);
    else if (wrong)
        config_bad(p, path, 2, "%s", wrong);
    struct config_named *const grown =
        wrong || list->n == most
            ? NULL
            : realloc(list->v, (list->n + 1) * sizeof(*grown));
    if (!grown) {
        free(selectors);
        free(labels);
        return;
    }
    list->v = grown;
    grown[list->n++] = (struct config_named){.name = strdup(name),
                                             .value = strdup(value),
                                             .selectors = selectors,
                                             .labels = labels};
}

/* NAME=VALUE of a flag. */
static void add_pair(struct config_parse *p, struct config_list *list,
                     const char *flag, const char *text)
{
    const char *const eq = strchr(text, '=');
    const char *const query =
        list == &p->config->images && eq ? strchr(eq, '?') : NULL;

    if (!eq || eq == text || !eq[1]) {
        config_bad(p, NULL, 0, "--%s takes NAME=VALUE: %s", flag, text);
        return;
    }
    char *const name = strndup(text, (size_t)(eq - text));
    char *const value =
        query ? strndup(eq + 1, (size_t)(query - eq - 1)) : strdup(eq + 1);
    if (name && value)
        config_add(p, list, name, value, query ? strdup(query + 1) : NULL,
                   NULL);
    free(name);
    free(value);
}

void config_add_listen(struct config_parse *p, const char *text,
                       const char *const *path, size_t n)
{
    struct config *const c = p->config;

    if (c->n_listen == CONFIG_MAX_LISTEN)
        config_bad(p, path, n, "more than %d addresses", CONFIG_MAX_LISTEN);
    else if (!strrchr(text, ':'))
        config_bad(p, path, n, "listen takes ADDR:PORT: %s", text);
    else
        c->listen[c->n_listen++] = strdup(text);
}

void config_add_cors(struct config_parse *p, const char *text,
                     const char *const *path, size_t n)
{
    struct config *const c = p->config;
    const char *const host = strstr(text, "://");
    const bool is_origin =
        host && host > text && host[3] && !strpbrk(host + 3, "/?# \t\r\n,");

    if (c->n_cors == CONFIG_MAX_CORS)
        config_bad(p, path, n, "more than %d origins of pages",
                   CONFIG_MAX_CORS);
    else if (!is_origin && strcmp(text, "*") != 0)
        config_bad(p, path, n, "cors takes scheme://host[:port] or *: %s",
                   text);
    else
        c->cors[c->n_cors++] = strdup(text);
}

/* ---- Settings ---- */

struct setting {
    const char *key;
    enum { TEXT, LEVEL, SIZE, NUMBER } type;
    size_t field;         /* offset in struct config */
    uint64_t least, most; /* of a SIZE or NUMBER */
};

#define FIELD(x) offsetof(struct config, x)

static const struct setting settings[] = {
    {"state_dir", TEXT, FIELD(state_dir), 0, 0},
    {"plugin_path", TEXT, FIELD(plugin_path), 0, 0},
    {"pid_file", TEXT, FIELD(pid_file), 0, 0},
    {"log_level", LEVEL, FIELD(log_level), 0, 0},
    {"cache_size", SIZE, FIELD(cache_bytes), 1 << 20, UINT64_C(1) << 50},
    {"deadline", NUMBER, FIELD(deadline_s), 1, 3600},
    {"workers", NUMBER, FIELD(workers), 1, 4096},
    {"max_waiting_per_image", NUMBER, FIELD(max_waiting), 1, 65536},
    {"max_open", NUMBER, FIELD(max_open), 1, 4096},
    {"max_connections", NUMBER, FIELD(max_connections), 1, 65536},
    {"max_ranges", NUMBER, FIELD(max_ranges), 1, RANGE_MOST},
    {"drain", NUMBER, FIELD(drain_s), 0, 3600},
    {"revalidate", NUMBER, FIELD(revalidate_ms), 0, 86400},
};

static void set_level(struct config_parse *p, const char *text,
                      const char *const *path, size_t n)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            p->config->log_level = (enum log_level)i;
            return;
        }
    }
    config_bad(p, path, n, "log_level is error, warn, info or debug: %s", text);
}

static void set_number(struct config_parse *p, const struct setting *s,
                       const char *text, const char *const *path, size_t n)
{
    char *const base = (char *)p->config;
    uint64_t v;

    if (!plt_parse_bytes(text, &v) || v < s->least || v > s->most) {
        config_bad(p, path, n, "%s is %llu to %llu: %s", s->key,
                   (unsigned long long)s->least, (unsigned long long)s->most,
                   text);
        return;
    }
    if (s->type == SIZE)
        memcpy(base + s->field, &v, sizeof(v));
    else
        memcpy(base + s->field, &(unsigned){(unsigned)v}, sizeof(unsigned));
    if (s->field == FIELD(revalidate_ms)) {
        p->config->revalidate_ms *= 1000;
        p->config->has_revalidate = true;
    }
}

void config_set(struct config_parse *p, const char *key, const char *value,
                const char *const *path, size_t n)
{
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const struct setting *const s = &settings[i];
        if (strcmp(key, s->key) != 0)
            continue;
        if (s->type == TEXT) {
            char **const slot = (char **)(void *)((char *)p->config + s->field);
            free(*slot);
            *slot = strdup(value);
        } else if (s->type == LEVEL) {
            set_level(p, value, path, n);
        } else {
            set_number(p, s, value, path, n);
        }
        return;
    }
    config_bad(p, path, n, "unknown key");
}

/* ---- Flags ---- */

enum { OPT_SETTING = 256 };

static const struct option options[] = {
    {"origin", required_argument, NULL, 'o'},
    {"listen", required_argument, NULL, 'l'},
    {"image", required_argument, NULL, 'i'},
    {"secret", required_argument, NULL, 's'},
    {"cors", required_argument, NULL, 'x'},
    {"config", required_argument, NULL, 'c'},
    {"check-config", no_argument, NULL, 'k'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},
    {"state", required_argument, NULL, OPT_SETTING},
    {"state-dir", required_argument, NULL, OPT_SETTING},
    {"plugin-path", required_argument, NULL, OPT_SETTING},
    {"cache-size", required_argument, NULL, OPT_SETTING},
    {"deadline", required_argument, NULL, OPT_SETTING},
    {"workers", required_argument, NULL, OPT_SETTING},
    {"max-waiting-per-image", required_argument, NULL, OPT_SETTING},
    {"max-open", required_argument, NULL, OPT_SETTING},
    {"max-connections", required_argument, NULL, OPT_SETTING},
    {"max-ranges", required_argument, NULL, OPT_SETTING},
    {"revalidate", required_argument, NULL, OPT_SETTING},
    {"drain", required_argument, NULL, OPT_SETTING},
    {"log-level", required_argument, NULL, OPT_SETTING},
    {"pid-file", required_argument, NULL, OPT_SETTING},
    {NULL, 0, NULL, 0}};

/* A flag is the setting of its name, '-' for '_'. */
static void take_setting(struct config_parse *p, const char *flag,
                         const char *value)
{
    char key[32];

    (void)snprintf(key, sizeof(key), "%s",
                   strcmp(flag, "state") == 0 ? "state_dir" : flag);
    for (char *c = key; *c; c++)
        *c = *c == '-' ? '_' : *c;
    config_set(p, key, value, NULL, 0);
}

/* -1: go on; else config_parse's answer. */
static int take_flag(struct config_parse *p, int o, const char *flag)
{
    struct config *const c = p->config;

    switch (o) {
    case 'o':
        add_pair(p, &c->origins, flag, optarg);
        break;
    case 'i':
        add_pair(p, &c->images, flag, optarg);
        break;
    case 's':
        add_pair(p, &c->secrets, flag, optarg);
        break;
    case 'l':
        config_add_listen(p, optarg, NULL, 0);
        break;
    case 'x':
        config_add_cors(p, optarg, NULL, 0);
        break;
    case 'c':
        config_take_file(p, optarg);
        break;
    case 'k':
        c->is_check = true;
        break;
    case 'h':
        (void)fputs(usage_text, stdout);
        return 1;
    case 'v':
        (void)puts("platterd " PLATTER_VERSION);
        return 1;
    case '?':
        return 2;
    default:
        take_setting(p, flag, optarg);
        break;
    }
    return -1;
}

int config_parse(struct config *c, int argc, char **argv, bool is_reload)
{
    struct config_parse p = {.config = c, .is_log = is_reload};
    int o, index = 0, end = -1;

    *c = (struct config){.cache_bytes = UINT64_C(256) << 20,
                         .deadline_s = 30,
                         .workers = 256,
                         .max_waiting = 64,
                         .max_connections = 4096,
                         .max_ranges = 64,
                         .drain_s = 10,
                         .log_level = LOG_INFO};
    optind = 0; /* glibc: from the start, also the second time */
    while (end < 0 && (o = getopt_long(argc, argv, "", options, &index)) != -1)
        end = take_flag(&p, o, options[index].name);
    if (end < 0 && optind < argc)
        config_bad(&p, NULL, 0, "what is this: %s", argv[optind]);
    if (end < 0)
        config_check_names(&p);
    if (!c->n_listen)
        c->listen[c->n_listen++] = strdup("127.0.0.1:8080");
    free(p.text);
    if (end >= 0)
        return end;
    if (p.n_bad)
        return 2;
    if (c->is_check)
        (void)puts("platterd: the configuration is good");
    return c->is_check ? 1 : 0;
}

static void release_list(struct config_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->v[i].name);
        free(list->v[i].value);
        free(list->v[i].selectors);
        free(list->v[i].labels);
    }
    free(list->v);
}

void config_release(struct config *c)
{
    for (size_t i = 0; i < c->n_listen; i++)
        free(c->listen[i]);
    for (size_t i = 0; i < c->n_cors; i++)
        free(c->cors[i]);
    release_list(&c->origins);
    release_list(&c->images);
    release_list(&c->secrets);
    free(c->state_dir);
    free(c->plugin_path);
    free(c->pid_file);
}
