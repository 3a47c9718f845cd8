# SPDX-License-Identifier: Apache-2.0
"""An edge that is killed at any moment, PLATTER_KILLS times (200): while it looks,
fetches, switches from one version to the next, sweeps, and serves.  No byte is
wrong, no mirror is forgotten, and what was complete is there without its source."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from live import *
import random

KILLS = int(os.environ.get("PLATTER_KILLS", "200"))
SEED = int(os.environ.get("PLATTER_SEED", "20261121"))
SIZE, LEAF = 24 << 20, 4096
www, state, above = (tmp + "/" + n for n in ("www", "edge", "above"))
for folder in (www, state, above):
    os.makedirs(folder)
rng = random.Random(SEED)
print(f"# seed {SEED}, {KILLS} kills", flush=True)


def version(k, last):
    """A quarter of it zeros; from one to the next some leaves differ, and a run."""
    if last is None:
        return bytearray(random.Random(SEED).randbytes(SIZE * 3 // 4) + bytes(SIZE // 4))
    disk = bytearray(last)
    for _ in range(150):
        at = rng.randrange(SIZE // LEAF) * LEAF
        disk[at:at + LEAF] = rng.choice([rng.randbytes(LEAF), bytes(LEAF)])
    at = rng.randrange(SIZE - (2 << 20)) // LEAF * LEAF
    disk[at:at + (2 << 20)] = rng.randbytes(2 << 20)
    return disk


def publish(disk):
    with open(www + "/new", "wb") as f:
        f.write(disk)
    os.rename(www + "/new", www + "/x.raw")


def edge(up):
    return Platterd({"up": up.url("/")}, "--state", state, "--revalidate", "0",
                    "--scrub-rate", "50M")


def ask(s, path="/v1/mirrors/m", method="GET", body=None):
    r = s.get(path, {"Content-Type": "application/json"} if body else {}, method=method,
              body=json.dumps(body) if body else None)
    assert r.status in (200, 201, 204), (path, r.status, r.body[:300])
    return json.loads(r.body) if r.body else None


def wait_complete(s, root=None, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        now = ask(s)
        if now["state"] == "complete" and (root is None or now["root"] == root):
            return now
        time.sleep(0.05)
    raise AssertionError(now)


def killed(s):
    s.proc.kill()
    s.proc.wait()
    text = s.text()
    for word in ("Sanitizer", "runtime error", "assertion_failed"):
        assert word not in text, text[-5000:]
    import live
    live._daemons.remove(s)


@case("killed at any moment: no wrong byte, no mirror forgotten, what was complete is there alone")
def kills():
    truth = [version(0, None)]
    publish(truth[0])
    up = Platterd({"lab": www}, "--state", above, "--revalidate", "0")
    port = up.port
    s = edge(up)
    ask(s, "/v1/mirrors", "POST", {"name": "m", "source": up.url("/disk/lab/x.raw"),
                                   "follow": 5, "bandwidth": 8 << 20})
    ask(s, "/v1/mirrors", "POST", {"name": "other", "source": up.url("/disk/lab/x.raw"),
                                   "bandwidth": 2 << 20})
    reads = states = alone = 0
    seen = {}
    for k in range(KILLS):
        end = time.time() + rng.uniform(0, 0.3)
        if k % 6 == 5:
            truth.append(version(k, truth[-1]))
            publish(truth[-1])
            # A look at once, and no waiting for the next one.
            ask(s, body={"paused": False, "bandwidth": rng.choice([0, 4 << 20, 16 << 20])},
                method="POST")
        while time.time() < end:
            off = rng.randrange(SIZE - 65536)
            r = s.get("/disk/m", {"Range": f"bytes={off}-{off + 65535}"})
            assert r.status in (206, 502, 503, 504), (r.status, r.body[:300])
            if r.status == 206:
                assert any(d[off:off + 65536] == r.body for d in truth[-8:]), (k, off)
                reads += 1
        killed(s)
        s = edge(up)
        assert [m["name"] for m in ask(s, "/v1/mirrors")] == ["m", "other"]
        now = ask(s)
        seen[now["state"]] = seen.get(now["state"], 0) + 1
        if k % 25 != 24:
            continue
        # Complete means here: without the source, after one kill more.
        ask(s, body={"paused": False, "bandwidth": 0}, method="POST")
        root = json.loads(up.get("/v1/manifest/lab/x.raw").body)["root"]
        wait_complete(s, root)
        killed(s)
        up.stop()
        s = Platterd({"up": f"http://127.0.0.1:{port}/"}, "--state", state, "--revalidate", "0")
        r = s.get("/disk/m")
        assert r.status == 200 and r.body == truth[-1], (k, r.status, len(r.body))
        alone += 1
        killed(s)
        up = Platterd({"lab": www}, "--state", above, "--revalidate", "0", "--listen",
                      f"127.0.0.1:{port}")
        up.port = port
        s = edge(up)
    print(f"#   {reads} reads, {len(truth)} versions, after a kill {seen}, {alone} times alone",
          flush=True)
    assert reads > KILLS and len(seen) == 2 and alone == KILLS // 25
    # All that nobody needs goes.
    for name in ("m", "other"):
        ask(s, "/v1/mirrors/" + name, "DELETE")
    end = time.time() + 30
    while any(n.endswith((".seg", ".manifest")) for f in ("store", "mirrors")
              for n in os.listdir(f"{state}/{f}")):
        assert time.time() < end, [os.listdir(f"{state}/{f}") for f in ("store", "mirrors")]
        time.sleep(0.2)
    s.stop()
    up.stop()


main()
