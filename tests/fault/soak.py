#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A soak: many formats, from an origin that lies and a disk that fails, under a dozen
clients; the state folder fails, allocations fail, the clock jumps, signals and kills
come, images change.  Every answer is right, byte for byte, or an honest error.  At
the end, without faults, everything is right, and memory and descriptors are back.

    tests/fault/soak.py [--seconds N] [--seed N]"""
import argparse, collections, sys, os
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
ask = argparse.ArgumentParser()
ask.add_argument("--seconds", type=int, default=30)
ask.add_argument("--seed", type=int, default=0)
options = ask.parse_args()
if options.seed:
    os.environ["PLATTER_SEED"] = str(options.seed)
from faults import *
import errno, images

www, state = tmp + "/www", tmp + "/state"
os.makedirs(www)
os.makedirs(state)
CLIENTS, SIZE = 12, 8 << 20
# What is served as it was made, and what is replaced as the soak goes on.
FIXED = ("d.raw", "d.tar", "d.tar.gz", "d.raw.gz?layers=gzip", "d.dz", "plain.qcow2",
         "zlib.qcow2", "zstd.qcow2", "chain.qcow2", "sparse.vmdk", "flat.vmdk",
         "stream.vmdk", "d.ova", "d.tgz?member=d.raw")
CHANGES = "moving.raw"


def make():
    images.guest_disk(www + "/d.raw", SIZE >> 20)
    sh("""set -e
qemu-img convert -O qcow2 d.raw plain.qcow2
qemu-img convert -c -O qcow2 d.raw zlib.qcow2
qemu-img convert -c -O qcow2 -o compression_type=zstd d.raw zstd.qcow2
qemu-img create -q -f qcow2 -b zlib.qcow2 -F qcow2 chain.qcow2
qemu-img convert -O vmdk d.raw sparse.vmdk
qemu-img convert -O vmdk -o subformat=monolithicFlat d.raw flat.vmdk
qemu-img convert -O vmdk -o subformat=streamOptimized d.raw stream.vmdk
tar -cf d.tar d.raw
tar -Sczf d.tar.gz d.raw
tar -czf d.tgz d.raw plain.qcow2
gzip -k d.raw
tar -cf d.ova --format=ustar stream.vmdk""", cwd=www)
    images.dictzip99(www + "/d.raw", www + "/d.dz")


class Soak:
    def __init__(self):
        self.rng = random.Random(SEED)
        self.truth = open(www + "/d.raw", "rb").read()
        self.versions = []       # all that CHANGES ever was
        self.tags = {}           # and which of them an ETag is
        self.kept = {}           # registered: True; deletion asked: False
        self.counts = collections.Counter()
        self.wrong, self.ends, self.lock = [], False, threading.Lock()
        self.config = tmp + "/soak.json"
        self.rate, self.told = tmp + "/rate", tmp + "/origin-counts"
        open(self.rate, "w").write("0")
        self.origin = subprocess.Popen(
            [sys.executable, HERE + "/chaos_origin.py", www, self.rate, self.told, str(SEED)],
            stdout=subprocess.PIPE, text=True)
        self.port = int(self.origin.stdout.readline())
        self.change()
        self.faults = Faults()
        self.start()

    def start(self):
        self.server = FaultyPlatterd(
            {"lab": www, "web": f"http://127.0.0.1:{self.port}/"}, "--state", state,
            "--disk-cache-size", "64M", "--cache-size", "24M", "--deadline", "4",
            "--revalidate", "1", "--drain", "1", "--log-level", "info",
            disk=www, state=state, faults=self.faults)

    def change(self):
        data = self.rng.randbytes(self.rng.randrange(300000, 900000))
        self.versions.append(data)
        with open(www + "/.new", "wb") as f:
            f.write(data)
        os.rename(www + "/.new", f"{www}/{CHANGES}")

    def bad(self, text):
        with self.lock:
            self.wrong.append(text)

    # ---- Clients ----

    def get(self, path, headers, method="GET", body=None):
        server = self.server
        try:
            r = server.get(path, headers, method, 30, body)
        except ConnectionRefusedError:  # it is being started anew
            with self.lock:
                self.counts["refused"] += 1
            time.sleep(0.05)
            return None
        except (http.client.HTTPException, OSError):
            with self.lock:
                self.counts["broken"] += 1
            return None
        return r

    def one(self, rng):
        """A range of a disk against what it must be."""
        where = rng.choice(["lab", "web"])
        if rng.random() < 0.1:
            return self.one_changing(rng, where)
        name = rng.choice(FIXED)
        off = rng.randrange(SIZE)
        length = min(rng.choice([1, 512, 4096, 65536, 300000, 2000000]), SIZE - off)
        r = self.get(f"/disk/{where}/{name}", {"Range": f"bytes={off}-{off + length - 1}"})
        self.count(r)
        if r and r.status == 206:
            if r.body != self.truth[off:off + length]:
                self.bad(f"{where}/{name} {off}+{length}: wrong bytes")
            if r.getheader("Content-Range") != f"bytes {off}-{off + length - 1}/{SIZE}":
                self.bad(f"{where}/{name}: {r.getheader('Content-Range')}")

    def one_changing(self, rng, where):
        off = rng.randrange(250000)
        r = self.get(f"/disk/{where}/{CHANGES}", {"Range": f"bytes={off}-{off + 49999}"})
        self.count(r)
        if not r or r.status != 206:
            return
        fits = {i for i, v in enumerate(self.versions) if v[off:off + 50000] == r.body}
        tag = (where, r.getheader("ETag"))
        with self.lock:
            fits &= self.tags.setdefault(tag, fits)
            self.tags[tag] = fits
        if not fits:
            self.bad(f"{where}/{CHANGES} {tag}: bytes of no version, or of two")

    def describe(self, rng):
        kind, name = rng.choice([("info", "chain.qcow2"), ("extents", "sparse.vmdk"),
                                 ("members", "d.ova"), ("partitions", "d.tar.gz"),
                                 ("check", "plain.qcow2"), ("checksum", "d.dz")])
        r = self.get(f"/v1/{kind}/{rng.choice(['lab', 'web'])}/{name}", {})
        self.count(r)
        if not r or r.status != 200:
            return
        doc = json.loads(r.body)
        if kind == "checksum" and doc["checksum"] != hashlib.sha256(self.truth).hexdigest():
            self.bad(f"{name}: another checksum")
        if kind == "info" and (doc["virtual-size"], doc["format"]) != (SIZE, "qcow2"):
            self.bad(f"{name}: {doc}")
        if kind == "check" and doc.get("corruptions") or kind == "partitions" and \
                len(doc["partitions"]) != 1:
            self.bad(f"{name}: {doc}")

    def register(self, rng, me):
        name = f"c{me}-{rng.randrange(1 << 30)}"
        r = self.get("/v1/images", {"Content-Type": "application/json"}, "POST",
                     json.dumps({"name": name, "source": "lab/zlib.qcow2"}))
        self.count(r)
        if r and r.status in (200, 201):
            self.kept[name] = True
        mine = [n for n, is_kept in list(self.kept.items())
                if is_kept and n.startswith(f"c{me}-")]
        if len(mine) > 4:
            self.kept[mine[0]] = None  # may be either, until it is answered
            r = self.get("/v1/images/" + mine[0], {}, "DELETE")
            self.count(r)
            if r and r.status == 204:
                self.kept[mine[0]] = False

    def count(self, r):
        with self.lock:
            self.counts["requests"] += 1
            if r:
                self.counts[r.status] += 1
        if r and r.status not in (200, 201, 204, 206, 404, 403, 409, 500, 502, 503, 504):
            self.bad(f"status {r.status}: {r.body[:200]!r}")
        if r and r.status >= 500:
            doc = json.loads(r.body) if r.body else {}
            if doc.get("type") == "/problems/bug":
                self.bad(f"a bug: {r.body[:300]!r}")

    def client(self, me):
        rng = random.Random(SEED * 100 + me)
        while not self.ends:
            try:
                x = rng.random()
                if x < 0.93:
                    self.one(rng)
                elif x < 0.98:
                    self.describe(rng)
                else:
                    self.register(rng, me)
            except Exception as e:
                self.bad(f"client {me}: {traceback.format_exc()[-600:]}")

    # ---- Faults ----

    def luck(self):
        """Other faults; often none of a kind."""
        f, rng = self.faults, self.rng
        some = lambda most: rng.randrange(most) if rng.random() < 0.3 else 0
        f.set("slow_ms", DISK, 30)
        f.set("slow_ms", STATE, 30)
        f.set("read_error", DISK, some(200))
        f.set("read_short", DISK, some(500))
        f.set("read_slow", DISK, some(100))
        for what in ("write_error", "write_short", "write_slow", "sync_error", "open_error",
                     "read_error", "read_flip", "read_short"):
            f.set(what, STATE, some(300))
        f.set("error", STATE, rng.choice([errno.ENOSPC, errno.EIO, errno.EROFS]))
        f.alloc_who = rng.choice([OURS, OURS | LIBRARIES | LIBC])
        f.alloc_rate = rng.choice([0, 0, 100, 3000])
        open(self.rate, "w").write(str(rng.choice([0, 100, 400])))
        if rng.random() < 0.3:
            f.clock_offset = rng.choice([0, 86400 * 30, -86400 * 30, 3600, -1])
            self.counts["clock jumps"] += 1

    def act(self):
        rng, proc = self.rng, self.server.proc
        x = rng.random()
        if x < 0.3:
            proc.send_signal(rng.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
                                         signal.SIGPIPE, signal.SIGCHLD]))
            self.counts["signals"] += 1
        elif x < 0.35:
            proc.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            proc.send_signal(signal.SIGCONT)
            self.counts["stops"] += 1
        elif x < 0.45:
            self.change()
            self.counts["changes"] += 1
        elif x < 0.55:
            self.faults.set("read_stall", DISK, 1)
            time.sleep(rng.random())
            self.faults.set("read_stall", DISK, 0)
            self.counts["stalls"] += 1
        elif x < 0.62:
            self.restart()

    def restart(self):
        """kill -9 or SIGTERM, then what was promised is looked for."""
        hard = self.rng.random() < 0.7
        old = self.server
        self.take_counts()
        if hard:
            old.proc.kill()
            old.proc.wait()
            live._daemons.remove(old)
            self.counts["kills"] += 1
        else:
            old.stop()
            self.counts["ends"] += 1
        self.faults.quiet()
        for name in ("live_blocks", "live_bytes"):
            self.faults.set(name, 0, 0)
        for kind in (DISK, STATE):
            self.faults.set("stalled", kind, 0)
        self.start()
        self.promises()

    def promises(self):
        r = self.get("/v1/images?limit=100000", {})
        have = {x["name"] for x in json.loads(r.body) if x.get("registered")}
        for name, is_kept in list(self.kept.items()):
            if is_kept is True and name not in have or is_kept is False and name in have:
                self.bad(f"{name}: promised {is_kept}, there: {name in have}")

    def take_counts(self):
        f = self.faults
        for text, name, kind in (("disk faults", "did_read", DISK),
                                 ("state reads", "did_read", STATE),
                                 ("state writes", "did_write", STATE),
                                 ("allocations", "did_alloc", 0)):
            self.counts[text] += f.get(name, kind)
            f.set(name, kind, 0)

    # ---- ----

    def run(self, seconds):
        threads = [threading.Thread(target=self.client, args=(i,), daemon=True)
                   for i in range(CLIENTS)]
        for t in threads:
            t.start()
        end = time.time() + seconds
        while time.time() < end and not self.wrong:
            if self.server.proc.poll() is not None:
                self.bad("it died: " + self.server.text()[-1500:])
                break
            self.luck()
            time.sleep(0.3 + self.rng.random() * 0.5)
            self.act()
        self.take_counts()
        self.faults.quiet()
        open(self.rate, "w").write("0")
        time.sleep(1)
        self.ends = True
        for t in threads:
            t.join(60)
        if not self.wrong:
            self.calm()

    def calm(self):
        """Without faults: all is right at once or after what was changed is seen."""
        time.sleep(2.5)
        for where in ("lab", "web"):
            for name in FIXED:
                r = self.get(f"/disk/{where}/{name}", {})
                if not r or r.status != 200 or r.body != self.truth:
                    self.bad(f"at the end {where}/{name}: {r and (r.status, r.body[:300])}")
            r = self.get(f"/disk/{where}/{CHANGES}", {})
            if not r or r.body != self.versions[-1]:
                self.bad(f"at the end {where}/{CHANGES}: {r and r.status}")
        self.promises()
        pid = self.server.proc.pid
        files = len(os.listdir(f"/proc/{pid}/fd"))
        rss = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) >> 10
        self.counts["descriptors"], self.counts["MiB"] = files, rss
        if files > 150 or rss > 200:
            self.bad(f"at the end {files} descriptors, {rss} MiB")


@case(f"a soak of {options.seconds} seconds: each answer is right or an honest error")
def soak():
    print(f"# seed {SEED}", flush=True)
    make()
    s = Soak()
    try:
        s.run(options.seconds)
    finally:
        s.ends = True
        s.faults.quiet()
        s.origin.kill()
    print("#  ", ", ".join(f"{k}: {v}" for k, v in s.counts.items()))
    if os.path.exists(s.told):
        told = json.load(open(s.told))
        print("#   origin:", ", ".join(f"{k}: {v}" for k, v in sorted(told.items())))
    print(f"#   wrong: {len(s.wrong)}", flush=True)
    assert not s.wrong, "\n".join(s.wrong[:10])
    assert s.counts[206] > 20 * options.seconds, "hardly anything was served"


main()
