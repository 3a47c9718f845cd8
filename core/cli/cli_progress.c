/* SPDX-License-Identifier: Apache-2.0 */
/* On a terminal one line that is written over; elsewhere a plain line now and
 * then, for a log. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/clock.h"

enum { AFTER_S = 2, LINE_EVERY_S = 10 };

void progress_begin(struct progress *p, const char *what, uint64_t first,
                    bool is_off)
{
    *p = (struct progress){.what = what,
                           .start_ns = clock_now(),
                           .first = first,
                           .is_off = is_off};
}

void progress_time(double s, char out[24])
{
    const unsigned long t = s > 1e7 ? 9999999 : (unsigned long)(s + 0.5);

    if (t >= 3600)
        (void)snprintf(out, 24, "%lu:%02lu:%02lu", t / 3600, t / 60 % 60,
                       t % 60);
    else
        (void)snprintf(out, 24, "%lu:%02lu", t / 60, t % 60);
}

void progress_bar(double share, char out[PROGRESS_BAR + 1])
{
    const size_t n = share > 0 ? (size_t)(share * PROGRESS_BAR) : 0;

    memset(out, '.', PROGRESS_BAR);
    memset(out, '#', n < PROGRESS_BAR ? n : PROGRESS_BAR);
    out[PROGRESS_BAR] = '\0';
}

void progress_show(struct progress *p, uint64_t done, uint64_t all)
{
    const uint64_t now = clock_now();
    const bool is_terminal = isatty(2);
    const uint64_t gap = is_terminal ? NS_PER_S / 4 : LINE_EVERY_S * NS_PER_S;
    char bar[PROGRESS_BAR + 1], size[32], whole[32], rate_text[32],
        left[24] = "?";

    p->last_done = done;
    if (p->is_off || now - p->start_ns < AFTER_S * NS_PER_S ||
        (now - p->last_ns < gap && !(done == all && p->has_shown)))
        return;
    p->last_ns = now;
    p->has_shown = true;
    const double s = (double)(now - p->start_ns) / 1e9;
    const double rate = (double)(done - p->first) / s;
    const double share = all ? (double)done / (double)all : 1;
    progress_bar(share, bar);
    cli_size_text(done, size);
    cli_size_text(all, whole);
    cli_size_text((uint64_t)rate, rate_text);
    if (rate > 0)
        progress_time((double)(all - done) / rate, left);
    if (is_terminal)
        (void)fprintf(stderr, "\r[%s] %5.1f %%  %s of %s  %s/s  %s left \033[K",
                      bar, 100 * share, size, whole, rate_text, left);
    else
        (void)fprintf(stderr, "%s: %.1f %%, %s of %s, %s/s, %s left\n", p->what,
                      100 * share, size, whole, rate_text, left);
}

void progress_end(struct progress *p)
{
    if (p->has_shown && isatty(2))
        (void)fputc('\n', stderr);
    p->has_shown = false;
}
