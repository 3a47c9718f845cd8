# SPDX-License-Identifier: Apache-2.0
"""Mirrors against whoever means harm: an upstream that lies, clients that storm, a
state folder that is damaged, sweeps at the worst moment.  The upstream here is not
ours: it is made from the text of core/manifest/manifest.h."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from live import *
import hashlib, http.server, random, threading

LEAF, GROUP = 4096, 1 << 20
rng = random.Random(20261122)


def sha(data):
    return hashlib.sha256(data).digest()


def frame(data):
    out = b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little")
    for at in range(0, max(len(data), 1), 1 << 17):
        part = data[at:at + (1 << 17)]
        last = at + (1 << 17) >= len(data)
        out += (last | len(part) << 3).to_bytes(3, "little") + part
    return out


class Upstream:
    """A gateway's /disk/x and manifest.  Any answer can be another one: `answer` maps a
    kind (disk, head, groups, leaves, prefixes, sources, trace, signature, block) to a
    function of the request's handler and the true body, that gives a body or a status."""

    def __init__(self, disk):
        self.answer, self.asked = {}, []
        self.publish(disk)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.serve(self)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, disk):
        disk = bytes(disk)
        leaves = [sha(disk[i:i + LEAF].ljust(LEAF, b"\0")) for i in range(0, len(disk), LEAF)]
        groups = [sha(b"".join(leaves[i:i + 256])) for i in range(0, len(leaves), 256)]
        root = sha(b"platter-root-1".ljust(16, b"\0") + len(disk).to_bytes(8, "little") +
                   b"".join(groups))
        zero = sha(bytes(LEAF))
        self.disk, self.root = disk, root.hex()
        self.parts = {
            "disk": disk, "groups": b"".join(groups), "leaves": b"".join(leaves),
            "prefixes": b"".join(x[:8] for x in leaves), "sources": b'{"sources": []}',
            "head": json.dumps({
                "version": 1, "virtual-size": len(disk), "leaf-size": LEAF,
                "group-size": GROUP, "algorithm": "sha256", "root": root.hex(),
                "data-leaves": sum(x != zero for x in leaves)}).encode()}

    def serve(self, h):
        path = h.path.split("?")[0]
        self.asked.append(h.path)
        kind = {"/disk/x": "disk", "/v1/manifest/x": "head", "/v1/trace/x": "trace"}.get(path)
        if kind is None and path.startswith("/v1/manifest/x/"):
            kind = path.rsplit("/", 1)[1]
        body = self.parts.get(kind)
        if path.startswith("/v1/blocks/" + self.root):
            kind, body = "block", self.packed(path.rsplit("/", 1)[1][:-len(".zst")])
        if kind in self.answer:
            body = self.answer[kind](h, body)
        if body is None:
            return self.send(h, 404, b"none")
        if isinstance(body, int):
            return body and self.send(h, body, b"no")
        self.ranges(h, body)

    def packed(self, what):
        """A group, or leaves=A-B,C, as a zstd frame of blocks that are stored."""
        unit, runs = (LEAF, what[7:]) if what.startswith("leaves=") else (GROUP, what)
        body = b""
        for run in runs.split(","):
            first, last = (run.split("-") * 2)[:2]
            body += self.disk[int(first) * unit:(int(last) + 1) * unit]
        return frame(body)

    def ranges(self, h, body):
        asked = h.headers.get("Range")
        if not asked:
            return self.send(h, 200, body)
        spans = []
        for span in asked[6:].split(","):
            a, b = span.strip().split("-")
            spans.append((int(a), min(int(b), len(body) - 1)))
        if any(a >= len(body) for a, _ in spans):
            return self.send(h, 416, b"")
        said = [f"bytes {a}-{b}/{len(body)}" for a, b in spans]
        if len(spans) == 1:
            a, b = spans[0]
            return self.send(h, 206, body[a:b + 1], {"Content-Range": said[0]})
        parts = b"".join(b"\r\n--xyz\r\nContent-Range: %s\r\n\r\n" % s.encode() + body[a:b + 1]
                         for s, (a, b) in zip(said, spans)) + b"\r\n--xyz--\r\n"
        self.send(h, 206, parts, {"Content-Type": "multipart/byteranges; boundary=xyz"})

    def send(self, h, status, body, headers={}):
        h.send_response(status)
        h.send_header("Content-Length", str(len(body)))
        h.send_header("ETag", f'"{self.root}"')
        h.send_header("Accept-Ranges", "bytes")
        for name, value in headers.items():
            h.send_header(name, value)
        h.end_headers()
        h.wfile.write(body)

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}/{path}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def edge(*ups, flags=(), state=None):
    state = state or tempfile.mkdtemp(dir=tmp)
    s = Platterd({f"up{i}": u.url() for i, u in enumerate(ups)}, "--state", state,
                 "--revalidate", "0", *flags)
    s.state = state
    return s


def ask(s, path, method="GET", body=None, status=None):
    r = s.get("/v1/mirrors" + path, {"Content-Type": "application/json"} if body else {},
              method=method, body=json.dumps(body) if body else None)
    assert r.status in ([status] if status else [200, 201, 204]), (path, r.status, r.body[:300])
    return json.loads(r.body) if r.body else None


def add(s, name, up, **more):
    return ask(s, "", "POST", {"name": name, "source": up.url("disk/x"), **more})


def wait(s, name, fn, seconds=40):
    end = time.time() + seconds
    while time.time() < end:
        now = ask(s, "/" + name)
        if fn(now):
            return now
        time.sleep(0.05)
    raise AssertionError(now)


def complete(s, name, seconds=40):
    return wait(s, name, lambda now: now["state"] == "complete", seconds)


@case("what was found in the store and swept before its digests were known is fetched again: complete is here")
def sweep():
    first = rng.randbytes(4 * GROUP)
    second = bytearray(first)
    second[3 * GROUP:3 * GROUP + LEAF] = rng.randbytes(LEAF)
    a, b = Upstream(first), Upstream(second)
    asked, go = threading.Event(), threading.Event()

    def slow(h, body):
        if h.path.endswith("/leaves=768.zst"):
            asked.set()
            assert go.wait(60)
        return body

    b.answer["block"] = slow
    s = edge(a, b)
    add(s, "a", a)
    complete(s, "a")
    s.stop()
    # As when it was deleted and the server killed at once: leaves that nobody names.
    with open(s.state + "/mirrors/mirrors.json", "w") as f:
        json.dump({"version": 1, "mirrors": []}, f)
    s = edge(a, b, state=s.state)
    add(s, "b", b)
    assert asked.wait(30)  # all but one leaf was found; none of it is in b's manifest
    add(s, "c", a, schedule="00:00-00:01")
    ask(s, "/c", "DELETE")
    end = time.time() + 30
    while "event=store_swept leaves=0" not in s.text():
        assert time.time() < end, s.text()[-2000:]
        time.sleep(0.1)
    go.set()
    complete(s, "b")
    b.stop()
    r = s.get("/disk/b")
    assert r.status == 200 and r.body == second, (r.status, r.body[:200])
    s.stop()
    a.stop()


@case("a storm of pause and resume leaves a mirror that goes on, or is paused, as it says")
def storm():
    up = Upstream(rng.randbytes(40 * GROUP))
    up.answer["block"] = lambda h, body: (time.sleep(0.4), body)[1]
    s = edge(up)
    add(s, "m", up, fetch="blocks")
    now = ask(s, "/m")
    for _ in range(25):
        threads = [threading.Thread(target=ask, args=(s, "/m", "POST", {"paused": on}))
                   for on in [True, False] * 4]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        was = ask(s, "/m")
        if was["state"] == "mirroring":
            now = wait(s, "m", lambda now: now["bytes_fetched"] > was["bytes_fetched"] or
                       now["state"] == "complete", 5)
    assert now["bytes_fetched"], now
    s.stop()
    up.stop()


class Zeros:
    """A disk that is not in memory."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, span):
        return bytes(span.stop - span.start)


@case("a trace that names the whole disk thousands of times costs no more than one that does once")
def trace():
    n = 1 << 19
    up = Upstream(b"")
    zeros = sha(sha(bytes(LEAF)) * 256)
    root = sha(b"platter-root-1".ljust(16, b"\0") + (n * GROUP).to_bytes(8, "little") + zeros * n)
    up.disk, up.root = Zeros(n * GROUP), root.hex()
    up.parts.update(disk=up.disk, groups=zeros * n, head=json.dumps({
        "version": 1, "virtual-size": n * GROUP, "leaf-size": LEAF, "group-size": GROUP,
        "algorithm": "sha256", "root": root.hex(), "data-leaves": 0}).encode())
    soon = time.gmtime(time.time() + 7200)  # it is looked at, and nothing more is done
    costs = []
    for times in 1, 8000:
        reads = [[GROUP, (n - 2) * GROUP]] * times
        up.parts["trace"] = json.dumps({"reads": reads}).encode()
        s = edge(up)
        start = processor(s)
        add(s, "m", up, schedule=time.strftime("%H:00-%H:59", soon))
        wait(s, "m", lambda now: now["root"] == up.root)
        costs.append(processor(s) - start)
        s.stop()
    assert costs[1] < 1.7 * costs[0], costs
    up.stop()


def processor(s):
    """Seconds of processor time that it has used."""
    with open(f"/proc/{s.proc.pid}/stat") as f:
        row = f.read().rsplit(")", 1)[1].split()
    return (int(row[11]) + int(row[12])) / os.sysconf("SC_CLK_TCK")


@case("a source that fails again and again is logged once, and its error is in the state whatever it is named")
def failing():
    up = Upstream(rng.randbytes(GROUP))
    up.answer["head"] = lambda h, body: 500
    s = edge(up)
    add(s, "m", up)
    asked = lambda: sum("/v1/manifest/x" == path for path in up.asked)
    end = time.time() + 30
    while asked() < 12 and time.time() < end:
        time.sleep(0.1)
    assert asked() >= 12, up.asked
    assert s.text().count("event=mirror_failed") == 1, s.text()
    for k in range(2):
        ask(s, "", "POST", {"name": f"n{k}", "source": "up0/" + "a" * k + "é" * 300})
        wait(s, f"n{k}", lambda now: now["error"])
    s.stop()
    up.stop()


@case("a look that failed is made again in seconds, however seldom the source is followed")
def looks_again():
    up = Upstream(rng.randbytes(GROUP))
    s = edge(up)
    add(s, "m", up)
    complete(s, "m")
    up.answer["head"] = lambda h, body: b"{}"
    ask(s, "/m", "POST", {"follow": 86400})
    wait(s, "m", lambda now: now["error"])
    del up.answer["head"]
    up.publish(rng.randbytes(GROUP))
    wait(s, "m", lambda now: now["root"] == up.root and not now["error"], 60)
    asked = len(up.asked)
    r = s.get("/v1/mirrors/m", {"Content-Type": "application/json"}, "POST", body='{"follow": 1}')
    assert r.status == 400, r.status
    time.sleep(2)
    assert len(up.asked) == asked, up.asked[asked:]  # what is refused changes nothing
    s.stop()
    up.stop()


@case("a manifest that was damaged at rest costs digests, and no leaf of the disk again")
def damaged_manifest():
    disk = rng.randbytes(3 * GROUP)
    up = Upstream(disk)
    s = edge(up)
    add(s, "m", up)
    complete(s, "m")
    s.stop()
    for name in os.listdir(s.state + "/mirrors"):
        if name.endswith(".manifest"):
            with open(f"{s.state}/mirrors/{name}", "r+b") as f:
                text = f.read()
                at = text.index(up_groups(up))
                f.seek(at)
                f.write(bytes([text[at] ^ 1]))
    up.asked.clear()
    late = lambda h, body: (time.sleep(3), body)[1]
    up.answer["head"] = late
    s = edge(up, state=s.state)
    complete(s, "m")
    assert not [p for p in up.asked if p.startswith("/v1/blocks")], up.asked
    assert "event=mirror_manifest_damaged" in s.text()
    up.stop()
    assert s.get("/disk/m").body == disk
    s.stop()


def up_groups(up):
    return up.parts["groups"][:32]


def head(**other):
    """The head with other values."""
    return {"head": lambda h, body: json.dumps({**json.loads(body), **other}).encode()}


def flip(data):
    return bytes(x ^ 1 for x in data[:64]) + data[64:]


def wrong(kind):
    return {kind: lambda h, body: body and flip(body)}


def endless(h, body):
    h.send_response(200)
    h.end_headers()
    try:
        while True:
            h.wfile.write(bytes(1 << 16))
    except OSError:
        return 500


LIES = {
    "size-2-62": head(**{"virtual-size": 1 << 62}), "size-16t": head(**{"virtual-size": 1 << 44}),
    "size-text": head(**{"virtual-size": "x"}), "size-negative": head(**{"virtual-size": -1}),
    "size-other": head(**{"virtual-size": 5 * GROUP}), "size-0": head(**{"virtual-size": 0}),
    "version": head(version=2), "root": head(root="0" * 64), "root-type": head(root=[1]),
    "root-text": head(root="x" * 64), "leaf": head(**{"leaf-size": 1}),
    "nested": {"head": lambda h, body: b"[" * 100000}, "endless": {"groups": endless},
    "nothing": {"head": lambda h, body: b""}, "garbage": wrong("head"), "groups": wrong("groups"),
    "short": {"groups": lambda h, body: body[:-1]}, "few": {"prefixes": lambda h, body: body[:8]},
    "block": wrong("block"), "bomb": {"block": lambda h, body: frame(bytes(8 << 20))},
    "empty": {"block": lambda h, body: b""},
    "leaves": {**wrong("leaves"), **wrong("prefixes")},
}


@case("no lie of a source is believed: nothing of it is served or complete, it is named, and others go on")
def lies():
    disk = rng.randbytes(2 * GROUP + 100)
    ups = {name: Upstream(disk) for name in LIES}
    good = Upstream(rng.randbytes(2 * GROUP))
    s = edge(*ups.values(), good)
    for name, up in ups.items():
        up.answer = LIES[name]
        add(s, name, up)
    add(s, "zz", good)
    complete(s, "zz", 60)
    for name in ups:
        now = wait(s, name, lambda now: now["error"], 60)
        assert now["state"] in ("mirroring", "failed"), now
        r = None
        try:
            r = s.get("/disk/" + name)
            assert r.status in (404, 500, 501, 502, 503, 504) or r.body == disk, (name, r.status)
        except http.client.IncompleteRead as short:
            assert disk.startswith(short.partial), name
    assert s.get("/disk/zz").body == good.disk
    s.stop()
    for up in [*ups.values(), good]:
        up.stop()


@case("a lie that costs nothing is mended: prefixes that collide, a trace and data-leaves of garbage")
def mended():
    disk = rng.randbytes(3 * GROUP - 1)
    other = {
        "prefix": {"prefixes": lambda h, body: body[:8] * (len(body) // 8)},
        "zeros": {"prefixes": lambda h, body: sha(bytes(LEAF))[:8] * (len(body) // 8)},
        "trace": {"trace": lambda h, body: json.dumps(
            {"reads": [[-1, 5], ["x", {}], [1 << 62, 1 << 62], [0], 7, [0, -1]]}).encode()},
        "deep": {"trace": lambda h, body: b"[" * 50000},
        "data": head(**{"data-leaves": -7}), "more": head(**{"data-leaves": 1 << 62}),
        "sources": {"sources": lambda h, body: json.dumps(
            {"sources": [1, None, "http://", "x" * 5000, "http://a\r\nb/"] * 500}).encode()},
    }
    ups = {name: Upstream(disk) for name in other}
    s = edge(*ups.values())
    for name, up in ups.items():
        up.answer = other[name]
        add(s, name, up)
    for name, up in ups.items():
        complete(s, name)
        up.stop()
        r = s.get("/disk/" + name)
        assert r.status == 200 and r.body == disk, (name, r.status)
    s.stop()


@case("neither siblings nor redirects lead out of the origins")
def out():
    canary = Upstream(b"x" * GROUP)
    disk = rng.randbytes(2 * GROUP)
    up, away = Upstream(disk), Upstream(disk)
    up.answer["sources"] = lambda h, body: json.dumps(
        {"sources": [canary.url(), canary.url() + "?", f"http://localhost:{up.port}/",
                     "file:///etc/passwd", "http://127.0.0.1:1@127.0.0.1/"]}).encode()

    def send(h, body):
        away.send(h, 302, b"", {"Location": canary.url(h.path[1:])})
        return 0

    for kind in "disk", "head", "groups", "block":
        away.answer[kind] = send
    s = edge(up, away)
    add(s, "m", up, fetch="blocks")
    complete(s, "m")
    add(s, "n", away)
    wait(s, "n", lambda now: now["error"])
    assert not canary.asked, canary.asked
    assert s.get("/disk/m").body == disk
    s.stop()
    for u in up, away, canary:
        u.stop()


@case("slow sources, dead ones and limited ones do not keep the movers from the others")
def others():
    disk = rng.randbytes(8 * GROUP)
    slow = [Upstream(disk) for _ in range(2)]
    limited, good = Upstream(rng.randbytes(8 * GROUP)), Upstream(rng.randbytes(8 * GROUP))
    for up in slow:
        up.answer["block"] = lambda h, body: (time.sleep(60), 500)[1]
    s = edge(*slow, limited, good)
    for k in range(10):
        add(s, f"limited{k}", limited, bandwidth=1024 * (k + 1), fetch="blocks")
    for k, up in enumerate(slow):
        add(s, f"slow{k}", up, fetch="blocks")
    wait(s, "slow1", lambda now: now["root"])
    time.sleep(1)
    start = time.time()
    add(s, "zz", good)
    complete(s, "zz", 20)
    assert time.time() - start < 12, time.time() - start
    start = time.time()
    ask(s, "/limited3", "POST", {"bandwidth": 0})
    complete(s, "limited3", 20)
    s.stop()
    for up in [*slow, limited, good]:
        up.stop()


@case("a mirror is complete when that could be written down, and goes on when it can be again")
def unsaved():
    up, go = Upstream(rng.randbytes(2 * GROUP)), threading.Event()
    up.answer["block"] = lambda h, body: go.wait(60) and body
    s = edge(up)
    add(s, "m", up)
    wait(s, "m", lambda now: now["root"])
    os.mkdir(s.state + "/mirrors/mirrors.json.new")  # in the way of every writing
    ask(s, "", "POST", {"name": "n", "source": up.url("disk/x")}, status=500)
    go.set()
    now = wait(s, "m", lambda now: now["error"])
    assert now["state"] != "complete" and "mirrors.json" in now["error"], now
    assert s.get("/disk/m").body == up.disk
    os.rmdir(s.state + "/mirrors/mirrors.json.new")
    complete(s, "m", 50)
    s.proc.kill()
    s.proc.wait()
    import live
    live._daemons.remove(s)
    up.stop()
    s = edge(up, state=s.state)
    assert s.get("/disk/m").body == up.disk
    s.stop()


@case("two mirrors never write one output, and a version that is over writes nothing more")
def outputs():
    folder = tempfile.mkdtemp(dir=tmp) + "/"
    late, asked = threading.Event(), threading.Event()
    first, second = rng.randbytes(2 * GROUP), rng.randbytes(2 * GROUP)
    up = Upstream(first)
    old = up.packed("0")

    def slow(h, body):
        if up.disk != first:
            return body
        asked.set()
        late.wait(60)
        return old if h.path.endswith("/0.zst") else body

    up.answer["block"] = slow
    s = edge(up, flags=["--output", folder])
    path = folder + "disk.raw"
    add(s, "m", up, output=path, follow=5, fetch="blocks")
    for other in path, path + ".part":
        ask(s, "", "POST", {"name": "n", "source": up.url("disk/x"), "output": other}, status=409)
    assert asked.wait(30)
    up.publish(second)
    wait(s, "m", lambda now: now["root"] == up.root)
    complete(s, "m")
    late.set()  # the answer of the version before comes now
    time.sleep(1)
    with open(path, "rb") as f:
        assert f.read() == second
    ask(s, "/m", "DELETE")
    add(s, "n", up, output=path)
    complete(s, "n")
    # What somebody does to the file meanwhile is seen when it is read, and mended.
    os.truncate(path, GROUP)
    assert s.get("/disk/n").body == second
    os.remove(path)
    os.symlink("/etc/passwd", path)
    ask(s, "/n", "DELETE")
    add(s, "o", up, output=path)
    now = wait(s, "o", lambda now: now["error"])
    assert now["state"] == "failed", now
    os.remove(path)
    os.mkfifo(path)
    ask(s, "/o", "DELETE")
    add(s, "p", up, output=path)
    wait(s, "p", lambda now: now["state"] == "failed")
    s.stop()
    up.stop()


main()
