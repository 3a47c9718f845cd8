# SPDX-License-Identifier: Apache-2.0
"""The picture of an image: its extents in sums, against qemu-img map."""
import struct, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
os.chdir(www)
KIB, MIB = 1 << 10, 1 << 20
SIZE = 24 * MIB + 512
KINDS = ("data", "compressed", "zero", "hole")

with open("disk.raw", "wb") as f:  # whole clusters, so that QEMU and we see one map
    f.truncate(SIZE)
    for at in random.sample(range(0, 24 * MIB, 64 * KIB), 90):
        f.seek(at)
        f.write(random.randbytes(KIB) * 64)  # that compresses
sh("qemu-img convert -O qcow2 disk.raw plain.qcow2; qemu-img convert -c -O qcow2 disk.raw zlib.qcow2;"
   "qemu-img convert -O vmdk disk.raw sparse.vmdk; tar -czf d.tar.gz disk.raw;"
   "qemu-img convert -O qcow2 -o extended_l2=on,cluster_size=128k disk.raw sub.qcow2;"
   "cp plain.qcow2 zeroed.qcow2; qemu-io -c 'write -z 1M 3M' -c 'write -z -u 9M 1M' zeroed.qcow2;"
   f"qemu-img create -q -f qcow2 -b zlib.qcow2 -F qcow2 mid.qcow2 {SIZE + MIB};"
   "qemu-io -c 'write -P 5 2M 300k' -c 'write -z 5M 1M' mid.qcow2;"
   f"qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 {SIZE + 2 * MIB};"
   "qemu-io -c 'write -P 6 12M 192k' top.qcow2;"
   "for f in *.qcow2 *.vmdk; do cp --sparse=always $f .whole && mv .whole $f; done; sync *")
FILES = ("disk.raw", "plain.qcow2", "zlib.qcow2", "sub.qcow2", "zeroed.qcow2", "mid.qcow2", "top.qcow2",
         "sparse.vmdk")
nginx = Nginx(www)
server = Platterd({"lab": www, "web": nginx.url()})


def sums(ref, n, query="", where=None):
    r = (where or server).get(f"/v1/extents/{ref}?buckets={n}{query}")
    assert r.status == 200, (ref, n, query, r.status, r.body[:300])
    d = json.loads(r.body)
    assert list(d) == ["start", "length", "virtual-size", "buckets", "extents", *KINDS], list(d)
    assert d["buckets"] == n and all(len(d[k]) == n for k in KINDS)
    for i, four in enumerate(zip(*(d[k] for k in KINDS))):
        assert sum(four) == (i + 1) * d["length"] // n - i * d["length"] // n, (ref, i, four)
    return d


def expected(rows, start, length, n, kind):
    """The same from rows of a list, byte by byte of their ends."""
    out = {k: [0] * n for k in KINDS}
    edges = [start + i * length // n for i in range(n + 1)]
    for x in rows:
        at, end = max(x["start"], start), min(x["start"] + x["length"], start + length)
        for i in range(n):
            cut = min(end, edges[i + 1]) - max(at, edges[i])
            if cut > 0:
                out[kind(x)][i] += cut
    return out


def of_qemu(x):
    """What qemu-img says; it does not say what is compressed."""
    return "hole" if not x["present"] else "zero" if x["zero"] else "data"


WINDOWS = [(0, SIZE, 1), (0, SIZE, 1024), (0, SIZE, 8192), (0, SIZE, 7), (5 * MIB + 3, 4 * MIB + 1, 100),
           (SIZE - 100, 100, 300), (12345, 1, 2)]


@case("sums are those of qemu-img map's rows: raw, qcow2 plain, compressed, zeroed, in a chain, vmdk")
def against_qemu():
    for name in FILES:
        theirs = json.loads(sh(["qemu-img", "map", "--output=json", name]))
        for start, length, n in WINDOWS:
            got = sums("lab/" + name, n, f"&start={start}&length={length}")
            want = expected(theirs, start, length, n, of_qemu)
            assert got["hole"] == want["hole"], (name, start, length, n)
            assert got["zero"] == want["zero"], (name, start, length, n)
            assert [a + b for a, b in zip(got["data"], got["compressed"])] == want["data"], (name, n)
    # the pictures are not all of one colour
    for name, kinds in (("disk.raw", {"data", "zero"}), ("plain.qcow2", {"data", "hole"}),
                        ("zlib.qcow2", {"compressed", "hole"}),
                        ("zeroed.qcow2", {"data", "zero", "hole"}), ("top.qcow2", set(KINDS))):
        d = sums("lab/" + name, 3)
        assert {k for k in KINDS if any(d[k])} == kinds, (name, d)


@case("what is compressed: all data of the image that was written so, beneath a chain too")
def compressed():
    d = sums("lab/zlib.qcow2", 1)
    assert d["compressed"] == sums("lab/plain.qcow2", 1)["data"] == [90 * 64 * KIB]
    rows = json.loads(sh(["qemu-img", "map", "--output=json", "top.qcow2"]))
    want = expected(rows, 0, SIZE + 2 * MIB, 64,
                    lambda x: "compressed" if x["data"] and x["depth"] == 2 else of_qemu(x))
    assert {k: sums("lab/top.qcow2", 64)[k] for k in KINDS} == want


@case("sums and rows say the same of the same stretch, and count the same extents")
def against_rows():
    def kind(x):
        return "hole" if not x["present"] else "zero" if x["zero"] else \
            "compressed" if x["compressed"] else "data"
    for ref in [f"lab/{n}" for n in FILES] + ["web/zlib.qcow2", "web/disk.raw", "web/sparse.vmdk"]:
        for _ in range(5):
            start, length, n = random.randrange(SIZE), random.randrange(1, SIZE), random.randrange(1, 400)
            where = f"&start={start}&length={length}"
            got = sums(ref, n, where)
            rows = json.loads(server.get(f"/v1/extents/{ref}?{where[1:]}").body)
            assert got["length"] == rows["length"] and got["extents"] == len(rows["extents"])
            assert {k: got[k] for k in KINDS} == expected(rows["extents"], start, got["length"], n, kind)


@case("of a stream all is compressed, and zeros are told when they have been decoded: another ETag")
def stream():
    s = Platterd({"web": nginx.url()})
    ref, disk = "web/d.tar.gz", open("disk.raw", "rb").read()
    path = f"/v1/extents/{ref}?buckets=512"
    s.range("/disk/" + ref, 0, 512)
    early = s.get(path)
    s.get("/disk/" + ref)
    late = s.get(path)
    d = sums(ref, 512, where=s)
    assert sum(d["zero"]) > 10 * MIB and not sum(d["data"]) + sum(d["hole"])
    for i, zeros in enumerate(d["zero"]):
        part = disk[i * SIZE // 512:(i + 1) * SIZE // 512]
        assert part.count(0) >= zeros, i
    tags = [r.getheader("ETag") for r in (early, late)]
    assert (tags[0] == tags[1]) == (early.body == late.body), tags
    assert tags[0][:33] == tags[1][:33] == json.loads(s.get("/v1/info/" + ref).body)["etag"][:33]


@case("nothing of nothing; start behind the end, and what sums do not go with, is 400")
def ends():
    for where in (f"&start={SIZE}", "&length=0", "&start=5&length=0"):
        d = sums("lab/plain.qcow2", 4, where)
        assert d["extents"] == 0 and all(d[k] == [0] * 4 for k in KINDS)
    for query in ("buckets=4&start=1E", "buckets=0", "buckets=8193", "buckets=", "buckets=4&buckets=4",
                  "buckets=4&context=dirty:b", "buckets=4&format=imageio", "buckets=4&context=one"):
        problem(server.get("/v1/extents/lab/plain.qcow2?" + query), 400, "invalid")
    assert sums("lab/plain.qcow2", 4, "&context=zero") == sums("lab/plain.qcow2", 4)


@case("If-None-Match: 304 while nothing is new, and 200 when the image is another")
def validator():
    shutil.copy("plain.qcow2", "moves.qcow2")
    s = Platterd({"lab": www}, "--revalidate", "0")
    path = "/v1/extents/lab/moves.qcow2?buckets=10"
    r = s.get(path)
    tag = r.getheader("ETag")
    assert r.getheader("Cache-Control") == "no-cache"
    for value in (tag, f'"x", {tag}', "W/" + tag, "*"):
        r = s.get(path, {"If-None-Match": value})
        assert r.status == 304 and not r.body and r.getheader("ETag") == tag, (value, r.status)
    assert s.get(path, {"If-None-Match": '"x"'}).status == 200
    assert s.get(path + "&length=1M", {"If-None-Match": tag}).status == 200
    problem(s.get(path, {"If-Match": '"x"'}), 412)
    sh("qemu-io -c 'write -P 9 23M 64k' moves.qcow2")
    r = s.get(path, {"If-None-Match": tag})
    assert r.status == 200 and r.getheader("ETag")[:33] != tag[:33]


def comb(path, n):
    """A qcow2 disk of n clusters, every other one data."""
    cluster, slots = 64 * KIB, 8192
    tables = n // slots
    with open(path, "wb") as f:
        f.write(struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, n * cluster, 0, tables,
                            cluster, 2 * cluster, 1, 0, 0))
        data = (3 + tables) * cluster
        f.seek(cluster)
        f.write(b"".join(struct.pack(">Q", 1 << 63 | (3 + i) * cluster) for i in range(tables)))
        f.seek(3 * cluster)
        f.write(struct.pack(">QQ", 1 << 63 | data, 0) * (n // 2))
        f.seek(data)
        f.write(b"d" * cluster)


@case("a million extents: well under a second of processor time, and no memory for each")
def million():
    comb("comb.qcow2", 1 << 20)
    s = Platterd({"lab": www})

    def status(field):
        return int(re.search(field + r":\s+(\d+)", open(f"/proc/{s.proc.pid}/status").read())[1])

    def spent():
        f = open(f"/proc/{s.proc.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")
    sums("lab/comb.qcow2", 8192, "&length=1G", s)
    before, cpu = status("VmHWM"), spent()
    d = sums("lab/comb.qcow2", 8192, "", s)
    cpu, grown = spent() - cpu, status("VmHWM") - before
    assert d["extents"] == 1 << 20 and d["data"] == d["hole"] == [64 * 64 * KIB] * 8192
    print(f"# {cpu:.2f} s, {grown} KiB more at the most")
    assert cpu < (8 if "asan" in sh(f"ldd {BIN}/platterd").decode() else 0.8), cpu
    assert grown < 60 * KIB, grown


@case("a disk that says of 2^51 bytes, cluster by cluster, that they are zeros ends at the deadline")
def vast():
    cluster, tables = 64 * KIB, 1 << 22
    with open("vast.qcow2", "wb") as f:
        f.write(struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, tables * 8192 * cluster, 0,
                            tables, 3 * cluster, 2 * cluster, 1, 0, 0, 0, 0, 0, 4, 104))
        f.seek(cluster)
        f.write(struct.pack(">Q", 1) * 8192)  # one table of zero clusters, for all of it
        f.seek(3 * cluster)
        f.write(struct.pack(">Q", 1 << 63 | cluster) * tables)
    s = Platterd({"lab": www}, "--deadline", "2")
    for query in ("buckets=100", "length=1P"):
        began = time.time()
        problem(s.get("/v1/extents/lab/vast.qcow2?" + query), 504)
        assert time.time() - began < 10, (query, time.time() - began)
    assert sums("lab/vast.qcow2", 2, "&length=8G", s)["zero"] == [4 << 30] * 2
    c = socket.create_connection(("127.0.0.1", s.port))
    c.sendall(b"GET /v1/extents/lab/vast.qcow2?buckets=9 HTTP/1.1\r\nHost: x\r\n\r\n")
    c.close()


main()
