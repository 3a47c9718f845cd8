# SPDX-License-Identifier: Apache-2.0
"""Extents through the whole stack: where holes are, in every wrapping that keeps them.

What is called zero is compared with the bytes that were packed, what QEMU's tools can
open with their map, and what a checksum reads with what the origin sent."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import oracle

www = tmp + "/www"
os.makedirs(www)
os.chdir(www)
MIB = 1 << 20
SIZE = 48 * MIB + 512  # no whole number of clusters, grains or blocks


def write(path, *spots):
    with open(path, "r+b") as f:
        for off, data in spots:
            f.seek(off)
            f.write(data)


# A disk with a table, data anywhere, zeros that are written and zeros that are not.
with open("disk.raw", "wb") as f:
    f.truncate(SIZE)
subprocess.run(["sfdisk", "-q", "disk.raw"], check=True, capture_output=True,
               input=b"label: dos\nstart=2048,size=40000,type=83\nstart=49152,size=40960,type=83\n")
write("disk.raw", *[(random.randrange(SIZE - 300000) // 4096 * 4096,
                     random.randbytes(random.choice([4096, 20000, 300000]))) for _ in range(30)],
      (20 * MIB, bytes(MIB)), (SIZE - 512, b"end" * 100), (MIB + 40000 * 512 - 4096, b"x" * 8192))
ORACLE = open("disk.raw", "rb").read()

# name -> (the command, what QEMU opens for the same map or None)
TAR = "tar --format={} -Sc{}f @ disk.raw"
MADE = {
    "disk.raw": ("true", ["-f", "raw", "disk.raw"]),
    "gnu.tar": (TAR.format("oldgnu", ""), None),
    "pax.tar": (TAR.format("posix --sparse-version=1.0", ""), None),
    "pax00.tar": (TAR.format("posix --sparse-version=0.0", ""), None),
    "gnu.tar.gz": (TAR.format("oldgnu", "z"), None),
    "pax.tar.gz": (TAR.format("posix --sparse-version=1.0", "z"), None),
    "gnu.tar.dz": ("tar --format=oldgnu -Scf t.tar disk.raw; dictzip t.tar; mv t.tar.dz @", None),
    "disk.raw.gz": ("gzip -kc disk.raw > @", None),
}
for kind, options in (("plain", ""), ("c512", "-o cluster_size=512"), ("c2m", "-o cluster_size=2M"),
                      ("zlib", "-c"), ("v2", "-o compat=0.10"),
                      ("sub", "-o extended_l2=on,cluster_size=128k"),
                      ("meta", "-o preallocation=metadata"), ("full", "-o preallocation=full")):
    q = kind + ".qcow2"
    MADE[q] = (f"qemu-img convert -f raw -O qcow2 {options} disk.raw @", ["-f", "qcow2", q])
for q in ("plain", "zlib", "sub"):
    MADE[q + ".tar"] = (f"tar -cf @ {q}.qcow2", None)
    MADE[q + ".tar.gz"] = (f"tar -Sczf @ {q}.qcow2", None)
    MADE[q + ".qcow2.gz"] = (f"gzip -kc {q}.qcow2 > @", None)
for v in ("monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse",
          "twoGbMaxExtentFlat"):
    MADE[v + ".vmdk"] = (f"qemu-img convert -f raw -O vmdk -o subformat={v} disk.raw @",
                         ["-f", "vmdk", v + ".vmdk"])
MADE["ova.tar.gz"] = ("tar -czf @ streamOptimized.vmdk", None)
for name, (command, _) in MADE.items():
    sh(command.replace("@", name))
# zeroed clusters of each kind, in a qcow2 of its own
shutil.copy("plain.qcow2", "zeroed.qcow2")
sh("qemu-io -c 'write -z 4M 4M' -c 'write -z -u 12M 2M' -c 'discard 30M 1M' zeroed.qcow2;"
   "qemu-img convert -O raw zeroed.qcow2 zeroed.raw")
MADE["zeroed.qcow2"] = ("", ["-f", "qcow2", "zeroed.qcow2"])
TRUTH = {"zeroed.qcow2": open("zeroed.raw", "rb").read()}
# A chain: each adds some, hides some, and the last is longer than the first.
N_CHAIN = 6
for i in range(N_CHAIN):
    back = f"-b chain{i - 1}.qcow2 -F qcow2" if i else "-b disk.raw -F raw"
    sh(f"qemu-img create -q -f qcow2 {back} chain{i}.qcow2 {SIZE + i * MIB};"
       f"qemu-io -c 'write -P {i + 1} {i * 7 * MIB + 65536} 200k' -c 'write -z {i * 5 * MIB + 4608 * 1024} 128k'"
       f" chain{i}.qcow2")
    name = f"chain{i}.qcow2"
    MADE[name] = ("", ["-f", "qcow2", name])
    sh(f"qemu-img convert -O raw {name} chain.raw")
    TRUTH[name] = open("chain.raw", "rb").read()

# Allocated and not written is a hole or data as the file system has pages of it in
# memory or not: what QEMU made shall only have what is written, and holes.
sh("for f in *.qcow2 *.vmdk; do cp --sparse=always $f .whole && mv .whole $f; done; sync *")
nginx = Nginx(www)
server = Platterd({"lab": www, "web": nginx.url()})
ATTRIBUTES = ("depth", "present", "zero", "data", "compressed")


def truth(name):
    return TRUTH.get(name, ORACLE)


def get(ref, query="", status=200):
    sep = "&" if "?" in ref else "?"
    r = server.get(f"/v1/extents/{ref}" + (sep + query if query else ""))
    assert r.status == status, (ref, query, r.status, r.body[:300])
    return json.loads(r.body)


def covers(rows, start, length):
    """Once, in order, without a gap."""
    at = start
    for x in rows:
        assert x["start"] == at and x["length"] > 0, (at, x)
        at += x["length"]
    assert at == start + length, (at, start, length)


def zero_is_zero(rows, want, base=0):
    for x in rows:
        a = x["start"] - base
        if "zero" not in x or x["zero"]:
            got = want[a:a + x["length"]]
            assert got == bytes(len(got)), x


def is_learning(ref):
    """A gzip stream finds zeros while it is decoded: what is unknown is data until then."""
    return bool(re.search(r"\.(gz|dz)(\?|$)", ref))


def says(ref, row, off):
    """All that a row says of one byte, for good."""
    known = ("depth", "present", "compressed") if is_learning(ref) else ATTRIBUTES
    return {**{k: row[k] for k in known},
            "at": row["offset"] + off - row["start"] if "offset" in row else None}


def row_of(rows, off):
    return next(x for x in rows if x["start"] <= off < x["start"] + x["length"])


REFS = [f"{origin}/{name}" for name in MADE for origin in ("lab", "web")
        # a remote file has no holes to ask for; a remote chain is one like another
        if not (origin == "web" and re.match(r"chain[0-4]|.*Flat", name))]


@case("every extent once, and what is zero reads as zeros: every wrapping, local and remote")
def whole():
    for ref in REFS:
        want = truth(ref.split("/", 1)[1])
        got = get(ref)
        assert got["start"] == 0 and got["length"] == got["virtual-size"] and "next" not in got
        size = got["virtual-size"]
        # QEMU's streamOptimized and flat files round up or not: the rest is zero
        assert 0 <= size - len(want) < 65536 and got["context"] == "zero", (ref, size)
        covers(got["extents"], 0, size)
        zero_is_zero(got["extents"], want)
        assert is_learning(ref) or get(ref, "context=zero") == got
        for x in got["extents"]:
            assert set(x) - {"offset"} == {"start", "length", *ATTRIBUTES}, x
            assert x["zero"] or x["data"] or not x["present"], x
            assert x["present"] or (x["zero"] and not x["data"]), x
            assert not (x["compressed"] and "offset" in x), x


@case("any start and length: the same said of the same bytes, and no others")
def windows():
    for ref in REFS:
        rows = get(ref)
        size, rows = rows["virtual-size"], rows["extents"]
        edges = [x["start"] for x in rows]
        for _ in range(6):
            start = random.choice([random.randrange(size), random.choice(edges)])
            length = random.choice([1, 511, 4096, 65537, 3 * MIB, size])
            got = get(ref, f"start={start}&length={length}")
            length = min(length, size - start)
            assert (got["start"], got["length"]) == (start, length)
            covers(got["extents"], start, length)
            for x in got["extents"]:
                for off in {x["start"], x["start"] + x["length"] - 1}:
                    assert says(ref, x, off) == says(ref, row_of(rows, off), off), (ref, off, x)


@case("the ends: nothing of nothing, behind the end, numbers that are none")
def ends():
    for ref in ("lab/disk.raw", "lab/plain.qcow2", "web/gnu.tar.gz"):
        for query in (f"start={SIZE}", "length=0", f"start={SIZE}&length=5", "start=5&length=0"):
            assert get(ref, query)["extents"] == [], query
        last = get(ref, f"start={SIZE - 1}")["extents"]
        assert [(x["start"], x["length"]) for x in last] == [(SIZE - 1, 1)]
        covers(get(ref, f"start=1&length={2 ** 63 - 1}")["extents"], 1, SIZE - 1)
        covers(get(ref, "start=1M&length=64k")["extents"], MIB, 65536)
        for query in (f"start={SIZE + 1}", "start=-1", "start=x", "length=-1", "length=x", "start=1.5.5",
                      f"start={2 ** 64}", "length=" + "9" * 30, "context=one", "context=dirty",
                      "format=none", "start=%20", "start=0x"):
            problem(server.get(f"/v1/extents/{ref}?{query}"), 400, "invalid")


def less_known(ours, theirs):
    """Without the holes of the file below a mapped cluster: QEMU looks for those only in
    images whose metadata was preallocated, platter always."""
    out = []
    for x in ours:
        x = dict(x)
        is_hole = x["zero"] and x["data"] and "offset" in x
        y = row_of(theirs, x["start"])
        if is_hole and not y["zero"]:
            x["zero"] = False
        last = out[-1] if out else None
        if last and says("", last, last["start"] + last["length"]) == says("", x, x["start"]):
            last["length"] += x["length"]
        else:
            out.append(x)
    return out


@case("format=qemu-map is what qemu-img map says, where it can open the same")
def qemu_map():
    seen, asked_less = 0, []
    for name, (_, arguments) in MADE.items():
        if not arguments:
            continue
        theirs = json.loads(sh(["qemu-img", "map", "--output=json", *arguments]))
        ours = get("lab/" + name, "format=qemu-map")
        try:
            oracle.same_map(ours, theirs)
        except AssertionError:
            oracle.same_map(less_known(ours, theirs), theirs)
            asked_less.append(name)
        seen += 1
    assert seen > 15
    assert all(n.endswith(".qcow2") and n != "meta.qcow2" for n in asked_less), asked_less


@case("format=qemu-map of a qcow2 inside a tar: QEMU's map at its offset in there")
def qemu_map_inside():
    for q in ("plain", "zlib", "sub"):
        member, = json.loads(server.get(f"/v1/members/lab/{q}.tar").body)["members"] \
            if isinstance(json.loads(server.get(f"/v1/members/lab/{q}.tar").body), dict) \
            else json.loads(server.get(f"/v1/members/lab/{q}.tar").body)
        spec = {"driver": "qcow2", "file": {
            "driver": "raw", "offset": member["offset"], "size": member["size"],
            "file": {"driver": "file", "filename": f"{q}.tar"}}}
        theirs = json.loads(sh(["qemu-img", "map", "--output=json", "json:" + json.dumps(spec)]))
        ours = get(f"lab/{q}.tar", "format=qemu-map")
        oracle.same_map(ours, theirs)
        # and the same disk through anything else: all but where it lies
        for other in (f"lab/{q}.qcow2", f"web/{q}.tar.gz", f"web/{q}.qcow2.gz"):
            rows = get(other)["extents"]
            for x in get(f"lab/{q}.tar")["extents"]:
                y = row_of(rows, x["start"])
                assert all(x[k] == y[k] for k in ("depth", "present")), (other, x, y)


@case("format=imageio: start, length, zero, hole, and nothing else")
def imageio():
    for ref in REFS:
        ours, rows = get(ref), get(ref, "format=imageio")
        covers(rows, 0, ours["virtual-size"])
        zero_is_zero(rows, truth(ref.split("/", 1)[1]))
        assert is_learning(ref) or len(rows) == len(ours["extents"])
        for x, y in zip(rows, [] if is_learning(ref) else ours["extents"]):
            assert list(x) == ["start", "length", "zero", "hole"], x
            assert x == {"start": y["start"], "length": y["length"], "zero": y["zero"],
                         "hole": not y["present"]}, (x, y)
    rows = get("lab/chain5.qcow2", f"format=imageio&start={MIB}&length={2 * MIB}")
    covers(rows, MIB, 2 * MIB)


def known_holes(path, block):
    """Bytes in whole blocks that the file system does not keep."""
    holes, at, f = 0, 0, os.open(path, os.O_RDONLY)
    while at < SIZE:
        try:
            data = os.lseek(f, at, os.SEEK_DATA)
        except OSError:
            data = SIZE
        holes += max(0, data // block * block - -(-at // block) * block)
        at = os.lseek(f, data, os.SEEK_HOLE) if data < SIZE else SIZE
    os.close(f)
    return holes


@case("a hole of the file is a hole in each wrapping that can tell")
def holes():
    for ref, block in (("lab/disk.raw", 4096), ("lab/gnu.tar", 4096), ("web/gnu.tar", 4096),
                       ("web/pax.tar", 4096), ("web/pax00.tar", 4096), ("web/gnu.tar.gz", 4096),
                       ("web/pax.tar.gz", 4096), ("web/gnu.tar.dz", 4096),
                       ("web/plain.qcow2", 65536), ("web/c512.qcow2", 4096), ("web/sub.qcow2", 4096),
                       ("web/zlib.tar.gz", 65536), ("web/plain.qcow2.gz", 65536),
                       ("web/monolithicSparse.vmdk", 65536), ("web/ova.tar.gz", 65536),
                       ("web/twoGbMaxExtentSparse.vmdk", 65536)):
        zero = sum(x["length"] for x in get(ref)["extents"] if x["zero"])
        assert zero >= known_holes("disk.raw", block), (ref, zero)
    # and where nothing can tell, nothing is claimed
    assert [x["zero"] for x in get("web/disk.raw")["extents"]] == [False]


@case("a gzip stream tells its zeros when it has been decoded, and before that calls them data")
def learned():
    s = Platterd({"web": nginx.url() + "slow/"})
    ref = "web/disk.raw.gz"
    s.range("/disk/" + ref, 0, 512)
    early = json.loads(s.get(f"/v1/extents/{ref}?length=1M").body)["extents"]
    zero_is_zero(early, ORACLE)
    s.stop()
    server.get("/disk/" + ref)
    rows = get(ref)["extents"]
    assert sum(x["length"] for x in rows if x["zero"]) >= known_holes("disk.raw", 65536)
    assert all(x["compressed"] for x in rows)


@case("depth counts the chain: what each image adds, hides, or never had")
def depths():
    for i in range(N_CHAIN):
        rows = get(f"lab/chain{i}.qcow2")["extents"]
        for k in range(i + 1):
            x = row_of(rows, k * 7 * MIB + 65536)
            assert x["depth"] == i - k and x["data"] and not x["zero"], (i, k, x)
        x = row_of(rows, i * 5 * MIB + 4608 * 1024)  # zeroed here
        assert x["depth"] == 0 and x["zero"] and x["present"], (i, x)
        assert max(x["depth"] for x in rows) == i + 1
        x = row_of(rows, SIZE + i * MIB - 4096)  # longer than all below
        assert x["zero"] or not i, (i, x)


@case("partition=N: the disk's extents, moved to its beginning")
def partitions():
    for ref in REFS:
        name = ref.split("/", 1)[1]
        if name.startswith("chain"):
            continue  # the zeros of the first one hide the table
        rows, want = get(ref)["extents"], truth(name)
        for n, start, length in ((1, MIB, 40000 * 512), (2, 49152 * 512, 40960 * 512)):
            got = get(f"{ref}?partition={n}")
            assert got["virtual-size"] == length, ref
            covers(got["extents"], 0, length)
            zero_is_zero(got["extents"], want[start:start + length])
            for x in got["extents"]:
                for off in {x["start"], x["start"] + x["length"] - 1}:
                    y = row_of(rows, start + off)
                    assert is_learning(ref) or x["zero"] == y["zero"], (ref, n, off, x, y)
                    assert all(x[k] == y[k] for k in ("compressed", "present", "depth")), \
                        (ref, n, off, x, y)
                if "offset" in x:  # on the disk
                    assert x["offset"] == start + x["start"], (ref, x)
            covers(get(f"{ref}?partition={n}&start=70000&length=1M")["extents"], 70000, MIB)


@case("by the command: the same rows")
def command():
    for name in ("disk.raw", "gnu.tar", "gnu.tar.gz", "sub.qcow2", "chain5.qcow2"):
        out = json.loads(platter("map", "--json", f"{www}/{name}").stdout)
        assert is_learning(name) or out == get("lab/" + name, "format=qemu-map"), name
        covers(out, 0, len(truth(name)))
        zero_is_zero(out, truth(name))


@case("more extents than an answer has: in pages, every one once")
def pages():
    n = 60 * MIB // 512
    with open("many.raw", "wb") as f:
        f.write((b"\1" * 512 + bytes(512)) * (n // 2))
    sh("qemu-img convert -S 512 -f raw -O qcow2 -o cluster_size=512 many.raw many.qcow2")
    want, at, rows, n_pages = open("many.raw", "rb").read(), 0, [], 0
    while at is not None:
        got = get("lab/many.qcow2", f"start={at}")
        assert len(got["extents"]) <= 100000
        assert got["extents"][0]["start"] == at
        rows += got["extents"]
        assert "next" not in got or got["next"] > at
        at = got.get("next")
        n_pages += 1
    covers(rows, 0, len(want))
    zero_is_zero(rows, want)
    assert n_pages == 2 and len(rows) == n, (n_pages, len(rows))
    # the lists of other tools have no place for a next page
    for form in ("qemu-map", "imageio"):
        d = problem(server.get(f"/v1/extents/lab/many.qcow2?format={form}"), 400, "invalid")
        assert "in parts" in d["detail"]
        half = f"format={form}&length={30 * MIB}"
        covers(get("lab/many.qcow2", half), 0, 30 * MIB)


@case("a checksum reads no holes: what the origin sent is what the data takes")
def checksums():
    spent = 24 * MIB
    sh(f"truncate -s {SIZE} small.raw; printf hello | dd of=small.raw bs=1M seek=17 conv=notrunc status=none")
    # the file keeps 24 MiB that the disk no longer has
    sh("qemu-img convert -O qcow2 small.raw unused.qcow2; qemu-io -c 'write -P 7 20M 24M' unused.qcow2;"
       "qemu-img snapshot -c old unused.qcow2; qemu-io -c 'write -z 20M 24M' unused.qcow2;"
       "qemu-io -c 'write -P 7 20M 24M' -c 'write -z 20M 24M' unused.qcow2")
    sh("qemu-img convert -O qcow2 -o preallocation=full small.raw kept.qcow2;"
       f"qemu-io -c 'write -z 0 {SIZE}' -c 'write -P 104 17M 512' kept.qcow2;"
       "qemu-img convert -O raw kept.qcow2 kept.raw")
    sh("tar --format=oldgnu -Scf small.tar small.raw")
    for name, raw, most in (("unused.qcow2", "small.raw", 4 * MIB), ("kept.qcow2", "kept.raw", 4 * MIB),
                            ("small.tar", "small.raw", MIB)):
        before, _ = nginx.sent("/" + name)
        got = json.loads(server.get(f"/v1/checksum/web/{name}").body)
        assert got["checksum"] == hashlib.sha256(open(raw, "rb").read()).hexdigest(), name
        cost = nginx.sent("/" + name)[0] - before
        assert cost <= most, f"{name}: {cost} bytes"
    assert os.path.getsize("unused.qcow2") > spent and os.path.getsize("kept.qcow2") > spent
    # where data is, it is read: once
    before, _ = nginx.sent("/plain.qcow2")
    s = Platterd({"web": nginx.url()})
    got = json.loads(s.get("/v1/checksum/web/plain.qcow2").body)
    assert got["checksum"] == hashlib.sha256(ORACLE).hexdigest()
    cost = nginx.sent("/plain.qcow2")[0] - before
    s.stop()
    assert cost <= os.path.getsize("plain.qcow2") + 2 * MIB, cost
    # through holes, in every wrapping
    for ref in ("web/gnu.tar.gz", "web/pax.tar.gz", "lab/disk.raw", "web/sub.tar.gz", "web/zlib.qcow2",
                "lab/streamOptimized.vmdk"):
        c = json.loads(server.get(f"/v1/checksum/{ref}").body)
        n = c["virtual-size"]
        assert c["checksum"] == hashlib.sha256(ORACLE.ljust(n, b"\0")).hexdigest(), ref


main()
