# SPDX-License-Identifier: Apache-2.0
"""What attackers cost: the memory of the process over time while 200 bombs are
opened at once, and while 2,000 clients ask for disks and read nothing; and how long
another client waits meanwhile.  CSV, and a plot where gnuplot is, into
tests/bench/results.
    tests/bench/run --bombs"""
import sys, os, resource, shutil
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

OUT = os.environ.get("BENCH_RESULTS", os.path.join(os.path.dirname(os.path.abspath(__file__)), "results"))
SECONDS = 12
CACHE, CLIENTS = 64, 64  # MiB
os.makedirs(OUT, exist_ok=True)
www = tmp + "/www"
os.makedirs(www)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
with open(www + "/disk.raw", "wb") as f:
    for _ in range(64):
        f.write(random.randbytes(1 << 20))
KINDS = (".tar.gz", ".raw.gz", ".gz.gz", ".qcow2")
sh("truncate -s 4G zeros; tar -c --transform s/zeros/disk.raw/ zeros | gzip -1 > bomb.tar.gz;"
   "gzip -1 < zeros > bomb.raw.gz; gzip -9 < bomb.raw.gz > bomb.gz.gz;"
   "qemu-img convert -c -O qcow2 -o cluster_size=2M zeros bomb.qcow2; rm zeros;"
   "qemu-img convert -c -O qcow2 disk.raw cold.qcow2; tar -czf x.tar.gz disk.raw", cwd=www)
for i in range(200):
    os.link(f"{www}/bomb{KINDS[i % 4]}", f"{www}/b{i}{KINDS[i % 4]}")
nginx = Nginx(www)


def connect(server, path, client):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.bind((client, 0))
    s.connect(("127.0.0.1", server.port))
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return s


def run(paths):
    """Rows: seconds, MiB resident, of the cache, held for clients, ms of another's read."""
    server = Platterd({"lab": www, "web": nginx.url()}, "--cache-size", f"{CACHE}M", "--client-memory",
                      f"{CLIENTS}M", "--drain", "0")
    server.range("/disk/lab/disk.raw", 0, 65536)
    rows, began, held, ends = [], time.perf_counter(), [], threading.Event()
    last = [0, 0, 0]

    def attack():
        for i, path in enumerate(paths):
            held.append(connect(server, path, f"127.0.2.{i % 4 + 1}"))

    def other():
        """Somebody else, on new connections: connecting counts."""
        while not ends.is_set():
            start = time.perf_counter()
            server.range("/disk/lab/disk.raw", random.randrange(60 << 20), 65536)
            ms = (time.perf_counter() - start) * 1000
            text = server.get("/metrics").body.decode()
            last[:] = [int(re.search(rf"^platter_{name} (\d+)", text, re.M)[1]) / (1 << 20)
                       for name in ("cache_bytes", "client_memory_bytes")] + [ms]
            ends.wait(0.05)

    threads = [threading.Thread(target=other), threading.Timer(1, attack)]
    for t in threads:
        t.start()
    while time.perf_counter() - began < SECONDS:
        status = open(f"/proc/{server.proc.pid}/status").read()
        rows.append((time.perf_counter() - began, int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, *last))
        time.sleep(0.05)
    ends.set()
    for t in threads:
        t.join()
    assert len(held) == len(paths)
    for s in held:
        s.close()
    server.stop()
    return rows


TABLES = {
    "bombs": ("200 bombs opened at once (gzip, tar.gz, gzip in gzip, qcow2; 4 GiB of zeros each)",
              [f"/disk/lab/b{i}{KINDS[i % 4]}" for i in range(200)]),
    "slow_readers": ("2,000 clients that ask for a whole disk and read nothing",
                     [("/disk/lab/cold.qcow2", "/disk/web/x.tar.gz", "/disk/web/disk.raw")[i % 3]
                      for i in range(2000)]),
}
HEAD = ("seconds", "resident MiB", "cache MiB", "held for clients MiB", "another read ms")
for name, (title, paths) in TABLES.items():
    rows = run(paths)
    with open(f"{OUT}/{name}.csv", "w") as f:
        f.write(",".join(HEAD) + "\n")
        for row in rows:
            f.write(",".join(f"{v:.2f}" for v in row) + "\n")
    ms = sorted(r[4] for r in rows)
    print(f"{title}\n  resident: {rows[0][1]:.0f} MiB before, at most {max(r[1] for r in rows):.0f}; "
          f"budgets {CACHE} + {CLIENTS}; held for clients at most {max(r[3] for r in rows):.0f}\n"
          f"  another client's 64 KiB: p50 {ms[len(ms) // 2]:.1f} ms, p99 {ms[int(len(ms) * 0.99)]:.1f}, "
          f"most {ms[-1]:.1f}", flush=True)
    if shutil.which("gnuplot"):
        curves = ", ".join(f"'{OUT}/{name}.csv' using 1:{c} with lines lw 2 title '{HEAD[c - 1]}'" for c in (2, 3, 4))
        subprocess.run(["gnuplot"], input=f"""set terminal pngcairo size 800,480 font 'sans,11'
set output '{OUT}/{name}.png'
set datafile separator ','; set key left top; set grid; set yrange [0:*]
set xlabel 'seconds'; set ylabel 'MiB'; set title "{title}"
plot {curves}, {CACHE + CLIENTS} dashtype 2 lc 'gray' title 'budgets'""".encode(), check=True)
nginx.stop()
shutil.rmtree(tmp, ignore_errors=True)
