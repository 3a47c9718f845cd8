/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file, from any bytes.  Nothing but that file is opened by
 * reading it; a mistake is told with a line that the file has; what is taken
 * holds what config.h promises, and is taken again. */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "config.h"
#include "edges.h"
#include "fuzz_scratch.h"
#include "listen.h"
#include "stack/catalogue.h"
#include "stack/policy.h"

static bool is_watched; /* while a configuration is read */

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

static void look(const char *path)
{
    MUST(!is_watched || strncmp(path, scratch, strlen(scratch)) == 0);
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
    look(path);
    return __real_fopen(path, mode);
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    /* Certificates and keys, where the configuration says they are: only to be
     * read, and never waited for; none of them is there. */
    if (is_watched && strncmp(path, scratch, strlen(scratch)) != 0) {
        MUST((flags & O_ACCMODE) == O_RDONLY && flags & O_NONBLOCK);
        errno = ENOENT;
        return -1;
    }
    return __real_open(path, flags, mode);
}

static int parse(struct config *config)
{
    static char path[SCRATCH_PATH + 16];
    char name[] = "platterd", option[] = "--config", file[sizeof(path)];
    char *argv[] = {name, option, file, NULL};

    scratch_path(file, "platterd.json");
    is_watched = true;
    const int rc = config_parse(config, 3, argv, true);
    is_watched = false;
    return rc;
}

/* Names of the lists, each once and well formed. */
static void check_names(const struct config_list *list, size_t most)
{
    MUST(list->n <= most);
    for (size_t i = 0; i < list->n; i++) {
        MUST(list->v[i].value && policy_name_ok(list->v[i].name));
        for (size_t k = 0; k < i; k++)
            MUST(strcmp(list->v[i].name, list->v[k].name) != 0);
    }
}

static void check_config(const struct config *c)
{
    struct listen_spec spec;

    MUST(c->n_listen >= 1 && c->n_listen <= CONFIG_MAX_LISTEN);
    MUST(c->n_cors <= CONFIG_MAX_CORS);
    for (size_t i = 0; i < c->n_listen; i++)
        MUST(c->listen[i] && listen_parse(c->listen[i], &spec));
    for (size_t i = 0; i < c->access.n; i++) {
        MUST(policy_name_ok(c->access.v[i].name));
        MUST(c->access.v[i].scopes <= ACCESS_ALL);
        MUST((c->access.v[i].kind == ACCESS_LOCAL) ==
             (strcmp(c->access.v[i].name, "local") == 0));
        MUST((c->access.v[i].kind == ACCESS_CERTIFICATE) ==
             (c->access.v[i].certificate != NULL));
        for (size_t k = 0; k < i; k++)
            MUST(strcmp(c->access.v[i].name, c->access.v[k].name) != 0);
    }
    for (size_t i = 0; i < c->n_cors; i++)
        MUST(c->cors[i] && !strpbrk(c->cors[i], "\r\n"));
    MUST(c->n_siblings <= CONFIG_MAX_SIBLINGS);
    for (size_t i = 0; i < c->n_siblings; i++)
        MUST(edges_url_ok(c->siblings[i]));
    MUST(!c->manifest_key == !c->manifest_key_text);
    check_names(&c->origins, POLICY_MAX_ORIGINS);
    check_names(&c->images, CATALOGUE_MAX);
    check_names(&c->secrets, CONFIG_MAX_SECRETS);
    MUST(c->workers && c->max_open && c->max_connections && c->max_ranges);
    for (size_t i = 0; i < c->images.n; i++) {
        const char *const source = c->images.v[i].value;
        const size_t len = strcspn(source, "/");
        bool has_origin = false;
        MUST(source[len] == '/');
        for (size_t k = 0; k < c->origins.n; k++)
            has_origin =
                has_origin || (strlen(c->origins.v[k].name) == len &&
                               strncmp(c->origins.v[k].name, source, len) == 0);
        MUST(has_origin);
    }
}

/* Mistakes are lines of the log: each says a line of the file, if any. */
static void check_mistakes(int fd, unsigned lines)
{
    static char text[1 << 16];
    const ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    unsigned line;

    MUST(n > 0);
    text[n] = '\0';
    MUST(strstr(text, "event=config_mistake"));
    /* It stands before key and text, which are the file's words. */
    for (char *p = strtok(text, "\n"); p; p = strtok(NULL, "\n")) {
        const char *const words =
            strstr(p, " key=") ? strstr(p, " key=") : strstr(p, " text=");
        const char *const field = strstr(p, " line=");
        if (field && field < words)
            MUST(sscanf(field, " line=%u", &line) == 1 && line >= 1 &&
                 line <= lines);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int log = -1;
    struct config config, again;
    unsigned lines = 1;

    if (scratch_make()) {
        log = memfd_create("log", MFD_CLOEXEC);
        MUST(log >= 0);
        log_set_fd(log);
    }
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    scratch_write("platterd.json", data, size);
    MUST(ftruncate(log, 0) == 0 && lseek(log, 0, SEEK_SET) == 0);
    const int rc = parse(&config);
    MUST(rc == 0 || rc == 2);
    if (rc == 0)
        check_config(&config);
    else
        check_mistakes(log, lines);
    MUST(parse(&again) == rc);
    config_release(&config);
    config_release(&again);
    return 0;
}
