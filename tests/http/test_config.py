# SPDX-License-Identifier: Apache-2.0
"""The configuration file: mistakes with their line and key, the published
schema, flags."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www)
open(www + "/d.raw", "wb").write(b"x" * 100000)
open(tmp + "/key", "w").write("secret")
SCHEMA = json.load(open(TOP + "/gateway/platterd.schema.json"))
GOOD = {"listen": ["127.0.0.1:0", "[::1]:0"], "state_dir": tmp + "/state",
        "origins": {"gce": {"url": "https://storage.example.com/images/"}, "lab": {"path": www}},
        "secrets": {"disk-key": {"file": tmp + "/key"}},
        "images": {"debian": {"source": "gce/debian.tar.gz", "member": "disk.raw", "snapshot": "1",
                              "partition": "1", "secret": "disk-key", "layers": "tar,gzip",
                              "labels": {"a": "b"}}},
        "cors": ["https://ui.example:8443"], "log_level": "info", "cache_size": "64M",
        "deadline": 10, "workers": 16, "max_waiting_per_image": 8, "max_open": 32,
        "max_connections": 128, "max_ranges": 16, "revalidate": 0, "drain": 0,
        "plugin_path": "", "pid_file": tmp + "/pid"}


def check(text, *flags, env=None):
    path = tmp + "/c.json"
    open(path, "w").write(text if isinstance(text, str) else json.dumps(text, indent=1))
    return subprocess.run([BIN + "/platterd", "--check-config", "--config", path, *flags],
                          capture_output=True, text=True, timeout=60,
                          env={**os.environ, **(env or {})})


def fits(value, schema, root=SCHEMA):
    """The keywords of JSON Schema that the published one uses, and no others."""
    known = {"$schema", "$id", "$ref", "$defs", "title", "description", "type", "properties",
             "additionalProperties", "propertyNames", "required", "minProperties", "maxProperties",
             "items", "maxItems", "pattern", "enum", "minimum", "maximum", "maxLength"}
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema and not fits(value, root["$defs"][schema["$ref"].split("/")[-1]]):
        return False
    types = {"object": dict, "array": list, "string": str, "integer": int}
    want = schema.get("type", [])
    want = [want] if isinstance(want, str) else want
    if want and not (any(isinstance(value, types[t]) for t in want) and not isinstance(value, bool)):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, str):
        return bool(re.search(schema.get("pattern", ""), value)) and \
            len(value) <= schema.get("maxLength", 1 << 30)
    if isinstance(value, int):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, list):
        return len(value) <= schema.get("maxItems", 1 << 30) and \
            all(fits(v, schema.get("items", {})) for v in value)
    if isinstance(value, dict):
        props, more = schema.get("properties", {}), schema.get("additionalProperties", {})
        if not (schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 1 << 30)
                and all(k in value for k in schema.get("required", []))):
            return False
        for k, v in value.items():
            if not fits(k, schema.get("propertyNames", {})):
                return False
            if k not in props and more is False:
                return False
            if not fits(v, props[k] if k in props else more or {}):
                return False
    return True


@case("a file with everything is good, by the program and by the schema")
def good():
    r = check(GOOD)
    assert r.returncode == 0 and r.stdout == "platterd: the configuration is good\n", (r.stdout, r.stderr)
    assert fits(GOOD, SCHEMA)
    assert set(GOOD) == set(SCHEMA["properties"])


BAD = [  # text, line, words
    ('{"listen": [\n"x"]}', 2, "listen[0]"),
    ('{"listen": [\n"a:1",\n 5]}', 3, "listen[1]"),
    ('{"listen": "127.0.0.1:1"}', 1, "listen: is an array"),
    ('{\n"colour": "red"}', 2, "colour: unknown key"),
    ('{\n\n"workers": 0}', 3, "workers is 1 to 4096"),
    ('{"workers": "many"}', 1, "workers is 1 to 4096"),
    ('{"workers": 1.5}', 1, "workers: is a text or a whole number"),
    ('{"cache_size": "1k"}', 1, "cache_size is 1048576"),
    ('{"log_level": "loud"}', 1, "log_level is error, warn, info or debug"),
    ('{"max_ranges": 5000}', 1, "max_ranges is 1 to 1024"),
    ('{"origins": {\n "a": {}}}', 2, "origins.a: has neither url nor path"),
    ('{"origins": {\n "a": {"path": "/",\n "url": "http://x/"}}}', 3, "an origin has one"),
    ('{"origins": {\n "a": {"path": "relative"}}}', 2, "origins.a: origin a: an http(s) URL or an absolute folder"),
    ('{"origins": {"a": {"path": "/does/not/exist"}}}', 1, "origins.a"),
    ('{"origins": {"a": {"url": "ftp://x/"}}}', 1, "not an http or https URL"),
    ('{"origins": {"a": {"url": "http://u:p@x/"}}}', 1, "without user"),
    ('{"origins": {"a b": {"path": "/"}}}', 1, "letters, digits"),
    ('{"origins": {"a": {"path": "/", "x": "y"}}}', 1, "origins.a.x: unknown key"),
    ('{"origins": {"a": {"path": "/"}},\n"images": {"a": {"source": "a/x"}}}', 2, "an origin has this name"),
    ('{"origins": {"a": {"path": "/"}},\n"images": {\n"b": {"source": "c/x"}}}', 3, "images.b.source: c/x is not in any origin"),
    ('{"origins": {"a": {"path": "/"}},\n"images": {\n"b": {"source": "a/../x"}}}', 3, "images.b.source"),
    ('{"origins": {"a": {"path": "/"}},\n"images": {\n"b": {"member": "x"}}}', 3, "images.b: has no source"),
    ('{"origins": {"a": {"path": "/"}},\n"images": {\n"b": {"source": "a/x",\n"labels": {"l": 5}}}}', 4, "images.b.labels.l: not a text"),
    ('{"secrets": {"k": {}}}', 1, "secrets.k: a secret has a file or a credential"),
    ('{"secrets": {\n"k": {"file": "/does/not/exist"}}}', 2, "cannot be read"),
    ('{"secrets": {\n"k": {"credential": "a/b"}}}', 2, "no slash"),
    ('{"secrets": {\n"k": {"credential": "a"}}}', 2, "CREDENTIALS_DIRECTORY"),
    ('{"cors": ["https://x/path"]}', 1, "cors[0]: cors takes"),
    ('{"drain": 1,\n"drain": 2}', 2, "duplicate"),
    ('{"drain": 1,\n}', 2, ""),
    ('[]', 1, "one JSON object"),
]


@case("each mistake is told with its line and key, and the schema sees it too")
def bad():
    for text, line, words in BAD:
        r = check(text, env={"CREDENTIALS_DIRECTORY": ""} if False else None)
        assert r.returncode == 2 and r.stdout == "", (text, r)
        assert f"c.json:{line}: " in r.stderr and words in r.stderr, (text, r.stderr)
        try:
            value = json.loads(text)
        except ValueError:
            continue
        # What needs the disk or another key, a schema cannot say.
        beyond = ("CREDENTIALS", "cannot be read", "this name", "not in any", "duplicate", "images.b.source")
        if not any(b in words for b in beyond) and "/does/not" not in text and '"1k"' not in text \
                and '"many"' not in text:
            assert not fits(value, SCHEMA), text


@case("all mistakes of a file at once")
def several():
    r = check('{"workers": 0,\n "colour": 1,\n "listen": [5]}')
    assert [l.split(":")[2] for l in r.stderr.strip().split("\n")] == ["1", "2", "3"], r.stderr


@case("flags: the same settings, their mistakes, and what is only there")
def flags():
    for args, words in ((["--workers", "0"], "workers is 1 to"), (["--origin", "x"], "--origin takes"),
                        (["--image", "a=nowhere/x"], "not in any origin"),
                        (["--cors", "x"], "cors takes"), (["--listen", "x"], "listen takes"),
                        (["--secret", "k=/does/not/exist"], "cannot be read"), (["what"], "what is this")):
        r = check({}, *args)
        assert r.returncode == 2 and words in r.stderr, (args, r.stderr)
    r = check({}, "--origin", f"o={www}", "--image", "i=o/d.raw?partition=1&member=a%20b", "--state-dir", tmp)
    assert r.returncode == 0, r.stderr
    usage = sh([BIN + "/platterd", "--help"]).decode()
    for key in SCHEMA["properties"]:
        flag = "--" + {"origins": "origin", "images": "image", "secrets": "secret",
                       "state_dir": "state"}.get(key, key.replace("_", "-"))
        assert flag in usage, flag
    server = Platterd({"o": www}, "--image", "i=o/d.raw")
    assert server.get("/disk/i").body == b"x" * 100000


@case("secrets come from files and credentials, and are in no log and no process list")
def secrets():
    sh(f"qemu-img create -q --object secret,id=k,file={tmp}/key -f qcow2 -o encrypt.format=luks,"
       f"encrypt.key-secret=k,encrypt.iter-time=50 {www}/luks.qcow2 1M || "
       f"qemu-img create -q --object secret,id=k,file={tmp}/key -f qcow2 -o encrypt.format=luks,"
       f"encrypt.key-secret=k,encrypt.iter-time=500 {www}/luks.qcow2 1M")
    folder = tmp + "/cred"
    os.makedirs(folder)
    shutil.copy(tmp + "/key", folder + "/disk")
    conf = tmp + "/s.json"
    json.dump({"secrets": {"k": {"credential": "disk"}}, "origins": {"lab": {"path": www}}}, open(conf, "w"))
    os.environ["CREDENTIALS_DIRECTORY"] = folder
    server = Platterd({}, "--config", conf, "--log-level", "debug")
    del os.environ["CREDENTIALS_DIRECTORY"]
    assert server.get("/disk/lab/luks.qcow2?secret=k", timeout=120).body == bytes(1 << 20)
    line = open(f"/proc/{server.proc.pid}/cmdline").read()
    assert "secret" not in line.replace("--secret", "") and "=secret" not in server.text(), line


main()
