# SPDX-License-Identifier: Apache-2.0
"""platterd on a host of an emulated network, and its mirrors, for update.py and
edges.py."""
from live import *


class Gateway:
    """inside: what a command on that host is put behind; address: its own there."""

    def __init__(self, inside, address, origins, *flags, port=8080):
        self.base, self.address, self.port = f"http://{address}:{port}/", address, port
        self.err = tempfile.NamedTemporaryFile(dir=tmp, delete=False)
        argv = [*inside, BIN + "/platterd", "--listen", f"{address}:{port}", *flags]
        for name, base in origins.items():
            argv += ["--origin", f"{name}={base}"]
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=self.err)
        end = time.time() + 20
        while "event=listening" not in self.text():
            if time.time() > end or self.proc.poll() is not None:
                raise AssertionError("platterd did not start: " + self.text()[-1000:])
            time.sleep(0.02)

    def text(self):
        with open(self.err.name, errors="replace") as f:
            return f.read()

    def ask(self, method, path, body=None, timeout=300):
        """From a thread whose sockets reach the host."""
        c = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        c.request(method, path, json.dumps(body) if body is not None else None,
                  {"Content-Type": "application/json"} if body is not None else {})
        r = c.getresponse()
        data = r.read()
        c.close()
        assert r.status < 300, f"{method} {path}: {r.status} {data[:500]!r}"
        return data

    def manifest(self, ref):
        """Made, if it was not; its head."""
        end = time.monotonic() + 300
        while True:
            try:
                return json.loads(self.ask("GET", "/v1/manifest/" + ref))
            except AssertionError as e:
                if ": 503 " not in str(e) or time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def mirror(self, name, source, **more):
        self.ask("POST", "/v1/mirrors", dict(more, name=name, source=source))

    def look(self, name):
        """The mirror asks its source at once which version it has."""
        self.ask("POST", "/v1/mirrors/" + name, {"paused": False})

    def completed(self, name, root=None, seconds=1200, pause=0.05):
        """Waits until a mirror is complete, of that version; what the gateway says of
        it then."""
        end = time.monotonic() + seconds
        while True:
            got = json.loads(self.ask("GET", "/v1/mirrors/" + name))
            if got["state"] == "complete" and root in (None, got["root"]):
                return got
            assert got["state"] in ("mirroring", "complete") and time.monotonic() < end, got
            time.sleep(pause)

    def is_same(self, name, path):
        """The whole disk against a file."""
        c = http.client.HTTPConnection(self.address, self.port, timeout=300)
        c.request("GET", "/disk/" + name)
        r = c.getresponse()
        with open(path, "rb") as f:
            while want := f.read(1 << 20):
                if r.read(len(want)) != want:
                    return False
        rest = r.read(1)
        c.close()
        return rest == b"" and r.status == 200

    def stop(self):
        self.proc.terminate()
        code = self.proc.wait(60)
        assert code == 0, f"platterd ended with {code}: {self.text()[-1000:]}"
