# SPDX-License-Identifier: Apache-2.0
"""The API description against itself, against JSON Schema and against the
running server: every route, method, parameter, status, header and field.

Every answer that is asked for here is kept; at the end the document is spoilt
at each of its fields in turn, and an answer must be found that contradicts it.
So a field that is described wrongly, or that no server ever sends, is seen."""
import copy, gzip, struct, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images
from jsonschema import Draft202012Validator, FormatChecker, RefResolver

SOURCE = os.path.join(TOP, "gateway/openapi.json")
TEXT = open(SOURCE, encoding="utf-8").read()
METHODS = ("get", "head", "post", "delete", "options")


def pairs_once(pairs):
    out = dict(pairs)
    assert len(out) == len(pairs), f"a key stands twice: {[k for k, _ in pairs]}"
    return out


doc = json.loads(TEXT, object_pairs_hook=pairs_once)


def follow(x, where=None):
    """What a $ref means; keys beside it count over it."""
    if "$ref" not in x:
        return x
    target = where or doc
    for key in x["$ref"].removeprefix("#/").split("/"):
        target = target[key.replace("~1", "/").replace("~0", "~")]
    return {**follow(target, where), **{k: v for k, v in x.items() if k != "$ref"}}


def every(x, path=()):
    """All objects of the document, with where they are."""
    if isinstance(x, dict):
        yield path, x
        for k, v in x.items():
            yield from every(v, path + (k,))
    elif isinstance(x, list):
        for i, v in enumerate(x):
            yield from every(v, path + (str(i),))


def validator(schema, where=None):
    return Draft202012Validator(schema, resolver=RefResolver("", where or doc),
                                format_checker=FormatChecker())


def fits(schema, value, what="", where=None):
    bad = list(validator(schema, where).iter_errors(value))
    assert not bad, f"{what}: " + "; ".join(
        f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]} "
        f"{[c.message[:120] for c in (e.context or [])][:12]}" for e in bad[:3])


def schemas():
    """Every schema that stands somewhere, with where it is."""
    for name, s in doc["components"]["schemas"].items():
        yield f"#/components/schemas/{name}", s
    for path, x in every(doc):
        if "schema" in x and path[-1:] != ("properties",):
            yield "/".join(path), x["schema"]


def subschemas(s):
    if not isinstance(s, dict):
        return
    yield s
    for k in ("items", "additionalProperties", "propertyNames", "not", "if", "then", "else"):
        yield from subschemas(s.get(k))
    for k in ("allOf", "anyOf", "oneOf"):
        for x in s.get(k, []):
            yield from subschemas(x)
    for x in s.get("properties", {}).values():
        yield from subschemas(x)


# ---- The document by itself

# Which keys an object of OpenAPI 3.1 has, as far as they are used here:
# those it must have, and those it may.
SHAPES = {
    "document": ("openapi info paths components", "jsonSchemaDialect servers security tags"),
    "info": ("title version license", "summary description"),
    "path": ("get head options parameters", "post delete"),
    "operation": ("operationId tags summary description responses", "parameters requestBody"),
    "parameter": ("name in description schema", "required example examples x-multi-segment"),
    "header": ("description schema", "required"),
    "response": ("description headers", "content"),
    "media": ("schema", "example examples"),
    "body": ("description content", "required"),
}
KEYWORDS = set("""$ref description type format enum const pattern minLength maxLength minimum
maximum multipleOf default examples items minItems maxItems uniqueItems required properties
additionalProperties propertyNames maxProperties allOf anyOf oneOf not if then else""".split())
# Objects to which a driver of somebody else adds facts of its own.
OPEN = {"OtherSpecific", "OtherLayer", "Index"}


def shape(kind, x, where):
    must, may = (set(t.split()) for t in SHAPES[kind])
    assert must <= set(x) <= must | may, (kind, where, set(x) ^ must)


@case("the document is OpenAPI 3.1 in form, and is what the server serves")
def form():
    r = server.get("/openapi.json")
    assert r.body == TEXT.encode() and r.getheader("Content-Type") == "application/json"
    shape("document", doc, "")
    shape("info", doc["info"], "info")
    assert doc["openapi"] == "3.1.0" and doc["info"]["license"]["identifier"] == "Apache-2.0"
    assert all(s["url"].startswith("/") for s in doc["servers"])
    tags = {t["name"] for t in doc["tags"]}
    c = doc["components"]
    for name, x in c["parameters"].items():
        shape("parameter", x, name)
        assert x["in"] in ("path", "query", "header") and ("required" in x) == (x["in"] == "path")
    for name, x in c["headers"].items():
        shape("header", x, name)
    for name, x in c["responses"].items():
        shape("response", x, name)
        for h in x["headers"].values():
            shape("header", follow(h), name)
        for m in x.get("content", {}).values():
            shape("media", m, name)
    for path, item in doc["paths"].items():
        shape("path", item, path)
        for method in METHODS:
            op = item.get(method)
            if not op:
                continue
            shape("operation", op, (path, method))
            assert set(op["tags"]) <= tags
            assert all(re.fullmatch("[2-5][0-9][0-9]", s) for s in op["responses"])
            names = [(p["in"], p["name"]) for p in parameters(path, method)]
            assert len(names) == len(set(names)), (path, names)
            assert {n for w, n in names if w == "path"} == set(re.findall(r"{(\w+)}", path)), path
            if "requestBody" in op:
                shape("body", op["requestBody"], path)


@case("every $ref resolves, every component is used, every operationId is one's own")
def refs():
    used = {f"#/components/securitySchemes/{n}" for row in doc["security"] for n in row}
    ids = []
    for path, x in every(doc):
        if "$ref" in x:
            used.add(x["$ref"])
            assert follow(x), path
        if "operationId" in x:
            ids.append(x["operationId"])
    have = {f"#/components/{kind}/{n}" for kind, m in doc["components"].items() for n in m}
    assert used == have, used ^ have
    assert len(ids) == len(set(ids)) >= 50, ids


@case("every schema is JSON Schema 2020-12; every field is described; objects are closed")
def schema_form():
    n = 0
    for where, s in schemas():
        Draft202012Validator.check_schema(s)
        for x in subschemas(s):
            n += 1
            assert set(x) <= KEYWORDS, (where, set(x) - KEYWORDS)
            for name, p in x.get("properties", {}).items():
                if "description" not in x:
                    continue  # a condition's, not the object's own
                assert follow(p).get("description"), (where, name)
            if x.get("type") == "object" and "properties" in x:
                assert set(x.get("required", [])) <= set(x["properties"]), (where, x["required"])
                assert x.get("additionalProperties") is False or where.split("/")[-1] in OPEN or \
                    "OpenApi" in where, where
            if "pattern" in x:
                re.compile(x["pattern"])
    assert n > 300, n


@case("every example fits its schema")
def examples():
    n = 0
    for path, x in every(doc):
        if "schema" not in x or path[-1:] == ("properties",):
            continue
        named = {k: v["value"] for k, v in x.get("examples", {}).items()}
        if "example" in x:
            named[""] = x["example"]
        for name, e in named.items():
            fits(x["schema"], e, f"{path} {name}")
            n += 1
    for path, x in every(doc["components"]["schemas"]):
        for e in x["examples"] if isinstance(x.get("examples"), list) else []:
            fits(x, e, str(path))
            n += 1
    assert n > 60, n


# ---- Asking, and comparing with the document

answers = []  # (template, media type's schema, value), of every answer with content
seen = set()  # (template, method, status)
PLAIN = {"date", "content-length", "content-type", "connection", "transfer-encoding"}


def parameters(path, method):
    item = doc["paths"][path]
    return [follow(p) for p in item["parameters"] + item[method].get("parameters", [])]


def template(path):
    path = path.split("?")[0]
    best = [t for t in doc["paths"] if re.fullmatch(re.sub(
        r"\\{(\w+)\\}", lambda m: ".+" if m[1] in ("ref", "file", "folder") else "[^/]+", re.escape(t)), path)]
    assert len(best) == 1, (path, best)
    return best[0]


def headers_fit(spec, r, what):
    got = {k.lower(): r.getheader(k) for k, _ in r.getheaders()}  # lines of one name are one
    for name, h in spec.get("headers", {}).items():
        h = follow(h)
        value = got.pop(name.lower(), None)
        assert value is not None or not h.get("required"), (what, name, "is missing")
        if value is None:
            continue
        if follow(h["schema"]).get("type") == "integer":
            value = int(value)
        fits(h["schema"], value, f"{what} {name}")
    assert set(got) <= PLAIN, (what, "not documented", set(got) - PLAIN)


def conforms(path, method, r, kind=None):
    """The answer is one that the document has.  Its value, parsed."""
    t = template(path)
    what = f"{method.upper()} {path}: {r.status}"
    responses = doc["paths"][t][method]["responses"]
    assert str(r.status) in responses, (what, r.body[:300])
    spec = follow(responses[str(r.status)])
    seen.add((t, method, r.status))
    headers_fit(spec, r, what)
    content = spec.get("content", {})
    type = r.getheader("Content-Type")
    if not content:
        assert type is None and not r.body, (what, type)
        return None
    media = content.get(type) or content.get(type.split(";")[0])
    assert media, (what, type)
    if method == "head":
        assert not r.body
        return None
    if not type.split(";")[0].endswith("json"):
        value = r.body.decode() if type.startswith("text/") else None
    else:
        value = json.loads(r.body, object_pairs_hook=pairs_once)
    if value is not None:
        fits(media["schema"], value, what)
        answers.append((t, media["schema"], value))
    if kind:
        assert value["type"] == "/problems/" + kind and value["status"] == r.status, (what, value)
    return value


SAME = ("Content-Type", "Content-Length", "ETag", "Last-Modified", "Accept-Ranges",
        "Cache-Control", "Link", "X-Total-Count", "Retry-After", "Content-Range")


def ask(path, status=200, kind=None, gate=None, headers=None):
    """GET, and HEAD, which must say the same."""
    gate = gate or server
    r = gate.get(path, headers)
    assert r.status == status, (path, r.status, r.body[:400])
    value = conforms(path, "get", r, kind)
    h = gate.get(path, {k: v for k, v in (headers or {}).items() if "Range" not in k}, "HEAD")
    if headers and "Range" in headers:
        assert h.status == 200
    else:
        assert h.status == status, (path, h.status)
        same = {k: r.getheader(k) for k in SAME}
        if value is None or isinstance(value, list) or "readers" not in value:
            assert {k: h.getheader(k) for k in SAME} == same or t_moves(path), (path, same)
    conforms(path, "head", h)
    return value


def t_moves(path):
    """What it tells changes by itself."""
    return template(path) in ("/metrics", "/v1/images", "/v1/images/{name}", "/v1/index/{ref}",
                              "/v1/info/{ref}", "/v1/trace/{ref}", "/v1/prefetch/{ref}",
                              "/v1/mirrors", "/v1/mirrors/{name}", "/v1/mirrors/{name}/events",
                              "/v1/errors")


# ---- The server, and something of everything

www, state = tmp + "/www", tmp + "/state"
os.makedirs(www)
images.guest_disk(www + "/disk.raw", 8)
SECRET = "--object secret,id=s,data=letmein"
LUKS = f"qemu-img create -q -f qcow2 {SECRET} -o encrypt.key-secret=s,encrypt.format="
open(www + "/key", "w").write("letmein")
os.chmod(www + "/key", 0o600)
sh(r"""set -e
qemu-img convert -O qcow2 -c disk.raw base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
qemu-io -c 'write -P 7 1M 64k' -c 'write -z 2M 64k' top.qcow2
qemu-img snapshot -c one top.qcow2
qemu-io -c 'write -P 9 1M 64k' top.qcow2
qemu-img bitmap --add top.qcow2 b0
qemu-io -c 'write -P 3 3M 64k' top.qcow2
qemu-img create -q -f qcow2 -o data_file=ext.bin,data_file_raw=on ext.qcow2 4M
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 4M
qemu-img create -q -f qcow2 -o compression_type=zstd,lazy_refcounts=on,extended_l2=on,cluster_size=128k new.qcow2 4M
qemu-img create -q -f qcow2 -o cluster_size=4k,preallocation=full holes.qcow2 256k
qemu-img convert -O vmdk disk.raw mono.vmdk
qemu-img create -q -f vmdk -b mono.vmdk -F vmdk child.vmdk
qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw x-disk1.vmdk
qemu-img convert -O vmdk -o subformat=twoGbMaxExtentFlat disk.raw flat.vmdk
tar czf d.tar.gz disk.raw; tar --format=oldgnu -Scf sparse.tar disk.raw
tar --format=posix -Scf psparse.tar disk.raw
mkdir sub; echo hi >sub/readme; ln -s readme sub/l; ln sub/readme sub/h; mkfifo sub/f
cp disk.raw sub/a.img; cp disk.raw sub/b.img; tar cf many.tar sub; rm -r sub
gzip -k disk.raw; cat disk.raw.gz <(echo rubbish) >garbage.gz; dictzip -k disk.raw
head -c 70000 base.qcow2 >bad.qcow2
genisoimage -quiet -V HYBRID -o iso-dos.raw x-disk1.vmdk; cp iso-dos.raw iso-gpt.raw
truncate -s 8M gpt.raw dos.raw iso-dos.raw iso-gpt.raw
ln -s /etc/passwd out.raw
for i in $(seq 40); do # measuring the key derivation fails now and then
""" + LUKS + "luks,encrypt.iter-time=10 luks.qcow2 4M 2>/dev/null && break; done; " +
   LUKS + "aes aes.qcow2 4M", cwd=www)
images.dictzip99(www + "/disk.raw", www + "/big.dz")
for name, script in (("gpt.raw", """label: gpt
start=2048,size=4096,type=U,name="EFI",attrs="RequiredPartition GUID:63"
size=4096,type=L
"""), ("dos.raw", """label: dos
label-id: 0xdeadbeef
start=2048,size=2048,type=83,bootable
start=4096,size=10000,type=5
start=6144,size=2048,type=82
"""), ("iso-dos.raw", "label: dos\nstart=64,size=2048,type=17"),
                     ("iso-gpt.raw", "label: gpt\nstart=8192,size=2048,type=L")):
    subprocess.run(["sfdisk", "-q", www + "/" + name], input=script.encode(), check=True,
                   capture_output=True)
sh("mkfs.vfat -n BOOT --offset 2048 gpt.raw 2048", cwd=www)


def patch(src, dst, at, data):
    b = bytearray(open(www + "/" + src, "rb").read())
    b[at:at + len(data)] = data
    open(www + "/" + dst, "wb").write(b)


# An extension of nobody's, in place of the feature table; a feature of nobody's.
extension = 104 if struct.unpack(">I", open(www + "/holes.qcow2", "rb").read(104)[100:])[0] == 104 else 112
patch("holes.qcow2", "unknown.qcow2", extension, struct.pack(">I", 0x12345678))
patch("holes.qcow2", "feature.qcow2", 72, struct.pack(">Q", 1 << 40))
table = struct.unpack(">Q", open(www + "/holes.qcow2", "rb").read(48)[40:])[0]
l1 = table
l2 = struct.unpack(">Q", open(www + "/holes.qcow2", "rb").read()[l1:l1 + 8])[0] & 0xfffffffffffe00
patch("holes.qcow2", "leak.qcow2", l2, bytes(8))
patch("holes.qcow2", "twice.qcow2", l2, open(www + "/holes.qcow2", "rb").read()[l2 + 8:l2 + 16])
size = os.path.getsize(www + "/x-disk1.vmdk")
open(www + "/x.ovf", "w").write(f"""<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><References>
<File ovf:href="x-disk1.vmdk" ovf:id="file1" ovf:size="{size}"/></References>
<DiskSection><Info>d</Info><Disk ovf:capacity="8388608" ovf:diskId="vmdisk1" ovf:fileRef="file1"
ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
</DiskSection></Envelope>""")
open(www + "/x.mf", "w").write("".join(
    f"SHA256({n})= {hashlib.sha256(open(www + '/' + n, 'rb').read()).hexdigest()}\n"
    for n in ("x.ovf", "x-disk1.vmdk")))
sh("tar --format=ustar -cf x.ova x.ovf x.mf x-disk1.vmdk; sed -i s/./0/60 x.mf;"
   "tar --format=ustar -cf mf.ova x.ovf x.mf x-disk1.vmdk", cwd=www)
open(www + "/empty.raw", "w").close()

origin, nginx = Origin(www), Nginx(www)
conf = tmp + "/conf.json"
json.dump({"origins": {"lab": {"path": www}, "web": {"url": nginx.url()}, "o": {"url": origin.url()}},
           "images": {"debian": {"source": "lab/many.tar", "member": "sub/a.img",
                                 "labels": {"team": "storage"}}},
           "secrets": {"key": {"file": www + "/key"}}, "state_dir": state, "deadline": 3,
           "mirrors": {"golden": {"source": "lab/disk.raw"}}, "outputs": [www + "/"],
           "cors": ["https://ui.example"], "siblings": ["http://10.0.0.2:8080/"],
           "manifest_key": tmp + "/minisign.key"}, open(conf, "w"))
sh(f"minisign -G -W -p {tmp}/minisign.pub -s {tmp}/minisign.key")
server = Platterd({}, "--config", conf)
DISK = open(www + "/disk.raw", "rb").read()
# Every template for which a reference is asked.
ON_IMAGES = [t for t in doc["paths"] if t.endswith("{ref}")]
UNKNOWN_SIZE = ("disk.raw.gz", "garbage.gz")
IMAGES = ["disk.raw", "empty.raw", "gpt.raw", "dos.raw", "iso-dos.raw", "iso-gpt.raw",
          "base.qcow2", "top.qcow2", "ext.qcow2", "old.qcow2", "new.qcow2", "holes.qcow2",
          "leak.qcow2", "twice.qcow2", "unknown.qcow2", "luks.qcow2?secret=key",
          "aes.qcow2?secret=key", "mono.vmdk", "child.vmdk", "flat.vmdk", "x-disk1.vmdk", "x.ova",
          "mf.ova", "d.tar.gz", "sparse.tar", "psparse.tar", "disk.raw.gz", "garbage.gz",
          "disk.raw.dz", "big.dz", "many.tar?member=sub/a.img", "top.qcow2?snapshot=one",
          "top.qcow2?partition=1", "gpt.raw?partition=1", "dos.raw?partition=5",
          "disk.raw?layers=raw", "many.tar;member=sub%2Fb.img;partition=1"]


def ours(name, more=""):
    return name + ("&" if "?" in name else "?") * bool(more) + more


def named(t, ref="lab/disk.raw"):
    """The template with something that is there."""
    return t.replace("{ref}", ref).replace("{folder}", "lab/").replace("{name}", "golden" if "mirrors" in t else "debian").replace("{file}", "app.js")


# ---- Routes

@case("every route of the server is documented, with the methods of its Allow, and no other")
def routes():
    text = open(os.path.join(TOP, "gateway/route.c")).read()
    table = text[text.index("routes[] = {"):text.index("};", text.index("routes[] = {"))]
    rows = re.findall(r'\{"(/[^"]*)",\s*"\w+",\s*KIND_\w+,\s*\w+,\s*\w+,\s*(true|false)', table)
    assert len(rows) == table.count('{"') > 15, rows
    there = {p.replace("*", "{name}") if rest == "false" else
             p + {"/v1/files/": "{folder}", "/v1/images/": "{name}", "/v1/mirrors/": "{name}",
                  "/v1/blocks/": "{root}/{n}", "/web/": "{file}"}.get(p, "{ref}") for p, rest in rows}
    assert there == set(doc["paths"]), there ^ set(doc["paths"])
    for t, item in doc["paths"].items():
        path = named(t).replace("{root}/{n}", "0" * 64 + "/0")
        r = server.get(path, method="OPTIONS")
        conforms(path, "options", r)
        allow = {m.lower() for m in r.getheader("Allow").split(", ")}
        assert allow == set(item) & set(METHODS), (t, allow)
        for method in ("PUT", "PATCH", "POST", "DELETE"):
            if method.lower() in allow:
                continue
            r = server.get(path, method=method)
            assert r.status == 405 and r.getheader("Allow"), (t, method, r.status)
            fits({"$ref": "#/components/schemas/Problem"}, json.loads(r.body), t)
        r = server.get(path, {"Origin": "https://ui.example", "Access-Control-Request-Method": "GET"},
                       "OPTIONS")
        conforms(path, "options", r)
        assert r.getheader("Access-Control-Max-Age") and r.getheader("Access-Control-Allow-Methods")
    for path, method, status in (("/nope", "GET", 404), ("/", "FROB", 501), ("/v1/nope/x", "GET", 404)):
        r = server.get(path, method=method)
        assert r.status == status
        fits({"$ref": "#/components/schemas/Problem"}, json.loads(r.body), path)


# ---- Answers

@case("info of every kind of image, and of every layer, has the fields that are written")
def info():
    kinds = set()
    for name in IMAGES:
        for o in ("lab", "web"):
            if o == "web" and ";" in name:
                continue
            d = ask(f"/v1/info/{o}/{name}")
            kinds |= {l["driver"] for l in d["layers"]}
            if "virtual-size" in d and "layers=" not in name:
                r = server.get(f"/disk/{o}/{name}", method="HEAD")
                assert int(r.getheader("Content-Length")) == d["virtual-size"], name
                assert r.getheader("ETag") == d["etag"], name
    assert kinds == {"file", "curl", "gzip", "tar", "raw", "qcow2", "vmdk", "partition"}, kinds
    ask("/v1/info/debian")
    ask("/v1/info/lab/luks.qcow2")  # without its key
    for mode in ("ok", "weak", "noranges", "unpinned", "chunked"):
        ask(f"/v1/info/o/{mode}/disk.raw")


def only(schema, value):
    fits({"type": "array", "items": {"$ref": "#/components/schemas/" + schema}}, value, schema)


@case("extents in all formats and contexts")
def extents():
    for name in IMAGES:
        d = ask(f"/v1/extents/lab/{name}")
        only("Extent", d["extents"])
        rows = ask("/v1/extents/lab/" + ours(name, "format=qemu-map"))
        only("Extent", rows)
        assert rows == d["extents"]
        only("ImageioExtent", ask("/v1/extents/lab/" + ours(name, "format=imageio&context=zero")))
    d = ask("/v1/extents/lab/top.qcow2?context=dirty:b0")
    only("DirtyExtent", d["extents"])
    assert any(x["dirty"] for x in d["extents"])
    only("DirtyExtent", ask("/v1/extents/lab/top.qcow2?context=dirty:b0&format=qemu-map"))
    only("ImageioDirtyExtent", ask("/v1/extents/lab/top.qcow2?context=dirty:b0&format=imageio"))
    d = ask("/v1/extents/lab/top.qcow2?start=1M&length=64k")
    assert (d["start"], d["length"]) == (1 << 20, 65536)
    assert ask("/v1/extents/lab/disk.raw?start=8M")["extents"] == []
    ask("/v1/extents/lab/top.qcow2?context=dirty:none", 404, "not-found")
    ask("/v1/extents/lab/disk.raw?context=dirty:none", 501, "unsupported")


@case("extents in sums: of everything, under an ETag of their own")
def sums():
    for name in IMAGES:
        d = ask("/v1/extents/lab/" + ours(name, "buckets=3"))
        only("ExtentSums", [d])
        assert d["buckets"] == 3 and sum(map(sum, (d[k] for k in ("data", "compressed", "zero", "hole")))) \
            == d["length"] == d["virtual-size"], (name, d)
    path = "/v1/extents/lab/top.qcow2?buckets=4"
    tag = server.get(path).getheader("ETag")
    assert tag.startswith(server.get("/disk/lab/top.qcow2", method="HEAD").getheader("ETag")[:33] + "-")
    ask(path, headers={"If-None-Match": '"x"', "If-Match": tag})
    ask(path, 304, headers={"If-None-Match": tag})
    ask(path, 412, headers={"If-Match": '"x"'})
    for bad in ("0", "8193", "x", "-1", "1.5", "99999999999999999999"):
        ask("/v1/extents/lab/disk.raw?buckets=" + bad, 400, "invalid")
    for name in IMAGES:
        d = ask("/v1/extents/web/" + ours(name, "buckets=3&context=cache")) if ";" not in name else None
        assert d is None or sum(d["cached"]) <= d["length"], (name, d)
    server.get("/disk/web/top.qcow2")
    r = server.get("/v1/extents/web/top.qcow2?buckets=4096&context=cache")
    d = conforms("/v1/extents/x", "get", r)
    assert d["reads"] and any(d["cached"]) and r.getheader("ETag") is None
    ask("/v1/extents/web/top.qcow2?context=cache", 400, "invalid")
    ask("/v1/extents/web/top.qcow2?context=cache&buckets=2&format=platter", 400, "invalid")
    for other in ("format=qemu-map", "format=platter", "context=dirty:b0", "context=x"):
        ask("/v1/extents/lab/top.qcow2?buckets=4&" + other, 400, "invalid")


@case("more extents than one answer has: next says where to go on, lists refuse")
def many_extents():
    with open(www + "/comb.raw", "wb") as f:
        f.truncate(50100 * 8192)
        for i in range(50100):
            f.seek(i * 8192)
            f.write(b"x")
    d = conforms("/v1/extents/x", "get", server.get("/v1/extents/lab/comb.raw"))
    assert len(d["extents"]) == 100000 and d["next"] == d["extents"][-1]["start"] + 4096
    rest = ask(f"/v1/extents/lab/comb.raw?start={d['next']}")
    assert "next" not in rest and rest["start"] == d["next"]
    r = server.get("/v1/extents/lab/comb.raw?format=qemu-map")
    assert r.status == 400
    conforms("/v1/extents/x", "get", r, "invalid")
    answers[-3:] = [answers[-2]] + [(t, s, {**v, "extents": v["extents"][:3]})
                                   for t, s, v in answers[-3:-2]]
    os.remove(www + "/comb.raw")


@case("members, partitions, snapshots, check, checksum, index")
def lists():
    types = set()
    for name in ("many.tar", "x.ova", "d.tar.gz", "sparse.tar"):
        types |= {m["type"] for m in ask(f"/v1/members/lab/{name}")}
    assert {"file", "symlink", "hardlink", "directory", "fifo"} <= types
    labels = set()
    for name in IMAGES:
        labels.add(ask(f"/v1/partitions/lab/{name}")["label"])
        ask(f"/v1/snapshots/lab/{name}")
        d = ask(f"/v1/info/lab/{name}")
        # An archive is checked by its manifest, when there is one.
        if name == "mf.ova" or any(l["driver"] in ("qcow2", "vmdk") for l in d["layers"]):
            c = ask(f"/v1/check/lab/{name}")
            assert c["format"] == d["format"], name
        else:
            ask(f"/v1/check/lab/{name}", 501, "unsupported")
        d = ask(f"/v1/checksum/lab/{name}")
        if name.split("?")[0] in UNKNOWN_SIZE:
            d = ask(f"/v1/info/lab/{name}")
            assert d["virtual-size"] == len(DISK)
    assert labels == {"none", "dos", "gpt"}
    assert [s["name"] for s in ask("/v1/snapshots/lab/top.qcow2")] == ["one"]
    assert len(ask("/v1/snapshots/lab/top.qcow2?partition=1")) == 1
    p = ask("/v1/partitions/lab/gpt.raw")["partitions"][0]
    assert p["attributes"] == "0x8000000000000001" and p["filesystem"]["label"] == "BOOT", p
    assert ask("/v1/check/lab/leak.qcow2")["leaks"] == 1
    assert ask("/v1/check/lab/twice.qcow2")["corruptions"]
    assert ask("/v1/check/lab/mf.ova")["corruptions"]
    for name in ("top.qcow2", "mono.vmdk", "mf.ova"):
        r = server.get("/v1/check/lab/" + name, {"Accept": "text/event-stream"})
        text = conforms("/v1/check/lab/" + name, "get", r)
        assert json.loads(text.strip().rsplit("data: ", 1)[1]) == ask("/v1/check/lab/" + name)
    r = server.get("/v1/checksum/web/disk.raw?block_size=2M", {"Accept": "text/event-stream"})
    text = conforms("/v1/checksum/web/disk.raw", "get", r)
    last = json.loads(text.strip().rsplit("data: ", 1)[1])
    assert last == ask("/v1/checksum/web/disk.raw?block_size=2M")
    for q in ("algorithm=sha512", "block_size=1M", "block_size=0"):
        d = ask("/v1/checksum/lab/disk.raw?" + q)
        assert ("block_size" in d) == (q == "block_size=1M")
    for name in ("d.tar.gz", "disk.raw.gz", "garbage.gz", "disk.raw.dz", "big.dz"):
        for o in ("lab", "web"):
            ask(f"/v1/index/{o}/{name}")
    r = server.get("/v1/index/lab/d.tar.gz?format=platter")
    conforms("/v1/index/lab/d.tar.gz?format=platter", "get", r)
    assert r.getheader("Content-Type") == "application/vnd.platter.index" and r.body
    for form in ("gztool", "gzidx"):
        r = server.get("/v1/index/lab/d.tar.gz?format=" + form)
        conforms("/v1/index/lab/d.tar.gz?format=" + form, "get", r)
        assert r.getheader("Content-Type") == "application/octet-stream" and r.body
        ask("/v1/index/lab/disk.raw.dz?format=" + form, 404, "not-found")
    ask("/v1/index/lab/disk.raw.dz?format=platter", 404, "not-found")


TRACES = ("/v1/trace/{ref}", "/v1/prefetch/{ref}")


def send(path, body, status, kind=None, method="POST", gate=None, media="application/json"):
    """POST or DELETE; the answer, which conforms."""
    r = (gate or server).get(path, {"Content-Type": media}, method,
                             body=body if isinstance(body, (str, bytes)) or body is None
                             else json.dumps(body))
    assert r.status == status, (path, r.status, r.body[:400])
    return conforms(path, method.lower(), r, kind)


def asked(path, schema, body):
    schema = {"$ref": "#/components/schemas/" + schema}
    fits(schema, body, "as asked")
    answers.append((path, schema, body))
    return body


@case("traces and prefetches: begun, told, loaded, ended")
def traces():
    for o in ("lab", "web"):
        path, ahead = f"/v1/trace/{o}/disk.raw", f"/v1/prefetch/{o}/disk.raw"
        ask(path, 404, "not-found")
        ask(ahead, 404, "not-found")
        send(ahead, {}, 404, "not-found")
        send(path, asked(path, "TraceRecording", {"seconds": 60}), 200)
        assert ask(path)["state"] == "recording"
        server.range(f"/disk/{o}/disk.raw", 1 << 20, 65536)
        d = ask(path)
        assert d["reads"] == [[1 << 20, 65536, 0]] and d["bytes"] == 65536, d
        trace = asked(path, "Trace", {**d, "state": "complete", "reads": d["reads"] + [[0, 1, 7]]})
        d = send(path, trace, 200)
        assert d["state"] == "complete" and d["reads"] == trace["reads"] and d["etag"] == trace["etag"]
        assert d["bytes"] == 65537 and d["created"] == trace["created"]
        for body in (asked(ahead, "PrefetchRequest", {}), asked(ahead, "PrefetchRequest", {"what": "disk"}),
                     asked(ahead, "PrefetchRequest", {"ranges": [[0, 5], [4096, 100000]]})):
            send(ahead, body, 202)
            end = time.time() + 20
            while ask(ahead)["state"] in ("waiting", "running"):
                assert time.time() < end
            d = ask(ahead)
            assert d["state"] == "complete" and d["bytes_done"] == d["bytes_total"], d
        send(ahead, None, 404, "not-found", "DELETE")  # it is over
    size = os.path.getsize(www + "/disk.raw")
    good = {"version": 1, "virtual-size": size, "reads": []}
    for body in ({**good, "reads": 5}, {**good, "colour": 1}, {**good, "version": 2},
                 {**good, "reads": [[0, 0, 0]]}, {**good, "reads": [[size, 1, 0]]},
                 {**good, "reads": [[0, 1]]}, {**good, "reads": [[-1, 1, 0]]},
                 {**good, "reads": [[0, size, 0], [0, 1, 0]]}, {**good, "etag": "x"},
                 {**good, "reads": [[i, 1, 0] for i in range(8193)]}, {**good, "created": "now"},
                 {**good, "virtual-size": size + 1}, {"seconds": 0}, {"seconds": 3601},
                 {"seconds": "5"}, {"colour": 1}, "{", "[]", ""):
        send("/v1/trace/lab/disk.raw", body, 400, "invalid")
        assert ask("/v1/trace/lab/disk.raw")["reads"] == trace["reads"]
    for body in ({"what": "all"}, {"what": 1}, {"what": "disk", "ranges": [[0, 1]]}, {"ranges": []},
                 {"ranges": [[0, 0]]}, {"ranges": [[size, 1]]}, {"ranges": [[0, 2 ** 63 - 1]]},
                 {"ranges": [[0, 1]] * 1025}, {"ranges": [[0, 1, 2]]}, {"ranges": 1}, {"x": 1}, "[]"):
        send("/v1/prefetch/lab/disk.raw", body, 400, "invalid")
    c = http.client.HTTPConnection("127.0.0.1", server.port)  # said before it is sent
    c.putrequest("POST", "/v1/trace/lab/disk.raw")
    c.putheader("Content-Type", "application/json")
    c.putheader("Content-Length", str((1 << 20) + 1))
    c.endheaders()
    r = c.getresponse()
    r.body = r.read()
    assert r.status == 413
    conforms("/v1/trace/lab/disk.raw", "post", r)
    c.close()
    send("/v1/prefetch/lab/disk.raw", "x" * 65537, 413)
    for t in TRACES:
        send(on(t, "lab/disk.raw"), "{}", 415, media="text/plain")
    # One that is ended says so; that of a source which stalls has to be.
    path = "/v1/prefetch/o/stall/disk.raw"
    send(path, {"what": "disk"}, 202)
    send(path, None, 204, None, "DELETE")
    end = time.time() + 20
    while ask(path)["state"] != "stopped":
        assert time.time() < end
    assert ask(path)["error"] == "cancelled"
    send("/v1/trace/web/disk.raw", None, 204, None, "DELETE")
    send("/v1/trace/web/disk.raw", None, 404, "not-found", "DELETE")


@case("disks and sources: whole, ranges, preconditions, digests")
def data():
    for base in ("/disk/lab/", "/raw/lab/", "/disk/web/"):
        path = base + "disk.raw"
        ask(path)
        tag = server.get(path, method="HEAD").getheader("ETag")
        date = server.get(path, method="HEAD").getheader("Last-Modified")
        ask(path, 206, headers={"Range": "bytes=0-99"})
        ask(path, 206, headers={"Range": "bytes=0-9,1000-1009"})
        ask(path, 206, headers={"Range": "bytes=0-9", "If-Range": tag})
        ask(path, 200, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
        for bad in ("bytes=9999999-", "bytes=x", "bytes=5-4", "bytes=" + ",".join(["0-1"] * 65)):
            r = server.get(path, {"Range": bad})
            assert r.status == 416, bad
            conforms(path, "get", r)
        ask(path, 200, headers={"Range": "lines=1-2"})
        ask(path, 304, headers={"If-None-Match": tag})
        ask(path, 304, headers={"If-Modified-Since": date})
        ask(path, 412, headers={"If-Match": '"other"'})
        ask(path, 412, headers={"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"})
        ask(path, 200, headers={"If-Match": tag, "If-Unmodified-Since": date})
        h = {"Range": "bytes=0-99", "Want-Content-Digest": "sha-256=1", "Want-Repr-Digest": "sha-256=1"}
        r = server.get(path, h)
        conforms(path, "get", r)
        assert r.getheader("Content-Digest")
    ask("/v1/checksum/lab/disk.raw")
    assert server.get("/disk/lab/disk.raw", h).getheader("Repr-Digest")
    r = server.get("/disk/lab/disk.raw", {**h, "Origin": "https://ui.example"})
    conforms("/disk/lab/disk.raw", "get", r)
    assert r.getheader("Access-Control-Allow-Origin") == "https://ui.example"
    ask("/disk/lab/empty.raw")
    assert server.get("/disk/debian").body == DISK
    assert server.get("/raw/debian").body == open(www + "/many.tar", "rb").read()
    ask("/raw/lab/top.qcow2?partition=1", 404, "not-found")


@case("origins and images: registered, listed, in pages, deleted")
def catalogue():
    assert {o["kind"] for o in ask("/v1/origins")} == {"local", "http"}
    post = lambda body, kind="application/json", gate=None: (gate or server).get(
        "/v1/images", {"Content-Type": kind}, "POST", body=body)
    full = {"name": "full", "source": "lab/top.qcow2", "snapshot": "one", "partition": "1",
            "secret": "key", "layers": "qcow2", "labels": {"a": "b"}}
    for body, status in (({"name": "box", "source": "lab/d.tar.gz", "member": "disk.raw"}, 201),
                         ({"name": "box", "source": "lab/d.tar.gz", "member": "disk.raw"}, 200),
                         (full, 201), ({"name": "box", "source": "lab/d.tar.gz"}, 409)):
        if status < 300:
            schema = {"$ref": "#/components/schemas/ImageRegistration"}
            fits(schema, body, "as asked")
            answers.append(("/v1/images", schema, body))
        r = post(json.dumps(body))
        assert r.status == status, (body, r.status, r.body)
        row = conforms("/v1/images", "post", r)
        if status < 300:
            assert r.getheader("Location") == "/v1/images/" + body["name"]
            assert ask(r.getheader("Location")) == row and body.items() <= row.items()
    for body in ("{", "[]", {"name": "x"}, {"source": "lab/x"}, {"name": "", "source": "lab/x"},
                 {"name": "a/b", "source": "lab/x"}, {"name": "x", "source": "lab/x", "colour": "red"},
                 {"name": "x", "source": 1}, {"name": "x", "source": "lab/x", "labels": {"a": 1}},
                 {"name": "x", "source": "lab/x", "labels": {str(i): "" for i in range(65)}},
                 {"name": "x", "source": "none/x"}, {"name": "x" * 64, "source": "lab/x"}):
        if isinstance(body, dict) and body.get("source") != "none/x":
            assert not validator({"$ref": "#/components/schemas/ImageRegistration"}).is_valid(body), body
        r = post(body if isinstance(body, str) else json.dumps(body))
        assert r.status == 400, (body, r.status, r.body)
        conforms("/v1/images", "post", r, "invalid")
    for kind in ("text/plain", "application/json-patch+json"):
        r = post("{}", kind)
        assert r.status == 415
        conforms("/v1/images", "post", r)
    r = post(b"x" * 70000)
    assert r.status == 413
    conforms("/v1/images", "post", r)
    r = post("{}", gate=other)
    assert r.status == 501
    conforms("/v1/images", "post", r, "unsupported")
    server.range("/disk/box", 0, 9)
    server.get("/disk/lab/disk.raw?partition=1")
    rows = ask("/v1/images")
    by = {r["name"]: r for r in rows if "registered" in r}
    assert by["debian"]["registered"] == "configuration" and by["box"]["state"] == "open"
    assert by["full"]["state"] == "idle" and len(by) < len(rows)
    assert by["box"]["stack"] == ["tar", "gzip", "file"]
    assert by["box"]["source-size"] == os.path.getsize(www + "/d.tar.gz")
    ask("/v1/images/debian")
    for name, status in (("box", 204), ("full", 204), ("box", 404), ("debian", 403)):
        r = server.get("/v1/images/" + name, method="DELETE")
        assert r.status == status, (name, r.status)
        conforms("/v1/images/" + name, "delete", r)
    ask("/v1/images/box", 404, "not-found")
    r = server.get("/v1/images/box?x=1", method="DELETE")
    assert r.status == 400
    conforms("/v1/images/box", "delete", r, "invalid")
    s = stalled("opening")  # somebody waits for its origin
    end = time.time() + 10
    while "opening" not in {r["state"] for r in ask("/v1/images")}:
        assert time.time() < end
    s.close()


def until(path, is_so, seconds=30):
    end = time.time() + seconds
    while not is_so(d := ask(path)):
        assert time.time() < end, d
        time.sleep(0.05)
    return d


@case("mirrors: made, listed, watched, changed, deleted")
def mirrors():
    at = "/v1/mirrors/"
    until(at + "golden", lambda d: d["state"] == "complete")
    full = asked("/v1/mirrors", "MirrorEntry", {
        "name": "full", "source": "lab/d.tar.gz;member=disk.raw", "priority": -3, "bandwidth": 1 << 20,
        "follow": 3600, "schedule": "00:00-24:00", "trace": False, "fetch": "blocks",
        "output": www + "/full.out", "signed": False})
    for body, status in ((full, 201), (full, 200), ({**full, "priority": 0}, 409)):
        row = send("/v1/mirrors", body, status, None if status < 300 else "exists")
        assert status > 300 or full.items() <= row.items(), row
    d = until(at + "full", lambda d: d["state"] == "complete")
    assert d["virtual_size"] == len(DISK) and open(www + "/full.out", "rb").read() == DISK
    for body in ({"paused": True}, {"paused": False}, {"bandwidth": 0, "follow": 5, "schedule": "",
                 "trace": True, "fetch": "ranges", "priority": 9}, {}):
        body = asked(at + "full", "MirrorChange", body)
        row = send(at + "full", body, 200)
        assert {k: v for k, v in body.items() if k != "paused"}.items() <= row.items(), (body, row)
    send("/v1/mirrors", {"name": "lost", "source": "o/404/x"}, 201)
    assert until(at + "lost", lambda d: d["error"])["virtual_size"] is None
    good = {"name": "x", "source": "lab/x"}
    schema = {"$ref": "#/components/schemas/MirrorEntry"}
    for body in ("{", "[]", {"name": "x"}, {"source": "lab/x"}, {**good, "name": "a/b"},
                 {**good, "name": "x" * 64}, {**good, "source": 1}, {**good, "source": ""},
                 {**good, "colour": 1}, {**good, "priority": 101}, {**good, "priority": 1.5},
                 {**good, "bandwidth": 1023}, {**good, "bandwidth": "1M"}, {**good, "follow": 4},
                 {**good, "schedule": "25:00-01:00"}, {**good, "trace": 1}, {**good, "fetch": "x"},
                 {**good, "signed": "yes"}, {**good, "output": 5}):
        assert isinstance(body, str) or not validator(schema).is_valid(body), body
        send("/v1/mirrors", body, 400, "invalid")
    for body in ({**good, "source": "none/x"}, {**good, "source": "http://a.example/x"},
                 {**good, "source": "golden"}, {**good, "signed": True}):
        send("/v1/mirrors", body, 400, "invalid")
    for body in ({**good, "output": "/etc/passwd"}, {**good, "output": www + "/../x"},
                 {**good, "source": "http://other.example/disk/lab/x"}):
        send("/v1/mirrors", body, 403, "denied")
    send("/v1/mirrors", {**good, "name": "lab"}, 409, "exists")
    send("/v1/mirrors", good, 501, "unsupported", gate=other)
    for path in ("/v1/mirrors", at + "full"):
        send(path, "{}", 415, media="text/plain")
        send(path, "x" * 70000, 413)
    for body in ("{", "[]", {"source": "lab/y"}, {"name": "y"}, {"paused": 1}, {"follow": 4}):
        send(at + "full", body, 400, "invalid")
    send(at + "full?x=1", {}, 400, "invalid")
    send(at + "full?x=1", None, 400, "invalid", "DELETE")
    for path in (at + "none", at + "none/events", at + "a/b"):
        r = server.get(path)
        assert r.status == 404
        assert path.endswith("/b") or conforms(path, "get", r)
        assert server.get(path, method="HEAD").status == 404
        if not path.endswith("/b"):
            conforms(path, "head", server.get(path, method="HEAD"))
    send(at + "none", {}, 404, "not-found")
    send(at + "none", None, 404, "not-found", "DELETE")
    # Watched: each event is the mirror as it was, the last one as it is.
    for path, headers in ((at + "golden/events", {}), (at + "golden", {"Accept": "text/event-stream"})):
        text = conforms(path, "get", server.get(path, headers))
        name, data = re.fullmatch(r"event: (\w+)\ndata: (.*)\n\n", text).groups()
        assert name == "mirror" and json.loads(data) == ask(at + "golden")
    conforms(at + "golden/events", "head", server.get(at + "golden/events", method="HEAD"))
    for name in ("full", "lost"):
        send(at + name, None, 204, None, "DELETE")
    os.remove(www + "/full.out")
    assert [m["name"] for m in ask("/v1/mirrors")] == ["golden"]


@case("files of a folder, those of one prefix, and why there are none")
def files():
    os.makedirs(www + "/folder/deeper")
    shutil.copy(www + "/disk.raw", www + "/folder")
    assert [(x["name"], x["type"], x.get("size")) for x in ask("/v1/files/lab/folder/")] == [
        ("deeper", "directory", None), ("disk.raw", "file", len(DISK))]
    assert ask("/v1/files/lab/folder?prefix=di")[0]["name"] == "disk.raw"
    shutil.rmtree(www + "/folder")
    many = tmp + "/many"
    os.makedirs(many)
    for i in range(10001):
        open(f"{many}/{i}", "w").close()
    r = Platterd({"lab": many}).get("/v1/files/lab/?limit=3")
    assert len(conforms("/v1/files/lab/", "get", r)) == 3
    assert r.getheader("X-List-Truncated") == "true" and r.getheader("X-Total-Count") == "10000"
    shutil.rmtree(many)
    ask("/v1/files/lab//", 400, "invalid")
    ask("/v1/files/lab/?colour=1", 400, "invalid")
    ask("/v1/files/lab/out.raw", 403, "denied")
    ask("/v1/files/none/", 404, "not-found")
    ask("/v1/files/lab/none/", 404, "not-found")
    ask("/v1/files/web/", 501, "unsupported")


@case("lists in pages: Link leads through all of it, however long the reference is")
def pages():
    deep = "d" * 200 + "/" + "e" * 200
    os.makedirs(www + "/" + deep)
    shutil.copy(www + "/many.tar", www + "/" + deep)
    for path in ("/v1/members/lab/many.tar", f"/v1/members/lab/{deep}/many.tar?member=" + "x" * 600,
                 "/v1/files/lab/?prefix=d", "/v1/images", "/v1/origins", "/v1/mirrors", "/v1/snapshots/lab/top.qcow2?offset=0"):
        whole = [r for r in ask(path) if "state" not in r or "registered" in r]
        at, got = ours(path, "limit=1"), []
        while at:
            r = server.get(at)
            page = conforms(at, "get", r)
            assert len(page) == 1 and int(r.getheader("X-Total-Count")) >= len(whole)
            got += [r for r in page if "state" not in r or "registered" in r]
            link = r.getheader("Link")
            at = re.fullmatch(r'<([^>]*)>; rel="next"', link)[1] if link else None
        assert got == whole, path
    assert ask("/v1/origins?offset=1000") == []


@case("the service's own: metrics, health, readiness, the page")
def service():
    server.get("/disk/lab/bad.qcow2")
    assert ask("/v1/errors?limit=3")[0]["layer"] == "qcow2"
    for path in ("/metrics", "/healthz", "/readyz", "/openapi.json", "/", "/healthz?x=1"):
        ask(path)
    for path in ("/", "/web/app.js", "/web/style.css", "/web/icon.svg", "/web/vendor/uplot/LICENSE"):
        for coding in ("identity", "gzip", "br, GZIP;q=0.5", "gzip;q=0", "gzip;q=0.000, br"):
            is_packed = coding.lower() in ("gzip", "br, gzip;q=0.5")
            for method in ("get", "head"):
                r = server.get(path, {"Accept-Encoding": coding}, method.upper())
                assert (r.getheader("Content-Encoding") == "gzip") == is_packed, (path, coding)
                if is_packed and method == "get":
                    r.body = gzip.decompress(r.body)
                conforms(path, method, r)
                source = open(os.path.join(TOP, "web", path.removeprefix("/web/").lstrip("/") or
                                           "index.html"), "rb").read()
                if method == "get":
                    assert r.body == source, path
                r = server.get(path, {"Accept-Encoding": coding, "If-None-Match": r.getheader("ETag")},
                               method.upper())
                conforms(path, method, r)
                assert r.status == 304 and not r.body, (path, r.status)
    for path in ("/web/nope.js", "/web/../gateway/main.c", "/web/", "/web/index.html/"):
        for method in ("get", "head"):
            conforms("/web/nope.js", method, server.get(path, method=method.upper()))
    shutil.move(state, state + ".gone")
    r = server.get("/v1/images", {"Content-Type": "application/json"}, "POST",
                   body='{"name": "lost", "source": "lab/disk.raw"}')
    ask("/readyz", 503)
    shutil.move(state + ".gone", state)
    ask("/readyz", 200)
    r = server.get("/healthz", {"X-Request-Id": "mine.1"})
    assert r.getheader("X-Request-Id") == "mine.1"


def root_of(ref):
    return json.loads(server.get("/v1/manifest/" + ref).body)["root"]


@case("manifests and blocks: the head, the lists, ranges, conditions, progress")
def manifests():
    head = "/v1/manifest/lab/disk.raw"
    for name in ("disk.raw", "empty.raw", "top.qcow2", "x.ova", "d.tar.gz"):
        ask("/v1/manifest/lab/" + name)
    block = f"/v1/blocks/{root_of('lab/disk.raw')}/0"
    for path in (head, head + "/groups", head + "/leaves", head + "/prefixes", head + "/signature",
                 head + "/sources", block):
        ask(path)
        etag = server.get(path).getheader("ETag")
        if path not in (head, head + "/sources"):  # a piece of JSON is none
            ask(path, 206, headers={"Range": "bytes=0-9"})
        ask(path, 304, headers={"If-None-Match": etag})
        ask(path, 412, headers={"If-Match": '"x"'})
        r = server.get(path, {"Range": "bytes=99999999-"})
        assert r.status == 416
        conforms(path, "get", r)
    r = server.get(head + "/leaves", {"Range": "bytes=0-31,200-231"})
    assert conforms(head + "/leaves", "get", r) is None and r.status == 206
    r = server.get(head, {"Accept": "text/event-stream"})
    text = conforms(head, "get", r)
    assert json.loads(text.strip().split("data: ")[-1])["root"] == root_of("lab/disk.raw")
    for form in ("bmap", "rauc", "zsync", "caibx"):
        r = server.get(head + "?format=" + form)
        assert r.status == 200, form
        conforms(head, "get", r)
    id_ = hashlib.new("sha512_256", server.get("/disk/lab/disk.raw").body[:65536]).hexdigest()
    ask(f"{head}/chunks/{id_[:4]}/{id_}.cacnk")
    ask(f"/v1/blocks/{'0' * 64}/0", 404)
    ask(block + "?x=1", 400, "invalid")


# ---- Problems

def on(t, ref):
    return t.replace("{ref}", ref)


@case("every endpoint of an image: 300, 400, 403, 404, 501, 502 as they are written")
def problems():
    for t in ON_IMAGES:
        if "300" in doc["paths"][t]["get"]["responses"]:
            d = ask(on(t, "lab/many.tar?partition=1"), 300, "choice")
            assert len(d["choices"]) == 2
            want = server.get(d["choices"][0]["href"], {"Range": "bytes=0-0"}).status
            assert "partition=1&" in d["choices"][0]["href"] and want in (200, 206, 404, 501), (t, want)
        for ref in ("", "lab/../x", "lab//x", "lab/a%2Fb", "lab/disk.raw?colour=1",
                    "lab/disk.raw?member=a&member=b", "lab/%ff", "lab/%zz", "lab;partition=1/x"):
            r = server.get(on(t, ref))
            assert r.status == 400, (t, ref, r.status)
            conforms(on(t, ref or "x"), "get", r, "invalid")
        ask(on(t, "lab/disk.raw?partition=x"), 400 if "members" not in t else 404)
        ask(on(t, "lab/../x"), 400, "invalid")
        ask(on(t, "lab/out.raw"), 403, "denied")
        ask(on(t, "none/x"), 404, "not-found")
        ask(on(t, "lab/none"), 404, "not-found")
        ask(on(t, "o/404/x"), 404, "not-found")
        if t == "/raw/{ref}":
            ask("/raw/lab/dos.raw?partition=2", 501, "unsupported")
        else:
            ask(on(t, "lab/feature.qcow2"), 501, "unsupported")
            ask(on(t, "lab/bad.qcow2"), 502, "corrupt")
    with ThreadPoolExecutor(16) as pool:  # each tries the origin for a while
        for d in pool.map(lambda t: ask(on(t, "o/500/x"), 502, "origin"), ON_IMAGES):
            assert "detail" not in d, d
    ask("/disk/lab/luks.qcow2", 403, "denied")
    assert "archive" in ask("/v1/members/lab/disk.raw", 404, "not-found")["detail"]
    assert "origin" in ask("/disk/none/x", 404, "not-found")["detail"]


@case("traces and prefetches: what is wrong with the image is said to POST and DELETE as well")
def problems_of_traces():
    for t in TRACES:
        for method, body in (("POST", {}), ("DELETE", None)):
            for ref, status, kind in (("lab/many.tar", 300, "choice"), ("lab/../x", 400, "invalid"),
                                      ("lab/out.raw", 403, "denied"), ("lab/none", 404, "not-found"),
                                      ("lab/feature.qcow2", 501, "unsupported"),
                                      ("lab/bad.qcow2", 502, "corrupt"),
                                      ("o/stall-first/z", 504, "timeout")):
                send(on(t, ref), body, status, kind, method)


@case("a source that changes while it is read is 502, and says that one may ask again")
def changed():
    r = server.get("/disk/o/changed/disk.raw", {"Range": "bytes=6000000-6000999"})
    d = conforms("/disk/o/changed/disk.raw", "get", r)
    assert d["type"] == "/problems/changed" and r.getheader("Retry-After")


def stalled(name, gate=None):
    """A request whose origin says nothing for long."""
    s = socket.create_connection(("127.0.0.1", (gate or server).port))
    s.sendall(b"GET /disk/o/stall-first/%s HTTP/1.1\r\nHost: x\r\n\r\n" % name.encode())
    return s


@case("a slow origin is 504 at every endpoint")
def slow():
    gate = Platterd({"o": origin.url()}, "--deadline", "1")
    rows = [(on(t, f"o/stall-first/{i}"), m) for i, t in enumerate(ON_IMAGES) for m in ("get", "head")]
    with ThreadPoolExecutor(32) as pool:
        got = list(pool.map(lambda x: gate.get(x[0], method=x[1].upper()), rows))
    for (path, m), r in zip(rows, got):
        assert r.status == 504, (path, r.status)
        conforms(path, m, r, "timeout" if m == "get" else None)


@case("a gateway without a free worker is 503 at every endpoint")
def busy():
    folder = tmp + "/busy"
    gate = Platterd({"o": origin.url(), "lab": www}, "--deadline", "20", "--workers", "1",
                    "--state", folder)
    waiting = [stalled("first", gate)]
    time.sleep(0.5)  # it runs; then the queue is filled
    waiting += [stalled(f"b{i}", gate) for i in range(8)]
    time.sleep(0.5)
    for t in ON_IMAGES:
        ask(on(t, "lab/gpt.raw"), 503, "busy", gate)
    ask("/v1/files/lab/", 503, "busy", gate)
    body = '{"name": "x", "source": "lab/x"}'
    r = gate.get("/v1/images", {"Content-Type": "application/json"}, "POST", body=body)
    assert r.status == 503
    conforms("/v1/images", "post", r, "busy")
    send("/v1/mirrors", {"name": "x", "source": "lab/x"}, 503, "busy", "POST", gate)
    send("/v1/mirrors/x", {}, 503, "busy", "POST", gate)
    send("/v1/mirrors/x", None, 503, "busy", "DELETE", gate)
    for t in TRACES:
        send(on(t, "lab/gpt.raw"), {}, 503, "busy", "POST", gate)
        send(on(t, "lab/gpt.raw"), None, 503, "busy", "DELETE", gate)
    r = gate.get("/v1/images/x", method="DELETE")
    assert r.status == 503
    conforms("/v1/images/x", "delete", r, "busy")
    for s in waiting:
        s.close()


@case("a client of whom too many wait is 429 at every endpoint")
def too_many():
    folder = tmp + "/too-many"
    gate = Platterd({"o": origin.url(), "lab": www}, "--deadline", "20", "--state", folder,
                    "--mirror", "golden=lab/disk.raw",
                    "--max-waiting-per-client", "1")
    waiting = stalled("one", gate)
    time.sleep(0.5)
    for t in ON_IMAGES:
        ask(on(t, "lab/gpt.raw"), 429, None, gate)
    ask("/v1/files/lab/", 429, None, gate)
    body = '{"name": "x", "source": "lab/x"}'
    r = gate.get("/v1/images", {"Content-Type": "application/json"}, "POST", body=body)
    assert r.status == 429
    conforms("/v1/images", "post", r)
    send("/v1/mirrors", {"name": "x", "source": "lab/x"}, 429, None, "POST", gate)
    send("/v1/mirrors/x", {}, 429, None, "POST", gate)
    send("/v1/mirrors/x", None, 429, None, "DELETE", gate)
    for path in ("/v1/mirrors/golden/events", "/v1/mirrors/golden"):
        r = gate.get(path, {"Accept": "text/event-stream"})
        assert r.status == 429, r.status
        conforms(path, "get", r)
    for t in TRACES:
        send(on(t, "lab/gpt.raw"), {}, 429, None, "POST", gate)
        send(on(t, "lab/gpt.raw"), None, 429, None, "DELETE", gate)
    r = gate.get("/v1/images/x", method="DELETE")
    assert r.status == 429
    conforms("/v1/images/x", "delete", r)
    waiting.close()


@case("a gateway that ends answers 503 for images, and is not ready")
def draining():
    gate = Platterd({"o": origin.url(), "lab": www}, "--deadline", "20", "--drain", "3")
    c = http.client.HTTPConnection("127.0.0.1", gate.port)
    c.request("GET", "/healthz")
    c.getresponse().read()
    s = stalled("drain", gate)
    time.sleep(0.3)
    gate.proc.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    for path in ("/disk/lab/disk.raw", "/v1/info/lab/disk.raw", "/readyz"):
        c.request("GET", path)
        r = c.getresponse()
        r.body = r.read()
        assert r.status == 503, (path, r.status)
        conforms(path, "get", r)
    c.close()
    s.close()


@case("a state folder that cannot be written is 500 for who changes the list")
def not_kept():
    folder = tmp + "/lost"
    gate = Platterd({"lab": www}, "--state", folder)
    send = lambda name: gate.get("/v1/images", {"Content-Type": "application/json"}, "POST",
                                 body=json.dumps({"name": name, "source": "lab/disk.raw"}))
    assert send("a").status == 201
    mirror = lambda path, method, body=None: conforms(path, method.lower(), gate.get(
        path, {"Content-Type": "application/json"}, method, body=json.dumps(body)), "io")
    assert gate.get("/v1/mirrors", {"Content-Type": "application/json"}, "POST", body=json.dumps(
        {"name": "m", "source": "lab/disk.raw"})).status == 201
    while json.loads(gate.get("/v1/mirrors/m").body)["state"] != "complete":
        time.sleep(0.1)
    shutil.rmtree(folder)
    r = send("b")
    assert r.status == 500, r.status
    conforms("/v1/images", "post", r, "io")
    mirror("/v1/mirrors", "POST", {"name": "n", "source": "lab/disk.raw"})
    mirror("/v1/mirrors/m", "POST", {"priority": 1})
    mirror("/v1/mirrors/m", "DELETE")
    r = gate.get("/v1/trace/lab/disk.raw", {"Content-Type": "application/json"}, "POST",
                 body=json.dumps({"version": 1, "virtual-size": len(DISK), "reads": []}))
    assert r.status == 500, r.body
    conforms("/v1/trace/lab/disk.raw", "post", r, "io")
    r = gate.get("/v1/images/a", method="DELETE")
    assert r.status == 500
    conforms("/v1/images/a", "delete", r, "io")


# ---- Parameters

# A value of each parameter, and an image for which it means something.
VALUES = {"member": ("sub/b.img", "lab/many.tar"), "snapshot": ("one", "lab/top.qcow2"),
          "partition": ("1", "lab/gpt.raw"), "layers": ("gzip", "lab/disk.raw.gz"),
          "secret": ("key", "lab/luks.qcow2"), "start": ("1M", "lab/disk.raw"),
          "length": ("64k", "lab/disk.raw"), "context": ("dirty:b0", "lab/top.qcow2"),
          "algorithm": ("sha512", "lab/disk.raw"), "block_size": ("4M", "lab/disk.raw"),
          "format": (None, "lab/d.tar.gz"), "edge": ("http://10.0.0.9:8080/", "lab/disk.raw"), "limit": ("5", None), "offset": ("1", None),
          "prefix": ("disk", None), "search": ("DISK", None), "sort": (None, None), "buckets": (3, "lab/disk.raw")}
IMAGE_FOR = {"members": "lab/many.tar", "snapshots": "lab/top.qcow2", "index": "lab/d.tar.gz",
             "check": "lab/top.qcow2"}


@case("every documented query parameter is taken, with its words, bounds and default; no other is")
def query():
    n = 0
    for t in doc["paths"]:
        params = [p for p in parameters(t, "get") if p["in"] == "query"]
        is_strict = t.startswith(("/disk", "/raw", "/v1"))
        kind = t.split("/")[2] if t.startswith("/v1") else ""
        plain = named(t, IMAGE_FOR.get(kind, "lab/disk.raw"))
        plain = plain.replace("{root}", root_of("lab/disk.raw")).replace("{n}", "0")
        base = server.get(plain)
        assert base.status == 200, plain
        for extra in ("colour=1", "Member=x", "x"):
            for m in ("get", "head"):
                r = server.get(ours(plain, extra), method=m.upper())
                assert r.status == (400 if is_strict else 200), (t, extra, r.status)
                conforms(plain, m, r)
        assert not (params and not is_strict)
        for p in params:
            name, schema = p["name"], p["schema"]
            value, image = VALUES[name]
            path = t.replace("{ref}", image) if image and "{ref}" in t else plain
            if kind == "index" and name in ("snapshot", "partition"):
                path = None  # an image with both is rare: that it is known is enough
            elif kind == "index" and name != "layers":
                path, value = plain, "disk.raw" if name == "member" else value
            if kind == "members":
                path = plain
                value = "tar" if name == "layers" else value
            if kind == "check" and name not in ("member", "snapshot", "secret"):
                path = t.replace("{ref}", "lab/top.qcow2")
                value = "qcow2" if name == "layers" else value
            for v in schema.get("enum", [value]):
                if path:
                    r = server.get(ours(path, f"{name}={v}"))
                    ok = (200,) if kind != "check" or name != "member" else (200, 501)
                    if kind in ("trace", "prefetch"):
                        ok = (200, 404)  # another disk, which has none
                    assert r.status in ok, (path, name, v, r.status, r.body[:200])
                else:
                    r = server.get(ours(plain, f"{name}=1"))
                    assert r.status != 400 or b"unknown" not in r.body
                if isinstance(v, str) and schema.get("type") == "string":
                    fits(schema, v, name)
                n += 1
            if "enum" in schema:
                assert server.get(ours(plain, f"{name}=nonsense")).status == 400, (t, name)
            if "default" in schema:
                r = server.get(ours(plain, f"{name}={schema['default']}"))
                assert r.status == 200 and (r.body == base.body or t_moves(plain)), (t, name)
            for edge, d in (("minimum", -1), ("maximum", 1)):
                if edge in schema:
                    assert server.get(ours(plain, f"{name}={schema[edge]}")).status == 200
                    assert server.get(ours(plain, f"{name}={schema[edge] + d}")).status == 400, (t, name)
            for bad in (f"{name}=1&{name}=1", name):
                r = server.get(ours(plain, bad))
                assert r.status == 400, (t, bad, r.status)
            if schema.get("pattern", "").startswith("^[0-9]"):
                for bad in ("-1", "1x", "1.5", " 1"):
                    r = server.get(ours(plain, f"{name}=" + bad.replace(" ", "%20")))
                    assert not re.search(schema["pattern"], bad)
                    assert r.status == 400 or kind == "members", (t, name, bad, r.status)
    assert n > 60, n
    for bad in ("member=x", "snapshot=x", "layers=", "layers=qcow2", "secret=key"):
        ask("/raw/lab/disk.raw?" + bad, 400, "invalid")


# ---- Rights

@case("without a right, and with a token that has none: 401 and 403 as they are written")
def rights():
    digest = hashlib.sha256(b"token").hexdigest()
    gate = Platterd({"lab": www}, "--access", "local=", "--access", f"t=:token:{digest}")
    n = 0
    for t, item in doc["paths"].items():
        for m in METHODS:
            if "401" not in item.get(m, {}).get("responses", {}):
                continue
            path = named(t)
            headers = {"Content-Type": "application/json"}
            for status in (401, 403):
                r = gate.get(path, headers, m.upper(), body="{}" if m == "post" else None)
                assert r.status == status, (m, path, r.status)
                conforms(path, m, r)
                headers["Authorization"] = "Bearer token"
                n += 1
    assert n > 60, n
    for t in ("/", "/healthz", "/readyz", "/openapi.json"):
        assert gate.get(t).status == 200, t


# ---- All of it

# What cannot be brought about from outside, and why.
NOT_HERE = {("get", 500): "a disk that fails, or a mistake of ours",
            ("head", 500): "the same",
            **{("/v1/blocks/{root}/{n}", m, s): "tests/http/test_manifest.py, or as /disk"
               for m in ("get", "head") for s in (429, 502, 503, 504)},
            ("/v1/prefetch/{ref}", "post", 500): "a disk that fails",
            ("/v1/trace/{ref}", "delete", 500): "the same",
            ("/v1/prefetch/{ref}", "delete", 500): "the same"}


@case("every status that is documented was seen, but for those that need broken hardware")
def all_seen():
    there = {(t, m, int(status)) for t, item in doc["paths"].items() for m in METHODS
             for status in item.get(m, {}).get("responses", {})}
    missing = {x for x in there - seen if x not in NOT_HERE and (x[1], x[2]) not in NOT_HERE}
    assert not missing, missing


# Fields that only a damaged image or one of rare tools has.
RARE = {"VmdkSpecific/uses-redundant-directory", "VmdkSpecific/directory-rebuilt",
        "VmdkSpecific/unclean-shutdown", "TarLayer/compression", "Info/compressed",
        "Qcow2Layer/compressed", "Qcow2Layer/encrypted", "Qcow2Specific/ivgen-hash-alg",
        "PartitionTable/filesystems-unread", "VmdkLayer/cluster-size",
        "VmdkLayer/format-specific", "VmdkLayer/backing-filename",
        # of a followed mirror whose source has moved on; where keys are configured
        "Mirror/next_root", "Mirror/signature"}


def contradicted(broken, reach):
    """Some answer does not fit the spoilt document."""
    return any(not validator(schema, broken).is_valid(value) for _, schema, value in reach)


known = {}


def reaches(schema, name):
    """The schema leads to #/components/schemas/name."""
    key = (id(schema), name)
    if key not in known:
        known[key] = False
        todo, been = [schema], set()
        while todo and not known[key]:
            for _, x in every(todo.pop()):
                to = x.get("$ref", "") if isinstance(x.get("$ref", ""), str) else ""
                if to.endswith("schemas/" + name):
                    known[key] = True
                elif to and to not in been:
                    been.add(to)
                    todo.append(follow({"$ref": to}))
    return known[key]


@case("the check can fail: a field taken out or of another type is found, at every field")
def spoil():
    some, size = [], {}
    for t, schema, value in answers:  # small ones, and not too many that look alike
        look = (t, json.dumps(sorted(keys_of(value))))
        size[look] = size.get(look, 0) + 1
        if size[look] <= 2 and len(json.dumps(value)) < 20000:
            some.append((t, schema, value))
    n, rare = 0, set()
    for name, top in doc["components"]["schemas"].items():
        reach = [a for a in some if reaches(a[1], name)]
        for i, s in enumerate(list(subschemas(top))):
            if "description" not in s or s.get("additionalProperties") is not False:
                continue  # a condition; what plugins of somebody else tell
            for field in s.get("properties", {}):
                id_ = f"{name}/{field}"
                found = []
                for how in ("drop", "type"):
                    broken = copy.deepcopy(doc)
                    at = list(subschemas(broken["components"]["schemas"][name]))[i]
                    if how == "drop":
                        del at["properties"][field]
                    else:
                        at["properties"][field] = {"type": "null"}
                    found.append(contradicted(broken, reach))
                    n += 1
                if not all(found):
                    rare.add(id_)
    assert rare == RARE, sorted(rare ^ RARE)
    assert n > 400, n
    # The other way round: an answer with a field more, or less.
    n = 0
    for t, schema, value in some:
        if isinstance(value, dict) and "openapi" not in value:
            assert not validator(schema).is_valid({**value, "colour": 1}), (t, value)
            n += 1
    assert n > 50, n
    for name, field in (("Info", "layers"), ("Checksum", "checksum"), ("Check", "check-errors"),
                        ("Problem", "status"), ("PartitionTable", "partitions")):
        x = next(v for t, s, v in some if reaches(s, name) and isinstance(v, dict) and field in v)
        less = {k: v for k, v in x.items() if k != field}
        assert not validator({"$ref": "#/components/schemas/" + name}).is_valid(less), name


def keys_of(value, path=""):
    if isinstance(value, dict):
        out = set()
        for k, v in value.items():
            out |= {f"{path}/{k}"} | keys_of(v, f"{path}/{k}")
        return out | {f"{path}={value[k]}" for k in ("type", "driver", "label", "state") if k in value}
    if isinstance(value, list):
        return set().union(*(keys_of(v, path + "[]") for v in value)) if value else {path + "[]"}
    return set()


other = Platterd({"lab": www})
main()
