# SPDX-License-Identifier: Apache-2.0
"""The command line: each command here and through a gateway, against qemu-img,
sha256sum and cmp; what was stopped goes on; what a person sees."""
import pty, select, sys, os, urllib.request
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
MIB = 1 << 20
SIZE = 64 * MIB


def make(name, size=SIZE):
    with open(f"{www}/{name}", "wb") as f:
        f.truncate(size)
    subprocess.run(["sfdisk", "-q", f"{www}/{name}"], check=True, capture_output=True,
                   input=b"label: gpt\nstart=2048,size=20480,type=L,name=one\nsize=40960,type=L\n")
    with open(f"{www}/{name}", "r+b") as f:
        for at in (MIB, 9 * MIB + 5000, 40 * MIB):
            f.seek(at)
            f.write(os.urandom(MIB + 777))


def write_random(path, size):
    with open(path, "wb") as f:
        f.write(random.randbytes(size))


make("d.raw")
sh(f"cd {www} && qemu-img convert -O qcow2 -c d.raw d.qcow2 && tar cSzf d.tar.gz d.raw && "
   f"qemu-img convert -O vmdk -o subformat=streamOptimized d.raw d.vmdk && "
   f"qemu-img snapshot -c first d.qcow2 && cp d.raw e.raw && printf x | dd of=e.raw bs=1 seek=41943050 "
   f"conv=notrunc status=none && mkdir two && cp d.raw two/a.raw && cp e.raw two/b.raw && "
   f"tar cSzf two.tar.gz -C two a.raw b.raw")
data = open(www + "/d.raw", "rb").read()
NAMES = ["d.raw", "d.qcow2", "d.tar.gz", "d.vmdk"]
server = Platterd({"lab": www}, "--state", tmp + "/state")
G = ["--gateway", f"http://127.0.0.1:{server.port}/"]


def both(command, name, *args):
    """The same command here and through the gateway, as JSON."""
    here = json.loads(platter(command, f"{www}/{name}", "--json", *args).stdout)
    there = json.loads(platter(command, f"lab/{name}", "--json", *args, *G).stdout)
    return here, there


@case("info, map, members, partitions, snapshots, check, checksum: here as through a gateway")
def same_json():
    for name in NAMES:
        for command, args in (("info", []), ("map", []), ("map", ["--offset", "1M", "--length", "9M"]),
                              ("partitions", []), ("checksum", []), ("info", ["--partition", "2"]),
                              ("checksum", ["--block-size", "1M", "--partition", "1"])):
            here, there = both(command, name, *args)
            for x in (here, there):
                if isinstance(x, dict):
                    for k in ("etag", "filename", "last-modified", "filesystems-unread"):
                        x.pop(k, None)
                    for layer in x.get("layers", []):
                        for k in ("filename", "url", "state", "decoded", "points", "index-memory",
                                  "index-kept", "zero-runs", "source-done", "members", "requests"):
                            layer.pop(k, None)
            assert here == there, (name, command, here, there)
    for name, command in (("d.qcow2", "snapshots"), ("d.tar.gz", "members"), ("d.qcow2", "check")):
        here, there = both(command, name)
        for x in (here, there):
            x.pop("filename", None) if isinstance(x, dict) else None
        assert here == there, command


@case("names of qemu-img: one script reads info, map, snapshots and check of both")
def script():
    """What somebody has written for qemu-img --output=json."""
    def read(tool, path):
        run = lambda *a: json.loads(subprocess.run([*tool, *a], capture_output=True, check=True).stdout)
        jq = lambda doc, what: sh(["jq", "-c", what], input=json.dumps(doc).encode())
        info = run("info", "--output=json", path)
        m = run("map", "--output=json", path)
        out = [jq(info, '[."virtual-size", .format, ."cluster-size", ."dirty-flag"]'),
               jq(info, '[.snapshots[]? | [.id, .name, ."vm-state-size", ."date-sec", ."date-nsec", '
                        '."vm-clock-sec", ."vm-clock-nsec", .icount]]'),
               jq(info, '[."format-specific".type, ."format-specific".data.compat, '
                        '."format-specific".data["refcount-bits"], ."format-specific".data["compression-type"]]'),
               jq(m, '[.[] | [.start, .length, .depth, .present, .zero, .data, .offset]]')]
        if not path.endswith("vmdk"):
            c = run("check", "--output=json", path)
            out.append(jq(c, '[."check-errors", ."image-end-offset", ."total-clusters", '
                             '."allocated-clusters", ."compressed-clusters", .corruptions, .leaks, .format]'))
        return out

    for name in ("d.qcow2",):
        path = f"{www}/{name}"
        ours, theirs = read([BIN + "/platter"], path), read(["qemu-img"], path)
        assert ours == theirs, (ours, theirs)


@case("read: any span, all of it, a partition, through wrappers and a gateway")
def reads():
    for name in NAMES:
        assert platter("read", f"{www}/{name}").stdout == data, name
        assert platter("read", f"lab/{name}", *G).stdout == data, name
        for off, n in slices(SIZE, 3) + [(MIB - 5, 20 * MIB)]:
            span = ["--offset", str(off), "--length", str(n)]
            assert platter("read", f"{www}/{name}", *span).stdout == data[off:off + n], (name, off, n)
            assert platter("read", f"lab/{name}", *span, *G).stdout == data[off:off + n], (name, off, n)
        out = platter("read", f"lab/{name}", "--partition", "2", *G).stdout
        assert out == data[MIB + 20480 * 512:][:40960 * 512], name
    r = platter("read", www + "/d.raw", "--offset", str(SIZE), "--length", "1", check=False)
    assert r.returncode == 1 and b"past the disk" in r.stderr
    assert platter("read", www + "/d.raw", "--offset", str(SIZE)).stdout == b""


def blocks(path):
    return os.stat(path).st_blocks * 512


@case("convert: the bytes, sparse, never half a file under the name; verified")
def convert():
    for name in NAMES:
        for args in ([f"{www}/{name}"], [f"lab/{name}", *G]):
            out = tmp + "/out.raw"
            platter("convert", args[0], out, "-O", "raw", "--verify", *args[1:])
            assert sh(["cmp", out, www + "/d.raw"]) == b"", name
            assert blocks(out) <= blocks(www + "/d.raw") + 65536, (name, blocks(out))
            assert not os.path.exists(out + ".part") and not os.path.exists(out + ".part.json")
    platter("convert", www + "/d.qcow2", tmp + "/p.raw", "--partition", "1")
    assert open(tmp + "/p.raw", "rb").read() == data[MIB:][:20480 * 512]
    r = platter("convert", www + "/d.raw", tmp + "/x", "-O", "qcow2", check=False)
    assert r.returncode == 1 and b"qcow2 cannot be written yet" in r.stderr
    r = platter("convert", www + "/d.raw", tmp, check=False)
    assert r.returncode == 1 and b"neither a file" in r.stderr


@case("convert: stopped and killed at any moment, --resume goes on and reads only the rest")
def resume():
    big = 300 * MIB
    path, out = www + "/big.raw", tmp + "/big.out"
    with open(path, "wb") as f:
        for _ in range(big // MIB):
            f.write(random.randbytes(MIB))
    sh(f"gzip -1 -k {path}")
    web = Nginx(www)
    url = web.url() + "slow/big.raw"
    run = lambda: subprocess.Popen([BIN + "/platter", "convert", url, out, "--resume", "--threads", "2"],
                                   stderr=subprocess.PIPE)

    def wait_beyond(done):
        """Until the journal says that more is there."""
        end = time.time() + 120
        while time.time() < end:
            try:
                if json.load(open(out + ".part.json"))["done"] > done:
                    return
            except FileNotFoundError:
                pass
            time.sleep(0.1)
        raise AssertionError("it gets nowhere")

    # At 512 KiB/s a connection this would take minutes: only a beginning of it.
    p = run()
    wait_beyond(0)
    p.send_signal(signal.SIGINT)
    err = p.communicate(timeout=30)[1]
    assert p.returncode == 130 and b"--resume" in err, (p.returncode, err)
    first = json.load(open(out + ".part.json"))["done"]
    assert 0 < first < big and not os.path.exists(out)
    p = run()
    wait_beyond(first)
    p.kill()
    p.communicate()
    state = json.load(open(out + ".part.json"))
    second = state["done"]
    assert second > first, (first, second)
    # The rest at full speed needs the same source: the same validator, no /slow/.
    conf = open(web.dir + "/conf").read().replace("limit_rate 512k", "limit_rate 0")
    open(web.dir + "/conf", "w").write(conf)
    web.stop()
    web.start()
    platter("convert", url, out, "--resume", "--verify")
    assert sh(["cmp", out, path]) == b""
    # One that came further: only the rest of it is read, and what was under way.
    os.rename(out, out + ".part")
    with open(out + ".part", "r+b") as f:
        f.truncate(200 * MIB)
    json.dump({**state, "done": 200 * MIB}, open(out + ".part.json", "w"))
    before = web.sent("/big.raw")[0]
    platter("convert", url, out, "--resume")
    read = web.sent("/big.raw")[0] - before
    assert sh(["cmp", out, path]) == b"" and read < 150 * MIB, read
    platter("convert", url, out, "--resume")  # anew: nothing is left of before
    assert sh(["cmp", out, path]) == b""
    web.stop()


@case("convert: what was begun from another version is not mixed with")
def other_version():
    out = tmp + "/v.raw"
    open(out + ".part", "wb").truncate(SIZE)
    json.dump({"etag": '"other"', "size": SIZE, "done": 32 * MIB}, open(out + ".part.json", "w"))
    r = platter("convert", www + "/d.raw", out, "--resume", check=False)
    assert r.returncode == 1 and b"another version" in r.stderr, r.stderr
    platter("convert", www + "/d.raw", out)
    assert sh(["cmp", out, www + "/d.raw"]) == b""


@case("convert: into a block device, zeros included; one that is too small is refused")
def device():
    dev = tmp + "/dev.img"
    open(dev, "wb").write(b"\xff" * (SIZE + MIB))
    loop = subprocess.run(["losetup", "-f", "--show", dev], capture_output=True, text=True)
    if loop.returncode != 0:
        print("   # no loop devices on this machine: a device is not written here")
        return
    loop = loop.stdout.strip()
    try:
        platter("convert", www + "/d.qcow2", loop)
        sh(["sync"])
        assert open(loop, "rb").read(SIZE) == data
        os.environ["XDG_STATE_HOME"] = tmp + "/state-home"
        platter("convert", "--verify", www + "/d.vmdk", loop)
        assert os.listdir(tmp + "/state-home/platter") == []
        open(tmp + "/larger", "wb").truncate(SIZE * 2)
        r = platter("convert", tmp + "/larger", loop, check=False)
        assert r.returncode == 1 and b"smaller" in r.stderr
    finally:
        sh(["losetup", "-d", loop])


@case("compare: words and exit codes of qemu-img, sizes, strictness, where they differ")
def compare():
    open(www + "/long.raw", "wb").write(data + bytes(MIB))
    for a, b in (("d.raw", "d.qcow2"), ("d.tar.gz", "d.vmdk"), ("d.raw", "e.raw"), ("e.raw", "d.qcow2"),
                 ("d.raw", "long.raw"), ("long.raw", "d.vmdk")):
        if not a.endswith("gz"):
            q = subprocess.run(["qemu-img", "compare", f"{www}/{a}", f"{www}/{b}"], capture_output=True)
        else:
            q = subprocess.run(["qemu-img", "compare", www + "/d.raw", f"{www}/{b}"], capture_output=True)
        for args in ([f"{www}/{a}", f"{www}/{b}"], [f"lab/{a}", f"lab/{b}", *G]):
            r = platter("compare", *args, check=False)
            # qemu-img says which cluster differs, we say which byte
            assert r.returncode == q.returncode, (a, b, r, q)
            if r.returncode == 0:
                assert r.stdout.strip().endswith(b"Images are identical."), r.stdout
            else:
                assert r.stdout == b"Content mismatch at offset 41943050!\n", (r.stdout, q.stdout)
    r = platter("compare", "-s", www + "/d.raw", www + "/long.raw", check=False)
    q = subprocess.run(["qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", www + "/d.raw", www + "/long.raw"],
                       capture_output=True)
    assert (r.returncode, r.stdout) == (q.returncode, q.stdout), (r, q)
    assert platter("compare", www + "/d.raw", "/does/not/exist", check=False).returncode == 2
    doc = json.loads(platter("compare", "--json", www + "/d.raw", www + "/e.raw", check=False).stdout)
    assert doc == {"identical": False, "offset": 41943050}


@case("checksum: as sha256sum; the block hash; bad arguments")
def checksum():
    want = sh(["sha256sum", www + "/d.raw"]).split()[0].decode()
    for name in NAMES:
        assert platter("checksum", f"{www}/{name}").stdout.decode() == f"{want}  {www}/{name}\n"
    want = sh(["sha512sum", www + "/d.raw"]).split()[0].decode()
    assert platter("checksum", "lab/d.vmdk", "--algorithm", "sha512", *G).stdout.decode().startswith(want)
    r = platter("checksum", www + "/d.raw", "--algorithm", "md5", check=False)
    assert r.returncode == 1 and b"sha256 or sha512" in r.stderr


@case("manifest: root, head, lists and other tools' forms, here as of a gateway, to files")
def manifest():
    def raw(name, *args):
        here = platter("manifest", f"{www}/{name}", *args).stdout
        assert here == platter("manifest", f"lab/{name}", *args, *G).stdout, (name, args)
        return here

    leaves = [hashlib.sha256(data[i:i + 4096]).digest() for i in range(0, SIZE, 4096)]
    groups = [hashlib.sha256(b"".join(leaves[i:i + 256])).digest()
              for i in range(0, len(leaves), 256)]
    root = hashlib.sha256(b"platter-root-1\0\0" + SIZE.to_bytes(8, "little") +
                          b"".join(groups)).hexdigest()
    for name in NAMES:
        assert platter("manifest", f"{www}/{name}").stdout.decode() == f"{root}  {www}/{name}\n"
    assert platter("manifest", "lab/d.vmdk", *G).stdout.decode() == f"{root}  lab/d.vmdk\n"
    here, there = both("manifest", "d.qcow2")
    assert here == there and here["root"] == root and here["virtual-size"] == SIZE
    assert raw("d.qcow2", "--groups") == b"".join(groups)
    assert raw("d.tar.gz", "--leaves") == raw("d.raw", "--format", "rauc") == b"".join(leaves)
    assert raw("d.vmdk", "--format", "bmap").startswith(b"<?xml")
    assert raw("d.vmdk", "--format", "caibx") == server.get("/v1/manifest/lab/d.raw?format=caibx").body
    assert raw("d.raw", "--partition", "1", "--groups") == b"".join(groups[1:11])
    out = tmp + "/manifest.out"
    for where in ([www + "/d.raw"], ["lab/d.raw", *G]):
        assert platter("manifest", *where, "-o", out).stdout == b""
        assert open(out, "rb").read() == server.get("/v1/manifest/lab/d.raw").body
        assert platter("manifest", *where, "--groups", "-o", out).stdout == b""
        assert open(out, "rb").read() == b"".join(groups)
        assert platter("manifest", *where, "--groups", "-o", "-").stdout == b"".join(groups)
    assert not os.path.exists(out + ".part")
    platter("manifest", "lab/d.qcow2", "--format", "zsync", "-o", tmp + "/d.zsync", *G)
    sh(["zsync", "-q", "-u", G[1], "-i", www + "/e.raw", "-o", tmp + "/synced", tmp + "/d.zsync"])
    assert open(tmp + "/synced", "rb").read() == data
    # What fails leaves no file, and the one before as it was.
    before = open(out, "rb").read()
    with open(www + "/odd.raw", "wb") as f:
        f.write(b"x" * 5000)
    for args, code in ((["--format", "rauc"], 1), (["--format", "zip"], 2), (["--format", "zsync"], 2),
                       (["--groups", "--leaves"], 2), (["--json", "--groups"], 2)):
        r = platter("manifest", www + "/odd.raw", "-o", out, *args, check=False)
        assert r.returncode == code and r.stderr, (args, r)
    open(www + "/empty.raw", "wb").close()
    r = platter("manifest", www + "/empty.raw", "--format", "bmap", "-o", out, check=False)
    assert r.returncode == 1 and b"empty.raw" in r.stderr, r
    r = platter("manifest", "lab/odd.raw", "--format", "rauc", "-o", out, *G, check=False)
    assert r.returncode == 1 and b"whole blocks" in r.stderr, r
    assert open(out, "rb").read() == before and not os.path.exists(out + ".part")
    r = platter("manifest", www + "/d.raw", "--groups", "-o", tmp + "/none/x", check=False)
    assert r.returncode == 1 and b"none/x" in r.stderr
    master, slave = pty.openpty()
    r = subprocess.run([BIN + "/platter", "manifest", "--leaves", www + "/odd.raw"], stdout=slave,
                       stderr=subprocess.PIPE)
    assert r.returncode == 2 and b"terminal" in r.stderr, r
    os.close(master)
    os.close(slave)


@case("index: in the forms of gztool and indexed_gzip, to and from the tools")
def foreign_index():
    path, a, f = www + "/big.raw.gz", tmp + "/idx-f", tmp + "/foreign"
    sh(f"gztool -z -s 2 -I {f}.gzi -i {path}; {sys.executable} -c \"import indexed_gzip as g\n"
       f"i=g.IndexedGzipFile('{path}',spacing=2<<20);i.build_full_index();i.export_index('{f}.gzidx')\"")
    want = hashlib.sha256(sh(["zcat", path])).hexdigest()
    for form in ("gzi", "gzidx"):
        shutil.rmtree(a, ignore_errors=True)
        doc = json.loads(platter("index", path, "--state", a, "--import", f"{f}.{form}", "--json").stdout)
        assert doc["state"] == "complete" and doc["foreign-spans"] > 2, doc
        assert not doc["foreign-refuted"] and doc["index-kept"], doc
        assert want.encode() in platter("checksum", path, "--layers", "gzip", "--state", a).stdout
    raw = sh(["zcat", path])
    for form in ("gztool", "indexed_gzip"):
        platter("index", path, "--export", f"{f}.{form}", "--index-format", form)
        platter("index", "lab/big.raw.gz", "--export", f"{f}.{form}.gw", "--index-format", form, *G)
        assert open(f"{f}.{form}", "rb").read() == open(f"{f}.{form}.gw", "rb").read(), form
    at = len(raw) * 2 // 3
    got = sh(f"gztool -b {at} -r 5000 -I {f}.gztool {path}")
    assert got == raw[at:at + 5000]
    got = sh([sys.executable, "-c", "import indexed_gzip as g,sys\n"
              f"i=g.IndexedGzipFile('{path}',index_file='{f}.indexed_gzip')\ni.seek({at})\n"
              "sys.stdout.buffer.write(i.read(5000))"])
    assert got == raw[at:at + 5000]
    r = platter("index", path, "--export", f, "--index-format", "zran", check=False)
    assert r.returncode == 2 and b"--index-format" in r.stderr
    r = platter("index", www + "/d.tar.gz", "--import", f + ".gzidx", check=False)
    assert r.returncode == 1 and b"another length" in r.stderr, r.stderr


@case("index: beside the source, found when a read is far, not when it is near")
def beside():
    web = Nginx(www)
    name, want = "big.raw.gz", open(www + "/big.raw", "rb")
    os.makedirs(www + "/beside", exist_ok=True)
    os.link(f"{www}/{name}", f"{www}/beside/{name}")
    url, size = web.url() + "beside/" + name, os.stat(f"{www}/{name}").st_size

    def read(at):
        before = web.sent("/beside/" + name), [web.sent(name + s)[1] for s in (".pltidx", ".gzidx", ".gzi")]
        got = platter("read", url, "--layers", "gzip", "--offset", str(at), "--length", "65536").stdout
        want.seek(at)
        assert got == want.read(65536), at
        after = web.sent("/beside/" + name)
        looks = [web.sent(name + s)[1] - n for s, n in zip((".pltidx", ".gzidx", ".gzi"), before[1])]
        return after[0] - before[0][0], after[1] - before[0][1], looks

    assert read(0)[2] == [0, 0, 0]
    far = 299 * MIB
    sent, _, looks = read(far)
    assert sent > size // 2 and looks == [1, 1, 1], (sent, looks)
    platter("index", f"{www}/{name}", "--export", f"{www}/beside/{name}.pltidx")
    sent, requests, looks = read(far)
    print(f"# 64 KiB at 299 MiB with an index beside it: {requests} requests, {sent} bytes of {size}")
    assert sent < size // 4 and looks[0] >= 1 and looks[1:] == [0, 0], (sent, requests, looks)
    os.remove(f"{www}/beside/{name}.pltidx")
    sh(f"gztool -z -s 2 -I {www}/beside/{name}.gzi -i {www}/{name}")
    assert read(far)[2][2] >= 1
    shutil.copy(f"{www}/beside/{name}.gzi", f"{www}/beside/{name}.pltidx")  # what it is not
    read(far)
    web.stop()


@case("index --trace: recorded at one gateway, fetched, replayed at another over another wrapping")
def boot_trace():
    f = tmp + "/boot.json"
    other = Platterd({"there": www})
    G2 = ["--gateway", f"http://127.0.0.1:{other.port}"]
    r = platter("index", "lab/d.raw", "--record", "--time", "60", *G)
    assert b"state: recording" in r.stdout and str(SIZE).encode() in r.stdout, r.stdout
    reads = [(MIB, 4096), (40 * MIB, 8192), (9 * MIB, 65536)]
    for off, length in reads:
        assert server.range("/disk/lab/d.raw", off, length) == data[off:off + length]
    r = platter("index", "lab/d.raw", "--trace", f, *G)
    assert b"bytes: 77824" in r.stdout, r.stdout
    assert [x[:2] for x in json.load(open(f))["reads"]] == [list(x) for x in reads]
    assert json.loads(platter("index", "lab/d.raw", "--trace", "-", *G).stdout)["reads"]
    doc = json.loads(platter("index", "there/d.qcow2", "--trace", f, "--replay", "--json", *G2).stdout)
    assert doc["state"] == "complete" and doc["bytes_done"] == doc["bytes_total"] == 77824, doc
    doc = json.loads(platter("index", "there/d.qcow2", "--replay", "--json", *G2).stdout)
    assert doc["state"] == "complete", doc
    for args, code, why in ((["there/d.raw", "--replay", *G2], 1, b"no trace"),
                            (["there/d.raw", "--trace", f + ".none", "--replay", *G2], 1, b"boot.json.none"),
                            (["there/d.raw", "--trace", www + "/d.raw", "--replay", *G2], 1, b"d.raw"),
                            (["there/two.tar.gz?", "--trace", f, "--replay", *G2], 1, b""),
                            (["there/d.raw", "--trace", "/dev/full", *G], 1, b""),
                            ([www + "/d.raw", "--trace", f], 2, b"--gateway"),
                            (["lab/d.raw", "--record", "--trace", f, *G], 2, b"--record")):
        r = platter("index", *args, check=False)
        assert r.returncode == code and why in r.stderr, (args, r)
    # Of a disk of another size it is refused.
    with open(www + "/small.raw", "wb") as small:
        small.truncate(MIB)
    r = platter("index", "there/small.raw", "--trace", f, "--replay", *G2, check=False)
    assert r.returncode == 1 and b"another" in r.stderr or b"bytes" in r.stderr, r
    os.remove(www + "/small.raw")


@case("index: built, shown, exported, imported elsewhere, refused for another stream")
def index():
    path = www + "/big.raw.gz"
    a, b, f = tmp + "/sa", tmp + "/sb", tmp + "/x.idx"
    doc = json.loads(platter("index", path, "--state", a, "--json").stdout)
    assert doc["state"] == "complete" and doc["decoded"] == 300 * MIB and doc["points"] > 50, doc
    assert doc["index-kept"] and doc["index-memory"] < 0.01 * doc["source-size"] + 4 * MIB, doc
    platter("index", path, "--state", a, "--export", f)
    assert open(f, "rb").read(8) == b"PLTGZIDX"
    copy = tmp + "/elsewhere.gz"
    shutil.copy(path, copy)  # another path, another inode, another time
    doc = json.loads(platter("index", copy, "--state", b, "--import", f, "--json").stdout)
    assert doc["state"] == "complete" and doc["decoded"] == 300 * MIB, doc
    start = time.time()
    out = platter("read", copy, "--state", b, "--offset", "299M", "--length", "4096").stdout
    assert out == part(www + "/big.raw", 299 * MIB, 4096) and time.time() - start < 5
    shown = json.loads(platter("index", copy, "--state", b, "--show", "--json").stdout)
    assert shown["state"] == "complete" and shown["points"] == doc["points"]
    r = platter("index", www + "/d.tar.gz", "--import", f, check=False)
    assert r.returncode == 1 and b"another stream" in r.stderr, r.stderr
    # an index that is cut, or changed: what holds of it is used, or nothing
    whole = bytearray(open(f, "rb").read())
    for at in (len(whole) // 2, 70, 30):
        open(f, "wb").write(whole[:at])
        r = platter("index", copy, "--import", f, "--show", check=False)
        assert r.returncode in (0, 1), r
        assert platter("read", copy, "--offset", "1M", "--length", "100").stdout == part(www + "/big.raw", MIB, 100)
    # the gateway's, taken to another host
    server.get("/v1/checksum/lab/big.raw.gz?block_size=16M")
    g = tmp + "/g.idx"
    platter("index", "lab/big.raw.gz", "--export", g, *G)
    c = tmp + "/sc"
    doc = json.loads(platter("index", copy, "--state", c, "--import", g, "--show", "--json").stdout)
    assert doc["state"] == "complete", doc
    r = platter("index", www + "/d.raw", check=False)
    assert r.returncode == 1 and b"no layer" in r.stderr


@case("bench: patterns, percentiles, threads, as text and JSON")
def bench():
    for pattern in ("sequential", "random", "strided"):
        doc = json.loads(platter("bench", www + "/d.qcow2", "--pattern", pattern, "--size", "4k",
                                 "--count", "500", "--threads", "2", "--json").stdout)
        lat = doc["latency-seconds"]
        assert doc["reads"] == 500 and doc["read-size"] == 4096 and \
            lat["min"] <= lat["p50"] <= lat["p90"] <= lat["p99"] <= lat["p999"] <= lat["max"], doc
    out = platter("bench", "lab/d.raw", "--time", "1", *G).stdout
    assert b"reads/s" in out and b"p99" in out
    assert platter("bench", www + "/d.raw", "--pattern", "zigzag", check=False).returncode == 2


@case("mirror: added, listed, watched, changed, paused, removed; for a person and as JSON")
def mirror():
    conf = tmp + "/edge.json"
    json.dump({"origins": {"up": {"url": f"http://127.0.0.1:{server.port}/"}}, "state_dir": tmp + "/edge",
               "outputs": [tmp + "/out/"]}, open(conf, "w"))
    os.mkdir(tmp + "/out")
    edge = Platterd({}, "--config", conf)
    g = ["--gateway", edge.url("/")]
    at = f"http://127.0.0.1:{server.port}/disk/lab/two.tar.gz"
    out = lambda *args, **kw: platter("mirror", *args, *g, **kw).stdout.decode()
    assert out("list") == "" and json.loads(out("list", "--json")) == []
    m = json.loads(out("add", "one", at, "--member", "a.raw", "--follow", "60", "--bandwidth", "4M",
                       "--priority", "-5", "--schedule", "00:00-24:00", "--fetch", "blocks",
                       "--no-trace", "--json"))
    assert m["source"] == at + ";member=a.raw" and m["follow"] == 60 and m["bandwidth"] == 4 * MIB, m
    assert m["priority"] == -5 and m["schedule"] == "00:00-24:00" and m["trace"] is False, m
    assert m["fetch"] == "blocks"
    # Twice the same is fine; another is not.
    r = platter("mirror", "add", "one", at, *g, check=False)
    assert r.returncode == 1 and b"there is another mirror one (409" in r.stderr, r.stderr
    r = platter("mirror", "wait", "one", *g)
    assert re.search(rb"^one: \[[#.]{24}\] [\d.]+ %, .* of .*", r.stderr, re.M), r.stderr
    text = r.stdout.decode()
    for line in (r"one  complete", rf"  source     {re.escape(at)};member=a\.raw",
                 r"  disk       64 MiB, [\d.]+ MiB of it not zeros",
                 r"  here       \[#{24}\] 100\.0 %, [\d.]+ MiB", r"  fetched    [\d.]+ MiB in \d+ requests, .* for readers",
                 r"  version    [0-9a-f]{64}", r"  verified   against the source's manifest",
                 r"  follow     every 60 s, asked at 2.*Z", r"  bandwidth  4\.00 MiB/s",
                 r"  schedule   00:00-24:00 UTC", r"  priority   -5"):
        assert re.search(f"^{line}$", text, re.M), (line, text)
    with urllib.request.urlopen(edge.url("/disk/one")) as f:
        assert f.read() == data
    # All of it is here already: nothing is left to fetch.
    text = out("add", "two", f"http://127.0.0.1:{server.port}/disk/lab/d.qcow2", "--wait",
               "--output", tmp + "/out/two.raw")
    assert "two  complete" in text and "that was here already: " in text, text
    assert open(tmp + "/out/two.raw", "rb").read() == data
    m = json.loads(out("change", "two", "--follow", "5", "--priority", "100", "--json"))
    assert m["follow"] == 5 and m["priority"] == 100
    rows = out("list").splitlines()
    assert len(rows) == 3 and rows[0].startswith("name  state") and len({len(r.rstrip()) for r in rows[1:]}) == 1
    assert re.match(r"one   complete   \[#{24}\] 100\.0 %", rows[1]), rows
    assert [m["name"] for m in json.loads(out("list", "--json"))] == ["one", "two"]
    # As it goes on: a line of JSON each, the last one complete.
    write_random(f"{www}/slow.raw", 12 * MIB)
    out("add", "slow", f"http://127.0.0.1:{server.port}/disk/lab/slow.raw", "--bandwidth", "4M", "--quiet")
    lines = out("status", "slow", "--watch", "--json")
    first, last = json.loads(lines.splitlines()[0]), json.loads(lines[lines.index("\n{\n"):])
    assert first["state"] == "mirroring" and last["state"] == "complete" and last["share"] == 1
    assert json.loads(out("pause", "slow", "--json"))["name"] == "slow"
    assert out("resume", "slow", "--quiet") == "" and out("remove", "slow") == ""
    # On a terminal it is one line that is written over.
    write_random(f"{www}/tty.raw", 12 * MIB)
    out("add", "tty", f"http://127.0.0.1:{server.port}/disk/lab/tty.raw", "--bandwidth", "4M", "--quiet")
    code, seen = on_terminal("mirror", "wait", "tty", *g)
    assert code == 0 and seen.count(b"\rtty [") > 3 and b"\033[K" in seen and b" left" in seen, seen
    assert b"\033[1mtty\033[0m  complete" in seen, seen
    for args, code, words in ((["status", "none"], 1, b"there is no mirror none (404"),
                              (["remove", "none"], 1, b"no mirror none"), (["status", "a/b"], 1, b"no name"),
                              (["add", "x", "nope/x"], 1, b"no origin is that of nope/x (400"),
                              (["add", "x", at, "--output", "/etc/x"], 1, b"not allowed by policy (403"),
                              (["add", "x"], 2, b"a NAME and a SOURCE"), (["frob"], 2, b"mirror add"),
                              ([], 2, b"mirror add"), (["change", "one"], 2, b"change what?"),
                              (["change", "one", "--priority", "x"], 2, b"--priority"),
                              (["add", "x", at, "--follow", "soon"], 2, b"--follow"), (["list", "x"], 2, b"no name")):
        r = platter("mirror", *args, *g, check=False)
        assert r.returncode == code and words in r.stderr, (args, r.returncode, r.stderr)
    r = platter("info", www + "/d.raw", "--output", "/x", check=False)
    assert r.returncode == 2 and b"json or human" in r.stderr
    r = platter("mirror", "list", "--gateway", f"http://127.0.0.1:{free_port()}", check=False)
    assert r.returncode == 1 and b"does not answer" in r.stderr
    edge.stop()


@case("errors: the words of the server, the choices of an archive, usage")
def errors():
    here = platter("info", www + "/nothing", check=False)
    there = platter("info", "lab/nothing", *G, check=False)
    assert here.returncode == there.returncode == 1
    assert b"nothing" in here.stderr and b"404" in there.stderr and b"request" in there.stderr
    for args in ([www + "/two.tar.gz"], ["lab/two.tar.gz", *G]):
        r = platter("info", *args, check=False)
        assert r.returncode == 3 and b"--member 'a.raw'" in r.stderr and b"--member 'b.raw'" in r.stderr, r
    r = platter("info", www + "/d.raw", "-f", "qcow2", check=False)
    assert r.returncode == 1 and b"it is raw, not qcow2" in r.stderr
    for command in ("info", "map", "check", "read", "checksum"):
        r = platter(command, "lab/d.raw", *G, "-f", "qcow2", check=False)
        assert r.returncode == 1 and b"it is raw, not qcow2" in r.stderr, (command, r)
    assert platter("help").stdout == platter("--help").stdout
    sh(f"gzip -c {www}/d.raw > {www}/plain.gz")
    for name in ("two.tar.gz", "plain.gz"):
        assert platter("index", f"{www}/{name}").returncode == 0, name
    assert platter("info", www + "/d.qcow2", "-f", "qcow2").returncode == 0
    for args in ([], ["frobnicate"], ["info"], ["compare", "a"], ["info", "a", "b"], ["info", "--nope", "a"],
                 ["read", "--offset", "x", "a"], ["read", "--vmstate", "a"], ["info", "--vmstate", "a"],
                 ["read", "--vmstate", "--snapshot", "1", "lab/a", *G], ["info", "--cache-size", "1", "a"], ["bench", "--threads", "0", "a"]):
        assert platter(*args, check=False).returncode == 2, args
    r = platter("info", "lab/d.raw", "--gateway", f"http://127.0.0.1:{free_port()}", check=False)
    assert r.returncode == 1 and b"does not answer" in r.stderr
    help_ = platter("--help").stdout.decode()
    for name in ("info", "map", "members", "partitions", "snapshots", "check", "checksum", "read", "convert",
                 "compare", "index", "bench", "plugins"):
        assert f"\n  {name}" in help_, name


def on_terminal(*args, seconds=60):
    """What a person sees: standard output and error are one terminal."""
    master, slave = pty.openpty()
    p = subprocess.Popen([BIN + "/platter", *args], stdout=slave, stderr=slave, stdin=slave,
                         env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    out = b""
    end = time.time() + seconds
    while time.time() < end:
        if select.select([master], [], [], 0.5)[0]:
            try:
                more = os.read(master, 65536)
            except OSError:
                break
            if not more:
                break
            out += more
        elif p.poll() is not None:
            break
    os.close(master)
    p.wait(10)
    return p.returncode, out


@case("a terminal has a progress bar with rate and time left, and colours; a pipe has neither")
def terminal():
    web = Nginx(www)
    code, out = on_terminal("convert", web.url() + "slow/d.qcow2", tmp + "/t.raw")
    assert code == 0, out
    assert re.search(rb"\r\[#+\.*\] +\d+\.\d %  .* of 64 MiB  .*/s  .* left", out), out
    r = platter("convert", web.url() + "slow/d.qcow2", tmp + "/t.raw")
    assert b"\r" not in r.stderr and b"\033" not in r.stderr, r.stderr
    far = Platterd({"web": web.url() + "slow/"})
    code, out = on_terminal("checksum", "web/d.qcow2", "--gateway", far.url("/"))
    assert code == 0 and re.search(rb"checksum.*\r\[#+\.*\] .* left", out, re.S) or b"left" in out, out
    far.stop()
    code, out = on_terminal("partitions", www + "/d.raw")
    assert code == 0 and b"\033[1m" in out
    assert b"\033" not in platter("partitions", www + "/d.raw").stdout
    code, out = on_terminal("read", www + "/d.raw")
    assert code == 2 and b"terminal" in out and b"\033[31m" in out
    web.stop()


@case("bash completion: commands, options, files")
def completion():
    def complete(line):
        script = f"""source {TOP}/deploy/completion/platter.bash
COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
case ${{COMP_WORDS[0]}} in platterd) _platterd ;; *) _platter ;; esac
printf '%s\\n' "${{COMPREPLY[@]}}" """
        return set(sh(["bash", "-c", script]).decode().split())
    assert {"info", "convert", "checksum", "partitions"} <= complete('platter ""')
    assert complete("platter conv") == {"convert"}
    options = complete("platter info --")
    for word in re.findall(r"(--[a-z-]+)", platter("--help").stdout.decode()):
        assert word in options, word
    options = complete("platterd --")
    for word in re.findall(r"(--[a-z-]+)", sh([BIN + "/platterd", "--help"]).decode()):
        assert word in options, word
    assert complete("platter manifest --format z") == {"zsync"}
    assert complete("platter checksum --algorithm s") == {"sha256", "sha512"}


main()
