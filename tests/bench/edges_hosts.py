# SPDX-License-Identifier: Apache-2.0
"""What runs on the hosts of edges.py: web servers and caches as a site has them,
and the reads of a boot."""
from live import *

UPSTREAM, CACHE, FIRST_EDGE = 0, 1, 2
READ = 64 << 10


def boot_trace(path, n=40):
    """The first read, and n - 1 of 64 KiB where the disk has data: half of them in
    runs of four, as files are read, the rest anywhere; the same in each run."""
    rnd, size = random.Random(7), os.path.getsize(path)
    trace = [0]
    with open(path, "rb") as f:
        while len(trace) < n:
            off = rnd.randrange(size // READ - 4) * READ
            f.seek(off)
            if not f.read(READ).strip(b"\0"):
                continue
            trace += [off + i * READ for i in range(rnd.choice([1, 1, 1, 1, 4]))]
    return trace[:n]


def reads(base, path, trace, start, check=None):
    """A boot's reads over one connection: seconds since start of the first and of
    the last.  check: the file that has the right bytes."""
    host, port = re.match(r"http://([^:/]+):?(\d*)/", base).groups()
    c = http.client.HTTPConnection(host, int(port or 80), timeout=120)
    out = {}
    for off in trace:
        c.request("GET", path, headers={"Range": f"bytes={off}-{off + READ - 1}"})
        r = c.getresponse()
        data = r.read()
        assert r.status == 206 and len(data) == READ, (r.status, len(data), data[:200])
        if check:
            assert data == part(check, off, READ), f"a wrong byte in {off}+{READ}"
        out.setdefault("first", time.monotonic() - start)
    out["trace"] = time.monotonic() - start
    c.close()
    return out


def nginx_cache(upstream, slices=False):
    """A caching proxy as a site would have it; nothing in it knows of platter.
    proxy_cache_lock for slices alone: it puts answers that are not kept in a row,
    half a second each."""
    return f"""location / {{ proxy_pass {upstream}; proxy_http_version 1.1;
proxy_set_header Connection ""; proxy_cache c;
proxy_cache_valid 200 206 1h;
{'proxy_cache_lock on; slice 1m; proxy_cache_key $uri$is_args$args$slice_range; proxy_set_header Range $slice_range;' if slices else ''} }}"""


def await_port(star, host, proc, port=80):
    end = time.time() + 30
    while subprocess.run([*star.inside(host), "ss", "-Hltn", f"sport = :{port}"], capture_output=True).stdout == b"":
        assert time.time() < end and proc.poll() is None, "the server in the middle did not start"
        time.sleep(0.02)


class Web:
    """nginx on a host, port 80; self.log counts what it was asked."""

    def __init__(self, star, host, inside):
        self.dir = tempfile.mkdtemp(dir=tmp)
        self.log = self.dir + "/access.log"
        with open(self.dir + "/conf", "w") as f:
            f.write(f"""user root; worker_processes 1; daemon off; pid {self.dir}/pid; error_log {self.dir}/err;
events {{ worker_connections 4096; }}
http {{ access_log {self.log}; sendfile on; tcp_nodelay on; keepalive_requests 100000;
client_body_temp_path {self.dir}/t; proxy_temp_path {self.dir}/t; fastcgi_temp_path {self.dir}/t;
uwsgi_temp_path {self.dir}/t; scgi_temp_path {self.dir}/t;
proxy_cache_path {self.dir}/cache keys_zone=c:10m max_size=2g inactive=1h use_temp_path=off;
server {{ listen {star.address(host)}:80; {inside} }} }}""")
        self.proc = subprocess.Popen([*star.inside(host), "nginx", "-e", self.dir + "/err", "-c", self.dir + "/conf"])
        await_port(star, host, self.proc)

    def stop(self):
        self.proc.terminate()
        self.proc.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)


class Varnish:
    """Varnish on a host, with the VCL that it comes with."""

    def __init__(self, star, host, backend, port=80):
        self.dir = tempfile.mkdtemp(dir=tmp)
        self.proc = subprocess.Popen(
            [*star.inside(host), "varnishd", "-j", "none", "-F", "-n", self.dir, "-a", f"{star.address(host)}:{port}", "-b",
             backend, "-s", "malloc,1g", "-T", "none"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        await_port(star, host, self.proc, port)

    def stop(self):
        self.proc.terminate()
        self.proc.wait(20)
        shutil.rmtree(self.dir, ignore_errors=True)
