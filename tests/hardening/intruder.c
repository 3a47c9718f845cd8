/* SPDX-License-Identifier: Apache-2.0 */
/* A driver that is not ours: it does what its file says, and the disk it makes
 * is 64 bytes of what came of it: "ok", or the name of errno.  So a test runs
 * any code inside the gateway, as an intruder would. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <platter/driver.h>

struct intruder {
    char said[64];
};

static int connect_raw(const char *family)
{
    return socket((int)strtol(family, NULL, 10), SOCK_RAW, 0);
}

static int bind_port(const char *port)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port =
                                       htons((uint16_t)strtoul(port, NULL, 10)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    return bind(fd, (const struct sockaddr *)&at, sizeof(at));
}

static int act(const char *what, const char *arg)
{
    if (strcmp(what, "read") == 0) {
        char c;
        const int fd = open(arg, O_RDONLY);
        return fd < 0 ? -1 : (int)read(fd, &c, 1);
    }
    if (strcmp(what, "list") == 0)
        return open(arg, O_RDONLY | O_DIRECTORY);
    if (strcmp(what, "write") == 0)
        return open(arg, O_WRONLY | O_CREAT, 0600);
    if (strcmp(what, "truncate") == 0)
        return open(arg, O_WRONLY | O_TRUNC);
    if (strcmp(what, "unlink") == 0)
        return unlink(arg);
    if (strcmp(what, "link") == 0)
        return link(arg, "/tmp/platter-link");
    if (strcmp(what, "mkdir") == 0)
        return mkdir(arg, 0700);
    if (strcmp(what, "chmod") == 0)
        return chmod(arg, 0777);
    if (strcmp(what, "exec") == 0)
        return execl(arg, arg, (char *)NULL);
    if (strcmp(what, "ptrace") == 0)
        return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    if (strcmp(what, "unshare") == 0)
        return (int)syscall(SYS_unshare, 0x10000000); /* a user namespace */
    if (strcmp(what, "clone") == 0) /* a child in a user namespace */
        return (int)syscall(SYS_clone, 0x10000000 | SIGCHLD, NULL, NULL, NULL,
                            NULL);
    if (strcmp(what, "kill") == 0)
        return kill(getppid(), 0);
    if (strcmp(what, "raw") == 0)
        return connect_raw(arg);
    if (strcmp(what, "bind") == 0)
        return bind_port(arg);
    errno = ENOSYS;
    return -1;
}

static enum plt_status intruder_open(const struct plt_open_args *args,
                                     void **image, struct plt_opened *out,
                                     struct plt_error *err)
{
    char text[512] = "", what[32] = "", arg[400] = "";
    const size_t len = args->child->size < sizeof(text) - 1
                           ? (size_t)args->child->size
                           : sizeof(text) - 1;
    const struct plt_seg seg = {0, len, text};
    const enum plt_status st =
        args->child->read(args->child, args->io, &seg, 1, err);
    struct intruder *const i = calloc(1, sizeof(*i));

    if (st != PLT_OK || !i)
        return st != PLT_OK ? st : plt_fail(err, PLT_NOMEM, "an intruder");
    (void)sscanf(text, "%31s %399s", what, arg);
    (void)snprintf(i->said, sizeof(i->said), "%s",
                   act(what, arg) < 0 ? strerrorname_np(errno) : "ok");
    *image = i;
    out->size = sizeof(i->said);
    return PLT_OK;
}

static enum plt_status intruder_read(void *image, struct plt_io *io,
                                     const struct plt_seg *segs, size_t n,
                                     struct plt_error *err)
{
    const struct intruder *const i = (const struct intruder *)image;

    (void)io;
    (void)err;
    for (size_t k = 0; k < n; k++)
        memcpy(segs[k].buf, i->said + segs[k].off, segs[k].len);
    return PLT_OK;
}

PLT_DRIVER(.name = "intruder", .kind = PLT_KIND_FORMAT,
           .threads = PLT_CONCURRENT_READS, .open = intruder_open,
           .close = free, .read = intruder_read)
