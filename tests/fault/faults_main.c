/* SPDX-License-Identifier: Apache-2.0 */
/* The page, the clock, and main(): once, or in a child for each allocation.
 *
 * With FAULTS_EACH="FIRST STEP RESULTS" the program forks before main() for n =
 * FIRST, FIRST + STEP ... and has its n-th allocation fail, until one comes to
 * its end without having met its failure.  First it is run once as it is.
 * RESULTS gets a line for each:
 *     N STATUS OUTPUT LEAKS TEXT
 * STATUS is of waitpid(); OUTPUT what came on standard output against the run
 * as it is: same, prefix or other; LEAKS the places that have more live blocks
 * than in the run as it is, or -; TEXT the first line of standard error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

enum { SECONDS = 30, TEXT = 600, OUTPUT = 1 << 20 };

static struct faults at_first; /* until the page is mapped */
struct faults *faults = &at_first;

bool faults_hit(uint64_t rate, uint64_t of)
{
    static _Atomic uint64_t count;
    if (!rate)
        return false;
    uint64_t x = atomic_load(&faults->seed) + atomic_fetch_add(&count, 1);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U; /* splitmix64 */
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    return (x ^ x >> 31) % of < rate;
}

/* Where it was, for who reads the log: MODULE(+OFFSET) of each frame. */
static void on_crash(int sig)
{
    void *frames[32];
    const int n = backtrace(frames, 32);

    backtrace_symbols_fd(frames, n, 2);
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

__attribute__((constructor)) static void map_page(void)
{
    void *frame[1];
    (void)backtrace(frame, 1); /* what it loads, it loads now */
    (void)signal(SIGSEGV, on_crash);
    (void)signal(SIGBUS, on_crash);
    (void)signal(SIGABRT, on_crash);
    const char *const path = getenv("FAULTS_PAGE");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *const p = mmap(NULL, sizeof(struct faults), PROT_READ | PROT_WRITE,
                         MAP_SHARED | (path ? 0 : MAP_ANONYMOUS), fd, 0);

    if (p == MAP_FAILED)
        _exit(122);
    if (fd >= 0)
        (void)close(fd);
    faults = p;
}

/* ---- The clock ---- */

FAULTS_EXPORT int clock_gettime(clockid_t clock, struct timespec *ts);
FAULTS_EXPORT time_t time(time_t *out);
FAULTS_EXPORT int gettimeofday(struct timeval *restrict tv, void *restrict tz);

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    static int (*_Atomic next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT,
                                                            "clock_gettime");
    const int rc = next(clock, ts);
    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        ts->tv_sec += (time_t)atomic_load(&faults->clock_offset);
    return rc;
}

time_t time(time_t *out)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    struct timespec ts;
    (void)tz;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
    return 0;
}

/* ---- main() ---- */

typedef int main_fn(int argc, char **argv, char **env);
static main_fn *real_main;
static int report_fd = -1;

static void report_at_exit(void)
{
    if (report_fd >= 0)
        faults_report(report_fd);
}

static int scratch(const char *name)
{
    const int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        _exit(123);
    return fd;
}

struct outcome {
    int status;
    int out, err, report;
};

static struct outcome run(uint64_t nth, int argc, char **argv, char **env)
{
    struct outcome o = {0, scratch("out"), scratch("err"), scratch("report")};

    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(o.out, 1);
        (void)dup2(o.err, 2);
        report_fd = o.report;
        (void)alarm(SECONDS);
        atomic_store(&faults->did_alloc, 0);
        atomic_store(&faults->alloc_left, nth);
        exit(real_main(argc, argv, env));
    }
    if (pid < 0 || waitpid(pid, &o.status, 0) != pid)
        _exit(124);
    return o;
}

static size_t slurp(int fd, char *buf, size_t cap)
{
    const ssize_t n = pread(fd, buf, cap - 1, 0);
    buf[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Lines of `now` whose place is not in `before`, or there with fewer. */
static void print_leaks(FILE *to, const char *before, char *now)
{
    bool is_any = false;
    char *save = NULL;

    for (char *line = strtok_r(now, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        const char *const place = strrchr(line, ' ');
        const char *const old = strstr(before, place);
        const char *start = old;
        while (start && start > before && start[-1] != '\n')
            start--;
        if (start && strtoul(start, NULL, 10) >= strtoul(line, NULL, 10))
            continue;
        (void)fprintf(to, "%s%s", is_any ? "," : "", place + 1);
        is_any = true;
    }
    (void)fprintf(to, "%s ", is_any ? "" : "-");
}

static int each(const char *how, int argc, char **argv, char **env)
{
    static char want[OUTPUT], got[OUTPUT], before[65536], now[65536];
    unsigned long first, step;
    int used = 0;

    if (sscanf(how, "%lu %lu %n", &first, &step, &used) != 2 || !step)
        _exit(125);
    FILE *const to = fopen(how + used, "we");
    if (!to)
        _exit(126);
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    struct outcome o = run(0, argc, argv, env);
    const size_t want_len = slurp(o.out, want, sizeof(want));
    (void)slurp(o.report, before, sizeof(before));
    for (unsigned long n = 0;;) {
        char text[TEXT];
        const size_t len = slurp(o.out, got, sizeof(got));
        const bool is_prefix = len <= want_len && memcmp(got, want, len) == 0;
        (void)fprintf(to, "%lu %d %s ", n, o.status,
                      is_prefix ? len == want_len ? "same" : "prefix"
                                : "other");
        (void)slurp(o.report, now, sizeof(now));
        print_leaks(to, before, now);
        (void)slurp(o.err, text, sizeof(text));
        for (char *p = text; *p; p++)
            if (*p == '\n')
                *p = '|';
        (void)fprintf(to, "%s\n", text);
        (void)fflush(to);
        (void)close(o.out);
        (void)close(o.err);
        (void)close(o.report);
        if (n && !atomic_load(&faults->did_alloc))
            break;
        n = n ? n + step : first;
        o = run(n, argc, argv, env);
    }
    (void)fclose(to);
    return 0;
}

static int main_between(int argc, char **argv, char **env)
{
    const char *const how = getenv("FAULTS_EACH");
    const char *const report = getenv("FAULTS_REPORT");

    (void)atexit(report_at_exit); /* the first: called the last */
    if (report)
        report_fd =
            open(report, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return how ? each(how, argc, argv, env) : real_main(argc, argv, env);
}

FAULTS_EXPORT int __libc_start_main(main_fn *program, int argc, char **argv,
                                    void (*init)(void), void (*fini)(void),
                                    void (*rtld_fini)(void), void *stack_end);

int __libc_start_main(main_fn *program, int argc, char **argv,
                      void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end)
{
    int (*const next)(main_fn *, int, char **, void (*)(void), void (*)(void),
                      void (*)(void), void *) =
        (int (*)(main_fn *, int, char **, void (*)(void), void (*)(void),
                 void (*)(void), void *))dlsym(RTLD_NEXT, "__libc_start_main");
    real_main = program;
    return next(main_between, argc, argv, init, fini, rtld_fini, stack_end);
}
