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
  /redirect-in/F   to /ok/F;  /redirect-out/F  to another port;  /redirect-loop/F
Without If-Match being honoured: a server may ignore it, and the reader must see
for itself.  Prints its port on the first line."""
import os, socket, struct, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = sys.argv[1]
counts, lock = {}, threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "liar"

    def log_message(self, *a):
        pass

    def end_now(self):
        self.close_connection = True

    def do_GET(self):
        mode, _, name = self.path.lstrip("/").partition("/")
        with lock:
            n = counts[self.path] = counts.get(self.path, 0) + 1
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
