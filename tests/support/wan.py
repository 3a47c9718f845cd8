# SPDX-License-Identifier: Apache-2.0
"""A web server behind a long line.

Importing this takes the process (and all that it starts from then on) into a
network namespace of its own, where nobody else's ports and addresses are; a
Line leads from there to a namespace of its own again (delay_line.c), in which
nginx runs.  Needs root, namespaces and tun: without, importing fails and says
what is missing, so that nobody takes a test that did not run for a good one.

What is counted, and how:

requests    lines of nginx's log, which has of each: when it was complete, how
            long it took, the range, the bytes, the connection.
waves       how many requests had to wait for another one's answer.  A request
            that depends on the answer to an earlier one cannot come to the
            server sooner than a round trip behind it (the first byte of the
            answer goes one way, the request the other).  So from the first
            request on: all that arrive less than 0.9 of a round trip later are
            of its wave; the next one that arrives begins a wave; and so on.
            Requests that could have been sent sooner count as dependent: the
            number is an upper bound of the true one.
bytes       what came over the line to the near end, headers and all, up to the
            moment at which the answer was complete."""
import ctypes, os, subprocess, sys, time
from live import BIN, Nginx, tmp, sh
import live

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
FAR = "10.66.0.2"


def enter():
    libc = ctypes.CDLL(None, use_errno=True)
    if os.getuid() != 0:
        raise SystemExit("needs root: network namespaces and /dev/net/tun")
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        raise SystemExit("needs namespaces: unshare: " + os.strerror(ctypes.get_errno()))
    # What is mounted from here on is nobody else's.
    sh("mount --make-rprivate / && ip link set lo up")
    if not os.path.exists("/dev/net/tun"):
        raise SystemExit("needs /dev/net/tun")


enter()


class Line:
    def __init__(self, rtt_ms=20, mbit=0, queue_kib=1024):
        self.rtt = rtt_ms / 1000
        self.proc = subprocess.Popen(
            [BIN + "/delay_line", str(rtt_ms * 500), str(mbit), str(queue_kib)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.proc.stdout.readline() != "ready\n":
            raise SystemExit("no line between namespaces: " + self.proc.stderr.read())
        self.inside = ["nsenter", f"--net=/proc/{self.proc.pid}/ns/net"]

    def arrived(self):
        """Bytes at the near end so far."""
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()
        return int(self.proc.stdout.readline().split()[1])

    def stop(self):
        self.proc.stdin.close()
        self.proc.wait(10)


class FarNginx(Nginx):
    """nginx at the far end of a line; tls: with that certificate and key, and
    HTTP/2."""

    def __init__(self, line, root, tls=None, more=""):
        self.line, self.root, self.port = line, root, 443 if tls else 80
        self.tls = tls
        self.dir = live.tempfile.mkdtemp(dir=tmp)
        self.log = self.dir + "/access.log"
        listen = f"{FAR}:{self.port}" + (" ssl http2" if tls else "")
        keys = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""
        with open(self.dir + "/conf", "w") as f:
            f.write(f"""user root; worker_processes 1; daemon off; pid {self.dir}/pid;
error_log {self.dir}/err; events {{ worker_connections 512; }}
http {{ log_format c '$msec $request_time $connection $status $body_bytes_sent '
 '$uri "$http_range" $server_protocol';
access_log {self.log} c; tcp_nodelay on;
client_body_temp_path {self.dir}/t; proxy_temp_path {self.dir}/t;
fastcgi_temp_path {self.dir}/t; uwsgi_temp_path {self.dir}/t;
scgi_temp_path {self.dir}/t; keepalive_requests 100000;
server {{ listen {listen}; {keys} root {root}; {more} }} }}""")
        self.start()

    def start(self):
        self.proc = subprocess.Popen(self.line.inside + [
            "nginx", "-e", self.dir + "/err", "-c", self.dir + "/conf"])
        end = time.time() + 15
        while subprocess.run(self.line.inside + ["ss", "-Hltn", f"sport = :{self.port}"],
                             capture_output=True).stdout == b"":
            if time.time() > end or self.proc.poll() is not None:
                raise AssertionError("nginx did not start: " + open(self.dir + "/err").read())
            time.sleep(0.02)

    def url(self):
        return f"http{'s' if self.tls else ''}://{FAR}/"

    def requests(self):
        """All so far, by when they came: (arrival, connection, status, bytes, uri, range,
        protocol)."""
        time.sleep(0.1)
        rows = []
        for text in open(self.log):
            end, took, conn, status, sent, uri, rest = text.split(" ", 6)
            span, _, proto = rest.strip().rpartition(" ")
            rows.append((float(end) - float(took), int(conn), int(status), int(sent), uri,
                         span.strip('"'), proto))
        return sorted(rows)

    def forget(self):
        time.sleep(0.1)
        open(self.log, "w").close()


def waves(rows, rtt):
    n, start = 0, -1e9
    for row in rows:
        if row[0] - start >= 0.9 * rtt:
            n, start = n + 1, row[0]
    return n
