# SPDX-License-Identifier: Apache-2.0
"""The last runs' results as tables, and what was aimed at beside what was measured.
    python3 tests/bench/targets.py
Reads results/*.csv, of whatever was run; writes results/report.txt and
results/targets.csv.  A ratio is the median of the ratios within repetitions.  A
target that does not hold is a result: the exit code is 1 only when platter gave
wrong bytes, stalled or died."""
import io
from field import *

peers, far, warm, index, soak = (load(name) for name in ("peers", "far", "warm", "index", "soak"))
report, rows = io.StringIO(), []


def say(*words):
    print(*words)
    print(*words, file=report)


def m(results, what, metric):
    return median([v for v in results.get((what, metric), {}).values() if not isinstance(v, str)])


def against(results, what, other, metric="whole", other_metric=None):
    """How many times as fast as another: its time through ours."""
    return ratio(results.get((other, other_metric or metric), {}), results.get((what, metric), {}))


def row(name, target, measured, holds, form="{:.2f}"):
    """measured: one number or several, None of what was not measured.  holds: of
    their list, whether the target is met; None: there is none, it is only shown."""
    values = list(measured) if isinstance(measured, (list, tuple)) else [measured]
    if holds is None:
        text, verdict = " / ".join(cell(v, form) for v in values), ""
    elif any(v is None for v in values):
        text, verdict = " / ".join(cell(v, form) for v in values), "not measured"
    else:
        text, verdict = " / ".join(form.format(v) for v in values), "holds" if holds(values) else "DOES NOT HOLD"
    rows.append((name, target, text, verdict))


def at_least(x):
    return lambda values: min(values) >= x


def at_most(x):
    return lambda values: max(values) <= x


# Targets count bodies, far.csv what came over the line: packets of 1500 bytes
# with 52 of TCP and IP, and the heads of answers.
ON_THE_LINE = 1.04


# ---- Tables


def table(head, lines):
    widths = [max(len(str(line[i])) for line in [head, *lines]) for i in range(len(head))]
    for line in [head, *lines]:
        first, *more = (str(c) for c in line)
        say("  " + "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(more, widths[1:]))]))


def cell(value, form="{:.2f}", scale=1.0):
    return "-" if value is None else form.format(value * scale)


def names(results):
    return list(dict.fromkeys(what for what, _ in results))


def file_size(what):
    name = next((f for k, f in FORMATS.items() if what.split(" ", 1)[-1].split(",")[0] == k), None)
    return os.path.getsize(f"{DATA}/{name}") if name else None


def show_peers():
    lines = []
    for what in names(peers):
        if (what, "cold") not in peers and (what, "whole") not in peers:
            continue
        size, sent = file_size(what), m(peers, what, "origin_bytes")
        lines.append((what, cell(m(peers, what, "whole")), cell(m(peers, what, "again")),
                      cell(m(peers, what, "cpu")),
                      cell(sent, "{:.0f}", 1e-6), cell(sent / size if sent and size else None),
                      cell(m(peers, what, "cold"), "{:.4f}"), cell(m(peers, what, "next"), "{:.2f}", 1e3),
                      cell(m(peers, what, "next_bytes"), "{:.0f}", 1 / 1024),
                      cell(m(peers, what, "next_requests"), "{:.0f}"),
                      cell(m(peers, what, "peak"), "{:.0f}", 1e-6), cell(m(peers, what, "scratch"), "{:.0f}", 1e-6),
                      "failed" if (what, "failed") in peers else ""))
    say("On loopback: whole disk and again, s, processor s of the first; MB of the origin, x its file; a cold\n"
        "64 KiB from the start of the process, s; another one, ms, KiB and requests of the origin; MB resident\n"
        "and on disk\n")
    table(("", "whole", "again", "cpu", "MB", "x", "cold", "next", "KiB", "req", "RSS", "disk", ""), lines)
    commands = [(what, *(cell(m(peers, what, key), "{:.3f}") for key in ("seconds", "cpu")))
                for what, metric in peers if metric == "seconds"]
    say("\nCommands, s\n")
    table(("", "clock", "cpu"), commands)


def show_far():
    say("\nOver a line of 20 ms and 200 Mbit/s: the first 64 KiB from the start of the process, and 64 KiB anywhere\n"
        "after; s, KiB on the line, requests, those that waited for another\n")
    table(("", "first", "KiB", "req", "waves", "next", "KiB", "req", "waves"),
          [(what, *(cell(m(far, what, metric + key), form, scale) for metric in ("first", "next")
                    for key, form, scale in (("", "{:.3f}", 1), ("_bytes", "{:.0f}", 1 / 1024),
                                             ("_requests", "{:.0f}", 1), ("_waves", "{:.0f}", 1))))
           for what in names(far)])


def show_rest():
    if index:
        say("\nIndexes of gce.tar.gz: s to build, points, KB kept and in memory, ms of a random 64 KiB, MB resident\n")
        table(("", "build", "points", "KB", "memory", "read", "RSS"), [
            (what, cell(m(index, what, "build")), cell(m(index, what, "points"), "{:.0f}"),
             cell(m(index, what, "bytes"), "{:.0f}", 1e-3), cell(m(index, what, "memory"), "{:.0f}", 1e-3),
             cell(m(index, what, "read")), cell(m(index, what, "peak"), "{:.0f}", 1e-6)) for what in names(index)])
    if warm:
        say("\nWarm random reads, requests a second (p99 ms)\n")
        both = ("nginx raw", "platter GCE")
        loads = [what[len("nginx raw"):] for what in names(warm) if what.startswith("nginx raw")]
        table(("", *both), [
            (load[2:], *(f"{cell(m(warm, who + load, 'rate'), '{:.0f}')} ({cell(m(warm, who + load, 'p99'))})"
                         for who in both)) for load in loads])


# ---- Targets


def whole_disks():
    gce = "platter GCE"
    row("GCE whole disk: curl | tar, then served", "at least 5x", against(peers, gce, "curl|tar GCE"), at_least(5))
    row("  curl | tar to a file alone", "(shown)", against(peers, gce, "curl|tar GCE", "whole", "ready"), None)
    row("  of ISA-L's one-core rate (igzip)", "at least 0.65", against(peers, gce, "igzip GCE", "whole", "seconds"),
        at_least(0.65))
    row("  bytes of the origin, x the file", "at most 1.01", x_file(gce), at_most(1.01), "{:.3f}")
    row("  bytes on disk", "none", m(peers, gce, "scratch"), at_most(0), "{:.0f}")
    row("GCE again, warm: nginx raw", "at least 1x", against(peers, gce, "nginx raw", "again"), at_least(1))
    for what in ("qcow2 zlib", "qcow2 zstd", "vmdk sparse", "vmdk stream", "OVA"):
        ours, theirs = "platter " + what, "QEMU " + what
        value, stall = against(peers, ours, theirs), peers.get((theirs, "failed"), {})
        if value is None and stall and m(peers, ours, "whole"):
            rows.append((f"{what} whole disk: QEMU over http", "at least 3x", "QEMU never ends", "holds"))
        else:
            row(f"{what} whole disk: QEMU over http", "at least 3x", value, at_least(3))
    row("qcow2 whole disk: nbdkit curl raw", "at least 1x", against(peers, "platter qcow2", "nbdkit raw"), at_least(1))
    row("  QEMU over http", "at least 1x", against(peers, "platter qcow2", "QEMU qcow2"), at_least(1))
    for what in ("qcow2", "qcow2 zlib", "qcow2 zstd", "vmdk sparse", "vmdk stream", "OVA"):
        row(f"{what}: bytes of the origin, x the file", "at most 1.02", x_file("platter " + what), at_most(1.02),
            "{:.3f}")


def x_file(what):
    sent = m(peers, what, "origin_bytes")
    return sent / file_size(what) if sent and file_size(what) else None


def cold_reads():
    got = [m(far, "platter GCE", "first_waves"), k(far, "platter GCE", "first_bytes")]
    row("cold 64 KiB, never-seen tar.gz, offset 0: round trips, KiB", "at most 2, 256", got,
        lambda v: v[0] <= 2 and v[1] <= 256 * ON_THE_LINE, "{:.0f}")
    ours, isal = peers.get(("platter GCE", "cold"), {}), peers.get(("ISA-L up to the block", "seconds"), {})
    row("cold 64 KiB, never-seen tar.gz, anywhere: x ISA-L's time up to there", "at most 1.5", ratio(ours, isal),
        at_most(1.5))
    row("  nbdkit gzip (raw.tar.gz)", "at least 10x", against(peers, "platter GCE", "nbdkit raw.tar.gz", "cold"),
        at_least(10))
    for what in ("GCE, kept points", "GCE, index beside it", "GCE BGZF", "GCE dictzip", "GCE pigz -i"):
        got = [m(far, "platter " + what, "next_waves"), k(far, "platter " + what, "next_bytes"),
               t(peers, "platter " + what, "next")]
        row(f"64 KiB anywhere after open, {what}: round trips, KiB, ms on loopback", "at most 2, 256, 5", got,
            lambda v: v[0] <= 2 and v[1] <= 256 * ON_THE_LINE and v[2] <= 5, "{:.1f}")
    for what in ("qcow2", "qcow2 zlib", "qcow2 zstd", "vmdk sparse", "vmdk stream", "OVA"):
        got = [m(far, "platter " + what, "first"), k(far, "platter " + what, "first_bytes"),
               ratio(far.get(("platter " + what, "first"), {}), far.get(("QEMU " + what, "first"), {})),
               m(far, "platter " + what, "first_waves"), m(far, "QEMU " + what, "first_waves")]
        row(f"open and first 64 KiB at 20 ms, {what}: s, KiB, x QEMU's, round trips, QEMU's",
            "at most 0.18, 384, 0.5", got,
            lambda v: v[0] <= 0.18 and v[1] <= 384 * ON_THE_LINE and v[2] <= 0.5 and v[3] <= v[4], "{:.3g}")


def k(results, what, metric):
    value = m(results, what, metric)
    return None if value is None else value / 1024


def t(results, what, metric):
    value = m(results, what, metric)
    return None if value is None else value * 1e3


def indexes():
    row("index of plain gzip while serving: of ISA-L's rate (igzip)", "at least 0.8",
        against(index, "platter, serving", "igzip", "build"), at_least(0.8))
    row("  platter index, of ISA-L's rate", "at least 0.8", against(index, "platter index", "igzip", "build"),
        at_least(0.8))
    for who in ("gztool", "indexed_gzip 1 MiB"):
        row(f"  built, as fast as {who}", "at least 1x", against(index, "platter index", who, "build"), at_least(1))
    size = m(index, "platter, serving", "bytes")
    row("  kept, per cent of the file", "at most 0.6", size and 100 * size / file_size("x GCE"), at_most(0.6))
    row("  random 64 KiB, p50 ms", "at most 3", m(index, "platter, from kept points", "read"), at_most(3))
    for who in ("gztool", "indexed_gzip 1 MiB"):
        row(f"  random 64 KiB, as fast as {who}", "at least 1x",
            ratio(index.get((who, "read"), {}), index.get(("platter, from kept points", "read"), {})), at_least(1))


def random_reads():
    for length in (4, 64):
        for depth in (1, 16, 256):
            what = f", {length} KiB x {depth}"
            got = [ratio(warm.get(("platter GCE" + what, "rate"), {}), warm.get(("nginx raw" + what, "rate"), {})),
                   ratio(warm.get(("platter GCE" + what, "p99"), {}), warm.get(("nginx raw" + what, "p99"), {}))]
            row(f"warm random {length} KiB, {depth} at a time: x nginx's rate, x its p99", "at least 1, at most 1",
                got, lambda v: v[0] >= 1 and v[1] <= 1)
    for what in ("qcow2 zlib", "vmdk stream", "OVA"):
        for metric, text in (("rand4k_q1", "4 KiB, 1"), ("rand4k_q16", "4 KiB, 16"), ("rand64k_q1", "64 KiB, 1"),
                             ("rand64k_q16", "64 KiB, 16")):
            ours, theirs = f"platter {what}, a tenth in cache", "QEMU " + what
            name = f"a tenth in cache, {what}, {text} at a time: QEMU over http"
            value = ratio(peers.get((ours, metric), {}), peers.get((theirs, metric), {}))
            if value is None and (theirs, "failed") in peers and m(peers, ours, metric):
                rows.append((name, "at least 10x", "QEMU stalls", "holds"))
            else:
                row(name, "at least 10x", value, at_least(10))


def the_rest():
    over = {what: m(peers, what, "peak") - m(peers, what, "budget") for what, metric in peers if metric == "budget"}
    worst = max(over, key=over.get) if over else ""
    row(f"memory: MiB over the cache's budget ({worst})", "at most 64", over[worst] / MIB if over else None,
        at_most(64), "{:.0f}")
    for what in ("GCE BGZF", "GCE dictzip"):
        row(f"{what} on two cores: x one core", "at least 1.8",
            ratio(peers.get((f"platter read {what}, one core", "seconds"), {}),
                  peers.get((f"platter read {what}, two cores", "seconds"), {})), at_least(1.8))
    for what in ("qcow2", "qcow2 zlib", "qcow2 zstd"):
        row(f"{what}, a local file: qemu-img convert", "(shown)",
            ratio(peers.get((f"qemu-img convert {what}, local", "seconds"), {}),
                  peers.get((f"platter read {what}, local", "seconds"), {})), None)
    if soak:
        bad = [what for what, metric in soak if metric == "failed"]
        row(f"16 at a time on every format (--soak): failures{' of ' + ', '.join(bad) if bad else ''}", "none",
            len(bad), at_most(0), "{:.0f}")


if peers:
    show_peers()
if far:
    show_far()
show_rest()
for part_of in (whole_disks, cold_reads, indexes, random_reads, the_rest):
    part_of()
say("\nTargets: ratios of this run; in rows of several values, in their order\n")
table(("", "target", "measured", ""), rows)
say("\nMemory of an idle connection, clients, sizes: tests/bench/run --scale.  Restarts: --disk-cache.")
wrong = [(what, why) for results in (peers, far, warm, index, soak) for (what, metric), texts in results.items()
         if metric == "failed" and what.startswith(("platter", "ours")) for why in texts.values()]
for what, why in wrong:
    say(f"WRONG: {what}: {why}")
with open(OUT + "/report.txt", "w") as f:
    f.write(report.getvalue())
with open(OUT + "/targets.csv", "w", newline="") as f:
    csv.writer(f, lineterminator="\n").writerows([("row", "target", "measured", "verdict"), *rows])
shutil.rmtree(tmp, ignore_errors=True)
sys.exit(1 if wrong else 0)
