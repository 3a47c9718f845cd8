# SPDX-License-Identifier: Apache-2.0
"""What code that is not ours can do inside a running gateway: a driver that does
what a file says (intruder.c) tries, and the disk it makes tells what came of it."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import images

lab, state, out = tmp + "/lab", tmp + "/state", tmp + "/out"
for d in (lab, state, out):
    os.makedirs(d)
DRIVERS = os.path.realpath(BIN + "/../tests/hardening/drivers")
os.chmod(DRIVERS, 0o755)
os.chmod(DRIVERS + "/intruder.so", 0o755)
canary = out + "/canary"
with open(canary, "w") as f:
    f.write("a secret")
os.chmod(canary, 0o666)


def start(*flags, sandbox="require"):
    return Platterd({"lab": lab}, "--state", state, "--plugin-path", DRIVERS,
                    "--sandbox", sandbox, *flags)


def attempt(s, act, arg=""):
    """"ok", the name of an errno, or None: the process is no more."""
    name = f"{random.getrandbits(40):x}"
    with open(f"{lab}/{name}", "w") as f:
        f.write(f"{act} {arg}\n")
    try:
        r = s.get(f"/disk/lab/{name}?layers=intruder")
    except (ConnectionError, http.client.HTTPException):
        return None
    assert r.status == 200, (r.status, r.body)
    return r.body.rstrip(b"\0").decode()


ACTS = [("read", canary), ("write", canary), ("write", out + "/new"), ("truncate", canary),
        ("unlink", canary), ("mkdir", out + "/d"), ("chmod", canary), ("read", "/proc/1/environ"),
        ("list", "/root"), ("list", "/home"), ("list", "/var"), ("link", canary), ("kill", ""), ("clone", ""),
        ("raw", str(int(socket.AF_PACKET))), ("read", lab + "/../out/canary"),
        ("write", lab + "/new"), ("write", "/etc/platter-new"), ("write", "/dev/shm/x"),
        ("read", "/etc/shadow") if os.geteuid() == 0 else ("read", "/root/x")]


@case("without a sandbox the intruder does as it likes: the test can see")
def without():
    s = start(sandbox="off")
    assert attempt(s, "read", canary) == "ok"
    assert attempt(s, "write", out + "/made") == "ok" and os.path.exists(out + "/made")
    assert attempt(s, "kill") in ("ok", "EPERM")
    s.stop()


@case("files outside, signals and raw sockets are out of reach")
def outside():
    s = start()
    before = sorted(os.listdir(out)), os.stat(canary)
    for act, arg in ACTS:
        got = attempt(s, act, arg)
        assert got in ("EACCES", "EPERM", "EXDEV"), (act, arg, got)
    now = sorted(os.listdir(out)), os.stat(canary)
    assert now[0] == before[0] and now[1].st_size == before[1].st_size and \
        now[1].st_mode == before[1].st_mode
    s.stop()


@case("what serving needs is there: origins to read, the state folder to write")
def inside():
    s = start()
    with open(lab + "/file", "w") as f:
        f.write("x")
    assert attempt(s, "read", lab + "/file") == "ok"
    assert attempt(s, "write", state + "/intruded") == "ok"
    assert attempt(s, "unlink", state + "/intruded") == "ok"
    assert attempt(s, "read", "/etc/hosts") == "ok"
    s.stop()


@case("no other port is bound")
def ports():
    s = start()
    assert attempt(s, "bind", "18999") in ("EACCES", "EPERM")
    s.stop()


for act, arg in (("exec", "/bin/true"), ("ptrace", ""), ("unshare", "")):
    def deadly(act=act, arg=arg):
        s = start()
        assert attempt(s, act, arg) is None
        assert s.proc.wait(20) == -signal.SIGSYS, s.proc.returncode
        import live
        live._daemons.remove(s)
    case(f"{act} ends the process")(deadly)


@case("every format, remote ones too, is served as without")
def formats():
    truth = lab + "/disk.raw"
    images.guest_disk(truth, 24)
    sh("""qemu-img convert -O qcow2 disk.raw d.qcow2; qemu-img convert -c -O qcow2 disk.raw z.qcow2
qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw s.vmdk; tar -czf t.tar.gz disk.raw
tar -cf t.tar s.vmdk; bgzip -c disk.raw > b.raw.gz; gzip -c disk.raw > g.raw.gz""", cwd=lab)
    nginx = Nginx(lab)
    want = open(truth, "rb").read()
    s = Platterd({"lab": lab, "web": nginx.url()}, "--state", state, "--sandbox", "require",
                 "--disk-cache-size", "64M")
    for origin in ("lab", "web"):
        for name in ("disk.raw", "d.qcow2", "z.qcow2", "s.vmdk", "t.tar.gz", "t.tar", "b.raw.gz",
                     "g.raw.gz"):
            r = s.get(f"/disk/{origin}/{name}")
            assert r.status == 200 and r.body == want, (origin, name, r.status)
            for what in ("info", "extents", "partitions", "checksum"):
                assert s.get(f"/v1/{what}/{origin}/{name}").status == 200, (what, origin, name)
    assert s.get("/metrics").status == 200
    s.stop()


@case("a reload that brings a folder beyond reach is told, and changes nothing")
def reload():
    path = tmp + "/conf/c.json"  # its folder is within reach
    os.makedirs(tmp + "/conf")

    def write(origins):
        with open(path, "w") as f:
            json.dump({"origins": {n: {"path": p} for n, p in origins.items()}}, f)

    write({"lab": lab})
    s = Platterd({}, "--config", path, "--sandbox", "require")
    write({"lab": lab, "out": out})
    s.proc.send_signal(signal.SIGHUP)
    for _ in range(100):
        if "reload_failed" in s.text():
            break
        time.sleep(0.1)
    assert "origin out: not among what the sandbox lets in" in s.text(), s.text()
    os.makedirs(lab + "/below", exist_ok=True)
    write({"lab": lab, "below": lab + "/below"})
    s.proc.send_signal(signal.SIGHUP)
    for _ in range(100):
        if "event=reloaded" in s.text():
            break
        time.sleep(0.1)
    assert "event=reloaded" in s.text(), s.text()
    s.stop()


main()
