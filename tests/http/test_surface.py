# SPDX-License-Identifier: Apache-2.0
"""What a client of one gateway is promised beside single ranges: several
ranges, digests, pages of the web, registered images, checksums, lists in pages,
traces, metrics, readiness, reload."""
import email.parser, email.policy, base64, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
N = 6 << 20
data = bytearray(os.urandom(N))
data[1 << 20:3 << 20] = bytes(2 << 20)
data = bytes(data)
open(www + "/d.raw", "wb").write(data)
sh(f"cd {www} && qemu-img convert -O qcow2 -c d.raw d.qcow2 && tar czf d.tar.gz d.raw")
state = tmp + "/state"
server = Platterd({"lab": www}, "--state", state, "--cors", "https://ui.example")
U = "/disk/lab/d.raw"


def multi(spec, where=None, path=U, **headers):
    r = (where or server).get(path, {"Range": spec, **headers})
    assert r.status == 206, (spec, r.status, r.body[:200])
    kind = r.getheader("Content-Type")
    assert int(r.getheader("Content-Length")) == len(r.body)
    if not kind.startswith("multipart/byteranges"):
        a, b = map(int, re.match(r"bytes (\d+)-(\d+)/", r.getheader("Content-Range")).groups())
        return [(a, b, r.body)]
    assert r.getheader("Content-Range") is None
    whole = b"Content-Type: " + kind.encode() + b"\r\n\r\n" + r.body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(whole)
    assert not message.defects, message.defects
    # The email parser tidies line ends in bodies: cut by hand, by the boundary.
    boundary = kind.split("boundary=")[1].encode()
    parts = []
    assert r.body.startswith(b"\r\n")  # an empty preamble
    rest = r.body[2:]
    assert rest.startswith(b"--" + boundary + b"\r\n")
    while not rest.startswith(b"--" + boundary + b"--"):
        head, _, rest = rest.partition(b"\r\n\r\n")
        a, b, size = map(int, re.search(rb"Content-Range: bytes (\d+)-(\d+)/(\d+)", head).groups())
        assert size == N
        parts.append((a, b, rest[:b - a + 1]))
        rest = rest[b - a + 1:]
        assert rest.startswith(b"\r\n--" + boundary), rest[:80]
        rest = rest[2:]
    assert rest == b"--" + boundary + b"--\r\n", rest
    return parts


@case("15.3.7.2: several ranges are parts, in the order they were asked for")
def several():
    for path in (U, "/disk/lab/d.qcow2", "/disk/lab/d.tar.gz"):
        for spec, want in (("bytes=0-9,5000-5009", [(0, 9), (5000, 5009)]),
                           ("bytes=5000-5009, 0-9", [(5000, 5009), (0, 9)]),
                           ("bytes=0-0,-1", [(0, 0), (N - 1, N - 1)]),
                           (f"bytes=100-200,{N - 5}-{N + 100},{N}-", [(100, 200), (N - 5, N - 1)])):
            got = multi(spec, path=path)
            assert [(a, b) for a, b, _ in got] == want, (spec, got)
            for a, b, body in got:
                assert body == data[a:b + 1], (path, spec, a, b)


@case("what overlaps or nearly touches is one part; one part is a plain answer")
def joined():
    assert [(a, b) for a, b, _ in multi("bytes=0-99,100-199")] == [(0, 199)]
    assert [(a, b) for a, b, _ in multi("bytes=0-99,50-149,5000-5001")] == [(0, 149), (5000, 5001)]
    assert [(a, b) for a, b, _ in multi(f"bytes=5-6,{N}-")] == [(5, 6)]


@case("long parts are streamed one after another; any set equals the slices")
def streamed():
    for path in (U, "/disk/lab/d.tar.gz"):
        got = multi(f"bytes=0-1999999,2500000-4999999,{N - 3}-", path=path)
        assert len(got) == 3
        for a, b, body in got:
            assert body == data[a:b + 1], (path, a, b, len(body))
    for _ in range(60):
        spans = []
        for _ in range(random.randrange(2, 20)):
            a = random.randrange(N)
            spans.append((a, min(N - 1, a + random.choice([0, 1, 511, 4095, 70000]))))
        r = server.get(U, {"Range": "bytes=" + ",".join(f"{a}-{b}" for a, b in spans)})
        if r.status == 416:
            continue  # too many of them overlap
        covered = multi("bytes=" + ",".join(f"{a}-{b}" for a, b in spans))
        for a, b, body in covered:
            assert body == data[a:b + 1]
        for a, b in spans:
            assert any(x <= a and b <= y for x, y, _ in covered), (a, b)


@case("too many ranges, too many overlaps: 416; HEAD and If-Range as for one")
def limits():
    many = ",".join(f"{i * 1000}-{i * 1000}" for i in range(64))
    assert len(multi("bytes=" + many)) == 64
    for bad in ("bytes=" + many + ",70000-70000", "bytes=" + ",".join(["0-"] * 8)):
        r = server.get(U, {"Range": bad})
        assert r.status == 416 and r.getheader("Content-Range") == f"bytes */{N}"
    r = server.get(U, {"Range": "bytes=0-1,1000-1001", "If-Range": '"x"'})
    assert r.status == 200 and r.body == data
    r = server.get(U, {"Range": "bytes=0-1,1000-1001"}, "HEAD")
    assert r.status == 200 and r.getheader("Content-Length") == str(N)


@case("20 scattered ranges of a remote disk are one vectored read: few requests")
def remote_ranges():
    web = Nginx(www)
    gate = Platterd({"web": web.url()})
    gate.range("/disk/web/d.raw", 0, 1)
    before = web.sent("/d.raw")[1]
    at = [600000 + i * 250000 for i in range(20)]
    got = multi("bytes=" + ",".join(f"{a}-{a + 99}" for a in at), gate, "/disk/web/d.raw")
    assert [(a, body) for a, _, body in got] == [(a, data[a:a + 100]) for a in at]
    after = web.sent("/d.raw")[1]
    assert after - before <= 20, (before, after)
    web.stop()


@case("RFC 9530: digests of the content, and of the disk once it is known")
def digests():
    r = server.get(U, {"Range": "bytes=0-9999", "Want-Content-Digest": "sha-256=10, sha-512=3"})
    want = base64.b64encode(hashlib.sha256(data[:10000]).digest()).decode()
    assert r.getheader("Content-Digest") == f"sha-256=:{want}:", r.headers
    r = server.get(U, {"Range": "bytes=0-9,5000-5009", "Want-Content-Digest": "sha-512=1"})
    want = base64.b64encode(hashlib.sha512(r.body).digest()).decode()
    assert r.getheader("Content-Digest") == f"sha-512=:{want}:"
    for w in ("md5=10", "sha-256=0", "rubbish", ""):
        assert server.get(U, {"Range": "bytes=0-9", "Want-Content-Digest": w}).getheader("Content-Digest") is None
    assert server.get(U, {"Range": "bytes=0-9"}).getheader("Content-Digest") is None
    p = "/disk/lab/d.qcow2"
    assert server.get(p, {"Want-Repr-Digest": "sha-256=1"}, "HEAD").getheader("Repr-Digest") is None
    assert server.get("/v1/checksum/lab/d.qcow2").status == 200
    want = base64.b64encode(hashlib.sha256(data).digest()).decode()
    for method in ("HEAD", "GET"):
        r = server.get(p, {"Want-Repr-Digest": "sha-256=1"}, method)
        assert r.getheader("Repr-Digest") == f"sha-256=:{want}:", r.headers


@case("checksum: sha256 and sha512 of the disk, whatever it is wrapped in")
def checksum():
    for name in ("d.raw", "d.qcow2", "d.tar.gz"):
        for a in ("sha256", "sha512"):
            doc = json.loads(server.get(f"/v1/checksum/lab/{name}?algorithm={a}").body)
            assert doc["checksum"] == hashlib.new(a, data).hexdigest() and doc["algorithm"] == a
            assert doc["virtual-size"] == N and doc["etag"].startswith('"')
    problem(server.get("/v1/checksum/lab/d.raw?algorithm=md5"), 400, "invalid")
    problem(server.get("/v1/checksum/lab/d.raw?block_size=5000"), 400, "invalid")


def blkhash(b, size, name="sha256"):
    return hashlib.new(name, b"".join(hashlib.new(name, b[i:i + size]).digest()
                                      for i in range(0, len(b), size))).hexdigest()


@case("checksum: the block hash of ovirt-imageio's clients")
def block_hash():
    odd = data[:N - 12345]
    open(www + "/odd.raw", "wb").write(odd)
    for name, b in (("d.qcow2", data), ("odd.raw", odd)):
        for size in (1 << 20, 4 << 20, 16 << 20):
            doc = json.loads(server.get(f"/v1/checksum/lab/{name}?block_size={size}").body)
            assert doc["checksum"] == blkhash(b, size) and doc["block_size"] == size, (name, size)


@case("checksum: holes are not read: a terabyte of them takes a moment")
def holes():
    with open(www + "/big.raw", "wb") as f:
        f.truncate(1 << 40)
        f.seek(1 << 39)
        f.write(b"x" * 4096)
    start = time.time()
    doc = json.loads(server.get("/v1/checksum/lab/big.raw?block_size=16M").body)
    zero, one = hashlib.sha256(bytes(16 << 20)).digest(), \
        hashlib.sha256(b"x" * 4096 + bytes((16 << 20) - 4096)).digest()
    assert doc["checksum"] == hashlib.sha256(zero * 32768 + one + zero * 32767).hexdigest()
    assert time.time() - start < 60
    again = time.time()
    assert json.loads(server.get("/v1/checksum/lab/big.raw?block_size=16M").body) == doc
    assert time.time() - again < 2  # known by its ETag


def metric(name, where=None):
    text = (where or server).get("/metrics").body.decode()
    rows = [l for l in text.split("\n") if l.startswith(name + " ") or l.startswith(name + "{")]
    return sum(float(l.rsplit(" ", 1)[1]) for l in rows)


@case("checksum: given up when the client leaves")
def cancelled():
    s = socket.create_connection(("127.0.0.1", server.port))
    s.sendall(b"GET /v1/checksum/lab/big.raw HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(1)
    assert metric("platter_workers_running") >= 1
    s.close()
    end = time.time() + 20
    while metric("platter_workers_running") and time.time() < end:
        time.sleep(0.2)
    assert metric("platter_workers_running") == 0


def events(text):
    """[(name, data)] of server-sent events."""
    out = []
    for block in text.decode().split("\n\n")[:-1]:
        if block == ":":
            continue  # a comment
        name, data = block.split("\n")
        out.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return out


@case("check: its progress as server-sent events, and time for as long as it goes on")
def check_events():
    sse = {"Accept": "text/event-stream"}
    sh("qemu-img create -q -f qcow2 -o cluster_size=4k,preallocation=metadata tables.qcow2 1G;"
       "cp tables.qcow2 twin.qcow2;"
       "qemu-img convert -O vmdk d.raw d.vmdk", cwd=www)
    web = Nginx(www)
    gate = Platterd({"web": web.url() + "slow/", "lab": www}, "--deadline", "6")
    with open(www + "/tables.qcow2", "rb") as f:
        l1_count = int.from_bytes(f.read(40)[36:], "big")
    clusters = -(-os.path.getsize(www + "/tables.qcow2") // 4096)
    all_ = (l1_count + -(-clusters // 2048)) * 4096
    problem(gate.get("/v1/check/web/twin.qcow2", timeout=60), 504, "timeout")
    r = gate.get("/v1/check/web/tables.qcow2", sse, timeout=120)
    assert r.status == 200 and r.getheader("Content-Type") == "text/event-stream", r.status
    # A comment at once, unless progress was there before it was sent.
    assert r.body.startswith((b":\n\n", b"event: progress\n")), r.body[:100]
    got = events(r.body)
    done = [d["bytes_done"] for name, d in got[:-1]]
    assert {name for name, _ in got[:-1]} == {"progress"} and len(got) > 3, got
    assert done == sorted(set(done)) and done[-1] <= all_, done
    assert {d["bytes_total"] for _, d in got[:-1]} == {all_}, (got, all_)
    assert got[-1][0] == "check"
    here = json.loads(gate.get("/v1/check/lab/tables.qcow2", timeout=60).body)
    assert {**got[-1][1], "filename": 0} == {**here, "filename": 0}
    got = events(gate.get("/v1/check/lab/d.vmdk", sse).body)
    assert got[0][0] == "progress" and got[0][1]["bytes_total"] == N, got
    assert got[-1] == ("check", json.loads(gate.get("/v1/check/lab/d.vmdk").body))
    # What is wrong with the question is told before; what fails meanwhile, after.
    problem(gate.get("/v1/check/lab/d.raw", sse), 501, "unsupported")
    problem(gate.get("/v1/check/lab/nothing", sse), 404, "not-found")
    assert gate.get("/v1/check/lab/d.qcow2", sse, "HEAD").status == 200
    name, doc = events(gate.get("/v1/check/lab/d.tar.gz", sse).body)[-1]
    assert (name, doc["status"]) == ("error", 501), doc


@case("checksum: its progress as server-sent events; mistakes are told before")
def checksum_events():
    sse = {"Accept": "text/event-stream"}
    r = server.get("/v1/checksum/lab/big.raw?block_size=4M", sse, timeout=120)
    assert r.status == 200 and r.getheader("Content-Type") == "text/event-stream", r.status
    got = events(r.body)
    assert got[-1][0] == "checksum" and len(got) > 2, got
    done = [d["bytes_done"] for name, d in got[:-1]]
    assert {name for name, _ in got[:-1]} == {"progress"} and done == sorted(done)
    assert all(d["bytes_total"] == got[-1][1]["virtual-size"] >= d["bytes_done"] for _, d in got[:-1])
    again = server.get("/v1/checksum/lab/big.raw?block_size=4M")
    assert json.loads(again.body) == got[-1][1]
    assert events(server.get("/v1/checksum/lab/big.raw?block_size=4M", sse).body) == got[-1:]
    r = server.get("/v1/checksum/lab/big.raw?block_size=5", sse)
    assert r.status == 400 and json.loads(r.body)["status"] == 400
    assert server.get("/v1/checksum/lab/nothing", sse).status == 404
    assert server.get("/v1/checksum/lab/d.raw", sse, "HEAD").status == 200
    open(www + "/cut.qcow2", "wb").write(open(www + "/d.qcow2", "rb").read()[:1 << 20])
    r = server.get("/v1/checksum/lab/cut.qcow2", sse)
    assert r.status == 200, r.body
    name, doc = events(r.body)[-1]
    assert name == "error" and doc["status"] == 502 and doc["layer"] and doc["request_id"], doc


@case("checksum: asked for twice at once it is made once; at most eight at a time")
def checksum_once():
    before = metric("platter_origin_bytes_total")
    open(www + "/once.raw", "wb").write(os.urandom(1 << 20) * 256)
    answers = []
    ask = lambda path: answers.append(server.get(path, timeout=120))
    threads = [threading.Thread(target=ask, args=("/v1/checksum/lab/once.raw",)) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {r.status for r in answers} == {200} and len({r.body for r in answers}) == 1
    read = metric("platter_origin_bytes_total") - before
    assert read < 1.5 * (256 << 20), read
    # Who waits holds a thread: so many do, and the others are told at once.
    answers.clear()
    threads = [threading.Thread(target=ask, args=("/v1/checksum/lab/big.raw?algorithm=sha512&block_size=1M",))
               for _ in range(60)]
    for t in threads:
        t.start()
    time.sleep(0.3)
    assert server.get("/v1/info/lab/d.qcow2").status == 200
    for t in threads:
        t.join()
    codes = [r.status for r in answers]
    assert set(codes) == {200, 503} and 2 <= codes.count(200) <= 40, codes
    answers.clear()
    paths = [f"/v1/checksum/lab/big.raw?block_size={(1 << 20) + 4096 * n}" for n in range(12)]
    threads = [threading.Thread(target=ask, args=(p,)) for p in paths]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    codes = [r.status for r in answers]
    assert set(codes) <= {200, 503} and codes.count(200) >= 8, codes
    assert all(r.getheader("Retry-After") for r in answers if r.status == 503)


@case("CORS: pages of the configured origin only, and asked beforehand")
def cors():
    r = server.get(U, {"Range": "bytes=0-1", "Origin": "https://ui.example"})
    assert r.getheader("Access-Control-Allow-Origin") == "https://ui.example"
    assert "Content-Range" in r.getheader("Access-Control-Expose-Headers")
    assert r.getheader("Vary") == "Origin"
    r = server.get(U, {"Range": "bytes=0-1", "Origin": "https://evil.example"})
    assert r.getheader("Access-Control-Allow-Origin") is None and r.getheader("Vary") == "Origin"
    r = server.get(U, {"Origin": "https://ui.example", "Access-Control-Request-Method": "GET",
                       "Access-Control-Request-Headers": "range"}, "OPTIONS")
    assert r.status == 204 and "range" in r.getheader("Access-Control-Allow-Headers").lower()
    r = server.get("/nope", {"Origin": "https://ui.example"})
    assert r.status == 404 and r.getheader("Access-Control-Allow-Origin")


@case("X-Request-Id is honoured and returned, and in errors; a bad one is replaced")
def request_id():
    r = server.get("/nope", {"X-Request-Id": "abc.DEF-1_2"})
    assert r.getheader("X-Request-Id") == "abc.DEF-1_2"
    assert json.loads(r.body)["request_id"] == "abc.DEF-1_2"
    time.sleep(0.1)
    assert "req=abc.DEF-1_2" in server.text()
    for bad in ("a b", "x" * 65, 'a"b', ""):
        r = server.get("/nope", {"X-Request-Id": bad})
        assert re.fullmatch("[0-9a-f]{16}", r.getheader("X-Request-Id")), bad


@case("a W3C traceparent goes on to the origin, as this request's child")
def trace():
    web = Nginx(www)
    gate = Platterd({"web": web.url()})
    t = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    gate.get("/disk/web/d.raw", {"Range": "bytes=0-9", "Traceparent": t})
    gate.get("/disk/web/odd.raw", {"Range": "bytes=0-9", "Traceparent": "00-" + "0" * 32 + "-" + "1" * 16 + "-01"})
    time.sleep(0.2)
    rows = dict(l.split(" ", 3)[::3] for l in open(web.log).read().splitlines())
    got = rows["/d.raw"].strip()
    assert re.fullmatch(r"00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01", got), rows
    assert got != t and rows["/odd.raw"].strip() == "-", rows
    web.stop()


@case("images: registered, listed, read, deleted; the same again is no mistake")
def images():
    entry = {"name": "box", "source": "lab/d.tar.gz", "member": "d.raw", "labels": {"team": "a b"}}
    post = lambda e, kind="application/json": server.get(
        "/v1/images", {"Content-Type": kind}, "POST", body=e if isinstance(e, (str, bytes)) else json.dumps(e))
    r = post(entry)
    assert r.status == 201 and r.getheader("Location") == "/v1/images/box", (r.status, r.body)
    assert post(entry).status == 200
    problem(post({**entry, "member": "other"}), 409, "exists")
    problem(post({**entry, "name": "lab"}), 409, "exists")
    assert server.get("/disk/box").body == data
    row = json.loads(server.get("/v1/images/box").body)
    assert row["registered"] == "request" and row["labels"] == {"team": "a b"} \
        and row["state"] == "open" and row["virtual-size"] == N and row["cached-bytes"] > 0, row
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["created"])
    for bad, status in (("{", 400), ("[]", 400), ({"name": "x"}, 400), ({**entry, "colour": 1}, 400),
                        ({"name": "a/b", "source": "lab/d.raw"}, 400),
                        ({"name": "x", "source": "nowhere/d.raw"}, 400),
                        ({"name": "x", "source": "lab/../d.raw"}, 400),
                        ({"name": "x", "source": "lab/d.raw", "labels": {"a": 1}}, 400),
                        ({"name": "x", "source": 1}, 400)):
        problem(post(bad), status, "invalid")
    assert post(entry, "text/plain").status == 415
    assert server.get("/v1/images/box", method="DELETE").status == 204
    problem(server.get("/v1/images/box", method="DELETE"), 404)
    problem(server.get("/disk/box"), 404)
    problem(server.get("/v1/images/box"), 404)


@case("images: what was acknowledged survives kill -9 at any moment")
def survives():
    folder = tmp + "/kill"
    known = set()
    for turn in range(6):
        gate = Platterd({"lab": www}, "--state", folder)
        names = {r["name"] for r in json.loads(gate.get("/v1/images").body) if "registered" in r}
        assert known <= names, known - names
        stop = time.time() + random.uniform(0.05, 0.4)
        killer = threading.Timer(stop - time.time(), gate.proc.kill)
        killer.start()
        try:
            for i in range(10000):
                name = f"i{turn}-{i}"
                r = gate.get("/v1/images", {"Content-Type": "application/json"}, "POST",
                             body=json.dumps({"name": name, "source": "lab/d.raw"}))
                if r.status == 201:
                    known.add(name)
        except (OSError, http.client.HTTPException):
            pass
        gate.proc.wait()
        live_daemons().remove(gate)
        assert json.load(open(folder + "/images.json"))["version"] == 1
    assert known


def live_daemons():
    import live
    return live._daemons


@case("images: a name that the configuration takes is kept, and comes back when it lets go")
def hidden():
    state = tmp + "/hidden-state"

    def post(s, name):
        body = json.dumps({"name": name, "source": "lab/" + os.path.basename(one)})
        return s.get("/v1/images", {"Content-Type": "application/json"}, "POST", body=body).status

    one = [f for f in sorted(os.listdir(www)) if f.endswith(".raw")][0]
    config = tmp + "/hidden.json"

    def configure(**more):
        with open(config, "w") as f:
            json.dump({"origins": {"lab": {"path": www}, **more.get("origins", {})},
                       "images": more.get("images", {})}, f)

    def names(s):
        return {r["name"]: r["registered"] for r in json.loads(s.get("/v1/images").body) if "registered" in r}

    def reload(s):
        n = s.text().count("event=reloaded")
        s.proc.send_signal(signal.SIGHUP)
        end = time.time() + 20
        while s.text().count("event=reloaded") == n:
            assert time.time() < end, s.text()[-800:]
            time.sleep(0.05)

    configure()
    s = Platterd({}, "--config", config, "--state", state)
    assert post(s, "a") == post(s, "b") == 201
    # by a restart, and something else is registered meanwhile
    s.stop()
    configure(images={"a": {"source": "lab/" + one}}, origins={"b": {"path": www}})
    s = Platterd({}, "--config", config, "--state", state)
    assert names(s) == {"a": "configuration"} and post(s, "c") == 201
    s.stop()
    configure()
    s = Platterd({}, "--config", config, "--state", state)
    assert names(s) == {"a": "request", "b": "request", "c": "request"}, names(s)
    # by a reload
    configure(images={"a": {"source": "lab/" + one}}, origins={"b": {"path": www}})
    reload(s)
    assert names(s) == {"a": "configuration", "c": "request"}, names(s)
    assert post(s, "d") == 201
    configure(origins={"c": {"path": www}})
    reload(s)
    assert names(s) == {"a": "request", "b": "request", "d": "request"}, names(s)
    configure()
    reload(s)
    assert set(names(s)) == set("abcd")
    s.stop()
    s = Platterd({}, "--config", config, "--state", state)
    assert names(s) == dict.fromkeys("abcd", "request"), names(s)


@case("images: without a state folder none is registered; a damaged list is not lost")
def no_state():
    gate = Platterd({"lab": www})
    r = gate.get("/v1/images", {"Content-Type": "application/json"}, "POST",
                 body='{"name":"x","source":"lab/d.raw"}')
    problem(r, 501, "unsupported")
    folder = tmp + "/damaged"
    os.makedirs(folder)
    open(folder + "/images.json", "w").write('{"version": 1, "images": [')
    p = subprocess.run([BIN + "/platterd", "--listen", "127.0.0.1:0", "--state", folder],
                       capture_output=True, timeout=60)
    assert p.returncode == 1 and b"images.json" in p.stderr, p
    assert open(folder + "/images.json").read().startswith('{"version"')


@case("a body that is too large is 413, told or not told beforehand")
def too_large():
    r = server.raw(b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   b"Content-Length: 70000\r\n\r\n", timeout=3)
    assert r.startswith(b"HTTP/1.1 413"), r[:80]
    body = b"".join(b"%x\r\n%s\r\n" % (4096, b"x" * 4096) for _ in range(20)) + b"0\r\n\r\n"
    r = server.raw(b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body, timeout=5)
    assert r.startswith(b"HTTP/1.1 413"), r[:80]
    assert server.get("/healthz").status == 200


@case("lists come in pages, with a Link to the next (RFC 8288)")
def pages():
    os.makedirs(tmp + "/many", exist_ok=True)
    for i in range(25):
        open(f"{tmp}/many/f{i:02}", "w").write("x")
    sh(f"tar cf {www}/many.tar -C {tmp}/many .")
    every = json.loads(server.get("/v1/members/lab/many.tar").body)
    assert len(every) == 26
    seen, path = [], "/v1/members/lab/many.tar?limit=10"
    while path:
        r = server.get(path)
        seen += json.loads(r.body)
        link = r.getheader("Link")
        path = re.match(r'<([^>]*)>; rel="next"', link)[1] if link else None
    assert seen == every
    problem(server.get("/v1/members/lab/many.tar?limit=0"), 400, "invalid")
    problem(server.get("/v1/images?limit=x"), 400, "invalid")


@case("images: searched, sorted, counted, and what each is made of")
def find_images():
    gate = Platterd({"lab": www}, "--state", tmp + "/find", "--image", "Alpha=lab/d.tar.gz",
                    "--image", "beta=lab/d.qcow2", "--image", "gamma=lab/d.raw")

    def rows(query=""):
        r = gate.get("/v1/images?" + query)
        assert r.status == 200, r.body
        return json.loads(r.body), int(r.getheader("X-Total-Count"))

    names = lambda query: [r["name"] for r in rows(query)[0]]
    gate.range("/disk/Alpha", 0, 9)
    gate.range("/disk/beta", 0, 1 << 20)
    gate.range("/disk/lab/d.qcow2?layers=", 0, 9)
    while any(r.get("readers") for r in rows()[0]):
        time.sleep(0.02)  # a reader has left when its connection's thread says so
    by = {r["name"]: r for r in rows()[0]}
    assert list(by) == ["Alpha", "beta", "gamma", "lab/d.qcow2"]
    for name, stack, file in (("Alpha", ["tar", "gzip", "file"], "d.tar.gz"),
                              ("beta", ["qcow2", "file"], "d.qcow2"),
                              ("lab/d.qcow2", ["file"], "d.qcow2")):
        assert by[name]["stack"] == stack, by[name]
        assert by[name]["source-size"] == os.path.getsize(f"{www}/{file}"), by[name]
        info = json.loads(gate.get("/v1/info/" + name + "?layers=" * (name[0] == "l")).body)
        assert [l["driver"] for l in info["layers"]] == stack
    assert "stack" not in by["gamma"] and "source-size" not in by["gamma"]
    # In name, source, format and stack, and whatever the case.
    for text, found in (("ALPHA", ["Alpha"]), ("lab%2Fd.Q", ["beta", "lab/d.qcow2"]),
                        ("tar,gZ", ["Alpha"]), ("d.raw", ["gamma"]), ("file", ["Alpha", "beta", "lab/d.qcow2"]),
                        ("", list(by)), ("nothing", []), ("x" * 256, [])):
        assert names("search=" + text) == found, (text, names("search=" + text))
        assert rows("search=" + text + "&limit=1")[1] == len(found)
    assert names("search=raw") == ["Alpha", "gamma", "lab/d.qcow2"]  # two by their format
    # By each key both ways; what has none comes last, and equal ones are by name.
    assert names("sort=-name") == list(by)[::-1]
    for key in ("virtual-size", "cached-bytes", "readers"):
        has = [r for r in by.values() if key in r]
        assert len(has) == 3
        for sign, order in (("", 1), ("-", -1)):
            want = sorted(has, key=lambda r: (order * r[key], r["name"]))
            assert names(f"sort={sign}{key}") == [r["name"] for r in want] + ["gamma"], (sign, key)
    assert by["beta"]["cached-bytes"] > by["lab/d.qcow2"]["cached-bytes"]
    assert names("sort=state") == ["gamma", "Alpha", "beta", "lab/d.qcow2"]
    assert names("sort=-state")[-1] == "gamma"
    # A page of what was found, in order.
    assert names("sort=-name&search=d.&limit=2&offset=1") == list(by)[::-1][1:3]
    assert names("offset=99") == [] and rows("offset=99")[1] == 4
    link = gate.get("/v1/images?search=d.&sort=-name&limit=2").getheader("Link")
    assert link == '</v1/images?search=d.&sort=-name&limit=2&offset=2>; rel="next"', link
    for bad in ("sort=size", "sort=--name", "sort=", "search=" + "x" * 257, "search=%ff", "search=a&search=b",
                "limit=0", "limit=100001"):
        problem(gate.get("/v1/images?" + bad), 400, "invalid")
    assert server.get("/v1/members/lab/d.tar.gz?limit=1").getheader("X-Total-Count") == "1"
    for path in ("/v1/origins", "/v1/snapshots/lab/d.qcow2"):
        r = server.get(path)
        assert int(r.getheader("X-Total-Count")) == len(json.loads(r.body)), path
    r = server.get("/v1/origins", {"Origin": "https://ui.example"})
    assert "X-Total-Count" in r.getheader("Access-Control-Expose-Headers")


@case("images: a page of thousands of names is made in a moment")
def many_images():
    conf = tmp + "/many.json"
    names = [f"vm-{i:04d}" for i in range(5000)]
    random.shuffle(names)
    json.dump({"origins": {"lab": {"path": www}},
               "images": {n: {"source": f"lab/{n}.qcow2", "labels": {"team": n}} for n in names}},
              open(conf, "w"))
    gate = Platterd({}, "--config", conf)
    names.sort()
    for query, want, n in (("limit=100&offset=2000", names[2000:2100], 5000),
                           ("limit=100&search=VM-49&sort=-name", names[4900:][::-1], 100),
                           ("limit=1&sort=state", names[:1], 5000)):
        spent = []
        for _ in range(5):
            begin = time.monotonic()
            r = gate.get("/v1/images?" + query)
            spent.append(time.monotonic() - begin)
        assert [row["name"] for row in json.loads(r.body)] == want, query
        assert int(r.getheader("X-Total-Count")) == n
        # A few ms without a sanitizer, on a machine that is idle.
        assert min(spent) < 0.25, (query, spent)
    r = gate.get("/v1/images/vm-4321")
    assert json.loads(r.body)["source"] == "lab/vm-4321.qcow2"


@case("extents: the names of qemu-img map, and those of ovirt-imageio")
def extents():
    ours = json.loads(server.get("/v1/extents/lab/d.qcow2").body)["extents"]
    qemu = json.loads(sh(["qemu-img", "map", "--output=json", www + "/d.qcow2"]))
    got = json.loads(server.get("/v1/extents/lab/d.qcow2?format=qemu-map").body)
    assert got == ours
    for g, q in zip(got, qemu):
        assert all(g[k] == v for k, v in q.items()), (g, q)
    rows = json.loads(server.get("/v1/extents/lab/d.qcow2?format=imageio&context=zero").body)
    assert [set(x) for x in rows] == [{"start", "length", "zero", "hole"}] * len(ours)
    assert [(x["start"], x["length"], x["zero"], x["hole"]) for x in rows] == \
        [(x["start"], x["length"], x["zero"], not x["present"]) for x in ours]
    problem(server.get("/v1/extents/lab/d.qcow2?format=xml"), 400, "invalid")


@case("the index of a compressed source: how far it reaches, and its bytes")
def index():
    d = json.loads(server.get("/v1/index/lab/d.tar.gz").body)
    assert d["driver"] == "gzip" and d["points"] >= 1 and d["source-size"] == \
        os.path.getsize(www + "/d.tar.gz"), d
    r = server.get("/v1/index/lab/d.tar.gz?format=platter")
    assert r.status == 200 and r.body.startswith(b"PLTGZIDX")
    problem(server.get("/v1/index/lab/d.raw"), 404, "not-found")


@case("metrics: by route and status, by driver, well-formed for Prometheus")
def metrics():
    text = server.get("/metrics").body.decode()
    kinds = {}
    for line in text.strip().split("\n"):
        if line.startswith("# TYPE"):
            kinds[line.split()[2]] = line.split()[3]
        elif not line.startswith("#"):
            m = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+', line)
            assert m, line
            base = re.sub("_(bucket|sum|count)$", "", m[1])
            assert m[1] in kinds or kinds.get(base) == "histogram", line
            assert not m[1].endswith("_total") or kinds[m[1]] == "counter"
    assert metric('platter_requests_total{route="disk",status="206"}') > 0
    for name in ("platter_driver_seconds_total", "platter_driver_reads_total", "platter_images_open",
                 "platter_index_decoded_bytes", "platter_source_read_seconds_count"):
        assert metric(name) > 0, name
    assert metric("platter_workers_running") <= metric("platter_workers") == 256


@case("readyz: false while the state folder cannot be written")
def ready():
    folder = tmp + "/gone"
    gate = Platterd({"lab": www}, "--state", folder)
    assert gate.get("/readyz").status == 200
    shutil.rmtree(folder)
    r = gate.get("/readyz")
    assert r.status == 503 and b"state" in r.body
    assert gate.get(U, {"Range": "bytes=0-1"}).body == data[:2]


@case("SIGHUP: origins and images change under open connections; a mistake changes nothing")
def reload():
    conf, other = tmp + "/conf.json", tmp + "/other"
    os.makedirs(other)
    shutil.copy(www + "/odd.raw", other + "/e.raw")
    one = {"origins": {"lab": {"path": www}}, "images": {"a": {"source": "lab/d.raw"}}}
    two = {"origins": {"lab": {"path": www}, "new": {"path": other}},
           "images": {"a": {"source": "new/e.raw"}, "b": {"source": "lab/d.raw"}},
           "max_ranges": 2}
    json.dump(one, open(conf, "w"))
    gate = Platterd({}, "--config", conf)
    c = http.client.HTTPConnection("127.0.0.1", gate.port)

    def ask(path, headers={}):
        c.request("GET", path, headers=headers)
        r = c.getresponse()
        return r.status, r.read()

    def hup(doc, want):
        before = gate.text().count(want)
        json.dump(doc, open(conf, "w"))
        gate.proc.send_signal(signal.SIGHUP)
        end = time.time() + 10
        while gate.text().count(want) == before and time.time() < end:
            time.sleep(0.05)
        assert gate.text().count(want) > before, gate.text()[-500:]

    assert ask("/disk/a", {"Range": "bytes=0-9"}) == (206, data[:10])
    sock = c.sock
    assert ask("/disk/new/e.raw")[0] == 404
    hup(two, "event=reloaded")
    odd = open(other + "/e.raw", "rb").read()
    assert ask("/disk/new/e.raw", {"Range": "bytes=5-9"}) == (206, odd[5:10])
    assert ask("/disk/a")[1] == odd  # the name means another file now
    assert ask("/disk/b", {"Range": "bytes=0-9,500-509,1000-1009"})[0] == 416
    hup({**two, "origins": {"lab": {"path": "/does/not/exist"}}}, "event=reload_failed")
    assert "event=config_mistake" in gate.text() and "key=origins.lab" in gate.text()
    assert ask("/disk/new/e.raw", {"Range": "bytes=5-9"}) == (206, odd[5:10])
    hup(one, "event=reloaded")
    assert ask("/disk/new/e.raw")[0] == 404 and ask("/disk/a", {"Range": "bytes=0-9"}) == (206, data[:10])
    # Only a selector changes: the name means another disk all the same.
    tar = other + "/two.tar"
    open(other + "/x.raw", "wb").write(b"x" * 65536)
    open(other + "/y.raw", "wb").write(b"y" * 65536)
    sh(f"tar -C {other} -cf {tar} x.raw y.raw")
    for name in ("x", "y", "x"):
        hup({**two, "images": {"g": {"source": "new/two.tar", "member": name + ".raw"}}}, "event=reloaded")
        assert ask("/disk/g")[1] == name.encode() * 65536, name
    assert c.sock is sock  # one connection all the time
    c.close()


@case("the boundary of parts cannot be known from a request's id")
def boundary():
    seen = set()
    for i in range(20):
        r = server.get(U, {"Range": "bytes=0-9,5000-5009"})
        b = r.getheader("Content-Type").split("boundary=")[1]
        assert r.getheader("X-Request-Id") not in b
        seen.add(b)
    assert len(seen) == 20


@case("gzip images that were looked into once are not all decoded at the same time")
def crowd():
    many = www + "/many"
    os.makedirs(many)
    with open(many + "/0.raw", "wb") as f:
        for _ in range(48):
            f.write(random.randbytes(1 << 20))
    far = part(many + "/0.raw", 40 << 20, 4096)
    sh("tar -cf 0.tar 0.raw && gzip -1 0.tar && rm 0.raw", cwd=many)
    for i in range(1, 60):
        os.link(many + "/0.tar.gz", f"{many}/{i}.tar.gz")
    gate = Platterd({"lab": www})
    for i in range(60):
        gate.range(f"/disk/lab/many/{i}.tar.gz", 0, 4096)
    time.sleep(4)
    # A task each that waits, and two of them at work with a helper.
    threads = len(os.listdir(f"/proc/{gate.proc.pid}/task"))
    assert threads < 90, threads
    for i in (3, 59, 30):  # and who is asked goes on at once
        start = time.time()
        assert gate.range(f"/disk/lab/many/{i}.tar.gz", 40 << 20, 4096) == far
        assert time.time() - start < 20
    gate.stop()
    shutil.rmtree(many)


@case("what has nothing to be checked is not called good; an answer that is no archive says so")
def nothing_to_check():
    for name in ("d.raw", "d.tar.gz"):
        doc = problem(server.get("/v1/check/lab/" + name), 501, "unsupported")
    doc = problem(server.get("/v1/members/lab/d.raw"), 404, "not-found")
    assert "no archive" in doc["detail"], doc


main()
