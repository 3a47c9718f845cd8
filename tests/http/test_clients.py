# SPDX-License-Identifier: Apache-2.0
"""Real clients, the kept index, first bytes of a throttled archive, and the end
of a server under load."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

www = tmp + "/www"
os.makedirs(www)
truth = www + "/disk.raw"
images.guest_disk(truth, 64)
with open(truth, "r+b") as f:
    f.seek(34 << 20)
    f.write(os.urandom(24 << 20))
sh("tar --format=oldgnu -Sczf x.tar.gz disk.raw; qemu-img convert -c -O qcow2 disk.raw x.qcow2",
   cwd=www)
nginx = Nginx(www)
state = tmp + "/state"
server = Platterd({"web": nginx.url()}, "--state", state)
U = server.url("/disk/web/x.tar.gz")


@case("qemu-img converts and compares the disk through QEMU's own HTTP client")
def qemu():
    sh(["timeout", "120", "qemu-img", "convert", "-m", "1", "-O", "raw", U, tmp + "/q.raw"])
    sh(["cmp", tmp + "/q.raw", truth])
    for u in (U, server.url("/disk/web/x.qcow2")):
        assert b"identical" in sh(["timeout", "120", "qemu-img", "compare", "-f", "raw",
                                   "-F", "raw", u, truth])


@case("nbdkit's curl plugin reads the disk")
def nbdkit():
    sh(["timeout", "120", "nbdkit", "-U", "-", "curl", U, "--run",
        f'nbdcopy "$uri" {tmp}/n.raw'])
    sh(["cmp", tmp + "/n.raw", truth])


@case("wget goes on with a download that was interrupted")
def wget():
    sh(f"head -c 20000000 {truth} > {tmp}/w.raw")
    sh(["wget", "-q", "-c", "-O", tmp + "/w.raw", U])
    sh(["cmp", tmp + "/w.raw", truth])


@case("curl -r, on one connection")
def curl():
    for off, n in slices(os.path.getsize(truth)):
        got = sh(["curl", "-fsS", "-r", f"{off}-{off + n - 1}", U])
        assert got == part(truth, off, n), (off, n)


@case("whole disk, never seen before: the origin sends its file once")
def once():
    sh(f"cp {www}/x.tar.gz {www}/y.tar.gz")
    s = Platterd({"web": nginx.url()})
    r = s.get("/disk/web/y.tar.gz")
    assert len(r.body) == os.path.getsize(truth)
    sent, n = nginx.sent("/y.tar.gz")
    assert sent <= 1.02 * os.path.getsize(www + "/y.tar.gz") + 140000, (sent, n)
    s.stop()


@case("after a restart, a read far inside costs one restart, not a decode from the start")
def restart():
    global server
    end = time.time() + 60
    while True:
        info = json.loads(server.get("/v1/info/web/x.tar.gz").body)
        if info["layers"][1]["state"] == "complete":
            break
        assert time.time() < end
        time.sleep(0.2)
    assert info["layers"][1]["index-kept"]
    server.stop()
    before, _ = nginx.sent("/x.tar.gz")
    server = Platterd({"web": nginx.url()}, "--state", state)
    off = 50 << 20
    assert server.range("/disk/web/x.tar.gz", off, 65536) == part(truth, off, 65536)
    cost = nginx.sent("/x.tar.gz")[0] - before
    assert cost < 4 << 20, f"{cost} bytes of {os.path.getsize(www + '/x.tar.gz')}"


@case("a kept index that was damaged is seen through, and made anew")
def damaged():
    server.stop()
    for name in os.listdir(state):
        b = bytearray(open(f"{state}/{name}", "rb").read())
        for at in range(100, len(b), 997):
            b[at] ^= 0x55
        open(f"{state}/{name}", "wb").write(b)
    s = Platterd({"web": nginx.url()}, "--state", state)
    for off, n in slices(os.path.getsize(truth)):
        assert s.range("/disk/web/x.tar.gz", off, n) == part(truth, off, n)
    s.stop()


@case("the first bytes of a never-seen tar.gz do not wait for the rest of it")
def first_bytes():
    s = Platterd({"slow": nginx.url() + "slow/"})
    start = time.time()
    assert s.range("/disk/slow/x.tar.gz", 0, 512) == part(truth, 0, 512)
    took = time.time() - start
    all_of_it = os.path.getsize(www + "/x.tar.gz") / (512 * 1024)
    assert took < min(4, all_of_it / 3), (took, all_of_it)
    s.stop()


@case("SIGTERM under load: every answer is whole or visibly cut, and the end is clean")
def drain():
    s = Platterd({"web": nginx.url(), "lab": www}, "--drain", "1")
    bad, n = [], [0]

    def client(i):
        while True:
            try:
                r = s.get(("/disk/web/x.tar.gz", "/disk/lab/x.qcow2")[i % 2], timeout=20)
                if r.status == 200 and len(r.body) != os.path.getsize(truth):
                    bad.append(len(r.body))
                n[0] += 1
            except http.client.IncompleteRead:
                continue
            except OSError:
                return
            except http.client.HTTPException:
                return
    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    time.sleep(1.5)
    s.stop()
    for t in threads:
        t.join()
    assert not bad, bad


main()
