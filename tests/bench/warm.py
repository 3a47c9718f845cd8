# SPDX-License-Identifier: Apache-2.0
"""Random reads of what is in memory: platter out of a remote tar.gz, nginx out of
the raw file, to the same client (wrk, two threads), interleaved.
    python3 tests/bench/warm.py [--reps 5] [--seconds 2] [--quick]
Into results/warm.csv: rate (requests a second) and p99 (ms) of 4 and 64 KiB at 1,
16 and 256 at a time."""
import argparse
from pipelines import *

ap = argparse.ArgumentParser()
ap.add_argument("--reps", type=int, default=5)
ap.add_argument("--seconds", type=int, default=2)
ap.add_argument("--quick", action="store_true", help="2 repetitions of a second")
args = ap.parse_args()
if args.quick:
    args.reps, args.seconds = 2, 1
results = Results("warm")
origin = Origin()
pipes = [p for p in PEERS + PLATTER if p["name"] in ("nginx raw", "platter GCE")]
services = {p["name"]: Service(p, origin.url()) for p in pipes}
MS = {"us": 1e-3, "ms": 1, "s": 1e3}


def script(length):
    """Reads of blocks that are not zeros; each thread of wrk draws others."""
    path = f"{tmp}/{length}.lua"
    with open(path, "w") as f:
        f.write(f"""local blocks, threads = {{}}, 0
function setup(thread) threads = threads + 1; thread:set("seed", threads) end
function init()
  math.randomseed(seed)
  for line in io.lines("{BLOCKS}") do blocks[#blocks + 1] = tonumber(line) end
end
function request()
  local o = blocks[math.random(#blocks)] * 65536 + math.random(0, {65536 // length - 1}) * {length}
  return wrk.format("GET", nil, {{["Range"] = "bytes=" .. o .. "-" .. (o + {length - 1})}})
end""")
    return path


def measure(name, length, depth, rep):
    text = sh(["wrk", "-t", str(min(2, depth)), "-c", str(depth), "-d", f"{args.seconds}s", "-s", script(length),
               "--latency", services[name].target]).decode()
    wrong = sum(int(n) for n in re.findall(r"(?:Non-2xx or 3xx responses|connect|read|write|timeout):? (\d+)", text))
    if wrong:
        results.fail(name, f"{wrong} answers were errors: {text}", name.startswith("platter"))
    what = f"{name}, {length >> 10} KiB x {depth}"
    results.put(what, "rate", rep, float(re.search(r"Requests/sec: +([\d.]+)", text)[1]))
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", text)
    results.put(what, "p99", rep, float(p99[1]) * MS[p99[2]])


try:
    for service in services.values():
        service.whole()
    for rep in range(1, args.reps + 1):
        for length in (4096, 65536):
            for depth in (1, 16, 256):
                for name in services:
                    measure(name, length, depth, rep)
        results.save()
finally:
    for service in services.values():
        service.stop()
    origin.stop()
results.end()
