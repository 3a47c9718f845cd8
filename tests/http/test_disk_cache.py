#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The disk cache in the running product: a restart is served from it, with
requests counted at the origin; nothing wrong is ever served from it; it keeps
its limit, keeps scans out, and goes away without harm."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import struct, zlib
import images

MIB = 1 << 20
LIMIT = 64 * MIB
www = tmp + "/www"
os.makedirs(www)
truth = www + "/disk.raw"
images.guest_disk(truth, 32)
with open(truth, "r+b") as f:  # so that little of it is zero
    f.seek(17 * MIB)
    f.write(random.randbytes(14 * MIB))
sh("tar czf x.tar.gz disk.raw; qemu-img convert -O qcow2 disk.raw x.qcow2;"
   "qemu-img convert -c -O qcow2 disk.raw c.qcow2;"
   "qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw s.vmdk;"
   "head -c 100000000 /dev/urandom > big.raw", cwd=www)
whole = open(truth, "rb").read()
SIZE = len(whole)
nginx = Nginx(www)
REMOTE = ("x.tar.gz", "x.qcow2", "c.qcow2", "s.vmdk", "disk.raw")
n_states = 0


def state():
    global n_states
    n_states += 1
    return f"{tmp}/state{n_states}"


def start(where, *flags, size="64M", origins=None):
    return Platterd(origins or {"web": nginx.url(), "lab": www}, "--state", where,
                    "--disk-cache-size", size, "--revalidate", "3600", *flags)


def metric(server, name):
    text = server.get("/metrics").body.decode()
    return int(re.search(rf"^platter_{name} (\d+)$", text, re.M)[1])


def quiet(server):
    """Until everything that was offered is written."""
    last, end = None, time.time() + 30
    while time.time() < end:
        now = (metric(server, "disk_cache_writes_total"), metric(server, "indexes_open")
               - metric(server, "indexes_complete"))
        if now == last and now[1] == 0:
            return
        last = now
        time.sleep(0.4)
    raise AssertionError("the disk cache does not come to rest")


def spots(seed, n=30, size=SIZE, length=65536):
    rnd = random.Random(seed)
    return [(rnd.randrange((size - length) // 4096) * 4096, length) for _ in range(n)]


def read_all(server, name, where, data=None, origin="web"):
    data = data or whole
    for off, n in where:
        got = server.range(f"/disk/{origin}/{name}", off, n)
        assert got == data[off:off + n], (name, off, n)


def on_disk(where):
    out = 0
    for name in ("disk-cache.data", "disk-cache.index"):
        st = os.stat(f"{where}/{name}")
        out += max(st.st_size, st.st_blocks * 512)
    return out


@case("a restart serves from disk what was read before, and asks the origin for nothing")
def restart():
    where = state()
    server = start(where, size="256M")
    for name in REMOTE:
        read_all(server, name, spots(1))
    quiet(server)
    assert metric(server, "disk_cache_state") == 1
    assert metric(server, "disk_cache_dropped_total") == 0
    server.stop()
    server = start(where, size="256M")
    for name in REMOTE:
        server.range("/disk/web/" + name, 0, 1)  # opening says which version it is
        before = nginx.sent("/" + name)
        read_all(server, name, spots(1))
        after = nginx.sent("/" + name)
        assert after == before, (name, before, after)
    assert metric(server, "disk_cache_hits_total") > 100
    server.stop()


@case("of local files only decoded streams are kept")
def local():
    server = start(state())
    for name in ("x.qcow2", "c.qcow2", "disk.raw", "s.vmdk"):
        read_all(server, name, spots(2), origin="lab")
    quiet(server)
    assert metric(server, "disk_cache_writes_total") == 0
    read_all(server, "x.tar.gz", spots(2), origin="lab")
    quiet(server)
    assert metric(server, "disk_cache_writes_total") > 0
    server.stop()


@case("long reads are put together of blocks on disk, too")
def long_reads():
    where = state()
    server = start(where)
    at = [(off, 65536) for off in range(20 * MIB, 24 * MIB, 65536)]
    read_all(server, "disk.raw", at)
    quiet(server)
    server.stop()
    server = start(where)
    server.range("/disk/web/disk.raw", 0, 1)
    before = nginx.sent("/disk.raw")
    read_all(server, "disk.raw", [(20 * MIB + 5, 4 * MIB - 10)])
    assert nginx.sent("/disk.raw") == before
    server.stop()


@case("a source that has changed is not served from old blocks")
def changed():
    where = state()
    one, two = (random.randbytes(4 * MIB) for _ in range(2))
    for data in (one, two, one):
        with open(www + "/v.raw.new", "wb") as f:
            f.write(data)
        os.rename(www + "/v.raw.new", www + "/v.raw")
        stamp = 1700000000 + (data is two)
        os.utime(www + "/v.raw", (stamp, stamp))
        server = start(where)
        for _ in range(2):
            read_all(server, "v.raw", spots(3, 20, len(data)), data)
        quiet(server)
        server.stop()
    # The first version once more, under its own validator: it was there.
    assert "disk_cache_off" not in server.text()


@case("while it runs: a new version of the file is a new image")
def changed_live():
    where = state()
    server = start(where, "--revalidate", "0")
    for k in range(4):
        data = random.randbytes(2 * MIB)
        with open(www + "/w.raw.new", "wb") as f:
            f.write(data)
        os.rename(www + "/w.raw.new", www + "/w.raw")
        os.utime(www + "/w.raw", (1700000000 + k, 1700000000 + k))
        for off, n in spots(4, 20, len(data)):
            r = server.get("/disk/web/w.raw", {"Range": f"bytes={off}-{off + n - 1}"})
            if r.status == 502:  # it changed: said once
                r = server.get("/disk/web/w.raw", {"Range": f"bytes={off}-{off + n - 1}"})
            assert r.status == 206 and r.body == data[off:off + n]
    server.stop()


@case("other bytes under the same validator: seen once, and not believed again")
def lying():
    # As long as all of it is on disk nobody can see it, and all is of one version:
    # so a part is lost, has to be fetched, and the index has its checksums.
    where, name = state(), "lie.raw.gz"
    six_bits = bytes(i & 63 for i in range(256))
    one, two = (random.randbytes(12 * MIB).translate(six_bits) for _ in range(2))
    near = spots(13, 12, 2 * MIB)
    lengths = []

    def publish(data):
        with open(f"{www}/{name}.new", "wb") as f:
            c = zlib.compressobj(1, zlib.DEFLATED, -15)
            body = c.compress(data) + c.flush() + struct.pack(
                "<II", zlib.crc32(data), len(data))
            lengths.append(len(body))
            more = lengths[0] + 30000 - len(body)  # an extra field: all of one length
            f.write(b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H", more - 12) +
                    bytes(more - 12) + body)
        os.utime(f"{www}/{name}.new", (1700000000, 1700000000))
        os.rename(f"{www}/{name}.new", f"{www}/{name}")
        return nginx_etag(name)

    def nginx_etag(name):
        c = http.client.HTTPConnection("127.0.0.1", nginx.port)
        c.request("HEAD", "/" + name)
        return c.getresponse().getheader("ETag")
    etag = publish(one)
    server = start(where)
    read_all(server, name, near, one)
    quiet(server)
    server.stop()
    assert publish(two) == etag
    os.truncate(where + "/disk-cache.data", 4 * MIB)
    for run in range(2):
        server = start(where)
        statuses = []
        for off in range(0, len(two) - 65536, MIB // 2):
            spec = {"Range": f"bytes={off}-{off + 65535}"}
            r = server.get("/disk/web/" + name, spec)
            statuses.append(r.status)
            if 502 in statuses and r.status == 206:
                assert r.body == two[off:off + 65536], (run, off)
        # The first run finds out, all it gives from then on is the new version's;
        # the second one has nothing of the old one left.
        assert statuses.count(502) == (run == 0), (run, statuses)
        for off, n in near:
            assert server.range("/disk/web/" + name, off, n) == two[off:off + n], (run, off)
        server.stop()


@case("what nothing pins is not kept, nor what a secret has opened")
def not_kept():
    origin = Origin(www)
    # qemu-img measures its own time, and gives up when it finds too little of it.
    sh(f"printf 0123456789abcdef > {tmp}/key;"
       f"python3 -c \"import sys; sys.stdout.write('PLAINTEXT'*300000)\" > {tmp}/plain;"
       f"for i in 1 2 3 4 5 6 7 8; do qemu-img convert --object secret,id=s,file={tmp}/key -O qcow2 "
       f"-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 -f raw "
       f"{tmp}/plain {www}/e.qcow2 && break; done; test -s {www}/e.qcow2")
    where = state()
    server = start(where, "--secret", f"k={tmp}/key",
                   origins={"o": origin.url(), "web": nginx.url()})
    got = server.get("/disk/o/unpinned/disk.raw", {"Range": f"bytes={20 * MIB}-{20 * MIB + 9999}"})
    assert got.body == whole[20 * MIB:20 * MIB + 10000]
    quiet(server)
    assert metric(server, "disk_cache_writes_total") == 0
    r = server.get("/disk/web/e.qcow2?secret=k")
    assert r.body[:2700000] == b"PLAINTEXT" * 300000
    for off in range(0, 2600000, 50000):
        server.get("/disk/web/e.qcow2?secret=k", {"Range": f"bytes={off}-{off + 4095}"})
    quiet(server)
    assert metric(server, "disk_cache_writes_total") > 0  # the file as it is
    server.stop()
    assert b"PLAINTEXTPLAINTEXT" not in open(where + "/disk-cache.data", "rb").read()
    origin.stop()


@case("files that were scribbled on, cut off or swapped give right bytes")
def damaged():
    where = state()
    server = start(where)
    for name in REMOTE:
        read_all(server, name, spots(5, 15))
    quiet(server)
    server.stop()
    rnd = random.Random(7)
    for round in range(8):
        name = where + "/disk-cache." + ("data", "index")[round % 2]
        size = os.path.getsize(name)
        if round == 6:
            os.truncate(name, 5 * MIB)
        elif round == 7:
            data = open(where + "/disk-cache.data", "rb").read()
            os.rename(where + "/disk-cache.index", where + "/disk-cache.data")
            open(where + "/disk-cache.index", "wb").write(data[:MIB])
        else:
            with open(name, "r+b") as f:
                for _ in range(200):
                    f.seek(rnd.randrange(min(size, 12 * MIB)))
                    f.write(rnd.randbytes(rnd.choice([1, 100, 5000])))
        server = start(where)
        for image in REMOTE:
            read_all(server, image, spots(5, 15))
        assert metric(server, "disk_cache_state") == 1
        server.stop()
        assert on_disk(where) <= LIMIT


@case("the limit holds, whatever is read; a scan does not push out what is used")
def limit():
    where = state()
    big = open(www + "/big.raw", "rb").read()
    server = start(where, "--cache-size", "16M")
    hot = spots(6, 40)
    for _ in range(2):  # again, later than a burst: it is used
        read_all(server, "disk.raw", hot)
        time.sleep(0.3)
    quiet(server)
    for off in range(0, len(big) - 65536, 65536):
        got = server.range("/disk/web/big.raw", off, 65536)
        assert got == big[off:off + 65536]
        if off % (8 * MIB) == 0:
            assert on_disk(where) <= LIMIT
    quiet(server)
    # Full now; once more through all of it, and through other files.
    read_all(server, "disk.raw", hot)
    writes = metric(server, "disk_cache_writes_total")
    for off in range(0, 40 * MIB, 65536):
        server.range("/raw/web/big.raw", off, 65536)
    assert on_disk(where) <= LIMIT
    assert metric(server, "disk_cache_bytes") <= LIMIT
    assert metric(server, "disk_cache_refused_total") > 100
    assert metric(server, "disk_cache_state") == 1
    server.stop()
    server = start(where, "--cache-size", "16M")
    server.range("/disk/web/disk.raw", 0, 1)
    before = nginx.sent("/disk.raw")
    read_all(server, "disk.raw", hot)
    assert nginx.sent("/disk.raw") == before
    server.stop()


@case("with a cache in memory that holds little, the disk answers the second time")
def small_memory():
    server = start(state(), "--cache-size", "16M")
    for name in REMOTE:
        read_all(server, name, spots(8, 60))
        quiet(server)
        before = nginx.sent("/" + name)
        read_all(server, name, spots(8, 60))
        after = nginx.sent("/" + name)
        # What the disk could not follow, or memory has let go before.
        assert after[1] - before[1] <= 15, (name, before, after)
    server.stop()


@case("a full disk: off with one line, served on; /readyz as it is without")
def full():
    where = state()
    os.makedirs(where)
    if os.getuid() != 0:
        return
    sh(f"mount -t tmpfs -o size=20m none {where}")
    try:
        server = start(where)
        for name in ("disk.raw", "x.qcow2", "c.qcow2"):
            for seed in range(5):
                read_all(server, name, spots(seed, 40))
        time.sleep(1)
        assert metric(server, "disk_cache_state") == 0
        assert server.text().count("event=disk_cache_off") == 1, server.text()[-2000:]
        server.stop()
    finally:
        sh(f"umount {where}")


@case("deleted files: off with one line; the next start makes new ones")
def deleted():
    where = state()
    server = start(where)
    read_all(server, "disk.raw", spots(9))
    os.unlink(where + "/disk-cache.data")
    os.unlink(where + "/disk-cache.index")
    end = time.time() + 10
    while metric(server, "disk_cache_state") and time.time() < end:
        time.sleep(0.2)
    assert metric(server, "disk_cache_state") == 0
    read_all(server, "disk.raw", spots(10))
    assert server.text().count("event=disk_cache_off") == 1
    server.stop()
    server = start(where)
    assert metric(server, "disk_cache_state") == 1
    server.stop()


@case("a second process on the same folder goes without; without a folder, too")
def second():
    where = state()
    server = start(where)
    other = start(where)
    assert "another process" in other.text() and metric(other, "disk_cache_state") == 0
    # Mirrors are one process's, too: this one has none, and says so.
    assert "event=mirrors_off" in other.text()
    r = other.get("/v1/mirrors", {"Content-Type": "application/json"}, "POST",
                  body=json.dumps({"name": "m", "source": "lab/disk.raw"}))
    assert r.status == 501 and json.loads(other.get("/v1/mirrors").body) == [], (r.status, r.body)
    read_all(server, "disk.raw", spots(11))
    read_all(other, "disk.raw", spots(11))
    quiet(server)
    assert metric(server, "disk_cache_state") == 1
    assert metric(server, "disk_cache_writes_total") > 0
    server.stop()
    other.stop()
    bare = Platterd({"web": nginx.url()}, "--disk-cache-size", "64M")
    assert "event=disk_cache_off" in bare.text()
    read_all(bare, "disk.raw", spots(11, 3))
    bare.stop()


@case("killed again and again while it writes: right bytes, and hits")
def killed():
    where = state()
    hits = 0
    for round in range(8):
        server = start(where, "--cache-size", "24M")
        errors = []

        def reader(i):
            try:
                for k in range(1000):
                    name = REMOTE[(i + k) % len(REMOTE)]
                    read_all(server, name, spots((round + k) % 9, 1))
            except (OSError, http.client.HTTPException):
                pass
            except AssertionError as e:
                errors.append(e)
        threads = [threading.Thread(target=reader, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        time.sleep(0.7 + round * 0.1)
        hits += metric(server, "disk_cache_hits_total")
        server.proc.kill()
        server.proc.wait()
        for t in threads:
            t.join()
        from live import _daemons
        _daemons.remove(server)
        assert not errors, errors[:2]
        assert on_disk(where) <= LIMIT
    assert hits > 20, hits


@case("eight clients, little memory, a full disk cache: right bytes")
def crowd():
    where = state()
    server = start(where, "--cache-size", "24M")
    big = open(www + "/big.raw", "rb").read()
    errors = []

    def reader(seed):
        rnd = random.Random(seed)
        for _ in range(120):
            name = rnd.choice(REMOTE + ("big.raw",) * 4)
            data = big if name == "big.raw" else whole
            n = rnd.choice([512, 65536, 300000])
            off = rnd.randrange(len(data) - n)
            try:
                if server.range("/disk/web/" + name, off, n) != data[off:off + n]:
                    errors.append((name, off, n))
            except Exception as e:
                errors.append(repr(e)[:300])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(reader, range(8)))
    assert not errors, errors[:3]
    assert on_disk(where) <= LIMIT
    server.stop()


@case("metrics and the log say what it does; off is the default")
def said():
    server = start(state())
    text = server.get("/metrics").body.decode()
    for name in ("hits", "misses", "writes", "dropped", "refused", "evicted"):
        assert f"# TYPE platter_disk_cache_{name}_total counter" in text, name
    for name in ("state", "bytes", "limit_bytes"):
        assert f"# TYPE platter_disk_cache_{name} gauge" in text, name
    assert metric(server, "disk_cache_limit_bytes") == LIMIT
    server.stop()
    where = state()
    server = Platterd({"web": nginx.url()}, "--state", where)
    read_all(server, "disk.raw", spots(12, 5))
    assert metric(server, "disk_cache_state") == 0
    assert "disk_cache" not in server.text()
    server.stop()
    assert not os.path.exists(where + "/disk-cache.data")


main()
