# SPDX-License-Identifier: Apache-2.0
"""What a restart costs with and without the disk cache: random 64 KiB reads of
remote images by a new process that an earlier one has read before.
    tests/bench/run --disk-cache [MIB]
Requests and bytes are what the origin has answered, opening included; the
origin is nginx on loopback, as it is and with 20 ms before each answer.  Into
disk_cache.csv of BENCH_RESULTS, too."""
import sys, os, statistics, functools
print = functools.partial(print, flush=True)
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

SIZE = (int(sys.argv[1]) if len(sys.argv) > 1 else 512) << 20
READS = 200
www = tmp + "/www"
os.makedirs(www)
sh(f"""truncate -s {SIZE} {www}/disk.raw
find /usr/bin /usr/lib -type f -size -8M -print0 | sort -z | xargs -0 cat 2>/dev/null |
  head -c {SIZE // 4 * 3} | dd of={www}/disk.raw bs=1M seek=16 conv=notrunc status=none iflag=fullblock
cd {www}; tar -czf x.tar.gz disk.raw; qemu-img convert -O qcow2 disk.raw x.qcow2
qemu-img convert -c -O qcow2 disk.raw c.qcow2""", timeout=900)
nginx = Nginx(www)


class Far:
    """Each answer 20 ms late: a proxy of bytes, one thread for each way."""

    def __init__(self, port, delay=0.02):
        self.to, self.delay = port, delay
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            a, _ = self.sock.accept()
            b = socket.create_connection(("127.0.0.1", self.to))
            for s in (a, b):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.pump, args=(a, b, self.delay), daemon=True).start()
            threading.Thread(target=self.pump, args=(b, a, 0), daemon=True).start()

    def pump(self, a, b, delay):
        try:
            while True:
                data = a.recv(1 << 18)
                time.sleep(delay)
                if not data:
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


far = Far(nginx.port)
ORIGINS = {"near": nginx.url(), "far": f"http://127.0.0.1:{far.port}/"}


def metric(server, name):
    return int(re.search(rf"^platter_{name} (\d+)$", server.get("/metrics").body.decode(), re.M)[1])


def rest(server):
    last = None
    while True:
        now = (metric(server, "disk_cache_writes_total"),
               metric(server, "indexes_open") - metric(server, "indexes_complete"))
        if now == last and now[1] == 0:
            return
        last = now
        time.sleep(0.5)


def reads(server, path, seed):
    rnd, times = random.Random(seed), []
    c = http.client.HTTPConnection("127.0.0.1", server.port)
    for _ in range(READS):
        off = rnd.randrange((16 << 20) // 65536, (SIZE // 4 * 3) // 65536) * 65536
        start = time.perf_counter()
        c.request("GET", path, headers={"Range": f"bytes={off}-{off + 65535}"})
        r = c.getresponse()
        r.read()
        assert r.status == 206
        times.append((time.perf_counter() - start) * 1000)
    return times


OUT = os.environ.get("BENCH_RESULTS", os.path.join(os.path.dirname(os.path.abspath(__file__)), "results"))
rows = ["origin,image,disk cache,requests,origin bytes,first ms,median ms,p95 ms,all s"]
print(f"{READS} random reads of 64 KiB after a restart, disk of {SIZE >> 20} MiB")
print("                          requests  MiB of origin   first ms  median ms   p95 ms   all s")
for origin in ORIGINS:
    for name in ("x.tar.gz", "x.qcow2", "c.qcow2"):
        for flags in ([], ["--disk-cache-size", "1G"]):
            state = f"{tmp}/{origin}-{name}-{len(flags)}"
            for run in range(2):
                server = Platterd(ORIGINS, "--state", state, "--revalidate", "3600", *flags)
                before = nginx.sent("/" + name)
                start = time.perf_counter()
                times = reads(server, f"/disk/{origin}/{name}", 1)
                took = time.perf_counter() - start
                after = nginx.sent("/" + name)
                rest(server)
                server.stop()
            q = sorted(times)
            print(f"{origin:5} {name:9} {'disk' if flags else 'none':5}  {after[1] - before[1]:12}"
                  f"  {(after[0] - before[0]) / 2**20:13.1f}  {times[0]:9.1f}"
                  f"  {statistics.median(times):9.2f}  {q[len(q) * 95 // 100]:7.2f}  {took:6.2f}")
            rows.append(f"{origin},{name},{'yes' if flags else 'no'},{after[1] - before[1]},{after[0] - before[0]},"
                        f"{times[0]:.2f},{statistics.median(times):.3f},{q[len(q) * 95 // 100]:.3f},{took:.3f}")
os.makedirs(OUT, exist_ok=True)
with open(OUT + "/disk_cache.csv", "w") as f:
    f.write("\n".join(rows) + "\n")
nginx.stop()
shutil.rmtree(tmp, ignore_errors=True)
os._exit(0)
