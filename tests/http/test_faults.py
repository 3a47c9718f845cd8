# SPDX-License-Identifier: Apache-2.0
"""Origins that lie or break, images that are not what they say, names that reach
too far: the status, the problem document, in bounded time, and everybody else
served on."""
import sys, os, struct
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

www = tmp + "/www"
os.makedirs(www)
N = 600000
data = os.urandom(N)
open(www + "/f.raw", "wb").write(data)
images.guest_disk(www + "/disk.raw", 16)
sh("tar --format=oldgnu -Sczf x.tar.gz disk.raw; tar -cf x.tar disk.raw", cwd=www)
truth = www + "/disk.raw"
origin, nginx = Origin(www), Nginx(www)
server = Platterd({"o": origin.url(), "web": nginx.url(), "lab": www},
                  "--deadline", "3", "--revalidate", "1")


def others_are_served():
    assert server.range("/disk/web/x.tar.gz", 4096, 512) == part(truth, 4096, 512)


def answer(mode, at=500000, name="f.raw"):
    """A read that needs a second request to the origin."""
    start = time.time()
    r = server.get(f"/disk/o/{mode}/{name}", {"Range": f"bytes={at}-{at + 999}"})
    took = time.time() - start
    assert took < 12, (mode, took)
    others_are_served()
    return r


def rows(table):
    for mode, status, kind in table:
        def run(mode=mode, status=status, kind=kind):
            r = answer(mode)
            if status < 300:
                assert r.status == status and r.body == data[500000:501000], r.status
            else:
                problem(r, status, kind)
        case(f"an origin in the mode {mode} gives {status}")(run)


rows([("ok", 206, None), ("noranges", 206, None), ("chunked", 206, None),
      ("unpinned", 206, None), ("weak", 206, None), ("redirect-in", 206, None),
      ("busy", 206, None),
      ("wrong-range", 502, "origin"), ("wrong-total", 502, "changed"),
      ("200-later", 502, "origin"), ("short", 502, "origin"), ("long", 502, "origin"),
      ("stall", 504, "timeout"), ("stall-first", 504, "timeout"),
      ("reset", 502, "origin"), ("429", 503, "busy"), ("503", 503, "busy"),
      ("changed", 502, "changed"), ("coded", 502, "origin"), ("headers", 502, "origin"),
      ("401", 403, "denied"), ("403", 403, "denied"), ("404", 404, "not-found"),
      ("410", 404, "not-found"), ("500", 502, "origin"),
      ("redirect-out", 403, "denied"), ("redirect-loop", 502, "origin")])


@case("a file that changes on its server: old bytes under the old ETag or an error, then the new")
def changes():
    v1, v2 = os.urandom(N), os.urandom(N)
    open(www + "/c.raw", "wb").write(v1)
    os.utime(www + "/c.raw", (1e9, 1e9))
    first = server.get("/disk/web/c.raw", {"Range": "bytes=0-999"})
    assert first.body == v1[:1000]
    open(www + "/c.new", "wb").write(v2)
    os.rename(www + "/c.new", www + "/c.raw")
    seen = {first.getheader("ETag"): v1}
    end = time.time() + 15
    while True:
        at = random.randrange(N - 1000)
        r = server.get("/disk/web/c.raw", {"Range": f"bytes={at}-{at + 999}"})
        if r.status == 206:
            tag = r.getheader("ETag")
            version = seen.setdefault(tag, v2)
            assert r.body == version[at:at + 1000], "bytes of two versions under one ETag"
            if version is v2:
                break
        else:
            problem(r, 502, "changed")
        assert time.time() < end, "the new version never came"
        time.sleep(0.1)
    assert len(seen) == 2


@case("a local file that changes, in place and by replacement")
def local_changes():
    path = www + "/l.raw"
    for replace in (False, True):
        v1, v2 = os.urandom(5000), os.urandom(6000)
        open(path, "wb").write(v1)
        tag = server.get("/disk/lab/l.raw").getheader("ETag")
        time.sleep(1.2)
        if replace:
            open(path + ".n", "wb").write(v2)
            os.rename(path + ".n", path)
        else:
            open(path, "wb").write(v2)
        end = time.time() + 10
        while True:
            r = server.get("/disk/lab/l.raw")
            if r.status == 200 and r.getheader("ETag") != tag:
                assert r.body == v2
                break
            assert r.status == 502 or r.body == v1, r.status
            assert time.time() < end
            time.sleep(0.1)
        os.remove(path)
        time.sleep(1.2)
        server.get("/disk/lab/l.raw")


@case("a local file written in place, its size and time put back, keeps no ETag")
def same_time():
    path = www + "/same.raw"
    seen = {}
    for k in range(6):
        with open(path, "r+b" if k else "wb") as f:
            f.write(bytes([k]) * 5000)
        os.utime(path, ns=(1, 1600000000 * 10**9))
        end = time.time() + 10
        while True:
            r = server.get("/disk/lab/same.raw")
            if r.status == 200:
                assert seen.setdefault(r.getheader("ETag"), r.body) == r.body, k
                if r.body == bytes([k]) * 5000:
                    break
            assert time.time() < end
            time.sleep(0.05)
    assert len(seen) == 6


@case("a server that has stopped: what is in memory is served, the rest is 502, and it comes back")
def stopped():
    other = Nginx(www)
    s = Platterd({"n": other.url()}, "--deadline", "4", "--revalidate", "1")
    assert s.get("/disk/n/f.raw", {"Range": "bytes=0-99"}).body == data[:100]
    other.stop()
    start = time.time()
    problem(s.get("/disk/n/f.raw", {"Range": "bytes=500000-500099"}), 502, "origin")
    problem(s.get("/disk/n/x.tar", {"Range": "bytes=0-9"}), 502, "origin")
    assert time.time() - start < 12
    assert s.get("/healthz").status == 200
    other.start()
    assert s.get("/disk/n/f.raw", {"Range": "bytes=500000-500099"}).body == \
        data[500000:500100]
    s.stop()
    other.stop()


@case("a gzip with a flipped bit: never a whole answer, 502 that names the layer")
def flipped():
    good = open(www + "/x.tar.gz", "rb").read()
    for at in (len(good) // 2, len(good) - 6):
        b = bytearray(good)
        b[at] ^= 0x10
        open(www + "/flip.tar.gz", "wb").write(b)
        s = Platterd({"lab": www}, "--deadline", "5")
        try:
            r = s.get("/disk/lab/flip.tar.gz")
            whole = r.body if r.status == 200 else b""
        except http.client.IncompleteRead:
            whole = b""
        if whole:
            # The checksum comes last; bytes that were sent before it are right
            # or the answer was cut.
            assert at > len(good) - 8, at
        time.sleep(0.5)
        r = s.get("/disk/lab/flip.tar.gz?layers=gzip")
        doc = problem(r, 502, "corrupt")
        assert doc["layer"] == "gzip" and doc["detail"], doc
        s.stop()


@case("a gzip that was cut off: its beginning is served, its end is 502")
def cut_gzip():
    good = open(www + "/x.tar.gz", "rb").read()
    open(www + "/cut.tar.gz", "wb").write(good[:-200000])
    assert server.range("/disk/lab/cut.tar.gz", 0, 512) == part(truth, 0, 512)
    doc = problem(server.get("/disk/lab/cut.tar.gz?layers=gzip"), 502, "corrupt")
    assert doc["layer"] == "gzip" and "ends inside a member" in doc["detail"], doc
    try:
        r = server.get("/disk/lab/cut.tar.gz")
        assert r.status == 502, r.status
    except (http.client.IncompleteRead, ConnectionResetError):
        pass


@case("a tar that was cut off is 502 at once; nothing of it is padded")
def cut_tar():
    good = open(www + "/x.tar", "rb").read()
    open(www + "/cut.tar", "wb").write(good[:len(good) // 2])
    doc = problem(server.get("/disk/lab/cut.tar"), 502, "corrupt")
    assert doc["layer"] == "tar"


@case("an answer that cannot be completed ends its connection, short and visibly")
def broken_body():
    big = www + "/big.raw"
    with open(big, "wb") as f:
        f.write(os.urandom(64 << 20))
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    c.request("GET", "/disk/lab/big.raw")
    r = c.getresponse()
    assert r.status == 200
    r.read(100000)
    os.truncate(big, 1000)
    try:
        got = r.read()
        assert False, f"{len(got)} bytes came as if nothing had happened"
    except (http.client.IncompleteRead, ConnectionResetError):
        pass
    c.close()
    os.remove(big)


@case("an archive without a disk is 404; with three it is 300 and says how to choose")
def choosing():
    sh("cp disk.raw b.img; cp disk.raw c.qcow; echo x > readme; tar -cf none.tar readme;"
       "tar -cf three.tar disk.raw b.img c.qcow; tar -czf three.tar.gz b.img disk.raw c.qcow",
       cwd=www)
    problem(server.get("/disk/lab/none.tar"), 404, "not-found")
    for n in ("three.tar", "three.tar.gz"):
        doc = problem(server.get("/disk/lab/" + n), 300, "choice")
        assert sorted(c["name"] for c in doc["choices"]) == ["b.img", "c.qcow", "disk.raw"]
        for c in doc["choices"]:
            r = server.get(c["href"], {"Range": "bytes=0-511"})
            assert r.status == 206 and r.body == part(truth, 0, 512), (c, r.status)
    problem(server.get("/disk/lab/three.tar?member=nope"), 404, "not-found")
    r = platter("info", www + "/three.tar", check=False)
    assert r.returncode == 3 and b"--member 'b.img'" in r.stderr


@case("an image that names a file outside its folder discloses nothing")
def disclosure():
    os.makedirs(www + "/sub", exist_ok=True)
    for i, (name, fmt) in enumerate((("/etc/passwd", "raw"), ("../f.raw", "raw"),
                                     ("json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "raw"),
                                     ("nbd:127.0.0.1:10809", "raw"),
                                     ("http://127.0.0.1/x", "raw"))):
        path = f"{www}/sub/evil{i}.qcow2"
        sh(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"])
        b = name.encode()
        with open(path, "r+b") as f:
            f.seek(8)
            f.write(struct.pack(">QI", 4096, len(b)))
            f.seek(4096)
            f.write(b)
        for o in ("lab", "web"):
            doc = problem(server.get(f"/disk/{o}/sub/evil{i}.qcow2"), 403, "denied")
            assert "passwd" not in json.dumps(doc)


@case("a chain of backing files that is a loop is an error, not a hang")
def loop():
    sh("qemu-img create -q -f qcow2 la.qcow2 1M; qemu-img create -q -f qcow2 -b la.qcow2 "
       "-F qcow2 lb.qcow2; qemu-img rebase -u -b lb.qcow2 -F qcow2 la.qcow2", cwd=www)
    problem(server.get("/disk/lab/la.qcow2"), 502, "corrupt")


@case("a redirect out of the origins, a folder, a pipe and a link out are not opened")
def outside():
    os.mkfifo(www + "/pipe.raw")
    os.symlink("/etc/passwd", www + "/out.raw")
    problem(server.get("/disk/lab/pipe.raw"), 403, "denied")
    problem(server.get("/disk/lab/out.raw"), 403, "denied")
    problem(server.get("/disk/lab/sub"), 404, "not-found")


@case("many readers and little memory: they wait for each other, and none fails")
def crowded():
    with open(www + "/crowd.raw", "wb") as f:
        f.write(random.randbytes(24 << 20))
    sh("gzip -1 -k crowd.raw; qemu-img convert -c -O qcow2 crowd.raw crowd.qcow2; "
       "tar -cf crowd.tar crowd.qcow2; gzip -k crowd.tar", cwd=www)
    want = open(www + "/crowd.raw", "rb").read()
    for name in ("crowd.raw.gz?layers=gzip", "crowd.tar.gz"):
        s = Platterd({"web": nginx.url()}, "--cache-size", "6M")
        s.range("/disk/web/" + name, len(want) - 512, 512)

        def reader(i):
            c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
            rng = random.Random(i)
            for _ in range(20):
                off = rng.randrange(len(want) - 65536)
                c.request("GET", "/disk/web/" + name,
                          headers={"Range": f"bytes={off}-{off + 65535}"})
                r = c.getresponse()
                body = r.read()
                if r.status != 206 or body != want[off:off + 65536]:
                    return r.status, body[:300]
            return None

        with ThreadPoolExecutor(16) as pool:
            bad = [x for x in pool.map(reader, range(16)) if x]
        s.stop()
        assert not bad, (name, bad)


@case("a slow origin does not delay an image of another one")
def slow():
    threads = [threading.Thread(target=lambda i=i: server.get(
        f"/disk/o/stall-first/f{i}.raw", {"Range": "bytes=0-9"})) for i in range(40)]
    for t in threads:
        t.start()
    time.sleep(0.3)
    start = time.time()
    for _ in range(20):
        others_are_served()
    assert time.time() - start < 3, time.time() - start
    for t in threads:
        t.join()


main()
