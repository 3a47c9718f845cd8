# SPDX-License-Identifier: Apache-2.0
"""VMDK as qemu-img makes and reads it, and forms that no tool here makes, written
by the specification and held against QEMU reading the same file."""
import sys, os, json, hashlib, struct, zlib
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import oracle

www = tmp + "/www"
os.makedirs(www)
os.chdir(www)
M = 1 << 20
server = nginx = None


def start():
    global server, nginx
    if server is None:
        nginx = Nginx(www)
        server = Platterd({"web": nginx.url(), "lab": www}, "--revalidate", "600")


def source(size="96M"):
    name = f"source-{size}.raw"
    if not os.path.exists(name):
        sh(f"truncate -s {size} {name}; qemu-io -f raw -c 'write -P 1 0 3M' "
           f"-c 'write -P 2 10M 100k' -c 'write -P 7 40000000 1M' {name} > /dev/null;"
           f"dd if=/bin/bash of={name} bs=64k seek=300 conv=notrunc status=none")
    return name


def truth(name):
    out = tmp + "/truth"
    if os.path.exists(out):
        os.remove(out)
    sh(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", name, out])
    return out


def same_disk(url, path, query=""):
    oracle.same_disk(server, url + query, path, 5, 128 * M)


def same_map(name):
    oracle.same_map(json.loads(platter("map", "--json", name).stdout),
                    json.loads(sh(["qemu-img", "map", "--output=json", "-f", "vmdk", name])))


def same_info(name):
    ours = json.loads(platter("info", "--json", name).stdout)
    theirs = json.loads(sh(["qemu-img", "info", "--output=json", "-f", "vmdk", name]))
    for key in ("virtual-size", "format", "cluster-size", "backing-filename"):
        assert ours.get(key) == theirs.get(key), (key, ours.get(key), theirs.get(key))
    a, b = ours["format-specific"]["data"], theirs["format-specific"]["data"]
    for key in ("cid", "parent-cid", "create-type"):
        assert a[key] == b[key], (key, a, b)
    assert len(a["extents"]) == len(b["extents"])
    for x, y in zip(a["extents"], b["extents"]):
        for key in ("virtual-size", "cluster-size", "format", "compressed"):
            assert x.get(key) == y.get(key), (key, x, y)


def whole_check(name, *files):
    start()
    t = truth(name)
    same_disk("/disk/lab/" + name, t)
    same_disk("/disk/web/" + name, t)
    same_map(name)
    same_info(name)
    r = platter("check", "--json", name)
    assert r.returncode == 0, r
    sh(["tar", "-czf", name + ".tar.gz", name, *files])
    same_disk(f"/disk/web/{name}.tar.gz", t, "?member=" + name)
    return t


SUBFORMATS = ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
              "twoGbMaxExtentFlat", "streamOptimized")
for sub in SUBFORMATS:
    for compat6 in (("", ",compat6=on") if sub == "monolithicSparse" else ("",)):
        def run(sub=sub, compat6=compat6):
            raw = source()
            name = f"{sub}{'6' if compat6 else ''}.vmdk"
            sh(f"qemu-img convert -O vmdk -o subformat={sub}{compat6} {raw} {name}")
            others = [f for f in os.listdir(".") if f.startswith(sub + "-") and
                      f.endswith(".vmdk")]
            t = whole_check(name, *others)
            assert sh(["cmp", t, raw]) == b""
        case(f"{sub}{compat6}: disk, map and info are qemu-img's")(run)


@case("zeroed grains are zeros, written over and over")
def zeroed():
    sh("qemu-img create -q -f vmdk -o zeroed_grain=on,subformat=monolithicSparse z.vmdk 20M;"
       "qemu-io -f vmdk -c 'write -P 1 0 2M' -c 'write -z 64k 512k' -c 'write -P 3 10M 1000' "
       "z.vmdk > /dev/null")
    whole_check("z.vmdk")


@case("what else qemu-img can be asked to write")
def options():
    raw = source()
    for k, o in enumerate(("hwversion=10", "adapter_type=lsilogic,zeroed_grain=on",
                           "adapter_type=buslogic,subformat=twoGbMaxExtentFlat",
                           "toolsversion=99,hwversion=7,subformat=streamOptimized")):
        name = f"opt{k}.vmdk"
        sh(f"qemu-img convert -O vmdk -o {o} {raw} {name}")
        others = [f for f in os.listdir(".") if f.startswith(f"opt{k}-")]
        whole_check(name, *others)


@case("disks over 2 TiB")
def vast():
    start()
    T = 1 << 40
    sh(f"qemu-img create -q -f vmdk vast.vmdk 4T; qemu-io -f vmdk -c 'write -P 1 0 64k' "
       f"-c 'write -P 2 {2 * T - 32768} 64k' -c 'write -P 3 {4 * T - 65536} 64k' vast.vmdk")
    for off, value in ((0, 1), (2 * T - 1000, 2), (2 * T, 2), (4 * T - 512, 3), (T, 0)):
        assert server.range("/disk/web/vast.vmdk", off, 500) == bytes([value]) * 500, off
    same_map("vast.vmdk")
    same_info("vast.vmdk")
    assert platter("check", "vast.vmdk").returncode == 0


@case("check finds grains and tables outside the file, as qemu-img check does")
def damage():
    raw = source()
    sh(f"qemu-img convert -O vmdk {raw} dam.vmdk")
    data = open("dam.vmdk", "rb").read()
    rgd, gd = struct.unpack_from("<QQ", data, 48)
    table, = struct.unpack_from("<I", data, gd * 512)
    for at, value in ((table * 512, 0x7fffffff), (table * 512 + 40, len(data) // 512 + 128),
                      (table * 512 + 8, 0)):
        bad = bytearray(data)
        struct.pack_into("<I", bad, at, value)
        write("damx.vmdk", bytes(bad))
        theirs = subprocess.run(["qemu-img", "check", "--output=json", "-f", "vmdk", "damx.vmdk"],
                                capture_output=True)
        ours = platter("check", "--json", "damx.vmdk", check=False)
        assert (ours.returncode == 0) == (theirs.returncode == 0), (at, ours, theirs)
        if value:
            assert json.loads(ours.stdout)["corruptions"] == 1, ours.stdout


@case("a disk in several files of 2 GiB, over their borders")
def pieces():
    start()
    for sub in ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat"):
        name = f"big-{sub}.vmdk"
        G2 = 2 << 30
        sh(f"qemu-img create -q -f vmdk -o subformat={sub} {name} 5G; qemu-io -f vmdk "
           f"-c 'write -P 5 {G2 - 65536} 128k' -c 'write -P 6 {2 * G2 - 512} 1024' "
           f"-c 'write -P 7 0 64k' {name} > /dev/null")
        for off in (0, G2 - 70000, G2 - 1, 2 * G2 - 1000, 2 * G2, 5 << 29):
            t = sh(f"qemu-io -f vmdk -c 'read -v {off // 512 * 512} 1024' {name} > {tmp}/io")
            got = server.range("/disk/lab/" + name, off, 140000)
            want = bytearray(140000)
            for start_at, n, value in ((0, 65536, 7), (G2 - 65536, 131072, 5),
                                       (2 * G2 - 512, 1024, 6)):
                for i in range(max(off, start_at), min(off + 140000, start_at + n)):
                    want[i - off] = value
            assert got == bytes(want), (name, off)
        same_map(name)
        same_info(name)


# ---- Parents ----

@case("parents: chains, their CIDs compared, from a folder, a web server and an archive")
def parents():
    start()
    raw = source()
    sh(f"qemu-img convert -O vmdk {raw} p0.vmdk")
    for i in range(1, 6):
        sh(f"qemu-img create -q -f vmdk -b p{i - 1}.vmdk -F vmdk p{i}.vmdk;"
           f"qemu-io -f vmdk -c 'write -P {i + 20} {i * 3}M 200k' p{i}.vmdk > /dev/null")
    t = truth("p5.vmdk")
    for origin in ("lab", "web"):
        same_disk(f"/disk/{origin}/p5.vmdk", t)
    same_info("p5.vmdk")
    same_map("p5.vmdk")
    sh("tar -czf p.tar.gz p?.vmdk")
    same_disk("/disk/lab/p.tar.gz", t, "?member=p5.vmdk")
    # A parent that was written to is another one.
    raw = open("p3.vmdk", "rb").read()
    at = raw.index(b"\nCID=") + 5
    with open("p3.vmdk", "wb") as f:
        f.write(raw[:at] + b"deadbeef" + raw[at + 8:])
    sh("cp p4.vmdk p4b.vmdk")
    doc = problem(server.get("/disk/lab/p4b.vmdk"), 502)
    assert "CID" in doc["detail"] and "deadbeef" in doc["detail"], doc


@case("a chain of eighty, and a loop")
def deep():
    start()
    os.makedirs("deep")
    sh("qemu-img create -q -f vmdk c0.vmdk 4M; qemu-io -f vmdk -c 'write -P 1 0 4M' c0.vmdk",
       cwd="deep")
    for i in range(1, 80):
        sh(f"qemu-img create -q -f vmdk -b c{i - 1}.vmdk -F vmdk c{i}.vmdk;"
           f"qemu-io -f vmdk -c 'write -P {i + 1} {(i % 60) * 65536} 64k' c{i}.vmdk > /dev/null",
           cwd="deep")
    want = bytearray(b"\1" * (4 * M))
    for i in range(1, 80):
        want[(i % 60) * 65536:(i % 60 + 1) * 65536] = bytes([i + 1]) * 65536
    assert server.get("/disk/lab/deep/c79.vmdk").body == bytes(want)
    raw = open("deep/c1.vmdk", "rb").read()
    with open("deep/c1.vmdk", "wb") as f:
        f.write(raw.replace(b'parentFileNameHint="c0.vmdk"', b'parentFileNameHint="c2.vmdk"'))
    doc = problem(server.get("/disk/lab/deep/c2.vmdk"), 502)
    assert "loop" in doc["detail"], doc


def descriptor(kind, lines, extra=""):
    return ("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
            f'createType="{kind}"\n{extra}\n# Extent description\n' + "\n".join(lines) + "\n")


def write(name, data):
    with open(name, "wb" if isinstance(data, bytes) else "w") as f:
        f.write(data)


# ---- Streams ----

def stream(name, raw, version=3, text=None):
    """As VMware writes one: grains, tables, directory and footer in one pass."""
    data = open(raw, "rb").read()
    sectors = (len(data) + 511) // 512
    text = text or descriptor("streamOptimized", [f'RW {sectors} SPARSE "{name}"'])

    def header(gd):
        h = struct.pack("<4sIIQQQQIQQQB", b"KDMV", version, 3 | 1 << 16 | 1 << 17, sectors, 128, 1,
                        20, 512, 0, gd, 128, 0) + b"\n \r\n" + struct.pack("<H", 1)
        return h + bytes(512 - len(h))

    def pad(b):
        return b + bytes(-len(b) % 512)

    def marker(n, kind):
        return pad(struct.pack("<QII", n, 0, kind))
    out = bytearray(header((1 << 64) - 1) + text.encode())
    out += bytes(128 * 512 - len(out))
    n_gt = (sectors + 65535) // 65536
    gds = []
    for t in range(n_gt):
        table = [0] * 512
        for g in range(512):
            at = (t * 512 + g) * 65536
            grain = data[at:at + 65536]
            if grain.strip(b"\0"):
                table[g] = len(out) // 512
                z = zlib.compress(grain + bytes(65536 - len(grain)))
                out += pad(struct.pack("<QI", at // 512, len(z)) + z)
        if any(table):
            out += marker(4, 1)
            gds.append(len(out) // 512)
            out += struct.pack("<512I", *table)
        else:
            gds.append(0)
    out += marker((n_gt * 4 + 511) // 512, 2)
    gd = len(out) // 512
    out += pad(struct.pack(f"<{n_gt}I", *gds))
    out += marker(1, 3) + header(gd) + bytes(512)
    write(name, bytes(out))


@case("a stream as VMware writes it: its directory at the end")
def at_end():
    raw = source()
    for version in (1, 2, 3):
        stream(f"at-end-{version}.vmdk", raw, version)
        t = truth(f"at-end-{version}.vmdk")
        same_disk(f"/disk/web/at-end-{version}.vmdk", t)
        same_map(f"at-end-{version}.vmdk")
        same_info(f"at-end-{version}.vmdk")


@case("a remote stream is opened and read in a bounded number of requests")
def round_trips():
    start()
    write("noise.raw", os.urandom(6 * M) + bytes(2 * M))
    stream("far.vmdk", "noise.raw")
    # head, footer, directory, grain table, grain
    assert server.range("/disk/web/far.vmdk", 3 * M, 65536) == part("noise.raw", 3 * M, 65536)
    sent, n = nginx.sent("/far.vmdk")
    print(f"   # cold open and 64 KiB of a stream: {n} requests, {sent} bytes")
    assert n <= 5, (n, sent)
    assert server.range("/disk/web/far.vmdk", 5 * M, 4096) == part("noise.raw", 5 * M, 4096)
    assert nginx.sent("/far.vmdk")[1] - n <= 1


@case("a stream cut off before its footer, or with a damaged one, is walked")
def cut():
    start()
    raw = source()
    stream("s.vmdk", raw)
    whole = open("s.vmdk", "rb").read()
    broken = bytearray(whole)
    broken[-1024:-1020] = b"XXXX"
    with open("broken.vmdk", "wb") as f:
        f.write(broken)
    same_disk("/disk/web/broken.vmdk", raw)
    info = json.loads(server.get("/v1/info/lab/broken.vmdk").body)
    assert info["format-specific"]["data"]["extents"][0]["directory-rebuilt"] is True
    with open("cut.vmdk", "wb") as f:
        f.write(whole[:len(whole) // 2])
    got = server.get("/disk/lab/cut.vmdk").body
    assert len(got) == os.path.getsize(raw)
    good = open(raw, "rb").read()
    grains = [i for i in range(0, len(good), 65536) if any(good[i:i + 65536])]
    there = [i for i in grains if got[i:i + 65536] == good[i:i + 65536]]
    # those that were written before the cut, in order, and nothing else
    assert there == grains[:len(there)] and len(there) > 3, (len(there), len(grains))
    assert not any(got[grains[len(there)]:grains[len(there)] + 65536])


@case("the second directory is used when the first one is damaged")
def second():
    start()
    raw = source()
    sh(f"qemu-img convert -O vmdk {raw} m.vmdk")
    data = bytearray(open("m.vmdk", "rb").read())
    rgd, gd = struct.unpack_from("<QQ", data, 48)
    if not struct.unpack_from("<I", data, 8)[0] & 2:
        raise AssertionError("the tool wrote no second directory")
    struct.pack_into("<I", data, gd * 512, 0x7fffffff)
    with open("second.vmdk", "wb") as f:
        f.write(data)
    same_disk("/disk/lab/second.vmdk", raw)
    info = json.loads(server.get("/v1/info/lab/second.vmdk").body)
    assert info["format-specific"]["data"]["extents"][0]["uses-redundant-directory"] is True


# ---- Forms that no tool here makes ----

@case("COWD, as vmfsSparse")
def cowd():
    start()
    sectors, grain = 40960, 1
    grains = {0: 11, 1: 12, 4095: 13, 4096: 14, 9000: 15, sectors - 1: 16}
    gd_at, n_gd = 4, (sectors // grain + 4095) // 4096
    data = bytearray(8192)
    struct.pack_into("<IIIIIIII", data, 0, 0x44574f43, 1, 3, sectors, grain, gd_at, n_gd, 0)
    gt = {}
    for g, value in grains.items():
        if g // 4096 not in gt:
            at = (len(data) + 511) // 512
            data += bytes(at * 512 - len(data)) + bytes(4096 * 4)
            struct.pack_into("<I", data, gd_at * 512 + g // 4096 * 4, at)
            gt[g // 4096] = at * 512
        at = (len(data) + 511) // 512
        data += bytes(at * 512 - len(data)) + bytes([value]) * 512
        struct.pack_into("<I", data, gt[g // 4096] + g % 4096 * 4, at)
    write("cowd-delta.vmdk", bytes(data))
    write("cowd.vmdk", descriptor("vmfsSparse", [f'RW {sectors} VMFSSPARSE "cowd-delta.vmdk"']))
    t = whole_check("cowd.vmdk", "cowd-delta.vmdk")
    assert part(t, 9000 * 512, 1) == b"\x0f"


def sesparse(name, sectors, grains, journal=0, kinds=()):
    """grains: number -> value; kinds: number -> raw entry of the table."""
    n_gt = (sectors // 8 + 4095) // 4096
    gd_at, gd_len = 8, 8
    gt_at = 16
    data_at = gt_at + n_gt * 64
    head = bytearray(512)
    struct.pack_into("<8Q", head, 0, 0xcafebabe, 0x0000000200000001, sectors, 8, 64, 0, 0, 0)
    struct.pack_into("<16Q", head, 80, 1, 1, 2, 1, 3, 1, gd_at, gd_len, gt_at, n_gt * 64,
                     0, 0, 0, 0, data_at, len(grains) * 8)
    data = bytearray(data_at * 512)
    data[0:512] = head
    struct.pack_into("<QQQB", data, 512, 0xcafecafe, 0, 0, journal)
    for i in range(n_gt):
        struct.pack_into("<Q", data, gd_at * 512 + i * 8, 0x1000000000000000 | i)
    for k, (g, value) in enumerate(grains.items()):
        entry = 3 << 60 | (k & 0xfff) << 48 | k >> 12
        struct.pack_into("<Q", data, gt_at * 512 + g * 8, entry)
        data += bytes([value]) * 4096
    for g, entry in dict(kinds).items():
        struct.pack_into("<Q", data, gt_at * 512 + g * 8, entry)
    write(name, bytes(data))


@case("seSparse: directory, tables, all four kinds of grains")
def se():
    start()
    sectors = 100000 // 8 * 8
    sesparse("se-data.vmdk", sectors, {0: 21, 1: 22, 4096: 23, 7000: 24, sectors // 8 - 1: 25},
             kinds={5: 1 << 60, 6: 2 << 60})
    write("se.vmdk", descriptor("seSparse", [f'RW {sectors} SESPARSE "se-data.vmdk"']))
    t = whole_check("se.vmdk", "se-data.vmdk")
    assert part(t, 7000 * 4096, 2) == b"\x18\x18"
    sesparse("sej-data.vmdk", sectors, {0: 1}, journal=1)
    write("sej.vmdk", descriptor("seSparse", [f'RW {sectors} SESPARSE "sej-data.vmdk"']))
    doc = problem(server.get("/disk/lab/sej.vmdk"), 501)
    assert "journal" in doc["detail"], doc


@case("descriptors: CRLF, comments, extents of mixed kinds, offsets, ZERO and NOACCESS")
def odd():
    start()
    write("flat.bin", os.urandom(2 * M))
    sh("qemu-img create -q -f vmdk part.vmdk 1M; qemu-io -f vmdk -c 'write -P 9 0 1M' part.vmdk")
    text = descriptor("monolithicFlat", [
        "  # a comment", 'RW 1024 FLAT "flat.bin" 100', 'RDONLY 512 FLAT "flat.bin" 3000',
        "RW 2048 ZERO", 'rw 2048 sparse "part.vmdk"'], 'unknown.key = "x y"\n').replace("\n", "\r\n")
    write("odd.vmdk", text)
    want = (part("flat.bin", 100 * 512, 1024 * 512) + part("flat.bin", 3000 * 512, 512 * 512) +
            bytes(2048 * 512) + b"\x09" * M)
    assert server.get("/disk/lab/odd.vmdk").body == want
    assert server.get("/disk/web/odd.vmdk").body == want
    write("vmfs.vmdk", descriptor("vmfs", ['RW 2048 VMFS "flat.bin"']))
    whole_check("vmfs.vmdk", "flat.bin")
    write("na.vmdk", descriptor("monolithicFlat", ['RW 1024 FLAT "flat.bin" 0',
                                                   'NOACCESS 1024 FLAT "flat.bin" 1024']))
    assert server.range("/disk/lab/na.vmdk", 0, 1024 * 512) == part("flat.bin", 0, 1024 * 512)
    r = server.get("/disk/lab/na.vmdk", {"Range": "bytes=600000-600010"})
    assert "NOACCESS" in problem(r, 501)["detail"]


@case("what is not read is refused by name, and what is named elsewhere is not opened")
def refused():
    start()
    write("outside.bin", b"x")
    for kind in ("custom", "fullDevice", "partitionedDevice", "vmfsRaw"):
        write("r.vmdk", descriptor(kind, ['RW 1024 FLAT "flat.bin" 0']))
        doc = problem(server.get("/disk/lab/r.vmdk?layers=vmdk"), 501)
        assert kind in doc["detail"], doc
        os.remove("r.vmdk")
        time.sleep(0.01)
    for k, name in enumerate(("/etc/passwd", "../x", "/dev/zero", "nbd://x", "file:/etc/passwd",
                              "sub/../../x", "http://127.0.0.1/x")):
        write(f"evil{k}.vmdk", descriptor("monolithicFlat", [f'RW 8 FLAT "{name}" 0']))
        doc = problem(server.get(f"/disk/lab/evil{k}.vmdk"), 403)
        assert "passwd" not in json.dumps(doc), doc
        write(f"evilp{k}.vmdk", descriptor(
            "monolithicFlat", ['RW 8 FLAT "outside.bin" 0']).replace("ffffffff", "12345678") +
            f'parentFileNameHint="{name}"\n')
        r = server.get(f"/disk/lab/evilp{k}.vmdk")
        assert r.status in (403, 502), (name, r.status, r.body)
        assert b"root:" not in r.body
    os.symlink("/etc/passwd", "link.bin")
    write("evill.vmdk", descriptor("monolithicFlat", ['RW 1 FLAT "link.bin" 0']))
    problem(server.get("/disk/lab/evill.vmdk"), 403)


@case("every byte of header and descriptor changed: an answer or an error, and alive")
def flips():
    start()
    raw = source("96M")
    for name in ("monolithicSparse.vmdk", "streamOptimized.vmdk", "se-data.vmdk",
                 "cowd-delta.vmdk"):
        data = open(name, "rb").read()[:400000]
        for at in list(range(0, 96, 3)) + [512, 515, 530, 560, 600, 700]:
            bad = bytearray(data)
            bad[at] ^= 0x81
            write("flip.vmdk", bytes(bad))
            r = platter("read", "--length", "100000", "--layers", "vmdk", "flip.vmdk", check=False)
            assert r.returncode in (0, 1), (name, at, r.returncode, r.stderr[-500:])
            assert b"Sanitizer" not in r.stderr, r.stderr[:3000]


# ---- OVA ----

@case("an OVA opens by itself")
def ova():
    start()
    raw = source()
    sh(f"qemu-img convert -O vmdk -o subformat=streamOptimized {raw} box-disk1.vmdk")
    write("box.ovf", '<?xml version="1.0"?><Envelope><References><File ovf:id="file1" '
          'ovf:href="box-disk1.vmdk"/></References></Envelope>\n')
    sh("tar --format=ustar -cf box.ova box.ovf box-disk1.vmdk; gzip -k box.ova")
    for name in ("box.ova", "box.ova.gz"):
        for origin in ("lab", "web"):
            same_disk(f"/disk/{origin}/{name}", raw)
    info = json.loads(server.get("/v1/info/lab/box.ova").body)
    assert [l["driver"] for l in info["layers"]] == ["vmdk", "tar", "file"], info


def envelope(disks, files, head=""):
    """disks: id -> (file id, capacity, units); files: id -> (href, more)"""
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<ovf:Envelope '
            'xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><ovf:References>' +
            "".join(f'<ovf:File ovf:id="{i}" ovf:href="{h}" {more}/>'
                    for i, (h, more) in files.items()) +
            "</ovf:References><ovf:DiskSection><ovf:Info>disks</ovf:Info>" +
            "".join(f'<ovf:Disk ovf:diskId="{d}" ovf:fileRef="{f}" ovf:capacity="{c}" '
                    f'ovf:capacityAllocationUnits="{u}" ovf:format="http://www.vmware.com/'
                    'interfaces/specifications/vmdk.html#streamOptimized"/>'
                    for d, (f, c, u) in disks.items()) +
            "</ovf:DiskSection></ovf:Envelope>\n")


@case("the OVF says which file is the disk; chunks are joined, gzip is undone")
def ovf():
    start()
    raw = source()
    sh(f"qemu-img convert -O vmdk -o subformat=streamOptimized {raw} sys.vmdk;"
       "qemu-img create -q -f vmdk other.vmdk 1M; cp other.vmdk iso.img;"
       "split -b 100000 -d -a 9 sys.vmdk sys.vmdk.; gzip -c sys.vmdk > sysz.vmdk")
    chunks = sorted(f for f in os.listdir(".") if f.startswith("sys.vmdk.0"))
    assert len(chunks) > 2
    write("a.ovf", envelope({"d1": ("f1", 96, "byte * 2^20")},
                            {"f1": ("sys.vmdk", ""), "f2": ("iso.img", "")}))
    sh("tar -cf a.ova a.ovf other.vmdk iso.img sys.vmdk")
    same_disk("/disk/web/a.ova", raw)
    layer = json.loads(server.get("/v1/info/lab/a.ova").body)["layers"][1]
    assert layer["member"] == "sys.vmdk" and layer["ovf-disks"][0]["capacity"] == 96 * M, layer
    write("c.ovf", envelope({"d1": ("f1", 96 * M, "byte")},
                            {"f1": ("sys.vmdk", 'ovf:chunkSize="100000"')}))
    sh(["tar", "-cf", "c.ova", "c.ovf"] + chunks[1:] + chunks[:1])
    same_disk("/disk/web/c.ova", raw)
    same_disk("/disk/lab/c.ova", raw, "?member=sys.vmdk")
    write("z.ovf", envelope({"d1": ("f1", 96, "MB")},
                            {"f1": ("sysz.vmdk", 'ovf:compression="gzip"')}))
    sh("tar -cf z.ova z.ovf sysz.vmdk")
    same_disk("/disk/lab/z.ova", raw)
    # two disks: the list, and not the file that is none
    write("two.ovf", envelope({"d1": ("f1", 1, ""), "d2": ("f2", 1, "")},
                              {"f1": ("sys.vmdk", ""), "f2": ("other.vmdk", "")}))
    sh("tar -cf two.ova two.ovf sys.vmdk other.vmdk iso.img")
    r = server.get("/disk/lab/two.ova")
    assert r.status == 300, (r.status, r.body)
    assert [c["name"] for c in json.loads(r.body)["choices"]] == ["sys.vmdk", "other.vmdk"]
    same_disk("/disk/lab/two.ova", raw, "?member=sys.vmdk")


@case("Vagrant boxes of VirtualBox and of VMware open by themselves")
def boxes():
    start()
    raw = source()
    sh(f"qemu-img convert -O vmdk -o subformat=streamOptimized {raw} box-disk001.vmdk;"
       f"qemu-img convert -O vmdk -o subformat=twoGbMaxExtentSparse {raw} disk.vmdk;"
       "echo '{}' > metadata.json; echo x > Vagrantfile; cp a.ovf box.ovf;"
       "sed -i s/sys.vmdk/box-disk001.vmdk/ box.ovf;"
       "tar -czf vbox.box ./Vagrantfile ./box-disk001.vmdk ./box.ovf ./metadata.json;"
       "tar -czf vmware.box disk.vmdk disk-s001.vmdk metadata.json Vagrantfile")
    for name in ("vbox.box", "vmware.box"):
        for origin in ("lab", "web"):
            same_disk(f"/disk/{origin}/{name}", raw)


@case("an OVF that attacks is refused, and nothing outside it is read")
def evil_ovf():
    start()
    dtds = ['<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
            f'<!DOCTYPE a SYSTEM "{nginx.url()}x.dtd">']
    for k, dtd in enumerate(dtds):
        write("e.ovf", envelope({"d": ("f", 1, "")}, {"f": ("other.vmdk", "")}, dtd))
        sh(f"tar -cf e{k}.ova e.ovf other.vmdk sys.vmdk")
        doc = problem(server.get(f"/disk/lab/e{k}.ova"), 502)
        assert "DTD" in doc["detail"] and "root:" not in json.dumps(doc), doc
    assert nginx.sent("x.dtd")[1] == 0
    for k, text in enumerate(("<a", "", "<Envelope/>", "x" * 5000)):
        write("b.ovf", text)
        sh(f"tar -cf b{k}.ova b.ovf other.vmdk")
        r = server.get(f"/disk/lab/b{k}.ova", method="HEAD")
        assert r.status in (200, 502), (text, r.status)


@case("check compares an OVA with its manifest")
def manifest():
    start()
    sums = {}
    for f in ("a.ovf", "sys.vmdk"):
        for alg in ("sha1", "sha256", "sha512"):
            sums[alg, f] = hashlib.new(alg, open(f, "rb").read()).hexdigest()
    write("m.mf", f"SHA256(a.ovf)= {sums['sha256', 'a.ovf']}\n"
          f"SHA1(sys.vmdk)= {sums['sha1', 'sys.vmdk']}\r\n"
          f"SHA512(sys.vmdk)={sums['sha512', 'sys.vmdk']}\n")
    sh("tar -cf mf.ova a.ovf m.mf sys.vmdk")
    good = platter("check", "--json", "mf.ova")
    assert good.returncode == 0 and "corruptions" not in json.loads(good.stdout), good.stdout
    write("m.mf", f"SHA256(a.ovf)= {sums['sha256', 'sys.vmdk']}\nSHA256(gone)= "
          f"{sums['sha256', 'sys.vmdk']}\nnonsense\nSHA1(sys.vmdk)= "
          f"{sums['sha1', 'sys.vmdk']}\n")
    sh("tar -cf mfbad.ova a.ovf m.mf sys.vmdk")
    bad = platter("check", "--json", "mfbad.ova", check=False)
    doc = json.loads(bad.stdout)
    assert bad.returncode == 2 and doc["corruptions"] == 3, doc
    said = json.loads(server.get("/v1/check/web/mfbad.ova").body)
    assert said["corruptions"] == 3 and any("a.ovf" in f["text"] for f in said["findings"])


main()
