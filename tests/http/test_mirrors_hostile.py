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
            return self.send(h, body, b"no")
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


main()
