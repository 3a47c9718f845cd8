# SPDX-License-Identifier: Apache-2.0
"""The running server against RFC 9110 (semantics), 9111 (caching: what an origin
must do) and 9112 (the wire), paragraph by paragraph: a row is a request and what
must come back.  What holds of every answer is checked of every answer.  By raw
sockets where a client library would tidy up."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *
import calendar, email.parser, email.utils

www = tmp + "/www"
os.makedirs(www + "/sub")
N = 300000
data = os.urandom(N)
MTIME = 1700000000
open(www + "/d.raw", "wb").write(data)
os.utime(www + "/d.raw", (MTIME, MTIME))
open(www + "/empty.raw", "wb").close()
open(www + "/future.raw", "wb").write(data[:1000])
os.utime(www + "/future.raw", (4102444800, 4102444800))
open(www + "/sub/a b;c.raw", "wb").write(data[:1000])
open(tmp + "/secret", "wb").write(b"secret")
os.symlink(tmp + "/secret", www + "/link.raw")
server = Platterd({"lab": www}, "--deadline", "5")
U, EMPTY, NONE = "/disk/lab/d.raw", "/disk/lab/empty.raw", "/disk/lab/none.raw"
METADATA = ("ETag", "Last-Modified", "Accept-Ranges", "Cache-Control", "Vary", "Expires",
            "Content-Location")

# ---- One request ----


class Answer:
    """status, fields (a list of (name, value)), body."""

    def all(self, name):
        return [v for k, v in self.fields if k.lower() == name.lower()]

    def one(self, name):
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


def ask(method, path, fields=(), body=None):
    """Fields as they are given, several of one name too."""
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    c.putrequest(method, path, skip_accept_encoding=True)
    for k, v in fields:
        c.putheader(k, v)
    if body is not None:
        c.putheader("Content-Length", str(len(body)))
    c.endheaders(body)
    r = c.getresponse()
    a = Answer()
    a.method, a.path, a.status, a.fields = method, path, r.status, r.getheaders()
    a.body = r.read()
    c.close()
    always(a)
    return a


def always(a):
    """What RFC 9110 says of any answer of an origin."""
    # 6.6.1: an origin with a clock sends Date, as IMF-fixdate (5.6.7)
    date = a.one("Date")
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} "
                        r"\d\d:\d\d:\d\d GMT", date), date
    # 8.6, 9.3.2: the length of what is sent, or for HEAD would be
    length = a.one("Content-Length")
    if a.status == 204:
        assert length is None and a.body == b""
    elif a.status == 304:
        assert a.body == b""
        # 8.6: MUST NOT unless it is the length of the 200
        assert length in (None, "0" if a.path == EMPTY else str(N)), f"304 and {length}"
    elif a.method != "HEAD":
        assert length == str(len(a.body)), (length, len(a.body))
    assert not a.all("Transfer-Encoding") and not a.all("Content-Encoding")
    # 8.8.3: one entity-tag, strong, of etagc
    etag = a.one("ETag")
    assert etag is None or re.fullmatch(r'"[\x21\x23-\x7e]+"', etag), etag
    # 8.8.2.1: not later than the answer itself
    modified = a.one("Last-Modified")
    if modified:
        assert seconds(modified) <= seconds(date), (modified, date)
    # 9111 5.1: Age is a cache's
    assert not a.all("Age")
    if a.status in (200, 206, 304) and a.path.startswith(("/disk/", "/raw/")):
        assert etag and modified and a.one("Cache-Control"), a.fields
    if a.status == 405:
        assert "GET" in a.one("Allow")
    if a.status >= 400:
        # 9111 4.2.2: errors that a cache may keep by default are not to be kept
        assert "no-store" in a.one("Cache-Control")
        if a.method != "HEAD":
            doc = json.loads(a.body)
            assert a.one("Content-Type") == "application/problem+json"
            assert doc["status"] == a.status and doc["request_id"], doc
    if a.status == 206:
        kind, content_range = a.one("Content-Type"), a.one("Content-Range")
        # 15.3.7.1, 15.3.7.2: one of them, never both
        assert kind.startswith("multipart/byteranges") == (content_range is None), a.fields
        got = parts(a)
        assert all(len(b) == last - first + 1 and b == data[first:last + 1]
                   for first, last, b in got)
    elif a.status == 416:
        # 15.5.17
        assert re.fullmatch(r"bytes \*/\d+", a.one("Content-Range"))
    else:
        # 14.4: of 206 and 416 only
        assert not a.all("Content-Range"), a.fields


def seconds(date):
    return calendar.timegm(email.utils.parsedate(date))


def span(text):
    m = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", text)
    assert m and int(m[3]) == N and int(m[1]) <= int(m[2]) < N, text
    return int(m[1]), int(m[2])


def parts(a):
    """(first, last, bytes) of each part of a 206."""
    if a.one("Content-Range"):
        return [(*span(a.one("Content-Range")), a.body)]
    m = re.fullmatch(r'multipart/byteranges; ?boundary="?([0-9A-Za-z\'()+_,./:=? -]{1,70})"?',
                     a.one("Content-Type"))
    assert m, a.fields
    # RFC 2046 5.1.1, by hand: parsers of mail change line ends
    line = b"\r\n--" + m[1].encode()
    first, *rest = a.body.split(line)  # an empty preamble: zsync wants it
    assert first == b"" and rest[-1] == b"--\r\n", (first, rest[-1])
    out = []
    for p in rest[:-1]:
        assert p.startswith(b"\r\n")
        head, _, body = p[2:].partition(b"\r\n\r\n")
        fields = dict(l.split(": ", 1) for l in head.decode().split("\r\n"))
        # 15.3.7.2: MUST Content-Range, SHOULD Content-Type in each
        assert fields["Content-Type"] == "application/octet-stream", fields
        out.append((*span(fields["Content-Range"]), body))
    assert len(out) > 1  # MUST NOT: multipart of one
    return out


first = ask("GET", U)
ETAG, DATE = first.one("ETag"), first.one("Last-Modified")
assert seconds(DATE) == MTIME, DATE


def http_date(t, form="%a, %d %b %Y %H:%M:%S GMT"):
    return time.strftime(form, time.gmtime(t))


OLD, NEW = http_date(MTIME - 1), http_date(MTIME + 1)
WORDS = {"{etag}": ETAG, "{date}": DATE, "{old}": OLD, "{new}": NEW,
         "{date850}": http_date(MTIME, "%A, %d-%b-%y %H:%M:%S GMT"),
         "{dateasc}": http_date(MTIME, "%a %b %e %H:%M:%S %Y"),
         "{N}": str(N), "{N-1}": str(N - 1), "{N+1}": str(N + 1)}


def fill(text):
    for k, v in WORDS.items():
        text = text.replace(k, v)
    return text


# ---- The table ----

ROWS = []


def section(number, *rows):
    """Rows: sentence, request, status, what.  request: a dict or list of fields, or
    (method, path, fields).  what: for 206 the spans that are sent, for others
    bytes, None (not looked at) or a function of the answer."""
    for sentence, request, status, *what in rows:
        ROWS.append((number, sentence, request, status, what[0] if what else None))


def whole(a):
    assert a.body == (b"" if a.method == "HEAD" else data)
    assert a.one("Content-Length") == str(N) and a.one("ETag") == ETAG
    assert a.one("Content-Type") == "application/octet-stream"


def metadata(a):
    """15.4.5, 15.3.7: what a 200 to the same request would have said."""
    for k in METADATA:
        assert a.all(k) == first.all(k), (k, a.all(k), first.all(k))


def spans(*want):
    def check(a):
        got = [(f, l) for f, l, _ in parts(a)]
        assert got == list(want), got
        metadata(a)
    return check


def unmodified(a):
    metadata(a)
    # 15.4.5: no other metadata of the representation
    assert not a.all("Content-Type") and not a.all("Content-Range")


def unsatisfied(a):
    assert a.one("Content-Range") == f"bytes */{N}"


def bare(text):  # "bytes=0-1" -> the request of it
    return {"Range": text}


section("8.8.1 validators",
        ("both are sent with a 200", {}, 200, lambda a: whole(a) or metadata(a)),
        ("and with a HEAD", ("HEAD", U, {}), 200, lambda a: whole(a) or metadata(a)),
        ("and with a 206", bare("bytes=0-0"), 206, spans((0, 0))),
        ("and with what the source is", ("GET", "/raw/lab/d.raw", {}), 200,
         lambda a: None if a.one("ETag") and a.one("Last-Modified") == DATE else 1 / 0))
section("8.8.2.1 Last-Modified",
        ("a time of modification that is still to come is not told",
         ("GET", "/disk/lab/future.raw", {}), 200, data[:1000]),
        ("nor to HEAD", ("HEAD", "/disk/lab/future.raw", {}), 200))
section("8.8.3 ETag",
        ("another file has another", ("GET", EMPTY, {}), 200,
         lambda a: None if a.one("ETag") != ETAG else 1 / 0))
section("8.6 Content-Length",
        ("of nothing is 0", ("GET", EMPTY, {}), 200, b""),
        ("a 304 does not say that the disk is empty", {"If-None-Match": "*"}, 304, unmodified),
        ("nor does it to HEAD", ("HEAD", U, {"If-None-Match": "*"}), 304, unmodified))

section("9.3.1 GET",
        ("gives the whole", {}, 200, whole),
        ("content in a GET has no meaning", ("GET", U, {}, b"hello"), 200, whole))
section("9.3.2 HEAD",
        ("a range is not defined for it", ("HEAD", U, bare("bytes=0-9")), 200, whole),
        ("not one past the end", ("HEAD", U, bare("bytes={N}-")), 200, whole),
        ("not a malformed one", ("HEAD", U, bare("bytes=x")), 200, whole),
        ("nor several", ("HEAD", U, bare("bytes=0-0,1000-1000")), 200, whole),
        ("nor with If-Range", ("HEAD", U, {"Range": "bytes=0-9", "If-Range": ETAG}), 200, whole),
        ("what is not there", ("HEAD", NONE, {}), 404))
section("9.3.3 to 9.3.8 other methods",
        *[(f"{m} is not allowed", (m, U, {}, b"x"), 405) for m in ("POST", "PUT", "DELETE", "PATCH")],
        ("TRACE is not done", ("TRACE", U, {}), 405),
        ("OPTIONS tells what is", ("OPTIONS", U, {}), 204,
         lambda a: None if "HEAD" in a.one("Allow") else 1 / 0),
        ("a method that nothing here knows (9.1, 15.6.2)", ("BREW", U, {}), 501))

section("13.1.1 If-Match",
        ("ours", {"If-Match": "{etag}"}, 200, whole),
        ("another", {"If-Match": '"x"'}, 412),
        ("any", {"If-Match": "*"}, 200, whole),
        ("one of several", {"If-Match": '"x", {etag}'}, 200, whole),
        ("the first of several", {"If-Match": '{etag}, "x"'}, 200, whole),
        ("none of several", {"If-Match": '"x", "y"'}, 412),
        ("strong comparison: weak is not ours", {"If-Match": "W/{etag}"}, 412),
        ("weak and strong", {"If-Match": "W/{etag}, {etag}"}, 200, whole),
        ("lists with odd spaces", {"If-Match": '"x"  ,\t {etag}\t,"y"'}, 200, whole),
        ("empty elements", {"If-Match": ', ,"x",,{etag},'}, 200, whole),
        ("no space at all", {"If-Match": '"x",{etag}'}, 200, whole),
        ("several fields", [("If-Match", '"x"'), ("If-Match", "{etag}")], 200, whole),
        ("several fields, none ours", [("If-Match", '"x"'), ("If-Match", '"y"')], 412),
        ("unquoted", {"If-Match": ETAG.strip('"')}, 412),
        ("empty", {"If-Match": ""}, 412),
        ("a star in a list is malformed", {"If-Match": '*, "x"'}, 412),
        ("field names know no case", {"IF-MATCH": '"x"'}, 412),
        ("HEAD too", ("HEAD", U, {"If-Match": '"x"'}), 412),
        ("with a range", {"If-Match": "{etag}", "Range": "bytes=0-9"}, 206, spans((0, 9))),
        ("the other with a range", {"If-Match": '"x"', "Range": "bytes=0-9"}, 412))
section("13.1.2 If-None-Match",
        ("ours", {"If-None-Match": "{etag}"}, 304, unmodified),
        ("weak comparison", {"If-None-Match": "W/{etag}"}, 304, unmodified),
        ("any", {"If-None-Match": "*"}, 304, unmodified),
        ("another", {"If-None-Match": '"x"'}, 200, whole),
        ("one of several", {"If-None-Match": '"x", {etag}, "y"'}, 304, unmodified),
        ("one of several, all weak", {"If-None-Match": 'W/"x", W/{etag}'}, 304, unmodified),
        ("none of several", {"If-None-Match": '"x", W/"y"'}, 200, whole),
        ("odd spaces", {"If-None-Match": ' \t"x"\t , ,{etag} \t'}, 304, unmodified),
        ("several fields", [("If-None-Match", '"x"'), ("If-None-Match", "{etag}")], 304, unmodified),
        ("a comma in a tag", {"If-None-Match": '"a,b", {etag}'}, 304, unmodified),
        ("ours inside another", {"If-None-Match": '"x' + ETAG[1:]}, 200, whole),
        ("case counts", {"If-None-Match": ETAG.upper()} if ETAG.upper() != ETAG
         else {"If-None-Match": ETAG.swapcase() + '"'}, 200, whole),
        ("unquoted", {"If-None-Match": ETAG.strip('"')}, 200, whole),
        ("a small w", {"If-None-Match": "w/{etag}"}, 200, whole),
        ("empty", {"If-None-Match": ""}, 200, whole),
        ("HEAD too", ("HEAD", U, {"If-None-Match": "{etag}"}), 304, unmodified),
        ("with a range", {"If-None-Match": "{etag}", "Range": "bytes=0-9"}, 304, unmodified),
        ("with several ranges", {"If-None-Match": "{etag}", "Range": "bytes=0-9,9000-9009"}, 304,
         unmodified),
        ("with a range past the end", {"If-None-Match": "{etag}", "Range": "bytes={N}-"}, 304,
         unmodified),
        ("another with a range", {"If-None-Match": '"x"', "Range": "bytes=0-9"}, 206, spans((0, 9))),
        ("of an empty disk", ("GET", EMPTY, {"If-None-Match": '"x"'}), 200, b""))
section("13.1.3 If-Modified-Since",
        ("the very second", {"If-Modified-Since": "{date}"}, 304, unmodified),
        ("later", {"If-Modified-Since": "{new}"}, 304, unmodified),
        ("earlier", {"If-Modified-Since": "{old}"}, 200, whole),
        ("rfc850-date", {"If-Modified-Since": "{date850}"}, 304, unmodified),
        ("asctime-date", {"If-Modified-Since": "{dateasc}"}, 304, unmodified),
        ("HEAD too", ("HEAD", U, {"If-Modified-Since": "{date}"}), 304, unmodified),
        *[(f"no date: {bad}", {"If-Modified-Since": bad}, 200, whole) for bad in
          ("rubbish", "", "0", str(MTIME + 1), "Fri, 1 Jan 2100 00:00:00 GMT",
           "fri, 01 Jan 2100 00:00:00 GMT", "Fri, 01 jan 2100 00:00:00 GMT",
           "Fri, 01 Jan 2100 00:00:00 CET", "Fri, 01 Jan 2100 00:00:00", "Fri, 01 Jan 2100 00:00 GMT",
           "Fri, 31 Nov 2100 00:00:00 GMT", "Fri, 01 Jan 2100 24:00:00 GMT",
           "Fri,  1 Jan 2100 00:00:00 GMT", "2100-01-01T00:00:00Z", "Fri, 01-Jan-2100 00:00:00 GMT",
           "{date}, {date}")],
        ("a date of long ago", {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200, whole),
        ("two digits of a year long past", {"If-Modified-Since": "Saturday, 01-Jan-00 00:00:00 GMT"},
         200, whole),
        ("not looked at beside If-None-Match",
         {"If-None-Match": '"x"', "If-Modified-Since": "{new}"}, 200, whole),
        ("not even beside a malformed one",
         {"If-None-Match": "x", "If-Modified-Since": "{new}"}, 200, whole),
        ("with a range", {"If-Modified-Since": "{date}", "Range": "bytes=0-9"}, 304, unmodified),
        ("two fields are no date", [("If-Modified-Since", DATE), ("If-Modified-Since", DATE)], 200,
         whole))
section("13.1.4 If-Unmodified-Since",
        ("the very second", {"If-Unmodified-Since": "{date}"}, 200, whole),
        ("later", {"If-Unmodified-Since": "{new}"}, 200, whole),
        ("earlier", {"If-Unmodified-Since": "{old}"}, 412),
        ("HEAD too", ("HEAD", U, {"If-Unmodified-Since": "{old}"}), 412),
        ("rfc850-date", {"If-Unmodified-Since": "{date850}"}, 200, whole),
        ("asctime-date", {"If-Unmodified-Since": "{dateasc}"}, 200, whole),
        ("no date", {"If-Unmodified-Since": "rubbish"}, 200, whole),
        ("an old thing that is no date", {"If-Unmodified-Since": "Sat, 1 Jan 2000 00:00:00 GMT"},
         200, whole),
        ("not looked at beside If-Match", {"If-Match": "{etag}", "If-Unmodified-Since": "{old}"},
         200, whole),
        ("with a range", {"If-Unmodified-Since": "{old}", "Range": "bytes=0-9"}, 412))
section("13.1.5 If-Range",
        ("ours", {"If-Range": "{etag}", "Range": "bytes=0-9"}, 206, spans((0, 9))),
        ("ours, several ranges", {"If-Range": "{etag}", "Range": "bytes=0-9,9000-9009"}, 206,
         spans((0, 9), (9000, 9009))),
        ("the date, exactly", {"If-Range": "{date}", "Range": "bytes=0-9"}, 206, spans((0, 9))),
        ("rfc850-date", {"If-Range": "{date850}", "Range": "bytes=0-9"}, 206, spans((0, 9))),
        ("asctime-date", {"If-Range": "{dateasc}", "Range": "bytes=0-9"}, 206, spans((0, 9))),
        ("space around it", {"If-Range": " \t{etag} \t", "Range": "bytes=0-9"}, 206, spans((0, 9))),
        *[(f"not ours: {v}", {"If-Range": v, "Range": "bytes=0-9"}, 200, whole) for v in
          ('"x"', "W/{etag}", "*", "{old}", "{new}", "rubbish", "", '"x", {etag}', "{etag}, {etag}",
           "Fri, 01 Jan 2100 00:00:00 GMT", ETAG.strip('"'), ETAG[:-1])],
        ("two fields", [("If-Range", ETAG), ("If-Range", ETAG), ("Range", "bytes=0-9")], 200, whole),
        ("without a Range it is nothing", {"If-Range": "{etag}"}, 200, whole),
        ("the other without a Range", {"If-Range": '"x"'}, 200, whole),
        ("ours, past the end", {"If-Range": "{etag}", "Range": "bytes={N}-"}, 416, unsatisfied),
        ("not ours, past the end: the Range is not looked at",
         {"If-Range": '"x"', "Range": "bytes={N}-"}, 200, whole),
        ("not ours, malformed: the Range is not looked at",
         {"If-Range": '"x"', "Range": "bytes=x"}, 200, whole),
        ("not ours, one too many ranges",
         {"If-Range": '"x"', "Range": "bytes=" + ",".join(f"{i * 200}-{i * 200}" for i in range(1200))},
         200, whole))
section("13.2.1 when to evaluate",
        ("not for what is not there", ("GET", NONE, {"If-Match": "*"}), 404),
        ("not for what is not there, by tag", ("GET", NONE, {"If-Match": '"x"'}), 404),
        ("not for what is not there, any", ("GET", NONE, {"If-None-Match": "*"}), 404),
        ("not for what is not there, by date", ("GET", NONE, {"If-Unmodified-Since": OLD}), 404),
        ("not for a method that is not allowed", ("DELETE", U, {"If-Match": '"x"'}), 405),
        ("nor for a PUT", ("PUT", U, {"If-None-Match": "*"}, b"x"), 405),
        ("not for OPTIONS", ("OPTIONS", U, {"If-Match": '"x"'}), 204),
        ("not for a selector that is malformed", ("GET", U + "?x=1", {"If-Match": '"x"'}), 400))
section("13.2.2 precedence",
        ("1: If-Match false", {"If-Match": '"x"', "If-None-Match": "{etag}"}, 412),
        ("1 before 2", {"If-Match": "{etag}", "If-Unmodified-Since": "{old}"}, 200, whole),
        ("2: false before 3", {"If-Unmodified-Since": "{old}", "If-None-Match": "{etag}"}, 412),
        ("2: false before 4", {"If-Unmodified-Since": "{old}", "If-Modified-Since": "{new}"}, 412),
        ("1 true, 3 false", {"If-Match": "{etag}", "If-None-Match": "{etag}"}, 304, unmodified),
        ("1 true, 4 false", {"If-Match": "*", "If-Modified-Since": "{date}"}, 304, unmodified),
        ("2 true, 4 false", {"If-Unmodified-Since": "{date}", "If-Modified-Since": "{date}"}, 304,
         unmodified),
        ("3 before 4", {"If-None-Match": '"x"', "If-Modified-Since": "{date}"}, 200, whole),
        ("3 false whatever 4 says", {"If-None-Match": "{etag}", "If-Modified-Since": "{old}"}, 304,
         unmodified),
        ("1 before 5", {"If-Match": '"x"', "If-Range": "{etag}", "Range": "bytes=0-9"}, 412),
        ("1 before a malformed Range", {"If-Match": '"x"', "Range": "bytes=x"}, 412),
        ("3 before 5", {"If-None-Match": "{etag}", "If-Range": "{etag}", "Range": "bytes=0-9"}, 304,
         unmodified),
        ("4 before 5", {"If-Modified-Since": "{date}", "If-Range": "{etag}", "Range": "bytes=0-9"},
         304, unmodified),
        ("all true", {"If-Match": "{etag}", "If-Unmodified-Since": "{new}", "If-None-Match": '"x"',
                      "If-Modified-Since": "{old}", "If-Range": "{etag}", "Range": "bytes=0-9"},
         206, spans((0, 9))),
        ("all true but If-Range", {"If-Match": "*", "If-None-Match": '"x"', "If-Range": '"x"',
                                   "Range": "bytes=0-9"}, 200, whole))

ODD = ("bytes", "BYTES", "Bytes", "bYtEs")
section("14.1 range units",
        *[(f"names know no case: {u}", bare(f"{u}=5-9"), 206, spans((5, 9))) for u in ODD],
        *[(f"another unit is ignored: {u}", bare(f"{u}=0-9"), 200, whole)
          for u in ("lines", "byte", "bytess", "x-bytes", "none", "items")],
        ("whatever its ranges look like", bare("seconds=now-later"), 200, whole))
BIG = "18446744073709551616"  # 2^64
section("14.1.2 byte ranges",
        ("the first byte", bare("bytes=0-0"), 206, spans((0, 0))),
        ("the last byte by its place", bare("bytes={N-1}-{N-1}"), 206, spans((N - 1, N - 1))),
        ("the last byte by a suffix", bare("bytes=-1"), 206, spans((N - 1, N - 1))),
        ("first and last", bare("bytes=100-611"), 206, spans((100, 611))),
        ("an open end", bare("bytes=100-"), 206, spans((100, N - 1))),
        ("an open end at the last byte", bare("bytes={N-1}-"), 206, spans((N - 1, N - 1))),
        ("a suffix", bare("bytes=-500"), 206, spans((N - 500, N - 1))),
        ("a suffix of all", bare("bytes=-{N}"), 206, spans((0, N - 1))),
        ("a suffix of more than all", bare("bytes=-{N+1}"), 206, spans((0, N - 1))),
        ("a suffix beyond 2^64", bare(f"bytes=-{BIG}"), 206, spans((0, N - 1))),
        ("a suffix of 40 digits", bare("bytes=-" + "9" * 40), 206, spans((0, N - 1))),
        ("an end past the end", bare("bytes=0-{N}"), 206, spans((0, N - 1))),
        ("an end beyond 2^64", bare(f"bytes=9-{BIG}9"), 206, spans((9, N - 1))),
        ("an end of 2^64 exactly does not wrap", bare(f"bytes=9-{BIG}"), 206, spans((9, N - 1))),
        ("an end of 2^63", bare("bytes=9-9223372036854775808"), 206, spans((9, N - 1))),
        ("zeros in front", bare("bytes=000000000000000000000005-0009"), 206, spans((5, 9))),
        ("all of it is still a 206", bare("bytes=0-"), 206, spans((0, N - 1))),
        ("of another size in a 206", bare("bytes=0-{N-1}"), 206, spans((0, N - 1))))
section("14.2 Range",
        ("spaces behind the unit and at the end", bare("bytes= 5-9 "), 206, spans((5, 9))),
        ("tabs", bare("bytes=\t5-9\t"), 206, spans((5, 9))),
        ("empty elements", bare("bytes=,5-9,"), 206, spans((5, 9))),
        ("empty elements with spaces", bare("bytes= , 5-9 , ,"), 206, spans((5, 9))),
        ("not defined for OPTIONS", ("OPTIONS", U, bare("bytes=0-9")), 204),
        ("nor for POST", ("POST", U, bare("bytes=0-9"), b"x"), 405),
        ("what is not there is not there in parts", ("GET", NONE, bare("bytes=0-9")), 404),
        ("and not when malformed", ("GET", NONE, bare("bytes=x")), 404),
        # the one place where platter is stricter than 14.2 allows it to be lax
        *[(f"malformed is never the whole: {s!r}", bare(s), 416, unsatisfied) for s in
          ("bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=0--1", "bytes=+1-2", "bytes=1-2x",
           "bytes=0x10-", "bytes", "bytes 0-1", "bytes=1 - 2", "bytes=1- 2", "bytes=1 -2",
           "bytes=0-1,x", "bytes=,", ",", "", "=0-1", "bytes=0-1;2-3", "bytes=-1-2", "bytes=1-2-",
           "bytes==0-1", "bytes =0-1", "bytes=0-1 2-3", "bytes=*", "bytes=0-1/5", "bytes=1.0-2",
           "bytes=\xb2-3", "bytes=0-1,5-3", "bytes=1", "bytes=5-{N},3-2", "bytes:0-1",
           "bytes=0-0, bytes=2-2", f"bytes={BIG}0-{BIG}")],
        ("two fields are no range", [("Range", "bytes=0-1"), ("Range", "bytes=5-6")], 416,
         unsatisfied),
        ("the same field twice", [("Range", "bytes=0-1"), ("Range", "bytes=0-1")], 416, unsatisfied))
section("14.2 several ranges",
        ("in the order of the request", bare("bytes=1000-1009,0-9"), 206,
         spans((1000, 1009), (0, 9))),
        ("first and last byte", bare("bytes=0-0,-1"), 206, spans((0, 0), (N - 1, N - 1))),
        ("spaces after commas", bare("bytes=0-0 ,\t500-500 , 1000-1000"), 206,
         spans((0, 0), (500, 500), (1000, 1000))),
        ("one past the end is left out", bare("bytes=0-9,{N}-"), 206, spans((0, 9))),
        ("those past the end are left out", bare("bytes={N}-,0-9,{N}-{N},9000-9001"), 206,
         spans((0, 9), (9000, 9001))),
        ("an empty suffix is left out", bare("bytes=-0,0-9"), 206, spans((0, 9))),
        ("all past the end", bare("bytes={N}-,{N+1}-"), 416, unsatisfied),
        ("neighbours are joined", bare("bytes=0-9,10-19"), 206, spans((0, 19))),
        ("near ones are joined", bare("bytes=0-9,20-29"), 206, spans((0, 29))),
        ("duplicates are one", bare("bytes=5-9,5-9"), 206, spans((5, 9))),
        ("one inside another", bare("bytes=0-999,100-199"), 206, spans((0, 999))),
        ("overlaps are joined", bare("bytes=0-99,50-149"), 206, spans((0, 149))),
        ("a suffix over an open end", bare("bytes=299000-,-2000"), 206, spans((298000, N - 1))),
        ("all of it twice", bare("bytes=0-,0-"), 206, spans((0, N - 1))),
        ("as many as are allowed", bare("bytes=" + ",".join(f"{i * 300}-{i * 300 + 1}"
                                                             for i in range(64))), 206,
         spans(*[(i * 300, i * 300 + 1) for i in range(64)])),
        ("one more", bare("bytes=" + ",".join(f"{i * 300}-{i * 300 + 1}" for i in range(65))), 416,
         unsatisfied),
        ("many overlapping (CVE-2011-3192)", bare("bytes=0-" + ",5-" * 10), 416, unsatisfied),
        ("the first 500 bytes thrice", bare("bytes=0-499,0-499,0-499"), 206, spans((0, 499))),
        ("thousands", bare("bytes=" + ",".join(f"{i}-" for i in range(1300))), 416, unsatisfied))
section("14.3 Accept-Ranges",
        ("of a disk", ("HEAD", U, {}), 200,
         lambda a: None if a.one("Accept-Ranges") == "bytes" else 1 / 0),
        ("of an empty disk", ("HEAD", EMPTY, {}), 200,
         lambda a: None if a.one("Accept-Ranges") == "bytes" else 1 / 0),
        ("with a 416", bare("bytes={N}-"), 416,
         lambda a: None if a.one("Accept-Ranges") == "bytes" else 1 / 0))
section("14.4 Content-Range",
        ("the total is a number", bare("bytes=0-0"), 206,
         lambda a: None if a.one("Content-Range") == f"bytes 0-0/{N}" else 1 / 0),
        ("in a request it is nothing", {"Content-Range": f"bytes 0-9/{N}"}, 200, whole))
section("14.5 partial PUT",
        ("is refused", ("PUT", U, {"Content-Range": f"bytes 0-0/{N}"}, b"x"), 405))
section("15.3.7 206",
        ("has the metadata of a 200", bare("bytes=7-8"), 206, spans((7, 8))),
        ("so have several parts", bare("bytes=7-8,7000-7001"), 206, spans((7, 8), (7000, 7001))),
        ("15.3.7.1 a single part is no multipart", bare("bytes=7-8,{N}-"), 206,
         lambda a: None if a.one("Content-Type") == "application/octet-stream" else 1 / 0))
section("15.5.17 416",
        ("a start at the end", bare("bytes={N}-"), 416, unsatisfied),
        ("a start at the end with an end", bare("bytes={N}-{N+1}"), 416, unsatisfied),
        ("an empty suffix", bare("bytes=-0"), 416, unsatisfied),
        ("an empty suffix of many digits", bare("bytes=-0000000000000000000000"), 416, unsatisfied),
        ("a start of 2^63", bare("bytes=9223372036854775808-"), 416, unsatisfied),
        ("a start of 2^64 - 1", bare("bytes=18446744073709551615-"), 416, unsatisfied),
        ("a start of 2^64 does not wrap", bare(f"bytes={BIG}-"), 416, unsatisfied),
        ("a start of 2^64 + 5 does not wrap", bare("bytes=18446744073709551621-"), 416, unsatisfied),
        ("a start of 40 digits", bare("bytes=" + "9" * 40 + "-"), 416, unsatisfied),
        *[(f"an empty disk has no bytes: {s}", ("GET", EMPTY, bare(s)), 416,
           lambda a: None if a.one("Content-Range") == "bytes */0" else 1 / 0)
          for s in ("bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0")],
        ("conditions that hold do not help", {"If-Match": "{etag}", "Range": "bytes={N}-"}, 416,
         unsatisfied))
section("9111 4.3 validation",
        ("4.3.4 a 304 freshens what was kept: the same validators and directives",
         {"If-None-Match": "{etag}"}, 304, unmodified),
        ("4.3.5 so does a HEAD: length and validators", ("HEAD", U, {}), 200, whole),
        ("5.2.2.4 kept, but not used unasked", {}, 200,
         lambda a: None if "no-cache" in a.one("Cache-Control") else 1 / 0))
section("9111 4.2.2 errors are not kept",
        ("404", ("GET", NONE, {}), 404), ("405", ("POST", U, {}, b""), 405),
        ("501", ("BREW", U, {}), 501), ("400", ("GET", U + "?x=1", {}), 400))


def add_row(number, sentence, request, status, what):
    method, path, fields, body = "GET", U, request, None
    if isinstance(request, tuple):
        method, path, fields, *rest = request
        body = rest[0] if rest else None
    fields = [(k, fill(v)) for k, v in (fields.items() if isinstance(fields, dict) else fields)]

    @case(f"{number}: {sentence}")
    def run():
        a = ask(method, path, fields, body)
        assert a.status == status, (method, path, fields, a.status, a.body[:200])
        if isinstance(what, bytes):
            assert a.body == what, (fields, a.body[:80])
        elif what:
            what(a)


for row in ROWS:
    add_row(*row)


# ---- What takes more than one request ----

@case("8.8.1 and 8.8.3: other bytes of the same length have another ETag")
def changed():
    path, seen = www + "/c.raw", {}
    for i in range(6):
        want = bytes([i]) * 5000
        if i % 2:  # in place
            with open(path, "r+b") as f:
                f.write(want)
        else:  # as a new file, with the time of the old one
            with open(path + ".new", "wb") as f:
                f.write(want)
            os.utime(path + ".new", (MTIME, MTIME))
            os.rename(path + ".new", path)
        end = time.time() + 10
        while True:  # a source is taken for unchanged for some seconds
            r = server.get("/disk/lab/c.raw")
            if r.status == 200:
                assert seen.setdefault(r.getheader("ETag"), r.body) == r.body, i
            else:
                assert r.status == 502, r.status  # changed, and not opened anew yet
            if r.body == want:
                break
            assert time.time() < end, (i, r.status)
            time.sleep(0.2)
    assert len(seen) == 6, seen.keys()


@case("8.8.2.2 and 13.1.5: a disk whose backing file has changed is not the one of its old date")
def backing():
    sh("qemu-img create -q -f qcow2 base.qcow2 1M; qemu-io -c 'write -P 1 0 64k' base.qcow2;"
       "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2", cwd=www)
    for name in ("base", "top"):
        os.utime(f"{www}/{name}.qcow2", (MTIME, MTIME))
    path = "/disk/lab/top.qcow2"
    was = server.get(path)
    sh("qemu-io -c 'write -P 2 0 64k' base.qcow2", cwd=www)
    end = time.time() + 10
    while server.get(path, method="HEAD").getheader("ETag") == was.getheader("ETag"):
        assert time.time() < end
        time.sleep(0.2)
    date = was.getheader("Last-Modified")
    if date:
        r = server.get(path, {"Range": "bytes=0-9", "If-Range": date})
        assert r.status == 200, "parts of two disks, joined by their date"
        assert server.get(path, {"If-Modified-Since": date}).status == 200
        assert server.get(path, {"If-Unmodified-Since": date}).status == 412


@case("8.8.3: the same disk has the same ETag in another process")
def stable():
    other = Platterd({"lab": www})
    assert other.get(U, method="HEAD").getheader("ETag") == ETAG
    other.stop()


@case("9.3.2: HEAD has the fields of GET, whatever is asked")
def head():
    for path in (U, EMPTY, NONE, "/raw/lab/d.raw", "/v1/info/lab/d.raw", "/healthz", U + "?x=1"):
        for fields in ({}, {"If-None-Match": "*"}, {"If-Match": '"x"'}):
            g, h = ask("GET", path, fields.items()), ask("HEAD", path, fields.items())
            own = ("Date", "X-Request-Id")
            a, b = ([(k, v) for k, v in x.fields if k not in own] for x in (g, h))
            assert g.status == h.status and a == b and h.body == b"", (path, fields, a, b)


@case("15.3.7.3: parts of one strong ETag put together are the whole")
def combined():
    got = bytearray(N)
    for spec in ("bytes=0-99999", "bytes=100000-100000,100200-199999", "bytes=100001-100199",
                 "bytes=-100000"):
        a = ask("GET", U, [("Range", spec), ("If-Range", ETAG)])
        assert a.status == 206 and a.one("ETag") == ETAG
        for f, l, b in parts(a):
            got[f:l + 1] = b
    assert bytes(got) == data


@case("15.3.7.2: a boundary is not in the bytes, and not the same twice")
def boundaries():
    seen = {ask("GET", U, [("Range", "bytes=0-0,9000-9000")]).one("Content-Type") for _ in range(5)}
    assert len(seen) == 5, seen
    # the client's own id must not choose it
    a = ask("GET", U, [("Range", "bytes=0-0,9000-9000"), ("X-Request-Id", "abc")])
    assert "abc" not in a.one("Content-Type")


@case("9110 17.15 and 9111 4.1: an origin that may read is not told to others")
def cors():
    s = Platterd({"lab": www}, "--cors", "https://ui.example")
    for o in ("https://ui.example", "https://other.example", None):
        r = s.get(U, {"Range": "bytes=0-0", **({"Origin": o} if o else {})})
        assert r.getheader("Vary") == "Origin", r.headers.items()
        assert r.getheader("Access-Control-Allow-Origin") == \
            (o if o == "https://ui.example" else None)
    s.stop()


@case("9.3.7 and 15.5.6: OPTIONS and Allow of other resources")
def methods():
    assert "POST" in server.get("/v1/images", method="OPTIONS").getheader("Allow")
    assert "DELETE" in server.get("/v1/images/x", method="OPTIONS").getheader("Allow")
    r = server.raw(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert r.startswith(b"HTTP/1.1 204") and b"Allow:" in r, r[:80]
    r = server.raw(b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nConnection: close\r\n\r\n", timeout=3)
    assert not r or int(r.split(b" ")[1]) >= 400, r[:80]


@case("names are decoded once; a semicolon in one is written encoded")
def names():
    r = server.get("/disk/lab/sub/a%20b%3Bc.raw")
    assert r.status == 200 and r.body == data[:1000]


@case("nothing outside the folder can be named, in any spelling")
def traversal():
    for p in ("../secret", "%2e%2e/secret", "sub/../../secret", "..%2fsecret",
              "sub/%2e%2e/%2e%2e/secret", "%c0%ae%c0%ae/secret", ".%2e/secret",
              "sub//a", "/etc/passwd", "%2fetc%2fpasswd", "d.raw%00.img", "..\\secret",
              "%5c..%5csecret", "link.raw", "%252e%252e/secret", "./d.raw", "sub/."):
        r = server.raw(f"GET /disk/lab/{p} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        status = int(r.split(b" ")[1])
        assert status in (400, 403, 404), (p, status)
        assert b"secret" not in r.split(b"\r\n\r\n", 1)[1].replace(b"see", b"") and b"root:" not in r, (p, r)
    for p in ("/disk/other/x", "/disk/lab", "/disk/lab/", "/disk/", "/nope", "//disk/lab/d.raw"):
        r = server.raw(f"GET {p} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert int(r.split(b" ")[1]) in (400, 404), (p, r[:60])


@case("unknown selectors are refused, not ignored")
def selectors():
    problem(server.get(U + "?mebmer=x"), 400, "invalid")
    problem(server.get(U + "?member=x"), 400, "invalid")
    problem(server.get(U + "?partition=1"), 404, "not-found")
    problem(server.get(U + "?partition=x"), 400, "invalid")


@case("9112 3.2.2: the absolute form; HTTP/1.0; pipelining; keep-alive")
def wire():
    for at in ("http://x", "https://x:1", "http://x/"):  # a slash behind '?' begins no path
        r = server.raw(f"GET {at}?a={U} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert r.startswith(b"HTTP/1.1 200") and b"<title>platter</title>" in r, (at, r[:300])
    r = server.raw(f"GET http://x:1{U} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n"
                   f"Connection: close\r\n\r\n".encode())
    assert r.startswith(b"HTTP/1.1 206") and r.endswith(data[:4])
    r = server.raw(f"GET {U} HTTP/1.0\r\nRange: bytes=0-3\r\n\r\n".encode())
    assert b" 206 " in r[:20] and r.endswith(data[:4])
    one = f"GET {U} HTTP/1.1\r\nHost: x\r\nRange: bytes=%d-%d\r\n\r\n"
    r = server.raw("".join(one % (i, i + 3) for i in range(5)).encode(), timeout=2)
    assert r.count(b"HTTP/1.1 206") == 5 and r.endswith(data[4:8]), r.count(b"206")


@case("a body on GET is dropped, and does not confuse what follows")
def bodies():
    r = server.raw(f"GET {U} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\nContent-Length: 5\r\n\r\nhello"
                   f"GET {U} HTTP/1.1\r\nHost: x\r\nRange: bytes=4-7\r\nConnection: close\r\n\r\n".encode())
    assert data[:4] in r and (r.endswith(data[4:8]) or r.count(b"HTTP/1.1") == 1)


@case("huge headers, long lines and rubbish are refused, and the server lives")
def rubbish():
    for b in (b"GET " + b"/a" * 50000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
              b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
              b"GET / HTTP/1.1\r\nX: " + b"y" * 100000 + b"\r\n\r\n",
              b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"GET / FTP/9\r\n\r\n",
              b"GET / HTTP/1.1\r\n\r\n"):
        r = server.raw(b, timeout=3)
        assert not r or int(r.split(b" ")[1]) >= 400, (b[:40], r[:60])
    assert server.get(U, {"Range": "bytes=0-3"}).body == data[:4]


@case("the small resources answer")
def small():
    assert server.get("/healthz").body == b"ok\n"
    assert server.get("/readyz").status == 200
    assert json.loads(server.get("/v1/origins").body) == [{"name": "lab", "kind": "local"}]
    assert any(i["name"] == "lab/d.raw" for i in json.loads(server.get("/v1/images").body))
    m = server.get("/metrics").body.decode()
    assert 'platter_requests_total{route="disk",status="206"}' in m
    assert server.get("/").status == 200


main()
