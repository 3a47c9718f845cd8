# SPDX-License-Identifier: Apache-2.0
"""What a mirror fetches with: exactly the bytes that it asks for, many ranges in
a request, of servers that answer so and of those that do not; documents beside;
images by URL, which no client can name."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import urllib.request

www = tmp + "/www"
os.makedirs(www + "/sub")
N = (24 << 20) + 12345
LEAF = 4096
data = random.randbytes(N)
open(www + "/f.bin", "wb").write(data)
open(www + "/sub/doc.json", "wb").write(data[:5000])
open(www + "/empty", "wb").close()
nginx, liar = Nginx(www), Origin(www)
other = Nginx(www)


class Fetcher:
    def __init__(self, *origins):
        self.proc = subprocess.Popen(
            [BIN + "/fetcher", BIN + "/../plugins.d", *origins],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def say(self, line):
        """(status, bytes, requests, text, data)"""
        self.proc.stdin.write(line.encode() + b"\n")
        self.proc.stdin.flush()
        row = self.proc.stdout.readline().decode(errors="replace")
        assert row, self.proc.stderr.read()[-3000:]
        st, b, r, n, text = row.rstrip("\n").split(" ", 4)
        got = self.proc.stdout.read(int(n))
        return st, int(b), int(r), text, got

    def open(self, url):
        got = self.say("open " + url)
        assert got[0] == "OK", got
        assert got[4] == url.encode()
        return got

    def read(self, spans, word="read"):
        return self.say(word + " " + " ".join(f"{o}+{n}" for o, n in spans))

    def same(self, spans, word="read"):
        got = self.read(spans, word)
        assert got[0] == "OK", got[:4]
        assert got[4] == b"".join(data[o:o + n] for o, n in spans), "wrong bytes"
        return got[1], got[2]

    def stop(self):
        self.proc.stdin.close()
        text = self.proc.stderr.read().decode(errors="replace")
        if "LeakSanitizer has encountered a fatal error" in text:
            text = ""
        assert "Sanitizer" not in text and "runtime error" not in text, text[-5000:]


def fetcher(*urls):
    return Fetcher(*(f"o{i}={u}" for i, u in enumerate(urls or (nginx.url(), liar.url()))))


def leaves(n, seed=1):
    """So many leaves of the file, none beside another, in any order."""
    rnd = random.Random(seed)
    out = rnd.sample(range(N // LEAF // 2), n)
    return [(2 * k * LEAF, LEAF) for k in out]


def count(path):
    with urllib.request.urlopen(liar.url() + "count/" + path) as r:
        return [int(x) for x in r.read().split()]


def fresh(name="f.bin"):
    path = f"{random.getrandbits(40):x}{os.path.splitext(name)[1]}"
    shutil.copyfile(f"{www}/{name}", f"{www}/{path}")
    return path


@case("a hundred scattered leaves of a web server are two requests, and 5 % more than their bytes")
def hundred():
    name, f = fresh(), fetcher()
    _, b, r, _, _ = f.open(nginx.url() + name)
    assert (b, r) == (1, 1), (b, r)
    spans = leaves(100)
    b, r = f.same(spans)
    assert r == 2 and 100 * LEAF < b <= 100 * LEAF * 1.05, (b, r)
    sent, requests = nginx.sent(name)
    assert requests == 3 and sent == b + 1, (sent, requests, b)
    f.stop()


@case("... of a gateway, a raw source and a disk")
def of_gateway():
    s = Platterd({"web": nginx.url()})
    for path in ("/raw/web/f.bin", "/disk/web/f.bin;layers=raw"):
        f = fetcher(s.url("/"))
        f.open(s.url(path))
        b, r = f.same(leaves(100))
        assert r == 2 and b <= 100 * LEAF * 1.05, (path, b, r)
        f.stop()
    s.stop()


@case("nothing is kept: the same again costs the same again, and memory alone has none of it")
def not_kept():
    f = fetcher()
    f.open(nginx.url() + "f.bin")
    spans = leaves(20)
    assert f.same(spans) == f.same(spans)
    assert f.read(spans, "twice")[0] == "AGAIN"
    f.stop()


@case("what is in the cache is not fetched again")
def from_cache():
    f = fetcher()
    f.open(nginx.url() + "f.bin")
    f.same([(1 << 20, 65536), (3 << 20, 100)], "plain")
    assert f.same([((1 << 20) + 10, 4096), (3 << 20, 65536), (0, 1)]) == (0, 0)
    b, r = f.same([((1 << 20) - 5, 10)])
    assert r == 1 and b == 5, (b, r)
    f.stop()


@case("an ordinary read of what was opened by URL brings nothing along from the ends")
def no_front():
    f = fetcher()
    f.open(nginx.url() + "f.bin")
    b, r = f.same([(100, 10)], "plain")
    assert (b, r) == (65536, 1), (b, r)
    b, r = f.same([(N - 10, 10)], "plain")
    assert b <= 65536 and r == 1, (b, r)
    f.stop()


@case("adjacent, overlapping, equal and unsorted segments, of any length and place")
def shapes():
    f = fetcher()
    f.open(nginx.url() + "f.bin")
    b, r = f.same([(8192, 4096), (4096, 4096), (12288, 100)])
    assert (b, r) == (8292, 1), (b, r)
    f.same([(5000, 4096), (7000, 100), (5000, 4096), (4999, 2), (9000, 100000)])
    b, r = f.same([(1 << 20, 9 << 20)])
    assert b == 9 << 20 and r == 3, (b, r)
    f.same([(0, N)])
    f.same([(N - 1, 1), (0, 1)])
    rnd = random.Random(3)
    for _ in range(30):
        spans = []
        for _ in range(rnd.choice([1, 2, 5, 65, 130, 300])):
            off = rnd.randrange(N)
            spans.append((off, min(N - off, rnd.choice([1, 100, 4096, 65537, 300000]))))
        f.same(spans)
    assert f.read([(N - 1, 2)])[0] == "CORRUPT"
    f.stop()


@case("no request asks for more than 64 ranges, 4 MiB or 4 KiB of header")
def bounds():
    f = fetcher()
    f.open(liar.url() + "ok/f.bin")
    before = count("ok/f.bin")
    f.same([(i * 100000, 65536) for i in range(200)])  # 12.5 MiB
    after = count("ok/f.bin")
    assert after[0] - before[0] == 4, (before, after)
    f.stop()


GOOD = ["backwards", "joined", "no-crlf", "padded", "quoted", "fields"]
OTHERWISE = ["200", "416", "400", "501", "first-alone"]
WRONG = ["other", "shorter", "longer", "short-body", "long-body", "twice", "missing", "none",
         "empty", "open", "behind", "before", "boundary", "no-boundary", "two-boundaries", "mixed",
         "lf", "no-range", "two-ranges", "folded", "no-total", "long-line", "long-head",
         "endless-head", "whole"]
CHANGED = ["other-total", "changed", "changed-200", "412"]


def near(n=10):
    """Ranges with little between them, which a server may join."""
    return [(i * 3000 + 7, 2500) for i in range(n)]


@case("parts in any order, joined or with what the RFC allows around them are taken")
def good_parts():
    for mode in GOOD + ["stretch"]:
        f = fetcher()
        path = f"parts-{mode}/f.bin"
        f.open(liar.url() + path)
        for _ in range(2):
            b, r = f.same(near())
            assert r == 1, (mode, r)
        assert count(path) == [3, 2], (mode, count(path))
        f.stop()


@case("an origin that answers several ranges otherwise is asked range by range, for good")
def otherwise():
    for mode in OTHERWISE:
        f = fetcher()
        path = f"parts-{mode}/f.bin"
        f.open(liar.url() + path)
        f.same(leaves(70))
        assert count(path) == [1 + 2 + 70, 2], (mode, count(path))
        f.same(leaves(5))
        assert count(path) == [1 + 2 + 70 + 5, 2], (mode, count(path))
        f.stop()


@case("nothing of an answer with a wrong part is used, whatever is wrong")
def wrong_parts():
    for mode in WRONG:
        f = fetcher()
        path = f"parts-{mode}/f.bin"
        f.open(liar.url() + path)
        spans = leaves(8)
        f.same(spans)
        assert count(path) == [1 + 1 + 8, 1], (mode, count(path))
        f.stop()


@case("a part of another version or length is a source that changed, and stays so")
def changed():
    for mode in CHANGED:
        f = fetcher()
        f.open(liar.url() + f"parts-{mode}/f.bin")
        got = f.read(leaves(8))
        assert got[0] == "CHANGED", (mode, got[:4])
        assert f.read([(0, 10)])[0] == "CHANGED", mode
        f.stop()


@case("other failures of such a request are those of any")
def failures():
    f = fetcher()
    for mode, want in (("coded", "ORIGIN"), ("403", "DENIED")):
        f.open(liar.url() + f"parts-{mode}/f.bin")
        got = f.read(leaves(8))
        assert got[0] == want and got[2] == 1, (mode, got[:4])
    f.open(liar.url() + "parts-cut/f.bin")
    got = f.read(leaves(8))
    assert got[0] == "ORIGIN" and got[2] == 4, got[:4]
    f.open(liar.url() + "parts-stall/f.bin")
    f.say("ms 1500")
    begin = time.monotonic()
    got = f.read(leaves(8))
    assert got[0] == "TIMEOUT" and time.monotonic() - begin < 4, got[:4]
    f.stop()


@case("the other ways of origins: no ranges, weak and no validators, busy, redirects")
def origins():
    f = fetcher()
    for mode in ("noranges", "chunked", "weak", "unpinned", "busy", "redirect-in"):
        f.open(liar.url() + f"{mode}/f.bin")
        f.same(leaves(70))
    f.stop()


@case("a document is one GET of the whole")
def document():
    f = fetcher()
    name = fresh("sub/doc.json")
    f.open(nginx.url() + "f.bin")
    st, b, r, _, got = f.say(f"document 5000 {nginx.url()}{name}")
    assert (st, b, r, got) == ("OK", 5000, 1, data[:5000]), (st, b, r)
    assert [l.split()[1] for l in open(nginx.log) if name in l] == ["200"]
    st, b, r, text, _ = f.say(f"document 4999 {nginx.url()}{name}")
    assert st == "UNSUPPORTED" and "4999" in text and r == 1, (st, text, r)
    assert f.say(f"document 10 {nginx.url()}empty")[:2] == ("OK", 0)
    assert f.say(f"document 10 {nginx.url()}none")[0] == "NOT_FOUND"
    f.same(leaves(3))
    f.stop()


@case("a document's failures are an origin's, and the image has not changed by them")
def document_failures():
    f = fetcher()
    f.open(nginx.url() + "f.bin")
    size = os.path.getsize(www + "/sub/doc.json")
    for mode, want, requests in (
            ("ok", "OK", 1), ("noranges", "OK", 1), ("chunked", "OK", 1), ("changed", "OK", 1),
            ("redirect-in", "OK", 2), ("busy", "OK", 3), ("coded", "ORIGIN", 1),
            ("404", "NOT_FOUND", 1), ("410", "NOT_FOUND", 1), ("403", "DENIED", 1),
            ("412", "ORIGIN", 1), ("416", "ORIGIN", 1), ("206", "ORIGIN", 1),
            ("500", "ORIGIN", 4), ("redirect-out", "DENIED", 1), ("redirect-loop", "ORIGIN", 6)):
        got = f.say(f"document 100000 {liar.url()}{mode}/sub/doc.json")
        assert got[0] == want and got[2] == requests, (mode, got[:4])
        if want == "OK":
            assert got[4] == data[:size], mode
    for mode in ("noranges", "chunked"):
        got = f.say(f"document 100000 {liar.url()}{mode}/f.bin")
        assert got[0] == "UNSUPPORTED" and got[2] == 1, (mode, got[:4])
    f.say("ms 1500")
    begin = time.monotonic()
    assert f.say(f"document 100000 {liar.url()}stall-first/f.bin")[0] == "TIMEOUT"
    assert time.monotonic() - begin < 4
    f.say("ms 20000")
    f.same(leaves(3))
    f.stop()


@case("a document and an image by URL lie beneath an origin, or are refused unasked")
def policy():
    f = fetcher(nginx.url() + "sub/")
    f.open(nginx.url() + "sub/doc.json")
    rows = len(open(nginx.log).readlines())
    for url in (nginx.url() + "f.bin", other.url() + "sub/doc.json", "file:///etc/passwd",
                nginx.url() + "sub/../f.bin", nginx.url() + "sub/%2e%2e/f.bin", "sub/doc.json", "",
                nginx.url().replace("//", "//u:p@") + "sub/doc.json"):
        got = f.say(f"document 100 {url}")
        assert got[0] == "DENIED" and got[2] == 0, (url, got[:4])
        got = f.say(f"open {url}")
        assert got[0] == "DENIED" and got[2] == 0, (url, got[:4])
        f.open(nginx.url() + "sub/doc.json")
    time.sleep(0.2)
    assert not [l for l in open(nginx.log).readlines()[rows:] if "doc.json" not in l]
    f.stop()


@case("a URL is sent as it is written")
def verbatim():
    f = fetcher()
    path = "ok/f.bin;member=a%20b,%3Bc;layers=x?p=%2F%20&q"
    got = f.say(f"open {liar.url()}{path}")
    assert got[0] == "NOT_FOUND", got
    assert count(path) == [1, 0], count(path)
    os.symlink("f.bin", www + "/a;member=b")
    f.open(nginx.url() + "a;member=b")
    f.same(leaves(3))
    f.stop()


@case("the same URL is opened once; another version of it is opened anew")
def shared():
    f = fetcher()
    name = fresh()
    f.open(nginx.url() + name)
    st, b, r, _, _ = f.open(nginx.url() + name)
    assert r <= 1 and b <= 1, (b, r)  # compared with its source
    f.same(leaves(3))
    open(f"{www}/{name}", "wb").write(data[::-1])
    os.utime(f"{www}/{name}", (1e9, 1e9))
    assert f.read(leaves(3))[0] == "CHANGED"
    f.open(nginx.url() + name)
    got = f.read([(0, 100)])
    assert got[0] == "OK" and got[4] == data[::-1][:100]
    f.stop()


@case("no reference names what was opened by URL, and no list has it")
def no_client():
    f = Fetcher(f"web={nginx.url()}")
    url = nginx.url() + "f.bin"
    f.open(url)
    assert json.loads(f.say("list")[4]) == []
    rows = len(open(nginx.log).readlines())
    tries = [url, url.replace("//", "/"), url.replace("//", "%2F%2F"), "\x03" + url, "%03" + url,
             url + "?layers=", "%03" + url.replace("/", "%2F"), "", "web/" + url]
    for path in tries:
        st, _, requests, _, got = f.say("reference " + path)
        assert st in ("INVALID", "NOT_FOUND"), (path, st)
    # Through HTTP.
    s = Platterd({"web": nginx.url()})
    for path in tries[:-1]:
        for kind in ("disk", "raw", "v1/info"):
            r = s.get(f"/{kind}/" + path.replace("\x03", "%03"))
            assert r.status in (400, 404), (path, r.status)
    s.stop()
    time.sleep(0.2)
    assert not [l for l in open(nginx.log).readlines()[rows:] if l.split()[1][0] == "2"]
    # What a client may name is another image, in the list.
    assert f.say("reference web/f.bin?layers=")[0] == "OK"
    assert [r["name"] for r in json.loads(f.say("list")[4])] == ["web/f.bin"]
    f.stop()


@case("an origin that is gone with a new configuration takes its URLs with it; others stay open")
def reloaded():
    f = Fetcher(f"a={nginx.url()}", f"b={liar.url()}")
    f.open(nginx.url() + "f.bin")
    f.say(f"allow x={nginx.url()}")
    assert f.open(nginx.url() + "f.bin")[2] <= 1
    f.say(f"allow a={liar.url()}")
    f.open(liar.url() + "ok/f.bin")
    got = f.say("open " + nginx.url() + "f.bin")
    assert got[0] == "DENIED", got
    f.stop()


main()
