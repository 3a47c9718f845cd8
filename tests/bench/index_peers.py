# SPDX-License-Identifier: Apache-2.0
"""Random access to a plain gzip file: platter's index, and the tools that make one.
    python3 tests/bench/index_peers.py [--reps 5] [--quick]
On gce.tar.gz, a local file; every read is compared.  Into results/index.csv:

build   seconds until the index is whole; of "platter, serving" from the start of
        the gateway, while it sends the whole disk to a client; of igzip, ISA-L
        decoding the file to nowhere
bytes   of the index as it is kept; memory, points: of platter's
read    ms of one random 64 KiB, with a cache that holds a small part; of tools
        that are commands, process start included
peak    bytes resident at most"""
import argparse
from pipelines import *

ap = argparse.ArgumentParser()
ap.add_argument("--reps", type=int, default=5)
ap.add_argument("--quick", action="store_true", help="2 repetitions")
args = ap.parse_args()
if args.quick:
    args.reps = 2
READS = 9  # of commands; 100 of what stays
results = Results("index")
GZ, TAR = DATA + "/gce.tar.gz", DATA + "/gce.tar"
N = os.path.getsize(TAR)
IN_PROCESS = """
import indexed_gzip, json, random, resource, sys, time
path, index, tar, spacing, seed, reads = *sys.argv[1:4], *map(int, sys.argv[4:])
start = time.perf_counter()
f = indexed_gzip.IndexedGzipFile(path, spacing=spacing)
f.build_full_index()
built = time.perf_counter() - start
f.export_index(index)
f = indexed_gzip.IndexedGzipFile(path, index_file=index)
raw, rng, took, bad = open(tar, "rb"), random.Random(seed), [], 0
size = raw.seek(0, 2)
for _ in range(reads):
    off = rng.randrange(size - 65536)
    start = time.perf_counter()
    f.seek(off)
    data = f.read(65536)
    took.append((time.perf_counter() - start) * 1e3)
    raw.seek(off)
    bad += data != raw.read(65536)
print(json.dumps({"build": built, "read": sorted(took)[reads // 2], "bad": bad,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def run(*argv, keep=False):
    """(seconds, output, bytes resident at most) of a command."""
    start = time.perf_counter()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if keep else subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    out = p.stdout.read() if keep else b""
    status, usage = os.wait4(p.pid, 0)[1:]
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        raise Stalled(f"{argv[0]} ended with {p.returncode}")
    return time.perf_counter() - start, out, usage.ru_maxrss * 1024


def read_by(what, rep, rng, argv):
    """Random reads by a command, of the tar."""
    took = []
    for _ in range(READS):
        off = rng.randrange(N - 65536)
        s, out, _ = run(*argv(off), keep=True)
        took.append(s * 1e3)
        if out[:65536] != part(TAR, off, 65536):
            results.fail(what, f"wrong bytes at {off}", False)
    results.put(what, "read", rep, statistics.median(took))


def gztool(rep, rng):
    index = f"{tmp}/{rep}.gzi"
    s, _, peak = run("gztool", "-i", "-I", index, GZ)
    for metric, value in (("build", s), ("bytes", os.path.getsize(index)), ("peak", peak)):
        results.put("gztool", metric, rep, value)
    read_by("gztool", rep, rng, lambda off: ("gztool", "-v", "0", "-b", str(off), "-r", "65536", "-I", index, GZ))


def indexed_gzip(rep, rng):
    for mib in (1, 4):
        what, index = f"indexed_gzip {mib} MiB", f"{tmp}/{rep}.{mib}"
        got = json.loads(run("/usr/bin/python3", "-c", IN_PROCESS, GZ, index, TAR, str(mib * MIB), str(rep), "100",
                             keep=True)[1])
        for metric in ("build", "read", "peak"):
            results.put(what, metric, rep, got[metric])
        results.put(what, "bytes", rep, os.path.getsize(index))
        if got["bad"]:
            results.fail(what, f"{got['bad']} wrong reads", False)


def others(rep, rng):
    results.put("igzip", "build", rep, run("igzip", "-dc", GZ)[0])
    dz = DATA + "/gce.tar.dz"
    if os.path.exists(dz):
        read_by("dictzip", rep, rng, lambda off: ("dictzip", "-d", "-c", "-s", str(off), "-e", "65536", dz))


def layer(service):
    c = http.client.HTTPConnection("127.0.0.1", int(service.target.split("/")[2].rsplit(":", 1)[1]))
    c.request("GET", "/v1/info/web/gce.tar.gz")
    return next(l for l in json.loads(c.getresponse().read())["layers"] if l["driver"] == "gzip")


def ours(rep, rng):
    s, _, peak = run(BIN + "/platter", "index", "--quiet", GZ)
    results.put("platter index", "build", rep, s)
    results.put("platter index", "peak", rep, peak)
    state = f"{tmp}/state-{rep}"
    pipe = platter("GCE", flags=["--state", state])
    pipe["name"] = "platter, serving"
    service = Service(pipe, DATA + "/")
    try:
        service.whole()
        while layer(service)["state"] != "complete":
            if time.perf_counter() - service.start > 120:
                raise Stalled("the index is not completed")
            time.sleep(0.005)
        results.put(pipe["name"], "build", rep, time.perf_counter() - service.start)
        results.put(pipe["name"], "memory", rep, layer(service)["index-memory"])
        results.put(pipe["name"], "points", rep, layer(service)["points"])
    finally:
        results.put(pipe["name"], "peak", rep, service.peak())
        service.stop()
    results.put(pipe["name"], "bytes", rep, sum(os.path.getsize(f"{state}/{f}") for f in os.listdir(state)))
    # The same state; what is decoded does not stay for long.
    pipe = dict(platter("GCE", cache=16 * MIB, flags=["--state", state]), name="platter, from kept points")
    service = Service(pipe, DATA + "/")
    try:
        got = service.rbench("rand", "-l", 65536, "-t", 1, "-b", BLOCKS, "-s", rep, "-w", 2, "-V", RAW)
        results.put(pipe["name"], "read", rep, got["p50_us"] / 1e3)
        results.put(pipe["name"], "read_p99", rep, got["p99_us"] / 1e3)
        if got["bad"]:
            results.fail(pipe["name"], f"{got['bad']} wrong reads", True)
    finally:
        service.stop()


for rep in range(1, args.reps + 1):
    for fn in (ours, others, gztool, indexed_gzip):
        try:
            fn(rep, random.Random(rep))
        except Stalled as e:
            results.fail(fn.__name__, e, fn is ours)
results.end()
