# SPDX-License-Identifier: Apache-2.0
"""What edges are told besides a manifest: its signature, with the real minisign on
the other side, and who else has some of the disk."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

www = tmp + "/www"
os.makedirs(www + "/a;b")
images.guest_disk(www + "/disk.raw", 4)
open(www + "/other.raw", "wb").write(random.randbytes(3 << 20))
shutil.copyfile(www + "/disk.raw", www + "/copy.raw")
long_name = "x" * 200 + ".raw"
shutil.copyfile(www + "/disk.raw", f"{www}/{long_name}")
for name in ("one", "two"):
    sh(f"minisign -G -W -p {tmp}/{name}.pub -s {tmp}/{name}.key")
sh(f"printf 'pw\\npw\\n' | minisign -G -p {tmp}/locked.pub -s {tmp}/locked.key")
conf = tmp + "/platterd.json"


def configure(**more):
    with open(conf + ".new", "w") as f:
        json.dump({"origins": {"lab": {"path": www}}, **more}, f)
    os.rename(conf + ".new", conf)


def verified(body, signature, key):
    """The trusted comment; AssertionError: it does not verify."""
    open(tmp + "/doc", "wb").write(body)
    open(tmp + "/doc.minisig", "wb").write(signature)
    return sh(["minisign", "-V", "-Q", "-p", f"{tmp}/{key}.pub", "-m", tmp + "/doc"]).decode().strip()


def head(s, ref):
    r = s.get("/v1/manifest/" + ref)
    assert r.status == 200, (r.status, r.body)
    return r.body, json.loads(r.body)["root"]


configure(manifest_key=tmp + "/one.key")
server = Platterd({}, "--config", conf)


@case("minisign verifies what is signed: the head's bytes, and the comment with reference and root")
def signature():
    for ref in ("lab/disk.raw", "lab/%64isk.raw", "lab/disk.raw;layers=raw", "lab/other.raw"):
        body, root = head(server, ref)
        r = server.get(f"/v1/manifest/{ref}/signature")
        assert r.status == 200 and r.getheader("Content-Type").startswith("text/plain"), r.headers
        assert verified(body, r.body, "one") == f"image={ref} root={root}"
        assert r.getheader("Cache-Control").startswith("max-age=5")
        again = server.get(f"/v1/manifest/{ref}/signature", {"If-None-Match": r.getheader("ETag")})
        assert again.status == 304
    body, root = head(server, "lab/disk.raw?layers=raw")
    r = server.get("/v1/manifest/lab/disk.raw/signature?layers=raw")
    assert verified(body, r.body, "one") == f"image=lab/disk.raw?layers=raw root={root}"
    body, root = head(server, "lab/" + long_name)
    r = server.get(f"/v1/manifest/lab/{long_name}/signature")
    assert verified(body, r.body, "one") == f"root={root}"
    part = server.range("/v1/manifest/lab/disk.raw/signature", 5, 7)
    assert part == server.get("/v1/manifest/lab/disk.raw/signature").body[5:12]


@case("neither another key nor another document verifies")
def not_verified():
    body, _ = head(server, "lab/disk.raw")
    r = server.get("/v1/manifest/lab/disk.raw/signature")
    for doc, key in ((body, "two"), (body + b"\n", "one"), (head(server, "lab/other.raw")[0], "one")):
        try:
            verified(doc, r.body, key)
        except AssertionError:
            continue
        raise AssertionError((doc, key))


@case("a signature of what is not there is 404, as the manifest is")
def missing():
    problem(server.get("/v1/manifest/lab/none.raw/signature"), 404)
    problem(server.get("/v1/manifest/lab/disk.raw/signaturex"), 404)


def reload(is_good):
    n = server.text().count("event=reload")
    server.proc.send_signal(signal.SIGHUP)
    end = time.time() + 20
    while True:
        text = server.text()
        if text.count("event=reload") > n or (not is_good and "event=config_mistake" in text):
            return text
        assert time.time() < end, text[-2000:]
        time.sleep(0.05)


@case("the key is read again by SIGHUP; one that is bad changes nothing, and is not told")
def reloaded():
    body, root = head(server, "lab/disk.raw")
    configure(manifest_key=tmp + "/two.key")
    reload(True)
    etag = server.get("/v1/manifest/lab/disk.raw/signature").getheader("ETag")
    assert verified(body, server.get("/v1/manifest/lab/disk.raw/signature").body, "two")
    configure(manifest_key=tmp + "/locked.key")
    text = reload(False)
    assert "password" in text
    for name in ("one", "two", "locked"):
        secret = open(f"{tmp}/{name}.key").read().split("\n")[1]
        assert secret[:200] not in server.text()
    assert server.get("/v1/manifest/lab/disk.raw/signature").getheader("ETag") == etag
    configure()
    reload(True)
    problem(server.get("/v1/manifest/lab/disk.raw/signature"), 404)
    configure(manifest_key=tmp + "/one.key")
    reload(True)
    assert verified(body, server.get("/v1/manifest/lab/disk.raw/signature").body, "one")


@case("a key with a password, none at all, or half of one: no start")
def bad_keys():
    half = tmp + "/half.key"
    open(half, "w").write(open(tmp + "/one.key").read()[:150])
    for key, why in ((tmp + "/locked.key", "password"), (tmp + "/one.pub", "not a secret key"),
                     (half, "not a secret key"), (tmp + "/nothing", "No such file")):
        r = subprocess.run([BIN + "/platterd", "--origin", "lab=" + www, "--listen", "127.0.0.1:0",
                            "--manifest-key", key, "--check-config"], capture_output=True, text=True)
        assert r.returncode == 2 and why in r.stderr, (key, r.stderr)


def sources(s, ref="lab/disk.raw", edge=None, host="127.0.0.1"):
    r = s.get(f"/v1/manifest/{ref}/sources", {"Platter-Edge": edge} if edge else {})
    assert r.status == 200 and r.getheader("Content-Type") == "application/json", r.headers
    assert r.getheader("Cache-Control") == "no-store"
    got = json.loads(r.body)
    assert set(got) == {"sources"}
    return got["sources"]


@case("an edge that tells of itself is told to others that ask for the same disk, under any name")
def edges():
    s = Platterd({"lab": www})
    assert sources(s) == []
    me, you = "http://127.0.0.1:8081/", "https://127.0.0.1:8082/x"
    assert sources(s, edge=me) == []
    assert sources(s) == [me]
    assert sources(s, edge=you) == [me]
    assert sources(s, edge=me) == [you]
    assert sorted(sources(s, "lab/copy.raw")) == [me, you]
    assert sources(s, "lab/other.raw") == []
    for _ in range(3):
        assert sorted(sources(s)) == [me, you]
    s.stop()


@case("... in a field or in the query, which is for sources alone")
def by_query():
    s = Platterd({"lab": www})
    path = "/v1/manifest/lab/disk.raw;layers=raw/sources?edge="
    me, you = "http://127.0.0.1:8081/", "http://127.0.0.1:8082/a"
    assert json.loads(s.get(path + me).body) == {"sources": []}
    got = s.get(path + you.replace("/", "%2F"), {"Platter-Edge": "http://127.0.0.1:9/"})
    assert json.loads(got.body) == {"sources": [me]}
    assert sorted(sources(s)) == [me, you]
    assert json.loads(s.get(path + "http://10.0.0.1/").body)["sources"] != []
    assert sorted(sources(s)) == [me, you]
    for part in ("", "/leaves", "/signature"):
        problem(s.get(f"/v1/manifest/lab/disk.raw{part}?edge={me}"), 400)
    problem(s.get(path + me + "&edge=" + me), 400)
    problem(s.get(path + "%00"), 400)
    s.stop()


@case("what is no URL of the client's own address is ignored")
def ignored():
    s = Platterd({"lab": www})
    for edge in ("http://10.1.2.3/", "http://localhost/", "http://127.0.0.2/", "ftp://127.0.0.1/",
                 "http://127.0.0.1@10.1.2.3/", "http://127.0.0.1/?x", "127.0.0.1", "x" * 5000,
                 "http://127.0.0.1/" + "x" * 250, "http://127.0.0.1/\"]}", "http://127.1/",
                 "http://127.0.0.1/, http://127.0.0.1:1/"):
        assert sources(s, edge=edge) == [], edge
    assert s.get("/v1/manifest/lab/disk.raw/sources", {"Platter-Edge": "http://127.0.0.1/"},
                 method="HEAD").status == 200
    assert s.get("/v1/manifest/lab/disk.raw", {"Platter-Edge": "http://127.0.0.1/"}).status == 200
    assert sources(s) == []
    s.stop()


@case("one address has eight places, and the oldest of them goes")
def few():
    s = Platterd({"lab": www})
    for port in range(1, 21):
        sources(s, edge=f"http://127.0.0.1:{port}/")
    assert sorted(sources(s)) == sorted(f"http://127.0.0.1:{port}/" for port in range(13, 21))
    s.stop()


@case("siblings of the configuration come with the edges, in random order, 16 at most")
def siblings():
    urls = [f"http://10.0.0.{i}:8080/" for i in range(20)]
    s = Platterd({"lab": www}, *(x for u in urls for x in ("--sibling", u)))
    sources(s, edge="http://127.0.0.1:1/")
    seen, first = set(), set()
    for _ in range(200):
        got = sources(s, edge=urls[3])
        assert len(got) == 16 == len(set(got)) and urls[3] not in got, got
        seen.update(got)
        first.add(got[0])
    assert seen == set(urls) - {urls[3]} | {"http://127.0.0.1:1/"}, seen
    assert len(first) > 10
    s.stop()


@case("who may read the manifest may read both, and nobody else")
def rights():
    flags = ("--manifest-key", tmp + "/one.key", "--access", "anonymous=", "--access", "local=",
             "--access", "m=metadata:token:" + hashlib.sha256(b"m").hexdigest(),
             "--access", "r=read:token:" + hashlib.sha256(b"r").hexdigest())
    s = Platterd({"lab": www}, *flags)
    for part in ("", "/signature", "/sources"):
        for token, want in ((None, 401), ("m", 200), ("r", 403)):
            r = s.get("/v1/manifest/lab/disk.raw" + part,
                      {"Authorization": "Bearer " + token} if token else {})
            assert r.status == want, (part, token, r.status)
    s.stop()


main()
