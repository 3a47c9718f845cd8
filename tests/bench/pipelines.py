# SPDX-License-Identifier: Apache-2.0
"""What serves a disk out of an image behind a web server: platter, and what a user
would run instead.

A pipeline: `name` is who and of what, `file` of make_data; `procs` are started one
after the other, each when the one before is `ready` (pid:FILE or tcp:PORT);
`target` is what rbench reads.  In all of it {url} is the file's address, {quiet}
the same without a log, {base} the web server's, {port} a free port, {tmp} a folder
that is removed afterwards.

Over NBD a peer tells a hole and sends none of it; over HTTP all zeros are sent."""
from field import *

NBDKIT, QEMU = "nbd+unix:///?socket={tmp}/n", "nbd+unix:///?socket={tmp}/q"


def nbdkit(*args):
    return {"argv": ["nbdkit", "-f", "-r", "-P", "{tmp}/n.pid", "-U", "{tmp}/n", *args], "ready": "pid:{tmp}/n.pid"}


def qemu_nbd(*args):
    return {"argv": ["qemu-nbd", "-r", "-t", "-e", "16", "-k", "{tmp}/q", "--pid-file", "{tmp}/q.pid", *args],
            "ready": "pid:{tmp}/q.pid"}


def qemu(what, form):
    """QEMU's own http driver.  It stalls for good under several connections, so it
    gets one; with compressed qcow2 it stalls all the same, now and then."""
    return {"name": "QEMU " + what, "file": FORMATS[what], "target": QEMU, "client": ["-n", "1"],
            "procs": [qemu_nbd("--image-opts", f"driver={form},file.driver=http,file.url={{url}},file.timeout=60")]}


def in_tar(what, member, *filters):
    return nbdkit(*filters, "curl", "url={url}", "tar-entry=" + member)


def then_served(command):
    """A shell command that leaves {tmp}/disk.raw, and nbdkit over it."""
    return {"argv": ["sh", "-c", command + " && exec nbdkit -f -r -P {tmp}/n.pid -U {tmp}/n file {tmp}/disk.raw"],
            "ready": "pid:{tmp}/n.pid"}


def platter(what, label="", cache=CACHE, file=None, flags=()):
    return {"name": f"platter {what}{label}", "file": file or FORMATS[what], "cache": cache,
            "target": "http://127.0.0.1:{port}/disk/web/" + (file or FORMATS[what]),
            "procs": [{"argv": [BIN + "/platterd", "--listen", "127.0.0.1:{port}", "--origin", "web={base}",
                                "--cache-size", str(cache), "--revalidate", "600", "--log-level", "warn", *flags],
                       "ready": "tcp:{port}"}]}


# The peers, in the order of FORMATS.  "curl | tar" unpacks, then serves what it has.
PEERS = [
    {"name": "nginx raw", "file": "disk.raw", "procs": [], "target": "{quiet}"},
    {"name": "nbdkit raw", "file": "disk.raw", "procs": [nbdkit("curl", "url={url}")], "target": NBDKIT},
    qemu("qcow2", "qcow2"), qemu("qcow2 zlib", "qcow2"), qemu("qcow2 zstd", "qcow2"),
    qemu("vmdk sparse", "vmdk"), qemu("vmdk stream", "vmdk"),
    {"name": "QEMU OVA", "file": "disk.ova", "target": QEMU, "client": ["-n", "1"],
     "procs": [in_tar("OVA", "disk-1.vmdk", "--filter=tar"), qemu_nbd("-f", "vmdk", NBDKIT)]},
    {"name": "QEMU box", "file": "vagrant.box", "target": QEMU, "client": ["-n", "1"],
     "procs": [in_tar("box", "box.img", "--filter=tar", "--filter=gzip"), qemu_nbd("-f", "qcow2", NBDKIT)]},
    {"name": "nbdkit raw.tar.gz", "file": "raw.tar.gz", "target": NBDKIT,
     "procs": [in_tar("raw.tar.gz", "disk.raw", "--filter=tar", "--filter=gzip")]},
    {"name": "curl|tar GCE", "file": "gce.tar.gz", "target": NBDKIT,
     "procs": [then_served("curl -sf {url} | tar -xzSf - -C {tmp} disk.raw")]},
]
PLATTER = [platter(what) for what in FORMATS]
# A cache that holds a tenth of the disk: what is read has to be fetched and
# decoded again and again.
TENTH = [platter(what, ", a tenth in cache", cache=SIZE // 10) for what in ("qcow2 zlib", "vmdk stream", "OVA")]
