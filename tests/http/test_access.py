# SPDX-License-Identifier: Apache-2.0
"""Who may do what: rights, tokens, signed URLs, TLS and client certificates, unix
sockets, sockets of systemd, the audit log.  The clients are curl, openssl, qemu-img
and systemd-socket-activate; the expected codes of signed URLs come from Python's
hmac, not from ours."""
import base64, hmac, json, os, struct, sys, urllib.parse
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www + "/other")
os.chdir(tmp)
with open(www + "/disk.raw", "wb") as f:
    f.write(random.randbytes(3 << 20))
sh(f"qemu-img convert -f raw -O qcow2 {www}/disk.raw {www}/disk.qcow2;"
   f"cp {www}/disk.raw {www}/other/b.raw; cd {www} && tar czf disk.tar.gz disk.raw;"
   # on a busy machine QEMU cannot tell how long its rounds take, and gives up
   "for i in 1 2 3 4 5 6 7 8; do qemu-img create -q -f qcow2 --object secret,id=s,data=pass-one"
   f" -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 {www}/luks.qcow2 2M && break;"
   " sleep 1; done")
DISK = open(www + "/disk.raw", "rb").read()
for name, text in (("one", "pass-one"), ("two", "pass-two"), ("sign", "k" * 40)):
    with open(f"{tmp}/{name}.key", "w") as f:
        f.write(text)
TOKENS = {name: base64.urlsafe_b64encode(random.randbytes(32)).decode()
          for name in ("reader", "looker", "mirrorer", "boss", "some", "late", "lab", "keyed")}


def digest(name):
    return hashlib.sha256(TOKENS[name].encode()).hexdigest()


def config(name, access, **more):
    path = f"{tmp}/{name}.json"
    doc = {"listen": ["127.0.0.1:0"], "origins": {"lab": {"path": www}},
           "secrets": {"one": {"file": tmp + "/one.key"}, "two": {"file": tmp + "/two.key"}},
           "access": access, **more}
    with open(path, "w") as f:
        json.dump(doc, f)
    return path


ROWS = {"reader": {"token_sha256": digest("reader"), "scopes": ["read"]},
        "looker": {"token_sha256": digest("looker"), "scopes": ["metadata"]},
        "mirrorer": {"token_sha256": digest("mirrorer"), "scopes": ["mirror"]},
        "boss": {"token_sha256": digest("boss"), "scopes": ["admin", "read", "metadata"]},
        "late": {"token_sha256": digest("late"), "scopes": ["read"],
                 "expires": "2020-01-01T00:00:00Z"},
        "lab": {"token_sha256": digest("lab"), "scopes": ["read", "metadata"],
                "images": ["lab/disk.*", "lab/luks.qcow2"]},
        "keyed": {"token_sha256": digest("keyed"), "scopes": ["read"], "secrets": ["two"]},
        "some": {"token_sha256": digest("some"), "scopes": []},
        "hv": {"signing_key": tmp + "/sign.key", "scopes": ["read", "metadata"],
               "images": ["lab/*"]},
        "fetch": {"signing_key": tmp + "/sign.key", "scopes": ["mirror"], "images": ["lab/*"]},
        "local": {"scopes": []}}


class Closed(Platterd):
    """A server by its configuration alone."""

    def __init__(self, path, *flags):
        super().__init__({}, "--config", path, "--state", tmp + "/state-" + os.path.basename(path),
                         *flags)

    # the flag of live.py is one listener more, which all here use
    def ask(self, path, token=None, method="GET", headers=None, body=None):
        h = dict(headers or {})
        if token:
            h["Authorization"] = "Bearer " + TOKENS.get(token, token)
        return self.get(path, h, method, body=body)


server = Closed(config("closed", ROWS))
open_one = Platterd({"lab": www}, "--state", tmp + "/state-open")
JSON = {"Content-Type": "application/json"}
IMAGE = json.dumps({"name": "x", "source": "lab/disk.raw"})

# route class -> (method, path, body)
WANTS = {"read": [("GET", "/disk/lab/disk.qcow2", None), ("HEAD", "/raw/lab/disk.qcow2", None)],
         "metadata": [("GET", p, None) for p in
                      ("/v1/info/lab/disk.qcow2", "/v1/extents/lab/disk.raw", "/v1/images",
                       "/v1/origins", "/v1/files/lab/", "/metrics", "/v1/members/lab/disk.tar.gz",
                       "/v1/images/none", "/v1/trace/lab/disk.raw")],
         "mirror": [("POST", "/v1/prefetch/lab/disk.raw", '{"what": "disk"}'),
                    ("DELETE", "/v1/prefetch/lab/disk.raw", None),
                    ("POST", "/v1/trace/lab/disk.raw", '{"seconds": 5}'),
                    ("DELETE", "/v1/trace/lab/disk.raw", None)],
         "admin": [("GET", "/v1/errors", None), ("POST", "/v1/images", IMAGE), ("DELETE", "/v1/images/x", None)]}
FREE = ["/healthz", "/readyz", "/openapi.json", "/"]
HAS = {"reader": {"read"}, "looker": {"metadata"}, "mirrorer": {"mirror"},
       "boss": {"admin", "read", "metadata"}, "some": set()}


@case("each scope opens its own routes and no other; without anything 401, /healthz for all")
def scopes():
    for who in [None, *HAS]:
        for scope, asks in WANTS.items():
            for method, path, body in asks:
                r = server.ask(path, who, method, JSON if body else {}, body)
                if who is None:
                    assert r.status == 401, (method, path, r.status)
                    assert r.getheader("WWW-Authenticate").startswith('Bearer realm="platter"')
                elif scope in HAS[who]:
                    assert r.status in (200, 201, 202, 204, 404), (who, method, path, r.status, r.body)
                else:
                    assert r.status == 403, (who, method, path, r.status)
                if r.status in (401, 403) and method != "HEAD":
                    problem(r, r.status)
        for path in FREE:
            assert server.ask(path, who).status == 200, path
    assert server.ask("/v1/info/lab/disk.raw", None, "OPTIONS").status == 204


@case("a token: unknown, expired, empty, too long, in another case or scheme is 401 and no more")
def tokens():
    good = TOKENS["reader"]
    for bad in ("late", "nobody", good[:-1], good + "A", good.swapcase(), "x" * 5000, "a\tb"):
        r = server.ask("/disk/lab/disk.raw", bad)
        assert r.status == 401 and "invalid_token" in r.getheader("WWW-Authenticate"), bad
    for field in ("Bearer", "Bearer ", "Basic", "Basic !!!", "Digest x", good,
                  "Basic " + base64.b64encode(b"nocolon").decode()):
        r = server.get("/disk/lab/disk.raw", {"Authorization": field})
        assert r.status == 401, field
    for field in ("bearer  " + good, "Basic " + base64.b64encode(f"any:{good}".encode()).decode()):
        r = server.get("/disk/lab/disk.raw", {"Authorization": field, "Range": "bytes=5-9"})
        assert r.status == 206 and r.body == DISK[5:10], field
    assert sh(["curl", "-sf", "-u", "me:" + good, "-r", "7-99", server.url("/disk/lab/disk.raw")]) \
        == DISK[7:100]
    assert sh(["wget", "-qO-", "--user=me", "--password=" + good,
               server.url("/disk/lab/disk.raw")]) == DISK


@case("a token is nowhere: not in the log, the metrics, the audit log, a process's arguments")
def nowhere():
    everything = server.text() + server.ask("/metrics", "boss").body.decode()
    everything += open(tmp + "/state-closed.json/audit.jsonl").read()
    everything += open(f"/proc/{server.proc.pid}/cmdline").read()
    for t in TOKENS.values():
        assert t not in everything and t[:12] not in everything
    assert "who=reader" in everything and "refused=unknown_token" in everything


@case("rows for some images and some secrets hold for these alone")
def images():
    for path, status in (("/disk/lab/disk.raw", 200), ("/v1/info/lab/disk.qcow2", 200),
                         ("/disk/lab/other/b.raw", 403), ("/v1/images", 403), ("/metrics", 403),
                         ("/disk/lab/disk.raw;partition=9", 404), ("/disk/elsewhere/x", 403),
                         ("/disk/lab/disk%2eraw", 200), ("/disk/lab//disk.raw", 400),
                         ("/disk/lab/disk.x/../other/b.raw", 400)):
        assert server.ask(path, "lab").status == status, path
    for path, status in (("secret=one", 403), ("secret=two", 403), ("secret=two,one", 403),
                         ("secret=one,two", 403)):
        r = server.ask("/disk/lab/luks.qcow2?" + path, "keyed")
        assert r.status == status, (path, r.status)
        what = json.loads(r.body)["detail"]
        # "two" may be named, and does not open it; "one" may not even be named
        assert ("does not cover" in what) == ("one" in path), what
    assert server.ask("/disk/lab/luks.qcow2?secret=one", "lab").status == 200


def sign(path_and_query, expires, key="hv", secret=b"k" * 40, route="/disk/"):
    """By the description in the manual, with Python's own hmac."""
    path, _, query = path_and_query.partition("?")
    target, *params = path.removeprefix(route).split(";")
    given = dict(p.split("=", 1) for p in params + query.split("&") if p)
    lines = ["platter-signed-url-1", route, urllib.parse.unquote(target)]
    lines += [f"{n}={urllib.parse.unquote(given[n])}" for n in
              ("member", "snapshot", "partition", "secret", "layers") if n in given]
    lines += [f"expires={expires}", f"key={key}", ""]
    mac = hmac.new(secret, "\n".join(lines).encode(), "sha256").digest()
    return [f"expires={expires}", f"key={key}",
            "signature=" + base64.urlsafe_b64encode(mac).decode().rstrip("=")]


@case("a signed URL opens one disk for a while, as a query or in the path, to any client")
def signed():
    soon = int(time.time()) + 60
    p = "/disk/lab/disk.tar.gz"
    parts = sign(p + "?member=disk.raw", soon)
    urls = [p + "?member=disk.raw&" + "&".join(parts), p + ";member=disk.raw;" + ";".join(parts),
            p + ";" + ";".join(parts) + "?member=disk.raw",
            p + "?" + parts[2] + "&member=disk%2Eraw&" + parts[0] + "&" + parts[1],
            "/disk/lab/disk%2Etar.gz;" + ";".join(parts[::-1]) + ";member=disk.raw"]
    for u in urls:
        assert server.range(u, 1000, 5000) == DISK[1000:6000], u
        assert server.get(u, method="HEAD").status == 200, u
    plain = server.url("/disk/lab/disk.raw;" + ";".join(sign("/disk/lab/disk.raw", soon)))
    sh(["qemu-img", "compare", "-f", "raw", "-F", "raw", "json:" + json.dumps(
        {"driver": "raw", "file": {"driver": "http", "url": plain}}), www + "/disk.raw"])
    assert sh(["curl", "-sfr", "0-99", plain]) == DISK[:100]
    info = "/v1/info/lab/disk.raw"
    r = server.get(info + "?" + "&".join(sign(info, soon, route="/v1/info/")))
    assert r.status == 200, r.body
    assert "signature" not in server.text() and parts[2][10:40] not in server.text()


@case("a signature is in no log, also where libmicrohttpd quotes the URL of who has left")
def quoted():
    s = Closed(config("quoted", ROWS), "--log-level", "debug")
    u = "/disk/lab/disk.qcow2"
    parts = sign(u, int(time.time()) + 600)
    for _ in range(500):
        c = socket.create_connection(("127.0.0.1", s.port), 5)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.sendall(f"GET {u};{';'.join(parts)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(random.random() / 100)
        c.close()
        if "signature=" in s.text():
            break
    assert "signature=***" in s.text(), s.text()[-500:]
    assert parts[2] not in s.text()


@case("a signed URL is enough for a POST: its body counts, and that of a forged one does not")
def signed_post():
    u = "/v1/trace/lab/disk.raw"
    good = "?" + "&".join(sign(u, int(time.time()) + 60, "fetch", route="/v1/trace/"))
    for body, status in (('{"seconds": 5}', 200), ('{"seconds": 5, "x": 1}', 400),
                         ('{"seconds": 5}' + " " * (200 << 10), 200), ("", 400)):
        r = server.get(u + good, JSON, "POST", body=body)
        assert r.status == status, (body[:30], r.status, r.body)
    assert server.get(u + good, {}, "DELETE").status == 204
    forged = good[:-9] + ("AAAAAAAAA" if good[-9:] != "AAAAAAAAA" else "BBBBBBBBB")
    for body, status in (('{"seconds": 5}', 403), (" " * (200 << 10), 413)):
        assert server.get(u + forged, JSON, "POST", body=body).status == status


@case("platter token and platter sign make what the gateway takes")
def commands():
    doc = json.loads(platter("token", "--json").stdout)
    assert hashlib.sha256(doc["token"].encode()).hexdigest() == doc["token_sha256"]
    text = platter("token").stdout.decode().split()
    assert text[0] == "token" and text[1] != doc["token"] and len(text[1]) > 43
    s = Closed(config("made", {"ci": {"token_sha256": doc["token_sha256"], "scopes": ["read"]}}),
               "--access", "local=")
    assert s.ask("/disk/lab/disk.raw", doc["token"]).body == DISK
    key = ["--signing-key", "hv=" + tmp + "/sign.key"]
    url = platter("sign", *key, "--gateway", server.url("/"), "--member", "disk.raw",
                  "--expires", "2m", "lab/disk.tar.gz").stdout.decode().strip()
    assert sh(["curl", "-sfr", "5-77", url]) == DISK[5:78]
    out = json.loads(platter("sign", *key, "--json", "--route", "info", "--expires", "1d",
                             "lab/disk.raw").stdout)
    assert abs(out["expires"] - time.time() - 86400) < 60
    assert server.get(out["url"]).status == 200
    for bad in ((*key, "lab/../x"), (*key, "--expires", "soon", "lab/x"), ("lab/x",),
                (*key, "--route", "images", "lab/x"),
                ("--signing-key", "hv=" + tmp + "/one.key", "lab/x")):
        r = platter("sign", *bad, check=False)
        assert r.returncode in (1, 2) and r.stderr and not r.stdout, bad


@case("whatever is changed in a signed URL, it is refused; so is one that has expired")
def forged():
    now = int(time.time())
    p = "/disk/lab/disk.tar.gz?member=disk.raw"
    good = sign(p, now + 60)
    other = sign(p, now + 60, secret=b"x" * 40)
    bad = [[good[0], good[1], good[2][:-1] + ("A" if good[2][-1] != "A" else "B")],
           [f"expires={now + 61}", *good[1:]], [good[0], "key=boss", good[2]],
           [good[0], "key=nobody", good[2]], [good[0], good[1], other[2]],
           [good[0], good[1], "signature="], [good[0], good[1], good[2] + "="],
           [good[0], good[1], good[2].lower()], good[:2], good[1:], [*good, good[0]],
           [*good, good[2]], [f"expires=0{now + 60}", *good[1:]], ["expires=-1", *good[1:]],
           ["expires=99999999999999999999", *good[1:]]]
    for parts in bad:
        for u in (p + "&" + "&".join(parts), p.replace("?", ";") + ";" + ";".join(parts)):
            doc = problem(server.get(u), 403)
            assert "signature" in doc["detail"], (u, doc)
    tail = "&" + "&".join(good)
    for u in ("/disk/lab/disk.tar.gz?member=other.raw", "/disk/lab/disk.tar.gz?layers=",
              "/disk/lab/other/b.raw?member=disk.raw", p + "&partition=1", "/raw/lab/disk.raw?x=",
              "/v1/info/lab/disk.tar.gz?member=disk.raw"):
        assert server.get(u + tail).status in (400, 403), u
    late = sign(p, now - 1)
    assert "expired" in problem(server.get(p + "&" + "&".join(late)), 403)["detail"]
    # a row's own limits hold for what is signed with its key
    body = {"what": "disk"}
    u = "/v1/prefetch/lab/disk.raw"
    r = server.get(u + "?" + "&".join(sign(u, now + 60, route="/v1/prefetch/")), JSON, "POST",
                   body=json.dumps(body))
    assert r.status == 403
    text = server.ask("/metrics", "looker").body.decode()
    for reason in ("bad_signature", "expired_signature", "unknown_token", "expired_token",
                   "nothing_shown", "scope", "image", "secret"):
        n = re.search(rf'platter_access_refused_total{{reason="{reason}"}} (\d+)', text)
        assert n and int(n[1]) > 0, reason


@case("without any row: reading for all, changes for this machine alone, and not by way of others")
def local():
    def change(headers):
        r = open_one.get("/v1/images", {**JSON, **headers}, "POST", body=IMAGE)
        assert open_one.get("/disk/lab/disk.raw", headers).status == 200
        return r.status

    port = open_one.port
    for host in (f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", "127.9.9.9", "[::1]:80"):
        assert change({"Host": host}) in (200, 201), host
    for headers in ({"Host": "evil.example"}, {"Host": f"gateway.example:{port}"},
                    {"Host": "127.0.0.1.evil.example"}, {"Host": "[::2]"}, {"Host": "128.0.0.1"},
                    {"Host": "localhost.evil.example"}, {"X-Forwarded-For": "127.0.0.1"},
                    {"Forwarded": "for=127.0.0.1"}, {"Via": "1.1 proxy"}, {"X-Real-IP": "::1"}):
        assert change(headers) == 403, headers
    # with no token configured, one that is sent means nothing
    assert open_one.get("/disk/lab/disk.raw", {"Authorization": "Bearer x"}).status == 200
    addresses = sh("hostname -I").decode().split()
    if addresses:
        s = Platterd({"lab": www}, "--state", tmp + "/state-far", "--listen", f"{addresses[0]}:0"
                     if ":" not in addresses[0] else f"[{addresses[0]}]:0")
        port = listens(s, re.escape(addresses[0]) + r":(\d+)")
        base = f"http://{addresses[0]}:{port}"
        code = sh(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H",
                   "Content-Type: application/json", "-d", IMAGE, base + "/v1/images"])
        assert code == b"403", code
        assert sh(["curl", "-sf", "-r", "0-9", base + "/disk/lab/disk.raw"]) == DISK[:10]


@case("rows of flags: anonymous and local are what they are given")
def flags():
    s = Platterd({"lab": www}, "--access", "anonymous=read", "--access", "local=metadata",
                 "--access", f"t=admin:token:{digest('boss')}", "--state", tmp + "/state-flags")
    assert s.get("/disk/lab/disk.raw").status == 200
    assert s.get("/v1/images").status == 200
    assert s.get("/v1/images", {"Host": "else.example"}).status == 401
    assert s.get("/v1/images", JSON, "POST", body=IMAGE).status == 401
    h = {**JSON, "Authorization": "Bearer " + TOKENS["boss"]}
    assert s.get("/v1/images", h, "POST", body=IMAGE).status == 201


def listens(s, what):
    """Of the second listener: that the first one is there says nothing of it."""
    for _ in range(200):
        m = re.findall("event=listening address=" + what, s.text())
        if m:
            return int(m[-1])
        time.sleep(0.05)
    raise AssertionError(s.text())


class Quiet(Closed):
    """With --log-level error, at which nobody says where it listens."""

    def __init__(self, path):
        import live
        self.port = free_port()
        self.err = tempfile.NamedTemporaryFile(dir=tmp, delete=False)
        self.proc = subprocess.Popen(
            [BIN + "/platterd", "--listen", f"127.0.0.1:{self.port}", "--config", path, "--state",
             tmp + "/state-" + os.path.basename(path), "--log-level", "error"], stderr=self.err)
        live._daemons.append(self)
        wait_port(self.port)


@case("changes are audited, at every log level: who, what, from where, with what result")
def audit():
    path = config("audited", ROWS)
    s = Quiet(path)
    for body, status in ((IMAGE, 201), ('{"name": "x", "source": "lab/other/b.raw"}', 409),
                         ("{}", 400)):
        assert s.ask("/v1/images", "boss", "POST", JSON, body).status == status
    assert s.ask("/v1/images", "reader", "POST", JSON, IMAGE).status == 403  # not audited
    assert s.ask("/v1/images/x", "boss", "DELETE").status == 204
    assert s.ask("/v1/prefetch/lab/disk.raw", "mirrorer", "POST", JSON, '{"what": "disk"}').status == 202
    s.proc.send_signal(signal.SIGHUP)
    end = time.time() + 20
    while "method=RELOAD" not in s.text() and time.time() < end:
        time.sleep(0.05)
    rows = [json.loads(line) for line in open(f"{tmp}/state-audited.json/audit.jsonl")]
    want = [("boss", "POST", "x", "OK"), ("boss", "POST", "x", "EXISTS"),
            ("boss", "POST", "", "INVALID"), ("boss", "DELETE", "x", "OK"),
            ("mirrorer", "POST", "lab/disk.raw", "OK"), ("signal", "RELOAD", None, "OK")]
    assert [(r["who"], r["method"], r.get("image"), r["result"]) for r in rows] == want, rows
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r["time"]) for r in rows)
    assert rows[0]["client"].startswith("127.0.0.1:") and rows[0]["request_id"]
    assert s.text().count("event=audit") == len(rows), s.text()
    assert oct(os.stat(f"{tmp}/state-audited.json/audit.jsonl").st_mode & 0o777) == "0o600"


@case("the audit log keeps 16 MiB and one before it; where it cannot be written, that is told")
def audit_size():
    path = config("rotated", ROWS)
    os.makedirs(tmp + "/state-rotated.json")
    log = tmp + "/state-rotated.json/audit.jsonl"
    with open(log, "wb") as f:
        f.truncate(16 << 20)
    s = Closed(path)
    assert s.ask("/v1/images", "boss", "POST", JSON, IMAGE).status == 201
    assert os.path.getsize(log + ".1") == 16 << 20 and os.path.getsize(log) < 1000
    os.remove(log)
    os.mkdir(log)
    assert s.ask("/v1/images/x", "boss", "DELETE").status == 204
    assert "event=audit_failed" in s.text()


# ---- TLS

def authority(name):
    sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9"
       f" -subj /CN={name} -keyout {name}-ca.key -out {name}-ca.pem")


def certificate(name, ca, cn, san="", use="serverAuth", days="5"):
    with open(f"{name}.ext", "w") as f:
        f.write(f"extendedKeyUsage={use}\n" + (f"subjectAltName={san}\n" if san else ""))
    sh(f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN={cn}'"
       f" -keyout {name}.key -out {name}.csr;"
       f"openssl x509 -req -in {name}.csr -CA {ca}-ca.pem -CAkey {ca}-ca.key -CAcreateserial"
       f" -days {days} -extfile {name}.ext -out {name}.pem")


for ca in ("good", "evil"):
    authority(ca)
certificate("srv", "good", "one", "IP:127.0.0.1")
certificate("srv2", "good", "two", "IP:127.0.0.1")
certificate("edge", "good", "whatever", "DNS:e1.edge.example", "clientAuth")
certificate("named", "good", "ops.example", "", "clientAuth")
certificate("forged", "evil", "ops.example", "DNS:e1.edge.example", "clientAuth")
certificate("wronguse", "good", "ops.example", "", "serverAuth")
certificate("old", "good", "ops.example", "", "clientAuth", "-1")
# a name of a host before the @, a label with a blank, and names too long to read
certificate("mail", "good", "x", "email:me@e1.edge.example", "clientAuth")
certificate("phrase", "good", "it is e1.edge.example", "", "clientAuth")
certificate("long", "good", "ops.example", "URI:urn:" + "a" * 1500, "clientAuth")
certificate("deep", "good", "x", "DNS:a.b.edge.example", "clientAuth")
sh("cat srv.pem good-ca.pem > live.pem; cp srv.key live.key")
secure = Closed(config("tls", {
    "edge": {"certificate": "*.edge.example", "scopes": ["read", "metadata"]},
    "ops": {"certificate": "ops.example", "scopes": ["admin", "read"]},
    "boss": ROWS["boss"], "anonymous": {"scopes": []}, "local": {"scopes": []}},
    listen=["https://127.0.0.1:0"], tls_certificate=tmp + "/live.pem", tls_key=tmp + "/live.key",
    tls_client_ca=tmp + "/good-ca.pem"))
TLS_PORT = listens(secure, r"127.0.0.1:(\d+) tls=yes")
BASE = f"https://127.0.0.1:{TLS_PORT}"


def curl(*args, who=None, ca="good"):
    """Status and body; (0, the exit code) where there is no answer."""
    more = ["--cert", f"{who}.pem", "--key", f"{who}.key"] if who else []
    r = subprocess.run(["curl", "-s", "-w", "\n%{http_code}", "--cacert", f"{ca}-ca.pem", *more,
                        *args], capture_output=True, timeout=60)
    body, _, code = r.stdout.rpartition(b"\n")
    return (int(code), body) if r.returncode == 0 else (0, r.returncode)


@case("TLS: versions 1.2 and 1.3 alone, the whole chain, and every byte of a disk")
def tls():
    auth = ("-H", "Authorization: Bearer " + TOKENS["boss"])
    assert curl(*auth, BASE + "/disk/lab/disk.qcow2") == (200, DISK)
    assert curl(*auth, BASE + "/healthz", ca="evil")[0] == 0
    assert curl(BASE + "/healthz", who=None)[0] == 200
    for v, good in (("1_3", True), ("1_2", True), ("1_1", False), ("1", False)):
        r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{TLS_PORT}",
                            "-tls" + v, "-cipher", "ALL:@SECLEVEL=0"], input=b"",
                           capture_output=True, timeout=30)
        assert (b"Verify return code" in r.stdout and b"Cipher is (NONE)" not in r.stdout) == good, v
    # plain HTTP at the port of TLS, and the other way round, hurt nobody
    s = socket.create_connection(("127.0.0.1", TLS_PORT), 5)
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        assert b"HTTP/1.1 200" not in s.recv(4096)
    except ConnectionResetError:
        pass
    s.close()
    assert curl(f"https://127.0.0.1:{secure.port}/")[0] == 0
    with ThreadPoolExecutor(8) as pool:
        def one(_):
            off, n = random.randrange(len(DISK) - 1), random.choice([1, 4096, 200000, 700000])
            code, body = curl(*auth, "-r", f"{off}-{off + n - 1}", BASE + "/disk/lab/disk.tar.gz")
            assert code == 206 and body == DISK[off:off + n], (off, n, code)
        list(pool.map(one, range(40)))


@case("TLS: clients that begin a handshake and go no further hold up nobody")
def slow_handshakes():
    held = [socket.create_connection(("127.0.0.1", TLS_PORT), 5) for _ in range(200)]
    for s in held[:100]:
        s.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    start = time.time()
    assert curl(BASE + "/healthz")[0] == 200
    assert time.time() - start < 5
    for s in held:
        s.close()


@case("client certificates: by name, by a label's star; forged, expired or for servers: refused")
def clients():
    disk, info, images = (BASE + p for p in ("/disk/lab/disk.raw", "/v1/info/lab/disk.raw",
                                             "/v1/images"))
    post = ("-H", "Content-Type: application/json", "-d", IMAGE, images)
    for who, want in ((None, (401, 401, 401)), ("edge", (200, 200, 403)), ("named", (200, 403, 201)),
                      ("deep", (401, 401, 401)), ("mail", (401, 401, 401)),
                      ("phrase", (401, 401, 401)), ("long", (401, 401, 401)), ("forged", (403, 403, 403)),
                      ("wronguse", (403, 403, 403)), ("old", (403, 403, 403))):
        got = tuple(curl(*args, who=who)[0] for args in ((disk,), (info,), post))
        assert got == want, (who, got)
    assert "refused=untrusted_certificate" in secure.text()
    assert "who=edge" in secure.text() and "who=ops" in secure.text()
    # a keep-alive connection is asked once, and all its requests count as its own
    out = sh(["curl", "-s", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} %{num_connects} ",
              "--cacert", "good-ca.pem", "--cert", "edge.pem", "--key", "edge.key", disk, info])
    assert out == b"200 1 200 0 ", out


@case("TLS: a client that leaves is noticed while its request waits for the origin")
def leaving():
    import ssl
    origin = Origin(www)
    s = Platterd({"slow": origin.url()}, "--deadline", "30",
                 "--listen", "https://127.0.0.1:0", "--tls-certificate", tmp + "/srv.pem",
                 "--tls-key", tmp + "/srv.key")
    tls = listens(s, r"127.0.0.1:(\d+) tls=yes")
    context = ssl.create_default_context(cafile="good-ca.pem")
    c = context.wrap_socket(socket.create_connection(("127.0.0.1", tls)), server_hostname="127.0.0.1")
    c.sendall(b"GET /disk/slow/stall-first/disk.raw HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(1)
    c.setblocking(False)
    try:
        c.unwrap()  # says in TLS that it goes, and waits for no answer
    except (ssl.SSLError, OSError):
        pass
    c.close()
    start = time.time()
    while 'end=client_gone' not in s.text() and "error=CANCELLED" not in s.text():
        assert time.time() - start < 8, s.text()[-1500:]
        time.sleep(0.1)
    origin.stop()


def subject():
    out = sh(f"openssl s_client -connect 127.0.0.1:{TLS_PORT} </dev/null 2>/dev/null"
             " | openssl x509 -noout -subject").decode()
    return out.strip().split("=")[-1].strip()


def reload(s, word="event=reloaded"):
    n = s.text().count(word)
    s.proc.send_signal(signal.SIGHUP)
    end = time.time() + 30
    while s.text().count(word) == n:
        assert time.time() < end, s.text()[-2000:]
        time.sleep(0.05)


@case("a new certificate is taken on SIGHUP, connections stay; a wrong one is told and not taken")
def certificates():
    import ssl
    context = ssl.create_default_context(cafile="good-ca.pem")
    c = http.client.HTTPSConnection("127.0.0.1", TLS_PORT, timeout=30, context=context)

    def healthy():
        c.request("GET", "/healthz")
        return c.getresponse().read() == b"ok\n"

    assert healthy() and subject() == "one"
    old = c.sock
    sh("cat srv2.pem good-ca.pem > live.new; cp srv2.key live.key; mv live.new live.pem")
    reload(secure)
    assert subject() == "two"
    assert healthy() and c.sock is old
    for text, why in (("cp srv.key live.key", "not the key of"), ("echo x > live.pem", "live.pem"),
                      ("rm live.key", "live.key")):
        sh(text)
        reload(secure, "event=reload_failed")
        assert subject() == "two" and why in secure.text(), why
        sh("cat srv2.pem good-ca.pem > live.pem; cp srv2.key live.key")
    for _ in range(20):
        reload(secure)
    assert healthy() and c.sock is old


@case("mistakes in TLS and access are told before anything listens")
def mistakes():
    def wrong(doc):
        path = tmp + "/wrong.json"
        with open(path, "w") as f:
            json.dump(doc, f)
        r = subprocess.run([BIN + "/platterd", "--config", path], capture_output=True, timeout=30)
        assert r.returncode == 2, r
        return r.stderr.decode()

    tls_files = {"tls_certificate": tmp + "/srv.pem", "tls_key": tmp + "/srv.key"}
    assert "needs tls_certificate" in wrong({"listen": ["https://127.0.0.1:0"]})
    assert "belong together" in wrong({"tls_key": tmp + "/srv.key"})
    assert "not the key of" in wrong({**tls_files, "tls_key": tmp + "/srv2.key"})
    assert "no certificate" in wrong({**tls_files, "tls_client_ca": tmp + "/srv.key"}).replace(
        "No certificate was found", "no certificate")
    row = {"token_sha256": "0" * 64, "scopes": ["read"]}
    for bad, why in (({**row, "token_sha256": "0" * 63}, "64 hexadecimal"),
                     ({**row, "token_sha256": TOKENS["boss"]}, "64 hexadecimal"),
                     ({**row, "token_sha256": hashlib.sha256(b"").hexdigest()}, "of nothing"),
                     ({**row, "scopes": ["write"]}, "read, metadata, mirror, admin"),
                     ({**row, "scopes": "read"}, "array"), ({"scopes": ["read"]}, "none of"),
                     ({"token_sha256": "0" * 64}, "no scopes"), ({**row, "x": 1}, "unknown key"),
                     ({**row, "certificate": "a"}, "another of these"),
                     ({**row, "expires": "tomorrow"}, "2027-01-31T12:00:00Z"),
                     ({"signing_key": tmp + "/one.key", "scopes": []}, "16 to 4096 bytes"),
                     ({"signing_key": tmp + "/none", "scopes": []}, "No such file")):
        text = wrong({"access": {"who": bad}})
        assert why in text and "access.who" in text, (why, text)
    assert "shows nothing" in wrong({"access": {"local": row}})
    for flag in ("x", "x=write", "x=read:token:12", "x=read:word:12", "=read"):
        r = subprocess.run([BIN + "/platterd", "--access", flag], capture_output=True, timeout=30)
        assert r.returncode == 2 and b"--access" in r.stderr, (flag, r)


# ---- Other sockets

@case("a unix socket: mode 0660, its clients are local, a stale name is taken over, a used one not")
def unix():
    path = tmp + "/http.sock"
    def start(*flags):
        s = Platterd({"lab": www}, "--listen", "unix:" + path, *flags)
        for _ in range(200):  # it is the second listener
            if "address=unix:" in s.text():
                return s
            time.sleep(0.05)
        raise AssertionError(s.text())

    s = start("--state", tmp + "/state-unix")
    assert os.stat(path).st_mode & 0o7777 == 0o660
    base = ["curl", "-sS", "--unix-socket", path]
    assert sh(base + ["-r", "3-9", "http://any.example/disk/lab/disk.raw"]) == DISK[3:10]
    out = sh(base + ["-H", "Content-Type: application/json", "-d", IMAGE, "-w", "%{http_code}",
                     "http://any.example/v1/images"])
    assert out.endswith(b"201"), out
    assert f"client=\"unix:uid={os.getuid()}:" in s.text(), s.text()[-800:]
    r = subprocess.run([BIN + "/platterd", "--listen", "unix:" + path], capture_output=True, timeout=30)
    assert r.returncode == 1 and b"Address already in use" in r.stderr, r
    s.proc.kill()
    s.proc.wait()
    import live
    live._daemons.remove(s)
    assert os.path.exists(path)
    s = start()
    assert sh(base + ["http://x/healthz"]) == b"ok\n"
    # who does not get it, though other sockets are his, leaves it where it is
    r = subprocess.run([BIN + "/platterd", "--listen", "127.0.0.1:0", "--listen", "unix:" + path],
                       capture_output=True, timeout=30)
    assert r.returncode == 1 and b"Address already in use" in r.stderr, r
    assert sh(base + ["http://x/healthz"]) == b"ok\n"
    # so does who still drains while the next one is there already
    held = socket.create_connection(("127.0.0.1", s.port), 5)
    held.sendall(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
    time.sleep(0.3)
    s.proc.terminate()
    for _ in range(200):
        if not os.path.exists(path):
            break
        time.sleep(0.05)
    next_one = start()
    assert s.proc.poll() is None and sh(base + ["http://x/healthz"]) == b"ok\n"
    held.close()
    s.proc.wait(60)  # a second signal would be impatience
    s.stop()
    assert sh(base + ["http://x/healthz"]) == b"ok\n"
    next_one.stop()
    assert not os.path.exists(path)
    with open(path, "w") as f:
        f.write("somebody's file")
    r = subprocess.run([BIN + "/platterd", "--listen", "unix:" + path], capture_output=True, timeout=30)
    assert r.returncode == 1 and open(path).read() == "somebody's file"


@case("sockets of systemd: taken by themselves, or by name; plain and with TLS")
def activation():
    def start(names, *args):
        ports = [free_port() for _ in names]
        cmd = ["systemd-socket-activate"]
        for p in ports:
            cmd += ["-l", f"127.0.0.1:{p}"]
        if any(names):
            cmd += ["--fdname=" + ":".join(names)]
        err = open(tmp + "/activated", "wb")
        proc = subprocess.Popen(cmd + ["-E", "ASAN_OPTIONS", "-E", "UBSAN_OPTIONS", BIN + "/platterd",
                                       "--origin", "lab=" + www, *args], stderr=err)
        for p in ports:
            wait_port(p)
        return proc, ports

    def end(proc):
        proc.send_signal(signal.SIGTERM)
        assert proc.wait(60) == 0, open(tmp + "/activated").read()[-2000:]
        text = open(tmp + "/activated").read()
        assert "Sanitizer" not in text and "runtime error" not in text, text

    proc, (port,) = start([""])
    try:
        assert sh(["curl", "-sf", "-r", "0-4", f"http://127.0.0.1:{port}/disk/lab/disk.raw"]) == DISK[:5]
    finally:
        end(proc)
    proc, (plain, tls_port) = start(["web", "tls"], "--listen", "systemd:web", "--listen",
                                    "https://systemd:tls", "--tls-certificate", tmp + "/srv.pem",
                                    "--tls-key", tmp + "/srv.key")
    try:
        assert sh(["curl", "-sf", f"http://127.0.0.1:{plain}/healthz"]) == b"ok\n"
        assert curl(f"https://127.0.0.1:{tls_port}/healthz") == (200, b"ok\n")
    finally:
        end(proc)
    r = subprocess.run([BIN + "/platterd", "--listen", "systemd"], capture_output=True, timeout=30)
    assert r.returncode == 1 and b"no socket was handed over" in r.stderr
    # more than there are: what the gateway has opened by itself is not among them
    r = subprocess.run(["bash", "-c", "LISTEN_PID=$$ LISTEN_FDS=900 exec " + BIN +
                        "/platterd --listen 127.0.0.1:0 --listen systemd"], capture_output=True,
                       timeout=30)
    assert r.returncode == 1 and r.stderr.count(b"event=listening") == 1, r.stderr[-500:]
    assert b"none of that name" in r.stderr


main()
