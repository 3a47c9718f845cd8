# SPDX-License-Identifier: Apache-2.0
"""Random reads of every format through platter, 16 at a time, every byte compared.
    tests/bench/run --soak [SECONDS]
For SECONDS (60) each, of an image that the gateway has never seen, with a cache of
a tenth of the disk, in lengths of 4 and 64 KiB by turns; all must be right, and
none may take longer than 10 seconds.  Into results/soak.csv: reads, and ms of the
slowest."""
import argparse
from pipelines import *

ap = argparse.ArgumentParser()
ap.add_argument("seconds", type=float, nargs="?", default=60)
seconds = ap.parse_args().seconds
results = Results("soak")
origin = Origin()
LIMIT_S = 10
print(f"{'16 at a time':20}  {'reads':>10}  {'a second':>9}  {'p99 ms':>8}  {'slowest ms':>10}  wrong")
try:
    for what in FORMATS:
        # A tenth, and what two streams of plain gzip take beside it.
        pipe = platter(what, cache=max(SIZE // 10, 16 * MIB))
        reads, worst, p99, bad = 0, 0, 0, 0
        try:
            service = Service(pipe, origin.url())
            try:
                for length in (4096, 65536):
                    got = service.rbench("rand", "-l", length, "-q", 16, "-t", seconds / 2, "-b", BLOCKS, "-V", RAW,
                                         idle=LIMIT_S, seconds=seconds + 60)
                    reads, bad = reads + got["n"], bad + got["bad"]
                    worst, p99 = max(worst, got["max_us"] / 1e3), max(p99, got["p99_us"] / 1e3)
            finally:
                service.stop()
        except Stalled as e:
            results.fail(pipe["name"], e, True)
            continue
        print(f"{what:20}  {reads:10,}  {reads / seconds:9,.0f}  {p99:8.1f}  {worst:10.1f}  {bad}")
        for metric, value in (("reads", reads), ("slowest", worst), ("bad", bad)):
            results.put(pipe["name"], metric, 1, value)
        if bad:
            results.fail(pipe["name"], f"{bad} wrong reads", True)
        if worst > LIMIT_S * 1000:
            results.fail(pipe["name"], f"a read took {worst / 1e3:.1f} s", True)
finally:
    origin.stop()
results.end()
