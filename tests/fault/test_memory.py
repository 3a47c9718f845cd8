# SPDX-License-Identifier: Apache-2.0
"""Allocations that fail, each in turn: of the command over every format, and of
a server that serves others at the same time.  No crash, no wrong byte, no leak;
an error that says memory.  Without --all every k-th, from a seed that is printed."""
import sys, os
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faults import *
import images

ALL = "--all" in sys.argv
STEP = 1 if ALL else int(os.environ.get("PLATTER_FAULT_STEP", "31"))
www = tmp + "/www"
base = www + "/base"
os.makedirs(base)
images.guest_disk(base + "/d.raw", 6)
truth = base + "/d.raw"
sh("""set -e
qemu-img convert -O qcow2 d.raw plain.qcow2
qemu-img convert -c -O qcow2 d.raw zlib.qcow2
qemu-img convert -c -O qcow2 -o compression_type=zstd d.raw zstd.qcow2
qemu-img create -q -f qcow2 -b zlib.qcow2 -F qcow2 top.qcow2
qemu-img create -q -f qcow2 -b top.qcow2 -F qcow2 chain.qcow2
cp plain.qcow2 snap.qcow2
qemu-img snapshot -c one snap.qcow2
printf secret > key
# qemu-img measures its processor time, and now and then finds none.
for k in 1 2 3 4 5 6 7 8; do qemu-img convert -O qcow2 --object secret,id=k,file=key -o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=100 d.raw luks.qcow2 && break; done
qemu-img convert -O vmdk d.raw sparse.vmdk
qemu-img convert -O vmdk -o subformat=monolithicFlat d.raw flat.vmdk
qemu-img convert -O vmdk -o subformat=streamOptimized d.raw stream.vmdk
tar -cf d.tar d.raw
tar -Sczf d.tar.gz d.raw
gzip -k d.raw
tar -cf d.ova --format=ustar stream.vmdk""", cwd=base)
images.dictzip99(truth, base + "/d.dz")
nginx = Nginx(www)
print(f"# seed {SEED}, every {STEP}.", flush=True)

# What is read: name, selectors.  Everything of which the command says something.
DISKS = [("d.raw", ""), ("d.tar", ""), ("d.tar.gz", ""), ("d.raw.gz", ""), ("d.dz", ""),
         ("plain.qcow2", ""), ("zlib.qcow2", ""), ("zstd.qcow2", ""), ("chain.qcow2", ""),
         ("snap.qcow2", "snapshot=one"), ("luks.qcow2", "secret=k"), ("sparse.vmdk", ""),
         ("flat.vmdk", ""), ("stream.vmdk", ""), ("d.ova", "")]


def of(name, pick):
    if name.startswith("luks"):
        return [base + "/" + name, "--secret-file", f"k={base}/key", "--secret", "k"]
    return [base + "/" + name] + (["--" + pick.replace("=", "\n").split("\n")[0],
                                   pick.split("=")[1]] if pick else [])


COMMANDS = [[c, *of(n, p)] for n, p in DISKS for c in ("info", "map")
            if not n.startswith("luks")]  # hashed for a tenth of a second each time
COMMANDS += [["read", *of(n, p), "--offset", "1000000", "--length", "300000"] for n, p in DISKS]
COMMANDS += [["members", base + "/" + n] for n in ("d.tar", "d.tar.gz", "d.ova")]
COMMANDS += [["partitions", base + "/" + n] for n in ("d.raw", "zlib.qcow2", "d.tar.gz")]
COMMANDS += [["snapshots", base + "/snap.qcow2"]]
COMMANDS += [["check", base + "/" + n] for n in ("plain.qcow2", "zlib.qcow2", "snap.qcow2")]
COMMANDS += [["checksum", base + "/stream.vmdk"], ["index", base + "/d.tar.gz"],
             ["read", nginx.url() + "base/d.tar.gz", "--offset", "1000000", "--length", "300000"],
             ["info", nginx.url() + "base/chain.qcow2"], ["plugins"]]


def judge(args, rows):
    """What is wrong with the outcomes of a command, as text."""
    bad = []
    if rows[0][1]:
        bad.append(f"{args}: fails as it is: {rows[0]}")
    for n, status, output, leaks, text in rows[1:]:
        told = f"{args[0]} {os.path.basename(args[1]) if args[1:] else ''} n={n}"
        if status & 0x7f:
            bad.append(f"{told}: killed by signal {status & 0x7f}: {text[:300]}")
        elif status == 0 and output != "same" and args[0] not in ("info", "index"):
            bad.append(f"{told}: exit 0 and other bytes: {text[:200]}")
        elif output == "other" and args[0] == "read":
            bad.append(f"{told}: wrong bytes")
        elif status and "memory" not in text:
            bad.append(f"{told}: does not say memory: {text[:200]!r}")
        if leaks != "-" and not status & 0x7f:
            bad.append(f"{told}: leaks " + "; ".join(where(x, "platter") for x in leaks.split(",")))
    return bad


def torture(who, commands, step):
    ran, bad = 0, []
    rng = random.Random(SEED)
    jobs = [(c, rng.randrange(step) + 1) for c in commands]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda j: each_allocation(j[0], j[1], step, who), jobs)
        for (args, _), rows in zip(jobs, results):
            ran += len(rows) - 2
            bad += judge(args, rows)
    print(f"#   {ran} failures in {len(commands)} commands", flush=True)
    assert not bad, f"{len(bad)}:\n" + "\n".join(bad[:60])


@case("the command, an allocation of ours failing: it says so, and no more happens")
def command_ours():
    torture(OURS, COMMANDS, STEP)


# ---- A server ----

def requests():
    """Method, path with NAME for the folder, body and headers."""
    out = []
    for name, pick in DISKS:
        ref = f"NAME/{name}" + ("?" + pick if pick else "")
        out.append(("GET", "/disk/lab/" + ref, None, {"Range": "bytes=1000000-1299999"}))
        if not name.startswith("luks"):  # each is a tenth of a second's hashing
            out.append(("GET", "/v1/info/lab/" + ref, None, {}))
    out += [("GET", "/v1/extents/lab/NAME/" + n, None, {}) for n in ("d.raw", "chain.qcow2", "d.ova")]
    out += [("GET", "/v1/partitions/lab/NAME/zlib.qcow2", None, {}),
            ("GET", "/v1/members/lab/NAME/d.tar.gz?limit=1", None, {}),
            ("GET", "/v1/snapshots/lab/NAME/snap.qcow2", None, {}),
            ("GET", "/v1/check/lab/NAME/zlib.qcow2", None, {}),
            ("GET", "/v1/checksum/lab/NAME/stream.vmdk", None, {}),
            ("GET", "/v1/checksum/lab/NAME/d.raw", None, {"Accept": "text/event-stream"}),
            ("GET", "/v1/index/lab/NAME/d.tar.gz?format=platter", None, {}),
            ("GET", "/disk/lab/NAME/d.raw", None, {}),
            ("HEAD", "/disk/lab/NAME/d.raw.gz?layers=gzip", None, {}),
            ("GET", "/disk/lab/NAME/chain.qcow2?partition=1", None,
             {"Range": "bytes=0-99,5000-5999,900000-900099"}),
            ("GET", "/disk/web/NAME/d.tar.gz", None, {"Range": "bytes=1000000-1299999"}),
            ("GET", "/disk/web/NAME/chain.qcow2", None, {"Range": "bytes=1000000-1299999"}),
            ("GET", "/raw/web/NAME/d.ova", None, {"Range": "bytes=1000-200000"}),
            ("GET", "/v1/images?limit=5", None, {}), ("GET", "/v1/origins", None, {}),
            ("GET", "/metrics", None, {}), ("GET", "/openapi.json", None, {}),
            ("POST", "/v1/images", '{"name": "NAME", "source": "lab/base/zlib.qcow2"}',
             {"Content-Type": "application/json"}),
            ("DELETE", "/v1/images/NAME", None, {}),
            ("GET", "/v1/manifest/lab/NAME/d.raw", None, {}),
            ("GET", "/v1/manifest/lab/NAME/chain.qcow2/leaves", None, {}),
            ("GET", "/v1/manifest/lab/NAME/zlib.qcow2?format=bmap", None, {}),
            ("GET", "/v1/mirrors", None, {}),
            ("POST", "/v1/mirrors", '{"name": "NAME", "source": "lab/NAME/d.raw"}',
             {"Content-Type": "application/json"}),
            ("RELOAD", "/disk/lab/NAME/d.raw", None, {"Range": "bytes=0-99"})]
    return out


VOLATILE = ("/v1/mirrors", "/v1/info", "/v1/images", "/metrics", "/v1/index", "/v1/checksum/lab/NAME/d.raw")


def content(body):
    """Without what differs from one name of a file to the next."""
    return re.sub(rb'"(etag|filename)": .*|--[0-9a-f]{16}|"[0-9a-f]{32}"', b"", body)


class Tortured:
    """A server, and another client that is served all the time."""
    n = 0

    def __init__(self, who):
        self.state = tempfile.mkdtemp(dir=tmp)
        self.key = tmp + "/key"
        sh(f"printf secret > {self.key}; chmod 600 {self.key}")
        self.server = FaultyPlatterd(
            {"lab": www, "web": nginx.url()}, "--state", self.state, "--secret",
            f"k={self.key}", "--deadline", "8",
            "--revalidate", "0", state=self.state)
        self.faults, self.who = self.server.faults, who
        self.ran, self.bad, self.ends = 0, [], False
        self.others = {"right": 0, "refused": 0}
        self.other = threading.Thread(target=self.serve_other, daemon=True)
        self.other.start()

    def serve_other(self):
        want = part(truth, 4096, 8192)
        while not self.ends:
            status, body, _ = self.ask("GET", "/disk/lab/base/d.raw", None,
                                       {"Range": "bytes=4096-12287"})
            if status == 206 and body == want:
                self.others["right"] += 1
            elif status in (503, None):
                self.others["refused"] += 1
            else:
                self.bad.append(f"another client: {status} {body[:200]!r}")
            time.sleep(0.03)

    def ask(self, method, path, body, headers):
        try:
            r = self.server.get(path, headers, method, 30, body)
            return r.status, content(r.body), r
        except (http.client.HTTPException, OSError):
            return None, b"", None

    def link(self):
        """Another name of the same folder: its images have to be opened."""
        Tortured.n += 1
        os.symlink("base", f"{www}/f{Tortured.n}")

    def fresh(self, text):
        return text.replace("NAME", f"f{self.n}") if text else text

    def one(self, request, nth, want):
        """The request with its nth allocation failing, then as it is.  False: no
        failure was met."""
        method, path, body, headers = request
        f = self.faults
        self.link()
        if method == "DELETE":
            got = self.ask("POST", "/v1/images", json.dumps(
                {"name": f"f{self.n}", "source": "lab/base/d.raw"}),
                {"Content-Type": "application/json"})
            assert got[0] in (200, 201), got
        f.alloc_who, f.did_alloc, f.alloc_left = self.who, 0, nth
        if method == "RELOAD":
            self.reload()
            f.alloc_left, method = 0, "GET"
        status, got, r = self.ask(method, self.fresh(path), self.fresh(body), headers)
        f.alloc_left = 0
        met = bool(f.did_alloc)
        told = f"{method} {path} n={nth}"
        exact = not path.startswith(VOLATILE) and method == "GET"
        if status in (200, 201, 204, 206):
            if exact and (status, got) != want[:2]:
                self.bad.append(f"{told}: {status} and other bytes ({len(got)})")
        elif status is not None and status != 503:
            self.bad.append(f"{told}: {status} {got[:300]!r}")
        elif status == 503 and not r.getheader("Retry-After"):
            self.bad.append(f"{told}: 503 without Retry-After")
        again = self.ask(method, self.fresh(path), self.fresh(body), headers)
        if again[0] is None or again[0] >= 300 and not (
                method == "DELETE" and again[0] == 404 and status == 204):
            self.bad.append(f"{told}: then {again[0]} {again[1][:300]!r}")
        elif exact and again[:2] != want[:2]:
            self.bad.append(f"{told}: then other bytes")
        if method == "POST":
            self.ask("DELETE", self.fresh(path + "/NAME"), None, {})
        return met

    def reload(self):
        """SIGHUP, and until it has been taken or refused."""
        count = lambda: len(re.findall("event=reload(?:ed|_failed)", self.server.text()))
        before, end = count(), time.time() + 10
        self.server.proc.send_signal(signal.SIGHUP)
        while count() == before and time.time() < end:
            time.sleep(0.01)
        assert count() > before

    def run(self, step):
        rng = random.Random(SEED)
        for request in requests():
            self.link()
            want = self.ask(request[0].replace("RELOAD", "GET"), self.fresh(request[1]), self.fresh(request[2]),
                            request[3])
            n = rng.randrange(max(step, 1)) + 1
            while step and self.one(request, n, want):
                self.ran += 1
                n += step
        return self

    def end(self):
        self.ends = True
        self.other.join()
        self.server.stop()
        return self.server.live()


def torture_server(who, step):
    calm = Tortured(0).run(0)
    before = calm.end()
    t = Tortured(who).run(step)
    after = t.end()
    print(f"#   {t.ran} failures in {len(requests())} requests; another client: {t.others}",
          flush=True)
    for place, n in after.items():
        if n > before.get(place, 0) + 1:
            t.bad.append(f"leak: {n} blocks of {where(place)}")
    assert not t.bad and t.others["right"] > 10, f"{len(t.bad)}:\n" + "\n".join(t.bad[:60])


@case("the command, any allocation failing, in libraries and in libc too")
def command_any():
    torture(OURS | LIBRARIES | LIBC, COMMANDS, STEP * 5)


@case("a server, any allocation failing")
def server_any():
    torture_server(OURS | LIBRARIES | LIBC, STEP * 5)


@case("a server, an allocation of ours failing: 503, then the right bytes; others are served")
def server_ours():
    torture_server(OURS, STEP)


main()
