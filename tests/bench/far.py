# SPDX-License-Identifier: Apache-2.0
"""The first read of an image over a line of 20 ms round trip and 200 Mbit/s.
    python3 tests/bench/far.py [--reps 5] [--quick]
Needs root, namespaces and tun (tests/support/wan.py).  Of each pipeline, into
results/far.csv: `first`, from the start of the process to the end of the disk's
first 64 KiB (with an index, of 64 KiB anywhere); `next`, 64 KiB anywhere from the
service that has opened it.  With _requests that had come to the server when the
answer was complete, _waves (of these, those that had to wait for another's answer,
at most), _bytes that had come over the line."""
import argparse
from field import *
import wan
import pipelines
from pipelines import platter

ap = argparse.ArgumentParser()
ap.add_argument("--reps", type=int, default=5)
ap.add_argument("--quick", action="store_true", help="2 repetitions")
args = ap.parse_args()
if args.quick:
    args.reps = 2
RTT_MS = 20
results = Results("far")
line = wan.Line(RTT_MS, 200)
web = wan.FarNginx(line, www)
# What the kernel learns of a path must not help the next connection.
for inside in ([], line.inside):
    sh([*inside, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"])
rng = random.Random(2)


def indexed():
    """The GCE image with points that an earlier run has kept, and with an index
    beside it."""
    state = tmp + "/kept"
    sh([BIN + "/platter", "index", "--quiet", "--state", state, web.url() + "gce.tar.gz"])
    os.symlink(DATA + "/gce.tar.gz", www + "/side.tar.gz")
    sh([BIN + "/platter", "index", "--quiet", "--export", www + "/side.tar.gz.pltidx", DATA + "/gce.tar.gz"])
    return [platter("GCE", ", kept points", flags=["--state", state]),
            platter("GCE", ", index beside it", file="side.tar.gz")]


def visit(pipe, rep, blocks):
    name, spans = pipe["name"], []
    web.forget()
    before, start = line.arrived(), time.time()
    service = Service(pipe, web.url())
    try:
        for metric, off in (("first", blocks[0] * 65536 if "," in name else 0), ("next", blocks[1] * 65536)):
            if metric == "next":
                before, start = line.arrived(), time.time()
            got = service.rbench("one", "-o", off, "-l", 65536, "-w", 5, "-V", RAW)
            results.put(name, metric, rep, got["total_s"] + (service.ready if metric == "first" else 0))
            results.put(name, metric + "_bytes", rep, line.arrived() - before)
            spans.append((metric, start, time.time()))
            if got["bad"]:
                results.fail(name, f"a wrong block at {off}", service.is_ours)
    finally:
        service.stop()
    time.sleep(2 * RTT_MS / 1000)  # then the server has logged what was broken off
    rows = web.requests()
    for metric, start, end in spans:
        came = [row for row in rows if start < row[0] <= end]
        results.put(name, metric + "_requests", rep, len(came))
        results.put(name, metric + "_waves", rep, wan.waves(came, RTT_MS / 1000))


WANTED = {"qcow2", "qcow2 zlib", "qcow2 zstd", "vmdk sparse", "vmdk stream", "OVA"}
PIPES = [p for p in pipelines.PEERS if p["name"][5:] in WANTED and p["name"].startswith("QEMU")]
PIPES += [p for p in pipelines.PLATTER if p["name"] != "platter raw.tar.gz"] + indexed()
try:
    for rep in range(1, args.reps + 1):
        blocks = rng.choices([b for b in FULL if b], k=2)
        for pipe in PIPES:
            try:
                visit(pipe, rep, blocks)
            except Stalled as e:
                results.fail(pipe["name"], e, pipe["name"].startswith("platter"))
        results.save()
finally:
    web.stop()
    line.stop()
results.end()
