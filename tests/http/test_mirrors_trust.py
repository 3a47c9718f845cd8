# SPDX-License-Identifier: Apache-2.0
"""Whom a mirror believes: signatures of manifests, edges that give to each other,
and a store that is too small for what is asked of it."""
import http.server, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www, MIB = tmp + "/www", 1 << 20
os.makedirs(www)
DATA = {name: random.randbytes(12 * MIB) for name in ("a", "b")}
for name, data in DATA.items():
    open(f"{www}/{name}.raw", "wb").write(data)
for key in ("good", "other"):
    sh(["minisign", "-G", "-W", "-p", f"{tmp}/{key}.pub", "-s", f"{tmp}/{key}.key"])
N = [0]


def upstream(*flags, **kw):
    N[0] += 1
    return Platterd({"lab": www}, "--state", f"{tmp}/up{N[0]}", *flags)


class Edge(Platterd):
    def __init__(self, up, *flags, **origins):
        N[0] += 1
        super().__init__({"up": up, **origins}, "--state", f"{tmp}/edge{N[0]}", "--deadline", "5",
                         *flags)

    def add(self, name, source, **more):
        r = self.get("/v1/mirrors", {"Content-Type": "application/json"}, "POST",
                     body=json.dumps({"name": name, "source": source, **more}))
        assert r.status == 201, r.body
        return self

    def until(self, name, *states, seconds=40):
        end = time.time() + seconds
        while True:
            now = json.loads(self.get("/v1/mirrors/" + name).body)
            if now["state"] in states:
                return now
            assert time.time() < end, now
            time.sleep(0.05)


class Swap:
    """Between an edge and its upstream: who asks for a is given b, signature and all."""

    def __init__(self, up):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                r = up.get(self.path.replace("/a.raw", "/b.raw"),
                           {"Range": self.headers["Range"]} if self.headers["Range"] else {})
                self.send_response(r.status)
                for k, v in r.getheaders():
                    if k not in ("Date", "Connection"):
                        self.send_header(k, v)
                self.end_headers()
                self.wfile.write(r.body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@case("a signature of one of the keys is good; of another, or none where it must be: refused, nothing kept")
def signatures():
    signed, plain = upstream("--manifest-key", tmp + "/good.key"), upstream()
    keys = ("--mirror-key", tmp + "/good.pub")
    e = Edge(signed.url("/"), *keys).add("m", signed.url("/disk/lab/a.raw"), signed=True)
    now = e.until("m", "complete")
    assert now["signature"] == "good" and e.get("/disk/m").body == DATA["a"]
    e.stop()
    e = Edge(signed.url("/"), "--mirror-key", tmp + "/other.pub")
    e.add("m", signed.url("/disk/lab/a.raw"), signed=True)
    now = e.until("m", "failed")
    assert "signature" in now["error"] and now["bytes_local"] == 0, now
    assert e.get("/disk/m").status in (403, 502), e.get("/disk/m").status
    e.stop()
    e = Edge(plain.url("/"), *keys).add("m", plain.url("/disk/lab/a.raw"), signed=True)
    now = e.until("m", "failed")
    assert "not signed" in now["error"] and now["bytes_local"] == 0, now
    # Where it need not be, it is said.
    e.add("n", plain.url("/disk/lab/a.raw"))
    assert e.until("n", "complete")["signature"] == "none"
    e.stop()
    # A key must be there for what is to be signed.
    e = Edge(plain.url("/"))
    r = e.get("/v1/mirrors", {"Content-Type": "application/json"}, "POST", body=json.dumps(
        {"name": "m", "source": plain.url("/disk/lab/a.raw"), "signed": True}))
    problem(r, 400)
    for s in (e, signed, plain):
        s.stop()


@case("a good signature of another image is not good")
def of_another():
    signed = upstream("--manifest-key", tmp + "/good.key")
    swap = Swap(signed)
    e = Edge(swap.url("/"), "--mirror-key", tmp + "/good.pub")
    e.add("m", swap.url("/disk/lab/a.raw"), signed=True)
    now = e.until("m", "failed")
    assert "another image" in now["error"], now
    e.add("b", swap.url("/disk/lab/b.raw"), signed=True)
    assert e.until("b", "complete")["signature"] == "good"
    assert e.get("/disk/b").body == DATA["b"]
    e.stop()
    signed.stop()


@case("an edge takes blocks of another one that the upstream names; one that is away or lies costs nothing")
def siblings():
    up = upstream()
    first = Edge(up.url("/"))
    first.add("m", up.url("/disk/lab/a.raw")).until("m", "complete")
    # It tells of itself when it looks: as its configuration would have it.
    r = up.get(f"/v1/manifest/lab/a.raw/sources?edge=http://127.0.0.1:{first.port}/")
    assert r.status == 200
    liar = Swap(up)  # its blocks are those of no such root
    up.get(f"/v1/manifest/lab/a.raw/sources?edge=http://127.0.0.1:{free_port()}/")
    up.get(f"/v1/manifest/lab/a.raw/sources?edge=" + liar.url("/"))

    def blocks():
        return len(re.findall(r"path=/v1/blocks/", up.text()))
    before = blocks()
    e = Edge(up.url("/"), near=first.url("/"), far="http://127.0.0.1:1/", liar=liar.url("/"))
    now = e.add("m", up.url("/disk/lab/a.raw")).until("m", "complete")
    assert e.get("/disk/m").body == DATA["a"]
    assert now["siblings"] and blocks() - before < 12, (now, blocks() - before)
    # One that is no origin's is not asked.
    n = len(re.findall(r"path=/v1/blocks/", first.text()))
    other = Edge(up.url("/"))
    now = other.add("m", up.url("/disk/lab/a.raw")).until("m", "complete")
    assert now["siblings"] == [] and len(re.findall(r"path=/v1/blocks/", first.text())) == n
    for s in (e, other, first, up):
        s.stop()


@case("a store that is too small: said, served all the same, and it goes on when there is room")
def small():
    big = random.randbytes(70 * MIB)
    open(www + "/big.raw", "wb").write(big)
    up = upstream()
    e = Edge(up.url("/"), "--store-size", "64M")
    e.add("a", up.url("/disk/lab/a.raw")).until("a", "complete")
    e.add("big", up.url("/disk/lab/big.raw"))
    now = e.until("big", "failed")
    assert now["error"] and 0 < now["bytes_local"] < len(big), now
    assert e.get("/disk/a").body == DATA["a"]
    for off in (0, 35 * MIB, 70 * MIB - 65536):
        r = e.get("/disk/big", {"Range": f"bytes={off}-{off + 65535}"})
        assert r.status == 206 and r.body == big[off:off + 65536], (off, r.status)
    assert e.get("/v1/mirrors/big", method="DELETE").status == 204
    e.add("b", up.url("/disk/lab/b.raw")).until("b", "complete", seconds=90)
    assert e.get("/disk/b").body == DATA["b"] and e.get("/disk/a").body == DATA["a"]
    e.stop()
    up.stop()


@case("an output is scrubbed: what is damaged there is found without a reader, and fetched again")
def scrubbed():
    out = tmp + "/out.raw"
    up = upstream()
    e = Edge(up.url("/"), "--output", out, "--scrub-rate", "50M")
    e.add("m", up.url("/disk/lab/a.raw"), output=out).until("m", "complete")
    assert open(out, "rb").read() == DATA["a"]
    with open(out, "r+b") as f:
        f.seek(5 * MIB + 77)
        f.write(b"rot")
    end = time.time() + 60
    while open(out, "rb").read() != DATA["a"]:
        assert time.time() < end, e.text()[-2000:]
        time.sleep(0.2)
    assert "event=scrub_found_damage" in e.text()
    e.until("m", "complete")
    e.stop()
    up.stop()


main()
