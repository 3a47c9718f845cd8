# SPDX-License-Identifier: Apache-2.0
"""The web page in a real browser, against real gateways on real images.  Here the images
and the gateways are made; the cases are *_cases.mjs, which are told of them in
PLATTER_WEB.  PLATTER_CASE picks cases there as here; PLATTER_SHOTS says where screenshots
go (build/screenshots); PLATTER_BED=1 keeps the servers up until Enter, to look at."""
import glob, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
sys.path.insert(0, os.path.dirname(__file__))
from live import *
import web_images
from web_images import HOSTILE, LABELS, SNAPSHOTS, www

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENS = {"reader": ["read"], "looker": ["metadata"], "all": ["read", "metadata", "mirror", "admin"]}


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def write_config(name, **doc):
    path = f"{tmp}/{name}.json"
    with open(path, "w") as f:
        json.dump({"origins": {"lab": {"path": www}}, "state_dir": f"{tmp}/state-{name}", **doc}, f)
    return path


def registered():
    """As many names as a configuration may have, at most 5000."""
    with open(TOP + "/gateway/platterd.schema.json") as f:
        n = min(5000, json.load(f)["properties"]["images"]["maxProperties"])
    kinds = ["disk.raw", "base.qcow2", "gce.tar.gz", "box.ova", "one.raw"]
    return {f"vm-{i:04}": {"source": "lab/" + kinds[i % 5], "labels": {"rack": f"r{i % 40}"}}
            for i in range(n)}


def ask(gate, path, method="GET", **body):
    r = gate.get(path, {"Content-Type": "application/json"}, method,
                 body=json.dumps(body) if body else None)
    assert r.status < 300, (path, r.status, r.body[:500])
    return json.loads(r.body or "null")


def state_of(gate, name, *states):
    end = time.time() + 60
    while (m := ask(gate, "/v1/mirrors/" + name))["state"] not in states:
        assert time.time() < end, m
        time.sleep(0.05)
    return m


def make_edge(up):
    """A gateway with a mirror in each state."""
    sh(["minisign", "-G", "-W", "-p", tmp + "/mirror.pub", "-s", tmp + "/mirror.key"])
    edge = Platterd({"up": up.url("/"), "here": www}, "--state", tmp + "/state-edge",
                    "--mirror-key", tmp + "/mirror.pub")
    for name, at, more in (("whole", "base.qcow2", {}), ("slow", "slow.raw", {"bandwidth": 65536}),
                           ("held", "top.qcow2", {"bandwidth": 65536}),
                           ("unsigned", "one.raw", {"signed": True})):
        ask(edge, "/v1/mirrors", "POST", name=name, source=up.url("/disk/lab/" + at), **more)
    ask(edge, "/v1/mirrors/held", "POST", paused=True)
    state_of(edge, "whole", "complete")
    state_of(edge, "slow", "mirroring")
    state_of(edge, "held", "paused")
    state_of(edge, "unsigned", "failed")
    return edge


web_images.make()
nginx = Nginx(www)
mute = socket.create_server(("127.0.0.1", 0))  # accepted by the kernel, and answered by nobody
main_gate = Platterd({"lab": www, "web": nginx.url(), "slow": nginx.url() + "slow/",
                      "gone": "http://127.0.0.1:9/",
                      "mute": f"http://127.0.0.1:{mute.getsockname()[1]}/"}, "--state", tmp + "/state-main", "--deadline", "5",
                     "--secret", f"disk-key={tmp}/disk.key", "--image", "golden=lab/gce.tar.gz",
                     "--revalidate", "1")
many = Platterd({}, "--config", write_config("many", images=registered()))
bare = Platterd({"lab": www}, "--state", tmp + "/state-bare")
closed = Platterd({}, "--config", write_config("closed", access={
    **{name: {"token_sha256": digest("token-of-" + name), "scopes": scopes}
       for name, scopes in TOKENS.items()}, "local": {"scopes": []}}))
up = Platterd({"lab": www}, "--state", tmp + "/state-up")
edge = make_edge(up)

BED = {
    # Everything but mirrors: origins lab (a folder), web and slow (nginx; 512 KiB/s),
    # gone (nobody there), mute (never answers); the secret disk-key, the name golden.
    "main": main_gate.url(""),
    "many": many.url(""), "registered": len(registered()),
    "bare": bare.url(""),  # nothing was ever asked of it
    "closed": closed.url(""), "tokens": {name: "token-of-" + name for name in TOKENS},
    "up": up.url(""), "edge": edge.url(""),
    "mirrors": {"complete": "whole", "mirroring": "slow", "paused": "held", "failed": "unsigned"},
    "www": www,  # the folder of lab, for what other tools say of it
    "hostile": HOSTILE, "snapshots": SNAPSHOTS, "labels": LABELS, "secret": "disk-key",
    # For gateways of a case's own.
    "bin": BIN, "folder": www, "web": nginx.url(), "tmp": tmp, "mirror_key": tmp + "/mirror.pub",
    "shots": os.environ.get("PLATTER_SHOTS", TOP + "/build/screenshots"),
}

if os.environ.get("PLATTER_BED"):
    print(json.dumps(BED, indent=2), flush=True)
    sys.stdin.readline()
os.makedirs(BED["shots"], exist_ok=True)
main(*((["node", path], {"PLATTER_WEB": json.dumps(BED)}, 600)
       for path in sorted(glob.glob(HERE + "/*_cases.mjs"))))
