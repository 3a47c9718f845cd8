# SPDX-License-Identifier: Apache-2.0
"""Reading ahead of clients that read in order by many small requests, over a
line of 20 ms: what it gains, and that who reads anywhere pays nothing for it.

Counts and ratios of one run are bounds; the rates are printed."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import wan, images

KIB, MIB = 1024, 1 << 20
line = wan.Line(20)
www = tmp + "/www"
os.makedirs(www)
web = wan.FarNginx(line, www)
DISK = www + "/disk.raw"
FROM, SPAN = 24 * MIB, 40 * MIB  # of the disk, all of it data


def make():
    """Data that compresses to about a half, as disks do, and is nowhere zero."""
    images.guest_disk(DISK, 96)
    rnd = random.Random(7)
    words = [rnd.randbytes(6) for _ in range(4000)]
    with open(DISK, "r+b") as f:
        f.seek(20 * MIB)
        left = 72 * MIB
        while left:
            text = b"".join(rnd.choices(words, k=MIB // 6 + 1))[:MIB]
            f.write(text)
            left -= MIB
    sh("""qemu-img convert -O qcow2 disk.raw disk.qcow2
qemu-img convert -c -O qcow2 disk.raw zlib.qcow2
qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw stream.vmdk""", cwd=www)


make()
FORMATS = [("raw", "disk.raw"), ("qcow2", "disk.qcow2"), ("qcow2 zlib", "zlib.qcow2"),
           ("vmdk streamOptimized", "stream.vmdk")]


class Client:
    """One connection, kept."""

    def __init__(self, server, name):
        self.c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.path = "/disk/web/" + name

    def read(self, off, length):
        self.c.request("GET", self.path, headers={"Range": f"bytes={off}-{off + length - 1}"})
        r = self.c.getresponse()
        body = r.read()
        assert r.status == 206 and body == part(DISK, off, length), (self.path, off, r.status)


def start(ahead):
    return Platterd({"web": web.url()}, "--revalidate", "600", *ahead)


def metric(server, name):
    return int(re.search(rf"^{name} (\d+)", server.get("/metrics").body.decode(), re.M)[1])


class Run:
    """These reads on a new server: MB/s, how many took longer than half a round
    trip, bytes at the near end of the line; of the server's metrics bytes read ahead, of
    these used, and bytes fetched for them."""

    def __init__(self, name, flags, offsets, length, connections=1):
        s = start(flags)
        s.range("/disk/web/" + name, 0, 4096)
        time.sleep(0.3)
        free = [Client(s, name) for _ in range(connections)]
        before, t = line.arrived(), time.time()
        self.slow = 0

        def one(off):
            c = free.pop()
            t0 = time.time()
            c.read(off, length)
            self.slow += time.time() - t0 > line.rtt / 2
            free.append(c)

        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(one, offsets))
        self.rate = len(offsets) * length / (time.time() - t) / 1e6
        time.sleep(0.5)
        self.bytes = line.arrived() - before
        self.ahead = metric(s, "platter_readahead_bytes_total")
        self.behind = metric(s, "platter_prefetch_origin_bytes_total")
        self.used = metric(s, "platter_readahead_used_bytes_total")
        s.stop()

    def __str__(self):
        return (f"{self.rate:6.1f} MB/s, {self.slow:3} waits, {self.bytes / MIB:5.1f} MiB, "
                f"{self.ahead / MIB:5.1f} ahead")


OFF, ON = ("--readahead", "0"), ()


def compare(label, name, *how):
    without, with_ = Run(name, OFF, *how), Run(name, ON, *how)
    print(f"# {label}:\n#   without {without}\n#   with    {with_}", flush=True)
    assert without.ahead == 0
    return without, with_


IN_ORDER = [FROM + i * 64 * KIB for i in range(320)]
STRIDED = [FROM + i * MIB for i in range(60)]
rnd = random.Random(3)
ANYWHERE = [rnd.randrange(FROM, FROM + SPAN) // 4096 * 4096 for _ in range(100)]


def of_format(label, name):
    @case(f"{label}: 64 KiB requests in order, one connection and four")
    def in_order():
        for connections in (1, 4):
            without, with_ = compare(f"{label}, {connections} connections", name, IN_ORDER,
                                     64 * KIB, connections)
            # Most was read ahead, and came to be asked for; several requests at a
            # time overtake what is read for them.
            asked = len(IN_ORDER) * 64 * KIB
            assert with_.used >= asked // 2 // connections ** 0.5, (with_.used, asked)
            assert with_.ahead <= asked * 3 // 2 + 5 * MIB
            # Two windows more than without, and what the driver had under way.
            assert with_.bytes <= without.bytes * 1.1 + 20 * MIB, (with_.bytes, without.bytes)
            assert with_.slow <= without.slow + 20

    @case(f"{label}: 16 KiB requests, each 1 MiB further")
    def strided():
        without, with_ = compare(f"{label}, strided", name, STRIDED, 16 * KIB)
        assert with_.slow <= without.slow / 2
        assert with_.rate >= 1.3 * without.rate
        # Where the gaps between are cheaper than asking twice they are fetched
        # as well, with or without.
        assert with_.bytes <= max(without.bytes * 1.2, len(STRIDED) * MIB / 2) + 4 * MIB

    @case(f"{label}: who reads anywhere costs the origin nothing more")
    def anywhere():
        without, with_ = compare(f"{label}, anywhere", name, ANYWHERE, 64 * KIB)
        assert with_.ahead == 0 and with_.behind == 0, (with_.ahead, with_.behind)
        # What is fetched between two blocks goes by the line's measured times,
        # so that two runs differ a little, of the same kind too.
        assert with_.bytes <= without.bytes * 1.3 + 128 * KIB


for f in FORMATS:
    of_format(*f)


@case("a disk that is in memory is not read ahead of")
def needless():
    s = start(ON)
    path = "/disk/web/disk.qcow2"
    assert s.get(path).status == 200
    before = metric(s, "platter_readahead_bytes_total")
    c = Client(s, "disk.qcow2")
    for off in IN_ORDER[:64]:
        c.read(off, 64 * KIB)
    assert metric(s, "platter_readahead_bytes_total") == before
    s.stop()


@case("a line of 200 Mbit/s carries requests in order as fast with reading ahead as without")
def narrow():
    global line, web
    web.stop()
    line.stop()
    line = wan.Line(20, 200)
    web = wan.FarNginx(line, www)
    for label, name in FORMATS:
        for attempt in range(3):  # the line's queue and TCP have moods
            without, with_ = compare(f"{label}, 200 Mbit/s", name, IN_ORDER[:160], 64 * KIB)
            if with_.rate >= 0.9 * without.rate:
                break
        assert with_.rate >= 0.9 * without.rate, label


main()
