# SPDX-License-Identifier: Apache-2.0
"""What no image, no redirect and no client may have the gateway open or contact.

Canary files lie outside of the origins, and the kernel (inotify) tells whether
anybody opened one; canary ports count who connects.  Every attack is made with the
tools that make such images, alone, in archives, and behind a web server; at the end
both canaries must be alive, which is shown by touching them."""
import ctypes, http.server, os, struct, sys
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

lab, web, out = (tmp + "/" + n for n in ("lab", "web", "outside"))
for d in (lab, web, out, lab + "/sub", out + "/sub"):
    os.makedirs(d)
SECRET = b"canary-" + random.randbytes(16).hex().encode()
MIB = 1 << 20


class Watch:
    """How often somebody has opened or read one of these files since the last look."""
    OPEN, ACCESS = 0x20, 0x1

    def __init__(self, *paths):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        for p in paths:
            assert self.libc.inotify_add_watch(self.fd, p.encode(), self.OPEN | self.ACCESS) >= 0

    def count(self):
        try:
            return len(os.read(self.fd, 1 << 20)) // 16
        except BlockingIOError:
            return 0


class Canary:
    """A port that counts who connects."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port, self.n = self.sock.getsockname()[1], 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            c, _ = self.sock.accept()
            self.n += 1
            c.close()


def fill(path):
    with open(path, "wb") as f:
        f.write(SECRET * (MIB // len(SECRET) + 1))
        f.truncate(MIB)


port = Canary()
HOST = out + "/canary.raw"
NAMES = [HOST, "../outside/canary.raw", "sub/../../outside/canary.raw", "./../outside/canary.raw",
         "json:" + json.dumps({"driver": "file", "filename": HOST}),
         "json:" + json.dumps({"driver": "raw", "file": {"driver": "file", "filename": HOST}}),
         "json:" + json.dumps({"driver": "http", "url": f"http://127.0.0.1:{port.port}/x"}),
         f"nbd:127.0.0.1:{port.port}", f"nbd://127.0.0.1:{port.port}/x", f"ssh://127.0.0.1:{port.port}/x",
         f"http://127.0.0.1:{port.port}/x.raw", f"https://127.0.0.1:{port.port}/x.raw",
         f"ftp://127.0.0.1:{port.port}/x", "file:" + HOST, "file://" + HOST, "fat:rw:" + out,
         "/proc/self/environ", "/dev/zero", "host_device:/dev/zero", "blkdebug::" + HOST,
         "\\\\127.0.0.1\\x", "//127.0.0.1/x", "sub//../../outside/canary.raw", ".", "..", "sub", "sub/"]
LINKS = ["link.raw", "sub/link.raw", "linked/canary.raw"]
os.symlink(HOST, lab + "/link.raw")
os.symlink("../../outside/canary.raw", lab + "/sub/link.raw")
os.symlink("../outside", lab + "/linked")
os.symlink("/proc/self/environ", lab + "/magic.raw")
os.symlink("/proc/self/root" + HOST, lab + "/magic2.raw")
LINKS += ["magic.raw", "magic2.raw"]
fill(HOST)


def qcow2_header(path, backing=None, data_file=None, fmt=b"raw"):
    """A header as qemu-img writes it, with names that it would not write."""
    sh(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"])
    with open(path, "r+b") as f:
        ext = b""
        if backing is not None:
            ext += struct.pack(">II", 0xE2792ACA, len(fmt)) + fmt + bytes(-len(fmt) % 8)
        if data_file is not None:
            d = data_file.encode()
            ext += struct.pack(">II", 0x44415441, len(d)) + d + bytes(-len(d) % 8)
            f.seek(72)
            f.write(struct.pack(">Q", 1 << 2))  # incompatible: external data file
        f.seek(100)
        size = struct.unpack(">I", f.read(4))[0]
        f.seek(size)
        f.write(ext + bytes(8))
        if backing is not None:
            b = backing.encode()
            f.seek(8)
            f.write(struct.pack(">QI", 8192, len(b)))
            f.seek(8192)
            f.write(b)


def descriptor(path, extents="", parent=None):
    with open(path, "w") as f:
        f.write("# Disk DescriptorFile\nversion=1\nCID=12345678\n"
                f"parentCID={'abcdabcd' if parent else 'ffffffff'}\n"
                f"createType=\"{'monolithicSparse' if parent else 'twoGbMaxExtentFlat'}\"\n"
                + (f'parentFileNameHint="{parent}"\n' if parent else "") + extents)


def attacks(folder, names):
    """Files whose names say what they try."""
    made = []
    for i, name in enumerate(names):
        for kind in ("backing", "probed", "data", "flat", "sparse", "zero", "parent"):
            path = f"{folder}/{kind}{i}.{'vmdk' if kind in ('flat', 'sparse', 'zero', 'parent') else 'qcow2'}"
            if kind == "backing":
                qcow2_header(path, backing=name)
            elif kind == "probed":
                qcow2_header(path, backing=name, fmt=b"qcow2")
            elif kind == "data":
                qcow2_header(path, data_file=name)
            elif '"' in name and kind != "flat":
                continue
            elif kind == "flat":
                descriptor(path, f'RW 2048 FLAT "{name}" 0\n')
            elif kind == "sparse":
                descriptor(path, f'RW 2048 SPARSE "{name}"\n')
            elif kind == "zero":
                descriptor(path, f'RW 1024 ZERO\nRW 1024 VMFS "{name}"\n')
            else:
                descriptor(path, 'RW 2048 ZERO\n', parent=name)
            made.append(os.path.basename(path))
    return made


LAB = attacks(lab, NAMES + LINKS)
WEB = attacks(web, NAMES)
nginx = Nginx(web)
server = Platterd({"lab": lab, "web": nginx.url()})
watch = Watch(HOST, out)


def untouched(what):
    n = watch.count()
    assert n == 0 and port.n == 0, (what, n, port.n)


def refuse(path, status=(403, 404, 502)):
    """Every way to ask; the answer discloses nothing."""
    for route in ("/disk/", "/v1/info/", "/v1/extents/", "/v1/check/"):
        r = server.get(route + path)
        assert SECRET not in r.body and HOST.encode() not in r.body, (route, path, r.body[:300])
        if route in ("/disk/", "/v1/extents/"):
            assert r.status in status, (route, path, r.status, r.body[:300])
            assert json.loads(r.body)["request_id"]


@case("backing files, data files, extents and parents anywhere but beside the image: refused")
def named():
    for name in LAB:
        refuse("lab/" + name)
        untouched(name)
    for name in WEB:
        refuse("web/" + name)
        untouched(name)


@case("the same in a tar.gz, a Vagrant box and an OVA")
def wrapped():
    for i in (0, 1, 4, 6, 10, 13):
        for kind, ext in (("backing", "qcow2"), ("data", "qcow2"), ("flat", "vmdk")):
            name = f"{kind}{i}.{ext}"
            for folder in (lab, web):
                sh(f"tar czf w{name}.tar.gz {name}; cp {name} box.img; tar czf w{name}.box box.img;"
                   f"tar cf w{name}.ova {name}", cwd=folder)
            for w in (f"w{name}.tar.gz", f"w{name}.box", f"w{name}.ova"):
                for origin in ("lab", "web"):
                    refuse(f"{origin}/{w}", (403, 404, 502, 501))
            untouched(name)


@case("links that lead out, magic links, folders, pipes, devices and sockets as images: refused")
def files():
    os.mkfifo(lab + "/pipe.raw")
    s = socket.socket(socket.AF_UNIX)
    s.bind(lab + "/socket.raw")
    if os.getuid() == 0:
        os.mknod(lab + "/null.raw", 0o020666, os.makedev(1, 3))
    for name in LINKS + ["pipe.raw", "socket.raw", "null.raw", "sub"]:
        for route in ("/disk/lab/", "/raw/lab/"):
            r = server.get(route + name)
            assert r.status in (403, 404), (name, r.status)
            assert SECRET not in r.body
    untouched("links")


@case("no spelling of a path leaves the folder, on the wire")
def spellings():
    for p in ("../outside/canary.raw", "%2e%2e/outside/canary.raw", "..%2foutside%2fcanary.raw",
              "%2e%2e%2foutside/canary.raw", "sub/../../outside/canary.raw", HOST, "/" + HOST,
              "%2F" + HOST[1:].replace("/", "%2F"), "..%5coutside%5ccanary.raw", "..\\outside\\canary.raw",
              "%c0%ae%c0%ae/outside/canary.raw", "%e0%80%ae%e0%80%ae/outside/canary.raw",
              "%252e%252e/outside/canary.raw", "..;/outside/canary.raw", "..;x=y/outside/canary.raw",
              ".%00./outside/canary.raw", "sub/.../../../outside/canary.raw", "file://" + HOST,
              "disk.raw%00/../../outside/canary.raw", "%u002e%u002e/outside/canary.raw",
              "..%ef%bc%8foutside/canary.raw", "link.raw", "sub/link.raw", "linked/canary.raw"):
        for route in ("disk", "raw", "v1/info", "v1/index"):
            r = server.raw(f"GET /{route}/lab/{p} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert int(r.split(b" ")[1]) in (400, 403, 404), (p, r[:80])
            assert SECRET not in r
    for p in (f"/disk/http://127.0.0.1:{port.port}/x", f"/disk/web/http://127.0.0.1:{port.port}/x",
              f"/disk/web//127.0.0.1:{port.port}/x", f"/disk/web/@127.0.0.1:{port.port}/x",
              f"/disk/web/%40127.0.0.1:{port.port}/x", f"/disk/web/..%2f..%2f@127.0.0.1:{port.port}/"):
        r = server.raw(f"GET {p} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert int(r.split(b" ")[1]) in (400, 403, 404), (p, r[:80])
    untouched("spellings")


@case("selectors and registrations name no file, no layer with a place, no other origin")
def options():
    with open(lab + "/plain.raw", "wb") as f:
        f.truncate(MIB)
    for q in (f"layers=file", f"layers=curl", f"layers=raw,curl", f"layers=qcow2:{HOST}", f"member={HOST}",
              f"layers=raw{{path={HOST}}}", "layers=../x", f"snapshot={HOST}", f"secret={HOST}",
              f"secret=../outside/canary.raw", f"layers=tar,gzip:http://127.0.0.1:{port.port}/"):
        r = server.get("/disk/lab/plain.raw?" + q)
        # a key is asked for by nothing but an encrypted layer
        assert r.status in (400, 403, 404, 502, 501) or (q[:7] == "secret=" and r.status == 200), q
    gate = Platterd({"lab": lab}, "--state", tmp + "/state")
    for source in (HOST, "lab/../outside/canary.raw", "lab/link.raw", f"http://127.0.0.1:{port.port}/x",
                   "file://" + HOST, "lab//" + HOST, "nowhere/x", "json:{}", "lab/x?member=y"):
        body = json.dumps({"name": "evil", "source": source})
        r = gate.get("/v1/images", {"Content-Type": "application/json"}, "POST", body=body)
        assert r.status in (400, 201), (source, r.status)
        if r.status == 201:
            assert SECRET not in gate.get("/disk/evil").body
            gate.get("/v1/images/evil", method="DELETE")
    untouched("options")


@case("a disk that begins like an image gains nothing: pinned, or raw beneath an overlay")
def confusion():
    qcow2_header(lab + "/confused.raw", backing=HOST)
    with open(lab + "/confused.raw", "r+b") as f:
        f.truncate(MIB)
    refuse("lab/confused.raw")
    whole = open(lab + "/confused.raw", "rb").read()
    assert server.get("/disk/lab/confused.raw?layers=").body == whole
    assert server.get("/disk/lab/confused.raw?layers=raw").body == whole
    # the header says that the base is raw: it is, whatever it looks like (CVE-2008-2004)
    sh("qemu-img create -q -u -f qcow2 -b confused.raw -F raw over.qcow2 1M", cwd=lab)
    assert server.get("/disk/lab/over.qcow2").body == whole
    # the header does not say it: what is found may still name nothing outside
    sh("qemu-img create -q -u -f qcow2 over2.qcow2 1M", cwd=lab)
    with open(lab + "/over2.qcow2", "r+b") as f:
        f.seek(8)
        f.write(struct.pack(">QI", 8192, 12))
        f.seek(8192)
        f.write(b"confused.raw")
    refuse("lab/over2.qcow2")
    untouched("confusion")


class Leader(http.server.BaseHTTPRequestHandler):
    """Answers as the path says: /REDIRECT-TARGET-NUMBER/..."""
    targets, seen = [], []

    def do_GET(self):
        self.seen.append(self.headers)
        n = re.match(r"/img/(\d+)/", self.path)
        if not n:
            self.send_error(404)
            return
        n = int(n[1])
        self.send_response([301, 302, 303, 307, 308][n % 5])
        self.send_header("Location", self.targets[n])
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@case("redirects: another port, host, scheme, folder or user, in a circle, without end: refused")
def redirects():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Leader)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    me = httpd.server_port
    Leader.targets = [
        f"http://127.0.0.1:{port.port}/x", f"https://127.0.0.1:{port.port}/x", f"//127.0.0.1:{port.port}/x",
        f"http://localhost:{port.port}/x", f"http://[::ffff:127.0.0.1]:{port.port}/x",
        f"http://127.1:{port.port}/x", f"http://2130706433:{port.port}/x", f"http://0x7f.1:{port.port}/x",
        f"http://0:{port.port}/x", f"http://127.0.0.1:{me}@127.0.0.1:{port.port}/x",
        f"http://u:p@127.0.0.1:{me}/img/0", f"ftp://127.0.0.1:{port.port}/x", "file://" + HOST, HOST,
        "/elsewhere/x", "../../elsewhere", "http://169.254.169.254/latest/meta-data/", f"gopher://127.0.0.1:{port.port}/",
        f"http://127.0.0.1:{me}\\@127.0.0.1:{port.port}/x", f"http:\\\\127.0.0.1:{port.port}\\x",
        f"http://127.0.0.1:{port.port}\t/x", "/img/20/a", "", "dict://127.0.0.1/", f"/img/../x"]
    Leader.targets[21] = "/img/21/a"  # a circle
    gate = Platterd({"lead": f"http://127.0.0.1:{me}/img/"}, "--deadline", "5")
    for n in range(len(Leader.targets)):
        for route in ("/disk/", "/raw/", "/v1/info/"):
            r = gate.get(f"{route}lead/{n}/disk.raw")
            assert r.status in (403, 502, 504), (Leader.targets[n], r.status, r.body)
            assert SECRET not in r.body
        untouched(Leader.targets[n])
    assert len(Leader.seen) < 40 * len(Leader.targets), "a circle is followed so often"
    httpd.shutdown()


@case("tar members that are links out, absolute or with dots; an OVF with entities")
def archives():
    import tarfile
    with tarfile.open(lab + "/links.tar", "w") as t:
        for name, kind, link in (("disk.raw", tarfile.SYMTYPE, HOST), ("disk2.raw", tarfile.LNKTYPE, HOST),
                                 ("../../outside/canary.raw", tarfile.REGTYPE, ""),
                                 (HOST, tarfile.REGTYPE, ""), ("disk3.raw", tarfile.CHRTYPE, ""),
                                 ("disk4.raw", tarfile.LNKTYPE, "../outside/canary.raw")):
            m = tarfile.TarInfo(name)
            m.type, m.linkname = kind, link
            t.addfile(m)
    for q in ("", "?member=disk.raw", "?member=disk2.raw", "?member=disk3.raw", "?member=disk4.raw",
              "?member=../../outside/canary.raw", "?member=" + HOST):
        r = server.get("/disk/lab/links.tar" + q)
        assert SECRET not in r.body and r.status in (200, 300, 400, 404, 501, 502), (q, r.status)
        assert r.status != 200 or not r.body, q  # an empty member of that name, in the archive
    with open(lab + "/evil.ovf", "w") as f:
        f.write(f'<?xml version="1.0"?><!DOCTYPE e [<!ENTITY x SYSTEM "file://{HOST}">'
                f'<!ENTITY y SYSTEM "http://127.0.0.1:{port.port}/y">]>'
                f'<Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><References>'
                f'<File ovf:href="{HOST}" ovf:id="a"/></References>&x;&y;</Envelope>')
    sh("truncate -s 1M a.raw; tar cf evil.ova evil.ovf a.raw", cwd=lab)
    refuse("lab/evil.ova", (200, 300, 403, 404, 501, 502))
    untouched("archives")


@case("the canaries can sing: whoever opens the file or connects is seen")
def alive():
    open(HOST, "rb").read(10)
    socket.create_connection(("127.0.0.1", port.port)).close()
    time.sleep(0.2)
    assert watch.count() > 0 and port.n == 1
    assert SECRET.decode() not in server.text()


main()
