# SPDX-License-Identifier: Apache-2.0
"""Files on web servers: what is read ahead, along, once for all and from long
requests is byte for byte what is there, and costs the origin each byte once."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

www = tmp + "/www"
os.makedirs(www)
N = (24 << 20) + 12345
data = random.randbytes(N)
open(www + "/f.bin", "wb").write(data)
truth = www + "/disk.raw"
images.guest_disk(truth, 24)
with open(truth, "r+b") as f:
    f.seek(14 << 20)
    f.write(random.randbytes(9 << 20))
sh("""qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw s.vmdk
qemu-img convert -c -O qcow2 disk.raw z.qcow2; qemu-img convert -O qcow2 disk.raw x.qcow2
tar -cf t.tar s.vmdk""", cwd=www)
nginx, origin = Nginx(www), Origin(www)


def start(*flags):
    return Platterd({"web": nginx.url(), "o": origin.url()}, "--revalidate", "600", *flags)


def fresh(name):
    """A copy that no server has seen, and a server."""
    path = f"{www}/{random.getrandbits(40):x}{os.path.splitext(name)[1]}"
    shutil.copyfile(f"{www}/{name}", path)
    return os.path.basename(path), start()


def walk(c, path, off, end, steps, skip=0):
    """Read forward over one connection, in steps, leaving out up to `skip`."""
    while off < end:
        n = min(random.choice(steps), end - off)
        c.request("GET", path, headers={"Range": f"bytes={off}-{off + n - 1}"})
        r = c.getresponse()
        body = r.read()
        assert r.status == 206 and body == data[off:off + n], (r.status, off, n)
        off += n + (random.randrange(skip) if skip else 0)


def forward(steps, skip):
    def run():
        name, s = fresh("f.bin")
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
        walk(c, "/raw/web/" + name, 0, N, steps, skip)
        c.close()
        s.stop()
        sent, requests = nginx.sent(name)
        assert sent <= N * 1.01 + 65536, (sent, N)
        assert requests <= 24, requests
    return run


case("a reader that goes forward in large steps has few requests")(
    forward([262144, 300000, 1 << 20], 0))
case("... in small ones")(forward([4096, 65536, 10000], 0))
case("... and one that leaves out a little")(forward([65536, 300000], 20000))


@case("readers that go forward, back and anywhere at once get the bytes that are there")
def mixed():
    name, s = fresh("f.bin")

    def run(i):
        rnd = random.Random(i)
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
        if i % 2:
            walk(c, "/raw/web/" + name, rnd.randrange(N // 2), N, [65536, 262144, 700000], 100000)
        for _ in range(0 if i % 2 else 60):
            off = rnd.randrange(N)
            walk(c, "/raw/web/" + name, off, min(N, off + rnd.choice([10, 70000, 500000])),
                 [500000])
        c.close()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    s.stop()
    # Some begin long requests where others have been soon after.
    assert nginx.sent(name)[0] <= N * 1.4, nginx.sent(name)


def together(name, n, path):
    def run():
        copy, s = fresh(name)
        size = os.path.getsize(f"{www}/{name}")
        want = hashlib.sha256(data if path == "raw" else open(truth, "rb").read()).digest()

        def read(_):
            return hashlib.sha256(s.get(f"/{path}/web/{copy}").body).digest()
        with ThreadPoolExecutor(n) as pool:
            assert set(pool.map(read, range(n))) == {want}
        s.stop()
        sent, _ = nginx.sent(copy)
        # A long request is read over what another reader has claimed meanwhile:
        # less than 512 KiB at a time, and more when the machine is busy.
        assert sent <= size * 1.05 + (4 << 20), (sent, size)
    return run


for who in (("f.bin", 6, "raw"), ("x.qcow2", 4, "disk"), ("z.qcow2", 4, "disk"),
            ("s.vmdk", 4, "disk"), ("disk.raw", 6, "disk")):
    case(f"{who[1]} readers of all of {who[0]} at once cost the origin its bytes once")(
        together(*who))


@case("a copy by several threads costs the origin the file's bytes, and one long request more at most")
def copied():
    for name in ("x.qcow2", "s.vmdk", "f.bin"):
        copy, s = fresh(name)
        s.stop()
        out = tmp + "/out.raw"
        spec = ("raw:" if name == "f.bin" else "") + nginx.url() + copy
        platter("convert", spec, out, "-O", "raw")
        want = data if name == "f.bin" else open(truth, "rb").read()
        assert open(out, "rb").read() == want, name
        os.remove(out)
        sent, size = nginx.sent(copy)[0], os.path.getsize(f"{www}/{name}")
        # A long request that pieces came too much out of order for is given up,
        # with what was under way; then there are none for a while.
        assert sent <= size * 1.05 + (8 << 20), (name, sent, size)


def late_ones():
    """How many reads here and there took 45 ms or more, and how many there were."""
    name, s = fresh("f.bin")
    at, slow = [0], []

    def forward():
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
        while at[0] < N - (8 << 20):
            walk(c, "/raw/web/" + name, at[0], at[0] + 65536, (65536,))
            at[0] += 65536
            time.sleep(0.005)
        c.close()

    t = threading.Thread(target=forward)
    t.start()
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
    while t.is_alive():
        off = (at[0] >> 16 << 16) + (random.randrange(20, 60) << 16)
        begin = time.monotonic()
        walk(c, "/raw/web/" + name, off, off + 4096, (4096,))
        slow.append(time.monotonic() - begin)
        time.sleep(0.02)
    c.close()
    t.join()
    s.stop()
    late = sum(x > 0.045 for x in slow)
    print(f"# {late} of {len(slow)} took 45 ms or more", flush=True)
    return late, len(slow)


@case("who reads here and there, a little before one who goes forward, does not wait for that")
def scattered():
    # A machine that is busy with something else makes a try late, not all of them.
    tries = []
    while len(tries) < 4:
        tries.append(late_ones())
        if tries[-1][1] > 20 and tries[-1][0] < tries[-1][1] / 4:
            return
    raise AssertionError(tries)


@case("a reader that stops has not cost more than four times what it read, and a megabyte")
def stops():
    name, s = fresh("f.bin")
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
    walk(c, "/raw/web/" + name, 0, 1 << 20, [128 << 10])
    c.close()
    s.stop()
    sent, _ = nginx.sent(name)
    assert sent <= 5 << 20, sent


@case("a long request whose connection breaks is taken up where it was")
def drops():
    s = start("--deadline", "20")
    got = s.range("/raw/o/drops/f.bin", 0, 8 << 20)
    assert got == data[:8 << 20]
    s.stop()


@case("a file that is replaced under a forward reader: its bytes, or an end")
def replaced():
    name, s = fresh("f.bin")
    other = random.randbytes(N)
    sock = socket.create_connection(("127.0.0.1", s.port), 20)
    sock.sendall(f"GET /raw/web/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    got = b""
    while len(got) < 6 << 20:
        got += sock.recv(1 << 20)
    open(f"{www}/{name}.new", "wb").write(other)
    os.utime(f"{www}/{name}.new", (1e9, 1e9))
    os.rename(f"{www}/{name}.new", f"{www}/{name}")
    while True:
        more = sock.recv(1 << 20)
        if not more:
            break
        got += more
    sock.close()
    body = got.partition(b"\r\n\r\n")[2]
    assert body == data[:len(body)]
    r = s.get(f"/raw/web/{name}", {"Range": f"bytes={N - 9}-{N - 1}"})
    assert r.status == 502 or r.body in (data[-9:], other[-9:])
    s.stop()


def ends(mode):
    def run():
        s = start("--deadline", "10")
        for name in ("s.vmdk", "t.tar"):
            begun = time.time()
            for off, n in slices(24 << 20, 3):
                assert s.range(f"/disk/o/{mode}/{name}", off, n) == part(truth, off, n)
            assert time.time() - begun < 8, "it was waited for"
        s.stop()
    return run


for mode in ("ok", "no-suffix", "other-suffix", "short-suffix", "stall-suffix"):
    case(f"the end that an open asks for along with the head, from an origin in the mode {mode}")(
        ends(mode))

main()
