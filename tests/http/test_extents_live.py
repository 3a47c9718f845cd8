# SPDX-License-Identifier: Apache-2.0
"""The picture of an image that moves: what of it is in memory, and what clients read."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
os.chdir(www)
KIB, MIB = 1 << 10, 1 << 20
SIZE, N = 32 * MIB, 1024  # a bucket: 32 KiB
FULL = SIZE // N

with open("disk.raw", "wb") as f:  # the first half words that compress, then a hole, then noise
    f.write(b"".join(random.randbytes(KIB) * 64 for _ in range(256)))
    f.truncate(24 * MIB)
    f.seek(24 * MIB)
    f.write(random.randbytes(8 * MIB))
sh("qemu-img convert -O qcow2 disk.raw plain.qcow2; qemu-img convert -c -O qcow2 disk.raw zlib.qcow2;"
   "qemu-img create -q -f qcow2 -b zlib.qcow2 -F qcow2 top.qcow2; qemu-io -c 'write -P 5 2M 1M' top.qcow2;"
   "qemu-img convert -O vmdk disk.raw sparse.vmdk; tar --format=oldgnu -Scf d.tar disk.raw;"
   "qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw stream.vmdk;"
   "gzip -1kf disk.raw; tar --format=oldgnu -Sczf d.tar.gz disk.raw; head -c 64M /dev/urandom > scan.raw")
# what each has of the hole in blocks of its own: a plain file, and nobody else
HOLES = ("disk.raw",)
FILES = ("disk.raw", "d.tar", "plain.qcow2", "zlib.qcow2", "top.qcow2", "sparse.vmdk", "stream.vmdk",
         "disk.raw.gz", "d.tar.gz")
nginx = Nginx(www)
FLAGS = ("--readahead", "0", "--revalidate", "600")
server = Platterd({"lab": www, "web": nginx.url()}, *FLAGS)


def live(ref, n=N, where=None, more=""):
    r = (where or server).get(f"/v1/extents/{ref}?buckets={n}&context=cache{more}")
    assert r.status == 200, (ref, r.status, r.body[:300])
    assert r.getheader("Cache-Control") == "no-store" and r.getheader("ETag") is None
    d = json.loads(r.body)
    assert list(d) == ["start", "length", "virtual-size", "buckets", "cached", "reads"], list(d)
    assert d["buckets"] == n == len(d["cached"])
    for i, cached in enumerate(d["cached"]):
        assert 0 <= cached <= (i + 1) * d["length"] // n - i * d["length"] // n, (ref, i, cached)
    return d


def origin():
    time.sleep(0.2)
    return sum(1 for _ in open(nginx.log))


@case("cached is what a read gets without a request to the origin: in every stack, before and after")
def honest():
    for name in FILES:
        ref, is_stream = "web/" + name, name.endswith(".gz")
        s = Platterd({"web": nginx.url()}, *FLAGS)
        s.range("/disk/" + ref, 0, 1)
        if not is_stream:  # a stream is decoded ahead of its readers
            cold = live(ref, where=s)["cached"]
            assert not any(cold[N // 4:]), (name, cold[N // 4:])
        s.range("/disk/" + ref, 5 * MIB, MIB)
        s.range("/disk/" + ref, 28 * MIB + 5, 500 * KIB)
        warm = live(ref, where=s)["cached"]
        a, b = 5 * MIB // FULL, 28 * MIB // FULL
        assert warm[a:a + 32] == [FULL] * 32 and warm[b + 1:b + 15] == [FULL] * 14, (name, warm[a:a + 32])
        if not is_stream:
            assert not any(warm[a + 64:b - 64]) and not any(warm[b + 64:]), name
        before = origin()
        for i in random.sample([i for i, c in enumerate(warm) if c == FULL], 20):
            s.range("/disk/" + ref, i * FULL, FULL)
        assert origin() == before, name
        if not is_stream:
            i = random.choice([i for i in range(b + 64, N) if not warm[i]])
            s.range("/disk/" + ref, i * FULL, FULL)
            assert origin() > before, name
        s.get("/disk/" + ref)
        d = live(ref, where=s)
        data = [FULL] * (N // 2) + [FULL if name in HOLES else 0] * (N // 4) + [FULL] * (N // 4)
        assert sum(map(lambda x, y: abs(x - y), d["cached"], data)) <= 256 * KIB, \
            (name, sum(d["cached"]) / MIB)
        assert sum(d["cached"]) > 0.98 * sum(data)
        s.stop()


@case("of local files: what is decoded is cached, what the kernel has is not")
def local():
    for name, data in (("disk.raw", 0), ("plain.qcow2", 0), ("sparse.vmdk", 0), ("d.tar", 0),
                       ("zlib.qcow2", 16), ("stream.vmdk", 16), ("disk.raw.gz", 24), ("d.tar.gz", 24)):
        server.get("/disk/lab/" + name)
        got = sum(live("lab/" + name)["cached"]) / MIB
        # noise is kept plain by qcow2, and by vmdk in whichever way the writer chose
        assert data - 0.5 <= got <= data + (9 if data == 16 else 0.5), (name, got)


@case("any window and number of buckets; few bytes in many")
def windows():
    server.get("/disk/web/plain.qcow2")
    for start, length, n in ((0, SIZE, 1), (0, SIZE, 8192), (5, 1000, 7), (MIB, 3 * MIB + 1, 2048), (9, 3, 100),
                             (SIZE, 5, 3), (SIZE - 1, 1, 1)):
        d = live("web/plain.qcow2", n, more=f"&start={start}&length={length}")
        assert d["start"] == start and d["length"] == min(length, SIZE - start)
        if start + length <= 16 * MIB:
            assert sum(d["cached"]) == length, (start, length, n, d["cached"][:9])
    total = sum(live("web/plain.qcow2", 1)["cached"])
    assert abs(total - 24 * MIB) < MIB, total
    for query in ("context=cache", "buckets=0&context=cache", "buckets=3&context=cache&format=platter",
                  "buckets=3&context=cached", f"buckets=3&context=cache&start={SIZE + 1}"):
        problem(server.get("/v1/extents/web/plain.qcow2?" + query), 400, "invalid")


def counted():
    """All that is told of reads, and of what the cache has."""
    text = server.get("/metrics").body.decode()
    return [l for l in text.splitlines() if not l.startswith("#") and re.match(
        r"platter_(cache|driver|layer|origin|readahead|source|sent|disk_cache|prefetch)\w*", l)]


@case("asking changes no counter, asks no source, and does not keep what would be evicted")
def unseen():
    global server
    kept = server
    server = Platterd({"web": nginx.url()}, "--cache-size", "16M", "--readahead", "4M", "--revalidate", "0")
    before = None
    for name in ("top.qcow2", "stream.vmdk", "disk.raw.gz", "d.tar"):
        server.range("/disk/web/" + name, 2 * MIB, MIB)
        while counted() != before:  # until what reads ahead and decodes has come to rest
            before = counted()
            time.sleep(0.7)
    asked = origin()
    assert len(before) > 20, before
    for _ in range(20):
        for name in ("top.qcow2", "stream.vmdk", "disk.raw.gz", "d.tar"):
            live("web/" + name)
    assert counted() == before
    assert origin() == asked
    # beside a scan of four times the cache, asked all the while: gone as if nobody had
    a = 2 * MIB // FULL
    assert live("web/d.tar")["cached"][a:a + 32] == [FULL] * 32
    for at in range(0, 64 * MIB, 4 * MIB):
        server.range("/disk/web/scan.raw", at, 4 * MIB)
        live("web/d.tar")
    assert not any(live("web/d.tar")["cached"][a:a + 32])
    server.stop()
    server = kept


@case("reads are those of the last ten seconds, newest first, joined where they touch")
def reads():
    s = Platterd({"web": nginx.url()}, "--readahead", "0")
    ref, path = "web/plain.qcow2", "/disk/web/plain.qcow2"
    began = time.time()

    def spans():
        return [(x["start"], x["length"]) for x in live(ref, 4, s)["reads"]]
    assert spans() == []
    s.range(path, MIB, 4096)
    s.range(path, 9 * MIB, 512)  # cold, and below from memory
    assert spans() == [(9 * MIB, 512), (MIB, 4096)]
    time.sleep(0.6)
    s.range(path, 9 * MIB, 512)
    for i in range(20):
        s.range(path, 20 * MIB + i * 4096, 4096)
    assert spans() == [(20 * MIB, 81920), (9 * MIB, 512), (9 * MIB, 512), (MIB, 4096)]
    s.get(path, method="HEAD")
    s.get(path, {"If-None-Match": "*"})
    s.get(path, {"Range": f"bytes={SIZE}-"})
    s.get("/raw/web/plain.qcow2")
    s.get("/v1/checksum/web/plain.qcow2")
    assert len(spans()) == 4
    s.get(path, {"Range": "bytes=100-199,3000000-3000009"})
    got = spans()
    assert set(got[:2]) == {(100, 100), (3000000, 10)} and len(got) == 6, got
    s.get(path)
    rows = live(ref, 4, s)["reads"]
    assert (rows[0]["start"], rows[0]["length"]) == (0, SIZE), rows
    ages = [x["age-ms"] for x in rows]
    assert ages == sorted(ages) and ages[0] < 2000 and 600 <= ages[-1] <= (time.time() - began) * 1000 + 1
    time.sleep(0.6)  # all of these touch the whole disk
    for i in range(400):
        s.range(path, i * 65536, 100)
    assert len(spans()) == 256 and spans()[0] == (399 * 65536, 100)
    time.sleep(10.2)
    assert spans() == []
    s.stop()


@case("a read is shown while it is waited for, and its bytes as they come")
def waiting():
    s = Platterd({"web": nginx.url() + "slow/"}, "--readahead", "0")
    ref = "web/disk.raw"
    s.range("/disk/" + ref, 0, 1)
    reader = threading.Thread(target=lambda: s.range("/disk/" + ref, 24 * MIB, 3 * MIB))
    reader.start()
    seen, end = set(), time.time() + 30
    while reader.is_alive() and time.time() < end:
        d = live(ref, where=s)
        if any((x["start"], x["length"]) == (24 * MIB, 3 * MIB) for x in d["reads"]):
            seen.add(sum(d["cached"][3 * N // 4:]))
        time.sleep(0.2)
    reader.join()
    assert len(seen) > 3 and min(seen) < MIB, seen
    assert sum(live(ref, where=s)["cached"][3 * N // 4:]) >= 3 * MIB


@case("an image that is not open is opened, one that is replaced is another")
def opening():
    shutil.copy("plain.qcow2", "new.qcow2")
    s = Platterd({"lab": www, "web": nginx.url()}, "--revalidate", "0")
    assert live("web/new.qcow2", 4, s)["virtual-size"] == SIZE
    s.get("/disk/web/new.qcow2")
    assert sum(live("web/new.qcow2", 4, s)["cached"]) > 20 * MIB
    time.sleep(1.1)
    shutil.copy("top.qcow2", "new.qcow2.tmp")
    os.rename("new.qcow2.tmp", "new.qcow2")
    s.range("/disk/web/new.qcow2", 2 * MIB, 10)
    d = live("web/new.qcow2", 4, s)
    assert [x["length"] for x in d["reads"]] == [10] and sum(d["cached"]) < 5 * MIB, d
    problem(s.get("/v1/extents/web/none?buckets=4&context=cache"), 404)


@case("once a second costs little: a few ms of processor time for 2048 buckets")
def cost():
    slower = 6 if "san" in sh(f"ldd {BIN}/platterd").decode() else 1

    def spent():
        f = open(f"/proc/{server.proc.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")
    for name in FILES:
        server.get("/disk/web/" + name)
        for n in (1024, 2048):
            before = spent()
            for _ in range(40):
                live("web/" + name, n)
            ms = (spent() - before) / 40 * 1000
            print(f"# {name} {n}: {ms:.2f} ms")
            assert ms < 25 * slower, (name, n, ms)


main()
