# SPDX-License-Identifier: Apache-2.0
"""Programs with the interposer in front of them (faults.h): its page as
attributes of a Faults, a platter whose allocations fail each in turn, and a
platterd whose luck is changed while it runs.  For a build without sanitizers."""
import mmap, struct, sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import live
from live import *

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.path.join(os.path.dirname(BIN), "tests/fault/faults.so")
OURS, LIBRARIES, LIBC = 1, 2, 4
# The same in every run, so that who breaks something sees it; 0: another each time.
SEED = int(os.environ.get("PLATTER_SEED", "20261121")) or random.SystemRandom().randrange(1 << 31)


def fields():
    """Name -> index of the first word and number of words, from faults.def."""
    out, at = {}, 0
    for kind, name in re.findall(r"^(FAULT|FAULT_OF)\((\w+)\)",
                                 open(HERE + "/faults.def").read(), re.M):
        out[name] = (at, 2 if kind == "FAULT_OF" else 1)
        at += out[name][1]
    return out, at


FIELDS, WORDS = fields()
DISK, STATE = 0, 1


class Faults:
    """The page of one process.  f.alloc_left = 3; f.set("read_error", DISK, 500)."""

    def __init__(self):
        self.__dict__["path"] = tempfile.mktemp(dir=tmp)
        with open(self.path, "wb") as f:
            f.write(bytes(4096))
        fd = os.open(self.path, os.O_RDWR)
        self.__dict__["page"] = mmap.mmap(fd, 4096)
        os.close(fd)
        self.seed = SEED

    def get(self, name, kind=0):
        at, n = FIELDS[name]
        assert kind < n, name
        return struct.unpack_from("<q", self.page, (at + kind) * 8)[0]

    def set(self, name, kind, value):
        at, n = FIELDS[name]
        assert kind < n, name
        struct.pack_into("<q", self.page, (at + kind) * 8, value)

    def __getattr__(self, name):
        return self.get(name)

    def __setattr__(self, name, value):
        self.set(name, 0, value)

    def quiet(self):
        """No more faults; what was counted stays."""
        for name, (_, n) in FIELDS.items():
            if not name.startswith("did_") and name not in (
                    "seed", "live_blocks", "live_bytes", "stalled"):
                for kind in range(n):
                    self.set(name, kind, 0)

    def environment(self, disk="", state="", **more):
        env = dict(os.environ, LD_PRELOAD=LIBRARY, FAULTS_PAGE=self.path,
                   FAULTS_DISK=disk, FAULTS_STATE=state, **more)
        return env


class FaultyPlatterd(Platterd):
    """A platterd behind the interposer: .faults, and .live() at its end."""

    def __init__(self, origins, *flags, disk="", state="", faults=None, port=0):
        self.faults = faults or Faults()
        self.report = tempfile.mktemp(dir=tmp)
        popen = subprocess.Popen
        env = self.faults.environment(disk, state, FAULTS_REPORT=self.report)
        live.subprocess.Popen = lambda *a, **k: popen(*a, env=env, **k)
        try:
            super().__init__(origins, *flags)
        finally:
            live.subprocess.Popen = popen

    def stop(self):
        self.faults.quiet()
        super().stop()

    def live(self):
        """Places of our modules that still had blocks when the process ended."""
        return places(open(self.report).read())


def places(report):
    out = {}
    for line in report.splitlines():
        n, _, place = line.split(" ", 2)
        out[place] = int(n)
    return out


def where(place, program="platterd"):
    """MODULE+OFFSET as function, file and line; the program's own has no name."""
    module, _, offset = place.partition("+")
    for folder in (BIN, BIN + "/../plugins.d"):
        path = os.path.join(folder, module or program)
        if os.path.exists(path):
            return sh(["addr2line", "-fpse", path, hex(int(offset, 16) - 1)]).decode().strip()
    return place


def each_allocation(args, first=1, step=1, who=OURS, env=None, disk=""):
    """platter with these arguments, once for each n: n, status, output, leaks, text."""
    f = Faults()
    f.alloc_who = who
    results = tempfile.mktemp(dir=tmp)
    full = f.environment(disk, FAULTS_EACH=f"{first} {step} {results}", **(env or {}))
    r = subprocess.run([BIN + "/platter", *args], env=full, capture_output=True,
                       timeout=1500)
    assert r.returncode == 0, (args, r)
    rows = []
    for line in open(results, errors="replace"):
        n, status, output, leaks, text = line.rstrip("\n").split(" ", 4)
        rows.append((int(n), int(status), output, leaks, text))
    os.remove(results)
    return rows
