#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""platterd.json(5): what --check-config says of good and bad files, and that the
published schema says the same as far as a schema can.

The schema is read by a validator of the few keywords that it uses, below; it
refuses a keyword that it does not know."""
import base64, json, os, re, signal, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from live import BIN, TOP, Platterd, case, main, sh, tmp

SCHEMA = json.load(open(os.path.join(TOP, "gateway/platterd.schema.json")))

# ---- What the files name ----

folder = os.path.join(tmp, "folder")
os.mkdir(folder)
key_file, empty, big, keys = (os.path.join(tmp, n) for n in
                              ("key", "empty", "big", "credentials"))
os.mkdir(keys)
for name, size in ((key_file, 32), (empty, 0), (big, 4097), (keys + "/disk", 9)):
    with open(name, "wb") as f:
        f.write(b"k" * size)


pem = os.path.join(tmp, "pem")
sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=x"
   f" -keyout {pem} -out {pem}.crt && cat {pem}.crt >> {pem}")


minisign_key = os.path.join(tmp, "minisign.key")
sh(f"minisign -G -W -p {minisign_key}.pub -s {minisign_key}")
headers = os.path.join(tmp, "headers")
with open(headers, "w") as f:
    f.write("# a comment\nAuthorization: Bearer x\nCookie: a=b\n\n")


# A public key as minisign(1) writes it, by itself and in a file.
MINISIGN = base64.b64encode(b"Ed" + bytes(range(40))).decode()
minisign = os.path.join(tmp, "minisign.pub")
with open(minisign, "w") as f:
    f.write(f"untrusted comment: minisign public key\n{MINISIGN}\n")


def fill(text):
    text = text.replace("@MINISIGN@", MINISIGN).replace("@KEYFILE@", minisign)
    return (text.replace("@PEM@", pem).replace("@HEADERS@", headers).replace("@DIGEST@", "0" * 64).replace("@FOLDER@", folder).replace("@KEY@", key_file)
            .replace("@MINISECRET@", minisign_key).replace("@EMPTY@", empty).replace("@BIG@", big))


def write(text, name="platterd.json"):
    path = os.path.join(tmp, name)
    with open(path, "w" if isinstance(text, str) else "wb") as f:
        f.write(fill(text) if isinstance(text, str) else text)
    return path


def run(*args, credentials=keys):
    env = dict(os.environ)
    env.pop("CREDENTIALS_DIRECTORY", None)
    if credentials:
        env["CREDENTIALS_DIRECTORY"] = credentials
    r = subprocess.run([BIN + "/platterd", *args], capture_output=True, text=True,
                       timeout=30, env=env)
    for word in ("Sanitizer", "runtime error"):
        assert word not in r.stderr, r.stderr[-3000:]
    return r


def check(text, *flags, **kw):
    """Exit, and the mistakes as (line, key, text); of flags the line is None."""
    path = write(text)
    r = run("--config", path, *flags, "--check-config", **kw)
    out = []
    for line in r.stderr.splitlines():
        m = re.fullmatch(r"platterd: (?:" + re.escape(path) +
                         r"(?::(\d+))?: )?(?:([^:\s][^:]*?): )?(.*)", line)
        assert m, line
        out.append((m[1] and int(m[1]), m[2] or "", m[3]))
    assert (r.returncode == 0) == (not out), (r.returncode, r.stderr)
    assert r.returncode in (0, 2), r.returncode
    assert r.stdout == ("" if out else "platterd: configuration is good\n"), r.stdout
    return out


# ---- The schema ----

IGNORED = {"$schema", "$comment", "$defs", "title", "description", "default"}
TYPES = {"object": lambda v: isinstance(v, dict), "array": lambda v: isinstance(v, list),
         "string": lambda v: isinstance(v, str),
         "boolean": lambda v: isinstance(v, bool),
         "integer": lambda v: isinstance(v, (int, float)) and
         not isinstance(v, bool) and v == int(v)}


def is_number(v):
    return isinstance(v, (int, float)) and not isinstance(v, bool)


def matches(pattern, text):
    # ECMA-262's $ is the end of the text, python's also before a last newline.
    return re.search(re.sub(r"\$(?=\)|$)", r"\\Z", pattern), text) is not None


def objects(schema, v):
    """Keywords of objects, together: additionalProperties needs properties."""
    known = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in v:
            yield f"no {name}"
    if len(v) > schema.get("maxProperties", len(v)):
        yield "too many"
    for name, value in v.items():
        if "propertyNames" in schema:
            yield from wrong(schema["propertyNames"], name)
        rest = schema.get("additionalProperties", True)
        if name in known:
            yield from wrong(known[name], value)
        elif rest is False:
            yield f"unknown {name}"
        elif rest is not True:
            yield from wrong(rest, value)


def wrong(schema, v):
    """What the schema has against a value, JSON Schema 2020-12."""
    of_objects = {"properties", "required", "maxProperties", "propertyNames",
                  "additionalProperties"}
    for word, arg in schema.items():
        if word in IGNORED or word in of_objects:
            continue
        if word == "$ref":
            yield from wrong(SCHEMA["$defs"][arg.removeprefix("#/$defs/")], v)
        elif word == "type":
            if not TYPES[arg](v):
                yield f"not {arg}"
        elif word == "enum":
            if v not in arg:
                yield f"not one of {arg}"
        elif word in ("anyOf", "oneOf"):
            good = sum(not list(wrong(s, v)) for s in arg)
            if good == 0 or (word == "oneOf" and good > 1):
                yield f"{good} of {word}"
        elif word == "pattern":
            if isinstance(v, str) and not matches(arg, v):
                yield f"not {arg}"
        elif word in ("minLength", "maxLength"):
            if isinstance(v, str) and (len(v) < arg) == (word == "minLength") \
                    and len(v) != arg:
                yield f"{word} {arg}"
        elif word in ("minimum", "maximum"):
            if is_number(v) and (v < arg) == (word == "minimum") and v != arg:
                yield f"{word} {arg}"
        elif word in ("items", "maxItems", "minItems"):
            if isinstance(v, list) and word == "maxItems" and len(v) > arg:
                yield "too many items"
            elif isinstance(v, list) and word == "minItems" and len(v) < arg:
                yield "too few items"
            elif isinstance(v, list) and word == "items":
                for item in v:
                    yield from wrong(arg, item)
        else:
            raise AssertionError("the validator does not know " + word)
    if isinstance(v, dict):
        yield from objects(schema, v)


def wait_for(is_so, seconds=10):
    end = time.time() + seconds
    while not is_so():
        assert time.time() < end, "waited in vain"
        time.sleep(0.02)


def by_schema(text):
    return list(wrong(SCHEMA, json.loads(fill(text))))


# ---- Good files ----

GOOD = """{
  "listen": ["127.0.0.1:0", "unix:/run/p.sock", "systemd:web", "https://[::]:443", ":65535", "0.0.0.0:00080"],
  "cors": ["*", "https://ui.example", "http://localhost:3000", "http://[::1]:80"],
  "origins": {
    "web": {"url": "https://images.example/pub"},
    "bare": {"url": "http://images.example:8080",
             "addresses": ["10.1.0.0/16", "fd00::1", "127.0.0.1"],
             "headers": "@HEADERS@", "ca": "@PEM@", "certificate": "@PEM@"},
    "Local.1_x-": {"path": "@FOLDER@"}
  },
  "images": {
    "debian": {"source": "web/a%20b/x.tar.gz", "member": "disk \\u00e9.raw",
               "snapshot": "1", "partition": "2", "layers": "tar,gzip",
               "secret": "one,two", "labels": {"os": "debian", "": ""}},
    "plain": {"source": "Local.1_x-/a;member=b", "layers": ""}
  },
  "secrets": {"one": {"file": "@KEY@"}, "two": {"credential": "disk"}},
  "access": {
    "ci": {"token_sha256": "@DIGEST@", "scopes": ["read", "metadata"], "images": ["web/*"],
           "secrets": ["one"], "expires": "2027-01-31T12:00:00Z"},
    "edge": {"certificate": "*.edge.example", "scopes": ["mirror", "admin"]},
    "hv": {"signing_key": "@KEY@", "scopes": []},
    "local": {"scopes": ["read"]}
  },
  "mirrors": {
    "edge": {"source": "http://images.example:8080/gw/disk/web/x.tar.gz;member=disk.raw",
             "priority": -100, "bandwidth": "1M", "follow": 30.0, "schedule": "22:00-24:00",
             "output": "@FOLDER@/edge.raw", "signed": true, "trace": false, "fetch": "blocks"},
    "copy": {"source": "Local.1_x-/a", "priority": 100, "bandwidth": 0, "follow": 0,
             "schedule": "", "fetch": "auto"}
  },
  "seeds": ["Local.1_x-/old.qcow2", "debian"],
  "outputs": ["@FOLDER@/", "@FOLDER@/one.raw"],
  "mirror_keys": ["@MINISIGN@", "@KEYFILE@"],
  "advertise": "https://edge.example/platter/",
  "store_size": "64M",
  "store_compression": "zstd",
  "mirror_bandwidth": 1024,
  "scrub_rate": 0,
  "tls_certificate": "@PEM@",
  "tls_key": "@PEM@",
  "tls_client_ca": "@PEM@",
  "manifest_key": "@MINISECRET@",
  "siblings": ["http://10.0.0.2:8080", "https://b.example/x/", "http://[::1]:80/"],
  "state_dir": "/nowhere/yet",
  "plugin_path": "/a:/b",
  "pid_file": "/run/p.pid",
  "log_level": "debug",
  "sandbox": "auto",
  "cache_size": "1G",
  "disk_cache_size": "64M",
  "readahead": "64M",
  "deadline": 3600,
  "workers": 1,
  "max_waiting_per_image": 65536,
  "max_open": 4096,
  "max_connections": "4k",
  "max_connections_per_client": 0,
  "max_waiting_per_client": 65536,
  "client_memory": "4M",
  "client_timeout": 3600,
  "min_rate": 0,
  "max_ranges": 1024,
  "revalidate": 0,
  "sidecars": 0,
  "drain": 3e1
}"""


@case("a file with every key is good, to platterd and to the schema")
def _():
    assert check(GOOD) == []
    assert by_schema(GOOD) == []
    top = json.loads(fill(GOOD))
    assert set(top) == set(SCHEMA["properties"]), set(top) ^ set(SCHEMA["properties"])


@case("an empty object is good, and so is the example in deploy/")
def _():
    assert check("{}") == [] and by_schema("{}") == []
    with open(os.path.join(TOP, "deploy/platterd.json")) as f:
        text = f.read()
    assert by_schema(text) == []
    assert check(text.replace("/srv/images", folder)) == []


@case("every setting has its ends, and the schema the same ones")
def _():
    for key, rule in SCHEMA["properties"].items():
        if "anyOf" not in rule:
            continue
        ends = rule["anyOf"][0]
        low, high = ends["minimum"], ends["maximum"]
        for value, is_good in ((low, True), (high, True), (high + 1, False),
                               (low - 1, False), (low + 0.5, False)):
            text = json.dumps({key: value})
            assert (check(text) == []) == is_good, (key, value)
            assert (by_schema(text) == []) == is_good, (key, value)
        bad = check(json.dumps({key: high + 1}))
        assert f"{low} to {high}" in bad[0][2], bad


@case("everything can be said with flags alone")
def _():
    r = run("--origin", "web=https://images.example/", "--origin", "l=" + folder,
            "--image", "d=web/x.tar.gz?member=a&secret=k", "--secret", "k=" + key_file,
            "--cors", "*", "--cors", "https://a.example:1", "--sibling", "http://10.0.0.2",
            "--manifest-key", minisign_key, "--listen", "127.0.0.1:0",
            "--state", "/a", "--state-dir", "/b", "--plugin-path", "/c",
            "--cache-size", "1M", "--disk-cache-size", "0", "--readahead", "0", "--deadline", "1", "--workers", "1",
            "--max-waiting-per-image", "1", "--max-open", "1", "--max-connections",
            "1", "--max-connections-per-client", "1", "--max-waiting-per-client", "1",
            "--client-memory", "4M", "--client-timeout", "1", "--min-rate", "0",
            "--max-ranges", "1", "--revalidate", "0", "--sidecars", "0", "--drain", "0",
            "--log-level", "warn", "--pid-file", "/d", "--mirror", "m=https://images.example/disk/o/x",
            "--mirror", "n=l/x;member=a=b", "--seed", "l/x", "--output", folder + "/", "--mirror-key", MINISIGN,
            "--mirror-key", minisign, "--advertise", "http://edge.example", "--store-size", "1G",
            "--store-compression", "none", "--mirror-bandwidth", "10M", "--scrub-rate", "1k",
            "--check-config")
    assert r.returncode == 0 and r.stderr == "", r.stderr
    assert r.stdout == "platterd: configuration is good\n"


@case("a flag may name the origin of an image in a file that stands before it")
def _():
    text = '{"images": {"d": {"source": "late/x"}}}'
    assert check(text)
    assert check(text, "--origin", "late=http://a.example/") == []


# ---- Bad files: text, line, key, part of the message, does the schema see it ----

O = '"origins": {"o": {"url": "http://a.example/"}}'
BAD = [
    ('{\n"lisen": []}', 2, "lisen", "unknown key", True),
    ('{\n"Deadline": [1]}', 2, "Deadline", "unknown key", True),
    ('{\n\n"deadline": "soon"}', 3, "deadline", "1 to 3600, not soon", True),
    ('{\n"deadline": 0}', 2, "deadline", "1 to 3600, not 0", True),
    ('{\n"workers": -1}', 2, "workers", "1 to 4096, not -1", True),
    ('{\n"max_ranges": 1025}', 2, "max_ranges", "1 to 1024", True),
    ('{\n"max_ranges": "2k"}', 2, "max_ranges", "1 to 1024", False),
    ('{\n"drain": 1.5}', 2, "drain", "a whole number, not a fraction", True),
    ('{\n"drain": 1e300}', 2, "drain", "0 to 3600", True),
    ('{\n"drain": true}', 2, "drain", "not true or false", True),
    ('{\n"cache_size": "1023k"}', 2, "cache_size", "1048576 to", False),
    ('{\n"readahead": 131071}', 2, "readahead", "0, or 131072 to", True),
    ('{\n"state_dir": 5}', 2, "state_dir", "a text, not a number", True),
    ('{\n"state_dir": ""}', 2, "state_dir", "is empty", True),
    ('{\n"log_level": "loud"}', 2, "log_level", "error, warn, info or debug", True),
    ('{\n"log_level": null}', 2, "log_level", "a text, not null", True),
    ('{"listen": ["127.0.0.1:1",\n"nowhere"]}', 2, "listen[1]", "ADDR:PORT", True),
    ('{"listen": [\n"localhost:80"]}', 2, "listen[0]", "ADDR:PORT", True),
    ('{"listen": [\n"127.0.0.1:65536"]}', 2, "listen[0]", "ADDR:PORT", True),
    ('{"listen": [\n7]}', 2, "listen[0]", "a text, not a number", True),
    ('{\n"listen": "127.0.0.1:80"}', 2, "listen", "an array of texts", True),
    ('{"cors": [\n"https://a.example/"]}', 2, "cors[0]", "no path", True),
    ('{"cors": [\n"https://A.example"]}', 2, "cors[0]", "lower case", True),
    ('{"cors": [\n"a.example"]}', 2, "cors[0]", "scheme://host", True),
    ('{"siblings": [\n"ftp://a.example/"]}', 2, "siblings[0]", "http(s)://host", True),
    ('{"siblings": [\n"http://u@a.example/"]}', 2, "siblings[0]", "no user", True),
    ('{"siblings": [\n"http://a.example/?q"]}', 2, "siblings[0]", "query", True),
    ('{\n"siblings": "http://a.example/"}', 2, "siblings", "an array of texts", True),
    ('{\n"manifest_key": "/no/such"}', 2, "manifest_key", "No such file", False),
    ('{\n"manifest_key": "@KEY@"}', 2, "manifest_key", "not a secret key of minisign", False),
    ('{\n"manifest_key": "@FOLDER@"}', 2, "manifest_key", "not a secret key", False),
    ('{\n"manifest_key": ""}', 2, "manifest_key", "is empty", True),
    ('{\n"origins": []}', 2, "origins", "an object of names, not an array", True),
    ('{"origins": {\n"gce": {}}}', 2, "origins.gce", "has neither url nor path", True),
    ('{"origins": {\n"gce": "http://a.example/"}}', 2, "origins.gce",
     "not a text", True),
    ('{"origins": {"gce":\n{"url": "http://a.example/",\n"path": "@FOLDER@"}}}', 1,
     "origins.gce", "has both url and path", True),
    ('{"origins": {"gce": {\n"url": "ftp://a.example/"}}}', 2, "origins.gce.url",
     "http:// or https://", True),
    ('{"origins": {"gce": {\n"url": "http://u:secret@a.example/"}}}', 2,
     "origins.gce.url", "without user", True),
    ('{"origins": {"gce": {\n"path": "srv"}}}', 2, "origins.gce.path",
     "absolute", True),
    ('{"origins": {"gce": {\n"path": "/no/such"}}}', 2, "origins.gce.path",
     "No such file", False),
    ('{"origins": {"gce": {\n"path": "@KEY@"}}}', 2, "origins.gce.path",
     "not a folder", False),
    ('{"origins": {"gce": {"url": "http://a.example/",\n"key": 1}}}', 2,
     "origins.gce.key", "unknown key", True),
    ('{"origins": {"gce": {"url": "http://a.example/",\n"addresses": "10.0.0.1"}}}', 2,
     "origins.gce.addresses", "an array of addresses, not a text", True),
    ('{"origins": {"gce": {"url": "http://a.example/",\n"addresses": []}}}', 2,
     "origins.gce.addresses", "not an empty one", True),
    ('{"origins": {"gce": {"url": "http://a.example/", "addresses": [\n"host"]}}}', 2,
     "origins.gce.addresses[0]", "host: not an address", True),
    ('{"origins": {"gce": {"url": "http://a.example/", "addresses": [\n"10.0.0.0/33"]}}}', 2,
     "origins.gce.addresses[0]", "not an address", False),
    ('{"origins": {"gce": {"path": "@FOLDER@",\n"addresses": ["10.0.0.1"]}}}', 2,
     "origins.gce.addresses", "is a folder", True),
    ('{"origins": {\n"-a": {"url": "http://a.example/"}}}', 2, "origins.-a",
     "letters", True),
    ('{"origins": {\n"' + 64 * "n" + '": {"url": "http://a.example/"}}}', 2,
     "origins." + 64 * "n", "1 to 63", True),
    ('{"secrets": {"s": {\n"file": "/no/such"}}}', 2, "secrets.s.file",
     "No such file", False),
    ('{"secrets": {"s": {\n"file": "@EMPTY@"}}}', 2, "secrets.s.file",
     "1 to 4096 bytes, not 0", False),
    ('{"secrets": {"s": {\n"file": "@BIG@"}}}', 2, "secrets.s.file",
     "1 to 4096 bytes, not 4097", False),
    ('{"secrets": {"s": {\n"credential": "a/b"}}}', 2, "secrets.s.credential",
     "without a slash", True),
    ('{"secrets": {"s": {\n"credential": ".."}}}', 2, "secrets.s.credential",
     "without a slash", True),
    ('{"secrets": {"s": {\n"credential": "none"}}}', 2, "secrets.s.credential",
     "No such file", False),
    ('{"secrets": {\n"s": {}}}', 2, "secrets.s", "neither file nor credential", True),
    ('{"images": {\n"i": {"member": "a"}}}', 2, "images.i", "has no source", True),
    ('{"images": {"i": {\n"source": 1}}}', 2, "images.i.source", "a text", True),
    ('{"images": {"i": {\n"source": "gone/x"}}}', 2, "images.i.source",
     "no origin is named gone", False),
    ('{' + O + ', "images": {"i": {\n"source": "o"}}}', 2, "images.i.source",
     "ORIGIN/PATH", True),
    ('{' + O + ', "images": {"i": {\n"source": "o/../x"}}}', 2, "images.i.source",
     "dot segment", False),
    ('{' + O + ', "images": {"i": {"source": "o/x",\n"member": "a\\u0007"}}}', 2,
     "images.i.member", "control character", True),
    ('{' + O + ', "images": {"i": {"source": "o/x",\n"size": "1"}}}', 2,
     "images.i.size", "unknown key", True),
    ('{' + O + ', "images": {"i": {"source": "o/x",\n"secret": "s"}}}', 2,
     "images.i.secret", "no secret is named s", False),
    ('{' + O + ', "images": {"i": {"source": "o/x", "labels": {\n"a": 1}}}}', 2,
     "images.i.labels.a", "a text, not a number", True),
    ('{' + O + ', "images": {"i": {"source": "o/x",\n"labels": ["a"]}}}', 2,
     "images.i.labels", "an object of texts", True),
    ('{' + O + ', "images": {\n"o": {"source": "o/x"}}}', 2, "images.o",
     "taken by an origin", False),
    ('{' + O + ', "mirrors": {\n"m": {}}}', 2, "mirrors.m", "has no source", True),
    ('{' + O + ', "mirrors": {\n"m": "o/x"}}', 2, "mirrors.m", "an object with a source", True),
    ('{"mirrors": {"m": {\n"source": "none/x"}}}', 2, "mirrors.m.source",
     "no origin is named none", False),
    ('{' + O + ', "mirrors": {"m": {\n"source": "http://a.example/x"}}}', 2, "mirrors.m.source",
     "the URL of a /disk/", False),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"colour": 1}}}', 2, "mirrors.m.colour",
     "unknown key", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"name": "n"}}}', 2, "mirrors.m.name",
     "unknown key", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"follow": 4}}}', 2, "mirrors.m.follow",
     "0 or 5", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"bandwidth": "1023"}}}', 2,
     "mirrors.m.bandwidth", "1024 at least", False),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"priority": 101}}}', 2,
     "mirrors.m.priority", "-100 to 100", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"priority": 1.5}}}', 2,
     "mirrors.m.priority", "-100 to 100", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"schedule": "22:00"}}}', 2,
     "mirrors.m.schedule", "HH:MM", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"schedule": "24:00-01:00"}}}', 2,
     "mirrors.m.schedule", "HH:MM", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"signed": true}}}', 2,
     "mirrors.m.signed", "needs a public key", False),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"trace": 1}}}', 2, "mirrors.m.trace",
     "true or false", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"fetch": "all"}}}', 2, "mirrors.m.fetch",
     "auto", True),
    ('{' + O + ', "mirrors": {"m": {"source": "o/x",\n"output": "/etc/passwd"}}}', 2,
     "mirrors.m.output", "outputs do not name", False),
    ('{' + O + ', "outputs": ["@FOLDER@/"], "mirrors": {"m": {"source": "o/x",\n'
     '"output": "@FOLDER@/../key"}}}', 2, "mirrors.m.output", "outputs do not name", False),
    ('{' + O + ', "mirrors": {\n"o": {"source": "o/x"}}}', 2, "mirrors.o", "taken by an origin",
     False),
    ('{' + O + ', "images": {"i": {"source": "o/x"}}, "mirrors": {\n"i": {"source": "o/x"}}}', 2,
     "mirrors.i", "taken by an image", False),
    ('{"seeds": [\n"/x"]}', 2, "seeds[0]", "segment", False),
    ('{"seeds": ["none/x"]}', None, "seeds", "no origin is named none", False),
    ('{"outputs": [\n"here"]}', 2, "outputs[0]", "not an absolute path", True),
    ('{"outputs": [\n"@FOLDER@/../x"]}', 2, "outputs[0]", "without ..", False),
    ('{"outputs": [\n"/no/such/"]}', 2, "outputs[0]", "No such file", False),
    ('{"outputs": [\n"@FOLDER@"]}', 2, "outputs[0]", "slash at the end", False),
    ('{"mirror_keys": [\n"RWQ"]}', 2, "mirror_keys[0]", "", False),
    ('{"mirror_keys": [\n"/no/such"]}', 2, "mirror_keys[0]", "No such file", False),
    ('{\n"advertise": "edge.example"}', 2, "advertise", "must be an http(s) URL", True),
    ('{\n"advertise": "http://edge.example/?x"}', 2, "advertise", "query", True),
    ('{\n"store_compression": "gzip"}', 2, "store_compression", "none or zstd", True),
    ('{"drain": 1,\n"drain": 2}', 2, "drain", "given twice, before in line 1", False),
    ('{"origins": {"a": {"url": "http://a.example/"},\n'
     '"\\u0061": {"url": "http://b.example/"}}}', 2, "origins.a", "given twice", False),
]


@case("every bad file has its one mistake, with line and key")
def _():
    for text, line, key, part, _ in BAD:
        got = check(text)
        assert len(got) == 1 and got[0][:2] == (line, key) and part in got[0][2], \
            (text, got)


@case("the schema refuses the same files, but for what no schema can say")
def _():
    for text, _, key, part, is_seen in BAD:
        assert bool(by_schema(text)) == is_seen, (text, by_schema(text))


@case("a password in an origin's address is never told")
def _():
    for url in ("http://u:hunter2@a.example/", "htp://u:hunter2@a.example/",
                "http://u:hunter2@a.example/?x=y"):
        assert "hunter2" not in str(check(json.dumps({"origins": {"a": {"url": url}}})))
        for flag in ("a=" + url, url):
            assert "hunter2" not in run("--origin", flag, "--check-config").stderr


@case("all mistakes of a file and of flags are told in one run")
def _():
    lines = ["{", '"a": 1,', '"deadline": 0,', '"listen": [1, "x"],', '"origins": {',
             '"p": {},', '"q": {"url": 1}},', '"images": {"i": {', '"source": "z/x"}}}']
    got = check("\n".join(lines), "--workers", "0", "--nonsense=secret", "--image",
                "p=q/x", "word")
    told = {(line, key) for line, key, _ in got}
    assert told == {(2, "a"), (3, "deadline"), (4, "listen[0]"), (4, "listen[1]"),
                    (6, "origins.p"), (7, "origins.q.url"), (9, "images.i.source"),
                    (None, "--workers"), (None, "--nonsense"), (None, "--image p"),
                    (None, "word")}, got
    assert "secret" not in str(got)
    last = run("--check-config", "--drain")
    assert last.stderr == "platterd: --drain: takes a value\n", last.stderr


@case("a syntax error has its line, and hides what depends on the file alone")
def _():
    for text, line in (("{\n\n,}", 3), ('{"a": 1,\n}', 2), ("", 1), ("{}\n{}", 2),
                       ('{\n"a": "\t"}', 2), ('{"a":\n 01}', 2)):
        got = check(text, "--image", "i=late/x", "--drain", "x")
        assert got[0][0] == line and (None, "--drain") in {g[:2] for g in got}, got
        assert len(got) == 2, got
    got = check("[]")
    assert got[0][0] == 1 and "one object, not an array" in got[0][2], got
    assert check(b'{"a": "\xff"}') and check(b'{}\0{}')


@case("a file that cannot be read is told with the system's words")
def _():
    for path, part in (("/no/such.json", "No such file"), (folder, "directory")):
        r = run("--config", path, "--check-config")
        assert r.returncode == 2 and r.stderr.startswith(f"platterd: {path}: "), r.stderr
        assert part in r.stderr, r.stderr


@case("a name that two flags, or a flag and the file, give is taken")
def _():
    a = "a=http://a.example/"
    for text, flags, key in (("{}", ["--origin", a, "--origin", a], "--origin a"),
                             ("{}", ["--origin", a, "--image", "a=a/x"], "--image a"),
                             ("{}", ["--secret", "a=" + key_file] * 2, "--secret a")):
        got = check(text, *flags)
        assert len(got) == 1 and got[0][:2] == (None, key), got
        assert "the name is taken" in got[0][2], got
    text = '{"images": {"i": {"source": "a/x"},\n"j": {"source": "a/x"}}}'
    got = check(text, "--origin", a, "--image", "j=a/y")
    assert [g[:2] for g in got] == [(None, "--image j")], got
    # secrets are another namespace
    assert check("{}", "--origin", a, "--secret", "a=" + key_file) == []


@case("a credential without a systemd unit is a mistake")
def _():
    got = check('{"secrets": {"s": {\n"credential": "disk"}}}', credentials=None)
    assert got[0][:2] == (2, "secrets.s.credential"), got
    assert "CREDENTIALS_DIRECTORY" in got[0][2], got


@case("names are limited, and the first too many is told with its line")
def _():
    row = '{"url": "http://a.example/"}'
    for section, most, row in (("origins", 256, row), ("secrets", 256, '{"file": "@KEY@"}'),
                               ("images", 8192, '{"source": "o/x"}')):
        for n in (most, most + 3):
            rows = ",\n".join(f'"n{i}": {row}' for i in range(n))
            text = '{"%s": {\n%s}}' % (section, rows)
            got = check(text, *(["--origin", "o=http://a.example/"]
                                if section == "images" else []))
            if n == most:
                assert got == [] and by_schema(text) == [], got
            else:
                assert got == [(most + 2, f"{section}.n{most}",
                                f"more than {most} {section}")], got
                assert by_schema(text)


@case("control characters and an empty file name do not break the message")
def _():
    got = check('{\n"a\\nb\\u001b[2J": 1}')
    assert got == [(2, "a?b?[2J", "unknown key")], got
    assert run("--config", "", "--check-config").returncode == 2


# ---- One list of keys ----

def literals():
    """Every text in the parser's source that could be a key."""
    out = {"nonsense"}
    for name in ("config.c", "config_file.c", "config_access.c", "config_mirrors.c"):
        with open(os.path.join(TOP, "gateway", name)) as f:
            out |= set(re.findall(r'"([a-z][a-z_]*)"', f.read()))
    return out


@case("the schema lists exactly the keys that the parser knows")
def _():
    words = literals()
    defs = SCHEMA["$defs"]
    rows = {
        "": set(SCHEMA["properties"]),
        "origins.x.": {k for s in defs["origin"]["oneOf"] for k in s["properties"]},
        "secrets.x.": {k for s in defs["secret"]["oneOf"] for k in s["properties"]},
        "images.x.": set(defs["image"]["properties"]),
        "access.x.": set(defs["access"]["properties"]),
        "mirrors.x.": set(defs["mirror"]["properties"])}
    for path, listed in rows.items():
        candidates = words | listed
        value = {w: None for w in candidates}
        if path:
            value = {path.split(".")[0]: {"x": value}}
        unknown = {k.removeprefix(path) for _, k, why in check(json.dumps(value))
                   if why == "unknown key"}
        assert candidates - unknown == listed, (path, (candidates - unknown) ^ listed)


@case("flags, the manual and the schema name the same settings")
def _():
    flags = set(re.findall(r"--([a-z-]+)", run("--help").stdout))
    flags -= {"config", "check-config", "help", "version", "state"}
    # origins.NAME.addresses and such
    flags -= {"allow-address", "origin-headers", "origin-ca", "origin-certificate"}
    plural = {"origin": "origins", "image": "images", "secret": "secrets", "seed": "seeds",
              "output": "outputs", "mirror-key": "mirror_keys", "mirror": "mirrors",
              "sibling": "siblings"}
    keys = {plural.get(f, f.replace("-", "_")) for f in flags}
    assert keys == set(SCHEMA["properties"]), keys ^ set(SCHEMA["properties"])
    with open(os.path.join(TOP, "gateway/platterd.json.5.md")) as f:
        page = f.read()
    rows = set(re.findall(r"^\| `([a-z_0-9]+)` \|", page, re.M))
    inner = {k for d in ("origin", "secret") for s in SCHEMA["$defs"][d]["oneOf"]
             for k in s["properties"]} | set(SCHEMA["$defs"]["image"]["properties"]) | \
        set(SCHEMA["$defs"]["access"]["properties"]) | set(SCHEMA["$defs"]["mirror"]["properties"])
    assert rows == keys | inner, rows ^ (keys | inner)


@case("the manual's examples are good")
def _():
    with open(os.path.join(TOP, "gateway/platterd.json.5.md")) as f:
        page = f.read()
    blocks = [re.sub("^    ", "", b, flags=re.M) for b in
              re.findall(r"(?:^(?:    .*)?\n)+", page, re.M)]
    found = [b for b in blocks if b.strip().startswith("{")]
    assert found, "no example in the manual"
    for text in found:
        assert by_schema(text) == [], text
        text = text.replace("/srv/images", folder).replace("/run/keys/disk", key_file)
        assert check(text) == [], (text, check(text))


# ---- Start and reload ----

@case("without --check-config a mistake ends platterd with 2 before it listens")
def _():
    r = run("--config", write('{\n"drain": -1}'))
    assert r.returncode == 2 and ":2: drain: " in r.stderr, r.stderr
    assert "event=" not in r.stderr and r.stdout == "", r.stderr


@case("an image that a flag names is served")
def _():
    with open(folder + "/d.raw", "wb") as f:
        f.write(b"x" * 100000)
    p = Platterd({"o": folder}, "--image", "i=o/d.raw")
    assert p.get("/disk/i").body == b"x" * 100000
    p.stop()


@case("a credential opens an encrypted disk, and stands in no log and no process list")
def _():
    with open(keys + "/luks", "w") as f:
        f.write("hunter2")
    # Some versions of qemu-img want more time for the key than others.
    sh(" || ".join(
        f"qemu-img create -q --object secret,id=k,file={keys}/luks -f qcow2 -o "
        f"encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time={ms} "
        f"{folder}/luks.qcow2 1M" for ms in (50, 500, 500, 1000, 2000)))
    path = write('{"secrets": {"k": {"credential": "luks"}}, '
                 '"origins": {"lab": {"path": "@FOLDER@"}}}', "luks.json")
    os.environ["CREDENTIALS_DIRECTORY"] = keys
    try:
        p = Platterd({}, "--config", path, "--log-level", "debug")
    finally:
        del os.environ["CREDENTIALS_DIRECTORY"]
    disk = p.get("/disk/lab/luks.qcow2?secret=k", timeout=120).body
    assert disk == bytes(1 << 20)
    r = p.get("/disk/lab/luks.qcow2")
    assert r.status == 403 and "no secret was named" in json.loads(r.body)["detail"], r.body
    with open(f"/proc/{p.proc.pid}/cmdline") as f:
        assert "hunter2" not in f.read() + p.text()
    p.stop()


@case("at a reload mistakes are lines of the log, and what was there goes on")
def _():
    path = write('{"origins": {"o": {"path": "@FOLDER@"}}}', "reload.json")
    p = Platterd({}, "--config", path)
    write('{\n"drain": -1,\n"origins": {\n"x y": {"url": "http://a.example/"}}}',
          "reload.json")
    for _ in range(2):  # getopt starts anew each time
        before = p.text().count("event=config_mistake")
        p.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: p.text().count("event=config_mistake") == before + 2)
    lines = [l for l in p.text().splitlines() if "event=config_mistake" in l]
    assert f"level=error event=config_mistake file={path} line=2 key=drain " \
        in lines[0], lines
    assert 'line=4 key="origins.x y" text="a name is' in lines[1], lines
    assert json.loads(p.get("/v1/origins").body)[0]["name"] == "o"
    p.stop()


main()
