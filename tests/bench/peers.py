# SPDX-License-Identifier: Apache-2.0
"""platter and what a user would run instead, side by side, on loopback.
    python3 tests/bench/peers.py [--reps 5] [--only PATTERN] [--quick]
Every repetition visits every pipeline once, with the same offsets, so that ratios
are within a repetition; before them all bytes of every disk are compared once.
For each, into results/peers.csv:

whole       from the start of the process to the last byte of the disk, in order;
            ready (of it until it listened), cpu (processor seconds of its
            processes), origin_bytes, origin_requests
again       the same from the running service
random      4 and 64 KiB at 1 and 16 at a time, where a small cache is compared:
            rand4k_q1 ... in reads a second
peak        bytes resident at most; budget: what platter was allowed for its cache;
            scratch: bytes that it wrote on disk
cold        from the start of the process, one 64 KiB block anywhere; next: another
            one, from the service that runs; cold_bytes ... of the origin until then
seconds     and cpu, of commands: ISA-L alone on the same stream (igzip, and decoders.c up to
            the cold block), local files by platter and qemu-img, decoding whole
            units on one core and on two

A pipeline of platter that stalls, dies or gives a wrong byte fails the run."""
import argparse, resource
from pipelines import *

ap = argparse.ArgumentParser()
ap.add_argument("--reps", type=int, default=5)
ap.add_argument("--only", default="", help="pipelines whose name matches")
ap.add_argument("--quick", action="store_true", help="2 repetitions, the rows of GCE and qcow2")
args = ap.parse_args()
if args.quick:
    args.reps, args.only = 2, args.only or r"raw$|qcow2$|GCE|vmdk stream"
results = Results("peers")
origin = Origin()
base = origin.url()
rng = random.Random(1)
GZ = DATA + "/gce.tar.gz"

# ---- What platter has of an index before it is asked


def kept_state(folder):
    """Points of the GCE image, as an earlier run on this origin has left them."""
    service = Service(platter("GCE", flags=["--state", folder]), base)
    service.whole()
    port = service.target.split("/")[2].rsplit(":", 1)[1]
    end = time.monotonic() + 60
    while True:
        c = http.client.HTTPConnection("127.0.0.1", int(port))
        c.request("GET", "/v1/info/web/gce.tar.gz")
        layers = json.loads(c.getresponse().read())["layers"]
        if any(l.get("state") == "complete" for l in layers):
            break
        assert time.monotonic() < end, layers
        time.sleep(0.05)
    service.stop()


def make_indexes():
    kept_state(tmp + "/kept")
    os.symlink(GZ, www + "/side.tar.gz")
    sh([BIN + "/platter", "index", "--quiet", "--export", www + "/side.tar.gz.pltidx", GZ])
    return [platter("GCE", ", kept points", flags=["--state", tmp + "/kept"]),
            platter("GCE", ", index beside it", file="side.tar.gz")]


PIPES = [p for p in PEERS + PLATTER if re.search(args.only, p["name"])]
SMALL = [p for p in TENTH if re.search(args.only, p["name"])]
RANDOM = {p["name"] for p in SMALL} | {"QEMU " + p["name"][8:].split(",")[0] for p in SMALL}
INDEXED = make_indexes() if re.search(args.only, "platter GCE") else []
stalls = collections.Counter()

# ---- One visit


def compare(pipe):
    """All bytes, once."""
    service = Service(pipe, base)
    try:
        bad = service.whole("-V", RAW)["bad"]
        results.put(pipe["name"], "bad", 0, bad)
        if bad:
            results.fail(pipe["name"], f"{bad} pieces are not the disk's", service.is_ours)
    finally:
        service.stop()


def whole(pipe, rep):
    name, mark = pipe["name"], origin.mark()
    service = Service(pipe, base)
    try:
        service.whole()
        results.put(name, "whole", rep, time.perf_counter() - service.start)
        results.put(name, "ready", rep, service.ready)
        results.put(name, "cpu", rep, service.cpu())
        requests, sent = origin.since(mark)
        results.put(name, "origin_requests", rep, requests)
        results.put(name, "origin_bytes", rep, sent)
        if name in RANDOM:
            for length, tag in ((4096, "4k"), (65536, "64k")):
                for depth in (1, 16):
                    got = service.rbench("rand", "-l", length, "-q", depth, "-t", 1, "-b", BLOCKS, "-s", rep, "-V", RAW)
                    results.put(name, f"rand{tag}_q{depth}", rep, got["iops"])
                    if got["bad"]:
                        results.fail(name, f"{got['bad']} wrong random reads", service.is_ours)
        results.put(name, "again", rep, service.whole()["s"])
        results.put(name, "scratch", rep, service.scratch())
    finally:
        results.put(name, "peak", rep, service.peak())
        if "cache" in pipe:
            results.put(name, "budget", rep, pipe["cache"])
        service.stop()


def cold(pipe, rep, block, next_block):
    name = pipe["name"]
    pipe = dict(pipe, target=pipe["target"].replace("{quiet}", "{url}"))  # it is counted
    mark = origin.mark()
    service = Service(pipe, base)
    try:
        for metric, off in (("cold", block * 65536), ("next", next_block * 65536)):
            got = service.rbench("one", "-o", off, "-l", 65536, "-w", 5, "-V", RAW)
            results.put(name, metric, rep, got["total_s"] + (service.ready if metric == "cold" else 0))
            requests, sent = origin.since(mark)
            results.put(name, metric + "_requests", rep, requests)
            results.put(name, metric + "_bytes", rep, sent)
            if got["bad"]:
                results.fail(name, f"a wrong block at {off}", service.is_ours)
            mark = origin.mark()
    finally:
        service.stop()


def visit(fn, pipe, *more):
    """What stalls or dies does not end the run; a peer that did twice is left."""
    if stalls[pipe["name"]] >= 2 and fn is not cold:
        return
    try:
        fn(pipe, *more)
    except Stalled as e:
        stalls[pipe["name"]] += 1
        results.fail(pipe["name"], e, pipe["name"].startswith("platter"))


# ---- Commands

NOWHERE = f"driver=raw,file.driver=null-co,file.size={SIZE}"
READ = [BIN + "/platter", "read", "--quiet"]
COMMANDS = {"igzip GCE": ["igzip", "-dc", GZ]}
for what in ("qcow2", "qcow2 zlib", "qcow2 zstd"):
    path = f"{DATA}/{FORMATS[what]}"
    COMMANDS[f"platter read {what}, local"] = [*READ, path]
    COMMANDS[f"qemu-img convert {what}, local"] = ["qemu-img", "convert", "-n", "--target-image-opts", "-f", "qcow2",
                                                   path, NOWHERE]
for what in ("GCE BGZF", "GCE dictzip"):
    if what in FORMATS:
        COMMANDS[f"platter read {what}, two cores"] = ["taskset", "-c", "0,1", *READ, f"{DATA}/{FORMATS[what]}"]
        COMMANDS[f"platter read {what}, one core"] = ["taskset", "-c", "0", *READ, f"{DATA}/{FORMATS[what]}"]


def command(name, argv, rep):
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if r.returncode:
        results.fail(name, r.stderr[-200:], name.startswith("platter"))
    else:
        results.put(name, "seconds", rep, took)
        results.put(name, "cpu", rep, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def number(field):
    return int.from_bytes(field[1:], "big") if field[0] & 0x80 else int(field.rstrip(b"\0 ") or b"0", 8)


def sparse_map(path):
    """(offset in the disk, offset in the tar, bytes) of a member in GNU's old form."""
    with open(path, "rb") as f:
        head = f.read(512)
        entries = [head[386 + 24 * i:410 + 24 * i] for i in range(4)]
        more = head[482]
        while more:
            block = f.read(512)
            entries += [block[24 * i:24 * i + 24] for i in range(21)]
            more = block[504]
        at, out = f.tell(), []
    for e in entries:
        if e[0]:
            out.append((number(e[:12]), at, number(e[12:])))
            at += out[-1][2]
    return out


MAP = sparse_map(DATA + "/gce.tar")


def up_to(block):
    """Bytes of the tar up to the end of a block of the disk."""
    end = (block + 1) * 65536
    return max(tar + min(n, end - off) for off, tar, n in MAP if off < end)


print(f"disk {SIZE // MIB} MiB, of it data {len(FULL) // 16} MiB; {args.reps} repetitions")
try:
    for pipe in PIPES:
        visit(compare, pipe)
    for rep in range(1, args.reps + 1):
        start = time.monotonic()
        for pipe in PIPES + SMALL:
            visit(whole, pipe, rep)
        block, next_block = rng.choice(FULL), rng.choice(FULL)
        for pipe in PIPES + INDEXED:
            visit(cold, pipe, rep, block, next_block)
        got = json.loads(sh([BIN + "/decoders", "prefix", GZ, str(up_to(block))]))
        results.put("ISA-L up to the block", "seconds", rep, got["s"])
        for name, argv in COMMANDS.items():
            command(name, argv, rep)
        results.save()
        print(f"  repetition {rep}: {time.monotonic() - start:.0f} s, load {os.getloadavg()[0]:.1f}")
finally:
    origin.stop()
results.end()
