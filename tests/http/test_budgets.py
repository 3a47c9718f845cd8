# SPDX-License-Identifier: Apache-2.0
"""Budgets, each by its name (platterd(8), BUDGETS): beyond it the right status, a
metric and a line in the log, and somebody else served meanwhile.  Then all kinds
of slow clients at once with a fast one, and two hundred bombs."""
import sys, os, resource, struct
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

resource.setrlimit(resource.RLIMIT_NOFILE,
                   (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
# What is freed is given back: resident memory is measured here.
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8"
M = 1 << 20
SANITIZED = b"__asan_init" in open(BIN + "/platterd", "rb").read()
www = tmp + "/www"
os.makedirs(www)
truth = www + "/disk.raw"
images.guest_disk(truth, 16)
whole = open(truth, "rb").read()
with open(www + "/frag.raw", "wb") as f:
    f.write((b"\1" * 512 + bytes(512)) * 40000)
sh("tar -cf x.tar disk.raw; gzip -1 -k x.tar; qemu-img convert -O qcow2 disk.raw x.qcow2;"
   "truncate -s 1G large.raw; cp disk.raw cold.raw;"
   "qemu-img convert -S 512 -O qcow2 -o cluster_size=512 frag.raw frag.qcow2;"
   "qemu-img create -q -f qcow2 -o cluster_size=512 tables.qcow2 8G; truncate -s 1G tables.qcow2;"
   "truncate -s 512M zeros; tar -c --transform s/zeros/disk.raw/ zeros | gzip -1 > bomb.tar.gz &"
   "gzip -1 < zeros > bomb.raw.gz; gzip -9 < bomb.raw.gz > nested.gz.gz; wait; rm zeros", cwd=www)
nginx = Nginx(www)
# An origin that takes connections and never answers.
mute = socket.create_server(("127.0.0.1", 0), backlog=4096)
MUTE = f"http://127.0.0.1:{mute.getsockname()[1]}/"


def start(*flags):
    return Platterd({"lab": www, "web": nginx.url(), "mute": MUTE}, "--revalidate", "600", "--drain", "0",
                    *flags)


def rss(server):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{server.proc.pid}/status").read())[1]) << 10


def connect(server, data=b"", client="127.0.0.2", room=None):
    s = socket.socket()
    if room:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    s.bind((client, 0))
    s.settimeout(30)
    s.connect(("127.0.0.1", server.port))
    s.sendall(data)
    return s


def asks(path, more=""):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


def answer(s):
    """What came until the end, or until nothing comes; status and all of it."""
    got = b""
    try:
        while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < int(
                re.search(rb"Content-Length: (\d+)", got)[1]):
            more = s.recv(65536)
            if not more:
                break
            got += more
    except ConnectionResetError:
        pass
    return int(got[9:12]) if got.startswith(b"HTTP/1.1 ") else None, got


def refused(server, name):
    return int(re.search(rf'^platter_refused_total{{budget="{name}"}} (\d+)$',
                         server.get("/metrics").body.decode(), re.M)[1])


def held_for_clients(server):
    return int(re.search(r"^platter_client_memory_bytes (\d+)",
                         server.get("/metrics").body.decode(), re.M)[1])


def told(server, name, n=1):
    """The metric counts it, the log names it."""
    assert refused(server, name) >= n, (name, refused(server, name))
    if name != "max_open":
        assert f"event=over_budget budget={name} " in server.text(), name


def others_are_served(server, path="/disk/lab/x.qcow2", client="127.0.0.9"):
    start = time.time()
    s = connect(server, asks(path, "Range: bytes=4096-8191\r\n"), client)
    status, got = answer(s)
    s.close()
    assert status == 206 and got.endswith(whole[4096:8192]), (status, got[:300])
    assert time.time() - start < 5, time.time() - start


def closes(s, seconds):
    """It is closed by the other side; what came before."""
    s.settimeout(seconds)
    got = b""
    try:
        while True:
            more = s.recv(1 << 20)
            if not more:
                return got
            got += more
    except ConnectionResetError:
        return got


@case("max_connections_per_client: one more is 429 and closed, another address is served")
def _():
    server = start("--max-connections-per-client", "8")
    held = [connect(server) for _ in range(8)]
    time.sleep(0.3)
    s = connect(server)
    got = closes(s, 5)
    assert got.startswith(b"HTTP/1.1 429 ") and b"Retry-After: 1\r\n" in got, got
    head, body = got.split(b"\r\n\r\n")
    assert json.loads(body)["status"] == 429 and f"Length: {len(body)}".encode() in head
    told(server, "max_connections_per_client")
    others_are_served(server)
    held.pop().close()
    time.sleep(0.3)
    others_are_served(server, client="127.0.0.2")


@case("max_waiting_per_client: 429; what is in memory is answered to the same client all the same")
def _():
    server = start("--max-waiting-per-client", "4", "--deadline", "20")
    others_are_served(server)
    held = [connect(server, asks(f"/disk/mute/{i}")) for i in range(4)]
    time.sleep(0.5)
    status, got = answer(connect(server, asks("/disk/lab/disk.raw")))
    assert status == 429 and b"Retry-After: 1\r\n" in got, got
    told(server, "max_waiting_per_client")
    others_are_served(server, client="127.0.0.2")
    others_are_served(server, "/disk/lab/cold.raw")
    for s in held:
        s.close()
    time.sleep(1.5)  # who left waits no more
    others_are_served(server, "/disk/lab/disk.raw", "127.0.0.2")


@case("max_waiting_per_client: a job with events counts to its end, and no longer")
def _():
    server = start("--max-waiting-per-client", "2", "--deadline", "20")
    ask = asks("/v1/checksum/web/slow/disk.raw", "Accept: text/event-stream\r\n")
    held = [connect(server, ask) for _ in range(2)]
    for s in held:  # the job runs: the image is open
        assert s.recv(12) == b"HTTP/1.1 200"
    status, got = answer(connect(server, ask))
    assert status == 429 and b"Retry-After: 1\r\n" in got, got
    told(server, "max_waiting_per_client")
    others_are_served(server, "/disk/lab/disk.raw", "127.0.0.3")
    for s in held:
        s.close()
    end = time.time() + 15
    while True:  # who left gives the place back
        got = closes(connect(server, asks("/v1/checksum/lab/cold.raw", "Connection: close\r\n"
                                          "Accept: text/event-stream\r\n")), 20)
        if got.startswith(b"HTTP/1.1 200") or time.time() > end:
            break
        time.sleep(0.2)
    assert b"event: checksum" in got, got


@case("max_waiting_per_image: counted while it is opened, however the image is spelt")
def _():
    server = start("--max-waiting-per-image", "4", "--deadline", "20")
    held = [connect(server, asks("/disk/mute/x"), f"127.0.1.{i + 1}") for i in range(4)]
    time.sleep(0.5)
    for path in ("/disk/mute/x", "/disk/mute/%78", "/disk//mute/x"):
        status, got = answer(connect(server, asks(path)))
        assert status == (503 if "//" not in path else 400), (path, got)
    assert b"/problems/busy" in answer(connect(server, asks("/disk/mute/x")))[1]
    told(server, "max_waiting_per_image", 3)
    others_are_served(server)


@case("waiting_per_origin: an origin that does not answer leaves workers and queue to others")
def _():
    server = start("--workers", "8", "--deadline", "20")
    held = [connect(server, asks(f"/disk/mute/{i}"), f"127.0.1.{i + 1}") for i in range(30)]
    time.sleep(0.5)
    status, got = answer(connect(server, asks("/disk/mute/one-more")))
    assert status == 503, got
    told(server, "waiting_per_origin")
    others_are_served(server, "/disk/lab/cold.raw")
    others_are_served(server, "/disk/web/x.tar.gz")
    assert refused(server, "workers") == 0


@case("one client with 400 requests has not all workers: another one's cold read is not behind them")
def _():
    server = start("--workers", "32", "--deadline", "20")
    held = [connect(server, asks(f"/disk/mute/{i % 10}")) for i in range(120)]
    time.sleep(0.5)
    others_are_served(server, "/disk/lab/cold.raw")
    running = int(re.search(r"^platter_workers_running (\d+)", server.get("/metrics").body.decode(), re.M)[1])
    assert 20 <= running <= 25, running  # three quarters of 32
    for s in held:
        s.close()


@case("workers: a full queue is 503, and what is in memory is answered")
def _():
    server = start("--workers", "1", "--deadline", "20")
    others_are_served(server)
    held = [connect(server, asks("/disk/mute/first"))]
    time.sleep(0.5)
    held += [connect(server, asks(f"/disk/mute/{i}"), f"127.0.1.{i + 1}") for i in range(4)]
    time.sleep(0.5)
    status, got = answer(connect(server, asks("/disk/lab/cold.raw")))
    assert status == 503 and b"Retry-After: 1\r\n" in got, got
    told(server, "workers")
    others_are_served(server)
    for s in held:
        s.close()


@case("max_open: 503 when all that are open are in use")
def _():
    server = start("--max-open", "1")
    s = connect(server, asks("/disk/lab/large.raw"), room=4096)
    time.sleep(0.5)
    status, got = answer(connect(server, asks("/disk/lab/cold.raw")))
    assert status == 503 and b"/problems/busy" in got, got
    told(server, "max_open")
    r = server.get("/disk/lab/large.raw", {"Range": "bytes=0-4095"})
    assert r.status == 206 and r.body == bytes(4096)
    s.close()
    time.sleep(1)
    others_are_served(server)


@case("cache_size: tables that do not fit are 503 nomem")
def _():
    server = start("--cache-size", "1M")
    problem(server.get("/v1/check/lab/tables.qcow2"), 503, "nomem")
    told(server, "cache_size")
    others_are_served(server, "/disk/lab/disk.raw")


@case("deadline: a key whose image asks for thirty million rounds is given up in time")
def _():
    sh("for i in 1 2 3 4 5 6 7 8; do qemu-img create -q -f qcow2 --object secret,id=s,data=pass"
       " -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 rounds.qcow2 1M && break;"
       " sleep 1; done; printf pass > rounds.key", cwd=www)
    with open(www + "/rounds.qcow2", "r+b") as f:
        head = f.read(4096)
        at = head.index(bytes.fromhex("0537be77"))  # the extension that says where LUKS is
        luks = struct.unpack(">Q", head[at + 8:at + 16])[0]
        f.seek(luks + 208 + 4)  # of the first key slot
        f.write(struct.pack(">I", (32 << 20) // 2 - 1))
    server = start("--deadline", "2", "--secret", f"k={www}/rounds.key")
    began = time.time()
    problem(server.get("/disk/lab/rounds.qcow2?secret=k"), 504, "timeout")
    assert time.time() - began < 6, time.time() - began
    others_are_served(server)


@case("cache_size: a decoder that does not fit is 503 nomem, long before the deadline")
def _():
    with open(www + "/starved.raw", "wb") as f:
        f.write(random.randbytes(4 * M))
    sh("gzip -k starved.raw", cwd=www)
    server = start("--cache-size", "1M")
    began = time.time()
    problem(server.get("/disk/lab/starved.raw.gz", {"Range": f"bytes={3 * M}-{3 * M + 99}"}), 503, "nomem")
    assert time.time() - began < 20, time.time() - began
    others_are_served(server, "/disk/lab/disk.raw")


@case("client_memory: a list that is too long is 503 nomem, and leaves nothing behind")
def _():
    server = start("--client-memory", "8M")
    r = server.get("/v1/extents/lab/frag.qcow2")
    problem(r, 503, "nomem")
    assert r.getheader("Retry-After") == "1"
    told(server, "client_memory")
    r = server.get("/v1/extents/lab/frag.qcow2?length=1M")
    assert r.status == 200 and len(json.loads(r.body)["extents"]) == 2048
    others_are_served(server)
    time.sleep(0.3)
    assert held_for_clients(server) < M


@case("client_memory: answers go on by small pieces, each byte right, and the rest is given back")
def _():
    server = start("--client-memory", "4M", "--cache-size", "16M")
    slow = [connect(server, asks("/disk/lab/large.raw"), room=4096) for _ in range(60)]
    time.sleep(1)
    got = server.get("/disk/web/x.tar.gz")
    assert got.status == 200 and got.body == whole
    r = server.get("/disk/lab/disk.raw", {"Range": "bytes=0-70000,100000-900000"})
    assert r.status == 206 and whole[100000:900001] in r.body
    told(server, "client_memory")
    used = held_for_clients(server)
    assert used <= 4 * M, used
    for s in slow:
        s.close()
    time.sleep(1)
    used = held_for_clients(server)
    assert used < M, used


@case("who stops in the middle and goes on later has every byte")
def _():
    server = start("--client-memory", "4M")
    slow = [connect(server, asks("/disk/lab/large.raw"), room=4096) for _ in range(30)]
    s = connect(server, asks("/disk/web/x.tar.gz"), room=65536)
    got = s.recv(1000)
    time.sleep(0.5)
    before = held_for_clients(server)
    time.sleep(3)  # what was ready is dropped
    assert held_for_clients(server) < M < 2 * M < before, (before, held_for_clients(server))
    while len(got) < len(whole):
        more = s.recv(1 << 20)
        assert more, len(got)
        got += more
    assert got.split(b"\r\n\r\n", 1)[1] == whole[:len(got) - got.index(b"\r\n\r\n") - 4]
    for s in slow:
        s.close()


@case("deadline: a source that does not answer is 504")
def _():
    server = start("--deadline", "1")
    problem(server.get("/disk/mute/x"), 504, "timeout")
    problem(server.get("/v1/check/mute/x"), 504, "timeout")
    told(server, "deadline", 2)
    others_are_served(server)


@case("client_timeout: a request byte by byte is 408 in time, its head or its body; one that comes is not")
def _():
    server = start("--client-timeout", "2")
    slow = [connect(server, b"GET /disk/lab/x.qcow2 HTTP/1.1\r\nHost: x\r\nX: "),
            connect(server, b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n"
                            b"Content-Type: application/json\r\n\r\n"),
            connect(server, asks("/healthz") + b"G")]
    good = connect(server)
    began, open_ = time.time(), set(range(3))
    while open_:
        assert time.time() - began < 8, open_
        for i in list(open_):
            try:
                slow[i].sendall(b"x")
            except OSError:
                open_.discard(i)
        good.sendall(asks("/healthz"))  # one connection, request after request
        assert answer(good)[0] == 200
        time.sleep(0.2)
    took = time.time() - began
    assert 1.5 < took < 8, took
    answers = []
    for s in slow:
        try:
            answers.append(closes(s, 5))
        except OSError as e:
            answers.append(str(e).encode())
    assert all(b"HTTP/1.1 408 Request Timeout" in a for a in answers), answers
    body = answers[0].split(b"\r\n\r\n")[1]
    assert json.loads(body)["status"] == 408 and f"Length: {len(body)}".encode() in answers[0]
    told(server, "client_timeout", 3)
    others_are_served(server)


@case("client_timeout: when nearly all connections are taken, idle ones go sooner")
def _():
    server = start("--client-timeout", "16", "--max-connections", "64")
    held = [connect(server, client=f"127.0.1.{i % 32 + 1}") for i in range(64)]
    began = time.time()
    while True:
        try:
            assert server.get("/healthz", timeout=10).status == 200
            break
        except OSError:
            assert time.time() - began < 10
    assert time.time() - began < 10
    told(server, "client_timeout")


@case("client_timeout: a reload that names fewer listeners makes the connections no fewer")
def _():
    path = tmp + "/listeners.json"

    def write(*listen):  # beside that of live.py
        with open(path, "w") as f:
            json.dump({"listen": listen, "max_connections": 16, "client_timeout": 16,
                       "max_connections_per_client": 64}, f)

    write("127.0.0.1:0")
    server = Platterd({}, "--config", path)
    write()
    server.proc.send_signal(signal.SIGHUP)
    while "event=reloaded" not in server.text():
        time.sleep(0.05)
    assert "key=listen" in server.text()
    held = [connect(server) for _ in range(15)]  # of 32 that there may be
    time.sleep(6)
    for s in held:
        s.sendall(asks("/healthz"))
        assert answer(s)[0] == 200


@case("min_rate: a reader of some bytes a second is closed; one whose source is slow is not")
def _():
    server = start("--client-timeout", "2", "--min-rate", "1M")
    # 512 KiB/s, which the reader takes at once: not its fault
    fast = server.get("/disk/web/slow/disk.raw", {"Range": "bytes=0-2999999"})
    assert fast.status == 206 and fast.body == whole[:3000000]
    assert refused(server, "min_rate") == 0
    s = connect(server, asks("/disk/lab/large.raw"), room=16384)
    idle = connect(server, asks("/disk/lab/large.raw"), room=4096)
    began = time.time()
    while not refused(server, "min_rate"):
        assert time.time() - began < 10 and s.recv(1000)
        time.sleep(0.02)
    told(server, "min_rate")
    while not refused(server, "client_timeout"):  # one that takes nothing at all
        assert time.time() - began < 10
        time.sleep(0.1)
    assert len(closes(idle, 5)) < 64 * M
    others_are_served(server)


@case("max_ranges, body_size, header_size, url_size: 416, 413, 431, 414")
def _():
    server = start("--max-ranges", "3")
    r = server.get("/disk/lab/disk.raw", {"Range": "bytes=0-1,9000-9001,20000-20001,50000-50001"})
    problem(r, 416)
    told(server, "max_ranges")
    r = server.get("/v1/images", {"Content-Type": "application/json"}, "POST", body=b" " * 65537)
    problem(r, 413)
    told(server, "body_size")
    for name, status, data in (
            ("header_size", 431, asks("/healthz", "X: " + "a" * 40000 + "\r\n")),
            ("url_size", 414, asks("/disk/lab/" + "a" * 40000))):
        assert server.raw(data, 3).startswith(f"HTTP/1.1 {status} ".encode()), name
        told(server, name)
    others_are_served(server)


@case("requests that servers read differently are 400, and nothing behind them is answered")
def _():
    server = start()
    after = asks("/readyz")
    post = b"POST /v1/images HTTP/1.1\r\nHost: x\r\n"
    bad = {
        "two lengths": post + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
        "two equal lengths": post + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "a list of lengths": post + b"Content-Length: 2, 2\r\n\r\n{}",
        "length and coding": post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "coding and length": post + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "another coding": post + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "identity last": post + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "two codings": post + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "chunked in 1.0": b"POST /v1/images HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a space before the colon": post + b"Content-Length : 2\r\n\r\n{}",
        "a folded line": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\r\n b: c\r\n\r\n",
        "a bare CR": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        "no colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nfoo\r\n\r\n",
        "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
        "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "a host with a path": b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "a host with a user": b"GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "a host with two ports": b"GET /healthz HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
    }
    for v in (b"+5", b"-1", b"0x5", b"5 5", b"", b"5a"):
        bad[f"length {v}"] = post + b"Content-Length: " + v + b"\r\n\r\nhello"
    for v in (b"-1", b"+5", b"0x5", b"zz"):
        bad[f"chunk {v}"] = post + b"Transfer-Encoding: chunked\r\n\r\n" + v + b"\r\nhello\r\n0\r\n\r\n"
    for what, data in bad.items():
        out = server.raw(data + after, 3)
        assert out.startswith(b"HTTP/1.1 400 ") or out.startswith(b"HTTP/1.0 400 "), (what, out[:200])
        assert b"ready\n" not in out and b"Connection: close" in out, (what, out)
    for v in (b"18446744073709551616", b"99999999999999999999999"):
        assert server.raw(post + b"Content-Length: " + v + b"\r\n\r\n", 3).startswith(b"HTTP/1.1 413 "), v
    good = [asks("/healthz"), b"GET /healthz HTTP/1.0\r\n\r\n", b"GET http://a/healthz HTTP/1.1\r\nHost: b\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: a.b:80\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n"]
    for data in good:
        assert b" 200 OK" in server.raw(data[:-2] + b"Connection: close\r\n\r\n", 3)[:20], data


@case("thousands of members, snapshots, keys and names that are not there cost no memory")
def _():
    server = start("--max-open", "32")
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    paths = ("/disk/lab/x.tar?member=m%d", "/disk/lab/x.qcow2?snapshot=s%d", "/disk/lab/x.qcow2?partition=%d",
             "/disk/lab/no%d.raw", "/disk/lab/x.qcow2?secret=k%d", "/disk/no%d/x", "/disk/lab/x.qcow2?layers=l%d")

    def many(first, n):
        for i in range(first, first + n):
            c.request("GET", paths[i % len(paths)] % (1000 + i), headers={"Range": "bytes=0-0"})
            r = c.getresponse()
            r.read()
            assert r.status in (206, 400, 403, 404, 501, 502), (paths[i % len(paths)], r.status)

    many(0, 700)
    before = rss(server)
    many(700, 2100)
    grown = rss(server) - before
    assert grown < (48 * M if SANITIZED else 8 * M), grown
    others_are_served(server)


@case("a flood of requests that are withdrawn holds no worker")
def _():
    server = start("--deadline", "30")
    for i in range(400):
        connect(server, asks(f"/disk/mute/{i % 50}"), f"127.0.1.{i % 8 + 1}").close()
    end = time.time() + 10
    while True:
        text = server.get("/metrics").body.decode()
        busy = sum(int(re.search(rf"^platter_workers_{k} (\d+)", text, re.M)[1]) for k in ("running", "queued"))
        if busy == 0:
            break
        assert time.time() < end, busy
        time.sleep(0.2)
    others_are_served(server, "/disk/lab/cold.raw")


@case("2,000 slow clients, readers, headers and bodies, and a fast one beside them")
def _():
    cache, client = 64 * M, 64 * M
    server = start("--cache-size", "64M", "--client-memory", "64M")
    server.get("/disk/web/x.tar.gz")
    base, slow = rss(server), []
    for i in range(2000):
        address = f"127.0.2.{i % 4 + 1}"
        if i % 4 < 2:
            slow.append(connect(server, asks(("/disk/lab/large.raw", "/disk/web/x.tar.gz", "/disk/lab/x.tar.gz")[i % 3]),
                                address, 4096))
        elif i % 4 == 2:
            slow.append(connect(server, b"GET /disk/lab/x.qcow2 HTTP/1.1\r\nHost: x\r\nX: ", address))
        else:
            slow.append(connect(server, b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n"
                                        b"Content-Type: application/json\r\n\r\n{", address))
    ends, peak, times = threading.Event(), [0], []

    def trickle():
        while not ends.is_set():
            for i, s in enumerate(slow):
                try:
                    s.recv(1, socket.MSG_DONTWAIT) if i % 4 < 2 else s.send(b" ", socket.MSG_DONTWAIT)
                except OSError:
                    pass
            peak[0] = max(peak[0], rss(server))
            ends.wait(0.5)

    t = threading.Thread(target=trickle)
    t.start()
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=("127.0.0.9", 0))
    for i in range(150):
        path = ("/disk/web/x.tar.gz", "/disk/lab/x.qcow2", "/disk/lab/cold.raw")[i % 3]
        off = random.randrange(len(whole) - 65536)
        began = time.perf_counter()
        c.request("GET", path, headers={"Range": f"bytes={off}-{off + 65535}"})
        r = c.getresponse()
        body = r.read()
        times.append((time.perf_counter() - began) * 1000)
        assert r.status == 206 and body == whole[off:off + 65536], (path, off, r.status)
        time.sleep(0.01)
    ends.set()
    t.join()
    text = server.get("/metrics").body.decode()
    running = int(re.search(r"^platter_workers_running (\d+)", text, re.M)[1])
    held = int(re.search(r"^platter_client_memory_bytes (\d+)", text, re.M)[1])
    times.sort()
    print(f"# {len(slow)} slow clients; the fast one: p50 {times[75]:.1f} ms, p99 {times[148]:.1f}, "
          f"most {times[-1]:.1f}; RSS {base >> 20} to {peak[0] >> 20} MiB; held for clients {held >> 20}; "
          f"workers {running}")
    assert running <= 4, running
    assert held <= client, held
    # 160 KiB for each besides the budgets, and what the process is without them
    assert peak[0] < (cache + client + 2000 * 160 * 1024 + 64 * M) * (2 if SANITIZED else 1) + \
        (300 * M if SANITIZED else 0), peak[0] >> 20
    assert times[-1] < 3000, times[-5:]
    for s in slow:
        s.close()


@case("200 opens of bombs at once: memory stays in its budget, another client is served")
def _():
    for i in range(200):
        os.link(www + "/" + ("bomb.raw.gz", "bomb.tar.gz", "nested.gz.gz")[i % 3],
                f"{www}/b{i}" + (".raw.gz", ".tar.gz", ".gz.gz")[i % 3])
    server = start("--cache-size", "64M", "--client-memory", "64M")
    server.get("/healthz")
    base, peak, n = rss(server), 0, 0
    bombs = [connect(server, asks(f"/disk/lab/b{i}" + (".raw.gz", ".tar.gz", ".gz.gz")[i % 3]),
                     f"127.0.2.{i % 4 + 1}", 4096) for i in range(200)]
    end = time.time() + 3
    while time.time() < end:
        peak = max(peak, rss(server))
        if n % 10 == 0:
            others_are_served(server)
        n += 1
        time.sleep(0.05)
    print(f"# 200 bombs: RSS {base >> 20} to {peak >> 20} MiB of 64 + 64")
    # Stacks of threads, streams, heaps: what is outside of the budgets.
    assert peak < (128 * M + 128 * M) * (2 if SANITIZED else 1) + (400 * M if SANITIZED else 0), peak >> 20
    for s in bombs:
        s.close()


main()
