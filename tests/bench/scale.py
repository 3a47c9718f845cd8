# SPDX-License-Identifier: Apache-2.0
"""How it grows: clients, open images, the size of a disk, the size of an archive.
Tables as text and CSV, and plots where gnuplot is, into tests/bench/results.
    tests/bench/run --scale"""
import sys, os, resource, shutil, statistics, struct
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

print = __import__("functools").partial(print, flush=True)
OUT = os.environ.get("BENCH_RESULTS", os.path.join(os.path.dirname(os.path.abspath(__file__)), "results"))
SECONDS = os.environ.get("SCALE_SECONDS", "4")
os.makedirs(OUT, exist_ok=True)
www = tmp + "/www"
os.makedirs(www)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)


def rss(server):
    """Resident bytes of a process and, of nginx, of its workers."""
    pids = [server.proc.pid] + [int(p) for p in subprocess.run(
        ["pgrep", "-P", str(server.proc.pid)], capture_output=True, text=True).stdout.split()]
    return sum(int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{p}/status").read())[1]) << 10
               for p in pids)


def table(name, title, head, rows, plots=()):
    """rows of numbers; plots: (column, label, axis) against the first one."""
    print(f"\n{title}")
    widths = [max(len(h), 10) for h in head]
    print("  " + "  ".join(h.rjust(w) for h, w in zip(head, widths)))
    for row in rows:
        print("  " + "  ".join((f"{v:.3g}" if isinstance(v, float) and v < 100 else f"{v:,.0f}"
                                if isinstance(v, (int, float)) else str(v)).rjust(w)
                               for v, w in zip(row, widths)))
    with open(f"{OUT}/{name}.csv", "w") as f:
        f.write(",".join(head) + "\n")
        for row in rows:
            f.write(",".join(str(v) for v in row) + "\n")
    if not shutil.which("gnuplot"):
        return
    for column, label in plots:
        curves = ", ".join(f"'{OUT}/{name}.csv' using 1:{c} with linespoints title '{head[c - 1]}'"
                           for c in column)
        subprocess.run(["gnuplot"], input=f"""set terminal pngcairo size 800,480 font 'sans,11'
set output '{OUT}/{name}-{label.split()[0].lower()}.png'
set datafile separator ','; set key left top; set grid; set logscale x 2
set xlabel '{head[0]}'; set ylabel '{label}'; set yrange [0:*]
set title '{title}'
plot {curves}""".encode(), check=True)


def percentile(v, p):
    return sorted(v)[min(len(v) - 1, int(len(v) * p))]


# ---- Clients

with open(www + "/disk.raw", "wb") as f:
    for _ in range(128):
        f.write(random.randbytes(1 << 20))
sh("tar -Scf x.tar disk.raw && gzip -1 -k x.tar && qemu-img convert -O qcow2 disk.raw disk.qcow2", cwd=www)
nginx = Nginx(www)


def wrk(url, clients, length):
    lua = f"{tmp}/r{length}.lua"
    with open(lua, "w") as f:
        f.write(f"""request = function()
  local o = math.random(0, {(128 << 20) // length - 1}) * {length}
  return wrk.format("GET", nil, {{["Range"] = "bytes=" .. o .. "-" .. (o + {length} - 1)}})
end""")
    text = sh(["wrk", "-t", str(min(2, clients)), "-c", str(clients), "-d", SECONDS + "s", "-s", lua,
               "--latency", url]).decode()
    unit = {"us": 1e-3, "ms": 1, "s": 1e3}
    at = {p: float(v) * unit[u] for p, v, u in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)\b", text)}
    bad = sum(int(n) for n in re.findall(r"(?:Non-2xx or 3xx responses|timeout|read|write) ?:? (\d+)", text))
    return float(re.search(r"Requests/sec: +([\d.]+)", text)[1]), at["50"], at["99"], bad


for length in (4096, 65536):
    rows = []
    for clients in (1, 16, 256, 2000):
        server = Platterd({"web": nginx.url()}, "--cache-size", "512M", "--revalidate", "600")
        sh(["curl", "-fsS", "-o", "/dev/null", server.url("/disk/web/x.tar.gz")])
        a = wrk(nginx.url() + "disk.raw", clients, length)
        b = wrk(server.url("/disk/web/x.tar.gz"), clients, length)
        rows.append((clients, a[0], b[0], b[0] / a[0], a[1], b[1], a[2], b[2], a[3], b[3]))
        server.stop()
    table(f"clients-{length >> 10}k", f"keep-alive clients, {length >> 10} KiB at random, warm; platter out "
          "of a remote tar.gz, nginx out of the raw file",
          ("clients", "nginx/s", "platter/s", "ratio", "nginx p50 ms", "platter p50 ms", "nginx p99 ms",
           "platter p99 ms", "nginx bad", "platter bad"), rows,
          [((2, 3), "Requests per second"), ((7, 8), "p99 ms")])

rows = []
server = Platterd({"web": nginx.url()}, "--cache-size", "512M", "--revalidate", "600",
                  "--max-connections", "8192")
server.range("/disk/web/x.tar.gz", 0, 1)
time.sleep(1)
base = rss(server)
held = []
for n in (1, 16, 256, 2000):
    while len(held) < n:
        s = socket.create_connection(("127.0.0.1", server.port), 30)
        s.sendall(b"GET /disk/web/x.tar.gz HTTP/1.1\r\nHost: x\r\nRange: bytes=0-4095\r\n\r\n")
        got = b""
        while len(got) < 4096:
            got += s.recv(65536)
        held.append(s)
    rows.append((n, rss(server), (rss(server) - base) / n / 1024))
for s in held:
    s.close()
server.stop()
table("connections", "idle keep-alive connections", ("connections", "resident bytes", "KiB each"), rows,
      [((2,), "Resident bytes")])

# ---- Images

many = www + "/many"
os.makedirs(many)
for i in range(1000):
    os.link(www + "/disk.qcow2", f"{many}/{i}.qcow2")
    os.link(www + "/x.tar.gz", f"{many}/{i}.tar.gz")
for kind in ("qcow2", "tar.gz"):
    rows = []
    server = Platterd({"web": nginx.url()}, "--max-open", "1200", "--cache-size", "256M", "--revalidate", "600")
    server.get("/healthz")
    base, opened, times = rss(server), 0, []
    for n in (1, 10, 100, 1000):
        while opened < n:
            start = time.perf_counter()
            server.range(f"/disk/web/many/{opened}.{kind}", 0, 4096)
            times.append((time.perf_counter() - start) * 1000)
            opened += 1
        rows.append((n, rss(server), (rss(server) - base) / n / 1024, percentile(times, 0.5),
                     percentile(times, 0.99)))
    stats = server.get("/metrics").body.decode()
    print(f"  {kind}: open stacks", re.search(r"^platter_images_open\S* (\S+)|$", stats, re.M)[0])
    server.stop()
    table(f"images-{kind.split('.')[0]}", f"open images ({kind}, remote, 256 MiB of cache, one read of 4 KiB each)",
          ("images", "resident bytes", "KiB each", "open p50 ms", "open p99 ms"), rows,
          [((2,), "Resident bytes")])

# ---- A large disk, a large archive

sh("qemu-img create -q -f qcow2 -o lazy_refcounts=on big.qcow2 1T && qemu-io -f qcow2 "
   "-c 'write -q -P 7 0 64k' -c 'write -q -P 8 512G 64k' -c 'write -q -P 9 1099511562240 64k' big.qcow2",
   cwd=www)
# Fifty members of a gibibyte of zeros, as `cat a.gz b.gz` makes them.
sh("head -c 1G /dev/zero | gzip -1 > one.gz && for i in $(seq 50); do cat one.gz; done > fifty.raw.gz && rm one.gz",
   cwd=www, timeout=300)


def tar_header(name, size):
    h = bytearray(512)
    h[:len(name)] = name
    h[100:108], h[108:116], h[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    h[124:136] = (b"\x80" + bytes(3) + struct.pack(">Q", size)) if size >= 8 << 30 else b"%011o\0" % size
    h[136:148], h[156:157], h[257:265] = b"%011o\0" % 0, b"0", b"ustar\00000"
    h[148:156] = b"%06o\0 " % (sum(h) + 8 * 32)
    return bytes(h)


with open(www + "/fifty.tar", "wb") as f:
    for i in range(49):
        f.write(tar_header(b"blob-%d" % i, (1 << 30) - 512))
        f.seek((1 << 30) - 512, 1)
    f.write(tar_header(b"disk.raw", 1 << 30))
    at = f.tell()
    f.seek(at + (512 << 20))
    f.write(b"in the middle")
    f.truncate(at + (1 << 30) + 1024)

rows = []
for name, spots in (("big.qcow2", (0, 512 << 30, (1 << 40) - 65536, 300 << 30)),
                    ("fifty.tar", (0, 512 << 20)), ("fifty.raw.gz", (0, 1 << 30, 49 << 30))):
    server = Platterd({"web": nginx.url()}, "--deadline", "300")
    before = nginx.sent(name)
    start = time.perf_counter()
    server.range(f"/disk/web/{name}", spots[0], 4096)
    first = (time.perf_counter() - start) * 1000
    times = []
    for off in spots[1:]:
        start = time.perf_counter()
        server.range(f"/disk/web/{name}", off, 4096)
        times.append((time.perf_counter() - start) * 1000)
    after = nginx.sent(name)
    rows.append((name, first, max(times), (after[0] - before[0]) / 1024, after[1] - before[1], rss(server)))
    server.stop()
table("large", "a qcow2 of 1 TiB, a tar of 50 GiB, a gzip stream of 50 GiB",
      ("image", "first 4 KiB ms", "farthest ms", "origin KiB", "requests", "resident bytes"), rows)
print(f"\nCSV and plots: {OUT}")
nginx.stop()
shutil.rmtree(tmp, ignore_errors=True)
