# SPDX-License-Identifier: Apache-2.0
"""The machine under a server: disks that fail, are slow, stall or are full; signals
and kills at any moment; a clock that jumps; no descriptors left.  Nothing is served
wrong, what was promised is there, and it goes on."""
import sys, os
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faults import *
import errno, images, resource

www = tmp + "/www"
os.makedirs(www)
images.guest_disk(www + "/d.raw", 8)
truth = www + "/d.raw"
sh("""qemu-img convert -c -O qcow2 d.raw d.qcow2; tar -Sczf d.tar.gz d.raw; cp d.raw e.raw
head -c 30000000 /dev/urandom > big.raw""", cwd=www)
other = tmp + "/other"
os.makedirs(other)
sh(["cp", truth, other + "/d.raw"])
nginx, origin = Nginx(www), Origin(www)
SIZE = os.path.getsize(truth)
NAMES = ("d.raw", "d.qcow2", "d.tar.gz")
print(f"# seed {SEED}", flush=True)


def serve(*flags, **kw):
    return FaultyPlatterd({"lab": www, "other": other, "web": nginx.url(),
                           "o": origin.url()}, *flags, disk=www, **kw)


def read(server, path, off, length, timeout=60):
    """Status, or None for a broken connection; what came must be right."""
    try:
        r = server.get(path, {"Range": f"bytes={off}-{off + length - 1}"}, timeout=timeout)
    except (http.client.HTTPException, OSError):
        return None
    if r.status == 206:
        name = "big.raw" if "big" in path else "d.raw"
        assert r.body == part(f"{www}/{name}", off, length), (path, off, length)
    return r.status


def any_span(rng):
    off = rng.randrange(SIZE - 1)
    return off, min(rng.choice([1, 512, 4096, 65536, 300000]), SIZE - off)


def rss(server):
    for line in open(f"/proc/{server.proc.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])


def n_files(server):
    return len(os.listdir(f"/proc/{server.proc.pid}/fd"))


# ---- Disks ----

@case("a local disk that fails reads: right bytes or an error that names the layer; then all right")
def disk_fails():
    rng = random.Random(SEED)
    s = serve("--cache-size", "16M", "--revalidate", "0")
    seen = {}
    for k in range(400):
        s.faults.set("read_error", DISK, rng.choice([0, 300, 1000]))
        s.faults.set("read_short", DISK, rng.choice([0, 500]))
        os.utime(f"{www}/{rng.choice(NAMES)}") if k % 20 == 0 else None
        status = read(s, f"/disk/lab/{rng.choice(NAMES)}", *any_span(rng))
        seen[status] = seen.get(status, 0) + 1
    s.faults.set("read_error", DISK, 1000)
    os.utime(truth)
    doc = problem(s.get("/disk/lab/d.raw"), 500, "io")
    assert doc["layer"] == "file", doc
    s.faults.quiet()
    print(f"#   {seen}, {s.faults.get('did_read', DISK)} reads touched", flush=True)
    assert set(seen) <= {206, 500, 502, 503, None} and seen[206] > 40 and seen[500] > 5, seen
    for name in NAMES:
        assert read(s, "/disk/lab/" + name, 0, SIZE) == 206
    s.stop()


@case("a local disk that stalls: another origin is served, 504 or 206 when it is over")
def disk_stalls():
    s = serve("--deadline", "3", "--workers", "32", "--cache-size", "16M")
    for name in ("d.raw", "big.raw"):
        assert read(s, "/disk/lab/" + name, 0, 512) == 206
        assert read(s, "/disk/other/d.raw", 0, 512) == 206
    s.faults.set("read_stall", DISK, 1)
    with ThreadPoolExecutor(200) as pool:
        waiting = [pool.submit(read, s, f"/disk/lab/big.raw?x={i}"[:18],
                               1000000 + i * 4096, 4096, 40) for i in range(16)]
        waiting += [pool.submit(read, s, "/disk/lab/" + n, 1 << 20, 512, 40) for n in NAMES]
        time.sleep(0.5)
        start = time.time()
        for i in range(30):
            assert read(s, "/disk/other/d.raw", i * 70000, 70000) == 206
            assert s.get("/healthz").status == 200
        took = time.time() - start
        stalled = s.faults.get("stalled", DISK)
        s.faults.set("read_stall", DISK, 0)
        seen = [w.result() for w in waiting]
    print(f"#   {stalled} reads stood still, others took {took:.2f} s", flush=True)
    assert stalled >= 8 and took < 5, (stalled, took)
    assert set(seen) <= {206, 503, 504}, seen
    assert read(s, "/disk/lab/d.qcow2", 0, SIZE) == 206
    s.stop()


def fill(s, rng, n=60):
    """Requests of all kinds that make the state folder be written."""
    seen = {}
    for _ in range(n):
        status = read(s, rng.choice(["/disk/web/", "/disk/lab/"]) + rng.choice(NAMES),
                      *any_span(rng))
        seen[status] = seen.get(status, 0) + 1
    return seen


@case("a state folder that is full, slow, read-only, or fails: served on, nothing promised is lost")
def state_fails():
    rng = random.Random(SEED)
    for what, value, number in (("write_error", 1000, errno.ENOSPC),
                                ("write_error", 200, errno.ENOSPC),
                                ("write_short", 500, 0), ("open_error", 1000, errno.EROFS),
                                ("sync_error", 1000, errno.EIO), ("read_error", 1000, 0),
                                ("read_flip", 300, 0), ("write_slow", 300, 0)):
        state = tempfile.mkdtemp(dir=tmp)
        promised = set()
        for run in range(2):
            s = serve("--state", state, "--disk-cache-size", "64M", "--cache-size", "16M",
                      state=state)
            for name in promised:
                assert s.get("/v1/images/" + name).status == 200, (what, name, promised)
            s.faults.set("slow_ms", STATE, 20)
            s.faults.set("error", STATE, number)
            s.faults.set(what, STATE, value)
            seen = fill(s, rng)
            assert set(seen) == {206}, (what, seen)
            for i in range(12):
                r = s.get("/v1/images", {"Content-Type": "application/json"}, "POST",
                          body=json.dumps({"name": f"{what.replace('_', '-')}-{run}-{i}",
                                           "source": "lab/d.raw"}))
                assert r.status in (201, 500), (what, r.status, r.body)
                if r.status == 201:
                    promised.add(f"{what.replace('_', '-')}-{run}-{i}")
            touched = s.faults.get("did_write", STATE) + s.faults.get("did_read", STATE)
            assert touched, what
            assert s.get("/healthz").status == 200
            s.faults.quiet()
            assert set(fill(s, rng, 20)) == {206}
            s.stop()
        assert promised or value == 1000, what


# ---- Signals ----

@case("storms of signals under load: all answers are right, none is lost, it lives")
def signals():
    config = tmp + "/signals.json"
    json.dump({"listen": ["127.0.0.1:0"], "origins": {"more": {"path": www}}}, open(config, "w"))
    s = serve("--config", config)
    ends = time.time() + 5
    bad, count = [], [0]

    def client(i):
        rng = random.Random(SEED + i)
        while time.time() < ends:
            try:
                status = read(s, f"/disk/lab/{rng.choice(NAMES)}", *any_span(rng))
            except AssertionError as e:
                status = str(e)
            count[0] += 1
            if status != 206:
                bad.append(status)

    with ThreadPoolExecutor(6) as pool:
        for i in range(6):
            pool.submit(client, i)
        rng = random.Random(SEED)
        while time.time() < ends:
            sig = rng.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE,
                              signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP])
            s.proc.send_signal(sig)
            if sig == signal.SIGSTOP:
                time.sleep(rng.random() * 0.1)
                s.proc.send_signal(signal.SIGCONT)
            time.sleep(0.003)
    print(f"#   {count[0]} requests", flush=True)
    assert not bad and count[0] > 50, (bad[:5], count)
    assert "event=reloaded" in s.text()
    s.stop()


@case("SIGTERM at any instant: exit 0, answers whole or cut and never wrong")
def terminated():
    rng = random.Random(SEED)
    for k in range(8):
        s = serve("--drain", "2")
        seen = []

        def client():
            c = random.Random(rng.random())
            while s.proc.poll() is None:
                seen.append(read(s, f"/disk/lab/{c.choice(NAMES)}", *any_span(c), timeout=10))

        threads = [threading.Thread(target=client) for _ in range(4)]
        for t in threads:
            t.start()
        time.sleep(rng.random() * 0.15)
        s.stop()
        for t in threads:
            t.join()
        assert set(seen) <= {206, 503, None}, set(seen)


@case("kill -9 over and over: what was answered 201 or kept is there, and every byte is right")
def killed():
    rng = random.Random(SEED)
    state = tempfile.mkdtemp(dir=tmp)
    kept, gone = set(), set()
    for k in range(12):
        s = serve("--state", state, "--disk-cache-size", "64M", "--cache-size", "16M",
                  state=state)
        have = {r["name"] for r in json.loads(s.get("/v1/images").body) if r.get("registered")}
        assert kept <= have and not gone & have, (kept - have, gone & have)
        ends = []

        def reader(seed):
            c = random.Random(seed)
            while not ends:
                read(s, c.choice(["/disk/web/", "/disk/lab/"]) + c.choice(NAMES), *any_span(c),
                     timeout=10)

        def writer():
            i = 0
            while not ends:
                i += 1
                name = f"k{k}-{i}"
                try:
                    r = s.get("/v1/images", {"Content-Type": "application/json"}, "POST",
                              body=json.dumps({"name": name, "source": "lab/d.qcow2"}))
                    if r.status == 201:
                        kept.add(name)
                    if i % 3 == 0:
                        kept.discard(name)
                        if s.get("/v1/images/" + name, method="DELETE").status == 204:
                            gone.add(name)
                except (http.client.HTTPException, OSError):
                    return

        threads = [threading.Thread(target=reader, args=(rng.random(),)) for _ in range(3)]
        threads.append(threading.Thread(target=writer))
        for t in threads:
            t.start()
        time.sleep(rng.random() * 0.4)
        s.proc.kill()
        s.proc.wait()
        ends.append(1)
        for t in threads:
            t.join()
        live._daemons.remove(s)
    s = serve("--state", state, "--disk-cache-size", "64M", state=state)
    for name in NAMES:
        assert read(s, "/disk/web/" + name, 0, SIZE) == 206
    have = {r["name"] for r in json.loads(s.get("/v1/images").body) if r.get("registered")}
    assert kept <= have and not gone & have, (kept - have, gone & have)
    print(f"#   {len(kept)} names kept, {len(gone)} deleted", flush=True)
    assert kept and gone
    s.stop()


# ---- The clock ----

@case("a clock that jumps by days: deadlines, revalidation, the cache and idle limits go on")
def clock():
    s = serve("--deadline", "2", "--revalidate", "1")
    rng = random.Random(SEED)
    for offset in (0, 86400 * 40, -86400 * 400, 3600, -1, 0):
        s.faults.clock_offset = offset
        start = time.time()
        for name in NAMES:
            for where_from in ("lab", "web"):
                assert read(s, f"/disk/{where_from}/{name}", *any_span(rng)) == 206
        assert time.time() - start < 3, offset
        r = s.get("/disk/o/stall-first/x.raw", {"Range": "bytes=0-9"})
        problem(r, 504, "timeout")
        assert 1 < time.time() - start < 8, (offset, time.time() - start)
        from email.utils import parsedate_to_datetime
        told = parsedate_to_datetime(s.get("/healthz").getheader("Date")).timestamp()
        assert abs(told - time.time() - offset) < 3, (offset, told - time.time())
        # A changed file is seen, whichever way the clock went.
        tag = s.get("/disk/lab/e.raw", {"Range": "bytes=0-0"}).getheader("ETag")
        with open(www + "/e.raw", "r+b") as f:
            f.write(os.urandom(16))
        end = time.time() + 6
        while s.get("/disk/lab/e.raw", {"Range": "bytes=0-0"}).getheader("ETag") == tag:
            assert time.time() < end, offset
            time.sleep(0.1)
    # A read that waits while the clock jumps ends by its own deadline.
    with ThreadPoolExecutor(1) as pool:
        start = time.time()
        waits = pool.submit(s.get, "/disk/o/stall-first/y.raw", {"Range": "bytes=0-9"})
        time.sleep(0.5)
        s.faults.clock_offset = -86400
        time.sleep(0.5)
        s.faults.clock_offset = 86400
        problem(waits.result(), 504, "timeout")
        assert time.time() - start < 8
    s.stop()


# ---- Descriptors ----

@case("no descriptors left: who is in is served, the process rests, and it recovers")
def descriptors():
    s = serve("--max-connections", "500")
    limit = 120
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=20)

    def ask(name):
        c.request("GET", "/disk/lab/" + name, headers={"Range": "bytes=5000-9999"})
        r = c.getresponse()
        return r.status, r.read()

    assert ask("d.raw") == (206, part(truth, 5000, 5000))
    resource.prlimit(s.proc.pid, resource.RLIMIT_NOFILE, (limit, limit))
    idle = []
    for _ in range(300):
        try:
            idle.append(socket.create_connection(("127.0.0.1", s.port), 1))
        except OSError:
            break
    time.sleep(0.5)
    assert ask("d.raw") == (206, part(truth, 5000, 5000))
    status, body = ask("d.qcow2")  # needs one to be opened
    assert status in (206, 503), (status, body)
    ticks = lambda: sum(int(x) for x in open(f"/proc/{s.proc.pid}/stat").read().split()[13:15])
    before = ticks()
    time.sleep(1)
    spent = (ticks() - before) / os.sysconf("SC_CLK_TCK")
    print(f"#   {len(idle)} idle, {n_files(s)} descriptors, {spent:.2f} s of processor in one",
          flush=True)
    assert spent < 0.3, spent
    for x in idle:
        x.close()
    time.sleep(0.5)
    for name in NAMES:
        assert read(s, "/disk/lab/" + name, 5000, 5000) == 206
    c.close()
    s.stop()


@case("a limit of descriptors at the start: connections leave a reserve for files")
def reserve():
    popen = subprocess.Popen
    live.subprocess.Popen = lambda args, **kw: popen(
        ["prlimit", "--nofile=96:96", *args], **kw)
    try:
        s = Platterd({"lab": www})
    finally:
        live.subprocess.Popen = popen
    assert "event=few_descriptors" in s.text()
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=20)
    c.connect()
    idle = [socket.create_connection(("127.0.0.1", s.port), 1) for _ in range(150)]
    time.sleep(0.3)
    for name in NAMES:
        c.request("GET", "/disk/lab/" + name, headers={"Range": "bytes=5000-9999"})
        r = c.getresponse()
        assert (r.status, r.read()) == (206, part(truth, 5000, 5000)), r.status
    for x in idle:
        x.close()
    c.close()
    s.stop()


main()
