/* SPDX-License-Identifier: Apache-2.0 */
/* Boot traces of a gateway: have one recorded, fetch it, give it to another
 * gateway and have it read there ahead of the next host. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

enum { EVERY_MS = 200 };

static int print(const struct command_run *run, json_t *value,
                 const char *const *keys)
{
    if (run->o->is_json)
        return cli_print_json(value);
    for (; *keys; keys++) {
        json_t *const x = json_object_get(value, *keys);
        if (json_is_integer(x))
            (void)printf("%s: %" JSON_INTEGER_FORMAT "\n", *keys,
                         json_integer_value(x));
        else if (json_is_real(x))
            (void)printf("%s: %.2f\n", *keys, json_real_value(x));
        else if (x && !json_is_array(x))
            (void)printf("%s: %s\n", *keys,
                         json_is_string(x) ? json_string_value(x)
                         : json_is_true(x) ? "true"
                                           : "false");
    }
    json_decref(value);
    return cli_flush();
}

static int record(const struct command_run *run)
{
    static const char *const keys[] = {"state", "virtual-size", "etag", NULL};
    json_t *value = NULL;
    char body[32];

    (void)snprintf(body, sizeof(body), "{\"seconds\": %u}", run->o->seconds);
    const int code = gateway_post(run->o, "trace", run->args[0],
                                  run->o->seconds ? body : "{}", &value);
    return code ? code : print(run, value, keys);
}

static int fetch(const struct command_run *run)
{
    static const char *const keys[] = {"state",     "virtual-size", "bytes",
                                       "truncated", "created",      NULL};
    const char *const name = run->o->trace_file;
    json_t *value = NULL;
    int code = gateway_json(run->o, "trace", run->args[0], NULL, &value);

    if (code)
        return code;
    FILE *const f = strcmp(name, "-") == 0 ? stdout : fopen(name, "we");
    bool is_good =
        f && json_dumpf(value, f, JSON_COMPACT) == 0 && fputc('\n', f) != EOF;
    if (f && (f == stdout ? fflush(f) : fclose(f)) != 0)
        is_good = false;
    if (!is_good)
        code = cli_complain("%s: %s", name, strerror(errno));
    if (code || f == stdout) {
        json_decref(value);
        return code;
    }
    return print(run, value, keys);
}

/* Give the gateway the trace in FILE. */
static int load(const struct command_run *run)
{
    json_error_t why;
    json_t *const trace = json_load_file(run->o->trace_file, 0, &why);
    char *const body = trace ? json_dumps(trace, JSON_COMPACT) : NULL;
    json_t *answer = NULL;
    int code;

    if (!trace)
        code = cli_complain("%s: %s", run->o->trace_file, why.text);
    else if (!body)
        code = cli_complain("out of memory");
    else
        code = gateway_post(run->o, "trace", run->args[0], body, &answer);
    json_decref(answer);
    json_decref(trace);
    free(body);
    return code;
}

/* Have it read, and wait until it has been. */
static int replay(const struct command_run *run)
{
    static const char *const keys[] = {
        "state",           "bytes_total", "bytes_done", "origin_bytes",
        "origin_requests", "seconds",     "error",      NULL};
    struct progress p;
    json_t *value = NULL;
    int code = run->o->trace_file ? load(run) : 0;

    if (!code)
        code = gateway_post(run->o, "prefetch", run->args[0], "{}", &value);
    progress_begin(&p, "prefetch", 0, run->o->is_quiet);
    while (!code && !cli_is_stopped() &&
           (strcmp(cli_text(value, "state"), "waiting") == 0 ||
            strcmp(cli_text(value, "state"), "running") == 0)) {
        progress_show(&p, (uint64_t)cli_number(value, "bytes_done"),
                      (uint64_t)cli_number(value, "bytes_total"));
        (void)nanosleep(&(struct timespec){.tv_nsec = EVERY_MS * 1000000L},
                        NULL);
        json_decref(value);
        value = NULL;
        code = gateway_json(run->o, "prefetch", run->args[0], NULL, &value);
    }
    progress_end(&p);
    if (!code && cli_is_stopped())
        code = EXIT_STOPPED; /* the gateway goes on */
    if (code) {
        json_decref(value);
        return code;
    }
    const bool is_complete = strcmp(cli_text(value, "state"), "complete") == 0;
    code = print(run, value, keys);
    return code || is_complete ? code : EXIT_FAILED;
}

int cli_trace(const struct command_run *run)
{
    const struct options *const o = run->o;

    if (!o->gateway)
        return cli_usage("--trace, --record and --replay need --gateway");
    if (o->is_recorded && (o->is_replayed || o->trace_file))
        return cli_usage("--record begins a recording, and does nothing else");
    if (o->is_recorded)
        return record(run);
    return o->is_replayed ? replay(run) : fetch(run);
}
