# SPDX-License-Identifier: Apache-2.0
"""qcow2 against QEMU's own tools, in the same run: a local file decoded whole, a
remote one decoded whole, cold random reads of a remote one.  Medians,
interleaved; only the ratios mean anything on a shared machine."""
import sys, os, statistics, functools
print = functools.partial(print, flush=True)
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

REPS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
www = tmp + "/www"
os.makedirs(www)
# Real files of this machine, one behind the other: a third of the disk.
sh(f"""truncate -s 1G {www}/disk.raw
find /usr/bin /usr/lib -type f -size -8M -print0 | sort -z | xargs -0 cat 2>/dev/null |
  head -c 360M | dd of={www}/disk.raw bs=1M seek=16 conv=notrunc status=none iflag=fullblock""")
for name, options in (("plain", ""), ("zlib", "-c"), ("zstd", "-c -o compression_type=zstd")):
    sh(f"qemu-img convert -O qcow2 {options} {www}/disk.raw {www}/{name}.qcow2", timeout=600)
nginx = Nginx(www)
# Where the disk goes costs the same for both: nothing.
NOWHERE = "driver=raw,file.driver=null-co,file.size=1073741824"


def timed(fn):
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def med(rows):
    return statistics.median(rows)


def served(name):
    s = Platterd({"web": nginx.url()}, "--cache-size", "1G")
    t = timed(lambda: sh(["curl", "-fsS", "-o", "/dev/null", s.url(f"/disk/web/{name}.qcow2")]))
    s.stop()
    return t


def qemu(source, seconds=120):
    try:
        return timed(lambda: sh(f"timeout {seconds} qemu-img convert -n --target-image-opts -f qcow2 {source} {NOWHERE}"))
    except AssertionError:
        return float("nan")  # its http driver stalls now and then


print("whole disk of 1 GiB, s                 platter    qemu-img   ratio")
for name in ("plain", "zlib", "zstd"):
    size = os.path.getsize(f"{www}/{name}.qcow2")
    ours, theirs, far, far_q = [], [], [], []
    for _ in range(REPS):
        ours.append(timed(lambda: sh(f"{BIN}/platter read {www}/{name}.qcow2 > /dev/null")))
        theirs.append(qemu(f"{www}/{name}.qcow2"))
        far.append(served(name))
        far_q.append(qemu(f"{nginx.url()}{name}.qcow2", 20))
    print(f"  {name:6} ({size >> 20:3} MiB), local          {med(ours):8.2f}   {med(theirs):8.2f}"
          f"   {med(theirs) / med(ours):5.2f}")
    print(f"  {name:6} over http                 {med(far):8.2f}   {med(far_q):8.2f}"
          f"   {med(far_q) / med(far):5.2f}")

print("\ncold: open and first 64 KiB over http     requests   bytes of the origin")
for name in ("plain", "zlib", "zstd"):
    before = nginx.sent(name + ".qcow2")
    s = Platterd({"web": nginx.url()})
    s.range(f"/disk/web/{name}.qcow2", 0, 65536)
    s.stop()
    after = nginx.sent(name + ".qcow2")
    print(f"  {name:38} {after[1] - before[1]:8}   {after[0] - before[0]}")

print("\nrandom 64 KiB over http, one server        ms, median   requests each")
for name in ("plain", "zlib", "zstd"):
    s = Platterd({"web": nginx.url()}, "--revalidate", "600")
    s.range(f"/disk/web/{name}.qcow2", 0, 65536)
    before = nginx.sent(name + ".qcow2")
    rows = []
    for _ in range(100):
        off = random.randrange(256, 5800) << 16
        rows.append(timed(lambda: s.range(f"/disk/web/{name}.qcow2", off, 65536)) * 1000)
    after = nginx.sent(name + ".qcow2")
    s.stop()
    print(f"  {name:40} {med(rows):8.2f}   {(after[1] - before[1]) / 100:.2f}")
nginx.stop()
shutil.rmtree(tmp, ignore_errors=True)
