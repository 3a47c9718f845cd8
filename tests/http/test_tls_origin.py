# SPDX-License-Identifier: Apache-2.0
"""Origins behind TLS, with HTTP/2, over a line of 20 ms.  The product has no
option for certificates of its own: what the system trusts is trusted.  So the
test's own certificates are put into the system's file, in a mount namespace that
ends with the test."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import wan, images

line = wan.Line(20)
www = tmp + "/www"
os.makedirs(www)
N = 12 << 20
data = random.randbytes(N)
open(www + "/f.bin", "wb").write(data)
images.guest_disk(www + "/disk.raw", 16)
sh("qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw s.vmdk; "
   "qemu-img convert -O qcow2 disk.raw x.qcow2", cwd=www)


def certificate(name, at=None, days=2, ca=None):
    """A CA, and a key and certificate of the far host under it."""
    d = f"{tmp}/{name}"
    os.makedirs(d)
    sh(f"cp {ca}/ca.* {d}" if ca else f"""cd {d}; openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} \
 -keyout ca.key -out ca.pem""")
    sh(f"""cd {d}
openssl req -newkey rsa:2048 -nodes -subj /CN={wan.FAR} -keyout host.key -out host.csr
printf 'subjectAltName=IP:{at or wan.FAR}\\n' > ext
openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} \
 -extfile ext -out host.pem""")
    return d


trusted = certificate("trusted")
SYSTEM = "/etc/ssl/certs/ca-certificates.crt"
sh(f"cat {SYSTEM} {trusted}/ca.pem > {tmp}/bundle; mount --bind {tmp}/bundle {SYSTEM}")
web = wan.FarNginx(line, www, tls=(f"{trusted}/host.pem", f"{trusted}/host.key"))


def start():
    return Platterd({"web": web.url()}, "--revalidate", "600")


@case("an origin with HTTP/2 is read with it, byte for byte")
def http2():
    web.forget()
    s = start()
    assert s.get("/raw/web/f.bin").body == data
    for name in ("s.vmdk", "x.qcow2", "disk.raw"):
        for off, n in slices(16 << 20, 4):
            assert s.range("/disk/web/" + name, off, n) == part(www + "/disk.raw", off, n)
    s.stop()
    assert {r[6] for r in web.requests()} == {"HTTP/2.0"}, web.requests()


@case("... and opening an image costs the waves that it costs without")
def cold():
    for name in ("s.vmdk", "x.qcow2", "disk.raw"):
        s = start()
        web.forget()
        assert s.range("/disk/web/" + name, 0, 65536) == part(www + "/disk.raw", 0, 65536)
        rows = web.requests()
        assert wan.waves(rows, 0.02) == 1, (name, rows)
        s.stop()


@case("ranges that are far apart go over one connection at once")
def multiplexed():
    s = start()
    s.range("/raw/web/f.bin", 0, 10)
    web.forget()
    spans = [(i << 20, (i << 20) + 999) for i in range(1, 9)]
    r = s.get("/raw/web/f.bin", {"Range": "bytes=" + ",".join(f"{a}-{b}" for a, b in spans)})
    assert r.status == 206 and all(data[a:b + 1] in r.body for a, b in spans)
    s.stop()
    rows = web.requests()
    assert len(rows) <= 10 and len({r[1] for r in rows}) == 1, rows
    assert wan.waves(rows, 0.02) == 1, rows


@case("a certificate that the system does not trust is refused")
def untrusted():
    other = certificate("untrusted")
    web.stop()
    bad = wan.FarNginx(line, www, tls=(f"{other}/host.pem", f"{other}/host.key"))
    s = start()
    problem(s.get("/raw/web/f.bin"), 502, "origin")
    s.stop()
    bad.stop()


def refuses(folder, words, more=""):
    bad = wan.FarNginx(line, www, tls=(f"{folder}/host.pem", f"{folder}/host.key"), more=more)
    s = start()
    try:
        problem(s.get("/raw/web/f.bin"), 502, "origin")
        for _ in range(100):  # the line comes after the answer
            if "event=request" in s.text():
                break
            time.sleep(0.05)
        assert re.search(words, s.text()), s.text()[-800:]
    finally:
        s.stop()
        bad.stop()


@case("a certificate that has expired is refused, and the log says so")
def expired():
    refuses(certificate("expired", days=-1, ca=trusted), "certificate has expired")


@case("a certificate of another name is refused, and the log says so")
def wrong_name():
    refuses(certificate("misnamed", at="192.0.2.1", ca=trusted), "does not match|no alternative")


@case("a server that knows no TLS of our days is refused")
def downgraded():
    refuses(trusted, "protocol version|unsupported protocol|wrong version",
            "ssl_protocols TLSv1 TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;")


main()
