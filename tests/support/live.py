# SPDX-License-Identifier: Apache-2.0
"""The running product for python suites: nginx, the lying origin, platterd.

A suite registers cases with @case("a sentence") and ends with main().  Every
platterd that was started must end with exit 0 and without a sanitizer's report;
that is a case of its own."""
import http.client, os, random, re, shutil, signal, socket, subprocess, sys
import tempfile, threading, time, traceback, json, hashlib
from concurrent.futures import ThreadPoolExecutor

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("PLATTER_BIN", os.path.join(TOP, "build/dev/bin"))
CASES = []
_daemons = []
tmp = tempfile.mkdtemp(prefix="platter-test-")
random.seed(int(os.environ.get("PLATTER_SEED", "20261121")))


def case(sentence):
    def add(fn):
        CASES.append((sentence, fn))
        return fn
    return add


def sh(cmd, **kw):
    r = subprocess.run(cmd, shell=isinstance(cmd, str), capture_output=True,
                       timeout=kw.pop("timeout", 300), executable="/bin/bash"
                       if isinstance(cmd, str) else None, **kw)
    if r.returncode != 0:
        raise AssertionError(f"{cmd}: exit {r.returncode}: {r.stderr[-600:]!r}")
    return r.stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Nginx:
    """A real web server over a folder; /slow/ is the same at 512 KiB/s."""

    def __init__(self, root):
        self.root, self.port = root, free_port()
        self.dir = tempfile.mkdtemp(dir=tmp)
        self.log = self.dir + "/access.log"
        user = "user root;" if os.getuid() == 0 else ""
        with open(self.dir + "/conf", "w") as f:
            f.write(f"""{user} worker_processes 1; daemon off; pid {self.dir}/pid;
error_log {self.dir}/err; events {{ worker_connections 8192; }}
http {{ log_format c '$uri $status $body_bytes_sent $http_traceparent'; access_log {self.log} c;
client_body_temp_path {self.dir}/t; proxy_temp_path {self.dir}/t;
fastcgi_temp_path {self.dir}/t; uwsgi_temp_path {self.dir}/t;
scgi_temp_path {self.dir}/t; keepalive_requests 100000;
server {{ listen 127.0.0.1:{self.port}; root {root};
location /slow/ {{ alias {root}/; limit_rate 512k; }} }} }}""")
        self.start()

    def start(self):
        self.proc = subprocess.Popen(
            ["nginx", "-e", self.dir + "/err", "-c", self.dir + "/conf"])
        wait_port(self.port)

    def stop(self):
        self.proc.terminate()
        self.proc.wait(10)

    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def sent(self, name):
        """Bytes and requests that were answered for a name so far."""
        time.sleep(0.2)
        rows = [l.split() for l in open(self.log)]
        rows = [r for r in rows if r[0].endswith(name)]
        return sum(int(r[2]) for r in rows), len(rows)


def wait_port(port, seconds=15):
    end = time.time() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.time() > end:
                raise
            time.sleep(0.02)


class Origin:
    """tests/support/origin.py over a folder."""

    def __init__(self, root):
        self.proc = subprocess.Popen(
            [sys.executable, os.path.join(TOP, "tests/support/origin.py"), root],
            stdout=subprocess.PIPE, text=True)
        self.port = int(self.proc.stdout.readline())

    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def stop(self):
        self.proc.kill()
        self.proc.wait()


class Platterd:
    def __init__(self, origins, *flags, unsent=0):
        """unsent: bytes that the kernel takes for a client that does not read, about;
        0: as many as it pleases, and that is megabytes with some congestion controls."""
        self.err = tempfile.NamedTemporaryFile(dir=tmp, delete=False)
        args = [BIN + "/platterd", "--listen", "systemd" if unsent else "127.0.0.1:0"]
        for name, base in origins.items():
            args += ["--origin", f"{name}={base}"]
        args += flags
        fds = ()
        if unsent:  # what is accepted inherits from what listens
            listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, unsent // 2)
            fds = (listener.fileno(),)
            args = ["bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{fds[0]}', "bash"] + args
        self.proc = subprocess.Popen(args, stderr=self.err, pass_fds=fds)
        if unsent:
            listener.close()
        end = time.time() + 20
        while True:
            m = re.search(r"event=listening address=127.0.0.1:(\d+)", self.text())
            if m:
                break
            if time.time() > end or self.proc.poll() is not None:
                raise AssertionError("platterd did not start: " + self.text())
            time.sleep(0.02)
        self.port = int(m[1])
        _daemons.append(self)

    def text(self):
        with open(self.err.name, errors="replace") as f:
            return f.read()

    def get(self, path, headers=None, method="GET", timeout=60, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        r.body = r.read()
        c.close()
        return r

    def range(self, path, off, length):
        r = self.get(path, {"Range": f"bytes={off}-{off + length - 1}"})
        assert r.status == 206, (path, off, length, r.status, r.body[:300])
        return r.body

    def raw(self, data, timeout=10):
        """Bytes as they are on the wire; what comes back until it closes."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout)
        s.sendall(data)
        out = b""
        try:
            while True:
                more = s.recv(65536)
                if not more:
                    break
                out += more
        except socket.timeout:
            pass
        except ConnectionResetError:
            pass
        s.close()
        return out

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        code = self.proc.wait(180)
        text = self.text()
        if self in _daemons:
            _daemons.remove(self)
        # LeakSanitizer's own helper dies now and then, of itself, at the very end:
        # then there is no report on leaks of this one server.
        if "LeakSanitizer has encountered a fatal error" in text:
            text, code = text[:text.index("Tracer caught signal")], 0
        # OpenSSL's error state (904 bytes) of a thread that is ending at that moment.
        if "CRYPTO_zalloc" in text and "904 byte(s) leaked in 1 allocation" in text and \
                text.count("Sanitizer: ") == 2:
            text, code = text[:text.index("==ERROR: LeakSanitizer")], 0
        # A report first: it says more than the exit code that it causes.
        for word in ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer",
                     "runtime error", "assertion_failed"):
            assert word not in text, text[max(0, text.index(word) - 80):][:5000]
        assert code == 0, f"platterd ended with {code}: {text[-2000:]}"


def platter(*args, check=True):
    for _ in range(3):
        r = subprocess.run([BIN + "/platter", *args], capture_output=True, timeout=300)
        # LeakSanitizer's own helper dies now and then, of itself: it says so.
        if b"LeakSanitizer has encountered a fatal error" not in r.stderr:
            break
    if check and r.returncode != 0:
        raise AssertionError(f"platter {args}: {r.returncode} {r.stderr[-600:]!r}")
    return r


def slices(size, n=8):
    """Offsets and lengths: the ends, and anywhere."""
    out = [(0, min(512, size)), (max(0, size - 4096), min(4096, size))]
    for _ in range(n):
        off = random.randrange(size)
        out.append((off, min(random.choice([1, 512, 4096, 65536, 300000]),
                             size - off)))
    return out


def part(path, off, length):
    with open(path, "rb") as f:
        f.seek(off)
        return f.read(length)


def problem(r, status, kind=None):
    assert r.status == status, (r.status, r.body[:500])
    assert r.getheader("Content-Type") == "application/problem+json", r.headers
    doc = json.loads(r.body)
    assert doc["status"] == status and doc["request_id"] and doc["title"], doc
    if kind:
        assert doc["type"] == "/problems/" + kind, doc
    return doc


def outside(argv, env, seconds):
    """Runs a program that prints its cases as main() does, and hands its lines on as they
    come.  Its (passed, failed); without its last line, or with an exit code that says
    otherwise, it has failed once more."""
    proc = subprocess.Popen(argv, env={**os.environ, **env}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace",
                            start_new_session=True)

    def end():
        try:
            os.killpg(proc.pid, signal.SIGKILL)  # what it started, too
        except ProcessLookupError:
            pass

    late = threading.Timer(seconds, end)
    late.start()
    counts = None
    for line in proc.stdout:
        m = re.fullmatch(r"# (\d+) passed, (\d+) failed, 0 skipped\n", line)
        if m:
            counts = int(m[1]), int(m[2])
        else:
            print(line, end="", flush=True)
    code = proc.wait()
    late.cancel()
    end()
    if counts and (code == 0) == (counts[1] == 0):
        return counts
    print(f"not ok - {os.path.basename(argv[-1])} comes to its end\n    exit {code}", flush=True)
    return (counts[0], counts[1] + 1) if counts else (0, 1)


def main(*programs):
    """programs: (argv, env, seconds) of outside(), run after the cases."""
    passed = failed = 0
    only = os.environ.get("PLATTER_CASE", "")  # a pattern: for work on one case
    for sentence, fn in CASES:
        if not re.search(only, sentence):
            continue
        try:
            fn()
            print("ok -", sentence, flush=True)
            passed += 1
        except Exception:
            print("not ok -", sentence)
            print("   ", traceback.format_exc()[-1500:].replace("\n", "\n    "),
                  flush=True)
            failed += 1
    for program in programs:
        good, bad = outside(*program)
        passed, failed = passed + good, failed + bad
    for d in list(_daemons):
        try:
            d.stop()
            passed += 1
        except Exception as e:
            print("not ok - a server ends cleanly:", str(e)[:5000])
            failed += 1
    subprocess.run(["pkill", "-P", str(os.getpid())])
    shutil.rmtree(tmp, ignore_errors=True)
    print(f"# {passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed else 0)
