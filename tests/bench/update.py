# SPDX-License-Identifier: Apache-2.0
"""From one version of an image to the next: what each way of doing it sends.
    tests/bench/run --update [--mib 420] [--data 300] [--only NAMES]
The pair is update_images.py's: changed in place, and rebuilt from nothing.  Each
way begins with v1 (a file; for platter see run_platter) and must end with v2,
compared byte by byte.  Server and client are in network namespaces of their own,
joined by a line that adds neither delay nor rate and counts (tests/support/delay_line.c): IP packets, so that requests, heads and what
TCP adds count, too; segmentation offload keeps the latter below 1 %.

difference   bytes of v2's leaves (4 KiB) that v1 has nowhere: the least that
             4 KiB blocks can cost, uncompressed
in, out      bytes that came to the client, and that it sent
cpu          processor seconds of the client's processes and of the server's
prepared     processor seconds once for v2 at the server, not among the others

Into update.csv of BENCH_RESULTS.  Needs root, namespaces and tun."""
import argparse, resource, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import wan
from live import *
import update_images
from gateways import Gateway
from rows import save as save_rows

print = __import__("functools").partial(print, flush=True)
ap = argparse.ArgumentParser()
ap.add_argument("--mib", type=int, default=420, help="size of the image")
ap.add_argument("--data", type=int, default=300, help="MiB of files in it")
ap.add_argument("--only", default="", help="ways to be run: a pattern of their names")
ap.add_argument("--pair", default="", help="the folder of the images; else below the temporary one")
args = ap.parse_args()

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

OUT = os.path.abspath(os.environ.get("BENCH_RESULTS", TOP + "/tests/bench/results"))
PAIR = args.pair or tmp + "/pair"
CASES_OF = {"in place": "inplace.img", "rebuilt": "rebuilt.img"}
WWW = tmp + "/www"
HZ = os.sysconf("SC_CLK_TCK")
wrong = []


def cpu_of(pid):
    """Of a process and all that it has started, as far as they have been waited for
    or run still."""
    total, todo = 0, [pid]
    while todo:
        pid = todo.pop()
        try:
            with open(f"/proc/{pid}/stat") as f:
                total += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:15]))
            with open(f"/proc/{pid}/task/{pid}/children") as f:
                todo += map(int, f.read().split())
        except OSError:
            pass
    return total / HZ


def own_children():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


class Counted(wan.Line):
    """Bytes both ways."""

    def counts(self):
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()
        out, came, _ = map(int, self.proc.stdout.readline().split())
        return came, out


line = Counted(0, 0)
url = f"http://{wan.FAR}/"


def same(a, b):
    return subprocess.run(["cmp", "-s", a, b]).returncode == 0


def timed_prepare(*argv, cwd=WWW):
    before = own_children()
    subprocess.run(argv, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return own_children() - before


# ---- Peers.  Each is a function of v2's name that returns the client's command; the
# folder it runs in has v1.img, and `result` is what it must have made.


def put(what, v2):
    """A file of the server that is made once, and the seconds that it took."""
    make = {"zsync": lambda: timed_prepare("zsyncmake", "-u", v2, "-o", v2 + ".zsync", v2),
            "zsync -z": lambda: timed_prepare("zsyncmake", "-z", "-f", v2, "-u", v2 + ".gz", "-o",
                                              v2 + ".z.zsync", v2),
            "gz": lambda: timed_prepare("bash", "-c", f"gzip -6 -n -c {v2} > {v2}.plain.gz"),
            "casync": lambda: timed_prepare("casync", "make", f"--store={WWW}/{v2}.castr",
                                            f"{WWW}/{v2}.caibx", v2),
            "casync 4k": lambda: timed_prepare("casync", "make", "--chunk-size=4096:4096:4096",
                                               f"--store={WWW}/{v2}.castr4", f"{WWW}/{v2}.4.caibx", v2)}
    return make[what]()


def casync(v2, chunks):
    return ["casync", "extract", f"--store={url}{v2}.castr{chunks}", "--seed=v1.img",
            f"{url}{v2}{'.4' if chunks else ''}.caibx", "result"]


RSYNC = f"rsync://{wan.FAR}/www/"
PEERS = {
    "curl": (None, lambda v2: ["curl", "-sf", "-o", "result", url + v2]),
    "curl gz": ("gz", lambda v2: ["bash", "-c", f"set -o pipefail; curl -sf {url}{v2}.plain.gz | gzip -dc > result"]),
    "rsync --inplace": (None, lambda v2: ["rsync", "-LI", "--inplace", RSYNC + v2, "result"]),
    "rsync --inplace 4k": (None, lambda v2: ["rsync", "-LI", "--inplace", "-B", "4096", RSYNC + v2, "result"]),
    "rsync": (None, lambda v2: ["rsync", "-LI", RSYNC + v2, "result"]),
    "rsync -z 4k": (None, lambda v2: ["rsync", "-LI", "-z", "-B", "4096", RSYNC + v2, "result"]),
    "zsync": ("zsync", lambda v2: ["zsync", "-q", "-i", "v1.img", "-o", "result", f"{url}{v2}.zsync"]),
    "zsync -z": ("zsync -z", lambda v2: ["zsync", "-q", "-i", "v1.img", "-o", "result", f"{url}{v2}.z.zsync"]),
    "casync": ("casync", lambda v2: casync(v2, "")),
    "casync 4k": ("casync 4k", lambda v2: casync(v2, "4")),
}


def run_peer(name, v2):
    """One way, once: a row."""
    needs, argv = PEERS[name]
    prepared = put(needs, v2) if needs else 0
    folder = tempfile.mkdtemp(dir=tmp)
    sh(f"cp --sparse=always {PAIR}/v1.img {folder}/v1.img")
    if name.startswith("rsync"):  # it works on the file it has
        os.rename(folder + "/v1.img", folder + "/result")
    servers = [rsyncd] if name.startswith("rsync") else [nginx.proc]
    before, used, start = line.counts(), own_children(), time.monotonic()
    served = sum(cpu_of(s.pid) for s in servers)
    r = subprocess.run(argv(v2), cwd=folder, capture_output=True, timeout=900)
    took = time.monotonic() - start
    client = own_children() - used
    time.sleep(0.3)
    served = sum(cpu_of(s.pid) for s in servers) - served
    after = line.counts()
    if r.returncode != 0 or not same(folder + "/result", f"{PAIR}/{v2}"):
        raise AssertionError(f"{name}: exit {r.returncode}, {r.stderr[-300:]!r}")
    shutil.rmtree(folder)
    return dict(came=after[0] - before[0], sent=after[1] - before[1], seconds=took,
                client_cpu=client, server_cpu=served, prepared_cpu=prepared)


# ---- platter: a gateway at each end


def run_platter(how, v2):
    """A row.  What the edge has of v1: "followed", the complete mirror, whose source
    becomes v2; "mirror", the same, and v2 becomes a mirror of another name; "qcow2",
    no mirror, but such a file as a seed."""
    folder, now = tempfile.mkdtemp(dir=tmp), WWW + "/now.img"
    sh(f"cp --sparse=always {PAIR}/v1.img {now}.1 && mv {now}.1 {now}")
    upstream = Gateway(line.inside, wan.FAR, {"pub": WWW})
    edge = None
    try:
        flags, origins = ["--state", folder], {"up": upstream.base}
        if how == "qcow2":
            sh(f"qemu-img convert -f raw -O qcow2 {PAIR}/v1.img {folder}/v1.qcow2")
            flags, origins = flags + ["--seed", "local/v1.qcow2"], dict(origins, local=folder)
        edge = Gateway([], "127.0.0.1", origins, *flags, port=free_port())
        if how != "qcow2":
            edge.mirror("disk", upstream.base + "disk/pub/now.img", follow=86400)
            edge.completed("disk")
        sh(f"cp --sparse=always {PAIR}/{v2} {now}.2 && mv {now}.2 {now}")
        used = cpu_of(upstream.proc.pid)
        root = upstream.manifest("pub/" + v2)["root"]
        prepared = cpu_of(upstream.proc.pid) - used
        while upstream.manifest("pub/now.img")["root"] != root:
            time.sleep(0.2)
        time.sleep(1)
        before, start = line.counts(), time.monotonic()
        used = [cpu_of(g.proc.pid) for g in (edge, upstream)]
        name = "disk" if how == "followed" else "other"
        if how == "followed":
            edge.look(name)
        else:
            edge.mirror(name, upstream.base + "disk/pub/now.img")
        got = edge.completed(name, root)
        took = time.monotonic() - start
        client, served = (cpu_of(g.proc.pid) - u for g, u in zip((edge, upstream), used))
        time.sleep(0.3)
        after = line.counts()
        if not edge.is_same(name, f"{PAIR}/{v2}"):
            wrong.append(f"platter, {how}: {v2} is another image")
        if not got["verified"]:
            wrong.append(f"platter, {how}: without a manifest of the source")
    finally:
        for g in (edge, upstream):
            if g:
                g.stop()
    shutil.rmtree(folder)
    return dict(came=after[0] - before[0], sent=after[1] - before[1], seconds=took, client_cpu=client,
                server_cpu=served, prepared_cpu=prepared)


# ---- The run

WAYS = {name: lambda v2, name=name: run_peer(name, v2) for name in PEERS}
for how in ("followed", "mirror", "qcow2"):
    WAYS["platter, " + how] = lambda v2, how=how: run_platter(how, v2)
if not os.path.exists(PAIR + "/done"):
    print("making the pair of images")
update_images.make(PAIR, args.mib, args.data)
os.makedirs(WWW)
for image in ("v1.img", *CASES_OF.values()):
    sh(f"cp --sparse=always {PAIR}/{image} {WWW}/{image}")
nginx = wan.FarNginx(line, WWW, more="sendfile on;")
with open(tmp + "/rsyncd.conf", "w") as f:
    f.write(f"use chroot = no\nuid = root\ngid = root\n[www]\npath = {WWW}\nmunge symlinks = no\n")
rsyncd = subprocess.Popen([*line.inside, "rsync", "--daemon", "--no-detach", "--config", tmp + "/rsyncd.conf",
                           "--address", wan.FAR], stdin=subprocess.DEVNULL)
rows = []
try:
    for case, v2 in CASES_OF.items():
        least, in_place = update_images.difference(f"{PAIR}/v1.img", f"{PAIR}/{v2}")
        print(f"\n{case}: {os.path.getsize(f'{PAIR}/{v2}') / 1e6:.0f} MB, {least / 1e6:.2f} MB of leaves that v1 has "
              f"nowhere ({in_place / 1e6:.1f} MB are others at their place)")
        print(f"  {'':22}{'in MB':>9}{'x':>7}{'out MB':>9}{'s':>8}{'client cpu':>12}{'server cpu':>12}{'prepared':>10}")
        for name, way in WAYS.items():
            if not re.search(args.only, name):
                continue
            try:
                row = way(v2)
            except Exception as e:
                if name.startswith("platter"):
                    wrong.append(f"{name}: {e}")
                print(f"  {name:22} failed: {' '.join(str(e).split())[:300]}")
                continue
            rows.append(dict(case=case, way=name, difference=least, **row))
            print(f"  {name:22}{row['came'] / 1e6:9.2f}{row['came'] / least:7.3f}{row['sent'] / 1e6:9.3f}"
                  f"{row['seconds']:8.2f}{row['client_cpu']:12.2f}{row['server_cpu']:12.2f}{row['prepared_cpu']:10.2f}")
finally:
    nginx.stop()
    rsyncd.terminate()
    rsyncd.wait(10)
    line.stop()
    save_rows(f"{OUT}/update.csv", rows, ("case", "way"))
    shutil.rmtree(tmp, ignore_errors=True)
for text in wrong:
    print("WRONG:", text)
sys.stdout.flush()
os._exit(1 if wrong else 0)
