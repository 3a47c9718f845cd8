# SPDX-License-Identifier: Apache-2.0
"""Our bytes equal the tools': every wrapper, every form of tar, qcow2 in all of
them, over HTTP from nginx and by the command, cold and warm."""
import sys, os, json, tarfile, hashlib
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

www = tmp + "/www"
os.makedirs(www)
disk = www + "/disk.raw"
images.guest_disk(disk)
size = os.path.getsize(disk)
digest = hashlib.sha256(open(disk, "rb").read()).hexdigest()
os.chdir(www)

# name -> how it is made; each holds exactly disk.raw
MADE = {}


def made(name, cmd):
    MADE[name] = cmd


for f in ("v7", "oldgnu", "gnu", "ustar", "posix"):
    made(f"gnu-{f}.tar", f"tar --format={f} -cf @ disk.raw")
for f in ("oldgnu", "gnu"):
    made(f"sparse-{f}.tar", f"tar --format={f} -Scf @ disk.raw")
for v in ("0.0", "0.1", "1.0"):
    made(f"sparse-pax{v}.tar",
         f"tar --format=posix --sparse-version={v} -Scf @ disk.raw")
for f in ("pax", "gnutar", "ustar", "v7"):
    made(f"bsd-{f}.tar", f"bsdtar --format={f} -cf @ disk.raw")
made("bsd-sparse.tar", "bsdtar --read-sparse --format=pax -cf @ disk.raw")
for n, f in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT),
             ("ustar", tarfile.USTAR_FORMAT)):
    made(f"python-{n}.tar", lambda p, f=f: images.python_tar(disk, p, f))
LONG = "/".join(["a-folder-with-a-rather-long-name"] * 9) + "/disk.raw"
made("long-gnu.tar", lambda p: images.python_tar(disk, p, tarfile.GNU_FORMAT, LONG))
made("long-pax.tar", lambda p: images.python_tar(disk, p, tarfile.PAX_FORMAT, LONG))
made("gce.tar.gz", "tar --format=oldgnu -Sczf @ disk.raw")
made("plain.tar.gz", "tar -czf @ disk.raw")
T = "tar --format=oldgnu -Scf - disk.raw | "
made("pigz.tar.gz", T + "pigz -c > @")
made("pigzi.tar.gz", T + "pigz -ic > @")
made("bgzf.tar.gz", T + "bgzip -c > @")
made("members.tar.gz", T + "split -b 1M --filter='gzip -c' - > @")
made("padded.tar.gz", T + "gzip -c > @; head -c 4096 /dev/zero >> @")
made("dictzip.tar.dz", T + "cat > @.t; dictzip @.t; mv @.t.dz @")
made("dictzip.raw.dz", "cp disk.raw @.t; dictzip @.t; mv @.t.dz @")
made("dictzip99.raw.dz", lambda p: images.dictzip99(disk, p))
made("dictzip99.tar.dz", lambda p: images.dictzip99(www + "/gnu-gnu.tar", p))
made("everything.raw.gz", lambda p: images.gzip_with_everything(disk, p))
made("gzip.raw.gz", "gzip -c disk.raw > @")
made("twice.raw.gz.gz", "gzip -c disk.raw | gzip -c > @")
for c in ("0.10", "1.1"):
    for s in ("512", "4k", "64k", "2M"):
        made(f"plain-{c}-{s}.qcow2", "qemu-img convert -O qcow2 -o "
             f"compat={c},cluster_size={s} disk.raw @")
        made(f"zlib-{c}-{s}.qcow2", "qemu-img convert -c -O qcow2 -o "
             f"compat={c},cluster_size={s} disk.raw @")
for s in ("4k", "64k", "2M"):
    made(f"zstd-{s}.qcow2", "qemu-img convert -c -O qcow2 -o "
         f"compression_type=zstd,cluster_size={s} disk.raw @")
made("subclusters.qcow2", "qemu-img convert -O qcow2 -o extended_l2=on,cluster_size=128k "
     "disk.raw @")
made("q.qcow2.gz", "gzip -c zlib-1.1-64k.qcow2 > @")
made("q.qcow2.dz", "cp plain-1.1-64k.qcow2 @.t; dictzip @.t; mv @.t.dz @")
made("q.tar.gz", "tar -czf @ zlib-1.1-64k.qcow2")
made("q2.tar", "tar -cf @ plain-0.10-64k.qcow2")
made("metadata.box", "echo {} > metadata.json; cp plain-1.1-64k.qcow2 box.img; "
     "tar -czf @ metadata.json box.img")

sh(f"cp {disk} {tmp}/truth")
truth = tmp + "/truth"
server = nginx = None


def start():
    global server, nginx
    if server is None:
        nginx = Nginx(www)
        server = Platterd({"web": nginx.url(), "lab": www}, "--cache-size", "64M")


def check(name):
    path = www + "/" + name
    start()
    url = "/disk/web/" + name
    for round in ("cold", "warm"):
        for off, n in slices(size, 4):
            got = server.range(url, off, n)
            assert got == part(truth, off, n), (round, off, n)
    head = server.get(url, method="HEAD")
    assert head.getheader("Content-Length") == str(size)
    whole = server.get(url)
    assert hashlib.sha256(whole.body).hexdigest() == digest
    assert whole.getheader("ETag") == head.getheader("ETag")
    for off, n in slices(size, 2):
        got = platter("read", "--offset", str(off), "--length", str(n), path)
        assert got.stdout == part(truth, off, n), (off, n)
    said = json.loads(server.get("/v1/info/lab/" + name).body)
    own = json.loads(platter("info", "--json", path).stdout)
    for key in ("virtual-size", "format", "cluster-size", "format-specific"):
        assert said.get(key) == own.get(key), key
    # An unknown size is left out until somebody has had to find it.
    assert said.get("virtual-size", size) == size
    assert [l["driver"] for l in said["layers"]] == \
        [l["driver"] for l in own["layers"]]


for name, how in MADE.items():
    def run(name=name, how=how):
        path = www + "/" + name
        if callable(how):
            how(path)
        else:
            sh(how.replace("@", name), cwd=www)
        check(name)
    case(f"{name}: every range equals the disk, cold and warm")(run)


@case("a disk deep in an archive of five thousand members is found by its name")
def deep():
    start()
    many = tmp + "/many"
    os.makedirs(many)
    for i in range(5000):
        with open(f"{many}/file-{i:04}", "w") as f:
            f.write(str(i))
    sh(f"tar -cf {www}/deep.tar -C {many} $(seq -f file-%04g 0 2500) "
       f"-C {www} disk.raw -C {many} $(seq -f file-%04g 2501 4999); "
       f"gzip -kf {www}/deep.tar")
    for n in ("deep.tar", "deep.tar.gz"):
        for off, k in slices(size, 4):
            assert server.range(f"/disk/web/{n}?member=disk.raw", off, k) == \
                part(truth, off, k)
        assert server.range(f"/disk/web/{n};member=disk.raw", 0, 512) == \
            part(truth, 0, 512)
    rows = json.loads(server.get("/v1/members/lab/deep.tar").body)
    names = sh(f"tar -tf {www}/deep.tar").decode().split()
    assert [r["name"] for r in rows] == names
    assert [r["name"] for r in rows if r["candidate"]] == ["disk.raw"]


@case("hard links lead to the file that they stand for")
def links():
    start()
    sh("ln -f disk.raw link.raw; tar -cf links.tar disk.raw link.raw; rm link.raw",
       cwd=www)
    assert server.range("/disk/web/links.tar?member=link.raw", 0, 4096) == \
        part(truth, 0, 4096)


@case("disks over 4 GiB and over 2 TiB, sparse")
def huge():
    start()
    G = 1 << 30
    for name, n, spots in (("five.raw", 5 * G, [0, 4 * G - 4096, 4 * G + 8192]),
                           ("three.raw", 3072 * G, [0, 2048 * G - 4096, 3071 * G])):
        images.sparse_disk(www + "/" + name, n, spots)
        sh(f"tar --format=oldgnu -Scf {name}.tar {name}; gzip -kf {name}.tar;"
           f"tar --format=posix --sparse-version=1.0 -Scf {name}.pax.tar {name};"
           f"qemu-img convert -O qcow2 {name} {name}.qcow2", cwd=www)
        for f in (".tar", ".tar.gz", ".pax.tar", ".qcow2", ""):
            url = f"/disk/lab/{name}{f}"
            head = server.get(url, method="HEAD")
            assert head.getheader("Content-Length") == str(n), (url, head.headers)
            for off in spots + [n // 3]:
                for o in (off, max(0, off - 1000)):
                    assert server.range(url, o, 20000) == \
                        part(www + "/" + name, o, 20000), (url, o)
        os.remove(www + "/" + name)


@case("a stream that decodes to more than 4 GiB, where ISIZE has wrapped")
def wraps():
    start()
    with open(tmp + "/tail", "wb") as f:
        f.write(os.urandom(100000))
    sh(f"(head -c 4300M /dev/zero; cat {tmp}/tail) | pigz -1 -c > big.raw.gz",
       cwd=www, timeout=600)
    n = 4300 << 20
    r = server.get("/disk/lab/big.raw.gz?layers=gzip", {"Range": "bytes=-100000"})
    assert r.status == 206 and r.body == open(tmp + "/tail", "rb").read()
    assert r.getheader("Content-Range").endswith("/" + str(n + 100000))
    assert server.range("/disk/lab/big.raw.gz?layers=gzip", n - 50, 100) == \
        bytes(50) + part(tmp + "/tail", 0, 50)
    # All blocks of it have the same codes: points are found nevertheless.
    index = json.loads(server.get("/v1/index/lab/big.raw.gz?layers=gzip&format=json").body)
    assert index["points"] > 400, index


@case("qcow2 with unaligned length, zero clusters, discards, at the file's end")
def oddities():
    start()
    sh("qemu-img create -q -f qcow2 -o cluster_size=64k odd.qcow2 10000384;"
       "qemu-io -c 'write -P 1 0 100k' -c 'write -z 64k 128k' -c 'write -P 2 9M 1000k' "
       "-c 'discard 9M 64k' -c 'write -P 9 9900032 100352' odd.qcow2 > /dev/null;"
       "qemu-img convert -O raw odd.qcow2 odd.raw.truth", cwd=www)
    t = www + "/odd.raw.truth"
    n = os.path.getsize(t)
    r = server.get("/disk/lab/odd.qcow2")
    assert r.body == open(t, "rb").read() and len(r.body) == n


@case("overlays over overlays read as qemu-img reads them, from a folder and a web server")
def overlays():
    start()
    sh("qemu-img create -q -f qcow2 -b gce-base.raw -F raw o1.qcow2 24M 2>/dev/null || true;"
       "cp disk.raw gce-base.raw; qemu-img create -q -f qcow2 -b gce-base.raw -F raw o1.qcow2;"
       "qemu-io -c 'write -P 7 1M 100k' -c 'write -z 3M 64k' o1.qcow2 > /dev/null;"
       "qemu-img create -q -f qcow2 -b o1.qcow2 -F qcow2 o2.qcow2 30M;"
       "qemu-io -c 'write -P 8 2M 70k' o2.qcow2 > /dev/null;"
       "qemu-img convert -O raw o2.qcow2 o2.truth", cwd=www)
    t = open(www + "/o2.truth", "rb").read()
    for o in ("lab", "web"):
        assert server.get(f"/disk/{o}/o2.qcow2").body == t


@case("specs as QEMU's dictzip and tar drivers wrote them")
def specs():
    start()
    for spec in ("tar:dzip:" + nginx.url() + "gce.tar.gz",
                 "tar://dzip://" + nginx.url() + "dictzip.tar.dz",
                 "tar{member=disk.raw}:gzip:" + www + "/gce.tar.gz",
                 "dzip:" + www + "/dictzip.raw.dz",
                 "qcow2:tar:gzip:" + www + "/q.tar.gz",
                 json.dumps({"layers": [{"driver": "tar", "member": "disk.raw"},
                                        {"driver": "gzip"}],
                             "source": www + "/gce.tar.gz"})):
        got = platter("read", "--offset", "1M", "--length", "64k", spec).stdout
        assert got == part(truth, 1 << 20, 65536), spec


@case("layers= pins the stack, and /raw is the file as it is")
def pinned():
    start()
    f = open(www + "/q.tar.gz", "rb").read()
    assert server.get("/raw/web/q.tar.gz").body == f
    assert server.get("/disk/web/q.tar.gz?layers=").body == f
    r = server.get("/disk/lab/q.tar.gz?layers=tar,gzip")
    assert r.body[:4] == b"QFI\xfb"


main()
