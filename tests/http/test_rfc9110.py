# SPDX-License-Identifier: Apache-2.0
"""The running server against RFC 9110 and 9112, section by section, by raw
sockets where a client library would tidy up."""
import sys, os
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from live import *

www = tmp + "/www"
os.makedirs(www + "/sub")
N = 300000
data = os.urandom(N)
open(www + "/d.raw", "wb").write(data)
open(www + "/empty.raw", "wb").close()
open(www + "/sub/a b;c.raw", "wb").write(data[:1000])
open(tmp + "/secret", "wb").write(b"secret")
os.symlink(tmp + "/secret", www + "/link.raw")
server = Platterd({"lab": www}, "--deadline", "5")
U = "/disk/lab/d.raw"


def want(spec, status, body=None, **headers):
    r = server.get(U, {"Range": spec, **{k.replace("_", "-"): v for k, v in headers.items()}})
    assert r.status == status, (spec, headers, r.status)
    if body is not None:
        assert r.body == body, (spec, len(r.body))
        assert r.getheader("Content-Length") == str(len(body))
    if status == 206:
        a = data.index(body[:64]) if len(body) >= 64 else None
        assert r.getheader("Content-Range").endswith(f"/{N}"), r.headers
        if a is not None:
            assert r.getheader("Content-Range") == f"bytes {a}-{a + len(body) - 1}/{N}"
    if status == 416:
        assert r.getheader("Content-Range") == f"bytes */{N}", r.headers
        problem(r, 416)
    return r


@case("14.1.2: first and last position, open end, suffix; past the end is clamped")
def ranges():
    want("bytes=0-0", 206, data[:1])
    want("bytes=0-511", 206, data[:512])
    want("bytes=100-", 206, data[100:])
    want("bytes=-100", 206, data[-100:])
    want("bytes=-999999999", 206, data)
    want(f"bytes={N - 10}-{N}", 206, data[-10:])
    want(f"bytes={N - 1}-99999999999999999999999999", 206, data[-1:])
    want("BYTES=5-9", 206, data[5:10])
    want("bytes= 5-9 ", 206, data[5:10])


@case("15.5.17: a start past the end, and an empty suffix, are not satisfiable")
def unsatisfiable():
    for s in (f"bytes={N}-", f"bytes={N}-{N + 5}", "bytes=-0",
              "bytes=18446744073709551616-", "bytes=99999999999999999999999-"):
        want(s, 416)


@case("malformed byte ranges are 416, never the whole")
def malformed():
    for s in ("bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=0--1", "bytes=+1-2",
              "bytes=1-2x", "bytes=0x10-", "bytes", "bytes 0-1", "bytes=1 - 2",
              "bytes=0-1,x", "bytes=,", ",", "", "=0-1", "bytes=0-1;2-3"):
        want(s, 416)
    r = server.raw(f"GET {U} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n"
                   f"Range: bytes=5-6\r\nConnection: close\r\n\r\n".encode())
    assert r.startswith(b"HTTP/1.1 416"), r[:60]


@case("14.2: another range unit is ignored")
def units():
    r = server.get(U, {"Range": "lines=1-2"})
    assert r.status == 200 and r.body == data


@case("13.1.5: If-Range takes the strong ETag or exactly the date, nothing else")
def if_range():
    head = server.get(U, method="HEAD")
    etag, date = head.getheader("ETag"), head.getheader("Last-Modified")
    assert etag.startswith('"') and etag.endswith('"')
    want("bytes=0-9", 206, data[:10], If_Range=etag)
    want("bytes=0-9", 206, data[:10], If_Range=date)
    for other in ("W/" + etag, '"x"', "Sat, 01 Jan 2000 00:00:00 GMT", "rubbish"):
        r = server.get(U, {"Range": "bytes=0-9", "If-Range": other})
        assert r.status == 200 and r.body == data, other


@case("13.1: If-Match, If-None-Match and the dates, in the order of 13.2.2")
def conditions():
    head = server.get(U, method="HEAD")
    etag, date = head.getheader("ETag"), head.getheader("Last-Modified")
    old, new = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    rows = [({"If-Match": etag}, 200), ({"If-Match": '"x"'}, 412),
            ({"If-Match": "*"}, 200), ({"If-Match": f'"x", {etag}'}, 200),
            ({"If-Match": "W/" + etag}, 412),
            ({"If-None-Match": etag}, 304), ({"If-None-Match": "W/" + etag}, 304),
            ({"If-None-Match": "*"}, 304), ({"If-None-Match": '"x"'}, 200),
            ({"If-Modified-Since": date}, 304), ({"If-Modified-Since": old}, 200),
            ({"If-Unmodified-Since": date}, 200), ({"If-Unmodified-Since": old}, 412),
            ({"If-None-Match": '"x"', "If-Modified-Since": new}, 200),
            ({"If-Match": etag, "If-Unmodified-Since": old}, 200),
            ({"If-Match": '"x"', "If-None-Match": etag}, 412),
            ({"If-Modified-Since": "rubbish"}, 200)]
    for headers, status in rows:
        for method in ("GET", "HEAD"):
            r = server.get(U, headers, method)
            assert r.status == status, (headers, method, r.status)
            if status == 304:
                assert r.getheader("ETag") == etag and not r.body
    r = server.get(U, {"Range": "bytes=0-9", "If-None-Match": etag})
    assert r.status == 304


@case("9.3.2: HEAD has the headers of GET, no body, and no ranges")
def head():
    g, h = server.get(U), server.get(U, method="HEAD")
    for k in ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges", "Content-Type"):
        assert g.getheader(k) == h.getheader(k), k
    assert h.getheader("Accept-Ranges") == "bytes" and h.body == b""
    r = server.get(U, {"Range": "bytes=0-9"}, "HEAD")
    assert r.status == 200 and r.getheader("Content-Length") == str(N)
    assert "Transfer-Encoding" not in g.headers and "Content-Encoding" not in g.headers


@case("an empty disk is 200 with nothing, and no range of it can be had")
def empty():
    r = server.get("/disk/lab/empty.raw")
    assert r.status == 200 and r.body == b"" and r.getheader("Content-Length") == "0"
    for s in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        assert server.get("/disk/lab/empty.raw", {"Range": s}).status == 416


@case("9.3.7 and 15.5.6: OPTIONS and Allow")
def methods():
    r = server.get(U, method="OPTIONS")
    assert r.status == 204 and "GET" in r.getheader("Allow")
    for m in ("PUT", "POST", "DELETE", "PATCH"):
        r = server.get(U, method=m)
        assert r.status == 405 and "HEAD" in r.getheader("Allow"), (m, r.status)
    # 9.1, 15.6.2: a method that nothing here knows
    assert server.get(U, method="BREW").status == 501
    assert "POST" in server.get("/v1/images", method="OPTIONS").getheader("Allow")
    assert "DELETE" in server.get("/v1/images/x", method="OPTIONS").getheader("Allow")
    r = server.raw(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert r.startswith(b"HTTP/1.1 204") and b"Allow:" in r, r[:80]


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
