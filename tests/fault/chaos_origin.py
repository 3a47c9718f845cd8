#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An origin that does something else wrong each time: files of a folder, and with
the rate (of a thousand) in a second file, read at each request, one of the faults
below.  Counts go to a third file.  Prints its port on the first line.

    chaos_origin.py FOLDER RATE_FILE COUNTS_FILE SEED"""
import json, os, random, socket, struct, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT, RATE, COUNTS = sys.argv[1:4]
rng, lock, counts = random.Random(int(sys.argv[4])), threading.Lock(), {}
FAULTS = ("stall", "slow", "reset", "reset-body", "short", "long", "wrong-range",
          "wrong-total", "wrong-length", "200-for-206", "chunked", "coded", "429", "503",
          "500", "404", "changed-tag", "redirect-out", "garbage", "no-answer")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def fault(self):
        try:
            rate = int(open(RATE).read() or 0)
        except (OSError, ValueError):
            rate = 0
        with lock:
            if rng.randrange(1000) >= rate:
                return None
            what = rng.choice(FAULTS)
            counts[what] = counts.get(what, 0) + 1
            with open(COUNTS + ".new", "w") as f:
                json.dump(counts, f)
            os.rename(COUNTS + ".new", COUNTS)
            return what

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                   struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def head(self, code, headers):
        self.send_response(code)
        for k, v in headers.items():
            self.send_header(k, v)
        self.end_headers()

    def do_GET(self):
        try:
            self.answer(self.fault())
        except (OSError, ValueError):
            self.close_connection = True

    def answer(self, fault):
        path = os.path.join(ROOT, self.path.split("?")[0].lstrip("/"))
        if fault in ("429", "503", "500", "404"):
            return self.head(int(fault), {"Retry-After": "1", "Content-Length": "0"})
        if fault == "redirect-out":
            return self.head(302, {"Location": "http://127.0.0.1:9/x", "Content-Length": "0"})
        if fault == "reset":
            return self.reset()
        if fault == "no-answer":
            self.close_connection = True
            return
        if fault == "garbage":
            self.wfile.write(os.urandom(300))
            self.close_connection = True
            return
        if fault == "stall":
            time.sleep(6)
        try:
            with open(path, "rb") as f:
                sb, data = os.fstat(f.fileno()), f.read()
        except OSError:
            return self.head(404, {"Content-Length": "0"})
        tag = '"%x-%x"' % (sb.st_mtime_ns, sb.st_size)
        headers = {"Accept-Ranges": "bytes",
                   "ETag": '"other"' if fault == "changed-tag" else tag}
        spec = self.headers.get("Range", "")
        if fault == "coded":
            headers["Content-Encoding"] = "gzip"
        total, code, body = len(data), 200, data
        if self.headers.get("If-Match") not in (None, tag):
            return self.head(412, {"Content-Length": "0"})
        if spec.startswith("bytes=") and fault != "200-for-206":
            a, _, b = spec[6:].partition("-")
            if not a:
                a, b = str(max(0, total - int(b))), ""
            a, b = int(a), min(int(b) if b else total - 1, total - 1)
            if a >= total:
                return self.head(416, {"Content-Range": f"bytes */{total}",
                                       "Content-Length": "0"})
            body, code = data[a:b + 1], 206
            if fault == "wrong-range":
                a, b = a + 4096, b + 4096
            headers["Content-Range"] = \
                f"bytes {a}-{b}/{total + 1 if fault == 'wrong-total' else total}"
        if fault == "chunked":
            self.head(code, {**headers, "Transfer-Encoding": "chunked"})
            for i in range(0, len(body), 60000):
                c = body[i:i + 60000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(c), c))
            return self.wfile.write(b"0\r\n\r\n")
        length = len(body)
        if fault == "wrong-length":
            length += 7
        if fault == "long":
            body += b"xx"
        self.head(code, {**headers, "Content-Length": str(length)})
        if fault == "slow":
            for i in range(0, len(body), 16384):
                self.wfile.write(body[i:i + 16384])
                time.sleep(0.02)
            return
        if fault in ("short", "reset-body"):
            self.wfile.write(body[:len(body) // 2])
            self.wfile.flush()
            if fault == "reset-body":
                return self.reset()
            self.close_connection = True
            return
        self.wfile.write(body)
        if fault in ("wrong-length", "long"):
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
