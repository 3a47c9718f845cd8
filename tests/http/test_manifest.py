# SPDX-License-Identifier: Apache-2.0
"""Manifests: one disk has one root whatever wraps it, as computed here from
platter-manifest(7) alone; lists by ranges, blocks by root, restarts, rights."""
import base64, struct, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
from images import guest_disk, sparse_disk

LEAF, GROUP = 4096, 1 << 20
ZERO = hashlib.sha256(bytes(LEAF)).digest()
www, state = tmp + "/www", tmp + "/state"
os.makedirs(www)
os.makedirs(state)


def sha(data):
    return hashlib.sha256(data).digest()


class Manifest:
    """platter-manifest(7), written down a second time."""

    def __init__(self, data):
        self.size = len(data)
        self.leaves = [sha(data[i:i + LEAF].ljust(LEAF, b"\0"))
                       for i in range(0, len(data), LEAF)]
        self.groups = [sha(b"".join(self.leaves[i:i + 256]))
                       for i in range(0, len(self.leaves), 256)]
        self.root = sha(b"platter-root-1".ljust(16, b"\0") + struct.pack("<Q", self.size) +
                        b"".join(self.groups)).hex()
        runs = []
        for g in range(len(self.groups)):
            off, n = g * GROUP, min(GROUP, self.size - g * GROUP)
            if not any(data[off:off + n]):
                continue
            if runs and sum(runs[-1]) == off:
                runs[-1][1] += n
            else:
                runs.append([off, n])
        used = [i for i, l in enumerate(self.leaves) if l != ZERO]
        self.head = {
            "version": 1, "algorithm": "sha256", "virtual-size": self.size, "leaf-size": LEAF,
            "group-size": GROUP, "root": self.root, "data": runs, "data-leaves": len(used),
            "data-bytes": sum(min(LEAF, self.size - i * LEAF) for i in used)}
        self.lists = {"groups": b"".join(self.groups), "leaves": b"".join(self.leaves),
                      "prefixes": b"".join(l[:8] for l in self.leaves)}



guest_disk(www + "/disk.raw", 12)
with open(www + "/disk.raw", "r+b") as f:  # zeros that are stored, and a hole beside
    f.seek(5 << 20)
    f.write(bytes(2 << 20))
    f.truncate(40 << 20)
disk = open(www + "/disk.raw", "rb").read()
sh("""qemu-img convert -O qcow2 disk.raw plain.qcow2
qemu-img convert -c -O qcow2 disk.raw z.qcow2
qemu-img convert -O vmdk disk.raw s.vmdk
qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw x.vmdk
tar --format=oldgnu -Sczf gce.tar.gz disk.raw
tar czf plain.tar.gz disk.raw
gzip -k disk.raw""", cwd=www)
open(www + "/x.ovf", "w").write("""<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:href="x.vmdk" ovf:id="f1" ovf:size="%d"/></References>
<DiskSection><Info>d</Info><Disk ovf:capacity="%d" ovf:diskId="d1" ovf:fileRef="f1"
ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
</Envelope>""" % (os.path.getsize(www + "/x.vmdk"), len(disk)))
sh("tar --format=ustar -cf x.ova x.ovf x.vmdk", cwd=www)
WRAPS = ["disk.raw", "plain.qcow2", "z.qcow2", "s.vmdk", "x.vmdk", "x.ova", "gce.tar.gz",
         "plain.tar.gz", "disk.raw.gz"]
truth = Manifest(disk)
sizes = {}
for n in (0, 1, 4095, 4096, 4097, GROUP, GROUP + 1, 3 * GROUP - 5):
    sizes[n] = random.randbytes(n)
    open(f"{www}/size-{n}.img", "wb").write(sizes[n])
nginx = Nginx(www)
origins = {"web": nginx.url(), "lab": www}
server = Platterd(origins, "--state", state)


def get(path, status=200, s=None, **headers):
    r = (s or server).get(path, {k.replace("_", "-"): v for k, v in headers.items()})
    assert r.status == status, (path, r.status, r.body[:300])
    return r


def metric(name, s=None):
    m = re.search(rb"^%s (\d+)" % name.encode(), get("/metrics", s=s).body, re.M)
    return int(m[1])


@case("one disk has one root and one head, whatever it is wrapped in")
def _():
    heads = set()
    for i, name in enumerate(WRAPS):
        r = get(f"/v1/manifest/{('lab', 'web')[i % 2]}/{name}")
        assert json.loads(r.body) == truth.head, (name, r.body[:600])
        assert r.getheader("ETag") == f'"{truth.root}-head"'
        assert r.getheader("Content-Type") == "application/json"
        assert "max-age=5" in r.getheader("Cache-Control")
        heads.add(r.body)
    assert len(heads) == 1


@case("platter manifest: the same by itself and of a gateway")
def _():
    for where, name in ((www + "/", "x.ova"), (www + "/", "size-4097.img"), ("lab/", "z.qcow2")):
        more = [] if where[0] == "/" else ["--gateway", server.url("")]
        m = truth if "size" not in name else Manifest(sizes[4097])
        assert json.loads(platter("manifest", "--json", *more, where + name).stdout) == m.head
        assert platter("manifest", *more, where + name).stdout.decode() == \
            f"{m.root}  {where}{name}\n"
    assert platter("manifest", www + "/none", check=False).returncode != 0


@case("lists have the bytes that the layout says, of disks of any size")
def _():
    for path, m in [("lab/z.qcow2", truth)] + [(f"lab/size-{n}.img", Manifest(d))
                                               for n, d in sizes.items()]:
        assert json.loads(get("/v1/manifest/" + path).body) == m.head, path
        for name, want in m.lists.items():
            r = get(f"/v1/manifest/{path}/{name}")
            assert r.body == want and r.getheader("ETag") == f'"{m.root}-{name}"', (path, name)
            assert server.get(f"/v1/manifest/{path}/{name}", method="HEAD").getheader(
                "Content-Length") == str(len(want))


@case("a partition has a manifest of its own; selectors stand before the list's name")
def _():
    part_1 = disk[1 << 20:12 << 20]
    m = Manifest(part_1)
    for path in ("lab/disk.raw;partition=1", "lab/z.qcow2;partition=1"):
        assert json.loads(get("/v1/manifest/" + path).body)["root"] == m.root
        assert get(f"/v1/manifest/{path}/leaves").body == m.lists["leaves"]
    assert get("/v1/manifest/lab/z.qcow2/groups?partition=1").body == m.lists["groups"]


@case("lists are read by range as disks are")
def _():
    path, want = "/v1/manifest/lab/x.ova/leaves", truth.lists["leaves"]
    for _ in range(20):
        off = random.randrange(len(want))
        n = min(random.choice([1, 32, 8192, 100000]), len(want) - off)
        assert server.range(path, off, n) == want[off:off + n]
    assert get(path, 206, Range="bytes=-32").body == want[-32:]
    r = get(path, 206, Range="bytes=0-31,8192-8223,320000-320031")
    mark = re.search("boundary=(.*)", r.getheader("Content-Type"))[1].encode()
    parts = [p.split(b"\r\n\r\n", 1)[1][:32] for p in r.body.split(b"--" + mark)[1:-1]]
    assert parts == [want[:32], want[8192:8224], want[320000:320032]]
    etag = get(path).getheader("ETag")
    assert get(path, 206, Range="bytes=0-31", If_Range=etag).body == want[:32]
    assert get(path, 200, Range="bytes=0-31", If_Range='"other"').body == want
    get(path, 304, If_None_Match=etag)
    get(path, 412, If_Match='"other"')
    r = get(path, 416, Range=f"bytes={len(want)}-")
    assert r.getheader("Content-Range") == f"bytes */{len(want)}"
    head = "/v1/manifest/lab/x.ova"
    get(head, 304, If_None_Match=get(head).getheader("ETag"))


@case("a block is the n-th MiB of its root, whole, verified, and for ever")
def _():
    for n in (0, 1, 11, 39):
        want = disk[n * GROUP:(n + 1) * GROUP]
        r = get(f"/v1/blocks/{truth.root}/{n}")
        assert r.body == want
        assert r.getheader("Cache-Control") == "public, max-age=31536000, immutable"
        assert r.getheader("ETag") == f'"{truth.root}-{n}"'
        assert r.getheader("Content-Digest") == \
            "sha-256=:" + base64.b64encode(sha(want)).decode() + ":"
        h = server.get(f"/v1/blocks/{truth.root}/{n}", method="HEAD")
        assert h.status == 200 and h.getheader("Content-Length") == str(len(want))
    r = get(f"/v1/blocks/{truth.root}/2", 206, Range="bytes=5-9")
    assert r.body == disk[2 * GROUP + 5:2 * GROUP + 10]
    last = Manifest(sizes[3 * GROUP - 5])
    assert get(f"/v1/blocks/{last.root}/2").body == sizes[3 * GROUP - 5][2 * GROUP:]
    get(f"/v1/blocks/{truth.root}/0", 304, If_None_Match=f'"{truth.root}-0"')


@case("an unknown root, a block past the end, another spelling: 404, not stored")
def _():
    good = truth.root
    for tail in (good + "/40", "0" * 64 + "/0", good + "/00", good + "/+1", good + "/-1",
                 good.upper() + "/1", good + "/", good, good + "/1/", good[1:] + "/1",
                 good + "/99999999999999999999999", good + "/1;partition=1", "", "/", good + "//1"):
        r = server.get("/v1/blocks/" + tail)
        assert r.status == 404 and r.getheader("Cache-Control") == "no-store", (tail, r.status)
    get(f"/v1/blocks/{good}/0?partition=1", 400)


@case("after a restart roots are known and nothing is read for a manifest")
def _():
    global server
    server.stop()
    server = Platterd(origins, "--state", state)
    assert get(f"/v1/blocks/{truth.root}/3").body == disk[3 * GROUP:4 * GROUP]
    for name in WRAPS:
        assert get(f"/v1/manifest/lab/{name}" if WRAPS.index(name) % 2 == 0 else
                   f"/v1/manifest/web/{name}/groups").status == 200
    assert metric("platter_manifests_made_total") == 0


@case("damage at rest is made anew, never served")
def _():
    global server
    server.stop()
    folder = state + "/manifests"
    for name in os.listdir(folder):
        with open(f"{folder}/{name}", "r+b") as f:
            end = f.seek(0, 2)
            for _ in range(40):
                f.seek(random.randrange(end))
                f.write(random.randbytes(1))
    server = Platterd(origins, "--state", state)
    for name in WRAPS + [f"size-{n}.img" for n in sizes]:
        m = truth if name in WRAPS else Manifest(sizes[int(name[5:-4])])
        for _ in range(10):  # 503: it is being made anew
            r = server.get(f"/v1/manifest/lab/{name}/leaves")
            if r.status == 200:
                break
            assert r.status == 503, (name, r.status)
        assert r.body == m.lists["leaves"], name
        assert json.loads(get(f"/v1/manifest/lab/{name}").body) == m.head, name
    assert metric("platter_manifests_made_total") > 0


@case("a head that is known is answered while all workers wait, and after a restart without its leaves")
def _():
    mute = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept = tmp + "/polled-state"
    os.makedirs(kept)
    more = {"mute": f"http://127.0.0.1:{mute.getsockname()[1]}/"}
    flags = ["--state", kept, "--workers", "1", "--revalidate", "600", "--drain", "0"]
    s = Platterd({"lab": www, **more}, *flags)
    etag = get("/v1/manifest/lab/z.qcow2", s=s).getheader("ETag")
    get("/v1/manifest/lab/plain.qcow2;partition=1", s=s)
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(lambda: s.get("/disk/mute/x"))
        mute.accept()
        for _ in range(20):
            assert json.loads(get("/v1/manifest/lab/z.qcow2", s=s).body) == truth.head
            get("/v1/manifest/lab/z.qcow2", 304, s=s, If_None_Match=etag)
            get("/v1/manifest/lab/z.qcow2", 206, s=s, Range="bytes=5-9")
            get("/v1/manifest/lab/z.qcow2", 412, s=s, If_Match='"x"')
            assert s.get("/v1/manifest/lab/z.qcow2", method="HEAD").status == 200
            assert get("/v1/manifest/lab/z.qcow2/groups", s=s).body == truth.lists["groups"]
            assert json.loads(get("/v1/manifest/lab/plain.qcow2;partition=1", s=s).body) == \
                Manifest(disk[1 << 20:12 << 20]).head
        assert not stuck.done()
        s.stop()
        stuck.exception()
    mute.close()
    for name in os.listdir(kept + "/manifests"):
        size = os.path.getsize(f"{kept}/manifests/{name}")
        if ".json" not in name:
            with open(f"{kept}/manifests/{name}", "r+b") as f:  # one group's list is 4 KiB
                f.seek(8192)
                f.write(bytes(size - 8192))
    s = Platterd({"lab": www}, *flags)
    assert json.loads(get("/v1/manifest/lab/z.qcow2", s=s).body) == truth.head
    get("/v1/manifest/lab/z.qcow2", 304, s=s, If_None_Match=etag)
    get("/v1/manifest/lab/z.qcow2/leaves", 503, s=s)
    assert get("/v1/manifest/lab/z.qcow2/leaves", s=s).body == truth.lists["leaves"]
    s.stop()


@case("a file that changes under its validator is not served as a block")
def _():
    path, kept = www + "/liar.img", tmp + "/liar-state"
    os.makedirs(kept)
    data = random.randbytes(3 * GROUP)
    open(path, "wb").write(data)
    os.utime(path, (1e9, 1e9))  # nginx's ETag is the time and the size
    s = Platterd({"web": nginx.url()}, "--state", kept)
    root = json.loads(get("/v1/manifest/web/liar.img", s=s).body)["root"]
    s.stop()
    with open(path, "r+b") as f:
        f.seek(GROUP + 77)
        f.write(bytes([data[GROUP + 77] ^ 1]))
    os.utime(path, (1e9, 1e9))
    s = Platterd({"web": nginx.url()}, "--state", kept)
    assert get(f"/v1/blocks/{root}/0", s=s).body == data[:GROUP]
    problem(s.get(f"/v1/blocks/{root}/1"), 502, "changed")
    assert metric("platter_manifests_dropped_total", s) == 1
    get(f"/v1/blocks/{root}/0", 404, s=s)
    again = json.loads(get("/v1/manifest/web/liar.img", s=s).body)["root"]
    assert again == Manifest(open(path, "rb").read()).root != root
    get(f"/v1/blocks/{again}/1", s=s)
    s.stop()


def made(s, path, data):
    """Groups that came out of a backing file's manifest, and MiB read of the origin."""
    before = metric("platter_manifests_inherited_groups_total", s), origin_bytes()
    want = Manifest(data)
    assert json.loads(get("/v1/manifest/" + path, s=s).body) == want.head, path
    assert get(f"/v1/manifest/{path}/leaves", s=s).body == want.lists["leaves"], path
    return (metric("platter_manifests_inherited_groups_total", s) - before[0],
            (origin_bytes() - before[1]) / GROUP)


def origin_bytes():
    """Of all files, as the origin itself wrote down."""
    return nginx.sent("")[0]


@case("an overlay is read where it has something of its own, the rest is its backing file's")
def _():
    base = 20 * GROUP + 5000  # its end is inside of a group, and of a leaf
    over = www + "/over"
    os.makedirs(over)
    with open(over + "/base.raw", "wb") as f:
        f.write(random.randbytes(base))
        f.seek(4 * GROUP)
        f.write(bytes(3 * GROUP))

    def overlay(name, below, form, size, *writes):
        sh(["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", form, name, str(size)],
           cwd=over)
        for off, n, byte in writes:
            sh(["qemu-io", "-f", "qcow2", "-c", (f"write -P {byte} {off} {n}" if byte else
                                               f"write -z {off} {n}"), name], cwd=over)
        sh(["qemu-img", "convert", "-O", "raw", name, name + ".raw"], cwd=over)
        return open(f"{over}/{name}.raw", "rb").read()

    size = -(-base // 512) * 512
    disks = {
        "same.qcow2": overlay("same.qcow2", "base.raw", "raw", size, (2 * GROUP, 4096, 7),
                              (9 * GROUP - 65536, 131072, 8), (12 * GROUP, 65536, 0)),
        "large.qcow2": overlay("large.qcow2", "base.raw", "raw", 30 * GROUP,
                               (25 * GROUP, 65536, 9)),
        "small.qcow2": overlay("small.qcow2", "base.raw", "raw", 3 * GROUP + 8192),
        "cut.qcow2": overlay("cut.qcow2", "base.raw", "raw", 3 * GROUP + 5 * 512),
        "top.qcow2": overlay("top.qcow2", "large.qcow2", "qcow2", 40 * GROUP,
                             (1 * GROUP, 65536, 10), (33 * GROUP, 65536, 11)),
        # Its backing file ends before base.raw does: what is behind it is zeros.
        "again.qcow2": overlay("again.qcow2", "small.qcow2", "qcow2", 12 * GROUP,
                               (7 * GROUP, 65536, 12)),
        "deep.qcow2": overlay("deep.qcow2", "same.qcow2", "qcow2", size),
    }
    # Groups that are inherited, and MiB that may be read, tables included.
    wants = {"same.qcow2": (17, 8), "large.qcow2": (21, 4), "small.qcow2": (4, 2),
             "cut.qcow2": (3, 2), "top.qcow2": (29, 6), "again.qcow2": (4, 2),
             "deep.qcow2": (21, 4)}
    # Of base.raw alone, two below.
    far = {"top.qcow2": (20, 8), "again.qcow2": (3, 2), "deep.qcow2": (17, 8)}
    for i, (ask, wants) in enumerate([({}, {"same.qcow2": (0, 40)}), ({"base.raw"}, wants),
                                      ({"base.raw"}, far)] * 2):
        flags = ["--state", f"{tmp}/over-{i}"] if i > 2 else []
        if flags:
            os.makedirs(flags[1])
        s = Platterd({"web": nginx.url()}, *flags)
        for name in ask:
            get("/v1/manifest/web/over/" + name, s=s)
        for name, (groups, most) in wants.items():
            got = made(s, "web/over/" + name, disks[name])
            assert got[0] == groups and got[1] < most, (i, name, got)
        s.stop()


@case("the same of a snapshot, a VMDK with a parent, and a cluster size of 2 MiB")
def _():
    over = www + "/over"
    data = random.randbytes(9 * GROUP)
    open(over + "/b.raw", "wb").write(data)
    sh("""qemu-img convert -O vmdk b.raw b.vmdk
qemu-img create -q -f vmdk -b b.vmdk -F vmdk c.vmdk
qemu-io -f vmdk -c 'write -P 5 3M 64k' c.vmdk
qemu-img create -q -f qcow2 -b b.raw -F raw s.qcow2
qemu-io -f qcow2 -c 'write -P 6 1M 64k' s.qcow2
qemu-img snapshot -c one s.qcow2
qemu-io -f qcow2 -c 'write -P 7 5M 64k' s.qcow2
qemu-img create -q -f qcow2 -o cluster_size=2M -b b.raw -F raw l.qcow2
qemu-io -f qcow2 -c 'write -P 8 4M 64k' l.qcow2""", cwd=over)

    def changed(*writes):
        d = bytearray(data)
        for at, byte in writes:
            d[at * GROUP:at * GROUP + 65536] = bytes([byte]) * 65536
        return bytes(d)

    s = Platterd({"web": nginx.url()})
    for name in ("b.raw", "b.vmdk"):
        assert made(s, "web/over/" + name, data)[0] == 0
    for path, want, groups in (("c.vmdk", changed((3, 5)), 8), ("l.qcow2", changed((4, 8)), 7),
                               ("s.qcow2", changed((1, 6), (5, 7)), 7),
                               ("s.qcow2;snapshot=one", changed((1, 6)), 8)):
        got = made(s, "web/over/" + path, want)
        assert got[0] == groups and got[1] < 5, (path, got)
    s.stop()


@case("a backing file that changes under its validator: its manifest goes with the overlay's")
def _():
    path, state_dir = www + "/over/liar.raw", tmp + "/over-liar"
    os.makedirs(state_dir)

    def write(data):
        open(path, "wb").write(data)
        os.utime(path, (1e9, 1e9))  # nginx's ETag is the time and the size
        return data[:3 * GROUP] + bytes([5]) * 65536 + data[3 * GROUP + 65536:]

    old = random.randbytes(4 * GROUP)
    new = old[:GROUP] + random.randbytes(3 * GROUP)
    over = write(old)
    sh("qemu-img create -q -f qcow2 -b liar.raw -F raw liar.qcow2;"
       "qemu-io -f qcow2 -c 'write -P 5 3M 64k' liar.qcow2", cwd=www + "/over")
    s = Platterd({"web": nginx.url()}, "--state", state_dir)
    assert made(s, "web/over/liar.raw", old)[0] == 0
    assert made(s, "web/over/liar.qcow2", over)[0] == 3
    s.stop()
    after = write(new)
    s = Platterd({"web": nginx.url()}, "--state", state_dir)
    root = json.loads(get("/v1/manifest/web/over/liar.qcow2", s=s).body)["root"]
    assert root == Manifest(over).root
    problem(s.get(f"/v1/blocks/{root}/2"), 502, "changed")
    assert made(s, "web/over/liar.qcow2", after)[0] == 0
    s.stop()


@case("several who ask at once have it made once")
def _():
    s = Platterd({"web": nginx.url()})
    with ThreadPoolExecutor(12) as pool:
        bodies = set(pool.map(lambda i: get("/v1/manifest/web/z.qcow2/groups", s=s).body, range(12)))
    assert bodies == {truth.lists["groups"]}
    assert metric("platter_manifests_made_total", s) == 1
    s.stop()


@case("who cannot wait is told to come back, and it is made meanwhile")
def _():
    s = Platterd({"slow": nginx.url() + "slow/"}, "--deadline", "3")
    open(www + "/slow.img", "wb").write(random.randbytes(12 * GROUP))
    seen = set()
    for _ in range(60):
        r = s.get("/v1/manifest/slow/slow.img")
        seen.add(r.status)
        if r.status == 200:
            break
        problem(r, 503, "busy")
        assert r.getheader("Retry-After")
    assert seen == {200, 503}, seen
    assert json.loads(r.body)["root"] == Manifest(open(www + "/slow.img", "rb").read()).root
    s.stop()


@case("progress is told as events")
def _():
    r = server.get("/v1/manifest/web/size-3145723.img", {"Accept": "text/event-stream"})
    assert r.getheader("Content-Type") == "text/event-stream"
    last = r.body.decode().strip().split("\n\n")[-1].split("\n")
    m = Manifest(sizes[3 * GROUP - 5])
    assert last[0] == "event: manifest"
    assert json.loads(last[1][6:]) == {"root": m.root, "virtual-size": m.size}


@case("leaves by a list, and blocks, as frames of zstd: the same bytes, under a name of their own")
def packed():
    def unpack(data):
        return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    root = truth.root
    leaves = [0, 1, 2, 300, 511, 512, len(disk) // 4096 - 1]
    text = f"0-2,300,511-512,{leaves[-1]}"
    want = b"".join(disk[n * 4096:n * 4096 + 4096] for n in leaves)
    plain = get(f"/v1/blocks/{root}/leaves={text}")
    assert plain.body == want and "immutable" in plain.getheader("Cache-Control")
    frame = get(f"/v1/blocks/{root}/leaves={text}.zst")
    assert frame.getheader("Content-Type") == "application/zstd" and unpack(frame.body) == want
    assert frame.getheader("ETag") != plain.getheader("ETag")
    assert frame.getheader("Content-Digest")
    other = get(f"/v1/blocks/{root}/leaves=0-2.zst")
    assert other.getheader("ETag") != frame.getheader("ETag")
    block = get(f"/v1/blocks/{root}/1.zst")
    assert unpack(block.body) == disk[GROUP:2 * GROUP]
    get(f"/v1/blocks/{root}/1.zst", 304, If_None_Match=block.getheader("ETag"))
    for bad in ("leaves=", "leaves=.zst", "leaves=1,2", "leaves=2,1", "leaves=01", "leaves=0-1024",
                f"leaves={len(disk) // 4096 + 1}", "leaves=0-2.zst.zst", "1.gz", "leaves/0-2",
                "leaves=0%2C2"):
        get(f"/v1/blocks/{root}/{bad}", 404)


@case("blocks are for those who may read an image with that root")
def _():
    token, other = "t" * 40, "u" * 40
    conf = tmp + "/access.json"
    json.dump({"listen": ["127.0.0.1:0"], "origins": {"lab": {"path": www}}, "access": {
        "local": {"scopes": []},
        "a": {"token_sha256": hashlib.sha256(token.encode()).hexdigest(),
         "scopes": ["read", "metadata"], "images": ["lab/z.qcow2"]},
        "b": {"token_sha256": hashlib.sha256(other.encode()).hexdigest(),
         "scopes": ["read", "metadata"], "images": ["lab/size-1.img"]}}}, open(conf, "w"))
    s = Platterd({}, "--config", conf)
    a, b = {"Authorization": "Bearer " + token}, {"Authorization": "Bearer " + other}
    get("/v1/manifest/lab/z.qcow2", s=s, **a)
    r = get(f"/v1/blocks/{truth.root}/0", s=s, **a)
    assert r.body == disk[:GROUP] and r.getheader("Cache-Control").startswith("private")
    unknown = get(f"/v1/blocks/{'0' * 64}/0", 404, s=s, **b)
    for headers in (b, {}, {"Authorization": "Bearer " + "v" * 40}):
        r = get(f"/v1/blocks/{truth.root}/0", 404, s=s, **headers)
        assert json.loads(r.body)["detail"] == json.loads(unknown.body)["detail"]
    s.stop()


# ---- Other tools, which are the oracles

OUT = tmp + "/out"
os.makedirs(OUT)
EXPORTS = [("lab/z.qcow2", disk), ("web/x.ova", disk), ("lab/size-3145723.img", None),
           ("lab/size-4097.img", None), ("lab/size-1.img", None)]


def bytes_of(path, data):
    return data if data is not None else open(www + "/" + path.split("/")[1], "rb").read()


@case("bmap: bmaptool copies by it, and leaves what is zeros alone")
def _():
    for path, data in EXPORTS:
        data, to = bytes_of(path, data), OUT + "/bmap.raw"
        r = get(f"/v1/manifest/{path}?format=bmap")
        assert r.getheader("Content-Type") == "application/xml"
        open(OUT + "/x.bmap", "wb").write(r.body)
        if os.path.exists(to):
            os.remove(to)
        sh(["bmaptool", "copy", "--bmap", OUT + "/x.bmap", server.url("/disk/" + path), to])
        assert open(to, "rb").read() == data, path
        used = sum(1 for l in Manifest(data).leaves if l != ZERO)
        assert b"<MappedBlocksCount> %d " % used in r.body, path
    assert os.stat(to).st_blocks <= 16
    # One that is changed is refused: the sums are looked at.
    open(OUT + "/bad.bmap", "wb").write(r.body.replace(b'chksum="', b'chksum="0', 1))
    r = subprocess.run(["bmaptool", "copy", "--bmap", OUT + "/bad.bmap",
                        server.url("/disk/" + path), to], capture_output=True)
    assert r.returncode != 0


@case("rauc: the leaves as they are, of whole blocks alone")
def _():
    r = get("/v1/manifest/lab/x.ova?format=rauc")
    assert r.body == truth.lists["leaves"] and r.getheader("ETag") == f'"{truth.root}-rauc"'
    why = problem(server.get("/v1/manifest/lab/size-4097.img?format=rauc"), 501, "unsupported")
    assert "4097 bytes" in why["detail"], why


@case("zsync: its client makes the disk out of an older one, and fetches the rest")
def _():
    for path, data in EXPORTS:
        data = bytes_of(path, data)
        old = bytearray(data)
        for _ in range(3):
            at = random.randrange(len(old))
            old[at] ^= 255
        open(OUT + "/old.raw", "wb").write(old)
        before = metric("platter_sent_bytes_total")
        sh(["zsync", "-q", "-i", OUT + "/old.raw", "-o", OUT + "/new.raw",
            server.url(f"/v1/manifest/{path}?format=zsync")], cwd=OUT, timeout=60)
        assert open(OUT + "/new.raw", "rb").read() == data, path
        sent = metric("platter_sent_bytes_total") - before
        assert sent < len(data) // 256 + 200000, (path, sent)
        for f in os.listdir(OUT):
            os.remove(OUT + "/" + f)
    end = time.time() + 120  # it is made when it is first asked for
    while server.get("/v1/manifest/lab/disk.raw;partition=1?format=zsync").status == 503:
        assert time.time() < end
        time.sleep(0.5)
    sh(["zsync", "-q", "-o", OUT + "/part.raw",
        server.url("/v1/manifest/lab/disk.raw;partition=1?format=zsync")], cwd=OUT)
    assert open(OUT + "/part.raw", "rb").read() == disk[1 << 20:12 << 20]


@case("caibx: casync makes the same index, and reads the disk out of virtual chunks")
def _():
    for path, data in EXPORTS:
        data = bytes_of(path, data)
        r = get(f"/v1/manifest/{path}?format=caibx")
        open(OUT + "/x.caibx", "wb").write(r.body)
        open(OUT + "/x.raw", "wb").write(data)
        sh(["casync", "make", "--chunk-size=65536:65536:65536", "--store=" + OUT + "/own",
            OUT + "/own.caibx", OUT + "/x.raw"])
        assert open(OUT + "/own.caibx", "rb").read() == r.body, path
        sh(["casync", "extract", "--seed-output=no", "--store=" +
            server.url(f"/v1/manifest/{path}/chunks"), OUT + "/x.caibx", OUT + "/back.raw"])
        assert open(OUT + "/back.raw", "rb").read() == data, path
        sh(f"rm -rf {OUT}/*")
    id_ = hashlib.new("sha512_256", bytes(65536)).hexdigest()
    get(f"/v1/manifest/lab/z.qcow2/chunks/{id_[:4]}/{id_}.cacnk")
    for bad in (f"{id_[:4]}/{'0' * 64}.cacnk", f"0000/{id_}.cacnk", f"{id_[:4]}/{id_}",
                f"{id_[:4]}/{id_.upper()}.cacnk"):
        assert server.get("/v1/manifest/lab/z.qcow2/chunks/" + bad).status in (404, 403), bad


@case("exports are content: ranges, ETags, a state folder; what cannot be says why")
def _():
    for form in ("bmap", "rauc", "zsync", "caibx"):
        path = "/v1/manifest/lab/z.qcow2?format=" + form
        whole = get(path)
        n = len(whole.body)
        assert server.range(path, n // 3, n // 3) == whole.body[n // 3:n // 3 + n // 3]
        get(path, 304, If_None_Match=whole.getheader("ETag"))
        if form != "rauc":
            r = problem(server.get("/v1/manifest/lab/size-0.img?format=" + form), 501)
            assert "empty" in r["detail"]
    assert get("/v1/manifest/lab/z.qcow2?format=zsync").getheader("ETag") != \
        get("/v1/manifest/lab/x.ova?format=zsync").getheader("ETag")
    assert get("/v1/manifest/lab/z.qcow2?format=bmap").body == \
        get("/v1/manifest/lab/x.ova?format=bmap").body
    names = os.listdir(state + "/manifests")
    assert {f"{truth.root}.{x}" for x in ("bmap", "zsync", "caibx")} <= set(names)
    for bad in ("?format=x", "/leaves?format=bmap", "?format=", "?format=bmap&format=bmap"):
        problem(server.get("/v1/manifest/lab/z.qcow2" + bad), 400)
    s = Platterd({"lab": www})  # without a folder
    for form in ("bmap", "zsync", "caibx"):
        for _ in range(2):
            assert get(f"/v1/manifest/lab/z.qcow2?format={form}", s=s).body == \
                get(f"/v1/manifest/lab/z.qcow2?format={form}").body
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(lambda i: get("/v1/manifest/lab/x.ova?format=bmap", s=s).body,
                                range(6)))) == 1
    s.stop()


@case("what has no manifest says why")
def _():
    sh("qemu-img create -f qcow2 huge.qcow2 17T", cwd=www)
    r = problem(server.get("/v1/manifest/lab/huge.qcow2"), 501, "unsupported")
    assert "16 TiB" in r["detail"]
    problem(server.get("/v1/manifest/lab/none.img"), 404)
    problem(server.get("/v1/manifest/lab/disk.raw?part=x"), 400)


main()
