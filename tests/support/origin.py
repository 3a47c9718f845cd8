#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The lying origin: an HTTP/1.1 server that does one thing wrong.

The first part of the path says what, the rest names a file of the folder:
  /ok/F            as it should be
  /noranges/F      200 of the whole to everything
  /chunked/F       the same without a length
  /wrong-range/F   206 of other bytes than were asked (but not the first 128 KiB)
  /wrong-total/F   another total length from the second request on
  /200-later/F     a 206 first, then 200 of the whole
  /short/F         the body ends half-way, the connection closes
  /long/F          more bytes than were asked
  /stall/F         after the first answer, bodies stop after 1000 bytes
  /stall-first/F   never an answer
  /changed/F       from the second request on another ETag and other bytes
  /unpinned/F      neither ETag nor Last-Modified
  /weak/F          a weak ETag and a date
  /coded/F         Content-Encoding: gzip
  /headers/F       100 KiB of headers
  /busy/F          503 with Retry-After: 1 twice, then as it should be
  /no-suffix/F     416 to a suffix (bytes=-N)
  /other-suffix/F  a suffix has another ETag and other bytes
  /short-suffix/F  a suffix ends half-way, the connection closes
  /stall-suffix/F  a suffix stops after 1000 bytes
  /reset/F         after the first answer, bodies end half-way by a reset
  /drops/F         bodies of more than 600 KiB end after those, the connection closes
  /401/F /403/F /404/F /410/F /429/F /500/F /503/F   that status, the latter
                   with Retry-After: 1
Several ranges in a request are answered as multipart/byteranges, and by /parts-X/F
in a way that X says: PARTS below.  The first answer is as it should be.
  /count/M/F       how many requests for /M/F there were, and with several ranges
  /redirect-in/F   to /ok/F;  /redirect-out/F  to another port;  /redirect-loop/F
Without If-Match being honoured: a server may ignore it, and the reader must see
for itself.  Prints its port on the first line."""
import os, socket, struct, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = sys.argv[1]
counts, lock = {}, threading.Lock()


def part(data, a, b, total=None, first="", mark=b"XYZ", field="Content-Range"):
    return (b"\r\n--%s\r\n%sContent-Type: application/octet-stream\r\n"
            b"%s: bytes %d-%d/%d\r\n\r\n" % (
                mark, first.encode(), field.encode(), a, b, total or len(data))) + data[a:b + 1]


END = b"\r\n--XYZ--\r\n"
TYPE = "multipart/byteranges; boundary=XYZ"


def several(fn, content_type=TYPE, **kw):
    """A way to answer: fn makes the body of the file and the ranges."""
    def answer(self, data, headers, ranges):
        more = {"ETag": '"two"'} if kw.get("changed") else {}
        self.reply(206, fn(data, ranges),
                   {**headers, "Content-Type": content_type, **more}, limit=kw.get("limit"))
    return answer


def parts(data, ranges):
    return b"".join(part(data, a, b) for a, b in ranges)


honest = several(lambda d, r: parts(d, r) + END)


def with_first(head):
    """The first part in another way."""
    return several(lambda d, r: head(d, *r[0]) + parts(d, r[1:]) + END)


def status(code):
    return lambda self, data, headers, ranges: self.reply(
        code, data if code == 200 else b"no\n", headers)


def alone(span):
    def answer(self, data, headers, ranges):
        a, b = span(ranges)
        self.reply(206, data[a:b + 1], {**headers, "Content-Range": f"bytes {a}-{b}/{len(data)}"})
    return answer


def flip(data):
    return bytes(b ^ 0xff for b in data)


PARTS = {
    # what a server may do
    "200": status(200), "416": status(416), "400": status(400), "501": status(501),
    "first-alone": alone(lambda r: r[0]),
    "stretch": alone(lambda r: (r[0][0], r[-1][1])),
    "backwards": several(lambda d, r: parts(d, r[::-1]) + END),
    "joined": several(lambda d, r: b"".join(
        part(d, r[i][0], r[min(i + 1, len(r) - 1)][1]) for i in range(0, len(r), 2)) + END),
    "no-crlf": several(lambda d, r: (parts(d, r) + END)[2:-2]),
    "padded": several(lambda d, r: (parts(d, r) + END).replace(b"--XYZ\r", b"--XYZ \t\r")),
    "quoted": several(lambda d, r: parts(d, r) + END,
                      'Multipart/ByteRanges; x="a;boundary=b"; Boundary="XYZ"'),
    "fields": with_first(lambda d, a, b: part(d, a, b, first="X-Y: bytes 0-1/2\r\n" * 20)),
    # what it may not
    "other": with_first(lambda d, a, b: part(d, a + 1, b + 1)),
    "shorter": with_first(lambda d, a, b: part(d, a, b - 1)),
    "longer": with_first(lambda d, a, b: part(d, a, b + 1)),
    "short-body": with_first(lambda d, a, b: part(d, a, b)[:-1]),
    "long-body": with_first(lambda d, a, b: part(d, a, b) + b"x"),
    "twice": several(lambda d, r: parts(d, [r[0], *r]) + END),
    "missing": several(lambda d, r: parts(d, r[1:]) + END),
    "none": several(lambda d, r: END),
    "empty": several(lambda d, r: b""),
    "open": several(lambda d, r: parts(d, r)),
    "behind": several(lambda d, r: parts(d, r) + END + b"x"),
    "before": several(lambda d, r: b"preamble" + parts(d, r) + END),
    "boundary": several(lambda d, r: parts(d, r) + END, "multipart/byteranges; boundary=XY"),
    "no-boundary": several(lambda d, r: parts(d, r) + END, "multipart/byteranges"),
    "two-boundaries": several(lambda d, r: parts(d, r) + END,
                              TYPE + "; boundary=XYZ"),
    "mixed": several(lambda d, r: parts(d, r) + END, "multipart/mixed; boundary=XYZ"),
    "lf": several(lambda d, r: (parts(d, r) + END).replace(b"XYZ\r\n", b"XYZ\n")),
    "no-range": with_first(lambda d, a, b: part(d, a, b, field="X")),
    "two-ranges": with_first(lambda d, a, b: part(
        d, a, b, first=f"Content-Range: bytes {a}-{b}/{len(d)}\r\n")),
    "folded": with_first(lambda d, a, b: part(d, a, b, first=" folded\r\n")),
    "no-total": several(lambda d, r: (parts(d, r) + END).replace(b"/%d\r" % len(d), b"/*\r")),
    "long-line": with_first(lambda d, a, b: part(d, a, b, first="X: " + "y" * 600 + "\r\n")),
    "long-head": with_first(lambda d, a, b: part(d, a, b, first="X: yyyyyyyy\r\n" * 400)),
    "endless-head": with_first(lambda d, a, b: b"\r\n--XYZ\r\n" + b"x" * (4 << 20)),
    "whole": several(lambda d, r: part(d, 0, len(d) - 1) + END),
    # another version, or nothing for a while
    "other-total": several(lambda d, r: parts(d, r[:-1]) +
                           part(d, *r[-1], total=len(d) + 1) + END),
    "changed": several(lambda d, r: parts(flip(d), r) + END, changed=True),
    "changed-200": lambda self, data, headers, ranges: self.reply(
        200, flip(data), {**headers, "ETag": '"two"'}),
    "412": status(412),
    "coded": lambda self, data, headers, ranges: honest(
        self, data, {**headers, "Content-Encoding": "gzip"}, ranges),
    "cut": several(lambda d, r: parts(d, r) + END, limit=9000),
    "stall": several(lambda d, r: parts(d, r) + END, limit=-9000),
    "403": status(403),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "liar"

    def log_message(self, *a):
        pass

    def end_now(self):
        self.close_connection = True

    def do_GET(self):
        mode, _, name = self.path.lstrip("/").partition("/")
        if mode == "count":
            with lock:
                n, several = counts.get("/" + name, 0), counts.get(name, 0)
            return self.reply(200, b"%d %d" % (n, several), {})
        with lock:
            n = counts[self.path] = counts.get(self.path, 0) + 1
            if "," in self.headers.get("Range", ""):
                counts[self.path[1:]] = counts.get(self.path[1:], 0) + 1
        if mode.isdigit():
            return self.reply(int(mode), b"no\n",
                              {"Retry-After": "1"} if mode in ("429", "503") else {})
        if mode == "redirect-in":
            return self.reply(302, b"", {"Location": "/ok/" + name})
        if mode == "redirect-out":
            return self.reply(302, b"", {"Location": "http://127.0.0.1:9/ok/x"})
        if mode == "redirect-loop":
            return self.reply(302, b"", {"Location": self.path})
        if mode == "busy" and n <= 2:
            return self.reply(503, b"later\n", {"Retry-After": "1"})
        if mode == "stall-first":
            time.sleep(30)
            return self.end_now()
        try:
            with open(os.path.join(ROOT, name), "rb") as f:
                data = f.read()
        except OSError:
            return self.reply(404, b"none\n", {})
        etag = '"one"'
        if mode == "changed" and n > 1:
            data = bytes(b ^ 0xff for b in data)
            etag = '"two"'
        headers = {"Accept-Ranges": "bytes"}
        if mode == "weak":
            headers["ETag"] = 'W/"one"'
        elif mode != "unpinned":
            headers["ETag"] = etag
        if mode != "unpinned":
            headers["Last-Modified"] = "Sat, 01 Aug 2026 10:00:00 GMT"
        if mode == "coded":
            headers["Content-Encoding"] = "gzip"
        if mode == "headers":
            headers.update({f"X-{i}": "x" * 1000 for i in range(100)})
        total = len(data)
        spec = self.headers.get("Range", "")
        if not spec.startswith("bytes=") or mode in ("noranges", "chunked") or \
                (mode == "200-later" and n > 1):
            return self.reply(200, data, headers, chunked=mode == "chunked")
        if "," in spec:
            several = PARTS.get(mode[6:], honest) if mode.startswith("parts-") else honest
            return several(self, data, headers, [
                tuple(map(int, r.split("-"))) for r in spec[6:].split(",")])
        a, _, b = spec[6:].partition("-")
        is_suffix = not a
        if is_suffix:
            a, b = max(0, total - int(b)), ""
        if is_suffix and mode == "no-suffix":
            return self.reply(416, b"", {"Content-Range": f"bytes */{total}"})
        if is_suffix and mode == "other-suffix":
            data = bytes(x ^ 0xff for x in data)
            headers["ETag"] = '"two"'
        a, b = int(a), min(int(b) if b else total - 1, total - 1)
        if a >= total:
            return self.reply(416, b"", {"Content-Range": f"bytes */{total}"})
        body = data[a:b + 1]
        if mode == "wrong-range" and n > 1:
            a, b = a + 1, b + 1
        if mode == "wrong-total" and n > 1:
            total += 1
        headers["Content-Range"] = f"bytes {a}-{b}/{total}"
        limit = None
        if mode == "short" or is_suffix and mode == "short-suffix":
            limit = len(body) // 2
        if is_suffix and mode == "stall-suffix":
            limit = -1000
        if mode == "drops" and len(body) > 600 << 10:
            limit = 600 << 10
        if mode == "stall" and n > 1:
            limit = -1000
        if mode == "reset" and n > 1:
            limit = len(body) // 2
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack("ii", 1, 0))
        self.reply(206, body + (b"xx" if mode == "long" else b""), headers,
                   limit=limit)

    def do_HEAD(self):
        self.reply(405, b"", {})

    def reply(self, code, body, headers, chunked=False, limit=None):
        try:
            self.send_response(code)
            for k, v in headers.items():
                self.send_header(k, v)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for i in range(0, len(body), 50000):
                    c = body[i:i + 50000]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(c), c))
                self.wfile.write(b"0\r\n\r\n")
                return
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if limit is None:
                self.wfile.write(body)
                return
            self.wfile.write(body[:abs(limit)])
            self.wfile.flush()
            if limit < 0:
                time.sleep(30)
            self.end_now()
        except OSError:
            self.end_now()



class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a reader that hangs up is what most modes are for


server = Server(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
