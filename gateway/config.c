/* SPDX-License-Identifier: Apache-2.0 */
/* Every mistake is reported, not only the first: who mends a file wants them
 * all.  Unknown keys are mistakes. */
#include "config.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/option.h>

static const char usage_text[] =
    "usage: platterd [OPTIONS]\n"
    "\n"
    "  --origin NAME=BASE      an http(s) URL prefix or a folder (repeat)\n"
    "  --listen ADDR:PORT      default 127.0.0.1:8080 (repeat)\n"
    "  --secret NAME=FILE      a key for encrypted images (repeat)\n"
    "  --config FILE           JSON, the same names; flags are added to it\n"
    "  --state DIR             keep indexes between runs\n"
    "  --plugin-path DIRS      further folders with drivers\n"
    "  --cache-size N          memory for decoded data (default 256M)\n"
    "  --deadline SECONDS      of one wait for a source (default 30)\n"
    "  --workers N             threads for requests that wait (default 256)\n"
    "  --max-waiting-per-image N   (default 64)\n"
    "  --max-open N            images kept open (default 256)\n"
    "  --max-connections N     (default 4096)\n"
    "  --revalidate SECONDS    compare with the source so often (default 5)\n"
    "  --drain SECONDS         at the end, wait for running answers (default "
    "10)\n"
    "  --log-level error|warn|info|debug\n"
    "  --pid-file FILE\n"
    "  --help, --version\n"
    "\n"
    "Exit: 0 stopped as asked, 1 cannot start, 2 wrong usage.\n";

static int bad(const char *what, const char *value)
{
    (void)fprintf(stderr, "platterd: %s: %s\n", what, value ? value : "");
    return 2;
}

static int number(const char *what, const char *text, unsigned most,
                  unsigned *out)
{
    uint64_t v;
    if (!plt_parse_bytes(text, &v) || v > most)
        return bad(what, text);
    *out = (unsigned)v;
    return 0;
}

static int set_text(char **slot, const char *value)
{
    free(*slot);
    *slot = strdup(value);
    return *slot ? 0 : bad("out of memory", NULL);
}

static int add_named(struct config_named *list, size_t *n, const char *name,
                     const char *value, char *selectors)
{
    if (*n == CONFIG_MAX_NAMED) {
        free(selectors);
        return bad("too many origins or images", name);
    }
    list[*n] = (struct config_named){
        .name = strdup(name), .value = strdup(value), .selectors = selectors};
    (*n)++;
    return 0;
}

static int add_origin(struct config *c, const char *text)
{
    const char *const eq = strchr(text, '=');
    if (!eq || eq == text || !eq[1])
        return bad("--origin takes NAME=BASE", text);
    char *const name = strndup(text, (size_t)(eq - text));
    const int r =
        name ? add_named(c->origins, &c->n_origins, name, eq + 1, NULL) : 2;
    free(name);
    return r;
}

static int add_secret(struct config *c, const char *text)
{
    const char *const eq = strchr(text, '=');
    if (!eq || eq == text || !eq[1])
        return bad("--secret takes NAME=FILE", text);
    char *const name = strndup(text, (size_t)(eq - text));
    const int r =
        name ? add_named(c->secrets, &c->n_secrets, name, eq + 1, NULL) : 2;
    free(name);
    return r;
}

static int add_listen(struct config *c, const char *text)
{
    if (c->n_listen == CONFIG_MAX_LISTEN)
        return bad("too many addresses to listen on", text);
    c->listen[c->n_listen++] = strdup(text);
    return 0;
}

static int log_level(struct config *c, const char *text)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            c->log_level = (enum log_level)i;
            return 0;
        }
    }
    return bad("log level", text);
}

/* One setting by its name in the file or as a flag (with '-' for '_'). */
static int set(struct config *c, const char *key, const char *value)
{
    if (strcmp(key, "state_dir") == 0)
        return set_text(&c->state_dir, value);
    if (strcmp(key, "plugin_path") == 0)
        return set_text(&c->plugin_path, value);
    if (strcmp(key, "pid_file") == 0)
        return set_text(&c->pid_file, value);
    if (strcmp(key, "log_level") == 0)
        return log_level(c, value);
    if (strcmp(key, "cache_size") == 0)
        return plt_parse_bytes(value, &c->cache_bytes) &&
                       c->cache_bytes >= 1 << 20
                   ? 0
                   : bad("cache_size (at least 1M)", value);
    if (strcmp(key, "deadline") == 0)
        return number(key, value, 3600, &c->deadline_s);
    if (strcmp(key, "workers") == 0)
        return number(key, value, 4096, &c->workers);
    if (strcmp(key, "max_waiting_per_image") == 0)
        return number(key, value, 65536, &c->max_waiting);
    if (strcmp(key, "max_open") == 0)
        return number(key, value, 4096, &c->max_open);
    if (strcmp(key, "max_connections") == 0)
        return number(key, value, 65536, &c->max_connections);
    if (strcmp(key, "drain") == 0)
        return number(key, value, 3600, &c->drain_s);
    if (strcmp(key, "revalidate") == 0) {
        const int r = number(key, value, 86400, &c->revalidate_ms);
        c->revalidate_ms *= 1000;
        return r;
    }
    return bad("unknown setting", key);
}

/* ---- The file ---- */

static int file_mistake(const char *file, const char *where, const char *why)
{
    (void)fprintf(stderr, "platterd: %s: %s: %s\n", file, where, why);
    return 2;
}

static int take_origins(struct config *c, const char *file, json_t *map)
{
    const char *name, *key;
    json_t *row, *value;
    int r = 0;

    json_object_foreach(map, name, row)
    {
        const char *base = NULL;
        json_object_foreach(row, key, value)
        {
            if ((strcmp(key, "url") == 0 || strcmp(key, "path") == 0) &&
                json_is_string(value) && !base)
                base = json_string_value(value);
            else
                r |= file_mistake(file, name, "an origin has url or path");
        }
        if (base)
            r |= add_named(c->origins, &c->n_origins, name, base, NULL);
        else
            r |= file_mistake(file, name, "no url and no path");
    }
    return r;
}

static int take_secrets(struct config *c, const char *file, json_t *map)
{
    const char *name;
    json_t *row;
    int r = 0;

    json_object_foreach(map, name, row)
    {
        const char *const path =
            json_string_value(json_object_get(row, "file"));
        if (path && json_object_size(row) == 1)
            r |= add_named(c->secrets, &c->n_secrets, name, path, NULL);
        else
            r |= file_mistake(file, name, "a secret has file, and no more");
    }
    return r;
}

/* RFC 3986 unreserved stays, the rest is encoded; "key=value&" onto text. */
static void add_selector(char *text, size_t cap, const char *key,
                         const char *value)
{
    size_t n = strlen(text);
    n += (size_t)snprintf(text + n, cap - n, "%s%s=", n ? "&" : "", key);
    for (; *value && n + 4 < cap; value++)
        n += (size_t)snprintf(text + n, cap - n, "%%%02X",
                              (unsigned)(unsigned char)*value);
}

static int take_images(struct config *c, const char *file, json_t *map)
{
    static const char *const selectors[] = {"member", "snapshot", "partition",
                                            "layers", "secret"};
    const char *name, *key;
    json_t *row, *value;
    int r = 0;

    json_object_foreach(map, name, row)
    {
        char text[8192] = "";
        const char *source = NULL;
        json_object_foreach(row, key, value)
        {
            bool is_known = strcmp(key, "source") == 0;
            if (is_known)
                source = json_string_value(value);
            for (size_t i = 0; i < 5 && !is_known; i++) {
                is_known = strcmp(key, selectors[i]) == 0;
                if (is_known && json_is_string(value))
                    add_selector(text, sizeof(text), key,
                                 json_string_value(value));
            }
            if (!is_known || !json_is_string(value))
                r |= file_mistake(file, name, "unknown key, or not text");
        }
        if (source)
            r |= add_named(c->images, &c->n_images, name, source,
                           text[0] ? strdup(text) : NULL);
        else
            r |= file_mistake(file, name, "no source");
    }
    return r;
}

static int take_file(struct config *c, const char *file)
{
    json_error_t why;
    json_t *const root = json_load_file(file, JSON_REJECT_DUPLICATES, &why);
    const char *key;
    json_t *value, *item;
    size_t i;
    int r = 0;

    if (!root || !json_is_object(root)) {
        (void)fprintf(stderr, "platterd: %s:%d: %s\n", file, why.line,
                      root ? "not an object" : why.text);
        json_decref(root);
        return 2;
    }
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "listen") == 0 && json_is_array(value)) {
            json_array_foreach(value, i, item)
            {
                r |= json_is_string(item)
                         ? add_listen(c, json_string_value(item))
                         : file_mistake(file, key, "not text");
            }
        } else if (strcmp(key, "origins") == 0 && json_is_object(value)) {
            r |= take_origins(c, file, value);
        } else if (strcmp(key, "images") == 0 && json_is_object(value)) {
            r |= take_images(c, file, value);
        } else if (strcmp(key, "secrets") == 0 && json_is_object(value)) {
            r |= take_secrets(c, file, value);
        } else if (json_is_string(value)) {
            r |= set(c, key, json_string_value(value));
        } else if (json_is_integer(value)) {
            char text[24];
            (void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT,
                           json_integer_value(value));
            r |= set(c, key, text);
        } else {
            r |= file_mistake(file, key, "unknown key, or of the wrong type");
        }
    }
    json_decref(root);
    return r;
}

int config_parse(struct config *c, int argc, char **argv)
{
    /* In the order of `keys`: what is not a special case is a setting. */
    static const struct option options[] = {
        {"origin", required_argument, NULL, 'o'},
        {"listen", required_argument, NULL, 'l'},
        {"secret", required_argument, NULL, 's'},
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {"state", required_argument, NULL, 256},
        {"plugin-path", required_argument, NULL, 257},
        {"cache-size", required_argument, NULL, 258},
        {"deadline", required_argument, NULL, 259},
        {"workers", required_argument, NULL, 260},
        {"max-waiting-per-image", required_argument, NULL, 261},
        {"max-open", required_argument, NULL, 262},
        {"max-connections", required_argument, NULL, 263},
        {"revalidate", required_argument, NULL, 264},
        {"drain", required_argument, NULL, 265},
        {"log-level", required_argument, NULL, 266},
        {"pid-file", required_argument, NULL, 267},
        {NULL, 0, NULL, 0}};
    static const char *const keys[] = {
        "state_dir", "plugin_path",     "cache_size",
        "deadline",  "workers",         "max_waiting_per_image",
        "max_open",  "max_connections", "revalidate",
        "drain",     "log_level",       "pid_file"};
    int r = 0, o;

    *c = (struct config){.cache_bytes = UINT64_C(256) << 20,
                         .deadline_s = 30,
                         .workers = 256,
                         .max_waiting = 64,
                         .max_connections = 4096,
                         .drain_s = 10,
                         .log_level = LOG_INFO};
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (o) {
        case 'o':
            r |= add_origin(c, optarg);
            break;
        case 'l':
            r |= add_listen(c, optarg);
            break;
        case 's':
            r |= add_secret(c, optarg);
            break;
        case 'c':
            r |= take_file(c, optarg);
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
            r |= set(c, keys[o - 256], optarg);
            break;
        }
    }
    if (optind < argc)
        r |= bad("what is this", argv[optind]);
    if (!c->n_listen)
        r |= add_listen(c, "127.0.0.1:8080");
    return r ? 2 : 0;
}

void config_release(struct config *c)
{
    for (size_t i = 0; i < c->n_listen; i++)
        free(c->listen[i]);
    for (size_t i = 0; i < c->n_origins; i++) {
        free(c->origins[i].name);
        free(c->origins[i].value);
    }
    for (size_t i = 0; i < c->n_images; i++) {
        free(c->images[i].name);
        free(c->images[i].value);
        free(c->images[i].selectors);
    }
    for (size_t i = 0; i < c->n_secrets; i++) {
        free(c->secrets[i].name);
        free(c->secrets[i].value);
    }
    free(c->state_dir);
    free(c->plugin_path);
    free(c->pid_file);
}
