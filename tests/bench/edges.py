# SPDX-License-Identifier: Apache-2.0
"""Twenty edges behind lines of 50 Mbit/s and 40 ms (there and back) take one image
from an upstream behind 200 Mbit/s, all at once.
    tests/bench/run --edges [--edges 20] [--mib 200] [--data 120] [--only NAMES]
tests/support/delay_star.c is the network; a cache, where there is one, stands in
the middle on 1000 Mbit/s, with no more of the upstream than its line.  Of each way:

first    s from the start of all to the end of the edge's first 64 KiB of the disk
         (a tool that fetches a whole file has it when the file is there)
trace    s to the end of 40 reads of 64 KiB, one after the other, as a boot reads
all      s until the edge has the whole disk; median and last of the edges
up       bytes that left the upstream, for each edge (of the difference in an
         update), IP packets, requests of the other way not counted

Peers keep nothing: curl writes to /dev/null.  Into edges.csv of BENCH_RESULTS.
Needs root, namespaces and tun."""
import argparse, statistics, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from live import *
from star import Star
import update_images
from edges_hosts import *
from gateways import Gateway
from rows import save as save_rows

print = __import__("functools").partial(print, flush=True)
ap = argparse.ArgumentParser()
ap.add_argument("--edges", type=int, default=20)
ap.add_argument("--mib", type=int, default=200, help="size of the image")
ap.add_argument("--data", type=int, default=120, help="MiB of files in it")
ap.add_argument("--only", default="", help="ways to be run: a pattern of their names")
ap.add_argument("--pair", default="", help="the folder of the images; else below the temporary one")
args = ap.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

OUT = os.path.abspath(os.environ.get("BENCH_RESULTS", TOP + "/tests/bench/results"))
PAIR = args.pair or tmp + "/pair"
WWW = tmp + "/www"
update_images.make(PAIR, args.mib, args.data)
os.makedirs(WWW)
for name in ("v1.img", "inplace.img"):
    sh(f"cp --sparse=always {PAIR}/{name} {WWW}/{name}")
LEAST = update_images.difference(f"{PAIR}/v1.img", f"{PAIR}/inplace.img")[0]
SIZE = os.path.getsize(WWW + "/v1.img")
TRACE = boot_trace(WWW + "/v1.img")
star = Star([(200, 0), (1000, 0)] + [(50, 20)] * args.edges)
EDGES = range(FIRST_EDGE, FIRST_EDGE + args.edges)
rows, wrong = [], []


def at_once(work):
    """work(edge, start) on every edge, in its network; the seconds that each says."""
    barrier, out, failed = threading.Barrier(args.edges), {}, []

    def one(n):
        star.enter(n)
        barrier.wait()
        try:
            out[n] = work(n, time.monotonic())
        except Exception as e:
            failed.append(f"edge {n}: {type(e).__name__} {e}"[:500])

    threads = [threading.Thread(target=one, args=(n,)) for n in EDGES]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise AssertionError(f"{len(failed)} of {args.edges} edges failed; {failed[0]}")
    return [out[n] for n in EDGES]


def measure(name, work, whole=True):
    """One way, a row of it.  work gives {"first", "trace", "all"}, as far as they are."""
    before = star.counts()
    got = at_once(work)
    time.sleep(0.3)
    after = star.counts()
    row = dict(way=name, edges=args.edges)
    for metric in ("first", "trace", "all"):
        times = sorted(g[metric] for g in got if metric in g)
        row[metric + "_median"] = statistics.median(times) if times else None
        row[metric + "_last"] = times[-1] if times else None
    row["up_per_edge"] = (after[UPSTREAM][0] - before[UPSTREAM][0]) / args.edges
    row["received_per_edge"] = statistics.mean(after[n][1] - before[n][1] for n in EDGES)
    row["sent_per_edge"] = statistics.mean(after[n][0] - before[n][0] for n in EDGES)
    row["x"] = row["up_per_edge"] / (SIZE if whole else LEAST)
    rows.append(row)
    say = lambda v: f"{v:8.2f}" if v is not None else f"{'-':>8}"
    print(f"  {name:28}" + "".join(say(row[m]) for m in (
        "first_median", "first_last", "trace_median", "trace_last", "all_median", "all_last")) +
        f"{row['up_per_edge'] / 1e6:9.2f}{row['received_per_edge'] / 1e6:9.2f}{row['sent_per_edge'] / 1e6:9.2f}"
        f"{sum(a[2] - b[2] for a, b in zip(after, before)):9}")


# ---- Peers


def fetch(url):
    """A whole file by curl: the disk is there when all of it is."""

    def work(n, start):
        sh([*star.inside(n), "curl", "-sf", "-o", "/dev/null", url], timeout=1200)
        took = time.monotonic() - start
        return dict(first=took, trace=took, all=took)

    return work


def remote(base, path):
    """Nothing is mirrored: the boot reads over the line."""

    def work(n, start):
        return reads(base, path, TRACE, start)

    return work


def zsync(base):
    def work(n, start):
        folder = tempfile.mkdtemp(dir=tmp)
        sh([*star.inside(n), "zsync", "-q", "-i", f"{PAIR}/v1.img", "-o", folder + "/out",
            base + "inplace.img.zsync"], timeout=1200)
        took = time.monotonic() - start
        same = subprocess.run(["cmp", "-s", folder + "/out", f"{PAIR}/inplace.img"]).returncode == 0
        shutil.rmtree(folder)
        assert same, "zsync made another image"
        return dict(all=took)

    return work


def peers():
    web = Web(star, UPSTREAM, f"root {WWW};")
    direct = f"http://{star.address(UPSTREAM)}/"
    cache = Web(star, CACHE, nginx_cache(direct, slices=True))
    cached = f"http://{star.address(CACHE)}/"
    varnish_at = f"http://{star.address(CACHE)}:81/"
    varnish = Varnish(star, CACHE, f"{star.address(UPSTREAM)}:80", port=81)
    sh("gzip -1 -k v1.img && zsyncmake -u inplace.img -o inplace.img.zsync inplace.img", cwd=WWW)
    try:
        yield "nginx, reads over the line", remote(direct, "/v1.img"), True
        yield "nginx, curl", fetch(direct + "v1.img"), True
        yield "nginx, curl gz", fetch(direct + "v1.img.gz"), True
        yield "nginx slices, curl", fetch(cached + "v1.img"), True
        yield "Varnish, curl", fetch(varnish_at + "v1.img"), True
        yield "update: nginx, zsync", zsync(direct), False
    finally:
        web.stop()
        cache.stop()
        varnish.stop()


# ---- platter


def mirroring(gateways, source):
    """The edge mirrors a disk and boots from it meanwhile."""

    def work(n, start):
        gateways[n].mirror("disk", source, follow=5)
        out = reads(gateways[n].base, "/disk/disk", TRACE, start, PAIR + "/v1.img")
        gateways[n].completed("disk", pause=0.25)
        return dict(out, all=time.monotonic() - start)

    return work


def following(gateways, root):
    """The source has another version, which the edge has been told to look for."""

    def work(n, start):
        gateways[n].look("disk")
        gateways[n].completed("disk", root, pause=0.25)
        return dict(all=time.monotonic() - start)

    return work


def on_host(host, work):
    """What work() gives, its sockets being the host's."""
    with ThreadPoolExecutor(1, initializer=star.enter, initargs=(host,)) as one:
        return one.submit(work).result()


def checked(gateways, image):
    """Some of the edges' disks, whole."""
    for n in random.sample(list(EDGES), min(3, args.edges)):
        if not on_host(n, lambda: gateways[n].is_same("disk", image)):
            wrong.append(f"edge {n}: another image than {image}")


def fleet(label, middle=None, siblings=False):
    """Rows of a new upstream, new edges, and what may stand between them: first the
    image, then its update."""
    if not re.search(args.only, label):
        return
    web, gateways, now = middle() if middle else None, {}, WWW + "/now.img"
    sh(f"cp --sparse=always {PAIR}/v1.img {now}.1 && mv {now}.1 {now}")
    upstream = Gateway(star.inside(UPSTREAM), star.address(UPSTREAM), {"pub": WWW})
    source = f"http://{star.address(CACHE)}/" if middle else upstream.base
    try:
        root = on_host(UPSTREAM, lambda: upstream.manifest("pub/now.img"))["root"]
        for n in EDGES:
            own = f"{star.address(n)}:8080"
            origins, flags = {"up": source}, ["--state", tempfile.mkdtemp(dir=tmp)]
            if siblings:
                origins.update({f"e{k}": f"http://{star.address(k)}:8080/" for k in EDGES if k != n})
                flags += ["--listen", own, "--advertise", f"http://{own}/"]
            gateways[n] = Gateway(star.inside(n), "127.0.0.1", origins, *flags)
        measure(label, mirroring(gateways, source + "disk/pub/now.img"))
        checked(gateways, PAIR + "/v1.img")
        sh(f"cp --sparse=always {PAIR}/inplace.img {now}.2 && mv {now}.2 {now}")
        new = root
        while new == root:
            time.sleep(0.2)
            new = on_host(UPSTREAM, lambda: upstream.manifest("pub/now.img"))["root"]
        measure("update: " + label, following(gateways, new), whole=False)
        checked(gateways, PAIR + "/inplace.img")
    finally:
        for g in [*gateways.values(), upstream]:
            try:
                g.stop()
            except AssertionError as e:
                wrong.append(str(e))
        if web:
            web.stop()


BACKEND = f"{star.address(UPSTREAM)}:8080"
FLEETS = {"platter": {},
          "platter, nginx cache": {"middle": lambda: Web(star, CACHE, nginx_cache(f"http://{BACKEND}"))},
          "platter, Varnish": {"middle": lambda: Varnish(star, CACHE, BACKEND)},
          "platter, siblings": {"siblings": True}}

print(f"{args.edges} edges, a disk of {SIZE / 1e6:.0f} MB; an update changes {LEAST / 1e6:.1f} MB of its leaves\n"
      f"  {'':28}{'first':>8}{'last':>8}{'trace':>8}{'last':>8}{'all':>8}{'last':>8}{'up MB':>9}{'in MB':>9}{'out MB':>9}"
      f"{'dropped':>9}")
try:
    for name, work, whole in peers():
        if re.search(args.only, name):
            try:
                measure(name, work, whole)
            except AssertionError as e:
                print(f"  {name:28} failed: {e}")
    for label, how in FLEETS.items():
        try:
            fleet(label, **how)
        except AssertionError as e:
            wrong.append(f"{label}: {e}")
            print(f"  {label:28} failed: {e}")
finally:
    star.stop()
    save_rows(f"{OUT}/edges.csv", rows, ("way",))
    shutil.rmtree(tmp, ignore_errors=True)
for text in wrong:
    print("WRONG:", text)
sys.stdout.flush()
os._exit(1 if wrong else 0)
