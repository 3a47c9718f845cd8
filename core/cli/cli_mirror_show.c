/* SPDX-License-Identifier: Apache-2.0 */
/* What a person sees of mirrors (platter mirror). */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/clock.h"

enum { LINE_EVERY_S = 10, HISTORY_SHOWN = 8 };

static double share_of(json_t *row)
{
    return json_number_value(json_object_get(row, "share"));
}

/* Of all that had to come from somewhere, what was here; "" when nothing was.
 */
static void saved_text(json_t *row, char out[24])
{
    const double reused = (double)cli_number(row, "bytes_reused");
    const double fetched = (double)cli_number(row, "bytes_fetched");

    out[0] = '\0';
    if (reused > 0)
        (void)snprintf(out, 24, "%.3g %%", 100 * reused / (reused + fetched));
}

static void left_text(json_t *row, char out[24])
{
    (void)snprintf(out, 24, "?");
    if (json_is_integer(json_object_get(row, "eta_seconds")))
        progress_time((double)cli_number(row, "eta_seconds"), out);
}

static const char *colour_of(json_t *row)
{
    return strcmp(cli_text(row, "state"), "failed") == 0 ? cli_red() : "";
}

/* One percent is not shown as all of it, however near. */
static double percent(json_t *row)
{
    const double share = 100 * share_of(row);
    return share < 100 && share > 99.9 ? 99.9 : share;
}

static void put(const char *key, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void put(const char *key, const char *fmt, ...)
{
    va_list ap;

    (void)printf("  %-10s ", key);
    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    (void)putchar('\n');
}

static void show_traffic(json_t *row)
{
    char fetched[32], demand[32], reused[32], saved[24], rate[32], left[24];

    cli_size_text((uint64_t)cli_number(row, "bytes_fetched"), fetched);
    cli_size_text((uint64_t)cli_number(row, "bytes_demand"), demand);
    cli_size_text((uint64_t)cli_number(row, "bytes_reused"), reused);
    cli_size_text((uint64_t)cli_number(row, "rate"), rate);
    put("fetched", "%s in %" JSON_INTEGER_FORMAT " requests, %s for readers",
        fetched, cli_number(row, "requests"), demand);
    saved_text(row, saved);
    if (*saved)
        put("reused", "%s that was here already: %s saved", reused, saved);
    if (strcmp(cli_text(row, "state"), "mirroring") == 0) {
        left_text(row, left);
        put("rate", "%s/s, %s left", rate, left);
    }
}

static void show_trust(json_t *row)
{
    const char *const signature = cli_text(row, "signature");
    const json_int_t repaired = cli_number(row, "repaired");
    const json_int_t refused = cli_number(row, "refused");

    if (*cli_text(row, "root"))
        put("version", "%s", cli_text(row, "root"));
    if (*cli_text(row, "next_root"))
        put("next", "%s", cli_text(row, "next_root"));
    if (*cli_text(row, "checked"))
        put("verified", "%s%s%s",
            cli_is_set(row, "verified") ? "against the source's manifest"
                                        : "no: the source has no manifest",
            *signature ? ", signature " : "", signature);
    if (repaired || refused)
        put("leaves",
            "%" JSON_INTEGER_FORMAT " repaired, %" JSON_INTEGER_FORMAT
            " refused",
            repaired, refused);
}

static void show_settings(json_t *row)
{
    char rate[32];

    const char *const checked = cli_text(row, "checked");

    if (cli_number(row, "follow"))
        put("follow", "every %" JSON_INTEGER_FORMAT " s%s%s",
            cli_number(row, "follow"), *checked ? ", asked at " : "", checked);
    if (cli_number(row, "bandwidth")) {
        cli_size_text((uint64_t)cli_number(row, "bandwidth"), rate);
        put("bandwidth", "%s/s", rate);
    }
    if (*cli_text(row, "schedule"))
        put("schedule", "%s UTC", cli_text(row, "schedule"));
    if (cli_number(row, "priority"))
        put("priority", "%" JSON_INTEGER_FORMAT, cli_number(row, "priority"));
    if (*cli_text(row, "output"))
        put("output", "%s", cli_text(row, "output"));
    if (*cli_text(row, "error"))
        put("error", "%s%s%s", cli_red(), cli_text(row, "error"), cli_plain());
}

/* The newest few; all of them are in --json. */
static void show_history(json_t *row)
{
    json_t *const rows = json_object_get(row, "history");
    char reused[32], fetched[32], took[24];
    json_t *event;
    size_t i;

    json_array_foreach(rows, i, event)
    {
        const json_int_t count = cli_number(event, "count");
        if (i == HISTORY_SHOWN)
            break;
        (void)printf("  %-10s %s  %s", i ? "" : "history",
                     cli_text(event, "time"), cli_text(event, "event"));
        if (count > 1)
            (void)printf(" (%" JSON_INTEGER_FORMAT ")", count);
        if (json_is_integer(json_object_get(event, "seconds"))) {
            progress_time((double)cli_number(event, "seconds"), took);
            (void)printf(" in %s", took);
        }
        if (json_is_integer(json_object_get(event, "bytes_fetched"))) {
            cli_size_text((uint64_t)cli_number(event, "bytes_fetched"),
                          fetched);
            cli_size_text((uint64_t)cli_number(event, "bytes_reused"), reused);
            (void)printf(", %s fetched, %s reused", fetched, reused);
        }
        if (*cli_text(event, "error"))
            (void)printf(": %s", cli_text(event, "error"));
        (void)putchar('\n');
    }
}

void mirror_show(json_t *row)
{
    char bar[PROGRESS_BAR + 1], local[32], total[32], size[32];

    progress_bar(share_of(row), bar);
    cli_size_text((uint64_t)cli_number(row, "bytes_local"), local);
    cli_size_text((uint64_t)cli_number(row, "bytes_total"), total);
    cli_size_text((uint64_t)cli_number(row, "virtual_size"), size);
    (void)printf("%s%s%s  %s%s%s\n", cli_bold(), cli_text(row, "name"),
                 cli_plain(), colour_of(row), cli_text(row, "state"),
                 *colour_of(row) ? cli_plain() : "");
    put("source", "%s", cli_text(row, "source"));
    if (json_is_integer(json_object_get(row, "virtual_size"))) {
        put("disk", "%s, %s of it not zeros", size, total);
        put("here", "[%s] %.1f %%, %s", bar, percent(row), local);
    }
    show_traffic(row);
    show_trust(row);
    show_settings(row);
    show_history(row);
}

/* One line on a terminal, written over; else one now and then, for a log. */
void mirror_show_line(void *cookie, json_t *row)
{
    struct mirror_watch *const w = (struct mirror_watch *)cookie;
    const uint64_t now = clock_now();
    char bar[PROGRESS_BAR + 1], local[32], total[32], rate[32], left[24],
        saved[24];
    const char *const state = cli_text(row, "state");
    const bool is_other = strcmp(state, w->state) != 0;
    const bool is_terminal = isatty(2);

    if (w->o->is_json && w->o->is_watched) {
        (void)json_dumpf(row, stdout, JSON_COMPACT);
        (void)putchar('\n');
        (void)fflush(stdout);
        return;
    }
    if (w->o->is_quiet || (!is_terminal && !is_other && w->last_ns &&
                           now - w->last_ns < LINE_EVERY_S * NS_PER_S))
        return;
    w->last_ns = now;
    (void)snprintf(w->state, sizeof(w->state), "%s", state);
    progress_bar(share_of(row), bar);
    cli_size_text((uint64_t)cli_number(row, "bytes_local"), local);
    cli_size_text((uint64_t)cli_number(row, "bytes_total"), total);
    cli_size_text((uint64_t)cli_number(row, "rate"), rate);
    left_text(row, left);
    saved_text(row, saved);
    (void)fprintf(stderr,
                  is_terminal ? "\r%s [%s] %5.1f %%  " : "%s: [%s] %.1f %%, ",
                  cli_text(row, "name"), bar, percent(row));
    if (!json_is_integer(json_object_get(row, "virtual_size")))
        /* What it is has not been told yet: there is nothing to count. */
        (void)fputs(strcmp(state, "mirroring") ? state : "asking the source",
                    stderr);
    else if (strcmp(state, "mirroring") == 0)
        (void)fprintf(stderr, "%s of %s  %s/s  %s left", local, total, rate,
                      left);
    else
        (void)fprintf(stderr, "%s of %s  %s", local, total, state);
    if (*saved)
        (void)fprintf(stderr, "  %s saved", saved);
    if (*cli_text(row, "error"))
        (void)fprintf(stderr, "  (%s)", cli_text(row, "error"));
    (void)fputs(is_terminal ? "\033[K" : "\n", stderr);
    w->has_line = is_terminal;
}

static void list_row(json_t *row, int width)
{
    char bar[PROGRESS_BAR + 1], size[32], rate[32] = "", left[24] = "";

    progress_bar(share_of(row), bar);
    cli_size_text((uint64_t)cli_number(row, "bytes_total"), size);
    if (strcmp(cli_text(row, "state"), "mirroring") == 0) {
        cli_size_text((uint64_t)cli_number(row, "rate"), rate);
        (void)strncat(rate, "/s", sizeof(rate) - strlen(rate) - 1);
        left_text(row, left);
    }
    (void)printf("%-*s  %s%-9s%s  [%s] %5.1f %%  %9s", width,
                 cli_text(row, "name"), colour_of(row), cli_text(row, "state"),
                 *colour_of(row) ? cli_plain() : "", bar, percent(row), size);
    if (*rate)
        (void)printf("  %11s  %s left", rate, left);
    if (*cli_text(row, "error"))
        (void)printf("  %s", cli_text(row, "error"));
    (void)putchar('\n');
}

void mirror_show_list(json_t *all)
{
    int width = 4;
    json_t *row;
    size_t i;

    json_array_foreach(all, i, row)
    {
        const int len = (int)strlen(cli_text(row, "name"));
        width = len > width ? len : width;
    }
    if (json_array_size(all))
        (void)printf("%s%-*s  %-9s  %-*s %7s  %9s%s\n", cli_bold(), width,
                     "name", "state", PROGRESS_BAR + 2, "here", "", "data",
                     cli_plain());
    json_array_foreach(all, i, row)
    {
        list_row(row, width);
    }
}
