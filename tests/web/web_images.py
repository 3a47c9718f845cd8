# SPDX-License-Identifier: Apache-2.0
"""Images for the web page: one of each kind that it has a picture or a word for, and
those that are meant to hurt it.  Made by the tools of users, but for one that no tool
makes in seconds."""
import array, os, struct, subprocess, tarfile
from live import case, json, random, sh, tmp

www = tmp + "/www"
os.makedirs(www + "/more/deeper")
os.makedirs(www + "/empty")
MIB = 1 << 20

# What a page must show as text, whatever it looks like.  A file name has no slash.
HOSTILE = {
    "markup": "<img src=x onerror=alert(1)>.raw",
    "script": "<script>document.title='owned'<%2Fscript>.raw".replace("%2F", "\u2215"),
    "quotes": "it's \"quoted\" & `so` ${on} {{too}}.raw",
    "percent": "100%25 #1 ?member=x;y=z +.raw",
    "rtl": "\u05d3\u05d9\u05e1\u05e7 \u0635\u0648\u0631\u0629 \u202egpj.raw",
    "long": "a-name-that-does-not-end-" * 9 + ".raw",
    "wide": "\u78c1\u76d8\u955c\u50cf \U0001f4be.raw",
}
SNAPSHOTS = ["before", "<b onmouseover=alert(1)>after</b>"]
LABELS = ["boot", "<i>root</i>\"'"]  # of ext4: 16 bytes at most
PASS = "correct horse"


def run(commands):
    sh("set -e; " + commands, cwd=www)


def gpt_disk(name):
    """256 MiB, GPT, two ext4 with labels, most of it holes."""
    run(f"""truncate -s 256M {name}
printf 'label: gpt\\nsize=48MiB, name="EFI <b>&amp;</b>"\\nname="root"\\n' | sfdisk -q {name}
mkdir -p files; cp -r /etc/pam.d /usr/bin/tar files/""")
    with open(f"{www}/files/random", "wb") as f:
        f.write(random.randbytes(24 * MIB))
    for i, (label, at, size) in enumerate(zip(LABELS, (1, 49), (48, 200))):
        sh(["mke2fs", "-q", "-F", "-t", "ext4", "-L", label, *(["-d", "files"] if i else []),
            "-E", f"offset={at * MIB}", name, f"{size}M"], cwd=www)
    run("rm -r files")


def gce():
    gpt_disk("disk.raw")
    run("tar --format=oldgnu -Sczf gce.tar.gz disk.raw")


def chain():
    """base <- mid <- top, snapshots in top; and one that is compressed."""
    run("""qemu-img convert -O qcow2 disk.raw base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2
qemu-io -c 'write -P 1 20M 3M' -c 'write -z 60M 8M' mid.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2
qemu-io -c 'write -P 2 30M 1M' top.qcow2 >/dev/null""")
    for i, name in enumerate(SNAPSHOTS):
        sh(["qemu-img", "snapshot", "-c", name, "top.qcow2"], cwd=www)
        run(f"qemu-io -c 'write -P {i + 3} {90 + i}M 1M' top.qcow2 >/dev/null")
    run("""qemu-img convert -c -O qcow2 disk.raw compressed.qcow2
cp base.qcow2 more/ok.qcow2""")


def ova():
    run("qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw box.vmdk")
    size = os.path.getsize(www + "/box.vmdk")
    with open(www + "/box.ovf", "w") as f:
        f.write(f"""<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:id="f1" ovf:href="box.vmdk" ovf:size="{size}"/></References>
<DiskSection><Info/><Disk ovf:capacity="{256 * MIB}" ovf:diskId="d" ovf:fileRef="f1"
 ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
</DiskSection></Envelope>""")
    run("tar --format=ustar -cf box.ova box.ovf box.vmdk; rm box.ovf box.vmdk")


def archives():
    """Several disks in one file: 300.  Names of members are whatever somebody likes."""
    with open(www + "/one.raw", "wb") as f:
        f.write(random.randbytes(MIB) + bytes(MIB))
    # Nothing of it is anywhere else: a mirror of it has to fetch all.
    with open(www + "/slow.raw", "wb") as f:
        f.write(random.randbytes(48 * MIB))
    with tarfile.open(www + "/two.tar", "w", format=tarfile.PAX_FORMAT) as t:
        for name in ("one.raw", "two.raw"):
            t.add(www + "/one.raw", arcname=name)
    with tarfile.open(www + "/hostile.tar", "w", format=tarfile.PAX_FORMAT) as t:
        for name in HOSTILE.values():
            t.add(www + "/one.raw", arcname=name)
    with open(www + "/odd.raw", "wb") as f:  # no multiple of a sector
        f.write(random.randbytes(MIB + 777))
    for name in HOSTILE.values():
        os.link(www + "/one.raw", f"{www}/{name}")


def broken():
    # check has something to tell of the first; the second cannot be opened at all.
    run("qemu-img convert -O qcow2 one.raw corrupt.qcow2; cp corrupt.qcow2 broken.qcow2")
    with open(www + "/corrupt.qcow2", "r+b") as f:
        head = f.read(104)
        table = struct.unpack_from(">Q", head, 48)[0]
        f.seek(table)
        block = struct.unpack(">Q", f.read(8))[0]
        f.seek(block + 2 * 5)
        f.write(struct.pack(">4H", 0, 7, 0, 9))  # refcounts of clusters 5 to 8
    with open(www + "/broken.qcow2", "r+b") as f:
        f.seek(36)
        f.write(struct.pack(">I", 1 << 30))  # entries of the L1 table
    # What policy refuses.
    run("qemu-img create -q -u -f qcow2 -b /etc/hostname -F raw away.qcow2 1M")


def encrypted():
    """The key's cost is made small; on a busy machine QEMU cannot tell how long its
    rounds take, and gives up."""
    with open(tmp + "/disk.key", "w") as f:
        f.write(PASS)
    run(f"""for i in {{1..40}}; do
qemu-img create -q -f qcow2 --object secret,id=s,file={tmp}/disk.key \\
  -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 luks.qcow2 8M && break
sleep 0.5
done
test -s luks.qcow2
qemu-io --object secret,id=s,file={tmp}/disk.key -c 'write -P 5 1M 1M' \\
  --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2 >/dev/null""")


def million(path, clusters=1 << 20):
    """A qcow2 of 512-byte clusters that are data and, in turn, a hole or zeros: as many
    extents as clusters.  From docs/interop/qcow2.txt; the data is left to the file's
    own holes."""
    size = 512
    n_l2 = clusters * 8 // size
    l1_at, l2_at = 1, 1 + n_l2 * 8 // size
    data_at = l2_at + n_l2
    blocks = 1
    while True:  # refcount blocks count themselves and their table
        table = -(-blocks * 8 // size)
        total = data_at + clusters // 2 + table + blocks
        if blocks * (size // 2) >= total:
            break
        blocks = -(-total // (size // 2))
    table_at = data_at + clusters // 2
    blocks_at = table_at + table

    def be64(values):
        a = array.array("Q", values)
        a.byteswap()
        return a.tobytes()

    copied = 1 << 63
    l2 = array.array("Q", bytes(8 * clusters))
    l2[0::2] = array.array("Q", (copied | (data_at + i) * size for i in range(clusters // 2)))
    l2[3::4] = array.array("Q", [1]) * (clusters // 4)  # reads as zeros
    with open(path, "wb") as f:
        f.write(struct.pack(">IIQIIQIIQQIIQQQQII", 0x514649fb, 3, 0, 0, 9, clusters * size, 0,
                            n_l2, l1_at * size, table_at * size, table, 0, 0, 0, 0, 0, 4, 104))
        f.seek(l1_at * size)
        f.write(be64(copied | (l2_at + i) * size for i in range(n_l2)))
        f.seek(l2_at * size)
        f.write(be64(l2))
        f.seek(table_at * size)
        f.write(be64((blocks_at + i) * size for i in range(blocks)))
        f.seek(blocks_at * size)
        f.write(struct.pack(">H", 1) * total)
        f.truncate((blocks_at + blocks) * size)


def make():
    gce()
    chain()
    ova()
    archives()
    broken()
    encrypted()
    million(www + "/million.qcow2")
    # Nothing of the bed is a disk, for the list of a folder.
    with open(www + "/notes.txt", "w") as f:
        f.write("not an image\n")
    with open(www + "/.hidden.raw", "wb") as f:
        f.write(bytes(512))


@case("the bed's images are what they are meant to be, by qemu-img's own word")
def as_meant():
    def check(name):
        r = subprocess.run(["qemu-img", "check", "--output=json", name], cwd=www,
                           capture_output=True)
        return r.returncode, json.loads(r.stdout)

    code, doc = check("million.qcow2")
    assert code == 0 and doc["allocated-clusters"] == 1 << 19, doc
    code, doc = check("corrupt.qcow2")
    assert code == 2 and doc["corruptions"] and doc["leaks"], doc
    assert check("top.qcow2")[0] == 0
    info = json.loads(sh("qemu-img info --output=json top.qcow2", cwd=www))
    assert [s["name"] for s in info["snapshots"]] == SNAPSHOTS, info
    assert json.loads(sh("qemu-img info --output=json luks.qcow2", cwd=www))["encrypted"]
