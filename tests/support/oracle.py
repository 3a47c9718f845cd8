# SPDX-License-Identifier: Apache-2.0
"""Our answers against those of QEMU's tools."""
from live import *


def same_disk(server, url, path, n=4, whole=64 << 20):
    """Random spans of a disk, cold and warm, and all of it when it is not large,
    equal the file at path."""
    size = os.path.getsize(path)
    for _ in ("cold", "warm"):
        for off, length in slices(size, n):
            assert server.range(url, off, length) == part(path, off, length), \
                (url, off, length)
    if size <= whole:
        body = server.get(url).body
        assert hashlib.sha256(body).digest() == \
            hashlib.sha256(open(path, "rb").read()).digest(), url


def same_map(ours, theirs):
    """Rows of `platter map --json` and of `qemu-img map --output=json`.  Before
    QEMU 8.2 the tool did not say what is compressed, and joined what it does not
    tell apart."""
    theirs = [{k: v for k, v in r.items() if k != "filename"} for r in theirs]
    if theirs and "compressed" not in theirs[0]:
        joined = []
        for r in ours:
            r = {k: v for k, v in r.items() if k != "compressed"}
            last = joined[-1] if joined else None
            if last and "offset" not in last and "offset" not in r and all(
                    last[k] == r[k] for k in ("depth", "present", "zero", "data")):
                last["length"] += r["length"]
            else:
                joined.append(r)
        ours = joined
    assert ours == theirs, \
        next((a, b) for a, b in zip(ours + [0], theirs + [0]) if a != b)
