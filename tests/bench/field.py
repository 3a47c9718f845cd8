# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: the images of make_data behind nginx, a service
that is started for one of them, one client, what the processes cost, results.

Results are rows `what,metric,repetition,value` of results/NAME.csv; a time is in
seconds where its metric does not say otherwise.  BENCH_DATA and BENCH_RESULTS
name other folders; the programs are those of PLATTER_BIN."""
import collections, csv, statistics, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from live import *

print = __import__("functools").partial(print, flush=True)
DATA = os.path.abspath(os.environ.get("BENCH_DATA", TOP + "/build/bench-data"))
OUT = os.path.abspath(os.environ.get("BENCH_RESULTS", TOP + "/tests/bench/results"))
RAW, BLOCKS = DATA + "/disk.raw", DATA + "/blocks64k.txt"
SIZE = os.path.getsize(RAW)
FULL = [int(n) for n in open(BLOCKS)]  # numbers of 64 KiB blocks that are not zeros
MIB = 1 << 20
CACHE = SIZE + SIZE // 8 + 64 * MIB  # the whole disk, and tables
FORMATS = {"raw": "disk.raw", "qcow2": "disk.qcow2", "qcow2 zlib": "disk-zlib.qcow2",
           "qcow2 zstd": "disk-zstd.qcow2", "vmdk sparse": "disk-sparse.vmdk",
           "vmdk stream": "disk-stream.vmdk", "OVA": "disk.ova", "box": "vagrant.box",
           "raw.tar.gz": "raw.tar.gz", "GCE": "gce.tar.gz", "GCE pigz -i": "gce-pigzi.tar.gz",
           "GCE dictzip": "gce.tar.dz", "GCE BGZF": "gce-bgzf.tar.gz"}
FORMATS = {k: v for k, v in FORMATS.items() if os.path.exists(f"{DATA}/{v}")}

www = tmp + "/www"  # what nginx serves: the images, and what a script puts beside them
os.makedirs(www)
for _name in os.listdir(DATA):
    os.symlink(f"{DATA}/{_name}", f"{www}/{_name}")


class Results:
    """Rows of one script; what went wrong with platter, which fails the run."""

    def __init__(self, name):
        self.name, self.rows, self.wrong = name, [], []

    def put(self, what, metric, rep, value):
        self.rows.append((what, metric, rep, value))

    def fail(self, what, why, is_ours):
        """A service that stalls, dies or lies: of a peer it is a result."""
        text = " ".join(str(why).split())[:600]
        self.put(what, "failed", 0, text)
        print(f"  {what}: {text}")
        if is_ours:
            self.wrong.append(f"{what}: {text}")

    def save(self):
        os.makedirs(OUT, exist_ok=True)
        with open(f"{OUT}/{self.name}.csv", "w", newline="") as f:
            csv.writer(f, lineterminator="\n").writerows([("what", "metric", "repetition", "value"), *self.rows])

    def end(self):
        """The script's last line: exit 1 when platter did something wrong."""
        self.save()
        shutil.rmtree(tmp, ignore_errors=True)
        for text in self.wrong:
            print("WRONG:", text)
        sys.stdout.flush()
        os._exit(1 if self.wrong else 0)


def load(name):
    """{(what, metric): {repetition: value}} of a script's last run; {} without."""
    found = collections.defaultdict(dict)
    path = f"{OUT}/{name}.csv"
    if os.path.exists(path):
        with open(path, newline="") as f:
            for row in csv.DictReader(f):
                try:
                    value = float(row["value"])
                except ValueError:
                    value = row["value"]
                found[row["what"], row["metric"]][int(row["repetition"])] = value
    return found


class Origin(Nginx):
    """nginx over www with one worker for each of two cores.  /quiet/ is the same
    without a log, for nginx as the ideal."""

    def __init__(self):
        self.port, self.dir = free_port(), tempfile.mkdtemp(dir=tmp)
        self.log = self.dir + "/access.log"
        user = "user root;" if os.getuid() == 0 else ""
        with open(self.dir + "/conf", "w") as f:
            f.write(f"""{user} worker_processes 2; daemon off; pid {self.dir}/pid;
error_log {self.dir}/err; events {{ worker_connections 1024; }}
http {{ log_format c '$body_bytes_sent $uri'; access_log off; sendfile on; tcp_nopush on;
sendfile_max_chunk 2m; keepalive_requests 100000000; keepalive_timeout 600;
client_body_temp_path {self.dir}/t; proxy_temp_path {self.dir}/t; fastcgi_temp_path {self.dir}/t;
uwsgi_temp_path {self.dir}/t; scgi_temp_path {self.dir}/t;
server {{ listen 127.0.0.1:{self.port} reuseport; root {www};
location / {{ access_log {self.log} c; }} location /quiet/ {{ alias {www}/; }} }} }}""")
        self.start()

    def mark(self):
        time.sleep(0.02)
        return os.path.getsize(self.log)

    def since(self, mark):
        """Requests and bytes that were answered since; one that was broken off
        is logged when nginx notices."""
        time.sleep(0.15)
        with open(self.log) as f:
            f.seek(mark)
            sent = [int(line.split()[0]) for line in f]
        return len(sent), sum(sent)


class Stalled(Exception):
    pass


class Service:
    """The processes of one pipeline (pipelines.py), started for one file."""

    def __init__(self, pipe, base):
        self.dir, self.procs = tempfile.mkdtemp(dir=tmp), []
        words = {"{url}": base + pipe["file"], "{quiet}": f"{base}quiet/{pipe['file']}", "{base}": base,
                 "{tmp}": self.dir, "{port}": str(free_port())}

        def put_in(text):
            for word, value in words.items():
                text = text.replace(word, value)
            return text

        self.is_ours = pipe["name"].startswith("platter")
        self.target, self.client = put_in(pipe["target"]), pipe.get("client", [])
        self.start = time.perf_counter()
        self.err = open(self.dir + "/stderr", "wb")
        try:
            for proc in pipe["procs"]:
                self.procs.append(subprocess.Popen(
                    [put_in(word) for word in proc["argv"]], stdin=subprocess.DEVNULL, stdout=self.err,
                    stderr=self.err, start_new_session=True, env=dict(os.environ, TMPDIR=self.dir)))
                self.await_ready(*put_in(proc["ready"]).split(":", 1))
        except Exception:
            self.stop()
            raise
        self.ready = time.perf_counter() - self.start

    def await_ready(self, kind, what, seconds=180):
        end = time.monotonic() + seconds
        while True:
            if kind == "pid" and os.path.exists(what) and os.path.getsize(what):
                return
            if kind == "tcp":
                try:
                    return socket.create_connection(("127.0.0.1", int(what)), 1).close()
                except OSError:
                    pass
            if self.procs[-1].poll() is not None or time.monotonic() > end:
                raise Stalled("it did not start: " + self.said())
            time.sleep(0.0005)

    def said(self):
        with open(self.dir + "/stderr", errors="replace") as f:
            return f.read()[-300:]

    def rbench(self, mode, *flags, seconds=180, idle=None):
        """rbench.c on it; raises Stalled with what it says was wrong."""
        idle = idle or (15 if self.is_ours else 6)
        argv = [BIN + "/rbench", mode, self.target, *self.client, *map(str, flags), "-T", str(idle)]
        try:
            r = subprocess.run(argv, capture_output=True, timeout=seconds, text=True)
        except subprocess.TimeoutExpired:
            raise Stalled(f"{mode}: longer than {seconds} s")
        got = json.loads(r.stdout or '{"error": "rbench died"}')
        if "error" in got:
            raise Stalled(f"{mode}: {got['error']}; {self.said()}")
        return got

    def whole(self, *flags, idle=None):
        depth = 1 if self.target.startswith("http:") else 4
        return self.rbench("seq", "-S", SIZE, "-q", depth, "-w", 2, *flags, idle=idle)

    def pids(self):
        """Its processes and all that these started."""
        children = collections.defaultdict(list)
        for d in os.listdir("/proc"):
            if d.isdigit():
                try:
                    with open(f"/proc/{d}/stat") as f:
                        children[int(f.read().rsplit(")", 1)[1].split()[1])].append(int(d))
                except OSError:
                    pass
        out, todo = [], [p.pid for p in self.procs]
        while todo:
            out.append(todo.pop())
            todo += children[out[-1]]
        return out

    def cpu(self):
        """Processor seconds of them so far, and of those that have ended."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/stat") as f:
                    total += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:15]))
            except OSError:
                pass
        return total / os.sysconf("SC_CLK_TCK")

    def peak(self):
        """The most bytes that they have had resident, together."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as f:
                    m = re.search(r"VmHWM:\s+(\d+)", f.read())
                total += int(m[1]) << 10 if m else 0
            except OSError:
                pass
        return total

    def scratch(self):
        """Bytes on disk: of its folder, and of files that are open and deleted."""
        files = {}
        paths = [f"/proc/{pid}/fd/{fd}" for pid in self.pids() for fd in os.listdir(f"/proc/{pid}/fd")]
        paths = [p for p in paths if os.path.lexists(p) and os.readlink(p).endswith("(deleted)")]
        for base, _, names in os.walk(self.dir):
            paths += [f"{base}/{n}" for n in names if n != "stderr"]
        for path in paths:
            try:
                st = os.stat(path)
                files[st.st_dev, st.st_ino] = st.st_blocks * 512
            except OSError:
                pass
        return sum(files.values())

    def stop(self):
        """Ends it; raises Stalled when platter did not end cleanly."""
        codes = []
        for proc in reversed(self.procs):
            if proc.poll() is None:
                proc.terminate()
            try:
                codes.append(proc.wait(20))
            except subprocess.TimeoutExpired:
                os.killpg(proc.pid, signal.SIGKILL)
                codes.append(proc.wait())
        self.err.close()
        said = self.said()
        shutil.rmtree(self.dir, ignore_errors=True)
        if self.is_ours and any(codes):
            raise Stalled(f"ended with {codes}: {said}")


def median(values):
    return statistics.median(values) if values else None


def ratio(of, to):
    """The median of the ratios within repetitions, where both have one; of the
    medians otherwise.  None: one has none."""
    both = [of[r] / to[r] for r in of if r in to and to[r]]
    if both:
        return statistics.median(both)
    return median(of.values()) / median(to.values()) if of and to and median(to.values()) else None
