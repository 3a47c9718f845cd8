/* SPDX-License-Identifier: Apache-2.0 */
/* platter mirror: images of elsewhere that a gateway keeps.  The gateway does
 * all of it; this asks, and shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/option.h>

#include "cli/cli.h"
#include "stack/json_text.h"
#include "stack/policy.h"
#include "util/auto.h"

const char cli_mirror_usage[] =
    "\n"
    "platter mirror, of a gateway (default http://127.0.0.1:8080):\n"
    "  mirror add NAME SOURCE   keep what lies at the URL of a /disk/, or at\n"
    "                           ORIGIN/PATH, as /disk/NAME\n"
    "  mirror list              all, with how far they are\n"
    "  mirror status NAME       one; --watch: as it goes on\n"
    "  mirror wait NAME         until all of it is there\n"
    "  mirror pause NAME, mirror resume NAME, mirror remove NAME\n"
    "  mirror change NAME       what is given of these, but for (add)\n"
    "  --follow SECONDS         look for a new version so often; 0: never\n"
    "  --bandwidth N            bytes a second; 0: no limit of its own\n"
    "  --priority N             -100 to 100: the higher goes first\n"
    "  --schedule HH:MM-HH:MM   (UTC) the only time of day; '': any\n"
    "  --fetch auto|blocks|ranges   what is asked for at the source\n"
    "  --output PATH            (add) a file or device that holds it\n"
    "  --signed                 (add) refuse what is not signed\n"
    "  --no-trace               do not ask for the boot trace\n"
    "  --wait                   (add) wait until all of it is there\n";

/* ---- Asking ---- */

/* "mirrors/NAME": letters that a URL takes as they are. */
static int path_of(const char *name, const char *tail, char out[96])
{
    if (!policy_name_ok(name))
        return cli_complain("%s: no name of a mirror", name);
    (void)snprintf(out, 96, "mirrors/%.63s%s", name, tail);
    return 0;
}

static int post(const struct options *o, const char *path, const char *name,
                json_t *body, json_t **out)
{
    AUTO_JSON_TEXT char *text = json_dumps(body, JSON_COMPACT);

    json_decref(body);
    return text ? gateway_call(o, "POST", path, name, text, out)
                : cli_complain("%s: no text in UTF-8, or out of memory", name);
}

/* Those of the options that were given into body; 0 or the exit code. */
static int take_options(const struct options *o, json_t *body)
{
    const char *const priority = o->priority ? o->priority : "0";
    char *end;
    uint64_t n;

    if (o->follow && !plt_parse_bytes(o->follow, &n))
        return cli_usage("--follow takes seconds");
    if (o->follow)
        (void)json_object_set_new(body, "follow", json_integer((json_int_t)n));
    if (o->bandwidth && !plt_parse_bytes(o->bandwidth, &n))
        return cli_usage("--bandwidth takes bytes a second");
    if (o->bandwidth)
        (void)json_object_set_new(body, "bandwidth",
                                  json_integer((json_int_t)n));
    const long p = strtol(priority, &end, 10);
    if (end == priority || *end)
        return cli_usage("--priority is -100 to 100");
    if (o->priority)
        (void)json_object_set_new(body, "priority", json_integer(p));
    if (o->schedule)
        (void)json_object_set_new(body, "schedule", json_string(o->schedule));
    if (o->fetch)
        (void)json_object_set_new(body, "fetch", json_string(o->fetch));
    return 0;
}

/* ---- Waiting ---- */

/* Until it is complete or has failed: *out as it is then. */
static int follow(const struct options *o, const char *name, json_t **out)
{
    struct mirror_watch w = {.o = o};
    char path[96];
    int code = path_of(name, "/events", path);

    if (!code)
        code = gateway_watch(o, path, name, mirror_show_line, &w, out);
    /* The line that stays says how it ended. */
    if (w.has_line && *out)
        mirror_show_line(&w, *out);
    if (w.has_line)
        (void)fputc('\n', stderr);
    return code;
}

/* The row, printed; 1 when it has failed. */
static int finish(const struct options *o, json_t *row, bool is_waited)
{
    const bool has_failed =
        is_waited && strcmp(cli_text(row, "state"), "failed") == 0;
    int code = 0;

    if (has_failed)
        code = cli_complain("%s: %s", cli_text(row, "name"),
                            cli_text(row, "error"));
    if (o->is_json) {
        const int printed = cli_print_json(row);
        return code ? code : printed;
    }
    if (!o->is_quiet)
        mirror_show(row);
    json_decref(row);
    const int flushed = cli_flush();
    return code ? code : flushed;
}

/* ---- Commands ---- */

static int add(const struct options *o, char **args)
{
    AUTO_FREE char *selectors = gateway_path(o, "");
    const size_t len =
        strlen(args[1]) + (selectors ? strlen(selectors) : 0) + 1;
    AUTO_FREE char *source = malloc(len);
    json_t *row = NULL;

    if (!source)
        return cli_complain("out of memory");
    (void)snprintf(source, len, "%s%s", args[1], selectors ? selectors : "");
    json_t *const body =
        json_pack("{s:s, s:s}", "name", args[0], "source", source);
    if (!body)
        return cli_complain("%s: not a text in UTF-8", args[1]);
    int code = take_options(o, body);
    if (o->output_path)
        (void)json_object_set_new(body, "output", json_string(o->output_path));
    if (o->is_signed)
        (void)json_object_set_new(body, "signed", json_true());
    if (o->has_no_trace)
        (void)json_object_set_new(body, "trace", json_false());
    if (code) {
        json_decref(body);
        return code;
    }
    code = post(o, "mirrors", args[0], body, &row);
    if (!code && o->is_waited_for) {
        json_decref(row);
        row = NULL;
        code = follow(o, args[0], &row);
    }
    if (!code)
        return finish(o, row, o->is_waited_for);
    json_decref(row);
    return code;
}

static int change(const struct options *o, char **args)
{
    json_t *const body = json_object();
    json_t *row = NULL;
    char path[96];
    int code = take_options(o, body);

    if (!code && o->has_no_trace)
        (void)json_object_set_new(body, "trace", json_false());
    if (!code && !json_object_size(body))
        code = cli_usage("change what? --follow, --bandwidth, --priority, "
                         "--schedule, --fetch or --no-trace");
    if (!code)
        code = path_of(args[0], "", path);
    if (code) {
        json_decref(body);
        return code;
    }
    code = post(o, path, args[0], body, &row);
    return code ? code : finish(o, row, false);
}

static int set_paused(const struct options *o, const char *name, bool on)
{
    json_t *row = NULL;
    char path[96];
    int code = path_of(name, "", path);

    if (!code)
        code = post(o, path, name, json_pack("{s:b}", "paused", on), &row);
    return code ? code : finish(o, row, false);
}

static int pause_it(const struct options *o, char **args)
{
    return set_paused(o, args[0], true);
}

static int resume(const struct options *o, char **args)
{
    return set_paused(o, args[0], false);
}

static int remove_it(const struct options *o, char **args)
{
    json_t *none = NULL;
    char path[96];
    int code = path_of(args[0], "", path);

    if (!code)
        code = gateway_call(o, "DELETE", path, args[0], NULL, &none);
    json_decref(none);
    return code;
}

static int status(const struct options *o, char **args)
{
    json_t *row = NULL;
    char path[96];

    if (o->is_watched) {
        const int code = follow(o, args[0], &row);
        return code ? code : finish(o, row, false);
    }
    int code = path_of(args[0], "", path);
    if (!code)
        code = gateway_call(o, "GET", path, args[0], NULL, &row);
    return code ? code : finish(o, row, false);
}

static int wait_for(const struct options *o, char **args)
{
    json_t *row = NULL;
    const int code = follow(o, args[0], &row);

    return code ? code : finish(o, row, true);
}

static int list(const struct options *o, char **args)
{
    json_t *all = NULL;

    (void)args;
    /* There are 1024 at most, and a page has more rows. */
    const int code = gateway_call(o, "GET", "mirrors", "mirrors", NULL, &all);
    if (!code && o->is_json)
        return cli_print_json(all);
    if (!code)
        mirror_show_list(all);
    json_decref(all);
    return code ? code : cli_flush();
}

int cmd_mirror(const struct command_run *run)
{
    static const struct {
        const char *name;
        int n_args;
        int (*run)(const struct options *, char **);
    } rows[] = {{"add", 2, add},          {"list", 0, list},
                {"status", 1, status},    {"wait", 1, wait_for},
                {"pause", 1, pause_it},   {"resume", 1, resume},
                {"remove", 1, remove_it}, {"change", 1, change}};
    int n = 0;

    while (run->args[n])
        n++;
    for (size_t i = 0; n && i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, run->args[0]) != 0)
            continue;
        if (n - 1 != rows[i].n_args)
            return cli_usage(rows[i].n_args == 2 ? "a NAME and a SOURCE are "
                                                   "needed"
                             : rows[i].n_args    ? "one NAME is needed"
                                                 : "list takes no name");
        return rows[i].run(run->o, run->args + 1);
    }
    return cli_usage("mirror add, list, status, wait, pause, resume, remove or "
                     "change");
}
