# SPDX-License-Identifier: Apache-2.0
"""Answers that are sent from where their bytes lie in the cache: the same bytes as
copies, for clients fast and slow, whatever becomes of the image meanwhile, and a
bounded part of the memory."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

KIB, MIB = 1 << 10, 1 << 20
MOST = 256 * KIB  # that are lent to one answer
SIZE = 24 * MIB + 777
www = tmp + "/www"
os.makedirs(www)


def make(name, seed):
    """Noise and words, with holes; packed in each way that lends."""
    rng = random.Random(seed)
    data = bytearray(SIZE)
    at = 0
    while at < SIZE - 3 * MIB:
        n = rng.randrange(200 * KIB, 2 * MIB)
        data[at:at + n] = (rng.randbytes(n // 2).hex()).encode()[:n].ljust(n, b"x")
        at += n + rng.choice([0, 0, 70 * KIB, 900 * KIB])
    data = bytes(data[:SIZE])
    with open(f"{www}/{name}.raw", "wb") as f:
        f.write(data)
    sh(f"""cd {www}; tar --format=oldgnu -Scf {name}.tar {name}.raw; gzip -1c {name}.tar > {name}.tar.gz
bgzip -c {name}.raw > {name}.bgz; gzip -1c {name}.raw > {name}.gz""")
    return data


disk = make("d", 1)
nginx = Nginx(www)
origins = {"web": nginx.url(), "lab": www}
UNSENT = 64 * KIB
server = Platterd(origins, "--cache-size", "256M", "--revalidate", "600", unsent=UNSENT)
PATHS = ["/disk/web/d.tar.gz", "/disk/lab/d.gz", "/disk/web/d.bgz", "/disk/web/d.raw",
         "/disk/web/d.tar"]


def lent(s):
    return int(re.search(rb"^platter_cache_lent_bytes (\d+)", s.get("/metrics").body, re.M)[1])


def until(what, seconds=20):
    end = time.time() + seconds
    while not what():
        assert time.time() < end, "waited in vain"
        time.sleep(0.05)


def ask(s, path, off, n, more=""):
    """A client that has asked and does not read; with small segments, or the kernel's
    buffer for it would take 2 MiB."""
    c = socket.socket()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.settimeout(60)
    c.connect(("127.0.0.1", s.port))
    c.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
              f"Range: bytes={off}-{off + n - 1}\r\n{more}\r\n".encode())
    return c


def rest(c):
    """What it gets when it does: the head, and the body."""
    out = b""
    while True:
        more = c.recv(1 << 20)
        if not more:
            break
        out += more
    c.close()
    head, _, body = out.partition(b"\r\n\r\n")
    return head.decode(), body


@case("ranges of any length and place are the slice, lent or not, and HEAD and parts with them")
def ranges():
    for path in PATHS:
        assert hashlib.sha256(server.get(path).body).digest() == hashlib.sha256(disk).digest(), path
        spans = [(0, 128 * KIB - 1), (0, 128 * KIB), (1, MOST), (0, MOST + 1), (SIZE - MOST, MOST),
                 (SIZE - 128 * KIB, 128 * KIB), (SIZE - 3 * MIB, MOST), (SIZE - 200001, 200001)]
        for _ in range(60):
            n = random.randrange(100 * KIB, 300 * KIB)
            spans.append((random.randrange(SIZE - n), n))
        for off, n in spans:
            assert server.range(path, off, n) == disk[off:off + n], (path, off, n)
        r = server.get(path, {"Range": "bytes=5-300004"}, "HEAD")
        assert r.status == 200 and int(r.getheader("Content-Length")) == SIZE and not r.body
        r = server.get(path, {"Range": "bytes=0-199999,5000000-5299999"})
        assert r.status == 206 and disk[:200000] in r.body and disk[5000000:5300000] in r.body
        r = server.get(path, {"Range": f"bytes=7-{7 + 200000 - 1}", "Want-Content-Digest": "sha-256=1"})
        assert r.getheader("Content-Digest") and r.body == disk[7:200007]
        etag = r.getheader("ETag")
        r = server.get(path, {"Range": "bytes=7-200006", "If-None-Match": etag})
        assert r.status == 304 and not r.body
    assert lent(server) == 0


@case("each kind of layer lends: memory is lent while a client does not read")
def kinds():
    for path in PATHS:
        off = SIZE - 8 * MIB
        server.range(path, off, MOST)
        c = ask(server, path, off, MOST)
        until(lambda: lent(server) >= MOST // 2)
        head, body = rest(c)
        assert " 206 " in head and body == disk[off:off + MOST], path
        until(lambda: lent(server) == 0)


@case("vmdk: sparse, compressed, flat, over a parent: lent is what a copy is")
def vmdk():
    names = []
    for form in ("monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse"):
        names.append(form + ".vmdk")
        sh(f"qemu-img convert -f raw -O vmdk -o subformat={form} d.raw {form}.vmdk", cwd=www)
    names.append("child.vmdk")
    sh("qemu-img create -q -f vmdk -b monolithicSparse.vmdk -F vmdk child.vmdk;"
       "qemu-io -c 'write -P 7 9M 300k' child.vmdk", cwd=www)
    for name in names:
        sh(f"qemu-img convert -O raw {name} {name}.raw", cwd=www)
        want, path = open(f"{www}/{name}.raw", "rb").read(), "/disk/web/" + name
        assert server.get(path).body == want, name
        for _ in range(60):
            n = random.randrange(128 * KIB, MOST)
            off = random.choice([random.randrange(len(want) - n), 9 * MIB - n // 2, len(want) - n])
            assert server.range(path, off, n) == want[off:off + n], (name, off, n)
        off = 9 * MIB - 65000
        c = ask(server, path, off, MOST)
        until(lambda: lent(server) >= MOST // 2)
        head, body = rest(c)
        assert " 206 " in head and body == want[off:off + MOST], name
        until(lambda: lent(server) == 0)


@case("five hundred clients that do not read hold an eighth of the memory and harm nobody")
def slow():
    s = Platterd(origins, "--cache-size", "64M", "--revalidate", "600", unsent=UNSENT)
    s.get("/disk/web/d.tar.gz")
    most, cs = 0, []
    for i in range(500):
        off = random.randrange(SIZE - MOST)
        cs.append((ask(s, "/disk/web/d.tar.gz", off, MOST), off))
        if i % 50 == 0:
            most = max(most, lent(s))
    until(lambda: lent(s) > 6 * MIB)
    for _ in range(30):
        off = random.randrange(SIZE - MOST)
        assert s.range("/disk/web/d.tar.gz", off, MOST) == disk[off:off + MOST]
        assert s.range("/disk/web/d.raw", off, MOST) == disk[off:off + MOST]
        most = max(most, lent(s))
    assert most <= 8 * MIB, most
    for c, off in random.sample(cs, 40):
        head, body = rest(c)
        assert " 206 " in head and body == disk[off:off + MOST], head
    for c, _ in cs:
        c.close()
    until(lambda: lent(s) == 0)
    s.stop()


@case("an answer that has begun is the old version to its end, evicted, replaced and closed")
def changing():
    make("v", 2)
    with open(www + "/v.raw", "rb") as f:
        old = f.read()
    s = Platterd({"lab": www}, "--cache-size", "16M", "--revalidate", "1", "--max-open", "1",
                 unsent=UNSENT)
    off = 5 * MIB + 3
    s.get("/disk/lab/v.gz")
    while True:  # a worker's answer, when the source is due to be looked at, is a copy
        s.range("/disk/lab/v.gz", off, 250000)
        c = ask(s, "/disk/lab/v.gz", off, 250000)
        time.sleep(0.3)
        if lent(s):
            break
        c.close()
    os.rename(www + "/v.gz", www + "/v-old.gz")
    new = make("v", 3)
    time.sleep(1.1)
    for path, want in (("/disk/lab/v.gz", new), ("/disk/lab/d.gz", disk)):
        r = s.get(path)  # and all of the old one leaves the memory
        while r.status == 503:  # the one before is not closed yet
            time.sleep(0.1)
            r = s.get(path)
        assert r.status == 200 and r.body == want, (path, r.status, r.body[:300])
    head, body = rest(c)
    assert " 206 " in head and body == old[off:off + 250000], head
    assert s.get("/disk/lab/v.gz").getheader("ETag") not in head
    until(lambda: lent(s) == 0)
    s.stop()


@case("a client that leaves in the middle gives back what was lent to it")
def leaving():
    for _ in range(20):
        c = ask(server, PATHS[0], 3 * MIB, MOST)
        until(lambda: lent(server) > 0)
        c.close()
    until(lambda: lent(server) == 0)
    assert server.range(PATHS[0], 3 * MIB, MIB) == disk[3 * MIB:4 * MIB]


main()
