# SPDX-License-Identifier: Apache-2.0
"""Hosts with a line each, on one machine (delay_star.c): who is where, what a
program inside one of them is started with, and how a thread goes there."""
import ctypes, os, subprocess
from live import BIN, sh

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Star:
    """lines: (megabits a second, milliseconds one way) of each host, which has the
    address of its place, self.address(0) to self.address(n - 1)."""

    def __init__(self, lines, queue_ms=100):
        if os.getuid() != 0 or not os.path.exists("/dev/net/tun"):
            raise SystemExit("needs root, network namespaces and /dev/net/tun")
        self.proc = subprocess.Popen(
            [BIN + "/delay_star", str(queue_ms), *(f"{mbit}:{round(ms * 1000)}" for mbit, ms in lines)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready = self.proc.stdout.readline().split()
        if ready[:1] != ["ready"]:
            raise SystemExit("no lines between namespaces: " + self.proc.stderr.read())
        self.namespaces = [f"/proc/{self.proc.pid}/fd/{fd}" for fd in ready[1:]]
        for n in range(len(lines)):
            # What the kernel learns of a path must not help the next connection.
            sh([*self.inside(n), "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"])

    def address(self, n):
        return f"10.67.0.{n + 1}"

    def inside(self, n):
        """What a command is put behind, to run on host n."""
        return ["nsenter", "--net=" + self.namespaces[n]]

    def enter(self, n):
        """The calling thread's sockets are those of host n from now on."""
        with open(self.namespaces[n]) as ns:
            if libc.setns(ns.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def counts(self):
        """Of each host: bytes that it has sent, that it has received, packets that its
        line dropped."""
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()
        return [tuple(map(int, host.split(":"))) for host in self.proc.stdout.readline().split()]

    def stop(self):
        self.proc.stdin.close()
        self.proc.wait(10)
