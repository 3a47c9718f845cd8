#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Caches of others between clients and platterd: a real nginx and a real Varnish,
with no more configuration than where to ask.  What a cache has, the gateway is
not asked for again; and what comes through is the image, byte by byte."""
import sys, os, base64
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from live import *

GROUP = 1 << 20
www = tmp + "/www"
os.makedirs(www)
SIZE = 5 * GROUP + 700 * 1024  # the last block is shorter
rnd = random.Random(5)
with open(www + "/disk.raw", "wb") as f:
    for g in range(6):  # the third is of zeros
        f.write(bytes(min(GROUP, SIZE - g * GROUP)) if g == 2 else rnd.randbytes(min(GROUP, SIZE - g * GROUP)))
sh(f"qemu-img convert -c -O qcow2 {www}/disk.raw {www}/disk.qcow2")
RAW = open(www + "/disk.raw", "rb").read()
gateway = Platterd({"pub": www})


class Cache:
    """A program on 127.0.0.1 that asks the gateway for what it has not."""

    def __init__(self, argv, port):
        self.port, self.err = port, tempfile.NamedTemporaryFile(dir=tmp, delete=False)
        self.proc = subprocess.Popen(argv, stdout=self.err, stderr=self.err)
        try:
            wait_port(port, 30)
        except OSError:
            raise AssertionError(open(self.err.name).read()[-2000:])

    def get(self, path, headers=None, method="GET"):
        return Platterd.get(self, path, headers, method)

    def stop(self):
        self.proc.terminate()
        self.proc.wait(20)


def nginx_cache(location):
    """location: what stands beside proxy_pass."""
    folder, port = tempfile.mkdtemp(dir=tmp), free_port()
    with open(folder + "/conf", "w") as f:
        f.write(f"""{"user root;" if os.getuid() == 0 else ""} worker_processes 1; daemon off; pid {folder}/pid;
error_log {folder}/err; events {{ worker_connections 512; }}
http {{ access_log off; proxy_cache_path {folder}/cache keys_zone=c:1m;
client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{gateway.port}; {location} }} }} }}""")
    return Cache(["nginx", "-e", folder + "/err", "-c", folder + "/conf"], port)


def varnish():
    folder, port = tempfile.mkdtemp(dir=tmp), free_port()
    argv = ["varnishd", "-F", "-n", folder, "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{gateway.port}",
            "-s", "malloc,64m", "-T", "none"]
    if os.getuid() == 0:  # it would become another user, who may not enter our folder
        argv[1:1] = ["-j", "none"]
    return Cache(argv, port)


def asked(route):
    """Requests that the gateway has answered on a route so far; one is counted when
    its connection is through with it, a moment after the client."""
    time.sleep(0.2)
    rows = re.findall(rf'^platter_requests_total{{route="{route}",status="\d+"}} (\d+)$',
                      gateway.get("/metrics").body.decode(), re.M)
    return sum(map(int, rows))


def blocks_through(cache):
    """Each block twice: all of them once from the gateway."""
    root = json.loads(gateway.get("/v1/manifest/pub/disk.qcow2").body)["root"]
    n = -(-SIZE // GROUP)
    before = asked("blocks")
    for edge in ("the first edge", "the second edge"):
        for i in range(n):
            r = cache.get(f"/v1/blocks/{root}/{i}")
            want = RAW[i * GROUP:(i + 1) * GROUP]
            assert r.status == 200 and r.body == want, (edge, i, r.status, len(r.body))
            assert "immutable" in r.getheader("Cache-Control"), r.headers
            assert re.fullmatch(r'"[^"]+"', r.getheader("ETag")), r.headers
            digest = base64.b64encode(hashlib.sha256(want).digest()).decode()
            assert r.getheader("Content-Digest") == f"sha-256=:{digest}:", r.headers
        assert asked("blocks") - before == n, (edge, asked("blocks") - before)
    # Of a block that the cache has a range, too, costs nothing.
    r = cache.get(f"/v1/blocks/{root}/0", {"Range": "bytes=4096-8191"})
    assert r.status == 206 and r.body == RAW[4096:8192], (r.status, len(r.body))
    assert asked("blocks") - before == n
    # That there is none is not kept: it may be there the next time.
    for _ in range(2):
        assert cache.get(f"/v1/blocks/{root}/{n}").status == 404
    assert asked("blocks") - before == n + 2


@case("nginx with proxy_cache: the second edge's blocks cost the upstream nothing")
def nginx_blocks():
    cache = nginx_cache("proxy_cache c;")
    try:
        blocks_through(cache)
    finally:
        cache.stop()


@case("Varnish as it comes: the second edge's blocks cost the upstream nothing")
def varnish_blocks():
    cache = varnish()
    try:
        blocks_through(cache)
    finally:
        cache.stop()


# A disk may change: platterd says no-cache, so who wants its slices kept for a while
# must say so.  A slice of another version has another ETag, which nginx sees.
SLICES = """slice 1m; proxy_cache c; proxy_cache_lock on; proxy_cache_key $uri$is_args$args$slice_range;
proxy_set_header Range $slice_range; proxy_http_version 1.1; proxy_ignore_headers Cache-Control;
proxy_cache_valid 206 1h;"""


@case("nginx's slices in front of /disk: any range is right, and a second read costs nothing")
def slices_of_a_disk():
    cache = nginx_cache(SLICES)
    path = "/disk/pub/disk.qcow2"
    etag = gateway.get(path, method="HEAD").getheader("ETag")
    assert etag.startswith('"'), etag
    spans = slices(SIZE, 30) + [(GROUP - 1, 2), (2 * GROUP - 5000, GROUP + 10000), (0, SIZE)]
    try:
        for turn in ("first", "second"):
            before = asked("disk")
            for off, length in spans:
                r = cache.get(path, {"Range": f"bytes={off}-{off + length - 1}"})
                assert r.status == 206 and r.body == RAW[off:off + length], (off, length, r.status, len(r.body))
                assert r.getheader("ETag") == etag, r.headers
                assert r.getheader("Content-Range") == f"bytes {off}-{off + length - 1}/{SIZE}", r.headers
            assert asked("disk") - before == (-(-SIZE // GROUP) if turn == "first" else 0), (turn, asked("disk") - before)
        r = cache.get(path)
        assert r.status == 200 and r.body == RAW and r.getheader("ETag") == etag
        r = cache.get(path, {"If-Range": etag, "Range": "bytes=100-199"})
        assert r.status == 206 and r.body == RAW[100:200]
        r = cache.get(path, {"If-Range": '"another"', "Range": "bytes=100-199"})
        assert r.status == 200 and r.body == RAW, "a range of another version"
        assert cache.get(path, {"Range": f"bytes={SIZE}-"}).status == 416
    finally:
        cache.stop()


@case("slices of two versions are never put together")
def slices_of_two_versions():
    cache = nginx_cache(SLICES)
    name = "changing.raw"
    with open(f"{www}/{name}", "wb") as f:
        f.write(RAW)
    try:
        r = cache.get(f"/disk/pub/{name}", {"Range": "bytes=0-99"})
        assert r.status == 206 and r.body == RAW[:100]
        with open(f"{www}/new", "wb") as f:
            f.write(RAW[::-1])
        os.rename(f"{www}/new", f"{www}/{name}")
        end = time.time() + 20
        while gateway.range(f"/disk/pub/{name}", 0, 100) != RAW[::-1][:100]:
            assert time.time() < end
            time.sleep(0.2)
        try:
            r = cache.get(f"/disk/pub/{name}")
            assert r.body != RAW and (r.status != 200 or r.body == RAW[::-1]), (r.status, len(r.body))
        except (http.client.IncompleteRead, ConnectionError):
            pass  # broken off: an answer that nobody takes for the disk
    finally:
        cache.stop()


main()
