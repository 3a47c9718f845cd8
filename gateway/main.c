/* SPDX-License-Identifier: Apache-2.0 */
/* platterd: flags, start, signals, stop. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <platter/error.h>

#include "config.h"
#include "sandbox.h"
#include "server.h"
#include "stack/json_memory.h"

static void write_pid(const char *path)
{
    FILE *const f = fopen(path, "we");
    if (!f) {
        (void)fprintf(stderr, "platterd: %s: %s\n", path, strerror(errno));
        return;
    }
    (void)fprintf(f, "%ld\n", (long)getpid());
    (void)fclose(f);
}

static void log_event(const char *event)
{
    struct log_line l;
    log_begin(&l, LOG_INFO, event);
    log_end(&l);
}

/* A second signal while draining: no more patience. */
static void *die_at_second(void *arg)
{
    const sigset_t *const set = (const sigset_t *)arg;
    int sig = 0;
    do {
        (void)sigwait(set, &sig);
    } while (sig == SIGHUP);
    _exit(1);
}

/* All or nothing: with a mistake in it the old configuration goes on. */
static void reload(struct server *server, int argc, char **argv)
{
    struct config *const next = calloc(1, sizeof(*next));
    const uint64_t lost = json_memory_lost();

    if (!next) {
        log_event("reload_failed");
        return;
    }
    if (config_parse(next, argc, argv, true) == 0 &&
        json_memory_lost() == lost && server_reload(server, next)) {
        log_set_level(next->log_level);
        audit_reload(&server->audit, true);
        log_event("reloaded");
        return;
    }
    config_release(next);
    free(next);
    audit_reload(&server->audit, false);
    log_event("reload_failed");
}

/* Before any thread starts, so that all inherit it, and before anything else:
 * one that comes while the configuration is read waits. */
static void hold_signals(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGTERM);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on files is a full disk */
    /* They mean nothing here, and a rotator of logs or a supervisor may send
     * them to any daemon. */
    (void)signal(SIGUSR1, SIG_IGN);
    (void)signal(SIGUSR2, SIG_IGN);
}

int main(int argc, char **argv)
{
    static sigset_t set;
    hold_signals(&set);
    struct config *const config = calloc(1, sizeof(*config));
    pthread_t impatient;
    int sig = 0;

    if (!config)
        return 1;
    json_memory_watch();
    const int parsed = config_parse(config, argc, argv, false);
    if (!parsed && json_memory_lost())
        (void)fprintf(stderr, "platterd: out of memory\n");
    if (parsed || json_memory_lost()) {
        config_release(config);
        free(config);
        return parsed == 1 ? 0 : 2;
    }
    log_set_level(config->log_level);
    /* The server's from here on; a reload may replace it. */
    char *const pid_file = config->pid_file ? strdup(config->pid_file) : NULL;
    /* Fixed, or glibc lets the limit grow with what it sees and keeps blocks of
     * the cache on heaps that never shrink: a gateway that has looked into 300
     * gzip images held 560 MB for 256 MiB of budget, and 300 MB with this. */
    (void)mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    struct plt_error err;
    if (sandbox_enter(config, &err) != PLT_OK) {
        (void)fprintf(stderr, "platterd: sandbox: %s\n", err.text);
        config_release(config);
        free(config);
        free(pid_file);
        return 1;
    }
    struct server *const server = server_new(config);
    if (!server) {
        free(pid_file);
        return 1;
    }
    if (pid_file)
        write_pid(pid_file);
    do {
        (void)sigwait(&set, &sig);
        if (sig == SIGHUP)
            reload(server, argc, argv);
    } while (sig == SIGHUP);
    log_event("draining");
    const bool has_thread =
        pthread_create(&impatient, NULL, die_at_second, &set) == 0;
    server_free(server);
    if (has_thread) {
        (void)pthread_cancel(impatient);
        (void)pthread_join(impatient, NULL);
    }
    if (pid_file)
        (void)unlink(pid_file);
    free(pid_file);
    log_event("stopped");
    return 0;
}
