/* SPDX-License-Identifier: Apache-2.0 */
/* platterd: flags, start, signals, stop. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "server.h"

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

int main(int argc, char **argv)
{
    static struct config config; /* large */
    static sigset_t set;
    pthread_t impatient;
    int sig = 0;

    const int parsed = config_parse(&config, argc, argv);
    if (parsed) {
        config_release(&config);
        return parsed == 1 ? 0 : 2;
    }
    log_set_level(config.log_level);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    /* Before any thread starts, so that all inherit it. */
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct server *const server = server_new(&config);
    if (!server) {
        config_release(&config);
        return 1;
    }
    if (config.pid_file)
        write_pid(config.pid_file);
    do {
        (void)sigwait(&set, &sig);
        if (sig == SIGHUP)
            log_event("reload_not_supported_yet");
    } while (sig == SIGHUP);
    log_event("draining");
    const bool has_thread =
        pthread_create(&impatient, NULL, die_at_second, &set) == 0;
    server_free(server);
    if (has_thread) {
        (void)pthread_cancel(impatient);
        (void)pthread_join(impatient, NULL);
    }
    if (config.pid_file)
        (void)unlink(config.pid_file);
    log_event("stopped");
    config_release(&config);
    return 0;
}
