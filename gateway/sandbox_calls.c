/* SPDX-License-Identifier: Apache-2.0 */
/* What serving needs, with its libraries: reading and writing files, memory,
 * threads, sockets and time.  The list was made from what the test suites do
 * (strace) and from systemd's @system-service, less what nothing here does. */
#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "sandbox.h"

#define CALL(x) SCMP_SYS(x)

static const int allowed[] = {
    /* files */
    CALL(read),
    CALL(readv),
    CALL(pread64),
    CALL(preadv),
    CALL(preadv2),
    CALL(write),
    CALL(writev),
    CALL(pwrite64),
    CALL(pwritev),
    CALL(pwritev2),
    CALL(open),
    CALL(openat),
    CALL(openat2),
    CALL(close),
    CALL(close_range),
    CALL(stat),
    CALL(fstat),
    CALL(lstat),
    CALL(newfstatat),
    CALL(statx),
    CALL(statfs),
    CALL(fstatfs),
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlink),
    CALL(readlinkat),
    CALL(getdents),
    CALL(getdents64),
    CALL(getcwd),
    CALL(lseek),
    CALL(ftruncate),
    CALL(fallocate),
    CALL(fadvise64),
    CALL(fsync),
    CALL(fdatasync),
    CALL(sync_file_range),
    CALL(rename),
    CALL(renameat),
    CALL(renameat2),
    CALL(unlink),
    CALL(unlinkat),
    CALL(mkdir),
    CALL(mkdirat),
    CALL(fcntl),
    CALL(flock),
    CALL(dup),
    CALL(dup2),
    CALL(dup3),
    CALL(pipe),
    CALL(pipe2),
    CALL(ioctl),
    CALL(sendfile),
    CALL(splice),
    CALL(copy_file_range),
    CALL(memfd_create),
    CALL(umask),
    CALL(fchmod),
    CALL(utimensat),
    /* memory */
    CALL(brk),
    CALL(mmap),
    CALL(munmap),
    CALL(mremap),
    CALL(mprotect),
    CALL(madvise),
    CALL(mlock),
    CALL(munlock),
    CALL(membarrier),
    /* threads, signals, time */
    CALL(futex),
    CALL(set_robust_list),
    CALL(get_robust_list),
    CALL(rseq),
    CALL(exit),
    CALL(exit_group),
    CALL(gettid),
    CALL(getpid),
    CALL(getppid),
    CALL(tgkill),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(sched_getparam),
    CALL(sched_getscheduler),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(rt_sigtimedwait),
    CALL(rt_sigsuspend),
    CALL(sigaltstack),
    CALL(restart_syscall),
    CALL(nanosleep),
    CALL(clock_nanosleep),
    CALL(clock_gettime),
    CALL(clock_getres),
    CALL(gettimeofday),
    CALL(time),
    CALL(getrandom),
    CALL(getrusage),
    CALL(prlimit64),
    CALL(getrlimit),
    CALL(sysinfo),
    CALL(uname),
    CALL(getcpu),
    CALL(prctl),
    CALL(arch_prctl),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getresuid),
    CALL(getresgid),
    CALL(get_mempolicy),
    /* the network */
    CALL(socketpair),
    CALL(bind),
    CALL(listen),
    CALL(accept),
    CALL(accept4),
    CALL(connect),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(sendto),
    CALL(recvfrom),
    CALL(sendmsg),
    CALL(recvmsg),
    CALL(sendmmsg),
    CALL(recvmmsg),
    CALL(shutdown),
    CALL(poll),
    CALL(ppoll),
    CALL(select),
    CALL(pselect6),
    CALL(epoll_create),
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(epoll_pwait2),
    CALL(eventfd),
    CALL(eventfd2),
    CALL(timerfd_create),
    CALL(timerfd_settime),
};

/* CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET (clone(2)). */
#define NAMESPACES UINT64_C(0x7e020000)

/* Sockets of these families alone; netlink is how libc learns which addresses
 * the host has. */
static const unsigned families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

/* Nothing of ours, whatever went wrong. */
static const int deadly[] = {
    CALL(execve),
    CALL(execveat),
    CALL(ptrace),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(mount),
    CALL(umount2),
    CALL(pivot_root),
    CALL(chroot),
    CALL(setns),
    CALL(unshare),
    CALL(bpf),
    CALL(perf_event_open),
    CALL(init_module),
    CALL(finit_module),
    CALL(delete_module),
    CALL(kexec_load),
    CALL(reboot),
    CALL(add_key),
    CALL(keyctl),
    CALL(request_key),
    CALL(userfaultfd),
    CALL(io_uring_setup),
    CALL(modify_ldt),
    CALL(setuid),
    CALL(setgid),
    CALL(setresuid),
    CALL(setresgid),
    CALL(setreuid),
    CALL(setregid),
    CALL(capset),
};

bool sandbox_limit_calls(void)
{
    const scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int e = f ? 0 : -ENOMEM;

    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && !e; i++)
        e = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]) && !e; i++)
        e = seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
    /* Threads, and no namespace with them.  What clone3 asks for cannot be seen
     * from here: libc goes back to clone. */
    if (!e) {
        const struct scmp_arg_cmp no_namespace = {.arg = 0,
                                                  .op = SCMP_CMP_MASKED_EQ,
                                                  .datum_a = NAMESPACES,
                                                  .datum_b = 0};
        e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, CALL(clone), 1,
                                   &no_namespace);
    }
    if (!e)
        e = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]) && !e; i++) {
        const struct scmp_arg_cmp is_family = {
            .arg = 0, .op = SCMP_CMP_EQ, .datum_a = families[i], .datum_b = 0};
        e = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, CALL(socket), 1,
                                   &is_family);
    }
    if (!e)
        e = seccomp_load(f);
    seccomp_release(f);
    errno = -e;
    return e == 0;
}
