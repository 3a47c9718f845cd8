# SPDX-License-Identifier: Apache-2.0
"""What must never be contacted: a canary listens where no origin is, and nobody
comes.  Names that lead to addresses that are not the public's are refused by the
address that is connected to."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import http.server

www = tmp + "/www"
os.makedirs(www)
open(www + "/d.raw", "wb").write(random.randbytes(300000))
nginx = Nginx(www)
PORT = int(nginx.url().split(":")[2].strip("/"))
# libcurl takes every name beneath "localhost" for loopback (RFC 6761), so that no
# name server is needed; to policy it is a name like any other.
INSIDE = f"http://inside.localhost:{PORT}/"


class Canary:
    """Counts who connects."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.n = 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            c, _ = self.sock.accept()
            self.n += 1
            c.close()


def refused(s, path, word):
    """403, and why is the log's alone: addresses are nobody else's business."""
    r = s.get(path)
    assert r.status == 403 and word not in r.body.decode(), (r.status, r.body)
    req = json.loads(r.body)["request_id"]
    for _ in range(100):
        lines = [x for x in s.text().splitlines() if f"req={req} " in x]
        if lines:
            break
        time.sleep(0.05)
    assert lines and "error=DENIED" in lines[0] and word in lines[0], lines


@case("a name that leads to loopback is refused, and nothing is sent there")
def name():
    canary = Canary()
    s = Platterd({"in": f"http://inside.localhost:{canary.port}/"})
    for path in ("/disk/in/d.raw", "/raw/in/d.raw", "/v1/info/in/d.raw"):
        refused(s, path, "loopback")
    s.stop()
    assert canary.n == 0, canary.n


@case("the address in its own configuration is allowed: written, named, or as a block")
def allowed():
    want = open(www + "/d.raw", "rb").read()
    for base, flags in ((nginx.url(), ()), (f"http://localhost:{PORT}/", ()),
                        (INSIDE, ("--allow-address", "in=127.0.0.0/8,::1"))):
        s = Platterd({"in": base}, *flags)
        assert s.range("/disk/in/d.raw", 0, 300000) == want, base
        s.stop()
    s = Platterd({"in": INSIDE}, "--allow-address", "in=10.0.0.0/8")
    refused(s, "/disk/in/d.raw", "loopback")
    s.stop()


@case("other spellings of loopback are no way round")
def spellings():
    canary = Canary()
    for host in ("127.1", "0177.0.0.1", "0x7f000001", "2130706433", "0", "a.b.localhost"):
        s = Platterd({"in": f"http://{host}:{canary.port}/"})
        refused(s, "/disk/in/d.raw", "address")
        s.stop()
    assert canary.n == 0, canary.n
    # One that is written in full is what the operator names; another is not.
    for host in ("127.0.0.2", "[::ffff:127.0.0.1]"):
        s = Platterd({"in": f"http://{host}:{canary.port}/"})
        assert s.get("/disk/in/d.raw").status == 502, host  # the canary hangs up
        s.stop()


@case("a redirect to another origin is asked for that one's addresses")
def redirect():
    canary = Canary()
    target = f"http://inside.localhost:{canary.port}/"

    class Lead(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", target + "d.raw")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *a):
            pass

    lead = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lead)
    threading.Thread(target=lead.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{lead.server_port}/"
    s = Platterd({"lead": base, "in": target})
    refused(s, "/disk/lead/d.raw", "loopback")
    s.stop()
    s = Platterd({"lead": base})
    refused(s, "/disk/lead/d.raw", "redirect")
    s.stop()
    assert canary.n == 0


@case("a change of the configuration counts for the next connection")
def reload():
    path = tmp + "/c.json"

    def write(addresses):
        origin = {"url": INSIDE}
        if addresses:
            origin["addresses"] = addresses
        with open(path, "w") as f:
            json.dump({"origins": {"in": origin}}, f)

    write(None)
    s = Platterd({}, "--config", path)
    refused(s, "/disk/in/d.raw", "loopback")
    write(["127.0.0.1", "::1"])
    s.proc.send_signal(signal.SIGHUP)
    for _ in range(100):
        r = s.get("/disk/in/d.raw")
        if r.status == 200:
            break
        time.sleep(0.1)
    assert r.status == 200, r.status
    s.stop()


@case("a plugin is loaded from nowhere that others may write to")
def plugins():
    folder = tmp + "/drivers"
    source = os.path.realpath(f"{BIN}/../plugins.d/raw.so")
    os.makedirs(folder)
    so = folder + "/theirs.so"
    shutil.copy(source, so)

    def loaded():
        r = platter("plugins", "--json", "--plugin-path", folder)
        rows = json.loads(r.stdout)
        return [x["file"] for x in rows if x["name"] == "raw"] == [so], r.stderr.decode()

    for path, mode, uid, word in ((folder, 0o755, 0, None), (folder, 0o777, 0, "may write"),
                                  (folder, 0o1777, 0, "may write"), (folder, 0o775, 0, "may write"),
                                  (folder, 0o755, 4711, "owner"), (so, 0o666, 0, "may write"),
                                  (so, 0o644, 4711, "owner"), (so, 0o644, 0, None)):
        if os.geteuid() == 0:
            os.chown(path, uid, -1)
        elif uid:
            continue
        os.chmod(path, mode)
        is_loaded, text = loaded()
        assert is_loaded == (word is None), (path, oct(mode), uid, text)
        assert word is None or ("plugin_refused" in text and word in text), text
        os.chmod(path, 0o755)
        if os.geteuid() == 0:
            os.chown(path, 0, -1)


main()
