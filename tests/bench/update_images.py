# SPDX-License-Identifier: Apache-2.0
"""Two versions of an ext4 image that differ as a package upgrade makes them differ.

v1 is a tree of this machine's files, by mke2fs -d.  An upgrade takes packages (a
folder and the first letters of a name) until 7 % of the bytes are in them.  What it does to a file: a program or library is
compiled anew (a word in each 512 bytes is another one) or has other code; of others
by turns one place changes so that all behind it moves, the contents are others, the
end grows.  One of sixteen goes, one of sixteen is new.  Then the new tree becomes

    inplace.img  v1 in which debugfs removes and writes those files
    rebuilt.img  mke2fs -d of the new tree, from nothing

Same tree, same choice, same bytes in each run on one machine (UUID, hash seed and
times are fixed, the order is that of CRC-32), but the change times of inodes, which
mke2fs takes from the tree: all inodes of a rebuilt image are others."""
import hashlib, os, random, shutil, subprocess, zlib

UUID = "6f1d7a52-0000-4000-8000-706c61747465"
FIXED = dict(os.environ, E2FSPROGS_FAKE_TIME="1760000000", SOURCE_DATE_EPOCH="1760000000",
             LC_ALL="C", PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
LEAF = 4096
SHARES = {"/usr/bin": 30, "/usr/lib/x86_64-linux-gnu": 35, "/usr/share": 20, "/usr/include": 7,
          "/usr/lib/python3": 5, "/usr/sbin": 3}  # per cent
UPGRADED = 0.07


def crc(text):
    return zlib.crc32(text.encode("utf-8", "surrogateescape"))


def choose(mib):
    """Paths of regular files that together take so much, in leaves."""
    out = []
    for folder, share in SHARES.items():
        left, found = mib * (1 << 20) * share // 100, []
        for root, dirs, files in os.walk(folder):
            dirs.sort()
            found += [os.path.join(root, f) for f in files]
        for path in sorted(found, key=lambda p: (crc(p), p)):
            if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > 24 << 20:
                continue
            left -= -(-os.path.getsize(path) // LEAF) * LEAF
            if left < 0:
                break
            out.append(path)
    return out


def upgrade(data, turn, rnd):
    if data[:4] == b"\x7fELF":
        kind = turn % 2
    else:
        kind = 1 + turn % 3
    if kind == 0:
        new = bytearray(data)
        for at in range(rnd.randrange(512), len(new) - 4, 512):
            new[at:at + 4] = rnd.randbytes(4)
        return bytes(new)
    if kind == 2:
        at = rnd.randrange(len(data) // 3 + 1)
        return data[:at] + rnd.randbytes(rnd.randrange(16, 3000)) + data[at:]
    if kind == 1:  # backwards: other code that compresses as the old did
        return rnd.randbytes(rnd.randrange(200)) + data[::-1]
    return data + rnd.randbytes(rnd.randrange(16, 9000))


def rewrite(root):
    """The tree becomes the new one; debugfs commands that do the same."""
    files, packages = [], {}
    for folder, dirs, names in os.walk(root):
        dirs.sort()
        files += [os.path.relpath(os.path.join(folder, n), root) for n in sorted(names)]
    for f in files:
        packages.setdefault(os.path.join(os.path.dirname(f), os.path.basename(f)[:4]), []).append(f)
    total = sum(os.path.getsize(f"{root}/{f}") for f in files)
    rnd, done, script = random.Random(20261121), 0, []
    for key in sorted(packages, key=lambda k: (crc(k), k)):
        for f in packages[key]:
            path, n = f"{root}/{f}", crc(f)
            if '"' in f or " " in f:
                continue
            with open(path, "rb") as old:
                data = old.read()
            done += len(data)
            script.append(f"rm /{f}")
            if n % 16 == 0:
                os.unlink(path)
                continue
            if n % 16 == 1:
                with open(path + ".1", "wb") as more:
                    more.write(upgrade(data, 1, rnd))
                os.chmod(path + ".1", 0o644)
                os.utime(path + ".1", (1770000000, 1770000000))
                script.append(f"write {path}.1 /{f}.1")
            with open(path, "wb") as new:
                new.write(upgrade(data, n // 16, rnd))
            os.utime(path, (1770000000, 1770000000))
            script.append(f"write {path} /{f}")
        if done > UPGRADED * total:
            return "\n".join(script) + "\n"
    return "\n".join(script) + "\n"


def mke2fs(root, image, mib):
    if os.path.exists(image):
        os.unlink(image)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-F", "-m", "1", "-U", UUID, "-E",
                    f"hash_seed={UUID},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
                    "-d", root, image, f"{mib}m"], check=True, env=FIXED, stdout=subprocess.DEVNULL)


def leaves(path):
    """The digest of each leaf."""
    with open(path, "rb") as f:
        return [hashlib.sha256(b.ljust(LEAF, b"\0")).digest() for b in iter(lambda: f.read(LEAF), b"")]


def difference(old, new):
    """Bytes in leaves of `new` that `old` has nowhere (each counted once), and that
    are other ones at the same place; zeros count as there."""
    a, b = leaves(old), leaves(new)
    have = set(a) | {hashlib.sha256(bytes(LEAF)).digest()}
    moved = sum(x != y for x, y in zip(a, b)) + max(0, len(b) - len(a))
    return len(set(b) - have) * LEAF, moved * LEAF


def make(folder, mib, data_mib):
    """v1.img, inplace.img, rebuilt.img of `mib` MiB in the folder, unless they are
    there."""
    if os.path.exists(folder + "/done"):
        return
    os.makedirs(folder, exist_ok=True)
    root = folder + "/root"
    shutil.rmtree(root, ignore_errors=True)
    for path in choose(data_mib):
        os.makedirs(root + os.path.dirname(path), exist_ok=True)
        shutil.copyfile(path, root + path)
        os.chmod(root + path, 0o755 if os.access(path, os.X_OK) else 0o644)
        os.utime(root + path, (1760000000, 1760000000))
    for at, _, _ in os.walk(root, topdown=False):
        os.utime(at, (1760000000, 1760000000))
    mke2fs(root, folder + "/v1.img", mib)
    script = rewrite(root)
    for at, _, _ in os.walk(root, topdown=False):
        os.utime(at, (1770000000, 1770000000))
    mke2fs(root, folder + "/rebuilt.img", mib)
    shutil.copyfile(folder + "/v1.img", folder + "/inplace.img")
    subprocess.run(["debugfs", "-w", "-f", "-", folder + "/inplace.img"], input=script.encode(),
                   check=True, capture_output=True, env=FIXED)
    # debugfs says yes to much: what it has made must be sound, and hold the new tree.
    subprocess.run(["e2fsck", "-fn", folder + "/inplace.img"], check=True, capture_output=True, env=FIXED)
    last = [line.split() for line in script.splitlines() if line.startswith("write ")][-1]
    got = subprocess.run(["debugfs", "-R", f"cat {last[2]}", folder + "/inplace.img"], check=True,
                         capture_output=True, env=FIXED).stdout
    with open(last[1], "rb") as f:
        assert got == f.read(), last
    shutil.rmtree(root)
    open(folder + "/done", "w").close()
