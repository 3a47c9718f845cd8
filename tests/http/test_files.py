# SPDX-License-Identifier: Apache-2.0
"""/v1/files: what of an origin's folder is told, to whom, and how much of it."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
from urllib.parse import quote

www, outside = tmp + "/www", tmp + "/outside"
for d in (www + "/vm/web", www + "/vm/db", www + "/other", www + "/.hidden", outside + "/secret"):
    os.makedirs(d)
for name in ("b.raw", "B.raw", "a b.qcow2", "ä.raw", ".dot", "vm/web/1.raw", "vm/web/2.raw", "vm/db/1.raw",
             "vm/note", "other/o.raw", ".hidden/h.raw"):
    with open(f"{www}/{name}", "w") as f:
        f.write(name)
open(outside + "/secret/s.raw", "w").close()
os.symlink("b.raw", www + "/inside")
os.symlink("vm", www + "/folder-inside")
os.symlink("../outside/secret", www + "/folder-out")
os.symlink("/etc/passwd", www + "/passwd")
os.symlink("/proc/self/root", www + "/magic")
os.symlink("nowhere", www + "/dangling")
os.symlink("loop", www + "/loop")
os.mkfifo(www + "/pipe")
with socket.socket(socket.AF_UNIX) as s:
    s.bind(www + "/socket")
for bad in (b"not-utf8-\xff", b"line\nfeed", b"back\\slash"):
    open(www.encode() + b"/" + bad, "w").close()
os.utime(www + "/b.raw", (1, 1600000000))
TOKENS = {n: n + "-token" for n in ("web", "all", "one")}


def row(name, images=None):
    out = {"scopes": ["metadata"], "token_sha256": hashlib.sha256(TOKENS[name].encode()).hexdigest()}
    return {**out, **({"images": images} if images else {})}


server = Platterd({"lab": www, "web": "http://127.0.0.1:9/"}, "--image", "named=lab/b.raw")


def rows(path, gate=None, headers=None):
    r = (gate or server).get("/v1/files/" + path, headers)
    assert r.status == 200, (path, r.status, r.body)
    got = json.loads(r.body)
    assert len(got) <= int(r.getheader("X-Total-Count"))
    return got


def names(*a, **k):
    return [x["name"] for x in rows(*a, **k)]


def refused(path, status, detail=None, gate=None, headers=None):
    r = (gate or server).get("/v1/files/" + path, headers)
    assert r.status == status, (path, r.status, r.body)
    d = json.loads(r.body)
    assert d["status"] == status and (detail or "") in d.get("detail", ""), d
    assert tmp not in r.body.decode() and "passwd" not in r.body.decode()


@case("files and folders by the bytes of their names; nothing else, and nothing outside")
def told():
    want = ["B.raw", "a b.qcow2", "b.raw", "folder-inside", "inside", "other", "vm", "ä.raw"]
    for path in ("lab", "lab/"):
        assert names(path) == want == sorted(want, key=str.encode)
    by = {x["name"]: x for x in rows("lab/")}
    assert by["b.raw"] == {"name": "b.raw", "type": "file", "size": 5, "modified": "2020-09-13T12:26:40Z"}
    assert by["inside"] == {**by["b.raw"], "name": "inside"}
    assert by["vm"]["type"] == by["folder-inside"]["type"] == "directory" and "size" not in by["vm"]
    assert names("lab/vm/") == names("lab/folder-inside") == ["db", "note", "web"]
    assert names("lab/.hidden") == ["h.raw"]
    # All that is told can be asked for.
    for x in rows("lab/"):
        path = "lab/" + quote(x["name"])
        if x["type"] == "file":
            assert server.get("/raw/" + path, method="HEAD").getheader("Content-Length") == str(x["size"])
        else:
            assert rows(path + "/")


@case("a prefix: of any bytes, of hidden names, of none")
def prefix():
    assert names("lab/?prefix=b") == ["b.raw"]
    assert names("lab/?prefix=" + quote("ä")) == ["ä.raw"]
    assert names("lab/?prefix=a%20") == ["a b.qcow2"]
    assert names("lab/?prefix=.") == [".dot", ".hidden"]
    assert names("lab/?prefix=.d") == [".dot"]
    assert names("lab/?prefix=") == names("lab/")
    for none in ("zz", "vm/", "../", "%2e%2e/", "..", "/", "x" * 255):
        assert names("lab/?prefix=" + none) == [], none
    for bad in ("x" * 256, "%ff", "%00", "a&prefix=b"):
        refused("lab/?prefix=" + bad, 400)


@case("what is no folder of the origin is refused, and the answer tells nothing of it")
def refusals():
    for path, status, detail in (("", 400, ""), ("lab//", 400, ""), ("lab/%2e%2e/", 400, ""), ("lab/a%2fb", 400, ""),
                                 ("lab/vm;member=x", 400, "selectors"), ("lab/?member=x", 400, ""),
                                 ("lab/?limit=0", 400, ""), ("lab/?offset=x", 400, ""), ("lab/%ff", 400, ""),
                                 ("none/", 404, "no origin"), ("named", 404, "no origin"),
                                 ("lab/none", 404, "no folder"), ("lab/b.raw", 404, "no folder"),
                                 ("lab/b.raw/", 404, "no folder"), ("lab/dangling", 404, "no folder"),
                                 ("lab/pipe", 404, "no folder"), ("lab/" + "x" * 300, 404, "no folder"),
                                 ("lab/folder-out", 403, ""), ("lab/magic", 403, ""), ("lab/magic/etc", 403, ""),
                                 ("lab/loop", 403, ""), ("web/", 501, "origins that are folders"),
                                 ("web/x/", 501, "origins that are folders")):
        refused(path, status, detail)
    for method, status in (("POST", 405), ("DELETE", 405), ("OPTIONS", 204), ("HEAD", 200)):
        assert server.get("/v1/files/lab/", method=method).status == status


@case("pages, and a folder of more than is looked at")
def pages():
    folder = tmp + "/big"
    os.makedirs(folder)
    for i in range(12000):
        open(f"{folder}/{'keep' if i % 3 == 0 else 'other'}-{i:05d}", "w").close()
    gate = Platterd({"big": folder})
    r = gate.get("/v1/files/big/?limit=10")
    assert r.getheader("X-List-Truncated") == "true" and r.getheader("X-Total-Count") == "10000"
    r = gate.get("/v1/files/big/?prefix=keep&limit=10")
    assert r.getheader("X-List-Truncated") is None and r.getheader("X-Total-Count") == "4000"
    path, seen = "/v1/files/big/?prefix=keep&limit=1500", []
    while path:
        r = gate.get(path)
        seen += [x["name"] for x in json.loads(r.body)]
        link = r.getheader("Link")
        path = re.match(r'<([^>]*)>; rel="next"', link)[1] if link else None
    assert seen == [f"keep-{i:05d}" for i in range(0, 12000, 3)]


@case("rights for some images: those, the folders that lead to them, and no others")
def rights():
    conf = tmp + "/conf.json"
    json.dump({"origins": {"lab": {"path": www}},
               "access": {"web": row("web", ["lab/vm/web/*", "lab/b*"]), "all": row("all"),
                          "one": row("one", ["lab/vm/db/1.raw"]),
                          "local": {"scopes": ["read"]}}}, open(conf, "w"))
    gate = Platterd({}, "--config", conf)

    def of(who, path):
        return names(path, gate=gate, headers={"Authorization": "Bearer " + TOKENS[who]})

    def no(who, path, status=403):
        refused(path, status, gate=gate, headers={"Authorization": "Bearer " + TOKENS[who]})

    assert of("all", "lab/") == names("lab/") and of("all", "lab/vm") == ["db", "note", "web"]
    assert of("web", "lab/") == ["b.raw", "vm"]
    assert of("web", "lab/vm/") == ["web"] and of("web", "lab/vm/web") == ["1.raw", "2.raw"]
    assert of("one", "lab") == ["vm"] and of("one", "lab/vm") == ["db"] and of("one", "lab/vm/db/") == ["1.raw"]
    for who, path in (("web", "lab/vm/db"), ("web", "lab/other"), ("web", "lab/none"), ("one", "lab/vm/web"),
                      ("one", "lab/vm/db/1.raw"), ("one", "lab/vm/d"), ("one", "la"), ("one", "none/"),
                      ("one", "lab/folder-inside/db"), ("web", "web/")):
        no(who, path)
    refused("lab/", 401, gate=gate)  # local rows read only
    assert gate.get("/v1/files/lab/", {"Authorization": "Bearer x"}).status == 401


@case("a folder that is swapped for a link out of the origin meanwhile tells nothing of there")
def swapped():
    place, end = www + "/swap", time.monotonic() + 2
    os.makedirs(www + "/real")
    open(www + "/real/r.raw", "w").close()
    os.symlink("real", place)

    def swap():
        while time.monotonic() < end:
            for to in ("real", "../outside/secret", "/etc"):
                os.symlink(to, place + ".new")
                os.replace(place + ".new", place)

    t = threading.Thread(target=swap)
    t.start()
    seen = set()
    while time.monotonic() < end:
        r = server.get("/v1/files/lab/swap/")
        seen.add(r.status)
        assert r.status in (200, 403, 404, 500), r.status
        if r.status == 200:
            assert [x["name"] for x in json.loads(r.body)] == ["r.raw"], r.body
        listed = {x["name"]: x["type"] for x in rows("lab/?prefix=swap")}
        assert set(listed) <= {"swap", "swap.new"} and set(listed.values()) <= {"directory"}, listed
    t.join()
    assert {200, 403} <= seen, seen


main()
