# SPDX-License-Identifier: Apache-2.0
"""/v1/errors: what clients were lately answered with, in their own words, and
that no flood of one kind drowns another."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
with open(www + "/d.raw", "wb") as f:
    f.write(os.urandom(6 << 20))
sh("qemu-img convert -O qcow2 d.raw d.qcow2; head -c 70000 d.qcow2 >bad.qcow2; ln -s /etc/passwd out.raw", cwd=www)
origin = Origin(www)


def start(*flags):
    return Platterd({"lab": www, "o": origin.url()}, "--deadline", "1", *flags)


server = start()


def rows(gate=None, query=""):
    r = (gate or server).get("/v1/errors" + query)
    assert r.status == 200, (r.status, r.body)
    return json.loads(r.body)


def newest(gate, has, seconds=10):
    """A request has ended when its row is there: a moment after its answer."""
    end = time.monotonic() + seconds
    while not (got := rows(gate)) or not has(got[0]):
        assert time.monotonic() < end, got[:2]
        time.sleep(0.02)
    return got[0]


@case("each kind of error: the row says what the problem document said, and no more")
def told():
    for path, status, headers, method in (
            ("/disk/lab/bad.qcow2", 502, {}, "GET"), ("/disk/lab/none", 404, {}, "GET"),
            ("/disk/lab/out.raw", 403, {}, "GET"), ("/disk/lab/../x", 400, {}, "GET"),
            ("/disk/o/500/d.raw", 502, {}, "GET"), ("/disk/o/stall-first/d.raw", 504, {}, "GET"),
            ("/v1/check/lab/d.raw", 501, {}, "GET"), ("/nope", 404, {}, "GET"), ("/", 405, {}, "DELETE"),
            ("/disk/lab/d.raw", 416, {"Range": "bytes=x"}, "GET"), ("/v1/info/lab/%C3%A4.raw", 404, {}, "GET"),
            ("/disk/lab/d.raw", 412, {"If-Match": '"x"'}, "GET"), ("/v1/images", 501, {"Content-Type": "application/json"}, "POST")):
        id_ = f"mine.{status}.{len(path)}"
        r = server.get(path, {**headers, "X-Request-Id": id_}, method,
                       body='{"name": "n", "source": "lab/x"}' if method == "POST" else None)
        assert r.status == status, (path, r.status, r.body)
        doc = json.loads(r.body)
        row = newest(server, lambda row: row["request_id"] == id_)
        assert abs(time.time() - time.mktime(time.strptime(row.pop("time"), "%Y-%m-%dT%H:%M:%SZ"))
                   + time.timezone) < 30
        assert row.pop("method") == method and row.pop("path") == path.split("?")[0], row
        assert row.pop("count") == 1
        assert row == doc, (row, doc)
    # What goes well makes no row.
    n = len(rows())
    for path in ("/disk/lab/d.raw", "/v1/info/lab/d.qcow2", "/healthz"):
        assert server.get(path, method="HEAD").status == 200
    tag = server.get("/disk/lab/d.raw", method="HEAD").getheader("ETag")
    assert server.get("/disk/lab/d.raw", {"If-None-Match": tag}).status == 304
    assert len(rows()) == n


@case("what the log alone may have is not in it: places, addresses, keys")
def private():
    gate = start("--access", "k=read:signing-key:" + key_file())
    for path in ("/disk/o/500/d.raw?member=secret-member", "/disk/lab/out.raw",
                 "/disk/lab/d.raw?expires=1790000000&key=k&signature=forged-signature",
                 "/disk/lab/d.raw;expires=1790000000;key=k;signature=forged-signature"):
        assert gate.get(path).status >= 400
    newest(gate, lambda row: row["path"] == "/disk/lab/d.raw")
    text = json.dumps(rows(gate))
    for word in (tmp, "127.0.0.1", str(origin.port), "passwd", "forged", "signature=", "secret-member"):
        assert word not in text, word
    assert "127.0.0.1" in gate.text()  # which the log has


def key_file():
    path = tmp + "/key"
    with open(path, "wb") as f:
        f.write(os.urandom(32))
    os.chmod(path, 0o600)
    return path


@case("an answer that breaks off is a row with the status that was sent; a client that leaves makes none")
def broken():
    gate = start()
    with open(www + "/cut.raw", "wb") as f:
        f.truncate(256 << 20)
    s = socket.create_connection(("127.0.0.1", gate.port))
    s.sendall(b"GET /raw/lab/cut.raw HTTP/1.1\r\nHost: x\r\nX-Request-Id: cut\r\n\r\n")
    n = len(first := s.recv(65536))
    assert first.startswith(b"HTTP/1.1 200 ")
    os.truncate(www + "/cut.raw", 1 << 20)
    while got := s.recv(1 << 20):
        n += len(got)
    s.close()
    assert n < 256 << 20
    row = newest(gate, lambda row: row["request_id"] == "cut")
    assert row["status"] == 200 and row["type"] == "/problems/changed" and row["layer"], row
    assert "detail" not in row, row
    # Of a job, the event "error".
    bad = bytearray(open(www + "/d.qcow2", "rb").read())
    l1 = int.from_bytes(bad[40:48], "big")
    l2 = int.from_bytes(bad[l1:l1 + 8], "big") & 0xfffffffffffe00
    bad[l2 + 8 * 50:l2 + 8 * 51] = (0x8000000000000000 | 1 << 50).to_bytes(8, "big")
    open(www + "/far.qcow2", "wb").write(bad)
    r = gate.get("/v1/checksum/lab/far.qcow2", {"Accept": "text/event-stream", "X-Request-Id": "events"})
    assert r.status == 200 and b"event: error" in r.body, r.body
    doc = json.loads(r.body.decode().strip().rsplit("data: ", 1)[1])
    row = newest(gate, lambda row: row["request_id"] == "events")
    assert (row["status"], row["type"], row["title"]) == (200, doc["type"], doc["title"]), (row, doc)
    assert row["layer"] == "qcow2" and row.get("detail") == doc.get("detail")
    n = len(rows(gate))
    for path in ("/disk/lab/d.raw", "/disk/o/stall-first/gone"):
        s = socket.create_connection(("127.0.0.1", gate.port))
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        if "lab" in path:
            s.recv(1000)
        time.sleep(0.2)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
    time.sleep(2)
    assert all("gone" not in row["path"] or row["status"] >= 400 for row in rows(gate))
    assert not any(row["path"] == "/disk/lab/d.raw" for row in rows(gate)), rows(gate)
    assert len(rows(gate)) <= n + 1


@case("floods: 300 names that are not there, and refusals, drown no disk that fails")
def floods():
    gate = start("--max-waiting-per-client", "512")
    assert gate.get("/disk/lab/bad.qcow2", {"X-Request-Id": "disk"}).status == 502
    assert gate.get("/disk/lab/d.raw", {"Range": "bytes=x", "X-Request-Id": "range"}).status == 416
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda i: gate.get(f"/disk/lab/none-{i}").status, range(300))) == {404}
    newest(gate, lambda row: row["status"] == 404)
    end = time.monotonic() + 10
    while len(rows(gate)) != 66:
        assert time.monotonic() < end, len(rows(gate))
    got = rows(gate)
    assert {"disk", "range"} <= {row["request_id"] for row in got}
    kept = [row["path"] for row in got if row["status"] == 404]
    assert len(kept) == 64 and all(int(p.rsplit("-", 1)[1]) > 300 - 64 - 16 for p in kept), kept
    # As many of each kind as it has places, and no more in all.
    for i in range(100):
        assert gate.get(f"/disk/lab/d.raw?x{i}=1").status == 400
        assert gate.get(f"/disk/lab/d.{i};x=1").status == 400
        assert gate.get(f"/v1/check/lab/d.raw;layers=raw;partition={i + 1}").status >= 400
    time.sleep(0.3)
    got = rows(gate)
    assert len(got) <= 256 and sum(400 <= r["status"] < 500 and r["status"] != 404 for r in got) == 64
    assert "disk" in {row["request_id"] for row in got}


@case("the same error again is one row: counted, with the last time and id, the newest")
def same():
    gate = start()
    for i in range(5):
        gate.get("/disk/lab/none", {"X-Request-Id": f"n{i}"})
        gate.get("/disk/lab/bad.qcow2", {"X-Request-Id": f"b{i}"})
    gate.get("/disk/lab/none", {"X-Request-Id": "last"})
    newest(gate, lambda row: row["request_id"] == "last")
    assert [(r["request_id"], r["count"]) for r in rows(gate)] == [("last", 6), ("b4", 5)]
    gate.get("/disk/lab/none", method="HEAD")  # another method is another error
    newest(gate, lambda row: row["method"] == "HEAD")
    assert len(rows(gate)) == 3


@case("pages, newest first; long paths and odd bytes; a row is cut, never malformed")
def pages():
    gate = start()
    for i in range(5):
        gate.get(f"/disk/lab/none-{i}")
    newest(gate, lambda row: row["path"].endswith("-4"))
    r = gate.get("/v1/errors?limit=2&offset=1")
    assert [x["path"][-2:] for x in json.loads(r.body)] == ["-3", "-2"]
    assert r.getheader("X-Total-Count") == "5"
    assert r.getheader("Link") == '</v1/errors?limit=2&offset=3>; rel="next"'
    for bad in ("limit=0", "offset=x", "colour=1"):
        assert gate.get("/v1/errors?" + bad).status == 400
    gate.get("/disk/lab/" + "y" * 3000)
    row = newest(gate, lambda row: "yyy" in row["path"])
    assert 300 < len(row["path"]) <= 319
    gate.raw(b'GET /disk/lab/\xff\xfe"x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    row = newest(gate, lambda row: "%FF" in row["path"])
    assert row["path"] == '/disk/lab/%FF%FE%22x', row
    # A method has any bytes, too: its row is told, and counted as the others.
    gate.raw(b'\xff"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 /odd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    row = newest(gate, lambda row: row["path"] == "/odd")
    assert row["method"] == "%FF%22%C3%A4%C3" and row["status"] == 501, row
    r = gate.get("/v1/errors")
    assert len(json.loads(r.body)) == int(r.getheader("X-Total-Count")), r.body
    # The text of an image, cut between characters.
    gate.get("/v1/extents/lab/d.raw?format=" + "%C3%A4" * 400)
    row = newest(gate, lambda row: row["path"].startswith("/v1/extents"))
    assert len(row.get("detail", "").encode()) <= 199, row


@case("it is told to admins: by default on this machine, and not to who may read")
def rights():
    gate = start()
    assert gate.get("/v1/errors", {"Host": "else.example"}).status in (401, 403)
    assert gate.get("/v1/origins", {"Host": "else.example"}).status == 200
    d = json.loads(gate.get("/v1/errors", {"Host": "else.example"}).body)
    assert "this machine" in d.get("detail", ""), d
    digest = lambda t: hashlib.sha256(t.encode()).hexdigest()
    gate = start("--access", "local=read,metadata", "--access", "boss=admin:token:" + digest("boss"),
                 "--access", "eye=read,metadata,mirror:token:" + digest("eye"))
    ask = lambda t: gate.get("/v1/errors", {"Authorization": "Bearer " + t} if t else None).status
    assert (ask("boss"), ask("eye"), ask("none")) == (200, 403, 401)
    assert ask(None) in (401, 403)


main()
