# SPDX-License-Identifier: Apache-2.0
"""Real clients, the kept index, first bytes of a throttled archive, and the end
of a server under load."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

www = tmp + "/www"
os.makedirs(www)
truth = www + "/disk.raw"
images.guest_disk(truth, 64)
with open(truth, "r+b") as f:
    f.seek(34 << 20)
    f.write(os.urandom(24 << 20))
sh("tar --format=oldgnu -Sczf x.tar.gz disk.raw; qemu-img convert -c -O qcow2 disk.raw x.qcow2",
   cwd=www)
nginx = Nginx(www)
state = tmp + "/state"
server = Platterd({"web": nginx.url()}, "--state", state)
U = server.url("/disk/web/x.tar.gz")


SIZE = os.path.getsize(truth)
DIGEST = hashlib.sha256(open(truth, "rb").read()).hexdigest()


def same(path):
    sh(["cmp", path, truth])


def asked(mark):
    """What clients asked for since then: (method, status, range or "")."""
    time.sleep(0.3)
    rows = []
    for line in server.text()[mark:].split("\n"):
        if "event=request" not in line and "event=access" not in line:
            continue
        f = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))
        rows.append((f["method"], int(f["status"]), f.get("range", "").strip('"')))
    return rows


def mark():
    return len(server.text())


# ---- QEMU ----

@case("qemu-img converts and compares the disk through QEMU's own HTTP client")
def qemu():
    sh(["timeout", "120", "qemu-img", "convert", "-m", "1", "-O", "raw", U, tmp + "/q.raw"])
    same(tmp + "/q.raw")
    for u in (U, server.url("/disk/web/x.qcow2")):
        assert b"identical" in sh(["timeout", "120", "qemu-img", "compare", "-f", "raw",
                                   "-F", "raw", u, truth])


@case("QEMU's own qcow2 driver over /raw: the file as it is")
def qemu_raw():
    u = server.url("/raw/web/x.qcow2")
    i = json.loads(sh(["timeout", "60", "qemu-img", "info", "--output=json", u]))
    assert i["format"] == "qcow2" and i["virtual-size"] == SIZE, i
    sh(["timeout", "120", "qemu-img", "compare", "-F", "raw", u, truth])


@case("qemu-io at any place, up to the last sector; qemu-img info knows the size")
def qemu_io():
    i = json.loads(sh(["timeout", "60", "qemu-img", "info", "-f", "raw", "--output=json", U]))
    assert i["virtual-size"] == SIZE
    for off in (0, 512, SIZE - 512, SIZE // 2 // 512 * 512, (34 << 20) + 512):
        out = sh(["timeout", "60", "qemu-io", "-r", "-f", "raw", "-c", f"read -v {off} 512", U])
        got = bytes.fromhex("".join(re.findall(rb"^[0-9a-f]{8}:  ((?:[0-9a-f]{2} +)+)", out, re.M)[i]
                                    .decode().replace(" ", "") for i in range(32)))
        assert got == part(truth, off, 512), off


@case("one partition for a client that can send no query: qemu-img, by a path parameter")
def qemu_partition():
    u = server.url("/disk/web/x.tar.gz;member=disk.raw;partition=1")
    sh(["timeout", "120", "qemu-img", "convert", "-m", "1", "-f", "raw", "-O", "raw", u,
        tmp + "/p.raw"])
    start = json.loads(sh(["sfdisk", "--json", truth]))["partitiontable"]["partitions"][0]
    sh(["cmp", "-i", f"0:{start['start'] * 512}", "-n", str(start["size"] * 512), tmp + "/p.raw",
        truth])
    assert os.path.getsize(tmp + "/p.raw") == start["size"] * 512


@case("qemu-nbd exports the disk, nbdinfo and nbdcopy read it from there")
def qemu_nbd():
    sock = tmp + "/nbd.sock"
    p = subprocess.Popen(["qemu-nbd", "-r", "-t", "-f", "raw", "-k", sock, U])
    try:
        end = time.time() + 20
        while not os.path.exists(sock):
            assert time.time() < end and p.poll() is None
            time.sleep(0.05)
        uri = "nbd+unix:///?socket=" + sock
        assert int(sh(["nbdinfo", "--size", uri])) == SIZE
        sh(["timeout", "120", "nbdcopy", uri, tmp + "/qn.raw"])
    finally:
        p.terminate()
        p.wait(20)
    same(tmp + "/qn.raw")


# ---- nbdkit ----

@case("nbdkit's curl plugin reads the disk")
def nbdkit():
    sh(["timeout", "120", "nbdkit", "-U", "-", "curl", U, "--run",
        f'nbdcopy "$uri" {tmp}/n.raw'])
    same(tmp + "/n.raw")


@case("nbdkit over several connections, and in pieces that straddle everything")
def nbdkit_pieces():
    sh(["timeout", "120", "nbdkit", "-U", "-", "-t", "8", "curl", U, "--run",
        f'nbdcopy --connections=4 --requests=8 --request-size=65536 "$uri" {tmp}/n2.raw'])
    same(tmp + "/n2.raw")
    sh(["timeout", "120", "nbdkit", "-U", "-", "--filter=blocksize", "curl", U, "maxdata=100K",
        "--run", f'nbdcopy "$uri" {tmp}/n3.raw'])
    same(tmp + "/n3.raw")


# ---- Download tools ----

@case("aria2c in segments over several connections")
def aria2():
    since = mark()
    sh(["timeout", "120", "aria2c", "-q", "-x", "4", "-s", "4", "-k", "1M", "--file-allocation=none",
        "--checksum=sha-256=" + DIGEST, "-d", tmp, "-o", "a.raw", U])
    same(tmp + "/a.raw")
    rows = [r for r in asked(since) if r[0] == "GET"]
    parts_ = [r for r in rows if r[1] == 206]
    assert len({r[2] for r in parts_}) >= 3 and all(r[1] in (200, 206) for r in rows), rows


@case("aria2c that was killed goes on where it was")
def aria2_again():
    args = ["aria2c", "-q", "-x", "2", "-s", "2", "-k", "1M", "--file-allocation=none", "-c",
            "--auto-save-interval=1", "-d", tmp, "-o", "b.raw", U]
    p = subprocess.Popen(args[:1] + ["--max-overall-download-limit=12M"] + args[1:])
    time.sleep(2.5)
    assert p.poll() is None, "it was too quick to be killed"
    p.terminate()
    p.wait(20)
    assert os.path.exists(tmp + "/b.raw.aria2")
    since = mark()
    sh(["timeout", "120"] + args)
    same(tmp + "/b.raw")
    rows = [r for r in asked(since) if r[0] == "GET"]
    assert rows and all(r[1] == 206 for r in rows if r[2]), rows


@case("wget goes on with a download that was interrupted")
def wget():
    sh(f"head -c 20000000 {truth} > {tmp}/w.raw")
    since = mark()
    sh(["wget", "-q", "-c", "-O", tmp + "/w.raw", U])
    same(tmp + "/w.raw")
    assert ("GET", 206, "bytes=20000000-") in asked(since), asked(since)
    # it is whole: nothing is fetched, and that is no error
    since = mark()
    sh(["wget", "-q", "-c", "-O", tmp + "/w.raw", U])
    same(tmp + "/w.raw")
    assert all(r[1] == 416 or r[0] == "HEAD" for r in asked(since)), asked(since)


@case("wget -N does not fetch what has not changed; --start-pos begins inside")
def wget_newer():
    name = "x.qcow2"
    for i in range(2):
        since = mark()
        sh(["wget", "-q", "-N", server.url("/raw/web/" + name)], cwd=tmp)
        sh(["cmp", f"{tmp}/{name}", f"{www}/{name}"])
        assert [r[1] for r in asked(since)] == [200 if i == 0 else 304], asked(since)
    sh(["wget", "-q", "--start-pos=60000000", "-O", tmp + "/wp.raw", U])
    assert open(tmp + "/wp.raw", "rb").read() == part(truth, 60000000, SIZE - 60000000)


@case("curl -r, on one connection")
def curl():
    for off, n in slices(os.path.getsize(truth)):
        got = sh(["curl", "-fsS", "-r", f"{off}-{off + n - 1}", U])
        assert got == part(truth, off, n), (off, n)


@case("curl: a suffix, an open end, several URLs on one connection, in parallel")
def curl_more():
    assert sh(["curl", "-fsS", "-r", "-500", U]) == part(truth, SIZE - 500, 500)
    assert sh(["curl", "-fsS", "-r", f"{SIZE - 7}-", U]) == part(truth, SIZE - 7, 7)
    assert sh(["curl", "-fsS", "-r", "1000000-1000009", U, U, U]) == 3 * part(truth, 1000000, 10)
    args = []
    for i in range(8):
        args += ["-r", f"{i << 23}-{((i + 1) << 23) - 1}", "-o", f"{tmp}/z{i}", U, "--next"]
    sh(["curl", "-Z", "-sS", "-f"] + args[:-1])
    sh(f"cat {tmp}/z[0-7] | cmp - {truth}")


@case("curl --range with a list: multipart, each part what it says")
def curl_list():
    want = [(0, 511), (1 << 20, (1 << 20) + 99), (SIZE - 10, SIZE - 1)]
    sh(["curl", "-fsS", "-D", tmp + "/h", "-o", tmp + "/m",
        "-r", ",".join(f"{a}-{b}" for a, b in want), U])
    head = open(tmp + "/h").read()
    boundary = re.search(r"(?i)content-type: multipart/byteranges; boundary=(\S+)", head)[1]
    body = open(tmp + "/m", "rb").read()
    pieces = body.split(b"\r\n--" + boundary.encode())
    assert pieces[-1] == b"--\r\n" and len(pieces) == len(want) + 2
    for (a, b), p in zip(want, pieces[1:-1]):
        h, _, got = p.partition(b"\r\n\r\n")
        assert f"bytes {a}-{b}/{SIZE}".encode() in h and got == part(truth, a, b - a + 1)
    # more than are allowed: an error that -f sees, not the whole
    r = subprocess.run(["curl", "-fsS", "-r", ",".join(f"{i << 10}-{i << 10}" for i in range(100)),
                        U], capture_output=True, timeout=60)
    assert r.returncode == 22 and b"416" in r.stderr and not r.stdout, r


@case("curl -C -: goes on, and is content with a file that is whole")
def curl_resume():
    sh(f"head -c 33333333 {truth} > {tmp}/c.raw")
    sh(["curl", "-fsS", "-C", "-", "-o", tmp + "/c.raw", U])
    same(tmp + "/c.raw")
    # with -f it calls the 416 an error, from any server
    sh(["curl", "-sS", "-C", "-", "-o", tmp + "/c.raw", U])
    same(tmp + "/c.raw")


@case("curl -z and --etag-compare: nothing is sent that is there already")
def curl_conditions():
    tag, out = tmp + "/etag", tmp + "/e.raw"
    sh(["curl", "-fsS", "-R", "--etag-save", tag, "-o", out, U])
    since = mark()
    sh(["curl", "-fsS", "--etag-compare", tag, "-o", tmp + "/none", U])
    sh(["curl", "-fsS", "-z", out, "-o", tmp + "/none", U])
    assert [r[1] for r in asked(since)] == [304, 304], asked(since)
    assert not os.path.exists(tmp + "/none") or os.path.getsize(tmp + "/none") == 0
    sh(["curl", "-fsS", "--head", "-o", tmp + "/head", U])
    assert f"content-length: {SIZE}" in open(tmp + "/head").read().lower()


@case("Python's urllib: the whole, a range, a condition, a range that is none")
def urllib_():
    import urllib.request, urllib.error
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(U, timeout=60) as r:
        tag = r.headers["ETag"]
        digest = hashlib.sha256()
        for piece in iter(lambda: r.read(1000003), b""):
            digest.update(piece)
    assert digest.hexdigest() == DIGEST

    def code(**headers):
        q = urllib.request.Request(U, headers={k.replace("_", "-"): v for k, v in headers.items()})
        try:
            with opener.open(q, timeout=60) as r:
                return r.status, r.read()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read()
    assert code(Range="bytes=1000-1999") == (206, part(truth, 1000, 1000))
    assert code(Range="bytes=1000-1999", If_Range=tag) == (206, part(truth, 1000, 1000))
    assert code(If_None_Match=tag) == (304, b"")
    assert code(Range=f"bytes={SIZE}-")[0] == 416


# ---- The origin's side of it ----

@case("whole disk, never seen before: the origin sends its file once")
def once():
    sh(f"cp {www}/x.tar.gz {www}/y.tar.gz")
    s = Platterd({"web": nginx.url()})
    r = s.get("/disk/web/y.tar.gz")
    assert len(r.body) == os.path.getsize(truth)
    sent, n = nginx.sent("/y.tar.gz")
    assert sent <= 1.02 * os.path.getsize(www + "/y.tar.gz") + 140000, (sent, n)
    s.stop()


@case("after a restart, a read far inside costs one restart, not a decode from the start")
def restart():
    global server
    end = time.time() + 60
    while True:
        info = json.loads(server.get("/v1/info/web/x.tar.gz").body)
        if info["layers"][1]["state"] == "complete":
            break
        assert time.time() < end
        time.sleep(0.2)
    assert info["layers"][1]["index-kept"]
    server.stop()
    before, _ = nginx.sent("/x.tar.gz")
    server = Platterd({"web": nginx.url()}, "--state", state)
    off = 50 << 20
    assert server.range("/disk/web/x.tar.gz", off, 65536) == part(truth, off, 65536)
    cost = nginx.sent("/x.tar.gz")[0] - before
    assert cost < 4 << 20, f"{cost} bytes of {os.path.getsize(www + '/x.tar.gz')}"


@case("a kept index that was damaged is seen through, and made anew")
def damaged():
    server.stop()
    for name in os.listdir(state):
        if os.path.isdir(f"{state}/{name}"):  # of manifests and mirrors
            continue
        b = bytearray(open(f"{state}/{name}", "rb").read())
        for at in range(100, len(b), 997):
            b[at] ^= 0x55
        open(f"{state}/{name}", "wb").write(b)
    s = Platterd({"web": nginx.url()}, "--state", state)
    for off, n in slices(os.path.getsize(truth)):
        assert s.range("/disk/web/x.tar.gz", off, n) == part(truth, off, n)
    s.stop()


@case("the first bytes of a never-seen tar.gz do not wait for the rest of it")
def first_bytes():
    s = Platterd({"slow": nginx.url() + "slow/"})
    start = time.time()
    assert s.range("/disk/slow/x.tar.gz", 0, 512) == part(truth, 0, 512)
    took = time.time() - start
    all_of_it = os.path.getsize(www + "/x.tar.gz") / (512 * 1024)
    assert took < min(4, all_of_it / 3), (took, all_of_it)
    s.stop()


@case("SIGTERM under load: every answer is whole or visibly cut, and the end is clean")
def drain():
    s = Platterd({"web": nginx.url(), "lab": www}, "--drain", "1")
    bad, n = [], [0]

    def client(i):
        while True:
            try:
                r = s.get(("/disk/web/x.tar.gz", "/disk/lab/x.qcow2")[i % 2], timeout=20)
                if r.status == 200 and len(r.body) != os.path.getsize(truth):
                    bad.append(len(r.body))
                n[0] += 1
            except http.client.IncompleteRead:
                continue
            except OSError:
                return
            except http.client.HTTPException:
                return
    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    time.sleep(1.5)
    s.stop()
    for t in threads:
        t.join()
    assert not bad, bad


main()
