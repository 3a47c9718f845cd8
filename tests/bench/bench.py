# SPDX-License-Identifier: Apache-2.0
"""What a user would run instead, and platter, on the same disk in the same run:
medians, interleaved.  Only ratios mean anything on a shared machine."""
import sys, os, statistics, functools
print = functools.partial(print, flush=True)
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

REPS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
www = tmp + "/www"
os.makedirs(www)
disk = www + "/disk.raw"


def gather(folder, budget):
    """Real files of this machine, up to so many bytes."""
    os.makedirs(folder)
    n = 0
    for top in ("/usr/bin", "/usr/lib", "/usr/share"):
        for base, _, names in os.walk(top):
            for name in sorted(names):
                path = os.path.join(base, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                size = os.path.getsize(path)
                if size > 8 << 20 or budget < size:
                    continue
                budget -= size
                n += 1
                shutil.copyfile(path, f"{folder}/{n}-{name}")
            if budget < 1 << 20:
                return


gather(tmp + "/f", 420 << 20)
sh(f"""truncate -s 1G {disk}; printf 'label: dos\\nstart=2048, type=83\\n' | sfdisk -q {disk}
mke2fs -q -F -t ext4 -b 4096 -d {tmp}/f -E offset=1048576 {disk} 1000M; rm -rf {tmp}/f
tar --format=oldgnu -C {www} -Scf {tmp}/x.tar disk.raw; gzip -c {tmp}/x.tar > {www}/x.tar.gz""",
   timeout=1200)
size, gz = os.path.getsize(disk), os.path.getsize(www + "/x.tar.gz")
out = os.path.getsize(tmp + "/x.tar")
print(f"disk {size >> 20} MiB, of it data {out >> 20} MiB, x.tar.gz {gz >> 20} MiB\n")
nginx = Nginx(www)
URL = nginx.url() + "x.tar.gz"
state = tmp + "/state"
n_copy = 0


def timed(fn):
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def quiet(url, *more):
    sh(["curl", "-fsS", "-o", "/dev/null", *more, url])


def zlib_alone():
    sh([sys.executable, "-c", "import zlib,sys\n"
        "d=zlib.decompressobj(31);f=open(sys.argv[1],'rb')\n"
        "while True:\n b=f.read(1<<20)\n if not b: break\n"
        " while b: d.decompress(b,1<<20); b=d.unconsumed_tail", www + "/x.tar.gz"])


def cold(path="/disk/web/x.tar.gz", *flags, **kw):
    s = Platterd({"web": nginx.url()}, *flags)
    t = timed(lambda: quiet(s.url(path), *kw.get("curl", ())))
    s.stop()
    return t


def med(rows):
    return statistics.median(rows)


whole = {k: [] for k in ("platter, never seen", "platter, again", "curl | tar xzO to a file",
                         "zlib alone, one core", "ISA-L alone, one core", "nginx, the raw disk")}
for _ in range(REPS):
    start = time.perf_counter()
    s = Platterd({"web": nginx.url()}, "--cache-size", "1G")
    quiet(s.url("/disk/web/x.tar.gz"))
    whole["platter, never seen"].append(time.perf_counter() - start)
    whole["platter, again"].append(timed(lambda: quiet(s.url("/disk/web/x.tar.gz"))))
    s.stop()
    whole["curl | tar xzO to a file"].append(timed(lambda: sh(
        f"curl -fsS {URL} | tar -xzO > {tmp}/out.raw", timeout=600)))
    whole["zlib alone, one core"].append(timed(zlib_alone))
    whole["ISA-L alone, one core"].append(timed(lambda: sh(
        f"igzip -dc {www}/x.tar.gz > /dev/null")))
    whole["nginx, the raw disk"].append(timed(lambda: quiet(nginx.url() + "disk.raw")))
base = med(whole["platter, never seen"])
print("whole disk in order                  s   ratio to platter, never seen")
for k, v in whole.items():
    print(f"  {k:30} {med(v):6.2f}   {med(v) / base:5.2f}")

open(nginx.log, "w").close()
before = nginx.sent("x.tar.gz")
s = Platterd({"web": nginx.url()}, "--cache-size", "1G")
quiet(s.url("/disk/web/x.tar.gz"))
s.stop()
after = nginx.sent("x.tar.gz")
print(f"origin: {(after[0] - before[0]) / gz:.3f} of the file in {after[1] - before[1]} requests,"
      f" {(after[0] - before[0]) / size:.3f} bytes for each byte served\n")

s = Platterd({"web": nginx.url()}, "--state", state)
quiet(s.url("/disk/web/x.tar.gz"))
while json.loads(s.get("/v1/info/web/x.tar.gz").body)["layers"][1]["state"] != "complete":
    time.sleep(0.1)
info = json.loads(s.get("/v1/info/web/x.tar.gz").body)["layers"][1]
s.stop()
kept = sum(os.path.getsize(f"{state}/{f}") for f in os.listdir(state))
print(f"index: {info['points']} points, {kept} bytes kept ({100 * kept / gz:.2f} % of the file), "
      f"{info['index-memory']} bytes of memory\n")
print("cold 64 KiB at random                ms   (from a started server; median)")
offs = [random.randrange(0, size // 2 >> 16) << 16 for _ in range(max(8, REPS * 3))]
for label, flags in (("without points", ()), ("with kept points", ("--state", state))):
    rows = []
    a = nginx.sent("x.tar.gz")
    for o in offs:
        s = Platterd({"web": nginx.url()}, *flags)
        rows.append(timed(lambda: s.range("/disk/web/x.tar.gz", o, 65536)) * 1000)
        s.stop()
    b = nginx.sent("x.tar.gz")
    print(f"  {label:30} {med(rows):7.1f}   {(b[0] - a[0]) / len(offs) / 1024:.0f} KiB and "
          f"{(b[1] - a[1]) / len(offs):.1f} requests of the origin each")

print("\nwarm random reads (wrk, 2 threads)      requests/s   ratio to nginx, raw disk")
s = Platterd({"web": nginx.url()}, "--cache-size", "1G",
             "--revalidate", "600")
quiet(s.url("/disk/web/x.tar.gz"))
for length in (4096, 65536):
    lua = f"{tmp}/r{length}.lua"
    with open(lua, "w") as f:
        f.write(f"""local n = {length}
request = function()
  local o = math.random(0, {size // 3 // length}) * n
  return wrk.format("GET", nil, {{["Range"] = "bytes=" .. o .. "-" .. (o + n - 1)}})
end""")
    for depth in (1, 16):
        got = {}
        for who, url in (("nginx", nginx.url() + "disk.raw"),
                         ("platter", s.url("/disk/web/x.tar.gz"))) * 2:
            text = sh(["wrk", "-t", str(min(2, depth)), "-c", str(depth), "-d", "3s", "-s", lua,
                       "--latency", url]).decode()
            got.setdefault(who, []).append(float(re.search(r"Requests/sec: +([0-9.]+)", text)[1]))
        a, b = max(got["nginx"]), max(got["platter"])
        print(f"  {length >> 10:2} KiB, {depth:2} at a time              "
              f"nginx {a:9.0f}   platter {b:9.0f}   {b / a:.2f}")
s.stop()
subprocess.run(["pkill", "-P", str(os.getpid())])
shutil.rmtree(tmp, ignore_errors=True)
