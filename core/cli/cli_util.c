/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/clock.h"

static volatile sig_atomic_t is_stopped;

static void on_signal(int sig)
{
    (void)sig;
    is_stopped = 1;
}

bool cli_is_stopped(void)
{
    return is_stopped;
}

void cli_catch_signals(void)
{
    struct sigaction once = {.sa_handler = on_signal,
                             .sa_flags = (int)SA_RESETHAND};

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigaction(SIGINT, &once, NULL); /* a second one ends it at once */
    (void)sigaction(SIGTERM, &once, NULL);
}

static bool is_cancelled(const struct plt_io *io)
{
    (void)io;
    return is_stopped;
}

static void no_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    (void)io;
    (void)bytes;
    (void)requests;
}

struct plt_io cli_io(void)
{
    return (struct plt_io){.struct_size = (uint32_t)sizeof(struct plt_io),
                           .deadline_ns = CLOCK_NEVER,
                           .cancelled = is_cancelled,
                           .charge = no_charge};
}

static bool has_colours(int fd)
{
    const char *const no = getenv("NO_COLOR");
    return isatty(fd) && !(no && *no);
}

const char *cli_bold(void)
{
    return has_colours(1) ? "\033[1m" : "";
}

const char *cli_red(void)
{
    return has_colours(1) ? "\033[31m" : "";
}

const char *cli_plain(void)
{
    return has_colours(1) ? "\033[0m" : "";
}

static void begin_complaint(void)
{
    (void)fputs(has_colours(2) ? "\033[31mplatter:\033[0m " : "platter: ",
                stderr);
}

int cli_failed(const char *what, const struct plt_error *err)
{
    if (err->status == PLT_CANCELLED && is_stopped) {
        begin_complaint();
        (void)fprintf(stderr, "%s: stopped\n", what);
        return EXIT_STOPPED;
    }
    begin_complaint();
    (void)fprintf(stderr, "%s: %s%s%s%s", what, err->layer,
                  err->layer[0] ? ": " : "",
                  err->status == PLT_NOMEM ? "out of memory: " : "", err->text);
    if (err->at != PLT_AT_NONE)
        (void)fprintf(stderr, " (at byte %" PRIu64 ")", err->at);
    (void)fputc('\n', stderr);
    return EXIT_FAILED;
}

int cli_complain(const char *fmt, ...)
{
    va_list ap;

    begin_complaint();
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return EXIT_FAILED;
}

int cli_usage(const char *why)
{
    (void)cli_complain("%s; see platter --help", why);
    return EXIT_USAGE;
}

int cli_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return cli_complain("standard output could not be written");
}

int cli_print_json(json_t *value)
{
    const int bad = json_dumpf(value, stdout, JSON_INDENT(2));

    json_decref(value);
    (void)putchar('\n');
    return bad ? cli_complain("standard output could not be written")
               : cli_flush();
}

void cli_size_text(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
                                        "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t u = 0;

    while (value >= 1024 && u < 6) {
        value /= 1024;
        u++;
    }
    (void)snprintf(out, 32,
                   value < 10 && u ? "%.2f %s"
                   : value < 1000  ? "%.3g %s"
                                   : "%.0f %s",
                   value, units[u]);
}

json_int_t cli_number(json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

bool cli_is_set(json_t *row, const char *key)
{
    return json_is_true(json_object_get(row, key));
}

const char *cli_text(json_t *row, const char *key)
{
    const char *const text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}
