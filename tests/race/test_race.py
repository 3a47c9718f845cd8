# SPDX-License-Identifier: Apache-2.0
"""Many clients at once on few images, with a small cache, while files change:
right bytes or an error.  Made for the ThreadSanitizer build."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from collections import Counter
from live import *
import images

www = tmp + "/www"
os.makedirs(www)
truth = www + "/disk.raw"
images.guest_disk(truth, 16)
sh("tar --format=oldgnu -Sczf x.tar.gz disk.raw; cp disk.raw d.t; dictzip d.t; mv d.t.dz d.raw.dz;"
   "qemu-img convert -c -O qcow2 disk.raw x.qcow2; gzip -k x.qcow2;"
   "qemu-img convert -c -O qcow2 -o compression_type=zstd disk.raw c.qcow2;"
   "qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw s.vmdk;"
   "qemu-img create -q -f qcow2 -b c.qcow2 -F qcow2 o.qcow2", cwd=www)
size = os.path.getsize(truth)
whole = open(truth, "rb").read()
nginx = Nginx(www)
server = Platterd({"web": nginx.url(), "lab": www}, "--cache-size", "40M",
                  "--max-open", "13", "--revalidate", "1", "--workers", "32")
# Sixteen images, thirteen of them open at a time: some have to close while others
# open.  Coded clusters and grains are decoded by several threads.
PATHS = [f"/disk/{o}/{n}" for o in ("web", "lab")
         for n in ("x.tar.gz", "d.raw.dz", "x.qcow2", "x.qcow2.gz", "disk.raw",
                   "c.qcow2", "s.vmdk", "o.qcow2")]


def reader(seed, seconds, errors, counts):
    rnd = random.Random(seed)
    end = time.time() + seconds
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    while time.time() < end:
        path = rnd.choice(PATHS)
        off = rnd.randrange(size)
        n = min(rnd.choice([1, 512, 4096, 65536, 400000]), size - off)
        try:
            c.request("GET", path, headers={"Range": f"bytes={off}-{off + n - 1}"})
            r = c.getresponse()
            body = r.read()
        except (http.client.HTTPException, OSError):
            c.close()
            counts["broken"] = counts.get("broken", 0) + 1
            continue
        counts[r.status] = counts.get(r.status, 0) + 1
        if r.status == 206 and body != whole[off:off + n]:
            errors.append((path, off, n))
        if rnd.random() < 0.05:
            c.close()


@case("sixteen readers of sixteen images in a small cache get right bytes")
def many():
    errors, counts = [], {}
    threads = [threading.Thread(target=reader, args=(i, 12, errors, counts)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[:5]
    assert counts.get(206, 0) > 100, counts
    why = Counter(re.sub("[0-9]+", "N", m)
                  for m in re.findall("error=.*", server.text())).most_common(5)
    assert counts.get(206, 0) > 3 * sum(v for k, v in counts.items() if k != 206), \
        (counts, why)


@case("long answers side by side, checksums, extents and info, while others leave")
def long_answers():
    import hashlib
    want = hashlib.sha256(whole).hexdigest()
    blocks = hashlib.sha256(b"".join(hashlib.sha256(whole[i:i + (1 << 20)]).digest()
                                     for i in range(0, size, 1 << 20))).hexdigest()
    errors, good = [], []

    def all_of(path):
        try:
            r = server.get(path, timeout=120)
        except (http.client.IncompleteRead, ConnectionResetError):
            return  # with so little memory: cut, and visibly
        if r.status == 200 and r.body != whole:
            errors.append(path)
        good.extend([path] * (r.status == 200))

    def sums(path):
        for query, sum in (("", want), ("?block_size=1M", blocks)):
            r = server.get(path.replace("/disk/", "/v1/checksum/") + query,
                           {"Accept": "text/event-stream"} if query else {}, timeout=120)
            if r.status == 200 and (sum if query else f'"{want}"').encode() not in r.body \
                    and b"event: error" not in r.body:
                errors.append((path, query, r.body))

    def told(path):
        for kind in ("info", "extents", "partitions"):
            server.get(path.replace("/disk/", f"/v1/{kind}/"), timeout=120)
        server.get("/metrics")
        server.get("/v1/images")
    with ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(fn, p) for p in PATHS for fn in (all_of, sums, told)]
        for job in jobs:
            job.result()
    assert not errors, errors[:3]
    assert len(good) > len(PATHS) // 4, good


@case("a reload under load: nobody is disturbed, and images come and go")
def reload():
    conf = tmp + "/conf.json"

    def write(member):
        with open(conf + ".new", "w") as f:
            json.dump({"origins": {"lab": {"path": www}}, "images": {
                "x": {"source": "lab/x.tar.gz", "labels": {"turn": str(member)}},
                **({"y": {"source": "lab/x.qcow2"}} if member % 2 else {})}}, f)
        os.rename(conf + ".new", conf)
    write(0)
    gate = Platterd({}, "--config", conf, "--state", tmp + "/race-state", "--cache-size", "40M")
    errors, counts, end = [], {}, time.time() + 6

    def read(i):
        rnd = random.Random(i)
        while time.time() < end:
            off = rnd.randrange(size - 4096)
            path = rnd.choice(["/disk/x", "/disk/y", "/disk/lab/x.qcow2"])
            r = gate.get(path, {"Range": f"bytes={off}-{off + 4095}"})
            if r.status == 206 and r.body != whole[off:off + 4096] or \
                    r.status not in ((206, 404, 503) if path == "/disk/y" else (206, 503)):
                errors.append((path, r.status, r.body[:200]))
            counts[r.status] = counts.get(r.status, 0) + 1

    def name(i):
        while time.time() < end:
            body = json.dumps({"name": f"n{i}", "source": "lab/x.tar.gz"})
            gate.get("/v1/images", {"Content-Type": "application/json"}, "POST", body=body)
            gate.get(f"/disk/n{i}", {"Range": "bytes=0-9"})
            gate.get(f"/v1/images/n{i}", method="DELETE")
    threads = [threading.Thread(target=read, args=(i,)) for i in range(6)] + \
              [threading.Thread(target=name, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    turn = 0
    while time.time() < end:
        turn += 1
        write(turn)
        gate.proc.send_signal(signal.SIGHUP)
        time.sleep(0.2)
    for t in threads:
        t.join()
    assert not errors, errors[:3]
    # Stacks that close hold their memory for a moment: then some are refused.
    assert counts[206] > 5 * counts.get(503, 0), counts
    reserved = lambda: int(re.search(rb"^platter_cache_reserved_bytes (\d+)", gate.get("/metrics").body, re.M)[1])
    end = time.time() + 30
    while reserved() > 16 << 20 and time.time() < end:
        time.sleep(0.2)
    assert reserved() <= 16 << 20, reserved()
    gate.stop()


@case("the same through a disk cache that goes round, beside a memory of little")
def on_disk():
    global server
    before = server
    server = Platterd({"web": nginx.url(), "lab": www}, "--cache-size", "24M", "--max-open", "13",
                      "--revalidate", "1", "--workers", "32", "--state", tmp + "/state",
                      "--disk-cache-size", "64M")
    try:
        errors, counts = [], {}
        threads = [threading.Thread(target=reader, args=(i, 12, errors, counts)) for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors, errors[:5]
        assert counts.get(206, 0) > 100, counts
        text = server.get("/metrics").body.decode()
        for name in ("hits_total", "writes_total", "state"):
            assert int(re.search(rf"^platter_disk_cache_{name} (\d+)$", text, re.M)[1]) > 0, name
        server.stop()
    finally:
        server = before


@case("answers out of the cache, while images close under them and clients stay, are slow, or leave")
def lent():
    gate = Platterd({"web": nginx.url(), "lab": www}, "--cache-size", "48M", "--max-open", "6",
                    "--revalidate", "600", "--workers", "32")
    end = time.time() + 12
    wrong, held, counts = [], [0], Counter()

    def ask(i):
        rnd = random.Random(i)
        while time.time() < end:
            # What is hot is lent; the others make images close.
            path = rnd.choice(PATHS[:3] if rnd.random() < 0.9 else PATHS)
            n = rnd.randrange(100 << 10, 300 << 10)
            off = rnd.randrange(1 << 20)
            c = socket.socket()
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # small buffers on its way
            c.settimeout(60)
            c.connect(("127.0.0.1", gate.port))
            c.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                      f"Range: bytes={off}-{off + n - 1}\r\n\r\n".encode())
            time.sleep(rnd.choice([0, 0, 0.02, 0.3]))
            got = c.recv(1 << 20)
            while rnd.random() > 0.002:
                more = c.recv(1 << 20)
                if not more:
                    head, _, body = got.partition(b"\r\n\r\n")
                    counts[head[9:12]] += 1
                    if head[9:12] == b"206" and body != whole[off:off + n] and len(body) == n:
                        wrong.append((path, off, n))
                    break
                got += more
            c.close()

    def watch():
        while time.time() < end:
            text = gate.get("/metrics").body.decode()
            held.append(int(re.search(r"^platter_cache_lent_bytes (\d+)$", text, re.M)[1]))
            time.sleep(0.02)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    threads.append(threading.Thread(target=watch))
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]
    assert counts[b"206"] > 100 and 0 < max(held) <= 6 << 20, (counts, max(held))


@case("traces begun, loaded, replayed and dropped while clients read in order and anywhere")
def traces():
    gate = Platterd({"web": nginx.url(), "lab": www}, "--cache-size", "40M", "--max-open", "5",
                    "--revalidate", "1", "--state", tmp + "/traces")
    errors, counts, end = [], Counter(), time.time() + 12
    row = {"version": 1, "virtual-size": size,
           "reads": [[i << 18, 65536, i] for i in range(0, size >> 18, 3)]}

    def in_order(i):
        c = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=60)
        rnd = random.Random(i)
        while time.time() < end:
            path, step = rnd.choice(PATHS), rnd.choice([16384, 16384, 300000])
            for off in range(0, size - 16384, step):
                c.request("GET", path, headers={"Range": f"bytes={off}-{off + 16383}"})
                r = c.getresponse()
                body = r.read()
                counts[r.status] += 1
                if r.status == 206 and body != whole[off:off + 16384]:
                    errors.append((path, off))
                if r.status != 206 or time.time() > end:
                    break

    def change(i):
        rnd = random.Random(i)
        while time.time() < end:
            ref = rnd.choice(PATHS)[len("/disk/"):]
            kind, method, body = rnd.choice([
                ("trace", "POST", {"seconds": 1}), ("trace", "POST", row), ("trace", "DELETE", None),
                ("trace", "GET", None), ("prefetch", "POST", {}), ("prefetch", "POST", {"what": "disk"}),
                ("prefetch", "DELETE", None), ("prefetch", "GET", None)])
            r = gate.get(f"/v1/{kind}/{ref}", {"Content-Type": "application/json"}, method,
                         body=None if body is None else json.dumps(body))
            counts[kind, r.status] += 1
            if r.status not in (200, 202, 204, 404, 503):
                errors.append((kind, method, ref, r.status, r.body))
    threads = [threading.Thread(target=in_order, args=(i,)) for i in range(6)] + \
              [threading.Thread(target=change, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[:3]
    assert counts[206] > 100 and counts["trace", 200] > 10 and counts["prefetch", 202] > 10, counts
    gate.stop()


@case("manifests polled, made, damaged at rest and dropped, side by side")
def manifests():
    group, leaf = 1 << 20, 4096
    leaves = [hashlib.sha256(whole[i:i + leaf]).digest() for i in range(0, size, leaf)]
    groups = b"".join(hashlib.sha256(b"".join(leaves[i:i + 256])).digest()
                      for i in range(0, len(leaves), 256))
    root = hashlib.sha256(b"platter-root-1\0\0" + size.to_bytes(8, "little") + groups).hexdigest()
    want = {"/groups": groups, "/leaves": b"".join(leaves)}
    kept = tmp + "/manifests"
    os.makedirs(kept)
    # An overlay whose backing file has a manifest, and a file that changes under
    # its validator: nginx's is the time and the size.
    liar = www + "/liar.raw"

    def lie(k):
        with open(liar, "r+b" if os.path.exists(liar) else "wb") as f:
            f.write(bytes([k]) * (3 * group))
        os.utime(liar, (1e9, 1e9))
    lie(1)
    gates = [Platterd({"web": nginx.url(), "lab": www}, "--cache-size", "40M", "--max-open", "9",
                      "--revalidate", "1", *more) for more in (["--state", kept], [])]
    wrong, counts, end = [], Counter(), time.time() + 15

    def ask(gate, rnd):
        ref = rnd.choice(PATHS)[len("/disk/"):]
        part = rnd.choice(["", "", "", "/groups", "/leaves", "?format=bmap", "events", "block", "liar"])
        if part == "block":
            n = rnd.randrange(size // group)
            r = gate.get(f"/v1/blocks/{root}/{n}")
            good = r.body == whole[n * group:(n + 1) * group]
        elif part == "liar":
            r = gate.get("/v1/manifest/web/liar.raw")
            if r.status == 200:
                r = gate.get(f"/v1/blocks/{json.loads(r.body)['root']}/1")
            good = True
            counts["liar", r.status] += 1
        elif part == "events":
            r = gate.get("/v1/manifest/" + ref, {"Accept": "text/event-stream"})
            good = root.encode() in r.body or b"event: error" in r.body
        else:
            etag = {"If-None-Match": f'"{root}-head"'} if not part and rnd.random() < .5 else {}
            r = gate.get("/v1/manifest/" + ref + part, etag)
            good = r.status == 304 or (r.body == want[part] if part in want else
                                       root.encode() in r.body or part[:1] == "?")
        counts[part, r.status] += 1
        if r.status == 200 and not good or r.status not in (200, 304, 404, 502, 503):
            wrong.append((part, ref, r.status, r.body[:200]))

    def poll(i):
        rnd = random.Random(i)
        while time.time() < end:
            ask(gates[i % 3 == 0], rnd)

    def damage():
        rnd = random.Random(99)
        while time.time() < end:
            lie(rnd.choice([1, 2]))
            for name in rnd.sample(os.listdir(kept + "/manifests"), 1):
                if "." not in name:
                    with open(f"{kept}/manifests/{name}", "r+b") as f:
                        f.seek(rnd.randrange(f.seek(0, 2)))
                        f.write(b"?")
            time.sleep(0.3)
    gates[0].get("/v1/manifest/lab/c.qcow2")
    threads = [threading.Thread(target=poll, args=(i,)) for i in range(10)] + \
              [threading.Thread(target=damage)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]
    made = re.search(rb"^platter_manifests_made_total (\d+)", gates[0].get("/metrics").body, re.M)
    assert int(made[1]) > 5 and counts["", 304] > 20 and counts["block", 200] > 5, (made, counts)
    assert counts["/leaves", 200] > 5, counts
    for gate in gates:
        gate.stop()


@case("clients that leave in the middle do no harm")
def leaving():
    def leave(i):
        for _ in range(15):
            s = socket.create_connection(("127.0.0.1", server.port), 10)
            s.sendall(f"GET {PATHS[i % len(PATHS)]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            s.recv(random.choice([1, 5000, 100000]))
            s.close()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(16)))
    assert server.range(PATHS[0], 0, 512) == whole[:512]


@case("files that change under many readers give one version under one ETag")
def changing():
    versions = {}
    path = www + "/v.raw"

    def write(k):
        b = bytes([k]) * 300000
        open(path + ".new", "wb").write(b)
        os.rename(path + ".new", path)
    write(1)
    bad = []
    stop = time.time() + 8

    def read(i):
        while time.time() < stop:
            try:
                r = server.get(("/disk/web/v.raw", "/disk/lab/v.raw")[i % 2])
            except (http.client.IncompleteRead, ConnectionResetError):
                continue  # changed under the answer: cut, and visibly
            if r.status == 200:
                if len(set(r.body)) != 1 or len(r.body) != 300000:
                    bad.append("mixed")
                elif versions.setdefault(r.getheader("ETag"), r.body[0]) != r.body[0]:
                    bad.append("one ETag, two versions")
    threads = [threading.Thread(target=read, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for k in range(2, 8):
        time.sleep(1)
        write(k)
    for t in threads:
        t.join()
    assert not bad, bad[:3]
    assert len(versions) > 2, versions


main()
