/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon listens: one text of the configuration, taken apart once,
 * and the sockets that it stands for.
 *
 *     [https://]ADDR:PORT            the address a number, [::1] for IPv6
 *     unix:PATH                      an absolute path
 *     [https://]systemd[:NAME]       sockets that the service manager has
 *                                    opened (sd_listen_fds(3)): all of them, or
 *                                    those of that name
 *
 * Threads: the main one. */
#ifndef GATEWAY_LISTEN_H
#define GATEWAY_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

enum listen_kind { LISTEN_TCP, LISTEN_UNIX, LISTEN_PASSED };

struct listen_spec {
    enum listen_kind kind;
    bool is_tls;
    char host[256];   /* TCP: without brackets; "": any address */
    char port[8];     /* TCP */
    const char *path; /* UNIX: borrowed from the text */
    const char *name; /* PASSED: likewise; "": all */
};

/* False: the text is none of these. */
bool listen_parse(const char *text, struct listen_spec *out);

/* Has the service manager handed sockets to this process (LISTEN_FDS, for our
 * process number)? */
bool listen_has_passed(void);

/* Sockets of one text, listening and non-blocking, at most `most`: new
 * descriptors in fds.  A unix socket has mode 0660, and takes the place of one
 * that nobody listens on any more.  0: none, which was printed. */
size_t listen_open(const char *text, int *fds, size_t most);
/* What a text has left behind: the name of a unix socket.  Only of one that was
 * opened, and before it is closed: it may be another process's afterwards. */
void listen_remove(const char *text);

/* "ADDR:PORT", "unix:PATH"; of a socket that listens. */
void listen_name(int fd, char *out, size_t cap);

#endif
