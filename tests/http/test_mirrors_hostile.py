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


class Upstream:
    """A gateway's /disk/x and manifest.  Any answer can be another one: `answer` maps a
    kind (disk, head, groups, leaves, prefixes, sources, trace, block) to a function of the
    request's path and the true body that gives the body, or None to hang up."""

    def __init__(self, disk):
        self.answer, self.asked, self.hold = {}, [], {}
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
            kind, g = "block", int(path.rsplit("/", 1)[1])
            body = self.disk[g * GROUP:(g + 1) * GROUP]
        if kind in self.answer:
            body = self.answer[kind](h, body)
        if body is None:
            return self.send(h, 404, b"none")
        self.ranges(h, body)

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
        if h.headers.get("Range") == f"bytes={3 * GROUP}-{3 * GROUP + LEAF - 1}":
            asked.set()
            assert go.wait(60)
        return body

    b.answer["disk"] = slow
    s = edge(a, b)
    add(s, "a", a)
    complete(s, "a")
    add(s, "b", b)
    assert asked.wait(30)  # all but one leaf was found; none of it is in b's manifest
    ask(s, "/a", "DELETE")
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


main()
