#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: every #include of core, plugins and gateway.

The table is the architecture.  Standard headers (and those of the kernel) are
free to everyone; a third-party header stands only where its row names it; a
header of ours only where the arrow allows.  File names are unique in the tree.
"""
import re
import sys
from pathlib import Path

STD = re.compile(
    r"<((assert|ctype|dirent|dlfcn|errno|fcntl|float|getopt|inttypes|limits|"
    r"locale|malloc|math|netdb|pthread|poll|sched|semaphore|signal|stdarg|stdatomic|"
    r"stdbool|stddef|stdint|stdio|stdlib|string|strings|syslog|time|unistd)"
    r"|(sys|net|netinet|arpa|linux)/[a-z0-9_]+)\.h>")

# folder: (first parts of our own headers, third-party headers)
CORE = {
    "core/util": (["util"], []),
    "core/abi": ([], []),
    "core/sched": (["sched", "util"], []),
    "core/cache": (["cache", "sched", "util"], ["libdeflate.h"]),
    "core/stack": (["stack", "cache", "sched", "util"],
                   ["jansson.h", "openssl/"]),
    "core/manifest": (["manifest", "stack", "cache", "sched", "util"],
                      ["jansson.h", "openssl/", "zstd.h"]),
    "core/store": (["store", "sched", "util"], ["openssl/", "zstd.h"]),
    "core/mirror": (["mirror", "manifest", "store", "stack", "cache", "sched",
                     "util"], ["jansson.h", "openssl/"]),
    "core/cli": (["cli", "manifest", "stack", "cache", "util"], ["jansson.h", "curl/", "openssl/"]),
    "gateway": (["mirror", "manifest", "store", "stack", "cache", "sched",
                 "util"],
                ["microhttpd.h", "gnutls/", "seccomp.h", "jansson.h", "openssl/"]),
}
NO_ABI = {"core/util", "core/sched"}
PLUGIN = {
    "curl": ["curl/"],
    "gzip": ["zlib.h", "libdeflate.h", "isa-l/", "isa-l.h"],
    "partition": ["libdeflate.h"],
    "qcow2": ["zlib.h", "zstd.h", "libdeflate.h", "openssl/"],
    "tar": ["libxml/", "openssl/"],
    "vmdk": ["zlib.h", "libdeflate.h"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"][^>"]+[>"])', re.M)


def third_party_ok(name, allowed):
    return any(name == a or (a.endswith("/") and name.startswith(a))
               for a in allowed)


def allowed(root, path, target):
    folder = str(path.relative_to(root).parent)
    name = target[1:-1]
    is_angle = target[0] == "<"
    if is_angle and STD.fullmatch(target):
        return True
    if folder.startswith("core/abi"):
        return is_angle and name.startswith("platter/")
    if folder.startswith("plugins/"):
        if is_angle:
            return name.startswith("platter/") or third_party_ok(
                name, PLUGIN.get(path.parent.name, []))
        # a header of the plugin's own folder
        return "/" not in name and (path.parent / name).is_file()
    if folder not in CORE:
        return False
    ours, third = CORE[folder]
    if is_angle:
        if name.startswith("platter/"):
            return folder not in NO_ABI
        return third_party_ok(name, third)
    if folder == "gateway" and "/" not in name:
        return (path.parent / name).is_file()
    first, slash, rest = name.partition("/")
    return bool(slash) and "/" not in rest and first in ours and \
        (root / "core" / name).is_file()


def main():
    root = Path(sys.argv[1])
    files = sorted(p for top in ("core", "plugins", "gateway")
                   for p in (root / top).rglob("*.[ch]"))
    wrong, seen, n = [], {}, 0
    for path in files:
        where = path.relative_to(root)
        if path.name in seen:
            wrong.append(f"{where}: a second {path.name}, after "
                         f"{seen[path.name]}")
        seen[path.name] = where
        text = path.read_text(encoding="utf-8")
        for match in INCLUDE.finditer(text):
            n += 1
            if not allowed(root, path, match.group(1)):
                line = text.count("\n", 0, match.start(1)) + 1
                wrong.append(f"{where}:{line}: may not include "
                             f"{match.group(1)}")
    print("\n".join(wrong))
    print(f"{len(files)} files, {n} includes, {len(wrong)} wrong")
    # An empty tree proves nothing.
    return 1 if wrong or len(files) < 20 or n < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
