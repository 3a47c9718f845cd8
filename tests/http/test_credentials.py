# SPDX-License-Identifier: Apache-2.0
"""What origins and gateways are shown: tokens, cookies, certificates of clients, and
authorities of one's own; to nginx, to platterd itself, and to nobody else."""
import http.server, os, sys
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
os.chdir(tmp)
N = 3 << 20
DATA = random.randbytes(N)
open(www + "/f.raw", "wb").write(DATA)
sh("tar czf x.tar.gz f.raw", cwd=www)
TOKEN = "sesame-" + random.randbytes(12).hex()


def write(name, text):
    with open(f"{tmp}/{name}", "w") as f:
        f.write(text)
    return f"{tmp}/{name}"


def certificate(name, san, ca="ca", use="serverAuth"):
    write(name + ".ext", f"extendedKeyUsage={use}\nsubjectAltName={san}\n")
    sh(f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name}"
       f" -keyout {name}.key -out {name}.csr; openssl x509 -req -in {name}.csr -CA {ca}.pem"
       f" -CAkey {ca}.key -CAcreateserial -days 5 -extfile {name}.ext -out {name}.crt;"
       f"cat {name}.crt {name}.key > {name}.pem")


for ca in ("ca", "other"):
    sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9"
       f" -subj /CN={ca} -keyout {ca}.key -out {ca}.pem")
certificate("host", "IP:127.0.0.1")
certificate("me", "DNS:edge.example", use="clientAuth")
certificate("stranger", "DNS:edge.example", "other", "clientAuth")
HEADERS = write("headers", f"# for the store\nAuthorization: Bearer {TOKEN}\n\nCookie: session=1; x=y\n")


class Closed(Nginx):
    """TLS, a certificate of the client, a token and a cookie, or 401."""

    def __init__(self, root):
        self.root, self.port = root, free_port()
        self.dir = tempfile.mkdtemp(dir=tmp)
        self.log = self.dir + "/access.log"
        user = "user root;" if os.getuid() == 0 else ""
        with open(self.dir + "/conf", "w") as f:
            f.write(f"""{user} worker_processes 1; daemon off; pid {self.dir}/pid;
error_log {self.dir}/err; events {{ worker_connections 512; }}
http {{ access_log {self.log}; client_body_temp_path {self.dir}/t; proxy_temp_path {self.dir}/t;
fastcgi_temp_path {self.dir}/t; uwsgi_temp_path {self.dir}/t; scgi_temp_path {self.dir}/t;
server {{ listen 127.0.0.1:{self.port} ssl; root {root};
ssl_certificate {tmp}/host.crt; ssl_certificate_key {tmp}/host.key;
ssl_client_certificate {tmp}/ca.pem; ssl_verify_client on;
if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}
if ($http_cookie != "session=1; x=y") {{ return 403; }} }} }}""")
        self.start()

    def url(self):
        return f"https://127.0.0.1:{self.port}/"


nginx = Closed(www)
ALL = ("--origin-headers", "s=" + HEADERS, "--origin-ca", f"s={tmp}/ca.pem",
       "--origin-certificate", f"s={tmp}/me.pem")


@case("an origin that wants a token, a cookie and a certificate, under an authority of its own")
def shown():
    s = Platterd({"s": nginx.url()}, *ALL)
    assert s.get("/disk/s/f.raw").body == DATA
    assert s.range("/disk/s/x.tar.gz", 1 << 20, 70000) == DATA[1 << 20:][:70000]
    assert s.get("/raw/s/x.tar.gz").body == open(www + "/x.tar.gz", "rb").read()
    s.stop()
    path = write("s.json", json.dumps({"origins": {"s": {
        "url": nginx.url(), "headers": HEADERS, "ca": tmp + "/ca.pem", "certificate": tmp + "/me.pem"}}}))
    s = Platterd({}, "--config", path)
    assert s.range("/disk/s/f.raw", 5, 50) == DATA[5:55]
    text = s.text() + s.get("/metrics").body.decode() + open(f"/proc/{s.proc.pid}/cmdline").read()
    for route in ("/v1/info/s/f.raw", "/v1/origins", "/v1/images"):
        text += s.get(route).body.decode()
    assert TOKEN not in text and "session=1" not in text


@case("without one of them it is refused, as the origin refuses it")
def lacking():
    for leave, status in ((0, 403), (2, 502), (4, 502)):
        s = Platterd({"s": nginx.url()}, *ALL[:leave], *ALL[leave + 2:])
        r = s.get("/disk/s/f.raw")
        # nginx answers 400 to who shows no certificate
        assert r.status == status, (leave, r.status, r.body)
        s.stop()
    s = Platterd({"s": nginx.url()}, *ALL[:4], "--origin-certificate", f"s={tmp}/stranger.pem")
    assert s.get("/disk/s/f.raw").status in (403, 502)
    s.stop()
    s = Platterd({"s": nginx.url()}, *ALL[:2], "--origin-ca", f"s={tmp}/other.pem", *ALL[4:])
    problem(s.get("/disk/s/f.raw"), 502, "origin")


class Plain(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        if self.path in self.server.to:
            self.send_response(302)
            self.send_header("Location", self.server.to[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.send_header("ETag", '"x"')
        self.end_headers()
        self.wfile.write(DATA[:1000])

    def log_message(self, *_):
        pass


def plain():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    httpd.seen, httpd.to = [], {}
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    return httpd


@case("what is shown to one origin is never shown to another, nor outside of its prefix")
def stays():
    a, b = plain(), plain()
    a.to = {"/in/there": b.url + "/x", "/in/here": "/in/sub/x", "/in/out": "/free/x"}
    other = write("other-headers", "X-Key: of-b\n")
    sub = write("sub-headers", "X-Key: of-sub\n")
    s = Platterd({"a": a.url + "/in/", "sub": a.url + "/in/sub/", "free": a.url + "/free/", "b": b.url + "/"},
                 "--origin-headers", "a=" + HEADERS, "--origin-headers", "b=" + other,
                 "--origin-headers", "sub=" + sub)
    for name in ("there", "here", "out", "x"):
        assert s.get(f"/raw/a/{name}").body == DATA[:1000], name
    for path, h in a.seen:
        mine = h.get("Authorization")
        want = f"Bearer {TOKEN}" if re.fullmatch(r"/in/\w+", path) else None
        assert mine == want, (path, mine)
        assert h.get("X-Key") == ("of-sub" if path.startswith("/in/sub/") else None), path
    assert b.seen and all("Authorization" not in h and "Cookie" not in h and h["X-Key"] == "of-b"
                          for _, h in b.seen), b.seen


@case("a reload takes a new token")
def rotated():
    path = write("rotating", "Authorization: Bearer wrong\n")
    s = Platterd({"s": nginx.url()}, "--origin-headers", "s=" + path, *ALL[2:])
    assert s.get("/disk/s/f.raw").status == 403
    sh(f"cp {HEADERS} {path}")
    s.proc.send_signal(signal.SIGHUP)
    end = time.time() + 20
    while s.get("/disk/s/f.raw").status != 200:
        assert time.time() < end, s.text()[-800:]
        time.sleep(0.1)


@case("files that are no header fields, or fields that are not for others, are mistakes")
def mistakes():
    for text in ("Range: bytes=0-1\n", "host: evil\n", "Content-Length: 3\n", "no field\n", "A:\n", "A: b\x01\n",
                 ": x\n", "A b: c\n", "Transfer-Encoding: chunked\n", "A: b\0c\n", "A: " + "b" * 20000 + "\n"):
        path = write("bad", text)
        r = subprocess.run([BIN + "/platterd", "--origin", "s=http://h/", "--origin-headers", "s=" + path,
                            "--check-config"], capture_output=True, timeout=30)
        assert r.returncode == 2 and b"bad" in r.stderr, (text[:30], r)
    for flag in (("--origin-ca", "s=/none"), ("--origin-headers", "t=" + HEADERS),
                 ("--origin-certificate", "s=" + tmp), ("--origin-ca", "l=" + HEADERS)):
        r = subprocess.run([BIN + "/platterd", "--origin", "s=http://h/", "--origin", "l=" + www, *flag,
                            "--check-config"], capture_output=True, timeout=30)
        assert r.returncode == 2, flag


@case("platter with a gateway that wants a token over TLS: JSON, bytes, copies")
def command():
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    s = Platterd({"lab": www}, "--access", f"me=read,metadata:token:{digest}", "--access", "local=",
                 "--listen", "https://127.0.0.1:0", "--tls-certificate", tmp + "/host.crt",
                 "--tls-key", tmp + "/host.key", "--tls-client-ca", tmp + "/ca.pem",
                 "--access", "cert=read,metadata:certificate:edge.example")
    for _ in range(200):
        m = re.search(r"address=127.0.0.1:(\d+) tls=yes", s.text())
        if m:
            break
        time.sleep(0.05)
    gate = ["--gateway", f"https://127.0.0.1:{m[1]}", "--ca", tmp + "/ca.pem"]
    for show in (["--headers", HEADERS], ["--certificate", tmp + "/me.pem"]):
        info = json.loads(platter("info", "--json", *gate, *show, "lab/x.tar.gz").stdout)
        assert info["virtual-size"] == N
        assert platter("read", *gate, *show, "--offset", "99", "--length", "70000",
                       "lab/x.tar.gz").stdout == DATA[99:70099]
        platter("convert", "--quiet", *gate, *show, "lab/x.tar.gz", tmp + "/out.raw")
        assert open(tmp + "/out.raw", "rb").read() == DATA
        out = platter("checksum", *gate, *show, "lab/f.raw").stdout
        assert hashlib.sha256(DATA).hexdigest().encode() in out
    r = platter("info", *gate, "lab/f.raw", check=False)
    assert r.returncode == 1 and b"a token, a certificate" in r.stderr, r
    r = platter("read", *gate, "lab/f.raw", check=False)
    assert r.returncode == 1 and not r.stdout, r
    r = platter("info", *gate[:2], "--headers", HEADERS, "lab/f.raw", check=False)
    assert r.returncode == 1 and b"certificate" in r.stderr, r


main()
