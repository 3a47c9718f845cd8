# SPDX-License-Identifier: Apache-2.0
"""Partition tables against sfdisk and sgdisk, file systems against blkid, and
one partition as a disk of its own through every endpoint."""
import struct, sys, os, zlib
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
MIB = 1 << 20


def disk(name, script, size=64 * MIB):
    path = f"{www}/{name}"
    with open(path, "wb") as f:
        f.truncate(size)
    subprocess.run(["sfdisk", "-q", path], input=script.encode(), check=True,
                   capture_output=True)
    return path


def table(name, server=None, query=""):
    r = (server or gate).get(f"/v1/partitions/lab/{name}{query}")
    assert r.status == 200, (name, r.status, r.body)
    return json.loads(r.body)


def same_as_sfdisk(name, sector=512):
    want = json.loads(sh(["sfdisk", "--json", f"{www}/{name}"]))["partitiontable"]
    got = table(name)
    assert got["label"] == want["label"], got
    assert got["sector-size"] == sector, got
    assert got["id"].lower() == want["id"].lower(), (got["id"], want["id"])
    assert len(got["partitions"]) == len(want["partitions"]), got
    for g, w in zip(got["partitions"], want["partitions"]):
        assert g["start"] == w["start"] * sector, (g, w)
        assert g["length"] == w["size"] * sector, (g, w)
        kind = w["type"].lower()
        assert g["type"] == (kind if len(kind) > 2 else f"0x{int(kind, 16):02x}"), (g, w)
        assert g["number"] == int(re.search(r"(\d+)$", w["node"])[1]), (g, w)
        assert g["bootable"] == w.get("bootable", False), (g, w)
        assert g.get("name", "") == w.get("name", ""), (g, w)
        if "uuid" in w:
            assert g["uuid"] == w["uuid"].lower(), (g, w)
    if want["label"] == "gpt":
        assert got["first-usable"] == want["firstlba"] * sector
        assert got["last-usable"] == (want["lastlba"] + 1) * sector - 1
    return got


GPT = """label: gpt
start=2048,size=20480,type=U,name="EFI system"
size=40960,type=L,name="wurzel é 日本"
size=20480,type=S
size=2048,type=21686148-6449-6E6F-744E-656564454649
"""
DOS = """label: dos
label-id: 0xdeadbeef
start=2048,size=20480,type=83,bootable
start=22528,size=90000,type=5
start=24576,size=10240,type=82
start=36864,size=10240,type=c
start=49152,size=2048,type=fd
start=112640,size=8192,type=ef
"""
disk("gpt.raw", GPT)
disk("dos.raw", DOS)
gate = Platterd({"lab": www})


@case("GPT and MBR, primaries and logical ones, as sfdisk lists them")
def tables():
    g = same_as_sfdisk("gpt.raw")
    assert g["problems"] == [] and g["backup"] == "good" and not g["hybrid"]
    g = same_as_sfdisk("dos.raw")
    assert [p["number"] for p in g["partitions"]] == [1, 2, 3, 5, 6, 7] \
        and g["problems"] == [], g
    assert g["partitions"][1]["container"] and g["partitions"][3]["logical"]
    assert g["partitions"][0]["uuid"] == "deadbeef-01"


def gpt_by_hand(sector, size, first, last, entries=128, entry=128):
    """UEFI 2.10, 5.3: a disk as a tool would write it for such sectors, since
    none of Debian's writes one into a file."""
    n = size // sector
    type_ = bytes.fromhex("af3dc60f838472478e793d69d8477de4")
    array = (type_ + bytes(range(16)) + struct.pack("<QQQ", first, last, 4)
             + "Ω".encode("utf-16-le")).ljust(entry, b"\0").ljust(entries * entry, b"\0")
    blocks = -(-len(array) // sector)

    def header(me, other, at):
        def h(crc):
            return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, me, other,
                               2 + blocks, n - 2 - blocks, b"D" * 16, at, entries, entry,
                               zlib.crc32(array))
        return h(zlib.crc32(h(0)))
    mbr = bytes(446) + struct.pack("<BBBBBBBBII", 0, 0, 2, 0, 0xee, 255, 255, 255, 1, n - 1)
    d = bytearray(size)
    d[0:462] = mbr
    d[510:512] = b"\x55\xaa"
    d[sector:sector + 92] = header(1, n - 1, 2)
    d[2 * sector:2 * sector + len(array)] = array
    d[(n - 1 - blocks) * sector:(n - 1 - blocks) * sector + len(array)] = array
    d[(n - 1) * sector:(n - 1) * sector + 92] = header(n - 1, 1, n - 1 - blocks)
    return d


@case("sectors of other sizes are found by where the header lies; larger entries")
def large_sectors():
    for sector, entry in ((4096, 128), (2048, 128), (1024, 256), (512, 512)):
        d = gpt_by_hand(sector, 4 * MIB, 200, 299, entry=entry)
        open(f"{www}/s{sector}.raw", "wb").write(d)
        g = table(f"s{sector}.raw")
        assert g["sector-size"] == sector and g["problems"] == [] and g["backup"] == "good", g
        p, = g["partitions"]
        assert (p["start"], p["length"], p["name"]) == (200 * sector, 100 * sector, "Ω"), p
        assert p["bootable"] and p["attributes"] == "0x0000000000000004" and p["type-name"] == "Linux filesystem"
        d[sector:2 * sector] = bytes(sector)
        open(f"{www}/t{sector}.raw", "wb").write(d)
        g = table(f"t{sector}.raw")
        assert g["sector-size"] == sector and g["partitions"] == [p] and g["problems"], g


@case("128 partitions; a table of one's own size")
def many():
    disk("many.raw", "label: gpt\n" + "".join(
        f"size=64,type=L,name=p{i}\n" for i in range(128)), 200 * MIB)
    assert len(same_as_sfdisk("many.raw")["partitions"]) == 128


def damaged(name, *spans):
    shutil.copy(www + "/gpt.raw", f"{www}/{name}")
    with open(f"{www}/{name}", "r+b") as f:
        for off, data in spans:
            f.seek(off, 0 if off >= 0 else 2)
            f.write(data)


@case("a damaged primary header or array: the backup is used, and that is said")
def backup():
    want = table("gpt.raw")["partitions"]
    for name, span in (("h.raw", (512 + 40, b"\xff")), ("a.raw", (1024 + 60, b"\xff")),
                       ("z.raw", (512, bytes(512)))):
        damaged(name, span)
        g = table(name)
        assert g["partitions"] == want, name
        assert any("backup is used" in p for p in g["problems"]), g["problems"]
        assert gate.range(f"/disk/lab/{name}?partition=2", 0, 512) == \
            part(www + "/gpt.raw", want[1]["start"], 512)


@case("a damaged backup is said; both damaged: no partition is guessed")
def both():
    damaged("b.raw", (-512, bytes(512)))
    g = table("b.raw")
    assert g["backup"] == "damaged" and len(g["partitions"]) == 4 and g["problems"], g
    damaged("hb.raw", (512, bytes(512)), (-512, bytes(512)))
    g = table("hb.raw")
    assert g["label"] == "gpt" and g["partitions"] == [] and len(g["problems"]) == 2, g
    problem(gate.get("/disk/lab/hb.raw?partition=1"), 502, "corrupt")


@case("a disk that has grown: the backup is not at its end")
def grown():
    shutil.copy(www + "/gpt.raw", www + "/grown.raw")
    os.truncate(www + "/grown.raw", 80 * MIB)
    g = table("grown.raw")
    assert len(g["partitions"]) == 4 and any("end of the disk" in p for p in g["problems"]), g
    shutil.copy(www + "/gpt.raw", www + "/cut.raw")
    os.truncate(www + "/cut.raw", 30 * MIB)
    g = table("cut.raw")
    assert any("past the end" in p for p in g["problems"]), g
    problem(gate.get("/disk/lab/cut.raw?partition=3"), 502, "corrupt")


@case("a hybrid MBR: the GPT counts")
def hybrid():
    shutil.copy(www + "/gpt.raw", www + "/hybrid.raw")
    sh(["sgdisk", "-h", "2:3", www + "/hybrid.raw"])
    g = table("hybrid.raw")
    assert g["label"] == "gpt" and g["hybrid"] and len(g["partitions"]) == 4, g


@case("no table at all; a file system without one; ends that are too short")
def none():
    for size in (0, 1, 511, 512, 1000, 100000):
        with open(f"{www}/none{size}.raw", "wb") as f:
            f.truncate(size)
        g = table(f"none{size}.raw")
        assert g["label"] == "none" and g["partitions"] == [], (size, g)
    with open(www + "/super.raw", "wb") as f:
        f.truncate(8 * MIB)
    sh(["mkfs.vfat", "-n", "SUPER", www + "/super.raw"])
    g = table("super.raw")
    assert g["label"] == "none" and g["filesystem"]["type"] == "vfat" \
        and g["filesystem"]["label"] == "SUPER", g
    problem(gate.get("/disk/lab/super.raw?partition=1"), 404, "not-found")


@case("a chain of logical partitions that is a loop, or leaves its container")
def loops():
    for name, link in (("loop.raw", 0), ("far.raw", 0x7fffffff)):
        shutil.copy(www + "/dos.raw", f"{www}/{name}")
        with open(f"{www}/{name}", "r+b") as f:
            f.seek(22528 * 512 + 446 + 16 + 8)
            f.write(link.to_bytes(4, "little"))
        g = table(name)
        assert any("chain" in p for p in g["problems"]), g


FS = [("ext2", ["mkfs.ext2", "-q", "-L", "two"], 16), ("ext3", ["mkfs.ext3", "-q", "-L", "three"], 16),
      ("ext4", ["mkfs.ext4", "-q", "-L", "four"], 16),
      ("xfs", ["mkfs.xfs", "-q", "-f", "-L", "xlabel"], 320),
      ("btrfs", ["mkfs.btrfs", "-q", "-f", "-L", "b label"], 128),
      ("vfat", ["mkfs.vfat", "-F16", "-n", "FATTY"], 20), ("fat32", ["mkfs.vfat", "-F32", "-n", "FAT32"], 64),
      ("fat12", ["mkfs.vfat", "-F12"], 4), ("exfat", ["mkfs.exfat"], 16),
      ("ntfs", ["mkntfs", "-q", "-F", "-Q", "-f"], 16), ("swap", ["mkswap", "-L", "swappy"], 4),
      ("f2fs", ["mkfs.f2fs", "-q", "-l", "flash"], 64),
      ("luks1", ["cryptsetup", "-q", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations",
                 "1000", "-d", "/dev/null"], 4),
      ("luks2", ["cryptsetup", "-q", "luksFormat", "--type", "luks2", "--label", "crypt",
                 "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"], 20)]


def blkid(path):
    out = sh(["blkid", "-p", "-o", "export", path]).decode()
    return dict(l.split("=", 1) for l in out.split("\n") if "=" in l)


def same_as_blkid(name, path, off):
    want = blkid(path)
    g = table(name)
    fs = g["partitions"][0]["filesystem"] if off else g["filesystem"]
    assert fs["type"] == want["TYPE"], (name, fs, want)
    if name not in ("udf", "squashfs"):
        assert fs.get("uuid", "") == want.get("UUID", ""), (name, fs, want)
    plain = want.get("LABEL", "").replace("\\ ", " ")
    assert fs.get("label", "") == plain, (name, fs, want)


@case("file systems: type, label and UUID as blkid prints them")
def filesystems():
    key = tmp + "/key"
    open(key, "w").write("secret")
    seen = []
    for name, cmd, mib in FS:
        path = f"{tmp}/{name}.fs"
        with open(path, "wb") as f:
            f.truncate(mib * MIB)
        cmd = [c if c != "/dev/null" else key for c in cmd]
        sh(cmd + [path] + ([key] if name == "luks2" else []))
        image = f"{name}.raw"
        disk(image, f"label: gpt\nstart=2048,size={mib * 2048},type=L\n", (mib + 4) * MIB)
        sh(["dd", "if=" + path, f"of={www}/{image}", "bs=1M", "seek=1", "conv=notrunc,sparse",
            "status=none"])
        same_as_blkid(image, path, MIB)
        seen.append(name)
    folder = tmp + "/tree"
    os.makedirs(folder, exist_ok=True)
    open(folder + "/a", "w").write("a")
    for name, cmd in (("squashfs", ["mksquashfs", folder, "@", "-quiet", "-no-progress"]),
                      ("iso", ["genisoimage", "-quiet", "-V", "MY DISC", "-o", "@", folder]),
                      ("erofs", ["mkfs.erofs", "-Enoinline_data", "@", folder])):
        path = f"{www}/{name}.fs"
        sh([c if c != "@" else path for c in cmd])
        same_as_blkid(f"{name}.fs", path, 0)
        seen.append(name)
    assert len(seen) == len(FS) + 3


@case("one partition as a disk: bytes, size, extents, info, checksum, through wrappers")
def as_disk():
    path = www + "/gpt.raw"
    p = table("gpt.raw")["partitions"][1]
    with open(path, "r+b") as f:
        f.seek(p["start"] + 100000)
        f.write(os.urandom(3 * MIB))
    sh(f"cd {www} && tar cSzf gpt.tar.gz gpt.raw && qemu-img convert -O qcow2 -c gpt.raw gpt.qcow2 "
       f"&& qemu-img convert -O vmdk -o subformat=streamOptimized gpt.raw gpt.vmdk")
    server = Platterd({"lab": www})
    want = part(path, p["start"], p["length"])
    digest = hashlib.sha256(want).hexdigest()
    etags = set()
    for name in ("gpt.raw", "gpt.tar.gz", "gpt.qcow2", "gpt.vmdk"):
        u = f"/disk/lab/{name};partition=2"
        r = server.get(u)
        assert r.status == 200 and r.body == want, name
        etags.add(r.getheader("ETag"))
        etags.add(server.get(f"/disk/lab/{name}", method="HEAD").getheader("ETag"))
        for off, n in slices(len(want)):
            assert server.range(u, off, n) == want[off:off + n], (name, off, n)
        assert server.get(u, {"Range": f"bytes={len(want)}-"}).status == 416
        i = json.loads(server.get(f"/v1/info/lab/{name}?partition=2").body)
        assert i["virtual-size"] == len(want) and i["format"] == "raw"
        assert i["layers"][0]["driver"] == "partition" and i["layers"][0]["number"] == 2
        e = json.loads(server.get(f"/v1/extents/lab/{name}?partition=2").body)
        assert sum(x["length"] for x in e["extents"]) == len(want)
        for x in e["extents"]:
            assert not x["zero"] or not any(want[x["start"]:x["start"] + x["length"]]), (name, x)
        c = json.loads(server.get(f"/v1/checksum/lab/{name}?partition=2").body)
        assert c["checksum"] == digest, name
        d = problem(server.get(f"/disk/lab/{name}?partition=9"), 404, "not-found")
        assert d["layer"] == "partition" and "1, 2, 3, 4" in d["detail"], d
        out = platter("read", f"{www}/{name}", "--partition", "2", "--offset", "64k", "--length", "1M").stdout
        assert out == want[65536:65536 + MIB]
    assert len(etags) == 8
    problem(server.get("/disk/lab/dos.raw?partition=2"), 501, "unsupported")


@case("a table deep in a never-seen remote archive: the table at once")
def remote():
    web = Nginx(www)
    server = Platterd({"web": web.url()})
    r = json.loads(server.get("/v1/partitions/web/gpt.tar.gz").body)
    assert [p["number"] for p in r["partitions"]] == [1, 2, 3, 4]
    web.stop()


main()
