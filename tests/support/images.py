# SPDX-License-Identifier: Apache-2.0
"""Images, made by the tools that users make them with; what no tool makes is
written here from its specification."""
import os, random, struct, zlib, tarfile
from live import sh, tmp


def guest_disk(path, mib=24, seed=5):
    """A DOS partition with an ext4 of real files, random spots, holes."""
    rnd = random.Random(seed)
    src = path + ".files"
    os.makedirs(src, exist_ok=True)
    sh(f"cp -r /etc/ssl /etc/pam.d /usr/bin/gzip /usr/bin/tar {src}/ 2>/dev/null; true")
    sh(f"truncate -s {mib}M {path}; printf 'label: dos\\nstart=2048, type=83\\n'"
       f" | sfdisk -q {path}")
    sh(f"mke2fs -q -F -t ext4 -b 4096 -d {src} -E offset=1048576 {path} {mib // 2}M; "
       f"rm -rf {src}")
    with open(path, "r+b") as f:
        for _ in range(60):
            f.seek(rnd.randrange(mib // 2 << 20, (mib << 20) - 70000) // 512 * 512)
            f.write(rnd.randbytes(rnd.choice([512, 4096, 60000])))


def sparse_disk(path, size, spots):
    """A disk of holes with a few bytes here and there."""
    rnd = random.Random(size)
    with open(path, "wb") as f:
        f.truncate(size)
        for off in spots:
            f.seek(off)
            f.write(rnd.randbytes(8192))


def gzip_with_everything(src, dst):
    """RFC 1952: FTEXT, FHCRC, FEXTRA, FNAME and FCOMMENT, all at once."""
    data = open(src, "rb").read()
    head = b"\x1f\x8b\x08\x1f" + struct.pack("<IBB", 1, 0, 3)
    extra = b"XX" + struct.pack("<H", 300) + bytes(300)
    head += struct.pack("<H", len(extra)) + extra
    head += b"name.raw\0" + b"a comment " * 50 + b"\0"
    head += struct.pack("<H", zlib.crc32(head) & 0xffff)
    c = zlib.compressobj(6, zlib.DEFLATED, -15)
    with open(dst, "wb") as f:
        f.write(head + c.compress(data) + c.flush() +
                struct.pack("<II", zlib.crc32(data), len(data) & 0xffffffff))


def dictzip99(src, dst, chunk=1 << 18):
    """The 64-bit header of QEMU's dictzip driver: le16 99, le32 chunk length,
    le32 count, le64 size, le32 lengths; every chunk ends in a full flush."""
    data = open(src, "rb").read()
    c, chunks = zlib.compressobj(6, zlib.DEFLATED, -15), []
    for i in range(0, len(data), chunk):
        chunks.append(c.compress(data[i:i + chunk]) + c.flush(zlib.Z_FULL_FLUSH))
    ra = struct.pack("<HIIQ", 99, chunk, len(chunks), len(data))
    ra += b"".join(struct.pack("<I", len(x)) for x in chunks)
    extra = b"RA" + struct.pack("<H", len(ra)) + ra
    with open(dst, "wb") as f:
        f.write(b"\x1f\x8b\x08\x04" + bytes(4) + b"\0\3" +
                struct.pack("<H", len(extra)) + extra + b"".join(chunks) +
                c.flush() +
                struct.pack("<II", zlib.crc32(data), len(data) & 0xffffffff))


def python_tar(src, dst, form, name="disk.raw"):
    with tarfile.open(dst, "w", format=form) as t:
        t.add(src, arcname=name)
